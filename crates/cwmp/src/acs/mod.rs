//! The session of an ACS with one CPE (TR-069 §3.7), one for each session cookie.
//!
//! ```text
//!         Inform             accept                request
//!   New ─────────> Informing ───────> Listening <──────────> Asked        CPE's requests, one by one
//!                     │ refuse          │    ^   respond, refuse
//!                     v      empty POST v    │
//!                   Ended              Ready <──────────────┐
//!                     ^         finish │  │ send            │ response, fault
//!                     │ time, garbage  v  └──────────> Waiting            our requests, one by one
//!                     └──────────── Finished ──> a late request of the CPE is still served
//! ```
//!
//! Drive it so: [`Session::handle_input`] for each POST (an empty slice for an empty one), then drain [`Session::poll_event`]. What an event asks for may
//! take its time. The POST's answer is what [`Session::poll_transmit`] has then: one for each POST.

mod config;

use std::{collections::VecDeque, time::Instant};

pub use config::{AcsEvent, Config, Counters, Outcome, SendError, Transmit};

use crate::{
    Envelope, Fault, FaultCode, Header, Malformed, Message, Method, Namespace, Side, Version,
    message::{Callee, GetRPCMethodsResponse, InformResponse},
};

/// Names a request of ours within its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

/// A POST came before the last one was answered, or a call does not fit what is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not now")]
pub struct NotNow;

/// A session with a CPE.
pub struct Session {
    config: Config,
    state: State,
    version: Version,
    /// Ask the CPE to send no requests of its own for now.
    hold: bool,
    /// Since when the CPE is waited for, and how long it may take.
    deadline: Option<Instant>,
    timeout: std::time::Duration,
    next_id: u64,
    /// A POST is not answered yet.
    owed: bool,
    counters: Counters,
    transmits: VecDeque<Transmit>,
    events: VecDeque<AcsEvent>,
}

enum State {
    New,
    /// The application decides about an Inform with this header.
    Informing {
        id: Option<String>,
        negotiates: bool,
    },
    /// The CPE's turn.
    Listening,
    /// The application answers a request of the CPE with this ID.
    Asked {
        method: Method,
        id: Option<String>,
    },
    /// The application's turn.
    Ready,
    /// The CPE's turn to answer.
    Waiting {
        id: RequestId,
        method: Method,
    },
    /// We have nothing more to say.
    Finished,
    Ended,
}

impl Session {
    /// A session that nothing is known of.
    pub fn new(now: Instant, config: Config) -> Self {
        let timeout = config.timeout;
        Self {
            state: State::New,
            version: Version::V1_0,
            hold: false,
            deadline: Some(now + timeout),
            timeout,
            next_id: 0,
            owed: false,
            counters: Counters::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            config,
        }
    }

    /// A POST.
    ///
    /// # Errors
    /// When the last one is not answered yet: nothing happens then, and the POST is HTTP's to answer (503).
    pub fn handle_input(&mut self, now: Instant, body: &[u8]) -> Result<(), NotNow> {
        let owes = matches!(
            self.state,
            State::Informing { .. } | State::Asked { .. } | State::Ready
        );
        if owes || self.owed {
            return Err(NotNow);
        }
        self.owed = true;
        self.counters.posts += 1;
        self.deadline = None;
        if self.counters.posts > u64::from(self.config.most_posts) {
            self.leave(Outcome::TooLong);
        } else if body.iter().all(u8::is_ascii_whitespace) {
            self.empty(now);
        } else {
            match Envelope::decode(body, &self.config.limits) {
                Ok(envelope) => self.envelope(now, envelope),
                Err(malformed) => self.malformed(now, malformed),
            }
        }
        Ok(())
    }

    /// Lets the CPE of the Inform in.
    ///
    /// # Errors
    /// When there is no Inform to decide about.
    pub fn accept(&mut self, now: Instant) -> Result<(), NotNow> {
        let State::Informing { id, negotiates } = &self.state else {
            return Err(NotNow);
        };
        let header = Header {
            id: id.clone(),
            hold_requests: self.hold,
            use_version: negotiates.then_some(self.version),
            ..Header::default()
        };
        self.state = State::Listening;
        self.answer(now, header, InformResponse { max_envelopes: 1 }.into());
        Ok(())
    }

    /// Refuses the Inform, which ends the session unless the fault asks for it again (8005), or a request of the CPE.
    ///
    /// # Errors
    /// When there is neither.
    pub fn refuse(&mut self, now: Instant, fault: Fault) -> Result<(), NotNow> {
        let again = fault.code == FaultCode::ACS_RETRY_REQUEST;
        match &self.state {
            State::Informing { id, .. } => {
                let id = id.clone();
                self.state = State::New;
                self.answer(
                    now,
                    Header {
                        id,
                        ..Header::default()
                    },
                    fault.into(),
                );
                if !again {
                    self.end(Outcome::Refused);
                }
            }
            State::Asked { id, .. } => {
                let id = id.clone();
                self.state = State::Listening;
                self.answer_held(now, id, fault.into());
            }
            _ => return Err(NotNow),
        }
        Ok(())
    }

