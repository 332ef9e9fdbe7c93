//! The demo's directory, and what runs on it: also the ground of this crate's own tests.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use homefleet_agent::{Agent, config as agent_config};
use homefleet_api::{
    Device, LinkState, NewEnrolmentSecret, NewTask, NewToken, Operation, Role, Task,
};
use homefleet_server::{
    Access, Config, CoreError, RunningServer, Server,
    config::{Tls, UnknownCpes},
};

use super::failed;
use super::household::{Household, Who};
use super::pki::{Authority, Issued, random, write};
use super::way::{Mtp, Way};
use crate::failure::Failure;

/// Endpoint ID of the demo's server as a USP Controller.
pub(crate) const CONTROLLER_ID: &str = "proto::homefleet-demo";
/// How long each side has to stop.
const STOP_TIME: Duration = Duration::from_secs(1);
/// How long the server has to connect to its broker before the agent starts.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// How long the agent has to get its certificate.
const ENROL_TIME: Duration = Duration::from_secs(60);
/// How often the registry is looked at while the first contact is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What the agent tells as telemetry.
const TOLD: [&str; 3] = [
    "Device.DeviceInfo.MemoryStatus.",
    "Device.DeviceInfo.ProcessStatus.CPUUsage",
    "Device.IP.Interface.*.Stats.",
];
/// Who the demo's second device is, as one that speaks TR-069: OUI, product class, serial number.
const MODEM: [&str; 3] = ["02005E", "Modem", "DEMO"];
/// How long a token of the demo is good.
const TOKEN_LIFETIME: u64 = 30 * 86_400;

/// A directory with an authority, the server's certificate, and the data of both sides. The device has nothing but a secret at first.
#[derive(Debug)]
pub struct Home {
    dir: PathBuf,
    _lock: File,
    authority: Authority,
    server: Issued,
    /// The CA's directory, and the file with its passphrase.
    ca: (PathBuf, PathBuf),
    device_id: String,
    way: Way,
    /// Who is behind this machine, when it plays the gateway.
    household: Option<Household>,
}

