//! A view of `Device.LocalAgent.Controller.`: who is known, and where each is reached.

use std::{collections::BTreeMap, time::SystemTime};

use homefleet_model::{path::ObjectPath, tree::Tree};

use crate::{
    local_agent::{is_true, number, table, text},
    notify::RetryPolicy,
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
    /// Where it is reached, by the enabled MTP of the lowest `Order`; absent: not at all.
    pub(crate) uri: Option<String>,
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
        uri: uri(tree, row),
        retry: RetryPolicy {
            minimum_wait: number(tree, row, "USPNotifRetryMinimumWaitInterval").max(1),
            multiplier: number(tree, row, "USPNotifRetryIntervalMultiplier").max(1000),
        },
        interval: number(tree, row, "PeriodicNotifInterval").max(1),
        phase: crate::time::parse(text(tree, row, "PeriodicNotifTime")),
    }
}

/// The CoAP URI of the first usable MTP.
fn uri(tree: &Tree, row: &ObjectPath) -> Option<String> {
    let mut mtps = tree.rows(&row.child("MTP"));
    mtps.retain(|mtp| is_true(tree, mtp, "Enable") && text(tree, mtp, "Protocol") == "CoAP");
    mtps.sort_by_key(|mtp| number(tree, mtp, "Order"));
    mtps.iter().find_map(|mtp| {
        let coap = mtp.child("CoAP");
        let host = text(tree, &coap, "Host");
        if host.is_empty() {
            return None;
        }
        let scheme = if is_true(tree, &coap, "EnableEncryption") {
            "coaps"
        } else {
            "coap"
        };
        let host = if host.contains(':') {
            format!("[{}]", host.trim_matches(['[', ']']))
        } else {
            host.to_owned()
        };
        let path = text(tree, &coap, "Path").trim_matches('/');
        Some(format!(
            "{scheme}://{host}:{}/{path}",
            number(tree, &coap, "Port")
        ))
    })
}
