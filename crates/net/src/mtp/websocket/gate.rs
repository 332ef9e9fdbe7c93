//! How many connections peers may hold before anybody knows who they are.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::config::Limits;

/// Connections of one address prefix.
#[derive(Debug, Default)]
struct Prefix {
    all: usize,
    half_open: usize,
}

#[derive(Debug)]
struct HalfOpen {
    ticket: u64,
    prefix: IpAddr,
    evict: oneshot::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    prefixes: HashMap<IpAddr, Prefix>,
    /// The oldest first.
    half_open: VecDeque<HalfOpen>,
    evicted: u64,
}

/// Lets connections in.
#[derive(Debug)]
pub(super) struct Gate {
    state: Mutex<State>,
    limits: Limits,
}

/// What one connection holds, until it is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    gate: Arc<Gate>,
    number: u64,
    prefix: IpAddr,
}

impl Gate {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            limits,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in, and tells how it learns that it has to make room for a newer one; `None` when its prefix has too
    /// many. A proxy comes for many, so that its prefix has no bound.
    pub(super) fn enter(
        self: &Arc<Self>,
        from: IpAddr,
        is_proxy: bool,
    ) -> Option<(Ticket, oneshot::Receiver<()>)> {
        let prefix = self.prefix(from);
        let mut state = self.state();
        let state = &mut *state;
        let of_prefix = state.prefixes.entry(prefix).or_default();
        if !is_proxy && of_prefix.all >= self.limits.max_per_prefix {
            return None;
        }
        of_prefix.all += 1;
        of_prefix.half_open += 1;
        if !is_proxy && of_prefix.half_open > self.limits.max_half_open_per_prefix {
            state.evict(|half| half.prefix == prefix);
        }
        if state.half_open.len() >= self.limits.max_half_open {
            state.evict(|_| true);
        }
        let (evict, evicted) = oneshot::channel();
        let number = state.next;
        state.next += 1;
        state.half_open.push_back(HalfOpen {
            ticket: number,
            prefix,
            evict,
        });
        let gate = Arc::clone(self);
        let ticket = Ticket {
            gate,
            number,
            prefix,
        };
        Some((ticket, evicted))
    }

    /// How many connections have not come to a session.
    pub(super) fn half_open(&self) -> usize {
        self.state().half_open.len()
    }

    /// How many were dropped to make room.
    pub(super) fn evicted(&self) -> u64 {
        self.state().evicted
    }

    fn prefix(&self, address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V4(ip) => {
                let varied = 32_u32.saturating_sub(self.limits.ipv4_prefix.into());
                let mask = u32::MAX.checked_shl(varied).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(ip) & mask))
            }
            IpAddr::V6(ip) => {
                let varied = 128_u32.saturating_sub(self.limits.ipv6_prefix.into());
                let mask = u128::MAX.checked_shl(varied).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(ip) & mask))
            }
        }
    }
}

impl State {
    /// Drops the oldest of those.
    fn evict(&mut self, among: impl Fn(&HalfOpen) -> bool) {
        let Some(half) = self
            .half_open
            .iter()
            .position(among)
            .and_then(|at| self.half_open.remove(at))
        else {
            return;
        };
        self.evicted += 1;
        if let Some(prefix) = self.prefixes.get_mut(&half.prefix) {
            prefix.half_open -= 1;
        }
        // It may be ending by itself just now.
        let _ending = half.evict.send(());
    }
}

impl Ticket {
    /// The connection is a session now.
    pub(super) fn is_established(&self) {
        let mut state = self.gate.state();
        let at = state
            .half_open
            .iter()
            .position(|half| half.ticket == self.number);
        if let Some(at) = at {
            state.half_open.remove(at);
            if let Some(prefix) = state.prefixes.get_mut(&self.prefix) {
                prefix.half_open -= 1;
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.is_established();
        let mut state = self.gate.state();
        if let Some(prefix) = state.prefixes.get_mut(&self.prefix) {
            prefix.all -= 1;
            if prefix.all == 0 {
                state.prefixes.remove(&self.prefix);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(max_half_open: usize, per_prefix: usize, all: usize) -> Arc<Gate> {
        Gate::new(Limits {
            max_half_open,
            max_half_open_per_prefix: per_prefix,
            max_per_prefix: all,
            ..Limits::default()
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn enter(gate: &Arc<Gate>, from: &str) -> (Ticket, oneshot::Receiver<()>) {
        gate.enter(ip(from), false).expect("let in")
    }

    fn is_evicted(evicted: &mut oneshot::Receiver<()>) -> bool {
        evicted.try_recv().is_ok()
    }

    #[test]
    fn the_oldest_connection_makes_room_when_there_are_too_many() {
        let gate = gate(2, 9, 9);
        let mut first = enter(&gate, "192.0.2.1");
        let mut second = enter(&gate, "198.51.100.1");
        let mut third = enter(&gate, "203.0.113.1");
        assert!(is_evicted(&mut first.1));
        assert!(!is_evicted(&mut second.1) && !is_evicted(&mut third.1));
        drop(first);
        assert_eq!((gate.half_open(), gate.evicted()), (2, 1));
        second.0.is_established();
        let _fourth = enter(&gate, "192.0.2.1");
        assert!(!is_evicted(&mut second.1) && !is_evicted(&mut third.1));
    }

    #[test]
    fn a_prefix_with_too_many_connections_evicts_its_own() {
        let gate = gate(9, 1, 9);
        let mut other = enter(&gate, "198.51.100.1");
        let mut first = enter(&gate, "192.0.2.1");
        let mut second = enter(&gate, "::ffff:192.0.2.200");
        assert!(is_evicted(&mut first.1));
        assert!(!is_evicted(&mut other.1) && !is_evicted(&mut second.1));
        let mut first = enter(&gate, "2001:db8:0:1::1");
        let _second = enter(&gate, "2001:db8:0:ff::1");
        assert!(is_evicted(&mut first.1), "one /56");
    }

    #[test]
    fn a_prefix_has_a_bound_that_sessions_count_for_too() {
        let gate = gate(9, 9, 2);
        let first = enter(&gate, "192.0.2.1");
        first.0.is_established();
        let second = enter(&gate, "192.0.2.2");
        assert!(gate.enter(ip("192.0.2.3"), false).is_none());
        let proxied = gate.enter(ip("192.0.2.4"), true);
        assert!(proxied.is_some(), "a proxy comes for many");
        drop((second, proxied));
        let third = enter(&gate, "192.0.2.3");
        drop((first, third));
        assert_eq!(gate.half_open(), 0);
        assert!(gate.state().prefixes.is_empty(), "nothing is left behind");
    }
}
