//! Packet identifiers and what is on its way with Quality of Service 1 and 2 (MQTT 5.0 §4.3, §4.4), without I/O.
//!
//! ```text
//! out, QoS 1   PUBLISH ─> PUBACK                     in, QoS 1   PUBLISH ─> PUBACK
//! out, QoS 2   PUBLISH ─> PUBREC ─> PUBREL ─> PUBCOMP   in, QoS 2   PUBLISH ─> PUBREC … PUBREL ─> PUBCOMP
//! ```

use std::collections::{BTreeMap, BTreeSet};

use homefleet_usp::mtp::mqtt::{Publish, Qos};

/// What a client's session holds over its connections. `W` waits for the outcome of a PUBLISH.
#[derive(Debug)]
pub(super) struct Flow<W> {
    last_id: u16,
    /// In the order they were first sent: the number counts up, identifiers come round again.
    flights: BTreeMap<u64, Flight<W>>,
    ids: BTreeMap<u16, u64>,
    next: u64,
    bytes: usize,
    /// Identifiers of PUBLISH with QoS 2 that were taken and not released yet.
    taken: BTreeSet<u16>,
}

#[derive(Debug)]
struct Flight<W> {
    id: u16,
    /// `None` once PUBREC has come.
    publish: Option<Publish>,
    waiter: Option<W>,
}

/// What a packet of the broker leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<W> {
    /// The PUBLISH has arrived, or was refused: whoever waits is told.
    Done(Option<W>),
    /// PUBREL follows, and PUBCOMP to it.
    Release,
    /// There is no PUBLISH with this identifier that this could answer.
    Unknown,
}

/// What is sent again on a resumed session (MQTT 5.0 §4.4).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resend {
    /// With the duplicate flag.
    Publish(u16, Publish),
    /// PUBREL.
    Release(u16),
}

impl<W> Flow<W> {
    pub(super) fn new() -> Self {
        Self {
            last_id: 0,
            flights: BTreeMap::new(),
            ids: BTreeMap::new(),
            next: 0,
            bytes: 0,
            taken: BTreeSet::new(),
        }
    }

    /// How many PUBLISH are not acknowledged.
    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    /// Their payloads, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many incoming PUBLISH of QoS 2 are not released.
    pub(super) fn taken(&self) -> usize {
        self.taken.len()
    }

