//! The engine with its sockets and its clock.
//!
//! The engine lives in a thread of its own, because reading the system and writing to disk block. Records,
//! results of commands and news from the kernel reach it through one bounded queue; what it wants sent goes
//! to one task for each destination, which keeps the order.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use homefleet_model::path::ObjectPath;
use homefleet_net::{
    mtp::{self, NetStats, Origin, Route, proves},
    stun::DeviceEvent,
    tls::Tls,
};
use homefleet_usp::EndpointId;
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    association::Shared,
    config::{Config, Restart, TimeSource},
    cwmp::{AcsAction, AcsEvent},
    engine::{
        Action, CertificateInfo, Engine, EngineError, Inbound, OwnMtp, Peer, Settings, Source,
        Stats, Transmit,
    },
    enrol::{self, EnrolError, Enrolment},
    provider::{self, Now, OperateError, Own, Provider, Wake, time::Clock},
    store::{Store, StoreError},
    transport::{Greetings, Plan},
};

mod cwmp;
mod network;
mod revocation;
mod sender;
mod spec;
mod stun;
mod telemetry;
mod trust;

pub use self::trust::{Trust, TrustError, load_trust};

use self::{
    cwmp::Acs,
    network::{Network, is_affected},
    revocation::Evidence,
    sender::Senders,
    stun::Stun,
    telemetry::Telemetry,
    trust::ControllerVerifier,
};

/// Events that wait for the engine.
const QUEUE: usize = 256;

/// What happened on the MTPs and waits to be taken; beyond, CoAP peers get 5.03 and come again, the others wait.
const EVENTS: usize = 4096;

/// Plans that wait for the MTPs.
const PLANS: usize = 16;

/// How long what is to be sent before the MTPs change may take.
const FLUSH: Duration = Duration::from_secs(3);

/// News from the kernel come in bursts: this long is waited for the rest.
const GATHER: Duration = Duration::from_millis(20);

/// How often it is looked whether the clock has become right, and whether it still is.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(1);
const LOOK_AT_ACCURATE_CLOCK: Duration = Duration::from_secs(30);

/// Longer than any session lasts.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

/// How often the counters are logged.
const REPORT_EVERY: Duration = Duration::from_secs(3600);

/// The agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A certificate or key file cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The agent cannot ask for its certificate.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address of the configuration.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The state cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine refuses.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The system has no random numbers or no threads.
    #[error("{0}")]
    System(String),
}

/// Makes the providers; called again when the agent alone restarts.
pub type Providers = Box<dyn Fn(provider::reboot::Restart) -> Vec<Box<dyn Provider>> + Send>;

/// A running agent. Dropped without [`stop`](Self::stop), it ends without telling its peers.
#[derive(Debug)]
pub struct Agent {
    endpoint_id: EndpointId,
    network: Network,
    telemetry: Telemetry,
    acs: Acs,
    evidence: Option<Arc<Evidence>>,
    events: mpsc::Sender<Event>,
    thread: Option<std::thread::JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
    /// It is stopped in order: peers are told.
    orderly: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Something for the MTPs.
enum Order {
    Plan(Box<Plan>),
    Reconnect(String),
}

/// Something for the engine.
enum Event {
    Mtp(mtp::Event),
    Delivery {
        transmit: Box<Transmit>,
        delivered: bool,
    },
    /// The MTPs have followed a plan.
    Applied,
    /// A connection was made anew.
    Reconnected,
    Completed {
        request: ObjectPath,
        result: Result<BTreeMap<String, String>, OperateError>,
    },
    Wake,
    /// Where UDP Connection Requests are listened for.
    Stun(DeviceEvent),
    Clock {
        accurate: bool,
    },
    /// These CAs are trusted from now on, besides those that controllers added.
    Anchors(Vec<CertificateInfo>),
    /// Something happened between device and ACS.
    Acs(AcsEvent),
    /// A request of the device's own to the ACS.
    AskAcs(Box<homefleet_cwmp::Message>),
    Stats(oneshot::Sender<Stats>),
    Restart,
    Stop,
}

impl Agent {
    /// Starts an agent with the providers of this Linux machine.
    ///
    /// # Errors
    ///
    /// A [`StartError`] that says what is missing.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let clock = clock(&config);
        Self::start_with_clock(config, clock).await
    }

