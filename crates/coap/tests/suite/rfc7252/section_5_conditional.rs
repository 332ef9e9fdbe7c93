//! Conditional requests, validation and negotiation (RFC 7252 §5.6.2, §5.9, §5.10.4 to §5.10.8).

use std::time::Duration;

use homefleet_coap::{
    Code, Conditional, Event, Message, Request, RequestError, Response, Type, number,
};

use crate::support::{MessageExt, Solo, body, message};

fn put(id: u16, path: &str) -> Message {
    message(Type::Confirmable, Code::PUT, id, &[1]).path(path)
}

fn conditional() -> Solo {
    Solo::with(|config| {
        config.conditional = vec![
            Conditional::new(Code::PUT, "a/b"),
            Conditional::new(Code::DELETE, "tree/*"),
        ];
    })
}

#[test]
fn conditions_are_refused_where_nobody_handles_them() {
    let if_match = |ask: Message| ask.option(number::IF_MATCH, b"x");
    let mut solo = conditional();
    let delete = |id, path| message(Type::Confirmable, Code::DELETE, id, &[1]).path(path);
    for ask in [
        if_match(put(1, "a")),
        if_match(put(2, "a/b/c")),
        if_match(put(3, "a/c")),
        if_match(delete(4, "a/b")),
        if_match(delete(5, "trees/1")),
        put(6, "other").option(number::IF_NONE_MATCH, b""),
    ] {
        let answer = solo.ask(&ask);
        assert_eq!(answer.code, Code::BAD_OPTION, "{}", ask.id);
        let text = String::from_utf8(answer.payload).unwrap();
        assert!(text.contains("Match"), "{text}");
    }
    assert!(solo.events.is_empty());
    for (id, ask) in [
        (10, put(10, "a/b")),
        (11, delete(11, "tree")),
        (12, delete(12, "tree/1/2")),
    ] {
        solo.send(&if_match(ask));
        let request = solo.got().request;
        assert_eq!(request.options.first(number::IF_MATCH), Some(&b"x"[..]));
        assert!(request.precondition(Some(b"y")).is_err(), "{id}");
    }
}

#[test]
fn a_star_stands_for_every_resource() {
    let mut solo = Solo::with(|config| config.conditional = vec![Conditional::new(Code::PUT, "*")]);
    for (id, path) in [(1, ""), (2, "a"), (3, "a/b")] {
        solo.send(&put(id, path).option(number::IF_NONE_MATCH, b""));
        assert!(solo.got().request.options.contains(number::IF_NONE_MATCH));
    }
}

#[test]
fn if_match_is_fulfilled_by_one_of_its_etags_or_by_existence() {
    let failed = Some(Code::PRECONDITION_FAILED);
    let code = |request: &Request, current| request.precondition(current).err().map(|r| r.code);
    let one = Request::put("a").if_match(b"x");
    assert_eq!(code(&one, Some(b"x")), None);
    assert_eq!(code(&one, Some(b"y")), failed);
    assert_eq!(code(&one, Some(b"")), failed);
    assert_eq!(code(&one, None), failed);
    let two = one.clone().if_match(b"y");
    assert_eq!(code(&two, Some(b"y")), None);
    assert_eq!(code(&two, Some(b"z")), failed);
    let any = Request::put("a").if_match(b"");
    assert_eq!(code(&any, Some(b"x")), None);
    assert_eq!(code(&any, Some(b"")), None);
    assert_eq!(code(&any, None), failed);
    assert_eq!(code(&Request::put("a"), None), None);
}

#[test]
fn if_none_match_is_fulfilled_by_absence() {
    let request = Request::put("a").if_none_match();
    let proceed = request.precondition(None).unwrap();
    assert_eq!(proceed.stored(), Code::CREATED);
    for etag in [&b"x"[..], b""] {
        let refusal = request.precondition(Some(etag)).unwrap_err();
        assert_eq!(refusal, Response::new(Code::PRECONDITION_FAILED));
    }
    let both = request.if_match(b"x");
    assert!(both.precondition(Some(b"x")).is_err());
    assert!(both.precondition(None).is_err());
    let proceed = Request::put("a").precondition(Some(b"x")).unwrap();
    assert_eq!(proceed.stored(), Code::CHANGED);
}

#[test]
fn conditions_travel_from_client_to_server() {
    let mut solo = conditional();
    let request = Request::put("a/b")
        .if_match(b"12345678")
        .if_match(b"")
        .if_none_match();
    let (_, sent) = solo.request(request.clone());
    let answer = solo.send(&Message {
        token: sent[0].token,
        ..sent[0].clone()
    });
    assert!(answer.is_empty());
    assert_eq!(solo.got().request.options, request.options);
    let error = RequestError::Invalid {
        option: Some(number::IF_MATCH),
    };
    let long = Request::put("a/b").if_match(b"123456789");
    let refused = solo.endpoint.request(solo.now, solo.peer, long);
    assert_eq!(refused, Err(error));
}

