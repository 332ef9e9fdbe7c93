//! One server behind the proxy: what is passed on to it, how it fares.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use homefleet_cmp::asn1::BodyKind;
use tokio::sync::Semaphore;

use super::check::Check;
use crate::cmp::client::{Client, ExchangeError, ResponseCode};
use crate::cmp::service::{Answer, Gateway, is_message};
use crate::cmp::target::Operation;
use crate::cmp::url::Url;

/// When to come back to an upstream that says that it is busy, and not for how long.
pub(super) const LATER: Duration = Duration::from_secs(30);

/// A CMP server behind the proxy.
#[derive(Clone)]
pub struct Upstream {
    /// What it is called in logs and counters.
    pub name: String,
    /// Where it is. Where the URL has no path of its own the operation is passed on by its name over HTTP; one that was chosen stays.
    pub url: Url,
    /// How it is reached: trust, identity, time, chunked or not.
    pub client: Client,
    /// The kinds of messages that may pass; `None`: all.
    pub kinds: Option<Vec<BodyKind>>,
    /// What is looked at before.
    pub check: Check,
    /// Messages under way to it; over it 5.03.
    pub max_under_way: usize,
    /// What follows when it cannot be connected to.
    pub rest: Rest,
}

/// A server that cannot be connected to again and again is left alone for a while, and its devices are told at once to come later. Only
/// connections count: no message of a device makes a server rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest {
    /// Attempts in a row that do it; 0: never. Default 3.
    pub after: u64,
    /// For how long; then one message tries. Default 10 s.
    pub time: Duration,
}

impl Default for Rest {
    fn default() -> Self {
        Self {
            after: 3,
            time: Duration::from_secs(10),
        }
    }
}

/// Whether an upstream answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Health {
    /// Nothing was sent to it yet.
    #[default]
    Unknown,
    /// The last message was answered.
    Good,
    /// The last message was not.
    Failing,
    /// It cannot be connected to, and is left alone for a while.
    Resting,
}

impl Health {
    /// As a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Good => "good",
            Self::Failing => "failing",
            Self::Resting => "resting",
        }
    }
}

/// How an upstream fares, since the proxy was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpstreamStats {
    /// Its name.
    pub name: String,
    /// Messages sent to it.
    pub forwarded: u64,
    /// PKIMessages that came back.
    pub answered: u64,
    /// Messages that were not sent: no PKIMessage, of a kind that may not pass, or not protected as they should be.
    pub refused: u64,
    /// Messages that found all places taken, or the server resting.
    pub busy: u64,
    /// Messages that no PKIMessage came back to.
    pub failed: u64,
    /// Failures since the last answer: 0 is healthy.
    pub failures_in_a_row: u64,
    /// What the last failure was.
    pub last_failure: Option<String>,
    /// Messages that an answer is awaited to.
    pub under_way: usize,
    /// Whether it answers.
    pub health: Health,
}

pub(super) struct Behind {
    pub(super) upstream: Upstream,
    places: Semaphore,
    max: usize,
    forwarded: AtomicU64,
    answered: AtomicU64,
    pub(super) refused: AtomicU64,
    busy: AtomicU64,
    failed: AtomicU64,
    condition: Mutex<Condition>,
}

