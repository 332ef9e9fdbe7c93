//! `homefleet-agent init`: writes a configuration file, checked before it is written.

use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{CommandError, DEFAULT_CONFIG, say};
use crate::config::{Config, Init, InitEnrol, template};

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where the controller is: coaps://host/usp, wss://host/usp, stomps://broker/queue/usp, mqtts://broker/topic or uds:/path
    #[arg(long, value_name = "URL")]
    controller: String,
    /// The controller's Endpoint ID, for example self::controller
    #[arg(long, value_name = "EID")]
    controller_id: String,
    /// PEM file of the trusted CA certificates; with --enrol it may be left out: they come with the certificate
    #[arg(long, required_unless_present = "enrol")]
    ca: Option<PathBuf>,
    /// PEM file of the certificates of trusted STOMP and MQTT brokers
    #[arg(long)]
    brokers: Option<PathBuf>,
    /// PEM file of this agent's certificate chain, leaf first; with --enrol: of the manufacturer's, which the first request is signed with
    #[arg(long, requires = "key", required_unless_present = "enrol")]
    cert: Option<PathBuf>,
    /// PEM file of its private key
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
    /// The CA that issues this agent's certificate by CMP: coaps://host, https://host, coap://host or http://host
    #[arg(long, value_name = "URL")]
    enrol: Option<String>,
    /// What names the secret that the first request to the CA is protected with
    #[arg(long, requires_all = ["enrol", "secret_file"], conflicts_with = "cert", value_name = "REFERENCE")]
    reference: Option<String>,
    /// The file that holds the secret, for its owner's eyes only (mode 0600)
    #[arg(long, requires_all = ["enrol", "reference"], value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Believe the CA's server by the protection of its CMP messages until a CA certificate was received
    #[arg(long, requires = "enrol")]
    trust_from_cmp: bool,
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
    let path = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
    let (certificate, key) = (path(&arguments.cert)?, path(&arguments.key)?);
    let enrol = match &arguments.enrol {
        None => None,
        Some(url) => Some(InitEnrol {
            url: url.clone(),
            reference: arguments.reference.clone(),
            secret_file: path(&arguments.secret_file)?,
            certificate: certificate.clone(),
            key: key.clone(),
            trust: arguments.trust_from_cmp.then(|| "from-cmp".to_owned()),
        }),
    };
    let own = enrol.is_none();
    let text = template(&Init {
        controller: Some(arguments.controller.clone()),
        controller_id: Some(arguments.controller_id.clone()),
        endpoint_id: Some(endpoint_id.clone()),
        ca: path(&arguments.ca)?,
        brokers: path(&arguments.brokers)?,
        certificate: certificate.filter(|_| own),
        key: key.filter(|_| own),
        enrol,
        data_dir: arguments.data_dir.as_deref().map(absolute).transpose()?,
        listen: arguments.listen.clone(),
    });
    let path = absolute(&arguments.config)?;
    let config = Config::parse(&text, &path, |_| None)?;
    super::check_files(&config)?;
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
