//! UDP Connection Requests (TR-111 Part 2 §2.2.1.4 and §2.2.2.3): the form of an HTTP GET in one datagram, without an answer.

use std::{collections::HashMap, fmt, net::SocketAddr};

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq as _;

/// Longest datagram that is read as a UDP Connection Request.
pub const MAX_DATAGRAM: usize = 4096;
/// Most header fields that are read.
const MAX_HEADERS: usize = 64;
/// Longest name or value in the query, decoded.
const MAX_VALUE: usize = 512;

/// What a UDP Connection Request says. The signature is verified before anybody sees one that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRequest {
    /// `ts`: when it was made, in seconds since 1970.
    pub timestamp: u64,
    /// `id`: changes from one request to the next.
    pub id: u64,
    /// `un`: ConnectionRequestUsername.
    pub username: String,
    /// `cn`: random text of the ACS.
    pub cnonce: String,
}

impl ConnectionRequest {
    /// The datagram for a device: `authority` is its `UDPConnectionRequestAddress`, or comes from [`authority`].
    pub fn encode(&self, authority: &str, password: &[u8]) -> Vec<u8> {
        let [username, cnonce] = [&self.username, &self.cnonce].map(|text| form_encode(text));
        let (timestamp, id) = (self.timestamp, self.id);
        let signature = hex(&sign(&self.covered(), password));
        format!(
            "GET http://{authority}?ts={timestamp}&id={id}&un={username}&cn={cnonce}&sig={signature} HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 0\r\n\r\n"
        )
        .into_bytes()
    }

    /// The text that the signature covers (§2.2.2.3).
    fn covered(&self) -> String {
        let Self {
            timestamp,
            id,
            username,
            cnonce,
        } = self;
        format!("{timestamp}{id}{username}{cnonce}")
    }
}

/// The authority for a destination: the port is left out when it is 80, as §2.2.2.3 allows.
pub fn authority(to: SocketAddr) -> String {
    match (to.port(), to.ip()) {
        (80, std::net::IpAddr::V6(ip)) => format!("[{ip}]"),
        (80, ip) => ip.to_string(),
        _ => to.to_string(),
    }
}

/// Why a datagram is not acted upon. The device ignores it, whatever the reason (§2.2.1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Ignored {
    /// More than [`MAX_DATAGRAM`] octets.
    #[error("too long")]
    Size,
    /// No request of HTTP 1.1 (RFC 2616).
    #[error("no HTTP/1.1 request")]
    Form,
    /// Another method than GET.
    #[error("not a GET")]
    Method,
    /// The Request-URI is not absolute, not of scheme http, or has a path.
    #[error("the Request-URI has not the form http://authority?query")]
    Uri,
    /// A name-value pair is missing, comes twice or is malformed.
    #[error("the query lacks a value, has one twice, or one is malformed")]
    Query,
    /// `ts` is not greater than the last one that was taken.
    #[error("the timestamp is not newer than the last")]
    Timestamp,
    /// `id` is that of the last one that was taken.
    #[error("the message ID is that of the last")]
    MessageId,
    /// `un` is not ConnectionRequestUsername.
    #[error("another username")]
    Username,
    /// `sig` is not the signature by ConnectionRequestPassword.
    #[error("the signature is wrong")]
    Signature,
}

/// What a device remembers of the request that it took last; `timestamp` must survive as long as the device runs, and may
/// survive reboots (§2.2.1.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Last {
    /// Its `ts`; 0 when there was none.
    pub timestamp: u64,
    /// Its `id`, when there was one.
    pub id: Option<u64>,
}

/// Decides about a datagram: all of validation and authentication (§2.2.1.4). On `Ok`, `last` is what must be remembered; on `Err` it is as before.
pub fn accept(
    datagram: &[u8],
    username: &str,
    password: &[u8],
    last: &mut Last,
) -> Result<ConnectionRequest, Ignored> {
    let (request, signature) = parse(datagram)?;
    // The name is no secret, and all are compared the same way all the same.
    if !bool::from(request.username.as_bytes().ct_eq(username.as_bytes())) {
        return Err(Ignored::Username);
    }
    if !bool::from(sign(&request.covered(), password).ct_eq(&signature)) {
        return Err(Ignored::Signature);
    }
    if request.timestamp <= last.timestamp {
        return Err(Ignored::Timestamp);
    }
    if last.id == Some(request.id) {
        return Err(Ignored::MessageId);
    }
    *last = Last {
        timestamp: request.timestamp,
        id: Some(request.id),
    };
    Ok(request)
}