    /// Answers a request of the CPE.
    ///
    /// # Errors
    /// When there is none, or it is the answer to another method.
    pub fn respond(&mut self, now: Instant, response: impl Into<Message>) -> Result<(), NotNow> {
        let State::Asked { method, id } = &self.state else {
            return Err(NotNow);
        };
        let response = response.into();
        if response.is_request() || response.method() != Some(*method) {
            return Err(NotNow);
        }
        let id = id.clone();
        self.state = State::Listening;
        self.answer_held(now, id, response);
        Ok(())
    }

    /// Sends a request of ours.
    ///
    /// # Errors
    /// When it is not our turn, or the message is none that this CPE knows.
    pub fn send(
        &mut self,
        now: Instant,
        request: impl Into<Message>,
    ) -> Result<RequestId, SendError> {
        if !matches!(self.state, State::Ready) {
            return Err(SendError::NotNow);
        }
        let request = request.into();
        let method = request.method().filter(|_| request.is_request());
        let method = method.filter(|method| method.callee() != Callee::Acs);
        let method = method.ok_or(SendError::NotARequest)?;
        if method.since() > self.version {
            return Err(SendError::Version(self.version));
        }
        self.next_id += 1;
        let id = RequestId(self.next_id);
        self.state = State::Waiting { id, method };
        let text = Some(self.next_id.to_string());
        self.answer_held(now, text, request);
        Ok(id)
    }

    /// We have nothing more to say: 204. The session is over for us; what the CPE still has, it may say.
    ///
    /// # Errors
    /// When it is not our turn.
    pub fn finish(&mut self, now: Instant) -> Result<(), NotNow> {
        if !matches!(self.state, State::Ready) {
            return Err(NotNow);
        }
        self.state = State::Finished;
        self.hold = false;
        self.deadline = Some(now + self.config.linger);
        self.push(204, Vec::new(), false);
        Ok(())
    }

    /// Asks the CPE to hold its requests, in every envelope from now on, until taken back or until [`Session::finish`].
    pub fn set_hold(&mut self, hold: bool) {
        self.hold = hold;
    }

