//! Requests of our own (RFC 7252 §5.2, §5.3).
//!
//! ```text
//! request ─ NSTART ─> sent ─┬─ ACK with response, or response ─┬─ 2.31 ─> next Block1 ─> sent
//!              ▲            ├─ Empty ACK ─> waiting ────────────┤─ Block2, more ─> fetch ─> sent
//!              └── a place  ├─ RST ─> Failed                   └─> Response
//!                           └─ MAX_RETRANSMIT ─> Failed
//! ```

use std::time::Instant;

use rand_core::Rng;

use super::Endpoint;
use super::fetch::Fetch;
use super::input::is_unicast;
use super::multicast::Group;
use super::observing::Watch;
use super::peers::{PeerKey, Work};
use super::reliable::{Owner, Sent};
use super::sending::Upload;
use super::server::check_options;
use super::timers::{Timer, TimerKey, after};
use crate::code::Code;
use crate::error::RequestError;
use crate::event::{Event, RequestId};
use crate::message::{Message, Token, Type};
use crate::no_response::NoResponse;
use crate::number;
use crate::options::Options;
use crate::peer::Peer;
use crate::request::{Request, Response};

/// The message of a request that is on its way.
#[derive(Clone, Copy)]
pub(super) enum OnWire {
    Confirmable(u64),
    Non(u16),
}

/// One request.
pub(super) struct ClientRequest {
    pub(super) peer: PeerKey,
    pub(super) token: Token,
    pub(super) request: Request,
    pub(super) has_slot: bool,
    pub(super) wire: Option<OnWire>,
    pub(super) timer: Option<TimerKey>,
    pub(super) slot_timer: Option<TimerKey>,
    pub(super) upload: Option<Upload>,
    pub(super) fetch: Option<Fetch>,
    pub(super) watch: Option<Watch>,
    /// The value that the server wants to see (RFC 9175 §2.3).
    pub(super) echo: Option<Box<[u8]>>,
    /// Sent once more because of it.
    echoed: bool,
    /// Sent to a group, of which each member may answer.
    pub(super) group: Option<Group>,
}

impl ClientRequest {
    pub(super) fn new(
        peer: PeerKey,
        token: Token,
        request: Request,
        has_slot: bool,
    ) -> ClientRequest {
        ClientRequest {
            peer,
            token,
            request,
            has_slot,
            wire: None,
            timer: None,
            slot_timer: None,
            upload: None,
            fetch: None,
            watch: None,
            echo: None,
            echoed: false,
            group: None,
        }
    }
}

/// What a response leads to.
pub(super) enum Step {
    /// Ask for, or send, the next block.
    Again,
    Deliver(Response),
    Fail(RequestError),
}

impl Endpoint {
    /// Starts a request with its whole body; Block1 and Block2 happen inside.
    ///
    /// A request ends with [`Event::Response`] or [`Event::Failed`]; an observing one goes on until `Failed`.
    ///
    /// # Errors
    /// When the request cannot be sent to this address or is not valid, or too many are waiting.
    pub fn request(
        &mut self,
        now: Instant,
        to: Peer,
        mut request: Request,
    ) -> Result<RequestId, RequestError> {
        if !is_unicast(&to) {
            return Err(RequestError::InvalidDestination);
        }
        self.check_request(&mut request)?;
        let peer = self.intern(to);
        let waiting = self.peers.get(peer).map_or(0, |state| state.queue.len());
        let has_slot = waiting == 0 && self.take_slot(peer);
        if !has_slot && waiting >= self.config.max_queue {
            self.peers.release(peer);
            return Err(RequestError::QueueFull);
        }
        let token = self.new_token(peer);
        let request = ClientRequest::new(peer, token, request, has_slot);
        let id = self.requests.insert(request);
        self.tokens.insert((peer, token), id);
        self.stats.requests_out += 1;
        if let Some(state) = self.peers.get_mut(peer) {
            state.requests += 1;
            if !has_slot {
                state.queue.push_back(Work::Request(id));
            }
        }
        if has_slot {
            self.send_step(now, id);
        }
        Ok(RequestId(id))
    }

