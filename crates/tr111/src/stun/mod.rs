//! RFC 3489 messages, as TR-111 uses them.
//!
//! The classic form has a transaction ID of 16 octets. RFC 5389 made the first four a magic cookie; such messages are read like any other, and
//! answered with XOR-MAPPED-ADDRESS beside what RFC 3489 has.

mod attribute;
mod error_code;
mod integrity;
mod message;

pub use attribute::{Attribute, kind};
pub use error_code::ErrorCode;
pub use integrity::{Integrity, Padding};
pub use message::{Builder, DecodeError, MAX_MESSAGE, Message, Method, TransactionId};

/// The port that a STUN server has when none is configured.
pub const DEFAULT_PORT: u16 = 3478;

/// The content of CONNECTION-REQUEST-BINDING (TR-111 Part 2 Table 5), with its last space.
pub const CONNECTION_REQUEST_BINDING: &[u8; 20] = b"dslforum.org/TR-111 ";

/// Whether a datagram at a port that carries STUN and UDP Connection Requests is meant as STUN: those begin with 0 or 1, these with a
/// letter (TR-111 Part 2 §2.2.1.4).
pub fn is_stun(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(0 | 1))
}
