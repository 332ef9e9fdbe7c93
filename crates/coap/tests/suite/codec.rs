//! The message format: exact errors, round trips, and agreement with an independent codec.

use homefleet_coap::{Block, Code, DecodeError, FormatError, Message, Options, Token, Type};
use proptest::prelude::*;

fn error(datagram: &[u8]) -> FormatError {
    Message::decode(datagram).unwrap_err().error
}

#[test]
fn short_datagrams_are_format_errors() {
    for len in 0..4 {
        let datagram = vec![0x40; len];
        assert_eq!(
            Message::decode(&datagram),
            Err(DecodeError {
                error: FormatError::TooShort { len },
                header: None
            })
        );
    }
}

#[test]
fn another_version_is_an_error_without_header() {
    for version in [0u8, 2, 3] {
        let datagram = [version << 6, 0x01, 0x12, 0x34];
        assert_eq!(
            Message::decode(&datagram),
            Err(DecodeError {
                error: FormatError::Version(version),
                header: None
            })
        );
    }
}

#[test]
fn token_lengths_9_to_15_are_format_errors() {
    for len in 9..16u8 {
        let mut datagram = vec![0x40 | len, 0x01, 0x12, 0x34];
        datagram.extend([0; 15]);
        assert_eq!(
            Message::decode(&datagram),
            Err(DecodeError {
                error: FormatError::TokenLength(len),
                header: Some((Type::Confirmable, 0x1234))
            })
        );
    }
}

#[test]
fn truncated_token_is_a_format_error() {
    assert_eq!(
        error(&[0x44, 1, 0, 0, 1, 2, 3]),
        FormatError::TruncatedToken
    );
}

#[test]
fn reserved_classes_are_format_errors() {
    for class in [1u8, 6, 7] {
        let code = Code::new(class, 5);
        assert_eq!(
            error(&[0x40, code.byte(), 0, 0]),
            FormatError::ReservedClass(code)
        );
    }
}

#[test]
fn empty_with_content_is_a_format_error() {
    assert_eq!(
        error(&[0x40, 0, 0, 0, 0xff, 1]),
        FormatError::EmptyWithContent
    );
    assert_eq!(error(&[0x41, 0, 0, 0, 1]), FormatError::EmptyWithContent);
    assert_eq!(
        error(&[0x70, 0, 0, 0, 0xb1, 1]),
        FormatError::EmptyWithContent
    );
}

#[test]
fn types_and_codes_that_do_not_go_together_are_format_errors() {
    assert_eq!(error(&[0x50, 0, 0, 0]), FormatError::EmptyNonConfirmable);
    assert_eq!(error(&[0x70, 0x45, 0, 0]), FormatError::ResetNotEmpty);
    assert_eq!(
        error(&[0x60, 0x01, 0, 0]),
        FormatError::RequestInAcknowledgement
    );
}

#[test]
fn marker_without_payload_is_a_format_error() {
    assert_eq!(
        error(&[0x40, 1, 0, 0, 0xff]),
        FormatError::MarkerWithoutPayload { offset: 4 }
    );
    assert_eq!(
        error(&[0x41, 1, 0, 0, 9, 0xb1, b'a', 0xff]),
        FormatError::MarkerWithoutPayload { offset: 7 }
    );
}

#[test]
fn reserved_option_nibbles_are_format_errors() {
    assert_eq!(
        error(&[0x40, 1, 0, 0, 0xf1, 0]),
        FormatError::ReservedOptionDelta { offset: 4 }
    );
    assert_eq!(
        error(&[0x40, 1, 0, 0, 0xb1, b'a', 0x1f, 0]),
        FormatError::ReservedOptionLength { offset: 6 }
    );
}

#[test]
fn truncated_options_are_format_errors() {
    for tail in [&[0xb2, b'a'][..], &[0xd0], &[0xe0, 1], &[0x0d], &[0x0e, 0]] {
        let mut datagram = vec![0x40, 1, 0, 0];
        datagram.extend_from_slice(tail);
        assert_eq!(error(&datagram), FormatError::TruncatedOption { offset: 4 });
    }
}

#[test]
fn option_numbers_over_65535_are_format_errors() {
    let datagram = [0x40, 1, 0, 0, 0xe0, 0xff, 0xff];
    assert_eq!(error(&datagram), FormatError::OptionNumber { offset: 4 });
}

#[test]
fn uints_are_written_in_their_shortest_form() {
    let mut options = Options::new();
    for (value, len) in [
        (0, 0),
        (1, 1),
        (255, 1),
        (256, 2),
        (65_536, 3),
        (1 << 24, 4),
    ] {
        options.set_uint(60, value);
        assert_eq!(options.first(60).unwrap().len(), len);
        assert_eq!(options.uint(60), Some(value));
    }
}

