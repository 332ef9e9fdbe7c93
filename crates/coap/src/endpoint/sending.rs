//! The messages of our own requests: whole bodies, blocks of them, and requests for blocks
//! (RFC 7959 §2.3 and §2.4 as client).

use std::time::{Duration, Instant};

use super::Endpoint;
use super::client::{OnWire, Step};
use super::peers::Work;
use super::reliable::{Owner, Sent};
use super::timers::{Timer, after};
use crate::block::{Block, MAX_NUM};
use crate::code::Code;
use crate::error::{BlockError, RequestError};
use crate::message::{Type, encode, encoded_len};
use crate::no_response::NoResponse;
use crate::number;
use crate::request::Response;

/// Where an upload stands.
pub(super) struct Upload {
    /// First byte of the block on its way.
    offset: usize,
    /// Bytes in it.
    len: usize,
    szx: u8,
    /// Tells uploads apart (RFC 9175 §3.4).
    tag: Option<u32>,
}

impl Endpoint {
    /// Sends the next message of a request now, or as soon as NSTART allows, before any new request.
    pub(super) fn send_next(&mut self, now: Instant, id: u64) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let peer = request.peer;
        if request.has_slot {
            self.send_step(now, id);
        } else if self.take_slot(peer) {
            if let Some(request) = self.requests.get_mut(id) {
                request.has_slot = true;
            }
            self.send_step(now, id);
        } else if let Some(state) = self.peers.get_mut(peer) {
            state.queue.push_front(Work::Request(id));
        }
    }

    /// Sends the message the request is at.
    pub(super) fn send_step(&mut self, now: Instant, id: u64) {
        let Some(peer) = self.requests.get(id).map(|request| request.peer) else {
            return;
        };
        let message_id = self.message_id(now, peer);
        let bytes = match self.encode_step(id, message_id) {
            Some(Ok(bytes)) => bytes,
            Some(Err(error)) => return self.fail(now, id, error),
            None => return,
        };
        let probing = self.probing_time(bytes.len());
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        if request.request.confirmable {
            let key = self.send_confirmable(now, peer, message_id, bytes, Owner::Request(id));
            if let Some(request) = self.requests.get_mut(id) {
                request.wire = Some(OnWire::Confirmable(key));
            }
            return;
        }
        request.wire = Some(OnWire::Non(message_id));
        let timeout = self.config.response_timeout;
        let timer = self.timers.set(after(now, timeout), Timer::Response(id));
        request.timer = Some(timer);
        let slot = Timer::Slot(peer, id);
        request.slot_timer = Some(self.timers.set(after(now, probing), slot));
        let body = request.request.payload.len();
        let last = request.fetch.is_none()
            && (request.upload.as_ref()).is_none_or(|upload| upload.offset + upload.len >= body);
        let unwanted = request.request.options.no_response();
        let forgotten = last && unwanted.is_some_and(NoResponse::is_all);
        self.sent.insert((peer, message_id), Sent::NonRequest(id));
        self.transmit_to(peer, bytes);
        if forgotten {
            self.fail(now, id, RequestError::Unanswered);
        }
    }

    /// How long so many bytes take at PROBING_RATE (RFC 7252 §4.7).
    pub(super) fn probing_time(&self, bytes: usize) -> Duration {
        let rate = f64::from(self.config.probing_rate.max(1));
        Duration::from_secs_f64(bytes as f64 / rate)
    }

    fn encode_step(&mut self, id: u64, message_id: u16) -> Option<Result<Vec<u8>, RequestError>> {
        let block_szx = Block::szx_for(self.config.block_size);
        let max_message = self.config.max_message;
        let state = self.requests.get_mut(id)?;
        let kind = if state.request.confirmable {
            Type::Confirmable
        } else {
            Type::NonConfirmable
        };
        let code = state.request.code;
        let body = &state.request.payload;
        let mut options = state.request.options.clone();
        if state.echo.is_none() {
            state.echo = self.peers.get_mut(state.peer).and_then(|p| p.echo.take());
        }
        if let Some(echo) = &state.echo {
            options.set(number::ECHO, echo);
        }
        if let Some(fetch) = &state.fetch {
            if let Some(tag) = state.upload.as_ref().and_then(|upload| upload.tag) {
                options.set_uint(number::REQUEST_TAG, tag);
            }
            options.remove(number::OBSERVE);
            options.set_block2(fetch.wanted());
            let token = fetch.token.unwrap_or(state.token);
            // RFC 8132 §2: a FETCH is what its payload says; after an upload nothing is repeated.
            let payload = if code == Code::FETCH && state.upload.is_none() {
                body.as_slice()
            } else {
                &[]
            };
            return Some(Ok(encode(
                kind, code, message_id, &token, &options, payload,
            )));
        }
        let small = code.is_safe() && block_szx < 6 && !options.contains(number::BLOCK2);
        if small {
            // Early negotiation (RFC 7959 §2.4).
            options.set_block2(Block::new(0, false, block_szx));
        }
        let room = max_message.saturating_sub(encoded_len(&state.token, &options, 0) + 24);
        let szx = block_szx.min(Block::szx_for(room));
        if state.upload.is_none() && body.len() > Block::new(0, false, szx).size() {
            let tag =
                (self.peers.get_mut(state.peer)).and_then(|peer| peer.tag(&mut self.next_tag));
            state.upload = Some(Upload {
                offset: 0,
                len: 0,
                szx,
                tag,
            });
        }
        let Some(upload) = &mut state.upload else {
            let bytes = encode(kind, code, message_id, &state.token, &options, body);
            return Some(Ok(bytes));
        };
        let size = Block::new(0, false, upload.szx).size();
        let num = upload.offset / size;
        let Some(num) = u32::try_from(num).ok().filter(|num| *num <= MAX_NUM) else {
            return Some(Err(RequestError::Block(BlockError::TooManyBlocks)));
        };
        let end = (upload.offset + size).min(body.len());
        let payload = body.get(upload.offset..end).unwrap_or_default();
        upload.len = payload.len();
        options.set_block1(Block::new(num, end < body.len(), upload.szx));
        if num == 0 {
            options.set_size1(u32::try_from(body.len()).unwrap_or(u32::MAX));
        }
        if let Some(tag) = upload.tag {
            options.set_uint(number::REQUEST_TAG, tag);
        }
        let bytes = encode(kind, code, message_id, &state.token, &options, payload);
        Some(Ok(bytes))
    }

    /// RFC 7959 §2.3 as client; a response that does not concern the upload is handed back.
    pub(super) fn upload_answered(
        &mut self,
        id: u64,
        response: Response,
    ) -> Result<Step, Response> {
        let Some(state) = self.requests.get_mut(id) else {
            return Err(response);
        };
        let block1 = response.options.block1().filter(|b| !b.is_reserved());
        let body = state.request.payload.len();
        let Some(upload) = &mut state.upload else {
            // 4.13 with Block1: the server wants the body in blocks (RFC 7959 §2.9.3).
            return match block1 {
                Some(block)
                    if response.code == Code::REQUEST_ENTITY_TOO_LARGE && body > block.size() =>
                {
                    let peer = self.peers.get_mut(state.peer);
                    let tag = peer.and_then(|peer| peer.tag(&mut self.next_tag));
                    state.upload = Some(Upload {
                        offset: 0,
                        len: 0,
                        szx: block.szx,
                        tag,
                    });
                    Ok(Step::Again)
                }
                _ => Err(response),
            };
        };
        if state.fetch.is_some() {
            return Err(response);
        }
        let next = upload.offset + upload.len;
        let more = next < body;
        match block1 {
            Some(block)
                if response.code == Code::REQUEST_ENTITY_TOO_LARGE
                    && upload.offset == 0
                    && block.szx < upload.szx =>
            {
                upload.szx = block.szx;
                Ok(Step::Again)
            }
            // 2.31, or a final code for one block of a body that is not taken as a whole.
            Some(block) if response.code.is_success() && more => {
                let expected = upload.offset;
                let found = block.num as usize * Block::new(0, false, upload.szx).size();
                if found != expected {
                    let error = BlockError::Unexpected { expected, found };
                    return Ok(Step::Fail(RequestError::Block(error)));
                }
                upload.offset = next;
                upload.szx = upload.szx.min(block.szx);
                Ok(Step::Again)
            }
            None if response.code == Code::CONTINUE => {
                let error = BlockError::Unexpected {
                    expected: upload.offset,
                    found: 0,
                };
                Ok(Step::Fail(RequestError::Block(error)))
            }
            _ => Err(response),
        }
    }
}
