//! `homefleet-agent show`: what the agent would report, read without a controller.

use std::{collections::BTreeMap, path::PathBuf};

use super::{CommandError, DEFAULT_CONFIG, say};
use crate::{
    config::Config,
    engine::Engine,
    provider::{self, Now},
    store::{Batch, Store},
};

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Paths, for example Device.DeviceInfo. or Device.IP.Interface.*.Name
    #[arg(required = true)]
    paths: Vec<String>,
    /// The configuration file
    #[arg(long, short, env = "HOMEFLEET_AGENT_CONFIG", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

/// Reads a copy of the state, so that a running agent is not disturbed.
pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let config = Config::load(&arguments.config)?;
    let identity =
        crate::enrol::look(&config).map_err(|error| CommandError::Failed(error.to_string()))?;
    let trust = crate::runtime::load_trust(&config, identity.as_ref())
        .map_err(|error| CommandError::Usage(error.to_string()))?;
    let failed = |error: &dyn std::fmt::Display| CommandError::Failed(error.to_string());
    let mut copy = Store::in_memory().map_err(|error| failed(&error))?;
    if config.data_dir.join("agent.db").exists() {
        let stored = Store::open(&config.data_dir).map_err(|error| failed(&error))?;
        let batch = Batch {
            tree: Some(stored.tree()),
            ..Batch::default()
        };
        copy.write(batch).map_err(|error| failed(&error))?;
    }
    let providers = provider::all(&provider::Options {
        restart: provider::reboot::Restart::Nothing,
        own: provider::Own::of(trust.chain.first()),
        ..crate::runtime::provider_options(&config)
    });
    let mut settings = crate::runtime::settings(&config, &trust, config.listen.port());
    settings.first_use = None;
    settings.restarts = false;
    settings.wait_for_time = std::time::Duration::ZERO;
    let now = Now::system();
    let mut engine =
        Engine::new(settings, providers, copy, now, [0; 32]).map_err(|error| failed(&error))?;
    let mut values = BTreeMap::new();
    for path in &arguments.paths {
        values.extend(
            engine
                .show(path, now)
                .map_err(|fault| CommandError::Usage(format!("{path}: {fault}")))?,
        );
    }
    if arguments.json {
        return say(&crate::engine::json_object(&values));
    }
    let width = values.keys().map(String::len).max().unwrap_or(0);
    values
        .iter()
        .try_for_each(|(path, value)| say(&format!("{path:width$}  {value}")))
}
