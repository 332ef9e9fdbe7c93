//! `Device.IP.Diagnostics.IPPing.`: the ping of CWMP, on the provider's `IPPing()` (TR-181 Device:2.17).
//!
//! USP has a command where CWMP has an object whose `DiagnosticsState` is set to `Requested`.

use std::collections::BTreeMap;

use homefleet_model::{
    path::ObjectPath,
    schema::{Object, Param},
    tree::Tree,
    value::Type,
};

use crate::{
    local_agent::{schema::NUMBER, table},
    provider::OperateError,
};

/// The object.
pub(crate) const OBJECT: &str = "Device.IP.Diagnostics.IPPing.";
/// Its state.
pub(crate) const STATE: &str = "Device.IP.Diagnostics.IPPing.DiagnosticsState";
/// What runs it.
pub(crate) const COMMAND: &str = "Device.IP.Diagnostics.IPPing()";

const STATES: &[&str] = &[
    "None",
    "Requested",
    "Canceled",
    "Complete",
    "Error",
    "Error_CannotResolveHostName",
    "Error_NoRouteToHost",
    "Error_Internal",
    "Error_Other",
];

const INPUTS: [&str; 7] = [
    "Interface",
    "ProtocolVersion",
    "Host",
    "NumberOfRepetitions",
    "Timeout",
    "DataBlockSize",
    "DSCP",
];

const OUTPUTS: [&str; 9] = [
    "IPAddressUsed",
    "SuccessCount",
    "FailureCount",
    "AverageResponseTime",
    "MinimumResponseTime",
    "MaximumResponseTime",
    "AverageResponseTimeDetailed",
    "MinimumResponseTimeDetailed",
    "MaximumResponseTimeDetailed",
];

/// The object's table.
pub(crate) static OBJECTS: &[Object] = &[Object {
    path: OBJECT,
    params: &[
        Param::rw("DiagnosticsState", Type::Enum(STATES))
            .default("None")
            .quiet(),
        Param::rw("Interface", Type::string(256)),
        Param::rw("ProtocolVersion", Type::Enum(&["Any", "IPv4", "IPv6"])).default("Any"),
        Param::rw("Host", Type::string(256)),
        Param::rw("NumberOfRepetitions", Type::UnsignedIntIn(1, u32::MAX)).default("3"),
        Param::rw("Timeout", Type::UnsignedIntIn(1, u32::MAX)).default("1000"),
        Param::rw("DataBlockSize", Type::UnsignedIntIn(1, 65_535)).default("64"),
        Param::rw("DSCP", Type::UnsignedIntIn(0, 63)),
        Param::ro("IPAddressUsed", Type::string(45)),
        Param::ro("SuccessCount", NUMBER),
        Param::ro("FailureCount", NUMBER),
        Param::ro("AverageResponseTime", NUMBER),
        Param::ro("MinimumResponseTime", NUMBER),
        Param::ro("MaximumResponseTime", NUMBER),
        Param::ro("AverageResponseTimeDetailed", NUMBER),
        Param::ro("MinimumResponseTimeDetailed", NUMBER),
        Param::ro("MaximumResponseTimeDetailed", NUMBER),
    ],
    ..Object::EMPTY
}];

/// The object's path.
pub(crate) fn object() -> ObjectPath {
    table(OBJECT)
}

/// What the command is told.
pub(crate) fn arguments(tree: &Tree) -> BTreeMap<String, String> {
    let value = |name: &str| {
        tree.text(&format!("{OBJECT}{name}"))
            .unwrap_or_default()
            .to_owned()
    };
    let given = INPUTS.iter().map(|name| ((*name).to_owned(), value(name)));
    given.filter(|(_, value)| !value.is_empty()).collect()
}

/// What the parameters are after it.
pub(crate) fn outcome(
    result: Result<BTreeMap<String, String>, OperateError>,
) -> Vec<(String, String)> {
    let output = result.unwrap_or_else(|error| {
        tracing::info!(%error, "the diagnostic test could not be done");
        BTreeMap::from([("Status".to_owned(), "Error_Other".to_owned())])
    });
    let status = output
        .get("Status")
        .map_or("Error_Internal", String::as_str);
    let status = match STATES.contains(&status) {
        true => status,
        false => "Error_Other",
    };
    let mut all = vec![(STATE.to_owned(), status.to_owned())];
    for name in OUTPUTS {
        let zero = if name == "IPAddressUsed" { "" } else { "0" };
        let value = output.get(name).map_or(zero, String::as_str);
        all.push((format!("{OBJECT}{name}"), value.to_owned()));
    }
    all
}
