//! Request-Tag as client (sections 3.3 to 3.5).

use std::collections::HashSet;

use homefleet_coap::{Block, Code, Message, Peer, Request, Response, SessionId, number};

use crate::support::{MessageExt, Network, Pair, Side, Solo, body, peer};

fn upload(path: &str) -> Request {
    Request::post(path).payload(body(3000, 1))
}

fn tag(message: &Message) -> Option<Vec<u8>> {
    message
        .options
        .first(number::REQUEST_TAG)
        .map(<[u8]>::to_vec)
}

#[test]
fn uploads_behind_dtls_never_use_a_tag_twice() {
    let mut solo = Solo::with(|config| config.nstart = 8);
    solo.peer = Peer::secure(peer(7).addr, SessionId(1));
    let mut tags = HashSet::new();
    for _ in 0..5 {
        for _ in 0..3 {
            let (id, sent) = solo.request(upload("x"));
            let tag = tag(&sent[0]).expect("a tag");
            assert!(tag.len() <= 8 && tags.insert(tag));
            solo.endpoint.cancel(solo.now, id);
        }
        solo.request(Request::post("x").payload("small"));
    }
    let small = solo.log.iter().filter(|(_, _, m)| m.payload == b"small");
    assert!(small.clone().count() > 0);
    for (_, _, message) in small {
        assert_eq!(tag(message), None, "without a Block option there is no tag");
    }
}

#[test]
fn an_upload_alone_without_dtls_needs_no_tag_and_the_next_beside_it_does() {
    let mut solo = Solo::with(|config| config.nstart = 8);
    let (first, sent) = solo.request(upload("x"));
    assert_eq!(tag(&sent[0]), None);
    let (_, sent) = solo.request(upload("x"));
    let second = tag(&sent[0]).unwrap();
    solo.endpoint.cancel(solo.now, first);
    let (_, sent) = solo.request(upload("x"));
    assert_ne!(tag(&sent[0]).unwrap(), second);
}

#[test]
fn a_body_that_is_to_come_in_blocks_after_all_gets_a_tag_beside_another_upload() {
    let mut solo = Solo::with(|config| config.nstart = 8);
    solo.request(upload("x"));
    let (_, sent) = solo.request(Request::post("x").payload(body(200, 1)));
    assert_eq!(tag(&sent[0]), None);
    let mut refusal = Solo::ack(&sent[0], Code::REQUEST_ENTITY_TOO_LARGE);
    refusal.options.set_block1(Block::new(0, false, 0));
    assert!(tag(&solo.ask(&refusal)).is_some());
}

#[test]
fn the_tag_of_an_upload_stays_while_its_large_response_is_read() {
    let mut pair = Pair::with(
        3,
        Network::GOOD,
        |client, _| client.nstart = 4,
        Box::new(|request| {
            let mut answer = request.payload.clone();
            answer.reverse();
            Some(Response::content(42, answer))
        }),
    );
    let bodies: Vec<_> = (0..4).map(|salt| body(4000, salt)).collect();
    let ids: Vec<_> = bodies
        .iter()
        .map(|body| pair.request(Request::post("x").payload(body.clone())))
        .collect();
    for (id, mut body) in ids.into_iter().zip(bodies) {
        body.reverse();
        assert_eq!(pair.response(id).unwrap().payload, body);
    }
    let second = pair.sent(Side::Client);
    let reading = second
        .iter()
        .filter(|m| m.payload.is_empty() && m.options.block2().is_some());
    let tags: HashSet<_> = reading.map(|m| tag(m)).collect();
    assert_eq!(tags.len(), 4);
    assert_eq!(pair.handled.len(), 4);
}

#[test]
fn a_tag_differs_in_one_operation_only() {
    // A request with another list of tags is another operation (section 3.3).
    let mut solo = Solo::new();
    let part = |id, num, more, tags: &[&[u8]]| {
        let mut ask =
            crate::support::message(homefleet_coap::Type::Confirmable, Code::POST, id, &[1])
                .path("x")
                .block1(num, more, 0)
                .body(body(16, id as u8));
        for tag in tags {
            ask = ask.option(number::REQUEST_TAG, tag);
        }
        ask
    };
    assert_eq!(solo.ask(&part(1, 0, true, &[b"a"])).code, Code::CONTINUE);
    for (id, tags) in [
        (2, &[][..]),
        (3, &[&b""[..]]),
        (4, &[b"a", b"a"]),
        (5, &[b"b"]),
    ] {
        let answer = solo.ask(&part(id, 1, false, tags));
        assert_eq!(answer.code, Code::REQUEST_ENTITY_INCOMPLETE, "{id}");
    }
    solo.send(&part(6, 1, false, &[b"a"]));
    assert_eq!(solo.got().request.payload.len(), 32);
}
