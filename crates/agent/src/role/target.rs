//! An entry of `Targets`: which elements a permission is about.

use homefleet_model::{
    path::{Path, Segment},
    tree::{Resolved, Tree},
};

/// A path of names, numbers and wildcards: the element it names and all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Exact(String),
    /// `*`: any row, and the row as the supported data model has it.
    AnyRow,
}

impl Target {
    /// An entry as it stands in the data model; a search is what it finds now. One that is no path is about nothing.
    pub(super) fn compile(tree: &Tree, text: &str) -> Vec<Self> {
        let path = Path::parse_reference(text).or_else(|_| Path::parse(&format!("{text}.")));
        let Ok(path) = path else {
            return Vec::new();
        };
        let searches =
            |segment: &Segment| matches!(segment, Segment::Search(_) | Segment::Follow { .. });
        if !path.segments().iter().any(searches) {
            return vec![Self::simple(text)];
        }
        let items = tree.resolve(&path).or_else(|error| {
            // A partial path may come without its dot.
            Path::parse(&format!("{text}."))
                .ok()
                .and_then(|object| tree.resolve(&object).ok())
                .ok_or(error)
        });
        let items = items.unwrap_or_default();
        items
            .iter()
            .map(|item| match item {
                Resolved::Object(object) | Resolved::Table(object) => Self::simple(object.as_str()),
                Resolved::Param(param) => Self::simple(param.as_str()),
                Resolved::Command(object, command) => {
                    Self::simple(&format!("{object}{}", command.name))
                }
                Resolved::Event(object, event) => Self::simple(&format!("{object}{}", event.name)),
            })
            .collect()
    }

    pub(super) fn simple(text: &str) -> Self {
        let part = |text: &str| match text {
            "*" => Part::AnyRow,
            other => Part::Exact(other.to_owned()),
        };
        Self(parts(text).into_iter().map(part).collect())
    }

    /// Whether the element is the target's, or lies below it.
    pub(super) fn holds(&self, subject: &[&str]) -> bool {
        self.0.len() <= subject.len()
            && self.0.iter().zip(subject).all(|(part, found)| match part {
                Part::Exact(wanted) => wanted == found,
                Part::AnyRow => *found == "{i}" || found.starts_with(|c: char| c.is_ascii_digit()),
            })
    }
}

/// The segments of a path's text, with or without a dot at its end.
pub(super) fn parts(text: &str) -> Vec<&str> {
    text.trim_end_matches('.').split('.').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(target: &str, subject: &str) -> bool {
        Target::simple(target).holds(&parts(subject))
    }

    #[test]
    fn a_partial_path_is_about_all_below_it_and_nothing_beside_it() {
        for target in ["Device.IP", "Device.IP."] {
            assert!(holds(target, "Device.IP."));
            assert!(holds(target, "Device.IP.Interface.1.Enable"));
            assert!(holds(target, "Device.IP.Interface.{i}.Enable"));
            assert!(holds(target, "Device.IP.Diagnostics.IPPing()"));
            assert!(!holds(target, "Device."));
            assert!(!holds(target, "Device.IPv6.Enable"));
        }
    }

    #[test]
    fn a_row_is_about_itself_and_a_wildcard_about_every_row() {
        assert!(holds("Device.X.Item.1.", "Device.X.Item.1.Name"));
        assert!(!holds("Device.X.Item.1.", "Device.X.Item.12.Name"));
        assert!(!holds("Device.X.Item.1.", "Device.X.Item.{i}.Name"));
        assert!(holds("Device.X.Item.*.Name", "Device.X.Item.7.Name"));
        assert!(holds("Device.X.Item.*.Name", "Device.X.Item.{i}.Name"));
        assert!(!holds("Device.X.Item.*.Name", "Device.X.Item.7.Level"));
        assert!(!holds("Device.X.Item.*.", "Device.X.Item."));
    }
}
