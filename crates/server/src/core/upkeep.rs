//! What has to happen from time to time.

use std::time::Duration;

use tokio::sync::watch;

use super::Core;
use crate::clock::Millis;
use crate::store::{Batch, Write};

/// How long a notification is remembered after it last came: longer than the longest interval between retries with
/// default settings (R-NOT.1: 5120 s).
const SEEN: Duration = Duration::from_secs(24 * 3600);
/// How often contact times go to disk, and tokens made beside the server are noticed.
const FLUSH: Duration = Duration::from_secs(5);
/// Rounds of flushing between two prunings: about one hour.
const PRUNE_EVERY: u32 = 720;

impl Core {
    /// Runs until `stop` changes; stores what is left.
    pub(crate) async fn run_upkeep(self, mut stop: watch::Receiver<bool>) {
        let mut round = 0;
        loop {
            let stopping = tokio::select! {
                () = tokio::time::sleep(FLUSH) => false,
                _ = stop.changed() => true,
            };
            self.upkeep(round % PRUNE_EVERY == 0).await;
            round += 1;
            if stopping {
                return;
            }
        }
    }

    /// One round.
    pub(crate) async fn upkeep(&self, prune: bool) {
        let (_, stored) = self.change(|state, now| {
            let dirty = state.registry.drain_dirty();
            let mut batch = Batch(
                dirty
                    .into_iter()
                    .map(|device| Write::Device(Box::new(device)))
                    .collect(),
            );
            if prune {
                let config = &self.inner().config;
                let ago = |keep: Duration| {
                    let millis = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
                    Millis(now.0.saturating_sub(millis))
                };
                batch.push(Write::Prune {
                    before: ago(config.keep),
                    seen_before: ago(SEEN),
                    audit_before: ago(config.keep_audit),
                });
            }
            ((), batch)
        });
        // A failure is counted and logged by `change`; the next round tries again with newer times.
        drop(stored.await);
        if let Err(error) = self.reload_tokens().await {
            tracing::warn!(%error, "tokens could not be read again");
        }
    }
}
