//! GetSupportedDM (R-GSP.0) and GetSupportedProtocol.

use homefleet_model::{
    path::ObjectPath,
    schema::{Access, Command, Event, ObjectAccess, ObjectInfo, Param, Schema},
    value::Type,
};
use homefleet_usp::proto::msg::{
    GetSupportedDm, GetSupportedDmResp, GetSupportedProtocolResp,
    get_supported_dm_resp::{
        CmdType, ObjAccessType, ParamAccessType, ParamValueType, RequestedObjectResult,
        SupportedCommandResult, SupportedEventResult, SupportedObjectResult, SupportedParamResult,
        SupportedUniqueKeySet, ValueChangeType,
    },
};

use super::{Bounds, Failure, Fault, PROTOCOL_VERSIONS};
use crate::{
    device::Device,
    local_agent::schema::DATA_MODEL_URI,
    provider::Now,
    role::{Kind, Right, Rights},
};

/// Answers a GetSupportedProtocol.
pub(super) fn get_supported_protocol() -> GetSupportedProtocolResp {
    GetSupportedProtocolResp {
        agent_supported_protocol_versions: PROTOCOL_VERSIONS.into(),
    }
}

/// Answers a GetSupportedDM: one result for each requested path, each with its own error.
pub(super) fn get_supported_dm(
    device: &mut Device,
    rights: &Rights,
    request: &GetSupportedDm,
    bounds: Bounds,
    now: Now,
) -> Result<GetSupportedDmResp, Failure> {
    let results =
        request
            .obj_paths
            .iter()
            .map(|path| match one(device, rights, path, request, now) {
                Ok(supported_objs) => RequestedObjectResult {
                    req_obj_path: path.clone(),
                    data_model_inst_uri: DATA_MODEL_URI.into(),
                    supported_objs,
                    ..Default::default()
                },
                Err(fault) => RequestedObjectResult {
                    req_obj_path: path.clone(),
                    err_code: fault.code,
                    err_msg: fault.message,
                    ..Default::default()
                },
            });
    Ok(GetSupportedDmResp {
        req_obj_results: super::collect(results, bounds, size)?,
    })
}

fn size(result: &RequestedObjectResult) -> usize {
    let names = |object: &SupportedObjectResult| -> usize {
        let params = object.supported_params.iter();
        object.supported_obj_path.len() + params.map(|param| param.param_name.len()).sum::<usize>()
    };
    let objects: usize = result.supported_objs.iter().map(names).sum();
    result.req_obj_path.len() + result.err_msg.len() + objects
}

fn one(
    device: &mut Device,
    rights: &Rights,
    text: &str,
    request: &GetSupportedDm,
    now: Now,
) -> Result<Vec<SupportedObjectResult>, Fault> {
    let (object, leaf) = text
        .rsplit_once('.')
        .ok_or_else(|| Fault::new(7008, format!("{text}: no path")))?;
    let object = format!("{object}.");
    if !object.contains('{') {
        instantiated(device, &object, now)?;
    }
    let schema = device.tree.schema();
    let unsupported = || Fault::new(7026, format!("{text} is not in the supported data model"));
    // The final `{i}.` may be left out.
    let info = schema
        .object(&object)
        .or_else(|| schema.object(&format!("{object}{{i}}.")))
        .ok_or_else(unsupported)?;
    // R-GSP.0: what may not be read is not supported.
    if !leaf.is_empty() {
        let mut result = bare(info);
        if let Some(command) = info
            .command(leaf)
            .filter(|one| shows(rights, info, one.name))
        {
            result.supported_commands = vec![supported_command(command)];
        } else if let Some(event) = info.event(leaf).filter(|one| shows(rights, info, one.name)) {
            result.supported_events = vec![supported_event(event)];
        } else if let Some(param) = info.param(leaf).filter(|one| reads(rights, info, one.name)) {
            result.supported_params = vec![supported_param(param)];
        } else {
            return Err(unsupported());
        }
        return Ok(vec![result]);
    }
    if !knows(rights, info) {
        return Err(unsupported());
    }
    let mut results = vec![full(info, rights, request)];
    if request.first_level_only {
        let children = schema.children(info).filter(|child| knows(rights, child));
        results.extend(children.map(bare));
    } else {
        below(schema, info, rights, request, &mut results);
    }
    Ok(results)
}

/// Whether the object may be known; the permission of a table is on the table, not on a row of it.
fn knows(rights: &Rights, info: &ObjectInfo) -> bool {
    let path = info.path();
    let object = path.strip_suffix("{i}.").unwrap_or(path);
    rights.allow(Kind::Object, object, Right::Read)
}

fn reads(rights: &Rights, info: &ObjectInfo, name: &str) -> bool {
    rights.is_full() || rights.reads(&format!("{}{name}", info.path()))
}

/// Whether a command or an event may be known.
fn shows(rights: &Rights, info: &ObjectInfo, name: &str) -> bool {
    let path = || format!("{}{name}", info.path());
    rights.is_full() || rights.allow(Kind::CommandEvent, &path(), Right::Read)
}

