//! Observing (RFC 7641 §3).

use std::time::Duration;

use homefleet_coap::{Code, Event, Message, Request, RequestError, RequestId, Response, Type};

use crate::support::{MessageExt, Solo, block, body, message};

/// Registers; the request as sent.
fn observe(solo: &mut Solo) -> (RequestId, Message) {
    let (id, mut sent) = solo.request(Request::get("temperature").observe());
    let ask = sent.remove(0);
    assert_eq!(ask.options.observe(), Some(0));
    (id, ask)
}

fn registered(solo: &mut Solo, seq: u32) -> (RequestId, Message) {
    let (id, ask) = observe(solo);
    let mut answer = Solo::ack(&ask, Code::CONTENT).body("18.5");
    answer.options.set_observe(seq);
    assert_eq!(solo.send(&answer), []);
    match solo.take_event() {
        Some(Event::Response { response, .. }) => assert_eq!(response.payload, b"18.5"),
        other => panic!("{other:?}"),
    }
    (id, ask)
}

fn notification(ask: &Message, id: u16, seq: u32, text: &str) -> Message {
    let mut sent = message(Type::NonConfirmable, Code::CONTENT, id, ask.token.bytes());
    sent.options.set_observe(seq);
    sent.body(text)
}

fn texts(solo: &mut Solo) -> Vec<String> {
    std::mem::take(&mut solo.events)
        .into_iter()
        .map(|event| match event {
            Event::Notification { response, .. } => String::from_utf8(response.payload).unwrap(),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn notifications_are_delivered_and_confirmable_ones_acknowledged() {
    let mut solo = Solo::new();
    let (_, ask) = registered(&mut solo, 12);
    assert_eq!(solo.send(&notification(&ask, 1, 13, "19")), []);
    let mut confirmable = notification(&ask, 2, 14, "20");
    confirmable.kind = Type::Confirmable;
    let ack = Message::empty(Type::Acknowledgement, 2);
    assert_eq!(solo.ask(&confirmable), ack);
    assert_eq!(solo.ask(&confirmable), ack, "a repetition");
    assert_eq!(texts(&mut solo), ["19", "20"]);
}

#[test]
fn notifications_out_of_order_are_dropped() {
    let mut solo = Solo::new();
    let (_, ask) = registered(&mut solo, 10);
    for (id, seq) in [(1, 12), (2, 11), (3, 12), (4, 13)] {
        solo.send(&notification(&ask, id, seq, &seq.to_string()));
    }
    assert_eq!(texts(&mut solo), ["12", "13"]);
    assert_eq!(solo.endpoint.stats().notifications_stale, 2);
}

#[test]
fn sequence_numbers_wrap_at_24_bits() {
    let mut solo = Solo::new();
    let (_, ask) = registered(&mut solo, 0xff_fffe);
    for (id, seq) in [(1, 0xff_ffff), (2, 0), (3, 0xff_ffff), (4, 1)] {
        solo.send(&notification(&ask, id, seq, &seq.to_string()));
    }
    assert_eq!(texts(&mut solo), ["16777215", "0", "1"]);
}

#[test]
fn after_128_seconds_any_notification_is_newer() {
    let mut solo = Solo::with(|config| config.reregister = false);
    let (_, ask) = registered(&mut solo, 1000);
    solo.advance(Duration::from_secs(127));
    solo.send(&notification(&ask, 1, 5, "old"));
    solo.advance(Duration::from_secs(2));
    solo.send(&notification(&ask, 2, 5, "new"));
    assert_eq!(texts(&mut solo), ["new"]);
}

#[test]
fn an_overdue_client_registers_again_with_the_same_token() {
    let mut solo = Solo::new();
    let (_, ask) = registered(&mut solo, 1);
    assert_eq!(solo.advance(Duration::from_secs(64)), [], "Max-Age is 60 s");
    let again = solo.advance(Duration::from_secs(12));
    assert!(!again.is_empty());
    assert_eq!(
        (again[0].token, again[0].options.observe()),
        (ask.token, Some(0))
    );
    assert_ne!(again[0].id, ask.id);
    // The answer counts whatever its number is: the server may have started anew.
    let mut answer = Solo::ack(&again[0], Code::CONTENT).body("20");
    answer.options.set_observe(0);
    solo.send(&answer);
    assert_eq!(texts(&mut solo), ["20"]);
    solo.send(&notification(&ask, 1, 1, "21"));
    assert_eq!(texts(&mut solo), ["21"]);
}

#[test]
fn a_registration_that_waits_for_its_turn_is_dropped_when_a_notification_comes() {
    let mut solo = Solo::new();
    let (_, ask) = registered(&mut solo, 1);
    solo.advance(Duration::from_secs(50));
    // NSTART is taken by a request that nobody answers, until long after Max-Age.
    solo.request(Request::get("silent"));
    let sent = solo.advance(Duration::from_secs(35));
    assert!(sent.iter().all(|m| m.token != ask.token), "{sent:?}");
    solo.send(&notification(&ask, 1, 2, "19"));
    assert_eq!(texts(&mut solo), ["19"]);
    // The place is free now, and the state is fresh.
    let sent = solo.advance(Duration::from_secs(60));
    assert!(matches!(solo.take_event(), Some(Event::Failed { .. })));
    assert!(sent.iter().all(|m| m.token != ask.token), "{sent:?}");
    let sent = solo.advance(Duration::from_secs(20));
    assert!(sent.iter().any(|m| m.token == ask.token));
}

#[test]
fn max_age_says_when_notifications_are_overdue() {
    let mut solo = Solo::new();
    let (_, ask) = registered(&mut solo, 1);
    let mut long = notification(&ask, 1, 2, "19");
    long.options.set_max_age(1000);
    solo.send(&long);
    assert_eq!(solo.advance(Duration::from_secs(1004)), []);
    assert!(!solo.advance(Duration::from_secs(12)).is_empty());
}

#[test]
fn a_server_that_does_not_observe_gives_one_response() {
    let mut solo = Solo::new();
    let (id, ask) = observe(&mut solo);
    solo.send(&Solo::ack(&ask, Code::CONTENT));
    assert!(matches!(solo.take_event(), Some(Event::Response { id: other, .. }) if other == id));
    let late = notification(&ask, 1, 2, "x");
    assert_eq!(solo.ask(&late), Message::empty(Type::Reset, 1));
    assert!(solo.events.is_empty());
}

#[test]
fn an_error_or_a_response_without_observe_ends_the_observation() {
    for code in [Code::NOT_FOUND, Code::CONTENT] {
        let mut solo = Solo::new();
        let (id, ask) = registered(&mut solo, 1);
        let mut last = message(Type::Confirmable, code, 1, ask.token.bytes());
        if code == Code::NOT_FOUND {
            last.options.set_observe(2);
        }
        assert_eq!(solo.ask(&last).kind, Type::Acknowledgement);
        match solo.take_event() {
            Some(Event::Notification { response, .. }) => assert_eq!(response.code, code),
            other => panic!("{other:?}"),
        }
        let error = RequestError::ObservationEnded;
        assert_eq!(solo.take_event(), Some(Event::Failed { id, error }));
        assert_eq!(solo.advance(Duration::from_secs(200)), []);
    }
}

#[test]
fn a_cancelled_observation_is_forgotten_and_its_notifications_rejected() {
    let mut solo = Solo::new();
    let (id, ask) = registered(&mut solo, 1);
    solo.endpoint.cancel(solo.now, id);
    solo.drain();
    let error = RequestError::Cancelled;
    assert_eq!(solo.take_event(), Some(Event::Failed { id, error }));
    for kind in [Type::NonConfirmable, Type::Confirmable] {
        let mut late = notification(&ask, 5, 2, "x");
        late.kind = kind;
        assert_eq!(solo.ask(&late), Message::empty(Type::Reset, 5));
    }
    assert_eq!(solo.advance(Duration::from_secs(200)), []);
}

#[test]
fn an_observation_does_not_hold_a_place_in_nstart() {
    let mut solo = Solo::new();
    registered(&mut solo, 1);
    assert_eq!(solo.request(Request::get("x")).1.len(), 1);
}

fn large(ask: &Message, id: u16, seq: u32, salt: u8) -> Message {
    let mut first = notification(ask, id, seq, "").block2(0, true, 6);
    first.options.set_etag(&[salt]);
    first.body(&body(2000, salt)[..1024])
}

fn rest(ask: &Message, salt: u8) -> Message {
    let mut answer = Solo::ack(ask, Code::CONTENT).block2(1, false, 6);
    answer.options.set_etag(&[salt]);
    answer.body(&body(2000, salt)[1024..])
}

#[test]
fn the_rest_of_a_large_notification_is_read_with_another_token() {
    // RFC 7959 §3.4.
    let mut solo = Solo::new();
    let (id, ask) = registered(&mut solo, 1);
    let get = solo.ask(&large(&ask, 1, 2, 9));
    assert_eq!(get.options.block2(), block(1, false, 1024));
    assert_eq!(get.options.observe(), None);
    assert_ne!(get.token, ask.token);
    assert_eq!(solo.send(&rest(&get, 9)), []);
    let payload = body(2000, 9);
    assert_eq!(
        solo.take_event(),
        Some(Event::Notification {
            id,
            response: Response {
                code: Code::CONTENT,
                options: {
                    let mut options = notification(&ask, 1, 2, "").options;
                    options.set_etag(&[9]);
                    options
                },
                payload,
            }
        })
    );
    solo.send(&notification(&ask, 2, 3, "small again"));
    assert_eq!(texts(&mut solo), ["small again"]);
}

#[test]
fn a_newer_notification_stops_the_reading_of_an_older_one() {
    let mut solo = Solo::new();
    let (_, ask) = registered(&mut solo, 1);
    let old = solo.ask(&large(&ask, 1, 2, 9));
    let new = solo.ask(&large(&ask, 2, 3, 8));
    assert_ne!(old.token, new.token);
    assert_eq!(solo.send(&rest(&old, 9)), []);
    let mut late = rest(&old, 9);
    late.kind = Type::Confirmable;
    late.id = 800;
    assert_eq!(solo.ask(&late), Message::empty(Type::Reset, 800));
    assert_eq!(solo.send(&rest(&new, 8)), []);
    assert!(matches!(
        solo.take_event(),
        Some(Event::Notification { response, .. }) if response.payload == body(2000, 8)
    ));
    assert_eq!(solo.take_event(), None);
}

#[test]
fn a_large_first_response_registers_after_its_last_block() {
    let mut solo = Solo::new();
    let (_, ask) = observe(&mut solo);
    let mut first = Solo::ack(&ask, Code::CONTENT).block2(0, true, 6);
    first.options.set_observe(7);
    first.options.set_etag(&[9]);
    let get = solo.ask(&first.body(&body(2000, 9)[..1024]));
    assert_eq!(get.options.observe(), None);
    solo.send(&rest(&get, 9));
    assert!(matches!(
        solo.take_event(),
        Some(Event::Response { response, .. })
            if response.payload == body(2000, 9) && response.options.observe() == Some(7)
    ));
    solo.send(&notification(&ask, 1, 8, "next"));
    assert_eq!(texts(&mut solo), ["next"]);
}

#[test]
fn a_deregistration_is_the_same_request_with_observe_1_and_its_response_the_last_event() {
    let mut solo = Solo::new();
    let (id, ask) = registered(&mut solo, 12);
    solo.endpoint.deregister(solo.now, id);
    let sent = solo.drain().remove(0);
    assert_eq!((sent.kind, sent.code), (Type::Confirmable, Code::GET));
    assert_eq!(sent.token, ask.token);
    assert_eq!(sent.options.observe(), Some(1));
    assert_eq!(sent.options.path(), "temperature");
    // A notification that crosses it is acknowledged and is not the answer.
    let mut crossing = notification(&ask, 2, 13, "19");
    crossing.kind = Type::Confirmable;
    assert_eq!(solo.ask(&crossing).kind, Type::Acknowledgement);
    assert_eq!(solo.take_event(), None);
    solo.send(&Solo::ack(&sent, Code::CONTENT).body("20"));
    match solo.take_event() {
        Some(Event::Response {
            id: of, response, ..
        }) => {
            assert_eq!((of, &response.payload[..]), (id, &b"20"[..]));
        }
        other => panic!("{other:?}"),
    }
    // Nothing is observed any more.
    assert_eq!(solo.ask(&notification(&ask, 3, 14, "21")).kind, Type::Reset);
    assert_eq!(solo.advance(Duration::from_secs(400)), []);
    assert_eq!(solo.endpoint.peer_count(), 0);
}

#[test]
fn a_deregistration_that_nobody_answers_fails() {
    let mut solo = Solo::new();
    let (id, _) = registered(&mut solo, 12);
    solo.endpoint.deregister(solo.now, id);
    assert_eq!(solo.advance(Duration::from_secs(100)).len(), 5);
    let error = RequestError::Timeout;
    assert_eq!(solo.take_event(), Some(Event::Failed { id, error }));
}

#[test]
fn a_request_that_observes_nothing_yet_is_cancelled_instead() {
    let mut solo = Solo::new();
    let (id, _) = observe(&mut solo);
    solo.endpoint.deregister(solo.now, id);
    assert_eq!(solo.drain(), []);
    let error = RequestError::Cancelled;
    assert_eq!(solo.take_event(), Some(Event::Failed { id, error }));
}
