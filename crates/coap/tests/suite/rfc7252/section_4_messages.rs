//! Messages, acknowledgement and rejection (RFC 7252 §4.1 to §4.3).

use homefleet_coap::{Code, Event, Message, Request, RequestError, Response, Type};

use crate::support::{MessageExt, Solo, message};

#[test]
fn ping_is_answered_with_rst() {
    let mut solo = Solo::new();
    let sent = solo.empty(Type::Confirmable, 0x1234);
    assert_eq!(sent, [Message::empty(Type::Reset, 0x1234)]);
    assert_eq!(solo.endpoint.stats().pings, 1);
    assert!(solo.events.is_empty());
}

#[test]
fn another_version_is_ignored() {
    let mut solo = Solo::new();
    for version in [0u8, 2, 3] {
        assert_eq!(solo.input(&[version << 6, 1, 0, 1]), []);
    }
    assert_eq!(solo.endpoint.stats().version_ignored, 3);
    assert_eq!(solo.endpoint.stats().format_errors, 0);
}

#[test]
fn confirmable_format_errors_are_rejected_with_rst() {
    let mut solo = Solo::new();
    let datagrams: [&[u8]; 7] = [
        &[0x40, 1, 0, 9, 0xff],
        &[0x49, 1, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        &[0x40, 0, 0, 9, 0xff, 1],
        &[0x40, 0x25, 0, 9],
        &[0x40, 0xc5, 0, 9],
        &[0x40, 1, 0, 9, 0xb9, 1],
        &[0x40, 1, 0, 9, 0xf0],
    ];
    for datagram in datagrams {
        assert_eq!(solo.input(datagram), [Message::empty(Type::Reset, 9)]);
    }
    assert_eq!(solo.endpoint.stats().format_errors, 7);
    assert!(solo.events.is_empty());
}

#[test]
fn other_format_errors_are_ignored() {
    let mut solo = Solo::new();
    let datagrams: [&[u8]; 6] = [
        &[0x40, 1, 0],
        &[0x50, 1, 0, 9, 0xff],
        &[0x60, 1, 0, 9],
        &[0x70, 0x45, 0, 9],
        &[0x50, 0, 0, 9],
        &[0x50, 0x25, 0, 9],
    ];
    for datagram in datagrams {
        assert_eq!(solo.input(datagram), []);
    }
    assert_eq!(solo.endpoint.stats().format_errors, 6);
}

#[test]
fn acks_and_resets_for_nothing_are_counted_only() {
    let mut solo = Solo::new();
    assert_eq!(solo.empty(Type::Acknowledgement, 5), []);
    assert_eq!(solo.empty(Type::Reset, 5), []);
    let response = message(Type::Acknowledgement, Code::CONTENT, 5, &[1]);
    assert_eq!(solo.send(&response), []);
    let stats = solo.endpoint.stats();
    assert_eq!((stats.unmatched_replies, stats.unmatched_responses), (2, 1));
    assert_eq!(solo.endpoint.peer_count(), 0);
}

#[test]
fn rst_to_a_request_fails_it_at_once() {
    let mut solo = Solo::new();
    let (id, sent) = solo.request(Request::get("x"));
    solo.empty(Type::Reset, sent[0].id);
    let error = RequestError::Reset;
    assert_eq!(solo.take_event(), Some(Event::Failed { id, error }));
}

#[test]
fn rst_to_a_non_confirmable_request_fails_it() {
    let mut solo = Solo::new();
    let (id, sent) = solo.request(Request::get("x").non_confirmable());
    assert_eq!(sent[0].kind, Type::NonConfirmable);
    solo.empty(Type::Reset, sent[0].id);
    let error = RequestError::Reset;
    assert_eq!(solo.take_event(), Some(Event::Failed { id, error }));
}

#[test]
fn non_confirmable_request_gets_a_non_confirmable_response() {
    let mut solo = Solo::new();
    let ask = message(Type::NonConfirmable, Code::GET, 7, &[1, 2]).path("x");
    let answer = solo.serve(&ask, Response::new(Code::CONTENT).payload("hi"));
    assert_eq!(answer.kind, Type::NonConfirmable);
    assert_eq!(answer.token, ask.token);
    assert_eq!(answer.payload, b"hi");
}

#[test]
fn confirmable_request_is_answered_in_its_ack() {
    let mut solo = Solo::new();
    let ask = message(Type::Confirmable, Code::POST, 7, &[1, 2, 3])
        .path("usp")
        .option(12, &[42])
        .option(15, b"reply-to=coaps://a/usp")
        .body("record");
    assert!(solo.send(&ask).is_empty());
    let got = solo.got();
    assert_eq!(got.from, solo.peer);
    assert_eq!(got.request.code, Code::POST);
    assert!(got.request.confirmable);
    assert_eq!(got.request.options.path(), "usp");
    assert_eq!(got.request.options.content_format(), Some(42));
    assert_eq!(got.request.options.query("reply-to"), Some("coaps://a/usp"));
    assert_eq!(got.request.payload, b"record");
    let sent = solo.respond(got.exchange, Response::new(Code::CHANGED));
    assert_eq!(sent, [Solo::ack(&ask, Code::CHANGED)]);
}
