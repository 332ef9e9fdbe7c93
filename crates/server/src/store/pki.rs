//! What the CA keeps: certificates, enrolment secrets, requests that wait for an operator, and documents of its own.
//!
//! Some writes are conditions at the same time, decided in the store's one writer: a secret with a last use left is spent
//! once, however many ask at the same moment. A condition that does not hold fails its whole batch with
//! [`StoreError::Condition`](super::StoreError::Condition).

use serde::{Deserialize, Serialize};

use super::Answer;
use crate::clock::Millis;

/// Reads about what the CA keeps.
pub trait Certificates {
    /// One certificate by its serial number.
    fn certificate(&self, serial: &[u8]) -> Answer<Option<CertificateRecord>>;

    /// Certificates before `query.before`, newest first.
    fn certificates(&self, query: CertificateQuery) -> Answer<Vec<CertificateRecord>>;

    /// How many certificates there are in each state, at a time.
    fn certificate_counts(&self, now: Millis) -> Answer<CertificateCounts>;

    /// Revoked certificates of an issuer that end after a time: (serial number, revocation), by serial number.
    fn revoked(&self, issuer: &[u8], end_after: Millis) -> Answer<Vec<(Vec<u8>, Revocation)>>;

    /// How many enrolment secrets there are.
    fn secret_count(&self) -> Answer<u64>;

    /// One enrolment secret.
    fn secret(&self, reference: &[u8]) -> Answer<Option<SecretRecord>>;

    /// Enrolment secrets after `after`, by reference.
    fn secrets(
        &self,
        device: Option<&str>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Answer<Vec<SecretRecord>>;

    /// One request for approval.
    fn approval(&self, id: &str) -> Answer<Option<ApprovalRecord>>;

    /// Requests for approval before `before`, newest first.
    fn approvals(
        &self,
        state: Option<ApprovalState>,
        before: Option<&str>,
        limit: usize,
    ) -> Answer<Vec<ApprovalRecord>>;

    /// A document of the CA's own.
    fn pki_document(&self, name: &str) -> Answer<Option<Vec<u8>>>;
}

/// One write of what the CA keeps.
#[derive(Debug, Clone)]
pub enum PkiWrite {
    /// Inserts a certificate; `sequence` is assigned by the store. Its serial number must be new.
    Issue(Box<CertificateRecord>),
    /// Changes nothing. Condition: the certificate is valid.
    RequireValid {
        /// Serial number.
        serial: Vec<u8>,
    },
    /// Makes an unconfirmed certificate valid. Condition: it is unconfirmed.
    Confirm {
        /// Serial number.
        serial: Vec<u8>,
    },
    /// Revokes a certificate, or changes the reason of one on hold. Condition: it is not revoked, or on hold. A use of
    /// a secret by a certificate that was never confirmed is given back.
    Revoke {
        /// Serial number.
        serial: Vec<u8>,
        /// When, why, by whom.
        revocation: Revocation,
    },
    /// Makes a certificate on hold valid again. Condition: it is on hold.
    Release {
        /// Serial number.
        serial: Vec<u8>,
    },
    /// Revokes every unconfirmed certificate of an issuer that was issued before a time.
    RevokeUnconfirmed {
        /// Key identifier of the issuer.
        issuer: Vec<u8>,
        /// Issued before.
        before: Millis,
        /// When, why, by whom.
        revocation: Revocation,
    },
    /// Inserts an enrolment secret. Condition: its reference is new.
    AddSecret(Box<SecretRecord>),
    /// Takes one use of a secret. Condition: it is there, not expired, and has a use left. The use of a certificate that was
    /// not confirmed counts as left: that certificate is revoked as superseded.
    SpendSecret {
        /// Reference.
        reference: Vec<u8>,
        /// The device that the certificate is for; a secret for a device is for no other.
        device: Option<String>,
        /// The profile of the certificate; a secret for a profile is for no other.
        profile: String,
        /// Now.
        now: Millis,
    },
    /// Removes an enrolment secret.
    RemoveSecret(Vec<u8>),
    /// Inserts a request for approval. Condition: its identifier is new, and less than `most` wait.
    AddApproval {
        /// The request.
        approval: Box<ApprovalRecord>,
        /// Most that wait.
        most: u64,
    },
    /// Decides about a request. Condition: it waits and has not expired.
    Decide {
        /// Identifier.
        id: String,
        /// The decision.
        decision: Decision,
    },
    /// Marks an approved request as used for a certificate. Condition: it is approved, for this key, and was not used.
    UseApproval {
        /// Identifier.
        id: String,
        /// SHA-256 of the public key (SubjectPublicKeyInfo).
        key: [u8; 32],
        /// Serial number of the certificate.
        serial: Vec<u8>,
    },
    /// Removes secrets that expired, and requests that expired or were decided, before a time.
    Prune {
        /// Before.
        before: Millis,
    },
    /// Inserts or replaces a document.
    Document {
        /// Name.
        name: String,
        /// Value.
        value: Vec<u8>,
    },
}

/// State of a certificate as stored; that it has expired follows from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateState {
    /// Issued, not confirmed by its owner.
    Unconfirmed,
    /// In use.
    Valid,
    /// Revoked, or on hold.
    Revoked,
}

