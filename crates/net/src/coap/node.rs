//! The handle to a CoAP endpoint and what it serves.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use homefleet_coap::{ExchangeId, Request, Response, Scheme};
use homefleet_trust::PeerIdentity;
use tokio::sync::{mpsc, oneshot};

use super::client::{Repeat, RequestFailure, Target};
use super::groups::{Group, Groups};
use super::jobs::Reply;
use super::observe::{Observation, Publisher, TopicId};
use super::task::{Command, Task};
use crate::dtls::{self, Credentials, Sessions, Verifier};
use crate::udp::{self, UdpSocket};

/// Time for the host's name to be resolved.
const LOOKUP: Duration = Duration::from_secs(10);
/// Longest silence that is waited for; what is added to a point in time stays one.
const LONGEST_DOUBT: Duration = Duration::from_secs(365 * 86_400);
/// Commands waiting for the task.
const COMMANDS: usize = 1024;

/// Sockets and bounds of a node. At least one of `secure` and `plain` is needed.
pub struct NodeConfig {
    /// `coaps`: address, certificate and verifier.
    pub secure: Option<Security>,
    /// Address for `coap` without security (NoSec, RFC 7252 §9). Without it this node neither accepts nor sends
    /// unprotected messages.
    pub plain_listen: Option<SocketAddr>,
    /// Groups whose requests are answered, without security (RFC 7252 §8): `plain_listen` is an unspecified address then. One
    /// whose interface is not there yet is joined when it is.
    pub groups: Vec<Group>,
    /// CoAP parameters.
    pub coap: homefleet_coap::Config,
    /// Requests under way or waiting for a handshake, over all peers.
    pub max_requests: usize,
    /// When a request over an association that was already open stays unanswered for this long, a new handshake is
    /// begun beside it: the peer may have restarted and forgotten the old one. A handshake with one of several addresses
    /// of a host gets this long before the next address is tried.
    pub doubt_after: Duration,
}

/// What `coaps` needs.
pub struct Security {
    /// Address to bind.
    pub listen: SocketAddr,
    /// Our certificate and key, presented in both roles (R-COAP.16).
    pub credentials: Credentials,
    /// Decides about every peer.
    pub verifier: Arc<dyn Verifier>,
    /// Bounds of the associations.
    pub dtls: dtls::Config,
}

/// Answers requests, inside the node's task: it must not block. To answer later, keep [`Incoming::later`] and return
/// `None`.
pub trait Service: Send + 'static {
    /// Answers one request.
    fn handle(&mut self, incoming: Incoming<'_>) -> Option<Response>;
}

impl<F> Service for F
where
    F: FnMut(Incoming<'_>) -> Option<Response> + Send + 'static,
{
    fn handle(&mut self, incoming: Incoming<'_>) -> Option<Response> {
        self(incoming)
    }
}

/// A request of a peer.
pub struct Incoming<'a> {
    /// The peer's address.
    pub from: SocketAddr,
    /// Who it is, by its certificate; `None` on `coap`.
    pub identity: Option<&'a Arc<PeerIdentity>>,
    /// The name that the peer opened its association for (SNI); `None` on `coap`, and for an address.
    pub server_name: Option<String>,
    /// Method, options and whole body.
    pub request: Request,
    /// Whether a group was asked, and this node as one of many: what tells nothing is not answered (RFC 7252 §8.2).
    pub to_group: bool,
    pub(super) exchange: ExchangeId,
    pub(super) commands: &'a mpsc::WeakSender<Command>,
    pub(super) topic: &'a Cell<Option<TopicId>>,
}

impl Incoming<'_> {
    /// The means to answer later. A responder that is dropped leaves the request to expire.
    pub fn later(&self) -> Responder {
        Responder {
            exchange: self.exchange,
            commands: self.commands.clone(),
        }
    }

    /// Has whoever asks for notifications (RFC 7641 §4.1) told of what is published under this topic, if the response that
    /// [`Service::handle`] returns is a success. One for whom there is no room gets that response without the Observe Option.
    pub fn observed_as(&self, topic: TopicId) {
        self.topic.set(Some(topic));
    }

    /// The means to publish, for as long as the node is there.
    pub fn publisher(&self) -> Publisher {
        Publisher::new(self.commands.clone())
    }
}

/// Answers one request later.
pub struct Responder {
    exchange: ExchangeId,
    commands: mpsc::WeakSender<Command>,
}

