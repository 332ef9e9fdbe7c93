//! A reverse proxy from CoAP to the HTTP of a CMP server that speaks nothing else (RFC 9482 §3, RFC 7252 §10).
//!
//! ```text
//!   device ── coap, coaps ──▶ CoapListener ──▶ Proxy ── http, https ──▶ one of the upstreams that are configured
//! ```
//!
//! # Goals
//! - Only preconfigured servers are reached, each by the label in the path or by the host that was asked for ([`Route`]). A device names no
//!   server.
//! - What the proxy may look at is looked at before the CA is bothered: that it is a PKIMessage at all, and that its kind may pass. It holds
//!   no key, so it changes nothing, and the protection stays the sender's.
//! - Messages under way are bounded per upstream and timed; every outcome is counted, so that an upstream that is ill is seen
//!   ([`UpstreamStats`]).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use homefleet_cmp::asn1::{BodyKind, Limits, Message};
use tokio::sync::Semaphore;

use super::client::{Client, ExchangeError, ResponseCode};
use super::service::{Answer, BoxFuture, Gateway, Request, Service, Status};
use super::url::Url;

/// When to come back to an upstream that says that it is busy, and not for how long.
const LATER: Duration = Duration::from_secs(30);

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
    /// Whether what is no PKIMessage is refused here.
    pub check: bool,
    /// Messages under way to it; over it 5.03.
    pub max_under_way: usize,
}

/// Which requests go to which upstream. Of several routes that fit the first is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The label in the path; `None`: the path without one.
    pub label: Option<String>,
    /// The host that was asked for, by Uri-Host or by the name that DTLS was opened for; `None`: any.
    pub host: Option<String>,
    /// The upstream, by its place in the list.
    pub upstream: usize,
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
    /// Messages that were not sent: no PKIMessage, or of a kind that may not pass.
    pub refused: u64,
    /// Messages that found all places taken.
    pub busy: u64,
    /// Messages that no PKIMessage came back to.
    pub failed: u64,
    /// Failures since the last answer: 0 is healthy.
    pub failures_in_a_row: u64,
    /// What the last failure was.
    pub last_failure: Option<String>,
}

struct Behind {
    upstream: Upstream,
    places: Arc<Semaphore>,
    forwarded: AtomicU64,
    answered: AtomicU64,
    refused: AtomicU64,
    busy: AtomicU64,
    failed: AtomicU64,
    in_a_row: AtomicU64,
    last_failure: Mutex<Option<String>>,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Passes messages on to upstreams.
pub struct Proxy {
    routes: Vec<Route>,
    behind: Vec<Arc<Behind>>,
}

/// A route names an upstream that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a route leads to upstream {0}, which is not there")]
pub struct NoUpstream(pub usize);

impl Proxy {
    /// A proxy in front of these.
    ///
    /// # Errors
    /// [`NoUpstream`].
    pub fn new(upstreams: Vec<Upstream>, routes: Vec<Route>) -> Result<Self, NoUpstream> {
        if let Some(route) = routes
            .iter()
            .find(|route| route.upstream >= upstreams.len())
        {
            return Err(NoUpstream(route.upstream));
        }
        let behind = upstreams.into_iter().map(|upstream| {
            Arc::new(Behind {
                places: Arc::new(Semaphore::new(
                    upstream.max_under_way.min(Semaphore::MAX_PERMITS),
                )),
                upstream,
                forwarded: AtomicU64::new(0),
                answered: AtomicU64::new(0),
                refused: AtomicU64::new(0),
                busy: AtomicU64::new(0),
                failed: AtomicU64::new(0),
                in_a_row: AtomicU64::new(0),
                last_failure: Mutex::new(None),
            })
        });
        Ok(Self {
            routes,
            behind: behind.collect(),
        })
    }

    /// How the upstreams fare.
    pub fn stats(&self) -> Vec<UpstreamStats> {
        self.behind.iter().map(|behind| behind.stats()).collect()
    }

    fn route(&self, request: &Request) -> Option<Arc<Behind>> {
        let route = self.routes.iter().find(|route| {
            route.label == request.target.label
                && route.host.as_ref().is_none_or(|host| {
                    let asked = request.host.as_deref().unwrap_or_default();
                    host.eq_ignore_ascii_case(asked.trim_end_matches('.'))
                })
        })?;
        self.behind.get(route.upstream).cloned()
    }
}

impl Service for Proxy {
    fn answer(self: Arc<Self>, request: Request) -> BoxFuture<'static, Answer> {
        match self.route(&request) {
            Some(behind) => Box::pin(async move { behind.forward(&request).await }),
            None => Box::pin(async { Answer::NoSuchTarget }),
        }
    }

    fn labels(&self) -> Vec<String> {
        let mut labels: Vec<String> = Vec::new();
        for label in self.routes.iter().filter_map(|route| route.label.as_ref()) {
            if !labels.contains(label) {
                labels.push(label.clone());
            }
        }
        labels
    }
}

impl Behind {
    async fn forward(&self, request: &Request) -> Answer {
        if let Err(status) = self.admit(&request.message) {
            count(&self.refused);
            return Answer::Refused(status);
        }
        let Ok(_place) = self.places.try_acquire() else {
            count(&self.busy);
            return Answer::Busy { retry_after: LATER };
        };
        count(&self.forwarded);
        let operation = request.target.operation;
        let Upstream { url, client, .. } = &self.upstream;
        match client.exchange(url, operation, &request.message).await {
            Ok(answer) => {
                count(&self.answered);
                self.in_a_row.store(0, Ordering::Relaxed);
                Answer::message(answer)
            }
            Err(error) => {
                count(&self.failed);
                count(&self.in_a_row);
                tracing::debug!(upstream = self.upstream.name, %error, "no answer of a CMP server");
                let text = error.to_string();
                *self
                    .last_failure
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some(text);
                answer_of(error)
            }
        }
    }

    fn admit(&self, message: &[u8]) -> Result<(), Status> {
        let Upstream { check, kinds, .. } = &self.upstream;
        if !check && kinds.is_none() {
            return Ok(());
        }
        let message =
            Message::decode(message, &Limits::default()).map_err(|_| Status::BadRequest)?;
        let kind = message.body.kind();
        match kinds {
            Some(kinds) if !kinds.contains(&kind) => Err(Status::Forbidden),
            _ => Ok(()),
        }
    }

    fn stats(&self) -> UpstreamStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        UpstreamStats {
            name: self.upstream.name.clone(),
            forwarded: read(&self.forwarded),
            answered: read(&self.answered),
            refused: read(&self.refused),
            busy: read(&self.busy),
            failed: read(&self.failed),
            failures_in_a_row: read(&self.in_a_row),
            last_failure: self
                .last_failure
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }
}

/// What the device is told of an upstream that did not answer with a PKIMessage (RFC 7252 §10.1): nothing of what is behind us but whether it
/// may come again.
fn answer_of(error: ExchangeError) -> Answer {
    match error {
        ExchangeError::NoAnswer => Answer::Gateway(Gateway::Timeout),
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

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("routes", &self.routes)
            .field("upstreams", &self.behind.len())
            .finish()
    }
}
