//! The agent without its sockets: Records in, Records out, time as an argument.
//!
//! Drive rule: call one of the `handle_…` methods, then drain [`Engine::poll_action`] to its end, then sleep
//! until [`Engine::poll_timeout`] and call [`Engine::handle_timeout`]. An action is only handed out after
//! everything it promises is on disk.
//!
//! ```text
//! Record ─ receive ─▶ request ─▶ tree + providers ─▶ response ┐
//!                                      │                       ├─▶ settle: notices, store ─▶ actions
//! timer, kernel, command done ─────────┴──▶ changes, events ───┘
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use homefleet_model::{
    path::{ObjectPath, Path},
    schema::SchemaError,
};
use homefleet_net::mtp::{ChannelId, Route};
use homefleet_trust::{Basis, StoredCertificate};
use homefleet_usp::{EndpointId, Record, record::RecordError};
use x509_cert::der::Decode as _;

use crate::{
    config::{ControllerConfig, Limits},
    controllers::{self, Controllers},
    cwmp::{AcsAction, CwmpConfig},
    device::Device,
    notify::{Notice, Outbox, Outgoing, Subscriptions},
    provider::{Now, Provider, Running, Wake},
    random::Random,
    request::{self, Fault},
    role::Rights,
    store::{Batch, Store, StoreError},
    stun::StunConfig,
    telemetry::{Receiver, factory::TelemetryConfig},
    transport::{Greetings, Plan},
};

mod boot;
mod certificates;
mod channels;
mod commands;
mod cwmp;
mod deliver;
mod duplicates;
mod factory;
mod limits;
mod links;
mod periodic;
mod receive;
mod settle;
mod stun;
mod telemetry;
mod trial;
mod trust;

pub(crate) use self::boot::json_object;
use self::{
    channels::Channels,
    commands::Request,
    cwmp::Cwmp,
    deliver::Held,
    duplicates::Duplicates,
    limits::NotificationLimits,
    periodic::Periodic,
    stun::Stun,
    telemetry::Telemetry,
    trial::{Asked, Trial},
};
pub use self::{
    links::{Link, Links},
    telemetry::Publishers,
};

/// How often providers read the system while something of theirs is subscribed to.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// What the engine is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The agent's Endpoint ID.
    pub endpoint_id: EndpointId,
    /// Accept Records that came over a NoSec MTP.
    pub allow_insecure: bool,
    /// The controller of the factory configuration.
    pub controller: Option<ControllerConfig>,
    /// Bounds of everything that grows.
    pub limits: Limits,
    /// Where the configuration file has the agent listen.
    pub mtps: Vec<OwnMtp>,
    /// The trusted CAs, for `Device.LocalAgent.Certificate.`.
    pub certificates: Vec<CertificateInfo>,
    /// The Trusted Brokers of the configuration file, likewise (R-SEC.4a).
    pub brokers: Vec<CertificateInfo>,
    /// How long after the start no Controller is contacted unless [`Engine::handle_clock`] tells that the time is
    /// accurate (R-SEC.19); zero: not at all.
    pub wait_for_time: Duration,
    /// Whether `Device.Reboot()` and `Device.FactoryReset()` do anything (`device.restart` is not `nothing`).
    pub restarts: bool,
    /// `TOFUAllowed` and `TOFUInactivityTimer` in seconds, when the configuration file says so.
    pub first_use: Option<(bool, u32)>,
    /// How long a change that cuts the way it came by has until its Controller is heard again; zero: it just stays.
    pub rollback_after: Duration,
    /// Receivers and subscriptions of telemetry that the configuration file has.
    pub telemetry: TelemetryConfig,
    /// Whom the MTPs greet when a channel comes up; shared with them.
    pub greetings: Arc<Greetings>,
    /// The ACS of the configuration file, and what the device does for it.
    pub cwmp: CwmpConfig,
    /// How it is reached behind address translation.
    pub stun: StunConfig,
}

/// An MTP of the configuration file, which becomes a row of `Device.LocalAgent.MTP.`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnMtp {
    /// CoAP.
    Coap {
        /// UDP port.
        port: u16,
        /// Uri-Path.
        path: String,
        /// DTLS.
        encrypted: bool,
    },
    /// WebSocket, as server.
    WebSocket {
        /// TCP port.
        port: u16,
        /// Path of the resource.
        path: String,
        /// TLS.
        encrypted: bool,
    },
    /// UNIX domain socket.
    Uds {
        /// The socket's path.
        path: String,
        /// The agent listens; else it connects.
        listens: bool,
    },
}

