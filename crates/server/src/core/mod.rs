//! The core: what the listeners, the REST API and the console share.
//!
//! ```text
//!   http, ui ──► Access ─┐                         ┌─► events (live stream)
//!                        ├─► registry, queue ──► store
//!   controller ──────────┘                         └─► waiters for a task
//! ```
//!
//! From outside, the only door is [`Access`], which exists only after a token or session was checked. The
//! listeners use the crate-internal part of [`Core`], after the channel established who speaks.
//!
//! Every change is made in memory and handed to the store under one lock, so that the store sees changes in the
//! order in which they happened; it is told to anybody only after the store has it on disk.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use homefleet_api::{DeviceChange, Event, Role, TaskState};
use tokio::sync::{Notify, broadcast, oneshot};

use crate::account::{Accounts, Identity};
use crate::clock::{Clock, Millis};
use crate::device::{Alive, Presence, Registry, RegistryConfig};
use crate::enrol::Enrolment;
use crate::home::{HomeConfig, Homes};
use crate::listener::network::Network;
use crate::metrics::Metrics;
use crate::pki::Pki;
use crate::store::{Answer, AuditRecord, Batch, Store, StoreError, TaskRecord, Write, Written};
use crate::task::id::IdSource;
use crate::task::{Queue, QueueConfig};
use crate::telemetry::{Telemetry, WeakTelemetry};
use crate::tls::Renewal;

/// Failed tasks of an earlier life that are looked at for such as a late answer may still correct.
const DOUBTFUL: usize = 1000;

mod access;
mod certificates;
mod error;
mod events;
mod homes;
mod upkeep;

pub use access::{Access, DeviceQuery, ParameterQuery, SeriesQuery, TaskQuery};
pub use certificates::CertificateSearch;
pub use error::CoreError;
pub use events::EventStream;
pub use homes::{AssociationQuery, HomeQuery};

/// Policy of the core.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// Own Endpoint ID.
    pub endpoint_id: String,
    /// Registry.
    pub registry: RegistryConfig,
    /// Task queue.
    pub queue: QueueConfig,
    /// Lifetime of a task that asks for none.
    pub default_expiry: std::time::Duration,
    /// How long finished tasks and seen notifications are kept.
    pub keep: std::time::Duration,
    /// How long entries of the audit log are kept.
    pub keep_audit: std::time::Duration,
    /// Events kept for a slow listener of the live stream.
    pub event_buffer: usize,
    /// What one device can take of the server.
    pub limits: DeviceLimits,
    /// Subscriptions kept on every device.
    pub subscriptions: Vec<WantedSubscription>,
    /// Who is behind which gateway.
    pub home: HomeConfig,
}

/// What one device can take of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceLimits {
    /// Most answers on their way to it: one that names an address where nobody listens holds up nobody else.
    pub answers: usize,
    /// Most readings of it in an hour: it can ask for them, by telling of a boot, as often as it likes.
    pub readings_per_hour: u32,
    /// Longest text that it says of itself and is remembered, in bytes.
    pub text_length: usize,
}

impl Default for DeviceLimits {
    fn default() -> Self {
        Self {
            answers: 64,
            readings_per_hour: 12,
            text_length: 256,
        }
    }
}

/// A subscription that every device is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedSubscription {
    /// Subscription ID.
    pub id: String,
    /// NotifType.
    pub notification: String,
    /// ReferenceList.
    pub paths: Vec<String>,
}

