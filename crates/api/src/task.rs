//! An operation on a device, its states and its typed result.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// A task to be queued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTask {
    /// What is wanted.
    pub operation: Operation,
    /// Seconds until it is given up, 1 to 2,592,000 (30 days); absent = the server's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
}

/// What is wanted of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// Creates objects (USP Add).
    Add {
        /// Keep what succeeds when a part fails.
        #[serde(default)]
        allow_partial: bool,
        /// Objects to create.
        objects: Vec<AddObject>,
    },
    /// Deletes objects (USP Delete).
    Delete {
        /// Keep what succeeds when a part fails.
        #[serde(default)]
        allow_partial: bool,
        /// Object paths.
        paths: Vec<String>,
    },
    /// Reads parameters (USP Get).
    Get {
        /// Parameter, object or search paths.
        paths: Vec<String>,
        /// Levels below each object; 0 = all.
        #[serde(default)]
        max_depth: u32,
    },
    /// Lists instances (USP GetInstances).
    GetInstances {
        /// Paths of tables.
        paths: Vec<String>,
        /// Only the first level.
        #[serde(default)]
        first_level_only: bool,
    },
    /// Asks which data model is supported (USP GetSupportedDM).
    GetSupportedDm {
        /// Object paths.
        paths: Vec<String>,
        /// Only the first level.
        #[serde(default)]
        first_level_only: bool,
        /// Include commands.
        #[serde(default = "yes")]
        return_commands: bool,
        /// Include events.
        #[serde(default = "yes")]
        return_events: bool,
        /// Include parameters.
        #[serde(default = "yes")]
        return_params: bool,
    },
    /// Asks which versions of USP are supported (USP GetSupportedProtocol).
    GetSupportedProtocol {},
    /// Runs a command (USP Operate).
    Operate {
        /// Command path, for example `Device.Reboot()`.
        command: String,
        /// Input arguments.
        #[serde(default)]
        args: BTreeMap<String, String>,
        /// Key by which its completion is recognised; absent = the task's ID.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        command_key: Option<String>,
    },
    /// Writes parameters (USP Set).
    Set {
        /// Keep what succeeds when a part fails.
        #[serde(default)]
        allow_partial: bool,
        /// Objects whose parameters are written.
        objects: Vec<SetObject>,
    },
    /// Has a device that speaks TR-069 open a session now, by a Connection Request over TCP or UDP (TR-111). It goes before
    /// everything that waits for the device.
    Wake {},
}

fn yes() -> bool {
    true
}

impl Operation {
    /// The `type` on the wire.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Add { .. } => "add",
            Self::Delete { .. } => "delete",
            Self::Get { .. } => "get",
            Self::GetInstances { .. } => "get_instances",
            Self::GetSupportedDm { .. } => "get_supported_dm",
            Self::GetSupportedProtocol {} => "get_supported_protocol",
            Self::Operate { .. } => "operate",
            Self::Set { .. } => "set",
            Self::Wake {} => "wake",
        }
    }

    /// Whether doing it twice is the same as doing it once.
    pub fn is_idempotent(&self) -> bool {
        !matches!(self, Self::Add { .. } | Self::Operate { .. })
    }
}

/// An object to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddObject {
    /// Path of the table, ending with a dot.
    pub path: String,
    /// Parameters of the new instance.
    #[serde(default)]
    pub params: Vec<ParamSetting>,
}

/// An object whose parameters are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetObject {
    /// Object path or search path, ending with a dot.
    pub path: String,
    /// Parameters.
    pub params: Vec<ParamSetting>,
}

/// A parameter's new value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ParamSetting {
    /// Name relative to the object.
    pub name: String,
    /// Value as text.
    pub value: String,
    /// Whether the whole object fails when this one does.
    #[serde(default = "yes")]
    pub required: bool,
}

/// State of a task.
///
/// `queued → sent → done | failed | expired | cancelled`. A sent task goes back to `queued` when
/// the device is known not to have received it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Accepted and stored; waits for its turn or for the next attempt.
    Queued,
    /// Given to the device; its answer is awaited.
    Sent,
    /// Ended as wanted; `result` holds the answer.
    Done,
    /// Ended otherwise; `error` says why.
    Failed,
    /// Not delivered in time.
    Expired,
    /// Withdrawn before it was sent.
    Cancelled,
}

