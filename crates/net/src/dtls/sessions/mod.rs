//! The table of associations of one UDP socket.
//!
//! `begin` has the ways a handshake starts, `half_open` those of strangers, `progress` what follows from a step of the engine, `judge` what becomes of peers when they are judged later or again, `spoof` what a handshake
//! does about datagrams that anybody could have sent, `session` what is known of one association.

mod begin;
mod half_open;
mod judge;
mod progress;
mod session;
mod spoof;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boring::ssl::SslSession;
use homefleet_coap::SessionId;
use homefleet_trust::PeerIdentity;

use crate::dtls::Purpose;
use crate::dtls::budget::Budgets;
use crate::dtls::config::{Config, Credentials, LONGEST};
use crate::dtls::engine::{Engine, EngineError, Verdict};
use crate::dtls::event::{Event, Stats, Transmit};
use crate::dtls::ffi;
use crate::dtls::record::{self, Kind};
use crate::dtls::verify::Verifier;
use half_open::HalfOpen;
use judge::Sweep;
use session::{Session, Slot};

/// The engine's clock starts here, so that its arithmetic never meets zero.
const ENGINE_EPOCH: Duration = Duration::from_secs(1_000_000_000);
/// Bytes a record adds to its plaintext: header 13, explicit nonce 8, tag 16, rounded up.
const RECORD_OVERHEAD: usize = 40;

/// Whom [`Sessions::connect`] wants to reach.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Expected {
    /// Host of the URI: a DNS name, sent as server name (RFC 6066 §3), or an address literal, which is not sent.
    pub host: String,
    /// Endpoint ID expected behind it, when known.
    pub endpoint_id: Option<String>,
}

impl Expected {
    fn purpose(&self) -> Purpose {
        Purpose::Initiated {
            host: self.host.clone(),
            endpoint_id: self.endpoint_id.clone(),
        }
    }
}

/// Why no handshake was begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// [`Config::max_sessions`] associations exist.
    #[error("the table of associations is full")]
    Full,
    /// The address cannot be sent to.
    #[error("port 0 cannot be sent to")]
    PortZero,
    /// A handshake with that address is under way for somebody else there: when it is done, its association may serve, or
    /// its place is free.
    #[error("another handshake with this address is under way")]
    UnderWay(SessionId),
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Why a message was not protected and sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The association does not exist, or no longer.
    #[error("there is no such association")]
    Unknown,
    /// Its handshake is not done.
    #[error("the handshake is not done")]
    NotEstablished,
    /// The decision about the peer waits for evidence.
    #[error("the decision about the peer waits for evidence")]
    Held,
    /// One record must fit one datagram of [`Config::mtu`].
    #[error("{len} bytes do not fit one datagram, at most {max} do")]
    TooLarge {
        /// Bytes given.
        len: usize,
        /// Bytes possible.
        max: usize,
    },
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// All associations over one socket, sans-IO. See the [module documentation](super) for the drive rule.
pub struct Sessions {
    config: Config,
    credentials: Credentials,
    verifier: Arc<dyn Verifier>,
    engine: Engine,
    generation: u64,
    epoch: Option<Instant>,
    next_id: u64,
    slots: HashMap<SocketAddr, Slot>,
    /// Established associations by the fingerprint of the peer's certificate, at most [`Config::max_per_certificate`] each;
    /// those that several Agents share are not counted.
    certificates: HashMap<[u8; 32], Vec<SessionId>>,
    sessions: HashMap<SessionId, Session>,
    half_open: HalfOpen,
    timers: BTreeSet<(Instant, SessionId)>,
    budgets: Budgets,
    tickets: HashMap<(SocketAddr, Expected), SslSession>,
    ticket_order: VecDeque<(SocketAddr, Expected)>,
    /// Handshakes whose decision waits for evidence, at most [`Config::max_held`].
    held: BTreeSet<(Instant, SessionId)>,
    /// Open associations whose decision does.
    in_doubt: BTreeSet<(Instant, SessionId)>,
    sweep: Sweep,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    stats: Stats,
}