/// Handle to the core.
#[derive(Clone)]
pub struct Core(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: CoreConfig,
    pub(crate) clock: Clock,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) started: Millis,
    /// The MTPs; unset without listeners.
    pub(crate) network: OnceLock<Network>,
    /// The certificates in force; unset without listeners.
    pub(crate) tls: OnceLock<Arc<Renewal>>,
    /// Telemetry; unset where none is listened for.
    pub(crate) telemetry: OnceLock<WeakTelemetry>,
    /// The CA and its front; unset where this server is none.
    pub(crate) ca: OnceLock<CertificateAuthority>,
    state: Mutex<State>,
    accounts: Mutex<Accounts>,
    events: broadcast::Sender<Arc<Event>>,
    waiters: Mutex<HashMap<String, Vec<oneshot::Sender<TaskRecord>>>>,
    pub(crate) wake: Notify,
    /// When the tokens were last read, so that guessing does not become reading.
    tokens_loaded: AtomicU64,
}

/// The CA, and where it is asked.
#[derive(Debug, Clone)]
pub(crate) struct CertificateAuthority {
    pub(crate) pki: Pki,
    pub(crate) enrolment: Enrolment,
    /// URLs where devices ask for certificates.
    pub(crate) addresses: Vec<String>,
}

/// Registry and queue change together, under one lock.
pub(crate) struct State {
    pub(crate) registry: Registry,
    /// Where devices are now; not stored.
    pub(crate) presence: Presence,
    pub(crate) queue: Queue,
    pub(crate) homes: Homes,
    pub(crate) ids: IdSource,
}

impl State {
    /// Whether some address of a device may lead to it now.
    pub(crate) fn is_anywhere(&self, device: &str) -> bool {
        let addresses = self.registry.device(device).map(|found| &found.addresses);
        addresses
            .into_iter()
            .flatten()
            .filter_map(|address| address.uri.parse().ok())
            .any(|route| self.presence.alive(device, &route) <= Alive::Maybe)
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("endpoint_id", &self.0.config.endpoint_id)
            .finish_non_exhaustive()
    }
}

impl Core {
    /// Takes over what the store holds.
    pub async fn open(
        config: CoreConfig,
        clock: Clock,
        store: Arc<dyn Store>,
    ) -> Result<Self, StoreError> {
        let devices = store.devices().await?;
        let open = store.open_tasks().await?;
        let core = Self::with(config, clock, store, devices, open).await?;
        core.restore_homes().await?;
        for task in core.0.store.tasks(None, None, None, 1).await? {
            core.state().ids.after(&task.id);
        }
        // Newest first; only those whose outcome is unknown are remembered.
        let mut failed = (core.0.store)
            .tasks(None, Some(TaskState::Failed), None, DOUBTFUL)
            .await?;
        failed.reverse();
        core.state().queue.remember(failed);
        // What the restart decided about sent tasks is stored before anything new happens.
        core.change(|_, _| ((), Batch::default())).1.await?;
        Ok(core)
    }

    /// A core for accounts only, which may run beside a server on the same store.
    pub(crate) async fn open_accounts(
        config: CoreConfig,
        clock: Clock,
        store: Arc<dyn Store>,
    ) -> Result<Self, StoreError> {
        Self::with(config, clock, store, Vec::new(), Vec::new()).await
    }

    async fn with(
        config: CoreConfig,
        clock: Clock,
        store: Arc<dyn Store>,
        devices: Vec<crate::store::DeviceRecord>,
        open: Vec<TaskRecord>,
    ) -> Result<Self, StoreError> {
        let now = clock.now();
        let registry = Registry::new(config.registry.clone(), devices);
        let queue = Queue::restore(config.queue.clone(), now, open);
        let mut accounts = Accounts::default();
        accounts.load(store.tokens().await?);
        let (events, _) = broadcast::channel(config.event_buffer.max(16));
        Ok(Self(Arc::new(Inner {
            config,
            clock,
            store,
            metrics: Arc::new(Metrics::new()),
            started: now,
            network: OnceLock::new(),
            tls: OnceLock::new(),
            telemetry: OnceLock::new(),
            ca: OnceLock::new(),
            state: Mutex::new(State {
                registry,
                presence: Presence::default(),
                queue,
                homes: Homes::default(),
                ids: IdSource::default(),
            }),
            accounts: Mutex::new(accounts),
            events,
            waiters: Mutex::default(),
            wake: Notify::new(),
            tokens_loaded: AtomicU64::new(0),
        })))
    }

