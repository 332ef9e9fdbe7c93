//! Option numbers and what is known of them (RFC 7252 §5.4 and §5.10).

/// If-Match (RFC 7252 §5.10.8.1).
pub const IF_MATCH: u16 = 1;
/// Uri-Host (RFC 7252 §5.10.1).
pub const URI_HOST: u16 = 3;
/// ETag (RFC 7252 §5.10.6).
pub const ETAG: u16 = 4;
/// If-None-Match (RFC 7252 §5.10.8.2).
pub const IF_NONE_MATCH: u16 = 5;
/// Observe (RFC 7641 §2).
pub const OBSERVE: u16 = 6;
/// Uri-Port (RFC 7252 §5.10.1).
pub const URI_PORT: u16 = 7;
/// Location-Path (RFC 7252 §5.10.7).
pub const LOCATION_PATH: u16 = 8;
/// OSCORE (RFC 8613 §2); not implemented here, so it is answered like any unknown critical option.
pub const OSCORE: u16 = 9;
/// Uri-Path (RFC 7252 §5.10.1).
pub const URI_PATH: u16 = 11;
/// Content-Format (RFC 7252 §5.10.3).
pub const CONTENT_FORMAT: u16 = 12;
/// Max-Age (RFC 7252 §5.10.5).
pub const MAX_AGE: u16 = 14;
/// Uri-Query (RFC 7252 §5.10.1).
pub const URI_QUERY: u16 = 15;
/// Hop-Limit (RFC 8768 §3).
pub const HOP_LIMIT: u16 = 16;
/// Accept (RFC 7252 §5.10.4).
pub const ACCEPT: u16 = 17;
/// Location-Query (RFC 7252 §5.10.7).
pub const LOCATION_QUERY: u16 = 20;
/// Block2 (RFC 7959 §2.1).
pub const BLOCK2: u16 = 23;
/// Block1 (RFC 7959 §2.1).
pub const BLOCK1: u16 = 27;
/// Size2 (RFC 7959 §4).
pub const SIZE2: u16 = 28;
/// Proxy-Uri (RFC 7252 §5.10.2).
pub const PROXY_URI: u16 = 35;
/// Proxy-Scheme (RFC 7252 §5.10.2).
pub const PROXY_SCHEME: u16 = 39;
/// Size1 (RFC 7252 §5.10.9, RFC 7959 §4).
pub const SIZE1: u16 = 60;
/// Reserved for further Location-* options (RFC 7252 §5.10.7).
pub const LOCATION_RESERVED: [u16; 4] = [128, 132, 136, 140];
/// Echo (RFC 9175 §2.2.1).
pub const ECHO: u16 = 252;
/// No-Response (RFC 7967 §2).
pub const NO_RESPONSE: u16 = 258;
/// Request-Tag (RFC 9175 §3.2.1).
pub const REQUEST_TAG: u16 = 292;

/// How an option's value is to be read (RFC 7252 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Zero bytes.
    Empty,
    /// Any bytes.
    Opaque,
    /// Unsigned integer, network byte order, leading zeros allowed when reading.
    Uint,
    /// UTF-8 text.
    Text,
}

/// What the registry says about one option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Registered name.
    pub name: &'static str,
    /// Value format.
    pub format: Format,
    /// Shortest valid value in bytes.
    pub min: usize,
    /// Longest valid value in bytes.
    pub max: usize,
    /// Whether it may occur more than once (RFC 7252 §5.4.5).
    pub repeatable: bool,
}

/// Whether an unrecognised option of this number must fail the message (RFC 7252 §5.4.6).
pub const fn is_critical(number: u16) -> bool {
    number & 1 == 1
}

/// Whether a proxy that does not know the option must not forward it (RFC 7252 §5.4.6).
pub const fn is_unsafe(number: u16) -> bool {
    number & 2 == 2
}

/// Whether the option is left out of the cache key (RFC 7252 §5.4.6).
pub const fn is_no_cache_key(number: u16) -> bool {
    number & 0x1e == 0x1c
}

/// The definition of a registered option, `None` for numbers this crate does not know.
pub const fn definition(number: u16) -> Option<Definition> {
    use Format::{Empty, Opaque, Text, Uint};
    let (name, format, min, max, repeatable) = match number {
        IF_MATCH => ("If-Match", Opaque, 0, 8, true),
        URI_HOST => ("Uri-Host", Text, 1, 255, false),
        ETAG => ("ETag", Opaque, 1, 8, true),
        IF_NONE_MATCH => ("If-None-Match", Empty, 0, 0, false),
        OBSERVE => ("Observe", Uint, 0, 3, false),
        URI_PORT => ("Uri-Port", Uint, 0, 2, false),
        LOCATION_PATH => ("Location-Path", Text, 0, 255, true),
        OSCORE => ("OSCORE", Opaque, 0, 255, false),
        URI_PATH => ("Uri-Path", Text, 0, 255, true),
        CONTENT_FORMAT => ("Content-Format", Uint, 0, 2, false),
        MAX_AGE => ("Max-Age", Uint, 0, 4, false),
        URI_QUERY => ("Uri-Query", Text, 0, 255, true),
        HOP_LIMIT => ("Hop-Limit", Uint, 1, 1, false),
        ACCEPT => ("Accept", Uint, 0, 2, false),
        LOCATION_QUERY => ("Location-Query", Text, 0, 255, true),
        BLOCK2 => ("Block2", Uint, 0, 3, false),
        BLOCK1 => ("Block1", Uint, 0, 3, false),
        SIZE2 => ("Size2", Uint, 0, 4, false),
        PROXY_URI => ("Proxy-Uri", Text, 1, 1034, false),
        PROXY_SCHEME => ("Proxy-Scheme", Text, 1, 255, false),
        SIZE1 => ("Size1", Uint, 0, 4, false),
        ECHO => ("Echo", Opaque, 1, 40, false),
        NO_RESPONSE => ("No-Response", Uint, 0, 1, false),
        REQUEST_TAG => ("Request-Tag", Opaque, 0, 8, true),
        _ => return None,
    };
    Some(Definition {
        name,
        format,
        min,
        max,
        repeatable,
    })
}

/// Whether one value is within its option's length range and format (RFC 7252 §5.4.3, §5.10).
///
/// Unknown numbers have no range, so any value is valid.
pub fn is_valid_value(number: u16, value: &[u8]) -> bool {
    let Some(definition) = definition(number) else {
        return true;
    };
    if value.len() < definition.min || value.len() > definition.max {
        return false;
    }
    if definition.format == Format::Text && std::str::from_utf8(value).is_err() {
        return false;
    }
    // RFC 7252 §5.10.1, §5.10.7: a path segment is never "." or "..".
    !(matches!(number, URI_PATH | LOCATION_PATH) && (value == b"." || value == b".."))
}
