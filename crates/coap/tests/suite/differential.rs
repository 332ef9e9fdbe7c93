//! Agreement with an independent codec (`coap-lite`), over structured random messages, the fuzz corpus, mutations of it and noise.
//!
//! Where the two differ, the difference is one of [`STRICTER`]: rules of RFC 7252 that the other leaves to its caller.

use std::collections::LinkedList;

use coap_lite::block_handler::BlockValue;
use coap_lite::link_format::{LinkAttributeWrite, LinkFormatParser, LinkFormatWrite};
use coap_lite::option_value::{OptionValueU16, OptionValueU32};
use coap_lite::{CoapOption, MessageType, Packet};
use homefleet_coap::link::{self, Link};
use homefleet_coap::{Block, Code, FormatError, Message, Options, Token, Type, number};
use proptest::prelude::*;

use crate::replay::{corpus, replay};

/// A rule, and which error it is.
type Rule = (&'static str, fn(&FormatError) -> bool);

/// What we refuse and the other takes.
const STRICTER: [Rule; 7] = [
    ("§3: a version other than 1 is ignored", |e| {
        matches!(e, FormatError::Version(_))
    }),
    ("§3: a marker is followed by a payload", |e| {
        matches!(e, FormatError::MarkerWithoutPayload { .. })
    }),
    ("§4.1: Empty has nothing after its message ID", |e| {
        matches!(e, FormatError::EmptyWithContent)
    }),
    ("§4.2: the classes 1, 6 and 7 are reserved", |e| {
        matches!(e, FormatError::ReservedClass(_))
    }),
    ("§4.2: an RST is Empty", |e| {
        matches!(e, FormatError::ResetNotEmpty)
    }),
    ("§4.2: an ACK carries no request", |e| {
        matches!(e, FormatError::RequestInAcknowledgement)
    }),
    ("§4.3: a NON is not Empty", |e| {
        matches!(e, FormatError::EmptyNonConfirmable)
    }),
];

fn kind(theirs: &Packet) -> Type {
    match theirs.header.get_type() {
        MessageType::Confirmable => Type::Confirmable,
        MessageType::NonConfirmable => Type::NonConfirmable,
        MessageType::Acknowledgement => Type::Acknowledgement,
        MessageType::Reset => Type::Reset,
    }
}

fn options(theirs: &Packet) -> Options {
    let mut options = Options::new();
    for (number, values) in theirs.options() {
        for value in values {
            options.add(*number, value);
        }
    }
    options
}

/// Both read a datagram alike, and write what they read alike. Which rule makes the difference, if one does.
fn agree(datagram: &[u8]) -> Option<&'static str> {
    match (Message::decode(datagram), Packet::from_bytes(datagram)) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(ours.kind, kind(&theirs));
            assert_eq!(ours.code.byte(), u8::from(theirs.header.code));
            assert_eq!(ours.id, theirs.header.message_id);
            assert_eq!(ours.token.bytes(), theirs.get_token());
            assert_eq!(ours.options, options(&theirs));
            assert_eq!(ours.payload, theirs.payload);
            assert_eq!(ours.encode(), theirs.to_bytes_unlimited().unwrap());
            agree_on_values(&ours, &theirs);
            None
        }
        (Err(error), Ok(_)) => {
            let rule = STRICTER.iter().find(|(_, is)| is(&error.error));
            Some(
                rule.unwrap_or_else(|| panic!("{error:?}: {datagram:02x?}"))
                    .0,
            )
        }
        (Ok(message), Err(error)) => panic!("{message:?} but {error:?}: {datagram:02x?}"),
        (Err(_), Err(_)) => None,
    }
}

/// Both read the values of options alike; the other knows block numbers of 12 bits only, and no option twice.
fn agree_on_values(ours: &Message, theirs: &Packet) {
    for (number, option) in [
        (number::BLOCK1, CoapOption::Block1),
        (number::BLOCK2, CoapOption::Block2),
    ] {
        let block = ours.options.first(number).and_then(Block::decode);
        let short = ours
            .options
            .first(number)
            .is_some_and(|value| value.len() <= 2);
        let other = theirs.get_first_option_as::<BlockValue>(option);
        if let Some(Ok(other)) = other.filter(|_| short) {
            let read = Block::new(u32::from(other.num), other.more, other.size_exponent);
            assert_eq!(block, Some(read));
        }
    }
    for (number, option) in [
        (number::OBSERVE, CoapOption::Observe),
        (number::MAX_AGE, CoapOption::MaxAge),
        (number::SIZE1, CoapOption::Size1),
        (number::SIZE2, CoapOption::Size2),
    ] {
        let other = theirs.get_first_option_as::<OptionValueU32>(option);
        let other = other.and_then(Result::ok).map(|value| value.0);
        assert_eq!(ours.options.uint(number), other);
    }
    let other = theirs.get_first_option_as::<OptionValueU16>(CoapOption::Accept);
    let other = other.and_then(Result::ok).map(|value| value.0);
    if ours
        .options
        .first(number::ACCEPT)
        .is_none_or(|value| value.len() <= 2)
    {
        assert_eq!(ours.options.accept(), other);
    }
}

