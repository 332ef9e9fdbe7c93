//! Frames (R-UDS.6 to R-UDS.15).
#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::mtp::inbox::Inbox;

/// What every frame begins with (R-UDS.8).
pub const SYNC: [u8; 4] = *b"_USP";

/// The TLV type of a handshake: an Endpoint ID.
pub const HANDSHAKE: u8 = 1;

/// The TLV type of an error: a text.
pub const ERROR: u8 = 2;

/// The TLV type of a Record.
pub const RECORD: u8 = 3;

/// The most TLVs that are taken in one frame; a bound of ours.
pub const MAX_TLVS: usize = 64;

const HEADER: usize = 8;
const TLV_HEADER: usize = 5;

/// One frame: one or more TLVs (R-UDS.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its parts, in order.
    pub tlvs: Vec<Tlv>,
}

/// A part of a frame. One with a type that this version does not know is kept, and ignored by the session
/// (R-UDS.15).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tlv {
    /// [`HANDSHAKE`], [`ERROR`], [`RECORD`] or another number.
    pub kind: u8,
    /// The value.
    pub value: Vec<u8>,
}

/// Bytes that are no frame. Where the next frame begins is unknown then: the connection ends (R-UDS.24).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It does not begin with `_USP` (R-UDS.8).
    #[error("byte {0} of the header is not that of \"_USP\"")]
    Sync(usize),
    /// It is longer than is taken; told before any of it is kept.
    #[error("a frame of {length} bytes, at most {max} are taken")]
    TooLarge {
        /// The length that the header tells.
        length: u32,
        /// The most that is taken.
        max: usize,
    },
    /// It has no TLV (R-UDS.6).
    #[error("a frame has at least one TLV")]
    Empty,
    /// It has more than [`MAX_TLVS`].
    #[error("a frame of more than {MAX_TLVS} TLVs")]
    TooManyTlvs,
    /// A TLV's header or value goes on beyond the frame (R-UDS.10, R-UDS.11).
    #[error("the TLV at offset {0} ends beyond the frame")]
    Truncated(usize),
}

impl Frame {
    /// A frame with one part.
    pub fn one(kind: u8, value: impl Into<Vec<u8>>) -> Self {
        Self {
            tlvs: vec![Tlv {
                kind,
                value: value.into(),
            }],
        }
    }

    /// The frame's bytes.
    ///
    /// # Panics
    /// When it is longer than 4 GiB, which nothing here makes.
    pub fn encode(&self) -> Vec<u8> {
        let length: usize = self
            .tlvs
            .iter()
            .map(|tlv| TLV_HEADER + tlv.value.len())
            .sum();
        let number = |length: usize| {
            u32::try_from(length)
                .expect("a frame is shorter than 4 GiB")
                .to_be_bytes()
        };
        let mut bytes = Vec::with_capacity(HEADER + length);
        bytes.extend(SYNC);
        bytes.extend(number(length));
        for tlv in &self.tlvs {
            bytes.push(tlv.kind);
            bytes.extend(number(tlv.value.len()));
            bytes.extend(&tlv.value);
        }
        bytes
    }

    /// The frame whose bytes after the header are `rest`.
    fn decode(rest: &[u8]) -> Result<Self, FrameError> {
        let mut tlvs = Vec::new();
        let mut left = rest;
        while let Some((kind, after)) = left.split_first() {
            let truncated = FrameError::Truncated(rest.len() - left.len());
            if tlvs.len() == MAX_TLVS {
                return Err(FrameError::TooManyTlvs);
            }
            let (length, after) = after.split_first_chunk().ok_or(truncated)?;
            let (value, after) = usize::try_from(u32::from_be_bytes(*length))
                .ok()
                .and_then(|length| after.split_at_checked(length))
                .ok_or(truncated)?;
            tlvs.push(Tlv {
                kind: *kind,
                value: value.to_vec(),
            });
            left = after;
        }
        if tlvs.is_empty() {
            return Err(FrameError::Empty);
        }
        Ok(Self { tlvs })
    }
}

/// Cuts a stream of bytes into frames, however the bytes come.
#[derive(Clone, Debug)]
pub struct Decoder {
    max: usize,
    inbox: Inbox,
    error: Option<FrameError>,
}

