//! TLS 1.2 (RFC 5246) and 1.3 (RFC 8446) for the Message Transfer Protocols over TCP.
//!
//! [`Tls`] holds our certificate, and asks the same [`Verifier`] about every peer as DTLS does: Figure MTP.1, in both roles
//! (R-MTP.0 to R-MTP.4a). The engine is rustls; its own path building is not used.
//!
//! # Goals
//! - No byte passes before the decision about the peer is made. It is made within the handshake, and a refusal is the TLS alert
//!   that the decision names. Where the decision has to wait for evidence of revocation, the handshake ends, and
//!   [`Tls::connect`] and [`Tls::accept`] wait with the connection in hand, within bounds.
//! - A peer without a certificate is refused in both roles (R-MTP.1).
//! - A resumed session is judged before it is resumed; what is not accepted any more gets a whole handshake instead.
//! - An open connection is judged again when what the decision rests on changes or is out of date, see [`TlsStream`].
//! - Handshakes are bounded in time, number and rate, and counted.
//!
//! # Known limits
//! - A peer of an open connection that is not trusted any more is told by close_notify, not by an alert.

mod alert;
mod config;
mod dial;
mod engine;
mod error;
mod handshake;
mod link;
mod places;
mod resume;
mod stats;
mod stream;
mod verifier;
mod vouched;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use self::engine::Engine;
use self::link::{Chain, Link};
use self::places::Place;
use self::stats::{Counters, count};
use self::watch::Watch;
use crate::dtls::{Budgets, Credentials, OverBudget, Purpose, Verifier};

pub use self::config::{TlsConfig, TlsVersions};
pub use self::dial::{DialError, Stream, dial};
pub use self::error::{Distrust, TlsError};
pub use self::stats::TlsStats;
pub use self::stream::TlsStream;
pub use self::vouched::Vouched;

/// Longest wait, a hundred years: adding it to an instant cannot overflow.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);
/// Open connections judged anew before others get their turn.
const AT_ONCE: usize = 32;

/// Our credentials, and who decides about peers. Clones share it.
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
}

struct Shared {
    config: TlsConfig,
    verifier: Arc<dyn Verifier>,
    engine: RwLock<Arc<Engine>>,
    counters: Counters,
    next_id: AtomicU64,
    first_use_idle: AtomicU64,
    budgets: Mutex<Budgets>,
    half_open: Mutex<BTreeMap<u64, Arc<Notify>>>,
    watches: Mutex<BTreeMap<u64, Weak<Watch>>>,
    /// Those whose decision is waited for, with the certificate that each showed.
    waiting: Mutex<BTreeMap<u64, Chain>>,
    sweep: tokio::sync::Mutex<()>,
    sweeps_wanted: AtomicU64,
    sweeps_done: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn engine(&self) -> Arc<Engine> {
        self.engine
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    fn first_use_idle(&self) -> Duration {
        Duration::from_millis(self.first_use_idle.load(Ordering::Relaxed))
    }

    fn insert(&self, watch: &Arc<Watch>) {
        lock(&self.watches).insert(watch.id, Arc::downgrade(watch));
    }

    fn remove(&self, id: u64) {
        lock(&self.watches).remove(&id);
    }

    fn all(&self) -> Vec<Arc<Watch>> {
        lock(&self.watches)
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }
}

impl Tls {
    /// With the usual bounds.
    ///
    /// # Errors
    /// When the credentials cannot be used.
    pub fn new(credentials: &Credentials, verifier: Arc<dyn Verifier>) -> io::Result<Self> {
        Self::with_config(TlsConfig::default(), credentials, verifier)
    }

    /// With these bounds.
    ///
    /// # Errors
    /// When the credentials cannot be used.
    pub fn with_config(
        config: TlsConfig,
        credentials: &Credentials,
        verifier: Arc<dyn Verifier>,
    ) -> io::Result<Self> {
        let config = TlsConfig {
            decision_timeout: config.decision_timeout.min(LONGEST),
            ..config
        };
        let engine = Engine::new(&config, credentials)?;
        let budgets = Budgets::new(&crate::dtls::Config {
            prefix_budget: config.prefix_budget,
            ipv4_prefix: config.ipv4_prefix,
            ipv6_prefix: config.ipv6_prefix,
            global_budget: config.global_budget,
            max_prefixes: config.max_prefixes,
            ..crate::dtls::Config::default()
        });
        let tls = Self {
            shared: Arc::new(Shared {
                verifier,
                engine: RwLock::new(Arc::new(engine)),
                counters: Counters::default(),
                next_id: AtomicU64::new(0),
                first_use_idle: AtomicU64::new(0),
                budgets: Mutex::new(budgets),
                half_open: Mutex::default(),
                watches: Mutex::default(),
                waiting: Mutex::default(),
                sweep: tokio::sync::Mutex::new(()),
                sweeps_wanted: AtomicU64::new(0),
                sweeps_done: AtomicU64::new(0),
                config,
            }),
        };
        tls.set_first_use_idle(tls.shared.config.first_use_idle);
        Ok(tls)
    }

