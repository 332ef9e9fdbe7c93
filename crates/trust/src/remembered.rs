//! Signatures that were verified before, so that a peer that comes again costs none.
//!
//! What is remembered is the outcome of a calculation, not a decision: that the signature of these exact bytes verifies under
//! the key in those exact bytes. Dates, constraints, revocation and everything else are looked at anew every time. Only
//! signatures that hold are remembered, and path validation looks at a signature only when the one above it holds, from the
//! anchor down, so that nothing is remembered that no anchor stands behind.

use std::collections::HashSet;
use std::mem;
use std::sync::{Mutex, PoisonError};

use crate::{certificate::Certificate, fingerprint};

/// Names one verified signature: SHA-256 over both certificates.
type Key = [u8; 32];

/// A bounded memory of signatures that hold, shared by decisions. When it is full, those that were not asked for the longest
/// are forgotten, and are verified again when they come.
#[derive(Debug)]
pub struct SignatureMemory {
    half: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    recent: HashSet<Key>,
    older: HashSet<Key>,
}

impl SignatureMemory {
    /// Remembers at most `signatures`, some 80 bytes each; 0 remembers nothing.
    pub fn new(signatures: usize) -> Self {
        Self {
            half: signatures / 2,
            kept: Mutex::default(),
        }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.recent.len() + kept.older.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `verify`, unless it is known to succeed for this certificate under this issuer's key.
    pub(crate) fn check<E>(
        &self,
        certificate: &Certificate<'_>,
        issuer: &Certificate<'_>,
        verify: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let key = key(certificate, issuer);
        if !self.knows(&key) {
            verify()?;
            self.keep(key);
        }
        Ok(())
    }

    fn knows(&self, key: &Key) -> bool {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.recent.contains(key) {
            return true;
        }
        let older = kept.older.remove(key);
        if older {
            self.add(&mut kept, *key);
        }
        older
    }

    fn keep(&self, key: Key) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        self.add(&mut kept, key);
    }

    fn add(&self, kept: &mut Kept, key: Key) {
        if self.half == 0 {
            return;
        }
        if kept.recent.len() >= self.half {
            kept.older = mem::take(&mut kept.recent);
        }
        kept.recent.insert(key);
    }
}

/// Everything that the verification looks at is in the two certificates.
fn key(certificate: &Certificate<'_>, issuer: &Certificate<'_>) -> Key {
    let mut input = Vec::with_capacity(8 + certificate.der.len() + issuer.der.len());
    input.extend((certificate.der.len() as u64).to_be_bytes());
    input.extend_from_slice(certificate.der);
    input.extend_from_slice(issuer.der);
    fingerprint(&input)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn certificate(name: &str) -> Vec<u8> {
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    /// How often verification was asked for, of `rounds` times.
    fn verified(memory: &SignatureMemory, rounds: u32, result: Result<(), ()>) -> u32 {
        let (one, other) = (certificate("one"), certificate("other"));
        let (one, other) = (
            Certificate::parse(&one).unwrap(),
            Certificate::parse(&other).unwrap(),
        );
        let mut asked = 0;
        for _ in 0..rounds {
            let verify = || {
                asked += 1;
                result
            };
            assert_eq!(memory.check(&one, &other, verify), result);
        }
        asked
    }

    #[test]
    fn signature_that_holds_is_verified_once() {
        assert_eq!(verified(&SignatureMemory::new(8), 5, Ok(())), 1);
    }

    #[test]
    fn signature_that_fails_is_verified_every_time() {
        let memory = SignatureMemory::new(8);
        assert_eq!(verified(&memory, 5, Err(())), 5);
        assert!(memory.is_empty());
    }

    #[test]
    fn memory_of_nothing_verifies_every_time() {
        let memory = SignatureMemory::new(0);
        assert_eq!(verified(&memory, 5, Ok(())), 5);
        assert!(memory.is_empty());
    }

    #[test]
    fn memory_is_bounded_and_what_is_asked_for_stays() {
        let memory = SignatureMemory::new(8);
        memory.keep([255; 32]);
        for n in 0..200 {
            memory.keep([n; 32]);
            assert!(memory.len() <= 8);
            assert!(memory.knows(&[255; 32]));
        }
        assert!(!memory.knows(&[0; 32]));
    }
}
