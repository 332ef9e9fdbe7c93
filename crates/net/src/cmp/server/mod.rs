//! The server's side of the transfer over CoAP (RFC 9482).

mod announcing;
mod answer;
mod callers;
mod limits;
mod resource;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use self::announcing::Announcing;
use self::callers::Callers;
use self::limits::Limits;
use self::resource::Resource;
use super::service::Service;
use crate::coap::{Group, Node, NodeConfig, NodeStats, Security};
use crate::dtls::{self, Budget, ClientCertificate, Credentials, Verifier};

/// A listener sends no requests.
const NO_REQUESTS: usize = 1;

/// Where CMP is served over CoAP, and within which bounds.
#[derive(Clone)]
pub struct CoapConfig {
    /// Address for `coap`; the port is 5683 by default (RFC 9482 §2.2). Default none.
    pub plain_listen: Option<SocketAddr>,
    /// `coaps`. Default none.
    pub secure: Option<Secure>,
    /// Groups in which this server is discovered, where `plain_listen` is an unspecified address: a request for `/.well-known/core` is
    /// answered, nothing else is (RFC 9482 §2.5). Default none.
    pub groups: Vec<Group>,
    /// Largest message in bytes; over it 4.13 with Size1. Default 131,072.
    pub max_message: usize,
    /// Whether requests as `application/octet-stream` are taken, and answered so: clients from before RFC 9482 send them. Default false.
    pub accept_octet_stream: bool,
    /// Requests under way over all clients; over it 5.03. Default 1024.
    pub max_under_way: usize,
    /// Requests under way of one address; over it 4.29. Default 64.
    pub max_under_way_per_client: usize,
    /// New requests per address prefix; over it 4.29. Those of `coap`, where addresses can be forged, and of `coaps` are counted apart.
    /// Default 1,000 at once, 200 per second.
    pub client_budget: Budget,
    /// New requests from everywhere; over it 5.03. Default 4,000 at once, 2,000 per second.
    pub budget: Budget,
    /// Observers of announcements over all clients; over it they are answered without the Observe Option (RFC 9482 §2.6). One with DTLS takes
    /// the place of one without. Default 65,536.
    pub max_observers: usize,
    /// Observations of one client: of one port of its address, or one association. Default 4.
    pub max_observers_per_client: usize,
    /// Within what time observers register again: each is told a time of its own between half of this and all of it (Max-Age, RFC 7641
    /// §3.3.1), so that they do not come back together. Default one hour.
    pub announced_again: Duration,
    /// Parameters of CoAP; what the bounds above say of it is set by them.
    pub coap: homefleet_coap::Config,
    /// Bounds of DTLS; a client's certificate is always asked for and never required.
    pub dtls: dtls::Config,
}

/// What `coaps` needs.
#[derive(Clone)]
pub struct Secure {
    /// Address; the port is 5684 by default (RFC 9482 §2.2).
    pub listen: SocketAddr,
    /// Our certificate and key.
    pub credentials: Credentials,
    /// Who decides whether a client's certificate says who it is. Every client is served, also one without a certificate or with one that
    /// is refused: then nobody is named to the [`Service`], and CMP's own protection has to say who asks (RFC 9482 §4). `None`: nobody
    /// ever is.
    pub callers: Option<Arc<dyn Verifier>>,
}

impl Default for CoapConfig {
    fn default() -> Self {
        Self {
            plain_listen: None,
            secure: None,
            groups: Vec::new(),
            max_message: 128 * 1024,
            accept_octet_stream: false,
            max_under_way: 1024,
            max_under_way_per_client: 64,
            client_budget: Budget {
                burst: 1000,
                per_second: 200,
            },
            budget: Budget {
                burst: 4000,
                per_second: 2000,
            },
            max_observers: 65_536,
            max_observers_per_client: 4,
            announced_again: Duration::from_secs(3600),
            coap: homefleet_coap::Config::default(),
            dtls: dtls::Config {
                idle_timeout: Duration::from_secs(600),
                ..dtls::Config::default()
            },
        }
    }
}

