//! Requests, one file per message type (TR-369 "Messages").

mod add;
mod delete;
mod get;
mod instances;
mod operate;
mod set;
mod supported;
