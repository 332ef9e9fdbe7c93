//! The reference as client: matching, block-wise transfer, observing.

use std::time::{Duration, Instant};

use homefleet_coap::{Block, Code, Message, Request, RequestError, RequestId, Token, Type, number};

use super::{Failure, Model, Must, MustEvent, Owner, Verdict};

/// Where a request's message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waits for NSTART.
    Waiting,
    /// A Confirmable message without acknowledgement.
    Sent(u16),
    /// Acknowledged: the response comes separately.
    Acknowledged(Instant),
    /// A Non-confirmable message without response.
    Non(u16, Instant),
    /// Registered, and nothing on its way.
    Watching,
}

/// One request of ours.
#[derive(Debug)]
pub(in super::super) struct Asked {
    pub(in super::super) id: RequestId,
    request: Request,
    token: Option<Token>,
    stage: Stage,
    upload: Option<Upload>,
    fetch: Option<Fetch>,
    pub(in super::super) watch: Option<Watch>,
}

#[derive(Clone, Copy, Debug)]
struct Upload {
    offset: usize,
    len: usize,
    szx: u8,
}

#[derive(Clone, Debug)]
struct Fetch {
    code: Code,
    etag: Option<Vec<u8>>,
    body: Vec<u8>,
    szx: u8,
    restarts: u8,
}

/// A registration (RFC 7641 §3).
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Watch {
    seq: u32,
    at: Instant,
    max_age: Duration,
}

impl Watch {
    fn new(now: Instant, response: &Message, seq: u32) -> Watch {
        let age = response.options.max_age().unwrap_or(60);
        Watch {
            seq,
            at: now,
            max_age: Duration::from_secs(u64::from(age)),
        }
    }

    /// RFC 7641 §3.4.
    fn is_older_than(&self, now: Instant, seq: u32) -> bool {
        let old = self.seq;
        (old < seq && seq - old < 1 << 23)
            || (old > seq && old - seq > 1 << 23)
            || now - self.at > Duration::from_secs(128)
    }

    fn may_register(&self, now: Instant) -> bool {
        now - self.at >= self.max_age + Duration::from_secs(5)
    }
}

/// What a response leads to.
enum Next {
    Again,
    Deliver(Code, Vec<u8>),
    Fail(Failure),
    Ignore,
}

