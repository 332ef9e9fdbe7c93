//! Tests of UDP-notif.
#![allow(clippy::unwrap_used, clippy::print_stderr, unreachable_pub)]

mod codec;
