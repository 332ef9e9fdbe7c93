//! Where devices connect: one file per protocol.

pub mod coap;
