//! USP responses as results of tasks, and what they teach about the device.
//!
//! A task whose every part was refused failed; one with parts that succeeded is done, and says which did not.

use std::collections::BTreeMap;

use homefleet_api as api;
use homefleet_api::{Operation, ParamError, PathError, TaskError, TaskErrorCode, TaskResult};
use homefleet_usp::message::Response;
use homefleet_usp::proto::msg;

use super::invalid_answer;
use crate::clock::Millis;
use crate::store::ParameterRecord;

/// Most versions of USP that a device is said to speak.
const MAX_VERSIONS: usize = 32;
/// Longest of them, in bytes.
const MAX_VERSION: usize = 16;

/// What an answer teaches.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Learned {
    /// Values.
    pub(super) values: Vec<ParameterRecord>,
    /// Object paths that were read completely.
    pub(super) complete: Vec<String>,
    /// Objects that are gone.
    pub(super) removed: Vec<String>,
    /// USP versions.
    pub(super) versions: Option<Vec<String>>,
}

impl Learned {
    fn add(&mut self, object: &str, params: &BTreeMap<String, String>, now: Millis) {
        for (name, value) in params {
            self.values.push(ParameterRecord {
                path: join(object, name),
                value: value.clone(),
                seen: now,
            });
        }
    }
}

/// The path of a parameter in an object; some devices leave out the object's last dot.
pub(super) fn join(object: &str, name: &str) -> String {
    if object.ends_with('.') {
        format!("{object}{name}")
    } else {
        format!("{object}.{name}")
    }
}

/// A USP Error as the failure of a task.
pub(super) fn error(error: msg::Error) -> TaskError {
    TaskError {
        code: TaskErrorCode::Device,
        usp_code: Some(error.err_code),
        message: describe(error.err_code, &error.err_msg),
        param_errors: error
            .param_errs
            .into_iter()
            .map(|param| ParamError {
                path: param.param_path,
                code: param.err_code,
                message: param.err_msg,
            })
            .collect(),
    }
}

/// The result of the operation from its response.
pub(super) fn read(
    operation: &Operation,
    response: Response,
    now: Millis,
) -> (Result<TaskResult, TaskError>, Learned) {
    let mut learned = Learned::default();
    let result = match (operation, response) {
        (Operation::Add { .. }, Response::AddResp(response)) => add(response, now, &mut learned),
        (Operation::Delete { .. }, Response::DeleteResp(response)) => {
            delete(response, &mut learned)
        }
        (Operation::Get { max_depth, .. }, Response::GetResp(response)) => {
            get(*max_depth, response, now, &mut learned)
        }
        (Operation::GetInstances { .. }, Response::GetInstancesResp(response)) => {
            instances(response, now, &mut learned)
        }
        (Operation::GetSupportedDm { .. }, Response::GetSupportedDmResp(response)) => {
            supported(response)
        }
        (Operation::GetSupportedProtocol {}, Response::GetSupportedProtocolResp(response)) => {
            let versions = versions(&response.agent_supported_protocol_versions);
            learned.versions = Some(versions.clone());
            Ok(TaskResult::GetSupportedProtocol { versions })
        }
        (Operation::Wake {}, Response::GetSupportedProtocolResp(_)) => Ok(TaskResult::Wake {
            attempts: Vec::new(),
            events: Vec::new(),
        }),
        (Operation::Operate { .. }, Response::OperateResp(response)) => operate(response),
        (Operation::Set { .. }, Response::SetResp(response)) => set(response, now, &mut learned),
        (operation, _) => Err(invalid_answer(format!(
            "the device answered {} with a response of another kind",
            operation.kind()
        ))),
    };
    (result, learned)
}

/// A list of versions.
pub(super) fn versions(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|version| !version.is_empty() && version.len() <= MAX_VERSION)
        .take(MAX_VERSIONS)
        .map(str::to_owned)
        .collect()
}

