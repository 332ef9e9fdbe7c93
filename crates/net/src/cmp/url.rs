//! Where a CMP server is.

use std::fmt;
use std::str::FromStr;

use super::service::Scheme;
use super::target::{Operation, Target};

/// Longest URL in bytes.
const MAX_URL: usize = 2048;
/// Longest path segment over CoAP in bytes (RFC 7252 §5.10).
const MAX_SEGMENT: usize = 255;

/// The URL of a CMP server, taken apart: scheme, host, port and path. It has no user, query or fragment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Url {
    /// `coap`, `coaps`, `http` or `https`.
    pub scheme: Scheme,
    /// Host name in lower case, or an IP address; IPv6 without brackets.
    pub host: String,
    /// Port; the scheme's default when the text has none.
    pub port: u16,
    /// Path segments, percent-decoded; none for `/`.
    pub path: Vec<String>,
}

/// Why a text is no URL of a CMP server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Another scheme, or none.
    #[error("the URL of a CMP server starts with coap://, coaps://, http:// or https://")]
    Scheme,
    /// The rest is no URL of such a server.
    #[error("`{url}` is no URL of a CMP server: {problem}")]
    Form {
        /// The URL.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Url {
    /// The URL to send a message of this operation to (RFC 9482 §2.1, RFC 9811 §3.6). Where the URL has no path that is
    /// `/.well-known/cmp`; an operation is added to that and to `/.well-known/cmp/p/<label>`, by the name that it has over this scheme. Any
    /// other path was chosen by somebody who knows why, and stays as it is.
    #[must_use]
    pub fn with_operation(&self, operation: Option<Operation>) -> Self {
        let label = match Target::parse(&self.path) {
            _ if self.path.is_empty() => None,
            Ok(Target {
                label,
                operation: None,
            }) => label,
            _ => return self.clone(),
        };
        let target = Target { label, operation };
        Self {
            path: target.segments(self.scheme.is_coap()),
            ..self.clone()
        }
    }

    /// The URL of what is announced there (RFC 9482 §2.6); a path that is not that of a CA stays as it is.
    #[must_use]
    pub fn with_announcements(&self) -> Self {
        let bare = self.with_operation(None);
        match Target::parse(&bare.path) {
            Ok(Target {
                label,
                operation: None,
            }) => Self {
                path: Target::announcements(label.as_deref()),
                ..bare
            },
            _ => bare,
        }
    }

    /// The same server under a label: a CA or a certificate profile of it. `None` when the URL has a path already.
    #[must_use]
    pub fn with_label(&self, label: &str) -> Option<Self> {
        let target = Target {
            label: Some(label.to_owned()),
            operation: None,
        };
        let bare = self.path.is_empty() || Target::parse(&self.path) == Ok(Target::default());
        let path = target.segments(true);
        (bare && Target::parse(&path).is_ok()).then(|| Self {
            path,
            ..self.clone()
        })
    }

    /// Host and port as in the URL; IPv6 in brackets, the scheme's default port left out.
    pub fn authority(&self) -> String {
        let mut text = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port != self.scheme.default_port() {
            text.push_str(&format!(":{}", self.port));
        }
        text
    }

    /// The path, percent-encoded, `/` at least.
    pub fn path_text(&self) -> String {
        path_text(&self.path)
    }
}

/// Segments as a path, percent-encoded, `/` at least.
pub(super) fn path_text(segments: &[String]) -> String {
    let mut text = String::new();
    for segment in segments {
        text.push('/');
        for byte in segment.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
                text.push(char::from(byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    if text.is_empty() {
        text.push('/');
    }
    text
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let wrong = |problem| UrlError::Form {
            url: text.chars().take(256).collect(),
            problem,
        };
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let scheme = Scheme::parse(scheme).ok_or(UrlError::Scheme)?;
        if text.len() > MAX_URL {
            return Err(wrong("it is too long"));
        }
        if text.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(wrong("it has characters that no URL has"));
        }
        if rest.contains(['?', '#']) {
            return Err(wrong("it has a query or a fragment"));
        }
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err(wrong("it names a user"));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(literal) => {
                let (host, port) = literal
                    .split_once(']')
                    .ok_or_else(|| wrong("its host is no address"))?;
                let bare = host.split("%25").next().unwrap_or(host);
                if bare.parse::<std::net::Ipv6Addr>().is_err() {
                    return Err(wrong("its host is no address"));
                }
                let port = match port {
                    "" => None,
                    port => Some(port.strip_prefix(':').ok_or_else(|| wrong("its port"))?),
                };
                (host.replace("%25", "%"), port)
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host.to_ascii_lowercase(), Some(port)),
                None => (authority.to_ascii_lowercase(), None),
            },
        };
        if host.is_empty()
            || host.len() > 255
            || (host.contains(':') && !authority.starts_with('['))
        {
            return Err(wrong("it has no host"));
        }
        let port = match port {
            None | Some("") => scheme.default_port(),
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| wrong("its port is not a number of 1 to 65535"))?,
            Some(_) => return Err(wrong("its port is not a number of 1 to 65535")),
        };
        let path = match path.strip_prefix('/') {
            None | Some("") => Vec::new(),
            Some(path) => path
                .split('/')
                .map(|segment| {
                    decode(segment).filter(|segment| {
                        !matches!(segment.as_str(), "." | "..") && segment.len() <= MAX_SEGMENT
                    })
                })
                .collect::<Option<_>>()
                .ok_or_else(|| wrong("its path cannot be read"))?,
        };
        Ok(Self {
            scheme,
            host,
            port,
            path,
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority())?;
        if self.path.is_empty() {
            return Ok(());
        }
        f.write_str(&self.path_text())
    }
}