/// Counters of a listener, since it was bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoapStats {
    /// Sockets, DTLS and CoAP.
    pub node: NodeStats,
    /// Messages handed to the service.
    pub messages: u64,
    /// Of these, sent by somebody whose certificate was good.
    pub identified: u64,
    /// Requests refused for what they are: method, format, path, size, Non-confirmable.
    pub rejected: u64,
    /// Requests refused because of a limit: 4.29 and 5.03.
    pub over_limit: u64,
    /// Lists of resources given.
    pub discoveries: u64,
    /// Files and OCSP responses given.
    pub files: u64,
    /// Requests for announcements answered, registrations and others.
    pub announcements: u64,
}

#[derive(Default)]
struct Counters {
    messages: AtomicU64,
    identified: AtomicU64,
    rejected: AtomicU64,
    over_limit: AtomicU64,
    discoveries: AtomicU64,
    files: AtomicU64,
    announcements: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A CMP server on `coap` and `coaps`. It ends when the last clone is dropped.
#[derive(Clone)]
pub struct CoapListener {
    node: Node,
    counters: Arc<Counters>,
}

impl CoapListener {
    /// Binds the sockets.
    ///
    /// # Errors
    /// When an address cannot be bound, the credentials are not usable, or neither scheme is configured.
    pub fn bind(config: CoapConfig, service: Arc<dyn Service>) -> io::Result<Self> {
        let counters = Arc::new(Counters::default());
        let resource = Resource {
            service,
            limits: Arc::new(Limits::new(&config)),
            counters: counters.clone(),
            max_message: config.max_message,
            accept_octet_stream: config.accept_octet_stream,
            announcing: Announcing::new(config.announced_again),
        };
        let secure = config.secure.map(|secure| Security {
            listen: secure.listen,
            credentials: secure.credentials,
            verifier: Arc::new(Callers(secure.callers)),
            dtls: dtls::Config {
                client_certificate: ClientCertificate::Requested,
                ..config.dtls
            },
        });
        let node = Node::bind(
            NodeConfig {
                secure,
                plain_listen: config.plain_listen,
                groups: config.groups,
                coap: homefleet_coap::Config {
                    max_body: config.max_message,
                    max_exchanges: config.max_under_way.max(1),
                    max_observations: config.max_observers,
                    max_observations_per_peer: config.max_observers_per_client,
                    // What is announced is rare, and worth an acknowledgement each time.
                    notify_con_every: 1,
                    ..config.coap
                },
                max_requests: NO_REQUESTS,
                doubt_after: Duration::ZERO,
            },
            resource,
        )?;
        Ok(Self { node, counters })
    }

    /// The bound `coap` address.
    pub fn plain_addr(&self) -> Option<SocketAddr> {
        self.node.plain_addr()
    }

    /// The bound `coaps` address.
    pub fn secure_addr(&self) -> Option<SocketAddr> {
        self.node.local_addr()
    }

    /// The counters.
    pub fn stats(&self) -> CoapStats {
        let counters = &self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CoapStats {
            node: self.node.stats(),
            messages: read(&counters.messages),
            identified: read(&counters.identified),
            rejected: read(&counters.rejected),
            over_limit: read(&counters.over_limit),
            discoveries: read(&counters.discoveries),
            files: read(&counters.files),
            announcements: read(&counters.announcements),
        }
    }

    /// Presents this certificate and key in handshakes from now on. Open associations stay.
    ///
    /// # Errors
    /// When they are not usable, or the listener is shut down; nothing changes then.
    pub async fn replace_credentials(&self, credentials: Credentials) -> io::Result<()> {
        self.node.replace_credentials(credentials).await
    }

    /// Has the decision about every client's certificate made anew.
    pub async fn judge_again(&self) {
        self.node.judge_again().await;
    }

    /// Sends close_notify to every client and ends the listener.
    pub async fn shutdown(&self) {
        self.node.shutdown().await;
    }
}

impl fmt::Debug for CoapListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoapListener")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}