    /// Starts an agent with the providers of this Linux machine and somebody else who says whether its clock is right.
    ///
    /// # Errors
    ///
    /// A [`StartError`] that says what is missing.
    pub async fn start_with_clock(config: Config, clock: Clock) -> Result<Self, StartError> {
        let own = Own::default();
        let options = provider::Options {
            clock: clock.clone(),
            own: own.clone(),
            ..provider_options(&config)
        };
        let providers = move |restart| {
            provider::all(&provider::Options {
                restart,
                ..options.clone()
            })
        };
        Self::start_all(config, Box::new(providers), clock, own).await
    }

    /// Starts an agent with other providers.
    ///
    /// # Errors
    ///
    /// A [`StartError`] that says what is missing.
    pub async fn start_with(config: Config, providers: Providers) -> Result<Self, StartError> {
        let clock = clock(&config);
        Self::start_all(config, providers, clock, Own::default()).await
    }

    async fn start_all(
        config: Config,
        providers: Providers,
        clock: Clock,
        own: Own,
    ) -> Result<Self, StartError> {
        let enrolment = Enrolment::open(&config, &clock)?.map(Arc::new);
        let identity = match &enrolment {
            // Before anything connects, however long it takes.
            Some(enrolment) => Some(enrolment.ensure().await?),
            None => None,
        };
        let trust = load_trust(&config, identity.as_ref())?;
        own.set(trust.chain.first());
        let verifier = Arc::new(ControllerVerifier::new(&trust, clock.clone()));
        let evidence = Evidence::start(&config.trust, &trust.anchors, &clock)?.map(Arc::new);
        if let Some(evidence) = &evidence {
            evidence.serve(&verifier);
        }
        let (events, queue) = mpsc::channel(QUEUE);
        let (happening, happened) = mpsc::channel(EVENTS);
        let greetings = Arc::new(Greetings::default());
        let network = Network::start(
            &config,
            &trust,
            verifier.clone(),
            happening,
            greetings.clone(),
        )
        .await?;
        if let Some(evidence) = &evidence {
            evidence.judge(&network);
        }
        let local = network.coap().map(|coap| coap.local_addr());
        let mut settings = settings(
            &config,
            &trust,
            local.map_or(config.listen.port(), |local| local.port()),
        );
        settings.greetings = greetings;
        if !clock.can_change() {
            settings.wait_for_time = Duration::ZERO;
        }
        let (plans, planned) = mpsc::channel(PLANS);
        // Before the engine asks for itself, so that no change is missed.
        let accurate = clock.is_accurate();
        let kernel = Arc::new(Notify::new());
        let stopping = Arc::new(AtomicBool::new(false));
        let orderly = Arc::new(AtomicBool::new(false));
        let telemetry = Telemetry::new(trust.credentials.clone(), verifier.clone());
        let acs = Acs::start(
            &config,
            &trust.credentials,
            verifier.clone(),
            events.clone(),
        );
        let acs = match acs.await {
            Ok(acs) => acs,
            Err(error) => {
                network.shutdown().await;
                return Err(error);
            }
        };
        let host = Host {
            settings,
            data_dir: config.data_dir.clone(),
            restart: config.device.restart,
            providers,
            handle: Handle::current(),
            events: events.clone(),
            kernel: kernel.clone(),
            clock: clock.clone(),
            verifier: verifier.clone(),
            network: network.clone(),
            telemetry: telemetry.clone(),
            stun: Stun::default(),
            acs: acs.sender(),
            senders: Senders::new(network.clone(), events.clone()),
            plan: Plan::default(),
            plans,
            orders: Vec::new(),
            commands: BTreeMap::new(),
            stopping: stopping.clone(),
            orderly: orderly.clone(),
        };
        let (ready, started) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("agent-engine".into())
            .spawn(move || host.run(queue, ready))
            .map_err(|error| StartError::System(format!("no thread for the engine: {error}")))?;
        match started.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                network.shutdown().await;
                return Err(error);
            }
            Err(_) => {
                return Err(StartError::System(
                    "the engine ended while it started".into(),
                ));
            }
        }
        let mut tasks = vec![
            tokio::spawn(follow_plans(planned, network.clone(), events.clone())),
            tokio::spawn(forward(happened, events.clone())),
            tokio::spawn(forward_wakes(kernel, events.clone())),
            tokio::spawn(watch_clock(
                clock,
                accurate,
                network.clone(),
                events.clone(),
            )),
        ];
        if let Some(evidence) = &evidence {
            tasks.push(tokio::spawn(revocation::watch(evidence.clone())));
        }
        if let Some(enrolment) = enrolment {
            let apply = || {
                take_over(
                    config.clone(),
                    network.clone(),
                    telemetry.clone(),
                    acs.tls(),
                    own.clone(),
                    evidence.clone(),
                    events.clone(),
                )
            };
            let known = evidence.clone();
            let take: enrol::TakeLists = Box::new(move |lists| {
                let known = known.clone();
                Box::pin(async move {
                    if let Some(known) = known {
                        known.take_lists(lists).await;
                    }
                })
            });
            tasks.push(tokio::spawn(enrolment.clone().follow(apply(), take)));
            tasks.push(tokio::spawn(enrolment.keep_fresh(apply())));
        }
        Ok(Self {
            endpoint_id: config.endpoint_id,
            network,
            telemetry,
            acs,
            evidence,
            events,
            thread: Some(thread),
            stopping,
            orderly,
            tasks,
        })
    }

    /// The agent's Endpoint ID.
    pub fn endpoint_id(&self) -> &EndpointId {
        &self.endpoint_id
    }

    /// The address of its `coaps` socket; unspecified when there is none.
    pub fn local_addr(&self) -> SocketAddr {
        let coap = self.network.coap();
        coap.map_or_else(
            || SocketAddr::from(([0, 0, 0, 0], 0)),
            |coap| coap.local_addr(),
        )
    }

    /// The address of its `coap` socket.
    pub fn plain_addr(&self) -> Option<SocketAddr> {
        self.network.coap()?.plain_addr()
    }

    /// Where calls of an ACS are taken.
    pub fn call_addr(&self) -> Option<SocketAddr> {
        self.acs.listening()
    }

    /// Sends a request of the device's own to the ACS: RequestDownload, Kicked, AutonomousTransferComplete, GetRPCMethods. What cannot
    /// be sent is logged.
    pub async fn ask_acs(&self, message: impl Into<homefleet_cwmp::Message>) {
        let message = Box::new(message.into());
        // The engine has ended: there is nobody to ask for.
        self.events.send(Event::AskAcs(message)).await.ok();
    }

    /// The counters of the engine; `None` when it has ended.
    pub async fn stats(&self) -> Option<Stats> {
        let (answer, stats) = oneshot::channel();
        self.events.send(Event::Stats(answer)).await.ok()?;
        stats.await.ok()
    }

    /// The counters of CoAP.
    pub fn net_stats(&self) -> NetStats {
        self.network.stats()
    }

    /// Reads the revocation lists of the configuration again that have changed, which happens once a minute anyway.
    pub async fn look_at_lists(&self) {
        if let Some(evidence) = &self.evidence {
            evidence.look_at_files().await;
        }
    }

    /// Resolves when the engine has ended by itself: it could not start again, or failed. The log says why;
    /// nothing is managed any more.
    pub async fn ended(&self) {
        self.events.closed().await;
    }

    /// Stops in order: the engine first, which says good-bye (R-MTP.7), then close_notify to every peer.
    pub async fn stop(mut self) {
        self.orderly.store(true, Ordering::Relaxed);
        self.end_tasks();
        if let Some(thread) = self.thread.take() {
            // The join fails only when the thread panicked, which it has logged.
            tokio::task::spawn_blocking(move || thread.join())
                .await
                .ok();
        }
        self.telemetry.shutdown().await;
        self.network.shutdown().await;
    }

    /// Tells everything that runs to end.
    fn end_tasks(&self) {
        for task in &self.tasks {
            task.abort();
        }
        self.acs.end();
        self.stopping.store(true, Ordering::Relaxed);
        // Only to wake the engine: with a full queue it is awake, without a queue it has ended.
        self.events.try_send(Event::Stop).ok();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.end_tasks();
        if let Some(thread) = self.thread.take() {
            // The thread uses the runtime, which may end after this; it has logged why it panicked, if it did.
            thread.join().ok();
        }
    }
}

