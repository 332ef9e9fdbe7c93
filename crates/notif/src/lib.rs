//! UDP-notif (draft-ietf-netconf-udp-notif): telemetry in datagrams, from publisher to receiver, without I/O.
//!
//! A [`Collector`] takes datagrams and DTLS records and gives whole messages out; what is not handed on is counted, each thing once. Time is
//! an argument: call [`Collector::handle_timeout`] at [`Collector::poll_timeout`].
//!
//! # Goals
//! - Every [`Generation`] in the field is read, told apart by rule, and all but the legacy one are written.
//! - The truth about loss: of the Message IDs between a publisher's first and highest, each is in exactly one of [`Counters`]; a loss is
//!   claimed only where the generation gives every receiver its own sequence.
//! - Everything is bounded ([`CollectorConfig`]), and no source costs another one its messages. Garbage is counted by [`Reason`], never a panic.
//! - A message in one datagram is handed on as a part of it: nothing is allocated.
//!
//! # Non-goals
//! - I/O, clocks, DTLS itself. What is in a message: it is bytes of a [`MediaType`].
//!
//! # Module map
//! [`Generation`], [`MediaType`] (what differs between the drafts) → [`Message`], [`Options`] (bytes) → [`Segments`] (cutting), `reassembly`
//! (joining), [`Window`] (Message IDs), `framing` (DTLS records) → [`Collector`] on one side, [`publisher`] (what leaves, how fast, and what is
//! dropped) on the other.

#![forbid(unsafe_code)]

mod collector;
mod config;
mod error;
mod framing;
#[doc(hidden)]
pub mod fuzz;
mod generation;
mod header;
mod media_type;
mod options;
pub mod publisher;
mod reassembly;
mod segments;
mod source;
mod stats;
mod window;

pub use collector::{Collector, Delivery, PublisherRecord};
pub use config::{CollectorConfig, ReassemblyConfig, WindowConfig};
pub use error::{DecodeError, EncodeError, Reason};
pub use generation::{Generation, Profile};
pub use header::{HEADER_LEN, Header, Message};
pub use media_type::MediaType;
pub use options::{Options, RawOption, Segment};
pub use segments::{MAX_SEGMENT_NUMBER, SEGMENTATION_OPTION_LEN, Segments};
pub use source::Source;
pub use stats::{Counters, Stats};
pub use window::{Arrival, Window};

/// The example of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
