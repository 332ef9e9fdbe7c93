//! A message's options: a multimap sorted by option number (RFC 7252 §3.1 and §5.4).

use std::fmt;

use crate::block::Block;
use crate::number;

/// The options of one message, in order of their numbers; equal numbers keep their order.
///
/// Values live in one buffer, so that a message costs two allocations however many options it has.
#[derive(Clone, Default)]
pub struct Options {
    index: Vec<Entry>,
    values: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Entry {
    number: u16,
    start: u32,
    len: u32,
}

impl Options {
    /// No options.
    pub const fn new() -> Options {
        Options {
            index: Vec::new(),
            values: Vec::new(),
        }
    }

    pub(crate) fn with_capacity(options: usize, bytes: usize) -> Options {
        Options {
            index: Vec::with_capacity(options),
            values: Vec::with_capacity(bytes),
        }
    }

    /// How many options there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// All options as number and value, sorted.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u16, &[u8])> + Clone + '_ {
        self.index
            .iter()
            .map(|entry| (entry.number, self.value(entry)))
    }

    fn value(&self, entry: &Entry) -> &[u8] {
        let start = entry.start as usize;
        self.values
            .get(start..start + entry.len as usize)
            .unwrap_or_default()
    }

    /// Adds an option after those of the same number.
    pub fn add(&mut self, number: u16, value: &[u8]) {
        let entry = Entry {
            number,
            start: u32::try_from(self.values.len()).unwrap_or(u32::MAX),
            len: u32::try_from(value.len()).unwrap_or(0),
        };
        self.values.extend_from_slice(value);
        match self.index.last() {
            Some(last) if last.number > number => {
                let at = self.index.partition_point(|e| e.number <= number);
                self.index.insert(at, entry);
            }
            _ => self.index.push(entry),
        }
    }

    /// Adds an unsigned integer in its shortest form (RFC 7252 §3.2).
    pub fn add_uint(&mut self, number: u16, value: u32) {
        let bytes = value.to_be_bytes();
        let skip = (value.leading_zeros() / 8) as usize;
        self.add(number, bytes.get(skip..).unwrap_or_default());
    }

    /// Removes every option of this number.
    pub fn remove(&mut self, number: u16) {
        self.index.retain(|entry| entry.number != number);
        if self.index.is_empty() {
            self.values.clear();
        }
    }

