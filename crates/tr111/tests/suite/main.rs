//! Tests of the machines of TR-111.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod client;
mod fuzz;
mod limit;
#[path = "../../../../fuzz/replay.rs"]
mod replay;
mod server;
mod timeout;
mod wake;
mod world;
