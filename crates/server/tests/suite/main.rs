//! The server's tests.
#![allow(clippy::unwrap_used)]

mod bounds;
mod common;
mod controller;
mod durability;
mod full;
mod live;
mod mtps;
mod queue;
mod registry;
mod renewal;
mod rest;
mod store;
mod uds;
