//! The reference: what RFC 7252, 7641 and 7959 say an endpoint does, in plain lists that are searched from end to end.
//!
//! It is told everything that is done to the endpoint and derives what has to follow: messages that must be sent now, events that
//! must come now. It is then shown what the endpoint did. What depends on chance (message IDs, tokens, the first wait) or on an order that
//! the specifications leave open (which of several waiting messages goes first under NSTART) is learnt from what is sent, after a check
//! that it is allowed.

mod client;
mod server;

use std::time::{Duration, Instant};

use homefleet_coap::{
    Block, Code, Config, Event, Message, ObservationId, Options, RequestError, RequestId, Token,
    Type, number,
};

pub(super) use client::Asked;
use server::{Download, Seen, Upload};
pub(super) use server::{Observer, Open};

/// Whose Confirmable message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Request(RequestId),
    Notification(ObservationId),
    /// A separate response, or a last notification: outside NSTART, and nobody is told its fate.
    Response,
    /// A notification whose observation was replaced: inside NSTART.
    Orphan,
}

/// One of our Confirmable messages without acknowledgement (RFC 7252 §4.2).
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) id: u16,
    pub(super) owner: Owner,
    bytes: Vec<u8>,
    last: Instant,
    repeats: u32,
    /// How many messages of the peer had come when it was sent.
    heard: u32,
    /// The wait after the last transmission; the first one is chance, until it is over.
    wait: Option<Duration>,
}

/// Everything about one peer.
#[derive(Debug, Default)]
pub(super) struct PeerModel {
    seen: Vec<Seen>,
    pub(super) open: Vec<Open>,
    uploads: Vec<Upload>,
    downloads: Vec<Download>,
    flights: Vec<Flight>,
    pub(super) asked: Vec<Asked>,
    pub(super) observers: Vec<Observer>,
    /// Until when Non-confirmable requests that nobody answered count as interactions (RFC 7252 §4.7: PROBING_RATE).
    probing: Vec<(RequestId, Instant)>,
    /// Messages of the peer so far.
    heard: u32,
    /// Nobody took a message of ours, and nothing came since: until when PROBING_RATE has nothing more be sent unasked.
    silent: Option<Instant>,
    /// When the last Non-confirmable notification went (RFC 7641 §4.5.1).
    last_non: Option<Instant>,
    /// Our message IDs, and when they were used.
    used: Vec<(u16, Instant)>,
}

/// A message that has to be sent.
#[derive(Debug)]
struct Say {
    kind: Type,
    code: Code,
    id: Option<u16>,
    token: Token,
    payload: Option<Vec<u8>>,
    block1: Option<Block>,
    block2: Option<Block>,
    /// Whether it has an Observe option.
    observe: bool,
    then: Then,
}

/// What follows from a message being sent.
#[derive(Clone, Copy, Debug)]
enum Then {
    Nothing,
    /// It is what a repetition of this message gets (RFC 7252 §4.5).
    Answer(u16, Token),
    Fly(Owner),
}

#[derive(Debug)]
enum Must {
    Say(usize, Box<Say>),
    /// Exactly these bytes.
    Bytes(usize, Vec<u8>),
    /// The flight of this message ID is repeated.
    Repeat(usize, u16),
}

/// An event that has to come.
#[derive(Debug)]
enum MustEvent {
    Request(usize, Box<Open>, Vec<u8>),
    Response(RequestId, Code, Vec<u8>),
    Notification(RequestId, Code, Vec<u8>),
    Failed(RequestId, Failure),
    ObserverGone(ObservationId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Is(RequestError),
    Block,
}

pub(super) type Verdict = Result<(), String>;

pub(super) struct Model {
    config: Config,
    pub(super) peers: Vec<PeerModel>,
    must: Vec<Must>,
    events: Vec<MustEvent>,
}

impl Model {
    pub(super) fn new(config: Config, peers: usize) -> Model {
        Model {
            config,
            peers: (0..peers).map(|_| PeerModel::default()).collect(),
            must: Vec::new(),
            events: Vec::new(),
        }
    }

    fn must_say(&mut self, peer: usize, say: Say) {
        self.must.push(Must::Say(peer, Box::new(say)));
    }

    fn must_empty(&mut self, peer: usize, kind: Type, id: u16) {
        self.must
            .push(Must::Bytes(peer, Message::empty(kind, id).encode()));
    }

