//! Parameters as a tree of objects: own values first, then the objects below, instances in the order of
//! their numbers.

use std::collections::BTreeMap;

use homefleet_api::Parameter;

use super::when::{Clock, When};

/// A table with more instances than this starts folded.
const OPEN_INSTANCES: usize = 4;
/// Objects deeper than this start folded.
const OPEN_DEPTH: usize = 3;
/// Depths the style sheet tells apart.
const DEEPEST: usize = 6;
/// Objects deeper than this are one with the last: a device may name what it likes, and every object costs.
const MAX_DEPTH: usize = 12;
/// Parameters whose value names an instance better than its number, the best first.
const NAMES: [&str; 7] = [
    "Name",
    "ID",
    "HostName",
    "EndpointID",
    "IPAddress",
    "Command",
    "Alias",
];

/// The tree as the template walks through it.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Opening, values and end of every object, in the order of the page.
    pub(crate) items: Vec<Item>,
    /// Name, path and number of values of the objects at the top.
    pub(crate) top: Vec<(String, String, usize)>,
    /// Values on the page.
    pub(crate) total: usize,
    /// Values stored beyond those.
    pub(crate) hidden: u64,
}

/// One step of the walk.
#[derive(Debug)]
pub(crate) enum Item {
    /// An object begins.
    Open(Node),
    /// A value of it.
    Row(Row),
    /// The object ends.
    Close,
}

/// An object.
#[derive(Debug)]
pub(crate) struct Node {
    /// Full path with the dot.
    pub(crate) path: String,
    /// Last part of it.
    pub(crate) name: String,
    /// What an instance calls itself; how many instances a table has.
    pub(crate) label: String,
    /// Values in it and below.
    pub(crate) total: usize,
    /// Whether it starts unfolded.
    pub(crate) open: bool,
    /// Whether it has instances.
    pub(crate) table: bool,
    /// Whether it is an instance.
    pub(crate) instance: bool,
    /// How far in it is, from 1; no further than the style sheet tells apart.
    pub(crate) depth: usize,
}

/// A value.
#[derive(Debug)]
pub(crate) struct Row {
    /// Full path.
    pub(crate) path: String,
    /// Last part of it.
    pub(crate) name: String,
    /// Value.
    pub(crate) value: String,
    /// When the device stated it.
    pub(crate) seen: When,
}

#[derive(Default)]
struct Object<'a> {
    rows: Vec<(&'a str, &'a Parameter)>,
    children: BTreeMap<Key<'a>, Object<'a>>,
}

/// Instance numbers in the order of numbers, before names.
#[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum Key<'a> {
    Number(u64),
    Name(&'a str),
}

impl Tree {
    /// The tree of these parameters, of `stored` in all.
    pub(crate) fn new(parameters: &[Parameter], stored: u64, clock: &Clock) -> Self {
        let mut root = Object::default();
        for parameter in parameters {
            let (objects, name) = parameter
                .path
                .rsplit_once('.')
                .unwrap_or(("", &parameter.path));
            let mut object = &mut root;
            let parts = objects.splitn(MAX_DEPTH, '.');
            for part in parts.filter(|part| !part.is_empty()) {
                let key = part.parse().map_or(Key::Name(part), Key::Number);
                object = object.children.entry(key).or_default();
            }
            object.rows.push((name, parameter));
        }
        let mut items = Vec::new();
        for (key, object) in &root.children {
            // What everything is below needs no fold of its own.
            object.walk(&mut items, &key.text(), 0, true, clock);
        }
        let top = items
            .iter()
            .filter_map(|item| match item {
                Item::Open(node) if node.depth == 1 => {
                    Some((node.name.clone(), node.path.clone(), node.total))
                }
                _ => None,
            })
            .collect();
        let total = parameters.len();
        let hidden = stored.saturating_sub(u64::try_from(total).unwrap_or(u64::MAX));
        Self {
            items,
            top,
            total,
            hidden,
        }
    }
}

