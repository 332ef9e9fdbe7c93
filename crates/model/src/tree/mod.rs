//! The instantiated data model: objects, rows and values, with change events (TR-369 §2.4).
//!
//! The device's own side ([`Tree::put`], [`Tree::ensure_row`]) is checked against types alone; a
//! controller's side goes through [`Tree::transaction`] and is checked against access, keys and references.
//! What happened is read with [`Tree::drain_changes`]. What a controller wrote is exported as rows and
//! imported again after a restart ([`Tree::export`]).

mod device;
mod node;
mod persist;
mod resolve;
mod rows;
mod transaction;

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::{
    path::{ObjectPath, ParamPath},
    schema::{ObjectInfo, Param, Schema},
    value::Value,
};

pub use crate::error::{
    AddError, DeleteError, GetError, KeyConflict, PutError, ResolveError, SetError,
};
pub use persist::{ImportReport, Refused, Row, RowKind, UnknownRowKind};
pub use resolve::Resolved;
pub use transaction::{Savepoint, Transaction};

use node::{Child, Found, Node, Origin, Slot};

/// Bounds of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most rows of one table.
    pub max_instances: usize,
    /// The most keys of the device's rows that one table remembers; at the bound the oldest row that is
    /// gone is forgotten first.
    pub max_known: usize,
    /// The most matches of one path.
    pub max_matches: usize,
    /// The most changes kept until they are drained; at the bound the oldest go, and are counted.
    pub max_changes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_instances: 4096,
            max_known: 1024,
            max_matches: 65_536,
            max_changes: 65_536,
        }
    }
}

/// Something in the tree changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A parameter has another value. Secret parameters show empty values.
    ValueChanged {
        /// The parameter.
        path: ParamPath,
        /// What it was.
        old: String,
        /// What it is.
        new: String,
    },
    /// A row was made. What is put into it before the next drain is not reported.
    Created {
        /// The row.
        path: ObjectPath,
    },
    /// A row was deleted; the rows of tables in it are reported one by one, before it.
    Deleted {
        /// The row.
        path: ObjectPath,
        /// Its unique keys when it was deleted.
        unique_keys: BTreeMap<String, String>,
    },
}

/// The instantiated data model.
pub struct Tree {
    schema: Arc<Schema>,
    limits: Limits,
    root: Node,
    changes: Vec<Change>,
    lost: u64,
    /// Counts drains: a node made since the last drain reports no value changes.
    epoch: u64,
    /// Counts transactions: a row made in this one takes its write-once values.
    round: u64,
    revision: u64,
    /// Whether a transaction is open: then changes stay, so that they can be undone.
    open: bool,
    /// Imported rows whose object does not exist yet.
    waiting: Vec<Row>,
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree")
            .field("revision", &self.revision)
            .field("changes", &self.changes.len())
            .finish()
    }
}

/// The parameters of one object, as a reader sees them.
pub struct Params<'a> {
    info: &'a ObjectInfo,
    node: &'a Node,
    at: usize,
}

impl fmt::Debug for Params<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Params")
    }
}

impl<'a> Iterator for Params<'a> {
    type Item = (&'static Param, &'a Value);

    fn next(&mut self) -> Option<Self::Item> {
        let param = self.info.params().get(self.at)?;
        let slot = self.node.slots.get(self.at)?;
        self.at += 1;
        Some((param, slot.shown()))
    }
}

impl Tree {
    /// A tree with the single objects of `schema` and its empty tables.
    pub fn new(schema: Arc<Schema>) -> Self {
        Self::with_limits(schema, Limits::default())
    }

    /// As [`new`](Self::new), with other bounds.
    pub fn with_limits(schema: Arc<Schema>, limits: Limits) -> Self {
        let root = Node::new(&schema, 0, Origin::Device, 0, 0);
        Self {
            schema,
            limits,
            root,
            changes: Vec::new(),
            lost: 0,
            epoch: 1,
            round: 0,
            revision: 0,
            open: false,
            waiting: Vec::new(),
        }
    }

    /// The supported data model.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    // Reading.

    /// The value of a parameter; a secret one reads as empty.
    ///
    /// # Errors
    /// [`GetError`] when the parameter or its object is not there.
    pub fn get(&self, path: &ParamPath) -> Result<&Value, GetError> {
        self.slot(path).map(Slot::shown)
    }

