//! `homefleet-agent run`: the agent until SIGTERM or Ctrl-C.

use std::io::IsTerminal as _;

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{
    Layer as _, filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use super::CommandError;
use crate::{Agent, config::Config};

/// Runs until told to stop.
pub(super) fn run(config: Config) -> Result<(), CommandError> {
    let filter: Targets = (config.log.filter.parse())
        .map_err(|e| CommandError::Usage(format!("`log.filter` {:?}: {e}", config.log.filter)))?;
    let output = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let output = if config.log.json {
        output.json().boxed()
    } else {
        output.boxed()
    };
    tracing_subscriber::registry()
        .with(output)
        .with(filter)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| CommandError::Failed(format!("cannot start: {e}")))?;
    runtime.block_on(async {
        let handler = |kind| {
            signal(kind).map_err(|e| CommandError::Failed(format!("cannot hear signals: {e}")))
        };
        let (mut terminate, mut interrupt) = (
            handler(SignalKind::terminate())?,
            handler(SignalKind::interrupt())?,
        );
        // To get its first certificate may take the agent long.
        let started = tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            started = Agent::start(config) => Some(started),
        };
        let Some(started) = started else {
            return Ok(());
        };
        let agent = started.map_err(|e| CommandError::Failed(e.to_string()))?;
        tracing::info!(endpoint_id = %agent.endpoint_id(), listen = %agent.local_addr(), "running");
        // Without its engine the process would be a shell that no supervisor starts again.
        let failed = tokio::select! {
            _ = terminate.recv() => false,
            _ = interrupt.recv() => false,
            () = agent.ended() => true,
        };
        tracing::info!("stopping");
        agent.stop().await;
        if failed {
            return Err(CommandError::Failed(
                "the engine has ended; the log says why".into(),
            ));
        }
        Ok(())
    })
}
