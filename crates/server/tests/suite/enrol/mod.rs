//! Certificates for devices over CMP: the whole server, asked by `openssl cmp` and by our own client.

mod approval;
mod authorise;
mod bad;
mod client;
<<<<<<< HEAD
mod files;
=======
mod coap;
>>>>>>> 1da9405 (server: CMP over CoAP and DTLS, and the demo's home enrols over it)
mod openssl;
mod openssl35;
pub(crate) mod world;
