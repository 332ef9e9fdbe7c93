//! `homefleet completions`.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::failure::Failure;
use crate::output;

/// `completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  homefleet completions bash > /etc/bash_completion.d/homefleet
  homefleet completions zsh  > ~/.zfunc/_homefleet")]
pub(crate) struct Completions {
    /// Shell the script is for
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(
            self.shell,
            &mut crate::cli::Cli::command(),
            "homefleet",
            &mut script,
        );
        output::line(String::from_utf8_lossy(&script).trim_end())
    }
}
