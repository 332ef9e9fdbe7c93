//! Token buckets: how fast messages and bytes may leave.

use std::time::{Duration, Instant};

use super::config::Pacing;

/// Tokens are counted in billionths, so that slow rates add up exactly enough.
const UNIT: i128 = 1_000_000_000;

/// One bucket for messages and one for bytes. Bytes may go into debt by one datagram, because its size is known only when it is
/// cut; the debt is paid before the next one.
#[derive(Debug)]
pub(super) struct Buckets {
    messages: Bucket,
    bytes: Bucket,
    at: Option<Instant>,
}

#[derive(Debug)]
struct Bucket {
    per_second: u64,
    burst: i128,
    level: i128,
}

impl Buckets {
    pub(super) fn new(pacing: &Pacing) -> Self {
        Self {
            messages: Bucket::new(pacing.messages_per_second, pacing.message_burst),
            bytes: Bucket::new(pacing.bytes_per_second, pacing.byte_burst),
            at: None,
        }
    }

    /// Whether `begun` messages may begin now and a datagram may leave.
    pub(super) fn allow(&mut self, now: Instant, begun: u32) -> bool {
        let passed = self
            .at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
        self.messages.fill(passed);
        self.bytes.fill(passed);
        self.bytes.level > 0 && self.messages.level >= i128::from(begun) * UNIT
    }

    pub(super) fn take_message(&mut self) {
        self.messages.level -= UNIT;
    }

    pub(super) fn take_bytes(&mut self, bytes: usize) {
        self.bytes.level -= bytes as i128 * UNIT;
    }

    /// Bytes that did not leave after all.
    pub(super) fn give_back(&mut self, bytes: usize) {
        self.bytes.level = (self.bytes.level + bytes as i128 * UNIT).min(self.bytes.burst);
    }

    /// When the next message may begin, counted from the last look.
    pub(super) fn when(&self, now: Instant) -> Instant {
        let wait = self.messages.wait(UNIT).max(self.bytes.wait(1));
        self.at.unwrap_or(now) + wait
    }
}

impl Bucket {
    fn new(per_second: u64, burst: u64) -> Self {
        let burst = i128::from(burst.max(1)) * UNIT;
        Self {
            per_second: per_second.max(1),
            burst,
            level: burst,
        }
    }

    fn fill(&mut self, passed: Duration) {
        let nanos = i128::try_from(passed.as_nanos()).unwrap_or(i128::MAX >> 64);
        // A billionth of a token per nanosecond and token of the rate.
        let more = nanos.saturating_mul(i128::from(self.per_second));
        self.level = self.level.saturating_add(more).min(self.burst);
    }

    /// How long until there are `wanted` billionths.
    fn wait(&self, wanted: i128) -> Duration {
        let missing = (wanted - self.level).max(0);
        let rate = i128::from(self.per_second);
        let nanos = (missing + rate - 1) / rate;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}
