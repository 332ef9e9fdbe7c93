//! What the server asks of every device by itself: who it is, and to be told of changes.
//!
//! These are ordinary tasks of the durable queue, made by `server`: they wait for their turn, are retried and
//! survive a restart like those of an operator.

use std::collections::BTreeMap;

use homefleet_api::{AddObject, Operation, ParamSetting, SubscriptionState, TaskError, TaskResult};

use super::answer::Learned;
use super::{Controller, SELF};
use crate::clock::Millis;
use crate::core::State;
use crate::home;
use crate::store::{Batch, DeviceRecord, SubscriptionRecord, TaskRecord, Write};

const DEVICE_INFO: &str = "Device.DeviceInfo.";
const LOCAL_AGENT: &str = "Device.LocalAgent.";
const SUBSCRIPTIONS: &str = "Device.LocalAgent.Subscription.";
const CONTROLLERS: &str = "Device.LocalAgent.Controller.";
/// Prefix of the IDs of our subscriptions.
const OURS: &str = "homefleet-";
/// USP error "object exists with duplicate key".
const DUPLICATE_KEY: u32 = 7025;

impl Controller {
    /// Queues the reading of what identifies a device, unless it is queued already.
    pub(super) fn read_device(&self, state: &mut State, now: Millis, device: &str) {
        let mut paths = vec![DEVICE_INFO.to_owned(), LOCAL_AGENT.to_owned()];
        if self.0.core.inner().config.home.enabled {
            paths.extend(home::first_reading());
        }
        let operation = Operation::Get {
            paths,
            max_depth: 0,
        };
        if state.queue.has(device, SELF, &operation) {
            return;
        }
        let core = self.0.core.inner();
        let per_hour = core.config.limits.readings_per_hour;
        if !state.registry.may_read(now, device, per_hour) {
            core.metrics.readings_dropped.inc();
            tracing::debug!(device, "it was read often enough in this hour");
            return;
        }
        self.push_own(state, now, device, operation);
    }

    fn push_own(&self, state: &mut State, now: Millis, device: &str, operation: Operation) {
        if state.queue.has(device, SELF, &operation) {
            return;
        }
        let lifetime = self.0.core.inner().config.default_expiry;
        let pushed = self
            .0
            .core
            .new_task(state, now, device, operation, lifetime, SELF)
            .map_err(|error| error.to_string())
            .and_then(|task| {
                state
                    .queue
                    .push(task, Some(now))
                    .map_err(|error| error.to_string())
            });
        if let Err(problem) = pushed {
            tracing::warn!(device, problem, "an own task was not queued");
        }
    }

    /// Takes over what values say about the device itself.
    pub(super) fn learn(
        &self,
        state: &mut State,
        device: &str,
        learned: &Learned,
        batch: &mut Batch,
    ) {
        let updated = state.registry.update(device, |record| {
            for value in &learned.values {
                self.set_field(record, &value.path, &value.value);
            }
        });
        if let Some(updated) = updated {
            batch.push(Write::Device(Box::new(updated)));
        }
    }

    /// Like [`Controller::learn`] for one value; whether the record changed.
    pub(super) fn describe(
        &self,
        state: &mut State,
        device: &str,
        path: &str,
        value: &str,
        batch: &mut Batch,
    ) -> bool {
        match state
            .registry
            .update(device, |record| self.set_field(record, path, value))
        {
            Some(updated) => {
                batch.push(Write::Device(Box::new(updated)));
                true
            }
            None => false,
        }
    }

    /// What a device says of itself, when it says something and it is not too long to be remembered.
    pub(super) fn text(&self, text: &str) -> Option<String> {
        let core = self.0.core.inner();
        if text.len() > core.config.limits.text_length {
            core.metrics.refused_texts.inc();
            return None;
        }
        Some(text.to_owned()).filter(|text| !text.is_empty())
    }

    fn set_field(&self, record: &mut DeviceRecord, path: &str, value: &str) {
        if let Some(field) = field(record, path)
            && let Some(text) = self.text(value)
        {
            *field = Some(text);
        }
    }

