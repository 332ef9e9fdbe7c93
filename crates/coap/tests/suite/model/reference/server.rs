//! The reference as server: deduplication, block-wise transfer, separate responses, observers.

use std::time::Instant;

use homefleet_coap::{Block, Code, ExchangeId, Message, ObservationId, Response, Token, Type};

use super::{Key, Model, Must, MustEvent, Owner, Say, Then, Verdict, key};

/// A message that was received, by its ID and token (RFC 7252 §4.5; the token tells an early reuse of the ID).
#[derive(Debug)]
pub(super) struct Seen {
    id: u16,
    token: Token,
    confirmable: bool,
    at: Instant,
    answer: Option<Vec<u8>>,
}

/// A request that the application has.
#[derive(Clone, Debug)]
pub(in super::super) struct Open {
    pub(in super::super) exchange: Option<ExchangeId>,
    pub(super) code: Code,
    pub(super) confirmable: bool,
    pub(super) key: Key,
    id: u16,
    token: Token,
    at: Instant,
    acknowledged: bool,
    block1: Option<Block>,
    block2: Option<Block>,
    pub(in super::super) wants_notifications: bool,
}

/// A request body in parts (RFC 7959 §2.5).
#[derive(Debug)]
pub(super) struct Upload {
    key: Key,
    body: Vec<u8>,
    touched: Instant,
}

/// A response body in parts (RFC 7959 §2.4).
#[derive(Debug)]
pub(super) struct Download {
    key: Key,
    code: Code,
    body: Vec<u8>,
    touched: Instant,
}

/// An observer (RFC 7641 §4.1).
#[derive(Debug)]
pub(in super::super) struct Observer {
    pub(in super::super) id: ObservationId,
    token: Token,
    key: Key,
    seq: u32,
    /// The newest state, until it is sent.
    pub(super) unsent: Option<Vec<u8>>,
    non_since_con: u32,
    /// The latest Non-confirmable notifications.
    non_ids: Vec<u16>,
}

/// How many Non-confirmable notifications an RST can name.
const REMEMBERED: usize = 16;

impl Model {
    /// Whether a message is so close to its lifetime that either verdict is right.
    pub(in super::super) fn is_borderline(&self, now: Instant, peer: usize, id: u16) -> bool {
        self.peers[peer].seen.iter().any(|seen| {
            let age = (now - seen.at).as_secs();
            let lifetime = self.lifetime(seen).as_secs();
            seen.id == id && (lifetime..=lifetime + 1).contains(&age)
        })
    }

    fn lifetime(&self, seen: &Seen) -> std::time::Duration {
        if seen.confirmable {
            self.config.exchange_lifetime()
        } else {
            self.config.non_lifetime()
        }
    }

    /// RFC 7252 §4.5: `true` when the message was seen, and its answer is repeated.
    pub(super) fn is_duplicate(&mut self, now: Instant, peer: usize, message: &Message) -> bool {
        let seen = self.peers[peer].seen.iter().rev().find(|seen| {
            (seen.id, seen.token) == (message.id, message.token)
                && now - seen.at <= self.lifetime(seen)
        });
        let Some(seen) = seen else { return false };
        if message.kind == Type::Confirmable
            && let Some(answer) = &seen.answer
        {
            self.must.push(Must::Bytes(peer, answer.clone()));
        }
        true
    }

    pub(super) fn remember(&mut self, now: Instant, peer: usize, message: &Message) {
        self.peers[peer].seen.push(Seen {
            id: message.id,
            token: message.token,
            confirmable: message.kind == Type::Confirmable,
            at: now,
            answer: None,
        });
    }

    pub(super) fn remember_answer(&mut self, peer: usize, id: u16, token: Token, bytes: &[u8]) {
        let seen = &mut self.peers[peer].seen;
        if let Some(seen) = seen
            .iter_mut()
            .rev()
            .find(|s| (s.id, s.token) == (id, token))
        {
            seen.answer = Some(bytes.to_vec());
        }
    }

