//! The names by which an ACS knows the tree.
//!
//! Under `Device.` it is the tree as it is, without what only USP has. Under `InternetGatewayDevice.` (TR-098) it is what both data
//! models have in common, where TR-098 has it, and vendors' own.

use std::{borrow::Cow, collections::BTreeSet, str::FromStr};

use homefleet_cwmp::{
    Fault, FaultCode, ParameterValues, Value, message::GetParameterNames, tree as rpc,
    value::ParameterInfos,
};
use homefleet_model::{path::ObjectPath, tree::Tree};

/// What the data model is called towards the ACS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Root {
    /// `Device.` (TR-181 Device:2).
    #[default]
    Device,
    /// `InternetGatewayDevice.` (TR-098).
    InternetGatewayDevice,
}

/// What only USP has: an ACS neither sees nor changes it.
const USP_ONLY: &[&str] = &["Device.LocalAgent.", "Device.UnixDomainSockets."];

/// Where TR-098 has what the tree has.
const GATEWAY: &[(&str, &str)] = &[
    ("InternetGatewayDevice.DeviceInfo.", "Device.DeviceInfo."),
    (
        "InternetGatewayDevice.ManagementServer.",
        "Device.ManagementServer.",
    ),
    ("InternetGatewayDevice.Time.", "Device.Time."),
    ("InternetGatewayDevice.LANDevice.1.Hosts.", "Device.Hosts."),
    (
        "InternetGatewayDevice.IPPingDiagnostics.",
        "Device.IP.Diagnostics.IPPing.",
    ),
];

/// Vendors' own objects stand under either root.
const VENDORS: (&str, &str) = ("InternetGatewayDevice.X_", "Device.X_");

/// What TR-098 wants and the tree does not have.
const GATEWAY_CONSTANTS: &[(&str, &str)] = &[
    (
        "InternetGatewayDevice.DeviceSummary",
        "InternetGatewayDevice:1.4[](Baseline:1, Time:1, IPPing:1)",
    ),
    ("InternetGatewayDevice.DeviceInfo.SpecVersion", "1.0"),
];

impl Root {
    /// `Device.` or `InternetGatewayDevice.`
    pub const fn name(self) -> &'static str {
        match self {
            Self::Device => "Device.",
            Self::InternetGatewayDevice => "InternetGatewayDevice.",
        }
    }

    /// The name by which the ACS knows a path of the tree; `None`: it does not know it.
    pub fn outward(self, path: &str) -> Option<Cow<'_, str>> {
        if USP_ONLY.iter().any(|hidden| path.starts_with(hidden)) {
            return None;
        }
        if self == Self::Device {
            return Some(Cow::Borrowed(path));
        }
        let own = GATEWAY.iter().chain([&VENDORS]);
        own.into_iter().find_map(|(outer, inner)| {
            let rest = path.strip_prefix(inner)?;
            Some(Cow::Owned(format!("{outer}{rest}")))
        })
    }

    /// The path of the tree that the ACS means; `None`: there is no single one.
    pub fn inward(self, name: &str) -> Option<Cow<'_, str>> {
        if self == Self::Device {
            let hidden = USP_ONLY.iter().any(|hidden| name.starts_with(hidden));
            return (!hidden).then_some(Cow::Borrowed(name));
        }
        let own = GATEWAY.iter().chain([&VENDORS]);
        own.into_iter().find_map(|(outer, inner)| {
            let rest = name.strip_prefix(outer)?;
            Some(Cow::Owned(format!("{inner}{rest}")))
        })
    }

    /// The parts of the tree that a name can mean: one, several that it stands above, or none.
    pub fn parts(self, name: &str) -> Vec<String> {
        if let Some(inner) = self.inward(name) {
            return vec![inner.into_owned()];
        }
        if self == Self::Device || !(name.is_empty() || name.ends_with('.')) {
            return Vec::new();
        }
        let above = GATEWAY.iter().filter(|(outer, _)| outer.starts_with(name));
        let mut parts: Vec<String> = above.map(|(_, inner)| (*inner).to_owned()).collect();
        if self.name().starts_with(name) {
            parts.push(String::from("Device."));
        }
        parts
    }

    /// What TR-098 wants besides the tree, at or under a name.
    pub fn constants(self, name: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
        let constants = match self {
            Self::Device => &[],
            Self::InternetGatewayDevice => GATEWAY_CONSTANTS,
        };
        let partial = name.is_empty() || name.ends_with('.');
        let name = name.to_owned();
        constants
            .iter()
            .copied()
            .filter(move |(own, _)| *own == name || (partial && own.starts_with(name.as_str())))
    }
}

impl FromStr for Root {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim_end_matches('.') {
            "Device" => Ok(Self::Device),
            "InternetGatewayDevice" => Ok(Self::InternetGatewayDevice),
            other => Err(format!(
                "`{other}` is not one of `Device`, `InternetGatewayDevice`"
            )),
        }
    }
}

