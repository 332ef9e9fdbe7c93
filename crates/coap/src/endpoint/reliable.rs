//! Confirmable messages of ours: repetition, acknowledgement, and NSTART (RFC 7252 §4.2, §4.7, §4.8).

use std::time::{Duration, Instant};

use rand_core::Rng;

use super::Endpoint;
use super::peers::{PeerKey, PeerState, Work};
use super::timers::{Timer, TimerKey, after};
use crate::peer::Peer;

/// Whose message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Request(u64),
    Notification(u64),
    /// A separate response, or the last notification of an observation: nobody waits for its fate.
    Response,
    /// A notification whose observation ended, still in its place of NSTART.
    Orphan,
}

/// One Confirmable message on its way.
pub(super) struct Transmission {
    pub(super) peer: PeerKey,
    pub(super) id: u16,
    bytes: Vec<u8>,
    attempt: u32,
    timeout: Duration,
    timer: TimerKey,
    pub(super) owner: Owner,
    /// How often the peer had been heard when it was sent first.
    heard: u32,
}

/// What an ACK or RST with a message ID is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Confirmable(u64),
    NonRequest(u64),
    NonNotification(u64),
}

impl Endpoint {
    /// Sends a Confirmable message and repeats it until it is acknowledged.
    pub(super) fn send_confirmable(
        &mut self,
        now: Instant,
        peer: PeerKey,
        id: u16,
        bytes: Vec<u8>,
        owner: Owner,
    ) -> u64 {
        let timeout = self.first_timeout();
        self.put_transmission(now, peer, id, bytes, owner, 0, timeout)
    }

    #[allow(clippy::too_many_arguments)] // one field each of a Transmission
    fn put_transmission(
        &mut self,
        now: Instant,
        peer: PeerKey,
        id: u16,
        bytes: Vec<u8>,
        owner: Owner,
        attempt: u32,
        timeout: Duration,
    ) -> u64 {
        self.transmit_for(peer, owner, bytes.clone());
        let at = after(now, timeout);
        let heard = self.peers.get(peer).map_or(0, |state| state.heard);
        let key = self.transmissions.insert(Transmission {
            peer,
            id,
            bytes,
            attempt,
            timeout,
            timer: (at, 0),
            owner,
            heard,
        });
        let timer = self.timers.set(at, Timer::Retransmit(key));
        if let Some(transmission) = self.transmissions.get_mut(key) {
            transmission.timer = timer;
        }
        self.sent.insert((peer, id), Sent::Confirmable(key));
        if let Some(state) = self.peers.get_mut(peer) {
            state.transmissions += 1;
        }
        key
    }

    /// ACK_TIMEOUT times 1 to ACK_RANDOM_FACTOR (RFC 7252 §4.2).
    fn first_timeout(&mut self) -> Duration {
        let share = f64::from(self.rng.next_u32()) / f64::from(u32::MAX);
        let factor = 1.0 + share * (self.config.random_factor() - 1.0);
        self.config
            .ack_timeout
            .min(Duration::from_secs(86_400))
            .mul_f64(factor)
    }

    /// Ends a transmission: acknowledged, answered or given up.
    pub(super) fn end_transmission(&mut self, key: u64) -> Option<Transmission> {
        let transmission = self.transmissions.remove(key)?;
        self.timers.cancel(Some(transmission.timer));
        self.sent.remove(&(transmission.peer, transmission.id));
        if let Some(state) = self.peers.get_mut(transmission.peer) {
            state.transmissions -= 1;
        }
        Some(transmission)
    }

    /// The wait for an acknowledgement is over (RFC 7252 §4.2).
    pub(super) fn retransmit(&mut self, now: Instant, key: u64) {
        let max = self.config.max_retransmit;
        let Some(transmission) = self.transmissions.get_mut(key) else {
            return;
        };
        let owner = transmission.owner;
        if transmission.attempt >= max {
            if let Some(transmission) = self.end_transmission(key) {
                self.note_silence(now, &transmission);
                self.given_up(now, transmission.peer, owner);
            }
            return;
        }
        transmission.attempt += 1;
        transmission.timeout = transmission.timeout.saturating_mul(2);
        let (attempt, timeout) = (transmission.attempt, transmission.timeout);
        self.stats.retransmissions += 1;
        // RFC 7641 §4.5.2: a newer state takes the place of the one that is being repeated.
        if let Owner::Notification(id) = owner
            && let Some((peer, message_id, bytes)) = self.replace_notification(now, id)
        {
            self.end_transmission(key);
            let key = self.put_transmission(now, peer, message_id, bytes, owner, attempt, timeout);
            self.notification_in_flight(id, key);
            return;
        }
        let Some(transmission) = self.transmissions.get_mut(key) else {
            return;
        };
        transmission.timer = self.timers.set(after(now, timeout), Timer::Retransmit(key));
        let (peer, bytes) = (transmission.peer, transmission.bytes.clone());
        self.transmit_for(peer, owner, bytes);
    }

    /// Requests are our own wish; what answers a peer is bounded while its address is not verified.
    fn transmit_for(&mut self, peer: PeerKey, owner: Owner, bytes: Vec<u8>) {
        match owner {
            Owner::Request(_) => self.transmit_to(peer, bytes),
            Owner::Notification(_) | Owner::Response | Owner::Orphan => {
                self.transmit_within(peer, bytes);
            }
        }
    }

