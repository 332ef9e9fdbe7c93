//! USP over STOMP 1.2 (R-STOMP.2 to R-STOMP.30), shared by agent and server: both are clients of a broker.
//!
//! ```text
//! open() ──> connecting ──CONNECTED, SUBSCRIBE──> subscribing ──RECEIPT──> up: greeting, Event::Up ──> Records
//!                ▲                                                                 │
//!                └──── after the wait of R-STOMP.7 ◀── ERROR, missed heart-beat, end of the connection
//! ```
//!
//! Each connection is one task, which owns its socket. Several connections stand beside each other, each with its own name
//! in our configuration, destination, login and retry parameters.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use homefleet_usp::EndpointId;
use homefleet_usp::mtp::retry::RetryPolicy;
use homefleet_usp::mtp::stomp::{HeartBeat, Login, Senders};
use homefleet_usp::record::MAX_RECORD;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::{Event, Greeter, NoGreeting, Route, SendError, Status};
use crate::tls::Tls;

mod link;
mod stats;
mod task;

pub use self::stats::StompStats;

/// Sends that wait for a connection's task; beyond, [`SendError::Busy`].
const SENDS: usize = 256;
/// How long a Record may wait for the broker to take it.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// What all STOMP connections of this Endpoint share.
#[derive(Clone)]
pub struct StompMtpConfig {
    /// Our Endpoint ID (R-STOMP.4).
    pub endpoint_id: EndpointId,
    /// Where what happens goes. While it has no room nothing is read, so that the broker keeps what is for us.
    pub events: mpsc::Sender<Event>,
    /// Says what is sent first over a connection (R-MTP.6).
    pub greeter: Arc<dyn Greeter>,
    /// Our credentials for TLS, and who decides about brokers. Without, connections are made without TLS or not at all.
    pub tls: Option<Tls>,
    /// Whether connections without TLS are made where [`StompConnection::encryption`] is off. For closed networks and
    /// tests: anybody on the way reads and writes everything then (R-MTP.0).
    pub allow_plain: bool,
    /// Whether Records are believed that come over TLS through a broker that is no Trusted Broker (R-SEC.26). For closed
    /// networks and tests: whoever may publish at the broker is anybody it likes then.
    pub allow_untrusted_broker: bool,
    /// The largest Record, in bytes; larger ones are told as erroneous, and not kept. At most [`MAX_RECORD`].
    pub max_record: usize,
    /// How many bytes of Records may wait to be written to one broker; beyond, [`SendError::Busy`].
    pub max_queued: usize,
}

impl StompMtpConfig {
    /// TLS and a Trusted Broker are asked for, and nobody is greeted; bounds are those of the session's defaults.
    pub fn new(endpoint_id: EndpointId, events: mpsc::Sender<Event>, tls: Option<Tls>) -> Self {
        Self {
            endpoint_id,
            events,
            greeter: Arc::new(NoGreeting),
            tls,
            allow_plain: false,
            allow_untrusted_broker: false,
            max_record: MAX_RECORD,
            max_queued: 2 * MAX_RECORD,
        }
    }
}

/// One connection to a broker, as `Device.STOMP.Connection.{i}.` has it, and the destination of ours there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StompConnection {
    /// Host name or address.
    pub host: String,
    /// TCP port; 61613 by default in the data model.
    pub port: u16,
    /// TLS (`EnableEncryption`). Without, the connection is only made where plain ones are allowed.
    pub encryption: bool,
    /// `VirtualHost`; `None` for the broker's default one (R-STOMP.5).
    pub virtual_host: Option<String>,
    /// How the broker knows who connects (R-STOMP.3).
    pub login: Login,
    /// Heart-beats; `None` when `EnableHeartbeats` is false. A change counts from the next connection on.
    pub heart_beat: Option<HeartBeat>,
    /// Where we are reached; `None` when the broker tells by `subscribe-dest`. A change moves the subscription of an open
    /// connection (R-STOMP.29).
    pub destination: Option<String>,
    /// Where each Endpoint sends what is for us, when that is not the destination that we subscribe to: it is told this
    /// destination to answer to, and believed only over it. With a broker that lets each Endpoint write to its own
    /// destination only, nobody speaks as another then (R-SEC.4c).
    pub senders: Option<Senders>,
    /// When a connection that failed or ended is tried again (R-STOMP.7).
    pub retry: RetryPolicy,
}

impl StompConnection {
    /// A connection over TLS with the data model's defaults: port 61613, no heart-beats, no virtual host, no destination.
    pub fn new(host: impl Into<String>, login: Login) -> Self {
        Self {
            host: host.into(),
            port: 61613,
            encryption: true,
            virtual_host: None,
            login,
            heart_beat: None,
            destination: None,
            senders: None,
            retry: RetryPolicy::stomp(60, 2000, 30_720),
        }
    }

    /// Whether an open connection made for `self` has to be made anew for `other`.
    fn needs_reconnect(&self, other: &Self) -> bool {
        let address = |spec: &Self| {
            (
                spec.host.clone(),
                spec.port,
                spec.encryption,
                spec.virtual_host.clone(),
            )
        };
        address(self) != address(other)
            || self.login != other.login
            || self.senders != other.senders
    }
}

/// Where we are reached at a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The destination.
    pub destination: String,
    /// Whether the broker told it (`subscribe-dest`, `DestinationFromServer`).
    pub from_server: bool,
}

/// USP over STOMP. Clones share it.
#[derive(Clone)]
pub struct StompMtp {
    shared: Arc<Shared>,
    connections: Arc<Mutex<HashMap<String, Connection>>>,
}