/// What a new certificate, or a new CA, changes while the agent runs: nothing that is open.
fn take_over(
    config: Config,
    network: Network,
    telemetry: Telemetry,
    acs: Option<Tls>,
    own: Own,
    evidence: Option<Arc<Evidence>>,
    events: mpsc::Sender<Event>,
) -> enrol::Apply {
    Box::new(move |identity| {
        let trust = load_trust(&config, Some(&identity));
        let (network, own, events) = (network.clone(), own.clone(), events.clone());
        let (telemetry, evidence) = (telemetry.clone(), evidence.clone());
        let acs = acs.clone();
        Box::pin(async move {
            let trust = match trust {
                Ok(trust) => trust,
                Err(error) => return tracing::error!(%error, "the new certificate is not used"),
            };
            let certificates = trust.certificates();
            own.set(trust.chain.first());
            telemetry.replace_credentials(&trust.credentials);
            if let Some(Err(error)) = acs.map(|tls| tls.replace_credentials(&trust.credentials)) {
                tracing::error!(%error, "the ACS is shown the old certificate");
            }
            network.replace_credentials(trust.credentials).await;
            if let Some(evidence) = evidence {
                evidence.trust(trust.anchors).await;
            }
            // The engine has ended: nobody is trusted any more.
            events.send(Event::Anchors(certificates)).await.ok();
        })
    })
}

