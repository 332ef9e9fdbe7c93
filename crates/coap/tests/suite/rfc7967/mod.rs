//! RFC 7967: No-Response, on both sides.

use std::time::Duration;

use homefleet_coap::{
    Code, Event, Message, NoResponse, Request, RequestError, Response, Type, number,
};

use crate::support::{MessageExt, Solo, body, message};

fn post(kind: Type, id: u16, unwanted: NoResponse) -> Message {
    let mut ask = message(kind, Code::POST, id, &[1]).path("x");
    ask.options
        .set_uint(number::NO_RESPONSE, u32::from(unwanted.bits()));
    ask
}

const CODES: [Code; 3] = [Code::CHANGED, Code::NOT_FOUND, Code::INTERNAL_SERVER_ERROR];

#[test]
fn the_classes_are_those_of_section_2_1() {
    assert_eq!(NoResponse::SUCCESS.bits(), 2);
    assert_eq!(NoResponse::CLIENT_ERROR.bits(), 8);
    assert_eq!(NoResponse::SERVER_ERROR.bits(), 16);
    assert_eq!(NoResponse::ALL.bits(), 26);
    let both = NoResponse::SUCCESS.and(NoResponse::SERVER_ERROR);
    assert_eq!(CODES.map(|code| both.covers(code)), [true, false, true]);
    assert_eq!(CODES.map(|code| NoResponse::NONE.covers(code)), [false; 3]);
    assert!(!NoResponse::from_bits(255).covers(Code::GET));
    assert!(NoResponse::from_bits(255).is_all() && !both.is_all());
}

#[test]
fn unwanted_responses_to_a_non_are_not_sent() {
    for (n, unwanted) in [
        NoResponse::NONE,
        NoResponse::SUCCESS,
        NoResponse::CLIENT_ERROR,
        NoResponse::SERVER_ERROR,
        NoResponse::ALL,
    ]
    .into_iter()
    .enumerate()
    {
        for (m, code) in CODES.into_iter().enumerate() {
            let mut solo = Solo::new();
            let id = (n * 3 + m) as u16;
            solo.send(&post(Type::NonConfirmable, id, unwanted));
            let exchange = solo.got().exchange;
            let sent = solo.respond(exchange, Response::new(code).payload(body(2000, 1)));
            assert_eq!(
                sent.is_empty(),
                unwanted.covers(code),
                "{unwanted:?} {code}"
            );
            assert_eq!(solo.advance(Duration::from_secs(1000)), []);
            assert_eq!(solo.endpoint.peer_count(), 0);
        }
    }
}

#[test]
fn an_unwanted_response_to_a_con_becomes_an_empty_ack() {
    let mut solo = Solo::new();
    let ask = post(Type::Confirmable, 7, NoResponse::SUCCESS);
    let answer = solo.serve(&ask, Response::new(Code::CHANGED));
    assert_eq!(answer, Message::empty(Type::Acknowledgement, 7));
    assert_eq!(solo.endpoint.stats().responses_suppressed, 1);
    // A repetition gets the same, and runs nothing.
    assert_eq!(solo.ask(&ask), answer);
    assert!(solo.events.is_empty());
    // With a slow application the Empty ACK is out already.
    solo.send(&post(Type::Confirmable, 8, NoResponse::SUCCESS));
    assert_eq!(solo.advance(Duration::from_secs(1)).len(), 1);
    let exchange = solo.got().exchange;
    assert_eq!(solo.respond(exchange, Response::new(Code::CHANGED)), []);
    // What is wanted comes.
    let ask = post(Type::Confirmable, 9, NoResponse::SUCCESS);
    let answer = solo.serve(&ask, Response::new(Code::NOT_FOUND));
    assert_eq!(answer.code, Code::NOT_FOUND);
}

#[test]
fn refusals_of_the_endpoint_itself_are_suppressed_too() {
    let mut solo = Solo::new();
    let ask = post(Type::NonConfirmable, 1, NoResponse::CLIENT_ERROR)
        .block1(3, true, 0)
        .body([0; 16]);
    assert_eq!(solo.send(&ask), []);
    assert_eq!(solo.endpoint.stats().blocks_incomplete, 1);
    let ask = post(Type::Confirmable, 2, NoResponse::ALL).option(65_001, b"?");
    assert_eq!(solo.ask(&ask), Message::empty(Type::Acknowledgement, 2));
}

