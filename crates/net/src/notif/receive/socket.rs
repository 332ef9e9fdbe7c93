//! A socket that takes many datagrams per system call and hears from the kernel what it dropped.
//!
//! The kernel tells drops with each datagram, as the number there had been when it queued that one (SO_RXQ_OVFL). The number is cumulative,
//! has 32 bits, and counts what was queued: under GRO that is coalesced datagrams.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6,
    SockaddrLike, SockaddrStorage, recvmmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket as Socket2, Type};

use super::super::received::SocketStats;
use crate::udp::{canonical, mapped};

/// Reads per system call.
const BATCH: usize = 64;
/// Room for the longest datagram, and for all that the kernel coalesces. Not a power of two, so that the first bytes of datagrams do not all
/// fall into the same sets of the processor's caches.
const ROOM: usize = 65_536 + 320;

/// One read: a datagram, or several of one size from one sender.
pub(super) struct Read<'a> {
    /// Sender, IPv4 in IPv4 form.
    pub(super) from: SocketAddr,
    /// The address it sent to, on a socket of all our addresses.
    pub(super) to: Option<IpAddr>,
    /// Contents.
    pub(super) bytes: &'a [u8],
    /// Bytes of each datagram but the last.
    pub(super) stride: usize,
    /// Reads' worth that the kernel dropped before this one.
    pub(super) dropped: u32,
}

/// Turns the kernel's cumulative 32-bit count into what is new.
#[derive(Debug, Default)]
pub(super) struct Overflow {
    last: u32,
}

impl Overflow {
    /// What was dropped since the last count. One from before, told late because several processors queue, counts nothing.
    pub(super) fn since(&mut self, count: u32) -> u32 {
        let new = count.wrapping_sub(self.last);
        if new > u32::MAX / 2 {
            return 0;
        }
        self.last = count;
        new
    }
}

/// With whom a socket has its address (SO_REUSEPORT).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// With nobody.
    Alone,
    /// Nobody has it yet, others of this receiver will.
    First,
    /// Others of this receiver have it.
    Joins,
}

/// A bound socket.
pub(super) struct Socket {
    io: UdpSocket,
    local: SocketAddr,
    /// Ask for the address that datagrams are sent to.
    wants_destination: bool,
    buffer: Vec<u8>,
    overflow: Overflow,
    /// Reads expected, so that no more is prepared than needed.
    expected: usize,
    stats: SocketStats,
}