    /// Whether a request can be sent at all; takes out what the endpoint adds itself.
    pub(super) fn check_request(&self, request: &mut Request) -> Result<(), RequestError> {
        if !request.code.is_request() {
            return Err(RequestError::Invalid { option: None });
        }
        let invalid = request
            .options
            .iter()
            .find(|(number, value)| !number::is_valid_value(*number, value));
        if let Some((number, _)) = invalid {
            return Err(RequestError::Invalid {
                option: Some(number),
            });
        }
        if self.requests.len() >= self.config.max_requests {
            return Err(RequestError::QueueFull);
        }
        request.options.remove(number::BLOCK1);
        request.options.remove(number::SIZE1);
        Ok(())
    }

    /// Gives up a request, or an observation as client; its last event is
    /// [`RequestError::Cancelled`]. Later notifications are answered with RST (RFC 7641 §3.6).
    pub fn cancel(&mut self, now: Instant, id: RequestId) {
        self.fail(now, id.0, RequestError::Cancelled);
    }

    /// Ends an observation as client by telling the server: the same request with Observe 1 (RFC 7641 §3.6). Its response
    /// is the request's last event. A request that is no observation (yet) is given up as by [`Endpoint::cancel`].
    pub fn deregister(&mut self, now: Instant, id: RequestId) {
        let Some(request) = self.requests.get_mut(id.0) else {
            return;
        };
        let Some(watch) = request.watch.take() else {
            return self.cancel(now, id);
        };
        request.request.options.set_observe(1);
        request.request.options.remove(number::ETAG);
        self.timers.cancel(watch.timer);
        self.drop_fetch(id.0);
        self.settle(id.0);
        self.send_next(now, id.0);
    }

    /// Eight random bytes that are not in use with this peer (RFC 7252 §5.3.1).
    pub(super) fn new_token(&mut self, peer: PeerKey) -> Token {
        loop {
            let token = Token::from(self.rng.next_u64().to_le_bytes());
            if !self.tokens.contains_key(&(peer, token)) {
                return token;
            }
        }
    }

    pub(super) fn start_queued(&mut self, now: Instant, id: u64) {
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        if request.has_slot || request.wire.is_some() {
            return;
        }
        let peer = request.peer;
        if self.take_slot(peer) {
            if let Some(request) = self.requests.get_mut(id) {
                request.has_slot = true;
            }
            self.send_step(now, id);
        }
    }

    /// A response in an ACK: it must name a request of ours by message ID *and* token (RFC 7252 §5.3.2).
    pub(super) fn piggybacked(&mut self, now: Instant, from: Peer, message: Message) {
        let matched = self.hear(&from).and_then(|peer| {
            let Some(Sent::Confirmable(key)) = self.sent.get(&(peer, message.id)) else {
                return None;
            };
            let Owner::Request(id) = self.transmissions.get(*key)?.owner else {
                return None;
            };
            (self.tokens.get(&(peer, message.token)) == Some(&id)).then_some((*key, id))
        });
        let Some((key, id)) = matched else {
            self.stats.unmatched_responses += 1;
            return;
        };
        self.end_transmission(key);
        if let Some(request) = self.requests.get_mut(id) {
            request.wire = None;
        }
        self.response_received(now, id, message, true);
    }

    /// A response in a message of its own (RFC 7252 §5.2.2, §5.2.3).
    pub(super) fn separate_received(&mut self, now: Instant, from: Peer, mut message: Message) {
        if !self.groups.is_empty() && self.group_answered(now, from, &mut message) {
            return;
        }
        let peer = self.hear(&from);
        if let Some(peer) = peer
            && self.is_duplicate(now, peer, &message)
        {
            return;
        }
        let matched = peer.and_then(|peer| Some((peer, *self.tokens.get(&(peer, message.token))?)));
        let Some((peer, id)) = matched else {
            // RFC 7252 §4.2 and RFC 7641 §3.6: RST also ends an observation nobody remembers.
            self.stats.unmatched_responses += 1;
            self.send_reset(from, message.id);
            return;
        };
        let confirmable = message.kind == Type::Confirmable;
        let seen = self.dedup.remember(
            now,
            &mut self.peers,
            peer,
            message.id,
            &message.token,
            confirmable,
        );
        let bad = check_options(&mut message.options, understood).err();
        if confirmable {
            let kind = match bad {
                None => Type::Acknowledgement,
                Some(_) => {
                    self.stats.resets_sent += 1;
                    Type::Reset
                }
            };
            let bytes = Message::empty(kind, message.id).encode();
            self.dedup.answer(&mut self.peers, seen, &bytes);
            self.transmit(from, bytes);
        }
        match bad {
            Some(option) => {
                self.settle(id);
                self.fail(now, id, RequestError::BadResponse { option });
            }
            None => self.response_received(now, id, message, false),
        }
    }

