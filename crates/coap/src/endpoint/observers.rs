//! Serving observers (RFC 7641 §4).
//!
//! ```text
//! Event::Request ─ accept_observer ─ respond (2.05, Observe) ─> registered
//! notify ─┬─ NON ───────────────────────────────┐
//!         └─ CON (every N) ─ in flight ─┬─ ACK ─┴─> the newest state that came meanwhile
//!                                       └─ RST, time-out ─> Event::ObserverGone
//! ```

use std::collections::VecDeque;
use std::time::Instant;

use super::Endpoint;
use super::download::Reply;
use super::peers::{PeerKey, Work};
use super::reliable::{Owner, Sent};
use super::server::check_response;
use super::timers::{Timer, TimerKey, after};
use crate::block::Block;
use crate::code::Code;
use crate::error::ObserveError;
use crate::event::{Event, ExchangeId, ObservationId};
use crate::message::{Token, Type};
use crate::request::Response;

/// How many Non-confirmable notifications an RST can name.
const REMEMBERED: usize = 16;

/// One observer.
pub(super) struct Observation {
    peer: PeerKey,
    token: Token,
    key: u64,
    /// The last sequence number (24 bits, RFC 7641 §4.4).
    seq: u32,
    block2: Option<Block>,
    payload_hash: u64,
    since_confirmable: u32,
    last_confirmable: Option<Instant>,
    in_flight: Option<u64>,
    /// Waits for a place in NSTART.
    queued: bool,
    /// Waits for its pace.
    paced: Option<TimerKey>,
    pending: Option<Response>,
    sent: VecDeque<u16>,
}

impl Endpoint {
    /// Serves the observer of an exchange; to be called before [`Endpoint::respond`], whose response is then
    /// the first notification (RFC 7641 §4.1). A registration that repeats an earlier one keeps its ID.
    ///
    /// # Errors
    /// When the request does not ask for notifications, or there are too many observers; the exchange can
    /// still be answered, and its client then knows that it is not registered. Notifications go to verified
    /// addresses only ([`crate::Config::amplification`]): from another, a success is answered with 4.01 and Echo.
    pub fn accept_observer(&mut self, exchange: ExchangeId) -> Result<ObservationId, ObserveError> {
        let Some(state) = self.exchanges.get(exchange.0) else {
            return Err(ObserveError::UnknownExchange);
        };
        if !state.wants_notifications {
            return Err(ObserveError::NotAsked);
        }
        let context = state.context;
        let payload_hash = state.payload_hash;
        if self.room(context.peer).is_some() {
            if let Some(state) = self.exchanges.get_mut(exchange.0) {
                state.to_challenge = true;
            }
            return Err(ObserveError::Unverified);
        }
        let place = (context.peer, context.token);
        let known = self.observers.get(&place).copied();
        let same = known.filter(|id| {
            self.observations
                .get(*id)
                .is_some_and(|observation| observation.key == context.key)
        });
        let id = match (same, known) {
            (Some(id), _) => id,
            (None, known) => {
                if let Some(other) = known {
                    self.replace_observation(other);
                }
                let (served, secure) = (self.peers.get(context.peer))
                    .map_or((0, false), |s| (s.observations, s.peer.session.is_some()));
                let full = self.observations.len() >= self.config.max_observations;
                if served >= self.config.max_observations_per_peer
                    || (full && !(secure && self.evict_observation()))
                {
                    self.stats.observers_refused += 1;
                    return Err(ObserveError::Limit);
                }
                let id = self.observations.insert(Observation {
                    peer: context.peer,
                    token: context.token,
                    key: context.key,
                    seq: 0,
                    block2: None,
                    payload_hash,
                    since_confirmable: 0,
                    last_confirmable: None,
                    in_flight: None,
                    queued: false,
                    paced: None,
                    pending: None,
                    sent: VecDeque::new(),
                });
                self.observers.insert(place, id);
                if !secure {
                    self.plain_observations.push_back(id);
                    if self.plain_observations.len() > 2 * self.observations.len() + 64 {
                        let observations = &self.observations;
                        self.plain_observations
                            .retain(|id| observations.contains(*id));
                    }
                }
                if let Some(state) = self.peers.get_mut(context.peer) {
                    state.observations += 1;
                }
                id
            }
        };
        if let Some(state) = self.exchanges.get_mut(exchange.0) {
            state.observation = Some(id);
        }
        Ok(ObservationId(id))
    }

