//! USP over UNIX domain sockets (TR-369 §4.7, R-UDS.2 to R-UDS.25): for USP Services, which are Endpoints on the same device.
//!
//! ```text
//! listen(name, path) ── accept ──┐                ┌── Event::Up, Record, Erroneous, Down
//!                                ├── one session ─┤
//! open(name, path) ─── connect ──┘   per Endpoint └── send(Endpoint, Record)
//!        └── again after 1 to 5 s, whenever it fails or ends (R-UDS.5)
//! ```
//!
//! Access to the socket file is what authenticates. Nothing is encrypted and no certificate is seen: whoever may open
//! the file, and has one of the user IDs that are allowed where they are listed, is taken for the Endpoint that it says
//! it is (the handshake, R-UDS.16), and no Record of another Endpoint is taken from it. A session that stands is only
//! replaced by one of the same user.

mod connect;
mod listen;
mod registry;
mod session;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use homefleet_usp::EndpointId;
use homefleet_usp::mtp::retry::RetryPolicy;
use homefleet_usp::mtp::uds as binding;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc, watch};

use super::{Event, Greeter, NoGreeting, Route, SendError, State, Status};

use self::registry::Registry;

/// The longest path that fits into a socket's address, in bytes (`sun_path` with its final NUL).
pub const MAX_PATH: usize = 107;

/// No handshake is waited for longer.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// How this Endpoint speaks over UNIX domain sockets.
#[derive(Clone)]
pub struct UdsMtpConfig {
    /// Our Endpoint ID.
    pub endpoint_id: EndpointId,
    /// Where what happens goes. While it is full, sockets are not read.
    pub events: mpsc::Sender<Event>,
    /// What is sent first over every session (R-MTP.6).
    pub greeter: Arc<dyn Greeter>,
    /// Bounds of a session. `max_queued` is what may wait to be written to one peer; beyond, [`SendError::Busy`].
    pub session: binding::Config,
    /// The most sessions at once that others opened, those in their handshake included; beyond, newcomers are turned away.
    pub max_sessions: usize,
    /// A peer that takes nothing for so long while something waits for it is given up.
    pub write_timeout: Duration,
    /// When a connection is tried again: R-UDS.5, unless a test is in a hurry.
    pub retry: RetryPolicy,
}

impl UdsMtpConfig {
    /// Without greeting, with the bounds that suit a device.
    pub fn new(endpoint_id: EndpointId, events: mpsc::Sender<Event>) -> Self {
        Self {
            endpoint_id,
            events,
            greeter: Arc::new(NoGreeting),
            session: binding::Config::default(),
            max_sessions: 64,
            write_timeout: Duration::from_secs(30),
            retry: RetryPolicy::uds(),
        }
    }
}

/// A socket that others connect to (R-UDS.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdsListener {
    /// The socket file, at most [`MAX_PATH`] bytes. It is made when listening begins and removed when it ends; its directory
    /// has to be there. A socket file that nobody listens on any more is replaced; any other file is left alone, and an
    /// error.
    pub path: PathBuf,
    /// The file's permissions, as `chmod` takes them. Who may write to the file may connect.
    pub mode: u32,
    /// The user IDs whose processes are taken; `None`: all that the file's permissions let through.
    pub allowed_uids: Option<Vec<u32>>,
}

impl UdsListener {
    /// At `path`, for our own user and root only (0600).
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            mode: 0o600,
            allowed_uids: None,
        }
    }
}

/// A socket that we connect to (R-UDS.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdsConnection {
    /// The server's socket file.
    pub path: PathBuf,
    /// The Endpoint that is expected there; another is refused. `None`: whoever it is.
    pub endpoint_id: Option<EndpointId>,
    /// The user IDs that the server may run as; `None`: any.
    pub allowed_uids: Option<Vec<u32>>,
}

impl UdsConnection {
    /// To `path`, whoever is there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            endpoint_id: None,
            allowed_uids: None,
        }
    }
}

/// Counters of an MTP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdsStats {
    /// Sessions that are open now.
    pub sessions: u64,
    /// Connections that others made.
    pub accepted: u64,
    /// Connections that we made.
    pub connected: u64,
    /// Attempts to connect that failed.
    pub connect_failed: u64,
    /// Failures to accept, such as no file descriptor left.
    pub accept_failed: u64,
    /// Peers turned away because of their user ID.
    pub refused_user: u64,
    /// Peers turned away because there were [`UdsMtpConfig::max_sessions`].
    pub refused_full: u64,
    /// Peers turned away because their Endpoint has a session of another user or direction, or is not the one expected there.
    pub refused_endpoint: u64,
    /// Sessions ended because the same Endpoint opened another.
    pub replaced: u64,
    /// Sessions ended by us with an Error: handshakes, frames and Records that were wrong (R-UDS.21, R-UDS.23, R-UDS.24).
    pub errors_sent: u64,
    /// Sessions ended by an Error of the peer (R-UDS.25).
    pub errors_received: u64,
    /// Peers given up because they read nothing.
    pub stalled: u64,
    /// Records handed on.
    pub records_in: u64,
    /// Records written.
    pub records_out: u64,
    /// Records not written.
    pub records_failed: u64,
    /// Records refused because too much waited for their peer.
    pub busy: u64,
    /// Records handed on as wrong.
    pub erroneous: u64,
    /// Records whose `from_id` is not the session's Endpoint; dropped.
    pub forged: u64,
    /// Frames with a Record before the handshake; ignored (R-UDS.20).
    pub early_records: u64,
    /// Frames with a handshake after it; ignored (R-UDS.19).
    pub late_handshakes: u64,
    /// TLVs of unknown types; ignored (R-UDS.15).
    pub unknown_tlvs: u64,
}

