//! A small data model with the kinds of parameter, key and reference that TR-181 has.

use std::sync::Arc;

use homefleet_model::{
    path::{ObjectPath, ParamPath, Path},
    schema::{Command, Event, Object, ObjectAccess, Param, Schema},
    tree::{Change, ResolveError, Resolved, Tree},
    value::{ListType, Strength, Type},
};

pub(crate) static STRINGS: ListType = ListType::of(Type::STRING);
pub(crate) static NUMBERS: ListType = ListType {
    item: Type::UnsignedInt,
    max_items: Some(4),
    max: Some(40),
};
pub(crate) static STRONG: ListType = ListType::of(Type::Reference(Strength::Strong));

pub(crate) static OBJECTS: &[Object] = &[
    Object {
        path: "Device.",
        commands: &[Command {
            name: "Reboot()",
            is_async: false,
            input: &[],
            output: &[],
        }],
        events: &[Event {
            name: "Boot!",
            args: &["Cause"],
        }],
        params: &[Param::ro("RootDataModelVersion", Type::STRING)],
        ..Object::EMPTY
    },
    Object {
        path: "Device.DeviceInfo.",
        params: &[
            Param::ro("UpTime", Type::UnsignedInt).quiet(),
            Param::rw("FriendlyName", Type::string(8)).default("box"),
            Param::once("ProvisioningCode", Type::string(64)),
            Param::rw("Secret", Type::STRING).secret(),
            Param::ro("FirstUseDate", Type::DateTime),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.IP.",
        params: &[Param::ro("InterfaceNumberOfEntries", Type::UnsignedInt)],
        ..Object::EMPTY
    },
    Object {
        path: "Device.IP.Interface.{i}.",
        unique_keys: &[&["Name"], &["Alias"]],
        params: &[
            Param::rw("Enable", Type::Boolean),
            Param::once("Alias", Type::string(64)),
            Param::ro("Name", Type::string(64)),
            Param::ro("Type", Type::Enum(&["Normal", "Loopback", "Tunnel"])),
            Param::rw("MaxMTUSize", Type::UnsignedIntIn(64, 65535)).default("1500"),
            Param::ro("IPv4AddressNumberOfEntries", Type::UnsignedInt),
        ],
        commands: &[Command {
            name: "Reset()",
            is_async: true,
            input: &[],
            output: &[],
        }],
        ..Object::EMPTY
    },
    Object {
        path: "Device.IP.Interface.{i}.Stats.",
        params: &[
            Param::ro("BytesSent", Type::UnsignedLong).quiet(),
            Param::ro("ErrorsSent", Type::UnsignedInt),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.IP.Interface.{i}.IPv4Address.{i}.",
        access: ObjectAccess::AddDelete,
        unique_keys: &[&["IPAddress", "SubnetMask"], &["Alias"]],
        params: &[
            Param::rw("Alias", Type::string(64)),
            Param::rw("IPAddress", Type::string(45)),
            Param::rw("SubnetMask", Type::string(15)),
            Param::ro("AddressingType", Type::Enum(&["Static", "DHCP"])),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.NAT.PortMapping.{i}.",
        access: ObjectAccess::AddDelete,
        unique_keys: &[&["RemoteHost", "ExternalPort", "Protocol"], &["Alias"]],
        params: &[
            Param::rw("Alias", Type::string(64)),
            Param::rw("Interface", Type::Reference(Strength::Strong)),
            Param::rw("Hint", Type::Reference(Strength::Weak)),
            Param::rw("RemoteHost", Type::string(64)),
            Param::rw("ExternalPort", Type::UnsignedIntIn(0, 65535)),
            Param::rw("Protocol", Type::Enum(&["TCP", "UDP"])),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.WiFi.SSID.{i}.",
        access: ObjectAccess::AddDelete,
        unique_keys: &[&["Name"]],
        params: &[
            Param::rw("Name", Type::string(64)),
            Param::rw("SSID", Type::string(32)),
            Param::rw("LowerLayers", Type::List(&STRONG)),
            Param::rw("Samples", Type::List(&NUMBERS)),
            Param::rw("Modes", Type::List(&STRINGS)),
            Param::rw("Class", Type::HEX),
            Param::rw("Expires", Type::DateTime),
            Param::rw("Passphrase", Type::STRING).secret(),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.LocalAgent.Subscription.{i}.",
        access: ObjectAccess::AddDelete,
        unique_keys: &[&["Alias"], &["Recipient", "ID"]],
        params: &[
            Param::rw("Alias", Type::string(64)),
            Param::ro("Recipient", Type::Reference(Strength::Strong)),
            Param::once("ID", Type::string(64)),
            Param::once("Kind", Type::STRING),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.LocalAgent.Fixed.{i}.",
        access: ObjectAccess::DeleteOnly,
        params: &[Param::rw("Note", Type::STRING)],
        ..Object::EMPTY
    },
];

pub(crate) fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(&[OBJECTS]).unwrap())
}

/// Two interfaces with addresses, and no pending changes.
pub(crate) fn tree() -> Tree {
    let mut tree = Tree::new(schema());
    for (name, kind, errors) in [("eth0", "Normal", 0), ("lo", "Loopback", 7)] {
        let row = tree
            .ensure_row(&object("Device.IP.Interface."), &[("Name", name)])
            .unwrap();
        tree.set_text(&format!("{row}Type"), kind).unwrap();
        tree.set_text(&format!("{row}Enable"), name == "eth0")
            .unwrap();
        tree.set_text(&format!("{row}Stats.ErrorsSent"), errors)
            .unwrap();
        tree.set_text(
            &format!("{row}Stats.BytesSent"),
            u64::from(errors == 0) * 5_000_000_000,
        )
        .unwrap();
        let address = tree.ensure_row(
            &row.child("IPv4Address"),
            &[("IPAddress", &format!("10.0.0.{errors}"))],
        );
        tree.set_text(&format!("{}SubnetMask", address.unwrap()), "255.0.0.0")
            .unwrap();
    }
    tree.drain_changes();
    tree
}

pub(crate) fn object(text: &str) -> ObjectPath {
    text.parse().unwrap()
}

pub(crate) fn param(text: &str) -> ParamPath {
    text.parse().unwrap()
}

/// What a path resolves to, as text; tables are marked.
pub(crate) fn resolve(tree: &Tree, path: &str) -> Result<Vec<String>, ResolveError> {
    let resolved = tree.resolve(&Path::parse(path).unwrap())?;
    Ok(resolved
        .into_iter()
        .map(|resolved| match resolved {
            Resolved::Object(path) => path.to_string(),
            Resolved::Table(path) => format!("table {path}"),
            Resolved::Param(path) => path.to_string(),
            Resolved::Command(path, command) => format!("{path}{}", command.name),
            Resolved::Event(path, event) => format!("{path}{}", event.name),
        })
        .collect())
}

/// Changes as text.
pub(crate) fn told(changes: &[Change]) -> Vec<String> {
    let text = |change: &Change| match change {
        Change::ValueChanged { path, old, new } => format!("{path}: {old} -> {new}"),
        Change::Created { path } => format!("+ {path}"),
        Change::Deleted { path, .. } => format!("- {path}"),
    };
    changes.iter().map(text).collect()
}
