//! What follows from a step of the engine: events, datagrams, timers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use homefleet_coap::SessionId;

use super::Sessions;
use crate::dtls::engine::{EngineFailure, Progress, Verdict};
use crate::dtls::event::{CloseReason, Event, Failure, Transmit};
use crate::dtls::record;

/// Times the received bytes that are sent to an unvalidated address under pressure (RFC 9000 §8.1).
const PRESSED_AMPLIFICATION: u64 = 3;
/// Datagrams held back per association under that limit.
const MAX_HELD: usize = 8;
/// In the place of a certificate's fingerprint: those that nobody has judged.
const NOBODY: [u8; 32] = [0; 32];
/// Shortest time to the next look at an association.
const SHORTEST_TIMER: Duration = Duration::from_millis(1);

impl Sessions {
    pub(super) fn feed(&mut self, now: Instant, id: SessionId, datagram: &[u8]) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.received > 0 {
            self.half_open.promote(session.started, id);
        }
        session.received += datagram.len() as u64;
        session.repeats = 0;
        let mut messages = Vec::new();
        let mut progress = if session.established {
            session.association.input(datagram, &mut messages)
        } else {
            self.feed_handshake(now, id, datagram, &mut messages)
        };
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.established || progress == Progress::Established {
            match session.still_trusted(self.generation) {
                Verdict::Trusted => {}
                Verdict::Held => {
                    self.stats.held_messages += messages.len() as u64;
                    messages.clear();
                    if progress == Progress::Established {
                        progress = Progress::Continue;
                    }
                }
                Verdict::Refused => {
                    messages.clear();
                    progress = Progress::Failed(EngineFailure::Refused);
                }
            }
        }
        // Once established, only what decrypts to a message counts as a sign of life; anybody can send the rest.
        if !session.established || !messages.is_empty() {
            session.active = now;
            session.heard = now;
        }
        self.settle(now, id, progress, messages);
    }

    pub(super) fn fire(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.timer = None;
        if !session.established
            && now.saturating_duration_since(session.started) >= self.config.handshake_timeout
        {
            if session.held_since.is_some() {
                self.undecided(id, Failure::Undecided);
                return;
            }
            self.stats.handshake_timeouts += 1;
            // A peer that keeps its half would take our next hello for a part of this handshake.
            if session.expected.is_some() && session.answered {
                session.association.cancel();
                self.flush(id);
            }
            self.fail(id, Failure::Timeout);
            return;
        }
        if session.established && self.look_at_decision(now, id) {
            return;
        }
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.rival.as_ref().is_some_and(|(due, ..)| *due <= now)
            && let Some((_, random, datagram)) = session.rival.take()
        {
            self.yield_to(now, id, random, &datagram);
            return;
        }
        if session.insist_at.is_some_and(|due| due <= now) {
            session.insist_at = None;
            if !session.established && !session.answered {
                self.insist(now, id);
                return;
            }
        }
        if session.established && session.idle_at(&self.config) <= now {
            let addr = session.addr;
            self.stats.idle += 1;
            self.close(now, id);
            self.events.push_back(Event::Closed {
                session: id,
                addr,
                reason: CloseReason::Idle,
            });
            return;
        }
        if self.suspect(now, id) {
            return;
        }
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let mut progress = Progress::Continue;
        if session.association.timeout() == Some(Duration::ZERO) {
            if session.engine_timers_count(self.config.unanswered_repeats) {
                session.repeats += 1;
                self.stats.retransmissions += 1;
                progress = session.association.handle_timeout();
            } else {
                self.stats.repeats_withheld += 1;
            }
        }
        self.settle(now, id, progress, Vec::new());
    }

    /// Carries out what a step of the engine led to.
    pub(super) fn settle(
        &mut self,
        now: Instant,
        id: SessionId,
        progress: Progress,
        messages: Vec<Vec<u8>>,
    ) {
        if progress == Progress::Established
            || (progress == Progress::PeerClosed
                && self
                    .sessions
                    .get(&id)
                    .is_some_and(|session| !session.established))
        {
            self.establish(now, id);
        }
        self.keep_tickets(id);
        self.note_decision(now, id);
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.established {
            let addr = session.addr;
            self.stats.messages_received += messages.len() as u64;
            self.events
                .extend(messages.into_iter().map(|payload| Event::Data {
                    session: id,
                    addr,
                    payload,
                }));
        }
        match progress {
            Progress::Continue | Progress::Established => {
                self.flush(id);
                self.arm(now, id);
            }
            Progress::PeerClosed => {
                // Answer close_notify with close_notify (RFC 5246 §7.2.1).
                session.association.close();
                let addr = session.addr;
                self.stats.closed_by_peer += 1;
                self.flush(id);
                self.remove(id);
                self.events.push_back(Event::Closed {
                    session: id,
                    addr,
                    reason: CloseReason::Peer,
                });
            }
            Progress::Failed(failure) => {
                if self.begin_anew(now, id, &failure) {
                    return;
                }
                self.flush(id);
                self.over(id, failure);
            }
        }
    }

    /// The handshake is done and the verifier said yes.
    pub(super) fn establish(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Some(peer) = session
            .association
            .decision()
            .and_then(|decision| decision.peer)
        else {
            return;
        };
        // A certificate that several Agents share has as many associations as there are Agents (R-SEC.11).
        let counted = (!peer.is_shared()).then(|| {
            if peer.is_verified() {
                (peer.fingerprint, self.config.max_per_certificate)
            } else {
                (NOBODY, self.config.max_not_verified)
            }
        });
        session.counted = counted.map(|(fingerprint, _)| fingerprint);
        let peer = Arc::new(peer);
        self.half_open.remove(session.started, id);
        session.established = true;
        session.peer = Some(peer.clone());
        let addr = session.addr;
        let event = Event::Established {
            session: id,
            addr,
            peer,
            initiated: session.expected.is_some(),
            sni: session.association.server_name(),
            version: session.association.version(),
            resumed: session.association.resumed(),
            cipher: session.association.cipher(),
        };
        self.stats.established += 1;
        if session.association.resumed() {
            self.stats.resumed += 1;
        }
        let slot = self.slots.entry(addr).or_default();
        if slot.pending == Some(id) {
            slot.pending = None;
        }
        let before = slot.established.replace(id);
        if let Some(before) = before {
            self.stats.replaced += 1;
            self.remove(before);
            self.events.push_back(Event::Closed {
                session: before,
                addr,
                reason: CloseReason::Replaced { by: id },
            });
        }
        self.events.push_back(event);
        if let Some((fingerprint, limit)) = counted {
            self.uncrowd(now, id, fingerprint, limit);
        }
    }

    /// Counts an association for its certificate; of too many, the one that was silent for the longest is closed.
    fn uncrowd(&mut self, now: Instant, id: SessionId, fingerprint: [u8; 32], limit: usize) {
        let associations = self.certificates.entry(fingerprint).or_default();
        associations.push(id);
        if associations.len() <= limit.max(1) {
            return;
        }
        let Some(silent) = associations
            .iter()
            .copied()
            .filter(|other| *other != id)
            .min_by_key(|other| self.sessions.get(other).map(|session| session.heard))
        else {
            return;
        };
        let Some(addr) = self.addr(silent) else {
            return;
        };
        self.stats.certificate_evicted += 1;
        self.close(now, silent);
        self.events.push_back(Event::Closed {
            session: silent,
            addr,
            reason: CloseReason::Crowded,
        });
    }

    pub(super) fn over(&mut self, id: SessionId, failure: EngineFailure) {
        let Some(session) = self.remove(id) else {
            return;
        };
        let addr = session.addr;
        if session.established {
            let reason = match failure {
                EngineFailure::Alert(code) => CloseReason::Alert(code),
                EngineFailure::Engine(text) => CloseReason::Error(text),
                EngineFailure::Refused => {
                    self.stats.distrusted += 1;
                    CloseReason::Distrusted
                }
            };
            self.events.push_back(Event::Closed {
                session: id,
                addr,
                reason,
            });
            return;
        }
        let initiated = session.expected.is_some();
        let failure = match (failure, session.association.decision()) {
            (EngineFailure::Refused, Some(decision)) => {
                self.stats.refused += 1;
                self.events.push_back(Event::Refused {
                    session: id,
                    addr,
                    initiated,
                    decision: Box::new(decision),
                    alert: session.association.alert_sent(),
                });
                return;
            }
            (EngineFailure::Alert(code), _) => {
                self.stats.peer_alerts += 1;
                Failure::Alert(code)
            }
            (EngineFailure::Engine(text), _) => {
                self.stats.handshake_errors += 1;
                Failure::Engine(text)
            }
            (EngineFailure::Refused, None) => {
                self.stats.handshake_errors += 1;
                Failure::Engine("refused without a decision".to_owned())
            }
        };
        self.events.push_back(Event::Failed {
            session: id,
            addr,
            initiated,
            failure,
        });
    }

    /// Drops a handshake that is not done.
    pub(super) fn fail(&mut self, id: SessionId, failure: Failure) {
        if let Some(session) = self.remove(id) {
            self.events.push_back(Event::Failed {
                session: id,
                addr: session.addr,
                initiated: session.expected.is_some(),
                failure,
            });
        }
    }

    pub(super) fn keep_tickets(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let tickets = session.association.take_tickets();
        let Some(expected) = &session.expected else {
            return;
        };
        if !self.config.resumption || session.association.is_server() {
            return;
        }
        if let Some(ticket) = tickets.into_iter().next_back() {
            let key = (session.addr, expected.clone());
            if self.tickets.insert(key.clone(), ticket).is_none() {
                self.ticket_order.push_back(key);
            }
            while self.ticket_order.len() > self.config.max_tickets {
                if let Some(oldest) = self.ticket_order.pop_front() {
                    self.tickets.remove(&oldest);
                }
            }
        }
    }

    /// Moves what the engine wants to send to the outbox, within the amplification limit.
    pub(super) fn flush(&mut self, id: SessionId) {
        let pressed = self.half_open.len() >= self.config.pressure;
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let outgoing = session.association.take_outgoing();
        if session.hello.is_none() && !session.association.is_server() {
            session.hello = outgoing
                .first()
                .and_then(|datagram| record::client_hello_random(datagram));
        }
        let limited = session.is_half_open();
        let times = if pressed {
            PRESSED_AMPLIFICATION
        } else {
            u64::from(self.config.amplification).max(PRESSED_AMPLIFICATION)
        };
        for datagram in outgoing {
            session.held.push_back(datagram);
        }
        while let Some(datagram) = session.held.front() {
            let len = datagram.len() as u64;
            if limited && session.sent + len > session.received * times {
                self.stats.amplification_held += 1;
                break;
            }
            session.sent += len;
            if let Some(payload) = session.held.pop_front() {
                self.transmits.push_back(Transmit {
                    to: session.addr,
                    payload,
                });
            }
        }
        while session.held.len() > MAX_HELD {
            session.held.pop_back();
            self.stats.amplification_dropped += 1;
        }
    }

    /// Sets the timer of an association to its earliest need; an established one's idle time is looked at only
    /// when its timer fires.
    pub(super) fn arm(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let limit = if session.established {
            session.idle_at(&self.config)
        } else {
            session.started + self.config.handshake_timeout
        };
        let due = [
            session
                .engine_timers_count(self.config.unanswered_repeats)
                .then(|| session.association.timeout())
                .flatten()
                .map(|left| now + left),
            session.alert.map(|(due, _)| due),
            session.anew_at,
            session.judge_at,
            session.insist_at,
            session.rival.as_ref().map(|(due, ..)| *due),
        ]
        .into_iter()
        .flatten()
        .fold(limit, Instant::min)
        // A timer that is due again at once must not keep the owner from anything else.
        .max(now + SHORTEST_TIMER);
        match session.timer {
            Some(armed) if armed <= due && armed > now => {}
            armed => {
                if let Some(armed) = armed {
                    self.timers.remove(&(armed, id));
                }
                session.timer = Some(due);
                self.timers.insert((due, id));
            }
        }
    }
}
