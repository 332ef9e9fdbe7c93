//! What Controllers and the ACS are told, and how often, in virtual time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use homefleet_agent::{
    association::{Event, Settings, Shared},
    cwmp::{AcsEvent, CwmpConfig, Root},
    provider::{self, Now, Options, Provider},
    store::Store,
};
use homefleet_cwmp::{
    Message, ValueType,
    message::{
        GetParameterAttributes, Inform, Notification, SetAttributes, SetParameterAttributes,
    },
};

use super::{SECOND, device, ip, mac, settings};
use crate::{
    bench::Bench,
    cwmp::{call, codes, happen, ready, session, set, speaks, value, with},
};

const TABLE: &str = "Device.ManagementServer.";
const NUMBER: &str = "ManagementServer.ManageableDeviceNumberOfEntries";

/// A machine with both roles, which has told everybody of its start.
fn start(change: impl FnOnce(&mut CwmpConfig)) -> (Bench, Shared, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        max_devices: 64,
        file: None,
        ..settings(directory.path())
    };
    let now = Now {
        instant: Instant::now(),
        wall: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    };
    let shared = Shared::new(settings, now.instant, SystemTime::now());
    let ours = |provider: &dyn Provider| {
        let prefixes = provider.prefixes().iter();
        let mut ours =
            prefixes.filter(|at| at.contains("ManageableDevice") || at.contains("GatewayInfo"));
        ours.next().is_some()
    };
    let providers = provider::all(&Options {
        association: Some(shared.clone()),
        ..Options::default()
    });
    let providers = providers
        .into_iter()
        .filter(|provider| ours(provider.as_ref()));
    let providers: Vec<_> = providers.collect();
    assert_eq!(providers.len(), 2);
    let store = Store::in_memory().unwrap();
    let mut bench = Bench::started_with(with(change), store, now, now.instant, providers);
    ready(&mut bench);
    session(&mut bench, []);
    bench.answer_notifications();
    bench.notifications.clear();
    (bench, shared, directory)
}

/// A device joins; the agent's providers wake it.
fn join(bench: &mut Bench, shared: &Shared, number: u8) {
    // The lease is of real time, of which none passes here.
    shared.handle(
        Instant::now(),
        Event::Leased {
            mac: mac(number),
            address: ip(number),
            identity: Some(device(number)),
            lease: None,
        },
    );
    bench.engine.handle_wake(bench.now);
    bench.drain();
}

fn acknowledged(bench: &mut Bench, shared: &Shared, serial: &str) {
    shared.handle(
        Instant::now(),
        Event::Acknowledged {
            interface: "eth0".into(),
            oui: "00D09E".into(),
            serial_number: serial.into(),
            product_class: "Home".into(),
            lease: None,
        },
    );
    bench.engine.handle_wake(bench.now);
    bench.drain();
}

fn told(inform: &Inform, name: &str) -> Option<String> {
    inform.values.value(name).map(|value| value.text.to_owned())
}

#[test]
fn a_device_that_joins_or_leaves_is_told_at_once_without_a_limit() {
    let (mut bench, shared, _directory) = start(|_| {});
    let number = format!("Device.{NUMBER}");
    bench.subscribe("ValueChange", &number, &[]);
    join(&mut bench, &shared, 1);
    assert_eq!(bench.changes(), [(number.clone(), "1".to_owned())]);
    join(&mut bench, &shared, 2);
    assert_eq!(bench.changes(), [(number.clone(), "2".to_owned())]);
    shared.handle(
        Instant::now(),
        Event::Ended {
            mac: mac(1),
            address: None,
        },
    );
    bench.pass(SECOND);
    assert_eq!(bench.changes(), [(number, "1".to_owned())]);
}

#[test]
fn fifty_that_join_at_once_are_told_no_more_often_than_the_limit_says() {
    let (mut bench, shared, _directory) = start(|_| {});
    let number = format!("Device.{NUMBER}");
    bench.set(TABLE, "ManageableDeviceNotificationLimit", "30");
    bench.subscribe("ValueChange", &number, &[]);
    for device in 1..=50 {
        join(&mut bench, &shared, device);
        bench.pass(SECOND);
    }
    // The first at once, then one for 30 s each; those that came meanwhile are in it.
    let values: Vec<String> = bench
        .changes()
        .into_iter()
        .map(|(_, value)| value)
        .collect();
    assert_eq!(values, ["1", "30"]);
    assert_eq!(
        bench.engine.device().tree.text(&number),
        Some("50"),
        "reading is not limited"
    );
    bench.pass(60 * SECOND);
    let values: Vec<String> = bench
        .changes()
        .into_iter()
        .map(|(_, value)| value)
        .collect();
    assert_eq!(values, ["50"]);
    bench.pass(600 * SECOND);
    assert!(bench.changes().is_empty());
}

