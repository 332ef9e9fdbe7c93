//! Over HTTP and HTTPS (RFC 9811).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{
    ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName,
    RETRY_AFTER, USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use super::Client;
use super::error::{ExchangeError, ResponseCode, printable};
use crate::cmp::service::Scheme;
use crate::cmp::url::Url;
use crate::tls::{DialError, TlsError, dial};

/// The media type of a PKIMessage (RFC 9811 §3.4).
const PKIXCMP: &str = "application/pkixcmp";
/// Bytes of the head of an answer.
const MAX_HEAD: usize = 16 * 1024;
/// Bytes of an answer without PKIMessage that are read for what it says.
const MAX_DIAGNOSTIC: usize = 4096;

/// A message on its way out. Each frame is a chunk where it is chunked.
struct Outgoing {
    bytes: Bytes,
    chunked: bool,
    chunk: usize,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let len = self.bytes.len().min(self.chunk.max(1));
        let frame = (len > 0).then(|| Ok(Frame::data(self.bytes.split_to(len))));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.chunked {
            SizeHint::default()
        } else {
            SizeHint::with_exact(self.bytes.len() as u64)
        }
    }
}

type Sender = SendRequest<Outgoing>;

/// Connections that wait for the next exchange.
pub(super) struct Pool {
    max: usize,
    idle: Mutex<VecDeque<(Place, Sender)>>,
}

/// What a connection leads to.
type Place = (Scheme, String, u16);

impl Pool {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            idle: Mutex::default(),
        }
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn take(&self, place: &Place) -> Option<Sender> {
        let mut idle = self.lock();
        idle.retain(|(_, sender)| !sender.is_closed());
        let at = idle.iter().rposition(|(other, _)| other == place)?;
        idle.remove(at).map(|(_, sender)| sender)
    }

    fn put(&self, place: Place, sender: Sender) {
        let mut idle = self.lock();
        idle.push_back((place, sender));
        while idle.len() > self.max {
            idle.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Place, Sender)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    pub(super) async fn over_http(
        &self,
        url: &Url,
        message: &[u8],
    ) -> Result<Vec<u8>, ExchangeError> {
        let place = (url.scheme, url.host.clone(), url.port);
        // A connection that was kept may have been closed meanwhile, just when the message left; without a byte in answer that is what
        // happened, and the message leaves over another one. Were it known already, the server would say so.
        while let Some(mut sender) = self.shared.pool.take(&place) {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.send_request(self.request(url, message)?).await {
                Ok(response) => return self.read(place, sender, response).await,
                Err(error) if error.is_parse() => return Err(interrupted(&error)),
                Err(_) => {}
            }
        }
        let mut sender = self.open(url).await?;
        let response = sender
            .send_request(self.request(url, message)?)
            .await
            .map_err(|error| interrupted(&error))?;
        self.read(place, sender, response).await
    }

    fn request(&self, url: &Url, message: &[u8]) -> Result<Request<Outgoing>, ExchangeError> {
        Request::builder()
            .method(Method::POST)
            .uri(url.path_text())
            .header(HOST, url.authority())
            .header(USER_AGENT, concat!("homefleet/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, PKIXCMP)
            .header(ACCEPT, PKIXCMP)
            // Nothing in between may answer from memory (RFC 9811 §3.3).
            .header(HeaderName::from_static("cache-control"), "no-cache")
            .body(Outgoing {
                bytes: Bytes::copy_from_slice(message),
                chunked: self.shared.config.chunked,
                chunk: if self.shared.config.chunked {
                    self.shared.config.chunk
                } else {
                    usize::MAX
                },
            })
            .map_err(|error| ExchangeError::Protocol(error.to_string()))
    }

    async fn open(&self, url: &Url) -> Result<Sender, ExchangeError> {
        let tls = url.scheme.is_secure().then_some((&self.shared.tls, None));
        let stream = dial(&url.host, url.port, tls).await?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| interrupted(&error))?;
        // It ends when the sender is dropped, or the server closes it.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    async fn read(
        &self,
        place: Place,
        sender: Sender,
        response: Response<Incoming>,
    ) -> Result<Vec<u8>, ExchangeError> {
        let (head, body) = response.into_parts();
        let media = media_type(&head.headers);
        let is_message = media.as_deref() == Some(PKIXCMP);
        let limit = if is_message {
            self.shared.config.max_answer
        } else {
            MAX_DIAGNOSTIC
        };
        if encoded(&head.headers) {
            return Err(ExchangeError::Protocol("its body is encoded".to_owned()));
        }
        let body = gather(body, &head.headers, limit).await;
        // A body that was not read to its end keeps the connection.
        if body.is_ok() {
            self.shared.pool.put(place, sender);
        }
        if is_message {
            let body = body?;
            if !body.is_empty() {
                return Ok(body);
            }
        } else if !head.status.is_success() {
            return Err(refused(head.status, &head.headers, media.as_deref(), body));
        }
        if head.status.is_success() {
            Err(ExchangeError::NoMessage(media.filter(|_| !is_message)))
        } else {
            Err(refused(head.status, &head.headers, None, Ok(Vec::new())))
        }
    }
}

async fn gather(
    mut body: Incoming,
    headers: &HeaderMap,
    limit: usize,
) -> Result<Vec<u8>, ExchangeError> {
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(ExchangeError::TooLarge { limit });
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| interrupted(&error))?;
        if let Some(data) = frame.data_ref() {
            if bytes.len() + data.len() > limit {
                return Err(ExchangeError::TooLarge { limit });
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(bytes)
}

fn refused(
    status: StatusCode,
    headers: &HeaderMap,
    media: Option<&str>,
    body: Result<Vec<u8>, ExchangeError>,
) -> ExchangeError {
    let is_text = media == Some("text/plain");
    let retry_after = headers
        .get(RETRY_AFTER)
        .and_then(|after| after.to_str().ok()?.trim().parse().ok())
        .map(|seconds: u32| Duration::from_secs(u64::from(seconds)));
    ExchangeError::Refused {
        code: ResponseCode::Http(status.as_u16()),
        diagnostic: match body {
            Ok(body) if is_text => printable(&body),
            _ => String::new(),
        },
        retry_after,
    }
}

/// The media type without parameters, in lower case.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.as_bytes();
    let text = printable(text.split(|byte| *byte == b';').next()?);
    (!text.is_empty()).then(|| text.to_ascii_lowercase())
}

fn encoded(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_ENCODING)
        .is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn interrupted(error: &hyper::Error) -> ExchangeError {
    if error.is_parse() {
        ExchangeError::Protocol(error.to_string())
    } else {
        ExchangeError::Interrupted(error.to_string())
    }
}

impl From<DialError> for ExchangeError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Unresolvable { host, .. } => Self::Unresolvable(host),
            DialError::Tls(TlsError::Refused(decision)) => match decision.refusal() {
                Some(refusal) => Self::Untrusted(Box::new(refusal.clone())),
                None => Self::Handshake("the server was refused".to_owned()),
            },
            DialError::Tls(TlsError::Io(error)) => Self::Connect(error.to_string()),
            DialError::Tls(error) => Self::Handshake(error.to_string()),
            DialError::Connect { .. } => Self::Connect(error.to_string()),
        }
    }
}
