//! Set (R-SET.0 to R-SET.3, R-KEY.1, R-KEY.2).
//!
//! | allow_partial | a required parameter failed | answer |
//! |---|---|---|
//! | any | no | SetResp, `oper_success`, failed optional parameters in `param_errs` |
//! | true | yes | SetResp, `oper_failure` for that path, nothing of that path changed |
//! | false | yes | Error, nothing of the message changed |

use homefleet_model::{
    path::{ObjectPath, ParamPath},
    tree::Resolved,
};
use homefleet_usp::proto::msg::{
    Set, SetResp,
    set::{UpdateObject, UpdateParamSetting},
    set_resp::{
        ParameterError, UpdatedInstanceFailure, UpdatedInstanceResult, UpdatedObjectResult,
        updated_object_result::{
            OperationStatus,
            operation_status::{self, OperationFailure, OperationSuccess},
        },
    },
};

use super::{Failure, Fault, denied, param_error, parse, write::Writer};
use crate::{
    device::Device,
    provider::Now,
    role::{Kind, Right, Rights},
};

/// One path of the message failed.
struct PathFailure {
    fault: Fault,
    instances: Vec<UpdatedInstanceFailure>,
}

/// Answers a Set.
pub(super) fn set(
    device: &mut Device,
    rights: &Rights,
    request: &Set,
    now: Now,
) -> Result<SetResp, Failure> {
    let mut targets = Vec::new();
    for update in &request.update_objs {
        targets.push(objects(device, rights, &update.obj_path, now));
    }
    let mut writer = Writer::new(device);
    let start = writer.mark();
    let mut results = Vec::new();
    for (update, target) in request.update_objs.iter().zip(targets) {
        let mark = writer.mark();
        let outcome = match target {
            Ok(objects) => update_all(&mut writer, rights, &objects, update, request.allow_partial),
            Err(fault) => Err(PathFailure {
                fault,
                instances: Vec::new(),
            }),
        };
        let status = match outcome {
            Ok(updated_inst_results) => {
                operation_status::OperStatus::OperSuccess(OperationSuccess {
                    updated_inst_results,
                })
            }
            Err(failure) => {
                writer.undo(mark);
                if !request.allow_partial {
                    writer.undo(start);
                    return Err(message_failure(&update.obj_path, failure));
                }
                operation_status::OperStatus::OperFailure(OperationFailure {
                    err_code: failure.fault.code,
                    err_msg: failure.fault.message,
                    updated_inst_failures: failure.instances,
                })
            }
        };
        results.push(UpdatedObjectResult {
            requested_path: update.obj_path.clone(),
            oper_status: Some(OperationStatus {
                oper_status: Some(status),
            }),
        });
    }
    // Keys need to be unique only after the whole message (TR-369 §"Selecting Objects and Parameters").
    if let Err(fault) = writer.check(start) {
        writer.undo(start);
        return Err(fault.into());
    }
    writer.commit()?;
    Ok(SetResp {
        updated_obj_results: results,
    })
}

/// The objects that `text` names.
fn objects(
    device: &mut Device,
    rights: &Rights,
    text: &str,
    now: Now,
) -> Result<Vec<ObjectPath>, Fault> {
    let path = parse(text)?;
    device.refresh(&path, now);
    let mut objects = Vec::new();
    let resolved = device.resolve(&path)?;
    for item in rights.matched(&device.tree, &path, resolved) {
        match item {
            Resolved::Object(object) => objects.push(object),
            Resolved::Table(_) => {
                return Err(Fault::new(
                    7020,
                    format!("{text} is a table: name its rows, for example {text}*."),
                ));
            }
            Resolved::Param(_) | Resolved::Command(..) | Resolved::Event(..) => {
                return Err(Fault::new(
                    7008,
                    format!("{text} is not an object path: it has no dot at its end"),
                ));
            }
        }
    }
    Ok(objects)
}

