//! What we know when a peer presents a certificate.

use std::time::SystemTime;

use crate::{anchor::Anchor, error::Purpose};

/// Everything [`crate::decide`] looks at besides the presented chain.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The trusted CA certificates, or certificates trusted themselves (R-SEC.2, R-SEC.4a).
    pub anchors: &'a [Anchor],
    /// The accurate absolute time, if there is one (R-MTP.2, R-MTP.3).
    pub time: Time,
    /// Who opened the connection.
    pub connection: Connection<'a>,
    /// Limits and strengths.
    pub policy: &'a Policy,
}

/// Absolute time as the host knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Accurate absolute time: every date in the chain is validated (R-MTP.3).
    Accurate(SystemTime),
    /// No accurate absolute time (yet): every date in the chain is ignored (R-MTP.2).
    Unknown,
}

/// Who opened the connection; decides the "name" box and the extended key usage asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection<'a> {
    /// We did: the peer is the (D)TLS server.
    Initiated {
        /// Host of the URL we connected to: a DNS name (A-labels) or an IP literal, brackets and final dot allowed.
        host: &'a str,
        /// The Endpoint ID we expect to reach, when it is known.
        endpoint_id: Option<&'a str>,
    },
    /// The peer did: it is the (D)TLS client.
    Accepted,
}

impl Connection<'_> {
    /// The key purpose the peer's certificate has to allow (RFC 5280 §4.2.1.12).
    pub fn purpose(&self) -> Purpose {
        match self {
            Connection::Initiated { .. } => Purpose::ServerAuth,
            Connection::Accepted => Purpose::ClientAuth,
        }
    }
}

/// Limits on the work one decision may cause, and on the strength of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Certificates a peer may present, and certificates in a path from the peer's to the anchor, both included. Default 8.
    pub max_chain: usize,
    /// Bytes of one presented certificate. Default 16 KiB.
    pub max_certificate_bytes: usize,
    /// Bytes of all presented certificates together. Default 48 KiB.
    pub max_chain_bytes: usize,
    /// Signatures verified in one decision. Default 16.
    pub max_signature_checks: usize,
    /// Candidate issuers looked at in one decision. Default 128.
    pub max_search_steps: usize,
    /// Smallest RSA modulus in bits, at every level; the largest is 8192. Values below 2048 act as 2048. Default 2048.
    pub min_rsa_bits: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_chain: 8,
            max_certificate_bytes: 16 * 1024,
            max_chain_bytes: 48 * 1024,
            max_signature_checks: 16,
            max_search_steps: 128,
            min_rsa_bits: 2048,
        }
    }
}
