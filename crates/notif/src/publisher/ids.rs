//! Message IDs, as each generation has them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Generation;

/// A sequence of Message IDs. Clones go on with the same sequence: up to -08 all receivers of a publisher share one
/// (`Different subscribers share the same Message ID sequence`, -03 §3.2), from -09 on each receiver has its own.
#[derive(Debug, Clone)]
pub struct MessageIds(Arc<AtomicU32>);

impl MessageIds {
    /// The sequence as the generation begins it: `random` from -26 on, 1 before (-19 §3.2 demands it).
    pub fn new(generation: Generation, random: u32) -> Self {
        Self::starting_at(generation.first_message_id(random))
    }

    /// A sequence that begins here.
    pub fn starting_at(first: u32) -> Self {
        Self(Arc::new(AtomicU32::new(first)))
    }

    /// Whether receivers of this generation share one sequence.
    pub fn are_shared(generation: Generation) -> bool {
        !generation.counts_loss()
    }

    /// The next one: one more than the last, 0 after 2^32-1 (-26 §3.2).
    pub(super) fn next(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}
