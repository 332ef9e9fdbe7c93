//! How handshakes begin: ours, theirs, and both at once.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use homefleet_coap::SessionId;

use super::session::{Session, Slot};
use super::{ConnectError, Expected, Sessions};
use crate::dtls::Purpose;
use crate::dtls::budget::{Admission, OverBudget};
use crate::dtls::engine::{Association, EngineError};
use crate::dtls::event::Failure;

/// A half-open handshake that made no progress for this long gives way to a new ClientHello of its address.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// How long a handshake that the peer began may keep us from beginning our own, without a second word from the peer.
const YIELD_FOR: Duration = Duration::from_secs(3);
/// A peer whose handshake also began answers ours never, any other one at once: this long its answer may take.
const GLARE_PAUSE: Duration = Duration::from_millis(250);
/// How often one attempt gives way to a ClientHello: forged ones must not keep us from anywhere.
const MAX_YIELDS: u8 = 2;

impl Sessions {
    pub(super) fn client(
        &mut self,
        addr: SocketAddr,
        expected: &Expected,
    ) -> Result<Association, EngineError> {
        // A ticket is used once (RFC 8446 §C.4).
        let key = (addr, expected.clone());
        let ticket = self.tickets.remove(&key);
        if ticket.is_some() {
            self.ticket_order.retain(|other| *other != key);
        }
        self.engine.client(
            self.verifier.clone(),
            expected.purpose(),
            server_name(&expected.host).as_deref(),
            ticket.as_ref(),
        )
    }

    /// What the handshake under way with that address is to this purpose. `None`: it was a stranger's that got nowhere,
    /// and is over.
    pub(super) fn join(
        &mut self,
        now: Instant,
        id: SessionId,
        expected: &Expected,
    ) -> Option<Result<SessionId, ConnectError>> {
        let session = self.sessions.get_mut(&id)?;
        match &session.expected {
            Some(under_way) if under_way == expected => return Some(Ok(id)),
            // Ending it would have the two of them end each other's for ever.
            Some(_) => return Some(Err(ConnectError::UnderWay(id))),
            // The peer began: a second handshake against its own would be ignored there.
            None if session.answered
                || now.saturating_duration_since(session.started) < RESTART_AFTER =>
            {
                session.expected = Some(expected.clone());
                session.association.set_purpose(expected.purpose());
                session.insist_at = Some(now + YIELD_FOR);
                self.half_open.remove(session.started, id);
                self.arm(now, id);
                return Some(Ok(id));
            }
            None => {}
        }
        self.fail(id, Failure::Restarted);
        None
    }

    pub(super) fn client_hello(
        &mut self,
        now: Instant,
        from: SocketAddr,
        slot: Slot,
        random: [u8; 32],
        datagram: &[u8],
    ) {
        if let Some(id) = slot.pending {
            let Some(session) = self.sessions.get_mut(&id) else {
                return;
            };
            if session.association.is_server() {
                if session.hello == Some(random) {
                    self.feed(now, id, datagram);
                } else if now.saturating_duration_since(session.progressed) >= RESTART_AFTER
                    && session.expected.is_none()
                {
                    self.stats.restarted += 1;
                    self.fail(id, Failure::Restarted);
                    self.accept(now, from, random, datagram);
                } else {
                    self.stats.hellos_ignored += 1;
                }
                return;
            }
            // One that has answered and then fell silent may have restarted.
            let silent = now.saturating_duration_since(session.heard) >= YIELD_FOR;
            match session.hello {
                _ if session.yields >= MAX_YIELDS => self.stats.hellos_ignored += 1,
                Some(ours) if !session.answered && ours > random => self.stats.glare_kept += 1,
                Some(ours) if (!session.answered || silent) && ours != random => {
                    session
                        .rival
                        .get_or_insert_with(|| (now + GLARE_PAUSE, random, datagram.to_vec()));
                    self.arm(now, id);
                }
                _ => self.stats.hellos_ignored += 1,
            }
            return;
        }
        if let Some(id) = slot.established {
            let repeated = self
                .sessions
                .get(&id)
                .is_some_and(|session| session.hello == Some(random));
            if repeated {
                self.feed(now, id, datagram);
                return;
            }
        }
        self.accept(now, from, random, datagram);
    }

