//! Notifications on their way: sent once, or again and again until they are answered (R-NOT.1 to R-NOT.6a).

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use homefleet_model::path::ObjectPath;
use homefleet_usp::message::Message;

use super::Notice;
use crate::{
    controllers::{Controller, Controllers},
    provider::Now,
    random::Random,
    store::{Batch, StoredNotification},
};

/// A Message for a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// Row of the controller.
    pub(crate) controller: ObjectPath,
    /// Its Endpoint ID.
    pub(crate) endpoint_id: String,
    /// Its Message ID.
    pub(crate) msg_id: String,
    /// It is sent again until it is answered.
    pub(crate) retried: bool,
    /// The encoded Message.
    pub(crate) message: Vec<u8>,
}

/// A notification that waits for its NotifyResp.
#[derive(Clone, Debug)]
struct Pending {
    controller: ObjectPath,
    endpoint_id: String,
    /// Absent: an OnBoardRequest.
    subscription: Option<ObjectPath>,
    message: Vec<u8>,
    /// How often it was sent again.
    attempt: u32,
    next: Instant,
    expires: Option<Instant>,
    stored: bool,
    /// No MTP has it: it is due as soon as the controller can be reached.
    unsent: bool,
    order: u64,
}

/// Notifications on their way.
#[derive(Debug)]
pub(crate) struct Outbox {
    pending: BTreeMap<String, Pending>,
    max_pending: usize,
    prefix: String,
    sequence: u64,
    /// Given up: expired, displaced, or nobody to send to.
    pub(crate) dropped: u64,
}

impl Outbox {
    /// An empty outbox; `run` tells the Message IDs of this start from those of others.
    pub(crate) fn new(max_pending: usize, run: u64) -> Self {
        Self {
            pending: BTreeMap::new(),
            max_pending,
            prefix: format!("{run:016x}"),
            sequence: 0,
            dropped: 0,
        }
    }

    /// Takes back a notification that was not answered before the agent stopped; its retry count starts
    /// again (R-NOT.4).
    pub(crate) fn restore(&mut self, stored: StoredNotification, controller: ObjectPath, now: Now) {
        let expires = stored.expires.map(|end| {
            let left = u64::try_from(end - crate::time::seconds(now.wall)).unwrap_or(0);
            now.instant + Duration::from_secs(left)
        });
        self.sequence += 1;
        let pending = Pending {
            controller,
            endpoint_id: stored.controller,
            subscription: stored.subscription.parse().ok(),
            message: stored.message,
            attempt: 0,
            next: now.instant,
            expires,
            stored: true,
            unsent: true,
            order: self.sequence,
        };
        self.pending.insert(stored.msg_id, pending);
    }

    /// Sends a notice for the first time, and remembers it when it wants an answer.
    pub(crate) fn post(
        &mut self,
        now: Now,
        notice: Notice,
        controller: &Controller,
        random: &mut Random,
        batch: &mut Batch,
    ) -> Outgoing {
        self.sequence += 1;
        let msg_id = format!("{}-{}", self.prefix, self.sequence);
        let message = Message::request(msg_id.clone(), notice.notify).encode();
        if notice.retry {
            self.make_room(batch);
            let lasts =
                (notice.expiration > 0).then(|| Duration::from_secs(notice.expiration.into()));
            let stored = notice.persistent && notice.subscription.is_some();
            if stored {
                batch.add.push(StoredNotification {
                    msg_id: msg_id.clone(),
                    controller: controller.endpoint_id.clone(),
                    subscription: notice
                        .subscription
                        .as_ref()
                        .map(ToString::to_string)
                        .unwrap_or_default(),
                    message: message.clone(),
                    expires: lasts.and_then(|lasts| end(now.wall, lasts)),
                });
            }
            let pending = Pending {
                controller: notice.recipient.clone(),
                endpoint_id: controller.endpoint_id.clone(),
                subscription: notice.subscription,
                message: message.clone(),
                attempt: 1,
                next: now.instant + controller.retry.wait(1, random.next_u32()),
                expires: lasts.map(|lasts| now.instant + lasts),
                stored,
                unsent: false,
                order: self.sequence,
            };
            self.pending.insert(msg_id.clone(), pending);
        }
        Outgoing {
            controller: notice.recipient,
            endpoint_id: controller.endpoint_id.clone(),
            msg_id,
            retried: notice.retry,
            message,
        }
    }

    /// No MTP took this notification, or none could deliver it.
    pub(crate) fn unsent(&mut self, msg_id: &str) {
        if let Some(one) = self.pending.get_mut(msg_id) {
            one.unsent = true;
        }
    }

    /// The controller can be reached: what no MTP has is due.
    pub(crate) fn resume(&mut self, controller: &ObjectPath, now: Now) {
        let waiting = self.pending.values_mut();
        for one in waiting.filter(|one| one.unsent && one.controller == *controller) {
            // R-NOT.4 counts answers that did not come, and nothing was asked.
            one.attempt = one.attempt.saturating_sub(1);
            one.next = now.instant;
        }
    }

