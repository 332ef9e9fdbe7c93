//! Announcements: what a CA tells without being asked (RFC 9810 §5.3.13 to §5.3.16), and what may be believed of it.
//!
//! They have no transaction and no answer. Where they are read as the state of a resource (RFC 9482 §2.6), everything that is announced stands
//! in one PKIMessage: an announcement by itself, or a nested message (RFC 9810 §5.1.3.4) of several, each with a protection of its own.

use std::time::SystemTime;

use rand_core::Rng;

use crate::{
    Refusal,
    asn1::{
        Body, BodyKind, CaKeyUpdate, Certificate, EncodedMessage, GeneralName, Limits, Message,
        Name,
    },
    protection::{Peers, ProtectError, Protection, ProtectionPolicy, Protector, verify},
    rules::{Draft, fresh, read_infos},
};

/// Makes announcements under one key.
#[derive(Clone, Debug)]
pub struct Announcer {
    protector: Protector,
    /// Sent along, for paths to trusted CAs.
    helpers: Vec<Certificate>,
}

impl Announcer {
    /// One that protects as CMP's other messages are protected. `helpers` are sent besides the protector's own certificates: for those who
    /// trust another root than the one that these lead to.
    pub fn new(protector: Protector, helpers: Vec<Certificate>) -> Self {
        Self { protector, helpers }
    }

    /// All of it as one PKIMessage in DER; nothing at all is no bytes.
    ///
    /// # Errors
    /// When it cannot be encoded, or the key refuses.
    pub fn bulletin(
        &self,
        bodies: Vec<Body>,
        time: Option<SystemTime>,
        rng: &mut impl Rng,
    ) -> Result<Vec<u8>, ProtectError> {
        let mut messages = Vec::with_capacity(bodies.len());
        for body in bodies {
            messages.push(self.message(body, time, rng)?);
        }
        match messages.as_slice() {
            [] => Ok(Vec::new()),
            [one] => Ok(one.encode()?),
            several => {
                let several: der::Result<Vec<EncodedMessage>> = several
                    .iter()
                    .map(|message| EncodedMessage::from_der(&message.encode()?))
                    .collect();
                let nested = self.message(Body::Nested(several?), time, rng)?;
                Ok(nested.encode()?)
            }
        }
    }

    /// One message to everybody (RFC 9810 §5.1.1): its recipient is the NULL-DN, and it belongs to a transaction of its own.
    fn message(
        &self,
        body: Body,
        time: Option<SystemTime>,
        rng: &mut impl Rng,
    ) -> Result<Message, ProtectError> {
        let pvno = match body {
            // RFC 9810 §7: what version 2 does not have needs version 3.
            Body::Ckuann(CaKeyUpdate::V3(_)) => 3,
            _ => 2,
        };
        let header = Draft {
            pvno,
            sender: self.protector.sender(),
            recipient: &GeneralName::directory(&Name::null())?,
            transaction: Some(&fresh(rng)),
            sender_nonce: &fresh(rng),
            recip_nonce: None,
            time,
            general_info: Vec::new(),
        }
        .header()?;
        self.protector.protect(header, body, &self.helpers, rng)
    }
}

/// An announcement whose sender is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// What is announced: ckuann, cann, rann or crlann.
    pub body: Body,
    /// Who says so.
    pub protection: Protection,
    /// When it was said.
    pub time: Option<SystemTime>,
    /// Certificates that may be of use.
    pub extra_certs: Vec<Certificate>,
}

/// Reads what is announced. One announcement that is refused takes nothing from the others.
///
/// # Errors
/// When nothing of it can be used: it is no PKIMessage, or a nested one whose protection is wrong.
pub fn read(
    bulletin: &[u8],
    limits: &Limits,
    policy: &ProtectionPolicy,
    peers: &dyn Peers,
) -> Result<Vec<Result<Announcement, Refusal>>, Refusal> {
    let message = Message::decode(bulletin, limits)?;
    if message.body.kind() != BodyKind::Nested {
        return Ok(vec![announcement(&message, policy, peers)]);
    }
    check_header(&message)?;
    // Who put them together vouches for nothing; but if it says that nothing was changed, that has to be true.
    verify(&message, policy, peers)?;
    let nested = message.nested(limits)?;
    Ok(nested
        .iter()
        .map(|message| announcement(message, policy, peers))
        .collect())
}

fn announcement(
    message: &Message,
    policy: &ProtectionPolicy,
    peers: &dyn Peers,
) -> Result<Announcement, Refusal> {
    check_header(message)?;
    let kind = message.body.kind();
    if !matches!(
        kind,
        BodyKind::Ckuann | BodyKind::Cann | BodyKind::Rann | BodyKind::Crlann
    ) {
        return Err(Refusal::UnexpectedBody(kind));
    }
    let protection = verify(message, policy, peers)?;
    if protection == Protection::None {
        return Err(Refusal::Unprotected);
    }
    Ok(Announcement {
        body: (*message.body).clone(),
        protection,
        time: message
            .header
            .message_time
            .map(|time| time.to_system_time()),
        extra_certs: message.extra_certs().to_vec(),
    })
}

/// What of RFC 9483 §3.5 holds for a message that belongs to no transaction of ours.
fn check_header(message: &Message) -> Result<(), Refusal> {
    let header = &message.header;
    if !(2..=3).contains(&header.pvno) {
        return Err(Refusal::Version(header.pvno));
    }
    read_infos(header.general_info.as_deref().unwrap_or_default()).map(drop)
}
