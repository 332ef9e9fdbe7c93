//! UDP-notif (draft-ietf-netconf-udp-notif): telemetry in datagrams, from publisher to receiver, without I/O.
//!
//! A [`Message`] is one datagram read by the rules of its [`Generation`]; a [`Header`] writes one.
//!
//! # Module map
//! [`Generation`] and [`MediaType`] (what differs between the drafts) → `options`, `header` (bytes) → `segments` (cutting large messages) →
//! [`publisher`] (what leaves, how fast, and what is dropped).

#![forbid(unsafe_code)]

mod config;
mod error;
mod generation;
mod header;
mod media_type;
mod options;
pub mod publisher;
mod segments;
mod stats;

pub use config::{CollectorConfig, ReassemblyConfig, WindowConfig};
pub use error::{DecodeError, EncodeError, Reason};
pub use generation::{Generation, Profile};
pub use header::{HEADER_LEN, Header, Message};
pub use media_type::MediaType;
pub use options::{Options, RawOption, Segment};
pub use segments::{MAX_SEGMENT_NUMBER, SEGMENTATION_OPTION_LEN, Segments};
pub use stats::{Counters, Stats};
