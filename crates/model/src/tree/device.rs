//! The device's own side: what providers put into the tree, checked against types alone.

use std::{fmt, sync::Arc};

use super::{
    Tree,
    node::{Found, Node, Origin},
};
use crate::{
    error::PutError,
    path::{ObjectPath, ParamPath},
    value::Value,
};

impl Tree {
    /// Puts what the device found out; says whether the value changed.
    ///
    /// # Errors
    /// [`PutError`] when there is no such parameter or the text is no value of it: a fault of the caller.
    pub fn put(&mut self, path: &ParamPath, text: &str) -> Result<bool, PutError> {
        let (object, name) = path.split();
        self.put_text(object, name, text, false)
    }

    /// [`put`](Self::put) with the path as text and anything that can be shown as value.
    ///
    /// # Errors
    /// As [`put`](Self::put), and when `path` is no parameter's path.
    pub fn set_text(&mut self, path: &str, value: impl fmt::Display) -> Result<bool, PutError> {
        let (object, name) = path.split_at(path.rfind('.').map_or(0, |at| at + 1));
        self.put_text(object, name, &value.to_string(), false)
    }

    /// [`put`](Self::put), and keeps the value in [`export`](Self::export) as if a controller had written it.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_persistent(&mut self, path: &ParamPath, text: &str) -> Result<bool, PutError> {
        let (object, name) = path.split();
        self.put_text(object, name, text, true)
    }

    /// Makes the row when it does not exist; says whether it did.
    ///
    /// # Errors
    /// [`PutError`] when the path is not the path of a row, or the row's parent does not exist.
    pub fn ensure_instance(&mut self, row: &ObjectPath) -> Result<bool, PutError> {
        let number = row
            .instance()
            .ok_or_else(|| PutError::NotRow(row.to_string()))?;
        let table = row
            .parent()
            .ok_or_else(|| PutError::NotRow(row.to_string()))?;
        let rows = self.table_for_put(&table)?;
        if rows.rows.contains_key(&number) {
            return Ok(false);
        }
        self.create(&table, Some(number), Origin::Device)?;
        Ok(true)
    }

    /// The row of `table` whose parameters `keys` have these values, made when there is none.
    ///
    /// A row keeps its number over restarts (R-ARC.8) when the tree's export is imported before: the keys
    /// of rows made here are exported with their numbers.
    ///
    /// # Errors
    /// [`PutError`] when there is no such table or parameter, a value is of the wrong type, or the table is
    /// full.
    pub fn ensure_row(
        &mut self,
        table: &ObjectPath,
        keys: &[(&str, &str)],
    ) -> Result<ObjectPath, PutError> {
        let schema = Arc::clone(&self.schema);
        let Ok(Found::Table(rows, id)) = self.find(table.as_str()) else {
            self.table_for_put(table)?;
            return Err(PutError::NotRow(table.to_string()));
        };
        let info = schema.info(id);
        let mut wanted = Vec::with_capacity(keys.len());
        for (name, text) in keys {
            let index = info
                .param_index(name)
                .ok_or_else(|| PutError::Unsupported(format!("{table}{{i}}.{name}")))?;
            let Some(param) = info.params().get(index) else {
                continue;
            };
            let value = Value::new(param.ty, text).map_err(|source| PutError::Value {
                path: table.param(name),
                source,
            })?;
            wanted.push((index, *name, value));
        }
        let is = |row: &Node| {
            wanted.iter().all(|(index, _, value)| {
                row.slots
                    .get(*index)
                    .is_some_and(|slot| slot.value == *value)
            })
        };
        if let Some((number, _)) = rows.rows.iter().find(|(_, row)| is(row)) {
            return Ok(table.row(*number));
        }
        let known = |known: &Vec<(String, String)>| {
            known.len() == wanted.len()
                && wanted.iter().all(|(_, name, value)| {
                    known
                        .iter()
                        .any(|(known, text)| known == name && text == value.as_str())
                })
        };
        let number = rows
            .known
            .iter()
            .find(|(number, keys)| known(keys) && !rows.rows.contains_key(number));
        let number = number.map(|(number, _)| *number);
        let row = self.create(table, number, Origin::Device)?;
        for (_, name, value) in &wanted {
            self.put_text(row.as_str(), name, value.as_str(), false)?;
        }
        let keys = wanted
            .iter()
            .map(|(_, name, value)| ((*name).to_owned(), value.as_str().to_owned()))
            .collect();
        let max = self.limits.max_known;
        if let (Some(rows), Some(number)) = (self.table_mut(table.as_str()), row.instance()) {
            let known = rows.known.insert(number, keys).is_some();
            while rows.known.len() > max {
                let gone = rows
                    .known
                    .keys()
                    .copied()
                    .find(|number| !rows.rows.contains_key(number));
                let Some(gone) = gone else { break };
                rows.known.remove(&gone);
            }
            self.revision += u64::from(!known);
        }
        Ok(row)
    }

    /// Makes a row that is kept in [`export`](Self::export) as if a controller had added it.
    ///
    /// # Errors
    /// [`PutError`] when there is no such table, or it is full.
    pub fn create_persistent(&mut self, table: &ObjectPath) -> Result<ObjectPath, PutError> {
        self.create(table, None, Origin::Kept)
    }

    /// Deletes a row and what is in it; says whether it was there. Its number is not given to another row;
    /// a row that [`ensure_row`](Self::ensure_row) made gets it again when it comes back.
    pub fn remove_instance(&mut self, row: &ObjectPath) -> bool {
        let gone = self.delete_row(row, false).is_some();
        self.trim();
        gone
    }
}
