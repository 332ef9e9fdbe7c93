//! USP over Message Transfer Protocols, shared by agent and server.
//!
//! | module | what |
//! |---|---|
//! | [`coap`] | CoAP over UDP, with DTLS or without |
//! | [`mqtt`] | MQTT 5.0 and 3.1.1 through brokers |
//! | [`Mtps`] | all of them as one |
//! | [`Route`] | the way to an Endpoint, and its text |
//! | [`Status`] | how a connection stands that is to be kept open, for all that have connections |
//! | [`stomp`] | STOMP 1.2 through a broker |
//! | [`uds`] | UNIX domain sockets, for Endpoints on the same device |
//! | [`websocket`] | WebSocket sessions, with TLS or without |
//!
//! Every MTP hands what happens to one queue of [`Event`]s, and takes Records for a [`Route`]. Two things are its own
//! business, so that nobody above can forget them: that nothing passes before the peer's certificate was decided about
//! (R-MTP.1, R-MTP.4), and that a Record's `from_id` is the Endpoint that the certificate proves (R-SEC.0a).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use homefleet_coap::{Code, RequestError};
use homefleet_trust::{Basis, PeerIdentity, Refusal};
use homefleet_usp::record::{MqttVersion, RecordError};
use homefleet_usp::{EndpointId, Record};

pub mod coap;
mod hub;
pub mod mqtt;
mod route;
mod status;
pub mod stomp;
pub mod uds;
pub mod websocket;

pub use self::coap::{CoapMtp, CoapMtpConfig, Destination, Interface, NetStats};
pub use self::hub::{Mtps, MtpsStats};
pub use self::mqtt::{MqttClient, MqttMtp, MqttMtpConfig};
pub use self::route::{Route, RouteError};
pub use self::status::{State, Status};
pub use self::uds::{UdsConnection, UdsListener, UdsMtp, UdsMtpConfig, UdsStats};
pub use self::websocket::{
    WebSocketConnection, WebSocketListener, WebSocketMtp, WebSocketMtpConfig, WebSocketStats,
};

/// Names a channel for as long as the process lives: no two ever have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub u64);

impl ChannelId {
    /// One that nobody has yet.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What a Connect Record says about the channel it is sent over (R-MTP.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connect {
    /// Nothing.
    WebSocket,
    /// Where we are reached at the broker.
    Stomp {
        /// What we subscribed to.
        destination: String,
    },
    /// Where we are reached at the broker.
    Mqtt {
        /// The protocol's version.
        version: MqttVersion,
        /// What we subscribed to.
        topic: String,
    },
    /// Nothing.
    Uds,
}

/// A channel over which Records can pass: a session with an Endpoint, or a connection to a broker. CoAP has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Names it.
    pub id: ChannelId,
    /// Its name in our configuration; `None` when the peer opened it.
    pub connection: Option<String>,
    /// The Endpoint at its other end; `None` at a broker, and while it has not told who it is.
    pub endpoint_id: Option<EndpointId>,
    /// Who proved to be there; `None` without security.
    pub identity: Option<Arc<PeerIdentity>>,
    /// What a Connect Record has to say.
    pub connect: Connect,
}

/// A Record that is to be sent, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Which way.
    pub route: Route,
    /// To whom.
    pub endpoint_id: EndpointId,
    /// The Record.
    pub record: Vec<u8>,
}

/// What is sent over a channel before anything else may pass: the Connect Records (R-MTP.6, R-MTP.8). Called by the MTP
/// when a channel comes up, and must not block.
pub trait Greeter: Send + Sync {
    /// The Records, in order. Routes that do not lead over this channel are ignored.
    fn greet(&self, channel: &Channel) -> Vec<Outgoing>;
}

/// Sends none: a Controller (R-MTP.6 asks Agents only).
#[derive(Debug, Clone, Copy, Default)]
pub struct NoGreeting;

impl Greeter for NoGreeting {
    fn greet(&self, _: &Channel) -> Vec<Outgoing> {
        Vec::new()
    }
}