    /// Opens TLS as client over `stream`, which leads to `host`: a name, or an address literal. `endpoint_id`: the Endpoint
    /// expected there, when one is; its ID in the certificate is as good as the name.
    ///
    /// # Errors
    /// [`TlsError`].
    pub async fn connect<S>(
        &self,
        stream: S,
        host: &str,
        endpoint_id: Option<&str>,
    ) -> Result<TlsStream<S>, TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let name = server_name(host).ok_or_else(|| TlsError::Host(host.to_owned()))?;
        let link = Link::new(
            self.shared.verifier.clone(),
            Purpose::Initiated {
                host: host.to_owned(),
                endpoint_id: endpoint_id.map(str::to_owned),
            },
        );
        count(&self.shared.counters.handshakes_out);
        let connector = TlsConnector::from(self.shared.engine().client.clone());
        // The hello is made at once: within the scope.
        let shaken = async move {
            let done = connector.connect(name, stream).into_fallible().await;
            done.map(tokio_rustls::TlsStream::from)
        };
        self.shake(link, shaken, None).await
    }

    /// Takes a peer that came to us over `stream`: asks for its certificate and refuses it without one (R-MTP.1).
    ///
    /// # Errors
    /// [`TlsError`].
    pub async fn accept<S>(&self, stream: S) -> Result<TlsStream<S>, TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let link = Link::new(self.shared.verifier.clone(), Purpose::Accepted);
        count(&self.shared.counters.handshakes_in);
        let place = Place::take(&self.shared);
        let acceptor = TlsAcceptor::from(self.shared.engine().server.clone());
        let shaken = async move {
            let done = acceptor.accept(stream).into_fallible().await;
            done.map(tokio_rustls::TlsStream::from)
        };
        self.shake(link, shaken, Some(place)).await
    }

    /// The same for a peer at `from`, within the budgets of its address prefix and of all together.
    ///
    /// # Errors
    /// [`TlsError`], [`TlsError::OverBudget`] before a byte was read.
    pub async fn accept_from<S>(
        &self,
        stream: S,
        from: SocketAddr,
    ) -> Result<TlsStream<S>, TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let now = std::time::Instant::now();
        let taken = lock(&self.shared.budgets).take_proven(now, from);
        let counters = &self.shared.counters;
        match taken {
            Ok(()) => self.accept(stream).await,
            Err(over) => {
                count(match over {
                    OverBudget::Prefix => &counters.prefix_budget_exceeded,
                    OverBudget::Global => &counters.global_budget_exceeded,
                });
                Err(TlsError::OverBudget)
            }
        }
    }

    /// Has the decision about every peer made anew: those that are waited for first. For when evidence about revocation has come,
    /// the time has become accurate, or the verifier's grounds have changed. Calls that come while one is under way are
    /// served together by the next.
    pub async fn judge_again(&self) {
        let shared = &self.shared;
        let mine = shared.sweeps_wanted.fetch_add(1, Ordering::SeqCst) + 1;
        let _one = shared.sweep.lock().await;
        if shared.sweeps_done.load(Ordering::SeqCst) >= mine {
            return;
        }
        let served = shared.sweeps_wanted.load(Ordering::SeqCst);
        let (held, open): (Vec<_>, Vec<_>) =
            shared.all().into_iter().partition(|watch| watch.is_held());
        for some in held.chunks(AT_ONCE).chain(open.chunks(AT_ONCE)) {
            for watch in some {
                if watch.is_established() {
                    count(&shared.counters.judged_again);
                }
                watch.judge();
            }
            tokio::task::yield_now().await;
        }
        shared.sweeps_done.store(served, Ordering::SeqCst);
    }

    /// Presents this certificate and key in handshakes from now on. Open connections stay; sessions from before are not
    /// resumed.
    ///
    /// # Errors
    /// When they cannot be used; nothing changes then.
    pub fn replace_credentials(&self, credentials: &Credentials) -> io::Result<()> {
        let engine = Engine::new(&self.shared.config, credentials)?;
        *self
            .shared
            .engine
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(engine);
        Ok(())
    }

    /// Closes connections of peers accepted on first use after this time without a byte from them, from now on (R-SEC.6).
    pub fn set_first_use_idle(&self, idle: Duration) {
        let millis = u64::try_from(idle.min(LONGEST).as_millis()).unwrap_or(u64::MAX);
        self.shared.first_use_idle.store(millis, Ordering::Relaxed);
        for watch in self.shared.all() {
            watch.rearm();
        }
    }

    /// The counters.
    pub fn stats(&self) -> TlsStats {
        let shared = &self.shared;
        shared.counters.read(lock(&shared.watches).len())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

/// The name to ask for: none is sent for address literals (RFC 6066 §3).
fn server_name(host: &str) -> Option<ServerName<'static>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = bare.split('%').next().unwrap_or(bare);
    if let Ok(address) = address.parse::<IpAddr>() {
        return Some(ServerName::from(address));
    }
    let name = bare.trim_end_matches('.').to_owned();
    ServerName::try_from(name).ok()
}