/// A certificate as the data model shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Distinguished name of the issuer.
    pub issuer: String,
    /// SHA-256 of the DER encoding.
    pub sha256: [u8; 32],
    /// The DER encoding.
    pub der: Vec<u8>,
}

impl CertificateInfo {
    /// Reads a DER encoding; `None` when it is no certificate.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let anchor = homefleet_trust::Anchor::from_der(der).ok()?;
        let certificate = x509_cert::Certificate::from_der(der).ok()?;
        let body = certificate.tbs_certificate();
        let serial = body.serial_number().as_bytes().iter();
        let mut issuer = body.issuer().to_string();
        // The data model has room for 256 characters.
        issuer.truncate(issuer.floor_char_boundary(256));
        Some(Self {
            serial: serial.map(|byte| format!("{byte:02X}")).collect(),
            issuer,
            sha256: anchor.fingerprint(),
            der: der.to_vec(),
        })
    }
}

/// A Record that came in.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// The Record.
    pub record: Record,
    /// Where from.
    pub source: Source,
}

/// Where a Record, or what was to be one, came from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Who sent it: the MTP is encrypted, and the peer's certificate holds the Record's `from_id` (R-SEC.0a) or is a Trusted
    /// Broker's. Absent: it came unencrypted, or from a broker that nobody trusts.
    pub peer: Option<Peer>,
    /// The channel it came over; CoAP has none.
    pub channel: Option<ChannelId>,
    /// Where answers go: by the MTP of the request.
    pub reply_to: Option<Route>,
}

/// The certificate by which the sender of a Record was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What it was accepted for.
    pub basis: Basis,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// SHA-256 of the trusted CA that its path ended in, which is the first of the chain that is trusted (R-SEC.25).
    pub anchor: Option<[u8; 32]>,
    /// The certificate, DER, when it is kept for its Endpoint should this be the first use.
    pub certificate: Option<Vec<u8>>,
}

impl Peer {
    /// What decides about the roles of those it vouches for: the CA, or the Trusted Broker itself.
    fn authority(&self) -> Option<[u8; 32]> {
        match self.basis {
            Basis::TrustedBroker => Some(self.fingerprint),
            _ => self.anchor,
        }
    }
}

/// Whom the agent accepts as a peer, as the data model says it now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trusted {
    /// CAs that may vouch for Controllers, DER.
    pub anchors: Vec<Vec<u8>>,
    /// Trusted Brokers, DER (R-SEC.4a).
    pub brokers: Vec<Vec<u8>>,
    /// Certificates of Controllers, each accepted for its Endpoint ID (R-SEC.8).
    pub stored: Vec<StoredCertificate>,
    /// Endpoint IDs of the Controller table: none of these comes for the first time.
    pub known: Vec<String>,
    /// Others may come with a certificate that nobody vouches for (`TOFUAllowed`).
    pub first_use: bool,
    /// How long such a session may be without a Message (`TOFUInactivityTimer`); zero: as long as any other.
    pub first_use_idle: Duration,
}

/// What the engine wants done.
pub enum Action {
    /// Send a Record.
    Transmit(Transmit),
    /// Run a command; tell its result to [`Engine::handle_completed`].
    Spawn {
        /// Row of the Request table.
        request: ObjectPath,
        /// The command.
        running: Running,
    },
    /// Stop a command: its result is not wanted any more.
    Abort(ObjectPath),
    /// From now on these are accepted as peers.
    Trust(Trusted),
    /// From now on the MTPs do this. What was to be transmitted before goes out over the old channels first; then
    /// [`Engine::handle_applied`] is told.
    Plan(Plan),
    /// From now on these are the receivers of telemetry, by row of the data model.
    Telemetry(Vec<(String, Receiver)>),
    /// Publish a message of telemetry.
    Publish {
        /// Row of the receiver.
        receiver: String,
        /// The notification, encoded.
        message: Vec<u8>,
    },
    /// The connection of this name is made anew, when what was to be transmitted before is out.
    Reconnect(String),
    /// Something for the way to the ACS.
    Acs(AcsAction),
    /// From now on UDP Connection Requests are listened for here, and STUN is used so; what happens is told to [`Engine::handle_stun`].
    Stun {
        /// The address to listen on.
        listen: SocketAddr,
        /// STUN, and who may call.
        config: homefleet_net::stun::DeviceConfig,
        /// The last request that was taken.
        last: homefleet_tr111::connection_request::Last,
    },
}

