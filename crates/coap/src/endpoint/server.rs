//! Requests of peers, and the answers to them (RFC 7252 §5.2).
//!
//! ```text
//! received ─ duplicate? ─ options ─ blocks ─> Event::Request ─┬─ respond ──────────────> ACK + response
//!                │            │        │                      └─ separate_after: ACK ──> respond: CON
//!             replayed      4.02     2.31, 4.08, 4.13, next block
//! ```

use std::time::{Duration, Instant};

use super::Endpoint;
use super::dedup::Seen;
use super::download::Reply;
use super::multicast::is_worth_sending;
use super::peers::PeerKey;
use super::reliable::Owner;
use super::timers::after;
use crate::block::Block;
use crate::code::Code;
use crate::error::RespondError;
use crate::event::{Event, ExchangeId};
use crate::message::{Message, Token, Type};
use crate::no_response::NoResponse;
use crate::number;
use crate::options::Options;
use crate::peer::Peer;
use crate::request::{Request, Response};

/// What an answer needs to know of its request.
#[derive(Clone, Copy)]
pub(super) struct Context {
    pub(super) peer: PeerKey,
    pub(super) id: u16,
    pub(super) token: Token,
    pub(super) confirmable: bool,
    pub(super) seen: Seen,
    /// Method and cache key.
    pub(super) key: u64,
    /// GET or FETCH.
    pub(super) safe: bool,
    /// Classes of responses that the client does not want (RFC 7967 §2), if it says so.
    no_response: Option<NoResponse>,
    /// The request came to a group (RFC 7252 §8).
    pub(super) multicast: bool,
    /// How old the request is at most, by its Echo value.
    pub(super) echo_age: Option<Duration>,
}

impl Context {
    /// Whether the client does not want a response of this code (RFC 7967 §2). Within a block-wise transfer it needs the
    /// answers to its blocks; one that is registered as observer wants responses.
    fn unwanted(&self, reply: &Reply, response: &Response) -> bool {
        match self.no_response {
            None => self.multicast && !is_worth_sending(response),
            Some(unwanted) => {
                let code = response.code;
                unwanted.covers(code) && code != Code::CONTINUE && reply.observe.is_none()
            }
        }
    }
}

/// A request that waits for the application.
pub(super) struct Exchange {
    pub(super) context: Context,
    /// The Empty ACK is out, so the response will be a message of its own.
    acknowledged: bool,
    /// The block that completed an upload, repeated in the response (RFC 7959 §2.3).
    block1: Option<Block>,
    /// What the client wants of the response body (RFC 7959 §2.4).
    block2: Option<Block>,
    pub(super) payload_hash: u64,
    pub(super) wants_notifications: bool,
    /// The client asks for the size of the body (RFC 7959 §4).
    wants_size: bool,
    /// A success is not to be sent to an address that is not verified.
    pub(super) to_challenge: bool,
    pub(super) observation: Option<u64>,
}

/// Removes invalid and repeated elective options; the number of the first critical one that is invalid,
/// repeated or not understood (RFC 7252 §5.4.1, §5.4.3, §5.4.5).
pub(super) fn check_options(
    options: &mut Options,
    understood: impl Fn(u16) -> bool,
) -> Result<(), u16> {
    let mut last = None;
    let mut elective = false;
    let mut location = false;
    for (number, value) in options.iter() {
        location |= matches!(number, number::LOCATION_PATH | number::LOCATION_QUERY);
        // RFC 7252 §5.10.7: beside Location-*, what is reserved for it must be understood.
        if location && number::LOCATION_RESERVED.contains(&number) {
            return Err(number);
        }
        let repeated =
            last == Some(number) && number::definition(number).is_some_and(|d| !d.repeatable);
        last = Some(number);
        let valid = !repeated && number::is_valid_value(number, value);
        if number::is_critical(number) {
            if !valid || !understood(number) {
                return Err(number);
            }
        } else if !valid {
            elective = true;
        }
    }
    if elective {
        options.retain(|number, value, nth| {
            number::is_valid_value(number, value)
                && (nth == 0 || number::definition(number).is_none_or(|d| d.repeatable))
        });
    }
    Ok(())
}