impl Asked {
    /// Whether it would have to be sent when nothing keeps it.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        match (self.stage, self.watch) {
            (Stage::Waiting, _) => true,
            (Stage::Watching, Some(watch)) => {
                now - watch.at > watch.max_age + Duration::from_secs(15)
            }
            _ => false,
        }
    }

    pub(in super::super) fn is_watching(&self) -> bool {
        self.watch.is_some()
    }

    /// The message that is next: payload, Block1, Block2, Observe.
    fn next(&self, block_size: usize) -> (Vec<u8>, Option<Block>, Option<Block>, Option<u32>) {
        let preferred = Block::szx_for(block_size);
        if let Some(fetch) = &self.fetch {
            let size = Block::new(0, false, fetch.szx).size();
            let num = u32::try_from(fetch.body.len() / size).unwrap();
            return (
                Vec::new(),
                None,
                Some(Block::new(num, false, fetch.szx)),
                None,
            );
        }
        let observe = self.request.options.observe();
        let early = self.request.code.is_safe() && preferred < 6;
        let block2 = early.then_some(Block::new(0, false, preferred));
        let body = &self.request.payload;
        let upload = self.upload.or_else(|| {
            let szx = preferred;
            (body.len() > block_size).then_some(Upload {
                offset: 0,
                len: 0,
                szx,
            })
        });
        let Some(upload) = upload else {
            return (body.clone(), None, block2, observe);
        };
        let size = Block::new(0, false, upload.szx).size();
        let end = (upload.offset + size).min(body.len());
        let num = u32::try_from(upload.offset / size).unwrap();
        (
            body[upload.offset..end].to_vec(),
            Some(Block::new(num, end < body.len(), upload.szx)),
            block2,
            observe,
        )
    }

    /// RFC 7959 §2.3: what an upload that is under way makes of a response; `None` when it is the response to the whole.
    fn upload_answered(&mut self, response: &Message) -> Option<Next> {
        let upload = self.upload.as_mut()?;
        if self.fetch.is_some() {
            return None;
        }
        let next = upload.offset + upload.len;
        match response.options.block1().filter(|block| block.szx < 7) {
            Some(block) if response.code.is_success() && next < self.request.payload.len() => {
                let size = Block::new(0, false, upload.szx).size();
                if block.num as usize * size != upload.offset {
                    return Some(Next::Fail(Failure::Block));
                }
                upload.offset = next;
                upload.szx = upload.szx.min(block.szx);
                Some(Next::Again)
            }
            None if response.code == Code::CONTINUE => Some(Next::Fail(Failure::Block)),
            _ => None,
        }
    }

    /// RFC 7959 §2.4: blocks follow each other without gap, and are of one ETag.
    fn fetch_answered(&mut self, response: &Message, config: &homefleet_coap::Config) -> Next {
        let deliver = Next::Deliver(response.code, response.payload.clone());
        let Some(block) = response.options.block2() else {
            return deliver;
        };
        let etag = response.options.etag().map(<[u8]>::to_vec);
        let mut fetch = self.fetch.clone().unwrap_or(Fetch {
            code: response.code,
            etag: etag.clone(),
            body: Vec::new(),
            szx: block.szx.min(Block::szx_for(config.block_size)),
            restarts: 0,
        });
        if self.fetch.is_some() {
            if !response.code.is_success() {
                return deliver;
            }
            if etag != fetch.etag && !fetch.body.is_empty() {
                if !self.request.code.is_safe() || fetch.restarts >= 2 {
                    return Next::Fail(Failure::Block);
                }
                fetch.restarts += 1;
                fetch.body.clear();
                self.fetch = Some(fetch);
                return Next::Again;
            }
        }
        let (len, size) = (response.payload.len(), block.size());
        let wrong = block.szx == 7
            || block.offset() != fetch.body.len()
            || len > size
            || (block.more && len != size);
        if wrong {
            return Next::Fail(Failure::Block);
        }
        if fetch.body.is_empty() {
            (fetch.code, fetch.etag) = (response.code, etag);
        }
        fetch.body.extend_from_slice(&response.payload);
        fetch.szx = fetch.szx.min(block.szx);
        if !block.more {
            return Next::Deliver(fetch.code, fetch.body);
        }
        if fetch.body.len() > config.max_body {
            let limit = config.max_body;
            return Next::Fail(Failure::Is(RequestError::TooLarge { limit }));
        }
        self.fetch = Some(fetch);
        Next::Again
    }

    /// A block that is here already, come again by another way.
    fn is_late(&self, response: &Message) -> bool {
        let (Some(fetch), Some(block)) = (&self.fetch, response.options.block2()) else {
            return false;
        };
        block.szx < 7
            && block.offset() < fetch.body.len()
            && response.code == fetch.code
            && response.options.etag().map(<[u8]>::to_vec) == fetch.etag
    }
}

impl Model {
    /// The application asks.
    pub(in super::super) fn ask(&mut self, peer: usize, id: RequestId, request: Request) {
        self.peers[peer].asked.push(Asked {
            id,
            request,
            token: None,
            stage: Stage::Waiting,
            upload: None,
            fetch: None,
            watch: None,
        });
    }

    pub(in super::super) fn cancel(&mut self, peer: usize, id: RequestId) {
        self.fail(peer, id, Failure::Is(RequestError::Cancelled));
    }

    fn asked(&mut self, peer: usize, id: RequestId) -> Option<&mut Asked> {
        self.peers[peer]
            .asked
            .iter_mut()
            .find(|asked| asked.id == id)
    }

    fn settle(&mut self, peer: usize, id: RequestId) {
        let flights = &mut self.peers[peer].flights;
        flights.retain(|flight| flight.owner != Owner::Request(id));
    }

    /// The peer answered.
    fn is_heard(&mut self, peer: usize, id: RequestId) {
        self.settle(peer, id);
        let probing = &mut self.peers[peer].probing;
        probing.retain(|(request, _)| *request != id);
    }

    fn end(&mut self, peer: usize, id: RequestId) {
        self.settle(peer, id);
        self.peers[peer].asked.retain(|asked| asked.id != id);
    }