fn get(
    max_depth: u32,
    response: msg::GetResp,
    now: Millis,
    learned: &mut Learned,
) -> Result<TaskResult, TaskError> {
    let mut paths = Vec::new();
    for result in response.req_path_results {
        let error = path_error(result.err_code, &result.err_msg);
        let concrete = !result.requested_path.contains(['*', '[', '+', '#']);
        if error.is_none() && max_depth == 0 && concrete && result.requested_path.ends_with('.') {
            learned.complete.push(result.requested_path.clone());
        }
        let mut objects = Vec::new();
        for object in result.resolved_path_results {
            learned.add(&object.resolved_path, &object.result_params, now);
            objects.push(api::ResolvedObject {
                path: object.resolved_path,
                params: object.result_params,
            });
        }
        paths.push(api::GetResult {
            requested: result.requested_path,
            error,
            objects,
        });
    }
    all_failed(
        paths
            .iter()
            .map(|path| (path.requested.as_str(), path.error.as_ref())),
    )?;
    Ok(TaskResult::Get { paths })
}

fn set(
    response: msg::SetResp,
    now: Millis,
    learned: &mut Learned,
) -> Result<TaskResult, TaskError> {
    use msg::set_resp::updated_object_result::operation_status::OperStatus;
    let failures = |errors: Vec<msg::set_resp::ParameterError>| -> Vec<ParamError> {
        errors
            .into_iter()
            .map(|error| param_error(error.param, error.err_code, &error.err_msg))
            .collect()
    };
    let mut objects = Vec::new();
    for result in response.updated_obj_results {
        let mut object = api::SetResult {
            requested: result.requested_path,
            error: None,
            instances: Vec::new(),
        };
        match result.oper_status.and_then(|status| status.oper_status) {
            Some(OperStatus::OperSuccess(success)) => {
                for instance in success.updated_inst_results {
                    learned.add(&instance.affected_path, &instance.updated_params, now);
                    object.instances.push(api::UpdatedInstance {
                        path: instance.affected_path,
                        params: instance.updated_params,
                        failures: failures(instance.param_errs),
                    });
                }
            }
            Some(OperStatus::OperFailure(failure)) => {
                object.error = Some(some_error(failure.err_code, &failure.err_msg));
                for instance in failure.updated_inst_failures {
                    object.instances.push(api::UpdatedInstance {
                        path: instance.affected_path,
                        params: BTreeMap::new(),
                        failures: failures(instance.param_errs),
                    });
                }
            }
            None => {
                return Err(invalid_answer(
                    "the device left the status of an object out".to_owned(),
                ));
            }
        }
        objects.push(object);
    }
    all_failed(
        objects
            .iter()
            .map(|object| (object.requested.as_str(), object.error.as_ref())),
    )
    .map_err(|mut error| {
        let of_instances = objects
            .iter()
            .flat_map(|object| &object.instances)
            .flat_map(|instance| {
                instance.failures.iter().map(|failure| ParamError {
                    path: join(&instance.path, &failure.path),
                    ..failure.clone()
                })
            });
        error.param_errors.extend(of_instances);
        error
    })?;
    Ok(TaskResult::Set { objects })
}

fn add(
    response: msg::AddResp,
    now: Millis,
    learned: &mut Learned,
) -> Result<TaskResult, TaskError> {
    use msg::add_resp::created_object_result::operation_status::OperStatus;
    let mut objects = Vec::new();
    for result in response.created_obj_results {
        let mut object = api::AddResult {
            requested: result.requested_path,
            path: None,
            unique_keys: BTreeMap::new(),
            failures: Vec::new(),
            error: None,
        };
        match result.oper_status.and_then(|status| status.oper_status) {
            Some(OperStatus::OperSuccess(success)) => {
                learned.add(&success.instantiated_path, &success.unique_keys, now);
                object.path = Some(success.instantiated_path);
                object.unique_keys = success.unique_keys;
                object.failures = success
                    .param_errs
                    .into_iter()
                    .map(|error| param_error(error.param, error.err_code, &error.err_msg))
                    .collect();
            }
            Some(OperStatus::OperFailure(failure)) => {
                object.error = Some(some_error(failure.err_code, &failure.err_msg));
            }
            None => {
                return Err(invalid_answer(
                    "the device left the status of an object out".to_owned(),
                ));
            }
        }
        objects.push(object);
    }
    all_failed(
        objects
            .iter()
            .map(|object| (object.requested.as_str(), object.error.as_ref())),
    )?;
    Ok(TaskResult::Add { objects })
}

