//! The device: learns its binding, keeps it alive, tells when it changed (TR-111 Part 2 §2.2.1).
//!
//! ```text
//! Binding Request from the primary socket ──► MAPPED-ADDRESS ──► NAT? changed? ──► BINDING-CHANGE, Event::Binding
//!        ▲                                                          │
//!        └── refresh ◄── response at the primary socket: alive ◄── silence ──► test from the secondary socket, RESPONSE-ADDRESS = primary
//!                        none: expired, response at the secondary socket: the server cannot test
//! ```
//!
//! The silences that are tried double until the binding does not outlast one, then the range is halved until it is known to
//! [`ClientConfig::resolution`]. Then every [`ClientConfig::monitor_every`]th refresh, and the one after a change, tests first.
//!
//! UDP Connection Requests come to the primary socket too and are none of this machine's business: who reads the socket tells them apart
//! by [`crate::stun::is_stun`], and listens also when STUN is disabled.

mod config;
mod exchange;
mod search;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::stun::{Attribute, Builder, ErrorCode, Message, Method, Padding, TransactionId};
pub use config::ClientConfig;
use exchange::{Due, Exchange, Purpose, TEST_TIME};
use search::Search;

/// Which of the device's two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Socket {
    /// Where UDP Connection Requests are listened for.
    Primary,
    /// From where the binding is tested; its port is another one.
    Secondary,
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// From this socket.
    pub socket: Socket,
    /// To this address.
    pub to: SocketAddr,
    /// Its content.
    pub octets: Vec<u8>,
}

/// What the device learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The binding was determined, or has changed: the data model is to be updated (§2.2.1.3).
    Binding {
        /// UDPConnectionRequestAddress.
        address: SocketAddr,
        /// NATDetected.
        nat: bool,
    },
    /// The binding's timeout is known.
    Timeout {
        /// The longest silence that it outlasted, or the minimum period when it did not outlast even that.
        alive: Duration,
        /// The shortest that it did not; `None` when it outlasted all that were tried.
        expired: Option<Duration>,
    },
    /// The server ignores RESPONSE-ADDRESS or refuses it: the timeout cannot be found out, and the fallback period counts.
    CannotTest,
    /// The server did not answer a refresh; the next comes after the usual period.
    Unanswered,
    /// The server refused a request.
    Refused(ErrorCode),
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// Requests, without repetitions.
    pub requests: u64,
    /// Datagrams sent, with repetitions.
    pub sent: u64,
    /// Responses that were taken.
    pub responses: u64,
    /// Datagrams that are no STUN message.
    pub malformed: u64,
    /// Messages from another address than the server's.
    pub strangers: u64,
    /// Responses to nothing that waits.
    pub unmatched: u64,
    /// Responses without valid MESSAGE-INTEGRITY where the request had it, discarded (§2.2.1.1).
    pub unauthentic: u64,
    /// Responses with a mandatory attribute that is not known, or without MAPPED-ADDRESS, discarded (RFC 3489 §9.4).
    pub unusable: u64,
    /// Requests that nobody answered, tests that found the binding expired not counted.
    pub unanswered: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Changes of the binding, the first one counted.
    pub changes: u64,
}

/// What happens when the wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Refresh,
    Test,
}

/// What is known about the timeout.
#[derive(Clone, Debug)]
enum Timeout {
    /// Being found out; without NAT it rests.
    Searching(Search),
    /// Found.
    Known(Search),
    /// It cannot be found out, or needs not: minimum and maximum are the same.
    Fixed,
}

/// The binding machine of a device.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    rng: ChaCha20Rng,
    /// The binding, as last seen.
    mapped: Option<SocketAddr>,
    timeout: Timeout,
    /// What was last told about it.
    found: Option<(Duration, Option<Duration>)>,
    exchanges: Vec<Exchange>,
    /// When the primary socket last sent or received.
    touched: Instant,
    /// What happens next; `None` while something is under way that decides it.
    plan: Option<(Instant, Plan)>,
    /// Refreshes until the next monitoring test.
    until_test: u32,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    stats: ClientStats,
}

