//! The publisher of UDP-notif towards one receiver: what is to be told goes in, datagrams come out at the pace that is allowed.
//!
//! ```text
//! publish() ─▶ waiting (bounded) ─▶ Message ID, segments, frames ─▶ poll_transmit() ─▶ confirm() │ fail() │ take_back()
//!                  │ full: dropped, counted          ▲ token buckets, room of the path, receiver there
//! ```
//!
//! # Drive rule
//! 1. [`publish`](Publisher::publish) what there is to tell, [`set_ready`](Publisher::set_ready) when the receiver comes or goes,
//!    [`set_room`](Publisher::set_room) when the path changes;
//! 2. drain [`poll_transmit`](Publisher::poll_transmit), send, and say what became of each datagram, in their order;
//! 3. sleep until [`poll_timeout`](Publisher::poll_timeout), or until there is something new.
//!
//! A message gets its Message ID when it leaves, not when it comes: what is dropped here is counted here, and never looks
//! like a loss on the path.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::EncodeError;

mod bucket;
mod config;
mod cut;
mod ids;

use bucket::Buckets;
pub use config::{Config, Dropped, Framing, MIN_ROOM, Pacing, default_framing};
use cut::{Cut, Cutter};
pub use ids::MessageIds;

/// Why a message was not taken. Each is counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Longer than [`Config::max_message`], or than fits [`Config::max_segments`] segments of the path.
    #[error("{len} bytes are more than one message may have, {max}")]
    TooLarge {
        /// Bytes given.
        len: usize,
        /// Bytes possible now.
        max: usize,
    },
    /// The receiver is away, and as much waits for it as may.
    #[error("the receiver is away, and no more may wait for it")]
    Away,
    /// More comes than the pace lets go.
    #[error("more comes than the pace lets go")]
    Paced,
}

/// Counters since the publisher was made. At any time
/// `offered = sent + failed + dropped_away + dropped_paced + too_large + waiting`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages that were to be sent.
    pub offered: u64,
    /// Messages that left whole. Each has used up one Message ID.
    pub sent: u64,
    /// Messages of which the system refused to send at least one datagram. Each has used up one Message ID.
    pub failed: u64,
    /// Bytes of the messages that left whole, without headers.
    pub sent_bytes: u64,
    /// Datagrams, or records of DTLS, that left.
    pub datagrams: u64,
    /// Segments that left; a message in one piece is none.
    pub segments: u64,
    /// Messages dropped because the receiver was away and the queue full, or the publisher ended before it came.
    pub dropped_away: u64,
    /// Messages dropped because more came than the pace, or the socket, lets go.
    pub dropped_paced: u64,
    /// Messages refused as too large.
    pub too_large: u64,
    /// How often datagrams were cut anew because the path had less room.
    pub recut: u64,
}

/// The publisher towards one receiver.
#[derive(Debug)]
pub struct Publisher {
    config: Config,
    cutter: Cutter,
    ids: MessageIds,
    buckets: Option<Buckets>,
    ready: bool,
    waiting: VecDeque<Entry>,
    waiting_bytes: usize,
    /// Number of the first that waits, counted from the beginning.
    base: u64,
    next: Cursor,
    handed: VecDeque<Handed>,
    stats: Stats,
}

/// A message that waits, or is on its way.
#[derive(Debug)]
struct Entry {
    payload: Arc<[u8]>,
    /// Its Message ID, once part of it has left.
    id: Option<u32>,
    failed: bool,
}

/// What is cut next.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    message: u64,
    offset: usize,
    segment: u16,
}

/// A datagram that was handed out and of which nothing was said yet.
#[derive(Debug)]
struct Handed {
    before: Cursor,
    after: Cursor,
    segment: bool,
    bytes: usize,
}