    /// A datagram is about to be handed in.
    pub(super) fn input(&mut self, now: Instant, peer: usize, datagram: &[u8]) {
        let message = match Message::decode(datagram) {
            Ok(message) => message,
            Err(error) => {
                // RFC 7252 §4.2: what is Confirmable is rejected, everything else ignored.
                if let Some((Type::Confirmable, id)) = error.header {
                    self.must_empty(peer, Type::Reset, id);
                }
                return;
            }
        };
        self.peers[peer].heard += 1;
        self.peers[peer].silent = None;
        match message.kind {
            Type::Reset => self.rejected(peer, message.id),
            Type::Acknowledgement if message.code.is_empty() => {
                self.acknowledged(now, peer, message.id);
            }
            Type::Acknowledgement => self.piggybacked(now, peer, &message),
            _ if message.code.is_empty() => self.must_empty(peer, Type::Reset, message.id),
            _ if message.code.is_request() => self.asked_by_peer(now, peer, message),
            _ => self.separate(now, peer, &message),
        }
    }

    fn end_flight(&mut self, peer: usize, id: u16) -> Option<Flight> {
        let flights = &mut self.peers[peer].flights;
        let at = flights.iter().position(|flight| flight.id == id)?;
        Some(flights.remove(at))
    }

    fn acknowledged(&mut self, now: Instant, peer: usize, id: u16) {
        match self.end_flight(peer, id).map(|flight| flight.owner) {
            Some(Owner::Request(request)) => self.request_acknowledged(now, peer, request),
            Some(Owner::Notification(_) | Owner::Response | Owner::Orphan) | None => {}
        }
    }

    fn rejected(&mut self, peer: usize, id: u16) {
        match self.end_flight(peer, id).map(|flight| flight.owner) {
            Some(Owner::Request(request)) => self.reset(peer, request),
            Some(Owner::Notification(observation)) => self.observer_gone(peer, observation),
            Some(Owner::Response | Owner::Orphan) => {}
            None => self.non_rejected(peer, id),
        }
    }

    /// Time has come to `now`, and everything that is due by then is to be done.
    pub(super) fn time(&mut self, now: Instant) {
        for peer in 0..self.peers.len() {
            let mut given_up = Vec::new();
            for flight in &self.peers[peer].flights {
                let due = flight.wait.is_some_and(|wait| flight.last + wait <= now);
                if due && flight.repeats < self.config.max_retransmit {
                    self.must.push(Must::Repeat(peer, flight.id));
                } else if due {
                    given_up.push((flight.id, flight.owner));
                }
            }
            for (id, owner) in given_up {
                if let Some(flight) = self.end_flight(peer, id)
                    && flight.heard == self.peers[peer].heard
                    && !matches!(owner, Owner::Request(_))
                {
                    // RFC 7252 §4.7.
                    let sent = flight.bytes.len() as u64 * u64::from(flight.repeats + 1);
                    let pace = Duration::from_secs(sent) / self.config.probing_rate;
                    let silent = &mut self.peers[peer].silent;
                    *silent = Some(silent.map_or(now, |until| until.max(now)) + pace);
                }
                match owner {
                    Owner::Request(request) => {
                        self.fail(peer, request, Failure::Is(RequestError::Timeout));
                    }
                    Owner::Notification(observation) => self.observer_gone(peer, observation),
                    Owner::Response | Owner::Orphan => {}
                }
            }
            self.requests_due(now, peer);
            self.exchanges_due(now, peer);
        }
    }

    /// Whether the first wait of a message is still open: then a late call would not tell how long it was.
    pub(super) fn is_waiting_for_chance(&self) -> bool {
        let mut flights = self.peers.iter().flat_map(|peer| &peer.flights);
        flights.any(|flight| flight.wait.is_none())
    }

