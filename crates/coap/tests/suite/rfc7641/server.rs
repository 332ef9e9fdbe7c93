//! Serving observers (RFC 7641 §4).

use std::time::Duration;

use homefleet_coap::{
    Code, Event, Message, ObservationId, ObserveError, Peer, RespondError, Response, SessionId,
    Type, number,
};

use crate::support::{MessageExt, Solo, block, body, message, peer, token};

fn register(id: u16, tok: &[u8]) -> Message {
    message(Type::Confirmable, Code::GET, id, tok)
        .path("temperature")
        .option(number::OBSERVE, &[])
}

fn observed(solo: &mut Solo, ask: &Message) -> ObservationId {
    assert_eq!(solo.send(ask), []);
    let exchange = solo.got().exchange;
    let id = solo.endpoint.accept_observer(exchange).unwrap();
    let sent = solo.respond(exchange, Response::content(0, "18.5"));
    assert!(sent[0].options.observe().is_some());
    id
}

fn notify(solo: &mut Solo, id: ObservationId, text: &str) -> Vec<Message> {
    solo.endpoint
        .notify(solo.now, id, Response::content(0, text))
        .unwrap();
    solo.drain()
}

fn gone(solo: &mut Solo) -> Vec<ObservationId> {
    std::mem::take(&mut solo.events)
        .into_iter()
        .map(|event| match event {
            Event::ObserverGone { id } => id,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_registration_is_answered_with_a_sequence_number_and_followed_by_notifications() {
    let mut solo = Solo::new();
    let id = observed(&mut solo, &register(1, &[1, 2]));
    let first = solo.log[0].2.options.observe().unwrap();
    let sent = notify(&mut solo, id, "19");
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (sent[0].kind, sent[0].code),
        (Type::NonConfirmable, Code::CONTENT)
    );
    assert_eq!(sent[0].token, token(&[1, 2]));
    assert_eq!(sent[0].payload, b"19");
    assert!(sent[0].options.observe().unwrap() > first);
    assert_eq!(solo.endpoint.stats().notifications_out, 1);
}

#[test]
fn without_the_applications_consent_nobody_is_registered() {
    let mut solo = Solo::new();
    let answer = solo.serve(&register(1, &[1]), Response::content(0, "18.5"));
    assert_eq!(answer.options.observe(), None);
}

#[test]
fn only_a_safe_request_with_observe_0_can_be_observed() {
    let mut post = register(1, &[1]);
    post.code = Code::POST;
    let plain = message(Type::Confirmable, Code::GET, 2, &[1]);
    let other = message(Type::Confirmable, Code::GET, 3, &[1]).option(number::OBSERVE, &[2]);
    for ask in [post, plain, other] {
        let mut solo = Solo::new();
        solo.send(&ask);
        let exchange = solo.got().exchange;
        assert_eq!(
            solo.endpoint.accept_observer(exchange),
            Err(ObserveError::NotAsked)
        );
        let sent = solo.respond(exchange, Response::content(0, "x"));
        assert_eq!(sent[0].options.observe(), None);
        assert_eq!(
            solo.endpoint.accept_observer(exchange),
            Err(ObserveError::UnknownExchange)
        );
    }
}

#[test]
fn an_error_response_does_not_register() {
    let mut solo = Solo::new();
    solo.send(&register(1, &[1]));
    let exchange = solo.got().exchange;
    let id = solo.endpoint.accept_observer(exchange).unwrap();
    let sent = solo.respond(exchange, Response::new(Code::NOT_FOUND));
    assert_eq!(sent[0].options.observe(), None);
    assert_eq!(gone(&mut solo), [id]);
    assert_eq!(
        solo.endpoint
            .notify(solo.now, id, Response::content(0, "x")),
        Err(ObserveError::UnknownObservation)
    );
}

#[test]
fn every_nth_notification_is_confirmable() {
    let mut solo = Solo::with(|config| config.notify_con_every = 3);
    let id = observed(&mut solo, &register(1, &[1]));
    let mut kinds = Vec::new();
    for n in 0..9 {
        let sent = notify(&mut solo, id, &n.to_string());
        kinds.push(sent[0].kind == Type::Confirmable);
        solo.empty(Type::Acknowledgement, sent[0].id);
    }
    let expected = [false, false, true, false, false, true, false, false, true];
    assert_eq!(kinds, expected);
}

#[test]
fn after_a_day_the_next_notification_is_confirmable() {
    let mut solo = Solo::with(|config| config.notify_con_every = 1000);
    let id = observed(&mut solo, &register(1, &[1]));
    assert_eq!(notify(&mut solo, id, "1")[0].kind, Type::NonConfirmable);
    solo.advance(Duration::from_secs(24 * 3600));
    assert_eq!(notify(&mut solo, id, "2")[0].kind, Type::Confirmable);
}

#[test]
fn sequence_numbers_grow_by_one_each() {
    let mut solo = Solo::with(|config| config.notify_con_every = 1000);
    let id = observed(&mut solo, &register(1, &[1]));
    let mut last = solo.log[0].2.options.observe().unwrap();
    for _ in 0..100 {
        let seq = notify(&mut solo, id, "x")[0].options.observe().unwrap();
        assert_eq!(seq, last + 1);
        last = seq;
    }
}

#[test]
fn rst_to_a_confirmable_notification_ends_the_observation() {
    let mut solo = Solo::with(|config| config.notify_con_every = 1);
    let id = observed(&mut solo, &register(1, &[1]));
    let sent = notify(&mut solo, id, "19");
    assert_eq!(sent[0].kind, Type::Confirmable);
    solo.empty(Type::Reset, sent[0].id);
    assert_eq!(gone(&mut solo), [id]);
    assert_eq!(solo.advance(Duration::from_secs(100)), []);
}

#[test]
fn rst_to_a_non_confirmable_notification_ends_the_observation() {
    let mut solo = Solo::with(|config| config.notify_con_every = 1000);
    let id = observed(&mut solo, &register(1, &[1]));
    let first = notify(&mut solo, id, "1");
    notify(&mut solo, id, "2");
    solo.empty(Type::Reset, first[0].id);
    assert_eq!(gone(&mut solo), [id]);
}

#[test]
fn an_observer_that_acknowledges_nothing_is_removed() {
    let mut solo = Solo::with(|config| config.notify_con_every = 1);
    let id = observed(&mut solo, &register(1, &[1]));
    notify(&mut solo, id, "19");
    assert_eq!(solo.advance(Duration::from_secs(100)).len(), 4);
    assert_eq!(gone(&mut solo), [id]);
    assert_eq!(solo.endpoint.stats().responses_undelivered, 1);
    solo.advance(Duration::from_secs(300));
    assert_eq!(solo.endpoint.peer_count(), 0);
}

#[test]
fn observe_1_deregisters_and_is_answered_like_a_get() {
    let mut solo = Solo::new();
    let id = observed(&mut solo, &register(1, &[1]));
    let mut ask = register(2, &[1]);
    ask.options.set_observe(1);
    assert_eq!(solo.send(&ask), []);
    assert!(matches!(solo.events.remove(0), Event::ObserverGone { id: other } if other == id));
    let exchange = solo.got().exchange;
    let sent = solo.respond(exchange, Response::content(0, "19"));
    assert_eq!(
        (sent[0].code, sent[0].options.observe()),
        (Code::CONTENT, None)
    );
}

#[test]
fn observe_1_of_another_token_or_peer_changes_nothing() {
    let mut solo = Solo::new();
    let id = observed(&mut solo, &register(1, &[1]));
    let mut ask = register(2, &[2]);
    ask.options.set_observe(1);
    solo.send(&ask);
    ask.token = token(&[1]);
    ask.id = 3;
    solo.input_from(peer(9), &ask.encode());
    solo.events.clear();
    assert_eq!(notify(&mut solo, id, "19").len(), 1);
}

#[test]
fn a_plain_get_does_not_deregister() {
    let mut solo = Solo::new();
    let id = observed(&mut solo, &register(1, &[1]));
    let get = message(Type::Confirmable, Code::GET, 2, &[9]).path("temperature");
    solo.serve(&get, Response::content(0, "19"));
    assert_eq!(notify(&mut solo, id, "20").len(), 1);
}

#[test]
fn a_repeated_registration_keeps_its_observation() {
    let mut solo = Solo::new();
    let id = observed(&mut solo, &register(1, &[1]));
    notify(&mut solo, id, "19");
    assert_eq!(observed(&mut solo, &register(2, &[1])), id);
    let numbers: Vec<_> = solo
        .log
        .iter()
        .map(|(_, _, m)| m.options.observe())
        .collect();
    assert_eq!(numbers, [Some(1), Some(2), Some(3)]);
    assert_eq!(solo.events, []);
}

#[test]
fn the_same_token_for_another_resource_replaces_the_observation() {
    let mut solo = Solo::with(|config| config.notify_con_every = 1);
    let old = observed(&mut solo, &register(1, &[1]));
    let on_its_way = notify(&mut solo, old, "19");
    let mut ask = register(2, &[1]);
    ask.options.set_path("humidity");
    let new = observed(&mut solo, &ask);
    assert_ne!(new, old);
    assert_eq!(gone(&mut solo), [old]);
    assert_eq!(notify(&mut solo, new, "60"), [], "NSTART");
    let sent = solo.empty(Type::Acknowledgement, on_its_way[0].id);
    assert_eq!(sent[0].payload, b"60");
}

#[test]
fn while_a_confirmable_is_on_its_way_only_the_newest_state_waits() {
    let mut solo = Solo::with(|config| config.notify_con_every = 1);
    let id = observed(&mut solo, &register(1, &[1]));
    let first = notify(&mut solo, id, "1");
    assert_eq!(notify(&mut solo, id, "2"), []);
    assert_eq!(notify(&mut solo, id, "3"), []);
    let next = solo.empty(Type::Acknowledgement, first[0].id);
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].payload, b"3");
    assert_eq!(solo.endpoint.stats().notifications_superseded, 1);
}

