//! What the configuration says about telemetry, as rows of the data model. Each is entered when it is new there or has changed there;
//! what a Controller changes in the data model stays until then.

use homefleet_model::error::PutError;
use homefleet_model::path::ObjectPath;
use homefleet_model::schema::Schema;
use homefleet_model::tree::Tree;

use super::{OBJECT, RECEIVERS, SUBSCRIPTIONS};
use crate::local_agent::table;

/// What the configuration says, in the data model's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// `PublisherID`, when it is said.
    pub(crate) publisher_id: Option<u32>,
    pub(crate) receivers: Vec<Row>,
    pub(crate) subscriptions: Vec<Row>,
}

impl TelemetryConfig {
    /// Joins what two files say.
    pub(crate) fn extend(&mut self, other: Self) {
        self.publisher_id = other.publisher_id.or(self.publisher_id);
        self.receivers.extend(other.receivers);
        self.subscriptions.extend(other.subscriptions);
    }
}

/// One receiver or subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Becomes its `Alias`.
    pub(crate) name: String,
    /// Of a subscription: the name of its receiver.
    pub(crate) receiver: Option<String>,
    /// Of a subscription: what it tells.
    pub(crate) references: Vec<Reference>,
    pub(crate) values: Vec<(&'static str, String)>,
}

/// A part of the data model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// A path of TR-369, with wildcards and expressions.
    Path(String),
    /// Steps of an XPath, each with the instance number it asks for.
    Steps(Vec<(String, Option<u32>)>),
}

impl Reference {
    /// The path; where a table has no number, it means all of its rows.
    fn path(&self, schema: &Schema) -> String {
        let steps = match self {
            Self::Path(path) => return path.clone(),
            Self::Steps(steps) => steps,
        };
        let mut path = String::new();
        let mut supported = String::new();
        let mut is_object = false;
        for (name, index) in steps {
            path.push_str(name);
            supported.push_str(name);
            supported.push('.');
            let object = schema.object(&supported);
            is_object = object.is_some();
            if object.is_some_and(homefleet_model::schema::ObjectInfo::is_table) {
                supported.push_str("{i}.");
                match index {
                    Some(index) => path.push_str(&format!(".{index}")),
                    None => path.push_str(".*"),
                }
            }
            path.push('.');
        }
        if !is_object {
            // The last step is a parameter.
            path.pop();
        }
        path
    }
}

/// Enters what is new against `known`, what was entered the last time; returns what to know from now on.
pub(crate) fn enter(
    tree: &mut Tree,
    config: &TelemetryConfig,
    known: &str,
) -> Result<String, PutError> {
    let mut memory = Memory::read(known);
    let mut next = Vec::new();
    if let Some(id) = config.publisher_id {
        let text = id.to_string();
        if memory.take("publisher").is_none_or(|(_, was)| was != text) {
            tree.put_persistent(&table(OBJECT).param("PublisherID"), &text)?;
        }
        next.push(("publisher".to_owned(), String::new(), text));
    }
    let mut receivers = Vec::new();
    for row in &config.receivers {
        let key = format!("receiver {}", row.name);
        let path = enter_row(tree, RECEIVERS, row, &mut memory, &key, &[])?;
        receivers.push((row.name.clone(), path.to_reference().to_owned()));
        next.push((key, path.to_string(), format!("{row:?}")));
    }
    for row in &config.subscriptions {
        let key = format!("subscription {}", row.name);
        let schema = tree.schema().clone();
        let references: Vec<String> = row.references.iter().map(|one| one.path(&schema)).collect();
        let receiver = row.receiver.as_ref().and_then(|name| {
            let mut all = receivers.iter();
            all.find(|(known, _)| known == name)
                .map(|(_, path)| path.clone())
        });
        let more = [
            ("Receiver", receiver.unwrap_or_default()),
            ("ReferenceList", references.join(",")),
        ];
        let path = enter_row(tree, SUBSCRIPTIONS, row, &mut memory, &key, &more)?;
        next.push((key, path.to_string(), format!("{row:?}")));
    }
    // What the configuration no longer says.
    for (_, path, _) in memory.0 {
        if let Ok(path) = path.parse() {
            tree.remove_instance(&path);
        }
    }
    let lines = next
        .into_iter()
        .map(|(key, path, was)| format!("{key}\t{path}\t{was}"));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

fn enter_row(
    tree: &mut Tree,
    of: &'static str,
    row: &Row,
    memory: &mut Memory,
    key: &str,
    more: &[(&str, String)],
) -> Result<ObjectPath, PutError> {
    let known = memory.take(key);
    let there = known.as_ref().and_then(|(path, _)| path.parse().ok());
    let there: Option<ObjectPath> = there.filter(|path| tree.exists(path));
    if let (Some(path), Some((_, was))) = (&there, &known)
        && *was == format!("{row:?}")
    {
        return Ok(path.clone());
    }
    let path = match there {
        Some(path) => path,
        None => tree.create_persistent(&table(of))?,
    };
    tree.put_persistent(&path.param("Alias"), &row.name)?;
    for (name, value) in &row.values {
        tree.put_persistent(&path.param(name), value)?;
    }
    for (name, value) in more {
        tree.put_persistent(&path.param(name), value)?;
    }
    tree.put_persistent(&path.param("Enable"), "true")?;
    Ok(path)
}

/// What was entered the last time: key, row, and what it said.
struct Memory(Vec<(String, String, String)>);

impl Memory {
    fn read(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| {
            let mut parts = line.splitn(3, '\t').map(str::to_owned);
            Some((parts.next()?, parts.next()?, parts.next()?))
        });
        Self(lines.collect())
    }

    fn take(&mut self, key: &str) -> Option<(String, String)> {
        let at = self.0.iter().position(|(known, ..)| known == key)?;
        let (_, path, was) = self.0.remove(at);
        Some((path, was))
    }
}