    /// One of the server's own tasks was answered.
    pub(super) fn after_own_task(
        &self,
        state: &mut State,
        now: Millis,
        task: &TaskRecord,
        answer: &Result<TaskResult, TaskError>,
        learned: &Learned,
        batch: &mut Batch,
    ) {
        match &task.operation {
            Operation::Get { .. } if learned.complete.iter().any(|path| path == LOCAL_AGENT) => {
                if let Some(record) = state
                    .registry
                    .update(&task.device, |record| record.read = Some(now))
                {
                    batch.push(Write::Device(Box::new(record)));
                }
                self.ensure_subscriptions(state, now, &task.device, learned, batch);
            }
            // A device that does not answer path by path is asked for what every device has.
            Operation::Get { paths, .. }
                if answer.is_err()
                    && paths.len() > 2
                    && paths[..2] == [DEVICE_INFO, LOCAL_AGENT] =>
            {
                let operation = Operation::Get {
                    paths: paths[..2].to_vec(),
                    max_depth: 0,
                };
                self.push_own(state, now, &task.device, operation);
            }
            Operation::Add { objects, .. }
                if objects.iter().all(|object| object.path == SUBSCRIPTIONS) =>
            {
                for (place, object) in objects.iter().enumerate() {
                    batch.push(Write::Subscription(outcome(
                        &task.device,
                        object,
                        place,
                        answer,
                    )));
                }
            }
            _ => {}
        }
    }

    /// Compares the subscriptions of a device with those wanted, and queues what is missing.
    fn ensure_subscriptions(
        &self,
        state: &mut State,
        now: Millis,
        device: &str,
        learned: &Learned,
        batch: &mut Batch,
    ) {
        let own_id = self.0.id.as_str();
        let controller = learned
            .values
            .iter()
            .find(|value| {
                value.value == own_id
                    && value.path.starts_with(CONTROLLERS)
                    && value.path.ends_with(".EndpointID")
            })
            .map(|value| value.path.trim_end_matches(".EndpointID").to_owned());
        let present = present_subscriptions(learned, controller.as_deref());
        let mut wanted = self.0.core.inner().config.subscriptions.clone();
        if self.0.core.inner().config.home.enabled {
            wanted.extend(home::subscriptions(|path| {
                learned.complete.iter().any(|object| object == path)
                    || learned.values.iter().any(|value| value.path == path)
            }));
        }
        let wanted = &wanted;

        let stale: Vec<String> = present
            .iter()
            .filter(|(id, found)| {
                id.starts_with(OURS)
                    && !wanted.iter().any(|want| {
                        want.id == **id
                            && want.notification == found.notification
                            && same_paths(&want.paths, &found.paths)
                    })
            })
            .map(|(id, found)| {
                batch.push(Write::RemoveSubscription {
                    device: device.to_owned(),
                    id: id.clone(),
                });
                found.instance.clone()
            })
            .collect();
        if !stale.is_empty() {
            // ReferenceList cannot be changed once written: such a subscription is replaced.
            self.push_own(
                state,
                now,
                device,
                Operation::Delete {
                    allow_partial: true,
                    paths: stale.clone(),
                },
            );
        }
        for want in wanted {
            let kept = |found: &&Present| !stale.contains(&found.instance);
            // A device may come with a subscription that tells us the same under another ID.
            let found = present.get(&want.id).filter(kept).or_else(|| {
                present.values().filter(kept).find(|found| {
                    found.enabled
                        && controller.is_some()
                        && found.recipient == controller
                        && found.notification == want.notification
                        && same_paths(&want.paths, &found.paths)
                })
            });
            batch.push(Write::Subscription(SubscriptionRecord {
                device: device.to_owned(),
                id: want.id.clone(),
                notification: want.notification.clone(),
                paths: want.paths.clone(),
                state: if found.is_some() {
                    SubscriptionState::Active
                } else {
                    SubscriptionState::Wanted
                },
                instance: found.map(|found| found.instance.clone()),
                problem: None,
            }));
            if found.is_none() {
                let setting = |name: &str, value: &str, required| ParamSetting {
                    name: name.to_owned(),
                    value: value.to_owned(),
                    required,
                };
                let object = AddObject {
                    path: SUBSCRIPTIONS.to_owned(),
                    params: vec![
                        setting("ID", &want.id, true),
                        setting("NotifType", &want.notification, true),
                        setting("ReferenceList", &want.paths.join(","), true),
                        setting("Persistent", "true", false),
                        setting("NotifRetry", "true", false),
                        setting("Enable", "true", true),
                    ],
                };
                // One Add each: a device that refuses one path still takes the others.
                self.push_own(
                    state,
                    now,
                    device,
                    Operation::Add {
                        allow_partial: true,
                        objects: vec![object],
                    },
                );
            }
        }
    }
}

