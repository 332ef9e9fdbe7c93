//! Why a message is refused, and what the other side is told: the failInfo that RFC 9483 §3.5 and §3.6 name.

use der::asn1::ObjectIdentifier;

use crate::{
    DecodeError,
    asn1::{BodyKind, Failure, StatusInfo},
    crypto::{MacError, SignatureError},
};

/// Why a message is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It cannot be read.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// Its version is neither 2 nor 3.
    #[error("version {0} is not supported, 2 and 3 are")]
    Version(i64),
    /// `transactionID` is missing or shorter than 128 bits.
    #[error("transactionID has {bytes} bytes, it needs 16")]
    TransactionId {
        /// Its size, 0 when it is missing.
        bytes: usize,
    },
    /// A first message names a transaction that there is or was.
    #[error("the transaction is in use")]
    TransactionInUse,
    /// A later message names a transaction that there is not.
    #[error("there is no such transaction")]
    TransactionUnknown,
    /// A response names another transaction than the request.
    #[error("the response belongs to another transaction")]
    TransactionDiffers,
    /// `senderNonce` is missing or shorter than 128 bits.
    #[error("senderNonce has {bytes} bytes, it needs 16")]
    SenderNonce {
        /// Its size, 0 when it is missing.
        bytes: usize,
    },
    /// `senderNonce` was used before in this transaction.
    #[error("senderNonce is not fresh")]
    SenderNonceUsed,
    /// `recipNonce` is not the `senderNonce` of the message before.
    #[error("recipNonce is not the senderNonce of the message before")]
    RecipNonce,
    /// A first message has a `recipNonce`.
    #[error("a first message answers nothing, yet has a recipNonce")]
    RecipNonceUnasked,
    /// `messageTime` is too far from our time.
    #[error("messageTime is {seconds} s away from our time")]
    Time {
        /// How far.
        seconds: u64,
    },
    /// `messageTime` is missing where it is asked for.
    #[error("messageTime is missing")]
    TimeMissing,
    /// A general information of the header is not of its type.
    #[error("the general information {0} is not of its type")]
    GeneralInfo(ObjectIdentifier),
    /// No protection where it is needed.
    #[error("the message is not protected")]
    Unprotected,
    /// `protectionAlg` without protection, or the other way round.
    #[error("protection and protectionAlg have to be there both or not at all")]
    ProtectionIncomplete,
    /// A MAC where a signature is needed, or the other way round.
    #[error("protected by {0}, which is not accepted here")]
    WrongProtection(&'static str),
    /// The MAC algorithm is not accepted.
    #[error(transparent)]
    MacAlgorithm(MacError),
    /// The signature algorithm is not accepted.
    #[error(transparent)]
    SignatureAlgorithm(SignatureError),
    /// MAC or signature do not verify.
    #[error("the protection does not verify")]
    BadProtection,
    /// No secret is known by the reference in `senderKID`.
    #[error("no secret is known by this reference")]
    SecretUnknown,
    /// `senderKID` is missing with a MAC (RFC 9483 §3.1).
    #[error("senderKID is missing")]
    SenderKidMissing,
    /// `senderKID` is not the key identifier of the certificate.
    #[error("senderKID is not the key identifier of the certificate that protects the message")]
    SenderKidDiffers,
    /// `sender` is not the subject of the certificate.
    #[error("sender is not the subject of the certificate that protects the message")]
    SenderDiffers,
    /// The certificate that protects the message is not there.
    #[error("the certificate that protects the message is missing")]
    CertificateMissing,
    /// The certificate that protects the message cannot be read.
    #[error("the certificate that protects the message cannot be read")]
    CertificateMalformed,
    /// The certificate that protects the message is not trusted.
    #[error("the certificate that protects the message is not trusted: {0}")]
    Untrusted(String),
    /// The sender may not do this.
    #[error("not authorised: {0}")]
    Unauthorized(String),
    /// The response is protected by somebody else than expected.
    #[error("the message is protected by another one than expected")]
    PeerDiffers,
    /// A body that does not belong here.
    #[error("{0} is not expected here")]
    UnexpectedBody(BodyKind),
    /// A body that is not supported.
    #[error("{0} is not supported")]
    UnsupportedBody(BodyKind),
    /// Not exactly one request or entry.
    #[error("{found} entries, exactly one is expected")]
    Count {
        /// How many there are.
        found: usize,
    },
    /// `certReqId` is not what it has to be.
    #[error("certReqId is {found}, {expected} is expected")]
    CertReqId {
        /// What was expected.
        expected: i64,
        /// What is there.
        found: i64,
    },
    /// The template misses something, or has something that it must not have.
    #[error("the certificate template is not acceptable: {0}")]
    Template(&'static str),
    /// No proof of possession where it is needed, one of a kind that is not supported, or one that does not verify.
    #[error("proof of possession: {0}")]
    Possession(&'static str),
    /// A control is not of its type.
    #[error("the control {0} is not of its type")]
    Control(ObjectIdentifier),
    /// `oldCertID` names another certificate than the one to be updated.
    #[error("oldCertID names another certificate")]
    OldCertId,
    /// `certHash` is not the hash of the certificate issued.
    #[error("certHash is not the hash of the certificate")]
    CertHash,
    /// A hash algorithm that is not accepted.
    #[error("the hash algorithm {0} is not accepted")]
    HashAlgorithm(ObjectIdentifier),
    /// `hashAlg` in a message of version 2.
    #[error("hashAlg needs version 3")]
    HashAlgVersion,
    /// The certificate of a request for revocation is not named by issuer and serial number, or without a reason.
    #[error("a request for revocation needs {0}")]
    RevocationDetails(&'static str),
    /// All places for transactions are taken.
    #[error("too many transactions are open")]
    Busy,
    /// Something failed on our side.
    #[error("internal failure: {0}")]
    Internal(String),
}

impl Refusal {
    /// What the other side is told.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Malformed(_) | Self::TransactionId { .. } | Self::GeneralInfo(_) => {
                Failure::BadDataFormat
            }
            Self::Version(_) => Failure::UnsupportedVersion,
            Self::TransactionInUse => Failure::TransactionIdInUse,
            Self::TransactionUnknown
            | Self::TransactionDiffers
            | Self::UnexpectedBody(_)
            | Self::UnsupportedBody(_)
            | Self::Count { .. }
            | Self::CertReqId { .. }
            | Self::HashAlgVersion => Failure::BadRequest,
            Self::SenderNonce { .. } | Self::SenderNonceUsed => Failure::BadSenderNonce,
            Self::RecipNonce | Self::RecipNonceUnasked => Failure::BadRecipientNonce,
            Self::Time { .. } => Failure::BadTime,
            Self::TimeMissing => Failure::MissingTimeStamp,
            Self::WrongProtection(_) => Failure::WrongIntegrity,
            Self::Unprotected
            | Self::ProtectionIncomplete
            | Self::BadProtection
            | Self::SecretUnknown
            | Self::SenderKidMissing
            | Self::SenderKidDiffers
            | Self::SenderDiffers
            | Self::CertificateMissing
            | Self::CertificateMalformed
            | Self::PeerDiffers => Failure::BadMessageCheck,
            Self::MacAlgorithm(_) | Self::SignatureAlgorithm(_) | Self::HashAlgorithm(_) => {
                Failure::BadAlg
            }
            Self::Untrusted(_) => Failure::SignerNotTrusted,
            Self::Unauthorized(_) => Failure::NotAuthorized,
            Self::Template(_) => Failure::BadCertTemplate,
            Self::Possession(_) => Failure::BadPop,
            Self::Control(_) => Failure::BadDataFormat,
            Self::OldCertId | Self::CertHash => Failure::BadCertId,
            Self::RevocationDetails(_) => Failure::AddInfoNotAvailable,
            Self::Busy => Failure::SystemUnavail,
            Self::Internal(_) => Failure::SystemFailure,
        }
    }

    /// The rejection that tells the other side, without details of what happens inside of us.
    pub fn status_info(&self) -> StatusInfo {
        let text = match self {
            Self::Internal(_) => "internal failure".to_owned(),
            // The answer does not tell which references there are.
            Self::SecretUnknown => Self::BadProtection.to_string(),
            other => other.to_string(),
        };
        StatusInfo::rejection(self.failure(), text)
    }
}
