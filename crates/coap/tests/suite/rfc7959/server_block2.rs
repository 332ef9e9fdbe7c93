//! Block2 as server (RFC 7959 §2.2, §2.4).

use homefleet_coap::{Code, Message, Response, Type, number};

use crate::support::{MessageExt, Solo, block, body, message, peer, token};

fn get(id: u16) -> Message {
    message(Type::Confirmable, Code::GET, id, &[id as u8]).path("big")
}

fn big(len: usize) -> Response {
    Response::content(42, body(len, 1))
}

#[test]
fn a_large_body_is_served_in_blocks_without_asking_the_application_again() {
    let mut solo = Solo::new();
    let first = solo.serve(&get(0), big(2500));
    assert_eq!(first.options.block2(), block(0, true, 1024));
    assert_eq!(first.options.size2(), Some(2500));
    assert_eq!(first.payload, body(2500, 1)[..1024]);
    let etag = first.options.etag().unwrap().to_vec();
    let second = solo.ask(&get(1).block2(1, false, 6));
    assert_eq!(second.options.block2(), block(1, true, 1024));
    assert_eq!(second.payload, body(2500, 1)[1024..2048]);
    assert_eq!(second.options.content_format(), Some(42));
    let third = solo.ask(&get(2).block2(2, false, 6));
    assert_eq!(third.options.block2(), block(2, false, 1024));
    assert_eq!(third.payload, body(2500, 1)[2048..]);
    for answer in [&second, &third] {
        assert_eq!(answer.options.etag(), Some(&etag[..]));
        assert_eq!(answer.code, Code::CONTENT);
    }
    assert_eq!(solo.ask(&get(2).block2(2, false, 6)), third, "a repetition");
    assert!(solo.take_request().is_none());
    assert_eq!(solo.endpoint.stats().blocks_out, 3);
}

#[test]
fn a_smaller_size_is_negotiated_early() {
    let mut solo = Solo::new();
    let first = solo.serve(&get(0).block2(0, false, 2), big(150));
    assert_eq!(first.options.block2(), block(0, true, 64));
    let second = solo.ask(&get(1).block2(1, false, 2));
    assert_eq!(second.options.block2(), block(1, true, 64));
    let third = solo.ask(&get(2).block2(2, false, 2));
    assert_eq!(
        (third.options.block2(), third.payload.len()),
        (block(2, false, 64), 22)
    );
}

#[test]
fn a_smaller_size_is_negotiated_late() {
    // RFC 7959 §3.1, Figure 4: the second request asks for a smaller size.
    let mut solo = Solo::with(|config| config.block_size = 128);
    let whole = body(300, 1);
    let first = solo.serve(&get(0), big(300));
    assert_eq!(first.options.block2(), block(0, true, 128));
    let next = solo.ask(&get(1).block2(2, false, 2));
    assert_eq!(next.options.block2(), block(2, true, 64));
    assert_eq!(next.payload, whole[128..192]);
}

#[test]
fn a_larger_size_than_preferred_is_answered_in_the_preferred_one() {
    let mut solo = Solo::with(|config| config.block_size = 64);
    let first = solo.serve(&get(0).block2(0, false, 6), big(300));
    assert_eq!(first.options.block2(), block(0, true, 64));
}

#[test]
fn a_small_body_with_block2_asked_says_that_it_is_whole() {
    let mut solo = Solo::new();
    let answer = solo.serve(&get(0).block2(0, false, 6), big(10));
    assert_eq!(answer.options.block2(), block(0, false, 1024));
    assert_eq!(answer.options.etag(), None);
}

#[test]
fn a_body_of_exactly_one_block_is_not_cut() {
    let mut solo = Solo::new();
    let answer = solo.serve(&get(0), big(1024));
    assert_eq!(
        (answer.options.block2(), answer.payload.len()),
        (None, 1024)
    );
    let answer = solo.serve(&get(1).block2(0, false, 2), big(64));
    assert_eq!(answer.options.block2(), block(0, false, 64));
}

#[test]
fn block2_szx_7_is_answered_4_00() {
    let mut solo = Solo::new();
    assert_eq!(
        solo.ask(&get(0).block2(0, false, 7)).code,
        Code::BAD_REQUEST
    );
    assert!(solo.events.is_empty());
}

