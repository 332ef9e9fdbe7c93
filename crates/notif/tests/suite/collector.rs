//! What a collector hands on and what it counts.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use homefleet_notif::{
    Collector, CollectorConfig, Counters, Delivery, Generation, Header, MediaType, Profile, Reason,
    ReassemblyConfig, Segments, Source, WindowConfig,
};
use proptest::prelude::*;

pub fn source(port: u16) -> Source {
    Source::plain(SocketAddr::from(([192, 0, 2, 1], port)))
}

pub fn header(publisher_id: u32, message_id: u32) -> Header {
    Header {
        generation: Generation::Draft26,
        media_type: MediaType::Json,
        publisher_id,
        message_id,
        segment: None,
    }
}

/// The datagrams of a message, each of at most `size` bytes.
pub fn datagrams(header: &Header, payload: &[u8], size: usize) -> Vec<Vec<u8>> {
    let segments = Segments::new(payload.len(), header.encoded_len(None), size).unwrap();
    segments
        .map(|(segment, range)| {
            let mut out = Vec::new();
            let header = Header { segment, ..*header };
            header.encode(None, &payload[range], &mut out).unwrap();
            out
        })
        .collect()
}

/// A message in one datagram.
pub fn one(publisher_id: u32, message_id: u32) -> Vec<u8> {
    datagrams(&header(publisher_id, message_id), b"{}", 1000).remove(0)
}

pub fn collector() -> Collector {
    Collector::new(CollectorConfig::default())
}

fn totals(collector: &Collector) -> Counters {
    collector.stats().totals
}

fn payload(len: usize) -> Vec<u8> {
    (0..len)
        .map(|n| u8::try_from(n * 31 % 251).unwrap())
        .collect()
}

/// Each ID that is accounted for.
fn accounted(counters: &Counters) -> u64 {
    counters.received
        + counters.refused
        + counters.incomplete
        + counters.pending
        + counters.lost
        + counters.missing
}

#[test]
fn whole_message_is_a_part_of_its_datagram() {
    let now = crate::now();
    let mut collector = collector();
    let datagram = one(3, 1);
    let delivery = collector
        .handle_datagram(now, source(1), &datagram)
        .unwrap();
    assert_eq!(delivery.header, header(3, 1));
    assert!(matches!(delivery.payload, Cow::Borrowed(b"{}")));
    assert_eq!(totals(&collector).received, 1);
    assert_eq!(totals(&collector).bytes, 2);
    assert_eq!(collector.stats().publishers, 1);
}

#[test]
fn segments_in_any_order_make_the_message() {
    let now = crate::now();
    let payload = payload(5_000);
    for order in [0, 1, 2] {
        let mut collector = collector();
        let mut segments = datagrams(&header(3, 1), &payload, 512);
        assert_eq!(segments.len(), 11);
        match order {
            0 => {}
            1 => segments.reverse(),
            _ => segments.swap(2, 9),
        }
        let last = segments.pop().unwrap();
        for segment in &segments {
            assert_eq!(collector.handle_datagram(now, source(1), segment), None);
        }
        assert_eq!(totals(&collector).pending, 1);
        let delivery = collector.handle_datagram(now, source(1), &last).unwrap();
        assert_eq!(delivery.payload, payload);
        assert_eq!(delivery.header, header(3, 1));
        assert_eq!(collector.stats().reassembly_bytes, 0);
        assert_eq!(collector.poll_timeout(), None);
        let totals = totals(&collector);
        assert_eq!(
            (totals.received, totals.segments, totals.pending),
            (1, 11, 0)
        );
    }
}

#[test]
fn message_of_96_kib_in_more_than_64_segments_is_taken_whatever_the_bounds() {
    let now = crate::now();
    let config = CollectorConfig {
        reassembly: ReassemblyConfig {
            max_bytes: 0,
            max_source_bytes: 0,
            max_messages: 0,
            max_segments: 0,
            max_message: 0,
            ..ReassemblyConfig::default()
        },
        ..CollectorConfig::default()
    };
    let mut collector = Collector::new(config);
    let payload = payload(96 * 1024);
    let segments = datagrams(&header(3, 1), &payload, 96 * 1024 / 64 + 16);
    assert_eq!(segments.len(), 64);
    let whole = segments
        .iter()
        .rev()
        .find_map(|segment| collector.handle_datagram(now, source(1), segment));
    assert_eq!(whole.unwrap().payload, payload);
}

