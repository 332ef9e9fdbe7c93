//! `Device.GatewayInfo.` and `Device.ManagementServer.ManageableDevice.`.
//!
//! The table is that of the data model for CWMP, in TR-098 and TR-181 (DeviceAssociation:1). That for USP has no such table, and a
//! Controller needs it as much as an ACS: it is shown to both.

use std::{collections::BTreeSet, time::Instant};

use homefleet_model::{
    path::ObjectPath,
    schema::{Object, Param},
    tree::Tree,
    value::{ListType, Strength, Type, list},
};

use super::{
    Shared,
    event::Mac,
    tasks::{self, Tasks},
};
use crate::provider::{
    Identity, Now, Provider, ProviderError, Wake,
    fill::{Fill, keep_rows, object, row},
};

static HOSTS: ListType = ListType::of(Type::Reference(Strength::Weak));

/// TR-111 Part 1 Table 2, TR-181 `DeviceAssociation:1`.
pub(crate) static GATEWAY: &[Object] = &[
    Object {
        path: "Device.ManagementServer.",
        params: &[
            Param::ro("ManageableDeviceNumberOfEntries", Type::UnsignedInt),
            Param::rw("ManageableDeviceNotificationLimit", Type::UnsignedInt),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.ManagementServer.ManageableDevice.{i}.",
        unique_keys: &[&["ManufacturerOUI", "SerialNumber", "ProductClass"]],
        params: &[
            Param::ro("ManufacturerOUI", Type::string(6)),
            Param::ro("SerialNumber", Type::string(64)),
            Param::ro("ProductClass", Type::string(64)),
            Param::ro("Host", Type::List(&HOSTS)),
        ],
        ..Object::EMPTY
    },
];

/// TR-106 and TR-181 `GatewayInfo:1`.
pub(crate) static DEVICE: &[Object] = &[Object {
    path: "Device.GatewayInfo.",
    params: &[
        Param::ro(
            "ManagementProtocol",
            Type::Enum(&["", "CWMP", "USP", "Unknown"]),
        ),
        Param::ro("EndpointID", Type::STRING),
        Param::ro("ManufacturerOUI", Type::string(6)),
        Param::ro("ProductClass", Type::string(64)),
        Param::ro("SerialNumber", Type::string(64)),
    ],
    ..Object::EMPTY
}];

/// What waits for the runtime: the tasks are started with the first [`Provider::watch`].
#[derive(Debug)]
struct Runs {
    identity: Identity,
    tasks: Option<Tasks>,
}

/// The gateway's table.
#[derive(Debug)]
struct Devices {
    shared: Shared,
    runs: Option<Runs>,
}

/// The device's gateway.
#[derive(Debug)]
struct Gateway {
    shared: Shared,
    runs: Option<Runs>,
}

/// The objects of the roles that `shared` has.
pub(crate) fn providers(shared: &Shared, identity: &Identity) -> Vec<Box<dyn Provider>> {
    let settings = shared.settings();
    let mut providers: Vec<Box<dyn Provider>> = Vec::new();
    let mut runs = Some(Runs {
        identity: identity.clone(),
        tasks: None,
    });
    if settings.gateway {
        providers.push(Box::new(Devices {
            shared: shared.clone(),
            runs: runs.take(),
        }));
    }
    if settings.device {
        providers.push(Box::new(Gateway {
            shared: shared.clone(),
            runs: runs.take(),
        }));
    }
    providers
}

impl Runs {
    fn start(&mut self, shared: &Shared, wake: Wake) {
        self.tasks = Some(tasks::start(shared, &self.identity, wake));
    }
}

impl Provider for Devices {
    fn objects(&self) -> &'static [Object] {
        GATEWAY
    }

    fn prefixes(&self) -> &'static [&'static str] {
        &["Device.ManagementServer.ManageableDevice."]
    }

    fn refresh(&mut self, tree: &mut Tree, _: Now) -> Result<(), ProviderError> {
        self.shared.expire(Instant::now());
        let table = object("Device.ManagementServer.ManageableDevice.")?;
        let mut kept = BTreeSet::new();
        for (identity, macs) in self.shared.devices() {
            let keys = [
                ("ManufacturerOUI", identity.oui()),
                ("SerialNumber", identity.serial()),
                ("ProductClass", identity.product_class().unwrap_or_default()),
            ];
            let entry = row(tree, &table, &keys)?;
            let hosts = hosts(tree, &macs)?;
            Fill::new(tree, &entry).put("Host", list(&hosts))?;
            kept.insert(entry);
        }
        keep_rows(tree, &table, &kept);
        Ok(())
    }

    fn watch(&mut self, wake: Wake) {
        if let Some(runs) = &mut self.runs {
            runs.start(&self.shared, wake);
        }
    }
}

/// The rows of the host table with these addresses, as references.
fn hosts(tree: &Tree, macs: &[Mac]) -> Result<Vec<String>, ProviderError> {
    let table = object("Device.Hosts.Host.")?;
    let is_ours = |row: &ObjectPath| {
        let address = tree.text(row.param("PhysAddress").to_string().as_str());
        address.is_some_and(|address| macs.iter().any(|mac| mac.to_string() == address))
    };
    let rows = tree.rows(&table).into_iter().filter(is_ours);
    Ok(rows
        .map(|row| row.as_str().trim_end_matches('.').to_owned())
        .collect())
}

impl Provider for Gateway {
    fn objects(&self) -> &'static [Object] {
        DEVICE
    }

    fn prefixes(&self) -> &'static [&'static str] {
        &["Device.GatewayInfo."]
    }

    fn refresh(&mut self, tree: &mut Tree, _: Now) -> Result<(), ProviderError> {
        self.shared.expire(Instant::now());
        let [oui, serial, class] = self.shared.gateway();
        let known = [&oui, &serial, &class]
            .into_iter()
            .any(|text| !text.is_empty());
        Fill::new(tree, &object("Device.GatewayInfo.")?)
            // Device:2.16: found by the options of DHCP, and nobody looked for it in the DNS.
            .put("ManagementProtocol", if known { "CWMP" } else { "" })?
            .text("ManufacturerOUI", &oui, 6)?
            .text("ProductClass", &class, 64)?
            .text("SerialNumber", &serial, 64)?;
        Ok(())
    }

    fn watch(&mut self, wake: Wake) {
        if let Some(runs) = &mut self.runs {
            runs.start(&self.shared, wake);
        }
    }
}
