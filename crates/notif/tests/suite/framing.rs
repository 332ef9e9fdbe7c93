//! Messages in DTLS records: framed up to -25, bare in -26.

use homefleet_notif::{Collector, CollectorConfig, Header, MediaType, Reason};
use proptest::prelude::*;

use crate::collector::{collector, datagrams, header, one, source};

fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = format!("{} ", message.len()).into_bytes();
    frame.extend_from_slice(message);
    frame
}

/// A message with so many bytes of payload.
fn message(message_id: u32, len: usize) -> Vec<u8> {
    datagrams(&header(3, message_id), &vec![b'1'; len], 65_535).remove(0)
}

/// The IDs that come out of these records.
fn ids(collector: &mut Collector, records: &[&[u8]]) -> Vec<u32> {
    let mut ids = Vec::new();
    for record in records {
        collector.handle_record(crate::now(), source(1), record, |delivery| {
            ids.push(delivery.header.message_id);
        });
    }
    ids
}

#[test]
fn bare_record_is_one_message() {
    let mut collector = collector();
    assert_eq!(ids(&mut collector, &[&one(3, 1), &one(3, 2)]), [1, 2]);
    let stats = collector.stats();
    assert_eq!((stats.bare_records, stats.framed_records), (2, 0));
    // Two in one record are none in -26.
    let two = [one(3, 3), one(3, 4)].concat();
    assert_eq!(ids(&mut collector, &[&two]), [0_u32; 0]);
    assert_eq!(collector.stats().refused(Reason::TrailingBytes), 1);
}

#[test]
fn record_holds_several_frames() {
    let mut collector = collector();
    let record = [
        framed(&one(3, 1)),
        framed(&message(2, 300)),
        framed(&one(3, 3)),
    ]
    .concat();
    assert_eq!(ids(&mut collector, &[&record]), [1, 2, 3]);
    let stats = collector.stats();
    assert_eq!(
        (stats.bare_records, stats.framed_records, stats.messages),
        (0, 1, 3)
    );
}

#[test]
fn frame_goes_on_in_the_next_record_wherever_it_is_cut() {
    let frames = [
        framed(&one(3, 1)),
        framed(&message(2, 300)),
        framed(&one(3, 3)),
    ]
    .concat();
    for cut in 1..frames.len() {
        let mut collector = collector();
        let (first, second) = frames.split_at(cut);
        assert_eq!(
            ids(&mut collector, &[first, second]),
            [1, 2, 3],
            "cut at {cut}"
        );
        assert_eq!(collector.stats().all_refused(), 0);
    }
}

#[test]
fn frame_goes_on_over_many_records() {
    let mut collector = collector();
    let frames = framed(&message(1, 60_000));
    let records: Vec<&[u8]> = frames.chunks(1000).collect();
    assert_eq!(ids(&mut collector, &records), [1]);
    assert_eq!(collector.stats().framed_records, records.len() as u64);
}

#[test]
fn frame_whose_rest_is_lost_costs_itself_only() {
    let mut collector = collector();
    let frame = framed(&message(1, 300));
    let (first, _lost) = frame.split_at(100);
    assert_eq!(ids(&mut collector, &[first, &framed(&one(3, 2))]), [2]);
    assert_eq!(collector.stats().refused(Reason::Framing), 1);
    assert_eq!(ids(&mut collector, &[first, &one(3, 3)]), [3]);
    assert_eq!(collector.stats().refused(Reason::Framing), 2);
}

