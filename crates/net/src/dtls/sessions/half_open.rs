//! Handshakes of strangers, and which of them goes when there are too many.

use std::collections::BTreeSet;
use std::time::Instant;

use homefleet_coap::SessionId;

/// Half-open handshakes by age. Those whose peer has spoken twice are *patient*: a flood from forged addresses says its
/// ClientHello once, a client repeats it. They keep their places while fresh ones come and go, up to three quarters of
/// all, so that room for newcomers stays.
#[derive(Debug, Default)]
pub(super) struct HalfOpen {
    fresh: BTreeSet<(Instant, SessionId)>,
    patient: BTreeSet<(Instant, SessionId)>,
}

impl HalfOpen {
    pub(super) fn insert(&mut self, started: Instant, id: SessionId) {
        self.fresh.insert((started, id));
    }

    pub(super) fn remove(&mut self, started: Instant, id: SessionId) {
        self.fresh.remove(&(started, id));
        self.patient.remove(&(started, id));
    }

    /// Its peer spoke again.
    pub(super) fn promote(&mut self, started: Instant, id: SessionId) {
        if self.fresh.remove(&(started, id)) {
            self.patient.insert((started, id));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.fresh.len() + self.patient.len()
    }

    /// Who goes so that no more than `max - 1` stay: the oldest fresh one, or the oldest patient one where they are too
    /// many.
    pub(super) fn surplus(&self, max: usize) -> Option<SessionId> {
        let max = max.max(1);
        if self.len() < max {
            return None;
        }
        let crowded = self.patient.len() > max - max.div_ceil(4);
        let oldest = if crowded || self.fresh.is_empty() {
            self.patient.first()
        } else {
            self.fresh.first()
        };
        oldest.map(|(_, id)| *id)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn oldest_fresh_handshake_goes_before_patient_ones_and_newcomers_keep_room() {
        let start = Instant::now();
        let at = |n: u64| start + Duration::from_millis(n);
        let mut half_open = HalfOpen::default();
        for n in 0..8 {
            half_open.insert(at(n), SessionId(n));
        }
        assert_eq!(half_open.surplus(9), None);
        assert_eq!(half_open.surplus(8), Some(SessionId(0)));
        half_open.promote(at(0), SessionId(0));
        assert_eq!(half_open.surplus(8), Some(SessionId(1)));
        for n in 1..7 {
            half_open.promote(at(n), SessionId(n));
        }
        // Seven of eight are patient, six may be.
        assert_eq!(half_open.surplus(8), Some(SessionId(0)));
        half_open.remove(at(0), SessionId(0));
        assert_eq!(half_open.len(), 7);
        assert_eq!(half_open.surplus(7), Some(SessionId(1)));
        // Nobody is promoted who is not there.
        half_open.promote(at(0), SessionId(0));
        assert_eq!(half_open.len(), 7);
    }
}
