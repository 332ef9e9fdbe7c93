//! Certificates that the server's CA issues to devices: the inventory, requests that wait for an operator, and enrolment secrets.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// What the CA is, and how much there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pki {
    /// Subject of the issuing CA, as RFC 4514 text.
    pub subject: String,
    /// End of its own certificate.
    pub not_after: Timestamp,
    /// SHA-256 of its certificate, in hexadecimal.
    pub fingerprint: String,
    /// SHA-256 of the root's certificate, in hexadecimal: what devices have to trust.
    pub root_fingerprint: String,
    /// Names of its profiles, the default one first.
    pub profiles: Vec<String>,
    /// Where devices ask for certificates.
    pub addresses: Vec<String>,
    /// Certificates in each state.
    pub certificates: CertificateCounts,
    /// Requests that wait for an operator.
    pub pending_approvals: u64,
    /// Transactions under way.
    pub transactions: u64,
}

/// How many certificates there are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateCounts {
    /// Issued, not yet confirmed by their owners.
    pub unconfirmed: u64,
    /// In use.
    pub valid: u64,
    /// Revoked, or on hold.
    pub revoked: u64,
    /// Expired, and never revoked.
    pub expired: u64,
}

/// State of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CertificateState {
    /// Issued, not yet confirmed by its owner.
    Unconfirmed,
    /// In use.
    Valid,
    /// Revoked, or on hold.
    Revoked,
    /// Expired, and never revoked.
    Expired,
}

/// Why a certificate is revoked (RFC 5280 §5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationReason {
    /// No particular one.
    Unspecified,
    /// The private key is known to others.
    KeyCompromise,
    /// The owner's affiliation changed.
    AffiliationChanged,
    /// Another certificate took its place.
    Superseded,
    /// It is no longer needed.
    CessationOfOperation,
    /// On hold: it may come back.
    CertificateHold,
    /// Off hold again.
    RemoveFromCrl,
    /// The owner may no longer do what the certificate says.
    PrivilegeWithdrawn,
}

/// State of a request for approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// Waits for an operator.
    Pending,
    /// Approved: the device gets its certificate when it asks again.
    Approved,
    /// Denied.
    Denied,
    /// Approved, and the certificate was issued.
    Used,
}

macro_rules! words {
    ($($type:ident: $($variant:ident = $word:literal),*;)*) => {$(
        impl $type {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(UnknownWord {
                        found: text.to_owned(),
                        expected: Self::ALL.iter().map(|it| it.as_str()).collect::<Vec<_>>().join(", "),
                    }),
                }
            }
        }
    )*};
}

words! {
    CertificateState: Unconfirmed = "unconfirmed", Valid = "valid", Revoked = "revoked", Expired = "expired";
    RevocationReason: Unspecified = "unspecified", KeyCompromise = "key-compromise", AffiliationChanged = "affiliation-changed",
        Superseded = "superseded", CessationOfOperation = "cessation-of-operation", CertificateHold = "certificate-hold",
        RemoveFromCrl = "remove-from-crl", PrivilegeWithdrawn = "privilege-withdrawn";
    ApprovalState: Pending = "pending", Approved = "approved", Denied = "denied", Used = "used";
}

/// A text that is none of the words expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown word `{found}`, expected one of {expected}")]
pub struct UnknownWord {
    /// What was found.
    pub found: String,
    /// What was expected.
    pub expected: String,
}

/// A certificate that the CA issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IssuedCertificate {
    /// Serial number, in hexadecimal.
    pub serial: String,
    /// State.
    pub state: CertificateState,
    /// Subject, as RFC 4514 text.
    pub subject: String,
    /// Endpoint ID of the device that it is for, or whatever else names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Profile that it was issued by.
    pub profile: String,
    /// Who asked for it.
    pub requester: String,
    /// When it was issued.
    pub issued: Timestamp,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
    /// Revocation, when it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<Revocation>,
    /// The certificate, PEM; only when one is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pem: Option<String>,
}

/// When, why and by whom a certificate was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revocation {
    /// When.
    pub time: Timestamp,
    /// Why, as RFC 5280 names it: `key-compromise`.
    pub reason: String,
    /// By whom.
    pub by: String,
}

/// A page of certificates, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificatePage {
    /// Certificates.
    pub certificates: Vec<IssuedCertificate>,
    /// `after` of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeCertificate {
    /// Why.
    pub reason: RevocationReason,
}

/// A request that waits for an operator, or did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Approval {
    /// Identifier.
    pub id: String,
    /// State.
    pub state: ApprovalState,
    /// Subject that is asked for, as RFC 4514 text.
    pub subject: String,
    /// Endpoint ID of the device that asks, as far as it says or is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Profile that is asked for.
    pub profile: String,
    /// Who asks, and from where.
    pub requester: String,
    /// SHA-256 of the public key, in hexadecimal: compare it with what the device shows.
    pub key: String,
    /// When it was asked.
    pub created: Timestamp,
    /// When nobody waits any more.
    pub expires: Timestamp,
    /// By whom it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// When it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided: Option<Timestamp>,
    /// Why it was decided so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Serial number of the certificate that was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
}

/// A page of requests, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalPage {
    /// Requests.
    pub approvals: Vec<Approval>,
    /// `after` of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A decision about a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideApproval {
    /// Whether the device gets its certificate.
    pub approve: bool,
    /// Why; the device is told when it is denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An enrolment secret to be kept: whoever knows it may ask for a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewEnrolmentSecret {
    /// What names it in messages; absent = the device, or else a random one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The secret; absent = a random one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Endpoint ID of the device that it is for; absent = whichever knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Profile that it is for; absent = any that admits secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// How often it may be used; absent = once; 0 = without limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
    /// Seconds until it expires; absent = never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
}

/// An enrolment secret as listed: never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnrolmentSecret {
    /// What names it; `0x…` in hexadecimal where it is no text.
    pub reference: String,
    /// Endpoint ID of the device that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Profile that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// How often it may be used; absent = without limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
    /// How often it was used.
    pub used: u32,
    /// When it was made.
    pub created: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// A new enrolment secret, which is shown once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedEnrolmentSecret {
    /// What names it.
    pub reference: String,
    /// The secret.
    pub secret: String,
    /// Endpoint ID of the device that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// When it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

impl std::fmt::Debug for CreatedEnrolmentSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CreatedEnrolmentSecret({})", self.reference)
    }
}

/// A page of enrolment secrets, by reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnrolmentSecretPage {
    /// Secrets, without what is secret.
    pub secrets: Vec<EnrolmentSecret>,
    /// `after` of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn words_are_the_same_as_text_and_in_json() {
        for reason in RevocationReason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(*reason));
            assert_eq!(
                serde_json::to_string(reason).unwrap(),
                format!("\"{reason}\"")
            );
        }
        for state in CertificateState::ALL {
            assert_eq!(
                serde_json::to_string(state).unwrap(),
                format!("\"{state}\"")
            );
        }
        for state in ApprovalState::ALL {
            assert_eq!(
                serde_json::to_string(state).unwrap(),
                format!("\"{state}\"")
            );
        }
        assert!("stolen".parse::<RevocationReason>().is_err());
    }

    #[test]
    fn a_new_secret_is_not_shown_by_accident() {
        let created = CreatedEnrolmentSecret {
            reference: "device".to_owned(),
            secret: "hush".to_owned(),
            device: None,
            expires: None,
        };
        assert!(!format!("{created:?}").contains("hush"));
    }
}
