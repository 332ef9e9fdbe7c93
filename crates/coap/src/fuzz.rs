//! Fuzz bodies, compiled with the crate so that they cannot rot. None may panic.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::block::Block;
use crate::code::Code;
use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::event::{Event, ObservationId, RequestId};
use crate::message::{Message, Token, Type};
use crate::no_response::NoResponse;
use crate::number;
use crate::options::Options;
use crate::peer::{Peer, SessionId};
use crate::request::{Request, Response};
use crate::stats::Stats;

/// Any datagram: what decodes must encode to something that decodes to the same message, and every way of reading
/// its options must come to an end.
pub fn codec(data: &[u8]) {
    if let Ok(message) = Message::decode(data) {
        let again = Message::decode(&message.encode());
        assert_eq!(again.as_ref(), Ok(&message));
        let options = &message.options;
        for block in [options.block1(), options.block2()].into_iter().flatten() {
            assert!(
                block.size() <= 1024
                    && Block::decode(&block.value().to_be_bytes()[1..]) == Some(block)
            );
        }
        let request = Request {
            code: message.code,
            confirmable: true,
            options: message.options.clone(),
            payload: Vec::new(),
        };
        if options.contains(number::IF_MATCH) {
            assert!(request.precondition(None).is_err());
        }
        let refused = options.accept().is_some_and(|format| format != 41);
        assert_eq!(request.negotiate(&[41]).is_err(), refused);
        assert!(request.validated(b"1").is_none() || options.contains(number::ETAG));
        assert!(options.no_response().is_none() || options.contains(number::NO_RESPONSE));
        let mut copy = Options::new();
        for (number, value) in options.iter().rev() {
            copy.add(number, value);
        }
        assert_eq!(copy.len(), options.len());
    }
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(uri) = text.parse::<crate::Uri>() {
            assert_eq!(uri.to_string().parse(), Ok(uri));
        }
        if let Ok(links) = crate::link::parse(text) {
            let _ = crate::link::core(&links, text.split('&'));
        }
    }
}

/// A script of datagrams, timeouts, requests and answers for one endpoint with small bounds.
///
/// Each step is one byte of what to do, one of how long the step's data is, and the data.
/// `start` is any time: the endpoint only sees how much of it passes. The counters tell how far a script came.
pub fn machine(start: Instant, data: &[u8]) -> Stats {
    let mut now = start;
    let config = Config {
        max_body: 4096,
        dedup_per_peer: 4,
        dedup_total: 16,
        dedup_bytes: 4096,
        max_exchanges: 8,
        max_exchanges_per_peer: 4,
        max_block_transfers: 4,
        max_block_transfers_per_peer: 2,
        max_block_bytes: 6000,
        max_requests: 6,
        max_queue: 2,
        max_observations: 4,
        max_observations_per_peer: 2,
        max_leisurely: 3,
        max_group_responses: 2,
        notify_con_every: 2,
        ..Config::default()
    };
    let mut endpoint = Endpoint::new(config, [7; 32]);
    let mut requests: Vec<RequestId> = Vec::new();
    let mut observations: Vec<ObservationId> = Vec::new();
    let mut rest = data;
    let mut steps = 0;
    let mut last_sent: Vec<u8> = Vec::new();
    let mut writer = Writer::default();
    while let Some((&[what, len], tail)) = rest.split_first_chunk() {
        steps += 1;
        if steps > 4096 {
            break;
        }
        let (step, tail) = tail.split_at(usize::from(len).min(tail.len()));
        rest = tail;
        let peer = peer_of(what);
        match what & 0x0f {
            0..=5 => endpoint.handle_input(now, peer, step),
            6 => endpoint.handle_multicast(now, peer, step),
            7 | 8 => {
                // An echo of what the endpoint sent last, made to fit: reaches deep states.
                let mut echo = last_sent.clone();
                for (at, byte) in step.iter().enumerate() {
                    if let Some(place) = echo.get_mut(at) {
                        *place ^= *byte;
                    }
                }
                endpoint.handle_input(now, peer, &echo);
            }
            9 => {
                now += Duration::from_millis(u64::from(len) * 40);
                endpoint.handle_timeout(now);
            }
            10 => {
                if let Some(at) = endpoint.poll_timeout() {
                    now = now.max(at);
                    endpoint.handle_timeout(now);
                }
            }
            11 => {
                let body = step.repeat(usize::from(what >> 4) * 3);
                let mut request = Request::post("a").payload(body);
                if what & 0x20 != 0 {
                    request.code = Code::GET;
                    request = request.observe();
                }
                request.confirmable = what & 0x10 == 0;
                if what & 0x40 != 0 {
                    request = request.no_response(NoResponse::from_bits(len));
                }
                requests.extend(if what & 0x80 == 0 {
                    endpoint.request(now, peer, request).ok()
                } else {
                    let group =
                        Peer::plain(SocketAddr::from((Ipv4Addr::new(224, 0, 1, 187), 5683)));
                    let window = Duration::from_secs(u64::from(len));
                    endpoint.request_group(now, group, request, window).ok()
                });
            }
            12 => match requests.pop() {
                Some(id) if what & 0x20 == 0 => endpoint.cancel(now, id),
                Some(id) => endpoint.deregister(now, id),
                None => {}
            },
            13 => {
                for id in observations.clone() {
                    let body = step.repeat(usize::from(what >> 4) + 1);
                    let response = Response::new(Code::CONTENT).payload(body);
                    if endpoint.notify(now, id, response).is_err() {
                        observations.retain(|other| *other != id);
                    }
                }
            }
            14 if len == 0 => endpoint.forget_peer(now, peer),
            14 => endpoint.handle_input(now, peer, &writer.block(step)),
            _ if len > 0 => endpoint.handle_input(now, peer, &writer.echo(step, &last_sent)),
            _ => {
                if let Some(id) = observations.pop() {
                    endpoint.end_observation(now, id);
                }
            }
        }
        while let Some(event) = endpoint.poll_event() {
            if let Event::Request {
                exchange, request, ..
            } = event
            {
                observations.extend(endpoint.accept_observer(exchange).ok());
                if endpoint.echo_age(exchange).is_none() && what & 0x60 == 0x60 {
                    assert!(endpoint.challenge(now, exchange).is_ok());
                } else if what & 0x80 == 0 {
                    let body = request.payload.repeat(usize::from(what >> 4) + 1);
                    let response = Response::new(Code::CONTENT).payload(body);
                    assert!(endpoint.respond(now, exchange, response).is_ok());
                }
            }
        }
        while let Some(transmit) = endpoint.poll_transmit() {
            let message = Message::decode(&transmit.payload);
            assert!(message.is_ok());
            // RFC 7252 §8.1: nothing that came to a group is acknowledged or rejected.
            let replies = message
                .is_ok_and(|message| matches!(message.kind, Type::Acknowledgement | Type::Reset));
            assert!(!replies || what & 0x0f != 6);
            last_sent = transmit.payload;
        }
    }
    // Nothing is kept for ever once time passes and nothing comes in.
    for id in observations {
        endpoint.end_observation(now, id);
    }
    for id in requests {
        endpoint.cancel(now, id);
    }
    for _ in 0..10_000 {
        let Some(at) = endpoint.poll_timeout() else {
            break;
        };
        now = now.max(at);
        endpoint.handle_timeout(now);
        while endpoint.poll_transmit().is_some() {}
        while endpoint.poll_event().is_some() {}
    }
    assert_eq!(endpoint.poll_timeout(), None);
    assert_eq!(endpoint.peer_count(), 0);
    endpoint.stats()
}

