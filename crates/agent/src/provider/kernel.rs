//! What the kernel knows about the network, read over netlink (rtnetlink(7)).
//!
//! [`Kernel`] asks: a dump is answered while the request is being sent, so reading is a matter of
//! microseconds and needs no task. [`watch`] listens: it wakes the agent on a change of a link or an address.
//! Decoding messages into [`Link`], [`Address`] and [`Neighbour`] is pure.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage},
    link::{
        AfSpecInet6, AfSpecUnspec, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
        State, Stats64,
    },
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
};
use netlink_sys::{
    AsyncSocket, AsyncSocketExt, Socket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE,
};

use super::Wake;

/// At least as long as the longest message the kernel makes for a dump (32 KiB).
const RECEIVE_BUFFER: usize = 32 * 1024;

/// Of an event only its coming counts; what does not fit is cut off.
const EVENT_BUFFER: usize = 1024;

/// How long an answer of the kernel may take before reading is given up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Multicast groups RTMGRP_LINK, RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;

/// A netlink socket to ask with.
pub(crate) struct Kernel {
    socket: Option<Socket>,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Kernel {
    pub(crate) fn new() -> Self {
        Self {
            socket: None,
            sequence: 0,
            buffer: Vec::new(),
        }
    }

    /// Every network interface, in the order of their indexes.
    pub(crate) fn links(&mut self) -> io::Result<Vec<Link>> {
        let mut links = Vec::new();
        self.dump(
            RouteNetlinkMessage::GetLink(LinkMessage::default()),
            |message| {
                if let RouteNetlinkMessage::NewLink(message) = message {
                    links.extend(Link::decode(&message));
                }
            },
        )?;
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// Every address of every interface.
    pub(crate) fn addresses(&mut self) -> io::Result<Vec<Address>> {
        let mut addresses = Vec::new();
        self.dump(
            RouteNetlinkMessage::GetAddress(AddressMessage::default()),
            |message| {
                if let RouteNetlinkMessage::NewAddress(message) = message {
                    addresses.extend(Address::decode(&message));
                }
            },
        )?;
        Ok(addresses)
    }

    /// The neighbour tables of IPv4 and IPv6.
    pub(crate) fn neighbours(&mut self) -> io::Result<Vec<Neighbour>> {
        let mut neighbours = Vec::new();
        self.dump(
            RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
            |message| {
                if let RouteNetlinkMessage::NewNeighbour(message) = message {
                    neighbours.extend(Neighbour::decode(&message));
                }
            },
        )?;
        Ok(neighbours)
    }

    /// Sets the administrative state of a link.
    pub(crate) fn set_up(&mut self, index: u32, up: bool) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = if up {
            LinkFlags::Up
        } else {
            LinkFlags::empty()
        };
        self.order(RouteNetlinkMessage::SetLink(message))
    }

    /// Sets the MTU of a link.
    pub(crate) fn set_mtu(&mut self, index: u32, mtu: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::Mtu(mtu));
        self.order(RouteNetlinkMessage::SetLink(message))
    }

    /// A request whose whole answer is "done" or an error.
    pub(crate) fn order(&mut self, message: RouteNetlinkMessage) -> io::Result<()> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_ACK, |_| {})
    }

    fn dump(
        &mut self,
        message: RouteNetlinkMessage,
        take: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_DUMP, take)
    }

    fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        take: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        let result = self.attempt(message, flags, take);
        if result.is_err() {
            // Whatever is left in the socket belongs to the exchange that failed.
            self.socket = None;
        }
        result
    }

    fn attempt(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        mut take: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = encode(message, flags, self.sequence);
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(open()?),
        };
        socket.send(&request, 0)?;
        self.buffer.reserve(RECEIVE_BUFFER);
        loop {
            self.buffer.clear();
            socket.recv(&mut self.buffer, 0)?;
            match answers(&self.buffer, self.sequence, &mut take) {
                Progress::More => {}
                Progress::Done => return Ok(()),
                Progress::Failed(error) => return Err(error),
            }
        }
    }
}

/// Wakes the agent whenever a link or an address changes; ends when the returned guard is dropped.
pub(crate) fn watch(wake: Wake) -> io::Result<Watch> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    socket.socket_mut().bind(&SocketAddr::new(0, GROUPS))?;
    let task = tokio::spawn(async move {
        let mut buffer = Vec::with_capacity(EVENT_BUFFER);
        loop {
            buffer.clear();
            match socket.recv(&mut buffer).await {
                Ok(()) => wake.wake(),
                // Events were lost, so something did change.
                Err(error)
                    if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) =>
                {
                    wake.wake()
                }
                Err(error) => {
                    tracing::warn!(%error, "link and address changes are not heard any more");
                    return;
                }
            }
        }
    });
    Ok(Watch(task))
}