fn delete(response: msg::DeleteResp, learned: &mut Learned) -> Result<TaskResult, TaskError> {
    use msg::delete_resp::deleted_object_result::operation_status::OperStatus;
    let mut paths = Vec::new();
    for result in response.deleted_obj_results {
        let mut path = api::DeleteResult {
            requested: result.requested_path,
            deleted: Vec::new(),
            failures: Vec::new(),
            error: None,
        };
        match result.oper_status.and_then(|status| status.oper_status) {
            Some(OperStatus::OperSuccess(success)) => {
                learned.removed.extend(
                    success
                        .affected_paths
                        .iter()
                        .filter(|path| path.ends_with('.'))
                        .cloned(),
                );
                path.deleted = success.affected_paths;
                path.failures = success
                    .unaffected_path_errs
                    .into_iter()
                    .map(|error| param_error(error.unaffected_path, error.err_code, &error.err_msg))
                    .collect();
            }
            Some(OperStatus::OperFailure(failure)) => {
                path.error = Some(some_error(failure.err_code, &failure.err_msg))
            }
            None => {
                return Err(invalid_answer(
                    "the device left the status of an object out".to_owned(),
                ));
            }
        }
        paths.push(path);
    }
    all_failed(
        paths
            .iter()
            .map(|path| (path.requested.as_str(), path.error.as_ref())),
    )?;
    Ok(TaskResult::Delete { paths })
}

fn operate(response: msg::OperateResp) -> Result<TaskResult, TaskError> {
    use msg::operate_resp::operation_result::OperationResp;
    let mut commands = Vec::new();
    for result in response.operation_results {
        let mut command = api::OperateResult {
            command: result.executed_command,
            request: None,
            output: BTreeMap::new(),
            error: None,
        };
        match result.operation_resp {
            Some(OperationResp::ReqObjPath(path)) => command.request = Some(path),
            Some(OperationResp::ReqOutputArgs(args)) => command.output = args.output_args,
            Some(OperationResp::CmdFailure(failure)) => {
                command.error = Some(some_error(failure.err_code, &failure.err_msg))
            }
            None => {
                return Err(invalid_answer(
                    "the device left the outcome of a command out".to_owned(),
                ));
            }
        }
        commands.push(command);
    }
    all_failed(
        commands
            .iter()
            .map(|command| (command.command.as_str(), command.error.as_ref())),
    )?;
    Ok(TaskResult::Operate { commands })
}

fn instances(
    response: msg::GetInstancesResp,
    now: Millis,
    learned: &mut Learned,
) -> Result<TaskResult, TaskError> {
    let mut paths = Vec::new();
    for result in response.req_path_results {
        let error = path_error(result.err_code, &result.err_msg);
        let mut instances = Vec::new();
        for instance in result.curr_insts {
            learned.add(&instance.instantiated_obj_path, &instance.unique_keys, now);
            instances.push(api::Instance {
                path: instance.instantiated_obj_path,
                unique_keys: instance.unique_keys,
            });
        }
        paths.push(api::InstancesResult {
            requested: result.requested_path,
            instances,
            error,
        });
    }
    all_failed(
        paths
            .iter()
            .map(|path| (path.requested.as_str(), path.error.as_ref())),
    )?;
    Ok(TaskResult::GetInstances { paths })
}