/// What the providers are told.
pub(crate) fn provider_options(config: &Config) -> provider::Options {
    let now = Now::system();
    provider::Options {
        identity: config.identity.clone(),
        association: (config.association.clone())
            .map(|settings| Shared::new(settings, now.instant, now.wall)),
        data_dir: Some(config.data_dir.clone()),
        clock: clock(config),
        allow_network_changes: config.device.allow_network_changes,
        ..provider::Options::default()
    }
}

/// Whether the agent would start with what the certificate and list files hold now.
///
/// # Errors
///
/// A [`TrustError`] that names the file and what is wrong with it.
pub fn check_trust(config: &Config) -> Result<Trust, TrustError> {
    let identity = enrol::look(config).map_err(|error| TrustError::Enrolled(error.to_string()))?;
    let trust = load_trust(config, identity.as_ref())?;
    revocation::check_lists(&config.trust, &trust.anchors, clock(config).time())?;
    Ok(trust)
}

/// Who says whether dates in certificates count (R-MTP.2, R-MTP.3).
fn clock(config: &Config) -> Clock {
    match config.trust.time {
        TimeSource::Kernel => Clock::Kernel,
        TimeSource::Accurate => Clock::Accurate,
        TimeSource::Unknown => Clock::Unknown,
    }
}