/// Keeps a [`watch`] alive.
pub(crate) struct Watch(tokio::task::JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// Frames are Ethernet's (ARPHRD_ETHER).
    pub(crate) ether: bool,
    pub(crate) loopback: bool,
    /// What a virtual interface is (`bridge`, `vlan`, …); hardware says nothing.
    pub(crate) kind: Option<String>,
    /// Administratively up.
    pub(crate) up: bool,
    /// Up, with a carrier.
    pub(crate) running: bool,
    pub(crate) state: State,
    pub(crate) mtu: u32,
    /// Hardware address in use.
    pub(crate) address: Vec<u8>,
    /// Hardware address given by the manufacturer.
    pub(crate) permanent_address: Option<Vec<u8>>,
    pub(crate) carrier_changes: u32,
    /// IPv6 is disabled on it.
    pub(crate) ipv6_disabled: Option<bool>,
    /// The interface a VLAN or the like is made on.
    pub(crate) parent: Option<u32>,
    pub(crate) stats: Stats64,
}

impl Link {
    fn decode(message: &LinkMessage) -> Option<Self> {
        let header = &message.header;
        let mut link = Self {
            index: header.index,
            name: String::new(),
            ether: header.link_layer_type == LinkLayerType::Ether,
            loopback: header.flags.contains(LinkFlags::Loopback),
            kind: None,
            up: header.flags.contains(LinkFlags::Up),
            running: header.flags.contains(LinkFlags::Running),
            state: State::Unknown,
            mtu: 0,
            address: Vec::new(),
            permanent_address: None,
            carrier_changes: 0,
            ipv6_disabled: None,
            parent: None,
            stats: Stats64::default(),
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::OperState(state) => link.state = *state,
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Address(address) => link.address.clone_from(address),
                LinkAttribute::PermAddress(address) => {
                    link.permanent_address = Some(address.clone())
                }
                LinkAttribute::Link(index) => link.parent = Some(*index),
                LinkAttribute::CarrierChanges(changes) => link.carrier_changes = *changes,
                LinkAttribute::Stats64(stats) => link.stats = *stats,
                LinkAttribute::LinkInfo(infos) => {
                    link.kind = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                }
                LinkAttribute::AfSpecUnspec(families) => {
                    link.ipv6_disabled = ipv6_disabled(families)
                }
                _ => {}
            }
        }
        (link.index != 0 && !link.name.is_empty()).then_some(link)
    }
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) index: u32,
    pub(crate) ip: IpAddr,
    pub(crate) prefix: u8,
    pub(crate) flags: AddressFlags,
    /// Seconds until the address stops being preferred; absent: never.
    pub(crate) preferred: Option<u32>,
    /// Seconds until the address stops being valid; absent: never.
    pub(crate) valid: Option<u32>,
}

impl Address {
    fn decode(message: &AddressMessage) -> Option<Self> {
        let (mut local, mut address, mut flags) = (None, None, None);
        let (mut preferred, mut valid) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                // On a point-to-point link ADDRESS is the peer's and LOCAL is ours.
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Address(ip) => address = Some(*ip),
                AddressAttribute::Flags(bits) => flags = Some(*bits),
                AddressAttribute::CacheInfo(info) => {
                    preferred = (info.ifa_preferred != u32::MAX).then_some(info.ifa_preferred);
                    valid = (info.ifa_valid != u32::MAX).then_some(info.ifa_valid);
                }
                _ => {}
            }
        }
        let header = &message.header;
        Some(Self {
            index: header.index,
            ip: local.or(address)?,
            prefix: header.prefix_len,
            flags: flags
                .unwrap_or_else(|| AddressFlags::from_bits_retain(header.flags.bits().into())),
            preferred,
            valid,
        })
    }

    /// The IPv4 subnet mask of the prefix length.
    pub(crate) fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(
            u32::MAX
                .checked_shl(32 - u32::from(self.prefix.min(32)))
                .unwrap_or(0),
        )
    }
}

/// An entry of the neighbour table: who answers for an IP address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) index: u32,
    pub(crate) ip: IpAddr,
    pub(crate) address: Vec<u8>,
    pub(crate) state: NeighbourState,
    /// Seconds since the neighbour was last known to be there.
    pub(crate) confirmed: u32,
}

