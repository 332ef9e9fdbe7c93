//! Over CoAP and CoAP over DTLS (RFC 9482).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use homefleet_coap::{Code, Request, RequestError, Response, Uri, content_format};

use super::error::{ExchangeError, ResponseCode, printable};
use super::{Client, ClientConfig};
use crate::cmp::service::Scheme;
use crate::cmp::url::Url;
use crate::coap::{
    Incoming, Node, NodeConfig, Observation, Repeat, RequestFailure, Security, Target,
};

/// Exchanges under way at once.
const MAX_REQUESTS: usize = 1024;

/// Opens the endpoint of one scheme. It answers nothing.
pub(super) fn bind(config: &ClientConfig, scheme: Scheme, local: SocketAddr) -> io::Result<Node> {
    let secure = scheme.is_secure().then(|| Security {
        listen: local,
        credentials: config.identity.clone().unwrap_or_default(),
        verifier: config.trust.verifier(),
        dtls: config.dtls.clone(),
    });
    let nothing = |_: Incoming<'_>| Some(Response::new(Code::NOT_FOUND));
    Node::bind(
        NodeConfig {
            plain_listen: secure.is_none().then_some(local),
            secure,
            groups: Vec::new(),
            coap: homefleet_coap::Config {
                max_body: config.max_answer,
                ..config.coap.clone()
            },
            max_requests: MAX_REQUESTS,
            doubt_after: config.doubt_after,
        },
        nothing,
    )
}

impl Client {
    pub(super) async fn over_coap(
        &self,
        url: &Url,
        message: &[u8],
    ) -> Result<Vec<u8>, ExchangeError> {
        let uri = uri(url)?;
        let mut request: Request = uri
            .request(Code::POST)
            .content_format(content_format::PKIXCMP)
            .payload(message);
        if !self.shared.config.accept_octet_stream {
            request = request.accept(content_format::PKIXCMP);
        }
        let node = self.node(url.scheme).await?;
        let response = node
            .request_repeating(&Target::new(&uri, None), request, Repeat::UntilHeard)
            .await
            .map_err(ExchangeError::from)?;
        self.message_of(response)
    }

    pub(super) async fn observe_coap(&self, url: &Url) -> Result<Announcements, ExchangeError> {
        let uri = uri(url)?;
        let request = uri.request(Code::GET).accept(content_format::PKIXCMP);
        let node = self.node(url.scheme).await?;
        let observation = node.observe(&Target::new(&uri, None), request).await?;
        Ok(Announcements {
            client: self.clone(),
            observation,
            kept: true,
        })
    }

    fn message_of(&self, response: Response) -> Result<Vec<u8>, ExchangeError> {
        let format = response.options.content_format();
        let is_message = format == Some(content_format::PKIXCMP)
            || self.shared.config.accept_octet_stream
                && format == Some(content_format::OCTET_STREAM);
        if is_message && !response.payload.is_empty() {
            return Ok(response.payload);
        }
        if response.code.is_success() {
            let name = |format: u16| {
                content_format::media_type(format)
                    .map_or_else(|| format!("content-format {format}"), str::to_owned)
            };
            return Err(ExchangeError::NoMessage(
                format
                    .filter(|_| !response.payload.is_empty())
                    .map(name)
                    .or_else(|| {
                        (!response.payload.is_empty()).then(|| "bytes without format".to_owned())
                    }),
            ));
        }
        let later = matches!(
            response.code,
            Code::SERVICE_UNAVAILABLE | Code::TOO_MANY_REQUESTS
        );
        let retry_after = response.options.max_age().filter(|_| later);
        Err(ExchangeError::Refused {
            code: ResponseCode::Coap(response.code),
            diagnostic: if format.is_none() {
                printable(&response.payload)
            } else {
                String::new()
            },
            retry_after: retry_after.map(|seconds| Duration::from_secs(u64::from(seconds))),
        })
    }
}

/// What a server announces. Dropping it ends the observation.
pub struct Announcements {
    client: Client,
    observation: Observation,
    kept: bool,
}

impl Announcements {
    /// What is announced now first, then each change; a PKIMessage in DER, empty while nothing is announced. It has not been looked at.
    /// `None` when nothing follows any more: to hear more one observes again.
    ///
    /// # Errors
    /// [`ExchangeError`]; nothing follows.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>, ExchangeError>> {
        let response = match self.observation.next().await? {
            Ok(response) => response,
            Err(failure) => {
                self.kept = false;
                return Some(Err(failure.into()));
            }
        };
        self.kept = response.code.is_success() && response.options.observe().is_some();
        let nothing = response.code == Code::CONTENT && response.payload.is_empty();
        Some(if nothing {
            Ok(Vec::new())
        } else {
            self.client.message_of(response)
        })
    }

    /// Whether the server keeps us as an observer, as far as the last answer says. One that has no room answers all the same (RFC 9482 §2.6):
    /// one may try again after some time.
    pub fn is_kept(&self) -> bool {
        self.kept
    }
}

fn uri(url: &Url) -> Result<Uri, ExchangeError> {
    if url.host.parse().is_ok_and(|ip: IpAddr| ip.is_multicast()) {
        return Err(ExchangeError::NotUnicast);
    }
    Ok(Uri {
        scheme: match url.scheme {
            Scheme::Coaps => homefleet_coap::Scheme::Coaps,
            _ => homefleet_coap::Scheme::Coap,
        },
        host: url.host.clone(),
        port: url.port,
        path: url.path.clone(),
        query: Vec::new(),
    })
}

impl From<RequestFailure> for ExchangeError {
    fn from(failure: RequestFailure) -> Self {
        match failure {
            RequestFailure::Unresolvable { host } => Self::Unresolvable(host),
            RequestFailure::Untrusted { ref decision, .. } => match decision.refusal() {
                Some(refusal) => Self::Untrusted(Box::new(refusal.clone())),
                None => Self::Handshake(failure.to_string()),
            },
            RequestFailure::Handshake { .. } => Self::Handshake(failure.to_string()),
            RequestFailure::Coap(error) => match error {
                RequestError::Timeout => Self::NoAnswer,
                RequestError::PeerGone => Self::Interrupted(error.to_string()),
                RequestError::Reset => Self::Reset,
                RequestError::TooLarge { limit } => Self::TooLarge { limit },
                RequestError::QueueFull => Self::Busy,
                RequestError::InvalidDestination => Self::NotUnicast,
                other => Self::Protocol(other.to_string()),
            },
            RequestFailure::Busy => Self::Busy,
            RequestFailure::Disabled(_) | RequestFailure::Closed => {
                Self::Socket(Arc::new(io::ErrorKind::NotConnected.into()))
            }
        }
    }
}
