//! After everything that can change something: tell those concerned, write to disk, then act.

use std::collections::BTreeMap;

use homefleet_cwmp::notify::Author;
use homefleet_model::{path::ObjectPath, tree::Change};
use homefleet_usp::{
    error::ErrorCode,
    message::{Body, Message},
};

use super::{Action, Engine, POLL_INTERVAL, certificates::TABLE as CERTIFICATES, receive::Answer};
use crate::{
    controllers,
    notify::{self, Outgoing},
    provider::Now,
    role::{Rights, TRUST},
    store::Batch,
    telemetry, transport,
};

impl Engine {
    /// Turns changes into notifications, writes what must last, and only then queues `answer` and the
    /// notifications for sending.
    pub(super) fn settle(&mut self, now: Now, answer: Option<Answer>) {
        self.absorb(now, Author::Other);
        self.run_cwmp(now);
        self.tell_changes(now);
        if std::mem::take(&mut self.trust_changed) {
            self.publish_trust();
        }
        if let Some(asked) = self.asked.take()
            && self.plan_changed
        {
            self.consider_trial(now, &asked);
        }
        let outgoing = self.post(now);
        let mut answer = answer;
        let written = self.write_batch();
        self.release_cwmp(now, written);
        if !written
            && let Some(answer) = answer.as_mut()
            && let Some(message) = answer
                .message
                .as_mut()
                .filter(|message| !matches!(message.body, Body::Error(_)))
        {
            // Nothing is promised that would not survive.
            let id = message.id.clone();
            *message = Message::error(
                id,
                ErrorCode(7003),
                "the agent's state could not be written to disk",
            );
            answer.request = None;
        }
        if let Some(answer) = answer {
            self.send(now, answer);
        }
        for outgoing in outgoing {
            self.transmit(now, outgoing, false);
        }
        self.publish_stun();
        if std::mem::take(&mut self.plan_changed) {
            self.publish_plan();
        }
        for name in std::mem::take(&mut self.reconnects) {
            let channels = self.channels.iter();
            let channels = channels.filter(|channel| channel.connection.as_ref() == Some(&name));
            let channels: Vec<_> = channels.map(|channel| channel.id).collect();
            self.take_leave(&channels, "a controller wants the connection made anew");
            self.actions.push_back(Action::Reconnect(name));
        }
    }

    /// What follows from changes of the tree that `author` made.
    pub(super) fn absorb(&mut self, now: Now, author: Author) {
        // The views change with the tree, and the tree can change because of the views (a subscription ends
        // with its controller): a few rounds reach the end.
        for _ in 0..4 {
            let changes = self.drain_changes(now);
            if changes.is_empty() {
                break;
            }
            let notices = self.subscriptions.on_changes(&self.device.tree, &changes);
            self.notices.extend(notices);
            self.telemetry.on_changes(now, &self.device.tree, &changes);
            self.follow_for_acs(now, &changes, author);
            self.follow(now, &changes);
        }
    }

    /// Tells the MTPs what to do when that has changed, and those whose channels end with it (R-MTP.7).
    fn publish_plan(&mut self) {
        self.plan = transport::plan(&self.device.tree, self.settings.allow_insecure);
        let mut plan = self.plan.clone();
        if self.silent_until.is_some() {
            // R-SEC.19: nobody is contacted yet.
            plan.websocket.clear();
            plan.stomp.clear();
            plan.mqtt.clear();
        }
        self.greet_all();
        if plan != self.published || !self.has_published {
            let doomed = self.doomed(&self.published, &plan);
            self.take_leave(&doomed, "the configuration has changed");
            self.published = plan.clone();
            self.has_published = true;
            self.actions.push_back(Action::Plan(plan));
        }
    }

    /// Reads the views again that the changes concern.
    fn follow(&mut self, now: Now, changes: &[Change]) {
        let touches = |table: &str| changes.iter().any(|change| path(change).starts_with(table));
        self.trust_changed |= [controllers::TABLE, CERTIFICATES, TRUST]
            .iter()
            .any(|path| touches(path));
        self.plan_changed |= [
            "Device.LocalAgent.MTP.",
            controllers::TABLE,
            "Device.STOMP.",
            "Device.MQTT.",
        ]
        .iter()
        .any(|path| touches(path));
        if touches(TRUST) {
            self.inherit_again();
        }
        if touches(notify::TABLE) {
            self.reload_subscriptions(now);
        }
        if touches(controllers::TABLE) {
            // The notices that are still to be sent know their controllers as they were: the last one goes
            // to the controller that was deleted or disabled (Device:2.16, Controller).
            let outgoing = self.post(now);
            for outgoing in outgoing {
                self.transmit(now, outgoing, false);
            }
            self.reload_controllers();
            let deleted: Vec<ObjectPath> = changes
                .iter()
                .filter_map(|change| match change {
                    Change::Deleted { path, .. } => Some(path.clone()),
                    _ => None,
                })
                .collect();
            self.end_with_controllers(&deleted);
            for change in changes {
                if let Change::Deleted { path, unique_keys } = change
                    && let Some(endpoint_id) = unique_keys.get("EndpointID")
                {
                    self.forget_met(path, endpoint_id);
                }
            }
        } else if self.plan_changed {
            // What a Controller's MTP refers to may have changed.
            self.reload_controllers();
        }
        if changes.iter().map(path).any(telemetry::is_setting) {
            self.reload_telemetry(now);
        }
        if touches(notify::TABLE) || touches(controllers::TABLE) {
            let (controllers, tree) = (&self.controllers, &self.device.tree);
            self.outbox.forget_where(
                |subscription, controller| {
                    !controllers.contains_key(controller)
                        || subscription
                            .is_some_and(|row| !tree.exists(row) && !row.as_str().is_empty())
                },
                &mut self.batch,
            );
            self.schedule_periodic(now);
        }
    }