impl std::fmt::Debug for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Transmit(transmit) => transmit.fmt(f),
            Self::Spawn { request, .. } => write!(f, "Spawn({request})"),
            Self::Abort(request) => write!(f, "Abort({request})"),
            Self::Trust(trusted) => trusted.fmt(f),
            Self::Plan(plan) => plan.fmt(f),
            Self::Telemetry(receivers) => write!(f, "Telemetry({receivers:?})"),
            Self::Publish { receiver, message } => {
                write!(f, "Publish({receiver}, {} bytes)", message.len())
            }
            Self::Reconnect(name) => write!(f, "Reconnect({name})"),
            Self::Acs(action) => action.fmt(f),
            Self::Stun { listen, config, .. } => write!(f, "Stun({listen}, {config:?})"),
        }
    }
}

/// A Record to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Which way it goes.
    pub route: Route,
    /// Who must be there.
    pub endpoint_id: EndpointId,
    /// The encoded Record.
    pub record: Vec<u8>,
    /// It is a notification: whether it could be delivered is told to [`Engine::handle_delivery`].
    pub notification: Option<Notified>,
}

/// What is known about a notification on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notified {
    outgoing: Outgoing,
    /// Ways by which it could not be delivered.
    tried: Vec<Route>,
}

impl Notified {
    /// Row of the controller.
    pub fn controller(&self) -> &ObjectPath {
        &self.outgoing.controller
    }
}

/// Counters: one for each thing that can happen to a Record, and to what is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Stats {
    pub records: u64,
    pub records_ignored: u64,
    pub records_refused: u64,
    pub requests: u64,
    pub duplicates: u64,
    pub errors_sent: u64,
    pub permission_denied: u64,
    pub controllers_forgotten: u64,
    pub notifications: u64,
    pub retries: u64,
    pub notifications_dropped: u64,
    pub deliveries_failed: u64,
    pub detours: u64,
    pub channels_up: u64,
    pub channels_down: u64,
    pub connects_sent: u64,
    pub disconnects_sent: u64,
    pub disconnects: u64,
    pub trials: u64,
    pub rollbacks: u64,
    pub store_failures: u64,
}

/// The engine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The data-model tables contradict each other.
    #[error("data-model tables: {0}")]
    Schema(#[from] SchemaError),
    /// The state cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The agent without its sockets.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    device: Device,
    store: Store,
    controllers: Controllers,
    subscriptions: Subscriptions,
    /// References that need the providers to look every second.
    watched: Vec<Path>,
    outbox: Outbox,
    periodic: Periodic,
    limits: NotificationLimits,
    duplicates: Duplicates,
    requests: BTreeMap<ObjectPath, Request>,
    /// What is behind `Device.LocalAgent.Certificate.`.
    certificates: BTreeMap<ObjectPath, CertificateInfo>,
    /// The CAs of the configuration file, in that table.
    file_cas: Vec<ObjectPath>,
    /// The Trusted Brokers of the configuration file, in that table.
    file_brokers: Vec<ObjectPath>,
    /// Controllers that entered the table by coming, and when they were last heard.
    met: BTreeMap<ObjectPath, Instant>,
    /// Controllers that a CA vouched for when they last asked something, and which.
    vouched: BTreeMap<ObjectPath, [u8; 32]>,
    trusted: Trusted,
    /// The tables that say whom to trust have changed.
    trust_changed: bool,
    /// Failures of late, by Controller and row of its MTP table.
    reach: BTreeMap<(ObjectPath, ObjectPath), Reach>,
    channels: Channels,
    links: Option<Box<dyn Links>>,
    /// What the data model wants of the MTPs, and what they were told.
    plan: Plan,
    published: Plan,
    /// They were told something at all.
    has_published: bool,
    plan_changed: bool,
    /// Connections that are to be made anew.
    reconnects: BTreeSet<String>,
    /// Who asked for what is being settled, when it may cut its way.
    asked: Option<Asked>,
    trial: Option<Trial>,
    telemetry: Telemetry,
    cwmp: Cwmp,
    stun: Stun,
    random: Random,
    started: Instant,
    /// Until then nothing is sent that nobody asked for, because accurate time may still come (R-SEC.19).
    silent_until: Option<Instant>,
    /// What was not sent for this reason and is not repeated by itself.
    held: Vec<Held>,
    next_poll: Option<Instant>,
    /// What the next settling writes.
    batch: Batch,
    notices: Vec<Notice>,
    revision: u64,
    /// A factory reset wiped the state: nothing is stored any more.
    wiped: bool,
    actions: VecDeque<Action>,
    stats: Stats,
}

