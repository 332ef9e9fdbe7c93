//! What is known about revocation, and what to fetch to know more (RFC 5280 §5, §6.3; RFC 6960).
//!
//! [`crate::decide`] looks at a [`Revocation`] and, where it lacks something, names it as [`Wanted`]. The caller fetches
//! that, over plain HTTP, and hands it to [`Revocation::add`], or says [`Revocation::failed`]. Evidence is verified when it
//! is added, against the issuer in the `Wanted`, whose path to a trusted CA was valid: a decision only looks it up, under the
//! issuer's name and key.

mod crl;
mod error;
mod judge;
mod ocsp;
mod policy;
mod wanted;

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Instant, SystemTime},
};

pub use error::EvidenceError;
pub(crate) use judge::{Verdict, earliest, judge, judge_without_issuer};
pub use policy::{CertIdHash, Preference, RevocationPolicy, RevocationScope, Unknown};
pub use wanted::Wanted;

use crate::{anchor::Anchor, certificate::Certificate, context::Time, signature};

/// Verified evidence about revocation, and what could not be fetched. Bounded by its [`RevocationPolicy`].
#[derive(Debug)]
pub struct Revocation {
    policy: RevocationPolicy,
    lists: Vec<Known<crl::List>>,
    /// By serial number, the issuer's name and its key.
    answers: HashMap<(Vec<u8>, Authority), Known<ocsp::Answer>>,
    /// What could not be fetched, and until when that is remembered.
    failures: HashMap<[u8; 32], Instant>,
    dropped: u64,
}

/// An issuer by name and key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Authority {
    /// Its subject in comparable form.
    name: Vec<u8>,
    key: [u8; 32],
}

impl Authority {
    fn of(issuer: &Certificate<'_>) -> Self {
        Self {
            name: issuer.subject.key(),
            key: issuer.key.id(),
        }
    }
}

/// Evidence whose signature is verified.
#[derive(Debug)]
struct Known<T> {
    authority: Authority,
    /// How it was fetched; `None`: it came by other means.
    wanted: Option<Wanted>,
    /// When it came; `None`: time was unknown.
    received: Option<SystemTime>,
    this_update: SystemTime,
    /// Until when it is good: `nextUpdate`, or a while after it came.
    until: Option<SystemTime>,
    /// A decision looked at it since it came.
    used: AtomicBool,
    says: T,
}

impl<T> Known<T> {
    /// The dates of evidence, and what is kept with it.
    fn new(
        policy: &RevocationPolicy,
        issuer: &Certificate<'_>,
        wanted: Option<&Wanted>,
        (this_update, next_update): (SystemTime, Option<SystemTime>),
        time: Time,
        says: T,
    ) -> Result<Self, EvidenceError> {
        let mut received = None;
        if let Time::Accurate(now) = time {
            let soon = now.checked_add(policy.clock_skew).unwrap_or(now);
            if this_update > soon {
                return Err(EvidenceError::NotYetValid);
            }
            if next_update.is_some_and(|next| next < now) {
                return Err(EvidenceError::OutOfDate);
            }
            received = Some(now);
        }
        let until = next_update.or_else(|| {
            let from = received.unwrap_or(this_update);
            from.checked_add(policy.without_next_update)
        });
        Ok(Self {
            authority: Authority::of(issuer),
            wanted: wanted.cloned(),
            received,
            this_update,
            until,
            used: AtomicBool::new(false),
            says,
        })
    }

    /// Good at this time. Dates are ignored without accurate absolute time, as R-MTP.2 ignores those of certificates.
    fn is_fresh(&self, time: Time) -> bool {
        match (time, self.until) {
            (Time::Accurate(now), Some(until)) => now <= until,
            _ => true,
        }
    }

    fn note_use(&self) {
        self.used.store(true, Ordering::Relaxed);
    }
}

/// Evidence that is verified, and not taken yet. A long list takes a while to read: it is verified without the
/// [`Revocation`] that decisions look at.
#[derive(Debug)]
pub struct Evidence {
    says: Says,
    /// Of what it was asked for, if it was.
    key: Option<[u8; 32]>,
}

#[derive(Debug)]
enum Says {
    List(Known<crl::List>),
    Answer(Vec<u8>, Known<ocsp::Answer>),
}