#[test]
fn a_block_beyond_the_end_is_answered_4_00() {
    let mut solo = Solo::new();
    solo.serve(&get(0), big(2500));
    assert_eq!(
        solo.ask(&get(1).block2(3, false, 6)).code,
        Code::BAD_REQUEST
    );
    assert_eq!(
        solo.ask(&get(2).block2(70_000, false, 6)).code,
        Code::BAD_REQUEST
    );
    let other = message(Type::Confirmable, Code::GET, 3, &[3]).path("other");
    let answer = solo.serve(&other.block2(70_000, false, 6), big(2500));
    assert_eq!(answer.code, Code::BAD_REQUEST);
    assert_eq!(solo.endpoint.stats().bad_blocks, 3);
}

#[test]
fn a_block_in_the_middle_of_a_safe_request_is_asked_of_the_application() {
    let mut solo = Solo::new();
    let answer = solo.serve(&get(0).block2(1, false, 6), big(2500));
    assert_eq!(answer.options.block2(), block(1, true, 1024));
    assert_eq!(answer.payload, body(2500, 1)[1024..2048]);
}

#[test]
fn an_error_for_a_block_in_the_middle_is_whole() {
    let mut solo = Solo::new();
    let gone = Response::new(Code::NOT_FOUND).diagnostic("gone");
    let answer = solo.serve(&get(0).block2(1, false, 6), gone);
    assert_eq!(
        (answer.code, &answer.payload[..]),
        (Code::NOT_FOUND, &b"gone"[..])
    );
    assert_eq!(answer.options.block2(), None);
}

#[test]
fn a_block_in_the_middle_of_a_post_never_runs_it_again() {
    let mut solo = Solo::new();
    let mut ask = get(0).block2(1, false, 6);
    ask.code = Code::POST;
    assert_eq!(solo.ask(&ask).code, Code::REQUEST_ENTITY_INCOMPLETE);
    assert!(solo.events.is_empty());
}

#[test]
fn interleaved_downloads_are_kept_apart() {
    let mut solo = Solo::new();
    let ask = |id: u16, query: &str| get(id).option(number::URI_QUERY, query.as_bytes());
    let mut id = 0;
    for port in [1, 2] {
        solo.peer = peer(port);
        for query in ["a", "b"] {
            let salt = port as u8 * 16 + query.as_bytes()[0];
            id += 1;
            solo.serve(&ask(id, query), Response::content(42, body(2000, salt)));
        }
    }
    for port in [1, 2] {
        solo.peer = peer(port);
        for query in ["b", "a"] {
            let salt = port as u8 * 16 + query.as_bytes()[0];
            id += 1;
            let answer = solo.ask(&ask(id, query).block2(1, false, 6));
            assert_eq!(answer.payload, body(2000, salt)[1024..]);
        }
    }
}

#[test]
fn fetches_with_different_payloads_are_kept_apart() {
    let mut solo = Solo::new();
    let ask = |id: u16, payload: &str| {
        message(Type::Confirmable, Code::FETCH, id, &[1])
            .path("f")
            .body(payload)
    };
    solo.serve(&ask(0, "one"), Response::content(42, body(2000, 1)));
    solo.serve(&ask(1, "two"), Response::content(42, body(2000, 2)));
    let one = solo.ask(&ask(2, "one").block2(1, false, 6));
    let two = solo.ask(&ask(3, "two").block2(1, false, 6));
    assert_eq!(one.payload, body(2000, 1)[1024..]);
    assert_eq!(two.payload, body(2000, 2)[1024..]);
}

#[test]
fn the_etag_of_the_application_is_kept() {
    let mut solo = Solo::new();
    let answer = solo.serve(&get(0), big(2000).etag(&[1, 2]));
    assert_eq!(answer.options.etag(), Some(&[1, 2][..]));
}

#[test]
fn a_request_without_block2_is_always_new() {
    let mut solo = Solo::new();
    solo.serve(&get(0), big(2000));
    let answer = solo.serve(&get(1), Response::content(42, body(2000, 9)));
    assert_eq!(answer.payload, body(2000, 9)[..1024]);
    let rest = solo.ask(&get(2).block2(1, false, 6));
    assert_eq!(rest.payload, body(2000, 9)[1024..]);
}

#[test]
fn blocks_leave_room_for_long_options() {
    let mut solo = Solo::new();
    let mut response = big(2000);
    for _ in 0..2 {
        response.options.add(number::LOCATION_QUERY, &[b'l'; 255]);
    }
    let answer = solo.serve(&get(0), response);
    assert_eq!(answer.options.block2(), block(0, true, 512));
    assert!(answer.encode().len() <= 1152);
}

#[test]
fn a_block_is_answered_with_the_token_of_its_request() {
    let mut solo = Solo::new();
    solo.serve(&get(0), big(2000));
    let mut ask = get(1).block2(1, false, 6);
    ask.token = token(&[9, 9]);
    assert_eq!(solo.ask(&ask).token, ask.token);
}
