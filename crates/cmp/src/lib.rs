//! The Certificate Management Protocol (CMP): messages, their protection, and the transactions of both sides, without I/O.
//!
//! # Goals
//! - Every message of RFC 9810 (which took in RFC 4210 and RFC 9480) and RFC 4211 is read without loss, versions 2 and 3, nested messages included.
//! - Protection is verified over the received bytes, never over a re-encoding. Bit strings that are not quite DER are tolerated.
//! - Work is bounded by [`asn1::Limits`]. Garbage is a refusal, never a panic.
//!
//! # Non-goals
//! - I/O, clocks: none. Certificate paths are judged by whoever holds the trusted CAs.
//!
//! # Module map
//! [`asn1`] (the types) → [`oid`] (what names them) → `error`.

#![forbid(unsafe_code)]

pub mod asn1;
mod error;
pub mod oid;

pub use error::DecodeError;
