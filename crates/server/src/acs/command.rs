//! Commands as RPCs. CWMP has no data model of them: they are named as in TR-181's USP profile where there is such a command, else as the RPC.
//!
//! | command, with any path before it | becomes |
//! |---|---|
//! | `Reboot()`, `FactoryReset()`, `ScheduleInform()`, `Download()`, `ScheduleDownload()`, `Upload()`, `CancelTransfer()` | the RPC |
//! | `GetQueuedTransfers()`, `GetAllQueuedTransfers()`, `GetOptions()`, `SetVouchers()`, `GetRPCMethods()` | the RPC |
//! | `GetParameterAttributes()`, `SetParameterAttributes()` | the RPC |
//! | `InstallDU()`, `…DeploymentUnit.{i}.Update()`, `….Uninstall()` | ChangeDUState |
//! | a diagnostic such as `Device.IP.Diagnostics.IPPing()` | its object is set, with DiagnosticsState `Requested`; `8 DIAGNOSTICS COMPLETE` ends it |

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use homefleet_api::{OperateResult, Operation, PathError, TaskError, TaskResult};
use homefleet_cwmp::message::{
    CancelTransfer, ChangeDUState, DUStateChangeComplete, Download, FactoryReset,
    GetAllQueuedTransfers, GetOptions, GetParameterAttributes, GetParameterValues,
    GetQueuedTransfers, GetRPCMethods, Install, Notification, Reboot, ScheduleDownload,
    ScheduleInform, SetAttributes, SetParameterAttributes, SetParameterValues, SetVouchers, Status,
    TimeWindow, TransferState, Uninstall, UnitState, Update, Upload,
};
use homefleet_cwmp::{Fault, Message, ParameterValues, Value, ValueType};

use super::program::{Step, fault_task_error, impossible, invalid, send, types};

/// What a task waits for whose device tells the end of a transfer, or of changes to its software.
pub(super) const TRANSFER: &str = "TransferComplete";
/// The same for software modules.
const UNITS: &str = "DUStateChangeComplete";
/// The same for a diagnostic.
pub(super) const DIAGNOSTICS: &str = "DiagnosticsComplete";
/// The parameter that begins a diagnostic and tells how it went.
pub(super) const STATE: &str = "DiagnosticsState";

type Arguments = BTreeMap<String, String>;
type Outputs = BTreeMap<String, String>;

/// A command under way.
pub(super) struct Commanding {
    command: String,
    stage: Stage,
}

enum Stage {
    /// This is to be asked.
    Ask(Box<Message>),
    /// The UUID of a deployment unit is looked up.
    Unit {
        object: String,
        args: Arguments,
        key: String,
        update: bool,
    },
    /// The types of a diagnostic's parameters are looked up.
    Diagnostic { object: String, args: Arguments },
    /// The last request was sent.
    Asked,
}

impl Commanding {
    /// A command; `key` is what the device names it by.
    pub(super) fn new(command: &str, args: &Arguments, key: &str) -> Result<Self, TaskError> {
        let (object, name) = command
            .rsplit_once('.')
            .map_or(("", command), |(object, name)| (object, name));
        let unit = args.get("UUID").is_none_or(String::is_empty);
        let stage = match name {
            "Update()" | "Uninstall()" if unit && object.contains("DeploymentUnit.") => {
                Stage::Unit {
                    object: format!("{object}."),
                    args: args.clone(),
                    key: key.to_owned(),
                    update: name == "Update()",
                }
            }
            _ => match request(name, &Given(args), key)? {
                Some(request) => Stage::Ask(Box::new(request)),
                None if command.contains("Diagnostics") => Stage::Diagnostic {
                    object: object_of(command),
                    args: args.clone(),
                },
                None => {
                    return Err(impossible(
                        "a device that speaks TR-069 has no such command; it has Reboot(), FactoryReset(), ScheduleInform(), Download(), ScheduleDownload(), \
                         Upload(), CancelTransfer(), GetQueuedTransfers(), GetAllQueuedTransfers(), InstallDU(), Update(), Uninstall(), \
                         GetParameterAttributes(), SetParameterAttributes(), GetRPCMethods(), GetOptions(), SetVouchers() and diagnostics",
                    ));
                }
            },
        };
        Ok(Self {
            command: command.to_owned(),
            stage,
        })
    }

