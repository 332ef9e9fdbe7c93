//! How the agent and its Controllers are reached: what the data model says, as plain values.
//!
//! A [`Plan`] is what the MTPs of this process are to do, read from `Device.LocalAgent.MTP.`, the Controllers' MTPs, `Device.STOMP.`,
//! `Device.MQTT.` and `Device.UnixDomainSockets.`. The engine makes one whenever these change; the runtime makes it so. A `Way` is
//! one row of a Controller's MTP table that can be used.

use std::collections::BTreeMap;

use homefleet_model::path::ObjectPath;
use homefleet_net::mtp::Route;

mod greetings;
mod read;
mod secret;

pub use self::{greetings::Greetings, secret::Secret};
pub(crate) use self::{
    greetings::{connect_record, leads_over, session_route},
    read::{MTPS, name, plan, ways},
};

/// What the MTPs are to do. Connections have the paths of their rows as names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// CoAP over DTLS.
    pub coaps: Option<CoapServer>,
    /// CoAP without security.
    pub coap: Option<CoapServer>,
    /// Where WebSocket connections are taken, by MTP row.
    pub websocket_servers: BTreeMap<String, WebSocketServer>,
    /// WebSocket connections that are kept open, by row of the Controller's MTP table.
    pub websocket: BTreeMap<String, WebSocketLink>,
    /// Connections to STOMP brokers, by row.
    pub stomp: BTreeMap<String, StompLink>,
    /// Connections to MQTT brokers, by row.
    pub mqtt: BTreeMap<String, MqttLink>,
    /// UNIX domain sockets, by row.
    pub uds: BTreeMap<String, UdsLink>,
}

/// A row of `Device.LocalAgent.MTP.` with CoAP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoapServer {
    /// UDP port.
    pub port: u16,
    /// Uri-Path.
    pub path: String,
}

/// A row of `Device.LocalAgent.MTP.` with WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketServer {
    /// TCP port.
    pub port: u16,
    /// Path of the resource, such as `/usp` (R-WS.2).
    pub path: String,
    /// TLS.
    pub secure: bool,
    /// `KeepAliveInterval`, seconds (R-WS.18).
    pub keep_alive: u32,
}

/// A row of a Controller's MTP table with WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketLink {
    /// The Endpoint that must be there.
    pub endpoint_id: String,
    /// Where it is.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path of the resource (R-WS.2).
    pub path: String,
    /// TLS.
    pub secure: bool,
    /// `KeepAliveInterval`, seconds (R-WS.18).
    pub keep_alive: u32,
    /// `SessionRetryMinimumWaitInterval`, seconds (R-WS.19).
    pub retry_wait: u32,
    /// `SessionRetryIntervalMultiplier`, thousandths (R-WS.19).
    pub retry_multiplier: u32,
}

/// A row of `Device.STOMP.Connection.` that an MTP uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StompLink {
    /// Where the broker is.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// TLS.
    pub secure: bool,
    /// `VirtualHost` (R-STOMP.5).
    pub virtual_host: Option<String>,
    /// `Username` and `Password` (R-STOMP.3).
    pub login: Option<(String, Secret)>,
    /// `OutgoingHeartbeat` and `IncomingHeartbeat`, milliseconds, when enabled (R-STOMP.8).
    pub heart_beat: Option<(u32, u32)>,
    /// `MTP.{i}.STOMP.Destination` (R-STOMP.15).
    pub destination: Option<String>,
    /// `ServerRetryInitialInterval`, seconds; `ServerRetryIntervalMultiplier`, thousandths; `ServerRetryMaxInterval`,
    /// seconds (R-STOMP.7).
    pub retry: (u32, u32, u32),
}

