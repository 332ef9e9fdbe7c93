//! What a simulated Agent answers: the requests of a Controller on the values of a device.

use std::collections::BTreeMap;

use homefleet_cwmp::{Fault, ParameterValues, Value, ValueType};
use homefleet_usp::message::{Request, Response};
use homefleet_usp::proto::msg;

use crate::sim::fleet::{Place, Values};

/// USP 1.0 to 1.4.
pub(super) const VERSIONS: &str = "1.0,1.1,1.2,1.3,1.4";
/// R-ERR: the path is none, or not there.
const INVALID_PATH: u32 = 7026;
const INVALID_VALUE: u32 = 7012;
const NOT_THERE: u32 = 7016;
const NOT_SUPPORTED: u32 = 7004;
const READ_ONLY: u32 = 7200;
const COMMAND_FAILURE: u32 = 7022;

/// What is to be said to a request, and whether the device restarts then.
pub(super) struct Said {
    pub(super) answer: Result<Response, (u32, String)>,
    pub(super) restarts: bool,
}

/// Answers a request.
pub(super) fn answer(values: &mut Values, request: Request, place: Place) -> Said {
    let mut restarts = false;
    let answer = match request {
        Request::Get(get) => Ok(self::get(values, &get, place).into()),
        Request::GetInstances(get) => Ok(instances(values, &get, place).into()),
        Request::GetSupportedProtocol(_) => Ok(msg::GetSupportedProtocolResp {
            agent_supported_protocol_versions: VERSIONS.to_owned(),
        }
        .into()),
        Request::Set(set) => self::set(values, &set, place).map(Into::into),
        Request::Add(add) => self::add(values, &add, place).map(Into::into),
        Request::Delete(delete) => self::delete(values, &delete).map(Into::into),
        Request::Operate(operate) => {
            restarts = operate.command == "Device.Reboot()";
            Ok(self::operate(&operate, restarts).into())
        }
        _ => Err((
            NOT_SUPPORTED,
            "a simulated device does not do that".to_owned(),
        )),
    };
    Said { answer, restarts }
}

/// The values that a path names: a parameter, all below an object, either with `*` for instances.
pub(super) fn named(
    values: &Values,
    path: &str,
    place: Place,
) -> Result<Vec<(String, String)>, (u32, String)> {
    let wrong = |code: u32, problem: &str| (code, format!("{path}: {problem}"));
    if path.contains(['[', '+', '#']) {
        return Err(wrong(NOT_SUPPORTED, "a simulated device does not search"));
    }
    let fixed = path.find('*').and_then(|star| path.get(..star));
    let read = values.read(&[fixed.unwrap_or(path).to_owned()], place);
    let read = read.map_err(|_| wrong(INVALID_PATH, "no such path"))?;
    let all = read.iter().map(|(name, value)| (name, text(value)));
    Ok(all
        .filter(|(name, _)| fixed.is_none() || matches(path, name))
        .map(|(name, text)| (name.to_owned(), text))
        .collect())
}