    pub(super) fn fail(&mut self, peer: usize, id: RequestId, failure: Failure) {
        if self.asked(peer, id).is_some() {
            self.end(peer, id);
            self.events.push(MustEvent::Failed(id, failure));
        }
    }

    pub(super) fn reset(&mut self, peer: usize, id: RequestId) {
        self.is_heard(peer, id);
        self.fail(peer, id, Failure::Is(RequestError::Reset));
    }

    /// RST to a Non-confirmable request.
    pub(super) fn non_request_rejected(&mut self, peer: usize, id: u16) {
        let mut asked = self.peers[peer].asked.iter();
        let named = asked.find(|asked| matches!(asked.stage, Stage::Non(other, _) if other == id));
        if let Some(request) = named.map(|asked| asked.id) {
            self.reset(peer, request);
        }
    }

    /// RFC 7252 §5.2.2: an Empty ACK; the response comes separately, or not.
    pub(super) fn request_acknowledged(&mut self, now: Instant, peer: usize, id: RequestId) {
        let until = now + self.config.response_timeout;
        if let Some(asked) = self.asked(peer, id) {
            asked.stage = Stage::Acknowledged(until);
        }
    }

    /// RFC 7252 §5.3.2: a response in an ACK has message ID and token of the request.
    pub(super) fn piggybacked(&mut self, now: Instant, peer: usize, message: &Message) {
        let state = &self.peers[peer];
        let flight = state.flights.iter().find(|flight| flight.id == message.id);
        let Some(Owner::Request(id)) = flight.map(|flight| flight.owner) else {
            return;
        };
        if state
            .asked
            .iter()
            .any(|asked| asked.id == id && asked.token == Some(message.token))
        {
            self.settle(peer, id);
            self.answered(now, peer, id, message, true);
        }
    }

    /// RFC 7252 §5.2.2, §5.2.3: a response in a message of its own; an unknown one is rejected.
    pub(super) fn separate(&mut self, now: Instant, peer: usize, message: &Message) {
        if self.is_duplicate(now, peer, message) {
            return;
        }
        let mut asked = self.peers[peer].asked.iter();
        let Some(id) = asked
            .find(|asked| asked.token == Some(message.token))
            .map(|asked| asked.id)
        else {
            return self.must_empty(peer, Type::Reset, message.id);
        };
        self.remember(now, peer, message);
        if message.kind == Type::Confirmable {
            let kind = if message.options.contains(super::super::CRITICAL) {
                Type::Reset
            } else {
                Type::Acknowledgement
            };
            let bytes = Message::empty(kind, message.id).encode();
            self.remember_answer(peer, message.id, message.token, &bytes);
            self.must.push(Must::Bytes(peer, bytes));
        }
        self.answered(now, peer, id, message, false);
    }

    fn answered(
        &mut self,
        now: Instant,
        peer: usize,
        id: RequestId,
        message: &Message,
        solicited: bool,
    ) {
        if message.options.contains(super::super::CRITICAL) {
            let option = super::super::CRITICAL;
            self.is_heard(peer, id);
            return self.fail(peer, id, Failure::Is(RequestError::BadResponse { option }));
        }
        let config = self.config.clone();
        let Some(asked) = self.asked(peer, id) else {
            return;
        };
        if asked.watch.is_some() {
            return self.notified(now, peer, id, message, solicited);
        }
        let next = if asked.is_late(message) && !solicited {
            Next::Ignore
        } else {
            match asked.upload_answered(message) {
                Some(next) => next,
                None => asked.fetch_answered(message, &config),
            }
        };
        let registers = asked.request.options.observe() == Some(0);
        match next {
            Next::Ignore => {}
            Next::Again => {
                asked.stage = Stage::Waiting;
                self.is_heard(peer, id);
            }
            Next::Fail(failure) => {
                self.is_heard(peer, id);
                self.fail(peer, id, failure);
            }
            Next::Deliver(code, body) => {
                let seq = message.options.observe();
                match seq.filter(|_| registers && code.is_success()) {
                    Some(seq) => {
                        asked.watch = Some(Watch::new(now, message, seq));
                        asked.stage = Stage::Watching;
                        asked.fetch = None;
                        self.is_heard(peer, id);
                    }
                    None => {
                        self.is_heard(peer, id);
                        self.end(peer, id);
                    }
                }
                self.events.push(MustEvent::Response(id, code, body));
            }
        }
    }

