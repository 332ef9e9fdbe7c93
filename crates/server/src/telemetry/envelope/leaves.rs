//! Numbers in the data, each with its path.
//!
//! A path is that of RFC 8040 §3.5.3 without its first slash: `ietf-interfaces:interfaces/interface=eth0/statistics/in-octets`. Without the
//! YANG modules at hand, the key of a list's entry is taken to be its `name`, `id`, `index` or `key`; an entry that has none of
//! these is known by its position, from 0.

use super::{KEYS, MAX_DEPTH, MAX_NODES, Node, local};

/// Longest path of a series, in bytes.
const MAX_PATH: usize = 512;

/// A number in the data.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaf {
    /// Where.
    pub path: String,
    /// What. Whole numbers above 2⁵³ lose their last digits.
    pub value: f64,
}

/// The numbers of a message.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Leaves {
    /// In the order of the message.
    pub leaves: Vec<Leaf>,
    /// How many were left out: too many, too deep, or with a path too long.
    pub left_out: u64,
}

/// Every number under `contents`, which is the notification's own content.
pub(super) fn collect(contents: &Node, limit: usize) -> Leaves {
    let mut walk = Walk {
        found: Leaves::default(),
        limit,
        nodes: 0,
    };
    let mut path = String::new();
    let Node::Object(members) = contents else {
        return walk.found;
    };
    if let Some(data) = member(members, "datastore-contents") {
        walk.node(data, &mut path, "", 0);
    } else if let Some(changes) = member(members, "datastore-changes") {
        walk.changes(changes);
    } else {
        walk.node(contents, &mut path, "", 0);
    }
    walk.found
}

struct Walk {
    found: Leaves,
    limit: usize,
    nodes: usize,
}

impl Walk {
    /// What a `push-change-update` changes (YANG Patch, RFC 8072).
    fn changes(&mut self, changes: &Node) {
        let patch = match changes {
            Node::Object(members) => member(members, "yang-patch").unwrap_or(changes),
            other => other,
        };
        let Node::Object(members) = patch else { return };
        let edits = members.iter().filter(|(name, _)| local(name) == "edit");
        for (_, edits) in edits {
            match edits {
                Node::List(entries) => entries.iter().for_each(|edit| self.edit(edit)),
                one => self.edit(one),
            }
        }
    }

    fn edit(&mut self, edit: &Node) {
        let Node::Object(members) = edit else { return };
        let (Some(Node::Text(target)), Some(value)) =
            (member(members, "target"), member(members, "value"))
        else {
            return;
        };
        // The value names its target again: `{"ietf-x:leaf": 1}` for the target `/ietf-x:a/leaf`.
        let target = target.trim_start_matches('/');
        let mut path = match target.rsplit_once('/') {
            Some((parent, _)) => parent.to_owned(),
            None => String::new(),
        };
        let module = path
            .rsplit('/')
            .find_map(|step| step.split_once(':'))
            .map_or(String::new(), |(module, _)| module.to_owned());
        self.node(value, &mut path, &module, 0);
    }

    fn node(&mut self, node: &Node, path: &mut String, module: &str, depth: usize) {
        self.node_of(node, path, module, depth, None);
    }

    /// A node; of the entry of a list without the leaf that is its key, which is in the path.
    fn node_of(
        &mut self,
        node: &Node,
        path: &mut String,
        module: &str,
        depth: usize,
        key_leaf: Option<&str>,
    ) {
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            self.found.left_out += 1;
            return;
        }
        match node {
            Node::Object(members) => {
                for (name, value) in members {
                    if key_leaf == Some(local(name)) {
                        continue;
                    }
                    let (inner, step) = match name.split_once(':') {
                        // The module of a name is told where it changes (RFC 7951 §4).
                        Some((given, plain)) if given == module => (given, plain),
                        Some((given, _)) => (given, name.as_str()),
                        None => (module, name.as_str()),
                    };
                    let length = path.len();
                    if !path.is_empty() {
                        path.push('/');
                    }
                    path.push_str(step);
                    self.node(value, path, inner, depth + 1);
                    path.truncate(length);
                }
            }
            Node::List(entries) => {
                for (position, entry) in entries.iter().enumerate() {
                    let length = path.len();
                    path.push('=');
                    let found = key(entry);
                    match &found {
                        Some((_, key)) => path.push_str(key),
                        None => path.push_str(&position.to_string()),
                    }
                    let key_leaf = found.map(|(name, _)| name);
                    self.node_of(entry, path, module, depth + 1, key_leaf);
                    path.truncate(length);
                }
            }
            Node::Number(value) => self.leaf(path, *value),
            Node::Text(text) => {
                if let Some(value) = number(text) {
                    self.leaf(path, value);
                }
            }
            Node::Other => {}
        }
    }

    fn leaf(&mut self, path: &str, value: f64) {
        if self.found.leaves.len() >= self.limit
            || path.is_empty()
            || path.len() > MAX_PATH
            || !value.is_finite()
        {
            self.found.left_out += 1;
            return;
        }
        self.found.leaves.push(Leaf {
            path: path.to_owned(),
            value,
        });
    }
}

fn member<'a>(members: &'a [(String, Node)], name: &str) -> Option<&'a Node> {
    let mut found = members.iter();
    found
        .find(|(known, _)| local(known) == name)
        .map(|(_, node)| node)
}

/// What names an entry of a list: which leaf, and its value.
fn key(entry: &Node) -> Option<(&'static str, String)> {
    let Node::Object(members) = entry else {
        return None;
    };
    KEYS.into_iter()
        .find_map(|name| match member(members, name)? {
            Node::Text(text) => Some((name, escaped(text))),
            Node::Number(value) => Some((name, value.to_string())),
            _ => None,
        })
}

/// A key as it stands in a path (RFC 8040 §3.5.3): what would end it is percent-encoded.
fn escaped(key: &str) -> String {
    let mut text = String::with_capacity(key.len());
    for character in key.chars() {
        match character {
            '/' | '%' | ',' | '=' | '?' | '#' => {
                text.push_str(&format!("%{:02X}", u32::from(character)));
            }
            other if other.is_control() => text.push_str(&format!("%{:02X}", u32::from(other))),
            other => text.push(other),
        }
    }
    text
}

/// A text that is a number as YANG writes one (RFC 7950 §9.2.1, §9.3.1), with at most 20 digits.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (digits, None),
    };
    let all_digits =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let fine = digits.len() <= 21
        && all_digits(whole)
        && fraction.is_none_or(all_digits)
        // Serial numbers and the like begin with a zero; numbers do not.
        && (whole == "0" || !whole.starts_with('0'));
    fine.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_yang_writes_as_a_number_is_one_and_a_serial_number_is_not() {
        for (text, value) in [
            ("0", Some(0.0)),
            ("18446744073709551615", Some(18_446_744_073_709_551_615.0)),
            ("-1.50", Some(-1.5)),
            (" 7\n", Some(7.0)),
            ("007", None),
            ("1e9", None),
            ("NaN", None),
            ("1.", None),
            ("", None),
            ("-", None),
            ("10.0.0.1", None),
        ] {
            assert_eq!(number(text), value, "{text}");
        }
    }

    #[test]
    fn a_key_cannot_end_its_step() {
        assert_eq!(escaped("ge-0/0/1"), "ge-0%2F0%2F1");
        assert_eq!(escaped("a,b=c%"), "a%2Cb%3Dc%25");
    }
}
