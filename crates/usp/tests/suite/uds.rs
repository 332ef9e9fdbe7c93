//! UNIX domain sockets: the handshake, the session and its refusals, R-UDS.

use std::time::{Duration, Instant};

use homefleet_usp::{
    EndpointId, Record,
    endpoint::EndpointIdError,
    mtp::uds::{
        CloseReason, Config, Decoder, Event, Frame, FrameError, SendError, Session, Tlv,
        frame::{ERROR, HANDSHAKE, RECORD},
    },
    record::{RecordBody, RecordErrorKind},
};

use crate::{
    record::field,
    samples::{agent, controller, start},
};

/// An agent as client and a controller as server, on one connection.
struct Pair {
    now: Instant,
    client: Session,
    server: Session,
}

fn frames(session: &mut Session) -> Vec<Frame> {
    let mut decoder = Decoder::new(1 << 20);
    while let Some(bytes) = session.poll_transmit() {
        decoder.push(&bytes);
    }
    std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
}

fn events(session: &mut Session) -> Vec<Event> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

impl Pair {
    fn new() -> Self {
        let now = start();
        Self {
            now,
            client: Session::client(now, agent(), Config::default()),
            server: Session::server(now, controller(), Config::default()),
        }
    }

    fn open() -> Self {
        let mut pair = Self::new();
        pair.deliver();
        assert_eq!(
            events(&mut pair.client),
            [Event::Open { peer: controller() }]
        );
        assert_eq!(events(&mut pair.server), [Event::Open { peer: agent() }]);
        pair
    }

    fn deliver(&mut self) {
        loop {
            if let Some(bytes) = self.client.poll_transmit() {
                self.server.handle_input(&bytes);
            } else if let Some(bytes) = self.server.poll_transmit() {
                self.client.handle_input(&bytes);
            } else {
                break;
            }
        }
    }
}

fn connect() -> Record {
    Record::with(controller(), agent(), RecordBody::UdsConnect)
}

/// The session said why in an Error, closed for this reason, and is silent from now on.
fn assert_failed(session: &mut Session, reason: CloseReason) {
    let text = reason.to_string();
    assert_eq!(frames(session), [Frame::one(ERROR, text)]);
    assert_eq!(events(session), [Event::Closed(reason)]);
    assert_eq!(session.poll_timeout(), None);
    session.handle_input(&Frame::one(HANDSHAKE, agent().as_str()).encode());
    session.close();
    assert_eq!((frames(session), events(session)), (vec![], vec![]));
    assert_eq!(session.send(&connect()), Err(SendError::NotOpen));
}

#[test]
fn the_client_names_itself_first_and_the_server_after_it() {
    let mut pair = Pair::new();
    assert_eq!(pair.server.poll_transmit(), None);
    let hello = Frame::one(HANDSHAKE, agent().as_str());
    assert_eq!(frames(&mut pair.client), std::slice::from_ref(&hello));
    pair.server.handle_input(&hello.encode());
    let answer = Frame::one(HANDSHAKE, controller().as_str());
    assert_eq!(frames(&mut pair.server), std::slice::from_ref(&answer));
    assert_eq!(pair.server.peer(), Some(&agent()));
    assert_eq!(pair.client.peer(), None);
    pair.client.handle_input(&answer.encode());
    assert_eq!(pair.client.peer(), Some(&controller()));
    assert_eq!(pair.client.poll_transmit(), None);
    assert_eq!(
        (pair.client.poll_timeout(), pair.server.poll_timeout()),
        (None, None)
    );
}

#[test]
fn records_go_both_ways_in_record_tlvs() {
    let mut pair = Pair::open();
    let record = Record::no_session(agent(), controller(), vec![1; 70_000]);
    pair.server.send(&record).unwrap();
    assert_eq!(
        frames(&mut pair.server),
        [Frame::one(RECORD, record.encode())]
    );
    pair.client.send(&connect()).unwrap();
    pair.server.send(&record).unwrap();
    pair.deliver();
    assert_eq!(events(&mut pair.client), [Event::Record(record)]);
    assert_eq!(events(&mut pair.server), [Event::Record(connect())]);
    assert_eq!(
        (
            pair.server.stats().records_in,
            pair.server.stats().records_out
        ),
        (1, 2)
    );
}

