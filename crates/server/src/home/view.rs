//! Homes as the API tells them.

use std::collections::BTreeSet;
use std::ops::Bound;

use homefleet_api as api;
use homefleet_api::{AssociationCounts, AssociationStatus};

use super::{Homes, judge};
use crate::clock::Millis;
use crate::device::Registry;
use crate::store::home::{AssociationRecord, HistoryRecord};

/// Most members and strangers of a home that are shown.
pub(crate) const MOST_SHOWN: usize = 500;

impl Homes {
    /// A device's association.
    pub(crate) fn association(&self, device: &str) -> Option<api::Association> {
        let record = self.associations.get(device)?;
        let history = record.history.iter().map(change).collect();
        Some(api::Association {
            history,
            ..self.told_of(record)
        })
    }

    /// Associations in the order of their devices after `after`: at most `limit`, out of at most `look_at`. Beside them, where to go on.
    pub(crate) fn associations(
        &self,
        status: Option<AssociationStatus>,
        after: Option<&str>,
        limit: usize,
        look_at: usize,
    ) -> (Vec<api::Association>, Option<String>) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.associations.range::<str, _>((from, Bound::Unbounded));
        let mut found = Vec::new();
        for (looked, (id, record)) in rest.enumerate() {
            if looked >= look_at || found.len() >= limit {
                // The one before this was the last looked at.
                let last = self
                    .associations
                    .range::<str, _>((Bound::Unbounded, Bound::Excluded(id.as_str())));
                return (found, last.last().map(|(id, _)| id.clone()));
            }
            if status.is_none_or(|status| record.status == status) {
                found.push(self.told_of(record));
            }
        }
        (found, None)
    }

    /// All claims, by status.
    pub(crate) fn counts(&self) -> AssociationCounts {
        self.counted
    }

    /// Gateways in the order of their IDs after `after`: at most `look_at`. Beside them, where to go on.
    pub(crate) fn gateways(
        &self,
        after: Option<&str>,
        look_at: usize,
    ) -> (Vec<String>, Option<String>) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut found: BTreeSet<&str> = self
            .tables
            .range::<str, _>((from, Bound::Unbounded))
            .map(|(id, _)| id.as_str())
            .take(look_at + 1)
            .collect();
        // Pairs of one gateway follow each other.
        let mut last = after.unwrap_or_default().to_owned();
        for _ in 0..=look_at {
            let behind = (last.clone(), "\u{10FFFF}".to_owned());
            let next = self
                .members
                .range((Bound::Excluded(behind), Bound::Unbounded));
            let Some((gateway, _)) = next.into_iter().next() else {
                break;
            };
            found.insert(gateway);
            last.clone_from(gateway);
        }
        let more = found.len() > look_at;
        let found: Vec<String> = found.into_iter().take(look_at).map(str::to_owned).collect();
        let next = found.last().filter(|_| more).cloned();
        (found, next)
    }

    /// The line of the list for a gateway; `None` when it is none.
    pub(crate) fn summary(
        &self,
        gateway: &str,
        device: api::DeviceSummary,
    ) -> Option<api::HomeSummary> {
        let table = self.tables.get(gateway);
        let mut devices = AssociationCounts::default();
        let mut any = table.is_some();
        for id in self.members_of(gateway) {
            if let Some(record) = self.associations.get(id) {
                any = true;
                if record.gateway.as_deref() == Some(gateway) {
                    devices.add(record.status);
                }
            }
        }
        let read = table.and_then(|table| table.record.read);
        any.then(|| api::HomeSummary {
            gateway: device,
            devices,
            listed: table
                .filter(|_| read.is_some())
                .map(|table| u32::try_from(table.record.rows.len()).unwrap_or(u32::MAX)),
            checked: read.map(Millis::to_timestamp),
            problem: table
                .and_then(|table| table.problem.as_ref())
                .map(|problem| problem.text.clone()),
        })
    }

    /// The members of a home, and how many there are besides.
    pub(crate) fn members(&self, gateway: &str) -> (Vec<api::Association>, u32) {
        let mut ids = self.members_of(gateway);
        let shown = ids
            .by_ref()
            .take(MOST_SHOWN)
            .filter_map(|id| self.associations.get(id))
            .map(|record| self.told_of(record));
        let shown = shown.collect();
        (shown, u32::try_from(ids.count()).unwrap_or(u32::MAX))
    }

    /// Devices that a gateway lists and that do not themselves say that they are behind it.
    pub(crate) fn strangers(
        &self,
        gateway: &str,
        registry: &Registry,
    ) -> (Vec<api::HomeStranger>, u32) {
        let Some(table) = self.tables.get(gateway) else {
            return (Vec::new(), 0);
        };
        let mut shown = Vec::new();
        let mut more = 0;
        for row in table.record.rows.values() {
            let same = |device: &&crate::store::DeviceRecord| {
                judge::said(device).is_some_and(|own| judge::same(row, &own))
            };
            let called: Vec<_> = registry
                .named(&row.oui, &row.serial_number)
                .filter(same)
                .collect();
            let says_so = called.iter().any(|device| {
                let record = self.associations.get(&device.id);
                record.is_some_and(|record| record.gateway.as_deref() == Some(gateway))
            });
            if says_so {
                continue;
            }
            if shown.len() >= MOST_SHOWN {
                more += 1;
                continue;
            }
            shown.push(api::HomeStranger {
                identity: row.clone(),
                device: called.first().map(|device| device.id.clone()),
            });
        }
        (shown, more)
    }

    fn told_of(&self, record: &AssociationRecord) -> api::Association {
        let table = record.gateway.as_ref().and_then(|id| self.tables.get(id));
        let read = table.and_then(|table| table.record.read);
        api::Association {
            device: record.device.clone(),
            status: record.status,
            claim: record.claim.clone(),
            gateway: record.gateway.clone(),
            reason: record.reason,
            detail: record.detail.clone(),
            differences: record.differences.clone(),
            claimed: record
                .claim
                .is_some()
                .then(|| record.claimed.to_timestamp()),
            since: record.since.to_timestamp(),
            checked: read.map(Millis::to_timestamp),
            associated: record.associated.clone(),
            history: Vec::new(),
        }
    }
}

fn change(record: &HistoryRecord) -> api::AssociationChange {
    api::AssociationChange {
        time: record.time.to_timestamp(),
        status: record.status,
        claim: record.claim.clone(),
        gateway: record.gateway.clone(),
        detail: record.detail.clone(),
    }
}
