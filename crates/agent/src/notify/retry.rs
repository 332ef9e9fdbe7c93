//! When a notification that was not answered is sent again (R-NOT.1, R-NOT.2).
//!
//! Attempt *n* waits between `m·(k/1000)^(n-1)` and `m·(k/1000)^n` seconds; from the tenth on the range
//! stays that of the tenth.

use std::time::Duration;

/// From this attempt on the range no longer grows (R-NOT.2).
const LAST_GROWING_ATTEMPT: u32 = 10;

/// Longest wait, whatever the controller configures: a year, so that arithmetic on instants cannot overflow.
const LONGEST: f64 = 31_536_000.0;

/// The two parameters of the algorithm, per controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// `m`, seconds (`USPNotifRetryMinimumWaitInterval`).
    pub minimum_wait: u32,
    /// `k`, thousandths (`USPNotifRetryIntervalMultiplier`).
    pub multiplier: u32,
}

impl Default for RetryPolicy {
    /// `m` = 5 s, `k` = 2000, the factory defaults of R-NOT.1.
    fn default() -> Self {
        Self {
            minimum_wait: 5,
            multiplier: 2000,
        }
    }
}

impl RetryPolicy {
    /// Shortest and longest wait before retry `attempt` (1 is the first retry).
    pub fn range(self, attempt: u32) -> (Duration, Duration) {
        let step = attempt.clamp(1, LAST_GROWING_ATTEMPT);
        let factor = f64::from(self.multiplier) / 1000.0;
        let wait = |power: u32| {
            let exponent = i32::try_from(power).unwrap_or(i32::MAX);
            Duration::from_secs_f64(
                (f64::from(self.minimum_wait) * factor.powi(exponent)).min(LONGEST),
            )
        };
        (wait(step - 1), wait(step))
    }

    /// The wait before retry `attempt`, chosen by `random` (any 32 bits) within the range.
    pub fn wait(self, attempt: u32, random: u32) -> Duration {
        let (shortest, longest) = self.range(attempt);
        shortest + (longest - shortest).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_r_not_1_is_reproduced() {
        let policy = RetryPolicy::default();
        let seconds = |attempt| {
            let (shortest, longest) = policy.range(attempt);
            (shortest.as_secs(), longest.as_secs())
        };
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
        ];
        for (index, range) in table.into_iter().enumerate() {
            assert_eq!(seconds(u32::try_from(index).unwrap_or(0) + 1), range);
        }
        assert_eq!(seconds(11), (2560, 5120));
        assert_eq!(seconds(4_000_000_000), (2560, 5120));
    }

    #[test]
    fn a_wait_stays_within_its_range() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.wait(1, 0), Duration::from_secs(5));
        assert_eq!(policy.wait(1, u32::MAX), Duration::from_secs(10));
        let middle = policy.wait(3, u32::MAX / 2);
        assert!(middle > Duration::from_secs(29) && middle < Duration::from_secs(31));
    }

    #[test]
    fn extreme_parameters_do_not_overflow() {
        let policy = RetryPolicy {
            minimum_wait: 65_535,
            multiplier: 65_535,
        };
        assert_eq!(policy.wait(10, u32::MAX), Duration::from_secs(31_536_000));
    }
}
