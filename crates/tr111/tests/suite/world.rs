//! A device behind a NAT gateway and a server, in virtual time.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use homefleet_tr111::{
    client::{Client, ClientConfig, Event, Socket, Transmit},
    server::{Authenticate, Server, ServerConfig},
    stun::{Attribute, Message},
};

pub const USERNAME: &str = "cpe-0001";
pub const PASSWORD: &[u8] = b"a strong password";

/// The start of time.
#[allow(clippy::disallowed_methods)]
pub fn start() -> Instant {
    Instant::now()
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Whose password is known.
pub fn known(username: &[u8]) -> Option<&'static [u8]> {
    (username == USERNAME.as_bytes()).then_some(PASSWORD)
}

/// How the gateway translates.
#[derive(Clone, Copy, PartialEq)]
pub struct Nat {
    /// Whether it translates at all.
    pub on: bool,
    /// A mapping lives as long without traffic.
    pub timeout: Duration,
    /// A mapping that died gets another port.
    pub moves: bool,
}

/// One datagram that reached the server.
pub struct Seen {
    pub at: Duration,
    pub octets: Vec<u8>,
}

impl Seen {
    pub fn has(&self, attribute: Attribute<'_>) -> bool {
        Message::decode(&self.octets).unwrap().has(attribute)
    }
}

pub struct World {
    pub start: Instant,
    pub now: Instant,
    pub client: Client,
    pub server: Server,
    pub config: ClientConfig,
    pub nat: Nat,
    /// Whether the server follows RESPONSE-ADDRESS; coturn does not.
    pub tests_work: bool,
    /// Whether the server answers.
    pub up: bool,
    /// Drops the response to every n-th datagram.
    pub lose_every: usize,
    pub seen: Vec<Seen>,
    pub sent: Vec<(Duration, Transmit)>,
    pub events: Vec<(Duration, Event)>,
    pub learned: usize,
    mappings: BTreeMap<u16, (SocketAddr, Instant)>,
    next_port: u16,
}

pub const SERVER: &str = "203.0.113.1:3478";
pub const LOCAL: &str = "192.168.1.20:7547";
pub const PUBLIC: &str = "198.51.100.9";

/// A device with credentials that may refresh every 1 to 60 s.
pub fn config() -> ClientConfig {
    ClientConfig {
        username: USERNAME.into(),
        password: PASSWORD.into(),
        minimum: secs(1),
        maximum: Some(secs(60)),
        ..ClientConfig::new(address(SERVER), address(LOCAL))
    }
}

pub fn behind(timeout: u64) -> Nat {
    Nat {
        on: true,
        timeout: secs(timeout),
        moves: true,
    }
}

impl World {
    pub fn new(config: ClientConfig, nat: Nat, authenticate: Authenticate) -> Self {
        let start = start();
        let server = ServerConfig {
            authenticate,
            ..ServerConfig::default()
        };
        Self {
            start,
            now: start,
            client: Client::new(config.clone(), [3; 32], start),
            server: Server::new(server),
            config,
            nat,
            tests_work: true,
            up: true,
            lose_every: usize::MAX,
            seen: Vec::new(),
            sent: Vec::new(),
            events: Vec::new(),
            learned: 0,
            mappings: BTreeMap::new(),
            next_port: 50_000,
        }
    }

    /// Lets time pass, with everything that happens.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.deliver();
        while let Some(due) = self.client.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.client.handle_timeout(self.now);
            self.deliver();
        }
        self.now = end;
    }

    /// The gateway forgets everything.
    pub fn reboot_gateway(&mut self) {
        self.mappings.clear();
        self.next_port += 1000;
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    fn deliver(&mut self) {
        loop {
            while let Some(event) = self.client.poll_event() {
                self.events.push((self.elapsed(), event));
            }
            let Some(transmit) = self.client.poll_transmit() else {
                return;
            };
            self.sent.push((self.elapsed(), transmit.clone()));
            self.carry(&transmit);
        }
    }

    fn carry(&mut self, transmit: &Transmit) {
        let inside = match transmit.socket {
            Socket::Primary => self.config.local,
            Socket::Secondary => {
                SocketAddr::new(self.config.local.ip(), self.config.local.port() + 1)
            }
        };
        let from = self.outwards(inside);
        self.seen.push(Seen {
            at: self.elapsed(),
            octets: transmit.octets.clone(),
        });
        if !self.up {
            return;
        }
        let mut out = Vec::new();
        let local = address(SERVER);
        let outcome =
            self.server
                .handle_input(self.now, local, from, &transmit.octets, &known, &mut out);
        self.learned += usize::from(outcome.learned.is_some());
        let reply = outcome.reply.unwrap();
        let to = if self.tests_work { reply.to } else { from };
        if self.seen.len().is_multiple_of(self.lose_every) {
            return;
        }
        if let Some(inside) = self.inwards(to) {
            let primary = inside == self.config.local;
            let socket = if primary {
                Socket::Primary
            } else {
                Socket::Secondary
            };
            self.client.handle_input(self.now, socket, local, &out);
        }
    }

    fn outwards(&mut self, inside: SocketAddr) -> SocketAddr {
        if !self.nat.on {
            return inside;
        }
        let (now, nat) = (self.now, self.nat);
        let alive = |(_, (to, last)): &(&u16, &mut (SocketAddr, Instant))| {
            *to == inside && (!nat.moves || now - *last < nat.timeout)
        };
        let found = self.mappings.iter_mut().find(alive);
        let port = match found {
            Some((port, (_, last))) => {
                *last = now;
                *port
            }
            None => {
                self.next_port += 1;
                self.mappings.insert(self.next_port, (inside, now));
                self.next_port
            }
        };
        SocketAddr::new(PUBLIC.parse().unwrap(), port)
    }

    fn inwards(&mut self, to: SocketAddr) -> Option<SocketAddr> {
        if !self.nat.on {
            return Some(to);
        }
        let (inside, last) = self.mappings.get_mut(&to.port())?;
        if self.now - *last >= self.nat.timeout {
            return None;
        }
        *last = self.now;
        Some(*inside)
    }
}
