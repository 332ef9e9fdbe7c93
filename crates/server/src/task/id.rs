//! Task identifiers: 26 characters that sort in the order of creation (the layout of a ULID).

use crate::clock::Millis;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Makes identifiers that ascend even within one millisecond.
#[derive(Debug, Default)]
pub struct IdSource {
    last: u128,
}

impl IdSource {
    /// A new identifier from the time and 80 random bits.
    pub fn next(&mut self, now: Millis, random: [u8; 10]) -> String {
        let mut low = [0u8; 16];
        low[6..].copy_from_slice(&random);
        let fresh = (u128::from(now.0) & 0xFFFF_FFFF_FFFF) << 80 | u128::from_be_bytes(low);
        // When the clock stands or went backwards, counting on keeps the order.
        self.last = if fresh > self.last {
            fresh
        } else {
            self.last + 1
        };
        encode(self.last)
    }

    /// Continues after an identifier seen in the store.
    pub fn after(&mut self, id: &str) {
        if let Some(value) = decode(id) {
            self.last = self.last.max(value);
        }
    }
}

fn encode(mut value: u128) -> String {
    let mut text = [0u8; 26];
    for place in text.iter_mut().rev() {
        // Five bits: always a valid index.
        *place = ALPHABET[(value & 31) as usize];
        value >>= 5;
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn decode(text: &str) -> Option<u128> {
    if text.len() != 26 {
        return None;
    }
    text.bytes().try_fold(0u128, |value, byte| {
        let digit = ALPHABET.iter().position(|&letter| letter == byte)?;
        Some(value << 5 | digit as u128)
    })
}

/// Whether a text has the shape of a task identifier.
pub fn is_id(text: &str) -> bool {
    decode(text).is_some()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn identifiers_ascend_within_a_millisecond_and_when_the_clock_goes_back() {
        let mut source = IdSource::default();
        let first = source.next(Millis(1_000_000), [255; 10]);
        let second = source.next(Millis(1_000_000), [0; 10]);
        let third = source.next(Millis(999_000), [0; 10]);
        assert!(first < second && second < third, "{first} {second} {third}");
        assert_eq!(decode(&first).map(encode).unwrap(), first);
    }

    #[test]
    fn identifiers_continue_after_a_restart() {
        let mut source = IdSource::default();
        let last = source.next(Millis(2_000_000), [7; 10]);
        let mut restarted = IdSource::default();
        restarted.after(&last);
        assert!(restarted.next(Millis(1_000_000), [0; 10]) > last);
    }
}
