//! What the door to the core lets through to the CA: the inventory, approvals, enrolment secrets.

use std::time::Duration;

use homefleet_api as api;
use homefleet_api::Role;
use zeroize::Zeroizing;

use super::access::{MAX_PAGE, page};
use super::{Access, CertificateAuthority, CoreError};
use crate::account::hex;
use crate::clock::Millis;
use crate::pki::{
    ApprovalError, NewSecret, Reason, RevokeError, SecretError, Serial, shown_reference,
};
use crate::store::Unmet;
use crate::store::pki::{
    ApprovalRecord, ApprovalState, CertificateQuery, CertificateRecord, CertificateState,
    SecretRecord, StateQuery,
};

/// Most requests for approval that are counted.
const COUNTED: usize = 1000;

/// Which certificates; every condition given has to hold.
#[derive(Debug, Clone, Default)]
pub struct CertificateSearch {
    /// Text in the subject; a serial number finds just that one.
    pub search: Option<String>,
    /// Endpoint ID.
    pub device: Option<String>,
    /// State.
    pub state: Option<api::CertificateState>,
    /// Name of a profile.
    pub profile: Option<String>,
    /// Only those that end within so many seconds, and have not ended.
    pub expiring_in: Option<u64>,
    /// Page size, 1 to 1000; 0 = 100.
    pub limit: usize,
    /// `next` of the page before.
    pub after: Option<String>,
}

impl Access {
    fn ca(&self) -> Result<&CertificateAuthority, CoreError> {
        let ca = self.core.inner().ca.get();
        ca.ok_or_else(|| CoreError::no("thing", "pki"))
    }

    /// The CA.
    pub async fn pki(&self) -> Result<api::Pki, CoreError> {
        self.check(Role::Viewer)?;
        let ca = self.ca()?;
        let own = ca.pki.chain().into_iter().next().unwrap_or_default();
        let parts = homefleet_cmp::asn1::Certificate::from_der(&own)
            .and_then(|certificate| homefleet_cmp::CertificateParts::read(&certificate))
            .map_err(|error| CoreError::Internal(error.to_string()))?;
        let counts = ca.pki.counts().await?;
        let pending = ca
            .pki
            .approvals(Some(ApprovalState::Pending), None, COUNTED);
        let pending = pending.await.map_err(approval_error)?.len();
        let profiles = ca.pki.profiles().iter();
        Ok(api::Pki {
            subject: crate::enrol::name_text(&parts.subject),
            not_after: Millis::from(parts.not_after.to_system_time()).to_timestamp(),
            fingerprint: fingerprint(&own),
            root_fingerprint: fingerprint(&ca.pki.root()),
            profiles: profiles.map(|profile| profile.name().to_owned()).collect(),
            addresses: ca.addresses.clone(),
            certificates: api::CertificateCounts {
                unconfirmed: counts.unconfirmed,
                valid: counts.valid,
                revoked: counts.revoked,
                expired: counts.expired,
            },
            pending_approvals: count(pending),
            transactions: count(ca.enrolment.transactions()),
        })
    }

