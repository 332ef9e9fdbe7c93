//! `homefleet mtp …`: how a running server is connected.

use clap::Subcommand;

use crate::cli::Global;
use crate::failure::Failure;
use crate::output::{self, Table, ago};

/// What `homefleet mtp` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Mtp {
    /// Show where devices connect, the brokers and how each stands, and what came and went
    #[command(after_help = "Examples:
  homefleet mtp status
  homefleet --json mtp status")]
    Status,
}

impl Mtp {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::Status => status(global),
        }
    }
}

fn status(global: &Global) -> Result<(), Failure> {
    let list = global.client()?.mtps()?;
    if global.json {
        return output::json(&list);
    }
    let mut table = Table::new(&["MTP", "NAME", "ADDRESS", "STATE", "SINCE", "REACHED AT"]);
    for mtp in &list.mtps {
        for link in &mtp.links {
            let secure = if link.secure { "" } else { " (not secure)" };
            table.row([
                mtp.mtp.as_str(),
                &link.name,
                &link.address,
                &format!("{}{secure}", link.state),
                &link.since.as_deref().map_or("-".to_owned(), ago),
                link.reached_at.as_deref().unwrap_or("-"),
            ]);
        }
    }
    table.print()?;
    for mtp in &list.mtps {
        for link in &mtp.links {
            if let Some(problem) = &link.problem {
                let tries = match link.failures {
                    0 => String::new(),
                    1 => " (1 attempt failed)".to_owned(),
                    failures => format!(" ({failures} attempts failed)"),
                };
                output::note(&format!("{} {}: {problem}{tries}", mtp.mtp, link.name));
            }
        }
    }
    output::line("")?;
    let mut table = Table::new(&[
        "MTP",
        "DEVICES",
        "IN",
        "OUT",
        "FAILED",
        "ERRONEOUS",
        "FORGED",
    ]);
    for mtp in &list.mtps {
        let devices = mtp.devices.map(|devices| devices.to_string());
        table.row([
            mtp.mtp.as_str(),
            devices.as_deref().unwrap_or("-"),
            &mtp.records_in.to_string(),
            &mtp.records_out.to_string(),
            &mtp.records_failed.to_string(),
            &mtp.erroneous.to_string(),
            &mtp.forged.to_string(),
        ]);
    }
    table.print()
}
