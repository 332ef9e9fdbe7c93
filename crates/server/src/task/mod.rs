//! Durable operations on devices.
//!
//! [`queue`] is the state machine: which task goes next to which device, what an answer, a failure, a
//! restart or the passing of time does to it. It knows neither protocol nor store: time is an argument,
//! changed tasks are drained and stored by [`driver`], which also hands ready tasks to the device's
//! protocol and wakes those who wait for a result.

pub mod check;
pub mod driver;
pub mod id;
pub mod queue;

pub use queue::{Queue, QueueConfig};

use crate::clock::Millis;
use crate::store::TaskRecord;

impl TaskRecord {
    /// The task as the REST API tells it.
    pub fn to_api(&self) -> homefleet_api::Task {
        let text = |time: Option<Millis>| time.map(Millis::to_timestamp);
        homefleet_api::Task {
            id: self.id.clone(),
            device: self.device.clone(),
            operation: self.operation.clone(),
            state: self.state,
            created: self.created.to_timestamp(),
            updated: self.updated.to_timestamp(),
            expires: self.expires.to_timestamp(),
            attempts: self.attempts,
            next_attempt: text(self.next_attempt),
            last_problem: self.last_problem.clone(),
            created_by: self.created_by.clone(),
            result: self.result.clone(),
            error: self.error.clone(),
        }
    }
}