impl Object<'_> {
    fn walk(&self, items: &mut Vec<Item>, path: &str, depth: usize, open: bool, clock: &Clock) {
        if depth > 0 {
            items.push(Item::Open(self.node(path, depth, open)));
        }
        for (name, parameter) in &self.rows {
            items.push(Item::Row(Row {
                path: parameter.path.clone(),
                name: (*name).to_owned(),
                value: parameter.value.clone(),
                seen: clock.when(&parameter.seen),
            }));
        }
        for (key, child) in &self.children {
            let few = child.instances() <= OPEN_INSTANCES
                && !(matches!(key, Key::Number(_)) && self.children.len() > OPEN_INSTANCES);
            child.walk(
                items,
                &format!("{path}.{}", key.text()),
                depth + 1,
                few && depth + 1 < OPEN_DEPTH,
                clock,
            );
        }
        if depth > 0 {
            items.push(Item::Close);
        }
    }

    fn node(&self, path: &str, depth: usize, open: bool) -> Node {
        let name = path.rsplit('.').next().unwrap_or(path);
        let instance = name.bytes().all(|byte| byte.is_ascii_digit());
        let instances = self.instances();
        let label = if instance {
            NAMES
                .iter()
                .find_map(|wanted| {
                    let named = |(name, parameter): &&(&str, &Parameter)| {
                        name == wanted && !parameter.value.is_empty()
                    };
                    self.rows.iter().find(named)
                })
                .map(|(_, parameter)| parameter.value.clone())
                .unwrap_or_default()
        } else {
            match instances {
                0 => String::new(),
                1 => "1 instance".to_owned(),
                several => format!("{several} instances"),
            }
        };
        Node {
            path: format!("{path}."),
            name: name.to_owned(),
            label,
            total: self.total(),
            open,
            table: instances > 0,
            instance,
            depth: depth.min(DEEPEST),
        }
    }

    fn instances(&self) -> usize {
        self.children
            .keys()
            .filter(|key| matches!(key, Key::Number(_)))
            .count()
    }

    fn total(&self) -> usize {
        self.rows.len() + self.children.values().map(Object::total).sum::<usize>()
    }
}

impl Key<'_> {
    fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Name(name) => (*name).to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(values: &[(&str, &str)]) -> Tree {
        let parameters: Vec<Parameter> = values
            .iter()
            .map(|(path, value)| Parameter {
                path: (*path).to_owned(),
                value: (*value).to_owned(),
                seen: "2026-11-20T12:00:00Z".to_owned(),
            })
            .collect();
        Tree::new(&parameters, 10, &Clock::at("2026-11-20T12:00:09Z"))
    }

    fn walked(tree: &Tree) -> String {
        tree.items
            .iter()
            .map(|item| match item {
                Item::Open(node) => format!("{}[{}]{{", node.name, node.label),
                Item::Row(row) => format!("{}={} ", row.name, row.value),
                Item::Close => "}".to_owned(),
            })
            .collect()
    }

    #[test]
    fn own_values_come_first_and_instances_in_the_order_of_numbers() {
        let tree = tree(&[
            ("Device.IP.Interface.10.Name", "ten"),
            ("Device.IP.Interface.2.Name", "two"),
            ("Device.IP.InterfaceNumberOfEntries", "2"),
            ("Device.RootDataModelVersion", "2.16"),
        ]);
        assert_eq!(
            walked(&tree),
            "RootDataModelVersion=2.16 IP[]{InterfaceNumberOfEntries=2 Interface[2 instances]{2[two]{Name=two }10[ten]{Name=ten }}}"
        );
        assert_eq!((tree.total, tree.hidden), (4, 6));
    }

    #[test]
    fn large_tables_start_folded() {
        let rows: Vec<String> = (1..=6)
            .map(|i| format!("Device.Hosts.Host.{i}.Active"))
            .collect();
        let values: Vec<(&str, &str)> = rows.iter().map(|path| (path.as_str(), "true")).collect();
        let open: Vec<(String, bool)> = tree(&values)
            .items
            .into_iter()
            .filter_map(|item| match item {
                Item::Open(node) => Some((node.path, node.open)),
                _ => None,
            })
            .collect();
        assert_eq!(open[0], ("Device.Hosts.".to_owned(), true));
        assert_eq!(open[1], ("Device.Hosts.Host.".to_owned(), false));
        assert_eq!(open[2], ("Device.Hosts.Host.1.".to_owned(), false));
    }

    #[test]
    fn endless_paths_do_not_become_endless_objects() {
        let path = format!("Device.{}Name", "X.".repeat(500));
        let tree = tree(&[(&path, "v")]);
        let objects = tree.items.iter();
        let objects = objects.filter(|item| matches!(item, Item::Open(_)));
        assert_eq!(objects.count(), MAX_DEPTH - 1);
        assert!(
            tree.items
                .iter()
                .any(|item| matches!(item, Item::Row(row) if row.path == path))
        );
    }
}
