//! Peers that do as they please: mostly right, sometimes not.

use homefleet_coap::{Block, Code, Message, Token, Type, number};

use super::CRITICAL;
use super::world::PEERS;
use crate::support::{MessageExt, body};

/// An upload that goes on block by block.
struct Upload {
    token: Token,
    method: Code,
    path: &'static str,
    szx: u8,
    num: u32,
    blocks: u32,
}

pub(super) struct FakePeer {
    index: usize,
    next_id: u16,
    next_token: u32,
    uploads: Vec<Upload>,
    /// The token and path of the last GETs, to ask for blocks of, or deregister.
    gets: Vec<(Token, &'static str)>,
    /// Tokens of the other side that registered here, and the next sequence number.
    registered: Vec<Token>,
    seq: u32,
    /// What the other side sent that can be acknowledged or rejected.
    heard: Vec<u16>,
}

const PATHS: [&str; 3] = ["a", "b", "a/b"];

impl FakePeer {
    pub(super) fn new(index: usize) -> FakePeer {
        FakePeer {
            index,
            next_id: 7,
            next_token: 0,
            uploads: Vec::new(),
            gets: Vec::new(),
            registered: Vec::new(),
            seq: 1,
            heard: Vec::new(),
        }
    }

    /// It forgets everything, and its message IDs start anew, near the ones it used before.
    pub(super) fn restarts(&mut self, b: usize) {
        let next_token = self.next_token;
        *self = FakePeer::new(self.index);
        self.next_token = next_token;
        self.next_id = (b % 30) as u16;
    }

    fn id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        // Spread over all bits, and never zero.
        let bits = self.next_token.wrapping_mul(0x9e37_79b1);
        Token::new(&bits.to_be_bytes()).unwrap()
    }

    fn message(&mut self, kind: Type, code: Code, token: Token) -> Message {
        Message {
            code,
            token,
            ..Message::empty(kind, self.id())
        }
    }

    /// A small request, now and then with Observe or with a critical option that is not understood.
    pub(super) fn asks(&mut self, b: usize) -> Vec<Message> {
        let kind = if b.is_multiple_of(4) {
            Type::NonConfirmable
        } else {
            Type::Confirmable
        };
        let path = PATHS[b / 4 % 3];
        let what = b / 12 % 10;
        let token = match (what, self.gets.last()) {
            // Registers again, or deregisters; perhaps for another resource.
            (2 | 3, Some((token, _))) => *token,
            _ => self.token(),
        };
        let code = if what < 7 { Code::GET } else { Code::POST };
        let mut message = self.message(kind, code, token).path(path);
        match what {
            0..=2 => message.options.set_uint(number::OBSERVE, 0),
            3 => message.options.set_uint(number::OBSERVE, 1),
            6 => message = message.block2(0, false, 1),
            8 => message = message.option(CRITICAL, b"x"),
            _ => {}
        }
        if code == Code::POST {
            message.payload = body(b / 120 % 60 + 1, b as u8);
        } else {
            self.gets.push((token, path));
        }
        vec![message]
    }

    /// The next block of a body; now and then another, or of a wrong size.
    pub(super) fn uploads(&mut self, a: usize, b: usize) -> Vec<Message> {
        if self.uploads.is_empty() || (b.is_multiple_of(9) && self.uploads.len() < 3) {
            let token = self.token();
            self.uploads.push(Upload {
                token,
                method: [Code::POST, Code::PUT][b / 9 % 2],
                path: PATHS[b / 18 % 3],
                szx: [0, 1, 2, 2, 3][b / 54 % 5],
                num: 0,
                blocks: (b / 270 % 9) as u32 + 1,
            });
        }
        let which = a % self.uploads.len();
        let upload = &mut self.uploads[which];
        let mut num = upload.num;
        upload.num += 1;
        match b % 13 {
            0 => num += 1,
            1 => num = 0,
            2 => num = num.saturating_sub(1),
            _ => {}
        }
        let more = num + 1 < upload.blocks;
        let szx = if b % 31 == 30 { 7 } else { upload.szx };
        let mut size = Block::new(0, false, szx).size();
        if !more {
            size -= b / 31 % 16;
        } else if b % 29 == 28 {
            size -= 1;
        }
        let (token, method, path) = (upload.token, upload.method, upload.path);
        if !more {
            self.uploads.remove(which);
        }
        let kind = if (b / 64).is_multiple_of(5) {
            Type::NonConfirmable
        } else {
            Type::Confirmable
        };
        let message = self
            .message(kind, method, token)
            .path(path)
            .block1(num, more, szx)
            .body(body(size, num as u8));
        vec![message]
    }

    /// A block in the middle of something it asked for.
    pub(super) fn wants_block(&mut self, b: usize) -> Vec<Message> {
        let Some((_, path)) = self.gets.last().copied() else {
            return Vec::new();
        };
        let token = self.token();
        let code = if b % 16 == 15 { Code::POST } else { Code::GET };
        let message = self
            .message(Type::Confirmable, code, token)
            .path(path)
            .block2((b / 16 % 5) as u32 + 1, false, [0, 2, 2, 3][b / 80 % 4]);
        vec![message]
    }

