//! Why an exchange brought no PKIMessage.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use homefleet_coap::Code;
use homefleet_trust::Refusal;

/// Why an exchange brought no PKIMessage.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The host has no address that can be sent to from here.
    #[error("`{0}` has no usable address")]
    Unresolvable(String),
    /// No socket could be opened here.
    #[error("no socket: {0}")]
    Socket(Arc<io::Error>),
    /// No address of the host took the connection.
    #[error("no connection: {0}")]
    Connect(String),
    /// We do not believe the server's certificate.
    #[error("the server is not trusted: {0}")]
    Untrusted(Box<Refusal>),
    /// DTLS or TLS was not established: the server refused us, or understood nothing.
    #[error("{0}")]
    Handshake(String),
    /// Nothing came in time. Whether the server has the message is not known.
    #[error("the server did not answer in time")]
    NoAnswer,
    /// The connection or association ended before the answer was here. Whether the server has the message is not known.
    #[error("the connection ended before the answer came: {0}")]
    Interrupted(String),
    /// The server has no CoAP there: it rejected the message with a Reset.
    #[error("the server rejected the message with a Reset")]
    Reset,
    /// A response without PKIMessage that says no.
    #[error("the server answered {code}{}", after_colon(.diagnostic))]
    Refused {
        /// Its code.
        code: ResponseCode,
        /// What it says for people, printable and at most 256 characters; mostly empty.
        diagnostic: String,
        /// When to try again, if it says so.
        retry_after: Option<Duration>,
    },
    /// A success that is no PKIMessage: the format that it has, if any.
    #[error("the server answered with {} instead of a CMP message", .0.as_deref().unwrap_or("nothing"))]
    NoMessage(Option<String>),
    /// The answer is larger than [`ClientConfig::max_answer`](super::ClientConfig::max_answer).
    #[error("the answer has more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// A group, or an address that nothing is sent to (RFC 9482 §2.5).
    #[error("CMP messages go to one server only")]
    NotUnicast,
    /// The server broke the rules of CoAP or HTTP.
    #[error("the answer is not understood: {0}")]
    Protocol(String),
    /// Nothing can be observed over HTTP and HTTPS.
    #[error("announcements come over coap and coaps only")]
    NotObservable,
    /// Too many exchanges are under way.
    #[error("too many exchanges are under way")]
    Busy,
}

impl ExchangeError {
    /// Whether it may be worth another try with the same message, now or later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused { code, .. } => code.is_transient(),
            Self::Unresolvable(_)
            | Self::Socket(_)
            | Self::Connect(_)
            | Self::Handshake(_)
            | Self::NoAnswer
            | Self::Interrupted(_)
            | Self::Busy => true,
            _ => false,
        }
    }
}

fn after_colon(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(": {text}")
    }
}

/// What is shown of a text that a stranger sent.
pub(super) fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(256)
        .collect::<String>()
        .trim()
        .to_owned()
}

/// The code of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResponseCode {
    /// Of CoAP.
    Coap(Code),
    /// Of HTTP.
    Http(u16),
}

impl ResponseCode {
    /// Whether it says that another time may be better.
    pub fn is_transient(self) -> bool {
        match self {
            Self::Coap(code) => {
                code.class() == 5 && code != Code::NOT_IMPLEMENTED
                    || code == Code::TOO_MANY_REQUESTS
                    || code == Code::REQUEST_ENTITY_INCOMPLETE
            }
            Self::Http(status) => matches!(status, 408 | 429 | 500 | 502..=504),
        }
    }
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coap(code) => write!(f, "{code}"),
            Self::Http(status) => write!(f, "HTTP {status}"),
        }
    }
}
