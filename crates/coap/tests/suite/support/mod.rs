//! Harnesses: one endpoint with hand-made datagrams, and two endpoints over a bad network.

mod pair;
mod solo;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use homefleet_coap::{Block, Message, Options, Peer, Token, Type, number};

pub(crate) use pair::{Network, Pair, Side};
pub(crate) use solo::Solo;

/// Any start of virtual time.
#[allow(clippy::disallowed_methods)] // the only reading of a clock, and nothing waits for it
pub(crate) fn start() -> Instant {
    Instant::now()
}

pub(crate) fn peer(port: u16) -> Peer {
    Peer::plain(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 7), port)))
}

pub(crate) fn token(bytes: &[u8]) -> Token {
    Token::new(bytes).unwrap()
}

/// A request as a datagram, without options.
pub(crate) fn message(kind: Type, code: homefleet_coap::Code, id: u16, tok: &[u8]) -> Message {
    Message {
        kind,
        code,
        id,
        token: token(tok),
        options: Options::new(),
        payload: Vec::new(),
    }
}

pub(crate) trait MessageExt {
    fn path(self, path: &str) -> Self;
    fn option(self, number: u16, value: &[u8]) -> Self;
    fn block1(self, num: u32, more: bool, szx: u8) -> Self;
    fn block2(self, num: u32, more: bool, szx: u8) -> Self;
    fn body(self, body: impl Into<Vec<u8>>) -> Self;
}

impl MessageExt for Message {
    fn path(mut self, path: &str) -> Self {
        self.options.set_path(path);
        self
    }

    fn option(mut self, number: u16, value: &[u8]) -> Self {
        self.options.add(number, value);
        self
    }

    fn block1(mut self, num: u32, more: bool, szx: u8) -> Self {
        self.options.set_uint(
            number::BLOCK1,
            (num << 4) | (u32::from(more) << 3) | u32::from(szx),
        );
        self
    }

    fn block2(mut self, num: u32, more: bool, szx: u8) -> Self {
        self.options.set_uint(
            number::BLOCK2,
            (num << 4) | (u32::from(more) << 3) | u32::from(szx),
        );
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.payload = body.into();
        self
    }
}

pub(crate) fn block(num: u32, more: bool, size: usize) -> Option<Block> {
    Some(Block::new(num, more, Block::szx_for(size)))
}

/// Bytes that differ at every place, so that a mix-up shows.
pub(crate) fn body(len: usize, salt: u8) -> Vec<u8> {
    (0..len)
        .map(|at| (at as u64).wrapping_mul(0x9e37_79b9).to_be_bytes()[5] ^ salt)
        .collect()
}