#[test]
fn a_record_that_is_encoded_already_is_sent_as_it_is() {
    let mut pair = Pair::open();
    let bytes = connect().encode();
    pair.client.send_encoded(bytes.clone()).unwrap();
    assert_eq!(frames(&mut pair.client), [Frame::one(RECORD, bytes)]);
    let large = vec![0; Config::default().max_record + 1];
    assert!(matches!(
        pair.client.send_encoded(large),
        Err(SendError::TooLarge { .. })
    ));
    assert_eq!(frames(&mut pair.client), []);
}

#[test]
fn who_drives_it_can_refuse_the_other_side_with_an_error_that_says_why() {
    let mut pair = Pair::open();
    pair.server.refuse("another session has this Endpoint ID");
    let reason = CloseReason::Refused("another session has this Endpoint ID".to_owned());
    assert_failed(&mut pair.server, reason);
    pair.server.refuse("once more");
    assert_eq!(frames(&mut pair.server), []);
}

#[test]
fn no_handshake_within_30_seconds_ends_the_session_with_an_error() {
    let mut pair = Pair::new();
    assert_eq!(frames(&mut pair.client).len(), 1);
    for session in [&mut pair.client, &mut pair.server] {
        let due = pair.now + Duration::from_secs(30);
        assert_eq!(session.poll_timeout(), Some(due));
        session.handle_timeout(due - Duration::from_millis(1));
        assert_eq!(events(session), []);
        session.handle_timeout(due);
        assert_failed(session, CloseReason::HandshakeTimeout);
    }
}

#[test]
fn a_record_before_the_handshake_is_ignored_and_not_sent() {
    let mut pair = Pair::new();
    let early = Frame::one(RECORD, connect().encode());
    let with_handshake = Frame {
        tlvs: vec![
            Tlv {
                kind: HANDSHAKE,
                value: agent().as_str().into(),
            },
            early.tlvs[0].clone(),
        ],
    };
    pair.server.handle_input(&early.encode());
    pair.server.handle_input(&with_handshake.encode());
    assert_eq!(events(&mut pair.server), []);
    assert_eq!(pair.server.stats().early_records, 2);
    assert_eq!(pair.client.send(&connect()), Err(SendError::NotOpen));
    pair.deliver();
    assert_eq!(events(&mut pair.server), [Event::Open { peer: agent() }]);
}

#[test]
fn a_handshake_after_the_handshake_is_ignored() {
    let mut pair = Pair::open();
    let other = Frame::one(HANDSHAKE, "self::another").encode();
    pair.server.handle_input(&other);
    pair.client.handle_input(&other);
    for session in [&mut pair.client, &mut pair.server] {
        assert_eq!((events(session), frames(session)), (vec![], vec![]));
        assert_eq!(session.stats().late_handshakes, 1);
    }
    assert_eq!(pair.server.peer(), Some(&agent()));
}

#[test]
fn a_handshake_that_names_no_other_endpoint_is_answered_with_an_error() {
    for (names, reason) in [
        (
            vec![&b""[..]],
            CloseReason::HandshakeEndpoint(EndpointIdError::Form),
        ),
        (
            vec![b"\xff\xff"],
            CloseReason::HandshakeEndpoint(EndpointIdError::Form),
        ),
        (
            vec![b"mac::1"],
            CloseReason::HandshakeEndpoint(EndpointIdError::Scheme),
        ),
        (
            vec![controller().as_str().as_bytes()],
            CloseReason::HandshakeSelf,
        ),
        (vec![b"self::a", b"self::b"], CloseReason::HandshakeTwice),
    ] {
        let mut server = Pair::new().server;
        let tlvs = names
            .iter()
            .map(|name| Tlv {
                kind: HANDSHAKE,
                value: name.to_vec(),
            })
            .collect();
        server.handle_input(&Frame { tlvs }.encode());
        assert_failed(&mut server, reason);
    }
}

