//! Connection Requests over HTTP (TR-069 §3.2.2): an ACS that proves who it is makes the device open a session.
//!
//! A request is a GET of a path that is not to be guessed. Its credentials are asked for by Digest; who has them and calls more often than
//! allowed gets 503. Whoever asks for anything else gets 404, and costs a read of one bounded head.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use homefleet_cwmp::Secret;
use homefleet_cwmp::auth::{DigestConfig, DigestServer, Refusal, Stored};
use homefleet_cwmp::calls::{Admission, Calls};
use subtle::ConstantTimeEq as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Bytes of the head of a request.
const MAX_HEAD: usize = 8 * 1024;

/// Settings of a [`CallListener`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallsConfig {
    /// Calls that are taken within [`CallsConfig::within`]. Default 10.
    pub most: usize,
    /// Default a minute.
    pub within: Duration,
    /// Connections at once. Default 16.
    pub connections: usize,
    /// How long one may take. Default 10 s.
    pub timeout: Duration,
}

impl Default for CallsConfig {
    fn default() -> Self {
        Self {
            most: 10,
            within: Duration::from_secs(60),
            connections: 16,
            timeout: Duration::from_secs(10),
        }
    }
}

/// Who may call, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The path, with its slash; empty: nobody may.
    pub path: String,
    /// `ConnectionRequestUsername`.
    pub username: String,
    /// `ConnectionRequestPassword`.
    pub password: Secret,
}

/// Counters: one for each end of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallsStats {
    /// Answered 200.
    pub taken: u64,
    /// Without credentials, or with wrong ones: 401.
    pub unauthorized: u64,
    /// Too often: 503.
    pub too_many: u64,
    /// Another path or method, or no request at all.
    pub refused: u64,
    /// Closed at once: too many connections.
    pub crowded: u64,
}

/// A socket at which an ACS calls.
pub struct CallListener {
    listener: TcpListener,
    shared: Arc<Shared>,
}

struct Shared {
    config: CallsConfig,
    state: Mutex<State>,
    counters: [AtomicU64; 5],
}

struct State {
    caller: Caller,
    digest: DigestServer,
    calls: Calls,
}

/// Sets who may call, and reads the counters; clones share the listener's.
#[derive(Clone)]
pub struct CallHandle(Arc<Shared>);

impl CallListener {
    /// Binds the socket. Nobody may call yet. `seed` is random.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(
        address: SocketAddr,
        config: CallsConfig,
        seed: [u8; 32],
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let digest = DigestConfig::new("homefleet");
        let state = State {
            caller: Caller::default(),
            digest: DigestServer::new(Instant::now(), digest, seed),
            calls: Calls::new(config.most, config.within),
        };
        let shared = Shared {
            config,
            state: Mutex::new(state),
            counters: Default::default(),
        };
        Ok(Self {
            listener,
            shared: Arc::new(shared),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The handle.
    pub fn handle(&self) -> CallHandle {
        CallHandle(self.shared.clone())
    }

    /// Takes calls until it is dropped; each that has proven itself is told to `called`.
    pub async fn run(self, called: impl Fn() + Send + Sync + 'static) {
        let called = Arc::new(called);
        let places = Arc::new(Semaphore::new(self.shared.config.connections.max(1)));
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, mostly: it gets better.
                    tracing::debug!(%error, "no connection taken");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                self.shared.count(4);
                continue;
            };
            let (shared, called) = (self.shared.clone(), called.clone());
            tokio::spawn(async move {
                let _place = place;
                let limit = shared.config.timeout;
                let served = tokio::time::timeout(limit, serve(&shared, stream, &*called)).await;
                if !matches!(served, Ok(Ok(()))) {
                    shared.count(3);
                }
            });
        }
    }
}

impl CallHandle {
    /// From now on only this one may call.
    pub fn set(&self, caller: Caller) {
        self.0.state().caller = caller;
    }

    /// The counters.
    pub fn stats(&self) -> CallsStats {
        let value = |at: usize| {
            let counter = self.0.counters.get(at);
            counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
        };
        CallsStats {
            taken: value(0),
            unauthorized: value(1),
            too_many: value(2),
            refused: value(3),
            crowded: value(4),
        }
    }
}

impl std::fmt::Debug for CallListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CallListener").field(&self.listener).finish()
    }
}

impl std::fmt::Debug for CallHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallHandle")
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, at: usize) {
        if let Some(counter) = self.counters.get(at) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The answer to a request of this head, and whether it is a call.
    fn answer(&self, now: Instant, head: &str) -> (String, bool) {
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, target) = (words.next(), words.next().unwrap_or_default());
        let path = target.split('?').next().unwrap_or_default();
        let mut state = self.state();
        let known = &state.caller.path;
        let same: bool = known.as_bytes().ct_eq(path.as_bytes()).into();
        if method != Some("GET") || known.is_empty() || !same {
            self.count(3);
            return (plain("404 Not Found"), false);
        }
        let authorization = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("authorization")
                .then(|| value.trim())
        });
        let State {
            caller,
            digest,
            calls,
        } = &mut *state;
        let checked = match authorization {
            None => Err(None),
            Some(header) => digest
                .authorize(now, "GET", target, header, |username| {
                    let own = !caller.username.is_empty() && username == caller.username;
                    own.then(|| Stored::Password(caller.password.clone()))
                })
                .map_err(Some),
        };
        if let Err(refusal) = checked {
            self.count(1);
            return (challenge(digest, now, refusal), false);
        }
        match calls.admit(now) {
            Admission::Take => {
                self.count(0);
                (plain("200 OK"), true)
            }
            Admission::TooMany { wait } => {
                self.count(2);
                let wait = wait.as_secs() + 1;
                let answer = plain("503 Service Unavailable");
                let retry = format!("\r\nRetry-After: {wait}\r\n\r\n");
                (answer.trim_end().to_owned() + &retry, false)
            }
        }
    }
}

fn plain(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

fn challenge(digest: &mut DigestServer, now: Instant, refusal: Option<Refusal>) -> String {
    let headers = digest.challenge(now, refusal);
    let headers: String = headers
        .iter()
        .map(|header| format!("WWW-Authenticate: {header}\r\n"))
        .collect();
    format!("HTTP/1.1 401 Unauthorized\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n")
}

/// Reads one head and answers it.
async fn serve(
    shared: &Shared,
    mut stream: TcpStream,
    called: &(impl Fn() + Sync),
) -> io::Result<()> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    let end = loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 || head.len() + read > MAX_HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.extend_from_slice(buffer.get(..read).unwrap_or_default());
        if let Some(at) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break at;
        }
    };
    let head = String::from_utf8_lossy(head.get(..end).unwrap_or_default()).into_owned();
    let (answer, is_call) = shared.answer(Instant::now(), &head);
    if is_call {
        called();
    }
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
