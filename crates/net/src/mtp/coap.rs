//! USP over CoAP (USP 1.2 "CoAP Binding", R-COAP.0 to R-COAP.16), shared by agent and server.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use homefleet_coap::link::Link;
use homefleet_coap::{Code, RequestError, Scheme, Uri};
use homefleet_usp::EndpointId;
use homefleet_usp::mtp::coap as binding;
use tokio::sync::mpsc;

use crate::coap::{Group, Node, NodeConfig, NodeStats, Repeat, RequestFailure, Security, Target};
use crate::dtls::{self, Credentials, Verifier};
use crate::udp;

mod resource;

use self::resource::Resource;
use super::{Event, SendError};

/// Requests of ours under way.
const MAX_REQUESTS: usize = 65_536;
/// Silence on an open association after which a new one is tried beside it.
const DOUBT_AFTER: Duration = Duration::from_secs(5);

/// What kind of USP Endpoint this is (R-COAP.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// `bbf.usp.a`.
    Agent,
    /// `bbf.usp.c`.
    Controller,
}

impl Interface {
    /// The value of the `if` attribute (R-COAP.1).
    pub fn attribute(self) -> &'static str {
        match self {
            Self::Agent => "bbf.usp.a",
            Self::Controller => "bbf.usp.c",
        }
    }
}

/// How this Endpoint is reached and what it shows.
#[derive(Clone)]
pub struct CoapMtpConfig {
    /// Our Endpoint ID.
    pub endpoint_id: EndpointId,
    /// Agent or Controller.
    pub interface: Interface,
    /// Address for `coaps`.
    pub listen: SocketAddr,
    /// Address for `coap` without security. `None`: Records are neither taken nor sent unprotected (R-MTP.0).
    pub plain_listen: Option<SocketAddr>,
    /// Groups that this Endpoint is discovered in (RFC 7252 §8.1, R-COAP.1), where `plain_listen` is an unspecified address:
    /// a request for `/.well-known/core` is answered, nothing else. None, unless a network wants it.
    pub groups: Vec<Group>,
    /// Uri-Path of the Endpoint's resource, such as `usp` (R-COAP.1).
    pub path: String,
    /// Host, or host and port, for `reply-to` (R-COAP.2); by default the local address of the route to the peer.
    pub advertise: Option<String>,
    /// Our certificate and key (R-COAP.16).
    pub credentials: Credentials,
    /// Decides about every peer (R-MTP.1, R-MTP.4).
    pub verifier: Arc<dyn Verifier>,
    /// CoAP parameters.
    pub coap: homefleet_coap::Config,
    /// Bounds of the DTLS associations.
    pub dtls: dtls::Config,
    /// Where what happens is told. A peer gets its 2.04 when its Record is in there, and 5.03 when there is no room: it comes
    /// again then.
    pub events: mpsc::Sender<Event>,
}

/// Where Records for an Endpoint go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The CoAP URI of its resource, such as a `reply-to` (R-COAP.2a).
    pub uri: Uri,
    /// The Endpoint expected there; the peer's certificate, or an open association, is judged by it.
    pub endpoint_id: Option<EndpointId>,
}

/// Counters of the CoAP MTP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetStats {
    /// Sockets, DTLS and CoAP.
    pub node: NodeStats,
    /// Records handed to the receiver.
    pub records_in: u64,
    /// Requests refused with 4.05, 4.15 or 4.00 (R-COAP.11 to R-COAP.13).
    pub rejected: u64,
    /// Records whose `from_id` is not the certificate's Endpoint ID, answered 4.03 (R-SEC.0a).
    pub identity_mismatch: u64,
    /// Records answered 5.03 because the receiver's queue was full.
    pub queue_full: u64,
    /// Requests to other resources.
    pub not_found: u64,
    /// Records delivered (2.04).
    pub records_out: u64,
    /// Records not delivered.
    pub records_failed: u64,
}

