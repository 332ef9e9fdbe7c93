//! The publisher on a real socket: plain UDP, or as the client of DTLS.
//!
//! ```text
//! Sender::publish ─▶ notif::Publisher (bounded) ─▶ task: session, batch ─▶ socket (DF, CS2, UDP_SEGMENT)
//!                                                   ▲ handshake, away: jittered back-off
//! ```
//!
//! - Nothing leaves before the handshake has ended (-26 §6.1.1); while the receiver is away, a bounded queue holds what may
//!   wait, and what is dropped is counted.
//! - The DF bit is set: a datagram is never fragmented. The room of a datagram follows the path MTU that the kernel knows.
//! - The end is orderly: what waits is sent within a time, then close_notify (-26 §6.1.3).
//! - A receiver that has lost its session says nothing, because nothing ever comes back in UDP-notif. So a session is renewed
//!   from time to time ([`Dtls::renew_every`]), the old one serving until the new one stands; when that fails, the receiver
//!   is away.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use homefleet_notif::publisher::{self, MessageIds, PublishError, Publisher};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::dtls::{Credentials, Verifier, Version, Versions};

mod session;
mod socket;
mod task;

/// Class selector 2, which RFC 4594 §2.3 has for operation and management (-26 §5.1).
pub const CS2: u8 = 16;

/// A publisher towards one receiver.
#[derive(Clone)]
pub struct SenderConfig {
    /// The receiver's host: a name or an address.
    pub host: String,
    /// The receiver's UDP port.
    pub port: u16,
    /// Address to send from; absent: the route's.
    pub local_address: Option<IpAddr>,
    /// Port to send from; absent: a random one (-26 §3.1).
    pub local_port: Option<u16>,
    /// Differentiated services code point, 0 to 63. Default [`CS2`].
    pub dscp: u8,
    /// What the messages are, their sizes and their pace.
    pub publisher: publisher::Config,
    /// Absent: plain UDP, for networks that are secured below (-26 §6).
    pub dtls: Option<Dtls>,
    /// The first pause after the receiver was not reached; each further one is twice as long, and each is drawn between half of
    /// it and all of it. Default 1 s.
    pub first_pause: Duration,
    /// The longest pause. Default 60 s.
    pub longest_pause: Duration,
}

impl SenderConfig {
    /// A publisher in plain UDP with the defaults.
    pub fn new(host: impl Into<String>, port: u16, publisher: publisher::Config) -> Self {
        Self {
            host: host.into(),
            port,
            local_address: None,
            local_port: None,
            dscp: CS2,
            publisher,
            dtls: None,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
        }
    }
}

impl std::fmt::Debug for SenderConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SenderConfig")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("dtls", &self.dtls.is_some())
            .finish_non_exhaustive()
    }
}

/// How a receiver is spoken to in DTLS. The publisher is always the client (-26 §6).
#[derive(Clone)]
pub struct Dtls {
    /// Our certificate and key.
    pub credentials: Credentials,
    /// Who decides about the receiver's certificate.
    pub verifier: Arc<dyn Verifier>,
    /// 1.3 by default, 1.2 where the receiver has nothing newer.
    pub versions: Versions,
    /// How long a handshake may take. Default 20 s.
    pub handshake_timeout: Duration,
    /// How often the session is made anew, resumed where the receiver lets us, to learn whether it still is there; zero: never.
    /// Default 5 minutes, half of what receivers keep silent sessions for (-26 §6.1.3).
    pub renew_every: Duration,
}

impl Dtls {
    /// DTLS 1.3 with the defaults.
    pub fn new(credentials: Credentials, verifier: Arc<dyn Verifier>) -> Self {
        Self {
            credentials,
            verifier,
            versions: Versions::Dtls13,
            handshake_timeout: Duration::from_secs(20),
            renew_every: Duration::from_secs(300),
        }
    }
}

/// How it stands with the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It is being reached.
    Connecting,
    /// It can be sent to.
    Up {
        /// Its address.
        remote: SocketAddr,
        /// Our own.
        local: SocketAddr,
        /// Version and cipher suite of the session; absent without DTLS.
        session: Option<(Version, &'static str)>,
    },
    /// It could not be reached; it is tried again.
    Away {
        /// What happened.
        reason: String,
    },
    /// The publisher has ended.
    Stopped,
}

/// Counters of a publisher since it was started.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Of the messages.
    pub messages: publisher::Stats,
    /// Messages that wait or are on their way.
    pub waiting: usize,
    /// Bytes that one datagram, or one record of DTLS, takes on the path.
    pub room: usize,
    /// How often the receiver was reached: sessions that were made, or sockets without DTLS. Renewals do not count.
    pub connected: u64,
    /// Of the sessions, renewals.
    pub renewed: u64,
    /// How often it could not be reached, or was lost.
    pub failed: u64,
    /// Times that the receiver's host said that nobody listens there.
    pub nobody_there: u64,
    /// How it stands now.
    pub status: Status,
}

