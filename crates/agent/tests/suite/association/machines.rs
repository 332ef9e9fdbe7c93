//! The gateway's leases and the device's gateway, and what of them lasts.

use std::time::{Duration, Instant, SystemTime};

use homefleet_agent::association::{
    Event, Shared,
    held::Held,
    leases::{Leases, MISSES, Taken, UNSEEN},
};
use homefleet_tr111::identity::Identity;

use super::{SECOND, device, ip, mac, settings};

fn shown(leases: &Leases) -> Vec<Identity> {
    leases
        .shown()
        .into_iter()
        .map(|(identity, _)| identity)
        .collect()
}

fn gateway(serial: &str) -> [String; 3] {
    ["00D09E".to_owned(), serial.to_owned(), "Home".to_owned()]
}

#[test]
fn an_entry_is_there_from_dhcpack_until_the_lease_is_released() {
    let (mut leases, now) = (Leases::new(8), Instant::now());
    let taken = leases.leased(now, mac(1), ip(50), Some(device(1)), Some(120));
    assert_eq!((taken, shown(&leases)), (Taken::Added, vec![device(1)]));
    assert!(!leases.ended(mac(1), Some(ip(51))), "another address");
    assert!(!leases.ended(mac(2), None), "another device");
    assert_eq!(shown(&leases), [device(1)]);
    assert!(leases.ended(mac(1), Some(ip(50))));
    assert!(shown(&leases).is_empty());
}

#[test]
fn an_entry_goes_when_the_lease_expires_and_not_before() {
    let (mut leases, now) = (Leases::new(8), Instant::now());
    leases.leased(now, mac(1), ip(50), Some(device(1)), Some(120));
    // Renewed, without a word about who it is.
    let renewed = now + 60 * SECOND;
    let taken = leases.leased(renewed, mac(1), ip(50), None, Some(120));
    assert_eq!(taken, Taken::Known);
    assert_eq!(leases.poll_timeout(), Some(renewed + 120 * SECOND));
    assert_eq!(leases.expire(now + 179 * SECOND), 0);
    assert_eq!(shown(&leases), [device(1)]);
    assert_eq!(leases.expire(now + 180 * SECOND), 1);
    assert!(shown(&leases).is_empty());
    assert_eq!(leases.poll_timeout(), None);
}

#[test]
fn who_does_not_say_who_it_is_has_no_entry() {
    let (mut leases, now) = (Leases::new(8), Instant::now());
    let taken = leases.leased(now, mac(1), ip(50), None, Some(120));
    assert_eq!((taken, shown(&leases).len()), (Taken::Unidentified, 0));
}

#[test]
fn a_device_that_is_absent_has_no_entry_and_has_it_again_when_it_is_back() {
    let (mut leases, now) = (Leases::new(8), Instant::now());
    leases.leased(now, mac(1), ip(50), Some(device(1)), Some(3600));
    for miss in 1..MISSES {
        assert!(!leases.looked(now, mac(1), false));
        assert_eq!(shown(&leases), [device(1)], "after {miss}");
    }
    assert!(leases.looked(now, mac(1), false));
    assert!(shown(&leases).is_empty());
    assert!(!leases.looked(now, mac(1), false), "it is told once");
    leases.looked(now, mac(1), true);
    assert_eq!(shown(&leases), [device(1)]);
    // A sign of it in between starts the count anew.
    for seen in [false, false, true, false, false] {
        leases.looked(now, mac(1), seen);
    }
    assert_eq!(shown(&leases), [device(1)]);
}

#[test]
fn an_entry_without_a_lease_lasts_while_its_device_is_seen() {
    let (mut leases, now) = (Leases::new(8), Instant::now());
    leases.leased(now, mac(1), ip(50), Some(device(1)), None);
    let later = now + UNSEEN - SECOND;
    leases.looked(later, mac(1), true);
    assert_eq!(leases.expire(now + UNSEEN), 0);
    assert_eq!(leases.expire(later + UNSEEN), 1);
}

#[test]
fn dhcpinform_leaves_a_running_lease_as_it_is() {
    let (mut leases, now) = (Leases::new(8), Instant::now());
    leases.leased(now, mac(1), ip(50), Some(device(1)), Some(120));
    leases.leased(now + SECOND, mac(1), ip(50), Some(device(1)), None);
    assert_eq!(leases.poll_timeout(), Some(now + 120 * SECOND));
    assert_eq!(leases.expire(now + 120 * SECOND), 1);
}