    /// What to do next.
    pub(super) fn next(&mut self) -> Step {
        match std::mem::replace(&mut self.stage, Stage::Asked) {
            Stage::Ask(request) => Step::Send(request),
            Stage::Asked => Step::Done(Err(invalid("the command was sent already"))),
            stage @ Stage::Unit { .. } => {
                let Stage::Unit { object, .. } = &stage else {
                    return Step::Done(Err(invalid("no unit")));
                };
                let names = ["UUID", "Version", "ExecutionEnvRef"];
                let names = names.iter().map(|name| format!("{object}{name}")).collect();
                self.stage = stage;
                send(GetParameterValues { names })
            }
            Stage::Diagnostic { object, args } => {
                let names = args.keys().map(String::as_str).chain([STATE]);
                let names = names.map(|name| format!("{object}{name}")).collect();
                self.stage = Stage::Diagnostic { object, args };
                send(GetParameterValues { names })
            }
        }
    }

    /// The device's answer; the end, when there is one.
    pub(super) fn answer(
        &mut self,
        answer: Result<Message, Fault>,
    ) -> Option<Result<TaskResult, TaskError>> {
        let stage = std::mem::replace(&mut self.stage, Stage::Asked);
        match (stage, answer) {
            (Stage::Asked, answer) => Some(operated(&self.command, answer)),
            (_, Err(fault)) => Some(Err(fault_task_error(&fault))),
            (
                Stage::Unit {
                    object,
                    args,
                    key,
                    update,
                },
                Ok(Message::GetParameterValuesResponse(found)),
            ) => {
                let value = |name: &str| {
                    let name = format!("{object}{name}");
                    let found = found.values.iter().find(|(own, _)| *own == name);
                    found
                        .map(|(_, value)| value.text.to_owned())
                        .unwrap_or_default()
                };
                let mut args = args;
                args.insert("UUID".to_owned(), value("UUID"));
                for name in ["Version", "ExecutionEnvRef"] {
                    args.entry(name.to_owned()).or_insert_with(|| value(name));
                }
                let name = if update { "Update()" } else { "Uninstall()" };
                match request(name, &Given(&args), &key) {
                    Ok(Some(request)) => self.stage = Stage::Ask(Box::new(request)),
                    Ok(None) => return Some(Err(invalid("no such command"))),
                    Err(error) => return Some(Err(error)),
                }
                None
            }
            (
                Stage::Diagnostic { object, args },
                Ok(Message::GetParameterValuesResponse(found)),
            ) => {
                let types = types(&found.values);
                let mut values = ParameterValues::new();
                let requested = (STATE.to_owned(), "Requested".to_owned());
                for (name, text) in args.into_iter().chain([requested]) {
                    let name = format!("{object}{name}");
                    let kind = types.get(&name).copied().unwrap_or(ValueType::String);
                    values.push(&name, Value { kind, text: &text });
                }
                let parameter_key = String::new();
                let request = SetParameterValues {
                    values,
                    parameter_key,
                };
                self.stage = Stage::Ask(Box::new(request.into()));
                None
            }
            (_, Ok(other)) => Some(Err(invalid(&format!(
                "the device answered with {}",
                other.name()
            )))),
        }
    }
}

/// The object of a diagnostic: `Device.IP.Diagnostics.IPPing()` is `Device.IP.Diagnostics.IPPing.`.
pub(super) fn object_of(command: &str) -> String {
    format!("{}.", command.strip_suffix("()").unwrap_or(command))
}

/// What an operator gave.
struct Given<'a>(&'a Arguments);

