//! Tasks as USP requests.

use homefleet_api::Operation;
use homefleet_usp::message::Request;
use homefleet_usp::proto::msg;

use crate::store::TaskRecord;

/// The Message ID of a task's attempt: unique per attempt, and the task is found by it (R-MSG.9).
pub(super) fn msg_id(task: &TaskRecord) -> String {
    format!("{}/{}", task.id, task.attempts)
}

/// The task a Message ID belongs to.
pub(super) fn task_of(msg_id: &str) -> &str {
    msg_id.split_once('/').map_or(msg_id, |(task, _)| task)
}

/// The request of a task.
pub(super) fn build(task: &TaskRecord) -> Request {
    match task.operation.clone() {
        Operation::Add {
            allow_partial,
            objects,
        } => Request::Add(msg::Add {
            allow_partial,
            create_objs: objects
                .into_iter()
                .map(|object| msg::add::CreateObject {
                    obj_path: object.path,
                    param_settings: object
                        .params
                        .into_iter()
                        .map(|setting| msg::add::CreateParamSetting {
                            param: setting.name,
                            value: setting.value,
                            required: setting.required,
                        })
                        .collect(),
                })
                .collect(),
        }),
        Operation::Delete {
            allow_partial,
            paths,
        } => Request::Delete(msg::Delete {
            allow_partial,
            obj_paths: paths,
        }),
        Operation::Get { paths, max_depth } => Request::Get(msg::Get {
            param_paths: paths,
            max_depth,
        }),
        Operation::GetInstances {
            paths,
            first_level_only,
        } => Request::GetInstances(msg::GetInstances {
            obj_paths: paths,
            first_level_only,
        }),
        Operation::GetSupportedDm {
            paths,
            first_level_only,
            return_commands,
            return_events,
            return_params,
        } => Request::GetSupportedDm(msg::GetSupportedDm {
            obj_paths: paths,
            first_level_only,
            return_commands,
            return_events,
            return_params,
            return_unique_key_sets: false,
        }),
        // Something harmless: who answers is awake.
        Operation::GetSupportedProtocol {} | Operation::Wake {} => {
            Request::GetSupportedProtocol(msg::GetSupportedProtocol {
                controller_supported_protocol_versions: super::VERSIONS.to_owned(),
            })
        }
        Operation::Operate {
            command,
            args,
            command_key,
        } => Request::Operate(msg::Operate {
            command,
            command_key: command_key.unwrap_or_else(|| task.id.clone()),
            send_resp: true,
            input_args: args,
        }),
        Operation::Set {
            allow_partial,
            objects,
        } => Request::Set(msg::Set {
            allow_partial,
            update_objs: objects
                .into_iter()
                .map(|object| msg::set::UpdateObject {
                    obj_path: object.path,
                    param_settings: object
                        .params
                        .into_iter()
                        .map(|setting| msg::set::UpdateParamSetting {
                            param: setting.name,
                            value: setting.value,
                            required: setting.required,
                        })
                        .collect(),
                })
                .collect(),
        }),
    }
}
