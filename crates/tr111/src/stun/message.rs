//! A message and its octets.

use std::fmt;

use super::{
    attribute::Attribute,
    integrity::{Integrity, Padding},
};

/// Longest message that is read or made: what TR-111 needs is below 700 octets, and a binding through NAT is no place for fragments.
pub const MAX_MESSAGE: usize = 1280;
/// Most attributes in a message that is read.
const MAX_ATTRIBUTES: usize = 32;
/// The header's length (RFC 3489 §11.1).
const HEADER: usize = 20;

/// What a message is for (RFC 3489 §11.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// Asks where this comes from.
    BindingRequest,
    /// Says where it came from.
    BindingResponse,
    /// Says why not.
    BindingErrorResponse,
    /// Asks for a username and password; TR-111 does not use it.
    SharedSecretRequest,
}

impl Method {
    fn from_code(code: u16) -> Option<Self> {
        Some(match code {
            0x0001 => Self::BindingRequest,
            0x0101 => Self::BindingResponse,
            0x0111 => Self::BindingErrorResponse,
            0x0002 => Self::SharedSecretRequest,
            _ => return None,
        })
    }

    fn code(self) -> u16 {
        match self {
            Self::BindingRequest => 0x0001,
            Self::BindingResponse => 0x0101,
            Self::BindingErrorResponse => 0x0111,
            Self::SharedSecretRequest => 0x0002,
        }
    }
}

/// What the transaction IDs of RFC 5389 begin with.
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];

/// Joins a response to its request: 16 random octets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(pub [u8; 16]);

impl TransactionId {
    /// Whether the sender speaks RFC 5389.
    pub fn has_cookie(&self) -> bool {
        self.0.starts_with(&MAGIC_COOKIE)
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for octet in self.0 {
            write!(f, "{octet:02x}")?;
        }
        Ok(())
    }
}

/// Why octets are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer than 20 octets, or more than [`MAX_MESSAGE`].
    #[error("{0} octets")]
    Size(usize),
    /// The header's length is not that of the datagram (RFC 3489 §11.1).
    #[error("the header says {stated} octets of attributes, there are {found}")]
    Length {
        /// As the header says.
        stated: usize,
        /// In the datagram.
        found: usize,
    },
    /// A message type that RFC 3489 does not have.
    #[error("message type {0:#06x}")]
    Method(u16),
    /// An attribute ends behind the message.
    #[error("attribute {kind:#06x} at offset {offset} ends behind the message")]
    Truncated {
        /// Its type; 0 when not even that is there.
        kind: u16,
        /// Where it begins.
        offset: usize,
    },
    /// An attribute's value has not the form of its type.
    #[error("attribute {kind:#06x} has a malformed value")]
    Value {
        /// Its type.
        kind: u16,
    },
    /// More attributes than are read.
    #[error("more than {MAX_ATTRIBUTES} attributes")]
    Count,
    /// MESSAGE-INTEGRITY is not the last attribute (RFC 3489 §11.2.8).
    #[error("MESSAGE-INTEGRITY is not the last attribute")]
    IntegrityNotLast,
}

/// A message that was read. Of attributes that come twice, the first counts.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// What it is for.
    pub method: Method,
    /// Joins a response to its request.
    pub transaction: TransactionId,
    octets: &'a [u8],
    /// Where MESSAGE-INTEGRITY begins: what is before it is what it covers.
    covered: Option<usize>,
}

impl<'a> Message<'a> {
    /// Reads a datagram. Every attribute is checked here; nothing is copied.
    pub fn decode(octets: &'a [u8]) -> Result<Self, DecodeError> {
        let size = DecodeError::Size(octets.len());
        let (header, body) = octets.split_first_chunk::<HEADER>().ok_or(size)?;
        if octets.len() > MAX_MESSAGE {
            return Err(size);
        }
        let stated = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if stated != body.len() {
            let found = body.len();
            return Err(DecodeError::Length { stated, found });
        }
        let code = u16::from_be_bytes([header[0], header[1]]);
        let method = Method::from_code(code).ok_or(DecodeError::Method(code))?;
        let mut transaction = [0; 16];
        transaction.copy_from_slice(&header[4..]);
        let transaction = TransactionId(transaction);
        let covered = check(octets, &transaction)?;
        Ok(Self {
            method,
            transaction,
            octets,
            covered,
        })
    }

