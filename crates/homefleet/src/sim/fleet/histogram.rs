//! Times, counted by size: memory does not grow with their number, and a percentile is off by 3 % at most.

use std::time::Duration;

/// Parts of each doubling.
const PARTS: usize = 32;

/// Counts times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    /// Of microseconds.
    counts: Vec<u64>,
    count: u64,
    sum: Duration,
    max: Duration,
}

impl Histogram {
    /// Counts one.
    pub(crate) fn add(&mut self, time: Duration) {
        let place = place(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        if self.counts.len() <= place {
            self.counts.resize(place + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        self.count += 1;
        self.sum += time;
        self.max = self.max.max(time);
    }

    /// How many.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The longest.
    pub(crate) fn max(&self) -> Duration {
        self.max
    }

    /// The mean; zero of none.
    pub(crate) fn mean(&self) -> Duration {
        let count = u32::try_from(self.count).unwrap_or(u32::MAX);
        self.sum.checked_div(count).unwrap_or_default()
    }

    /// The time that this share of all, 0 to 1, does not exceed; zero of none.
    pub(crate) fn percentile(&self, share: f64) -> Duration {
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count"
        )]
        let wanted = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_micros(highest(place)).min(self.max);
            }
        }
        self.max
    }
}

/// Where a number is counted: exactly below 32, then in 32 parts of each doubling.
fn place(number: u64) -> usize {
    let small = usize::try_from(number).unwrap_or(usize::MAX);
    if small < PARTS {
        return small;
    }
    let doubling = usize::try_from(number.ilog2()).unwrap_or(63);
    let shift = doubling - 5;
    let part = usize::try_from(number >> shift).unwrap_or(0) - PARTS;
    PARTS + shift * PARTS + part
}

/// The highest number that is counted there.
fn highest(place: usize) -> u64 {
    if place < PARTS {
        return place as u64;
    }
    let (shift, part) = ((place - PARTS) / PARTS, (place - PARTS) % PARTS);
    let next = (PARTS + part + 1) as u128;
    u64::try_from((next << shift) - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_counted_where_its_bounds_say() {
        for number in (0..5000).chain([1 << 20, (1 << 33) + 12_345, u64::MAX]) {
            let place = place(number);
            assert!(number <= highest(place), "{number}");
            assert!(place == 0 || number > highest(place - 1), "{number}");
        }
    }

    #[test]
    fn percentiles_are_near_and_never_beyond_the_longest() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|ms| histogram.add(Duration::from_millis(ms)));
        for (share, ms) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0)] {
            let found = histogram.percentile(share).as_secs_f64() * 1000.0;
            assert!((ms..ms * 1.032).contains(&found), "{found}");
        }
        assert_eq!(histogram.percentile(1.0), Duration::from_secs(1));
        assert_eq!(histogram.max(), Duration::from_secs(1));
        assert_eq!(histogram.mean(), Duration::from_micros(500_500));
        assert_eq!(Histogram::default().percentile(0.99), Duration::ZERO);
    }
}
