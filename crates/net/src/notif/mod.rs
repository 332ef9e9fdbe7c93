//! UDP-notif on real sockets.
//!
//! A [`Receiver`] takes datagrams and DTLS records of publishers, and hands whole messages to whoever holds the other end of its channel;
//! a [`Sender`](send::Sender) publishes.

pub mod send;

mod receive;
mod received;

pub use receive::{Receiver, ReceiverConfig, Security};
pub use received::{PublisherStats, Received, SocketStats, Stats};