impl Home {
    /// The home in `dir`, made when there is none. The device keeps the Endpoint ID of the first time.
    ///
    /// # Errors
    /// [`Failure::Failed`] when a file cannot be read or written, or another demo lives there now.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| Failure::Failed(format!("{}: {error}", dir.display())))?;
        let dir = dir
            .canonicalize()
            .map_err(|error| Failure::Failed(format!("{}: {error}", dir.display())))?;
        let lock = lock(&dir)?;
        let authority = Authority::open(&dir).map_err(|error| failed(&error))?;
        let device_id = device_id(&dir)?;
        let issue = |name, id, hosts: &[&str]| {
            authority
                .endpoint(&dir, name, id, hosts)
                .map_err(|error| failed(&error))
        };
        let server = issue("server", CONTROLLER_ID, &["127.0.0.1", "localhost"])?;
        let ca = authority.for_server(&dir).map_err(|error| failed(&error))?;
        Ok(Self {
            dir,
            _lock: lock,
            server,
            ca,
            device_id,
            authority,
            way: Way::Coap,
            household: None,
        })
    }

    /// The same with this machine as a gateway, and devices behind it; as it was where the machine has no name of its own to be a gateway by.
    #[must_use]
    pub fn inhabited(mut self) -> Self {
        let gateway = Who::this_machine(&self.device_id);
        self.household = gateway.and_then(|gateway| Household::new(&self.dir, gateway));
        self
    }

    /// The same with server and agent talking over `mtp`. A broker, where it takes one, runs for as long as the home.
    ///
    /// # Errors
    /// [`Failure::Failed`] when its broker is not installed, or does not start.
    pub async fn over(mut self, mtp: Mtp) -> Result<Self, Failure> {
        self.way = Way::open(mtp, &self.dir, &self.authority, &self.device_id).await?;
        Ok(self)
    }

    /// How server and agent talk.
    pub fn mtp(&self) -> Mtp {
        self.way.mtp()
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// File the demo logs to.
    pub fn log_file(&self) -> PathBuf {
        self.dir.join("demo.log")
    }

    /// Endpoint ID of the agent.
    pub fn device_id(&self) -> &str {
        &self.device_id
    }

    /// Configuration of the server.
    pub fn server_config(&self, http: SocketAddr, coap: SocketAddr) -> Config {
        let tls = Tls::new(
            &self.server.certificate,
            &self.server.key,
            &self.authority.certificate,
        );
        let mut config = Config::new(CONTROLLER_ID.to_owned(), self.dir.join("server"), tls);
        config.http.listen = http;
        config.coap.listen = coap;
        config.pki.enabled = true;
        config.pki.directory = Some(self.ca.0.clone());
        config.pki.passphrase_file = Some(self.ca.1.clone());
        // Every way to ask for a certificate, to try; the agent asks over coaps.
        let somewhere = Some(SocketAddr::new(coap.ip(), 0));
        (config.cmp.coap_listen, config.cmp.coaps_listen) = (somewhere, somewhere);
        (config.cmp.http_listen, config.cmp.https_listen) = (somewhere, somewhere);
        config.notif.listen = Some(SocketAddr::new(coap.ip(), 0));
        // Nobody but this machine reaches it.
        config.acs.listen = Some(SocketAddr::new(coap.ip(), self.acs_port(coap.ip())));
        config.acs.unknown = UnknownCpes::Admit;
        config.acs.call_networks = vec![format!("{}/32", coap.ip())];
        self.way.enter(&mut config);
        config
    }

    /// Configuration of the agent, for a server whose devices' address is `coap`, whose CA is asked at `cmp`, and that is told telemetry
    /// at `notif`. It has no certificate, its own or another's.
    ///
    /// # Errors
    /// [`Failure::Failed`] when its file cannot be written.
    pub fn agent_config(
        &self,
        coap: SocketAddr,
        cmp: SocketAddr,
        notif: Option<SocketAddr>,
    ) -> Result<agent_config::Config, Failure> {
        let plain = Who::unnamed(&self.device_id);
        let who = self.household.as_ref().map_or(&plain, Household::gateway);
        let controller = self.way.controller(coap, &self.device_id);
        self.config_of(who, controller, self.way.broker(), cmp, notif)
    }

    fn config_of(
        &self,
        who: &Who,
        controller: String,
        brokers: Option<PathBuf>,
        cmp: SocketAddr,
        notif: Option<SocketAddr>,
    ) -> Result<agent_config::Config, Failure> {
        let mut text = agent_config::template(&agent_config::Init {
            controller: Some(controller),
            controller_id: Some(CONTROLLER_ID.to_owned()),
            endpoint_id: Some(who.id.clone()),
            brokers,
            enrol: Some(agent_config::InitEnrol {
                url: format!("coaps://{cmp}"),
                reference: Some(who.id.clone()),
                secret_file: Some(self.secret_file(who)),
                trust: Some("from-cmp".to_owned()),
                ..Default::default()
            }),
            data_dir: Some(self.dir.join(&who.name)),
            listen: Some("127.0.0.1:0".to_owned()),
            ..Default::default()
        });
        text.extend(notif.map(telemetry));
        let file = self.dir.join(format!("{}.toml", who.name));
        write(&file, &text, 0o600).map_err(|error| failed(&error))?;
        // Both sides look at this machine's one clock, so that it is accurate is beyond doubt here.
        let environment = |name: &str| match name {
            "HOMEFLEET_AGENT_TRUST_TIME" => Some("accurate".to_owned()),
            "HOMEFLEET_AGENT_CONTROLLER_SUBSCRIBE" if who.id == self.device_id => {
                self.way.agent(&self.device_id)
            }
            _ => who.setting(name),
        };
        let mut config = agent_config::Config::parse(&text, &file, environment)
            .map_err(|error| failed(&error))?;
        // A demo never restarts its visitor's machine nor changes its network.
        config.device.restart = agent_config::Restart::Agent;
        config.device.allow_network_changes = false;
        Ok(config)
    }

    /// Starts the server and then the agent.
    ///
    /// # Errors
    /// [`Failure::Failed`] when one of them does not start; the other is stopped again.
    pub async fn start(&self, http: SocketAddr, coap: SocketAddr) -> Result<Running, Failure> {
        let running = self.start_server(http, coap).await?;
        running.connected(CONNECT_TIME).await;
        let started = match self.start_agent(&running).await {
            Ok(agent) => self.start_household(&running).await.map(|all| (agent, all)),
            Err(failure) => Err(failure),
        };
        match started {
            Ok((agent, household)) => Ok(Running {
                agent: Some(agent),
                household,
                ..running
            }),
            Err(failure) => {
                running.stop().await;
                Err(failure)
            }
        }
    }

    /// Starts the devices behind this machine, and tells all of them what DHCP would.
    async fn start_household(&self, running: &Running) -> Result<Vec<Agent>, Failure> {
        let mut agents = Vec::new();
        let Some(household) = &self.household else {
            return Ok(agents);
        };
        let server = &running.server;
        let (Some(cmp), coap) = (server.cmp_coaps_addr(), server.coap_addr()) else {
            return Ok(agents);
        };
        for who in household.members() {
            let controller = format!("coaps://{coap}/usp");
            let config = self.config_of(who, controller, None, cmp, None)?;
            self.invite(who, &config, running).await?;
            match tokio::time::timeout(ENROL_TIME, Agent::start(config)).await {
                Ok(started) => agents.push(started.map_err(|error| failed(&error))?),
                Err(_) => tracing::warn!(device = who.id, "it got no certificate in time"),
            }
        }
        household
            .connect(&self.dir)
            .map_err(|error| failed(&error))?;
        Ok(agents)
    }

    /// Starts the server alone.
    ///
    /// # Errors
    /// [`Failure::Failed`] when it does not start.
    pub async fn start_server(
        &self,
        http: SocketAddr,
        coap: SocketAddr,
    ) -> Result<Running, Failure> {
        let server = Server::start(self.server_config(http, coap))
            .await
            .map_err(|error| failed(&error))?;
        let (access, token) = match self.token(&server).await {
            Ok(signed_in) => signed_in,
            Err(failure) => {
                server.stop().await;
                return Err(failure);
            }
        };
        Ok(Running {
            access,
            token,
            device_id: self.device_id.clone(),
            devices_at: self.way.controller(server.coap_addr(), &self.device_id),
            server,
            agent: None,
            household: Vec::new(),
            modem: None,
        })
    }

    async fn start_agent(&self, running: &Running) -> Result<Agent, Failure> {
        let server = &running.server;
        let cmp = server.cmp_coaps_addr().ok_or_else(|| {
            Failure::Failed("the server does not listen for requests for certificates".to_owned())
        })?;
        let config = self.agent_config(server.coap_addr(), cmp, running.telemetry_at())?;
        let plain = Who::unnamed(&self.device_id);
        self.invite(&plain, &config, running).await?;
        let enrolled = Agent::start(config);
        match tokio::time::timeout(ENROL_TIME, enrolled).await {
            Ok(started) => started.map_err(|error| failed(&error)),
            Err(_) => Err(Failure::Failed(format!(
                "the agent got no certificate; {} says why",
                self.log_file().display()
            ))),
        }
    }

    /// Starts a second device beside the first: the same machine as a modem of the installed base, which speaks TR-069 with the server and
    /// knows nothing of USP.
    ///
    /// # Errors
    /// [`Failure::Failed`] when it does not start.
    pub async fn start_modem(&self, running: &mut Running) -> Result<(), Failure> {
        let acs = running.server.acs_addr().ok_or_else(|| {
            Failure::Failed("the server does not listen for devices that speak TR-069".to_owned())
        })?;
        let port = acs.port().to_string();
        write(&self.dir.join("acs-port"), &port, 0o644).map_err(|error| failed(&error))?;
        let config = self.modem_config(acs)?;
        let started = Agent::start(config).await;
        running.modem = Some(started.map_err(|error| failed(&error))?);
        Ok(())
    }

    /// The port of the last run, where it is free: a device keeps the login that it was given for as long as its ACS stays where it is.
    fn acs_port(&self, ip: IpAddr) -> u16 {
        let port = fs::read_to_string(self.dir.join("acs-port")).ok();
        let port = port.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        match TcpListener::bind((ip, port)) {
            Ok(_) => port,
            Err(_) => 0,
        }
    }

    /// Configuration of the modem, for an ACS at `acs`.
    ///
    /// # Errors
    /// [`Failure::Failed`] when it is wrong.
    pub fn modem_config(&self, acs: SocketAddr) -> Result<agent_config::Config, Failure> {
        let [oui, class, serial] = MODEM;
        let text = format!(
            "version = 1\nendpoint_id = \"os::{oui}-{serial}\"\ndata_dir = {data:?}\n\
             [cwmp]\nurl = \"http://{acs}/\"\nroot = \"InternetGatewayDevice\"\n\
             connection_request = \"{ip}:0\"\nperiodic = 60\n\
             [device]\noui = \"{oui}\"\nproduct_class = \"{class}\"\nserial_number = \"{serial}\"\n",
            data = self.dir.join("modem").display().to_string(),
            ip = acs.ip(),
        );
        let file = self.dir.join("modem.toml");
        write(&file, &text, 0o600).map_err(|error| failed(&error))?;
        let mut config =
            agent_config::Config::parse(&text, &file, |_| None).map_err(|error| failed(&error))?;
        // As of the first device.
        config.device.restart = agent_config::Restart::Agent;
        config.device.allow_network_changes = false;
        Ok(config)
    }

    /// A device that has no certificate yet gets a secret that is good once, as it would come with the device; the server knows it too.
    async fn invite(
        &self,
        who: &Who,
        config: &agent_config::Config,
        running: &Running,
    ) -> Result<(), Failure> {
        let known = homefleet_agent::enrol::look(config).map_err(|error| failed(&error))?;
        if known.is_some() {
            return Ok(());
        }
        let secret = random().map_err(|error| failed(&error))?;
        // One from a run that was cut short.
        if let Err(error) = running.access.remove_enrolment_secret(&who.id).await {
            tracing::debug!(%error, "no secret from before");
        }
        let new = NewEnrolmentSecret {
            reference: Some(who.id.clone()),
            secret: Some(secret.clone()),
            device: Some(who.id.clone()),
            profile: None,
            uses: Some(1),
            expires_in: None,
        };
        let added = running.access.add_enrolment_secret(new).await;
        added.map_err(|error| failed(&error))?;
        write(&self.secret_file(who), &secret, 0o600).map_err(|error| failed(&error))
    }

    /// The secret that a device comes with.
    fn secret_file(&self, who: &Who) -> PathBuf {
        self.dir.join(format!("{}.secret", who.name))
    }

    /// The token of the last run while it is good, a new one otherwise.
    async fn token(&self, server: &RunningServer) -> Result<(Access, String), Failure> {
        let file = self.dir.join("token");
        if let Ok(token) = fs::read_to_string(&file)
            && let Ok(access) = server.core().authenticate(token.trim()).await
        {
            return Ok((access, token.trim().to_owned()));
        }
        let created = server
            .create_token(NewToken {
                name: "demo".to_owned(),
                role: Role::Admin,
                expires_in: Some(TOKEN_LIFETIME),
            })
            .await
            .map_err(|error| failed(&error))?;
        write(&file, &created.secret, 0o600).map_err(|error| failed(&error))?;
        let access = server
            .core()
            .authenticate(&created.secret)
            .await
            .map_err(|error| failed(&error))?;
        Ok((access, created.secret))
    }
}

