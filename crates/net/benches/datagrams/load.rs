//! The load generator: many clients, each with a socket of its own and one request under way at most (NSTART 1).

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Payload of a request in bytes.
pub(crate) const BODY: usize = 300;
/// When a request is repeated (ACK_TIMEOUT of RFC 7252 §4.8).
const REPEAT: Duration = Duration::from_secs(2);
/// Steps between looks at the clock.
const STRIDE: u32 = 256;

/// POST, as USP sends it; libcoap's dynamic resources take PUT.
#[derive(Clone, Copy)]
pub(crate) enum Method {
    Post = 2,
    Put = 3,
}

/// A way to the server.
pub(crate) trait Channel {
    fn send(&mut self, message: &[u8]);
    fn receive(&mut self, buffer: &mut [u8]) -> Option<usize>;
}

/// Without security.
pub(crate) struct Plain(UdpSocket);

impl Plain {
    pub(crate) fn connect(to: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(to).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(socket)
    }
}

impl Channel for Plain {
    fn send(&mut self, message: &[u8]) {
        // A refused send shows as silence, and is repeated.
        let _sent = self.0.send(message);
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        self.0.recv(buffer).ok()
    }
}

/// A CON request to `/x` with Content-Format 42 and a Uri-Query, as USP sends them.
pub(crate) fn request(method: Method, id: u16) -> Vec<u8> {
    let mut bytes = vec![0x42, method as u8];
    bytes.extend(id.to_be_bytes());
    bytes.extend(id.to_be_bytes());
    bytes.extend([0xb1, b'x', 0x11, 42]);
    let query = b"reply-to=coap://192.0.2.1:5683/usp";
    bytes.extend([0x3d, (query.len() - 13) as u8]);
    bytes.extend(query);
    bytes.push(0xff);
    bytes.extend([b'p'; BODY]);
    bytes
}

struct Client<C> {
    channel: C,
    request: Vec<u8>,
    id: u16,
    sent: Instant,
}

/// What came of a load.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    pub(crate) answered: u64,
    /// Requests sent again after two seconds without an answer.
    pub(crate) repeated: u64,
    pub(crate) elapsed: Duration,
}

/// The clients of one server.
pub(crate) struct Load<C> {
    clients: Vec<Client<C>>,
    /// Clients without a request under way, the longest at rest first.
    resting: VecDeque<usize>,
    waiting: VecDeque<usize>,
    under_way: usize,
}

impl<C: Channel> Load<C> {
    /// `under_way` requests at most, over all clients.
    pub(crate) fn new(channels: Vec<C>, method: Method, under_way: usize) -> Self {
        let clients: Vec<Client<C>> = channels
            .into_iter()
            .enumerate()
            .map(|(n, channel)| {
                let id = (n * 600) as u16;
                Client {
                    channel,
                    request: request(method, id),
                    id,
                    sent: Instant::now(),
                }
            })
            .collect();
        Self {
            resting: (0..clients.len()).collect(),
            waiting: VecDeque::new(),
            clients,
            under_way,
        }
    }

    /// Keeps requests under way for a time.
    pub(crate) fn run(&mut self, time: Duration) -> Outcome {
        let mut outcome = Outcome::default();
        let mut buffer = [0; 2048];
        let start = Instant::now();
        let mut now = start;
        let mut quiet = 0;
        let mut step = 0_u32;
        loop {
            step = step.wrapping_add(1);
            if step.is_multiple_of(STRIDE) {
                now = Instant::now();
                if now - start >= time {
                    break;
                }
            }
            while self.waiting.len() < self.under_way
                && let Some(index) = self.resting.pop_front()
            {
                let client = &mut self.clients[index];
                client.channel.send(&client.request);
                client.sent = now;
                self.waiting.push_back(index);
            }
            let Some(index) = self.waiting.pop_front() else {
                break;
            };
            let client = &mut self.clients[index];
            match client.channel.receive(&mut buffer) {
                Some(len) if answers(&buffer[..len], client.id) => {
                    quiet = 0;
                    outcome.answered += 1;
                    client.id = client.id.wrapping_add(1);
                    client.request[2..4].copy_from_slice(&client.id.to_be_bytes());
                    client.request[4..6].copy_from_slice(&client.id.to_be_bytes());
                    self.resting.push_back(index);
                }
                Some(_) => self.waiting.push_front(index),
                None => {
                    if now - client.sent > REPEAT {
                        outcome.repeated += 1;
                        client.channel.send(&client.request);
                        client.sent = now;
                    }
                    self.waiting.push_back(index);
                    quiet += 1;
                    if quiet > self.waiting.len() {
                        quiet = 0;
                        std::thread::yield_now();
                    }
                }
            }
        }
        outcome.elapsed = start.elapsed();
        outcome
    }
}

/// An ACK with a 2.xx response to this message.
fn answers(message: &[u8], id: u16) -> bool {
    matches!(message, [0x62, code, high, low, ..]
        if code >> 5 == 2 && [*high, *low] == id.to_be_bytes())
}