/// GetParameterValues.
///
/// # Errors
/// As [`homefleet_cwmp::tree::get_values`].
pub fn values(
    root: Root,
    tree: &Tree,
    names: &[String],
    most: usize,
) -> Result<ParameterValues, Fault> {
    let mut values = ParameterValues::new();
    for name in names {
        let before = values.len();
        for (own, text) in root.constants(name) {
            values.push(own, Value::string(text));
        }
        for part in translated(root, name) {
            // Above a part that this device does not have, others may be there.
            let found = match rpc::get_values(tree, std::slice::from_ref(&part), most) {
                Ok(found) => found,
                Err(fault) if fault.code == FaultCode::RESOURCES_EXCEEDED => return Err(fault),
                Err(_) => continue,
            };
            for (path, value) in found.iter() {
                if let Some(name) = root.outward(path) {
                    values.push(&name, value);
                }
            }
        }
        let nothing = values.len() == before && !is_object(root, tree, name);
        if nothing {
            return Err(unknown(name));
        }
        if values.len() > most {
            return Err(Fault::new(FaultCode::RESOURCES_EXCEEDED));
        }
    }
    Ok(values)
}

/// GetParameterNames.
///
/// # Errors
/// As [`homefleet_cwmp::tree::get_names`].
pub fn names(
    root: Root,
    tree: &Tree,
    request: &GetParameterNames,
    most: usize,
) -> Result<ParameterInfos, Fault> {
    let name = request.path.as_str();
    if name.is_empty() && request.next_level {
        return Ok([(root.name(), false)].into_iter().collect());
    }
    let direct = root.inward(name).filter(|_| !name.is_empty());
    if let Some(inner) = direct
        && root.constants(name).next().is_none()
    {
        let path = inner.into_owned();
        let request = GetParameterNames { path, ..*request };
        let found = rpc::get_names(tree, &request, most).map_err(|fault| named(fault, name))?;
        let shown = found.iter().filter_map(|(path, writable)| {
            let name = root.outward(path)?;
            Some((name.into_owned(), writable))
        });
        return Ok(shown.collect());
    }
    // Objects that only the names have: `InternetGatewayDevice.LANDevice.1.` and the like.
    let mut above = BTreeSet::new();
    let mut below = Vec::new();
    for part in translated(root, name) {
        let request = GetParameterNames {
            path: part,
            next_level: false,
        };
        let Ok(found) = rpc::get_names(tree, &request, most) else {
            continue;
        };
        for (path, writable) in found.iter() {
            if let Some(own) = root.outward(path) {
                below.push((own.into_owned(), writable));
            }
        }
    }
    for (own, _) in root.constants(name) {
        below.push((own.to_owned(), false));
    }
    for (own, _) in &below {
        for (dot, _) in own.match_indices('.') {
            let object = own.get(..=dot).unwrap_or_default();
            if object.starts_with(name) && !below.iter().any(|(known, _)| known == object) {
                above.insert(object.to_owned());
            }
        }
    }
    if below.is_empty() {
        return Err(unknown(name));
    }
    let all = above.into_iter().map(|own| (own, false)).chain(below);
    let wanted = |own: &str| {
        let rest = own.strip_prefix(name).unwrap_or_default();
        let depth = rest.trim_end_matches('.').matches('.').count();
        !request.next_level || (!rest.is_empty() && depth == 0)
    };
    let infos: ParameterInfos = all.filter(|(own, _)| wanted(own)).collect();
    if infos.len() > most {
        return Err(Fault::new(FaultCode::RESOURCES_EXCEEDED));
    }
    Ok(infos)
}

/// The parts of a name, those of the whole tree without what stands elsewhere.
fn translated(root: Root, name: &str) -> Vec<String> {
    let parts = root.parts(name);
    if root == Root::Device {
        return parts;
    }
    match parts.iter().any(|part| part == "Device.") {
        // Everything that has a name is in it.
        true => vec![String::from("Device.")],
        false => parts,
    }
}

fn is_object(root: Root, tree: &Tree, name: &str) -> bool {
    let exists = |part: &String| {
        part.parse()
            .is_ok_and(|path: ObjectPath| tree.exists(&path))
    };
    name.is_empty() || (name.ends_with('.') && root.parts(name).iter().any(exists))
}

fn unknown(name: &str) -> Fault {
    let mut name = name.to_owned();
    name.truncate(name.floor_char_boundary(256));
    Fault::with_text(
        FaultCode::INVALID_PARAMETER_NAME,
        format!("{name} is not there"),
    )
}

/// A fault about a path of the tree, in the ACS's words.
fn named(fault: Fault, name: &str) -> Fault {
    match fault.code {
        FaultCode::INVALID_PARAMETER_NAME => unknown(name),
        _ => fault,
    }
}