impl Evidence {
    /// Verifies what was fetched, as [`Revocation::add`] does.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn fetched(
        policy: &RevocationPolicy,
        wanted: &Wanted,
        nonce: Option<&[u8]>,
        der: &[u8],
        time: Time,
    ) -> Result<Self, EvidenceError> {
        let Ok(issuer) = Certificate::parse(wanted.issuer()) else {
            let found = "an unreadable issuer".into();
            return Err(EvidenceError::Issuer { found });
        };
        let Wanted::Ocsp { serial, .. } = wanted else {
            return Self::read_list(policy, der, &[issuer], Some(wanted), time);
        };
        within(der, policy.max_ocsp_bytes)?;
        let question = ocsp::Question {
            issuer: &issuer,
            serial,
            nonce,
            time,
        };
        let answer = question.answer(der)?;
        // RFC 6960 §3.2 (5), §4.2.2.1: without nextUpdate there is newer news all the time, and an old answer is
        // somebody's who kept it.
        let lasts = policy.without_next_update;
        let ends = answer
            .next_update
            .or_else(|| answer.this_update.checked_add(lasts));
        let dates = (answer.this_update, ends);
        let known = Known::new(policy, &issuer, Some(wanted), dates, time, answer)?;
        Ok(Self {
            says: Says::Answer(serial.clone(), known),
            key: Some(wanted.key()),
        })
    }

    /// Verifies a CRL that came by other means, as [`Revocation::add_crl`] does.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn list(
        policy: &RevocationPolicy,
        der: &[u8],
        issuers: &[Anchor],
        time: Time,
    ) -> Result<Self, EvidenceError> {
        let issuers: Vec<Certificate<'_>> = issuers
            .iter()
            .filter_map(|anchor| Certificate::parse(anchor.der()).ok())
            .collect();
        Self::read_list(policy, der, &issuers, None, time)
    }

    fn read_list(
        policy: &RevocationPolicy,
        der: &[u8],
        issuers: &[Certificate<'_>],
        wanted: Option<&Wanted>,
        time: Time,
    ) -> Result<Self, EvidenceError> {
        within(der, policy.max_crl_bytes)?;
        let crl = crl::SignedCrl::parse(der, policy.max_crl_entries)?;
        let mut result = EvidenceError::Issuer {
            found: crl.issuer.to_string(),
        };
        let mut signer = None;
        // RFC 5280 §6.3.3 (b)(1), (f), (g).
        for issuer in issuers.iter().filter(|c| c.subject == crl.issuer) {
            match may_sign(issuer).and_then(|()| crl.verify(&issuer.key)) {
                Ok(()) => {
                    signer = Some(issuer);
                    break;
                }
                Err(error) => result = error,
            }
        }
        let Some(issuer) = signer else {
            return Err(result);
        };
        // What would not answer the question is no answer, or it would be asked for again and again.
        if let Some(Wanted::Crl { url, for_ca, .. }) = wanted
            && !crl.list.scope.covers_one_of(&[url.as_str()], *for_ca)
        {
            return Err(EvidenceError::Scope);
        }
        let dates = (crl.list.this_update, crl.list.next_update);
        let known = Known::new(policy, issuer, wanted, dates, time, crl.list)?;
        Ok(Self {
            says: Says::List(known),
            key: wanted.map(Wanted::key),
        })
    }
}

impl Revocation {
    /// Nothing known yet.
    pub fn new(policy: RevocationPolicy) -> Self {
        Self {
            policy,
            lists: Vec::new(),
            answers: HashMap::new(),
            failures: HashMap::new(),
            dropped: 0,
        }
    }

    /// What it was made with.
    pub fn policy(&self) -> &RevocationPolicy {
        &self.policy
    }

    /// How many bytes of an answer to this are worth reading.
    pub fn max_bytes(&self, wanted: &Wanted) -> usize {
        match wanted {
            Wanted::Crl { .. } => self.policy.max_crl_bytes,
            Wanted::Ocsp { .. } => self.policy.max_ocsp_bytes,
        }
    }

    /// Takes what was fetched, once it is verified: a CRL or an OCSP response, DER. `nonce` is the one that was sent.
    ///
    /// # Errors
    ///
    /// What is wrong with it. It is not remembered as a failure: say [`Revocation::failed`].
    pub fn add(
        &mut self,
        wanted: &Wanted,
        nonce: Option<&[u8]>,
        der: &[u8],
        time: Time,
    ) -> Result<(), EvidenceError> {
        self.take(Evidence::fetched(&self.policy, wanted, nonce, der, time)?)
    }

