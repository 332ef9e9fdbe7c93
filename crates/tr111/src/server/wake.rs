//! Copies of a UDP Connection Request, spaced (TR-111 Part 2 §2.2.2.3).

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

/// The timestamp for the next request to a device that was last sent `last`: the device takes only greater ones (§2.2.1.4), so that two
/// requests within a second, or after the clock was set back, must not have the same.
pub fn next_timestamp(now_unix: u64, last: Option<u64>) -> u64 {
    last.map_or(now_unix, |last| now_unix.max(last.saturating_add(1)))
}

/// How copies are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WakeConfig {
    /// Identical copies, at least one.
    pub copies: u32,
    /// Time between them.
    pub spacing: Duration,
    /// Most requests with copies outstanding.
    pub max_outstanding: usize,
}

impl Default for WakeConfig {
    fn default() -> Self {
        Self {
            copies: 3,
            spacing: Duration::from_millis(100),
            max_outstanding: 100_000,
        }
    }
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wake {
    /// To the device.
    pub to: SocketAddr,
    /// From this address of ours: the one of the STUN server.
    pub local: SocketAddr,
    /// The request.
    pub octets: Vec<u8>,
}

/// Requests with copies outstanding.
#[derive(Debug)]
pub struct Wakes {
    config: WakeConfig,
    ready: VecDeque<Wake>,
    later: BTreeMap<(Instant, u64), (Wake, u32)>,
    next: u64,
}

impl Wakes {
    /// None outstanding.
    pub fn new(config: WakeConfig) -> Self {
        Self {
            config,
            ready: VecDeque::new(),
            later: BTreeMap::new(),
            next: 0,
        }
    }

    /// Sends the first copy now and the others later; false when too many are outstanding, and then nothing is sent.
    #[must_use]
    pub fn start(&mut self, now: Instant, wake: Wake) -> bool {
        if self.later.len() + self.ready.len() >= self.config.max_outstanding {
            return false;
        }
        self.copy(now, wake, self.config.copies.max(1));
        true
    }

    fn copy(&mut self, now: Instant, wake: Wake, left: u32) {
        if left > 1 {
            self.next += 1;
            let due = (now + self.config.spacing, self.next);
            self.later.insert(due, (wake.clone(), left - 1));
        }
        self.ready.push_back(wake);
    }

    /// Time passes.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(first) = self.later.first_entry()
            && first.key().0 <= now
        {
            let (wake, left) = first.remove();
            self.copy(now, wake, left);
        }
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Wake> {
        self.ready.pop_front()
    }

    /// When [`Wakes::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.later.first_key_value().map(|((due, _), _)| *due)
    }
}
