//! Response bodies in blocks, as server (RFC 7959 §2.4), and the encoding of every response.

use std::time::Instant;

use super::Endpoint;
use super::peers::PeerKey;
use super::server::Context;
use super::transfers::Kind;
use crate::block::Block;
use crate::code::Code;
use crate::message::{Message, Token, Type, encode, encoded_len};
use crate::number;
use crate::options::Options;
use crate::request::Response;

/// What a response repeats of its request, and how it may be cut.
#[derive(Clone, Copy)]
pub(super) struct Reply {
    pub(super) token: Token,
    /// Under which key later blocks will be asked for; `None` for answers that are never cut.
    pub(super) key: Option<u64>,
    pub(super) block1: Option<Block>,
    pub(super) block2: Option<Block>,
    pub(super) payload_hash: u64,
    pub(super) observe: Option<u32>,
    /// Bytes that the message may have; a body is cut accordingly.
    pub(super) room: usize,
}

impl Reply {
    /// For an answer that is never cut.
    pub(super) const fn whole(token: Token) -> Reply {
        Reply {
            token,
            key: None,
            block1: None,
            block2: None,
            payload_hash: 0,
            observe: None,
            room: usize::MAX,
        }
    }
}

impl Endpoint {
    /// Takes a request's Block2 into account.
    ///
    /// `None` when the request is answered already, from a body that is being transferred. Otherwise what the
    /// application's response will be cut by, and the hash of the request's payload.
    pub(super) fn take_download(
        &mut self,
        now: Instant,
        context: &Context,
        block1: Option<Block>,
        message: &mut Message,
    ) -> Option<(Option<Block>, u64)> {
        // A FETCH is what its payload says (RFC 8132 §2); after an upload nothing repeats the payload.
        let payload_hash = if message.code == Code::FETCH && block1.is_none() {
            self.bytes_hash(&message.payload)
        } else {
            self.bytes_hash(&[])
        };
        let Some(block2) = message.options.block2() else {
            return Some((None, payload_hash));
        };
        if block2.is_reserved() {
            self.stats.bad_blocks += 1;
            let text = Response::new(Code::BAD_REQUEST).diagnostic("block size exponent 7");
            self.answer(now, context, text);
            return None;
        }
        message.options.remove(number::BLOCK2);
        if block2.num == 0 {
            return Some((Some(block2), payload_hash));
        }
        match self.find_download(context.peer, context.key, payload_hash) {
            Some(id) => {
                self.next_block(now, context, block2, id);
                None
            }
            // RFC 7959 §2.4: a safe request is simply asked of the application again.
            None if message.code.is_safe() => Some((Some(block2), payload_hash)),
            None => {
                self.stats.blocks_incomplete += 1;
                let response = Response::new(Code::REQUEST_ENTITY_INCOMPLETE)
                    .diagnostic("the response is no longer there");
                self.answer(now, context, response);
                None
            }
        }
    }

    /// Sends a further block of a body.
    fn next_block(&mut self, now: Instant, context: &Context, want: Block, id: u64) {
        let Some(transfer) = self.transfers.get(id) else {
            return;
        };
        let Kind::Download { code, options, .. } = &transfer.kind else {
            return;
        };
        let (code, mut options) = (*code, options.clone());
        if want.offset() >= transfer.body.len() {
            self.refuse_beyond(now, context, want);
            return;
        }
        let room = self.room(context.peer).unwrap_or(usize::MAX);
        let block = self.cut(&context.token, &options, want, transfer.body.len(), room);
        options.set_block2(block);
        let end = (block.offset() + block.size()).min(transfer.body.len());
        let part = transfer
            .body
            .get(block.offset()..end)
            .unwrap_or_default()
            .to_vec();
        if block.more {
            self.touch_transfer(now, id);
        } else {
            self.end_transfer(id);
        }
        self.stats.blocks_out += 1;
        let response = Response {
            code,
            options,
            payload: part,
        };
        self.answer(now, context, response);
    }

