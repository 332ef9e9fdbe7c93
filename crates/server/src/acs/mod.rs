//! The server as an ACS (TR-069): devices that speak CWMP, on the same registry, queue and values as those that speak USP.
//!
//! A device opens a session with an Inform; from then on it is known by a cookie, and each session is a task of its own that drives a
//! [`homefleet_cwmp::acs::Session`]. While the session goes on, the task queue's work for the device goes into it ([`Protocol`]); without one the device is
//! called by a Connection Request, and the work waits for it.
//!
//! ```text
//!  POST ──► http: login, cookie ──► session: Inform, the device's requests, our requests ──► registry, values, tasks
//!                                       ▲
//!  queue ──► Protocol::run ──► jobs ────┘      no session: Connection Request, then wait
//! ```

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use homefleet_api::Operation;
use homefleet_cwmp::auth::{DigestConfig, DigestServer, Stored};
use homefleet_net::dtls::{Credentials, Verifier};
use homefleet_net::stun::Learned;
use homefleet_net::tls::Tls;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use zeroize::Zeroizing;

use self::files::Files;
use self::keeper::Keeper;
use self::reach::Reach;
use crate::config::{self, Config, ConfigError, UnknownCpes};
use crate::core::Core;
use crate::metrics::Sample;
use crate::store::{DeviceRecord, TaskRecord};
use crate::task::driver::{Protocol, Sending};
use crate::task::queue::Delivery;

pub(crate) mod bootstrap;
mod call;
mod command;
mod files;
mod http;
mod identity;
pub(crate) mod keeper;
mod listen;
mod login;
mod program;
pub(crate) mod reach;
mod session;
mod stun;
mod wake;

pub use identity::device_id;
use stun::Stun;
use wake::in_words;

/// What devices log in to.
const REALM: &str = "homefleet";
/// Most long messages that are read at a time, of up to 32 MB each.
const LONG_BODIES: usize = 16;
/// How often a task is tried again that its device cannot do for the time being.
const TRIES: u32 = 3;
/// Most tasks of which that is remembered.
const MOST_TRIED: usize = 10_000;

/// The ACS; clones are handles to the same one.
#[derive(Clone)]
pub struct Acs(Arc<Inner>);

struct Inner {
    core: Core,
    policy: Policy,
    keeper: Keeper,
    files: Option<Files>,
    digest: Mutex<DigestServer>,
    sessions: Mutex<Sessions>,
    /// The STUN server; unset where there is none.
    stun: OnceLock<Arc<Stun>>,
    /// A session has begun to take jobs.
    arrived: Notify,
    /// Tasks that a device could not do for the time being, and how often.
    tried: Mutex<HashMap<String, u32>>,
    /// Places for long messages.
    long_bodies: Semaphore,
    counters: Mutex<Counters>,
}

/// What the operator decided.
pub(crate) struct Policy {
    login: Option<(String, Stored)>,
    unknown: UnknownCpes,
    device_logins: bool,
    cookieless: bool,
    hold_requests: bool,
    kicked_url: String,
    discover: u32,
    /// Paths whose changes are wanted as they happen.
    value_change: Vec<String>,
    reach: Reach,
    sessions: usize,
    timeout: Duration,
    inform_interval: u32,
    /// Devices are asked for their gateways, and gateways for their devices.
    homes: bool,
}

#[derive(Default)]
struct Sessions {
    by_cookie: HashMap<String, Open>,
    /// Sessions that take jobs, by device.
    by_device: HashMap<String, Live>,
}

/// A session, and how its messages have to come.
struct Open {
    posts: mpsc::Sender<Post>,
    /// In TLS.
    secure: bool,
    /// SHA-256 of the certificate of its device.
    certificate: Option<[u8; 32]>,
}

struct Live {
    cookie: String,
    jobs: mpsc::Sender<Job>,
}

/// A message of a device, and where its answer goes.
struct Post {
    body: bytes::Bytes,
    answer: oneshot::Sender<homefleet_cwmp::acs::Transmit>,
}

/// A task for a session, and where it says how that went.
struct Job {
    task: TaskRecord,
    delivery: oneshot::Sender<Delivery>,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sessions begun: Informs that were accepted.
    pub sessions: u64,
    /// Sessions that both sides ended.
    pub finished: u64,
    /// Sessions that ended otherwise.
    pub broken: u64,
    /// Requests without credentials, answered with a challenge.
    pub challenged: u64,
    /// Requests with wrong credentials.
    pub refused_logins: u64,
    /// Informs of devices that are not known and not wanted, or of another device than the login's.
    pub refused_informs: u64,
    /// Informs of devices in quarantine.
    pub quarantined: u64,
    /// Messages without a session: no cookie, or one that is over.
    pub without_session: u64,
    /// Devices told to come again because there was too much to do.
    pub overloaded: u64,
    /// Messages that were too long.
    pub too_long: u64,
    /// Messages with the cookies of several sessions.
    pub ambiguous_cookies: u64,
    /// Messages without a cookie that belong to their connection's session.
    pub cookieless: u64,
    /// Files that devices began to fetch.
    pub downloads: u64,
    /// Files that devices sent.
    pub uploads: u64,
    /// Requests for files with a URL that is not good, or not any more.
    pub refused_files: u64,
    /// Connection Requests that a device took.
    pub calls: u64,
    /// Connection Requests that failed.
    pub failed_calls: u64,
}

