//! The side of an end entity (RFC 9483 §4): one request, and what has to be said until it is answered for good.
//!
//! The loop: change something ([`Client::handle_input`], [`Client::handle_timeout`], [`Client::accept`], [`Client::decline`]), then drain
//! [`Client::poll_transmit`] and [`Client::poll_event`], then sleep until [`Client::poll_timeout`]. Delivering each message once, and its
//! answer, is the transfer's business. A message that is refused changes nothing, so that nobody else can end the transaction.
//!
//! ```text
//! request ──► Asked ──ip, cp, kup──► Offered ──accept, decline──► certConf ──► Asked ──pkiConf──► Finished
//!               │ ▲       (implicitly confirmed, rp, genp, rejections: Finished at once)
//!       waiting │ │ pollReq
//!               ▼ │
//!             Resting (checkAfter)
//! ```

mod config;
mod event;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use der::asn1::OctetString;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

pub use config::{ClientConfig, Request};
pub use event::{ClientError, ClientEvent, Offer, Outcome};

use crate::{
    asn1::{
        Body, BodyKind, CertOrEncCert, CertRepMessage, CertReqMsg, CertRequest, CertStatus,
        Failure, Info, Kept, Message, PollRequest, PollResponse, PublicKeyInfo, Status, StatusInfo,
    },
    authority::RequestKind,
    certificate::{CertificateParts, RequestParts},
    crypto::Hash,
    possession,
    protection::{Peers, ProtectError, Protection, verify},
    refusal::Refusal,
    rules::{self, Draft, Moment},
};

/// One transaction of an end entity.
pub struct Client {
    config: ClientConfig,
    rng: ChaCha20Rng,
    kind: BodyKind,
    cert_req_id: i64,
    /// The key that the certificate has to be for, if it is ours.
    key: Option<PublicKeyInfo>,
    pvno: i64,
    transaction: Vec<u8>,
    /// Nonce of our last message.
    sent_nonce: Vec<u8>,
    /// Nonce of the message whose answer is polled for.
    delayed_nonce: Option<Vec<u8>>,
    /// Nonce of the last message received.
    received_nonce: Option<Vec<u8>>,
    /// Who answered first; nobody else may go on.
    peer: Option<Protection>,
    started: Instant,
    state: State,
    /// What is polled for.
    waiting_for: Option<Asked>,
    transmits: VecDeque<Vec<u8>>,
    events: VecDeque<ClientEvent>,
}

enum State {
    /// A message is out.
    Asked {
        what: Asked,
        until: Instant,
    },
    /// The answer is not there yet.
    Resting {
        poll_id: i64,
        until: Instant,
    },
    /// A certificate is offered to the application.
    Offered {
        offer: Box<Offer>,
    },
    Finished,
}

#[derive(Clone)]
enum Asked {
    Request,
    /// The poll, and what its final answer is the answer to.
    Poll(i64, Box<Asked>),
    Confirmation(Result<Box<Offer>, StatusInfo>),
}

impl Client {
    /// Makes the request, ready to be sent. The seed is for identifiers, nonces and salts, and must not come twice.
    pub fn start(
        config: ClientConfig,
        request: Request,
        moment: Moment,
        seed: [u8; 32],
    ) -> Result<Self, ProtectError> {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let (body, cert_req_id, key, pvno) = body(request)?;
        let mut client = Self {
            kind: body.kind(),
            cert_req_id,
            key,
            pvno,
            transaction: rules::fresh(&mut rng),
            sent_nonce: Vec::new(),
            delayed_nonce: None,
            received_nonce: None,
            peer: None,
            started: moment.now,
            state: State::Finished,
            waiting_for: None,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            config,
            rng,
        };
        client.send(moment, body, Asked::Request)?;
        Ok(client)
    }

    /// The `transactionID`.
    pub fn transaction(&self) -> &[u8] {
        &self.transaction
    }

    /// Takes an answer.
    pub fn handle_input(&mut self, moment: Moment, bytes: &[u8], peers: &dyn Peers) {
        if let Err(refusal) = self.input(moment, bytes, peers) {
            self.events.push_back(ClientEvent::Ignored(refusal));
        }
    }

