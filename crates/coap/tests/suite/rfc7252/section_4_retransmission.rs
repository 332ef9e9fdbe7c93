//! Retransmission (RFC 7252 §4.2) and its parameters (§4.8).

use std::time::Duration;

use homefleet_coap::{Code, Config, Event, Request, RequestError, Type};

use crate::support::{Network, Pair, Side, Solo, body};

#[test]
fn defaults_are_those_of_section_4_8() {
    let config = Config::default();
    assert_eq!(config.ack_timeout, Duration::from_secs(2));
    assert_eq!(config.ack_random_factor, 1.5);
    assert_eq!((config.max_retransmit, config.nstart), (4, 1));
    assert_eq!(config.probing_rate, 1);
    assert_eq!(config.max_transmit_span(), Duration::from_secs(45));
    assert_eq!(config.max_transmit_wait(), Duration::from_secs(93));
    assert_eq!(config.exchange_lifetime(), Duration::from_secs(247));
    assert_eq!(config.non_lifetime(), Duration::from_secs(145));
}

#[test]
fn a_confirmable_message_is_repeated_with_doubling_waits_and_then_given_up() {
    let mut solo = Solo::new();
    let start = solo.now;
    let (id, first) = solo.request(Request::get("x"));
    let again = solo.advance(Duration::from_secs(300));
    assert_eq!(again.len(), 4, "MAX_RETRANSMIT");
    assert!(again.iter().all(|message| *message == first[0]));
    let times: Vec<Duration> = solo.log.iter().map(|(at, _, _)| *at - start).collect();
    let wait = times[1];
    assert!((2.0..=3.0).contains(&wait.as_secs_f64()), "{wait:?}");
    for (n, at) in times.iter().enumerate() {
        assert_eq!(*at, wait * ((1 << n) - 1));
    }
    let error = RequestError::Timeout;
    assert_eq!(solo.take_event(), Some(Event::Failed { id, error }));
    assert_eq!(solo.endpoint.stats().timeouts, 1);
    assert_eq!(solo.endpoint.stats().retransmissions, 4);
}

#[test]
fn the_first_wait_is_spread_over_ack_random_factor() {
    let mut waits = Vec::new();
    let mut solo = Solo::with(|config| config.max_retransmit = 0);
    for _ in 0..50 {
        let begin = solo.now;
        solo.request(Request::get("x"));
        let at = solo.endpoint.poll_timeout().unwrap();
        waits.push((at - begin).as_secs_f64());
        solo.advance(Duration::from_secs(10));
    }
    assert!(waits.iter().all(|wait| (2.0..=3.0).contains(wait)));
    assert!(waits.iter().any(|wait| *wait < 2.3) && waits.iter().any(|wait| *wait > 2.7));
}

#[test]
fn an_empty_ack_stops_repetition_and_the_response_may_come_later() {
    let mut solo = Solo::new();
    let (id, sent) = solo.request(Request::get("x"));
    solo.empty(Type::Acknowledgement, sent[0].id);
    assert_eq!(solo.advance(Duration::from_secs(60)), []);
    let mut response = Solo::ack(&sent[0], Code::CONTENT);
    response.kind = Type::Confirmable;
    response.id = 999;
    let ack = solo.ask(&response);
    assert_eq!((ack.kind, ack.id), (Type::Acknowledgement, 999));
    assert!(ack.code.is_empty());
    assert!(matches!(solo.take_event(), Some(Event::Response { id: other, .. }) if other == id));
}

#[test]
fn a_response_that_never_comes_after_the_ack_is_a_timeout() {
    let mut solo = Solo::new();
    let (id, sent) = solo.request(Request::get("x"));
    solo.empty(Type::Acknowledgement, sent[0].id);
    assert_eq!(solo.advance(Duration::from_secs(94)), []);
    let error = RequestError::Timeout;
    assert_eq!(solo.take_event(), Some(Event::Failed { id, error }));
}

#[test]
fn a_separate_response_before_its_ack_stops_repetition() {
    let mut solo = Solo::new();
    let (_, sent) = solo.request(Request::get("x"));
    let mut response = Solo::ack(&sent[0], Code::CONTENT);
    response.kind = Type::NonConfirmable;
    response.id = 3;
    assert_eq!(solo.send(&response), []);
    assert!(matches!(solo.take_event(), Some(Event::Response { .. })));
    assert_eq!(solo.advance(Duration::from_secs(60)), []);
    assert_eq!(solo.empty(Type::Acknowledgement, sent[0].id), []);
}

#[test]
fn a_late_poll_sends_one_repetition_not_several() {
    let mut solo = Solo::new();
    solo.request(Request::get("x"));
    solo.now += Duration::from_secs(20);
    solo.endpoint.handle_timeout(solo.now);
    assert_eq!(solo.drain().len(), 1);
}

#[test]
fn requests_arrive_exactly_once_over_a_bad_network() {
    let mut repeated = 0;
    for seed in 0..40 {
        let mut pair = Pair::new(
            seed,
            Network::BAD,
            Box::new(|request| {
                Some(homefleet_coap::Response::new(Code::CHANGED).payload(request.payload.clone()))
            }),
        );
        let mut delivered = 0;
        for n in 0..10u8 {
            let id = pair.request(Request::post("usp").payload(body(300, n)));
            match pair.response(id) {
                Ok(response) => {
                    assert_eq!(response.payload, body(300, n));
                    delivered += 1;
                }
                Err(error) => assert!(error.contains("Timeout"), "{error}"),
            }
        }
        pair.run_for(Duration::from_secs(100));
        assert!(delivered >= 8, "seed {seed}: {delivered}");
        let mut bodies: Vec<&[u8]> = pair.handled.iter().map(|r| &r.payload[..]).collect();
        let count = bodies.len();
        bodies.sort();
        bodies.dedup();
        assert_eq!(bodies.len(), count, "seed {seed}: the handler ran twice");
        assert!(count >= delivered);
        repeated += pair.sent(Side::Client).len() - 10;
    }
    assert!(repeated > 100, "{repeated} repetitions");
}
