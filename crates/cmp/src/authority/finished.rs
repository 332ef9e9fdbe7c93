//! Transactions that are over.

use std::collections::{HashSet, VecDeque};

use super::TransactionId;

/// Identifiers of transactions that are over, so that a replayed first message is refused. The oldest is forgotten first.
pub(super) struct Finished {
    order: VecDeque<TransactionId>,
    known: HashSet<TransactionId>,
    limit: usize,
}

impl Finished {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            order: VecDeque::new(),
            known: HashSet::new(),
            limit,
        }
    }

    pub(super) fn contains(&self, id: &TransactionId) -> bool {
        self.known.contains(id)
    }

    pub(super) fn push(&mut self, id: TransactionId) {
        if self.limit > 0 && self.known.insert(id.clone()) {
            self.order.push_back(id);
        }
        while self.order.len() > self.limit {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}
