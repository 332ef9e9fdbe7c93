//! The life of one simulated Agent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use homefleet_coap::Scheme;
use homefleet_net::mtp::websocket::Limits;
use homefleet_net::mtp::{
    Channel, CoapMtp, CoapMtpConfig, Event, Greeter, Interface, Mtps, Outgoing, Route,
    WebSocketConnection, WebSocketMtp, WebSocketMtpConfig,
};
use homefleet_net::{dtls, tls};
use homefleet_usp::message::{Body, Message, Request, Response, notify};
use homefleet_usp::mtp::websocket;
use homefleet_usp::proto::msg::{self, notify::Notification};
use homefleet_usp::record::RecordBody;
use homefleet_usp::{EndpointId, ErrorCode, Record};
use tokio::sync::mpsc;

use super::requests::{VERSIONS, answer};
use super::{Shared, Way};
use crate::sim::fleet::{Chance, Place, Values};

/// The table of subscriptions.
const SUBSCRIPTIONS: &str = "Device.LocalAgent.Subscription.";
/// What of an Agent changes by itself.
const CHANGES: &str = "IP.Interface.1.IPv4Address.1.IPAddress";
/// How long an answer may take before it is asked again.
const PATIENCE: Duration = Duration::from_secs(30);
/// The wait before a channel that could not be opened is opened again.
const AGAIN: Duration = Duration::from_secs(5);

/// An Agent: what of it stays without power.
pub(super) struct Device {
    shared: Arc<Shared>,
    chance: Chance,
    values: Values,
    id: EndpointId,
    onboarded: bool,
    missing_since: Option<Instant>,
}

/// Says the Connect Record (R-MTP.6).
struct Greets {
    from: EndpointId,
    to: EndpointId,
    route: Route,
}

impl Greeter for Greets {
    fn greet(&self, _: &Channel) -> Vec<Outgoing> {
        let body = RecordBody::WebSocketConnect;
        vec![Outgoing {
            record: Record::with(self.to.clone(), self.from.clone(), body).encode(),
            route: self.route.clone(),
            endpoint_id: self.to.clone(),
        }]
    }
}

/// Why it is off.
enum Off {
    Restart,
    Cut,
    /// Nothing could be opened.
    Failed(String),
}

impl Device {
    pub(super) fn new(shared: Arc<Shared>, values: Values, id: EndpointId) -> Self {
        Self {
            chance: Chance::new(values.about().seed),
            shared,
            values,
            id,
            onboarded: false,
            missing_since: None,
        }
    }

