//! USP over MQTT 5.0 and 3.1.1 (R-MQTT.1 to R-MQTT.49): clients of brokers, shared by agent and server.
//!
//! | module | holds |
//! |---|---|
//! | `settings` | what a client is told: [`MqttClient`] |
//! | `client` | one configured client: it connects, and connects again |
//! | `connection` | one connection, from CONNECT to DISCONNECT |
//! | `flow` | packet identifiers and what is not acknowledged, without I/O |
//! | `packet` | the packets of both versions, over the codec of `rumqttc` |
//!
//! What USP asks of the packets is [`homefleet_usp::mtp::mqtt`]'s. The library's own network loop takes no stream of ours, and
//! so is not used: TLS and the decision about the broker are [`tls`](crate::tls)'s, as for every MTP.
//!
//! - A PUBLISH is acknowledged when its Record is in the owner's queue. While that is full, nothing is read.
//! - `send` is done with the broker's PUBACK or PUBCOMP, with QoS 0 when the packet has left. Records that wait are bounded in
//!   number and bytes.
//! - A broker that is not a Trusted Broker (R-SEC.4a) vouches for nobody: Records over it are only taken from the Endpoint that
//!   its certificate names, unless `allow_untrusted_broker` says otherwise.
//! - What a session that outlives its connection has not acknowledged is sent again (MQTT 5.0 §4.4), though who waited was
//!   told [`SendError::Lost`]. It does not outlive the process: USP's own repetition does.

mod client;
mod connection;
mod counters;
mod dial;
mod flow;
mod packet;
mod settings;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use homefleet_usp::EndpointId;
use homefleet_usp::record::MAX_RECORD;
use tokio::sync::mpsc;

use self::client::Handle;
use super::{Event, Greeter, Route, SendError, Status};
use crate::tls::Tls;

pub use self::counters::{MqttStats, MqttTimes};
pub use self::settings::{LastWill, MqttClient};

/// What the largest packet has besides the Record: topics and properties.
const AROUND_RECORD: usize = 262_144;

/// What all clients of an MTP have in common.
#[derive(Clone)]
pub struct MqttMtpConfig {
    /// Our Endpoint ID.
    pub endpoint_id: EndpointId,
    /// Where everything that happens goes.
    pub events: mpsc::Sender<Event>,
    /// What is sent over a channel before anything else may pass.
    pub greeter: Arc<dyn Greeter>,
    /// Our certificate, and who decides about brokers; without it there are only plain connections.
    pub tls: Option<Tls>,
    /// Whether connections without TLS are made (R-MTP.0). For closed networks and tests.
    pub allow_plain: bool,
    /// Whether Records are taken from a broker that is not trusted to vouch for their senders (R-SEC.4a). For closed networks
    /// and tests.
    pub allow_untrusted_broker: bool,
    /// The largest Record taken and sent, in bytes.
    pub max_record: usize,
    /// PUBLISH of QoS 1 and 2 that a broker may have on their way to us, unless a client's settings say otherwise.
    pub receive_maximum: u16,
    /// How long it may take to be connected, and then to be subscribed.
    pub connect_time: Duration,
    /// How long a broker may take to answer PINGREQ, to acknowledge anything, or to take anything.
    pub answer_time: Duration,
}

impl MqttMtpConfig {
    /// With the usual bounds, and neither plain connections nor untrusted brokers.
    pub fn new(
        endpoint_id: EndpointId,
        events: mpsc::Sender<Event>,
        greeter: Arc<dyn Greeter>,
    ) -> Self {
        Self {
            endpoint_id,
            events,
            greeter,
            tls: None,
            allow_plain: false,
            allow_untrusted_broker: false,
            max_record: MAX_RECORD,
            receive_maximum: 64,
            connect_time: Duration::from_secs(30),
            answer_time: Duration::from_secs(30),
        }
    }
}

/// The same, shared by the tasks.
type Context = MqttMtpConfig;

impl MqttMtpConfig {
    fn maximum_packet_size(&self) -> usize {
        self.max_record.saturating_add(AROUND_RECORD)
    }
}

/// How a client stands: `Device.MQTT.Client.{i}.`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttStatus {
    /// `Status`
    pub status: Status,
    /// `ClientID`: configured, assigned, or our Endpoint ID; known once a broker has taken us.
    pub client_id: Option<String>,
    /// `ResponseInformation`, which is `ResponseTopicDiscovered` too.
    pub response_information: Option<String>,
    /// Where we are reached, while it is up (R-MQTT.36).
    pub reply_to: Option<String>,
    /// The configured Topic Filters and how each stands.
    pub subscriptions: Vec<(String, SubscriptionStatus)>,
    /// `Stats.`
    pub stats: MqttStats,
    /// The times in `Stats.`
    pub times: MqttTimes,
}

