//! Tests of the messages, the sessions and the logins.
#![allow(clippy::unwrap_used)]
#![allow(clippy::print_stdout, clippy::print_stderr)] // the version of a peer, or that it is missing

mod acs;
mod auth;
mod cpe;
mod fuzz;
mod limits;
mod notify;
mod pair;
#[path = "../../../../fuzz/replay.rs"]
mod replay;
mod samples;
mod schema;
mod soap;
mod tree;
mod world;