    fn input(&mut self, moment: Moment, bytes: &[u8], peers: &dyn Peers) -> Result<(), Refusal> {
        let message = Message::decode(bytes, &self.config.limits)?;
        let State::Asked { what, .. } = &self.state else {
            return Err(Refusal::UnexpectedBody(message.body.kind()));
        };
        let what = what.clone();
        let header = &message.header;
        let checked = rules::check(header, moment, &self.config.time)?;
        if checked.transaction != self.transaction {
            return Err(Refusal::TransactionDiffers);
        }
        self.check_recip_nonce(&message, &what)?;
        if self.received_nonce.as_ref() == Some(&checked.sender_nonce) {
            return Err(Refusal::SenderNonceUsed);
        }
        let protection = verify(&message, &self.config.protection, peers)?;
        match (&protection, &self.peer, &*message.body) {
            (Protection::None, _, Body::Error(_)) if self.config.unprotected_errors => {}
            (Protection::None, _, _) => return Err(Refusal::Unprotected),
            (_, Some(peer), _) if !peer.same_peer(&protection) => {
                return Err(Refusal::PeerDiffers);
            }
            _ => self.peer = Some(protection),
        }
        let body = message.body.kind();
        let step = self.step(&message, &what)?;
        self.received_nonce = Some(checked.sender_nonce);
        self.pvno = self.pvno.max(header.pvno);
        self.take(moment, &message, what, step)
            .map_err(|_| Refusal::UnexpectedBody(body))
    }

    /// The nonce of our last message; of the message that is waited for when it is a delayed answer (RFC 9483 §3.1).
    fn check_recip_nonce(&self, message: &Message, what: &Asked) -> Result<(), Refusal> {
        let named = message
            .header
            .recip_nonce
            .as_ref()
            .map(OctetString::as_bytes);
        let delayed = match what {
            Asked::Poll(..) if message.body.kind() != BodyKind::PollRep => {
                self.delayed_nonce.as_deref()
            }
            _ => None,
        };
        if named.is_none() || (named != Some(&self.sent_nonce) && named != delayed) {
            return Err(Refusal::RecipNonce);
        }
        Ok(())
    }

    /// What a verified message means; one that does not belong here is refused.
    fn step(&self, message: &Message, what: &Asked) -> Result<Step, Refusal> {
        let (asked, polled) = match what {
            Asked::Poll(id, inner) => (&**inner, Some(*id)),
            other => (other, None),
        };
        match (&*message.body, asked) {
            (Body::Error(error), _) => {
                let status = error.status_info.clone();
                Ok(if status.status() == Status::WAITING && polled.is_none() {
                    Step::Poll(-1, Duration::ZERO)
                } else {
                    Step::Rejected(status)
                })
            }
            (Body::PollRep(polls), _) => {
                let expected = polled.ok_or(Refusal::UnexpectedBody(BodyKind::PollRep))?;
                let [poll] = polls.as_slice() else {
                    return Err(Refusal::Count { found: polls.len() });
                };
                check_id(expected, poll.cert_req_id)?;
                Ok(Step::Poll(expected, check_after(poll)))
            }
            (Body::Ip(content), Asked::Request) if self.kind == BodyKind::Ir => {
                self.certificate(message, content, polled)
            }
            (Body::Cp(content), Asked::Request)
                if matches!(self.kind, BodyKind::Cr | BodyKind::P10cr) =>
            {
                self.certificate(message, content, polled)
            }
            (Body::Kup(content), Asked::Request) if self.kind == BodyKind::Kur => {
                self.certificate(message, content, polled)
            }
            (Body::Rp(content), Asked::Request) if self.kind == BodyKind::Rr => {
                let [status] = content.status.as_slice() else {
                    return Err(Refusal::Count {
                        found: content.status.len(),
                    });
                };
                Ok(if status.status() == Status::REJECTION {
                    Step::Rejected(status.clone())
                } else {
                    Step::Done(Outcome::Revoked(content.clone()))
                })
            }
            (Body::Genp(infos), Asked::Request) if self.kind == BodyKind::Genm => {
                Ok(Step::Done(Outcome::Info(rules::read_infos(infos)?)))
            }
            (Body::Pkiconf(_), Asked::Confirmation(result)) => Ok(Step::Done(match result {
                Ok(offer) => Outcome::Certificate(offer.clone()),
                Err(status) => Outcome::Declined(status.clone()),
            })),
            (other, _) => Err(Refusal::UnexpectedBody(other.kind())),
        }
    }

    fn certificate(
        &self,
        message: &Message,
        content: &CertRepMessage,
        polled: Option<i64>,
    ) -> Result<Step, Refusal> {
        let [response] = content.response.as_slice() else {
            return Err(Refusal::Count {
                found: content.response.len(),
            });
        };
        check_id(self.cert_req_id, response.cert_req_id)?;
        let status = response.status.status();
        if status == Status::WAITING && polled.is_none() {
            return Ok(Step::Poll(self.cert_req_id, Duration::ZERO));
        }
        if !status.is_granted() {
            return Ok(Step::Rejected(response.status.clone()));
        }
        let pair = response
            .certified_key_pair
            .as_ref()
            .ok_or(Refusal::Template("the certificate is missing"))?;
        let CertOrEncCert::Certificate(certificate) = &pair.cert_or_enc_cert else {
            return Err(Refusal::Possession(
                "an encrypted certificate was not asked for",
            ));
        };
        let parts =
            CertificateParts::read(certificate).map_err(|_| Refusal::CertificateMalformed)?;
        Ok(Step::Offer(Box::new(Offer {
            status,
            certificate: certificate.clone(),
            // Only a secret makes the CA certificates in the message trustworthy (RFC 9483 §4.1.1).
            ca_pubs: match &self.peer {
                Some(Protection::Secret { .. }) => content.ca_pubs.clone().unwrap_or_default(),
                _ => Vec::new(),
            },
            extra_certs: message.extra_certs().to_vec(),
            private_key: pair.private_key.clone(),
            implicit: self.config.implicit_confirm && rules::implicit_confirm(&message.header),
            key_fits: self.key.as_ref().is_none_or(|key| *key == parts.public_key),
        })))
    }