impl Neighbour {
    fn decode(message: &NeighbourMessage) -> Option<Self> {
        let (mut ip, mut address, mut confirmed) = (None, None, None);
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                    ip = Some(IpAddr::V4(*v4))
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                    ip = Some(IpAddr::V6(*v6))
                }
                NeighbourAttribute::LinkLayerAddress(bytes) => address = Some(bytes.clone()),
                // In hundredths of a second, the kernel's USER_HZ.
                NeighbourAttribute::CacheInfo(info) => confirmed = Some(info.confirmed / 100),
                _ => {}
            }
        }
        Some(Self {
            index: message.header.ifindex,
            ip: ip?,
            address: address?,
            state: message.header.state,
            confirmed: confirmed.unwrap_or(u32::MAX),
        })
    }
}

enum Progress {
    More,
    Done,
    Failed(io::Error),
}

/// Takes the messages out of one datagram; answers to another request are passed over.
fn answers(datagram: &[u8], sequence: u32, take: &mut impl FnMut(RouteNetlinkMessage)) -> Progress {
    let mut rest = datagram;
    while let Ok(frame) = NetlinkBuffer::new_checked(rest) {
        let length = frame.length() as usize;
        let ours = frame.sequence_number() == sequence;
        if ours && let Some(bytes) = rest.get(..length) {
            match NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes)
                .map(|message| message.payload)
            {
                Ok(NetlinkPayload::InnerMessage(message)) => take(message),
                Ok(NetlinkPayload::Done(_)) => return Progress::Done,
                Ok(NetlinkPayload::Error(error)) if error.code.is_none() => return Progress::Done,
                Ok(NetlinkPayload::Error(error)) => return Progress::Failed(error.to_io()),
                Ok(NetlinkPayload::Overrun(_)) => {
                    return Progress::Failed(io::ErrorKind::OutOfMemory.into());
                }
                // One message of a kind not understood must not hide the others.
                Ok(_) | Err(_) => {}
            }
        }
        match rest.get(length.next_multiple_of(4)..) {
            Some(next) if length > 0 => rest = next,
            _ => break,
        }
    }
    Progress::More
}

fn encode(message: RouteNetlinkMessage, flags: u16, sequence: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket2::SockRef::from(&socket).set_read_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(socket)
}

