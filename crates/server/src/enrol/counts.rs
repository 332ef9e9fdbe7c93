//! What is counted of decisions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use homefleet_cmp::asn1::Failure;
use homefleet_cmp::authority::Decision;

use crate::metrics::Sample;

/// Refusals written into the audit log in a second, in the long run, and at once: others are only counted.
const NOTED: (f64, f64) = (20.0, 1000.0);

/// Counters of the front.
#[derive(Debug)]
pub(super) struct Counts {
    issued: AtomicU64,
    confirmed: AtomicU64,
    unwanted: AtomicU64,
    revoked: AtomicU64,
    told_to_wait: AtomicU64,
    answered: AtomicU64,
    refused: Vec<AtomicU64>,
    not_noted: AtomicU64,
    room: Mutex<(f64, Instant)>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            issued: AtomicU64::default(),
            confirmed: AtomicU64::default(),
            unwanted: AtomicU64::default(),
            revoked: AtomicU64::default(),
            told_to_wait: AtomicU64::default(),
            answered: AtomicU64::default(),
            refused: Failure::ALL.iter().map(|_| AtomicU64::default()).collect(),
            not_noted: AtomicU64::default(),
            room: Mutex::new((NOTED.1, Instant::now())),
        }
    }
}

impl Counts {
    pub(super) fn decided(&self, decision: &Decision) {
        let counter = match decision {
            Decision::Issue(_) => &self.issued,
            Decision::Revoked(_) => &self.revoked,
            Decision::Wait { .. } => &self.told_to_wait,
            Decision::Answer(_) => &self.answered,
            Decision::Reject(_) => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn confirmed(&self) {
        self.confirmed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn unwanted(&self) {
        self.unwanted.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a refusal; whether there is room to write it down: a flood of bad messages shall not fill the disk.
    pub(super) fn refused(&self, failure: Failure) -> bool {
        let place = Failure::ALL.iter().position(|other| *other == failure);
        if let Some(counter) = place.and_then(|place| self.refused.get(place)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let now = Instant::now();
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(room.1).as_secs_f64();
        *room = ((room.0 + passed * NOTED.0).min(NOTED.1), now);
        if room.0 < 1.0 {
            self.not_noted.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        room.0 -= 1.0;
        true
    }

    pub(super) fn samples(&self) -> Vec<Sample> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut samples = vec![
            Sample::counter(
                "cmp_issued",
                "Certificates issued over CMP",
                read(&self.issued),
            ),
            Sample::counter(
                "cmp_confirmed",
                "Certificates that their owners confirmed",
                read(&self.confirmed),
            ),
            Sample::counter(
                "cmp_unwanted",
                "Certificates taken back because nobody confirmed them",
                read(&self.unwanted),
            ),
            Sample::counter(
                "cmp_revoked",
                "Certificates revoked at the request of devices and RAs",
                read(&self.revoked),
            ),
            Sample::counter(
                "cmp_waiting",
                "Requests told to wait for an operator",
                read(&self.told_to_wait),
            ),
            Sample::counter("cmp_answered", "Questions answered", read(&self.answered)),
            Sample::counter(
                "cmp_refused_unnoted",
                "Refusals that are not in the audit log, because there were too many",
                read(&self.not_noted),
            ),
        ];
        samples.extend(
            Failure::ALL
                .iter()
                .zip(&self.refused)
                .filter_map(|(failure, counter)| {
                    let count = read(counter);
                    (count > 0).then(|| {
                        Sample::counter(
                            "cmp_refused",
                            "Messages and requests refused, by failInfo",
                            count,
                        )
                        .labelled("failure", format!("{failure:?}"))
                    })
                }),
        );
        samples
    }
}
