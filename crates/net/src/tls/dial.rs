//! Opening a connection to a host, with TLS or without.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use homefleet_trust::PeerIdentity;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::error::{Distrust, TlsError};
use super::{Tls, TlsStream, Vouched};

/// Time for a name to be resolved, and for one address to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Silence after which the other end is asked by TCP whether it is still there, how often then, and how many answers may be missing.
const SILENCE: Duration = Duration::from_secs(60);
const PROBES_EVERY: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;
/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The name has no address.
    #[error("`{host}` has no usable address: {reason}")]
    Unresolvable {
        /// The name.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// No address took the connection.
    #[error("{to}: {source}")]
    Connect {
        /// The last address tried.
        to: SocketAddr,
        /// Why it did not.
        source: Arc<io::Error>,
    },
    /// TLS was not established.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Opens a connection to `host`, a name or an address literal, and, with `tls`, TLS over it for the Endpoint expected there,
/// if one is. The host's addresses are tried in turn, each for ten seconds at most.
///
/// # Errors
/// [`DialError`]. A server that answers and is refused is not tried on another address.
pub async fn dial(
    host: &str,
    port: u16,
    tls: Option<(&Tls, Option<&str>)>,
) -> Result<Stream, DialError> {
    let mut last = None;
    for to in addresses(host, port).await? {
        let tcp = match timeout(PATIENCE, TcpStream::connect(to)).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(error)) => {
                last = Some(connect_error(to, error));
                continue;
            }
            Err(_) => {
                last = Some(connect_error(to, io::ErrorKind::TimedOut.into()));
                continue;
            }
        };
        // Without, a connection that is only listened to stays for ever when its other end has gone without a word.
        let _best_effort = keep_alive(&tcp);
        // Records are written whole; waiting for more only makes them late.
        let _best_effort = tcp.set_nodelay(true);
        let Some((tls, endpoint_id)) = tls else {
            return Ok(Stream::Tcp(tcp));
        };
        match tls.connect(tcp, host, endpoint_id).await {
            Ok(stream) => return Ok(Stream::Tls(Box::new(stream))),
            Err(error @ (TlsError::Io(_) | TlsError::Timeout)) => last = Some(error.into()),
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.unwrap_or_else(|| DialError::Unresolvable {
        host: host.to_owned(),
        reason: "no address".to_owned(),
    }))
}

fn keep_alive(tcp: &TcpStream) -> io::Result<()> {
    let keep_alive = TcpKeepalive::new()
        .with_time(SILENCE)
        .with_interval(PROBES_EVERY)
        .with_retries(PROBES);
    SockRef::from(tcp).set_tcp_keepalive(&keep_alive)
}

fn connect_error(to: SocketAddr, error: io::Error) -> DialError {
    DialError::Connect {
        to,
        source: Arc::new(error),
    }
}

async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
    let unresolvable = |reason: String| DialError::Unresolvable {
        host: host.to_owned(),
        reason,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let looked_up = timeout(PATIENCE, tokio::net::lookup_host((bare, port)))
        .await
        .map_err(|_| unresolvable("the resolver did not answer in time".to_owned()))?
        .map_err(|error| unresolvable(error.to_string()))?;
    let mut found: Vec<SocketAddr> = Vec::new();
    for address in looked_up {
        if found.len() < MAX_ADDRESSES && !found.contains(&address) {
            found.push(address);
        }
    }
    Ok(found)
}

/// A connection of any kind that a Message Transfer Protocol runs over.
#[derive(Debug)]
pub enum Stream {
    /// TCP without security.
    Tcp(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
    /// A UNIX domain socket.
    Unix(UnixStream),
    /// To a proxy that has ended the peer's TLS and vouches for it.
    Vouched(Box<Vouched<Stream>>),
}

impl Stream {
    /// Who proved to be there; `None` without security.
    pub fn identity(&self) -> Option<Arc<PeerIdentity>> {
        match self {
            Self::Tls(stream) => Some(stream.identity()),
            Self::Vouched(stream) => Some(stream.identity()),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }

    /// Resolves when the peer is not trusted any more, see [`TlsStream::distrusted`]; never without security.
    pub fn distrusted(&self) -> impl Future<Output = Distrust> + Send + 'static {
        let (own, vouched) = match self {
            Self::Tls(stream) => (Some(stream.distrusted()), None),
            Self::Vouched(stream) => (None, Some(stream.distrusted())),
            Self::Tcp(_) | Self::Unix(_) => (None, None),
        };
        async move {
            match (own, vouched) {
                (Some(distrusted), _) => distrusted.await,
                (_, Some(distrusted)) => distrusted.await,
                _ => std::future::pending().await,
            }
        }
    }

    /// Whether the peer has proved who it is: TLS, here or at the proxy.
    pub fn is_secure(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::Vouched(_))
    }

    /// The peer's address; `None` of a UNIX domain socket, or when it has gone.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok(),
            Self::Tls(stream) => stream.get_ref().peer_addr().ok(),
            Self::Vouched(stream) => stream.get_ref().peer_addr(),
            Self::Unix(_) => None,
        }
    }
}

impl From<TlsStream<TcpStream>> for Stream {
    fn from(stream: TlsStream<TcpStream>) -> Self {
        Self::Tls(Box::new(stream))
    }
}

macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $call,
            Stream::Tls($stream) => {
                let $stream = &mut **$stream;
                $call
            }
            Stream::Unix($stream) => $call,
            Stream::Vouched($stream) => {
                let $stream = &mut **$stream;
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write_vectored(cx, buffers))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Vouched(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
