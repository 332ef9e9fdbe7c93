//! A CoAP endpoint on real sockets: `coap://` and `coaps://`, client and server on the same ports.
//!
//! One tokio task owns the sockets, the [`homefleet_coap::Endpoint`] and the [`Sessions`](crate::dtls::Sessions); a [`Node`] is the handle
//! to it. Requests that come in go to a [`Service`], inside the task; requests that go out are awaited on the handle.
//!
//! ```text
//!  datagram ─▶ UdpSocket ─▶ dtls::Sessions ─▶ Event::Data ─▶ coap::Endpoint ─▶ Event::Request ─▶ Service
//!                 ▲              │                               │                                  │ Response
//!                 └── Transmit ◀─┴──────────── send() ◀──────────┴──────────────◀───────────────────┘
//! ```

mod client;
mod groups;
mod jobs;
mod node;
mod observe;
mod task;

pub use client::{Repeat, RequestFailure, Target};
pub use groups::{ALL_COAP_NODES, ALL_COAP_NODES_LINK, ALL_COAP_NODES_SITE, Group};
pub use node::{Incoming, Node, NodeConfig, NodeStats, Responder, Security, Service};
pub(crate) use observe::spread;
pub use observe::{Observation, Publisher, TopicId};
