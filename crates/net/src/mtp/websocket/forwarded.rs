//! The client's certificate in the request of a proxy (RFC 9440).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio_tungstenite::tungstenite::http::HeaderMap;

/// The client's certificate.
const CERT: &str = "client-cert";
/// What it presented beside it.
const CHAIN: &str = "client-cert-chain";
/// Certificates of a chain that are looked at.
const MAX: usize = 10;

/// What is wrong with the certificate that a proxy hands on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ForwardedError {
    /// There is more than one.
    #[error("Client-Cert stands there {0} times")]
    Several(usize),
    /// The chain of no certificate.
    #[error("Client-Cert-Chain without Client-Cert")]
    NoLeaf,
    /// No byte sequence of RFC 8941 §3.3.5.
    #[error("`{0}` is no byte sequence")]
    Bytes(&'static str),
    /// No certificate, or something after it.
    #[error("`{0}` holds no certificate in DER")]
    Der(&'static str),
    /// More certificates than are looked at.
    #[error("more than {MAX} certificates")]
    TooMany,
}

/// The certificates that a request hands on, the client's first; none when it has no such header.
pub(super) fn certificates(headers: &HeaderMap) -> Result<Vec<Vec<u8>>, ForwardedError> {
    let mut leaves = headers.get_all(CERT).into_iter();
    let Some(leaf) = leaves.next() else {
        let has_chain = headers.contains_key(CHAIN);
        return if has_chain {
            Err(ForwardedError::NoLeaf)
        } else {
            Ok(Vec::new())
        };
    };
    let more = leaves.count();
    if more > 0 {
        return Err(ForwardedError::Several(more + 1));
    }
    let mut chain = split(&bytes(leaf.as_bytes(), CERT)?, CERT)?;
    if chain.len() != 1 {
        return Err(ForwardedError::Der(CERT));
    }
    for line in headers.get_all(CHAIN) {
        for item in line.as_bytes().split(|byte| *byte == b',') {
            // HAProxy has all of them in one byte sequence.
            chain.extend(split(&bytes(item, CHAIN)?, CHAIN)?);
            if chain.len() > MAX {
                return Err(ForwardedError::TooMany);
            }
        }
    }
    Ok(chain)
}

/// `:base64:`.
fn bytes(item: &[u8], name: &'static str) -> Result<Vec<u8>, ForwardedError> {
    let wrong = ForwardedError::Bytes(name);
    let inner = item
        .trim_ascii()
        .strip_prefix(b":")
        .and_then(|item| item.strip_suffix(b":"));
    STANDARD
        .decode(inner.ok_or(wrong.clone())?)
        .map_err(|_| wrong)
}

/// The DER SEQUENCEs that follow one another in `bytes`.
fn split(bytes: &[u8], name: &'static str) -> Result<Vec<Vec<u8>>, ForwardedError> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() && found.len() <= MAX {
        let (one, more) = length(rest)
            .and_then(|length| rest.split_at_checked(length))
            .ok_or(ForwardedError::Der(name))?;
        found.push(one.to_vec());
        rest = more;
    }
    Ok(found)
}

/// How long the SEQUENCE is that `der` begins with, its head included.
fn length(der: &[u8]) -> Option<usize> {
    let [0x30, first, rest @ ..] = der else {
        return None;
    };
    match usize::from(*first) {
        short @ 0..=0x7f => Some(short + 2),
        // A certificate has fewer than 2^24 bytes.
        long @ 0x81..=0x83 => {
            let digits = rest.get(..long - 0x80)?;
            let length = digits
                .iter()
                .fold(0, |length, digit| length * 256 + usize::from(*digit));
            Some(length + 2 + digits.len())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};

    use super::*;

    fn read(lines: &[(&'static str, &str)]) -> Result<Vec<Vec<u8>>, ForwardedError> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_str(value).expect("a value"),
            );
        }
        certificates(&headers)
    }

    /// A SEQUENCE with a payload of this length, and the header's text for it.
    fn der(length: usize) -> (Vec<u8>, String) {
        let mut der = match u8::try_from(length) {
            Ok(short @ 0..=0x7f) => vec![0x30, short],
            Ok(long) => vec![0x30, 0x81, long],
            Err(_) => vec![0x30, 0x82, (length >> 8) as u8, length as u8],
        };
        der.resize(der.len() + length, 5);
        let text = format!(":{}:", STANDARD.encode(&der));
        (der, text)
    }

    #[test]
    fn the_certificate_comes_first_and_the_chain_after_it() {
        let ((a, leaf), (b, first), (c, second)) = (der(300), der(200), der(100));
        assert_eq!(read(&[]), Ok(vec![]));
        assert_eq!(read(&[(CERT, &leaf)]), Ok(vec![a.clone()]));
        let whole = Ok(vec![a.clone(), b.clone(), c.clone()]);
        let list = format!("{first}, {second}");
        assert_eq!(read(&[(CERT, &leaf), (CHAIN, &list)]), whole);
        let lines = [(CHAIN, first.as_str()), (CERT, &leaf), (CHAIN, &second)];
        assert_eq!(read(&lines), whole);
        let joined = format!(":{}:", STANDARD.encode([b, c].concat()));
        assert_eq!(read(&[(CERT, &leaf), (CHAIN, &joined)]), whole);
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let (_, good) = der(200);
        for wrong in ["", "x", ":", "::::", ":%:", "?1", good.trim_matches(':')] {
            assert_eq!(
                read(&[(CERT, wrong)]),
                Err(ForwardedError::Bytes(CERT)),
                "{wrong}"
            );
            let chain = format!("{good},{wrong}");
            let refused = read(&[(CERT, &good), (CHAIN, &chain)]);
            assert_eq!(refused, Err(ForwardedError::Bytes(CHAIN)), "{wrong}");
        }
        for wrong in [
            &b"\x31\x00"[..],
            b"\x30",
            b"\x30\x02\x00",
            b"\x30\x84\x00\x00\x00\x01",
            b"\x30\x80",
            b"\x30\x00\x00",
        ] {
            let text = format!(":{}:", STANDARD.encode(wrong));
            assert_eq!(read(&[(CERT, &text)]), Err(ForwardedError::Der(CERT)));
        }
        assert_eq!(read(&[(CERT, "::")]), Err(ForwardedError::Der(CERT)));
        assert_eq!(read(&[(CHAIN, &good)]), Err(ForwardedError::NoLeaf));
        assert_eq!(
            read(&[(CERT, &good), (CERT, &good)]),
            Err(ForwardedError::Several(2))
        );
        let many = [good.as_str(); MAX].join(",");
        assert_eq!(
            read(&[(CERT, &good), (CHAIN, &many)]),
            Err(ForwardedError::TooMany)
        );
    }
}
