//! Requests and responses (RFC 7252 §5.2, §5.3, §5.8).

use std::time::Duration;

use homefleet_coap::{
    Code, Event, Message, Peer, Request, RequestError, RespondError, Response, SessionId, Type,
    number,
};

use crate::support::{MessageExt, Network, Pair, Side, Solo, message, peer};

fn post(id: u16) -> Message {
    message(Type::Confirmable, Code::POST, id, &[1, 2]).path("x")
}

#[test]
fn a_slow_answer_is_acknowledged_first_and_comes_separately() {
    let mut solo = Solo::new();
    let begin = solo.now;
    assert_eq!(solo.send(&post(7)), []);
    let sent = solo.advance(Duration::from_secs(6));
    assert_eq!(sent, [Message::empty(Type::Acknowledgement, 7)]);
    assert_eq!(
        solo.log[0].0 - begin,
        Duration::from_millis(100),
        "separate_after"
    );
    let exchange = solo.got().exchange;
    let sent = solo.respond(exchange, Response::new(Code::CHANGED));
    assert_eq!(
        (sent[0].kind, sent[0].code),
        (Type::Confirmable, Code::CHANGED)
    );
    assert_eq!(sent[0].token, post(7).token);
    let again = solo.advance(Duration::from_secs(4));
    assert_eq!(again, sent, "repeated until acknowledged");
    solo.empty(Type::Acknowledgement, sent[0].id);
    assert_eq!(solo.advance(Duration::from_secs(100)), []);
}

#[test]
fn a_separate_response_that_nobody_acknowledges_is_given_up() {
    let mut solo = Solo::new();
    solo.send(&post(7));
    solo.advance(Duration::from_secs(1));
    let exchange = solo.got().exchange;
    solo.respond(exchange, Response::new(Code::CHANGED));
    assert_eq!(solo.advance(Duration::from_secs(100)).len(), 4);
    assert_eq!(solo.endpoint.stats().responses_undelivered, 1);
}

#[test]
fn a_slow_non_request_gets_no_empty_ack() {
    let mut solo = Solo::new();
    let mut ask = post(7);
    ask.kind = Type::NonConfirmable;
    assert_eq!(solo.send(&ask), []);
    assert_eq!(solo.advance(Duration::from_secs(6)), []);
    let exchange = solo.got().exchange;
    let sent = solo.respond(exchange, Response::new(Code::CHANGED));
    assert_eq!(sent[0].kind, Type::NonConfirmable);
}

#[test]
fn an_exchange_is_answered_once() {
    let mut solo = Solo::new();
    solo.send(&post(7));
    let exchange = solo.got().exchange;
    solo.respond(exchange, Response::new(Code::CHANGED));
    assert_eq!(
        solo.endpoint
            .respond(solo.now, exchange, Response::new(Code::CHANGED)),
        Err(RespondError::UnknownExchange)
    );
}

#[test]
fn an_invalid_response_is_refused_and_the_exchange_stays_open() {
    let mut solo = Solo::new();
    solo.send(&post(7));
    let exchange = solo.got().exchange;
    let bad = Response::new(Code::CONTENT).etag(&[0; 9]);
    let option = Some(number::ETAG);
    assert_eq!(
        solo.endpoint.respond(solo.now, exchange, bad),
        Err(RespondError::Invalid { option })
    );
    assert_eq!(
        solo.endpoint
            .respond(solo.now, exchange, Response::new(Code::GET)),
        Err(RespondError::Invalid { option: None })
    );
    assert_eq!(
        solo.respond(exchange, Response::new(Code::CHANGED)).len(),
        1
    );
}

#[test]
fn a_request_the_application_never_answers_is_dropped_in_the_end() {
    let mut solo = Solo::new();
    solo.send(&post(7));
    let exchange = solo.got().exchange;
    solo.advance(Duration::from_secs(600));
    assert_eq!(solo.endpoint.stats().unanswered, 1);
    assert_eq!(solo.endpoint.peer_count(), 0);
    assert_eq!(
        solo.endpoint
            .respond(solo.now, exchange, Response::new(Code::CHANGED)),
        Err(RespondError::UnknownExchange)
    );
}

#[test]
fn unknown_methods_are_4_05() {
    for detail in [8, 31] {
        let mut solo = Solo::new();
        let ask = message(Type::Confirmable, Code::new(0, detail), 7, &[1]);
        assert_eq!(solo.ask(&ask).code, Code::METHOD_NOT_ALLOWED);
        assert!(solo.events.is_empty());
        assert_eq!(solo.endpoint.stats().unknown_methods, 1);
    }
}