impl Endpoint {
    pub(super) fn request_received(
        &mut self,
        now: Instant,
        from: Peer,
        mut message: Message,
        len: usize,
        multicast: bool,
    ) {
        let peer = self.intern(from);
        self.heard(peer, len);
        if self.is_duplicate(now, peer, &message) {
            return;
        }
        let confirmable = message.kind == Type::Confirmable;
        let mut context = Context {
            peer,
            id: message.id,
            token: message.token,
            confirmable,
            seen: self.dedup.remember(
                now,
                &mut self.peers,
                peer,
                message.id,
                &message.token,
                confirmable,
            ),
            key: 0,
            safe: message.code.is_safe(),
            no_response: None,
            multicast,
            echo_age: None,
        };
        self.stats.requests_in += 1;
        if message.options.highest() >= Some(number::ECHO) {
            context.no_response = message.options.no_response();
            context.echo_age = self.check_echo(now, peer, &message.options);
        }
        // RFC 7252 §5.10.2: Proxy-Uri and Proxy-Scheme are understood as far as being refused.
        let wants_proxy = message.options.contains(number::PROXY_URI)
            || message.options.contains(number::PROXY_SCHEME);
        if let Err(number) = self.check_request_options(message.code, &mut message.options) {
            self.stats.bad_options += 1;
            // RFC 7252 §5.4.1: 4.02 for a Confirmable request, rejection (§4.3) for another.
            if confirmable {
                let text = match number::definition(number) {
                    Some(definition) => format!("option {number} ({})", definition.name),
                    None => format!("option {number}"),
                };
                self.answer(
                    now,
                    &context,
                    Response::new(Code::BAD_OPTION).diagnostic(&text),
                );
            }
            return;
        }
        if wants_proxy {
            self.stats.proxy_refused += 1;
            self.answer(now, &context, Response::new(Code::PROXYING_NOT_SUPPORTED));
            return;
        }
        if message.code > Code::IPATCH {
            self.stats.unknown_methods += 1;
            self.answer(now, &context, Response::new(Code::METHOD_NOT_ALLOWED));
            return;
        }
        context.key = self.request_key(message.code, &message.options);
        let Some(block1) = self.take_upload(now, &context, &mut message) else {
            return;
        };
        let Some((block2, payload_hash)) = self.take_download(now, &context, block1, &mut message)
        else {
            return;
        };
        self.deliver(now, context, message, block1, block2, payload_hash);
    }

    fn check_request_options(&self, method: Code, options: &mut Options) -> Result<(), u16> {
        let understood = &self.config.understood;
        let conditional = options.lowest() <= Some(number::IF_NONE_MATCH)
            && self.config.handles_conditions(method, options);
        check_options(options, |number| {
            matches!(
                number,
                number::URI_HOST
                    | number::URI_PORT
                    | number::URI_PATH
                    | number::URI_QUERY
                    | number::BLOCK1
                    | number::BLOCK2
                    | number::PROXY_URI
                    | number::PROXY_SCHEME
            ) || understood.contains(&number)
                || (conditional && matches!(number, number::IF_MATCH | number::IF_NONE_MATCH))
        })
    }

    fn deliver(
        &mut self,
        now: Instant,
        context: Context,
        message: Message,
        block1: Option<Block>,
        block2: Option<Block>,
        payload_hash: u64,
    ) {
        let Some(state) = self.peers.get(context.peer) else {
            return;
        };
        let from = state.peer;
        let busy = state.exchanges >= self.config.max_exchanges_per_peer;
        let full = self.exchanges.len() >= self.config.max_exchanges;
        if busy || (full && !(from.session.is_some() && self.evict_exchange(now))) {
            self.stats.overload_refused += 1;
            self.answer(now, &context, overloaded());
            return;
        }
        if let Some(state) = self.peers.get_mut(context.peer) {
            state.exchanges += 1;
        }
        let observe = message.options.observe();
        if observe == Some(1) {
            self.deregistered(now, context.peer, &context.token);
        }
        let id = self.exchanges.insert(Exchange {
            context,
            acknowledged: false,
            block1,
            block2,
            payload_hash,
            wants_notifications: observe == Some(0) && message.code.is_safe() && !context.multicast,
            wants_size: message.options.contains(number::SIZE2),
            to_challenge: false,
            observation: None,
        });
        if from.session.is_none() {
            self.plain_exchanges.push_back(id);
            if self.plain_exchanges.len() > 2 * self.exchanges.len() + 64 {
                let exchanges = &self.exchanges;
                self.plain_exchanges.retain(|id| exchanges.contains(*id));
            }
        }
        self.separate
            .push_back((after(now, self.config.separate_after), id));
        self.stats.requests_delivered += 1;
        self.events.push_back(Event::Request {
            exchange: ExchangeId(id),
            from,
            request: Request {
                code: message.code,
                confirmable: context.confirmable,
                options: message.options,
                payload: message.payload,
            },
        });
    }

