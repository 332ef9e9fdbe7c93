//! Which peers were refused because of their certificates.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use homefleet_api::PeerRefusal;
use homefleet_trust::{Decision, Refusal};

use crate::account::hex;
use crate::clock::Millis;

/// Refusals remembered one by one; older ones are only counted.
const REMEMBERED: usize = 64;
/// Longest text of a refused certificate that is remembered, in bytes: nobody has vouched for it.
const MAX_TEXT: usize = 256;

/// Counts refusals by reason and remembers the last ones.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    by_reason: BTreeMap<String, u64>,
    last: VecDeque<PeerRefusal>,
}

impl Refusals {
    /// Takes note of a decision against a peer.
    pub fn note(&self, now: Millis, decision: &Decision, initiated: bool) {
        let Some(refusal) = decision.refusal() else {
            return;
        };
        let reason = reason(refusal);
        let presented = decision.chain.first();
        let mut entry = PeerRefusal {
            time: now.to_timestamp(),
            count: 1,
            message: refusal.to_string(),
            alert: refusal.alert().code(),
            subject: presented.map(|certificate| cut(&certificate.subject)),
            fingerprint: presented.map(|certificate| hex(&certificate.fingerprint)),
            initiated,
            reason: reason.clone(),
        };
        entry.message = cut(&entry.message);
        let mut inner = self.lock();
        *inner.by_reason.entry(reason).or_default() += 1;
        // A device that tries again and again is one line.
        let same = inner.last.iter().position(|other| {
            (&other.reason, &other.fingerprint, other.initiated)
                == (&entry.reason, &entry.fingerprint, entry.initiated)
        });
        if let Some(earlier) = same.and_then(|at| inner.last.remove(at)) {
            entry.count = earlier.count.saturating_add(1);
        }
        inner.last.push_front(entry);
        inner.last.truncate(REMEMBERED);
    }

    /// The last ones, the newest first.
    pub fn last(&self) -> Vec<PeerRefusal> {
        self.lock().last.iter().cloned().collect()
    }

    /// How many there were of each reason.
    pub fn by_reason(&self) -> Vec<(String, u64)> {
        self.lock()
            .by_reason
            .iter()
            .map(|(reason, count)| (reason.clone(), *count))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of a reason as a label: `NotYetValid { level: 0 }` is `not_yet_valid`. There are as many as the enum has variants.
fn reason(refusal: &Refusal) -> String {
    let debug = format!("{refusal:?}");
    let name = debug
        .split(|c: char| !c.is_ascii_alphanumeric())
        .next()
        .unwrap_or_default();
    let mut label = String::with_capacity(name.len() + 4);
    for (index, c) in name.char_indices() {
        if c.is_ascii_uppercase() && index > 0 {
            label.push('_');
        }
        label.push(c.to_ascii_lowercase());
    }
    label
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_named_by_its_variant() {
        assert_eq!(reason(&Refusal::NotYetValid { level: 3 }), "not_yet_valid");
        assert_eq!(reason(&Refusal::NoCertificate), "no_certificate");
    }

    #[test]
    fn a_peer_that_tries_again_is_one_line_and_the_list_is_bounded() {
        let decision = |subject: u8, refusal| {
            let mut decision = homefleet_trust::decide(
                &[],
                &homefleet_trust::Context::new(
                    &[],
                    homefleet_trust::Time::Unknown,
                    homefleet_trust::Connection::Accepted,
                    &homefleet_trust::Policy::default(),
                ),
            );
            decision.refuse(refusal);
            decision.chain.push(homefleet_trust::ChainCertificate {
                subject: format!("CN={subject}"),
                issuer: String::new(),
                not_before: std::time::UNIX_EPOCH,
                not_after: std::time::UNIX_EPOCH,
                fingerprint: [subject; 32],
                source: homefleet_trust::Source::Presented(0),
            });
            decision
        };
        let refusals = Refusals::default();
        for peer in 0..100 {
            refusals.note(Millis(1), &decision(peer, Refusal::UnknownIssuer), false);
        }
        assert_eq!(refusals.last().len(), REMEMBERED);
        refusals.note(Millis(2), &decision(50, Refusal::UnknownIssuer), false);
        let last = refusals.last();
        assert_eq!(last.len(), REMEMBERED);
        assert_eq!(
            (last[0].count, last[0].subject.as_deref()),
            (2, Some("CN=50"))
        );
        assert_eq!(refusals.by_reason(), [("unknown_issuer".to_owned(), 101)]);
    }
}