/// What the engine is told of the configuration; `port` is the one that CoAP has.
pub(crate) fn settings(config: &Config, trust: &Trust, port: u16) -> Settings {
    let mut mtps = Vec::new();
    if config.coap {
        mtps.push(OwnMtp::Coap {
            port,
            path: config.path.clone(),
            encrypted: true,
        });
        mtps.extend(config.plain_listen.map(|listen| OwnMtp::Coap {
            port: listen.port(),
            path: config.path.clone(),
            encrypted: false,
        }));
    }
    mtps.extend(
        config
            .websocket
            .as_ref()
            .map(|websocket| OwnMtp::WebSocket {
                port: websocket.listen.port(),
                path: websocket.path.clone(),
                encrypted: websocket.encrypted,
            }),
    );
    for (path, listens) in [(&config.uds.listen, true), (&config.uds.connect, false)] {
        mtps.extend(path.as_ref().map(|path| OwnMtp::Uds {
            path: path.display().to_string(),
            listens,
        }));
    }
    Settings {
        endpoint_id: config.endpoint_id.clone(),
        allow_insecure: config.allow_insecure,
        controller: config.controller.clone(),
        limits: config.limits,
        mtps,
        certificates: trust.certificates(),
        brokers: trust.brokers(),
        first_use: config.trust.first_use,
        restarts: config.device.restart != Restart::Nothing,
        wait_for_time: config.trust.wait_for_time,
        rollback_after: config.rollback_after,
        telemetry: config.telemetry.clone(),
        greetings: Arc::new(Greetings::default()),
        cwmp: config.cwmp.clone(),
        stun: config.stun.clone(),
    }
}

/// Does what the engine plans, one plan after the other.
async fn follow_plans(
    mut plans: mpsc::Receiver<(Order, Vec<oneshot::Receiver<()>>)>,
    network: Network,
    events: mpsc::Sender<Event>,
) {
    while let Some((order, flushed)) = plans.recv().await {
        // The answer to whoever asked for the change, and what is said on leaving, go out before.
        let all = async {
            for one in flushed {
                // A task that has ended has nothing left to send.
                one.await.ok();
            }
        };
        if tokio::time::timeout(FLUSH, all).await.is_err() {
            tracing::debug!("not everything could be sent before the MTPs changed");
        }
        let done = match order {
            Order::Plan(plan) => {
                network.apply(*plan).await;
                Event::Applied
            }
            Order::Reconnect(name) => {
                network.reconnect(&name).await;
                Event::Reconnected
            }
        };
        if events.send(done).await.is_err() {
            return;
        }
    }
}

/// What happens on the MTPs goes to the engine.
async fn forward(mut happened: mpsc::Receiver<mtp::Event>, events: mpsc::Sender<Event>) {
    while let Some(event) = happened.recv().await {
        if events.send(Event::Mtp(event)).await.is_err() {
            return;
        }
    }
}

/// Tells when the time becomes accurate, and when it is not any more (R-SEC.19, R-SEC.20).
///
/// The kernel has no notification for this, so it is asked: often while somebody may wait for it.
async fn watch_clock(clock: Clock, mut known: bool, network: Network, events: mpsc::Sender<Event>) {
    if !clock.can_change() {
        return;
    }
    loop {
        tokio::time::sleep(if known {
            LOOK_AT_ACCURATE_CLOCK
        } else {
            LOOK_AT_CLOCK
        })
        .await;
        let accurate = clock.is_accurate();
        if accurate == known {
            continue;
        }
        known = accurate;
        tracing::info!(accurate, "clock");
        if accurate {
            // R-SEC.20, R-MTP.3: from now on dates count, for open sessions too.
            network.judge_again().await;
        }
        if events.send(Event::Clock { accurate }).await.is_err() {
            return;
        }
    }
}

async fn forward_wakes(kernel: Arc<Notify>, events: mpsc::Sender<Event>) {
    loop {
        kernel.notified().await;
        tokio::time::sleep(GATHER).await;
        if events.send(Event::Wake).await.is_err() {
            return;
        }
    }
}

