//! Message deduplication (RFC 7252 §4.5).

use std::time::Duration;

use homefleet_coap::{Code, Message, Peer, Response, SessionId, Type};

use crate::support::{MessageExt, Solo, body, message, peer};

fn post(id: u16) -> Message {
    message(Type::Confirmable, Code::POST, id, &[1, 2, 3, 4])
        .path("usp")
        .body("record")
}

#[test]
fn a_repeated_con_gets_the_same_answer_and_the_handler_runs_once() {
    let mut solo = Solo::new();
    let answer = solo.serve(&post(7), Response::new(Code::CHANGED));
    for _ in 0..5 {
        assert_eq!(solo.ask(&post(7)), answer);
        solo.advance(Duration::from_secs(40));
    }
    assert!(solo.take_request().is_none());
    assert_eq!(solo.endpoint.stats().duplicates_replayed, 5);
    assert_eq!(solo.endpoint.stats().requests_delivered, 1);
}

#[test]
fn a_long_answer_is_replayed_in_full() {
    let mut solo = Solo::new();
    let response = Response::content(0, body(900, 1));
    let answer = solo.serve(&post(7), response);
    assert_eq!(answer.payload, body(900, 1));
    assert_eq!(solo.ask(&post(7)), answer);
}

#[test]
fn a_repeated_con_without_answer_yet_is_ignored() {
    let mut solo = Solo::new();
    assert_eq!(solo.send(&post(7)), []);
    assert_eq!(solo.send(&post(7)), []);
    let exchange = solo.got().exchange;
    assert!(solo.take_request().is_none());
    let answer = solo.respond(exchange, Response::new(Code::CHANGED));
    assert_eq!(solo.send(&post(7)), answer);
    assert_eq!(solo.endpoint.stats().duplicates_ignored, 1);
}

#[test]
fn a_repeated_con_after_the_empty_ack_gets_the_empty_ack() {
    let mut solo = Solo::new();
    assert_eq!(solo.send(&post(7)), []);
    let acks = solo.advance(Duration::from_millis(500));
    let empty = Message::empty(Type::Acknowledgement, 7);
    assert_eq!(acks, std::slice::from_ref(&empty));
    assert_eq!(solo.ask(&post(7)), empty);
    let exchange = solo.got().exchange;
    let sent = solo.respond(exchange, Response::new(Code::CHANGED));
    assert_eq!(
        (sent[0].kind, sent[0].code),
        (Type::Confirmable, Code::CHANGED)
    );
    assert_eq!(solo.ask(&post(7)), empty);
}

#[test]
fn a_repeated_non_is_ignored() {
    let mut solo = Solo::new();
    let ask = message(Type::NonConfirmable, Code::POST, 7, &[1]).path("usp");
    solo.serve(&ask, Response::new(Code::CHANGED));
    assert_eq!(solo.send(&ask), []);
    assert!(solo.take_request().is_none());
    assert_eq!(solo.endpoint.stats().duplicates_ignored, 1);
}

#[test]
fn refusals_are_replayed_too() {
    let mut solo = Solo::new();
    let ask = post(7).option(65_001, b"?");
    let refusal = solo.ask(&ask);
    assert_eq!(refusal.code, Code::BAD_OPTION);
    assert_eq!(solo.ask(&ask), refusal);
    assert_eq!(solo.endpoint.stats().bad_options, 1);
}

#[test]
fn the_same_id_from_another_peer_is_another_message() {
    let mut solo = Solo::new();
    solo.serve(&post(7), Response::new(Code::CHANGED));
    solo.peer = peer(40_001);
    solo.serve(&post(7), Response::new(Code::CREATED));
    assert_eq!(solo.endpoint.stats().requests_delivered, 2);
}

#[test]
fn an_id_is_free_again_after_its_lifetime() {
    for (kind, lifetime) in [(Type::Confirmable, 247), (Type::NonConfirmable, 145)] {
        let mut solo = Solo::new();
        let mut ask = post(7);
        ask.kind = kind;
        solo.serve(&ask, Response::new(Code::CHANGED));
        solo.advance(Duration::from_secs(lifetime - 1));
        solo.send(&ask);
        assert!(solo.take_request().is_none(), "{kind:?} still known");
        solo.advance(Duration::from_secs(3));
        solo.send(&ask);
        assert!(solo.take_request().is_some(), "{kind:?} forgotten");
    }
}

#[test]
fn an_id_reused_early_with_another_token_is_a_new_message() {
    let mut solo = Solo::new();
    solo.serve(&post(7), Response::new(Code::CHANGED));
    let mut other = post(7);
    other.token = crate::support::token(&[9, 9, 9, 9]);
    let answer = solo.serve(&other, Response::new(Code::CREATED));
    assert_eq!((answer.code, answer.token), (Code::CREATED, other.token));
}

