//! Ten thousand devices at once in front of a CA that hangs, and then answers (RFC 9482 §4: resource exhaustion).

use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use homefleet_net::cmp::proxy::{Check, Proxy, Rest, Room, Route, Upstream};
use homefleet_net::cmp::{Client, ClientConfig, CoapConfig, ServerTrust};
use homefleet_net::dtls::Budget;
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::client::{config, http};
use super::world::{bind, plain};
use crate::support::nodes::LOOPBACK;
use crate::support::web::Page;

const DEVICES: u16 = 10_000;
const AT_ONCE: usize = 64;
const HELD: usize = 48 * 1024;
const MESSAGE: usize = 1000;
const LIMIT: Duration = Duration::from_secs(300);

/// A CA that gives every message back, once its gate is open.
struct Gate {
    open: watch::Sender<bool>,
    now: AtomicUsize,
    most: AtomicUsize,
    answered: AtomicUsize,
}

impl Gate {
    async fn start() -> (Arc<Self>, u16) {
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let gate = Arc::new(Self {
            open: watch::Sender::new(false),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
        });
        let shared = gate.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(shared.clone().serve(BufStream::new(stream)));
            }
        });
        (gate, port)
    }

    async fn serve(self: Arc<Self>, mut stream: BufStream<tokio::net::TcpStream>) {
        let mut open = self.open.subscribe();
        loop {
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            let mut body = vec![0; MESSAGE];
            if stream.read_exact(&mut body).await.is_err() {
                return;
            }
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            open.wait_for(|open| *open).await.unwrap();
            self.now.fetch_sub(1, Ordering::SeqCst);
            self.answered.fetch_add(1, Ordering::SeqCst);
            let Page::Bytes(answer) = http("200 OK", "application/pkixcmp", &body) else {
                return;
            };
            if stream.write_all(&answer).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        }
    }
}

/// Devices that share a socket, each with an address of its own.
struct Devices {
    socket: UdpSocket,
    state: UdpSocketState,
    to: SocketAddr,
    next: u16,
    /// The Message ID of each one's request.
    asked: Vec<u16>,
    served: Vec<bool>,
    told_to_wait: usize,
}

fn address(device: u16) -> Ipv4Addr {
    let [high, low] = device.to_be_bytes();
    Ipv4Addr::new(127, 1 + high, low, 1)
}

impl Devices {
    fn new(to: SocketAddr) -> Self {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let state = UdpSocketState::new(UdpSockRef::from(&socket)).unwrap();
        // As large as the system allows; what is lost all the same is asked for again.
        let _size = state.set_recv_buffer_size(UdpSockRef::from(&socket), 4 << 20);
        socket.set_nonblocking(true).unwrap();
        Self {
            socket,
            state,
            to,
            next: 0,
            asked: vec![0; usize::from(DEVICES)],
            served: vec![false; usize::from(DEVICES)],
            told_to_wait: 0,
        }
    }

    fn send(&self, device: u16, datagram: &[u8]) {
        let transmit = Transmit {
            destination: self.to,
            ecn: None,
            contents: datagram,
            segment_size: None,
            src_ip: Some(IpAddr::V4(address(device))),
        };
        // A full socket drops it; it is sent again.
        let _sent = self
            .state
            .try_send(UdpSockRef::from(&self.socket), &transmit);
    }

    fn message(device: u16) -> Vec<u8> {
        device.to_be_bytes().repeat(MESSAGE / 2)
    }

    /// POST /.well-known/cmp, 259, Confirmable; the token is the device.
    fn ask(&mut self, device: u16) {
        self.next = self.next.wrapping_add(1);
        self.asked[usize::from(device)] = self.next;
        let [a, b] = self.next.to_be_bytes();
        let [c, d] = device.to_be_bytes();
        let mut datagram = vec![0x42, 0x02, a, b, c, d, 0xbb];
        datagram.extend(b".well-known\x03cmp\x12\x01\x03\xff");
        datagram.extend(Self::message(device));
        self.send(device, &datagram);
    }

    /// Takes what has come; whether there was anything.
    fn take(&mut self) -> bool {
        let mut space = vec![0; 65_536];
        let mut meta = [RecvMeta::default()];
        let got = {
            let mut slices = [IoSliceMut::new(&mut space)];
            let socket = UdpSockRef::from(&self.socket);
            self.state.recv(socket, &mut slices, &mut meta)
        };
        if !matches!(got, Ok(1)) {
            return false;
        }
        for datagram in space[..meta[0].len].chunks(meta[0].stride.max(1)) {
            self.take_one(datagram);
        }
        true
    }

    fn take_one(&mut self, datagram: &[u8]) {
        let [first, code, a, b, rest @ ..] = datagram else {
            return;
        };
        let (kind, length) = (first >> 4 & 3, first & 0xf);
        // An empty acknowledgement: the answer comes later.
        if length != 2 || rest.len() < 2 {
            return;
        }
        let device = u16::from_be_bytes([rest[0], rest[1]]);
        if kind == 0 {
            self.send(device, &[0x60, 0, *a, *b]);
        }
        let place = usize::from(device);
        match code {
            0x44 => {
                assert!(rest.ends_with(&Self::message(device)));
                self.served[place] = true;
            }
            0xa3 | 0x9d => {
                self.told_to_wait += 1;
                self.asked[place] = 0;
            }
            other => panic!("code {other:#x}"),
        }
    }

