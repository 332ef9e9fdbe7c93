//! Lists of revoked certificates (RFC 5280 §5).
//!
//! A list is made when something was revoked since the last one, or when the last one is getting old, and kept: asking for it
//! costs nothing. Its number is on disk before the list is given out, so it never goes back. A certificate that ended stays
//! in the lists for the lifetime of one more (RFC 5280 §3.3), then it goes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::Pki;
use super::asn1::{ENUMERATED, INTEGER, context, list, sequence, time, tlv, unsigned};
use super::certificate::{CRL_NUMBER, REASON_CODE, authority_key_id, extension};
use super::error::PkiError;
use crate::account::hex;
use crate::clock::Millis;
use crate::store::pki::{PkiWrite, Revocation};
use crate::store::{Batch, Write};

/// The list of now.
#[derive(Default)]
pub(super) struct Lists {
    current: RwLock<Option<List>>,
    /// Something was revoked since.
    changed: AtomicBool,
    /// Held while a list is made: one at a time.
    making: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct List {
    number: u64,
    made: Millis,
    good_until: Millis,
    der: Arc<Vec<u8>>,
}

impl Lists {
    /// Something was revoked, or is off hold.
    pub(super) fn changed(&self) {
        self.changed.store(true, Ordering::Release);
    }

    fn current(&self) -> Option<List> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    fn replace(&self, list: List) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Some(list);
    }
}

impl Pki {
    /// The list of revoked certificates, in DER. It is the newest: what was revoked before the call is in it.
    ///
    /// # Errors
    /// When a new list is needed, cannot be made, and the last one is no longer good.
    pub async fn crl(&self) -> Result<Arc<Vec<u8>>, PkiError> {
        let lists = &self.0.crl;
        let is_good = |list: &List| {
            let refresh = Duration::from_secs(self.0.settings.crl_refresh);
            !lists.changed.load(Ordering::Acquire)
                && self.0.clock.now() < list.made.plus(refresh).min(list.good_until)
        };
        if let Some(list) = lists.current().filter(is_good) {
            return Ok(list.der);
        }
        let _one = lists.making.lock().await;
        // Whoever held the lock may have made it.
        if let Some(list) = lists.current().filter(is_good) {
            return Ok(list.der);
        }
        lists.changed.store(false, Ordering::Release);
        match self.make_crl().await {
            Ok(list) => {
                lists.replace(list.clone());
                Ok(list.der)
            }
            Err(error) => {
                lists.changed.store(true, Ordering::Release);
                let now = self.0.clock.now();
                match lists.current().filter(|list| now < list.good_until) {
                    Some(old) => {
                        tracing::error!(%error, "no new list of revoked certificates, the last one stands");
                        Ok(old.der)
                    }
                    None => Err(error),
                }
            }
        }
    }

    async fn make_crl(&self) -> Result<List, PkiError> {
        let authority = self.0.authority();
        let made = self.0.clock.now();
        let lifetime = Duration::from_secs(self.0.settings.crl_lifetime);
        let good_until = made.plus(lifetime);
        let ended = Millis(
            made.0
                .saturating_sub(u64::try_from(lifetime.as_millis()).unwrap_or(0)),
        );
        let revoked = self.0.store.revoked(&authority.key_id, ended).await?;
        let number = self.0.crl.current().map_or(1, |list| list.number + 1);
        let contents = unsigned_list(&Contents {
            algorithm: &authority.algorithm,
            issuer: &authority.name,
            key_id: &authority.key_id,
            number,
            this_update: made,
            next_update: good_until,
            revoked: &revoked,
        });
        let signed = authority.sign(contents).await;
        let der = signed.map_err(|error| PkiError::Key(error.to_string()))?;
        let list = List {
            number,
            made,
            good_until,
            der: Arc::new(der),
        };
        let document = Batch::one(Write::Pki(PkiWrite::Document {
            name: self.crl_name(),
            value: write(&list),
        }));
        self.0.store.write(document).await?;
        Ok(list)
    }

    /// Goes on from the last list before a restart. What was revoked after it was made may not be in it: the next one is due.
    pub(super) async fn load_crl(&self) -> Result<(), PkiError> {
        if let Some(stored) = self.0.store.pki_document(&self.crl_name()).await? {
            let list = read(&stored).ok_or_else(|| {
                PkiError::Store("the stored list of revoked certificates cannot be read".to_owned())
            })?;
            self.0.crl.replace(list);
        }
        self.0.crl.changed();
        Ok(())
    }

    fn crl_name(&self) -> String {
        format!("crl {}", hex(&self.0.authority().key_id))
    }
}

/// What goes into a list.
pub(super) struct Contents<'a> {
    pub(super) algorithm: &'a [u8],
    pub(super) issuer: &'a [u8],
    pub(super) key_id: &'a [u8],
    pub(super) number: u64,
    pub(super) this_update: Millis,
    pub(super) next_update: Millis,
    /// Serial numbers with why and when.
    pub(super) revoked: &'a [(Vec<u8>, Revocation)],
}

/// `TBSCertList`: what is signed.
pub(super) fn unsigned_list(contents: &Contents<'_>) -> Vec<u8> {
    let entries: Vec<Vec<u8>> = contents
        .revoked
        .iter()
        .map(|(serial, revocation)| {
            let reason = match revocation.reason {
                // No reason is better said by no extension (RFC 5280 §5.3.1).
                0 => Vec::new(),
                code => {
                    let code = tlv(ENUMERATED, &[&[code]]);
                    sequence(&[&extension(REASON_CODE, false, &code)])
                }
            };
            sequence(&[&tlv(INTEGER, &[serial]), &time(revocation.at), &reason])
        })
        .collect();
    // Absent when empty (RFC 5280 §5.1.2.6).
    let entries = match entries.as_slice() {
        [] => Vec::new(),
        entries => list(entries),
    };
    let extensions = [
        authority_key_id(contents.key_id),
        extension(CRL_NUMBER, false, &unsigned(contents.number)),
    ];
    sequence(&[
        &unsigned(1),
        contents.algorithm,
        contents.issuer,
        &time(contents.this_update),
        &time(contents.next_update),
        &entries,
        &context(0, &[&list(&extensions)]),
    ])
}

/// A list as the store has it: number, times, DER.
fn write(list: &List) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + list.der.len());
    for number in [list.number, list.made.0, list.good_until.0] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(&list.der);
    out
}

fn read(stored: &[u8]) -> Option<List> {
    let (numbers, der) = stored.split_at_checked(24)?;
    let mut numbers = numbers
        .chunks_exact(8)
        .filter_map(|bytes| bytes.try_into().ok().map(u64::from_be_bytes));
    Some(List {
        number: numbers.next()?,
        made: Millis(numbers.next()?),
        good_until: Millis(numbers.next()?),
        der: Arc::new(der.to_vec()),
    })
}