    /// The attributes, in the order they came.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'a>> {
        let transaction = self.transaction;
        Attributes {
            octets: self.octets,
            offset: HEADER,
        }
        .map_while(Result::ok)
        .filter_map(move |(_, kind, value)| Attribute::decode(kind, value, &transaction.0).ok())
    }

    /// Whether it has this attribute.
    pub fn has(&self, attribute: Attribute<'_>) -> bool {
        self.attributes().any(|found| found == attribute)
    }

    /// Where the request came from, as the server saw it.
    pub fn mapped_address(&self) -> Option<std::net::SocketAddr> {
        self.attributes().find_map(|attribute| match attribute {
            Attribute::MappedAddress(at) | Attribute::XorMappedAddress(at) => Some(at),
            _ => None,
        })
    }

    /// Why the request was refused.
    pub fn error_code(&self) -> Option<super::ErrorCode> {
        self.attributes().find_map(|attribute| match attribute {
            Attribute::ErrorCode(code) => Some(code),
            _ => None,
        })
    }

    /// Whose password the integrity is made with.
    pub fn username(&self) -> Option<&'a [u8]> {
        self.attributes().find_map(|attribute| match attribute {
            Attribute::Username(name) => Some(name),
            _ => None,
        })
    }

    /// The integrity that came with it.
    pub fn integrity(&self) -> Option<Integrity<'a>> {
        let at = self.covered?;
        let value = self.octets.get(at + 4..at + 24)?;
        Some(Integrity::new(self.octets.get(..at)?, value.first_chunk()?))
    }

    /// Types of mandatory attributes that a reader of RFC 3489 does not know (RFC 3489 §8.1), in the order they came.
    pub fn unknown_mandatory(&self) -> impl Iterator<Item = u16> {
        self.attributes().filter_map(|attribute| match attribute {
            Attribute::Other { kind, .. } if kind < super::kind::FIRST_OPTIONAL => Some(kind),
            _ => None,
        })
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} ", self.method, self.transaction)?;
        f.debug_list().entries(self.attributes()).finish()
    }
}

/// Checks every attribute; where MESSAGE-INTEGRITY begins, when there is one.
fn check(octets: &[u8], transaction: &TransactionId) -> Result<Option<usize>, DecodeError> {
    let mut covered = None;
    let walk = Attributes {
        octets,
        offset: HEADER,
    };
    for (count, step) in walk.enumerate() {
        let (offset, kind, value) = step?;
        if count == MAX_ATTRIBUTES {
            return Err(DecodeError::Count);
        }
        let attribute = Attribute::decode(kind, value, &transaction.0)?;
        // RFC 5389's FINGERPRINT may follow; nothing that means something may.
        if covered.is_some() && !matches!(attribute, Attribute::Other { .. }) {
            return Err(DecodeError::IntegrityNotLast);
        }
        if let Attribute::MessageIntegrity(_) = attribute {
            covered = Some(offset);
        }
    }
    Ok(covered)
}

/// Walks over types and values.
struct Attributes<'a> {
    octets: &'a [u8],
    offset: usize,
}

impl<'a> Iterator for Attributes<'a> {
    /// Where it begins, its type, its value.
    type Item = Result<(usize, u16, &'a [u8]), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.offset;
        let rest = self.octets.get(offset..).filter(|rest| !rest.is_empty())?;
        let Some((&[k1, k2, l1, l2], behind)) = rest.split_first_chunk::<4>() else {
            self.offset = self.octets.len();
            return Some(Err(DecodeError::Truncated { kind: 0, offset }));
        };
        let kind = u16::from_be_bytes([k1, k2]);
        let length = usize::from(u16::from_be_bytes([l1, l2]));
        let Some(value) = behind.get(..length) else {
            self.offset = self.octets.len();
            return Some(Err(DecodeError::Truncated { kind, offset }));
        };
        // RFC 3489 has only lengths that are multiples of four; RFC 5389 pads, and the last padding is missing in the field.
        self.offset = (offset + 4 + length.next_multiple_of(4)).min(self.octets.len());
        Some(Ok((offset, kind, value)))
    }
}

/// A message that is being made.
#[derive(Clone, Debug)]
pub struct Builder {
    octets: Vec<u8>,
}

impl Builder {
    /// A message without attributes.
    pub fn new(method: Method, transaction: TransactionId) -> Self {
        Self::reuse(Vec::with_capacity(128), method, transaction)
    }