impl Client {
    /// Starts, and asks for the binding at once. The seed is for transaction IDs.
    pub fn new(config: ClientConfig, seed: [u8; 32], now: Instant) -> Self {
        let mut client = Self {
            timeout: Self::unknown(&config),
            found: None,
            config,
            rng: ChaCha20Rng::from_seed(seed),
            mapped: None,
            exchanges: Vec::new(),
            touched: now,
            plan: None,
            until_test: 0,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            stats: ClientStats::default(),
        };
        client.refresh(now);
        client
    }

    /// Goes on with another configuration. Another server or local address means that the binding is discovered anew at once, which the
    /// minimum period does not delay (§2.2.1.1).
    pub fn configure(&mut self, config: ClientConfig, now: Instant) {
        if self.config == config {
            return;
        }
        let moved = (self.config.server, self.config.local) != (config.server, config.local);
        self.timeout = Self::unknown(&config);
        self.config = config;
        if moved {
            self.mapped = None;
        }
        self.exchanges.clear();
        self.refresh(now);
    }

    /// Counters since the start.
    pub fn stats(&self) -> ClientStats {
        self.stats
    }

    /// The server that is asked.
    pub fn server(&self) -> SocketAddr {
        self.config.server
    }

    /// The binding as last seen, and whether there is NAT.
    pub fn binding(&self) -> Option<(SocketAddr, bool)> {
        self.mapped
            .map(|mapped| (mapped, mapped != self.config.local))
    }

    /// The time between refreshes as it is now.
    pub fn period(&self) -> Duration {
        let period = match &self.timeout {
            Timeout::Known(search) | Timeout::Searching(search) => search.period(),
            Timeout::Fixed if self.has_range() => self.config.fallback,
            Timeout::Fixed => self.config.minimum,
        };
        match self.binding() {
            // Without NAT there is nothing to keep alive, and still to be noticed when there is some.
            Some((_, false)) => self.config.held(Duration::MAX),
            _ => self.config.held(period),
        }
    }

    /// Takes a datagram that came to `socket` and is STUN by its first octet.
    pub fn handle_input(&mut self, now: Instant, socket: Socket, from: SocketAddr, octets: &[u8]) {
        let Ok(message) = Message::decode(octets) else {
            self.stats.malformed += 1;
            return;
        };
        if from != self.config.server {
            self.stats.strangers += 1;
            return;
        }
        let Some(at) = self.waiting_for(&message, socket) else {
            self.stats.unmatched += 1;
            return;
        };
        if socket == Socket::Primary {
            self.touched = now;
        }
        match message.method {
            Method::BindingResponse => self.answered(now, at, socket, &message),
            _ => self.refused(now, at, &message),
        }
    }

    /// The exchange that a response belongs to, at the socket where it may come.
    fn waiting_for(&self, message: &Message<'_>, socket: Socket) -> Option<usize> {
        let wanted = |exchange: &Exchange| {
            exchange.id == message.transaction
                && match message.method {
                    Method::BindingResponse => {
                        socket == Socket::Primary || exchange.purpose.socket() == socket
                    }
                    Method::BindingErrorResponse => exchange.purpose.socket() == socket,
                    _ => false,
                }
        };
        self.exchanges.iter().position(wanted)
    }

    fn answered(&mut self, now: Instant, at: usize, socket: Socket, message: &Message<'_>) {
        if self.exchanges[at].protected {
            let valid = message
                .integrity()
                .and_then(|integrity| integrity.verify(&self.config.password));
            if valid.is_none() {
                self.stats.unauthentic += 1;
                return;
            }
        }
        let usable = message.unknown_mandatory().next().is_none();
        let Some(mapped) = message.mapped_address().filter(|_| usable) else {
            self.stats.unusable += 1;
            return;
        };
        self.stats.responses += 1;
        match self.exchanges.swap_remove(at).purpose {
            Purpose::Refresh => self.learned(now, mapped),
            // It came from the primary socket: what it says about the binding is as good.
            Purpose::Change if Some(mapped) != self.mapped => self.learned(now, mapped),
            Purpose::Change => {}
            Purpose::Test { silence } if socket == Socket::Primary => self.outlasted(now, silence),
            Purpose::Test { .. } => self.cannot_test(now),
        }
    }

