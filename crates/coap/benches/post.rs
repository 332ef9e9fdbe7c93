//! CPU time of one deduplicated Confirmable POST of 300 bytes in the engine alone: decode, deduplicate,
//! deliver, respond, encode, remember. No socket, no copy to or from the kernel.
//!
//! `cargo bench -p homefleet-coap --bench post`
#![allow(clippy::print_stdout)] // a bench prints its figures

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use homefleet_coap::{
    Code, Config, Endpoint, Event, Message, Options, Peer, Response, Token, Type,
};

fn main() {
    let resident = resident();
    let (endpoint, remembered) = run(1_000, 256);
    let bytes = self::resident().saturating_sub(resident) / remembered;
    println!("memory: {bytes:>5} bytes per remembered message");
    drop(endpoint);
    for (peers, rounds) in [(1, 300_000), (100, 3_000), (1_000, 300), (10_000, 60)] {
        run(peers, rounds);
    }
    codec();
}

fn datagram() -> Vec<u8> {
    let mut options = Options::new();
    options.set_path("usp");
    options.add_query("reply-to=coaps://198.51.100.7:5684/usp");
    options.set_content_format(42);
    let message = Message {
        kind: Type::Confirmable,
        code: Code::POST,
        id: 0,
        token: Token::from([0; 8]),
        options,
        payload: vec![0x5a; 300],
    };
    message.encode()
}

/// The endpoint, and how many messages it answered.
fn run(peers: u32, rounds: u32) -> (Endpoint, u64) {
    #[allow(clippy::disallowed_methods)] // any start of virtual time will do
    let start = Instant::now();
    let busy = cpu();
    let mut endpoint = Endpoint::new(Config::default(), [1; 32]);
    let mut datagram = datagram();
    // A request every 10 µs of virtual time, so that lifetimes run as they would.
    let mut now = start;
    let mut answered = 0u64;
    for round in 0..rounds {
        for peer in 0..peers {
            now += Duration::from_micros(10);
            let id = (round as u16).to_be_bytes();
            datagram[2..4].copy_from_slice(&id);
            datagram[4..8].copy_from_slice(&round.to_be_bytes());
            let addr = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + peer), 5683));
            endpoint.handle_input(now, Peer::plain(addr), &datagram);
            while let Some(event) = endpoint.poll_event() {
                if let Event::Request { exchange, .. } = event {
                    let done = endpoint.respond(now, exchange, Response::new(Code::CHANGED));
                    answered += u64::from(done.is_ok());
                }
            }
            while endpoint.poll_transmit().is_some() {}
            if endpoint.poll_timeout().is_some_and(|at| at <= now) {
                endpoint.handle_timeout(now);
            }
        }
    }
    let total = u64::from(peers) * u64::from(rounds);
    assert_eq!(answered, total);
    println!(
        "post: {peers:>6} peers, {total} requests: {:>5} ns of CPU per request",
        (cpu() - busy) / total
    );
    (endpoint, total)
}

fn codec() {
    const ROUNDS: u32 = 1_000_000;
    let datagram = datagram();
    let busy = cpu();
    let mut bytes = 0;
    for _ in 0..ROUNDS {
        if let Ok(message) = Message::decode(std::hint::black_box(&datagram)) {
            bytes += std::hint::black_box(message.payload.len());
        }
    }
    assert_eq!(bytes, 300 * ROUNDS as usize);
    println!("decode: {:>5} ns", (cpu() - busy) / u64::from(ROUNDS));
    let Ok(message) = Message::decode(&datagram) else {
        return;
    };
    let busy = cpu();
    for _ in 0..ROUNDS {
        std::hint::black_box(message.encode());
    }
    println!("encode: {:>5} ns", (cpu() - busy) / u64::from(ROUNDS));
}

/// Nanoseconds this thread has had a CPU: what other programs do at the same time does not count.
fn cpu() -> u64 {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok())
        .map_or(0, |pages| pages * 4096)
}
