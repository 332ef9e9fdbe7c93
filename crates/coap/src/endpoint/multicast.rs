//! Requests to and from groups (RFC 7252 §8).
//!
//! ```text
//! handle_multicast ─ NON request? ─ ... ─ Event::Request ─ respond ─ worth sending? ─ leisure ─> NON response
//! request_group ─> NON to the group ─┬─ a response of each member ─> Event::Response
//!                                    └─ the window is over ─> Event::Failed (GroupOver)
//! ```

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rand_core::Rng;

use super::Endpoint;
use super::client::{ClientRequest, OnWire, understood};
use super::input::is_unicast;
use super::peers::PeerKey;
use super::reliable::Sent;
use super::server::check_options;
use super::timers::{Timer, after};
use crate::code::Code;
use crate::error::RequestError;
use crate::event::{Event, ExchangeId, RequestId};
use crate::message::{Message, Type, encode};
use crate::number;
use crate::peer::Peer;
use crate::request::{Request, Response};

/// The members of a group that have answered a request.
pub(super) struct Group {
    answered: HashSet<PeerKey>,
}

/// A response that waits for its time.
pub(super) struct Leisurely {
    pub(super) peer: PeerKey,
    bytes: Vec<u8>,
}

impl Endpoint {
    /// Takes in a datagram that was sent to a multicast address, as the socket tells.
    ///
    /// Only Non-confirmable requests without security are served; everything else is dropped, and nothing is ever
    /// rejected (RFC 7252 §8.1). Responses leave after a random part of [`crate::Config::leisure`], and those that tell
    /// nothing, errors and empty ones, only when the request asks for them with No-Response of value 0 (§8.2,
    /// RFC 7967 §2.1).
    pub fn handle_multicast(&mut self, now: Instant, from: Peer, datagram: &[u8]) {
        self.stats.datagrams_in += 1;
        if !is_unicast(&from) || from.session.is_some() {
            self.stats.unanswerable_source += 1;
            return;
        }
        match Message::decode(datagram) {
            Ok(message)
                if message.kind == Type::NonConfirmable
                    && message.code.is_request()
                    // One request is for all; what follows a first block is between two (RFC 7959 §2.8).
                    && !message.options.contains(number::BLOCK1)
                    && message.options.block2().is_none_or(|block| block.num == 0) =>
            {
                self.request_received(now, from, message, datagram.len(), true);
            }
            Ok(_) => self.stats.multicast_ignored += 1,
            Err(_) => self.stats.format_errors += 1,
        }
        self.welcome_back(now);
    }

    /// Whether a request came to a group, so that others were asked the same.
    pub fn is_multicast(&self, exchange: ExchangeId) -> bool {
        let exchange = self.exchanges.get(exchange.0);
        exchange.is_some_and(|exchange| exchange.context.multicast)
    }

    /// Sends a response within the leisure period (RFC 7252 §8.2).
    pub(super) fn send_at_leisure(&mut self, now: Instant, peer: PeerKey, bytes: Vec<u8>) {
        if self.leisurely.len() >= self.config.max_leisurely {
            self.stats.leisurely_dropped += 1;
            return;
        }
        let share = f64::from(self.rng.next_u32()) / f64::from(u32::MAX);
        let longest = self.config.leisure.min(Duration::from_secs(3600));
        let id = self.leisurely.insert(Leisurely { peer, bytes });
        let at = after(now, longest.mul_f64(share));
        self.timers.set(at, Timer::Leisure(id));
        if let Some(state) = self.peers.get_mut(peer) {
            state.transmissions += 1;
        }
    }

    pub(super) fn leisure_over(&mut self, id: u64) {
        let Some(Leisurely { peer, bytes }) = self.leisurely.remove(id) else {
            return;
        };
        self.transmit_within(peer, bytes);
        if let Some(state) = self.peers.get_mut(peer) {
            state.transmissions -= 1;
        }
        self.peers.release(peer);
    }

