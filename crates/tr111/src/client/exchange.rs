//! One request and its repetitions (RFC 3489 §9.3).

use std::time::{Duration, Instant};

use super::Socket;
use crate::stun::TransactionId;

/// Wait after the first transmission; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(100);
/// Longest wait between transmissions.
const LONGEST: Duration = Duration::from_millis(1600);
/// Transmissions of a request before it has failed, 9.5 s after the first.
const SENDS: u32 = 9;
/// Transmissions of a test before the binding counts as gone.
const TEST_SENDS: u32 = 5;
/// How long a test may take: 3.1 s, and a little for whoever calls late.
pub(super) const TEST_TIME: Duration = Duration::from_secs(4);

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To learn the binding and keep it alive.
    Refresh,
    /// To tell that the binding has changed.
    Change,
    /// To find out whether the binding outlasted this silence.
    Test {
        /// Since the primary socket last sent or received.
        silence: Duration,
    },
}

impl Purpose {
    /// Where it is sent from.
    pub(super) fn socket(self) -> Socket {
        match self {
            Self::Refresh | Self::Change => Socket::Primary,
            Self::Test { .. } => Socket::Secondary,
        }
    }

    fn sends(self) -> u32 {
        match self {
            Self::Refresh | Self::Change => SENDS,
            Self::Test { .. } => TEST_SENDS,
        }
    }
}

/// A request that has no answer yet.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) id: TransactionId,
    pub(super) purpose: Purpose,
    /// Sent with MESSAGE-INTEGRITY: the answer must have it.
    pub(super) protected: bool,
    pub(super) octets: Vec<u8>,
    sent: u32,
    /// When it is sent again, or has failed.
    pub(super) due: Instant,
}

/// What became due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// To be sent again.
    Again,
    /// Nobody answered.
    Failed,
}

impl Exchange {
    /// A request that is sent now for the first time.
    pub(super) fn start(
        now: Instant,
        id: TransactionId,
        purpose: Purpose,
        protected: bool,
        octets: Vec<u8>,
    ) -> Self {
        Self {
            id,
            purpose,
            protected,
            octets,
            sent: 1,
            due: now + FIRST,
        }
    }

    /// What is due at `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Due> {
        if now < self.due {
            return None;
        }
        if self.sent >= self.purpose.sends() {
            return Some(Due::Failed);
        }
        self.due = now + (FIRST * 2u32.pow(self.sent.min(8))).min(LONGEST);
        self.sent += 1;
        Some(Due::Again)
    }
}
