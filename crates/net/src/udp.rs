//! A batched UDP socket: many datagrams per system call, and no error of one datagram stops the loop.

use std::collections::{HashMap, VecDeque};
#[cfg(target_os = "linux")]
use std::io::IoSlice;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;

#[cfg(target_os = "linux")]
use nix::{
    libc,
    sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg},
};
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;

/// Receive buffer asked for; the kernel may grant less (it is forced when the process may).
const RECEIVE_BUFFER: usize = 8 << 20;
/// Receives per system call.
const BATCH: usize = 16;
/// Most bytes one coalesced receive can hold.
const SEGMENT_BUFFER: usize = 65_536;
/// Datagrams to different peers per system call.
#[cfg(target_os = "linux")]
const SEND_BATCH: usize = 64;
/// Datagrams waiting for room in the socket; beyond, the oldest are dropped.
const MAX_OUTBOX: usize = 65_536;

/// Peers whose choice among our addresses is remembered.
const MAX_LOCALS: usize = 65_536;

/// Counters of one socket, since it was bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Datagrams received.
    pub received: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams the kernel refused to send (no route, unreachable, port 0, too long). Each is dropped.
    pub send_errors: u64,
    /// Errors reported on receiving, such as an ICMP port unreachable for an earlier datagram.
    pub receive_errors: u64,
    /// Datagrams dropped because the socket took none for too long.
    pub outbox_dropped: u64,
}

/// A bound UDP socket.
pub struct UdpSocket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    buffer: Vec<u8>,
    outbox: VecDeque<(SocketAddr, Vec<u8>)>,
    /// On a socket of all our addresses: the one a peer sent to, which it expects answers from.
    locals: HashMap<SocketAddr, IpAddr>,
    stats: Stats,
}

