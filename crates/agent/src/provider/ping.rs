//! ICMP and ICMPv6 echo (RFC 792, RFC 4443 §4) over sockets.
//!
//! A datagram socket needs no privilege where `net.ipv4.ping_group_range` allows it: the kernel then chooses the
//! identifier and hands over only our own answers. Otherwise a raw socket is tried, which needs CAP_NET_RAW and
//! would hear every ICMP message of the machine: a packet filter in the kernel lets only our own answers through.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep_until, timeout_at},
};

/// Time from one request to the next, when the answer comes sooner.
const INTERVAL: Duration = Duration::from_millis(100);

/// ICMP header of an echo: type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;

/// Answers that are not ours are passed over this often per request, on a raw socket.
const MAX_FOREIGN: usize = 10_000;

/// Added to the process's number to make the next identifier.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// A ping to be made.
#[derive(Clone, Debug)]
pub(super) struct Ping {
    pub(super) target: IpAddr,
    /// Only through this network interface.
    pub(super) device: Option<String>,
    pub(super) repetitions: u32,
    pub(super) timeout: Duration,
    /// Bytes of data after the header.
    pub(super) size: u16,
    pub(super) dscp: u8,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) target: IpAddr,
    /// Response times of the answered requests.
    pub(super) times: Vec<Duration>,
    pub(super) failures: u32,
}

/// Why it could not be made.
#[derive(Debug)]
pub(super) enum Failure {
    CannotResolve,
    NoRoute,
    /// No socket.
    Internal(io::Error),
    /// Not this way, for example a data block that does not fit into a packet.
    Other(io::Error),
}

impl Ping {
    /// Sends one request after the other. Requests that get no answer in time are counted, as are those that
    /// the network reports as undeliverable.
    pub(super) async fn run(self) -> Result<Report, Failure> {
        let echo = Echo::open(&self)?;
        let mut report = Report {
            target: self.target,
            times: Vec::new(),
            failures: 0,
        };
        let mut buffer = vec![0; 65_536];
        for sequence in 0..self.repetitions {
            let number = (sequence & 0xffff) as u16;
            let started = Instant::now();
            match echo.send(number, self.size).await {
                Ok(()) => {}
                Err(error) if is_no_route(&error) && report.times.is_empty() => {
                    return Err(Failure::NoRoute);
                }
                Err(error)
                    if error.kind() == io::ErrorKind::InvalidInput || is_too_long(&error) =>
                {
                    return Err(Failure::Other(error));
                }
                Err(_) => {
                    report.failures += 1;
                    sleep_until(started + INTERVAL).await;
                    continue;
                }
            }
            match timeout_at(started + self.timeout, echo.receive(number, &mut buffer)).await {
                Ok(Ok(())) => report.times.push(started.elapsed()),
                Ok(Err(_)) | Err(_) => report.failures += 1,
            }
            if sequence + 1 < self.repetitions {
                sleep_until(started + INTERVAL).await;
            }
        }
        Ok(report)
    }
}

/// Whether this process may ping at all.
pub(super) fn is_possible(ipv6: bool) -> bool {
    Echo::socket(ipv6).is_ok()
}

/// A socket connected to the target.
struct Echo {
    socket: UdpSocket,
    ipv6: bool,
    /// A raw socket: answers come with their IP header (IPv4), and anybody's.
    raw: bool,
    identifier: u16,
}

impl Echo {
    fn open(ping: &Ping) -> Result<Self, Failure> {
        let ipv6 = ping.target.is_ipv6();
        let (socket, raw) = Self::socket(ipv6).map_err(Failure::Internal)?;
        if let Some(device) = &ping.device {
            socket
                .bind_device(Some(device.as_bytes()))
                .map_err(Failure::Internal)?;
        }
        let class = u32::from(ping.dscp) << 2;
        let marked = if ipv6 {
            socket.set_tclass_v6(class)
        } else {
            socket.set_tos_v4(class)
        };
        marked.map_err(Failure::Internal)?;
        socket.set_nonblocking(true).map_err(Failure::Internal)?;
        socket
            .connect(&SocketAddr::new(ping.target, 0).into())
            .map_err(|error| {
                if is_no_route(&error) {
                    Failure::NoRoute
                } else {
                    Failure::Other(error)
                }
            })?;
        // To tell our answers from those to others; on a datagram socket the kernel puts its own.
        let identifier =
            (std::process::id() as u16).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        if raw {
            socket
                .attach_filter(&filter(ipv6, identifier))
                .map_err(Failure::Internal)?;
        }
        let socket = UdpSocket::from_std(socket.into()).map_err(Failure::Internal)?;
        Ok(Self {
            socket,
            ipv6,
            raw,
            identifier,
        })
    }

    /// A datagram socket, else a raw one.
    fn socket(ipv6: bool) -> io::Result<(Socket, bool)> {
        let (domain, protocol) = if ipv6 {
            (Domain::IPV6, Protocol::ICMPV6)
        } else {
            (Domain::IPV4, Protocol::ICMPV4)
        };
        if let Ok(socket) = Socket::new(domain, Type::DGRAM, Some(protocol)) {
            return Ok((socket, false));
        }
        Ok((Socket::new(domain, Type::RAW, Some(protocol))?, true))
    }

