//! Requests that come twice (R-MSG.4): the second gets the answer of the first, and nothing is done again.

use std::{
    collections::{BTreeMap, VecDeque, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
    time::{Duration, Instant},
};

/// How long an answer is remembered: longer than any MTP repeats (CoAP EXCHANGE_LIFETIME, 247 s).
const LIFETIME: Duration = Duration::from_secs(300);

/// How many answers are remembered.
const MAX_ENTRIES: usize = 256;

/// How many bytes of answers are remembered.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Answers to the latest requests, by controller and Message ID.
#[derive(Debug, Default)]
pub(super) struct Duplicates {
    answers: BTreeMap<(String, String), Answer>,
    order: VecDeque<(String, String)>,
    bytes: usize,
}

#[derive(Debug)]
struct Answer {
    request: u64,
    at: Instant,
    /// The encoded Message; `None`: this request wants no answer.
    message: Option<Vec<u8>>,
}

impl Duplicates {
    /// The answer of the same request, if it was here already. A Message ID that comes back with another
    /// content is a new request: its sender has started again.
    pub(super) fn find(
        &self,
        now: Instant,
        from: &str,
        msg_id: &str,
        payload: &[u8],
    ) -> Option<Option<Vec<u8>>> {
        let answer = self.answers.get(&(from.to_owned(), msg_id.to_owned()))?;
        let fresh = now.saturating_duration_since(answer.at) < LIFETIME;
        (fresh && answer.request == digest(payload)).then(|| answer.message.clone())
    }

    /// Remembers the answer to a request.
    pub(super) fn insert(
        &mut self,
        now: Instant,
        from: &str,
        msg_id: &str,
        payload: &[u8],
        message: Option<Vec<u8>>,
    ) {
        let key = (from.to_owned(), msg_id.to_owned());
        let size = message.as_ref().map_or(0, Vec::len);
        let answer = Answer {
            request: digest(payload),
            at: now,
            message,
        };
        match self.answers.insert(key.clone(), answer) {
            Some(old) => self.bytes -= old.message.map_or(0, |message| message.len()),
            None => self.order.push_back(key),
        }
        self.bytes += size;
        while self.order.len() > MAX_ENTRIES || (self.bytes > MAX_BYTES && self.order.len() > 1) {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if let Some(old) = self.answers.remove(&oldest) {
                self.bytes -= old.message.map_or(0, |message| message.len());
            }
        }
    }
}

/// Tells payloads of one authenticated controller apart; it need not resist that controller.
fn digest(payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_same_request_finds_its_answer_until_it_is_old() {
        let (mut duplicates, now) = (Duplicates::default(), Instant::now());
        duplicates.insert(now, "self::c", "1", b"request", Some(b"answer".to_vec()));
        assert_eq!(
            duplicates.find(now, "self::c", "1", b"request"),
            Some(Some(b"answer".to_vec()))
        );
        assert_eq!(duplicates.find(now, "self::c", "1", b"another"), None);
        assert_eq!(duplicates.find(now, "self::d", "1", b"request"), None);
        assert_eq!(
            duplicates.find(now + LIFETIME, "self::c", "1", b"request"),
            None
        );
    }

    #[test]
    fn memory_is_bounded_by_number_and_by_bytes() {
        let (mut duplicates, now) = (Duplicates::default(), Instant::now());
        for number in 0..10_000 {
            duplicates.insert(now, "self::c", &number.to_string(), b"", None);
        }
        assert_eq!(duplicates.answers.len(), MAX_ENTRIES);
        for number in 0..10 {
            duplicates.insert(
                now,
                "self::c",
                &format!("b{number}"),
                b"",
                Some(vec![0; 1024 * 1024]),
            );
        }
        assert!(duplicates.bytes <= MAX_BYTES);
        assert!(duplicates.find(now, "self::c", "b9", b"").is_some());
    }
}
