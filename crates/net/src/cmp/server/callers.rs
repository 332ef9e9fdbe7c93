//! Who may come over DTLS: everybody. The only question is whether it is known who it is.

use std::sync::Arc;
use std::time::SystemTime;

use homefleet_trust::{Decision, Refusal};

use crate::dtls::{Role, Verifier};

/// Takes every client; one that `0` accepts is known by its certificate.
pub(super) struct Callers(pub(super) Option<Arc<dyn Verifier>>);

impl Verifier for Callers {
    fn verify(&self, chain: &[Vec<u8>], role: Role<'_>, cached: bool) -> Decision {
        if matches!(role, Role::Initiated { .. }) {
            // Nobody is reached out to from here.
            let mut decision = Decision::not_verified(chain);
            decision.refuse(Refusal::UnknownIssuer);
            return decision;
        }
        // A factory's certificate that nobody knows here, an operational one that has expired and is to be renewed: the message's own
        // protection decides. One whose revocation is still to be found out is not waited for either.
        self.0
            .as_ref()
            .filter(|_| !chain.is_empty())
            .map(|verifier| verifier.verify(chain, role, cached))
            .filter(Decision::is_established)
            .unwrap_or_else(|| Decision::not_verified(chain))
    }

    fn generation(&self) -> u64 {
        self.0.as_ref().map_or(0, |verifier| verifier.generation())
    }

    fn time(&self) -> Option<SystemTime> {
        match &self.0 {
            Some(verifier) => verifier.time(),
            None => Some(SystemTime::now()),
        }
    }
}
