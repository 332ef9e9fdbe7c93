//! Tests of the messages, the sessions and the logins.
#![allow(clippy::unwrap_used)]
#![allow(clippy::print_stdout, clippy::print_stderr)] // the version of a peer, or that it is missing

mod fuzz;
mod limits;
#[path = "../../../../fuzz/replay.rs"]
mod replay;
mod samples;
mod schema;
mod soap;