/// The thread of the engine.
struct Host {
    settings: Settings,
    data_dir: std::path::PathBuf,
    restart: Restart,
    providers: Providers,
    handle: Handle,
    events: mpsc::Sender<Event>,
    kernel: Arc<Notify>,
    clock: Clock,
    verifier: Arc<ControllerVerifier>,
    network: Network,
    telemetry: Telemetry,
    stun: Stun,
    acs: mpsc::Sender<AcsAction>,
    senders: Senders,
    /// What the MTPs were told last.
    plan: Plan,
    plans: mpsc::Sender<(Order, Vec<oneshot::Receiver<()>>)>,
    /// What there is no room for yet: the engine waits for nobody, or everybody could wait for it.
    orders: Vec<(Order, Vec<oneshot::Receiver<()>>)>,
    commands: BTreeMap<ObjectPath, JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
    orderly: Arc<AtomicBool>,
}

impl Host {
    fn run(
        mut self,
        mut queue: mpsc::Receiver<Event>,
        ready: oneshot::Sender<Result<(), StartError>>,
    ) {
        let mut engine = match self.engine() {
            Ok(engine) => engine,
            Err(error) => {
                // Whoever starts the agent may be gone.
                ready.send(Err(error)).ok();
                return;
            }
        };
        ready.send(Ok(())).ok();
        let mut report = Instant::now() + REPORT_EVERY;
        loop {
            self.act(&mut engine);
            let wait = engine.poll_timeout().map_or(report, |at| at.min(report));
            let event = self
                .handle
                .block_on(async { tokio::time::timeout_at(wait.into(), queue.recv()).await });
            if self.stopping.load(Ordering::Relaxed) {
                break;
            }
            let now = Now::system();
            match event {
                Ok(None | Some(Event::Stop)) => break,
                Ok(Some(Event::Restart)) => match self.restarted(engine) {
                    Ok(new) => engine = new,
                    Err(error) => {
                        tracing::error!(%error, "the agent does not start again");
                        return;
                    }
                },
                Ok(Some(Event::Anchors(certificates))) => {
                    self.settings.certificates.clone_from(&certificates);
                    engine.handle_anchors(now, certificates);
                }
                Ok(Some(event @ Event::Wake)) => {
                    self.stun.addresses_changed();
                    handle(&mut engine, &self.verifier, now, event);
                }
                Ok(Some(event)) => handle(&mut engine, &self.verifier, now, event),
                Err(_) => engine.handle_timeout(now),
            }
            // A flood of events does not keep timers from running.
            if engine.poll_timeout().is_some_and(|at| at <= now.instant) {
                engine.handle_timeout(now);
            }
            if report <= now.instant {
                report = now.instant + REPORT_EVERY;
                tracing::info!(stats = ?engine.stats(), pending = engine.pending(), unsent = self.senders.dropped(), "counters");
            }
        }
        self.act(&mut engine);
        if self.orderly.load(Ordering::Relaxed) {
            self.take_leave(&mut engine);
        }
        for command in std::mem::take(&mut self.commands).into_values() {
            command.abort();
        }
        tracing::info!(stats = ?engine.stats(), pending = engine.pending(), unsent = self.senders.dropped(), "stopped");
    }

