//! How long to wait before a failed session is tried again (TR-069 §3.2.1.1).

use std::time::Duration;

/// From this retry on the range no longer grows.
const LAST_GROWING: u32 = 10;

/// Longest wait, whatever is configured: a year, so that arithmetic on instants cannot overflow.
const LONGEST: Duration = Duration::from_secs(31_536_000);

/// The waits: 5 to 10 s at first, doubling to 2,560 to 5,120 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// `CWMPRetryMinimumWaitInterval` in seconds, 1 to 65,535: the shortest first wait. Default 5.
    pub minimum_wait: u32,
    /// `CWMPRetryIntervalMultiplier` in thousandths, 1,000 to 65,535: the growth. Default 2,000.
    pub multiplier: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            minimum_wait: 5,
            multiplier: 2000,
        }
    }
}

impl RetryPolicy {
    /// Shortest and longest wait before a retry; 1 is the first since the start of the device.
    pub fn range(self, retry: u32) -> (Duration, Duration) {
        let step = retry.clamp(1, LAST_GROWING);
        let factor = f64::from(self.multiplier.max(1000)) / 1000.0;
        let bound = |power: u32| {
            let exponent = i32::try_from(power).unwrap_or(i32::MAX);
            let seconds = f64::from(self.minimum_wait) * factor.powi(exponent);
            Duration::from_secs_f64(seconds.min(LONGEST.as_secs_f64()))
        };
        (bound(step - 1), bound(step))
    }

    /// The wait before a retry, chosen by `random` (any 32 bits) evenly within the range.
    pub fn wait(self, retry: u32, random: u32) -> Duration {
        let (shortest, longest) = self.range(retry);
        let share = f64::from(random) / f64::from(u32::MAX);
        shortest + longest.saturating_sub(shortest).mul_f64(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_tr_069_is_reproduced() {
        let table = [
            (5, 10),
            (10, 20),
            (20, 40),
            (40, 80),
            (80, 160),
            (160, 320),
            (320, 640),
            (640, 1280),
            (1280, 2560),
            (2560, 5120),
            (2560, 5120),
        ];
        for (retry, (shortest, longest)) in (1..).zip(table) {
            let range = RetryPolicy::default().range(retry);
            assert_eq!((range.0.as_secs(), range.1.as_secs()), (shortest, longest));
        }
        let range = RetryPolicy::default().range(u32::MAX);
        assert_eq!(range.1.as_secs(), 5120);
    }

    #[test]
    fn the_minimum_wait_and_the_multiplier_are_the_data_models() {
        let policy = RetryPolicy {
            minimum_wait: 4,
            multiplier: 1500,
        };
        assert_eq!(
            policy.range(3),
            (Duration::from_secs(9), Duration::from_millis(13_500))
        );
        for random in [0, 7, u32::MAX / 2, u32::MAX] {
            let (shortest, longest) = policy.range(3);
            assert!((shortest..=longest).contains(&policy.wait(3, random)));
        }
    }

    #[test]
    fn extreme_parameters_neither_overflow_nor_panic() {
        let policy = RetryPolicy {
            minimum_wait: u32::MAX,
            multiplier: u32::MAX,
        };
        assert_eq!(policy.wait(10, u32::MAX), LONGEST);
        let zero = RetryPolicy {
            minimum_wait: 0,
            multiplier: 0,
        };
        assert_eq!(zero.wait(u32::MAX, u32::MAX), Duration::ZERO);
    }
}
