//! What matters of a data model: GatewayInfo of devices, ManageableDevice of gateways, in both roots.

use homefleet_api::Operation;

use crate::core::WantedSubscription;
use crate::store::DeviceRecord;

/// What a device says of its gateway (TR-106, TR-181).
pub(crate) const GATEWAY_INFO: &str = "Device.GatewayInfo.";
/// The table of a gateway, under either root (TR-111 Part 1 §1.2.6).
const TABLE: &str = "ManagementServer.ManageableDevice";
/// Both roots of data models.
const ROOTS: [&str; 2] = ["Device.", "InternetGatewayDevice."];

/// What a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// Of GatewayInfo.
    Claim(Element),
    /// The number of entries of the table.
    Count,
    /// Of a row of the table, by instance.
    Row(&'a str, Option<Element>),
}

/// An element of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    Oui,
    SerialNumber,
    ProductClass,
    EndpointId,
}

/// What a path means for homes; `None` for almost all.
pub(super) fn part(path: &str) -> Option<Part<'_>> {
    let below = ROOTS.iter().find_map(|root| path.strip_prefix(root))?;
    if let Some(name) = below.strip_prefix("GatewayInfo.") {
        return element(name).map(Part::Claim);
    }
    let rest = below.strip_prefix(TABLE)?;
    if rest == "NumberOfEntries" {
        return Some(Part::Count);
    }
    let (instance, name) = rest.strip_prefix('.')?.split_once('.')?;
    let is_number = !instance.is_empty() && instance.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| {
        Part::Row(
            instance,
            element(name).filter(|e| *e != Element::EndpointId),
        )
    })
}

fn element(name: &str) -> Option<Element> {
    Some(match name {
        "ManufacturerOUI" => Element::Oui,
        "SerialNumber" => Element::SerialNumber,
        "ProductClass" => Element::ProductClass,
        "EndpointID" => Element::EndpointId,
        _ => return None,
    })
}

/// Whether a complete reading of this object tells all of GatewayInfo.
pub(super) fn covers_claim(object: &str) -> bool {
    !object.is_empty() && GATEWAY_INFO.starts_with(object)
}

/// Whether a complete reading of this object tells all of the table, and whether it is of the table alone.
pub(super) fn covers_table(object: &str) -> Option<bool> {
    let below = ROOTS.iter().find_map(|root| object.strip_prefix(root))?;
    match TABLE.strip_prefix(below) {
        // Of an object with the table in it.
        Some(_) if below.is_empty() || below.ends_with('.') => Some(false),
        _ => (below.strip_prefix(TABLE) == Some(".")).then_some(true),
    }
}

/// The root of a device's data model.
fn root(device: &DeviceRecord) -> &str {
    match &device.cwmp {
        Some(cwmp) if !cwmp.root.is_empty() => &cwmp.root,
        _ => "Device.",
    }
}

/// What reads a gateway's table: the number too, as some answer an empty table with a fault.
pub(crate) fn read_table(gateway: &DeviceRecord) -> Operation {
    let root = root(gateway);
    Operation::Get {
        paths: vec![
            format!("{root}{TABLE}NumberOfEntries"),
            format!("{root}{TABLE}."),
        ],
        max_depth: 0,
    }
}

/// What reads the gateway that a device names.
pub(crate) fn read_claim() -> Operation {
    Operation::Get {
        paths: vec![GATEWAY_INFO.to_owned()],
        max_depth: 0,
    }
}

/// What is read of a USP device beside who it is, when it is first met.
pub(crate) fn first_reading() -> [String; 3] {
    let root = ROOTS[0];
    [
        GATEWAY_INFO.to_owned(),
        format!("{root}{TABLE}NumberOfEntries"),
        format!("{root}{TABLE}."),
    ]
}

/// What a USP device is asked to tell of, by what a complete reading found it to have.
pub(crate) fn subscriptions(has: impl Fn(&str) -> bool) -> Vec<WantedSubscription> {
    let number = format!("{}{TABLE}NumberOfEntries", ROOTS[0]);
    let wanted = |id: &str, path: &str| WantedSubscription {
        id: id.to_owned(),
        notification: "ValueChange".to_owned(),
        paths: vec![path.to_owned()],
    };
    let mut all = Vec::new();
    if has(GATEWAY_INFO) {
        all.push(wanted("homefleet-gateway", GATEWAY_INFO));
    }
    if has(&number) {
        all.push(wanted("homefleet-manageable", &number));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_roots_are_read_and_nothing_else() {
        use Element::{EndpointId, Oui, SerialNumber};
        for (path, found) in [
            ("Device.GatewayInfo.ManufacturerOUI", Some(Part::Claim(Oui))),
            (
                "Device.GatewayInfo.EndpointID",
                Some(Part::Claim(EndpointId)),
            ),
            ("Device.GatewayInfo.MACAddress", None),
            (
                "InternetGatewayDevice.ManagementServer.ManageableDeviceNumberOfEntries",
                Some(Part::Count),
            ),
            (
                "Device.ManagementServer.ManageableDevice.12.SerialNumber",
                Some(Part::Row("12", Some(SerialNumber))),
            ),
            (
                "Device.ManagementServer.ManageableDevice.1.Host",
                Some(Part::Row("1", None)),
            ),
            (
                "Device.ManagementServer.ManageableDevice.x.SerialNumber",
                None,
            ),
            (
                "Device.ManagementServer.ManageableDeviceNotificationLimit",
                None,
            ),
            ("Device.DeviceInfo.SerialNumber", None),
            ("GatewayInfo.SerialNumber", None),
        ] {
            assert_eq!(part(path), found, "{path}");
        }
    }

    #[test]
    fn a_reading_covers_what_is_below_it() {
        assert!(covers_claim("Device.GatewayInfo."));
        assert!(covers_claim("Device."));
        assert!(!covers_claim("Device.DeviceInfo."));
        for (object, covers) in [
            ("Device.", Some(false)),
            ("Device.ManagementServer.", Some(false)),
            ("Device.ManagementServer.ManageableDevice.", Some(true)),
            (
                "InternetGatewayDevice.ManagementServer.ManageableDevice.",
                Some(true),
            ),
            ("Device.ManagementServer.ManageableDevice.1.", None),
            ("Device.DeviceInfo.", None),
        ] {
            assert_eq!(covers_table(object), covers, "{object}");
        }
    }
}
