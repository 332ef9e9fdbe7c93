//! Roles: what a Controller may read, write, run and be told (`Device.LocalAgent.ControllerTrust.`, R-SEC.1).
//!
//! [`Rights`] is compiled from the roles of one row of the Controller table whenever they are needed. In each role the
//! enabled permission of the highest `Order` whose `Targets` hold the element decides; what several roles permit adds
//! up. What no permission mentions is not permitted.

use homefleet_model::{
    path::{ObjectPath, Path, Segment, Target as PathTarget},
    tree::{Resolved, Tree},
    value::list_items,
};

use crate::local_agent::{is_true, number, text};

mod built_in;
mod target;

pub(crate) use self::built_in::{CREDENTIALS, FULL_ACCESS, TRUST, enter, is_protected, role};
use self::target::{Target, parts};

/// One letter of a permission string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    Read,
    Write,
    Execute,
    Notify,
}

/// The kinds of elements that have a permission string of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `Param`.
    Param,
    /// `Obj`: the object as the supported data model has it; a table for its rows to come.
    Object,
    /// `InstantiatedObj`: a row.
    Row,
    /// `CommandEvent`.
    CommandEvent,
}

/// What one Controller may do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rights {
    roles: Vec<Vec<Permission>>,
    /// Everything is permitted: nothing needs to be looked at.
    full: bool,
}

#[derive(Clone, Debug)]
struct Permission {
    order: u32,
    targets: Vec<Target>,
    /// `Param`, `Obj`, `InstantiatedObj`, `CommandEvent`.
    granted: [Grant; 4],
}

/// A permission string such as `r--n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant([bool; 4]);

impl Grant {
    /// `rwxn`, each letter or `-` in its place.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut letters = text.chars();
        let mut granted = [false; 4];
        for (slot, letter) in granted.iter_mut().zip("rwxn".chars()) {
            *slot = match letters.next()? {
                '-' => false,
                found if found == letter => true,
                _ => return None,
            };
        }
        letters.next().is_none().then_some(Self(granted))
    }

    fn has(self, right: Right) -> bool {
        let [read, write, execute, notify] = self.0;
        match right {
            Right::Read => read,
            Right::Write => write,
            Right::Execute => execute,
            Right::Notify => notify,
        }
    }
}

impl Rights {
    /// Of the device's own user.
    pub(crate) fn full() -> Self {
        Self {
            roles: Vec::new(),
            full: true,
        }
    }

    /// Of this row of the Controller table: its assigned and inherited roles.
    pub(crate) fn of(tree: &Tree, controller: &ObjectPath) -> Self {
        Self::of_roles(tree, &roles(tree, controller))
    }

    /// Of these roles, none of which may be the banned one.
    pub(crate) fn of_roles(tree: &Tree, references: &[String]) -> Self {
        let banned = tree.text(&format!("{TRUST}BannedRole"));
        if references.iter().any(|role| banned == Some(role)) {
            return Self::default();
        }
        let mut roles = Vec::new();
        let mut full = false;
        for reference in references {
            let Ok(row) = format!("{reference}.").parse::<ObjectPath>() else {
                continue;
            };
            if !is_true(tree, &row, "Enable") {
                continue;
            }
            full |= text(tree, &row, "Alias") == FULL_ACCESS;
            roles.push(permissions(tree, &row));
        }
        Self { roles, full }
    }