    fn take(
        &mut self,
        moment: Moment,
        message: &Message,
        what: Asked,
        step: Step,
    ) -> Result<(), ProtectError> {
        match step {
            Step::Poll(poll_id, after) => {
                let inner = match what {
                    Asked::Poll(_, inner) => *inner,
                    first => {
                        self.delayed_nonce = Some(self.sent_nonce.clone());
                        first
                    }
                };
                if moment.now.saturating_duration_since(self.started) > self.config.give_up_after {
                    self.finish(Outcome::Failed(ClientError::GaveUp));
                    return Ok(());
                }
                let rest = after.clamp(self.config.poll_at_least, self.config.poll_at_most);
                // The first poll after "waiting" is sent as soon as polls may be (RFC 9483 §4.4).
                self.state = State::Resting {
                    poll_id,
                    until: moment.now + rest,
                };
                self.waiting_for = Some(inner);
                self.events.push_back(ClientEvent::Waiting {
                    check_after: rest,
                    reason: reason(message),
                });
            }
            Step::Rejected(status) => self.finish(Outcome::Rejected(status)),
            Step::Done(outcome) => self.finish(outcome),
            Step::Offer(offer) if !offer.key_fits => {
                self.events.push_back(ClientEvent::Offered(offer.clone()));
                self.state = State::Offered { offer };
                let status = StatusInfo::rejection(
                    Failure::IncorrectData,
                    "the certificate is for another key",
                );
                self.decline(moment, status)?;
            }
            Step::Offer(offer) => {
                self.events.push_back(ClientEvent::Offered(offer.clone()));
                self.state = State::Offered { offer };
            }
        }
        Ok(())
    }

    /// The certificate is good and will be used: confirms it. Without effect when none is offered.
    pub fn accept(&mut self, moment: Moment) -> Result<(), ProtectError> {
        let State::Offered { offer } = &self.state else {
            return Ok(());
        };
        let offer = offer.clone();
        if offer.implicit {
            self.finish(Outcome::Certificate(offer));
            return Ok(());
        }
        let status = self.cert_status(&offer, None)?;
        self.send(
            moment,
            Body::CertConf(vec![status]),
            Asked::Confirmation(Ok(offer)),
        )
    }

    /// The certificate is not wanted: rejects it. One that was confirmed implicitly has to be revoked by a request. Without effect when
    /// none is offered.
    pub fn decline(&mut self, moment: Moment, status: StatusInfo) -> Result<(), ProtectError> {
        let State::Offered { offer } = &self.state else {
            return Ok(());
        };
        let offer = offer.clone();
        if offer.implicit {
            self.finish(Outcome::Declined(status));
            return Ok(());
        }
        let cert_status = self.cert_status(&offer, Some(status.clone()))?;
        self.send(
            moment,
            Body::CertConf(vec![cert_status]),
            Asked::Confirmation(Err(status)),
        )
    }

    fn cert_status(
        &mut self,
        offer: &Offer,
        status_info: Option<StatusInfo>,
    ) -> Result<CertStatus, ProtectError> {
        let parts = CertificateParts::read(&offer.certificate)?;
        let (hash, hash_alg) = match parts.confirmation_hash() {
            Some(hash) => (hash, None),
            None => {
                // RFC 9480 §2.10: the algorithm is named, in version 3.
                self.pvno = 3;
                (Hash::Sha256, Some(Hash::Sha256.algorithm()))
            }
        };
        Ok(CertStatus {
            cert_hash: OctetString::new(hash.digest(&offer.certificate.to_der()))?,
            cert_req_id: self.cert_req_id,
            status_info,
            hash_alg,
        })
    }