#[test]
fn a_newer_state_takes_the_place_of_the_one_being_repeated() {
    // RFC 7641 §4.5.2: the new state, in a new message, with the old count of attempts.
    let mut solo = Solo::with(|config| config.notify_con_every = 1);
    let id = observed(&mut solo, &register(1, &[1]));
    let first = notify(&mut solo, id, "1");
    notify(&mut solo, id, "2");
    let sent = solo.advance(Duration::from_secs(100));
    assert_eq!(sent.len(), 4);
    for message in &sent {
        assert_eq!(message.payload, b"2");
        assert_eq!(message.id, sent[0].id);
        assert_ne!(message.id, first[0].id);
    }
    assert!(sent[0].options.observe() > first[0].options.observe());
    assert_eq!(gone(&mut solo), [id]);
}

#[test]
fn confirmable_notifications_to_one_peer_count_towards_nstart() {
    let mut solo = Solo::with(|config| config.notify_con_every = 1);
    let ids: Vec<_> = (1..4u8)
        .map(|n| observed(&mut solo, &register(u16::from(n), &[n])))
        .collect();
    let sent = notify(&mut solo, ids[0], "a");
    assert_eq!(notify(&mut solo, ids[1], "b"), []);
    assert_eq!(notify(&mut solo, ids[2], "c"), []);
    assert_eq!(notify(&mut solo, ids[1], "B"), []);
    let sent = solo.empty(Type::Acknowledgement, sent[0].id);
    assert_eq!(sent[0].payload, b"B");
    let sent = solo.empty(Type::Acknowledgement, sent[0].id);
    assert_eq!(sent[0].payload, b"c");
}

