//! The STOMP binding (TR-369 §4.4, R-STOMP.2 to R-STOMP.30): STOMP 1.2 frames, and a client's session with
//! its broker.
//!
//! [`frame`] is the codec, for both directions, so that a test can play the broker. [`session`] is the client:
//! Agent and Controller are both clients of the broker. How long it waits before it connects again
//! (R-STOMP.7) is [`RetryPolicy::stomp`](super::retry::RetryPolicy::stomp).

pub mod decoder;
pub mod frame;
pub mod session;

pub use super::senders::{Senders, SendersError};
pub use decoder::{DecodeError, Decoder, Limits};
pub use frame::{Command, Frame};
pub use session::{
    CloseReason, Config, Event, HeartBeat, Login, SendError, Session, Stats, Violation,
};

/// The content type of a Record (R-STOMP.20).
pub const CONTENT_TYPE: &str = "application/vnd.bbf.usp.msg";
