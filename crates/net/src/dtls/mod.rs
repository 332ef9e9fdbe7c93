//! DTLS 1.2 (RFC 6347) and 1.3 (RFC 9147) associations over one UDP socket, sans-IO.
//!
//! [`Sessions`] is a table of associations, keyed by the peer's address; it owns no socket and no clock. The owner feeds
//! it datagrams and time, and drains it:
//!
//! **Drive rule.** After every call that takes `now` ([`Sessions::connect`], [`Sessions::handle_input`],
//! [`Sessions::handle_timeout`], [`Sessions::send`], [`Sessions::close`]), drain [`Sessions::poll_event`] and
//! [`Sessions::poll_transmit`] until both are empty, then wait for input or until [`Sessions::poll_timeout`].
//!
//! ```text
//!            connect()                         ClientHello from a new address, within the budgets
//!               │                                              │
//!               ▼                                              ▼
//!        ┌────────────┐   their ClientHello, larger random  ┌──────────────────┐
//!        │ our hello  │────────────────────────────────────▶│ half-open server │──▶ evicted, timed out, restarted
//!        └────────────┘                                     └──────────────────┘
//!               │        the whole chain ──▶ Verifier ◀────────────┤
//!               │                 │ no: alert, Refused             │
//!               ▼                 ▼ yes                            ▼
//!        ┌──────────────────────────────────────────────────────────────┐
//!        │ established: one per address, both directions                │──▶ close_notify, idle, replaced
//!        └──────────────────────────────────────────────────────────────┘
//! ```
//!
//! # Goals
//! - Nothing is delivered before the [`Verifier`] has accepted the peer's certificate chain; a peer without a
//!   certificate is refused in both roles (R-MTP.1), a refused peer is told by the alert that the decision names. Only where the
//!   configuration says so ([`ClientCertificate::Requested`]) is the verifier asked about clients without one, too.
//! - One association per peer address serves both directions; the table settles who is client when both begin at once.
//! - A forged datagram changes nothing but a counter: a ClientHello with the address of an established peer starts a
//!   handshake *beside* the established association, which is replaced only when the new one has authenticated. What can
//!   be done for handshakes under way is in `sessions/spoof.rs`.
//! - A flood of forged ClientHellos costs a bounded part of the processor and of memory, and a client that sends its
//!   hello again, as clients do, gets in beside it.
//! - Everything is bounded ([`Config`]) and counted ([`Stats`]).
//!
//! # Known limits
//! - The engine has no stateless cookie as server (RFC 6347 §4.2.1, RFC 9147 §5.1): instead half-open handshakes are
//!   bounded, handshakes have budgets, and under pressure an unvalidated address gets at most three times its bytes.
//!   Who forges one client's address all the time, faster than that client, can still keep it out.
//! - The engine has no `TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8` and no connection identifiers.

mod again;
mod budget;
mod config;
mod engine;
mod event;
mod ffi;
mod record;
mod sessions;
mod verify;

pub(crate) use budget::{Budgets, OverBudget};
pub use config::{
    Budget, ClientCertificate, Config, Credentials, CredentialsError, Version, Versions,
};
pub use engine::EngineError;
pub use event::{CloseReason, Event, Failure, Stats, Transmit};
pub use sessions::{ConnectError, Expected, SendError, Sessions};
pub(crate) use verify::Purpose;
pub use verify::{Role, TrustVerifier, Verifier};
