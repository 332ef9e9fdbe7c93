//! Devices that send Binding Requests as fast as they are answered.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use homefleet_tr111::stun::{Attribute, Builder, Method, Padding, TransactionId};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};

pub(crate) const USERNAME: &[u8] = b"00d09e-a-device-0001";
pub(crate) const PASSWORD: &[u8] = b"a strong password";

/// Sockets, each a device.
const SOCKETS: usize = 16;
/// Requests of a device under way.
const WINDOW: usize = 32;
/// What is not answered by then is lost.
const PATIENCE: Duration = Duration::from_millis(50);

/// What devices send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What keeps a binding alive.
    Keep,
    /// What tells that it changed, with MESSAGE-INTEGRITY.
    Change,
    /// The same of somebody who does not know the password.
    Forged,
}

/// What became of the requests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
}

pub(crate) struct Load {
    to: SockaddrIn,
    kind: Kind,
    sockets: Vec<UdpSocket>,
    next: u64,
}

impl Load {
    pub(crate) fn new(to: SocketAddr, kind: Kind) -> Self {
        let SocketAddr::V4(to) = to else {
            panic!("loopback of IPv4");
        };
        let socket = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        Self {
            to: to.into(),
            kind,
            sockets: (0..SOCKETS).map(|_| socket()).collect(),
            next: 0,
        }
    }

    /// Whether the server answers at all in this time.
    pub(crate) fn answered_within(&mut self, limit: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < limit {
            if self.run(Duration::from_millis(50)).answered > 0 {
                return true;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        false
    }

    /// Sends windows of requests from every socket, and takes the answers.
    pub(crate) fn run(&mut self, time: Duration) -> Counts {
        let mut counts = Counts::default();
        let start = Instant::now();
        while start.elapsed() < time {
            for at in 0..SOCKETS {
                let requests: Vec<Vec<u8>> = (0..WINDOW).map(|_| self.request()).collect();
                counts.sent += send(&self.sockets[at], &self.to, &requests);
            }
            let wanted = counts.sent;
            let round = Instant::now();
            while counts.answered < wanted && round.elapsed() < PATIENCE {
                let before = counts.answered;
                for socket in &self.sockets {
                    counts.answered += receive(socket);
                }
                if counts.answered == before {
                    std::thread::yield_now();
                }
            }
        }
        counts
    }

    fn request(&mut self) -> Vec<u8> {
        self.next += 1;
        let mut id = [0; 16];
        id[8..].copy_from_slice(&self.next.to_be_bytes());
        let builder = Builder::new(Method::BindingRequest, TransactionId(id))
            .attribute(Attribute::Username(USERNAME))
            .attribute(Attribute::ConnectionRequestBinding);
        match self.kind {
            Kind::Keep => builder.build(),
            Kind::Change => builder
                .attribute(Attribute::BindingChange)
                .protect(PASSWORD, Padding::Block),
            Kind::Forged => builder
                .attribute(Attribute::BindingChange)
                .protect(b"something else", Padding::Block),
        }
    }
}

fn send(socket: &UdpSocket, to: &SockaddrIn, requests: &[Vec<u8>]) -> u64 {
    let slices: Vec<_> = requests
        .iter()
        .map(|octets| [IoSlice::new(octets)])
        .collect();
    let addresses = vec![Some(*to); requests.len()];
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(requests.len(), None);
    let sent = sendmmsg(
        socket.as_raw_fd(),
        &mut headers,
        &slices,
        &addresses,
        [],
        MsgFlags::empty(),
    );
    sent.map_or(0, |sent| sent.count() as u64)
}

fn receive(socket: &UdpSocket) -> u64 {
    let mut buffers = vec![[0_u8; 512]; WINDOW];
    let mut slices: Vec<_> = buffers
        .iter_mut()
        .map(|buffer| [IoSliceMut::new(buffer)])
        .collect();
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(WINDOW, None);
    let received = recvmmsg(
        socket.as_raw_fd(),
        &mut headers,
        slices.iter_mut(),
        MsgFlags::MSG_DONTWAIT,
        None,
    );
    received.map_or(0, |received| received.count() as u64)
}