    /// Makes room for an authenticated observer: the oldest one without security goes. `false` when there is none.
    fn evict_observation(&mut self) -> bool {
        while let Some(id) = self.plain_observations.pop_front() {
            if let Some(peer) = self.observations.get(id).map(|o| o.peer) {
                self.stats.observers_evicted += 1;
                self.replace_observation(id);
                self.peers.release(peer);
                return true;
            }
        }
        false
    }

    /// Sends the resource's new state to an observer. A response code other than 2.xx is the last
    /// notification and ends the observation (RFC 7641 §4.2). While a Confirmable notification is not
    /// acknowledged, only the newest state waits (RFC 7641 §4.5.2).
    ///
    /// # Errors
    /// When the observation ended, or the response is not valid.
    pub fn notify(
        &mut self,
        now: Instant,
        id: ObservationId,
        response: Response,
    ) -> Result<(), ObserveError> {
        if !self.observations.contains(id.0) {
            return Err(ObserveError::UnknownObservation);
        }
        check_response(&response)?;
        if !response.code.is_success() {
            self.last_notification(now, id.0, response);
            return Ok(());
        }
        let every = self.config.notify_con_every.max(1);
        let longest = self.config.notify_con_after;
        let Some(observation) = self.observations.get_mut(id.0) else {
            return Err(ObserveError::UnknownObservation);
        };
        if observation.in_flight.is_some() || observation.queued {
            if observation.pending.replace(response).is_some() {
                self.stats.notifications_superseded += 1;
            }
            return Ok(());
        }
        let last = *observation.last_confirmable.get_or_insert(now);
        let mut confirmable = observation.since_confirmable + 1 >= every
            || now.saturating_duration_since(last) >= longest;
        let peer = observation.peer;
        let (silent, next_non) = self
            .peers
            .get(peer)
            .map_or((None, None), |state| (state.silent_until, state.next_non));
        // Whether a peer that fell silent is still there shows in its acknowledgement.
        confirmable |= silent.is_some();
        let wait = if confirmable { silent } else { next_non };
        if let Some(until) = wait.filter(|until| *until > now) {
            self.stats.silence_held += u64::from(silent.is_some());
            self.pace(id.0, until, response);
            return Ok(());
        }
        let Some(observation) = self.observations.get_mut(id.0) else {
            return Err(ObserveError::UnknownObservation);
        };
        if let Some(paced) = observation.paced.take() {
            self.timers.cancel(Some(paced));
        }
        if observation.pending.take().is_some() {
            self.stats.notifications_superseded += 1;
        }
        if !confirmable {
            self.notify_non(now, id.0, response);
        } else {
            observation.pending = Some(response);
            if self.take_slot(peer) {
                self.notify_pending(now, id.0);
            } else {
                observation_queue(self, peer, id.0);
            }
        }
        Ok(())
    }

    /// Keeps the newest state until its time has come.
    fn pace(&mut self, id: u64, until: Instant, response: Response) {
        let Some(observation) = self.observations.get_mut(id) else {
            return;
        };
        if observation.pending.replace(response).is_some() {
            self.stats.notifications_superseded += 1;
        }
        if observation.paced.is_none() {
            observation.paced = Some(self.timers.set(until, Timer::Pace(id)));
        }
    }

    /// A peer that had been silent was heard: what was held back for it need not wait any longer.
    pub(super) fn welcome_back(&mut self, now: Instant) {
        let Some(peer) = self.back.take() else {
            return;
        };
        if self.peers.get(peer).is_none_or(|s| s.observations == 0) {
            return;
        }
        let held: Vec<(u64, TimerKey)> = self
            .observations
            .iter()
            .filter(|(_, observation)| observation.peer == peer)
            .filter_map(|(id, observation)| Some((id, observation.paced?)))
            .collect();
        for (id, timer) in held {
            self.timers.cancel(Some(timer));
            self.pace_over(now, id);
        }
    }

    pub(super) fn pace_over(&mut self, now: Instant, id: u64) {
        let Some(observation) = self.observations.get_mut(id) else {
            return;
        };
        observation.paced = None;
        if observation.in_flight.is_some() || observation.queued {
            return;
        }
        if let Some(response) = observation.pending.take() {
            // The observation is there and the response was valid.
            let _sent = self.notify(now, ObservationId(id), response);
        }
    }

