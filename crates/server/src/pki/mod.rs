//! The CA: keys, profiles, certificates, what was revoked, and who may enrol. It knows neither HTTP nor CMP's messages.
//!
//! ```text
//!   Order ──► Profile: who may ask, which key, which names ──► signature ──► store ──► IssuedCertificate
//!                                                                             │
//!   confirm, revoke ─────────────────────────────────────────────────────────►┤
//!   lists, OCSP, inventory ◄──────────────────────────────────────────────────┘
//! ```
//!
//! What is issued is on disk before anybody sees it, together with what it used up (a secret, an approval) and its line in the
//! audit log: one batch, all or nothing. Certificates that nobody confirmed before a restart are revoked at the start.
//!
//! - [`Profile`]: what is issued to whom; [`Order`]: what is asked for,
//! - `authority`, `key`, `setup`: the issuing CA and its key, in a file or a PKCS#11 token,
//! - `rollover`: a new root in place of the old one,
//! - `secret`, `approval`: who may enrol; `vault`: how secrets are stored,
//! - `crl`, `ocsp`: what was revoked.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use sha2::{Digest as _, Sha256};
use tokio::sync::broadcast;
use zeroize::Zeroizing;

use self::authority::Authority;
pub(crate) use self::vault::Vault;
use crate::clock::{Clock, Millis};
use crate::store::pki::{
    CertificateCounts, CertificateQuery, CertificateRecord, CertificateState, PkiWrite, Revocation,
};
use crate::store::{AuditRecord, Batch, Store, StoreError, Unmet, Write};
use crate::task::id::IdSource;

mod approval;
mod asn1;
mod authority;
mod certificate;
mod crl;
mod error;
mod issue;
mod key;
mod name;
mod ocsp;
mod order;
mod profile;
mod reason;
mod rollover;
mod secret;
mod serial;
mod service;
mod setup;
mod vault;

pub use approval::{Decided, MAX_REQUEST, NewApproval, Relayed};
pub use error::{
    ApprovalError, ConfirmError, IssueError, KeyRefusal, PkiError, RevokeError, SecretError,
};
pub use key::{CaKeyKind, TokenPlace};
pub use name::{AltName, TemplateError};
pub use ocsp::MAX_OCSP_REQUEST;
pub use order::{Authorisation, Initial, IssuedCertificate, Order, Requested};
pub use profile::{Choice, KeyClass, Profile, ProfileError, Who};
pub use reason::{Reason, ReasonError};
pub use rollover::{Begin, Hierarchy, Rollover, Stage, begin, retire, switch};
pub use secret::{
    EnrolmentSecret, MAX_REFERENCE, MAX_SECRET, MIN_SECRET, NewSecret, shown as shown_reference,
};
pub use serial::{Serial, SerialError};
pub use service::Credential;
pub use setup::{CaShape, Import, ImportedKey, Init, Shown, hierarchy, import, init, show};

/// Decisions that who listens may fall behind.
const DECISIONS: usize = 1024;

/// What the CA is made from.
#[derive(Clone)]
pub struct PkiConfig {
    /// Directory of its keys and certificates.
    pub directory: PathBuf,
    /// Passphrase of the key files.
    pub passphrase: Option<Zeroizing<String>>,
    /// PIN of the PKCS#11 token.
    pub pin: Option<Zeroizing<String>>,
    /// Profiles, the default one first.
    pub profiles: Vec<Profile>,
    /// The section of the configuration.
    pub settings: crate::config::Pki,
}

impl std::fmt::Debug for PkiConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PkiConfig")
            .field("directory", &self.directory)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// A CA that runs. Clones are the same one.
#[derive(Clone)]
pub struct Pki(Arc<Inner>);

struct Inner {
    directory: PathBuf,
    authority: RwLock<Arc<Authority>>,
    profiles: Vec<Profile>,
    settings: crate::config::Pki,
    store: Arc<dyn Store>,
    clock: Clock,
    vault: Vault,
    crl: crl::Lists,
    services: service::Services,
    decisions: broadcast::Sender<Decided>,
    ids: Mutex<IdSource>,
    /// How many enrolment secrets there are.
    secrets: AtomicU64,
}