fn supported(response: msg::GetSupportedDmResp) -> Result<TaskResult, TaskError> {
    let paths: Vec<_> = response
        .req_obj_results
        .into_iter()
        .map(|result| api::SupportedResult {
            requested: result.req_obj_path,
            data_model: result.data_model_inst_uri,
            objects: result
                .supported_objs
                .into_iter()
                .map(supported_object)
                .collect(),
            error: path_error(result.err_code, &result.err_msg),
        })
        .collect();
    all_failed(
        paths
            .iter()
            .map(|path| (path.requested.as_str(), path.error.as_ref())),
    )?;
    Ok(TaskResult::GetSupportedDm { paths })
}

fn supported_object(
    object: msg::get_supported_dm_resp::SupportedObjectResult,
) -> api::ObjectSupport {
    use msg::get_supported_dm_resp::{CmdType, ObjAccessType, ParamAccessType, ParamValueType};
    let access = match object.access() {
        ObjAccessType::ObjReadOnly => "read_only",
        ObjAccessType::ObjAddDelete => "add_delete",
        ObjAccessType::ObjAddOnly => "add_only",
        ObjAccessType::ObjDeleteOnly => "delete_only",
    };
    let param = |param: &msg::get_supported_dm_resp::SupportedParamResult| api::ParamSupport {
        name: param.param_name.clone(),
        access: match param.access() {
            ParamAccessType::ParamReadOnly => "read_only",
            ParamAccessType::ParamReadWrite => "read_write",
            ParamAccessType::ParamWriteOnly => "write_only",
        }
        .to_owned(),
        value_type: match param.value_type() {
            ParamValueType::ParamUnknown => "unknown",
            ParamValueType::ParamBase64 => "base64",
            ParamValueType::ParamBoolean => "boolean",
            ParamValueType::ParamDateTime => "date_time",
            ParamValueType::ParamDecimal => "decimal",
            ParamValueType::ParamHexBinary => "hex_binary",
            ParamValueType::ParamInt => "int",
            ParamValueType::ParamLong => "long",
            ParamValueType::ParamString => "string",
            ParamValueType::ParamUnsignedInt => "unsigned_int",
            ParamValueType::ParamUnsignedLong => "unsigned_long",
        }
        .to_owned(),
    };
    api::ObjectSupport {
        multi_instance: object.is_multi_instance,
        access: access.to_owned(),
        params: object.supported_params.iter().map(param).collect(),
        commands: object
            .supported_commands
            .iter()
            .map(|command| api::CommandSupport {
                name: command.command_name.clone(),
                is_async: command.command_type() == CmdType::CmdAsync,
                input: command.input_arg_names.clone(),
                output: command.output_arg_names.clone(),
            })
            .collect(),
        events: object
            .supported_events
            .iter()
            .map(|event| api::EventSupport {
                name: event.event_name.clone(),
                args: event.arg_names.clone(),
            })
            .collect(),
        path: object.supported_obj_path,
    }
}

/// Fails when there were parts and none succeeded.
fn all_failed<'a>(
    parts: impl Iterator<Item = (&'a str, Option<&'a PathError>)>,
) -> Result<(), TaskError> {
    let mut errors = Vec::new();
    for (path, error) in parts {
        let Some(error) = error else { return Ok(()) };
        errors.push(ParamError {
            path: path.to_owned(),
            code: error.code,
            message: error.message.clone(),
        });
    }
    let Some(first) = errors.first() else {
        return Ok(());
    };
    Err(TaskError {
        code: TaskErrorCode::Device,
        usp_code: Some(first.code),
        message: first.message.clone(),
        param_errors: errors,
    })
}

fn path_error(code: u32, message: &str) -> Option<PathError> {
    (code != 0).then(|| some_error(code, message))
}

pub(super) fn some_error(code: u32, message: &str) -> PathError {
    PathError {
        code,
        message: describe(code, message),
    }
}

fn param_error(path: String, code: u32, message: &str) -> ParamError {
    ParamError {
        path,
        code,
        message: describe(code, message),
    }
}

/// The device's text, or the code's own name when it gave none.
fn describe(code: u32, message: &str) -> String {
    if message.is_empty() {
        homefleet_usp::ErrorCode(code).name().to_owned()
    } else {
        message.to_owned()
    }
}