    /// Lives until the fleet is dropped.
    pub(super) async fn live(mut self) {
        tokio::time::sleep(self.chance.within(self.shared.plan.ramp)).await;
        let mut power = self.shared.power.subscribe();
        loop {
            let off = tokio::select! {
                off = self.powered() => off,
                _ = power.changed() => Off::Cut,
            };
            match off {
                Off::Restart => {
                    self.shared.count(|stats| stats.restarts += 1);
                    tokio::time::sleep(self.shared.plan.restart_takes).await;
                }
                Off::Cut => {
                    self.shared.count(|stats| stats.outages += 1);
                    let cut = *power.borrow_and_update();
                    if let Some(cut) = cut {
                        self.missing_since = Some(cut.again());
                        let again = cut.again() + self.chance.within(cut.spread);
                        tokio::time::sleep_until(again.into()).await;
                    }
                }
                Off::Failed(reason) => {
                    self.shared
                        .count(|stats| *stats.failed.entry(reason).or_default() += 1);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn powered(&mut self) -> Off {
        let (events, inbox) = mpsc::channel(64);
        let since = Instant::now();
        let opened = self.open(events).await;
        let (mtps, route) = match opened {
            Ok(opened) => opened,
            Err(reason) => return Off::Failed(reason),
        };
        let boot = self.onboarded;
        let mut powered = Powered {
            device: self,
            mtps,
            route,
            inbox,
            since,
            asked: HashMap::new(),
            next: 0,
            boot,
        };
        powered.run().await
    }

    /// Its way to the Controller.
    async fn open(&self, events: mpsc::Sender<Event>) -> Result<(Mtps, Route), String> {
        let plan = &self.shared.plan;
        let credentials = self.shared.credentials(&self.id)?;
        let verifier = self.shared.verifier.clone();
        let mut mtps = Mtps::default();
        let route = match &plan.way {
            Way::Coap(uri) => {
                let any = plan.local;
                let mtp = CoapMtp::bind(CoapMtpConfig {
                    endpoint_id: self.id.clone(),
                    interface: Interface::Agent,
                    listen: any,
                    plain_listen: (uri.scheme == Scheme::Coap).then_some(any),
                    groups: Vec::new(),
                    path: "usp".to_owned(),
                    advertise: None,
                    credentials,
                    verifier,
                    coap: homefleet_coap::Config::default(),
                    dtls: dtls::Config::default(),
                    events,
                });
                mtps.coap = Some(mtp.await.map_err(|error| error.to_string())?);
                Route::Coap(uri.clone())
            }
            Way::WebSocket {
                secure,
                host,
                port,
                path,
            } => {
                let secure = *secure;
                let route = Route::WebSocket { secure };
                let greeter = Arc::new(Greets {
                    from: self.id.clone(),
                    to: plan.controller.clone(),
                    route: route.clone(),
                });
                let tls = tls::Tls::new(&credentials, verifier);
                let mtp = WebSocketMtp::new(WebSocketMtpConfig {
                    endpoint_id: self.id.clone(),
                    events,
                    greeter,
                    tls: Some(tls.map_err(|error| error.to_string())?),
                    allow_plain: !secure,
                    session: websocket::Config::default(),
                    limits: Limits::default(),
                });
                let connection = WebSocketConnection {
                    endpoint_id: Some(plan.controller.clone()),
                    ..WebSocketConnection::new(host, *port, path, secure)
                };
                mtp.open("controller", connection);
                mtps.websocket = Some(mtp);
                route
            }
        };
        Ok((mtps, route))
    }
}

/// An Agent with power.
struct Powered<'d> {
    device: &'d mut Device,
    mtps: Mtps,
    route: Route,
    inbox: mpsc::Receiver<Event>,
    since: Instant,
    /// Notifications without an answer, and what they are.
    asked: HashMap<String, (Instant, &'static str)>,
    next: u64,
    /// That it has started is still to be told.
    boot: bool,
}

impl Powered<'_> {
    async fn run(&mut self) -> Off {
        let plan = self.device.shared.plan.clone();
        let now = Instant::now();
        let chance = &mut self.device.chance;
        let mut periodic = (!plan.period.is_zero()).then(|| now + chance.within(plan.period));
        let mut change = plan.change_every.map(|mean| now + chance.wait(mean));
        let restart = plan.restart_every.map(|mean| now + chance.wait(mean));
        let mut onboard = Some(now);
        if self.device.onboarded {
            onboard = None;
        }
        // Over WebSocket there is nothing to say before the channel is there.
        let mut up = matches!(self.route, Route::Coap(_));
        loop {
            if up && self.boot {
                self.tell_boot().await;
            }
            let waiting = onboard.filter(|_| up);
            let times = [
                waiting,
                periodic.filter(|_| up),
                change.filter(|_| up),
                restart,
            ];
            let lost = self.asked.values().map(|(at, _)| *at + PATIENCE).min();
            let next = times.into_iter().flatten().chain(lost).min();
            let next = next.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            let event = tokio::select! {
                event = self.inbox.recv() => event,
                () = tokio::time::sleep_until(next.into()) => None,
            };
            match event {
                Some(Event::Up(_)) => {
                    up = true;
                    self.device.shared.count(|stats| stats.connections += 1);
                }
                Some(Event::Down { .. }) => {
                    up = false;
                    self.asked.clear();
                    if !self.device.onboarded {
                        onboard = Some(Instant::now());
                    }
                }
                Some(Event::Record { record, .. }) => {
                    if self.record(&record).await {
                        return Off::Restart;
                    }
                    if self.device.onboarded {
                        onboard = None;
                    }
                }
                Some(_) => self.device.shared.count(|stats| stats.erroneous += 1),
                None => {}
            }
            let now = Instant::now();
            let before = self.asked.len();
            self.asked.retain(|_, (at, _)| now - *at < PATIENCE);
            let lost = before - self.asked.len();
            if lost > 0 {
                self.device.shared.count(|stats| stats.lost += lost as u64);
            }
            let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
            if due(restart) {
                return Off::Restart;
            }
            if !up {
                continue;
            }
            if due(onboard) {
                onboard = Some(now + PATIENCE);
                self.onboard().await;
            }
            if due(periodic) {
                periodic = Some(now + plan.period);
                self.tell_event("Device.LocalAgent.", "Periodic!", "Periodic!")
                    .await;
            }
            if due(change) {
                change = plan
                    .change_every
                    .map(|mean| now + self.device.chance.wait(mean));
                self.tell_change().await;
            }
        }
    }

    /// Something of the Controller. Whether the device restarts.
    async fn record(&mut self, record: &Record) -> bool {
        let Some(message) = record
            .message()
            .and_then(|bytes| Message::decode(bytes).ok())
        else {
            return false;
        };
        match message.body {
            Body::Response(Response::NotifyResp(_)) => {
                if let Some((at, what)) = self.asked.remove(message.id.as_str()) {
                    self.answered(at, what);
                }
                false
            }
            Body::Request(request) => {
                let name = name(&request);
                let place = self.place();
                let faults = self.device.shared.plan.faults;
                let (answer, restarts) = match self.device.chance.happens(faults) {
                    true => (Err((7000, "it is out of order".to_owned())), false),
                    false => {
                        let said = answer(&mut self.device.values, request, place);
                        (said.answer, said.restarts)
                    }
                };
                self.device.shared.count(|stats| {
                    *stats.requests.entry(name).or_default() += 1;
                    stats.errors += u64::from(answer.is_err());
                });
                let message = match answer {
                    Ok(response) => Message::response(message.id, response),
                    Err((code, text)) => Message::error(message.id, ErrorCode(code), text),
                };
                self.say(&message).await;
                restarts
            }
            _ => false,
        }
    }

    fn answered(&mut self, at: Instant, what: &'static str) {
        let now = Instant::now();
        let first = what == "OnBoardRequest" && !self.device.onboarded;
        self.device.onboarded |= first;
        let missing = self.device.missing_since.take();
        self.device.shared.count(|stats| {
            stats.onboarded += u64::from(first);
            *stats.notifications.entry(what).or_default() += 1;
            stats.notify.add(now - at);
            if let Some(since) = missing {
                stats.back.add(now.saturating_duration_since(since));
            }
        });
    }

    async fn onboard(&mut self) {
        let about = self.device.values.about();
        let request = msg::notify::OnBoardRequest {
            oui: about.oui.to_string(),
            product_class: about.class.to_string(),
            serial_number: about.serial.clone(),
            agent_supported_protocol_versions: VERSIONS.to_owned(),
        };
        let notification = Notification::OnBoardReq(request);
        self.tell("", notification, "OnBoardRequest").await;
    }

    /// That it has started: to who has subscribed to that; who has not is told by an OnBoardRequest.
    async fn tell_boot(&mut self) {
        self.boot = false;
        if !self.tell_event("Device.", "Boot!", "Boot!").await {
            self.onboard().await;
        }
    }

    /// Whether there is a subscription to it.
    async fn tell_event(&mut self, object: &str, event: &str, what: &'static str) -> bool {
        let Some(subscription) = self.subscribed("Event", &format!("{object}{event}")) else {
            return false;
        };
        let params = match what {
            "Boot!" => [("Cause", "LocalReboot"), ("FirmwareUpdated", "false")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            _ => Default::default(),
        };
        let event = msg::notify::Event {
            obj_path: object.to_owned(),
            event_name: event.to_owned(),
            params,
        };
        self.tell(&subscription, Notification::Event(event), what)
            .await;
        true
    }

    async fn tell_change(&mut self) {
        let [a, b, c, ..] = self.device.chance.bits().to_be_bytes();
        let value = format!("100.{a}.{b}.{c}");
        self.device.values.change(CHANGES, value.clone());
        let path = format!("Device.{CHANGES}");
        if let Some(subscription) = self.subscribed("ValueChange", &path) {
            let change = msg::notify::ValueChange {
                param_path: path,
                param_value: value,
            };
            let notification = Notification::ValueChange(change);
            self.tell(&subscription, notification, "ValueChange").await;
        }
    }

    /// The ID of a subscription that wants to be told.
    fn subscribed(&self, kind: &str, path: &str) -> Option<String> {
        let rows = super::requests::named(&self.device.values, SUBSCRIPTIONS, self.place());
        let rows = rows.unwrap_or_default();
        let of = |row: &str, name: &str| {
            let wanted = format!("{row}.{name}");
            let found = rows.iter().find(|(name, _)| *name == wanted);
            found.map_or("", |(_, value)| value.as_str())
        };
        let ids = rows
            .iter()
            .filter_map(|(name, id)| Some((name.strip_suffix(".ID")?, id)));
        let mut wanting = ids.filter(|(row, _)| {
            let paths = of(row, "ReferenceList");
            let named = |wanted: &str| {
                wanted == path || (wanted.ends_with('.') && path.starts_with(wanted))
            };
            of(row, "Enable") == "true"
                && of(row, "NotifType") == kind
                && paths.split(',').any(|wanted| named(wanted.trim()))
        });
        wanting.next().map(|(_, id)| id.clone())
    }

    async fn tell(&mut self, subscription: &str, notification: Notification, what: &'static str) {
        self.next += 1;
        let id = format!("{what}{}", self.next);
        let message = Message::request(id.as_str(), notify(subscription, true, notification));
        self.asked.insert(id, (Instant::now(), what));
        self.say(&message).await;
    }

    async fn say(&mut self, message: &Message) {
        let to = self.device.shared.plan.controller.clone();
        let record = Record::no_session(to.clone(), self.device.id.clone(), message.encode());
        if let Err(error) = self.mtps.send(&self.route, &to, record.encode()).await {
            self.device
                .shared
                .count(|stats| *stats.failed.entry(error.to_string()).or_default() += 1);
        }
    }

    fn place(&self) -> Place {
        Place {
            uptime: self.since.elapsed().as_secs(),
            now: SystemTime::now().into(),
        }
    }
}

fn name(request: &Request) -> &'static str {
    match request {
        Request::Get(_) => "Get",
        Request::GetSupportedDm(_) => "GetSupportedDM",
        Request::GetInstances(_) => "GetInstances",
        Request::Set(_) => "Set",
        Request::Add(_) => "Add",
        Request::Delete(_) => "Delete",
        Request::Operate(_) => "Operate",
        Request::Notify(_) => "Notify",
        Request::GetSupportedProtocol(_) => "GetSupportedProtocol",
        Request::Register(_) => "Register",
        Request::Deregister(_) => "Deregister",
    }
}
