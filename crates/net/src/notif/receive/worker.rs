//! A thread that owns a socket on every address, and what it knows.
//!
//! ```text
//!  plain socket  ──────────────────────────────▶ Collector ──▶ Outbox ──▶ channel
//!  secure socket ─▶ Sessions ─▶ Event::Data ────▶    │ frames, segments,
//!        ▲             │                             │ Message IDs
//!        └─ Transmit ◀─┘
//! ```

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use homefleet_notif::{Collector, Delivery, Source};
use homefleet_trust::PeerIdentity;
use rustix::event::{PollFd, PollFlags, poll};

use super::super::received::{PublisherStats, Received, SocketStats, Stats};
use super::drops::Drops;
use super::outbox::Outbox;
use super::socket::{Read, Socket};
use crate::dtls::{Event, Sessions};

/// Batches taken from one socket before others have their turn.
const BATCHES_PER_TURN: usize = 8;
/// Messages that are parts of one allocation keep it together.
const ARENA: usize = 16_384;
/// While datagrams come as close together as this, they are gathered for [`PAUSE`] rather than each being woken up for.
const BRISK: Duration = Duration::from_millis(1);
/// How long datagrams are gathered in the socket: a flood of a million datagrams per second brings 250.
const PAUSE: Duration = Duration::from_micros(250);
/// Receive buffer in bytes, as the kernel counts, that holds what comes in a pause many times over; with a smaller one nothing is gathered.
const AMPLE: usize = 4 << 20;
/// How soon the channel is tried again when it was full.
const RETRY: Duration = Duration::from_millis(2);
/// Longest sleep: what nobody wakes up for is looked at.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Batches that are still taken when the receiver stops.
const LAST_BATCHES: usize = 4096;

/// The associations of a secure socket.
pub(super) struct Secure {
    pub(super) sessions: Sessions,
    identities: HashMap<u64, Arc<PeerIdentity>>,
    /// On a socket of all our addresses: the one a peer sent to, which it expects answers from.
    locals: HashMap<SocketAddr, IpAddr>,
}

impl Secure {
    pub(super) fn new(sessions: Sessions) -> Self {
        Self {
            sessions,
            identities: HashMap::new(),
            locals: HashMap::new(),
        }
    }
}

/// Peers whose choice among our addresses is remembered.
const MAX_LOCALS: usize = 65_536;

/// What a worker knows; its handle looks in.
pub(super) struct State {
    collector: Collector,
    outbox: Outbox,
    /// Beside each socket, its associations if it is secure.
    pub(super) secure: Vec<Option<Secure>>,
    drops: Vec<Drops>,
    sockets: Vec<SocketStats>,
    arena: BytesMut,
    /// When the worker began, by both clocks.
    epoch: (Instant, SystemTime),
}

impl State {
    pub(super) fn new(
        collector: Collector,
        outbox: Outbox,
        secure: Vec<Option<Secure>>,
        sockets: &[Socket],
    ) -> Self {
        Self {
            collector,
            outbox,
            drops: secure.iter().map(|_| Drops::default()).collect(),
            secure,
            sockets: sockets.iter().map(Socket::stats).collect(),
            arena: BytesMut::new(),
            epoch: (Instant::now(), SystemTime::now()),
        }
    }

    /// Adds the counters to those of other workers.
    pub(super) fn add_to(&self, stats: &mut Stats) {
        stats.sockets.extend(&self.sockets);
        stats.collector += self.collector.stats();
        stats.delivered += self.outbox.delivered();
        stats.queue_dropped += self.outbox.dropped();
        for secure in self.secure.iter().flatten() {
            stats.dtls += secure.sessions.stats();
            stats.sessions += secure.sessions.len() as u64;
            stats.half_open += secure.sessions.half_open() as u64;
        }
    }

    pub(super) fn publishers(&self) -> impl Iterator<Item = PublisherStats> {
        let date = |at: Instant| {
            let (start, date) = self.epoch;
            date + at.saturating_duration_since(start)
        };
        self.collector.publishers().map(move |record| {
            let mut secure = self.secure.iter().flatten();
            let identity = secure.find_map(|secure| secure.identities.get(&record.source.session));
            PublisherStats {
                source: record.source.addr,
                identity: identity.cloned(),
                publisher_id: record.publisher_id,
                generation: record.generation,
                media_type: record.media_type,
                counts_loss: record.generation.counts_loss(),
                first_heard: date(record.first_heard),
                last_heard: date(record.last_heard),
                counters: record.counters,
            }
        })
    }

