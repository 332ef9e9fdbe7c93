//! Multicast (RFC 7252 §8), on both sides.

use std::time::Duration;

use homefleet_coap::{
    Code, Event, Message, NoResponse, Peer, Request, RequestError, RequestId, Response, SessionId,
    Type, number,
};

use crate::support::{MessageExt, Solo, body, message, peer};

const LEISURE: Duration = Duration::from_secs(5);

fn get(id: u16) -> Message {
    message(Type::NonConfirmable, Code::GET, id, &[1, 2]).path("x")
}

fn to_group(solo: &mut Solo, message: &Message) -> Vec<Message> {
    solo.endpoint
        .handle_multicast(solo.now, solo.peer, &message.encode());
    solo.drain()
}

/// Answers the request that came; what was sent within the leisure period.
fn answered(solo: &mut Solo, response: Response) -> Vec<Message> {
    let exchange = solo.got().exchange;
    assert!(solo.endpoint.is_multicast(exchange));
    assert_eq!(solo.respond(exchange, response), [], "not at once");
    solo.advance(LEISURE)
}

#[test]
fn a_request_to_a_group_gets_a_non_confirmable_response_at_leisure() {
    let mut waits = std::collections::HashSet::new();
    for port in 1..40 {
        let mut solo = Solo::new();
        solo.peer = peer(port);
        // The endpoint's own random numbers decide; other numbers come first.
        for _ in 0..port {
            let (id, _) = solo.request(Request::get("y"));
            solo.endpoint.cancel(solo.now, id);
        }
        solo.log.clear();
        let start = solo.now;
        assert_eq!(to_group(&mut solo, &get(7)), []);
        let sent = answered(&mut solo, Response::content(0, "here"));
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].kind, Type::NonConfirmable);
        assert_eq!((sent[0].code, sent[0].token), (Code::CONTENT, get(7).token));
        let wait = solo.log[0].0 - start;
        assert!(wait <= LEISURE);
        waits.insert(wait.as_millis() / 500);
        solo.advance(Duration::from_secs(1000));
        assert_eq!(solo.endpoint.peer_count(), 0);
    }
    assert!(waits.len() > 5, "spread over the period: {waits:?}");
}

#[test]
fn a_slow_answer_to_a_group_is_never_confirmable() {
    let mut solo = Solo::new();
    to_group(&mut solo, &get(7));
    assert_eq!(solo.advance(Duration::from_secs(3)), [], "no Empty ACK");
    let sent = answered(&mut solo, Response::content(0, "here"));
    assert_eq!(sent[0].kind, Type::NonConfirmable);
    assert_eq!(solo.advance(Duration::from_secs(100)), [], "no repetition");
}

#[test]
fn only_non_confirmable_requests_without_security_are_heard_in_a_group() {
    let mut solo = Solo::new();
    let confirmable = |code| message(Type::Confirmable, code, 1, &[1]).path("x");
    for ignored in [
        confirmable(Code::GET),
        confirmable(Code::CONTENT),
        message(Type::NonConfirmable, Code::CONTENT, 2, &[1]),
        Message::empty(Type::Confirmable, 3),
        Message::empty(Type::Reset, 4),
        get(5).block1(0, true, 0).body([0; 16]),
        get(6).block2(1, false, 0),
    ] {
        assert_eq!(to_group(&mut solo, &ignored), [], "{ignored:?}");
    }
    assert_eq!(solo.endpoint.stats().multicast_ignored, 7);
    // Format errors are not rejected either.
    for broken in [
        &[0x40, 1, 0, 1, 0xff][..],
        &[0x49, 1, 0, 1],
        &[0x80, 1, 0, 1],
        &[1],
    ] {
        solo.endpoint.handle_multicast(solo.now, solo.peer, broken);
        assert_eq!(solo.drain(), []);
    }
    let secure = Peer::secure(peer(7).addr, SessionId(1));
    solo.endpoint
        .handle_multicast(solo.now, secure, &get(7).encode());
    assert!(solo.events.is_empty());
    assert_eq!(solo.endpoint.peer_count(), 0);
}

#[test]
fn what_tells_nothing_is_not_said_to_a_group() {
    for (n, response) in [
        Response::new(Code::NOT_FOUND),
        Response::new(Code::INTERNAL_SERVER_ERROR),
        Response::content(40, ""),
    ]
    .into_iter()
    .enumerate()
    {
        let mut solo = Solo::new();
        let id = n as u16;
        to_group(&mut solo, &get(id));
        assert_eq!(answered(&mut solo, response.clone()), []);
        assert_eq!(solo.endpoint.stats().responses_suppressed, 1);
        // Unless the client asks for it (RFC 7967 §2.1).
        let asking = get(id + 100).option(number::NO_RESPONSE, b"");
        to_group(&mut solo, &asking);
        assert_eq!(answered(&mut solo, response)[0].kind, Type::NonConfirmable);
        // Or wants even less.
        let mut less = get(id + 200);
        let all = u32::from(NoResponse::ALL.bits());
        less.options.set_uint(number::NO_RESPONSE, all);
        to_group(&mut solo, &less);
        assert_eq!(answered(&mut solo, Response::content(0, "here")), []);
    }
}