    /// A response that is ready at once: piggybacked, or Non-confirmable (RFC 7252 §5.2).
    fn reply(confirmable: bool, id: u16, token: Token, code: Code) -> Say {
        if confirmable {
            Say {
                id: Some(id),
                then: Then::Answer(id, token),
                ..Say::plain(Type::Acknowledgement, code, token)
            }
        } else {
            Say::plain(Type::NonConfirmable, code, token)
        }
    }

    pub(super) fn asked_by_peer(&mut self, now: Instant, peer: usize, mut message: Message) {
        if self.is_duplicate(now, peer, &message) {
            return;
        }
        self.remember(now, peer, &message);
        let confirmable = message.kind == Type::Confirmable;
        let reply = |code| Model::reply(confirmable, message.id, message.token, code);
        // The peers of this test use one critical option that nobody understands.
        if message.options.contains(super::super::CRITICAL) {
            if confirmable {
                self.must_say(peer, reply(Code::BAD_OPTION));
            }
            return;
        }
        let key = key(message.code, &message.options);
        let mut completed = None;
        if let Some(block) = message.options.block1() {
            match self.upload(now, peer, &key, block, &message.payload) {
                Ok(body) => {
                    completed = Some(block);
                    message.payload = body;
                }
                Err((code, answered)) => {
                    let block1 = answered;
                    return self.must_say(
                        peer,
                        Say {
                            block1,
                            ..reply(code)
                        },
                    );
                }
            }
        } else if message.payload.len() > self.config.max_body {
            return self.must_say(peer, reply(Code::REQUEST_ENTITY_TOO_LARGE));
        }
        let wanted = message.options.block2();
        if let Some(block) = wanted.filter(|block| block.num > 0) {
            let downloads = &mut self.peers[peer].downloads;
            if let Some(at) = downloads.iter().position(|download| download.key == key) {
                let download = &mut downloads[at];
                let Some((cut, part)) = cut(&self.config, &download.body, block) else {
                    return self.must_say(peer, reply(Code::BAD_REQUEST));
                };
                download.touched = now;
                let code = download.code;
                if !cut.more {
                    downloads.remove(at);
                }
                let say = Say {
                    block2: Some(cut),
                    payload: Some(part),
                    ..reply(code)
                };
                return self.must_say(peer, say);
            }
            if !message.code.is_safe() {
                return self.must_say(peer, reply(Code::REQUEST_ENTITY_INCOMPLETE));
            }
        }
        if self.peers[peer].open.len() >= self.config.max_exchanges_per_peer {
            return self.must_say(peer, reply(Code::SERVICE_UNAVAILABLE));
        }
        let observe = message.options.observe();
        if observe == Some(1)
            && let Some(id) = self.observer(peer, message.token).map(|o| o.id)
        {
            self.observer_gone(peer, id);
        }
        let open = Open {
            exchange: None,
            code: message.code,
            confirmable,
            key,
            id: message.id,
            token: message.token,
            at: now,
            acknowledged: false,
            block1: completed,
            block2: wanted,
            wants_notifications: observe == Some(0) && message.code.is_safe(),
        };
        let event = MustEvent::Request(peer, Box::new(open), message.payload);
        self.events.push(event);
    }

