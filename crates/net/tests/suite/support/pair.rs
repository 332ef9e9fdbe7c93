//! Tables of associations joined by a network that loses, repeats, delays and reorders, in virtual time.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use homefleet_coap::SessionId;
use homefleet_net::dtls::{CloseReason, Config, Event, Expected, Sessions, Verifier, Version};
use homefleet_trust::PeerIdentity;

use super::pki::{Ca, Issued};

/// A small generator, so that every run repeats.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Weather {
    pub(crate) loss: u64,
    pub(crate) duplicate: u64,
    /// Delay of a datagram is 5 ms plus up to this.
    pub(crate) jitter_ms: u64,
}

pub(crate) struct Net {
    pub(crate) now: Instant,
    pub(crate) nodes: HashMap<SocketAddr, Node>,
    pub(crate) weather: Weather,
    flights: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    sequence: u64,
    dice: Dice,
}

pub(crate) struct Node {
    pub(crate) sessions: Sessions,
    pub(crate) events: Vec<Event>,
    /// Bytes sent to each address, as seen on the wire.
    pub(crate) sent_to: HashMap<SocketAddr, u64>,
    /// Largest datagram sent.
    pub(crate) largest: usize,
}

pub(crate) fn addr(n: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, (n >> 8) as u8], 5684 + (n & 0xff)))
}

pub(crate) fn expect(host: &str, endpoint_id: Option<&str>) -> Expected {
    Expected {
        host: host.to_owned(),
        endpoint_id: endpoint_id.map(str::to_owned),
    }
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: Instant::now(),
            nodes: HashMap::new(),
            weather: Weather::default(),
            flights: BTreeMap::new(),
            sequence: 0,
            dice: Dice::new(seed),
        }
    }

    pub(crate) fn add(
        &mut self,
        addr: SocketAddr,
        config: Config,
        issued: &Issued,
        verifier: Arc<dyn Verifier>,
    ) {
        let sessions = Sessions::new(config, issued.credentials(), verifier).unwrap();
        self.nodes.insert(
            addr,
            Node {
                sessions,
                events: Vec::new(),
                sent_to: HashMap::new(),
                largest: 0,
            },
        );
    }

    pub(crate) fn node(&mut self, addr: SocketAddr) -> &mut Node {
        self.nodes.get_mut(&addr).unwrap()
    }

    pub(crate) fn connect(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        expected: Expected,
    ) -> SessionId {
        let now = self.now;
        let id = self.node(from).sessions.connect(now, to, expected).unwrap();
        self.collect();
        id
    }

    pub(crate) fn send(&mut self, from: SocketAddr, id: SessionId, payload: &[u8]) {
        let now = self.now;
        self.node(from).sessions.send(now, id, payload).unwrap();
        self.collect();
    }

    /// A datagram out of nowhere.
    pub(crate) fn inject(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        let now = self.now;
        self.node(to).sessions.handle_input(now, from, datagram);
        self.collect();
    }

    /// Moves what the tables have to say onto the network.
    pub(crate) fn collect(&mut self) {
        let now = self.now;
        let mut all = Vec::new();
        for (addr, node) in &mut self.nodes {
            while let Some(transmit) = node.sessions.poll_transmit() {
                *node.sent_to.entry(transmit.to).or_default() += transmit.payload.len() as u64;
                node.largest = node.largest.max(transmit.payload.len());
                all.push((*addr, transmit.to, transmit.payload));
            }
            while let Some(event) = node.sessions.poll_event() {
                node.events.push(event);
            }
        }
        for (from, to, payload) in all {
            let copies = if self.dice.percent(self.weather.loss) {
                0
            } else if self.dice.percent(self.weather.duplicate) {
                2
            } else {
                1
            };
            for _ in 0..copies {
                let jitter = if self.weather.jitter_ms == 0 {
                    0
                } else {
                    self.dice.next() % self.weather.jitter_ms
                };
                self.sequence += 1;
                self.flights.insert(
                    (now + Duration::from_millis(5 + jitter), self.sequence),
                    (from, to, payload.clone()),
                );
            }
        }
    }

    /// Takes datagrams that are on their way out of the network.
    pub(crate) fn intercept(&mut self) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
        std::mem::take(&mut self.flights).into_values().collect()
    }

    /// Lets time pass until nothing happens before `limit` is over.
    pub(crate) fn run(&mut self, limit: Duration) {
        let end = self.now + limit;
        loop {
            self.collect();
            let flight = self.flights.keys().next().map(|(due, _)| *due);
            let timer = self
                .nodes
                .values()
                .filter_map(|node| node.sessions.poll_timeout())
                .min();
            let Some(next) = [flight, timer].into_iter().flatten().min() else {
                self.now = end;
                return;
            };
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            let now = self.now;
            while let Some(entry) = self.flights.first_entry() {
                if entry.key().0 > now {
                    break;
                }
                let (from, to, payload) = entry.remove();
                if let Some(node) = self.nodes.get_mut(&to) {
                    node.sessions.handle_input(now, from, &payload);
                }
            }
            for node in self.nodes.values_mut() {
                if node.sessions.poll_timeout().is_some_and(|due| due <= now) {
                    node.sessions.handle_timeout(now);
                }
            }
        }
    }
}

/// What `Event::Established` said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Established {
    pub(crate) session: SessionId,
    pub(crate) peer: Arc<PeerIdentity>,
    pub(crate) initiated: bool,
    pub(crate) sni: Option<String>,
    pub(crate) version: Version,
    pub(crate) resumed: bool,
}

impl Node {
    pub(crate) fn established(&self) -> Vec<Established> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Established {
                    session,
                    peer,
                    initiated,
                    sni,
                    version,
                    resumed,
                    ..
                } => Some(Established {
                    session: *session,
                    peer: peer.clone(),
                    initiated: *initiated,
                    sni: sni.clone(),
                    version: *version,
                    resumed: *resumed,
                }),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn data(&self) -> Vec<Vec<u8>> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Data { payload, .. } => Some(payload.clone()),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn closed(&self) -> Vec<CloseReason> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Closed { reason, .. } => Some(reason.clone()),
                _ => None,
            })
            .collect()
    }
}

pub(crate) const AGENT: &str = "os::00D09E-0001";
pub(crate) const CONTROLLER: &str = "self::controller.example.com";

/// An agent at `addr(1)` and a controller at `addr(2)`, both under one CA.
pub(crate) fn pair(seed: u64, config: Config) -> (Net, Ca, SocketAddr, SocketAddr) {
    let ca = Ca::new("Test CA");
    let mut net = Net::new(seed);
    let (agent, controller) = (addr(1), addr(2));
    net.add(agent, config.clone(), &ca.endpoint(AGENT), ca.verifier());
    net.add(controller, config, &ca.endpoint(CONTROLLER), ca.verifier());
    (net, ca, agent, controller)
}
