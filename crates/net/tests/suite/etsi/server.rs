//! The plugtest server on a real socket.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use homefleet_coap::{Config, Endpoint, Message, Peer};

use crate::plugtest::Plugtest;
use crate::support::nodes::LOOPBACK;

/// The longest the loop sleeps, so that the test can end it.
const TICK: Duration = Duration::from_millis(20);

/// A running server; it ends with the test.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    app: Mutex<Plugtest>,
    received: Mutex<Vec<Message>>,
}

impl Server {
    pub(super) fn start(config: Config) -> Server {
        let socket = UdpSocket::bind(LOOPBACK).unwrap();
        let address = socket.local_addr().unwrap();
        let mut app = Plugtest::new();
        app.period = Some(Duration::from_millis(400));
        app.delay = Duration::from_millis(700);
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            app: Mutex::new(app),
            received: Mutex::new(Vec::new()),
        });
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || run(&socket, config, &shared)
        });
        Server {
            address,
            shared,
            thread: Some(thread),
        }
    }

    pub(super) fn uri(&self, path: &str) -> String {
        format!("coap://{}/{path}", self.address)
    }

    /// The messages that came in since the last call.
    pub(super) fn received(&self) -> Vec<Message> {
        std::mem::take(&mut self.shared.received.lock().unwrap())
    }

    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Plugtest) -> T) -> T {
        act(&mut self.shared.app.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn run(socket: &UdpSocket, config: Config, shared: &Shared) {
    let mut endpoint = Endpoint::new(config, [7; 32]);
    let mut buffer = [0; 2048];
    while !shared.stop.load(Ordering::Relaxed) {
        socket.set_read_timeout(Some(TICK)).unwrap();
        let received = socket.recv_from(&mut buffer);
        let now = Instant::now();
        if let Ok((length, from)) = received {
            let datagram = &buffer[..length];
            shared
                .received
                .lock()
                .unwrap()
                .extend(Message::decode(datagram));
            endpoint.handle_input(now, Peer::plain(from), datagram);
        }
        endpoint.handle_timeout(now);
        let mut app = shared.app.lock().unwrap();
        app.handle_timeout(now, &mut endpoint);
        while let Some(event) = endpoint.poll_event() {
            app.event(now, &mut endpoint, &event);
        }
        while let Some(transmit) = endpoint.poll_transmit() {
            // The peer may be gone.
            let _sent = socket.send_to(&transmit.payload, transmit.to.addr);
        }
    }
}