impl TaskState {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Sent)
    }
}

impl std::fmt::Display for TaskState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for TaskState {
    type Err = UnknownTaskState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [
            Self::Queued,
            Self::Sent,
            Self::Done,
            Self::Failed,
            Self::Expired,
            Self::Cancelled,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| UnknownTaskState(text.to_owned()))
    }
}

/// A text that names no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown task state `{0}`, expected queued, sent, done, failed, expired or cancelled")]
pub struct UnknownTaskState(pub String);

/// A task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Task {
    /// Identifier: 26 characters, in the order of creation.
    pub id: String,
    /// Endpoint ID of the device.
    pub device: String,
    /// What is wanted.
    pub operation: Operation,
    /// State.
    pub state: TaskState,
    /// When it was accepted.
    pub created: Timestamp,
    /// When its state last changed.
    pub updated: Timestamp,
    /// When it is given up.
    pub expires: Timestamp,
    /// How often it was given to the network.
    pub attempts: u32,
    /// When it is tried again, for a queued task whose device did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Timestamp>,
    /// Why the last attempt did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_problem: Option<String>,
    /// Name of the token that asked for it, or `server` for the server's own.
    pub created_by: String,
    /// The device's answer, when done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<TaskResult>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
}

/// A page of tasks, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskPage {
    /// Tasks.
    pub tasks: Vec<Task>,
    /// Value for `after` to fetch the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Why a task failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskError {
    /// Kind, stable for programs.
    pub code: TaskErrorCode,
    /// USP error code 7000 to 7999, when the device answered with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usp_code: Option<u32>,
    /// Text for a person.
    pub message: String,
    /// Parts of the request that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub param_errors: Vec<ParamError>,
}

/// Kind of a task's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskErrorCode {
    /// The device answered with an error, or refused every part.
    Device,
    /// The device was not reached before the task expired.
    Expired,
    /// The device's answer made no sense.
    InvalidAnswer,
    /// The request cannot be expressed to this device.
    InvalidRequest,
    /// The device's transport refused the message for good.
    Refused,
    /// The device may or may not have done it; it is not repeated. Look before asking again.
    UnknownOutcome,
    /// A kind this version does not know.
    #[serde(other)]
    Unknown,
}

/// A part of a request that failed (USP `ParamError`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ParamError {
    /// Path or parameter name.
    pub path: String,
    /// USP error code.
    pub code: u32,
    /// Text of the device.
    pub message: String,
}

/// Error for one requested path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PathError {
    /// USP error code.
    pub code: u32,
    /// Text of the device.
    pub message: String,
}

/// A device's answer. A path that failed has its `error`; the others stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TaskResult {
    /// Answer to Add.
    Add {
        /// Per requested object.
        objects: Vec<AddResult>,
    },
    /// Answer to Delete.
    Delete {
        /// Per requested path.
        paths: Vec<DeleteResult>,
    },
    /// Answer to Get.
    Get {
        /// Per requested path.
        paths: Vec<GetResult>,
    },
    /// Answer to GetInstances.
    GetInstances {
        /// Per requested path.
        paths: Vec<InstancesResult>,
    },
    /// Answer to GetSupportedDM.
    GetSupportedDm {
        /// Per requested path.
        paths: Vec<SupportedResult>,
    },
    /// Answer to GetSupportedProtocol.
    GetSupportedProtocol {
        /// Versions the Agent supports.
        versions: Vec<String>,
    },
    /// Answer to Operate, after completion for an asynchronous command.
    Operate {
        /// Per executed command.
        commands: Vec<OperateResult>,
    },
    /// Answer to Set.
    Set {
        /// Per requested object.
        objects: Vec<SetResult>,
    },
    /// What brought a device about.
    Wake {
        /// What was tried, in order; empty when a session was open already.
        attempts: Vec<WakeAttempt>,
        /// Why the session was, as the device told it: `6 CONNECTION REQUEST`.
        events: Vec<String>,
    },
}

