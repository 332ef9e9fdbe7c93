//! The command line: `homefleet NOUN VERB …`.

use clap::{Args, Parser, Subcommand};
use homefleet_api::client::Client;

use crate::failure::Failure;
use crate::{
    ca, certificate, cmp, completions, config, demo, device, enrolment, home, mtp, notif, serve,
    sim, task, token, trust,
};

/// Manages every device in every home: gateways, set-top boxes, phones, sensors.
#[derive(Debug, Parser)]
#[command(
    name = "homefleet",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    subcommand_required = true,
    max_term_width = 100,
    after_help = "\
Examples:
  homefleet demo                                    a server and an agent for this machine, on loopback
  homefleet serve --config homefleet.toml           the operator's server
  homefleet device list                             devices the server knows
  homefleet device get os::00D09E-1 Device.DeviceInfo.UpTime

Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused, 5 unreachable."
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Print JSON instead of tables; failures too, on standard error
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Address of the server
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "HOMEFLEET_SERVER",
        default_value = "http://127.0.0.1:8080",
        help_heading = "Global options"
    )]
    pub server: String,
    /// Access token; better given in the environment, where other users do not see it
    #[arg(
        long,
        global = true,
        env = "HOMEFLEET_TOKEN",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    pub token: Option<String>,
}

impl Global {
    /// A client of the server.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(&self.server, self.token.as_deref())?)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator's server
    Serve(serve::Serve),
    /// Run a server and an agent for this very machine, with certificates for both, on loopback
    Demo(demo::Demo),
    /// Devices: list, read, write, operate, watch
    #[command(subcommand)]
    Device(device::Device),
    /// Homes: which devices are behind which gateway, as both say
    #[command(subcommand)]
    Home(home::Home),
    /// Tasks: what was asked of devices, and what came of it
    #[command(subcommand)]
    Task(task::Task),
    /// Message Transfer Protocols: where devices connect, and brokers
    #[command(subcommand)]
    Mtp(mtp::Mtp),
    /// Certificates that the server's CA issued to devices
    #[command(subcommand)]
    Certificate(certificate::Certificate),
    /// Who may have a first certificate: secrets, and requests that wait for approval
    #[command(subcommand)]
    Enrolment(enrolment::Enrolment),
    /// The CA that issues devices' certificates: make or import it, show it
    #[command(subcommand)]
    Ca(ca::Ca),
    /// Access tokens of people and programs
    #[command(subcommand)]
    Token(token::Token),
    /// Certificates of any CA that speaks CMP: ask for one, renew it, have it revoked
    #[command(subcommand)]
    Cmp(cmp::Cmp),
    /// Decisions about certificates
    #[command(subcommand)]
    Trust(trust::Trust),
    /// Telemetry as UDP-notif: what a server receives, and a receiver without one
    #[command(subcommand)]
    Notif(notif::Notif),
    /// Simulated devices by the thousand, against any server
    #[command(subcommand)]
    Sim(sim::Sim),
    /// The server's configuration file
    #[command(subcommand)]
    Config(config::Config),
    /// Print a completion script for a shell
    Completions(completions::Completions),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// See [`Failure`]; its exit code is the process's.
    pub fn run(self) -> Result<(), Failure> {
        let global = self.global;
        match self.command {
            Command::Serve(command) => command.run(),
            Command::Demo(command) => command.run(&global),
            Command::Device(command) => command.run(&global),
            Command::Home(command) => command.run(&global),
            Command::Task(command) => command.run(&global),
            Command::Mtp(command) => command.run(&global),
            Command::Certificate(command) => command.run(&global),
            Command::Enrolment(command) => command.run(&global),
            Command::Ca(command) => command.run(&global),
            Command::Token(command) => command.run(&global),
            Command::Cmp(command) => command.run(&global),
            Command::Trust(command) => command.run(&global),
            Command::Notif(command) => command.run(&global),
            Command::Sim(command) => command.run(&global),
            Command::Config(command) => command.run(&global),
            Command::Completions(command) => command.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
