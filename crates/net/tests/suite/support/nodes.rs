//! Live endpoints on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use homefleet_coap::{Code, Config, Response, content_format};
use homefleet_net::coap::{Incoming, Node, NodeConfig, Security};
use homefleet_net::dtls::{self, Verifier};
use homefleet_net::mtp::{CoapMtp, CoapMtpConfig, Destination, Event, Interface, Route};
use homefleet_trust::PeerIdentity;
use homefleet_usp::{EndpointId, Record};
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
            groups: Vec::new(),
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
        groups: Vec::new(),
        path: "usp".to_owned(),
        advertise: None,
        credentials: issued.credentials(),
        verifier,
        coap: brisk(),
        dtls: dtls::Config::default(),
        // Replaced when it is bound.
        events: mpsc::channel(1).0,
    }
}

/// A Record that came in over CoAP.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) record: Record,
    pub(crate) identity: Option<Arc<PeerIdentity>>,
    pub(crate) reply_to: Destination,
}

/// What an MTP received.
pub(crate) struct Inbox(pub(crate) mpsc::Receiver<Event>);

impl Inbox {
    pub(crate) async fn recv(&mut self) -> Option<Received> {
        self.0.recv().await.map(received)
    }

    pub(crate) fn try_recv(&mut self) -> Result<Received, mpsc::error::TryRecvError> {
        self.0.try_recv().map(received)
    }
}

fn received(event: Event) -> Received {
    let Event::Record { record, origin } = event else {
        panic!("no Record: {event:?}");
    };
    let Some(Route::Coap(uri)) = origin.reply_to else {
        panic!("no way back over CoAP: {origin:?}");
    };
    assert_eq!(origin.channel, None);
    Received {
        reply_to: Destination {
            uri,
            endpoint_id: Some(record.from_id().clone()),
        },
        record: *record,
        identity: origin.identity,
    }
}

pub(crate) async fn bind(mut config: CoapMtpConfig) -> (CoapMtp, Inbox) {
    let (events, inbox) = mpsc::channel(4096);
    config.events = events;
    (CoapMtp::bind(config).await.unwrap(), Inbox(inbox))
}

pub(crate) fn destination(scheme: &str, addr: SocketAddr, id: Option<&str>) -> Destination {
    Destination {
        uri: format!("{scheme}://localhost:{}/usp", addr.port())
            .parse()
            .unwrap(),
        endpoint_id: id.map(|id| id.parse::<EndpointId>().unwrap()),
    }
}
