//! The server's side of the opening handshake (RFC 6455 §4.2, R-WS.11 to R-WS.12a).

use std::io;

use homefleet_usp::EndpointId;
use homefleet_usp::mtp::websocket::{Admission, HandshakeError, Request, SUBPROTOCOL, handshake};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::machine::TryParse as _;
use tokio_tungstenite::tungstenite::handshake::server;
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Error as WsError};

use crate::tls::{Stream, TlsError};

use super::forwarded::ForwardedError;

/// Why a connection does not become a session.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejection {
    /// It ended, or nothing can be written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is no request of an opening handshake.
    #[error("no opening handshake: {0}")]
    Http(WsError),
    /// The request has more than so many bytes.
    #[error("a request of more than {0} bytes")]
    TooLong(usize),
    /// USP says no.
    #[error("{0}")]
    Usp(#[from] HandshakeError),
    /// The request does not come in time, or its answer is not read.
    #[error("the opening handshake took too long")]
    Late,
    /// Only proxies come here without TLS.
    #[error("not from a proxy")]
    NoProxy,
    /// A certificate in a header, from who is no proxy.
    #[error("a certificate in a header, and not from a proxy")]
    Foreign,
    /// What the proxy hands on is no certificate.
    #[error("{0}")]
    Forwarded(#[from] ForwardedError),
    /// The certificate that the proxy hands on is refused, or there is none (R-MTP.1, R-MTP.4).
    #[error(transparent)]
    Untrusted(TlsError),
    /// There are too many sessions.
    #[error("too many sessions")]
    Full,
}

impl Rejection {
    fn status(&self) -> Option<StatusCode> {
        Some(match self {
            Self::Io(_) | Self::Late | Self::NoProxy => return None,
            Self::Foreign | Self::Forwarded(_) => StatusCode::BAD_REQUEST,
            Self::Untrusted(_) => StatusCode::FORBIDDEN,
            Self::Http(WsError::Protocol(error)) => match error {
                ProtocolError::WrongHttpMethod => StatusCode::METHOD_NOT_ALLOWED,
                ProtocolError::MissingConnectionUpgradeHeader
                | ProtocolError::MissingUpgradeWebSocketHeader
                | ProtocolError::MissingSecWebSocketVersionHeader => StatusCode::UPGRADE_REQUIRED,
                _ => StatusCode::BAD_REQUEST,
            },
            Self::Http(_) => StatusCode::BAD_REQUEST,
            Self::TooLong(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Usp(error) => {
                StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST)
            }
            Self::Full => StatusCode::SERVICE_UNAVAILABLE,
        })
    }

    /// The whole answer; nothing of it is the peer's text.
    fn answer(&self) -> Option<String> {
        let status = self.status()?;
        let more = match status {
            StatusCode::METHOD_NOT_ALLOWED => "Allow: GET\r\n",
            StatusCode::UPGRADE_REQUIRED => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            StatusCode::SERVICE_UNAVAILABLE => "Retry-After: 30\r\n",
            _ => "",
        };
        Some(format!(
            "HTTP/1.1 {status}\r\n{more}Connection: close\r\nContent-Length: 0\r\n\r\n"
        ))
    }
}

/// A request that came whole.
pub(super) struct Head {
    pub(super) request: server::Request,
    /// What came after it.
    rest: Vec<u8>,
}

/// Reads the request, of at most `max` bytes.
pub(super) async fn read(stream: &mut Stream, max: usize) -> Result<Head, Rejection> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        // The end may have come in two parts.
        let seen = bytes.len().saturating_sub(3);
        let room = (max + 1).saturating_sub(bytes.len()) as u64;
        if (&mut *stream).take(room).read_buf(&mut bytes).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let is_whole = bytes
            .get(seen..)
            .is_some_and(|new| new.windows(4).any(|end| end == b"\r\n\r\n"));
        if is_whole {
            break;
        }
        if bytes.len() > max {
            return Err(Rejection::TooLong(max));
        }
    }
    match server::Request::try_parse(&bytes) {
        Ok(Some((length, request))) => Ok(Head {
            request,
            rest: bytes.split_off(length),
        }),
        Ok(None) => Err(Rejection::Http(WsError::Protocol(
            ProtocolError::HandshakeIncomplete,
        ))),
        Err(error) => Err(Rejection::Http(error)),
    }
}

/// Decides whether the client may come in, whose certificate, if it has one, `certifies` an Endpoint.
pub(super) fn admit(
    head: &Head,
    path: &str,
    own: &EndpointId,
    certifies: impl FnOnce(&EndpointId) -> bool,
) -> Result<(Admission, server::Response), Rejection> {
    let mut response = server::create_response(&head.request).map_err(Rejection::Http)?;
    let lines = |name| -> Vec<&str> {
        let lines = head.request.headers().get_all(name).into_iter();
        lines.filter_map(|line| line.to_str().ok()).collect()
    };
    let target = head.request.uri().path_and_query();
    let request = Request {
        target: target.map_or("/", |target| target.as_str()),
        protocols: &lines(header::SEC_WEBSOCKET_PROTOCOL),
        extensions: &lines(header::SEC_WEBSOCKET_EXTENSIONS),
    };
    let admission = handshake::admit(request, path, own, certifies)?;
    let headers = response.headers_mut();
    headers.insert(
        header::SEC_WEBSOCKET_PROTOCOL,
        HeaderValue::from_static(SUBPROTOCOL),
    );
    let extension = admission.extension.as_deref().map(HeaderValue::from_str);
    if let Some(Ok(extension)) = extension {
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, extension);
    }
    Ok((admission, response))
}

/// Lets the client in.
pub(super) async fn answer(
    mut stream: Stream,
    head: Head,
    response: &server::Response,
    config: WebSocketConfig,
) -> Result<WebSocketStream<Stream>, Rejection> {
    let mut bytes = Vec::new();
    server::write_response(&mut bytes, response).map_err(Rejection::Http)?;
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    Ok(WebSocketStream::from_partially_read(stream, head.rest, Role::Server, Some(config)).await)
}

/// Tells the client why it does not come in.
pub(super) async fn refuse(stream: &mut Stream, rejection: &Rejection) -> io::Result<()> {
    if let Some(answer) = rejection.answer() {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // Closing with something unread would take the answer away.
        let mut waste = [0; 1024];
        while stream.read(&mut waste).await? > 0 {}
    }
    Ok(())
}

/// How a connection is read and written: buffers of a size that many sessions can have, no message larger than a Record.
pub(super) fn frames(max_record: usize) -> WebSocketConfig {
    tungstenite::protocol::WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(64 * 1024)
        .max_message_size(Some(max_record))
        .max_frame_size(Some(max_record))
}