impl Sessions {
    /// An empty table.
    ///
    /// # Errors
    /// When the engine refuses the credentials or the configuration.
    pub fn new(
        config: Config,
        credentials: Credentials,
        verifier: Arc<dyn Verifier>,
    ) -> Result<Self, EngineError> {
        let config = config.with_bounded_times();
        let engine = Engine::new(&config, &credentials)?;
        let budgets = Budgets::new(&config);
        Ok(Self {
            generation: verifier.generation(),
            config,
            credentials,
            verifier,
            engine,
            epoch: None,
            next_id: 1,
            slots: HashMap::new(),
            certificates: HashMap::new(),
            sessions: HashMap::new(),
            half_open: HalfOpen::default(),
            timers: BTreeSet::new(),
            budgets,
            tickets: HashMap::new(),
            ticket_order: VecDeque::new(),
            held: BTreeSet::new(),
            in_doubt: BTreeSet::new(),
            sweep: Sweep::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            stats: Stats::default(),
        })
    }

    /// Begins a handshake with `addr` as client and returns its association. A handshake already under way with that
    /// address for the same purpose is returned instead; an established association stays until the new one has
    /// authenticated.
    ///
    /// # Errors
    /// When a handshake for another purpose is under way there, the table is full or the engine refuses.
    pub fn connect(
        &mut self,
        now: Instant,
        addr: SocketAddr,
        expected: Expected,
    ) -> Result<SessionId, ConnectError> {
        self.enter(now);
        if addr.port() == 0 {
            return Err(ConnectError::PortZero);
        }
        if let Some(pending) = self.slots.get(&addr).and_then(|slot| slot.pending)
            && let Some(joined) = self.join(now, pending, &expected)
        {
            return joined;
        }
        if self.sessions.len() >= self.config.max_sessions {
            self.stats.table_full += 1;
            return Err(ConnectError::Full);
        }
        let association = self.client(addr, &expected)?;
        let mut session = Session::new(addr, association, now, self.generation);
        session.expected = Some(expected);
        let id = self.insert(session);
        self.slots.entry(addr).or_default().pending = Some(id);
        self.stats.handshakes_out += 1;
        let progress = match self.sessions.get_mut(&id) {
            Some(session) => session.association.start(),
            None => return Err(ConnectError::Full),
        };
        self.settle(now, id, progress, Vec::new());
        Ok(id)
    }

    /// Takes a datagram from the socket. Whatever it holds, the table stays usable.
    pub fn handle_input(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        self.enter(now);
        self.stats.datagrams_received += 1;
        self.stats.bytes_received += datagram.len() as u64;
        if from.port() == 0 {
            self.stats.from_port_zero += 1;
            return;
        }
        let slot = self.slots.get(&from).copied().unwrap_or_default();
        match record::classify(datagram) {
            Kind::Other => self.stats.garbage += 1,
            Kind::ClientHello(random) => self.client_hello(now, from, slot, random, datagram),
            Kind::Plaintext => match slot.pending.or(slot.established) {
                Some(id) => {
                    // The peer answers our own hello, whatever came in its name meanwhile.
                    if record::answers_a_hello(datagram) {
                        self.unpark(id);
                    }
                    if !record::is_alert(datagram)
                        && let Some(session) = self.sessions.get_mut(&id)
                    {
                        session.answered = true;
                        session.rival = None;
                    }
                    self.feed(now, id, datagram);
                }
                None => self.stats.stray += 1,
            },
            Kind::Protected => {
                // A record that does not decrypt is dropped by the engine, so both may look at it.
                if let Some(id) = slot.established {
                    self.feed(now, id, datagram);
                }
                if let Some(id) = slot.pending {
                    if slot.established.is_none()
                        && let Some(session) = self.sessions.get_mut(&id)
                    {
                        session.answered = true;
                    }
                    self.feed(now, id, datagram);
                }
                if slot.established.is_none() && slot.pending.is_none() {
                    self.stats.stray += 1;
                }
            }
        }
    }

