//! The groups that a node hears (RFC 7252 §8): which, on which interface, and joining them when their interface is there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::udp::UdpSocket;

/// All CoAP Nodes, IPv4 (RFC 7252 §12.8).
pub const ALL_COAP_NODES: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 1, 187));
/// All CoAP Nodes of the link, IPv6 (RFC 7252 §12.8).
pub const ALL_COAP_NODES_LINK: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfd));
/// All CoAP Nodes of the site, IPv6 (RFC 7252 §12.8).
pub const ALL_COAP_NODES_SITE: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0xfd));

/// How long until a group that could not be joined is tried again: its interface may come.
const AGAIN: Duration = Duration::from_secs(30);

/// A multicast group to hear requests of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its address.
    pub addr: IpAddr,
    /// The network interface to hear it on, such as `br-lan`; `None`: the one that the routing table has for it.
    pub interface: Option<String>,
}

impl Group {
    /// The groups of all CoAP nodes that a socket bound to `listen` can hear.
    pub fn all_coap_nodes(listen: SocketAddr, interface: Option<&str>) -> Vec<Self> {
        [ALL_COAP_NODES, ALL_COAP_NODES_LINK, ALL_COAP_NODES_SITE]
            .into_iter()
            .filter(|addr| addr.is_ipv4() || listen.is_ipv6())
            .map(|addr| Self {
                addr,
                interface: interface.map(str::to_owned),
            })
            .collect()
    }

    /// Refuses a group that a socket bound to `listen` can never hear.
    fn check(&self, listen: SocketAddr) -> io::Result<()> {
        let why = if !self.addr.is_multicast() {
            "it is no multicast address"
        } else if !listen.ip().is_unspecified() {
            "a socket of one address only hears no groups"
        } else if self.addr.is_ipv6() && listen.is_ipv4() {
            "the socket is of IPv4 only"
        } else {
            return Ok(());
        };
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the group {} cannot be heard on {listen}: {why}", self.addr),
        ))
    }
}

/// The groups of a node.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Not joined yet.
    waiting: Vec<Group>,
    joined: u64,
    due: Option<Instant>,
}

impl Groups {
    /// Joins what can be joined now.
    ///
    /// # Errors
    /// When a group can never be heard on this socket, or there is no socket.
    pub(super) fn new(groups: Vec<Group>, socket: Option<&UdpSocket>) -> io::Result<Self> {
        if groups.is_empty() {
            return Ok(Self::default());
        }
        let socket = socket.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "groups are heard without security only, and `coap` is not configured",
            )
        })?;
        for group in &groups {
            group.check(socket.local_addr())?;
        }
        let mut all = Self {
            waiting: groups,
            ..Self::default()
        };
        all.join(Instant::now(), socket, true);
        Ok(all)
    }

    /// When [`Groups::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Tries those again that could not be joined.
    pub(super) fn handle_timeout(&mut self, now: Instant, socket: Option<&UdpSocket>) {
        if let Some(socket) = socket
            && self.due.is_some_and(|due| due <= now)
        {
            self.join(now, socket, false);
        }
    }

    /// How many are joined.
    pub(super) fn joined(&self) -> u64 {
        self.joined
    }

    fn join(&mut self, now: Instant, socket: &UdpSocket, first: bool) {
        let before = self.waiting.len();
        self.waiting.retain(|group| {
            let result = socket.join(group.addr, group.interface.as_deref());
            if let Err(error) = &result
                && first
            {
                let interface = group.interface.as_deref().unwrap_or("any");
                tracing::warn!(group = %group.addr, interface, %error, "a group is not heard yet");
            }
            result.is_err()
        });
        self.joined += (before - self.waiting.len()) as u64;
        self.due = (!self.waiting.is_empty()).then(|| now + AGAIN);
    }
}
