//! The Certificate Management Protocol (CMP): messages, their protection, and proof of possession, without I/O.
//!
//! # Goals
//! - Every message of RFC 9810 (which took in RFC 4210 and RFC 9480) and RFC 4211 is read without loss, versions 2 and 3, nested messages included.
//! - Protection is verified over the received bytes, never over a re-encoding. Bit strings that are not quite DER are tolerated.
//! - Work is bounded by [`asn1::Limits`] and [`crypto::MacPolicy`]. Garbage is a [`Refusal`], never a panic.
//!
//! # Non-goals
//! - I/O, clocks: none. Certificate paths are judged by whoever holds the trusted CAs ([`protection::Peers`]).
//!
//! # Module map
//! [`asn1`] (the types), [`oid`] (what names them) → [`crypto`] (hashes, MACs, signatures, keys) → `certificate` (what is in a certificate
//! or PKCS #10 request) → [`protection`], [`possession`] → `refusal`, `error` (why not).

#![forbid(unsafe_code)]

pub mod asn1;
mod certificate;
pub mod crypto;
mod error;
#[doc(hidden)]
pub mod fuzz;
pub mod oid;
pub mod possession;
pub mod protection;
mod refusal;

pub use certificate::{CertificateParts, RequestParts};
pub use error::DecodeError;
pub use refusal::Refusal;