#[test]
fn segment_32767_without_the_rest_holds_nothing() {
    let now = crate::now();
    let mut collector = collector();
    let mut datagram = datagrams(&header(3, 1), &payload(600), 512).remove(0);
    datagram[14] = 0xFF;
    datagram[15] = 0xFF;
    assert_eq!(collector.handle_datagram(now, source(1), &datagram), None);
    let stats = collector.stats();
    assert_eq!(stats.refused(Reason::Bounds), 1);
    assert_eq!((stats.reassembly_bytes, stats.totals.refused), (0, 1));
    // And of a message that was under way nothing stays.
    let segments = datagrams(&header(3, 2), &payload(2_000), 512);
    collector.handle_datagram(now, source(1), &segments[0]);
    datagram[11] = 2;
    datagram[15] = 0xFE;
    collector.handle_datagram(now, source(1), &datagram);
    let stats = collector.stats();
    assert_eq!((stats.reassembly_bytes, stats.totals.incomplete), (0, 1));
    for segment in &segments {
        assert_eq!(collector.handle_datagram(now, source(1), segment), None);
    }
    assert_eq!(totals(&collector).late_segments, 4 + 1);
}

#[test]
fn message_longer_than_allowed_is_given_up() {
    let now = crate::now();
    let config = CollectorConfig {
        reassembly: ReassemblyConfig {
            max_message: 100_000,
            ..ReassemblyConfig::default()
        },
        ..CollectorConfig::default()
    };
    let mut collector = Collector::new(config);
    for segment in datagrams(&header(3, 1), &payload(100_001), 50_016) {
        assert_eq!(collector.handle_datagram(now, source(1), &segment), None);
    }
    let stats = collector.stats();
    assert_eq!(stats.refused(Reason::Bounds), 1);
    assert_eq!((stats.totals.incomplete, stats.totals.pending), (1, 0));
}

#[test]
fn duplicate_and_contradicting_segments_are_dropped_and_counted() {
    let now = crate::now();
    let mut collector = collector();
    let payload = payload(1_200);
    let segments = datagrams(&header(3, 1), &payload, 512);
    assert_eq!(segments.len(), 3);
    collector.handle_datagram(now, source(1), &segments[0]);
    collector.handle_datagram(now, source(1), &segments[0]);
    assert_eq!(totals(&collector).duplicate_segments, 1);
    // Another content under the same number.
    let mut other = segments[0].clone();
    other[100] ^= 1;
    collector.handle_datagram(now, source(1), &other);
    // Another media type.
    let mut other = segments[1].clone();
    other[0] = 0x22;
    collector.handle_datagram(now, source(1), &other);
    collector.handle_datagram(now, source(1), &segments[2]);
    // Beyond the last one, and another last one.
    let mut other = segments[2].clone();
    other[15] = 3 << 1;
    collector.handle_datagram(now, source(1), &other);
    other[15] = 1 << 1 | 1;
    collector.handle_datagram(now, source(1), &other);
    assert_eq!(totals(&collector).overlapping_segments, 4);
    let whole = collector
        .handle_datagram(now, source(1), &segments[1])
        .unwrap();
    assert_eq!(whole.payload, payload);
    // After that they are late.
    assert_eq!(
        collector.handle_datagram(now, source(1), &segments[1]),
        None
    );
    assert_eq!(totals(&collector).late_segments, 1);
    assert_eq!(totals(&collector).duplicate, 0);
}

#[test]
fn two_sources_with_equal_ids_are_two() {
    let now = crate::now();
    let mut collector = collector();
    let a = datagrams(&header(3, 1), &[b'a'; 800], 512);
    let b = datagrams(&header(3, 1), &[b'b'; 800], 512);
    let publisher = datagrams(&header(4, 1), &[b'c'; 800], 512);
    let association = Source {
        session: 5,
        ..source(1)
    };
    for (from, segments) in [
        (source(1), &a),
        (source(2), &b),
        (source(1), &publisher),
        (association, &b),
    ] {
        assert_eq!(collector.handle_datagram(now, from, &segments[0]), None);
    }
    for (from, segments, byte) in [
        (source(1), &a, b'a'),
        (source(2), &b, b'b'),
        (source(1), &publisher, b'c'),
        (association, &b, b'b'),
    ] {
        let whole = collector.handle_datagram(now, from, &segments[1]).unwrap();
        assert_eq!(whole.payload, vec![byte; 800]);
    }
    assert_eq!(collector.stats().publishers, 4);
    assert_eq!(totals(&collector).duplicate, 0);
}

