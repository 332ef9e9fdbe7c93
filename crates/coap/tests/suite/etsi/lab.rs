//! Client, plugtest server and the wire between them, in virtual time; the wire loses what a test says.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::{Duration, Instant};

use homefleet_coap::{
    Code, Config, Endpoint, Event, Message, Request, RequestId, Response, Token, Type, number,
};

use crate::plugtest::Plugtest;
use crate::support::{Pair, Side, start};

const LATENCY: Duration = Duration::from_millis(10);

/// A message on the wire.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) at: Instant,
    pub(super) from: Side,
    pub(super) lost: bool,
    pub(super) bytes: Vec<u8>,
    message: Message,
}

impl Deref for Packet {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

impl Packet {
    /// Checks sender, type and code.
    #[track_caller]
    pub(super) fn is(&self, from: Side, kind: Type, code: Code) -> &Packet {
        assert_eq!(
            (self.from, self.kind, self.code),
            (from, kind, code),
            "{self:?}"
        );
        self
    }

    /// "Message ID = CMID, Token = CTOK".
    #[track_caller]
    pub(super) fn same_id_and_token(&self, request: &Packet) -> &Packet {
        assert_eq!((self.id, self.token), (request.id, request.token));
        self
    }

    /// "Empty payload", and nothing else than the header: four bytes.
    #[track_caller]
    pub(super) fn is_empty_message(&self, id: u16) -> &Packet {
        assert_eq!(self.bytes.len(), 4);
        assert_eq!((self.id, self.token.bytes().len()), (id, 0));
        self
    }

    /// "Content-format option", "non-empty payload".
    #[track_caller]
    pub(super) fn has_format_and_payload(&self) -> &Packet {
        assert!(self.options.content_format().is_some(), "{self:?}");
        assert!(!self.payload.is_empty(), "{self:?}");
        self
    }

    /// "Content-format option if payload non-empty".
    #[track_caller]
    pub(super) fn has_format_if_payload(&self) -> &Packet {
        assert!(
            self.payload.is_empty() || self.options.content_format().is_some(),
            "{self:?}"
        );
        self
    }

    #[track_caller]
    pub(super) fn has(&self, number: u16, values: &[&[u8]]) -> &Packet {
        let found: Vec<&[u8]> = self.options.all(number).collect();
        assert_eq!(found, values, "{self:?}");
        self
    }

    #[track_caller]
    pub(super) fn has_no(&self, number: u16) -> &Packet {
        self.has(number, &[])
    }
}

/// Which messages the wire loses.
type Loss = Box<dyn FnMut(Side, &Message) -> bool>;

pub(super) struct Lab {
    pub(super) now: Instant,
    pub(super) client: Endpoint,
    pub(super) server: Endpoint,
    pub(super) app: Plugtest,
    /// The client hears and does nothing any more.
    pub(super) client_off: bool,
    loss: Loss,
    flying: BTreeMap<(Instant, u64), (Side, Vec<u8>)>,
    sent: u64,
    wire: Vec<Packet>,
    pub(super) events: Vec<Event>,
}

impl Lab {
    pub(super) fn new() -> Lab {
        Lab::with(|_, _| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut Config, &mut Config)) -> Lab {
        let (mut client, mut server) = (Config::default(), Plugtest::config());
        change(&mut client, &mut server);
        Lab {
            now: start(),
            client: Endpoint::new(client, [3; 32]),
            server: Endpoint::new(server, [4; 32]),
            app: Plugtest::new(),
            client_off: false,
            loss: Box::new(|_, _| false),
            flying: BTreeMap::new(),
            sent: 0,
            wire: Vec::new(),
            events: Vec::new(),
        }
    }

    pub(super) fn lose(&mut self, loss: impl FnMut(Side, &Message) -> bool + 'static) {
        self.loss = Box::new(loss);
    }

    /// Loses the `nth` message (from 0) of all that come from now on.
    pub(super) fn lose_nth(&mut self, nth: &'static [usize]) {
        let mut count = 0;
        self.lose(move |_, _| {
            count += 1;
            nth.contains(&(count - 1))
        });
    }

    fn fly(&mut self, from: Side, bytes: Vec<u8>) {
        let message = Message::decode(&bytes).unwrap();
        let lost = (self.loss)(from, &message);
        if !lost {
            self.sent += 1;
            self.flying
                .insert((self.now + LATENCY, self.sent), (from, bytes.clone()));
        }
        self.wire.push(Packet {
            at: self.now,
            from,
            lost,
            bytes,
            message,
        });
    }

    /// Sends a message that no client of ours would send, as a client.
    pub(super) fn send_by_hand(&mut self, message: &Message) {
        self.fly(Side::Client, message.encode());
    }

