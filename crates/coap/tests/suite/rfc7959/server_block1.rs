//! Block1 as server (RFC 7959 §2.2, §2.3, §2.5, §2.9).

use std::time::Duration;

use homefleet_coap::{Code, Config, Message, Peer, Response, SessionId, Type, number};

use crate::support::{MessageExt, Solo, block, body, message, peer};

/// A block of 16 bytes times `2^szx`, of body `salt`.
fn put(id: u16, num: u32, more: bool, szx: u8, salt: u8) -> Message {
    let size = 16usize << szx;
    let whole = body((num as usize + 1) * size, salt);
    message(Type::Confirmable, Code::POST, id, &[5])
        .path("usp")
        .block1(num, more, szx)
        .body(&whole[num as usize * size..])
}

#[test]
fn blocks_are_continued_and_the_whole_body_is_delivered_once() {
    let mut solo = Solo::new();
    for num in 0..3 {
        let answer = solo.ask(&put(num as u16, num, true, 2, 1));
        assert_eq!(
            (answer.kind, answer.code),
            (Type::Acknowledgement, Code::CONTINUE)
        );
        assert_eq!(answer.options.block1(), block(num, true, 64));
        assert_eq!(answer.token.bytes(), [5]);
        assert!(solo.events.is_empty());
    }
    assert_eq!(solo.send(&put(3, 3, false, 2, 1)), []);
    let got = solo.got();
    assert_eq!(got.request.payload, body(256, 1));
    assert!(!got.request.options.contains(number::BLOCK1));
    let answer = solo.respond(got.exchange, Response::new(Code::CHANGED));
    assert_eq!(answer[0].code, Code::CHANGED);
    assert_eq!(answer[0].options.block1(), block(3, false, 64));
    assert_eq!(solo.endpoint.stats().blocks_in, 4);
}

#[test]
fn a_single_block_is_a_whole_body() {
    let mut solo = Solo::new();
    let mut ask = put(1, 0, false, 6, 0);
    ask.payload.truncate(5);
    let answer = solo.serve(&ask, Response::new(Code::CHANGED));
    assert_eq!(answer.options.block1(), block(0, false, 1024));
}

#[test]
fn block1_gap_is_answered_4_08() {
    let mut solo = Solo::new();
    solo.ask(&put(0, 0, true, 2, 1));
    let answer = solo.ask(&put(1, 2, true, 2, 1));
    assert_eq!(answer.code, Code::REQUEST_ENTITY_INCOMPLETE);
    // What was there is gone: the client has to start anew.
    assert_eq!(
        solo.ask(&put(2, 1, false, 2, 1)).code,
        Code::REQUEST_ENTITY_INCOMPLETE
    );
    assert!(solo.events.is_empty());
    assert_eq!(solo.endpoint.stats().blocks_incomplete, 2);
}

#[test]
fn first_block_numbered_5_is_answered_4_08() {
    let mut solo = Solo::new();
    assert_eq!(
        solo.ask(&put(0, 5, true, 2, 1)).code,
        Code::REQUEST_ENTITY_INCOMPLETE
    );
    assert_eq!(
        solo.ask(&put(1, 6, false, 2, 1)).code,
        Code::REQUEST_ENTITY_INCOMPLETE
    );
    assert!(solo.events.is_empty());
}

#[test]
fn block_number_70000_is_answered_4_08() {
    for (more, szx) in [(false, 0), (true, 0), (false, 6), (true, 6)] {
        let mut solo = Solo::new();
        let ask = message(Type::Confirmable, Code::POST, 1, &[5])
            .path("usp")
            .block1(70_000, more, szx)
            .body(body(16 << szx, 0));
        assert_eq!(ask.options.first(number::BLOCK1).unwrap().len(), 3);
        assert_eq!(solo.ask(&ask).code, Code::REQUEST_ENTITY_INCOMPLETE);
        assert!(solo.events.is_empty());
    }
}

#[test]
fn block_numbers_beyond_16_bits_work() {
    let mut solo = Solo::with(|config| config.max_body = 2 << 20);
    let mut id = 0;
    for num in 0..70_000u32 {
        let ask = message(Type::Confirmable, Code::POST, id, &num.to_be_bytes())
            .path("usp")
            .block1(num, true, 0)
            .body(num.to_be_bytes().repeat(4));
        assert_eq!(solo.ask(&ask).code, Code::CONTINUE, "{num}");
        solo.log.clear();
        id = id.wrapping_add(1);
    }
    let last = message(Type::Confirmable, Code::POST, id, &[6])
        .path("usp")
        .block1(70_000, false, 0)
        .body("end");
    solo.send(&last);
    let payload = solo.got().request.payload;
    assert_eq!(payload.len(), 70_000 * 16 + 3);
    assert!(payload[69_999 * 16..].starts_with(&69_999u32.to_be_bytes()));
}

#[test]
fn block1_szx_7_is_answered_4_00() {
    let mut solo = Solo::new();
    let ask = message(Type::Confirmable, Code::POST, 1, &[5])
        .path("usp")
        .block1(0, false, 7)
        .body("x");
    assert_eq!(solo.ask(&ask).code, Code::BAD_REQUEST);
    assert!(solo.events.is_empty());
    assert_eq!(solo.endpoint.stats().bad_blocks, 1);
}

