//! What a CMP server announces, at `…/ann` (RFC 9482 §2.6).
//!
//! What is observed is a state (RFC 7641 §1.3), so a bulletin holds everything that is announced now in one PKIMessage: an announcement, or a
//! nested message of several (`homefleet_cmp::announce` makes and reads both). Who comes late, or missed some, has all of it with the next one.

use std::sync::Arc;
use std::time::SystemTime;

use homefleet_cmp::announce::Announcer;
use homefleet_cmp::asn1::Body;
use homefleet_cmp::crypto::SignError;
use homefleet_cmp::protection::ProtectError;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use tokio::sync::watch;

/// What is announced. Whoever knows about a CA posts here: the CA itself, or a proxy that asks one. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Bulletin(Arc<watch::Sender<Arc<Vec<u8>>>>);

impl Default for Bulletin {
    /// Nothing is announced yet.
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Arc::default())))
    }
}

impl Bulletin {
    /// From now on this is announced, a PKIMessage in DER; empty: nothing is. Observers are told unless it is what was announced before.
    pub fn post(&self, message: Vec<u8>) {
        self.0.send_if_modified(|current| {
            let new = **current != message;
            if new {
                *current = Arc::new(message);
            }
            new
        });
    }

    /// The same, made of announcements, each protected; nothing announced is no bytes.
    ///
    /// # Errors
    /// When they cannot be encoded, the key refuses, or there is no randomness.
    pub fn announce(
        &self,
        announcer: &Announcer,
        bodies: Vec<Body>,
        time: SystemTime,
    ) -> Result<(), ProtectError> {
        self.post(message(announcer, bodies, time)?);
        Ok(())
    }

    /// What is announced, a PKIMessage in DER; empty while nothing is.
    pub fn current(&self) -> Arc<Vec<u8>> {
        self.0.borrow().clone()
    }

    /// Tells of each change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Vec<u8>>> {
        self.0.subscribe()
    }

    /// Whether both are the same one.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Announcements as one PKIMessage in DER, under a random number of this machine's.
///
/// # Errors
/// When they cannot be encoded, the key refuses, or there is no randomness.
pub fn message(
    announcer: &Announcer,
    bodies: Vec<Body>,
    time: SystemTime,
) -> Result<Vec<u8>, ProtectError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| SignError(format!("no random numbers: {error}")))?;
    announcer.bulletin(bodies, Some(time), &mut ChaCha20Rng::from_seed(seed))
}
