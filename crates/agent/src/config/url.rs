//! Where a Controller is, as one text: the form of `controller.url`.

use std::{fmt, str::FromStr};

use homefleet_coap::{Scheme, Uri};

/// Where a Controller is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControllerUrl {
    /// `coaps://host[:port]/path`, `coap://…`.
    Coap(Uri),
    /// `wss://host[:port]/path`, `ws://…`.
    WebSocket(Place),
    /// `stomps://host[:port]/destination`, `stomp://…`: behind a broker; the destination with its slash.
    Stomp(Place),
    /// `mqtts://host[:port]/topic`, `mqtt://…`: behind a broker; the topic without the slash.
    Mqtt(Place),
    /// `uds:/path`: a UNIX domain socket on this device, at which the Controller listens.
    Uds(String),
}

/// A host, and what is asked for there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// TLS.
    pub secure: bool,
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path, destination or topic.
    pub path: String,
}

/// A text that is no [`ControllerUrl`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// None of the schemes there are.
    #[error(
        "`{0}` begins with none of coaps:// wss:// stomps:// mqtts:// uds:/ (or, unprotected, coap:// ws:// stomp:// mqtt://)"
    )]
    Scheme(String),
    /// CoAP has its own rules.
    #[error("`{0}` is no CoAP URI")]
    Coap(String),
    /// A password would be seen by whoever sees the URL.
    #[error("the URL holds a user: write it as controller.username and controller.password")]
    User,
    /// No host, or a port that is none.
    #[error("`{0}` is not host or host:port, with an IPv6 address in brackets")]
    Authority(String),
    /// A broker has many.
    #[error(
        "`{0}` does not say which {1} of the broker the controller listens at: write it as the path"
    )]
    NoPath(String, &'static str),
}

impl ControllerUrl {
    /// Protected on the way, or within this device (R-MTP.0).
    pub fn is_protected(&self) -> bool {
        match self {
            Self::Coap(uri) => uri.scheme == Scheme::Coaps,
            Self::WebSocket(place) | Self::Stomp(place) | Self::Mqtt(place) => place.secure,
            Self::Uds(_) => true,
        }
    }

    /// The name of the MTP in the data model.
    pub fn protocol(&self) -> &'static str {
        match self {
            Self::Coap(_) => "CoAP",
            Self::WebSocket(_) => "WebSocket",
            Self::Stomp(_) => "STOMP",
            Self::Mqtt(_) => "MQTT",
            Self::Uds(_) => "UDS",
        }
    }

    /// There is a broker in between.
    pub fn is_brokered(&self) -> bool {
        matches!(self, Self::Stomp(_) | Self::Mqtt(_))
    }
}

impl FromStr for ControllerUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let unknown = || UrlError::Scheme(text.to_owned());
        let (scheme, rest) = text.split_once(':').ok_or_else(unknown)?;
        if scheme == "uds" {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            return if path.starts_with('/') {
                Ok(Self::Uds(path.to_owned()))
            } else {
                Err(unknown())
            };
        }
        let (plain, secure) = match scheme {
            "coap" | "coaps" => {
                let uri = text.parse().map_err(|_| UrlError::Coap(text.to_owned()))?;
                return Ok(Self::Coap(uri));
            }
            "ws" | "wss" => (80, 443),
            "stomp" | "stomps" => (61_613, 61_614),
            "mqtt" | "mqtts" => (1883, 8883),
            _ => return Err(unknown()),
        };
        let is_secure = scheme.ends_with('s') && scheme != "ws";
        let rest = rest.strip_prefix("//").ok_or_else(unknown)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(UrlError::User);
        }
        let (host, port) =
            split(authority).ok_or_else(|| UrlError::Authority(authority.to_owned()))?;
        let mut place = Place {
            secure: is_secure,
            host,
            port: port.unwrap_or(if is_secure { secure } else { plain }),
            path: path.to_owned(),
        };
        match scheme {
            "ws" | "wss" => {
                if place.path.is_empty() {
                    place.path = "/".to_owned();
                }
                Ok(Self::WebSocket(place))
            }
            "stomp" | "stomps" if path.len() > 1 => Ok(Self::Stomp(place)),
            "stomp" | "stomps" => Err(UrlError::NoPath(text.to_owned(), "destination")),
            _ if path.len() > 1 => {
                place.path.remove(0);
                Ok(Self::Mqtt(place))
            }
            _ => Err(UrlError::NoPath(text.to_owned(), "topic")),
        }
    }
}

