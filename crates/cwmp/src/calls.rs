//! How many Connection Requests a device takes (TR-069 §3.2.2).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// What becomes of a Connection Request that is authentic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// 200 or 204, and a session: at once, or after the one that goes on.
    Take,
    /// 503: too many came.
    TooMany {
        /// For Retry-After.
        wait: Duration,
    },
}

/// Counts Connection Requests: at most so many within so long.
#[derive(Clone, Debug)]
pub struct Calls {
    most: usize,
    within: Duration,
    taken: VecDeque<Instant>,
    refused: u64,
}

impl Calls {
    /// At most `most` (at least one) within a time.
    pub fn new(most: usize, within: Duration) -> Self {
        Self {
            most: most.max(1),
            within,
            taken: VecDeque::new(),
            refused: 0,
        }
    }

    /// One has come, and proven who sent it: what others send does not count.
    pub fn admit(&mut self, now: Instant) -> Admission {
        while let Some(first) = self.taken.front()
            && now.saturating_duration_since(*first) >= self.within
        {
            self.taken.pop_front();
        }
        match self.taken.front() {
            Some(first) if self.taken.len() >= self.most => {
                self.refused += 1;
                let wait = self
                    .within
                    .saturating_sub(now.saturating_duration_since(*first));
                Admission::TooMany { wait }
            }
            _ => {
                self.taken.push_back(now);
                Admission::Take
            }
        }
    }

    /// How many were too many.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}
