//! `homefleet sim`: thousands of devices in one process, against any server.

use clap::Subcommand;

use crate::cli::Global;
use crate::failure::Failure;

mod cwmp;
mod fleet;
mod report;
mod usp;

/// What `homefleet sim` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Sim {
    /// Devices that speak TR-069 (CWMP), against any ACS
    Cwmp(cwmp::Cwmp),
    /// Agents that speak USP (TR-369), against any Controller
    Usp(usp::Usp),
}

impl Sim {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::Cwmp(command) => command.run(global),
            Self::Usp(command) => command.run(global),
        }
    }
}
