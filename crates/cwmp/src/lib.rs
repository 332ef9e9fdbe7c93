//! The CPE WAN Management Protocol (TR-069): its SOAP messages and the sessions of both sides, without I/O.
//!
//! | module | holds |
//! |---|---|
//! | [`message`] | every RPC as a type, [`Method`], [`Message`] |
//! | [`soap`] | [`Envelope`]: bytes to messages and back, within [`Limits`] |
//! | [`value`], [`date_time`], [`event`], [`fault`], [`version`] | what messages are made of |
//! | [`cpe`] | [`cpe::Cpe`]: a device's events, sessions and retries |
//! | [`acs`] | [`acs::Session`]: a session of an ACS |
//! | [`auth`] | Digest of either side, Basic |
//! | [`notify`], [`calls`] | what of changes is to be told; how many Connection Requests are taken |
//! | [`tree`] | the parameter RPCs on an instance tree |
//! | `error` | why bytes are no message, and the fault that answers them |
//!
//! The machines are driven one way: change something, drain `poll_transmit` and `poll_event` until both are empty, sleep until `poll_timeout` or until
//! input comes. Time and seeds are arguments.
//!
//! # Goals
//! - Every RPC of CWMP 1.0 to 1.4, requests, responses and faults, in the namespaces cwmp-1-0 to cwmp-1-2. What is encoded is valid
//!   by the Broadband Forum's schemas.
//! - What devices really send is read: any prefix, a wrong array count, unknown elements and headers, values without a type.
//! - No event is lost: what an ACS has not confirmed is told again, as long as its rule says.
//! - Work is bounded by [`Limits`]. There are no document types and no entities but XML's own five. Garbage is a typed
//!   error, never a panic.
//!
//! # Non-goals
//! - HTTP, TLS, cookies, sockets, clocks: none. The layer that has them sends what a machine gives it and tells the machine what came.
//! - The values of parameters, tasks, files: the application's.
#![forbid(unsafe_code)]

pub mod acs;
pub mod auth;
pub mod calls;
pub mod cpe;
pub mod date_time;
mod error;
pub mod event;
pub mod fault;
#[doc(hidden)]
pub mod fuzz;
pub mod message;
pub mod notify;
pub mod soap;
pub mod tree;
pub mod value;
pub mod version;

pub use date_time::DateTime;
pub use error::{DecodeError, Malformed, Side};
pub use event::{Event, EventCode};
pub use fault::{Fault, FaultCode, ParameterFault, SoapCode};
pub use message::{Message, Method};
pub use soap::{Envelope, Header, Limits};
pub use value::{ParameterValues, Secret, Value, ValueType};
pub use version::{Namespace, Version};

/// The example of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