impl Publisher {
    /// A publisher whose receiver is not there yet. `ids` is shared by all receivers up to -08, and each one's own from -09 on.
    ///
    /// # Errors
    /// What [`Config::check`] finds.
    pub fn new(config: Config, ids: MessageIds) -> Result<Self, EncodeError> {
        config.check()?;
        let config = config.bounded();
        Ok(Self {
            cutter: Cutter::new(&config),
            buckets: config.pacing.as_ref().map(Buckets::new),
            config,
            ids,
            ready: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            base: 0,
            next: Cursor::default(),
            handed: VecDeque::new(),
            stats: Stats::default(),
        })
    }

    /// The configuration, within its bounds.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Messages that wait or are on their way.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether another message of `len` bytes would be taken without anything being dropped.
    pub fn has_room(&self, len: usize) -> bool {
        self.waiting.len() < self.config.max_waiting
            && self.waiting_bytes.saturating_add(len) <= self.config.max_waiting_bytes
    }

    /// The receiver can be sent to (over DTLS: the handshake has ended), or cannot. Until it is told for the first time, it cannot.
    pub fn set_ready(&mut self, ready: bool) {
        self.ready = ready;
    }

    /// Bytes that one datagram (over DTLS: one record) takes without IP fragmentation, after all overheads below UDP-notif. At least
    /// [`MIN_ROOM`] is gone by.
    pub fn set_room(&mut self, room: usize) {
        self.cutter.set_room(room);
    }

    /// Bytes that one datagram takes, as told by [`set_room`](Self::set_room).
    pub fn room(&self) -> usize {
        self.cutter.room()
    }

    /// Takes a message to be sent.
    ///
    /// # Errors
    /// A [`PublishError`] when it was not taken; with [`Dropped::Oldest`] an older one that had not begun to leave is dropped for
    /// it, and it is taken all the same.
    pub fn publish(&mut self, payload: impl Into<Arc<[u8]>>) -> Result<(), PublishError> {
        let payload = payload.into();
        self.stats.offered += 1;
        let max = self.cutter.max_message();
        if payload.len() > max {
            self.stats.too_large += 1;
            let len = payload.len();
            return Err(PublishError::TooLarge { len, max });
        }
        while !self.has_room(payload.len()) {
            if self.config.dropped == Dropped::Newest || !self.drop_oldest() {
                return Err(self.count_dropped());
            }
        }
        self.waiting_bytes += payload.len();
        self.waiting.push_back(Entry {
            payload,
            id: None,
            failed: false,
        });
        Ok(())
    }

