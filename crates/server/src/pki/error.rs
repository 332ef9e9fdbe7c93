//! Why the CA does not do what is asked.

use std::path::PathBuf;

use der::asn1::ObjectIdentifier;
use homefleet_cmp::asn1::Failure;

use super::name::TemplateError;
use super::profile::{KeyClass, Who};
use super::serial::Serial;
use crate::clock::Millis;
use crate::store::{StoreError, Unmet};

/// Why the CA cannot be made, opened, or do its own work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PkiError {
    /// There is no CA in the directory.
    #[error("there is no CA in {0}: `homefleet ca init` makes one")]
    Missing(PathBuf),
    /// There is a CA already.
    #[error("there is a CA in {0} already")]
    Exists(PathBuf),
    /// A file cannot be read or written.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// No passphrase was given.
    #[error(
        "the CA's key file needs a passphrase: set pki.passphrase_file or HOMEFLEET_PKI_PASSPHRASE"
    )]
    NoPassphrase,
    /// The passphrase is too short for the keys it would protect.
    #[error("the passphrase has {found} characters, it needs {least}")]
    WeakPassphrase {
        /// How many it has.
        found: usize,
        /// How many it needs.
        least: usize,
    },
    /// The key file does not open by the passphrase.
    #[error("{0} does not open by this passphrase")]
    WrongPassphrase(PathBuf),
    /// No PIN was given.
    #[error("the PKCS#11 token needs a PIN: set pki.pin_file or HOMEFLEET_PKI_PIN")]
    NoPin,
    /// The PKCS#11 module or token failed.
    #[error("PKCS#11: {0}")]
    Token(String),
    /// A certificate is not what it has to be.
    #[error("{path}: {problem}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The private key does not belong to the certificate.
    #[error("the private key does not belong to the certificate of the issuing CA")]
    KeyDiffers,
    /// An option makes no sense.
    #[error("{0}")]
    Option(String),
    /// A key cannot be made or used.
    #[error("the CA's key: {0}")]
    Key(String),
    /// The store failed.
    #[error("{0}")]
    Store(String),
    /// There is no randomness.
    #[error("no random numbers: {0}")]
    Random(String),
}

impl From<StoreError> for PkiError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

/// Why a key is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// Of a kind that is not implemented, or it cannot be read.
    #[error("it is of a kind that is not accepted")]
    Kind,
    /// Of a kind that the profile does not have.
    #[error("the profile has no {0:?} keys")]
    NotInProfile(KeyClass),
    /// Too small or too large.
    #[error("it has {found} bits, expected {least} to {most}")]
    Size {
        /// Bits it has.
        found: usize,
        /// Least.
        least: usize,
        /// Most.
        most: usize,
    },
    /// No valid key: not a point of its curve, or no modulus.
    #[error("it is not a valid key")]
    Invalid,
}

/// Why a certificate is not issued: which rule was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// There is no such profile.
    #[error("there is no profile `{0}`")]
    Profile(String),
    /// The profile is not for those.
    #[error("the profile `{profile}` is not for requests by {who:?}")]
    NotAdmitted {
        /// Its name.
        profile: String,
        /// Who asked.
        who: Who,
    },
    /// The profile does not let the CA make keys.
    #[error("the profile does not let the CA make the private key")]
    CentralKey,
    /// The key is not accepted.
    #[error("the key: {0}")]
    Key(KeyRefusal),
    /// What was asked for cannot be read.
    #[error("{0} cannot be read")]
    Malformed(&'static str),
    /// A certificate of a CA was asked for.
    #[error("no certificates of CAs are issued here")]
    CaRequested,
    /// The profile does not leave the subject to requests.
    #[error("the profile does not give the subject `{0}`")]
    Subject(String),
    /// The profile does not leave this name to requests.
    #[error("the profile does not give the name `{0}`")]
    AltName(String),
    /// The profile does not give this extension, or not with this value.
    #[error("the profile does not give the extension {0} as asked for")]
    Extension(ObjectIdentifier),
    /// The profile does not leave validity to requests.
    #[error("the profile does not give this validity")]
    Validity,
    /// Too many names.
    #[error("more than {most} names")]
    TooManyNames {
        /// Most.
        most: usize,
    },
    /// Neither subject nor other names.
    #[error("the certificate would have no name")]
    Nameless,
    /// The request names another device than the one that asks.
    #[error("the request is for {asked}, by {known}")]
    OtherDevice {
        /// Named in the request.
        asked: String,
        /// Known by the authorisation.
        known: String,
    },
    /// A name of the profile cannot be made for this device.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The secret cannot be used (any more).
    #[error("the secret {0}")]
    Secret(Unmet),
    /// The approval cannot be used (any more).
    #[error("the approval {0}")]
    Approval(Unmet),
    /// The certificate that the request rests on is not known.
    #[error("there is no certificate {0}")]
    UnknownCertificate(Serial),
    /// The certificate that the request rests on was revoked.
    #[error("certificate {0} is revoked")]
    RevokedCertificate(Serial),
    /// The certificate that the request rests on was never confirmed.
    #[error("certificate {0} is not confirmed")]
    UnconfirmedCertificate(Serial),
    /// The certificate that the request rests on has ended too long ago.
    #[error("certificate {serial} ended at {end}, which is too long ago", end = end.to_timestamp())]
    ExpiredCertificate {
        /// Its serial number.
        serial: Serial,
        /// Its end.
        end: Millis,
    },
    /// The CA's own certificate has ended, or has not begun.
    #[error("the CA's certificate is not valid now")]
    AuthorityExpired,
    /// The key could not sign.
    #[error("the CA's key failed: {0}")]
    Sign(String),
    /// There is no randomness.
    #[error("no random numbers: {0}")]
    Random(String),
    /// Too many writes wait.
    #[error("too many writes wait for the disk")]
    Busy,
    /// It could not be stored, so it was not issued.
    #[error("the certificate could not be stored, so none was issued: {0}")]
    Store(String),
}

