//! Block1 as client (RFC 7959 §2.3, §2.9).

use homefleet_coap::{
    BlockError, Code, Event, Message, Request, RequestError, RequestId, Response, Type, number,
};

use crate::support::{MessageExt, Solo, block, body};

fn upload(solo: &mut Solo, len: usize) -> (RequestId, Message) {
    let request = Request::post("usp")
        .query("reply-to=coaps://controller.example/usp")
        .content_format(42)
        .payload(body(len, 1));
    let (id, mut sent) = solo.request(request);
    (id, sent.remove(0))
}

fn proceed(to: &Message) -> Message {
    let given = to.options.block1().unwrap();
    Solo::ack(to, Code::CONTINUE).block1(given.num, true, given.szx)
}

fn response(solo: &mut Solo) -> Response {
    match solo.take_event() {
        Some(Event::Response { response, .. }) => response,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_large_body_goes_out_in_blocks_with_one_token_and_size1() {
    let mut solo = Solo::new();
    let (_, first) = upload(&mut solo, 2500);
    assert_eq!(first.options.block1(), block(0, true, 1024));
    assert_eq!(first.options.size1(), Some(2500));
    assert_eq!(first.payload, body(2500, 1)[..1024]);
    let second = solo.ask(&proceed(&first));
    assert_eq!(second.options.block1(), block(1, true, 1024));
    assert_eq!(second.options.size1(), None);
    let third = solo.ask(&proceed(&second));
    assert_eq!(third.options.block1(), block(2, false, 1024));
    assert_eq!(third.payload, body(2500, 1)[2048..]);
    for later in [&second, &third] {
        assert_eq!(later.token, first.token);
        assert_ne!(later.id, first.id);
        assert_eq!(later.options.path(), "usp");
        assert_eq!(later.options.content_format(), Some(42));
        assert_eq!(
            later.options.query("reply-to"),
            first.options.query("reply-to")
        );
    }
    let last = Solo::ack(&third, Code::CHANGED).block1(2, false, 6);
    assert_eq!(solo.send(&last), []);
    let response = response(&mut solo);
    assert_eq!(response.code, Code::CHANGED);
    assert!(!response.options.contains(number::BLOCK1));
}

#[test]
fn a_body_of_one_block_is_not_cut() {
    let mut solo = Solo::new();
    let (_, sent) = upload(&mut solo, 1024);
    assert_eq!((sent.options.block1(), sent.payload.len()), (None, 1024));
    let mut solo = Solo::new();
    let (_, sent) = upload(&mut solo, 1025);
    assert_eq!(sent.options.block1(), block(0, true, 1024));
}

#[test]
fn a_smaller_size_the_server_wants_is_used_from_the_next_block_on() {
    // RFC 7959 §3.2, Figure 7.
    let mut solo = Solo::with(|config| config.block_size = 128);
    let (_, first) = upload(&mut solo, 300);
    let second = solo.ask(&Solo::ack(&first, Code::CONTINUE).block1(0, true, 1));
    assert_eq!(second.options.block1(), block(4, true, 32));
    assert_eq!(second.payload, body(300, 1)[128..160]);
    let third = solo.ask(&proceed(&second));
    assert_eq!(third.options.block1(), block(5, true, 32));
}

#[test]
fn a_larger_size_the_server_wants_is_not_used() {
    let mut solo = Solo::with(|config| config.block_size = 128);
    let (_, first) = upload(&mut solo, 300);
    let second = solo.ask(&Solo::ack(&first, Code::CONTINUE).block1(0, true, 6));
    assert_eq!(second.options.block1(), block(1, true, 128));
}

#[test]
fn an_early_4_13_with_a_smaller_size_starts_anew_with_it() {
    let mut solo = Solo::new();
    let (_, first) = upload(&mut solo, 2500);
    let refusal = Solo::ack(&first, Code::REQUEST_ENTITY_TOO_LARGE).block1(0, true, 2);
    let again = solo.ask(&refusal);
    assert_eq!(again.options.block1(), block(0, true, 64));
    // The same refusal of the same size is the answer.
    let refusal = Solo::ack(&again, Code::REQUEST_ENTITY_TOO_LARGE).block1(0, true, 2);
    assert_eq!(solo.send(&refusal), []);
    assert_eq!(response(&mut solo).code, Code::REQUEST_ENTITY_TOO_LARGE);
}

#[test]
fn a_4_13_with_block1_for_a_single_message_asks_for_blocks() {
    let mut solo = Solo::new();
    let (_, sent) = upload(&mut solo, 500);
    assert_eq!(sent.options.block1(), None);
    let again = solo.ask(&Solo::ack(&sent, Code::REQUEST_ENTITY_TOO_LARGE).block1(0, true, 3));
    assert_eq!(again.options.block1(), block(0, true, 128));
}

#[test]
fn a_4_13_with_size1_is_the_answer() {
    let mut solo = Solo::new();
    let (_, first) = upload(&mut solo, 2500);
    let refusal = Solo::ack(&first, Code::REQUEST_ENTITY_TOO_LARGE).option(number::SIZE1, &[200]);
    assert_eq!(solo.send(&refusal), []);
    let response = response(&mut solo);
    assert_eq!(response.options.size1(), Some(200));
}

#[test]
fn a_4_08_is_the_answer() {
    let mut solo = Solo::new();
    let (_, first) = upload(&mut solo, 2500);
    let second = solo.ask(&proceed(&first));
    solo.send(&Solo::ack(&second, Code::REQUEST_ENTITY_INCOMPLETE));
    assert_eq!(response(&mut solo).code, Code::REQUEST_ENTITY_INCOMPLETE);
}

#[test]
fn blocks_taken_one_by_one_are_all_sent() {
    // RFC 7959 §2.3: a final code for a block in the middle, when the server does not collect.
    let mut solo = Solo::new();
    let (_, first) = upload(&mut solo, 2000);
    let second = solo.ask(&Solo::ack(&first, Code::CHANGED).block1(0, false, 6));
    assert_eq!(second.options.block1(), block(1, false, 1024));
    solo.send(&Solo::ack(&second, Code::CHANGED).block1(1, false, 6));
    assert_eq!(response(&mut solo).code, Code::CHANGED);
}

#[test]
fn a_final_answer_without_block1_ends_the_upload() {
    let mut solo = Solo::new();
    let (_, first) = upload(&mut solo, 2500);
    assert_eq!(solo.send(&Solo::ack(&first, Code::FORBIDDEN)), []);
    assert_eq!(response(&mut solo).code, Code::FORBIDDEN);
}

#[test]
fn a_continue_for_another_block_fails_the_request() {
    let mut solo = Solo::new();
    let (id, first) = upload(&mut solo, 2500);
    assert_eq!(
        solo.send(&Solo::ack(&first, Code::CONTINUE).block1(3, true, 6)),
        []
    );
    let error = RequestError::Block(BlockError::Unexpected {
        expected: 0,
        found: 3072,
    });
    assert_eq!(solo.take_event(), Some(Event::Failed { id, error }));
    let (id, first) = upload(&mut solo, 2500);
    assert_eq!(solo.send(&Solo::ack(&first, Code::CONTINUE)), []);
    assert!(matches!(
        solo.take_event(),
        Some(Event::Failed { id: other, error: RequestError::Block(_) }) if other == id
    ));
}

#[test]
fn separate_answers_to_blocks_work_and_wait_for_their_turn() {
    let mut solo = Solo::new();
    let (_, first) = upload(&mut solo, 2000);
    let (_, none) = solo.request(Request::get("other"));
    assert_eq!(none, []);
    let other = solo.empty(Type::Acknowledgement, first.id);
    assert_eq!(
        other[0].options.path(),
        "other",
        "the place is free meanwhile"
    );
    let mut answer = proceed(&first);
    answer.kind = Type::Confirmable;
    answer.id = 700;
    let ack = solo.ask(&answer);
    assert_eq!((ack.kind, ack.id), (Type::Acknowledgement, 700));
    let second = solo.ask(&Solo::ack(&other[0], Code::CONTENT));
    assert_eq!(second.options.block1(), block(1, false, 1024));
}

#[test]
fn concurrent_uploads_to_one_peer_carry_request_tags() {
    let mut solo = Solo::with(|config| config.nstart = 3);
    let (_, one) = upload(&mut solo, 2000);
    let (_, two) = upload(&mut solo, 2000);
    let (_, three) = upload(&mut solo, 2000);
    assert_eq!(one.options.first(number::REQUEST_TAG), None);
    let tag = |m: &Message| m.options.first(number::REQUEST_TAG).map(<[u8]>::to_vec);
    assert!(tag(&two).is_some() && tag(&three).is_some() && tag(&two) != tag(&three));
    let next = solo.ask(&proceed(&two));
    assert_eq!(tag(&next), tag(&two), "the same through the whole upload");
}

#[test]
fn a_block_is_repeated_until_it_is_acknowledged() {
    let mut solo = Solo::new();
    let (_, first) = upload(&mut solo, 2000);
    let second = solo.ask(&proceed(&first));
    let again = solo.advance(std::time::Duration::from_secs(4));
    assert_eq!(again, [second]);
}

#[test]
fn long_options_make_blocks_smaller() {
    let mut solo = Solo::new();
    let request = Request::post(&"p".repeat(250))
        .query(&"q".repeat(250))
        .payload(body(3000, 0));
    let (_, sent) = solo.request(request);
    assert_eq!(sent[0].options.block1(), block(0, true, 512));
    assert!(sent[0].encode().len() <= 1152);
}