/// Percent-decodes one segment; `None` when that is wrong, or no UTF-8.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        out.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn sent_to(text: &str, operation: Option<Operation>) -> String {
        url(text).with_operation(operation).to_string()
    }

    #[test]
    fn a_scheme_has_its_default_port() {
        for (text, port) in [
            ("coap://ca.example", 5683),
            ("coaps://ca.example", 5684),
            ("http://ca.example/", 80),
            ("https://CA.example", 443),
            ("coaps://ca.example:15684", 15684),
            ("coap://[2001:db8::1]", 5683),
            ("coap://[2001:db8::1]:1", 1),
        ] {
            let url = url(text);
            assert_eq!(url.port, port, "{text}");
            assert!(url.host == "ca.example" || url.host == "2001:db8::1");
            let bare = text.trim_end_matches('/').to_ascii_lowercase();
            assert_eq!(url.to_string(), bare);
        }
    }

    #[test]
    fn the_operation_is_named_after_the_scheme() {
        let update = Some(Operation::KeyUpdate);
        for (from, operation, to) in [
            ("coap://ca", None, "coap://ca/.well-known/cmp"),
            ("coap://ca/", update, "coap://ca/.well-known/cmp/kur"),
            ("https://ca", update, "https://ca/.well-known/cmp/keyupdate"),
            (
                "coaps://ca/.well-known/cmp",
                update,
                "coaps://ca/.well-known/cmp/kur",
            ),
            (
                "http://ca:80/.well-known/cmp/p/a%20b",
                update,
                "http://ca/.well-known/cmp/p/a%20b/keyupdate",
            ),
        ] {
            assert_eq!(sent_to(from, operation), to);
        }
    }

    #[test]
    fn a_path_that_was_chosen_stays() {
        for chosen in [
            "http://ca/pkix/",
            "http://ca/ejbca/publicweb/cmp/home",
            "coap://ca/cmp",
            "coap://ca/.well-known/cmp/p/home/ir",
        ] {
            assert_eq!(sent_to(chosen, Some(Operation::KeyUpdate)), chosen);
            assert_eq!(sent_to(chosen, None), chosen);
            assert_eq!(url(chosen).with_label("x"), None);
        }
    }

    #[test]
    fn announcements_are_below_the_ca_or_its_label() {
        for (from, to) in [
            ("coap://ca", "coap://ca/.well-known/cmp/ann"),
            (
                "coaps://ca/.well-known/cmp",
                "coaps://ca/.well-known/cmp/ann",
            ),
            (
                "coaps://ca/.well-known/cmp/p/home",
                "coaps://ca/.well-known/cmp/p/home/ann",
            ),
            (
                "coap://ca/.well-known/cmp/ann",
                "coap://ca/.well-known/cmp/ann",
            ),
            ("coap://ca/news", "coap://ca/news"),
        ] {
            assert_eq!(url(from).with_announcements().to_string(), to);
        }
    }

    #[test]
    fn a_label_goes_into_the_path() {
        for base in ["coaps://ca", "coaps://ca/.well-known/cmp"] {
            let labelled = url(base).with_label("a/b").unwrap();
            assert_eq!(labelled.to_string(), "coaps://ca/.well-known/cmp/p/a%2Fb");
            let kur = labelled.with_operation(Some(Operation::KeyUpdate));
            assert_eq!(kur.to_string(), "coaps://ca/.well-known/cmp/p/a%2Fb/kur");
        }
        assert_eq!(url("coaps://ca").with_label(""), None);
        assert_eq!(url("coaps://ca").with_label(&"x".repeat(256)), None);
    }

    #[test]
    fn what_is_no_url_of_a_cmp_server_says_why() {
        for (text, says) in [
            ("", "starts with"),
            ("ca.example", "starts with"),
            ("ldap://ca", "starts with"),
            ("coap+tcp://ca", "starts with"),
            ("coap://", "no host"),
            ("coap://:5683", "no host"),
            ("coap://user@ca", "user"),
            ("coap://ca:0", "port"),
            ("coap://ca:65536", "port"),
            ("coap://ca:+1", "port"),
            ("coap://ca:1:2", "port"),
            ("coap://[::1", "no address"),
            ("coap://[ca]", "no address"),
            ("coap://ca/a?b", "query"),
            ("coap://ca/#a", "fragment"),
            ("coap://ca/%zz", "path"),
            ("coap://ca/%ff", "path"),
            ("coap://ca/../x", "path"),
            ("coap://ca/a b", "characters"),
            ("coap://ca\r\n", "characters"),
        ] {
            let error = text.parse::<Url>().map(|url| url.to_string()).unwrap_err();
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
        let long = format!("coap://ca/{}", "x".repeat(256));
        assert!(long.parse::<Url>().is_err());
    }
}
