//! STUN and UDP Connection Requests on real sockets (TR-111 Part 2).
//!
//! [`Server`] is the operator's: it answers Binding Requests, learns bindings, and sends UDP Connection Requests from the socket that the
//! device's requests came to, which is what brings them through NAT. [`Device`] is the other side: it keeps its binding alive and
//! hears requests on the same port.

mod device;
mod server;

pub use device::{Device, DeviceConfig, DeviceEvent, DeviceStats, StunSettings, Waker};
pub use server::{Learned, Server, ServerConfig, Stats, WakeError};
