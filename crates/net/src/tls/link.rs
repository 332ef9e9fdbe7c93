//! What one handshake and the engine's callbacks share.
//!
//! The engine's configuration, its verifier and its session stores serve every connection, and are not told which one they
//! are asked about. They are only ever asked from within a poll of that connection, so the connection is the task-local
//! [`LINK`] for as long as it is polled.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use homefleet_trust::{Decision, Outcome};

use crate::dtls::{Purpose, Verifier};

tokio::task_local! {
    pub(super) static LINK: Arc<Link>;
}

/// The connection that is polled, if one is.
pub(super) fn current() -> Option<Arc<Link>> {
    LINK.try_with(Arc::clone).ok()
}

/// Certificates, leaf first, as DER.
pub(super) type Chain = Arc<[Vec<u8>]>;

/// What was decided, about which chain, and on which grounds.
#[derive(Clone)]
pub(super) struct Verdict {
    pub(super) chain: Chain,
    pub(super) decision: Decision,
    /// The verifier's, read before it was asked.
    pub(super) generation: u64,
}

pub(super) struct Link {
    pub(super) verifier: Arc<dyn Verifier>,
    pub(super) purpose: Purpose,
    verdict: Mutex<Option<Verdict>>,
}

impl Link {
    pub(super) fn new(verifier: Arc<dyn Verifier>, purpose: Purpose) -> Arc<Self> {
        Arc::new(Self {
            verifier,
            purpose,
            verdict: Mutex::new(None),
        })
    }

    /// Asks the verifier, and remembers what it said.
    pub(super) fn decide(&self, chain: Chain, cached: bool) -> Outcome {
        let generation = self.verifier.generation();
        let decision = self.verifier.verify(&chain, self.purpose.role(), cached);
        let outcome = decision.outcome.clone();
        *self.lock() = Some(Verdict {
            chain,
            decision,
            generation,
        });
        outcome
    }

    /// The last decision.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Verdict>> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
