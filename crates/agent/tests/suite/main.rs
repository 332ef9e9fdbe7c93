//! The agent's tests: by message type and requirement over a small device in virtual time, then the real
//! binary and real sockets.
#![allow(clippy::unwrap_used, missing_docs)]

mod association;
mod bench;
mod binary;
mod boot;
mod clock;
#[path = "../../../net/tests/suite/support/cmp_ca.rs"]
mod cmp_ca;
mod config;
mod cwmp;
mod enrol;
mod first_use;
mod home_lan;
mod live;
mod live_mtps;
#[path = "../../../net/tests/suite/support/mosquitto.rs"]
mod mosquitto;
mod mtp;
mod notify;
mod onboarding;
mod persistence;
mod pki;
mod provider;
mod provider_live;
#[path = "../../../net/tests/suite/support/rabbitmq.rs"]
mod rabbitmq;
mod records;
mod requests;
mod revocation;
mod roles;
mod schema;
mod telemetry;