    /// Keeps the options for which `keep(number, value, nth occurrence of that number)` holds.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(u16, &[u8], usize) -> bool) {
        let values = &self.values;
        let mut last = None;
        let mut nth = 0;
        self.index.retain(|entry| {
            nth = if last == Some(entry.number) {
                nth + 1
            } else {
                0
            };
            last = Some(entry.number);
            let start = entry.start as usize;
            let value = values
                .get(start..start + entry.len as usize)
                .unwrap_or_default();
            keep(entry.number, value, nth)
        });
    }

    /// Replaces every option of this number by one.
    pub fn set(&mut self, number: u16, value: &[u8]) {
        self.remove(number);
        self.add(number, value);
    }

    /// Replaces every option of this number by one unsigned integer.
    pub fn set_uint(&mut self, number: u16, value: u32) {
        self.remove(number);
        self.add_uint(number, value);
    }

    /// The values of one number, in order.
    pub fn all(&self, number: u16) -> impl Iterator<Item = &[u8]> + '_ {
        let from = self.index.partition_point(|e| e.number < number);
        self.index
            .get(from..)
            .unwrap_or_default()
            .iter()
            .take_while(move |e| e.number == number)
            .map(|e| self.value(e))
    }

    /// The lowest number present.
    pub(crate) fn lowest(&self) -> Option<u16> {
        self.index.first().map(|entry| entry.number)
    }

    /// The highest number present.
    pub(crate) fn highest(&self) -> Option<u16> {
        self.index.last().map(|entry| entry.number)
    }

    /// The first value of one number.
    pub fn first(&self, number: u16) -> Option<&[u8]> {
        self.index
            .iter()
            .find(|e| e.number == number)
            .map(|e| self.value(e))
    }

    /// Whether an option of this number is present.
    pub fn contains(&self, number: u16) -> bool {
        self.index.iter().any(|e| e.number == number)
    }

    /// The first value of one number as unsigned integer; `None` when absent or over 4 bytes.
    pub fn uint(&self, number: u16) -> Option<u32> {
        let value = self.first(number)?;
        if value.len() > 4 {
            return None;
        }
        Some(value.iter().fold(0, |sum, b| (sum << 8) | u32::from(*b)))
    }

    fn texts(&self, number: u16) -> impl Iterator<Item = &str> + '_ {
        self.all(number).filter_map(|v| std::str::from_utf8(v).ok())
    }

    fn uint16(&self, number: u16) -> Option<u16> {
        self.uint(number).and_then(|v| u16::try_from(v).ok())
    }

    /// Uri-Path segments (RFC 7252 §5.10.1).
    pub fn uri_path(&self) -> Vec<String> {
        self.texts(number::URI_PATH).map(str::to_owned).collect()
    }

    /// Uri-Path segments joined by `/`, without a leading one: `"a/b"`.
    ///
    /// A segment that itself contains `/` is not told apart; use [`Options::uri_path`] then.
    pub fn path(&self) -> String {
        let mut path = String::new();
        for (at, segment) in self.texts(number::URI_PATH).enumerate() {
            if at > 0 {
                path.push('/');
            }
            path.push_str(segment);
        }
        path
    }

    /// Uri-Query arguments (RFC 7252 §5.10.1).
    pub fn uri_queries(&self) -> impl Iterator<Item = &str> + '_ {
        self.texts(number::URI_QUERY)
    }

    /// The value of the first Uri-Query argument `name=value`; empty for a bare `name`.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.uri_queries()
            .find_map(|argument| match argument.split_once('=') {
                Some((key, value)) if key == name => Some(value),
                None if argument == name => Some(""),
                _ => None,
            })
    }

    /// Uri-Host (RFC 7252 §5.10.1).
    pub fn uri_host(&self) -> Option<&str> {
        self.texts(number::URI_HOST).next()
    }

    /// Uri-Port (RFC 7252 §5.10.1).
    pub fn uri_port(&self) -> Option<u16> {
        self.uint16(number::URI_PORT)
    }

    /// Content-Format (RFC 7252 §5.10.3).
    pub fn content_format(&self) -> Option<u16> {
        self.uint16(number::CONTENT_FORMAT)
    }

    /// Accept (RFC 7252 §5.10.4).
    pub fn accept(&self) -> Option<u16> {
        self.uint16(number::ACCEPT)
    }

    /// Max-Age in seconds (RFC 7252 §5.10.5); absent means 60.
    pub fn max_age(&self) -> Option<u32> {
        self.uint(number::MAX_AGE)
    }

    /// The first ETag (RFC 7252 §5.10.6).
    pub fn etag(&self) -> Option<&[u8]> {
        self.first(number::ETAG)
    }

    /// Observe (RFC 7641 §2): 0 register and 1 deregister in requests, a sequence number in responses.
    pub fn observe(&self) -> Option<u32> {
        self.uint(number::OBSERVE)
    }

    /// Block1 (RFC 7959 §2.1).
    pub fn block1(&self) -> Option<Block> {
        self.first(number::BLOCK1).and_then(Block::decode)
    }

    /// Block2 (RFC 7959 §2.1).
    pub fn block2(&self) -> Option<Block> {
        self.first(number::BLOCK2).and_then(Block::decode)
    }

    /// Size1: bytes of the request body (RFC 7959 §4).
    pub fn size1(&self) -> Option<u32> {
        self.uint(number::SIZE1)
    }

    /// Size2: bytes of the response body (RFC 7959 §4).
    pub fn size2(&self) -> Option<u32> {
        self.uint(number::SIZE2)
    }

    /// Location-Path segments joined by `/` (RFC 7252 §5.10.7).
    pub fn location_path(&self) -> String {
        self.texts(number::LOCATION_PATH)
            .collect::<Vec<_>>()
            .join("/")
    }

    /// Location-Query arguments (RFC 7252 §5.10.7).
    pub fn location_queries(&self) -> impl Iterator<Item = &str> + '_ {
        self.texts(number::LOCATION_QUERY)
    }

    /// Replaces the Location-Path by the segments of `path`; a leading `/` is ignored.
    pub fn set_location_path(&mut self, path: &str) -> &mut Self {
        self.set_segments(number::LOCATION_PATH, path)
    }

    /// Replaces the Uri-Path by the segments of `path`; a leading `/` is ignored.
    pub fn set_path(&mut self, path: &str) -> &mut Self {
        self.set_segments(number::URI_PATH, path)
    }

    fn set_segments(&mut self, number: u16, path: &str) -> &mut Self {
        self.remove(number);
        let path = path.strip_prefix('/').unwrap_or(path);
        if !path.is_empty() {
            for segment in path.split('/') {
                self.add(number, segment.as_bytes());
            }
        }
        self
    }

    /// Adds a Uri-Query argument.
    pub fn add_query(&mut self, argument: &str) -> &mut Self {
        self.add(number::URI_QUERY, argument.as_bytes());
        self
    }

    /// Sets the Content-Format.
    pub fn set_content_format(&mut self, format: u16) -> &mut Self {
        self.set_uint(number::CONTENT_FORMAT, u32::from(format));
        self
    }

    /// Sets Accept.
    pub fn set_accept(&mut self, format: u16) -> &mut Self {
        self.set_uint(number::ACCEPT, u32::from(format));
        self
    }

    /// Sets Max-Age in seconds.
    pub fn set_max_age(&mut self, seconds: u32) -> &mut Self {
        self.set_uint(number::MAX_AGE, seconds);
        self
    }

    /// Sets the ETag.
    pub fn set_etag(&mut self, etag: &[u8]) -> &mut Self {
        self.set(number::ETAG, etag);
        self
    }

    /// Sets Observe.
    pub fn set_observe(&mut self, value: u32) -> &mut Self {
        self.set_uint(number::OBSERVE, value & 0xff_ffff);
        self
    }

    /// Sets Block1.
    pub fn set_block1(&mut self, block: Block) -> &mut Self {
        self.set_uint(number::BLOCK1, block.value());
        self
    }

    /// Sets Block2.
    pub fn set_block2(&mut self, block: Block) -> &mut Self {
        self.set_uint(number::BLOCK2, block.value());
        self
    }

    /// Sets Size1.
    pub fn set_size1(&mut self, bytes: u32) -> &mut Self {
        self.set_uint(number::SIZE1, bytes);
        self
    }

    /// Sets Size2.
    pub fn set_size2(&mut self, bytes: u32) -> &mut Self {
        self.set_uint(number::SIZE2, bytes);
        self
    }
}

impl PartialEq for Options {
    fn eq(&self, other: &Options) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Options {}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for (number, value) in self.iter() {
            let name = number::definition(number).map_or("", |d| d.name);
            match std::str::from_utf8(value) {
                Ok(text) if text.bytes().all(|b| b.is_ascii_graphic()) => {
                    list.entry(&format_args!("{number} {name} {text:?}"));
                }
                _ => {
                    list.entry(&format_args!("{number} {name} {value:02x?}"));
                }
            }
        }
        list.finish()
    }
}
