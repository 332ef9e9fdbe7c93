//! `homefleet sim`: thousands of devices in one process, against any server.

use clap::Subcommand;

use crate::cli::Global;
use crate::failure::Failure;

mod cwmp;
mod fleet;
mod report;

/// What `homefleet sim` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Sim {
    /// Devices that speak TR-069 (CWMP), against any ACS
    Cwmp(cwmp::Cwmp),
}

impl Sim {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::Cwmp(command) => command.run(global),
        }
    }
}
