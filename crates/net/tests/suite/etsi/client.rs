//! Our client on a real socket, one step at a time.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use homefleet_coap::{
    Code, Config, Endpoint, Event, Message, Peer, Request, RequestId, Response, Token, Type,
};

use super::LIMIT;
use crate::support::nodes::LOOPBACK;

pub(super) struct Client {
    socket: UdpSocket,
    server: SocketAddr,
    endpoint: Endpoint,
    /// What the server sent since the last request.
    pub(super) received: Vec<Message>,
    events: Vec<Event>,
}

impl Client {
    pub(super) fn new(server: SocketAddr, block_size: usize) -> Client {
        let config = Config {
            block_size,
            ..Config::default()
        };
        Client {
            socket: UdpSocket::bind(LOOPBACK).unwrap(),
            server,
            endpoint: Endpoint::new(config, rand_seed()),
            received: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Drives the endpoint until `done` finds what it looks for.
    fn drive<T>(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&mut Client) -> Option<T>,
    ) -> Option<T> {
        let end = Instant::now() + limit;
        let mut buffer = [0; 2048];
        loop {
            while let Some(transmit) = self.endpoint.poll_transmit() {
                // A server that is not there yet gets it again.
                let _sent = self.socket.send_to(&transmit.payload, transmit.to.addr);
            }
            while let Some(event) = self.endpoint.poll_event() {
                self.events.push(event);
            }
            if let Some(found) = done(self) {
                return Some(found);
            }
            let now = Instant::now();
            let next = self.endpoint.poll_timeout().unwrap_or(end).min(end);
            if now >= end {
                return None;
            }
            let wait = next.saturating_duration_since(now);
            let wait = wait.max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(wait)).unwrap();
            if let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
                let datagram = &buffer[..length];
                self.received.extend(Message::decode(datagram));
                self.endpoint
                    .handle_input(Instant::now(), Peer::plain(from), datagram);
            }
            self.endpoint.handle_timeout(Instant::now());
        }
    }

    pub(super) fn start(&mut self, request: Request) -> Result<RequestId, String> {
        self.received.clear();
        let peer = Peer::plain(self.server);
        self.endpoint
            .request(Instant::now(), peer, request)
            .map_err(|error| error.to_string())
    }

    /// The response to a request.
    pub(super) fn ask(&mut self, request: Request) -> Result<Response, String> {
        let asked = self.start(request)?;
        self.answer(asked)
    }

    pub(super) fn answer(&mut self, asked: RequestId) -> Result<Response, String> {
        let answer = self.drive(LIMIT, |client| {
            let at = client.events.iter().position(|event| match event {
                Event::Response { id, .. } | Event::Failed { id, .. } => *id == asked,
                _ => false,
            })?;
            Some(client.events.remove(at))
        });
        match answer {
            Some(Event::Response { response, .. }) => Ok(response),
            other => Err(format!("{other:?}")),
        }
    }

    /// The response, with the code it is to have.
    pub(super) fn expect(&mut self, request: Request, code: Code) -> Result<Response, String> {
        let response = self.ask(request)?;
        if response.code == code {
            Ok(response)
        } else {
            Err(format!("{code} expected: {response:?}"))
        }
    }

    /// The next notification of an observation.
    pub(super) fn notification(&mut self, observing: RequestId) -> Result<Response, String> {
        let found = self.drive(LIMIT, |client| {
            let at = client.events.iter().position(
                |event| matches!(event, Event::Notification { id, .. } if *id == observing),
            )?;
            Some(client.events.remove(at))
        });
        match found {
            Some(Event::Notification { response, .. }) => Ok(response),
            other => Err(format!("no notification: {other:?}")),
        }
    }

    /// The type and Observe option of what came with a code.
    pub(super) fn kinds(&self, code: Code) -> Vec<Type> {
        self.received
            .iter()
            .filter(|message| message.code == code)
            .map(|message| message.kind)
            .collect()
    }

    pub(super) fn cancel(&mut self, observing: RequestId) {
        self.endpoint.cancel(Instant::now(), observing);
    }

    /// Waits for some time, and serves what comes.
    pub(super) fn wait(&mut self, time: Duration) {
        self.received.clear();
        let _nothing: Option<()> = self.drive(time, |_| None);
    }

    /// Sends a message that our client would not, from a socket of its own; the answer.
    pub(super) fn by_hand(&self, message: &Message) -> Result<Message, String> {
        let socket = UdpSocket::bind(LOOPBACK).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(3)))
            .unwrap();
        let mut buffer = [0; 2048];
        for _ in 0..5 {
            socket
                .send_to(&message.encode(), self.server)
                .map_err(|error| error.to_string())?;
            if let Ok(length) = socket.recv(&mut buffer) {
                return Message::decode(&buffer[..length]).map_err(|e| e.error.to_string());
            }
        }
        Err("no answer".to_owned())
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

fn rand_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    seed
}