#[derive(Default)]
struct Counters {
    records_in: AtomicU64,
    rejected: AtomicU64,
    identity_mismatch: AtomicU64,
    queue_full: AtomicU64,
    not_found: AtomicU64,
    records_out: AtomicU64,
    records_failed: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

struct Shared {
    node: Node,
    counters: Arc<Counters>,
    path: String,
    advertise: Option<String>,
}

/// USP over CoAP on real sockets. Clones share it.
#[derive(Clone)]
pub struct CoapMtp {
    shared: Arc<Shared>,
}

impl CoapMtp {
    /// Binds the sockets.
    ///
    /// # Errors
    /// When an address cannot be bound or the credentials are not usable.
    pub async fn bind(config: CoapMtpConfig) -> io::Result<Self> {
        let counters = Arc::new(Counters::default());
        let path = config.path.trim_matches('/').to_owned();
        let resource = Resource {
            link: Link::new(format!("/{path}"))
                .attribute("rt", binding::RESOURCE_TYPE)
                .attribute("if", config.interface.attribute()),
            path: path.clone(),
            events: config.events,
            counters: counters.clone(),
        };
        let node = Node::bind(
            NodeConfig {
                secure: Some(Security {
                    listen: config.listen,
                    credentials: config.credentials,
                    verifier: config.verifier,
                    dtls: config.dtls,
                }),
                plain_listen: config.plain_listen,
                groups: config.groups,
                coap: config.coap,
                max_requests: MAX_REQUESTS,
                doubt_after: DOUBT_AFTER,
            },
            resource,
        )?;
        tracing::debug!(endpoint_id = %config.endpoint_id, "CoAP MTP bound");
        Ok(Self {
            shared: Arc::new(Shared {
                node,
                counters,
                path,
                advertise: config.advertise,
            }),
        })
    }

    /// The bound `coaps` address.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared
            .node
            .local_addr()
            .unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// The bound `coap` address.
    pub fn plain_addr(&self) -> Option<SocketAddr> {
        self.shared.node.plain_addr()
    }

    /// The CoAP endpoint underneath, for requests that carry no Record.
    pub fn node(&self) -> &Node {
        &self.shared.node
    }

    /// Has the decision about every peer made anew: at once where it is waited for, soon for associations that are open. For
    /// when evidence about revocation has come, the time has become accurate, or the verifier's grounds have changed.
    pub async fn judge_again(&self) {
        self.shared.node.judge_again().await;
    }

    /// Closes associations of peers accepted on first use after this time without a message, from now on (R-SEC.6).
    pub async fn set_first_use_idle(&self, idle: Duration) {
        self.shared.node.set_first_use_idle(idle).await;
    }

    /// Presents this certificate and key in handshakes from now on (R-COAP.16). Open associations stay.
    ///
    /// # Errors
    /// When they are not usable, or the MTP is shut down; nothing changes then.
    pub async fn replace_credentials(&self, credentials: Credentials) -> io::Result<()> {
        self.shared.node.replace_credentials(credentials).await
    }

    /// Sends one encoded Record by POST and waits for 2.04 (R-COAP.4 to R-COAP.7).
    ///
    /// # Errors
    /// [`SendError`]: what the USP Endpoint is told (R-COAP.9, R-COAP.10).
    pub async fn send(&self, to: &Destination, record: Vec<u8>) -> Result<(), SendError> {
        self.send_counted(to, record, Repeat::Freely).await
    }

    /// The same, over one association only: a Record that is not to be processed twice is not sent again when that stays
    /// silent, as [`CoapMtp::send`] would after five seconds. Within the association, CoAP's own repetitions are
    /// recognised (RFC 7252 §4.5).
    ///
    /// # Errors
    /// [`SendError`]; [`SendError::Timeout`] and [`SendError::Closed`] leave open whether it arrived.
    pub async fn send_once(&self, to: &Destination, record: Vec<u8>) -> Result<(), SendError> {
        self.send_counted(to, record, Repeat::Never).await
    }

    async fn send_counted(
        &self,
        to: &Destination,
        record: Vec<u8>,
        repeat: Repeat,
    ) -> Result<(), SendError> {
        let result = self.try_send(to, record, repeat).await;
        count(if result.is_ok() {
            &self.shared.counters.records_out
        } else {
            &self.shared.counters.records_failed
        });
        result
    }

