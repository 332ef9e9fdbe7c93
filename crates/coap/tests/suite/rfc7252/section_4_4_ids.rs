//! Message IDs (RFC 7252 §4.4).

use std::collections::HashSet;
use std::time::Duration;

use homefleet_coap::{Code, Request};

use crate::support::{Solo, peer};

#[test]
fn message_ids_start_at_random_and_follow_each_other_per_peer() {
    let mut solo = Solo::new();
    let mut starts = HashSet::new();
    for port in 1..50 {
        solo.peer = peer(port);
        let (_, sent) = solo.request(Request::get("x"));
        starts.insert(sent[0].id);
        let first = sent[0].id;
        solo.send(&Solo::ack(&sent[0], Code::CONTENT));
        let (_, sent) = solo.request(Request::get("x"));
        assert_eq!(sent[0].id, first.wrapping_add(1));
    }
    assert!(starts.len() > 45);
}

#[test]
fn message_ids_do_not_start_anew_within_exchange_lifetime() {
    let mut solo = Solo::new();
    let (_, sent) = solo.request(Request::get("x"));
    solo.send(&Solo::ack(&sent[0], Code::CONTENT));
    solo.advance(Duration::from_secs(240));
    assert_eq!(solo.endpoint.peer_count(), 1);
    let (_, again) = solo.request(Request::get("x"));
    assert_eq!(again[0].id, sent[0].id.wrapping_add(1));
    solo.send(&Solo::ack(&again[0], Code::CONTENT));
    solo.advance(Duration::from_secs(240));
    assert_eq!(solo.endpoint.peer_count(), 1, "held since the last message");
    solo.advance(Duration::from_secs(10));
    assert_eq!(solo.endpoint.peer_count(), 0, "and not for ever");
    assert_eq!(solo.endpoint.poll_timeout(), None);
}

#[test]
fn reuse_of_message_ids_within_exchange_lifetime_is_counted() {
    let mut solo = Solo::new();
    for _ in 0..65_537 {
        let (_, sent) = solo.request(Request::get("x"));
        solo.send(&Solo::ack(&sent[0], Code::CONTENT));
        solo.log.clear();
        solo.events.clear();
    }
    assert_eq!(solo.endpoint.stats().message_ids_reused, 1);
}

#[test]
fn tokens_are_eight_random_bytes() {
    let mut solo = Solo::with(|config| config.nstart = 100);
    let mut tokens = HashSet::new();
    for _ in 0..100 {
        let (_, sent) = solo.request(Request::get("x"));
        assert_eq!(sent[0].token.bytes().len(), 8);
        tokens.insert(sent[0].token);
    }
    assert_eq!(tokens.len(), 100);
}
