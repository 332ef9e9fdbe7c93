//! What each Message Transfer Protocol binding asks, as functions and machines without I/O.
//!
//! | module | holds |
//! |---|---|
//! | [`coap`] | the decision about a request |
//! | [`mqtt`] | what USP puts into MQTT packets and reads out of them |
//! | [`retry`] | when a connection is tried again, for all that have connections |
//! | [`stomp`] | STOMP 1.2: frames, the session of a client with its broker |
//! | [`uds`] | UNIX domain sockets: frames, handshake, session |
//! | [`websocket`] | the opening handshake's USP part, the session's decisions, which of two sessions stays |
//!
//! A session is driven as every machine here: change it (`handle_input`, `handle_timeout`, `send`), then drain
//! `poll_transmit` and `poll_event`, then wait for input or `poll_timeout`. Once it has told that it is closed,
//! what is left in `poll_transmit` is written, and then the connection is closed.

pub mod coap;
mod inbox;
pub mod mqtt;
mod outbox;
pub mod retry;
mod senders;
pub mod stomp;
pub mod uds;
pub mod websocket;

use crate::{
    error::ErrorCode,
    record::{RecordError, RecordErrorKind},
};

/// Whether a wrong Record is one that cannot be extracted for processing (R-WS.16, R-UDS.23): it is no
/// protobuf, or larger than is taken. The others are answered or ignored as R-MTP.5 says, on a connection that
/// stays.
fn is_unextractable(error: &RecordError) -> bool {
    matches!(error.kind, RecordErrorKind::TooLarge { .. })
        || error.code() == Some(ErrorCode::RECORD_NOT_PARSED)
}

/// At most `max` bytes of a peer's text, for logs: without control characters.
fn peer_text(bytes: &[u8], max: usize) -> String {
    let mut text = String::new();
    for letter in String::from_utf8_lossy(bytes).chars() {
        if text.len() + letter.len_utf8() > max {
            break;
        }
        text.push(if letter.is_control() { ' ' } else { letter });
    }
    text
}
