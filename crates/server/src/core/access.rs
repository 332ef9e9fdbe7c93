//! The door to the core: an authenticated request.

use std::time::Duration;

use homefleet_api as api;
use homefleet_api::{DeviceChange, Event, Role, TaskState};
use tokio::sync::oneshot;

use super::{Core, CoreError, EventStream, random};
use crate::account::{self, Identity, MAX_TOKENS, NewTokenError};
use crate::clock::Millis;
use crate::store::{
    AuditRecord, Batch, CertificateRecord, DeviceRecord, ParameterRecord, StoreError,
    SubscriptionRecord, Write,
};
use crate::task::check;
use crate::task::queue::{CancelError, PushError};

/// Longest lifetime of a task.
const MAX_EXPIRY: u64 = 30 * 24 * 3600;
/// Largest page.
pub(super) const MAX_PAGE: usize = 1000;
/// Most devices a search looks at before others get their turn.
const LOOK_AT: usize = 4096;
/// Most tasks that somebody waits for.
const MAX_WAITING: usize = 10_000;
/// Largest page of parameters.
const MAX_PARAMETERS: usize = 10_000;

/// An authenticated request. Every call checks again that its token stands and its role suffices.
#[derive(Debug, Clone)]
pub struct Access {
    pub(super) core: Core,
    identity: Identity,
}

/// Which devices.
#[derive(Debug, Clone, Default)]
pub struct DeviceQuery {
    /// Text that the Endpoint ID, label, product, serial number or address contains.
    pub search: Option<String>,
    /// Page size, 1 to 1000; 0 = 100.
    pub limit: usize,
    /// `next` of the page before.
    pub after: Option<String>,
}

/// Which parameters.
#[derive(Debug, Clone, Default)]
pub struct ParameterQuery {
    /// Parameter path or object path ending with a dot; `*` stands for an instance number.
    pub path: Option<String>,
    /// Page size, 1 to 10,000; 0 = 1000.
    pub limit: usize,
    /// `next` of the page before.
    pub after: Option<String>,
}

/// Which tasks.
#[derive(Debug, Clone, Default)]
pub struct TaskQuery {
    /// Endpoint ID.
    pub device: Option<String>,
    /// State.
    pub state: Option<TaskState>,
    /// Page size, 1 to 1000; 0 = 100.
    pub limit: usize,
    /// `next` of the page before.
    pub after: Option<String>,
}

/// Which stretch of a time series.
#[derive(Debug, Clone, Default)]
pub struct SeriesQuery {
    /// RFC 3339; absent = an hour before the end.
    pub from: Option<String>,
    /// RFC 3339; absent = now.
    pub to: Option<String>,
    /// Seconds that one point stands for; absent = so that there are about 500.
    pub step: Option<f64>,
}

impl SeriesQuery {
    /// From, to and milliseconds of a step.
    fn stretch(&self, now: Millis) -> Result<(Millis, Millis, u64), CoreError> {
        let read = |name: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => instant(text)
                .map(Some)
                .ok_or_else(|| CoreError::bad(format!("`{text}` is not an RFC 3339 time"), name)),
        };
        // The last moment is in it when no end is given.
        let to = read("to", &self.to)?.unwrap_or(Millis(now.0.saturating_add(1)));
        let from = read("from", &self.from)?.unwrap_or(Millis(to.0.saturating_sub(3_600_000)));
        let span = to.0.saturating_sub(from.0);
        if span == 0 {
            return Err(CoreError::bad("`from` is not before `to`", "from"));
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let step = match self.step {
            None => (span / 500).max(1000).div_ceil(1000) * 1000,
            Some(step) if step.is_finite() && (0.001..=31_536_000.0).contains(&step) => {
                (step * 1000.0).round() as u64
            }
            Some(step) => {
                let message = format!("found {step}, expected 0.001 to 31536000 seconds");
                return Err(CoreError::bad(message, "step"));
            }
        };
        let most = crate::telemetry::series::MAX_BUCKETS;
        if span / step.max(1) > most {
            let message = format!("that would be more than {most} points");
            return Err(CoreError::bad(message, "step"));
        }
        Ok((from, to, step.max(1)))
    }
}

