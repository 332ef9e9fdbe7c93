//! What the evidence says about a path, and what is missing.

use std::time::SystemTime;

use super::{
    Authority, Preference, Revocation, RevocationScope, Unknown, Wanted, ocsp::CertStatus,
};
use crate::{certificate::Certificate, context::Time, error::RevocationReason, path::Link};

/// The answer to "Revoked?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// None of the certificates looked at is; they are so many. The evidence is good until then.
    Good {
        certificates: usize,
        until: Option<SystemTime>,
    },
    /// The one at this level is.
    Revoked {
        level: usize,
        reason: RevocationReason,
    },
    /// To be fetched first. Never empty.
    Wanted(Vec<Wanted>),
    /// About the one at this level nothing can be found out for now.
    Unclear {
        level: usize,
        why: &'static str,
        /// It can be tried again then; `None`: there is nothing to try, or time is unknown.
        again: Option<SystemTime>,
    },
    /// No trusted issuer could say anything.
    NoIssuer,
}

/// What is known about one certificate.
enum Finding {
    Good(Option<SystemTime>),
    Revoked(RevocationReason),
    Wanted(Wanted),
    /// Why, and whether it is worth another try later.
    Unclear(&'static str, bool),
}

/// Looks at the certificates of a valid path, the peer's first, the anchor last.
pub(crate) fn judge(revocation: &Revocation, path: &[Link<'_>], time: Time) -> Verdict {
    let looked_at = match revocation.policy.scope {
        RevocationScope::Leaf => 1,
        RevocationScope::Chain => path.len(),
    };
    let (mut wanted, mut unclear, mut until) = (Vec::new(), None, None);
    let (mut certificates, mut worth_it) = (0, false);
    for (level, pair) in path.windows(2).take(looked_at).enumerate() {
        let (certificate, issuer) = (pair[0].certificate, pair[1].certificate);
        match find(revocation, certificate, issuer, time) {
            Finding::Good(end) => {
                certificates += 1;
                until = earliest(until, end);
            }
            Finding::Revoked(reason) => return Verdict::Revoked { level, reason },
            Finding::Wanted(one) => wanted.push(one),
            Finding::Unclear(why, retry) => {
                unclear.get_or_insert((level, why));
                worth_it |= retry;
            }
        }
    }
    match unclear {
        // Nothing that could come would change it.
        Some((level, why)) if revocation.policy.unknown == Unknown::Refuse || wanted.is_empty() => {
            let again = match time {
                Time::Accurate(now) if worth_it => {
                    now.checked_add(revocation.policy.remember_failure)
                }
                _ => None,
            };
            let again = earliest(until, again);
            Verdict::Unclear { level, why, again }
        }
        _ if !wanted.is_empty() => Verdict::Wanted(wanted),
        _ if certificates == 0 => Verdict::NoIssuer,
        _ => Verdict::Good {
            certificates,
            until,
        },
    }
}

/// For a certificate that is trusted without its issuer: whether one of that name is known to have revoked it.
pub(crate) fn judge_without_issuer(revocation: &Revocation, leaf: &Certificate<'_>) -> Verdict {
    let name = leaf.issuer.key();
    let listed = revocation
        .lists
        .iter()
        .filter(|known| known.authority.name == name)
        .find_map(|known| known.says.reason(leaf.serial));
    let answered = || {
        revocation.answers.iter().find_map(|((serial, _), known)| {
            match (serial == leaf.serial, known.says.status) {
                (true, CertStatus::Revoked(reason)) if known.authority.name == name => Some(reason),
                _ => None,
            }
        })
    };
    match listed.or_else(answered) {
        Some(reason) => Verdict::Revoked { level: 0, reason },
        None => Verdict::NoIssuer,
    }
}

/// The earlier of two ends.
pub(crate) fn earliest(a: Option<SystemTime>, b: Option<SystemTime>) -> Option<SystemTime> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Revoked counts before good, good before what is out of date, and a revocation that is out of date before nothing: a peer
/// that keeps us from the news must not become good by that.
fn find(
    revocation: &Revocation,
    certificate: &Certificate<'_>,
    issuer: &Certificate<'_>,
    time: Time,
) -> Finding {
    let authority = Authority::of(issuer);
    let may_sign = issuer
        .extensions
        .key_usage
        .is_none_or(|usage| usage.crl_sign());
    let (mut revoked, mut good, mut stale) = (None, None, None);
    let lists = revocation
        .lists
        .iter()
        .filter(|known| may_sign && known.authority == authority);
    for known in lists {
        let Some(status) = known.says.status(certificate) else {
            continue;
        };
        known.note_use();
        match (status, known.is_fresh(time)) {
            (Some(reason), true) => revoked = Some(reason),
            (Some(reason), false) => stale = Some(reason),
            (None, true) => good = Some(known.until),
            (None, false) => {}
        }
    }
    let mut unknown_to_responder = false;
    let key = (certificate.serial.to_vec(), authority);
    if let Some(known) = revocation.answers.get(&key) {
        known.note_use();
        match (known.says.status, known.is_fresh(time)) {
            (CertStatus::Revoked(reason), true) => revoked = Some(reason),
            (CertStatus::Revoked(reason), false) => stale = Some(reason),
            (CertStatus::Good, true) => good = Some(known.until),
            (CertStatus::Unknown, true) => unknown_to_responder = true,
            (CertStatus::Good | CertStatus::Unknown, false) => {}
        }
    }
    match (revoked, good, stale) {
        (Some(reason), _, _) => Finding::Revoked(reason),
        (None, Some(until), _) => Finding::Good(until),
        (None, None, Some(reason)) => Finding::Revoked(reason),
        (None, None, None) => missing(revocation, certificate, issuer, unknown_to_responder),
    }
}

/// What to fetch about it: one thing at a time, the next when the first has failed.
fn missing(
    revocation: &Revocation,
    certificate: &Certificate<'_>,
    issuer: &Certificate<'_>,
    unknown_to_responder: bool,
) -> Finding {
    let extensions = &certificate.extensions;
    let ocsp = || {
        extensions
            .ocsp_urls
            .iter()
            .filter(|_| !unknown_to_responder)
            .map(|url| Wanted::Ocsp {
                url: (*url).to_owned(),
                issuer: issuer.der.to_vec(),
                serial: certificate.serial.to_vec(),
                hash: revocation.policy.cert_id_hash,
            })
    };
    let crl = || {
        extensions.crl_urls.iter().map(|url| Wanted::Crl {
            url: (*url).to_owned(),
            issuer: issuer.der.to_vec(),
            for_ca: extensions.basic_constraints.is_some_and(|c| c.ca),
        })
    };
    let untried = |wanted: &Wanted| !revocation.failures.contains_key(&wanted.key());
    let found = match revocation.policy.preference {
        Preference::Ocsp => ocsp().chain(crl()).find(untried),
        Preference::Crl => crl().chain(ocsp()).find(untried),
    };
    match found {
        Some(wanted) => Finding::Wanted(wanted),
        None if unknown_to_responder => Finding::Unclear("the responder does not know it", true),
        None if extensions.ocsp_urls.is_empty() && extensions.crl_urls.is_empty() => {
            let why = "no CRL of its issuer is known, and it names no http address for one";
            Finding::Unclear(why, false)
        }
        None => Finding::Unclear("what would tell could not be fetched", true),
    }
}
