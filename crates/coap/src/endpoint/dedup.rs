//! Which message IDs were seen, and what was answered (RFC 7252 §4.5).
//!
//! Each peer has a window of its latest messages, searched by message ID; two queues, one over all peers
//! without and one over all with security, say which is the oldest. At the bounds the former goes first, so
//! that a flood in forged names costs authenticated peers nothing. An entry costs some 50 bytes; answers of up to 22 bytes are stored in it.
//!
//! A message is a duplicate when the ID *and the token* are those of a remembered one: a repetition is
//! identical byte for byte (RFC 7252 §4.2), so a message with another token is a new one whose sender
//! reused the ID early, as a device does that lost power. Answering it with the old answer, whose token
//! its sender does not know, would help nobody.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::peers::{PeerKey, Peers};
use super::timers::after;
use crate::message::Token;

/// Longest answer stored without an allocation.
const INLINE: usize = 22;
/// Clock of the table: quarters of a second since its first use.
const TICKS_PER_SECOND: u64 = 4;

/// What a peer's repetition is answered with.
enum Reply {
    /// Nothing yet, or never.
    None,
    Inline {
        len: u8,
        bytes: [u8; INLINE],
    },
    Heap(Box<[u8]>),
}

struct Entry {
    tick: u32,
    token: u16,
    confirmable: bool,
    reply: Reply,
}

/// The latest messages of one peer, oldest first.
#[derive(Default)]
pub(super) struct Window {
    ids: VecDeque<u16>,
    entries: VecDeque<Entry>,
    /// Sequence number of the first entry.
    first: u32,
}

impl Window {
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    fn entry(&mut self, seq: u32) -> Option<&mut Entry> {
        self.entries.get_mut(seq.wrapping_sub(self.first) as usize)
    }

    fn holds(&self, seq: u32) -> bool {
        (seq.wrapping_sub(self.first) as usize) < self.entries.len()
    }

    /// Positions of an ID, newest first. Comparing whole slices without an early exit lets the
    /// compiler compare many IDs at once, which is the common case: the ID is not there.
    fn positions(&self, id: u16) -> impl Iterator<Item = usize> + '_ {
        let (head, tail) = self.ids.as_slices();
        let any = |ids: &[u16]| {
            ids.iter()
                .fold(false, |found, other| found | (*other == id))
        };
        let found = any(head) | any(tail);
        self.ids
            .iter()
            .enumerate()
            .rev()
            .take(if found { usize::MAX } else { 0 })
            .filter(move |(_, other)| **other == id)
            .map(|(at, _)| at)
    }

    fn pop(&mut self) -> usize {
        self.ids.pop_front();
        let entry = self.entries.pop_front();
        self.first = self.first.wrapping_add(1);
        match entry {
            Some(Entry {
                reply: Reply::Heap(bytes),
                ..
            }) => bytes.len(),
            _ => 0,
        }
    }
}

/// Names one remembered message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    peer: PeerKey,
    seq: u32,
}

/// One thing to forget some day.
#[derive(Clone, Copy)]
struct Due {
    peer: PeerKey,
    /// `None` for the peer's own message IDs (RFC 7252 §4.4).
    seq: Option<u32>,
    tick: u32,
}

/// What became of a message ID.
pub(super) enum Lookup<'a> {
    New,
    /// A duplicate, and what to send again.
    Replay(&'a [u8]),
    /// A duplicate that gets no answer (yet).
    Ignore,
}

/// The memory of all peers' messages.
pub(super) struct Dedup {
    /// Oldest first; of peers without security, and of those with.
    due: [VecDeque<Due>; 2],
    live: usize,
    bytes: usize,
    start: Option<Instant>,
    per_peer: usize,
    total: usize,
    max_bytes: usize,
    exchange_ticks: u32,
    non_ticks: u32,
    pub(super) evicted: u64,
}

/// Bounds of the memory.
pub(super) struct Bounds {
    pub(super) per_peer: usize,
    pub(super) total: usize,
    pub(super) bytes: usize,
    pub(super) exchange_lifetime: Duration,
    pub(super) non_lifetime: Duration,
}

