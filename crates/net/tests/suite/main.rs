//! The network crate against itself in virtual time, against a live socket, and against independent peers.
// Interop tests print the version of their peer, and that it is missing.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;
mod udp;
mod uds;

mod abuse;
mod cmp;
mod cmp_session;
#[path = "../../../cmp/tests/suite/world.rs"]
#[allow(dead_code, unreachable_pub)]
mod cmp_world;
mod cwmp;
mod cwmp_calls;
mod endurance;
mod etsi;
mod flood;
mod glare;
mod handshake;
mod interop_aiocoap;
mod interop_dimpl;
mod interop_gnutls;
mod interop_libcoap;
mod interop_openssl;
mod interop_uds;
mod judge;
mod judge_live;
mod lifecycle;
mod live_abuse;
mod memory;
mod mqtt;
mod mtp;
mod multicast;
mod node;
mod notif_receive;
mod notif_send;
mod notif_truth;
#[path = "../../../cmp/tests/suite/openssl.rs"]
#[allow(dead_code, unreachable_pub)]
mod openssl;
#[path = "../../../coap/tests/plugtest/mod.rs"]
mod plugtest;
mod refusal;
mod resumption;
mod revocation;
mod scale;
mod spoof;
mod stomp;
mod stun;
mod stun_nat;
mod tls;
mod websocket;