    /// Both sides began; theirs goes on. The association keeps its name and what we expect of the peer.
    pub(super) fn yield_to(
        &mut self,
        now: Instant,
        id: SessionId,
        random: [u8; 32],
        datagram: &[u8],
    ) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Some(expected) = &session.expected else {
            return;
        };
        match self
            .engine
            .server(self.verifier.clone(), expected.purpose())
        {
            Ok(association) => {
                let ours = std::mem::replace(&mut session.association, association);
                session.parked = Some((ours, session.hello.replace(random)));
                session.received = 0;
                session.sent = 0;
                session.held.clear();
                session.answered = false;
                session.alert = None;
                session.anew_at = None;
                session.yields += 1;
                session.insist_at = Some(now + YIELD_FOR);
                self.stats.glare_yielded += 1;
                self.feed(now, id, datagram);
            }
            Err(error) => self.fail(id, Failure::Engine(error.to_string())),
        }
    }

    /// Goes back to our own handshake, which was set aside for one of the peer's.
    pub(super) fn unpark(&mut self, id: SessionId) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else {
            return false;
        };
        let Some((ours, hello)) = session.parked.take() else {
            return false;
        };
        session.association = ours;
        session.hello = hello;
        session.held.clear();
        session.answered = false;
        session.alert = None;
        session.insist_at = None;
        self.stats.insisted += 1;
        true
    }

    /// The peer whose handshake we went along with says nothing more: it was forged, or is lost. Ours goes on, or begins
    /// after all.
    pub(super) fn insist(&mut self, now: Instant, id: SessionId) {
        if self.unpark(id) {
            self.arm(now, id);
            return;
        }
        self.stats.insisted += 1;
        self.hello_anew(now, id);
    }

    /// Puts a new handshake of ours in the place of the one under way. The association keeps its name.
    pub(super) fn hello_anew(&mut self, now: Instant, id: SessionId) {
        let Some((addr, expected)) = self
            .sessions
            .get(&id)
            .and_then(|session| Some((session.addr, session.expected.clone()?)))
        else {
            return;
        };
        match self.client(addr, &expected) {
            Ok(association) => {
                let Some(session) = self.sessions.get_mut(&id) else {
                    return;
                };
                session.association = association;
                session.hello = None;
                session.held.clear();
                session.answered = false;
                session.alert = None;
                session.anew_at = None;
                let progress = session.association.start();
                self.settle(now, id, progress, Vec::new());
            }
            Err(error) => self.fail(id, Failure::Engine(error.to_string())),
        }
    }

    /// A stranger begins a handshake.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        from: SocketAddr,
        random: [u8; 32],
        datagram: &[u8],
    ) {
        let admission = match self.budgets.take(now, from, &random) {
            Ok(admission) => admission,
            Err(OverBudget::Prefix) => {
                self.stats.prefix_budget_exceeded += 1;
                return;
            }
            Err(OverBudget::Global) => {
                self.stats.global_budget_exceeded += 1;
                return;
            }
        };
        while let Some(oldest) = self.half_open.surplus(self.config.max_half_open) {
            self.stats.half_open_evicted += 1;
            self.fail(oldest, Failure::Evicted);
        }
        if self.sessions.len() >= self.config.max_sessions {
            self.stats.table_full += 1;
            return;
        }
        let Ok(association) = self.engine.server(self.verifier.clone(), Purpose::Accepted) else {
            self.stats.handshake_errors += 1;
            return;
        };
        let mut session = Session::new(from, association, now, self.generation);
        session.hello = Some(random);
        if admission == Admission::Patient {
            // The hello that was turned away was answered by nothing.
            session.received += datagram.len() as u64;
        }
        let started = session.started;
        let id = self.insert(session);
        if admission == Admission::Patient {
            self.stats.patient += 1;
            self.half_open.promote(started, id);
        }
        self.slots.entry(from).or_default().pending = Some(id);
        self.stats.handshakes_in += 1;
        self.feed(now, id, datagram);
    }
}

/// The server name to send for a host: none for address literals (RFC 6066 §3).
fn server_name(host: &str) -> Option<String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = bare.trim_end_matches('.');
    (!name.is_empty() && bare.parse::<IpAddr>().is_err()).then(|| name.to_owned())
}
