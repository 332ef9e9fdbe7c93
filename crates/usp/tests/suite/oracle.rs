//! An independent codec (rusp-lib) reads what we write, and we read what it writes.

use homefleet_usp::{Message, Record};
use rusp_lib::{
    usp::Msg,
    usp_decoder::{try_decode_msg, try_decode_record},
};

use crate::samples::{messages, records};

/// Every `name: "text"` of a debug form; each text field of a sample holds its own name.
fn misplaced(debug: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (at, _) in debug.match_indices(": \"") {
        let name: String = debug[..at]
            .chars()
            .rev()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect();
        let value: String = debug[at + 3..].chars().take_while(|c| *c != '"').collect();
        // Map entries show as "key": "value".
        if !name.is_empty() && name != value {
            found.push((name, value));
        }
    }
    found
}

#[test]
fn an_independent_codec_reads_every_message_that_we_write() {
    for message in messages() {
        let theirs: Msg = try_decode_msg(&message.encode()).unwrap();
        assert_eq!(theirs.msg_id(), "msg_id");
        theirs.check_validity().unwrap();
        let debug = format!("{theirs:?}");
        assert_eq!(misplaced(&debug), [], "{debug}");
        let kind = format!("{:?}", theirs.header.as_ref().unwrap().msg_type).replace('_', "");
        assert_eq!(
            kind,
            message.kind().as_str_name().replace('_', ""),
            "{debug}"
        );
    }
}

#[test]
fn we_read_every_message_that_an_independent_codec_writes() {
    for message in messages() {
        // What it does not know it drops, so that a wrong field number shows as a difference.
        let theirs = try_decode_msg(&message.encode()).unwrap().to_vec().unwrap();
        assert_eq!(Message::decode(&theirs).unwrap(), message);
    }
}

#[test]
fn an_independent_codec_reads_every_record_that_we_write() {
    for record in records() {
        let theirs = try_decode_record(&record.encode()).unwrap();
        assert_eq!(
            (theirs.version.as_str(), theirs.to_id.as_str()),
            ("1.4", "os::00256D-0123456789")
        );
        assert_eq!(theirs.from_id, "self::controller");
        assert_eq!(
            (theirs.mac_signature.len(), theirs.sender_cert.len()),
            (3, 4)
        );
        let debug = format!("{:?}", theirs.record_type);
        assert_eq!(misplaced(&debug), [], "{debug}");
    }
}

#[test]
fn we_read_every_record_that_an_independent_codec_writes() {
    for record in records() {
        let theirs = try_decode_record(&record.encode())
            .unwrap()
            .to_vec()
            .unwrap();
        assert_eq!(Record::decode(&theirs).unwrap(), record);
    }
}
