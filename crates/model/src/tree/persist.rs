//! What survives a restart: what controllers wrote, instance numbers, and the keys of the device's rows.
//!
//! The state is plain rows for any store. After a restart [`Tree::import`] comes first, then the device
//! fills the tree. An imported row whose object does not exist yet waits for it.

use std::{fmt, str::FromStr};

use super::{
    Tree,
    node::{Child, Found, Miss, Node, Origin, Table},
};
use crate::{
    path::{Constant, ObjectPath, Operator, ParamPath, Path, Segment},
    schema::Schema,
    value::Value,
};

/// What a [`Row`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RowKind {
    /// The next instance number of a table.
    Next,
    /// A row that a controller added.
    Instance,
    /// A row of the device's own, and the keys by which it is found again, as a search expression.
    Known,
    /// A value that a controller wrote.
    Value,
}

impl RowKind {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Instance => "instance",
            Self::Known => "known",
            Self::Value => "value",
        }
    }
}

impl fmt::Display for RowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RowKind {
    type Err = UnknownRowKind;

    fn from_str(text: &str) -> Result<Self, UnknownRowKind> {
        match text {
            "next" => Ok(Self::Next),
            "instance" => Ok(Self::Instance),
            "known" => Ok(Self::Known),
            "value" => Ok(Self::Value),
            other => Err(UnknownRowKind(other.to_owned())),
        }
    }
}

/// A stored kind of row that this version does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no kind of row (next, instance, known, value)")]
pub struct UnknownRowKind(pub String);

/// One piece of persistent state. `kind` and `path` together are unique in an export.
///
/// Values are real values, also of secret parameters: the store keeps them to itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// What it is about.
    pub kind: RowKind,
    /// The table, row or parameter.
    pub path: String,
    /// The number, the keys, or the value; nothing for an instance.
    pub value: String,
}

/// What became of imported rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// How many are in the tree.
    pub applied: usize,
    /// How many wait for their object.
    pub waiting: usize,
    /// Those that do not fit the data model (any more); they are dropped.
    pub refused: Vec<Refused>,
}

/// An imported row that was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The row.
    pub row: Row,
    /// Why.
    pub reason: String,
}

enum Outcome {
    Applied,
    Waits,
    Refused(String),
}

impl Tree {
    /// Everything that is to survive a restart, in an order in which it can be imported.
    pub fn export(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        let root = ObjectPath::from_text(format!("{}.", self.schema.root().name()));
        self.export_node(&root, &self.root, &mut rows);
        rows.extend(self.waiting.iter().cloned());
        rows
    }

    /// A number that is another one whenever [`export`](Self::export) would give something else.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Takes exported rows into a new tree, before the device fills it. Reports no changes.
    pub fn import(&mut self, rows: Vec<Row>) -> ImportReport {
        let mut report = ImportReport::default();
        let before = self.changes.len();
        for row in rows {
            match self.apply(&row) {
                Outcome::Applied => report.applied += 1,
                Outcome::Waits => self.waiting.push(row),
                Outcome::Refused(reason) => report.refused.push(Refused { row, reason }),
            }
        }
        self.changes.truncate(before);
        self.epoch += 1;
        report.waiting = self.waiting.len();
        report
    }

    /// Puts what lies below `prefixes` back to what [`export`](Self::export) gave as `rows` earlier, and reports what that
    /// changes: rows made since then go, those deleted since then come back with their numbers, values are what they were.
    pub fn restore(&mut self, prefixes: &[&str], rows: &[Row]) {
        let inside = |row: &&Row| prefixes.iter().any(|prefix| row.path.starts_with(prefix));
        let now = self.export();
        let mut now: Vec<&Row> = now.iter().filter(inside).collect();
        let then: Vec<&Row> = rows.iter().filter(inside).collect();
        let was = |row: &Row| {
            then.iter()
                .any(|then| then.kind == row.kind && then.path == row.path)
        };
        now.retain(|row| !was(row));
        for row in now.iter().filter(|row| row.kind == RowKind::Instance) {
            if let Ok(path) = row.path.parse::<ObjectPath>() {
                self.remove_instance(&path);
            }
        }
        for row in now.iter().filter(|row| row.kind == RowKind::Value) {
            // What nobody had written was the default, if the row is still there.
            let default = row.path.parse::<ParamPath>().ok().and_then(|path| {
                let param = self.schema.param(&path)?;
                Some(
                    param
                        .default
                        .map_or_else(|| param.ty.zero().into_owned(), str::to_owned),
                )
            });
            if let Some(default) = default {
                let row = Row {
                    value: default,
                    ..(*row).clone()
                };
                self.apply(&row);
            }
        }
        for row in then.iter().filter(|row| row.kind != RowKind::Next) {
            self.apply(row);
        }
        self.trim();
    }

    /// Applies what waited for `made` to exist.
    pub(super) fn settle(&mut self, made: &ObjectPath) {
        if self.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let (mine, rest): (Vec<Row>, Vec<Row>) = waiting
            .into_iter()
            .partition(|row| row.path.starts_with(made.as_str()));
        self.waiting = rest;
        for row in mine {
            if matches!(self.apply(&row), Outcome::Waits) {
                self.waiting.push(row);
            }
        }
    }

    fn export_node(&self, path: &ObjectPath, node: &Node, rows: &mut Vec<Row>) {
        let info = self.schema.info(node.id);
        for (param, slot) in info.params().iter().zip(&node.slots) {
            if slot.written {
                let path = path.param(param.name).to_string();
                rows.push(Row {
                    kind: RowKind::Value,
                    path,
                    value: slot.value.as_str().to_owned(),
                });
            }
        }
        for (info, child) in self.schema.children(info).zip(&node.children) {
            let path = path.child(info.name());
            match child {
                Child::One(node) => self.export_node(&path, node, rows),
                Child::Table(table) => self.export_table(&path, table, rows),
            }
        }
    }