    fn refuse_beyond(&mut self, now: Instant, context: &Context, want: Block) {
        self.stats.bad_blocks += 1;
        let text = format!("block {want} is beyond the end");
        self.answer(
            now,
            context,
            Response::new(Code::BAD_REQUEST).diagnostic(&text),
        );
    }

    /// The block to send at the wanted position: no larger than wanted, preferred, or fitting.
    fn cut(&self, token: &Token, options: &Options, want: Block, len: usize, room: usize) -> Block {
        let overhead = encoded_len(token, options, 0) + 6;
        let room = self.config.max_message.min(room).saturating_sub(overhead);
        let szx = want
            .szx
            .min(Block::szx_for(self.config.block_size))
            .min(Block::szx_for(room));
        let size = 16usize << szx;
        let num = want.offset() / size;
        Block::new(num as u32, (num + 1) * size < len, szx)
    }

    /// Encodes a response; a body that does not fit in one block is kept for the following ones.
    pub(super) fn encode_reply(
        &mut self,
        now: Instant,
        peer: PeerKey,
        kind: Type,
        id: u16,
        reply: &Reply,
        response: Response,
    ) -> Vec<u8> {
        let Response {
            code,
            mut options,
            payload,
        } = response;
        if let Some(block1) = reply.block1 {
            options.set_block1(block1);
        }
        if let Some(observe) = reply.observe {
            options.set_observe(observe);
        }
        let len = payload.len();
        let preferred = Block::new(0, false, Block::szx_for(self.config.block_size));
        let overhead = encoded_len(&reply.token, &options, len);
        let fits = len <= preferred.size()
            && overhead <= self.config.max_message.max(64)
            && (overhead <= reply.room || len == 0);
        let want = reply.block2.unwrap_or(preferred);
        let Some(key) = reply.key else {
            return encode(kind, code, id, &reply.token, &options, &payload);
        };
        let whole = |want: Block| want.num == 0 && len <= want.size();
        if fits && (!code.is_success() || reply.block2.is_none_or(whole)) {
            if let Some(want) = reply.block2.filter(|_| code.is_success()) {
                options.set_block2(Block::new(0, false, want.szx.min(preferred.szx)));
            }
            return encode(kind, code, id, &reply.token, &options, &payload);
        }
        if want.num > 0 && want.offset() >= len {
            self.stats.bad_blocks += 1;
            let options = Options::new();
            let code = Code::BAD_REQUEST;
            return encode(kind, code, id, &reply.token, &options, b"beyond the end");
        }
        // RFC 7959 §2.4: the client compares ETags, so that it never mixes two states.
        if !options.contains(number::ETAG) && code.is_success() {
            let etag = self.bytes_hash(&payload).to_be_bytes();
            options.set_etag(&etag);
        }
        // Size2 takes up to six bytes more.
        let room = reply.room.saturating_sub(6);
        let block = self.cut(&reply.token, &options, want, len, room);
        let kept = options.clone();
        options.set_block2(block);
        if block.num == 0 {
            options.set_size2(u32::try_from(len).unwrap_or(u32::MAX));
        }
        let end = (block.offset() + block.size()).min(len);
        let part = payload.get(block.offset()..end).unwrap_or_default();
        let bytes = encode(kind, code, id, &reply.token, &options, part);
        self.stats.blocks_out += 1;
        if let Some(old) = self.find_download(peer, key, reply.payload_hash) {
            self.end_transfer(old);
        }
        if block.more && len <= self.config.max_block_bytes {
            let mut options = kept;
            options.remove(number::BLOCK1);
            options.remove(number::OBSERVE);
            let kind = Kind::Download {
                code,
                options,
                payload_hash: reply.payload_hash,
            };
            self.put_transfer(now, peer, key, kind, payload);
        }
        bytes
    }
}
