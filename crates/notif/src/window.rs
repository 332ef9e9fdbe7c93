//! The acceptance window of Message IDs.

use crate::config::WindowConfig;

/// What a Message ID is to the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Higher than all before.
    New,
    /// Lower than the highest, and not seen before.
    Reordered,
    /// Seen before.
    Duplicate,
    /// Too far from the highest.
    OutOfWindow,
    /// Too far from the highest as well, or seen before, but not the only one: the publisher has begun anew.
    Restarted,
}

impl Arrival {
    /// Whether the message is to be taken.
    pub fn is_accepted(self) -> bool {
        matches!(self, Self::New | Self::Reordered | Self::Restarted)
    }
}

/// Messages refused one after the other, with ascending IDs.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    len: u32,
    first: u32,
    last: u32,
    /// All of them far from everything known.
    far: bool,
}

/// The acceptance window of Message IDs of one publisher: what is new, what was seen, what is lost.
///
/// Message IDs are compared as RFC 1982 compares serial numbers, so that the wrap from 2³²-1 to 0 (-26 §3.2) is one step like any other.
///
/// ```text
///   too old │◀───── reorder ─────▶│ highest │◀───── forward ─────▶│ too far
///           │ seen, or missing    │         │ those skipped       │
///           │ until it leaves:    │         │ become missing      │
///           ▼ lost                                                ▼ a restart, if others follow it
/// ```
#[derive(Debug, Clone)]
pub struct Window {
    seen: Box<[u64]>,
    highest: u32,
    /// IDs up to the highest that are kept account of, at most the size.
    span: u32,
    missing: u32,
    lost: u64,
    run: Run,
    forward: u32,
    restart_after: u32,
}

impl Window {
    /// A window that has seen nothing and expects this ID next. Lower ones may come too, as long as they are in the window.
    pub fn before(config: &WindowConfig, id: u32) -> Self {
        let words = config.size() / 64;
        Self {
            seen: vec![0; usize::try_from(words).unwrap_or(1)].into(),
            highest: id.wrapping_sub(1),
            span: 0,
            missing: 0,
            lost: 0,
            run: Run::default(),
            forward: config.forward.clamp(1, i32::MAX.unsigned_abs()),
            restart_after: config.restart_after.max(1),
        }
    }

    /// IDs that were skipped and may still come.
    pub fn missing(&self) -> u32 {
        self.missing
    }

    /// IDs that were skipped and are too old to come.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Notes a message with this ID.
    pub fn note(&mut self, id: u32) -> Arrival {
        let ahead = id.wrapping_sub(self.highest);
        if ahead == 1 {
            self.run.len = 0;
            self.step(id);
            return Arrival::New;
        }
        let behind = self.highest.wrapping_sub(id);
        if behind < self.size() {
            if self.is_seen(id) {
                return self.refuse(id, false, Arrival::Duplicate);
            }
            self.run.len = 0;
            if behind >= self.span {
                // Before the first one that came.
                self.missing += behind - self.span;
                self.span = behind + 1;
            } else {
                self.missing -= 1;
            }
            self.set(id, true);
            return Arrival::Reordered;
        }
        // The halves of the circle: what is not ahead is behind.
        if ahead <= self.forward {
            self.run.len = 0;
            self.advance(id, ahead);
            return Arrival::New;
        }
        self.refuse(id, behind > self.forward, Arrival::OutOfWindow)
    }

    fn size(&self) -> u32 {
        u32::try_from(self.seen.len()).map_or(u32::MAX, |words| words * 64)
    }

    fn place(&self, id: u32) -> (usize, u64) {
        let slot = id & (self.size() - 1);
        (
            usize::try_from(slot / 64).unwrap_or(0),
            1_u64 << (slot % 64),
        )
    }

    fn is_seen(&self, id: u32) -> bool {
        let (word, bit) = self.place(id);
        self.seen.get(word).is_some_and(|word| word & bit != 0)
    }

    fn set(&mut self, id: u32, seen: bool) {
        let (word, bit) = self.place(id);
        if let Some(word) = self.seen.get_mut(word) {
            if seen {
                *word |= bit;
            } else {
                *word &= !bit;
            }
        }
    }

    /// Moves on by one, to an ID that is seen.
    fn step(&mut self, id: u32) {
        self.make_room(id);
        self.set(id, true);
        self.highest = id;
    }

    /// The place of a new highest ID is that of the one that becomes too old.
    fn make_room(&mut self, id: u32) {
        if self.span < self.size() {
            self.span += 1;
        } else if !self.is_seen(id) {
            self.missing -= 1;
            self.lost += 1;
        }
    }

    fn advance(&mut self, id: u32, ahead: u32) {
        let size = self.size();
        if ahead >= size {
            self.lost += u64::from(self.missing) + u64::from(ahead - size);
            self.seen.fill(0);
            self.span = size;
            self.missing = size - 1;
        } else {
            for skipped in 1..ahead {
                let skipped = self.highest.wrapping_add(skipped);
                self.make_room(skipped);
                self.set(skipped, false);
                self.missing += 1;
            }
            self.make_room(id);
        }
        self.set(id, true);
        self.highest = id;
    }

    /// A message is refused, unless it is one of several by which the publisher is seen to have begun anew.
    ///
    /// Messages that come far too late look like that too, if they come one after the other. So IDs that are not far from the highest, or seen
    /// before, only count from 0 or 1 on, where publishers up to -25 begin.
    fn refuse(&mut self, id: u32, far: bool, arrival: Arrival) -> Arrival {
        let follows = (1..=self.size()).contains(&id.wrapping_sub(self.run.last));
        self.run = if self.run.len > 0 && follows {
            Run {
                len: self.run.len + 1,
                last: id,
                far: self.run.far && far,
                ..self.run
            }
        } else {
            Run {
                len: 1,
                first: id,
                last: id,
                far,
            }
        };
        if self.run.len < self.restart_after || !(self.run.far || self.run.first <= 1) {
            return arrival;
        }
        self.lost += u64::from(self.missing);
        self.seen.fill(0);
        self.highest = id;
        self.span = 1;
        self.missing = 0;
        self.run.len = 0;
        self.set(id, true);
        Arrival::Restarted
    }
}
