//! Sessions with an ACS: when, what they say, and what follows from what the ACS wants (TR-069).
//!
//! The machine of the sessions is [`homefleet_cwmp::cpe::Cpe`]. It runs inside of [`Engine::settle`]: what an answer to the ACS promises is
//! on disk before the answer leaves, and when it cannot be written the session is given up instead.

use std::{collections::BTreeMap, time::Instant};

use homefleet_cwmp::{
    DateTime, Event, EventCode, Message, Method, ParameterValues, Value, ValueType,
    cpe::{Config, Cpe, CpeEvent, InformContent, RetryPolicy, Transmit, until_periodic},
    message::{DeviceId, Notification},
    notify::{Author, Effect, Notifications},
};
use homefleet_model::{
    path::{ParamPath, Path},
    tree::Change,
};

use super::{Action, Engine, EngineError, boot::fact};
use crate::{
    cwmp::{
        AcsAction, AcsEvent, AcsLink, CallLogin, CwmpConfig, Discovered, OBJECT, Root, diagnostics,
        schema,
        stored::{Stored, UrlSource, seconds},
    },
    provider::Now,
    random::Random,
    store::{Store, StoreError},
    transport::Secret,
};

mod rpc;
mod transfers;

/// The most parameters that are watched for an ACS.
const MOST_WATCHED: usize = 1000;

/// The methods that are answered.
const METHODS: &[Method] = &[
    Method::SetParameterValues,
    Method::GetParameterValues,
    Method::GetParameterNames,
    Method::SetParameterAttributes,
    Method::GetParameterAttributes,
    Method::AddObject,
    Method::DeleteObject,
    Method::Reboot,
    Method::FactoryReset,
    Method::ScheduleInform,
    Method::Download,
    Method::ScheduleDownload,
    Method::Upload,
    Method::GetQueuedTransfers,
    Method::GetAllQueuedTransfers,
    Method::CancelTransfer,
    Method::ChangeDuState,
    Method::GetOptions,
    Method::SetVouchers,
];

/// The device towards its ACS.
pub(super) struct Cwmp {
    root: Root,
    cpe: Cpe,
    notifications: Notifications,
    stored: Stored,
    /// The fact as it was last written.
    written: String,
    /// The counter of the machine's changes when it was last looked at.
    changes: u64,
    /// What changed besides.
    dirty: bool,
    /// The ACS that the transport was told, and whether it has followed.
    link: Option<AcsLink>,
    ready: bool,
    login: Option<CallLogin>,
    /// `host:port` at which calls arrive.
    address: String,
    /// What is put off until the session is over.
    after: After,
    /// No active notification before that (`DefaultActiveNotificationThrottle`).
    quiet_until: Option<Instant>,
    /// An active notification waits for that.
    held: bool,
    out: Vec<AcsAction>,
    /// A diagnostic test was asked for.
    diagnose: bool,
    /// When the next transfer is due.
    transfer_at: Option<Instant>,
}

/// A factory reset that was promised to the ACS, and that the power cut short, is done before anything else.
pub(super) fn finish_reset(store: &mut Store) -> Result<(), StoreError> {
    let text = store.fact(fact::CWMP)?;
    if text.is_some_and(|text| Stored::parse(&text).reset) {
        store.clear()?;
    }
    Ok(())
}

/// What is put off until the session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
enum After {
    Nothing,
    Reboot(String),
    FactoryReset,
}

impl Cwmp {
    pub(super) fn new(
        now: Now,
        config: &CwmpConfig,
        text: Option<&str>,
        random: &mut Random,
    ) -> Self {
        let stored = text.map(Stored::parse).unwrap_or_default();
        let mut seed = [0; 32];
        for part in seed.chunks_exact_mut(8) {
            part.copy_from_slice(&random.next_u64().to_be_bytes());
        }
        let machine = Config {
            methods: METHODS.to_vec(),
            ..Config::default()
        };
        Self {
            root: config.root,
            cpe: Cpe::new(now.instant, machine, stored.saved(now.wall), seed),
            notifications: Notifications::new(MOST_WATCHED),
            stored,
            written: text.unwrap_or_default().to_owned(),
            changes: 0,
            dirty: true,
            link: None,
            ready: false,
            login: None,
            address: String::new(),
            after: After::Nothing,
            quiet_until: None,
            held: false,
            out: Vec::new(),
            diagnose: false,
            transfer_at: None,
        }
    }

