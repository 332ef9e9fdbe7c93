//! One session of a CPE.

use std::time::{Duration, Instant};

use super::{Config, CpeEvent, Failure, InformContent, NotNow, Reply, RequestId, pending::Pending};
use crate::{
    Envelope, Event, Fault, FaultCode, Header, Malformed, Message, Method, Namespace, Side,
    Version,
    fault::Retry,
    message::{Callee, GetRPCMethodsResponse, Inform},
};

/// A session from its Inform to its end.
pub(super) struct Session {
    turn: Turn,
    version: Version,
    /// The ACS has asked to hold requests.
    hold: bool,
    informed: bool,
    /// For an ACS that asks for it again.
    inform: Message,
    /// How often the ACS asked for the same request again.
    repeats: u32,
    exchanges: u32,
    ids: u64,
    deadline: Instant,
}

/// Whose turn it is, and what comes next.
enum Turn {
    /// The ACS answers the Inform with this ID.
    InformResponse(String),
    /// The ACS answers a request of ours.
    Response(RequestId, Method, String),
    /// The ACS asks, or ends.
    Request,
    /// The application answers a request of the ACS with this ID.
    Application(Method, Option<String>),
}

/// What follows.
pub(super) enum Step {
    Nothing,
    Post(Vec<u8>),
    Tell(CpeEvent),
    End,
    Fail(Failure, Option<Duration>),
}

impl Session {
    /// A session and its first POST.
    pub(super) fn inform(
        now: Instant,
        config: &Config,
        version: Version,
        events: Vec<Event>,
        retry_count: u32,
        content: InformContent,
    ) -> (Self, Vec<u8>) {
        let inform = Inform {
            device: content.device,
            events,
            max_envelopes: 1,
            current_time: content.current_time,
            retry_count,
            values: content.values,
        };
        let mut session = Self {
            turn: Turn::Request,
            version,
            hold: false,
            informed: false,
            inform: inform.into(),
            repeats: 0,
            exchanges: 0,
            ids: 0,
            deadline: now + config.timeout,
        };
        let body = session.send_inform(now, config);
        (session, body)
    }