    fn send(&mut self, moment: Moment, body: Body, what: Asked) -> Result<(), ProtectError> {
        let nonce = rules::fresh(&mut self.rng);
        let mut general_info = Vec::new();
        if matches!(what, Asked::Request) {
            let asks_for_certificate = matches!(
                self.kind,
                BodyKind::Ir | BodyKind::Cr | BodyKind::Kur | BodyKind::P10cr
            );
            if self.config.implicit_confirm && asks_for_certificate {
                general_info.push(Info::ImplicitConfirm.write()?);
            }
            if let Some(profile) = &self.config.profile
                && (asks_for_certificate || self.kind == BodyKind::Genm)
            {
                general_info.push(Info::CertProfile(vec![profile.clone()]).write()?);
            }
        }
        let draft = Draft {
            pvno: self.pvno,
            sender: self.config.protector.sender(),
            recipient: &self.config.recipient,
            transaction: Some(&self.transaction),
            sender_nonce: &nonce,
            recip_nonce: self.received_nonce.as_deref(),
            time: moment.time,
            general_info,
        };
        let message = self
            .config
            .protector
            .protect(draft.header()?, body, &[], &mut self.rng)?;
        self.transmits.push_back(message.encode()?);
        self.sent_nonce = nonce;
        self.state = State::Asked {
            what,
            until: moment.now + self.config.answer_within,
        };
        Ok(())
    }

    fn finish(&mut self, outcome: Outcome) {
        self.state = State::Finished;
        self.events.push_back(ClientEvent::Finished(outcome));
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// When [`Client::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Asked { until, .. } | State::Resting { until, .. } => Some(*until),
            State::Offered { .. } | State::Finished => None,
        }
    }

    /// Does what is due: the next polling request, or giving up.
    pub fn handle_timeout(&mut self, moment: Moment) -> Result<(), ProtectError> {
        match &self.state {
            State::Asked { until, .. } if *until <= moment.now => {
                self.finish(Outcome::Failed(ClientError::TimedOut));
                Ok(())
            }
            State::Resting { until, poll_id } if *until <= moment.now => {
                let cert_req_id = *poll_id;
                let inner = self.waiting_for.take().unwrap_or(Asked::Request);
                self.send(
                    moment,
                    Body::PollReq(vec![PollRequest { cert_req_id }]),
                    Asked::Poll(cert_req_id, Box::new(inner)),
                )
            }
            _ => Ok(()),
        }
    }
}

enum Step {
    Poll(i64, Duration),
    Rejected(StatusInfo),
    Offer(Box<Offer>),
    Done(Outcome),
}

fn check_id(expected: i64, found: i64) -> Result<(), Refusal> {
    if expected == found {
        Ok(())
    } else {
        Err(Refusal::CertReqId { expected, found })
    }
}

fn check_after(poll: &PollResponse) -> Duration {
    Duration::from_secs(u64::try_from(poll.check_after).unwrap_or(0))
}

fn reason(message: &Message) -> Option<String> {
    let texts = match &*message.body {
        Body::PollRep(polls) => polls.first()?.reason.as_ref()?,
        Body::Error(error) => error.status_info.status_string.as_ref()?,
        Body::Ip(content) | Body::Cp(content) | Body::Kup(content) => {
            content.response.first()?.status.status_string.as_ref()?
        }
        _ => return None,
    };
    texts.first().cloned()
}

/// Body, `certReqId`, our key, version.
fn body(request: Request) -> Result<(Body, i64, Option<PublicKeyInfo>, i64), ProtectError> {
    Ok(match request {
        Request::Certificate {
            kind,
            mut template,
            controls,
            key,
        } => {
            let public_key = key.as_ref().map(|key| key.public_key());
            if public_key.is_some() {
                template.public_key.clone_from(&public_key);
            }
            let cert_req = Kept::new(CertRequest {
                cert_req_id: 0,
                cert_template: *template,
                controls: (!controls.is_empty()).then_some(controls),
            })?;
            let popo = key
                .map(|key| possession::prove(&cert_req, &*key))
                .transpose()?;
            // A key that the CA generates comes in EnvelopedData, which needs version 3 (RFC 9483 §3.1).
            let pvno = if popo.is_some() { 2 } else { 3 };
            let requests = vec![CertReqMsg {
                cert_req,
                popo,
                reg_info: None,
            }];
            let body = match kind {
                RequestKind::Initialization => Body::Ir(requests),
                RequestKind::KeyUpdate => Body::Kur(requests),
                RequestKind::Certification | RequestKind::Pkcs10 => Body::Cr(requests),
            };
            (body, 0, public_key, pvno)
        }
        Request::Pkcs10(request) => {
            let key = RequestParts::read(&request)?.public_key;
            (Body::P10cr(request), -1, Some(key), 2)
        }
        Request::Revocation(details) => (Body::Rr(vec![*details]), -1, None, 2),
        Request::Info(infos) => {
            let infos: der::Result<Vec<_>> = infos.iter().map(Info::write).collect();
            (Body::Genm(infos?), -1, None, 2)
        }
    })
}
