//! Revocation requests and responses (RFC 9810 §5.3.9, §5.3.10).

use der::Sequence;

use super::{CertId, CertTemplate, CertificateList, Extensions, StatusInfo};

/// `RevDetails` (RFC 9810 §5.3.9).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct RevDetails {
    /// Which certificate: issuer and serial number.
    pub cert_details: CertTemplate,
    /// Extensions of the entry in the CRL: the reason.
    #[asn1(optional = "true")]
    pub crl_entry_details: Option<Extensions>,
}

/// `RevRepContent` (RFC 9810 §5.3.10).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct RevRepContent {
    /// One for each request, in its order.
    pub status: Vec<StatusInfo>,
    /// The certificates that were to be revoked.
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    pub rev_certs: Option<Vec<CertId>>,
    /// The CRLs that came of it.
    #[asn1(context_specific = "1", optional = "true", tag_mode = "EXPLICIT")]
    pub crls: Option<Vec<CertificateList>>,
}
