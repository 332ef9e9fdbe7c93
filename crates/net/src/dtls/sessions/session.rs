//! What the table knows of one association and of one address.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use homefleet_coap::SessionId;
use homefleet_trust::{Basis, PeerIdentity};

use super::Expected;
use crate::dtls::config::{Config, Version};
use crate::dtls::engine::{Association, Verdict};

/// Purposes remembered for which a peer was accepted.
const MAX_PURPOSES: usize = 4;

/// The associations with one address.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slot {
    pub(super) established: Option<SessionId>,
    pub(super) pending: Option<SessionId>,
}

pub(super) struct Session {
    pub(super) addr: SocketAddr,
    pub(super) association: Association,
    /// `connect` asked for it, whoever is client in the end.
    pub(super) expected: Option<Expected>,
    /// The random of the ClientHello it began with.
    pub(super) hello: Option<[u8; 32]>,
    pub(super) established: bool,
    /// Since when the decision about the peer has waited for evidence.
    pub(super) held_since: Option<Instant>,
    /// The certificate that a held handshake showed.
    pub(super) held_certificate: Option<[u8; 32]>,
    /// Datagrams that came while a handshake was held.
    pub(super) kept: VecDeque<Vec<u8>>,
    /// What the decision means for the association is looked at.
    pub(super) decision_noted: bool,
    /// When to look whether the decision is out of date.
    pub(super) judge_at: Option<Instant>,
    /// It is: the peer is judged anew before anything more passes, or when its turn comes.
    pub(super) out_of_date: bool,
    /// The verifier's generation that the decision about the peer rests on.
    pub(super) generation: u64,
    pub(super) started: Instant,
    /// Last message received or sent, or datagram of a handshake received.
    pub(super) active: Instant,
    /// Last message received, or datagram of a handshake.
    pub(super) heard: Instant,
    /// Last time that a datagram took the handshake further.
    pub(super) progressed: Instant,
    /// An unprotected alert came: when it counts, unless the handshake goes on.
    pub(super) alert: Option<(Instant, u8)>,
    /// When a handshake of ours that is answered but gets nowhere is begun anew.
    pub(super) anew_at: Option<Instant>,
    /// How often that was done, or done for another reason.
    pub(super) begun_anew: u8,
    /// Flights repeated since the peer was last heard.
    pub(super) repeats: u32,
    /// Other purposes for which the verifier has accepted the peer too.
    pub(super) also: Vec<Expected>,
    /// A datagram other than a ClientHello came from the peer.
    pub(super) answered: bool,
    /// When we begin ourselves if the peer, whose handshake this is, says nothing more.
    pub(super) insist_at: Option<Instant>,
    pub(super) yields: u8,
    /// A ClientHello that beats ours, with its random, and when to go along with it unless the peer answers ours first.
    pub(super) rival: Option<(Instant, [u8; 32], Vec<u8>)>,
    /// Our own handshake, set aside with its hello while theirs goes on: it comes back if the peer answers it.
    pub(super) parked: Option<(Association, Option<[u8; 32]>)>,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) held: VecDeque<Vec<u8>>,
    pub(super) peer: Option<Arc<PeerIdentity>>,
    /// The certificate that it was counted for when it was established; that may be judged otherwise by now.
    pub(super) counted: Option<[u8; 32]>,
    pub(super) timer: Option<Instant>,
}

impl Session {
    pub(super) fn new(
        addr: SocketAddr,
        association: Association,
        now: Instant,
        generation: u64,
    ) -> Self {
        Self {
            addr,
            association,
            expected: None,
            hello: None,
            established: false,
            held_since: None,
            held_certificate: None,
            kept: VecDeque::new(),
            decision_noted: false,
            judge_at: None,
            out_of_date: false,
            generation,
            started: now,
            active: now,
            heard: now,
            progressed: now,
            alert: None,
            anew_at: None,
            begun_anew: 0,
            repeats: 0,
            also: Vec::new(),
            answered: false,
            insist_at: None,
            yields: 0,
            rival: None,
            parked: None,
            received: 0,
            sent: 0,
            held: VecDeque::new(),
            peer: None,
            counted: None,
            timer: None,
        }
    }

    /// Has the peer judged anew if what the decision rests on has changed since.
    pub(super) fn still_trusted(&mut self, generation: u64) -> Verdict {
        if self.generation != generation || self.out_of_date {
            self.judge(generation)
        } else if self.held_since.is_some() {
            Verdict::Held
        } else {
            Verdict::Trusted
        }
    }

    /// Has the peer judged anew.
    pub(super) fn judge(&mut self, generation: u64) -> Verdict {
        self.generation = generation;
        self.decision_noted = false;
        self.out_of_date = false;
        self.also.clear();
        let verdict = self.association.judge(false);
        if verdict == Verdict::Trusted && self.established {
            let decision = self.association.decision();
            self.peer = decision.and_then(|decision| decision.peer).map(Arc::new);
            if self.peer.is_none() {
                return Verdict::Refused;
            }
        }
        verdict
    }

    /// When an established association has been idle for too long.
    pub(super) fn idle_at(&self, config: &Config) -> Instant {
        let idle = self.active + config.idle_timeout;
        match &self.peer {
            Some(peer) if peer.basis == Basis::FirstUse => {
                idle.min(self.heard + config.first_use_idle)
            }
            _ => idle,
        }
    }

    /// Whether the engine's timers count: a handshake of DTLS 1.2 that is held has nothing to repeat, since the peer's
    /// flight is what it works on; one of DTLS 1.3 acknowledges that flight.
    pub(super) fn engine_timers_count(&self, repeats: u32) -> bool {
        let waits = self.held_since.is_some()
            && !self.established
            && self.association.version() == Version::Dtls12;
        let quiet = self.is_half_open() && self.repeats >= repeats;
        !waits && !quiet
    }

    /// Whether the peer may be asked for something else than what the association was made for.
    pub(super) fn serves(&mut self, generation: u64, expected: &Expected) -> bool {
        if !self.established || self.generation != generation || self.out_of_date {
            return false;
        }
        if self.expected.as_ref() == Some(expected) || self.also.contains(expected) {
            return true;
        }
        // The verifier lets a peer pass that is the host, whichever Endpoint is named: who asks for an Endpoint on an
        // association that is there wants no other one.
        let serves =
            expected.endpoint_id.is_none() && self.association.would_serve(&expected.purpose());
        if serves && self.also.len() < MAX_PURPOSES {
            self.also.push(expected.clone());
        }
        serves
    }

    /// Begun by a stranger who has proven nothing yet.
    pub(super) fn is_half_open(&self) -> bool {
        !self.established && self.expected.is_none()
    }
}