impl fmt::Display for ControllerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut place = |scheme: &str, place: &Place, slash: &str| {
            let s = if place.secure { "s" } else { "" };
            let (open, close) = if place.host.contains(':') {
                ("[", "]")
            } else {
                ("", "")
            };
            let Place {
                host, port, path, ..
            } = place;
            write!(f, "{scheme}{s}://{open}{host}{close}:{port}{slash}{path}")
        };
        match self {
            Self::WebSocket(at) => place("ws", at, ""),
            Self::Stomp(at) => place("stomp", at, ""),
            Self::Mqtt(at) => place("mqtt", at, "/"),
            Self::Coap(uri) => uri.fmt(f),
            Self::Uds(path) => write!(f, "uds:{path}"),
        }
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split(authority: &str) -> Option<(String, Option<u16>)> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        return match rest.strip_prefix(':') {
            Some(text) => Some((host.to_owned(), Some(port(text)?))),
            None => rest.is_empty().then(|| (host.to_owned(), None)),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, text)) => (host, Some(port(text)?)),
        None => (authority, None),
    };
    let fits = |c: char| c.is_alphanumeric() || "-._".contains(c);
    (!host.is_empty() && host.chars().all(fits)).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_is_read_with_its_default_port() {
        for (text, shown) in [
            ("wss://c.example/usp", "wss://c.example:443/usp"),
            ("ws://[::1]:8080", "ws://[::1]:8080/"),
            ("stomps://b/queue/c", "stomps://b:61614/queue/c"),
            ("stomp://b:1/queue/c", "stomp://b:1/queue/c"),
            ("mqtts://b/usp/c", "mqtts://b:8883/usp/c"),
            ("mqtt://b/usp/c", "mqtt://b:1883/usp/c"),
            ("uds:/run/usp.sock", "uds:/run/usp.sock"),
            ("coaps://c:5684/usp", "coaps://c/usp"),
        ] {
            let url: ControllerUrl = text.parse().expect(text);
            if text.starts_with("coap") {
                continue;
            }
            assert_eq!(url.to_string(), shown);
            assert_eq!(shown.parse(), Ok(url), "{shown}");
        }
        let Ok(ControllerUrl::Stomp(place)) = "stomps://b/queue/c".parse() else {
            panic!()
        };
        assert_eq!(place.path, "/queue/c");
        let Ok(ControllerUrl::Mqtt(place)) = "mqtts://b/usp/c".parse() else {
            panic!()
        };
        assert_eq!((place.path.as_str(), place.secure), ("usp/c", true));
        let Ok(ControllerUrl::WebSocket(place)) = "ws://c/".parse() else {
            panic!()
        };
        assert!(!place.secure);
    }

    #[test]
    fn what_is_no_url_is_refused_with_its_reason() {
        for (text, what) in [
            ("http://c/", "begins with none"),
            ("wss:c", "begins with none"),
            ("uds:run", "begins with none"),
            ("wss://user@c/", "controller.username"),
            ("wss:///usp", "not host"),
            ("wss://c:0/", "not host"),
            ("wss://c:x/", "not host"),
            ("wss://::1/", "not host"),
            ("stomps://b", "which destination"),
            ("stomps://b/", "which destination"),
            ("mqtts://b/", "which topic"),
            ("coaps://", "no CoAP URI"),
        ] {
            let error = text.parse::<ControllerUrl>().expect_err(text).to_string();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