/// As USP writes it.
fn text(value: Value<'_>) -> String {
    match (value.kind, value.text) {
        (ValueType::Boolean, "1") => "true".to_owned(),
        (ValueType::Boolean, "0") => "false".to_owned(),
        (_, text) => text.to_owned(),
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    let mut found = name.split('.');
    let object = pattern.strip_suffix('.');
    let same = object.unwrap_or(pattern).split('.').all(|wanted| {
        found
            .next()
            .is_some_and(|found| wanted == "*" || wanted == found)
    });
    same && (object.is_some() || found.next().is_none())
}

fn get(values: &Values, request: &msg::Get, place: Place) -> msg::GetResp {
    use msg::get_resp::{RequestedPathResult, ResolvedPathResult};
    let results = request.param_paths.iter().map(|path| {
        let mut result = RequestedPathResult {
            requested_path: path.clone(),
            ..RequestedPathResult::default()
        };
        match named(values, path, place) {
            Ok(all) => {
                let mut objects: BTreeMap<String, ResolvedPathResult> = BTreeMap::new();
                for (name, value) in all {
                    let (object, param) = name.rsplit_once('.').unwrap_or(("", &name));
                    let object = format!("{object}.");
                    let entry = objects.entry(object.clone()).or_default();
                    entry.resolved_path = object;
                    entry.result_params.insert(param.to_owned(), value);
                }
                result.resolved_path_results = objects.into_values().collect();
            }
            Err((code, text)) => (result.err_code, result.err_msg) = (code, text),
        }
        result
    });
    msg::GetResp {
        req_path_results: results.collect(),
    }
}

fn instances(values: &Values, request: &msg::GetInstances, place: Place) -> msg::GetInstancesResp {
    use msg::get_instances_resp::{CurrInstance, RequestedPathResult};
    let results = request.obj_paths.iter().map(|path| {
        let mut result = RequestedPathResult {
            requested_path: path.clone(),
            ..RequestedPathResult::default()
        };
        match named(values, path, place) {
            Ok(all) => {
                let depth = path.matches('.').count();
                let mut found: Vec<String> = Vec::new();
                for (name, _) in &all {
                    let mut end = 0;
                    for (level, part) in name.split_inclusive('.').enumerate() {
                        end += part.len();
                        let number = part.trim_end_matches('.');
                        let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
                        let wanted = level == depth || (level > depth && !request.first_level_only);
                        if let Some(instance) = name.get(..end)
                            && wanted
                            && is_number
                            && !found.iter().any(|known| known == instance)
                        {
                            found.push(instance.to_owned());
                        }
                    }
                }
                let found = found.into_iter().map(|instantiated_obj_path| CurrInstance {
                    instantiated_obj_path,
                    ..CurrInstance::default()
                });
                result.curr_insts = found.collect();
            }
            Err((code, text)) => (result.err_code, result.err_msg) = (code, text),
        }
        result
    });
    msg::GetInstancesResp {
        req_path_results: results.collect(),
    }
}

/// Sets parameters of an object together; the ones that were set.
fn write<'a>(
    values: &mut Values,
    object: &str,
    settings: impl Iterator<Item = (&'a str, &'a str)>,
    place: Place,
) -> Result<BTreeMap<String, String>, (u32, String)> {
    let mut list = ParameterValues::new();
    let mut done = BTreeMap::new();
    for (param, text) in settings {
        let name = format!("{object}{param}");
        let known = values.read(std::slice::from_ref(&name), place);
        let known = known.map_err(|_| (INVALID_PATH, format!("{name}: no such path")))?;
        let kind = known
            .iter()
            .next()
            .map_or(ValueType::String, |(_, value)| value.kind);
        list.push(&name, Value { kind, text });
        done.insert(param.to_owned(), text.to_owned());
    }
    match values.write(&list) {
        Ok(()) => Ok(done),
        Err(fault) => Err(reason(&fault)),
    }
}

/// The same in codes of USP.
fn reason(fault: &Fault) -> (u32, String) {
    let first = fault.parameters.first();
    let (code, text) = first.map_or((fault.code, String::new()), |first| {
        (first.code, format!("{}: ", first.name))
    });
    let usp = match code.0 {
        9005 => INVALID_PATH,
        9008 => READ_ONLY,
        _ => INVALID_VALUE,
    };
    (usp, format!("{text}{}", code.text()))
}