    /// Pings, garbage, and acknowledgements and rejections of this and that.
    pub(super) fn noise(&mut self, a: usize, b: usize) -> Vec<Message> {
        let known = self.heard.get(a % self.heard.len().max(1)).copied();
        let id = known.unwrap_or(99);
        match b % 5 {
            0 => {
                let token = Token::default();
                vec![self.message(Type::Confirmable, Code::EMPTY, token)]
            }
            1 => vec![Message::empty(Type::Acknowledgement, id)],
            2 => vec![Message::empty(Type::Reset, id)],
            3 => {
                // A response that nobody asked for.
                let token = self.token();
                let kind = [Type::Confirmable, Type::NonConfirmable][b / 5 % 2];
                vec![self.message(kind, Code::CONTENT, token)]
            }
            _ => {
                let token = self.token();
                let ack = self.message(Type::Acknowledgement, Code::CONTENT, token);
                vec![Message { id, ..ack }]
            }
        }
    }

    /// A notification to one that registered here; now and then the last one.
    pub(super) fn notifies(&mut self, a: usize, b: usize) -> Vec<Message> {
        let Some(token) = self
            .registered
            .get(a % self.registered.len().max(1))
            .copied()
        else {
            return Vec::new();
        };
        let kind = [Type::Confirmable, Type::NonConfirmable][b % 2];
        self.seq += 1;
        let seq = self.seq;
        let code = if b % 20 == 19 {
            Code::NOT_FOUND
        } else {
            Code::CONTENT
        };
        let mut message = self.message(kind, code, token).body(body(10, seq as u8));
        if code == Code::CONTENT {
            message.options.set_observe(seq);
        }
        vec![message]
    }

    /// Something from the endpoint arrives; what it does then, and from which peer it seems to come.
    pub(super) fn gets(&mut self, message: &Message, b: usize) -> Vec<(usize, Message)> {
        self.heard.push(message.id);
        let reactions = match message.kind {
            Type::Confirmable | Type::NonConfirmable if message.code.is_request() => {
                return self.is_asked(message, b);
            }
            Type::Confirmable if message.code.is_response() => match b % 8 {
                0 => vec![Message::empty(Type::Reset, message.id)],
                1 => vec![],
                _ => vec![Message::empty(Type::Acknowledgement, message.id)],
            },
            Type::NonConfirmable if b.is_multiple_of(20) => {
                vec![Message::empty(Type::Reset, message.id)]
            }
            _ => vec![],
        };
        reactions.into_iter().map(|m| (self.index, m)).collect()
    }

    fn is_asked(&mut self, asked: &Message, b: usize) -> Vec<(usize, Message)> {
        let here = self.index;
        let confirmable = asked.kind == Type::Confirmable;
        let answer = self.answer(asked, b / 16);
        let piggybacked = |mut message: Message| {
            if confirmable {
                (message.kind, message.id) = (Type::Acknowledgement, asked.id);
            }
            message
        };
        let acknowledged = Message::empty(Type::Acknowledgement, asked.id);
        let separate = |mut message: Message| {
            message.kind = Type::Confirmable;
            message
        };
        match b % 16 {
            0 => vec![],
            1 => vec![(here, Message::empty(Type::Reset, asked.id))],
            2 => vec![(here, acknowledged)],
            3 | 4 => vec![(here, acknowledged), (here, separate(answer))],
            5 => vec![(here, separate(answer))],
            6 => vec![(here, answer)],
            7 if (b / 16).is_multiple_of(3) => {
                let token = self.token();
                vec![(
                    here,
                    Message {
                        token,
                        ..piggybacked(answer)
                    },
                )]
            }
            8 if (b / 16).is_multiple_of(3) => vec![((here + 1) % PEERS, piggybacked(answer))],
            9 if (b / 16).is_multiple_of(3) => {
                vec![(here, piggybacked(answer).option(CRITICAL, b"x"))]
            }
            _ => vec![(here, piggybacked(answer))],
        }
    }

    /// The response, as a Non-confirmable message of its own.
    fn answer(&mut self, asked: &Message, b: usize) -> Message {
        let token = asked.token;
        if let Some(block) = asked.options.block1().filter(|block| block.more) {
            let num = block.num + u32::from(b % 40 == 39);
            let szx = if b % 7 == 6 {
                block.szx.min(1)
            } else {
                block.szx
            };
            return self
                .message(Type::NonConfirmable, Code::CONTINUE, token)
                .block1(num, true, szx);
        }
        let code = match (b % 12, asked.code) {
            (11, _) => Code::NOT_FOUND,
            (_, Code::GET) => Code::CONTENT,
            _ => Code::CHANGED,
        };
        let mut message = self.message(Type::NonConfirmable, code, token);
        if let Some(block) = asked.options.block1() {
            message = message.block1(block.num, false, block.szx);
        }
        if asked.options.observe() == Some(0) {
            message.payload = body(10, b as u8);
            if !b.is_multiple_of(4) && code.is_success() {
                self.seq += 1;
                message.options.set_observe(self.seq);
                if !self.registered.contains(&token) {
                    self.registered.push(token);
                }
            }
            return message;
        }
        // The length of the body hangs on the token, so that all of its blocks are of one.
        let len = [10, 64, 150, 400][usize::from(token.bytes()[0]) % 4];
        let whole = body(len, token.bytes()[0]);
        let want = asked.options.block2().unwrap_or(Block::new(0, false, 2));
        let szx = if b % 9 == 8 {
            want.szx.min(1)
        } else {
            want.szx
        };
        let size = Block::new(0, false, szx).size();
        let start = if b % 50 == 49 { 0 } else { want.offset() };
        let end = (start + size).min(whole.len());
        if code.is_success() && start < whole.len() && (start > 0 || end < whole.len()) {
            let generation = u8::from(b % 30 == 29);
            message.options.set_etag(&[generation]);
            message.payload = whole[start..end].to_vec();
            return message.block2((start / size) as u32, end < whole.len(), szx);
        }
        message.payload = whole[..end.min(10)].to_vec();
        message
    }
}
