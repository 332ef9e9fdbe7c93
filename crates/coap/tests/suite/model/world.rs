//! The endpoint, its peers, the network between them, and what may happen.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use homefleet_coap::{
    Code, Config, Endpoint, Message, ObservationId, Peer, Request, RequestId, Response,
};

use super::peers::FakePeer;
use super::reference::{Model, Verdict};
use crate::support::{body, peer, start};

/// How many peers there are.
pub(super) const PEERS: usize = 3;
/// The network holds nothing longer (RFC 7252 §4.8.2: MAX_LATENCY).
const MAX_LATENCY: Duration = Duration::from_secs(100);

/// What happens, with two numbers to choose by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Op {
    what: What,
    pub(super) a: usize,
    pub(super) b: usize,
}

#[derive(Clone, Copy, Debug)]
enum What {
    PeerAsks,
    PeerUploads,
    PeerWantsBlock,
    PeerNoise,
    PeerNotifies,
    Arrive,
    Duplicate,
    LoseIn,
    PeerGets,
    LoseOut,
    AppAsks,
    AppAnswers,
    AppNotifies,
    AppCancels,
    AppEndsObservation,
    PeerRestarts,
    Forget,
    Moment,
    Seconds,
    Minutes,
    LatePoll,
}

/// How often each happens.
const WEIGHTS: [(What, usize); 21] = [
    (What::PeerAsks, 8),
    (What::PeerUploads, 12),
    (What::PeerWantsBlock, 4),
    (What::PeerNoise, 3),
    (What::PeerNotifies, 8),
    (What::Arrive, 40),
    (What::Duplicate, 6),
    (What::LoseIn, 3),
    (What::PeerGets, 30),
    (What::LoseOut, 4),
    (What::AppAsks, 8),
    (What::AppAnswers, 12),
    (What::AppNotifies, 8),
    (What::AppCancels, 1),
    (What::AppEndsObservation, 1),
    (What::PeerRestarts, 1),
    (What::Forget, 1),
    (What::Moment, 8),
    (What::Seconds, 6),
    (What::Minutes, 1),
    (What::LatePoll, 1),
];

impl Op {
    pub(super) fn random(bits: u64) -> Op {
        let all: usize = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut at = (bits & 0xffff) as usize % all;
        let mut what = What::Moment;
        for (candidate, weight) in WEIGHTS {
            if at < weight {
                what = candidate;
                break;
            }
            at -= weight;
        }
        Op {
            what,
            a: (bits >> 16 & 0xff_ffff) as usize,
            b: (bits >> 40) as usize,
        }
    }
}

/// A datagram on its way since some time, from or to a peer.
pub(super) type Flying = (Instant, usize, Vec<u8>);

pub(super) struct World {
    pub(super) endpoint: Endpoint,
    model: Model,
    now: Instant,
    begun: Instant,
    peers: Vec<FakePeer>,
    pub(super) to_endpoint: Vec<Flying>,
    to_peers: Vec<Flying>,
    states: u8,
    logging: bool,
    pub(super) log: Vec<String>,
}

fn config() -> Config {
    Config {
        amplification: 0,
        nstart: 2,
        block_size: 64,
        max_body: 700,
        max_exchanges_per_peer: 5,
        notify_con_every: 3,
        ..Config::default()
    }
}

fn address(index: usize) -> Peer {
    peer(1000 + index as u16)
}

fn index(addr: SocketAddr) -> usize {
    usize::from(addr.port()) - 1000
}

impl World {
    pub(super) fn new(logging: bool) -> World {
        let now = start();
        World {
            endpoint: Endpoint::new(config(), [5; 32]),
            model: Model::new(config(), PEERS),
            now,
            begun: now,
            peers: (0..PEERS).map(FakePeer::new).collect(),
            to_endpoint: Vec::new(),
            to_peers: Vec::new(),
            states: 0,
            logging,
            log: Vec::new(),
        }
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if self.logging {
            let at = self.now - self.begun;
            self.log.push(format!("{at:>12.3?} {}", text()));
        }
    }

