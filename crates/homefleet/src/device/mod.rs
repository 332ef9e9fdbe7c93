//! `homefleet device …`.

use std::time::Duration;

use clap::{Args, Subcommand};
use homefleet_api::{AddObject, Operation, ParamSetting};

use crate::cli::Global;
use crate::failure::Failure;
use crate::{output, path, pick, wait};

mod answer;
mod registry;
mod watch;

/// Longest wait that can be asked for, in seconds.
const MAX_TIMEOUT: u64 = 86_400;

/// What `homefleet device` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Device {
    /// List the devices the server knows
    #[command(after_help = "Examples:
  homefleet device list
  homefleet device list --search gateway
  homefleet --json device list | jq -r '.devices[].id'")]
    List(registry::List),
    /// Show what the server knows of a device
    #[command(after_help = "Example:
  homefleet device show 00D09E-1")]
    Show(registry::Show),
    /// Read parameters from a device
    #[command(after_help = "Examples:
  homefleet device get 00D09E-1 Device.DeviceInfo.UpTime
  homefleet device get 00D09E-1 'Device.Ethernet.Interface.*.Stats.'
  homefleet device get 00D09E-1 'Device.IP.Interface.[Status==\"Up\"].Name'
  homefleet device get 00D09E-1 --stored Device.DeviceInfo.")]
    Get(Get),
    /// Write parameters of a device
    #[command(after_help = "Examples:
  homefleet device set 00D09E-1 Device.DeviceInfo.ProvisioningCode=abc
  homefleet device set 00D09E-1 Device.Time.Enable=true Device.Time.NTPServer1=ntp.example")]
    Set(Set),
    /// Create an object on a device
    #[command(after_help = "Example:
  homefleet device add 00D09E-1 Device.LocalAgent.Subscription. \\
      Enable=true ID=up NotifType=ValueChange ReferenceList=Device.DeviceInfo.ProvisioningCode")]
    Add(Add),
    /// Delete objects on a device
    #[command(after_help = "Example:
  homefleet device delete 00D09E-1 Device.LocalAgent.Subscription.3.")]
    Delete(Delete),
    /// Run a command on a device and wait for its end
    #[command(after_help = "Examples:
  homefleet device operate 00D09E-1 'Device.IP.Diagnostics.IPPing()' ProtocolVersion=Any Host=127.0.0.1 \\
      NumberOfRepetitions=3 Timeout=1000 DataBlockSize=64
  homefleet device operate 00D09E-1 'Device.Reboot()'

Which arguments a command takes: homefleet device supported DEVICE OBJECT")]
    Operate(Operate),
    /// Have a device open a session now
    #[command(
        after_help = "A device that speaks TR-069 is called by a Connection Request: over TCP where nothing is in between, over UDP where it
found address translation. Prints what was tried and what came. A device that speaks USP is asked for a sign of life.

Example:
  homefleet device wake 00D09E-1"
    )]
    Wake(Wake),
    /// Show changes as they happen
    #[command(
        after_help = "Adds a subscription to the device and removes it at the end (Ctrl-C).

Examples:
  homefleet device watch 00D09E-1 Device.DeviceInfo.MemoryStatus.Free
  homefleet device watch 00D09E-1 --type object-creation Device.Hosts.Host.
  homefleet --json device watch 00D09E-1 Device.DeviceInfo.MemoryStatus.Free --count 3"
    )]
    Watch(watch::Watch),
    /// List the instances of tables on a device
    #[command(after_help = "Example:
  homefleet device instances 00D09E-1 Device.IP.Interface.")]
    Instances(Paths),
    /// Ask a device which data model it supports
    #[command(after_help = "Example:
  homefleet device supported 00D09E-1 Device.DeviceInfo.")]
    Supported(Paths),
    /// Give a device a name of your own; an empty name removes it
    Label(registry::Label),
    /// Manage a device that speaks TR-069 and is in quarantine
    Admit(registry::Admit),
    /// Remove a device from the registry; it comes back with its next message
    Forget(registry::Forget),
}

