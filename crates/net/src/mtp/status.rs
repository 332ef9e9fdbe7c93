//! How a connection stands that is to be kept open.

use std::time::SystemTime;

/// How a connection stands: for the `Status` parameters of the data model, and for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// Since when.
    pub since: SystemTime,
    /// Attempts that failed since it was last up.
    pub failures: u32,
}

/// What a connection is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is being made; Records cannot be sent yet.
    Connecting,
    /// Records pass.
    Up,
    /// It failed or ended, and is waiting for its next attempt, or for another configuration. Why, for a person.
    Error(String),
}

impl Status {
    /// Just begun.
    pub fn connecting() -> Self {
        Self {
            state: State::Connecting,
            since: SystemTime::now(),
            failures: 0,
        }
    }

    /// Goes over into another state now.
    pub fn becomes(&mut self, state: State, failures: u32) {
        if self.state != state {
            self.since = SystemTime::now();
        }
        self.state = state;
        self.failures = failures;
    }

    /// Whether Records pass.
    pub fn is_up(&self) -> bool {
        self.state == State::Up
    }
}