impl Inner {
    fn authority(&self) -> Arc<Authority> {
        let authority = self.authority.read();
        Arc::clone(&authority.unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let authority = self.0.authority();
        let subject = authority.certificate.tbs_certificate().subject();
        write!(f, "Pki({subject})")
    }
}

impl Pki {
    /// Opens the CA in the directory, and revokes what was never confirmed.
    ///
    /// # Errors
    /// [`PkiError`].
    pub async fn open(
        config: &PkiConfig,
        store: Arc<dyn Store>,
        clock: Clock,
    ) -> Result<Self, PkiError> {
        let opened = {
            let config = config.clone();
            // Deriving keys from the passphrase takes its time.
            tokio::task::spawn_blocking(move || setup::open(&config))
                .await
                .map_err(|error| PkiError::Key(error.to_string()))??
        };
        let now = clock.now();
        let issuer = opened.authority.key_id.clone();
        let unconfirmed = Write::Pki(PkiWrite::RevokeUnconfirmed {
            issuer,
            before: now.plus(std::time::Duration::from_millis(1)),
            revocation: Revocation {
                reason: Reason::CessationOfOperation.code(),
                at: now,
                by: "not confirmed before a restart".to_owned(),
            },
        });
        let written = store.write(Batch::one(unconfirmed)).await?;
        if written.revoked > 0 {
            tracing::info!(
                count = written.revoked,
                "certificates that were never confirmed are revoked"
            );
        }
        let mut ids = IdSource::default();
        if let Some(last) = store.approvals(None, None, 1).await?.first() {
            ids.after(&last.id);
        }
        let secrets = store.secret_count().await?;
        let services = service::Services::default();
        let pki = Self(Arc::new(Inner {
            directory: config.directory.clone(),
            authority: RwLock::new(Arc::new(opened.authority)),
            profiles: config.profiles.clone(),
            settings: config.settings.clone(),
            store,
            clock,
            vault: opened.vault,
            crl: crl::Lists::default(),
            services,
            decisions: broadcast::Sender::new(DECISIONS),
            ids: Mutex::new(ids),
            secrets: AtomicU64::new(secrets),
        }));
        pki.load_services().await?;
        pki.load_crl().await?;
        Ok(pki)
    }

    /// What is to be done from time to time, such as every minute: a new list of revoked certificates when one is due, new
    /// certificates of the CA's own services, and forgetting what has expired.
    ///
    /// # Errors
    /// When the store fails; it is tried again the next time.
    pub async fn upkeep(&self) -> Result<(), PkiError> {
        self.load_services().await?;
        self.crl().await?;
        let week = std::time::Duration::from_secs(7 * 86_400);
        let before = Millis(self.0.clock.now().0.saturating_sub(week.as_millis() as u64));
        let prune = Batch::one(Write::Pki(PkiWrite::Prune { before }));
        self.0.store.write(prune).await?;
        let secrets = self.0.store.secret_count().await?;
        self.0.secrets.store(secrets, Ordering::Relaxed);
        Ok(())
    }

    /// A profile by its name, which is a URI label or a `certProfile`; `None` = the default one.
    pub fn profile(&self, name: Option<&str>) -> Option<&Profile> {
        match name {
            Some(name) => self
                .0
                .profiles
                .iter()
                .find(|profile| profile.name() == name),
            None => self.0.profiles.first(),
        }
    }

    /// All profiles, the default one first.
    pub fn profiles(&self) -> &[Profile] {
        &self.0.profiles
    }

    /// The issuing CA's certificate first, then those above it; the root is not among them, unless it issues itself.
    pub fn chain(&self) -> Vec<Vec<u8>> {
        let authority = self.0.authority();
        let chain = &authority.hierarchy.chain;
        match chain.len() {
            0 | 1 => chain.clone(),
            more => chain[..more - 1].to_vec(),
        }
    }

    /// The root's certificate, the last one of the chain.
    pub fn root(&self) -> Vec<u8> {
        let authority = self.0.authority();
        // A CA has at least its own certificate.
        let root = authority.hierarchy.chain.last();
        root.cloned().unwrap_or_default()
    }

    /// Whom the CA leads to now.
    pub fn hierarchy(&self) -> Hierarchy {
        self.0.authority().hierarchy.clone()
    }

    /// Takes over what has happened to the roots in the CA's directory. Whether something has.
    ///
    /// # Errors
    /// When what is there cannot be used; everything stays as it was then.
    pub fn reload_roots(&self) -> Result<bool, PkiError> {
        let hierarchy = setup::hierarchy(&self.0.directory)?;
        let current = self.0.authority();
        if current.hierarchy == hierarchy {
            return Ok(false);
        }
        let path = self.0.directory.join(setup::CHAIN);
        let authority = Arc::new(current.under(&path, hierarchy)?);
        *self
            .0
            .authority
            .write()
            .unwrap_or_else(PoisonError::into_inner) = authority;
        Ok(true)
    }

