//! DHCP on the LAN interface, both ways, heard on a packet socket (packet(7)).

use std::{
    io,
    net::UdpSocket as Plain,
    os::fd::{AsRawFd as _, OwnedFd},
    time::Instant,
};

use nix::{
    ifaddrs::getifaddrs,
    libc,
    sys::socket::{LinkAddr, bind, recvfrom},
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

use super::{AGAIN, Shared};
use crate::association::{
    exchange::{Direction, Exchanges},
    message,
};

/// Every protocol: only so the kernel shows what this machine sends.
const ETH_P_ALL: u16 = 0x0003;
const ETH_P_IP: u16 = 0x0800;
/// Type of a packet that this machine sends (packet(7), PACKET_OUTGOING).
const OUTGOING: u8 = 4;
/// Longest packet that is read; DHCP messages are far shorter.
const BUFFER: usize = 4096;

/// Hears DHCP on `interface` for ever; while that is not there, it is looked for again.
pub(super) async fn listen(interface: String, shared: Shared) {
    let mut exchanges = Exchanges::default();
    let mut said = false;
    loop {
        let result = match open(&interface) {
            Ok((socket, index)) => {
                tracing::info!(interface, "DHCP is listened to");
                said = false;
                hear(&socket, index, &mut exchanges, &shared).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result
            && !std::mem::replace(&mut said, true)
        {
            tracing::warn!(interface, %error, counters = ?exchanges.counters, "DHCP is not listened to");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// A packet socket, and the index of the interface. tokio knows no packet sockets: as that of UDP it is only waited for.
fn open(interface: &str) -> io::Result<(UdpSocket, usize)> {
    let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))?;
    socket.attach_filter(&filter())?;
    socket.set_nonblocking(true)?;
    let mut addresses = getifaddrs()?.filter(|found| found.interface_name == interface);
    let link = addresses.find_map(|found| found.address?.as_link_addr().copied());
    let link = link.ok_or_else(|| io::Error::other("there is no such interface"))?;
    bind(socket.as_raw_fd(), &link)?;
    let socket = UdpSocket::from_std(Plain::from(OwnedFd::from(socket)))?;
    Ok((socket, link.ifindex()))
}

async fn hear(
    socket: &UdpSocket,
    index: usize,
    exchanges: &mut Exchanges,
    shared: &Shared,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let received = socket.async_io(Interest::READABLE, || {
            recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer).map_err(Into::into)
        });
        let (length, Some(from)) = received.await? else {
            continue;
        };
        // Before the socket was bound it heard the others too.
        if from.ifindex() != index || from.protocol() != ETH_P_IP.to_be() {
            continue;
        }
        let direction = if from.pkttype() == OUTGOING {
            Direction::Out
        } else {
            Direction::In
        };
        let payload = buffer.get(..length).and_then(message::payload);
        let now = Instant::now();
        if let Some(event) = payload.and_then(|payload| exchanges.handle(now, direction, payload)) {
            tracing::debug!(?event, "DHCP was heard");
            shared.handle(now, event);
        }
    }
}

/// Lets through unfragmented IPv4 UDP to the ports 67 and 68, from the network header on.
fn filter() -> [SockFilter; 13] {
    let (drop, code) = (12, |operation: u32| {
        u16::try_from(operation).unwrap_or_default()
    });
    let load_byte = code(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS);
    let load_half = code(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS);
    let equal = code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
    let jump = |at: u8, code: u16, value: u32, hit: u8, miss: u8| {
        SockFilter::new(code, hit - at - 1, miss - at - 1, value)
    };
    [
        SockFilter::new(load_byte, 0, 0, 0),
        SockFilter::new(
            code(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K),
            0,
            0,
            0xf0,
        ),
        jump(2, equal, 0x40, 3, drop),
        SockFilter::new(load_byte, 0, 0, 9),
        jump(4, equal, 17, 5, drop),
        SockFilter::new(load_half, 0, 0, 6),
        jump(
            6,
            code(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K),
            0x3fff,
            drop,
            7,
        ),
        // The length of the header.
        SockFilter::new(code(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH), 0, 0, 0),
        SockFilter::new(code(libc::BPF_LD | libc::BPF_H | libc::BPF_IND), 0, 0, 2),
        jump(9, equal, u32::from(message::SERVER), 11, 10),
        jump(10, equal, u32::from(message::CLIENT), 11, drop),
        SockFilter::new(code(libc::BPF_RET | libc::BPF_K), 0, 0, u32::MAX),
        SockFilter::new(code(libc::BPF_RET | libc::BPF_K), 0, 0, 0),
    ]
}
