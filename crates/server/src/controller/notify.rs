//! Notifications of devices (R-NOT).

use homefleet_api::{Event, Notification};
use homefleet_usp::proto::msg;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::{Controller, answer};
use crate::clock::Millis;
use crate::core::State;
use crate::store::{Batch, ParameterRecord, Write};

impl Controller {
    /// Takes a notification; the event to publish, and whether the device's record changed.
    pub(super) fn notified(
        &self,
        state: &mut State,
        now: Millis,
        device: &str,
        msg_id: &str,
        notify: msg::Notify,
        batch: &mut Batch,
    ) -> (Option<Event>, bool) {
        // Only what is answered is retried (R-NOT.1): the same ID with the same content is the same notification.
        let key = notify.send_resp.then(|| key(msg_id, &notify));
        let subscription_id = notify.subscription_id;
        let mut values = Vec::new();
        let mut removed = Vec::new();
        let mut changed = false;
        let notification = match notify.notification {
            Some(msg::notify::Notification::Event(event)) => {
                if event.event_name == "Boot!" {
                    self.read_device(state, now, device);
                }
                Some(Notification::Event {
                    object: event.obj_path,
                    event: event.event_name,
                    params: event.params,
                })
            }
            Some(msg::notify::Notification::ValueChange(change)) => {
                values.push(ParameterRecord {
                    path: change.param_path.clone(),
                    value: change.param_value.clone(),
                    seen: now,
                });
                changed = self.describe(
                    state,
                    device,
                    &change.param_path,
                    &change.param_value,
                    batch,
                );
                Some(Notification::ValueChange {
                    path: change.param_path,
                    value: change.param_value,
                })
            }
            Some(msg::notify::Notification::ObjCreation(creation)) => {
                for (name, value) in &creation.unique_keys {
                    let path = answer::join(&creation.obj_path, name);
                    values.push(ParameterRecord {
                        path,
                        value: value.clone(),
                        seen: now,
                    });
                }
                Some(Notification::ObjectCreation {
                    path: creation.obj_path,
                    unique_keys: creation.unique_keys,
                })
            }
            Some(msg::notify::Notification::ObjDeletion(deletion)) => {
                let path = if deletion.obj_path.ends_with('.') {
                    deletion.obj_path
                } else {
                    format!("{}.", deletion.obj_path)
                };
                removed.push(path.clone());
                Some(Notification::ObjectDeletion { path })
            }
            Some(msg::notify::Notification::OperComplete(complete)) => {
                // A retry must not end another task with the same command key.
                let repeated = key.is_some_and(|key| state.registry.completed_before(device, key));
                Some(Self::completed(state, now, device, complete, repeated))
            }
            Some(msg::notify::Notification::OnBoardReq(request)) => {
                let versions = answer::versions(&request.agent_supported_protocol_versions);
                let updated = state.registry.update(device, |record| {
                    record.oui = self.text(&request.oui).or(record.oui.take());
                    record.product_class = self
                        .text(&request.product_class)
                        .or(record.product_class.take());
                    record.serial_number = self
                        .text(&request.serial_number)
                        .or(record.serial_number.take());
                    record.versions.clone_from(&versions);
                });
                if let Some(updated) = updated {
                    batch.push(Write::Device(Box::new(updated)));
                    changed = true;
                }
                self.read_device(state, now, device);
                Some(Notification::OnBoardRequest {
                    oui: request.oui,
                    product_class: request.product_class,
                    serial_number: request.serial_number,
                    protocol_versions: versions,
                })
            }
            // Decoding refuses a Notify without content.
            None => None,
        };
        batch.push(Write::Notification {
            device: device.to_owned(),
            key,
            time: now,
            values,
            removed,
        });
        let event = notification.map(|notification| Event::Notification {
            device: device.to_owned(),
            time: now.to_timestamp(),
            subscription_id,
            notification,
        });
        (event, changed)
    }

    /// An asynchronous command ended: its task ends with it. A repetition finds no open task any more.
    fn completed(
        state: &mut State,
        now: Millis,
        device: &str,
        complete: msg::notify::OperationComplete,
        repeated: bool,
    ) -> Notification {
        use msg::notify::operation_complete::OperationResp;
        let outcome = match complete.operation_resp {
            Some(OperationResp::CmdFailure(failure)) => {
                Err(answer::some_error(failure.err_code, &failure.err_msg))
            }
            Some(OperationResp::ReqOutputArgs(args)) => Ok(args.output_args),
            None => Ok(std::collections::BTreeMap::new()),
        };
        let command = answer::join(&complete.obj_path, &complete.command_name);
        if !repeated
            && !state.queue.completed(
                now,
                device,
                &complete.command_key,
                &command,
                outcome.clone(),
            )
        {
            tracing::debug!(device, command, "a completion belongs to no open task");
        }
        let (output, error) = match outcome {
            Ok(output) => (Some(output), None),
            Err(error) => (None, Some(error)),
        };
        Notification::OperationComplete {
            object: complete.obj_path,
            command: complete.command_name,
            command_key: complete.command_key,
            output,
            error,
        }
    }
}

fn key(msg_id: &str, notify: &msg::Notify) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(msg_id.as_bytes());
    hash.update([0]);
    hash.update(notify.encode_to_vec());
    let digest: [u8; 32] = hash.finalize().into();
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    key
}
