//! Add (R-ADD.0 to R-ADD.6).

use homefleet_model::{path::ObjectPath, tree::Resolved, value::date_time};
use homefleet_usp::proto::msg::{
    Add, AddResp,
    add::CreateObject,
    add_resp::{
        CreatedObjectResult, ParameterError,
        created_object_result::{
            OperationStatus,
            operation_status::{self, OperationFailure, OperationSuccess},
        },
    },
};

use super::{
    Bounds, Caller, Failure, Fault, denied, param_error, parse,
    set::{permit, relative},
    unique_keys,
    write::Writer,
};
use crate::{
    device::Device,
    local_agent,
    provider::Now,
    role::{Kind, Right},
};

/// One row could not be made.
struct RowFailure {
    fault: Fault,
    errors: Vec<ParameterError>,
}

/// Answers an Add.
pub(super) fn add(
    device: &mut Device,
    caller: &Caller,
    request: &Add,
    bounds: Bounds,
    now: Now,
) -> Result<AddResp, Failure> {
    let mut targets = Vec::new();
    for create in &request.create_objs {
        targets.push(tables(device, caller, &create.obj_path, now));
    }
    let mut writer = Writer::new(device);
    let start = writer.mark();
    let mut results = Vec::new();
    for (create, tables) in request.create_objs.iter().zip(targets) {
        let outcomes = match tables {
            Ok(tables) => tables
                .iter()
                .map(|table| create_one(&mut writer, caller, table, create, bounds, now))
                .collect(),
            Err(fault) => vec![Err(RowFailure {
                fault,
                errors: Vec::new(),
            })],
        };
        for outcome in outcomes {
            let status = match outcome {
                Ok(success) => operation_status::OperStatus::OperSuccess(success),
                Err(failure) if request.allow_partial => {
                    operation_status::OperStatus::OperFailure(OperationFailure {
                        err_code: failure.fault.code,
                        err_msg: failure.text(),
                    })
                }
                Err(failure) => {
                    // R-ADD.1, R-ADD.2a: nothing of the message stays.
                    writer.undo(start);
                    return Err(message_failure(&create.obj_path, failure));
                }
            };
            results.push(CreatedObjectResult {
                requested_path: create.obj_path.clone(),
                oper_status: Some(OperationStatus {
                    oper_status: Some(status),
                }),
            });
        }
    }
    writer.commit()?;
    Ok(AddResp {
        created_obj_results: results,
    })
}

/// The tables that `text` names.
fn tables(
    device: &mut Device,
    caller: &Caller,
    text: &str,
    now: Now,
) -> Result<Vec<ObjectPath>, Fault> {
    let path = parse(text)?;
    device.refresh(&path, now);
    let mut tables = Vec::new();
    let resolved = device.resolve(&path)?;
    for item in caller.rights.matched(&device.tree, &path, resolved) {
        match item {
            Resolved::Table(table) => tables.push(table),
            _ => return Err(Fault::new(7018, format!("{text} is not a table"))),
        }
    }
    Ok(tables)
}

/// Makes one row, or leaves everything as it was.
fn create_one(
    writer: &mut Writer<'_>,
    caller: &Caller,
    table: &ObjectPath,
    create: &CreateObject,
    bounds: Bounds,
    now: Now,
) -> Result<OperationSuccess, RowFailure> {
    let mark = writer.mark();
    create_row(writer, caller, table, create, bounds, now).inspect_err(|_| writer.undo(mark))
}

fn create_row(
    writer: &mut Writer<'_>,
    caller: &Caller,
    table: &ObjectPath,
    create: &CreateObject,
    bounds: Bounds,
    now: Now,
) -> Result<OperationSuccess, RowFailure> {
    let plain = |fault| RowFailure {
        fault,
        errors: Vec::new(),
    };
    if !caller
        .rights
        .allow(Kind::Object, table.as_str(), Right::Write)
    {
        return Err(plain(denied(table)));
    }
    local_agent::check_add(writer.tree(), table, bounds.max_subscriptions).map_err(plain)?;
    let mark = writer.mark();
    let row = writer.add(table).map_err(plain)?;
    if table.as_str() == "Device.LocalAgent.Subscription." {
        // Filled by the agent at creation (Device:2.16, Subscription).
        let recipient = caller.row.as_str().trim_end_matches('.');
        writer
            .put(&row.param("Recipient"), recipient)
            .map_err(plain)?;
        writer
            .put(&row.param("CreationDate"), &date_time(now.wall))
            .map_err(plain)?;
    }
    if is_controller_mtp(table) {
        // One more than the largest there is (Device:2.16, Controller.{i}.MTP.{i}.Order).
        let tree = writer.tree();
        let orders = tree.rows(table).into_iter().filter(|other| *other != row);
        let largest = orders
            .map(|row| local_agent::number(tree, &row, "Order"))
            .max();
        let order = largest.unwrap_or(0).saturating_add(1);
        writer
            .put(&row.param("Order"), &order.to_string())
            .map_err(plain)?;
    }
    let keys: Vec<&str> = match writer.tree().schema().object(row.as_str()) {
        Some(info) => info
            .unique_keys()
            .iter()
            .flat_map(|key| key.iter().copied())
            .collect(),
        None => Vec::new(),
    };
    let mut errors = Vec::new();
    let mut failed = None;
    for setting in &create.param_settings {
        let outcome = relative(&row, &setting.param).and_then(|path| {
            permit(&caller.rights, &path)?;
            writer.set(&path, &setting.value, Some(&row))
        });
        if let Err(fault) = outcome {
            errors.push(ParameterError {
                param: setting.param.clone(),
                err_code: fault.code,
                err_msg: fault.message.clone(),
            });
            // A unique key is required whatever the message says (TR-369 §"CreateParamSetting Fields").
            if setting.required || keys.contains(&setting.param.as_str()) {
                failed.get_or_insert_with(|| {
                    Fault::new(
                        7021,
                        format!("{} is required: {}", setting.param, fault.message),
                    )
                });
            }
        }
    }
    if let Some(fault) = failed {
        return Err(RowFailure { fault, errors });
    }
    writer.check(mark).map_err(|fault| RowFailure {
        fault,
        errors: Vec::new(),
    })?;
    Ok(OperationSuccess {
        instantiated_path: row.to_string(),
        param_errs: errors,
        unique_keys: unique_keys(writer.tree(), &caller.rights, &row)
            .into_iter()
            .collect(),
    })
}

fn is_controller_mtp(table: &ObjectPath) -> bool {
    let path = table.as_str();
    path.starts_with("Device.LocalAgent.Controller.") && path.ends_with(".MTP.")
}

impl RowFailure {
    /// An `oper_failure` of Add has no list of parameters: they go into the text.
    fn text(&self) -> String {
        let mut text = self.fault.message.clone();
        for error in &self.errors {
            if !text.contains(&error.err_msg) {
                text.push_str(&format!("; {}: {}", error.param, error.err_msg));
            }
        }
        text
    }
}

/// The Error message of an Add without allow_partial.
fn message_failure(requested: &str, failure: RowFailure) -> Failure {
    let mut errors: Vec<_> = failure
        .errors
        .iter()
        .map(|error| {
            param_error(
                format!("{requested}{}", error.param),
                &Fault::new(error.err_code, error.err_msg.clone()),
            )
        })
        .collect();
    if errors.is_empty() {
        errors.push(param_error(requested, &failure.fault));
    }
    Failure {
        fault: failure.fault,
        errors,
    }
}