    /// Confirms a certificate. One that is confirmed stays so.
    ///
    /// # Errors
    /// [`ConfirmError`].
    pub async fn confirm(&self, serial: &Serial) -> Result<(), ConfirmError> {
        let batch = Batch::one(Write::Pki(PkiWrite::Confirm {
            serial: serial.as_bytes().to_vec(),
        }));
        match self.0.store.write(batch).await {
            Ok(_) => Ok(()),
            Err(StoreError::Condition { .. }) => {
                let found = self.0.store.certificate(serial.as_bytes()).await;
                let found = found.map_err(|error| ConfirmError::Store(error.to_string()))?;
                match found.map(|record| record.state) {
                    Some(CertificateState::Valid) => Ok(()),
                    Some(_) => Err(ConfirmError::Revoked(serial.clone())),
                    None => Err(ConfirmError::Unknown(serial.clone())),
                }
            }
            Err(error) => Err(ConfirmError::Store(error.to_string())),
        }
    }

    /// Revokes a certificate, or with [`Reason::RemoveFromCrl`] makes one that is on hold valid again. One that is revoked for this
    /// reason stays so; one on hold may be revoked for good.
    ///
    /// # Errors
    /// [`RevokeError`].
    pub async fn revoke(
        &self,
        serial: &Serial,
        reason: Reason,
        by: &str,
    ) -> Result<(), RevokeError> {
        let now = self.0.clock.now();
        let bytes = serial.as_bytes().to_vec();
        let write = match reason {
            Reason::RemoveFromCrl => PkiWrite::Release { serial: bytes },
            _ => PkiWrite::Revoke {
                serial: bytes,
                revocation: Revocation {
                    reason: reason.code(),
                    at: now,
                    by: by.to_owned(),
                },
            },
        };
        let subject = serial.to_string();
        let batch = Batch(vec![
            Write::Pki(write),
            audit(
                now,
                by,
                "certificate.revoke",
                &subject,
                reason.as_str(),
                true,
            ),
        ]);
        match self.0.store.write(batch).await {
            Ok(_) => {
                self.0.crl.changed();
                Ok(())
            }
            Err(StoreError::Condition { .. }) => self.revoked_before(serial, reason).await,
            Err(error) => Err(RevokeError::Store(error.to_string())),
        }
    }

    async fn revoked_before(&self, serial: &Serial, reason: Reason) -> Result<(), RevokeError> {
        let found = self.0.store.certificate(serial.as_bytes()).await;
        let found = found.map_err(|error| RevokeError::Store(error.to_string()))?;
        let Some(record) = found else {
            return Err(RevokeError::Unknown(serial.clone()));
        };
        match record.revocation {
            Some(before) if before.reason == reason.code() => Ok(()),
            _ if reason == Reason::RemoveFromCrl => Err(RevokeError::NotHeld(serial.clone())),
            _ => Err(RevokeError::Revoked(serial.clone())),
        }
    }

    /// Certificates, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn find(
        &self,
        query: CertificateQuery,
    ) -> Result<Vec<CertificateRecord>, StoreError> {
        self.0.store.certificates(query).await
    }

    /// How many certificates there are in each state.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn counts(&self) -> Result<CertificateCounts, StoreError> {
        self.0.store.certificate_counts(self.0.clock.now()).await
    }

    /// One certificate.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn certificate(
        &self,
        serial: &Serial,
    ) -> Result<Option<CertificateRecord>, StoreError> {
        self.0.store.certificate(serial.as_bytes()).await
    }

    /// Puts a line into the audit log. What is issued, revoked, approved, denied, and which secrets come and go, is there by itself:
    /// this is for refusals, and decisions made elsewhere.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn audit(
        &self,
        who: &str,
        action: &str,
        subject: &str,
        detail: &str,
        allowed: bool,
    ) -> Result<(), StoreError> {
        let entry = audit(self.0.clock.now(), who, action, subject, detail, allowed);
        self.0.store.write(Batch::one(entry)).await.map(drop)
    }
}

/// A line of the audit log.
fn audit(
    time: Millis,
    who: &str,
    action: &str,
    subject: &str,
    detail: &str,
    allowed: bool,
) -> Write {
    Write::Audit(AuditRecord {
        sequence: 0,
        time,
        who: who.to_owned(),
        action: action.to_owned(),
        subject: subject.to_owned(),
        detail: detail.to_owned(),
        allowed,
    })
}

fn sha256(data: &[u8]) -> [u8; 32] {
    Sha256::digest(data).into()
}

/// What did not hold of a write.
fn unmet(error: &StoreError) -> Option<Unmet> {
    match error {
        StoreError::Condition { problem, .. } => Some(*problem),
        _ => None,
    }
}
