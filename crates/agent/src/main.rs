//! The device's side of remote management: the USP agent.

use std::process::ExitCode;

fn main() -> ExitCode {
    homefleet_agent::cli::main()
}