    /// When the ACS is too late; `None` while it is the application's turn.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (!matches!(self.turn, Turn::Application(..))).then_some(self.deadline)
    }

    /// Whether the failure may be because the ACS does not know our version.
    pub(super) fn may_be_too_new(&self, reason: &Failure) -> bool {
        let answered = matches!(
            reason,
            Failure::Refused(_)
                | Failure::Malformed(_)
                | Failure::OutOfOrder(..)
                | Failure::Http(super::HttpFailure::Status(_))
        );
        !self.informed && answered
    }

    /// What came for our POST.
    pub(super) fn reply(
        &mut self,
        now: Instant,
        config: &Config,
        pending: &mut Pending,
        reply: Reply<'_>,
    ) -> Step {
        if matches!(self.turn, Turn::Application(..)) {
            return Step::Nothing; // a reply to nothing
        }
        self.exchanges += 1;
        if self.exchanges > config.most_exchanges {
            return Step::Fail(Failure::TooLong, None);
        }
        let bytes = match reply {
            Reply::Failed(failure) => return Step::Fail(Failure::Http(failure), None),
            Reply::Unavailable(wait) => return Step::Fail(Failure::Unavailable, wait),
            Reply::Empty => return self.empty(now, config, pending),
            Reply::Envelope(bytes) => bytes,
        };
        match Envelope::decode(bytes, &config.limits) {
            Ok(envelope) => {
                self.hold = envelope.header.hold_requests;
                self.envelope(now, config, pending, envelope)
            }
            Err(malformed) => self.malformed(now, config, malformed),
        }
    }

    /// The ACS has nothing to say: it is our turn, held or not.
    fn empty(&mut self, now: Instant, config: &Config, pending: &Pending) -> Step {
        let due = match &self.turn {
            Turn::InformResponse(_) => "InformResponse",
            Turn::Response(_, method, _) => method.name(),
            Turn::Request | Turn::Application(..) => {
                self.hold = false;
                return match self.next_request(now, config, pending) {
                    Some(body) => Step::Post(body),
                    None => Step::End,
                };
            }
        };
        Step::Fail(Failure::OutOfOrder("nothing", due), None)
    }

    fn envelope(
        &mut self,
        now: Instant,
        config: &Config,
        pending: &mut Pending,
        envelope: Envelope,
    ) -> Step {
        let name = envelope.message.name();
        match &self.turn {
            Turn::InformResponse(id) => {
                if !matches_id(id, &envelope) {
                    return Step::Fail(Failure::WrongId, None);
                }
                match &envelope.message {
                    Message::InformResponse(_) => self.informed(pending, &envelope),
                    Message::Fault(fault) => match self.repeat(config, fault) {
                        true => Step::Post(self.send_inform(now, config)),
                        false => Step::Fail(Failure::Refused(fault.code), None),
                    },
                    _ => Step::Fail(Failure::OutOfOrder(name, "InformResponse"), None),
                }
            }
            Turn::Response(id, method, text) => {
                let (id, method) = (*id, *method);
                if !matches_id(text, &envelope) {
                    return Step::Fail(Failure::WrongId, None);
                }
                match envelope.message {
                    Message::Fault(fault) => {
                        if self.repeat(config, &fault)
                            && let Some(message) = pending.message(id)
                        {
                            return Step::Post(self.send(now, config, id, message));
                        }
                        pending.answered(id);
                        Step::Tell(CpeEvent::Refused { id, fault })
                    }
                    response if !response.is_request() && response.method() == Some(method) => {
                        pending.answered(id);
                        Step::Tell(CpeEvent::Answered { id, response })
                    }
                    _ => Step::Fail(Failure::OutOfOrder(name, method.name()), None),
                }
            }
            Turn::Request | Turn::Application(..) => self.request(now, config, envelope),
        }
    }

    /// The Inform is answered: which version it is, and what is delivered.
    fn informed(&mut self, pending: &mut Pending, envelope: &Envelope) -> Step {
        let offered = self.version;
        if envelope.header.not_understood.as_deref() == Some("UseCWMPVersion") {
            return Step::Fail(Failure::Version, None);
        }
        let spoken = match (envelope.header.use_version, envelope.namespace) {
            (Some(chosen), _) if offered == Version::V1_4 => chosen,
            // One that chooses no version is older than 1.4.
            (_, Some(Namespace::V1_2)) => Version::V1_3,
            (_, Some(namespace)) => namespace.version(),
            (_, None) => Version::V1_0,
        };
        self.version = spoken.min(offered);
        self.informed = true;
        self.turn = Turn::Request;
        Step::Tell(CpeEvent::Informed {
            version: self.version,
            delivered: pending.delivered(),
        })
    }

    /// Our next request, or an empty POST.
    pub(super) fn go_on(&mut self, now: Instant, config: &Config, pending: &Pending) -> Step {
        let held = self.hold;
        let request = match held {
            true => None,
            false => self.next_request(now, config, pending),
        };
        Step::Post(request.unwrap_or_else(|| {
            self.turn = Turn::Request;
            self.deadline = now + config.timeout;
            Vec::new()
        }))
    }

    /// The oldest request of ours that the version has.
    fn next_request(
        &mut self,
        now: Instant,
        config: &Config,
        pending: &Pending,
    ) -> Option<Vec<u8>> {
        let known = |message: &Message| message.method().is_some_and(|m| m.since() <= self.version);
        let (id, message) = pending.first(known)?;
        self.repeats = 0;
        Some(self.send(now, config, id, message))
    }

    /// A request of the ACS.
    fn request(&mut self, now: Instant, config: &Config, envelope: Envelope) -> Step {
        let name = envelope.message.name();
        let method = envelope
            .message
            .method()
            .filter(|_| envelope.message.is_request());
        let Some(method) = method else {
            return Step::Fail(Failure::OutOfOrder(name, "a request or the end"), None);
        };
        let id = envelope.header.id;
        self.turn = Turn::Application(method, id);
        if method == Method::GetRpcMethods {
            let methods = self.methods(config);
            return self.answer(now, config, GetRPCMethodsResponse { methods }.into());
        }
        if method.callee() == Callee::Acs || !config.methods.contains(&method) {
            let fault = Fault::new(FaultCode::METHOD_NOT_SUPPORTED);
            return self.answer(now, config, fault.into());
        }
        Step::Tell(CpeEvent::Request(envelope.message))
    }

    fn methods(&self, config: &Config) -> Vec<String> {
        let own = Method::of_cpe().filter(|method| {
            let answered = *method == Method::GetRpcMethods || config.methods.contains(method);
            answered && method.since() <= self.version
        });
        let own = own.map(|method| method.name().to_owned());
        own.chain(config.vendor_methods.iter().cloned()).collect()
    }

    /// What cannot be read: a request is answered with a fault, anything else ends the session.
    fn malformed(&mut self, now: Instant, config: &Config, malformed: Malformed) -> Step {
        match malformed.error.fault_code(Side::Cpe) {
            Some(code) if matches!(self.turn, Turn::Request) => {
                self.turn = Turn::Application(Method::GetRpcMethods, malformed.header.id.clone());
                let fault = Fault::with_text(code, malformed.error.to_string());
                self.answer(now, config, fault.into())
            }
            _ => Step::Fail(Failure::Malformed(malformed.error), None),
        }
    }

    fn answer(&mut self, now: Instant, config: &Config, message: Message) -> Step {
        match self.respond(now, config, message) {
            Ok(body) => Step::Post(body),
            Err(NotNow) => Step::Nothing,
        }
    }

    /// The POST that answers the ACS.
    pub(super) fn respond(
        &mut self,
        now: Instant,
        config: &Config,
        message: Message,
    ) -> Result<Vec<u8>, NotNow> {
        let Turn::Application(method, id) = &self.turn else {
            return Err(NotNow);
        };
        let fits = match &message {
            Message::Fault(_) => true,
            other => !other.is_request() && other.method() == Some(*method),
        };
        if !fits {
            return Err(NotNow);
        }
        let header = Header {
            id: id.clone(),
            ..Header::default()
        };
        self.turn = Turn::Request;
        self.deadline = now + config.timeout;
        Ok(Envelope::new(self.version.namespace(), header, message).encode())
    }

    /// Whether the ACS asks for the same again, and may.
    fn repeat(&mut self, config: &Config, fault: &Fault) -> bool {
        self.repeats += 1;
        fault.code.retry() == Retry::AtOnce && self.repeats <= config.repeats
    }

    fn send_inform(&mut self, now: Instant, config: &Config) -> Vec<u8> {
        let (id, mut header) = self.header(now, config);
        if self.version >= Version::V1_3 {
            header.session_timeout = config.session_timeout;
        }
        if self.version >= Version::V1_4 {
            let own = Version::ALL.into_iter();
            let spoken = own.filter(|own| *own <= self.version);
            header.supported_versions = Some(spoken.collect());
        }
        self.turn = Turn::InformResponse(id);
        Envelope::new(self.version.namespace(), header, self.inform.clone()).encode()
    }

    fn send(&mut self, now: Instant, config: &Config, id: RequestId, message: Message) -> Vec<u8> {
        let (text, header) = self.header(now, config);
        let method = message.method().unwrap_or(Method::GetRpcMethods);
        self.turn = Turn::Response(id, method, text);
        Envelope::new(self.version.namespace(), header, message).encode()
    }

    fn header(&mut self, now: Instant, config: &Config) -> (String, Header) {
        self.ids += 1;
        self.deadline = now + config.timeout;
        let id = self.ids.to_string();
        (id.clone(), Header::with_id(id))
    }
}

/// Whether the answer names the request, or none: some ACSs leave the ID out.
fn matches_id(id: &str, envelope: &Envelope) -> bool {
    envelope
        .header
        .id
        .as_deref()
        .is_none_or(|own| own.trim() == id)
}