/// Whether a controller could be reached lately by one way.
#[derive(Clone, Copy, Debug, Default)]
struct Reach {
    failures: u32,
    until: Option<Instant>,
}

impl Engine {
    /// Opens the state, enters the factory configuration, and prepares what a start means: OnBoardRequests,
    /// `Boot!`, and the notifications that were not answered before.
    ///
    /// # Errors
    ///
    /// When the tables contradict each other or the state cannot be read or written.
    pub fn new(
        settings: Settings,
        providers: Vec<Box<dyn Provider>>,
        store: Store,
        now: Now,
        seed: [u8; 32],
    ) -> Result<Self, EngineError> {
        let mut store = store;
        cwmp::finish_reset(&mut store)?;
        let device = Device::new(providers, store.tree())?;
        let mut random = Random::new(seed);
        let kept = store.fact(boot::fact::CWMP)?;
        let cwmp = Cwmp::new(now, &settings.cwmp, kept.as_deref(), &mut random);
        let mut engine = Self {
            outbox: Outbox::new(settings.limits.max_pending, random.next_u64()),
            settings,
            device,
            store,
            controllers: Controllers::new(),
            subscriptions: Subscriptions::default(),
            watched: Vec::new(),
            periodic: Periodic::default(),
            limits: NotificationLimits::default(),
            duplicates: Duplicates::default(),
            requests: BTreeMap::new(),
            certificates: BTreeMap::new(),
            file_cas: Vec::new(),
            file_brokers: Vec::new(),
            met: BTreeMap::new(),
            vouched: BTreeMap::new(),
            trusted: Trusted::default(),
            trust_changed: true,
            reach: BTreeMap::new(),
            channels: Channels::default(),
            links: None,
            plan: Plan::default(),
            published: Plan::default(),
            has_published: false,
            plan_changed: true,
            reconnects: BTreeSet::new(),
            asked: None,
            trial: None,
            telemetry: Telemetry::default(),
            cwmp,
            stun: Stun::default(),
            random,
            started: now.instant,
            silent_until: None,
            held: Vec::new(),
            next_poll: None,
            batch: Batch::default(),
            notices: Vec::new(),
            revision: 0,
            wiped: false,
            actions: VecDeque::new(),
            stats: Stats::default(),
        };
        let wait = engine.settings.wait_for_time;
        engine.silent_until = (wait > Duration::ZERO).then(|| now.instant + wait);
        engine.boot(now)?;
        Ok(engine)
    }

    /// Gives the providers the means to tell that something changed; inside a tokio runtime.
    pub fn watch(&mut self, wake: &Wake) {
        self.device.watch(wake);
    }

    /// A Record came in.
    pub fn handle_record(&mut self, now: Now, inbound: Inbound) {
        self.stats.records += 1;
        let response = self.receive(now, inbound);
        self.settle(now, response);
    }

    /// A provider has heard that something changed.
    pub fn handle_wake(&mut self, now: Now) {
        self.poll_providers(now);
        self.settle(now, None);
    }

    /// A command of [`Action::Spawn`] is done.
    pub fn handle_completed(
        &mut self,
        now: Now,
        request: &ObjectPath,
        result: Result<BTreeMap<String, String>, crate::provider::OperateError>,
    ) {
        if *request == crate::cwmp::diagnostics::object() {
            self.diagnosed(result);
        } else {
            self.complete(request, result);
        }
        self.settle(now, None);
    }

