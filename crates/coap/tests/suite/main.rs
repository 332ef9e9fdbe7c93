//! The crate's tests: by specification and section, in virtual time.
#![allow(clippy::unwrap_used)]

mod support;

mod codec;
mod differential;
mod etsi;
mod fuzz;
mod hostile;
mod model;
#[path = "../plugtest/mod.rs"]
mod plugtest;
#[path = "../../../../fuzz/replay.rs"]
mod replay;
mod rfc6690;
mod rfc7252;
mod rfc7641;
mod rfc7959;
mod rfc7967;
mod rfc9175;
