//! Publishers without DTLS, as fast as they can or at a rate.

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use homefleet_notif::{Generation, Header, MediaType, Segments};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, sendmmsg, sendmsg};

/// Datagrams per system call.
const BATCH: usize = 64;

/// Publishers, each with a socket and a sequence of Message IDs.
pub(crate) struct Load {
    publishers: Vec<(UdpSocket, u32)>,
    /// A datagram without its numbers, and where the segment number is.
    templates: Vec<Vec<u8>>,
    /// Datagrams that leave as one, 0 for none.
    gso: usize,
    sent: u64,
}

impl Load {
    /// Messages of `len` bytes, header included.
    pub(crate) fn new(publishers: usize, len: usize, gso: usize) -> Self {
        Self::with(publishers, len - 12, 65_000, gso)
    }

    /// Messages with so many bytes of payload in segments of so many.
    pub(crate) fn segmented(publishers: usize, payload: usize, segment: usize) -> Self {
        Self::with(publishers, payload, segment, 0)
    }

    fn with(publishers: usize, payload: usize, segment: usize, gso: usize) -> Self {
        let templates = Segments::new(payload, 12, segment)
            .unwrap()
            .map(|(segment, range)| {
                let header = Header {
                    generation: Generation::Draft26,
                    media_type: MediaType::Json,
                    publisher_id: 0,
                    message_id: 0,
                    segment,
                };
                let mut out = Vec::new();
                header
                    .encode(None, &vec![b'x'; range.len()], &mut out)
                    .unwrap();
                out
            })
            .collect();
        Self {
            publishers: (0..publishers)
                .map(|_| (UdpSocket::bind("127.0.0.1:0").unwrap(), 1))
                .collect(),
            templates,
            gso,
            sent: 0,
        }
    }

    /// Messages sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends for so long, at most so many datagrams per second. How long it took.
    pub(crate) fn run(&mut self, to: SocketAddr, rate: Option<f64>, time: Duration) -> f64 {
        let SocketAddr::V4(to) = to else {
            panic!("loopback of IPv4");
        };
        let to = SockaddrIn::from(to);
        let start = Instant::now();
        let mut sent = 0_u64;
        let mut turn = 0;
        while start.elapsed() < time {
            if let Some(rate) = rate
                && sent as f64 > start.elapsed().as_secs_f64() * rate
            {
                std::thread::sleep(Duration::from_micros(50));
                continue;
            }
            let count = self.publishers.len();
            let (socket, next) = &mut self.publishers[turn % count];
            let publisher = (turn % count) as u32;
            turn += 1;
            sent += if self.gso > 0 {
                let many = numbered(&self.templates, publisher, next, self.gso).concat();
                let size = self.templates[0].len() as u16;
                let control = [ControlMessage::UdpGsoSegments(&size)];
                sendmsg(
                    socket.as_raw_fd(),
                    &[IoSlice::new(&many)],
                    &control,
                    MsgFlags::empty(),
                    Some(&to),
                )
                .unwrap();
                self.sent += self.gso as u64;
                self.gso as u64
            } else {
                let messages = BATCH / self.templates.len();
                let many = numbered(&self.templates, publisher, next, messages);
                self.sent += messages as u64;
                let slices: Vec<[IoSlice<'_>; 1]> = many
                    .iter()
                    .map(|datagram| [IoSlice::new(datagram)])
                    .collect();
                let addresses = vec![Some(to); many.len()];
                let mut headers = MultiHeaders::preallocate(many.len(), None);
                let results = sendmmsg(
                    socket.as_raw_fd(),
                    &mut headers,
                    &slices,
                    &addresses,
                    [],
                    MsgFlags::empty(),
                )
                .unwrap();
                assert_eq!(results.count(), many.len());
                many.len() as u64
            };
        }
        start.elapsed().as_secs_f64()
    }
}

/// The datagrams of the next messages.
fn numbered(
    templates: &[Vec<u8>],
    publisher: u32,
    next: &mut u32,
    messages: usize,
) -> Vec<Vec<u8>> {
    let mut many = Vec::with_capacity(messages * templates.len());
    for _ in 0..messages {
        for template in templates {
            let mut datagram = template.clone();
            datagram[4..8].copy_from_slice(&publisher.to_be_bytes());
            datagram[8..12].copy_from_slice(&next.to_be_bytes());
            many.push(datagram);
        }
        *next = next.wrapping_add(1);
    }
    many
}
