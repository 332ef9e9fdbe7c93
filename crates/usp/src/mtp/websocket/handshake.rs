//! The opening handshake (R-WS.2, R-WS.9 to R-WS.12a).
#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::endpoint::{EndpointId, EndpointIdError};

use super::{EID, EXTENSION, SUBPROTOCOL};

/// A client's opening handshake, as far as USP looks at it. Each header may stand on several lines.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The request line's target: path and query.
    pub target: &'a str,
    /// The `Sec-WebSocket-Protocol` lines.
    pub protocols: &'a [&'a str],
    /// The `Sec-WebSocket-Extensions` lines.
    pub extensions: &'a [&'a str],
}

/// A client that may come in. The answer has [`SUBPROTOCOL`] as its `Sec-WebSocket-Protocol` (R-WS.11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Who it says it is, which its certificate stands for. When it says nothing, its certificate or its first Record does.
    pub peer: Option<EndpointId>,
    /// The answer's `Sec-WebSocket-Extensions`, if the client offered the extension (R-WS.11a).
    pub extension: Option<String>,
}

/// Why no session is established.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Another resource than the Endpoint's (R-WS.2).
    #[error("{0:?} is not the Endpoint's path")]
    Path(String),
    /// The subprotocol is missing (R-WS.12, R-WS.12a).
    #[error("Sec-WebSocket-Protocol does not have {SUBPROTOCOL:?}")]
    Subprotocol,
    /// An `eid` that is no Endpoint ID.
    #[error("eid {text:?}: {error}")]
    Endpoint {
        /// What stands there.
        text: String,
        /// What is wrong with it.
        error: EndpointIdError,
    },
    /// More than one `eid`, and they differ.
    #[error("the handshake names both {0} and {1}")]
    SeveralEndpoints(EndpointId, EndpointId),
    /// The other side names this Endpoint itself.
    #[error("the other side has this Endpoint's own Endpoint ID")]
    OwnEndpoint,
    /// The client's certificate is not that of the Endpoint that it says it is.
    #[error("the certificate is not that of {0}")]
    NotCertified(EndpointId),
    /// The other side is not the Endpoint that was to be reached.
    #[error("the other side says it is {claimed}, expected is {expected}")]
    OtherEndpoint {
        /// Who it says it is.
        claimed: EndpointId,
        /// Who it must be.
        expected: EndpointId,
    },
}

impl HandshakeError {
    /// The HTTP status that a server answers.
    pub fn status(&self) -> u16 {
        match self {
            Self::Path(_) => 404,
            Self::NotCertified(_) | Self::OtherEndpoint { .. } => 403,
            _ => 400,
        }
    }
}

/// The target that a client asks for: the Endpoint's path, with its own Endpoint ID in the query (R-WS.10b). The
/// ID is opaque, so that its percent characters are themselves encoded (R-WS.10c). An `eid` that is there already
/// is replaced.
pub fn target(path: &str, own: &EndpointId) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut target = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    target.push('?');
    for pair in query
        .split('&')
        .filter(|pair| !pair.is_empty() && value(pair).is_none())
    {
        target.push_str(pair);
        target.push('&');
    }
    // Besides '%', an Endpoint ID has only characters that a query has as they are.
    target + EID + "=" + &own.as_str().replace('%', "%25")
}

/// The `Sec-WebSocket-Extensions` value that names an Endpoint (R-WS.10a, R-WS.11a).
pub fn extension(own: &EndpointId) -> String {
    format!("{EXTENSION}; {EID}=\"{own}\"")
}

/// A server's decision: `path` is the Endpoint's, `certifies` tells whether the client's certificate, if it has one, is that of
/// an Endpoint.
///
/// An extension is not needed (R-WS.11c), nor is an `eid`: clients before USP 1.3 put it into the extension, and
/// those in browsers nowhere.
///
/// # Errors
/// [`HandshakeError`], and the status to answer.
pub fn admit(
    request: Request<'_>,
    path: &str,
    own: &EndpointId,
    certifies: impl FnOnce(&EndpointId) -> bool,
) -> Result<Admission, HandshakeError> {
    let (asked, query) = request
        .target
        .split_once('?')
        .unwrap_or((request.target, ""));
    if asked.trim_start_matches('/') != path.trim_start_matches('/') {
        return Err(HandshakeError::Path(asked.to_owned()));
    }
    if !has_subprotocol(request.protocols) {
        return Err(HandshakeError::Subprotocol);
    }
    let mut claimed = None;
    for text in query.split('&').filter_map(value) {
        // In a query the encoding is undone; a client before USP 1.4 may not have encoded.
        same(&mut claimed, endpoint(text, &[&decoded(text), text])?)?;
    }
    let offered = named_by(request.extensions, &mut claimed)?;
    if claimed.as_ref() == Some(own) {
        return Err(HandshakeError::OwnEndpoint);
    }
    if let Some(claimed) = claimed.as_ref().filter(|claimed| !certifies(claimed)) {
        return Err(HandshakeError::NotCertified(claimed.clone()));
    }
    Ok(Admission {
        peer: claimed,
        extension: offered.then(|| extension(own)),
    })
}

