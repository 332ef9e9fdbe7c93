//! Cuts messages into datagrams: header, options in their order, and as much of the payload as there is room for.

use super::config::{Config, Framing, MIN_ROOM};
use crate::{HEADER_LEN, Header, SEGMENTATION_OPTION_LEN, Segment};

/// The longest MSG-LEN with its space: 65535.
const FRAME: usize = 6;

/// What the cutter knows of its receiver.
#[derive(Debug)]
pub(super) struct Cutter {
    header: Header,
    /// Text of the private encoding option.
    private: Option<Vec<u8>>,
    framing: Framing,
    segmentation: bool,
    max_segment_size: usize,
    max_message: usize,
    max_segments: usize,
    room: usize,
}

/// What is cut: a message from `offset` on, beginning with this segment.
#[derive(Debug)]
pub(super) struct Cut<'a> {
    pub(super) id: u32,
    pub(super) payload: &'a [u8],
    pub(super) offset: usize,
    pub(super) segment: u16,
}

/// What was cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    /// Bytes of the payload.
    pub(super) taken: usize,
    /// Nothing of the message is left.
    pub(super) last: bool,
    /// It has the segmentation option.
    pub(super) segmented: bool,
}

impl Cutter {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            header: Header {
                generation: config.generation,
                media_type: config.media_type,
                publisher_id: config.publisher_id,
                message_id: 0,
                segment: None,
            },
            private: config.private_encoding.clone().map(String::into_bytes),
            framing: config.framing,
            segmentation: config.segmentation,
            max_segment_size: usize::from(config.max_segment_size).max(MIN_ROOM),
            max_message: config.max_message,
            max_segments: config.max_segments,
            room: 1232,
        }
    }

    pub(super) fn set_room(&mut self, room: usize) {
        self.room = room.max(MIN_ROOM);
    }

    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// The longest message that can leave now.
    pub(super) fn max_message(&self) -> usize {
        let most = self.most();
        let whole = most - HEADER_LEN - self.private_len();
        if !self.segmentation {
            return whole.min(self.max_message);
        }
        let each = most - HEADER_LEN - SEGMENTATION_OPTION_LEN;
        let all = (each * self.max_segments).saturating_sub(self.private_len());
        whole.max(all).min(self.max_message)
    }

    /// Whether another whole message of `len` bytes fits a record that already holds `taken`.
    pub(super) fn shares(&self, taken: usize, len: usize) -> bool {
        let size = HEADER_LEN + self.private_len() + len;
        size <= self.most() && taken + FRAME + size <= self.room
    }

    /// Appends the next piece of a message to `out`.
    pub(super) fn cut(&self, cut: &Cut<'_>, out: &mut Vec<u8>) -> Piece {
        let most = self.most();
        let begins = cut.offset == 0 && cut.segment == 0;
        let private = self.private.as_deref().filter(|_| begins);
        let options = if begins { self.private_len() } else { 0 };
        let left = cut.payload.len().saturating_sub(cut.offset);
        if begins && HEADER_LEN + options + left <= most {
            self.write(cut.id, None, private, cut.payload, out);
            return Piece {
                taken: left,
                last: true,
                segmented: false,
            };
        }
        // All options are on the first segment, which is what -26 §4.1 asks for; the others repeat none.
        let fits = most - HEADER_LEN - SEGMENTATION_OPTION_LEN - options;
        let taken = left.min(fits);
        let last = taken == left;
        let end = cut.offset + taken;
        let content = cut.payload.get(cut.offset..end).unwrap_or_default();
        let segment = Segment {
            number: cut.segment,
            last,
        };
        self.write(cut.id, Some(segment), private, content, out);
        Piece {
            taken,
            last,
            segmented: true,
        }
    }

    /// Bytes of the private encoding option.
    fn private_len(&self) -> usize {
        self.private.as_ref().map_or(0, |text| 2 + text.len())
    }

    /// Most bytes of one message or segment with its header: what is configured, what the Message Length can say, what the path
    /// has room for.
    fn most(&self) -> usize {
        let room = match self.framing {
            Framing::Bare => self.room,
            Framing::Framed { .. } => self.room - FRAME,
        };
        room.min(self.max_segment_size).min(usize::from(u16::MAX))
    }
}

impl Cutter {
    /// Appends one message or segment, framed if that is the form. The segmentation option comes first in every segment (-19 §4),
    /// which is the order of the types before, too (-04 §4).
    fn write(
        &self,
        id: u32,
        segment: Option<Segment>,
        private: Option<&[u8]>,
        content: &[u8],
        out: &mut Vec<u8>,
    ) {
        let header = Header {
            message_id: id,
            segment,
            ..self.header
        };
        if let Framing::Framed { .. } = self.framing {
            let len = header.encoded_len(private) + content.len();
            out.extend_from_slice(len.to_string().as_bytes());
            out.push(b' ');
        }
        let written = header.encode(private, content, out);
        debug_assert!(
            written.is_ok(),
            "checked when the publisher was made: {written:?}"
        );
    }
}