impl Device {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::List(command) => command.run(global),
            Self::Show(command) => command.run(global),
            Self::Get(command) => command.run(global),
            Self::Set(command) => command.run(global),
            Self::Add(command) => command.run(global),
            Self::Delete(command) => command.run(global),
            Self::Operate(command) => command.run(global),
            Self::Wake(command) => command.run(global),
            Self::Watch(command) => command.run(global),
            Self::Instances(command) => {
                let operation = Operation::GetInstances {
                    paths: command.objects(),
                    first_level_only: command.first_level,
                };
                command.to.send(global, operation, answer::Style::Table)
            }
            Self::Supported(command) => {
                let operation = Operation::GetSupportedDm {
                    paths: command.objects(),
                    first_level_only: command.first_level,
                    return_commands: true,
                    return_events: true,
                    return_params: true,
                };
                command.to.send(global, operation, answer::Style::Table)
            }
            Self::Label(command) => command.run(global),
            Self::Admit(command) => command.run(global),
            Self::Forget(command) => command.run(global),
        }
    }
}

/// Which device, and how long to wait for it.
#[derive(Debug, Args)]
pub(crate) struct To {
    /// Endpoint ID, the unambiguous beginning of one, or a serial number
    #[arg(value_name = "DEVICE")]
    device: String,
    /// How long to wait for the device
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=MAX_TIMEOUT))]
    timeout: u64,
    /// Only queue the task and print its ID
    #[arg(long)]
    no_wait: bool,
}

impl To {
    /// Sends the operation, waits, prints the answer.
    fn send(
        &self,
        global: &Global,
        operation: Operation,
        style: answer::Style,
    ) -> Result<(), Failure> {
        let client = global.client()?;
        let device = pick::device(&client, &self.device)?;
        if self.no_wait {
            let task = homefleet_api::NewTask {
                operation,
                expires_in: None,
            };
            let task = client.submit(&device, &task, Duration::ZERO)?;
            return if global.json {
                output::json(&task)
            } else {
                output::line(&task.id)
            };
        }
        let task = wait::run(
            &client,
            &device,
            operation,
            Duration::from_secs(self.timeout),
        )?;
        if global.json {
            output::json(&task)?;
        } else if let Some(result) = &task.result {
            answer::print(result, style)?;
        }
        // Some parts may have failed although the task is done: told, and counted in the exit code.
        answer::failures(task.result.as_ref(), global.json)
    }
}

/// `device get`.
#[derive(Debug, Args)]
pub(crate) struct Get {
    #[command(flatten)]
    to: To,
    /// Parameter, object or search paths; wildcards (`*`) and expressions (`[Enable==true]`) allowed
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<String>,
    /// Levels below each object; 0 for all
    #[arg(long, value_name = "LEVELS", default_value_t = 0)]
    max_depth: u32,
    /// Print the values alone, one on a line
    #[arg(long)]
    values: bool,
    /// Print the last values the server has, with their age, without asking the device
    #[arg(long, conflicts_with_all = ["no_wait", "max_depth"])]
    stored: bool,
}

impl Get {
    fn run(self, global: &Global) -> Result<(), Failure> {
        if self.stored {
            return registry::stored(global, &self.to.device, &self.paths, self.values);
        }
        let style = if self.values {
            answer::Style::Values
        } else {
            answer::Style::Table
        };
        let operation = Operation::Get {
            paths: self.paths,
            max_depth: self.max_depth,
        };
        self.to.send(global, operation, style)
    }
}

/// `device set`.
#[derive(Debug, Args)]
pub(crate) struct Set {
    #[command(flatten)]
    to: To,
    /// Parameters and their new values
    #[arg(value_name = "PATH=VALUE", required = true)]
    settings: Vec<String>,
    /// Keep what succeeds when a part fails
    #[arg(long)]
    allow_partial: bool,
}

