//! RFC 7641, observing resources, by role.

mod both;
mod client;
mod pace;
mod server;