    /// A Binding Error Response.
    fn refused(&mut self, now: Instant, at: usize, message: &Message<'_>) {
        let Some(code) = message.error_code() else {
            self.stats.unusable += 1;
            return;
        };
        let Exchange {
            purpose, protected, ..
        } = self.exchanges.swap_remove(at);
        if code == ErrorCode::UNAUTHORIZED && !protected && self.config.has_credentials() {
            return self.request(now, purpose, true);
        }
        self.stats.refused += 1;
        match purpose {
            Purpose::Refresh => {
                self.events.push_back(Event::Refused(code));
                self.wait(now);
            }
            // No further attempt until the binding changes again (§2.2.1.3).
            Purpose::Change => self.events.push_back(Event::Refused(code)),
            Purpose::Test { .. } => self.cannot_test(now),
        }
    }

    /// What a response to the primary socket says about the binding.
    fn learned(&mut self, now: Instant, mapped: SocketAddr) {
        if self.mapped.replace(mapped) != Some(mapped) {
            self.stats.changes += 1;
            let nat = mapped != self.config.local;
            self.events.push_back(Event::Binding {
                address: mapped,
                nat,
            });
            // It was lost before its time, perhaps: the next refresh finds out.
            self.until_test = 0;
            self.exchanges
                .retain(|exchange| exchange.purpose != Purpose::Change);
            self.request(now, Purpose::Change, false);
        }
        self.wait(now);
    }

    /// The binding was still there.
    fn outlasted(&mut self, now: Instant, silence: Duration) {
        match &mut self.timeout {
            Timeout::Searching(search) => search.outlasted(silence),
            Timeout::Known(_) | Timeout::Fixed => {}
        }
        self.tested(now);
    }

    /// The binding was gone: the response to the test did not arrive.
    fn expired(&mut self, now: Instant, silence: Duration) {
        match &mut self.timeout {
            Timeout::Searching(search) => search.expired(silence),
            // The gateway is another one, or has other timers now.
            Timeout::Known(_) => self.timeout = Timeout::Searching(self.search().below(silence)),
            Timeout::Fixed => {}
        }
        self.tested(now);
    }

    fn tested(&mut self, now: Instant) {
        self.until_test = self.config.monitor_every;
        if let Timeout::Searching(search) = &self.timeout
            && search.next().is_none()
        {
            let found = search.found();
            if self.found.replace(found) != Some(found) {
                let (alive, expired) = found;
                self.events.push_back(Event::Timeout { alive, expired });
            }
            self.timeout = Timeout::Known(search.clone());
        }
        self.refresh(now);
    }

    fn cannot_test(&mut self, now: Instant) {
        self.timeout = Timeout::Fixed;
        self.events.push_back(Event::CannotTest);
        self.refresh(now);
    }

    /// Nobody answered.
    fn failed(&mut self, now: Instant, purpose: Purpose) {
        match purpose {
            Purpose::Refresh => {
                self.stats.unanswered += 1;
                self.events.push_back(Event::Unanswered);
                self.wait(now);
            }
            // No further attempt until the binding changes again (§2.2.1.3).
            Purpose::Change => self.stats.unanswered += 1,
            Purpose::Test { silence } => self.expired(now, silence),
        }
    }

    /// Plans what comes after a refresh.
    fn wait(&mut self, now: Instant) {
        let nat = self.binding().is_some_and(|(_, nat)| nat);
        let (silence, plan) = match &self.timeout {
            Timeout::Searching(search) if nat => match search.next() {
                Some(silence) => (silence, Plan::Test),
                None => (self.period(), Plan::Test),
            },
            Timeout::Known(_) if nat && self.until_test == 0 => (self.period(), Plan::Test),
            _ => (self.period(), Plan::Refresh),
        };
        self.until_test = self.until_test.saturating_sub(1);
        self.plan = Some((now + silence, plan));
    }

