//! Tests of the data model, by chapter of TR-369 §2 and TR-106.
#![allow(clippy::unwrap_used)]

mod fixture;
mod fuzz;
mod path;
mod persist;
mod read;
#[path = "../../../../fuzz/replay.rs"]
mod replay;
mod resolve;
mod schema;
mod transaction;
mod tree;
mod value;