    /// Makes room for a request of an authenticated peer: the oldest one of a peer without security is refused after
    /// all. `false` when there is none.
    fn evict_exchange(&mut self, now: Instant) -> bool {
        while let Some(id) = self.plain_exchanges.pop_front() {
            let Some(exchange) = self.end_exchange(id) else {
                continue;
            };
            self.stats.exchanges_evicted += 1;
            if let Some(observation) = exchange.observation {
                self.notification_failed(now, observation);
            }
            if !exchange.acknowledged {
                self.answer(now, &exchange.context, overloaded());
            }
            self.peers.release(exchange.context.peer);
            return true;
        }
        false
    }

    /// Answers a peer's request with a whole body; blocks are made of it as needed (RFC 7959 §2.4).
    ///
    /// # Errors
    /// When the exchange is gone, or the response is not valid; the exchange stays open then.
    pub fn respond(
        &mut self,
        now: Instant,
        exchange: ExchangeId,
        mut response: Response,
    ) -> Result<(), RespondError> {
        if !self.exchanges.contains(exchange.0) {
            return Err(RespondError::UnknownExchange);
        }
        check_response(&response)?;
        let Some(exchange) = self.end_exchange(exchange.0) else {
            return Err(RespondError::UnknownExchange);
        };
        let context = exchange.context;
        if exchange.to_challenge && response.code.is_success() {
            response = self.challenge_response(now, context.peer, usize::MAX);
        }
        if exchange.wants_size && response.code.is_success() {
            let size = u32::try_from(response.payload.len()).unwrap_or(u32::MAX);
            response.options.set_size2(size);
        }
        let observe = exchange
            .observation
            .and_then(|id| self.registered(now, id, response.code, exchange.block2));
        let reply = Reply {
            token: context.token,
            key: Some(context.key),
            block1: exchange.block1,
            block2: exchange.block2,
            payload_hash: exchange.payload_hash,
            observe,
            room: usize::MAX,
        };
        if exchange.acknowledged {
            if context.unwanted(&reply, &response) {
                self.stats.responses_suppressed += 1;
                self.peers.release(context.peer);
                return Ok(());
            }
            if self.silent_until(now, context.peer).is_some() {
                // Nobody took the last one, and nothing came since: nobody is there.
                self.stats.responses_undelivered += 1;
                self.stats.silence_held += 1;
                self.peers.release(context.peer);
                return Ok(());
            }
            let id = self.message_id(now, context.peer);
            let bytes = self.encode_within(now, &context, Type::Confirmable, id, &reply, response);
            self.send_confirmable(now, context.peer, id, bytes, Owner::Response);
            self.stats.responses_out += 1;
        } else {
            self.send_answer(now, &context, &reply, response);
        }
        self.peers.release(context.peer);
        Ok(())
    }

    /// Answers at once what the application never sees.
    pub(super) fn answer(&mut self, now: Instant, context: &Context, response: Response) {
        self.send_answer(now, context, &Reply::whole(context.token), response);
    }

