//! Who protects a message: whether it is believed, and as whom.
//!
//! A certificate is one of ours (a device that renews, an RA), one of a manufacturer that is trusted, one of an RA elsewhere, or a
//! stranger's. A stranger is listened to only when it asks for a first certificate and an operator may approve that: then its signature
//! shows no more than that the same somebody asks again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use homefleet_cmp::CertificateParts;
use homefleet_cmp::asn1::{BodyKind, Certificate};
use homefleet_cmp::crypto::Secret;
use homefleet_cmp::protection::{Distrust, Peers};
use homefleet_trust::{Anchor, ChainCertificate, Policy, Purpose, Time, validate_signer};
use sha2::{Digest as _, Sha256};

use crate::pki::{Hierarchy, Serial};

/// Certificates whose standing is remembered.
const MAX_KNOWN: usize = 16_384;
/// Certificates of a message that may help to find a path.
const MAX_HELPERS: usize = 5;

/// As whom the holder of a certificate is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is one of ours. Whether it is revoked says the inventory.
    Own {
        /// Its serial number.
        serial: Serial,
        /// It may act as RA.
        relay: bool,
    },
    /// A manufacturer that is trusted issued it.
    Manufacturer {
        /// Its subject.
        subject: String,
    },
    /// An RA elsewhere that is trusted.
    Relay {
        /// Its subject.
        subject: String,
    },
    /// Nobody vouches for it.
    Stranger {
        /// What it calls itself.
        subject: String,
        /// Why it is not believed.
        why: String,
    },
}

/// What certificates are judged by.
pub(super) struct Grounds {
    roots: RwLock<Roots>,
    manufacturers: Vec<Anchor>,
    relays: Vec<Anchor>,
    /// How long after its end a certificate of ours may still ask for its renewal, at most.
    grace: Duration,
    /// Whether somebody may ask whom nobody vouches for.
    strangers: bool,
    policy: Policy,
    known: Mutex<HashMap<[u8; 32], (Standing, SystemTime)>>,
}

/// The part of the grounds that changes with a new root.
#[derive(Default)]
struct Roots {
    /// SHA-256 of the issuing CA's certificates.
    issuers: Vec<[u8; 32]>,
    /// The CAs between the roots and what is issued, and the links between roots.
    helpers: Vec<Vec<u8>>,
    anchors: Vec<Anchor>,
}

/// What certificates are to be judged by, besides what our own lead to.
pub(super) struct NewGrounds {
    pub(super) manufacturers: Vec<Anchor>,
    pub(super) relays: Vec<Anchor>,
    pub(super) grace: Duration,
    pub(super) strangers: bool,
}

impl Grounds {
    pub(super) fn new(new: NewGrounds) -> Self {
        Self {
            roots: RwLock::default(),
            manufacturers: new.manufacturers,
            relays: new.relays,
            grace: new.grace,
            strangers: new.strangers,
            policy: Policy::default(),
            known: Mutex::default(),
        }
    }

    /// From now on our own certificates lead to these roots. Nothing is remembered of before.
    pub(super) fn replace_roots(
        &self,
        hierarchy: &Hierarchy,
    ) -> Result<(), homefleet_trust::AnchorError> {
        let anchors: Result<Vec<Anchor>, _> = hierarchy
            .roots
            .iter()
            .map(|der| Anchor::from_der(der))
            .collect();
        let mut helpers = hierarchy.issuing.clone();
        // Between the issuing CA and the root there may be others.
        let between = hierarchy.chain.len().saturating_sub(1);
        helpers.extend(hierarchy.chain.iter().take(between).skip(1).cloned());
        let roots = Roots {
            issuers: hierarchy.issuing.iter().map(|der| sha256(der)).collect(),
            helpers,
            anchors: anchors?,
        };
        *self.roots.write().unwrap_or_else(PoisonError::into_inner) = roots;
        self.known().clear();
        Ok(())
    }

    /// The standing of whoever signs. `late`: it may be one of ours that ended not long ago.
    pub(super) fn standing(
        &self,
        signer: &Certificate,
        others: &[Certificate],
        now: SystemTime,
        late: bool,
    ) -> Standing {
        let der = signer.to_der();
        let fingerprint = sha256(&der);
        if let Some((standing, until)) = self.known().get(&fingerprint)
            && now < *until
        {
            return standing.clone();
        }
        let Ok(parts) = CertificateParts::read(signer) else {
            return stranger(String::new(), "it cannot be read".to_owned());
        };
        let end = parts.not_after.to_system_time();
        let at = if late && now > end && now < end + self.grace {
            end
        } else {
            now
        };
        let mut chain = vec![der];
        chain.extend(others.iter().take(MAX_HELPERS).map(Certificate::to_der));
        let (standing, until) = self.judge(&parts, &mut chain, at);
        // Only what certificates say for themselves is remembered, and not beyond their end; a stranger may show more another time.
        if at == now && !matches!(standing, Standing::Stranger { .. }) {
            let mut known = self.known();
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            known.insert(fingerprint, (standing.clone(), until));
        }
        standing
    }

