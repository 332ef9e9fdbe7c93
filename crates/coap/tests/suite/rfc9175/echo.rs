//! The Echo option for freshness (section 2.3), on both sides.

use std::time::Duration;

use homefleet_coap::{
    Code, Event, ExchangeId, Message, Peer, Request, Response, SessionId, Type, number,
};

use crate::support::{MessageExt, Network, Pair, Side, Solo, body, message, peer};

fn secure(session: u64) -> Peer {
    Peer::secure(peer(7).addr, SessionId(session))
}

fn solo() -> Solo {
    let mut solo = Solo::new();
    solo.peer = secure(1);
    solo
}

fn unlock(id: u16, echo: Option<&[u8]>) -> Message {
    let ask = message(Type::Confirmable, Code::PUT, id, &id.to_be_bytes()).path("lock");
    match echo {
        Some(echo) => ask.option(number::ECHO, echo),
        None => ask,
    }
}

/// A value for the peer.
fn challenged(solo: &mut Solo, id: u16) -> Vec<u8> {
    solo.send(&unlock(id, None));
    let exchange = solo.got().exchange;
    solo.endpoint.challenge(solo.now, exchange).unwrap();
    let answer = solo.drain().remove(0);
    assert_eq!(answer.code, Code::UNAUTHORIZED);
    answer.options.first(number::ECHO).unwrap().to_vec()
}

fn asked(solo: &mut Solo, message: &Message) -> ExchangeId {
    solo.send(message);
    solo.got().exchange
}

#[test]
fn a_request_is_as_old_as_its_echo_value_at_most() {
    let mut solo = solo();
    let echo = challenged(&mut solo, 1);
    assert_eq!(echo.len(), 8);
    for (id, seconds, slices) in [(2, 0, 1), (3, 20, 3), (4, 25, 7), (5, 7, 7)] {
        solo.advance(Duration::from_secs(seconds));
        let exchange = asked(&mut solo, &unlock(id, Some(&echo)));
        let age = solo.endpoint.echo_age(exchange);
        assert_eq!(age, Some(Duration::from_millis(7500 * slices)), "{id}");
    }
    solo.advance(Duration::from_secs(8));
    let exchange = asked(&mut solo, &unlock(6, Some(&echo)));
    assert_eq!(solo.endpoint.echo_age(exchange), None);
    assert_eq!(solo.endpoint.stats().echoes_invalid, 1);
}

#[test]
fn no_value_but_the_peers_own_counts() {
    let mut solo = solo();
    let echo = challenged(&mut solo, 1);
    let mut flipped = echo.clone();
    flipped[7] ^= 1;
    for (id, value) in [
        (2, &flipped[..]),
        (3, &echo[..7]),
        (4, &echo[..5]),
        (5, b"x"),
        (6, &[0; 40]),
    ] {
        let exchange = asked(&mut solo, &unlock(id, Some(value)));
        assert_eq!(solo.endpoint.echo_age(exchange), None, "{value:?}");
    }
    let others = [
        secure(2),
        Peer::plain(secure(1).addr),
        Peer::secure(peer(8).addr, SessionId(1)),
        Peer::secure("192.0.2.8:7".parse().unwrap(), SessionId(1)),
        Peer::secure("[2001:db8::7]:7".parse().unwrap(), SessionId(1)),
    ];
    for other in others {
        solo.peer = other;
        let exchange = asked(&mut solo, &unlock(20, Some(&echo)));
        assert_eq!(solo.endpoint.echo_age(exchange), None, "{other}");
    }
    let exchange = asked(&mut solo, &unlock(21, None));
    assert_eq!(solo.endpoint.echo_age(exchange), None);
    solo.peer = secure(1);
    let exchange = asked(&mut solo, &unlock(22, Some(&echo)));
    assert!(solo.endpoint.echo_age(exchange).is_some());
}

#[test]
fn values_are_of_64_bits_and_differ_by_peer_and_time() {
    let mut solo = solo();
    let mut values = std::collections::HashSet::new();
    for session in 0..20 {
        solo.peer = secure(session);
        assert!(values.insert(challenged(&mut solo, 1)));
        assert!(
            !values.insert(challenged(&mut solo, 2)),
            "the same within a slice"
        );
        solo.advance(Duration::from_secs(8));
        assert!(values.insert(challenged(&mut solo, 3)));
    }
}