    /// Everybody who waits for nothing asks; until nothing comes any more.
    fn wave(&mut self) {
        let pause = Duration::from_millis(2);
        for device in 0..DEVICES {
            let place = usize::from(device);
            if !self.served[place] && self.asked[place] == 0 {
                self.ask(device);
            }
            if device % 200 == 0 {
                std::thread::sleep(pause);
            }
            while self.take() {}
        }
        let mut quiet = 0;
        while quiet < 100 {
            std::thread::sleep(pause);
            quiet += 1;
            while self.take() {
                quiet = 0;
            }
        }
    }

    /// What was lost on the way is asked for again.
    fn forget_what_was_asked(&mut self) {
        self.asked.fill(0);
    }

    fn served(&self) -> usize {
        self.served.iter().filter(|served| **served).count()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_devices_stay_within_the_limits_and_all_are_served_in_the_end() {
    let (gate, port) = Gate::start().await;
    let upstream = Upstream {
        name: "ca".to_owned(),
        url: format!("http://127.0.0.1:{port}/cmp").parse().unwrap(),
        client: Client::new(ClientConfig {
            timeout: LIMIT,
            max_idle: AT_ONCE,
            ..config(ServerTrust::FromCmp)
        })
        .unwrap(),
        kinds: None,
        check: Check::Nothing,
        max_under_way: AT_ONCE,
        rest: Rest::default(),
    };
    let route = Route {
        label: None,
        host: None,
        upstream: 0,
    };
    let room = Room {
        bytes: HELD,
        per_client: 4096,
    };
    let proxy = Proxy::new(vec![upstream], vec![route]).unwrap();
    let proxy = Arc::new(proxy.with_room(room));
    let plenty = Budget {
        burst: 1_000_000,
        per_second: 1_000_000,
    };
    let listener = bind(
        CoapConfig {
            max_under_way: 256,
            max_under_way_per_client: 4,
            client_budget: plenty,
            budget: plenty,
            ..plain()
        },
        proxy.clone(),
    );
    let to = listener.plain_addr().unwrap();
    let (crowd, at_gate) = (proxy.clone(), gate.clone());
    let devices = tokio::task::spawn_blocking(move || {
        let mut devices = Devices::new(to);
        devices.wave();
        // The CA hangs: it has as many as there is room for, everybody else was told when to come again.
        let stats = crowd.stats().remove(0);
        let fit = HELD / MESSAGE;
        assert_eq!(stats.under_way, fit.min(AT_ONCE));
        assert_eq!(crowd.counts().held, fit * MESSAGE);
        assert!(devices.told_to_wait > usize::from(DEVICES) / 2);
        assert_eq!(devices.served(), 0);
        at_gate.open.send_replace(true);
        let end = Instant::now() + LIMIT;
        while devices.served() < usize::from(DEVICES) {
            assert!(Instant::now() < end, "{} served", devices.served());
            devices.wave();
            devices.forget_what_was_asked();
        }
        devices
    });
    let devices = devices.await.unwrap();
    assert_eq!(devices.served(), usize::from(DEVICES));
    // The limits held at every moment.
    let counts = proxy.counts();
    assert!(counts.most_held <= HELD, "{counts:?}");
    assert!(gate.most.load(Ordering::SeqCst) <= AT_ONCE);
    assert!(gate.answered.load(Ordering::SeqCst) >= usize::from(DEVICES));
    let stats = proxy.stats().remove(0);
    assert_eq!((stats.failed, stats.under_way), (0, 0));
    println!(
        "{} devices, {} times told to wait, {} bytes held at most",
        DEVICES, devices.told_to_wait, counts.most_held
    );
}

#[tokio::test]
async fn a_ca_that_takes_its_time_is_answered_for_separately() {
    let (gate, port) = Gate::start().await;
    let upstream = Upstream {
        name: "ca".to_owned(),
        url: format!("http://127.0.0.1:{port}/cmp").parse().unwrap(),
        client: Client::new(config(ServerTrust::FromCmp)).unwrap(),
        kinds: None,
        check: Check::Nothing,
        max_under_way: 1,
        rest: Rest::default(),
    };
    let route = Route {
        label: None,
        host: None,
        upstream: 0,
    };
    let proxy = Arc::new(Proxy::new(vec![upstream], vec![route]).unwrap());
    let listener = bind(plain(), proxy);
    let socket = tokio::net::UdpSocket::bind(LOOPBACK).await.unwrap();
    socket
        .connect(listener.plain_addr().unwrap())
        .await
        .unwrap();
    let mut datagram = b"\x42\x02\x12\x34\xca\xfe\xbb.well-known\x03cmp\x12\x01\x03\xff".to_vec();
    datagram.extend([7; MESSAGE]);
    socket.send(&datagram).await.unwrap();
    let mut space = [0; 2000];
    let got = socket.recv(&mut space).await.unwrap();
    // The acknowledgement, empty, as long as the CA thinks.
    assert_eq!(space[..got], *b"\x60\x00\x12\x34");
    gate.open.send_replace(true);
    let got = socket.recv(&mut space).await.unwrap();
    let [first, code, a, b, token @ ..] = &space[..got] else {
        panic!("{got} bytes");
    };
    // Confirmable, 2.04, by the token of the request.
    assert_eq!((first, code), (&0x42, &0x44));
    assert!(token.starts_with(b"\xca\xfe") && token.ends_with(&[7; MESSAGE]));
    socket.send(&[0x60, 0, *a, *b]).await.unwrap();
}
