//! Why a datagram is no message, and why a message cannot be written.

use crate::header::{Header, Message};
use crate::{Generation, HEADER_LEN, MediaType, Profile};

/// Why bytes are no message. Offsets and lengths are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Fewer bytes than the fixed header has.
    #[error("{len} bytes are no header, which has 12 at least")]
    TooShort {
        /// Bytes there are.
        len: usize,
    },
    /// Neither 0 nor 1.
    #[error("version {0} is not known")]
    Version(u8),
    /// The legacy header with flags, whose options nobody has specified.
    #[error("a legacy header with flags (first byte {0:#04x})")]
    LegacyFlags(u8),
    /// Less than the fixed header.
    #[error("a header length of {0} is less than 12")]
    HeaderLength(u8),
    /// The header is longer than the message it begins.
    #[error("a header of {header} bytes in a message of {message}")]
    HeaderBeyondMessage {
        /// Header Length.
        header: usize,
        /// Message Length.
        message: usize,
    },
    /// The message is longer than the datagram.
    #[error("a message of {message} bytes in a datagram of {datagram}")]
    MessageBeyondDatagram {
        /// Message Length.
        message: usize,
        /// Bytes there are.
        datagram: usize,
    },
    /// The datagram goes on after the message (-26 §3: it holds exactly one).
    #[error("a datagram of {datagram} bytes goes on after a message of {message}")]
    TrailingBytes {
        /// Message Length.
        message: usize,
        /// Bytes there are.
        datagram: usize,
    },
    /// An option's length is less than the two bytes it counts itself.
    #[error("option length {length} at offset {offset} is less than 2")]
    OptionLength {
        /// Where the option begins.
        offset: usize,
        /// Its length.
        length: u8,
    },
    /// An option is longer than what is left of the header.
    #[error("an option of {length} bytes at offset {offset} reaches beyond the header")]
    OptionBeyondHeader {
        /// Where the option begins.
        offset: usize,
        /// Its length.
        length: u8,
    },
    /// A segmentation option has a length other than 4.
    #[error("a segmentation option of {length} bytes at offset {offset}, which has 4")]
    SegmentationLength {
        /// Where the option begins.
        offset: usize,
        /// Its length.
        length: u8,
    },
    /// A second segmentation option.
    #[error("a second segmentation option at offset {offset}")]
    RepeatedSegmentation {
        /// Where it begins.
        offset: usize,
    },
    /// An option that is not known, where that discards the message (-26 §4).
    #[error("option type {kind} at offset {offset} is not known")]
    UnknownOption {
        /// Where it begins.
        offset: usize,
        /// Its type.
        kind: u8,
    },
}

impl DecodeError {
    /// What the fixed header of this datagram says, when only its options are wrong: lengths, publisher and Message ID can be believed.
    pub(crate) fn header(&self, datagram: &[u8], profile: Profile) -> Option<Header> {
        match self {
            Self::OptionLength { .. }
            | Self::OptionBeyondHeader { .. }
            | Self::SegmentationLength { .. }
            | Self::RepeatedSegmentation { .. }
            | Self::UnknownOption { .. } => {
                // The same without options.
                let mut fixed = *datagram.first_chunk::<HEADER_LEN>()?;
                let [_, header_len, high, low, ..] = &mut fixed;
                (*header_len, *high, *low) = (12, 0, 12);
                Some(Message::decode(&fixed, profile).ok()?.header)
            }
            _ => None,
        }
    }

    /// The reason it is counted by.
    pub fn reason(&self) -> Reason {
        match self {
            Self::TooShort { .. } => Reason::TooShort,
            Self::Version(_) => Reason::Version,
            Self::LegacyFlags(_) => Reason::LegacyFlags,
            Self::HeaderLength(_) | Self::HeaderBeyondMessage { .. } => Reason::HeaderLength,
            Self::MessageBeyondDatagram { .. } => Reason::MessageBeyondDatagram,
            Self::TrailingBytes { .. } => Reason::TrailingBytes,
            Self::OptionLength { .. } | Self::OptionBeyondHeader { .. } => Reason::OptionLength,
            Self::SegmentationLength { .. } | Self::RepeatedSegmentation { .. } => {
                Reason::Segmentation
            }
            Self::UnknownOption { .. } => Reason::UnknownOption,
        }
    }
}

/// Why something received was refused: what counters are kept by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// Fewer bytes than a header.
    TooShort,
    /// A version that is not known.
    Version,
    /// The legacy header with flags.
    LegacyFlags,
    /// A header length below 12, or beyond the message.
    HeaderLength,
    /// A message length beyond the datagram.
    MessageBeyondDatagram,
    /// Bytes after the message.
    TrailingBytes,
    /// An option length below 2, or beyond the header.
    OptionLength,
    /// A segmentation option of the wrong length, or two.
    Segmentation,
    /// An option that is not known, where that discards the message.
    UnknownOption,
    /// A media type that is reserved or not assigned.
    MediaType,
    /// Application data of DTLS that is neither frames nor a message.
    Framing,
    /// A segment beyond the bounds of reassembly: number, bytes of the message.
    Bounds,
}

impl Reason {
    /// All of them, in order.
    pub const ALL: [Self; 12] = [
        Self::TooShort,
        Self::Version,
        Self::LegacyFlags,
        Self::HeaderLength,
        Self::MessageBeyondDatagram,
        Self::TrailingBytes,
        Self::OptionLength,
        Self::Segmentation,
        Self::UnknownOption,
        Self::MediaType,
        Self::Framing,
        Self::Bounds,
    ];

    /// The name in metrics: lower case with hyphens.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooShort => "too-short",
            Self::Version => "version",
            Self::LegacyFlags => "legacy-flags",
            Self::HeaderLength => "header-length",
            Self::MessageBeyondDatagram => "message-beyond-datagram",
            Self::TrailingBytes => "trailing-bytes",
            Self::OptionLength => "option-length",
            Self::Segmentation => "segmentation",
            Self::UnknownOption => "unknown-option",
            Self::MediaType => "media-type",
            Self::Framing => "framing",
            Self::Bounds => "bounds",
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// Why a message cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The generation is received only.
    #[error("{0} is received only")]
    NotPublishable(Generation),
    /// The generation has no number for the media type.
    #[error("{generation} has no number for media type {media_type}")]
    MediaType {
        /// The generation.
        generation: Generation,
        /// The media type.
        media_type: MediaType,
    },
    /// The generation has no private encoding option, or the media type is not private.
    #[error("a private encoding cannot be described here in {0}")]
    PrivateEncoding(Generation),
    /// The description of a private encoding does not fit an option of 255 bytes, or the header.
    #[error("{0} bytes are too many for an option")]
    OptionTooLong(usize),
    /// The message does not fit a datagram, or its header a length of one byte.
    #[error("{len} bytes are too many")]
    TooLong {
        /// Bytes it would have.
        len: usize,
    },
    /// The segments have no room for a byte of the message.
    #[error("segments of {max} bytes have no room for a header of {header}")]
    SegmentSize {
        /// Bytes allowed.
        max: usize,
        /// Bytes of the header with the segmentation option.
        header: usize,
    },
    /// The message would be cut into more segments than can be numbered.
    #[error("a message of {len} bytes would need {segments} segments, 32,768 are possible")]
    TooManySegments {
        /// Bytes of the message.
        len: usize,
        /// Segments needed.
        segments: usize,
    },
}
