//! What waits to be written, with a bound: a peer that reads slowly does not fill the memory.

use std::collections::VecDeque;

/// Writes in order. What the protocol itself must say is always taken; it is small and there is little of it.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    writes: VecDeque<Vec<u8>>,
    bytes: usize,
    max: usize,
}

impl Outbox {
    /// At most `max` bytes wait.
    pub(super) fn new(max: usize) -> Self {
        Self {
            writes: VecDeque::new(),
            bytes: 0,
            max,
        }
    }

    /// Whether `more` bytes have room. One write always has when nothing waits.
    pub(super) fn has_room(&self, more: usize) -> bool {
        self.writes.is_empty() || self.bytes.saturating_add(more) <= self.max
    }

    /// Adds a write.
    pub(super) fn push(&mut self, write: Vec<u8>) {
        self.bytes += write.len();
        self.writes.push_back(write);
    }

    /// Takes the next write.
    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        let write = self.writes.pop_front()?;
        self.bytes -= write.len();
        Some(write)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}