    /// RFC 7959 §2.3, §2.5: the whole body, or how the block is answered.
    fn upload(
        &mut self,
        now: Instant,
        peer: usize,
        key: &Key,
        block: Block,
        part: &[u8],
    ) -> Result<Vec<u8>, (Code, Option<Block>)> {
        let max = self.config.max_body;
        let preferred = Block::szx_for(self.config.block_size);
        let go_on = (
            Code::CONTINUE,
            Some(Block::new(block.num, true, block.szx.min(preferred))),
        );
        if block.szx == 7 || part.len() > block.size() || (block.more && part.len() != block.size())
        {
            return Err((Code::BAD_REQUEST, None));
        }
        let uploads = &mut self.peers[peer].uploads;
        if block.num == 0 {
            uploads.retain(|upload| upload.key != *key);
        }
        let at = uploads.iter().position(|upload| upload.key == *key);
        let received = at.map_or(0, |at| uploads[at].body.len());
        if block.offset() != received {
            if let Some(at) = at {
                let repeats = block.more
                    && block.offset() + part.len() == received
                    && uploads[at].body[block.offset()..] == *part;
                if repeats {
                    return Err(go_on);
                }
                if block.offset() > received {
                    uploads.remove(at);
                }
            }
            return Err((Code::REQUEST_ENTITY_INCOMPLETE, None));
        }
        let mut upload = at.map_or(
            Upload {
                key: key.clone(),
                body: Vec::new(),
                touched: now,
            },
            |at| uploads.remove(at),
        );
        if received + part.len() > max {
            return Err((Code::REQUEST_ENTITY_TOO_LARGE, None));
        }
        upload.body.extend_from_slice(part);
        upload.touched = now;
        if !block.more {
            return Ok(upload.body);
        }
        uploads.push(upload);
        Err(go_on)
    }

    /// The application answers.
    pub(in super::super) fn respond(
        &mut self,
        now: Instant,
        peer: usize,
        exchange: ExchangeId,
        response: &Response,
        observation: Option<ObservationId>,
    ) {
        let open = &mut self.peers[peer].open;
        let Some(at) = open.iter().position(|o| o.exchange == Some(exchange)) else {
            return;
        };
        let open = open.remove(at);
        if open.acknowledged && self.peers[peer].silent.is_some_and(|until| until > now) {
            // RFC 7252 §4.7: nobody takes it.
            if let Some(id) = observation {
                self.observed(peer, &open, id);
            }
            return;
        }
        let mut say = if open.acknowledged {
            Say {
                then: Then::Fly(Owner::Response),
                ..Say::plain(Type::Confirmable, response.code, open.token)
            }
        } else {
            Model::reply(open.confirmable, open.id, open.token, response.code)
        };
        say.block1 = open.block1;
        say.observe = observation.is_some();
        if let Some(id) = observation {
            self.observed(peer, &open, id);
        }
        self.cut_reply(now, peer, &open, response, &mut say);
        self.must_say(peer, say);
    }

    /// RFC 7959 §2.4: a body that does not fit goes out in blocks, of which the others are kept.
    fn cut_reply(
        &mut self,
        now: Instant,
        peer: usize,
        open: &Open,
        response: &Response,
        say: &mut Say,
    ) {
        let body = &response.payload;
        let preferred = Block::new(0, false, Block::szx_for(self.config.block_size));
        let success = response.code.is_success();
        let whole = open
            .block2
            .is_none_or(|want| want.num == 0 && body.len() <= want.size());
        if body.len() <= preferred.size() && (whole || !success) {
            let szx = open.block2.filter(|_| success).map(|want| want.szx);
            say.block2 = szx.map(|szx| Block::new(0, false, szx.min(preferred.szx)));
            say.payload = Some(body.clone());
            return;
        }
        let Some((block, part)) = cut(&self.config, body, open.block2.unwrap_or(preferred)) else {
            say.code = Code::BAD_REQUEST;
            (say.block1, say.observe) = (None, false);
            return;
        };
        say.block2 = Some(block);
        say.payload = Some(part);
        let downloads = &mut self.peers[peer].downloads;
        downloads.retain(|download| download.key != open.key);
        if block.more {
            downloads.push(Download {
                key: open.key.clone(),
                code: response.code,
                body: body.clone(),
                touched: now,
            });
        }
    }

    fn observer(&mut self, peer: usize, token: Token) -> Option<&mut Observer> {
        let mut observers = self.peers[peer].observers.iter_mut();
        observers.find(|observer| observer.token == token)
    }