#[derive(Default)]
struct Counters {
    accepted: AtomicU64,
    connected: AtomicU64,
    connect_failed: AtomicU64,
    accept_failed: AtomicU64,
    refused_user: AtomicU64,
    refused_full: AtomicU64,
    refused_endpoint: AtomicU64,
    replaced: AtomicU64,
    errors_sent: AtomicU64,
    errors_received: AtomicU64,
    stalled: AtomicU64,
    records_in: AtomicU64,
    records_out: AtomicU64,
    records_failed: AtomicU64,
    busy: AtomicU64,
    erroneous: AtomicU64,
    forged: AtomicU64,
    early_records: AtomicU64,
    late_handshakes: AtomicU64,
    unknown_tlvs: AtomicU64,
}

fn count(counter: &AtomicU64) {
    add(counter, 1);
}

fn add(counter: &AtomicU64, how_many: u64) {
    counter.fetch_add(how_many, Ordering::Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Shared {
    config: UdsMtpConfig,
    counters: Counters,
    registry: Registry,
    /// What is configured, by name.
    configured: Mutex<HashMap<String, Configured>>,
    /// Room for sessions that others open.
    room: Arc<Semaphore>,
    closed: AtomicBool,
}

/// A name of the configuration. Its tasks end when `stop` says so or is dropped, and have let go of their sockets when all
/// receivers of `stop` are gone.
struct Configured {
    spec: Spec,
    stop: watch::Sender<bool>,
    status: Arc<Mutex<Status>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Spec {
    Listen(UdsListener),
    Connect(UdsConnection),
}

/// USP over UNIX domain sockets. Clones share it; it ends with the last of them, or by [`UdsMtp::shutdown`].
#[derive(Clone)]
pub struct UdsMtp {
    shared: Arc<Shared>,
    _owner: Arc<Owner>,
}

/// Ends the tasks, which share everything else, when the last [`UdsMtp`] is gone.
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Shared {
    /// Tells all tasks to end.
    fn stop(&self) {
        self.closed.store(true, Ordering::Relaxed);
        for configured in lock(&self.configured).values() {
            configured.stop.send_replace(true);
        }
    }
}

impl UdsMtp {
    /// One that neither listens nor connects yet.
    pub fn new(mut config: UdsMtpConfig) -> Self {
        // What is added to a point in time stays one.
        config.session.handshake_timeout = config.session.handshake_timeout.min(LONGEST);
        let room = config.max_sessions.min(Semaphore::MAX_PERMITS);
        let shared = Arc::new(Shared {
            config,
            counters: Counters::default(),
            registry: Registry::default(),
            configured: Mutex::default(),
            room: Arc::new(Semaphore::new(room)),
            closed: AtomicBool::new(false),
        });
        Self {
            _owner: Arc::new(Owner(shared.clone())),
            shared,
        }
    }

    /// Listens from now on (R-UDS.2, R-UDS.3). The same name again with other settings ends what it was before, sessions
    /// included; with the same settings, nothing changes. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the path is too long, is in use, is no socket, or cannot be made; nothing has that name then.
    pub async fn listen(&self, name: &str, spec: UdsListener) -> io::Result<()> {
        if self.is(name, &Spec::Listen(spec.clone())) {
            return Ok(());
        }
        self.close(name).await;
        if self.shared.closed.load(Ordering::Relaxed) {
            return Err(io::Error::other("the MTP is shut down"));
        }
        let bound = listen::bind(&spec.path, spec.mode)?;
        let (stop, stopped) = watch::channel(false);
        let allowed = spec.allowed_uids.clone();
        let accept = listen::accept(self.shared.clone(), bound, allowed, stopped);
        let status = self.configure(name, Spec::Listen(spec), stop);
        lock(&status).becomes(State::Up, 0);
        tokio::spawn(accept);
        Ok(())
    }

    /// Keeps this connection open from now on: connects, and connects again when it fails or ends (R-UDS.4, R-UDS.5). The
    /// same name again with other settings ends what it was before; with the same settings, nothing changes. Needs a tokio
    /// runtime.
    pub async fn open(&self, name: &str, spec: UdsConnection) {
        if self.is(name, &Spec::Connect(spec.clone())) {
            return;
        }
        self.close(name).await;
        if self.shared.closed.load(Ordering::Relaxed) {
            return;
        }
        let (stop, stopped) = watch::channel(false);
        let status = self.configure(name, Spec::Connect(spec.clone()), stop);
        let keep = connect::keep(self.shared.clone(), name.to_owned(), spec, status, stopped);
        tokio::spawn(keep);
    }

    /// Ends what has this name, with its sessions: what waits to be written is written first, where the peer takes it. The
    /// sockets are closed, and the file of one that was listened on is gone, when this returns.
    pub async fn close(&self, name: &str) {
        let configured = lock(&self.shared.configured).remove(name);
        if let Some(configured) = configured {
            configured.stop.send_replace(true);
            configured.stop.closed().await;
        }
    }

    /// How what has this name fares; `None` when nothing has.
    pub fn status(&self, name: &str) -> Option<Status> {
        let configured = lock(&self.shared.configured);
        let status = lock(&configured.get(name)?.status).clone();
        Some(status)
    }

    /// Sends one encoded Record over the session with the Endpoint, and waits until it is written to the socket.
    ///
    /// # Errors
    /// [`SendError`]; after [`SendError::Lost`] it is open whether it arrived.
    pub async fn send(
        &self,
        to: &Route,
        endpoint_id: &EndpointId,
        record: Vec<u8>,
    ) -> Result<(), SendError> {
        if *to != Route::Uds {
            return Err(SendError::NoMtp);
        }
        let result = self.try_send(endpoint_id, record).await;
        let counters = &self.shared.counters;
        match &result {
            Ok(()) => count(&counters.records_out),
            Err(SendError::Busy) => {
                count(&counters.busy);
                count(&counters.records_failed);
            }
            Err(_) => count(&counters.records_failed),
        }
        result
    }

    async fn try_send(&self, endpoint_id: &EndpointId, record: Vec<u8>) -> Result<(), SendError> {
        if self.shared.closed.load(Ordering::Relaxed) {
            return Err(SendError::Closed);
        }
        if record.len() > self.shared.config.session.max_record {
            return Err(SendError::TooLarge);
        }
        let written = self.shared.registry.send(endpoint_id, record)?;
        written.await.map_err(|_| SendError::Lost)
    }

    /// The Endpoints that have a session now.
    pub fn peers(&self) -> Vec<EndpointId> {
        self.shared.registry.peers()
    }

    /// The counters.
    pub fn stats(&self) -> UdsStats {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        UdsStats {
            sessions: self.shared.registry.len() as u64,
            accepted: read(&counters.accepted),
            connected: read(&counters.connected),
            connect_failed: read(&counters.connect_failed),
            accept_failed: read(&counters.accept_failed),
            refused_user: read(&counters.refused_user),
            refused_full: read(&counters.refused_full),
            refused_endpoint: read(&counters.refused_endpoint),
            replaced: read(&counters.replaced),
            errors_sent: read(&counters.errors_sent),
            errors_received: read(&counters.errors_received),
            stalled: read(&counters.stalled),
            records_in: read(&counters.records_in),
            records_out: read(&counters.records_out),
            records_failed: read(&counters.records_failed),
            busy: read(&counters.busy),
            erroneous: read(&counters.erroneous),
            forged: read(&counters.forged),
            early_records: read(&counters.early_records),
            late_handshakes: read(&counters.late_handshakes),
            unknown_tlvs: read(&counters.unknown_tlvs),
        }
    }

    /// Ends everything, as [`UdsMtp::close`] does, for good.
    pub async fn shutdown(&self) {
        // All at once first, so that one slow peer does not hold up the others.
        self.shared.stop();
        let names: Vec<String> = lock(&self.shared.configured).keys().cloned().collect();
        for name in names {
            self.close(&name).await;
        }
    }

    fn is(&self, name: &str, spec: &Spec) -> bool {
        lock(&self.shared.configured)
            .get(name)
            .is_some_and(|configured| configured.spec == *spec)
    }

    fn configure(&self, name: &str, spec: Spec, stop: watch::Sender<bool>) -> Arc<Mutex<Status>> {
        let status = Arc::new(Mutex::new(Status::connecting()));
        let configured = Configured {
            spec,
            stop,
            status: status.clone(),
        };
        lock(&self.shared.configured).insert(name.to_owned(), configured);
        status
    }
}

impl fmt::Debug for UdsMtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdsMtp")
            .field("endpoint_id", &self.shared.config.endpoint_id)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Whether the process at the other end may be there: its user ID, or why not. The kernel tells it (`SO_PEERCRED`), the
/// peer cannot lie.
fn user_of(stream: &UnixStream, allowed: Option<&[u32]>) -> Result<u32, String> {
    let uid = stream
        .peer_cred()
        .map_err(|error| format!("the user at the other end is unknown: {error}"))?
        .uid();
    match allowed {
        Some(allowed) if !allowed.contains(&uid) => Err(format!("user {uid} is not allowed here")),
        _ => Ok(uid),
    }
}

/// Refuses a path that does not fit into a socket's address, or would name a socket that is no file.
fn check_path(path: &Path) -> io::Result<()> {
    let length = path.as_os_str().len();
    if length == 0 || length > MAX_PATH {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "a socket's path has 1 to {MAX_PATH} bytes, `{}` has {length}",
                path.display()
            ),
        ));
    }
    Ok(())
}
