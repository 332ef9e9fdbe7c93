//! A controller's changes: checked, all or nothing, with savepoints (TR-369 §6.1.3.4).
//!
//! Changes are made in the tree at once and can be undone back to a [`Savepoint`], so that an agent can
//! treat each object of an Add or Set independently (`allow_partial`) and each parameter as required or not.
//! Nobody else sees the tree while a transaction lives.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Change, Tree,
    node::{Found, Miss, Origin, Slot},
    rows::Deleted,
};
use crate::{
    error::{AddError, DeleteError, KeyConflict, PutError, SetError, ValueError},
    path::{ObjectPath, ParamPath},
    schema::{Access, ObjectInfo},
    value::{self, Strength, Type, Value},
};

/// A point in a transaction to return to. Valid until the transaction returned to an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Savepoint {
    undo: usize,
    changes: usize,
    touched: usize,
}

/// A controller's changes; dropped without [`commit`](Self::commit), they are undone.
#[derive(Debug)]
pub struct Transaction<'a> {
    tree: &'a mut Tree,
    undo: Vec<Undo>,
    touched: Vec<ObjectPath>,
    start: usize,
}

enum Undo {
    Slot {
        object: ObjectPath,
        index: usize,
        slot: Slot,
    },
    Created {
        row: ObjectPath,
    },
    Deleted {
        row: ObjectPath,
        deleted: Box<Deleted>,
    },
}

impl std::fmt::Debug for Undo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Slot { object, .. } => write!(f, "Slot({object})"),
            Self::Created { row } => write!(f, "Created({row})"),
            Self::Deleted { row, .. } => write!(f, "Deleted({row})"),
        }
    }
}

impl Tree {
    /// Starts a controller's changes.
    pub fn transaction(&mut self) -> Transaction<'_> {
        self.round += 1;
        self.open = true;
        let start = self.changes.len();
        Transaction {
            tree: self,
            undo: Vec::new(),
            touched: Vec::new(),
            start,
        }
    }

    /// Empties strong references to `gone` and what is under it (R-ARC.12); gives what was there.
    pub(super) fn clear_references(&mut self, gone: &ObjectPath) -> Vec<(ObjectPath, usize, Slot)> {
        let schema = Arc::clone(&self.schema);
        let bare = gone.to_reference();
        let dead = |item: &str| item == bare || item.starts_with(gone.as_str());
        let mut wanted = Vec::new();
        for (id, indices) in &schema.strong {
            for object in self.objects_of(schema.info(*id)) {
                let Some(node) = self.node_mut(object.as_str()) else {
                    continue;
                };
                for index in indices {
                    let Some(slot) = node.slots.get(*index) else {
                        continue;
                    };
                    if !value::list_items(slot.value.as_str()).any(dead) {
                        continue;
                    }
                    let rest: Vec<&str> = value::list_items(slot.value.as_str())
                        .filter(|item| !dead(item))
                        .collect();
                    if let Ok(value) = Value::new(slot.value.ty(), &rest.join(",")) {
                        wanted.push((object.clone(), *index, value));
                    }
                }
            }
        }
        let mut before = Vec::new();
        for (object, index, value) in wanted {
            if let Some(slot) = self.replace(object.as_str(), index, value, false) {
                before.push((object, index, slot));
            }
        }
        before
    }

    /// Every existing object of one kind.
    fn objects_of(&self, info: &ObjectInfo) -> Vec<ObjectPath> {
        let mut chain = vec![info];
        while let Some(parent) = chain.last().and_then(|info| info.parent) {
            chain.push(self.schema.info(parent));
        }
        let mut found = vec![ObjectPath::from_text(format!(
            "{}.",
            self.schema.root().name()
        ))];
        for info in chain.iter().rev().skip(1) {
            found = found
                .iter()
                .flat_map(|object| {
                    let child = object.child(info.name());
                    if info.is_table() {
                        self.rows(&child)
                    } else {
                        vec![child]
                    }
                })
                .collect();
        }
        found
    }
}

