//! The publisher's socket: connected, never fragmented, marked, many datagrams per system call.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg, sendmsg,
};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;

/// Most datagrams of one system call: what every kernel with UDP_SEGMENT takes.
pub(super) const BATCH: usize = 64;
/// Most bytes of one datagram, and of all of one call with UDP_SEGMENT.
const MOST: usize = 65_507;
/// Send buffer asked for, so that a burst of a large message finds room.
const SEND_BUFFER: usize = 1 << 20;
/// Headers of IPv4 and UDP.
const OVERHEAD_V4: usize = 28;
/// Headers of IPv6 and UDP.
const OVERHEAD_V6: usize = 48;

/// Why the first datagram of those left did not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The socket takes nothing now.
    Full,
    /// It, or one before it, is longer than the path takes.
    TooLong,
    /// Nobody listens at the receiver's port: an earlier datagram was answered so. Nothing was sent by this call.
    NobodyThere,
    /// The system refuses it.
    Other(Errno),
}

/// A connected UDP socket.
#[derive(Debug)]
pub(super) struct SendSocket {
    io: tokio::net::UdpSocket,
    remote: SocketAddr,
    /// Datagrams of one size leave in one call (UDP_SEGMENT); some devices cannot.
    segments: bool,
}

impl SendSocket {
    /// A socket to `remote`. Without a local port the kernel takes a random one (-26 §3.1).
    ///
    /// # Errors
    /// When the local address cannot be bound or there is no route.
    pub(super) fn connect(
        remote: SocketAddr,
        local: (Option<IpAddr>, Option<u16>),
        dscp: u8,
    ) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(remote),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        socket.set_nonblocking(true)?;
        // Less is enough to go on.
        socket.set_send_buffer_size(SEND_BUFFER).unwrap_or_default();
        let traffic_class = dscp.min(63) << 2;
        if remote.is_ipv4() {
            sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO)?;
            sockopt::set_ip_tos(&socket, traffic_class)?;
        } else {
            sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DO)?;
            sockopt::set_ipv6_tclass(&socket, traffic_class.into())?;
        }
        if local != (None, None) {
            let any = match remote {
                SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            let local = SocketAddr::new(local.0.unwrap_or(any), local.1.unwrap_or(0));
            socket.bind(&local.into())?;
        }
        socket.connect(&remote.into())?;
        Ok(Self {
            io: tokio::net::UdpSocket::from_std(socket.into())?,
            remote,
            segments: true,
        })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    pub(super) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Bytes of a UDP payload that the path takes, as the kernel knows it now.
    pub(super) fn path_room(&self) -> usize {
        let (mtu, overhead) = match self.remote {
            SocketAddr::V4(_) => (sockopt::ip_mtu(&self.io), OVERHEAD_V4),
            SocketAddr::V6(_) => (sockopt::ipv6_mtu(&self.io), OVERHEAD_V6),
        };
        let mtu = mtu.map_or(1280, |mtu| usize::try_from(mtu).unwrap_or(MOST));
        mtu.saturating_sub(overhead).min(MOST)
    }

    /// Sends as many of `datagrams` as go, in order; the number that left, and why not all.
    pub(super) fn send(&mut self, datagrams: &[Vec<u8>]) -> (usize, Option<Refusal>) {
        let mut sent = 0;
        while let Some(left) = datagrams.get(sent..).filter(|left| !left.is_empty()) {
            match self.send_some(left) {
                Ok(some) => sent += some,
                Err(refusal) => return (sent, Some(refusal)),
            }
        }
        (sent, None)
    }

    /// One call: a run of one size in segments, or any.
    fn send_some(&mut self, datagrams: &[Vec<u8>]) -> Result<usize, Refusal> {
        let run = if self.segments { run(datagrams) } else { 1 };
        if run > 1 {
            match self.send_run(&datagrams[..run]) {
                Ok(()) => return Ok(run),
                Err(Errno::EAGAIN) => return Err(Refusal::Full),
                Err(Errno::ECONNREFUSED) => return Err(Refusal::NobodyThere),
                Err(error) => {
                    // The kernel says EINVAL both for segments longer than the path takes and for devices that cannot do
                    // it; one by one tells which it is.
                    let sent = self.send_many(&datagrams[..run])?;
                    if matches!(error, Errno::EIO | Errno::EINVAL | Errno::EOPNOTSUPP) {
                        tracing::info!(%error, "datagrams leave one by one from now on: the device takes no segments");
                        self.segments = false;
                    }
                    return Ok(sent);
                }
            }
        }
        self.send_many(datagrams)
    }

    fn send_run(&self, run: &[Vec<u8>]) -> Result<(), Errno> {
        let size = u16::try_from(run[0].len()).map_err(|_| Errno::EMSGSIZE)?;
        let parts: Vec<IoSlice<'_>> = run.iter().map(|part| IoSlice::new(part)).collect();
        self.call(|fd| {
            let control = [ControlMessage::UdpGsoSegments(&size)];
            sendmsg::<()>(fd, &parts, &control, MsgFlags::MSG_DONTWAIT, None).map(drop)
        })
    }

    fn send_many(&self, datagrams: &[Vec<u8>]) -> Result<usize, Refusal> {
        let parts: Vec<[IoSlice<'_>; 1]> = datagrams
            .iter()
            .take(BATCH)
            .map(|datagram| [IoSlice::new(datagram)])
            .collect();
        let to: Vec<Option<SockaddrStorage>> = vec![None; parts.len()];
        let mut headers = MultiHeaders::preallocate(parts.len(), None);
        let sent = self.call(|fd| {
            let flags = MsgFlags::MSG_DONTWAIT;
            let sent = sendmmsg(fd, &mut headers, &parts, &to, [], flags)?;
            Ok(sent.count())
        });
        sent.map_err(|error| match error {
            Errno::EAGAIN => Refusal::Full,
            Errno::EMSGSIZE => Refusal::TooLong,
            Errno::ECONNREFUSED => Refusal::NobodyThere,
            other => Refusal::Other(other),
        })
    }

    /// A call of the kernel that waits for nothing; tokio learns when it would have had to.
    fn call<T>(&self, mut call: impl FnMut(i32) -> Result<T, Errno>) -> Result<T, Errno> {
        let fd = self.io.as_raw_fd();
        let result = self
            .io
            .try_io(Interest::WRITABLE, || call(fd).map_err(io::Error::from));
        result.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Errno::EAGAIN,
            _ => error.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
        })
    }

    /// Waits until the socket takes something.
    pub(super) async fn writable(&self) {
        // Fails only when the runtime ends, and everything with it.
        self.io.writable().await.unwrap_or_default();
    }

    /// The next datagram of the receiver, or an error that an earlier datagram of ours met.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.recv(buffer).await
    }
}

/// How many of the first have one size, the last of them possibly less, and fit one call.
fn run(datagrams: &[Vec<u8>]) -> usize {
    let size = datagrams[0].len();
    let most = BATCH.min(MOST / size.max(1));
    let mut run = 1;
    for datagram in datagrams.iter().take(most).skip(1) {
        if datagram.len() > size || datagram.is_empty() {
            break;
        }
        run += 1;
        if datagram.len() < size {
            break;
        }
    }
    run
}
