//! What is known about revocation, and what to fetch to know more (RFC 5280 §5, RFC 6960).
//!
//! [`crate::decide`] looks at a [`Revocation`] and, where it lacks something, names it as [`Wanted`]. The caller fetches
//! that, over plain HTTP, and hands it to [`Revocation::add`], or says [`Revocation::failed`]. Evidence is verified when it
//! is added, against the issuer in the `Wanted`, whose path to a trusted CA was valid: a decision only looks it up.

mod error;

use std::{
    fmt,
    time::{Duration, Instant, SystemTime},
};

pub use error::EvidenceError;

use crate::{anchor::Anchor, certificate::Certificate, context::Time};

/// What is looked at, what follows when it cannot be found out, and the bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationPolicy {
    /// Which certificates of a path are looked at. Default [`RevocationScope::Leaf`].
    pub scope: RevocationScope,
    /// What follows when it cannot be found out. Default [`Unknown::Allow`], the figure's edge for a check not done.
    pub unknown: Unknown,
    /// What is asked for first when a certificate names both. Default [`Preference::Ocsp`].
    pub preference: Preference,
    /// The hash in OCSP requests. Default SHA-1, which every responder knows (RFC 5019 §2.1.1); nothing rests on its strength.
    pub cert_id_hash: CertIdHash,
    /// How long what could not be fetched is not asked for again. Default 5 minutes.
    pub remember_failure: Duration,
    /// Age at which evidence is [due](Revocation::due) to be fetched again though it is still good. Default 1 hour.
    pub refresh_after: Duration,
    /// How long evidence without `nextUpdate` is good after it came. Default 1 hour.
    pub without_next_update: Duration,
    /// How far `thisUpdate` may lie in the future. Default 5 minutes.
    pub clock_skew: Duration,
    /// Bytes of one CRL. Default 16 MiB.
    pub max_crl_bytes: usize,
    /// Revoked certificates in one CRL. Default 500,000.
    pub max_crl_entries: usize,
    /// CRLs kept. Default 64.
    pub max_crls: usize,
    /// Bytes of one OCSP response. Default 64 KiB.
    pub max_ocsp_bytes: usize,
    /// OCSP answers kept. Default 65,536.
    pub max_ocsp_answers: usize,
    /// Failures remembered. Default 4,096.
    pub max_failures: usize,
}

impl Default for RevocationPolicy {
    fn default() -> Self {
        Self {
            scope: RevocationScope::Leaf,
            unknown: Unknown::Allow,
            preference: Preference::Ocsp,
            cert_id_hash: CertIdHash::Sha1,
            remember_failure: Duration::from_secs(5 * 60),
            refresh_after: Duration::from_secs(60 * 60),
            without_next_update: Duration::from_secs(60 * 60),
            clock_skew: Duration::from_secs(5 * 60),
            max_crl_bytes: 16 << 20,
            max_crl_entries: 500_000,
            max_crls: 64,
            max_ocsp_bytes: 64 << 10,
            max_ocsp_answers: 65_536,
            max_failures: 4096,
        }
    }
}

/// Which certificates of a path are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RevocationScope {
    /// The peer's own.
    #[default]
    Leaf,
    /// All but the anchor's.
    Chain,
}

/// What follows when it cannot be found out whether a certificate is revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Unknown {
    /// The session is established.
    #[default]
    Allow,
    /// The peer is refused.
    Refuse,
}

/// What is asked for first when a certificate names both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Preference {
    /// The responder, about this certificate.
    #[default]
    Ocsp,
    /// The list, about all of the issuer's.
    Crl,
}

/// The hash that names an issuer in OCSP (RFC 6960 §4.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CertIdHash {
    /// SHA-1.
    #[default]
    Sha1,
    /// SHA-256.
    Sha256,
}

/// Something to fetch. Its address and issuer come from certificates whose path to a trusted CA is valid.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// GET a CRL (RFC 5280 §4.2.1.13).
    Crl {
        /// An `http` URL.
        url: String,
        /// The issuer's certificate, DER.
        issuer: Vec<u8>,
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
            Wanted::Ocsp { .. } => Some(nonce.unwrap_or_default().to_vec()),
        }
    }

    fn issuer(&self) -> &[u8] {
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

/// Verified evidence about revocation, and what could not be fetched. Bounded by its [`RevocationPolicy`].
#[derive(Debug)]
pub struct Revocation {
    policy: RevocationPolicy,
}

impl Revocation {
    /// Nothing known yet.
    pub fn new(policy: RevocationPolicy) -> Self {
        Self { policy }
    }

    /// What it was made with.
    pub fn policy(&self) -> &RevocationPolicy {
        &self.policy
    }

    /// How many bytes of an answer to this are worth reading.
    pub fn max_bytes(&self, wanted: &Wanted) -> usize {
        match wanted {
            Wanted::Crl { .. } => self.policy.max_crl_bytes,
            Wanted::Ocsp { .. } => self.policy.max_ocsp_bytes,
        }
    }

    /// Takes what was fetched, once it is verified: a CRL or an OCSP response, DER. `nonce` is the one that was sent.
    ///
    /// # Errors
    ///
    /// What is wrong with it. It is not remembered as a failure: say [`Revocation::failed`].
    pub fn add(
        &mut self,
        wanted: &Wanted,
        nonce: Option<&[u8]>,
        der: &[u8],
        time: Time,
    ) -> Result<(), EvidenceError> {
        let _ = (wanted, nonce, der, time);
        Err(EvidenceError::OtherCertificate)
    }

    /// Takes a CRL that came by other means, such as a file of the operator's. It has to be signed by one of `issuers`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn add_crl(
        &mut self,
        der: &[u8],
        issuers: &[Anchor],
        time: Time,
    ) -> Result<(), EvidenceError> {
        let _ = (issuers, der, time);
        Err(EvidenceError::OtherCertificate)
    }

    /// It could not be fetched, or what came was no good: until it is forgotten, decisions go on without it.
    pub fn failed(&mut self, wanted: &Wanted, now: Instant) {
        let _ = (wanted, now);
    }

    /// Forgets failures whose time has come, so that decisions want them again.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// When [`Revocation::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// What is still good and old enough to be fetched again in the background ([`RevocationPolicy::refresh_after`]), so that
    /// nobody waits for it later and a revocation becomes known. Decide anew about open sessions when it has come.
    pub fn due(&self, now: SystemTime) -> Vec<Wanted> {
        let _ = now;
        Vec::new()
    }
}