    /// Takes a CRL that came by other means, such as a file of the operator's. It has to be signed by one of `issuers`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn add_crl(
        &mut self,
        der: &[u8],
        issuers: &[Anchor],
        time: Time,
    ) -> Result<(), EvidenceError> {
        self.take(Evidence::list(&self.policy, der, issuers, time)?)
    }

    /// Takes what was verified before.
    ///
    /// # Errors
    ///
    /// [`EvidenceError::Older`].
    pub fn take(&mut self, evidence: Evidence) -> Result<(), EvidenceError> {
        match evidence.says {
            Says::List(known) => self.keep_list(known)?,
            Says::Answer(serial, known) => self.keep_answer(serial, known)?,
        }
        if let Some(key) = evidence.key {
            self.failures.remove(&key);
        }
        Ok(())
    }

    /// It could not be fetched, or what came was no good: until it is forgotten, decisions go on without it.
    pub fn failed(&mut self, wanted: &Wanted, now: Instant) {
        self.handle_timeout(now);
        if self.failures.len() >= self.policy.max_failures
            && let Some(first) = self.failures.iter().min_by_key(|(_, until)| **until)
        {
            let first = *first.0;
            self.failures.remove(&first);
            self.dropped += 1;
        }
        if let Some(until) = now.checked_add(self.policy.remember_failure) {
            self.failures.insert(wanted.key(), until);
        }
    }

    /// Forgets failures whose time has come, so that decisions want them again.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.failures.retain(|_, until| *until > now);
    }

    /// When [`Revocation::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.failures.values().min().copied()
    }

    /// What decisions use and is old enough to be fetched again in the background ([`RevocationPolicy::refresh_after`], or
    /// near its end), so that nobody waits for it later and a revocation becomes known. Decide anew about open sessions
    /// when it has come.
    pub fn due(&self, now: SystemTime) -> Vec<Wanted> {
        let lists = self.lists.iter().filter_map(|k| self.is_due(k, now));
        let answers = self.answers.values().filter_map(|k| self.is_due(k, now));
        lists.chain(answers).collect()
    }

    /// How much was dropped because a bound was reached.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// How many CRLs, certificates listed in them, and OCSP answers are known.
    pub fn sizes(&self) -> (usize, usize, usize) {
        let listed = self.lists.iter().map(|list| list.says.len()).sum();
        (self.lists.len(), listed, self.answers.len())
    }

    fn is_due<T>(&self, known: &Known<T>, now: SystemTime) -> Option<Wanted> {
        let wanted = known.wanted.as_ref()?;
        let received = known.received.unwrap_or(SystemTime::UNIX_EPOCH);
        let age = now.duration_since(received).unwrap_or_default();
        // The last tenth of its life, when that is shorter than the usual interval.
        let life = known
            .until
            .and_then(|until| until.duration_since(received).ok())
            .unwrap_or(self.policy.refresh_after);
        let limit = self.policy.refresh_after.min(life / 10 * 9);
        let is_due = known.used.load(Ordering::Relaxed)
            && age >= limit
            && !self.failures.contains_key(&wanted.key());
        is_due.then(|| wanted.clone())
    }

    fn keep_list(&mut self, known: Known<crl::List>) -> Result<(), EvidenceError> {
        let same = self
            .lists
            .iter_mut()
            .find(|k| k.authority == known.authority && k.says.scope == known.says.scope);
        if let Some(held) = same {
            return replace(held, known);
        }
        if self.lists.len() >= self.policy.max_crls {
            let oldest = self.lists.iter().enumerate().min_by_key(|(_, k)| k.until);
            let Some(oldest) = oldest.map(|(index, _)| index) else {
                return Ok(());
            };
            self.lists.swap_remove(oldest);
            self.dropped += 1;
        }
        self.lists.push(known);
        Ok(())
    }

    fn keep_answer(
        &mut self,
        serial: Vec<u8>,
        known: Known<ocsp::Answer>,
    ) -> Result<(), EvidenceError> {
        let key = (serial, known.authority.clone());
        if let Some(held) = self.answers.get_mut(&key) {
            return replace(held, known);
        }
        if self.answers.len() >= self.policy.max_ocsp_answers {
            let oldest = self.answers.iter().min_by_key(|(_, k)| k.until);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                return Ok(());
            };
            self.answers.remove(&oldest);
            self.dropped += 1;
        }
        self.answers.insert(key, known);
        Ok(())
    }
}

/// Newer evidence takes the place of older, never the other way round: what was revoked since must not be forgotten.
fn replace<T>(held: &mut Known<T>, new: Known<T>) -> Result<(), EvidenceError> {
    if new.this_update < held.this_update {
        return Err(EvidenceError::Older);
    }
    *held = new;
    Ok(())
}

/// RFC 5280 §6.3.3 (f).
fn may_sign(issuer: &Certificate<'_>) -> Result<(), EvidenceError> {
    if issuer
        .extensions
        .key_usage
        .is_some_and(|usage| !usage.crl_sign())
    {
        return Err(EvidenceError::KeyUsage);
    }
    signature::check_key(&issuer.key, 0)
        .map_err(|_| EvidenceError::SignatureAlgorithm(issuer.key.algorithm.oid))
}

fn within(der: &[u8], limit: usize) -> Result<(), EvidenceError> {
    let bytes = der.len();
    if bytes > limit {
        return Err(EvidenceError::TooLarge { bytes, limit });
    }
    Ok(())
}

/// Both readers and the lookup, for [`crate::fuzz`].
pub(crate) fn fuzz(data: &[u8], issuer: &[u8], serial: &[u8]) {
    if let Ok(crl) = crl::SignedCrl::parse(data, 1000)
        && let Ok(issuer) = Certificate::parse(issuer)
    {
        let _signature = crl.verify(&issuer.key);
        let _status = crl.list.status(&issuer);
        let _reason = crl.list.reason(serial);
    }
    let Ok(issuer) = Certificate::parse(issuer) else {
        return;
    };
    let question = ocsp::Question {
        issuer: &issuer,
        serial,
        nonce: Some(&[1, 2, 3]),
        time: Time::Unknown,
    };
    let _answer = question.answer(data);
}