/// Writes messages that follow each other, as a sequence of mutated datagrams seldom does.
#[derive(Default)]
struct Writer {
    id: u16,
    num: u32,
}

impl Writer {
    fn message(&mut self, bits: u8) -> Message {
        self.id = self.id.wrapping_add(1);
        let kind = if bits & 0x80 == 0 {
            Type::Confirmable
        } else {
            Type::NonConfirmable
        };
        let mut message = Message::empty(kind, self.id);
        message.token = Token::from([9; 8]);
        message.options.set_path("a");
        message
    }

    /// The next block of a body, in either direction: which, with what options, and whether from the start or with a gap, is up
    /// to the first byte; the block size and what the options are, to the second.
    fn block(&mut self, step: &[u8]) -> Vec<u8> {
        let bits = step.first().copied().unwrap_or(0);
        let value = step.get(1).copied().unwrap_or(0);
        let szx = value & 7;
        let mut message = self.message(bits);
        if bits & 1 != 0 {
            self.num = 0;
        }
        self.num += u32::from(bits & 2 != 0);
        let more = bits & 4 == 0;
        if bits & 8 == 0 {
            let block = Block::new(self.num, more, szx);
            message.code = Code::POST;
            message.options.set_block1(block);
            message.payload = vec![
                value;
                if more {
                    block.size()
                } else {
                    1 + usize::from(value) % 15
                }
            ];
        } else {
            message.code = if more { Code::GET } else { Code::POST };
            message.options.set_block2(Block::new(self.num, false, szx));
        }
        if bits & 16 != 0 {
            message.options.set(number::REQUEST_TAG, &[value >> 6]);
        }
        if bits & 32 != 0 {
            message
                .options
                .set_uint(number::NO_RESPONSE, u32::from(value >> 3));
        }
        if bits & 64 != 0 {
            message.options.set_observe(u32::from(value >> 7));
        }
        self.num += 1;
        message.encode()
    }

    /// A request that sends back the Echo value of what the endpoint sent last, or something like it.
    fn echo(&mut self, step: &[u8], last_sent: &[u8]) -> Vec<u8> {
        let bits = step.first().copied().unwrap_or(0);
        let mut message = self.message(bits);
        message.code = if bits & 1 == 0 { Code::GET } else { Code::POST };
        let sent = Message::decode(last_sent).ok();
        let mut value = sent
            .and_then(|sent| sent.options.first(number::ECHO).map(<[u8]>::to_vec))
            .unwrap_or_default();
        for (byte, change) in value.iter_mut().zip(step.iter().skip(1)) {
            *byte ^= change;
        }
        message.options.add(number::ECHO, &value);
        if bits & 2 != 0 {
            message.options.set_observe(0);
        }
        message.payload = vec![7; usize::from(bits >> 2) % 16];
        message.encode()
    }
}

fn peer_of(byte: u8) -> Peer {
    let port = if byte & 0xf0 == 0xf0 {
        0
    } else {
        1000 + u16::from(byte >> 6)
    };
    Peer {
        addr: SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), port)),
        session: (byte & 0x10 != 0).then_some(SessionId(1)),
    }
}
