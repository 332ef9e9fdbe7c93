//! The Echo option as server (RFC 9175 §2): a value that only who reads the peer's mail can send back.
//!
//! Nothing is stored per value. It is a MAC over the peer (address, port and association) and the time, in slices
//! of an eighth of the lifetime, under a key made of the endpoint's seed. A value shows its age to within a slice,
//! and nothing once the lifetime is over.
//!
//! An address without security is verified by an Echo value or by a response to a request of ours, whose token is
//! 64 random bits. The acknowledgement of a message ID is no evidence: 16 bits can be guessed in 65,536 datagrams.
#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use super::Endpoint;
use super::download::Reply;
use super::peers::PeerKey;
use super::server::Context;
use crate::code::Code;
use crate::error::RespondError;
use crate::event::ExchangeId;
use crate::message::{Type, encoded_len};
use crate::number;
use crate::options::Options;
use crate::peer::Peer;
use crate::request::Response;

/// Bytes of a value: 64 bits that nobody can predict (RFC 9175 §5).
const LEN: usize = 8;
/// Bytes of a value that has to fit in three times the shortest request.
const SHORT: usize = 6;
/// Parts of the lifetime.
const SLICES: u64 = 8;

/// Makes and checks values.
pub(super) struct Echo {
    key: [u8; 32],
    start: Option<Instant>,
    slice: Duration,
}

impl Echo {
    pub(super) fn new(key: [u8; 32], lifetime: Duration) -> Echo {
        let slice = lifetime / u32::try_from(SLICES).unwrap_or(1);
        Echo {
            key,
            start: None,
            slice: slice.max(Duration::from_millis(1)),
        }
    }

    fn slice(&mut self, now: Instant) -> u64 {
        let start = *self.start.get_or_insert(now);
        let passed = now.saturating_duration_since(start).as_millis() / self.slice.as_millis();
        u64::try_from(passed).unwrap_or(u64::MAX)
    }

    /// A key for one peer. Every word keys the generator that makes the next key, which is a pseudorandom function as
    /// long as all inputs have the same number of words.
    fn peer_key(&self, peer: &Peer) -> [u8; 32] {
        let ip = match peer.addr.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let half = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |b| u64::from_be_bytes(*b));
        let association = u64::from(peer.session.is_some());
        [
            half(ip.octets().first_chunk()),
            half(ip.octets().last_chunk()),
            (u64::from(peer.addr.port()) << 1) | association,
            peer.session.map_or(0, |session| session.0),
        ]
        .into_iter()
        .fold(self.key, next_key)
    }

    fn value(&mut self, now: Instant, peer: &Peer) -> [u8; LEN] {
        let slice = self.slice(now);
        mac(self.peer_key(peer), slice)
    }

    /// How old a value is at most; `None` for one that is too old, or not ours, or another peer's.
    fn age(&mut self, now: Instant, peer: &Peer, value: &[u8]) -> Option<Duration> {
        if value.len() != LEN && value.len() != SHORT {
            return None;
        }
        let slice = self.slice(now);
        let key = self.peer_key(peer);
        let mut age = None;
        for back in (0..SLICES).filter(|back| *back <= slice) {
            // Without an early exit, so that the time tells nothing of the bytes.
            let difference = mac(key, slice - back)
                .iter()
                .zip(value)
                .fold(0, |sum, (ours, theirs)| sum | (ours ^ theirs));
            if difference == 0 {
                let slices = u32::try_from(back + 1).unwrap_or(u32::MAX);
                age = Some(self.slice.saturating_mul(slices));
            }
        }
        age
    }
}

fn next_key(key: [u8; 32], word: u64) -> [u8; 32] {
    let mut rng = ChaCha12Rng::from_seed(key);
    rng.set_stream(word);
    let mut next = [0; 32];
    rng.fill_bytes(&mut next);
    next
}

fn mac(key: [u8; 32], slice: u64) -> [u8; LEN] {
    let mut value = [0; LEN];
    value.copy_from_slice(
        next_key(key, slice)
            .first_chunk::<LEN>()
            .unwrap_or(&[0; LEN]),
    );
    value
}

impl Endpoint {
    /// How old a request is at most, by the Echo value that it brought (RFC 9175 §2.3), reckoned when it was received;
    /// `None` when it brought none, or one that is not valid any more. Only within a DTLS association does it prove
    /// anything about the request's content.
    pub fn echo_age(&self, exchange: ExchangeId) -> Option<Duration> {
        let exchange = self.exchanges.get(exchange.0)?;
        exchange.context.echo_age
    }

    /// Answers a request that has to be fresh, and is not shown to be, with 4.01 and an Echo value to send it again
    /// with (RFC 9175 §2.3). Nothing of the request may have been done.
    ///
    /// # Errors
    /// When the exchange is gone.
    pub fn challenge(&mut self, now: Instant, exchange: ExchangeId) -> Result<(), RespondError> {
        let Some(context) = self.exchanges.get(exchange.0).map(|e| e.context) else {
            return Err(RespondError::UnknownExchange);
        };
        let response = self.challenge_response(now, context.peer, LEN);
        self.respond(now, exchange, response)
    }

