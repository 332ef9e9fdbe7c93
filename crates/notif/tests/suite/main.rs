//! Tests of UDP-notif.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub
)]

mod codec;
mod publisher;
