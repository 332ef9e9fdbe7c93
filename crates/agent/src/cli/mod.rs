//! The command line of `homefleet-agent`.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::config::{Config, ConfigError};

mod dhcp;
mod init;
mod run;
mod show;

/// Where the configuration is looked for when nobody says.
pub const DEFAULT_CONFIG: &str = "/etc/homefleet/agent.toml";

#[derive(Debug, Parser)]
#[command(
    name = "homefleet-agent",
    version,
    about = "The device's side of remote management: a USP agent over CoAP and DTLS"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a configuration file for this device
    Init(Box<init::Arguments>),
    /// Read the configuration and everything it names, and say what is wrong
    CheckConfig(ConfigFile),
    /// Run the agent
    Run(ConfigFile),
    /// Show what the agent would report about a path, without a controller
    Show(show::Arguments),
    /// Tell the agent what a DHCP server or client says: what their scripts call
    DhcpEvent(dhcp::EventArguments),
    /// Print or write the configuration of a DHCP server or client that goes with [association]
    DhcpConfig(dhcp::ConfigArguments),
    /// Print a shell completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(long, short, env = "HOMEFLEET_AGENT_CONFIG", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

/// A command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// Wrong usage or configuration: exit code 2.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Wrong usage: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// It failed: exit code 1.
    #[error("{0}")]
    Failed(String),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Init(arguments) => init::run(&arguments),
        Command::CheckConfig(file) => check(&file),
        Command::Run(file) => Config::load(&file.config)
            .map_err(Into::into)
            .and_then(run::run),
        Command::Show(arguments) => show::run(&arguments),
        Command::DhcpEvent(arguments) => dhcp::event(&arguments),
        Command::DhcpConfig(arguments) => dhcp::config(&arguments),
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Arguments::command(),
                "homefleet-agent",
                &mut io::stdout(),
            );
            Ok(())
        }
    };
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    // Nobody is left to tell when the error output is closed.
    writeln!(io::stderr(), "homefleet-agent: {error}").ok();
    match error {
        CommandError::Config(_) | CommandError::Usage(_) => ExitCode::from(2),
        CommandError::Failed(_) => ExitCode::FAILURE,
    }
}

/// Writes a line to the standard output; a closed pipe is a failure of the command, not a panic.
fn say(line: &str) -> Result<(), CommandError> {
    writeln!(io::stdout(), "{line}")
        .map_err(|e| CommandError::Failed(format!("cannot write the output: {e}")))
}

/// Whether the files that the configuration names are good; whom the agent trusts, unless it is not enrolled yet.
fn check_files(config: &Config) -> Result<Option<crate::runtime::Trust>, CommandError> {
    let wrong = |error: &dyn std::error::Error| CommandError::Usage(error.to_string());
    match crate::runtime::check_trust(config) {
        Ok(trust) => Ok(Some(trust)),
        Err(crate::runtime::TrustError::NotEnrolled(_)) => {
            crate::enrol::check(config).map_err(|error| wrong(&error))?;
            Ok(None)
        }
        Err(error) => Err(wrong(&error)),
    }
}

/// `check-config`: everything that `run` would refuse, without running.
fn check(file: &ConfigFile) -> Result<(), CommandError> {
    let config = Config::load(&file.config)?;
    let trust = check_files(&config)?;
    say(&format!("endpoint_id  {}", config.endpoint_id))?;
    say(&format!("listen       {}", config.listen))?;
    match &config.controller {
        Some(controller) => say(&format!(
            "controller   {} at {}",
            controller.endpoint_id, controller.url
        ))?,
        None => say("controller   none: only controllers stored in the state will be contacted")?,
    }
    if let Some(enrol) = &config.enrol {
        say(&format!("enrol        at {}", enrol.url))?;
    }
    if let Some(association) = &config.association {
        say(&format!("association  {}", roles(association)))?;
    }
    match trust {
        Some(trust) => say(&format!(
            "trust        {} CA certificate(s), own chain of {}",
            trust.anchors.len(),
            trust.chain.len()
        ))?,
        None => say("trust        not enrolled yet: a certificate is asked for at the start")?,
    }
    say(&format!("state        {}", config.data_dir.display()))?;
    say("ok")
}

/// What the machine is to whom, in words.
fn roles(association: &crate::association::Settings) -> String {
    let mut roles = Vec::new();
    if association.gateway {
        roles.push(match association.lan.as_slice() {
            [] => "gateway, told by its DHCP server".to_owned(),
            lan => format!("gateway, listening on {}", lan.join(", ")),
        });
    }
    if association.device {
        roles.push(match &association.inform {
            None => "device, told by its DHCP client".to_owned(),
            Some(interface) => format!("device, asking on {interface}"),
        });
    }
    roles.join("; ")
}
