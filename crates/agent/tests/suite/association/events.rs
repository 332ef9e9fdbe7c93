//! What dnsmasq, kea, udhcpc and dhclient tell their scripts, as they were seen to do, and what is made for them.

use std::path::Path;

use homefleet_agent::association::{
    Event, Mac,
    event::EventError,
    snippet::{self, Program},
};
use homefleet_tr111::identity::{Identity, Role};

use super::{device, ip, mac};

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// An environment.
fn with<'a>(variables: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + 'a {
    move |asked| {
        let found = variables.iter().find(|(name, _)| *name == asked);
        found.map(|(_, value)| (*value).to_owned())
    }
}

fn gateway() -> Identity {
    Identity::new("00D09E", "12", Some("Home, Port:al")).unwrap()
}

fn acknowledged(lease: Option<u64>) -> Event {
    Event::Acknowledged {
        interface: "lan".into(),
        oui: "00D09E".into(),
        serial_number: "12".into(),
        product_class: "Home, Port:al".into(),
        lease,
    }
}

#[test]
fn dnsmasq_tells_of_leases() {
    let environment = [
        ("DNSMASQ_CPEWAN_OUI", "abcdef"),
        ("DNSMASQ_CPEWAN_SERIAL", "STB-1"),
        ("DNSMASQ_CPEWAN_CLASS", "SetTopBox"),
        ("DNSMASQ_TIME_REMAINING", "120"),
    ];
    let leased = |identity, lease| {
        Ok(Some(Event::Leased {
            mac: mac(1),
            address: ip(50),
            identity,
            lease,
        }))
    };
    for action in ["add", "old"] {
        let arguments = words(&format!("{action} 02:00:00:00:00:01 192.168.77.50 stb"));
        let event = Event::of_dnsmasq(&arguments, with(&environment));
        assert_eq!(event, leased(Some(device(1)), Some(120)));
        let event = Event::of_dnsmasq(&arguments, with(&[]));
        assert_eq!(event, leased(None, None));
        let event = Event::of_dnsmasq(&arguments, with(&[("DNSMASQ_TIME_REMAINING", "0")]));
        assert_eq!(event, leased(None, None), "for ever");
    }
    let ended = Event::Ended {
        mac: mac(1),
        address: Some(ip(50)),
    };
    let arguments = words("del 02:00:00:00:00:01 192.168.77.50");
    assert_eq!(Event::of_dnsmasq(&arguments, with(&[])), Ok(Some(ended)));
    // Its script is called for more than IPv4 on Ethernet.
    for other in [
        "init",
        "tftp 1234 192.168.77.50 file",
        "arp-add 02:00:00:00:00:01 192.168.77.50",
        "add 00:01:00:01:aa fd00::1",
        "add 06-02:00:00:00:00:01 192.168.77.50",
    ] {
        let event = Event::of_dnsmasq(&words(other), with(&environment));
        assert_eq!(event, Ok(None), "{other}");
    }
    let missing = Event::of_dnsmasq(&[], with(&[]));
    assert_eq!(missing, Err(EventError::Missing("dnsmasq's action")));
    let odd = Event::of_dnsmasq(
        &words("add 02:00:00:00:00:01 192.168.77.50"),
        with(&[("DNSMASQ_TIME_REMAINING", "soon")]),
    );
    assert!(matches!(odd, Err(EventError::Form { .. })), "{odd:?}");
}

#[test]
fn kea_tells_of_leases_that_end_and_are_renewed() {
    let environment = [
        ("LEASE4_HWADDR", "02:00:00:00:00:01"),
        ("LEASE4_ADDRESS", "192.168.77.50"),
        ("LEASES4_AT0_HWADDR", "02:00:00:00:00:01"),
        ("LEASES4_AT0_ADDRESS", "192.168.77.50"),
        ("LEASES4_AT0_VALID_LIFETIME", "3600"),
    ];
    for point in ["lease4_release", "lease4_expire", "lease4_decline"] {
        let event = Event::of_kea(&words(point), with(&environment)).unwrap();
        let ended = Event::Ended {
            mac: mac(1),
            address: Some(ip(50)),
        };
        assert_eq!(event, Some(ended), "{point}");
    }
    let event = Event::of_kea(&words("leases4_committed"), with(&environment)).unwrap();
    let leased = Event::Leased {
        mac: mac(1),
        address: ip(50),
        identity: None,
        lease: Some(3600),
    };
    assert_eq!(event, Some(leased));
    assert_eq!(
        Event::of_kea(&words("lease6_expire"), with(&environment)),
        Ok(None)
    );
    assert_eq!(
        Event::of_kea(&words("leases4_committed"), with(&[])),
        Ok(None)
    );
}

