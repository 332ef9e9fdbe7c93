//! Certificates for devices over CMP: the whole server, asked by `openssl cmp` and by our own client.

mod approval;
mod authorise;
mod bad;
mod client;
mod coap;
mod files;
mod openssl;
mod openssl35;
mod rollover;
mod upstream;
pub(crate) mod world;
