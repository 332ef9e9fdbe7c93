//! Parameters whose changes are told no more often than another parameter says (TR-111 Part 1 §1.2.1, Part 2 §2.2.1.3).
//!
//! A change that comes too early waits; when the time is over one change is told, with the value there is then. This is for Controllers and
//! the ACS alike: what follows changes sees them here first.

use std::time::{Duration, Instant};

use homefleet_model::tree::Change;
use homefleet_tr111::limit::NotificationLimit;

use super::Engine;
use crate::provider::Now;

/// A parameter, and the one that holds the least time between two notifications of it, in seconds.
const LIMITED: [(&str, &str); 2] = [
    (
        "Device.ManagementServer.ManageableDeviceNumberOfEntries",
        "Device.ManagementServer.ManageableDeviceNotificationLimit",
    ),
    (
        "Device.ManagementServer.UDPConnectionRequestAddress",
        "Device.ManagementServer.UDPConnectionRequestAddressNotificationLimit",
    ),
];

/// What waits.
#[derive(Debug, Default)]
pub(super) struct NotificationLimits([Limited; LIMITED.len()]);

#[derive(Debug, Default)]
struct Limited {
    limit: NotificationLimit,
    /// The value before the first change that waits.
    old: Option<String>,
}

impl NotificationLimits {
    /// When a change that waits may be told.
    pub(super) fn timeout(&self, now: Instant) -> Option<Instant> {
        let waiting = self.0.iter().filter_map(|at| at.limit.poll_timeout());
        waiting.map(|at| at.unwrap_or(now)).min()
    }
}

impl Engine {
    /// What changed in the tree, without what has to wait, and with what has waited long enough.
    pub(super) fn drain_changes(&mut self, now: Now) -> Vec<Change> {
        let tree = &mut self.device.tree;
        let mut changes = tree.drain_changes();
        for (limited, (path, least)) in self.limits.0.iter_mut().zip(LIMITED) {
            changes.retain(|change| match change {
                Change::ValueChanged { path: at, old, .. } if at.as_str() == path => {
                    limited.old.get_or_insert_with(|| old.clone());
                    limited.limit.changed();
                    false
                }
                _ => true,
            });
            let least = tree.text(least).and_then(|text| text.parse().ok());
            limited.limit.set(Duration::from_secs(least.unwrap_or(0)));
            if limited.limit.take(now.instant)
                && let (Some(new), Ok(at)) = (tree.text(path), path.parse())
            {
                changes.push(Change::ValueChanged {
                    path: at,
                    old: limited.old.take().unwrap_or_default(),
                    new: new.to_owned(),
                });
            }
        }
        changes
    }
}
