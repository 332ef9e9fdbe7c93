//! HTTP logins of CWMP (TR-069 §3.4.5): Digest (RFC 7616, RFC 2617) of either side, Basic (RFC 7617).
//!
//! [`DigestServer`] challenges and checks: an ACS its CPEs, a CPE who sends a Connection Request. [`DigestClient`] answers. Hashes are MD5, which
//! installed devices speak, and SHA-256; the quality of protection is `auth`. Time and seeds are arguments.

mod basic;
mod client;
mod hash;
mod header;
mod server;

pub use basic::{BasicLogin, basic};
pub use client::{ClientError, DigestClient};
pub use hash::{Algorithm, Stored};
pub use server::{DigestConfig, DigestServer, Refusal};
