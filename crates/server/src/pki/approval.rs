//! Requests that wait for an operator. They are in the store, so they wait over restarts of the server too.

use std::sync::PoisonError;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::broadcast;

use super::error::ApprovalError;
use super::{Pki, audit};
use crate::store::pki::{ApprovalRecord, ApprovalState, Decision, PkiWrite};
use crate::store::{Batch, StoreError, Write};

/// Longest request kept, in bytes.
pub const MAX_REQUEST: usize = 16 * 1024;
/// Longest reason kept, in bytes.
const MAX_REASON: usize = 1024;

/// A request for approval.
#[derive(Debug, Clone)]
pub struct NewApproval {
    /// Name of the profile.
    pub profile: String,
    /// Subject as text.
    pub subject: String,
    /// Endpoint ID, or whatever names the device.
    pub device: Option<String>,
    /// Who asks.
    pub requester: String,
    /// The key: SubjectPublicKeyInfo in DER. The approval is for this key only.
    pub public_key: Vec<u8>,
    /// Whatever is needed to go on after a restart.
    pub request: Vec<u8>,
}

/// A CA elsewhere has answered a request that was passed on to it.
#[derive(Debug, Clone)]
pub struct Relayed {
    /// The approval that is used up, with SHA-256 of what it was for.
    pub approval: Option<(String, [u8; 32])>,
    /// Reference of the secret of which one use is over.
    pub secret: Option<Vec<u8>>,
    /// The label of the CA.
    pub label: String,
    /// Who asked.
    pub who: String,
}

/// A request was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// Its identifier.
    pub id: String,
    /// What was decided.
    pub decision: Decision,
}

impl Pki {
    /// Keeps a request until an operator decides, and at most for the configured time.
    ///
    /// # Errors
    /// [`ApprovalError`].
    pub async fn add_approval(&self, new: NewApproval) -> Result<ApprovalRecord, ApprovalError> {
        if new.request.len() > MAX_REQUEST {
            return Err(ApprovalError::Length {
                found: new.request.len(),
                most: MAX_REQUEST,
            });
        }
        let now = self.0.clock.now();
        let mut random = [0; 10];
        getrandom::fill(&mut random).map_err(|error| ApprovalError::Random(error.to_string()))?;
        let id = {
            let mut ids = self.0.ids.lock().unwrap_or_else(PoisonError::into_inner);
            ids.next(now, random)
        };
        let record = ApprovalRecord {
            id,
            state: ApprovalState::Pending,
            profile: new.profile,
            subject: new.subject,
            device: new.device,
            requester: new.requester,
            key: Sha256::digest(&new.public_key).into(),
            request: new.request,
            created: now,
            expires: now.plus(Duration::from_secs(self.0.settings.approval_lifetime)),
            decision: None,
            serial: None,
        };
        let batch = Batch::one(Write::Pki(PkiWrite::AddApproval {
            approval: Box::new(record.clone()),
            most: self.0.settings.max_approvals,
        }));
        self.0.store.write(batch).await.map_err(failed)?;
        Ok(record)
    }

    /// One request.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn approval(&self, id: &str) -> Result<Option<ApprovalRecord>, ApprovalError> {
        self.0.store.approval(id).await.map_err(failed)
    }

    /// Requests before `before`, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn approvals(
        &self,
        state: Option<ApprovalState>,
        before: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ApprovalRecord>, ApprovalError> {
        let found = self.0.store.approvals(state, before, limit).await;
        found.map_err(failed)
    }

    /// Decides about a request; who listens to [`Pki::decisions`] is told.
    ///
    /// # Errors
    /// When there is none, it was decided already, it has expired, or the store fails.
    pub async fn decide(
        &self,
        id: &str,
        approved: bool,
        by: &str,
        reason: Option<&str>,
    ) -> Result<(), ApprovalError> {
        if let Some(reason) = reason
            && reason.len() > MAX_REASON
        {
            return Err(ApprovalError::Length {
                found: reason.len(),
                most: MAX_REASON,
            });
        }
        let decision = Decision {
            approved,
            by: by.to_owned(),
            at: self.0.clock.now(),
            reason: reason.map(str::to_owned),
        };
        let action = if approved {
            "approval.approve"
        } else {
            "approval.deny"
        };
        let batch = Batch(vec![
            Write::Pki(PkiWrite::Decide {
                id: id.to_owned(),
                decision: decision.clone(),
            }),
            audit(
                decision.at,
                by,
                action,
                id,
                reason.unwrap_or_default(),
                true,
            ),
        ]);
        self.0.store.write(batch).await.map_err(failed)?;
        // Nobody may be listening.
        drop(self.0.decisions.send(Decided {
            id: id.to_owned(),
            decision,
        }));
        Ok(())
    }

    /// Notes that a CA elsewhere has answered a request, and what that used up: on disk before the answer is handed on.
    ///
    /// # Errors
    /// When the approval or the secret was used up meanwhile, or the store fails.
    pub async fn relayed(&self, relayed: Relayed) -> Result<(), ApprovalError> {
        let now = self.0.clock.now();
        let mut batch = Batch::default();
        if let Some(reference) = relayed.secret {
            let found = self.0.store.secret(&reference).await.map_err(failed)?;
            batch.push(Write::Pki(PkiWrite::SpendSecret {
                reference,
                device: found.and_then(|secret| secret.device),
                profile: relayed.label.clone(),
                now,
            }));
        }
        let mut detail = String::new();
        if let Some((id, key)) = relayed.approval {
            detail = format!("approval {id}");
            batch.push(Write::Pki(PkiWrite::UseApproval {
                id,
                key,
                serial: Vec::new(),
            }));
        }
        let (who, label) = (&relayed.who, &relayed.label);
        batch.push(audit(now, who, "cmp.relay", label, &detail, true));
        self.0.store.write(batch).await.map(drop).map_err(failed)
    }

    /// Decisions from now on. Who falls behind asks the store.
    pub fn decisions(&self) -> broadcast::Receiver<Decided> {
        self.0.decisions.subscribe()
    }
}

fn failed(error: StoreError) -> ApprovalError {
    match error {
        StoreError::Condition { problem, .. } => ApprovalError::Unmet(problem),
        other => ApprovalError::Store(other.to_string()),
    }
}