impl Transaction<'_> {
    /// The tree with what was done so far.
    pub fn tree(&self) -> &Tree {
        self.tree
    }

    /// What was done so far, as [`Tree::drain_changes`] will tell it.
    pub fn pending(&self) -> &[Change] {
        self.tree.changes.get(self.start..).unwrap_or_default()
    }

    /// Sets a parameter.
    ///
    /// # Errors
    /// [`SetError`]; nothing has changed then.
    pub fn set(&mut self, path: &ParamPath, text: &str) -> Result<(), SetError> {
        let (object, name) = path.split();
        let unsupported = || SetError::Unsupported(path.clone());
        let node = match self.tree.find(object) {
            Ok(Found::Object(node)) => node,
            Ok(Found::Table(..)) | Err(Miss::Unsupported) => return Err(unsupported()),
            Err(Miss::NoInstance) if self.tree.schema.param(path).is_some() => {
                return Err(SetError::NoInstance(path.clone()));
            }
            Err(Miss::NoInstance) => return Err(unsupported()),
        };
        let info = self.tree.schema.info(node.id);
        let index = info.param_index(name).ok_or_else(unsupported)?;
        let (Some(param), Some(slot)) = (info.params().get(index), node.slots.get(index)) else {
            return Err(unsupported());
        };
        let new_row = node.round == self.tree.round;
        let key = info.is_key(name);
        let writable = match param.access {
            Access::ReadOnly => false,
            // Alias is the non-functional key of TR-181: it never changes after creation (R-KEY.1).
            Access::ReadWrite => new_row || !(key && name == "Alias"),
            Access::WriteOnce => new_row || !(key || slot.written),
        };
        if !writable || info.derived.contains(&index) {
            return Err(SetError::NotWritable(path.clone()));
        }
        let text = self.referenced(path, param.ty, text)?;
        let value = Value::new(param.ty, &text).map_err(|source| SetError::Value {
            path: path.clone(),
            source,
        })?;
        let object = ObjectPath::from_text(object.to_owned());
        if let Some(slot) = self.tree.replace(object.as_str(), index, value, true) {
            self.undo.push(Undo::Slot {
                object: object.clone(),
                index,
                slot,
            });
        }
        if key {
            self.touched.push(object);
        }
        Ok(())
    }

    /// Writes a parameter that the device itself fills in a controller's change, such as the `Recipient` of a
    /// Subscription; whatever its access, kept like a controller's value, and undone with the rest.
    ///
    /// # Errors
    /// [`PutError`]; nothing has changed then.
    pub fn put(&mut self, path: &ParamPath, text: &str) -> Result<bool, PutError> {
        let (object, name) = path.split();
        let before = match self.tree.find(object) {
            Ok(Found::Object(node)) => self
                .tree
                .schema
                .info(node.id)
                .param_index(name)
                .and_then(|index| node.slots.get(index).map(|slot| (index, slot.clone()))),
            _ => None,
        };
        let changed = self.tree.put_persistent(path, text)?;
        if let Some((index, slot)) = before {
            let object = ObjectPath::from_text(object.to_owned());
            self.undo.push(Undo::Slot {
                object: object.clone(),
                index,
                slot,
            });
            self.touched.push(object);
        }
        Ok(changed)
    }

    /// Adds a row to a table, with the next instance number, its defaults and an Alias.
    ///
    /// # Errors
    /// [`AddError`]; nothing has changed then.
    pub fn add(&mut self, table: &ObjectPath) -> Result<ObjectPath, AddError> {
        let id = match self.tree.find(table.as_str()) {
            Ok(Found::Table(_, id)) => id,
            Ok(Found::Object(_)) => return Err(AddError::NotTable(table.clone())),
            Err(Miss::Unsupported) => return Err(AddError::Unsupported(table.clone())),
            Err(Miss::NoInstance) => return Err(AddError::NoParent(table.clone())),
        };
        if !self.tree.schema.info(id).access().adds() {
            return Err(AddError::NotCreatable(table.clone()));
        }
        let counter = self.counter(table);
        let row = self
            .tree
            .create(table, None, Origin::Kept)
            .map_err(|error| match error {
                PutError::Full(table) => AddError::Full(table),
                _ => AddError::NoParent(table.clone()),
            })?;
        self.undo.extend(counter);
        self.undo.push(Undo::Created { row: row.clone() });
        self.touched.push(row.clone());
        Ok(row)
    }

    /// Deletes a row and what is in it. Strong references to it become empty (R-ARC.12).
    ///
    /// # Errors
    /// [`DeleteError`]; nothing has changed then.
    pub fn delete(&mut self, row: &ObjectPath) -> Result<(), DeleteError> {
        let id = match self.tree.find(row.as_str()) {
            Ok(Found::Object(node)) => node.id,
            Ok(Found::Table(..)) => return Err(DeleteError::NotRow(row.clone())),
            Err(Miss::Unsupported) => return Err(DeleteError::Unsupported(row.clone())),
            Err(Miss::NoInstance) => return Err(DeleteError::NoInstance(row.clone())),
        };
        let Some(table) = row.parent().filter(|_| row.instance().is_some()) else {
            return Err(DeleteError::NotRow(row.clone()));
        };
        if !self.tree.schema.info(id).access().deletes() {
            return Err(DeleteError::NotDeletable(row.clone()));
        }
        let counter = self.counter(&table);
        let Some(deleted) = self.tree.delete_row(row, true) else {
            return Err(DeleteError::NoInstance(row.clone()));
        };
        self.undo.extend(counter);
        self.undo.push(Undo::Deleted {
            row: row.clone(),
            deleted: Box::new(deleted),
        });
        Ok(())
    }

    /// A point to return to.
    pub fn savepoint(&self) -> Savepoint {
        Savepoint {
            undo: self.undo.len(),
            changes: self.tree.changes.len(),
            touched: self.touched.len(),
        }
    }

    /// Undoes everything since `savepoint`. Instance numbers that were given stay given.
    pub fn rollback_to(&mut self, savepoint: Savepoint) {
        if self.undo.len() > savepoint.undo {
            self.tree.revision += 1;
        }
        while self.undo.len() > savepoint.undo {
            match self.undo.pop() {
                Some(Undo::Slot {
                    object,
                    index,
                    slot,
                }) => self.restore(&object, index, slot),
                Some(Undo::Created { row }) => {
                    self.tree.unlink(&row);
                }
                Some(Undo::Deleted { row, deleted }) => {
                    let Deleted {
                        node,
                        known,
                        waiting,
                        references,
                    } = *deleted;
                    self.tree.waiting.extend(waiting);
                    if let (Some(table), Some(number)) = (row.parent(), row.instance()) {
                        self.tree.link(&table, number, node);
                        if let (Some(known), Some(rows)) =
                            (known, self.tree.table_mut(table.as_str()))
                        {
                            rows.known.insert(number, known);
                        }
                    }
                    for (object, index, slot) in references.into_iter().rev() {
                        self.restore(&object, index, slot);
                    }
                }
                None => break,
            }
        }
        self.tree.changes.truncate(savepoint.changes);
        self.touched.truncate(savepoint.touched);
    }

    /// Gives rows added since `savepoint` the unique keys that nobody set (R-ADD.5), and checks that the
    /// rows added or changed since then have unique keys. Call it after the sets of one object.
    ///
    /// # Errors
    /// [`KeyConflict`] names both rows; nothing is undone.
    pub fn check(&mut self, savepoint: Savepoint) -> Result<(), KeyConflict> {
        let rows: BTreeSet<ObjectPath> = self
            .touched
            .iter()
            .skip(savepoint.touched)
            .cloned()
            .collect();
        for row in &rows {
            self.assign_keys(row);
        }
        for row in &rows {
            self.check_row(row)?;
        }
        Ok(())
    }

    /// Ends the transaction and keeps what was done.
    ///
    /// # Errors
    /// [`KeyConflict`] when two rows have the same unique key in the end; everything is undone then.
    pub fn commit(mut self) -> Result<(), KeyConflict> {
        // A conflict drops the transaction, which undoes it.
        self.check(self.beginning())?;
        self.undo.clear();
        Ok(())
    }

    /// Ends the transaction and undoes what was done.
    pub fn rollback(self) {
        drop(self);
    }

    fn beginning(&self) -> Savepoint {
        Savepoint {
            undo: 0,
            changes: self.start,
            touched: 0,
        }
    }

    /// What the table's `…NumberOfEntries` is, to be put back.
    fn counter(&self, table: &ObjectPath) -> Option<Undo> {
        let Ok(Found::Table(_, id)) = self.tree.find(table.as_str()) else {
            return None;
        };
        let index = self.tree.schema.info(id).counter?;
        let object = table.parent()?;
        let Ok(Found::Object(node)) = self.tree.find(object.as_str()) else {
            return None;
        };
        Some(Undo::Slot {
            slot: node.slots.get(index)?.clone(),
            object,
            index,
        })
    }

    fn restore(&mut self, object: &ObjectPath, index: usize, slot: Slot) {
        if let Some(place) = self
            .tree
            .node_mut(object.as_str())
            .and_then(|node| node.slots.get_mut(index))
        {
            *place = slot;
        }
    }

    /// The text with its references in instance-number form; a strong one must exist (R-ARC.11, R-ARC.12).
    fn referenced(&self, path: &ParamPath, ty: Type, text: &str) -> Result<String, SetError> {
        let (strength, list) = match ty {
            Type::Reference(strength) => (strength, false),
            Type::List(list) => match list.item {
                Type::Reference(strength) => (strength, true),
                _ => return Ok(text.to_owned()),
            },
            _ => return Ok(text.to_owned()),
        };
        let items: Vec<&str> = if list {
            value::list_items(text).collect()
        } else {
            vec![text.trim()]
        };
        let mut out = Vec::with_capacity(items.len());
        for item in items {
            if item.is_empty() {
                continue;
            }
            Type::Reference(strength)
                .canonical(item)
                .map_err(|source: ValueError| SetError::Value {
                    path: path.clone(),
                    source,
                })?;
            match (self.tree.canonical_reference(item), strength) {
                (Some(reference), _) => out.push(reference),
                (None, Strength::Weak) => out.push(item.to_owned()),
                (None, Strength::Strong) => {
                    return Err(SetError::Reference {
                        path: path.clone(),
                        target: item.to_owned(),
                    });
                }
            }
        }
        Ok(out.join(","))
    }

    /// Keys that nobody set: a lone string key, or the string parameters of a key that are called `ID`.
    fn assign_keys(&mut self, row: &ObjectPath) {
        let (Some(table), Some(number)) = (row.parent(), row.instance()) else {
            return;
        };
        let Ok(Found::Object(node)) = self.tree.find(row.as_str()) else {
            return;
        };
        if node.round != self.tree.round || node.origin != Origin::Kept {
            return;
        }
        let info = self.tree.schema.info(node.id);
        let mut assign = Vec::new();
        for key in info.unique_keys() {
            for name in key
                .iter()
                .filter(|name| key.len() == 1 || **name == "ID" || **name == "Alias")
            {
                let Some(index) = info.param_index(name) else {
                    continue;
                };
                let Some(slot) = node.slots.get(index) else {
                    continue;
                };
                if slot.value.as_str().is_empty()
                    && !slot.written
                    && matches!(slot.value.ty(), Type::String { .. })
                {
                    assign.push(index);
                }
            }
        }
        for index in assign {
            let Some(text) = self.tree.free_key(&table, index, number) else {
                continue;
            };
            let Ok(Found::Object(node)) = self.tree.find(row.as_str()) else {
                return;
            };
            let Some(ty) = node.slots.get(index).map(|slot| slot.value.ty()) else {
                continue;
            };
            if let Ok(value) = Value::new(ty, &text)
                && let Some(slot) = self.tree.replace(row.as_str(), index, value, true)
            {
                self.undo.push(Undo::Slot {
                    object: row.clone(),
                    index,
                    slot,
                });
            }
        }
    }

    fn check_row(&self, row: &ObjectPath) -> Result<(), KeyConflict> {
        let (Some(table), Some(number)) = (row.parent(), row.instance()) else {
            return Ok(());
        };
        let (Ok(Found::Table(rows, id)), Ok(Found::Object(node))) =
            (self.tree.find(table.as_str()), self.tree.find(row.as_str()))
        else {
            return Ok(());
        };
        let info = self.tree.schema.info(id);
        for key in info.unique_keys() {
            let indices: Vec<usize> = key
                .iter()
                .filter_map(|name| info.param_index(name))
                .collect();
            let same = rows.rows.iter().find(|(other, candidate)| {
                **other != number
                    && indices.iter().all(|index| {
                        let pair = (candidate.slots.get(*index), node.slots.get(*index));
                        matches!(pair, (Some(left), Some(right)) if left.value == right.value)
                    })
            });
            if let Some((other, _)) = same {
                let keys = key.iter().map(|name| (*name).to_owned()).collect();
                return Err(KeyConflict {
                    row: row.clone(),
                    other: table.row(*other),
                    keys,
                });
            }
        }
        Ok(())
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.undo.is_empty() {
            self.rollback_to(self.beginning());
        }
        self.tree.open = false;
        self.tree.trim();
    }
}
