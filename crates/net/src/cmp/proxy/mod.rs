//! A reverse proxy from CoAP to the HTTP of a CMP server that speaks nothing else (RFC 9482 §3, RFC 7252 §10).
//!
//! ```text
//!   device ── coap, coaps ──▶ CoapListener ──▶ Proxy ── http, https ──▶ one of the upstreams that are configured
//!                                                route, check, role, room
//! ```
//!
//! # Goals
//! - Only preconfigured servers are reached, each by the label in the path or by the host that was asked for ([`Route`]). A device names no
//!   server.
//! - What the proxy may look at is looked at before the CA is bothered ([`Check`]), and who may ask for what is decided here ([`Role`]). It
//!   holds no key, so it changes nothing, and the protection stays the sender's.
//! - Messages under way are bounded, per upstream in number, per client and in all in bytes ([`Room`]), and timed; every outcome is counted,
//!   so that an upstream that is ill is seen ([`UpstreamStats`]).

mod check;
mod role;
mod room;
mod upstream;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use homefleet_cmp::Refusal;

use self::room::{Full, Rooms};
use self::upstream::{Behind, count};
use super::client::ExchangeError;
use super::service::{Answer, BoxFuture, Request, Service, Status};
use super::target::Operation;

pub use self::check::{Check, Keys};
pub use self::role::Role;
pub use self::room::Room;
pub use self::upstream::{Health, Rest, Upstream, UpstreamStats};

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

/// What the proxy counts besides, since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyStats {
    /// Requests that no route fits.
    pub astray: u64,
    /// Requests that none of the sender's roles allows.
    pub forbidden: u64,
    /// Requests that found no room for their bytes.
    pub no_room: u64,
    /// Bytes held now.
    pub held: usize,
    /// The most that ever were.
    pub most_held: usize,
}

/// Passes messages on to upstreams.
pub struct Proxy {
    routes: Vec<Route>,
    behind: Vec<Arc<Behind>>,
    roles: Vec<Role>,
    rooms: Arc<Rooms>,
    astray: AtomicU64,
    forbidden: AtomicU64,
    no_room: AtomicU64,
}

/// A route names an upstream that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a route leads to upstream {0}, which is not there")]
pub struct NoUpstream(pub usize);

impl Proxy {
    /// A proxy in front of these, where everybody may ask for everything.
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
        Ok(Self {
            routes,
            behind: upstreams.into_iter().map(Behind::new).collect(),
            roles: Vec::new(),
            rooms: Arc::new(Rooms::new(Room::default())),
            astray: AtomicU64::new(0),
            forbidden: AtomicU64::new(0),
            no_room: AtomicU64::new(0),
        })
    }

    /// Only what one of these roles allows its members is passed on.
    #[must_use]
    pub fn with_roles(self, roles: Vec<Role>) -> Self {
        Self { roles, ..self }
    }

    /// So many bytes are held.
    #[must_use]
    pub fn with_room(self, room: Room) -> Self {
        let rooms = Arc::new(Rooms::new(room));
        Self { rooms, ..self }
    }

    /// How the upstreams fare.
    pub fn stats(&self) -> Vec<UpstreamStats> {
        self.behind.iter().map(|behind| behind.stats()).collect()
    }

    /// What else was counted.
    pub fn counts(&self) -> ProxyStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (held, most_held) = self.rooms.held();
        ProxyStats {
            astray: read(&self.astray),
            forbidden: read(&self.forbidden),
            no_room: read(&self.no_room),
            held,
            most_held,
        }
    }

    /// Asks an upstream a question of our own, such as what has become of its root: as if a device had, but within none of a device's
    /// bounds. Its answer is counted.
    ///
    /// # Errors
    /// [`ExchangeError`]; [`ExchangeError::Busy`] where there is no such upstream.
    pub async fn ask(
        &self,
        upstream: usize,
        operation: Option<Operation>,
        message: &[u8],
    ) -> Result<Vec<u8>, ExchangeError> {
        let behind = self.behind.get(upstream).ok_or(ExchangeError::Busy)?;
        behind.exchange(operation, message).await
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

    async fn pass_on(&self, request: &Request, behind: &Behind) -> Answer {
        let room = self.rooms.take(request.from.ip(), request.message.len());
        let _held = match room {
            Ok(held) => held,
            Err(full) => {
                count(&self.no_room);
                let retry_after = upstream::LATER;
                return match full {
                    Full::Client => Answer::TooMany { retry_after },
                    Full::All => Answer::Busy { retry_after },
                };
            }
        };
        if let Err(status) = self.admit(request, behind) {
            count(&behind.refused);
            return Answer::Refused(status);
        }
        let operation = request.target.operation;
        behind.forward(operation, &request.message).await
    }

    fn admit(&self, request: &Request, behind: &Behind) -> Result<(), Status> {
        let Upstream {
            check, kinds, name, ..
        } = &behind.upstream;
        if !check.reads() && kinds.is_none() && self.roles.is_empty() {
            return Ok(());
        }
        let signer = self.roles.iter().any(|role| !role.anchors.is_empty());
        let refused = |refusal: Refusal| {
            tracing::debug!(upstream = name, from = %request.from.ip(), %refusal, "a message is not passed on");
            Status::of_failure(refusal.failure())
        };
        let seen = check::look(&request.message, check, signer).map_err(refused)?;
        let passes = kinds
            .as_ref()
            .is_none_or(|kinds| seen.kinds.iter().all(|kind| kinds.contains(kind)));
        if !passes || !role::allowed(&self.roles, request, &seen) {
            count(&self.forbidden);
            return Err(Status::Forbidden);
        }
        Ok(())
    }
}

impl Service for Proxy {
    fn answer(self: Arc<Self>, request: Request) -> BoxFuture<'static, Answer> {
        match self.route(&request) {
            Some(behind) => Box::pin(async move { self.pass_on(&request, &behind).await }),
            None => {
                count(&self.astray);
                Box::pin(async { Answer::NoSuchTarget })
            }
        }
    }

    fn is_bare(&self) -> bool {
        self.routes.iter().any(|route| route.label.is_none())
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

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("routes", &self.routes)
            .field("upstreams", &self.behind.len())
            .finish_non_exhaustive()
    }
}
