//! Cuts a stream of bytes into frames, however the bytes come, within limits (STOMP 1.2 "Size Limits").
#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::mtp::{inbox::Inbox, peer_text};

use super::frame::{Command, Frame, unescape};

/// What a peer may ask of our memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Headers of one frame.
    pub headers: usize,
    /// Bytes of the command line, and of each header line.
    pub line: usize,
    /// Bytes of a body.
    pub body: usize,
}

/// Bytes that are no STOMP 1.2 frame. Where the next begins is unknown then: the connection ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A command line or header line is too long.
    #[error("a line of more than {0} bytes")]
    LineTooLong(usize),
    /// No command of STOMP 1.2; what stands there, at most 32 bytes of it.
    #[error("{0:?} is no STOMP 1.2 command")]
    Command(String),
    /// Too many headers.
    #[error("more than {0} headers")]
    TooManyHeaders(usize),
    /// A header line without name or without colon.
    #[error("header {0} is not \"name:value\"")]
    Header(usize),
    /// A line that is not UTF-8, or has a carriage return in it.
    #[error("header {0} is not UTF-8 text on one line")]
    Text(usize),
    /// An escape that STOMP 1.2 does not define.
    #[error("header {0} has an escape that is none of \\r, \\n, \\c and \\\\")]
    Escape(usize),
    /// `content-length` is no number.
    #[error("content-length is no number")]
    ContentLength,
    /// The body is too long; told before any of it is kept, if the frame tells its length.
    #[error("a body of more than {0} bytes")]
    BodyTooLarge(usize),
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
    Body(Frame, Option<usize>),
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
                    let Some(line) = self.line()? else {
                        return Ok(None);
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
                State::Head(mut frame) => match self.line()? {
                    None => {
                        self.state = State::Head(frame);
                        return Ok(None);
                    }
                    Some(line) if line.is_empty() => {
                        let length = self.content_length(&frame)?;
                        self.state = State::Body(frame, length);
                    }
                    Some(line) => {
                        self.header(&mut frame, &line)?;
                        self.state = State::Head(frame);
                    }
                },
                State::Body(mut frame, length) => {
                    let Some(body) = self.body(&frame, length)? else {
                        self.state = State::Body(frame, length);
                        return Ok(None);
                    };
                    frame.body = body;
                    return Ok(Some(frame));
                }
            }
        }
    }

    /// The next line, without its end.
    fn line(&mut self) -> Result<Option<Vec<u8>>, DecodeError> {
        let end = self.find(b'\n');
        // The carriage return before the line end is not counted.
        if end.unwrap_or(self.scanned) > self.limits.line.saturating_add(1) {
            return Err(DecodeError::LineTooLong(self.limits.line));
        }
        let Some(mut line) = end.map(|end| self.take(end)) else {
            return Ok(None);
        };
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.len() > self.limits.line {
            return Err(DecodeError::LineTooLong(self.limits.line));
        }
        Ok(Some(line))
    }

    fn header(&self, frame: &mut Frame, line: &[u8]) -> Result<(), DecodeError> {
        let index = frame.headers.len();
        if index == self.limits.headers {
            return Err(DecodeError::TooManyHeaders(self.limits.headers));
        }
        let line = std::str::from_utf8(line)
            .ok()
            .filter(|line| !line.contains('\r'))
            .ok_or(DecodeError::Text(index))?;
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
        frame.headers.push(header);
        Ok(())
    }

    fn content_length(&self, frame: &Frame) -> Result<Option<usize>, DecodeError> {
        let Some(text) = frame.header("content-length") else {
            return Ok(None);
        };
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(DecodeError::ContentLength);
        }
        let length = text
            .parse()
            .ok()
            .filter(|length| *length <= self.limits.body)
            .ok_or(DecodeError::BodyTooLarge(self.limits.body))?;
        if length > 0 && !frame.command.has_body() {
            return Err(DecodeError::UnexpectedBody(frame.command));
        }
        Ok(Some(length))
    }

    /// The body and the NUL after it.
    fn body(
        &mut self,
        frame: &Frame,
        length: Option<usize>,
    ) -> Result<Option<Vec<u8>>, DecodeError> {
        if let Some(length) = length {
            return match self.inbox.rest().get(length) {
                None => Ok(None),
                Some(0) => Ok(Some(self.take(length))),
                Some(_) => Err(DecodeError::NotTerminated),
            };
        }
        let end = self.find(0);
        let length = end.unwrap_or(self.scanned);
        if length > 0 && !frame.command.has_body() {
            return Err(DecodeError::UnexpectedBody(frame.command));
        }
        if length > self.limits.body {
            return Err(DecodeError::BodyTooLarge(self.limits.body));
        }
        Ok(end.map(|end| self.take(end)))
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
            (b"SEND\na:\xff\n", E::Text(0)),
            (b"SEND\na:b\rc\n", E::Text(0)),
            (b"SEND\na:\\t\n", E::Escape(0)),
            (b"SEND\n\\x:t\n", E::Escape(0)),
            (b"SEND\ncontent-length:\n\n", E::ContentLength),
            (b"SEND\ncontent-length:+1\n\n", E::ContentLength),
            (b"SEND\ncontent-length:1x\n\n", E::ContentLength),
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

    #[test]
    fn every_limit_holds_as_soon_as_it_is_passed() {
        use DecodeError as E;
        let long = [&b"SEND\n"[..], &[b'a'; 32]].concat();
        assert_eq!(decode(&long), Err(E::LineTooLong(30)));
        assert_eq!(decode(&[b'S'; 32]), Err(E::LineTooLong(30)));
        let ended = [&b"SEND\n"[..], &[b'a'; 31], b"\n"].concat();
        assert_eq!(decode(&ended), Err(E::LineTooLong(30)));
        let fits = [&b"SEND\na:"[..], &[b'a'; 28], b"\r\n"].concat();
        assert_eq!(decode(&fits), Ok(None));
        assert_eq!(decode(b"SEND\na:1\na:2\na:3\n"), Ok(None));
        assert_eq!(
            decode(b"SEND\na:1\na:2\na:3\na:4\n"),
            Err(E::TooManyHeaders(3))
        );
        assert_eq!(decode(b"SEND\ncontent-length:10\n\n"), Ok(None));
        assert_eq!(
            decode(b"SEND\ncontent-length:11\n\n"),
            Err(E::BodyTooLarge(10))
        );
        let mut wide = Decoder::new(Limits {
            line: 40,
            ..decoder().limits
        });
        wide.push(b"SEND\ncontent-length:99999999999999999999\n\n");
        assert_eq!(wide.next_frame(), Err(E::BodyTooLarge(10)));
        assert_eq!(decode(b"SEND\n\n0123456789"), Ok(None));
        assert_eq!(decode(b"SEND\n\n0123456789a"), Err(E::BodyTooLarge(10)));
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
