//! Response bodies in blocks, as client (RFC 7959 §2.4).

use super::Endpoint;
use super::client::{Step, without_blocks};
use crate::block::{Block, MAX_NUM};
use crate::code::Code;
use crate::error::{BlockError, RequestError};
use crate::message::Token;
use crate::options::Options;
use crate::request::Response;

/// How often a body is read anew because it changed meanwhile.
const RESTARTS: u8 = 2;

/// A response body on its way.
pub(super) struct Fetch {
    code: Code,
    options: Options,
    body: Vec<u8>,
    szx: u8,
    restarts: u8,
    /// A token of its own, when the request's token belongs to an observation (RFC 7959 §3.4).
    pub(super) token: Option<Token>,
    /// The body is that of a notification.
    pub(super) observed: bool,
}

impl Fetch {
    /// The block to ask for.
    pub(super) fn wanted(&self) -> Block {
        let size = Block::new(0, false, self.szx).size();
        let num = u32::try_from(self.body.len() / size).unwrap_or(MAX_NUM);
        Block::new(num, false, self.szx)
    }

    /// Whether a response brings a block that was taken already.
    pub(super) fn is_late(&self, response: &Response) -> bool {
        response
            .options
            .block2()
            .is_some_and(|block| !block.is_reserved() && block.offset() < self.body.len())
            && response.code == self.code
            && response.options.etag() == self.options.etag()
    }
}

fn wrong(error: BlockError) -> Step {
    Step::Fail(RequestError::Block(error))
}

/// Checks a block that is to be appended at `expected` (RFC 7959 §2.2, §2.4).
fn check(block: Block, len: usize, expected: usize) -> Result<(), BlockError> {
    let size = block.size();
    if block.is_reserved() {
        return Err(BlockError::ReservedSize);
    }
    if block.offset() != expected {
        let found = block.offset();
        return Err(BlockError::Unexpected { expected, found });
    }
    if (block.more && len != size) || len > size {
        return Err(BlockError::Short { len, size });
    }
    Ok(())
}

impl Endpoint {
    /// Takes a response's Block2 into account: delivers, or goes on to the next block.
    pub(super) fn fetch_answered(&mut self, id: u64, response: Response) -> Step {
        let Some(request) = self.requests.get_mut(id) else {
            return Step::Deliver(response);
        };
        let Some(block) = response.options.block2() else {
            return Step::Deliver(response);
        };
        if request.fetch.is_none() {
            // An application that asks for a block in the middle gets just that block.
            let own = request.request.options.block2();
            if own.is_some_and(|own| own.num > 0) {
                return Step::Deliver(response);
            }
            return self.start_fetch(id, block, response, None);
        }
        self.continue_fetch(id, block, response)
    }

    /// The first block: delivers a body that ends with it, or starts reading the rest.
    pub(super) fn start_fetch(
        &mut self,
        id: u64,
        block: Block,
        response: Response,
        token: Option<Token>,
    ) -> Step {
        if let Err(error) = check(block, response.payload.len(), 0) {
            return wrong(error);
        }
        if !block.more {
            return Step::Deliver(response);
        }
        let limit = self.config.max_body;
        let announced = response.options.size2().unwrap_or(0) as usize;
        if announced > limit || response.payload.len() > limit {
            return Step::Fail(RequestError::TooLarge { limit });
        }
        let szx = block.szx.min(Block::szx_for(self.config.block_size));
        let Some(request) = self.requests.get_mut(id) else {
            return Step::Deliver(response);
        };
        let restarts = request.fetch.as_ref().map_or(0, |fetch| fetch.restarts);
        request.fetch = Some(Fetch {
            code: response.code,
            options: without_blocks(response.options),
            body: response.payload,
            szx,
            restarts,
            token,
            observed: token.is_some(),
        });
        Step::Again
    }

    fn continue_fetch(&mut self, id: u64, block: Block, response: Response) -> Step {
        let limit = self.config.max_body;
        let Some(request) = self.requests.get_mut(id) else {
            return Step::Deliver(response);
        };
        let safe = request.request.code.is_safe();
        let Some(fetch) = &mut request.fetch else {
            return Step::Deliver(response);
        };
        // What is being read may itself be an error with a body of several blocks; another one takes its place.
        if !response.code.is_success() && response.code != fetch.code {
            return Step::Deliver(response);
        }
        // RFC 7959 §2.4: blocks with different ETags are of different bodies.
        if response.options.etag() != fetch.options.etag() && !fetch.body.is_empty() {
            if !safe || fetch.restarts >= RESTARTS {
                return wrong(BlockError::Changed);
            }
            fetch.restarts += 1;
            fetch.body.clear();
            return Step::Again;
        }
        if let Err(error) = check(block, response.payload.len(), fetch.body.len()) {
            return wrong(error);
        }
        if fetch.body.len() + response.payload.len() > limit {
            return Step::Fail(RequestError::TooLarge { limit });
        }
        if fetch.body.is_empty() {
            fetch.code = response.code;
            fetch.options = without_blocks(response.options);
        }
        fetch.body.extend_from_slice(&response.payload);
        fetch.szx = fetch.szx.min(block.szx);
        if block.more {
            return Step::Again;
        }
        Step::Deliver(Response {
            code: fetch.code,
            options: std::mem::take(&mut fetch.options),
            payload: std::mem::take(&mut fetch.body),
        })
    }
}