    /// The next datagram, if the receiver is there and the pace lets it go.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        if !self.ready {
            return None;
        }
        self.drop_unfit();
        let before = self.next;
        let mut datagram = Vec::new();
        let mut segment = false;
        while let Some(entry) = self
            .waiting
            .get_mut(usize::try_from(self.next.message - self.base).ok()?)
        {
            let begins = self.next.offset == 0 && self.next.segment == 0;
            let allowed = match &mut self.buckets {
                Some(buckets) => buckets.allow(now, u32::from(begins && entry.id.is_none())),
                None => true,
            };
            if !allowed {
                break;
            }
            let taken = datagram.len();
            // Only whole messages share a record; what does not fit any more begins the next one.
            if taken > 0 && !self.cutter.shares(taken, entry.payload.len()) {
                break;
            }
            if begins && entry.id.is_none() {
                entry.id = Some(self.ids.next());
                if let Some(buckets) = &mut self.buckets {
                    buckets.take_message();
                }
            }
            let id = entry.id.unwrap_or_default();
            let cut = Cut {
                id,
                payload: &entry.payload,
                offset: self.next.offset,
                segment: self.next.segment,
            };
            let cut = self.cutter.cut(&cut, &mut datagram);
            segment |= cut.segmented;
            if let Some(buckets) = &mut self.buckets {
                buckets.take_bytes(datagram.len() - taken);
            }
            if cut.last {
                self.next = Cursor {
                    message: self.next.message + 1,
                    ..Cursor::default()
                };
            } else {
                self.next.offset += cut.taken;
                self.next.segment += 1;
            }
            if cut.segmented || !self.config.shares_records() {
                break;
            }
        }
        if datagram.is_empty() {
            return None;
        }
        self.handed.push_back(Handed {
            before,
            after: self.next,
            segment,
            bytes: datagram.len(),
        });
        Some(datagram)
    }

    /// The oldest datagram that was handed out has left.
    pub fn confirm(&mut self) {
        if let Some(handed) = self.handed.pop_front() {
            self.stats.datagrams += 1;
            self.stats.segments += u64::from(handed.segment);
            self.finish(handed.after.message);
        }
    }

    /// The oldest datagram that was handed out was refused, and will not be sent: its messages are lost here.
    pub fn fail(&mut self) {
        let Some(handed) = self.handed.pop_front() else {
            return;
        };
        let last = match handed.after.offset {
            0 => handed.after.message,
            _ => handed.after.message + 1,
        };
        for message in handed.before.message..last {
            if let Some(entry) = usize::try_from(message - self.base)
                .ok()
                .and_then(|index| self.waiting.get_mut(index))
            {
                entry.failed = true;
            }
        }
        self.finish(handed.after.message);
    }

    /// None of the datagrams that were handed out has left: they are cut again, for instance because the path has less room
    /// ([`set_room`](Self::set_room)) than was known. The Message IDs stay.
    pub fn take_back(&mut self) {
        let Some(first) = self.handed.front() else {
            return;
        };
        self.stats.recut += 1;
        self.next = first.before;
        let refund: usize = self.handed.iter().map(|handed| handed.bytes).sum();
        if let Some(buckets) = &mut self.buckets {
            buckets.give_back(refund);
        }
        self.handed.clear();
    }

    /// Datagrams handed out of which nothing was said yet.
    pub fn outstanding(&self) -> usize {
        self.handed.len()
    }

    /// Gives up what still waits, as the publisher ends; it is counted as dropped.
    pub fn abandon(&mut self) {
        self.handed.clear();
        for entry in std::mem::take(&mut self.waiting) {
            if entry.id.is_some() {
                self.stats.failed += 1;
            } else {
                self.stats.dropped_away += 1;
            }
            self.base += 1;
        }
        self.waiting_bytes = 0;
        self.next = Cursor {
            message: self.base,
            ..Cursor::default()
        };
    }

    /// When [`poll_transmit`](Self::poll_transmit) has something again; `None`: not by time alone.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        if !self.ready || self.next.message >= self.base + self.waiting.len() as u64 {
            return None;
        }
        Some(
            self.buckets
                .as_ref()
                .map_or(now, |buckets| buckets.when(now)),
        )
    }

    /// Takes the messages before `end` out: all of them has left, or was refused.
    fn finish(&mut self, end: u64) {
        while self.base < end {
            let Some(entry) = self.waiting.pop_front() else {
                break;
            };
            self.base += 1;
            self.waiting_bytes -= entry.payload.len();
            if entry.failed {
                self.stats.failed += 1;
            } else {
                self.stats.sent += 1;
                self.stats.sent_bytes += entry.payload.len() as u64;
            }
        }
    }

    /// Drops the oldest message of which nothing has left; false when there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some(index) = self.waiting.iter().position(|entry| entry.id.is_none()) else {
            return false;
        };
        if let Some(entry) = self.waiting.remove(index) {
            self.waiting_bytes -= entry.payload.len();
        }
        self.count_dropped();
        true
    }

    /// Messages that no longer fit, because the path has become narrower or segmentation is off, are dropped before they begin.
    fn drop_unfit(&mut self) {
        let max = self.cutter.max_message();
        loop {
            let Some(index) = usize::try_from(self.next.message - self.base).ok() else {
                return;
            };
            match self.waiting.get(index) {
                Some(entry) if entry.id.is_none() && entry.payload.len() > max => {
                    self.waiting_bytes -= entry.payload.len();
                    self.waiting.remove(index);
                    self.stats.too_large += 1;
                }
                _ => return,
            }
        }
    }

    /// Counts a message that is dropped because as much waits as may.
    fn count_dropped(&mut self) -> PublishError {
        if self.ready {
            self.stats.dropped_paced += 1;
            PublishError::Paced
        } else {
            self.stats.dropped_away += 1;
            PublishError::Away
        }
    }
}
