//! What the devices have been through.

use std::collections::BTreeMap;
use std::time::Duration;

use homefleet_cwmp::EventCode;

use super::histogram::Histogram;

/// Counters of the whole fleet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stats {
    /// Devices that have power.
    pub(crate) powered: u64,
    /// Devices in a session.
    pub(crate) in_session: u64,
    /// Devices whose Inform was answered at least once.
    pub(crate) contacted: u64,
    /// Sessions begun.
    pub(crate) begun: u64,
    /// Sessions that both sides ended.
    pub(crate) completed: u64,
    /// Sessions that failed, by reason.
    pub(crate) failed: BTreeMap<String, u64>,
    /// Events that the ACS has taken, by code.
    pub(crate) events: BTreeMap<String, u64>,
    /// Requests of the ACS, by method.
    pub(crate) requests: BTreeMap<&'static str, u64>,
    /// Of these, answered with a fault, by its code.
    pub(crate) faults: BTreeMap<u32, u64>,
    /// Requests of devices that the ACS has answered.
    pub(crate) answered: u64,
    /// Requests of devices that the ACS has refused.
    pub(crate) refused: u64,
    /// Transfers that ended well.
    pub(crate) transfers: u64,
    /// Transfers that ended with a fault.
    pub(crate) failed_transfers: u64,
    /// Restarts, asked for and by themselves.
    pub(crate) reboots: u64,
    /// Resets to the state of the factory.
    pub(crate) resets: u64,
    /// Connection Requests taken.
    pub(crate) calls: u64,
    /// Connection Requests that were challenged, refused or too many.
    pub(crate) refused_calls: u64,
    /// Power failures of a device.
    pub(crate) outages: u64,
    /// From an Inform to its answer.
    pub(crate) inform: Histogram,
    /// Whole sessions.
    pub(crate) session: Histogram,
    /// From the moment at which the power came back to the first answer to an Inform.
    pub(crate) back: Histogram,
}

impl Stats {
    /// Sessions that failed.
    pub(crate) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    pub(super) fn taken(&mut self, code: &EventCode) {
        *self.events.entry(code.to_string()).or_default() += 1;
    }

    pub(super) fn back(&mut self, after: Duration) {
        self.back.add(after);
    }
}
