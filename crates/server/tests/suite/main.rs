//! The server's tests.
#![allow(clippy::unwrap_used)]

/// Brokers, as the tests of the MTPs have them.
#[path = "../../../net/tests/suite/support/mosquitto.rs"]
mod mosquitto;
#[path = "../../../net/tests/suite/support/rabbitmq.rs"]
mod rabbitmq;

mod acs;
mod acs_agent;
mod acs_bad;
mod acs_commands;
mod acs_files;
mod acs_login;
mod bounds;
mod common;
mod controller;
mod cpe;
mod durability;
mod enrol;
mod full;
mod home;
mod killed;
mod live;
mod mtps;
mod nat;
mod over;
mod pki;
mod queue;
mod registry;
mod renewal;
mod rest;
mod store;
mod telemetry;
mod uds;
mod wake;
