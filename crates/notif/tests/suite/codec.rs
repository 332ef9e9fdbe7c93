//! Datagrams of every generation, and those that are none.

use homefleet_notif::{
    DecodeError, EncodeError, Generation, Header, MediaType, Message, Profile, Segment, Segments,
};
use proptest::prelude::*;

fn header(generation: Generation) -> Header {
    Header {
        generation,
        media_type: MediaType::Json,
        publisher_id: 0x0102_0304,
        message_id: 0x0A0B_0C0D,
        segment: None,
    }
}

fn encoded(header: &Header, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    header.encode(None, payload, &mut out).unwrap();
    out
}

fn refused(datagram: &[u8]) -> DecodeError {
    Message::decode(datagram, Profile::Draft26).unwrap_err()
}

/// A message of version 1 with these options and the payload `{}`.
fn with_options(options: &[u8]) -> Vec<u8> {
    let header_len = u8::try_from(12 + options.len()).unwrap();
    let mut datagram = vec![0x21, header_len, 0, header_len + 2, 0, 0, 0, 1, 0, 0, 0, 1];
    datagram.extend_from_slice(options);
    datagram.extend_from_slice(b"{}");
    datagram
}

#[test]
fn version_1_is_written_byte_for_byte() {
    let mut header = header(Generation::Draft26);
    assert_eq!(
        encoded(&header, b"{}"),
        b"\x21\x0c\x00\x0e\x01\x02\x03\x04\x0a\x0b\x0c\x0d{}"
    );
    header.media_type = MediaType::Cbor;
    header.segment = Some(Segment {
        number: 5,
        last: true,
    });
    assert_eq!(
        encoded(&header, b"\xa0"),
        b"\x23\x10\x00\x11\x01\x02\x03\x04\x0a\x0b\x0c\x0d\x01\x04\x00\x0b\xa0"
    );
}

#[test]
fn version_0_numbers_its_encodings_by_draft() {
    let first = |generation, media_type| {
        let header = Header {
            media_type,
            ..header(generation)
        };
        encoded(&header, b"")[0]
    };
    assert_eq!(first(Generation::Draft03, MediaType::Cbor), 0x00);
    assert_eq!(first(Generation::Draft03, MediaType::Json), 0x01);
    assert_eq!(first(Generation::Draft03, MediaType::Xml), 0x02);
    assert_eq!(first(Generation::Draft04, MediaType::Json), 0x01);
    assert_eq!(first(Generation::Draft04, MediaType::Xml), 0x02);
    assert_eq!(first(Generation::Draft04, MediaType::Cbor), 0x03);
    assert_eq!(first(Generation::Draft07, MediaType::Cbor), 0x23);
}

#[test]
fn version_0_is_read_by_the_union_of_both_tables() {
    for (code, generation, media_type) in [
        (0, Generation::Draft03, MediaType::Cbor),
        (1, Generation::Draft03, MediaType::Json),
        (2, Generation::Draft03, MediaType::Xml),
        (3, Generation::Draft04, MediaType::Cbor),
        (4, Generation::Draft03, MediaType::Unassigned(4)),
    ] {
        let datagram = [code, 12, 0, 12, 0, 0, 0, 1, 0, 0, 0, 2];
        let message = Message::decode(&datagram, Profile::Draft26).unwrap();
        assert_eq!(message.header.generation, generation);
        assert_eq!(message.header.media_type, media_type);
    }
}

#[test]
fn legacy_header_is_told_by_its_second_byte() {
    for (code, media_type) in [
        (0, MediaType::Gpb),
        (1, MediaType::Cbor),
        (2, MediaType::Json),
        (3, MediaType::Xml),
        (11, MediaType::Unassigned(11)),
    ] {
        let datagram = [0, code, 0, 13, 0, 0, 0, 7, 0, 0, 0, 9, b'x'];
        let message = Message::decode(&datagram, Profile::Draft26).unwrap();
        assert_eq!(message.header.generation, Generation::PubChannel);
        assert_eq!(message.header.media_type, media_type);
        assert_eq!(
            (message.header.publisher_id, message.header.message_id),
            (7, 9)
        );
        assert_eq!(message.payload, b"x");
    }
    assert_eq!(
        refused(&[8, 2, 0, 12, 0, 0, 0, 7, 0, 0, 0, 9]),
        DecodeError::LegacyFlags(8)
    );
}

#[test]
fn profile_says_what_version_1_is() {
    let datagram = encoded(&header(Generation::Draft19), b"{}");
    for profile in Profile::ALL {
        let message = Message::decode(&datagram, profile).unwrap();
        assert_eq!(message.header.generation, profile.generation());
    }
}

