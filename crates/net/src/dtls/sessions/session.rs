//! What the table knows of one association and of one address.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use homefleet_coap::SessionId;
use homefleet_trust::PeerIdentity;

use super::Expected;
use crate::dtls::engine::Association;

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
    /// The verifier's generation that the decision about the peer rests on.
    pub(super) generation: u64,
    pub(super) started: Instant,
    /// Last message received or sent, or datagram of a handshake received.
    pub(super) active: Instant,
    /// Last message received, or datagram of a handshake.
    pub(super) heard: Instant,
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
            generation,
            started: now,
            active: now,
            heard: now,
            answered: false,
            insist_at: None,
            yields: 0,
            rival: None,
            parked: None,
            received: 0,
            sent: 0,
            held: VecDeque::new(),
            peer: None,
            timer: None,
        }
    }

    /// Has the peer judged anew if what the decision rests on has changed since. `false`: it is trusted no more.
    pub(super) fn still_trusted(&mut self, generation: u64) -> bool {
        if self.generation == generation {
            return true;
        }
        self.generation = generation;
        if !self.association.judge() {
            return false;
        }
        if self.established {
            let decision = self.association.decision();
            self.peer = decision.and_then(|decision| decision.peer).map(Arc::new);
        }
        self.peer.is_some() || !self.established
    }

    /// Begun by a stranger who has proven nothing yet.
    pub(super) fn is_half_open(&self) -> bool {
        !self.established && self.expected.is_none()
    }
}
