//! How much one source may ask for, so that none takes the others' share.
//!
//! Each source has a bucket: it fills at a steady rate up to a burst, and each message takes one. IPv6 sources count by their /64, which one
//! subscriber has for itself.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Sources remembered at most; those that have been silent for the longest are forgotten first.
const MAX_SOURCES: usize = 65_536;

/// How much a source may ask for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rate {
    /// Messages in a second, in the long run.
    pub(super) per_second: u32,
    /// Messages at once.
    pub(super) burst: u32,
}

/// The buckets of all sources.
#[derive(Debug)]
pub(super) struct Sources {
    rate: Rate,
    limit: usize,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Sources {
    pub(super) fn new(rate: Rate) -> Self {
        Self::with_room(rate, MAX_SOURCES)
    }

    fn with_room(rate: Rate, limit: usize) -> Self {
        Self {
            rate,
            limit,
            buckets: Mutex::default(),
        }
    }

    /// Takes one message of this source, or says when there will be room for one.
    pub(super) fn take(&self, now: Instant, from: IpAddr) -> Result<(), Duration> {
        let rate = f64::from(self.rate.per_second.max(1));
        let burst = f64::from(self.rate.burst.max(1));
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let source = prefix(from);
        if !buckets.contains_key(&source) && buckets.len() >= self.limit {
            forget(&mut buckets, now, burst / rate);
        }
        let bucket = buckets.entry(source).or_insert(Bucket {
            left: burst,
            at: now,
        });
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + passed * rate).min(burst);
        bucket.at = now;
        if bucket.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.left) / rate));
        }
        bucket.left -= 1.0;
        Ok(())
    }
}

/// Forgets who has a full bucket anyway; when all are at work, the older half of them.
fn forget(buckets: &mut HashMap<IpAddr, Bucket>, now: Instant, full_after: f64) {
    let before = buckets.len();
    buckets.retain(|_, bucket| now.saturating_duration_since(bucket.at).as_secs_f64() < full_after);
    if buckets.len() < before {
        return;
    }
    let mut times: Vec<Instant> = buckets.values().map(|bucket| bucket.at).collect();
    let (_, median, _) = times.select_nth_unstable(before / 2);
    let median = *median;
    buckets.retain(|_, bucket| bucket.at > median);
}

fn prefix(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & (u128::MAX << 64);
            IpAddr::V6(network.into())
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const RATE: Rate = Rate {
        per_second: 2,
        burst: 3,
    };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_has_its_burst_and_then_its_rate() {
        let sources = Sources::new(RATE);
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(sources.take(start, ip("192.0.2.1")), Ok(()));
        }
        let wait = sources.take(start, ip("192.0.2.1")).unwrap_err();
        assert_eq!(wait, Duration::from_millis(500));
        assert_eq!(sources.take(start + wait, ip("192.0.2.1")), Ok(()));
        assert!(sources.take(start + wait, ip("192.0.2.1")).is_err());
        assert_eq!(sources.take(start, ip("192.0.2.2")), Ok(()));
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let sources = Sources::new(RATE);
        let start = Instant::now();
        for host in 1..=3 {
            assert_eq!(
                sources.take(start, ip(&format!("2001:db8::{host}"))),
                Ok(())
            );
        }
        assert!(sources.take(start, ip("2001:db8::4")).is_err());
        assert_eq!(sources.take(start, ip("2001:db8:0:1::1")), Ok(()));
        // A mapped address is the IPv4 address that it maps.
        for _ in 0..3 {
            assert_eq!(sources.take(start, ip("::ffff:192.0.2.1")), Ok(()));
        }
        assert!(sources.take(start, ip("192.0.2.1")).is_err());
    }

    #[test]
    fn sources_are_bounded_and_the_silent_are_forgotten_first() {
        let sources = Sources::with_room(RATE, 4);
        let start = Instant::now();
        for host in 0..100_u32 {
            let now = start + Duration::from_millis(u64::from(host));
            assert_eq!(sources.take(now, IpAddr::V4(host.into())), Ok(()));
            assert!(sources.buckets.lock().unwrap().len() <= 4);
        }
    }
}
