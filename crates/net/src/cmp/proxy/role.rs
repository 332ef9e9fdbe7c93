//! Who may have what passed on: role-based access control (RFC 9482 §4).

use homefleet_cmp::asn1::BodyKind;
use homefleet_trust::Anchor;

use super::check::{Seen, vouches};
use crate::cmp::service::Request;

/// Requesters of one sort, and what they may ask for.
#[derive(Debug, Clone)]
pub struct Role {
    /// What it is called in logs and counters.
    pub name: String,
    /// Who has it: whoever shows a certificate of one of these CAs, in DTLS or by signing the message; none: everybody.
    pub anchors: Vec<Anchor>,
    /// Only over `coaps`.
    pub secure: bool,
    /// The labels that it may use; `None`: every one, and none.
    pub labels: Option<Vec<String>>,
    /// The kinds of messages that it may send; `None`: all.
    pub kinds: Option<Vec<BodyKind>>,
}

impl Role {
    /// Whether the sender of this has the role.
    fn fits(&self, request: &Request, seen: &Seen) -> bool {
        if self.secure && !request.scheme.is_secure() {
            return false;
        }
        let label = request.target.label.as_ref();
        let has_label = |labels: &Vec<String>| label.is_some_and(|label| labels.contains(label));
        if !self.labels.as_ref().is_none_or(has_label) {
            return false;
        }
        self.anchors.is_empty() || self.by_session(request) || self.by_signature(seen)
    }

    fn by_session(&self, request: &Request) -> bool {
        let anchor = request.identity.as_ref().and_then(|peer| peer.anchor);
        anchor.is_some_and(|anchor| self.anchors.iter().any(|ca| ca.fingerprint() == anchor))
    }

    fn by_signature(&self, seen: &Seen) -> bool {
        seen.signer
            .as_ref()
            .is_some_and(|chain| vouches(&self.anchors, chain))
    }

    fn allows(&self, kinds: &[BodyKind]) -> bool {
        self.kinds
            .as_ref()
            .is_none_or(|allowed| kinds.iter().all(|kind| allowed.contains(kind)))
    }
}

/// Whether one of the sender's roles allows this. Where there are no roles, everything is.
pub(super) fn allowed(roles: &[Role], request: &Request, seen: &Seen) -> bool {
    roles.is_empty()
        || roles
            .iter()
            .any(|role| role.allows(&seen.kinds) && role.fits(request, seen))
}
