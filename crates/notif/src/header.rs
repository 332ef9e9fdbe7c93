//! The message header, read and written (-26 §3.2; pub-channel-05 for the legacy one).

use crate::error::{DecodeError, EncodeError};
use crate::generation::{Generation, Profile};
use crate::media_type::MediaType;
use crate::options::{Options, PRIVATE_ENCODING, SEGMENTATION, Segment};

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 12;
/// Most bytes of an option's value.
const MAX_OPTION_VALUE: usize = 253;

/// What the header of one datagram says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// By whose rules it is written. Of version 0, JSON and XML look the same in both generations and are taken for
    /// [`Generation::Draft03`]; version 1 is what the receiver's [`Profile`] says.
    pub generation: Generation,
    /// Encoding of the message.
    pub media_type: MediaType,
    /// Message Publisher ID (Observation-Domain-ID up to -10, Message-Generator-ID in pub-channel).
    pub publisher_id: u32,
    /// Message ID; the segments of one message share it.
    pub message_id: u32,
    /// Set when the message is cut into segments and this is one.
    pub segment: Option<Segment>,
}

/// One datagram: a message, or a segment of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its header.
    pub header: Header,
    /// Its options.
    pub options: Options<'a>,
    /// The notification message, or the piece of it.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads a datagram that holds exactly one message or segment, of whichever generation: version 1 is told by its bits; version 0 by
    /// a header length of at least 12, which in the legacy header would be an encoding that nobody has assigned.
    ///
    /// # Errors
    /// Why it is no message, with where. Never for what a media type means: see [`MediaType::Unassigned`].
    pub fn decode(datagram: &'a [u8], profile: Profile) -> Result<Self, DecodeError> {
        let len = datagram.len();
        let Some((fixed, _)) = datagram.split_first_chunk::<HEADER_LEN>() else {
            return Err(DecodeError::TooShort { len });
        };
        let [first, header_len, l0, l1, p0, p1, p2, p3, m0, m1, m2, m3] = *fixed;
        let message_len = usize::from(u16::from_be_bytes([l0, l1]));
        let code = first & 0x0F;
        let private = first & 0x10 != 0;
        let (generation, header_len) = match first >> 5 {
            1 => (profile.generation(), usize::from(header_len)),
            0 if usize::from(header_len) >= HEADER_LEN => {
                let generation = if code == 3 && !private {
                    Generation::Draft04
                } else {
                    Generation::Draft03
                };
                (generation, usize::from(header_len))
            }
            0 if !private => {
                // Four bits of flags end the first byte; the second one is four bits of flags and the encoding.
                if first != 0 {
                    return Err(DecodeError::LegacyFlags(first));
                }
                return Self::legacy(datagram, header_len, message_len, fixed);
            }
            0 => return Err(DecodeError::HeaderLength(header_len)),
            version => return Err(DecodeError::Version(version)),
        };
        if header_len < HEADER_LEN {
            return Err(DecodeError::HeaderLength(fixed[1]));
        }
        let whole = exact(datagram, header_len, message_len)?;
        let media_type = if private {
            MediaType::Private(code)
        } else {
            generation.media_type(code)
        };
        let (header, payload) = whole.split_at(header_len);
        let (options, segment) = if header_len == HEADER_LEN {
            (Options::default(), None)
        } else {
            Options::decode(
                header.get(HEADER_LEN..).unwrap_or_default(),
                HEADER_LEN,
                generation,
            )?
        };
        Ok(Self {
            header: Header {
                generation,
                media_type,
                publisher_id: u32::from_be_bytes([p0, p1, p2, p3]),
                message_id: u32::from_be_bytes([m0, m1, m2, m3]),
                segment,
            },
            options,
            payload,
        })
    }

    /// The header of pub-channel without flags, hence without options.
    fn legacy(
        datagram: &'a [u8],
        encoding: u8,
        message_len: usize,
        fixed: &[u8; HEADER_LEN],
    ) -> Result<Self, DecodeError> {
        let whole = exact(datagram, HEADER_LEN, message_len)?;
        let [.., p0, p1, p2, p3, m0, m1, m2, m3] = *fixed;
        Ok(Self {
            header: Header {
                generation: Generation::PubChannel,
                media_type: Generation::PubChannel.media_type(encoding),
                publisher_id: u32::from_be_bytes([p0, p1, p2, p3]),
                message_id: u32::from_be_bytes([m0, m1, m2, m3]),
                segment: None,
            },
            options: Options::default(),
            payload: whole.get(HEADER_LEN..).unwrap_or_default(),
        })
    }

    /// The description of a private encoding, where the generation has that option and the message carries it. Free text, but nobody
    /// checks that it is UTF-8.
    pub fn private_encoding(&self) -> Option<&'a [u8]> {
        if !self.header.generation.has_private_encoding() {
            return None;
        }
        self.options.find(PRIVATE_ENCODING)
    }
}

