//! The WebSocket binding (TR-369 §4.3, R-WS.2 to R-WS.21), as far as it is USP's and not RFC 6455's.
//!
//! | module | holds |
//! |---|---|
//! | [`handshake`] | the request's target, subprotocol and extension, on either side |
//! | [`session`] | what a message means, keep-alive, closing |
//! | [`single`] | which of two sessions with one Endpoint stays |
//!
//! Framing, masking, fragments and Pongs are a WebSocket library's. When an Agent connects again (R-WS.19) is
//! [`RetryPolicy::websocket`](super::retry::RetryPolicy::websocket).

pub mod handshake;
pub mod session;
pub mod single;

pub use handshake::{Admission, HandshakeError, Request};
pub use session::{CloseReason, Config, Event, Inbound, SendError, Session, Stats, Transmit};
pub use single::{Opener, newcomer_stays};

/// The subprotocol of Records in protocol buffers (R-WS.9).
pub const SUBPROTOCOL: &str = "v1.usp";

/// The extension that carries an Endpoint ID (R-WS.11a).
pub const EXTENSION: &str = "bbf-usp-protocol";

/// The parameter of the extension, and the key in the target's query (R-WS.10b).
pub const EID: &str = "eid";
