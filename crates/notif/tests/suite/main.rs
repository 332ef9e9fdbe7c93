//! Tests of UDP-notif.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub
)]

mod codec;
mod collector;
mod framing;
mod fuzz;
mod interop_scapy;
mod publisher;
#[path = "../../../../fuzz/replay.rs"]
mod replay;
mod window;

/// Any moment: the tests' time is virtual from there on.
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
