//! What an end entity is told.

use std::time::Duration;

use crate::{
    asn1::{Certificate, EncryptedKey, Info, RevRepContent, Status, StatusInfo},
    refusal::Refusal,
};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// The answer takes time; it will be polled for.
    Waiting {
        /// After which time.
        check_after: Duration,
        /// Why.
        reason: Option<String>,
    },
    /// A certificate: accept or decline it. One for another key is declined already.
    Offered(Box<Offer>),
    /// A message was ignored.
    Ignored(Refusal),
    /// The transaction is over.
    Finished(Outcome),
}

/// A certificate that was issued for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// [`Status::GRANTED_WITH_MODS`] when it is not just what was asked for.
    pub status: Status,
    /// The certificate.
    pub certificate: Certificate,
    /// CA certificates to be trusted from now on; only ever filled when the answer is protected by a secret.
    pub ca_pubs: Vec<Certificate>,
    /// Certificates that may help to build a path; not to be trusted for being here.
    pub extra_certs: Vec<Certificate>,
    /// The private key when the CA generated it, encrypted for us.
    pub private_key: Option<EncryptedKey>,
    /// Whether it counts as confirmed already.
    pub implicit: bool,
    /// Whether it is for the key that was asked for.
    pub key_fits: bool,
}

/// How the transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a certificate that both sides know to be in use.
    Certificate(Box<Offer>),
    /// We did not want the certificate.
    Declined(StatusInfo),
    /// What became of a request for revocation.
    Revoked(RevRepContent),
    /// The information asked for.
    Info(Vec<Info>),
    /// The other side refused.
    Rejected(StatusInfo),
    /// Without an answer.
    Failed(ClientError),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No acceptable answer in time.
    #[error("no acceptable answer came in time")]
    TimedOut,
    /// Polled for too long.
    #[error("there was still nothing after polling for too long")]
    GaveUp,
}
