//! Bodies for fuzzers; they must never panic. Replayed over the corpus by the test suite.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::{
    Collector, CollectorConfig, MediaType, Message, Profile, ReassemblyConfig, Source, WindowConfig,
};

/// The bytes as a datagram: what is read and can be written is written the same.
pub fn codec(data: &[u8]) {
    for profile in Profile::ALL {
        let Ok(message) = Message::decode(data, profile) else {
            continue;
        };
        let options: usize = message
            .options
            .iter()
            .map(|option| option.value.len() + 2)
            .sum();
        assert_eq!(options, message.options.as_bytes().len());
        let header = message.header;
        let private = match header.media_type {
            MediaType::Private(_) => message.private_encoding(),
            _ => None,
        };
        let mut out = Vec::new();
        if header.encode(private, message.payload, &mut out).is_err() {
            continue;
        }
        let again = Message::decode(&out, profile);
        let again = again.expect("what we write can be read");
        assert_eq!((again.header, again.payload), (header, message.payload));
    }
}

/// The bytes as a play: a byte that says who sends and how, one for the length, and what is sent. Bounds are kept, and every message is in
/// one counter.
pub fn machine(data: &[u8], mut now: Instant) {
    let config = CollectorConfig {
        profile: Profile::Draft26,
        window: WindowConfig {
            reorder: 64,
            forward: 1_000,
            restart_after: 2,
        },
        reassembly: ReassemblyConfig {
            max_messages: 4,
            ..ReassemblyConfig::default()
        },
        max_publishers: 4,
        max_publishers_per_source: 2,
        max_frame_bytes: 300,
    };
    let mut collector = Collector::new(config);
    let mut delivered = 0;
    let mut rest = data;
    while let Some((&[control, len], after)) = rest.split_first_chunk() {
        let (input, after) = after.split_at(usize::from(len).min(after.len()));
        rest = after;
        let source = Source {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, u16::from(control & 3))),
            session: u64::from(control >> 2 & 1),
        };
        if control & 0x10 != 0 {
            now += Duration::from_secs(4);
            collector.handle_timeout(now);
        }
        if control & 0x20 != 0 {
            collector.forget(source);
        }
        if control & 0x08 != 0 {
            collector.handle_record(now, source, input, |_| delivered += 1);
        } else if collector.handle_datagram(now, source, input).is_some() {
            delivered += 1;
        }
        let stats = collector.stats();
        assert!(stats.totals.pending <= 4);
        assert!(stats.publishers <= 4);
        assert_eq!(stats.totals.received, delivered);
        let known: u64 = collector
            .publishers()
            .map(|publisher| publisher.counters.pending)
            .sum();
        assert_eq!(known, stats.totals.pending);
    }
    collector.handle_timeout(now + Duration::from_secs(30));
    let stats = collector.stats();
    assert_eq!((stats.totals.pending, stats.reassembly_bytes), (0, 0));
}
