//! What subscriptions tell: values of the data model as YANG data, in the envelope of the receiver.
//!
//! TR-181 has no YANG module, so paths become data by rule. `Device.IP.Interface.1.Stats.BytesSent` is the leaf
//! `/homefleet-tr181:Device/IP/Interface[index='1']/Stats/BytesSent`: objects are containers, tables are lists whose key `index` is
//! the instance number, parameters are leaves. Types follow RFC 7951: `unsignedInt` and `int` are numbers, `unsignedLong` and `long`
//! 64-bit numbers, `boolean` is one, everything else is text as TR-106 writes it.

use std::collections::BTreeMap;
use std::time::SystemTime;

use homefleet_model::path::ObjectPath;
use homefleet_model::tree::{Resolved, Tree};
use homefleet_model::value::{Type, Value, date_time};

use super::item::{self, Item, Module, Name, local, of};
use super::{Encoding, Envelope, Filter, Subscription, Trigger};

/// The longest notification: fewer than 64 segments at the least MTU of IPv6, over DTLS too (-26 §5.2). More values go into several.
pub(crate) const MAX_NOTIFICATION: usize = 73_728;

/// Values, by object and parameter.
pub(crate) type Values = BTreeMap<ObjectPath, BTreeMap<String, Item>>;

/// What the references of a subscription name now.
pub(crate) fn gather(tree: &Tree, filters: &[Filter]) -> Values {
    let mut values = Values::new();
    for filter in filters {
        // What does not exist now has nothing to tell.
        for found in tree.resolve(&filter.path).unwrap_or_default() {
            match found {
                Resolved::Object(object) | Resolved::Table(object) => {
                    tree.walk(&object, 0, |object, params| {
                        let params: BTreeMap<String, Item> = params
                            .map(|(param, value)| (param.name.to_owned(), scalar(value)))
                            .collect();
                        if !params.is_empty() {
                            values.entry(object.clone()).or_default().extend(params);
                        }
                    });
                }
                Resolved::Param(param) => {
                    if let Ok(value) = tree.get(&param) {
                        let object = values.entry(param.object()).or_default();
                        object.insert(param.name().to_owned(), scalar(value));
                    }
                }
                Resolved::Command(..) | Resolved::Event(..) => {}
            }
        }
    }
    values
}

/// One value.
pub(crate) fn scalar(value: &Value) -> Item {
    let text = value.as_str();
    let parsed = match value.ty() {
        Type::Boolean => Some(Item::Bool(text == "true")),
        Type::Int | Type::IntIn(..) | Type::UnsignedInt | Type::UnsignedIntIn(..) => {
            text.parse().ok().map(Item::Int)
        }
        Type::Long | Type::LongIn(..) => text.parse().ok().map(Item::Long),
        Type::UnsignedLong | Type::UnsignedLongIn(..) => text.parse().ok().map(Item::UnsignedLong),
        _ => None,
    };
    parsed.unwrap_or_else(|| Item::text(text.to_owned()))
}

/// One change of an on-change subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Edit {
    /// A row was made, with these values.
    Create(Item),
    /// A row is gone.
    Delete,
    /// A parameter has another value.
    Replace(Item),
}

/// Who writes notifications, to which receiver.
#[derive(Debug, Clone)]
pub(crate) struct Writer<'a> {
    pub(crate) encoding: Encoding,
    pub(crate) envelope: Envelope,
    pub(crate) hostname: Option<&'a str>,
    pub(crate) at: SystemTime,
}

