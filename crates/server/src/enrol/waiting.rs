//! Requests that wait for an operator: how they are kept, and how a poll finds its own.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use homefleet_cmp::asn1::{Body, Limits, Message};
use homefleet_net::cmp::{Operation, Scheme, Target};

use super::machine::{KeptRequest, Origin};

/// Version of what is kept.
const VERSION: u8 = 1;
/// Transactions that a request is looked for by, at most; approvals are bounded by the CA's own limit.
const MAX_TRANSACTIONS: usize = 65_536;

/// Which approval belongs to which transaction.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    by_transaction: HashMap<Vec<u8>, String>,
    /// By SHA-256 of the key and who asks: somebody who begins anew finds the request that is there.
    by_key: HashMap<([u8; 32], String), String>,
}

impl Waiting {
    pub(super) fn of_transaction(&self, transaction: &[u8]) -> Option<String> {
        self.lock().by_transaction.get(transaction).cloned()
    }

    pub(super) fn of_key(&self, key: [u8; 32], requester: &str) -> Option<String> {
        let known = self.lock();
        known.by_key.get(&(key, requester.to_owned())).cloned()
    }

    pub(super) fn add(&self, transaction: &[u8], key: [u8; 32], requester: &str, approval: &str) {
        let mut known = self.lock();
        if known.by_transaction.len() >= MAX_TRANSACTIONS {
            // Whoever polls for one of them begins anew, and finds its request by its key.
            known.by_transaction.clear();
        }
        known
            .by_transaction
            .insert(transaction.to_vec(), approval.to_owned());
        known
            .by_key
            .insert((key, requester.to_owned()), approval.to_owned());
    }

    /// The request is decided for good, or gone.
    pub(super) fn remove(&self, approval: &str) {
        let mut known = self.lock();
        known.by_transaction.retain(|_, id| id != approval);
        known.by_key.retain(|_, id| id != approval);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is kept of a request: how it came, and the message.
pub(super) fn write(origin: &Origin, message: &[u8]) -> Vec<u8> {
    let mut out = vec![VERSION];
    for text in [
        origin.scheme.as_str(),
        &origin.from.to_string(),
        origin.target.label.as_deref().unwrap_or_default(),
        origin.target.operation.map_or("", Operation::http_name),
    ] {
        // Labels have at most 255 bytes.
        out.push(u8::try_from(text.len()).unwrap_or(0));
        out.extend_from_slice(text.as_bytes());
    }
    out.extend_from_slice(message);
    out
}

/// Reads what [`write`] wrote.
pub(super) fn read(kept: &[u8]) -> Option<KeptRequest> {
    let (&VERSION, mut rest) = kept.split_first()? else {
        return None;
    };
    let mut next = || {
        let (&length, after) = rest.split_first()?;
        let (text, after) = after.split_at_checked(usize::from(length))?;
        rest = after;
        std::str::from_utf8(text).ok()
    };
    let scheme = Scheme::parse(next()?)?;
    let from: SocketAddr = next()?.parse().ok()?;
    let label = Some(next()?.to_owned()).filter(|label| !label.is_empty());
    let operation = Operation::parse(next()?);
    Some(KeptRequest {
        message: rest.to_vec(),
        origin: Origin {
            target: Target { label, operation },
            from,
            scheme,
        },
    })
}

/// The transaction of a message, of the one inside when an RA added its protection.
pub(super) fn transaction(message: &[u8], limits: &Limits) -> Option<Vec<u8>> {
    let message = Message::decode(message, limits).ok()?;
    let of = |message: &Message| {
        let id = message.header.transaction_id.as_ref();
        id.map(|id| id.as_bytes().to_vec())
    };
    if let Body::Nested(_) = &*message.body {
        return message.nested(limits).ok()?.first().and_then(of);
    }
    of(&message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_kept_of_a_request_is_read_again() {
        for (label, operation) in [
            (None, None),
            (Some("home".to_owned()), Some(Operation::Pkcs10)),
        ] {
            let origin = Origin {
                target: Target { label, operation },
                from: "[2001:db8::1]:829".parse().unwrap(),
                scheme: Scheme::Coaps,
            };
            let kept = read(&write(&origin, b"message")).unwrap();
            assert_eq!(kept.message, b"message");
            assert_eq!(kept.origin.from, origin.from);
            assert_eq!(kept.origin.scheme, origin.scheme);
            assert_eq!(kept.origin.target, origin.target);
        }
        for wrong in [&b""[..], &[VERSION], &[VERSION, 200, 1], &[2, 0, 0, 0, 0]] {
            assert!(read(wrong).is_none());
        }
    }

    #[test]
    fn a_request_is_found_by_its_transaction_and_by_key_and_requester() {
        let waiting = Waiting::default();
        waiting.add(b"one", [1; 32], "somebody", "a");
        waiting.add(b"two", [1; 32], "somebody", "a");
        assert_eq!(waiting.of_transaction(b"one").as_deref(), Some("a"));
        assert_eq!(waiting.of_key([1; 32], "somebody").as_deref(), Some("a"));
        assert_eq!(waiting.of_key([1; 32], "somebody else"), None);
        waiting.remove("a");
        assert_eq!(waiting.of_transaction(b"two"), None);
        assert_eq!(waiting.of_key([1; 32], "somebody"), None);
    }
}
