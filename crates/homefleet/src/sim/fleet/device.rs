//! The life of one device.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use homefleet_cwmp::cpe::{
    Config, Cpe, CpeEvent, Failure, InformContent, Saved, Transmit, until_periodic,
};
use homefleet_cwmp::message::{DeviceId, TransferComplete, TransferFault};
use homefleet_cwmp::{DateTime, Event, EventCode, Fault, FaultCode, Message, Method};
use homefleet_net::cwmp::{Client, ClientConfig};
use tokio::sync::{mpsc, watch};

use super::answer::{Follows, METHODS, answer};
use super::chance::Chance;
use super::model::{Place, Root, Values};
use super::{Cut, Shared, lock};

/// Most things that a device has in mind: transfers, restarts.
const MOST_DUE: usize = 64;

/// A device: what of it stays without power, and its ways to the world.
pub(super) struct Device {
    shared: Arc<Shared>,
    chance: Chance,
    values: Values,
    saved: Saved,
    /// Its path for Connection Requests.
    path: String,
    wake: mpsc::Sender<()>,
    calls: mpsc::Receiver<()>,
    power: watch::Receiver<Option<Cut>>,
    /// The ACS has answered it.
    contacted: bool,
    /// Since when it wants to be back after a power failure.
    missing_since: Option<Instant>,
}

/// Why a device is off.
enum Off {
    /// It restarts because of these.
    Restart(Vec<Event>),
    /// As it left the factory.
    Reset,
    /// The power failed.
    Cut,
}

/// What a device has in mind.
enum Due {
    Change,
    Restart,
    Transfer(Method, String),
}

impl Device {
    pub(super) fn new(shared: Arc<Shared>, values: Values, path: String) -> Self {
        let (wake, calls) = mpsc::channel(1);
        Self {
            chance: Chance::new(values.about().seed),
            power: shared.power.subscribe(),
            shared,
            values,
            saved: Saved::default(),
            path,
            wake,
            calls,
            contacted: false,
            missing_since: None,
        }
    }

    /// Lives until the fleet is dropped.
    pub(super) async fn live(mut self) {
        let plan = self.shared.plan.clone();
        tokio::time::sleep(self.chance.within(plan.ramp)).await;
        let mut why = vec![Event::new(EventCode::Boot)];
        if !plan.known {
            why.push(Event::new(EventCode::Bootstrap));
        }
        loop {
            lock(&self.shared.stats).powered += 1;
            let (off, was_in_session) = Powered::new(&mut self, why).run().await;
            self.shared.calls.remove(&self.path);
            {
                let mut stats = lock(&self.shared.stats);
                stats.powered -= 1;
                stats.in_session -= u64::from(was_in_session);
                match off {
                    Off::Restart(_) => stats.reboots += 1,
                    Off::Reset => stats.resets += 1,
                    Off::Cut => stats.outages += 1,
                }
            }
            why = vec![Event::new(EventCode::Boot)];
            match off {
                Off::Restart(more) => {
                    why.extend(more);
                    tokio::time::sleep(plan.restart_takes).await;
                }
                Off::Reset => {
                    self.values.reset();
                    self.saved = Saved::default();
                    why.push(Event::new(EventCode::Bootstrap));
                    tokio::time::sleep(plan.restart_takes).await;
                }
                Off::Cut => {
                    let cut = *self.power.borrow_and_update();
                    if let Some(cut) = cut {
                        let again = cut.again();
                        self.missing_since = Some(again);
                        let again = again + self.chance.within(cut.spread);
                        tokio::time::sleep_until(again.into()).await;
                    }
                }
            }
        }
    }
}

/// A device with power.
struct Powered<'d> {
    device: &'d mut Device,
    machine: Cpe,
    client: Client,
    /// What its logins and its period were when they were last looked at.
    settings: Settings,
    since: Instant,
    due: Vec<(Instant, Due)>,
    /// What follows when the session is over.
    follows: Vec<Follows>,
    /// Parameters whose change is to be told.
    changed: Vec<&'static str>,
    session: Option<Instant>,
    /// In this session it breaks off before so many more POSTs.
    breaks_in: Option<u32>,
}

#[derive(Clone, PartialEq, Eq, Default)]
struct Settings {
    url: String,
    username: String,
    password: String,
    called_by: (String, String),
    period: Option<(u64, DateTime)>,
}

