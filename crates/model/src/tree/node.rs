//! Objects, rows and tables of the tree, and how a concrete path finds one.

use std::collections::BTreeMap;

use super::Tree;
use crate::{
    schema::{ObjectId, Schema},
    value::Value,
};

/// Who made a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The device, again after every start.
    Device,
    /// A controller, or the device for keeps: it is exported.
    Kept,
}

/// An object or a row.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) id: ObjectId,
    /// Parallel to the schema's parameters.
    pub(super) slots: Vec<Slot>,
    /// Parallel to the schema's children.
    pub(super) children: Vec<Child>,
    pub(super) origin: Origin,
    /// The drain interval in which it was made.
    pub(super) epoch: u64,
    /// The transaction in which it was made.
    pub(super) round: u64,
}

/// A parameter's value.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) value: Value,
    /// What a reader sees instead, when the parameter is secret.
    masked: Option<Box<Value>>,
    /// Written by a controller, or by the device for keeps: it is exported.
    pub(super) written: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Child {
    One(Box<Node>),
    Table(Table),
}

#[derive(Clone, Debug)]
pub(super) struct Table {
    /// The next instance number; numbers are never given again (R-ARC.8).
    pub(super) next: u32,
    /// The next number as it is exported: numbers that the device chose itself do not count.
    pub(super) kept_next: u32,
    pub(super) rows: BTreeMap<u32, Node>,
    /// Keys by which the device finds its rows again after a restart.
    pub(super) known: BTreeMap<u32, Vec<(String, String)>>,
}

/// What a concrete path leads to.
#[derive(Clone, Copy)]
pub(super) enum Found<'a> {
    Object(&'a Node),
    Table(&'a Table, ObjectId),
}

/// Why a concrete path leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    Unsupported,
    NoInstance,
}

impl Slot {
    pub(super) fn shown(&self) -> &Value {
        self.masked.as_deref().unwrap_or(&self.value)
    }

    pub(super) fn put(&mut self, value: Value) {
        self.value = value;
    }
}

impl Node {
    pub(super) fn new(
        schema: &Schema,
        id: ObjectId,
        origin: Origin,
        epoch: u64,
        round: u64,
    ) -> Self {
        let info = schema.info(id);
        let slots = info.params().iter().map(|param| {
            let value = param
                .default
                .and_then(|default| Value::new(param.ty, default).ok());
            Slot {
                value: value.unwrap_or_else(|| Value::zero(param.ty)),
                masked: param.secret.then(|| Box::new(Value::masked(param.ty))),
                written: false,
            }
        });
        let children = schema.children(info).map(|child| {
            if child.is_table() {
                Child::Table(Table {
                    next: 1,
                    kept_next: 1,
                    rows: BTreeMap::new(),
                    known: BTreeMap::new(),
                })
            } else {
                Child::One(Box::new(Self::new(schema, child.id, origin, epoch, round)))
            }
        });
        Self {
            id,
            slots: slots.collect(),
            children: children.collect(),
            origin,
            epoch,
            round,
        }
    }
}

impl Node {
    /// Whether an export has anything of it.
    pub(super) fn is_kept(&self) -> bool {
        self.origin == Origin::Kept
            || self.slots.iter().any(|slot| slot.written)
            || self.children.iter().any(|child| match child {
                Child::One(node) => node.is_kept(),
                Child::Table(table) => {
                    table.kept_next > 1
                        || !table.known.is_empty()
                        || table.rows.values().any(Self::is_kept)
                }
            })
    }
}

impl Tree {
    /// The object, table or row at a concrete path that ends in a dot.
    pub(super) fn find(&self, path: &str) -> Result<Found<'_>, Miss> {
        let bare = path.strip_suffix('.').ok_or(Miss::Unsupported)?;
        let mut parts = bare.split('.');
        if parts.next() != Some(self.schema.root().name()) {
            return Err(Miss::Unsupported);
        }
        let mut found = Found::Object(&self.root);
        // After a missing row the rest is checked against the schema, so that the miss is the right one.
        while let Some(part) = parts.next() {
            found = match found {
                Found::Object(node) => self.child(node, part).ok_or(Miss::Unsupported)?,
                Found::Table(table, id) => {
                    let number: u32 = part.parse().map_err(|_| Miss::Unsupported)?;
                    match table.rows.get(&number) {
                        Some(row) => Found::Object(row),
                        None => return Err(self.miss(id, number, parts)),
                    }
                }
            };
        }
        Ok(found)
    }

    pub(super) fn child<'a>(&self, node: &'a Node, name: &str) -> Option<Found<'a>> {
        let id = self.schema.info(node.id).child(name)?;
        match node.children.get(self.schema.info(id).at)? {
            Child::One(node) => Some(Found::Object(node)),
            Child::Table(table) => Some(Found::Table(table, id)),
        }
    }

    fn miss<'p>(
        &self,
        mut id: ObjectId,
        number: u32,
        parts: impl Iterator<Item = &'p str>,
    ) -> Miss {
        if number == 0 {
            return Miss::Unsupported;
        }
        let mut row = true;
        for part in parts {
            let info = self.schema.info(id);
            if row {
                let Some(child) = info.child(part) else {
                    return Miss::Unsupported;
                };
                id = child;
                row = !self.schema.info(id).is_table();
            } else {
                if part.parse::<u32>().is_err() {
                    return Miss::Unsupported;
                }
                row = true;
            }
        }
        Miss::NoInstance
    }

    pub(super) fn node_mut(&mut self, path: &str) -> Option<&mut Node> {
        match self.find_mut(path)? {
            FoundMut::Object(node) => Some(node),
            FoundMut::Table(_) => None,
        }
    }

    pub(super) fn table_mut(&mut self, path: &str) -> Option<&mut Table> {
        match self.find_mut(path)? {
            FoundMut::Object(_) => None,
            FoundMut::Table(table) => Some(table),
        }
    }

    fn find_mut(&mut self, path: &str) -> Option<FoundMut<'_>> {
        let mut parts = path.strip_suffix('.')?.split('.');
        if parts.next() != Some(self.schema.root().name()) {
            return None;
        }
        let mut found = FoundMut::Object(&mut self.root);
        for part in parts {
            found = match found {
                FoundMut::Object(node) => {
                    let id = self.schema.info(node.id).child(part)?;
                    match node.children.get_mut(self.schema.info(id).at)? {
                        Child::One(node) => FoundMut::Object(node),
                        Child::Table(table) => FoundMut::Table(table),
                    }
                }
                FoundMut::Table(table) => {
                    FoundMut::Object(table.rows.get_mut(&part.parse().ok()?)?)
                }
            };
        }
        Some(found)
    }
}

enum FoundMut<'a> {
    Object(&'a mut Node),
    Table(&'a mut Table),
}