/// Any RFC 3339 time, not only our own form.
fn instant(text: &str) -> Option<Millis> {
    use time::format_description::well_known::Rfc3339;
    let time = time::OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000)
        .ok()
        .map(Millis)
}

impl Access {
    pub(super) fn new(core: Core, identity: Identity) -> Self {
        Self { core, identity }
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What the token may do.
    pub fn role(&self) -> Role {
        self.identity.role
    }

    /// The token's name.
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Whether the token still stands.
    pub fn is_valid(&self) -> bool {
        self.core
            .accounts()
            .still_valid(self.core.now(), &self.identity)
    }

    pub(super) fn check(&self, needed: Role) -> Result<(), CoreError> {
        if !self.is_valid() {
            return Err(CoreError::Unauthorized);
        }
        if !self.role().includes(needed) {
            return Err(CoreError::Forbidden {
                role: self.role(),
                needed,
            });
        }
        Ok(())
    }

    /// Like [`Access::check`] for a write: a refusal goes to the audit log too.
    pub(super) async fn check_write(
        &self,
        needed: Role,
        action: &str,
        subject: &str,
    ) -> Result<(), CoreError> {
        let checked = self.check(needed);
        if matches!(checked, Err(CoreError::Forbidden { .. })) {
            self.record(action, subject, String::new(), false).await?;
        }
        checked
    }

    pub(super) fn who(&self) -> String {
        match &self.identity.token {
            Some(id) => format!("{} ({id})", self.identity.name),
            None => self.identity.name.clone(),
        }
    }

    fn audit_entry(&self, action: &str, subject: &str, detail: String) -> Write {
        Write::Audit(AuditRecord {
            sequence: 0,
            time: self.core.now(),
            who: self.who(),
            action: action.to_owned(),
            subject: subject.to_owned(),
            detail,
            allowed: true,
        })
    }

    pub(super) async fn record(
        &self,
        action: &str,
        subject: &str,
        detail: String,
        allowed: bool,
    ) -> Result<(), StoreError> {
        self.core
            .audit(self.who(), action, subject, detail, allowed)
            .await
    }

    /// What the server says of itself.
    pub fn info(&self) -> api::ServerInfo {
        let inner = self.core.inner();
        let address = |mtp| inner.network.get().and_then(|network| network.address(mtp));
        api::ServerInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            endpoint_id: inner.config.endpoint_id.clone(),
            coap_address: address(api::Mtp::Coap).unwrap_or_default(),
            websocket_address: address(api::Mtp::Websocket),
            token_name: self.identity.name.clone(),
            role: self.role(),
            started: inner.started.to_timestamp(),
        }
    }

    /// The MTPs in use: where devices connect, brokers, counters.
    pub fn mtps(&self) -> Result<api::MtpList, CoreError> {
        self.check(Role::Viewer)?;
        let network = self.core.inner().network.get();
        let network = network.ok_or_else(|| CoreError::no("thing", "mtps"))?;
        let connected = self.core.state().presence.count();
        Ok(network.status(|mtp| {
            let count = connected.get(&mtp).copied().unwrap_or_default();
            u64::try_from(count).unwrap_or(u64::MAX)
        }))
    }

    /// How telemetry fares.
    pub fn telemetry(&self) -> Result<api::Telemetry, CoreError> {
        self.check(Role::Viewer)?;
        Ok(self.telemetry_of("telemetry")?.status())
    }

