//! The publisher's machine: Message IDs, segments, frames, pace, what waits and what is dropped, each datagram read back.

use std::time::{Duration, Instant};

use homefleet_notif::publisher::{
    Config, Dropped, Framing, MIN_ROOM, MessageIds, Pacing, PublishError, Publisher,
    default_framing,
};
use homefleet_notif::{EncodeError, Generation, MediaType, Message, Profile};
use proptest::prelude::*;

fn config(generation: Generation) -> Config {
    Config {
        pacing: None,
        ..Config::new(generation, 7, MediaType::Json)
    }
}

/// A publisher whose receiver is there.
fn ready(config: Config) -> Publisher {
    let ids = MessageIds::new(config.generation, 5);
    let mut publisher = Publisher::new(config, ids).unwrap();
    publisher.set_ready(true);
    publisher
}

/// All datagrams there are now, each of which leaves.
fn drain(publisher: &mut Publisher, now: Instant) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| {
        let datagram = publisher.poll_transmit(now)?;
        publisher.confirm();
        Some(datagram)
    })
    .collect()
}

fn profile(generation: Generation) -> Profile {
    Profile::from_name(generation.name()).unwrap_or_default()
}

/// ID, segment number and last flag, and payload of a datagram.
fn read(datagram: &[u8], generation: Generation) -> (u32, Option<(u16, bool)>, Vec<u8>) {
    let message = Message::decode(datagram, profile(generation)).unwrap();
    assert_eq!(message.header.publisher_id, 7);
    (
        message.header.message_id,
        message
            .header
            .segment
            .map(|segment| (segment.number, segment.last)),
        message.payload.to_vec(),
    )
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 251) as u8).collect()
}

#[test]
fn message_ids_start_as_the_generation_says_and_wrap_to_zero() {
    for (generation, first) in [
        (Generation::Draft03, 1),
        (Generation::Draft09, 1),
        (Generation::Draft19, 1),
        (Generation::Draft26, u32::MAX - 1),
    ] {
        let ids = MessageIds::new(generation, u32::MAX - 1);
        let mut publisher = Publisher::new(config(generation), ids).unwrap();
        publisher.set_ready(true);
        for _ in 0..3 {
            publisher.publish(*b"{}").unwrap();
        }
        let found: Vec<u32> = drain(&mut publisher, Instant::now())
            .iter()
            .map(|datagram| read(datagram, generation).0)
            .collect();
        let next = |by: u32| first.wrapping_add(by);
        assert_eq!(found, [next(0), next(1), next(2)], "{generation}");
    }
}

#[test]
fn receivers_share_one_sequence_up_to_08_and_only_up_to_then() {
    for generation in Generation::ALL {
        let shared = generation < Generation::Draft09;
        assert_eq!(MessageIds::are_shared(generation), shared, "{generation}");
    }
    let ids = MessageIds::new(Generation::Draft07, 0);
    let mut all = Vec::new();
    let mut receivers: Vec<Publisher> = (0..2)
        .map(|_| Publisher::new(config(Generation::Draft07), ids.clone()).unwrap())
        .collect();
    for receiver in &mut receivers {
        receiver.set_ready(true);
    }
    for _ in 0..2 {
        for receiver in &mut receivers {
            receiver.publish(*b"1").unwrap();
            let sent = drain(receiver, Instant::now());
            all.push(read(&sent[0], Generation::Draft07).0);
        }
    }
    assert_eq!(all, [1, 2, 3, 4]);
}

