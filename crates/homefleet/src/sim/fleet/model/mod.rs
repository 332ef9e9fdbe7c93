//! What a simulated device holds: a model that all of them share, and of each device only what differs from it.

mod parse;
mod values;

use std::collections::BTreeSet;

use homefleet_cwmp::ValueType;

pub(crate) use parse::ModelError;
pub(crate) use values::{About, Place, Values};

/// Which data model a device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// `Device.`, TR-181.
    Device,
    /// `InternetGatewayDevice.`, TR-098.
    InternetGatewayDevice,
    /// `Device.` of an Agent of USP: with what speaks of that, and without what speaks of TR-069.
    Usp,
}

impl Root {
    /// With its dot.
    pub(crate) const fn prefix(self) -> &'static str {
        match self {
            Self::Device | Self::Usp => "Device.",
            Self::InternetGatewayDevice => "InternetGatewayDevice.",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Device => include_str!("device.txt"),
            Self::InternetGatewayDevice => include_str!("igd.txt"),
            Self::Usp => concat!(include_str!("device.txt"), include_str!("usp.txt")),
        }
    }
}

/// The parameters of a kind of device, by name in order of bytes.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    root: Root,
    params: Vec<Param>,
    /// Objects that instances can be added to, with their dots.
    tables: BTreeSet<String>,
    /// Places of the parameters that every Inform tells.
    informed: Vec<usize>,
}

/// A parameter.
#[derive(Clone, Debug)]
pub(super) struct Param {
    name: String,
    kind: ValueType,
    writable: bool,
    start: Start,
}

/// What a parameter is until it is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// A text.
    Text(String),
    /// A text with `$serial` in it.
    WithSerial(String),
    Oui,
    Class,
    Serial,
    /// An address of hardware, of IPv4, of IPv6, different on every device.
    Mac,
    Ip,
    Ip6,
    /// Seconds since power came.
    Uptime,
    /// The time.
    Now,
    /// Grows by so much a second, more or less.
    Counter(u64),
    /// Between these; moves with time when nobody can write it.
    Between(i64, i64),
    /// The number of instances of a table.
    Count(String),
    /// The ACS, who logs in there, how often, and where the device is called.
    Acs,
    Login,
    Period,
    Call,
    /// Is read as nothing.
    Secret,
}

impl Model {
    /// A model with at least `parameters` of them, which more hosts in the home make up for.
    ///
    /// # Errors
    /// When the text of the model is wrong.
    pub(crate) fn new(root: Root, parameters: usize) -> Result<Self, ModelError> {
        parse::parse(root, root.text(), parameters)
    }

    /// How many parameters.
    pub(crate) fn len(&self) -> usize {
        self.params.len()
    }

    fn find(&self, name: &str) -> Option<usize> {
        let found = self
            .params
            .binary_search_by(|param| param.name.as_str().cmp(name));
        found.ok()
    }

    /// The places of the names that begin so.
    fn below(&self, prefix: &str) -> std::ops::Range<usize> {
        let start = self
            .params
            .partition_point(|param| param.name.as_str() < prefix);
        let rest = self.params.get(start..).unwrap_or_default();
        let count = rest.partition_point(|param| param.name.starts_with(prefix));
        start..start + count
    }

    /// Whether there is an object, with its dot, or a table without instances.
    fn has_object(&self, path: &str) -> bool {
        self.tables.contains(path) || !self.below(path).is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_models_have_as_many_parameters_as_asked_for_and_hardly_more() {
        for (root, wanted) in [
            (Root::Device, 1000),
            (Root::Device, 5000),
            (Root::InternetGatewayDevice, 1000),
            (Root::InternetGatewayDevice, 300),
            (Root::Usp, 1000),
        ] {
            let model = Model::new(root, wanted).unwrap();
            assert!(
                (wanted..wanted + 12).contains(&model.len()),
                "{}",
                model.len()
            );
            assert!(model.params.is_sorted_by(|a, b| a.name < b.name));
            assert!(
                model
                    .params
                    .iter()
                    .all(|param| param.name.starts_with(root.prefix()))
            );
            assert!(root == Root::Usp || model.informed.len() >= 6);
        }
    }

    #[test]
    fn every_count_is_of_a_table_that_there_is() {
        for root in [Root::Device, Root::InternetGatewayDevice, Root::Usp] {
            let model = Model::new(root, 1000).unwrap();
            for param in &model.params {
                if let Start::Count(table) = &param.start {
                    assert!(!model.below(table).is_empty(), "{}: no {table}", param.name);
                }
            }
        }
    }
}
