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

use homefleet_coap::Scheme;
use homefleet_model::path::ObjectPath;
use homefleet_net::mtp::{self, CoapMtp, CoapMtpConfig, Interface, NetStats, Origin};
use homefleet_usp::{EndpointId, Record};
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    config::{Config, Restart, TimeSource},
    engine::{Action, Engine, EngineError, Inbound, OwnMtp, Peer, Settings, Stats},
    provider::{self, Now, OperateError, Provider, Wake, time::Clock},
    store::{Store, StoreError},
};

mod revocation;
mod sender;
mod trust;

pub use self::trust::{Trust, TrustError, load_trust};

use self::{revocation::Evidence, sender::Senders, trust::ControllerVerifier};

/// Events that wait for the engine.
const QUEUE: usize = 256;

/// Records that wait to be taken from the MTP; beyond, peers get 5.03 and come again.
const EVENTS: usize = 4096;

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
    mtp: CoapMtp,
    evidence: Option<Arc<Evidence>>,
    events: mpsc::Sender<Event>,
    thread: Option<std::thread::JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Something for the engine.
enum Event {
    Record(Box<Record>, Origin),
    Delivery {
        controller: ObjectPath,
        delivered: bool,
    },
    Completed {
        request: ObjectPath,
        result: Result<BTreeMap<String, String>, OperateError>,
    },
    Wake,
    Clock {
        accurate: bool,
    },
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
        let options = provider::Options {
            clock: clock.clone(),
            ..provider_options(&config)
        };
        let providers = move |restart| {
            provider::all(&provider::Options {
                restart,
                ..options.clone()
            })
        };
        Self::start_all(config, Box::new(providers), clock).await
    }

    /// Starts an agent with other providers.
    ///
    /// # Errors
    ///
    /// A [`StartError`] that says what is missing.
    pub async fn start_with(config: Config, providers: Providers) -> Result<Self, StartError> {
        let clock = clock(&config);
        Self::start_all(config, providers, clock).await
    }

    async fn start_all(
        config: Config,
        providers: Providers,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let trust = load_trust(&config)?;
        let verifier = Arc::new(ControllerVerifier::new(&trust, clock.clone()));
        let evidence = Evidence::start(&config.trust, &trust.anchors, &clock)?.map(Arc::new);
        if let Some(evidence) = &evidence {
            evidence.serve(&verifier);
        }
        let (mtp, records) = bind(&config, &trust, verifier.clone()).await?;
        if let Some(evidence) = &evidence {
            evidence.judge(&mtp);
        }
        let local = mtp.local_addr();
        let (events, queue) = mpsc::channel(QUEUE);
        let settings = Settings {
            endpoint_id: config.endpoint_id.clone(),
            allow_insecure: config.allow_insecure,
            controller: config.controller.clone(),
            limits: config.limits,
            mtp: Some(OwnMtp {
                port: local.port(),
                path: config.path.clone(),
                encrypted: true,
            }),
            certificates: trust.certificates(),
            first_use: config.trust.first_use,
            restarts: config.device.restart != Restart::Nothing,
            wait_for_time: if clock.can_change() {
                config.trust.wait_for_time
            } else {
                Duration::ZERO
            },
        };
        // Before the engine asks for itself, so that no change is missed.
        let accurate = clock.is_accurate();
        let kernel = Arc::new(Notify::new());
        let stopping = Arc::new(AtomicBool::new(false));
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
            mtp: mtp.clone(),
            senders: Senders::new(mtp.clone(), events.clone()),
            commands: BTreeMap::new(),
            stopping: stopping.clone(),
        };
        let (ready, started) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("agent-engine".into())
            .spawn(move || host.run(queue, ready))
            .map_err(|error| StartError::System(format!("no thread for the engine: {error}")))?;
        match started.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                mtp.shutdown().await;
                return Err(error);
            }
            Err(_) => {
                return Err(StartError::System(
                    "the engine ended while it started".into(),
                ));
            }
        }
        let mut tasks = vec![
            tokio::spawn(forward_records(records, events.clone())),
            tokio::spawn(forward_wakes(kernel, events.clone())),
            tokio::spawn(watch_clock(clock, accurate, mtp.clone(), events.clone())),
        ];
        if let Some(evidence) = &evidence {
            tasks.push(tokio::spawn(revocation::watch(evidence.clone())));
        }
        Ok(Self {
            endpoint_id: config.endpoint_id,
            mtp,
            evidence,
            events,
            thread: Some(thread),
            stopping,
            tasks,
        })
    }

    /// The agent's Endpoint ID.
    pub fn endpoint_id(&self) -> &EndpointId {
        &self.endpoint_id
    }

    /// The address of its `coaps` socket.
    pub fn local_addr(&self) -> SocketAddr {
        self.mtp.local_addr()
    }

    /// The address of its `coap` socket.
    pub fn plain_addr(&self) -> Option<SocketAddr> {
        self.mtp.plain_addr()
    }

    /// The counters of the engine; `None` when it has ended.
    pub async fn stats(&self) -> Option<Stats> {
        let (answer, stats) = oneshot::channel();
        self.events.send(Event::Stats(answer)).await.ok()?;
        stats.await.ok()
    }

    /// The counters of the MTP.
    pub fn net_stats(&self) -> NetStats {
        self.mtp.stats()
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

    /// Stops in order: the engine first, then close_notify to every peer.
    pub async fn stop(mut self) {
        self.end_tasks();
        if let Some(thread) = self.thread.take() {
            // The join fails only when the thread panicked, which it has logged.
            tokio::task::spawn_blocking(move || thread.join())
                .await
                .ok();
        }
        self.mtp.shutdown().await;
    }

    /// Tells everything that runs to end.
    fn end_tasks(&self) {
        for task in &self.tasks {
            task.abort();
        }
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

/// What the providers are told.
pub(crate) fn provider_options(config: &Config) -> provider::Options {
    provider::Options {
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
    let trust = load_trust(config)?;
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

async fn bind(
    config: &Config,
    trust: &Trust,
    verifier: Arc<ControllerVerifier>,
) -> Result<(CoapMtp, mpsc::Receiver<mtp::Event>), StartError> {
    let (events, happening) = mpsc::channel(EVENTS);
    let plain_controller = config
        .controller
        .as_ref()
        .is_some_and(|known| known.url.scheme == Scheme::Coap);
    let plain_listen = match config.plain_listen {
        Some(address) => Some(address),
        // To send without DTLS, and to be answered, takes a socket too.
        None if plain_controller && config.allow_insecure => {
            Some(SocketAddr::new(config.listen.ip(), 0))
        }
        None => None,
    };
    let mtp = CoapMtpConfig {
        endpoint_id: config.endpoint_id.clone(),
        interface: Interface::Agent,
        listen: config.listen,
        plain_listen,
        groups: Vec::new(),
        path: config.path.clone(),
        advertise: config.advertise.clone(),
        credentials: trust.credentials.clone(),
        verifier,
        coap: homefleet_coap::Config {
            max_body: config.limits.max_record,
            ..homefleet_coap::Config::default()
        },
        dtls: homefleet_net::dtls::Config::default(),
        events,
    };
    let mtp = CoapMtp::bind(mtp)
        .await
        .map_err(|source| StartError::Bind {
            address: config.listen,
            source,
        })?;
    Ok((mtp, happening))
}

async fn forward_records(mut happening: mpsc::Receiver<mtp::Event>, events: mpsc::Sender<Event>) {
    while let Some(event) = happening.recv().await {
        let mtp::Event::Record { record, origin } = event else {
            continue;
        };
        if events.send(Event::Record(record, origin)).await.is_err() {
            return;
        }
    }
}

/// Tells when the time becomes accurate, and when it is not any more (R-SEC.19, R-SEC.20).
///
/// The kernel has no notification for this, so it is asked: often while somebody may wait for it.
async fn watch_clock(clock: Clock, mut known: bool, mtp: CoapMtp, events: mpsc::Sender<Event>) {
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
            mtp.judge_again().await;
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
    mtp: CoapMtp,
    senders: Senders,
    commands: BTreeMap<ObjectPath, JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
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
        let kernel = self.kernel.clone();
        engine.watch(&Wake::new(move || kernel.notify_one()));
        engine.handle_clock(Now::system(), self.clock.is_accurate());
        Ok(engine)
    }

    /// The agent alone starts again: everything but the sockets is new.
    fn restarted(&mut self, old: Engine) -> Result<Engine, StartError> {
        for command in std::mem::take(&mut self.commands).into_values() {
            command.abort();
        }
        drop(old);
        // R-SEC.21: nothing that was decided about a peer lasts.
        self.verifier.judge_again();
        let mtp = self.mtp.clone();
        self.handle.spawn(async move { mtp.judge_again().await });
        tracing::info!("starting again");
        self.engine()
    }

    /// Does what the engine wants.
    fn act(&mut self, engine: &mut Engine) {
        let _runtime = self.handle.enter();
        while let Some(action) = engine.poll_action() {
            match action {
                Action::Transmit(transmit) => self.senders.send(transmit),
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
                    let (mtp, idle) = (self.mtp.clone(), trusted.first_use_idle);
                    self.verifier.trust(trusted);
                    self.handle.spawn(async move {
                        // 0 is no timer at all (Device:2.16, TOFUInactivityTimer).
                        mtp.set_first_use_idle(if idle.is_zero() { NEVER } else { idle })
                            .await;
                        mtp.judge_again().await;
                    });
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
        Event::Record(record, origin) => {
            let Some(reply_to) = origin.reply_to else {
                return;
            };
            engine.handle_record(
                now,
                Inbound {
                    record: *record,
                    peer: origin.identity.map(|identity| Peer {
                        basis: identity.basis,
                        fingerprint: identity.fingerprint,
                        anchor: identity.anchor,
                        certificate: verifier.certificate(&identity.fingerprint),
                    }),
                    reply_to: reply_to.to_string(),
                },
            );
        }
        Event::Delivery {
            controller,
            delivered,
        } => engine.handle_delivery(now, &controller, delivered),
        Event::Completed { request, result } => engine.handle_completed(now, &request, result),
        Event::Wake => engine.handle_wake(now),
        Event::Clock { accurate } => engine.handle_clock(now, accurate),
        // Whoever asked may be gone.
        Event::Stats(answer) => drop(answer.send(engine.stats())),
        Event::Restart | Event::Stop => {}
    }
}