    /// The time series of a device.
    pub async fn series(&self, id: &str) -> Result<api::SeriesList, CoreError> {
        self.check(Role::Viewer)?;
        self.known(id)?;
        let telemetry = self.telemetry_of("series")?;
        let series = telemetry
            .series()
            .ok_or_else(|| CoreError::no("thing", "series"))?;
        let list = series.list(id).await?;
        let list = list.into_iter().map(|series| api::Series {
            path: series.path,
            first: series.first.to_timestamp(),
            last: series.last.to_timestamp(),
            value: series.value,
        });
        Ok(api::SeriesList {
            series: list.collect(),
        })
    }

    /// A stretch of a time series.
    pub async fn series_points(
        &self,
        id: &str,
        path: &str,
        query: SeriesQuery,
    ) -> Result<api::SeriesPoints, CoreError> {
        self.check(Role::Viewer)?;
        self.known(id)?;
        let telemetry = self.telemetry_of("series")?;
        let series = telemetry
            .series()
            .ok_or_else(|| CoreError::no("thing", "series"))?;
        let (from, to, step) = query.stretch(self.core.now())?;
        let asked = crate::telemetry::series::SeriesQuery {
            device: id.to_owned(),
            path: path.to_owned(),
            from,
            to,
            step,
        };
        let found = series.points(asked).await?;
        let points = found.ok_or_else(|| CoreError::no("series", path))?;
        let points = points.into_iter().map(|bucket| api::SeriesPoint {
            time: bucket.time.to_timestamp(),
            count: bucket.count,
            least: bucket.least,
            mean: bucket.mean,
            most: bucket.most,
            last: bucket.last,
        });
        #[allow(clippy::cast_precision_loss)]
        let seconds = step as f64 / 1000.0;
        Ok(api::SeriesPoints {
            path: path.to_owned(),
            from: from.to_timestamp(),
            to: to.to_timestamp(),
            step: seconds,
            points: points.collect(),
        })
    }

    fn telemetry_of(&self, what: &str) -> Result<crate::telemetry::Telemetry, CoreError> {
        let telemetry = self.core.telemetry();
        telemetry.ok_or_else(|| CoreError::no("thing", what))
    }

    fn known(&self, id: &str) -> Result<(), CoreError> {
        let state = self.core.state();
        let device = state.registry.device(id);
        device.map(drop).ok_or_else(|| CoreError::no("device", id))
    }

    /// The certificates in force, and the peers refused.
    pub fn tls(&self) -> Result<api::Tls, CoreError> {
        self.check(Role::Viewer)?;
        Ok(self.renewal()?.status())
    }

    /// Takes over new certificate files.
    pub async fn reload_tls(&self) -> Result<api::Tls, CoreError> {
        self.check_write(Role::Admin, "tls.reload", "tls").await?;
        let renewal = self.renewal()?;
        let outcome = renewal.reload().await;
        let detail = match &outcome {
            Ok(status) => format!("certificate {}", status.certificate.fingerprint),
            Err(error) => error.to_string(),
        };
        self.record("tls.reload", "tls", detail, outcome.is_ok())
            .await?;
        outcome.map_err(|error| CoreError::Conflict(error.to_string()))
    }

    fn renewal(&self) -> Result<std::sync::Arc<crate::tls::Renewal>, CoreError> {
        let renewal = self.core.inner().tls.get();
        renewal
            .cloned()
            .ok_or_else(|| CoreError::no("thing", "tls"))
    }

