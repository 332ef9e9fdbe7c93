//! A Record comes in: is it for us, may it be processed (R-SEC.22), what is in it.

use homefleet_usp::{
    EndpointId, Record,
    error::ErrorCode,
    message::{Body, Message, MsgId, Request, Response},
    record::{PayloadSecurity, RecordBody},
};

use super::{Action, Engine, Inbound, Peer, Transmit};
use crate::{
    local_agent,
    provider::Now,
    request::{self, Bounds, Caller, Failure, Fault},
    role::Rights,
};

/// What a Record adds to its Message at most: two Endpoint IDs and the fields around them.
const RECORD_OVERHEAD: usize = 512;

/// Who sent a request.
struct Sender {
    endpoint_id: EndpointId,
    peer: Option<Peer>,
}

/// An answer that waits until everything it promises is on disk.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) to: EndpointId,
    pub(super) reply_to: String,
    /// The Message; `None`: the request wants no answer.
    pub(super) message: Option<Message>,
    /// What the duplicate of this request must find: the payload of the request.
    pub(super) request: Option<(MsgId, Vec<u8>)>,
}

impl Engine {
    /// Processes a Record up to the answer, which [`settle`](Self::settle) sends.
    pub(super) fn receive(&mut self, now: Now, inbound: Inbound) -> Option<Answer> {
        let Inbound {
            record,
            peer,
            reply_to,
        } = inbound;
        let secure = peer.is_some();
        // R-MTP.5: a Record for somebody else is ignored; R-ARC.2: so is one from ourselves.
        if record.to_id != self.settings.endpoint_id || record.from_id == self.settings.endpoint_id
        {
            self.stats.records_ignored += 1;
            tracing::debug!(from = %record.from_id, to = %record.to_id, "Record for somebody else");
            return None;
        }
        if secure && !reply_to.starts_with("coaps:") {
            // The MTP refuses this already; an answer never leaves on a weaker channel than its request came in on.
            self.stats.records_ignored += 1;
            return None;
        }
        if let Some(fault) = self.record_fault(&record, secure) {
            return self.refuse_record(record, reply_to, fault);
        }
        let RecordBody::NoSession(payload) = &record.body else {
            // Connect and Disconnect Records carry no Message, and CoAP has no connection to note.
            self.stats.records_ignored += 1;
            return None;
        };
        let from = record.from_id.clone();
        let message = match Message::decode(payload) {
            Ok(message) => message,
            Err(error) => {
                // R-MSG.1: an Error when there is a Message ID to put into it.
                tracing::debug!(%from, %error, "Message not understood");
                let Some(id) = error.msg_id().filter(|_| error.is_request()) else {
                    self.stats.records_ignored += 1;
                    return None;
                };
                let message = Message::error(id.clone(), error.code(), error.to_string());
                return Some(Answer {
                    to: from,
                    reply_to,
                    message: Some(message),
                    request: None,
                });
            }
        };
        match message.body {
            Body::Request(request) => {
                let from = Sender {
                    endpoint_id: from,
                    peer,
                };
                self.request(now, from, reply_to, message.id, request, payload)
            }
            Body::Response(Response::NotifyResp(_)) => {
                self.answered(&message.id, from.as_str(), true);
                None
            }
            Body::Error(error) => {
                tracing::warn!(%from, code = error.err_code, text = error.err_msg, "the controller answered an Error");
                self.answered(&message.id, from.as_str(), false);
                None
            }
            // R-MSG.9: an answer to nothing that was asked.
            Body::Response(_) => {
                self.stats.records_ignored += 1;
                None
            }
        }
    }

    /// What is wrong with the Record as such (7100–7106).
    fn record_fault(&self, record: &Record, secure: bool) -> Option<ErrorCode> {
        if !secure && !self.may_come_plain(record.from_id.as_str()) {
            return Some(ErrorCode::SECURE_SESSION_REQUIRED);
        }
        if record.payload_security != PayloadSecurity::Plaintext {
            return Some(ErrorCode::SECURE_SESSION_NOT_SUPPORTED);
        }
        match &record.body {
            RecordBody::Session(_) => Some(ErrorCode::SESSION_CONTEXT_NOT_ALLOWED),
            _ => None,
        }
    }

    /// Whether Records of this Endpoint may come unencrypted: `allow_insecure` is for Controllers that are reached so,
    /// and lends nobody the name of one that has a certificate.
    fn may_come_plain(&self, endpoint_id: &str) -> bool {
        self.settings.allow_insecure
            && self
                .controllers
                .values()
                .filter(|known| known.endpoint_id == endpoint_id)
                .all(|known| {
                    let reached = known.uri.as_deref();
                    !reached.is_some_and(|uri| uri.starts_with("coaps:")) && !known.has_certificate
                })
    }

    /// R-MTP.5: an Error, when the Record holds a Request whose Message ID can be extracted.
    fn refuse_record(
        &mut self,
        record: Record,
        reply_to: String,
        code: ErrorCode,
    ) -> Option<Answer> {
        self.stats.records_refused += 1;
        tracing::debug!(from = %record.from_id, %code, "Record refused");
        let plain = record.payload_security == PayloadSecurity::Plaintext;
        let payload = match &record.body {
            RecordBody::NoSession(payload) if plain => payload.as_slice(),
            RecordBody::Session(session) if plain => {
                session.payload.first().map_or(&[][..], Vec::as_slice)
            }
            _ => return None,
        };
        let message = Message::decode(payload).ok()?;
        if !matches!(message.body, Body::Request(_)) {
            return None;
        }
        let error = Message::error(message.id, code, code.name());
        Some(Answer {
            to: record.from_id,
            reply_to,
            message: Some(error),
            request: None,
        })
    }

