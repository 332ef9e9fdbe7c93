//! Counters: everything that happened to a message, and every reason for dropping or refusing one.

/// Plain counters since the endpoint was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Datagrams handed to [`crate::Endpoint::handle_input`].
    pub datagrams_in: u64,
    /// Datagrams queued for sending, repetitions included.
    pub datagrams_out: u64,
    /// Datagrams from an address that cannot be answered: port 0, unspecified, multicast or broadcast.
    pub unanswerable_source: u64,
    /// Datagrams of another protocol version, ignored (RFC 7252 §3).
    pub version_ignored: u64,
    /// Datagrams with a format error (RFC 7252 §3), rejected or ignored.
    pub format_errors: u64,
    /// Pings answered (RFC 7252 §4.3).
    pub pings: u64,
    /// RST sent, pings included.
    pub resets_sent: u64,
    /// RST received that matched something of ours.
    pub resets_received: u64,
    /// ACK and RST that match nothing of ours.
    pub unmatched_replies: u64,
    /// Responses with a token that is not ours, or from another peer.
    pub unmatched_responses: u64,
    /// Requests received, without duplicates.
    pub requests_in: u64,
    /// Requests handed to the application.
    pub requests_delivered: u64,
    /// Duplicates answered with the remembered answer (RFC 7252 §4.5).
    pub duplicates_replayed: u64,
    /// Duplicates that were ignored: the answer is not there yet, or the message was Non-confirmable.
    pub duplicates_ignored: u64,
    /// Remembered message IDs forgotten before their time, at a bound.
    pub dedup_evicted: u64,
    /// Requests refused or rejected for a critical option (RFC 7252 §5.4.1).
    pub bad_options: u64,
    /// Requests refused with 5.05 (RFC 7252 §5.10.2).
    pub proxy_refused: u64,
    /// Requests refused with 4.05 for an unknown method (RFC 7252 §5.8).
    pub unknown_methods: u64,
    /// Requests refused with 5.03, because too many are waiting for the application.
    pub overload_refused: u64,
    /// Requests of peers without security dropped to make room for one of an authenticated peer.
    pub exchanges_evicted: u64,
    /// Datagrams to a group that are no Non-confirmable request, ignored (RFC 7252 §8.1).
    pub multicast_ignored: u64,
    /// Responses to a group's request dropped because too many were waiting for their time (RFC 7252 §8.2).
    pub leisurely_dropped: u64,
    /// Separate responses dropped and notifications held because the peer has fallen silent (RFC 7252 §4.7).
    pub silence_held: u64,
    /// Requests the application did not answer in time.
    pub unanswered: u64,
    /// Empty acknowledgements sent because a response was not ready (RFC 7252 §5.2.2).
    pub separate_acks: u64,
    /// Responses sent.
    pub responses_out: u64,
    /// Separate responses or notifications that nobody acknowledged.
    pub responses_undelivered: u64,
    /// Responses that the client asked not to get (RFC 7967).
    pub responses_suppressed: u64,
    /// Responses made smaller, or replaced by a challenge, because the address is not verified (RFC 9175 §2.4).
    pub amplification_limited: u64,
    /// Datagrams not sent because the address is not verified and has had enough.
    pub amplification_held: u64,
    /// Echo values sent to be sent back (RFC 9175 §2.3).
    pub challenges: u64,
    /// Echo values that came back too late, or that are not ours or not the peer's.
    pub echoes_invalid: u64,
    /// Own requests sent once more with an Echo value.
    pub echoes_sent: u64,
    /// Own requests started.
    pub requests_out: u64,
    /// Responses handed to the application.
    pub responses_in: u64,
    /// Messages repeated for want of an acknowledgement (RFC 7252 §4.2).
    pub retransmissions: u64,
    /// Own requests that timed out.
    pub timeouts: u64,
    /// Message IDs used again within EXCHANGE_LIFETIME (RFC 7252 §4.4), because more than 65,536
    /// messages went to one peer in that time.
    pub message_ids_reused: u64,
    /// Blocks received as server (RFC 7959 §2.3).
    pub blocks_in: u64,
    /// Blocks sent as server.
    pub blocks_out: u64,
    /// Uploads refused with 4.08 (RFC 7959 §2.9.2).
    pub blocks_incomplete: u64,
    /// Uploads refused with 4.13 (RFC 7959 §2.9.3).
    pub bodies_too_large: u64,
    /// Blocks refused with 4.00: reserved size, wrong length, beyond the end (RFC 7959 §2.2).
    pub bad_blocks: u64,
    /// Block-wise transfers dropped at a bound.
    pub transfers_evicted: u64,
    /// Block-wise transfers that rested too long.
    pub transfers_expired: u64,
    /// Notifications sent, repetitions excluded.
    pub notifications_out: u64,
    /// Notifications handed to the application.
    pub notifications_in: u64,
    /// Notifications received out of order, dropped (RFC 7641 §3.4).
    pub notifications_stale: u64,
    /// Notifications replaced by a newer one before they were sent (RFC 7641 §4.5.2).
    pub notifications_superseded: u64,
    /// Observers without security dropped to make room for an authenticated one.
    pub observers_evicted: u64,
    /// Observers refused at a bound.
    pub observers_refused: u64,
}
