//! The endpoint: client and server for any number of peers, without I/O.
//!
//! ```text
//! handle_input ─ input ─┬─ ping, RST, ACK ── reliable (retransmission, NSTART)
//!                       ├─ request ── dedup ── server ─┬─ upload (Block1) ──> Event::Request
//!                       │                              └─ download (Block2) <── respond
//!                       └─ response ── client ─┬─ upload continues
//!                                              ├─ fetch (Block2)
//!                                              └─ observing ──> Event::Response, Notification
//! notify ── observers ── reliable
//! handle_multicast ── multicast ── server ── respond ── multicast (leisure)
//! ```

mod client;
mod dedup;
mod download;
mod echo;
mod fetch;
mod hash;
mod input;
mod multicast;
mod observers;
mod observing;
mod peers;
mod reliable;
mod sending;
mod server;
mod slab;
mod timers;
mod transfers;
mod upload;

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use crate::config::Config;
use crate::event::{Event, Transmit};
use crate::message::Token;
use crate::peer::Peer;
use crate::stats::Stats;

use client::ClientRequest;
use dedup::{Bounds, Dedup};
use echo::Echo;
use hash::Keyed;
use multicast::Leisurely;
use observers::Observation;
use peers::{PeerKey, Peers};
use reliable::{Sent, Transmission};
use server::Exchange;
use slab::Slab;
use timers::{Timer, Timers};
use transfers::Transfers;

/// A CoAP endpoint: client and server in one, for any number of peers (RFC 7252 §1.2).
///
/// After every call drain [`Endpoint::poll_transmit`] and [`Endpoint::poll_event`], then wait until
/// [`Endpoint::poll_timeout`] or the next datagram.
pub struct Endpoint {
    config: Config,
    stats: Stats,
    rng: ChaCha12Rng,
    hash: Keyed,
    out: VecDeque<Transmit>,
    events: VecDeque<Event>,
    timers: Timers,
    peers: Peers,
    dedup: Dedup,
    echo: Echo,
    /// Confirmable messages of ours that wait for an acknowledgement.
    transmissions: Slab<Transmission>,
    /// Messages of ours that an ACK or RST may name.
    sent: HashMap<(PeerKey, u16), Sent, Keyed>,
    requests: Slab<ClientRequest>,
    /// Tokens of our requests, valid for one peer each (RFC 7252 §5.3.2).
    tokens: HashMap<(PeerKey, Token), u64, Keyed>,
    /// Tokens of requests to groups.
    groups: HashMap<Token, u64, Keyed>,
    /// Responses to requests that came to a group.
    leisurely: Slab<Leisurely>,
    /// The peer that was silent until this datagram came.
    back: Option<PeerKey>,
    /// The last Request-Tag (RFC 9175 §3.4).
    next_tag: u32,
    exchanges: Slab<Exchange>,
    /// Exchanges of peers without security, oldest first.
    plain_exchanges: VecDeque<u64>,
    /// Exchanges by when they are acknowledged with an Empty message.
    separate: VecDeque<(Instant, u64)>,
    /// Exchanges by when the application has taken too long.
    overdue: VecDeque<(Instant, u64)>,
    transfers: Transfers,
    observations: Slab<Observation>,
    /// Observations of peers without security, oldest first.
    plain_observations: VecDeque<u64>,
    observers: HashMap<(PeerKey, Token), u64, Keyed>,
}