impl Acs {
    /// An ACS over this core.
    ///
    /// # Errors
    /// When the password's file cannot be used.
    pub fn new(core: Core, config: &Config) -> Result<Self, ConfigError> {
        let keeper = Keeper::load(&config.data_dir).map_err(|problem| ConfigError::Value {
            key: "data_dir",
            problem,
        })?;
        let value_change = config.subscribe.value_change.clone();
        let homes = config.home.enabled;
        let config = &config.acs;
        let wrong = |problem: String| ConfigError::Value {
            key: "acs.password_file",
            problem,
        };
        let login = match (&config.username, &config.password_file) {
            (Some(username), Some(file)) => {
                let password = config::read_secret(file).map_err(wrong)?;
                let kept = Stored::hashed(username, REALM, &password);
                Some((username.clone(), kept))
            }
            _ => None,
        };
        let files = match &config.files {
            Some(directory) => {
                let url = config.files_url.as_deref();
                let files = Files::open(directory, url, config.max_upload);
                Some(files.map_err(|problem| ConfigError::Value {
                    key: "acs.files",
                    problem,
                })?)
            }
            None => None,
        };
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| wrong(format!("no randomness: {error}")))?;
        let digest = DigestServer::new(Instant::now(), DigestConfig::new(REALM), seed);
        Ok(Self(Arc::new(Inner {
            core,
            keeper,
            files,
            policy: Policy {
                login,
                unknown: config.unknown,
                device_logins: config.device_logins,
                cookieless: config.cookieless,
                hold_requests: config.hold_requests,
                discover: config.discover,
                value_change,
                kicked_url: config.kicked_url.clone().unwrap_or_default(),
                reach: Reach::parse(&config.call_networks).map_err(|network| {
                    ConfigError::Value {
                        key: "acs.call_networks",
                        problem: config::not_a_network(&network),
                    }
                })?,
                sessions: config.sessions,
                timeout: Duration::from_secs(config.timeout),
                inform_interval: config.inform_interval,
                homes,
            },
            digest: Mutex::new(digest),
            sessions: Mutex::default(),
            stun: OnceLock::new(),
            arrived: Notify::new(),
            tried: Mutex::default(),
            long_bodies: Semaphore::new(LONG_BODIES),
            counters: Mutex::default(),
        })))
    }

    /// Starts the STUN server beside it, from whose socket devices behind address translation are woken. The channel is for
    /// [`Acs::follow_bindings`].
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub(crate) fn listen_stun(
        &self,
        listen: SocketAddr,
        config: &config::Stun,
    ) -> std::io::Result<mpsc::Receiver<Learned>> {
        let (stun, told) = Stun::start(listen, config)?;
        {
            let now = self.0.core.now();
            let state = self.0.core.state();
            state
                .registry
                .devices()
                .for_each(|device| stun.restore(now, device, &self.0.keeper));
        }
        // There is one to an ACS.
        drop(self.0.stun.set(stun));
        Ok(told)
    }

    /// Ends the STUN server.
    pub(crate) async fn stop_stun(&self) {
        if let Some(stun) = self.0.stun.get() {
            stun.server.shutdown().await;
        }
    }

    /// Where the STUN server listens.
    pub fn stun_addr(&self) -> Option<SocketAddr> {
        self.0.stun.get()?.local_addr()
    }

    /// Answers devices at this socket until `stop` changes: over HTTP, or over HTTPS with what [`tls`](Self::tls) made.
    pub async fn serve(self, listener: TcpListener, tls: Option<Tls>, stop: watch::Receiver<bool>) {
        listen::serve(self, listener, tls, stop).await;
    }

    /// TLS for devices, which show a certificate that this verifier judges, or log in.
    ///
    /// # Errors
    /// When the credentials cannot be used.
    pub fn tls(credentials: &Credentials, verifier: Arc<dyn Verifier>) -> std::io::Result<Tls> {
        listen::tls(credentials, verifier)
    }

    /// Counters since the start.
    pub fn counters(&self) -> Counters {
        *self.counted()
    }

    /// Sessions at this moment.
    pub fn open_sessions(&self) -> usize {
        self.sessions().by_cookie.len()
    }

    /// What `/metrics` tells.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let open = i64::try_from(self.open_sessions()).unwrap_or(i64::MAX);
        let counters = self.counters();
        let counter = Sample::counter;
        let mut samples = vec![
            Sample::gauge(
                "acs_sessions_open",
                "Sessions of TR-069 at this moment",
                open,
            ),
            counter(
                "acs_sessions",
                "Sessions of TR-069 begun",
                counters.sessions,
            ),
            counter(
                "acs_sessions_finished",
                "Sessions of TR-069 that both sides ended",
                counters.finished,
            ),
            counter(
                "acs_sessions_broken",
                "Sessions of TR-069 that ended otherwise",
                counters.broken,
            ),
            counter(
                "acs_challenged",
                "Requests without credentials",
                counters.challenged,
            ),
            counter(
                "acs_refused_logins",
                "Requests with wrong credentials",
                counters.refused_logins,
            ),
            counter(
                "acs_refused_informs",
                "Informs that were refused",
                counters.refused_informs,
            ),
            counter(
                "acs_quarantined",
                "Informs of devices in quarantine",
                counters.quarantined,
            ),
            counter(
                "acs_without_session",
                "Messages without a session",
                counters.without_session,
            ),
            counter(
                "acs_overloaded",
                "Devices told to come again",
                counters.overloaded,
            ),
            counter(
                "acs_too_long",
                "Messages of devices that were too long",
                counters.too_long,
            ),
            counter(
                "acs_ambiguous_cookies",
                "Messages of devices with the cookies of several sessions",
                counters.ambiguous_cookies,
            ),
            counter(
                "acs_cookieless",
                "Messages of devices that keep no cookies",
                counters.cookieless,
            ),
            counter(
                "acs_downloads",
                "Files that devices began to fetch",
                counters.downloads,
            ),
            counter("acs_uploads", "Files that devices sent", counters.uploads),
            counter(
                "acs_refused_files",
                "Requests for files with a URL that is not good",
                counters.refused_files,
            ),
            counter(
                "acs_calls",
                "Connection Requests that a device took",
                counters.calls,
            ),
            counter(
                "acs_failed_calls",
                "Connection Requests that failed",
                counters.failed_calls,
            ),
        ];
        samples.extend(self.0.stun.get().iter().flat_map(|stun| stun.samples()));
        samples
    }

    /// What a device takes Connection Requests with, once it was given that: name and password.
    pub(crate) fn call_login(&self, device: &DeviceRecord) -> Option<(String, Zeroizing<String>)> {
        let login = device.cwmp.as_ref()?.connection_request.as_ref()?;
        let password = self.0.keeper.open(&device.id, &login.password);
        if password.is_none() {
            let device = &device.id;
            tracing::error!(device, "its password was sealed under another acs.key");
        }
        Some((login.username.clone(), password?))
    }

    /// Whether a task that its device cannot do for the time being is tried once more.
    fn tries_again(&self, task: &str) -> bool {
        let mut tried = lock(&self.0.tried);
        if tried.len() >= MOST_TRIED {
            tried.clear();
        }
        let times = tried.entry(task.to_owned()).or_default();
        *times += 1;
        let again = *times <= TRIES;
        if !again {
            tried.remove(task);
        }
        again
    }

    fn counted(&self) -> MutexGuard<'_, Counters> {
        lock(&self.0.counters)
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        lock(&self.0.sessions)
    }

    /// Hands a task to the session of its device: the one that goes on, or the one that a Connection Request brings.
    async fn hand_over(self, device: DeviceRecord, task: TaskRecord) -> Delivery {
        let idempotent = task.operation.is_idempotent();
        let jobs = match self.bring(&device).await {
            Ok(brought) => brought.jobs,
            Err(attempts) => return Delivery::NotDelivered(in_words(&attempts)),
        };
        let (delivery, done) = oneshot::channel();
        if jobs.send(Job { task, delivery }).await.is_err() {
            return Delivery::NotDelivered("the session ended before the task's turn".to_owned());
        }
        match done.await {
            Ok(delivery) => delivery,
            // It was taken up, perhaps.
            Err(_) if idempotent => Delivery::NotDelivered("the session ended".to_owned()),
            Err(_) => Delivery::Unclear("the session ended".to_owned()),
        }
    }

    fn live(&self, device: &str) -> Option<mpsc::Sender<Job>> {
        let sessions = self.sessions();
        sessions.by_device.get(device).map(|live| live.jobs.clone())
    }
}

impl Protocol for Acs {
    fn probe(&self, device: &DeviceRecord) -> Sending {
        let (acs, device) = (self.clone(), device.clone());
        Box::pin(async move {
            match acs.bring(&device).await {
                Ok(_) => Delivery::Taken,
                Err(attempts) => Delivery::NotDelivered(in_words(&attempts)),
            }
        })
    }

    fn run(&self, device: &DeviceRecord, task: &TaskRecord) -> Sending {
        if task.operation == (Operation::Wake {}) {
            return Box::pin(self.clone().wake(device.clone(), task.clone()));
        }
        Box::pin(self.clone().hand_over(device.clone(), task.clone()))
    }
}

impl fmt::Debug for Acs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acs").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