/// `Device.MQTT.Client.{i}.Subscription.{i}.Status`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionStatus {
    /// There is no connection.
    Unsubscribed,
    /// The broker granted it.
    Subscribed,
    /// The broker refused it, or has not answered yet.
    Error,
}

/// USP over MQTT. Clones share it. The clients end with [`shutdown`](Self::shutdown), or when the last clone is dropped.
#[derive(Clone)]
pub struct MqttMtp {
    shared: Arc<Shared>,
}

struct Shared {
    context: Arc<Context>,
    clients: Mutex<BTreeMap<String, Arc<Handle>>>,
    /// What clients that are closed have counted.
    past: Mutex<MqttStats>,
}

impl MqttMtp {
    /// Without any client yet.
    pub fn new(config: MqttMtpConfig) -> Self {
        Self {
            shared: Arc::new(Shared {
                context: Arc::new(config),
                clients: Mutex::default(),
                past: Mutex::default(),
            }),
        }
    }

    fn clients(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Handle>>> {
        let clients = self.shared.clients.lock();
        clients.unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self, name: &str) -> Option<Arc<Handle>> {
        self.clients().get(name).cloned()
    }

    /// Keeps this client connected from now on. With the name of one that there is already, that one goes on with these
    /// settings: other Topics are subscribed to and unsubscribed from over its connection (R-MQTT.34), for anything else it
    /// connects anew.
    pub fn open(&self, name: &str, settings: MqttClient) {
        let mut clients = self.clients();
        match clients.get(name) {
            Some(handle) => handle.change(settings),
            None => {
                let handle = Handle::new(name, &self.shared.context, settings);
                clients.insert(name.to_owned(), Arc::new(handle));
            }
        }
    }

    /// Disconnects this client (R-MQTT.35), and forgets it.
    pub async fn close(&self, name: &str) {
        let handle = self.clients().remove(name);
        if let Some(handle) = handle {
            handle.close().await;
            let mut past = self.shared.past.lock();
            let past = past.as_deref_mut();
            if let Ok(past) = past {
                *past += handle.client.counters.read();
            }
        }
    }

    /// How a client stands; `None` when there is none of this name.
    pub fn status(&self, name: &str) -> Option<MqttStatus> {
        self.client(name).map(|handle| handle.status())
    }

    /// Publishes an encoded Record for `endpoint_id` to a topic (R-MQTT.18): done when the broker has acknowledged it, and with
    /// QoS 0 when it has left.
    ///
    /// # Errors
    /// [`SendError`]; after [`SendError::Lost`] it is open whether it arrived.
    pub async fn send(
        &self,
        to: &Route,
        endpoint_id: &EndpointId,
        record: Vec<u8>,
    ) -> Result<(), SendError> {
        let Route::Mqtt { connection, topic } = to else {
            return Err(SendError::NoMtp);
        };
        let handle = self.client(connection).ok_or(SendError::NotConnected)?;
        let outcome = handle.send(topic.clone(), endpoint_id.clone(), record)?;
        outcome.await.unwrap_or(Err(SendError::Lost))
    }

    /// The counters of all clients there are and were.
    pub fn stats(&self) -> MqttStats {
        let past = self.shared.past.lock();
        let mut stats = *past.unwrap_or_else(PoisonError::into_inner);
        for handle in self.clients().values() {
            stats += handle.client.counters.read();
        }
        stats
    }

    /// The names of the clients, in order, and how each stands.
    pub fn statuses(&self) -> Vec<(String, MqttStatus)> {
        self.clients()
            .iter()
            .map(|(name, handle)| (name.clone(), handle.status()))
            .collect()
    }

    /// Has the decision about every broker made anew, see [`Tls::judge_again`].
    pub async fn judge_again(&self) {
        if let Some(tls) = &self.shared.context.tls {
            tls.judge_again().await;
        }
    }

    /// Disconnects every client (R-MQTT.35).
    pub async fn shutdown(&self) {
        let names: Vec<String> = self.clients().keys().cloned().collect();
        for name in names {
            self.close(&name).await;
        }
    }
}

impl fmt::Debug for MqttMtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MqttMtp")
            .field("clients", &self.clients().keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