    fn judge(
        &self,
        parts: &CertificateParts,
        chain: &mut Vec<Vec<u8>>,
        at: SystemTime,
    ) -> (Standing, SystemTime) {
        let time = Time::Accurate(at);
        let path = |chain: &[Vec<u8>], anchors: &[Anchor], purpose| {
            validate_signer(chain, anchors, time, purpose, &self.policy)
        };
        let manufacturer = path(chain, &self.manufacturers, Purpose::Messages);
        let relay = path(chain, &self.relays, Purpose::RegistrationAuthority);
        let roots = self.roots.read().unwrap_or_else(PoisonError::into_inner);
        for helper in &roots.helpers {
            if chain.len() < self.policy.max_chain && !chain.contains(helper) {
                chain.push(helper.clone());
            }
        }
        let own = path(chain, &roots.anchors, Purpose::Messages);
        match (own, manufacturer, relay) {
            (Ok(found), ..)
                if found
                    .get(1)
                    .is_some_and(|ca| roots.issuers.contains(&ca.fingerprint)) =>
            {
                let Ok(serial) = Serial::from_integer(&parts.serial) else {
                    let why = "its serial number is none".to_owned();
                    return (stranger(found[0].subject.clone(), why), at);
                };
                let relay = path(chain, &roots.anchors, Purpose::RegistrationAuthority).is_ok();
                (Standing::Own { serial, relay }, until(&found))
            }
            (_, _, Ok(found)) => {
                let subject = found[0].subject.clone();
                (Standing::Relay { subject }, until(&found))
            }
            (_, Ok(found), _) => {
                let subject = found[0].subject.clone();
                (Standing::Manufacturer { subject }, until(&found))
            }
            (Ok(found), ..) => {
                let why = "it is of another CA below our root".to_owned();
                (stranger(found[0].subject.clone(), why), at)
            }
            (Err(refusal), ..) => {
                let subject = super::text::name(&parts.subject);
                (stranger(subject, refusal.to_string()), at)
            }
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], (Standing, SystemTime)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The earliest end in a path.
fn until(path: &[ChainCertificate]) -> SystemTime {
    let ends = path.iter().map(|certificate| certificate.not_after);
    ends.min().unwrap_or(SystemTime::UNIX_EPOCH)
}

fn stranger(subject: String, why: String) -> Standing {
    Standing::Stranger { subject, why }
}

fn sha256(data: &[u8]) -> [u8; 32] {
    Sha256::digest(data).into()
}

/// What verifying the protection of one message needs.
pub(super) struct Acquaintance {
    pub(super) grounds: std::sync::Arc<Grounds>,
    /// The secret that the message's reference names.
    pub(super) secret: Option<(Vec<u8>, Secret)>,
    /// What the message is.
    pub(super) kind: BodyKind,
    pub(super) now: SystemTime,
}

impl Acquaintance {
    fn standing(&self, signer: &Certificate, others: &[Certificate]) -> Standing {
        // Confirming and polling belong to the request, which has been judged.
        let late = matches!(self.kind, BodyKind::Kur) || self.goes_on();
        self.grounds.standing(signer, others, self.now, late)
    }

    fn goes_on(&self) -> bool {
        matches!(
            self.kind,
            BodyKind::CertConf | BodyKind::PollReq | BodyKind::Error
        )
    }
}

impl Peers for Acquaintance {
    fn secret(&self, reference: &[u8]) -> Option<Secret> {
        let (known, secret) = self.secret.as_ref()?;
        (known == reference).then(|| secret.clone())
    }

    fn judge(&self, signer: &Certificate, others: &[Certificate]) -> Result<(), Distrust> {
        match self.standing(signer, others) {
            Standing::Stranger { why, .. } => {
                let asks = matches!(self.kind, BodyKind::Ir | BodyKind::P10cr) || self.goes_on();
                if self.grounds.strangers && asks {
                    return Ok(());
                }
                Err(Distrust::Untrusted(why))
            }
            _ => Ok(()),
        }
    }

    fn judge_relay(&self, signer: &Certificate, others: &[Certificate]) -> Result<(), Distrust> {
        match self.grounds.standing(signer, others, self.now, false) {
            Standing::Own { relay: true, .. } | Standing::Relay { .. } => Ok(()),
            Standing::Stranger { why, .. } => Err(Distrust::Untrusted(why)),
            _ => Err(Distrust::Unauthorized(
                "the certificate is not for an RA (id-kp-cmcRA)".to_owned(),
            )),
        }
    }
}
