//! Cuts a stream of bytes into frames, however the bytes come, within limits (STOMP 1.2 "Size Limits").
//!
//! Through a broker come headers and bodies that others chose. What is too much or no text in them is dropped as it comes and
//! told with the frame, so that no sender can end the connection of those that it sends to.
#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::mtp::{inbox::Inbox, peer_text};

use super::frame::{Command, Frame, unescape};

/// The header that says how long the body is.
const CONTENT_LENGTH: &str = "content-length";

/// What a peer may ask of our memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Headers of one frame; more are dropped, but for `content-length`.
    pub headers: usize,
    /// Bytes of the command line, and of each header line; longer headers are dropped.
    pub line: usize,
    /// Bytes of a body; a longer one is dropped whole.
    pub body: usize,
}

/// Bytes that are no STOMP 1.2 frame. Where the next begins is unknown then: the connection ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A command line is too long.
    #[error("a line of more than {0} bytes")]
    LineTooLong(usize),
    /// No command of STOMP 1.2; what stands there, at most 32 bytes of it.
    #[error("{0:?} is no STOMP 1.2 command")]
    Command(String),
    /// A header line without name or without colon.
    #[error("header {0} is not \"name:value\"")]
    Header(usize),
    /// An escape that STOMP 1.2 does not define.
    #[error("header {0} has an escape that is none of \\r, \\n, \\c and \\\\")]
    Escape(usize),
    /// `content-length` is no number.
    #[error("content-length is no number")]
    ContentLength,
    /// A body in a frame that has none (STOMP 1.2 "Body").
    #[error("a {0} frame has no body")]
    UnexpectedBody(Command),
    /// No NUL where the body ends.
    #[error("the body is not followed by NUL")]
    NotTerminated,
}

/// The incremental decoder.
#[derive(Clone, Debug)]
pub struct Decoder {
    limits: Limits,
    inbox: Inbox,
    /// How much of it holds no line end or NUL.
    scanned: usize,
    state: State,
    error: Option<DecodeError>,
}

#[derive(Clone, Debug)]
enum State {
    Between,
    Head(Frame),
    /// In a header line that is too long.
    Line(Frame),
    Body(Frame, Option<usize>),
    /// In a body that is too long: how much of it is left, if the frame tells its length.
    Rest(Frame, Option<usize>),
}

/// What there is of a line. One that is too long is left where it is.
enum Line {
    Whole(Vec<u8>),
    Part,
    TooLong,
}