#[test]
fn a_stored_response_is_validated_with_2_03() {
    let get = Request::get("a").etag(b"one").etag(b"two");
    let valid = get.validated(b"two").unwrap();
    assert_eq!(valid, Response::new(Code::VALID).etag(b"two"));
    assert!(valid.payload.is_empty());
    assert_eq!(get.validated(b"three"), None);
    assert_eq!(Request::get("a").validated(b"two"), None);
    assert_eq!(Request::put("a").etag(b"two").validated(b"two"), None);
    // And it reaches the client with its ETag and its new Max-Age.
    let mut solo = Solo::new();
    let (id, sent) = solo.request(get);
    assert_eq!(sent[0].options.all(number::ETAG).count(), 2);
    let mut answer = Solo::ack(&sent[0], Code::VALID).option(number::ETAG, b"two");
    answer.options.set_max_age(7);
    solo.send(&answer);
    match solo.take_event() {
        Some(Event::Response {
            id: of, response, ..
        }) => {
            assert_eq!(of, id);
            assert_eq!(response.code, Code::VALID);
            assert_eq!(response.options.etag(), Some(&b"two"[..]));
            assert_eq!(response.fresh_for(), Duration::from_secs(7));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn max_age_is_60_seconds_without_the_option() {
    let fresh = Response::new(Code::CONTENT).fresh_for();
    assert_eq!(fresh, Duration::from_secs(60));
    let stale = Response::new(Code::CONTENT).max_age(0).fresh_for();
    assert_eq!(stale, Duration::ZERO);
}

#[test]
fn accept_chooses_among_the_formats_of_the_resource() {
    let any = Request::get("a");
    assert_eq!(any.negotiate(&[50, 41]), Ok(50));
    assert_eq!(any.clone().accept(41).negotiate(&[50, 41]), Ok(41));
    let refusal = any.clone().accept(60).negotiate(&[50, 41]).unwrap_err();
    assert_eq!(refusal, Response::new(Code::NOT_ACCEPTABLE));
    assert!(any.negotiate(&[]).is_err());
    // Accept is critical, and understood: it reaches the application.
    let mut solo = Solo::new();
    let ask = message(Type::Confirmable, Code::GET, 1, &[1]).option(number::ACCEPT, &[60]);
    solo.send(&ask);
    assert_eq!(solo.got().request.options.accept(), Some(60));
}

#[test]
fn a_created_resource_is_located() {
    let mut solo = Solo::new();
    let response = Response::created("/things/7")
        .location_query("a=1")
        .location_query("b");
    let answer = solo.serve(&put(1, "things"), response);
    assert_eq!(answer.code, Code::CREATED);
    let read = Message::decode(&answer.encode()).unwrap().options;
    assert_eq!(read.location_path(), "things/7");
    assert_eq!(read.location_queries().collect::<Vec<_>>(), ["a=1", "b"]);
    for wrong in ["a/..", "./a"] {
        let mut solo = Solo::new();
        solo.send(&put(2, "x"));
        let exchange = solo.got().exchange;
        let refused = solo
            .endpoint
            .respond(solo.now, exchange, Response::created(wrong));
        assert!(refused.is_err(), "{wrong}");
    }
}

#[test]
fn reserved_location_options_are_4_02_beside_location_path() {
    for reserved in number::LOCATION_RESERVED {
        let mut solo = Solo::new();
        let ask = put(1, "x").option(reserved, b"?");
        let located = ask.clone().option(number::LOCATION_QUERY, b"q");
        assert_eq!(solo.ask(&located).code, Code::BAD_OPTION);
        let mut ask = ask;
        ask.id = 2;
        assert!(solo.send(&ask).is_empty(), "elective by itself");
        assert!(solo.take_request().is_some());
        // As client: such a response is not understood.
        let (id, sent) = solo.request(Request::post("x"));
        let response = Solo::ack(&sent[0], Code::CREATED)
            .option(number::LOCATION_PATH, b"a")
            .option(reserved, b"?");
        solo.send(&response);
        let error = RequestError::BadResponse { option: reserved };
        assert_eq!(solo.take_event(), Some(Event::Failed { id, error }));
    }
}

#[test]
fn the_size_of_a_body_is_told_when_asked_for() {
    let mut solo = Solo::new();
    let get = message(Type::Confirmable, Code::GET, 1, &[1]).option(number::SIZE2, b"");
    let answer = solo.serve(&get, Response::content(0, body(10, 1)));
    assert_eq!(answer.options.size2(), Some(10));
    let mut plain = message(Type::Confirmable, Code::GET, 2, &[1]);
    let answer = solo.serve(&plain, Response::content(0, body(10, 1)));
    assert_eq!(answer.options.size2(), None);
    plain = plain.option(number::SIZE2, b"");
    plain.id = 3;
    let answer = solo.serve(&plain, Response::new(Code::NOT_FOUND));
    assert_eq!(answer.options.size2(), None);
    let (_, sent) = solo.request(Request::get("x").ask_size());
    assert_eq!(sent[0].options.size2(), Some(0));
}