/// A client's decision about the response: who the server is, if it is known. `expected` is who must be there: the
/// one to be reached.
///
/// A response without the extension is as good (R-WS.11b), and one with an extension that was not offered too.
///
/// # Errors
/// [`HandshakeError`]; the connection is closed then.
pub fn check_response(
    protocols: &[&str],
    extensions: &[&str],
    own: &EndpointId,
    expected: Option<&EndpointId>,
) -> Result<Option<EndpointId>, HandshakeError> {
    if !has_subprotocol(protocols) {
        return Err(HandshakeError::Subprotocol);
    }
    let mut claimed = None;
    named_by(extensions, &mut claimed)?;
    if claimed.as_ref() == Some(own) {
        return Err(HandshakeError::OwnEndpoint);
    }
    expect(claimed, expected)
}

fn has_subprotocol(lines: &[&str]) -> bool {
    lines
        .iter()
        .flat_map(|line| line.split(','))
        .any(|token| token.trim() == SUBPROTOCOL)
}

/// Notes who the extension names; whether it is there at all.
fn named_by(lines: &[&str], claimed: &mut Option<EndpointId>) -> Result<bool, HandshakeError> {
    let mut offered = false;
    for line in lines {
        for part in unquoted(line, ',') {
            let mut parameters = unquoted(part, ';').into_iter();
            let name = parameters.next().unwrap_or_default();
            if !name.trim().eq_ignore_ascii_case(EXTENSION) {
                continue;
            }
            offered = true;
            for text in parameters.filter_map(|parameter| value(parameter.trim())) {
                let text = text.trim().trim_matches('"');
                // Here nothing is encoded by the standard, but some encode.
                same(claimed, endpoint(text, &[text, &decoded(text)])?)?;
            }
        }
    }
    Ok(offered)
}

/// What stands after `eid=`.
fn value(pair: &str) -> Option<&str> {
    let (key, value) = pair.split_once('=')?;
    (key.trim_end() == EID).then_some(value)
}

/// The first of the readings that is an Endpoint ID; otherwise the error of the last.
fn endpoint(text: &str, readings: &[&str]) -> Result<EndpointId, HandshakeError> {
    let mut wrong = EndpointIdError::Form;
    for reading in readings {
        match reading.parse() {
            Ok(id) => return Ok(id),
            Err(error) => wrong = error,
        }
    }
    Err(HandshakeError::Endpoint {
        text: text.chars().take(80).collect(),
        error: wrong,
    })
}

fn same(claimed: &mut Option<EndpointId>, id: EndpointId) -> Result<(), HandshakeError> {
    match claimed {
        Some(other) if *other != id => Err(HandshakeError::SeveralEndpoints(other.clone(), id)),
        _ => {
            *claimed = Some(id);
            Ok(())
        }
    }
}

fn expect(
    claimed: Option<EndpointId>,
    expected: Option<&EndpointId>,
) -> Result<Option<EndpointId>, HandshakeError> {
    match (claimed, expected) {
        (Some(claimed), Some(expected)) if claimed != *expected => {
            Err(HandshakeError::OtherEndpoint {
                claimed,
                expected: expected.clone(),
            })
        }
        (claimed, expected) => Ok(expected.cloned().or(claimed)),
    }
}

/// The parts of `text` between separators that do not stand in quotes.
fn unquoted(text: &str, separator: char) -> Vec<&str> {
    let mut quoted = false;
    text.split(|letter| {
        quoted ^= letter == '"';
        letter == separator && !quoted
    })
    .collect()
}

/// `text` with each `%XX` undone once; what is no text then is left as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let encoded = tail
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(encoded.unwrap_or(*first));
        rest = if encoded.is_some() {
            tail.get(2..).unwrap_or_default()
        } else {
            tail
        };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}
