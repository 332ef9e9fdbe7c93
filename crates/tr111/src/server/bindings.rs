//! Which device listens where.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::SocketAddr,
    time::Instant,
};

use crate::stun::TransactionId;

/// Where a device listens for UDP Connection Requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The device's address as seen from here.
    pub at: SocketAddr,
    /// The address of ours that it sends to: UDP Connection Requests must leave from it (§2.2.2.3).
    pub local: SocketAddr,
    /// When it came to be this.
    pub since: Instant,
    /// When an authenticated request last confirmed it.
    pub seen: Instant,
}

/// Bindings by STUNUsername.
#[derive(Debug)]
pub(super) struct Bindings {
    held: HashMap<Box<[u8]>, Binding>,
    max: usize,
}

impl Bindings {
    pub(super) fn new(max: usize) -> Self {
        Self {
            held: HashMap::new(),
            max,
        }
    }

    /// Records a binding; whether it is another one than before, or `None` when there is no room for it.
    pub(super) fn record(
        &mut self,
        now: Instant,
        username: &[u8],
        at: SocketAddr,
        local: SocketAddr,
    ) -> Option<bool> {
        if let Some(known) = self.held.get_mut(username)
            && (known.at, known.local) == (at, local)
        {
            known.seen = now;
            return Some(false);
        }
        let new = Binding {
            at,
            local,
            since: now,
            seen: now,
        };
        self.insert(username, new).then_some(true)
    }

    pub(super) fn insert(&mut self, username: &[u8], binding: Binding) -> bool {
        if let Some(known) = self.held.get_mut(username) {
            *known = binding;
            return true;
        }
        let room = self.held.len() < self.max;
        if room {
            self.held.insert(username.into(), binding);
        }
        room
    }

    pub(super) fn get(&self, username: &[u8]) -> Option<Binding> {
        self.held.get(username).copied()
    }

    pub(super) fn remove(&mut self, username: &[u8]) {
        self.held.remove(username);
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }
}

/// Transaction IDs of authenticated requests that were taken.
#[derive(Debug)]
pub(super) struct Recent {
    known: HashSet<(TransactionId, SocketAddr)>,
    order: VecDeque<(TransactionId, SocketAddr)>,
    max: usize,
}

impl Recent {
    pub(super) fn new(max: usize) -> Self {
        Self {
            known: HashSet::new(),
            order: VecDeque::new(),
            max: max.max(1),
        }
    }

    /// Whether this is the first time.
    pub(super) fn first(&mut self, id: TransactionId, from: SocketAddr) -> bool {
        if !self.known.insert((id, from)) {
            return false;
        }
        self.order.push_back((id, from));
        if self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}
