//! Datagrams that anybody could have sent into a handshake under way: before keys protect it, nothing tells the peer's from a
//! forger's. What can be ignored is ignored; what cannot must not be the end.
//!
//! - An unprotected alert counts only if the handshake does not go on meanwhile: a peer that ended it falls silent, a
//!   forged alert does not silence the peer.
//! - Once the peer's next records have to be protected, unprotected ones do not reach the engine.
//! - A handshake of ours that was spoilt, or is answered and gets nowhere, is begun anew, a few times.
//!
//! What stays: a forger who answers our hello faster than the peer, every time, wins, since neither version of DTLS has a
//! cookie towards clients; and in DTLS 1.2, whose handshake is unprotected until its last messages, a forged one can spoil a handshake in
//! which we are the server: the client then finds nobody and has to begin anew.

use std::time::{Duration, Instant};

use homefleet_coap::SessionId;

use super::Sessions;
use crate::dtls::engine::{EngineFailure, Progress};
use crate::dtls::record;

/// How often one handshake of ours is begun anew.
const MAX_ANEW: u8 = 3;
/// Datagrams kept for a handshake that is held; the peer repeats the rest.
const MAX_KEPT: usize = 8;
/// A handshake of ours that was answered, but whose peer has shown no certificate for this long, gets nowhere.
const NOWHERE_AFTER: Duration = Duration::from_secs(5);

impl Sessions {
    /// Feeds one datagram to a handshake that is not done.
    pub(super) fn feed_handshake(
        &mut self,
        now: Instant,
        id: SessionId,
        datagram: &[u8],
        messages: &mut Vec<Vec<u8>>,
    ) -> Progress {
        let Some(session) = self.sessions.get_mut(&id) else {
            return Progress::Continue;
        };
        let sifted = record::sift(datagram, session.association.reads_protected());
        self.stats.late_plaintext += sifted.late as u64;
        if let Some(code) = sifted.alert {
            let due = now + self.config.initial_retransmit;
            session.alert.get_or_insert((due, code));
        }
        if sifted.rest.is_empty() {
            return Progress::Continue;
        }
        if session.held_since.is_some() {
            // The engine does not read before the decision is made.
            if session.kept.len() < MAX_KEPT {
                session.kept.push_back(sifted.rest.into_owned());
            }
            return Progress::Continue;
        }
        let decided = session.association.is_decided();
        let progress = session.association.input(&sifted.rest, messages);
        let on = session.association.has_outgoing() || session.association.is_decided() != decided;
        if progress == Progress::Established || (progress == Progress::Continue && on) {
            session.progressed = now;
            session.anew_at = None;
            if session.alert.take().is_some() {
                self.stats.forged_alerts += 1;
            }
        }
        if session.answered && !session.association.is_server() && !session.association.is_decided()
        {
            session.anew_at.get_or_insert(now + NOWHERE_AFTER);
        }
        progress
    }

    /// Looks at what time has made of a handshake under way: an alert that counts by now, an answer that led nowhere.
    /// `true`: the association is over, or begun anew.
    pub(super) fn suspect(&mut self, now: Instant, id: SessionId) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else {
            return true;
        };
        if session.established {
            return false;
        }
        if let Some((due, code)) = session.alert
            && due <= now
            && session.held_since.is_none()
        {
            self.over(id, EngineFailure::Alert(code));
            return true;
        }
        if session.anew_at.is_some_and(|due| due <= now) {
            session.anew_at = None;
            if session.begun_anew < MAX_ANEW && !session.association.is_server() {
                session.begun_anew += 1;
                self.stats.begun_anew += 1;
                self.hello_anew(now, id);
                return true;
            }
        }
        false
    }

    /// Begins a handshake of ours anew that unprotected datagrams have spoilt. `false`: it is over.
    pub(super) fn begin_anew(
        &mut self,
        now: Instant,
        id: SessionId,
        failure: &EngineFailure,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else {
            return false;
        };
        if !matches!(failure, EngineFailure::Engine(_))
            || session.established
            || session.expected.is_none()
            || session.association.is_server()
            || session.association.reads_protected()
            || session.begun_anew >= MAX_ANEW
        {
            return false;
        }
        session.begun_anew += 1;
        self.stats.begun_anew += 1;
        self.hello_anew(now, id);
        true
    }
}