impl Writer<'_> {
    /// A subscription begins: the first message of a stream (-26 §3.1, RFC 8639 §2.7.1).
    pub(crate) fn started(&self, subscription: &Subscription, sequence: &mut u32) -> Vec<u8> {
        let mut members = vec![(local("id"), Item::Int(subscription.id.into()))];
        members.push((
            of(Module::YangPush, "datastore"),
            Item::text("ietf-datastores:operational"),
        ));
        let paths = subscription
            .filters
            .iter()
            .map(|filter| xpath(&filter.path.to_string()));
        let paths: Vec<String> = paths.collect();
        members.push((
            of(Module::YangPush, "datastore-xpath-filter"),
            Item::text(paths.join(" | ")),
        ));
        match &subscription.trigger {
            Trigger::Periodic { period, anchor } => {
                // Hundredths of a second (RFC 8641).
                let centis = i64::try_from(period.as_millis() / 10).unwrap_or(i64::MAX);
                let mut periodic = vec![(local("period"), Item::Int(centis))];
                if let Some(anchor) = anchor {
                    periodic.push((local("anchor-time"), Item::text(date_time(*anchor))));
                }
                members.push((of(Module::YangPush, "periodic"), Item::Object(periodic)));
            }
            Trigger::OnChange { dampening, sync } => {
                let centis = i64::try_from(dampening.as_millis() / 10).unwrap_or(i64::MAX);
                let on_change = vec![
                    (local("dampening-period"), Item::Int(centis)),
                    (local("sync-on-start"), Item::Bool(*sync)),
                ];
                members.push((of(Module::YangPush, "on-change"), Item::Object(on_change)));
            }
        }
        let name = of(Module::Subscribed, "subscription-started");
        self.write(name, Item::Object(members), sequence)
    }

    /// A subscription ends (RFC 8639 §2.7.3).
    pub(crate) fn terminated(&self, id: u32, sequence: &mut u32) -> Vec<u8> {
        let members = vec![
            (local("id"), Item::Int(id.into())),
            (
                local("reason"),
                Item::text("ietf-subscribed-notifications:no-such-subscription"),
            ),
        ];
        let name = of(Module::Subscribed, "subscription-terminated");
        self.write(name, Item::Object(members), sequence)
    }

    /// `push-update`, as many as it takes for each to be no longer than receivers take.
    pub(crate) fn update(&self, id: u32, values: &Values, sequence: &mut u32) -> Vec<Vec<u8>> {
        let objects: Vec<_> = values.iter().collect();
        let mut out = Vec::new();
        self.update_part(id, &objects, sequence, &mut out);
        out
    }

    fn update_part(
        &self,
        id: u32,
        objects: &[(&ObjectPath, &BTreeMap<String, Item>)],
        sequence: &mut u32,
        out: &mut Vec<Vec<u8>>,
    ) {
        let before = *sequence;
        let members = vec![
            (local("id"), Item::Int(id.into())),
            (local("datastore-contents"), data(objects)),
        ];
        let name = of(Module::YangPush, "push-update");
        let message = self.write(name, Item::Object(members), sequence);
        if message.len() > MAX_NOTIFICATION && objects.len() > 1 {
            *sequence = before;
            let (first, second) = objects.split_at(objects.len() / 2);
            self.update_part(id, first, sequence, out);
            self.update_part(id, second, sequence, out);
        } else {
            out.push(message);
        }
    }

    /// `push-change-update` with a YANG Patch (RFC 8072), likewise.
    pub(crate) fn changes(
        &self,
        id: u32,
        edits: &[(String, Edit)],
        sequence: &mut u32,
    ) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        self.changes_part(id, edits, sequence, &mut out);
        out
    }

    fn changes_part(
        &self,
        id: u32,
        edits: &[(String, Edit)],
        sequence: &mut u32,
        out: &mut Vec<Vec<u8>>,
    ) {
        let before = *sequence;
        let list = edits.iter().enumerate().map(|(number, (path, edit))| {
            let (operation, value) = match edit {
                Edit::Create(value) => ("create", Some(value)),
                Edit::Delete => ("delete", None),
                Edit::Replace(value) => ("replace", Some(value)),
            };
            let mut members = vec![
                (local("edit-id"), Item::text((number + 1).to_string())),
                (local("operation"), Item::text(operation)),
                (local("target"), Item::text(target(path))),
            ];
            if let Some(value) = value {
                let name = last_name(path);
                let value = match edit {
                    // The entry of a list stands in its list.
                    Edit::Create(_) => Item::List(vec![value.clone()]),
                    _ => value.clone(),
                };
                let value = vec![(of(Module::Tr181, name.to_owned()), value)];
                members.push((local("value"), Item::Object(value)));
            }
            Item::Object(members)
        });
        let patch = vec![
            (local("patch-id"), Item::text(before.to_string())),
            (local("edit"), Item::List(list.collect())),
        ];
        let changes = vec![(local("yang-patch"), Item::Object(patch))];
        let members = vec![
            (local("id"), Item::Int(id.into())),
            (local("datastore-changes"), Item::Object(changes)),
        ];
        let name = of(Module::YangPush, "push-change-update");
        let message = self.write(name, Item::Object(members), sequence);
        if message.len() > MAX_NOTIFICATION && edits.len() > 1 {
            *sequence = before;
            let (first, second) = edits.split_at(edits.len() / 2);
            self.changes_part(id, first, sequence, out);
            self.changes_part(id, second, sequence, out);
        } else {
            out.push(message);
        }
    }

    fn write(&self, name: Name, content: Item, sequence: &mut u32) -> Vec<u8> {
        let time = Item::text(date_time(self.at));
        let (root, item) = match self.envelope {
            Envelope::YpNotification => {
                let mut members = vec![(local("event-time"), time)];
                if let Some(hostname) = self.hostname {
                    members.push((local("hostname"), Item::text(hostname.to_owned())));
                }
                members.push((local("sequence-number"), Item::Int((*sequence).into())));
                let contents = Item::Object(vec![(name, content)]);
                members.push((local("contents"), contents));
                (
                    of(Module::YpNotification, "envelope"),
                    Item::Object(members),
                )
            }
            Envelope::Notification => {
                let members = vec![(local("eventTime"), time), (name, content)];
                (
                    of(Module::Notification, "notification"),
                    Item::Object(members),
                )
            }
        };
        *sequence = sequence.wrapping_add(1);
        match self.encoding {
            Encoding::Json => item::json(&root, &item),
            Encoding::Cbor => item::cbor(&root, &item),
            Encoding::Xml => item::xml(&root, &item),
        }
    }
}

