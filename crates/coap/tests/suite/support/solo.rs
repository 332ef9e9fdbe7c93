//! One endpoint, and a peer made by hand.

use std::time::{Duration, Instant};

use homefleet_coap::{
    Code, Config, Endpoint, Event, ExchangeId, Message, Peer, Request, RequestId, Response, Type,
};

use super::{peer, start};

/// One endpoint under test.
pub(crate) struct Solo {
    pub(crate) endpoint: Endpoint,
    pub(crate) now: Instant,
    pub(crate) peer: Peer,
    /// Everything it sent, with its time.
    pub(crate) log: Vec<(Instant, Peer, Message)>,
    pub(crate) events: Vec<Event>,
}

/// A request that the application got.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) exchange: ExchangeId,
    pub(crate) from: Peer,
    pub(crate) request: Request,
}

impl Solo {
    pub(crate) fn new() -> Solo {
        Solo::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Solo {
        // What holds answers back is switched on by the tests that are about it (RFC 9175 §2.4, RFC 7641 §4.5.1).
        let mut config = Config {
            amplification: 0,
            notify_pace: std::time::Duration::ZERO,
            ..Config::default()
        };
        change(&mut config);
        Solo {
            endpoint: Endpoint::new(config, [42; 32]),
            now: start(),
            peer: peer(40_000),
            log: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Drains, and gives what was sent since the last time.
    pub(crate) fn drain(&mut self) -> Vec<Message> {
        let mut sent = Vec::new();
        while let Some(transmit) = self.endpoint.poll_transmit() {
            let message = Message::decode(&transmit.payload).unwrap();
            self.log.push((self.now, transmit.to, message.clone()));
            sent.push(message);
        }
        while let Some(event) = self.endpoint.poll_event() {
            self.events.push(event);
        }
        sent
    }

    /// Hands in a datagram of a peer; what the endpoint sends at once.
    pub(crate) fn input_from(&mut self, from: Peer, datagram: &[u8]) -> Vec<Message> {
        self.endpoint.handle_input(self.now, from, datagram);
        self.drain()
    }

    pub(crate) fn input(&mut self, datagram: &[u8]) -> Vec<Message> {
        self.input_from(self.peer, datagram)
    }

    pub(crate) fn send(&mut self, message: &Message) -> Vec<Message> {
        self.input(&message.encode())
    }

    /// As [`Solo::send`], when exactly one answer is due.
    pub(crate) fn ask(&mut self, message: &Message) -> Message {
        let mut sent = self.send(message);
        assert_eq!(sent.len(), 1, "one answer: {sent:?}");
        sent.remove(0)
    }

    pub(crate) fn empty(&mut self, kind: Type, id: u16) -> Vec<Message> {
        self.send(&Message::empty(kind, id))
    }

    /// The next request the application got.
    pub(crate) fn take_request(&mut self) -> Option<Got> {
        let at = self
            .events
            .iter()
            .position(|event| matches!(event, Event::Request { .. }))?;
        match self.events.remove(at) {
            Event::Request {
                exchange,
                from,
                request,
            } => Some(Got {
                exchange,
                from,
                request,
            }),
            _ => None,
        }
    }

    pub(crate) fn got(&mut self) -> Got {
        self.take_request().expect("the application got a request")
    }

    pub(crate) fn respond(&mut self, exchange: ExchangeId, response: Response) -> Vec<Message> {
        self.endpoint.respond(self.now, exchange, response).unwrap();
        self.drain()
    }

    /// Sends a message, lets the application answer it with `response`; the answer.
    pub(crate) fn serve(&mut self, message: &Message, response: Response) -> Message {
        let sent = self.send(message);
        assert!(sent.is_empty(), "the application is to answer: {sent:?}");
        let exchange = self.got().exchange;
        let mut sent = self.respond(exchange, response);
        assert_eq!(sent.len(), 1);
        sent.remove(0)
    }

    pub(crate) fn request(&mut self, request: Request) -> (RequestId, Vec<Message>) {
        let id = self.endpoint.request(self.now, self.peer, request).unwrap();
        (id, self.drain())
    }

    /// Lets time pass, doing what is due on the way; what was sent meanwhile.
    pub(crate) fn advance(&mut self, time: Duration) -> Vec<Message> {
        let end = self.now + time;
        let mut sent = Vec::new();
        while let Some(at) = self.endpoint.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.endpoint.handle_timeout(self.now);
            sent.extend(self.drain());
        }
        self.now = end;
        sent
    }

    /// The ACK that carries a response to a message of ours.
    pub(crate) fn ack(to: &Message, code: Code) -> Message {
        Message {
            kind: Type::Acknowledgement,
            code,
            id: to.id,
            token: to.token,
            options: homefleet_coap::Options::new(),
            payload: Vec::new(),
        }
    }

    pub(crate) fn take_event(&mut self) -> Option<Event> {
        (!self.events.is_empty()).then(|| self.events.remove(0))
    }
}