#[test]
fn too_many_waiting_requests_are_5_03() {
    let mut solo = Solo::with(|config| {
        config.max_exchanges = 4;
        config.max_exchanges_per_peer = 3;
    });
    for id in 0..3 {
        assert_eq!(solo.send(&post(id)), []);
    }
    let refused = solo.ask(&post(3));
    assert_eq!(refused.code, Code::SERVICE_UNAVAILABLE);
    assert_eq!(refused.options.max_age(), Some(5));
    solo.peer = peer(2);
    assert_eq!(solo.send(&post(0)), []);
    assert_eq!(solo.ask(&post(1)).code, Code::SERVICE_UNAVAILABLE);
    assert_eq!(solo.endpoint.stats().overload_refused, 2);
}

#[test]
fn a_response_from_another_peer_is_not_ours() {
    let mut solo = Solo::new();
    let (_, sent) = solo.request(Request::get("x"));
    let mut response = Solo::ack(&sent[0], Code::CONTENT);
    assert_eq!(solo.input_from(peer(9), &response.encode()), []);
    response.kind = Type::Confirmable;
    let rejected = solo.input_from(peer(9), &response.encode());
    assert_eq!(rejected, [Message::empty(Type::Reset, response.id)]);
    assert!(solo.events.is_empty());
    assert_eq!(solo.endpoint.stats().unmatched_responses, 2);
    solo.send(&Solo::ack(&sent[0], Code::CONTENT));
    assert!(matches!(solo.take_event(), Some(Event::Response { .. })));
}

#[test]
fn a_piggybacked_response_with_another_token_is_ignored() {
    let mut solo = Solo::new();
    let (_, sent) = solo.request(Request::get("x"));
    let mut response = Solo::ack(&sent[0], Code::CONTENT);
    response.token = crate::support::token(&[1]);
    assert_eq!(solo.send(&response), []);
    assert!(solo.events.is_empty());
    assert_eq!(
        solo.advance(Duration::from_secs(4)).len(),
        1,
        "still repeating"
    );
}

#[test]
fn a_con_response_with_an_unknown_token_is_rejected() {
    let mut solo = Solo::new();
    solo.request(Request::get("x"));
    let response = message(Type::Confirmable, Code::CONTENT, 5, &[1]);
    assert_eq!(solo.ask(&response), Message::empty(Type::Reset, 5));
    assert!(solo.events.is_empty());
}

#[test]
fn a_repeated_separate_response_is_acknowledged_again_and_delivered_once() {
    let mut solo = Solo::new();
    let (_, sent) = solo.request(Request::get("x"));
    solo.empty(Type::Acknowledgement, sent[0].id);
    let mut response = Solo::ack(&sent[0], Code::CONTENT);
    response.kind = Type::Confirmable;
    response.id = 77;
    let ack = Message::empty(Type::Acknowledgement, 77);
    assert_eq!(solo.ask(&response), ack);
    assert_eq!(solo.ask(&response), ack);
    assert_eq!(solo.events.len(), 1);
}

#[test]
fn methods_codes_and_paths_arrive_as_they_were_sent() {
    for code in [
        Code::GET,
        Code::POST,
        Code::PUT,
        Code::DELETE,
        Code::FETCH,
        Code::PATCH,
        Code::IPATCH,
    ] {
        let mut pair = Pair::new(
            1,
            Network::GOOD,
            Box::new(|_| Some(Response::new(Code::CHANGED).diagnostic("done"))),
        );
        let mut request = Request::new(code).query("a=1").query("b");
        request.options.set_path("/one/two//");
        let id = pair.request(request.clone());
        assert_eq!(pair.response(id).unwrap().payload, b"done");
        assert_eq!(pair.handled, [request]);
        assert_eq!(pair.handled[0].options.uri_path(), ["one", "two", "", ""]);
        assert_eq!(pair.handled[0].options.query("b"), Some(""));
        assert_eq!(pair.sent(Side::Client).len(), 1);
        assert_eq!(pair.sent(Side::Server).len(), 1);
    }
}