impl Decoder {
    /// A decoder that takes frames of at most `max` bytes after the header.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            inbox: Inbox::default(),
            error: None,
        }
    }

    /// Takes bytes off the stream. After an error they are dropped.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.error.is_none() {
            self.inbox.push(bytes);
        }
    }

    /// The next frame; `None` until more bytes come.
    ///
    /// # Errors
    /// [`FrameError`], and the same for ever after.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        self.try_next().inspect_err(|error| {
            self.error = Some(*error);
            self.inbox = Inbox::default();
        })
    }

    /// How many bytes wait for the rest of their frame.
    pub fn buffered(&self) -> usize {
        self.inbox.rest().len()
    }

    fn try_next(&mut self) -> Result<Option<Frame>, FrameError> {
        let buffer = self.inbox.rest();
        let wrong = buffer.iter().zip(SYNC).position(|(is, due)| *is != due);
        if let Some(offset) = wrong {
            return Err(FrameError::Sync(offset));
        }
        let Some((header, rest)) = buffer.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [_, _, _, _, length @ ..] = *header;
        let length = u32::from_be_bytes(length);
        let max = self.max;
        let size = usize::try_from(length)
            .ok()
            .filter(|size| *size <= max)
            .ok_or(FrameError::TooLarge { length, max })?;
        let Some(rest) = rest.get(..size) else {
            return Ok(None);
        };
        let frame = Frame::decode(rest)?;
        self.inbox.consume(HEADER + size);
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
        let mut decoder = Decoder::new(100);
        decoder.push(bytes);
        decoder.next_frame()
    }

    #[test]
    fn a_handshake_has_the_bytes_of_the_standards_example() {
        let frame = Frame::one(HANDSHAKE, "os::00256D-0123456789");
        let mut bytes = b"_USP\0\0\0\x1a\x01\0\0\0\x15".to_vec();
        bytes.extend(b"os::00256D-0123456789");
        assert_eq!(frame.encode(), bytes);
        assert_eq!(decode(&bytes), Ok(Some(frame)));
    }

    #[test]
    fn a_frame_is_found_however_its_bytes_are_cut() {
        let frames = [
            Frame::one(RECORD, vec![0; 3]),
            Frame {
                tlvs: vec![
                    Tlv {
                        kind: 9,
                        value: vec![],
                    },
                    Tlv {
                        kind: ERROR,
                        value: b"x".to_vec(),
                    },
                ],
            },
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        for size in 1..=bytes.len() {
            let mut decoder = Decoder::new(100);
            let mut found = Vec::new();
            for piece in bytes.chunks(size) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().unwrap_or(None) {
                    found.push(frame);
                }
            }
            assert_eq!((found.as_slice(), decoder.buffered()), (&frames[..], 0));
        }
    }

    #[test]
    fn another_synchronisation_is_an_error_at_its_first_wrong_byte() {
        assert_eq!(decode(b"G"), Err(FrameError::Sync(0)));
        assert_eq!(decode(b"_USp"), Err(FrameError::Sync(3)));
        assert_eq!(decode(b"_US"), Ok(None));
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_header() {
        assert_eq!(
            decode(b"_USP\0\0\0\x65"),
            Err(FrameError::TooLarge {
                length: 101,
                max: 100
            })
        );
        assert_eq!(decode(b"_USP\0\0\0\x64"), Ok(None));
        assert!(decode(b"_USP\xff\xff\xff\xff").is_err());
    }

    #[test]
    fn a_frame_without_tlv_is_an_error() {
        assert_eq!(decode(b"_USP\0\0\0\0"), Err(FrameError::Empty));
    }

    #[test]
    fn a_tlv_that_goes_on_beyond_its_frame_is_an_error() {
        for (rest, offset) in [
            (&b"\x01"[..], 0),
            (b"\x01\0\0\0", 0),
            (b"\x01\0\0\0\x01", 0),
            (b"\x01\0\0\0\x01a\x02", 6),
            (b"\x01\xff\xff\xff\xff", 0),
        ] {
            let mut bytes = b"_USP\0\0\0".to_vec();
            bytes.push(u8::try_from(rest.len()).unwrap_or(0));
            bytes.extend(rest);
            assert_eq!(decode(&bytes), Err(FrameError::Truncated(offset)));
        }
    }

    #[test]
    fn a_frame_of_too_many_tlvs_is_an_error() {
        let tlv = Tlv {
            kind: 7,
            value: vec![],
        };
        let of = |count| {
            let mut decoder = Decoder::new(1000);
            decoder.push(
                &Frame {
                    tlvs: vec![tlv.clone(); count],
                }
                .encode(),
            );
            decoder.next_frame()
        };
        assert_eq!(of(MAX_TLVS + 1), Err(FrameError::TooManyTlvs));
        assert!(of(MAX_TLVS).is_ok());
    }

    #[test]
    fn after_an_error_nothing_is_kept_and_nothing_is_found() {
        let mut decoder = Decoder::new(100);
        decoder.push(b"_USP\0\0\0\0");
        assert_eq!(decoder.next_frame(), Err(FrameError::Empty));
        decoder.push(&Frame::one(RECORD, "x").encode());
        assert_eq!(
            (decoder.next_frame(), decoder.buffered()),
            (Err(FrameError::Empty), 0)
        );
    }
}