#[test]
fn incomplete_message_is_given_up_after_10_s_and_20_at_most() {
    for (asked, granted) in [(10, 10), (15, 15), (60, 20)] {
        let now = crate::now();
        let config = CollectorConfig {
            reassembly: ReassemblyConfig {
                timeout: Duration::from_secs(asked),
                ..ReassemblyConfig::default()
            },
            ..CollectorConfig::default()
        };
        let mut collector = Collector::new(config);
        let segments = datagrams(&header(3, 1), &payload(800), 512);
        collector.handle_datagram(now, source(1), &segments[0]);
        let due = now + Duration::from_secs(granted);
        assert_eq!(collector.poll_timeout(), Some(due));
        collector.handle_timeout(due - Duration::from_millis(1));
        assert_eq!(totals(&collector).pending, 1);
        collector.handle_timeout(due);
        let stats = collector.stats();
        assert_eq!((stats.timed_out, stats.reassembly_bytes), (1, 0));
        assert_eq!(
            (
                stats.totals.incomplete,
                stats.totals.pending,
                stats.totals.lost
            ),
            (1, 0, 0)
        );
        // A segment that comes now is too late, also when it makes the time known.
        assert_eq!(
            collector.handle_datagram(due, source(1), &segments[1]),
            None
        );
        assert_eq!(totals(&collector).late_segments, 1);
    }
    assert_eq!(ReassemblyConfig::default().timeout, Duration::from_secs(10));
}

#[test]
fn segment_that_comes_after_the_time_is_late_without_anybody_looking() {
    let now = crate::now();
    let mut collector = collector();
    let segments = datagrams(&header(3, 1), &payload(800), 512);
    collector.handle_datagram(now, source(1), &segments[0]);
    let late = now + Duration::from_secs(11);
    assert_eq!(
        collector.handle_datagram(late, source(1), &segments[1]),
        None
    );
    assert_eq!(collector.stats().timed_out, 1);
    assert_eq!(totals(&collector).late_segments, 1);
}

#[test]
fn source_that_fills_reassembly_starves_nobody_else() {
    let now = crate::now();
    let config = CollectorConfig {
        reassembly: ReassemblyConfig {
            max_bytes: 1 << 20,
            max_source_bytes: 1 << 20,
            max_messages: 100,
            max_message: 96 * 1024,
            ..ReassemblyConfig::default()
        },
        ..CollectorConfig::default()
    };
    let mut collector = Collector::new(config);
    let honest = datagrams(&header(1, 1), &payload(800), 512);
    assert_eq!(collector.handle_datagram(now, source(1), &honest[0]), None);
    for id in 0..5_000 {
        let segment = &datagrams(&header(9, id), &payload(40_000), 30_000)[0];
        assert_eq!(collector.handle_datagram(now, source(2), segment), None);
        assert!(collector.stats().reassembly_bytes <= 1 << 20);
    }
    let small = datagrams(&header(9, 0), &payload(20), 24);
    for id in 5_000..6_000 {
        let mut segment = small[0].clone();
        segment[8..12].copy_from_slice(&u32::to_be_bytes(id));
        assert_eq!(collector.handle_datagram(now, source(2), &segment), None);
        assert!(totals(&collector).pending <= 100);
    }
    assert!(collector.stats().crowded_out > 5_000);
    let whole = collector
        .handle_datagram(now, source(1), &honest[1])
        .unwrap();
    assert_eq!(whole.payload, payload(800));
    let stats = collector.stats();
    assert_eq!(accounted(&stats.totals), 6_001);
}

