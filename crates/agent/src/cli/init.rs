//! `homefleet-agent init`: writes a configuration file, checked before it is written.

use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{CommandError, DEFAULT_CONFIG, say};
use crate::config::{Config, Init, template};

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where the controller is: coaps://host/usp, wss://host/usp, stomps://broker/queue/usp, mqtts://broker/topic or uds:/path
    #[arg(long, value_name = "URL")]
    controller: String,
    /// The controller's Endpoint ID, for example self::controller
    #[arg(long, value_name = "EID")]
    controller_id: String,
    /// PEM file of the trusted CA certificates
    #[arg(long)]
    ca: PathBuf,
    /// PEM file of the certificates of trusted STOMP and MQTT brokers
    #[arg(long)]
    brokers: Option<PathBuf>,
    /// PEM file of this agent's certificate chain, leaf first
    #[arg(long)]
    cert: PathBuf,
    /// PEM file of this agent's private key
    #[arg(long)]
    key: PathBuf,
    /// This agent's Endpoint ID; left out: os::OUI-serial, derived from this machine
    #[arg(long)]
    endpoint_id: Option<String>,
    /// Where the agent keeps its state
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// UDP address of CoAP over DTLS
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The file to write
    #[arg(long, short, env = "HOMEFLEET_AGENT_CONFIG", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Replace the file when it is there already
    #[arg(long)]
    force: bool,
}

/// Writes the file.
pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let endpoint_id = match &arguments.endpoint_id {
        Some(id) => id.clone(),
        None => crate::identity::endpoint_id()
            .map_err(|reason| {
                CommandError::Usage(format!("no Endpoint ID: {reason}; give --endpoint-id"))
            })?
            .to_string(),
    };
    let text = template(&Init {
        controller: Some(arguments.controller.clone()),
        controller_id: Some(arguments.controller_id.clone()),
        endpoint_id: Some(endpoint_id.clone()),
        ca: Some(absolute(&arguments.ca)?),
        brokers: arguments.brokers.as_deref().map(absolute).transpose()?,
        certificate: Some(absolute(&arguments.cert)?),
        key: Some(absolute(&arguments.key)?),
        data_dir: arguments.data_dir.as_deref().map(absolute).transpose()?,
        listen: arguments.listen.clone(),
    });
    let path = absolute(&arguments.config)?;
    let config = Config::parse(&text, &path, |_| None)?;
    crate::runtime::check_trust(&config).map_err(|e| CommandError::Usage(e.to_string()))?;
    write(&path, &text, arguments.force)?;
    say(&format!("wrote {} for {endpoint_id}", path.display()))
}

/// The file names keys, not secrets, but it decides who manages the device: only its owner may change it.
fn write(path: &Path, text: &str, force: bool) -> Result<(), CommandError> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(|e| {
            CommandError::Failed(format!("cannot make {}: {e}", directory.display()))
        })?;
    }
    let mut options = OpenOptions::new();
    options.write(true).mode(0o644);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let mut file = options.open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => CommandError::Usage(format!(
            "{} is there already: give --force to replace it",
            path.display()
        )),
        _ => CommandError::Failed(format!("cannot write {}: {e}", path.display())),
    })?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|e| CommandError::Failed(format!("cannot write {}: {e}", path.display())))
}

fn absolute(path: &Path) -> Result<PathBuf, CommandError> {
    std::path::absolute(path).map_err(|e| CommandError::Usage(format!("{}: {e}", path.display())))
}
