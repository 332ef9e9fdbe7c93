//! Get (R-GET.0 to R-GET.5).

use std::collections::BTreeMap;

use homefleet_model::{path::ObjectPath, tree::Resolved};
use homefleet_usp::proto::msg::{
    Get, GetResp,
    get_resp::{RequestedPathResult, ResolvedPathResult},
};

use super::{Bounds, Failure, Fault, collect, parse};
use crate::{device::Device, provider::Now, role::Rights};

/// Answers a Get: one result for each requested path, each with its own error.
pub(super) fn get(
    device: &mut Device,
    rights: &Rights,
    request: &Get,
    bounds: Bounds,
    now: Now,
) -> Result<GetResp, Failure> {
    let results = request.param_paths.iter().map(|path| {
        match one(device, rights, path, request.max_depth, now) {
            Ok(resolved_path_results) => RequestedPathResult {
                requested_path: path.clone(),
                resolved_path_results,
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
    Ok(GetResp {
        req_path_results: collect(results, bounds, size)?,
    })
}

fn size(result: &RequestedPathResult) -> usize {
    let params = |object: &ResolvedPathResult| -> usize {
        let texts = object.result_params.iter();
        texts.map(|(name, value)| name.len() + value.len()).sum()
    };
    let objects = result.resolved_path_results.iter();
    let objects: usize = objects
        .map(|object| object.resolved_path.len() + params(object))
        .sum();
    result.requested_path.len() + result.err_msg.len() + objects
}

/// The values that `path` names, by parameter path.
pub(crate) fn show(
    device: &mut Device,
    path: &str,
    now: Now,
) -> Result<BTreeMap<String, String>, Fault> {
    let mut values = BTreeMap::new();
    for result in one(device, &Rights::full(), path, 0, now)? {
        for (name, value) in result.result_params {
            values.insert(format!("{}{name}", result.resolved_path), value);
        }
    }
    Ok(values)
}

fn one(
    device: &mut Device,
    rights: &Rights,
    text: &str,
    max_depth: u32,
    now: Now,
) -> Result<Vec<ResolvedPathResult>, Fault> {
    let path = parse(text)?;
    device.refresh(&path, now);
    let resolved = device.resolve(&path).map_err(|fault| match fault.code {
        // R-GET.0: a path that is no search path and matches nothing is an invalid path.
        7016 => Fault::new(7026, fault.message),
        _ => fault,
    })?;
    let invalid = || Fault::new(7026, format!("{text} is not in the supported data model"));
    let mut objects: BTreeMap<ObjectPath, BTreeMap<String, String>> = BTreeMap::new();
    let mut seen = false;
    for item in rights.matched(&device.tree, &path, resolved) {
        match item {
            Resolved::Object(object) | Resolved::Table(object) => {
                // R-GET.1: what may not be read is not there.
                if !rights.knows(&object) {
                    continue;
                }
                seen = true;
                let named = object.segments().count();
                device.tree.walk(&object, max_depth, |object, params| {
                    if !rights.knows(object) || !rights.finds(object, named) {
                        return;
                    }
                    let values = params
                        .filter(|(param, _)| {
                            rights.is_full() || rights.reads(object.param(param.name).as_str())
                        })
                        .map(|(param, value)| (param.name.to_owned(), value.as_str().to_owned()));
                    objects.entry(object.clone()).or_default().extend(values);
                });
            }
            Resolved::Param(param) => {
                if !rights.reads(param.as_str()) {
                    continue;
                }
                seen = true;
                // R-GET.2, R-GET.3: the parent, and this parameter alone.
                if let Ok(value) = device.tree.get(&param) {
                    let values = objects.entry(param.object()).or_default();
                    values.insert(param.name().to_owned(), value.as_str().to_owned());
                }
            }
            Resolved::Command(..) | Resolved::Event(..) => {
                return Err(Fault::new(
                    7026,
                    format!("{text}: a command or an event has no value"),
                ));
            }
        }
    }
    // R-GET.0 with R-GET.1.
    let empty = path.is_search() && rights.supports(&path);
    if !seen && !empty {
        return Err(invalid());
    }
    // R-GET.1b: an object without parameters gives no result of its own.
    let results = objects
        .into_iter()
        .filter(|(_, params)| !params.is_empty())
        .map(|(object, params)| ResolvedPathResult {
            resolved_path: object.to_string(),
            result_params: params.into_iter().collect(),
        });
    Ok(results.collect())
}
