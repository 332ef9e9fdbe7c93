//! Why evidence about revocation is not used.

use der::asn1::ObjectIdentifier;

/// Why a CRL or an OCSP response tells nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// More bytes than [`crate::RevocationPolicy`] allows for its kind.
    #[error("it has {bytes} bytes, at most {limit} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// More revoked certificates than [`crate::RevocationPolicy::max_crl_entries`].
    #[error("it lists more than {limit} certificates")]
    TooManyEntries {
        /// The limit.
        limit: usize,
    },
    /// Not the DER of what was asked for (RFC 5280 §5.1, RFC 6960 §4.2.1).
    #[error("it cannot be decoded (near byte {offset})")]
    Malformed {
        /// Where decoding stopped, as far as known.
        offset: usize,
    },
    /// A version that does not fit its contents (RFC 5280 §5.1.2.1, RFC 6960 §4.2.1).
    #[error("its version is wrong for its contents")]
    Version,
    /// A critical extension that is not processed (RFC 5280 §5.2, §5.3).
    #[error("it has the critical extension {0}, which is not processed")]
    CriticalExtension(ObjectIdentifier),
    /// A delta CRL: only complete ones are used (RFC 5280 §5.2.4).
    #[error("it is a delta CRL, only complete ones are used")]
    Delta,
    /// A CRL that another authority than the certificates' issuer keeps (RFC 5280 §5.2.5, `indirectCRL`).
    #[error("it is an indirect CRL, which is not accepted")]
    Indirect,
    /// It is about some reasons or attribute certificates only (RFC 5280 §5.2.5).
    #[error("it covers only a part that is of no use here")]
    Scope,
    /// Its issuer is none of those that may say something here (RFC 5280 §6.3.3 (b)).
    #[error("it was issued by {found}, which is not the issuer of the certificate")]
    Issuer {
        /// The issuer's name in it.
        found: String,
    },
    /// The issuer's key usage does not allow signing CRLs (RFC 5280 §6.3.3 (f)).
    #[error("the issuer's key usage does not allow cRLSign")]
    KeyUsage,
    /// The responder is neither the issuer nor authorised by it (RFC 6960 §4.2.2.2).
    #[error("the responder is not authorised by the issuer of the certificate")]
    Responder,
    /// Signed with an algorithm or by a key that is not accepted.
    #[error("it is signed with {0}, which is not accepted")]
    SignatureAlgorithm(ObjectIdentifier),
    /// The signature does not verify.
    #[error("its signature does not verify")]
    Signature,
    /// `thisUpdate` lies in the future.
    #[error("it is not valid yet")]
    NotYetValid,
    /// `nextUpdate` lies in the past.
    #[error("it is out of date")]
    OutOfDate,
    /// Older than what is known already.
    #[error("it is older than what is known already")]
    Older,
    /// The responder did not answer: its status (RFC 6960 §4.2.1: 1 malformedRequest, 2 internalError, 3 tryLater,
    /// 5 sigRequired, 6 unauthorized).
    #[error("the responder answers with error {0}")]
    Status(u8),
    /// No answer in it is about the certificate.
    #[error("it does not say anything about the certificate")]
    OtherCertificate,
    /// The nonce is not the one sent (RFC 9654 §2.1).
    #[error("its nonce is not the one sent")]
    Nonce,
}
