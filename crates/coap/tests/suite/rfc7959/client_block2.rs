//! Block2 as client (RFC 7959 §2.4).

use homefleet_coap::{
    BlockError, Code, Event, Message, Request, RequestError, RequestId, Response, Type, number,
};

use crate::support::{MessageExt, Solo, block, body};

fn get(solo: &mut Solo) -> (RequestId, Message) {
    let (id, mut sent) = solo.request(Request::get("big").query("a=1"));
    (id, sent.remove(0))
}

/// The answer with block `num` of a body of 2500 bytes.
fn part(to: &Message, num: u32, szx: u8) -> Message {
    let size = 16usize << szx;
    let whole = body(2500, 1);
    let start = num as usize * size;
    let end = (start + size).min(whole.len());
    Solo::ack(to, Code::CONTENT)
        .option(number::ETAG, &[7])
        .option(number::CONTENT_FORMAT, &[42])
        .block2(num, end < whole.len(), szx)
        .body(&whole[start..end])
}

fn failed(solo: &mut Solo) -> RequestError {
    match solo.take_event() {
        Some(Event::Failed { error, .. }) => error,
        other => panic!("{other:?}"),
    }
}

fn response(solo: &mut Solo) -> Response {
    match solo.take_event() {
        Some(Event::Response { response, .. }) => response,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_large_response_is_read_block_by_block_and_delivered_whole() {
    let mut solo = Solo::new();
    let (_, first) = get(&mut solo);
    assert_eq!(first.options.block2(), None);
    let second = solo.ask(&part(&first, 0, 6));
    assert_eq!(second.options.block2(), block(1, false, 1024));
    assert_eq!(second.options.path(), "big");
    assert_eq!(second.options.query("a"), Some("1"));
    let third = solo.ask(&part(&second, 1, 6));
    assert_eq!(third.options.block2(), block(2, false, 1024));
    assert_eq!(solo.send(&part(&third, 2, 6)), []);
    let response = response(&mut solo);
    assert_eq!(response.payload, body(2500, 1));
    assert_eq!(response.options.content_format(), Some(42));
    assert!(!response.options.contains(number::BLOCK2));
}

#[test]
fn a_size_below_1024_is_asked_for_early() {
    let mut solo = Solo::with(|config| config.block_size = 64);
    let (_, first) = get(&mut solo);
    assert_eq!(first.options.block2(), block(0, false, 64));
    // A larger one than asked for is read on in the size asked for.
    let second = solo.ask(&part(&first, 0, 3));
    assert_eq!(second.options.block2(), block(2, false, 64));
}

#[test]
fn a_server_may_change_to_a_smaller_size() {
    let mut solo = Solo::new();
    let (_, first) = get(&mut solo);
    let second = solo.ask(&part(&first, 0, 4));
    assert_eq!(second.options.block2(), block(1, false, 256));
    let third = solo.ask(&part(&second, 4, 2));
    assert_eq!(third.options.block2(), block(5, false, 64));
}

#[test]
fn szx_7_in_a_response_fails_the_request() {
    let mut solo = Solo::new();
    let (_, first) = get(&mut solo);
    solo.send(&part(&first, 0, 6).block2(0, true, 7));
    assert_eq!(
        failed(&mut solo),
        RequestError::Block(BlockError::ReservedSize)
    );
}

#[test]
fn a_short_block_with_more_to_follow_fails_the_request() {
    let mut solo = Solo::new();
    let (_, first) = get(&mut solo);
    let mut answer = part(&first, 0, 6);
    answer.payload.truncate(1000);
    solo.send(&answer);
    let error = BlockError::Short {
        len: 1000,
        size: 1024,
    };
    assert_eq!(failed(&mut solo), RequestError::Block(error));
}

#[test]
fn another_block_than_asked_for_fails_the_request() {
    let mut solo = Solo::new();
    let (_, first) = get(&mut solo);
    solo.send(&part(&first, 1, 6));
    let error = BlockError::Unexpected {
        expected: 0,
        found: 1024,
    };
    assert_eq!(failed(&mut solo), RequestError::Block(error));
    let (_, first) = get(&mut solo);
    let second = solo.ask(&part(&first, 0, 6));
    solo.send(&part(&second, 2, 6));
    let error = BlockError::Unexpected {
        expected: 1024,
        found: 2048,
    };
    assert_eq!(failed(&mut solo), RequestError::Block(error));
}

#[test]
fn a_resource_that_changes_meanwhile_is_read_anew() {
    let mut solo = Solo::new();
    let (_, first) = get(&mut solo);
    let mut ask = solo.ask(&part(&first, 0, 6));
    let changed = |to: &Message, num| {
        let mut answer = part(to, num, 6);
        answer.options.set_etag(&[8]);
        answer
    };
    ask = solo.ask(&changed(&ask, 1));
    assert_eq!(ask.options.block2(), block(0, false, 1024));
    for num in 0..2 {
        ask = solo.ask(&changed(&ask, num));
    }
    solo.send(&changed(&ask, 2));
    let response = response(&mut solo);
    assert_eq!(response.payload, body(2500, 1));
    assert_eq!(response.options.etag(), Some(&[8][..]));
}

#[test]
fn a_resource_that_never_stays_the_same_is_given_up() {
    let mut solo = Solo::new();
    let (_, mut ask) = get(&mut solo);
    for salt in 0..20u8 {
        let num = ask.options.block2().map_or(0, |block| block.num);
        let mut answer = part(&ask, num, 6);
        answer.options.set_etag(&[salt]);
        match solo.send(&answer).pop() {
            Some(next) => ask = next,
            None => {
                assert_eq!(failed(&mut solo), RequestError::Block(BlockError::Changed));
                assert!(salt < 10);
                return;
            }
        }
    }
    panic!("for ever");
}

#[test]
fn a_post_is_never_repeated_for_a_changed_response() {
    let mut solo = Solo::new();
    let (_, sent) = solo.request(Request::post("big"));
    let second = solo.ask(&part(&sent[0], 0, 6));
    assert_eq!(second.code, Code::POST);
    let mut answer = part(&second, 1, 6);
    answer.options.set_etag(&[8]);
    solo.send(&answer);
    assert_eq!(failed(&mut solo), RequestError::Block(BlockError::Changed));
}

#[test]
fn a_response_over_the_limit_fails_the_request() {
    let error = RequestError::TooLarge { limit: 2000 };
    let mut solo = Solo::with(|config| config.max_body = 2000);
    let (_, first) = get(&mut solo);
    let second = solo.ask(&part(&first, 0, 6));
    solo.send(&part(&second, 1, 6));
    assert_eq!(failed(&mut solo), error);
    let (_, first) = get(&mut solo);
    let mut announced = part(&first, 0, 6);
    announced.options.set_size2(2001);
    assert_eq!(solo.send(&announced), []);
    assert_eq!(failed(&mut solo), error);
}

#[test]
fn an_error_in_the_middle_is_the_answer() {
    let mut solo = Solo::new();
    let (_, first) = get(&mut solo);
    let second = solo.ask(&part(&first, 0, 6));
    solo.send(&Solo::ack(&second, Code::NOT_FOUND));
    assert_eq!(response(&mut solo).code, Code::NOT_FOUND);
}

#[test]
fn a_block_that_comes_twice_by_different_ways_is_taken_once() {
    let mut solo = Solo::new();
    let (_, first) = get(&mut solo);
    let second = solo.ask(&part(&first, 0, 6));
    let mut late = part(&second, 0, 6);
    late.kind = Type::Confirmable;
    late.id = 900;
    let ack = solo.ask(&late);
    assert_eq!((ack.kind, ack.id), (Type::Acknowledgement, 900));
    let third = solo.ask(&part(&second, 1, 6));
    solo.send(&part(&third, 2, 6));
    assert_eq!(response(&mut solo).payload, body(2500, 1));
}

#[test]
fn a_block_the_application_asks_for_itself_is_given_to_it() {
    let mut solo = Solo::new();
    let (_, sent) = solo.request(Request::get("big").option(number::BLOCK2, &[0x16]));
    solo.send(&part(&sent[0], 1, 6));
    assert_eq!(response(&mut solo).payload, body(2500, 1)[1024..2048]);
}
