//! What is looked at, what follows when it cannot be found out, and the bounds.

use std::time::Duration;

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
    /// Age at which evidence is [due](crate::Revocation::due) to be fetched again though it is still good. Default 1 hour.
    pub refresh_after: Duration,
    /// How long evidence without `nextUpdate` is good: a CRL after it came, an OCSP response after its `thisUpdate`. Default 1 hour.
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
