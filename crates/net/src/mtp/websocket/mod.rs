//! USP over WebSocket (TR-369 "WebSocket Binding", R-WS.1 to R-WS.24), shared by agent and server.
//!
//! | module | what |
//! |---|---|
//! | `accept` | the server's side of the opening handshake |
//! | `client` | sessions that we open, and open again |
//! | `config` | what the binding is told |
//! | `forwarded` | the certificate that a proxy hands on |
//! | `gate` | how many connections peers may hold |
//! | `peers` | the one session with each Endpoint |
//! | `server` | sessions that peers open |
//! | `session` | a session on its connection |
//! | `stats` | counters |
//! | `wire` | messages in and out |
//!
//! Frames are `tungstenite`'s; what stands in them, and when a session ends with which code, is decided in
//! [`homefleet_usp::mtp::websocket`]. A Record is taken when its `from_id` is the Endpoint of the session, and, with TLS, when the
//! certificate is that Endpoint's (R-SEC.0a).
//!
//! Without TLS everybody may say to be any Endpoint, and so take the place of its session: that is for closed networks. A session
//! whose Endpoint has proved who it is never gives way to one without TLS.

mod accept;
mod client;
mod config;
mod forwarded;
mod gate;
mod peers;
mod server;
mod session;
mod stats;
mod wire;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use homefleet_usp::EndpointId;
use homefleet_usp::mtp::websocket::CloseReason;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Route, SendError, Status};

use self::client::Report;
use self::gate::Gate;
use self::peers::Peers;
use self::stats::{Counters, count};

pub use self::config::{Limits, WebSocketConnection, WebSocketListener, WebSocketMtpConfig};
pub use self::stats::WebSocketStats;

/// What every session and listener needs.
struct Shared {
    config: WebSocketMtpConfig,
    counters: Counters,
    peers: Arc<Peers>,
    gate: Arc<Gate>,
    /// Becomes true, or loses its sender, when the MTP is shut down.
    stop: watch::Receiver<bool>,
}

/// A connection that is kept open.
struct Kept {
    settings: watch::Sender<Option<WebSocketConnection>>,
    report: Arc<Report>,
    task: JoinHandle<()>,
}

/// An address that is listened at.
struct Listening {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

struct Inner {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    kept: Mutex<HashMap<String, Kept>>,
    listening: Mutex<HashMap<String, Listening>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.peers.end_all(&CloseReason::GoingAway);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// USP over WebSocket on real sockets. Clones share it; with the last of them everything ends.
#[derive(Clone)]
pub struct WebSocketMtp {
    inner: Arc<Inner>,
}

impl WebSocketMtp {
    /// Opens and accepts nothing yet. Has to be called within a tokio runtime.
    pub fn new(config: WebSocketMtpConfig) -> Self {
        let (stop, stopped) = watch::channel(false);
        let shared = Shared {
            counters: Counters::default(),
            peers: Arc::default(),
            gate: Gate::new(config.limits.clone()),
            stop: stopped,
            config,
        };
        Self {
            inner: Arc::new(Inner {
                shared: Arc::new(shared),
                stop,
                kept: Mutex::default(),
                listening: Mutex::default(),
            }),
        }
    }

    /// Keeps a session open from now on. With a name that is open already, its settings change: the session is only opened anew
    /// when it leads elsewhere.
    pub fn open(&self, name: &str, connection: WebSocketConnection) {
        if *self.inner.stop.borrow() {
            return;
        }
        let mut kept = lock(&self.inner.kept);
        if let Some(kept) = kept.get(name) {
            kept.settings.send_replace(Some(connection));
            return;
        }
        let (settings, wanted) = watch::channel(Some(connection));
        let report = Report::new();
        let shared = Arc::clone(&self.inner.shared);
        let task = client::keep(shared, name.to_owned(), wanted, Arc::clone(&report));
        let task = tokio::spawn(task);
        kept.insert(
            name.to_owned(),
            Kept {
                settings,
                report,
                task,
            },
        );
    }

    /// Keeps it open no longer: the session ends with Close.
    pub async fn close(&self, name: &str) {
        let kept = lock(&self.inner.kept).remove(name);
        if let Some(kept) = kept {
            kept.settings.send_replace(None);
            // It only ends otherwise together with the runtime.
            let _ended = kept.task.await;
        }
    }

    /// How a connection that is kept open fares.
    pub fn status(&self, name: &str) -> Option<Status> {
        let kept = lock(&self.inner.kept);
        kept.get(name).map(|kept| kept.report.read())
    }

    /// Accepts sessions from now on, and tells at which address. An IPv6 wildcard address takes IPv4 as well.
    ///
    /// # Errors
    /// When the address cannot be bound, when the name listens already, when TLS is wanted and not set up, or when it is not
    /// wanted and [`WebSocketMtpConfig::allow_plain`] does not allow that. From anybody who hands a certificate on in a header
    /// (RFC 9440), the request is refused.
    pub async fn listen(&self, name: &str, listener: WebSocketListener) -> io::Result<SocketAddr> {
        self.listen_behind(name, listener, Vec::new()).await
    }

