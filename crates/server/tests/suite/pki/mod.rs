//! The CA: what it issues and refuses, judged by OpenSSL where it can.

mod enrol;
mod issue;
mod killed;
mod revoke;
mod setup;
pub(crate) mod world;
