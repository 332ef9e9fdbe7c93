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
use crate::coap::{Incoming, Node, NodeConfig, Repeat, RequestFailure, Security, Target};

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
        if url.host.parse().is_ok_and(|ip: IpAddr| ip.is_multicast()) {
            return Err(ExchangeError::NotUnicast);
        }
        let scheme = match url.scheme {
            Scheme::Coaps => homefleet_coap::Scheme::Coaps,
            _ => homefleet_coap::Scheme::Coap,
        };
        let uri = Uri {
            scheme,
            host: url.host.clone(),
            port: url.port,
            path: url.path.clone(),
            query: Vec::new(),
        };
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