    /// The same, with proxies in front that end the clients' TLS and hand their certificates on as RFC 9440 says: who comes from
    /// one of these addresses is who the certificate in its request says, by the same decision as if it had come here itself, and
    /// is refused without one.
    ///
    /// The proxies have to see that a client holds the key of its certificate, to remove what the client itself puts into those
    /// headers, and to bound the clients. With [`WebSocketListener::secure`] they prove who they are as every peer does, and others may
    /// come too; without, nobody else is let in, and nobody else may be able to send from these addresses.
    ///
    /// # Errors
    /// As [`Self::listen`], and when TLS, whose verifier decides, is not set up.
    pub async fn listen_behind(
        &self,
        name: &str,
        listener: WebSocketListener,
        proxies: Vec<IpAddr>,
    ) -> io::Result<SocketAddr> {
        let config = &self.inner.shared.config;
        let refused = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        if listener.secure && config.tls.is_none() {
            return refused("TLS is not set up");
        }
        if !proxies.is_empty() && config.tls.is_none() {
            return refused(
                "nobody is set up who decides about the certificates that proxies hand on",
            );
        }
        if !listener.secure && !config.allow_plain && proxies.is_empty() {
            return refused("sessions without TLS are not enabled");
        }
        if *self.inner.stop.borrow() {
            return refused("the MTP is shut down");
        }
        let socket = TcpListener::bind(listener.address).await?;
        let address = socket.local_addr()?;
        let mut listening = lock(&self.inner.listening);
        if listening.contains_key(name) {
            return refused("this listener is there already");
        }
        let (stop, stopped) = watch::channel(false);
        let place = server::Place {
            name: name.to_owned(),
            path: listener.path,
            secure: listener.secure,
            proxies,
        };
        let shared = Arc::clone(&self.inner.shared);
        let task = tokio::spawn(server::listen(shared, socket, Arc::new(place), stopped));
        listening.insert(name.to_owned(), Listening { stop, task });
        Ok(address)
    }

    /// Accepts no more sessions there, and ends those that were accepted.
    pub async fn unlisten(&self, name: &str) {
        let listening = lock(&self.inner.listening).remove(name);
        if let Some(listening) = listening {
            listening.stop.send_replace(true);
            // It only ends otherwise together with the runtime.
            let _ended = listening.task.await;
            self.inner.shared.peers.end_those_of(name).await;
        }
    }

    /// Sends a Record over the session with this Endpoint, and returns once it is written to the socket.
    ///
    /// # Errors
    /// [`SendError::NotConnected`] and [`SendError::WeakerChannel`] when there is no session, or none with TLS, for a
    /// [`Route::WebSocket`] that wants it; [`SendError::TooLarge`]; [`SendError::Busy`] when too much waits for the peer to
    /// read; [`SendError::Lost`] when the session ended and the Record may have been delivered.
    pub async fn send(
        &self,
        to: &Route,
        endpoint_id: &EndpointId,
        record: Vec<u8>,
    ) -> Result<(), SendError> {
        let Route::WebSocket { secure } = to else {
            return Err(SendError::NoMtp);
        };
        let shared = &self.inner.shared;
        let line = shared
            .peers
            .with(endpoint_id)
            .ok_or(SendError::NotConnected)?;
        if *secure && !line.secure {
            return Err(SendError::WeakerChannel);
        }
        let sent = line.send(record).await;
        if sent == Err(SendError::Busy) {
            count(&shared.counters.busy);
        }
        sent
    }

    /// The counters.
    pub fn stats(&self) -> WebSocketStats {
        let shared = &self.inner.shared;
        let stats = shared
            .counters
            .read(shared.peers.len(), shared.gate.half_open());
        WebSocketStats {
            evicted: shared.gate.evicted(),
            ..stats
        }
    }

    /// Has the decision about every peer made anew, see [`Tls::judge_again`](crate::tls::Tls::judge_again).
    pub async fn judge_again(&self) {
        if let Some(tls) = &self.inner.shared.config.tls {
            tls.judge_again().await;
        }
    }

    /// Ends all sessions with Close, and opens and accepts none any more.
    pub async fn shutdown(&self) {
        self.inner.stop.send_replace(true);
        for kept in lock(&self.inner.kept).values() {
            kept.settings.send_replace(None);
        }
        let listening: Vec<_> = lock(&self.inner.listening).drain().collect();
        for (_, listening) in listening {
            listening.stop.send_replace(true);
            // It only ends otherwise together with the runtime.
            let _ended = listening.task.await;
        }
        self.inner.shared.peers.end_all(&CloseReason::GoingAway);
        self.inner.shared.peers.emptiness().await;
    }
}

impl fmt::Debug for WebSocketMtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketMtp")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