    /// An identifier that nothing on its way has, for SUBSCRIBE, UNSUBSCRIBE or PUBLISH. At most `u16::MAX - 1` are in use:
    /// the bound on flights sees to that.
    pub(super) fn allocate(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.ids.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    /// A PUBLISH of QoS 1 or 2 goes out. Its identifier.
    pub(super) fn publish(&mut self, publish: Publish, waiter: Option<W>) -> u16 {
        let id = self.allocate();
        self.bytes += publish.payload.len();
        self.ids.insert(id, self.next);
        let publish = Some(publish);
        self.flights.insert(
            self.next,
            Flight {
                id,
                publish,
                waiter,
            },
        );
        self.next += 1;
        id
    }

    /// The PUBLISH that was last given this identifier.
    pub(super) fn published(&self, id: u16) -> Option<&Publish> {
        self.flights.get(self.ids.get(&id)?)?.publish.as_ref()
    }

    /// PUBACK came.
    pub(super) fn puback(&mut self, id: u16) -> Step<W> {
        match self.published(id).map(|publish| publish.qos) {
            Some(Qos::AtLeastOnce) => self.finish(id),
            _ => Step::Unknown,
        }
    }

    /// PUBREC came; with a reason code of 0x80 or more it is the end (MQTT 5.0 §4.3.3).
    pub(super) fn pubrec(&mut self, id: u16, refused: bool) -> Step<W> {
        let Some(flight) = self
            .ids
            .get(&id)
            .and_then(|number| self.flights.get_mut(number))
        else {
            return Step::Unknown;
        };
        match &flight.publish {
            Some(publish) if publish.qos != Qos::ExactlyOnce => Step::Unknown,
            _ if refused => self.finish(id),
            publish => {
                self.bytes -= publish.as_ref().map_or(0, |publish| publish.payload.len());
                flight.publish = None;
                Step::Release
            }
        }
    }

    /// Whoever waits for this one, told before its exchange is over.
    pub(super) fn waiter(&mut self, id: u16) -> Option<W> {
        self.flights.get_mut(self.ids.get(&id)?)?.waiter.take()
    }

    /// PUBCOMP came.
    pub(super) fn pubcomp(&mut self, id: u16) -> Step<W> {
        if self.ids.contains_key(&id) && self.published(id).is_none() {
            self.finish(id)
        } else {
            Step::Unknown
        }
    }

    /// A PUBLISH of QoS 2 came: whether for the first time.
    pub(super) fn is_new(&self, id: u16) -> bool {
        !self.taken.contains(&id)
    }

    /// It was handed to the application; PUBREC follows.
    pub(super) fn take(&mut self, id: u16) {
        self.taken.insert(id);
    }

    /// PUBREL came: whether it releases something. PUBCOMP follows in any case.
    pub(super) fn release(&mut self, id: u16) -> bool {
        self.taken.remove(&id)
    }

    /// The connection ended: whoever waits is told that the outcome is open.
    pub(super) fn interrupt(&mut self) -> Vec<W> {
        let flights = self.flights.values_mut();
        flights.filter_map(|flight| flight.waiter.take()).collect()
    }

    /// The broker has our session: what is sent again, in its order; at most `most`, what is over is forgotten.
    pub(super) fn resume(&mut self, most: usize) -> Vec<Resend> {
        let over: Vec<u16> = self
            .flights
            .values()
            .skip(most)
            .map(|flight| flight.id)
            .collect();
        for id in over {
            self.finish(id);
        }
        self.flights
            .values()
            .map(|flight| match &flight.publish {
                Some(publish) => Resend::Publish(flight.id, publish.clone()),
                None => Resend::Release(flight.id),
            })
            .collect()
    }

    /// This one is not sent after all.
    pub(super) fn forget(&mut self, id: u16) -> Step<W> {
        self.finish(id)
    }

    /// The broker has no session of ours: ours begins anew too (MQTT 5.0 §3.2.2.1.1).
    pub(super) fn clear(&mut self) {
        self.flights.clear();
        self.ids.clear();
        self.taken.clear();
        self.bytes = 0;
    }

    fn finish(&mut self, id: u16) -> Step<W> {
        let Some(flight) = self
            .ids
            .remove(&id)
            .and_then(|number| self.flights.remove(&number))
        else {
            return Step::Unknown;
        };
        self.bytes -= flight.publish.map_or(0, |publish| publish.payload.len());
        Step::Done(flight.waiter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(qos: Qos, payload: &[u8]) -> Publish {
        Publish {
            topic: "t".to_owned(),
            qos,
            content_type: None,
            response_topic: None,
            payload: payload.to_vec(),
        }
    }

    #[test]
    fn qos_1_ends_with_puback_and_nothing_else() {
        let mut flow = Flow::new();
        let id = flow.publish(publish(Qos::AtLeastOnce, b"abc"), Some("waiter"));
        assert_eq!((flow.len(), flow.bytes()), (1, 3));
        assert_eq!(flow.pubrec(id, false), Step::Unknown);
        assert_eq!(flow.pubcomp(id), Step::Unknown);
        assert_eq!(flow.puback(id + 1), Step::Unknown);
        assert_eq!(flow.puback(id), Step::Done(Some("waiter")));
        assert_eq!(flow.puback(id), Step::Unknown);
        assert_eq!((flow.len(), flow.bytes()), (0, 0));
    }

    #[test]
    fn qos_2_goes_over_pubrec_to_pubcomp() {
        let mut flow = Flow::new();
        let id = flow.publish(publish(Qos::ExactlyOnce, b"abc"), Some("waiter"));
        assert_eq!(flow.puback(id), Step::Unknown);
        assert_eq!(flow.pubcomp(id), Step::Unknown);
        assert_eq!(flow.pubrec(id, false), Step::Release);
        assert_eq!((flow.len(), flow.bytes()), (1, 0));
        assert_eq!(flow.pubrec(id, false), Step::Release, "PUBREL was lost");
        assert_eq!(flow.pubcomp(id), Step::Done(Some("waiter")));
        let id = flow.publish(publish(Qos::ExactlyOnce, b"abc"), Some("refused"));
        assert_eq!(flow.pubrec(id, true), Step::Done(Some("refused")));
        assert_eq!((flow.len(), flow.bytes()), (0, 0));
    }

    #[test]
    fn what_comes_twice_with_qos_2_is_taken_once() {
        let mut flow = Flow::<()>::new();
        assert!(flow.is_new(7));
        flow.take(7);
        assert!(!flow.is_new(7));
        assert!(flow.release(7));
        assert!(!flow.release(7));
        assert!(flow.is_new(7));
    }

    #[test]
    fn identifiers_come_round_without_zero_and_without_those_in_use() {
        let mut flow = Flow::new();
        let first = flow.publish(publish(Qos::AtLeastOnce, b""), Some(1));
        assert_eq!(first, 1);
        for _ in 0..65_534 {
            assert_ne!(flow.allocate(), first);
        }
        assert_eq!(flow.allocate(), 2);
    }

    #[test]
    fn a_resumed_session_sends_again_in_its_order_and_a_new_one_nothing() {
        let mut flow = Flow::new();
        flow.last_id = u16::MAX - 1;
        let first = flow.publish(publish(Qos::AtLeastOnce, b"1"), Some(1));
        let second = flow.publish(publish(Qos::ExactlyOnce, b"2"), Some(2));
        let third = flow.publish(publish(Qos::AtLeastOnce, b"3"), Some(3));
        assert_eq!([first, second, third], [u16::MAX, 1, 2]);
        flow.pubrec(second, false);
        assert_eq!(flow.interrupt(), [1, 2, 3]);
        assert_eq!(flow.interrupt(), []);
        assert_eq!(
            flow.resume(10),
            [
                Resend::Publish(first, publish(Qos::AtLeastOnce, b"1")),
                Resend::Release(second),
                Resend::Publish(third, publish(Qos::AtLeastOnce, b"3")),
            ]
        );
        assert_eq!(flow.puback(first), Step::Done(None));
        assert_eq!(flow.resume(1), [Resend::Release(second)]);
        assert_eq!(flow.puback(third), Step::Unknown, "over the bound");
        flow.clear();
        assert_eq!((flow.resume(10), flow.bytes()), (vec![], 0));
    }
}
