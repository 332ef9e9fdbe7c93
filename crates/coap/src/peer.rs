//! Who a message comes from or goes to.

use std::fmt;
use std::net::SocketAddr;

/// The DTLS association a message came in on; requests and responses are matched within it
/// (RFC 7252 §9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A CoAP endpoint at the other side: address, port and security association (RFC 7252 §4.4, §9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// Address and port.
    pub addr: SocketAddr,
    /// The DTLS association; `None` without security (RFC 7252 §9, NoSec).
    pub session: Option<SessionId>,
}

impl Peer {
    /// A peer without security.
    pub const fn plain(addr: SocketAddr) -> Peer {
        Peer {
            addr,
            session: None,
        }
    }

    /// A peer behind a DTLS association.
    pub const fn secure(addr: SocketAddr, session: SessionId) -> Peer {
        Peer {
            addr,
            session: Some(session),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.session {
            Some(session) => write!(f, "{} (session {session})", self.addr),
            None => write!(f, "{}", self.addr),
        }
    }
}