    /// The real value of a parameter, secret or not. For the device's own use; it goes to no controller.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn reveal(&self, path: &ParamPath) -> Result<&Value, GetError> {
        self.slot(path).map(|slot| &slot.value)
    }

    /// The text of the parameter that `path` names; a secret one reads as empty.
    pub fn text(&self, path: &str) -> Option<&str> {
        let (object, name) = path.split_at(path.rfind('.')? + 1);
        let Ok(Found::Object(node)) = self.find(object) else {
            return None;
        };
        let index = self.schema.info(node.id).param_index(name)?;
        Some(node.slots.get(index)?.shown().as_str())
    }

    /// Whether the object, table or row exists.
    pub fn exists(&self, path: &ObjectPath) -> bool {
        self.find(path.as_str()).is_ok()
    }

    /// The parameters of an object or row, as declared; `None` when there is no such object.
    pub fn params(&self, path: &ObjectPath) -> Option<Params<'_>> {
        match self.find(path.as_str()) {
            Ok(Found::Object(node)) => Some(self.params_of(node)),
            _ => None,
        }
    }

    /// The rows of a table, by instance number; none when it is no table.
    pub fn rows(&self, table: &ObjectPath) -> Vec<ObjectPath> {
        match self.find(table.as_str()) {
            Ok(Found::Table(rows, _)) => {
                rows.rows.keys().map(|number| table.row(*number)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The objects and tables directly in an object, or the rows of a table.
    pub fn children(&self, path: &ObjectPath) -> Vec<ObjectPath> {
        match self.find(path.as_str()) {
            Ok(Found::Object(node)) => self
                .schema
                .children(self.schema.info(node.id))
                .map(|child| path.child(child.name()))
                .collect(),
            Ok(Found::Table(..)) => self.rows(path),
            Err(_) => Vec::new(),
        }
    }

    /// Calls `f` with every object and row at and under `path`, in order, and its parameters.
    ///
    /// `max_depth` limits the levels (R-GET.5): 0 is no limit, 1 is `path` alone (of a table: its rows
    /// alone), 2 also its child objects and the rows of its tables, and so on.
    pub fn walk(
        &self,
        path: &ObjectPath,
        max_depth: u32,
        mut f: impl FnMut(&ObjectPath, Params<'_>),
    ) {
        let depth = if max_depth == 0 { u32::MAX } else { max_depth };
        match self.find(path.as_str()) {
            Ok(Found::Object(node)) => self.walk_node(path, node, depth, &mut f),
            Ok(Found::Table(table, _)) => {
                for (number, row) in &table.rows {
                    self.walk_node(&path.row(*number), row, depth, &mut f);
                }
            }
            Err(_) => {}
        }
    }

    fn walk_node(
        &self,
        path: &ObjectPath,
        node: &Node,
        depth: u32,
        f: &mut impl FnMut(&ObjectPath, Params<'_>),
    ) {
        f(path, self.params_of(node));
        if depth <= 1 {
            return;
        }
        for (info, child) in self
            .schema
            .children(self.schema.info(node.id))
            .zip(&node.children)
        {
            let path = path.child(info.name());
            match child {
                Child::One(node) => self.walk_node(&path, node, depth - 1, f),
                Child::Table(table) => {
                    for (number, row) in &table.rows {
                        self.walk_node(&path.row(*number), row, depth - 1, f);
                    }
                }
            }
        }
    }

    /// The unique-key parameters of a row and their values (`unique_keys` of several messages).
    pub fn unique_keys(&self, row: &ObjectPath) -> BTreeMap<String, String> {
        match self.find(row.as_str()) {
            Ok(Found::Object(node)) => self.keys_of(node),
            _ => BTreeMap::new(),
        }
    }

    // Events.

    /// What happened since the last call, in order.
    pub fn drain_changes(&mut self) -> Vec<Change> {
        self.epoch += 1;
        std::mem::take(&mut self.changes)
    }

    /// How many changes were dropped at [`Limits::max_changes`].
    pub fn lost_changes(&self) -> u64 {
        self.lost
    }
}
