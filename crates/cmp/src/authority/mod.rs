//! The side of an RA or CA (RFC 9483 §4, §5): requests come in, the application decides, answers go out.
//!
//! Each request message comes with an [`ExchangeId`] of the transfer; its one answer goes out under the same. The loop is that of every
//! protocol crate here: change something ([`Authority::handle_input`], [`Authority::handle_timeout`], [`Authority::decide`]), then drain
//! [`Authority::poll_transmit`] and [`Authority::poll_event`], then sleep until [`Authority::poll_timeout`].
//!
//! ```text
//! request ──► Deciding ──decide──► answer ──► Confirming ──certConf──► pkiConf, Confirmed
//!                │ decide_within        (or the end: implicit confirmation, rp, genp)
//!                ▼                                  │ confirm_within ──► Unconfirmed: revoke it
//!             Waiting ◄──pollReq/pollRep            └ rejected, wrong hash ──► Declined: revoke it
//!                │ decide
//!                ▼
//!              Ready ──pollReq──► answer
//! ```

mod answer;
mod config;
mod event;
mod finished;
mod request;
mod transaction;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use der::asn1::{Null, OctetString};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

pub use config::AuthorityConfig;
pub use event::{Decision, Event, ExchangeId, Issued, TransactionId, UnknownTransaction};
pub use request::{CertificateRequest, RequestKind};

use crate::{
    asn1::{
        Body, BodyKind, CertRepMessage, CertResponse, CertStatus, Certificate, CertifiedKeyPair,
        ErrorMsg, GeneralName, Header, Info, InfoTypeAndValue, Message, Name, PollResponse, Status,
        StatusInfo,
    },
    crypto::Secret,
    protection::{Distrust, Peers, Protection, Protector, verify},
    refusal::Refusal,
    rules::{self, Checked, Draft, Moment, TimePolicy},
};
use answer::{certificate_body, check_confirmation, rejection_body};
use finished::Finished;
use transaction::{State, Transaction};

/// The transactions of an RA or CA.
pub struct Authority {
    config: AuthorityConfig,
    rng: ChaCha20Rng,
    transactions: HashMap<TransactionId, Transaction>,
    /// When something is due in each of them.
    deadlines: BTreeSet<(Instant, TransactionId)>,
    finished: Finished,
    transmits: VecDeque<(ExchangeId, Vec<u8>)>,
    events: VecDeque<Event>,
}