#[test]
fn a_message_that_fits_has_no_segmentation_option_and_one_byte_more_has() {
    let mut publisher = ready(config(Generation::Draft26));
    publisher.set_room(500);
    publisher.publish(bytes(488)).unwrap();
    publisher.publish(bytes(489)).unwrap();
    let sent = drain(&mut publisher, Instant::now());
    assert_eq!(sent[0].len(), 500);
    assert_eq!(read(&sent[0], Generation::Draft26), (5, None, bytes(488)));
    assert_eq!(sent[1].len(), 500, "a segment is as long as there is room");
    let (id, segment, first) = read(&sent[1], Generation::Draft26);
    assert_eq!((id, segment), (6, Some((0, false))));
    let (id, segment, rest) = read(&sent[2], Generation::Draft26);
    assert_eq!((id, segment), (6, Some((1, true))));
    assert_eq!([first, rest].concat(), bytes(489));
    assert_eq!(sent.len(), 3);
    let stats = publisher.stats();
    assert_eq!((stats.sent, stats.datagrams, stats.segments), (2, 3, 2));
}

#[test]
fn max_segment_size_counts_the_header_and_bounds_every_segment() {
    let mut publisher = ready(Config {
        max_segment_size: 400,
        ..config(Generation::Draft19)
    });
    publisher.set_room(1400);
    publisher.publish(bytes(3000)).unwrap();
    let sent = drain(&mut publisher, Instant::now());
    assert!(sent.iter().all(|datagram| datagram.len() <= 400));
    assert_eq!(sent.len(), 3000usize.div_ceil(400 - 16));
}

#[test]
fn ninety_six_kilobytes_leave_at_the_least_mtu_of_ipv6() {
    let mut publisher = ready(config(Generation::Draft26));
    publisher.set_room(1232);
    publisher.publish(bytes(98_304)).unwrap();
    let sent = drain(&mut publisher, Instant::now());
    let whole: Vec<u8> = sent
        .iter()
        .flat_map(|datagram| read(datagram, Generation::Draft26).2)
        .collect();
    assert_eq!(whole, bytes(98_304));
    assert!(sent.len() >= 64);
    let error = publisher.publish(bytes(98_305)).unwrap_err();
    assert_eq!(
        error,
        PublishError::TooLarge {
            len: 98_305,
            max: 98_304
        }
    );
    assert_eq!(publisher.stats().too_large, 1);
}

#[test]
fn without_segmentation_what_does_not_fit_is_refused_and_never_cut() {
    let mut publisher = ready(Config {
        segmentation: false,
        ..config(Generation::Draft26)
    });
    publisher.set_room(1000);
    assert_eq!(
        publisher.publish(bytes(989)),
        Err(PublishError::TooLarge { len: 989, max: 988 })
    );
    publisher.publish(bytes(988)).unwrap();
    publisher.publish(bytes(10)).unwrap();
    // The path becomes narrower before it leaves.
    publisher.set_room(900);
    let sent = drain(&mut publisher, Instant::now());
    assert_eq!(sent.len(), 1);
    let (id, segment, payload) = read(&sent[0], Generation::Draft26);
    assert_eq!(
        (id, segment, payload),
        (5, None, bytes(10)),
        "no ID was used up"
    );
    let stats = publisher.stats();
    assert_eq!((stats.offered, stats.too_large, stats.sent), (3, 2, 1));
}

#[test]
fn the_private_encoding_option_follows_the_segmentation_option_on_the_first_segment() {
    let mut publisher = ready(Config {
        media_type: MediaType::Private(9),
        private_encoding: Some("avro".to_owned()),
        ..config(Generation::Draft09)
    });
    publisher.set_room(MIN_ROOM);
    publisher.publish(bytes(500)).unwrap();
    let sent = drain(&mut publisher, Instant::now());
    let first = Message::decode(&sent[0], Profile::Draft09).unwrap();
    let kinds: Vec<u8> = first.options.iter().map(|option| option.kind).collect();
    assert_eq!(kinds, [1, 2]);
    assert_eq!(first.private_encoding(), Some(b"avro".as_slice()));
    assert_eq!(first.header.media_type, MediaType::Private(9));
    let second = Message::decode(&sent[1], Profile::Draft09).unwrap();
    assert_eq!(second.private_encoding(), None);
    assert_eq!([first.payload, second.payload].concat(), bytes(500));
}