impl Socket {
    /// Binds.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub(super) fn bind(
        addr: SocketAddr,
        sharing: Sharing,
        secure: bool,
        receive_buffer: usize,
        gro: bool,
    ) -> io::Result<Self> {
        let socket = Socket2::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_port(sharing == Sharing::Joins)?;
        socket.set_nonblocking(true)?;
        // More than net.core.rmem_max needs a privilege; what is granted is enough to go on, and is told.
        if setsockopt(&socket, sockopt::RcvBufForce, &receive_buffer).is_err() {
            socket.set_recv_buffer_size(receive_buffer)?;
        }
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        // An old kernel without it only costs time.
        let _coalesced = gro && setsockopt(&socket, sockopt::UdpGroSegment, &true).is_ok();
        socket.bind(&addr.into())?;
        // Only now: else another receiver of this user could have the same port, one that the kernel picks included, and half of what comes.
        socket.set_reuse_port(sharing != Sharing::Alone)?;
        let granted = socket.recv_buffer_size()?;
        let io = UdpSocket::from(socket);
        let local = io.local_addr()?;
        let wants_destination = secure && local.ip().is_unspecified();
        if wants_destination {
            setsockopt(&io, sockopt::Ipv4PacketInfo, &true)?;
            if local.is_ipv6() {
                setsockopt(&io, sockopt::Ipv6RecvPacketInfo, &true)?;
            }
        }
        Ok(Self {
            io,
            local,
            wants_destination,
            buffer: vec![0; BATCH * ROOM],
            overflow: Overflow::default(),
            expected: 1,
            stats: SocketStats::new(local, secure, granted),
        })
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn stats(&self) -> SocketStats {
        self.stats
    }

    /// Takes one batch without waiting. `true`: there may be more.
    pub(super) fn receive(&mut self, take: impl FnMut(Read<'_>)) -> bool {
        let result = if self.local.is_ipv6() {
            self.receive_as::<SockaddrIn6>(
                |from| SocketAddr::from(std::net::SocketAddrV6::from(from)),
                take,
            )
        } else {
            self.receive_as::<SockaddrIn>(
                |from| SocketAddr::from(std::net::SocketAddrV4::from(from)),
                take,
            )
        };
        match result {
            Ok(more) => more,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(_) => {
                // Errors of earlier datagrams (ICMP) come out here; the next read has the next datagram.
                self.stats.receive_errors += 1;
                true
            }
        }
    }

    fn receive_as<S: SockaddrLike + Copy>(
        &mut self,
        address: impl Fn(S) -> SocketAddr,
        mut take: impl FnMut(Read<'_>),
    ) -> io::Result<bool> {
        let wanted = self.expected;
        let space = if self.wants_destination {
            nix::cmsg_space!(u32, libc::c_int, libc::in6_pktinfo)
        } else {
            nix::cmsg_space!(u32, libc::c_int)
        };
        // The kernel shortens what is prepared for control messages, so that it serves one call.
        let mut headers = MultiHeaders::<S>::preallocate(wanted, Some(space));
        let mut slices: Vec<[IoSliceMut<'_>; 1]> = self
            .buffer
            .chunks_exact_mut(ROOM)
            .take(wanted)
            .map(|room| [IoSliceMut::new(room)])
            .collect();
        let results = recvmmsg(
            self.io.as_raw_fd(),
            &mut headers,
            slices.iter_mut(),
            MsgFlags::MSG_DONTWAIT,
            None,
        )?;
        let mut filled = 0;
        for read in results {
            filled += 1;
            let (mut stride, mut dropped, mut to) = (read.bytes, 0, None);
            for message in read.cmsgs()? {
                match message {
                    ControlMessageOwned::RxqOvfl(count) => dropped = self.overflow.since(count),
                    ControlMessageOwned::UdpGroSegments(size) => {
                        stride = usize::try_from(size).unwrap_or(stride);
                    }
                    ControlMessageOwned::Ipv4PacketInfo(info) => {
                        to = Some(IpAddr::from(info.ipi_addr.s_addr.to_ne_bytes()));
                    }
                    ControlMessageOwned::Ipv6PacketInfo(info) => {
                        to = Some(IpAddr::from(info.ipi6_addr.s6_addr).to_canonical());
                    }
                    _ => {}
                }
            }
            self.stats.reads += 1;
            self.stats.kernel_drops += u64::from(dropped);
            self.stats.bytes += read.bytes as u64;
            let Some(from) = read.address else {
                continue;
            };
            if read.flags.contains(MsgFlags::MSG_TRUNC) {
                self.stats.truncated += 1;
                continue;
            }
            let bytes = read.iovs().next().unwrap_or_default();
            let stride = stride.max(1);
            self.stats.datagrams += bytes.len().div_ceil(stride).max(1) as u64;
            take(Read {
                from: canonical(address(from)),
                to,
                bytes,
                stride,
                dropped,
            });
        }
        self.expected = (filled * 2).clamp(4, BATCH);
        Ok(filled == wanted)
    }

    /// Sends a datagram, from this address of ours if one is given; one that the kernel does not take is dropped and counted.
    pub(super) fn send(&mut self, to: SocketAddr, from: Option<IpAddr>, datagram: &[u8]) {
        let to = if self.local.is_ipv6() { mapped(to) } else { to };
        let contents = [IoSlice::new(datagram)];
        let (v4, v6);
        let control = match (from, self.local.is_ipv6()) {
            (None, _) => Vec::new(),
            (Some(IpAddr::V4(ip)), false) => {
                v4 = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from_ne_bytes(ip.octets()),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                vec![ControlMessage::Ipv4PacketInfo(&v4)]
            }
            (Some(ip), _) => {
                let ip = match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                v6 = libc::in6_pktinfo {
                    ipi6_ifindex: 0,
                    ipi6_addr: libc::in6_addr {
                        s6_addr: ip.octets(),
                    },
                };
                vec![ControlMessage::Ipv6PacketInfo(&v6)]
            }
        };
        let sent = sendmsg(
            self.io.as_raw_fd(),
            &contents,
            &control,
            MsgFlags::MSG_DONTWAIT,
            Some(&SockaddrStorage::from(to)),
        );
        if sent.is_err() {
            self.stats.send_errors += 1;
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflow_counts_on_over_the_wrap() {
        let mut overflow = Overflow::default();
        assert_eq!(overflow.since(0), 0);
        assert_eq!(overflow.since(5), 5);
        assert_eq!(overflow.since(5), 0);
        assert_eq!(overflow.since(1 << 31), (1 << 31) - 5);
        assert_eq!(overflow.since(u32::MAX - 1), (1 << 31) - 2);
        assert_eq!(overflow.since(3), 5);
    }

    #[test]
    fn count_from_before_counts_nothing() {
        let mut overflow = Overflow::default();
        assert_eq!(overflow.since(100), 100);
        assert_eq!(overflow.since(90), 0);
        assert_eq!(overflow.since(101), 1);
    }
}
