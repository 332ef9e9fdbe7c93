//! R-MTP.5: what is wrong with a Record is answered under exactly its conditions.

use homefleet_agent::engine::Source;
use homefleet_usp::{
    Message, Record,
    message::{Body, get},
};

use crate::bench::{AGENT, Bench, CONTROLLER, REPLY_TO, STRANGER, id};

fn source(bench: &Bench) -> Source {
    Source {
        peer: Some(bench.peer.clone()),
        channel: None,
        reply_to: Some(REPLY_TO.parse().unwrap()),
    }
}

fn good(to: &str, from: &str) -> Vec<u8> {
    let request = Message::request("my id", get(["Device.X_Test.Label"], 0)).encode();
    Record::no_session(id(to), id(from), request).encode()
}

/// A Record with another version, which is an invalid value (7104).
fn spoiled(mut bytes: Vec<u8>) -> Vec<u8> {
    assert_eq!(&bytes[..5], b"\x0a\x031.4");
    bytes[2] = b'9';
    bytes
}

/// What the agent answers to these bytes, which are no Record.
fn answer(bench: &mut Bench, bytes: &[u8], source: Source) -> Option<(u32, String, String)> {
    let error = Record::decode(bytes).unwrap_err();
    bench.answers.clear();
    bench.engine.handle_erroneous(bench.now, &error, source);
    bench.drain();
    let sent = bench.answers.pop()?;
    let Body::Error(error) = sent.message.body else {
        panic!()
    };
    Some((error.err_code, sent.message.id.to_string(), sent.to))
}

#[test]
fn r_mtp_5_an_invalid_value_is_7104_and_what_cannot_be_parsed_7100() {
    let mut bench = Bench::new();
    let source = source(&bench);
    let sent = answer(
        &mut bench,
        &spoiled(good(AGENT, CONTROLLER)),
        source.clone(),
    );
    assert_eq!(sent, Some((7104, "my id".into(), CONTROLLER.into())));
    // R-ENC.2: an enumeration value that nobody knows.
    let mut bytes = good(AGENT, CONTROLLER);
    bytes.extend([0x20, 9]);
    let sent = answer(&mut bench, &bytes, source.clone());
    assert_eq!(sent, Some((7104, "my id".into(), CONTROLLER.into())));
    let mut bytes = good(AGENT, CONTROLLER);
    bytes.extend([0x0a, 0x02, 0xff, 0xfe]);
    let sent = answer(&mut bench, &bytes, source);
    assert_eq!(sent, Some((7100, "my id".into(), CONTROLLER.into())));
}

#[test]
fn r_mtp_5_without_one_of_its_conditions_an_erroneous_record_is_ignored() {
    let mut bench = Bench::new();
    let source = source(&bench);
    // Somebody else is meant.
    let other = spoiled(good("proto::other", CONTROLLER));
    assert_eq!(answer(&mut bench, &other, source.clone()), None);
    // The source is none.
    let from_nobody = good(AGENT, CONTROLLER);
    let from_nobody = replace(&from_nobody, b"proto::controller", b"nothing--nothing!");
    assert_eq!(answer(&mut bench, &from_nobody, source.clone()), None);
    // It holds no Request.
    let response =
        Message::response("r", homefleet_usp::proto::msg::NotifyResp::default()).encode();
    let response = Record::no_session(id(AGENT), id(CONTROLLER), response).encode();
    assert_eq!(answer(&mut bench, &spoiled(response), source.clone()), None);
    // No Message ID can be extracted.
    let garbage = Record::no_session(id(AGENT), id(CONTROLLER), b"\xff\xff".to_vec()).encode();
    assert_eq!(answer(&mut bench, &spoiled(garbage), source.clone()), None);
    // There is no way back.
    let lost = Source {
        reply_to: None,
        ..source
    };
    let bytes = spoiled(good(AGENT, CONTROLLER));
    assert_eq!(answer(&mut bench, &bytes, lost), None);
    // R-ENC.4: not exactly one record_type.
    assert_eq!(bench.engine.stats().requests, 0);
}

#[test]
fn r_mtp_5_who_sent_an_erroneous_record_need_not_be_known() {
    let mut bench = Bench::new();
    let source = source(&bench);
    let sent = answer(&mut bench, &spoiled(good(AGENT, STRANGER)), source);
    assert_eq!(sent, Some((7104, "my id".into(), STRANGER.into())));
    assert_eq!(bench.engine.stats().records_refused, 1);
}

fn replace(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let at = bytes
        .windows(old.len())
        .position(|part| part == old)
        .unwrap();
    let mut out = bytes.to_vec();
    out[at..at + new.len()].copy_from_slice(new);
    out
}
