//! `homefleet notif …`: telemetry as UDP-notif, of a server and without one.

use clap::Subcommand;

use crate::cli::Global;
use crate::failure::Failure;

mod receive;
mod report;
mod send;
mod status;

/// What `homefleet notif` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Notif {
    /// Receive telemetry, print or hand on every message, and say at the end exactly what became of each
    Receive(receive::Receive),
    /// Show what a server receives: publishers and what of theirs arrived, outputs and how they fare
    Status(status::Status),
    /// Show the time series of what a device streams to a server
    Series(status::Series),
    /// Send messages to a receiver of telemetry, from a file, standard input, or made up for load
    Send(send::Send),
}

impl Notif {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::Receive(command) => command.run(global),
            Self::Status(command) => command.run(global),
            Self::Series(command) => command.run(global),
            Self::Send(command) => command.run(global),
        }
    }
}