#[test]
fn what_a_generation_cannot_say_is_refused_at_the_start() {
    let refused = |config: Config| {
        let ids = MessageIds::starting_at(0);
        Publisher::new(config, ids).map(drop).unwrap_err()
    };
    assert_eq!(
        refused(config(Generation::PubChannel)),
        EncodeError::NotPublishable(Generation::PubChannel)
    );
    assert_eq!(
        refused(Config {
            media_type: MediaType::Private(1),
            private_encoding: Some("avro".to_owned()),
            ..config(Generation::Draft19)
        }),
        EncodeError::PrivateEncoding(Generation::Draft19)
    );
    assert_eq!(
        refused(Config {
            media_type: MediaType::Gpb,
            ..config(Generation::Draft26)
        }),
        EncodeError::MediaType {
            generation: Generation::Draft26,
            media_type: MediaType::Gpb
        }
    );
    assert_eq!(
        refused(Config {
            media_type: MediaType::Private(1),
            private_encoding: Some("x".repeat(238)),
            ..config(Generation::Draft09)
        }),
        EncodeError::OptionTooLong(238)
    );
}

#[test]
fn each_generation_writes_its_version_and_media_type() {
    for (generation, media_type, first) in [
        (Generation::Draft03, MediaType::Cbor, 0x00),
        (Generation::Draft03, MediaType::Xml, 0x02),
        (Generation::Draft04, MediaType::Cbor, 0x03),
        (Generation::Draft07, MediaType::Json, 0x21),
        (Generation::Draft26, MediaType::Cbor, 0x23),
        (Generation::Draft26, MediaType::Private(12), 0x3C),
    ] {
        let mut publisher = ready(Config {
            media_type,
            ..config(generation)
        });
        publisher.publish(*b"x").unwrap();
        let sent = drain(&mut publisher, Instant::now());
        assert_eq!(sent[0][0], first, "{generation} {media_type}");
    }
}

#[test]
fn frames_share_a_record_until_it_is_full_and_segments_have_their_own() {
    assert_eq!(default_framing(Generation::Draft26), Framing::Bare);
    let mut publisher = ready(Config {
        framing: default_framing(Generation::Draft03),
        ..config(Generation::Draft03)
    });
    publisher.set_room(400);
    for len in [100, 100, 100, 1000] {
        publisher.publish(bytes(len)).unwrap();
    }
    let records = drain(&mut publisher, Instant::now());
    let frames: Vec<Vec<_>> = records
        .iter()
        .map(|record| {
            assert!(record.len() <= 400, "{}", record.len());
            let mut rest = record.as_slice();
            let mut frames = Vec::new();
            while !rest.is_empty() {
                let space = rest.iter().position(|byte| *byte == b' ').unwrap();
                let digits = std::str::from_utf8(&rest[..space]).unwrap();
                assert!(!digits.starts_with('0'));
                let len: usize = digits.parse().unwrap();
                let (frame, next) = rest[space + 1..].split_at(len);
                let (id, segment, payload) = read(frame, Generation::Draft03);
                frames.push((id, segment, payload.len()));
                rest = next;
            }
            frames
        })
        .collect();
    assert_eq!(
        frames,
        [
            vec![(1, None, 100), (2, None, 100), (3, None, 100)],
            vec![(4, Some((0, false)), 378)],
            vec![(4, Some((1, false)), 378)],
            vec![(4, Some((2, true)), 244)],
        ]
    );
}

#[test]
fn nothing_leaves_before_the_receiver_is_there() {
    let ids = MessageIds::new(Generation::Draft26, 0);
    let mut publisher = Publisher::new(config(Generation::Draft26), ids).unwrap();
    publisher.publish(*b"1").unwrap();
    let now = Instant::now();
    assert_eq!(publisher.poll_transmit(now), None);
    assert_eq!(publisher.poll_timeout(now), None);
    publisher.set_ready(true);
    assert_eq!(publisher.poll_timeout(now), Some(now));
    assert_eq!(drain(&mut publisher, now).len(), 1);
    publisher.publish(*b"2").unwrap();
    publisher.set_ready(false);
    assert_eq!(publisher.poll_transmit(now), None);
    assert_eq!(publisher.waiting(), 1);
}

