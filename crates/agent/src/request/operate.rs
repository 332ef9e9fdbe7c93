//! Operate (R-OPR.0 to R-OPR.7): what is called, with which arguments; the call itself is the engine's.

use std::collections::BTreeMap;

use homefleet_model::{path::ObjectPath, schema::Command, tree::Resolved};
use homefleet_usp::proto::msg::{
    Operate, OperateResp,
    operate_resp::{
        OperationResult,
        operation_result::{CommandFailure, OperationResp, OutputArgs},
    },
};

use super::{Fault, denied, parse};
use crate::{
    device::Device,
    provider::{Now, OperateError},
    role::{Kind, Right, Rights},
};

/// One command on one object.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    /// The object it belongs to.
    pub(crate) object: ObjectPath,
    /// The command as the schema has it.
    pub(crate) command: &'static Command,
    /// The arguments the command knows.
    pub(crate) args: BTreeMap<String, String>,
    /// The controller's reference.
    pub(crate) key: String,
    /// Whether the controller may run it.
    pub(crate) permitted: bool,
}

/// What became of an invocation.
#[derive(Debug)]
pub(crate) enum Operated {
    /// Done, with its output.
    Done(BTreeMap<String, String>),
    /// It runs: the row of the Request table (R-OPR.0).
    Running(ObjectPath),
    /// It failed.
    Failed(OperateError),
}

impl Invocation {
    /// `Device.IP.Diagnostics.IPPing()`
    pub(crate) fn path(&self) -> String {
        format!("{}{}", self.object, self.command.name)
    }
}

/// What an Operate calls; an error is for the whole message.
pub(crate) fn operate(
    device: &mut Device,
    rights: &Rights,
    request: &Operate,
    now: Now,
) -> Result<Vec<Invocation>, Fault> {
    let path = parse(&request.command)?;
    device.refresh(&path, now);
    let mut calls = Vec::new();
    let resolved = device.resolve(&path)?;
    let (mut any, mut first) = (false, None);
    for item in rights.matched(&device.tree, &path, resolved) {
        let Resolved::Command(object, command) = item else {
            return Err(Fault::new(
                7026,
                format!("{} is not a command", request.command),
            ));
        };
        let full = format!("{object}{}", command.name);
        let permitted = rights.allow(Kind::CommandEvent, &full, Right::Execute);
        any |= permitted;
        if !permitted {
            first.get_or_insert_with(|| denied(full));
        }
        // R-OPR.6: arguments that the command does not know are ignored.
        let known = |name: &str| command.input.contains(&supported(name).as_str());
        let args = request
            .input_args
            .iter()
            .filter(|(name, _)| known(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        calls.push(Invocation {
            object,
            command,
            args,
            key: request.command_key.clone(),
            permitted,
        });
    }
    match first {
        // Nothing of it is permitted: that concerns the whole message.
        Some(fault) if !any => Err(fault),
        _ => Ok(calls),
    }
}

/// `Result.1.Name` in supported form: `Result.{i}.Name`.
fn supported(name: &str) -> String {
    let part = |part: &str| match part.parse::<u32>() {
        Ok(_) => "{i}".to_owned(),
        Err(_) => part.to_owned(),
    };
    name.split('.').map(part).collect::<Vec<_>>().join(".")
}

/// The answer, in the order of the calls.
pub(crate) fn response(results: Vec<(String, Operated)>) -> OperateResp {
    let results = results
        .into_iter()
        .map(|(executed_command, operated)| OperationResult {
            executed_command,
            operation_resp: Some(match operated {
                Operated::Done(args) => OperationResp::ReqOutputArgs(OutputArgs {
                    output_args: args.into_iter().collect(),
                }),
                Operated::Running(request) => OperationResp::ReqObjPath(request.to_string()),
                Operated::Failed(error) => OperationResp::CmdFailure(CommandFailure {
                    err_code: error.code,
                    err_msg: error.message,
                }),
            }),
        });
    OperateResp {
        operation_results: results.collect(),
    }
}
