//! Records: what is accepted, and what a wrong one is answered.

use homefleet_usp::{
    EndpointId, ErrorCode, Record,
    record::{
        MAX_RECORD, MqttVersion, PayloadSarState, RecordBody, RecordErrorKind, SessionContext,
        WireError,
    },
};
use proptest::prelude::*;

use crate::samples::{agent, controller, records};

/// A protobuf field with bytes.
pub(crate) fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7F).unwrap() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap());
    out.extend_from_slice(bytes);
    out
}

fn raw(version: &str, to: &str, from: &str, rest: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = [
        field(1, version.as_bytes()),
        field(2, to.as_bytes()),
        field(3, from.as_bytes()),
    ]
    .concat();
    bytes.extend(rest.concat());
    bytes
}

fn no_session() -> Vec<u8> {
    field(7, &field(2, b"x"))
}

/// R-MTP.4b. An enumeration's 0 is what proto3 sends by saying nothing.
#[test]
fn every_required_field_of_every_kind_of_record_is_sent() {
    let number = |field: u8, value: u8| vec![field << 3, value];
    let context = SessionContext {
        session_id: 7,
        sequence_id: 1,
        expected_id: 1,
        retransmit_id: 0,
        payload_sar_state: PayloadSarState::None,
        payloadrec_sar_state: PayloadSarState::None,
        payload: Vec::new(),
    };
    let inside = [number(1, 7), number(2, 1), number(3, 1)].concat();
    let v5 = [number(1, 1), field(2, b"t")].concat();
    let (topic, destination) = ("t".to_owned(), "d".to_owned());
    let cases = [
        (
            RecordBody::NoSession(b"m".to_vec()),
            field(7, &field(2, b"m")),
        ),
        (RecordBody::Session(context), field(8, &inside)),
        (RecordBody::WebSocketConnect, field(9, b"")),
        (
            RecordBody::MqttConnect {
                version: MqttVersion::V5,
                topic,
            },
            field(10, &v5),
        ),
        (
            RecordBody::StompConnect { destination },
            field(11, &field(2, b"d")),
        ),
        (RecordBody::UdsConnect, field(13, b"")),
    ];
    let (to, from) = (agent(), controller());
    for (body, sent) in cases {
        let record = Record::with(to.clone(), from.clone(), body);
        let expected = raw("1.4", to.as_str(), from.as_str(), &[sent]);
        assert_eq!(record.encode(), expected, "{:?}", record.body);
    }
}

#[test]
fn every_kind_of_record_round_trips() {
    for record in records() {
        assert_eq!(Record::decode(&record.encode()).unwrap(), record);
    }
    let plain = Record::no_session(agent(), controller(), vec![9]);
    assert_eq!(
        (plain.message(), plain.version.as_str()),
        (Some(&[9_u8][..]), "1.4")
    );
    assert_eq!((plain.to_id(), plain.from_id()), (&agent(), &controller()));
    let bye = Record::disconnect(
        agent(),
        controller(),
        ErrorCode::SESSION_CONTEXT_TERMINATED,
        "bye",
    );
    assert_eq!(
        Record::decode(&bye.encode()).unwrap().body,
        RecordBody::Disconnect {
            reason: "bye".into(),
            code: 7105
        }
    );
    assert_eq!(bye.message(), None);
}

#[test]
fn a_record_with_no_or_several_types_is_discarded() {
    let (to, from) = ("self::a", "self::b");
    for (rest, count) in [
        (vec![], 0),
        (vec![no_session(), no_session()], 2),
        (vec![no_session(), field(9, b"")], 2),
        (vec![no_session(), field(12, b""), field(13, b"")], 3),
    ] {
        let error = Record::decode(&raw("1.4", to, from, &rest)).unwrap_err();
        assert_eq!(
            error.kind,
            RecordErrorKind::Wire(WireError::OneOf {
                name: "Record",
                count
            })
        );
        assert_eq!(error.code(), None);
    }
    let error = Record::decode(&raw("1.4", to, from, &[vec![0x72, 0]])).unwrap_err();
    assert_eq!(
        error.kind,
        RecordErrorKind::Wire(WireError::Unknown {
            name: "Record",
            field: 14
        })
    );
}

