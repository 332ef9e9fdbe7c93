//! What we know when a peer presents a certificate.

use std::time::SystemTime;

use crate::{anchor::Anchor, error::Purpose, remembered::SignatureMemory, revocation::Revocation};

/// Everything [`crate::decide`] looks at besides the presented chain. [`Context::new`] gives one in which no optional
/// box of the figure is done; set the fields for those that are.
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
    /// Certificates accepted for one Endpoint each, such as the `Credential` of a Controller table entry (R-SEC.4) or what
    /// was remembered after a first use (R-SEC.8).
    pub stored: &'a [StoredCertificate],
    /// The certificates of Trusted Brokers, each the broker's own (R-SEC.4a).
    pub brokers: &'a [Anchor],
    /// The transport resumed an encrypted session that this side accepted on the same grounds: the same peer, anchors,
    /// brokers, stored certificates and policy. Dates and revocation are looked at again all the same.
    pub cached: bool,
    /// What is known about revocation; `None`: it is not looked at.
    pub revocation: Option<&'a Revocation>,
    /// What becomes of a peer that nobody vouches for.
    pub first_use: FirstUse,
    /// Signatures of certificates that were verified before, and need not be again; `None`: all are. Decides nothing.
    pub signatures: Option<&'a SignatureMemory>,
}

impl<'a> Context<'a> {
    /// The MUST boxes of the figure and none of the optional ones: nothing stored, no broker, no cached session,
    /// revocation not looked at, no trust on first use.
    pub fn new(
        anchors: &'a [Anchor],
        time: Time,
        connection: Connection<'a>,
        policy: &'a Policy,
    ) -> Self {
        Self {
            anchors,
            time,
            connection,
            policy,
            stored: &[],
            brokers: &[],
            cached: false,
            revocation: None,
            first_use: FirstUse::Refuse,
            signatures: None,
        }
    }
}

/// A certificate that was accepted for one Endpoint (R-SEC.4, R-SEC.8).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoredCertificate {
    /// SHA-256 of its DER.
    pub fingerprint: [u8; 32],
    /// The Endpoint ID it was accepted for, as in a Record.
    pub endpoint_id: String,
}

/// "Trusted signature required?": what becomes of a peer whose certificate nobody trusted has signed (trust on first use).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FirstUse {
    /// It is refused.
    #[default]
    Refuse,
    /// It is accepted for encryption. Who it says it is stands for nothing yet: the caller gives it no role but
    /// "untrusted" (R-SEC.6), remembers the association (R-SEC.8), and ends a session without USP activity.
    Allow,
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