    /// A registration is answered; one that repeats an earlier one keeps its place (RFC 7641 §4.1).
    fn observed(&mut self, peer: usize, open: &Open, id: ObservationId) {
        if let Some(observer) = self.observer(peer, open.token) {
            if observer.key == open.key {
                return;
            }
            let old = observer.id;
            for flight in &mut self.peers[peer].flights {
                if flight.owner == Owner::Notification(old) {
                    flight.owner = Owner::Orphan;
                }
            }
            self.observer_gone(peer, old);
        }
        self.peers[peer].observers.push(Observer {
            id,
            token: open.token,
            key: open.key.clone(),
            seq: 0,
            unsent: None,
            non_since_con: 0,
            non_ids: Vec::new(),
        });
    }

    /// The response to a registration has a sequence number, too.
    pub(super) fn registered(&mut self, peer: usize, message: &Message) -> Verdict {
        let seq = message.options.observe().unwrap_or(0);
        match self.observer(peer, message.token) {
            Some(observer) if seq > observer.seq => {
                observer.seq = seq;
                Ok(())
            }
            observer => Err(format!("sequence number {seq} for {observer:?}")),
        }
    }

    pub(super) fn observer_gone(&mut self, peer: usize, id: ObservationId) {
        if self.end_observation(peer, id) {
            self.events.push(MustEvent::ObserverGone(id));
        }
    }

    /// The application ends an observation itself; its notification is repeated no more.
    pub(in super::super) fn end_observation(&mut self, peer: usize, id: ObservationId) -> bool {
        let state = &mut self.peers[peer];
        let before = state.observers.len();
        state.observers.retain(|observer| observer.id != id);
        state
            .flights
            .retain(|flight| flight.owner != Owner::Notification(id));
        state.observers.len() < before
    }

    /// RST to a Non-confirmable notification ends the observation, too (RFC 7641 §3.6); or it names a request of ours.
    pub(super) fn non_rejected(&mut self, peer: usize, id: u16) {
        let mut observers = self.peers[peer].observers.iter();
        match observers.find(|o| o.non_ids.contains(&id)).map(|o| o.id) {
            Some(observation) => self.observer_gone(peer, observation),
            None => self.non_request_rejected(peer, id),
        }
    }

    /// The application has a new state for an observer; an error code is the last (RFC 7641 §4.2).
    pub(in super::super) fn notify(&mut self, peer: usize, id: ObservationId, response: &Response) {
        let observers = &mut self.peers[peer].observers;
        let Some(observer) = observers.iter_mut().find(|o| o.id == id) else {
            return;
        };
        if response.code.is_success() {
            observer.unsent = Some(response.payload.clone());
            return;
        }
        let say = Say {
            payload: Some(response.payload.clone()),
            then: Then::Fly(Owner::Response),
            ..Say::plain(Type::Confirmable, response.code, observer.token)
        };
        self.end_observation(peer, id);
        self.must_say(peer, say);
    }