#[test]
fn fuzz_differential_both_codecs_agree_on_the_corpus_and_its_mutations() {
    replay(&corpus("coap/codec"), 30_000, |datagram| {
        agree(datagram);
        // The same in a header that is always right, so that its options are reached.
        if datagram.len() > 4 {
            let mut datagram = datagram.to_vec();
            datagram[0] = 0x40 | (datagram[0] & 0x3f);
            agree(&datagram);
        }
    });
}

#[test]
fn each_rule_that_the_other_codec_leaves_out_makes_a_difference() {
    for (datagram, rule) in [
        (&[0x80, 1, 0, 0][..], 0),
        (&[0x40, 1, 0, 0, 0xff], 1),
        (&[0x41, 0, 0, 0, 1], 2),
        (&[0x40, 0x21, 0, 0], 3),
        (&[0x70, 0x45, 0, 0], 4),
        (&[0x60, 0x01, 0, 0], 5),
        (&[0x50, 0, 0, 0], 6),
    ] {
        assert_eq!(agree(datagram), Some(STRICTER[rule].0));
    }
}

#[test]
fn every_header_is_read_alike() {
    for first in 0..=u8::MAX {
        for code in 0..=u8::MAX {
            for rest in [&[][..], &[1; 8], &[0xff], &[0xb1, b'a', 0xff, 0]] {
                let mut datagram = vec![first, code, 0x12, 0x34];
                datagram.extend_from_slice(rest);
                agree(&datagram);
            }
        }
    }
}

fn any_options() -> impl Strategy<Value = Vec<(u16, Vec<u8>)>> {
    // Numbers that are registered, small and large; lengths around the limits of the length field.
    let number = prop_oneof![
        prop::sample::select(vec![
            1u16, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 20, 23, 27, 28, 35, 39, 60, 252, 258,
            292
        ]),
        0u16..600,
        any::<u16>(),
    ];
    let length = prop_oneof![0usize..5, 11usize..16, 266usize..272, Just(1000)];
    let value = length.prop_flat_map(|length| prop::collection::vec(any::<u8>(), length));
    prop::collection::vec((number, value), 0..10)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn both_codecs_write_a_message_alike(
        confirmable: bool,
        code in prop_oneof![1u8..32, 64u8..192],
        id: u16,
        token in prop::collection::vec(any::<u8>(), 0..9),
        list in any_options(),
        payload in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut ours = Message {
            kind: if confirmable { Type::Confirmable } else { Type::NonConfirmable },
            code: Code::from_byte(code),
            token: Token::new(&token).unwrap(),
            payload: payload.clone(),
            ..Message::empty(Type::Confirmable, id)
        };
        let mut theirs = Packet::new();
        theirs.header.set_type(if confirmable { MessageType::Confirmable } else { MessageType::NonConfirmable });
        theirs.header.code = code.into();
        theirs.header.message_id = id;
        theirs.set_token(token);
        theirs.payload = payload;
        for (number, value) in &list {
            ours.options.add(*number, value);
        }
        let numbers: Vec<u16> = ours.options.iter().map(|(number, _)| number).collect();
        for number in numbers {
            let values: LinkedList<Vec<u8>> = ours.options.all(number).map(<[u8]>::to_vec).collect();
            theirs.set_option(CoapOption::from(number), values);
        }
        let bytes = ours.encode();
        prop_assert_eq!(&bytes, &theirs.to_bytes_unlimited().unwrap());
        prop_assert_eq!(agree(&bytes), None);
    }

    #[test]
    fn damaged_messages_are_read_alike(
        list in any_options(),
        payload in prop::collection::vec(any::<u8>(), 0..8),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        whole: bool,
    ) {
        let mut message = Message { payload, code: Code::POST, ..Message::empty(Type::Confirmable, 7) };
        for (number, value) in &list {
            message.options.add(*number, value);
        }
        let mut bytes = message.encode();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] ^= byte;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        agree(&bytes);
    }

    #[test]
    fn both_write_and_read_links_alike(
        list in prop::collection::vec(("/[a-z0-9/]{0,8}", prop::collection::vec(("[a-z]{1,4}", "[ -~]{0,6}"), 0..4)), 0..4),
    ) {
        let links: Vec<Link> = list
            .iter()
            .map(|(target, attributes)| {
                let link = Link::new(target.as_str());
                attributes.iter().fold(link, |link, (name, value)| link.attribute(name, value.as_str()))
            })
            .collect();
        // Ours, read by the other.
        let text = link::core(&links, std::iter::empty());
        let read: Vec<Link> = LinkFormatParser::new(&text)
            .map(|item| {
                let (target, attributes) = item.unwrap();
                attributes.fold(Link::new(target), |link, (name, value)| link.attribute(name, value.to_string()))
            })
            .collect();
        prop_assert_eq!(&read, &links);
        // The other's, read by us.
        let mut text = String::new();
        let mut write = LinkFormatWrite::new(&mut text);
        for link in &links {
            let attributes = link.attributes.iter();
            let written: LinkAttributeWrite<'_, '_, String> = attributes.fold(write.link(&link.target), |write, (name, value)| {
                write.attr_quoted(name, value.as_deref().unwrap_or_default())
            });
            written.finish().unwrap();
        }
        write.finish().unwrap();
        prop_assert_eq!(link::parse(&text), Ok(links));
    }
}
