//! Token buckets that bound how many handshakes strangers may begin.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use super::again::TurnedAway;
use super::config::{Budget, Config};

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

/// Leading bits of an address that a single subscriber cannot vary.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prefixes {
    pub(super) ipv4: u8,
    pub(super) ipv6: u8,
}

impl Prefixes {
    fn of(self, address: SocketAddr) -> IpAddr {
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => {
                let varied = 32_u32.saturating_sub(self.ipv4.into());
                let mask = u32::MAX.checked_shl(varied).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(ip) & mask))
            }
            IpAddr::V6(ip) => {
                let varied = 128_u32.saturating_sub(self.ipv6.into());
                let mask = u128::MAX.checked_shl(varied).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(ip) & mask))
            }
        }
    }
}

/// On what a handshake may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// The global budget.
    Fresh,
    /// The budget of those who were turned away and come again.
    Patient,
}

/// Why a handshake may not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OverBudget {
    /// Its prefix has begun too many.
    Prefix,
    /// All together have.
    Global,
}

/// The budgets of one table.
#[derive(Debug)]
pub(crate) struct Budgets {
    global: Budget,
    per_prefix: Budget,
    patient: Budget,
    lengths: Prefixes,
    max_prefixes: usize,
    all: Option<Bucket>,
    again: Option<Bucket>,
    turned_away: TurnedAway,
    prefixes: HashMap<IpAddr, Bucket>,
}

