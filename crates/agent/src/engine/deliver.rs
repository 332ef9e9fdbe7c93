//! Notifications on their way to a Controller that has several MTPs: the first that is up is used, the next when it fails.

use std::time::{Duration, Instant};

use homefleet_model::path::ObjectPath;
use homefleet_net::mtp::{Channel, Route};
use homefleet_usp::{EndpointId, Record};

use super::{Engine, Notified, Reach, Transmit};
use crate::{notify::Outgoing, provider::Now, transport::leads_over};

/// How long a notification that is not repeated waits for a channel to come up.
const HELD: Duration = Duration::from_secs(60);

/// A notification that is not repeated, and waits.
#[derive(Clone, Debug)]
pub(super) struct Held {
    outgoing: Outgoing,
    /// Not before the silence of R-SEC.19 is over, when absent.
    until: Option<Instant>,
}

impl Engine {
    /// Sends a notification by the first way that can be gone. `again`: it is due for repetition, so that a way that failed a moment
    /// ago is better than none.
    pub(super) fn transmit(&mut self, now: Now, outgoing: Outgoing, again: bool) {
        let Ok(to) = outgoing.endpoint_id.parse::<EndpointId>() else {
            tracing::warn!(
                endpoint_id = outgoing.endpoint_id,
                "not an Endpoint ID: nothing is sent to it"
            );
            return;
        };
        let route = self
            .choose(now, &outgoing.controller, &to, &[])
            .or_else(|| self.last_resort(&outgoing.controller, &to, again));
        let Some(route) = route else {
            self.wait_for_a_way(now, outgoing);
            return;
        };
        self.stats.notifications += 1;
        let own = self.settings.endpoint_id.clone();
        let record = Record::no_session(to.clone(), own, outgoing.message.clone()).encode();
        self.push(Transmit {
            route,
            endpoint_id: to,
            record,
            notification: Some(Notified {
                outgoing,
                tried: Vec::new(),
            }),
        });
    }

    /// Whether a notification of [`Action::Transmit`](super::Action::Transmit) was delivered.
    pub fn handle_delivery(&mut self, now: Now, transmit: Transmit, delivered: bool) {
        let Some(Notified {
            outgoing,
            mut tried,
        }) = transmit.notification
        else {
            return;
        };
        let way = self.way_of(&outgoing.controller, &transmit.route);
        let key = way.map(|way| (outgoing.controller.clone(), way));
        if delivered {
            if let Some(key) = key {
                self.reach.remove(&key);
            }
            self.confirm_by_delivery(&transmit.endpoint_id);
            self.settle(now, None);
            return;
        }
        self.stats.deliveries_failed += 1;
        if let Some(key) = key {
            self.failed(now, key);
        }
        tried.push(transmit.route);
        let to = transmit.endpoint_id;
        match self.choose(now, &outgoing.controller, &to, &tried) {
            Some(route) => {
                self.stats.detours += 1;
                self.push(Transmit {
                    route,
                    endpoint_id: to,
                    record: transmit.record,
                    notification: Some(Notified { outgoing, tried }),
                });
            }
            None if outgoing.retried => self.outbox.unsent(&outgoing.msg_id),
            None => self.stats.notifications_dropped += 1,
        }
    }

    fn failed(&mut self, now: Now, key: (ObjectPath, ObjectPath)) {
        let policy = self
            .controllers
            .get(&key.0)
            .map(|known| known.retry)
            .unwrap_or_default();
        let random = self.random.next_u32();
        let reach = self.reach.entry(key.clone()).or_default();
        reach.failures = reach.failures.saturating_add(1);
        reach.until = Some(now.instant + policy.wait(reach.failures, random));
        if reach.failures == 1 {
            tracing::warn!(controller = %key.0, mtp = %key.1, "controller unreachable");
        }
    }