#[test]
fn blocks_are_continued_whatever_is_unwanted() {
    let mut solo = Solo::new();
    let part = |id, num, more| {
        post(Type::Confirmable, id, NoResponse::ALL)
            .block1(num, more, 0)
            .body(body(16, id as u8))
    };
    assert_eq!(solo.ask(&part(1, 0, true)).code, Code::CONTINUE);
    let answer = solo.serve(&part(2, 1, false), Response::new(Code::CHANGED));
    assert_eq!(answer, Message::empty(Type::Acknowledgement, 2));
}

#[test]
fn a_malformed_value_is_ignored() {
    let mut solo = Solo::new();
    let ask =
        message(Type::Confirmable, Code::POST, 1, &[1]).option(number::NO_RESPONSE, &[26, 26]);
    let answer = solo.serve(&ask, Response::new(Code::CHANGED));
    assert_eq!(answer.code, Code::CHANGED);
    // The empty value is 0: everything is wanted.
    let mut ask = post(Type::Confirmable, 2, NoResponse::NONE);
    assert_eq!(ask.options.first(number::NO_RESPONSE), Some(&[][..]));
    ask.id = 3;
    let answer = solo.serve(&ask, Response::new(Code::CHANGED));
    assert_eq!(answer.code, Code::CHANGED);
}

#[test]
fn an_observer_gets_its_notifications_in_any_case() {
    let mut solo = Solo::new();
    let mut ask = post(Type::Confirmable, 1, NoResponse::SUCCESS).option(number::OBSERVE, b"");
    ask.code = Code::GET;
    solo.send(&ask);
    let exchange = solo.got().exchange;
    let id = solo.endpoint.accept_observer(exchange).unwrap();
    assert_eq!(
        solo.respond(exchange, Response::new(Code::CONTENT))[0].code,
        Code::CONTENT
    );
    solo.endpoint
        .notify(solo.now, id, Response::new(Code::CONTENT))
        .unwrap();
    assert_eq!(solo.drain().len(), 1);
}

#[test]
fn a_client_that_wants_nothing_is_done_when_its_message_is_out() {
    let mut solo = Solo::new();
    let error = RequestError::Unanswered;
    let non = Request::post("x")
        .non_confirmable()
        .no_response(NoResponse::ALL);
    let (id, sent) = solo.request(non);
    assert_eq!(sent[0].options.no_response(), Some(NoResponse::ALL));
    assert_eq!(solo.take_event(), Some(Event::Failed { id, error }));
    // Its answer, if one comes, is nobody's.
    let mut answer = Solo::ack(&sent[0], Code::CHANGED);
    answer.kind = Type::NonConfirmable;
    assert_eq!(solo.ask(&answer).kind, Type::Reset);
    // A Confirmable one when it is acknowledged.
    let mut solo = Solo::new();
    let (id, sent) = solo.request(Request::post("x").no_response(NoResponse::ALL));
    assert_eq!(solo.take_event(), None);
    solo.empty(Type::Acknowledgement, sent[0].id);
    assert_eq!(solo.take_event(), Some(Event::Failed { id, error }));
}

#[test]
fn a_client_that_wants_errors_waits_for_them() {
    let mut solo = Solo::new();
    let ask = || {
        Request::post("x")
            .non_confirmable()
            .no_response(NoResponse::SUCCESS)
    };
    let (id, sent) = solo.request(ask());
    let mut answer = Solo::ack(&sent[0], Code::NOT_FOUND);
    answer.kind = Type::NonConfirmable;
    solo.send(&answer);
    assert!(matches!(solo.take_event(), Some(Event::Response { id: of, .. }) if of == id));
    let (id, _) = solo.request(ask());
    solo.advance(Duration::from_secs(92));
    assert_eq!(solo.take_event(), None);
    solo.advance(Duration::from_secs(2));
    let error = RequestError::Unanswered;
    assert_eq!(solo.take_event(), Some(Event::Failed { id, error }));
    assert_eq!(solo.endpoint.stats().timeouts, 0);
}

#[test]
fn requests_without_responses_keep_to_probing_rate() {
    let mut solo = Solo::with(|config| config.probing_rate = 10);
    let ask = || {
        let request = Request::post("x").non_confirmable();
        request.payload(vec![0; 100]).no_response(NoResponse::ALL)
    };
    let (_, sent) = solo.request(ask());
    let seconds = sent[0].encode().len() as u64 / 10;
    assert_eq!(solo.request(ask()).1, []);
    assert_eq!(solo.advance(Duration::from_secs(seconds - 1)), []);
    assert_eq!(solo.advance(Duration::from_secs(2)).len(), 1);
}