#[test]
fn an_address_has_one_device() {
    let (mut leases, now) = (Leases::new(8), Instant::now());
    leases.leased(now, mac(1), ip(50), Some(device(1)), Some(120));
    leases.leased(now, mac(2), ip(50), Some(device(2)), Some(120));
    assert_eq!(shown(&leases), [device(2)]);
}

#[test]
fn two_that_give_one_identity_are_one_entry_until_both_have_left() {
    let (mut leases, now) = (Leases::new(8), Instant::now());
    leases.leased(now, mac(1), ip(50), Some(device(1)), Some(120));
    leases.leased(now, mac(2), ip(51), Some(device(1)), Some(120));
    assert_eq!(leases.shown(), [(device(1), vec![mac(1), mac(2)])]);
    leases.ended(mac(1), None);
    assert_eq!(leases.shown(), [(device(1), vec![mac(2)])]);
    leases.ended(mac(2), None);
    assert!(leases.shown().is_empty());
}

#[test]
fn a_device_that_becomes_another_leaves_its_old_entry() {
    let (mut leases, now) = (Leases::new(8), Instant::now());
    leases.leased(now, mac(1), ip(50), Some(device(1)), Some(120));
    leases.leased(now, mac(1), ip(50), Some(device(2)), Some(120));
    assert_eq!(shown(&leases), [device(2)]);
}

#[test]
fn the_table_is_bounded_and_only_the_absent_make_room() {
    let (mut leases, now) = (Leases::new(2), Instant::now());
    for number in 1..=2 {
        leases.leased(now, mac(number), ip(number), Some(device(number)), Some(60));
    }
    let taken = leases.leased(now, mac(3), ip(3), Some(device(3)), Some(60));
    assert_eq!((taken, leases.iter().count()), (Taken::Full, 2));
    for _ in 0..MISSES {
        leases.looked(now, mac(1), false);
    }
    let taken = leases.leased(now, mac(3), ip(3), Some(device(3)), Some(60));
    assert_eq!(taken, Taken::Added);
    assert_eq!(shown(&leases), [device(2), device(3)]);
}

#[test]
fn the_gateway_is_that_of_the_last_dhcpack_with_what_it_leaves_out_empty() {
    let (mut held, now) = (Held::default(), Instant::now());
    assert_eq!(held.shown(), [const { String::new() }; 3]);
    held.acknowledged(now, "eth0", gateway("G1"), Some(120));
    assert_eq!(held.shown(), gateway("G1"));
    let partly = ["".to_owned(), "G2".to_owned(), "".to_owned()];
    held.acknowledged(now, "eth0", partly.clone(), Some(120));
    assert_eq!(held.shown(), partly, "nothing of the one before is left");
    held.acknowledged(now, "eth0", Default::default(), Some(120));
    assert_eq!(held.shown(), [const { String::new() }; 3]);
}

#[test]
fn the_gateway_is_forgotten_when_the_lease_is_lost_or_expires() {
    let (mut held, now) = (Held::default(), Instant::now());
    held.acknowledged(now, "eth0", gateway("G1"), Some(120));
    held.lost("eth1");
    assert_eq!(held.shown(), gateway("G1"));
    held.lost("eth0");
    assert_eq!(held.shown(), [const { String::new() }; 3]);
    held.acknowledged(now, "eth0", gateway("G1"), Some(120));
    assert_eq!(held.poll_timeout(), Some(now + 120 * SECOND));
    held.expire(now + 119 * SECOND);
    assert_eq!(held.shown(), gateway("G1"));
    held.expire(now + 120 * SECOND);
    assert_eq!(held.shown(), [const { String::new() }; 3]);
}

