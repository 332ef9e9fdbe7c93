//! What is counted.

use std::sync::atomic::{AtomicU64, Ordering};

use homefleet_usp::mtp::stomp::Stats;

/// Counters of USP over STOMP, over all connections since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StompStats {
    /// Connections that are up now.
    pub up: u64,
    /// Times that a connection came up.
    pub connected: u64,
    /// Times that a connection could not be made, or ended without being told to.
    pub failed: u64,
    /// Of these, because the broker sent ERROR (R-STOMP.25).
    pub broker_errors: u64,
    /// Of these, because a heart-beat was missed (R-STOMP.11).
    pub heart_beats_missed: u64,
    /// Of these, because what came was no STOMP 1.2, or not in its place.
    pub protocol_errors: u64,
    /// Of these, because the broker's certificate was refused, at first or later (R-MTP.4).
    pub untrusted: u64,
    /// Records handed on.
    pub records_in: u64,
    /// Records delivered.
    pub records_out: u64,
    /// Records not delivered.
    pub records_failed: u64,
    /// Messages that are no Record, handed on as such.
    pub erroneous: u64,
    /// Messages of another content type; dropped.
    pub other_content: u64,
    /// Messages dropped because their sender does not send over the destination that they came over (R-SEC.4c).
    pub forged: u64,
    /// Messages dropped because the broker is no Trusted Broker, and its certificate not the sender's (R-SEC.0a, R-SEC.26).
    pub untrusted_broker: u64,
    /// Heart-beats sent.
    pub heart_beats_out: u64,
    /// Receipts received (R-STOMP.30).
    pub receipts: u64,
    /// Times that nothing was read because there was no room for more events.
    pub held_back: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) up: AtomicU64,
    pub(super) connected: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) broker_errors: AtomicU64,
    pub(super) heart_beats_missed: AtomicU64,
    pub(super) protocol_errors: AtomicU64,
    pub(super) untrusted: AtomicU64,
    pub(super) records_in: AtomicU64,
    pub(super) records_out: AtomicU64,
    pub(super) records_failed: AtomicU64,
    pub(super) erroneous: AtomicU64,
    other_content: AtomicU64,
    forged: AtomicU64,
    pub(super) untrusted_broker: AtomicU64,
    heart_beats_out: AtomicU64,
    receipts: AtomicU64,
    pub(super) held_back: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn uncount(counter: &AtomicU64) {
    counter.fetch_sub(1, Ordering::Relaxed);
}

impl Counters {
    /// Adds what happened in a session since `before`.
    pub(super) fn add(&self, before: &Stats, after: &Stats) {
        let add = |counter: &AtomicU64, before: u64, after: u64| {
            if after != before {
                counter.fetch_add(after - before, Ordering::Relaxed);
            }
        };
        add(
            &self.other_content,
            before.other_content,
            after.other_content,
        );
        add(
            &self.heart_beats_out,
            before.heart_beats_out,
            after.heart_beats_out,
        );
        add(&self.forged, before.forged, after.forged);
        add(&self.receipts, before.receipts, after.receipts);
    }

    pub(super) fn read(&self) -> StompStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StompStats {
            up: read(&self.up),
            connected: read(&self.connected),
            failed: read(&self.failed),
            broker_errors: read(&self.broker_errors),
            heart_beats_missed: read(&self.heart_beats_missed),
            protocol_errors: read(&self.protocol_errors),
            untrusted: read(&self.untrusted),
            records_in: read(&self.records_in),
            records_out: read(&self.records_out),
            records_failed: read(&self.records_failed),
            erroneous: read(&self.erroneous),
            other_content: read(&self.other_content),
            forged: read(&self.forged),
            untrusted_broker: read(&self.untrusted_broker),
            heart_beats_out: read(&self.heart_beats_out),
            receipts: read(&self.receipts),
            held_back: read(&self.held_back),
        }
    }
}
