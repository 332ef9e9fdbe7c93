//! An RA between an end entity and another RA or CA (RFC 9483 §5.2): messages with its protection instead of the sender's, or around it, and
//! what it says itself while the other side is not asked yet.
//!
//! ```text
//!   end entity ── request ──▶ verify ── reprotect, or nest ──▶ CA
//!              ◀── answer, reprotected ── verify, belongs ◀──
//!              ◀── waiting, still_waiting, rejected           (the RA's own words)
//! ```
//!
//! The transaction stays the end entity's: identifier and nonces pass as they are (RFC 9483 §5.2.3), so nothing has to be remembered of what
//! only passes through. A body is never written anew, so that a proof of possession in it stays good.

use der::asn1::{Int, OctetString};
use rand_core::Rng;

use crate::{
    asn1::{
        Body, BodyKind, CertRepMessage, CertRequest, CertResponse, Control, EncodedMessage,
        ErrorMsg, GeneralName, Header, Limits, Message, Name, PollResponse, RevRepContent, Status,
        StatusInfo,
    },
    protection::{ProtectError, Protection, Protector},
    refusal::Refusal,
    rules::{Draft, Moment, fresh},
};

/// `certReqId` of a PKCS #10 request (RFC 9483 §4.1.4), and of what is no request for a certificate (RFC 9483 §4.4).
const NO_ID: i64 = -1;

/// How a requester is answered: a MAC by the secret that it used, else by our own protection.
pub fn protector_for(requester: &Protection, own: &Protector) -> Protector {
    match requester {
        Protection::Secret {
            reference,
            secret,
            mac,
        } => Protector::Secret {
            sender: own.sender().clone(),
            reference: reference.clone(),
            secret: secret.clone(),
            mac: mac.clone(),
        },
        _ => own.clone(),
    }
}

/// A message with our protection instead of its sender's (RFC 9483 §5.2.3), after `change` of its header. Body, transaction, nonces and the
/// certificates that came with it stay; ours go before them.
///
/// # Errors
/// [`ProtectError`].
pub fn reprotect(
    message: &Message,
    protector: &Protector,
    change: impl FnOnce(&mut Header),
    rng: &mut impl Rng,
) -> Result<Message, ProtectError> {
    let mut header = (*message.header).clone();
    header.protection_alg = None;
    header.sender_kid = None;
    change(&mut header);
    protector.protect_kept(header, message.body.clone(), message.extra_certs(), rng)
}

/// Whether a message asks about nobody's certificate but its sender's own, as far as it names one: with our protection instead of the
/// sender's, the CA cannot tell. An update is for the certificate that protects it and keeps its subject (RFC 9483 §4.1.3), a revocation is of
/// that certificate (RFC 9483 §4.2).
///
/// # Errors
/// [`Refusal::Unauthorized`].
pub fn own_only(message: &Message, requester: &Protection) -> Result<(), Refusal> {
    let others = |what: &str| Refusal::Unauthorized(format!("{what} of another one's certificate"));
    match &*message.body {
        Body::Rr(details) => {
            let own = details.iter().all(|it| {
                let template = &it.cert_details;
                is_own(
                    requester,
                    template.issuer.as_ref(),
                    template.serial_number.as_ref(),
                )
            });
            own.then_some(()).ok_or_else(|| others("a revocation"))
        }
        Body::Kur(requests) => {
            let own = requests
                .iter()
                .all(|it| updates_own(&it.cert_req, requester));
            own.then_some(()).ok_or_else(|| others("an update"))
        }
        _ => Ok(()),
    }
}

fn updates_own(request: &CertRequest, requester: &Protection) -> bool {
    let Protection::Certificate { parts, .. } = requester else {
        return false;
    };
    let subject = request.cert_template.subject.as_ref();
    let keeps = subject.is_none_or(|subject| subject.is_null() || *subject == parts.subject);
    let mut controls = request.controls.iter().flatten();
    keeps
        && controls.all(|control| match Control::read(control) {
            Ok(Control::OldCertId(id)) => is_own(
                requester,
                id.issuer.as_directory().as_ref(),
                Some(&id.serial_number),
            ),
            Ok(_) => true,
            Err(_) => false,
        })
}

fn is_own(requester: &Protection, issuer: Option<&Name>, serial: Option<&Int>) -> bool {
    let Protection::Certificate { parts, .. } = requester else {
        return false;
    };
    let own = Int::new(&parts.serial).ok();
    issuer == Some(&parts.issuer) && own.is_some() && serial == own.as_ref()
}

/// Messages in one with our protection: one to which it is added (RFC 9483 §5.2.2.1), whose transaction it then has, or several at once
/// (RFC 9483 §5.2.2.2).
///
/// # Errors
/// [`ProtectError`].
pub fn nest(
    messages: &[Message],
    recipient: &GeneralName,
    protector: &Protector,
    moment: Moment,
    rng: &mut impl Rng,
) -> Result<Message, ProtectError> {
    let inner: Result<Vec<EncodedMessage>, der::Error> = messages
        .iter()
        .map(|message| EncodedMessage::from_der(&message.encode()?))
        .collect();
    let own = fresh(rng);
    let transaction = match messages {
        [one] => one
            .header
            .transaction_id
            .as_ref()
            .map(OctetString::as_bytes),
        _ => Some(own.as_slice()),
    };
    let nonce = fresh(rng);
    let pvno = messages.iter().map(|message| message.header.pvno).max();
    let header = Draft {
        pvno: pvno.unwrap_or(2),
        sender: protector.sender(),
        recipient,
        transaction,
        sender_nonce: &nonce,
        recip_nonce: None,
        time: moment.time,
        general_info: Vec::new(),
    };
    protector.protect(header.header()?, Body::Nested(inner?), &[], rng)
}