    fn export_table(&self, path: &ObjectPath, table: &Table, rows: &mut Vec<Row>) {
        if table.kept_next > 1 {
            rows.push(Row {
                kind: RowKind::Next,
                path: path.to_string(),
                value: table.kept_next.to_string(),
            });
        }
        for (number, keys) in &table.known {
            rows.push(Row {
                kind: RowKind::Known,
                path: path.row(*number).to_string(),
                value: known_text(keys),
            });
        }
        for (number, node) in &table.rows {
            let row = path.row(*number);
            if node.origin == Origin::Kept {
                rows.push(Row {
                    kind: RowKind::Instance,
                    path: row.to_string(),
                    value: String::new(),
                });
            }
            self.export_node(&row, node, rows);
        }
    }

    fn apply(&mut self, row: &Row) -> Outcome {
        match row.kind {
            RowKind::Next => self.apply_next(row),
            RowKind::Instance => self.apply_instance(row),
            RowKind::Known => self.apply_known(row),
            RowKind::Value => self.apply_value(row),
        }
    }

    fn apply_next(&mut self, row: &Row) -> Outcome {
        let Ok(number) = row.value.parse::<u32>() else {
            return Outcome::Refused("no number".to_owned());
        };
        match self.find(&row.path) {
            Ok(Found::Table(..)) => {
                if let Some(table) = self.table_mut(&row.path) {
                    table.next = table.next.max(number);
                    table.kept_next = table.kept_next.max(number);
                }
                Outcome::Applied
            }
            Ok(Found::Object(_)) => Outcome::Refused("no table".to_owned()),
            Err(miss) => missing(miss),
        }
    }

    fn apply_instance(&mut self, row: &Row) -> Outcome {
        let Ok(path) = row.path.parse::<ObjectPath>() else {
            return Outcome::Refused("no path".to_owned());
        };
        let (Some(table), Some(number)) = (path.parent(), path.instance()) else {
            return Outcome::Refused("no row of a table".to_owned());
        };
        match self.find(table.as_str()) {
            Ok(Found::Table(rows, _)) if rows.rows.contains_key(&number) => {
                if let Some(node) = self.node_mut(path.as_str()) {
                    node.origin = Origin::Kept;
                }
                Outcome::Applied
            }
            Ok(Found::Table(..)) => match self.create(&table, Some(number), Origin::Kept) {
                Ok(_) => Outcome::Applied,
                Err(error) => Outcome::Refused(error.to_string()),
            },
            Ok(Found::Object(_)) => Outcome::Refused("no table".to_owned()),
            Err(miss) => missing(miss),
        }
    }

    fn apply_known(&mut self, row: &Row) -> Outcome {
        let Ok(path) = row.path.parse::<ObjectPath>() else {
            return Outcome::Refused("no path".to_owned());
        };
        let (Some(table), Some(number)) = (path.parent(), path.instance()) else {
            return Outcome::Refused("no row of a table".to_owned());
        };
        let Some(keys) = known_keys(&self.schema, &row.value) else {
            return Outcome::Refused("no expression".to_owned());
        };
        match self.find(table.as_str()) {
            Ok(Found::Table(..)) => {
                if let Some(rows) = self.table_mut(table.as_str()) {
                    rows.known.insert(number, keys);
                    rows.next = rows.next.max(number.saturating_add(1));
                }
                Outcome::Applied
            }
            Ok(Found::Object(_)) => Outcome::Refused("no table".to_owned()),
            Err(miss) => missing(miss),
        }
    }

    fn apply_value(&mut self, row: &Row) -> Outcome {
        let Ok(path) = row.path.parse::<ParamPath>() else {
            return Outcome::Refused("no path".to_owned());
        };
        let (object, name) = path.split();
        let node = match self.find(object) {
            Ok(Found::Object(node)) => node,
            Ok(Found::Table(..)) => return Outcome::Refused("no object".to_owned()),
            Err(miss) => return missing(miss),
        };
        let Some(index) = self.schema.info(node.id).param_index(name) else {
            return missing(Miss::Unsupported);
        };
        let Some(slot) = node.slots.get(index) else {
            return missing(Miss::Unsupported);
        };
        match Value::new(slot.value.ty(), &row.value) {
            Ok(value) => {
                self.replace(object, index, value, true);
                Outcome::Applied
            }
            Err(error) => Outcome::Refused(error.to_string()),
        }
    }
}

fn missing(miss: Miss) -> Outcome {
    match miss {
        Miss::Unsupported => Outcome::Refused("not in the data model".to_owned()),
        Miss::NoInstance => Outcome::Waits,
    }
}

/// `Name=="eth0"&&MACAddress=="…"`
fn known_text(keys: &[(String, String)]) -> String {
    let conditions: Vec<String> = keys
        .iter()
        .map(|(name, value)| {
            format!(
                "{name}{}{}",
                Operator::Equal,
                Constant::Quoted(value.clone())
            )
        })
        .collect();
    conditions.join("&&")
}

fn known_keys(schema: &Schema, text: &str) -> Option<Vec<(String, String)>> {
    let root = schema.root().name();
    let path = Path::parse(&format!("{root}.X.[{text}].")).ok()?;
    let Some(Segment::Search(conditions)) = path.segments().last() else {
        return None;
    };
    let pair = |condition: &crate::path::Condition| {
        (
            condition.parameter.name().to_owned(),
            condition.constant.text().into_owned(),
        )
    };
    Some(conditions.iter().map(pair).collect())
}
