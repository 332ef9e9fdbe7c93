//! A CoAP endpoint, client and server in one, without I/O.
//!
//! # The drive rule
//! Time comes in as an argument and nothing goes out by itself. After every call that changes the
//! endpoint ([`Endpoint::handle_input`], [`Endpoint::handle_timeout`], [`Endpoint::request`],
//! [`Endpoint::respond`], …) drain [`Endpoint::poll_transmit`] and [`Endpoint::poll_event`] until both are
//! empty, then sleep until [`Endpoint::poll_timeout`] or the next datagram. A datagram that was sent to a group goes to
//! [`Endpoint::handle_multicast`] instead.
//!
//! # Map
//! | module | what |
//! |---|---|
//! | [`message`], [`options`], [`code`], [`number`], [`block`], [`content_format`] | the message format |
//! | [`conditional`], [`no_response`] | what resource owners and clients decide by options |
//! | [`endpoint`] | reliability, deduplication, block-wise transfer, observe |
//! | [`link`], [`uri`] | text formats |
#![forbid(unsafe_code)]

pub mod block;
pub mod code;
pub mod conditional;
pub mod config;
pub mod content_format;
pub mod endpoint;
pub mod error;
pub mod event;
#[doc(hidden)]
pub mod fuzz;
pub mod link;
pub mod message;
pub mod no_response;
pub mod number;
pub mod options;
pub mod peer;
pub mod request;
pub mod stats;
pub mod uri;

pub use block::Block;
pub use code::Code;
pub use conditional::{Conditional, Proceed};
pub use config::Config;
pub use endpoint::Endpoint;
pub use error::{BlockError, DecodeError, FormatError, ObserveError, RequestError, RespondError};
pub use event::{Event, ExchangeId, ObservationId, RequestId, Transmit};
pub use message::{Message, Token, Type};
pub use no_response::NoResponse;
pub use options::Options;
pub use peer::{Peer, SessionId};
pub use request::{Request, Response};
pub use stats::Stats;
pub use uri::{Scheme, Uri};
