//! What an endpoint tells its driver.

use crate::error::RequestError;
use crate::peer::Peer;
use crate::request::{Request, Response};

/// One of our own requests, from [`crate::Endpoint::request`] to its last event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

/// One request of a peer, waiting for [`crate::Endpoint::respond`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeId(pub(crate) u64);

/// One observer of ours (RFC 7641 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObservationId(pub(crate) u64);

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: Peer,
    /// The datagram.
    pub payload: Vec<u8>,
}

/// Something for the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer asks; answer with [`crate::Endpoint::respond`].
    Request {
        /// What to answer with.
        exchange: ExchangeId,
        /// Who asks.
        from: Peer,
        /// The request with its whole body.
        request: Request,
    },
    /// The answer to one of our requests. It is the last event of that request, unless the request
    /// asked for notifications and the response has an Observe option.
    Response {
        /// Which request.
        id: RequestId,
        /// Who answers.
        from: Peer,
        /// The response with its whole body.
        response: Response,
    },
    /// One of our requests came to nothing; its last event.
    Failed {
        /// Which request.
        id: RequestId,
        /// Why.
        error: RequestError,
    },
    /// A notification for one of our observing requests (RFC 7641 §3.2).
    Notification {
        /// Which request.
        id: RequestId,
        /// The resource's new state, with its whole body.
        response: Response,
    },
    /// An observer of ours is gone: it reset or timed out, deregistered, or its peer is forgotten.
    ObserverGone {
        /// Which observation.
        id: ObservationId,
    },
}