/// Where a Record, or what was to be one, came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The channel; `None` over CoAP.
    pub channel: Option<ChannelId>,
    /// Who sent it by the certificate of the channel, or the Trusted Broker that vouches for who did; `None` without
    /// security.
    pub identity: Option<Arc<PeerIdentity>>,
    /// Which way an answer goes: the MTP of the request, never weaker than it; `None` when none is known.
    pub reply_to: Option<Route>,
}

/// Something happened on an MTP.
#[derive(Debug)]
pub enum Event {
    /// A channel is up, and what the [`Greeter`] wanted sent is on its way. Told again when what a Connect Record says of it
    /// has changed.
    Up(Channel),
    /// A Record came in. With security, its `from_id` is proved.
    Record {
        /// The Record.
        record: Box<Record>,
        /// Where from.
        origin: Origin,
    },
    /// Something came in that is no Record. Whether it is answered is R-MTP.5's decision; whom it says it is from need not be
    /// proved, see [`proves`].
    Erroneous {
        /// What is wrong, and what could be read.
        error: RecordError,
        /// Where from.
        origin: Origin,
    },
    /// A broker assigned this client its identifier: it is kept over a restart, as the data model's `ClientID` (R-MQTT.9).
    ClientId {
        /// The client's name in our configuration.
        connection: String,
        /// What it is from now on.
        client_id: String,
    },
    /// A channel has gone; a configured one is dialled again unless it was removed.
    Down {
        /// Which.
        id: ChannelId,
        /// Why, for a person.
        reason: String,
    },
}

/// Whether a channel's certificate stands for Records of `from_id`: it holds that Endpoint ID (R-SEC.0a), or belongs to a
/// Trusted Broker, which vouches for those it lets send (R-SEC.9, R-SEC.26). A channel without security proves nobody, and
/// whoever enables one says so (R-MTP.0).
pub fn proves(identity: Option<&PeerIdentity>, from_id: &EndpointId) -> bool {
    identity.is_none_or(|identity| {
        identity.basis == Basis::TrustedBroker || identity.is_endpoint(from_id.as_str())
    })
}

/// Why a Record was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Nobody answered (R-COAP.9).
    #[error("the peer did not answer in time")]
    Timeout,
    /// The peer answered 4.xx or 5.xx (R-COAP.10).
    #[error("the peer answered {code} {diagnostic}")]
    Refused {
        /// The response code.
        code: Code,
        /// The diagnostic payload, as far as it is text.
        diagnostic: String,
    },
    /// We refused the peer's certificate (R-MTP.4).
    #[error("the peer was refused: {0}")]
    Untrusted(Refusal),
    /// No association could be made.
    #[error("{0}")]
    Handshake(String),
    /// The peer rejected the message.
    #[error("the peer rejected the message with a Reset")]
    Reset,
    /// The destination has no usable address.
    #[error("the destination has no usable address")]
    Unresolvable,
    /// The destination is unprotected and this Endpoint sends nothing unprotected (R-MTP.0).
    #[error("the destination is unprotected, which is not enabled here")]
    WeakerChannel,
    /// The Record does not fit.
    #[error("the Record is too large")]
    TooLarge,
    /// Too many Records are on their way.
    #[error("too many Records are on their way")]
    Busy,
    /// The request could not be made of the destination, or its response understood.
    #[error("{0}")]
    Protocol(RequestError),
    /// The MTP is shut down.
    #[error("the MTP is shut down")]
    Closed,
    /// There is no session with the Endpoint, or no connection to the broker, now. Nothing was sent.
    #[error("not connected")]
    NotConnected,
    /// The session or connection ended before it was certain that the Record arrived.
    #[error("the connection ended while the Record was on its way")]
    Lost,
    /// The broker did not take the Record.
    #[error("the broker refused: {0}")]
    Broker(String),
    /// The MTP has no way to carry it there: a topic that is none, or nothing to name as the way back.
    #[error("{0}")]
    Binding(String),
    /// No MTP of this Endpoint goes this way.
    #[error("this MTP is not in use here")]
    NoMtp,
}
