//! Publishers over DTLS 1.3: one that floods, and a thousand.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use homefleet_net::dtls::{Config, Event, Expected, Sessions, Versions};
use homefleet_notif::{Generation, Header, MediaType};

use super::RUN;
use super::pki::{self, Ca, Issued};
use super::report::Report;
use super::serve::{Server, Snapshot};

/// A publisher with an association of its own.
struct Publisher {
    socket: UdpSocket,
    sessions: Sessions,
    session: Option<homefleet_coap::SessionId>,
    cipher: &'static str,
    to: SocketAddr,
    next: u32,
}

impl Publisher {
    fn new(issued: &Issued, ca: &str, to: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let config = Config {
            mtu: 1_400,
            versions: Versions::Dtls13,
            resumption: false,
            ..Config::default()
        };
        Self {
            socket,
            sessions: Sessions::new(config, issued.credentials(), pki::verifier(ca)).unwrap(),
            session: None,
            cipher: "",
            to,
            next: 1,
        }
    }

    fn connect(&mut self) {
        let expected = Expected {
            host: "localhost".to_owned(),
            endpoint_id: None,
        };
        self.sessions
            .connect(Instant::now(), self.to, expected)
            .unwrap();
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(transmit) = self.sessions.poll_transmit() {
            while self.socket.send_to(&transmit.payload, transmit.to).is_err() {
                std::thread::yield_now();
            }
        }
    }

    /// Takes what came, and looks at the time.
    fn turn(&mut self, buffer: &mut [u8]) {
        let now = Instant::now();
        while let Ok((len, from)) = self.socket.recv_from(buffer) {
            self.sessions.handle_input(now, from, &buffer[..len]);
        }
        self.sessions.handle_timeout(now);
        while let Some(event) = self.sessions.poll_event() {
            match event {
                Event::Established {
                    session, cipher, ..
                } => {
                    self.session = Some(session);
                    self.cipher = cipher;
                }
                Event::Data { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        self.flush();
    }

    fn publish(&mut self, now: Instant, publisher: u32, payload: &[u8], out: &mut Vec<u8>) {
        let header = Header {
            generation: Generation::Draft26,
            media_type: MediaType::Json,
            publisher_id: publisher,
            message_id: self.next,
            segment: None,
        };
        self.next += 1;
        out.clear();
        header.encode(None, payload, out).unwrap();
        self.sessions.send(now, self.session.unwrap(), out).unwrap();
        self.flush();
    }
}

fn receiver() -> (tempfile::TempDir, Issued, String, Server) {
    let ca = Ca::new();
    let directory = tempfile::tempdir().unwrap();
    ca.issue("proto::receiver", false)
        .write(directory.path(), "receiver");
    std::fs::write(directory.path().join("ca.pem"), ca.root_pem()).unwrap();
    let server = Server::start(&["dtls", directory.path().to_str().unwrap()]);
    (
        directory,
        ca.issue("os::publisher", false),
        ca.root_pem(),
        server,
    )
}

/// Messages of 1,200 bytes as fast as one publisher can, and at 70 % of that.
pub(crate) fn one(report: &mut Report) {
    let (_directory, issued, ca, mut server) = receiver();
    let mut publisher = Publisher::new(&issued, &ca, server.addr);
    publisher.connect();
    let mut buffer = vec![0; 65_536];
    while publisher.session.is_none() {
        publisher.turn(&mut buffer);
    }
    report.say(publisher.cipher);
    let payload = vec![b'x'; 1_200 - 12];
    let mut out = Vec::new();
    let mut most = f64::MAX;
    for (part, name) in [
        (1.0, "DTLS 1.3, 1,200 B"),
        (0.7, "DTLS 1.3, 1,200 B at 70 % of that"),
    ] {
        let before = Snapshot::ask(&mut server);
        let start = Instant::now();
        let mut sent = 0_u64;
        while start.elapsed() < RUN {
            if sent as f64 > start.elapsed().as_secs_f64() * most * part {
                std::thread::sleep(Duration::from_micros(50));
                continue;
            }
            let now = Instant::now();
            for _ in 0..32 {
                publisher.publish(now, 1, &payload, &mut out);
            }
            sent += 32;
            publisher.turn(&mut buffer);
        }
        let seconds = start.elapsed().as_secs_f64();
        let snapshot = Snapshot::settled(&mut server) - before;
        snapshot.figures(report, name, seconds);
        let core = 1e9 * snapshot.datagrams as f64 / snapshot.thread.max(1) as f64;
        report.figure(&format!("{name}: of one core"), core, "messages/s");
        snapshot.balance(report, sent);
        most = snapshot.received as f64 / seconds;
    }
}

/// A thousand publishers at once.
pub(crate) fn many(report: &mut Report) {
    const MANY: usize = 1_000;
    let (_directory, issued, ca, mut server) = receiver();
    let empty = Snapshot::ask(&mut server);
    let mut publishers: Vec<Publisher> = (0..MANY)
        .map(|_| Publisher::new(&issued, &ca, server.addr))
        .collect();
    let mut buffer = vec![0; 65_536];
    let start = Instant::now();
    for publisher in &mut publishers {
        publisher.connect();
    }
    while publishers
        .iter()
        .any(|publisher| publisher.session.is_none())
    {
        for publisher in &mut publishers {
            publisher.turn(&mut buffer);
        }
    }
    report.figure(
        "1,000 publishers over DTLS 1.3: all connected after",
        start.elapsed().as_secs_f64(),
        "s",
    );
    let connected = Snapshot::ask(&mut server);
    report.figure(
        "1,000 publishers: associations",
        connected.sessions as f64,
        "",
    );
    let (mut out, payload) = (Vec::new(), vec![b'x'; 200 - 12]);
    let rounds = 200;
    let start = Instant::now();
    for _ in 0..rounds {
        let now = Instant::now();
        for (index, publisher) in publishers.iter_mut().enumerate() {
            publisher.publish(now, index as u32, &payload, &mut out);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let end = Snapshot::settled(&mut server);
    let snapshot = end - connected;
    snapshot.figures(report, "1,000 publishers over DTLS 1.3, 200 B", seconds);
    snapshot.balance(report, (rounds * MANY) as u64);
    let each = end.resident.saturating_sub(empty.resident) as f64 / MANY as f64 / 1e3;
    report.figure("1,000 publishers: memory each", each, "kB");
}