    pub(crate) fn set_network(&self, network: Network) {
        // There is one server to a core.
        drop(self.0.network.set(network));
    }

    pub(crate) fn set_renewal(&self, renewal: Arc<Renewal>) {
        // There is one server to a core.
        drop(self.0.tls.set(renewal));
    }

    /// Makes telemetry known to those who ask the core.
    pub fn set_telemetry(&self, telemetry: &Telemetry) {
        // There is one server to a core.
        drop(self.0.telemetry.set(telemetry.downgrade()));
    }

    pub(crate) fn telemetry(&self) -> Option<Telemetry> {
        self.0.telemetry.get().and_then(WeakTelemetry::upgrade)
    }

    pub(crate) fn set_ca(&self, ca: CertificateAuthority) {
        // There is one server to a core.
        drop(self.0.ca.set(ca));
    }

    /// Whom a token's secret belongs to.
    pub async fn authenticate(&self, secret: &str) -> Result<Access, CoreError> {
        let now = self.now();
        if let Some(identity) = self.accounts().authenticate(now, secret) {
            return Ok(Access::new(self.clone(), identity));
        }
        // It may have been made beside the running server.
        let last = self.0.tokens_loaded.swap(now.0, Ordering::Relaxed);
        if now.0 >= last.saturating_add(1000) {
            self.reload_tokens().await?;
            if let Some(identity) = self.accounts().authenticate(now, secret) {
                return Ok(Access::new(self.clone(), identity));
            }
        }
        self.0.metrics.refused_tokens.inc();
        Err(CoreError::Unauthorized)
    }

    /// Opens a browser session with a token; returns the session's secret.
    pub async fn open_session(&self, secret: &str) -> Result<String, CoreError> {
        let access = self.authenticate(secret).await?;
        let session = self
            .accounts()
            .open_session(self.now(), access.identity(), random()?);
        access
            .record("session.open", "console", String::new(), true)
            .await?;
        session.ok_or(CoreError::Unauthorized)
    }

    /// Whom a browser session belongs to.
    pub fn session(&self, secret: &str) -> Result<Access, CoreError> {
        let identity = self
            .accounts()
            .session(self.now(), secret)
            .ok_or(CoreError::Unauthorized)?;
        Ok(Access::new(self.clone(), identity))
    }

    /// Ends a browser session.
    pub fn close_session(&self, secret: &str) {
        self.accounts().close_session(secret);
    }