    fn engine(&self) -> Result<Engine, StartError> {
        let store = Store::open(&self.data_dir)?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|error| StartError::System(format!("no random numbers: {error}")))?;
        let restart = match self.restart {
            Restart::System => provider::reboot::Restart::System,
            Restart::Nothing => provider::reboot::Restart::Nothing,
            Restart::Agent => {
                let (events, handle) = (self.events.clone(), self.handle.clone());
                provider::reboot::Restart::Call(Arc::new(move |_| {
                    let events = events.clone();
                    handle.spawn(async move {
                        // The engine has ended: there is nothing to restart.
                        events.send(Event::Restart).await.ok();
                    });
                }))
            }
        };
        let _runtime = self.handle.enter();
        let mut engine = Engine::new(
            self.settings.clone(),
            (self.providers)(restart),
            store,
            Now::system(),
            seed,
        )?;
        engine.set_links(Box::new(self.network.clone()));
        engine.set_publishers(Box::new(self.telemetry.clone()));
        let kernel = self.kernel.clone();
        engine.watch(&Wake::new(move || kernel.notify_one()));
        engine.handle_clock(Now::system(), self.clock.is_accurate());
        Ok(engine)
    }

    /// Says good-bye over every channel, and waits until that is sent.
    fn take_leave(&mut self, engine: &mut Engine) {
        engine.handle_stop();
        self.act(engine);
        let flushed = self.senders.flush(|route| !matches!(route, Route::Coap(_)));
        let all = async {
            for one in flushed {
                // A task that has ended has nothing left to send.
                one.await.ok();
            }
        };
        let sent = self
            .handle
            .block_on(async { tokio::time::timeout(FLUSH, all).await });
        if sent.is_err() {
            tracing::debug!("not everyone could be told that the agent stops");
        }
    }

    /// The agent alone starts again: everything but the sockets of CoAP is new.
    fn restarted(&mut self, mut old: Engine) -> Result<Engine, StartError> {
        self.take_leave(&mut old);
        self.plan = Plan {
            coaps: self.plan.coaps.clone(),
            coap: self.plan.coap.clone(),
            ..Plan::default()
        };
        let plan = self.plan.clone();
        self.order(Order::Plan(Box::new(plan)), Vec::new());
        for command in std::mem::take(&mut self.commands).into_values() {
            command.abort();
        }
        drop(old);
        // R-SEC.21: nothing that was decided about a peer lasts.
        self.verifier.judge_again();
        let network = self.network.clone();
        self.handle
            .spawn(async move { network.judge_again().await });
        tracing::info!("starting again");
        self.engine()
    }

    /// Passes this on to the MTPs, or keeps it until there is room; of several plans the last one counts.
    fn order(&mut self, order: Order, mut flushed: Vec<oneshot::Receiver<()>>) {
        let known = |known: &Order| match (known, &order) {
            (Order::Reconnect(known), Order::Reconnect(name)) => known == name,
            _ => false,
        };
        if self.orders.iter().any(|(order, _)| known(order)) {
            return;
        }
        match (self.orders.last_mut(), order) {
            (Some((Order::Plan(last), before)), Order::Plan(plan)) => {
                *last = plan;
                before.append(&mut flushed);
            }
            (_, order) => self.orders.push((order, flushed)),
        }
        self.pass_orders();
    }

    fn pass_orders(&mut self) {
        while !self.orders.is_empty()
            && let Ok(room) = self.plans.try_reserve()
        {
            room.send(self.orders.remove(0));
        }
    }

    /// Does what the engine wants.
    fn act(&mut self, engine: &mut Engine) {
        let handle = self.handle.clone();
        let _runtime = handle.enter();
        self.pass_orders();
        while let Some(action) = engine.poll_action() {
            match action {
                Action::Transmit(transmit) => {
                    if let Some(transmit) = self.senders.send(transmit) {
                        engine.handle_delivery(Now::system(), transmit, false);
                    }
                }
                Action::Plan(plan) => {
                    let old = std::mem::replace(&mut self.plan, plan.clone());
                    let flushed = self.senders.flush(|route| is_affected(&old, &plan, route));
                    self.order(Order::Plan(Box::new(plan)), flushed);
                }
                Action::Telemetry(receivers) => self.telemetry.apply(receivers),
                Action::Publish { receiver, message } => {
                    self.telemetry.publish(&receiver, message);
                }
                Action::Reconnect(name) => {
                    let over = |route: &Route| match route {
                        Route::Mqtt { connection, .. } => *connection == name,
                        route => matches!(route, Route::WebSocket { .. }),
                    };
                    let flushed = self.senders.flush(over);
                    self.order(Order::Reconnect(name), flushed);
                }
                Action::Spawn { request, running } => {
                    let (events, row) = (self.events.clone(), request.clone());
                    let task = self.handle.spawn(async move {
                        let result = running.await;
                        // The engine has ended: nobody wants the result.
                        events
                            .send(Event::Completed {
                                request: row,
                                result,
                            })
                            .await
                            .ok();
                    });
                    self.commands.retain(|_, task| !task.is_finished());
                    self.commands.insert(request, task);
                }
                Action::Trust(trusted) => {
                    let (network, idle) = (self.network.clone(), trusted.first_use_idle);
                    self.verifier.trust(trusted);
                    self.handle.spawn(async move {
                        // 0 is no timer at all (Device:2.16, TOFUInactivityTimer).
                        network
                            .set_first_use_idle(if idle.is_zero() { NEVER } else { idle })
                            .await;
                        network.judge_again().await;
                    });
                }
                Action::Stun {
                    listen,
                    config,
                    last,
                } => self.stun.apply(listen, config, last, &self.events),
                Action::Acs(action) => {
                    // One POST at a time, and few of the others: there is room unless the task hangs.
                    if let Err(error) = self.acs.try_send(action) {
                        tracing::error!(%error, "the way to the ACS is stuck");
                    }
                }
                Action::Abort(request) => {
                    if let Some(task) = self.commands.remove(&request) {
                        task.abort();
                    }
                }
            }
        }
    }
}