/// What there is of a body. One that is too large is left where it is.
enum Body {
    Whole(Vec<u8>),
    Part,
    TooLarge,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            inbox: Inbox::default(),
            scanned: 0,
            state: State::Between,
            error: None,
        }
    }

    /// Takes bytes off the stream. After an error they are dropped.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.error.is_none() {
            self.inbox.push(bytes);
        }
    }

    /// The next frame; `None` until more bytes come. Line ends between frames, the heart-beats, are skipped.
    ///
    /// # Errors
    /// [`DecodeError`], and the same for ever after.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, DecodeError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        self.try_next().inspect_err(|error| {
            self.error = Some(error.clone());
            self.inbox = Inbox::default();
        })
    }

    /// How many bytes wait for the rest of their line or body.
    pub fn buffered(&self) -> usize {
        self.inbox.rest().len()
    }

    fn try_next(&mut self) -> Result<Option<Frame>, DecodeError> {
        loop {
            match std::mem::replace(&mut self.state, State::Between) {
                State::Between => {
                    let line = match self.line() {
                        Line::Whole(line) => line,
                        Line::Part => return Ok(None),
                        Line::TooLong => return Err(DecodeError::LineTooLong(self.limits.line)),
                    };
                    if line.is_empty() {
                        continue;
                    }
                    let command = std::str::from_utf8(&line)
                        .ok()
                        .and_then(Command::parse)
                        .ok_or_else(|| DecodeError::Command(peer_text(&line, 32)))?;
                    self.state = State::Head(Frame::new(command));
                }
                State::Head(mut frame) => match self.line() {
                    Line::Part => {
                        self.state = State::Head(frame);
                        return Ok(None);
                    }
                    Line::Whole(line) if line.is_empty() => {
                        let length = self.content_length(&frame)?;
                        self.state = match length {
                            Some(length) if length > self.limits.body => {
                                frame.dropped_body = length;
                                State::Rest(frame, Some(length))
                            }
                            length => State::Body(frame, length),
                        };
                    }
                    Line::Whole(line) => {
                        self.header(&mut frame, &line)?;
                        self.state = State::Head(frame);
                    }
                    Line::TooLong => {
                        frame.dropped_headers += 1;
                        self.state = State::Line(frame);
                    }
                },
                State::Line(frame) => {
                    if !self.skip_past(b'\n') {
                        self.state = State::Line(frame);
                        return Ok(None);
                    }
                    self.state = State::Head(frame);
                }
                State::Body(mut frame, length) => match self.body(&frame, length)? {
                    Body::Whole(body) => {
                        frame.body = body;
                        return Ok(Some(frame));
                    }
                    Body::Part => {
                        self.state = State::Body(frame, length);
                        return Ok(None);
                    }
                    Body::TooLarge => self.state = State::Rest(frame, None),
                },
                State::Rest(mut frame, left) => {
                    let before = self.buffered();
                    let done = match left {
                        Some(left) => self.skip(left)?,
                        None => self.skip_past(0),
                    };
                    let dropped = before - self.buffered();
                    if left.is_none() {
                        frame.dropped_body += dropped - usize::from(done);
                    }
                    if done {
                        return Ok(Some(frame));
                    }
                    self.state = State::Rest(frame, left.map(|left| left - dropped));
                    return Ok(None);
                }
            }
        }
    }

    /// The next line, without its end.
    fn line(&mut self) -> Line {
        let end = self.find(b'\n');
        let there = self.inbox.rest().get(..self.scanned).unwrap_or_default();
        // The carriage return before the line end is not counted.
        if there.strip_suffix(b"\r").unwrap_or(there).len() > self.limits.line {
            return Line::TooLong;
        }
        let Some(mut line) = end.map(|end| self.take(end)) else {
            return Line::Part;
        };
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Line::Whole(line)
    }

    fn header(&self, frame: &mut Frame, line: &[u8]) -> Result<(), DecodeError> {
        let index = frame.headers.len() + frame.dropped_headers;
        let text = std::str::from_utf8(line).ok();
        let Some(line) = text.filter(|line| !line.contains('\r')) else {
            frame.dropped_headers += 1;
            return Ok(());
        };
        // A bare colon in a value is against the grammar, but some brokers write it; it can mean nothing else.
        let (name, value) = line
            .split_once(':')
            .filter(|(name, _)| !name.is_empty())
            .ok_or(DecodeError::Header(index))?;
        let plain = |text: &str| {
            if frame.command.is_escaped() {
                unescape(text).ok_or(DecodeError::Escape(index))
            } else {
                Ok(text.to_owned())
            }
        };
        let header = (plain(name)?, plain(value)?);
        // Brokers write it last; without it nobody knows where the next frame begins.
        let counts = header.0 == CONTENT_LENGTH && frame.header(CONTENT_LENGTH).is_none();
        if counts || frame.headers.len() < self.limits.headers {
            frame.headers.push(header);
        } else {
            frame.dropped_headers += 1;
        }
        Ok(())
    }

    fn content_length(&self, frame: &Frame) -> Result<Option<usize>, DecodeError> {
        let Some(text) = frame.header(CONTENT_LENGTH) else {
            return Ok(None);
        };
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(DecodeError::ContentLength);
        }
        let length = text.parse().map_err(|_| DecodeError::ContentLength)?;
        if length > 0 && !frame.command.has_body() {
            return Err(DecodeError::UnexpectedBody(frame.command));
        }
        Ok(Some(length))
    }

    /// The body and the NUL after it.
    fn body(&mut self, frame: &Frame, length: Option<usize>) -> Result<Body, DecodeError> {
        if let Some(length) = length {
            return match self.inbox.rest().get(length) {
                None => Ok(Body::Part),
                Some(0) => Ok(Body::Whole(self.take(length))),
                Some(_) => Err(DecodeError::NotTerminated),
            };
        }
        let end = self.find(0);
        let length = end.unwrap_or(self.scanned);
        if length > 0 && !frame.command.has_body() {
            return Err(DecodeError::UnexpectedBody(frame.command));
        }
        if length > self.limits.body {
            return Ok(Body::TooLarge);
        }
        Ok(end.map_or(Body::Part, |end| Body::Whole(self.take(end))))
    }

    /// Drops the next `left` bytes and the NUL after them, as far as they are there; says whether all were.
    fn skip(&mut self, left: usize) -> Result<bool, DecodeError> {
        let there = left.min(self.buffered());
        self.inbox.consume(there);
        self.scanned = 0;
        if there < left {
            return Ok(false);
        }
        match self.inbox.rest().first() {
            None => Ok(false),
            Some(0) => {
                self.inbox.consume(1);
                Ok(true)
            }
            Some(_) => Err(DecodeError::NotTerminated),
        }
    }

    /// Drops bytes up to the next `byte`, and that; says whether it was there.
    fn skip_past(&mut self, byte: u8) -> bool {
        let end = self.find(byte);
        self.inbox.consume(end.map_or(self.scanned, |end| end + 1));
        self.scanned = 0;
        end.is_some()
    }

    /// Where the next `byte` is; looks at each byte once.
    fn find(&mut self, byte: u8) -> Option<usize> {
        let fresh = self.inbox.rest().get(self.scanned..).unwrap_or_default();
        let found = fresh.iter().position(|other| *other == byte);
        let end = found.map(|at| self.scanned + at);
        self.scanned = end.unwrap_or(self.inbox.rest().len());
        end
    }

    /// Takes the bytes before `end`, and drops the one there.
    fn take(&mut self, end: usize) -> Vec<u8> {
        let taken = self.inbox.rest().get(..end).unwrap_or_default().to_vec();
        self.inbox.consume(end + 1);
        self.scanned = 0;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoder() -> Decoder {
        Decoder::new(Limits {
            headers: 3,
            line: 30,
            body: 10,
        })
    }

    fn decode(bytes: &[u8]) -> Result<Option<Frame>, DecodeError> {
        let mut decoder = decoder();
        decoder.push(bytes);
        decoder.next_frame()
    }

    #[test]
    fn frames_are_found_however_their_bytes_are_cut() {
        let frames = [
            Frame::new(Command::Message)
                .with("a:b", "\r\n\\:")
                .with_body(vec![0, 10, 0]),
            Frame::new(Command::Connected).with("v", "a\\c"),
            Frame::new(Command::Error),
        ];
        let mut bytes = Vec::new();
        for frame in &frames {
            bytes.extend(b"\n\r\n");
            bytes.extend(frame.encode());
        }
        for size in 1..=bytes.len() {
            let mut decoder = decoder();
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
    fn lines_may_end_with_a_carriage_return_too() {
        let frame = decode(b"\r\nMESSAGE\r\na:b\r\n\r\nx\0").unwrap_or(None);
        let mut expected = Frame::new(Command::Message).with("a", "b");
        expected.body = b"x".to_vec();
        assert_eq!(frame, Some(expected));
    }

    #[test]
    fn a_body_without_length_goes_to_the_first_nul() {
        let frame = decode(b"SEND\n\nab\0c\0").unwrap_or(None);
        assert_eq!(frame.map(|frame| frame.body), Some(b"ab".to_vec()));
    }

    #[test]
    fn the_first_content_length_counts() {
        let frame = decode(b"SEND\ncontent-length:2\ncontent-length:1\n\nab\0").unwrap_or(None);
        assert_eq!(frame.map(|frame| frame.body), Some(b"ab".to_vec()));
    }

    #[test]
    fn a_bare_colon_in_a_value_is_taken() {
        let frame = decode(b"MESSAGE\na:b:c\n\n\0").unwrap_or(None);
        assert_eq!(
            frame.as_ref().and_then(|frame| frame.header("a")),
            Some("b:c")
        );
    }

    #[test]
    fn each_malformed_frame_has_its_error() {
        use DecodeError as E;
        for (bytes, error) in [
            (&b"HELLO\n"[..], E::Command("HELLO".into())),
            (b"send\n", E::Command("send".into())),
            (b"\xff\xff\n", E::Command("\u{fffd}\u{fffd}".into())),
            (b"GET / HTTP/1.1\r\n", E::Command("GET / HTTP/1.1".into())),
            (b"SEND\nnocolon\n", E::Header(0)),
            (b"SEND\na:1\n:novalue\n", E::Header(1)),
            (b"SEND\na:\\t\n", E::Escape(0)),
            (b"SEND\n\\x:t\n", E::Escape(0)),
            (b"SEND\ncontent-length:\n\n", E::ContentLength),
            (b"SEND\ncontent-length:+1\n\n", E::ContentLength),
            (b"SEND\ncontent-length:1x\n\n", E::ContentLength),
            (b"SEND\ncontent-length:11\n\n0123456789ab", E::NotTerminated),
            (b"SEND\ncontent-length:1\n\nab", E::NotTerminated),
            (
                b"RECEIPT\ncontent-length:1\n\n",
                E::UnexpectedBody(Command::Receipt),
            ),
            (b"CONNECTED\n\nx", E::UnexpectedBody(Command::Connected)),
        ] {
            assert_eq!(decode(bytes), Err(error));
        }
        assert_eq!(
            decode(b"RECEIPT\ncontent-length:0\n\n\0").map(|frame| frame.is_some()),
            Ok(true)
        );
    }

    /// The one frame that `bytes` are, however they are cut, and how much of it was dropped.
    fn cut(bytes: &[u8]) -> Frame {
        let mut whole = None;
        for size in 1..=bytes.len() {
            let mut decoder = decoder();
            let mut found = Vec::new();
            for piece in bytes.chunks(size) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().expect("a frame") {
                    found.push(frame);
                }
                // A line or a body, and what ends it.
                assert!(decoder.buffered() <= 32, "{size}");
            }
            assert_eq!((found.len(), decoder.buffered()), (1, 0), "{size}");
            let frame = found.pop();
            assert!(whole.is_none() || whole == frame, "{size}");
            whole = frame;
        }
        whole.expect("a frame")
    }

    #[test]
    fn what_is_too_much_of_a_frame_is_dropped_and_the_next_is_found() {
        let none: &[(&str, &str)] = &[];
        let long = [&b"SEND\na:"[..], &[b'x'; 40], b"\nb:1\n\nbody\0"].concat();
        let far = [&b"SEND\nb:1\na:"[..], &[b'x'; 400], b"\r\n\nbody\0"].concat();
        for (bytes, headers, body, dropped_headers, dropped_body) in [
            (&long[..], &[("b", "1")][..], &b"body"[..], 1, 0),
            (&far, &[("b", "1")], b"body", 1, 0),
            (
                b"SEND\na:1\nb:2\nc:3\nd:4\ncontent-length:2\n\n\0\n\0",
                &[("a", "1"), ("b", "2"), ("c", "3"), ("content-length", "2")],
                b"\0\n",
                1,
                0,
            ),
            (b"SEND\na:\xff\nb:1\rx\nc:3\n\n\0", &[("c", "3")], b"", 2, 0),
            (
                b"SEND\ncontent-length:11\n\n\0\n23456789a\0",
                &[("content-length", "11")],
                b"",
                0,
                11,
            ),
            (b"SEND\n\n0123456789a\0", none, b"", 0, 11),
            (b"ERROR\n\n0123456789abcdefghij\0", none, b"", 0, 20),
            (b"SEND\n\n0123456789\0", none, b"0123456789", 0, 0),
        ] {
            let frame = cut(bytes);
            let found: Vec<_> = frame
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            assert_eq!((&found[..], &frame.body[..]), (headers, body));
            assert_eq!(
                (frame.dropped_headers, frame.dropped_body),
                (dropped_headers, dropped_body)
            );
        }
    }

    #[test]
    fn lines_have_their_limit_exactly() {
        let with = |length: usize, end: &str| {
            let line = format!("a:{}{end}", "x".repeat(length - 2));
            decode(format!("SEND\n{line}\n\n\0").as_bytes())
                .map(|frame| frame.map(|frame| frame.dropped_headers))
        };
        for end in ["", "\r"] {
            assert_eq!(with(30, end), Ok(Some(0)));
            assert_eq!(with(31, end), Ok(Some(1)));
        }
        assert_eq!(decode(&[b'S'; 31]), Err(DecodeError::LineTooLong(30)));
        let mut wide = Decoder::new(Limits {
            line: 40,
            ..decoder().limits
        });
        wide.push(b"SEND\ncontent-length:99999999999999999999\n\n");
        assert_eq!(wide.next_frame(), Err(DecodeError::ContentLength));
    }

    #[test]
    fn after_an_error_nothing_is_kept_and_nothing_is_found() {
        let mut decoder = decoder();
        decoder.push(b"NO\n");
        let error = decoder.next_frame();
        assert!(error.is_err());
        decoder.push(b"RECEIPT\n\n\0");
        assert_eq!((decoder.next_frame(), decoder.buffered()), (error, 0));
    }
}