#[derive(Debug, Default)]
struct Present {
    instance: String,
    notification: String,
    paths: Vec<String>,
    recipient: Option<String>,
    enabled: bool,
}

/// The subscriptions in a complete reading of `Device.LocalAgent.`, by ID; those of other Controllers left out.
fn present_subscriptions(learned: &Learned, controller: Option<&str>) -> BTreeMap<String, Present> {
    let mut rows: BTreeMap<&str, (Option<&str>, Present)> = BTreeMap::new();
    for value in &learned.values {
        let Some((row, name)) = value
            .path
            .strip_prefix(SUBSCRIPTIONS)
            .and_then(|rest| rest.split_once('.'))
        else {
            continue;
        };
        let (id, present) = rows.entry(row).or_default();
        present.instance = format!("{SUBSCRIPTIONS}{row}.");
        match name {
            "ID" => *id = Some(&value.value),
            "Enable" => present.enabled = matches!(value.value.as_str(), "true" | "1"),
            "NotifType" => present.notification.clone_from(&value.value),
            "ReferenceList" => {
                present.paths = value
                    .value
                    .split(',')
                    .map(|path| path.trim().to_owned())
                    .collect()
            }
            "Recipient" => present.recipient = Some(value.value.trim_end_matches('.').to_owned()),
            _ => {}
        }
    }
    rows.into_values()
        .filter(|(_, present)| match (&present.recipient, controller) {
            (Some(recipient), Some(controller)) => recipient.is_empty() || recipient == controller,
            _ => true,
        })
        .filter_map(|(id, present)| Some((id?.to_owned(), present)))
        .collect()
}

fn same_paths(wanted: &[String], found: &[String]) -> bool {
    wanted.len() == found.len() && wanted.iter().all(|path| found.contains(path))
}

/// What became of one subscription that was to be added.
fn outcome(
    device: &str,
    object: &AddObject,
    place: usize,
    answer: &Result<TaskResult, TaskError>,
) -> SubscriptionRecord {
    let setting = |name: &str| {
        object
            .params
            .iter()
            .find(|param| param.name == name)
            .map(|param| param.value.clone())
            .unwrap_or_default()
    };
    let (state, instance, problem) = match answer {
        Ok(TaskResult::Add { objects }) => match objects.get(place) {
            Some(result) if result.error.is_none() => {
                (SubscriptionState::Active, result.path.clone(), None)
            }
            Some(result) => (
                SubscriptionState::Refused,
                None,
                result.error.as_ref().map(|error| error.message.clone()),
            ),
            None => (SubscriptionState::Wanted, None, None),
        },
        Ok(_) => (SubscriptionState::Wanted, None, None),
        // It is there already; the next reading finds its instance.
        Err(error) if error.usp_code == Some(DUPLICATE_KEY) => {
            (SubscriptionState::Active, None, None)
        }
        Err(error) => (
            SubscriptionState::Refused,
            None,
            Some(error.message.clone()),
        ),
    };
    SubscriptionRecord {
        device: device.to_owned(),
        id: setting("ID"),
        notification: setting("NotifType"),
        paths: setting("ReferenceList")
            .split(',')
            .map(str::to_owned)
            .collect(),
        state,
        instance,
        problem,
    }
}

/// The field of the record that a parameter is.
fn field<'a>(record: &'a mut DeviceRecord, path: &str) -> Option<&'a mut Option<String>> {
    Some(match path.strip_prefix(DEVICE_INFO)? {
        "Manufacturer" => &mut record.manufacturer,
        "ManufacturerOUI" => &mut record.oui,
        "ModelName" => &mut record.model_name,
        "ProductClass" => &mut record.product_class,
        "SerialNumber" => &mut record.serial_number,
        "SoftwareVersion" => &mut record.software_version,
        _ => return None,
    })
}
