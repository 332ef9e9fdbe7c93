//! `homefleet config …`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::Global;
use crate::failure::Failure;
use crate::output;

/// What `homefleet config` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Print a commented configuration file with every key
    #[command(after_help = "Example:
  homefleet config template > homefleet.toml")]
    Template,
    /// Check a configuration file: unknown keys, values, and what is in the files it names: certificates, keys, lists, passwords
    Check(Check),
}

impl Config {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::Template => output::line(homefleet_server::config::template().trim_end()),
            Self::Check(command) => command.run(global),
        }
    }
}

/// `config check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl Check {
    fn run(self, global: &Global) -> Result<(), Failure> {
        let config = check(&self.config)?;
        if global.json {
            return output::json(&json!({
                "file": self.config,
                "endpoint_id": config.endpoint_id,
                "good": true,
            }));
        }
        output::line(&format!("{} is good", self.config.display()))
    }
}

/// Reads a configuration file and everything that it names, and judges them as a start would.
pub(crate) fn check(path: &Path) -> Result<homefleet_server::Config, Failure> {
    let config = load(path)?;
    let wrong = |error: &dyn std::error::Error| Failure::Usage(error.to_string());
    homefleet_server::tls::check(&config).map_err(|error| wrong(&error))?;
    config.passwords().map_err(|error| wrong(&error))?;
    homefleet_server::telemetry::check(&config.notif).map_err(|error| wrong(&error))?;
    homefleet_server::proxy::check(&config.proxy).map_err(|error| wrong(&error))?;
    Ok(config)
}

/// Reads and checks a configuration file.
pub(crate) fn load(path: &Path) -> Result<homefleet_server::Config, Failure> {
    if !path.exists() {
        return Err(Failure::NotFound(format!(
            "there is no file {}; `homefleet config template` prints one",
            path.display()
        )));
    }
    let config = homefleet_server::Config::load(path)
        .map_err(|error| Failure::Usage(crate::serve::with_causes(&error)))?;
    config
        .check()
        .map_err(|error| Failure::Usage(crate::serve::with_causes(&error)))?;
    Ok(config)
}