#[test]
fn nothing_shorter_than_the_fixed_header_is_a_message() {
    let whole = encoded(&header(Generation::Draft26), b"");
    for len in 0..12 {
        assert_eq!(refused(&whole[..len]), DecodeError::TooShort { len });
    }
}

#[test]
fn versions_from_2_on_are_refused() {
    for version in 2..8 {
        let mut datagram = encoded(&header(Generation::Draft26), b"");
        datagram[0] = version << 5 | 1;
        assert_eq!(refused(&datagram), DecodeError::Version(version));
    }
}

#[test]
fn header_length_is_at_least_12_and_within_the_message() {
    let mut datagram = encoded(&header(Generation::Draft26), b"{}");
    datagram[1] = 11;
    assert_eq!(refused(&datagram), DecodeError::HeaderLength(11));
    datagram[1] = 15;
    assert_eq!(
        refused(&datagram),
        DecodeError::HeaderBeyondMessage {
            header: 15,
            message: 14
        }
    );
    // Version 0 with the S flag is no legacy header either.
    assert_eq!(
        refused(&[0x10, 3, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0]),
        DecodeError::HeaderLength(3)
    );
}

#[test]
fn message_length_is_that_of_the_datagram() {
    let mut datagram = encoded(&header(Generation::Draft26), b"{}");
    datagram[3] = 15;
    assert_eq!(
        refused(&datagram),
        DecodeError::MessageBeyondDatagram {
            message: 15,
            datagram: 14
        }
    );
    datagram[3] = 13;
    assert_eq!(
        refused(&datagram),
        DecodeError::TrailingBytes {
            message: 13,
            datagram: 14
        }
    );
}

#[test]
fn option_of_length_0_or_1_is_refused_and_ends_the_reading() {
    for length in [0, 1] {
        assert_eq!(
            refused(&with_options(&[9, length, 0, 0])),
            DecodeError::OptionLength { offset: 12, length }
        );
    }
    // A type alone.
    assert_eq!(
        refused(&with_options(&[9])),
        DecodeError::OptionLength {
            offset: 12,
            length: 0
        }
    );
}

#[test]
fn option_ends_within_the_header() {
    assert_eq!(
        refused(&with_options(&[1, 4, 0, 0, 2, 3])),
        DecodeError::OptionBeyondHeader {
            offset: 16,
            length: 3
        }
    );
}

#[test]
fn segmentation_option_has_4_bytes_and_comes_once() {
    assert_eq!(
        refused(&with_options(&[1, 3, 0])),
        DecodeError::SegmentationLength {
            offset: 12,
            length: 3
        }
    );
    assert_eq!(
        refused(&with_options(&[1, 4, 0, 0, 1, 4, 0, 1])),
        DecodeError::RepeatedSegmentation { offset: 16 }
    );
}

#[test]
fn unknown_option_is_kept_up_to_25_and_discards_the_message_in_26() {
    let datagram = with_options(&[9, 4, 1, 2]);
    for profile in [Profile::Draft07, Profile::Draft09, Profile::Draft19] {
        let message = Message::decode(&datagram, profile).unwrap();
        assert_eq!(message.options.find(9), Some(&[1, 2][..]));
    }
    assert_eq!(
        refused(&datagram),
        DecodeError::UnknownOption {
            offset: 12,
            kind: 9
        }
    );
}

#[test]
fn private_encoding_is_an_option_of_drafts_03_to_18() {
    for generation in Generation::ALL {
        let header = Header {
            media_type: MediaType::Private(7),
            ..header(generation)
        };
        let mut out = Vec::new();
        let result = header.encode(Some(b"thrift"), b"x", &mut out);
        match generation {
            Generation::PubChannel => {
                assert_eq!(result, Err(EncodeError::NotPublishable(generation)));
            }
            Generation::Draft19 | Generation::Draft26 => {
                assert_eq!(result, Err(EncodeError::PrivateEncoding(generation)));
                assert!(out.is_empty());
            }
            _ => {
                let message = Message::decode(&out, Profile::Draft09).unwrap();
                assert_eq!(message.private_encoding(), Some(&b"thrift"[..]));
                assert_eq!(message.header.media_type, MediaType::Private(7));
                // Standard encodings need no description (-03 §4.2).
                let standard = super::codec::header(generation);
                assert_eq!(
                    standard.encode(Some(b"thrift"), b"x", &mut Vec::new()),
                    Err(EncodeError::PrivateEncoding(generation))
                );
            }
        }
    }
    // Where it does not exist it is any unknown option.
    let mut out = Vec::new();
    let header = Header {
        media_type: MediaType::Private(7),
        ..header(Generation::Draft09)
    };
    header.encode(Some(b"thrift"), b"x", &mut out).unwrap();
    let message = Message::decode(&out, Profile::Draft19).unwrap();
    assert_eq!(message.private_encoding(), None);
    assert_eq!(message.options.find(2), Some(&b"thrift"[..]));
    assert_eq!(
        refused(&out),
        DecodeError::UnknownOption {
            offset: 12,
            kind: 2
        }
    );
}

