//! The Certificate Management Protocol (CMP): messages, their protection, and the transactions of both sides, without I/O.
//!
//! A [`client::Client`] asks for a certificate, its update, its revocation or information; an [`authority::Authority`] takes what clients
//! send and asks the application to decide. Both are driven one way: change something, drain `poll_transmit`, then `poll_event`, until both
//! are empty, sleep until `poll_timeout` or until input comes. Time and seeds are arguments.
//!
//! # Goals
//! - Every message of RFC 9810 (which took in RFC 4210 and RFC 9480) and RFC 4211 is read without loss, versions 2 and 3, nested messages included.
//! - Protection is verified over the received bytes, never over a re-encoding. Bit strings that are not quite DER are tolerated.
//! - The rules of RFC 9483, the Lightweight CMP Profile, on both sides; who breaks one is told the failInfo that belongs to it ([`Refusal`]).
//! - Work is bounded by [`asn1::Limits`], [`crypto::MacPolicy`] and [`authority::AuthorityConfig`]. Garbage is a refusal, never a panic.
//!
//! # Non-goals
//! - I/O, clocks: none. Certificate paths are judged by whoever holds the trusted CAs ([`protection::Peers`]); certificates are issued by
//!   whoever decides.
//! - Several requests in one message, cross-certification, key recovery, challenges as proof of possession: they are read, and refused politely.
//!
//! # Module map
//! [`asn1`] (the types), [`oid`] (what names them) → [`crypto`] (hashes, MACs, signatures, keys) → `certificate` (what is in a certificate
//! or PKCS #10 request) → [`protection`], [`possession`], [`key_delivery`] (private keys that the CA
//! generated) → `rules` (headers) → [`announce`] (what is told unasked), [`authority`], [`client`] (transactions), [`inspect`], [`relay`]
//! (who stands in between) → `refusal`, `error`
//! (why not).

#![forbid(unsafe_code)]

pub mod announce;
pub mod asn1;
pub mod authority;
mod certificate;
pub mod client;
pub mod crypto;
mod error;
#[doc(hidden)]
pub mod fuzz;
pub mod inspect;
pub mod key_delivery;
pub mod oid;
pub mod possession;
pub mod protection;
mod refusal;
pub mod relay;
mod rules;

pub use certificate::{CertificateParts, RequestParts};
pub use error::DecodeError;
pub use refusal::Refusal;
pub use rules::{Moment, TimePolicy};

/// The example of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
