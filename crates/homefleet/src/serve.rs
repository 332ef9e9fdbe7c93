//! `homefleet serve`: the operator's server.

use std::path::PathBuf;

use clap::Args;
use homefleet_server::{Config, Server};
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;
use crate::output;

/// `serve`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  homefleet config template > homefleet.toml
  homefleet serve --config homefleet.toml")]
pub(crate) struct Serve {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the configuration and the files it names, and end
    #[arg(long)]
    check_config: bool,
}

impl Serve {
    pub(crate) fn run(self) -> Result<(), Failure> {
        if self.check_config {
            crate::config::check(&self.config)?;
            return output::line(&format!("{} is good", self.config.display()));
        }
        let config = crate::config::load(&self.config)?;
        log(&config.log)?;
        runtime()?.block_on(serve(config))
    }
}

async fn serve(config: Config) -> Result<(), Failure> {
    let mut ended = Ended::new()?;
    let mut hangup = watch(SignalKind::hangup())?;
    let server = Server::start(config)
        .await
        .map_err(|error| Failure::Failed(with_causes(&error)))?;
    output::note(&format!(
        "homefleet: console http://{}, devices coaps://{} as {}",
        server.http_addr(),
        server.coap_addr(),
        server.endpoint_id()
    ));
    loop {
        tokio::select! {
            () = ended.wait() => break,
            _ = hangup.recv() => output::note(&match server.reload().await {
                Ok(tls) => format!(
                    "homefleet: certificate {} until {}, {} trusted",
                    tls.certificate.subject,
                    tls.certificate.not_after,
                    tls.anchors.len()
                ),
                Err(error) => format!("homefleet: nothing is taken over: {error}"),
            }),
        }
    }
    output::note("homefleet: stopping; once more ends at once");
    tokio::select! {
        () = server.stop() => Ok(()),
        () = ended.wait() => Err(Failure::Failed("ended before everything was stopped".to_owned())),
    }
}

pub(crate) fn watch(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Failure> {
    signal(kind).map_err(|error| Failure::Failed(format!("cannot watch for signals: {error}")))
}

/// The runtime of the commands that stay.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start: {error}")))
}

/// Ctrl-C or SIGTERM.
pub(crate) struct Ended {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Ended {
    /// Watches from now on.
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: watch(SignalKind::interrupt())?,
            terminate: watch(SignalKind::terminate())?,
        })
    }

    /// Returns when one of them came.
    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// An error with everything that caused it, on one line.
pub(crate) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

/// Writes logs as the configuration says.
pub(crate) fn log(config: &homefleet_server::config::Log) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.filter)
        .map_err(|error| Failure::Usage(format!("log.filter: {error}")))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let set = if config.json {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
    set.map_err(|error| Failure::Failed(format!("cannot write logs: {error}")))
}
