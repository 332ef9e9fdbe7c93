//! What was read and is not used up yet.
#![warn(clippy::indexing_slicing)]

/// An empty buffer that is larger is given back, so that one large Record does not hold its memory for ever.
const KEEP: usize = 64 * 1024;

/// The bytes of a stream, from the first that is not used up. How many there may be is the decoder's to bound.
#[derive(Clone, Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    /// How much of the front is used up.
    used: usize,
}

impl Inbox {
    /// Adds what was read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.used);
        self.used = 0;
        if self.bytes.is_empty() && self.bytes.capacity() > KEEP {
            self.bytes = Vec::new();
        }
        self.bytes.extend(bytes);
    }

    /// What is not used up.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.used..).unwrap_or_default()
    }

    /// Uses up the next `count` bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.used = self.bytes.len().min(self.used + count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_large_record_is_given_back() {
        let mut inbox = Inbox::default();
        inbox.push(&vec![7; 10 * KEEP]);
        inbox.consume(10 * KEEP);
        assert_eq!(inbox.rest(), []);
        inbox.push(&[1, 2]);
        assert!(inbox.bytes.capacity() < KEEP);
        inbox.consume(1);
        inbox.push(&[3]);
        assert_eq!(inbox.rest(), [2, 3]);
    }
}
