//! Entry points for fuzzing; they never panic.

use crate::{
    EndpointId, Message, Record,
    mtp::coap::{self, Inbound},
};

/// Bytes as a Record and as a Message: what decodes is encoded again and decodes to the same.
///
/// # Panics
/// When a round trip loses something: that is what fuzzing looks for.
pub fn codec(bytes: &[u8]) {
    if let Ok(record) = Record::decode(bytes) {
        assert_eq!(Record::decode(&record.encode()).as_ref(), Ok(&record));
        if let Some(message) = record.message() {
            codec_message(message);
        }
    }
    codec_message(bytes);
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(id) = text.parse::<EndpointId>()
    {
        assert_eq!(EndpointId::from_urn(&id.to_urn()).as_ref(), Ok(&id));
    }
}

fn codec_message(bytes: &[u8]) {
    if let Ok(mut message) = Message::decode(bytes) {
        message.header_mismatch = false;
        assert_eq!(Message::decode(&message.encode()).as_ref(), Ok(&message));
    }
}

/// The binding's decision: the first byte is the method, the second the Content-Format, then a line with
/// the query, then the payload.
pub fn machine(bytes: &[u8]) {
    let (head, rest) = bytes.split_at(bytes.len().min(2));
    let at = rest
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(rest.len());
    let (query, payload) = rest.split_at(at);
    let query = String::from_utf8_lossy(query);
    let inbound = Inbound {
        method: head.first().copied().unwrap_or_default(),
        content_format: head.get(1).copied().map(u16::from),
        queries: &[&query],
        payload: payload.get(1..).unwrap_or_default(),
    };
    for secure in [false, true] {
        if let Err(rejection) = coap::accept(inbound, secure) {
            assert!(matches!(rejection.code, 0x80 | 0x85 | 0x8F));
        }
    }
}
