//! `PKIMessage` (RFC 9810 §5.1).

use der::{Decode, Encode, Sequence, asn1::BitString};

use super::{Body, Certificate, Header, Kept};
use crate::error::DecodeError;

/// What is read at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a message.
    pub bytes: usize,
    /// How deep nested messages may stand in each other (RFC 9810 §5.1.3.4); 0: none.
    pub nesting: usize,
    /// Entries of any list in a message: requests, certificates, texts, messages.
    pub entries: usize,
}

impl Default for Limits {
    /// 128 KiB, two levels of nested messages, 128 entries.
    fn default() -> Self {
        Self {
            bytes: 128 * 1024,
            nesting: 2,
            entries: 128,
        }
    }
}

/// `PKIMessage` (RFC 9810 §5.1). Header and body keep the bytes they were received as, because protection is computed over those.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct Message {
    /// The header.
    pub header: Kept<Header>,
    /// The body.
    pub body: Kept<Body>,
    /// MAC or signature.
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    pub protection: Option<BitString>,
    /// Certificates that may be of use; the one that verifies a signature stands first.
    #[asn1(context_specific = "1", optional = "true", tag_mode = "EXPLICIT")]
    pub extra_certs: Option<Vec<Certificate>>,
}

impl Message {
    /// Reads one message; nothing may follow it.
    pub fn decode(der: &[u8], limits: &Limits) -> Result<Self, DecodeError> {
        if der.len() > limits.bytes {
            return Err(DecodeError::TooLarge {
                bytes: der.len(),
                limit: limits.bytes,
            });
        }
        let message = <Self as Decode>::from_der(der)?;
        let entries = message.longest_list();
        if entries > limits.entries {
            return Err(DecodeError::TooMany {
                entries,
                limit: limits.entries,
            });
        }
        Ok(message)
    }

    /// The messages in a nested one, with one level less left to nest; nothing for the other bodies.
    pub fn nested(&self, limits: &Limits) -> Result<Vec<Self>, DecodeError> {
        let Body::Nested(messages) = &*self.body else {
            return Ok(Vec::new());
        };
        let Some(nesting) = limits.nesting.checked_sub(1) else {
            return Err(DecodeError::TooDeep);
        };
        let limits = Limits { nesting, ..*limits };
        messages
            .iter()
            .map(|message| Self::decode(&message.to_der(), &limits))
            .collect()
    }

    /// The DER.
    pub fn encode(&self) -> der::Result<Vec<u8>> {
        self.to_der()
    }

    /// `ProtectedPart`: header and body as received (RFC 9810 §5.1.3).
    pub fn protected_part(&self) -> Vec<u8> {
        protected_part(&self.header, &self.body)
    }

    /// The certificates besides, none if there are none.
    pub fn extra_certs(&self) -> &[Certificate] {
        self.extra_certs.as_deref().unwrap_or_default()
    }

    fn longest_list(&self) -> usize {
        [
            self.extra_certs().len(),
            self.header.general_info.as_ref().map_or(0, Vec::len),
            self.header.free_text.as_ref().map_or(0, Vec::len),
            self.body.longest_list(),
        ]
        .into_iter()
        .max()
        .unwrap_or(0)
    }
}

/// The SEQUENCE of header and body that protection is computed over (RFC 9810 §5.1.3).
pub(crate) fn protected_part(header: &Kept<Header>, body: &Kept<Body>) -> Vec<u8> {
    let length = header.der().len() + body.der().len();
    let mut part = vec![0x30];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => part.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let significant = &bytes[length.leading_zeros() as usize / 8..];
            part.push(0x80 | u8::try_from(significant.len()).unwrap_or(8));
            part.extend_from_slice(significant);
        }
    }
    part.extend_from_slice(header.der());
    part.extend_from_slice(body.der());
    part
}