    /// The endpoint sent something.
    pub(super) fn sent(&mut self, now: Instant, peer: usize, bytes: &[u8]) -> Verdict {
        let message = Message::decode(bytes).map_err(|error| error.error.to_string())?;
        let position = self.must.iter().position(|must| match must {
            Must::Bytes(to, expected) => *to == peer && expected == bytes,
            Must::Repeat(to, id) => *to == peer && *id == message.id && self.repeats(*to, bytes),
            Must::Say(to, say) => *to == peer && say.is(&message),
        });
        match position.map(|at| self.must.remove(at)) {
            Some(Must::Bytes(..)) => return Ok(()),
            Some(Must::Repeat(..)) => return self.repeated(now, peer, &message),
            Some(Must::Say(_, say)) => {
                if say.id.is_none() {
                    self.use_id(now, peer, message.id)?;
                }
                if say.observe {
                    self.registered(peer, &message)?;
                }
                match say.then {
                    Then::Nothing => {}
                    Then::Answer(id, token) => self.remember_answer(peer, id, token, bytes),
                    Then::Fly(owner) => self.fly(now, peer, &message, bytes, owner),
                }
                return Ok(());
            }
            None => {}
        }
        if self.repeats(peer, bytes) {
            return self.repeated(now, peer, &message);
        }
        if message.code.is_request() {
            self.use_id(now, peer, message.id)?;
            return self.request_sent(now, peer, &message, bytes);
        }
        if message.options.observe().is_some() {
            self.use_id(now, peer, message.id)?;
            return self.notification_sent(now, peer, &message, bytes);
        }
        Err(format!("nothing asks for {message:?}"))
    }

    fn repeats(&self, peer: usize, bytes: &[u8]) -> bool {
        let flights = &self.peers[peer].flights;
        flights.iter().any(|flight| flight.bytes == bytes)
    }

    /// RFC 7252 §4.2: the first wait is ACK_TIMEOUT to ACK_TIMEOUT * ACK_RANDOM_FACTOR, the others are twice the one before.
    fn repeated(&mut self, now: Instant, peer: usize, message: &Message) -> Verdict {
        let (max, shortest) = (self.config.max_retransmit, self.config.ack_timeout);
        let longest = shortest.mul_f64(self.config.ack_random_factor);
        let flights = &mut self.peers[peer].flights;
        let Some(flight) = flights.iter_mut().find(|flight| flight.id == message.id) else {
            return Err("a repetition of nothing".to_owned());
        };
        let waited = now - flight.last;
        match flight.wait {
            None if waited < shortest || waited > longest => {
                return Err(format!("the first wait was {waited:?}"));
            }
            Some(wait) if waited < wait => {
                return Err(format!("repeated after {waited:?} instead of {wait:?}"));
            }
            _ => {}
        }
        flight.repeats += 1;
        if flight.repeats > max {
            return Err("repeated more often than MAX_RETRANSMIT".to_owned());
        }
        flight.wait = Some(flight.wait.unwrap_or(waited) * 2);
        flight.last = now;
        Ok(())
    }

    fn fly(&mut self, now: Instant, peer: usize, message: &Message, bytes: &[u8], owner: Owner) {
        let heard = self.peers[peer].heard;
        self.peers[peer].flights.push(Flight {
            id: message.id,
            owner,
            bytes: bytes.to_vec(),
            last: now,
            repeats: 0,
            heard,
            wait: None,
        });
    }

    /// RFC 7252 §4.4: not the same message ID again within EXCHANGE_LIFETIME.
    fn use_id(&mut self, now: Instant, peer: usize, id: u16) -> Verdict {
        let lifetime = self.config.exchange_lifetime();
        let used = &mut self.peers[peer].used;
        used.retain(|(_, at)| now - *at < lifetime);
        if used.iter().any(|(other, _)| *other == id) {
            return Err(format!("message ID {id} is used again"));
        }
        used.push((id, now));
        Ok(())
    }

    /// The endpoint gave an event.
    pub(super) fn event(&mut self, event: &Event) -> Verdict {
        let at = self.events.iter().position(|must| must.is(event));
        match at.map(|at| self.events.remove(at)) {
            Some(MustEvent::Request(peer, mut open, _)) => {
                if let Event::Request { exchange, .. } = event {
                    open.exchange = Some(*exchange);
                }
                self.peers[peer].open.push(*open);
                Ok(())
            }
            Some(_) => Ok(()),
            None => Err(format!("nothing asks for {event:?}")),
        }
    }

