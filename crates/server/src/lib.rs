//! The operator's side of Homefleet.
//!
//! ```text
//!   devices ──► listener ──► controller ─┐
//!                                        ├─► core (registry, task queue) ──► store
//!   operators ─► http, ui ──► Access ────┘
//! ```
//!
//! - [`config`]: the configuration file,
//! - [`server`]: starting and stopping,
//! - [`core`]: what the others share, and the door to it,
//! - [`device`], [`task`], [`account`]: registry, durable operations, tokens; they know neither HTTP nor USP,
//! - [`store`]: durable state,
//! - [`controller`]: USP messages to and from what the core does,
//! - [`acs`]: sessions of devices that speak TR-069,
//! - [`listener`]: where devices connect,
//! - [`home`]: who is behind which gateway, cross-checked,
//! - [`telemetry`]: what devices stream: received, stored, plotted, handed on,
//! - [`pki`]: the CA: keys, profiles, certificates, lists of revoked ones, enrolment secrets,
//! - [`proxy`]: CMP passed on to CAs elsewhere,
//! - [`tls`]: own certificate and trusted CAs, and their renewal,
//! - [`http`], [`ui`]: REST API and console.

#![forbid(unsafe_code)]

pub mod account;
pub mod acs;
pub mod clock;
pub mod config;
pub mod controller;
pub mod core;
pub mod device;
pub mod enrol;
pub mod home;
pub mod http;
pub mod listener;
pub mod metrics;
pub mod pki;
pub mod proxy;
pub mod server;
pub mod store;
pub mod task;
pub mod telemetry;
pub mod tls;
pub mod ui;

pub use config::Config;
pub use core::{Access, Core, CoreError};
pub use server::{RunningServer, Server, StartError};
