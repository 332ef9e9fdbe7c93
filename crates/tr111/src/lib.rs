//! TR-111: who is behind which gateway, and how a device behind NAT is reached, without I/O.
//!
//! # Goals
//! - Part 1: the identities that devices and gateways put into DHCP option 125 ([`identity`]).
//! - Part 2: RFC 3489 messages ([`stun`]), the device that keeps its binding alive and finds out how long it lasts ([`client`]), the server on
//!   whose socket bindings are learned and from which UDP Connection Requests leave ([`server`]), and those requests ([`connection_request`]).
//! - What others do differently is tolerated where it does no harm: RFC 5389's magic cookie, attributes padded to four octets, a
//!   MESSAGE-INTEGRITY over unpadded text, null-terminated identities.
//! - Work and memory are bounded; garbage is a counter, never a panic. Time and randomness are arguments.
//!
//! # Non-goals
//! - Sockets, DHCP messages around the option, the data model: they are the agent's and the server's.
//! - RFC 3489's shared secrets over TLS: TR-111 provisions them in the data model.
//!
//! # Module map
//! [`stun`] (message, attributes, integrity) → [`client`], [`server`]; [`connection_request`] and [`identity`] stand alone.

#![forbid(unsafe_code)]

pub mod client;
pub mod connection_request;
#[doc(hidden)]
pub mod fuzz;
pub mod identity;
pub mod limit;
pub mod server;
pub mod stun;

/// The example of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
