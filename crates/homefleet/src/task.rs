//! `homefleet task …`.

use std::time::Duration;

use clap::{Args, Subcommand};
use homefleet_api::{Operation, TaskState};
use serde_json::json;

use crate::cli::Global;
use crate::failure::Failure;
use crate::output::{self, Table};
use crate::{pick, wait};

/// What `homefleet task` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// List tasks, the newest first
    #[command(after_help = "Examples:
  homefleet task list --device 00D09E-1
  homefleet task list --state failed --limit 20")]
    List(List),
    /// Show a task with its result
    #[command(after_help = "Example:
  homefleet task show 01HZX… --wait 60")]
    Show(Show),
    /// Withdraw a task that was not sent yet
    Cancel(Cancel),
}

impl Task {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::List(command) => command.run(global),
            Self::Show(command) => command.run(global),
            Self::Cancel(command) => command.run(global),
        }
    }
}

/// `task list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those of this device
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Only those in this state: queued, sent, done, failed, expired or cancelled
    #[arg(long, value_name = "STATE")]
    state: Option<TaskState>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

impl List {
    fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.client()?;
        let device = self
            .device
            .as_deref()
            .map(|name| pick::device(&client, name))
            .transpose()?;
        let mut tasks = Vec::new();
        let mut after: Option<String> = None;
        while tasks.len() < self.limit {
            let left = (self.limit - tasks.len()).min(200);
            let page = client.tasks(device.as_deref(), self.state, Some(left), after.as_deref())?;
            tasks.extend(page.tasks);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if global.json {
            return output::json(&json!({ "tasks": tasks, "more": after.is_some() }));
        }
        if tasks.is_empty() {
            output::note("no task");
            return Ok(());
        }
        let mut table = Table::new(&["TASK", "STATE", "DEVICE", "WHAT", "BY", "CREATED"]);
        for task in &tasks {
            table.row([
                task.id.clone(),
                task.state.to_string(),
                task.device.clone(),
                describe(&task.operation),
                task.created_by.clone(),
                output::ago(&task.created),
            ]);
        }
        table.print()
    }
}

/// `task show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Identifier
    #[arg(value_name = "TASK")]
    id: String,
    /// Wait until it has ended, at most this long
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
}

impl Show {
    fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.client()?;
        let task = wait::follow(&client, &self.id, Duration::from_secs(self.wait))?;
        if global.json {
            return output::json(&task);
        }
        let mut table = Table::default();
        table.row(["Task", &task.id]);
        table.row(["State", task.state.as_str()]);
        table.row(["Device", &task.device]);
        table.row(["What", &describe(&task.operation)]);
        table.row(["By", &task.created_by]);
        table.row(["Created", &task.created]);
        table.row(["Updated", &task.updated]);
        table.row(["Attempts", &task.attempts.to_string()]);
        if !task.state.is_final() {
            table.row(["Expires", &task.expires]);
        }
        if let Some(next) = &task.next_attempt {
            table.row(["Next attempt", next]);
        }
        if let Some(problem) = &task.last_problem {
            table.row(["Last problem", problem]);
        }
        if let Some(error) = &task.error {
            let code = error
                .usp_code
                .map(|code| format!("{code} "))
                .unwrap_or_default();
            table.row(["Error", &format!("{code}{}", error.message)]);
            for part in &error.param_errors {
                table.row([
                    "",
                    &format!("{}: {} {}", part.path, part.code, part.message),
                ]);
            }
        }
        table.print()?;
        if let Some(result) = &task.result {
            let text = serde_json::to_string_pretty(result)
                .map_err(|error| Failure::Failed(error.to_string()))?;
            output::line(&format!("Result\n{text}"))?;
        }
        Ok(())
    }
}

/// `task cancel`.
#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// Identifier
    #[arg(value_name = "TASK")]
    id: String,
}

impl Cancel {
    fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.client()?;
        client.cancel_task(&self.id)?;
        if global.json {
            return output::json(&client.task(&self.id, Duration::ZERO)?);
        }
        output::line(&format!("{} is cancelled", self.id))
    }
}

/// An operation in one line.
fn describe(operation: &Operation) -> String {
    match operation {
        Operation::Get { paths, .. } => format!("get {}", paths.join(" ")),
        Operation::Set { objects, .. } => {
            let settings: Vec<String> = objects
                .iter()
                .flat_map(|object| {
                    object
                        .params
                        .iter()
                        .map(|param| format!("{}{}={}", object.path, param.name, param.value))
                })
                .collect();
            format!("set {}", settings.join(" "))
        }
        Operation::Add { objects, .. } => {
            let paths: Vec<&str> = objects.iter().map(|object| object.path.as_str()).collect();
            format!("add {}", paths.join(" "))
        }
        Operation::Delete { paths, .. } => format!("delete {}", paths.join(" ")),
        Operation::Operate { command, .. } => format!("operate {command}"),
        Operation::GetInstances { paths, .. } => format!("instances {}", paths.join(" ")),
        Operation::GetSupportedDm { paths, .. } => format!("supported {}", paths.join(" ")),
        Operation::GetSupportedProtocol {} => "supported protocol".to_owned(),
        Operation::Wake {} => "wake".to_owned(),
    }
}
