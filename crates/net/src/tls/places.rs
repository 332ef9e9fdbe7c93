//! How many peers may be half way in: in the handshake, and waiting for a decision.

use std::sync::Arc;

use tokio::sync::Notify;

use super::error::Distrust;
use super::link::Chain;
use super::stats::count;
use super::{Shared, lock};

/// The place of a handshake among those under way.
pub(super) struct Place {
    shared: Arc<Shared>,
    id: u64,
    /// Told when the place is needed for a newer one.
    pub(super) evicted: Arc<Notify>,
}

impl Place {
    pub(super) fn take(shared: &Arc<Shared>) -> Self {
        let id = shared.id();
        let evicted = Arc::new(Notify::new());
        let mut places = lock(&shared.half_open);
        places.insert(id, evicted.clone());
        while places.len() > shared.config.max_half_open.max(1)
            && let Some((_, oldest)) = places.pop_first()
        {
            count(&shared.counters.half_open_evicted);
            oldest.notify_one();
        }
        drop(places);
        Self {
            shared: shared.clone(),
            id,
            evicted,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.shared.half_open).remove(&self.id);
    }
}

/// The place of a peer among those who wait for a decision.
pub(super) struct Waiting {
    shared: Arc<Shared>,
    id: u64,
}

impl Waiting {
    pub(super) fn take(shared: &Arc<Shared>, id: u64, chain: &Chain) -> Self {
        let mut waiting = lock(&shared.waiting);
        waiting.insert(id, chain.clone());
        let max = shared.config.max_held.max(1);
        let leaf = chain.first();
        let mut same = waiting
            .iter()
            .filter(|(_, other)| other.first() == leaf)
            .map(|(id, _)| *id);
        let oldest = same.next();
        let over = match oldest.filter(|_| same.count() >= (max / 4).max(1)) {
            Some(oldest) => waiting.remove(&oldest).map(|_| oldest),
            None if waiting.len() > max => waiting.pop_first().map(|(oldest, _)| oldest),
            None => None,
        };
        drop(waiting);
        let watch = over.and_then(|over| lock(&shared.watches).get(&over)?.upgrade());
        if let Some(watch) = watch {
            count(&shared.counters.undecided);
            watch.distrust(Distrust::Undecided);
        }
        Self {
            shared: shared.clone(),
            id,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        lock(&self.shared.waiting).remove(&self.id);
    }
}
