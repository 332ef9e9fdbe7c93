//! The decision of USP Figure MTP.1 ("Receiving a X.509 Certificate") as a pure function, with its reasons.
//!
//! [`decide`] takes the certificates a (D)TLS peer presented and what we know ([`Context`]: trusted CAs, the time or
//! the fact that it is unknown, whose connection it is, limits, and what the optional boxes need) and answers
//! [`Outcome::Establish`], [`Outcome::Hold`] or [`Outcome::Terminate`] *with every box of the figure it passed*
//! ([`Decision::steps`]). [`explain`] prints the walk.
//!
//! # Goals
//! - All boxes of the figure (R-MTP.4, R-MTP.4a), R-MTP.1 in both roles, R-MTP.2 and R-MTP.3, RFC 5280 §6.1 path validation,
//!   RFC 6125 §6.4 name matching, R-SEC.0a and R-SEC.12 identities.
//! - Revocation by CRL (RFC 5280 §5, §6.3) and OCSP (RFC 6960), sans-IO: a [`Revocation`] keeps verified evidence, a decision names
//!   what is [`Wanted`] besides.
//! - Signatures are verified over the received bytes, never over a re-encoding.
//! - Work is bounded by [`Policy`] and [`RevocationPolicy`]: chain length, bytes, search steps, signature checks, entries. Garbage is
//!   a refusal, never a panic.
//!
//! # Non-goals
//! - Certificate policies (RFC 5280 §6.1.5 policy tree): critical policy constraints are refused as not understood.
//! - Delta and indirect CRLs, stapled OCSP responses.
//! - I/O, clocks, random numbers: none. The peer's possession of its key is proven by the (D)TLS handshake, not here.
//!
//! # Module map, in the order of a decision
//! `context` (what we know) → `figure` (the walk) → `presented`, `certificate`, `extension`, `dn` (reading DER) → `ground` (why the peer
//! could be accepted) → `host`, `identity` (names) → `path` (building and validating), `constraints`, `signature` → `revocation` (what is
//! known about it, what to fetch) → `decision`, `error`, `explain` (the answer). Beside it: `signer` (who signs messages, no peer of a
//! connection).

#![forbid(unsafe_code)]

mod anchor;
mod certificate;
mod constraints;
mod context;
mod decision;
mod dn;
mod error;
mod explain;
mod extension;
mod figure;
#[doc(hidden)]
pub mod fuzz;
mod ground;
mod host;
mod identity;
mod path;
mod presented;
mod remembered;
mod revocation;
mod signature;
mod signer;

pub use anchor::{Anchor, AnchorError, PemError, anchors_from_pem, chain_from_pem};
pub use context::{Connection, Context, FirstUse, Policy, StoredCertificate, Time};
pub use decision::{
    Answer, Basis, ChainCertificate, Decision, DefaultEdge, Element, Level, Outcome, Source, Step,
};
pub use error::{Alert, Problem, Purpose, Refusal, RevocationReason};
pub use explain::explain;
pub use figure::decide;
pub use identity::{PeerIdentity, same_endpoint};
pub use remembered::SignatureMemory;
pub use revocation::{
    CertIdHash, Evidence, EvidenceError, Preference, Revocation, RevocationPolicy, RevocationScope,
    Unknown, Wanted,
};
pub use signer::validate_signer;

/// SHA-256.
fn fingerprint(der: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

/// The example of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