/// The objects as one tree, from `Device` on.
fn data(objects: &[(&ObjectPath, &BTreeMap<String, Item>)]) -> Item {
    let mut root = Branch::default();
    for (object, params) in objects {
        let branch = root.at(object);
        branch.leaves.extend((*params).clone());
    }
    let Item::Object(mut members) = root.into_item(None) else {
        return Item::Object(Vec::new());
    };
    for (name, _) in &mut members {
        name.module = Some(Module::Tr181);
    }
    Item::Object(members)
}

/// A row with its values, as the entry of its list.
pub(crate) fn row(tree: &Tree, row: &ObjectPath) -> Item {
    let mut root = Branch::default();
    tree.walk(row, 0, |object, params| {
        let params = params.map(|(param, value)| (param.name.to_owned(), scalar(value)));
        root.at(object).leaves.extend(params);
    });
    let mut branch = root;
    for part in row.segments() {
        branch = branch.children.remove(part).unwrap_or_default();
    }
    branch.into_item(row.instance())
}

#[derive(Debug, Default)]
struct Branch {
    leaves: BTreeMap<String, Item>,
    /// By name, or by instance number.
    children: BTreeMap<String, Branch>,
}

impl Branch {
    fn at(&mut self, object: &ObjectPath) -> &mut Self {
        let mut branch = self;
        for part in object.segments() {
            branch = branch.children.entry(part.to_owned()).or_default();
        }
        branch
    }

    fn into_item(self, index: Option<u32>) -> Item {
        let mut members = Vec::new();
        if let Some(index) = index {
            members.push((local("index"), Item::Int(index.into())));
        }
        let leaves = self.leaves.into_iter();
        members.extend(leaves.map(|(name, item)| (local(name), item)));
        for (name, child) in self.children {
            let mut rows: Vec<(u32, Branch)> = Vec::new();
            let mut inner = Branch {
                leaves: child.leaves,
                ..Self::default()
            };
            for (part, grandchild) in child.children {
                match part.parse() {
                    Ok(number) => rows.push((number, grandchild)),
                    Err(_) => {
                        inner.children.insert(part, grandchild);
                    }
                }
            }
            let item = if rows.is_empty() {
                inner.into_item(None)
            } else {
                rows.sort_by_key(|(number, _)| *number);
                let rows = rows.into_iter();
                Item::List(
                    rows.map(|(number, row)| row.into_item(Some(number)))
                        .collect(),
                )
            };
            members.push((local(name), item));
        }
        Item::Object(members)
    }
}

/// A path of the data model as the resource of RFC 8040 §3.5.3: `/homefleet-tr181:Device/IP/Interface=1/Status`.
fn target(path: &str) -> String {
    let mut out = String::new();
    for part in path.trim_end_matches('.').split('.') {
        if part.starts_with(|c: char| c.is_ascii_digit()) {
            out.push('=');
        } else if out.is_empty() {
            out.push_str("/homefleet-tr181:");
        } else {
            out.push('/');
        }
        out.push_str(part);
    }
    out
}

/// The last name of a path, without an instance number.
fn last_name(path: &str) -> &str {
    let mut parts = path.trim_end_matches('.').rsplit('.');
    parts
        .find(|part| !part.starts_with(|c: char| c.is_ascii_digit()))
        .unwrap_or_default()
}

/// A path with wildcards as XPath: `/homefleet-tr181:Device/IP/Interface/Stats`. Search expressions stay as they are written.
fn xpath(path: &str) -> String {
    let mut out = String::new();
    for part in path.trim_end_matches('.').split('.') {
        if part == "*" {
            continue;
        }
        if part.starts_with(|c: char| c.is_ascii_digit()) {
            out.push_str(&format!("[index='{part}']"));
            continue;
        }
        out.push_str(if out.is_empty() {
            "/homefleet-tr181:"
        } else {
            "/"
        });
        out.push_str(part);
    }
    out
}
