//! The only I/O of Homefleet's protocols: batched UDP, DTLS associations, TLS connections, CoAP endpoints, and USP over every
//! Message Transfer Protocol on top.
//!
//! | module | what |
//! |---|---|
//! | [`mtp`] | Records in and out over every transfer protocol: what the agent and the server use |
//! | [`coap`] | a CoAP endpoint on real sockets, client and server |
//! | [`cmp`] | the transfer of CMP messages over CoAP and HTTP |
//! | [`cwmp`] | the HTTP of a CWMP device's sessions |
//! | [`dtls`] | the sans-IO table of DTLS 1.2 and 1.3 associations |
//! | [`notif`] | UDP-notif on real sockets |
//! | [`revocation`] | fetches CRLs and OCSP responses that decisions want |
//! | [`stun`] | STUN and UDP Connection Requests, of the operator and of the device |
//! | [`tls`] | TLS 1.2 and 1.3 over TCP, decided about as DTLS is |
//! | [`udp`] | a batched socket |
#![deny(unsafe_code)]

pub mod cmp;
pub mod coap;
pub mod cwmp;
pub mod dtls;
pub mod mtp;
pub mod notif;
pub mod revocation;
pub mod stun;
pub mod tls;
pub mod udp;
