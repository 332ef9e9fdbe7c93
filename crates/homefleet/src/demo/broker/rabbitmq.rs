//! RabbitMQ with its STOMP plugin: a node of its own.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::{Parties, Process, free_port, installed};
use crate::demo::failed;
use crate::demo::pki::write;
use crate::failure::Failure;

/// The server itself, without Debian's wrapper, which insists on another user.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// No listener but on loopback, and no core kept busy by waiting.
const ARGUMENTS: &str = "-kernel inet_dist_use_interface {127,0,0,1} \
    +sbwt none +sbwtdcpu none +sbwtdio none";

/// A broker that runs.
#[derive(Debug)]
pub(crate) struct Rabbit {
    port: u16,
    /// In the order in which they are ended.
    _processes: [Process; 2],
}

impl Rabbit {
    /// Starts one in `dir`.
    ///
    /// # Errors
    /// [`Failure::Failed`] when it is not installed, or does not start.
    pub(crate) async fn start(dir: &Path, parties: &Parties<'_>) -> Result<Self, Failure> {
        installed(SERVER, "rabbitmq-server", "stomp")?;
        let dir = dir.join("rabbitmq");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|error| failed(&error))?;
        let node = Node {
            tls: free_port()?,
            names: free_port()?,
            distribution: free_port()?,
            dir,
        };
        node.configure(parties)?;
        let names = node.start(
            "epmd",
            &["-address", "127.0.0.1", "-port", &node.names.to_string()],
        )?;
        let mut broker = node.start(SERVER, &[])?;
        let log = node.log(SERVER);
        let ready = || {
            let said = fs::read(&log).unwrap_or_default();
            String::from_utf8_lossy(&said).contains("Server startup complete")
        };
        broker.wait(&log, ready).await?;
        Ok(Self {
            port: node.tls,
            _processes: [broker, names],
        })
    }

    /// The port for STOMP over TLS, on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// Where it runs.
struct Node {
    dir: PathBuf,
    tls: u16,
    names: u16,
    distribution: u16,
}

impl Node {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn configure(&self, parties: &Parties<'_>) -> Result<(), Failure> {
        let conf = format!(
            "listeners.tcp = none\n\
             stomp.listeners.tcp = none\n\
             stomp.listeners.ssl.1 = 127.0.0.1:{}\n\
             ssl_options.cacertfile = {}\n\
             ssl_options.certfile = {}\n\
             ssl_options.keyfile = {}\n\
             ssl_options.verify = verify_peer\n\
             ssl_options.fail_if_no_peer_cert = true\n\
             stomp.ssl_cert_login = true\n\
             ssl_cert_login_from = subject_alternative_name\n\
             ssl_cert_login_san_type = uri\n\
             ssl_cert_login_san_index = 0\n\
             load_definitions = {}\n\
             log.file = false\n\
             log.console = true\n",
            self.tls,
            parties.ca.display(),
            parties.broker.certificate.display(),
            parties.broker.key.display(),
            self.path("definitions.json").display(),
        );
        let plugins = "[rabbitmq_stomp, rabbitmq_auth_mechanism_ssl].\n";
        let definitions = definitions(parties).to_string();
        for (name, text) in [
            ("rabbitmq.conf", conf.as_str()),
            ("enabled_plugins", plugins),
            ("definitions.json", &definitions),
        ] {
            write(&self.path(name), text, 0o600).map_err(|error| failed(&error))?;
        }
        // What it kept of users is made anew each time.
        match fs::remove_dir_all(self.path("mnesia")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(&error)),
            _ => Ok(()),
        }
    }

    fn start(&self, program: &str, args: &[&str]) -> Result<Process, Failure> {
        Process::start(program, &self.log(program), |command| {
            command
                .args(args)
                .env("HOME", &self.dir)
                .env("ERL_EPMD_PORT", self.names.to_string())
                .env("ERL_EPMD_ADDRESS", "127.0.0.1")
                // Ours is there; one that RabbitMQ started would stay.
                .env("ERL_FLAGS", "-start_epmd false")
                .env(
                    "RABBITMQ_NODENAME",
                    format!("homefleet-demo-{}@localhost", self.distribution),
                )
                .env("RABBITMQ_DIST_PORT", self.distribution.to_string())
                .env("RABBITMQ_MNESIA_BASE", self.path("mnesia"))
                .env("RABBITMQ_LOG_BASE", self.path("log"))
                .env("RABBITMQ_CONFIG_FILE", self.path("rabbitmq.conf"))
                .env(
                    "RABBITMQ_ENABLED_PLUGINS_FILE",
                    self.path("enabled_plugins"),
                )
                .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
                // One process from beginning to end, which takes the place of its shell.
                .env("detached", "1")
                .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", ARGUMENTS);
        })
    }

    fn log(&self, program: &str) -> PathBuf {
        let name = program.rsplit('/').next().unwrap_or(program);
        self.path(&format!("{name}.log"))
    }
}

/// Who may connect, and what each may do there.
fn definitions(parties: &Parties<'_>) -> serde_json::Value {
    let (controller, device) = (parties.controller, parties.device);
    let quoted = device.replace('.', "\\.");
    let own = "^(stomp-subscription-.*|amq\\.topic)$";
    let everybody = [
        (
            controller,
            "^usp\\.agent\\.".to_owned(),
            "^usp\\.controller\\.".to_owned(),
        ),
        (
            device,
            format!("^usp\\.controller\\.{quoted}$"),
            format!("^usp\\.agent\\.{quoted}$"),
        ),
    ];
    let each = |make: &dyn Fn(&str, &str, &str) -> serde_json::Value| {
        let all = everybody.iter().map(|(endpoint_id, write, read)| {
            // The name that the certificate has.
            make(&format!("urn:bbf:usp:id:{endpoint_id}"), write, read)
        });
        all.collect::<Vec<_>>()
    };
    serde_json::json!({
        "vhosts": [{"name": "/"}],
        "users": each(&|user, _, _| serde_json::json!(
            {"name": user, "password_hash": "", "tags": []})),
        "permissions": each(&|user, _, _| serde_json::json!(
            {"user": user, "vhost": "/", "configure": "^stomp-subscription-", "write": own, "read": own})),
        "topic_permissions": each(&|user, write, read| serde_json::json!(
            {"user": user, "vhost": "/", "exchange": "amq.topic", "write": write, "read": read})),
    })
}