#[test]
fn while_the_receiver_is_away_the_oldest_or_the_newest_go_and_are_counted() {
    for (dropped, kept) in [
        (Dropped::Oldest, [b"3", b"4"]),
        (Dropped::Newest, [b"1", b"2"]),
    ] {
        let ids = MessageIds::new(Generation::Draft26, 9);
        let config = Config {
            max_waiting: 2,
            dropped,
            ..config(Generation::Draft26)
        };
        let mut publisher = Publisher::new(config, ids).unwrap();
        let mut errors = 0;
        for message in [*b"1", *b"2", *b"3", *b"4"] {
            if publisher.publish(message) == Err(PublishError::Away) {
                errors += 1;
            }
        }
        assert_eq!(errors, if dropped == Dropped::Newest { 2 } else { 0 });
        publisher.set_ready(true);
        let sent: Vec<_> = drain(&mut publisher, Instant::now())
            .iter()
            .map(|datagram| read(datagram, Generation::Draft26))
            .collect();
        let expected = [(9, None, kept[0].to_vec()), (10, None, kept[1].to_vec())];
        assert_eq!(sent, expected, "what is dropped uses up no ID");
        let stats = publisher.stats();
        assert_eq!((stats.offered, stats.dropped_away, stats.sent), (4, 2, 2));
    }
}

#[test]
fn bytes_that_wait_are_bounded_too() {
    let ids = MessageIds::new(Generation::Draft26, 9);
    let config = Config {
        max_message: 1000,
        max_waiting_bytes: 2500,
        dropped: Dropped::Newest,
        ..config(Generation::Draft26)
    };
    let mut publisher = Publisher::new(config, ids).unwrap();
    publisher.publish(bytes(1000)).unwrap();
    publisher.publish(bytes(1000)).unwrap();
    assert_eq!(publisher.publish(bytes(501)), Err(PublishError::Away));
    publisher.publish(bytes(500)).unwrap();
}

#[test]
fn a_message_that_has_begun_to_leave_is_not_dropped() {
    let mut publisher = ready(Config {
        max_waiting: 2,
        ..config(Generation::Draft26)
    });
    let now = Instant::now();
    publisher.set_room(MIN_ROOM);
    publisher.publish(bytes(1000)).unwrap();
    publisher.publish(*b"2").unwrap();
    let _first = publisher.poll_transmit(now).unwrap();
    publisher.confirm();
    publisher.publish(*b"3").unwrap();
    let sent = drain(&mut publisher, now);
    assert_eq!(read(&sent[0], Generation::Draft26).1, Some((1, false)));
    let last = read(sent.last().unwrap(), Generation::Draft26);
    assert_eq!(last, (6, None, b"3".to_vec()));
    assert_eq!(publisher.stats().dropped_paced, 1);
}

#[test]
fn the_pace_lets_a_burst_go_and_then_so_many_per_second() {
    let mut publisher = ready(Config {
        pacing: Some(Pacing {
            messages_per_second: 10,
            message_burst: 3,
            ..Pacing::default()
        }),
        ..config(Generation::Draft26)
    });
    for _ in 0..10 {
        publisher.publish(*b"x").unwrap();
    }
    let start = Instant::now();
    assert_eq!(drain(&mut publisher, start).len(), 3);
    let next = publisher.poll_timeout(start).unwrap();
    assert_eq!(next, start + Duration::from_millis(100));
    assert_eq!(
        drain(&mut publisher, next - Duration::from_millis(1)).len(),
        0
    );
    assert_eq!(drain(&mut publisher, next).len(), 1);
    assert_eq!(
        drain(&mut publisher, next + Duration::from_secs(60)).len(),
        3
    );
    assert_eq!(publisher.waiting(), 3);
}