impl Budgets {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            global: config.global_budget,
            per_prefix: config.prefix_budget,
            patient: config.patient_budget,
            lengths: Prefixes {
                ipv4: config.ipv4_prefix,
                ipv6: config.ipv6_prefix,
            },
            max_prefixes: config.max_prefixes.max(1),
            all: None,
            again: None,
            turned_away: TurnedAway::new(config.max_turned_away),
            prefixes: HashMap::new(),
        }
    }

    /// Takes one handshake for `from`, which begins with the ClientHello of this random.
    pub(super) fn take(
        &mut self,
        now: Instant,
        from: SocketAddr,
        random: &[u8; 32],
    ) -> Result<Admission, OverBudget> {
        // First: a flood from everywhere must not have the prefixes searched for room at every datagram.
        let all = self.all.get_or_insert(Bucket::full(self.global, now));
        all.refill(self.global, now);
        let admission = if all.level >= ONE {
            Admission::Fresh
        } else {
            let again = self.again.get_or_insert(Bucket::full(self.patient, now));
            again.refill(self.patient, now);
            if again.level < ONE || !self.turned_away.comes_again(now, from, random) {
                return Err(OverBudget::Global);
            }
            Admission::Patient
        };
        self.spend(now, from, admission)?;
        Ok(admission)
    }

    /// Takes one handshake for `from`, an address that has proved to be the peer's, as that of a TCP connection has.
    pub(crate) fn take_proven(&mut self, now: Instant, from: SocketAddr) -> Result<(), OverBudget> {
        let all = self.all.get_or_insert(Bucket::full(self.global, now));
        all.refill(self.global, now);
        if all.level < ONE {
            return Err(OverBudget::Global);
        }
        self.spend(now, from, Admission::Fresh)
    }

    fn spend(
        &mut self,
        now: Instant,
        from: SocketAddr,
        admission: Admission,
    ) -> Result<(), OverBudget> {
        let key = self.lengths.of(from);
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
        let spent = match admission {
            Admission::Fresh => &mut self.all,
            Admission::Patient => &mut self.again,
        };
        if let Some(spent) = spent {
            spent.level -= ONE;
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

    const USUAL: Prefixes = Prefixes { ipv4: 24, ipv6: 56 };
    const HELLO: [u8; 32] = [7; 32];

    fn budgets(global: Budget, per_prefix: Budget, max_prefixes: usize) -> Budgets {
        Budgets::new(&Config {
            global_budget: global,
            prefix_budget: per_prefix,
            patient_budget: SMALL,
            max_prefixes,
            ..Config::default()
        })
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn neighbours_share_a_prefix_budget_that_refills() {
        let now = Instant::now();
        let mut budgets = budgets(LARGE, SMALL, 10);
        assert_eq!(
            budgets.take(now, at("192.0.2.1:1"), &HELLO),
            Ok(Admission::Fresh)
        );
        assert_eq!(
            budgets.take(now, at("192.0.2.250:9"), &HELLO),
            Ok(Admission::Fresh)
        );
        assert_eq!(
            budgets.take(now, at("192.0.2.7:1"), &HELLO),
            Err(OverBudget::Prefix)
        );
        assert_eq!(
            budgets.take(now, at("192.0.3.7:1"), &HELLO),
            Ok(Admission::Fresh)
        );
        assert_eq!(
            budgets.take(now + Duration::from_secs(1), at("192.0.2.7:1"), &HELLO),
            Ok(Admission::Fresh)
        );
    }

    #[test]
    fn mapped_and_plain_ipv4_are_one_prefix() {
        let prefix = |text: &str| USUAL.of(at(text));
        assert_eq!(prefix("[::ffff:192.0.2.9]:1"), prefix("192.0.2.1:2"));
        assert_eq!(
            prefix("[2001:db8:0:aa01::1]:1"),
            prefix("[2001:db8:0:aa02::9]:1")
        );
        assert_ne!(
            prefix("[2001:db8:0:aa01::1]:1"),
            prefix("[2001:db8:0:ab01::1]:1")
        );
    }

    #[test]
    fn prefix_lengths_are_configured() {
        let whole = Prefixes {
            ipv4: 32,
            ipv6: 128,
        };
        for text in ["192.0.2.9:1", "[2001:db8::9]:1"] {
            assert_eq!(whole.of(at(text)), at(text).ip());
        }
        let none = Prefixes { ipv4: 0, ipv6: 0 };
        assert_eq!(none.of(at("192.0.2.9:1")), at("0.0.0.0:1").ip());
        assert_eq!(none.of(at("[2001:db8::9]:1")), at("[::]:1").ip());
        let wider = Prefixes {
            ipv4: 200,
            ipv6: 200,
        };
        assert_eq!(wider.of(at("192.0.2.9:1")), at("192.0.2.9:1").ip());
        let usual = Prefixes { ipv4: 16, ipv6: 48 };
        assert_eq!(usual.of(at("192.0.2.9:1")), usual.of(at("192.0.9.9:1")));
        assert_ne!(usual.of(at("192.0.2.9:1")), usual.of(at("192.1.2.9:1")));
        assert_eq!(
            usual.of(at("[2001:db8:0:aa01::1]:1")),
            usual.of(at("[2001:db8:0:ab01::1]:1"))
        );
    }

    #[test]
    fn global_budget_stops_many_prefixes() {
        let now = Instant::now();
        let mut budgets = budgets(SMALL, LARGE, 10);
        assert_eq!(
            budgets.take(now, at("192.0.2.1:1"), &HELLO),
            Ok(Admission::Fresh)
        );
        assert_eq!(
            budgets.take(now, at("192.0.3.1:1"), &HELLO),
            Ok(Admission::Fresh)
        );
        assert_eq!(
            budgets.take(now, at("192.0.4.1:1"), &HELLO),
            Err(OverBudget::Global)
        );
    }

    #[test]
    fn spent_global_budget_leaves_the_prefixes_alone() {
        let now = Instant::now();
        let mut budgets = budgets(SMALL, LARGE, 10);
        for n in 0..200_u8 {
            let expected = if n < 2 {
                Ok(Admission::Fresh)
            } else {
                Err(OverBudget::Global)
            };
            assert_eq!(
                budgets.take(now, SocketAddr::from(([10, 0, n, 1], 1)), &HELLO),
                expected
            );
        }
        assert_eq!(budgets.prefixes.len(), 2);
    }

    #[test]
    fn room_among_the_prefixes_is_made_for_many_at_once() {
        let now = Instant::now();
        let mut budgets = budgets(LARGE, SMALL, 16);
        for n in 0..17_u8 {
            assert_eq!(
                budgets.take(now, SocketAddr::from(([10, 0, n, 1], 1)), &HELLO),
                Ok(Admission::Fresh)
            );
        }
        assert_eq!(budgets.prefixes.len(), 13);
    }

    #[test]
    fn remembered_prefixes_are_bounded_and_the_spender_stays() {
        let now = Instant::now();
        let mut budgets = budgets(LARGE, SMALL, 3);
        for _ in 0..2 {
            assert_eq!(
                budgets.take(now, at("198.51.100.1:1"), &HELLO),
                Ok(Admission::Fresh)
            );
        }
        for n in 0..50_u8 {
            assert_eq!(
                budgets.take(now, SocketAddr::from(([10, 0, n, 1], 1)), &HELLO),
                Ok(Admission::Fresh)
            );
        }
        assert!(budgets.prefixes.len() <= 3);
        assert_eq!(
            budgets.take(now, at("198.51.100.1:1"), &HELLO),
            Err(OverBudget::Prefix)
        );
    }

    #[test]
    fn same_hello_that_comes_again_has_a_budget_of_its_own() {
        let now = Instant::now();
        let mut budgets = budgets(SMALL, LARGE, 10);
        let second = now + Duration::from_millis(300);
        let hello = |n: u8| [n; 32];
        let from = |n: u8| SocketAddr::from(([10, 0, n, 1], 1));
        for n in 0..2 {
            assert_eq!(budgets.take(now, from(n), &hello(n)), Ok(Admission::Fresh));
        }
        for n in 2..6 {
            assert_eq!(
                budgets.take(now, from(n), &hello(n)),
                Err(OverBudget::Global)
            );
        }
        // Another hello of the same address is not the same.
        assert_eq!(
            budgets.take(second, from(2), &hello(99)),
            Err(OverBudget::Global)
        );
        for n in 2..4 {
            assert_eq!(
                budgets.take(second, from(n), &hello(n)),
                Ok(Admission::Patient)
            );
        }
        assert_eq!(
            budgets.take(second, from(4), &hello(4)),
            Err(OverBudget::Global)
        );
    }
}
