//! When a connection that failed or ended is tried again (R-WS.19 to R-WS.21, R-STOMP.7, R-MQTT.10, R-UDS.5).
//!
//! One mechanism with four [`RetryPolicy`]s. Attempt *n* waits a random time within a range that grows by a
//! factor with each attempt up to the tenth:
//!
//! | binding | range of attempt *n* | longest wait |
//! |---|---|---|
//! | WebSocket | `m·(k/1000)^(n-1)` to `m·(k/1000)^n` | that of the tenth attempt |
//! | STOMP | 0 to `initial·(k/1000)^(n-1)` | `ServerRetryMaxInterval` |
//! | MQTT | as WebSocket | `ConnectRetryMaxInterval` |
//! | UNIX domain socket | 1 s to 5 s, always | 5 s |

use std::time::Duration;

/// From this attempt on the range no longer grows.
const LAST_GROWING_ATTEMPT: u32 = 10;

/// Longest wait, whatever is configured: a year, so that arithmetic on instants cannot overflow.
const LONGEST: Duration = Duration::from_secs(31_536_000);

/// How long to wait before each attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The base of the first range, in seconds.
    initial: u32,
    /// The growth from one attempt to the next, in thousandths.
    multiplier: u32,
    /// The attempt whose range all later ones have.
    steps: u32,
    /// Whether each range begins at 0 and ends where it would otherwise begin.
    from_zero: bool,
    /// No wait is longer.
    longest: Duration,
}

impl RetryPolicy {
    /// WebSocket (R-WS.19): `m` is `SessionRetryMinimumWaitInterval` in seconds, `k` is
    /// `SessionRetryIntervalMultiplier` in thousandths. The factory defaults are 5 and 2000.
    pub fn websocket(m: u32, k: u32) -> Self {
        Self {
            initial: m,
            multiplier: k,
            steps: LAST_GROWING_ATTEMPT,
            from_zero: false,
            longest: LONGEST,
        }
    }

    /// STOMP (R-STOMP.7, TR-181 `Device.STOMP.Connection.{i}.`): `ServerRetryInitialInterval` in seconds,
    /// `ServerRetryIntervalMultiplier` in thousandths, `ServerRetryMaxInterval` in seconds. The factory
    /// defaults are 60, 2000 and 30,720.
    pub fn stomp(initial: u32, multiplier: u32, longest: u32) -> Self {
        Self {
            from_zero: true,
            longest: Duration::from_secs(longest.into()).min(LONGEST),
            ..Self::websocket(initial, multiplier)
        }
    }

    /// MQTT (R-MQTT.10, R-MQTT.33, TR-181 `Device.MQTT.Client.{i}.`): `ConnectRetryTime` in seconds,
    /// `ConnectRetryIntervalMultiplier` in thousandths, `ConnectRetryMaxInterval` in seconds. The factory
    /// defaults are 5, 2000 and 30,720.
    pub fn mqtt(initial: u32, multiplier: u32, longest: u32) -> Self {
        Self {
            longest: Duration::from_secs(longest.into()).min(LONGEST),
            ..Self::websocket(initial, multiplier)
        }
    }

    /// UNIX domain socket (R-UDS.5): always between 1 and 5 seconds.
    pub fn uds() -> Self {
        Self {
            steps: 1,
            ..Self::websocket(1, 5000)
        }
    }

    /// Shortest and longest wait before attempt `attempt`; 1 is the first after a failure.
    pub fn range(self, attempt: u32) -> (Duration, Duration) {
        let (shortest, longest) = self.drawn(attempt);
        (shortest.min(self.longest), longest.min(self.longest))
    }

    /// The wait before attempt `attempt`, chosen by `random` (any 32 bits) evenly within the range. What
    /// is over the longest wait becomes the longest wait, as TR-181 asks, and is not drawn again.
    pub fn wait(self, attempt: u32, random: u32) -> Duration {
        let (shortest, longest) = self.drawn(attempt);
        let share = f64::from(random) / f64::from(u32::MAX);
        (shortest + longest.saturating_sub(shortest).mul_f64(share)).min(self.longest)
    }

    /// The range before it is cut at the longest wait.
    fn drawn(self, attempt: u32) -> (Duration, Duration) {
        let step = attempt.clamp(1, self.steps);
        // Below 1000 each range would end before it begins.
        let factor = f64::from(self.multiplier.max(1000)) / 1000.0;
        let bound = |power: u32| {
            let exponent = i32::try_from(power).unwrap_or(i32::MAX);
            let seconds = f64::from(self.initial) * factor.powi(exponent);
            Duration::from_secs_f64(seconds.min(LONGEST.as_secs_f64()))
        };
        if self.from_zero {
            (Duration::ZERO, bound(step - 1))
        } else {
            (bound(step - 1), bound(step))
        }
    }
}

/// How often connecting has failed, and so how long to wait. A new one after a reboot begins anew (R-WS.21).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    policy: RetryPolicy,
    count: u32,
}

