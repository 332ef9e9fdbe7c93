//! Congestion control: NSTART and PROBING_RATE (RFC 7252 §4.7).

use std::time::Duration;

use homefleet_coap::{Code, Event, Request, RequestError, Type};

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
