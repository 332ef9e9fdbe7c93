//! Tests of Endpoint IDs, Records, Messages and the bindings.
#![allow(clippy::unwrap_used)]

mod coap;
mod endpoint;
mod errors;
mod fuzz;
mod message;
mod mqtt;
mod oracle;
mod record;
#[path = "../../../../fuzz/replay.rs"]
mod replay;
mod samples;
mod schema;
mod stomp;
mod uds;
mod websocket;