#[test]
fn wrong_framing_is_counted_and_the_next_record_is_read() {
    let inner = one(3, 1);
    let wrong: [Vec<u8>; 9] = [
        // Another length than the header's, both ways.
        [b"13 ", inner.as_slice()].concat(),
        [b"15 ", inner.as_slice()].concat(),
        // No space, a leading zero, no number, too many digits, too short for a header, more than a header can say.
        [b"14", inner.as_slice()].concat(),
        [b"014 ", inner.as_slice()].concat(),
        [b"1x ", inner.as_slice()].concat(),
        [b"000014 ", inner.as_slice()].concat(),
        b"4 abcd".to_vec(),
        [b"65536 ", inner.as_slice()].concat(),
        [b"111111 ", inner.as_slice()].concat(),
    ];
    for record in &wrong {
        let mut collector = collector();
        assert_eq!(ids(&mut collector, &[record]), [0_u32; 0]);
        let stats = collector.stats();
        assert_eq!(stats.all_refused(), 1, "{record:?}");
        assert_eq!(stats.totals, homefleet_notif::Counters::default());
        assert_eq!(ids(&mut collector, &[&framed(&inner)]), [1]);
    }
    // After good ones in the same record.
    let mut collector = collector();
    let record = [framed(&one(3, 1)), b"99 garbage".to_vec()].concat();
    assert_eq!(ids(&mut collector, &[&record, &framed(&one(3, 2))]), [1, 2]);
    assert_eq!(collector.stats().refused(Reason::Framing), 1);
}

#[test]
fn garbage_in_a_record_is_counted_and_changes_nothing_else() {
    let mut collector = collector();
    ids(&mut collector, &[&one(3, 1)]);
    let before = collector.stats().totals;
    let records: [&[u8]; 4] = [&[0xFF; 40], b"\0", b"garbage", &[0x21; 11]];
    assert_eq!(ids(&mut collector, &records), [0_u32; 0]);
    let stats = collector.stats();
    assert_eq!((stats.all_refused(), stats.totals), (4, before));
    assert_eq!(ids(&mut collector, &[&one(3, 2)]), [2]);
}

#[test]
fn bare_message_that_begins_like_a_number_is_bare() {
    // Version 1, S flag, media type 1: '1'; then a header of 48 bytes: '0'.
    let header = Header {
        media_type: MediaType::Private(1),
        ..header(3, 1)
    };
    let mut bare = Vec::new();
    header.encode(None, &[0; 9_000 - 12], &mut bare).unwrap();
    assert_eq!(bare[0], b'1');
    let mut collector = Collector::new(CollectorConfig::default());
    assert_eq!(ids(&mut collector, &[&bare]), [1]);
    assert_eq!(collector.stats().bare_records, 1);
}

#[test]
fn open_frames_are_bounded_over_all_sessions() {
    let mut collector = Collector::new(CollectorConfig {
        max_frame_bytes: 1_000,
        ..CollectorConfig::default()
    });
    let frame = framed(&message(1, 900));
    let mut delivered = 0;
    for (port, half) in [(1, 0), (2, 0), (1, 1), (2, 1)] {
        let (first, second) = frame.split_at(600);
        let record = if half == 0 { first } else { second };
        collector.handle_record(crate::now(), source(port), record, |_| delivered += 1);
    }
    assert_eq!(delivered, 1);
    assert!(collector.stats().refused(Reason::Framing) >= 1);
    // A source that goes takes its frame along.
    collector.handle_record(crate::now(), source(3), &frame[..600], |_| {});
    let refused = collector.stats().refused(Reason::Framing);
    collector.forget(source(3));
    assert_eq!(collector.stats().refused(Reason::Framing), refused + 1);
}

proptest! {
    #[test]
    fn frames_come_out_however_they_are_cut(
        sizes in proptest::collection::vec(0..200_usize, 1..20),
        cuts in proptest::collection::vec(1..150_usize, 1..40),
    ) {
        let mut stream = Vec::new();
        for (index, size) in sizes.iter().enumerate() {
            stream.extend(framed(&message(u32::try_from(index).unwrap(), *size)));
        }
        let mut records = Vec::new();
        let mut rest = &stream[..];
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (record, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            records.push(record);
            rest = after;
        }
        let mut collector = collector();
        let expected: Vec<u32> = (0..u32::try_from(sizes.len()).unwrap()).collect();
        prop_assert_eq!(ids(&mut collector, &records), expected);
        prop_assert_eq!(collector.stats().all_refused(), 0);
    }
}
