//! The client's side of the transfer: a message out, its answer in.

mod coap;
mod error;
mod http;
mod trust;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;

use self::http::Pool;
use super::service::Scheme;
use super::target::Operation;
use super::url::Url;
use crate::coap::Node;
use crate::dtls::{self, Credentials};
use crate::tls::{Tls, TlsConfig};

pub use self::coap::Announcements;
pub use self::error::{ExchangeError, ResponseCode};
pub use self::trust::ServerTrust;

/// How a client reaches its servers, and what it takes of them.
#[derive(Clone)]
pub struct ClientConfig {
    /// Which servers are believed over `coaps` and `https`.
    pub trust: ServerTrust,
    /// The certificate and key that are shown when a server asks for them over `coaps` and `https`. Default none.
    pub identity: Option<Credentials>,
    /// Time one exchange may take in all, the server's included. Default 120 s: CoAP gives up repeating after 93.
    pub timeout: Duration,
    /// Largest answer in bytes. Default 131,072.
    pub max_answer: usize,
    /// Whether an answer may come as `application/octet-stream` over CoAP, as servers from before RFC 9482 send it. Default false.
    pub accept_octet_stream: bool,
    /// When nothing at all was heard for this long of a server that an association is open with, a new one is made and the message sent
    /// over that: the server may have restarted. One that has acknowledged the message is not doubted. Default 5 s.
    pub doubt_after: Duration,
    /// Parameters of CoAP; `max_body` is set by `max_answer`.
    pub coap: homefleet_coap::Config,
    /// Bounds of DTLS.
    pub dtls: dtls::Config,
    /// Bounds of TLS.
    pub tls: TlsConfig,
    /// Whether messages are sent chunked over HTTP (RFC 9112 §7.1) rather than with a Content-Length: not every server takes that. Default
    /// false.
    pub chunked: bool,
    /// Bytes of a chunk at most. A message that is no longer is one chunk, and leaves with its head in one write: as few packets as its
    /// bytes need (RFC 9482 §2.4). For servers that take no long chunks. Default unlimited.
    pub chunk: usize,
    /// Connections over HTTP and HTTPS that are kept for the next exchange. Default 4.
    pub max_idle: usize,
}

impl ClientConfig {
    /// The defaults.
    pub fn new(trust: ServerTrust) -> Self {
        Self {
            trust,
            identity: None,
            timeout: Duration::from_secs(120),
            max_answer: 128 * 1024,
            accept_octet_stream: false,
            doubt_after: Duration::from_secs(5),
            coap: homefleet_coap::Config::default(),
            dtls: dtls::Config {
                max_sessions: 256,
                ..dtls::Config::default()
            },
            tls: TlsConfig::default(),
            chunked: false,
            chunk: usize::MAX,
            max_idle: 4,
        }
    }
}

/// Sends messages to CMP servers and brings their answers. Associations and connections are kept and serve the exchanges that follow, of
/// this transaction and of others (RFC 9482 §4). Clones share them.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    config: ClientConfig,
    tls: Tls,
    pool: Pool,
    plain: OnceCell<Node>,
    secure: OnceCell<Node>,
}

impl Client {
    /// A client that has not opened anything yet.
    ///
    /// # Errors
    /// When the identity cannot be used.
    pub fn new(config: ClientConfig) -> io::Result<Self> {
        let credentials = config.identity.clone().unwrap_or_default();
        let tls = Tls::with_config(config.tls.clone(), &credentials, config.trust.verifier())?;
        Ok(Self {
            shared: Arc::new(Shared {
                tls,
                pool: Pool::new(config.max_idle),
                plain: OnceCell::new(),
                secure: OnceCell::new(),
                config,
            }),
        })
    }

    /// Sends one PKIMessage and waits for its answer: a PKIMessage, whatever the response's code, since that may be an error message with a
    /// protection of its own (RFC 9811 §3.2). Where a URL leads says [`Url::with_operation`].
    ///
    /// It is sent once, as far as the application is concerned: a repetition is CoAP's own and recognised by the server. After
    /// [`ExchangeError::NoAnswer`] and [`ExchangeError::Interrupted`] nobody knows whether the server has it.
    ///
    /// # Errors
    /// [`ExchangeError`].
    pub async fn exchange(
        &self,
        url: &Url,
        operation: Option<Operation>,
        message: &[u8],
    ) -> Result<Vec<u8>, ExchangeError> {
        let url = url.with_operation(operation);
        let exchange = async {
            if url.scheme.is_coap() {
                self.over_coap(&url, message).await
            } else {
                self.over_http(&url, message).await
            }
        };
        tokio::time::timeout(self.shared.config.timeout, exchange)
            .await
            .unwrap_or(Err(ExchangeError::NoAnswer))
    }

    /// Observes what a server announces (RFC 9482 §2.6). The URL is that of the server, or of a label of it; one with another path is taken
    /// as it is.
    ///
    /// # Errors
    /// [`ExchangeError`]; [`ExchangeError::NotObservable`] over HTTP.
    pub async fn observe(&self, url: &Url) -> Result<Announcements, ExchangeError> {
        if !url.scheme.is_coap() {
            return Err(ExchangeError::NotObservable);
        }
        self.observe_coap(&url.with_announcements()).await
    }

    /// Ends associations and connections; the next exchange opens new ones.
    pub async fn close(&self) {
        for node in [&self.shared.plain, &self.shared.secure] {
            if let Some(node) = node.get() {
                node.disconnect(None).await;
            }
        }
        self.shared.pool.clear();
    }

    async fn node(&self, scheme: Scheme) -> Result<&Node, ExchangeError> {
        let config = &self.shared.config;
        let cell = match scheme {
            Scheme::Coaps => &self.shared.secure,
            _ => &self.shared.plain,
        };
        let open = async || {
            let everywhere = [
                SocketAddr::from(([0_u16; 8], 0)),
                SocketAddr::from(([0, 0, 0, 0], 0)),
            ];
            let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
            for local in everywhere {
                match coap::bind(config, scheme, local) {
                    Ok(node) => return Ok(node),
                    Err(error) => last = error,
                }
            }
            Err(ExchangeError::Socket(Arc::new(last)))
        };
        cell.get_or_try_init(open).await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("trust", &self.shared.config.trust)
            .finish_non_exhaustive()
    }
}
