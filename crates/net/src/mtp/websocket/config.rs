//! What the binding is told: bounds, sessions to keep open, addresses to listen at.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use homefleet_usp::EndpointId;
use homefleet_usp::mtp::retry::RetryPolicy;
use homefleet_usp::mtp::websocket::Config;
use tokio::sync::mpsc;

use crate::mtp::{Event, Greeter};
use crate::tls::Tls;

/// How this Endpoint speaks WebSocket.
#[derive(Clone)]
pub struct WebSocketMtpConfig {
    /// Our Endpoint ID.
    pub endpoint_id: EndpointId,
    /// Where what happens is told. When it is full, sessions are not read until there is room.
    pub events: mpsc::Sender<Event>,
    /// What is sent first over a new session (R-MTP.6).
    pub greeter: Arc<dyn Greeter>,
    /// Our certificate, and who decides about peers (R-WS.22); `None` when all sessions are without.
    pub tls: Option<Tls>,
    /// Whether sessions without TLS are opened and accepted (R-MTP.0): nobody proves who they are there.
    pub allow_plain: bool,
    /// Bounds of a session.
    pub session: Config,
    /// Bounds of all of them.
    pub limits: Limits,
}

/// Bounds of all sessions together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Sessions held at once; beyond, newcomers are answered 503. Default 100,000.
    pub max_sessions: usize,
    /// Connections that have not come to a session yet; at the bound the oldest is dropped. Default 1024.
    pub max_half_open: usize,
    /// Those of them from one address prefix; at the bound its oldest is dropped. Default 64.
    pub max_half_open_per_prefix: usize,
    /// Connections of any kind from one address prefix; beyond, newcomers are turned away. Default 10,000, as many devices may
    /// share an address.
    pub max_per_prefix: usize,
    /// Leading bits of an IPv4 address that make its prefix, 0 to 32. Default 24.
    pub ipv4_prefix: u8,
    /// Leading bits of an IPv6 address that make its prefix, 0 to 128. Default 56, what one subscriber is given.
    pub ipv6_prefix: u8,
    /// The longest request of an opening handshake, its line and headers, in bytes. Default 16,384.
    pub max_head: usize,
    /// How long the opening handshake may take, after TLS, which has limits of its own. Default 20 s.
    pub handshake: Duration,
    /// How long a peer may read nothing of what waits for it. Default 60 s.
    pub stalled: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_sessions: 100_000,
            max_half_open: 1024,
            max_half_open_per_prefix: 64,
            max_per_prefix: 10_000,
            ipv4_prefix: 24,
            ipv6_prefix: 56,
            max_head: 16_384,
            handshake: Duration::from_secs(20),
            stalled: Duration::from_secs(60),
        }
    }
}

/// A session that we open, and open again whenever it ends (R-WS.5, R-WS.19).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocketConnection {
    /// Name or address literal of the server, IPv6 with or without brackets.
    pub host: String,
    /// Its port: 443 with TLS and 80 without, unless its resource is elsewhere.
    pub port: u16,
    /// Path of its resource (R-WS.2), such as `/usp`.
    pub path: String,
    /// TLS.
    pub secure: bool,
    /// Who has to be there; with TLS its certificate has to be that Endpoint's. `None`: whom the response or the certificate
    /// names, and when they name nobody, the session is up with the server's first Record only.
    pub endpoint_id: Option<EndpointId>,
    /// How often a Ping is sent (R-WS.18); `None` for never.
    pub keep_alive: Option<Duration>,
    /// When it is tried again (R-WS.19).
    pub retry: RetryPolicy,
}

impl WebSocketConnection {
    /// With a Ping every 60 seconds and the waits of the table in R-WS.19, the defaults of the data model.
    pub fn new(host: &str, port: u16, path: &str, secure: bool) -> Self {
        Self {
            host: host.to_owned(),
            port,
            path: path.to_owned(),
            secure,
            endpoint_id: None,
            keep_alive: Some(Duration::from_secs(60)),
            retry: RetryPolicy::websocket(5, 2000),
        }
    }

    /// Whether a session that was opened by `self` is as `other` wants it.
    pub(super) fn leads_where(&self, other: &Self) -> bool {
        let place = |c: &Self| (c.host.clone(), c.port, c.path.clone(), c.secure);
        place(self) == place(other) && self.endpoint_id == other.endpoint_id
    }

    /// The host without the brackets of an IPv6 literal.
    pub(super) fn bare_host(&self) -> &str {
        self.host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(&self.host)
    }

    /// Host and port as in a URI.
    pub(super) fn authority(&self) -> String {
        let host = self.bare_host();
        if host.contains(':') {
            format!("[{host}]:{}", self.port)
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

/// Where sessions are accepted (R-WS.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocketListener {
    /// The address; port 0 for any.
    pub address: SocketAddr,
    /// Path of our resource (R-WS.2), such as `/usp`.
    pub path: String,
    /// TLS, with the client's certificate demanded (R-MTP.1, R-WS.22).
    pub secure: bool,
}
