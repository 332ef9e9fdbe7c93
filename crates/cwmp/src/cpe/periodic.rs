//! When periodic informs are due (TR-181 `ManagementServer.PeriodicInformTime`).

use std::time::Duration;

use crate::DateTime;

/// How long it is until the next periodic inform: at `reference`, or a whole number of intervals before or after it.
///
/// Without a reference, or without a clock, it is a part of an interval that `random` (any 32 bits) chooses, so that the devices of
/// a fleet that started together do not inform together. An interval is a second at least and
/// 4,294,967,295 at most.
pub fn until_periodic(
    now: DateTime,
    reference: DateTime,
    every: Duration,
    random: u32,
) -> Duration {
    let every = every.clamp(Duration::from_secs(1), Duration::from_secs(u32::MAX.into()));
    let (Some(now), Some(reference)) = (now.unix(), reference.unix()) else {
        return every.mul_f64(f64::from(random) / f64::from(u32::MAX));
    };
    let interval = i64::try_from(every.as_secs()).unwrap_or(i64::MAX);
    let left = reference.saturating_sub(now).rem_euclid(interval);
    // At the very moment it is due, the next is a whole interval away: this one has been told.
    let left = if left == 0 { interval } else { left };
    Duration::from_secs(left.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(now: i64, reference: i64, every: u64) -> u64 {
        let (now, reference) = (DateTime::from_unix(now), DateTime::from_unix(reference));
        until_periodic(now, reference, Duration::from_secs(every), 7).as_secs()
    }

    #[test]
    fn the_reference_sets_the_phase_from_the_past_and_from_the_future() {
        assert_eq!(seconds(1_000, 0, 300), 200);
        assert_eq!(seconds(1_000, 10_000, 300), 300);
        assert_eq!(seconds(1_001, 10_000, 300), 299);
        assert_eq!(seconds(1_299, 10_000, 300), 1);
        assert_eq!(seconds(10_000, 10_000, 86_400), 86_400);
        assert_eq!(seconds(5, -10, 60), 45);
        assert_eq!(seconds(5, 7, 0), 1, "an interval is at least a second");
    }

    #[test]
    fn without_a_reference_or_a_clock_chance_sets_the_phase() {
        let every = Duration::from_secs(600);
        let known = DateTime::from_unix(1_000);
        for (now, reference) in [(known, DateTime::UNKNOWN), (DateTime::UNKNOWN, known)] {
            assert_eq!(until_periodic(now, reference, every, 0), Duration::ZERO);
            assert_eq!(until_periodic(now, reference, every, u32::MAX), every);
            let half = until_periodic(now, reference, every, u32::MAX / 2);
            assert!(half > every / 3 && half < every);
        }
        for reference in [DateTime::UNKNOWN, DateTime::from_unix(i64::MAX)] {
            let longest = until_periodic(known, reference, Duration::MAX, u32::MAX);
            assert!(longest > every, "nothing overflows");
        }
    }
}