#[test]
fn udhcpc_tells_of_the_gateway() {
    let environment = [
        ("interface", "lan"),
        ("lease", "120"),
        (
            "opt125",
            "00000de91b060d486f6d652c20506f72743a616c050231320406303044303945",
        ),
    ];
    for action in ["bound", "renew"] {
        let event = Event::of_udhcpc(&words(action), with(&environment));
        assert_eq!(event, Ok(Some(acknowledged(Some(120)))));
    }
    let lost = Event::Lost {
        interface: "lan".into(),
    };
    let event = Event::of_udhcpc(&words("deconfig"), with(&environment));
    assert_eq!(event, Ok(Some(lost)));
    for other in ["leasefail", "nak"] {
        assert_eq!(
            Event::of_udhcpc(&words(other), with(&environment)),
            Ok(None)
        );
    }
    // A gateway that says nothing of itself: all is empty.
    let silent = Event::of_udhcpc(&words("bound"), with(&environment[..1]));
    let Ok(Some(Event::Acknowledged {
        oui, serial_number, ..
    })) = silent
    else {
        panic!("{silent:?}")
    };
    assert_eq!((oui.as_str(), serial_number.as_str()), ("", ""));
    for (name, value) in [
        ("opt125", "0"),
        ("opt125", "zz"),
        ("opt125", "é1"),
        ("interface", "a/b"),
    ] {
        let mut environment = environment.to_vec();
        environment.retain(|(known, _)| *known != name);
        environment.push((name, value));
        let event = Event::of_udhcpc(&words("bound"), with(&environment));
        assert!(matches!(event, Err(EventError::Form { .. })), "{event:?}");
    }
    let missing = Event::of_udhcpc(&words("bound"), with(&[]));
    assert_eq!(missing, Err(EventError::Missing("interface")));
}

#[test]
fn dhclient_tells_of_the_gateway() {
    let environment = |reason| {
        [
            ("reason", reason),
            ("interface", "lan"),
            ("new_dhcp_lease_time", "120"),
            (
                "new_homefleet_identity",
                "0:0:d:e9:1b:6:d:48:6f:6d:65:2c:20:50:6f:72:74:3a:61:6c:5:2:31:32:4:6:30:30:44:30:39:45",
            ),
        ]
    };
    for reason in ["BOUND", "RENEW", "REBIND", "REBOOT"] {
        let event = Event::of_dhclient(with(&environment(reason)));
        assert_eq!(event, Ok(Some(acknowledged(Some(120)))), "{reason}");
    }
    for reason in ["EXPIRE", "FAIL", "RELEASE", "STOP"] {
        let lost = Event::Lost {
            interface: "lan".into(),
        };
        let event = Event::of_dhclient(with(&environment(reason)));
        assert_eq!(event, Ok(Some(lost)), "{reason}");
    }
    for reason in ["PREINIT", "MEDIUM", "TIMEOUT"] {
        assert_eq!(Event::of_dhclient(with(&environment(reason))), Ok(None));
    }
    for bad in ["0:0:100", "0::1", "+1", "x"] {
        let mut environment = environment("BOUND");
        environment[3].1 = bad;
        let event = Event::of_dhclient(with(&environment));
        assert!(matches!(event, Err(EventError::Form { .. })), "{bad}");
    }
}