    /// A notification is sent: of an observer, with its newest state, later than the one before (RFC 7641 §4.4, §4.5).
    pub(super) fn notification_sent(
        &mut self,
        now: Instant,
        peer: usize,
        message: &Message,
        bytes: &[u8],
    ) -> Verdict {
        let every = self.config.notify_con_every;
        let silent = self.peers[peer].silent;
        let mut flights = self.peers[peer].flights.iter().map(|flight| flight.owner);
        let going_on = self.peers[peer]
            .observers
            .iter()
            .find(|o| o.token == message.token)
            .is_some_and(|o| flights.any(|owner| owner == Owner::Notification(o.id)));
        let held = |until| until > now || message.kind == Type::NonConfirmable;
        if !going_on && silent.is_some_and(held) {
            return Err("an unasked message to a peer that fell silent".to_owned());
        }
        if message.kind == Type::NonConfirmable {
            let last = self.peers[peer].last_non.replace(now);
            if last.is_some_and(|last| now - last < self.config.notify_pace) {
                return Err(format!("{message:?} too soon after the last"));
            }
        }
        let Some(observer) = self.observer(peer, message.token) else {
            return Err(format!("{message:?} for nobody"));
        };
        let id = observer.id;
        if observer.unsent.take().as_ref() != Some(&message.payload) {
            return Err(format!(
                "{message:?} is not the newest state, or it is sent again"
            ));
        }
        let seq = message.options.observe().unwrap_or(0);
        if seq <= observer.seq {
            return Err(format!("sequence number {seq} after {}", observer.seq));
        }
        observer.seq = seq;
        if message.kind == Type::NonConfirmable {
            observer.non_since_con += 1;
            observer.non_ids.push(message.id);
            if observer.non_ids.len() > REMEMBERED {
                observer.non_ids.remove(0);
            }
            return if observer.non_since_con < every {
                Ok(())
            } else {
                Err("too many Non-confirmable notifications in a row".to_owned())
            };
        }
        observer.non_since_con = 0;
        let owner = Owner::Notification(id);
        let max = self.config.max_retransmit;
        let state = &mut self.peers[peer];
        let heard = state.heard;
        let Some(flight) = state.flights.iter_mut().find(|f| f.owner == owner) else {
            self.fly(now, peer, message, bytes, owner);
            return Ok(());
        };
        // RFC 7641 §4.5.2: a newer state in place of the one that was to be repeated, at its time.
        let old = flight.id;
        let waited = now - flight.last;
        let is_due = flight.wait.is_none_or(|wait| waited >= wait);
        flight.repeats += 1;
        if !is_due || waited < self.config.ack_timeout || flight.repeats > max {
            return Err("two notifications at one time".to_owned());
        }
        flight.wait = Some(flight.wait.unwrap_or(waited) * 2);
        flight.last = now;
        flight.heard = heard;
        flight.id = message.id;
        flight.bytes = bytes.to_vec();
        self.must
            .retain(|must| !matches!(must, Must::Repeat(to, id) if (*to, *id) == (peer, old)));
        Ok(())
    }

    /// Empty ACKs, and the end of what takes too long.
    pub(super) fn exchanges_due(&mut self, now: Instant, peer: usize) {
        let separate = self.config.separate_after;
        let longest = separate + self.config.exchange_timeout;
        let rest = self.config.block_timeout;
        let state = &mut self.peers[peer];
        let mut acknowledged = Vec::new();
        for open in &mut state.open {
            if open.confirmable && !open.acknowledged && open.at + separate <= now {
                open.acknowledged = true;
                acknowledged.push((open.id, open.token));
            }
        }
        state.open.retain(|open| open.at + longest > now);
        state.uploads.retain(|upload| upload.touched + rest > now);
        state
            .downloads
            .retain(|download| download.touched + rest > now);
        for (id, token) in acknowledged {
            let say = Say {
                id: Some(id),
                then: Then::Answer(id, token),
                ..Say::plain(Type::Acknowledgement, Code::EMPTY, Token::default())
            };
            self.must_say(peer, say);
        }
    }
}

/// The block of a body that is wanted, no larger than preferred; `None` when it is beyond the end.
fn cut(config: &homefleet_coap::Config, body: &[u8], want: Block) -> Option<(Block, Vec<u8>)> {
    if want.num > 0 && want.offset() >= body.len() {
        return None;
    }
    let szx = want.szx.min(Block::szx_for(config.block_size));
    let size = Block::new(0, false, szx).size();
    let num = want.offset() / size;
    let end = ((num + 1) * size).min(body.len());
    let block = Block::new(u32::try_from(num).ok()?, end < body.len(), szx);
    Some((block, body[num * size..end].to_vec()))
}
