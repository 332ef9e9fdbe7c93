//! Which servers a client believes.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use homefleet_trust::{Anchor, Decision, Policy, Refusal, Time};

use crate::dtls::{Role, TrustVerifier, Verifier};

/// Which servers are believed over DTLS and TLS.
#[derive(Clone)]
pub enum ServerTrust {
    /// Those with a certificate of one of these CAs, for the host of the URL.
    Anchors(Vec<Anchor>),
    /// Any: the certificate is looked at by nobody. For the first enrolment, when nothing is known yet but a secret, or a certificate of the
    /// manufacturer's, that CMP's own protection is made by: who does not have it, too, cannot answer (RFC 9482 §4). What travels can be
    /// read by whoever puts himself in between.
    FromCmp,
    /// Whoever this accepts.
    Verifier(Arc<dyn Verifier>),
}

impl ServerTrust {
    pub(super) fn verifier(&self) -> Arc<dyn Verifier> {
        match self {
            Self::Anchors(anchors) => {
                let verifier = TrustVerifier::new(anchors.clone(), Policy::default(), || {
                    Time::Accurate(SystemTime::now())
                });
                Arc::new(ServersOnly(Arc::new(verifier)))
            }
            Self::FromCmp => Arc::new(ServersOnly(Arc::new(Anybody))),
            Self::Verifier(verifier) => Arc::new(ServersOnly(verifier.clone())),
        }
    }
}

impl fmt::Debug for ServerTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anchors(anchors) => f.debug_tuple("Anchors").field(&anchors.len()).finish(),
            Self::FromCmp => f.write_str("FromCmp"),
            Self::Verifier(_) => f.write_str("Verifier"),
        }
    }
}

/// Takes every server.
struct Anybody;

impl Verifier for Anybody {
    fn verify(&self, chain: &[Vec<u8>], _: Role<'_>, _: bool) -> Decision {
        Decision::not_verified(chain)
    }
}

/// A client serves nobody: who comes to it is refused.
struct ServersOnly(Arc<dyn Verifier>);

impl Verifier for ServersOnly {
    fn verify(&self, chain: &[Vec<u8>], role: Role<'_>, cached: bool) -> Decision {
        match role {
            Role::Initiated { .. } => self.0.verify(chain, role, cached),
            Role::Accepted => {
                let mut decision = Decision::not_verified(chain);
                decision.refuse(Refusal::UnknownIssuer);
                decision
            }
        }
    }

    fn generation(&self) -> u64 {
        self.0.generation()
    }

    fn time(&self) -> Option<SystemTime> {
        self.0.time()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_to_a_client_is_refused_whatever_it_shows() {
        for trust in [ServerTrust::FromCmp, ServerTrust::Anchors(Vec::new())] {
            let verifier = trust.verifier();
            for chain in [Vec::new(), vec![b"certificate".to_vec()]] {
                assert!(
                    !verifier
                        .verify(&chain, Role::Accepted, false)
                        .is_established()
                );
            }
        }
    }
}
