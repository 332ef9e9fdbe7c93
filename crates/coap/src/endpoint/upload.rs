//! Request bodies in blocks, as server (RFC 7959 §2.3, §2.5).

use std::time::Instant;

use super::Endpoint;
use super::download::Reply;
use super::server::Context;
use super::transfers::Kind;
use crate::block::Block;
use crate::code::Code;
use crate::message::Message;
use crate::number;
use crate::request::Response;

impl Endpoint {
    /// Takes a request's Block1 into account.
    ///
    /// `None` when the request is answered already: a block in the middle, or one that is refused. Otherwise
    /// the message has its whole body, and the block that completed it is returned for the response.
    pub(super) fn take_upload(
        &mut self,
        now: Instant,
        context: &Context,
        message: &mut Message,
    ) -> Option<Option<Block>> {
        let Some(block) = message.options.block1() else {
            if message.payload.len() > self.config.max_body {
                self.refuse_large(now, context);
                return None;
            }
            return Some(None);
        };
        self.stats.blocks_in += 1;
        let len = message.payload.len();
        if block.is_reserved() || len > block.size() || (block.more && len != block.size()) {
            self.stats.bad_blocks += 1;
            let text = if block.is_reserved() {
                "block size exponent 7".to_owned()
            } else {
                format!("block {block} with {len} bytes")
            };
            self.answer_block(
                now,
                context,
                None,
                Response::new(Code::BAD_REQUEST).diagnostic(&text),
            );
            return None;
        }
        let too_large = message
            .options
            .size1()
            .is_some_and(|size| size as usize > self.config.max_body);
        let upload = self.find_upload(context.peer, context.key);
        let received = match upload {
            // RFC 7959 §2.5: block 0 starts anew, whatever was there.
            Some(id) if block.num == 0 => {
                self.end_transfer(id);
                0
            }
            Some(id) => self.transfers.get(id).map_or(0, |t| t.body.len()),
            None => 0,
        };
        let upload = upload.filter(|_| block.num != 0);
        if block.offset() != received {
            return self.out_of_place(now, context, block, upload, &message.payload);
        }
        if too_large || received + len > self.config.max_body {
            if let Some(id) = upload {
                self.end_transfer(id);
            }
            self.refuse_large(now, context);
            return None;
        }
        if !block.more {
            if let Some(transfer) = upload.and_then(|id| self.end_transfer(id)) {
                let last = std::mem::replace(&mut message.payload, transfer.body);
                message.payload.extend_from_slice(&last);
            }
            message.options.remove(number::BLOCK1);
            return Some(Some(block));
        }
        match upload {
            None => {
                let body = std::mem::take(&mut message.payload);
                self.put_transfer(now, context.peer, context.key, Kind::Upload, body);
            }
            Some(id) => {
                if !self.grow_transfer(now, id, &message.payload) {
                    self.end_transfer(id);
                    self.refuse_large(now, context);
                    return None;
                }
            }
        }
        self.continue_upload(now, context, block);
        None
    }

    /// 2.31, in the block size this endpoint prefers (late negotiation, RFC 7959 §2.3).
    fn continue_upload(&mut self, now: Instant, context: &Context, block: Block) {
        let szx = block.szx.min(Block::szx_for(self.config.block_size));
        let answer = Block::new(block.num, true, szx);
        self.answer_block(now, context, Some(answer), Response::new(Code::CONTINUE));
    }

    /// A block that does not follow what was received: the previous one again, or 4.08 (RFC 7959 §2.9.2).
    fn out_of_place(
        &mut self,
        now: Instant,
        context: &Context,
        block: Block,
        upload: Option<u64>,
        payload: &[u8],
    ) -> Option<Option<Block>> {
        if let Some((id, transfer)) = upload.and_then(|id| Some((id, self.transfers.get(id)?))) {
            let end = block.offset() + payload.len();
            if block.more
                && end == transfer.body.len()
                && transfer.body.get(block.offset()..) == Some(payload)
            {
                self.continue_upload(now, context, block);
                return None;
            }
            if block.offset() > transfer.body.len() {
                self.end_transfer(id);
            }
        }
        self.stats.blocks_incomplete += 1;
        let text = format!("block {block} does not follow what was received");
        self.answer_block(
            now,
            context,
            None,
            Response::new(Code::REQUEST_ENTITY_INCOMPLETE).diagnostic(&text),
        );
        None
    }

    /// 4.13 with the largest body that would be taken as Size1 (RFC 7959 §2.9.3).
    fn refuse_large(&mut self, now: Instant, context: &Context) {
        self.stats.bodies_too_large += 1;
        let mut response = Response::new(Code::REQUEST_ENTITY_TOO_LARGE);
        let limit = u32::try_from(self.config.max_body).unwrap_or(u32::MAX);
        response.options.set_size1(limit);
        self.answer_block(now, context, None, response);
    }

    fn answer_block(
        &mut self,
        now: Instant,
        context: &Context,
        block1: Option<Block>,
        response: Response,
    ) {
        let reply = Reply {
            block1,
            ..Reply::whole(context.token)
        };
        self.send_answer(now, context, &reply, response);
    }
}
