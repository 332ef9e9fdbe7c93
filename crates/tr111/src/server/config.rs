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
    /// The other address *and* port (A2, P2 of RFC 3489), both different from the ones that are listened on, in the same family; with it
    /// CHANGE-REQUEST is followed.
    pub other: Option<SocketAddr>,
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
            other: None,
            authenticate: Authenticate::default(),
            max_bindings: 4_000_000,
            max_recent: 65_536,
        }
    }
}

impl ServerConfig {
    /// The other address for requests that came to `local`.
    pub(super) fn other_of(&self, local: SocketAddr) -> Option<SocketAddr> {
        self.other
            .filter(|other| other.is_ipv4() == local.is_ipv4())
    }
}
