//! The transfer of CMP messages: CoAP and CoAP over DTLS (RFC 9482), HTTP and HTTPS (RFC 9811).
//!
//! ```text
//!   end entity                                                        RA or CA
//!   Client::exchange ──▶ coap, coaps, http, https ──▶ a listener ──▶ Service::answer
//!        ▲                                                               │
//!        └──────────────────── one PKIMessage back ◀── Answer ◀──────────┘
//! ```
//!
//! What is in a message, whether it is protected, and what becomes of it is `homefleet_cmp`'s business and that of whoever drives its machines.
//! Here is only how one request travels and how its one answer comes back: paths ([`Target`]), formats, codes ([`Status`]), sizes, times.
//!
//! # Goals
//! - One [`Service`] is reached over all four schemes; it is told over which, and who the peer is where (D)TLS has shown that.
//! - CMP protects its own messages: a peer may come without a certificate, and a server may be talked to before it can be verified, where
//!   the configuration says so ([`ServerTrust::FromCmp`]).
//! - Everything is bounded: sizes, times, requests under way.

pub mod bulletin;
mod client;
pub mod entity;
pub mod proxy;
pub mod roots;
mod server;
mod service;
pub mod session;
mod target;
mod url;
pub mod watch;

pub use bulletin::Bulletin;
pub use client::{Announcements, Client, ClientConfig, ExchangeError, ResponseCode, ServerTrust};
pub use server::{CoapConfig, CoapListener, CoapStats, Secure};
pub use service::{Answer, BoxFuture, File, Gateway, Media, Request, Scheme, Service, Status};
pub use target::{NoTarget, Operation, Target};
pub use url::{Url, UrlError};
