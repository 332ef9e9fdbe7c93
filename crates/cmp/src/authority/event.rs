//! What the application is told and asked, and what it decides.

use std::{fmt, time::Duration};

use super::CertificateRequest;
use crate::{
    asn1::{Certificate, EncryptedKey, Info, RevDetails, RevRepContent, Status, StatusInfo},
    protection::Protection,
    refusal::Refusal,
};

/// A request of the transfer, chosen by the caller; the answer goes back under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId(pub u64);

/// A `transactionID`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(pub(crate) Vec<u8>);

impl TransactionId {
    /// Its bytes, 16 to 64.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransactionId({self})")
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A certificate is asked for: decide with [`Decision::Issue`], [`Decision::Reject`] or [`Decision::Wait`].
    Requested {
        /// The transaction to decide about.
        transaction: TransactionId,
        /// What is asked for.
        request: Box<CertificateRequest>,
    },
    /// A revocation is asked for: decide with [`Decision::Revoked`], [`Decision::Reject`] or [`Decision::Wait`].
    RevocationRequested {
        /// The transaction to decide about.
        transaction: TransactionId,
        /// Which certificate, and why; issuer and serial number are there.
        details: Box<RevDetails>,
        /// Who asks.
        requester: Protection,
        /// The RA that added its protection to the request.
        relay: Option<Protection>,
    },
    /// Information is asked for: decide with [`Decision::Answer`], [`Decision::Reject`] or [`Decision::Wait`].
    InfoRequested {
        /// The transaction to decide about.
        transaction: TransactionId,
        /// What is asked for. Types that are not known are among it; they are to be answered with [`Info::UnsupportedOids`].
        infos: Vec<Info>,
        /// The profile that the question is about.
        profile: Option<String>,
        /// Who asks.
        requester: Protection,
    },
    /// The requester has the certificate and will use it.
    Confirmed {
        /// The transaction, which is over.
        transaction: TransactionId,
        /// The certificate.
        certificate: Certificate,
        /// Whether nobody said so, because implicit confirmation was granted.
        implicit: bool,
    },
    /// The requester does not want the certificate, or confirmed another one: it is to be revoked.
    Declined {
        /// The transaction, which is over.
        transaction: TransactionId,
        /// The certificate.
        certificate: Certificate,
        /// Why.
        status: StatusInfo,
    },
    /// Nobody confirmed the certificate in time: it is to be revoked.
    Unconfirmed {
        /// The transaction, which is over.
        transaction: TransactionId,
        /// The certificate.
        certificate: Certificate,
    },
    /// The requester gave up, or did not poll in time. What was asked needs no decision any more.
    Abandoned {
        /// The transaction, which is over.
        transaction: TransactionId,
    },
    /// A message was refused, and its sender was told so.
    Refused {
        /// Where it came from.
        exchange: ExchangeId,
        /// Who sent it; nothing when that was not established.
        requester: Option<Protection>,
        /// Why.
        refusal: Refusal,
    },
    /// An answer could not be made; the exchange gets none.
    Failed {
        /// Which exchange.
        exchange: ExchangeId,
        /// Why.
        why: String,
    },
}

/// What the application decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Here is the certificate; it is stored already.
    Issue(Box<Issued>),
    /// No.
    Reject(StatusInfo),
    /// Not yet; the requester polls.
    Wait {
        /// After which time.
        check_after: Duration,
        /// Why.
        reason: Option<String>,
    },
    /// What became of a request for revocation.
    Revoked(RevRepContent),
    /// The information asked for.
    Answer(Vec<Info>),
}

impl Decision {
    pub(crate) fn wait() -> Self {
        Self::Wait {
            check_after: Duration::ZERO,
            reason: None,
        }
    }
}

/// A certificate that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub certificate: Certificate,
    /// [`Status::ACCEPTED`], or [`Status::GRANTED_WITH_MODS`] when it differs from what was asked for.
    pub status: Status,
    /// CA certificates to be trusted by a requester that asked with a secret (RFC 9483 §4.1.1).
    pub ca_pubs: Vec<Certificate>,
    /// Certificates between this one and the root.
    pub extra_certs: Vec<Certificate>,
    /// The private key, encrypted for the requester, when the CA generated it.
    pub private_key: Option<EncryptedKey>,
    /// Whether it may be confirmed implicitly, where that is asked for.
    pub implicit_confirm: bool,
}

impl Issued {
    /// A certificate just as it was asked for; it may be confirmed implicitly.
    pub fn new(certificate: Certificate) -> Self {
        Self {
            certificate,
            status: Status::ACCEPTED,
            ca_pubs: Vec::new(),
            extra_certs: Vec::new(),
            private_key: None,
            implicit_confirm: true,
        }
    }
}

/// There is no such transaction, or nothing to decide in it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no transaction that waits for a decision under this identifier")]
pub struct UnknownTransaction;
