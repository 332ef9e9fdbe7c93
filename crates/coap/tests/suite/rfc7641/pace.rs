//! Pace of notifications (RFC 7641 §4.5.1, RFC 7252 §4.7).

use std::time::Duration;

use homefleet_coap::{Code, Message, ObservationId, Response, Type, number};

use crate::support::{MessageExt, Solo, message, peer};

const PACE: Duration = Duration::from_secs(3);

fn solo() -> Solo {
    Solo::with(|config| {
        config.notify_pace = PACE;
        config.notify_con_every = 4;
    })
}

fn observed(solo: &mut Solo, token: u8) -> ObservationId {
    let ask = message(Type::Confirmable, Code::GET, u16::from(token), &[token])
        .path("x")
        .option(number::OBSERVE, b"");
    solo.send(&ask);
    let exchange = solo.got().exchange;
    let id = solo.endpoint.accept_observer(exchange).unwrap();
    solo.respond(exchange, Response::new(Code::CONTENT));
    id
}

fn notify(solo: &mut Solo, id: ObservationId, state: &str) -> Vec<Message> {
    let response = Response::new(Code::CONTENT).payload(state);
    solo.endpoint.notify(solo.now, id, response).unwrap();
    solo.drain()
}

#[test]
fn non_confirmable_notifications_to_one_peer_are_three_seconds_apart() {
    let mut solo = solo();
    let id = observed(&mut solo, 1);
    assert_eq!(notify(&mut solo, id, "a").len(), 1);
    assert_eq!(notify(&mut solo, id, "b"), []);
    assert_eq!(notify(&mut solo, id, "c"), []);
    assert_eq!(solo.advance(Duration::from_millis(2999)), []);
    let sent = solo.advance(Duration::from_millis(1));
    assert_eq!(sent.len(), 1, "the newest state");
    assert_eq!(
        (sent[0].kind, &sent[0].payload[..]),
        (Type::NonConfirmable, &b"c"[..])
    );
    assert_eq!(solo.endpoint.stats().notifications_superseded, 1);
    assert_eq!(solo.advance(Duration::from_secs(60)), []);
    assert_eq!(notify(&mut solo, id, "d").len(), 1);
}

#[test]
fn the_pace_is_that_of_the_peer_over_all_its_observations() {
    let mut solo = solo();
    let one = observed(&mut solo, 1);
    let two = observed(&mut solo, 2);
    assert_eq!(notify(&mut solo, one, "a").len(), 1);
    assert_eq!(notify(&mut solo, two, "b"), []);
    solo.peer = peer(50_000);
    let other = observed(&mut solo, 1);
    assert_eq!(notify(&mut solo, other, "c").len(), 1, "another peer");
    assert_eq!(solo.advance(PACE).len(), 1);
}

#[test]
fn a_confirmable_notification_does_not_wait_and_takes_the_newest_state() {
    let mut solo = solo();
    let id = observed(&mut solo, 1);
    for state in ["a", "b", "c"] {
        notify(&mut solo, id, state);
        solo.advance(PACE);
    }
    solo.advance(PACE);
    let sent = notify(&mut solo, id, "d");
    assert_eq!(
        (sent[0].kind, &sent[0].payload[..]),
        (Type::Confirmable, &b"d"[..])
    );
    solo.empty(Type::Acknowledgement, sent[0].id);
    assert_eq!(
        solo.advance(Duration::from_secs(60)),
        [],
        "nothing is left over"
    );
}

#[test]
fn an_observation_that_ends_takes_its_waiting_state_along() {
    let mut solo = solo();
    let id = observed(&mut solo, 1);
    notify(&mut solo, id, "a");
    notify(&mut solo, id, "b");
    solo.endpoint.end_observation(solo.now, id);
    let next = solo.endpoint.poll_timeout().unwrap();
    assert!(
        next > solo.now + Duration::from_secs(100),
        "no timer is left"
    );
    assert_eq!(solo.advance(Duration::from_secs(1000)), []);
    assert_eq!(solo.endpoint.peer_count(), 0);
    assert_eq!(solo.endpoint.poll_timeout(), None);
}

#[test]
fn an_observer_whose_peer_fell_silent_is_asked_by_a_confirmable_when_probing_rate_allows() {
    let mut solo = Solo::with(|config| config.ack_random_factor = 1.0);
    let id = observed(&mut solo, 1);
    // A separate response that nobody acknowledges.
    solo.send(&message(Type::Confirmable, Code::GET, 9, &[9]).path("x"));
    let exchange = solo.got().exchange;
    solo.advance(Duration::from_secs(1));
    let separate = solo
        .respond(exchange, Response::content(0, [7; 20]))
        .remove(0);
    let spent = separate.encode().len() as u64 * 5;
    // Given up after 31 times ACK_TIMEOUT.
    assert_eq!(solo.advance(Duration::from_secs(62)).len(), 4);
    assert_eq!(notify(&mut solo, id, "a"), []);
    assert_eq!(notify(&mut solo, id, "b"), []);
    assert_eq!(solo.advance(Duration::from_secs(spent - 1)), []);
    let sent = solo.advance(Duration::from_secs(1));
    assert_eq!(
        (sent[0].kind, &sent[0].payload[..]),
        (Type::Confirmable, &b"b"[..])
    );
    // Acknowledged: it is back, and notified as before.
    solo.empty(Type::Acknowledgement, sent[0].id);
    assert_eq!(notify(&mut solo, id, "c")[0].kind, Type::NonConfirmable);
}

#[test]
fn what_was_held_back_from_a_silent_peer_leaves_when_it_is_heard_unless_it_deregisters() {
    for deregisters in [false, true] {
        let mut solo = Solo::new();
        let id = observed(&mut solo, 1);
        solo.send(&message(Type::Confirmable, Code::GET, 9, &[9]).path("x"));
        let exchange = solo.got().exchange;
        solo.advance(Duration::from_secs(1));
        solo.respond(exchange, Response::content(0, [7; 100]));
        solo.advance(Duration::from_secs(100));
        assert_eq!(notify(&mut solo, id, "a"), []);
        let mut ask = message(Type::Confirmable, Code::GET, 10, &[1]).path("x");
        if deregisters {
            ask = ask.option(number::OBSERVE, &[1]);
        }
        let sent = solo.send(&ask);
        let payloads: Vec<_> = sent.iter().map(|m| &m.payload[..]).collect();
        let expected: &[&[u8]] = if deregisters { &[] } else { &[b"a"] };
        assert_eq!(payloads, expected);
    }
}
