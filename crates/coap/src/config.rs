//! Transmission parameters and bounds.

use std::time::Duration;

use crate::code::Code;
use crate::conditional::Conditional;
use crate::number;
use crate::options::Options;

/// Transmission parameters (RFC 7252 §4.8) and the bound of every table and buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// ACK_TIMEOUT: the first wait for an acknowledgement (RFC 7252 §4.8).
    pub ack_timeout: Duration,
    /// ACK_RANDOM_FACTOR: the first wait is spread over `ack_timeout` times 1 to this (RFC 7252 §4.8).
    pub ack_random_factor: f64,
    /// MAX_RETRANSMIT: how often a Confirmable message is repeated (RFC 7252 §4.8).
    pub max_retransmit: u32,
    /// NSTART: requests and confirmable notifications outstanding to one peer at a time (RFC 7252 §4.7).
    pub nstart: usize,
    /// PROBING_RATE in bytes per second towards a peer that does not answer (RFC 7252 §4.7).
    pub probing_rate: u32,
    /// MAX_LATENCY: how long a datagram may take (RFC 7252 §4.8.2).
    pub max_latency: Duration,
    /// How long to wait for a response once the request is acknowledged, or was Non-confirmable.
    pub response_timeout: Duration,
    /// After how long an unanswered Confirmable request is acknowledged with an Empty message, so
    /// that the response comes separately (RFC 7252 §5.2.2).
    pub separate_after: Duration,
    /// Numbers of critical options, beyond Uri-* and Block*, that the application handles.
    /// Requests with other critical options are refused (RFC 7252 §5.4.1).
    pub understood: Vec<u16>,
    /// Where the application handles If-Match and If-None-Match (RFC 7252 §5.10.8); elsewhere they are refused
    /// like any critical option that is not understood.
    pub conditional: Vec<Conditional>,
    /// How many times the bytes that it sent a peer without security gets, until its address is verified by Echo
    /// (RFC 7252 §11.3, RFC 9175 §2.4); 0 for no limit. Peers behind DTLS are verified.
    pub amplification: u32,
    /// How long an Echo value shows that a request is fresh (RFC 9175 §2.3).
    pub echo_lifetime: Duration,
    /// Largest request or response body in bytes; over it 4.13 with Size1 (RFC 7959 §2.9.3).
    pub max_body: usize,
    /// Preferred block size: 16, 32, … 1024 bytes (RFC 7959 §2.2).
    pub block_size: usize,
    /// Largest message to send, in bytes of UDP or DTLS payload (RFC 7252 §4.6).
    pub max_message: usize,
    /// Message IDs remembered per peer (RFC 7252 §4.5); the oldest go first.
    pub dedup_per_peer: usize,
    /// Message IDs remembered over all peers; those of peers without security and old ones go first.
    pub dedup_total: usize,
    /// Bytes of remembered answers that do not fit in a table entry, over all peers.
    pub dedup_bytes: usize,
    /// Requests handed to the application and not yet answered, over all peers; over it 5.03.
    pub max_exchanges: usize,
    /// Requests handed to the application and not yet answered, per peer; over it 5.03.
    pub max_exchanges_per_peer: usize,
    /// How long the application may take to answer a request.
    pub exchange_timeout: Duration,
    /// Bodies in block-wise transfer, in and out, over all peers; unauthenticated and old ones go first.
    pub max_block_transfers: usize,
    /// Bodies in block-wise transfer as server, per peer; the oldest goes first.
    pub max_block_transfers_per_peer: usize,
    /// Bytes of bodies in block-wise transfer as server, over all peers.
    pub max_block_bytes: usize,
    /// How long a block-wise transfer as server may rest (RFC 7959 §2.4 and §2.5).
    pub block_timeout: Duration,
    /// Own requests that are not finished, over all peers.
    pub max_requests: usize,
    /// Own requests waiting for NSTART, per peer.
    pub max_queue: usize,
    /// LEISURE: within what time a group's request is answered (RFC 7252 §8.2).
    pub leisure: Duration,
    /// Responses to groups' requests that wait for their time, over all peers.
    pub max_leisurely: usize,
    /// Members whose responses to one of our requests to a group are taken.
    pub max_group_responses: usize,
    /// The shortest time between two Non-confirmable notifications to one peer (RFC 7641 §4.5.1); of the states that
    /// come meanwhile the newest is sent.
    pub notify_pace: Duration,
    /// Observers served, over all peers.
    pub max_observations: usize,
    /// Observers served, per peer.
    pub max_observations_per_peer: usize,
    /// Every how many notifications one is Confirmable, at least 1 (RFC 7641 §4.5).
    pub notify_con_every: u32,
    /// The longest time between two Confirmable notifications, at most a day (RFC 7641 §4.5).
    pub notify_con_after: Duration,
    /// Whether an observing client registers again when notifications are overdue (RFC 7641 §3.3.1).
    pub reregister: bool,
}

