//! The device behind address translation, in virtual time: what the data model says about STUN, and what a call over UDP leads to
//! (TR-111 Part 2).

use std::net::SocketAddr;
use std::time::Duration;

use homefleet_agent::{cwmp::Root, engine::Settings, store::Store, stun::StunConfig};
use homefleet_cwmp::{
    Message, ValueType,
    message::{GetParameterNames, Notification, SetAttributes, SetParameterAttributes},
};
use homefleet_net::stun::{DeviceConfig, DeviceEvent};
use homefleet_tr111::connection_request::{ConnectionRequest, Last};

use super::{call, codes, session, set, speaks, started, value, with};
use crate::bench::Bench;

const LISTEN: &str = "0.0.0.0:7547";
/// The ten parameters of UDPConnReq:1 (Tables 7 and 8), and whether they can be written.
const PROFILE: [(&str, bool); 10] = [
    ("UDPConnectionRequestAddress", false),
    ("UDPConnectionRequestAddressNotificationLimit", true),
    ("STUNEnable", true),
    ("STUNServerAddress", true),
    ("STUNServerPort", true),
    ("STUNUsername", true),
    ("STUNPassword", true),
    ("STUNMaximumKeepAlivePeriod", true),
    ("STUNMinimumKeepAlivePeriod", true),
    ("NATDetected", false),
];

fn listening(change: impl FnOnce(&mut StunConfig)) -> Settings {
    let mut stun = StunConfig {
        listen: Some(LISTEN.parse().unwrap()),
        ..StunConfig::default()
    };
    change(&mut stun);
    Settings {
        stun,
        ..with(|_| {})
    }
}

/// A device that listens, and has told the ACS about its start.
fn device() -> Bench {
    let mut bench = started(listening(|_| {}), Store::in_memory().unwrap());
    session(&mut bench, []);
    bench
}

/// What the runtime was told last.
fn config(bench: &Bench) -> DeviceConfig {
    bench.stun.last().unwrap().1.clone()
}

fn own(name: &str) -> String {
    format!("Device.ManagementServer.{name}")
}

fn give(bench: &mut Bench, values: &[(&str, ValueType, &str)]) {
    let names: Vec<String> = values.iter().map(|(name, _, _)| own(name)).collect();
    let values: Vec<_> = names
        .iter()
        .zip(values)
        .map(|(name, (_, kind, value))| (name.as_str(), *kind, *value))
        .collect();
    let answer = call(bench, set(&values));
    assert!(
        matches!(answer, Message::SetParameterValuesResponse(_)),
        "{answer:?}"
    );
}

fn happen(bench: &mut Bench, event: DeviceEvent) {
    bench.engine.handle_stun(bench.now, event);
    bench.drain();
}

fn found(bench: &mut Bench, address: &str, nat: bool) {
    let address: SocketAddr = address.parse().unwrap();
    happen(bench, DeviceEvent::Address { address, nat });
}

fn woken(bench: &mut Bench, timestamp: u64) {
    let request = ConnectionRequest {
        timestamp,
        id: timestamp,
        username: String::new(),
        cnonce: String::new(),
    };
    let last = Last {
        timestamp,
        id: Some(timestamp),
    };
    happen(bench, DeviceEvent::Woken { request, last });
}