fn ipv6_disabled(families: &[AfSpecUnspec]) -> Option<bool> {
    families.iter().find_map(|family| match family {
        AfSpecUnspec::Inet6(items) => items.iter().find_map(|item| match item {
            AfSpecInet6::DevConf(conf) => Some(conf.disable_ipv6 != 0),
            _ => None,
        }),
        _ => None,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    // Answers of Linux 6.18 in a network with a bridge, a pair of veth, a tun device and neighbours.
    const LINKS: &[u8] = include_bytes!("../../tests/data/netlink/links.bin");
    const ADDRESSES: &[u8] = include_bytes!("../../tests/data/netlink/addresses.bin");
    const NEIGHBOURS: &[u8] = include_bytes!("../../tests/data/netlink/neighbours.bin");

    /// A port that is up.
    pub(in crate::provider) fn link(name: &str) -> Link {
        Link {
            index: 2,
            name: name.into(),
            ether: true,
            loopback: false,
            kind: None,
            up: true,
            running: true,
            state: State::Up,
            mtu: 1500,
            address: vec![2, 0, 0, 0, 0, 1],
            permanent_address: None,
            carrier_changes: 0,
            ipv6_disabled: Some(false),
            parent: None,
            stats: Stats64::default(),
        }
    }

    fn decode(bytes: &[u8]) -> (Vec<Link>, Vec<Address>, Vec<Neighbour>) {
        let (mut links, mut addresses, mut neighbours) = (Vec::new(), Vec::new(), Vec::new());
        answers(bytes, 1, &mut |message| match message {
            RouteNetlinkMessage::NewLink(message) => links.extend(Link::decode(&message)),
            RouteNetlinkMessage::NewAddress(message) => addresses.extend(Address::decode(&message)),
            RouteNetlinkMessage::NewNeighbour(message) => {
                neighbours.extend(Neighbour::decode(&message))
            }
            _ => {}
        });
        (links, addresses, neighbours)
    }

    #[test]
    fn recorded_links_are_understood() {
        let (links, ..) = decode(LINKS);
        let find = |name: &str| links.iter().find(|link| link.name == name).unwrap();
        let lo = find("lo");
        assert!(lo.loopback && !lo.ether && lo.up && lo.running);
        assert_eq!((lo.state, lo.mtu, lo.index), (State::Unknown, 65_536, 1));
        let bridge = find("br-lan");
        assert_eq!(
            (bridge.kind.as_deref(), bridge.ether),
            (Some("bridge"), true)
        );
        assert_eq!(bridge.address, [2, 0, 0, 0, 0, 0x10]);
        assert_eq!(bridge.ipv6_disabled, Some(false));
        let veth = find("veth0");
        assert_eq!(
            (veth.kind.as_deref(), veth.state, veth.up),
            (Some("veth"), State::LowerLayerDown, true)
        );
        assert_eq!(veth.parent, Some(find("veth1").index));
        let tun = find("tun0");
        assert_eq!((tun.kind.as_deref(), tun.ether), (Some("tun"), false));
    }

    #[test]
    fn recorded_addresses_are_understood() {
        let (_, addresses, _) = decode(ADDRESSES);
        let find = |ip: &str| {
            addresses
                .iter()
                .find(|address| address.ip.to_string() == ip)
                .unwrap()
        };
        let fixed = find("192.0.2.1");
        assert_eq!((fixed.prefix, fixed.valid), (24, None));
        assert!(fixed.flags.contains(AddressFlags::Permanent));
        let leased = find("198.51.100.7");
        assert_eq!(
            (
                leased.prefix,
                leased.valid.unwrap() / 100,
                leased.preferred.unwrap() / 100
            ),
            (25, 36, 18)
        );
        assert!(!leased.flags.contains(AddressFlags::Permanent));
        assert_eq!(
            find("10.0.0.1").prefix,
            32,
            "our end of a point-to-point link, not the peer's"
        );
        assert!(
            find("2001:db8::99")
                .flags
                .contains(AddressFlags::Deprecated)
        );
        assert_eq!(find("::1").prefix, 128);
    }

    #[test]
    fn recorded_neighbours_are_understood() {
        let (.., neighbours) = decode(NEIGHBOURS);
        let find = |ip: &str| {
            neighbours
                .iter()
                .find(|neighbour| neighbour.ip.to_string() == ip)
                .unwrap()
        };
        assert_eq!(find("192.0.2.50").address, [2, 0, 0, 0, 0, 0x50]);
        assert_eq!(find("192.0.2.50").state, NeighbourState::Reachable);
        assert_eq!(find("192.0.2.51").state, NeighbourState::Stale);
        assert_eq!(find("2001:db8::50").state, NeighbourState::Permanent);
    }

    #[test]
    fn a_whole_dump_ends_and_half_of_it_does_not() {
        let progress = |bytes: &[u8], sequence| answers(bytes, sequence, &mut |_| {});
        assert!(matches!(progress(LINKS, 1), Progress::Done));
        assert!(matches!(
            progress(&LINKS[..LINKS.len() / 2], 1),
            Progress::More
        ));
        assert!(
            matches!(progress(LINKS, 2), Progress::More),
            "somebody else's answer"
        );
        assert!(matches!(progress(&[], 1), Progress::More));
    }

    #[test]
    fn an_error_of_the_kernel_is_one() {
        let mut bytes = vec![36, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend((-1_i32).to_ne_bytes());
        bytes.extend([16, 0, 0, 0, 18, 0, 1, 3, 1, 0, 0, 0, 0, 0, 0, 0]);
        let Progress::Failed(error) = answers(&bytes, 1, &mut |_| {}) else {
            panic!("no error")
        };
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        bytes[16..20].fill(0);
        assert!(matches!(answers(&bytes, 1, &mut |_| {}), Progress::Done));
    }

    #[test]
    fn damaged_answers_are_survived() {
        for recorded in [LINKS, ADDRESSES, NEIGHBOURS] {
            for cut in 0..recorded.len().min(600) {
                decode(&recorded[..cut]);
            }
            // Every byte of the first messages once all ones, once zero: lengths and types among them.
            for at in 0..recorded.len().min(2000) {
                for value in [0x00, 0xff, 0x01] {
                    let mut damaged = recorded.to_vec();
                    damaged[at] = value;
                    decode(&damaged);
                }
            }
        }
    }

    #[test]
    fn the_kernel_answers() {
        let mut kernel = Kernel::new();
        for _ in 0..2 {
            assert!(
                kernel
                    .links()
                    .unwrap()
                    .iter()
                    .any(|link| link.loopback && link.name == "lo")
            );
            kernel.addresses().unwrap();
            kernel.neighbours().unwrap();
        }
        assert_eq!(
            kernel
                .set_mtu(2_000_000_000, 1500)
                .unwrap_err()
                .raw_os_error(),
            Some(19),
            "no such device"
        );
        assert!(
            !kernel.links().unwrap().is_empty(),
            "an error leaves the next question alone"
        );
    }
}