    /// Whether nothing at all is permitted.
    pub(crate) fn is_empty(&self) -> bool {
        !self.full && self.roles.iter().all(Vec::is_empty)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Whether `right` is granted on the element at `path`, concrete or in supported form (`{i}`).
    pub(crate) fn allow(&self, kind: Kind, path: &str, right: Right) -> bool {
        if self.full {
            return true;
        }
        let subject = parts(path);
        self.roles.iter().any(|role| {
            let decisive = role
                .iter()
                .find(|permission| permission.targets.iter().any(|one| one.holds(&subject)));
            decisive.is_some_and(|permission| permission.grant(kind).has(right))
        })
    }

    /// Whether the value of a parameter may be read.
    pub(crate) fn reads(&self, param: &str) -> bool {
        self.allow(Kind::Param, param, Right::Read)
    }

    /// Whether an object may be known to exist in the supported data model.
    pub(crate) fn knows(&self, object: &ObjectPath) -> bool {
        self.allow(Kind::Object, object.as_str(), Right::Read)
    }

    /// Whether every row on the way to `object` beyond the first `named` segments may be found.
    pub(crate) fn finds(&self, object: &ObjectPath, named: usize) -> bool {
        self.full
            || rows_of(object)
                .filter(|(depth, _)| *depth > named)
                .all(|(_, row)| self.allow(Kind::Row, &row, Right::Read))
    }

    /// Removes the unique keys that may not be read (R-ADD.6, R-GIN.1).
    pub(crate) fn readable_keys<M: Retain>(&self, row: &ObjectPath, keys: &mut M) {
        if !self.full {
            keys.retain_names(&|name| self.reads(row.param(name).as_str()));
        }
    }

    /// What of `items`, to which `path` resolved, this Controller may come to know by it: a row that a wildcard or a
    /// search found is not there without Read on it, nor one that is found by the value of a parameter without Read
    /// (R-GIN.0). Nothing is where a reference leads that may not be read.
    pub(crate) fn matched(&self, tree: &Tree, path: &Path, items: Vec<Resolved>) -> Vec<Resolved> {
        let asks = |segment: &Segment| !matches!(segment, Segment::Name(_) | Segment::Instance(_));
        if self.full || !path.segments().iter().any(asks) {
            return items;
        }
        let follows = |segment: &Segment| matches!(segment, Segment::Follow { .. });
        if path.segments().iter().any(follows) {
            // Where each item came from is not known any more: one thing that may not be read hides all.
            let open = self.way_is_open(tree, path);
            return items
                .into_iter()
                .filter(|item| open && self.finds(&object_of(item), 0))
                .collect();
        }
        let visible = |item: &Resolved| {
            let object = object_of(item);
            path.segments().iter().enumerate().all(|(at, segment)| {
                let Some(row) = prefix(&object, at + 1) else {
                    return true;
                };
                match segment {
                    Segment::Wildcard => self.allow(Kind::Row, row.as_str(), Right::Read),
                    Segment::Search(conditions) => {
                        self.allow(Kind::Row, row.as_str(), Right::Read)
                            && conditions.iter().all(|condition| {
                                self.reads_all(tree, &format!("{row}{}", condition.parameter))
                            })
                    }
                    _ => true,
                }
            })
        };
        items.into_iter().filter(visible).collect()
    }

    /// Whether nothing that decides where `path` leads is hidden.
    fn way_is_open(&self, tree: &Tree, path: &Path) -> bool {
        let mut so_far = String::new();
        path.segments().iter().all(|segment| {
            let open = match segment {
                Segment::Follow { param, .. } => self.reads_all(tree, &format!("{so_far}{param}")),
                Segment::Search(conditions) => conditions.iter().all(|condition| {
                    self.reads_all(tree, &format!("{so_far}*.{}", condition.parameter))
                }),
                _ => true,
            };
            so_far.push_str(&format!("{segment}."));
            open
        })
    }

    /// Whether every parameter that `text` names may be read, and every reference on the way.
    fn reads_all(&self, tree: &Tree, text: &str) -> bool {
        let Ok(path) = Path::parse(text) else {
            return false;
        };
        let follows = |segment: &Segment| matches!(segment, Segment::Follow { .. });
        if path.segments().iter().any(follows) && !self.way_is_open(tree, &path) {
            return false;
        }
        // What does not resolve has no value that could show.
        let items = tree.resolve(&path).unwrap_or_default();
        items.iter().all(|item| match item {
            Resolved::Param(param) => self.reads(param.as_str()),
            _ => false,
        })
    }

    /// Whether what `path` names is in the supported data model as this Controller sees it (R-GET.0, R-GET.1).
    /// References are not followed: what is behind them is judged when it is found.
    pub(crate) fn supports(&self, path: &Path) -> bool {
        if self.full {
            return true;
        }
        let mut supported = String::new();
        for segment in path.segments() {
            match segment {
                Segment::Name(name) => supported.push_str(name),
                Segment::Follow { .. } => return true,
                _ => supported.push_str("{i}"),
            }
            supported.push('.');
        }
        match path.target() {
            PathTarget::Object => {
                let object = supported.strip_suffix("{i}.").unwrap_or(&supported);
                self.allow(Kind::Object, object, Right::Read)
            }
            PathTarget::Param(name) => self.reads(&format!("{supported}{name}")),
            PathTarget::Command(name) | PathTarget::Event(name) => self.allow(
                Kind::CommandEvent,
                &format!("{supported}{name}"),
                Right::Read,
            ),
        }
    }

    /// Whether a subscription's reference searches only by what may be read.
    pub(crate) fn may_watch(&self, path: &Path) -> bool {
        self.full
            || path
                .segments()
                .iter()
                .enumerate()
                .all(|(at, segment)| match segment {
                    Segment::Search(conditions) => conditions.iter().all(|condition| {
                        let table: String = path
                            .segments()
                            .iter()
                            .take(at)
                            .map(|before| match before {
                                Segment::Name(name) => format!("{name}."),
                                _ => "{i}.".to_owned(),
                            })
                            .collect();
                        condition
                            .parameter
                            .segments()
                            .iter()
                            .all(|segment| matches!(segment, Segment::Name(_)))
                            && self.reads(&format!("{table}{{i}}.{}", condition.parameter))
                    }),
                    // What a reference says is seen by where it leads.
                    Segment::Follow { .. } => false,
                    _ => true,
                })
    }
}

/// The roles of a row of the Controller table, assigned and inherited, as references.
pub(crate) fn roles(tree: &Tree, controller: &ObjectPath) -> Vec<String> {
    ["AssignedRole", "InheritedRole"]
        .iter()
        .flat_map(|name| list_items(text(tree, controller, name)))
        .map(|role| role.trim_end_matches('.').to_owned())
        .collect()
}

/// A map from parameter names, of either kind that messages use.
pub(crate) trait Retain {
    fn retain_names(&mut self, wanted: &dyn Fn(&str) -> bool);
}

impl Retain for std::collections::BTreeMap<String, String> {
    fn retain_names(&mut self, wanted: &dyn Fn(&str) -> bool) {
        self.retain(|name, _| wanted(name));
    }
}

impl Retain for std::collections::HashMap<String, String> {
    fn retain_names(&mut self, wanted: &dyn Fn(&str) -> bool) {
        self.retain(|name, _| wanted(name));
    }
}

impl Permission {
    fn grant(&self, kind: Kind) -> Grant {
        let [param, object, row, command] = self.granted;
        match kind {
            Kind::Param => param,
            Kind::Object => object,
            Kind::Row => row,
            Kind::CommandEvent => command,
        }
    }
}

/// The enabled permissions of a role, that of the highest `Order` first.
fn permissions(tree: &Tree, role: &ObjectPath) -> Vec<Permission> {
    let rows = tree.rows(&role.child("Permission"));
    let mut all: Vec<Permission> = rows
        .iter()
        .filter(|row| is_true(tree, row, "Enable"))
        .map(|row| {
            let grant = |name| Grant::parse(text(tree, row, name)).unwrap_or(Grant([false; 4]));
            Permission {
                order: number(tree, row, "Order"),
                targets: list_items(text(tree, row, "Targets"))
                    .flat_map(|target| Target::compile(tree, target))
                    .collect(),
                granted: [
                    grant("Param"),
                    grant("Obj"),
                    grant("InstantiatedObj"),
                    grant("CommandEvent"),
                ],
            }
        })
        .collect();
    all.sort_by_key(|permission| std::cmp::Reverse(permission.order));
    all
}

/// The object of what was resolved.
fn object_of(item: &Resolved) -> ObjectPath {
    match item {
        Resolved::Object(object)
        | Resolved::Table(object)
        | Resolved::Command(object, _)
        | Resolved::Event(object, _) => object.clone(),
        Resolved::Param(param) => param.object(),
    }
}

/// The first `length` segments of a path; `None` when it has not so many.
fn prefix(object: &ObjectPath, length: usize) -> Option<ObjectPath> {
    let segments: Vec<&str> = object.segments().take(length).collect();
    (segments.len() == length)
        .then(|| format!("{}.", segments.join(".")).parse().ok())
        .flatten()
}

/// Every row on the way to an object, itself included, with the number of its segments.
fn rows_of(object: &ObjectPath) -> impl Iterator<Item = (usize, String)> + '_ {
    let segments: Vec<&str> = object.segments().collect();
    let mut so_far = String::new();
    let mut rows = Vec::new();
    for (at, segment) in segments.into_iter().enumerate() {
        so_far.push_str(segment);
        so_far.push('.');
        if segment.starts_with(|c: char| c.is_ascii_digit()) {
            rows.push((at + 1, so_far.clone()));
        }
    }
    rows.into_iter()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_permission_string_has_four_places() {
        let grant = Grant::parse("r-xn").unwrap();
        assert!(grant.has(Right::Read) && grant.has(Right::Execute) && grant.has(Right::Notify));
        assert!(!grant.has(Right::Write));
        for wrong in ["", "r", "rwx", "rwxnn", "wrxn", "R---", "r-n-", "    "] {
            assert_eq!(Grant::parse(wrong), None, "{wrong:?}");
        }
    }

    /// The example of TR-369 "A Controller's Role".
    #[test]
    fn orders_decide_within_a_role_and_roles_add_up() {
        let permission = |order, target: &str, param: &str| Permission {
            order,
            targets: vec![Target::simple(target)],
            granted: [Grant::parse(param).unwrap(); 4],
        };
        let rights = Rights {
            roles: vec![
                vec![
                    permission(55, "Device.LocalAgent.Controller", "r-xn"),
                    permission(3, "Device.LocalAgent", "r---"),
                ],
                vec![
                    permission(78, "Device.LocalAgent.Controller", "----"),
                    permission(20, "Device.LocalAgent", "r---"),
                ],
            ],
            full: false,
        };
        let param = "Device.LocalAgent.Controller.1.Enable";
        assert!(rights.reads(param));
        assert!(rights.allow(Kind::Param, param, Right::Notify));
        assert!(!rights.allow(Kind::Param, param, Right::Write));
        assert!(!rights.allow(Kind::Param, "Device.LocalAgent.UpTime", Right::Notify));
        assert!(!rights.reads("Device.Time.Status"));
    }
}