impl Set {
    fn run(self, global: &Global) -> Result<(), Failure> {
        let operation = Operation::Set {
            allow_partial: self.allow_partial,
            objects: path::settings(&self.settings)?,
        };
        self.to.send(global, operation, answer::Style::Table)
    }
}

/// `device add`.
#[derive(Debug, Args)]
pub(crate) struct Add {
    #[command(flatten)]
    to: To,
    /// Path of the table
    #[arg(value_name = "OBJECT")]
    object: String,
    /// Parameters of the new instance
    #[arg(value_name = "NAME=VALUE")]
    params: Vec<String>,
}

impl Add {
    fn run(self, global: &Global) -> Result<(), Failure> {
        let params = path::pairs(&self.params)?
            .into_iter()
            .map(|(name, value)| ParamSetting {
                name,
                value,
                required: true,
            })
            .collect();
        let operation = Operation::Add {
            allow_partial: false,
            objects: vec![AddObject {
                path: path::object(&self.object),
                params,
            }],
        };
        self.to.send(global, operation, answer::Style::Table)
    }
}

/// `device delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    to: To,
    /// Objects to delete
    #[arg(value_name = "OBJECT", required = true)]
    objects: Vec<String>,
    /// Keep what succeeds when a part fails
    #[arg(long)]
    allow_partial: bool,
}

impl Delete {
    fn run(self, global: &Global) -> Result<(), Failure> {
        let operation = Operation::Delete {
            allow_partial: self.allow_partial,
            paths: self.objects.iter().map(|each| path::object(each)).collect(),
        };
        self.to.send(global, operation, answer::Style::Table)
    }
}

/// `device operate`.
#[derive(Debug, Args)]
pub(crate) struct Operate {
    #[command(flatten)]
    to: To,
    /// Path of the command; its `()` may be left out
    #[arg(value_name = "COMMAND")]
    command: String,
    /// Input arguments
    #[arg(value_name = "NAME=VALUE")]
    args: Vec<String>,
    /// Key by which the device names this run [default: the task's ID]
    #[arg(long, value_name = "TEXT")]
    command_key: Option<String>,
}

impl Operate {
    fn run(self, global: &Global) -> Result<(), Failure> {
        let command = if self.command.ends_with(')') {
            self.command
        } else {
            format!("{}()", self.command)
        };
        let operation = Operation::Operate {
            command,
            args: path::pairs(&self.args)?.into_iter().collect(),
            command_key: self.command_key,
        };
        self.to.send(global, operation, answer::Style::Table)
    }
}

/// `device wake`.
#[derive(Debug, Args)]
pub(crate) struct Wake {
    /// Endpoint ID, the unambiguous beginning of one, or a serial number
    #[arg(value_name = "DEVICE")]
    device: String,
    /// How long it is tried
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=MAX_TIMEOUT))]
    timeout: u64,
}

impl Wake {
    fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.client()?;
        let device = pick::device(&client, &self.device)?;
        let limit = Duration::from_secs(self.timeout);
        // What nobody waits for any more is not tried any more.
        let task = wait::run_within(&client, &device, Operation::Wake {}, limit)?;
        if global.json {
            return output::json(&task);
        }
        match &task.result {
            Some(result) => answer::print(result, answer::Style::Table),
            None => Ok(()),
        }
    }
}

/// `device instances` and `device supported`.
#[derive(Debug, Args)]
pub(crate) struct Paths {
    #[command(flatten)]
    to: To,
    /// Object paths
    #[arg(value_name = "OBJECT", default_value = "Device.")]
    paths: Vec<String>,
    /// Only the first level below each
    #[arg(long)]
    first_level: bool,
}

impl Paths {
    fn objects(&self) -> Vec<String> {
        self.paths.iter().map(|each| path::object(each)).collect()
    }
}
