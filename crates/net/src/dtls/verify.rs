//! Who decides about a peer's certificate, and what it is told.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use homefleet_trust::{Anchor, Connection, Context, Decision, Policy, Time};

/// What the association is for, as seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role<'a> {
    /// We wanted to reach this host, or this Endpoint.
    Initiated {
        /// Host of the URI: a name or an address literal.
        host: &'a str,
        /// Endpoint ID expected behind it, when known.
        endpoint_id: Option<&'a str>,
    },
    /// The peer came to us.
    Accepted,
}

/// Decides about the certificates a peer presented, leaf first, before any application data passes.
pub trait Verifier: Send + Sync {
    /// Decides. An empty chain means that the peer presented none and must be refused (R-MTP.1).
    fn verify(&self, chain: &[Vec<u8>], role: Role<'_>) -> Decision;

    /// A number that changes when what the decision rests on changes (anchors, policy): sessions from before are
    /// not resumed, and peers of open associations are judged again before anything more passes.
    fn generation(&self) -> u64 {
        0
    }
}

struct Grounds {
    anchors: Vec<Anchor>,
    policy: Policy,
}

/// The decision of Figure MTP.1 over a set of anchors that can be replaced at run time.
pub struct TrustVerifier {
    grounds: RwLock<Grounds>,
    generation: AtomicU64,
    time: Box<dyn Fn() -> Time + Send + Sync>,
}

impl TrustVerifier {
    /// Trusts `anchors` under `policy`; `time` says what time it is, or that nobody knows (R-MTP.2).
    pub fn new(
        anchors: Vec<Anchor>,
        policy: Policy,
        time: impl Fn() -> Time + Send + Sync + 'static,
    ) -> Self {
        Self {
            grounds: RwLock::new(Grounds { anchors, policy }),
            generation: AtomicU64::new(1),
            time: Box::new(time),
        }
    }

    /// Trusts `anchors` from now on, and no other. Tickets from before are void; peers of open associations are judged
    /// again.
    pub fn replace_anchors(&self, anchors: Vec<Anchor>) {
        self.grounds
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .anchors = anchors;
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Applies `policy` from now on. Tickets from before are void; peers of open associations are judged again.
    pub fn replace_policy(&self, policy: Policy) {
        self.grounds
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .policy = policy;
        self.generation.fetch_add(1, Ordering::SeqCst);
    }
}

impl Verifier for TrustVerifier {
    fn verify(&self, chain: &[Vec<u8>], role: Role<'_>) -> Decision {
        let grounds = self.grounds.read().unwrap_or_else(PoisonError::into_inner);
        homefleet_trust::decide(
            chain,
            &Context::new(
                &grounds.anchors,
                (self.time)(),
                match role {
                    Role::Initiated { host, endpoint_id } => {
                        Connection::Initiated { host, endpoint_id }
                    }
                    Role::Accepted => Connection::Accepted,
                },
                &grounds.policy,
            ),
        )
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for TrustVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let anchors = self
            .grounds
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .anchors
            .len();
        f.debug_struct("TrustVerifier")
            .field("anchors", &anchors)
            .finish_non_exhaustive()
    }
}
