//! The CoAP binding (TR-369 1.2 §4.4, R-COAP.0 to R-COAP.13): what is accepted, and how a refusal is answered.

use std::fmt;

use crate::record::{Record, RecordError};

/// The CoAP Content-Format of a Record: application/octet-stream (R-COAP.6).
pub const CONTENT_FORMAT: u16 = 42;

/// The resource type of an Endpoint, `rt` (R-COAP.1).
pub const RESOURCE_TYPE: &str = "bbf.usp.endpoint";

/// The interface of an Agent, `if` (R-COAP.1).
pub const INTERFACE_AGENT: &str = "bbf.usp.a";

/// The interface of a Controller, `if` (R-COAP.1).
pub const INTERFACE_CONTROLLER: &str = "bbf.usp.c";

/// The Uri-Query that names the way back (R-COAP.2).
pub const REPLY_TO: &str = "reply-to";

/// The method of a Record's transfer, POST (0.02).
pub const POST: u8 = 0x02;

/// 2.04 Changed: the Record was received (R-COAP.7).
pub const CHANGED: u8 = 0x44;

/// 4.00 Bad Request: the Record cannot be decoded (R-COAP.13), or the way back is missing or wrong.
pub const BAD_REQUEST: u8 = 0x80;

/// 4.05 Method Not Allowed (R-COAP.11).
pub const METHOD_NOT_ALLOWED: u8 = 0x85;

/// 4.15 Unsupported Content-Format (R-COAP.12).
pub const UNSUPPORTED_CONTENT_FORMAT: u8 = 0x8F;

/// The longest reply-to URI that is taken: a Uri-Query option has at most 255 bytes (RFC 7252 §5.10).
pub const MAX_REPLY_TO: usize = 255 - "reply-to=".len();

/// A CoAP request to the Endpoint's resource, reassembled.
#[derive(Clone, Copy, Debug)]
pub struct Inbound<'a> {
    /// The code byte; POST is 0x02.
    pub method: u8,
    /// The Content-Format option.
    pub content_format: Option<u16>,
    /// The Uri-Query options, in order.
    pub queries: &'a [&'a str],
    /// The payload.
    pub payload: &'a [u8],
}

/// A Record that was received, and the way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The Record.
    pub record: Record,
    /// The URI that the response goes to (R-COAP.2a).
    pub reply_to: String,
}

/// A request that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The response's code byte.
    pub code: u8,
    /// Why.
    pub reason: Reason,
    /// Where an Error would go (R-MTP.5): known when nothing but the Record is wrong.
    pub reply_to: Option<String>,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Not POST (R-COAP.11).
    #[error("a Record comes by POST")]
    Method,
    /// Not 42, or not given (R-COAP.12).
    #[error("a Record has Content-Format 42")]
    ContentFormat,
    /// No `reply-to` query (R-COAP.2).
    #[error("the reply-to query is missing")]
    NoReplyTo,
    /// More than one.
    #[error("reply-to is given more than once")]
    SeveralReplyTo,
    /// Not a coap or coaps URI, or one with a query (R-COAP.2).
    #[error("reply-to: {0}")]
    ReplyTo(ReplyToError),
    /// A secured request asks for an answer without security.
    #[error("reply-to asks for coap, but the request came over coaps")]
    WeakerReplyTo,
    /// The payload is no Record (R-COAP.13).
    #[error("{0}")]
    Record(RecordError),
}

/// What is wrong with a reply-to URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyToError {
    /// Longer than [`MAX_REPLY_TO`].
    #[error("longer than {MAX_REPLY_TO} bytes")]
    TooLong,
    /// Neither `coap://` nor `coaps://`.
    #[error("neither coap:// nor coaps://")]
    Scheme,
    /// No host, or a host or port that is none.
    #[error("no host and port")]
    Authority,
    /// It has a query or a fragment.
    #[error("it has a query or a fragment")]
    Query,
    /// A control or non-ASCII character, or a space.
    #[error("a character that URIs do not have")]
    Character,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl std::error::Error for Rejection {}

impl Rejection {
    fn new(code: u8, reason: Reason) -> Self {
        Self {
            code,
            reason,
            reply_to: None,
        }
    }
}

/// Decides about a request: the Record and the way back, or the code to answer. `secure` says that it came
/// over DTLS; then the way back must be `coaps` too.
///
/// # Errors
/// [`Rejection`] with 4.05, 4.15 or 4.00.
pub fn accept(inbound: Inbound<'_>, secure: bool) -> Result<Accepted, Rejection> {
    if inbound.method != POST {
        return Err(Rejection::new(METHOD_NOT_ALLOWED, Reason::Method));
    }
    if inbound.content_format != Some(CONTENT_FORMAT) {
        return Err(Rejection::new(
            UNSUPPORTED_CONTENT_FORMAT,
            Reason::ContentFormat,
        ));
    }
    let bad = |reason| Rejection::new(BAD_REQUEST, reason);
    let mut ways = inbound.queries.iter().filter_map(|query| {
        query
            .strip_prefix(REPLY_TO)
            .and_then(|rest| rest.strip_prefix('='))
    });
    let reply_to = ways.next().ok_or_else(|| bad(Reason::NoReplyTo))?;
    if ways.next().is_some() {
        return Err(bad(Reason::SeveralReplyTo));
    }
    let encrypted = check_reply_to(reply_to).map_err(|error| bad(Reason::ReplyTo(error)))?;
    if secure && !encrypted {
        return Err(bad(Reason::WeakerReplyTo));
    }
    let record = Record::decode(inbound.payload).map_err(|error| Rejection {
        reply_to: Some(reply_to.to_owned()),
        ..bad(Reason::Record(error))
    })?;
    Ok(Accepted {
        record,
        reply_to: reply_to.to_owned(),
    })
}

/// The Uri-Query option that names `uri` as the way back (R-COAP.2).
///
/// # Errors
/// [`ReplyToError`] when it cannot be one.
pub fn reply_to_query(uri: &str) -> Result<String, ReplyToError> {
    check_reply_to(uri)?;
    Ok(format!("{REPLY_TO}={uri}"))
}

/// Checks a reply-to URI (RFC 7252 §6.1, §6.2); says whether it is `coaps`.
fn check_reply_to(uri: &str) -> Result<bool, ReplyToError> {
    if uri.len() > MAX_REPLY_TO {
        return Err(ReplyToError::TooLong);
    }
    if !uri.bytes().all(|byte| {
        byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`')
    }) {
        return Err(ReplyToError::Character);
    }
    let (scheme, rest) = uri.split_once("://").ok_or(ReplyToError::Scheme)?;
    let encrypted = match scheme.to_ascii_lowercase().as_str() {
        "coap" => false,
        "coaps" => true,
        _ => return Err(ReplyToError::Scheme),
    };
    if rest.contains(['?', '#']) {
        return Err(ReplyToError::Query);
    }
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, port) = match authority.strip_prefix('[') {
        Some(inside) => {
            let (address, port) = inside.split_once(']').ok_or(ReplyToError::Authority)?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(ReplyToError::Authority);
            }
            (
                address,
                if port.is_empty() {
                    None
                } else {
                    Some(port.strip_prefix(':').ok_or(ReplyToError::Authority)?)
                },
            )
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port_fits =
        port.is_none_or(|port| port.is_empty() || port.parse::<u16>().is_ok_and(|port| port != 0));
    if host.is_empty() || host.contains('@') || !port_fits {
        return Err(ReplyToError::Authority);
    }
    Ok(encrypted)
}
