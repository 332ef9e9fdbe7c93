//! The device behind address translation (TR-111 Part 2): what of it needs neither the engine nor a socket.
//!
//! ```text
//! STUN server ◀─ UDP ─▶ net::stun::Device ◀─ Action::Stun, DeviceEvent ─▶ engine::stun ─▶ tree: UDPConnectionRequestAddress, NATDetected
//!                                                                            └─ woken ─▶ engine::cwmp: "6 CONNECTION REQUEST"
//! ```

use std::net::SocketAddr;

use crate::transport::Secret;

pub mod schema;

pub use schema::OBJECTS;

/// `STUNServerPort` unless somebody says otherwise.
pub const PORT: u16 = 3478;

/// What the configuration file says: where the device listens, and what it has from its factory.
#[derive(Clone, Debug, Default)]
pub struct StunConfig {
    /// Where UDP Connection Requests are listened for; absent: nowhere.
    pub listen: Option<SocketAddr>,
    /// `STUNEnable`, before an ACS says otherwise.
    pub enable: bool,
    /// `STUNServerAddress`; empty for the ACS's host.
    pub server: String,
    /// `STUNServerPort`.
    pub port: Option<u16>,
    /// `STUNUsername`.
    pub username: String,
    /// `STUNPassword`.
    pub password: Option<Secret>,
    /// `STUNMinimumKeepAlivePeriod`, seconds.
    pub minimum: Option<u32>,
    /// `STUNMaximumKeepAlivePeriod`, seconds.
    pub maximum: Option<u32>,
}

/// The host of a URL, without the brackets of an IPv6 address; `None` when it has none.
pub(crate) fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let place = authority.rsplit_once('@').map_or(authority, |(_, at)| at);
    let host = match place.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => place.split(':').next()?,
    };
    (!host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn the_host_of_the_acs_is_found_in_its_url() {
        for (url, wanted) in [
            ("http://acs.example.net/acs", Some("acs.example.net")),
            ("https://acs.example.net:7547", Some("acs.example.net")),
            ("http://user:pass@192.0.2.1:80/x?y", Some("192.0.2.1")),
            ("http://[2001:db8::1]:7547/x", Some("2001:db8::1")),
            ("http:///x", None),
            ("http://:80/", None),
            ("acs.example.net", None),
            ("", None),
        ] {
            assert_eq!(host(url), wanted, "{url}");
        }
    }
}