/// An issued certificate as stored.
#[derive(Clone, PartialEq, Eq)]
pub struct CertificateRecord {
    /// Position, for paging.
    pub sequence: u64,
    /// Contents of the serial number's INTEGER.
    pub serial: Vec<u8>,
    /// Key identifier of the CA that issued it.
    pub issuer: Vec<u8>,
    /// State.
    pub state: CertificateState,
    /// Revocation, when revoked.
    pub revocation: Option<Revocation>,
    /// Name of its profile.
    pub profile: String,
    /// Subject as text (RFC 4514).
    pub subject: String,
    /// Endpoint ID, or whatever names the device.
    pub device: Option<String>,
    /// Who asked for it.
    pub requester: String,
    /// Reference of the secret that it was issued by.
    pub secret: Option<Vec<u8>>,
    /// Issued.
    pub issued: Millis,
    /// Start of validity.
    pub not_before: Millis,
    /// End of validity.
    pub not_after: Millis,
    /// SHA-256 of the DER.
    pub fingerprint: [u8; 32],
    /// The certificate.
    pub der: Vec<u8>,
}

impl std::fmt::Debug for CertificateRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateRecord")
            .field("serial", &crate::account::hex(&self.serial))
            .field("subject", &self.subject)
            .field("state", &self.state)
            .field("revocation", &self.revocation)
            .finish_non_exhaustive()
    }
}

/// Why and when a certificate was revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// CRLReason (RFC 5280 §5.3.1).
    pub reason: u8,
    /// When.
    pub at: Millis,
    /// By whom.
    pub by: String,
}

/// What is wanted of the inventory; every condition given has to hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CertificateQuery {
    /// Exactly this serial number.
    pub serial: Option<Vec<u8>>,
    /// This text somewhere in the subject, in any case of ASCII letters.
    pub subject: Option<String>,
    /// Exactly this device.
    pub device: Option<String>,
    /// In this state, and, unless revoked, not expired at `now`.
    pub state: Option<StateQuery>,
    /// Ends before, and has not ended at `now`.
    pub expiring_before: Option<Millis>,
    /// Of this profile.
    pub profile: Option<String>,
    /// Time that expiry is judged at.
    pub now: Millis,
    /// Only those with a smaller [`CertificateRecord::sequence`].
    pub before: Option<u64>,
    /// Most answers.
    pub limit: usize,
}

/// States as they are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateQuery {
    /// Not confirmed yet.
    Unconfirmed,
    /// In use and not expired.
    Valid,
    /// Revoked or on hold.
    Revoked,
    /// Expired, and never revoked.
    Expired,
}

/// How many certificates there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CertificateCounts {
    /// Not confirmed yet.
    pub unconfirmed: u64,
    /// In use and not expired.
    pub valid: u64,
    /// Revoked or on hold.
    pub revoked: u64,
    /// Expired, and never revoked.
    pub expired: u64,
}

/// An enrolment secret as stored: sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRecord {
    /// What names it in messages (`senderKID`).
    pub reference: Vec<u8>,
    /// The secret, encrypted under a key that the store does not have.
    pub sealed: Vec<u8>,
    /// Endpoint ID of the device it is for.
    pub device: Option<String>,
    /// The profile it is for.
    pub profile: Option<String>,
    /// How often it may be used; `None` = without limit.
    pub uses: Option<u32>,
    /// How often it was used.
    pub used: u32,
    /// Made.
    pub created: Millis,
    /// By whom.
    pub created_by: String,
    /// Expires.
    pub expires: Option<Millis>,
}

/// State of a request for approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// Waits for an operator.
    Pending,
    /// Approved.
    Approved,
    /// Denied.
    Denied,
    /// Approved, and the certificate was issued.
    Used,
}

/// A request for approval as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRecord {
    /// Identifier; sorts by time.
    pub id: String,
    /// State.
    pub state: ApprovalState,
    /// Name of the profile.
    pub profile: String,
    /// Subject as text.
    pub subject: String,
    /// Endpoint ID, or whatever names the device.
    pub device: Option<String>,
    /// Who asks.
    pub requester: String,
    /// SHA-256 of the public key (SubjectPublicKeyInfo).
    pub key: [u8; 32],
    /// Whatever is needed to go on after a restart; its meaning is the requester's.
    pub request: Vec<u8>,
    /// Asked.
    pub created: Millis,
    /// When nobody waits any more.
    pub expires: Millis,
    /// The decision.
    pub decision: Option<Decision>,
    /// Serial number of the certificate issued.
    pub serial: Option<Vec<u8>>,
}

/// What an operator decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Approved.
    pub approved: bool,
    /// By whom.
    pub by: String,
    /// When.
    pub at: Millis,
    /// Why.
    pub reason: Option<String>,
}
