//! Data models as TR-106 and TR-369 see them: paths, typed values, schema, and the tree of instances.
//!
//! | module | holds |
//! |---|---|
//! | [`path`] | the path grammar of TR-369 §2.6: addressing, searching, reference following |
//! | [`value`] | TR-106 data types, their canonical text, comparison in search expressions |
//! | [`schema`] | the supported data model, as tables that live in constants |
//! | [`tree`] | the instantiated data model: resolution, transactions, change events, persistence |
//!
//! The crate does no I/O and reads no clock: a time is an argument where one is needed.
#![forbid(unsafe_code)]

pub mod error;
#[doc(hidden)]
pub mod fuzz;
pub mod path;
pub mod schema;
pub mod tree;
pub mod value;