impl Given<'_> {
    fn text(&self, name: &str) -> String {
        self.0.get(name).cloned().unwrap_or_default()
    }

    fn some(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|text| !text.is_empty()).cloned()
    }

    fn needed(&self, name: &str) -> Result<String, TaskError> {
        self.some(name)
            .ok_or_else(|| impossible(&format!("the argument {name} is missing")))
    }

    fn number(&self, name: &str) -> Result<u32, TaskError> {
        match self.0.get(name) {
            None => Ok(0),
            Some(text) => text.parse().map_err(|_| {
                impossible(&format!(
                    "{name}: found `{text}`, expected a number of 32 bits"
                ))
            }),
        }
    }

    /// Up to two, as `TimeWindow.1.Start` and so on, in seconds from now.
    fn windows(&self) -> Result<Vec<TimeWindow>, TaskError> {
        let mut windows = Vec::new();
        for place in ["TimeWindow.1.", "TimeWindow.2."] {
            let name = |name: &str| format!("{place}{name}");
            if !self.0.keys().any(|given| given.starts_with(place)) {
                continue;
            }
            let retries = match self.some(&name("MaxRetries")) {
                None => -1,
                Some(text) => text.parse().map_err(|_| {
                    impossible(&format!("MaxRetries: found `{text}`, expected a number"))
                })?,
            };
            let mode = self.some(&name("Mode"));
            windows.push(TimeWindow {
                start: self.number(&name("Start"))?,
                end: self.number(&name("End"))?,
                mode: mode.unwrap_or_else(|| "1 At Any Time".to_owned()),
                user_message: self.text(&name("UserMessage")),
                max_retries: retries,
            });
        }
        let ordered = windows.iter().all(|window| window.start < window.end);
        if windows.is_empty() || !ordered {
            return Err(impossible(
                "ScheduleDownload() takes TimeWindow.1.Start and TimeWindow.1.End in seconds from now, the start before the end",
            ));
        }
        Ok(windows)
    }

    fn attributes(&self) -> Result<SetAttributes, TaskError> {
        let notification = match self.some("Notification") {
            None => None,
            Some(text) => {
                let number = text.parse::<usize>().ok();
                let known = number.and_then(|number| Notification::ALL.get(number).copied());
                Some(known.ok_or_else(|| {
                    impossible(&format!("Notification: found `{text}`, expected 0 to 6"))
                })?)
            }
        };
        let access = self.0.get("AccessList");
        if notification.is_none() && access.is_none() {
            return Err(impossible(
                "SetParameterAttributes() takes Notification, AccessList or both",
            ));
        }
        let access_list = access.into_iter().flat_map(|list| list.split(','));
        Ok(SetAttributes {
            name: self.needed("Path")?,
            notification_change: notification.is_some(),
            notification: notification.unwrap_or_default(),
            access_list_change: access.is_some(),
            access_list: access_list
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect(),
        })
    }
}