    /// Lets time pass: retransmissions, handshake and idle limits.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.enter(now);
        while let Some(&(due, id)) = self.timers.first() {
            if due > now {
                break;
            }
            self.timers.remove(&(due, id));
            self.fire(now, id);
        }
        if self.sweep.due().is_some_and(|due| due <= now) {
            self.sweep_on(now);
        }
    }

    /// Protects `payload` and sends it as one record.
    ///
    /// # Errors
    /// When the association is unknown or not established, or the payload does not fit one datagram.
    pub fn send(&mut self, now: Instant, id: SessionId, payload: &[u8]) -> Result<(), SendError> {
        self.enter(now);
        let max = self.max_payload();
        let session = self.sessions.get_mut(&id).ok_or(SendError::Unknown)?;
        if !session.established {
            return Err(SendError::NotEstablished);
        }
        if payload.len() > max {
            return Err(SendError::TooLarge {
                len: payload.len(),
                max,
            });
        }
        match session.still_trusted(self.generation) {
            Verdict::Trusted => {}
            verdict => {
                self.apply(now, id, verdict);
                return Err(match verdict {
                    Verdict::Held => SendError::Held,
                    _ => SendError::Unknown,
                });
            }
        }
        let session = self.sessions.get_mut(&id).ok_or(SendError::Unknown)?;
        session.association.write(payload)?;
        session.active = now;
        self.stats.messages_sent += 1;
        self.flush(id);
        Ok(())
    }

    /// Has every decision made anew, first where it is waited for, many associations a few at a
    /// time. For when evidence has come, or the time has become accurate; a change of the verifier's
    /// [`generation`](Verifier::generation) is noticed without.
    pub fn judge_again(&mut self, now: Instant) {
        self.enter(now);
        self.judge_all(now);
    }

    /// Closes associations of peers accepted on first use after this time without a message from now on, instead of after
    /// [`Config::first_use_idle`]; open ones too, once they are [judged again](Self::judge_again) or heard.
    pub fn set_first_use_idle(&mut self, idle: Duration) {
        self.config.first_use_idle = idle.min(LONGEST);
    }

    /// Ends an association: close_notify to the peer if it was established. No event follows.
    pub fn close(&mut self, now: Instant, id: SessionId) {
        self.enter(now);
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.established {
            session.association.close();
            self.stats.closed_by_us += 1;
            self.flush(id);
        }
        self.remove(id);
    }

    /// Ends every association.
    pub fn close_all(&mut self, now: Instant) {
        for id in self.ids() {
            self.close(now, id);
        }
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        let transmit = self.transmits.pop_front()?;
        self.stats.datagrams_sent += 1;
        self.stats.bytes_sent += transmit.payload.len() as u64;
        Some(transmit)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Sessions::handle_timeout`] is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(due, _)| *due);
        [timer, self.sweep.due()].into_iter().flatten().min()
    }

    /// The established association with `addr`, in whichever direction it was begun.
    pub fn established(&self, addr: SocketAddr) -> Option<SessionId> {
        self.slots.get(&addr)?.established
    }

    /// The name that the peer, as client, asked for (SNI); `None` when it asked for none.
    pub fn server_name(&self, id: SessionId) -> Option<String> {
        let session = self.sessions.get(&id)?;
        session.association.server_name()
    }

    /// The identity of an established association's peer.
    pub fn peer(&self, id: SessionId) -> Option<&Arc<PeerIdentity>> {
        self.sessions.get(&id)?.peer.as_ref()
    }

    /// The address of an association's peer.
    pub fn addr(&self, id: SessionId) -> Option<SocketAddr> {
        Some(self.sessions.get(&id)?.addr)
    }

    /// When the peer of this association was last heard: a message of it, or a datagram of its handshake.
    pub fn last_heard(&self, id: SessionId) -> Option<Instant> {
        Some(self.sessions.get(&id)?.heard)
    }

    /// Whether this association is established and can serve `expected` too: [`Sessions::connect`] made it for exactly
    /// that, or, where no Endpoint is named, the verifier, asked, accepts the peer for that host.
    pub fn serves(&mut self, id: SessionId, expected: &Expected) -> bool {
        let generation = self.generation;
        self.sessions
            .get_mut(&id)
            .is_some_and(|session| session.serves(generation, expected))
    }

    /// Every association, of any state.
    pub fn ids(&self) -> Vec<SessionId> {
        self.sessions.keys().copied().collect()
    }

    /// Most bytes [`Sessions::send`] takes.
    pub fn max_payload(&self) -> usize {
        self.config.mtu.saturating_sub(RECORD_OVERHEAD)
    }

    /// Associations held, of any state.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Handshakes begun by strangers and not finished.
    pub fn half_open(&self) -> usize {
        self.half_open.len()
    }

    /// Associations whose decision waits for evidence.
    pub fn held(&self) -> usize {
        self.held.len() + self.in_doubt.len()
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Uses other credentials for handshakes from now on. Established associations stay.
    ///
    /// # Errors
    /// When the engine refuses them; nothing changes then.
    pub fn replace_credentials(&mut self, credentials: Credentials) -> Result<(), EngineError> {
        self.engine = Engine::new(&self.config, &credentials)?;
        self.credentials = credentials;
        self.forget_tickets();
        Ok(())
    }

    /// Sets the engine's clock and notices changed anchors: tickets from before are void then, ours and theirs, and
    /// every peer is judged anew before it says or hears anything more.
    fn enter(&mut self, now: Instant) {
        let epoch = *self.epoch.get_or_insert(now);
        ffi::set_now(ENGINE_EPOCH + now.saturating_duration_since(epoch));
        let generation = self.verifier.generation();
        if generation != self.generation {
            // A new engine has new ticket keys.
            if let Ok(engine) = Engine::new(&self.config, &self.credentials) {
                self.engine = engine;
                self.generation = generation;
                self.forget_tickets();
                self.plan_all(now);
            }
        }
    }

    fn insert(&mut self, session: Session) -> SessionId {
        let id = SessionId(self.next_id);
        self.next_id += 1;
        if session.is_half_open() {
            self.half_open.insert(session.started, id);
        }
        self.sessions.insert(id, session);
        id
    }

    fn remove(&mut self, id: SessionId) -> Option<Session> {
        let session = self.sessions.remove(&id)?;
        self.half_open.remove(session.started, id);
        if let Some(since) = session.held_since {
            self.held.remove(&(since, id));
            self.in_doubt.remove(&(since, id));
        }
        if let Some(due) = session.timer {
            self.timers.remove(&(due, id));
        }
        if let Some(fingerprint) = &session.counted
            && let Some(associations) = self.certificates.get_mut(fingerprint)
        {
            associations.retain(|other| *other != id);
            if associations.is_empty() {
                self.certificates.remove(fingerprint);
            }
        }
        if let Some(slot) = self.slots.get_mut(&session.addr) {
            if slot.established == Some(id) {
                slot.established = None;
            }
            if slot.pending == Some(id) {
                slot.pending = None;
            }
            if slot.established.is_none() && slot.pending.is_none() {
                self.slots.remove(&session.addr);
            }
        }
        Some(session)
    }

    fn forget_tickets(&mut self) {
        self.tickets.clear();
        self.ticket_order.clear();
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions")
            .field("sessions", &self.sessions.len())
            .field("half_open", &self.half_open.len())
            .finish_non_exhaustive()
    }
}
