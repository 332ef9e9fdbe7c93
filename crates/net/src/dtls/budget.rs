//! Token buckets that bound how many handshakes strangers may begin.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use super::config::Budget;

/// Millionths of a handshake, so that slow refills add up.
const ONE: u64 = 1_000_000;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    level: u64,
    updated: Instant,
}

impl Bucket {
    fn full(budget: Budget, now: Instant) -> Self {
        Self {
            level: u64::from(budget.burst) * ONE,
            updated: now,
        }
    }

    fn refill(&mut self, budget: Budget, now: Instant) {
        let elapsed = now.saturating_duration_since(self.updated).as_micros();
        let added = u64::try_from(elapsed)
            .unwrap_or(u64::MAX)
            .saturating_mul(u64::from(budget.per_second));
        self.level = self
            .level
            .saturating_add(added)
            .min(u64::from(budget.burst) * ONE);
        self.updated = now;
    }

    fn is_full(&self, budget: Budget) -> bool {
        self.level >= u64::from(budget.burst) * ONE
    }
}

/// An address without the bits a single subscriber can vary: IPv4 /24, IPv6 /56.
fn prefix(address: SocketAddr) -> IpAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(ip) => {
            let bits = u128::from(ip) & (u128::MAX << 72);
            IpAddr::V6(Ipv6Addr::from(bits))
        }
    }
}

/// Why a handshake may not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OverBudget {
    /// Its prefix has begun too many.
    Prefix,
    /// All together have.
    Global,
}

/// The budgets of one table.
#[derive(Debug)]
pub(super) struct Budgets {
    global: Budget,
    per_prefix: Budget,
    max_prefixes: usize,
    all: Option<Bucket>,
    prefixes: HashMap<IpAddr, Bucket>,
}

impl Budgets {
    pub(super) fn new(global: Budget, per_prefix: Budget, max_prefixes: usize) -> Self {
        Self {
            global,
            per_prefix,
            max_prefixes: max_prefixes.max(1),
            all: None,
            prefixes: HashMap::new(),
        }
    }

    /// Takes one handshake for `from`.
    pub(super) fn take(&mut self, now: Instant, from: SocketAddr) -> Result<(), OverBudget> {
        // First: a flood from everywhere must not have the prefixes searched for room at every datagram.
        let all = self.all.get_or_insert(Bucket::full(self.global, now));
        all.refill(self.global, now);
        if all.level < ONE {
            return Err(OverBudget::Global);
        }
        let key = prefix(from);
        if !self.prefixes.contains_key(&key) && self.prefixes.len() >= self.max_prefixes {
            self.make_room(now);
        }
        let per_prefix = self.per_prefix;
        let bucket = self
            .prefixes
            .entry(key)
            .or_insert_with(|| Bucket::full(per_prefix, now));
        bucket.refill(per_prefix, now);
        if bucket.level < ONE {
            return Err(OverBudget::Prefix);
        }
        bucket.level -= ONE;
        if let Some(all) = &mut self.all {
            all.level -= ONE;
        }
        Ok(())
    }

    /// Forgets prefixes that have all their budget back; failing that, the quarter nearest to it, so that room is made
    /// once for many. A prefix that spends its budget is kept the longest.
    fn make_room(&mut self, now: Instant) {
        let per_prefix = self.per_prefix;
        for bucket in self.prefixes.values_mut() {
            bucket.refill(per_prefix, now);
        }
        self.prefixes
            .retain(|_, bucket| !bucket.is_full(per_prefix));
        if self.prefixes.len() >= self.max_prefixes {
            let mut fullest: Vec<(u64, IpAddr)> = self
                .prefixes
                .iter()
                .map(|(key, bucket)| (bucket.level, *key))
                .collect();
            fullest.sort_unstable_by(|a, b| b.cmp(a));
            for (_, key) in fullest.iter().take((self.max_prefixes / 4).max(1)) {
                self.prefixes.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    const SMALL: Budget = Budget {
        burst: 2,
        per_second: 1,
    };
    const LARGE: Budget = Budget {
        burst: 100,
        per_second: 100,
    };

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn neighbours_share_a_prefix_budget_that_refills() {
        let now = Instant::now();
        let mut budgets = Budgets::new(LARGE, SMALL, 10);
        assert_eq!(budgets.take(now, at("192.0.2.1:1")), Ok(()));
        assert_eq!(budgets.take(now, at("192.0.2.250:9")), Ok(()));
        assert_eq!(
            budgets.take(now, at("192.0.2.7:1")),
            Err(OverBudget::Prefix)
        );
        assert_eq!(budgets.take(now, at("192.0.3.7:1")), Ok(()));
        assert_eq!(
            budgets.take(now + Duration::from_secs(1), at("192.0.2.7:1")),
            Ok(())
        );
    }

    #[test]
    fn mapped_and_plain_ipv4_are_one_prefix() {
        assert_eq!(
            prefix(at("[::ffff:192.0.2.9]:1")),
            prefix(at("192.0.2.1:2"))
        );
        assert_eq!(
            prefix(at("[2001:db8:0:aa01::1]:1")),
            prefix(at("[2001:db8:0:aa02::9]:1"))
        );
        assert_ne!(
            prefix(at("[2001:db8:0:aa01::1]:1")),
            prefix(at("[2001:db8:0:ab01::1]:1"))
        );
    }

    #[test]
    fn global_budget_stops_many_prefixes() {
        let now = Instant::now();
        let mut budgets = Budgets::new(SMALL, LARGE, 10);
        assert_eq!(budgets.take(now, at("192.0.2.1:1")), Ok(()));
        assert_eq!(budgets.take(now, at("192.0.3.1:1")), Ok(()));
        assert_eq!(
            budgets.take(now, at("192.0.4.1:1")),
            Err(OverBudget::Global)
        );
    }

    #[test]
    fn spent_global_budget_leaves_the_prefixes_alone() {
        let now = Instant::now();
        let mut budgets = Budgets::new(SMALL, LARGE, 10);
        for n in 0..200_u8 {
            let expected = if n < 2 {
                Ok(())
            } else {
                Err(OverBudget::Global)
            };
            assert_eq!(
                budgets.take(now, SocketAddr::from(([10, 0, n, 1], 1))),
                expected
            );
        }
        assert_eq!(budgets.prefixes.len(), 2);
    }

    #[test]
    fn room_among_the_prefixes_is_made_for_many_at_once() {
        let now = Instant::now();
        let mut budgets = Budgets::new(LARGE, SMALL, 16);
        for n in 0..17_u8 {
            assert_eq!(
                budgets.take(now, SocketAddr::from(([10, 0, n, 1], 1))),
                Ok(())
            );
        }
        assert_eq!(budgets.prefixes.len(), 13);
    }

    #[test]
    fn remembered_prefixes_are_bounded_and_the_spender_stays() {
        let now = Instant::now();
        let mut budgets = Budgets::new(LARGE, SMALL, 3);
        for _ in 0..2 {
            assert_eq!(budgets.take(now, at("198.51.100.1:1")), Ok(()));
        }
        for n in 0..50_u8 {
            assert_eq!(
                budgets.take(now, SocketAddr::from(([10, 0, n, 1], 1))),
                Ok(())
            );
        }
        assert!(budgets.prefixes.len() <= 3);
        assert_eq!(
            budgets.take(now, at("198.51.100.1:1")),
            Err(OverBudget::Prefix)
        );
    }
}