fn ticks(time: Duration) -> u32 {
    u32::try_from(time.as_millis() * u128::from(TICKS_PER_SECOND) / 1000)
        .unwrap_or(u32::MAX)
        .saturating_add(1)
}

/// Sixteen bits of a token: enough to tell an early reuse of an ID from a repetition.
fn short(token: &Token) -> u16 {
    let word = token.word().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (word >> 48) as u16
}

impl Dedup {
    pub(super) fn new(bounds: &Bounds) -> Dedup {
        Dedup {
            due: [VecDeque::new(), VecDeque::new()],
            live: 0,
            bytes: 0,
            start: None,
            per_peer: bounds.per_peer.max(1),
            total: bounds.total.max(1),
            max_bytes: bounds.bytes,
            exchange_ticks: ticks(bounds.exchange_lifetime),
            non_ticks: ticks(bounds.non_lifetime),
            evicted: 0,
        }
    }

    fn tick(&mut self, now: Instant) -> u32 {
        let start = *self.start.get_or_insert(now);
        let millis = now.saturating_duration_since(start).as_millis();
        u32::try_from(millis * u128::from(TICKS_PER_SECOND) / 1000).unwrap_or(u32::MAX)
    }

    /// Whether a message was seen within its lifetime, and what was answered.
    pub(super) fn look_up<'a>(
        &mut self,
        now: Instant,
        peers: &'a Peers,
        peer: PeerKey,
        id: u16,
        token: &Token,
    ) -> Lookup<'a> {
        let tick = self.tick(now);
        let token = short(token);
        let Some(window) = peers.get(peer).map(|state| &state.window) else {
            return Lookup::New;
        };
        for at in window.positions(id) {
            let Some(entry) = window.entries.get(at) else {
                continue;
            };
            let lifetime = if entry.confirmable {
                self.exchange_ticks
            } else {
                self.non_ticks
            };
            if entry.token != token || tick.saturating_sub(entry.tick) > lifetime {
                continue;
            }
            return match &entry.reply {
                Reply::None => Lookup::Ignore,
                Reply::Inline { len, bytes } => {
                    Lookup::Replay(bytes.get(..usize::from(*len)).unwrap_or_default())
                }
                Reply::Heap(bytes) => Lookup::Replay(bytes),
            };
        }
        Lookup::New
    }

    /// Remembers a message that has no answer yet.
    pub(super) fn remember(
        &mut self,
        now: Instant,
        peers: &mut Peers,
        peer: PeerKey,
        id: u16,
        token: &Token,
        confirmable: bool,
    ) -> Seen {
        let tick = self.tick(now);
        let mut seq = 0;
        if let Some(state) = peers.get_mut(peer) {
            let window = &mut state.window;
            if window.ids.len() >= self.per_peer {
                self.bytes -= window.pop();
                self.live -= 1;
                self.evicted += 1;
            }
            seq = window.first.wrapping_add(window.ids.len() as u32);
            window.ids.push_back(id);
            window.entries.push_back(Entry {
                tick,
                token: short(token),
                confirmable,
                reply: Reply::None,
            });
            self.live += 1;
            let secure = state.peer.session.is_some();
            self.due[usize::from(secure)].push_back(Due {
                peer,
                seq: Some(seq),
                tick,
            });
        }
        let seen = Seen { peer, seq };
        self.enforce(peers, Some(seen));
        seen
    }

    /// Sets the answer that a repetition gets.
    pub(super) fn answer(&mut self, peers: &mut Peers, seen: Seen, answer: &[u8]) {
        let Some(entry) = peers
            .get_mut(seen.peer)
            .and_then(|state| state.window.entry(seen.seq))
        else {
            return;
        };
        if let Reply::Heap(old) = &entry.reply {
            self.bytes -= old.len();
        }
        let mut bytes = [0; INLINE];
        entry.reply = match bytes.get_mut(..answer.len()) {
            Some(start) => {
                start.copy_from_slice(answer);
                Reply::Inline {
                    len: answer.len() as u8,
                    bytes,
                }
            }
            None => {
                self.bytes += answer.len();
                Reply::Heap(answer.into())
            }
        };
        self.enforce(peers, None);
    }

    /// Keeps a peer until its last own message ID may be used again (RFC 7252 §4.4).
    pub(super) fn hold_ids(&mut self, now: Instant, peers: &mut Peers, peer: PeerKey) {
        let tick = self.tick(now);
        if let Some(state) = peers.get_mut(peer)
            && !state.ids_held
        {
            state.ids_held = true;
            let secure = state.peer.session.is_some();
            self.due[usize::from(secure)].push_back(Due {
                peer,
                seq: None,
                tick,
            });
        }
    }

    /// Forgets until the bounds hold, sparing a message that has yet to be served.
    fn enforce(&mut self, peers: &mut Peers, spare: Option<Seen>) {
        let spared =
            |due: &Due| spare.is_some_and(|s| s.peer == due.peer && due.seq == Some(s.seq));
        while self.live > self.total || self.bytes > self.max_bytes {
            let Some(queue) = self
                .due
                .iter()
                .position(|queue| queue.front().is_some_and(|due| !spared(due)))
            else {
                break;
            };
            let before = self.live;
            self.forget_first(peers, queue);
            self.evicted += (before - self.live) as u64;
        }
        // Entries that their own peer pushed out leave marks here; sweep them before they pile up.
        let marks: usize = self.due.iter().map(VecDeque::len).sum();
        if marks > 2 * (self.live + peers.len()) + 64 {
            for queue in &mut self.due {
                queue.retain(|due| {
                    peers.get(due.peer).is_some_and(|state| match due.seq {
                        Some(seq) => state.window.holds(seq),
                        None => state.ids_held,
                    })
                });
            }
        }
    }

    fn forget_first(&mut self, peers: &mut Peers, queue: usize) {
        let Some(due) = self.due[queue].pop_front() else {
            return;
        };
        let Some(state) = peers.get_mut(due.peer) else {
            return;
        };
        match due.seq {
            Some(seq) if state.window.holds(seq) => {
                self.bytes -= state.window.pop();
                self.live -= 1;
            }
            Some(_) => {}
            None => state.ids_held = false,
        }
        peers.release(due.peer);
    }

    /// Forgets what has outlived its time.
    pub(super) fn expire(&mut self, now: Instant, peers: &mut Peers) {
        for queue in 0..self.due.len() {
            self.expire_queue(now, peers, queue);
        }
    }

    fn expire_queue(&mut self, now: Instant, peers: &mut Peers, queue: usize) {
        let tick = self.tick(now);
        while let Some(due) = self.due[queue].front().copied() {
            if tick.saturating_sub(due.tick) <= self.exchange_ticks {
                return;
            }
            let last = peers.get(due.peer).and_then(|state| state.ids.last);
            match (due.seq, last) {
                (None, Some(last))
                    if tick.saturating_sub(self.tick(last)) <= self.exchange_ticks =>
                {
                    self.due[queue].pop_front();
                    let tick = self.tick(last);
                    self.due[queue].push_back(Due { tick, ..due });
                    // Out of order by less than a lifetime, and at most once per peer and lifetime.
                }
                _ => self.forget_first(peers, queue),
            }
        }
    }

    /// When the oldest entry outlives its time.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let oldest = self.due.iter().filter_map(VecDeque::front);
        let tick = oldest.map(|due| due.tick).min()?;
        let ticks = u64::from(tick) + u64::from(self.exchange_ticks) + 1;
        Some(after(
            self.start?,
            Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND),
        ))
    }

    /// A peer was removed with everything it had.
    pub(super) fn dropped(&mut self, window: &mut Window) {
        while !window.is_empty() {
            self.bytes -= window.pop();
            self.live -= 1;
        }
    }
}
