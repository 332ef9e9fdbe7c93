//! The UNIX domain socket binding (TR-369 §4.7, R-UDS.5 to R-UDS.25): frames, and the session of either side.
//!
//! ```text
//! frame    "_USP" | length of the rest, u32 | TLV …          (network byte order)
//! TLV      type, u8 | length of the value, u32 | value
//! ```
//!
//! [`frame`] is the codec, [`session`] the handshake and what follows it. How long a client waits before it
//! connects again (R-UDS.5) is [`RetryPolicy::uds`](super::retry::RetryPolicy::uds).

pub mod frame;
pub mod session;

pub use frame::{Decoder, Frame, FrameError, Tlv};
pub use session::{CloseReason, Config, Event, SendError, Session, Stats};
