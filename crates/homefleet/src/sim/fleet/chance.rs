//! Chance that can be repeated: each device has its own, from one seed.

use std::time::Duration;

/// Bits that look like chance, always the same for the same number (SplitMix64).
pub(crate) fn mixed(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A source of chance; nothing that has to be secret comes from it.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// From a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mixed(self.0)
    }

    /// A part of one.
    pub(crate) fn part(&mut self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
        let part = (self.bits() >> 11) as f64 / (1_u64 << 53) as f64;
        part
    }

    /// Whether something happens that does so in this share of all times, 0 to 1.
    pub(crate) fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && self.part() < share
    }

    /// A moment within a time.
    pub(crate) fn within(&mut self, time: Duration) -> Duration {
        time.mul_f64(self.part())
    }

    /// The wait for what happens once in a time on average, and does not remember when it last did.
    pub(crate) fn wait(&mut self, mean: Duration) -> Duration {
        let parts = -(1.0 - self.part()).max(f64::MIN_POSITIVE).ln();
        mean.mul_f64(parts.min(100.0))
    }

    /// Seeds for others.
    pub(crate) fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        for bytes in seed.chunks_exact_mut(8) {
            bytes.copy_from_slice(&self.bits().to_be_bytes());
        }
        seed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_have_the_mean_that_was_asked_for_and_shares_their_size() {
        let mut chance = Chance::new(7);
        let mean = Duration::from_secs(60);
        let sum: Duration = (0..10_000).map(|_| chance.wait(mean)).sum();
        assert!((55..65).contains(&(sum / 10_000).as_secs()));
        let often = (0..10_000).filter(|_| chance.happens(0.25)).count();
        assert!((2300..2700).contains(&often));
        assert!((0..100).all(|_| !chance.happens(0.0)));
    }
}