    fn request(
        &mut self,
        now: Now,
        sender: Sender,
        reply_to: String,
        id: MsgId,
        request: Request,
        payload: &[u8],
    ) -> Option<Answer> {
        let Sender {
            endpoint_id: from,
            peer,
        } = sender;
        if let Some(known) = self
            .duplicates
            .find(now.instant, from.as_str(), id.as_str(), payload)
        {
            self.stats.duplicates += 1;
            let message = known.and_then(|bytes| Message::decode(&bytes).ok());
            return Some(Answer {
                to: from,
                reply_to,
                message,
                request: None,
            });
        }
        self.stats.requests += 1;
        let result = self.process(now, &from, peer.as_ref(), &request);
        // Who may do nothing here does not push the answers of controllers out.
        let tree = &self.device.tree;
        let known = local_agent::controller(tree, from.as_str())
            .is_some_and(|row| !Rights::of(tree, &row).is_empty());
        let message = match result {
            Ok(Some(response)) => Some(Message::response(id.clone(), response)),
            Ok(None) => None,
            Err(failure) => {
                tracing::debug!(%from, code = failure.fault.code, text = failure.fault.message, "request failed");
                Some(error_message(id.clone(), failure))
            }
        };
        Some(Answer {
            to: from,
            reply_to,
            message,
            request: known.then(|| (id, payload.to_vec())),
        })
    }

    /// The response to a request; `None`: it wants none (R-OPR.4).
    fn process(
        &mut self,
        now: Now,
        from: &EndpointId,
        peer: Option<&Peer>,
        request: &Request,
    ) -> Result<Option<Response>, Failure> {
        let known = local_agent::controller(&self.device.tree, from.as_str());
        let row = known.or_else(|| peer.and_then(|peer| self.meet(now, from.as_str(), peer)));
        let Some(row) = row else {
            // R-SEC.1: who is not in the Controller table has no role, and thus no permission.
            self.stats.permission_denied += 1;
            return Err(Fault::new(
                7006,
                format!("{from} is not an enabled Controller of this Agent"),
            )
            .into());
        };
        if let Some(peer) = peer.filter(|peer| !self.vouches(&row, peer)) {
            // R-SEC.8: the certificate that is known for this Endpoint is another one.
            self.stats.permission_denied += 1;
            tracing::warn!(%from, basis = %peer.basis, "not the certificate that is known for it");
            return Err(
                Fault::new(7006, format!("{from} is known with another certificate")).into(),
            );
        }
        self.reach.remove(&row);
        if let Some(heard) = self.met.get_mut(&row) {
            *heard = now.instant;
        }
        self.determine_role(&row, peer);
        let rights = Rights::of(&self.device.tree, &row);
        if rights.is_empty() {
            self.stats.permission_denied += 1;
            return Err(
                Fault::new(7006, format!("{from} has no role that permits anything")).into(),
            );
        }
        let caller = Caller {
            endpoint_id: from.to_string(),
            row,
            rights,
        };
        self.refresh_own(now);
        match request {
            Request::Operate(operate) => self.operate(now, &caller, operate),
            request => {
                let bounds = Bounds {
                    max_subscriptions: self.settings.limits.max_subscriptions,
                    max_response: self.settings.limits.max_record,
                };
                request::process(&mut self.device, &caller, request, bounds, now).map(Some)
            }
        }
    }

    /// Queues an answer for sending.
    pub(super) fn send(&mut self, now: Now, answer: Answer) {
        let Answer {
            to,
            reply_to,
            mut message,
            request,
        } = answer;
        let mut bytes = message.as_ref().map(Message::encode);
        if let (Some(long), Some(size)) = (&mut message, bytes.as_ref().map(Vec::len))
            && size + RECORD_OVERHEAD > self.settings.limits.max_record
        {
            // No MTP would take it: the controller is told, and can ask for less at a time.
            let text = format!("the response has {size} bytes, more than the agent sends");
            *long = Message::error(long.id.clone(), ErrorCode(7005), text);
            bytes = Some(long.encode());
        }
        if let Some((id, payload)) = request {
            self.duplicates.insert(
                now.instant,
                to.as_str(),
                id.as_str(),
                &payload,
                bytes.clone(),
            );
        }
        let (Some(message), Some(bytes)) = (message, bytes) else {
            return;
        };
        if matches!(message.body, Body::Error(_)) {
            self.stats.errors_sent += 1;
        }
        // R-MSG.0a: the same type of Record.
        let record = Record::no_session(to.clone(), self.settings.endpoint_id.clone(), bytes);
        self.actions.push_back(Action::Transmit(Transmit {
            uri: reply_to,
            endpoint_id: to.to_string(),
            record: record.encode(),
            controller: None,
        }));
    }
}

fn error_message(id: MsgId, failure: Failure) -> Message {
    let code = failure.code();
    Message::error_with(id, code, failure.fault.message, failure.errors)
}