#[test]
fn leading_zeros_of_a_uint_are_read() {
    let mut options = Options::new();
    options.add(12, &[0, 0, 42]);
    assert_eq!(options.content_format(), Some(42));
}

#[test]
fn content_format_259_is_application_pkixcmp() {
    use homefleet_coap::content_format::{REGISTRY, media_type, number};
    assert_eq!(media_type(259), Some("application/pkixcmp"));
    assert_eq!(number("Application/PKIXCMP"), Some(259));
    assert_eq!(number("text/plain;charset=utf-8"), Some(0));
    assert!(REGISTRY.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[test]
fn block_numbers_have_20_bits() {
    for (num, more, szx) in [(0, false, 0), (70_000, true, 6), ((1 << 20) - 1, false, 2)] {
        let mut options = Options::new();
        options.set_block1(Block::new(num, more, szx));
        assert_eq!(options.block1(), Some(Block::new(num, more, szx)));
    }
    assert_eq!(Block::decode(&[1, 2, 3, 4]), None);
    assert_eq!(Block::decode(&[]), Some(Block::new(0, false, 0)));
    assert_eq!(Block::new(3, true, 2).to_string(), "3/1/64");
}

#[test]
fn tokens_are_at_most_8_bytes() {
    assert_eq!(Token::new(&[1; 9]), None);
    assert_eq!(Token::new(&[1; 8]).unwrap().bytes(), [1; 8]);
}

fn any_message() -> impl Strategy<Value = Message> {
    let options = prop::collection::vec(
        (
            any::<u16>(),
            prop_oneof![
                4 => prop::collection::vec(any::<u8>(), 0..20),
                1 => prop::collection::vec(any::<u8>(), 250..400),
            ],
        ),
        0..8,
    );
    let code = prop_oneof![1u8..32, 64u8..192];
    (
        any::<bool>(),
        code,
        any::<u16>(),
        prop::collection::vec(any::<u8>(), 0..9),
        options,
        prop::collection::vec(any::<u8>(), 0..64),
    )
        .prop_map(|(confirmable, code, id, token, list, payload)| {
            let mut options = Options::new();
            for (number, value) in &list {
                options.add(*number, value);
            }
            Message {
                kind: if confirmable {
                    Type::Confirmable
                } else {
                    Type::NonConfirmable
                },
                code: Code::from_byte(code),
                id,
                token: Token::new(&token).unwrap(),
                options,
                payload,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_message_survives_a_round_trip(message in any_message()) {
        prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn the_independent_codec_writes_and_reads_the_same(message in any_message()) {
        let bytes = message.encode();
        let theirs = coap_lite::Packet::from_bytes(&bytes).unwrap();
        prop_assert_eq!(theirs.header.message_id, message.id);
        prop_assert_eq!(theirs.get_token(), message.token.bytes());
        prop_assert_eq!(&theirs.payload, &message.payload);
        let count: usize = theirs.options().map(|(_, values)| values.len()).sum();
        prop_assert_eq!(count, message.options.len());
        prop_assert_eq!(theirs.to_bytes_with_limit(65_535).unwrap(), bytes);
    }

    #[test]
    fn any_bytes_decode_or_fail_like_the_independent_codec(
        bytes in prop::collection::vec(any::<u8>(), 0..40),
        first in 0x40u8..0x49,
    ) {
        let mut bytes = bytes;
        if let Some(byte) = bytes.first_mut() {
            *byte = first;
        }
        match (Message::decode(&bytes), coap_lite::Packet::from_bytes(&bytes)) {
            (Ok(ours), Ok(theirs)) => {
                prop_assert_eq!(&ours.payload, &theirs.payload);
                let values: Vec<(u16, Vec<u8>)> = theirs
                    .options()
                    .flat_map(|(n, values)| values.iter().map(move |v| (*n, v.clone())))
                    .collect();
                let own: Vec<(u16, Vec<u8>)> =
                    ours.options.iter().map(|(n, v)| (n, v.to_vec())).collect();
                prop_assert_eq!(own, values);
            }
            // What the other one lets pass: these rules are ours alone.
            (Err(error), Ok(_)) => {
                let ours_alone = matches!(
                    error.error,
                    FormatError::EmptyWithContent
                        | FormatError::ReservedClass(_)
                        | FormatError::MarkerWithoutPayload { .. }
                );
                prop_assert!(ours_alone, "{error:?}");
            }
            (Err(_), Err(_)) => {}
            (Ok(message), Err(error)) => {
                prop_assert!(false, "{message:?} but {error:?}");
            }
        }
    }
}