#[test]
fn refusals_of_the_endpoint_itself_are_not_said_to_a_group() {
    let mut solo = Solo::with(|config| config.max_exchanges = 0);
    for refused in [
        get(1).option(65_001, b"?"),
        get(2).option(number::PROXY_SCHEME, b"coap"),
        get(3).block2(0, false, 7),
        message(Type::NonConfirmable, Code::new(0, 30), 4, &[1]),
        get(5),
    ] {
        assert_eq!(to_group(&mut solo, &refused), []);
    }
    assert_eq!(solo.advance(LEISURE), []);
    let stats = solo.endpoint.stats();
    assert_eq!(
        (stats.bad_options, stats.proxy_refused, stats.bad_blocks),
        (1, 1, 1)
    );
    assert_eq!((stats.unknown_methods, stats.overload_refused), (1, 1));
    assert_eq!(stats.multicast_ignored, 0);
}

#[test]
fn a_repeated_request_to_a_group_is_ignored_and_nobody_observes_by_one() {
    let mut solo = Solo::new();
    let ask = get(1).option(number::OBSERVE, b"");
    to_group(&mut solo, &ask);
    to_group(&mut solo, &ask);
    let exchange = solo.got().exchange;
    assert!(solo.take_request().is_none());
    assert!(solo.endpoint.accept_observer(exchange).is_err());
    let sent = solo.respond(exchange, Response::content(0, "here"));
    assert_eq!(sent, []);
    assert_eq!(solo.advance(LEISURE)[0].options.observe(), None);
}

#[test]
fn a_large_response_to_a_group_is_a_first_block_or_a_challenge() {
    let mut solo = Solo::new();
    to_group(&mut solo, &get(1));
    let sent = answered(&mut solo, Response::content(0, body(3000, 1)));
    assert!(sent[0].options.block2().unwrap().more);
    let mut next = get(2).block2(1, false, 6);
    next.kind = Type::Confirmable;
    assert_eq!(solo.ask(&next).payload, body(3000, 1)[1024..2048]);
    // To an address that nobody has verified (RFC 9175 §2.4).
    let mut solo = Solo::with(|config| config.amplification = 3);
    to_group(&mut solo, &get(1));
    let sent = answered(&mut solo, Response::content(0, body(3000, 1)));
    assert!(sent[0].options.contains(number::ECHO));
    assert!(sent[0].encode().len() <= 3 * get(1).encode().len());
}

#[test]
fn responses_that_wait_are_bounded_and_forgotten_with_their_peer() {
    let mut solo = Solo::with(|config| config.max_leisurely = 3);
    for port in 1..=5 {
        solo.peer = peer(port);
        to_group(&mut solo, &get(1));
        let exchange = solo.got().exchange;
        solo.respond(exchange, Response::content(0, "here"));
    }
    assert_eq!(solo.endpoint.stats().leisurely_dropped, 2);
    solo.endpoint.forget_peer(solo.now, peer(2));
    assert_eq!(solo.advance(LEISURE).len(), 2);
    solo.advance(Duration::from_secs(1000));
    assert_eq!(solo.endpoint.peer_count(), 0);
    assert_eq!(solo.endpoint.poll_timeout(), None);
}

fn group() -> Peer {
    Peer::plain("224.0.1.187:5683".parse().unwrap())
}

fn ask_group(solo: &mut Solo, window: u64) -> (RequestId, Message) {
    let window = Duration::from_secs(window);
    let id = solo
        .endpoint
        .request_group(solo.now, group(), Request::get("x").observe(), window)
        .unwrap();
    let mut sent = solo.drain();
    assert_eq!(sent.len(), 1);
    (id, sent.remove(0))
}

fn answer(ask: &Message, kind: Type, id: u16) -> Message {
    Message {
        kind,
        id,
        ..Solo::ack(ask, Code::CONTENT).body("here")
    }
}