/// One way by which a device was called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WakeAttempt {
    /// Over TCP or UDP.
    pub way: WakeWay,
    /// The URL, or the address and port.
    pub to: String,
    /// The server's own address that UDP Connection Requests left from; absent over TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Identical datagrams; 0 over TCP.
    #[serde(default)]
    pub copies: u32,
    /// What came of it, in words.
    pub outcome: String,
}

/// How a device is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WakeWay {
    /// A Connection Request over HTTP (TR-069 §3.2.2).
    Tcp,
    /// A UDP Connection Request from the STUN server's socket (TR-111 Part 2 §2.2.2.3).
    Udp,
}

impl WakeWay {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl std::fmt::Display for WakeAttempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", self.way.as_str(), self.to)?;
        if let Some(from) = &self.from {
            write!(f, " from {from}")?;
        }
        match self.copies {
            0 => {}
            1 => f.write_str(", 1 copy")?,
            copies => write!(f, ", {copies} copies")?,
        }
        write!(f, ": {}", self.outcome)
    }
}

/// Answer for one path of Get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GetResult {
    /// As requested.
    pub requested: String,
    /// Why nothing was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<PathError>,
    /// What was read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ResolvedObject>,
}

/// One object of an answer with its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResolvedObject {
    /// Object path, ending with a dot.
    pub path: String,
    /// Values by name relative to the path.
    pub params: BTreeMap<String, String>,
}

/// Answer for one object of Set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SetResult {
    /// As requested.
    pub requested: String,
    /// Why the object was not changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<PathError>,
    /// Instances that were changed (or, with an error, those that failed and how).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<UpdatedInstance>,
}

/// An instance touched by Set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpdatedInstance {
    /// Its path.
    pub path: String,
    /// Values now.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    /// Parameters that could not be set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<ParamError>,
}

/// Answer for one object of Add.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddResult {
    /// As requested.
    pub requested: String,
    /// Path of the new instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its unique keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unique_keys: BTreeMap<String, String>,
    /// Parameters that could not be set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<ParamError>,
    /// Why it was not created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<PathError>,
}

/// Answer for one path of Delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeleteResult {
    /// As requested.
    pub requested: String,
    /// What is gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deleted: Vec<String>,
    /// What could not be deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<ParamError>,
    /// Why nothing was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<PathError>,
}

/// Answer for one command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperateResult {
    /// Executed command path.
    pub command: String,
    /// Path of the Request object, for an asynchronous command (`Device.LocalAgent.Request.{i}.`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Output arguments.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub output: BTreeMap<String, String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<PathError>,
}

/// Answer for one path of GetInstances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstancesResult {
    /// As requested.
    pub requested: String,
    /// Instances found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<Instance>,
    /// Why none was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<PathError>,
}

/// One instance of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Instance {
    /// Its path.
    pub path: String,
    /// Its unique keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unique_keys: BTreeMap<String, String>,
}

/// Answer for one path of GetSupportedDM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SupportedResult {
    /// As requested.
    pub requested: String,
    /// Data model the device names for it.
    pub data_model: String,
    /// Supported objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ObjectSupport>,
    /// Why none is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<PathError>,
}

/// A supported object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObjectSupport {
    /// Path with `{i}`.
    pub path: String,
    /// Whether it is a table.
    pub multi_instance: bool,
    /// `read_only`, `add_delete`, `add_only` or `delete_only`.
    pub access: String,
    /// Parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<ParamSupport>,
    /// Commands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<CommandSupport>,
    /// Events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventSupport>,
}

/// A supported parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ParamSupport {
    /// Name.
    pub name: String,
    /// `read_only`, `read_write` or `write_only`.
    pub access: String,
    /// Type: `string`, `unsigned_int`, `boolean` and so on; `unknown` when not told.
    pub value_type: String,
}

/// A supported command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommandSupport {
    /// Name with `()`.
    pub name: String,
    /// Whether it completes later.
    pub is_async: bool,
    /// Input arguments.
    pub input: Vec<String>,
    /// Output arguments.
    pub output: Vec<String>,
}

/// A supported event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventSupport {
    /// Name with `!`.
    pub name: String,
    /// Arguments.
    pub args: Vec<String>,
}
