//! The least time between notifications (TR-111: `UDPConnectionRequestAddressNotificationLimit`, `ManageableDeviceNotificationLimit`).

use std::time::{Duration, Instant};

/// Delays notifications so that they are at least the limit apart; changes that come meanwhile become one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotificationLimit {
    least: Duration,
    last: Option<Instant>,
    pending: bool,
}

impl NotificationLimit {
    /// A limit; zero for none.
    pub fn new(least: Duration) -> Self {
        Self {
            least,
            ..Self::default()
        }
    }

    /// Another limit, counted from the last notification.
    pub fn set(&mut self, least: Duration) {
        self.least = least;
    }

    /// Something changed. Ask [`NotificationLimit::take`] next.
    pub fn changed(&mut self) {
        self.pending = true;
    }

    /// Whether to notify now; then this counts as the last notification.
    pub fn take(&mut self, now: Instant) -> bool {
        let due = self
            .poll_timeout()
            .is_some_and(|due| due.is_none_or(|due| due <= now));
        if due {
            self.pending = false;
            self.last = Some(now);
        }
        due
    }

    /// When to ask [`NotificationLimit::take`] again: `None` when nothing waits, `Some(None)` for at once.
    pub fn poll_timeout(&self) -> Option<Option<Instant>> {
        // A limit beyond what an instant can hold is kept for ever.
        let due = |last: Instant| last.checked_add(self.least);
        match self.last {
            _ if !self.pending => None,
            None => Some(None),
            Some(last) => due(last).map(Some),
        }
    }
}