    /// A page of devices.
    pub async fn devices(&self, query: DeviceQuery) -> Result<api::DevicePage, CoreError> {
        self.check(Role::Viewer)?;
        let limit = page(query.limit, 100, MAX_PAGE)?;
        let now = self.core.now();
        let mut devices: Vec<api::DeviceSummary> = Vec::new();
        let mut after = query.after;
        // A search may have to look at every device: it gives others their turn in between.
        while devices.len() <= limit {
            {
                let state = self.core.state();
                let (found, looked_at) = state.registry.page(
                    query.search.as_deref(),
                    after.as_deref(),
                    limit + 1 - devices.len(),
                    LOOK_AT,
                );
                devices.extend(found.into_iter().map(|device| {
                    let open = state.queue.open_tasks(&device.id);
                    state.registry.summary(now, device, open)
                }));
                after = looked_at;
            }
            if after.is_none() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let more = devices.len() > limit;
        devices.truncate(limit);
        let next = if more {
            devices.last().map(|device| device.id.clone())
        } else {
            None
        };
        Ok(api::DevicePage { devices, next })
    }

    /// A device.
    pub async fn device(&self, id: &str) -> Result<api::Device, CoreError> {
        self.check(Role::Viewer)?;
        let now = self.core.now();
        let (record, summary, connections) = {
            let state = self.core.state();
            let record = state
                .registry
                .device(id)
                .ok_or_else(|| CoreError::no("device", id))?
                .clone();
            let summary = state
                .registry
                .summary(now, &record, state.queue.open_tasks(id));
            (record, summary, state.presence.connections(id))
        };
        let store = &self.core.inner().store;
        let subscriptions = store.subscriptions(id).await?;
        let parameter_count = store.parameter_count(id).await?;
        Ok(device_to_api(
            record,
            summary,
            connections,
            subscriptions,
            parameter_count,
        ))
    }

    /// Forgets a device: its values, subscriptions and open tasks. It comes back when it is heard again.
    pub async fn remove_device(&self, id: &str) -> Result<(), CoreError> {
        self.check_write(Role::Operator, "device.remove", id)
            .await?;
        let audit = self.audit_entry("device.remove", id, String::new());
        let (removed, stored) = self.core.change(|state, now| {
            let Some(device) = state.registry.remove(id) else {
                return (None, Batch::default());
            };
            state.queue.drop_device(now, id);
            state.presence.remove(id);
            let summary = state.registry.summary(now, &device, 0);
            (
                Some(summary),
                Batch(vec![audit, Write::RemoveDevice(id.to_owned())]),
            )
        });
        let device = removed.ok_or_else(|| CoreError::no("device", id))?;
        stored.await?;
        if let Some(telemetry) = self.core.telemetry()
            && let Some(series) = telemetry.series()
        {
            series.remove(id);
        }
        self.core.publish(Event::Device {
            change: DeviceChange::Removed,
            device,
        });
        Ok(())
    }

    /// Changes what operators say about a device.
    pub async fn patch_device(
        &self,
        id: &str,
        patch: api::DevicePatch,
    ) -> Result<api::Device, CoreError> {
        let action = match patch.admitted {
            Some(true) => "device.admit",
            Some(false) => "device.quarantine",
            None => "device.label",
        };
        self.check_write(Role::Operator, action, id).await?;
        if patch.admitted.is_some() {
            let state = self.core.state();
            let device = state.registry.device(id);
            if device
                .ok_or_else(|| CoreError::no("device", id))?
                .cwmp
                .is_none()
            {
                return Err(CoreError::bad(
                    "only devices that speak TR-069 are admitted; a USP device proves itself by its certificate",
                    "admitted",
                ));
            }
        }
        if let Some(label) = &patch.label
            && (label.chars().count() > 128 || label.chars().any(char::is_control))
        {
            return Err(CoreError::bad(
                "a label has at most 128 characters and no control characters",
                "label",
            ));
        }
        let detail = patch.label.clone().unwrap_or_default();
        let audit = self.audit_entry(action, id, detail);
        let (known, stored) = self.core.change(|state, _| {
            if state.registry.device(id).is_none() {
                return (false, Batch::default());
            }
            let changed = state.registry.update(id, |device| {
                if let Some(label) = patch.label {
                    device.label = Some(label.trim().to_owned()).filter(|label| !label.is_empty());
                }
                if let (Some(admitted), Some(cwmp)) = (patch.admitted, &mut device.cwmp) {
                    // One that is admitted already may have lost its login, and begins again with the one that all devices have.
                    cwmp.again |= admitted && cwmp.admitted;
                    cwmp.admitted = admitted;
                }
            });
            let mut batch = Batch::one(audit);
            if let Some(device) = changed {
                batch.push(Write::Device(Box::new(device)));
            }
            (true, batch)
        });
        if !known {
            return Err(CoreError::no("device", id));
        }
        stored.await?;
        self.core.publish_device(id, DeviceChange::Updated);
        self.device(id).await
    }

    /// Last known values of a device.
    pub async fn parameters(
        &self,
        id: &str,
        query: ParameterQuery,
    ) -> Result<api::ParameterPage, CoreError> {
        self.check(Role::Viewer)?;
        let limit = page(query.limit, 1000, MAX_PARAMETERS)?;
        if self.core.state().registry.device(id).is_none() {
            return Err(CoreError::no("device", id));
        }
        let path = query.path.unwrap_or_default();
        check::stored_path(&path).map_err(|message| CoreError::bad(message, path.clone()))?;
        let mut found = self
            .core
            .inner()
            .store
            .parameters(id, &path, query.after.as_deref(), limit + 1)
            .await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = if more {
            found.last().map(|value| value.path.clone())
        } else {
            None
        };
        Ok(api::ParameterPage {
            parameters: found.into_iter().map(parameter_to_api).collect(),
            next,
        })
    }

    /// Queues an operation on a device; on disk when it returns.
    pub async fn submit(&self, id: &str, new: api::NewTask) -> Result<api::Task, CoreError> {
        self.check_write(Role::Operator, "task.create", id).await?;
        check::operation(&new.operation)?;
        let lifetime = match new.expires_in {
            None => self.core.inner().config.default_expiry,
            Some(seconds @ 1..=MAX_EXPIRY) => Duration::from_secs(seconds),
            Some(other) => {
                return Err(CoreError::bad(
                    format!("expires_in is {other}, expected 1 to {MAX_EXPIRY} seconds"),
                    "expires_in",
                ));
            }
        };
        if !self.core.inner().store.has_room() {
            return Err(CoreError::Overloaded(
                "the store is behind, try again later".to_owned(),
            ));
        }
        let detail = check::describe(&new.operation);
        let who = self.identity.name.clone();
        let (pushed, stored) = self.core.change(|state, now| {
            let Some(heard) = state.registry.device(id).map(|device| device.last_contact) else {
                return (Err(CoreError::no("device", id)), Batch::default());
            };
            let task = match self
                .core
                .new_task(state, now, id, new.operation, lifetime, &who)
            {
                Ok(task) => task,
                Err(error) => return (Err(error), Batch::default()),
            };
            if let Err(error) = state.queue.push(task.clone(), Some(heard)) {
                return (Err(error.into()), Batch::default());
            }
            let detail = format!("{detail} on {id}");
            let audit = self.audit_entry("task.create", &task.id, detail);
            (Ok(task), Batch::one(audit))
        });
        let task = pushed?;
        stored.await?;
        Ok(task.to_api())
    }

    /// A page of tasks, newest first.
    pub async fn tasks(&self, query: TaskQuery) -> Result<api::TaskPage, CoreError> {
        self.check(Role::Viewer)?;
        let limit = page(query.limit, 100, MAX_PAGE)?;
        let store = &self.core.inner().store;
        let mut found = store
            .tasks(
                query.device.as_deref(),
                query.state,
                query.after.as_deref(),
                limit + 1,
            )
            .await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = if more {
            found.last().map(|task| task.id.clone())
        } else {
            None
        };
        Ok(api::TaskPage {
            tasks: found.iter().map(|task| task.to_api()).collect(),
            next,
        })
    }

    /// A task.
    pub async fn task(&self, id: &str) -> Result<api::Task, CoreError> {
        self.check(Role::Viewer)?;
        let task = self
            .core
            .inner()
            .store
            .task(id)
            .await?
            .ok_or_else(|| CoreError::no("task", id))?;
        Ok(task.to_api())
    }

    /// A task, once it is final or `at_most` has passed.
    pub async fn wait_task(&self, id: &str, at_most: Duration) -> Result<api::Task, CoreError> {
        self.check(Role::Viewer)?;
        // Before the channel, so that it is dropped after it, also when whoever waits goes away.
        let _waiting = Waiting {
            core: &self.core,
            id,
        };
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiters = self.core.waiters();
            if waiters.len() >= MAX_WAITING {
                return Err(CoreError::Overloaded(
                    "too many requests wait for tasks".to_owned(),
                ));
            }
            waiters.entry(id.to_owned()).or_default().push(sender);
        }
        // Looked at after waiting has begun, so that an end in between is not missed.
        let task = self.task(id).await?;
        if task.state.is_final() {
            return Ok(task);
        }
        match tokio::time::timeout(at_most, receiver).await {
            Ok(Ok(record)) => Ok(record.to_api()),
            _ => self.task(id).await,
        }
    }

