//! What a receiver hands on, and what it counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use homefleet_notif::{Counters, Generation, MediaType};
use homefleet_trust::PeerIdentity;

use crate::dtls;

/// A whole message of a publisher.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// Where it came from.
    pub from: SocketAddr,
    /// Who the publisher is, by its certificate; `None` without DTLS.
    pub identity: Option<Arc<PeerIdentity>>,
    /// By whose rules it was read.
    pub generation: Generation,
    /// Message Publisher ID.
    pub publisher_id: u32,
    /// Message ID.
    pub message_id: u32,
    /// Encoding.
    pub media_type: MediaType,
    /// The description of a private encoding, where the message carries one. What is not UTF-8 in it is replaced.
    pub encoding: Option<String>,
    /// When its datagram, the last one of a message in segments, was taken from the socket.
    pub at: SystemTime,
    /// The notification message.
    pub message: Bytes,
}

/// Counters of a receiver, since it was bound.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// The sockets.
    pub sockets: Vec<SocketStats>,
    /// Datagrams, messages and publishers.
    pub collector: homefleet_notif::Stats,
    /// Messages handed to the channel.
    pub delivered: u64,
    /// Messages dropped because the channel was full: the one point where back-pressure drops.
    pub queue_dropped: u64,
    /// The associations of all secure sockets.
    pub dtls: dtls::Stats,
    /// Associations held now.
    pub sessions: u64,
    /// Handshakes begun and not finished, now.
    pub half_open: u64,
}

/// Counters of one socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketStats {
    /// The bound address.
    pub local: SocketAddr,
    /// Whether it speaks DTLS.
    pub secure: bool,
    /// Receive buffer that the kernel granted, in bytes of its own accounting (twice what was asked for where it granted all).
    pub receive_buffer: usize,
    /// Datagrams taken.
    pub datagrams: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Reads from the socket: under GRO one may hold many datagrams.
    pub reads: u64,
    /// What the kernel dropped because the socket's buffer was full (SO_RXQ_OVFL), as it counts: datagrams, or, under GRO, coalesced
    /// ones. Known as of the last datagram read.
    pub kernel_drops: u64,
    /// Datagrams that the kernel dropped. The same, but under GRO: there each drop counts for as many datagrams as Message IDs are missing
    /// where it happened, at least one and at most 64.
    pub kernel_dropped_datagrams: u64,
    /// Datagrams longer than the buffer, cut off by the kernel and dropped.
    pub truncated: u64,
    /// Errors reported on receiving, such as an ICMP port unreachable for an answer of ours.
    pub receive_errors: u64,
    /// Datagrams of handshakes that the socket did not take.
    pub send_errors: u64,
}

impl SocketStats {
    pub(super) fn new(local: SocketAddr, secure: bool, receive_buffer: usize) -> Self {
        Self {
            local,
            secure,
            receive_buffer,
            datagrams: 0,
            bytes: 0,
            reads: 0,
            kernel_drops: 0,
            kernel_dropped_datagrams: 0,
            truncated: 0,
            receive_errors: 0,
            send_errors: 0,
        }
    }
}

/// What is known of one publisher.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PublisherStats {
    /// Where it sends from.
    pub source: SocketAddr,
    /// Who it is, by its certificate; `None` without DTLS.
    pub identity: Option<Arc<PeerIdentity>>,
    /// Message Publisher ID.
    pub publisher_id: u32,
    /// Generation of the last message.
    pub generation: Generation,
    /// Media type of the last message.
    pub media_type: MediaType,
    /// Whether gaps in its Message IDs are losses ([`Generation::counts_loss`]); otherwise `lost` and `missing` stay 0.
    pub counts_loss: bool,
    /// When it was first heard.
    pub first_heard: SystemTime,
    /// When it was last heard.
    pub last_heard: SystemTime,
    /// What it sent.
    pub counters: Counters,
}
