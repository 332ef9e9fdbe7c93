//! Entry points for fuzzing; they never panic.

use std::time::{Duration, Instant};

use crate::{
    Envelope, Event, EventCode, Fault, FaultCode, Limits, Message, Method, Side,
    acs::{self, AcsEvent},
    auth::{BasicLogin, DigestClient, DigestConfig, DigestServer},
    cpe::{self, Cpe, CpeEvent, HttpFailure, InformContent, Reply, Saved},
    message::{
        GetParameterValues, GetParameterValuesResponse, GetRPCMethods, Reboot, RebootResponse,
        RequestDownload, TransferComplete, TransferCompleteResponse,
    },
};

/// Bytes as an envelope: what decodes is encoded again and decodes to the same.
///
/// # Panics
/// When a round trip loses something: that is what fuzzing looks for.
pub fn codec(bytes: &[u8]) {
    let limits = Limits {
        bytes: 100_000,
        elements: 2_000,
        ..Limits::default()
    };
    let decoded = Envelope::decode(bytes, &limits);
    let slowly = Envelope::decode_slowly(bytes, &limits);
    assert_eq!(decoded, slowly, "a shortcut leads to the same");
    match decoded {
        Ok(envelope) => {
            let mut expected = envelope.clone();
            // What is not written: a header that is not ours.
            expected.header.not_understood = None;
            expected.namespace = expected.namespace.or(Some(crate::Namespace::V1_0));
            let again = Envelope::decode(&envelope.encode(), &Limits::default());
            assert_eq!(again, Ok(expected));
        }
        Err(malformed) => {
            let answered = malformed.error.fault_code(Side::Acs).is_some();
            assert_eq!(answered, malformed.error.fault_code(Side::Cpe).is_some());
            assert!(malformed.to_string().len() < 1000, "an error is short");
        }
    }
}

/// Two lines: a challenge, and credentials.
///
/// # Panics
/// When somebody is let in: nobody here knows the password.
pub fn logins(start: Instant, text: &str) {
    let (challenge, credentials) = text.split_once('\n').unwrap_or((text, text));
    let mut client = DigestClient::new("user", "password".into(), true, [1; 32]);
    client.handle_info(challenge);
    if client.challenged(&[challenge, credentials]).is_ok() {
        assert!(client.authorization("GET", "/").is_some());
    }
    let _login = BasicLogin::parse(credentials);
    let mut server = DigestServer::new(start, DigestConfig::new("realm"), [2; 32]);
    let admitted = server.authorize(start, "GET", "/", credentials, |_| {
        Some(crate::auth::Stored::Password("password".into()))
    });
    assert!(admitted.is_err());
}

/// A script for a CPE and an ACS that talk to each other over a line that loses, repeats and forges.
///
/// Each step is one byte of what to do, one of how long the step's data is, and the data. `start` is any time: the machines only see how
/// much of it passes.
///
/// # Panics
/// When a machine breaks its promises: that is what fuzzing looks for.
pub fn machines(start: Instant, script: &[u8]) {
    let mut line = Line::new(start);
    let mut rest = script;
    while let Some((&[what, length], tail)) = rest.split_first_chunk() {
        let (data, tail) = tail.split_at(usize::from(length).min(tail.len()));
        rest = tail;
        line.step(what, data);
        line.check();
    }
}

struct Line {
    now: Instant,
    cpe: Cpe,
    acs: acs::Session,
    /// A POST under way, and a reply.
    post: Option<Vec<u8>>,
    reply: Option<acs::Transmit>,
    /// What the CPE's application owes.
    asked: Option<Message>,
    /// What the ACS's application owes.
    owed: Option<AcsEvent>,
    posts: u64,
    answers: u64,
}

impl Line {
    fn new(now: Instant) -> Self {
        let limits = Limits {
            bytes: 100_000,
            elements: 500,
            ..Limits::default()
        };
        let cpe = cpe::Config {
            most_events: 4,
            most_requests: 4,
            most_scheduled: 2,
            methods: Method::of_cpe()
                .filter(|method| *method != Method::SetVouchers)
                .collect(),
            limits: limits.clone(),
            ..cpe::Config::default()
        };
        let acs = acs::Config {
            limits,
            ..acs::Config::default()
        };
        Self {
            now,
            cpe: Cpe::new(now, cpe, Saved::default(), [7; 32]),
            acs: acs::Session::new(now, acs),
            post: None,
            reply: None,
            asked: None,
            owed: None,
            posts: 0,
            answers: 0,
        }
    }

