//! A view of `Device.LocalAgent.Controller.`: who is known, and where each is reached.

use std::{collections::BTreeMap, time::SystemTime};

use homefleet_model::{path::ObjectPath, tree::Tree};

use crate::{
    local_agent::{is_true, number, table, text},
    notify::RetryPolicy,
    transport::{self, Way},
};

/// Path of the controller table.
pub(crate) const TABLE: &str = "Device.LocalAgent.Controller.";

/// One row of the controller table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Controller {
    pub(crate) endpoint_id: String,
    pub(crate) enabled: bool,
    /// A certificate is stored for it.
    pub(crate) has_certificate: bool,
    /// Its roles, assigned and inherited.
    pub(crate) roles: Vec<String>,
    /// Where it is reached, by the `Order` of its enabled MTPs.
    pub(crate) ways: Vec<Way>,
    pub(crate) retry: RetryPolicy,
    /// `PeriodicNotifInterval`, seconds.
    pub(crate) interval: u32,
    /// `PeriodicNotifTime`; absent: the phase does not matter.
    pub(crate) phase: Option<SystemTime>,
}

/// Every row by its path.
pub(crate) type Controllers = BTreeMap<ObjectPath, Controller>;

/// Reads the table.
pub(crate) fn read(tree: &Tree) -> Controllers {
    let rows = tree.rows(&table(TABLE));
    rows.into_iter()
        .map(|row| (row.clone(), read_one(tree, &row)))
        .collect()
}

fn read_one(tree: &Tree, row: &ObjectPath) -> Controller {
    Controller {
        endpoint_id: text(tree, row, "EndpointID").to_owned(),
        enabled: is_true(tree, row, "Enable"),
        has_certificate: !text(tree, row, "Credential").is_empty(),
        roles: crate::role::roles(tree, row),
        ways: transport::ways(tree, row),
        retry: RetryPolicy {
            minimum_wait: number(tree, row, "USPNotifRetryMinimumWaitInterval").max(1),
            multiplier: number(tree, row, "USPNotifRetryIntervalMultiplier").max(1000),
        },
        interval: number(tree, row, "PeriodicNotifInterval").max(1),
        phase: crate::time::parse(text(tree, row, "PeriodicNotifTime")),
    }
}