#[test]
fn a_short_block_with_more_to_follow_is_answered_4_00() {
    let mut solo = Solo::new();
    let mut ask = put(1, 0, true, 2, 1);
    ask.payload.truncate(63);
    assert_eq!(solo.ask(&ask).code, Code::BAD_REQUEST);
    assert_eq!(
        solo.ask(&put(2, 1, false, 2, 1)).code,
        Code::REQUEST_ENTITY_INCOMPLETE
    );
}

#[test]
fn a_block_longer_than_its_size_is_answered_4_00() {
    for more in [true, false] {
        let mut solo = Solo::new();
        let mut ask = put(1, 0, more, 2, 1);
        ask.payload.push(0);
        assert_eq!(solo.ask(&ask).code, Code::BAD_REQUEST);
        assert!(solo.events.is_empty());
    }
}

#[test]
fn a_body_over_the_limit_is_answered_4_13_with_size1() {
    let mut solo = Solo::with(|config| config.max_body = 150);
    solo.ask(&put(0, 0, true, 2, 1));
    solo.ask(&put(1, 1, true, 2, 1));
    let answer = solo.ask(&put(2, 2, false, 2, 1));
    assert_eq!(answer.code, Code::REQUEST_ENTITY_TOO_LARGE);
    assert_eq!(answer.options.size1(), Some(150));
    assert!(solo.events.is_empty());
    assert_eq!(solo.endpoint.stats().bodies_too_large, 1);
    // Nothing of it is kept.
    assert_eq!(
        solo.ask(&put(3, 2, false, 2, 1)).code,
        Code::REQUEST_ENTITY_INCOMPLETE
    );
}

#[test]
fn an_announced_body_over_the_limit_is_answered_4_13_at_once() {
    let mut solo = Solo::with(|config| config.max_body = 150);
    let mut ask = put(0, 0, true, 2, 1);
    ask.options.set_size1(151);
    let answer = solo.ask(&ask);
    assert_eq!(answer.code, Code::REQUEST_ENTITY_TOO_LARGE);
    assert_eq!(answer.options.size1(), Some(150));
}

#[test]
fn a_single_message_over_the_limit_is_answered_4_13() {
    let mut solo = Solo::with(|config| config.max_body = 150);
    let ask = message(Type::Confirmable, Code::POST, 1, &[5]).body(body(151, 0));
    assert_eq!(solo.ask(&ask).code, Code::REQUEST_ENTITY_TOO_LARGE);
}

#[test]
fn a_smaller_preferred_size_is_negotiated_late() {
    let mut solo = Solo::with(|config| config.block_size = 32);
    let whole = body(160, 3);
    let ask = message(Type::Confirmable, Code::POST, 1, &[5])
        .path("usp")
        .block1(0, true, 3)
        .body(&whole[..128]);
    let answer = solo.ask(&ask);
    assert_eq!(answer.code, Code::CONTINUE);
    assert_eq!(answer.options.block1(), block(0, true, 32));
    // RFC 7959 §3.2, Figure 7: the next one is number 4 of the smaller size.
    let ask = message(Type::Confirmable, Code::POST, 2, &[5])
        .path("usp")
        .block1(4, false, 1)
        .body(&whole[128..]);
    solo.send(&ask);
    assert_eq!(solo.got().request.payload, whole);
}

#[test]
fn interleaved_uploads_are_kept_apart() {
    let queries = ["a=1", "a=2"];
    let tags: [&[u8]; 3] = [&[], &[1], &[2]];
    let mut solo = Solo::new();
    let mut variants = Vec::new();
    for port in [40_000, 40_001] {
        for session in [None, Some(SessionId(1))] {
            for query in queries {
                for tag in tags {
                    let addr = peer(port).addr;
                    variants.push((Peer { addr, session }, query, tag));
                }
            }
        }
    }
    let send = |solo: &mut Solo, id: u16, n: usize, num: u32, more: bool| {
        let (from, query, tag) = variants[n];
        let mut ask = put(id, num, more, 1, n as u8).option(number::URI_QUERY, query.as_bytes());
        if !tag.is_empty() {
            ask = ask.option(number::REQUEST_TAG, tag);
        }
        solo.input_from(from, &ask.encode())
    };
    let count = 24;
    for num in 0..3 {
        for n in 0..count {
            let id = (num as usize * count + n) as u16;
            assert_eq!(send(&mut solo, id, n, num, true)[0].code, Code::CONTINUE);
        }
    }
    for n in (0..count).rev() {
        assert_eq!(send(&mut solo, 1000 + n as u16, n, 3, false), []);
        assert_eq!(
            solo.got().request.payload,
            body(128, n as u8),
            "transfer {n}"
        );
    }
}

#[test]
fn block_0_starts_anew() {
    let mut solo = Solo::new();
    solo.ask(&put(0, 0, true, 2, 1));
    solo.ask(&put(1, 1, true, 2, 1));
    solo.ask(&put(2, 0, true, 2, 9));
    solo.send(&put(3, 1, false, 2, 9));
    assert_eq!(solo.got().request.payload, body(128, 9));
}