    /// Nobody acknowledged a message: if nothing at all came meanwhile, what was sent counts for PROBING_RATE
    /// (RFC 7252 §4.7). Requests have the back-off of their own repetitions, and whoever asks again decides when.
    fn note_silence(&mut self, now: Instant, transmission: &Transmission) {
        let sent = transmission.bytes.len() * (transmission.attempt as usize + 1);
        let pace = self.probing_time(sent);
        if let Some(state) = self.peers.get_mut(transmission.peer)
            && state.heard == transmission.heard
            && !matches!(transmission.owner, Owner::Request(_))
        {
            let since = state.silent_until.map_or(now, |until| until.max(now));
            state.silent_until = Some(after(since, pace));
        }
    }

    /// A message came from a peer; its key, if it is known.
    pub(super) fn hear(&mut self, from: &Peer) -> Option<PeerKey> {
        let peer = self.peers.find(from)?;
        if self.peers.get_mut(peer).is_some_and(PeerState::hear) {
            self.back = Some(peer);
        }
        Some(peer)
    }

    /// Whether a peer has been silent for so long that it gets no unasked message now.
    pub(super) fn silent_until(&self, now: Instant, peer: PeerKey) -> Option<Instant> {
        let until = self.peers.get(peer)?.silent_until?;
        (until > now).then_some(until)
    }

    fn given_up(&mut self, now: Instant, peer: PeerKey, owner: Owner) {
        match owner {
            Owner::Request(id) => self.request_timed_out(now, id),
            Owner::Notification(id) => {
                self.stats.responses_undelivered += 1;
                self.notification_failed(now, id);
            }
            Owner::Response => {
                self.stats.responses_undelivered += 1;
                self.peers.release(peer);
            }
            Owner::Orphan => self.free_slot(now, peer),
        }
    }

    /// An Empty ACK for one of our messages.
    pub(super) fn acknowledged(&mut self, now: Instant, peer: PeerKey, id: u16) {
        let Some(Sent::Confirmable(key)) = self.sent.get(&(peer, id)).copied() else {
            self.stats.unmatched_replies += 1;
            return;
        };
        if let Some(transmission) = self.end_transmission(key) {
            match transmission.owner {
                Owner::Request(id) => self.request_acknowledged(now, id),
                Owner::Notification(id) => self.notification_acknowledged(now, id),
                Owner::Response => self.peers.release(peer),
                Owner::Orphan => self.free_slot(now, peer),
            }
        }
    }

    /// An RST for one of our messages.
    pub(super) fn rejected(&mut self, now: Instant, peer: PeerKey, id: u16) {
        let Some(sent) = self.sent.get(&(peer, id)).copied() else {
            self.stats.unmatched_replies += 1;
            return;
        };
        self.stats.resets_received += 1;
        match sent {
            Sent::Confirmable(key) => {
                if let Some(transmission) = self.end_transmission(key) {
                    match transmission.owner {
                        Owner::Request(id) => self.request_reset(now, id),
                        Owner::Notification(id) => self.notification_failed(now, id),
                        Owner::Response => {
                            self.stats.responses_undelivered += 1;
                            self.peers.release(peer);
                        }
                        Owner::Orphan => self.free_slot(now, peer),
                    }
                }
            }
            Sent::NonRequest(id) => self.request_reset(now, id),
            Sent::NonNotification(id) => self.notification_failed(now, id),
        }
    }

    /// Takes one of the peer's NSTART places, if one is free.
    pub(super) fn take_slot(&mut self, peer: PeerKey) -> bool {
        let nstart = self.config.nstart.max(1);
        match self.peers.get_mut(peer) {
            Some(state) if state.outstanding < nstart => {
                state.outstanding += 1;
                true
            }
            _ => false,
        }
    }

    /// Gives a place back and starts what waits for it.
    pub(super) fn free_slot(&mut self, now: Instant, peer: PeerKey) {
        if let Some(state) = self.peers.get_mut(peer) {
            state.outstanding = state.outstanding.saturating_sub(1);
        }
        self.run_queue(now, peer);
        self.peers.release(peer);
    }

    pub(super) fn run_queue(&mut self, now: Instant, peer: PeerKey) {
        let nstart = self.config.nstart.max(1);
        loop {
            let Some(state) = self.peers.get_mut(peer) else {
                return;
            };
            if state.outstanding >= nstart {
                return;
            }
            let Some(work) = state.queue.pop_front() else {
                return;
            };
            match work {
                Work::Request(id) => self.start_queued(now, id),
                Work::Notification(id) => self.notify_queued(now, id),
            }
        }
    }

    pub(super) fn forget_transmissions(&mut self, peer: PeerKey) {
        if self.peers.get(peer).is_none_or(|s| s.transmissions == 0) {
            return;
        }
        let keys: Vec<u64> = self
            .transmissions
            .iter()
            .filter(|(_, t)| t.peer == peer)
            .map(|(key, _)| key)
            .collect();
        for key in keys {
            self.end_transmission(key);
        }
    }
}
