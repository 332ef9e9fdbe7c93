//! ClientHellos that were turned away, so that the same one is known when it comes again.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A network may deliver a datagram twice; a client repeats its ClientHello no sooner than this.
const SOONEST: Duration = Duration::from_millis(200);
/// A client that waits for longer has given up.
const LATEST: Duration = Duration::from_secs(60);

/// A table of fixed size; an entry is overwritten by whatever falls in its place.
#[derive(Debug)]
pub(super) struct TurnedAway {
    size: usize,
    /// Nothing until the first is turned away. A tag, never 0, and milliseconds since `epoch`.
    places: Vec<(u32, u32)>,
    epoch: Option<Instant>,
    keys: RandomState,
}

impl TurnedAway {
    pub(super) fn new(size: usize) -> Self {
        Self {
            size,
            places: Vec::new(),
            epoch: None,
            keys: RandomState::new(),
        }
    }

    /// Whether this very hello of this address was turned away before, and not just now. It is remembered otherwise.
    pub(super) fn comes_again(
        &mut self,
        now: Instant,
        from: SocketAddr,
        random: &[u8; 32],
    ) -> bool {
        if self.places.is_empty() {
            self.places = vec![(0, 0); self.size];
        }
        let epoch = *self.epoch.get_or_insert(now);
        let since = now.saturating_duration_since(epoch);
        let since = u32::try_from(since.as_millis()).unwrap_or(u32::MAX);
        let hash = self.keys.hash_one((from, random));
        let tag = u32::try_from(hash >> 32).unwrap_or(0) | 1;
        let Some(index) = usize::try_from(hash & u64::from(u32::MAX))
            .unwrap_or(0)
            .checked_rem(self.places.len())
        else {
            return false;
        };
        let Some(place) = self.places.get_mut(index) else {
            return false;
        };
        if place.0 == tag {
            let waited = Duration::from_millis(u64::from(since.saturating_sub(place.1)));
            if waited < SOONEST {
                return false;
            }
            if waited <= LATEST {
                *place = (0, 0);
                return true;
            }
        }
        *place = (tag, since);
        false
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HELLO: [u8; 32] = [7; 32];

    #[test]
    fn same_hello_of_the_same_address_is_known_once_after_a_while() {
        let now = Instant::now();
        let after = |ms| now + Duration::from_millis(ms);
        let from: SocketAddr = "192.0.2.1:5".parse().unwrap();
        let mut away = TurnedAway::new(64);
        assert!(!away.comes_again(now, from, &HELLO));
        assert!(!away.comes_again(after(100), from, &HELLO), "a duplicate");
        assert!(away.comes_again(after(1000), from, &HELLO));
        assert!(!away.comes_again(after(2000), from, &HELLO));
        assert!(!away.comes_again(after(3000), from, &[8; 32]));
        assert!(!away.comes_again(after(4000), "192.0.2.1:6".parse().unwrap(), &HELLO));
    }

    #[test]
    fn what_was_known_once_or_long_ago_is_new() {
        let now = Instant::now();
        let after = |secs| now + Duration::from_secs(secs);
        let from: SocketAddr = "192.0.2.1:5".parse().unwrap();
        let mut away = TurnedAway::new(64);
        assert!(!away.comes_again(now, from, &HELLO));
        assert!(away.comes_again(after(1), from, &HELLO));
        assert!(!away.comes_again(after(2), from, &HELLO));
        assert!(!away.comes_again(after(100), from, &HELLO));
        assert!(away.comes_again(after(101), from, &HELLO));
    }

    #[test]
    fn table_without_places_knows_nobody() {
        let now = Instant::now();
        let mut away = TurnedAway::new(0);
        for secs in 0..5 {
            let now = now + Duration::from_secs(secs);
            assert!(!away.comes_again(now, "192.0.2.1:5".parse().unwrap(), &HELLO));
        }
    }
}