    async fn send(&self, sequence: u16, size: u16) -> io::Result<()> {
        self.socket
            .send(&request(self.ipv6, self.identifier, sequence, size))
            .await
            .map(|_| ())
    }

    /// Waits for the answer to `sequence`.
    async fn receive(&self, sequence: u16, buffer: &mut [u8]) -> io::Result<()> {
        for _ in 0..MAX_FOREIGN {
            let length = self.socket.recv(buffer).await?;
            let packet = buffer.get(..length).unwrap_or_default();
            let packet = if self.raw && !self.ipv6 {
                payload_v4(packet)
            } else {
                Some(packet)
            };
            let identifier = self.raw.then_some(self.identifier);
            if packet.is_some_and(|packet| is_reply(packet, self.ipv6, identifier, sequence)) {
                return Ok(());
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// An echo request with `size` bytes of data. The kernel fills in the checksum of ICMPv6.
fn request(ipv6: bool, identifier: u16, sequence: u16, size: u16) -> Vec<u8> {
    let mut packet = vec![if ipv6 { 128 } else { 8 }, 0, 0, 0];
    packet.extend(identifier.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend((0..size).map(|at| (at & 0xff) as u8));
    if !ipv6 {
        let sum = checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&sum);
    }
    packet
}

/// Whether this is the echo reply to `sequence` (and to `identifier`, when we chose it).
fn is_reply(packet: &[u8], ipv6: bool, identifier: Option<u16>, sequence: u16) -> bool {
    let Some(&[kind, code, _, _, i1, i2, s1, s2]) = packet.get(..HEADER) else {
        return false;
    };
    let expected = if ipv6 { 129 } else { 0 };
    (kind, code) == (expected, 0)
        && identifier.is_none_or(|identifier| u16::from_be_bytes([i1, i2]) == identifier)
        && u16::from_be_bytes([s1, s2]) == sequence
}

/// A classic BPF program that lets only echo replies to `identifier` through. Raw sockets see IPv4 packets from
/// the IP header on, and ICMPv6 messages from their own header on.
fn filter(ipv6: bool, identifier: u16) -> [SockFilter; 7] {
    // X = length of the IPv4 header (ldx 4*([0]&0xf)), or 0 (ldx #0).
    let header = if ipv6 {
        SockFilter::new(0x01, 0, 0, 0)
    } else {
        SockFilter::new(0xb1, 0, 0, 0)
    };
    let reply = if ipv6 { 129 } else { 0 };
    [
        header,
        SockFilter::new(0x50, 0, 0, 0),     // ldb [x + 0]: type
        SockFilter::new(0x15, 0, 3, reply), // jne: drop
        SockFilter::new(0x48, 0, 0, 4),     // ldh [x + 4]: identifier
        SockFilter::new(0x15, 0, 1, identifier.into()), // jne: drop
        SockFilter::new(0x06, 0, 0, u32::MAX), // ret: the whole packet
        SockFilter::new(0x06, 0, 0, 0),     // ret: nothing
    ]
}

/// What follows the IPv4 header.
fn payload_v4(packet: &[u8]) -> Option<&[u8]> {
    let words = packet.first().filter(|first| *first >> 4 == 4)? & 0x0f;
    packet.get(usize::from(words) * 4..)
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn is_no_route(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable
    )
}

/// EMSGSIZE.
fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_checksum_of_rfc_1071() {
        let packet = request(false, 0x1234, 7, 3);
        assert_eq!(packet.len(), 11);
        assert_eq!(packet[..2], [8, 0]);
        assert_eq!(packet[4..], [0x12, 0x34, 0, 7, 0, 1, 2]);
        assert_eq!(checksum(&packet), 0, "a correct packet sums up to nothing");
    }

    #[test]
    fn only_the_answer_to_the_request_counts() {
        let reply = |kind, code, identifier: u16, sequence: u16| {
            let ([i1, i2], [s1, s2]) = (identifier.to_be_bytes(), sequence.to_be_bytes());
            [kind, code, 0, 0, i1, i2, s1, s2]
        };
        assert!(is_reply(&reply(0, 0, 5, 9), false, Some(5), 9));
        assert!(is_reply(&reply(0, 0, 77, 9), false, None, 9));
        assert!(!is_reply(&reply(0, 0, 6, 9), false, Some(5), 9));
        assert!(!is_reply(&reply(0, 0, 5, 8), false, Some(5), 9));
        assert!(
            !is_reply(&reply(8, 0, 5, 9), false, Some(5), 9),
            "the request itself"
        );
        assert!(!is_reply(&reply(3, 1, 5, 9), false, None, 9));
        assert!(is_reply(&reply(129, 0, 5, 9), true, None, 9));
        assert!(!is_reply(&[0, 0, 0], false, None, 0));
    }

    #[test]
    fn the_ipv4_header_is_passed_over_whatever_its_length_says() {
        let mut packet = [0; 28];
        packet[0] = 0x45;
        packet[20] = 9;
        assert_eq!(payload_v4(&packet).and_then(|rest| rest.first()), Some(&9));
        packet[0] = 0x4f;
        assert_eq!(payload_v4(&packet), None);
        assert_eq!(payload_v4(&[0x60]), None);
        assert_eq!(payload_v4(&[]), None);
    }
}
