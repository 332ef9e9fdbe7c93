//! Live endpoints on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use homefleet_coap::{Code, Config, Response, content_format};
use homefleet_net::coap::{Incoming, Node, NodeConfig, Security};
use homefleet_net::dtls::{self, Verifier};
use homefleet_net::mtp::{CoapMtp, CoapMtpConfig, Destination, Interface, Received};
use homefleet_usp::EndpointId;
use tokio::sync::mpsc;

use super::pki::Issued;

pub(crate) const LOOPBACK: &str = "127.0.0.1:0";

/// CoAP that is in a hurry, so that tests under loss end soon.
pub(crate) fn brisk() -> Config {
    Config {
        ack_timeout: Duration::from_millis(300),
        max_retransmit: 6,
        ..Config::default()
    }
}

/// `POST` or `PUT /echo` gives back the body; `GET /big` gives 5,000 bytes; `/who` says who asks.
pub(crate) fn echo(incoming: Incoming<'_>) -> Option<Response> {
    let request = &incoming.request;
    Some(match request.options.path().as_str() {
        "echo" => Response::new(Code::CHANGED)
            .content_format(content_format::OCTET_STREAM)
            .payload(request.payload.clone()),
        "big" => Response::content(content_format::OCTET_STREAM, big()),
        "who" => Response::content(
            content_format::TEXT_PLAIN,
            incoming
                .identity
                .and_then(|identity| identity.endpoint_ids.first().cloned())
                .unwrap_or_else(|| "nobody".to_owned()),
        ),
        _ => Response::new(Code::NOT_FOUND),
    })
}

pub(crate) fn big() -> Vec<u8> {
    (0..5000_u32).map(|n| (n % 251) as u8).collect()
}

pub(crate) fn node(issued: &Issued, verifier: Arc<dyn Verifier>) -> Node {
    node_with(issued, verifier, brisk(), dtls::Config::default())
}

pub(crate) fn node_with(
    issued: &Issued,
    verifier: Arc<dyn Verifier>,
    coap: Config,
    dtls: dtls::Config,
) -> Node {
    Node::bind(
        NodeConfig {
            secure: Some(Security {
                listen: LOOPBACK.parse().unwrap(),
                credentials: issued.credentials(),
                verifier,
                dtls,
            }),
            plain_listen: Some(LOOPBACK.parse().unwrap()),
            coap,
            max_requests: 1000,
            doubt_after: Duration::from_millis(500),
        },
        echo,
    )
    .unwrap()
}

pub(crate) fn mtp_config(
    id: &str,
    interface: Interface,
    issued: &Issued,
    verifier: Arc<dyn Verifier>,
) -> CoapMtpConfig {
    CoapMtpConfig {
        endpoint_id: id.parse().unwrap(),
        interface,
        listen: LOOPBACK.parse().unwrap(),
        plain_listen: None,
        path: "usp".to_owned(),
        advertise: None,
        credentials: issued.credentials(),
        verifier,
        coap: brisk(),
        dtls: dtls::Config::default(),
    }
}

pub(crate) async fn bind(config: CoapMtpConfig) -> (CoapMtp, mpsc::Receiver<Received>) {
    CoapMtp::bind(config).await.unwrap()
}

pub(crate) fn destination(scheme: &str, addr: SocketAddr, id: Option<&str>) -> Destination {
    Destination {
        uri: format!("{scheme}://localhost:{}/usp", addr.port())
            .parse()
            .unwrap(),
        endpoint_id: id.map(|id| id.parse::<EndpointId>().unwrap()),
    }
}