impl<'d> Powered<'d> {
    fn new(device: &'d mut Device, why: Vec<Event>) -> Self {
        let now = Instant::now();
        let config = Config {
            methods: METHODS.to_vec(),
            retry: device.shared.plan.retry,
            ..Config::default()
        };
        let seed = device.chance.seed();
        let saved = std::mem::take(&mut device.saved);
        let mut machine = Cpe::new(now, config, saved, seed);
        for event in why {
            machine.raise(event);
        }
        let client = device.shared.first_client(seed);
        let mut powered = Self {
            machine,
            client,
            settings: Settings::default(),
            since: now,
            due: Vec::new(),
            follows: Vec::new(),
            changed: Vec::new(),
            session: None,
            breaks_in: None,
            device,
        };
        let plan = powered.device.shared.plan.clone();
        for (mean, due) in [
            (plan.change_every, Due::Change),
            (plan.restart_every, Due::Restart),
        ] {
            if let Some(mean) = mean {
                let wait = powered.device.chance.wait(mean);
                powered.due.push((now + wait, due));
            }
        }
        powered.settle();
        powered
    }

    /// Until it is off; and whether it was in a session then.
    async fn run(mut self) -> (Off, bool) {
        loop {
            if let Some(off) = self.events() {
                return self.off(off);
            }
            let off = match self.machine.poll_transmit() {
                Some(Transmit::Post(body)) => self.post(body).await,
                Some(Transmit::Close) => {
                    self.client.close();
                    None
                }
                None => self.wait().await,
            };
            if let Some(off) = off {
                return self.off(off);
            }
        }
    }

    /// What stays is put away.
    fn off(self, off: Off) -> (Off, bool) {
        self.device.saved = self.machine.saved(Instant::now());
        (off, self.session.is_some())
    }

    /// Does what the machine's events ask for.
    fn events(&mut self) -> Option<Off> {
        while let Some(event) = self.machine.poll_event() {
            match event {
                CpeEvent::Starting => self.begin(),
                CpeEvent::Informed { delivered, .. } => self.informed(&delivered),
                CpeEvent::Request(message) => self.request(message),
                CpeEvent::Answered { response, .. } => {
                    let mut stats = lock(&self.device.shared.stats);
                    stats.answered += 1;
                    // What another response than that to the Inform confirms.
                    if let Message::TransferCompleteResponse(_) = response {
                        stats.taken(&EventCode::TransferComplete);
                    }
                }
                CpeEvent::Refused { .. } => lock(&self.device.shared.stats).refused += 1,
                CpeEvent::Ended => {
                    let took = self.session.take().map(|began| began.elapsed());
                    let mut stats = lock(&self.device.shared.stats);
                    stats.in_session -= 1;
                    stats.completed += 1;
                    stats.session.add(took.unwrap_or_default());
                    drop(stats);
                    if let Some(off) = self.after() {
                        return Some(off);
                    }
                }
                CpeEvent::Failed { reason, .. } => {
                    let began = self.session.take();
                    let mut stats = lock(&self.device.shared.stats);
                    stats.in_session -= u64::from(began.is_some());
                    *stats.failed.entry(word(&reason)).or_default() += 1;
                    drop(stats);
                    if let Some(off) = self.after() {
                        return Some(off);
                    }
                }
            }
        }
        None
    }

    fn begin(&mut self) {
        let now = Instant::now();
        let about = self.device.values.about();
        let content = InformContent {
            device: DeviceId {
                manufacturer: "Homefleet".to_owned(),
                oui: about.oui.to_string(),
                product_class: about.class.to_string(),
                serial_number: about.serial.clone(),
            },
            current_time: SystemTime::now().into(),
            values: self.device.values.informed(&self.changed, self.place()),
        };
        if self.machine.begin(now, content).is_err() {
            return;
        }
        self.session = Some(now);
        let breaks = self.device.shared.plan.breaks;
        self.breaks_in = self.device.chance.happens(breaks).then(|| {
            // Before the Inform, after it, or somewhat later.
            u32::try_from(self.device.chance.bits() % 4).unwrap_or(0)
        });
        let mut stats = lock(&self.device.shared.stats);
        stats.begun += 1;
        stats.in_session += 1;
    }

    fn informed(&mut self, delivered: &[Event]) {
        let now = Instant::now();
        self.changed.clear();
        let mut stats = lock(&self.device.shared.stats);
        if let Some(began) = self.session {
            stats.inform.add(now - began);
        }
        delivered.iter().for_each(|event| stats.taken(&event.code));
        if !std::mem::replace(&mut self.device.contacted, true) {
            stats.contacted += 1;
        }
        if let Some(since) = self.device.missing_since.take() {
            stats.back(now.saturating_duration_since(since));
        }
    }