#[test]
fn each_member_of_a_group_may_answer_once_while_the_window_is_open() {
    let mut solo = Solo::new();
    let (id, ask) = ask_group(&mut solo, 10);
    assert_eq!((ask.kind, ask.code), (Type::NonConfirmable, Code::GET));
    assert_eq!(ask.options.observe(), None);
    assert_eq!(solo.log[0].1, group());
    for port in 1..=3 {
        let datagram = answer(&ask, Type::NonConfirmable, port).encode();
        assert_eq!(solo.input_from(peer(port), &datagram), []);
        match solo.take_event() {
            Some(Event::Response {
                id: of,
                from,
                response,
            }) => {
                assert_eq!((of, from), (id, peer(port)));
                assert_eq!(response.payload, b"here");
            }
            other => panic!("{other:?}"),
        }
        // Again, and under another ID.
        solo.input_from(peer(port), &datagram);
        let again = answer(&ask, Type::NonConfirmable, 100 + port).encode();
        solo.input_from(peer(port), &again);
        assert_eq!(solo.take_event(), None);
    }
    // A Confirmable one is acknowledged, one that is not understood does not count.
    let datagram = answer(&ask, Type::Confirmable, 9).encode();
    let sent = solo.input_from(peer(4), &datagram);
    assert_eq!(sent, [Message::empty(Type::Acknowledgement, 9)]);
    assert!(matches!(solo.take_event(), Some(Event::Response { .. })));
    let strange = answer(&ask, Type::NonConfirmable, 9).option(65_001, b"?");
    solo.input_from(peer(5), &strange.encode());
    // Nor does one with another token, or of a DTLS association.
    let mut other = answer(&ask, Type::NonConfirmable, 9);
    other.token = crate::support::token(&[1; 8]);
    solo.input_from(peer(6), &other.encode());
    let secure = Peer::secure(peer(7).addr, SessionId(1));
    solo.input_from(secure, &answer(&ask, Type::NonConfirmable, 9).encode());
    assert_eq!(solo.take_event(), None);
    solo.advance(Duration::from_secs(11));
    let error = RequestError::GroupOver;
    assert_eq!(solo.take_event(), Some(Event::Failed { id, error }));
    let late = answer(&ask, Type::NonConfirmable, 1).encode();
    solo.input_from(peer(8), &late);
    assert_eq!(solo.take_event(), None);
    solo.advance(Duration::from_secs(1000));
    assert_eq!(solo.endpoint.peer_count(), 0);
    assert_eq!(solo.endpoint.poll_timeout(), None);
}

#[test]
fn requests_to_one_group_keep_to_probing_rate() {
    let mut solo = Solo::new();
    let (_, ask) = ask_group(&mut solo, 1);
    let seconds = ask.encode().len() as u64;
    let again = |solo: &mut Solo| {
        let request = Request::get("x");
        let window = Duration::from_secs(1);
        solo.endpoint
            .request_group(solo.now, group(), request, window)
    };
    solo.advance(Duration::from_secs(seconds - 1));
    assert_eq!(again(&mut solo), Err(RequestError::QueueFull));
    solo.advance(Duration::from_secs(2));
    assert!(again(&mut solo).is_ok());
}

#[test]
fn what_is_no_request_to_a_group_is_refused() {
    let mut solo = Solo::with(|config| config.max_requests = 1);
    let now = solo.now;
    let window = Duration::from_secs(1);
    let mut ask = |to, request| solo.endpoint.request_group(now, to, request, window);
    let nowhere = Err(RequestError::InvalidDestination);
    let get = || Request::get("x");
    assert_eq!(ask(peer(1), get()), nowhere);
    let port_0 = Peer::plain("224.0.1.187:0".parse().unwrap());
    assert_eq!(ask(port_0, get()), nowhere);
    assert_eq!(
        ask(Peer::secure(group().addr, SessionId(1)), get()),
        nowhere
    );
    let limit = 1152;
    let large = get().payload(body(1200, 1));
    assert_eq!(ask(group(), large), Err(RequestError::TooLarge { limit }));
    let answer = Request::new(Code::CONTENT);
    let invalid = Err(RequestError::Invalid { option: None });
    assert_eq!(ask(group(), answer), invalid);
    assert!(ask(group(), get()).is_ok());
    let other = Peer::plain("[ff02::fd]:5683".parse().unwrap());
    assert_eq!(ask(other, get()), Err(RequestError::QueueFull));
}

#[test]
fn members_whose_responses_are_taken_are_bounded_and_a_request_can_be_given_up() {
    let mut solo = Solo::with(|config| config.max_group_responses = 2);
    let (id, ask) = ask_group(&mut solo, 10);
    for port in 1..=5 {
        let datagram = answer(&ask, Type::NonConfirmable, port).encode();
        solo.input_from(peer(port), &datagram);
    }
    assert_eq!(solo.events.len(), 2);
    solo.events.clear();
    solo.endpoint.cancel(solo.now, id);
    solo.drain();
    let error = RequestError::Cancelled;
    assert_eq!(solo.take_event(), Some(Event::Failed { id, error }));
}