    /// Withdraws a task that is still queued.
    pub async fn cancel_task(&self, id: &str) -> Result<api::Task, CoreError> {
        self.check_write(Role::Operator, "task.cancel", id).await?;
        let audit = self.audit_entry("task.cancel", id, String::new());
        let (cancelled, stored) =
            self.core
                .change(|state, now| match state.queue.cancel(now, id) {
                    Ok(()) => (Ok(()), Batch::one(audit)),
                    Err(error) => (Err(error), Batch::default()),
                });
        match cancelled {
            Ok(()) => {
                stored.await?;
                self.task(id).await
            }
            Err(error @ CancelError::AlreadySent) => Err(CoreError::Conflict(error.to_string())),
            Err(CancelError::NotOpen) => {
                let task = self.task(id).await?;
                Err(CoreError::Conflict(format!(
                    "the task is already {}",
                    task.state
                )))
            }
        }
    }

    /// What happens from now on, of one device or of all.
    pub fn events(&self, device: Option<String>) -> Result<EventStream, CoreError> {
        self.check(Role::Viewer)?;
        Ok(EventStream::new(
            self.clone(),
            device,
            self.core.inner().events.subscribe(),
        ))
    }

    /// All tokens.
    pub async fn tokens(&self) -> Result<api::TokenList, CoreError> {
        self.check(Role::Admin)?;
        self.core.reload_tokens().await?;
        let accounts = self.core.accounts();
        Ok(api::TokenList {
            tokens: accounts
                .tokens()
                .iter()
                .map(|token| token.to_api())
                .collect(),
        })
    }

