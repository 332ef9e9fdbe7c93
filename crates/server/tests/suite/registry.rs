//! The registry: who is who, and who can be spoken to.

use std::time::Duration;

use homefleet_api::Reachability;
use homefleet_server::clock::Millis;
use homefleet_server::device::{Contact, ContactError, Heard, Proof, Registry, RegistryConfig};
use homefleet_server::store::{AddressRecord, CertificateRecord};

use crate::common::{START, seconds};

fn certificate(fingerprint: &str) -> CertificateRecord {
    CertificateRecord {
        fingerprint: fingerprint.to_owned(),
        subject: "CN=device".to_owned(),
        not_after: seconds(1_000_000),
        first_seen: START,
    }
}

fn contact(id: &str, fingerprint: Option<&str>, uri: &str) -> Contact {
    Contact {
        id: id.to_owned(),
        proof: match fingerprint {
            Some(fingerprint) => Proof::Certificate(certificate(fingerprint)),
            None => Proof::Nobody,
        },
        address: Some(AddressRecord {
            uri: uri.to_owned(),
            secure: uri.starts_with("coaps"),
            seen: START,
        }),
    }
}

fn registry(config: RegistryConfig) -> Registry {
    Registry::new(config, Vec::new())
}

fn reachability(registry: &Registry, now: Millis) -> Reachability {
    registry.reachability(now, registry.device("os::1").unwrap())
}

#[test]
fn a_device_is_not_reachable_because_it_once_was() {
    let mut registry = registry(RegistryConfig {
        reachable_for: Duration::from_secs(60),
        ..Default::default()
    });
    assert_eq!(
        registry.heard(START, contact("os::1", Some("aa"), "coaps://a/usp")),
        Ok(Heard::New)
    );
    assert_eq!(
        reachability(&registry, seconds(60)),
        Reachability::Reachable
    );
    assert_eq!(reachability(&registry, seconds(61)), Reachability::Unknown);
    registry.failed(seconds(61), "os::1", "no answer");
    assert_eq!(
        reachability(&registry, seconds(62)),
        Reachability::Unreachable
    );
    registry
        .heard(seconds(63), contact("os::1", Some("aa"), "coaps://a/usp"))
        .unwrap();
    assert_eq!(
        reachability(&registry, seconds(63)),
        Reachability::Reachable
    );
    // A failure soon after a contact counts at once.
    registry.failed(seconds(64), "os::1", "no answer");
    assert_eq!(
        reachability(&registry, seconds(64)),
        Reachability::Unreachable
    );
}

#[test]
fn a_device_with_a_certificate_is_never_accepted_without() {
    let mut registry = registry(RegistryConfig::default());
    registry
        .heard(START, contact("os::1", Some("aa"), "coaps://a/usp"))
        .unwrap();
    let refused = registry.heard(seconds(1), contact("os::1", None, "coap://evil/usp"));
    assert_eq!(refused, Err(ContactError::WeakerChannel));
    let device = registry.device("os::1").unwrap();
    assert_eq!(device.addresses.len(), 1);
    assert_eq!(device.last_contact, START);
}

#[test]
fn addresses_learned_without_security_are_dropped_once_the_device_proves_itself() {
    let mut registry = registry(RegistryConfig::default());
    registry
        .heard(START, contact("os::1", None, "coap://a/usp"))
        .unwrap();
    assert_eq!(
        registry.heard(START, contact("os::1", Some("aa"), "coaps://a/usp")),
        Ok(Heard::Changed)
    );
    let uris: Vec<&str> = registry
        .device("os::1")
        .unwrap()
        .addresses
        .iter()
        .map(|address| address.uri.as_str())
        .collect();
    assert_eq!(uris, ["coaps://a/usp"]);
}

