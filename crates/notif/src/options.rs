//! Options after the fixed header: type, length (which counts type and length too), value.

use crate::error::DecodeError;
use crate::generation::Generation;

/// Type of the segmentation option (-26 §4.1; to be assigned in -03).
pub(crate) const SEGMENTATION: u8 = 1;
/// Type of the private encoding option (-04 to -18; to be assigned in -03).
pub(crate) const PRIVATE_ENCODING: u8 = 2;
const SEGMENTATION_LEN: u8 = 4;

/// The segmentation option: which piece of a message a datagram holds (-26 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Segment {
    /// From 0, at most 32,767.
    pub number: u16,
    /// It is the last one: there are `number + 1`.
    pub last: bool,
}

impl Segment {
    pub(crate) fn decode(value: u16) -> Self {
        Self {
            number: value >> 1,
            last: value & 1 == 1,
        }
    }

    pub(crate) fn encode(self) -> u16 {
        self.number << 1 | u16::from(self.last)
    }
}

/// One option as it stands in the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawOption<'a> {
    /// Its type.
    pub kind: u8,
    /// Its value, at most 253 bytes.
    pub value: &'a [u8],
}

/// The options of a message, checked to be well-formed; the segmentation option is among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options<'a> {
    bytes: &'a [u8],
}

impl<'a> Options<'a> {
    /// Reads options that follow `offset` bytes of header, with the segmentation option among them.
    pub(crate) fn decode(
        bytes: &'a [u8],
        offset: usize,
        generation: Generation,
    ) -> Result<(Self, Option<Segment>), DecodeError> {
        let mut segment = None;
        let mut rest = bytes;
        while let Some((&kind, after)) = rest.split_first() {
            let offset = offset + (bytes.len() - rest.len());
            let length = after.first().copied().unwrap_or(0);
            if length < 2 {
                return Err(DecodeError::OptionLength { offset, length });
            }
            let Some((option, next)) = rest.split_at_checked(length.into()) else {
                return Err(DecodeError::OptionBeyondHeader { offset, length });
            };
            match (kind, option) {
                (SEGMENTATION, &[_, SEGMENTATION_LEN, high, low]) => {
                    if segment.is_some() {
                        return Err(DecodeError::RepeatedSegmentation { offset });
                    }
                    segment = Some(Segment::decode(u16::from_be_bytes([high, low])));
                }
                (SEGMENTATION, _) => {
                    return Err(DecodeError::SegmentationLength { offset, length });
                }
                (PRIVATE_ENCODING, _) if generation.has_private_encoding() => {}
                _ if generation.discards_unknown_options() => {
                    return Err(DecodeError::UnknownOption { offset, kind });
                }
                _ => {}
            }
            rest = next;
        }
        Ok((Self { bytes }, segment))
    }

    /// The options in order.
    pub fn iter(&self) -> impl Iterator<Item = RawOption<'a>> + use<'a> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            let (&[kind, length], _) = rest.split_first_chunk()?;
            let (option, next) = rest.split_at_checked(length.into())?;
            rest = next;
            Some(RawOption {
                kind,
                value: option.get(2..)?,
            })
        })
    }

    /// The value of the first option of this type.
    pub fn find(&self, kind: u8) -> Option<&'a [u8]> {
        self.iter()
            .find(|option| option.kind == kind)
            .map(|option| option.value)
    }

    /// The options as they came.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }
}