impl UdpSocket {
    /// Binds to `addr`. An unspecified IPv6 address serves IPv4 too. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // A group that another program of this host has joined is none of ours.
        if addr.is_ipv6() {
            socket.set_multicast_all_v6(false)?;
        }
        socket.set_multicast_all_v4(false)?;
        socket.set_nonblocking(true)?;
        // More than net.core.rmem_max needs a privilege; what is granted is enough to go on.
        if force_receive_buffer(&socket).is_err() {
            socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        }
        socket.bind(&addr.into())?;
        let io = tokio::net::UdpSocket::from_std(socket.into())?;
        let state = UdpSocketState::new(UdpSockRef::from(&io))?;
        let local = io.local_addr()?;
        Ok(Self {
            io,
            state,
            local,
            buffer: vec![0; BATCH * SEGMENT_BUFFER],
            outbox: VecDeque::new(),
            locals: HashMap::new(),
            stats: Stats::default(),
        })
    }

    /// The bound address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Waits until something can be received, or, when datagrams wait to be sent, until they can be.
    ///
    /// # Errors
    /// Only when the runtime is shutting down.
    pub async fn ready(&self) -> io::Result<()> {
        let interest = if self.outbox.is_empty() {
            Interest::READABLE
        } else {
            Interest::READABLE | Interest::WRITABLE
        };
        self.io.ready(interest).await.map(drop)
    }

    /// Hears what is sent to a multicast group on this network interface (by name), or on the one that the routing table has for
    /// it. A socket of all addresses of IPv6 may hear groups of IPv4, too.
    ///
    /// # Errors
    /// When there is no such interface, or the kernel refuses.
    pub fn join(&self, group: IpAddr, interface: Option<&str>) -> io::Result<()> {
        let index = match interface {
            Some(name) => nix::net::if_::if_nametoindex(name)?,
            None => 0,
        };
        let socket = SockRef::from(&self.io);
        match group {
            IpAddr::V4(group) => {
                let interface = match index {
                    0 => InterfaceIndexOrAddress::Address(Ipv4Addr::UNSPECIFIED),
                    index => InterfaceIndexOrAddress::Index(index),
                };
                socket.join_multicast_v4_n(&group, &interface)
            }
            IpAddr::V6(group) => socket.join_multicast_v6(&group, index),
        }
    }

    /// Receives one batch without waiting; each datagram goes to `take` with its sender, IPv4 in IPv4 form. Returns how
    /// many there were; 0 when the socket is empty.
    pub fn receive(&mut self, mut take: impl FnMut(SocketAddr, &[u8])) -> usize {
        self.receive_to(|from, _, datagram| take(from, datagram))
    }

    /// The same with the address that the sender sent to, where the kernel tells.
    pub fn receive_to(&mut self, mut take: impl FnMut(SocketAddr, Option<IpAddr>, &[u8])) -> usize {
        let mut meta = [RecvMeta::default(); BATCH];
        let result = {
            let mut buffers: Vec<IoSliceMut<'_>> = self
                .buffer
                .chunks_exact_mut(SEGMENT_BUFFER)
                .map(IoSliceMut::new)
                .collect();
            let io = &self.io;
            let state = &self.state;
            let mut last = None;
            let result = io.try_io(Interest::READABLE, || {
                let filled = state.recv(UdpSockRef::from(io), &mut buffers, &mut meta)?;
                if filled < BATCH {
                    // The socket is empty: what comes now makes it ready again, so that nobody need ask it in vain.
                    last = Some(filled);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(filled)
            });
            last.map_or(result, Ok)
        };
        match result {
            Ok(filled) => {
                let mut count = 0;
                for (meta, buffer) in meta
                    .iter()
                    .zip(self.buffer.chunks_exact(SEGMENT_BUFFER))
                    .take(filled)
                {
                    let from = canonical(meta.addr);
                    let sent_to = meta.dst_ip.map(|to| to.to_canonical());
                    if let Some(to) = meta.dst_ip
                        && self.local.ip().is_unspecified()
                        && !to.to_canonical().is_multicast()
                        && self.locals.get(&from) != Some(&to)
                    {
                        if self.locals.len() >= MAX_LOCALS {
                            // Whoever speaks again is remembered again.
                            self.locals.clear();
                        }
                        self.locals.insert(from, to);
                    }
                    let bytes = &buffer[..meta.len.min(SEGMENT_BUFFER)];
                    if bytes.is_empty() {
                        count += 1;
                        take(from, sent_to, bytes);
                    }
                    for datagram in bytes.chunks(meta.stride.max(1)) {
                        count += 1;
                        take(from, sent_to, datagram);
                    }
                }
                self.stats.received += count as u64;
                count
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => {
                // Errors of earlier datagrams (ICMP) come out here; the next receive has the next datagram.
                self.stats.receive_errors += 1;
                0
            }
        }
    }

    /// Queues a datagram; [`UdpSocket::flush`] sends it.
    pub fn queue(&mut self, to: SocketAddr, datagram: Vec<u8>) {
        if self.outbox.len() >= MAX_OUTBOX {
            self.outbox.pop_front();
            self.stats.outbox_dropped += 1;
        }
        let to = if self.local.is_ipv6() { mapped(to) } else { to };
        self.outbox.push_back((to, datagram));
    }

    /// Sends what is queued, as far as the socket takes it. A datagram that the kernel refuses is dropped and counted.
    pub fn flush(&mut self) {
        while !self.outbox.is_empty() {
            match self.send_to_many() {
                Some(Ok(sent)) => {
                    self.stats.sent += sent as u64;
                    self.outbox.drain(..sent);
                }
                Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Refused is the first one, which gets its own chance and is counted.
                Some(Err(_)) | None => {
                    if !self.send_first() {
                        return;
                    }
                }
            }
        }
    }

    /// Datagrams to different peers in one call, as many as stand first in the queue; the number that left. `None`
    /// when there are fewer than two such.
    #[cfg(target_os = "linux")]
    fn send_to_many(&self) -> Option<io::Result<usize>> {
        let (many, source) = self.to_many();
        if many < 2 {
            return None;
        }
        let first = || self.outbox.iter().take(many);
        let peers: Vec<Option<SockaddrStorage>> =
            first().map(|(to, _)| Some((*to).into())).collect();
        let contents: Vec<[IoSlice<'_>; 1]> = first()
            .map(|(_, datagram)| [IoSlice::new(datagram)])
            .collect();
        let (v4, v6);
        let (space, control) = match source {
            None => (None, Vec::new()),
            Some(IpAddr::V4(ip)) => {
                v4 = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from_ne_bytes(ip.octets()),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                let space = nix::cmsg_space!(libc::in_pktinfo);
                (Some(space), vec![ControlMessage::Ipv4PacketInfo(&v4)])
            }
            Some(IpAddr::V6(ip)) => {
                v6 = libc::in6_pktinfo {
                    ipi6_ifindex: 0,
                    ipi6_addr: libc::in6_addr {
                        s6_addr: ip.octets(),
                    },
                };
                let space = nix::cmsg_space!(libc::in6_pktinfo);
                (Some(space), vec![ControlMessage::Ipv6PacketInfo(&v6)])
            }
        };
        let mut headers = MultiHeaders::preallocate(many, space);
        Some(self.io.try_io(Interest::WRITABLE, || {
            let sent = sendmmsg(
                self.io.as_raw_fd(),
                &mut headers,
                &contents,
                &peers,
                &control,
                MsgFlags::MSG_DONTWAIT,
            )?;
            Ok(sent.count())
        }))
    }

    #[cfg(not(target_os = "linux"))]
    fn send_to_many(&self) -> Option<io::Result<usize>> {
        None
    }

    /// How many of the first in the queue go to another peer than their neighbours and from the same address of ours, and
    /// that address; `None`: whichever the route has.
    #[cfg(target_os = "linux")]
    fn to_many(&self) -> (usize, Option<IpAddr>) {
        let source = |to: &SocketAddr| {
            if self.locals.is_empty() {
                return None;
            }
            self.locals.get(&canonical(*to)).copied()
        };
        let from = self.outbox.front().and_then(|(to, _)| source(to));
        let mut many = 0;
        let mut last = None;
        for (to, _) in self.outbox.iter().take(SEND_BATCH) {
            if last == Some(to) {
                // The one before begins a run to one peer, which leaves in segments.
                return (many - 1, from);
            }
            if source(to) != from {
                break;
            }
            last = Some(to);
            many += 1;
        }
        (many, from)
    }

    /// The first datagram of the queue, with those to the same peer that can leave in the same call. `false`: the socket takes
    /// nothing now.
    fn send_first(&mut self) -> bool {
        let Some((to, first)) = self.outbox.front() else {
            return false;
        };
        let to = *to;
        let segment = first.len();
        // Datagrams of one size to one peer, the last one possibly shorter, leave in one call.
        let most = self
            .state
            .max_gso_segments()
            .min(SEGMENT_BUFFER / segment.max(1))
            .max(1);
        let mut run = 1;
        if most > 1 {
            for (other, datagram) in self.outbox.iter().skip(1) {
                if run >= most || *other != to || datagram.len() > segment || datagram.is_empty() {
                    break;
                }
                run += 1;
                if datagram.len() < segment {
                    break;
                }
            }
        }
        let joined: Vec<u8>;
        let contents = if run == 1 {
            first.as_slice()
        } else {
            joined = self
                .outbox
                .iter()
                .take(run)
                .flat_map(|(_, datagram)| datagram.iter().copied())
                .collect();
            joined.as_slice()
        };
        let src_ip = self.locals.get(&canonical(to)).copied();
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents,
            segment_size: (run > 1).then_some(segment),
            src_ip,
        };
        let io = &self.io;
        let state = &self.state;
        let result = io.try_io(Interest::WRITABLE, || {
            state.try_send(UdpSockRef::from(io), &transmit)
        });
        match result {
            Ok(()) => self.stats.sent += run as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(_) if src_ip.is_some() => {
                // The address may be ours no longer: once more from whichever the route has.
                self.locals.remove(&canonical(to));
                return true;
            }
            Err(_) if run > 1 => {
                // One of them may be the reason: the rest gets its own chance.
                for (to, datagram) in self.outbox.drain(..run).collect::<Vec<_>>() {
                    if self.io.try_send_to(&datagram, to).is_ok() {
                        self.stats.sent += 1;
                    } else {
                        self.stats.send_errors += 1;
                    }
                }
                return true;
            }
            Err(_) => self.stats.send_errors += 1,
        }
        self.outbox.drain(..run);
        true
    }
}

impl std::fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UdpSocket")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

#[cfg(target_os = "linux")]
fn force_receive_buffer(socket: &Socket) -> io::Result<()> {
    rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, RECEIVE_BUFFER)?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn force_receive_buffer(_socket: &Socket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// An IPv4-mapped address as the IPv4 address it stands for.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(ip) => SocketAddr::from((ip, v6.port())),
            None => addr,
        },
        SocketAddr::V4(_) => addr,
    }
}

/// An IPv4 address in the form an IPv6 socket takes.
pub(crate) fn mapped(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        SocketAddr::V6(_) => addr,
    }
}

/// Whether a socket bound to `local` can send to `to`.
pub(crate) fn reaches(local: SocketAddr, to: SocketAddr) -> bool {
    match (local.ip(), to.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) => true,
        (IpAddr::V4(_), IpAddr::V6(_)) => false,
        (IpAddr::V6(local), IpAddr::V4(_)) => {
            local == Ipv6Addr::UNSPECIFIED || local.to_ipv4_mapped().is_some()
        }
        (IpAddr::V6(local), IpAddr::V6(_)) => local.to_ipv4_mapped().is_none(),
    }
}