/// The RPC of a command; `None` when there is no such.
fn request(name: &str, given: &Given<'_>, key: &str) -> Result<Option<Message>, TaskError> {
    let command_key = key.to_owned();
    let units = |operation| ChangeDUState {
        operations: vec![operation],
        command_key: key.to_owned(),
    };
    Ok(Some(match name {
        "Reboot()" => Reboot { command_key }.into(),
        "FactoryReset()" => FactoryReset {}.into(),
        "ScheduleInform()" => ScheduleInform {
            delay_seconds: given.number("DelaySeconds")?.max(1),
            command_key,
        }
        .into(),
        "Download()" => Download {
            command_key,
            file_type: given.needed("FileType")?,
            url: given.needed("URL")?,
            username: given.text("Username"),
            password: given.text("Password").into(),
            file_size: given.number("FileSize")?,
            target_file_name: given.text("TargetFileName"),
            delay_seconds: given.number("DelaySeconds")?,
            success_url: given.text("SuccessURL"),
            failure_url: given.text("FailureURL"),
        }
        .into(),
        "ScheduleDownload()" => ScheduleDownload {
            command_key,
            file_type: given.needed("FileType")?,
            url: given.needed("URL")?,
            username: given.text("Username"),
            password: given.text("Password").into(),
            file_size: given.number("FileSize")?,
            target_file_name: given.text("TargetFileName"),
            windows: given.windows()?,
        }
        .into(),
        "Upload()" => Upload {
            command_key,
            file_type: given.needed("FileType")?,
            url: given.needed("URL")?,
            username: given.text("Username"),
            password: given.text("Password").into(),
            delay_seconds: given.number("DelaySeconds")?,
        }
        .into(),
        "CancelTransfer()" => CancelTransfer {
            command_key: given.needed("CommandKey")?,
        }
        .into(),
        "GetQueuedTransfers()" => GetQueuedTransfers {}.into(),
        "GetAllQueuedTransfers()" => GetAllQueuedTransfers {}.into(),
        "GetRPCMethods()" => GetRPCMethods {}.into(),
        "GetOptions()" => GetOptions {
            name: given.text("OptionName"),
        }
        .into(),
        "SetVouchers()" => {
            let text = given.needed("Voucher")?;
            let voucher = STANDARD
                .decode(text.trim())
                .map_err(|_| impossible("Voucher: expected the signed XML document in base64"))?;
            let vouchers = vec![voucher];
            SetVouchers { vouchers }.into()
        }
        "GetParameterAttributes()" => GetParameterAttributes {
            names: vec![given.needed("Path")?],
        }
        .into(),
        "SetParameterAttributes()" => SetParameterAttributes {
            attributes: vec![given.attributes()?],
        }
        .into(),
        "InstallDU()" => units(homefleet_cwmp::message::Operation::Install(Install {
            url: given.needed("URL")?,
            uuid: given.some("UUID"),
            username: given.some("Username"),
            password: given.some("Password").map(Into::into),
            environment: given.some("ExecutionEnvRef"),
        }))
        .into(),
        "Update()" => units(homefleet_cwmp::message::Operation::Update(Update {
            uuid: Some(given.needed("UUID")?),
            version: given.some("Version"),
            url: given.some("URL"),
            username: given.some("Username"),
            password: given.some("Password").map(Into::into),
        }))
        .into(),
        "Uninstall()" => units(homefleet_cwmp::message::Operation::Uninstall(Uninstall {
            uuid: given.needed("UUID")?,
            version: given.some("Version"),
            environment: given.some("ExecutionEnvRef"),
        }))
        .into(),
        _ => return Ok(None),
    }))
}

/// What an answer to a command means: its end, or what tells the end.
fn operated(command: &str, answer: Result<Message, Fault>) -> Result<TaskResult, TaskError> {
    let mut output = Outputs::new();
    let mut tell = |name: String, value: &dyn std::fmt::Display| {
        output.insert(name, value.to_string());
    };
    let later = match answer {
        Ok(Message::DownloadResponse(response)) => {
            (response.status == Status::Pending).then_some(TRANSFER)
        }
        Ok(Message::UploadResponse(response)) => {
            (response.status == Status::Pending).then_some(TRANSFER)
        }
        Ok(Message::ScheduleDownloadResponse(_)) => Some(TRANSFER),
        Ok(Message::ChangeDUStateResponse(_)) => Some(UNITS),
        Ok(Message::SetParameterValuesResponse(_)) => Some(DIAGNOSTICS),
        Ok(
            Message::RebootResponse(_)
            | Message::FactoryResetResponse(_)
            | Message::ScheduleInformResponse(_)
            | Message::CancelTransferResponse(_)
            | Message::SetVouchersResponse(_)
            | Message::SetParameterAttributesResponse(_),
        ) => None,
        Ok(Message::GetRPCMethodsResponse(response)) => {
            tell("Methods".to_owned(), &response.methods.join(","));
            None
        }
        Ok(Message::GetQueuedTransfersResponse(response)) => {
            for (place, transfer) in (1..).zip(&response.transfers) {
                let name = |name: &str| format!("Transfer.{place}.{name}");
                tell(name("CommandKey"), &transfer.command_key);
                tell(name("State"), &progress(transfer.state));
            }
            None
        }
        Ok(Message::GetAllQueuedTransfersResponse(response)) => {
            for (place, transfer) in (1..).zip(&response.transfers) {
                let name = |name: &str| format!("Transfer.{place}.{name}");
                tell(name("CommandKey"), &transfer.command_key);
                tell(name("State"), &progress(transfer.state));
                tell(name("IsDownload"), &transfer.is_download);
                tell(name("FileType"), &transfer.file_type);
                tell(name("FileSize"), &transfer.file_size);
                tell(name("TargetFileName"), &transfer.target_file_name);
            }
            None
        }
        Ok(Message::GetOptionsResponse(response)) => {
            for (place, option) in (1..).zip(&response.options) {
                let name = |name: &str| format!("Option.{place}.{name}");
                tell(name("OptionName"), &option.name);
                tell(name("VoucherSN"), &option.voucher_serial_number);
                tell(name("State"), &option.state);
                tell(name("Mode"), &option.mode);
            }
            None
        }
        Ok(Message::GetParameterAttributesResponse(response)) => {
            for attributes in &response.attributes {
                let name = &attributes.name;
                tell(
                    format!("{name}.Notification"),
                    &attributes.notification.number(),
                );
                tell(
                    format!("{name}.AccessList"),
                    &attributes.access_list.join(","),
                );
            }
            None
        }
        Ok(other) => {
            let answered = other.name();
            return Err(invalid(&format!("the device answered with {answered}")));
        }
        Err(fault) => return Err(fault_task_error(&fault)),
    };
    Ok(TaskResult::Operate {
        commands: vec![OperateResult {
            command: command.to_owned(),
            request: later.map(str::to_owned),
            output,
            error: None,
        }],
    })
}