    /// As [`Builder::new`], in a buffer that is there already; what is in it goes.
    pub fn reuse(mut octets: Vec<u8>, method: Method, transaction: TransactionId) -> Self {
        octets.clear();
        octets.extend_from_slice(&method.code().to_be_bytes());
        octets.extend_from_slice(&[0, 0]);
        octets.extend_from_slice(&transaction.0);
        Self { octets }
    }

    /// Appends an attribute, padded with zeros to a multiple of four.
    ///
    /// What would make the message longer than [`MAX_MESSAGE`] is left out; nothing that this crate sends comes near.
    pub fn attribute(mut self, attribute: Attribute<'_>) -> Self {
        let before = self.octets.len();
        self.octets
            .extend_from_slice(&attribute.kind().to_be_bytes());
        self.octets.extend_from_slice(&[0, 0]);
        let mut transaction = [0; 16];
        transaction.copy_from_slice(&self.octets[4..HEADER]);
        attribute.encode_value(&transaction, &mut self.octets);
        let length = self.octets.len() - before - 4;
        let padded = self.octets.len().next_multiple_of(4);
        match u16::try_from(length) {
            Ok(length) if padded <= MAX_MESSAGE => {
                self.octets[before + 2..before + 4].copy_from_slice(&length.to_be_bytes());
                self.octets.resize(padded, 0);
            }
            _ => self.octets.truncate(before),
        }
        self
    }

    /// Appends an attribute when there is one.
    pub fn optional(self, attribute: Option<Attribute<'_>>) -> Self {
        match attribute {
            Some(attribute) => self.attribute(attribute),
            None => self,
        }
    }

    /// The message.
    pub fn build(mut self) -> Vec<u8> {
        let length = self.octets.len() - HEADER;
        let length = u16::try_from(length).expect("at most MAX_MESSAGE");
        self.octets[2..4].copy_from_slice(&length.to_be_bytes());
        self.octets
    }

