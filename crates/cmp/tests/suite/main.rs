//! Tests of the Certificate Management Protocol.
#![allow(clippy::unwrap_used, clippy::print_stderr, unreachable_pub)]

mod announce;
mod authority;
mod client;
mod codec;
mod fuzz;
mod inspect;
mod interop;
mod key_delivery;
mod openssl;
mod protection;
mod recorded;
mod relay;
#[path = "../../../../fuzz/replay.rs"]
mod replay;
mod transactions;
mod world;