    fn read(&mut self, socket: usize, now: Instant, at: SystemTime, read: &Read<'_>) {
        let before = self.drops.get_mut(socket).and_then(|drops| {
            drops.add(read.dropped);
            drops.is_open().then(|| self.collector.skipped())
        });
        let datagrams = read.bytes.chunks(read.stride);
        let empty: Option<&[u8]> = read.bytes.is_empty().then_some(&[]);
        if let Some(Some(secure)) = self.secure.get_mut(socket) {
            if let Some(to) = read.to
                && secure.locals.get(&read.from) != Some(&to)
            {
                if secure.locals.len() >= MAX_LOCALS {
                    // Whoever speaks again is remembered again.
                    secure.locals.clear();
                }
                secure.locals.insert(read.from, to);
            }
            for datagram in datagrams.chain(empty) {
                secure.sessions.handle_input(now, read.from, datagram);
            }
            self.events(socket, now, at);
        } else {
            let source = Source::plain(read.from);
            for datagram in datagrams.chain(empty) {
                if let Some(delivery) = self.collector.handle_datagram(now, source, datagram) {
                    let message = match &delivery.payload {
                        Cow::Borrowed(payload) => keep(&mut self.arena, payload),
                        Cow::Owned(_) => Bytes::new(),
                    };
                    self.outbox
                        .push(received(read.from, None, at, delivery, message));
                }
            }
        }
        if let Some(before) = before
            && let Some(drops) = self.drops.get_mut(socket)
        {
            drops.skipped(self.collector.skipped() - before);
        }
    }

    /// What the associations of a secure socket tell.
    fn events(&mut self, socket: usize, now: Instant, at: SystemTime) {
        let Some(Some(secure)) = self.secure.get_mut(socket) else {
            return;
        };
        while let Some(event) = secure.sessions.poll_event() {
            match event {
                Event::Established {
                    session,
                    peer,
                    version,
                    cipher,
                    ..
                } => {
                    tracing::debug!(%session, %version, cipher, subject = %peer.subject, "publisher connected");
                    secure.identities.insert(session.0, peer);
                }
                Event::Data {
                    session,
                    addr,
                    payload,
                } => {
                    let source = Source {
                        addr,
                        session: session.0,
                    };
                    let Some(identity) = secure.identities.get(&session.0) else {
                        // Nobody is heard before being authenticated.
                        continue;
                    };
                    let record = Bytes::from(payload);
                    let outbox = &mut self.outbox;
                    self.collector
                        .handle_record(now, source, &record, |delivery| {
                            let message = match &delivery.payload {
                                Cow::Borrowed(payload) => record.slice_ref(payload),
                                Cow::Owned(_) => Bytes::new(),
                            };
                            let identity = Some(identity.clone());
                            outbox.push(received(addr, identity, at, delivery, message));
                        });
                }
                Event::Closed {
                    session,
                    addr,
                    reason,
                } => {
                    tracing::debug!(%session, ?reason, "publisher gone");
                    secure.identities.remove(&session.0);
                    if secure.sessions.established(addr).is_none() {
                        secure.locals.remove(&addr);
                    }
                    self.collector.forget(Source {
                        addr,
                        session: session.0,
                    });
                }
                Event::Refused {
                    session, decision, ..
                } => {
                    tracing::info!(%session, refusal = ?decision.refusal(), "publisher refused");
                }
                Event::Held {
                    session, wanted, ..
                } => tracing::debug!(%session, wanted = wanted.len(), "publisher held"),
                Event::Failed {
                    session, failure, ..
                } => tracing::debug!(%session, ?failure, "handshake failed"),
            }
        }
    }

    /// Sends what the associations of a secure socket have to send.
    fn transmit(&mut self, index: usize, socket: &mut Socket) {
        let Some(Some(secure)) = self.secure.get_mut(index) else {
            return;
        };
        while let Some(transmit) = secure.sessions.poll_transmit() {
            let from = secure.locals.get(&transmit.to).copied();
            socket.send(transmit.to, from, &transmit.payload);
        }
    }

    fn note_socket(&mut self, index: usize, socket: &Socket) {
        if let (Some(stats), Some(drops)) = (self.sockets.get_mut(index), self.drops.get(index)) {
            *stats = socket.stats();
            stats.kernel_dropped_datagrams = drops.datagrams();
        }
    }

    /// Timers that are due. Returns when to come again.
    fn settle(&mut self, now: Instant, sockets: &mut [Socket]) -> Option<Instant> {
        if self.collector.poll_timeout().is_some_and(|due| due <= now) {
            self.collector.handle_timeout(now);
        }
        let at = SystemTime::now();
        for (index, socket) in sockets.iter_mut().enumerate() {
            if let Some(Some(secure)) = self.secure.get_mut(index) {
                secure.sessions.handle_timeout(now);
                self.events(index, now, at);
                self.transmit(index, socket);
            }
            self.note_socket(index, socket);
        }
        self.outbox.flush();
        let retry = self.outbox.is_waiting().then(|| now + RETRY);
        let secure = self.secure.iter().flatten();
        let timers = secure.filter_map(|secure| secure.sessions.poll_timeout());
        timers
            .chain(self.collector.poll_timeout())
            .chain(retry)
            .min()
    }