#[test]
fn a_challenge_of_an_answered_request_is_refused() {
    let mut solo = solo();
    let exchange = asked(&mut solo, &unlock(1, None));
    solo.respond(exchange, Response::new(Code::CHANGED));
    assert!(solo.endpoint.challenge(solo.now, exchange).is_err());
}

#[test]
fn a_client_sends_once_more_with_the_value_and_another_token() {
    let mut solo = solo();
    let (id, first) = solo.request(Request::put("lock").payload("0"));
    let challenge = Solo::ack(&first[0], Code::UNAUTHORIZED).option(number::ECHO, b"12345678");
    let second = solo.ask(&challenge);
    assert_eq!(second.options.first(number::ECHO), Some(&b"12345678"[..]));
    assert_eq!(
        (second.code, &second.payload),
        (Code::PUT, &first[0].payload)
    );
    assert_ne!(second.token, first[0].token);
    assert_ne!(second.id, first[0].id);
    assert_eq!(solo.take_event(), None);
    // The second challenge is the answer.
    let challenge = Solo::ack(&second, Code::UNAUTHORIZED).option(number::ECHO, b"abcdefgh");
    assert_eq!(solo.send(&challenge), []);
    match solo.take_event() {
        Some(Event::Response {
            id: of, response, ..
        }) => {
            assert_eq!((of, response.code), (id, Code::UNAUTHORIZED));
        }
        other => panic!("{other:?}"),
    }
    // Its value goes with the next request, once.
    let (_, sent) = solo.request(Request::put("lock"));
    assert_eq!(sent[0].options.first(number::ECHO), Some(&b"abcdefgh"[..]));
    solo.send(&Solo::ack(&sent[0], Code::CHANGED));
    let (_, sent) = solo.request(Request::put("lock"));
    assert!(!sent[0].options.contains(number::ECHO));
}

#[test]
fn a_4_01_without_a_value_is_the_answer() {
    let mut solo = solo();
    let (_, sent) = solo.request(Request::put("lock"));
    assert_eq!(solo.send(&Solo::ack(&sent[0], Code::UNAUTHORIZED)), []);
    assert!(matches!(solo.take_event(), Some(Event::Response { .. })));
}

#[test]
fn a_value_in_any_other_response_goes_to_that_peer_with_the_next_request() {
    let mut solo = solo();
    let (_, sent) = solo.request(Request::get("x"));
    solo.send(&Solo::ack(&sent[0], Code::CONTENT).option(number::ECHO, b"12345678"));
    solo.peer = secure(2);
    let (_, sent) = solo.request(Request::get("x"));
    assert!(
        !sent[0].options.contains(number::ECHO),
        "only where it came from"
    );
    solo.peer = secure(1);
    let (_, sent) = solo.request(Request::get("x"));
    assert_eq!(sent[0].options.first(number::ECHO), Some(&b"12345678"[..]));
}

#[test]
fn a_challenged_upload_begins_anew_and_is_done_once() {
    let mut fresh = 0;
    let mut pair = Pair::new(5, Network::GOOD, Box::new(|_| None));
    let whole = body(5000, 3);
    pair.request(Request::put("lock").payload(whole.clone()));
    for _ in 0..2 {
        pair.run_for(Duration::from_secs(1));
        let Some(Event::Request {
            exchange, request, ..
        }) = pair.server_events.pop()
        else {
            panic!("no request")
        };
        assert_eq!(request.payload, whole);
        match pair.server.echo_age(exchange) {
            None => pair.server.challenge(pair.now, exchange).unwrap(),
            Some(_) => {
                fresh += 1;
                let done = Response::new(Code::CHANGED);
                pair.server.respond(pair.now, exchange, done).unwrap();
            }
        }
    }
    pair.run_for(Duration::from_secs(1));
    assert_eq!(fresh, 1);
    let code = match pair.client_events.pop() {
        Some(Event::Response { response, .. }) => response.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code, Code::CHANGED);
    assert!(pair.server_events.is_empty());
    let echoed = pair.sent(Side::Client);
    let echoed = echoed.iter().filter(|m| m.options.contains(number::ECHO));
    assert_eq!(echoed.count(), 5, "every block of the second time");
}