impl Retry {
    /// Nothing has failed yet.
    pub fn new(policy: RetryPolicy) -> Self {
        Self { policy, count: 0 }
    }

    /// Connecting failed, or the connection ended: how long to wait, chosen by `random` (any 32 bits).
    pub fn failed(&mut self, random: u32) -> Duration {
        self.count = self.count.saturating_add(1);
        self.policy.wait(self.count, random)
    }

    /// The connection stands: the next failure is the first again (R-WS.20).
    pub fn succeeded(&mut self) {
        self.count = 0;
    }

    /// How many attempts have failed since the last success.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Takes on parameters that were changed at run time; the count stays.
    pub fn set_policy(&mut self, policy: RetryPolicy) {
        self.policy = policy;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(policy: RetryPolicy, attempt: u32) -> (u64, u64) {
        let (shortest, longest) = policy.range(attempt);
        (shortest.as_secs(), longest.as_secs())
    }

    #[test]
    fn the_table_of_r_ws_19_is_reproduced() {
        let policy = RetryPolicy::websocket(5, 2000);
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
        for (attempt, range) in (1..).zip(table) {
            assert_eq!(seconds(policy, attempt), range);
        }
        assert_eq!(seconds(policy, 11), (2560, 5120));
        assert_eq!(seconds(policy, u32::MAX), (2560, 5120));
        assert_eq!(
            seconds(RetryPolicy::websocket(4, 1500), 3),
            (9, 13),
            "m and k are the data model's"
        );
    }

    #[test]
    fn a_stomp_wait_begins_at_zero_and_ends_at_the_maximum_interval() {
        let policy = RetryPolicy::stomp(60, 2000, 30_720);
        assert_eq!(seconds(policy, 1), (0, 60));
        assert_eq!(seconds(policy, 2), (0, 120));
        assert_eq!(seconds(policy, 10), (0, 30_720));
        assert_eq!(seconds(policy, 11), (0, 30_720));
        let capped = RetryPolicy::stomp(60, 2000, 100);
        assert_eq!(capped.wait(3, u32::MAX), Duration::from_secs(100));
        assert_eq!(capped.wait(3, u32::MAX / 4).as_secs(), 59);
        assert_eq!(capped.wait(1, 0), Duration::ZERO);
    }

    #[test]
    fn an_mqtt_wait_that_is_over_the_maximum_interval_is_the_maximum_interval() {
        let policy = RetryPolicy::mqtt(5, 2000, 30);
        assert_eq!(seconds(policy, 2), (10, 20));
        assert_eq!(policy.wait(3, 0), Duration::from_secs(20));
        assert_eq!(policy.wait(3, u32::MAX), Duration::from_secs(30));
        assert_eq!(policy.wait(9, 0), Duration::from_secs(30));
        assert_eq!(
            seconds(RetryPolicy::mqtt(5, 2000, 30_720), 12),
            (2560, 5120)
        );
    }

    #[test]
    fn a_unix_domain_socket_is_always_tried_again_within_1_to_5_seconds() {
        for attempt in [1, 2, 10, 1000] {
            assert_eq!(seconds(RetryPolicy::uds(), attempt), (1, 5));
        }
    }

    #[test]
    fn a_wait_lies_within_its_range_whatever_the_random_number() {
        let policy = RetryPolicy::websocket(5, 2000);
        for random in [0, 1, 77, u32::MAX / 2, u32::MAX] {
            let (shortest, longest) = policy.range(3);
            assert!((shortest..=longest).contains(&policy.wait(3, random)));
        }
        assert_ne!(policy.wait(3, 1 << 30), policy.wait(3, 1 << 31));
    }

    #[test]
    fn success_resets_the_count_and_a_changed_policy_does_not() {
        let mut retry = Retry::new(RetryPolicy::websocket(5, 2000));
        assert_eq!(retry.failed(0).as_secs(), 5);
        assert_eq!(retry.failed(0).as_secs(), 10);
        retry.set_policy(RetryPolicy::websocket(7, 1000));
        assert_eq!((retry.failed(u32::MAX).as_secs(), retry.count()), (7, 3));
        retry.set_policy(RetryPolicy::websocket(5, 2000));
        retry.succeeded();
        assert_eq!((retry.count(), retry.failed(0).as_secs()), (0, 5));
    }

    #[test]
    fn extreme_parameters_neither_overflow_nor_panic() {
        for policy in [
            RetryPolicy::websocket(u32::MAX, u32::MAX),
            RetryPolicy::stomp(u32::MAX, u32::MAX, u32::MAX),
        ] {
            assert_eq!(policy.wait(10, u32::MAX), LONGEST);
        }
        let shrinking = RetryPolicy::websocket(5, 10);
        assert_eq!(
            seconds(shrinking, 9),
            (5, 5),
            "a range does not end before it begins"
        );
        let mut retry = Retry::new(RetryPolicy::websocket(0, 2000));
        assert_eq!(retry.failed(u32::MAX), Duration::ZERO);
    }
}
