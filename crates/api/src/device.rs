//! What is known of a device.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// One line of the list of devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceSummary {
    /// Endpoint ID, for example `os::00D09E-12345` (TR-369 "Endpoint Identifier").
    pub id: String,
    /// Name an operator gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Manufacturer's OUI, six hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oui: Option<String>,
    /// Product class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_class: Option<String>,
    /// Serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
    /// Manufacturer as the device states it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// Model name as the device states it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_name: Option<String>,
    /// Software version as the device states it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software_version: Option<String>,
    /// Whether it can be spoken to, as far as is known *now*.
    pub reachability: Reachability,
    /// MTP of the last message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtp: Option<Mtp>,
    /// Where answers to the last message go: a CoAP URI, `wss:` for the WebSocket session there is,
    /// `stomp:NAME/destination` and `mqtt:NAME/topic` at a broker, `uds:` for a UNIX domain socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// When it was first heard.
    pub first_contact: Timestamp,
    /// When it was last heard.
    pub last_contact: Timestamp,
    /// Tasks not yet finished (queued or sent).
    pub open_tasks: u32,
}

/// A Message Transfer Protocol.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Mtp {
    /// CoAP over UDP.
    Coap,
    /// MQTT.
    Mqtt,
    /// STOMP.
    Stomp,
    /// UNIX domain socket.
    Uds,
    /// WebSocket.
    Websocket,
}

impl Mtp {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Coap => "coap",
            Self::Mqtt => "mqtt",
            Self::Stomp => "stomp",
            Self::Uds => "uds",
            Self::Websocket => "websocket",
        }
    }

    /// The name for a person.
    pub fn name(self) -> &'static str {
        match self {
            Self::Coap => "CoAP",
            Self::Mqtt => "MQTT",
            Self::Stomp => "STOMP",
            Self::Uds => "UNIX domain socket",
            Self::Websocket => "WebSocket",
        }
    }
}

impl std::fmt::Display for Mtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whether a device can be spoken to. A device is never called reachable only because it once was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reachability {
    /// It was heard within the configured time and nothing sent to it failed since.
    Reachable,
    /// The last attempt to send to it failed and it was not heard since.
    Unreachable,
    /// It was silent for longer than the configured time; nobody tried since.
    Unknown,
}

impl Reachability {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reachable => "reachable",
            Self::Unreachable => "unreachable",
            Self::Unknown => "unknown",
        }
    }
}

impl std::fmt::Display for Reachability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Everything the registry knows of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    /// The line of the list.
    #[serde(flatten)]
    pub summary: DeviceSummary,
    /// Addresses it can be reached at, the newest first.
    pub addresses: Vec<Address>,
    /// Sessions with it, and brokers at which it is, at this moment. CoAP has no connections.
    pub connections: Vec<Connection>,
    /// Of a device that speaks TR-069.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwmp: Option<Cwmp>,
    /// Certificate that its identity is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// Certificate of the Trusted Broker that vouched for it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<Certificate>,
    /// USP versions its Agent supports, as stated in OnBoardRequest or GetSupportedProtocol.
    pub protocol_versions: Vec<String>,
    /// Subscriptions the server keeps on it.
    pub subscriptions: Vec<Subscription>,
    /// How many parameters are stored.
    pub parameter_count: u64,
    /// When an attempt to send last failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Timestamp>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure_reason: Option<String>,
}

/// Where a device can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Address {
    /// As in `address` of the device, for example `coaps://192.0.2.7:5684/usp` (R-COAP.2).
    pub uri: String,
    /// Whether messages to it are protected by DTLS or TLS, and a certificate of the device or of a Trusted Broker stood for
    /// the device there.
    pub secure: bool,
    /// When it was last stated by the device.
    pub seen: Timestamp,
}

/// A session with a device, or a broker at which it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    /// MTP.
    pub mtp: Mtp,
    /// Name of the server's connection to the broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<String>,
    /// Since when the device is there.
    pub since: Timestamp,
}

/// Certificate a device presented.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Certificate {
    /// SHA-256 of the DER certificate, 64 hexadecimal digits.
    pub fingerprint: String,
    /// Subject as text.
    pub subject: String,
    /// End of validity.
    pub not_after: Timestamp,
    /// When it was first presented.
    pub first_seen: Timestamp,
}

/// A subscription the server wants on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Subscription {
    /// Subscription ID (`Device.LocalAgent.Subscription.{i}.ID`).
    pub id: String,
    /// NotifType: `ValueChange`, `Event`, `OperationComplete` and so on.
    pub notification: String,
    /// ReferenceList: the paths it watches.
    pub paths: Vec<String>,
    /// Whether the device has it.
    pub state: SubscriptionState,
    /// Instance on the device, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Why it was refused, when it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Whether a device has a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionState {
    /// Not yet confirmed by the device.
    Wanted,
    /// The device confirmed it.
    Active,
    /// The device refused it.
    Refused,
}

/// Last known value of one parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Parameter {
    /// Full path with instance numbers, for example `Device.DeviceInfo.UpTime`.
    pub path: String,
    /// Value as text (TR-106 form).
    pub value: String,
    /// When the device last stated this value.
    pub seen: Timestamp,
}

/// A page of devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DevicePage {
    /// Devices in the order of their Endpoint ID.
    pub devices: Vec<DeviceSummary>,
    /// Value for `after` to fetch the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A page of last known values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ParameterPage {
    /// Parameters in the order of their path (instance numbers compare as numbers).
    pub parameters: Vec<Parameter>,
    /// Value for `after` to fetch the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What an operator may change about a device in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DevicePatch {
    /// New label; an empty text removes it. At most 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Whether a device that speaks TR-069 is managed; `false` puts it into quarantine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admitted: Option<bool>,
}

/// What is known of a device that speaks TR-069 (CWMP).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cwmp {
    /// Whether it is managed; else it is in quarantine until an operator admits it.
    pub admitted: bool,
    /// What its data model begins with: `Device.` or `InternetGatewayDevice.`.
    pub root: String,
    /// The version of its last session, such as `1.4`.
    pub version: String,
    /// Why its last session was, for example `2 PERIODIC`.
    pub events: Vec<String>,
    /// Where it takes Connection Requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_request_url: Option<String>,
    /// Whether it found address translation on its way (NATDetected); absent when it did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat_detected: Option<bool>,
    /// Where it says that it takes UDP Connection Requests (UDPConnectionRequestAddress).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp_connection_request_address: Option<String>,
    /// Where the STUN server saw it listening.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,
}

/// A binding at which a device takes UDP Connection Requests, learned by STUN and proven by the device's password
/// (TR-111 Part 2 §2.2.2.2.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Binding {
    /// The device's address and port as the server sees them.
    pub address: String,
    /// The server's own address that it sends to, and that requests to it leave from.
    pub local: String,
    /// Since when it is this one.
    pub since: Timestamp,
    /// When the device last proved it.
    pub seen: Timestamp,
}
