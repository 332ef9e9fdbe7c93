//! MESSAGE-INTEGRITY (RFC 3489 §11.2.8).

use std::fmt;

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq as _;

/// The MESSAGE-INTEGRITY of a message that was read, and what it covers.
#[derive(Clone, Copy)]
pub struct Integrity<'a> {
    covered: &'a [u8],
    value: &'a [u8; 20],
}

/// How the covered text is extended before the HMAC. RFC 3489 fills it with zeros to a multiple of 64; RFC 5389 and clients in the field do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// Zeros to a multiple of 64 octets.
    #[default]
    Block,
    /// None.
    None,
}

impl<'a> Integrity<'a> {
    pub(super) fn new(covered: &'a [u8], value: &'a [u8; 20]) -> Self {
        Self { covered, value }
    }

    /// Whether it was made with this password, and how the text was padded. The comparison takes the same time for every value.
    pub fn verify(&self, password: &[u8]) -> Option<Padding> {
        [Padding::Block, Padding::None].into_iter().find(|padding| {
            Self::compute(self.covered, password, *padding)
                .ct_eq(self.value)
                .into()
        })
    }

    /// The value over a message's octets up to here. The header's length in it is the one that counts MESSAGE-INTEGRITY and nothing
    /// behind it, as RFC 5389 §15.4 says for messages that go on.
    pub(super) fn compute(covered: &[u8], password: &[u8], padding: Padding) -> [u8; 20] {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password);
        let mut context = hmac::Context::with_key(&key);
        if let Some((kind, behind)) = covered.split_at_checked(2)
            && let Some(behind) = behind.get(2..)
        {
            let length = u16::try_from(covered.len() + 4).unwrap_or(u16::MAX);
            context.update(kind);
            context.update(&length.to_be_bytes());
            context.update(behind);
        }
        if padding == Padding::Block {
            let missing = covered.len().next_multiple_of(64) - covered.len();
            context.update(&[0; 64][..missing]);
        }
        let mut value = [0; 20];
        value.copy_from_slice(context.sign().as_ref());
        value
    }
}

impl fmt::Debug for Integrity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MESSAGE-INTEGRITY over {} octets", self.covered.len())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::stun::{Attribute, Builder, Message, Method, TransactionId};

    fn request(password: &[u8], padding: Padding) -> Vec<u8> {
        Builder::new(Method::BindingRequest, TransactionId([7; 16]))
            .attribute(Attribute::Username(b"cpe-0001"))
            .protect(password, padding)
    }

    #[test]
    fn both_paddings_are_recognised_and_no_other_password() {
        for padding in [Padding::Block, Padding::None] {
            let octets = request(b"secret", padding);
            let message = Message::decode(&octets).unwrap();
            let integrity = message.integrity().unwrap();
            assert_eq!(integrity.verify(b"secret"), Some(padding));
            assert_eq!(integrity.verify(b"Secret"), None);
            assert_eq!(integrity.verify(b""), None);
        }
    }

    #[test]
    fn every_covered_octet_counts() {
        let octets = request(b"secret", Padding::Block);
        for at in (4..octets.len() - 24).filter(|at| !(20..24).contains(at)) {
            let mut changed = octets.clone();
            changed[at] ^= 0x01;
            let message = Message::decode(&changed).unwrap();
            assert_eq!(
                message.integrity().unwrap().verify(b"secret"),
                None,
                "octet {at}"
            );
        }
    }

    /// RFC 5769 §2.1: a request with RFC 5389's unpadded integrity, followed by a FINGERPRINT.
    #[test]
    fn the_test_vector_of_rfc_5769_verifies() {
        let vector = [
            0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34,
            0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e,
            0x20, 0x74, 0x65, 0x73, 0x74, 0x20, 0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74, 0x00, 0x24,
            0x00, 0x04, 0x6e, 0x00, 0x01, 0xff, 0x80, 0x29, 0x00, 0x08, 0x93, 0x2f, 0xf9, 0xb1,
            0x51, 0x26, 0x3b, 0x36, 0x00, 0x06, 0x00, 0x09, 0x65, 0x76, 0x74, 0x6a, 0x3a, 0x68,
            0x36, 0x76, 0x59, 0x20, 0x20, 0x20, 0x00, 0x08, 0x00, 0x14, 0x9a, 0xea, 0xa7, 0x0c,
            0xbf, 0xd8, 0xcb, 0x56, 0x78, 0x1e, 0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49, 0xc1, 0xb5,
            0x71, 0xa2, 0x80, 0x28, 0x00, 0x04, 0xe5, 0x7a, 0x3b, 0xcf,
        ];
        let message = Message::decode(&vector).unwrap();
        assert_eq!(message.username(), Some(&b"evtj:h6vY"[..]));
        let integrity = message.integrity().unwrap();
        assert_eq!(
            integrity.verify(b"VOkJxbRl1RmTxUk/WvJxBt"),
            Some(Padding::None)
        );
    }
}