#[test]
fn both_sides_of_one_socket_ask_at_the_same_time() {
    // USP needs each endpoint to be client and server at once.
    let mut pair = Pair::new(
        3,
        Network::BAD,
        Box::new(|_| Some(Response::new(Code::CHANGED))),
    );
    let id = pair.request(Request::post("usp").payload("to the server"));
    let back = pair
        .server
        .request(
            pair.now,
            Pair::client_peer(),
            Request::post("usp").payload("to the client"),
        )
        .unwrap();
    pair.run_for(Duration::from_secs(1));
    while !pair
        .client_events
        .iter()
        .any(|e| matches!(e, Event::Request { .. }))
    {
        pair.run_for(Duration::from_secs(1));
    }
    let at = pair
        .client_events
        .iter()
        .position(|event| matches!(event, Event::Request { .. }))
        .unwrap();
    let Event::Request { exchange, .. } = pair.client_events.remove(at) else {
        unreachable!()
    };
    pair.client
        .respond(pair.now, exchange, Response::new(Code::CREATED))
        .unwrap();
    assert_eq!(pair.response(id).unwrap().code, Code::CHANGED);
    pair.run_for(Duration::from_secs(100));
    let answered = pair.server_events.iter().any(|event| {
        matches!(event, Event::Response { id, response, .. } if *id == back && response.code == Code::CREATED)
    });
    assert!(answered, "{:?}", pair.server_events);
}

#[test]
fn requests_to_impossible_addresses_are_refused() {
    let mut solo = Solo::new();
    for addr in [
        "192.0.2.1:0",
        "0.0.0.0:5683",
        "[::]:5683",
        "224.0.1.187:5683",
        "[ff02::fd]:5683",
        "255.255.255.255:5683",
    ] {
        let to = homefleet_coap::Peer::plain(addr.parse().unwrap());
        assert_eq!(
            solo.endpoint.request(solo.now, to, Request::get("x")),
            Err(RequestError::InvalidDestination)
        );
    }
}

#[test]
fn under_pressure_the_oldest_request_without_security_makes_room_for_an_authenticated_one() {
    let post = |id| message(Type::Confirmable, Code::POST, id, &[1]).path("x");
    let secure = |n| Peer::secure(peer(n).addr, SessionId(u64::from(n)));
    let mut solo = Solo::with(|config| config.max_exchanges = 3);
    let mut exchanges = Vec::new();
    for port in 1..=3 {
        assert_eq!(solo.input_from(peer(port), &post(1).encode()), []);
        exchanges.push(solo.got().exchange);
    }
    // The second one is answered, the first one acknowledged: it is the oldest all the same.
    solo.respond(exchanges[1], Response::new(Code::CHANGED));
    assert_eq!(solo.input_from(peer(4), &post(1).encode()), []);
    exchanges.push(solo.got().exchange);
    // Another stranger is refused, an authenticated peer is not.
    let busy = solo.input_from(peer(5), &post(1).encode());
    assert_eq!(busy[0].code, Code::SERVICE_UNAVAILABLE);
    let sent = solo.input_from(secure(6), &post(1).encode());
    assert_eq!(sent[0].code, Code::SERVICE_UNAVAILABLE);
    assert_eq!(
        solo.log.last().unwrap().1,
        peer(1),
        "told to the one that goes"
    );
    let gone = solo
        .endpoint
        .respond(solo.now, exchanges[0], Response::new(Code::CHANGED));
    assert_eq!(gone, Err(RespondError::UnknownExchange));
    // One that was acknowledged already goes silently.
    solo.advance(std::time::Duration::from_secs(1));
    assert_eq!(solo.input_from(secure(7), &post(1).encode()), []);
    assert_eq!(solo.input_from(secure(8), &post(1).encode()), []);
    assert_eq!(solo.endpoint.stats().exchanges_evicted, 3);
    // Only authenticated ones are left: nobody goes for them.
    let busy = solo.input_from(secure(9), &post(1).encode());
    assert_eq!(busy[0].code, Code::SERVICE_UNAVAILABLE);
    for session in [6, 7, 8] {
        let got = solo.got();
        assert_eq!(got.from, secure(session));
        solo.respond(got.exchange, Response::new(Code::CHANGED));
    }
    solo.advance(std::time::Duration::from_secs(1000));
    assert_eq!(solo.endpoint.peer_count(), 0);
}

#[test]
fn a_response_code_that_nobody_registered_arrives_with_its_class() {
    for (class, detail, success) in [(2, 30, true), (3, 1, false), (4, 31, false), (5, 30, false)] {
        let mut solo = Solo::new();
        let (_, sent) = solo.request(Request::get("x"));
        solo.send(&Solo::ack(&sent[0], Code::new(class, detail)));
        match solo.take_event() {
            Some(Event::Response { response, .. }) => {
                assert_eq!(
                    (response.code.class(), response.code.is_success()),
                    (class, success)
                );
            }
            other => panic!("{other:?}"),
        }
    }
}