    /// Time passes.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(at) = self
            .exchanges
            .iter()
            .position(|exchange| exchange.due <= now)
        {
            match self.exchanges[at].handle_timeout(now) {
                Some(Due::Again) => {
                    let exchange = &self.exchanges[at];
                    let (socket, octets) = (exchange.purpose.socket(), exchange.octets.clone());
                    self.send(now, socket, octets);
                }
                Some(Due::Failed) => {
                    let purpose = self.exchanges.swap_remove(at).purpose;
                    self.failed(now, purpose);
                }
                None => {}
            }
        }
        match self.plan {
            Some((due, Plan::Refresh)) if due <= now => self.refresh(now),
            Some((due, Plan::Test)) if due <= now => self.test(now, due),
            _ => {}
        }
    }

    /// Asks for the binding from the primary socket.
    fn refresh(&mut self, now: Instant) {
        self.plan = None;
        let running = |exchange: &Exchange| exchange.purpose == Purpose::Refresh;
        if !self.exchanges.iter().any(running) {
            self.request(now, Purpose::Refresh, false);
        }
    }

    /// Tests from the secondary socket, once the primary was silent for long enough.
    fn test(&mut self, now: Instant, due: Instant) {
        let wanted = match &self.timeout {
            Timeout::Searching(search) => search.next().unwrap_or_else(|| self.period()),
            Timeout::Known(_) => self.period(),
            Timeout::Fixed => return self.refresh(now),
        };
        // A BINDING-CHANGE and its answer touched it meanwhile; but the operator's maximum counts from the last refresh.
        let silence = now.saturating_duration_since(self.touched);
        if silence < wanted {
            let at = self.touched + wanted;
            if at <= due + cap(&self.config).saturating_sub(wanted) {
                self.plan = Some((at, Plan::Test));
                return;
            }
            return self.refresh(now);
        }
        self.plan = None;
        self.request(now, Purpose::Test { silence }, false);
    }

    /// Sends a request for the first time (RFC 3489 §9.2, TR-111 §2.2.1.3).
    fn request(&mut self, now: Instant, purpose: Purpose, protected: bool) {
        let mut id = TransactionId([0; 16]);
        self.rng.fill_bytes(&mut id.0);
        let primary = purpose.socket() == Socket::Primary;
        let username = Attribute::Username(self.config.username.as_bytes());
        let named = protected || (primary && !self.config.username.is_empty());
        let response = match (purpose, self.mapped) {
            (Purpose::Test { .. }, Some(mapped)) => Some(Attribute::ResponseAddress(mapped)),
            _ => None,
        };
        let builder = Builder::new(Method::BindingRequest, id)
            .optional(response)
            .optional(named.then_some(username))
            .optional(primary.then_some(Attribute::ConnectionRequestBinding))
            .optional((purpose == Purpose::Change).then_some(Attribute::BindingChange));
        let octets = if protected {
            builder.protect(&self.config.password, Padding::Block)
        } else {
            builder.build()
        };
        self.stats.requests += 1;
        self.send(now, purpose.socket(), octets.clone());
        self.exchanges
            .push(Exchange::start(now, id, purpose, protected, octets));
    }

    fn send(&mut self, now: Instant, socket: Socket, octets: Vec<u8>) {
        if socket == Socket::Primary {
            self.touched = now;
        }
        self.stats.sent += 1;
        let to = self.config.server;
        self.transmits.push_back(Transmit { socket, to, octets });
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// What was learned.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Client::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let plan = self.plan.map(|(due, _)| due);
        self.exchanges
            .iter()
            .map(|exchange| exchange.due)
            .chain(plan)
            .min()
    }

    /// Whether the operator left a range in which the timeout matters (§2.2.1.2).
    fn has_range(&self) -> bool {
        self.config.maximum != Some(self.config.minimum)
    }

    fn unknown(config: &ClientConfig) -> Timeout {
        if config.maximum == Some(config.minimum) {
            Timeout::Fixed
        } else {
            Timeout::Searching(new_search(config))
        }
    }

    fn search(&self) -> Search {
        new_search(&self.config)
    }
}

fn new_search(config: &ClientConfig) -> Search {
    Search::new(config.minimum, cap(config), config.resolution)
}

/// The longest silence to try: after it there is the test, and then the refresh must not be later than the maximum.
fn cap(config: &ClientConfig) -> Duration {
    let longest = |maximum: Duration| maximum.saturating_sub(TEST_TIME).max(config.minimum);
    config.maximum.map_or(config.longest, longest)
}
