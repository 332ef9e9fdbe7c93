//! The two objects as a Controller sees them.

use std::time::{Instant, SystemTime};

use homefleet_agent::{
    association::{Event, Settings, Shared},
    provider::Options,
};

use super::{SECOND, device, ip, mac, settings};
use crate::provider::Machine;

const TABLE: &str = "Device.ManagementServer.ManageableDevice.";
const NUMBER: &str = "Device.ManagementServer.ManageableDeviceNumberOfEntries";

fn machine(gateway: bool, device: bool) -> (Shared, Machine, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        gateway,
        device,
        file: None,
        ..settings(directory.path())
    };
    let shared = Shared::new(settings, Instant::now(), SystemTime::now());
    let machine = Machine::new(&Options {
        association: Some(shared.clone()),
        ..Options::default()
    });
    (shared, machine, directory)
}

#[test]
fn a_gateway_lists_the_devices_behind_it() {
    let (shared, mut machine, _directory) = machine(true, false);
    let now = Instant::now();
    let leased = |number: u8, identity| Event::Leased {
        mac: mac(number),
        address: ip(number),
        identity: Some(identity),
        lease: Some(60),
    };
    shared.handle(now, leased(1, device(1)));
    let bare = homefleet_tr111::identity::Identity::new("ABCDEF", "STB-1", None).unwrap();
    shared.handle(now, leased(2, bare));
    machine.refresh();
    assert_eq!(machine.text(NUMBER), "2");
    let row = machine.find(TABLE, "ProductClass", "SetTopBox").unwrap();
    assert_eq!(
        machine.text(row.param("ManufacturerOUI").as_str()),
        "ABCDEF"
    );
    assert_eq!(machine.text(row.param("SerialNumber").as_str()), "STB-1");
    assert_eq!(machine.text(row.param("Host").as_str()), "");
    // Without a product class it is another entry, and that is empty.
    let other = machine.find(TABLE, "ProductClass", "").unwrap();
    shared.handle(
        now,
        Event::Ended {
            mac: mac(1),
            address: None,
        },
    );
    machine.refresh();
    assert_eq!(
        machine.rows(TABLE),
        std::slice::from_ref(&other),
        "the other keeps its number"
    );
    shared.expire(now + 61 * SECOND);
    machine.refresh();
    assert_eq!(machine.text(NUMBER), "0");
}

#[test]
fn a_device_shows_its_gateway_and_forgets_it() {
    let (shared, mut machine, _directory) = machine(false, true);
    let values = |machine: &Machine| {
        [
            "ManufacturerOUI",
            "SerialNumber",
            "ProductClass",
            "ManagementProtocol",
            "EndpointID",
        ]
        .map(|name| machine.text(&format!("Device.GatewayInfo.{name}")))
    };
    machine.refresh();
    assert_eq!(values(&machine), ["", "", "", "", ""]);
    shared.handle(
        Instant::now(),
        Event::Acknowledged {
            interface: "eth0".into(),
            oui: "00D09E".into(),
            serial_number: "G1".into(),
            product_class: String::new(),
            lease: Some(60),
        },
    );
    machine.refresh();
    assert_eq!(values(&machine), ["00D09E", "G1", "", "CWMP", ""]);
    shared.handle(
        Instant::now(),
        Event::Lost {
            interface: "eth0".into(),
        },
    );
    machine.refresh();
    assert_eq!(values(&machine), ["", "", "", "", ""]);
}

#[test]
fn a_machine_has_the_objects_of_its_roles_only() {
    for (gateway, device) in [(false, true), (true, false), (true, true)] {
        let (_shared, machine, _directory) = machine(gateway, device);
        assert_eq!(machine.tree.text(NUMBER).is_some(), gateway);
        let oui = machine.tree.text("Device.GatewayInfo.ManufacturerOUI");
        assert_eq!(oui.is_some(), device);
    }
    let machine = Machine::new(&Options::default());
    assert_eq!(machine.tree.text(NUMBER), None);
    assert_eq!(machine.tree.text("Device.GatewayInfo.SerialNumber"), None);
}