#[test]
fn an_error_code_is_the_last_notification() {
    let mut solo = Solo::new();
    let id = observed(&mut solo, &register(1, &[1]));
    solo.endpoint
        .notify(solo.now, id, Response::new(Code::NOT_FOUND))
        .unwrap();
    let sent = solo.drain();
    assert_eq!(
        (sent[0].kind, sent[0].code),
        (Type::Confirmable, Code::NOT_FOUND)
    );
    assert_eq!(sent[0].options.observe(), None);
    assert_eq!(
        solo.endpoint
            .notify(solo.now, id, Response::content(0, "x")),
        Err(ObserveError::UnknownObservation)
    );
    solo.empty(Type::Acknowledgement, sent[0].id);
    assert_eq!(solo.advance(Duration::from_secs(100)), []);
}

#[test]
fn an_observation_can_be_ended_silently() {
    let mut solo = Solo::with(|config| config.notify_con_every = 1);
    let id = observed(&mut solo, &register(1, &[1]));
    let other = observed(&mut solo, &register(2, &[2]));
    notify(&mut solo, id, "1");
    notify(&mut solo, other, "2");
    solo.endpoint.end_observation(solo.now, id);
    let sent = solo.drain();
    assert_eq!(sent[0].payload, b"2", "its place in NSTART is free");
    assert!(solo.events.is_empty());
}