    /// Ends an observation without a further notification; no event follows.
    pub fn end_observation(&mut self, now: Instant, id: ObservationId) {
        self.remove_observation(now, id.0);
    }

    fn notify_non(&mut self, now: Instant, id: u64, response: Response) {
        let Some(peer) = self.observations.get(id).map(|o| o.peer) else {
            return;
        };
        let message_id = self.message_id(now, peer);
        let Some(bytes) =
            self.encode_notification(now, id, Type::NonConfirmable, message_id, response)
        else {
            return;
        };
        let Some(observation) = self.observations.get_mut(id) else {
            return;
        };
        observation.since_confirmable += 1;
        observation.sent.push_back(message_id);
        if observation.sent.len() > REMEMBERED
            && let Some(old) = observation.sent.pop_front()
        {
            self.sent.remove(&(peer, old));
        }
        self.sent
            .insert((peer, message_id), Sent::NonNotification(id));
        if let Some(state) = self.peers.get_mut(peer) {
            state.next_non = Some(after(now, self.config.notify_pace));
        }
        self.stats.notifications_out += 1;
        self.transmit_within(peer, bytes);
    }

    /// Sends what waits as Confirmable notification; a place in NSTART is taken already.
    fn notify_pending(&mut self, now: Instant, id: u64) {
        let Some(observation) = self.observations.get_mut(id) else {
            return;
        };
        let peer = observation.peer;
        let Some(response) = observation.pending.take() else {
            return self.free_slot(now, peer);
        };
        let message_id = self.message_id(now, peer);
        let Some(bytes) =
            self.encode_notification(now, id, Type::Confirmable, message_id, response)
        else {
            return self.free_slot(now, peer);
        };
        self.stats.notifications_out += 1;
        let key = self.send_confirmable(now, peer, message_id, bytes, Owner::Notification(id));
        self.notification_in_flight(id, key);
        if let Some(observation) = self.observations.get_mut(id) {
            observation.since_confirmable = 0;
            observation.last_confirmable = Some(now);
        }
    }

    pub(super) fn notification_in_flight(&mut self, id: u64, key: u64) {
        if let Some(observation) = self.observations.get_mut(id) {
            observation.in_flight = Some(key);
        }
    }

    /// The observer's turn in NSTART has come.
    pub(super) fn notify_queued(&mut self, now: Instant, id: u64) {
        let Some(observation) = self.observations.get_mut(id) else {
            return;
        };
        observation.queued = false;
        let peer = observation.peer;
        if let Some(until) = self.silent_until(now, peer) {
            if let Some(response) = self
                .observations
                .get_mut(id)
                .and_then(|observation| observation.pending.take())
            {
                self.pace(id, until, response);
            }
            return;
        }
        let Some(observation) = self.observations.get_mut(id) else {
            return;
        };
        if observation.pending.is_some() && self.take_slot(peer) {
            self.notify_pending(now, id);
        }
    }

    /// The newer state that is to be sent in place of one that was not acknowledged (RFC 7641 §4.5.2).
    pub(super) fn replace_notification(
        &mut self,
        now: Instant,
        id: u64,
    ) -> Option<(PeerKey, u16, Vec<u8>)> {
        let observation = self.observations.get_mut(id)?;
        let peer = observation.peer;
        let response = observation.pending.take()?;
        let message_id = self.message_id(now, peer);
        let bytes = self.encode_notification(now, id, Type::Confirmable, message_id, response)?;
        self.stats.notifications_superseded += 1;
        Some((peer, message_id, bytes))
    }

    fn encode_notification(
        &mut self,
        now: Instant,
        id: u64,
        kind: Type,
        message_id: u16,
        response: Response,
    ) -> Option<Vec<u8>> {
        let observation = self.observations.get_mut(id)?;
        observation.seq = (observation.seq + 1) & 0xff_ffff;
        let peer = observation.peer;
        let reply = Reply {
            token: observation.token,
            key: Some(observation.key),
            block1: None,
            block2: observation.block2,
            payload_hash: observation.payload_hash,
            observe: response.code.is_success().then_some(observation.seq),
            room: usize::MAX,
        };
        Some(self.encode_reply(now, peer, kind, message_id, &reply, response))
    }

