//! What a publisher is told: the generation, sizes, the pace, and what may wait.

use crate::{EncodeError, Generation, MAX_SEGMENT_NUMBER, MediaType};

/// The longest text of the private encoding option: the header has at most 255 bytes, with the segmentation option.
const MAX_PRIVATE_ENCODING: usize = 237;

/// The least room of a datagram that is gone by, in bytes: header, options and some content.
pub const MIN_ROOM: usize = 384;

/// The publisher towards one receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The form of the header, of options, of Message IDs. Nothing is negotiated: the receiver has to know it.
    pub generation: Generation,
    /// Message Publisher ID; Observation-Domain-ID up to -10.
    pub publisher_id: u32,
    /// What the messages are in. One receiver gets one encoding only (-26 §3.3).
    pub media_type: MediaType,
    /// Text of the private encoding option with a private media type, -03 to -18 (-03 §4.2); at most 237 bytes.
    pub private_encoding: Option<String>,
    /// Messages longer than a datagram are segmented (`enable-segmentation`); else they are refused, because IP fragmentation is
    /// never used. Default true.
    pub segmentation: bool,
    /// Most bytes of one segment with its header and options (`max-segment-size`); the path may have room for less. Default 65,535.
    pub max_segment_size: u16,
    /// How messages are put into records of DTLS; without DTLS always [`Framing::Bare`].
    pub framing: Framing,
    /// How fast messages may leave; `None` only where somebody asked for it (-26 §5.1). Default [`Pacing::default`].
    pub pacing: Option<Pacing>,
    /// Most bytes of one message. Default 98,304, what every receiver has to take (-26 §5.2).
    pub max_message: usize,
    /// Most segments of one message. Default 256. Receivers have to take 64 (-26 §5.2), which at the least MTU of IPv6 would be
    /// less than 96 KB.
    pub max_segments: usize,
    /// Messages that may wait. Default 1024.
    pub max_waiting: usize,
    /// Bytes of messages that may wait. Default 4 MiB.
    pub max_waiting_bytes: usize,
    /// What is dropped when more comes. Default the oldest.
    pub dropped: Dropped,
}

impl Config {
    /// A publisher of this generation with the defaults.
    pub fn new(generation: Generation, publisher_id: u32, media_type: MediaType) -> Self {
        Self {
            generation,
            publisher_id,
            media_type,
            private_encoding: None,
            segmentation: true,
            max_segment_size: u16::MAX,
            framing: Framing::Bare,
            pacing: Some(Pacing::default()),
            max_message: 98_304,
            max_segments: 256,
            max_waiting: 1024,
            max_waiting_bytes: 4 << 20,
            dropped: Dropped::Oldest,
        }
    }

    /// Whether messages can be written like this.
    ///
    /// # Errors
    /// When the generation is only received, has no such media type, or no private encoding option, or the option's text is too long.
    pub fn check(&self) -> Result<(), EncodeError> {
        let generation = self.generation;
        if !generation.is_publishable() {
            return Err(EncodeError::NotPublishable(generation));
        }
        if generation.media_code(self.media_type).is_none() {
            return Err(EncodeError::MediaType {
                generation,
                media_type: self.media_type,
            });
        }
        if let Some(text) = &self.private_encoding {
            if !generation.has_private_encoding()
                || !matches!(self.media_type, MediaType::Private(_))
            {
                return Err(EncodeError::PrivateEncoding(generation));
            }
            if text.len() > MAX_PRIVATE_ENCODING {
                return Err(EncodeError::OptionTooLong(text.len()));
            }
        }
        Ok(())
    }

    /// The same within what the format can hold.
    pub(super) fn bounded(mut self) -> Self {
        self.max_segments = self.max_segments.clamp(1, MAX_SEGMENT_NUMBER + 1);
        self.max_waiting = self.max_waiting.max(1);
        self.max_waiting_bytes = self.max_waiting_bytes.max(self.max_message);
        self
    }

    /// Whether several messages may share a record.
    pub(super) fn shares_records(&self) -> bool {
        matches!(self.framing, Framing::Framed { share: true })
    }
}

/// How messages are put into records of DTLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A record is one message or segment (-26 §6.1.2), as a datagram is.
    Bare,
    /// `MSG-LEN SP UDP-NOTIF-MSG` (draft-unyte-netconf-udp-notif-dtls-00, -04 to -25).
    Framed {
        /// Several messages that wait may share a record.
        share: bool,
    },
}

/// How a generation frames its messages in DTLS: bare from -26 on.
pub fn default_framing(generation: Generation) -> Framing {
    if generation.is_framed() {
        Framing::Framed { share: true }
    } else {
        Framing::Bare
    }
}

/// How fast messages may leave: two token buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pacing {
    /// Messages per second, at least 1. Default 1000.
    pub messages_per_second: u64,
    /// Messages at once. Default 64.
    pub message_burst: u64,
    /// Bytes per second, UDP-notif headers and frames included, at least 1. Default 1,250,000 (10 Mbit/s).
    pub bytes_per_second: u64,
    /// Bytes at once. Default 131,072: one message of 96 KB leaves in one go.
    pub byte_burst: u64,
}

impl Default for Pacing {
    fn default() -> Self {
        Self {
            messages_per_second: 1000,
            message_burst: 64,
            bytes_per_second: 1_250_000,
            byte_burst: 131_072,
        }
    }
}

/// What is dropped when more comes than may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// What comes: what waits is older history.
    Newest,
    /// What has waited longest and has not begun to leave: news count more.
    Oldest,
}
