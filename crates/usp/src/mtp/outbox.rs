//! What waits to be written, with a bound: a peer that reads slowly does not fill the memory.

use std::collections::VecDeque;
use std::fmt;

/// Writes in order. What the protocol itself must say is always taken; it is small and there is little of it.
#[derive(Clone)]
pub(super) struct Outbox<T> {
    writes: VecDeque<(T, usize)>,
    bytes: usize,
    max: usize,
}

/// How much waits, not what: a password may be among it.
impl<T> fmt::Debug for Outbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("writes", &self.writes.len())
            .field("bytes", &self.bytes)
            .finish()
    }
}

impl<T> Outbox<T> {
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

    /// Adds a write of `bytes` bytes.
    pub(super) fn push(&mut self, write: T, bytes: usize) {
        self.bytes += bytes;
        self.writes.push_back((write, bytes));
    }

    /// Takes the next write.
    pub(super) fn pop(&mut self) -> Option<T> {
        let (write, bytes) = self.writes.pop_front()?;
        self.bytes -= bytes;
        Some(write)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}