    /// The endpoint has done everything: nothing that it had to do is left, and nothing exceeds its bound.
    pub(super) fn settled(&mut self, now: Instant) -> Verdict {
        if let Some(must) = self.must.first() {
            return Err(format!("it was not sent: {must:?}"));
        }
        if let Some(event) = self.events.first() {
            return Err(format!("it did not come: {event:?}"));
        }
        for peer in &self.peers {
            let interacting = peer
                .flights
                .iter()
                .filter(|flight| flight.owner != Owner::Response)
                .count()
                + peer
                    .probing
                    .iter()
                    .filter(|(_, until)| *until > now)
                    .count();
            if interacting > self.config.nstart {
                return Err(format!("{interacting} interactions over NSTART"));
            }
            if peer.open.len() > self.config.max_exchanges_per_peer {
                return Err("more exchanges than max_exchanges_per_peer".to_owned());
            }
            let latest = self
                .config
                .ack_timeout
                .mul_f64(self.config.ack_random_factor);
            if let Some(late) = peer
                .flights
                .iter()
                .find(|flight| now - flight.last > flight.wait.unwrap_or(latest))
            {
                return Err(format!("not repeated in time: {late:?}"));
            }
            let busy = interacting > 0;
            if !busy && let Some(asked) = peer.asked.iter().find(|asked| asked.is_overdue(now)) {
                return Err(format!("nothing keeps it from being sent: {asked:?}"));
            }
            let pace = self.config.notify_pace;
            let held = busy
                || peer.silent.is_some_and(|until| until > now)
                || peer.last_non.is_some_and(|last| last + pace > now);
            if !held && let Some(observer) = peer.observers.iter().find(|o| o.unsent.is_some()) {
                return Err(format!(
                    "nothing keeps its state from being sent: {observer:?}"
                ));
            }
        }
        Ok(())
    }

    /// Whether everything has come to its end.
    pub(super) fn is_idle(&self) -> bool {
        self.peers.iter().all(|peer| {
            peer.open.is_empty()
                && peer.uploads.is_empty()
                && peer.downloads.is_empty()
                && peer.flights.is_empty()
                && peer.asked.is_empty()
                && peer.observers.is_empty()
        })
    }

    /// The association with a peer is over: nothing of it is left.
    pub(super) fn forget(&mut self, peer: usize) {
        let gone = std::mem::take(&mut self.peers[peer]);
        for asked in gone.asked {
            let failure = Failure::Is(RequestError::PeerGone);
            self.events.push(MustEvent::Failed(asked.id, failure));
        }
        for observer in gone.observers {
            self.events.push(MustEvent::ObserverGone(observer.id));
        }
    }
}

impl Say {
    /// A message without payload and blocks.
    fn plain(kind: Type, code: Code, token: Token) -> Say {
        Say {
            kind,
            code,
            id: None,
            token,
            payload: None,
            block1: None,
            block2: None,
            observe: false,
            then: Then::Nothing,
        }
    }

    fn is(&self, message: &Message) -> bool {
        (message.kind, message.code, message.token) == (self.kind, self.code, self.token)
            && self.id.is_none_or(|id| message.id == id)
            && self.payload.as_ref().is_none_or(|p| *p == message.payload)
            && message.options.block1() == self.block1
            && message.options.block2() == self.block2
            && message.options.observe().is_some() == self.observe
    }
}

impl MustEvent {
    fn is(&self, event: &Event) -> bool {
        match (self, event) {
            (MustEvent::Request(_, open, payload), Event::Request { request, .. }) => {
                (request.code, request.confirmable) == (open.code, open.confirmable)
                    && request.options.path() == path(&open.key.1)
                    && request.payload == *payload
            }
            (
                MustEvent::Response(id, code, payload),
                Event::Response {
                    id: other,
                    response,
                    ..
                },
            )
            | (
                MustEvent::Notification(id, code, payload),
                Event::Notification {
                    id: other,
                    response,
                },
            ) => id == other && *code == response.code && *payload == response.payload,
            (MustEvent::Failed(id, failure), Event::Failed { id: other, error }) => {
                let fits = match failure {
                    Failure::Is(expected) => expected == error,
                    Failure::Block => matches!(error, RequestError::Block(_)),
                };
                id == other && fits
            }
            (MustEvent::ObserverGone(id), Event::ObserverGone { id: other }) => id == other,
            _ => false,
        }
    }
}

/// What makes two requests the same resource for a transfer: method, and options that are part of the cache key
/// (RFC 7252 §5.6), those of transfer and observation excepted.
pub(super) type Key = (Code, Vec<(u16, Vec<u8>)>);

fn key(code: Code, options: &Options) -> Key {
    let apart = |number| {
        matches!(number, number::BLOCK1 | number::BLOCK2 | number::OBSERVE) || number & 0x1e == 0x1c
    };
    let list = options
        .iter()
        .filter(|(number, _)| !apart(*number))
        .map(|(number, value)| (number, value.to_vec()))
        .collect();
    (code, list)
}

fn path(options: &[(u16, Vec<u8>)]) -> String {
    options
        .iter()
        .filter(|(number, _)| *number == number::URI_PATH)
        .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        .collect::<Vec<_>>()
        .join("/")
}