impl Responder {
    /// Sends the response.
    pub async fn respond(self, response: Response) {
        if let Some(commands) = self.commands.upgrade() {
            // A node that is shut down has nobody to answer to.
            let _sent = commands
                .send(Command::Respond {
                    exchange: self.exchange,
                    response,
                })
                .await;
        }
    }
}

/// Counters of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeStats {
    /// The `coaps` socket.
    pub secure: udp::Stats,
    /// The `coap` socket.
    pub plain: udp::Stats,
    /// Groups that are heard now.
    pub groups: u64,
    /// The associations.
    pub dtls: dtls::Stats,
    /// Associations held now.
    pub sessions: u64,
    /// Handshakes begun by strangers and not finished, now.
    pub half_open: u64,
    /// Associations whose decision waits for evidence, now.
    pub held: u64,
    /// CoAP.
    pub coap: homefleet_coap::Stats,
    /// Requests sent by us that found an open association.
    pub sessions_reused: u64,
    /// Handshakes begun because an open association stayed silent.
    pub doubted: u64,
    /// Requests under way now, observations of ours among them.
    pub requests_under_way: u64,
    /// Observers of ours now.
    pub observers: u64,
}

/// Handle to a CoAP endpoint; clones share it. When the last one is dropped the endpoint shuts down.
#[derive(Clone)]
pub struct Node {
    commands: mpsc::Sender<Command>,
    stats: Arc<Mutex<NodeStats>>,
    secure: Option<SocketAddr>,
    plain: Option<SocketAddr>,
}