    fn request(&mut self, message: Message) {
        let name = message.name();
        let faults = self.device.shared.plan.faults;
        let place = self.place();
        let (answer, follows) = match self.device.chance.happens(faults) {
            true => (
                Fault::new(FaultCode::INTERNAL_ERROR).into(),
                Follows::Nothing,
            ),
            false => answer(&mut self.device.values, message, place),
        };
        let mut stats = lock(&self.device.shared.stats);
        *stats.requests.entry(name).or_default() += 1;
        if let Message::Fault(fault) = &answer {
            *stats.faults.entry(fault.code.0).or_default() += 1;
        }
        drop(stats);
        if follows != Follows::Nothing && self.follows.len() < MOST_DUE {
            self.follows.push(follows);
        }
        // The machine has asked; nothing else can have come between.
        let _answered = self.machine.respond(Instant::now(), answer);
    }

    /// What was put off until the session is over.
    fn after(&mut self) -> Option<Off> {
        let now = Instant::now();
        let mut off = None;
        for follows in std::mem::take(&mut self.follows) {
            match follows {
                Follows::Nothing => {}
                Follows::Settings => self.settle(),
                Follows::Reboot(key) => {
                    let event = Event::of(Method::Reboot, key);
                    match &mut off {
                        Some(Off::Restart(events)) => events.push(event),
                        Some(_) => {}
                        None => off = Some(Off::Restart(vec![event])),
                    }
                }
                Follows::Reset => off = Some(Off::Reset),
                // More than a device schedules is forgotten, as its answer to the ACS cannot be taken back.
                Follows::Inform(after, key) => drop(self.machine.schedule(now, after, key)),
                Follows::Transfer(method, after, key) if self.due.len() < MOST_DUE => {
                    let at = now + after + self.device.shared.plan.transfer_takes;
                    self.due.push((at, Due::Transfer(method, key)));
                }
                Follows::Transfer(..) => {}
            }
        }
        off
    }

    /// Takes over what the ACS may have set about itself.
    fn settle(&mut self) {
        let now = Instant::now();
        let place = self.place();
        let own = |name: &str| {
            let name = format!("ManagementServer.{name}");
            self.device.values.own(&name, place)
        };
        let period = own("PeriodicInformInterval").parse().unwrap_or(0);
        let enabled = own("PeriodicInformEnable") == "1" || own("PeriodicInformEnable") == "true";
        let reference = DateTime::parse(&own("PeriodicInformTime")).unwrap_or(DateTime::UNKNOWN);
        let settings = Settings {
            url: own("URL"),
            username: own("Username"),
            password: own("Password"),
            called_by: (
                own("ConnectionRequestUsername"),
                own("ConnectionRequestPassword"),
            ),
            period: (enabled && period > 0).then_some((period, reference)),
        };
        let before = std::mem::replace(&mut self.settings, settings);
        let settings = &self.settings;
        if before.period != settings.period {
            let random = u32::try_from(self.device.chance.bits() >> 32).unwrap_or(0);
            self.machine
                .set_periodic(settings.period.map(|(seconds, reference)| {
                    let every = Duration::from_secs(seconds);
                    let first = until_periodic(SystemTime::now().into(), reference, every, random);
                    (now + first, every)
                }));
        }
        let (username, password) = settings.called_by.clone();
        self.device
            .shared
            .calls
            .set(&self.device.path, username, password, &self.device.wake);
        let login = |settings: &Settings| (settings.username.clone(), settings.password.clone());
        if before.url != settings.url || login(&before) != login(settings) {
            let moved = !before.url.is_empty() && before.url != settings.url;
            self.client = client(self.device, &self.settings);
            if moved {
                self.machine.raise(Event::new(EventCode::Bootstrap));
            }
        }
    }

    /// Sends a POST, and takes what comes of it.
    async fn post(&mut self, body: Vec<u8>) -> Option<Off> {
        if let Some(left) = &mut self.breaks_in {
            if *left == 0 {
                self.breaks_in = None;
                self.client.close();
                self.machine.abort(Instant::now());
                return None;
            }
            *left -= 1;
        }
        let post = self.client.post(body);
        tokio::pin!(post);
        let answer = loop {
            tokio::select! {
                answer = &mut post => break answer,
                Some(()) = self.device.calls.recv() => {
                    lock(&self.device.shared.stats).calls += 1;
                    self.machine.raise(Event::new(EventCode::ConnectionRequest));
                }
                _ = self.device.power.changed() => return Some(Off::Cut),
            }
        };
        self.machine.handle_reply(Instant::now(), answer.as_reply());
        None
    }