    /// RFC 7641 §3.2 to §3.4: what is older than the last is dropped, unless it answers a registration.
    fn notified(
        &mut self,
        now: Instant,
        peer: usize,
        id: RequestId,
        message: &Message,
        solicited: bool,
    ) {
        let Some(asked) = self.asked(peer, id) else {
            return;
        };
        let Some(watch) = asked.watch else { return };
        let told = MustEvent::Notification(id, message.code, message.payload.clone());
        let seq = message.options.observe();
        let Some(seq) = seq.filter(|_| message.code.is_success()) else {
            self.events.push(told);
            return self.fail(peer, id, Failure::Is(RequestError::ObservationEnded));
        };
        if !solicited && !watch.is_older_than(now, seq) {
            return;
        }
        asked.watch = Some(Watch::new(now, message, seq));
        asked.stage = Stage::Watching;
        self.is_heard(peer, id);
        self.events.push(told);
    }

    /// A request of ours is sent: one that waits, with what is next of it; or a registration again.
    pub(super) fn request_sent(
        &mut self,
        now: Instant,
        peer: usize,
        message: &Message,
        bytes: &[u8],
    ) -> Verdict {
        let size = self.config.block_size;
        let until = now + self.config.response_timeout;
        let state = &mut self.peers[peer];
        let known = |token: Option<Token>| token.is_some_and(|token| token == message.token);
        let token_in_use = state.asked.iter().any(|asked| known(asked.token));
        // A new request: the one that waits longest. Otherwise its token says which.
        let Some(asked) = state
            .asked
            .iter_mut()
            .find(|asked| known(asked.token) || (!token_in_use && asked.token.is_none()))
        else {
            return Err(format!("nobody asked for {message:?}"));
        };
        let may = match asked.stage {
            Stage::Waiting => true,
            Stage::Watching => asked.watch.is_some_and(|watch| watch.may_register(now)),
            _ => false,
        };
        if !may {
            return Err(format!("{message:?} is not to be sent now: {asked:?}"));
        }
        let (payload, block1, block2, observe) = asked.next(size);
        let options = &message.options;
        let fits = message.code == asked.request.code
            && (message.kind == Type::Confirmable) == asked.request.confirmable
            && options.path() == asked.request.options.path()
            && message.payload == payload
            && (options.block1(), options.block2(), options.observe()) == (block1, block2, observe)
            && message.token.bytes().len() == 8;
        if !fits {
            return Err(format!(
                "{message:?} instead of {payload:02x?} {block1:?} {block2:?} {observe:?}"
            ));
        }
        asked.token = Some(message.token);
        if let Some(block) = block1 {
            asked.upload = Some(Upload {
                offset: block.offset(),
                len: payload.len(),
                szx: block.szx,
            });
            // RFC 7959 §4: the first block says how much there is.
            let announced = options.uint(number::SIZE1).map(|size| size as usize);
            let expected = (block.num == 0).then_some(asked.request.payload.len());
            if announced != expected {
                return Err(format!("Size1 {announced:?} instead of {expected:?}"));
            }
        }
        if message.kind == Type::Confirmable {
            asked.stage = Stage::Sent(message.id);
            let owner = Owner::Request(asked.id);
            self.fly(now, peer, message, bytes, owner);
        } else {
            asked.stage = Stage::Non(message.id, until);
            let rate = self.config.probing_rate;
            let pace = Duration::from_secs(bytes.len() as u64) / rate;
            state.probing.push((asked.id, now + pace));
        }
        Ok(())
    }

    /// Responses that did not come.
    pub(super) fn requests_due(&mut self, now: Instant, peer: usize) {
        let late: Vec<RequestId> = self.peers[peer]
            .asked
            .iter()
            .filter(|asked| match asked.stage {
                Stage::Acknowledged(until) | Stage::Non(_, until) => until <= now,
                _ => false,
            })
            .map(|asked| asked.id)
            .collect();
        for id in late {
            self.fail(peer, id, Failure::Is(RequestError::Timeout));
        }
    }
}
