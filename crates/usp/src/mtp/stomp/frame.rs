//! Frames as values and as bytes (STOMP 1.2 "STOMP Frames").
#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::fmt;

/// What a frame is. A session never sends the transactional and the acknowledging ones (R-STOMP.26, R-STOMP.27).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "STOMP 1.2 says what each is")]
pub enum Command {
    Abort,
    Ack,
    Begin,
    Commit,
    Connect,
    Connected,
    Disconnect,
    Error,
    Message,
    Nack,
    Receipt,
    Send,
    Stomp,
    Subscribe,
    Unsubscribe,
}

impl Command {
    /// Every command of STOMP 1.2.
    pub const ALL: [Self; 15] = [
        Self::Abort,
        Self::Ack,
        Self::Begin,
        Self::Commit,
        Self::Connect,
        Self::Connected,
        Self::Disconnect,
        Self::Error,
        Self::Message,
        Self::Nack,
        Self::Receipt,
        Self::Send,
        Self::Stomp,
        Self::Subscribe,
        Self::Unsubscribe,
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Abort => "ABORT",
            Self::Ack => "ACK",
            Self::Begin => "BEGIN",
            Self::Commit => "COMMIT",
            Self::Connect => "CONNECT",
            Self::Connected => "CONNECTED",
            Self::Disconnect => "DISCONNECT",
            Self::Error => "ERROR",
            Self::Message => "MESSAGE",
            Self::Nack => "NACK",
            Self::Receipt => "RECEIPT",
            Self::Send => "SEND",
            Self::Stomp => "STOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::Unsubscribe => "UNSUBSCRIBE",
        }
    }

    /// The command that is written so; capitals matter.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|command| command.as_str() == text)
    }

    /// Whether it may have a body (STOMP 1.2 "Body").
    pub fn has_body(self) -> bool {
        matches!(self, Self::Send | Self::Message | Self::Error)
    }

    /// Whether its headers are escaped: those of CONNECT and CONNECTED are not (STOMP 1.2 "Value Encoding").
    pub fn is_escaped(self) -> bool {
        !matches!(self, Self::Connect | Self::Connected)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One frame. Names and values are as they are meant, not as they are escaped.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub command: Command,
    /// Its headers, in order; the first of several with one name counts.
    pub headers: Vec<(String, String)>,
    /// Its body, any bytes.
    pub body: Vec<u8>,
    /// How many headers the decoder dropped: there were too many, or they were too long or no text.
    pub dropped_headers: usize,
    /// How many bytes the body had that the decoder dropped, because they were too many.
    pub dropped_body: usize,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The password goes into no log.
        let shown = |(name, value): &(String, String)| match name.as_str() {
            "passcode" => (name.clone(), "(not shown)".to_owned()),
            _ => (name.clone(), value.clone()),
        };
        f.debug_struct("Frame")
            .field("command", &self.command)
            .field(
                "headers",
                &self.headers.iter().map(shown).collect::<Vec<_>>(),
            )
            .field("body", &self.body)
            .field("dropped_headers", &self.dropped_headers)
            .field("dropped_body", &self.dropped_body)
            .finish()
    }
}

impl Frame {
    /// A frame without headers and body.
    pub fn new(command: Command) -> Self {
        Self {
            command,
            headers: Vec::new(),
            body: Vec::new(),
            dropped_headers: 0,
            dropped_body: 0,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Takes a body, and tells its length in `content-length`, so that it may hold NULs.
    #[must_use]
    pub fn with_body(mut self, body: Vec<u8>) -> Self {
        self.headers
            .push(("content-length".to_owned(), body.len().to_string()));
        self.body = body;
        self
    }

    /// The value of a header, the first if there are several (STOMP 1.2 "Repeated Header Entries").
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The frame's bytes. CONNECT and CONNECTED have no way to write a line end in a header: it is left out.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.body.len() + 256);
        bytes.extend(self.command.as_str().bytes());
        bytes.push(b'\n');
        for (name, value) in &self.headers {
            self.write(name, &mut bytes);
            bytes.push(b':');
            self.write(value, &mut bytes);
            bytes.push(b'\n');
        }
        bytes.push(b'\n');
        bytes.extend(&self.body);
        bytes.push(0);
        bytes
    }

    fn write(&self, text: &str, bytes: &mut Vec<u8>) {
        let escaped = self.command.is_escaped();
        for byte in text.bytes() {
            match byte {
                b'\r' if escaped => bytes.extend(b"\\r"),
                b'\n' if escaped => bytes.extend(b"\\n"),
                b':' if escaped => bytes.extend(b"\\c"),
                b'\\' if escaped => bytes.extend(b"\\\\"),
                b'\r' | b'\n' => {}
                other => bytes.push(other),
            }
        }
    }
}

/// What `text` stands for; `None` when an escape is none of `\r`, `\n`, `\c` and `\\`, a fatal error (STOMP 1.2
/// "Value Encoding").
pub(super) fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        plain.push(match letter {
            '\\' => match letters.next()? {
                'r' => '\r',
                'n' => '\n',
                'c' => ':',
                '\\' => '\\',
                _ => return None,
            },
            other => other,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_read_as_it_is_written() {
        for command in Command::ALL {
            assert_eq!(Command::parse(command.as_str()), Some(command));
        }
        assert_eq!(Command::parse("send"), None);
    }

    #[test]
    fn headers_are_escaped_except_those_of_connect_and_connected() {
        let headers = |command| {
            let frame = Frame::new(command).with("a:b", "os::1\\\r\n");
            String::from_utf8_lossy(&frame.encode()).into_owned()
        };
        assert_eq!(
            headers(Command::Stomp),
            "STOMP\na\\cb:os\\c\\c1\\\\\\r\\n\n\n\0"
        );
        assert_eq!(headers(Command::Connect), "CONNECT\na:b:os::1\\\n\n\0");
        assert_eq!(headers(Command::Connected), "CONNECTED\na:b:os::1\\\n\n\0");
    }

    #[test]
    fn a_password_is_not_shown() {
        let frame = Frame::new(Command::Stomp)
            .with("login", "user")
            .with("passcode", "open sesame");
        let shown = format!("{frame:?}");
        assert!(
            shown.contains("user") && !shown.contains("sesame"),
            "{shown}"
        );
    }

    #[test]
    fn an_unknown_escape_is_none() {
        assert_eq!(unescape(r"a\c\r\n\\b").as_deref(), Some("a:\r\n\\b"));
        for text in [r"\t", r"a\", r"\:"] {
            assert_eq!(unescape(text), None);
        }
    }

    #[test]
    fn a_body_is_written_with_its_length_and_a_nul() {
        let frame = Frame::new(Command::Send)
            .with("destination", "/q")
            .with_body(vec![0, 10, 0]);
        assert_eq!(
            frame.encode(),
            b"SEND\ndestination:/q\ncontent-length:3\n\n\0\n\0\0"
        );
    }

    #[test]
    fn the_first_of_several_headers_counts() {
        let frame = Frame::new(Command::Message)
            .with("a", "1")
            .with("a", "2")
            .with("b", "3");
        assert_eq!(
            (frame.header("a"), frame.header("b"), frame.header("c")),
            (Some("1"), Some("3"), None)
        );
    }
}
