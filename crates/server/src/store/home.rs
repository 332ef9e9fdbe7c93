//! What is kept of homes: what devices say of their gateways, and the tables of gateways.

use std::collections::{BTreeMap, VecDeque};

use homefleet_api::{
    AssociationStatus, GatewayClaim, IdentityDifference, LocalIdentity, UnverifiableReason,
};
use serde::{Deserialize, Serialize};

use super::Answer;
use crate::clock::Millis;

/// Reads about homes.
pub trait Homes {
    /// What every device says of its gateway.
    fn associations(&self) -> Answer<Vec<AssociationRecord>>;

    /// The tables of all gateways.
    fn gateway_tables(&self) -> Answer<Vec<TableRecord>>;
}

/// A write about homes. They go with the device when it is removed.
#[derive(Debug, Clone)]
pub enum HomeWrite {
    /// Inserts or replaces what a device says.
    Association(Box<AssociationRecord>),
    /// Removes a gateway's table.
    RemoveTable(String),
    /// Inserts or replaces a gateway's table.
    Table(Box<TableRecord>),
}

/// What a device says of its gateway, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssociationRecord {
    /// Endpoint ID.
    pub device: String,
    /// What it says; `None` when it names no gateway any more.
    pub claim: Option<GatewayClaim>,
    /// Since when it says so.
    pub claimed: Millis,
    /// What is known of it.
    pub status: AssociationStatus,
    /// Since when.
    pub since: Millis,
    /// Why it cannot be checked.
    pub reason: Option<UnverifiableReason>,
    /// The status in words.
    pub detail: String,
    /// How the gateway's closest entry differs.
    pub differences: Vec<IdentityDifference>,
    /// The gateway that is meant, where it is known.
    pub gateway: Option<String>,
    /// The gateway of the last claim that was confirmed and holds still.
    pub associated: Option<String>,
    /// What it was before, the newest first.
    pub history: VecDeque<HistoryRecord>,
    /// When it is looked at again; not stored.
    #[serde(skip)]
    pub due: Option<Millis>,
}

/// What an association came to, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRecord {
    /// When.
    pub time: Millis,
    /// To what.
    pub status: AssociationStatus,
    /// What the device said.
    pub claim: Option<GatewayClaim>,
    /// The gateway that was meant.
    pub gateway: Option<String>,
    /// In words.
    pub detail: String,
}

/// A gateway's table of devices, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRecord {
    /// Endpoint ID.
    pub gateway: String,
    /// Its rows by instance.
    pub rows: BTreeMap<String, LocalIdentity>,
    /// How many there are, as it said last.
    pub count: Option<u32>,
    /// When it was last read; `None` when it could not be.
    pub read: Option<Millis>,
}
