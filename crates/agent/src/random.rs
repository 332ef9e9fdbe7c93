//! Jitter: SplitMix64 over a seed. Not for secrets.

/// A small generator; the same seed gives the same numbers.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        let fold = |state: u64, word: &[u8]| {
            word.iter()
                .fold(state, |s, &b| s.rotate_left(8) ^ u64::from(b))
        };
        Self(seed.chunks(8).fold(0x9E37_79B9_7F4A_7C15, |state, word| {
            fold(state, word).wrapping_mul(0xBF58_476D_1CE4_E5B9)
        }))
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }
}
