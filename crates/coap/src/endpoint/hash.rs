//! A fast hash with a secret key, so that peers cannot choose colliding keys.

use std::hash::{BuildHasher, Hasher};

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Builds hashers from the endpoint's seed; `std`'s own state would ask the system for randomness.
#[derive(Clone, Copy)]
pub(super) struct Keyed {
    first: u64,
    second: u64,
}

impl Keyed {
    pub(super) fn new(first: u64, second: u64) -> Keyed {
        Keyed {
            first,
            second: second | 1,
        }
    }
}

impl BuildHasher for Keyed {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded {
            state: self.first,
            key: self.second,
        }
    }
}

/// Multiplies to 128 bits and folds the halves, once per eight bytes.
pub(super) struct Folded {
    state: u64,
    key: u64,
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

impl Folded {
    fn mix(&mut self, word: u64) {
        self.state = fold(
            self.state.rotate_left(23) ^ word ^ self.key,
            MULTIPLIER ^ self.key,
        )
        .wrapping_add(self.state);
    }
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let word = chunk.try_into().map_or(0, u64::from_le_bytes);
            self.mix(word);
        }
        let rest = chunks.remainder();
        if !rest.is_empty() {
            let word = rest
                .iter()
                .fold(rest.len() as u64, |word, b| (word << 8) | u64::from(*b));
            self.mix(word);
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.mix(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.mix(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }

    fn finish(&self) -> u64 {
        fold(self.state ^ self.key, MULTIPLIER)
    }
}
