//! Fetches evidence about revocation over plain HTTP: CRLs (RFC 5280 §4.2.1.13) and OCSP responses (RFC 6960 appendix A).
//!
//! ```text
//!   Verifier ──Hold(wanted)──▶ Fetcher::want ──▶ waiting ──▶ under way ──▶ Revocation::add, or failed
//!      ▲                            Revocation::due ──▲                          │
//!      └───────────── judge_again ◀──────────────────────────────────────────────┘
//! ```
//!
//! # Goals
//! - Only what a decision wants is fetched: addresses from certificates whose path to a trusted CA is valid.
//! - Nothing is sent anywhere but there: redirects are not followed, `https` is refused (evidence is signed; fetching it over TLS would
//!   ask for evidence again, RFC 5280 §8), no proxy, no cookies.
//! - Everything is bounded: bytes, time, how much is fetched at once, from one address, and how much waits
//!   ([`FetchConfig`]), and counted ([`FetchStats`]).
//! - An address that fails is left alone for a growing while; what is wanted from it fails at once, so that no peer is held for it.
//! - Evidence in use is fetched again before it ends ([`Revocation::due`]), so that a revocation becomes known.

mod address;
mod exchange;
mod task;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use homefleet_trust::{EvidenceError, Revocation, Time, Wanted};
use tokio::sync::mpsc;

/// Bounds of fetching. How many bytes an answer may have says the [`Revocation`]'s policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchConfig {
    /// Whether anything is fetched at all. When not, what is wanted fails at once: only evidence that came by other means counts.
    /// Default true.
    pub fetch: bool,
    /// Time one fetch may take in all, so less than a handshake may. Default 10 s.
    pub timeout: Duration,
    /// Time to find the host's addresses, and to connect to one of them. Default 3 s each.
    pub connect_timeout: Duration,
    /// Fetches at once. Default 16.
    pub concurrency: usize,
    /// Fetches at once from one host and port; one list is never fetched twice at once. Default 4.
    pub per_host: usize,
    /// Fetches waiting; beyond, more are dropped until decisions ask again. Default 4096.
    pub queue: usize,
    /// How often evidence in use is looked through for what is due. Default 30 s.
    pub look: Duration,
    /// How long a host that failed is left alone: the first time; it doubles up to `pause_max`. Default 5 s.
    pub pause: Duration,
    /// Longest time a host is left alone. Default 5 minutes.
    pub pause_max: Duration,
    /// Whether OCSP requests carry a nonce (RFC 9654), so that an old answer cannot be played back. Default true.
    pub nonce: bool,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            fetch: true,
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(3),
            concurrency: 16,
            per_host: 4,
            queue: 4096,
            look: Duration::from_secs(30),
            pause: Duration::from_secs(5),
            pause_max: Duration::from_secs(300),
            nonce: true,
        }
    }
}

/// Why evidence could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The address is none that is fetched from.
    #[error("`{url}` is not fetched: {problem}")]
    Address {
        /// The address.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// [`FetchConfig::fetch`] is off.
    #[error("nothing is fetched")]
    Off,
    /// The host failed a moment ago and is left alone.
    #[error("the host failed a moment ago and is left alone for now")]
    LeftAlone,
    /// The name has no address.
    #[error("the host's address cannot be found: {0}")]
    Resolve(String),
    /// No connection.
    #[error("no connection: {0}")]
    Connect(String),
    /// It took longer than [`FetchConfig::timeout`] or [`FetchConfig::connect_timeout`].
    #[error("it took too long")]
    Timeout,
    /// The connection broke, or what came over it is not HTTP.
    #[error("the answer is not understood: {0}")]
    Http(String),
    /// Another status than 200. Redirects are not followed.
    #[error("the answer has status {0}")]
    Status(u16),
    /// The body is encoded, which was not asked for.
    #[error("the answer is encoded")]
    Encoded,
    /// The body has more bytes than [`Revocation::max_bytes`].
    #[error("the answer has more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// It came, and is no evidence.
    #[error("the answer is no evidence: {0}")]
    Evidence(#[from] EvidenceError),
}

/// Counters of a fetcher, since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchStats {
    /// Evidence that was fetched and taken.
    pub taken: u64,
    /// Of these, fetched again before it ended.
    pub refreshed: u64,
    /// Fetches that failed on their way.
    pub failed: u64,
    /// Answers that are no evidence: forged, out of date, about something else.
    pub no_evidence: u64,
    /// Wanted from a host that is left alone, or at an address that is not fetched from, or when nothing is fetched.
    pub not_tried: u64,
    /// Wanted when the queue was full.
    pub dropped: u64,
    /// Fetches under way now.
    pub under_way: u64,
    /// Fetches waiting now.
    pub waiting: u64,
}

#[derive(Default)]
struct Counters {
    taken: AtomicU64,
    refreshed: AtomicU64,
    failed: AtomicU64,
    no_evidence: AtomicU64,
    not_tried: AtomicU64,
    dropped: AtomicU64,
    under_way: AtomicU64,
    waiting: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A host that failed, or sent what is no evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// `host:port`.
    pub host: String,
    /// Why.
    pub problem: FetchError,
}

#[derive(Default)]
struct Shared {
    counters: Counters,
    troubles: Mutex<Vec<Trouble>>,
}

/// Handle to a running fetcher; clones share it. It ends when the last one is dropped.
#[derive(Clone)]
pub struct Fetcher {
    wanted: mpsc::Sender<Wanted>,
    shared: Arc<Shared>,
}

impl Fetcher {
    /// Starts fetching for `revocation`. `time` says what time it is, or that nobody knows; `judge_again` is told whenever held peers
    /// may be decided about, or what is known about open sessions has changed. It must not block.
    ///
    /// Give [`Fetcher::want`] to the verifier: `verifier.set_revocation(revocation, move |wanted| fetcher.want(wanted))`.
    pub fn start(
        revocation: Arc<RwLock<Revocation>>,
        config: FetchConfig,
        time: impl Fn() -> Time + Send + Sync + 'static,
        judge_again: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let (wanted, inbox) = mpsc::channel(config.queue.max(1));
        let shared = Arc::new(Shared::default());
        let task = task::Task::new(
            revocation,
            config,
            Arc::new(time),
            Box::new(judge_again),
            shared.clone(),
        );
        tokio::spawn(task.run(inbox));
        Self { wanted, shared }
    }

    /// Fetches these, unless they are being fetched. Never blocks.
    pub fn want(&self, wanted: &[Wanted]) {
        for wanted in wanted {
            if self.wanted.try_send(wanted.clone()).is_err() {
                count(&self.shared.counters.dropped);
            }
        }
    }

    /// The counters.
    pub fn stats(&self) -> FetchStats {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FetchStats {
            taken: read(&counters.taken),
            refreshed: read(&counters.refreshed),
            failed: read(&counters.failed),
            no_evidence: read(&counters.no_evidence),
            not_tried: read(&counters.not_tried),
            dropped: read(&counters.dropped),
            under_way: read(&counters.under_way),
            waiting: read(&counters.waiting),
        }
    }

    /// Hosts that failed last time, or sent what is no evidence, and why.
    pub fn troubles(&self) -> Vec<Trouble> {
        self.shared
            .troubles
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
