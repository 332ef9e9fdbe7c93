//! How the server is connected: its Message Transfer Protocols.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Mtp, Timestamp};

/// The server's MTPs that are in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MtpList {
    /// One entry each.
    pub mtps: Vec<MtpStatus>,
}

/// How an MTP fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MtpStatus {
    /// Which.
    pub mtp: Mtp,
    /// Where devices connect, and the connections that the server makes itself.
    pub links: Vec<MtpLink>,
    /// Devices connected over it now; absent for CoAP, which has no connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<u64>,
    /// USP Records received, since the server was started.
    pub records_in: u64,
    /// USP Records sent.
    pub records_out: u64,
    /// USP Records that could not be sent.
    pub records_failed: u64,
    /// What came and was no valid Record.
    pub erroneous: u64,
    /// Records turned away because they are in the name of another Endpoint than the channel proves, or came through a broker
    /// that is not a Trusted Broker.
    pub forged: u64,
}

/// An address that the server listens at, or a connection that it makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MtpLink {
    /// Its name in the configuration: of a broker its name, of an agent its Endpoint ID.
    pub name: String,
    /// Where: a URI, or host and port of a broker.
    pub address: String,
    /// DTLS or TLS.
    pub secure: bool,
    /// How it stands.
    pub state: LinkState,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Attempts that failed since it was last up.
    #[serde(default)]
    pub failures: u32,
    /// Why it is not up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Where devices reach the server at a broker: topic or destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached_at: Option<String>,
}

/// How a link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Being made.
    Connecting,
    /// Failed or ended; tried again soon.
    Error,
    /// Devices can connect there.
    Listening,
    /// Connected.
    Up,
}

impl LinkState {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Error => "error",
            Self::Listening => "listening",
            Self::Up => "up",
        }
    }
}

impl std::fmt::Display for LinkState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}