    fn response_received(&mut self, now: Instant, id: u64, mut message: Message, solicited: bool) {
        if let Err(option) = check_options(&mut message.options, understood) {
            self.settle(id);
            return self.fail(now, id, RequestError::BadResponse { option });
        }
        let Some(peer) = self.requests.get(id).map(|request| request.peer) else {
            return;
        };
        // Its token was ours: 64 random bits that only a reader of the peer's mail can know.
        self.verified(peer);
        if let Some(echo) = message.options.first(number::ECHO)
            && let Some(state) = self.peers.get_mut(peer)
        {
            state.echo = Some(echo.into());
        }
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let response = Response {
            code: message.code,
            options: message.options,
            payload: message.payload,
        };
        if request.watch.is_some() && request.token == message.token {
            return self.notified(now, id, response, solicited);
        }
        // A notification that crossed our deregistration.
        let leaving = request.request.options.observe() == Some(1);
        if leaving && !solicited && response.options.observe().is_some() {
            self.stats.notifications_stale += 1;
            return;
        }
        // A block we have already, come late by another way.
        let late = request.fetch.as_ref().is_some_and(|f| f.is_late(&response));
        if late && !solicited {
            return;
        }
        self.settle(id);
        if self.echo_wanted(id, &response) {
            return self.send_next(now, id);
        }
        let step = match self.upload_answered(id, response) {
            Ok(step) => step,
            Err(response) => self.fetch_answered(id, response),
        };
        self.take_step(now, id, step);
    }

    /// 4.01 with Echo: the same request once more, from its beginning, with the value (RFC 9175 §2.3).
    fn echo_wanted(&mut self, id: u64, response: &Response) -> bool {
        let Some(request) = self.requests.get_mut(id) else {
            return false;
        };
        let value = response.options.first(number::ECHO);
        let Some(value) = value.filter(|_| response.code == Code::UNAUTHORIZED && !request.echoed)
        else {
            return false;
        };
        request.echo = Some(value.into());
        request.echoed = true;
        self.stats.echoes_sent += 1;
        let (peer, old) = (request.peer, request.token);
        let begun = request.fetch.is_some();
        let upload = request.upload.take_if(|_| !begun);
        if let Some(state) = self.peers.get_mut(peer) {
            state.uploads -= usize::from(upload.is_some());
            state.echo = None;
        }
        if !begun {
            // Another request, so another token (RFC 9175 §4).
            let token = self.new_token(peer);
            self.tokens.remove(&(peer, old));
            self.tokens.insert((peer, token), id);
            if let Some(request) = self.requests.get_mut(id) {
                request.token = token;
            }
        }
        true
    }

    pub(super) fn take_step(&mut self, now: Instant, id: u64, step: Step) {
        match step {
            Step::Again => self.send_next(now, id),
            Step::Deliver(response) => self.complete(now, id, response),
            Step::Fail(error) => self.fail(now, id, error),
        }
    }

    /// The request is answered for good; an observing one goes on (RFC 7641 §3.1).
    fn complete(&mut self, now: Instant, id: u64, mut response: Response) {
        response.options.remove(number::BLOCK1);
        response.options.remove(number::BLOCK2);
        let Some(request) = self.requests.get(id) else {
            return;
        };
        if request.fetch.as_ref().is_some_and(|fetch| fetch.observed) {
            return self.notification_fetched(now, id, response);
        }
        let Some(from) = self.peers.get(request.peer).map(|state| state.peer) else {
            return;
        };
        let observes = request.request.options.observe() == Some(0) && response.code.is_success();
        self.stats.responses_in += 1;
        if let Some(seq) = response.options.observe().filter(|_| observes) {
            self.watch(now, id, seq, response.options.max_age());
            self.release_slot(now, id);
        } else {
            self.end_request(now, id);
        }
        self.events.push_back(Event::Response {
            id: RequestId(id),
            from,
            response,
        });
    }

    pub(super) fn fail(&mut self, now: Instant, id: u64, error: RequestError) {
        if self.end_request(now, id) {
            self.events.push_back(Event::Failed {
                id: RequestId(id),
                error,
            });
        }
    }

