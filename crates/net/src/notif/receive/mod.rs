//! The receiver: threads that own sockets, and the handle to them.

mod drops;
mod outbox;
mod socket;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use homefleet_notif::{Collector, CollectorConfig};
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::mpsc;

use self::outbox::Outbox;
use self::socket::{Sharing, Socket};
use self::worker::{Secure, State, Worker, lock};
use super::received::{PublisherStats, Received, Stats};
use crate::dtls::{self, Credentials, Sessions, Verifier};

/// Sockets and bounds of a receiver. At least one of `plain` and `secure` is needed.
pub struct ReceiverConfig {
    /// Addresses for datagrams without DTLS.
    pub plain: Vec<SocketAddr>,
    /// Addresses for DTLS, and who may speak there.
    pub secure: Option<Security>,
    /// Threads, each with sockets of its own on every address (SO_REUSEPORT): the kernel keeps one source on one of them. Default: one.
    pub workers: usize,
    /// Receive buffer asked for, per socket, in bytes. Default 32 MiB; [`SocketStats`](super::SocketStats) says what was granted.
    pub receive_buffer: usize,
    /// Whether the kernel may coalesce datagrams of one source (UDP_GRO): cheaper by far, but then it counts what it drops coalesced.
    /// Default true.
    pub gro: bool,
    /// Batches of messages waiting for whoever takes them; beyond, new ones are dropped and counted. Default 1024.
    pub queue: usize,
    /// What is accepted and kept.
    pub collector: CollectorConfig,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        Self {
            plain: Vec::new(),
            secure: None,
            workers: 1,
            receive_buffer: 32 << 20,
            gro: true,
            queue: 1024,
            collector: CollectorConfig::default(),
        }
    }
}

/// What DTLS needs.
pub struct Security {
    /// Addresses to bind.
    pub listen: Vec<SocketAddr>,
    /// Our certificate and key.
    pub credentials: Credentials,
    /// Decides about every publisher.
    pub verifier: Arc<dyn Verifier>,
    /// Bounds of the associations. See [`Security::dtls`] for what suits publishers.
    pub dtls: dtls::Config,
}

impl Security {
    /// Bounds for publishers: DTLS 1.3 only, closed after 10 minutes of silence.
    pub fn dtls() -> dtls::Config {
        dtls::Config {
            idle_timeout: std::time::Duration::from_secs(600),
            versions: dtls::Versions::Dtls13,
            ..dtls::Config::default()
        }
    }
}

/// A running receiver. When it is dropped it shuts down.
pub struct Receiver {
    plain: Vec<SocketAddr>,
    secure: Vec<SocketAddr>,
    workers: Vec<Handle>,
    stop: Arc<AtomicBool>,
}

/// The way to a worker.
struct Handle {
    state: Arc<Mutex<State>>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    fn wake(&self) {
        // A count that is full already wakes too.
        let _woken = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

impl Receiver {
    /// Binds the sockets and starts the threads. Messages come in batches.
    ///
    /// # Errors
    /// When an address cannot be bound, the credentials are not usable, or no address is configured.
    pub fn bind(config: ReceiverConfig) -> io::Result<(Self, mpsc::Receiver<Vec<Received>>)> {
        let secure_listen = config
            .secure
            .as_ref()
            .map_or(&[][..], |secure| &secure.listen);
        if config.plain.is_empty() && secure_listen.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no address to receive on is configured",
            ));
        }
        // Whoever comes first decides about the port; the others share it.
        let mut plain = config.plain.clone();
        let mut secure = secure_listen.to_vec();
        let mut sockets: Vec<Vec<Socket>> = Vec::new();
        for worker in 0..config.workers.max(1) {
            let sharing = match worker {
                0 if config.workers <= 1 => Sharing::Alone,
                0 => Sharing::First,
                _ => Sharing::Joins,
            };
            let mut own = Vec::new();
            let addrs = plain
                .iter_mut()
                .map(|addr| (addr, false))
                .chain(secure.iter_mut().map(|addr| (addr, true)));
            for (addr, secure) in addrs {
                let socket =
                    Socket::bind(*addr, sharing, secure, config.receive_buffer, config.gro)?;
                *addr = socket.local_addr();
                own.push(socket);
            }
            sockets.push(own);
        }
        let (sender, receiver) = mpsc::channel(config.queue.max(1));
        let mut receiver_handle = Self {
            plain,
            secure,
            workers: Vec::new(),
            stop: Arc::new(AtomicBool::new(false)),
        };
        for sockets in sockets {
            let mut secure = Vec::new();
            for socket in &sockets {
                let sessions = match &config.secure {
                    Some(security) if socket.stats().secure => Some(Secure::new(
                        Sessions::new(
                            security.dtls.clone(),
                            security.credentials.clone(),
                            security.verifier.clone(),
                        )
                        .map_err(io::Error::other)?,
                    )),
                    _ => None,
                };
                secure.push(sessions);
            }
            let collector = Collector::new(config.collector);
            let outbox = Outbox::new(sender.clone());
            let state = State::new(collector, outbox, secure, &sockets);
            let state = Arc::new(Mutex::new(state));
            let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
            let worker = Worker {
                sockets,
                state: state.clone(),
                wake: wake.clone(),
                stop: receiver_handle.stop.clone(),
            };
            let thread = std::thread::Builder::new()
                .name("notif".to_owned())
                .spawn(|| worker.run())?;
            receiver_handle.workers.push(Handle {
                state,
                wake,
                thread: Some(thread),
            });
        }
        Ok((receiver_handle, receiver))
    }

    /// The bound addresses without DTLS, in the order of the configuration.
    pub fn plain_addrs(&self) -> &[SocketAddr] {
        &self.plain
    }

    /// The bound addresses with DTLS, in the order of the configuration.
    pub fn secure_addrs(&self) -> &[SocketAddr] {
        &self.secure
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for worker in &self.workers {
            lock(&worker.state).add_to(&mut stats);
        }
        stats
    }

    /// Every publisher known.
    pub fn publishers(&self) -> Vec<PublisherStats> {
        let mut publishers = Vec::new();
        for worker in &self.workers {
            publishers.extend(lock(&worker.state).publishers());
        }
        publishers
    }

    /// Uses other credentials for handshakes from now on. Open associations stay.
    ///
    /// # Errors
    /// When the engine refuses them.
    pub fn replace_credentials(&self, credentials: &Credentials) -> Result<(), dtls::EngineError> {
        for worker in &self.workers {
            for secure in lock(&worker.state).secure.iter_mut().flatten() {
                secure.sessions.replace_credentials(credentials.clone())?;
            }
        }
        Ok(())
    }

    /// Has every decision about a publisher made anew, for when evidence has come.
    pub fn judge_again(&self) {
        for worker in &self.workers {
            for secure in lock(&worker.state).secure.iter_mut().flatten() {
                secure.sessions.judge_again(std::time::Instant::now());
            }
            worker.wake();
        }
    }

    /// Takes what the sockets still hold, says close_notify to every publisher, and ends the threads. What was received is in the channel,
    /// as far as it has room.
    pub fn shutdown(mut self) -> Stats {
        self.stop();
        self.stats()
    }

    fn stop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for worker in &self.workers {
            worker.wake();
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                // A thread that panicked has ended too.
                let _ended = thread.join();
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop();
    }
}
