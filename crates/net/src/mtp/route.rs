//! Where Records go, and the text that stores keep of it.

use std::fmt;
use std::str::FromStr;

use homefleet_coap::Uri;

/// The way to an Endpoint. Its text is what stores keep, and what logs show.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Route {
    /// CoAP: the URI of the Endpoint's resource. `coaps://host:port/path`, or `coap:` without security.
    Coap(Uri),
    /// WebSocket: the one session that the Endpoint and we have (R-WS.8), whoever opened it. `wss:`, or `ws:` without
    /// security.
    WebSocket {
        /// TLS.
        secure: bool,
    },
    /// STOMP: a destination at the broker of one of our connections. `stomp:NAME/destination`, percent-encoded.
    Stomp {
        /// The connection's name in our configuration.
        connection: String,
        /// The destination, such as `/queue/agents.1`.
        destination: String,
    },
    /// MQTT: a topic at the broker of one of our clients. `mqtt:NAME/topic`, percent-encoded.
    Mqtt {
        /// The client's name in our configuration.
        connection: String,
        /// The topic name.
        topic: String,
    },
    /// UNIX domain socket: the session that the Endpoint and we have, whoever opened it. `uds:`.
    Uds,
}

/// A text that is no [`Route`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no way to an Endpoint: it begins with none of coaps: coap: wss: ws: stomp: mqtt: uds:, or does not go on as that does"
)]
pub struct RouteError(String);

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coap(uri) => uri.fmt(f),
            Self::WebSocket { secure: true } => f.write_str("wss:"),
            Self::WebSocket { secure: false } => f.write_str("ws:"),
            Self::Stomp {
                connection,
                destination,
            } => write!(f, "stomp:{}/{}", escaped(connection), escaped(destination)),
            Self::Mqtt { connection, topic } => {
                write!(f, "mqtt:{}/{}", escaped(connection), escaped(topic))
            }
            Self::Uds => f.write_str("uds:"),
        }
    }
}

impl FromStr for Route {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        let wrong = || RouteError(text.to_owned());
        let (scheme, rest) = text.split_once(':').ok_or_else(wrong)?;
        let named = || {
            let (name, rest) = rest.split_once('/').ok_or_else(wrong)?;
            let (name, rest) = (unescaped(name), unescaped(rest));
            name.zip(rest)
                .filter(|(name, rest)| !name.is_empty() && !rest.is_empty())
                .ok_or_else(wrong)
        };
        match (scheme, rest) {
            ("coap" | "coaps", _) => text.parse().map(Self::Coap).map_err(|_| wrong()),
            ("wss", "") => Ok(Self::WebSocket { secure: true }),
            ("ws", "") => Ok(Self::WebSocket { secure: false }),
            ("uds", "") => Ok(Self::Uds),
            ("stomp", _) => named().map(|(connection, destination)| Self::Stomp {
                connection,
                destination,
            }),
            ("mqtt", _) => named().map(|(connection, topic)| Self::Mqtt { connection, topic }),
            _ => Err(wrong()),
        }
    }
}

/// Everything but RFC 3986's unreserved characters percent-encoded.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn unescaped(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_route_is_read_back_as_the_same_route() {
        for text in [
            // The port of the scheme is not said.
            "coaps://[2001:db8::1]/usp",
            "coap://192.0.2.1:5699/a/b",
            "wss:",
            "ws:",
            "uds:",
            "stomp:main/%2Fqueue%2Fa%25b",
            "mqtt:Device.MQTT.Client.1/a%2Fb%20c",
        ] {
            let route: Route = text.parse().expect(text);
            assert_eq!(route.to_string(), text);
        }
        let route: Route = "stomp:main/%2Fqueue%2Fa%25b".parse().expect("a route");
        assert_eq!(
            route,
            Route::Stomp {
                connection: "main".to_owned(),
                destination: "/queue/a%b".to_owned()
            }
        );
    }

    #[test]
    fn what_is_no_route_is_refused() {
        for text in [
            "",
            "wss",
            "wss:x",
            "http://a/",
            "stomp:",
            "stomp:a",
            "stomp:/a",
            "mqtt:a/",
            "mqtt:a/%F",
            "mqtt:a/%ff",
            "coaps:",
        ] {
            assert!(text.parse::<Route>().is_err(), "{text}");
        }
    }
}