#[test]
fn bytes_are_bounded_for_one_source_and_for_all_of_them() {
    const BOUND: usize = 1 << 20;
    const MORE: usize = 64 << 20;
    for (max_source_bytes, max_bytes, sources) in [(BOUND, MORE, 1), (MORE, BOUND, 8)] {
        let now = crate::now();
        let mut collector = Collector::new(CollectorConfig {
            reassembly: ReassemblyConfig {
                max_bytes,
                max_source_bytes,
                max_message: 96 * 1024,
                ..ReassemblyConfig::default()
            },
            ..CollectorConfig::default()
        });
        for id in 0..400 {
            let segment = &datagrams(&header(9, id), &payload(40_000), 30_000)[0];
            let port = u16::try_from(id % sources).unwrap();
            collector.handle_datagram(now, source(port), segment);
            assert!(collector.stats().reassembly_bytes <= BOUND as u64);
        }
        let stats = collector.stats();
        assert!(stats.crowded_out > 300);
        assert_eq!(stats.totals.pending + stats.totals.incomplete, 400);
    }
}

#[test]
fn refused_segment_of_a_message_under_way_changes_nothing_of_it() {
    let now = crate::now();
    let mut collector = collector();
    let segments = datagrams(&header(3, 2), &payload(800), 512);
    collector.handle_datagram(now, source(1), &segments[0]);
    let before = totals(&collector);
    let refused = [0x21, 14, 0, 14, 0, 0, 0, 3, 0, 0, 0, 2, 9, 2];
    collector.handle_datagram(now, source(1), &refused);
    assert_eq!(totals(&collector), before);
    assert_eq!(collector.stats().refused(Reason::UnknownOption), 1);
    let whole = collector.handle_datagram(now, source(1), &segments[1]);
    assert_eq!(whole.unwrap().payload, payload(800));
}

#[test]
fn loss_is_claimed_from_09_on_only() {
    let now = crate::now();
    for profile in Profile::ALL {
        let mut collector = Collector::new(CollectorConfig {
            profile,
            ..CollectorConfig::default()
        });
        for id in [1, 2, 5] {
            collector.handle_datagram(now, source(1), &one(3, id));
        }
        let expected = if profile == Profile::Draft07 { 0 } else { 2 };
        assert_eq!(totals(&collector).missing, expected, "{profile:?}");
    }
    // Nor of version 0 and the legacy header.
    let mut collector = collector();
    for id in [1, 5] {
        collector.handle_datagram(now, source(1), &[1, 12, 0, 12, 0, 0, 0, 1, 0, 0, 0, id]);
        collector.handle_datagram(now, source(2), &[0, 2, 0, 12, 0, 0, 0, 1, 0, 0, 0, id]);
    }
    let totals = totals(&collector);
    assert_eq!((totals.received, totals.missing, totals.lost), (4, 0, 0));
    assert!(
        collector
            .publishers()
            .all(|publisher| !publisher.generation.counts_loss())
    );
}

#[test]
fn duplicates_and_messages_out_of_window_are_dropped_and_no_loss() {
    let now = crate::now();
    let mut collector = collector();
    assert!(
        collector
            .handle_datagram(now, source(1), &one(3, 1_000_000))
            .is_some()
    );
    assert!(
        collector
            .handle_datagram(now, source(1), &one(3, 1_000_000))
            .is_none()
    );
    assert!(
        collector
            .handle_datagram(now, source(1), &one(3, 500))
            .is_none()
    );
    assert!(
        collector
            .handle_datagram(now, source(1), &one(3, 4_000_000))
            .is_none()
    );
    let totals = totals(&collector);
    assert_eq!(
        (totals.received, totals.duplicate, totals.out_of_window),
        (1, 1, 2)
    );
    assert_eq!((totals.lost, totals.missing), (0, 0));
}

#[test]
fn message_that_is_refused_is_no_loss() {
    let now = crate::now();
    let mut collector = collector();
    collector.handle_datagram(now, source(1), &one(3, 1));
    // An option nobody knows, a media type nobody has assigned, an option of length 0.
    collector.handle_datagram(
        now,
        source(1),
        &[0x21, 14, 0, 14, 0, 0, 0, 3, 0, 0, 0, 2, 9, 2],
    );
    collector.handle_datagram(now, source(1), &[0x20, 12, 0, 12, 0, 0, 0, 3, 0, 0, 0, 3]);
    collector.handle_datagram(
        now,
        source(1),
        &[0x21, 14, 0, 14, 0, 0, 0, 3, 0, 0, 0, 4, 9, 0],
    );
    collector.handle_datagram(now, source(1), &one(3, 5));
    let stats = collector.stats();
    assert_eq!(stats.refused(Reason::UnknownOption), 1);
    assert_eq!(stats.refused(Reason::MediaType), 1);
    assert_eq!(stats.refused(Reason::OptionLength), 1);
    let totals = stats.totals;
    assert_eq!((totals.received, totals.refused, totals.missing), (2, 3, 0));
}