impl Authority {
    /// Starts with no transaction. The seed is for nonces and salts.
    pub fn new(config: AuthorityConfig, seed: [u8; 32]) -> Self {
        Self {
            finished: Finished::new(config.max_finished),
            config,
            rng: ChaCha20Rng::from_seed(seed),
            transactions: HashMap::new(),
            deadlines: BTreeSet::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Protects what is sent from now on by this.
    pub fn replace_protector(&mut self, protector: Protector) {
        self.config.protector = protector;
    }

    /// How many transactions are open.
    pub fn open(&self) -> usize {
        self.transactions.len()
    }

    /// Takes a message. There will be exactly one answer under `exchange`, now or after a decision.
    pub fn handle_input(
        &mut self,
        moment: Moment,
        exchange: ExchangeId,
        bytes: &[u8],
        peers: &dyn Peers,
    ) {
        match Message::decode(bytes, &self.config.limits) {
            Ok(message) => self.handle_message(moment, exchange, &message, peers),
            Err(error) => self.refuse(moment, exchange, None, None, error.into()),
        }
    }

    /// The same for a message that was read already, within [`AuthorityConfig::limits`].
    pub fn handle_message(
        &mut self,
        moment: Moment,
        exchange: ExchangeId,
        message: &Message,
        peers: &dyn Peers,
    ) {
        if !matches!(&*message.body, Body::Nested(_)) {
            return self.receive(moment, exchange, message, peers, None);
        }
        match self.unwrap(moment, &self.config.time, message, peers) {
            Ok((inner, relay)) => self.receive(moment, exchange, &inner, peers, Some(relay)),
            Err(refusal) => self.refuse(moment, exchange, Some(&message.header), None, refusal),
        }
    }

    /// Whether a transaction is open.
    pub fn is_open(&self, transaction: &[u8]) -> bool {
        self.transactions
            .contains_key(&TransactionId(transaction.to_vec()))
    }

    /// Takes up a transaction again whose requester was told to wait before this authority was made: `message` is its first one, kept
    /// since. It waits from now on, and the event that comes back is to be decided as the first time. Which nonce the requester was
    /// last sent is not known any more, so its next message may answer any.
    ///
    /// # Errors
    /// What [`Authority::handle_message`] would answer; the time of the message is not looked at.
    pub fn resume(
        &mut self,
        moment: Moment,
        message: &Message,
        peers: &dyn Peers,
    ) -> Result<Event, Refusal> {
        let any_time = TimePolicy {
            tolerance: None,
            required: false,
        };
        let unwrapped;
        let (message, relay) = match &*message.body {
            Body::Nested(_) => {
                let (inner, relay) = self.unwrap(moment, &any_time, message, peers)?;
                unwrapped = inner;
                (&unwrapped, Some(relay))
            }
            _ => (message, None),
        };
        let checked = rules::check(&message.header, moment, &any_time)?;
        let protection = match verify(message, &self.config.protection, peers)? {
            Protection::None => return Err(Refusal::Unprotected),
            protection => protection,
        };
        let event = self.open_transaction(moment, message, checked, protection, relay, |_| {
            State::Waiting {
                check_after: Duration::ZERO,
                reason: None,
            }
        })?;
        let id = match &event {
            Event::Requested { transaction, .. }
            | Event::RevocationRequested { transaction, .. }
            | Event::InfoRequested { transaction, .. } => transaction.clone(),
            _ => return Err(Refusal::UnexpectedBody(message.body.kind())),
        };
        if let Some(transaction) = self.transactions.get_mut(&id) {
            transaction.sent_nonce = None;
        }
        self.set_deadline(&id, moment.now + self.config.poll_within);
        Ok(event)
    }

    /// A message to which an RA added its protection (RFC 9483 §5.2.2.1): the message, and the RA.
    fn unwrap(
        &self,
        moment: Moment,
        time: &TimePolicy,
        message: &Message,
        peers: &dyn Peers,
    ) -> Result<(Message, Protection), Refusal> {
        rules::check(&message.header, moment, time)?;
        let relay = match verify(message, &self.config.protection, &Relays(peers))? {
            Protection::None => return Err(Refusal::Unprotected),
            relay => relay,
        };
        let messages = message.nested(&self.config.limits)?;
        match <[Message; 1]>::try_from(messages) {
            Ok([inner]) => Ok((inner, relay)),
            Err(messages) => Err(Refusal::Count {
                found: messages.len(),
            }),
        }
    }

    fn receive(
        &mut self,
        moment: Moment,
        exchange: ExchangeId,
        message: &Message,
        peers: &dyn Peers,
        relay: Option<Protection>,
    ) {
        let header = Some(&*message.header);
        let verified =
            rules::check(&message.header, moment, &self.config.time).and_then(|checked| {
                match verify(message, &self.config.protection, peers)? {
                    Protection::None => Err(Refusal::Unprotected),
                    protection => Ok((checked, protection)),
                }
            });
        let (checked, protection) = match verified {
            Ok(verified) => verified,
            Err(refusal) => return self.refuse(moment, exchange, header, None, refusal),
        };
        let requester = protection.clone();
        let done = self.dispatch(moment, exchange, message, checked, protection, relay);
        if let Err(refusal) = done {
            self.refuse(moment, exchange, header, Some(requester), refusal);
        }
    }

    fn dispatch(
        &mut self,
        moment: Moment,
        exchange: ExchangeId,
        message: &Message,
        checked: Checked,
        protection: Protection,
        relay: Option<Protection>,
    ) -> Result<(), Refusal> {
        match message.body.kind() {
            BodyKind::Ir
            | BodyKind::Cr
            | BodyKind::Kur
            | BodyKind::P10cr
            | BodyKind::Rr
            | BodyKind::Genm => self.begin(moment, exchange, message, checked, protection, relay),
            BodyKind::CertConf | BodyKind::PollReq | BodyKind::Error => {
                self.go_on(moment, exchange, message, checked, &protection)
            }
            kind @ (BodyKind::Popdecr
            | BodyKind::Krr
            | BodyKind::Ccr
            | BodyKind::Nested
            | BodyKind::Ckuann
            | BodyKind::Cann
            | BodyKind::Rann
            | BodyKind::Crlann) => Err(Refusal::UnsupportedBody(kind)),
            kind => Err(Refusal::UnexpectedBody(kind)),
        }
    }

    /// The first message of a transaction.
    fn begin(
        &mut self,
        moment: Moment,
        exchange: ExchangeId,
        message: &Message,
        checked: Checked,
        protection: Protection,
        relay: Option<Protection>,
    ) -> Result<(), Refusal> {
        let event =
            self.open_transaction(moment, message, checked, protection, relay, |nonce| {
                State::Deciding { exchange, nonce }
            })?;
        self.events.push_back(event);
        Ok(())
    }

    /// Makes the transaction of a first message; what it asks for comes back.
    fn open_transaction(
        &mut self,
        moment: Moment,
        message: &Message,
        checked: Checked,
        protection: Protection,
        relay: Option<Protection>,
        state: impl FnOnce(Vec<u8>) -> State,
    ) -> Result<Event, Refusal> {
        let id = TransactionId(checked.transaction);
        if self.transactions.contains_key(&id) || self.finished.contains(&id) {
            return Err(Refusal::TransactionInUse);
        }
        if message.header.recip_nonce.is_some() {
            return Err(Refusal::RecipNonceUnasked);
        }
        let event = request::read(id.clone(), message, &protection, relay, &self.config)?;
        if self.transactions.len() >= self.config.max_transactions {
            return Err(Refusal::Busy);
        }
        let cert_req_id = match &event {
            Event::Requested { request, .. } => Some(request.cert_req_id),
            _ => None,
        };
        let transaction = Transaction {
            kind: message.body.kind(),
            pvno: message.header.pvno,
            peer: message.header.sender.clone(),
            protection,
            cert_req_id,
            wants_implicit: rules::implicit_confirm(&message.header),
            request_nonce: checked.sender_nonce.clone(),
            seen: vec![checked.sender_nonce.clone()],
            sent_nonce: Some(Vec::new()),
            state: state(checked.sender_nonce),
            deadline: moment.now + self.config.decide_within,
        };
        self.deadlines.insert((transaction.deadline, id.clone()));
        self.transactions.insert(id, transaction);
        Ok(event)
    }

    /// A later message of a transaction.
    fn go_on(
        &mut self,
        moment: Moment,
        exchange: ExchangeId,
        message: &Message,
        checked: Checked,
        protection: &Protection,
    ) -> Result<(), Refusal> {
        let id = TransactionId(checked.transaction);
        let transaction = self
            .transactions
            .get_mut(&id)
            .ok_or(Refusal::TransactionUnknown)?;
        if !transaction.protection.same_peer(protection) {
            return Err(Refusal::PeerDiffers);
        }
        let recip_nonce = message.header.recip_nonce.as_ref();
        let recip_nonce = recip_nonce.map(OctetString::as_bytes);
        match &transaction.sent_nonce {
            Some(sent) if recip_nonce != Some(sent) => return Err(Refusal::RecipNonce),
            None if recip_nonce.is_none() => return Err(Refusal::RecipNonce),
            _ => {}
        }
        if transaction.seen.contains(&checked.sender_nonce) {
            return Err(Refusal::SenderNonceUsed);
        }
        match &*message.body {
            Body::PollReq(polls) => {
                let found = polls.len();
                let [poll] = polls.as_slice() else {
                    return Err(Refusal::Count { found });
                };
                let expected = transaction.poll_id();
                if poll.cert_req_id != expected {
                    return Err(Refusal::CertReqId {
                        expected,
                        found: poll.cert_req_id,
                    });
                }
                self.poll(moment, exchange, id, checked.sender_nonce)
            }
            Body::CertConf(statuses) => {
                self.confirm(moment, exchange, id, statuses, checked.sender_nonce)
            }
            Body::Error(error) => self.give_up(moment, exchange, id, error, checked.sender_nonce),
            other => Err(Refusal::UnexpectedBody(other.kind())),
        }
    }

    fn poll(
        &mut self,
        moment: Moment,
        exchange: ExchangeId,
        id: TransactionId,
        nonce: Vec<u8>,
    ) -> Result<(), Refusal> {
        let Some(transaction) = self.transactions.get_mut(&id) else {
            return Err(Refusal::TransactionUnknown);
        };
        let cert_req_id = transaction.poll_id();
        match &mut transaction.state {
            State::Waiting {
                check_after,
                reason,
            } => {
                let body = Body::PollRep(vec![PollResponse {
                    cert_req_id,
                    check_after: i64::try_from(check_after.as_secs()).unwrap_or(i64::MAX),
                    reason: reason.clone().map(|text| vec![text]),
                }]);
                transaction.seen = vec![nonce.clone()];
                self.set_deadline(&id, moment.now + self.config.poll_within);
                self.answer(moment, exchange, &id, body, &nonce, Vec::new(), &[]);
                Ok(())
            }
            State::Ready(decision) => {
                let decision = std::mem::replace(&mut **decision, Decision::wait());
                let recip_nonce = if self.config.delayed_answer_names_poll {
                    nonce.clone()
                } else {
                    transaction.request_nonce.clone()
                };
                transaction.seen = vec![nonce];
                self.deliver(moment, exchange, id, decision, &recip_nonce);
                Ok(())
            }
            _ => Err(Refusal::UnexpectedBody(BodyKind::PollReq)),
        }
    }

    fn confirm(
        &mut self,
        moment: Moment,
        exchange: ExchangeId,
        id: TransactionId,
        statuses: &[CertStatus],
        nonce: Vec<u8>,
    ) -> Result<(), Refusal> {
        let Some(transaction) = self.transactions.get(&id) else {
            return Err(Refusal::TransactionUnknown);
        };
        let State::Confirming { certificate } = &transaction.state else {
            return Err(Refusal::UnexpectedBody(BodyKind::CertConf));
        };
        let certificate = certificate.clone();
        let pvno = transaction.pvno;
        // An empty list rejects all certificates (RFC 9810 §5.3.18).
        let rejected = match statuses {
            [] => Some(StatusInfo::new(Status::REJECTION)),
            [status] => {
                let expected = transaction.cert_req_id.unwrap_or(0);
                if let Err(refusal) = check_confirmation(status, expected, pvno, &certificate) {
                    // Nobody knows which certificate the requester has: ours is not to be used.
                    let why = refusal.status_info();
                    self.finish(&id);
                    self.events.push_back(Event::Declined {
                        transaction: id,
                        certificate,
                        status: why,
                    });
                    return Err(refusal);
                }
                status
                    .status_info
                    .clone()
                    .filter(|info| !info.status().is_granted())
            }
            many => return Err(Refusal::Count { found: many.len() }),
        };
        self.answer(
            moment,
            exchange,
            &id,
            Body::Pkiconf(Null),
            &nonce,
            Vec::new(),
            &[],
        );
        self.finish(&id);
        self.events.push_back(match rejected {
            None => Event::Confirmed {
                transaction: id,
                certificate,
                implicit: false,
            },
            Some(status) => Event::Declined {
                transaction: id,
                certificate,
                status,
            },
        });
        Ok(())
    }

    /// The requester reports an error and ends the transaction (RFC 9483 §3.6.4).
    fn give_up(
        &mut self,
        moment: Moment,
        exchange: ExchangeId,
        id: TransactionId,
        error: &ErrorMsg,
        nonce: Vec<u8>,
    ) -> Result<(), Refusal> {
        self.answer(
            moment,
            exchange,
            &id,
            Body::Pkiconf(Null),
            &nonce,
            Vec::new(),
            &[],
        );
        let state = self.finish(&id).map(|transaction| transaction.state);
        self.events.push_back(match state {
            Some(State::Confirming { certificate }) => Event::Declined {
                transaction: id,
                certificate,
                status: error.status_info.clone(),
            },
            _ => Event::Abandoned { transaction: id },
        });
        Ok(())
    }

    /// The application's decision about what it was asked in an event.
    pub fn decide(
        &mut self,
        moment: Moment,
        id: &TransactionId,
        decision: Decision,
    ) -> Result<(), UnknownTransaction> {
        let transaction = self.transactions.get_mut(id).ok_or(UnknownTransaction)?;
        match &mut transaction.state {
            State::Deciding { exchange, nonce } => {
                let (exchange, nonce) = (*exchange, nonce.clone());
                self.deliver(moment, exchange, id.clone(), decision, &nonce);
            }
            State::Waiting {
                check_after,
                reason,
            } => match decision {
                Decision::Wait {
                    check_after: after,
                    reason: why,
                } => {
                    *check_after = after;
                    *reason = why;
                }
                decision => transaction.state = State::Ready(Box::new(decision)),
            },
            State::Ready(_) | State::Confirming { .. } => return Err(UnknownTransaction),
        }
        Ok(())
    }

    /// Sends what was decided.
    fn deliver(
        &mut self,
        moment: Moment,
        exchange: ExchangeId,
        id: TransactionId,
        decision: Decision,
        recip_nonce: &[u8],
    ) {
        let Some(transaction) = self.transactions.get_mut(&id) else {
            return;
        };
        let kind = transaction.kind;
        let cert_req_id = transaction.cert_req_id;
        match (decision, cert_req_id) {
            (
                Decision::Wait {
                    check_after,
                    reason,
                },
                _,
            ) => {
                transaction.state = State::Waiting {
                    check_after,
                    reason: reason.clone(),
                };
                self.set_deadline(&id, moment.now + self.config.poll_within);
                let mut status = StatusInfo::new(Status::WAITING);
                status.status_string = reason.map(|text| vec![text]);
                let body = rejection_body(kind, cert_req_id, status);
                self.answer(moment, exchange, &id, body, recip_nonce, Vec::new(), &[]);
            }
            (Decision::Issue(issued), Some(cert_req_id)) => {
                self.issue(moment, exchange, id, *issued, cert_req_id, recip_nonce);
            }
            (Decision::Revoked(content), None) if kind == BodyKind::Rr => {
                self.conclude(moment, exchange, &id, Body::Rp(content), recip_nonce);
            }
            (Decision::Answer(infos), None) if kind == BodyKind::Genm => {
                let written: der::Result<Vec<_>> = infos.iter().map(Info::write).collect();
                let body = match written {
                    Ok(infos) => Body::Genp(infos),
                    Err(error) => {
                        let refusal = Refusal::Internal(error.to_string());
                        Body::Error(ErrorMsg::from(refusal.status_info()))
                    }
                };
                self.conclude(moment, exchange, &id, body, recip_nonce);
            }
            (Decision::Reject(status), _) => {
                let body = rejection_body(kind, cert_req_id, status);
                self.conclude(moment, exchange, &id, body, recip_nonce);
            }
            // A decision about something else than was asked.
            _ => {
                let refusal = Refusal::Internal("the decision does not fit the request".into());
                let body = rejection_body(kind, cert_req_id, refusal.status_info());
                self.conclude(moment, exchange, &id, body, recip_nonce);
                self.events.push_back(Event::Refused {
                    exchange,
                    requester: None,
                    refusal,
                });
            }
        }
    }

    fn issue(
        &mut self,
        moment: Moment,
        exchange: ExchangeId,
        id: TransactionId,
        issued: Issued,
        cert_req_id: i64,
        recip_nonce: &[u8],
    ) {
        let Some(transaction) = self.transactions.get_mut(&id) else {
            return;
        };
        let implicit =
            transaction.wants_implicit && self.config.implicit_confirm && issued.implicit_confirm;
        let mut pair = CertifiedKeyPair::new(issued.certificate.clone());
        if issued.private_key.is_some() {
            // EnvelopedData needs version 3 (RFC 9483 §3.1).
            transaction.pvno = 3;
        }
        pair.private_key = issued.private_key;
        let body = certificate_body(
            transaction.kind,
            CertRepMessage {
                ca_pubs: (!issued.ca_pubs.is_empty()).then_some(issued.ca_pubs),
                response: vec![CertResponse {
                    cert_req_id,
                    status: StatusInfo::new(issued.status),
                    certified_key_pair: Some(pair),
                    rsp_info: None,
                }],
            },
        );
        transaction.state = State::Confirming {
            certificate: issued.certificate.clone(),
        };
        self.set_deadline(&id, moment.now + self.config.confirm_within);
        let info = if implicit {
            Info::ImplicitConfirm.write().ok()
        } else {
            moment
                .time
                .and_then(|time| rules::generalized(time + self.config.confirm_within))
                .and_then(|until| Info::ConfirmWaitTime(until).write().ok())
        };
        self.answer(
            moment,
            exchange,
            &id,
            body,
            recip_nonce,
            info.into_iter().collect(),
            &issued.extra_certs,
        );
        if implicit {
            self.finish(&id);
            self.events.push_back(Event::Confirmed {
                transaction: id,
                certificate: issued.certificate,
                implicit: true,
            });
        }
    }

    /// An answer that ends the transaction.
    fn conclude(
        &mut self,
        moment: Moment,
        exchange: ExchangeId,
        id: &TransactionId,
        body: Body,
        recip_nonce: &[u8],
    ) {
        self.answer(moment, exchange, id, body, recip_nonce, Vec::new(), &[]);
        self.finish(id);
    }

    /// Sends a message of a transaction, protected as the request was.
    #[allow(clippy::too_many_arguments, reason = "each is a part of the message")]
    fn answer(
        &mut self,
        moment: Moment,
        exchange: ExchangeId,
        id: &TransactionId,
        body: Body,
        recip_nonce: &[u8],
        general_info: Vec<InfoTypeAndValue>,
        extra_certs: &[Certificate],
    ) {
        let Some(transaction) = self.transactions.get_mut(id) else {
            return;
        };
        let nonce = rules::fresh(&mut self.rng);
        transaction.sent_nonce = Some(nonce.clone());
        let protector = self.config.protector_for(&transaction.protection);
        let sender = self.config.sender();
        let draft = Draft {
            pvno: transaction.pvno,
            sender: &sender,
            recipient: &transaction.peer,
            transaction: Some(&id.0),
            sender_nonce: &nonce,
            recip_nonce: Some(recip_nonce),
            time: moment.time,
            general_info,
        };
        let header = draft.header();
        self.transmit(exchange, &protector, header, body, extra_certs);
    }

    /// Tells the other side why not, as an error message (RFC 9483 §3.6.4).
    fn refuse(
        &mut self,
        moment: Moment,
        exchange: ExchangeId,
        header: Option<&Header>,
        requester: Option<Protection>,
        refusal: Refusal,
    ) {
        let protector = match &requester {
            Some(protection) => self.config.protector_for(protection),
            None => self.config.protector.clone(),
        };
        let nonce = rules::fresh(&mut self.rng);
        let nobody = GeneralName::directory(&Name::null());
        let (Ok(nobody), sender) = (nobody, self.config.sender()) else {
            return;
        };
        let octets = |field: Option<&OctetString>| field.map(|octets| octets.as_bytes().to_vec());
        let transaction = octets(header.and_then(|header| header.transaction_id.as_ref()));
        let recip_nonce = octets(header.and_then(|header| header.sender_nonce.as_ref()));
        let draft = Draft {
            pvno: header.map_or(2, |header| header.pvno.clamp(2, 3)),
            sender: &sender,
            recipient: header.map_or(&nobody, |header| &header.sender),
            transaction: transaction.as_deref(),
            sender_nonce: &nonce,
            recip_nonce: recip_nonce.as_deref(),
            time: moment.time,
            general_info: Vec::new(),
        };
        let body = Body::Error(ErrorMsg::from(refusal.status_info()));
        let header = draft.header();
        self.transmit(exchange, &protector, header, body, &[]);
        self.events.push_back(Event::Refused {
            exchange,
            requester,
            refusal,
        });
    }

    fn transmit(
        &mut self,
        exchange: ExchangeId,
        protector: &Protector,
        header: der::Result<Header>,
        body: Body,
        extra_certs: &[Certificate],
    ) {
        let encoded = header
            .map_err(|error| error.to_string())
            .and_then(|header| {
                protector
                    .protect(header, body, extra_certs, &mut self.rng)
                    .map_err(|error| error.to_string())
            })
            .and_then(|message| message.encode().map_err(|error| error.to_string()));
        match encoded {
            Ok(bytes) => self.transmits.push_back((exchange, bytes)),
            Err(why) => self.events.push_back(Event::Failed { exchange, why }),
        }
    }

    /// The next answer to send: once, under the exchange of its request.
    pub fn poll_transmit(&mut self) -> Option<(ExchangeId, Vec<u8>)> {
        self.transmits.pop_front()
    }

    /// The next thing that the application has to know or decide.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Authority::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Does what is due: waiting is announced, certificates that nobody confirmed are to be revoked, transactions that nobody polls end.
    pub fn handle_timeout(&mut self, moment: Moment) {
        let due: Vec<TransactionId> = self
            .deadlines
            .iter()
            .take_while(|(at, _)| *at <= moment.now)
            .map(|(_, id)| id.clone())
            .collect();
        for id in due {
            let Some(transaction) = self.transactions.get(&id) else {
                continue;
            };
            match &transaction.state {
                State::Deciding { exchange, nonce } => {
                    let (exchange, nonce) = (*exchange, nonce.clone());
                    let decision = Decision::Wait {
                        check_after: self.config.check_after,
                        reason: None,
                    };
                    self.deliver(moment, exchange, id, decision, &nonce);
                }
                State::Confirming { certificate } => {
                    let certificate = certificate.clone();
                    self.finish(&id);
                    self.events.push_back(Event::Unconfirmed {
                        transaction: id,
                        certificate,
                    });
                }
                State::Waiting { .. } => {
                    self.finish(&id);
                    self.events.push_back(Event::Abandoned { transaction: id });
                }
                State::Ready(decision) => {
                    let event = match &**decision {
                        Decision::Issue(issued) => Event::Unconfirmed {
                            transaction: id.clone(),
                            certificate: issued.certificate.clone(),
                        },
                        _ => Event::Abandoned {
                            transaction: id.clone(),
                        },
                    };
                    self.finish(&id);
                    self.events.push_back(event);
                }
            }
        }
    }

    fn set_deadline(&mut self, id: &TransactionId, at: Instant) {
        if let Some(transaction) = self.transactions.get_mut(id) {
            self.deadlines.remove(&(transaction.deadline, id.clone()));
            transaction.deadline = at;
            self.deadlines.insert((at, id.clone()));
        }
    }

    fn finish(&mut self, id: &TransactionId) -> Option<Transaction> {
        self.finished.push(id.clone());
        let transaction = self.transactions.remove(id)?;
        self.deadlines.remove(&(transaction.deadline, id.clone()));
        Some(transaction)
    }
}

/// Asks about RAs instead of requesters.
struct Relays<'a>(&'a dyn Peers);

impl Peers for Relays<'_> {
    fn secret(&self, _: &[u8]) -> Option<Secret> {
        None
    }

    fn judge(&self, signer: &Certificate, others: &[Certificate]) -> Result<(), Distrust> {
        self.0.judge_relay(signer, others)
    }

    fn certificate(&self, sender: &Name, key_id: Option<&[u8]>) -> Option<Certificate> {
        self.0.certificate(sender, key_id)
    }
}
