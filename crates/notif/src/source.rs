//! Who sends.

use std::net::SocketAddr;

/// Where messages come from: an address and port, and with DTLS the association, so that nothing of an earlier one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    /// Address and port.
    pub addr: SocketAddr,
    /// The DTLS association; 0 without DTLS.
    pub session: u64,
}

impl Source {
    /// A source without DTLS.
    pub fn plain(addr: SocketAddr) -> Self {
        Self { addr, session: 0 }
    }
}