    /// Access for the process that runs the server, which holds the store anyway.
    pub(crate) fn local_access(&self, name: &str, role: Role) -> Access {
        Access::new(
            self.clone(),
            Identity {
                token: None,
                name: name.to_owned(),
                role,
            },
        )
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Has the queue looked at now: the clock has moved.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    pub(crate) fn now(&self) -> Millis {
        self.0.clock.now()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.0
            .accounts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn reload_tokens(&self) -> Result<(), StoreError> {
        let generation = self.accounts().generation();
        let tokens = self.0.store.tokens().await?;
        self.accounts().refresh(generation, tokens);
        Ok(())
    }

    /// Makes a change to registry and queue and hands it to the store under the same lock. The returned
    /// future resolves when it is on disk and has been told to listeners and waiters.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut State, Millis) -> (T, Batch),
    ) -> (T, Answer<Written>) {
        let now = self.now();
        let mut state = self.state();
        let (answer, mut batch) = change(&mut state, now);
        let mut tasks = state.queue.drain_changes();
        let associations = self.look_at_homes(&mut state, now, &mut batch, &mut tasks);
        for task in &tasks {
            batch.push(Write::Task(Box::new(task.clone())));
        }
        let stored = (!batch.is_empty()).then(|| self.0.store.write(batch));
        let ready = state.queue.is_ready();
        drop(state);
        let core = self.clone();
        let wake = (ready || stored.is_some()).then(|| WakeOnDrop(self.clone()));
        let finish: Answer<Written> = Box::pin(async move {
            let Some(stored) = stored else {
                return Ok(Written::default());
            };
            let written = stored.await.inspect_err(|error| {
                core.0.metrics.store_failures.inc();
                tracing::error!(%error, "a change could not be stored");
            })?;
            core.0.metrics.refused_values.inc_by(written.refused);
            core.0
                .metrics
                .notifications_forgotten
                .inc_by(written.forgotten);
            core.tell(&written, tasks);
            associations
                .into_iter()
                .for_each(|event| core.publish(event));
            drop(wake);
            Ok(written)
        });
        (answer, finish)
    }

    /// Tells what is on disk now.
    fn tell(&self, written: &Written, tasks: Vec<TaskRecord>) {
        // Nobody listens, mostly.
        let heard = self.0.events.receiver_count() > 0;
        for (device, value) in written.changed.iter().filter(|_| heard) {
            self.publish(Event::Parameter {
                device: device.clone(),
                path: value.path.clone(),
                value: value.value.clone(),
                seen: value.seen.to_timestamp(),
            });
        }
        for task in tasks {
            if task.state.is_final() {
                self.0.metrics.finished(task.state);
                let waiting = self.waiters().remove(&task.id).unwrap_or_default();
                for waiter in waiting {
                    // Who no longer waits does not need it.
                    drop(waiter.send(task.clone()));
                }
            }
            if heard {
                self.publish(Event::Task {
                    task: task.to_api(),
                });
            }
        }
    }

    pub(crate) fn publish(&self, event: Event) {
        // No listener is not an error.
        drop(self.0.events.send(Arc::new(event)));
    }

    pub(crate) fn publish_device(&self, id: &str, change: DeviceChange) {
        if self.0.events.receiver_count() == 0 {
            return;
        }
        let now = self.now();
        let summary = {
            let state = self.state();
            let Some(device) = state.registry.device(id) else {
                return;
            };
            state
                .registry
                .summary(now, device, state.queue.open_tasks(id))
        };
        self.publish(Event::Device {
            change,
            device: summary,
        });
    }

    pub(crate) fn waiters(
        &self,
    ) -> MutexGuard<'_, HashMap<String, Vec<oneshot::Sender<TaskRecord>>>> {
        self.0
            .waiters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn audit(
        &self,
        who: String,
        action: &str,
        subject: &str,
        detail: String,
        allowed: bool,
    ) -> Result<(), StoreError> {
        let entry = AuditRecord {
            sequence: 0,
            time: self.now(),
            who,
            action: action.to_owned(),
            subject: subject.to_owned(),
            detail,
            allowed,
        };
        self.0
            .store
            .write(Batch::one(Write::Audit(entry)))
            .await
            .map(drop)
    }

    /// A new task, not yet pushed.
    pub(crate) fn new_task(
        &self,
        state: &mut State,
        now: Millis,
        device: &str,
        operation: homefleet_api::Operation,
        lifetime: std::time::Duration,
        created_by: &str,
    ) -> Result<TaskRecord, CoreError> {
        let id = state.ids.next(now, random()?);
        Ok(TaskRecord {
            id,
            device: device.to_owned(),
            operation,
            state: homefleet_api::TaskState::Queued,
            created: now,
            updated: now,
            expires: now.plus(lifetime),
            attempts: 0,
            next_attempt: None,
            last_problem: None,
            created_by: created_by.to_owned(),
            result: None,
            error: None,
        })
    }
}

/// Wakes the driver once a change has been told, and also when whoever asked for it goes away before: its task
/// is in the queue.
struct WakeOnDrop(Core);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.0.wake.notify_one();
    }
}

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], CoreError> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| CoreError::Internal(format!("no random bytes: {error}")))?;
    Ok(bytes)
}
