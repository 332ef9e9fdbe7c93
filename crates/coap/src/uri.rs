//! `coap` and `coaps` URIs (RFC 7252 §6).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

use crate::code::Code;
use crate::number;
use crate::options::Options;
use crate::request::Request;

/// Longest host, path segment or query argument in bytes (RFC 7252 §5.10).
const MAX_PART: usize = 255;

/// URI scheme (RFC 7252 §6.1 and §6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// `coap`: UDP without security, default port 5683.
    Coap,
    /// `coaps`: DTLS, default port 5684.
    Coaps,
}

impl Scheme {
    /// The default port (RFC 7252 §6.1 and §6.2).
    pub const fn default_port(self) -> u16 {
        match self {
            Scheme::Coap => 5683,
            Scheme::Coaps => 5684,
        }
    }

    /// Whether messages travel in DTLS.
    pub const fn is_secure(self) -> bool {
        matches!(self, Scheme::Coaps)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scheme::Coap => "coap",
            Scheme::Coaps => "coaps",
        })
    }
}

/// A decomposed URI (RFC 7252 §6.4): parts are percent-decoded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uri {
    /// Scheme.
    pub scheme: Scheme,
    /// Host name in lower case, or an IP address; IPv6 without brackets.
    pub host: String,
    /// Port; the scheme's default when the text has none.
    pub port: u16,
    /// Path segments; none for `/`.
    pub path: Vec<String>,
    /// Query arguments, split at `&`.
    pub query: Vec<String>,
}

/// Why a text is no `coap` or `coaps` URI (RFC 7252 §6.4).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UriError {
    /// Another scheme, or none.
    #[error("a URI starts with coap:// or coaps://")]
    Scheme,
    /// A user name before the host.
    #[error("a coap URI has no user part")]
    UserInfo,
    /// An empty or invalid host.
    #[error("{0:?} is not a host")]
    Host(String),
    /// An invalid port.
    #[error("{0:?} is not a port between 1 and 65535")]
    Port(String),
    /// A fragment (RFC 7252 §6.4 step 3).
    #[error("a coap URI has no fragment")]
    Fragment,
    /// A percent sign without two hexadecimal digits, or text that is not UTF-8.
    #[error("{0:?} is not percent-encoded UTF-8")]
    Encoding(String),
    /// A host, path segment or query argument over 255 bytes (RFC 7252 §5.10).
    #[error("{len} bytes are too long for one part, at most 255")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A character that a URI does not contain.
    #[error("{0:?} does not belong in a URI")]
    Character(char),
}

impl Uri {
    /// The host as IP address, when it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// The authority as in the URI: `host` or `host:port`, IPv6 in brackets.
    pub fn authority(&self) -> String {
        let mut text = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            encode(&self.host, |b| is_unreserved(b) || is_sub_delim(b))
        };
        if self.port != self.scheme.default_port() {
            text.push_str(&format!(":{}", self.port));
        }
        text
    }

    /// Writes Uri-Path and Uri-Query, and Uri-Host for a name (RFC 7252 §6.4 steps 5 to 9).
    pub fn apply(&self, options: &mut Options) {
        options.remove(number::URI_HOST);
        options.remove(number::URI_PATH);
        options.remove(number::URI_QUERY);
        if self.ip().is_none() && !self.host.contains(':') {
            options.add(number::URI_HOST, self.host.as_bytes());
        }
        for segment in &self.path {
            options.add(number::URI_PATH, segment.as_bytes());
        }
        for argument in &self.query {
            options.add(number::URI_QUERY, argument.as_bytes());
        }
    }

    /// A Confirmable request to this URI.
    pub fn request(&self, code: Code) -> Request {
        let mut request = Request::new(code);
        self.apply(&mut request.options);
        request
    }
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Uri, UriError> {
        if let Some(bad) = text.chars().find(|c| c.is_control() || *c == ' ') {
            return Err(UriError::Character(bad));
        }
        let (scheme, rest) = text.split_once("://").ok_or(UriError::Scheme)?;
        let scheme = if scheme.eq_ignore_ascii_case("coap") {
            Scheme::Coap
        } else if scheme.eq_ignore_ascii_case("coaps") {
            Scheme::Coaps
        } else {
            return Err(UriError::Scheme);
        };
        if rest.contains('#') {
            return Err(UriError::Fragment);
        }
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (host, port) = parse_authority(authority, scheme)?;
        Ok(Uri {
            scheme,
            host,
            port,
            path: parse_path(path)?,
            query: match query {
                Some(query) => query.split('&').map(decode).collect::<Result<_, _>>()?,
                None => Vec::new(),
            },
        })
    }
}