/// What the agent tells the server every second, over DTLS 1.3: counters of this very machine.
fn telemetry(to: SocketAddr) -> String {
    format!(
        "\n[[telemetry.receiver]]\nname = \"demo\"\naddress = \"{}\"\nport = {}\n\
         \n[[telemetry.subscription]]\nname = \"machine\"\nreceiver = \"demo\"\nperiod = 1.0\npaths = [\n  {}\n]\n",
        to.ip(),
        to.port(),
        TOLD.map(|path| format!("{path:?}")).join(",\n  ")
    )
}

/// Two servers on one store, or two agents with one identity, would get into each other's way.
fn lock(dir: &Path) -> Result<File, Failure> {
    let path = dir.join("lock");
    let file = File::create(&path)
        .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::Failed(format!(
            "another demo is running in {}; end it, or choose another directory with --dir",
            dir.display()
        ))),
        Err(TryLockError::Error(error)) => {
            Err(Failure::Failed(format!("{}: {error}", path.display())))
        }
    }
}

/// The device's Endpoint ID: that of the first time, else derived from this machine by the agent.
fn device_id(dir: &Path) -> Result<String, Failure> {
    let file = dir.join("device-id");
    if let Ok(id) = fs::read_to_string(&file)
        && !id.trim().is_empty()
    {
        return Ok(id.trim().to_owned());
    }
    let text = agent_config::template(&agent_config::Init {
        ca: Some(PathBuf::from("ca.pem")),
        certificate: Some(PathBuf::from("agent.pem")),
        key: Some(PathBuf::from("agent.key")),
        ..Default::default()
    });
    // The template's example of a controller has an address only when it is told one.
    let config = agent_config::Config::parse(&text, &dir.join("agent.toml"), |_| None)
        .map_err(|error| failed(&error))?;
    let id = config.endpoint_id.to_string();
    write(&file, &id, 0o644).map_err(|error| failed(&error))?;
    Ok(id)
}