impl Endpoint {
    /// An endpoint; `seed` makes its message IDs, tokens, timeouts and hash keys, and must be secret.
    pub fn new(config: Config, seed: [u8; 32]) -> Endpoint {
        let mut rng = ChaCha12Rng::from_seed(seed);
        let hash = Keyed::new(rng.next_u64(), rng.next_u64());
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        let echo = Echo::new(key, config.echo_lifetime);
        let verify = config.amplification > 0;
        let dedup = Dedup::new(&Bounds {
            per_peer: config.dedup_per_peer,
            total: config.dedup_total,
            bytes: config.dedup_bytes,
            exchange_lifetime: config.exchange_lifetime(),
            non_lifetime: config.non_lifetime(),
        });
        Endpoint {
            config,
            stats: Stats::default(),
            rng,
            hash,
            out: VecDeque::new(),
            events: VecDeque::new(),
            timers: Timers::new(),
            peers: Peers::new(hash, verify),
            dedup,
            echo,
            transmissions: Slab::new(),
            sent: HashMap::with_hasher(hash),
            requests: Slab::new(),
            tokens: HashMap::with_hasher(hash),
            groups: HashMap::with_hasher(hash),
            leisurely: Slab::new(),
            back: None,
            next_tag: 0,
            exchanges: Slab::new(),
            plain_exchanges: VecDeque::new(),
            separate: VecDeque::new(),
            overdue: VecDeque::new(),
            transfers: Transfers::new(),
            observations: Slab::new(),
            plain_observations: VecDeque::new(),
            observers: HashMap::with_hasher(hash),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        Stats {
            dedup_evicted: self.dedup.evicted,
            ..self.stats
        }
    }

    /// How many peers something is remembered of.
    pub fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Endpoint::handle_timeout`]; `None` when nothing is due ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [
            self.timers.next_at(),
            self.separate.front().map(|(at, _)| *at),
            self.overdue.front().map(|(at, _)| *at),
            self.transfers.next_at(self.config.block_timeout),
            self.dedup.next_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Retransmit(key) => self.retransmit(now, key),
                Timer::Response(id) => self.response_overdue(now, id),
                Timer::Slot(peer, id) => self.slot_elapsed(now, peer, id),
                Timer::Leisure(id) => self.leisure_over(id),
                Timer::Pace(id) => self.pace_over(now, id),
                Timer::Reregister(id) => self.register_again(now, id),
            }
        }
        self.separate_due(now);
        self.exchanges_overdue(now);
        self.expire_transfers(now);
        self.dedup.expire(now, &mut self.peers);
    }

    /// Drops everything about a peer whose association is gone: its requests fail with
    /// [`crate::RequestError::PeerGone`], its exchanges can no longer be answered, its observers are gone.
    pub fn forget_peer(&mut self, now: Instant, peer: Peer) {
        let Some(key) = self.peers.find(&peer) else {
            return;
        };
        self.forget_requests(now, key);
        self.forget_observers(key);
        self.forget_transmissions(key);
        self.forget_leisurely(key);
        self.forget_exchanges(key);
        self.forget_transfers(key);
        if let Some(mut state) = self.peers.remove(key) {
            self.dedup.dropped(&mut state.window);
        }
    }

    fn intern(&mut self, peer: Peer) -> PeerKey {
        let rng = &mut self.rng;
        self.peers.intern(peer, || rng.next_u32() as u16)
    }

    /// Queues a datagram.
    fn transmit(&mut self, to: Peer, payload: Vec<u8>) {
        self.stats.datagrams_out += 1;
        self.out.push_back(Transmit { to, payload });
    }

    /// Queues a datagram for a peer in the table.
    fn transmit_to(&mut self, peer: PeerKey, payload: Vec<u8>) {
        if let Some(to) = self.peers.get(peer).map(|state| state.peer) {
            self.transmit(to, payload);
        }
    }

    /// A message ID for one peer (RFC 7252 §4.4), not one that is still in use.
    fn message_id(&mut self, now: Instant, peer: PeerKey) -> u16 {
        let lifetime = self.config.exchange_lifetime();
        let mut id = 0;
        for _ in 0..=u16::MAX {
            let Some(state) = self.peers.get_mut(peer) else {
                return id;
            };
            let reused;
            (id, reused) = state.ids.next(now, lifetime);
            if !self.sent.contains_key(&(peer, id)) {
                self.stats.message_ids_reused += u64::from(reused);
                break;
            }
        }
        self.dedup.hold_ids(now, &mut self.peers, peer);
        id
    }
}