/// Reads a request and its signature, which is not verified yet.
fn parse(datagram: &[u8]) -> Result<(ConnectionRequest, [u8; 20]), Ignored> {
    if datagram.len() > MAX_DATAGRAM {
        return Err(Ignored::Size);
    }
    let target = request_target(datagram)?;
    let query = query(target)?;
    let mut values = HashMap::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').ok_or(Ignored::Query)?;
        let (name, value) = (form_decode(name)?, form_decode(value)?);
        if values.insert(name, value).is_some() {
            return Err(Ignored::Query);
        }
    }
    let mut take = |name: &str| values.remove(name).ok_or(Ignored::Query);
    let request = ConnectionRequest {
        timestamp: number(&take("ts")?)?,
        id: number(&take("id")?)?,
        username: take("un")?,
        cnonce: take("cn")?,
    };
    let signature = unhex(&take("sig")?).ok_or(Ignored::Query)?;
    Ok((request, signature))
}

/// The Request-URI of a valid HTTP/1.1 GET. A body is ignored (§2.2.1.4).
fn request_target(datagram: &[u8]) -> Result<&str, Ignored> {
    let end = datagram
        .windows(4)
        .position(|octets| octets == b"\r\n\r\n")
        .ok_or(Ignored::Form)?;
    let head = std::str::from_utf8(&datagram[..end]).map_err(|_| Ignored::Form)?;
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Ignored::Form);
    };
    if version != "HTTP/1.1" || !method.bytes().all(is_token) || method.is_empty() {
        return Err(Ignored::Form);
    }
    // Host is what HTTP 1.1 demands of every request (RFC 2616 §14.23); senders in the field leave it out, and the URI is absolute.
    for (count, line) in lines.enumerate() {
        let (name, value) = line.split_once(':').ok_or(Ignored::Form)?;
        let field = !name.is_empty() && name.bytes().all(is_token);
        if !field || value.contains(|c: char| c.is_control() && c != '\t') || count >= MAX_HEADERS {
            return Err(Ignored::Form);
        }
    }
    if method != "GET" {
        return Err(Ignored::Method);
    }
    Ok(target)
}

/// The query of `http://authority?query`. An empty path may be written as `/`: senders in the field do.
fn query(target: &str) -> Result<&str, Ignored> {
    let (scheme, rest) = target.split_once("://").ok_or(Ignored::Uri)?;
    let (authority, query) = rest.split_once('?').ok_or(Ignored::Uri)?;
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~%!$&'()*+,;=:@[]".contains(c);
    if !scheme.eq_ignore_ascii_case("http")
        || authority.is_empty()
        || !authority.chars().all(plain)
        || query.contains('#')
    {
        return Err(Ignored::Uri);
    }
    Ok(query)
}

/// RFC 2616 §2.2.
fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

fn number(text: &str) -> Result<u64, Ignored> {
    if text.is_empty() || !text.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(Ignored::Query);
    }
    text.parse().map_err(|_| Ignored::Query)
}

fn sign(text: &str, password: &[u8]) -> [u8; 20] {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password);
    let mut signature = [0; 20];
    signature.copy_from_slice(hmac::sign(&key, text.as_bytes()).as_ref());
    signature
}

fn hex(octets: &[u8; 20]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        use fmt::Write as _;
        // Writing to a String cannot fail.
        write!(text, "{octet:02X}").unwrap_or_default();
        text
    })
}

/// 40 hexadecimal digits in either case.
fn unhex(text: &str) -> Option<[u8; 20]> {
    let digits = text.as_bytes();
    if digits.len() != 40 {
        return None;
    }
    let mut octets = [0; 20];
    for (octet, pair) in octets.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = [pair[0], pair[1]].map(|d| char::from(d).to_digit(16));
        *octet = u8::try_from(high? << 4 | low?).ok()?;
    }
    Some(octets)
}

/// `application/x-www-form-urlencoded` (HTML 4.01 §17.13.4).
fn form_encode(text: &str) -> String {
    let mut encoded = String::new();
    for octet in text.bytes() {
        match octet {
            b'*' | b'-' | b'.' | b'_' => encoded.push(char::from(octet)),
            _ if octet.is_ascii_alphanumeric() => encoded.push(char::from(octet)),
            b' ' => encoded.push('+'),
            _ => {
                use fmt::Write as _;
                write!(encoded, "%{octet:02X}").unwrap_or_default();
            }
        }
    }
    encoded
}

