//! What to fetch.

use std::fmt;

use super::{CertIdHash, ocsp};
use crate::{certificate::Certificate, fingerprint};

/// Something to fetch. Its address and issuer come from certificates whose path to a trusted CA is valid.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// GET a CRL (RFC 5280 §4.2.1.13).
    Crl {
        /// An `http` URL.
        url: String,
        /// The issuer's certificate, DER.
        issuer: Vec<u8>,
        /// The certificate in question is a CA's: there are lists of these only, and of others only.
        for_ca: bool,
    },
    /// POST [`Wanted::request`] as `application/ocsp-request` (RFC 6960 appendix A).
    Ocsp {
        /// An `http` URL.
        url: String,
        /// The issuer's certificate, DER.
        issuer: Vec<u8>,
        /// Serial number of the certificate in question: the contents of its INTEGER.
        serial: Vec<u8>,
        /// The hash in the request.
        hash: CertIdHash,
    },
}

impl Wanted {
    /// Where it is fetched from: an `http` URL.
    pub fn url(&self) -> &str {
        match self {
            Wanted::Crl { url, .. } | Wanted::Ocsp { url, .. } => url,
        }
    }

    /// The body to POST: an `OCSPRequest`, with this nonce (1 to 32 random bytes, RFC 9654) if there is one. `None`: GET.
    pub fn request(&self, nonce: Option<&[u8]>) -> Option<Vec<u8>> {
        match self {
            Wanted::Crl { .. } => None,
            Wanted::Ocsp {
                issuer,
                serial,
                hash,
                ..
            } => {
                let issuer = Certificate::parse(issuer).ok()?;
                Some(ocsp::request(&issuer, serial, *hash, nonce))
            }
        }
    }

    /// What it is remembered by as a failure.
    pub(super) fn key(&self) -> [u8; 32] {
        let mut input = Vec::new();
        let (kind, serial): (u8, &[u8]) = match self {
            Wanted::Crl { for_ca, .. } => (u8::from(*for_ca), &[]),
            Wanted::Ocsp { serial, .. } => (2, serial),
        };
        input.push(kind);
        for part in [self.url().as_bytes(), self.issuer(), serial] {
            input.extend_from_slice(&(part.len() as u64).to_be_bytes());
            input.extend_from_slice(part);
        }
        fingerprint(&input)
    }

    pub(super) fn issuer(&self) -> &[u8] {
        match self {
            Wanted::Crl { issuer, .. } | Wanted::Ocsp { issuer, .. } => issuer,
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::Crl { .. } => f.write_str("the CRL of ")?,
            Wanted::Ocsp { serial, .. } => {
                f.write_str("the OCSP status of certificate ")?;
                serial.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str(" of ")?;
            }
        }
        match Certificate::parse(self.issuer()) {
            Ok(issuer) => write!(f, "{}", issuer.subject)?,
            Err(_) => f.write_str("an unreadable issuer")?,
        }
        write!(f, " from {}", self.url())
    }
}
