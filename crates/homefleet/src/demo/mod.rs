//! `homefleet demo`: a server and an agent for this very machine, in one process, on loopback.
//!
//! Nothing is simulated. The two sides have a certificate each, from an authority of the demo's own, and
//! speak USP through sockets, over DTLS or TLS, through a real broker where it takes one; only the network between them is short. Everything is kept in
//! one directory, so that the second run finds the device, its values and its tasks again.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use clap::Args;
use homefleet_api::{Device, Operation, TaskResult, TaskState};

use crate::cli::Global;
use crate::failure::Failure;
use crate::output;
use crate::serve::{Ended, runtime, with_causes};

mod broker;
mod home;
mod household;
pub mod pki;
mod way;

pub use home::{Home, Running};
pub use way::Mtp;

/// How many ports after a taken one are tried.
const PORTS_TRIED: u16 = 100;
/// How long the agent has for its first contact before the demo says that something is wrong.
const CONTACT_TIME: Duration = Duration::from_secs(20);
/// How long an operation of `--once` may take.
const OPERATION_TIME: Duration = Duration::from_secs(10);

/// `demo`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  homefleet demo
  homefleet demo --dir /tmp/home --http-port 9000
  homefleet demo --mtp stomp   the same through a RabbitMQ of its own
  homefleet demo --once        starts everything, reads this machine's uptime over DTLS, ends")]
pub(crate) struct Demo {
    /// Directory for certificates, keys, store and log; used again by the next run
    #[arg(long, value_name = "DIR", default_value = "demo-home")]
    dir: PathBuf,
    /// TCP port of the console and the API; the next free one when it is taken
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    http_port: u16,
    /// UDP port on which the server awaits devices; the next free one when it is taken
    #[arg(long, value_name = "PORT", default_value_t = 5684)]
    coap_port: u16,
    /// How server and agent talk
    #[arg(long, value_enum, default_value_t)]
    mtp: Mtp,
    /// Read the uptime from the device once it is there, then end
    #[arg(long)]
    once: bool,
}

impl Demo {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        let home = Home::open(&self.dir)?;
        // Who only wants one answer needs nobody else.
        let home = if self.once { home } else { home.inhabited() };
        log_to(&home)?;
        let http = free_port("--http-port", self.http_port, |at| {
            TcpListener::bind(at).map(drop)
        })?;
        let coap = free_port("--coap-port", self.coap_port, |at| {
            UdpSocket::bind(at).map(drop)
        })?;
        runtime()?.block_on(self.demonstrate(global, home, http, coap))
    }

    async fn demonstrate(
        &self,
        global: &Global,
        home: Home,
        http: SocketAddr,
        coap: SocketAddr,
    ) -> Result<(), Failure> {
        let mut ended = Ended::new()?;
        let home = &tokio::select! {
            home = home.over(self.mtp) => home?,
            () = ended.wait() => return Ok(()),
        };
        let mut running = home.start(http, coap).await?;
        if !self.once
            && let Err(failure) = home.start_modem(&mut running).await
        {
            running.stop().await;
            return Err(failure);
        }
        let shown = self.show(global, home, &running, &mut ended).await;
        running.stop().await;
        shown
    }

    async fn show(
        &self,
        global: &Global,
        home: &Home,
        running: &Running,
        ended: &mut Ended,
    ) -> Result<(), Failure> {
        let contact = tokio::select! {
            contact = running.first_contact(CONTACT_TIME) => contact,
            () = ended.wait() => return Ok(()),
        };
        if self.once {
            let device = contact.ok_or_else(|| {
                Failure::Failed(format!(
                    "the agent made no contact; {} says why",
                    home.log_file().display()
                ))
            })?;
            return once(global, running, &device).await;
        }
        if global.json {
            output::json(&serde_json::json!({
                "server": running.url(),
                "token": running.token(),
                "login": running.login_link(),
                "devices_at": running.devices_at(),
                "telemetry_at": running.telemetry_at(),
                "device": running.device_id(),
                "modem": running.modem_id(),
                "directory": home.dir(),
            }))?;
        } else {
            output::line(&words(home, running, contact.as_ref()))?;
        }
        ended.wait().await;
        output::note("\nhomefleet: stopping");
        Ok(())
    }
}

