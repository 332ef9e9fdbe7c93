#![allow(clippy::unwrap_used)]
use super::*;

const UPDATE: &str = r#"{"ietf-yp-notification:envelope": {
    "event-time": "2026-11-20T12:00:00.25Z", "hostname": "gate-1", "sequence-number": 7,
    "contents": {"ietf-yang-push:push-update": {"id": 42, "datastore-contents": {
        "ietf-interfaces:interfaces": {"interface": [
            {"name": "eth0", "statistics": {"in-octets": "12345678901", "discontinuity-time": "2026-01-01T00:00:00Z"}},
            {"name": "eth1/2", "ietf-ip:ipv4": {"mtu": 1500, "enabled": true}}
        ]}}}}}}"#;

fn decode(encoding: Encoding, message: &[u8]) -> Envelope {
    Envelope::decode(encoding, message).unwrap()
}

fn leaves(envelope: &Envelope, message: &[u8]) -> Vec<(String, f64)> {
    let found = envelope.leaves(message, 100).unwrap();
    assert_eq!(found.left_out, 0);
    let pairs = found.leaves.into_iter();
    pairs.map(|leaf| (leaf.path, leaf.value)).collect()
}

fn paths(expected: &[(&str, f64)]) -> Vec<(String, f64)> {
    let pairs = expected.iter();
    pairs
        .map(|(path, value)| ((*path).to_owned(), *value))
        .collect()
}

#[test]
fn an_envelope_in_json_tells_when_who_and_what() {
    let envelope = decode(Encoding::Json, UPDATE.as_bytes());
    assert_eq!(envelope.shape, Shape::Envelope);
    assert_eq!(
        envelope.event_time.unwrap().to_timestamp(),
        "2026-11-20T12:00:00.250Z"
    );
    assert_eq!(envelope.hostname.as_deref(), Some("gate-1"));
    assert_eq!(envelope.sequence, Some(7));
    assert_eq!(
        envelope.notification.as_deref(),
        Some("ietf-yang-push:push-update")
    );
    assert_eq!(envelope.subscription.as_deref(), Some("42"));
    assert_eq!(
        leaves(&envelope, UPDATE.as_bytes()),
        paths(&[
            (
                "ietf-interfaces:interfaces/interface=eth0/statistics/in-octets",
                12_345_678_901.0
            ),
            (
                "ietf-interfaces:interfaces/interface=eth1%2F2/ietf-ip:ipv4/mtu",
                1500.0
            ),
        ])
    );
}

#[test]
fn a_notification_in_json_has_its_data_beside_the_time() {
    let message = br#"{"ietf-notification:notification":{"eventTime":"2026-11-20T12:00:00+01:00",
        "ietf-notification-sequencing:sysName":"r1","ietf-notification-sequencing:sequenceNumber":187653,
        "ietf-yang-push:push-change-update":{"id":2222,"datastore-changes":{"yang-patch":{"patch-id":"1","edit":[
            {"edit-id":"e1","operation":"merge","target":"/ietf-interfaces:interfaces/interface=eth0/statistics",
             "value":{"ietf-interfaces:statistics":{"in-errors":3}}},
            {"edit-id":"e2","operation":"delete","target":"/ietf-interfaces:interfaces/interface=eth9"}]}}}}}"#;
    let envelope = decode(Encoding::Json, message);
    assert_eq!(envelope.shape, Shape::Notification);
    assert_eq!(envelope.hostname.as_deref(), Some("r1"));
    assert_eq!(envelope.sequence, Some(187_653));
    assert_eq!(envelope.subscription.as_deref(), Some("2222"));
    assert_eq!(
        leaves(&envelope, message),
        paths(&[(
            "ietf-interfaces:interfaces/interface=eth0/statistics/in-errors",
            3.0
        )])
    );
}