impl Node {
    /// Binds the sockets and starts the endpoint.
    ///
    /// # Errors
    /// When an address cannot be bound, the credentials are not usable, or neither scheme is configured.
    pub fn bind(config: NodeConfig, service: impl Service) -> io::Result<Self> {
        if config.secure.is_none() && config.plain_listen.is_none() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "neither coap nor coaps is configured",
            ));
        }
        let secure = match config.secure {
            Some(security) => {
                let socket = UdpSocket::bind(security.listen)?;
                let sessions =
                    Sessions::new(security.dtls, security.credentials, security.verifier)
                        .map_err(io::Error::other)?;
                Some((socket, sessions))
            }
            None => None,
        };
        let plain = config.plain_listen.map(UdpSocket::bind).transpose()?;
        let groups = Groups::new(config.groups, plain.as_ref())?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;

        let (commands, inbox) = mpsc::channel(COMMANDS);
        let stats = Arc::new(Mutex::new(NodeStats::default()));
        let node = Self {
            stats: stats.clone(),
            secure: secure.as_ref().map(|(socket, _)| socket.local_addr()),
            plain: plain.as_ref().map(UdpSocket::local_addr),
            commands: commands.clone(),
        };
        let task = Task::new(
            homefleet_coap::Endpoint::new(config.coap, seed),
            secure,
            plain,
            commands.downgrade(),
            stats,
            config.max_requests,
            config.doubt_after.min(LONGEST_DOUBT),
        )
        .with_groups(groups);
        drop(commands);
        tokio::spawn(task.run(inbox, Box::new(service)));
        Ok(node)
    }

    /// The bound `coaps` address.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.secure
    }

    /// The bound `coap` address.
    pub fn plain_addr(&self) -> Option<SocketAddr> {
        self.plain
    }

    /// The address bound for a scheme.
    pub fn addr_of(&self, scheme: Scheme) -> Option<SocketAddr> {
        if scheme.is_secure() {
            self.secure
        } else {
            self.plain
        }
    }

    /// Sends a request and waits for its response. The addresses of the host are tried in turn.
    ///
    /// # Errors
    /// [`RequestFailure`]; a response of class 4 or 5 is a response, not an error.
    pub async fn request(
        &self,
        target: &Target,
        request: Request,
    ) -> Result<Response, RequestFailure> {
        self.request_repeating(target, request, Repeat::Freely)
            .await
    }

    /// The same, sent again over another association as `repeat` says only.
    ///
    /// # Errors
    /// [`RequestFailure`].
    pub async fn request_repeating(
        &self,
        target: &Target,
        request: Request,
        repeat: Repeat,
    ) -> Result<Response, RequestFailure> {
        let local = self
            .addr_of(target.scheme)
            .ok_or(RequestFailure::Disabled(target.scheme))?;
        let addrs = self.resolve(target, local).await?;
        self.request_addrs(addrs, target, request, repeat).await
    }

    /// The addresses of a target that can be sent to from here.
    ///
    /// # Errors
    /// [`RequestFailure::Unresolvable`].
    pub(crate) async fn resolve(
        &self,
        target: &Target,
        local: SocketAddr,
    ) -> Result<Vec<SocketAddr>, RequestFailure> {
        let unresolvable = || RequestFailure::Unresolvable {
            host: target.host.clone(),
        };
        let bare = target.host.trim_start_matches('[').trim_end_matches(']');
        let lookup = tokio::net::lookup_host((bare, target.port));
        let found: Vec<SocketAddr> = tokio::time::timeout(LOOKUP, lookup)
            .await
            .map_err(|_| unresolvable())?
            .map_err(|_| unresolvable())?
            .map(udp::canonical)
            .filter(|addr| addr.port() != 0 && udp::reaches(local, *addr))
            .collect();
        if found.is_empty() {
            return Err(unresolvable());
        }
        Ok(found)
    }

    /// Sends a request to the first of `addrs` that can be reached; the target says whom to expect there, and `repeat`
    /// whether it is sent over another association when the first one stays silent.
    ///
    /// # Errors
    /// [`RequestFailure`].
    pub async fn request_addrs(
        &self,
        addrs: Vec<SocketAddr>,
        target: &Target,
        request: Request,
        repeat: Repeat,
    ) -> Result<Response, RequestFailure> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Command::Request {
                addrs,
                target: target.clone(),
                request,
                repeat,
                reply: Reply::Once(reply),
            })
            .await
            .map_err(|_| RequestFailure::Closed)?;
        answer.await.unwrap_or(Err(RequestFailure::Closed))
    }

    /// Observes a resource (RFC 7641 §3): the response to the registration, and notifications while the server keeps us. The request is a
    /// safe one, such as GET.
    ///
    /// # Errors
    /// [`RequestFailure`], where nothing can be sent.
    pub async fn observe(
        &self,
        target: &Target,
        request: Request,
    ) -> Result<Observation, RequestFailure> {
        let local = self
            .addr_of(target.scheme)
            .ok_or(RequestFailure::Disabled(target.scheme))?;
        let addrs = self.resolve(target, local).await?;
        let (reply, observation) = Observation::new(self.commands.downgrade());
        self.commands
            .send(Command::Request {
                addrs,
                target: target.clone(),
                request: request.observe(),
                repeat: Repeat::Freely,
                reply: Reply::Observing(reply),
            })
            .await
            .map_err(|_| RequestFailure::Closed)?;
        Ok(observation)
    }

    /// Ends the associations with everybody, or with one address only, by close_notify. The next request begins anew.
    pub async fn disconnect(&self, addr: Option<SocketAddr>) {
        // A node that is shut down has no associations.
        let _sent = self.commands.send(Command::Disconnect { addr }).await;
    }

    /// Has the decision about every peer made anew: at once where it is waited for, soon for associations that are open. For
    /// when evidence about revocation has come, the time has become accurate, or the verifier's grounds have changed.
    pub async fn judge_again(&self) {
        // A node that is shut down has no associations.
        let _sent = self.commands.send(Command::JudgeAgain).await;
    }

    /// Closes associations of peers accepted on first use after this time without a message, from now on (R-SEC.6).
    pub async fn set_first_use_idle(&self, idle: Duration) {
        // A node that is shut down has no associations.
        let _sent = self.commands.send(Command::FirstUseIdle(idle)).await;
    }

    /// Presents these credentials in handshakes from now on. Open associations stay.
    ///
    /// # Errors
    /// When the engine refuses them, or the node is shut down; nothing changes then.
    pub async fn replace_credentials(&self, credentials: Credentials) -> io::Result<()> {
        let (reply, result) = oneshot::channel();
        let over = || io::Error::from(io::ErrorKind::NotConnected);
        let credentials = Box::new(credentials);
        self.commands
            .send(Command::ReplaceCredentials { credentials, reply })
            .await
            .map_err(|_| over())?;
        result.await.map_err(|_| over())?.map_err(io::Error::other)
    }

    /// The counters, as of the last time the endpoint had nothing to do.
    pub fn stats(&self) -> NodeStats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends close_notify to every peer, fails what is under way and ends the endpoint.
    pub async fn shutdown(&self) {
        let (reply, done) = oneshot::channel();
        if self
            .commands
            .send(Command::Shutdown { reply })
            .await
            .is_ok()
        {
            // An error means that it was already over.
            let _over = done.await;
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("secure", &self.secure)
            .field("plain", &self.plain)
            .finish_non_exhaustive()
    }
}
