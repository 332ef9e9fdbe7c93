//! Brokers for a demo over STOMP or MQTT: on loopback, over TLS with certificates on both sides, set up as
//! docs/manual/brokers.md says. Each ends with the demo, however that ends.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use super::failed;
use super::pki::Issued;
use crate::failure::Failure;

mod mosquitto;
mod rabbitmq;

pub(crate) use self::mosquitto::Mosquitto;
pub(crate) use self::rabbitmq::Rabbit;

/// How long a broker may take to start.
const START_TIME: Duration = Duration::from_secs(120);
/// How often is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Who meets at a broker.
pub(crate) struct Parties<'a> {
    /// The broker's certificate and key.
    pub(crate) broker: &'a Issued,
    /// PEM file of the CA of everybody.
    pub(crate) ca: &'a Path,
    /// Endpoint ID of the server.
    pub(crate) controller: &'a str,
    /// Endpoint ID of the agent.
    pub(crate) device: &'a str,
}

/// A process that ends with this.
#[derive(Debug)]
struct Process(Child);

impl Process {
    /// Starts `command`, which writes to the file `log`. The kernel ends it when the demo does not get to it.
    fn start(program: &str, log: &Path, adapt: impl FnOnce(&mut Command)) -> Result<Self, Failure> {
        let out = File::create(log).map_err(|error| failed(&error))?;
        let errors = out.try_clone().map_err(|error| failed(&error))?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", program])
            // What ends the demo at a terminal is for the demo to hear.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors);
        adapt(&mut command);
        command
            .spawn()
            .map(Self)
            .map_err(|error| Failure::Failed(format!("{program} does not start: {error}")))
    }

    /// Waits until it is `ready`.
    async fn wait(&mut self, log: &Path, ready: impl Fn() -> bool) -> Result<(), Failure> {
        let end = Instant::now() + START_TIME;
        while !ready() {
            let ended = self.0.try_wait().map_err(|error| failed(&error))?;
            if ended.is_some() || Instant::now() >= end {
                return Err(Failure::Failed(format!(
                    "the broker does not start; {} says why",
                    log.display()
                )));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Says how to get a broker that is not there.
fn installed(program: &str, package: &str, mtp: &str) -> Result<(), Failure> {
    if Path::new(program).exists() {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{program} is missing. `make demo MTP={mtp}` installs it; or, as root: apt-get install {package}"
    )))
}

/// A TCP port of loopback that was free a moment ago.
fn free_port() -> Result<u16, Failure> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| failed(&error))
}