#[test]
fn tlvs_of_unknown_types_are_ignored() {
    let mut pair = Pair::new();
    let unknown = Tlv {
        kind: 0,
        value: vec![1, 2],
    };
    let hello = Tlv {
        kind: HANDSHAKE,
        value: agent().as_str().into(),
    };
    pair.server.handle_input(
        &Frame {
            tlvs: vec![
                unknown.clone(),
                hello,
                Tlv {
                    kind: 255,
                    value: vec![],
                },
            ],
        }
        .encode(),
    );
    assert_eq!(events(&mut pair.server), [Event::Open { peer: agent() }]);
    pair.server.handle_input(
        &Frame {
            tlvs: vec![unknown.clone()],
        }
        .encode(),
    );
    let record = Tlv {
        kind: RECORD,
        value: connect().encode(),
    };
    pair.server.handle_input(
        &Frame {
            tlvs: vec![record, unknown],
        }
        .encode(),
    );
    assert_eq!(events(&mut pair.server), [Event::Record(connect())]);
    assert_eq!(pair.server.stats().unknown_tlvs, 4);
}

#[test]
fn an_undecodable_record_is_answered_with_an_error_and_ends_the_session() {
    for bytes in [&b"\xff"[..], b"this is text"] {
        let error = Record::decode(bytes).unwrap_err();
        let mut pair = Pair::open();
        pair.server
            .handle_input(&Frame::one(RECORD, bytes).encode());
        assert_failed(&mut pair.server, CloseReason::Record(error));
    }
}

#[test]
fn a_record_over_the_limit_is_answered_with_an_error_and_not_sent() {
    let config = Config {
        max_record: 200,
        max_frame: 1000,
        ..Config::default()
    };
    let mut server = Session::server(start(), controller(), config);
    server.handle_input(&Frame::one(HANDSHAKE, agent().as_str()).encode());
    assert_eq!(frames(&mut server).len(), 1);
    assert_eq!(events(&mut server).len(), 1);
    let record = Record::no_session(controller(), agent(), vec![0; 200]);
    let length = record.encode().len();
    assert_eq!(
        server.send(&record),
        Err(SendError::TooLarge { length, max: 200 })
    );
    server.handle_input(&Frame::one(RECORD, record.encode()).encode());
    let error = Record::decode_within(&record.encode(), 200).unwrap_err();
    assert_eq!(error.kind, RecordErrorKind::TooLarge { length, max: 200 });
    assert_failed(&mut server, CloseReason::Record(error));
}

#[test]
fn a_record_with_a_wrong_value_is_handed_on_and_the_session_stays() {
    let mut pair = Pair::open();
    let id = |number, id: EndpointId| field(number, id.as_str().as_bytes());
    let bytes = [
        field(1, b"2.0"),
        id(2, controller()),
        id(3, agent()),
        field(7, &field(2, b"x")),
    ]
    .concat();
    let error = Record::decode(&bytes).unwrap_err();
    pair.server
        .handle_input(&Frame::one(RECORD, bytes).encode());
    assert_eq!(events(&mut pair.server), [Event::Erroneous(error)]);
    assert_eq!(
        (pair.server.stats().erroneous_records, pair.server.peer()),
        (1, Some(&agent()))
    );
}

#[test]
fn a_record_in_the_name_of_another_endpoint_is_dropped() {
    let mut pair = Pair::open();
    let forged = Record::no_session(controller(), "self::x".parse().unwrap(), vec![1]);
    pair.server
        .handle_input(&Frame::one(RECORD, forged.encode()).encode());
    let wrong = [
        field(1, b"2.0"),
        field(2, controller().as_str().as_bytes()),
        field(3, b"self::x"),
        field(7, &field(2, b"x")),
    ]
    .concat();
    pair.server
        .handle_input(&Frame::one(RECORD, wrong).encode());
    assert_eq!(
        (events(&mut pair.server), frames(&mut pair.server)),
        (vec![], vec![])
    );
    assert_eq!(pair.server.stats().forged_records, 2);
}

