//! The CPE WAN Management Protocol (TR-069): its SOAP messages and the sessions of both sides, without I/O.
//!
//! | module | holds |
//! |---|---|
//! | [`message`] | every RPC as a type, [`Method`], [`Message`] |
//! | [`soap`] | [`Envelope`]: bytes to messages and back, within [`Limits`] |
//! | [`value`], [`date_time`], [`event`], [`fault`], [`version`] | what messages are made of |
//! | `error` | why bytes are no message, and the fault that answers them |
//!
//! # Goals
//! - Every RPC of CWMP 1.0 to 1.4, requests, responses and faults, in the namespaces cwmp-1-0 to cwmp-1-2. What is encoded is valid
//!   by the Broadband Forum's schemas.
//! - What devices really send is read: any prefix, a wrong array count, unknown elements and headers, values without a type.
//! - Work is bounded by [`Limits`]. There are no document types and no entities but XML's own five. Garbage is a typed
//!   error, never a panic.
//!
//! # Non-goals
//! - HTTP, TLS, cookies, sockets, clocks: none.
#![forbid(unsafe_code)]

pub mod date_time;
mod error;
pub mod event;
pub mod fault;
#[doc(hidden)]
pub mod fuzz;
pub mod message;
pub mod soap;
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
