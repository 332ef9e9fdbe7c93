//! A table of associations on a real loopback socket, in real time, for peers that are programs.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use homefleet_net::dtls::{Config, Event, Sessions, Verifier};

use super::pki::Issued;

pub(crate) struct Live {
    pub(crate) socket: UdpSocket,
    pub(crate) sessions: Sessions,
    pub(crate) events: Vec<Event>,
    /// Sends back what comes in.
    pub(crate) echo: bool,
}

/// A port that was free a moment ago, for UDP and for TCP.
pub(crate) fn free_port() -> u16 {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = udp.local_addr().unwrap();
        if TcpListener::bind(addr).is_ok() {
            return addr.port();
        }
    }
}

impl Live {
    pub(crate) fn new(config: Config, issued: &Issued, verifier: Arc<dyn Verifier>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(10)))
            .unwrap();
        Self {
            socket,
            sessions: Sessions::new(config, issued.credentials(), verifier).unwrap(),
            events: Vec::new(),
            echo: false,
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    pub(crate) fn flush(&mut self) {
        loop {
            let mut moved = false;
            while let Some(event) = self.sessions.poll_event() {
                moved = true;
                if let (
                    Event::Data {
                        session, payload, ..
                    },
                    true,
                ) = (&event, self.echo)
                {
                    self.sessions
                        .send(Instant::now(), *session, payload)
                        .unwrap();
                }
                self.events.push(event);
            }
            while let Some(transmit) = self.sessions.poll_transmit() {
                moved = true;
                self.socket.send_to(&transmit.payload, transmit.to).unwrap();
            }
            if !moved {
                return;
            }
        }
    }

    /// Runs until `done` or the limit; says whether it was done.
    pub(crate) fn run(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = Instant::now() + limit;
        let mut buffer = vec![0; 65_536];
        while Instant::now() < end {
            self.flush();
            if done(self) {
                self.flush();
                return true;
            }
            if let Ok((len, from)) = self.socket.recv_from(&mut buffer) {
                self.sessions
                    .handle_input(Instant::now(), from, &buffer[..len]);
            }
            if self
                .sessions
                .poll_timeout()
                .is_some_and(|due| due <= Instant::now())
            {
                self.sessions.handle_timeout(Instant::now());
            }
        }
        false
    }

    pub(crate) fn has(&self, test: impl Fn(&Event) -> bool) -> bool {
        self.events.iter().any(test)
    }

    pub(crate) fn data(&self) -> Vec<u8> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Data { payload, .. } => Some(payload.clone()),
                _ => None,
            })
            .flatten()
            .collect()
    }

    pub(crate) fn is_established(&self) -> bool {
        self.has(|event| matches!(event, Event::Established { .. }))
    }
}