fn set(
    values: &mut Values,
    request: &msg::Set,
    place: Place,
) -> Result<msg::SetResp, (u32, String)> {
    use msg::set_resp::{UpdatedInstanceResult, UpdatedObjectResult, updated_object_result};
    use updated_object_result::operation_status::{OperStatus, OperationFailure, OperationSuccess};
    let mut results = Vec::new();
    for object in &request.update_objs {
        let settings = object.param_settings.iter();
        let settings = settings.map(|one| (one.param.as_str(), one.value.as_str()));
        let status = match write(values, &object.obj_path, settings, place) {
            Ok(updated_params) => OperStatus::OperSuccess(OperationSuccess {
                updated_inst_results: vec![UpdatedInstanceResult {
                    affected_path: object.obj_path.clone(),
                    updated_params,
                    ..UpdatedInstanceResult::default()
                }],
            }),
            Err(problem) if !request.allow_partial => return Err(problem),
            Err((err_code, err_msg)) => OperStatus::OperFailure(OperationFailure {
                err_code,
                err_msg,
                ..OperationFailure::default()
            }),
        };
        results.push(UpdatedObjectResult {
            requested_path: object.obj_path.clone(),
            oper_status: Some(updated_object_result::OperationStatus {
                oper_status: Some(status),
            }),
        });
    }
    Ok(msg::SetResp {
        updated_obj_results: results,
    })
}

fn add(
    values: &mut Values,
    request: &msg::Add,
    place: Place,
) -> Result<msg::AddResp, (u32, String)> {
    use created_object_result::operation_status::{OperStatus, OperationFailure, OperationSuccess};
    use msg::add_resp::{CreatedObjectResult, created_object_result};
    let mut results = Vec::new();
    for object in &request.create_objs {
        let added = values.add(&object.obj_path).map_err(|fault| reason(&fault));
        let added = added.and_then(|number| {
            let instance = format!("{}{number}.", object.obj_path);
            let settings = object.param_settings.iter();
            let settings = settings.map(|one| (one.param.as_str(), one.value.as_str()));
            match write(values, &instance, settings, place) {
                Ok(_) => Ok(instance),
                Err(problem) => {
                    // It was there for a moment only.
                    let _gone = values.delete(&instance);
                    Err(problem)
                }
            }
        });
        let status = match added {
            Ok(instantiated_path) => OperStatus::OperSuccess(OperationSuccess {
                instantiated_path,
                ..OperationSuccess::default()
            }),
            Err(problem) if !request.allow_partial => return Err(problem),
            Err((err_code, err_msg)) => {
                OperStatus::OperFailure(OperationFailure { err_code, err_msg })
            }
        };
        results.push(CreatedObjectResult {
            requested_path: object.obj_path.clone(),
            oper_status: Some(created_object_result::OperationStatus {
                oper_status: Some(status),
            }),
        });
    }
    Ok(msg::AddResp {
        created_obj_results: results,
    })
}

fn delete(values: &mut Values, request: &msg::Delete) -> Result<msg::DeleteResp, (u32, String)> {
    use deleted_object_result::operation_status::{OperStatus, OperationFailure, OperationSuccess};
    use msg::delete_resp::{DeletedObjectResult, deleted_object_result};
    let mut results = Vec::new();
    for path in &request.obj_paths {
        let status = match values.delete(path) {
            Ok(()) => OperStatus::OperSuccess(OperationSuccess {
                affected_paths: vec![path.clone()],
                ..OperationSuccess::default()
            }),
            Err(_) if !request.allow_partial => {
                return Err((NOT_THERE, format!("{path}: no such object")));
            }
            Err(_) => OperStatus::OperFailure(OperationFailure {
                err_code: NOT_THERE,
                err_msg: format!("{path}: no such object"),
            }),
        };
        results.push(DeletedObjectResult {
            requested_path: path.clone(),
            oper_status: Some(deleted_object_result::OperationStatus {
                oper_status: Some(status),
            }),
        });
    }
    Ok(msg::DeleteResp {
        deleted_obj_results: results,
    })
}

fn operate(request: &msg::Operate, known: bool) -> msg::OperateResp {
    use msg::operate_resp::{OperationResult, operation_result};
    use operation_result::{CommandFailure, OperationResp, OutputArgs};
    let resp = match known {
        true => OperationResp::ReqOutputArgs(OutputArgs::default()),
        false => OperationResp::CmdFailure(CommandFailure {
            err_code: COMMAND_FAILURE,
            err_msg: "a simulated device does not run that".to_owned(),
        }),
    };
    msg::OperateResp {
        operation_results: vec![OperationResult {
            executed_command: request.command.clone(),
            operation_resp: Some(resp),
        }],
    }
}
