//! Congestion control: NSTART and PROBING_RATE (RFC 7252 §4.7).

use std::time::Duration;

use homefleet_coap::{Code, Event, Request, RequestError, Response, Type};

use crate::support::{Solo, peer};

#[test]
fn nstart_requests_are_outstanding_and_the_others_wait_in_order() {
    let mut solo = Solo::new();
    let (first, sent) = solo.request(Request::get("1"));
    assert_eq!(sent.len(), 1);
    let (second, none) = solo.request(Request::get("2"));
    assert_eq!(none, []);
    let (_, none) = solo.request(Request::get("3"));
    assert_eq!(none, []);
    let next = solo.ask(&Solo::ack(&sent[0], Code::CONTENT));
    assert_eq!(next.options.path(), "2");
    let last = solo.ask(&Solo::ack(&next, Code::CONTENT));
    assert_eq!(last.options.path(), "3");
    let ids: Vec<_> = solo
        .events
        .iter()
        .map(|event| match event {
            Event::Response { id, .. } => *id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, [first, second]);
}

#[test]
fn an_acknowledged_request_no_longer_counts() {
    let mut solo = Solo::new();
    let (_, sent) = solo.request(Request::get("1"));
    solo.request(Request::get("2"));
    let next = solo.empty(Type::Acknowledgement, sent[0].id);
    assert_eq!(next[0].options.path(), "2");
}

#[test]
fn nstart_counts_per_peer() {
    let mut solo = Solo::with(|config| config.nstart = 2);
    for port in 1..10 {
        solo.peer = peer(port);
        assert_eq!(solo.request(Request::get("1")).1.len(), 1);
        assert_eq!(solo.request(Request::get("2")).1.len(), 1);
        assert_eq!(solo.request(Request::get("3")).1.len(), 0);
    }
}

#[test]
fn the_queue_is_bounded_per_peer() {
    let mut solo = Solo::with(|config| config.max_queue = 2);
    for _ in 0..3 {
        solo.request(Request::get("x"));
    }
    let refused = solo
        .endpoint
        .request(solo.now, solo.peer, Request::get("x"));
    assert_eq!(refused, Err(RequestError::QueueFull));
    let other = solo.endpoint.request(solo.now, peer(9), Request::get("x"));
    assert!(other.is_ok());
}

#[test]
fn own_requests_are_bounded_over_all_peers() {
    let mut solo = Solo::with(|config| config.max_requests = 3);
    for port in 1..4 {
        solo.peer = peer(port);
        solo.request(Request::get("x"));
    }
    let refused = solo.endpoint.request(solo.now, peer(9), Request::get("x"));
    assert_eq!(refused, Err(RequestError::QueueFull));
}

#[test]
fn a_request_that_times_out_makes_room() {
    let mut solo = Solo::with(|config| config.max_retransmit = 0);
    solo.request(Request::get("1"));
    solo.request(Request::get("2"));
    let sent = solo.advance(Duration::from_secs(3));
    assert_eq!(sent[0].options.path(), "2");
}

#[test]
fn cancelled_requests_leave_the_queue_and_their_place() {
    let mut solo = Solo::new();
    let (first, _) = solo.request(Request::get("1"));
    let (second, _) = solo.request(Request::get("2"));
    solo.request(Request::get("3"));
    solo.endpoint.cancel(solo.now, second);
    assert_eq!(solo.drain(), []);
    solo.endpoint.cancel(solo.now, first);
    assert_eq!(solo.drain()[0].options.path(), "3");
    let error = RequestError::Cancelled;
    assert_eq!(solo.take_event(), Some(Event::Failed { id: second, error }));
    assert_eq!(solo.take_event(), Some(Event::Failed { id: first, error }));
}

#[test]
fn non_confirmable_requests_are_spaced_by_probing_rate() {
    let mut solo = Solo::with(|config| config.probing_rate = 10);
    let ask = || Request::post("x").non_confirmable().payload(vec![0; 100]);
    let (_, sent) = solo.request(ask());
    let len = sent[0].encode().len();
    let (_, none) = solo.request(ask());
    assert_eq!(none, []);
    assert_eq!(solo.advance(Duration::from_secs(len as u64 / 10 - 1)), []);
    assert_eq!(solo.advance(Duration::from_secs(2)).len(), 1);
}

#[test]
fn probing_rate_outlives_the_wait_for_a_response() {
    // 100 bytes at 1 byte a second, though the request is given up after 93 seconds.
    let mut solo = Solo::new();
    let ask = || Request::post("x").non_confirmable().payload(vec![0; 100]);
    let (id, sent) = solo.request(ask());
    let len = sent[0].encode().len() as u64;
    solo.request(ask());
    assert_eq!(solo.advance(Duration::from_secs(len - 1)), []);
    let error = RequestError::Timeout;
    assert_eq!(solo.take_event(), Some(Event::Failed { id, error }));
    assert_eq!(solo.advance(Duration::from_secs(2)).len(), 1);
}

#[test]
fn an_answer_of_any_kind_frees_the_place_of_a_non_confirmable_request() {
    let ask = || Request::post("x").non_confirmable().payload(vec![0; 100]);
    for (n, code) in [Code::EMPTY, Code::CONTENT, Code::NOT_FOUND]
        .into_iter()
        .enumerate()
    {
        let mut solo = Solo::new();
        let (_, sent) = solo.request(ask());
        assert_eq!(solo.request(ask()).1, []);
        let mut answer = Solo::ack(&sent[0], code);
        answer.kind = Type::NonConfirmable;
        answer.id = 7;
        if code == Code::EMPTY {
            answer = homefleet_coap::Message::empty(Type::Reset, sent[0].id);
        }
        assert_eq!(solo.send(&answer).len(), 1, "case {n}: the next one leaves");
        assert_eq!(solo.events.len(), 1);
    }
}

#[test]
fn separate_responses_to_a_peer_that_fell_silent_keep_to_probing_rate() {
    let post = |id| crate::support::message(Type::Confirmable, Code::POST, id, &[id as u8]);
    let mut solo = Solo::with(|config| {
        config.ack_random_factor = 1.0;
        config.exchange_timeout = Duration::from_secs(1000);
    });
    let exchanges: Vec<_> = (0..5)
        .map(|id| {
            solo.send(&post(id));
            solo.got().exchange
        })
        .collect();
    solo.advance(Duration::from_secs(1));
    let changed = || Response::new(Code::CHANGED).payload([7; 20]);
    let first = solo.respond(exchanges[0], changed()).remove(0);
    let sent = first.encode().len() as u64 * 5;
    // Given up after 31 times ACK_TIMEOUT.
    assert_eq!(solo.advance(Duration::from_secs(62)).len(), 4);
    // Nobody was there: nobody gets the next one.
    assert_eq!(solo.respond(exchanges[1], changed()), []);
    assert_eq!(solo.endpoint.stats().silence_held, 1);
    // PROBING_RATE allows it when the bytes are paid for.
    solo.advance(Duration::from_secs(sent - 1));
    assert_eq!(solo.respond(exchanges[2], changed()), []);
    solo.advance(Duration::from_secs(1));
    assert_eq!(solo.respond(exchanges[3], changed()).len(), 1);
    // And whoever is heard again is not silent.
    solo.advance(Duration::from_secs(62));
    solo.send(&post(9));
    assert_eq!(solo.respond(exchanges[4], changed()).len(), 1);
}

#[test]
fn a_peer_that_is_heard_meanwhile_is_not_silent() {
    let post = |id| crate::support::message(Type::Confirmable, Code::POST, id, &[id as u8]);
    let mut solo = Solo::new();
    solo.send(&post(1));
    let first = solo.got().exchange;
    solo.send(&post(2));
    let second = solo.got().exchange;
    solo.advance(Duration::from_secs(1));
    solo.respond(first, Response::new(Code::CHANGED).payload([7; 100]));
    solo.advance(Duration::from_secs(50));
    solo.send(&post(3));
    solo.advance(Duration::from_secs(50));
    assert_eq!(solo.endpoint.stats().responses_undelivered, 1);
    assert_eq!(solo.respond(second, Response::new(Code::CHANGED)).len(), 1);
}

#[test]
fn requests_of_ours_that_nobody_took_delay_nothing() {
    let mut solo = Solo::new();
    let ask = crate::support::message(Type::Confirmable, Code::GET, 1, &[1]);
    solo.send(&ask);
    solo.advance(Duration::from_secs(1));
    solo.request(Request::post("x").payload([7; 200]));
    solo.advance(Duration::from_secs(100));
    assert_eq!(solo.request(Request::get("x")).1.len(), 1);
    let exchange = solo.got().exchange;
    assert_eq!(
        solo.respond(exchange, Response::new(Code::CONTENT)).len(),
        1
    );
}

#[test]
fn what_was_sent_in_vain_adds_up() {
    let post = |id| crate::support::message(Type::Confirmable, Code::POST, id, &[id as u8]);
    let mut solo = Solo::with(|config| {
        config.ack_random_factor = 1.0;
        config.exchange_timeout = Duration::from_secs(1000);
    });
    let exchanges: Vec<_> = (0..4)
        .map(|id| {
            solo.send(&post(id));
            solo.got().exchange
        })
        .collect();
    solo.advance(Duration::from_secs(1));
    let long = Response::new(Code::CHANGED).payload([7; 50]);
    let mut sent = 0;
    for (exchange, response) in exchanges.iter().zip([long, Response::new(Code::CHANGED)]) {
        sent += solo.respond(*exchange, response)[0].encode().len() as u64 * 5;
    }
    solo.advance(Duration::from_secs(62 + sent - 1));
    let changed = || Response::new(Code::CHANGED);
    assert_eq!(solo.respond(exchanges[2], changed()), []);
    solo.advance(Duration::from_secs(1));
    assert_eq!(solo.respond(exchanges[3], changed()).len(), 1);
}

#[test]
fn a_notification_whose_turn_comes_while_the_peer_is_silent_waits_on() {
    let mut solo = Solo::with(|config| {
        config.ack_random_factor = 1.0;
        config.notify_con_every = 1;
        config.amplification = 0;
    });
    let content = |text: &str| Response::content(0, text.as_bytes().to_vec());
    let ask = |id: u16| crate::support::message(Type::Confirmable, Code::GET, id, &[id as u8]);
    let mut register = ask(1);
    register.options.set_observe(0);
    solo.send(&register);
    let exchange = solo.got().exchange;
    let observation = solo.endpoint.accept_observer(exchange).unwrap();
    solo.respond(exchange, content("18"));
    // A separate response that nobody takes; meanwhile a request of ours takes the place in NSTART, for longer.
    solo.send(&ask(2));
    let exchange = solo.got().exchange;
    solo.advance(Duration::from_secs(1));
    let separate = solo.respond(exchange, content("slow")).remove(0);
    solo.advance(Duration::from_secs(10));
    solo.request(Request::get("x"));
    let notified = solo.endpoint.notify(solo.now, observation, content("19"));
    assert_eq!(notified, Ok(()));
    assert_eq!(solo.drain(), [], "its turn has not come");
    let sent = solo.advance(Duration::from_secs(62));
    assert!(
        sent.iter().all(|m| m.options.observe().is_none()),
        "{sent:?}"
    );
    // Given up 62 s after it was sent, and silent for as long as its five transmissions take.
    let silence = separate.encode().len() as u64 * 5;
    assert_eq!(solo.advance(Duration::from_secs(silence - 12)), []);
    let sent = solo.advance(Duration::from_secs(2));
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].payload, b"19");
}
