//! Where a request goes, and how it may fail.

use std::net::SocketAddr;

use homefleet_coap::{RequestError, Scheme, Uri};
use homefleet_trust::{Decision, PeerIdentity, Refusal};

use crate::dtls::Expected;

/// Whom a request goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `coap` or `coaps`.
    pub scheme: Scheme,
    /// Host name or address literal.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Endpoint ID expected behind it, when known: the peer's certificate, or an open association, is judged by it.
    pub endpoint_id: Option<String>,
}

impl Target {
    /// The host and port of a URI.
    pub fn new(uri: &Uri, endpoint_id: Option<String>) -> Self {
        Self {
            scheme: uri.scheme,
            host: uri.host.clone(),
            port: uri.port,
            endpoint_id,
        }
    }

    pub(super) fn expected(&self) -> Expected {
        Expected {
            host: self.host.clone(),
            endpoint_id: self.endpoint_id.clone(),
        }
    }

    /// Whether an association whose peer was verified for another purpose may serve this one: it has authenticated as
    /// the Endpoint, or, when none is named, as the host.
    pub(super) fn is(&self, peer: &PeerIdentity) -> bool {
        match &self.endpoint_id {
            Some(endpoint_id) => peer.is_endpoint(endpoint_id),
            None => peer
                .dns_names
                .iter()
                .any(|name| name.eq_ignore_ascii_case(self.host.trim_end_matches('.'))),
        }
    }
}

/// Whether a request is sent again over another association.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// When the peer has been silent for a while, also after it acknowledged the request: whoever asks does not mind that it comes twice.
    Freely,
    /// Only when not a word was heard since it was sent: an association that the peer has forgotten, most likely. A peer that acknowledged
    /// it has it, and gets all the time that CoAP allows.
    UntilHeard,
    /// Never: it leaves over one association and is given up with it.
    Never,
}

/// Why a request has no response.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestFailure {
    /// The host has no address that can be sent to from here.
    #[error("{host} has no usable address")]
    Unresolvable {
        /// The host.
        host: String,
    },
    /// The scheme is not enabled on this node.
    #[error("this endpoint does not speak {0}")]
    Disabled(Scheme),
    /// We refused the peer's certificate.
    #[error("{addr} was refused: {}", .decision.refusal().map_or_else(String::new, Refusal::to_string))]
    Untrusted {
        /// The address tried.
        addr: SocketAddr,
        /// The decision with every step.
        decision: Box<Decision>,
    },
    /// The DTLS handshake failed.
    #[error("the DTLS handshake with {addr} failed: {reason}")]
    Handshake {
        /// The last address tried.
        addr: SocketAddr,
        /// What happened.
        reason: String,
    },
    /// CoAP gave up, or the peer rejected the request.
    #[error(transparent)]
    Coap(#[from] RequestError),
    /// Too many requests are under way.
    #[error("too many requests are under way")]
    Busy,
    /// The node is shut down.
    #[error("the endpoint is shut down")]
    Closed,
}