fn form_decode(text: &str) -> Result<String, Ignored> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = digit().zip(digit()).ok_or(Ignored::Query)?;
                u8::try_from(high << 4 | low).map_err(|_| Ignored::Query)?
            }
            octet => octet,
        });
    }
    if octets.len() > MAX_VALUE {
        return Err(Ignored::Query);
    }
    String::from_utf8(octets).map_err(|_| Ignored::Query)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn request() -> ConnectionRequest {
        ConnectionRequest {
            timestamp: 1_120_673_700,
            id: 1234,
            username: "CPE57689".into(),
            cnonce: "XTGRWIPC6D3IPXS3".into(),
        }
    }

    fn with(target: &str) -> Vec<u8> {
        format!("GET {target} HTTP/1.1\r\n\r\n").into_bytes()
    }

    /// Everything after `http://10.1.1.1:8080?`, signed.
    fn signed() -> String {
        let text = String::from_utf8(request().encode("10.1.1.1:8080", b"password")).unwrap();
        let query = text.split(['?', ' ']).nth(2).unwrap();
        query.to_owned()
    }

    fn try_it(datagram: &[u8]) -> Result<ConnectionRequest, Ignored> {
        accept(datagram, "CPE57689", b"password", &mut Last::default())
    }

    #[test]
    fn what_is_made_is_taken_once() {
        let datagram = request().encode("10.1.1.1:8080", b"password");
        let mut last = Last::default();
        let mut take = || accept(&datagram, "CPE57689", b"password", &mut last);
        assert_eq!(take(), Ok(request()));
        assert_eq!(take(), Err(Ignored::Timestamp));
        assert_eq!(
            last,
            Last {
                timestamp: 1_120_673_700,
                id: Some(1234)
            }
        );
    }

    /// The example of §2.2.2.3; its password is not given, so that only its form can be checked.
    #[test]
    fn the_example_of_the_specification_is_read() {
        let target = "http://10.1.1.1:8080?ts=1120673700&id=1234&un=CPE57689&cn=XTGRWIPC6D3IPXS3&sig=3545F7B5820D76A3DF45A3A509DA8D8C38F13512";
        let (read, signature) = parse(&with(target)).unwrap();
        assert_eq!(read, request());
        assert_eq!(hex(&signature), "3545F7B5820D76A3DF45A3A509DA8D8C38F13512");
    }

    #[test]
    fn a_request_must_be_newer_and_another_one() {
        let mut last = Last {
            timestamp: 1_120_673_699,
            id: Some(1234),
        };
        let datagram = request().encode("h", b"password");
        let mut take = |id| {
            last.id = Some(id);
            accept(&datagram, "CPE57689", b"password", &mut last)
        };
        assert_eq!(take(1234), Err(Ignored::MessageId));
        assert_eq!(take(1233), Ok(request()));
    }

    #[test]
    fn what_is_refused_is_not_remembered() {
        let mut last = Last::default();
        let forged = request().encode("h", b"guess");
        let refused = accept(&forged, "CPE57689", b"password", &mut last);
        assert_eq!((refused, last), (Err(Ignored::Signature), Last::default()));
        let other = accept(&forged, "another", b"guess", &mut last);
        assert_eq!((other, last), (Err(Ignored::Username), Last::default()));
    }

    #[test]
    fn the_signature_is_read_in_either_case() {
        let query = signed();
        let (before, signature) = query.split_once("sig=").unwrap();
        for signature in [signature.to_lowercase(), signature.to_uppercase()] {
            let target = format!("HTTP://10.1.1.1:8080?{before}sig={signature}");
            assert_eq!(try_it(&with(&target)), Ok(request()));
        }
        let short = format!("http://10.1.1.1:8080?{before}sig={}", &signature[1..]);
        assert_eq!(try_it(&with(&short)), Err(Ignored::Query));
    }

    #[test]
    fn names_and_nonces_are_form_encoded() {
        let odd = ConnectionRequest {
            username: "a b&c=d%é+".into(),
            cnonce: "?#".into(),
            ..request()
        };
        let datagram = odd.encode("[2001:db8::1]:7", b"p");
        assert_eq!(
            accept(&datagram, &odd.username, b"p", &mut Last::default()),
            Ok(odd)
        );
    }

    #[test]
    fn a_body_is_ignored() {
        let mut datagram = request().encode("10.1.1.1:8080", b"password");
        datagram.extend_from_slice(b"\xff anything \r\n\r\n");
        assert_eq!(try_it(&datagram), Ok(request()));
    }

    #[test]
    fn what_is_no_http_request_is_ignored() {
        let query = signed();
        for (text, why) in [
            (
                format!("GET http://h?{query} HTTP/1.0\r\n\r\n"),
                Ignored::Form,
            ),
            (format!("GET http://h?{query} HTTP/1.1\r\n"), Ignored::Form),
            (
                format!("GET  http://h?{query} HTTP/1.1\r\n\r\n"),
                Ignored::Form,
            ),
            (
                format!("GET http://h?{query} HTTP/1.1\r\nno colon\r\n\r\n"),
                Ignored::Form,
            ),
            (
                format!("GET http://h?{query} HTTP/1.1\r\n: x\r\n\r\n"),
                Ignored::Form,
            ),
            (
                format!("G\u{7}T http://h?{query} HTTP/1.1\r\n\r\n"),
                Ignored::Form,
            ),
            (
                format!("POST http://h?{query} HTTP/1.1\r\n\r\n"),
                Ignored::Method,
            ),
            (
                format!("get http://h?{query} HTTP/1.1\r\n\r\n"),
                Ignored::Method,
            ),
            (format!("GET /?{query} HTTP/1.1\r\n\r\n"), Ignored::Uri),
            (
                format!("GET https://h?{query} HTTP/1.1\r\n\r\n"),
                Ignored::Uri,
            ),
            (
                format!("GET http://h/path?{query} HTTP/1.1\r\n\r\n"),
                Ignored::Uri,
            ),
            (
                format!("GET http://?{query} HTTP/1.1\r\n\r\n"),
                Ignored::Uri,
            ),
            (
                format!("GET http://h?{query}#f HTTP/1.1\r\n\r\n"),
                Ignored::Uri,
            ),
            ("GET http://h HTTP/1.1\r\n\r\n".into(), Ignored::Uri),
            (String::new(), Ignored::Form),
        ] {
            assert_eq!(try_it(text.as_bytes()), Err(why), "{text}");
        }
        assert_eq!(try_it(&[b'G'; MAX_DATAGRAM + 1]), Err(Ignored::Size));
        assert_eq!(try_it(b"GET \xff HTTP/1.1\r\n\r\n"), Err(Ignored::Form));
        let many = format!(
            "GET http://h?{query} HTTP/1.1\r\n{}\r\n",
            "a: b\r\n".repeat(MAX_HEADERS + 1)
        );
        assert_eq!(try_it(many.as_bytes()), Err(Ignored::Form));
        assert_eq!(try_it(&with(&format!("http://h/?{query}"))), Ok(request()));
    }

    #[test]
    fn a_query_has_each_value_once_and_well_formed() {
        let query = signed();
        for name in ["ts", "id", "un", "cn", "sig"] {
            let without: Vec<_> = query.split('&').filter(|p| !p.starts_with(name)).collect();
            let target = format!("http://h?{}", without.join("&"));
            assert_eq!(
                try_it(&with(&target)),
                Err(Ignored::Query),
                "without {name}"
            );
            let pair = query.split('&').find(|p| p.starts_with(name)).unwrap();
            let twice = format!("http://h?{query}&{pair}");
            assert_eq!(try_it(&with(&twice)), Err(Ignored::Query), "{name} twice");
        }
        for (from, to) in [
            ("ts=1120673700", "ts=+1120673700"),
            ("ts=1120673700", "ts="),
            ("id=1234", "id=-1"),
            ("id=1234", "id=18446744073709551616"),
            ("un=CPE57689", "un=%C"),
            ("un=CPE57689", "un=%FF"),
            ("un=CPE57689", "un"),
        ] {
            let target = format!("http://h?{}", query.replace(from, to));
            assert_eq!(try_it(&with(&target)), Err(Ignored::Query), "{to}");
        }
        let long = format!("http://h?{query}&x={}", "a".repeat(MAX_VALUE + 1));
        assert_eq!(try_it(&with(&long)), Err(Ignored::Query));
        // What a later version may add.
        assert_eq!(
            try_it(&with(&format!("http://h?{query}&x=1"))),
            Ok(request())
        );
    }

    #[test]
    fn the_port_80_is_left_out() {
        for (to, text) in [
            ("192.0.2.1:80", "192.0.2.1"),
            ("192.0.2.1:81", "192.0.2.1:81"),
            ("[2001:db8::1]:80", "[2001:db8::1]"),
            ("[2001:db8::1]:7547", "[2001:db8::1]:7547"),
        ] {
            assert_eq!(authority(to.parse().unwrap()), text);
        }
    }
}
