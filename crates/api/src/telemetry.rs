//! Telemetry that devices stream (UDP-notif): time series of a device, and how receiver, publishers and outputs fare.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// The time series of a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SeriesList {
    /// In the order of their paths.
    pub series: Vec<Series>,
}

/// A time series: one number in the device's data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Series {
    /// Where in the data, for example `ietf-interfaces:interfaces/interface=eth0/statistics/in-octets`.
    pub path: String,
    /// Time of the first point that is kept.
    pub first: Timestamp,
    /// Time of the last point.
    pub last: Timestamp,
    /// Its value.
    pub value: f64,
}

/// A stretch of a time series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SeriesPoints {
    /// Path of the series.
    pub path: String,
    /// Begin of the stretch.
    pub from: Timestamp,
    /// End of the stretch, which is not in it.
    pub to: Timestamp,
    /// Seconds that one point stands for.
    pub step: f64,
    /// In the order of time; stretches without values are left out.
    pub points: Vec<SeriesPoint>,
}

/// What a series was within one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SeriesPoint {
    /// Begin of the step.
    pub time: Timestamp,
    /// Values in it.
    pub count: u64,
    /// Smallest.
    pub least: f64,
    /// Mean.
    pub mean: f64,
    /// Largest.
    pub most: f64,
    /// Last.
    pub last: f64,
}

/// How telemetry fares, since the server was started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Telemetry {
    /// The sockets.
    pub sockets: Vec<TelemetrySocket>,
    /// Datagrams and DTLS records taken.
    pub datagrams: u64,
    /// Messages handed on by the receiver.
    pub received: u64,
    /// Messages that publishers sent and that did not arrive.
    pub lost: u64,
    /// What was refused before it was a message, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Messages dropped because the server did not keep up.
    pub queue_dropped: u64,
    /// Messages dropped because their publisher is tied to no device.
    pub unknown_refused: u64,
    /// Messages handed on without a device.
    pub unknown_kept: u64,
    /// Messages without an envelope that can be read, by reason; they are handed on all the same.
    pub envelope_errors: BTreeMap<String, u64>,
    /// DTLS sessions now.
    pub sessions: u64,
    /// Publishers, those heard last first; at most 1000.
    pub publishers: Vec<Publisher>,
    /// Publishers known.
    pub publisher_count: u64,
    /// Outputs in the order of the configuration.
    pub outputs: Vec<TelemetryOutput>,
    /// What is kept of numbers; absent when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<SeriesStatus>,
}

/// A socket of the receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TelemetrySocket {
    /// Address.
    pub address: String,
    /// DTLS.
    pub secure: bool,
    /// Datagrams taken.
    pub datagrams: u64,
    /// Datagrams that the kernel dropped because the socket's buffer was full.
    pub kernel_drops: u64,
    /// Receive buffer granted, in bytes.
    pub receive_buffer: u64,
}

/// A publisher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Publisher {
    /// Endpoint ID of the device that it is tied to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Where it sends from.
    pub address: String,
    /// Message Publisher ID.
    pub publisher_id: u32,
    /// Whether a certificate says who it is.
    pub secure: bool,
    /// Generation of the protocol, for example `draft-26`.
    pub generation: String,
    /// Encoding of its last message.
    pub media_type: String,
    /// Whether gaps in its Message IDs are losses: in the drafts from -09 on.
    pub counts_loss: bool,
    /// First heard.
    pub first_heard: Timestamp,
    /// Last heard.
    pub last_heard: Timestamp,
    /// Messages received.
    pub received: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Message IDs that never came.
    pub lost: u64,
    /// Messages that came twice.
    pub duplicate: u64,
    /// Messages that came after later ones.
    pub reordered: u64,
    /// Messages refused.
    pub refused: u64,
    /// Messages of which segments did not come.
    pub incomplete: u64,
    /// Messages whose ID is far from the others.
    pub out_of_window: u64,
    /// Times that it began to count anew.
    pub restarted: u64,
}

/// An output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TelemetryOutput {
    /// Name.
    pub name: String,
    /// Kind, for example `kafka`.
    pub kind: String,
    /// Where it goes.
    pub destination: String,
    /// How it stands.
    pub health: OutputHealth,
    /// Since when.
    pub since: Timestamp,
    /// Why it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Messages offered to it: the sum of the following five.
    pub offered: u64,
    /// Messages delivered.
    pub delivered: u64,
    /// Messages that its peer will never take.
    pub refused: u64,
    /// Messages dropped because its queue was full.
    pub dropped: u64,
    /// Messages given up when the server stopped.
    pub abandoned: u64,
    /// Messages that wait.
    pub waiting: u64,
    /// Most messages that may wait.
    pub capacity: u64,
    /// Attempts that failed.
    pub failures: u64,
}

/// How an output stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputHealth {
    /// Nothing was delivered yet.
    Idle,
    /// What was last given was delivered.
    Up,
    /// The last attempt failed; it is tried again.
    Failing,
}

impl OutputHealth {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Up => "up",
            Self::Failing => "failing",
        }
    }
}

/// What is kept of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SeriesStatus {
    /// Series kept.
    pub series: u64,
    /// Points kept.
    pub points: u64,
    /// Points written.
    pub written: u64,
    /// Points dropped because writing did not keep up.
    pub dropped: u64,
    /// Points not kept because their device has its full number of series.
    pub refused: u64,
    /// Numbers of messages that were left out: too many, too deep, a path too long.
    pub left_out: u64,
}