fn progress(state: TransferState) -> &'static str {
    match state {
        TransferState::NotYetStarted => "NotYetStarted",
        TransferState::InProgress => "InProgress",
        TransferState::Completed => "Completed",
    }
}

/// How changes to software went: what each did, and the first fault among them.
pub(super) fn units(done: &DUStateChangeComplete) -> Result<Outputs, PathError> {
    let mut output = Outputs::new();
    for (place, result) in (1..).zip(&done.results) {
        if result.fault.code.0 != 0 {
            return Err(PathError {
                code: result.fault.code.0,
                message: result.fault.text.clone(),
            });
        }
        let mut tell = |name: &str, value: &str| {
            output.insert(format!("Result.{place}.{name}"), value.to_owned());
        };
        tell("UUID", &result.uuid);
        tell("DeploymentUnitRef", &result.unit);
        tell("Version", &result.version);
        tell(
            "CurrentState",
            match result.state {
                UnitState::Installed => "Installed",
                UnitState::Uninstalled => "Uninstalled",
                UnitState::Failed => "Failed",
            },
        );
    }
    Ok(output)
}

/// What a diagnostic has found, from the values of its object; `None` while it goes on. What was asked for is left out.
pub(super) fn found(
    operation: &Operation,
    read: Result<TaskResult, TaskError>,
) -> Option<Result<Outputs, PathError>> {
    let Operation::Operate { command, args, .. } = operation else {
        return None;
    };
    let failed = |code: u32, message: String| Some(Err(PathError { code, message }));
    let paths = match read {
        Ok(TaskResult::Get { paths }) => paths,
        Ok(_) => return failed(0, "the device tells nothing about it".to_owned()),
        Err(error) => return failed(0, error.message),
    };
    let object = object_of(command);
    let mut output = Outputs::new();
    for found in paths.into_iter().flat_map(|path| path.objects) {
        let below = found.path.strip_prefix(&object).unwrap_or_default();
        let values = found.params.into_iter();
        output.extend(values.map(|(name, value)| (format!("{below}{name}"), value)));
    }
    output.retain(|name, _| !args.contains_key(name));
    match output.remove(STATE).as_deref() {
        Some("Requested" | "InProgress") => None,
        Some(state) if state.starts_with("Complete") => {
            output.insert("Status".to_owned(), "Complete".to_owned());
            Some(Ok(output))
        }
        Some(state) => failed(0, state.to_owned()),
        None => failed(0, "the device tells nothing about it".to_owned()),
    }
}