    /// The message with MESSAGE-INTEGRITY as its last attribute (RFC 3489 §11.2.8).
    pub fn protect(self, password: &[u8], padding: Padding) -> Vec<u8> {
        let value = Integrity::compute(&self.octets, password, padding);
        self.attribute(Attribute::MessageIntegrity(&value)).build()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::stun::{ErrorCode, kind};

    const ID: TransactionId = TransactionId(*b"0123456789abcdef");

    #[test]
    fn what_is_built_is_read_back() {
        let at = "192.0.2.7:5060".parse().unwrap();
        let six = "[2001:db8::1]:7".parse().unwrap();
        let attributes = [
            Attribute::MappedAddress(at),
            Attribute::ResponseAddress(six),
            Attribute::ChangeRequest {
                address: true,
                port: false,
            },
            Attribute::SourceAddress(six),
            Attribute::ChangedAddress(at),
            Attribute::Username(b"cpe-0001"),
            Attribute::ErrorCode(ErrorCode::UNAUTHORIZED),
            Attribute::UnknownAttributes(&[0, 0x40, 0, 0x41]),
            Attribute::ReflectedFrom(at),
            Attribute::XorMappedAddress(six),
            Attribute::ConnectionRequestBinding,
            Attribute::BindingChange,
            Attribute::Other {
                kind: 0x8022,
                value: b"four",
            },
        ];
        let octets = attributes
            .iter()
            .fold(Builder::new(Method::BindingResponse, ID), |b, a| {
                b.attribute(*a)
            })
            .build();
        let message = Message::decode(&octets).unwrap();
        assert_eq!(message.attributes().collect::<Vec<_>>(), attributes);
        assert_eq!(
            (message.method, message.transaction),
            (Method::BindingResponse, ID)
        );
        assert!(message.integrity().is_none());
    }

    #[test]
    fn lengths_that_do_not_agree_are_refused() {
        let octets = Builder::new(Method::BindingRequest, ID).build();
        assert_eq!(
            Message::decode(&octets[..19]).map(|_| ()),
            Err(DecodeError::Size(19))
        );
        let mut longer = octets.clone();
        longer.push(0);
        let error = DecodeError::Length {
            stated: 0,
            found: 1,
        };
        assert_eq!(Message::decode(&longer).map(|_| ()), Err(error));
        let mut endless = octets.clone();
        endless.extend_from_slice(&[0, 6, 0, 9, 1]);
        endless[3] = 5;
        let error = DecodeError::Truncated {
            kind: kind::USERNAME,
            offset: 20,
        };
        assert_eq!(Message::decode(&endless).map(|_| ()), Err(error));
        let mut stub = octets.clone();
        stub.extend_from_slice(&[0, 6, 0]);
        stub[3] = 3;
        let error = DecodeError::Truncated {
            kind: 0,
            offset: 20,
        };
        assert_eq!(Message::decode(&stub).map(|_| ()), Err(error));
        let long = vec![0; MAX_MESSAGE + 1];
        assert_eq!(
            Message::decode(&long).map(|_| ()),
            Err(DecodeError::Size(MAX_MESSAGE + 1))
        );
    }

    #[test]
    fn values_of_a_wrong_form_are_refused() {
        for (kind, value) in [
            (kind::MAPPED_ADDRESS, &[0u8, 1, 0, 80, 127, 0, 0][..]),
            (kind::MAPPED_ADDRESS, &[0, 3, 0, 80, 127, 0, 0, 1]),
            (kind::RESPONSE_ADDRESS, &[0, 2, 0, 80, 127, 0, 0, 1]),
            (kind::CHANGE_REQUEST, &[0, 0, 6]),
            (kind::USERNAME, &[]),
            (kind::MESSAGE_INTEGRITY, &[0; 19]),
            (kind::ERROR_CODE, &[0, 0, 4]),
            (kind::ERROR_CODE, &[0, 0, 4, 100]),
            (kind::ERROR_CODE, &[0, 0, 0, 1]),
        ] {
            let octets = Builder::new(Method::BindingRequest, ID)
                .attribute(Attribute::Other { kind, value })
                .build();
            assert_eq!(
                Message::decode(&octets).map(|_| ()),
                Err(DecodeError::Value { kind })
            );
        }
    }

    #[test]
    fn another_text_marks_no_binding() {
        for value in [&b"dslforum.org/TR-111"[..], b"dslforum.org/TR-112 ", b""] {
            let other = Attribute::Other {
                kind: kind::CONNECTION_REQUEST_BINDING,
                value,
            };
            let octets = Builder::new(Method::BindingRequest, ID)
                .attribute(other)
                .build();
            let message = Message::decode(&octets).unwrap();
            assert!(!message.has(Attribute::ConnectionRequestBinding));
            assert_eq!(message.unknown_mandatory().count(), 0);
        }
    }

    #[test]
    fn nothing_that_means_something_follows_the_integrity() {
        let protected = Builder::new(Method::BindingRequest, ID).protect(b"secret", Padding::Block);
        let mut more = protected.clone();
        more.extend_from_slice(&[0xC0, 2, 0, 0]);
        more[3] += 4;
        assert_eq!(
            Message::decode(&more).map(|_| ()),
            Err(DecodeError::IntegrityNotLast)
        );
        let mut fingerprint = protected.clone();
        fingerprint.extend_from_slice(&[0x80, 0x28, 0, 4, 1, 2, 3, 4]);
        fingerprint[3] += 8;
        assert!(Message::decode(&fingerprint).unwrap().integrity().is_some());
    }

    #[test]
    fn xor_mapped_address_is_unmasked() {
        // RFC 5769 §2.2: 192.0.2.1, port 32853.
        let id = [
            0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87,
            0xdf, 0xae,
        ];
        let value = &[0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];
        let octets = Builder::new(Method::BindingResponse, TransactionId(id))
            .attribute(Attribute::Other {
                kind: kind::XOR_MAPPED_ADDRESS,
                value,
            })
            .build();
        let message = Message::decode(&octets).unwrap();
        assert_eq!(
            message.mapped_address(),
            Some("192.0.2.1:32853".parse().unwrap())
        );
    }

    #[test]
    fn unknown_mandatory_attributes_are_named() {
        let octets = Builder::new(Method::BindingRequest, ID)
            .attribute(Attribute::Other {
                kind: 0x0040,
                value: b"",
            })
            .attribute(Attribute::Other {
                kind: 0x8040,
                value: b"",
            })
            .build();
        let message = Message::decode(&octets).unwrap();
        assert_eq!(message.unknown_mandatory().collect::<Vec<_>>(), [0x0040]);
    }

    #[test]
    fn other_message_types_are_refused() {
        for code in [0x0000u16, 0x0003, 0x0112, 0x4001] {
            let mut octets = Builder::new(Method::BindingRequest, ID).build();
            octets[..2].copy_from_slice(&code.to_be_bytes());
            assert_eq!(
                Message::decode(&octets).map(|_| ()),
                Err(DecodeError::Method(code))
            );
        }
    }
}
