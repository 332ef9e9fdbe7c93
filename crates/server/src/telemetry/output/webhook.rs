//! POST of batches to an HTTP server: JSON lines (`application/x-ndjson`), one message a line. 2xx takes the batch. 408, 429 and 5xx, and
//! whatever goes wrong before an answer, are tried again. Any other answer refuses the batch for good.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::stream::{self, Stream};
use super::{Sending, Sink, SinkError};
use crate::config::NotifOutput;
use crate::telemetry::message::Message;

/// Longest time for a request and its answer.
const ANSWER: Duration = Duration::from_secs(30);

/// An HTTP server.
pub(super) struct Webhook {
    host: String,
    port: u16,
    authority: String,
    target: String,
    authorization: Option<HeaderValue>,
    tls: Option<TlsConnector>,
    /// The connection, while it stands.
    sender: Option<http1::SendRequest<Full<Bytes>>>,
}

impl Webhook {
    pub(super) fn new(config: &NotifOutput) -> Result<Self, String> {
        let url = config.url.as_deref().ok_or("url: it is missing")?;
        let uri: Uri = url.parse().map_err(|error| format!("url: {error}"))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("url: expected http:// or https://".to_owned()),
        };
        let authority = uri.authority().ok_or("url: it has no host")?;
        if authority.as_str().contains('@') {
            return Err("url: a secret belongs into token_file, not here".to_owned());
        }
        let tls = match (secure, config.ca.as_deref()) {
            (true, Some(ca)) => Some(stream::connector(ca)?),
            (true, None) => return Err("ca: https needs the CA of the server".to_owned()),
            (false, _) => None,
        };
        Ok(Self {
            host: authority.host().to_owned(),
            port: authority
                .port_u16()
                .unwrap_or(if secure { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            target: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
            authorization: config.token_file.as_deref().map(bearer).transpose()?,
            tls,
            sender: None,
        })
    }

    async fn connect(&self) -> Result<http1::SendRequest<Full<Bytes>>, SinkError> {
        let stream = stream::connect(&self.host, self.port).await?;
        let stream: Box<dyn Stream> = match &self.tls {
            Some(tls) => stream::secure(tls, &self.host, stream).await?,
            None => Box::new(stream),
        };
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(SinkError::away)?;
        // It ends when the sender is dropped.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    async fn post(&mut self, batch: &[Arc<Message>]) -> Result<u64, SinkError> {
        let length = batch.iter().map(|message| message.record().len() + 1).sum();
        let mut body = Vec::with_capacity(length);
        for message in batch {
            body.extend_from_slice(message.record());
            body.push(b'\n');
        }
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&self.target)
            .header(HOST, &self.authority)
            .header(USER_AGENT, concat!("homefleet/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/x-ndjson");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(SinkError::away)?;
        let mut sender = match self.sender.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => self.connect().await?,
        };
        sender.ready().await.map_err(SinkError::away)?;
        let response = sender
            .send_request(request)
            .await
            .map_err(SinkError::away)?;
        let status = response.status();
        // The answer's text is of no use; a short one is read, so that the connection can be used again.
        let body = http_body_util::Limited::new(response.into_body(), 64 * 1024);
        if body.collect().await.is_ok() {
            self.sender = Some(sender);
        }
        match status.as_u16() {
            200..=299 => Ok(0),
            408 | 429 | 500..=599 => Err(SinkError::Away(format!("it answered {status}"))),
            _ => Err(SinkError::Refused(format!("it answered {status}"))),
        }
    }
}

impl Sink for Webhook {
    fn deliver<'a>(&'a mut self, batch: &'a [Arc<Message>]) -> Sending<'a> {
        Box::pin(async move {
            match timeout(ANSWER, self.post(batch)).await {
                Ok(done) => done,
                Err(_) => Err(SinkError::Away("no answer in time".to_owned())),
            }
        })
    }
}

/// The header with a token; never shown.
fn bearer(path: &Path) -> Result<HeaderValue, String> {
    let token = stream::secret("token_file", path)?;
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| "token_file: the token has characters that no header may have".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}
