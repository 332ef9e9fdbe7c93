//! Cutting a message into segments (-26 §4.1).

use std::ops::Range;

use crate::error::EncodeError;
use crate::options::Segment;

/// Bytes of the segmentation option.
pub const SEGMENTATION_OPTION_LEN: usize = 4;
/// The highest segment number: 15 bits.
pub const MAX_SEGMENT_NUMBER: usize = 0x7FFF;
/// Longest datagram whose length its header can say.
const MAX_MESSAGE: usize = 0xFFFF;

/// The pieces of a message: which segmentation option each has, none if it fits one datagram, and which bytes of the payload.
#[derive(Debug, Clone)]
pub struct Segments {
    len: usize,
    room: usize,
    next: usize,
    count: usize,
}

impl Segments {
    /// Cuts a payload of `len` bytes for datagrams of at most `max_segment_size` bytes, headers included, of which the header without
    /// segmentation option takes `header_len`.
    ///
    /// # Errors
    /// When the size has no room for anything, or the segments would be too many.
    pub fn new(
        len: usize,
        header_len: usize,
        max_segment_size: usize,
    ) -> Result<Self, EncodeError> {
        let max = max_segment_size.min(MAX_MESSAGE);
        if header_len + len <= max {
            return Ok(Self {
                len,
                room: len,
                next: 0,
                count: 1,
            });
        }
        let header = header_len + SEGMENTATION_OPTION_LEN;
        let room = max.saturating_sub(header);
        if room == 0 {
            return Err(EncodeError::SegmentSize { max, header });
        }
        let segments = len.div_ceil(room);
        if segments > MAX_SEGMENT_NUMBER + 1 {
            return Err(EncodeError::TooManySegments { len, segments });
        }
        Ok(Self {
            len,
            room,
            next: 0,
            count: segments,
        })
    }
}

impl Iterator for Segments {
    type Item = (Option<Segment>, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.next;
        if index >= self.count {
            return None;
        }
        self.next += 1;
        let start = index * self.room;
        let range = start..(start + self.room).min(self.len);
        let segment = (self.count > 1).then(|| Segment {
            number: u16::try_from(index).unwrap_or(u16::MAX),
            last: index + 1 == self.count,
        });
        Some((segment, range))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.count - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Segments {}
