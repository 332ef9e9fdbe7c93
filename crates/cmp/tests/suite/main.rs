//! Tests of the Certificate Management Protocol.
#![allow(clippy::unwrap_used, clippy::print_stderr, unreachable_pub)]

mod recorded;
