//! Enrolment secrets: what a device has before it has a certificate.
//!
//! The MAC of a message needs the secret itself, so it cannot be stored as a hash. It is sealed under a key that the store
//! does not have. Each has a reference, which messages carry in the clear (`senderKID`), a number of uses, and an end.

use std::fmt;
use std::sync::atomic::Ordering;

use zeroize::Zeroizing;

use super::error::SecretError;
use super::{Pki, audit};
use crate::account::hex;
use crate::clock::Millis;
use crate::store::pki::{PkiWrite, SecretRecord};
use crate::store::{Batch, StoreError, Unmet, Write};

/// Longest reference, in bytes.
pub const MAX_REFERENCE: usize = 128;
/// Least bytes of a secret: a device's label has that many, and the MAC's iterations slow guessing down.
pub const MIN_SECRET: usize = 8;
/// Longest secret, in bytes.
pub const MAX_SECRET: usize = 256;
/// Bytes of a secret that is made here.
const FRESH: usize = 16;

/// A secret to be kept.
#[derive(Clone, Default)]
pub struct NewSecret {
    /// What names it; `None` = the device, or else a random one.
    pub reference: Option<Vec<u8>>,
    /// The secret; `None` = a random one.
    pub secret: Option<Zeroizing<Vec<u8>>>,
    /// Endpoint ID of the device it is for; `None` = whichever knows it.
    pub device: Option<String>,
    /// The profile it is for; `None` = any that admits secrets.
    pub profile: Option<String>,
    /// How often it may be used; `None` = without limit.
    pub uses: Option<u32>,
    /// When it expires.
    pub expires: Option<Millis>,
}

/// A secret that is kept.
#[derive(Clone)]
pub struct EnrolmentSecret {
    /// What names it.
    pub reference: Vec<u8>,
    /// The secret.
    pub secret: Zeroizing<Vec<u8>>,
    /// Endpoint ID of the device it is for.
    pub device: Option<String>,
    /// The profile it is for.
    pub profile: Option<String>,
    /// Whether a use is left. One that was spent still protects the transaction it began.
    pub left: bool,
    /// When it expires.
    pub expires: Option<Millis>,
}

impl fmt::Debug for EnrolmentSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnrolmentSecret({})", shown(&self.reference))
    }
}

impl fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reference = self.reference.as_deref().map(shown);
        write!(f, "NewSecret({reference:?}, {:?})", self.device)
    }
}

/// A reference for people: as text where it is one, else hexadecimal.
pub fn shown(reference: &[u8]) -> String {
    match std::str::from_utf8(reference) {
        Ok(text) if !text.chars().any(|c| c.is_control() || c.is_whitespace()) => text.to_owned(),
        _ => format!("0x{}", hex(reference)),
    }
}

impl Pki {
    /// The secret that a reference names, unless it has expired. Its uses are counted when a certificate is issued.
    ///
    /// # Errors
    /// When the store fails, or it was sealed under another key.
    pub async fn secret(&self, reference: &[u8]) -> Result<Option<EnrolmentSecret>, SecretError> {
        let found = self.0.store.secret(reference).await.map_err(failed)?;
        let now = self.0.clock.now();
        let Some(record) = found.filter(|secret| secret.expires.is_none_or(|end| end > now)) else {
            return Ok(None);
        };
        let secret = self.0.vault.open(&context(reference), &record.sealed);
        Ok(Some(EnrolmentSecret {
            secret: secret.ok_or(SecretError::Sealed)?,
            left: record.uses.is_none_or(|uses| record.used < uses),
            reference: record.reference,
            device: record.device,
            profile: record.profile,
            expires: record.expires,
        }))
    }

    /// Keeps a secret. It comes back whole, this once.
    ///
    /// # Errors
    /// [`SecretError`].
    pub async fn add_secret(
        &self,
        new: NewSecret,
        by: &str,
    ) -> Result<EnrolmentSecret, SecretError> {
        let now = self.0.clock.now();
        if new.uses == Some(0) || new.expires.is_some_and(|end| end <= now) {
            return Err(SecretError::Useless);
        }
        if let Some(profile) = &new.profile
            && self.profile(Some(profile)).is_none()
        {
            return Err(SecretError::Profile(profile.clone()));
        }
        let random = |bytes| {
            let mut fresh = Zeroizing::new(vec![0; bytes]);
            getrandom::fill(&mut fresh).map_err(|error| SecretError::Random(error.to_string()))?;
            Ok(hex(&fresh).into_bytes())
        };
        let secret = match new.secret {
            Some(secret) => secret,
            None => Zeroizing::new(random(FRESH)?),
        };
        if !(MIN_SECRET..=MAX_SECRET).contains(&secret.len()) {
            return Err(SecretError::Length {
                found: secret.len(),
                least: MIN_SECRET,
                most: MAX_SECRET,
            });
        }
        let reference = match (new.reference, &new.device) {
            (Some(reference), _) => reference,
            (None, Some(device)) => device.clone().into_bytes(),
            (None, None) => random(8)?,
        };
        if reference.is_empty() || reference.len() > MAX_REFERENCE {
            return Err(SecretError::Reference {
                most: MAX_REFERENCE,
            });
        }
        if self.0.secrets.load(Ordering::Relaxed) >= self.0.settings.max_secrets {
            return Err(SecretError::Unmet(Unmet::Full));
        }
        let sealed = self.0.vault.seal(&context(&reference), &secret);
        let record = SecretRecord {
            sealed: sealed.map_err(|error| SecretError::Random(error.to_string()))?,
            reference: reference.clone(),
            device: new.device.clone(),
            profile: new.profile.clone(),
            uses: new.uses,
            used: 0,
            created: now,
            created_by: by.to_owned(),
            expires: new.expires,
        };
        let detail = match &new.device {
            Some(device) => format!("for {device}"),
            None => "for any device".to_owned(),
        };
        let batch = Batch(vec![
            Write::Pki(PkiWrite::AddSecret(Box::new(record))),
            audit(now, by, "secret.add", &shown(&reference), &detail, true),
        ]);
        self.0.store.write(batch).await.map_err(failed)?;
        self.0.secrets.fetch_add(1, Ordering::Relaxed);
        Ok(EnrolmentSecret {
            reference,
            secret,
            device: new.device,
            profile: new.profile,
            left: true,
            expires: new.expires,
        })
    }

    /// Secrets after `after`, by reference; nobody is told the secrets themselves.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn secrets(
        &self,
        device: Option<&str>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<SecretRecord>, SecretError> {
        let found = self.0.store.secrets(device, after, limit).await;
        found.map_err(failed)
    }

    /// Removes a secret.
    ///
    /// # Errors
    /// When there is none, or the store fails.
    pub async fn remove_secret(&self, reference: &[u8], by: &str) -> Result<(), SecretError> {
        let now = self.0.clock.now();
        let batch = Batch(vec![
            Write::Pki(PkiWrite::RemoveSecret(reference.to_vec())),
            audit(now, by, "secret.remove", &shown(reference), "", true),
        ]);
        self.0.store.write(batch).await.map_err(failed)?;
        // Another process may have added it: the count is looked up again from time to time.
        let less = |count: u64| Some(count.saturating_sub(1));
        let secrets = &self.0.secrets;
        secrets
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .unwrap_or_default();
        Ok(())
    }
}

fn context(reference: &[u8]) -> Vec<u8> {
    [b"enrolment secret ", reference].concat()
}

fn failed(error: StoreError) -> SecretError {
    match error {
        StoreError::Condition { problem, .. } => SecretError::Unmet(problem),
        other => SecretError::Store(other.to_string()),
    }
}