/// The datagram, when the lengths in the header agree with it.
fn exact(datagram: &[u8], header_len: usize, message_len: usize) -> Result<&[u8], DecodeError> {
    if header_len > message_len {
        return Err(DecodeError::HeaderBeyondMessage {
            header: header_len,
            message: message_len,
        });
    }
    let len = datagram.len();
    if message_len > len {
        return Err(DecodeError::MessageBeyondDatagram {
            message: message_len,
            datagram: len,
        });
    }
    if message_len < len {
        return Err(DecodeError::TrailingBytes {
            message: message_len,
            datagram: len,
        });
    }
    Ok(datagram)
}

impl Header {
    /// Bytes that the header and its options take, with this description of a private encoding.
    pub fn encoded_len(&self, private_encoding: Option<&[u8]>) -> usize {
        HEADER_LEN
            + self.segment.map_or(0, |_| crate::SEGMENTATION_OPTION_LEN)
            + private_encoding.map_or(0, |text| 2 + text.len())
    }

    /// Appends the message, or the segment of one, to `out`.
    ///
    /// # Errors
    /// When the generation has no such message, or it is too long for a datagram. Nothing is appended then.
    pub fn encode(
        &self,
        private_encoding: Option<&[u8]>,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let generation = self.generation;
        if !generation.is_publishable() {
            return Err(EncodeError::NotPublishable(generation));
        }
        let Some((private, code)) = generation.media_code(self.media_type) else {
            return Err(EncodeError::MediaType {
                generation,
                media_type: self.media_type,
            });
        };
        if let Some(text) = private_encoding {
            if !generation.has_private_encoding() || !private {
                return Err(EncodeError::PrivateEncoding(generation));
            }
            if text.len() > MAX_OPTION_VALUE {
                return Err(EncodeError::OptionTooLong(text.len()));
            }
        }
        let too_long = |len| EncodeError::TooLong { len };
        let header_len = self.encoded_len(private_encoding);
        let message_len = header_len + payload.len();
        let header_byte = u8::try_from(header_len).map_err(|_| too_long(header_len))?;
        let length = u16::try_from(message_len).map_err(|_| too_long(message_len))?;
        out.reserve(message_len);
        out.push(generation.version() << 5 | u8::from(private) << 4 | code);
        out.push(header_byte);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.publisher_id.to_be_bytes());
        out.extend_from_slice(&self.message_id.to_be_bytes());
        if let Some(segment) = self.segment {
            out.extend_from_slice(&[SEGMENTATION, 4]);
            out.extend_from_slice(&segment.encode().to_be_bytes());
        }
        if let Some(text) = private_encoding {
            // Checked to fit above.
            let length = u8::try_from(text.len() + 2).unwrap_or(u8::MAX);
            out.extend_from_slice(&[PRIVATE_ENCODING, length]);
            out.extend_from_slice(text);
        }
        out.extend_from_slice(payload);
        Ok(())
    }
}
