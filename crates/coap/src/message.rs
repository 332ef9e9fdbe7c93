//! The message format (RFC 7252 §3).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |Ver| T |  TKL  |      Code     |          Message ID           |
//! |   Token (if any, TKL bytes) ...
//! |   Options (if any) ...
//! |1 1 1 1 1 1 1 1|    Payload (if any) ...
//! ```
#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::fmt;

use crate::code::Code;
use crate::error::{DecodeError, FormatError};
use crate::options::Options;

/// The only protocol version (RFC 7252 §3).
const VERSION: u8 = 1;
const PAYLOAD_MARKER: u8 = 0xff;
const HEADER_LEN: usize = 4;

/// How a message wants to be treated (RFC 7252 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// Wants an acknowledgement (RFC 7252 §4.2).
    Confirmable,
    /// Wants none (RFC 7252 §4.3).
    NonConfirmable,
    /// Acknowledges a Confirmable message of the same message ID.
    Acknowledgement,
    /// Says that the message of the same ID could not be processed.
    Reset,
}

impl Type {
    const fn from_bits(bits: u8) -> Type {
        match bits & 3 {
            0 => Type::Confirmable,
            1 => Type::NonConfirmable,
            2 => Type::Acknowledgement,
            _ => Type::Reset,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Type::Confirmable => 0,
            Type::NonConfirmable => 1,
            Type::Acknowledgement => 2,
            Type::Reset => 3,
        }
    }
}

/// Matches a response with its request: 0 to 8 bytes (RFC 7252 §5.3.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Token {
    len: u8,
    bytes: [u8; 8],
}

impl Token {
    /// Longest token in bytes.
    pub const MAX_LEN: usize = 8;

    /// A token of at most 8 bytes, `None` for more.
    pub fn new(bytes: &[u8]) -> Option<Token> {
        let mut token = Token::default();
        token.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        token.len = u8::try_from(bytes.len()).ok()?;
        Some(token)
    }

    /// The token's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    pub(crate) fn word(&self) -> u64 {
        u64::from_le_bytes(self.bytes)
    }
}

impl From<[u8; 8]> for Token {
    fn from(bytes: [u8; 8]) -> Token {
        Token { len: 8, bytes }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.bytes() {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// One CoAP message (RFC 7252 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// CON, NON, ACK or RST.
    pub kind: Type,
    /// Method, response code or Empty.
    pub code: Code,
    /// Message ID, for acknowledgement and deduplication (RFC 7252 §4.4).
    pub id: u16,
    /// Token, for matching a response with its request.
    pub token: Token,
    /// Options, sorted.
    pub options: Options,
    /// Payload; empty means none.
    pub payload: Vec<u8>,
}

impl Message {
    /// An Empty message of the given type: a ping, an empty ACK or an RST (RFC 7252 §4.1).
    pub fn empty(kind: Type, id: u16) -> Message {
        Message {
            kind,
            code: Code::EMPTY,
            id,
            token: Token::default(),
            options: Options::new(),
            payload: Vec::new(),
        }
    }

    /// Reads a datagram.
    ///
    /// # Errors
    /// The exact format error, with type and message ID when the header could be read, so that a
    /// Confirmable message can be rejected with RST (RFC 7252 §4.2).
    pub fn decode(datagram: &[u8]) -> Result<Message, DecodeError> {
        let Some((&[first, code, id_high, id_low], rest)) = datagram.split_first_chunk() else {
            return Err(DecodeError::without_header(FormatError::TooShort {
                len: datagram.len(),
            }));
        };
        if first >> 6 != VERSION {
            // RFC 7252 §3: messages of unknown version are silently ignored, so no header is given.
            return Err(DecodeError::without_header(FormatError::Version(
                first >> 6,
            )));
        }
        let kind = Type::from_bits(first >> 4);
        let id = u16::from_be_bytes([id_high, id_low]);
        let code = Code::from_byte(code);
        decode_rest(kind, code, id, first & 0x0f, rest).map_err(|error| DecodeError {
            error,
            header: Some((kind, id)),
        })
    }

    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        encode(
            self.kind,
            self.code,
            self.id,
            &self.token,
            &self.options,
            &self.payload,
        )
    }
}

fn decode_rest(
    kind: Type,
    code: Code,
    id: u16,
    token_len: u8,
    rest: &[u8],
) -> Result<Message, FormatError> {
    if usize::from(token_len) > Token::MAX_LEN {
        return Err(FormatError::TokenLength(token_len));
    }
    if code.is_reserved() {
        return Err(FormatError::ReservedClass(code));
    }
    if code.is_empty() {
        if token_len != 0 || !rest.is_empty() {
            return Err(FormatError::EmptyWithContent);
        }
        if kind == Type::NonConfirmable {
            return Err(FormatError::EmptyNonConfirmable);
        }
    } else if kind == Type::Reset {
        return Err(FormatError::ResetNotEmpty);
    } else if kind == Type::Acknowledgement && code.is_request() {
        return Err(FormatError::RequestInAcknowledgement);
    }
    let Some((token, rest)) = rest.split_at_checked(usize::from(token_len)) else {
        return Err(FormatError::TruncatedToken);
    };
    let token = Token::new(token).unwrap_or_default();
    let offset = HEADER_LEN + usize::from(token_len);
    let (options, payload) = decode_options(rest, offset)?;
    Ok(Message {
        kind,
        code,
        id,
        token,
        options,
        payload: payload.to_vec(),
    })
}

/// Reads options up to the marker or the end; `offset` is where `rest` stands in the datagram.
fn decode_options(rest: &[u8], offset: usize) -> Result<(Options, &[u8]), FormatError> {
    let mut options = if rest.is_empty() {
        Options::new()
    } else {
        Options::with_capacity(6, rest.len().min(96))
    };
    let mut reader = rest;
    let mut number: u32 = 0;
    loop {
        let at = offset + (rest.len() - reader.len());
        let Some((&head, tail)) = reader.split_first() else {
            return Ok((options, &[]));
        };
        if head == PAYLOAD_MARKER {
            if tail.is_empty() {
                return Err(FormatError::MarkerWithoutPayload { offset: at });
            }
            return Ok((options, tail));
        }
        let truncated = FormatError::TruncatedOption { offset: at };
        let (delta, tail) = match extended(head >> 4, tail) {
            Extended::Value(delta, tail) => (delta, tail),
            Extended::Reserved => return Err(FormatError::ReservedOptionDelta { offset: at }),
            Extended::Truncated => return Err(truncated),
        };
        let (len, tail) = match extended(head & 0x0f, tail) {
            Extended::Value(len, tail) => (len, tail),
            Extended::Reserved => return Err(FormatError::ReservedOptionLength { offset: at }),
            Extended::Truncated => return Err(truncated),
        };
        number += delta;
        let Ok(known) = u16::try_from(number) else {
            return Err(FormatError::OptionNumber { offset: at });
        };
        let Some((value, tail)) = tail.split_at_checked(len as usize) else {
            return Err(truncated);
        };
        options.add(known, value);
        reader = tail;
    }
}

enum Extended<'a> {
    Value(u32, &'a [u8]),
    Reserved,
    Truncated,
}

/// Option delta or length with its extension bytes (RFC 7252 §3.1).
fn extended(nibble: u8, tail: &[u8]) -> Extended<'_> {
    match nibble {
        13 => match tail.split_first() {
            Some((&byte, tail)) => Extended::Value(u32::from(byte) + 13, tail),
            None => Extended::Truncated,
        },
        14 => match tail.split_first_chunk() {
            Some((&bytes, tail)) => {
                Extended::Value(u32::from(u16::from_be_bytes(bytes)) + 269, tail)
            }
            None => Extended::Truncated,
        },
        15 => Extended::Reserved,
        small => Extended::Value(u32::from(small), tail),
    }
}