    /// Asks a group: one Non-confirmable message to a multicast address, without security (RFC 7252 §8.1). Each member's
    /// first response within `window` is an [`Event::Response`]; then the request ends with
    /// [`RequestError::GroupOver`]. A response of several blocks brings its first one, with its Block2 option: the rest
    /// is to be asked of its sender.
    ///
    /// # Errors
    /// When this is no multicast address, the request is not valid or too large for one message, too many are under way,
    /// or the last one to this group was so lately that PROBING_RATE forbids another (RFC 7252 §4.7).
    pub fn request_group(
        &mut self,
        now: Instant,
        group: Peer,
        mut request: Request,
        window: Duration,
    ) -> Result<RequestId, RequestError> {
        if !group.addr.ip().is_multicast() || group.addr.port() == 0 || group.session.is_some() {
            return Err(RequestError::InvalidDestination);
        }
        self.check_request(&mut request)?;
        request.options.remove(number::OBSERVE);
        request.confirmable = false;
        let peer = self.intern(group);
        if !self.take_slot(peer) {
            return Err(RequestError::QueueFull);
        }
        let token = self.new_token(peer);
        let message_id = self.message_id(now, peer);
        let (code, options, body) = (request.code, &request.options, &request.payload);
        let bytes = encode(
            Type::NonConfirmable,
            code,
            message_id,
            &token,
            options,
            body,
        );
        if bytes.len() > self.config.max_message {
            self.free_slot(now, peer);
            return Err(RequestError::TooLarge {
                limit: self.config.max_message,
            });
        }
        let mut state = ClientRequest::new(peer, token, request, true);
        state.wire = Some(OnWire::Non(message_id));
        state.group = Some(Group {
            answered: HashSet::new(),
        });
        let probing = self.probing_time(bytes.len());
        let id = self.requests.insert(state);
        let timer = self.timers.set(after(now, window), Timer::Response(id));
        let slot = self.timers.set(after(now, probing), Timer::Slot(peer, id));
        if let Some(request) = self.requests.get_mut(id) {
            request.timer = Some(timer);
            request.slot_timer = Some(slot);
        }
        self.tokens.insert((peer, token), id);
        self.groups.insert(token, id);
        self.sent.insert((peer, message_id), Sent::NonRequest(id));
        if let Some(state) = self.peers.get_mut(peer) {
            state.requests += 1;
        }
        self.stats.requests_out += 1;
        self.transmit_to(peer, bytes);
        Ok(RequestId(id))
    }

    /// A response of a member; `false` when its token belongs to no group.
    pub(super) fn group_answered(
        &mut self,
        now: Instant,
        from: Peer,
        message: &mut Message,
    ) -> bool {
        let Some(id) = self.groups.get(&message.token).copied() else {
            return false;
        };
        if from.session.is_some() {
            return false;
        }
        let peer = self.intern(from);
        if self.is_duplicate(now, peer, message) {
            return true;
        }
        let confirmable = message.kind == Type::Confirmable;
        let seen = self.dedup.remember(
            now,
            &mut self.peers,
            peer,
            message.id,
            &message.token,
            confirmable,
        );
        if confirmable {
            let bytes = Message::empty(Type::Acknowledgement, message.id).encode();
            self.dedup.answer(&mut self.peers, seen, &bytes);
            self.transmit(from, bytes);
        }
        let limit = self.config.max_group_responses;
        let bad = check_options(&mut message.options, understood).is_err();
        let group = self.requests.get_mut(id).and_then(|r| r.group.as_mut());
        let first = group.is_some_and(|group| {
            !bad && group.answered.len() < limit && group.answered.insert(peer)
        });
        if first {
            self.stats.responses_in += 1;
            self.events.push_back(Event::Response {
                id: RequestId(id),
                from,
                response: Response {
                    code: message.code,
                    options: std::mem::take(&mut message.options),
                    payload: std::mem::take(&mut message.payload),
                },
            });
        } else {
            self.stats.unmatched_responses += 1;
        }
        true
    }

    pub(super) fn forget_leisurely(&mut self, peer: PeerKey) {
        let ids: Vec<u64> = self
            .leisurely
            .iter()
            .filter(|(_, waiting)| waiting.peer == peer)
            .map(|(id, _)| id)
            .collect();
        for id in ids {
            self.leisurely.remove(id);
        }
    }
}

/// Whether a response to a group's request tells its client something (RFC 7252 §8.2).
pub(super) fn is_worth_sending(response: &Response) -> bool {
    response.code.is_success() && (response.code != Code::CONTENT || !response.payload.is_empty())
}
