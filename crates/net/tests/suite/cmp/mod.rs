//! The transfer of CMP: both sides against each other, and against programs of others.

mod announce;
mod client;
mod peers;
mod proxy;
mod proxy_checks;
mod proxy_crowd;
mod proxy_peers;
mod rules;
mod secure;
mod world;