fn parse_authority(authority: &str, scheme: Scheme) -> Result<(String, u16), UriError> {
    if authority.contains('@') {
        return Err(UriError::UserInfo);
    }
    let bad_host = || UriError::Host(authority.to_owned());
    let (host, port) = if let Some(literal) = authority.strip_prefix('[') {
        let (literal, port) = literal.split_once(']').ok_or_else(bad_host)?;
        // RFC 6874: a zone identifier follows "%25".
        let (address, zone) = match literal.split_once("%25") {
            Some((address, zone)) => (address, format!("%{zone}")),
            None => (literal, String::new()),
        };
        let address: Ipv6Addr = address.parse().map_err(|_| bad_host())?;
        let port = match port {
            "" => None,
            port => Some(port.strip_prefix(':').ok_or_else(bad_host)?),
        };
        (format!("{address}{zone}"), port)
    } else {
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        let host = decode(host)?.to_lowercase();
        if host.is_empty() || host.contains(['/', '?', ':', '[', ']']) {
            return Err(bad_host());
        }
        (host, port)
    };
    let port = match port {
        None | Some("") => scheme.default_port(),
        Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => text
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| UriError::Port(text.to_owned()))?,
        Some(text) => return Err(UriError::Port(text.to_owned())),
    };
    Ok((host, port))
}

/// Splits at `/` and removes dot segments (RFC 3986 §5.2.4), which no Uri-Path may contain.
fn parse_path(path: &str) -> Result<Vec<String>, UriError> {
    let mut segments: Vec<String> = Vec::new();
    let Some(path) = path.strip_prefix('/') else {
        return Ok(segments);
    };
    let mut raw = path.split('/').peekable();
    while let Some(part) = raw.next() {
        let last = raw.peek().is_none();
        match decode(part)?.as_str() {
            dots @ ("." | "..") => {
                if dots == ".." {
                    segments.pop();
                }
                if last && !segments.is_empty() {
                    segments.push(String::new());
                }
            }
            segment => segments.push(segment.to_owned()),
        }
    }
    if segments.len() == 1 && segments.first().is_some_and(String::is_empty) {
        segments.clear();
    }
    Ok(segments)
}

fn decode(text: &str) -> Result<String, UriError> {
    let wrong = || UriError::Encoding(text.to_owned());
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || {
                bytes
                    .next()
                    .and_then(|b| char::from(b).to_digit(16))
                    .ok_or_else(wrong)
            };
            let value = digit()? * 16 + digit()?;
            out.push(u8::try_from(value).map_err(|_| wrong())?);
        } else {
            out.push(byte);
        }
    }
    if out.len() > MAX_PART {
        return Err(UriError::TooLong { len: out.len() });
    }
    String::from_utf8(out).map_err(|_| wrong())
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn is_sub_delim(byte: u8) -> bool {
    b"!$&'()*+,;=".contains(&byte)
}

fn encode(text: &str, plain: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

impl fmt::Display for Uri {
    /// RFC 7252 §6.5: composed from the parts; the scheme's default port is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority())?;
        for segment in &self.path {
            let segment = encode(segment, |b| {
                is_unreserved(b) || is_sub_delim(b) || b":@".contains(&b)
            });
            write!(f, "/{segment}")?;
        }
        if self.path.is_empty() && !self.query.is_empty() {
            f.write_str("/")?;
        }
        for (at, argument) in self.query.iter().enumerate() {
            let argument = encode(argument, |b| {
                is_unreserved(b) || (is_sub_delim(b) && b != b'&') || b":@/?".contains(&b)
            });
            write!(f, "{}{argument}", if at == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}
