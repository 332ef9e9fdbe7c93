//! What each Message Transfer Protocol binding asks, as functions without I/O.

pub mod coap;