    async fn try_send(
        &self,
        to: &Destination,
        record: Vec<u8>,
        repeat: Repeat,
    ) -> Result<(), SendError> {
        let node = &self.shared.node;
        let local = node
            .addr_of(to.uri.scheme)
            .ok_or(SendError::WeakerChannel)?;
        let target = Target::new(&to.uri, to.endpoint_id.as_ref().map(ToString::to_string));
        let addrs = match node.resolve(&target, local).await {
            Ok(addrs) => addrs,
            // An Endpoint that is here already is reached over its own association, whatever it calls itself: a name
            // of its home network means nothing here.
            Err(_) if target.endpoint_id.is_some() => Vec::new(),
            Err(failure) => return Err(send_error(failure)),
        };
        let reply_to = self.reply_to(to.uri.scheme, local, addrs.first().copied());
        let request = to
            .uri
            .request(Code::POST)
            .query(&format!("reply-to={reply_to}"))
            .content_format(binding::CONTENT_FORMAT)
            .payload(record);
        let response = node
            .request_addrs(addrs, &target, request, repeat)
            .await
            .map_err(send_error)?;
        if response.code.is_success() {
            return Ok(());
        }
        let mut diagnostic = String::from_utf8_lossy(&response.payload).into_owned();
        diagnostic.truncate(diagnostic.floor_char_boundary(256));
        Err(SendError::Refused {
            code: response.code,
            diagnostic,
        })
    }

    /// Our own URI as the peer at `to` can reach it (R-COAP.2): the scheme of the request, no query.
    fn reply_to(&self, scheme: Scheme, local: SocketAddr, to: Option<SocketAddr>) -> Uri {
        let (host, port) = match &self.shared.advertise {
            Some(advertise) => split_authority(advertise, local.port()),
            None => (local_ip(local, to).to_string(), local.port()),
        };
        Uri {
            scheme,
            host,
            port,
            path: self
                .shared
                .path
                .split('/')
                .filter(|segment| !segment.is_empty())
                .map(str::to_owned)
                .collect(),
            query: Vec::new(),
        }
    }

    /// The counters.
    pub fn stats(&self) -> NetStats {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        NetStats {
            node: self.shared.node.stats(),
            records_in: read(&counters.records_in),
            rejected: read(&counters.rejected),
            identity_mismatch: read(&counters.identity_mismatch),
            queue_full: read(&counters.queue_full),
            not_found: read(&counters.not_found),
            records_out: read(&counters.records_out),
            records_failed: read(&counters.records_failed),
        }
    }

    /// Sends close_notify to every peer and ends the MTP; what is under way fails with [`SendError::Closed`].
    pub async fn shutdown(&self) {
        self.shared.node.shutdown().await;
    }
}

impl fmt::Debug for CoapMtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoapMtp")
            .field("node", &self.shared.node)
            .finish_non_exhaustive()
    }
}

fn send_error(failure: RequestFailure) -> SendError {
    match failure {
        RequestFailure::Unresolvable { .. } => SendError::Unresolvable,
        RequestFailure::Disabled(_) => SendError::WeakerChannel,
        RequestFailure::Untrusted { decision, .. } => match decision.refusal() {
            Some(refusal) => SendError::Untrusted(refusal.clone()),
            None => SendError::Handshake("the peer was refused".to_owned()),
        },
        RequestFailure::Handshake { .. } => SendError::Handshake(failure.to_string()),
        RequestFailure::Coap(error) => match error {
            RequestError::Timeout | RequestError::PeerGone => SendError::Timeout,
            RequestError::Reset => SendError::Reset,
            RequestError::TooLarge { .. } => SendError::TooLarge,
            RequestError::QueueFull => SendError::Busy,
            RequestError::InvalidDestination => SendError::Unresolvable,
            RequestError::Cancelled => SendError::Closed,
            other => SendError::Protocol(other),
        },
        RequestFailure::Busy => SendError::Busy,
        RequestFailure::Closed => SendError::Closed,
    }
}

/// The address this host uses towards `to`.
fn local_ip(local: SocketAddr, to: Option<SocketAddr>) -> IpAddr {
    let bound = udp::canonical(local).ip();
    let Some(to) = to.filter(|_| bound.is_unspecified()) else {
        return bound;
    };
    let any: SocketAddr = if to.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    // Connecting a UDP socket sends nothing; it asks the routing table. The answer is not kept: a device that got
    // another address has another way back.
    std::net::UdpSocket::bind(any)
        .and_then(|socket| {
            socket.connect(to)?;
            socket.local_addr()
        })
        .map_or(bound, |addr| addr.ip())
}

/// `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address.
fn split_authority(text: &str, default_port: u16) -> (String, u16) {
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return (addr.ip().to_string(), addr.port());
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<IpAddr>().is_ok() {
        return (bare.to_owned(), default_port);
    }
    match text.rsplit_once(':') {
        Some((host, port)) => match port.parse() {
            Ok(port) => (host.to_owned(), port),
            Err(_) => (text.to_owned(), default_port),
        },
        None => (text.to_owned(), default_port),
    }
}