/// Whether an answer is one to this request: of its transaction, and to its nonce.
///
/// # Errors
/// What differs.
pub fn belongs(answer: &Message, request: &Message) -> Result<(), Refusal> {
    if answer.header.transaction_id != request.header.transaction_id {
        return Err(Refusal::TransactionDiffers);
    }
    if answer.header.recip_nonce != request.header.sender_nonce {
        return Err(Refusal::RecipNonce);
    }
    Ok(())
}

/// The answers to several messages, each beside the place of its request; those that belong to none are left out (RFC 9483 §5.2.2.2).
///
/// # Errors
/// When the answer holds none, or cannot be read.
pub fn unnest(
    answer: &Message,
    requests: &[Message],
    limits: &Limits,
) -> Result<Vec<(usize, Message)>, Refusal> {
    if answer.body.kind() != BodyKind::Nested {
        return Err(Refusal::UnexpectedBody(answer.body.kind()));
    }
    let found = answer.nested(limits)?.into_iter().filter_map(|answer| {
        let mut requests = requests.iter();
        let place = requests.position(|request| belongs(&answer, request).is_ok())?;
        Some((place, answer))
    });
    Ok(found.collect())
}

/// What an RA says itself in a transaction that it relays: while somebody decides, while the CA is not there, or for good.
#[derive(Debug, Clone, Copy)]
pub struct Words<'a> {
    /// What the end entity sent.
    pub to: &'a Message,
    /// How it is answered; see [`protector_for`].
    pub protector: &'a Protector,
    /// Now.
    pub moment: Moment,
}

impl Words<'_> {
    /// Tells the sender of a first message to wait and poll (RFC 9483 §4.4).
    ///
    /// # Errors
    /// [`ProtectError`].
    pub fn waiting(self, why: &str, rng: &mut impl Rng) -> Result<Message, ProtectError> {
        let mut status = StatusInfo::new(Status::WAITING);
        status.status_string = Some(vec![why.to_owned()]);
        self.status(self.to, status, rng)
    }

    /// Tells who polls to go on.
    ///
    /// # Errors
    /// [`ProtectError`].
    pub fn still_waiting(
        self,
        check_after: std::time::Duration,
        why: &str,
        rng: &mut impl Rng,
    ) -> Result<Message, ProtectError> {
        let cert_req_id = match &*self.to.body {
            Body::PollReq(requests) => requests.first().map_or(NO_ID, |it| it.cert_req_id),
            _ => NO_ID,
        };
        let body = Body::PollRep(vec![PollResponse {
            cert_req_id,
            check_after: i64::try_from(check_after.as_secs()).unwrap_or(i64::MAX),
            reason: Some(vec![why.to_owned()]),
        }]);
        self.say(body, rng)
    }

    /// Rejects what a first message asked for: `asked`, which is [`Words::to`] or what its sender polls for.
    ///
    /// # Errors
    /// [`ProtectError`].
    pub fn status(
        self,
        asked: &Message,
        status: StatusInfo,
        rng: &mut impl Rng,
    ) -> Result<Message, ProtectError> {
        self.say(status_body(asked, status), rng)
    }

    /// Refuses a message (RFC 9483 §3.6.4).
    ///
    /// # Errors
    /// [`ProtectError`].
    pub fn refuse(self, refusal: &Refusal, rng: &mut impl Rng) -> Result<Message, ProtectError> {
        self.say(Body::Error(ErrorMsg::from(refusal.status_info())), rng)
    }

    fn say(self, body: Body, rng: &mut impl Rng) -> Result<Message, ProtectError> {
        let asked = &self.to.header;
        let nonce = fresh(rng);
        let nobody;
        let recipient = if asked.sender.as_directory().is_some() {
            &asked.sender
        } else {
            nobody = GeneralName::directory(&Name::null())?;
            &nobody
        };
        let header = Draft {
            pvno: asked.pvno.clamp(2, 3),
            sender: self.protector.sender(),
            recipient,
            transaction: asked.transaction_id.as_ref().map(OctetString::as_bytes),
            sender_nonce: &nonce,
            recip_nonce: asked.sender_nonce.as_ref().map(OctetString::as_bytes),
            time: self.moment.time,
            general_info: Vec::new(),
        };
        self.protector.protect(header.header()?, body, &[], rng)
    }
}

/// The answer that belongs to a first message, with a status and nothing else.
fn status_body(asked: &Message, status: StatusInfo) -> Body {
    let response = |cert_req_id| CertRepMessage {
        ca_pubs: None,
        response: vec![CertResponse {
            cert_req_id,
            status: status.clone(),
            certified_key_pair: None,
            rsp_info: None,
        }],
    };
    let first = |requests: &[crate::asn1::CertReqMsg]| {
        response(requests.first().map_or(NO_ID, |it| it.cert_req.cert_req_id))
    };
    match &*asked.body {
        Body::Ir(requests) => Body::Ip(first(requests)),
        Body::Cr(requests) => Body::Cp(first(requests)),
        Body::Kur(requests) => Body::Kup(first(requests)),
        Body::P10cr(_) => Body::Cp(response(NO_ID)),
        Body::Rr(_) if status.status() != Status::WAITING => Body::Rp(RevRepContent {
            status: vec![status],
            rev_certs: None,
            crls: None,
        }),
        _ => Body::Error(ErrorMsg::from(status)),
    }
}