    /// Waits for what comes next, between sessions.
    async fn wait(&mut self) -> Option<Off> {
        let due = self.due.iter().map(|(at, _)| *at);
        let next = due.chain(self.machine.poll_timeout()).min();
        let next = next.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            Some(()) = self.device.calls.recv() => {
                lock(&self.device.shared.stats).calls += 1;
                self.machine.raise(Event::new(EventCode::ConnectionRequest));
                return None;
            }
            _ = self.device.power.changed() => return Some(Off::Cut),
            () = tokio::time::sleep_until(next.into()) => {}
        }
        let now = Instant::now();
        self.machine.handle_timeout(now);
        let mut off = None;
        let due = std::mem::take(&mut self.due);
        for (at, what) in due {
            match at <= now {
                true => off = self.happens(now, what).or(off),
                false => self.due.push((at, what)),
            }
        }
        off
    }

    fn happens(&mut self, now: Instant, what: Due) -> Option<Off> {
        let plan = self.device.shared.plan.clone();
        match what {
            Due::Change => {
                let name = match plan.root {
                    Root::Device | Root::Usp => "IP.Interface.1.IPv4Address.1.IPAddress",
                    Root::InternetGatewayDevice => {
                        "WANDevice.1.WANConnectionDevice.1.WANIPConnection.1.ExternalIPAddress"
                    }
                };
                let [a, b, c, ..] = self.device.chance.bits().to_be_bytes();
                self.device.values.change(name, format!("100.{a}.{b}.{c}"));
                // Every Inform tells it of the older model anyway.
                if plan.root != Root::InternetGatewayDevice && !self.changed.contains(&name) {
                    self.changed.push(name);
                }
                self.machine.raise(Event::new(EventCode::ValueChange));
                let wait = self
                    .device
                    .chance
                    .wait(plan.change_every.unwrap_or_default());
                self.due.push((now + wait, Due::Change));
            }
            Due::Restart => return Some(Off::Restart(Vec::new())),
            Due::Transfer(method, key) => {
                let failed = self.device.chance.happens(plan.faults);
                let fault = match failed {
                    true => TransferFault {
                        code: FaultCode::TRANSFER_CONTACT,
                        text: FaultCode::TRANSFER_CONTACT.text().to_owned(),
                    },
                    false => TransferFault::default(),
                };
                let complete = TransferComplete {
                    command_key: key,
                    fault,
                    start_time: SystemTime::now().into(),
                    complete_time: SystemTime::now().into(),
                };
                let queued = self.machine.queue(complete.into(), Some(method)).is_ok();
                let mut stats = lock(&self.device.shared.stats);
                match failed || !queued {
                    true => stats.failed_transfers += 1,
                    false => stats.transfers += 1,
                }
            }
        }
        None
    }

    fn place(&self) -> Place {
        Place {
            uptime: self.since.elapsed().as_secs(),
            now: SystemTime::now().into(),
        }
    }
}

/// A client with the login that is set, or else the first one; to the ACS that is set, or else where it began.
fn client(device: &mut Device, settings: &Settings) -> Client {
    let plan = &device.shared.plan;
    let mut config = ClientConfig::new(plan.acs.to_string());
    config.username = plan.username.to_string();
    config.password = plan.password.clone();
    if !settings.username.is_empty() {
        config.username.clone_from(&settings.username);
    }
    if !settings.password.is_empty() {
        config.password = settings.password.as_str().into();
    }
    if !settings.url.is_empty() {
        config.url.clone_from(&settings.url);
    }
    config.tls.clone_from(&plan.tls);
    config.timeout = plan.timeout;
    let seed = device.chance.seed();
    match Client::new(config, seed) {
        Ok(client) => client,
        // It was set to what is no URL: the device stays where it was.
        Err(_) => device.shared.first_client(seed),
    }
}

/// A reason as it is counted: without what is different each time.
fn word(reason: &Failure) -> String {
    match reason {
        Failure::Malformed(_) => "the answer is no SOAP".to_owned(),
        Failure::Aborted => "broken off by the device".to_owned(),
        other => other.to_string(),
    }
}