    /// Says close_notify to everybody.
    fn close(&mut self, now: Instant, sockets: &mut [Socket]) {
        for (index, socket) in sockets.iter_mut().enumerate() {
            if let Some(Some(secure)) = self.secure.get_mut(index) {
                secure.sessions.close_all(now);
                self.transmit(index, socket);
                self.note_socket(index, socket);
            }
        }
        self.outbox.end();
    }
}

/// Copies a message into the memory of its neighbours.
fn keep(arena: &mut BytesMut, payload: &[u8]) -> Bytes {
    if arena.capacity() < payload.len() {
        *arena = BytesMut::with_capacity(ARENA.max(payload.len()));
    }
    arena.extend_from_slice(payload);
    arena.split().freeze()
}

fn received(
    from: SocketAddr,
    identity: Option<Arc<PeerIdentity>>,
    at: SystemTime,
    delivery: Delivery<'_>,
    borrowed: Bytes,
) -> Received {
    Received {
        from,
        identity,
        generation: delivery.header.generation,
        publisher_id: delivery.header.publisher_id,
        message_id: delivery.header.message_id,
        media_type: delivery.header.media_type,
        encoding: delivery
            .private_encoding
            .map(|text| String::from_utf8_lossy(&text).into_owned()),
        at,
        message: match delivery.payload {
            Cow::Borrowed(_) => borrowed,
            Cow::Owned(payload) => payload.into(),
        },
    }
}

/// The state, even if another thread panicked while it looked in.
pub(super) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a read of a socket brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Nothing,
    Some,
    /// As much as a read can bring, or an error: there may be more.
    Full,
}

/// The thread.
pub(super) struct Worker {
    pub(super) sockets: Vec<Socket>,
    pub(super) state: Arc<Mutex<State>>,
    pub(super) wake: Arc<OwnedFd>,
    pub(super) stop: Arc<AtomicBool>,
}

impl Worker {
    /// Takes datagrams until it is to stop.
    pub(super) fn run(mut self) {
        let mut heard: Option<Instant> = None;
        let gathers = self
            .sockets
            .iter()
            .all(|socket| socket.stats().receive_buffer >= AMPLE);
        loop {
            let (mut any, mut more) = (false, false);
            for index in 0..self.sockets.len() {
                for _ in 0..BATCHES_PER_TURN {
                    let taken = self.receive(index);
                    any |= taken != Taken::Nothing;
                    if taken != Taken::Full {
                        break;
                    }
                    more = true;
                }
            }
            if self.stop.load(Ordering::Acquire) {
                break;
            }
            let now = Instant::now();
            let due = lock(&self.state).settle(now, &mut self.sockets);
            let before = heard;
            heard = any.then_some(now);
            if more {
                continue;
            }
            let is_brisk = |before| now.saturating_duration_since(before) < BRISK;
            if gathers && any && before.is_some_and(is_brisk) {
                std::thread::sleep(PAUSE);
            } else if self.sleep(now, due).is_err() {
                // Nothing but a fault of ours; looking again is all that is left.
                std::thread::sleep(RETRY);
            }
        }
        for index in 0..self.sockets.len() {
            for _ in 0..LAST_BATCHES {
                if self.receive(index) != Taken::Full {
                    break;
                }
            }
        }
        lock(&self.state).close(Instant::now(), &mut self.sockets);
    }

    /// Takes one batch.
    fn receive(&mut self, index: usize) -> Taken {
        let Some(socket) = self.sockets.get_mut(index) else {
            return Taken::Nothing;
        };
        let mut entered: Option<(MutexGuard<'_, State>, Instant, SystemTime)> = None;
        let state = &self.state;
        let more = socket.receive(|read| {
            let (state, now, at) =
                entered.get_or_insert_with(|| (lock(state), Instant::now(), SystemTime::now()));
            state.read(index, *now, *at, &read);
        });
        let any = entered.is_some();
        if let Some((mut state, ..)) = entered {
            state.transmit(index, socket);
            state.note_socket(index, socket);
            state.outbox.flush();
        }
        match (more, any) {
            (true, _) => Taken::Full,
            (false, true) => Taken::Some,
            (false, false) => Taken::Nothing,
        }
    }

    /// Waits for datagrams, for its handle, or for this time.
    fn sleep(&self, now: Instant, due: Option<Instant>) -> io::Result<()> {
        let left = due.map_or(LONGEST_SLEEP, |due| {
            due.saturating_duration_since(now).min(LONGEST_SLEEP)
        });
        let mut fds: Vec<PollFd<'_>> = self
            .sockets
            .iter()
            .map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN))
            .collect();
        fds.push(PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN));
        let left = left.try_into().map_err(io::Error::other)?;
        match poll(&mut fds, Some(&left)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let woken = fds.last().is_some_and(|fd| !fd.revents().is_empty());
        if woken {
            // The count of wakes; that it was woken is all that counts.
            let _count = rustix::io::read(&self.wake, &mut [0; 8]);
        }
        Ok(())
    }
}