#[test]
fn an_invalid_notification_is_refused_and_changes_nothing() {
    let mut solo = Solo::new();
    let id = observed(&mut solo, &register(1, &[1]));
    let error = ObserveError::Respond(RespondError::Invalid { option: None });
    assert_eq!(
        solo.endpoint.notify(solo.now, id, Response::new(Code::GET)),
        Err(error)
    );
    assert_eq!(notify(&mut solo, id, "x").len(), 1);
}

#[test]
fn a_large_notification_brings_its_first_block_and_the_rest_is_asked_for() {
    // RFC 7959 §3.4.
    let mut solo = Solo::new();
    let id = observed(&mut solo, &register(1, &[1]));
    let large = Response::content(42, body(2000, 3));
    solo.endpoint.notify(solo.now, id, large).unwrap();
    let sent = solo.drain();
    assert_eq!(sent[0].options.block2(), block(0, true, 1024));
    assert!(sent[0].options.observe().is_some());
    let rest = message(Type::Confirmable, Code::GET, 2, &[7])
        .path("temperature")
        .block2(1, false, 6);
    let answer = solo.ask(&rest);
    assert_eq!(answer.payload, body(2000, 3)[1024..]);
    assert_eq!(answer.options.observe(), None);
    assert_eq!(answer.options.etag(), sent[0].options.etag());
}

#[test]
fn observers_are_bounded_per_peer_and_overall() {
    let mut solo = Solo::with(|config| {
        config.max_observations_per_peer = 2;
        config.max_observations = 3;
    });
    let attempt = |solo: &mut Solo, id: u8| {
        solo.send(&register(u16::from(id), &[id]));
        let exchange = solo.got().exchange;
        let accepted = solo.endpoint.accept_observer(exchange);
        solo.respond(exchange, Response::content(0, "x"));
        accepted
    };
    assert!(attempt(&mut solo, 1).is_ok() && attempt(&mut solo, 2).is_ok());
    assert_eq!(attempt(&mut solo, 3), Err(ObserveError::Limit));
    assert_eq!(solo.log[2].2.options.observe(), None);
    solo.peer = peer(2);
    assert!(attempt(&mut solo, 1).is_ok());
    assert_eq!(attempt(&mut solo, 2), Err(ObserveError::Limit));
    assert_eq!(solo.endpoint.stats().observers_refused, 2);
}

#[test]
fn under_pressure_the_oldest_observer_without_security_makes_room_for_an_authenticated_one() {
    let mut solo = Solo::with(|config| config.max_observations = 2);
    let secure = |n| Peer::secure(peer(n).addr, SessionId(u64::from(n)));
    let mut plain = Vec::new();
    for port in 1..=2 {
        solo.peer = peer(port);
        plain.push(observed(&mut solo, &register(1, &[1])));
    }
    // Nothing else is remembered of the strangers by now, and one of them is being notified.
    solo.advance(Duration::from_secs(300));
    for _ in 0..5 {
        notify(&mut solo, plain[0], "19");
    }
    for port in 3..=4 {
        solo.peer = secure(port);
        observed(&mut solo, &register(1, &[1]));
    }
    assert_eq!(gone(&mut solo), plain);
    assert_eq!(solo.endpoint.stats().observers_evicted, 2);
    // Neither a stranger nor a third authenticated one takes the place of those.
    for other in [peer(5), secure(6)] {
        solo.peer = other;
        solo.send(&register(1, &[1]));
        let exchange = solo.got().exchange;
        let refused = solo.endpoint.accept_observer(exchange);
        assert_eq!(refused, Err(ObserveError::Limit));
    }
    for port in 3..=4 {
        solo.endpoint.forget_peer(solo.now, secure(port));
    }
    solo.advance(Duration::from_secs(1000));
    assert_eq!(solo.endpoint.peer_count(), 0);
}