    /// Does one thing, and has it judged.
    pub(super) fn transition(&mut self, op: &Op) -> Verdict {
        self.note(|| format!("- {op:?}"));
        let (a, b) = (op.a, op.b);
        let at = a % PEERS;
        match op.what {
            What::PeerAsks => self.peer_does(at, |peer| peer.asks(b)),
            What::PeerUploads => self.peer_does(at, |peer| peer.uploads(a / PEERS, b)),
            What::PeerWantsBlock => self.peer_does(at, |peer| peer.wants_block(b)),
            What::PeerNoise => self.peer_does(at, |peer| peer.noise(a / PEERS, b)),
            What::PeerNotifies => self.peer_does(at, |peer| peer.notifies(a / PEERS, b)),
            What::Arrive => return self.arrive(a, b),
            What::Duplicate => {
                if let Some(at) = pick(&self.to_endpoint, a) {
                    let again = self.to_endpoint[at].clone();
                    self.to_endpoint.push(again);
                }
            }
            What::LoseIn => {
                if let Some(at) = pick(&self.to_endpoint, a) {
                    self.to_endpoint.remove(at);
                }
            }
            What::PeerGets => self.peer_gets(a, b),
            What::LoseOut => {
                if let Some(at) = pick(&self.to_peers, a) {
                    self.to_peers.remove(at);
                }
            }
            What::AppAsks => return self.app_asks(at, b),
            What::AppAnswers => return self.app_answers(a, b),
            What::AppNotifies => return self.app_notifies(a, b),
            What::AppCancels => return self.app_cancels(a),
            What::AppEndsObservation => return self.app_ends_observation(a),
            What::PeerRestarts => self.peers[at].restarts(b),
            What::Forget => {
                self.model.forget(at);
                self.endpoint.forget_peer(self.now, address(at));
                return self.judge();
            }
            What::Moment => return self.pass(Duration::from_millis(a as u64 % 150)),
            What::Seconds => return self.pass(Duration::from_millis(a as u64 % 6000)),
            What::Minutes => return self.pass(Duration::from_secs(a as u64 % 260)),
            What::LatePoll => return self.late(Duration::from_millis(a as u64 % 20_000)),
        }
        Ok(())
    }

    fn peer_does(&mut self, at: usize, act: impl FnOnce(&mut FakePeer) -> Vec<Message>) {
        for message in act(&mut self.peers[at]) {
            self.to_endpoint.push((self.now, at, message.encode()));
        }
    }

    /// A datagram arrives: the oldest, or any.
    fn arrive(&mut self, a: usize, b: usize) -> Verdict {
        let any = pick(&self.to_endpoint, a);
        let Some(at) = any.map(|at| if b.is_multiple_of(3) { at } else { 0 }) else {
            return Ok(());
        };
        let (since, from, bytes) = self.to_endpoint.remove(at);
        let id = bytes
            .get(2..4)
            .map_or(0, |id| u16::from_be_bytes([id[0], id[1]]));
        if self.now - since >= MAX_LATENCY || self.model.is_borderline(self.now, from, id) {
            return Ok(());
        }
        self.note(|| format!("{from} > {:?}", Message::decode(&bytes)));
        self.model.input(self.now, from, &bytes);
        self.endpoint.handle_input(self.now, address(from), &bytes);
        self.judge()
    }

    fn peer_gets(&mut self, a: usize, b: usize) {
        let any = pick(&self.to_peers, a);
        let Some(at) = any.map(|at| if b.is_multiple_of(3) { at } else { 0 }) else {
            return;
        };
        let (since, to, bytes) = self.to_peers.remove(at);
        if self.now - since < MAX_LATENCY
            && let Ok(message) = Message::decode(&bytes)
        {
            for (from, message) in self.peers[to].gets(&message, b) {
                self.to_endpoint.push((self.now, from, message.encode()));
            }
        }
    }

    fn app_asks(&mut self, at: usize, b: usize) -> Verdict {
        let mut request = match b % 4 {
            0 | 1 => Request::post("up").payload(body([5, 30, 100, 200][b / 4 % 4], b as u8)),
            2 => Request::get("down"),
            _ => Request::get("watched").observe(),
        };
        request.confirmable = !(b / 64).is_multiple_of(4);
        let id = self
            .endpoint
            .request(self.now, address(at), request.clone())
            .map_err(|error| error.to_string())?;
        self.note(|| format!("app asks {at}: {id:?} {request:?}"));
        self.model.ask(at, id, request);
        self.judge()
    }

    fn app_answers(&mut self, a: usize, b: usize) -> Verdict {
        let open: Vec<_> = (0..PEERS)
            .flat_map(|at| self.model.peers[at].open.iter().map(move |open| (at, open)))
            .filter_map(|(at, open)| Some((at, open.exchange?, open.wants_notifications)))
            .collect();
        let Some(which) = pick(&open, a) else {
            return Ok(());
        };
        let (at, exchange, wants) = open[which];
        let response = match b % 8 {
            0 => Response::new(Code::NOT_FOUND).diagnostic("not here"),
            1 | 2 => Response::new(Code::CHANGED),
            3..6 => Response::content(42, body(12, b as u8)),
            _ => Response::content(42, body([40, 64, 65, 300][b / 8 % 4], b as u8)),
        };
        let mut observation = None;
        if wants && response.code.is_success() && !(b / 64).is_multiple_of(4) {
            let accepted = self.endpoint.accept_observer(exchange);
            observation = Some(accepted.map_err(|error| error.to_string())?);
        }
        self.note(|| format!("app answers {exchange:?} {response:?} {observation:?}"));
        self.model
            .respond(self.now, at, exchange, &response, observation);
        self.endpoint
            .respond(self.now, exchange, response)
            .map_err(|error| error.to_string())?;
        self.judge()
    }