    /// Something came in that is no Record.
    pub fn handle_erroneous(&mut self, now: Now, error: &RecordError, source: Source) {
        self.stats.records += 1;
        let response = self.erroneous(error, source);
        self.settle(now, response);
    }

    /// Whether the time is accurate, at the start and whenever it changes.
    pub fn handle_clock(&mut self, now: Now, accurate: bool) {
        if accurate && self.silent_until.is_some() {
            self.end_silence(now);
            self.handle_timeout(now);
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.silent_until.is_some_and(|at| at <= now.instant) {
            // R-SEC.19: unable to obtain absolute time; dates in certificates are ignored.
            tracing::warn!("no accurate time: controllers are contacted without");
            self.end_silence(now);
        }
        if self.next_poll.is_some_and(|at| at <= now.instant) {
            self.poll_providers(now);
        }
        self.end_subscriptions(now);
        self.run_periodic(now);
        self.run_telemetry(now);
        self.give_up(now);
        self.end_trial(now);
        self.run_cwmp_timers(now);
        self.settle(now, None);
        self.run_outbox(now);
        self.write_batch();
    }

    /// Sends again what is due.
    fn run_outbox(&mut self, now: Now) {
        if self.silent_until.is_none() {
            let tree = &self.device.tree;
            let mut known = BTreeMap::new();
            let told = |controller: &ObjectPath| {
                *known
                    .entry(controller.clone())
                    .or_insert_with_key(|controller| !Rights::of(tree, controller).is_empty())
            };
            let due = self.outbox.due(
                now,
                &self.controllers,
                told,
                &mut self.random,
                &mut self.batch,
            );
            self.stats.retries += due.len() as u64;
            for outgoing in due {
                self.transmit(now, outgoing, true);
            }
        }
    }

    /// Sends what was held back.
    fn end_silence(&mut self, now: Now) {
        self.silent_until = None;
        self.outbox.start_again(now);
        self.plan_changed = true;
        self.reload_telemetry(now);
        self.release(now);
    }

    /// What to do next; `None`: nothing until the next `handle_…`.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [
            self.next_poll,
            match self.silent_until {
                Some(at) => Some(at),
                None => self.outbox.timeout(),
            },
            self.periodic.timeout(),
            self.telemetry.timeout(),
            self.periodic.end_of_life(),
            self.held_until(),
            self.trial_until(),
            self.cwmp_timeout(),
            self.limits.timeout(self.started),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The device and its tree.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The values that `path` names, by parameter path (`homefleet-agent show`).
    ///
    /// # Errors
    ///
    /// What a Get of the path would be answered.
    pub fn show(&mut self, path: &str, now: Now) -> Result<BTreeMap<String, String>, Fault> {
        self.refresh_own(now);
        request::show(&mut self.device, path, now)
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        Stats {
            notifications_dropped: self.stats.notifications_dropped + self.outbox.dropped,
            ..self.stats
        }
    }

    /// Notifications that wait for their answer.
    pub fn pending(&self) -> usize {
        self.outbox.len()
    }

    /// Lets the providers behind subscriptions look, all in one round.
    fn poll_providers(&mut self, now: Now) {
        let watched = std::mem::take(&mut self.watched);
        self.device.refresh_any(&watched, now);
        self.watched = watched;
        self.next_poll = (!self.watched.is_empty()).then(|| now.instant + POLL_INTERVAL);
    }

    /// Puts the values that the core itself knows into the tree.
    fn refresh_own(&mut self, now: Now) {
        let uptime = now
            .instant
            .saturating_duration_since(self.started)
            .as_secs();
        self.put("Device.LocalAgent.UpTime", &uptime.to_string());
        self.refresh_links(now);
        self.refresh_telemetry();
    }

    /// Writes a value of the core's own; a refusal is a mistake in this program.
    fn put(&mut self, path: &str, value: &str) {
        if let Err(error) = self.device.tree.set_text(path, value) {
            tracing::error!(path, value, %error, "the tree refused a value of the core");
        }
    }

    fn reload_controllers(&mut self) {
        let before = std::mem::replace(&mut self.controllers, controllers::read(&self.device.tree));
        self.forget_ways(&before);
    }
}
