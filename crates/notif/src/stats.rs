//! What is counted: for each publisher, and for all.

use std::ops::AddAssign;

use crate::error::Reason;

/// Messages and segments of one publisher, or of all.
///
/// Where loss is claimed (drafts from -09 on), every Message ID from the first to the highest is in exactly one of [`received`](Self::received),
/// [`refused`](Self::refused), [`incomplete`](Self::incomplete), [`pending`](Self::pending), [`lost`](Self::lost) and [`missing`](Self::missing).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Messages handed on, reassembled ones once.
    pub received: u64,
    /// Payload bytes of these.
    pub bytes: u64,
    /// Messages that arrived and were refused although their fixed header could be read; [`Stats::refused`] says why.
    pub refused: u64,
    /// Messages of which segments arrived, but not all in time, or whose place others needed.
    pub incomplete: u64,
    /// Messages waiting for segments now.
    pub pending: u64,
    /// Message IDs that never came and are too old to come.
    pub lost: u64,
    /// Message IDs not seen that may still come: gaps in the window now.
    pub missing: u64,
    /// Messages dropped because their Message ID had been seen.
    pub duplicate: u64,
    /// Messages that came after one with a higher Message ID.
    pub reordered: u64,
    /// Messages dropped because their Message ID is too far from the highest (-26 §11). Never a loss.
    pub out_of_window: u64,
    /// Times that the publisher began a new sequence of Message IDs.
    pub restarted: u64,
    /// Segments kept for reassembly.
    pub segments: u64,
    /// Segments dropped because the same one had come.
    pub duplicate_segments: u64,
    /// Segments dropped because they contradict those that had come: another content, beyond the last one, another media type.
    pub overlapping_segments: u64,
    /// Segments dropped because their message was complete, refused or given up.
    pub late_segments: u64,
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.bytes += other.bytes;
        self.refused += other.refused;
        self.incomplete += other.incomplete;
        self.pending += other.pending;
        self.lost += other.lost;
        self.missing += other.missing;
        self.duplicate += other.duplicate;
        self.reordered += other.reordered;
        self.out_of_window += other.out_of_window;
        self.restarted += other.restarted;
        self.segments += other.segments;
        self.duplicate_segments += other.duplicate_segments;
        self.overlapping_segments += other.overlapping_segments;
        self.late_segments += other.late_segments;
    }
}

/// Counters of a collector, since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Datagrams and DTLS records taken.
    pub datagrams: u64,
    /// Messages and segments found in them: as many as datagrams, but for frames in DTLS records.
    pub messages: u64,
    /// The sum over all publishers, those forgotten included.
    pub totals: Counters,
    /// Publishers known now.
    pub publishers: u64,
    /// Publishers forgotten to make room for others; what they sent stays counted.
    pub publishers_evicted: u64,
    /// Bytes held for reassembly now, bookkeeping included.
    pub reassembly_bytes: u64,
    /// Messages given up because a segment did not come in time.
    pub timed_out: u64,
    /// Messages given up because the bounds of reassembly needed their place.
    pub crowded_out: u64,
    /// DTLS records with framed messages.
    pub framed_records: u64,
    /// DTLS records with one bare message.
    pub bare_records: u64,
    pub(crate) refused: [u64; Reason::ALL.len()],
}

impl Stats {
    /// Datagrams, records or segments refused for this reason.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.refused.get(reason.index()).copied().unwrap_or(0)
    }

    /// Everything refused, whatever the reason.
    pub fn all_refused(&self) -> u64 {
        self.refused.iter().sum()
    }

    pub(crate) fn refuse(&mut self, reason: Reason) {
        if let Some(count) = self.refused.get_mut(reason.index()) {
            *count += 1;
        }
    }
}

impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.datagrams += other.datagrams;
        self.messages += other.messages;
        self.totals += other.totals;
        self.publishers += other.publishers;
        self.publishers_evicted += other.publishers_evicted;
        self.reassembly_bytes += other.reassembly_bytes;
        self.timed_out += other.timed_out;
        self.crowded_out += other.crowded_out;
        self.framed_records += other.framed_records;
        self.bare_records += other.bare_records;
        for (mine, theirs) in self.refused.iter_mut().zip(other.refused) {
            *mine += theirs;
        }
    }
}