#[test]
fn both_roots_have_the_ten_parameters_of_the_profile() {
    for root in [Root::Device, Root::InternetGatewayDevice] {
        let settings = Settings {
            stun: listening(|_| {}).stun,
            ..with(|cwmp| cwmp.root = root)
        };
        let mut bench = started(settings, Store::in_memory().unwrap());
        session(&mut bench, []);
        let object = format!("{}ManagementServer.", root.name());
        let request = GetParameterNames {
            path: object.clone(),
            next_level: true,
        };
        let Message::GetParameterNamesResponse(names) = call(&mut bench, request) else {
            panic!("no names")
        };
        for (name, writable) in PROFILE {
            let name = format!("{object}{name}");
            let mut all = names.infos.iter();
            assert!(all.any(|info| info == (&*name, writable)), "{name}");
            // Active and passive notification, without exception (§2.2.4.1).
            for notification in [Notification::Active, Notification::Passive] {
                let attributes = vec![SetAttributes {
                    name: name.clone(),
                    notification_change: true,
                    notification,
                    ..SetAttributes::default()
                }];
                let answer = call(&mut bench, SetParameterAttributes { attributes });
                assert!(
                    matches!(answer, Message::SetParameterAttributesResponse(_)),
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn it_listens_whether_or_not_stun_is_enabled() {
    let bench = device();
    let (listen, config, last) = bench.stun.last().unwrap();
    assert_eq!(*listen, LISTEN.parse().unwrap());
    assert!(config.stun.is_none() && *last == Last::default());
    // A device without such an address does not.
    let other = started(with(|_| {}), Store::in_memory().unwrap());
    assert!(other.stun.is_empty());
}

#[test]
fn what_the_acs_sets_is_what_is_done_and_its_host_is_the_default_server() {
    let mut bench = device();
    let unsigned = ValueType::UnsignedInt;
    give(
        &mut bench,
        &[
            ("ConnectionRequestUsername", ValueType::String, "caller"),
            ("ConnectionRequestPassword", ValueType::String, "secret"),
            ("STUNUsername", ValueType::String, "0123"),
            ("STUNPassword", ValueType::String, "word"),
            ("STUNMinimumKeepAlivePeriod", unsigned, "20"),
            ("STUNMaximumKeepAlivePeriod", ValueType::Int, "200"),
            ("STUNEnable", ValueType::Boolean, "true"),
        ],
    );
    let told = config(&bench);
    assert_eq!(told.waker.username, "caller");
    assert_eq!(told.waker.password, b"secret");
    let stun = told.stun.unwrap();
    assert_eq!((stun.host.as_str(), stun.port), ("acs.example.net", 3478));
    assert_eq!(
        (stun.username.as_str(), stun.password),
        ("0123", b"word".to_vec())
    );
    assert_eq!(stun.minimum, Duration::from_secs(20));
    assert_eq!(stun.maximum, Some(Duration::from_secs(200)));
    give(
        &mut bench,
        &[
            ("STUNServerAddress", ValueType::String, "stun.example.net"),
            ("STUNServerPort", unsigned, "3479"),
            ("STUNMaximumKeepAlivePeriod", ValueType::Int, "-1"),
        ],
    );
    let stun = config(&bench).stun.unwrap();
    assert_eq!((stun.host.as_str(), stun.port), ("stun.example.net", 3479));
    assert_eq!(stun.maximum, None);
    assert_eq!(
        value(&mut bench, &own("STUNPassword")),
        "",
        "it reads empty"
    );
    give(&mut bench, &[("STUNEnable", ValueType::Boolean, "false")]);
    assert!(config(&bench).stun.is_none());
}

#[test]
fn address_and_nat_follow_what_is_found_and_are_told_at_once() {
    let mut bench = device();
    found(&mut bench, "203.0.113.2:40000", true);
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["4 VALUE CHANGE"]);
    let address = own("UDPConnectionRequestAddress");
    assert_eq!(
        told.values.value(&address).unwrap().text,
        "203.0.113.2:40000"
    );
    assert_eq!(value(&mut bench, &own("NATDetected")), "true");
    // No translation any more: the local address, and the port 80 may be left out.
    found(&mut bench, "192.0.2.9:80", false);
    let (told, []) = session(&mut bench, []);
    assert_eq!(told.values.value(&address).unwrap().text, "192.0.2.9");
    assert_eq!(value(&mut bench, &own("NATDetected")), "false");
}

#[test]
fn changes_within_the_limit_are_told_when_it_is_over_and_all_at_once() {
    let mut bench = device();
    let limit = "UDPConnectionRequestAddressNotificationLimit";
    give(&mut bench, &[(limit, ValueType::UnsignedInt, "60")]);
    found(&mut bench, "203.0.113.2:1", true);
    session(&mut bench, []);
    found(&mut bench, "203.0.113.2:2", true);
    assert!(!speaks(&bench));
    assert_eq!(
        bench.value(&own("UDPConnectionRequestAddress")),
        "203.0.113.2:2",
        "who asks gets it"
    );
    bench.pass(Duration::from_secs(30));
    found(&mut bench, "203.0.113.2:3", true);
    assert!(!speaks(&bench));
    bench.pass(Duration::from_secs(31));
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["4 VALUE CHANGE"]);
    let address = own("UDPConnectionRequestAddress");
    assert_eq!(told.values.value(&address).unwrap().text, "203.0.113.2:3");
    bench.pass(Duration::from_secs(120));
    assert!(!speaks(&bench), "once");
}

#[test]
fn a_call_leads_to_a_session_and_its_timestamp_lasts() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = started(listening(|_| {}), Store::open(directory.path()).unwrap());
    session(&mut bench, []);
    woken(&mut bench, 1000);
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["6 CONNECTION REQUEST"]);
    // In a session: another one follows it.
    woken(&mut bench, 1001);
    let first = super::inform(&mut bench);
    assert_eq!(codes(&first), ["6 CONNECTION REQUEST"]);
    woken(&mut bench, 1002);
    assert_eq!(super::posted(&mut bench), b"");
    super::end(&mut bench);
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["6 CONNECTION REQUEST"]);
    // One that was taken already does nothing.
    woken(&mut bench, 1002);
    assert!(!speaks(&bench));
    drop(bench);
    let mut bench = started(listening(|_| {}), Store::open(directory.path()).unwrap());
    session(&mut bench, []);
    let last = Last {
        timestamp: 1002,
        id: Some(1002),
    };
    assert_eq!(bench.stun.last().unwrap().2, last);
    woken(&mut bench, 1002);
    assert!(!speaks(&bench));
    woken(&mut bench, 1003);
    assert!(speaks(&bench));
}

#[test]
fn the_configuration_file_gives_what_an_acs_may_change() {
    let directory = tempfile::tempdir().unwrap();
    let factory = || {
        listening(|stun| {
            stun.enable = true;
            stun.server = "stun.factory.example".to_owned();
            stun.port = Some(5000);
            (stun.minimum, stun.maximum) = (Some(10), Some(100));
        })
    };
    let mut bench = started(factory(), Store::open(directory.path()).unwrap());
    session(&mut bench, []);
    let stun = config(&bench).stun.unwrap();
    assert_eq!(
        (stun.host.as_str(), stun.port),
        ("stun.factory.example", 5000)
    );
    assert_eq!(stun.maximum, Some(Duration::from_secs(100)));
    let server = ("STUNServerAddress", ValueType::String, "of.the.acs");
    give(&mut bench, &[server]);
    drop(bench);
    let bench = started(factory(), Store::open(directory.path()).unwrap());
    assert_eq!(config(&bench).stun.unwrap().host, "of.the.acs");
}
