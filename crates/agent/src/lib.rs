//! The device's side of remote management: the data model with its providers, and the USP agent.
//!
//! ```text
//! cli ─▶ config ─▶ runtime (Agent: sockets, threads, signals of the kernel) ◀─ enrol (its own key and certificate)
//!                     │  Records, time, results ─▶ ◀─ actions
//!                  engine (no sockets, time as an argument)
//!        request ─ what a controller asks │ notify ─ what it wants to be told │ store ─ what survives
//!   telemetry ─ what receivers of UDP-notif are told
//!                  role ─ what a controller may do of it │ transport ─ how each is reached
//!                  device (the tree) ─▶ local_agent (the core's own objects), provider (everything else)
//!                  association ─ who is behind which gateway, as DHCP tells it
//! ```
//!
//! # Goals
//!
//! - TR-369 (USP 1.4) as an Agent over CoAP, WebSocket, STOMP, MQTT and UNIX domain sockets, on Linux.
//! - What was acknowledged is on disk; nothing from the network stops the agent.
//!
//! # Non-goals
//!
//! - Session contexts, challenges: later.

pub mod association;
pub mod cli;
pub mod config;
pub mod cwmp;
pub mod engine;
pub mod enrol;
pub mod identity;
pub mod local_agent;
pub mod provider;
pub mod runtime;
pub mod store;
pub mod stun;
pub mod transport;

mod controllers;
mod device;
mod notify;
mod random;
mod request;
mod role;
pub mod telemetry;
mod time;

pub use self::{
    config::Config,
    device::Device,
    notify::RetryPolicy,
    request::{Fault, PROTOCOL_VERSIONS},
    runtime::{Agent, StartError},
};