    /// A page of certificates, newest first.
    pub async fn certificates(
        &self,
        search: CertificateSearch,
    ) -> Result<api::CertificatePage, CoreError> {
        self.check(Role::Viewer)?;
        let ca = self.ca()?;
        let limit = page(search.limit, 100, MAX_PAGE)?;
        let now = self.core.now();
        let before = match search.after.as_deref() {
            None => None,
            Some(after) => Some(after.parse().map_err(|_| {
                CoreError::bad(format!("`{after}` is no `next` of a page"), "after")
            })?),
        };
        // A whole serial number names one certificate; anything else is looked for in subjects.
        let serial = search.search.as_deref().filter(|text| text.len() >= 16);
        let serial = serial.and_then(|text| text.parse::<Serial>().ok());
        let mut found = ca
            .pki
            .find(CertificateQuery {
                subject: search.search.filter(|_| serial.is_none()),
                serial: serial.map(|serial| serial.as_bytes().to_vec()),
                device: search.device,
                state: search.state.map(state_query),
                expiring_before: search
                    .expiring_in
                    .map(|seconds| now.plus(Duration::from_secs(seconds))),
                profile: search.profile,
                now,
                before,
                limit: limit + 1,
            })
            .await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more);
        let next = next.map(|record| record.sequence.to_string());
        let certificates = found.iter().map(|record| to_api(record, now)).collect();
        Ok(api::CertificatePage { certificates, next })
    }

    /// A certificate.
    pub async fn certificate(&self, serial: &str) -> Result<api::IssuedCertificate, CoreError> {
        self.check(Role::Viewer)?;
        let record = self.find_certificate(serial).await?;
        let mut shown = to_api(&record, self.core.now());
        shown.pem = Some(pem(&record.der));
        Ok(shown)
    }

    async fn find_certificate(&self, text: &str) -> Result<CertificateRecord, CoreError> {
        let unknown = || CoreError::no("certificate", text);
        let serial: Serial = text.parse().map_err(|_| unknown())?;
        let found = self.ca()?.pki.certificate(&serial).await?;
        found.ok_or_else(unknown)
    }

    /// Revokes a certificate, puts it on hold, or takes it off hold.
    pub async fn revoke_certificate(
        &self,
        serial: &str,
        revoke: api::RevokeCertificate,
    ) -> Result<api::IssuedCertificate, CoreError> {
        self.check_write(Role::Operator, "certificate.revoke", serial)
            .await?;
        let unknown = || CoreError::no("certificate", serial);
        let number: Serial = serial.parse().map_err(|_| unknown())?;
        let reason = reason(revoke.reason);
        match self.ca()?.pki.revoke(&number, reason, &self.who()).await {
            Ok(()) => self.certificate(serial).await,
            Err(RevokeError::Unknown(_)) => Err(unknown()),
            Err(error @ (RevokeError::NotHeld(_) | RevokeError::Revoked(_))) => {
                Err(CoreError::Conflict(error.to_string()))
            }
            Err(RevokeError::Store(problem)) => Err(CoreError::Internal(problem)),
        }
    }

    /// A page of requests for approval, newest first.
    pub async fn approvals(
        &self,
        state: Option<api::ApprovalState>,
        after: Option<String>,
        limit: usize,
    ) -> Result<api::ApprovalPage, CoreError> {
        self.check(Role::Viewer)?;
        let limit = page(limit, 100, MAX_PAGE)?;
        let state = state.map(|state| match state {
            api::ApprovalState::Pending => ApprovalState::Pending,
            api::ApprovalState::Approved => ApprovalState::Approved,
            api::ApprovalState::Denied => ApprovalState::Denied,
            api::ApprovalState::Used => ApprovalState::Used,
        });
        let ca = self.ca()?;
        let found = ca.pki.approvals(state, after.as_deref(), limit + 1).await;
        let mut found = found.map_err(approval_error)?;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found
            .last()
            .filter(|_| more)
            .map(|approval| approval.id.clone());
        let approvals = found.iter().map(approval_to_api).collect();
        Ok(api::ApprovalPage { approvals, next })
    }

    /// A request for approval.
    pub async fn approval(&self, id: &str) -> Result<api::Approval, CoreError> {
        self.check(Role::Viewer)?;
        let found = self.ca()?.pki.approval(id).await.map_err(approval_error)?;
        let found = found.ok_or_else(|| CoreError::no("request", id))?;
        Ok(approval_to_api(&found))
    }

    /// Approves or denies a request.
    pub async fn decide_approval(
        &self,
        id: &str,
        decision: api::DecideApproval,
    ) -> Result<api::Approval, CoreError> {
        let action = if decision.approve {
            "approval.approve"
        } else {
            "approval.deny"
        };
        self.check_write(Role::Operator, action, id).await?;
        let reason = decision.reason.as_deref().map(str::trim);
        let reason = reason.filter(|reason| !reason.is_empty());
        if reason.is_some_and(|reason| reason.chars().any(char::is_control)) {
            return Err(CoreError::bad(
                "a reason has no control characters",
                "reason",
            ));
        }
        let decided = self
            .ca()?
            .pki
            .decide(id, decision.approve, &self.who(), reason)
            .await;
        match decided {
            Ok(()) => self.approval(id).await,
            Err(ApprovalError::Unmet(Unmet::Missing)) => Err(CoreError::no("request", id)),
            Err(error) => Err(approval_error(error)),
        }
    }

    /// A page of enrolment secrets, by reference.
    pub async fn enrolment_secrets(
        &self,
        device: Option<String>,
        after: Option<String>,
        limit: usize,
    ) -> Result<api::EnrolmentSecretPage, CoreError> {
        self.check(Role::Operator)?;
        let limit = page(limit, 100, MAX_PAGE)?;
        let after = after.map(|after| reference(&after));
        let ca = self.ca()?;
        let found = ca
            .pki
            .secrets(device.as_deref(), after.as_deref(), limit + 1);
        let mut found = found.await.map_err(secret_error)?;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more);
        let next = next.map(|secret| shown_reference(&secret.reference));
        let secrets = found.iter().map(secret_to_api).collect();
        Ok(api::EnrolmentSecretPage { secrets, next })
    }

    /// Keeps an enrolment secret.
    pub async fn add_enrolment_secret(
        &self,
        new: api::NewEnrolmentSecret,
    ) -> Result<api::CreatedEnrolmentSecret, CoreError> {
        let subject = new.reference.clone().or_else(|| new.device.clone());
        self.check_write(Role::Operator, "secret.add", &subject.unwrap_or_default())
            .await?;
        let expires = new.expires_in.map(Duration::from_secs);
        let created = self
            .ca()?
            .pki
            .add_secret(
                NewSecret {
                    reference: new.reference.as_deref().map(reference),
                    secret: new.secret.map(|secret| Zeroizing::new(secret.into_bytes())),
                    device: new.device,
                    profile: new.profile,
                    uses: match new.uses {
                        None => Some(1),
                        Some(0) => None,
                        uses => uses,
                    },
                    expires: expires.map(|after| self.core.now().plus(after)),
                },
                &self.who(),
            )
            .await
            .map_err(secret_error)?;
        Ok(api::CreatedEnrolmentSecret {
            reference: shown_reference(&created.reference),
            secret: String::from_utf8_lossy(&created.secret).into_owned(),
            device: created.device,
            expires: created.expires.map(Millis::to_timestamp),
        })
    }

    /// Removes an enrolment secret.
    pub async fn remove_enrolment_secret(&self, text: &str) -> Result<(), CoreError> {
        self.check_write(Role::Operator, "secret.remove", text)
            .await?;
        let pki = &self.ca()?.pki;
        match pki.remove_secret(&reference(text), &self.who()).await {
            Err(SecretError::Unmet(Unmet::Missing)) => Err(CoreError::no("secret", text)),
            removed => removed.map_err(secret_error),
        }
    }
}

