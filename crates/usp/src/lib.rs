//! USP (TR-369): Endpoint IDs, Records, Messages, and the pure part of each Message Transfer Protocol binding.
//!
//! | module | holds |
//! |---|---|
//! | [`proto`] | the generated types of Record and Message, version 1.4 |
//! | [`endpoint`] | Endpoint IDs and their rules (R-ARC.2a to R-ARC.6) |
//! | [`record`] | Records, checked (R-ENC.1 to R-ENC.4, R-MTP.5) |
//! | [`message`] | Messages, checked, and constructors for each (R-ENC.5, R-MSG) |
//! | [`error`] | error codes |
//! | [`mtp`] | what a binding asks of a Record, without I/O |
//!
//! Bytes come in through [`Record::decode`] and [`Message::decode`]: both look at the size first, then at
//! the wire form (a `oneof` holds exactly one element), then at the values.
#![forbid(unsafe_code)]

pub mod endpoint;
pub mod error;
#[doc(hidden)]
pub mod fuzz;
pub mod message;
pub mod mtp;
pub mod proto;
pub mod record;
mod wire;

pub use endpoint::EndpointId;
pub use error::ErrorCode;
pub use message::{Message, MessageError, MsgId};
pub use record::{Record, RecordError};
