//! The crate's tests: by specification and section, in virtual time.
#![allow(clippy::unwrap_used)]

mod support;

mod codec;
mod fuzz;
mod hostile;
#[path = "../../../../fuzz/replay.rs"]
mod replay;
mod rfc6690;
mod rfc7252;
mod rfc7641;
mod rfc7959;