#[test]
fn message_that_no_datagram_can_say_is_not_written() {
    let header = header(Generation::Draft26);
    let mut out = Vec::new();
    assert_eq!(header.encode(None, &[0; 0xFFFF - 12], &mut out), Ok(()));
    assert_eq!(out.len(), 0xFFFF);
    out.clear();
    assert_eq!(
        header.encode(None, &[0; 0xFFFF - 11], &mut out),
        Err(EncodeError::TooLong { len: 0x10000 })
    );
    assert!(out.is_empty());
}

#[test]
fn message_that_fits_is_not_cut() {
    let pieces: Vec<_> = Segments::new(88, 12, 100).unwrap().collect();
    assert_eq!(pieces, [(None, 0..88)]);
    let pieces: Vec<_> = Segments::new(0, 12, 100).unwrap().collect();
    assert_eq!(pieces, [(None, 0..0)]);
    let pieces: Vec<_> = Segments::new(89, 12, 100).unwrap().collect();
    let segment = |number, last| Some(Segment { number, last });
    assert_eq!(
        pieces,
        [(segment(0, false), 0..84), (segment(1, true), 84..89)]
    );
}

#[test]
fn segments_have_room_and_numbers() {
    assert_eq!(
        Segments::new(100, 12, 16).unwrap_err(),
        EncodeError::SegmentSize {
            max: 16,
            header: 16
        }
    );
    assert_eq!(Segments::new(32_768, 12, 17).unwrap().count(), 32_768);
    assert_eq!(
        Segments::new(32_769, 12, 17).unwrap_err(),
        EncodeError::TooManySegments {
            len: 32_769,
            segments: 32_769
        }
    );
}

#[test]
fn names_of_generations_come_back() {
    for generation in Generation::ALL {
        assert_eq!(Generation::from_name(generation.name()), Some(generation));
    }
    for profile in Profile::ALL {
        assert_eq!(
            Profile::from_name(profile.generation().name()),
            Some(profile)
        );
    }
    assert_eq!(Profile::from_name("draft-03"), None);
}

fn generations() -> impl Strategy<Value = Generation> {
    (1..Generation::ALL.len()).prop_map(|index| Generation::ALL[index])
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        generation in generations(),
        code in 0..16_u8,
        private: bool,
        publisher_id: u32,
        message_id: u32,
        segment in proptest::option::of((0..0x8000_u16, any::<bool>())),
        payload in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let media_type = if private {
            MediaType::Private(code)
        } else {
            generation.media_type(code)
        };
        let header = Header {
            generation,
            media_type,
            publisher_id,
            message_id,
            segment: segment.map(|(number, last)| Segment { number, last }),
        };
        let mut out = Vec::new();
        let result = header.encode(None, &payload, &mut out);
        if let MediaType::Unassigned(_) = media_type {
            prop_assert!(result.is_err());
            return Ok(());
        }
        prop_assert_eq!(result, Ok(()));
        let profile = Profile::from_name(generation.name()).unwrap_or_default();
        let message = Message::decode(&out, profile).unwrap();
        prop_assert_eq!(message.payload, &payload[..]);
        prop_assert_eq!(message.header.media_type, media_type);
        let same = Header { generation: message.header.generation, ..header };
        prop_assert_eq!(message.header, same);
        prop_assert_eq!(message.header.generation.version(), generation.version());
    }

    #[test]
    fn noise_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        for profile in Profile::ALL {
            if let Ok(message) = Message::decode(&bytes, profile) {
                prop_assert!(message.payload.len() <= bytes.len() - 12);
                let options: usize = message.options.iter().map(|option| option.value.len() + 2).sum();
                prop_assert_eq!(options, message.options.as_bytes().len());
            }
        }
    }

    #[test]
    fn segments_cover_the_message(len in 0..5_000_usize, size in 20..600_usize) {
        let segments = Segments::new(len, 12, size).unwrap();
        prop_assert_eq!(segments.len(), segments.clone().count());
        let mut end = 0;
        for (segment, range) in segments {
            prop_assert_eq!(range.start, end);
            end = range.end;
            let header = 12 + segment.map_or(0, |_| 4);
            prop_assert!(header + range.len() <= size);
            if let Some(segment) = segment {
                prop_assert_eq!(segment.last, end == len);
            }
        }
        prop_assert_eq!(end, len);
    }
}
