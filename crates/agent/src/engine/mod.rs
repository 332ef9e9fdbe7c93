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
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use homefleet_model::{
    path::{ObjectPath, Path},
    schema::SchemaError,
};
use homefleet_trust::{Basis, StoredCertificate};
use homefleet_usp::{EndpointId, Record};
use x509_cert::der::Decode as _;

use crate::{
    config::{ControllerConfig, Limits},
    controllers::{self, Controllers},
    device::Device,
    notify::{Notice, Outbox, Outgoing, Subscriptions},
    provider::{Now, Provider, Running, Wake},
    random::Random,
    request::{self, Fault},
    role::Rights,
    store::{Batch, Store, StoreError},
};

mod boot;
mod certificates;
mod commands;
mod duplicates;
mod periodic;
mod receive;
mod settle;
mod trust;

pub(crate) use self::boot::json_object;
use self::{commands::Request, duplicates::Duplicates, periodic::Periodic};

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
    /// Port and path of the agent's own CoAP MTP, and whether it is encrypted.
    pub mtp: Option<OwnMtp>,
    /// The trusted CAs, for `Device.LocalAgent.Certificate.`.
    pub certificates: Vec<CertificateInfo>,
    /// How long after the start no Controller is contacted unless [`Engine::handle_clock`] tells that the time is
    /// accurate (R-SEC.19); zero: not at all.
    pub wait_for_time: Duration,
    /// Whether `Device.Reboot()` and `Device.FactoryReset()` do anything (`device.restart` is not `nothing`).
    pub restarts: bool,
    /// `TOFUAllowed` and `TOFUInactivityTimer` in seconds, when the configuration file says so.
    pub first_use: Option<(bool, u32)>,
}

/// The agent's own CoAP MTP (`Device.LocalAgent.MTP.1.`).
#[derive(Clone, Debug)]
pub struct OwnMtp {
    /// UDP port.
    pub port: u16,
    /// Uri-Path.
    pub path: String,
    /// DTLS.
    pub encrypted: bool,
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
    /// Who sent it: the MTP is encrypted, and the peer's certificate holds the Record's `from_id` (R-SEC.0a).
    /// Absent: it came unencrypted.
    pub peer: Option<Peer>,
    /// URI to which answers go (R-COAP.2a).
    pub reply_to: String,
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

/// Whom the agent accepts as a peer, as the data model says it now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trusted {
    /// CAs that may vouch for Controllers, DER.
    pub anchors: Vec<Vec<u8>>,
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
}

impl std::fmt::Debug for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Transmit(transmit) => transmit.fmt(f),
            Self::Spawn { request, .. } => write!(f, "Spawn({request})"),
            Self::Abort(request) => write!(f, "Abort({request})"),
            Self::Trust(trusted) => trusted.fmt(f),
        }
    }
}

/// A Record to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where it goes.
    pub uri: String,
    /// Who must be there.
    pub endpoint_id: String,
    /// The encoded Record.
    pub record: Vec<u8>,
    /// Row of the controller, when it is a notification: whether it could be delivered is told to
    /// [`Engine::handle_delivery`].
    pub controller: Option<ObjectPath>,
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
    duplicates: Duplicates,
    requests: BTreeMap<ObjectPath, Request>,
    /// What is behind `Device.LocalAgent.Certificate.`.
    certificates: BTreeMap<ObjectPath, CertificateInfo>,
    /// The CAs of the configuration file, in that table.
    file_cas: Vec<ObjectPath>,
    /// Controllers that entered the table by coming, and when they were last heard.
    met: BTreeMap<ObjectPath, Instant>,
    /// Controllers that a CA vouched for when they last asked something, and which.
    vouched: BTreeMap<ObjectPath, [u8; 32]>,
    trusted: Trusted,
    /// The tables that say whom to trust have changed.
    trust_changed: bool,
    reach: BTreeMap<ObjectPath, Reach>,
    random: Random,
    started: Instant,
    /// Until then nothing is sent that nobody asked for, because accurate time may still come (R-SEC.19).
    silent_until: Option<Instant>,
    /// What was not sent for this reason and is not repeated by itself.
    held: Vec<Outgoing>,
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

/// Whether a controller could be reached lately.
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
        let device = Device::new(providers, store.tree())?;
        let mut random = Random::new(seed);
        let mut engine = Self {
            outbox: Outbox::new(settings.limits.max_pending, random.next_u64()),
            settings,
            device,
            store,
            controllers: Controllers::new(),
            subscriptions: Subscriptions::default(),
            watched: Vec::new(),
            periodic: Periodic::default(),
            duplicates: Duplicates::default(),
            requests: BTreeMap::new(),
            certificates: BTreeMap::new(),
            file_cas: Vec::new(),
            met: BTreeMap::new(),
            vouched: BTreeMap::new(),
            trusted: Trusted::default(),
            trust_changed: true,
            reach: BTreeMap::new(),
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
        self.complete(request, result);
        self.settle(now, None);
    }

    /// A notification of [`Action::Transmit`] was delivered to the controller's MTP, or not.
    pub fn handle_delivery(&mut self, now: Now, controller: &ObjectPath, delivered: bool) {
        let reach = self.reach.entry(controller.clone()).or_default();
        if delivered {
            *reach = Reach::default();
            return;
        }
        self.stats.deliveries_failed += 1;
        reach.failures = reach.failures.saturating_add(1);
        let policy = self
            .controllers
            .get(controller)
            .map(|known| known.retry)
            .unwrap_or_default();
        reach.until = Some(now.instant + policy.wait(reach.failures, self.random.next_u32()));
        if reach.failures == 1 {
            tracing::warn!(%controller, "controller unreachable");
        }
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
        self.settle(now, None);
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
                self.transmit(outgoing);
            }
        }
        self.write_batch();
    }

    /// Sends what was held back.
    fn end_silence(&mut self, now: Now) {
        self.silent_until = None;
        self.outbox.start_again(now);
        for outgoing in std::mem::take(&mut self.held) {
            self.transmit(outgoing);
        }
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
            self.periodic.end_of_life(),
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
    }

    /// Writes a value of the core's own; a refusal is a mistake in this program.
    fn put(&mut self, path: &str, value: &str) {
        if let Err(error) = self.device.tree.set_text(path, value) {
            tracing::error!(path, value, %error, "the tree refused a value of the core");
        }
    }

    fn reload_controllers(&mut self) {
        self.controllers = controllers::read(&self.device.tree);
    }

    fn transmit(&mut self, outgoing: Outgoing) {
        let to: Result<EndpointId, _> = outgoing.endpoint_id.parse();
        let Ok(to) = to else {
            tracing::warn!(
                endpoint_id = outgoing.endpoint_id,
                "not an Endpoint ID: nothing is sent to it"
            );
            return;
        };
        if outgoing.uri.starts_with("coap:") && !self.settings.allow_insecure {
            tracing::warn!(
                uri = outgoing.uri,
                "not encrypted, and allow_insecure is not set: nothing is sent there"
            );
            self.stats.notifications_dropped += 1;
            return;
        }
        self.stats.notifications += 1;
        let record = Record::no_session(to, self.settings.endpoint_id.clone(), outgoing.message);
        self.actions.push_back(Action::Transmit(Transmit {
            uri: outgoing.uri,
            endpoint_id: outgoing.endpoint_id,
            record: record.encode(),
            controller: Some(outgoing.controller),
        }));
    }
}