    fn step(&mut self, what: u8, data: &[u8]) {
        let number = data.first().copied().unwrap_or_default();
        let text = String::from_utf8_lossy(data).into_owned();
        match what % 16 {
            0 => {
                let code = EventCode::NUMBERED.get(usize::from(number) % 15).cloned();
                let event = match code {
                    Some(code) => Event::new(code),
                    None => Event::of(Method::Reboot, text),
                };
                match what & 16 {
                    0 => self.cpe.raise(event),
                    _ => self.cpe.note(event),
                }
            }
            1 => {
                let message = TransferComplete {
                    command_key: text,
                    ..TransferComplete::default()
                };
                let _queued = match what & 16 {
                    0 => self.cpe.queue(message.into(), Some(Method::Download)),
                    _ => self.cpe.queue(RequestDownload::default().into(), None),
                };
            }
            2 => {
                self.now += Duration::from_secs(u64::from(number));
                self.cpe.handle_timeout(self.now);
                self.acs.handle_timeout(self.now);
            }
            3 => {
                let _begun = self.cpe.begin(self.now, InformContent::default());
            }
            // What travels arrives, or something else does.
            4..=6 => {
                if let Some(body) = self.post.take() {
                    self.deliver(&body);
                }
            }
            7 => self.deliver(data),
            8..=10 => {
                if let Some(reply) = self.reply.take() {
                    let reply = match (reply.status, reply.body.as_slice()) {
                        (200, []) | (204, _) => Reply::Empty,
                        (200, body) => Reply::Envelope(body),
                        (status, _) => Reply::Failed(HttpFailure::Status(status)),
                    };
                    self.cpe.handle_reply(self.now, reply);
                }
            }
            11 => self.cpe.handle_reply(
                self.now,
                match what >> 4 {
                    0 => Reply::Empty,
                    1 => Reply::Failed(HttpFailure::Connection),
                    2 => Reply::Unavailable(Some(Duration::from_secs(number.into()))),
                    _ => Reply::Envelope(data),
                },
            ),
            12 => self.cpe_application(what),
            13 | 14 => self.acs_application(what, number),
            _ => self.now += Duration::from_millis(number.into()),
        }
    }

    fn deliver(&mut self, body: &[u8]) {
        if self.acs.handle_input(self.now, body).is_ok() {
            self.posts += 1;
        }
    }

    fn cpe_application(&mut self, what: u8) {
        if let Some(message) = self.asked.take() {
            let answer = match message {
                Message::Reboot(_) if what & 16 == 0 => RebootResponse {}.into(),
                Message::GetParameterValues(_) => GetParameterValuesResponse::default().into(),
                _ => Message::Fault(Fault::new(FaultCode::INTERNAL_ERROR)),
            };
            let answered = self.cpe.respond(self.now, answer);
            assert!(answered.is_ok() || !self.cpe.is_in_session());
        }
    }

    fn acs_application(&mut self, what: u8, number: u8) {
        let again = Fault::new(FaultCode::ACS_RETRY_REQUEST);
        let fitted = match self.owed.take() {
            Some(AcsEvent::Inform { .. }) if what & 16 == 0 => self.acs.accept(self.now).is_ok(),
            Some(AcsEvent::Inform { .. } | AcsEvent::Request(_)) if what & 32 == 0 => {
                self.acs.refuse(self.now, again).is_ok()
            }
            Some(AcsEvent::Request(Message::TransferComplete(_))) => self
                .acs
                .respond(self.now, TransferCompleteResponse {})
                .is_ok(),
            Some(AcsEvent::Inform { .. } | AcsEvent::Request(_)) => {
                let denied = Fault::new(FaultCode::ACS_REQUEST_DENIED);
                self.acs.refuse(self.now, denied).is_ok()
            }
            Some(AcsEvent::Ready) => {
                self.acs.set_hold(what & 16 != 0);
                let names = vec!["Device.".to_owned()];
                match number % 4 {
                    0 => self.acs.finish(self.now).is_ok(),
                    1 => self.acs.send(self.now, Reboot::default()).is_ok(),
                    2 => self.acs.send(self.now, GetRPCMethods {}).is_ok(),
                    _ => self
                        .acs
                        .send(self.now, GetParameterValues { names })
                        .is_ok(),
                }
            }
            _ => return,
        };
        assert!(fitted, "what an event asks for can be done");
    }

    /// Drains both machines, and holds them to what they promise.
    fn check(&mut self) {
        while let Some(event) = self.cpe.poll_event() {
            match event {
                CpeEvent::Request(message) => self.asked = Some(message),
                CpeEvent::Ended | CpeEvent::Failed { .. } => self.asked = None,
                CpeEvent::Starting => assert!(self.cpe.due().len() <= 64),
                _ => {}
            }
        }
        while let Some(transmit) = self.cpe.poll_transmit() {
            match transmit {
                cpe::Transmit::Post(body) => {
                    let read =
                        body.is_empty() || Envelope::decode(&body, &Limits::default()).is_ok();
                    assert!(read, "what we send can be read");
                    self.post = Some(body);
                }
                cpe::Transmit::Close => self.post = None,
            }
        }
        while let Some(event) = self.acs.poll_event() {
            match event {
                AcsEvent::Inform { .. } | AcsEvent::Request(_) | AcsEvent::Ready => {
                    assert_eq!(self.owed, None, "one question at a time");
                    self.owed = Some(event);
                }
                AcsEvent::Ended { .. } => self.owed = None,
                _ => {}
            }
        }
        while let Some(transmit) = self.acs.poll_transmit() {
            assert!(matches!(transmit.status, 200 | 204 | 400));
            self.answers += 1;
            self.reply = Some(transmit);
        }
        assert!(self.posts - self.answers <= 1, "one answer for each POST");
        let saved = self.cpe.saved(self.now);
        assert!(saved.requests.len() <= 4 && saved.scheduled.len() <= 2);
        assert!(saved.events.len() <= 14 + 4);
    }
}
