//! What is looked at before a message is passed on, and who turns out to have sent it (RFC 9482 §4).

use std::time::{Instant, SystemTime};

use homefleet_cmp::asn1::{BodyKind, Certificate, Limits, Message};
use homefleet_cmp::crypto::Mac;
use homefleet_cmp::protection::{Distrust, Peers, ProtectionPolicy, verify};
use homefleet_cmp::{Moment, Refusal, TimePolicy, inspect};
use homefleet_trust::{Anchor, Policy, Purpose, Time, validate_signer};

use crate::cmp::entity::der_of;

/// How closely messages are looked at. Each includes those before it.
#[derive(Debug, Clone)]
pub enum Check {
    /// Not at all.
    Nothing,
    /// Each is a PKIMessage in DER, within the usual limits, and so is each answer as far as its outside goes.
    Shape,
    /// It keeps the rules for headers, is a request, and is protected ([`inspect::request`]).
    Header,
    /// Its protection holds, where the key is known here: that of a signature is in the message; the secret of a MAC is the CA's.
    Protection(Keys),
}

/// Whose protection passes.
#[derive(Debug, Clone)]
pub struct Keys {
    /// CAs of those that may sign.
    pub anchors: Vec<Anchor>,
    /// Whether others may whose signature fits the certificate that they show.
    pub strangers: bool,
    /// Whether messages pass that a MAC protects, which nobody here can verify.
    pub macs: bool,
}

impl Keys {
    /// Whether who signed by this certificate may.
    fn accept(&self, chain: &[Vec<u8>]) -> bool {
        self.strangers || vouches(&self.anchors, chain)
    }
}

impl Check {
    pub(super) fn reads(&self) -> bool {
        !matches!(self, Self::Nothing)
    }
}

/// Whether one of these CAs vouches for the first certificate now.
pub(super) fn vouches(anchors: &[Anchor], chain: &[Vec<u8>]) -> bool {
    let now = Time::Accurate(SystemTime::now());
    validate_signer(chain, anchors, now, Purpose::Messages, &Policy::default()).is_ok()
}

/// What a message showed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Its kind, and those of the messages in it.
    pub(super) kinds: Vec<BodyKind>,
    /// The certificates of whoever signed it, the signer's first, where the signature was found to hold.
    pub(super) signer: Option<Vec<Vec<u8>>>,
}

/// Looks at a message. With `signer` its signature is verified, whatever else is checked.
pub(super) fn look(bytes: &[u8], check: &Check, signer: bool) -> Result<Seen, Refusal> {
    let limits = Limits::default();
    let message = Message::decode(bytes, &limits)?;
    let kinds = inspect::kinds(&message, &limits)?;
    if matches!(check, Check::Header | Check::Protection(_)) {
        let moment = Moment {
            now: Instant::now(),
            time: Some(SystemTime::now()),
        };
        inspect::request(&message, &limits, moment, &TimePolicy::default())?;
    }
    let mut seen = Seen {
        kinds,
        signer: None,
    };
    let keys = match check {
        Check::Protection(keys) => Some(keys),
        _ => None,
    };
    if keys.is_none() && !signer {
        return Ok(seen);
    }
    let algorithm = message.header.protection_alg.as_ref();
    match algorithm.map(|algorithm| Mac::is_mac(algorithm.oid)) {
        None => {}
        Some(true) if keys.is_some_and(|keys| !keys.macs) => {
            return Err(Refusal::WrongProtection("a MAC"));
        }
        Some(true) => {}
        Some(false) => {
            verify(&message, &ProtectionPolicy::default(), &Anyone)?;
            // There is one, else that would have failed.
            let chain = message.extra_certs().split_first();
            let chain = chain.map(|(first, others)| der_of(first, others));
            let chain = chain.ok_or(Refusal::CertificateMissing)?;
            if keys.is_some_and(|keys| !keys.accept(&chain)) {
                let why = "no CA that is known here vouches for it".to_owned();
                return Err(Refusal::Untrusted(why));
            }
            seen.signer = Some(chain);
        }
    }
    Ok(seen)
}

/// Takes every signer: whether the signature fits the certificate is all that is asked.
struct Anyone;

impl Peers for Anyone {
    fn secret(&self, _: &[u8]) -> Option<homefleet_cmp::crypto::Secret> {
        None
    }

    fn judge(&self, _: &Certificate, _: &[Certificate]) -> Result<(), Distrust> {
        Ok(())
    }
}