#[test]
fn an_acs_is_told_of_the_table_in_either_root_and_held_to_the_limit_too() {
    for root in [Root::Device, Root::InternetGatewayDevice] {
        let (mut bench, shared, _directory) = start(|cwmp| cwmp.root = root);
        let number = format!("{}{NUMBER}", root.name());
        let limit = format!(
            "{}ManagementServer.ManageableDeviceNotificationLimit",
            root.name()
        );
        call(&mut bench, set(&[(&limit, ValueType::UnsignedInt, "30")]));
        let attributes = vec![SetAttributes {
            name: number.clone(),
            notification_change: true,
            notification: Notification::Active,
            ..SetAttributes::default()
        }];
        let answer = call(&mut bench, SetParameterAttributes { attributes });
        assert!(
            matches!(answer, Message::SetParameterAttributesResponse(_)),
            "{answer:?}"
        );
        join(&mut bench, &shared, 1);
        let (inform, []) = session(&mut bench, []);
        assert_eq!(codes(&inform), ["4 VALUE CHANGE"]);
        assert_eq!(told(&inform, &number).as_deref(), Some("1"));
        for device in 2..=20 {
            join(&mut bench, &shared, device);
            bench.pass(SECOND);
        }
        assert!(!speaks(&bench), "before its time");
        bench.pass(15 * SECOND);
        let (inform, []) = session(&mut bench, []);
        assert_eq!(told(&inform, &number).as_deref(), Some("20"));
        let row = format!("{}ManagementServer.ManageableDevice.1.", root.name());
        assert_eq!(
            value(&mut bench, &format!("{row}ManufacturerOUI")),
            "ABCDEF"
        );
        assert_eq!(value(&mut bench, &format!("{row}SerialNumber")), "STB-1");
        assert_eq!(
            value(&mut bench, &format!("{row}ProductClass")),
            "SetTopBox"
        );
    }
}

#[test]
fn an_acs_is_told_of_another_gateway_without_having_asked() {
    let (mut bench, shared, _directory) = start(|_| {});
    acknowledged(&mut bench, &shared, "G1");
    let (inform, []) = session(&mut bench, []);
    assert_eq!(codes(&inform), ["4 VALUE CHANGE"]);
    let gateway = |inform: &Inform| {
        ["ManufacturerOUI", "SerialNumber", "ProductClass"]
            .map(|name| told(inform, &format!("Device.GatewayInfo.{name}")))
    };
    assert_eq!(
        gateway(&inform),
        ["00D09E", "G1", "Home"].map(|text| Some(text.to_owned()))
    );
    // A renewal is no news.
    acknowledged(&mut bench, &shared, "G1");
    bench.pass(5 * SECOND);
    assert!(!speaks(&bench));
    // It leaves.
    shared.handle(
        Instant::now(),
        Event::Lost {
            interface: "eth0".into(),
        },
    );
    bench.pass(SECOND);
    let (inform, []) = session(&mut bench, []);
    assert_eq!(gateway(&inform), [const { Some(String::new()) }; 3]);
}

#[test]
fn another_acs_is_told_of_the_gateway_though_the_one_before_did_not_want_it() {
    let (mut bench, shared, _directory) = start(|_| {});
    let attributes =
        ["ManufacturerOUI", "SerialNumber", "ProductClass"].map(|name| SetAttributes {
            name: format!("Device.GatewayInfo.{name}"),
            notification_change: true,
            notification: Notification::Off,
            ..SetAttributes::default()
        });
    let attributes = attributes.to_vec();
    call(&mut bench, SetParameterAttributes { attributes });
    acknowledged(&mut bench, &shared, "G1");
    bench.pass(2 * SECOND);
    assert!(!speaks(&bench), "it is off");
    let url = "Device.ManagementServer.URL";
    happen(&mut bench, AcsEvent::Called);
    let other = set(&[(url, ValueType::String, "http://other.example.net/")]);
    session(&mut bench, [other.into()]);
    ready(&mut bench);
    let names = vec!["Device.GatewayInfo.SerialNumber".to_owned()];
    let (inform, [answer]) = session(&mut bench, [GetParameterAttributes { names }.into()]);
    assert!(
        codes(&inform).contains(&"0 BOOTSTRAP".to_owned()),
        "{inform:?}"
    );
    let Message::GetParameterAttributesResponse(response) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(response.attributes[0].notification, Notification::Active);
    let serial = "Device.GatewayInfo.SerialNumber";
    acknowledged(&mut bench, &shared, "G2");
    let (inform, []) = session(&mut bench, []);
    assert_eq!(told(&inform, serial).as_deref(), Some("G2"));
}

#[test]
fn every_parameter_of_association_takes_either_notification() {
    let (mut bench, shared, _directory) = start(|_| {});
    join(&mut bench, &shared, 1);
    let row = "ManageableDevice.1.";
    let names = [
        "ManageableDeviceNumberOfEntries",
        "ManageableDeviceNotificationLimit",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain(["ManufacturerOUI", "SerialNumber", "ProductClass"].map(|name| format!("{row}{name}")));
    for name in names {
        for notification in [Notification::Active, Notification::Passive] {
            let attributes = vec![SetAttributes {
                name: format!("Device.ManagementServer.{name}"),
                notification_change: true,
                notification,
                ..SetAttributes::default()
            }];
            let answer = call(&mut bench, SetParameterAttributes { attributes });
            assert!(
                matches!(answer, Message::SetParameterAttributesResponse(_)),
                "{name}: {answer:?}"
            );
        }
    }
}
