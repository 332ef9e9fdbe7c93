//! Why a peer is refused, comparable, and what the peer is told (the TLS alert).

use std::fmt;

use der::asn1::ObjectIdentifier;

/// Why the connection is terminated. `level` counts in the path found: 0 is the peer's own certificate, 1 its issuer,
/// and so on up to the anchor. `index` counts in the chain as presented.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The peer showed no certificate (R-MTP.1).
    #[error("the peer presented no certificate")]
    NoCertificate,
    /// More certificates than [`crate::Policy::max_chain`].
    #[error("the peer presented {presented} certificates, at most {limit} are read")]
    ChainTooLong {
        /// How many were presented.
        presented: usize,
        /// The limit.
        limit: usize,
    },
    /// More bytes than [`crate::Policy::max_certificate_bytes`].
    #[error(
        "certificate {index} of the presented chain has {bytes} bytes, at most {limit} are read"
    )]
    CertificateTooLarge {
        /// Which one.
        index: usize,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// More bytes in all than [`crate::Policy::max_chain_bytes`].
    #[error("the presented chain has {bytes} bytes, at most {limit} are read")]
    ChainTooLarge {
        /// Size of all certificates together.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The peer's own certificate is not a certificate that can be read (RFC 5280 §4.1).
    #[error("the peer's certificate cannot be read: {problem}")]
    Malformed {
        /// What is wrong with it.
        problem: Problem,
    },
    /// `notBefore` lies in the future (R-MTP.3, RFC 5280 §6.1.3 (a)(2)).
    #[error("the certificate at level {level} is not valid yet")]
    NotYetValid {
        /// Level in the path.
        level: usize,
    },
    /// `notAfter` lies in the past (R-MTP.3, RFC 5280 §6.1.3 (a)(2)).
    #[error("the certificate at level {level} has expired")]
    Expired {
        /// Level in the path.
        level: usize,
    },
    /// Neither the host nor the Endpoint ID we wanted is in the certificate (RFC 6125 §6, Figure MTP.1).
    #[error("the certificate names neither the host nor the Endpoint ID connected to")]
    NameMismatch,
    /// No path of issuers leads from the peer's certificate to a trusted CA.
    #[error("the certificate was not issued under a trusted CA")]
    UnknownIssuer,
    /// The signature does not verify under the issuer's key (RFC 5280 §6.1.3 (a)(1)).
    #[error(
        "the signature of the certificate at level {level} does not verify under its issuer's key"
    )]
    BadSignature {
        /// Level of the certificate that carries the signature.
        level: usize,
    },
    /// A signature algorithm that is too weak (MD5, SHA-1) or not implemented.
    #[error("the certificate at level {level} is signed with {algorithm}, which is not accepted")]
    SignatureAlgorithm {
        /// Level of the certificate that carries the signature.
        level: usize,
        /// Its algorithm.
        algorithm: ObjectIdentifier,
    },
    /// An RSA key below [`crate::Policy::min_rsa_bits`] or above 8192 bits.
    #[error("the RSA key of the certificate at level {level} has {bits} bits")]
    KeySize {
        /// Level of the certificate that holds the key.
        level: usize,
        /// Bits of its modulus.
        bits: usize,
    },
    /// A key that is neither RSA, ECDSA P-256 or P-384, nor Ed25519.
    #[error(
        "the key of the certificate at level {level} is of a kind that is not accepted ({algorithm})"
    )]
    KeyAlgorithm {
        /// Level of the certificate that holds the key.
        level: usize,
        /// Algorithm, or curve when the algorithm is id-ecPublicKey.
        algorithm: ObjectIdentifier,
    },
    /// An issuer without `basicConstraints` `cA` true (RFC 5280 §6.1.4 (k)).
    #[error("the certificate at level {level} issued another one but is no CA certificate")]
    NotACa {
        /// Level of the issuer.
        level: usize,
    },
    /// More intermediate certificates below a CA than its `pathLenConstraint` (RFC 5280 §6.1.4 (l), (m)).
    #[error(
        "the CA certificate at level {level} allows {allowed} intermediate CA certificates below it, there are more"
    )]
    PathLength {
        /// Level of the CA certificate.
        level: usize,
        /// Its `pathLenConstraint`.
        allowed: u64,
    },
    /// `keyUsage` forbids what the key was used for: `keyCertSign` above level 0 (RFC 5280 §6.1.4 (n)), `digitalSignature` at level 0.
    #[error("the key usage of the certificate at level {level} does not allow {}", if *.level == 0 { "digitalSignature" } else { "keyCertSign" })]
    KeyUsage {
        /// Level in the path.
        level: usize,
    },
    /// `extendedKeyUsage` is present and does not allow the peer's role (RFC 5280 §4.2.1.12).
    #[error("the extended key usage of the certificate at level {level} does not allow {purpose}")]
    ExtendedKeyUsage {
        /// Level in the path.
        level: usize,
        /// What was needed.
        purpose: Purpose,
    },
    /// A critical extension that is not processed here (RFC 5280 §6.1.4 (o), §6.1.5 (e)).
    #[error(
        "the certificate at level {level} has the critical extension {extension}, which is not processed"
    )]
    CriticalExtension {
        /// Level in the path.
        level: usize,
        /// Its object identifier.
        extension: ObjectIdentifier,
    },
    /// A name outside the permitted or inside the excluded subtrees (RFC 5280 §6.1.3 (b), (c)), or of a form that a
    /// constraint limits and that cannot be compared.
    #[error(
        "the certificate at level {level} has a name that the CA certificate at level {by} does not allow: {name}"
    )]
    NameConstraint {
        /// Level of the certificate that has the name.
        level: usize,
        /// Level of the CA certificate that has the constraint.
        by: usize,
        /// The name.
        name: String,
    },
    /// Name constraints that cannot be applied as written (distances, malformed bases).
    #[error("the name constraints of the certificate at level {level} are not understood")]
    UnsupportedNameConstraint {
        /// Level of the CA certificate.
        level: usize,
    },
    /// Trust on first use, and another certificate is already stored for this Endpoint ID (R-SEC.8).
    #[error(
        "nobody trusted signed the certificate, and another one is stored for Endpoint ID {endpoint_id}"
    )]
    OtherCertificateStored {
        /// The Endpoint ID that the peer's certificate claims or that we connected to.
        endpoint_id: String,
    },
    /// Its issuer revoked the certificate (RFC 5280 §6.1.3 (a)(3)).
    #[error("the certificate at level {level} is revoked ({reason})")]
    Revoked {
        /// Level in the path.
        level: usize,
        /// Why, as the issuer says.
        reason: RevocationReason,
    },
    /// Whether the certificate is revoked could not be found out, and the policy refuses then.
    #[error("whether the certificate at level {level} is revoked could not be found out")]
    RevocationUnknown {
        /// Level in the path.
        level: usize,
    },
    /// The search for a path stopped at [`crate::Policy::max_search_steps`] or [`crate::Policy::max_signature_checks`].
    #[error("no path to a trusted CA was found within the limits on work")]
    SearchLimit,
}