/// A path with instance numbers must name something that exists.
fn instantiated(device: &mut Device, object: &str, now: Now) -> Result<(), Fault> {
    let path = super::parse(object)?;
    if path.is_search() {
        return Err(Fault::new(
            7026,
            format!("{object}: a search path is not in the supported data model"),
        ));
    }
    if !object
        .split('.')
        .any(|segment| segment.starts_with(|c: char| c.is_ascii_digit()))
    {
        return Ok(());
    }
    device.refresh(&path, now);
    let exists = |path: &ObjectPath| device.tree.exists(path);
    let known = object
        .parse()
        .is_ok_and(|path: ObjectPath| match path.instance() {
            Some(_) => exists(&path),
            None => exists(&path) || path.parent().as_ref().is_some_and(exists),
        });
    if known {
        Ok(())
    } else {
        Err(Fault::new(7016, format!("{object} does not exist")))
    }
}

fn below(
    schema: &Schema,
    info: &ObjectInfo,
    rights: &Rights,
    request: &GetSupportedDm,
    results: &mut Vec<SupportedObjectResult>,
) {
    for child in schema.children(info) {
        if knows(rights, child) {
            results.push(full(child, rights, request));
        }
        below(schema, child, rights, request, results);
    }
}

/// The object alone, without what it holds.
fn bare(info: &ObjectInfo) -> SupportedObjectResult {
    let access = match info.access() {
        ObjectAccess::ReadOnly => ObjAccessType::ObjReadOnly,
        ObjectAccess::AddDelete => ObjAccessType::ObjAddDelete,
        ObjectAccess::AddOnly => ObjAccessType::ObjAddOnly,
        ObjectAccess::DeleteOnly => ObjAccessType::ObjDeleteOnly,
    };
    SupportedObjectResult {
        supported_obj_path: info.path().to_owned(),
        access: access.into(),
        is_multi_instance: info.is_table(),
        ..Default::default()
    }
}

/// The object with what the request wants of it.
fn full(info: &ObjectInfo, rights: &Rights, request: &GetSupportedDm) -> SupportedObjectResult {
    let mut result = bare(info);
    if request.return_params {
        result.supported_params = info
            .params()
            .iter()
            .filter(|param| reads(rights, info, param.name))
            .map(|param| supported_param(param))
            .collect();
    }
    if request.return_commands {
        result.supported_commands = info
            .commands()
            .iter()
            .filter(|command| shows(rights, info, command.name))
            .map(|command| supported_command(command))
            .collect();
    }
    if request.return_events {
        result.supported_events = info
            .events()
            .iter()
            .filter(|event| shows(rights, info, event.name))
            .map(|event| supported_event(event))
            .collect();
    }
    if request.return_unique_key_sets {
        let set = |keys: &&[&str]| SupportedUniqueKeySet {
            key_names: keys.iter().map(|&key| key.into()).collect(),
        };
        let readable = |keys: &&&[&str]| keys.iter().all(|key| reads(rights, info, key));
        let keys = info.unique_keys().iter().filter(readable);
        result.unique_key_sets = keys.map(set).collect();
    }
    result
}

fn supported_param(param: &Param) -> SupportedParamResult {
    let access = match param.access {
        Access::ReadOnly => ParamAccessType::ParamReadOnly,
        // A writeOnceReadOnly parameter is reported as read-write (TR-369 SupportedParamResult).
        Access::ReadWrite | Access::WriteOnce => ParamAccessType::ParamReadWrite,
    };
    let change = if param.notify {
        ValueChangeType::ValueChangeAllowed
    } else {
        ValueChangeType::ValueChangeWillIgnore
    };
    SupportedParamResult {
        param_name: param.name.into(),
        access: access.into(),
        value_type: value_type(param.ty).into(),
        value_change: change.into(),
    }
}

fn value_type(ty: Type) -> ParamValueType {
    match ty {
        Type::Base64 { .. } => ParamValueType::ParamBase64,
        Type::Boolean => ParamValueType::ParamBoolean,
        Type::DateTime | Type::LocalDateTime => ParamValueType::ParamDateTime,
        Type::Decimal => ParamValueType::ParamDecimal,
        Type::HexBinary { .. } => ParamValueType::ParamHexBinary,
        Type::Int | Type::IntIn(..) => ParamValueType::ParamInt,
        Type::Long | Type::LongIn(..) => ParamValueType::ParamLong,
        // A list travels as a string (TR-106 §3.2.2).
        Type::Enum(_) | Type::List(_) | Type::Reference(_) | Type::String { .. } => {
            ParamValueType::ParamString
        }
        Type::UnsignedInt | Type::UnsignedIntIn(..) => ParamValueType::ParamUnsignedInt,
        Type::UnsignedLong | Type::UnsignedLongIn(..) => ParamValueType::ParamUnsignedLong,
    }
}

fn supported_command(command: &Command) -> SupportedCommandResult {
    let kind = if command.is_async {
        CmdType::CmdAsync
    } else {
        CmdType::CmdSync
    };
    SupportedCommandResult {
        command_name: command.name.into(),
        input_arg_names: command.input.iter().map(|&name| name.into()).collect(),
        output_arg_names: command.output.iter().map(|&name| name.into()).collect(),
        command_type: kind.into(),
    }
}

fn supported_event(event: &Event) -> SupportedEventResult {
    SupportedEventResult {
        event_name: event.name.into(),
        arg_names: event.args.iter().map(|&name| name.into()).collect(),
    }
}
