//! RabbitMQ for a demo over STOMP: a node of the demo's own, on loopback, over TLS, set up as docs/manual/brokers.md says. It
//! ends with the demo.

use std::fs::{self, DirBuilder, File};
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::failed;
use super::pki::{Issued, write};
use crate::failure::Failure;

/// The server itself, without Debian's wrapper, which insists on another user.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// How long it may take to start.
const START_TIME: Duration = Duration::from_secs(120);
/// How often its log is looked at while it starts.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A broker that runs.
#[derive(Debug)]
pub struct Rabbit {
    port: u16,
    /// In the order in which they are ended.
    _processes: [Process; 2],
}

impl Rabbit {
    /// Starts one in `dir` that trusts the authority `ca`, for one Controller and one device.
    ///
    /// # Errors
    /// [`Failure::Failed`] when it is not installed, or does not start.
    pub async fn start(
        dir: &Path,
        issued: &Issued,
        ca: &Path,
        controller: &str,
        device: &str,
    ) -> Result<Self, Failure> {
        if !Path::new(SERVER).exists() {
            return Err(Failure::Failed(
                "RabbitMQ is not installed. `make demo MTP=stomp` installs it; or, as root: apt-get install rabbitmq-server"
                    .to_owned(),
            ));
        }
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
        node.configure(issued, ca, controller, device)?;
        let names = node.start(
            "epmd",
            &["-address", "127.0.0.1", "-port", &node.names.to_string()],
        )?;
        let mut broker = node.start(SERVER, &[])?;
        node.wait(&mut broker).await?;
        Ok(Self {
            port: node.tls,
            _processes: [broker, names],
        })
    }

    /// The port for STOMP over TLS, on `localhost`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the Controller hears its devices, and where each of them speaks.
    pub fn controller_destinations() -> (&'static str, &'static str) {
        (
            "/topic/usp.controller.#",
            "/topic/usp.controller.{endpoint-id}",
        )
    }

    /// Where a device speaks to the Controller, and where it hears.
    pub fn device_destinations(device: &str) -> (String, String) {
        (
            format!("/topic/usp.controller.{device}"),
            format!("/topic/usp.agent.{device}"),
        )
    }
}

/// A process that ends with this, and with the demo, however that ends.
#[derive(Debug)]
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
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

    fn configure(
        &self,
        issued: &Issued,
        ca: &Path,
        controller: &str,
        device: &str,
    ) -> Result<(), Failure> {
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
            ca.display(),
            issued.certificate.display(),
            issued.key.display(),
            self.path("definitions.json").display(),
        );
        let plugins = "[rabbitmq_stomp, rabbitmq_auth_mechanism_ssl].\n";
        let definitions = definitions(controller, device).to_string();
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
        let out = File::create(self.out(program)).map_err(|error| failed(&error))?;
        let errors = out.try_clone().map_err(|error| failed(&error))?;
        // The kernel ends it when the demo does not get to it.
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL", program])
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
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none",
            )
            // What ends the demo at a terminal is for the demo to hear.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors)
            .spawn()
            .map(Process)
            .map_err(|error| Failure::Failed(format!("{program} does not start: {error}")))
    }

    fn out(&self, program: &str) -> PathBuf {
        let name = program.rsplit('/').next().unwrap_or(program);
        self.path(&format!("{name}.log"))
    }

    async fn wait(&self, broker: &mut Process) -> Result<(), Failure> {
        let log = self.out(SERVER);
        let end = Instant::now() + START_TIME;
        loop {
            let said = fs::read(&log).unwrap_or_default();
            if String::from_utf8_lossy(&said).contains("Server startup complete") {
                return Ok(());
            }
            let ended = broker.0.try_wait().map_err(|error| failed(&error))?;
            if ended.is_some() || Instant::now() >= end {
                return Err(Failure::Failed(format!(
                    "RabbitMQ does not start; {} says why",
                    log.display()
                )));
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

/// Who may connect, and what each may do there.
fn definitions(controller: &str, device: &str) -> serde_json::Value {
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

/// A TCP port of loopback that was free a moment ago.
fn free_port() -> Result<u16, Failure> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| failed(&error))
}