#[test]
fn bad_input_is_counted_by_reason_and_changes_nothing_else() {
    let now = crate::now();
    let mut collector = collector();
    let first = datagrams(&header(3, 2), &payload(800), 512);
    collector.handle_datagram(now, source(1), &one(3, 1));
    collector.handle_datagram(now, source(1), &first[0]);
    let before = collector.stats();
    let good = one(3, 9);
    let bad: [(&[u8], Reason); 7] = [
        (&[], Reason::TooShort),
        (&[0x21, 12, 0, 4], Reason::TooShort),
        (&[0x41, 12, 0, 12, 0, 0, 0, 3, 0, 0, 0, 9], Reason::Version),
        (
            &[0x08, 2, 0, 12, 0, 0, 0, 3, 0, 0, 0, 9],
            Reason::LegacyFlags,
        ),
        (
            &[0x21, 200, 0, 12, 0, 0, 0, 3, 0, 0, 0, 9],
            Reason::HeaderLength,
        ),
        (
            &[0x21, 12, 1, 0, 0, 0, 0, 3, 0, 0, 0, 9],
            Reason::MessageBeyondDatagram,
        ),
        (&[good.as_slice(), b"x"].concat(), Reason::TrailingBytes),
    ];
    for (datagram, reason) in bad {
        let refused = collector.stats().refused(reason);
        assert_eq!(collector.handle_datagram(now, source(1), datagram), None);
        assert_eq!(collector.stats().refused(reason), refused + 1, "{reason:?}");
    }
    let stats = collector.stats();
    assert_eq!(stats.all_refused(), 7);
    assert_eq!(stats.totals, before.totals);
    assert_eq!(stats.reassembly_bytes, before.reassembly_bytes);
    assert_eq!(stats.publishers, 1);
    let whole = collector
        .handle_datagram(now, source(1), &first[1])
        .unwrap();
    assert_eq!(whole.payload, payload(800));
}

#[test]
fn private_encoding_comes_with_the_first_segment() {
    let now = crate::now();
    let mut collector = Collector::new(CollectorConfig {
        profile: Profile::Draft09,
        ..CollectorConfig::default()
    });
    let header = Header {
        generation: Generation::Draft09,
        media_type: MediaType::Private(2),
        ..header(3, 1)
    };
    let segment = |number, last| Header {
        segment: Some(homefleet_notif::Segment { number, last }),
        ..header
    };
    let mut second = Vec::new();
    segment(1, true).encode(None, b"b", &mut second).unwrap();
    assert_eq!(collector.handle_datagram(now, source(1), &second), None);
    let mut first = Vec::new();
    segment(0, false)
        .encode(Some(b"thrift"), b"a", &mut first)
        .unwrap();
    let expected = Delivery {
        header,
        private_encoding: Some(Cow::Borrowed(&b"thrift"[..])),
        payload: Cow::Borrowed(b"ab"),
    };
    assert_eq!(
        collector.handle_datagram(now, source(1), &first),
        Some(expected)
    );
}

#[test]
fn publishers_are_bounded_and_who_speaks_stays() {
    let now = crate::now();
    let mut collector = Collector::new(CollectorConfig {
        max_publishers: 10,
        ..CollectorConfig::default()
    });
    let segments = datagrams(&header(3, 1), &payload(800), 512);
    collector.handle_datagram(now, source(7), &segments[0]);
    for port in 1_000..2_000 {
        let at = now + Duration::from_millis(port.into());
        collector.handle_datagram(at, source(1), &one(3, port.into()));
        collector.handle_datagram(at, source(port), &one(3, 1));
        assert!(collector.stats().publishers <= 10);
    }
    let stats = collector.stats();
    assert_eq!(stats.publishers_evicted, 1_002 - 10);
    assert_eq!(stats.totals.received, 2_000);
    // What the forgotten one had begun is given up and accounted for.
    assert_eq!((stats.totals.incomplete, stats.totals.pending), (1, 0));
    let stays = collector
        .publishers()
        .find(|publisher| publisher.source == source(1))
        .unwrap();
    assert_eq!(stays.counters.received, 1_000);
}