    /// Piggybacked on the ACK, or Non-confirmable for a Non-confirmable request (RFC 7252 §5.2).
    pub(super) fn send_answer(
        &mut self,
        now: Instant,
        context: &Context,
        reply: &Reply,
        response: Response,
    ) {
        if context.unwanted(reply, &response) {
            self.stats.responses_suppressed += 1;
            if context.confirmable {
                self.send_empty_ack(context);
            }
            return;
        }
        let (kind, id) = if context.confirmable {
            (Type::Acknowledgement, context.id)
        } else {
            (Type::NonConfirmable, self.message_id(now, context.peer))
        };
        let bytes = self.encode_within(now, context, kind, id, reply, response);
        self.stats.responses_out += 1;
        if context.confirmable {
            self.remember_answer(context, bytes);
        } else if context.multicast {
            self.send_at_leisure(now, context.peer, bytes);
        } else {
            self.transmit_within(context.peer, bytes);
        }
    }

    fn send_empty_ack(&mut self, context: &Context) {
        let bytes = Message::empty(Type::Acknowledgement, context.id).encode();
        self.remember_answer(context, bytes);
    }

    /// Sends an ACK, and again for each repetition of the request.
    fn remember_answer(&mut self, context: &Context, bytes: Vec<u8>) {
        let to = self.spend(context.peer, bytes.len());
        // At the bound this may forget the very peer.
        self.dedup.answer(&mut self.peers, context.seen, &bytes);
        if let Some(to) = to {
            self.transmit(to, bytes);
        }
    }

    fn end_exchange(&mut self, id: u64) -> Option<Exchange> {
        let exchange = self.exchanges.remove(id)?;
        if let Some(state) = self.peers.get_mut(exchange.context.peer) {
            state.exchanges -= 1;
        }
        while let Some((_, front)) = self.separate.front()
            && !self.exchanges.contains(*front)
        {
            self.separate.pop_front();
        }
        Some(exchange)
    }

    /// RFC 7252 §5.2.2: what is not answered by now is acknowledged with an Empty message.
    pub(super) fn separate_due(&mut self, now: Instant) {
        while let Some((at, id)) = self.separate.front().copied() {
            let exchange = self.exchanges.get_mut(id);
            if exchange.is_some() && at > now {
                return;
            }
            self.separate.pop_front();
            let Some(exchange) = exchange else {
                continue;
            };
            let context = exchange.context;
            if context.confirmable {
                exchange.acknowledged = true;
                self.stats.separate_acks += 1;
                self.send_empty_ack(&context);
            }
            self.overdue
                .push_back((after(at, self.config.exchange_timeout), id));
            if self.overdue.len() > 2 * self.exchanges.len() + 64 {
                let exchanges = &self.exchanges;
                self.overdue.retain(|(_, id)| exchanges.contains(*id));
            }
        }
    }

    pub(super) fn exchanges_overdue(&mut self, now: Instant) {
        while let Some((at, id)) = self.overdue.front().copied() {
            if at > now && self.exchanges.contains(id) {
                return;
            }
            self.overdue.pop_front();
            if let Some(exchange) = self.end_exchange(id) {
                self.stats.unanswered += 1;
                if let Some(observation) = exchange.observation {
                    self.notification_failed(now, observation);
                }
                self.peers.release(exchange.context.peer);
            }
        }
    }

    pub(super) fn forget_exchanges(&mut self, peer: PeerKey) {
        if self.peers.get(peer).is_none_or(|s| s.exchanges == 0) {
            return;
        }
        let ids: Vec<u64> = self
            .exchanges
            .iter()
            .filter(|(_, exchange)| exchange.context.peer == peer)
            .map(|(id, _)| id)
            .collect();
        for id in ids {
            self.end_exchange(id);
        }
    }
}

/// 5.03, and when to ask again (RFC 7252 §5.9.3.4).
fn overloaded() -> Response {
    Response::new(Code::SERVICE_UNAVAILABLE).max_age(5)
}

/// Whether a response can be sent at all.
pub(super) fn check_response(response: &Response) -> Result<(), RespondError> {
    if !response.code.is_response() {
        return Err(RespondError::Invalid { option: None });
    }
    if let Some((number, _)) = response
        .options
        .iter()
        .find(|(number, value)| !number::is_valid_value(*number, value))
    {
        return Err(RespondError::Invalid {
            option: Some(number),
        });
    }
    // 2^20 blocks of 16 bytes is what every client can ask for.
    if response.payload.len() > 16 << 20 {
        return Err(RespondError::TooLarge);
    }
    Ok(())
}