/// A row of `Device.MQTT.Client.` that an MTP uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttLink {
    /// Where the broker is.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// TLS.
    pub secure: bool,
    /// MQTT 5.0, not 3.1.1.
    pub version_5: bool,
    /// `ClientID` (R-MQTT.8).
    pub client_id: Option<String>,
    /// `Username` and `Password` (R-MQTT.7).
    pub login: Option<(String, Secret)>,
    /// `KeepAliveTime`, seconds (R-MQTT.14).
    pub keep_alive: u16,
    /// `CleanStart`, or `CleanSession` with MQTT 3.1.1.
    pub clean: bool,
    /// `SessionExpiryInterval`, seconds; MQTT 5.0 only.
    pub session_expiry: u32,
    /// The Last Will.
    pub will: Option<Will>,
    /// Enabled rows of `Subscription.`: Topic Filter and QoS.
    pub subscriptions: Vec<(String, u8)>,
    /// `MTP.{i}.MQTT.ResponseTopicConfigured`.
    pub response_topic: Option<String>,
    /// `MTP.{i}.MQTT.PublishQoS`.
    pub publish_qos: u8,
    /// `ConnectRetryTime`, seconds; `ConnectRetryIntervalMultiplier`, thousandths; `ConnectRetryMaxInterval`, seconds
    /// (R-MQTT.10).
    pub retry: (u32, u32, u32),
}

/// What an MQTT broker tells when the agent is gone without a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// `WillTopic`.
    pub topic: String,
    /// `WillValue`.
    pub value: String,
    /// `WillQoS`.
    pub qos: u8,
    /// `WillRetain`.
    pub retain: bool,
}

/// A row of `Device.UnixDomainSockets.UnixDomainSocket.` that an MTP uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdsLink {
    /// The socket's path.
    pub path: String,
    /// The agent listens; else it connects.
    pub listens: bool,
}

/// A row of a Controller's MTP table that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// The row.
    pub(crate) row: ObjectPath,
    /// Where it leads.
    pub(crate) route: Route,
    /// TLS or DTLS.
    pub(crate) secure: bool,
}

/// What has to stay as it is for a Controller to be heard the way it is heard now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lifeline {
    Coap(Option<CoapServer>),
    WebSocketServers(BTreeMap<String, WebSocketServer>),
    WebSocket(Option<WebSocketLink>),
    Stomp(Option<StompLink>),
    Mqtt(Option<MqttLink>),
    Uds(Option<UdsLink>),
    UdsServers(Vec<UdsLink>),
}

impl Plan {
    /// Whether what is sent this way is protected all along, as far as the plan tells: TLS, DTLS, or within the device.
    pub(crate) fn protects(&self, route: &Route) -> bool {
        match route {
            Route::Coap(uri) => uri.scheme == homefleet_coap::Scheme::Coaps,
            Route::WebSocket { secure } => *secure,
            Route::Stomp { connection, .. } => {
                self.stomp.get(connection).is_some_and(|link| link.secure)
            }
            Route::Mqtt { connection, .. } => {
                self.mqtt.get(connection).is_some_and(|link| link.secure)
            }
            Route::Uds => true,
        }
    }

    /// What has to stay for what comes in by this kind of way; `connection` is its name, if the agent opened it.
    pub(crate) fn lifeline(&self, route: &Route, connection: Option<&str>) -> Lifeline {
        let name = connection.unwrap_or_default();
        match route {
            Route::Coap(uri) => Lifeline::Coap(
                if uri.scheme == homefleet_coap::Scheme::Coaps {
                    &self.coaps
                } else {
                    &self.coap
                }
                .clone(),
            ),
            Route::WebSocket { .. } if connection.is_some() => {
                Lifeline::WebSocket(self.websocket.get(name).cloned())
            }
            Route::WebSocket { .. } => Lifeline::WebSocketServers(self.websocket_servers.clone()),
            Route::Stomp { connection, .. } => Lifeline::Stomp(self.stomp.get(connection).cloned()),
            Route::Mqtt { connection, .. } => Lifeline::Mqtt(self.mqtt.get(connection).cloned()),
            Route::Uds if connection.is_some() => Lifeline::Uds(self.uds.get(name).cloned()),
            Route::Uds => Lifeline::UdsServers(
                self.uds
                    .values()
                    .filter(|link| link.listens)
                    .cloned()
                    .collect(),
            ),
        }
    }
}