/// A server, and an agent beside it.
pub struct Running {
    server: RunningServer,
    agent: Option<Agent>,
    household: Vec<Agent>,
    modem: Option<Agent>,
    access: Access,
    token: String,
    device_id: String,
    devices_at: String,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("url", &self.url()).finish()
    }
}

impl Running {
    /// Address of the console and the API.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.http_addr())
    }

    /// Where the agent reaches the server, over the MTP of the demo.
    pub fn devices_at(&self) -> &str {
        &self.devices_at
    }

    /// Where the server is told telemetry.
    pub fn telemetry_at(&self) -> Option<SocketAddr> {
        self.server.telemetry()?.secure_addr()
    }

    /// Where devices ask for certificates, over this scheme.
    pub fn cmp_url(&self, scheme: &str) -> Option<String> {
        let address = match scheme {
            "coap" => self.server.cmp_coap_addr(),
            "coaps" => self.server.cmp_coaps_addr(),
            "http" => self.server.cmp_http_addr(),
            "https" => self.server.cmp_https_addr(),
            _ => None,
        };
        address.map(|address| format!("{scheme}://{address}"))
    }

    /// A token that may do everything.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A link that signs its first user in.
    pub fn login_link(&self) -> String {
        self.server.login_link(&self.token)
    }

    /// Endpoint ID of the agent.
    pub fn device_id(&self) -> &str {
        &self.device_id
    }

    /// The second device, which speaks TR-069, as the server knows it.
    pub fn modem_id(&self) -> String {
        let [oui, class, serial] = MODEM;
        format!("cwmp:{oui}-{class}-{serial}")
    }

    /// Waits until the server has read the second device; whether it has.
    pub async fn modem_contact(&self, limit: Duration) -> bool {
        let id = self.modem_id();
        let known = async {
            while !matches!(self.access.device(&id).await, Ok(device) if device.parameter_count > 0)
            {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(limit, known).await.is_ok()
    }

    /// The core of the server, as seen by an administrator.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The device as soon as the server heard this run's agent and read its values; `None` when the
    /// time is over.
    pub async fn first_contact(&self, limit: Duration) -> Option<Device> {
        let since = self.access.info().started;
        let known = async {
            loop {
                if let Ok(device) = self.access.device(&self.device_id).await {
                    // Timestamps of one form compare as text.
                    if device.summary.last_contact >= since && device.parameter_count > 0 {
                        return device;
                    }
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(limit, known).await.ok()
    }

    /// Waits until the server is connected to its broker, if it has one: what an agent says before is said to nobody.
    async fn connected(&self, limit: Duration) {
        let connected = async {
            while let Ok(list) = self.access.mtps()
                && list
                    .mtps
                    .iter()
                    .flat_map(|mtp| &mtp.links)
                    .any(|link| !matches!(link.state, LinkState::Listening | LinkState::Up))
            {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        // The agent tries until it is heard.
        let _in_time = tokio::time::timeout(limit, connected).await;
    }

    /// Asks something of the device and waits for its answer.
    ///
    /// # Errors
    /// [`Failure::Failed`] when the server does not take the task.
    pub async fn ask(&self, operation: Operation, limit: Duration) -> Result<Task, Failure> {
        let task = NewTask {
            operation,
            expires_in: None,
        };
        let refused = |error: CoreError| failed(&error);
        let task = self
            .access
            .submit(&self.device_id, task)
            .await
            .map_err(refused)?;
        self.access
            .wait_task(&task.id, limit)
            .await
            .map_err(refused)
    }

    /// How many devices are behind this machine.
    pub fn household(&self) -> usize {
        self.household.len()
    }

    /// Stops the agents, then the server; neither are waited for longer than a second.
    pub async fn stop(self) {
        let agents = self.agent.into_iter().chain(self.household);
        let stops = agents.chain(self.modem);
        let stops: Vec<_> = stops.map(|agent| tokio::spawn(agent.stop())).collect();
        let stopped = async {
            for stop in stops {
                // One that does not stop in time is stopped by the end of the process.
                drop(stop.await);
            }
        };
        tokio::time::timeout(STOP_TIME, stopped)
            .await
            .unwrap_or_default();
        tokio::time::timeout(STOP_TIME, self.server.stop())
            .await
            .unwrap_or_default();
    }
}