#[test]
fn bytes_that_are_no_frame_are_answered_with_an_error() {
    let mut pair = Pair::open();
    pair.server.handle_input(b"GET / HTTP/1.1\r\n");
    assert_failed(&mut pair.server, CloseReason::Frame(FrameError::Sync(0)));
    pair.client.handle_input(b"_USP\0\0\0\x02\x03\0");
    assert_failed(
        &mut pair.client,
        CloseReason::Frame(FrameError::Truncated(0)),
    );
}

#[test]
fn an_error_received_ends_the_session_without_an_answer() {
    for open in [false, true] {
        let mut pair = if open { Pair::open() } else { Pair::new() };
        let long = format!("full\n{}", "é".repeat(300));
        pair.server.handle_input(&Frame::one(ERROR, long).encode());
        assert_eq!(frames(&mut pair.server), []);
        let Some(Event::Closed(CloseReason::Peer(text))) = pair.server.poll_event() else {
            panic!("closed by the other side");
        };
        assert!(text.starts_with("full é") && text.len() <= 256);
        assert_eq!(pair.server.poll_timeout(), None);
    }
}

#[test]
fn records_after_the_end_in_the_same_bytes_are_not_handed_on() {
    let mut pair = Pair::open();
    let record = Frame::one(RECORD, connect().encode()).encode();
    let error = Frame::one(ERROR, "bye").encode();
    pair.server
        .handle_input(&[record.clone(), error, record].concat());
    assert_eq!(
        events(&mut pair.server),
        [
            Event::Record(connect()),
            Event::Closed(CloseReason::Peer("bye".into()))
        ]
    );
}

#[test]
fn several_records_in_a_frame_are_taken_up_to_the_first_undecodable_one() {
    let mut pair = Pair::open();
    let tlv = |value: Vec<u8>| Tlv {
        kind: RECORD,
        value,
    };
    let tlvs = [
        connect().encode(),
        connect().encode(),
        vec![0xFF],
        connect().encode(),
    ];
    let frame = Frame {
        tlvs: tlvs.map(tlv).to_vec(),
    };
    pair.server.handle_input(&frame.encode());
    let error = Record::decode(b"\xff").unwrap_err();
    assert_eq!(
        events(&mut pair.server),
        [
            Event::Record(connect()),
            Event::Record(connect()),
            Event::Closed(CloseReason::Record(error)),
        ]
    );
    assert_eq!(frames(&mut pair.server).len(), 1);
}

#[test]
fn a_slow_reader_makes_sending_fail_and_not_the_memory_grow() {
    let mut pair = Pair::new();
    pair.client = Session::client(
        pair.now,
        agent(),
        Config {
            max_queued: 1000,
            ..Config::default()
        },
    );
    pair.deliver();
    let record = Record::no_session(controller(), agent(), vec![0; 400]);
    assert_eq!(pair.client.send(&record), Ok(()));
    assert_eq!(pair.client.send(&record), Ok(()));
    assert_eq!(pair.client.send(&record), Err(SendError::Full));
    assert_eq!(pair.client.stats().refused_full, 1);
    assert!(pair.client.poll_transmit().is_some());
    assert_eq!(pair.client.send(&record), Ok(()));
    while pair.client.poll_transmit().is_some() {}
    let large = Record::no_session(controller(), agent(), vec![0; 4000]);
    assert_eq!(pair.client.send(&large), Ok(()), "one always has room");
    assert_eq!(pair.client.send(&record), Err(SendError::Full));
}

#[test]
fn closing_and_losing_the_connection_are_told_once() {
    let mut pair = Pair::open();
    pair.client.close();
    pair.client.handle_disconnect();
    assert_eq!(
        events(&mut pair.client),
        [Event::Closed(CloseReason::Local)]
    );
    pair.server.handle_disconnect();
    pair.server.handle_disconnect();
    assert_eq!(events(&mut pair.server), [Event::Closed(CloseReason::Lost)]);
}