fn handle(engine: &mut Engine, verifier: &ControllerVerifier, now: Now, event: Event) {
    match event {
        Event::Mtp(mtp::Event::Record { record, origin }) => {
            let source = source(verifier, origin);
            let record = *record;
            engine.handle_record(now, Inbound { record, source });
        }
        Event::Mtp(mtp::Event::Erroneous { error, origin }) => {
            // Nobody is told about Records that it could not have sent.
            let proved = error
                .from_id()
                .is_some_and(|from| proves(origin.identity.as_deref(), from));
            if proved {
                engine.handle_erroneous(now, &error, source(verifier, origin));
            }
        }
        Event::Mtp(mtp::Event::Up(channel)) => engine.handle_up(now, channel),
        Event::Mtp(mtp::Event::Down { id, reason }) => {
            tracing::debug!(channel = id.0, reason, "channel down");
            engine.handle_down(now, id);
        }
        Event::Mtp(mtp::Event::ClientId {
            connection,
            client_id,
        }) => engine.handle_client_id(now, &connection, &client_id),
        Event::Delivery {
            transmit,
            delivered,
        } => engine.handle_delivery(now, *transmit, delivered),
        Event::Applied => engine.handle_applied(now),
        Event::Completed { request, result } => engine.handle_completed(now, &request, result),
        Event::Wake => engine.handle_wake(now),
        Event::Stun(event) => engine.handle_stun(now, event),
        Event::Clock { accurate } => engine.handle_clock(now, accurate),
        Event::Acs(event) => engine.handle_acs(now, event),
        Event::AskAcs(message) => {
            if let Err(error) = engine.handle_own_request(now, *message) {
                tracing::warn!(%error, "a request to the ACS is not sent");
            }
        }
        // Whoever asked may be gone.
        Event::Stats(answer) => drop(answer.send(engine.stats())),
        Event::Anchors(_) | Event::Reconnected | Event::Restart | Event::Stop => {}
    }
}

fn source(verifier: &ControllerVerifier, origin: Origin) -> Source {
    Source {
        peer: origin.identity.map(|identity| Peer {
            basis: identity.basis,
            fingerprint: identity.fingerprint,
            anchor: identity.anchor,
            certificate: verifier.certificate(&identity.fingerprint),
        }),
        channel: origin.channel,
        reply_to: origin.reply_to,
    }
}