    /// Ends the session, whatever is going on. A POST that is not answered yet is answered with 400.
    pub fn abort(&mut self) {
        self.leave(Outcome::Aborted);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|at| at <= now) {
            let outcome = match self.state {
                State::Finished => Outcome::Done,
                _ => Outcome::TimedOut,
            };
            self.end(outcome);
        }
    }

    /// When [`Session::handle_timeout`] is to be called; `None` while the application is to act.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// The answer to the last POST.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<AcsEvent> {
        self.events.pop_front()
    }

    /// The version of the session, as far as it is known.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether the session is over, and a POST with its cookie gets 400 unless it is an Inform.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// What the session has put up with.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn empty(&mut self, now: Instant) {
        match &self.state {
            State::Listening => {
                self.state = State::Ready;
                self.events.push_back(AcsEvent::Ready);
            }
            State::Finished => {
                self.deadline = Some(now + self.config.linger);
                self.push(204, Vec::new(), false);
            }
            State::Waiting { .. } => self.leave(Outcome::OutOfOrder("nothing")),
            _ => {
                self.counters.out_of_the_blue += 1;
                self.leave(Outcome::OutOfOrder("nothing"));
            }
        }
    }

    fn envelope(&mut self, now: Instant, envelope: Envelope) {
        if let Message::Inform(_) = envelope.message {
            return self.inform(now, envelope);
        }
        if let State::Waiting { id, method } = self.state {
            return self.response(id, method, envelope);
        }
        let method = envelope.message.method();
        let Some(method) = method.filter(|_| envelope.message.is_request()) else {
            return self.leave(Outcome::OutOfOrder(envelope.message.name()));
        };
        match self.state {
            State::Listening | State::Finished => self.request(now, method, envelope),
            // Before any Inform, nobody is known who could ask.
            _ => {
                self.counters.out_of_the_blue += 1;
                self.speak(envelope.namespace);
                self.reject(
                    now,
                    envelope.header.id,
                    Fault::new(FaultCode::ACS_REQUEST_DENIED),
                );
                self.end(Outcome::OutOfOrder(method.name()));
            }
        }
    }

    fn inform(&mut self, now: Instant, envelope: Envelope) {
        match self.state {
            State::New | State::Ended => {}
            State::Finished => self.end(Outcome::Done),
            _ => self.end(Outcome::Interrupted),
        }
        self.deadline = None;
        let Message::Inform(inform) = envelope.message else {
            return;
        };
        let asked = envelope.header.session_timeout.unwrap_or(0);
        let asked = std::time::Duration::from_secs(asked.into());
        self.timeout = asked
            .min(self.config.longest_timeout)
            .max(self.config.timeout);
        let supported = envelope.header.supported_versions;
        let supported = supported.filter(|_| self.config.version >= Version::V1_4);
        let negotiates = supported.is_some();
        self.speak(envelope.namespace);
        if let Some(supported) = supported {
            let common = supported.iter().filter(|own| **own <= self.config.version);
            let Some(common) = common.max() else {
                let fault = Fault::new(FaultCode::ACS_VERSION_INCOMPATIBLE);
                self.reject(now, envelope.header.id, fault);
                return self.end(Outcome::Refused);
            };
            self.version = *common;
        }
        self.state = State::Informing {
            id: envelope.header.id,
            negotiates,
        };
        self.events.push_back(AcsEvent::Inform {
            inform: Box::new(inform),
            version: self.version,
        });
    }

    /// The version of a namespace that the CPE uses, as far as we speak it.
    fn speak(&mut self, namespace: Option<Namespace>) {
        let spoken = match namespace {
            // 1.3 is told by nothing; its methods are those of 1.2.
            Some(namespace) => namespace.version(),
            None => Version::V1_0,
        };
        self.version = spoken.min(self.config.version);
    }

    fn request(&mut self, now: Instant, method: Method, envelope: Envelope) {
        let id = envelope.header.id;
        self.state = State::Listening;
        if method == Method::GetRpcMethods {
            let own = Method::of_acs().filter(|method| {
                let always = matches!(method, Method::GetRpcMethods | Method::Inform);
                always || self.config.methods.contains(method)
            });
            let known = own.filter(|method| method.since() <= self.version);
            let methods = known.map(|method| method.name().to_owned()).collect();
            return self.answer_held(now, id, GetRPCMethodsResponse { methods }.into());
        }
        if method.callee() == Callee::Cpe || !self.config.methods.contains(&method) {
            self.counters.unsupported += 1;
            let fault = Fault::new(FaultCode::ACS_METHOD_NOT_SUPPORTED);
            return self.answer_held(now, id, fault.into());
        }
        self.state = State::Asked { method, id };
        self.events.push_back(AcsEvent::Request(envelope.message));
    }

    fn response(&mut self, id: RequestId, method: Method, envelope: Envelope) {
        match envelope.header.id.as_deref() {
            // Some devices leave it out.
            None => self.counters.without_id += 1,
            Some(own) if own.trim() == id.0.to_string() => {}
            Some(_) => return self.leave(Outcome::WrongId),
        }
        let event = match envelope.message {
            Message::Fault(fault) => AcsEvent::Fault {
                id,
                retry: fault.code.retry(),
                fault,
            },
            message if !message.is_request() && message.method() == Some(method) => {
                AcsEvent::Response { id, message }
            }
            other => return self.leave(Outcome::OutOfOrder(other.name())),
        };
        self.state = State::Ready;
        self.events.push_back(event);
        self.events.push_back(AcsEvent::Ready);
    }

    fn malformed(&mut self, now: Instant, malformed: Malformed) {
        self.counters.malformed += 1;
        let error = malformed.error;
        let code = error.fault_code(Side::Acs);
        match (&self.state, code) {
            (State::Waiting { id, .. }, Some(_)) => {
                let id = *id;
                self.state = State::Ready;
                self.events.push_back(AcsEvent::Unreadable { id, error });
                self.events.push_back(AcsEvent::Ready);
            }
            (State::Listening | State::Finished, Some(code)) => {
                self.state = State::Listening;
                let fault = Fault::with_text(code, error.to_string());
                self.answer_held(now, malformed.header.id, fault.into());
            }
            (_, Some(code)) => {
                self.speak(malformed.namespace);
                let fault = Fault::with_text(code, error.to_string());
                self.reject(now, malformed.header.id, fault);
                self.end(Outcome::Malformed(error));
            }
            (_, None) => self.leave(Outcome::Malformed(error)),
        }
    }

    /// An envelope outside a session.
    fn reject(&mut self, now: Instant, id: Option<String>, fault: Fault) {
        self.answer(
            now,
            Header {
                id,
                ..Header::default()
            },
            fault.into(),
        );
    }

    fn answer_held(&mut self, now: Instant, id: Option<String>, message: Message) {
        let header = Header {
            id,
            hold_requests: self.hold,
            ..Header::default()
        };
        self.answer(now, header, message);
    }

    fn answer(&mut self, now: Instant, header: Header, message: Message) {
        let body = Envelope::new(self.version.namespace(), header, message).encode();
        self.deadline = Some(now + self.timeout);
        self.push(200, body, false);
    }

    /// 400, and the end.
    fn leave(&mut self, outcome: Outcome) {
        if self.owed {
            self.push(400, Vec::new(), true);
        }
        self.end(outcome);
    }

    fn push(&mut self, status: u16, body: Vec<u8>, close: bool) {
        self.owed = false;
        self.transmits.push_back(Transmit {
            status,
            body,
            close,
        });
    }

    fn end(&mut self, outcome: Outcome) {
        self.deadline = None;
        let unanswered = match self.state {
            State::Waiting { id, .. } => Some(id),
            State::Ended => return,
            _ => None,
        };
        self.state = State::Ended;
        self.events.push_back(AcsEvent::Ended {
            outcome,
            unanswered,
        });
    }
}
