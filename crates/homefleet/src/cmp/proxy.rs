//! `homefleet cmp proxy`: CMP over CoAP in front of CAs that speak HTTP only, as a program of its own.

use std::path::{Path, PathBuf};

use clap::Args;
use homefleet_server::config::{ProxyFile, proxy_template};
use homefleet_server::proxy::{Front, check};
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio::sync::watch;

use crate::failure::Failure;
use crate::output;
use crate::serve::{Ended, log, runtime, watch as signals, with_causes};

/// `cmp proxy`.
#[derive(Debug, Args)]
pub(crate) struct Proxy {
    /// Configuration file
    #[arg(long, value_name = "FILE", required_unless_present = "template")]
    config: Option<PathBuf>,
    /// Check the configuration and the files it names, and end
    #[arg(long)]
    check_config: bool,
    /// Print a commented configuration file with every key
    #[arg(long, conflicts_with = "config")]
    template: bool,
}

impl Proxy {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Some(path) = self.config else {
            return output::line(proxy_template().trim_end());
        };
        let file = load(&path)?;
        if self.check_config {
            return output::line(&format!("{} is good", path.display()));
        }
        log(&file.log)?;
        runtime()?.block_on(run(file))
    }
}

/// Reads a configuration file and everything that it names.
fn load(path: &Path) -> Result<ProxyFile, Failure> {
    if !path.exists() {
        return Err(Failure::NotFound(format!(
            "there is no file {}; `homefleet cmp proxy --template` prints one",
            path.display()
        )));
    }
    let wrong = |error: &(dyn std::error::Error + 'static)| Failure::Usage(with_causes(error));
    let file = ProxyFile::load(path).map_err(|error| wrong(&error))?;
    check(&file.proxy).map_err(|error| wrong(&error))?;
    Ok(file)
}

async fn run(file: ProxyFile) -> Result<(), Failure> {
    let mut ended = Ended::new()?;
    let mut hangup = signals(SignalKind::hangup())?;
    let failed = |error: &(dyn std::error::Error + 'static)| Failure::Failed(with_causes(error));
    let front = Front::start(&file.proxy, None).map_err(|error| failed(&error))?;
    let (stop, stopped) = watch::channel(false);
    let mut said = Vec::new();
    for (scheme, address) in [("coap", front.coap_addr()), ("coaps", front.coaps_addr())] {
        said.extend(address.map(|address| format!("{scheme}://{address}")));
    }
    let status = match file.proxy.status_listen {
        None => None,
        Some(address) => {
            let listener = TcpListener::bind(address).await.map_err(|error| {
                Failure::Failed(format!(
                    "proxy.status_listen: cannot listen on {address}: {error}"
                ))
            })?;
            let address = listener.local_addr().unwrap_or(address);
            said.push(format!("status http://{address}/status"));
            Some(front.serve_status(listener, stopped))
        }
    };
    output::note(&format!("homefleet: CMP proxy, {}", said.join(", ")));
    loop {
        tokio::select! {
            () = ended.wait() => break,
            _ = hangup.recv() => output::note(&match front.reload().await {
                Ok(()) => "homefleet: the certificate was read again".to_owned(),
                Err(error) => format!("homefleet: nothing is taken over: {error}"),
            }),
        }
    }
    stop.send_replace(true);
    let stopping = async {
        front.shutdown().await;
        if let Some(status) = status {
            drop(status.await);
        }
    };
    tokio::select! {
        () = stopping => Ok(()),
        () = ended.wait() => Err(Failure::Failed("ended before everything was stopped".to_owned())),
    }
}
