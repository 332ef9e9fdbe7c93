//! Delete (R-DEL.0 to R-DEL.4).

use homefleet_model::{path::ObjectPath, tree::Resolved};
use homefleet_usp::proto::msg::{
    Delete, DeleteResp,
    delete_resp::{
        DeletedObjectResult, UnaffectedPathError,
        deleted_object_result::{
            OperationStatus,
            operation_status::{self, OperationFailure, OperationSuccess},
        },
    },
};

use super::{Failure, Fault, denied, param_error, parse, write::Writer};
use crate::{
    device::Device,
    local_agent,
    provider::Now,
    role::{Kind, Right, Rights},
};

/// Answers a Delete.
pub(super) fn delete(
    device: &mut Device,
    rights: &Rights,
    request: &Delete,
    now: Now,
) -> Result<DeleteResp, Failure> {
    let mut targets = Vec::new();
    for path in &request.obj_paths {
        targets.push(rows(device, rights, path, request.allow_partial, now));
    }
    let mut writer = Writer::new(device);
    let start = writer.mark();
    let mut results = Vec::new();
    for (requested, rows) in request.obj_paths.iter().zip(targets) {
        let outcome =
            rows.and_then(|rows| delete_rows(&mut writer, rights, &rows, request.allow_partial));
        let status = match outcome {
            Ok(success) => operation_status::OperStatus::OperSuccess(success),
            Err(fault) if request.allow_partial => {
                operation_status::OperStatus::OperFailure(OperationFailure {
                    err_code: fault.code,
                    err_msg: fault.message,
                })
            }
            Err(fault) => {
                writer.undo(start);
                let errors = vec![param_error(requested, &fault)];
                return Err(Failure { fault, errors });
            }
        };
        results.push(DeletedObjectResult {
            requested_path: requested.clone(),
            oper_status: Some(OperationStatus {
                oper_status: Some(status),
            }),
        });
    }
    writer.commit()?;
    Ok(DeleteResp {
        deleted_obj_results: results,
    })
}

/// The rows that `text` names.
fn rows(
    device: &mut Device,
    rights: &Rights,
    text: &str,
    allow_partial: bool,
    now: Now,
) -> Result<Vec<ObjectPath>, Fault> {
    let path = parse(text)?;
    device.refresh(&path, now);
    let resolved = match device.resolve(&path) {
        // R-DEL.2a; R-DEL.1 makes it an error when nothing may fail.
        Err(fault) if fault.code == 7016 && allow_partial => return Ok(Vec::new()),
        other => other?,
    };
    let mut rows = Vec::new();
    for item in rights.matched(&device.tree, &path, resolved) {
        match item {
            Resolved::Object(row) if row.instance().is_some() => rows.push(row),
            Resolved::Object(_) | Resolved::Table(_) => {
                return Err(Fault::new(7018, format!("{text} is not the path of a row")));
            }
            Resolved::Param(_) | Resolved::Command(..) | Resolved::Event(..) => {
                return Err(Fault::new(
                    7008,
                    format!("{text} is not an object path: it has no dot at its end"),
                ));
            }
        }
    }
    Ok(rows)
}

fn delete_rows(
    writer: &mut Writer<'_>,
    rights: &Rights,
    rows: &[ObjectPath],
    allow_partial: bool,
) -> Result<OperationSuccess, Fault> {
    let mut success = OperationSuccess::default();
    let (mut first, mut deleted) = (None, false);
    for row in rows {
        // R-DEL.2, R-DEL.4: what may not be read is not named.
        let shown = rights.allow(Kind::Row, row.as_str(), Right::Read);
        if !writer.tree().exists(row) {
            // Gone with a row above it that the same path named.
            continue;
        }
        let outcome = if rights.allow(Kind::Row, row.as_str(), Right::Write) {
            local_agent::check_delete(writer.tree(), row).and_then(|()| writer.delete(row))
        } else {
            Err(denied(row))
        };
        match outcome {
            Ok(()) => {
                deleted = true;
                if shown {
                    success.affected_paths.push(row.to_string());
                }
            }
            Err(fault) if !allow_partial => return Err(fault),
            Err(fault) => {
                if shown {
                    success.unaffected_path_errs.push(UnaffectedPathError {
                        unaffected_path: row.to_string(),
                        err_code: fault.code,
                        err_msg: fault.message.clone(),
                    });
                }
                first.get_or_insert(fault);
            }
        }
    }
    match first {
        // Nothing was deleted: that is no success, not even a partial one.
        Some(fault) if !deleted => Err(fault),
        _ => Ok(success),
    }
}