    /// Makes a token.
    pub async fn create_token(&self, new: api::NewToken) -> Result<api::CreatedToken, CoreError> {
        self.check_write(Role::Admin, "token.create", &new.name)
            .await?;
        if self.core.accounts().tokens().len() >= MAX_TOKENS {
            return Err(CoreError::Conflict(NewTokenError::TooMany.to_string()));
        }
        let (record, secret) = account::new_token(self.core.now(), &new, random()?, random()?)
            .map_err(|error| CoreError::bad(error.to_string(), "name"))?;
        let detail = format!("{} as {}", record.name, record.role);
        let audit = self.audit_entry("token.create", &record.id, detail);
        self.core
            .inner()
            .store
            .write(Batch(vec![audit, Write::Token(record.clone())]))
            .await?;
        let token = record.to_api();
        self.core.accounts().add(record);
        Ok(api::CreatedToken { token, secret })
    }

    /// Revokes a token: it and its sessions end at once.
    pub async fn revoke_token(&self, id: &str) -> Result<(), CoreError> {
        self.check_write(Role::Admin, "token.revoke", id).await?;
        if !self
            .core
            .accounts()
            .tokens()
            .iter()
            .any(|token| token.id == id)
        {
            return Err(CoreError::no("token", id));
        }
        let audit = self.audit_entry("token.revoke", id, String::new());
        self.core
            .inner()
            .store
            .write(Batch(vec![audit, Write::RemoveToken(id.to_owned())]))
            .await?;
        self.core.accounts().remove(id);
        Ok(())
    }