#[test]
fn a_pinned_certificate_cannot_be_replaced() {
    let mut pinned = registry(RegistryConfig {
        pin_certificates: true,
        ..Default::default()
    });
    pinned
        .heard(START, contact("os::1", Some("aa"), "coaps://a/usp"))
        .unwrap();
    let refused = pinned.heard(seconds(1), contact("os::1", Some("bb"), "coaps://b/usp"));
    assert!(
        matches!(refused, Err(ContactError::CertificateChanged { .. })),
        "{refused:?}"
    );
    assert_eq!(
        pinned
            .device("os::1")
            .unwrap()
            .certificate
            .as_ref()
            .unwrap()
            .fingerprint,
        "aa"
    );
    // By default a renewed certificate of a trusted CA is taken over and stored.
    let mut renewing = registry(RegistryConfig::default());
    renewing
        .heard(START, contact("os::1", Some("aa"), "coaps://a/usp"))
        .unwrap();
    assert_eq!(
        renewing.heard(seconds(1), contact("os::1", Some("bb"), "coaps://a/usp")),
        Ok(Heard::Changed)
    );
    assert_eq!(
        renewing
            .device("os::1")
            .unwrap()
            .certificate
            .as_ref()
            .unwrap()
            .fingerprint,
        "bb"
    );
}

#[test]
fn the_newest_address_comes_first_and_old_ones_fall_out() {
    let mut registry = registry(RegistryConfig::default());
    for number in 0..6 {
        registry
            .heard(
                seconds(number),
                contact("os::1", Some("aa"), &format!("coaps://h{number}/usp")),
            )
            .unwrap();
    }
    assert_eq!(
        registry.heard(seconds(9), contact("os::1", Some("aa"), "coaps://h5/usp")),
        Ok(Heard::Known)
    );
    let uris: Vec<&str> = registry
        .device("os::1")
        .unwrap()
        .addresses
        .iter()
        .map(|address| address.uri.as_str())
        .collect();
    assert_eq!(
        uris,
        [
            "coaps://h5/usp",
            "coaps://h4/usp",
            "coaps://h3/usp",
            "coaps://h2/usp"
        ]
    );
}

#[test]
fn a_full_registry_refuses_new_devices_and_keeps_the_known() {
    let mut registry = registry(RegistryConfig {
        max_devices: 1,
        ..Default::default()
    });
    registry
        .heard(START, contact("os::1", Some("aa"), "coaps://a/usp"))
        .unwrap();
    assert_eq!(
        registry.heard(START, contact("os::2", Some("bb"), "coaps://b/usp")),
        Err(ContactError::Full(1))
    );
    assert_eq!(
        registry.heard(START, contact("os::1", Some("aa"), "coaps://a/usp")),
        Ok(Heard::Known)
    );
    assert_eq!(registry.len(), 1);
}

#[test]
fn search_and_pages_cover_every_device_once() {
    let mut registry = registry(RegistryConfig::default());
    for number in 0..7 {
        registry
            .heard(
                START,
                contact(&format!("os::{number}"), Some("aa"), "coaps://a/usp"),
            )
            .unwrap();
    }
    registry
        .update("os::3", |device| device.label = Some("Kitchen".to_owned()))
        .unwrap();
    let ids = |devices: Vec<&homefleet_server::store::DeviceRecord>| {
        devices
            .into_iter()
            .map(|device| device.id.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(registry.page(Some("kITCH"), None, 10, 99).0), ["os::3"]);
    assert_eq!(
        ids(registry.page(None, Some("os::4"), 10, 99).0),
        ["os::5", "os::6"]
    );
    assert_eq!(ids(registry.page(None, None, 2, 99).0), ["os::0", "os::1"]);
    // A search that finds little ends early, and says where to go on.
    let (found, go_on) = registry.page(Some("kitch"), None, 10, 2);
    assert_eq!((ids(found), go_on.as_deref()), (vec![], Some("os::1")));
    let (found, go_on) = registry.page(Some("kitch"), go_on.as_deref(), 10, 99);
    assert_eq!((ids(found), go_on), (vec!["os::3".to_owned()], None));
}

#[test]
fn a_record_goes_to_the_store_once_unless_it_did_not_arrive() {
    let mut registry = registry(RegistryConfig::default());
    for id in ["os::1", "os::2"] {
        let contact = contact(id, Some(id), "coaps://a/usp");
        assert_eq!(registry.heard(START, contact), Ok(Heard::New));
    }
    let stored = registry.to_store("os::1").unwrap();
    assert_eq!(stored.last_contact, START);
    let ids = |registry: &mut Registry| -> Vec<String> {
        let dirty = registry.drain_dirty().into_iter();
        dirty.map(|record| record.id).collect()
    };
    assert_eq!(ids(&mut registry), ["os::2"]);
    registry.not_stored("os::1");
    registry.not_stored("os::3");
    assert_eq!(ids(&mut registry), ["os::1"]);
    assert_eq!(registry.to_store("os::3"), None);
}