    fn observations(&self) -> Vec<(usize, ObservationId)> {
        (0..PEERS)
            .flat_map(|at| {
                let observers = self.model.peers[at].observers.iter();
                observers.map(move |observer| (at, observer.id))
            })
            .collect()
    }

    fn app_notifies(&mut self, a: usize, b: usize) -> Verdict {
        let observations = self.observations();
        let Some(which) = pick(&observations, a) else {
            return Ok(());
        };
        let (at, id) = observations[which];
        self.states = self.states.wrapping_add(1);
        let response = if b.is_multiple_of(12) {
            Response::new(Code::NOT_FOUND)
        } else {
            Response::content(42, body(12, self.states))
        };
        self.note(|| format!("app notifies {id:?} {response:?}"));
        self.model.notify(at, id, &response);
        self.endpoint
            .notify(self.now, id, response)
            .map_err(|error| error.to_string())?;
        self.judge()
    }

    fn app_ends_observation(&mut self, a: usize) -> Verdict {
        let observations = self.observations();
        let Some(which) = pick(&observations, a) else {
            return Ok(());
        };
        let (at, id) = observations[which];
        self.model.end_observation(at, id);
        self.endpoint.end_observation(self.now, id);
        self.judge()
    }

    fn app_cancels(&mut self, a: usize) -> Verdict {
        let asked: Vec<(usize, RequestId)> = (0..PEERS)
            .flat_map(|at| self.model.peers[at].asked.iter().map(move |r| (at, r.id)))
            .collect();
        let Some(which) = pick(&asked, a) else {
            return Ok(());
        };
        let (at, id) = asked[which];
        self.model.cancel(at, id);
        self.endpoint.cancel(self.now, id);
        self.judge()
    }

    /// Time passes, and the endpoint is called when it says.
    fn pass(&mut self, time: Duration) -> Verdict {
        let end = self.now + time;
        while let Some(at) = self.endpoint.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.tick()?;
        }
        self.now = end;
        self.tick()
    }

    /// The endpoint is called too late, but not while the length of a wait is still to be learnt.
    fn late(&mut self, time: Duration) -> Verdict {
        if self.model.is_waiting_for_chance() {
            return Ok(());
        }
        self.now += time;
        self.tick()
    }

    fn tick(&mut self) -> Verdict {
        self.model.time(self.now);
        self.endpoint.handle_timeout(self.now);
        self.judge()
    }

    /// Shows the model all that the endpoint did.
    fn judge(&mut self) -> Verdict {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            let to = index(transmit.to.addr);
            self.note(|| format!("{to} < {:?}", Message::decode(&transmit.payload)));
            self.model.sent(self.now, to, &transmit.payload)?;
            self.to_peers.push((self.now, to, transmit.payload));
        }
        while let Some(event) = self.endpoint.poll_event() {
            self.note(|| format!("event {event:?}"));
            self.model.event(&event)?;
        }
        self.model.settled(self.now)
    }

    /// Nothing comes in any more and the application lets go: everything ends, and nothing is left.
    pub(super) fn finish(&mut self) -> Verdict {
        self.note(|| "- the end".to_owned());
        self.to_endpoint.clear();
        self.to_peers.clear();
        for (at, id) in self.observations() {
            self.model.end_observation(at, id);
            self.endpoint.end_observation(self.now, id);
            self.judge()?;
        }
        for at in 0..PEERS {
            let watching: Vec<RequestId> = self.model.peers[at]
                .asked
                .iter()
                .filter(|asked| asked.is_watching())
                .map(|asked| asked.id)
                .collect();
            for id in watching {
                self.model.cancel(at, id);
                self.endpoint.cancel(self.now, id);
                self.judge()?;
            }
        }
        for _ in 0..10_000 {
            let Some(at) = self.endpoint.poll_timeout() else {
                break;
            };
            self.now = self.now.max(at);
            self.tick()?;
        }
        if !self.model.is_idle() {
            return Err("something has no end".to_owned());
        }
        match self.endpoint.peer_count() {
            0 => Ok(()),
            count => Err(format!("{count} peers are left")),
        }
    }
}

fn pick<T>(list: &[T], at: usize) -> Option<usize> {
    (!list.is_empty()).then(|| at % list.len())
}