/// A reference as [`shown_reference`] writes it.
fn reference(text: &str) -> Vec<u8> {
    let bytes = |hex: &str| {
        (hex.len().is_multiple_of(2) && hex.is_ascii()).then(|| {
            (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok())
                .collect::<Option<Vec<u8>>>()
        })
    };
    let hex = text.strip_prefix("0x").and_then(bytes).flatten();
    hex.unwrap_or_else(|| text.as_bytes().to_vec())
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn fingerprint(der: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    hex(&Sha256::digest(der))
}

fn pem(der: &[u8]) -> String {
    der::pem::encode_string("CERTIFICATE", der::pem::LineEnding::LF, der).unwrap_or_default()
}

fn state_query(state: api::CertificateState) -> StateQuery {
    match state {
        api::CertificateState::Unconfirmed => StateQuery::Unconfirmed,
        api::CertificateState::Valid => StateQuery::Valid,
        api::CertificateState::Revoked => StateQuery::Revoked,
        api::CertificateState::Expired => StateQuery::Expired,
    }
}

fn reason(reason: api::RevocationReason) -> Reason {
    match reason {
        api::RevocationReason::Unspecified => Reason::Unspecified,
        api::RevocationReason::KeyCompromise => Reason::KeyCompromise,
        api::RevocationReason::AffiliationChanged => Reason::AffiliationChanged,
        api::RevocationReason::Superseded => Reason::Superseded,
        api::RevocationReason::CessationOfOperation => Reason::CessationOfOperation,
        api::RevocationReason::CertificateHold => Reason::CertificateHold,
        api::RevocationReason::RemoveFromCrl => Reason::RemoveFromCrl,
        api::RevocationReason::PrivilegeWithdrawn => Reason::PrivilegeWithdrawn,
    }
}

fn to_api(record: &CertificateRecord, now: Millis) -> api::IssuedCertificate {
    api::IssuedCertificate {
        serial: hex(&record.serial),
        state: match record.state {
            CertificateState::Revoked => api::CertificateState::Revoked,
            _ if record.not_after <= now => api::CertificateState::Expired,
            CertificateState::Unconfirmed => api::CertificateState::Unconfirmed,
            CertificateState::Valid => api::CertificateState::Valid,
        },
        subject: record.subject.clone(),
        device: record.device.clone(),
        profile: record.profile.clone(),
        requester: record.requester.clone(),
        issued: record.issued.to_timestamp(),
        not_before: record.not_before.to_timestamp(),
        not_after: record.not_after.to_timestamp(),
        fingerprint: hex(&record.fingerprint),
        revocation: record
            .revocation
            .as_ref()
            .map(|revocation| api::Revocation {
                time: revocation.at.to_timestamp(),
                reason: Reason::from_code(revocation.reason).map_or_else(
                    || revocation.reason.to_string(),
                    |it| it.as_str().to_owned(),
                ),
                by: revocation.by.clone(),
            }),
        pem: None,
    }
}

fn approval_to_api(record: &ApprovalRecord) -> api::Approval {
    let decision = record.decision.as_ref();
    api::Approval {
        id: record.id.clone(),
        state: match record.state {
            ApprovalState::Pending => api::ApprovalState::Pending,
            ApprovalState::Approved => api::ApprovalState::Approved,
            ApprovalState::Denied => api::ApprovalState::Denied,
            ApprovalState::Used => api::ApprovalState::Used,
        },
        subject: record.subject.clone(),
        device: record.device.clone(),
        profile: record.profile.clone(),
        requester: record.requester.clone(),
        key: hex(&record.key),
        created: record.created.to_timestamp(),
        expires: record.expires.to_timestamp(),
        decided_by: decision.map(|decision| decision.by.clone()),
        decided: decision.map(|decision| decision.at.to_timestamp()),
        reason: decision.and_then(|decision| decision.reason.clone()),
        serial: record.serial.as_deref().map(hex),
    }
}

fn secret_to_api(record: &SecretRecord) -> api::EnrolmentSecret {
    api::EnrolmentSecret {
        reference: shown_reference(&record.reference),
        device: record.device.clone(),
        profile: record.profile.clone(),
        uses: record.uses,
        used: record.used,
        created: record.created.to_timestamp(),
        created_by: record.created_by.clone(),
        expires: record.expires.map(Millis::to_timestamp),
    }
}

fn approval_error(error: ApprovalError) -> CoreError {
    match error {
        ApprovalError::Unmet(_) => CoreError::Conflict(error.to_string()),
        ApprovalError::Length { .. } => CoreError::bad(error.to_string(), "reason"),
        ApprovalError::Random(problem) | ApprovalError::Store(problem) => {
            CoreError::Internal(problem)
        }
    }
}

fn secret_error(error: SecretError) -> CoreError {
    match error {
        SecretError::Reference { .. } => CoreError::bad(error.to_string(), "reference"),
        SecretError::Length { .. } => CoreError::bad(error.to_string(), "secret"),
        SecretError::Useless => CoreError::bad(error.to_string(), "uses"),
        SecretError::Profile(_) => CoreError::bad(error.to_string(), "profile"),
        SecretError::Unmet(_) => CoreError::Conflict(error.to_string()),
        SecretError::Sealed => CoreError::Conflict(error.to_string()),
        SecretError::Random(problem) | SecretError::Store(problem) => CoreError::Internal(problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_as_it_is_shown() {
        for bytes in [&b"device-1"[..], b"0xzz", &[0, 255, 10]] {
            assert_eq!(reference(&shown_reference(bytes)), bytes);
        }
        assert_eq!(reference("0xabc"), b"0xabc");
    }
}