#[test]
fn events_are_one_line_of_json_each_and_nothing_else_is_one() {
    let events = [
        Event::Leased {
            mac: mac(1),
            address: ip(50),
            identity: Some(device(1)),
            lease: Some(120),
        },
        Event::Leased {
            mac: mac(1),
            address: ip(50),
            identity: None,
            lease: None,
        },
        Event::Ended {
            mac: mac(1),
            address: None,
        },
        acknowledged(None),
        Event::Lost {
            interface: "lan".into(),
        },
    ];
    for event in events {
        let text = serde_json::to_string(&event).unwrap();
        assert!(!text.contains('\n'), "{text}");
        assert_eq!(
            serde_json::from_str::<Event>(&text).unwrap(),
            event,
            "{text}"
        );
    }
    for bad in [
        r#"{"event":"leased","mac":"02:00:00:00:00:01"}"#,
        r#"{"event":"lost","interface":"lan","more":1}"#,
        r#"{"event":"leased","mac":"2","address":"192.0.2.1"}"#,
        r#"{"event":"leased","mac":"02:00:00:00:00:01","address":"192.0.2.1","identity":{"oui":"XYZ","serial_number":"1"}}"#,
    ] {
        assert!(serde_json::from_str::<Event>(bad).is_err(), "{bad}");
    }
}

#[test]
fn hardware_addresses_have_six_octets() {
    assert_eq!("02:00:00:00:00:01".parse(), Ok(mac(1)));
    assert_eq!("2:0:0:0:0:a".parse(), Ok(mac(10)));
    assert_eq!(mac(10).to_string(), "02:00:00:00:00:0A");
    for bad in [
        "",
        "02:00:00:00:00",
        "02:00:00:00:00:01:02",
        "02:00:00:00:00:0g",
        "020000000001",
    ] {
        assert!(bad.parse::<Mac>().is_err(), "{bad}");
    }
}

#[test]
fn what_is_made_for_clients_holds_the_identity_and_asks_for_the_gateways() {
    let who = Identity::new("ABCDEF", "S'1\"\\", None).unwrap();
    let octets = who.encode(Role::Device);
    let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    let paths = [
        Path::new("/opt/a gent"),
        Path::new("/run/it's.sock"),
        Path::new("/d"),
    ];
    let files = |program| snippet::files(program, &who, paths[0], paths[1], paths[2]);
    let [options, script] = &files(Program::Udhcpc)[..] else {
        panic!()
    };
    assert_eq!(options.content, format!("-x 0x7d:{hex} -O 125\n"));
    assert!(script.executable && script.content.starts_with("#!/bin/sh\n"));
    let call = "'/opt/a gent' dhcp-event --socket '/run/it'\\''s.sock' udhcpc \"$@\"";
    assert!(script.content.contains(call), "{}", script.content);
    let [config, hook] = &files(Program::Dhclient)[..] else {
        panic!()
    };
    assert!(config.content.contains("also request homefleet-identity;"));
    assert!(hook.content.contains("' dhclient\n"), "{}", hook.content);
}

#[test]
fn what_is_made_for_servers_answers_only_those_that_identified_themselves() {
    let paths = [Path::new("/a"), Path::new("/s"), Path::new("/d")];
    let files = |program| snippet::files(program, &gateway(), paths[0], paths[1], paths[2]);
    let [config, script] = &files(Program::Dnsmasq)[..] else {
        panic!()
    };
    let options: Vec<&str> = config
        .content
        .lines()
        .filter(|line| line.starts_with("dhcp-option"))
        .collect();
    assert_eq!(
        options,
        [
            "dhcp-option-force=tag:cpewan-id,vi-encap:3561,4,\"00D09E\"",
            "dhcp-option-force=tag:cpewan-id,vi-encap:3561,5,\"12\"",
            "dhcp-option-force=tag:cpewan-id,vi-encap:3561,6,\"Home, Port:al\"",
        ]
    );
    assert!(
        config
            .content
            .contains("dhcp-script=/d/homefleet-dnsmasq\n")
    );
    assert!(script.executable);
    let [class] = &files(Program::Kea)[..] else {
        panic!()
    };
    let class: serde_json::Value = serde_json::from_str(&class.content).unwrap();
    let test = class["test"].as_str().unwrap();
    assert!(test.contains("vendor[3561].option[2].exists"), "{test}");
    let codes: Vec<_> = class["option-data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|option| option["code"].as_u64())
        .collect();
    assert_eq!(codes, [None, Some(4), Some(5), Some(6)]);
}