impl Refusal {
    /// The TLS alert that tells the peer (RFC 5246 §7.2.2, RFC 8446 §6.2).
    pub fn alert(&self) -> Alert {
        match self {
            Refusal::NoCertificate => Alert::CERTIFICATE_REQUIRED,
            Refusal::ChainTooLong { .. }
            | Refusal::CertificateTooLarge { .. }
            | Refusal::ChainTooLarge { .. }
            | Refusal::OtherCertificateStored { .. }
            | Refusal::RevocationUnknown { .. }
            | Refusal::SearchLimit => Alert::CERTIFICATE_UNKNOWN,
            Refusal::Malformed { .. }
            | Refusal::BadSignature { .. }
            | Refusal::NameMismatch
            | Refusal::NameConstraint { .. } => Alert::BAD_CERTIFICATE,
            Refusal::Revoked { .. } => Alert::CERTIFICATE_REVOKED,
            Refusal::NotYetValid { .. } | Refusal::Expired { .. } => Alert::CERTIFICATE_EXPIRED,
            Refusal::UnknownIssuer | Refusal::NotACa { .. } | Refusal::PathLength { .. } => {
                Alert::UNKNOWN_CA
            }
            Refusal::KeyUsage { level, .. } if *level > 0 => Alert::UNKNOWN_CA,
            Refusal::KeyUsage { .. }
            | Refusal::ExtendedKeyUsage { .. }
            | Refusal::CriticalExtension { .. }
            | Refusal::UnsupportedNameConstraint { .. }
            | Refusal::SignatureAlgorithm { .. }
            | Refusal::KeySize { .. }
            | Refusal::KeyAlgorithm { .. } => Alert::UNSUPPORTED_CERTIFICATE,
        }
    }
}

/// A TLS alert description as its number (RFC 8446 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Alert(pub u8);