/// Writes a message from its parts, so that a block of a body need not be copied first.
pub(crate) fn encode(
    kind: Type,
    code: Code,
    id: u16,
    token: &Token,
    options: &Options,
    payload: &[u8],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(encoded_len(token, options, payload.len()));
    out.push((VERSION << 6) | (kind.bits() << 4) | token.len);
    out.push(code.byte());
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(token.bytes());
    let mut last = 0;
    for (number, value) in options.iter() {
        put_option(&mut out, number - last, value);
        last = number;
    }
    if !payload.is_empty() {
        out.push(PAYLOAD_MARKER);
        out.extend_from_slice(payload);
    }
    out
}

/// An upper bound of the encoded length in bytes, exact but for short options' extensions.
pub(crate) fn encoded_len(token: &Token, options: &Options, payload: usize) -> usize {
    let options: usize = options
        .iter()
        .map(|(_, value)| if value.len() < 13 { 3 } else { 5 } + value.len())
        .sum();
    HEADER_LEN + token.bytes().len() + options + usize::from(payload > 0) + payload
}

fn put_option(out: &mut Vec<u8>, delta: u16, value: &[u8]) {
    /// Longest value the length field can say: 269 + 65535 bytes (RFC 7252 §3.1).
    const MAX_VALUE: usize = 269 + 65535;
    let value = value.get(..MAX_VALUE).unwrap_or(value);
    let (delta_nibble, delta_bytes) = nibble(usize::from(delta));
    let (len_nibble, len_bytes) = nibble(value.len());
    out.push((delta_nibble << 4) | len_nibble);
    delta_bytes.put(out);
    len_bytes.put(out);
    out.extend_from_slice(value);
}

enum Extension {
    None,
    One(u8),
    Two(u16),
}

impl Extension {
    fn put(self, out: &mut Vec<u8>) {
        match self {
            Extension::None => {}
            Extension::One(byte) => out.push(byte),
            Extension::Two(word) => out.extend_from_slice(&word.to_be_bytes()),
        }
    }
}

fn nibble(value: usize) -> (u8, Extension) {
    match value {
        #[allow(clippy::cast_possible_truncation)] // the arm's own range
        0..13 => (value as u8, Extension::None),
        #[allow(clippy::cast_possible_truncation)] // the arm's own range
        13..269 => (13, Extension::One((value - 13) as u8)),
        _ => (
            14,
            Extension::Two(u16::try_from(value - 269).unwrap_or(u16::MAX)),
        ),
    }
}