#[test]
fn the_previous_block_again_is_continued_again() {
    let mut solo = Solo::new();
    solo.ask(&put(0, 0, true, 2, 1));
    solo.ask(&put(1, 1, true, 2, 1));
    // The same block in a new message, as a client sends it that gave the old exchange up.
    assert_eq!(solo.ask(&put(2, 1, true, 2, 1)).code, Code::CONTINUE);
    // Another content at that place is not the same block.
    assert_eq!(
        solo.ask(&put(3, 1, true, 2, 7)).code,
        Code::REQUEST_ENTITY_INCOMPLETE
    );
    solo.send(&put(4, 2, false, 2, 1));
    assert_eq!(solo.got().request.payload, body(192, 1));
}

#[test]
fn a_repeated_block_is_taken_once() {
    let mut solo = Solo::new();
    let first = solo.ask(&put(0, 0, true, 2, 1));
    assert_eq!(solo.ask(&put(0, 0, true, 2, 1)), first);
    let second = solo.ask(&put(1, 1, true, 2, 1));
    assert_eq!(solo.ask(&put(1, 1, true, 2, 1)), second);
    assert_eq!(
        solo.ask(&put(0, 0, true, 2, 1)),
        first,
        "late, and it resets nothing"
    );
    solo.send(&put(2, 2, false, 2, 1));
    solo.send(&put(2, 2, false, 2, 1));
    assert_eq!(solo.got().request.payload, body(192, 1));
    assert!(solo.take_request().is_none());
}

#[test]
fn uploads_are_bounded_per_peer_and_the_oldest_goes() {
    let mut solo = Solo::with(|config| config.max_block_transfers_per_peer = 2);
    let query = |n: u16| format!("n={n}").into_bytes();
    let mut id = 0;
    let mut send = |solo: &mut Solo, n: u16, num, more| {
        id += 1;
        solo.send(&put(id, num, more, 0, n as u8).option(number::URI_QUERY, &query(n)))
    };
    for n in 0..3 {
        assert_eq!(send(&mut solo, n, 0, true)[0].code, Code::CONTINUE);
    }
    assert_eq!(solo.endpoint.stats().transfers_evicted, 1);
    assert_eq!(
        send(&mut solo, 0, 1, false)[0].code,
        Code::REQUEST_ENTITY_INCOMPLETE
    );
    assert_eq!(send(&mut solo, 1, 1, false), []);
    assert_eq!(send(&mut solo, 2, 1, false), []);
}

fn crowded(change: impl FnOnce(&mut Config)) -> Solo {
    let mut solo = Solo::with(change);
    // One authenticated upload first, then unauthenticated ones of many peers.
    solo.peer = Peer::secure(peer(1).addr, SessionId(1));
    assert_eq!(solo.ask(&put(0, 0, true, 6, 1)).code, Code::CONTINUE);
    for port in 2..20 {
        solo.peer = peer(port);
        assert_eq!(solo.ask(&put(0, 0, true, 6, 2)).code, Code::CONTINUE);
    }
    solo
}

#[test]
fn uploads_are_bounded_over_all_peers_and_unauthenticated_ones_go_first() {
    let mut solo = crowded(|config| config.max_block_transfers = 4);
    assert_eq!(solo.endpoint.stats().transfers_evicted, 15);
    solo.peer = Peer::secure(peer(1).addr, SessionId(1));
    solo.send(&put(1, 1, false, 6, 1));
    assert_eq!(solo.got().request.payload, body(2048, 1));
    solo.peer = peer(2);
    assert_eq!(
        solo.ask(&put(1, 1, false, 6, 2)).code,
        Code::REQUEST_ENTITY_INCOMPLETE
    );
    solo.peer = peer(19);
    assert_eq!(solo.send(&put(1, 1, false, 6, 2)), []);
}

#[test]
fn bytes_of_uploads_are_bounded_over_all_peers() {
    let mut solo = crowded(|config| config.max_block_bytes = 4096);
    assert_eq!(solo.endpoint.stats().transfers_evicted, 15);
    solo.peer = Peer::secure(peer(1).addr, SessionId(1));
    assert_eq!(solo.ask(&put(1, 1, true, 6, 1)).code, Code::CONTINUE);
    assert_eq!(
        solo.endpoint.stats().transfers_evicted,
        16,
        "growth makes room too"
    );
}

#[test]
fn an_upload_that_rests_too_long_is_dropped() {
    let mut solo = Solo::new();
    solo.ask(&put(0, 0, true, 2, 1));
    solo.advance(Duration::from_secs(200));
    solo.ask(&put(1, 1, true, 2, 1));
    solo.advance(Duration::from_secs(200));
    assert_eq!(
        solo.endpoint.stats().transfers_expired,
        0,
        "each block extends it"
    );
    solo.advance(Duration::from_secs(100));
    assert_eq!(solo.endpoint.stats().transfers_expired, 1);
    assert_eq!(
        solo.ask(&put(2, 2, false, 2, 1)).code,
        Code::REQUEST_ENTITY_INCOMPLETE
    );
}
