//! Rows and values, as both sides change them: every change is reported here, and counters, references and
//! the revision follow.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Change, Params, Row, Tree,
    node::{Child, Found, Miss, Node, Origin, Slot, Table},
};
use crate::{
    error::{GetError, PutError},
    path::{ObjectPath, ParamPath},
    schema::Schema,
    value::Value,
};

/// Instances and values, shared by both sides.
impl Tree {
    pub(super) fn params_of<'a>(&'a self, node: &'a Node) -> Params<'a> {
        Params {
            info: self.schema.info(node.id),
            node,
            at: 0,
        }
    }

    pub(super) fn slot(&self, path: &ParamPath) -> Result<&Slot, GetError> {
        let (object, name) = path.split();
        match self.find(object) {
            Ok(Found::Object(node)) => {
                let index = self.schema.info(node.id).param_index(name);
                index
                    .and_then(|index| node.slots.get(index))
                    .ok_or_else(|| GetError::Unsupported(path.clone()))
            }
            Ok(Found::Table(..)) | Err(Miss::Unsupported) => {
                Err(GetError::Unsupported(path.clone()))
            }
            Err(Miss::NoInstance) if self.schema.param(path).is_some() => {
                Err(GetError::NoInstance(path.clone()))
            }
            Err(Miss::NoInstance) => Err(GetError::Unsupported(path.clone())),
        }
    }

    pub(super) fn put_text(
        &mut self,
        object: &str,
        name: &str,
        text: &str,
        keep: bool,
    ) -> Result<bool, PutError> {
        let path = || format!("{object}{name}");
        let id = match self.find(object) {
            Ok(Found::Object(node)) => node.id,
            Ok(Found::Table(..)) | Err(Miss::Unsupported) => {
                return Err(PutError::Unsupported(path()));
            }
            Err(Miss::NoInstance) => return Err(PutError::NoInstance(path())),
        };
        let info = self.schema.info(id);
        let index = info
            .param_index(name)
            .ok_or_else(|| PutError::Unsupported(path()))?;
        let param_path = || ObjectPath::from_text(object.to_owned()).param(name);
        if info.derived.contains(&index) {
            return Err(PutError::Derived(param_path()));
        }
        let Some(param) = info.params().get(index) else {
            return Err(PutError::Unsupported(path()));
        };
        let value = Value::new(param.ty, text).map_err(|source| PutError::Value {
            path: param_path(),
            source,
        })?;
        let old = self.replace(object, index, value, keep);
        self.trim();
        Ok(old.is_some())
    }

    /// Puts a value into a slot, reports the change, and gives the slot that was there when it changed.
    /// `written` is set when `keep`; it is never cleared.
    pub(super) fn replace(
        &mut self,
        object: &str,
        index: usize,
        value: Value,
        keep: bool,
    ) -> Option<Slot> {
        let schema = Arc::clone(&self.schema);
        let epoch = self.epoch;
        let node = self.node_mut(object)?;
        let param = *schema.info(node.id).params().get(index)?;
        let quiet = node.epoch == epoch;
        let slot = node.slots.get_mut(index)?;
        if slot.value == value && (slot.written || !keep) {
            return None;
        }
        let old = slot.clone();
        let changed = slot.value != value;
        slot.written |= keep;
        let kept = slot.written;
        slot.put(value);
        let new = slot.shown().as_str().to_owned();
        if changed && !quiet {
            let path = ObjectPath::from_text(object.to_owned()).param(param.name);
            self.changes.push(Change::ValueChanged {
                path,
                old: old.shown().as_str().to_owned(),
                new,
            });
        }
        if kept {
            self.revision += 1;
        }
        Some(old)
    }

    pub(super) fn table_for_put(&self, table: &ObjectPath) -> Result<&Table, PutError> {
        match self.find(table.as_str()) {
            Ok(Found::Table(rows, _)) => Ok(rows),
            Ok(Found::Object(_)) => Err(PutError::NotRow(table.to_string())),
            Err(Miss::Unsupported) => Err(PutError::Unsupported(table.to_string())),
            Err(Miss::NoInstance) => Err(PutError::NoInstance(table.to_string())),
        }
    }

    /// Makes a row, with the next number when none is given. Gives it its Alias.
    pub(super) fn create(
        &mut self,
        table: &ObjectPath,
        number: Option<u32>,
        origin: Origin,
    ) -> Result<ObjectPath, PutError> {
        let limit = self.limits.max_instances;
        let rows = self.table_for_put(table)?;
        let given = number.is_none();
        let number = number.unwrap_or(rows.next);
        if rows.rows.len() >= limit || number == u32::MAX {
            return Err(PutError::Full(table.clone()));
        }
        let schema = Arc::clone(&self.schema);
        let Ok(Found::Table(_, id)) = self.find(table.as_str()) else {
            return Err(PutError::NotRow(table.to_string()));
        };
        let mut node = Node::new(&schema, id, origin, self.epoch, self.round);
        let row = table.row(number);
        if let Some(index) = schema.info(id).param_index("Alias")
            && let Some(slot) = node.slots.get_mut(index)
            && slot.value.as_str().is_empty()
            && let Some(alias) = self.free_key(table, index, number)
            && let Ok(value) = Value::new(slot.value.ty(), &alias)
        {
            slot.put(value);
            slot.written = origin == Origin::Kept;
        }
        self.link(table, number, node);
        if let Some(rows) = self.table_mut(table.as_str()) {
            rows.next = rows.next.max(number.saturating_add(1));
            if given || origin == Origin::Kept {
                rows.kept_next = rows.kept_next.max(number.saturating_add(1));
            }
        }
        if given || origin == Origin::Kept {
            self.revision += 1;
        }
        self.changes.push(Change::Created { path: row.clone() });
        self.count(table);
        self.settle(&row);
        self.trim();
        Ok(row)
    }

