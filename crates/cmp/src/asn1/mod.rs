//! The ASN.1 of CMP (RFC 9810 Appendix F, which contains RFC 4210 and RFC 9480) and of CRMF (RFC 4211), read and written as DER.
//!
//! Names, certificates, keys and extensions stay the bytes they were received as; whoever needs their inside reads it.

mod announcement;
mod body;
mod confirmation;
mod general;
mod header;
mod kept;
mod message;
mod opaque;
mod possession;
mod request;
mod response;
mod revocation;
mod status;

pub use announcement::{CaKeyUpdate, CaKeyUpdateV2, RevocationAnnouncement, RootCaKeyUpdate};
pub use body::{Body, BodyKind};
pub use confirmation::{CertStatus, PollRequest, PollResponse};
pub use general::{
    CertReqTemplate, CrlSource, CrlStatus, DistributionPointName, Info, InfoTypeAndValue,
};
pub use header::Header;
pub use kept::Kept;
pub(crate) use message::protected_part;
pub use message::{Limits, Message};
pub use opaque::{
    Certificate, CertificateList, CertificationRequest, EncodedMessage, EncryptedValue,
    EnvelopedData, Extensions, GeneralName, GeneralNames, Name, PublicKeyInfo, PublicationInfo,
};
pub use possession::{
    AuthInfo, Challenge, MacValue, PrivateKeyProof, ProofOfPossession, SignatureInput,
    SigningKeyProof,
};
pub use request::{
    CertId, CertReqMsg, CertRequest, CertTemplate, Control, OptionalValidity, TypeAndValue,
};
pub use response::{
    CertOrEncCert, CertRepMessage, CertResponse, CertifiedKeyPair, EncryptedKey, KeyRecovery,
};
pub use revocation::{RevDetails, RevRepContent};
pub use status::{ErrorMsg, FailInfo, Failure, FreeText, Status, StatusInfo};

/// `AlgorithmIdentifier` (RFC 5280 §4.1.1.2).
pub type Algorithm = x509_cert::spki::AlgorithmIdentifierOwned;

/// `Time`: UTCTime or GeneralizedTime (RFC 5280 §4.1.2.5).
pub use x509_cert::time::Time;