    pub(super) fn drain(&mut self) {
        loop {
            if let Some(transmit) = self.client.poll_transmit() {
                assert_eq!(transmit.to, Pair::server_peer());
                self.fly(Side::Client, transmit.payload);
            } else if let Some(transmit) = self.server.poll_transmit() {
                assert_eq!(transmit.to, Pair::client_peer());
                self.fly(Side::Server, transmit.payload);
            } else if let Some(event) = self.server.poll_event() {
                self.app.event(self.now, &mut self.server, &event);
            } else if let Some(event) = self.client.poll_event() {
                self.events.push(event);
            } else {
                return;
            }
        }
    }

    fn step(&mut self, end: Instant) -> bool {
        let client = self.client.poll_timeout().filter(|_| !self.client_off);
        let next = [
            self.flying.keys().next().map(|(at, _)| *at),
            client,
            self.server.poll_timeout(),
            self.app.poll_timeout(),
        ];
        let Some(next) = next.into_iter().flatten().min().filter(|at| *at <= end) else {
            return false;
        };
        self.now = self.now.max(next);
        let now = self.now;
        while let Some(first) = self.flying.first_entry() {
            if first.key().0 > now {
                break;
            }
            let (from, bytes) = first.remove();
            match from {
                Side::Client => self.server.handle_input(now, Pair::client_peer(), &bytes),
                Side::Server if self.client_off => {}
                Side::Server => self.client.handle_input(now, Pair::server_peer(), &bytes),
            }
            self.drain();
        }
        if !self.client_off {
            self.client.handle_timeout(now);
        }
        self.server.handle_timeout(now);
        self.app.handle_timeout(now, &mut self.server);
        self.drain();
        true
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.drain();
        while self.step(end) {}
        self.now = end;
    }

    pub(super) fn request(&mut self, request: Request) -> RequestId {
        let id = self
            .client
            .request(self.now, Pair::server_peer(), request)
            .unwrap();
        self.drain();
        id
    }

    /// What the client displays as response to a request.
    #[track_caller]
    pub(super) fn ask(&mut self, request: Request) -> Response {
        let asked = self.request(request);
        let end = self.now + Duration::from_secs(120);
        loop {
            let at = self.events.iter().position(|event| match event {
                Event::Response { id, .. } | Event::Failed { id, .. } => *id == asked,
                _ => false,
            });
            if let Some(at) = at {
                match self.events.remove(at) {
                    Event::Response { response, .. } => return response,
                    other => panic!("{other:?}"),
                }
            }
            assert!(self.step(end), "no response");
        }
    }

    /// All messages since the last call, lost ones too.
    pub(super) fn wire(&mut self) -> Vec<Packet> {
        std::mem::take(&mut self.wire)
    }

    /// All messages since the last call, which have to be exactly so many.
    #[track_caller]
    pub(super) fn packets<const N: usize>(&mut self) -> [Packet; N] {
        let packets = self.wire();
        packets
            .try_into()
            .unwrap_or_else(|packets| panic!("{N} messages expected: {packets:#?}"))
    }

    /// Request and piggybacked response, with nothing else on the wire: the usual check.
    #[track_caller]
    pub(super) fn piggybacked(&mut self, method: Code, code: Code) -> [Packet; 2] {
        let [request, response] = self.packets();
        request.is(Side::Client, Type::Confirmable, method);
        response
            .is(Side::Server, Type::Acknowledgement, code)
            .same_id_and_token(&request);
        [request, response]
    }

    /// Request and response as Non-confirmable messages.
    #[track_caller]
    pub(super) fn non_confirmable(&mut self, method: Code, code: Code) -> [Packet; 2] {
        let [request, response] = self.packets();
        request.is(Side::Client, Type::NonConfirmable, method);
        response.is(Side::Server, Type::NonConfirmable, code);
        assert_eq!(response.token, request.token);
        [request, response]
    }

    /// The states the client displays of an observed resource, first response included.
    pub(super) fn displayed(&mut self) -> Vec<Response> {
        std::mem::take(&mut self.events)
            .into_iter()
            .filter_map(|event| match event {
                Event::Response { response, .. } | Event::Notification { response, .. } => {
                    Some(response)
                }
                _ => None,
            })
            .collect()
    }
}

/// A Confirmable message by hand.
pub(super) fn by_hand(code: Code, id: u16, token: &[u8]) -> Message {
    Message {
        kind: Type::Confirmable,
        code,
        token: Token::new(token).unwrap(),
        ..Message::empty(Type::Confirmable, id)
    }
}

/// "Content-format = the same", the value of it.
pub(super) fn format(packet: &Packet) -> Option<u32> {
    packet.options.uint(number::CONTENT_FORMAT)
}