    /// The first way, by `Order`, that can be gone, was not tried yet and did not fail a moment ago.
    fn choose(
        &self,
        now: Now,
        controller: &ObjectPath,
        to: &EndpointId,
        tried: &[Route],
    ) -> Option<Route> {
        let known = self.controllers.get(controller)?;
        known.ways.iter().find_map(|way| {
            let reach = self.reach.get(&(controller.clone(), way.row.clone()));
            let rests = reach.and_then(|reach| reach.until);
            // A channel that is up is worth trying, whatever became of one before it.
            let rests = rests.is_some_and(|until| until > now.instant)
                && matches!(way.route, Route::Coap(_));
            let route = self.usable(to, way).filter(|_| !rests)?;
            (!tried.contains(&route)).then_some(route)
        })
    }

    fn last_resort(&self, controller: &ObjectPath, to: &EndpointId, again: bool) -> Option<Route> {
        let known = self.controllers.get(controller).filter(|_| again)?;
        known.ways.iter().find_map(|way| self.usable(to, way))
    }

    fn way_of(&self, controller: &ObjectPath, route: &Route) -> Option<ObjectPath> {
        let known = self.controllers.get(controller)?;
        let way = known.ways.iter().find(|way| way.route == *route)?;
        Some(way.row.clone())
    }

    /// There is no way now: what is repeated waits for one, the rest for a while where a channel may come up.
    fn wait_for_a_way(&mut self, now: Now, outgoing: Outgoing) {
        if outgoing.retried {
            self.outbox.unsent(&outgoing.msg_id);
            return;
        }
        let known = self.controllers.get(&outgoing.controller);
        let comes = known.is_some_and(|known| {
            known.enabled
                && known
                    .ways
                    .iter()
                    .any(|way| !matches!(way.route, Route::Coap(_)))
        });
        if comes {
            self.hold(outgoing, Some(now.instant + HELD));
        } else {
            self.stats.notifications_dropped += 1;
        }
    }

    pub(super) fn hold(&mut self, outgoing: Outgoing, until: Option<Instant>) {
        if self.held.len() < self.settings.limits.max_pending {
            self.held.push(Held { outgoing, until });
        } else {
            self.stats.notifications_dropped += 1;
        }
    }

    /// Sends what was held back for the silence.
    pub(super) fn release(&mut self, now: Now) {
        for held in std::mem::take(&mut self.held) {
            self.transmit(now, held.outgoing, false);
        }
    }

    /// A channel is up: who is behind it gets what waited.
    pub(super) fn resume_over(&mut self, now: Now, channel: &Channel) {
        let behind: Vec<ObjectPath> = self
            .controllers
            .iter()
            .filter(|(_, known)| {
                let to: Result<EndpointId, _> = known.endpoint_id.parse();
                to.is_ok_and(|to| {
                    let mut ways = known.ways.iter();
                    ways.any(|way| leads_over(&way.route, &to, channel))
                })
            })
            .map(|(row, _)| row.clone())
            .collect();
        for row in &behind {
            self.outbox.resume(row, now);
        }
        if self.silent_until.is_some() {
            return;
        }
        let held = std::mem::take(&mut self.held);
        let (mine, rest): (Vec<Held>, Vec<Held>) = held
            .into_iter()
            .partition(|held| behind.contains(&held.outgoing.controller));
        self.held = rest;
        for held in mine {
            self.transmit(now, held.outgoing, false);
        }
        self.run_outbox(now);
    }

    /// What waited in vain is given up.
    pub(super) fn give_up(&mut self, now: Now) {
        let before = self.held.len();
        self.held
            .retain(|held| held.until.is_none_or(|until| until > now.instant));
        self.stats.notifications_dropped += (before - self.held.len()) as u64;
    }

    /// When [`give_up`](Self::give_up) has something to do.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.held.iter().filter_map(|held| held.until).min()
    }

    /// A Controller was heard over CoAP: it can be reached again.
    pub(super) fn heard(&mut self, controller: &ObjectPath) {
        self.reach.retain(|(row, _), _| row != controller);
    }

    /// What is kept about ways that are no more goes.
    pub(super) fn forget_ways(&mut self, before: &crate::controllers::Controllers) {
        let controllers = &self.controllers;
        self.reach.retain(|(row, _), _: &mut Reach| {
            let ways = |known: Option<&crate::controllers::Controller>| {
                known.map(|known| known.ways.clone()).unwrap_or_default()
            };
            controllers.contains_key(row) && ways(controllers.get(row)) == ways(before.get(row))
        });
    }
}
