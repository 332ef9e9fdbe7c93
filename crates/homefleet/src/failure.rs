//! Every way a command fails, with its exit code.

use homefleet_api::client::ClientError;
use homefleet_api::{Task, TaskErrorCode, TaskState};

/// Exit code of a failure that is nobody's request: the server failed, a file cannot be written.
pub const FAILED: u8 = 1;
/// Exit code of a command line that cannot be understood.
pub const USAGE: u8 = 2;
/// Exit code when the device, task, token or file does not exist.
pub const NOT_FOUND: u8 = 3;
/// Exit code when the server, the device or a certificate check refused.
pub const REFUSED: u8 = 4;
/// Exit code when the server or the device was not reached.
pub const UNREACHABLE: u8 = 5;

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The server's answer, or its absence.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Something on this machine went wrong.
    #[error("{0}")]
    Failed(String),
    /// What was named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// Standard output was closed by its reader.
    #[error("the output was closed")]
    OutputClosed,
    /// Refused, with the reason.
    #[error("{0}")]
    Refused(String),
    /// Nobody was reached, or nobody answered in time.
    #[error("{0}")]
    Unreachable(String),
    /// The task ended otherwise than wanted.
    #[error("{}", task_message(.0))]
    Task(Box<Task>),
    /// The task has not ended in the time given.
    #[error("{}", waiting_message(.0))]
    Waiting(Box<Task>),
    /// The arguments contradict each other or cannot be understood.
    #[error("{0}")]
    Usage(String),
}

impl Failure {
    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Client(error) => match error {
                ClientError::BadAddress { .. } => USAGE,
                ClientError::NotFound(_) => NOT_FOUND,
                ClientError::Refused(_) | ClientError::Unauthorized(_) => REFUSED,
                ClientError::Unreachable { .. } => UNREACHABLE,
                _ => FAILED,
            },
            Self::Failed(_) => FAILED,
            Self::NotFound(_) => NOT_FOUND,
            Self::OutputClosed => 0,
            Self::Refused(_) => REFUSED,
            Self::Task(task) => match (task.state, task.error.as_ref().map(|error| error.code)) {
                (TaskState::Expired, _) | (_, Some(TaskErrorCode::Expired)) => UNREACHABLE,
                (
                    _,
                    Some(
                        TaskErrorCode::Device
                        | TaskErrorCode::InvalidRequest
                        | TaskErrorCode::Refused,
                    ),
                ) => REFUSED,
                _ => FAILED,
            },
            Self::Unreachable(_) | Self::Waiting(_) => UNREACHABLE,
            Self::Usage(_) => USAGE,
        }
    }

    /// What to do next, when that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Client(ClientError::Unauthorized(_)) => Some(
                "give a token with --token or HOMEFLEET_TOKEN; `homefleet token create --config FILE` on the server's machine makes one".to_owned(),
            ),
            Self::Client(ClientError::Unreachable { .. }) => Some(
                "is it running? --server or HOMEFLEET_SERVER names its address".to_owned(),
            ),
            Self::Waiting(task) => Some(format!(
                "the task stays queued: `homefleet task show {id} --wait 60` waits on, `homefleet task cancel {id}` withdraws it",
                id = task.id
            )),
            _ => None,
        }
    }

    /// Kind as a stable name for programs (`--json`).
    pub fn kind(&self) -> &'static str {
        match self.exit_code() {
            USAGE => "usage",
            NOT_FOUND => "not_found",
            REFUSED => "refused",
            UNREACHABLE => "unreachable",
            _ => "failed",
        }
    }
}

fn task_message(task: &Task) -> String {
    let Some(error) = &task.error else {
        return format!("the task was {}", task.state);
    };
    let code = error
        .usp_code
        .map(|code| format!("{code} "))
        .unwrap_or_default();
    let mut text = format!(
        "{} {}: {code}{}",
        task.operation.kind(),
        task.state,
        error.message
    );
    for part in &error.param_errors {
        // A device that refuses one thing often says it as the whole and as the part.
        if part.message == error.message && Some(part.code) == error.usp_code {
            continue;
        }
        text.push_str(&format!(
            "\n  {}: {} {}",
            part.path, part.code, part.message
        ));
    }
    text
}

fn waiting_message(task: &Task) -> String {
    let reason = match &task.last_problem {
        Some(problem) => format!("; last attempt: {problem}"),
        None if task.attempts == 0 => "; the device was not reached yet".to_owned(),
        None => String::new(),
    };
    format!(
        "no answer from {} so far (task {} is {}{reason})",
        task.device, task.id, task.state
    )
}