#[test]
fn a_notification_in_xml_gives_the_same_paths() {
    let message = br#"<?xml version="1.0" encoding="UTF-8"?>
<notification xmlns="urn:ietf:params:xml:ns:netconf:notification:1.0">
  <eventTime>2026-11-20T12:00:00Z</eventTime>
  <push-update xmlns="urn:ietf:params:xml:ns:yang:ietf-yang-push">
    <id>1011</id>
    <datastore-contents>
      <interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces">
        <interface><name>eth&#48;</name><statistics><in-octets>99</in-octets></statistics></interface>
        <interface><name>a&amp;b</name><statistics><in-octets>7</in-octets></statistics></interface>
      </interfaces>
    </datastore-contents>
  </push-update>
</notification>"#;
    let envelope = decode(Encoding::Xml, message);
    assert_eq!(envelope.shape, Shape::Notification);
    assert_eq!(
        envelope.notification.as_deref(),
        Some("ietf-yang-push:push-update")
    );
    assert_eq!(envelope.subscription.as_deref(), Some("1011"));
    assert_eq!(envelope.event_time.unwrap().0 % 1000, 0);
    assert_eq!(
        leaves(&envelope, message),
        paths(&[
            (
                "ietf-interfaces:interfaces/interface=eth0/statistics/in-octets",
                99.0
            ),
            (
                "ietf-interfaces:interfaces/interface=a&b/statistics/in-octets",
                7.0
            ),
        ])
    );
}

#[test]
fn an_envelope_in_xml_is_read_too() {
    let message = br#"<envelope xmlns="urn:ietf:params:xml:ns:yang:ietf-yp-notification"><event-time>2026-11-20T12:00:00Z</event-time>
        <hostname>h</hostname><sequence-number>3</sequence-number><contents>
        <push-update xmlns="urn:ietf:params:xml:ns:yang:ietf-yang-push"><id>5</id><datastore-contents><a xmlns="urn:x"><b>1</b></a></datastore-contents></push-update>
        </contents></envelope>"#;
    let envelope = decode(Encoding::Xml, message);
    assert_eq!(envelope.shape, Shape::Envelope);
    assert_eq!(envelope.hostname.as_deref(), Some("h"));
    assert_eq!(envelope.sequence, Some(3));
    assert_eq!(envelope.subscription.as_deref(), Some("5"));
    assert_eq!(leaves(&envelope, message), paths(&[("a/b", 1.0)]));
}

#[test]
fn xml_that_could_grow_is_refused() {
    let bomb = br#"<!DOCTYPE n [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><notification><eventTime>&b;</eventTime></notification>"#;
    let entity = b"<notification><eventTime>&b;</eventTime></notification>";
    let instruction = b"<notification><?php x ?></notification>";
    for message in [&bomb[..], entity, instruction] {
        assert_eq!(
            Envelope::decode(Encoding::Xml, message),
            Err(EnvelopeError::Forbidden)
        );
    }
    let deep = format!("<notification>{}", "<a>".repeat(100));
    assert_eq!(
        Envelope::decode(Encoding::Xml, deep.as_bytes()),
        Err(EnvelopeError::Bound)
    );
}

/// A CBOR map with text keys and ready-made values.
fn map(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![0xa0 | u8::try_from(members.len()).unwrap()];
    for (name, value) in members {
        bytes.extend(text(name));
        bytes.extend(value);
    }
    bytes
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = vec![0x78, u8::try_from(text.len()).unwrap()];
    bytes.extend(text.as_bytes());
    bytes
}

fn push_update() -> Vec<u8> {
    map(&[
        ("id", vec![0x18, 42]),
        (
            "datastore-contents",
            map(&[(
                "ietf-system:system",
                map(&[
                    ("load", vec![0xf9, 0x3c, 0x00]),
                    // decimal64 -12.5, then a list of unknown length.
                    ("temperature", vec![0xc4, 0x82, 0x20, 0x38, 124]),
                    ("cpu", vec![0x9f, 0x01, 0x02, 0xff]),
                ]),
            )]),
        ),
    ])
}

