//! A Record comes in: is it for us, may it be processed (R-SEC.22), what is in it.

use homefleet_usp::{
    EndpointId, Record,
    error::ErrorCode,
    message::{Body, Message, MsgId, Request, Response},
    record::{PayloadSecurity, RecordBody, RecordError},
};

use homefleet_net::mtp::Route;
use homefleet_trust::Basis;

use super::{Asked, Engine, Inbound, Peer, Source, Transmit, channels::is_trusted_broker};
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
    source: Source,
}

/// An answer that waits until everything it promises is on disk.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) to: EndpointId,
    /// `None`: there is no way back.
    pub(super) reply_to: Option<Route>,
    /// The Message; `None`: the request wants no answer.
    pub(super) message: Option<Message>,
    /// What the duplicate of this request must find: the payload of the request.
    pub(super) request: Option<(MsgId, Vec<u8>)>,
}

impl Engine {
    /// Processes a Record up to the answer, which [`settle`](Self::settle) sends.
    pub(super) fn receive(&mut self, now: Now, inbound: Inbound) -> Option<Answer> {
        let Inbound { record, source } = inbound;
        // R-MTP.5: a Record for somebody else is ignored; R-ARC.2: so is one from ourselves.
        if record.to_id != self.settings.endpoint_id || record.from_id == self.settings.endpoint_id
        {
            self.stats.records_ignored += 1;
            tracing::debug!(from = %record.from_id, to = %record.to_id, "Record for somebody else");
            return None;
        }
        let source = self.way_back(source, &record.from_id)?;
        let reply_to = source.reply_to.clone();
        if let Some(fault) = self.record_fault(&record, &source) {
            return self.refuse_record(record, reply_to, fault);
        }
        let RecordBody::NoSession(payload) = &record.body else {
            if let RecordBody::Disconnect { reason, code } = &record.body {
                tracing::debug!(from = %record.from_id, code, reason, "the peer disconnects");
                self.disconnected(&record.from_id, source.channel);
            }
            // Connect Records say nothing that the agent does not know.
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
                    source,
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

    /// Where an answer goes: by the MTP that the Record came over, and never by a weaker channel. `None`: the Record is ignored.
    fn way_back(&mut self, mut source: Source, from: &EndpointId) -> Option<Source> {
        let channel = source.channel.and_then(|id| self.channels.of(id));
        if let Some(channel) = channel
            && source.reply_to.is_none()
        {
            // The sender did not say, but the configuration does.
            source.reply_to = self.way_over(from, channel);
        }
        let brokered = matches!(
            source.reply_to,
            Some(Route::Stomp { .. } | Route::Mqtt { .. })
        ) || channel.is_some_and(|channel| channel.endpoint_id.is_none());
        if brokered
            && source
                .peer
                .as_ref()
                .is_some_and(|peer| peer.basis != Basis::TrustedBroker)
        {
            // The certificate is the broker's, and says nothing about the sender.
            source.peer = None;
        }
        let reply_to = source.reply_to.as_ref();
        if source.peer.is_some() && reply_to.is_some_and(|route| !self.protects(route)) {
            // The MTP refuses this already; an answer never leaves on a weaker channel than its request came in on.
            self.stats.records_ignored += 1;
            return None;
        }
        Some(source)
    }

    /// Whether what is sent this way is protected.
    fn protects(&self, route: &Route) -> bool {
        match route {
            Route::Stomp { connection, .. } | Route::Mqtt { connection, .. } => {
                match self.channels.broker(connection) {
                    Some(channel) => is_trusted_broker(channel),
                    None => self.published.protects(route),
                }
            }
            route => self.published.protects(route),
        }
    }

    /// What is wrong with the Record as such (7100–7106).
    fn record_fault(&self, record: &Record, source: &Source) -> Option<ErrorCode> {
        if source.peer.is_none() && !self.may_come_plain(record.from_id.as_str(), source) {
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
    /// and lends nobody the name of one that has a certificate. What comes from within the device, over a UNIX domain socket,
    /// may speak for a Controller that is reached there.
    fn may_come_plain(&self, endpoint_id: &str, source: &Source) -> bool {
        let mut known = self
            .controllers
            .values()
            .filter(|known| known.endpoint_id == endpoint_id);
        if source.reply_to == Some(Route::Uds) {
            return known.any(|known| {
                known.enabled && known.ways.iter().any(|way| way.route == Route::Uds)
            });
        }
        self.settings.allow_insecure
            && known.all(|known| !known.ways.iter().any(|way| way.secure) && !known.has_certificate)
    }

    /// R-MTP.5: what came in is no Record; an Error, when what can be read of it allows one.
    pub(super) fn erroneous(&mut self, error: &RecordError, source: Source) -> Option<Answer> {
        let code = error.code();
        let known = (error.from_id().cloned(), error.to_id(), error.payload());
        let (Some(code), (Some(from), Some(to), Some(payload))) = (code, known) else {
            self.stats.records_ignored += 1;
            return None;
        };
        let own = &self.settings.endpoint_id;
        if to != own || from == *own {
            self.stats.records_ignored += 1;
            return None;
        }
        let source = self.way_back(source, &from)?;
        self.refuse(from, payload, source.reply_to, code)
    }

    /// R-MTP.5: an Error, when the Record holds a Request whose Message ID can be extracted.
    fn refuse_record(
        &mut self,
        record: Record,
        reply_to: Option<Route>,
        code: ErrorCode,
    ) -> Option<Answer> {
        let plain = record.payload_security == PayloadSecurity::Plaintext;
        let payload = match &record.body {
            RecordBody::NoSession(payload) if plain => payload.as_slice(),
            RecordBody::Session(session) if plain => {
                session.payload.first().map_or(&[][..], Vec::as_slice)
            }
            _ => &[],
        };
        self.refuse(record.from_id, payload, reply_to, code)
    }

    fn refuse(
        &mut self,
        from: EndpointId,
        payload: &[u8],
        reply_to: Option<Route>,
        code: ErrorCode,
    ) -> Option<Answer> {
        self.stats.records_refused += 1;
        tracing::debug!(%from, %code, "Record refused");
        let id = match Message::decode(payload) {
            Ok(message) => matches!(message.body, Body::Request(_)).then_some(message.id),
            Err(error) => error.msg_id().filter(|_| error.is_request()).cloned(),
        }?;
        // Without a way back there is no answer.
        reply_to.as_ref()?;
        Some(Answer {
            to: from,
            reply_to,
            message: Some(Message::error(id, code, code.name())),
            request: None,
        })
    }

    fn request(
        &mut self,
        now: Now,
        sender: Sender,
        reply_to: Option<Route>,
        id: MsgId,
        request: Request,
        payload: &[u8],
    ) -> Option<Answer> {
        let Sender {
            endpoint_id: from,
            source,
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
        let result = self.process(now, &from, &source, &request);
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
        source: &Source,
        request: &Request,
    ) -> Result<Option<Response>, Failure> {
        let peer: Option<&Peer> = source.peer.as_ref();
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
        if matches!(source.reply_to, Some(Route::Coap(_))) {
            self.heard(&row);
        }
        self.confirm_by_record(from, source);
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
                if matches!(
                    request,
                    Request::Set(_) | Request::Add(_) | Request::Delete(_)
                ) {
                    self.asked = Some(Asked {
                        endpoint_id: from.clone(),
                        source: source.clone(),
                    });
                }
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
        let (Some(message), Some(bytes), Some(route)) = (message, bytes, reply_to) else {
            return;
        };
        if matches!(message.body, Body::Error(_)) {
            self.stats.errors_sent += 1;
        }
        // R-MSG.0a: the same type of Record.
        let record = Record::no_session(to.clone(), self.settings.endpoint_id.clone(), bytes);
        self.push(Transmit {
            route,
            endpoint_id: to,
            record: record.encode(),
            notification: None,
        });
    }
}

fn error_message(id: MsgId, failure: Failure) -> Message {
    let code = failure.code();
    Message::error_with(id, code, failure.fault.message, failure.errors)
}