    /// Reads the subscription table again; what is newly watched is looked at now, so that a ValueChange is
    /// a change since the subscription, not since the last look.
    pub(super) fn reload_subscriptions(&mut self, now: Now) {
        let known = std::mem::take(&mut self.watched);
        let before = self.device.tree.drain_changes();
        let mut view = notify::Subscriptions::default();
        view.reload(&self.device.tree);
        for subscription in view.iter().filter(|subscription| subscription.watches()) {
            for reference in &subscription.references {
                if self.device.has_provider(reference) && !self.watched.contains(reference) {
                    self.watched.push(reference.clone());
                }
            }
        }
        for reference in self.watched_for_acs() {
            if self.device.has_provider(&reference) && !self.watched.contains(&reference) {
                self.watched.push(reference);
            }
        }
        for reference in self.telemetry.watched() {
            if self.device.has_provider(&reference) && !self.watched.contains(&reference) {
                self.watched.push(reference);
            }
        }
        let new: Vec<_> = self
            .watched
            .iter()
            .filter(|reference| !known.contains(reference))
            .cloned()
            .collect();
        if !new.is_empty() {
            self.device.refresh_any(&new, now);
        }
        let mut changes = before;
        changes.extend(self.device.tree.drain_changes());
        let notices = self.subscriptions.on_changes(&self.device.tree, &changes);
        self.notices.extend(notices);
        self.telemetry.on_changes(now, &self.device.tree, &changes);
        self.follow_for_acs(now, &changes, Author::Other);
        view.reload(&self.device.tree);
        self.subscriptions = view;
        self.next_poll = match (self.watched.is_empty(), self.next_poll) {
            (true, _) => None,
            (false, Some(at)) => Some(at),
            (false, None) => Some(now.instant + POLL_INTERVAL),
        };
    }

    /// A subscription whose controller is no more ends too (`Recipient` is a reference that deletes).
    fn end_with_controllers(&mut self, deleted: &[ObjectPath]) {
        let orphans: Vec<ObjectPath> = self
            .device
            .tree
            .rows(&crate::local_agent::table(notify::TABLE))
            .into_iter()
            .filter(|row| {
                let recipient = crate::local_agent::text(&self.device.tree, row, "Recipient")
                    .trim_end_matches('.');
                recipient.is_empty()
                    || deleted
                        .iter()
                        .any(|gone| gone.as_str().trim_end_matches('.') == recipient)
            })
            .collect();
        for row in orphans {
            self.device.tree.remove_instance(&row);
        }
    }

    /// Gives the collected notices to the outbox.
    fn post(&mut self, now: Now) -> Vec<Outgoing> {
        let mut out = Vec::new();
        let mut rights: BTreeMap<ObjectPath, Rights> = BTreeMap::new();
        for mut notice in std::mem::take(&mut self.notices) {
            let recipient = rights
                .entry(notice.recipient.clone())
                .or_insert_with_key(|row| {
                    // As the view has it: one that was deleted is told so.
                    let known = self.controllers.get(row);
                    let roles = known.map_or(&[][..], |known| &known.roles);
                    Rights::of_roles(&self.device.tree, roles)
                });
            if !self.may_tell(recipient, &mut notice) {
                self.stats.permission_denied += 1;
                continue;
            }
            let Some(controller) = self
                .controllers
                .get(&notice.recipient)
                .filter(|known| known.enabled)
            else {
                self.stats.notifications_dropped += 1;
                continue;
            };
            let outgoing =
                self.outbox
                    .post(now, notice, controller, &mut self.random, &mut self.batch);
            if self.silent_until.is_none() {
                out.push(outgoing);
            } else if outgoing.retried {
                // It is sent when the silence ends.
                self.outbox.unsent(&outgoing.msg_id);
            } else {
                self.hold(outgoing, None);
            }
        }
        out
    }

    /// Writes what must last; false when that failed.
    pub(super) fn write_batch(&mut self) -> bool {
        if self.wiped {
            self.batch = Batch::default();
            return true;
        }
        let revision = self.device.tree.revision();
        if revision != self.revision {
            self.batch.tree = Some(self.device.tree.export());
        }
        if self.batch.is_empty() {
            return true;
        }
        let batch = std::mem::take(&mut self.batch);
        let again = batch.without_tree();
        match self.store.write(batch) {
            Ok(()) => {
                self.revision = revision;
                true
            }
            Err(error) => {
                // The tree is exported again; the rest is known here only.
                self.batch = again;
                self.stats.store_failures += 1;
                tracing::error!(%error, "state not written");
                false
            }
        }
    }
}

fn path(change: &Change) -> &str {
    match change {
        Change::ValueChanged { path, .. } => path.as_str(),
        Change::Created { path } | Change::Deleted { path, .. } => path.as_str(),
    }
}