/// Updates every object of one path; one failing object fails the path (R-SET.2a).
fn update_all(
    writer: &mut Writer<'_>,
    rights: &Rights,
    objects: &[ObjectPath],
    update: &UpdateObject,
    independent: bool,
) -> Result<Vec<UpdatedInstanceResult>, PathFailure> {
    let mut results = Vec::new();
    let mut failures = Vec::new();
    let mut first = None;
    for object in objects {
        match update_one(writer, rights, object, &update.param_settings, independent) {
            Ok(result) => results.push(result),
            Err((fault, param_errs)) => {
                failures.push(UpdatedInstanceFailure {
                    affected_path: object.to_string(),
                    param_errs,
                });
                first.get_or_insert(fault);
            }
        }
    }
    match first {
        None => Ok(results),
        Some(fault) => Err(PathFailure {
            fault,
            instances: failures,
        }),
    }
}

fn update_one(
    writer: &mut Writer<'_>,
    rights: &Rights,
    object: &ObjectPath,
    settings: &[UpdateParamSetting],
    independent: bool,
) -> Result<UpdatedInstanceResult, (Fault, Vec<ParameterError>)> {
    let mark = writer.mark();
    let mut errors = Vec::new();
    let mut updated: Vec<ParamPath> = Vec::new();
    let mut required_failed = false;
    for setting in settings {
        let outcome = relative(object, &setting.param).and_then(|path| {
            permit(rights, &path)?;
            writer.set(&path, &setting.value, None).map(|()| path)
        });
        match outcome {
            Ok(path) => updated.push(path),
            Err(fault) => {
                required_failed |= setting.required;
                errors.push(parameter_error(&setting.param, &fault));
            }
        }
    }
    if required_failed {
        return Err((
            Fault::new(7021, format!("a required parameter of {object} failed")),
            errors,
        ));
    }
    if independent && let Err(fault) = writer.check(mark) {
        errors.push(parameter_error("", &fault));
        return Err((fault, errors));
    }
    let tree = writer.tree();
    let value = |path: &ParamPath| tree.text(path.as_str()).unwrap_or_default().to_owned();
    let name = |path: &ParamPath| {
        path.as_str()
            .strip_prefix(object.as_str())
            .unwrap_or(path.as_str())
            .to_owned()
    };
    Ok(UpdatedInstanceResult {
        affected_path: object.to_string(),
        // R-SET.3
        updated_params: updated
            .iter()
            .filter(|path| rights.reads(path.as_str()))
            .map(|path| (name(path), value(path)))
            .collect(),
        param_errs: errors,
    })
}

/// R-SEC.1: before anything is done, and before it is said whether there is such a parameter.
pub(super) fn permit(rights: &Rights, path: &ParamPath) -> Result<(), Fault> {
    if rights.allow(Kind::Param, path.as_str(), Right::Write) {
        Ok(())
    } else {
        Err(denied(path))
    }
}

/// The parameter that `relative` names below `object`.
pub(super) fn relative(object: &ObjectPath, relative: &str) -> Result<ParamPath, Fault> {
    format!("{object}{relative}").parse().map_err(|_| {
        Fault::new(
            7010,
            format!("{object}{relative} is not the path of a parameter"),
        )
    })
}

fn parameter_error(param: &str, fault: &Fault) -> ParameterError {
    ParameterError {
        param: param.to_owned(),
        err_code: fault.code,
        err_msg: fault.message.clone(),
    }
}

/// The Error message of a Set without allow_partial.
fn message_failure(requested: &str, failure: PathFailure) -> Failure {
    let mut errors = Vec::new();
    for instance in &failure.instances {
        for error in &instance.param_errs {
            let fault = Fault::new(error.err_code, error.err_msg.clone());
            errors.push(param_error(
                format!("{}{}", instance.affected_path, error.param),
                &fault,
            ));
        }
    }
    if errors.is_empty() {
        errors.push(param_error(requested, &failure.fault));
    }
    Failure {
        fault: failure.fault,
        errors,
    }
}
