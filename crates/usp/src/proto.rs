//! The generated types of the USP schema, version 1.4 (R-ENC.0, R-ENC.1). Maps are ordered by key, so that
//! an encoding is always the same.

/// `usp-record`: the Record and its kinds.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod record {
    include!(concat!(env!("OUT_DIR"), "/homefleet.usp.record.rs"));
}

/// `usp-msg`: the Message, its header, and every request and response.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod msg {
    include!(concat!(env!("OUT_DIR"), "/homefleet.usp.msg.rs"));
}