    /// `cpe-N`, or `cpe-N-M` when a row has that already in its parameter `index`.
    pub(super) fn free_key(&self, table: &ObjectPath, index: usize, number: u32) -> Option<String> {
        let Ok(Found::Table(rows, _)) = self.find(table.as_str()) else {
            return None;
        };
        let taken = |text: &str| {
            rows.rows.iter().any(|(other, row)| {
                *other != number
                    && row
                        .slots
                        .get(index)
                        .is_some_and(|slot| slot.value.as_str() == text)
            })
        };
        let plain = format!("cpe-{number}");
        if !taken(&plain) {
            return Some(plain);
        }
        (1..=rows.rows.len() + 1)
            .map(|suffix| format!("cpe-{number}-{suffix}"))
            .find(|text| !taken(text))
    }

    pub(super) fn link(&mut self, table: &ObjectPath, number: u32, node: Node) {
        if let Some(rows) = self.table_mut(table.as_str()) {
            rows.rows.insert(number, node);
        }
    }

    pub(super) fn unlink(&mut self, row: &ObjectPath) -> Option<Node> {
        let (table, number) = (row.parent()?, row.instance()?);
        self.table_mut(table.as_str())?.rows.remove(&number)
    }

    /// Brings `…NumberOfEntries` in step with its table.
    pub(super) fn count(&mut self, table: &ObjectPath) {
        let Ok(Found::Table(rows, id)) = self.find(table.as_str()) else {
            return;
        };
        let (Some(index), Some(parent)) = (self.schema.info(id).counter, table.parent()) else {
            return;
        };
        let count = rows.rows.len().to_string();
        let Ok(Found::Object(node)) = self.find(parent.as_str()) else {
            return;
        };
        let Some(ty) = node.slots.get(index).map(|slot| slot.value.ty()) else {
            return;
        };
        if let Ok(value) = Value::new(ty, &count) {
            self.replace(parent.as_str(), index, value, false);
        }
    }

    /// Deletes a row: reports it and the rows in it, and clears strong references to them (R-ARC.12).
    pub(super) fn delete_row(&mut self, row: &ObjectPath, forget: bool) -> Option<Deleted> {
        let (table, number) = (row.parent()?, row.instance()?);
        let node = self.unlink(row)?;
        let known = self
            .table_mut(table.as_str())
            .filter(|_| forget)
            .and_then(|rows| rows.known.remove(&number));
        let all = std::mem::take(&mut self.waiting);
        let (waiting, rest) = all
            .into_iter()
            .partition(|waiting| waiting.path.starts_with(row.as_str()));
        self.waiting = rest;
        if node.is_kept() || known.is_some() {
            self.revision += 1;
        }
        self.report_deleted(row, &node);
        self.count(&table);
        let references = self.clear_references(row);
        Some(Deleted {
            node,
            known,
            waiting,
            references,
        })
    }

    pub(super) fn report_deleted(&mut self, path: &ObjectPath, node: &Node) {
        let schema = Arc::clone(&self.schema);
        self.report_rows(&schema, path, node);
        let unique_keys = self.keys_of(node);
        self.changes.push(Change::Deleted {
            path: path.clone(),
            unique_keys,
        });
    }

    pub(super) fn report_rows(&mut self, schema: &Schema, path: &ObjectPath, node: &Node) {
        for (info, child) in schema.children(schema.info(node.id)).zip(&node.children) {
            let path = path.child(info.name());
            match child {
                Child::One(node) => self.report_rows(schema, &path, node),
                Child::Table(table) => {
                    for (number, row) in &table.rows {
                        self.report_deleted(&path.row(*number), row);
                    }
                }
            }
        }
    }

    pub(super) fn keys_of(&self, node: &Node) -> BTreeMap<String, String> {
        let info = self.schema.info(node.id);
        let keys = info.unique_keys().iter().flat_map(|key| key.iter());
        keys.filter_map(|name| {
            let slot = node.slots.get(info.param_index(name)?)?;
            Some(((*name).to_owned(), slot.shown().as_str().to_owned()))
        })
        .collect()
    }

    pub(super) fn trim(&mut self) {
        if self.open {
            return;
        }
        let over = self.changes.len().saturating_sub(self.limits.max_changes);
        if over > 0 {
            self.changes.drain(..over);
            self.lost += over as u64;
        }
    }
}

/// What is needed to bring a deleted row back.
pub(super) struct Deleted {
    pub(super) node: Node,
    pub(super) known: Option<Vec<(String, String)>>,
    pub(super) waiting: Vec<Row>,
    /// Strong references that were cleared: object, parameter index, what was there.
    pub(super) references: Vec<(ObjectPath, usize, Slot)>,
}
