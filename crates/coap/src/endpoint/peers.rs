//! What is kept per peer.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::dedup::Window;
use super::hash::Keyed;
use super::slab::Slab;
use crate::peer::Peer;

/// Key of a peer in the table.
pub(super) type PeerKey = u64;

/// Something that waits for NSTART (RFC 7252 §4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Request(u64),
    Notification(u64),
}

/// One peer.
pub(super) struct PeerState {
    pub(super) peer: Peer,
    pub(super) window: Window,
    /// Interactions that count towards NSTART.
    pub(super) outstanding: usize,
    pub(super) queue: VecDeque<Work>,
    /// Block-wise transfers as server.
    pub(super) transfers: Vec<u64>,
    pub(super) exchanges: usize,
    pub(super) requests: usize,
    /// Own requests whose body goes out in blocks.
    pub(super) uploads: usize,
    pub(super) observations: usize,
    pub(super) transmissions: usize,
    /// Whether the forgetting queue holds this peer for its message IDs.
    pub(super) ids_held: bool,
    pub(super) ids: MessageIds,
    /// Somebody reads what is sent to this address (RFC 9175 §2.4).
    pub(super) verified: bool,
    /// Bytes that may be sent there until it is.
    pub(super) allowance: u32,
    /// How often something came from the peer.
    pub(super) heard: u32,
    /// A message of ours was given up, and nothing came since: until then PROBING_RATE has nothing more to be sent
    /// (RFC 7252 §4.7).
    pub(super) silent_until: Option<Instant>,
    /// When the next Non-confirmable notification may go (RFC 7641 §4.5.1).
    pub(super) next_non: Option<Instant>,
    /// A value to be sent back with the next request (RFC 9175 §2.3).
    pub(super) echo: Option<Box<[u8]>>,
}

impl PeerState {
    fn is_idle(&self) -> bool {
        self.window.is_empty()
            && self.outstanding == 0
            && self.queue.is_empty()
            && self.transfers.is_empty()
            && self.exchanges == 0
            && self.requests == 0
            && self.observations == 0
            && self.transmissions == 0
            && !self.ids_held
    }
}

impl PeerState {
    /// Something came from the peer; whether it had been silent.
    pub(super) fn hear(&mut self) -> bool {
        self.heard = self.heard.wrapping_add(1);
        self.silent_until.take().is_some()
    }

    /// Counts an upload, and gives it a Request-Tag where one is needed: beside another upload, and behind DTLS, where
    /// blocks of one that was given up may still be on their way (RFC 9175 §3.4, §3.5). No tag is used twice.
    pub(super) fn tag(&mut self, next: &mut u32) -> Option<u32> {
        self.uploads += 1;
        (self.uploads > 1 || self.peer.session.is_some()).then(|| {
            *next = next.wrapping_add(1).max(1);
            *next
        })
    }
}

/// Message IDs towards one peer (RFC 7252 §4.4).
pub(super) struct MessageIds {
    next: u16,
    used: u32,
    since: Option<Instant>,
    pub(super) last: Option<Instant>,
}

impl MessageIds {
    /// The next ID, and whether it was used less than `lifetime` ago.
    pub(super) fn next(&mut self, now: Instant, lifetime: Duration) -> (u16, bool) {
        const ALL: u32 = 1 << 16;
        let mut reused = false;
        if self.used == ALL {
            reused = self
                .since
                .is_some_and(|since| now.saturating_duration_since(since) < lifetime);
            self.used = 0;
        }
        if self.used == 0 {
            self.since = Some(now);
        }
        self.used += 1;
        self.last = Some(now);
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        (id, reused)
    }
}

/// The peers, by address and association.
pub(super) struct Peers {
    keys: HashMap<Peer, PeerKey, Keyed>,
    states: Slab<PeerState>,
    /// Whether addresses without security have to be verified.
    verify: bool,
}

impl Peers {
    pub(super) fn new(hash: Keyed, verify: bool) -> Peers {
        Peers {
            keys: HashMap::with_hasher(hash),
            states: Slab::new(),
            verify,
        }
    }

    pub(super) fn find(&self, peer: &Peer) -> Option<PeerKey> {
        self.keys.get(peer).copied()
    }

    /// The peer's key; a new peer's message IDs start at `first_id` (RFC 7252 §4.4: random).
    pub(super) fn intern(&mut self, peer: Peer, first_id: impl FnOnce() -> u16) -> PeerKey {
        if let Some(key) = self.keys.get(&peer) {
            return *key;
        }
        let key = self.states.insert(PeerState {
            peer,
            window: Window::default(),
            outstanding: 0,
            queue: VecDeque::new(),
            transfers: Vec::new(),
            exchanges: 0,
            requests: 0,
            uploads: 0,
            observations: 0,
            transmissions: 0,
            ids_held: false,
            ids: MessageIds {
                next: first_id(),
                used: 0,
                since: None,
                last: None,
            },
            verified: peer.session.is_some() || !self.verify,
            allowance: 0,
            heard: 0,
            silent_until: None,
            next_non: None,
            echo: None,
        });
        self.keys.insert(peer, key);
        key
    }

    pub(super) fn get(&self, key: PeerKey) -> Option<&PeerState> {
        self.states.get(key)
    }

    pub(super) fn get_mut(&mut self, key: PeerKey) -> Option<&mut PeerState> {
        self.states.get_mut(key)
    }

    /// Drops a peer of which nothing is kept any more.
    pub(super) fn release(&mut self, key: PeerKey) {
        if self.states.get(key).is_some_and(PeerState::is_idle) {
            self.remove(key);
        }
    }

    pub(super) fn remove(&mut self, key: PeerKey) -> Option<PeerState> {
        let state = self.states.remove(key)?;
        self.keys.remove(&state.peer);
        Some(state)
    }

    pub(super) fn len(&self) -> usize {
        self.states.len()
    }
}