    /// There is an ACS, and the transport knows it.
    fn is_on(&self) -> bool {
        self.link.is_some() && self.ready
    }

    fn timeout(&self) -> Option<Instant> {
        if !self.is_on() {
            return None;
        }
        let held = self.quiet_until.filter(|_| self.held);
        let transfer = self.transfer_at.filter(|_| !self.cpe.is_in_session());
        [self.cpe.poll_timeout(), held, transfer]
            .into_iter()
            .flatten()
            .min()
    }
}

impl std::fmt::Debug for Cwmp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cwmp")
            .field("root", &self.root)
            .field("ready", &self.ready)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Somebody who has proven that the ACS sent it wants a session (TR-069 §3.2.2, TR-111 §2.2.2.3): event `6 CONNECTION REQUEST`. While a
    /// session goes on, the next follows it; several become one.
    pub fn handle_connection_request(&mut self, now: Now) {
        self.cwmp
            .cpe
            .raise(Event::new(EventCode::ConnectionRequest));
        self.settle(now, None);
    }

    /// Something happened between the device and its ACS.
    pub fn handle_acs(&mut self, now: Now, event: AcsEvent) {
        match event {
            AcsEvent::Ready => self.cwmp.ready = true,
            AcsEvent::Address(address) => {
                self.cwmp.address = address;
                self.tell_call_url();
            }
            AcsEvent::Reply(answer) => {
                self.cwmp.cpe.handle_reply(now.instant, answer.as_reply());
            }
            AcsEvent::Called => return self.handle_connection_request(now),
            AcsEvent::File { id, done } => self.file_done(now, id, done),
            AcsEvent::Discovered(found) => self.discovered(&found),
        }
        self.settle(now, None);
    }

    /// A request to the ACS that does not answer anything: RequestDownload, Kicked, AutonomousTransferComplete, GetRPCMethods and their like.
    ///
    /// # Errors
    /// When too many wait, or it is none that a device sends by itself.
    pub fn handle_own_request(
        &mut self,
        now: Now,
        message: Message,
    ) -> Result<(), homefleet_cwmp::cpe::QueueError> {
        self.cwmp.cpe.queue(message, None)?;
        self.settle(now, None);
        Ok(())
    }

    /// At a start: the configuration file's values, what was stored, and the event `1 BOOT`.
    pub(super) fn boot_cwmp(&mut self, now: Now) -> Result<(), EngineError> {
        self.enter_cwmp()?;
        if self.cwmp.stored.call_path.is_empty() {
            let (one, other) = (self.random.next_u64(), self.random.next_u64());
            self.cwmp.stored.call_path = format!("/{one:016x}{other:016x}");
        }
        self.resume_transfers(now);
        self.cwmp.cpe.raise(Event::new(EventCode::Boot));
        self.follow_policy(now);
        let known = self.cwmp.stored.known.clone();
        self.watch_defaults(&known);
        for (path, number) in self.cwmp.stored.attributes.clone() {
            if let Some(notification) = Notification::ALL.get(usize::from(number)) {
                self.watch_for_acs(&path, *notification, &known);
            }
        }
        Ok(())
    }

    /// The values of the configuration file, when it says something else than it did.
    fn enter_cwmp(&mut self) -> Result<(), EngineError> {
        let config = self.settings.cwmp.clone();
        if !config.enabled {
            return Ok(());
        }
        let secret = config.password.as_ref().map(|password| password.reveal());
        let periodic = config.periodic.map(|seconds| seconds.to_string());
        let wanted = serde_json::json!([config.url, config.username, secret, periodic]).to_string();
        if self.store.fact(fact::CWMP_FILE)?.as_deref() == Some(&wanted) {
            return Ok(());
        }
        self.batch.facts.push((fact::CWMP_FILE.into(), wanted));
        self.keep("EnableCWMP", "true");
        if !config.url.is_empty() {
            self.keep("URL", &config.url);
            self.cwmp.stored.source = UrlSource::File;
        }
        self.keep("Username", &config.username);
        self.keep("Password", secret.unwrap_or_default());
        match config.periodic {
            Some(0) => self.keep("PeriodicInformEnable", "false"),
            Some(seconds) => {
                self.keep("PeriodicInformEnable", "true");
                self.keep("PeriodicInformInterval", &seconds.to_string());
            }
            None => {}
        }
        Ok(())
    }

    /// What DHCP says counts where neither the file, nor an ACS or a Controller, has said something else (TR-069 §3.1).
    fn discovered(&mut self, found: &Discovered) {
        if let Some(code) = &found.provisioning_code {
            self.keep_at("Device.DeviceInfo.ProvisioningCode", code);
        }
        for (name, number) in [
            ("CWMPRetryMinimumWaitInterval", found.minimum_wait),
            ("CWMPRetryIntervalMultiplier", found.multiplier),
        ] {
            if let Some(number) = number {
                self.keep(name, &number.to_string());
            }
        }
        let Some(url) = &found.url else { return };
        let own = match self.cwmp.stored.source {
            UrlSource::Nobody | UrlSource::Dhcp => true,
            UrlSource::File | UrlSource::Remote => self.acs_value("URL").is_empty(),
        };
        if !own {
            tracing::debug!("DHCP names an ACS; this device has one already");
            return;
        }
        self.keep("URL", url);
        self.cwmp.stored.source = UrlSource::Dhcp;
        self.cwmp.dirty = true;
    }

    /// Writes a parameter of `Device.ManagementServer.` that lasts.
    pub(super) fn keep(&mut self, name: &str, value: &str) {
        self.keep_at(&format!("{OBJECT}{name}"), value);
    }

    fn keep_at(&mut self, path: &str, value: &str) {
        let written = path
            .parse::<ParamPath>()
            .map_err(|error| error.to_string())
            .and_then(|path| {
                let put = self.device.tree.put_persistent(&path, value);
                put.map_err(|error| error.to_string())
            });
        if let Err(error) = written {
            tracing::error!(path, error, "the tree refused a value about the ACS");
        }
    }

    /// A parameter of `Device.ManagementServer.`, secret or not.
    pub(super) fn acs_value(&self, name: &str) -> &str {
        let path = format!("{OBJECT}{name}").parse::<ParamPath>().ok();
        let value = path.and_then(|path| self.device.tree.reveal(&path).ok());
        value.map_or("", |value| value.as_str())
    }

    /// What an ACS is told at once without having asked.
    fn watch_defaults(&mut self, known: &BTreeMap<String, String>) {
        for path in schema::DEFAULT_ACTIVE {
            if !self.cwmp.stored.attributes.contains_key(*path) {
                self.watch_for_acs(path, Notification::Active, known);
            }
        }
    }

    fn watch_for_acs(
        &mut self,
        path: &str,
        notification: Notification,
        known: &BTreeMap<String, String>,
    ) {
        let Some(value) = self.device.tree.text(path).map(str::to_owned) else {
            return;
        };
        if self
            .cwmp
            .notifications
            .set(path, notification, known.get(path).unwrap_or(&value))
            .is_err()
        {
            tracing::warn!(path, "not watched: too many parameters are");
            return;
        }
        // It may have changed while the device was off.
        let effect = self.cwmp.notifications.changed(path, &value, Author::Other);
        self.take_effect(effect);
    }

    fn take_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Nothing => {}
            Effect::Tell => self.cwmp.cpe.note(Event::new(EventCode::ValueChange)),
            Effect::TellAtOnce if self.cwmp.quiet_until.is_some() => {
                self.cwmp.held = true;
                self.cwmp.cpe.note(Event::new(EventCode::ValueChange));
            }
            Effect::TellAtOnce => self.cwmp.cpe.raise(Event::new(EventCode::ValueChange)),
        }
    }

    /// What the tree's changes mean to the ACS.
    pub(super) fn follow_for_acs(&mut self, now: Now, changes: &[Change], author: Author) {
        let mut policy = false;
        for change in changes {
            match change {
                Change::ValueChanged { path, new, .. } => {
                    let path = path.as_str();
                    policy |= path.starts_with(OBJECT);
                    // Another author's settings are its own affair.
                    self.cwmp.diagnose |= path == diagnostics::STATE && new == "Requested";
                    let effect = self.cwmp.notifications.changed(path, new, author);
                    self.cwmp.dirty |= author == Author::Acs;
                    self.take_effect(effect);
                }
                Change::Deleted { path, .. } => self.forget_attributes(path.as_str()),
                Change::Created { .. } => {}
            }
        }
        if policy {
            self.follow_policy(now);
        }
    }

    /// What was deleted has no attributes any more.
    fn forget_attributes(&mut self, object: &str) {
        let gone: Vec<String> = self
            .cwmp
            .notifications
            .iter()
            .map(|(path, _)| path)
            .chain(self.cwmp.stored.attributes.keys().map(String::as_str))
            .filter(|path| path.starts_with(object))
            .map(str::to_owned)
            .collect();
        for path in gone {
            self.cwmp.notifications.remove(&path);
            self.cwmp.stored.attributes.remove(&path);
            self.cwmp.dirty = true;
        }
    }

    /// When it informs by itself, how it tries again, who may call.
    fn follow_policy(&mut self, now: Now) {
        let number = |engine: &Self, name: &str| engine.acs_value(name).parse::<u32>().ok();
        let minimum_wait = number(self, "CWMPRetryMinimumWaitInterval").unwrap_or(5);
        let multiplier = number(self, "CWMPRetryIntervalMultiplier").unwrap_or(2000);
        self.cwmp.cpe.set_retry_policy(RetryPolicy {
            minimum_wait,
            multiplier,
        });
        let every = number(self, "PeriodicInformInterval")
            .unwrap_or(86_400)
            .max(1);
        let every = std::time::Duration::from_secs(every.into());
        let periodic = (self.acs_value("PeriodicInformEnable") == "true").then(|| {
            let reference = DateTime::parse(self.acs_value("PeriodicInformTime"));
            let reference = reference.unwrap_or(DateTime::UNKNOWN);
            (reference, every)
        });
        let random = self.random.next_u32();
        self.cwmp
            .cpe
            .set_periodic(periodic.map(|(reference, every)| {
                let wait = until_periodic(date_time(now), reference, every, random);
                (now.instant + wait, every)
            }));
    }

    /// The ACS that the tree names, from the end of the session on.
    fn follow_acs(&mut self, now: Now) {
        let login = CallLogin {
            path: self.cwmp.stored.call_path.clone(),
            username: self.acs_value("ConnectionRequestUsername").to_owned(),
            password: Secret::new(self.acs_value("ConnectionRequestPassword")),
            enabled: self.acs_value("HTTPConnectionRequestEnable") == "true"
                && !self.acs_value("ConnectionRequestUsername").is_empty(),
        };
        if self.cwmp.login.as_ref() != Some(&login) {
            self.cwmp.login = Some(login.clone());
            self.cwmp.out.push(AcsAction::Listen(login));
        }
        if self.cwmp.is_on() && self.cwmp.cpe.is_in_session() {
            return;
        }
        let url = self.acs_value("URL");
        let on = self.acs_value("EnableCWMP") == "true" && !url.is_empty();
        let link = on.then(|| AcsLink {
            url: url.to_owned(),
            username: self.acs_value("Username").to_owned(),
            password: Secret::new(self.acs_value("Password")),
        });
        if link == self.cwmp.link {
            return;
        }
        let is_another = link.as_ref().is_some_and(|link| {
            let before = self.cwmp.link.as_ref().map(|link| &link.url);
            before != Some(&link.url) && link.url != self.cwmp.stored.bootstrapped
        });
        if is_another {
            // TR-069 §3.7.1.5: the first session with this ACS. What another ACS asked to be told is not this one's.
            self.cwmp.cpe.raise(Event::new(EventCode::Bootstrap));
            let active = |path: &String| schema::DEFAULT_ACTIVE.contains(&path.as_str());
            self.cwmp.stored.attributes.retain(|path, _| !active(path));
            self.watch_defaults(&BTreeMap::new());
            self.cwmp.dirty = true;
            self.follow_policy(now);
            // What is looked at follows what is told.
            self.reload_subscriptions(now);
        }
        self.cwmp.link.clone_from(&link);
        self.cwmp.ready = false;
        self.cwmp.out.push(AcsAction::Connect(link));
    }

    fn tell_call_url(&mut self) {
        let url = match self.cwmp.address.as_str() {
            "" => String::new(),
            address => format!("http://{address}{}", self.cwmp.stored.call_path),
        };
        // It lasts: the same address after a restart is no change.
        self.keep("ConnectionRequestURL", &url);
    }

    /// Lets sessions go on; part of settling.
    pub(super) fn run_cwmp(&mut self, now: Now) {
        self.follow_acs(now);
        self.begin_what_waits(now);
        while self.cwmp.is_on()
            && let Some(event) = self.cwmp.cpe.poll_event()
        {
            match event {
                CpeEvent::Starting => {
                    let content = self.inform_content(now);
                    // It is starting.
                    self.cwmp.cpe.begin(now.instant, content).ok();
                }
                CpeEvent::Informed { delivered, version } => {
                    tracing::debug!(?delivered, %version, "informed");
                    self.informed(now, &delivered);
                }
                CpeEvent::Request(request) => {
                    tracing::info!(method = request.name(), "the ACS asks");
                    let answer = self.answer_acs(now, request);
                    if let Message::Fault(fault) = &answer {
                        tracing::info!(code = %fault.code, "refused");
                    }
                    if self.cwmp.cpe.respond(now.instant, answer).is_err() {
                        tracing::error!("an answer that does not fit its request");
                        self.cwmp.cpe.abort(now.instant);
                    }
                }
                CpeEvent::Answered { response, .. } => {
                    tracing::debug!(method = response.name(), "answered");
                }
                CpeEvent::Refused { fault, .. } => {
                    tracing::warn!(code = %fault.code, "the ACS refuses a request");
                }
                CpeEvent::Ended => self.session_over(now),
                CpeEvent::Failed { reason, wait } => {
                    tracing::info!(%reason, ?wait, "the session with the ACS failed");
                    self.cwmp.notifications.failed();
                    self.session_over(now);
                }
            }
        }
        self.cwmp.transfer_at = self.next_transfer(now);
        while let Some(transmit) = self.cwmp.cpe.poll_transmit() {
            self.cwmp.out.push(match transmit {
                Transmit::Post(body) => AcsAction::Post(body),
                Transmit::Close => AcsAction::Close,
            });
        }
        self.store_cwmp(now);
    }

    /// What the Inform told is delivered.
    fn informed(&mut self, now: Now, delivered: &[Event]) {
        let has = |code| delivered.iter().any(|event| event.code == code);
        if has(EventCode::Bootstrap)
            && let Some(link) = &self.cwmp.link
        {
            self.cwmp.stored.bootstrapped.clone_from(&link.url);
        }
        if has(EventCode::ValueChange) {
            let throttle = self.acs_value("DefaultActiveNotificationThrottle");
            let throttle: u64 = throttle.parse().unwrap_or(0);
            self.cwmp.quiet_until =
                (throttle > 0).then(|| now.instant + std::time::Duration::from_secs(throttle));
        }
        self.cwmp.dirty = true;
        if self.cwmp.notifications.delivered() {
            self.cwmp.cpe.note(Event::new(EventCode::ValueChange));
        }
    }

    /// What was put off is done.
    fn session_over(&mut self, now: Now) {
        match std::mem::replace(&mut self.cwmp.after, After::Nothing) {
            After::Nothing => {}
            After::Reboot(key) => self.restart_for_acs("Device.Reboot()", &key),
            After::FactoryReset => self.restart_for_acs("Device.FactoryReset()", ""),
        }
        self.follow_acs(now);
        self.begin_what_waits(now);
    }

    /// The fact, when it is another.
    fn store_cwmp(&mut self, now: Now) {
        let changes = self.cwmp.cpe.changes();
        if changes == self.cwmp.changes && !self.cwmp.dirty {
            return;
        }
        self.cwmp.changes = changes;
        self.cwmp.dirty = false;
        let saved = self.cwmp.cpe.saved(now.instant);
        self.cwmp.stored.keep(&saved, now.wall);
        let known = self.cwmp.notifications.iter();
        self.cwmp.stored.known = known
            .map(|(path, watched)| (path.to_owned(), watched.known.clone()))
            .collect();
        let text = self.cwmp.stored.to_text();
        if text != self.cwmp.written {
            self.batch.facts.push((fact::CWMP.into(), text.clone()));
            self.cwmp.written = text;
        }
    }

    /// What is to be done leaves, once it is written; else nothing is promised.
    pub(super) fn release_cwmp(&mut self, now: Now, written: bool) {
        let posts = |out: &[AcsAction]| out.iter().any(|a| matches!(a, AcsAction::Post(_)));
        if !written && posts(&self.cwmp.out) {
            tracing::warn!("the session with the ACS is given up: the state could not be written");
            self.cwmp
                .out
                .retain(|action| !matches!(action, AcsAction::Post(_)));
            self.cwmp.cpe.abort(now.instant);
            while let Some(transmit) = self.cwmp.cpe.poll_transmit() {
                if transmit == Transmit::Close {
                    self.cwmp.out.push(AcsAction::Close);
                }
            }
        }
        let out = std::mem::take(&mut self.cwmp.out);
        self.actions.extend(out.into_iter().map(Action::Acs));
    }

    /// Time has passed.
    pub(super) fn run_cwmp_timers(&mut self, now: Now) {
        if self.cwmp.quiet_until.is_some_and(|at| at <= now.instant) {
            self.cwmp.quiet_until = None;
            if std::mem::take(&mut self.cwmp.held) {
                self.cwmp.cpe.raise(Event::new(EventCode::ValueChange));
            }
        }
        if self.cwmp.is_on() {
            self.cwmp.cpe.handle_timeout(now.instant);
        }
    }

    /// What the ACS wants to be told of and has to be looked at.
    pub(super) fn watched_for_acs(&self) -> Vec<Path> {
        let set = self.cwmp.stored.attributes.iter();
        let told = set.filter(|(_, number)| **number != 0);
        let told = told.map(|(path, _)| path.as_str());
        // Of what is told by default, only this changes without somebody who sets it.
        let gateway = schema::DEFAULT_ACTIVE.iter().copied();
        let gateway = gateway.filter(|path| path.starts_with("Device.GatewayInfo."));
        let gateway = gateway.filter(|path| {
            !self.cwmp.stored.attributes.contains_key(*path)
                && self.device.tree.text(path).is_some()
        });
        told.chain(gateway)
            .filter_map(|path| Path::parse(path).ok())
            .collect()
    }

    pub(super) fn cwmp_timeout(&self) -> Option<Instant> {
        self.cwmp.timeout()
    }

    /// Who the device is, and what is always told, with what has changed.
    fn inform_content(&mut self, now: Now) -> InformContent {
        let root = self.cwmp.root;
        let mut values = ParameterValues::new();
        for (name, text) in root.constants(root.name()) {
            values.push(name, Value::string(text));
        }
        let changed = self.cwmp.notifications.include();
        let changed = changed.iter().map(|(path, _)| path.as_str());
        let changed: Vec<&str> = changed
            .filter(|path| !schema::FORCED.contains(path))
            .collect();
        for path in schema::FORCED.iter().copied().chain(changed) {
            let Ok(parsed) = path.parse::<ParamPath>() else {
                continue;
            };
            if let (Some(name), Ok(value)) = (root.outward(path), self.device.tree.get(&parsed)) {
                let kind = ValueType::of(value.ty());
                let text = value.as_str();
                values.push(&name, Value { kind, text });
            }
        }
        let own = |name: &str| {
            let text = self.device.tree.text(&format!("Device.DeviceInfo.{name}"));
            text.unwrap_or_default().to_owned()
        };
        let or = |text: String, other: Option<String>| match text.is_empty() {
            true => other.unwrap_or_default(),
            false => text,
        };
        InformContent {
            device: DeviceId {
                manufacturer: own("Manufacturer"),
                oui: or(own("ManufacturerOUI"), crate::identity::oui()),
                product_class: own("ProductClass"),
                serial_number: or(own("SerialNumber"), crate::identity::serial_number()),
            },
            current_time: date_time(now),
            values,
        }
    }
}

fn date_time(now: Now) -> DateTime {
    DateTime::from_unix(i64::try_from(seconds(now.wall)).unwrap_or(i64::MAX))
}