impl Alert {
    /// 42: corrupt, or contained signatures that did not verify.
    pub const BAD_CERTIFICATE: Self = Self(42);
    /// 43: of an unsupported type.
    pub const UNSUPPORTED_CERTIFICATE: Self = Self(43);
    /// 44: revoked by its signer.
    pub const CERTIFICATE_REVOKED: Self = Self(44);
    /// 45: expired or not currently valid.
    pub const CERTIFICATE_EXPIRED: Self = Self(45);
    /// 46: some other issue in processing the certificate.
    pub const CERTIFICATE_UNKNOWN: Self = Self(46);
    /// 48: no known, trusted CA.
    pub const UNKNOWN_CA: Self = Self(48);
    /// 116: none was provided (TLS 1.3; in 1.2 the engine sends handshake_failure, 40).
    pub const CERTIFICATE_REQUIRED: Self = Self(116);

    /// The number on the wire.
    pub const fn code(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::BAD_CERTIFICATE => "bad_certificate",
            Self::UNSUPPORTED_CERTIFICATE => "unsupported_certificate",
            Self::CERTIFICATE_REVOKED => "certificate_revoked",
            Self::CERTIFICATE_EXPIRED => "certificate_expired",
            Self::CERTIFICATE_UNKNOWN => "certificate_unknown",
            Self::UNKNOWN_CA => "unknown_ca",
            Self::CERTIFICATE_REQUIRED => "certificate_required",
            Self(code) => return write!(f, "alert {code}"),
        };
        write!(f, "{name} ({})", self.0)
    }
}

/// What a certificate is used for, which its extended key usage has to allow (RFC 5280 §4.2.1.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// id-kp-serverAuth: we opened the connection.
    ServerAuth,
    /// id-kp-clientAuth: the peer opened it.
    ClientAuth,
    /// Signing messages of a management protocol, such as CMP: no extended key usage is asked for (RFC 9483 §1.4).
    Messages,
    /// id-kp-cmcRA: adding its protection to messages of others (RFC 9483 §5.2.2); it has to be named.
    RegistrationAuthority,
    /// id-kp-cmKGA: signing private keys that it made for others (RFC 9483 §4.1.6); it has to be named, unless the signer is a CA.
    KeyGeneration,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Purpose::ServerAuth => "serverAuth",
            Purpose::ClientAuth => "clientAuth",
            Purpose::Messages => "signing messages",
            Purpose::RegistrationAuthority => "cmcRA",
            Purpose::KeyGeneration => "cmKGA",
        })
    }
}

/// Why a certificate was revoked (RFC 5280 §5.3.1, `CRLReason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RevocationReason {
    /// 0, or none given.
    Unspecified,
    /// 1
    KeyCompromise,
    /// 2
    CaCompromise,
    /// 3
    AffiliationChanged,
    /// 4
    Superseded,
    /// 5
    CessationOfOperation,
    /// 6: for the time being.
    CertificateHold,
    /// 8: a hold is lifted; in delta CRLs only.
    RemoveFromCrl,
    /// 9
    PrivilegeWithdrawn,
    /// 10
    AaCompromise,
    /// A number that RFC 5280 gives no meaning.
    Other(u8),
}

impl From<u8> for RevocationReason {
    fn from(code: u8) -> Self {
        match code {
            0 => Self::Unspecified,
            1 => Self::KeyCompromise,
            2 => Self::CaCompromise,
            3 => Self::AffiliationChanged,
            4 => Self::Superseded,
            5 => Self::CessationOfOperation,
            6 => Self::CertificateHold,
            8 => Self::RemoveFromCrl,
            9 => Self::PrivilegeWithdrawn,
            10 => Self::AaCompromise,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::CaCompromise => "cACompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::CertificateHold => "certificateHold",
            Self::RemoveFromCrl => "removeFromCRL",
            Self::PrivilegeWithdrawn => "privilegeWithdrawn",
            Self::AaCompromise => "aACompromise",
            Self::Other(code) => return write!(f, "reason {code}"),
        })
    }
}

/// What is wrong with bytes that should be a certificate (RFC 5280 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not the DER of a Certificate.
    #[error("it is not the DER encoding of a certificate (near byte {offset})")]
    Der {
        /// Where decoding stopped, as far as known.
        offset: usize,
    },
    /// `signatureAlgorithm` differs from the one inside the signed part (RFC 5280 §4.1.1.2).
    #[error("its two signature algorithm fields differ")]
    SignatureAlgorithmsDiffer,
    /// Extensions in a certificate whose version is not 3, or a version that does not exist (RFC 5280 §4.1.2.1).
    #[error("its version is wrong for its contents")]
    Version,
    /// The same extension twice (RFC 5280 §4.2).
    #[error("it has the extension {0} twice")]
    DuplicateExtension(ObjectIdentifier),
    /// An extension that is processed here and cannot be decoded.
    #[error("its extension {0} cannot be decoded")]
    Extension(ObjectIdentifier),
}
