//! What is due when.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What to do at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Repeat a Confirmable message or give it up.
    Retransmit(u64),
    /// A request has waited long enough for its response.
    Response(u64),
    /// A Non-confirmable request to a peer no longer counts as outstanding (PROBING_RATE).
    Slot(u64, u64),
    /// A response to a group's request has waited long enough (RFC 7252 §8.2).
    Leisure(u64),
    /// An observer may be told something again (RFC 7641 §4.5.1).
    Pace(u64),
    /// Notifications are overdue: register again.
    Reregister(u64),
}

/// Names a timer, for taking it back.
pub(super) type TimerKey = (Instant, u64);

/// Ordered by time.
pub(super) struct Timers {
    due: BTreeMap<TimerKey, Timer>,
    next: u64,
}

impl Timers {
    pub(super) fn new() -> Timers {
        Timers {
            due: BTreeMap::new(),
            next: 0,
        }
    }

    pub(super) fn set(&mut self, at: Instant, timer: Timer) -> TimerKey {
        self.next = self.next.wrapping_add(1);
        let key = (at, self.next);
        self.due.insert(key, timer);
        key
    }

    pub(super) fn cancel(&mut self, key: Option<TimerKey>) {
        if let Some(key) = key {
            self.due.remove(&key);
        }
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        self.due.first_key_value().map(|(key, _)| key.0)
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let first = self.due.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

/// `now + wait`, bounded so that no configuration can overflow the clock.
pub(super) fn after(now: Instant, wait: Duration) -> Instant {
    const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);
    now.checked_add(wait.min(LONGEST)).unwrap_or(now)
}