impl Config {
    /// MAX_TRANSMIT_SPAN: from the first transmission to the last (RFC 7252 §4.8.2).
    pub fn max_transmit_span(&self) -> Duration {
        self.spread(self.max_retransmit)
    }

    /// MAX_TRANSMIT_WAIT: from the first transmission until giving up (RFC 7252 §4.8.2).
    pub fn max_transmit_wait(&self) -> Duration {
        self.spread(self.max_retransmit.saturating_add(1))
    }

    /// EXCHANGE_LIFETIME: how long a Confirmable message ID is remembered (RFC 7252 §4.8.2).
    pub fn exchange_lifetime(&self) -> Duration {
        self.max_transmit_span()
            .saturating_add(self.max_latency.saturating_mul(2))
            .saturating_add(self.ack_timeout)
    }

    /// NON_LIFETIME: how long a Non-confirmable message ID is remembered (RFC 7252 §4.8.2).
    pub fn non_lifetime(&self) -> Duration {
        self.max_transmit_span().saturating_add(self.max_latency)
    }

    /// Whether If-Match and If-None-Match are handled for a request.
    pub(crate) fn handles_conditions(&self, method: Code, options: &Options) -> bool {
        self.conditional
            .iter()
            .any(|handled| handled.covers(method, options))
    }

    fn spread(&self, doublings: u32) -> Duration {
        let factor = (2f64.powi(doublings.min(20) as i32) - 1.0) * self.random_factor();
        self.ack_timeout
            .min(Duration::from_secs(600))
            .mul_f64(factor)
    }

    /// ACK_RANDOM_FACTOR, kept in the range in which it makes sense (RFC 7252 §4.8.1).
    pub(crate) fn random_factor(&self) -> f64 {
        if self.ack_random_factor.is_finite() {
            self.ack_random_factor.clamp(1.0, 16.0)
        } else {
            1.5
        }
    }
}

impl Default for Config {
    /// The defaults of RFC 7252 §4.8, and bounds for one server of some ten thousand peers.
    fn default() -> Config {
        Config {
            ack_timeout: Duration::from_secs(2),
            ack_random_factor: 1.5,
            max_retransmit: 4,
            nstart: 1,
            probing_rate: 1,
            max_latency: Duration::from_secs(100),
            response_timeout: Duration::from_secs(93),
            separate_after: Duration::from_millis(100),
            understood: vec![number::ACCEPT],
            conditional: Vec::new(),
            amplification: 3,
            echo_lifetime: Duration::from_secs(60),
            max_body: 1 << 20,
            block_size: 1024,
            max_message: 1152,
            dedup_per_peer: 256,
            dedup_total: 1 << 19,
            dedup_bytes: 64 << 20,
            max_exchanges: 16_384,
            max_exchanges_per_peer: 256,
            exchange_timeout: Duration::from_secs(247),
            max_block_transfers: 4096,
            max_block_transfers_per_peer: 16,
            max_block_bytes: 256 << 20,
            block_timeout: Duration::from_secs(247),
            max_requests: 65_536,
            max_queue: 256,
            leisure: Duration::from_secs(5),
            max_leisurely: 1024,
            max_group_responses: 1024,
            notify_pace: Duration::from_secs(3),
            max_observations: 65_536,
            max_observations_per_peer: 256,
            notify_con_every: 5,
            notify_con_after: Duration::from_secs(24 * 3600),
            reregister: true,
        }
    }
}
