//! Observing end to end over a bad network (RFC 7641 §1.3, §3.4, §4.5).

use std::time::Duration;

use homefleet_coap::{Code, Event, ObservationId, Request, Response};

use crate::support::{Network, Pair, body};

/// Registers over any network; the observation.
fn register(pair: &mut Pair) -> ObservationId {
    pair.request(Request::get("state").observe());
    for _ in 0..300 {
        pair.run_for(Duration::from_secs(1));
        let at = pair
            .server_events
            .iter()
            .position(|event| matches!(event, Event::Request { .. }));
        if let Some(at) = at {
            let Event::Request { exchange, .. } = pair.server_events.remove(at) else {
                unreachable!()
            };
            let id = pair.server.accept_observer(exchange).unwrap();
            let first = Response::content(0, "0");
            pair.server.respond(pair.now, exchange, first).unwrap();
            pair.drain();
            return id;
        }
    }
    panic!("the registration never arrived");
}

fn seen(pair: &Pair) -> Vec<Vec<u8>> {
    pair.client_events
        .iter()
        .filter_map(|event| match event {
            Event::Response { response, .. } | Event::Notification { response, .. } => {
                Some(response.payload.clone())
            }
            _ => None,
        })
        .collect()
}

#[test]
fn states_are_seen_in_order_and_the_last_one_in_the_end() {
    for seed in 0..60 {
        let every = if seed % 2 == 0 { 1 } else { 3 };
        let mut pair = Pair::with(
            seed,
            Network::BAD,
            |_, server| {
                server.notify_con_every = every;
                server.max_retransmit = 8;
            },
            Box::new(|_| None),
        );
        let id = register(&mut pair);
        for n in 1..=30u32 {
            pair.run_for(Duration::from_millis(700));
            let state = Response::content(0, n.to_string());
            pair.server.notify(pair.now, id, state).unwrap();
            pair.drain();
        }
        pair.run_for(Duration::from_secs(40));
        let numbers: Vec<u32> = seen(&pair)
            .iter()
            .map(|text| String::from_utf8_lossy(text).parse().unwrap())
            .collect();
        assert!(
            numbers.windows(2).all(|two| two[0] < two[1]),
            "seed {seed}: {numbers:?}"
        );
        if every == 1 {
            assert_eq!(numbers.last(), Some(&30), "seed {seed}");
        }
        assert!(numbers.len() >= 2, "seed {seed}");
    }
}

#[test]
fn large_states_arrive_whole_over_a_bad_network() {
    for seed in 0..20 {
        let mut pair = Pair::with(
            seed,
            Network::BAD,
            |client, server| {
                client.reregister = false;
                server.notify_con_every = 1;
            },
            Box::new(|_| None),
        );
        let id = register(&mut pair);
        for n in 1..=4u8 {
            pair.run_for(Duration::from_secs(60));
            let state = Response::content(42, body(3000, n));
            if pair.server.notify(pair.now, id, state).is_err() {
                break;
            }
            pair.drain();
        }
        pair.run_for(Duration::from_secs(60));
        for payload in seen(&pair).iter().filter(|payload| payload.len() > 1) {
            assert!((1..=4).any(|n| *payload == body(3000, n)), "seed {seed}");
        }
        assert!(seen(&pair).len() > 1, "seed {seed}");
    }
}

#[test]
fn a_state_that_the_client_has_already_is_validated_by_a_notification_with_2_03() {
    let mut pair = Pair::new(1, Network::GOOD, Box::new(|_| None));
    let id = pair.request(Request::get("x").observe().etag(b"one"));
    pair.run_for(Duration::from_secs(1));
    let Some(Event::Request {
        exchange, request, ..
    }) = pair.server_events.pop()
    else {
        panic!("no request")
    };
    let observation = pair.server.accept_observer(exchange).unwrap();
    let first = Response::new(Code::CONTENT).etag(b"two").payload("2");
    pair.server.respond(pair.now, exchange, first).unwrap();
    assert_eq!(pair.response(id).unwrap().payload, b"2");
    let back = request.validated(b"one").unwrap();
    pair.server.notify(pair.now, observation, back).unwrap();
    pair.run_for(Duration::from_secs(1));
    match pair.client_events.pop() {
        Some(Event::Notification { response, .. }) => {
            assert_eq!(response.code, Code::VALID);
            assert_eq!(response.options.etag(), Some(&b"one"[..]));
        }
        other => panic!("{other:?}"),
    }
}
