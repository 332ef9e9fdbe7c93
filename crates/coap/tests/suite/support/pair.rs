//! Two endpoints and a network that loses, repeats and reorders, in virtual time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use homefleet_coap::{Config, Endpoint, Event, Message, Peer, Request, RequestId, Response};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::{peer, start};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// How bad the network is; shares are in 0 to 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network {
    pub(crate) loss: f64,
    pub(crate) duplication: f64,
    pub(crate) latency: Duration,
    /// Up to so much more for each datagram, so that they overtake each other.
    pub(crate) jitter: Duration,
}

impl Network {
    pub(crate) const GOOD: Network = Network {
        loss: 0.0,
        duplication: 0.0,
        latency: Duration::from_millis(10),
        jitter: Duration::ZERO,
    };

    pub(crate) const BAD: Network = Network {
        loss: 0.25,
        duplication: 0.25,
        latency: Duration::from_millis(10),
        jitter: Duration::from_millis(400),
    };
}

type Handler = Box<dyn FnMut(&Request) -> Option<Response>>;

/// Two endpoints.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) client: Endpoint,
    pub(crate) server: Endpoint,
    pub(crate) network: Network,
    rng: ChaCha8Rng,
    flying: BTreeMap<(Instant, u64), (Side, Vec<u8>)>,
    sent: u64,
    /// Every datagram sent, lost ones too: who sent it, and what.
    pub(crate) log: Vec<(Side, Message)>,
    pub(crate) client_events: Vec<Event>,
    pub(crate) server_events: Vec<Event>,
    handler: Handler,
    /// How often the handler ran.
    pub(crate) handled: Vec<Request>,
}

impl Pair {
    pub(crate) fn new(seed: u64, network: Network, handler: Handler) -> Pair {
        Pair::with(seed, network, |_, _| {}, handler)
    }

    pub(crate) fn with(
        seed: u64,
        network: Network,
        change: impl FnOnce(&mut Config, &mut Config),
        handler: Handler,
    ) -> Pair {
        // What holds answers back is switched on by the tests that are about it (RFC 9175 §2.4, RFC 7641 §4.5.1).
        let plain = Config {
            amplification: 0,
            notify_pace: std::time::Duration::ZERO,
            ..Config::default()
        };
        let (mut client, mut server) = (plain.clone(), plain);
        change(&mut client, &mut server);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut bytes = || {
            let mut seed = [0; 32];
            rng.fill_bytes(&mut seed);
            seed
        };
        let (one, two) = (bytes(), bytes());
        Pair {
            now: start(),
            client: Endpoint::new(client, one),
            server: Endpoint::new(server, two),
            network,
            rng,
            flying: BTreeMap::new(),
            sent: 0,
            log: Vec::new(),
            client_events: Vec::new(),
            server_events: Vec::new(),
            handler,
            handled: Vec::new(),
        }
    }

    pub(crate) fn client_peer() -> Peer {
        peer(40_001)
    }

    pub(crate) fn server_peer() -> Peer {
        peer(5683)
    }

    pub(crate) fn request(&mut self, request: Request) -> RequestId {
        let id = self
            .client
            .request(self.now, Pair::server_peer(), request)
            .unwrap();
        self.drain();
        id
    }

    fn chance(&mut self, share: f64) -> bool {
        f64::from(self.rng.next_u32()) < share * f64::from(u32::MAX)
    }

    fn fly(&mut self, from: Side, payload: Vec<u8>) {
        self.log.push((from, Message::decode(&payload).unwrap()));
        let copies = 1 + u64::from(self.chance(self.network.duplication));
        for _ in 0..copies {
            if self.chance(self.network.loss) {
                continue;
            }
            let jitter = self.network.jitter.as_micros() as u64;
            let extra = if jitter == 0 {
                0
            } else {
                self.rng.next_u64() % jitter
            };
            let at = self.now + self.network.latency + Duration::from_micros(extra);
            self.sent += 1;
            self.flying.insert((at, self.sent), (from, payload.clone()));
        }
    }

    pub(crate) fn drain(&mut self) {
        loop {
            let mut idle = true;
            while let Some(transmit) = self.client.poll_transmit() {
                assert_eq!(transmit.to, Pair::server_peer());
                self.fly(Side::Client, transmit.payload);
                idle = false;
            }
            while let Some(transmit) = self.server.poll_transmit() {
                assert_eq!(transmit.to, Pair::client_peer());
                self.fly(Side::Server, transmit.payload);
                idle = false;
            }
            while let Some(event) = self.client.poll_event() {
                self.client_events.push(event);
            }
            while let Some(event) = self.server.poll_event() {
                idle = false;
                if let Event::Request {
                    exchange, request, ..
                } = &event
                {
                    self.handled.push(request.clone());
                    if let Some(response) = (self.handler)(request) {
                        self.server.respond(self.now, *exchange, response).unwrap();
                        continue;
                    }
                }
                self.server_events.push(event);
            }
            if idle {
                return;
            }
        }
    }

    /// The next thing that happens; `false` when nothing will.
    fn step(&mut self, end: Instant) -> bool {
        let arrival = self.flying.first_key_value().map(|(key, _)| key.0);
        let next = [
            arrival,
            self.client.poll_timeout(),
            self.server.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min();
        let Some(next) = next.filter(|next| *next <= end) else {
            return false;
        };
        self.now = self.now.max(next);
        while let Some(first) = self.flying.first_entry() {
            if first.key().0 > self.now {
                break;
            }
            match first.remove() {
                (Side::Client, payload) => {
                    self.server
                        .handle_input(self.now, Pair::client_peer(), &payload);
                }
                (Side::Server, payload) => {
                    self.client
                        .handle_input(self.now, Pair::server_peer(), &payload);
                }
            }
            self.drain();
        }
        self.client.handle_timeout(self.now);
        self.server.handle_timeout(self.now);
        self.drain();
        true
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.drain();
        while self.step(end) {}
        self.now = end;
    }

    /// The response to a request, within five minutes.
    pub(crate) fn response(&mut self, id: RequestId) -> Result<Response, String> {
        let end = self.now + Duration::from_secs(300);
        self.drain();
        loop {
            let at = self.client_events.iter().position(|event| match event {
                Event::Response { id: other, .. } | Event::Failed { id: other, .. } => *other == id,
                _ => false,
            });
            if let Some(at) = at {
                return match self.client_events.remove(at) {
                    Event::Response { response, .. } => Ok(response),
                    other => Err(format!("{other:?}")),
                };
            }
            if !self.step(end) {
                return Err("nothing happens any more".to_owned());
            }
        }
    }

    /// What one side sent.
    pub(crate) fn sent(&self, side: Side) -> Vec<&Message> {
        self.log
            .iter()
            .filter(|(from, _)| *from == side)
            .map(|(_, message)| message)
            .collect()
    }
}