impl IssueError {
    /// What a CMP client is told (RFC 9483 §3.6.4).
    pub fn failure(&self) -> Failure {
        match self {
            Self::Profile(_)
            | Self::Malformed(_)
            | Self::CaRequested
            | Self::Subject(_)
            | Self::AltName(_)
            | Self::Validity
            | Self::TooManyNames { .. }
            | Self::Nameless
            | Self::Template(_) => Failure::BadCertTemplate,
            Self::Key(KeyRefusal::Kind | KeyRefusal::NotInProfile(_)) => Failure::BadAlg,
            Self::Key(_) => Failure::BadCertTemplate,
            Self::Extension(_) => Failure::UnacceptedExtension,
            Self::NotAdmitted { .. }
            | Self::CentralKey
            | Self::OtherDevice { .. }
            | Self::Secret(_)
            | Self::Approval(_)
            | Self::ExpiredCertificate { .. } => Failure::NotAuthorized,
            Self::UnknownCertificate(_) | Self::UnconfirmedCertificate(_) => Failure::BadCertId,
            Self::RevokedCertificate(_) => Failure::CertRevoked,
            Self::Busy | Self::Store(_) => Failure::SystemUnavail,
            Self::AuthorityExpired | Self::Sign(_) | Self::Random(_) => Failure::SystemFailure,
        }
    }
}

/// Why a certificate is not confirmed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfirmError {
    /// There is none.
    #[error("there is no certificate {0}")]
    Unknown(Serial),
    /// It was revoked, for instance because the confirmation came too late.
    #[error("certificate {0} is revoked")]
    Revoked(Serial),
    /// The store failed.
    #[error("{0}")]
    Store(String),
}

impl ConfirmError {
    /// What a CMP client is told.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Unknown(_) => Failure::BadCertId,
            Self::Revoked(_) => Failure::CertRevoked,
            Self::Store(_) => Failure::SystemUnavail,
        }
    }
}

/// Why a certificate is not revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevokeError {
    /// There is none.
    #[error("there is no certificate {0}")]
    Unknown(Serial),
    /// It is not on hold.
    #[error("certificate {0} is not on hold")]
    NotHeld(Serial),
    /// It is revoked for good.
    #[error("certificate {0} is revoked already")]
    Revoked(Serial),
    /// The store failed.
    #[error("{0}")]
    Store(String),
}

impl RevokeError {
    /// What a CMP client is told (RFC 9483 §4.2).
    pub fn failure(&self) -> Failure {
        match self {
            Self::Unknown(_) => Failure::BadCertId,
            Self::NotHeld(_) => Failure::BadRequest,
            Self::Revoked(_) => Failure::CertRevoked,
            Self::Store(_) => Failure::SystemUnavail,
        }
    }
}

/// Why an enrolment secret is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The reference is empty or too long.
    #[error("a reference has 1 to {most} bytes")]
    Reference {
        /// Most.
        most: usize,
    },
    /// The secret is too short or too long.
    #[error("a secret has {least} to {most} bytes, this one has {found}")]
    Length {
        /// How many it has.
        found: usize,
        /// Least.
        least: usize,
        /// Most.
        most: usize,
    },
    /// Nobody could use it.
    #[error("a secret is for at least one use, and expires in the future")]
    Useless,
    /// There is no such profile.
    #[error("there is no profile `{0}`")]
    Profile(String),
    /// The reference is taken, or unknown.
    #[error("the reference {0}")]
    Unmet(Unmet),
    /// It cannot be opened: it was sealed by another CA.
    #[error("the secret was stored under another key of the CA")]
    Sealed,
    /// There is no randomness.
    #[error("no random numbers: {0}")]
    Random(String),
    /// The store failed.
    #[error("{0}")]
    Store(String),
}

/// Why a request for approval is not kept or decided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// It is not there, was decided, has expired, or there are too many.
    #[error("the request {0}")]
    Unmet(Unmet),
    /// It is too long.
    #[error("a request has at most {most} bytes, this one has {found}")]
    Length {
        /// How many it has.
        found: usize,
        /// Most.
        most: usize,
    },
    /// There is no randomness.
    #[error("no random numbers: {0}")]
    Random(String),
    /// The store failed.
    #[error("{0}")]
    Store(String),
}
