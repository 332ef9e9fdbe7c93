//! One-time login keys: a link that signs its first user in, printed by `homefleet demo`.
//!
//! A key stands for a token for ten minutes or until it is used, whichever comes first. Keys live in
//! memory only, and at most [`MAX_KEYS`] of them: issuing one more drops the oldest.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;

/// How many keys wait at the same time.
pub const MAX_KEYS: usize = 16;
/// How long a key can be used.
pub const KEY_LIFETIME: Duration = Duration::from_secs(600);

/// Keys that were issued and not used yet.
#[derive(Clone, Default)]
pub struct LoginKeys(Arc<Mutex<VecDeque<Waiting>>>);

struct Waiting {
    key: String,
    token: String,
    issued: Instant,
}

impl std::fmt::Debug for LoginKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LoginKeys")
    }
}

impl LoginKeys {
    /// A new key that signs in with `token`, once. Empty, and never accepted, when the operating
    /// system has no randomness to give.
    pub fn issue(&self, token: &str) -> String {
        let mut random = [0; 24];
        if getrandom::fill(&mut random).is_err() {
            return String::new();
        }
        let key: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while waiting.len() >= MAX_KEYS {
            waiting.pop_front();
        }
        waiting.push_back(Waiting {
            key: key.clone(),
            token: token.to_owned(),
            issued: Instant::now(),
        });
        key
    }

    /// The token behind `key`, if it was issued, is not too old and was never used.
    pub fn redeem(&self, key: &str) -> Option<String> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|each| each.issued.elapsed() < KEY_LIFETIME);
        let found = waiting
            .iter()
            .position(|each| bool::from(each.key.as_bytes().ct_eq(key.as_bytes())))?;
        waiting.remove(found).map(|each| each.token)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_signs_in_once() {
        let keys = LoginKeys::default();
        let key = keys.issue("hf_secret");
        assert_eq!(keys.redeem("no such key"), None);
        assert_eq!(keys.redeem(""), None);
        assert_eq!(keys.redeem(&key).as_deref(), Some("hf_secret"));
        assert_eq!(keys.redeem(&key), None);
    }

    #[test]
    fn the_oldest_of_too_many_keys_is_dropped() {
        let keys = LoginKeys::default();
        let first = keys.issue("first");
        let others: Vec<_> = (0..MAX_KEYS).map(|_| keys.issue("other")).collect();
        assert_eq!(keys.redeem(&first), None);
        assert!(others.iter().all(|key| keys.redeem(key).is_some()));
    }
}