#[derive(Default)]
struct Condition {
    failures: u64,
    unreachable: u64,
    rests_until: Option<Instant>,
    last_failure: Option<String>,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Behind {
    pub(super) fn new(upstream: Upstream) -> Arc<Self> {
        let max = upstream.max_under_way.min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            places: Semaphore::new(max),
            max,
            upstream,
            forwarded: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            condition: Mutex::default(),
        })
    }

    fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes a message on; the answer for the device.
    pub(super) async fn forward(&self, operation: Option<Operation>, message: &[u8]) -> Answer {
        let Ok(_place) = self.places.try_acquire() else {
            count(&self.busy);
            return Answer::Busy { retry_after: LATER };
        };
        if let Some(retry_after) = self.rests(Instant::now()) {
            count(&self.busy);
            return Answer::Busy { retry_after };
        }
        match self.exchange(operation, message).await {
            Ok(answer) => Answer::message(answer),
            Err(error) => answer_of(error),
        }
    }

    /// Sends a message and counts what comes of it.
    pub(super) async fn exchange(
        &self,
        operation: Option<Operation>,
        message: &[u8],
    ) -> Result<Vec<u8>, ExchangeError> {
        count(&self.forwarded);
        let Upstream {
            url, client, check, ..
        } = &self.upstream;
        let answer = client.exchange(url, operation, message).await;
        let answer = match answer {
            Ok(answer) if check.reads() && !is_message(&answer) => {
                Err(ExchangeError::Protocol("it is no PKIMessage".to_owned()))
            }
            other => other,
        };
        match &answer {
            Ok(_) => {
                count(&self.answered);
                *self.condition() = Condition::default();
            }
            Err(error) => self.note(error, Instant::now()),
        }
        answer
    }

    fn note(&self, error: &ExchangeError, now: Instant) {
        count(&self.failed);
        let name = &self.upstream.name;
        tracing::debug!(upstream = name, %error, "no answer of a CMP server");
        let Rest { after, time } = self.upstream.rest;
        let mut condition = self.condition();
        condition.failures += 1;
        condition.last_failure = Some(error.to_string());
        if is_unreachable(error) {
            condition.unreachable += 1;
            if after > 0 && condition.unreachable >= after {
                if condition.rests_until.is_none() {
                    tracing::warn!(upstream = name, %error, "a CMP server cannot be reached");
                }
                condition.rests_until = Some(now + time);
            }
        } else {
            condition.unreachable = 0;
            condition.rests_until = None;
        }
    }

    /// For how long the server is still to be left alone. Who is let through after that tries for the others.
    fn rests(&self, now: Instant) -> Option<Duration> {
        let mut condition = self.condition();
        let until = condition.rests_until?;
        match until.checked_duration_since(now) {
            Some(left) if !left.is_zero() => Some(left),
            _ => {
                condition.rests_until = Some(now + self.upstream.rest.time);
                None
            }
        }
    }

    pub(super) fn stats(&self) -> UpstreamStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let forwarded = read(&self.forwarded);
        let condition = self.condition();
        let health = match (condition.rests_until, condition.failures) {
            (Some(_), _) => Health::Resting,
            (None, 0) if read(&self.answered) == 0 => Health::Unknown,
            (None, 0) => Health::Good,
            (None, _) => Health::Failing,
        };
        UpstreamStats {
            name: self.upstream.name.clone(),
            forwarded,
            answered: read(&self.answered),
            refused: read(&self.refused),
            busy: read(&self.busy),
            failed: read(&self.failed),
            failures_in_a_row: condition.failures,
            last_failure: condition.last_failure.clone(),
            under_way: self.max.saturating_sub(self.places.available_permits()),
            health,
        }
    }
}

/// Whether there was no connection to begin with.
fn is_unreachable(error: &ExchangeError) -> bool {
    matches!(
        error,
        ExchangeError::Unresolvable(_)
            | ExchangeError::Socket(_)
            | ExchangeError::Connect(_)
            | ExchangeError::Untrusted(_)
            | ExchangeError::Handshake(_)
    )
}

/// What the device is told of an upstream that did not answer with a PKIMessage (RFC 7252 §10.1): nothing of what is behind us but whether it
/// may come again.
fn answer_of(error: ExchangeError) -> Answer {
    match error {
        ExchangeError::NoAnswer
        | ExchangeError::Refused {
            code: ResponseCode::Http(408 | 504),
            ..
        } => Answer::Gateway(Gateway::Timeout),
        ExchangeError::Refused {
            code: ResponseCode::Http(404 | 410),
            ..
        } => Answer::NoSuchTarget,
        ExchangeError::Refused {
            code: ResponseCode::Http(429 | 503),
            retry_after,
            ..
        } => Answer::Busy {
            retry_after: retry_after.unwrap_or(LATER),
        },
        ExchangeError::Busy => Answer::Busy { retry_after: LATER },
        _ => Answer::Gateway(Gateway::Bad),
    }
}