/// What the demo tells a person.
fn words(home: &Home, running: &Running, contact: Option<&Device>) -> String {
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "homefleet".to_owned());
    let id = running.device_id();
    let agent = match contact {
        Some(device) => format!(
            "{id}  connected over {}, {} values read",
            home.mtp().words(),
            device.parameter_count
        ),
        None => format!("{id}  NO CONTACT YET: see {}", home.log_file().display()),
    };
    format!(
        "\nHomefleet demo: this machine, managed over {mtp}\n\
         \n  server    {at}  as {server}\
         \n  agent     {agent}\
         \n  modem     {modem}  the same machine over TR-069, as of the installed base\
         \n  kept in   {dir}  (delete it to begin anew)\n\
         \n  console   {login}\
         \n            signs you in once; later sign in with the token below\n\
         \nIn another terminal:\n\
         \n  export HOMEFLEET_SERVER={url}\
         \n  export HOMEFLEET_TOKEN={token}\
         \n  {program} device list\
         \n  {program} device get '{id}' Device.DeviceInfo.UpTime\
         \n  {program} device set '{id}' Device.DeviceInfo.ProvisioningCode=first-light\
         \n  {program} device operate '{id}' 'Device.IP.Diagnostics.IPPing()' Host=127.0.0.1 \\\
         \n      ProtocolVersion=Any NumberOfRepetitions=3 Timeout=1000 DataBlockSize=64\
         \n  {program} device watch '{id}' Device.DeviceInfo.MemoryStatus.Free\
         \n  {program} device get '{modem}' InternetGatewayDevice.DeviceInfo.UpTime\
         \n  {program} device set '{modem}' InternetGatewayDevice.DeviceInfo.ProvisioningCode=first-light\n\
         {household}\
         \nThe agent streams counters of this machine over DTLS 1.3, too (UDP-notif to {telemetry}):\
         \nthe console plots them live on the device's page, under Telemetry.\n\
         \nCtrl-C ends it.\n",
        household = match running.household() {
            0 => String::new(),
            devices => format!(
                "\n  {program} home show '{id}'\n\
                 \nThis machine plays the gateway of a home with {devices} devices, each an agent of its own. No DHCP server runs: what it would\
                 \ntell is told to the agents as its scripts do (homefleet-agent dhcp-event). The console draws the home at {url}/homes.\n",
                url = running.url()
            ),
        },
        mtp = home.mtp().words(),
        modem = running.modem_id(),
        at = running.devices_at(),
        telemetry = running
            .telemetry_at()
            .map_or_else(|| "nobody".to_owned(), |at| at.to_string()),
        server = home::CONTROLLER_ID,
        dir = home.dir().display(),
        login = running.login_link(),
        url = running.url(),
        token = running.token(),
    )
}

/// Reads the uptime from the device and prints it.
async fn once(global: &Global, running: &Running, device: &Device) -> Result<(), Failure> {
    let path = "Device.DeviceInfo.UpTime";
    let operation = Operation::Get {
        paths: vec![path.to_owned()],
        max_depth: 0,
    };
    let task = running.ask(operation, OPERATION_TIME).await?;
    let value = match (&task.state, &task.result) {
        (TaskState::Done, Some(TaskResult::Get { paths })) => paths
            .iter()
            .flat_map(|path| &path.objects)
            .find_map(|object| object.params.get("UpTime").cloned()),
        _ => None,
    };
    let Some(value) = value else {
        return Err(if task.state.is_final() {
            Failure::Task(Box::new(task))
        } else {
            Failure::Waiting(Box::new(task))
        });
    };
    if global.json {
        return output::json(&serde_json::json!({
            "device": device.summary.id,
            "path": path,
            "value": value,
        }));
    }
    output::line(&format!("{}  {path}  {value}", device.summary.id))
}

/// The address on loopback with this port, or with the next one that is free.
fn free_port(
    option: &str,
    wanted: u16,
    try_bind: impl Fn(SocketAddr) -> std::io::Result<()>,
) -> Result<SocketAddr, Failure> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let last = wanted.saturating_add(if wanted == 0 { 0 } else { PORTS_TRIED });
    for port in wanted..=last {
        let address = SocketAddr::new(loopback, port);
        match try_bind(address) {
            Ok(()) => {
                if port != wanted {
                    output::note(&format!(
                        "homefleet: port {wanted} ({option}) is taken, using {port}"
                    ));
                }
                return Ok(address);
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => {
                return Err(Failure::Failed(format!("{option} {port}: {error}")));
            }
        }
    }
    Err(Failure::Failed(format!(
        "{option}: ports {wanted} to {last} are all taken"
    )))
}

/// The demo's log goes to a file: its terminal belongs to the person.
fn log_to(home: &Home) -> Result<(), Failure> {
    let path = home.log_file();
    let file = std::fs::File::create(&path)
        .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?;
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(Mutex::new(file))
        .try_init()
        .map_err(|error| Failure::Failed(format!("cannot write a log: {error}")))
}

pub(crate) fn failed(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::Failed(with_causes(error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_taken_port_gives_way_to_the_next_free_one() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let found = free_port("--http-port", port, |at| TcpListener::bind(at).map(drop)).unwrap();
        assert!(found.port() > port, "{found}");
    }

    #[test]
    fn port_zero_stays_zero() {
        let found = free_port("--coap-port", 0, |at| UdpSocket::bind(at).map(drop)).unwrap();
        assert_eq!(found.port(), 0);
    }
}