/// A publisher that runs. Dropped without [`stop`](Self::stop), it ends without a word to the receiver.
#[derive(Debug)]
pub struct Sender {
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

impl Sender {
    /// Starts a publisher; inside a tokio runtime. What is published before the receiver is reached waits.
    ///
    /// # Errors
    /// When messages of the generation cannot be written like this, or the system has no random numbers.
    pub fn start(config: SenderConfig, ids: Option<MessageIds>) -> io::Result<Self> {
        let ids = match ids {
            Some(ids) => ids,
            None => MessageIds::new(config.publisher.generation, random()?),
        };
        let mut publisher = config.publisher.clone();
        if config.dtls.is_none() {
            publisher.framing = publisher::Framing::Bare;
        }
        let publisher = Publisher::new(publisher, ids)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let shared = Arc::new(Shared {
            publisher: Mutex::new(publisher),
            news: Notify::new(),
            room: Notify::new(),
            stopping: AtomicBool::new(false),
            credentials: Mutex::new((0, None)),
            state: Mutex::new(State::default()),
        });
        let task = tokio::spawn(task::run(config, shared.clone()));
        Ok(Self {
            shared,
            task: Some(task),
        })
    }

    /// Gives a message to be sent; it never waits.
    ///
    /// # Errors
    /// When it was not taken; it is counted.
    pub fn publish(&self, message: impl Into<Arc<[u8]>>) -> Result<(), PublishError> {
        let result = self.shared.publisher().publish(message);
        self.shared.news.notify_one();
        result
    }

    /// Gives a message to be sent as soon as there is room for it: the caller goes at the receiver's pace.
    ///
    /// # Errors
    /// When it is too large.
    pub async fn publish_in_turn(&self, message: impl Into<Arc<[u8]>>) -> Result<(), PublishError> {
        let message = message.into();
        loop {
            let room = self.shared.room.notified();
            {
                let mut publisher = self.shared.publisher();
                if publisher.has_room(message.len()) || publisher.waiting() == 0 {
                    let result = publisher.publish(message);
                    drop(publisher);
                    self.shared.news.notify_one();
                    return result;
                }
            }
            room.await;
        }
    }

    /// Uses another certificate and key for handshakes from now on, renewals too. The session that there is stays.
    pub fn replace_credentials(&self, credentials: Credentials) {
        let mut newest = self.shared.credentials();
        *newest = (newest.0 + 1, Some(credentials));
        drop(newest);
        self.shared.news.notify_one();
    }

    /// The counters, and how it stands.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Resolves when the receiver can be sent to, or the publisher has ended.
    pub async fn up(&self) {
        self.shared
            .until(|_, state| matches!(state.status, Status::Up { .. } | Status::Stopped))
            .await;
    }

    /// Resolves when nothing waits any more, or the publisher has ended.
    pub async fn idle(&self) {
        self.shared
            .until(|publisher, state| publisher.waiting() == 0 || state.status == Status::Stopped)
            .await;
    }

    /// Ends in order: what waits is sent for as long as `linger`, then the receiver is told (close_notify). What is left then
    /// counts as dropped.
    pub async fn stop(mut self, linger: Duration) -> Stats {
        // What did not leave in time is counted below.
        tokio::time::timeout(linger, self.idle()).await.ok();
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.shared.news.notify_one();
        if let Some(task) = self.task.take() {
            // It panicked, which was logged: there is nothing more to end.
            task.await.ok();
        }
        self.shared.stats()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// What a publisher's owner and its task share.
struct Shared {
    publisher: Mutex<Publisher>,
    /// There is something new for the task.
    news: Notify,
    /// Something has left, or the status has changed.
    room: Notify,
    stopping: AtomicBool,
    /// The certificate and key that replace those of the start, and which replacement they are.
    credentials: Mutex<(u64, Option<Credentials>)>,
    state: Mutex<State>,
}

/// What the task tells.
#[derive(Debug)]
struct State {
    status: Status,
    connected: u64,
    renewed: u64,
    failed: u64,
    nobody_there: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            status: Status::Connecting,
            connected: 0,
            renewed: 0,
            failed: 0,
            nobody_there: 0,
        }
    }
}

impl Shared {
    fn publisher(&self) -> MutexGuard<'_, Publisher> {
        self.publisher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn credentials(&self) -> MutexGuard<'_, (u64, Option<Credentials>)> {
        self.credentials
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn tell(&self, status: Status) {
        self.state().status = status;
        self.room.notify_waiters();
    }

    fn stats(&self) -> Stats {
        let (messages, waiting, room) = {
            let publisher = self.publisher();
            (publisher.stats(), publisher.waiting(), publisher.room())
        };
        let state = self.state();
        Stats {
            messages,
            waiting,
            room,
            connected: state.connected,
            renewed: state.renewed,
            failed: state.failed,
            nobody_there: state.nobody_there,
            status: state.status.clone(),
        }
    }

    async fn until(&self, is_so: impl Fn(&Publisher, &State) -> bool) {
        loop {
            let changed = self.room.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let publisher = self.publisher();
                let state = self.state();
                if is_so(&publisher, &state) {
                    return;
                }
            }
            changed.await;
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

fn random() -> io::Result<u32> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(u32::from_be_bytes(bytes))
}