#[test]
fn an_unreadable_record_is_7100_and_a_wrong_value_7104() {
    for bytes in [
        &b"\xff"[..],
        b"\x0a",
        b"\x0a\x05ab",
        b"\x00",
        b"\x0b\x0c",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ] {
        let error = Record::decode(bytes).unwrap_err();
        assert!(
            matches!(error.kind, RecordErrorKind::Wire(WireError::Malformed(_))),
            "{error:?}"
        );
        assert_eq!(error.code(), Some(ErrorCode::RECORD_NOT_PARSED));
    }
    let bad_text = raw(
        "1.4",
        "self::a",
        "self::b",
        &[no_session(), field(1, b"\xff")],
    );
    let error = Record::decode(&bad_text).unwrap_err();
    assert!(matches!(error.kind, RecordErrorKind::Decode(_)));
    assert_eq!(error.code(), Some(ErrorCode::RECORD_NOT_PARSED));
    for (bytes, shown) in [
        (
            raw("2.0", "self::a", "self::b", &[no_session()]),
            "version \"2.0\" is not 1.x",
        ),
        (
            raw("1.", "self::a", "self::b", &[no_session()]),
            "version \"1.\" is not 1.x",
        ),
        (
            raw("", "self::a", "self::b", &[no_session()]),
            "version \"\" is not 1.x",
        ),
        (
            raw("1.4", "self::a", "self::a", &[no_session()]),
            "from_id and to_id are the same",
        ),
        (
            raw("1.4", "", "self::a", &[no_session()]),
            "to_id \"\": an Endpoint ID is scheme:authority:instance, the authority may be empty",
        ),
        (
            raw("1.4", "self::a", "mac::b", &[no_session()]),
            "from_id \"mac::b\": unknown authority-scheme",
        ),
        (
            raw("1.4", "self::a", "self::b", &[field(7, b"")]),
            "no payload",
        ),
        (
            raw("1.4", "self::a", "self::b", &[no_session(), vec![0x20, 2]]),
            "payload_security has the unknown value 2",
        ),
        (
            raw("1.4", "self::a", "self::b", &[field(8, &[0x28, 9])]),
            "payload_sar_state has the unknown value 9",
        ),
        (
            raw("1.4", "self::a", "self::b", &[field(10, &[8, 7])]),
            "version has the unknown value 7",
        ),
        (
            raw("1.4", "self::a", "self::b", &[field(11, &[8, 1])]),
            "version has the unknown value 1",
        ),
    ] {
        let error = Record::decode(&bytes).unwrap_err();
        assert_eq!(error.to_string(), shown);
        assert_eq!(error.code(), Some(ErrorCode::INVALID_RECORD_VALUE));
    }
    assert!(Record::decode(&raw("1.99", "self::a", "self::b", &[no_session()])).is_ok());
}

#[test]
fn a_wrong_record_keeps_what_an_answer_needs() {
    let error = Record::decode(&raw("2.0", "self::a", "self::b", &[no_session()])).unwrap_err();
    let id = |text: &str| text.parse::<EndpointId>().unwrap();
    assert_eq!(
        (error.to_id(), error.from_id()),
        (Some(&id("self::a")), Some(&id("self::b")))
    );
    assert_eq!(error.payload(), Some(&b"x"[..]));
    let error = Record::decode(&raw("1.4", "nobody", "self::b", &[no_session()])).unwrap_err();
    assert_eq!(
        (error.to_id(), error.from_id()),
        (None, Some(&id("self::b")))
    );
}

#[test]
fn a_record_is_measured_before_it_is_decoded() {
    let record = Record::no_session(agent(), controller(), vec![0; 100]).encode();
    let error = Record::decode_within(&record, 99).unwrap_err();
    assert_eq!(
        error.kind,
        RecordErrorKind::TooLarge {
            length: record.len(),
            max: 99
        }
    );
    assert_eq!(error.code(), Some(ErrorCode::RESOURCES_EXCEEDED));
    assert!(Record::decode_within(&record, record.len()).is_ok());
    assert!(Record::decode(&vec![0; MAX_RECORD + 1]).is_err());
}

proptest! {
    #[test]
    fn any_payload_round_trips(payload in prop::collection::vec(any::<u8>(), 1..600), signature in prop::collection::vec(any::<u8>(), 0..80)) {
        let record = Record { mac_signature: signature, ..Record::no_session(agent(), controller(), payload) };
        prop_assert_eq!(Record::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn any_bytes_are_a_record_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(record) = Record::decode(&bytes) {
            prop_assert_eq!(Record::decode(&record.encode()), Ok(record));
        }
    }
}