    /// The last notification of an observation, Confirmable so that it arrives.
    fn last_notification(&mut self, now: Instant, id: u64, response: Response) {
        let Some(peer) = self.observations.get(id).map(|o| o.peer) else {
            return;
        };
        let message_id = self.message_id(now, peer);
        let bytes = self.encode_notification(now, id, Type::Confirmable, message_id, response);
        self.remove_observation(now, id);
        if let Some(bytes) = bytes {
            self.stats.notifications_out += 1;
            self.send_confirmable(now, peer, message_id, bytes, Owner::Response);
        }
    }

    pub(super) fn notification_acknowledged(&mut self, now: Instant, id: u64) {
        let Some(observation) = self.observations.get_mut(id) else {
            return;
        };
        let peer = observation.peer;
        observation.in_flight = None;
        if observation.pending.is_some() {
            observation.queued = true;
            if let Some(state) = self.peers.get_mut(peer) {
                state.queue.push_back(Work::Notification(id));
            }
        }
        self.free_slot(now, peer);
    }

    /// RST or no acknowledgement: the observer has lost interest (RFC 7641 §4.2, §4.5).
    pub(super) fn notification_failed(&mut self, now: Instant, id: u64) {
        if self.remove_observation(now, id) {
            self.events.push_back(Event::ObserverGone {
                id: ObservationId(id),
            });
        }
    }

    /// GET with Observe 1 (RFC 7641 §3.6).
    pub(super) fn deregistered(&mut self, now: Instant, peer: PeerKey, token: &Token) {
        if let Some(id) = self.observers.get(&(peer, *token)).copied() {
            self.notification_failed(now, id);
        }
    }

    /// The first response to a registration: its sequence number, or `None` when it ends the observation.
    pub(super) fn registered(
        &mut self,
        now: Instant,
        id: u64,
        code: Code,
        block2: Option<Block>,
    ) -> Option<u32> {
        let observation = self.observations.get_mut(id)?;
        if !code.is_success() {
            self.notification_failed(now, id);
            return None;
        }
        // A later notification is cut as the registration asked.
        observation.block2 = block2.map(|block| Block::new(0, false, block.szx));
        observation.last_confirmable.get_or_insert(now);
        observation.seq = (observation.seq + 1) & 0xff_ffff;
        Some(observation.seq)
    }

    /// Ends an observation and says so. A notification on its way stays there, and keeps its place in
    /// NSTART until its fate is known.
    fn replace_observation(&mut self, id: u64) {
        if let Some(observation) = self.observations.get_mut(id)
            && let Some(key) = observation.in_flight.take()
            && let Some(transmission) = self.transmissions.get_mut(key)
        {
            transmission.owner = Owner::Orphan;
        }
        if self.take_observation(id).is_some() {
            self.events.push_back(Event::ObserverGone {
                id: ObservationId(id),
            });
        }
    }

    /// Removes an observation; a place in NSTART that it held goes to the next.
    fn remove_observation(&mut self, now: Instant, id: u64) -> bool {
        let Some(peer) = self.take_observation(id) else {
            return false;
        };
        self.run_queue(now, peer);
        self.peers.release(peer);
        true
    }

    fn take_observation(&mut self, id: u64) -> Option<PeerKey> {
        let observation = self.observations.remove(id)?;
        let peer = observation.peer;
        self.observers.remove(&(peer, observation.token));
        for message_id in observation.sent {
            self.sent.remove(&(peer, message_id));
        }
        self.timers.cancel(observation.paced);
        let held = observation.in_flight.is_some();
        if let Some(key) = observation.in_flight {
            self.end_transmission(key);
        }
        if let Some(state) = self.peers.get_mut(peer) {
            state.observations -= 1;
            if held {
                state.outstanding = state.outstanding.saturating_sub(1);
            }
            if observation.queued {
                state.queue.retain(|work| *work != Work::Notification(id));
            }
        }
        Some(peer)
    }

    pub(super) fn forget_observers(&mut self, peer: PeerKey) {
        if self.peers.get(peer).is_none_or(|s| s.observations == 0) {
            return;
        }
        let ids: Vec<u64> = self
            .observations
            .iter()
            .filter(|(_, observation)| observation.peer == peer)
            .map(|(id, _)| id)
            .collect();
        for id in ids {
            self.replace_observation(id);
        }
    }
}

fn observation_queue(endpoint: &mut Endpoint, peer: PeerKey, id: u64) {
    if let Some(observation) = endpoint.observations.get_mut(id) {
        observation.queued = true;
    }
    if let Some(state) = endpoint.peers.get_mut(peer) {
        state.queue.push_back(Work::Notification(id));
    }
}
