//! What an operator decides about the server.

use std::net::SocketAddr;

/// Which Binding Requests must prove who sent them (TR-111 Part 2 §2.2.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Authenticate {
    /// None: bindings are learned by notifications of UDPConnectionRequestAddress.
    Nothing,
    /// Those that say that a binding has changed.
    #[default]
    Changes,
    /// All that say on which binding a device listens: each refresh is a proof, at the price of a second exchange.
    Listening,
}

impl Authenticate {
    pub(super) fn asks(self, listening: bool, changed: bool) -> bool {
        match self {
            Self::Nothing => false,
            Self::Changes => listening && changed,
            Self::Listening => listening,
        }
    }
}

/// Who has which password.
pub trait Credentials {
    /// The STUNPassword that belongs to a STUNUsername.
    fn password(&self, username: &[u8]) -> Option<&[u8]>;
}

impl<F> Credentials for F
where
    F: Fn(&[u8]) -> Option<&'static [u8]>,
{
    fn password(&self, username: &[u8]) -> Option<&[u8]> {
        self(username)
    }
}

/// The server's other address and bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// The server's two addresses with their ports (A1, P1 and A2, P2 of RFC 3489), of one family and different in both; with them
    /// CHANGE-REQUEST is followed.
    pub pair: Option<(SocketAddr, SocketAddr)>,
    /// Which requests must prove who sent them.
    pub authenticate: Authenticate,
    /// Most bindings that are held; beyond it new devices are answered and not recorded.
    pub max_bindings: usize,
    /// Transaction IDs that are remembered, so that each is taken once; the oldest go first.
    pub max_recent: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            pair: None,
            authenticate: Authenticate::default(),
            max_bindings: 4_000_000,
            max_recent: 65_536,
        }
    }
}

impl ServerConfig {
    /// The other address and port for requests that came to `local`.
    pub(super) fn other_of(&self, local: SocketAddr) -> Option<SocketAddr> {
        let (first, second) = self.pair?;
        let at_first = (local.ip() == first.ip(), local.port() == first.port());
        let at_second = (local.ip() == second.ip(), local.port() == second.port());
        // Somewhere else, which is not one of the four.
        if !(at_first.0 || at_second.0) || !(at_first.1 || at_second.1) {
            return None;
        }
        let ip = if at_first.0 { second.ip() } else { first.ip() };
        let port = if at_first.1 {
            second.port()
        } else {
            first.port()
        };
        Some(SocketAddr::new(ip, port))
    }
}