#[test]
fn the_pace_of_bytes_holds_segments_back_and_none_of_a_message_is_lost() {
    let mut publisher = ready(Config {
        pacing: Some(Pacing {
            bytes_per_second: 10_000,
            byte_burst: 1000,
            ..Pacing::default()
        }),
        ..config(Generation::Draft26)
    });
    publisher.set_room(1000);
    publisher.publish(bytes(10_000)).unwrap();
    let start = Instant::now();
    let mut now = start;
    let mut whole = Vec::new();
    while publisher.waiting() > 0 {
        for datagram in drain(&mut publisher, now) {
            whole.extend(read(&datagram, Generation::Draft26).2);
        }
        now = publisher.poll_timeout(now).unwrap_or(now);
    }
    assert_eq!(whole, bytes(10_000));
    let took = now - start;
    assert!(took >= Duration::from_millis(900), "{took:?}");
}

#[test]
fn more_than_the_pace_lets_go_is_dropped_and_counted_as_that() {
    let mut publisher = ready(Config {
        max_waiting: 4,
        dropped: Dropped::Newest,
        pacing: Some(Pacing {
            messages_per_second: 1,
            message_burst: 1,
            ..Pacing::default()
        }),
        ..config(Generation::Draft26)
    });
    let now = Instant::now();
    for _ in 0..4 {
        publisher.publish(*b"x").unwrap();
    }
    assert_eq!(drain(&mut publisher, now).len(), 1);
    publisher.publish(*b"x").unwrap();
    assert_eq!(publisher.publish(*b"x"), Err(PublishError::Paced));
    let stats = publisher.stats();
    assert_eq!((stats.offered, stats.sent, stats.dropped_paced), (6, 1, 1));
    assert_eq!(publisher.waiting(), 4);
}

#[test]
fn on_a_narrower_path_the_rest_is_cut_smaller_with_the_same_id() {
    let mut publisher = ready(config(Generation::Draft26));
    publisher.set_room(1400);
    publisher.publish(bytes(5000)).unwrap();
    publisher.publish(bytes(1000)).unwrap();
    let now = Instant::now();
    let first = publisher.poll_transmit(now).unwrap();
    publisher.confirm();
    while publisher.poll_transmit(now).is_some() {}
    assert_eq!(publisher.outstanding(), 4);
    publisher.set_room(600);
    publisher.take_back();
    assert_eq!(publisher.outstanding(), 0);
    let mut sent = vec![first];
    sent.extend(drain(&mut publisher, now));
    let read: Vec<_> = sent
        .iter()
        .map(|datagram| read(datagram, Generation::Draft26))
        .collect();
    let (large, small): (Vec<_>, Vec<_>) = read.into_iter().partition(|(id, ..)| *id == 5);
    let numbers: Vec<u16> = large
        .iter()
        .map(|(_, segment, _)| segment.unwrap().0)
        .collect();
    let expected: Vec<u16> = (0..large.len() as u16).collect();
    assert_eq!(numbers, expected);
    let whole: Vec<u8> = large
        .into_iter()
        .flat_map(|(_, _, payload)| payload)
        .collect();
    assert_eq!(whole, bytes(5000));
    // The second fitted before, and is cut now.
    assert!(
        small
            .iter()
            .all(|(id, segment, _)| *id == 6 && segment.is_some())
    );
    let whole: Vec<u8> = small
        .into_iter()
        .flat_map(|(_, _, payload)| payload)
        .collect();
    assert_eq!(whole, bytes(1000));
    let stats = publisher.stats();
    assert_eq!((stats.sent, stats.failed, stats.recut), (2, 0, 1));
}