    /// A page of the audit log, newest first.
    pub async fn audit(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<api::AuditPage, CoreError> {
        self.check(Role::Admin)?;
        let limit = page(limit, 100, MAX_PAGE)?;
        let mut found = self.core.inner().store.audit(before, limit + 1).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = if more {
            found.last().map(|entry| entry.sequence)
        } else {
            None
        };
        let entries = found
            .into_iter()
            .map(|entry| api::Audit {
                sequence: entry.sequence,
                time: entry.time.to_timestamp(),
                who: entry.who,
                action: entry.action,
                subject: entry.subject,
                detail: entry.detail,
                allowed: entry.allowed,
            })
            .collect();
        Ok(api::AuditPage { entries, next })
    }
}

/// Takes away who no longer waits for a task.
struct Waiting<'a> {
    core: &'a Core,
    id: &'a str,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiters = self.core.waiters();
        if let Some(waiting) = waiters.get_mut(self.id) {
            waiting.retain(|waiter| !waiter.is_closed());
            if waiting.is_empty() {
                waiters.remove(self.id);
            }
        }
    }
}

impl From<PushError> for CoreError {
    fn from(error: PushError) -> Self {
        Self::Overloaded(error.to_string())
    }
}

pub(super) fn page(limit: usize, default: usize, most: usize) -> Result<usize, CoreError> {
    match limit {
        0 => Ok(default),
        limit if limit <= most => Ok(limit),
        limit => Err(CoreError::bad(
            format!("limit is {limit}, expected 1 to {most}"),
            "limit",
        )),
    }
}

fn parameter_to_api(record: ParameterRecord) -> api::Parameter {
    api::Parameter {
        path: record.path,
        value: record.value,
        seen: record.seen.to_timestamp(),
    }
}

fn certificate_to_api(certificate: CertificateRecord) -> api::Certificate {
    api::Certificate {
        fingerprint: certificate.fingerprint,
        subject: certificate.subject,
        not_after: certificate.not_after.to_timestamp(),
        first_seen: certificate.first_seen.to_timestamp(),
    }
}

fn device_to_api(
    record: DeviceRecord,
    summary: api::DeviceSummary,
    connections: Vec<api::Connection>,
    subscriptions: Vec<SubscriptionRecord>,
    parameter_count: u64,
) -> api::Device {
    api::Device {
        summary,
        addresses: record
            .addresses
            .into_iter()
            .map(|address| api::Address {
                uri: address.uri,
                secure: address.secure,
                seen: address.seen.to_timestamp(),
            })
            .collect(),
        connections,
        cwmp: record.cwmp.map(|cwmp| api::Cwmp {
            admitted: cwmp.admitted,
            root: cwmp.root,
            version: cwmp.version,
            events: cwmp.events,
            connection_request_url: cwmp.connection_request_url,
            nat_detected: cwmp.nat,
            udp_connection_request_address: cwmp.udp_address.map(|told| told.address),
            binding: cwmp.binding.map(|binding| api::Binding {
                address: binding.at.to_string(),
                local: binding.local.to_string(),
                since: binding.since.to_timestamp(),
                seen: binding.seen.to_timestamp(),
            }),
        }),
        certificate: record.certificate.map(certificate_to_api),
        broker: record.broker.map(certificate_to_api),
        protocol_versions: record.versions,
        subscriptions: subscriptions
            .into_iter()
            .map(|subscription| api::Subscription {
                id: subscription.id,
                notification: subscription.notification,
                paths: subscription.paths,
                state: subscription.state,
                instance: subscription.instance,
                problem: subscription.problem,
            })
            .collect(),
        parameter_count,
        last_failure: record.last_failure.map(Millis::to_timestamp),
        last_failure_reason: record.last_failure_reason,
    }
}