/// What every connection's task has.
struct Shared {
    config: StompMtpConfig,
    counters: stats::Counters,
}

/// A connection as seen from outside its task.
struct Connection {
    wanted: watch::Sender<Wanted>,
    sends: mpsc::Sender<Sending>,
    shown: Arc<Mutex<Shown>>,
    task: JoinHandle<()>,
}

/// What the task is to do.
#[derive(Clone)]
struct Wanted {
    spec: StompConnection,
    closing: bool,
}

/// What the task shows.
struct Shown {
    status: Status,
    subscription: Option<Subscription>,
}

/// A Record on its way to the task.
struct Sending {
    destination: String,
    endpoint_id: EndpointId,
    record: Vec<u8>,
    done: oneshot::Sender<Result<(), SendError>>,
}

impl StompMtp {
    /// An MTP without connections. Within a tokio runtime.
    pub fn new(config: StompMtpConfig) -> Self {
        Self {
            shared: Arc::new(Shared {
                config,
                counters: stats::Counters::default(),
            }),
            connections: Arc::default(),
        }
    }

    /// Keeps this connection open from now on: makes it, and makes it again when it ends. The same name again with other
    /// settings changes the connection, which is made anew only where that takes it.
    pub fn open(&self, name: &str, spec: StompConnection) {
        let mut connections = lock(&self.connections);
        if let Some(connection) = connections.get(name) {
            connection.wanted.send_if_modified(|wanted| {
                let changed = wanted.spec != spec;
                wanted.spec = spec;
                changed
            });
            return;
        }
        let (wanted, watched) = watch::channel(Wanted {
            spec,
            closing: false,
        });
        let (sends, receiver) = mpsc::channel(SENDS);
        let shown = Arc::new(Mutex::new(Shown {
            status: Status::connecting(),
            subscription: None,
        }));
        let task = task::Task::new(
            name.to_owned(),
            self.shared.clone(),
            watched,
            receiver,
            shown.clone(),
        );
        let connection = Connection {
            wanted,
            sends,
            shown,
            task: tokio::spawn(task.run()),
        };
        connections.insert(name.to_owned(), connection);
    }

    /// Ends this connection in order (DISCONNECT, R-STOMP.28), and does not make it again. Returns when it has ended.
    pub async fn close(&self, name: &str) {
        let connection = lock(&self.connections).remove(name);
        if let Some(connection) = connection {
            connection.close().await;
        }
    }

    /// How a connection stands; `None` when there is none of this name.
    pub fn status(&self, name: &str) -> Option<Status> {
        lock(&self.connections)
            .get(name)
            .map(|connection| lock(&connection.shown).status.clone())
    }

    /// Where we are reached over a connection; `None` while it is not up.
    pub fn subscription(&self, name: &str) -> Option<Subscription> {
        lock(&self.connections)
            .get(name)
            .and_then(|connection| lock(&connection.shown).subscription.clone())
    }

    /// Sends one encoded Record to a destination, and waits until the broker has acknowledged it; until it is written, with a
    /// broker that sends no receipts.
    ///
    /// # Errors
    /// [`SendError`]. After [`SendError::Lost`] and [`SendError::Timeout`] it may have arrived.
    pub async fn send(
        &self,
        to: &Route,
        endpoint_id: &EndpointId,
        record: Vec<u8>,
    ) -> Result<(), SendError> {
        let result = self.try_send(to, endpoint_id, record).await;
        stats::count(match &result {
            Ok(()) => &self.shared.counters.records_out,
            Err(_) => &self.shared.counters.records_failed,
        });
        result
    }

    async fn try_send(
        &self,
        to: &Route,
        endpoint_id: &EndpointId,
        record: Vec<u8>,
    ) -> Result<(), SendError> {
        let Route::Stomp {
            connection,
            destination,
        } = to
        else {
            return Err(SendError::NoMtp);
        };
        if record.len() > self.shared.config.max_record {
            return Err(SendError::TooLarge);
        }
        let sends = lock(&self.connections)
            .get(connection)
            .map(|connection| connection.sends.clone())
            .ok_or(SendError::NotConnected)?;
        let (done, outcome) = oneshot::channel();
        let sending = Sending {
            destination: destination.clone(),
            endpoint_id: endpoint_id.clone(),
            record,
            done,
        };
        sends.try_send(sending).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::Busy,
            mpsc::error::TrySendError::Closed(_) => SendError::NotConnected,
        })?;
        tokio::time::timeout(SEND_TIMEOUT, outcome)
            .await
            .map_err(|_| SendError::Timeout)?
            .unwrap_or(Err(SendError::Lost))
    }

    /// The counters.
    pub fn stats(&self) -> StompStats {
        self.shared.counters.read()
    }

    /// Has the decision about every broker made anew, see [`Tls::judge_again`].
    pub async fn judge_again(&self) {
        if let Some(tls) = &self.shared.config.tls {
            tls.judge_again().await;
        }
    }

    /// Ends every connection in order.
    pub async fn shutdown(&self) {
        let connections: Vec<_> = lock(&self.connections).drain().collect();
        for (_, connection) in &connections {
            connection
                .wanted
                .send_modify(|wanted| wanted.closing = true);
        }
        for (_, connection) in connections {
            connection.close().await;
        }
    }
}

impl Connection {
    async fn close(self) {
        self.wanted.send_modify(|wanted| wanted.closing = true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the task of a STOMP connection did not end as it should");
        }
    }
}

impl fmt::Debug for StompMtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StompMtp")
            .field("connections", &lock(&self.connections).len())
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