#[test]
fn an_envelope_in_cbor_with_names_is_read() {
    let message = map(&[(
        "ietf-yp-notification:envelope",
        map(&[
            ("event-time", text("2026-11-20T12:00:00Z")),
            ("hostname", text("gate-1")),
            ("sequence-number", vec![0x19, 0x01, 0x00]),
            (
                "contents",
                map(&[("ietf-yang-push:push-update", push_update())]),
            ),
        ]),
    )]);
    let envelope = decode(Encoding::Cbor, &message);
    assert_eq!(envelope.sequence, Some(256));
    assert_eq!(envelope.hostname.as_deref(), Some("gate-1"));
    assert_eq!(envelope.subscription.as_deref(), Some("42"));
    assert_eq!(
        leaves(&envelope, &message),
        paths(&[
            ("ietf-system:system/load", 1.0),
            ("ietf-system:system/temperature", -12.5),
            ("ietf-system:system/cpu=0", 1.0),
            ("ietf-system:system/cpu=1", 2.0),
        ])
    );
}

#[test]
fn an_envelope_in_cbor_with_sids_is_told_by_its_form() {
    // {2551: {1: event-time, 2: hostname, 3: sequence-number, 4: {"…:push-update": …}}}
    let mut message = vec![0xa1, 0x19, 0x09, 0xf7, 0xa4, 0x01];
    message.extend(text("2026-11-20T12:00:00Z"));
    message.push(0x02);
    message.extend(text("gate-1"));
    message.extend([0x03, 0x09, 0x04]);
    message.extend(map(&[("ietf-yang-push:push-update", push_update())]));
    let envelope = decode(Encoding::Cbor, &message);
    assert_eq!(envelope.shape, Shape::Envelope);
    assert!(envelope.event_time.is_some());
    assert_eq!(envelope.hostname.as_deref(), Some("gate-1"));
    assert_eq!(envelope.sequence, Some(9));
    assert_eq!(envelope.subscription.as_deref(), Some("42"));
    assert_eq!(leaves(&envelope, &message).len(), 4);
}

#[test]
fn garbage_is_told_by_kind_and_nothing_panics() {
    for (encoding, message, error) in [
        (
            Encoding::Json,
            &b"{"[..],
            EnvelopeError::Malformed(Encoding::Json),
        ),
        (Encoding::Json, b"[1]", EnvelopeError::Unknown),
        (Encoding::Json, b"{\"a\":1}", EnvelopeError::Unknown),
        (
            Encoding::Json,
            b"{\"a\":1} x",
            EnvelopeError::Malformed(Encoding::Json),
        ),
        (
            Encoding::Json,
            b"\xff",
            EnvelopeError::Malformed(Encoding::Json),
        ),
        (
            Encoding::Json,
            b"",
            EnvelopeError::Malformed(Encoding::Json),
        ),
        (
            Encoding::Json,
            b"{\"ietf-yp-notification:envelope\":7}",
            EnvelopeError::Unknown,
        ),
        (
            Encoding::Xml,
            b"<a></b>",
            EnvelopeError::Malformed(Encoding::Xml),
        ),
        (Encoding::Xml, b"<a/>", EnvelopeError::Unknown),
        (
            Encoding::Xml,
            b"<a/><b/>",
            EnvelopeError::Malformed(Encoding::Xml),
        ),
        (
            Encoding::Xml,
            b"text",
            EnvelopeError::Malformed(Encoding::Xml),
        ),
        (Encoding::Xml, b"", EnvelopeError::Malformed(Encoding::Xml)),
        (
            Encoding::Cbor,
            b"",
            EnvelopeError::Malformed(Encoding::Cbor),
        ),
        (Encoding::Cbor, b"\x01", EnvelopeError::Unknown),
        (
            Encoding::Cbor,
            b"\xa1\x61a",
            EnvelopeError::Malformed(Encoding::Cbor),
        ),
        (
            Encoding::Cbor,
            b"\x01\x01",
            EnvelopeError::Malformed(Encoding::Cbor),
        ),
        (
            Encoding::Cbor,
            b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
            EnvelopeError::Malformed(Encoding::Cbor),
        ),
        (Encoding::Cbor, &[0x81; 100], EnvelopeError::Bound),
    ] {
        assert_eq!(
            Envelope::decode(encoding, message),
            Err(error),
            "{encoding:?} {message:02x?}"
        );
    }
}