    /// Takes the request's message off the wire and stops its clocks.
    pub(super) fn settle(&mut self, id: u64) {
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        let peer = request.peer;
        self.timers.cancel(request.timer.take());
        self.timers.cancel(request.slot_timer.take());
        match request.wire.take() {
            Some(OnWire::Confirmable(key)) => {
                self.end_transmission(key);
            }
            Some(OnWire::Non(message_id)) => {
                self.sent.remove(&(peer, message_id));
            }
            None => {}
        }
    }

    pub(super) fn release_slot(&mut self, now: Instant, id: u64) {
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        if std::mem::take(&mut request.has_slot) {
            let peer = request.peer;
            self.free_slot(now, peer);
        }
    }

    fn end_request(&mut self, now: Instant, id: u64) -> bool {
        // A Non-confirmable message that nobody answered keeps its place for as long as PROBING_RATE says.
        let probing = self
            .requests
            .get_mut(id)
            .is_some_and(|request| request.has_slot && request.slot_timer.take().is_some());
        self.settle(id);
        let Some(mut request) = self.requests.remove(id) else {
            return false;
        };
        let queued = !request.has_slot;
        request.has_slot &= !probing;
        let peer = request.peer;
        self.tokens.remove(&(peer, request.token));
        if request.group.is_some() {
            self.groups.remove(&request.token);
        }
        if let Some(token) = request.fetch.and_then(|fetch| fetch.token) {
            self.tokens.remove(&(peer, token));
        }
        self.timers
            .cancel(request.watch.and_then(|watch| watch.timer));
        if let Some(state) = self.peers.get_mut(peer) {
            state.requests -= 1;
            state.uploads -= usize::from(request.upload.is_some());
            if queued {
                state.queue.retain(|work| *work != Work::Request(id));
            }
        }
        if request.has_slot {
            self.free_slot(now, peer);
        }
        self.peers.release(peer);
        true
    }

    /// An Empty ACK: the response comes separately (RFC 7252 §5.2.2).
    pub(super) fn request_acknowledged(&mut self, now: Instant, id: u64) {
        let timeout = self.config.response_timeout;
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        request.wire = None;
        let unwanted = request.request.options.no_response();
        if unwanted.is_some_and(NoResponse::is_all) {
            return self.fail(now, id, RequestError::Unanswered);
        }
        request.timer = Some(self.timers.set(after(now, timeout), Timer::Response(id)));
        self.release_slot(now, id);
    }

    pub(super) fn request_timed_out(&mut self, now: Instant, id: u64) {
        self.stats.timeouts += 1;
        self.fail(now, id, RequestError::Timeout);
    }

    pub(super) fn response_overdue(&mut self, now: Instant, id: u64) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let unwanted = request.request.options.no_response();
        if request.group.is_some() {
            self.fail(now, id, RequestError::GroupOver);
        } else if unwanted.is_some_and(|unwanted| unwanted != NoResponse::NONE) {
            self.fail(now, id, RequestError::Unanswered);
        } else {
            self.request_timed_out(now, id);
        }
    }

    pub(super) fn request_reset(&mut self, now: Instant, id: u64) {
        self.settle(id);
        self.fail(now, id, RequestError::Reset);
    }

    /// PROBING_RATE allows the next message (RFC 7252 §4.7).
    pub(super) fn slot_elapsed(&mut self, now: Instant, peer: PeerKey, id: u64) {
        match self.requests.get_mut(id) {
            Some(request) => {
                request.slot_timer = None;
                self.release_slot(now, id);
            }
            None => self.free_slot(now, peer),
        }
    }

    pub(super) fn forget_requests(&mut self, now: Instant, peer: PeerKey) {
        if self.peers.get(peer).is_none_or(|s| s.requests == 0) {
            return;
        }
        if let Some(state) = self.peers.get_mut(peer) {
            state.queue.clear();
        }
        let ids: Vec<u64> = self
            .requests
            .iter()
            .filter(|(_, request)| request.peer == peer)
            .map(|(id, _)| id)
            .collect();
        for id in ids {
            self.fail(now, id, RequestError::PeerGone);
        }
    }
}

/// Critical options that may stand in a response.
pub(super) fn understood(number: u16) -> bool {
    matches!(number, number::BLOCK1 | number::BLOCK2)
}

/// Options of a response without those of its transfer.
pub(super) fn without_blocks(mut options: Options) -> Options {
    options.remove(number::BLOCK1);
    options.remove(number::BLOCK2);
    options
}
