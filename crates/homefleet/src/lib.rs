//! The operator's command `homefleet`: the server, the demo and the command-line client.
//!
//! The binary is [`main`] and nothing else. The layers, from the outside in:
//!
//! - [`cli`]: the command line as clap types, and which handler each command goes to,
//! - one file per noun (`device`, `home`, `task`, `ca`, `certificate`, `enrolment`, `token`, `cmp`, `trust`, `notif`, `sim`, `config`, `serve`, `demo`,
//!   `completions`): its
//!   arguments, what it asks of the server through [`homefleet_api::client`], what it prints,
//! - `pick` (which device is meant), `passphrase` (from a file, the environment or the terminal), `wait` (a task until it has ended), `output` (tables, JSON),
//! - [`failure`]: every way a command fails, with its exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused, 5 unreachable.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;

pub mod cli;
pub mod failure;

mod ca;
mod certificate;
mod cmp;
mod completions;
mod config;
pub mod demo;
mod device;
mod enrolment;
mod home;
mod mtp;
mod notif;
mod output;
mod passphrase;
mod path;
mod pick;
mod serve;
mod sim;
mod task;
mod token;
mod trust;
mod wait;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe is all that can go wrong here, and nobody is left to be told.
            error.print().unwrap_or_default();
            return ExitCode::from(if error.use_stderr() {
                failure::USAGE
            } else {
                0
            });
        }
    };
    let json = cli.global.json;
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::report(&failure, json);
            ExitCode::from(failure.exit_code())
        }
    }
}