#[test]
fn publisher_ids_of_one_source_are_bounded() {
    let now = crate::now();
    let mut collector = Collector::new(CollectorConfig {
        max_publishers_per_source: 4,
        ..CollectorConfig::default()
    });
    for publisher_id in 0..100 {
        let at = now + Duration::from_millis(publisher_id.into());
        let segments = datagrams(&header(publisher_id, 1), &payload(800), 512);
        collector.handle_datagram(at, source(1), &segments[0]);
        collector.handle_datagram(at, source(1), &one(publisher_id, 3));
    }
    let stats = collector.stats();
    assert_eq!((stats.publishers, stats.publishers_evicted), (4, 96));
    let totals = stats.totals;
    assert_eq!(
        (totals.received, totals.pending, totals.incomplete),
        (100, 4, 96)
    );
    assert_eq!((totals.missing, totals.lost), (4, 96));
}

#[test]
fn forgotten_source_begins_anew_and_stays_counted() {
    let now = crate::now();
    let mut collector = collector();
    let segments = datagrams(&header(3, 4), &payload(800), 512);
    collector.handle_datagram(now, source(1), &one(3, 1));
    collector.handle_datagram(now, source(1), &segments[0]);
    collector.forget(source(1));
    let stats = collector.stats();
    assert_eq!((stats.publishers, stats.reassembly_bytes), (0, 0));
    assert_eq!(
        (
            stats.totals.received,
            stats.totals.incomplete,
            stats.totals.lost
        ),
        (1, 1, 2)
    );
    assert!(
        collector
            .handle_datagram(now, source(1), &one(3, 1))
            .is_some()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any loss, repetition and order of datagrams, segmented or not: every ID between the first and the highest is in exactly one counter,
    /// every datagram too, and what comes out is what was sent, once.
    #[test]
    fn counts_are_conserved(
        start: u32,
        sizes in proptest::collection::vec(0..3_000_usize, 1..60),
        copies in proptest::collection::vec((0..3_u8, any::<u16>()), 60 * 8),
    ) {
        let mut now = crate::now();
        let config = CollectorConfig {
            window: WindowConfig { restart_after: u32::MAX, ..WindowConfig::default() },
            ..CollectorConfig::default()
        };
        let mut collector = Collector::new(config);
        let mut sent: Vec<(u16, usize, Vec<u8>)> = Vec::new();
        let mut fates = copies.iter().cycle();
        for (index, size) in sizes.iter().enumerate() {
            let id = start.wrapping_add(u32::try_from(index).unwrap());
            for datagram in datagrams(&header(3, id), &payload(*size), 512) {
                let (copies, place) = fates.next().unwrap();
                for copy in 0..u16::from(*copies) {
                    sent.push((place.wrapping_mul(copy * 2 + 1), index, datagram.clone()));
                }
            }
        }
        sent.sort();
        let mut first = usize::MAX;
        let mut highest = 0;
        let mut delivered = std::collections::BTreeSet::new();
        for (_, index, datagram) in &sent {
            now += Duration::from_millis(20);
            first = first.min(*index);
            highest = highest.max(*index);
            if let Some(delivery) = collector.handle_datagram(now, source(1), datagram) {
                prop_assert_eq!(&*delivery.payload, payload(sizes[*index]));
                prop_assert!(delivered.insert(*index));
            }
            let totals = totals(&collector);
            prop_assert_eq!(accounted(&totals), (highest - first + 1) as u64);
        }
        let totals = totals(&collector);
        prop_assert_eq!(totals.received, delivered.len() as u64);
        let unsegmented = sent.iter().filter(|(_, index, _)| sizes[*index] <= 500);
        prop_assert_eq!(
            sent.len() as u64,
            totals.segments + totals.duplicate_segments + totals.overlapping_segments
                + totals.late_segments + unsegmented.count() as u64
        );
        collector.handle_timeout(now + Duration::from_secs(30));
        let stats = collector.stats();
        prop_assert_eq!(stats.totals.pending, 0);
        prop_assert_eq!(stats.reassembly_bytes, 0);
        if !sent.is_empty() {
            prop_assert_eq!(accounted(&stats.totals), (highest - first + 1) as u64);
        }
    }
}