#[test]
fn a_message_of_which_a_segment_was_refused_has_failed() {
    let mut publisher = ready(config(Generation::Draft26));
    publisher.set_room(500);
    publisher.publish(bytes(1200)).unwrap();
    publisher.publish(*b"x").unwrap();
    let now = Instant::now();
    for number in 0.. {
        if publisher.poll_transmit(now).is_none() {
            break;
        }
        if number == 1 {
            publisher.fail();
        } else {
            publisher.confirm();
        }
    }
    let stats = publisher.stats();
    assert_eq!((stats.sent, stats.failed, stats.segments), (1, 1, 2));
    assert_eq!(publisher.waiting(), 0);
}

#[test]
fn what_is_given_up_is_counted() {
    let mut publisher = ready(config(Generation::Draft26));
    publisher.set_room(500);
    publisher.publish(bytes(1200)).unwrap();
    publisher.publish(*b"x").unwrap();
    publisher.poll_transmit(Instant::now()).unwrap();
    publisher.confirm();
    publisher.abandon();
    let stats = publisher.stats();
    assert_eq!((stats.offered, stats.failed, stats.dropped_away), (2, 1, 1));
    // It can go on.
    publisher.publish(*b"y").unwrap();
    let sent = drain(&mut publisher, Instant::now());
    assert_eq!(
        read(&sent[0], Generation::Draft26),
        (6, None, b"y".to_vec())
    );
}

proptest! {
    #[test]
    fn whatever_happens_every_message_is_accounted_for_and_those_sent_are_whole(
        steps in prop::collection::vec((0u8..8, 0usize..3000), 1..120),
        oldest in any::<bool>(),
        framed in any::<bool>(),
    ) {
        let framing = if framed { Framing::Framed { share: true } } else { Framing::Bare };
        let mut publisher = ready(Config {
            max_message: 2500,
            max_waiting: 8,
            framing,
            dropped: if oldest { Dropped::Oldest } else { Dropped::Newest },
            pacing: Some(Pacing { messages_per_second: 5, message_burst: 4, bytes_per_second: 5000, byte_burst: 2000 }),
            ..config(Generation::Draft26)
        });
        let mut now = Instant::now();
        let mut handed = std::collections::VecDeque::new();
        let mut left = Vec::new();
        for (step, size) in steps {
            match step {
                0 | 1 => { let _taken = publisher.publish(bytes(size)); }
                2 | 3 => {
                    if let Some(datagram) = publisher.poll_transmit(now) {
                        prop_assert!(datagram.len() <= publisher.room());
                        handed.push_back(datagram);
                    }
                }
                4 => { publisher.confirm(); left.extend(handed.pop_front()); }
                5 => { publisher.fail(); handed.pop_front(); }
                6 => { publisher.set_room(size); publisher.take_back(); handed.clear(); }
                _ => { publisher.set_ready(size % 3 > 0); now += Duration::from_millis(size as u64); }
            }
            let stats = publisher.stats();
            let known = stats.sent + stats.failed + stats.dropped_away + stats.dropped_paced + stats.too_large;
            prop_assert_eq!(stats.offered, known + publisher.waiting() as u64);
        }
        let mut whole = std::collections::BTreeMap::<u32, (Vec<u8>, bool)>::new();
        for datagram in left {
            let mut rest = datagram.as_slice();
            while !rest.is_empty() {
                let message;
                if framed {
                    let space = rest.iter().position(|byte| *byte == b' ').unwrap();
                    let len: usize = std::str::from_utf8(&rest[..space]).unwrap().parse().unwrap();
                    (message, rest) = rest[space + 1..].split_at(len);
                } else {
                    (message, rest) = (rest, &[]);
                }
                let (id, segment, payload) = read(message, Generation::Draft26);
                let entry = whole.entry(id).or_default();
                entry.0.extend(payload);
                entry.1 |= segment.is_none_or(|(_, last)| last);
            }
        }
        let sent = whole.values().filter(|(payload, last)| *last && *payload == bytes(payload.len())).count() as u64;
        prop_assert!(sent >= publisher.stats().sent);
    }
}