    /// Sends again what is due, and gives up what has expired or has nobody left to go to. What a Controller subscribed to
    /// waits while it may not be told anything at all, by `told`.
    pub(crate) fn due(
        &mut self,
        now: Now,
        controllers: &Controllers,
        mut told: impl FnMut(&ObjectPath) -> bool,
        random: &mut Random,
        batch: &mut Batch,
    ) -> Vec<Outgoing> {
        let mut gone = Vec::new();
        let mut again = Vec::new();
        let mut pending: Vec<_> = self.pending.iter_mut().collect();
        pending.sort_by_key(|(_, one)| one.order);
        for (msg_id, one) in pending {
            let controller = controllers
                .get(&one.controller)
                .filter(|known| known.endpoint_id == one.endpoint_id);
            let (Some(controller), false) = (
                controller,
                one.expires.is_some_and(|end| end <= now.instant),
            ) else {
                gone.push(msg_id.clone());
                continue;
            };
            if one.next > now.instant {
                continue;
            }
            one.attempt = one.attempt.saturating_add(1);
            one.next = now.instant + controller.retry.wait(one.attempt, random.next_u32());
            let mut told = || one.subscription.is_none() || told(&one.controller);
            if !controller.ways.is_empty() && controller.enabled && told() {
                one.unsent = false;
                again.push(Outgoing {
                    controller: one.controller.clone(),
                    endpoint_id: one.endpoint_id.clone(),
                    msg_id: msg_id.clone(),
                    retried: true,
                    message: one.message.clone(),
                });
            }
        }
        for msg_id in gone {
            self.dropped += 1;
            self.forget(&msg_id, batch);
        }
        again
    }

    /// `from` answered; true when something waited for this answer. `accepted`: by a NotifyResp, which alone
    /// ends an OnBoardRequest (R-NOT.6a).
    pub(crate) fn answered(
        &mut self,
        msg_id: &str,
        from: &str,
        accepted: bool,
        batch: &mut Batch,
    ) -> Option<Answered> {
        let one = self
            .pending
            .get(msg_id)
            .filter(|one| one.endpoint_id == from)?;
        let onboarding = one.subscription.is_none();
        if onboarding && !accepted {
            return None;
        }
        let controller = one.controller.clone();
        self.forget(msg_id, batch);
        Some(Answered {
            controller,
            onboarding,
        })
    }

    /// Gives up everything of a subscription that is no more, or of those for which `gone` holds.
    pub(crate) fn forget_where(
        &mut self,
        gone: impl Fn(Option<&ObjectPath>, &ObjectPath) -> bool,
        batch: &mut Batch,
    ) {
        let ids: Vec<String> = self
            .pending
            .iter()
            .filter(|(_, one)| gone(one.subscription.as_ref(), &one.controller))
            .map(|(msg_id, _)| msg_id.clone())
            .collect();
        for msg_id in ids {
            self.dropped += 1;
            self.forget(&msg_id, batch);
        }
    }

    /// Nothing that waits here was sent yet: all of it is due.
    pub(crate) fn start_again(&mut self, now: Now) {
        for one in self.pending.values_mut() {
            one.attempt = 0;
            one.next = now.instant;
        }
    }

    /// Whether an OnBoardRequest for this controller waits for its answer.
    pub(crate) fn onboarding(&self, controller: &ObjectPath) -> bool {
        self.pending
            .values()
            .any(|one| one.subscription.is_none() && one.controller == *controller)
    }

    /// When something is due.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        let first = |one: &Pending| one.expires.map_or(one.next, |end| end.min(one.next));
        self.pending.values().map(first).min()
    }

    /// How many wait for their answer.
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    /// At the bound the oldest goes first, but never an OnBoardRequest.
    fn make_room(&mut self, batch: &mut Batch) {
        while self.pending.len() >= self.max_pending {
            let oldest = self
                .pending
                .iter()
                .filter(|(_, one)| one.subscription.is_some())
                .min_by_key(|(_, one)| one.order)
                .map(|(msg_id, _)| msg_id.clone());
            let Some(msg_id) = oldest else { return };
            self.dropped += 1;
            self.forget(&msg_id, batch);
        }
    }

    fn forget(&mut self, msg_id: &str, batch: &mut Batch) {
        if self.pending.remove(msg_id).is_some_and(|one| one.stored) {
            let before = batch.add.len();
            batch.add.retain(|stored| stored.msg_id != msg_id);
            // What is still to be added is not on disk yet.
            if batch.add.len() == before {
                batch.remove.push(msg_id.to_owned());
            }
        }
    }
}

/// A notification was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    /// Row of the controller.
    pub(crate) controller: ObjectPath,
    /// It was an OnBoardRequest.
    pub(crate) onboarding: bool,
}

/// Seconds since 1970 at which something ends that lasts from now on.
fn end(now: SystemTime, lasts: Duration) -> Option<i64> {
    now.checked_add(lasts).map(crate::time::seconds)
}
