//! `Periodic!` for each controller that subscribed to it, and subscriptions whose `TimeToLive` is over.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use homefleet_model::path::ObjectPath;

use super::Engine;
use crate::{
    controllers::Controller,
    local_agent::table,
    notify::{self, Kind, covers},
    provider::Now,
};

/// A wait on wall time is looked at again after this long, because that clock can be set.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// What is to come.
#[derive(Debug, Default)]
pub(super) struct Periodic {
    next: BTreeMap<ObjectPath, Next>,
    end_of_life: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Next {
    interval: u32,
    phase: Option<SystemTime>,
    at: Instant,
}

impl Periodic {
    pub(super) fn timeout(&self) -> Option<Instant> {
        self.next.values().map(|next| next.at).min()
    }

    pub(super) fn end_of_life(&self) -> Option<Instant> {
        self.end_of_life
    }
}

impl Next {
    /// The next point at `phase` plus or minus a multiple of the interval; without a phase, an interval from now.
    fn after(now: Now, controller: &Controller) -> Self {
        let interval = Duration::from_secs(controller.interval.into());
        let wait = match controller.phase {
            None => interval,
            Some(phase) => {
                let step = interval.as_millis();
                let left = match now.wall.duration_since(phase) {
                    Ok(since) => step - since.as_millis() % step,
                    Err(ahead) => match ahead.duration().as_millis() % step {
                        0 => step,
                        left => left,
                    },
                };
                Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX))
            }
        };
        Self {
            interval: controller.interval,
            phase: controller.phase,
            at: now.instant + wait,
        }
    }
}

impl Engine {
    /// Plans anew what the controller and subscription tables say; what is planned already stays.
    pub(super) fn schedule_periodic(&mut self, now: Now) {
        let object = table("Device.LocalAgent.");
        let tree = &self.device.tree;
        let mut next = BTreeMap::new();
        for (row, controller) in self.controllers.iter().filter(|(_, known)| known.enabled) {
            let wanted = self.subscriptions.iter().any(|subscription| {
                subscription.kind == Kind::Event
                    && subscription.recipient == *row
                    && subscription
                        .references
                        .iter()
                        .any(|reference| covers(tree, reference, &object, "Periodic!"))
            });
            if !wanted {
                continue;
            }
            let planned = self.periodic.next.get(row).copied().filter(|planned| {
                planned.interval == controller.interval && planned.phase == controller.phase
            });
            next.insert(
                row.clone(),
                planned.unwrap_or_else(|| Next::after(now, controller)),
            );
        }
        self.periodic.next = next;
        self.plan_end_of_life(now);
    }

    /// Sends what is due.
    pub(super) fn run_periodic(&mut self, now: Now) {
        let object = table("Device.LocalAgent.");
        let due: Vec<ObjectPath> = self
            .periodic
            .next
            .iter()
            .filter(|(_, next)| next.at <= now.instant)
            .map(|(row, _)| row.clone())
            .collect();
        for row in due {
            let params = BTreeMap::new();
            let notices = self.subscriptions.on_event(
                &self.device.tree,
                &object,
                "Periodic!",
                &params,
                Some(&row),
            );
            self.notices.extend(notices);
            if let (Some(controller), Some(next)) =
                (self.controllers.get(&row), self.periodic.next.get_mut(&row))
            {
                *next = Next::after(now, controller);
            }
        }
    }

    /// Removes subscriptions whose `TimeToLive` is over.
    pub(super) fn end_subscriptions(&mut self, now: Now) {
        if self.periodic.end_of_life.is_none_or(|at| at > now.instant) {
            return;
        }
        for row in self.device.tree.rows(&table(notify::TABLE)) {
            if notify::end_of_life(&self.device.tree, &row).is_some_and(|end| end <= now.wall) {
                self.device.tree.remove_instance(&row);
            }
        }
        self.plan_end_of_life(now);
    }

    fn plan_end_of_life(&mut self, now: Now) {
        let tree = &self.device.tree;
        let ends = tree
            .rows(&table(notify::TABLE))
            .into_iter()
            .filter_map(|row| notify::end_of_life(tree, &row))
            .min();
        self.periodic.end_of_life = ends.map(|end| {
            let left = end.duration_since(now.wall).unwrap_or_default();
            now.instant + left.min(LONGEST_WAIT)
        });
    }
}