#[test]
fn of_several_interfaces_the_one_counts_that_found_its_gateway_last() {
    let (mut held, now) = (Held::default(), Instant::now());
    held.acknowledged(now, "eth0", gateway("G1"), Some(120));
    held.acknowledged(now, "wlan0", gateway("G2"), Some(120));
    // A renewal is no news, and who says nothing is no gateway.
    held.acknowledged(now, "eth0", gateway("G1"), Some(120));
    held.acknowledged(now, "usb0", Default::default(), Some(120));
    assert_eq!(held.shown(), gateway("G2"));
    held.lost("wlan0");
    assert_eq!(held.shown(), gateway("G1"));
    for number in 0..100 {
        held.acknowledged(now, &format!("v{number}"), gateway("G3"), None);
    }
    assert!(held.iter().count() <= 16, "bounded");
}

#[test]
fn both_sides_last_over_a_restart_and_what_expired_meanwhile_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let (now, wall) = (Instant::now(), SystemTime::now());
    let leased = |number: u8, lease| Event::Leased {
        mac: mac(number),
        address: ip(number),
        identity: Some(device(number)),
        lease,
    };
    let acknowledged = |interface: &str, serial: &str, lease| {
        let [oui, serial_number, product_class] = gateway(serial);
        Event::Acknowledged {
            interface: interface.to_owned(),
            oui,
            serial_number,
            product_class,
            lease,
        }
    };
    let before = Shared::new(settings(directory.path()), now, wall);
    for event in [
        leased(1, Some(100)),
        leased(2, Some(1000)),
        leased(3, None),
        acknowledged("eth0", "G1", Some(1000)),
        acknowledged("eth1", "G2", Some(100)),
    ] {
        before.handle(now, event);
    }
    assert_eq!(before.gateway(), gateway("G2"));
    drop(before);
    let later = wall + Duration::from_secs(500);
    let after = Shared::new(settings(directory.path()), now, later);
    let devices: Vec<_> = after.devices().into_iter().map(|(who, _)| who).collect();
    assert_eq!(devices, [device(2), device(3)]);
    assert_eq!(after.gateway(), gateway("G1"));
    // To the second: what is kept is of the wall clock.
    let end = after.poll_timeout().unwrap() - now;
    assert!((498..=500).contains(&end.as_secs()), "{end:?}");
}

#[test]
fn a_damaged_file_is_an_empty_one() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path());
    let file = settings.file.clone().unwrap();
    for content in ["", "{", "[]", r#"{"leases":[{"mac":"x"}]}"#] {
        std::fs::write(&file, content).unwrap();
        let shared = Shared::new(settings.clone(), Instant::now(), SystemTime::now());
        assert!(shared.devices().is_empty(), "{content}");
        shared.handle(
            Instant::now(),
            Event::Lost {
                interface: "eth0".into(),
            },
        );
    }
}

#[test]
fn a_machine_takes_what_its_role_needs() {
    let directory = tempfile::tempdir().unwrap();
    let now = Instant::now();
    for (is_gateway, is_device) in [(true, false), (false, true)] {
        let settings = homefleet_agent::association::Settings {
            gateway: is_gateway,
            device: is_device,
            file: None,
            ..settings(directory.path())
        };
        let shared = Shared::new(settings, now, SystemTime::now());
        shared.handle(
            now,
            Event::Leased {
                mac: mac(1),
                address: ip(1),
                identity: Some(device(1)),
                lease: None,
            },
        );
        let [oui, serial_number, product_class] = gateway("G1");
        shared.handle(
            now,
            Event::Acknowledged {
                interface: "eth0".into(),
                oui,
                serial_number,
                product_class,
                lease: None,
            },
        );
        assert_eq!(shared.devices().len(), usize::from(is_gateway));
        assert_eq!(shared.gateway() == gateway("G1"), is_device);
    }
}

#[test]
fn what_happens_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let now = Instant::now();
    let shared = Shared::new(settings(directory.path()), now, SystemTime::now());
    let counters = |shared: &Shared| {
        let counters = shared.counters();
        (
            counters.events,
            counters.added,
            counters.refused,
            counters.unidentified,
        )
    };
    for number in 1..=20 {
        shared.handle(
            now,
            Event::Leased {
                mac: mac(number),
                address: ip(number),
                identity: (number != 20).then(|| device(number)),
                lease: Some(60),
            },
        );
    }
    assert_eq!(counters(&shared), (20, 8, 11, 1));
    shared.expire(now + 60 * SECOND);
    assert_eq!(shared.counters().expired, 8);
}