#[test]
fn every_truncation_and_every_flipped_byte_is_survived() {
    let xml = br#"<notification xmlns="a"><eventTime>2026-11-20T12:00:00Z</eventTime><p:push-update xmlns:p="urn:ietf:params:xml:ns:yang:ietf-yang-push"><p:id>1</p:id><x><name>a</name><y>1</y></x></p:push-update></notification>"#;
    let cbor = map(&[(
        "ietf-notification:notification",
        map(&[("ietf-yang-push:push-update", push_update())]),
    )]);
    for (encoding, message) in [
        (Encoding::Json, UPDATE.as_bytes().to_vec()),
        (Encoding::Xml, xml.to_vec()),
        (Encoding::Cbor, cbor),
    ] {
        for at in 0..message.len() {
            let mut others = vec![message[..at].to_vec()];
            for value in [0u8, 0x22, 0x3c, 0x7f, 0x9f, 0xff, message[at] ^ 1] {
                let mut changed = message.clone();
                changed[at] = value;
                others.push(changed);
            }
            for other in others {
                if let Ok(envelope) = Envelope::decode(encoding, &other) {
                    drop(envelope.leaves(&other, 10));
                }
            }
        }
    }
}

#[test]
fn numbers_beyond_the_bounds_are_left_out_and_counted() {
    let many: Vec<String> = (0..20).map(|n| format!("\"l{n}\":{n}")).collect();
    let message = format!(
        r#"{{"ietf-notification:notification":{{"x:y":{{{}}}}}}}"#,
        many.join(",")
    );
    let envelope = decode(Encoding::Json, message.as_bytes());
    let found = envelope.leaves(message.as_bytes(), 5).unwrap();
    assert_eq!((found.leaves.len(), found.left_out), (5, 15));
    let deep = format!(
        r#"{{"ietf-notification:notification":{{"x:y":{}1{}}}}}"#,
        "{\"a\":".repeat(60),
        "}".repeat(60)
    );
    let envelope = decode(Encoding::Json, deep.as_bytes());
    let found = envelope.leaves(deep.as_bytes(), 5).unwrap();
    assert_eq!((found.leaves.len(), found.left_out), (0, 1));
}

#[test]
fn the_key_of_an_entry_is_in_its_path_and_no_series() {
    let message = br#"{"ietf-yp-notification:envelope":{"event-time":"2026-11-20T12:00:00Z","contents":{"ietf-yang-push:push-update":
        {"id":1,"datastore-contents":{"homefleet-tr181:Device":{"IP":{"Interface":[{"index":1,"Stats":{"BytesSent":"7"}}]}}}}}}}"#;
    let envelope = decode(Encoding::Json, message);
    assert_eq!(
        leaves(&envelope, message),
        paths(&[("homefleet-tr181:Device/IP/Interface=1/Stats/BytesSent", 7.0)])
    );
}

#[test]
fn what_is_told_about_a_subscription_has_no_numbers() {
    let message = br#"{"ietf-yp-notification:envelope":{"event-time":"2026-11-20T12:00:00Z","contents":
        {"ietf-subscribed-notifications:subscription-started":{"id":1,"ietf-yang-push:periodic":{"period":100}}}}}"#;
    let envelope = decode(Encoding::Json, message);
    assert_eq!(leaves(&envelope, message), []);
}
