//! GetInstances (R-GIN.0, R-GIN.1).

use homefleet_model::{
    path::ObjectPath,
    tree::{Resolved, Tree},
};
use homefleet_usp::proto::msg::{
    GetInstances, GetInstancesResp,
    get_instances_resp::{CurrInstance, RequestedPathResult},
};

use super::{Bounds, Failure, Fault, parse, unique_keys};
use crate::{
    device::Device,
    provider::Now,
    role::{Kind, Right, Rights},
};

/// Answers a GetInstances: one result for each requested path, each with its own error.
pub(super) fn get_instances(
    device: &mut Device,
    rights: &Rights,
    request: &GetInstances,
    bounds: Bounds,
    now: Now,
) -> Result<GetInstancesResp, Failure> {
    let results = request.obj_paths.iter().map(|path| {
        match one(device, rights, path, request.first_level_only, now) {
            Ok(curr_insts) => RequestedPathResult {
                requested_path: path.clone(),
                curr_insts,
                ..Default::default()
            },
            Err(fault) => RequestedPathResult {
                requested_path: path.clone(),
                err_code: fault.code,
                err_msg: fault.message,
                ..Default::default()
            },
        }
    });
    Ok(GetInstancesResp {
        req_path_results: super::collect(results, bounds, size)?,
    })
}

fn size(result: &RequestedPathResult) -> usize {
    let keys = |instance: &CurrInstance| -> usize {
        let texts = instance.unique_keys.iter();
        texts.map(|(name, value)| name.len() + value.len()).sum()
    };
    let instances = result.curr_insts.iter();
    let instances: usize = instances
        .map(|instance| instance.instantiated_obj_path.len() + keys(instance))
        .sum();
    result.requested_path.len() + result.err_msg.len() + instances
}

fn one(
    device: &mut Device,
    rights: &Rights,
    text: &str,
    first_level_only: bool,
    now: Now,
) -> Result<Vec<CurrInstance>, Fault> {
    let path = parse(text)?;
    device.refresh(&path, now);
    let mut found = Vec::new();
    let resolved = device.resolve(&path)?;
    for item in rights.matched(&device.tree, &path, resolved) {
        // R-GIN.0: a row without Read is not there, and nothing in it.
        if let Resolved::Object(object) | Resolved::Table(object) = &item
            && !rights.finds(object, 0)
        {
            if path.is_search() {
                continue;
            }
            return Err(Fault::new(7016, format!("{text} does not exist")));
        }
        match item {
            Resolved::Table(table) => {
                for row in device.tree.rows(&table) {
                    collect(&device.tree, rights, &row, first_level_only, &mut found);
                }
            }
            // A search expression at the end names rows, not their table.
            Resolved::Object(row) if row.instance().is_some() => {
                collect(&device.tree, rights, &row, first_level_only, &mut found);
            }
            Resolved::Object(object) => {
                return Err(Fault::new(
                    7018,
                    format!("{object} is not a multi-instance object"),
                ));
            }
            Resolved::Param(_) | Resolved::Command(..) | Resolved::Event(..) => {
                return Err(Fault::new(7018, format!("{text} is not an object")));
            }
        }
    }
    Ok(found)
}

fn collect(
    tree: &Tree,
    rights: &Rights,
    row: &ObjectPath,
    first_level_only: bool,
    found: &mut Vec<CurrInstance>,
) {
    if !rights.allow(Kind::Row, row.as_str(), Right::Read) {
        return;
    }
    found.push(CurrInstance {
        instantiated_obj_path: row.to_string(),
        unique_keys: unique_keys(tree, rights, row).into_iter().collect(),
    });
    if !first_level_only {
        below(tree, rights, row, found);
    }
}

/// The rows of every table below `object`, depth first.
fn below(tree: &Tree, rights: &Rights, object: &ObjectPath, found: &mut Vec<CurrInstance>) {
    for child in tree.children(object) {
        if child.instance().is_some() {
            collect(tree, rights, &child, false, found);
        } else {
            below(tree, rights, &child, found);
        }
    }
}