    pub(super) fn challenge_response(
        &mut self,
        now: Instant,
        peer: PeerKey,
        len: usize,
    ) -> Response {
        let mut response = Response::new(Code::UNAUTHORIZED);
        if let Some(peer) = self.peers.get(peer).map(|state| state.peer) {
            let value = self.echo.value(now, &peer);
            let value = value.get(..len).unwrap_or(&value);
            response.options.set(number::ECHO, value);
        }
        self.stats.challenges += 1;
        response
    }

    /// Looks at the Echo value of a request; a valid one verifies the address it came from.
    pub(super) fn check_echo(
        &mut self,
        now: Instant,
        peer: PeerKey,
        options: &Options,
    ) -> Option<Duration> {
        let value = options.first(number::ECHO)?;
        let addr = self.peers.get(peer)?.peer;
        let age = self.echo.age(now, &addr, value);
        match age {
            Some(_) => self.verified(peer),
            None => self.stats.echoes_invalid += 1,
        }
        age
    }

    /// The peer is at its address.
    pub(super) fn verified(&mut self, peer: PeerKey) {
        if let Some(state) = self.peers.get_mut(peer) {
            state.verified = true;
        }
    }

    /// A request of so many bytes came from a peer: as long as its address is not verified, it may get three times as many
    /// (RFC 7252 §11.3, RFC 9175 §2.4).
    pub(super) fn heard(&mut self, peer: PeerKey, len: usize) {
        let factor = self.config.amplification;
        let Some(state) = self.peers.get_mut(peer) else {
            return;
        };
        let back = state.hear();
        if !state.verified {
            let len = u32::try_from(len).unwrap_or(u32::MAX);
            state.allowance = state.allowance.saturating_add(len.saturating_mul(factor));
        }
        if back {
            self.back = Some(peer);
        }
    }

    /// Where an answer of so many bytes may go: nowhere when the peer's address is not verified and has had enough.
    pub(super) fn spend(&mut self, peer: PeerKey, len: usize) -> Option<Peer> {
        let state = self.peers.get_mut(peer)?;
        if !state.verified {
            let len = u32::try_from(len).unwrap_or(u32::MAX);
            let Some(rest) = state.allowance.checked_sub(len) else {
                self.stats.amplification_held += 1;
                return None;
            };
            state.allowance = rest;
        }
        Some(state.peer)
    }

    /// Queues an answer, within [`Endpoint::spend`].
    pub(super) fn transmit_within(&mut self, peer: PeerKey, payload: Vec<u8>) {
        if let Some(to) = self.spend(peer, payload.len()) {
            self.transmit(to, payload);
        }
    }

    /// Bytes that a peer may get now; `None` for a verified one.
    pub(super) fn room(&self, peer: PeerKey) -> Option<usize> {
        let state = self.peers.get(peer)?;
        (!state.verified).then_some(state.allowance as usize)
    }

    /// Encodes a response so that it fits in what an unverified address may get: a challenge in place of a safe request's
    /// content, smaller blocks of what another method made, errors without their diagnostic payload.
    pub(super) fn encode_within(
        &mut self,
        now: Instant,
        context: &Context,
        kind: Type,
        id: u16,
        reply: &Reply,
        response: Response,
    ) -> Vec<u8> {
        /// Options that the encoding may add: Block1, Block2, Observe, Size2, ETag.
        const ADDED: usize = 32;
        let peer = context.peer;
        let longest =
            || encoded_len(&reply.token, &response.options, response.payload.len()) + ADDED;
        let room = match self.room(peer) {
            Some(room) if longest() > room => room,
            _ => return self.encode_reply(now, peer, kind, id, reply, response),
        };
        let code = response.code;
        let bare = Reply {
            key: None,
            block2: None,
            ..*reply
        };
        if code.is_success() && context.safe {
            let bytes = self.encode_reply(now, peer, kind, id, reply, response);
            if bytes.len() <= room {
                return bytes;
            }
            self.drop_download(context, reply);
            self.stats.amplification_limited += 1;
            let fits = encoded_len(&reply.token, &Options::new(), 0) + 2 + LEN <= room;
            let len = if fits { LEN } else { SHORT };
            let challenge = self.challenge_response(now, peer, len);
            return self.encode_reply(now, peer, kind, id, &bare, challenge);
        }
        let mut short = Response::new(code);
        short.options = response.options.clone();
        short.options.remove(number::CONTENT_FORMAT);
        let small = Reply { room, ..*reply };
        let bytes = self.encode_reply(now, peer, kind, id, &small, response);
        if bytes.len() <= room {
            return bytes;
        }
        self.drop_download(context, reply);
        self.stats.amplification_limited += 1;
        let bytes = self.encode_reply(now, peer, kind, id, &bare, short);
        if bytes.len() <= room {
            return bytes;
        }
        self.encode_reply(now, peer, kind, id, &bare, Response::new(code))
    }

    /// What was kept for further blocks of a response that is not sent.
    fn drop_download(&mut self, context: &Context, reply: &Reply) {
        if let Some(key) = reply.key
            && let Some(kept) = self.find_download(context.peer, key, reply.payload_hash)
        {
            self.end_transfer(kept);
        }
    }
}