#[test]
fn the_memory_is_bounded_per_peer() {
    let mut solo = Solo::with(|config| config.dedup_per_peer = 8);
    for id in 0..20 {
        solo.serve(&post(id), Response::new(Code::CHANGED));
    }
    assert_eq!(solo.endpoint.stats().dedup_evicted, 12);
    assert_eq!(solo.send(&post(19)).len(), 1, "the newest are known");
    assert_eq!(solo.send(&post(12)).len(), 1);
    assert_eq!(solo.send(&post(11)), [], "the oldest are not");
    assert!(solo.take_request().is_some());
}

#[test]
fn the_memory_is_bounded_over_all_peers() {
    let mut solo = Solo::with(|config| config.dedup_total = 10);
    for port in 0..25 {
        solo.peer = peer(1000 + port);
        solo.serve(&post(1), Response::new(Code::CHANGED));
    }
    assert_eq!(
        solo.endpoint.peer_count(),
        10,
        "forgotten peers cost nothing"
    );
    assert_eq!(solo.endpoint.stats().dedup_evicted, 15);
}

#[test]
fn the_bytes_of_remembered_answers_are_bounded() {
    let mut solo = Solo::with(|config| config.dedup_bytes = 5000);
    for port in 0..25 {
        solo.peer = peer(1000 + port);
        solo.serve(&post(1), Response::content(0, body(1000, 0)));
    }
    assert_eq!(solo.endpoint.stats().dedup_evicted, 21);
}

#[test]
fn everything_is_forgotten_in_time() {
    let mut solo = Solo::new();
    for port in 0..25 {
        solo.peer = peer(1000 + port);
        for id in 0..10 {
            solo.serve(&post(id), Response::new(Code::CHANGED));
        }
    }
    assert_eq!(solo.endpoint.peer_count(), 25);
    solo.advance(Duration::from_secs(250));
    assert_eq!(solo.endpoint.peer_count(), 0);
    assert_eq!(solo.endpoint.poll_timeout(), None);
}

#[test]
fn a_quick_answer_leaves_no_wake_up_behind() {
    let mut solo = Solo::new();
    solo.serve(&post(7), Response::new(Code::CHANGED));
    let wake = solo.endpoint.poll_timeout().unwrap() - solo.now;
    assert!(
        wake >= Duration::from_secs(240),
        "only forgetting is due: {wake:?}"
    );
}

#[test]
fn a_flood_without_security_makes_no_authenticated_peer_forgotten() {
    for (total, bytes) in [(100, 64 << 20), (1 << 19, 2000)] {
        let mut solo = Solo::with(|config| {
            config.dedup_total = total;
            config.dedup_bytes = bytes;
        });
        solo.peer = Peer::secure(peer(5684).addr, SessionId(1));
        let answer = solo.serve(&post(7), Response::content(0, body(100, 1)));
        for port in 10_000..10_500 {
            solo.peer = peer(port);
            solo.serve(&post(7), Response::content(0, body(100, 1)));
        }
        assert!(solo.endpoint.peer_count() <= 101);
        assert!(solo.endpoint.stats().dedup_evicted >= 400);
        solo.peer = Peer::secure(peer(5684).addr, SessionId(1));
        assert_eq!(solo.ask(&post(7)), answer);
        assert!(solo.take_request().is_none());
        solo.advance(Duration::from_secs(1000));
        assert_eq!(solo.endpoint.peer_count(), 0);
        assert_eq!(solo.endpoint.poll_timeout(), None);
    }
}

#[test]
fn a_full_memory_of_authenticated_peers_still_serves_one_without_security() {
    let mut solo = Solo::with(|config| config.dedup_total = 10);
    for n in 1..=20 {
        solo.peer = Peer::secure(peer(5684).addr, SessionId(n));
        solo.serve(&post(7), Response::new(Code::CHANGED));
    }
    for port in 10_000..10_010 {
        solo.peer = peer(port);
        let answer = solo.serve(&post(7), Response::new(Code::CHANGED));
        assert_eq!(solo.ask(&post(7)), answer);
    }
    for n in 12..=20 {
        solo.peer = Peer::secure(peer(5684).addr, SessionId(n));
        assert_eq!(solo.ask(&post(7)).code, Code::CHANGED);
    }
}

#[test]
fn an_answer_that_cannot_be_remembered_is_sent_all_the_same() {
    let mut solo = Solo::with(|config| config.dedup_bytes = 0);
    let answer = solo.serve(&post(7), Response::content(0, body(100, 1)));
    assert_eq!(answer.payload, body(100, 1));
}
