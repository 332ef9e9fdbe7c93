//! An engine on a bench: a small device of its own, a controller that only has a mailbox, and virtual time.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use homefleet_agent::{
    config::{BrokerConfig, ControllerConfig, Limits},
    cwmp::AcsAction,
    engine::{Action, Engine, Inbound, OwnMtp, Peer, Settings, Source, Transmit, Trusted},
    provider::{Now, OperateError, Operation, Provider, ProviderError, Running},
    store::Store,
    transport::{Greetings, Plan},
};
use homefleet_model::{
    path::{ObjectPath, ParamPath},
    schema::{Command, Event, Object, ObjectAccess, Param},
    tree::Tree,
    value::Type,
};
use homefleet_net::mtp::{Channel, ChannelId, Connect, Greeter as _, Route};
use homefleet_net::stun::DeviceConfig;
use homefleet_tr111::connection_request::Last;
use homefleet_trust::{Basis, PeerIdentity};
use homefleet_usp::{
    EndpointId, Message, Record,
    message::{self, Body, Request, Response},
    proto::msg::{self as pb, Notify, error::ParamError, notify::Notification},
    record::RecordBody,
};

pub(crate) const AGENT: &str = "proto::agent";
pub(crate) const CONTROLLER: &str = "proto::controller";
pub(crate) const STRANGER: &str = "proto::stranger";
pub(crate) const REPLY_TO: &str = "coaps://192.0.2.1/usp";

/// The objects of the bench's device.
static OBJECTS: &[Object] = &[
    Object {
        path: "Device.X_Test.",
        params: &[
            Param::ro("Counter", Type::UnsignedInt),
            Param::ro("Clock", Type::UnsignedInt).quiet(),
            Param::rw("Label", Type::string(16)),
            Param::rw("Level", Type::UnsignedIntIn(0, 10)).default("5"),
            Param::rw("Stubborn", Type::STRING),
            Param::rw("Password", Type::STRING).secret(),
            Param::ro("ItemNumberOfEntries", Type::UnsignedInt),
            Param::ro("RowNumberOfEntries", Type::UnsignedInt),
        ],
        commands: &[
            Command {
                name: "Echo()",
                is_async: false,
                input: &["Text"],
                output: &["Text"],
            },
            Command {
                name: "Slow()",
                is_async: true,
                input: &["Text"],
                output: &["Text"],
            },
            Command {
                name: "Nothing()",
                is_async: false,
                input: &[],
                output: &[],
            },
        ],
        events: &[Event {
            name: "Alarm!",
            args: &["Reason"],
        }],
        ..Object::EMPTY
    },
    Object {
        path: "Device.X_Test.Item.{i}.",
        access: ObjectAccess::AddDelete,
        unique_keys: &[&["Name"], &["Alias"]],
        params: &[
            Param::rw("Alias", Type::string(64)),
            Param::rw("Enable", Type::Boolean).default("false"),
            Param::rw("Name", Type::string(16)),
            Param::rw("Level", Type::UnsignedIntIn(0, 10)).default("5"),
            Param::rw("Label", Type::string(8)),
        ],
        commands: &[Command {
            name: "Touch()",
            is_async: false,
            input: &[],
            output: &[],
        }],
        ..Object::EMPTY
    },
    Object {
        path: "Device.X_Test.Item.{i}.Stats.",
        params: &[
            Param::ro("Hits", Type::UnsignedInt),
            Param::rw("Limit", Type::UnsignedInt),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.X_Test.Row.{i}.",
        unique_keys: &[&["Name"]],
        params: &[
            Param::ro("Name", Type::string(16)),
            Param::rw("Note", Type::string(16)),
        ],
        ..Object::EMPTY
    },
];

/// The system behind the bench's device, in reach of the test.
#[derive(Debug, Default)]
pub(crate) struct System {
    pub(crate) counter: u32,
    pub(crate) clock: u32,
    pub(crate) rows: Vec<String>,
    pub(crate) refreshed: usize,
    pub(crate) applied: Vec<(String, String)>,
    pub(crate) operated: Vec<(String, BTreeMap<String, String>)>,
    /// `Device.Reboot()` was called so often.
    pub(crate) reboots: usize,
}

pub(crate) type Shared = Arc<Mutex<System>>;

struct TestProvider(Shared);

impl Provider for TestProvider {
    fn objects(&self) -> &'static [Object] {
        OBJECTS
    }

    fn prefixes(&self) -> &'static [&'static str] {
        &["Device.X_Test."]
    }

    fn refresh(&mut self, tree: &mut Tree, _: Now) -> Result<(), ProviderError> {
        let mut system = self.0.lock().unwrap();
        system.refreshed += 1;
        tree.set_text("Device.X_Test.Counter", system.counter)
            .unwrap();
        tree.set_text("Device.X_Test.Clock", system.clock).unwrap();
        let table: ObjectPath = "Device.X_Test.Row.".parse().unwrap();
        for row in tree.rows(&table) {
            let name = tree.text(row.param("Name").as_str()).unwrap().to_owned();
            if !system.rows.contains(&name) {
                tree.remove_instance(&row);
            }
        }
        for name in &system.rows {
            tree.ensure_row(&table, &[("Name", name.as_str())]).unwrap();
        }
        Ok(())
    }

    fn apply(&mut self, _: &Tree, path: &ParamPath, value: &str) -> Result<(), ProviderError> {
        if path.name() == "Stubborn" {
            return Err(ProviderError::Refused("it stays as it is".into()));
        }
        self.0
            .lock()
            .unwrap()
            .applied
            .push((path.to_string(), value.to_owned()));
        Ok(())
    }

    fn operate(&mut self, command: &str, args: &BTreeMap<String, String>) -> Option<Operation> {
        let mut system = self.0.lock().unwrap();
        match command {
            "Device.Reboot()" => {
                system.reboots += 1;
                return Some(Operation::Done(Ok(BTreeMap::new())));
            }
            "Device.FactoryReset()" => return Some(Operation::Done(Ok(BTreeMap::new()))),
            _ => {}
        }
        let done = match command.rsplit('.').next().unwrap() {
            "Echo()" if args.contains_key("Text") => Ok(args.clone()),
            "Echo()" => Err(OperateError::arguments("Text is missing")),
            "Slow()" => {
                system.operated.push((command.to_owned(), args.clone()));
                return Some(Operation::Async(Box::pin(std::future::pending())));
            }
            "Touch()" if command.contains(".1.") => {
                Err(OperateError::failed("the first one breaks"))
            }
            "Touch()" => Ok(BTreeMap::new()),
            _ => return None,
        };
        system.operated.push((command.to_owned(), args.clone()));
        Some(Operation::Done(done))
    }
}

/// What the agent sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// The text of its route.
    pub(crate) uri: String,
    pub(crate) to: String,
    pub(crate) message: Message,
    /// As the engine wanted it sent.
    pub(crate) transmit: Transmit,
    pub(crate) at: Duration,
}

impl Sent {
    /// The Notify in it.
    pub(crate) fn notify(&self) -> &Notify {
        match &self.message.body {
            Body::Request(Request::Notify(notify)) => notify,
            other => panic!("no Notify: {other:?}"),
        }
    }
}

pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) system: Shared,
    pub(crate) now: Now,
    start: Instant,
    /// Answers to requests.
    pub(crate) answers: Vec<Sent>,
    /// Notify requests.
    pub(crate) notifications: Vec<Sent>,
    pub(crate) running: Vec<(ObjectPath, Running)>,
    pub(crate) aborted: Vec<ObjectPath>,
    next_id: u32,
    /// Whom the agent was to accept as peers, the latest last.
    pub(crate) trusted: Vec<Trusted>,
    /// What the MTPs were to do, the latest last.
    pub(crate) plans: Vec<Plan>,
    /// Connections that were to be made anew.
    pub(crate) reconnects: Vec<String>,
    /// Connect and Disconnect Records: route, receiver, body.
    pub(crate) others: Vec<(String, String, RecordBody)>,
    /// Everything that was sent, in order: route, and `connect`, `disconnect`, `notify` or `answer`.
    pub(crate) order: Vec<(String, &'static str)>,
    pub(crate) greetings: Arc<Greetings>,
    /// Receivers of telemetry that were to be served, the latest last.
    pub(crate) receivers: Vec<Vec<(String, homefleet_agent::telemetry::Receiver)>>,
    /// Messages of telemetry, with their receivers.
    pub(crate) published: Vec<(String, Vec<u8>)>,
    /// What was to be done on the way to the ACS.
    pub(crate) acs: Vec<AcsAction>,
    /// How UDP Connection Requests were to be listened for, the latest last.
    pub(crate) stun: Vec<(SocketAddr, DeviceConfig, Last)>,
    /// The certificate that senders show.
    pub(crate) peer: Peer,
}

/// The agent's own role that may do everything.
pub(crate) const FULL_ACCESS: &str = "Device.LocalAgent.ControllerTrust.Role.1";

/// SHA-256 of the trusted CA.
pub(crate) const CA: [u8; 32] = [0xAB; 32];

pub(crate) fn id(text: &str) -> EndpointId {
    text.parse().unwrap()
}

pub(crate) fn settings() -> Settings {
    Settings {
        endpoint_id: id(AGENT),
        allow_insecure: false,
        controller: Some(ControllerConfig {
            endpoint_id: id(CONTROLLER),
            url: "coaps://192.0.2.1:5684/usp".parse().unwrap(),
            broker: BrokerConfig::default(),
        }),
        limits: Limits::default(),
        mtps: vec![OwnMtp::Coap {
            port: 5684,
            path: "usp".into(),
            encrypted: true,
        }],
        brokers: Vec::new(),
        rollback_after: Duration::from_secs(120),
        greetings: Arc::default(),
        cwmp: Default::default(),
        stun: Default::default(),
        telemetry: homefleet_agent::telemetry::factory::TelemetryConfig::default(),
        certificates: vec![homefleet_agent::engine::CertificateInfo {
            serial: "0A".into(),
            issuer: "CN=Test CA".into(),
            sha256: CA,
            der: b"the test CA".to_vec(),
        }],
        wait_for_time: Duration::ZERO,
        first_use: None,
        restarts: true,
    }
}

impl Bench {
    /// Started and settled: the controller has answered the OnBoardRequest and `Boot!`.
    pub(crate) fn new() -> Self {
        let mut bench = Self::started(settings(), Store::in_memory().unwrap());
        bench.answer_notifications();
        bench.notifications.clear();
        bench
    }

    /// Just started.
    pub(crate) fn started(settings: Settings, store: Store) -> Self {
        let start = Instant::now();
        let now = Now {
            instant: start,
            wall: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        };
        Self::started_at(settings, store, now, start)
    }

    pub(crate) fn started_at(settings: Settings, store: Store, now: Now, start: Instant) -> Self {
        Self::started_with(settings, store, now, start, Vec::new())
    }

    /// Just started, with other providers besides its own.
    pub(crate) fn started_with(
        settings: Settings,
        store: Store,
        now: Now,
        start: Instant,
        others: Vec<Box<dyn Provider>>,
    ) -> Self {
        let system = Shared::default();
        let greetings = settings.greetings.clone();
        let mut providers: Vec<Box<dyn Provider>> = vec![Box::new(TestProvider(system.clone()))];
        providers.extend(others);
        let engine = Engine::new(settings, providers, store, now, [7; 32]).unwrap();
        let mut bench = Self {
            engine,
            system,
            now,
            start,
            answers: Vec::new(),
            notifications: Vec::new(),
            running: Vec::new(),
            aborted: Vec::new(),
            next_id: 1,
            trusted: Vec::new(),
            plans: Vec::new(),
            reconnects: Vec::new(),
            others: Vec::new(),
            order: Vec::new(),
            greetings,
            receivers: Vec::new(),
            published: Vec::new(),
            acs: Vec::new(),
            stun: Vec::new(),
            peer: Peer {
                basis: Basis::TrustedCa,
                fingerprint: [1; 32],
                anchor: Some(CA),
                certificate: None,
            },
        };
        bench.drain();
        bench
    }

    pub(crate) fn drain(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Transmit(transmit) => self.transmitted(transmit),
                Action::Plan(plan) => self.plans.push(plan),
                Action::Reconnect(name) => self.reconnects.push(name),
                Action::Spawn { request, running } => self.running.push((request, running)),
                Action::Abort(request) => self.aborted.push(request),
                Action::Trust(trusted) => self.trusted.push(trusted),
                Action::Telemetry(receivers) => self.receivers.push(receivers),
                Action::Publish { receiver, message } => self.published.push((receiver, message)),
                Action::Acs(action) => self.acs.push(action),
                Action::Stun {
                    listen,
                    config,
                    last,
                } => self.stun.push((listen, config, last)),
            }
        }
    }

    fn transmitted(&mut self, transmit: Transmit) {
        let record = Record::decode(&transmit.record).unwrap();
        assert_eq!(record.from_id.as_str(), AGENT);
        assert_eq!(record.to_id, transmit.endpoint_id);
        let uri = transmit.route.to_string();
        let kind = match &record.body {
            RecordBody::NoSession(_) if transmit.notification.is_some() => "notify",
            RecordBody::NoSession(_) => "answer",
            RecordBody::Disconnect { .. } => "disconnect",
            _ => "connect",
        };
        self.order.push((uri.clone(), kind));
        let Some(message) = record.message() else {
            self.others
                .push((uri, record.to_id.to_string(), record.body.clone()));
            return;
        };
        let sent = Sent {
            uri,
            to: record.to_id.to_string(),
            message: Message::decode(message).unwrap(),
            transmit,
            at: self.now.instant - self.start,
        };
        match kind {
            "notify" => self.notifications.push(sent),
            _ => self.answers.push(sent),
        }
    }

    /// A channel comes up: the MTP greets, and tells.
    pub(crate) fn up(&mut self, channel: Channel) -> ChannelId {
        let id = channel.id;
        for greeting in self.greetings.greet(&channel) {
            let record = Record::decode(&greeting.record).unwrap();
            let (route, to) = (greeting.route.to_string(), record.to_id.to_string());
            self.order.push((route.clone(), "connect"));
            self.others.push((route, to, record.body));
        }
        self.engine.handle_up(self.now, channel);
        self.drain();
        id
    }

    /// A channel goes.
    pub(crate) fn down(&mut self, id: ChannelId) {
        self.engine.handle_down(self.now, id);
        self.drain();
    }

    /// The latest plan.
    pub(crate) fn plan(&self) -> &Plan {
        self.plans.last().unwrap()
    }

    /// The MTP could not deliver this notification, or could.
    pub(crate) fn delivered(&mut self, sent: &Sent, delivered: bool) {
        let transmit = sent.transmit.clone();
        self.engine.handle_delivery(self.now, transmit, delivered);
        self.drain();
    }

    /// `from` sends a Message over a channel, or whatever else `source` says.
    pub(crate) fn message_by(&mut self, from: &str, message: &Message, source: Source) {
        let record = Record::no_session(id(AGENT), id(from), message.encode());
        self.engine
            .handle_record(self.now, Inbound { record, source });
        self.drain();
    }

    /// A Record comes in.
    pub(crate) fn record(&mut self, record: Record, secure: bool) {
        let source = Source {
            peer: secure.then(|| self.peer.clone()),
            channel: None,
            reply_to: Some(REPLY_TO.parse().unwrap()),
        };
        let inbound = Inbound { record, source };
        self.engine.handle_record(self.now, inbound);
        self.drain();
    }

    /// `from` sends a Message.
    pub(crate) fn message(&mut self, from: &str, message: &Message) {
        self.record(
            Record::no_session(id(AGENT), id(from), message.encode()),
            true,
        );
    }

    /// `from` asks; the one answer.
    pub(crate) fn ask_as(&mut self, from: &str, request: impl Into<Request>) -> Body {
        self.next_id += 1;
        let message = Message::request(format!("ask-{}", self.next_id), request);
        self.answers.clear();
        self.message(from, &message);
        assert_eq!(self.answers.len(), 1, "one answer to {message:?}");
        let answer = self.answers.pop().unwrap();
        assert_eq!((answer.to.as_str(), answer.uri.as_str()), (from, REPLY_TO));
        assert_eq!(answer.message.id, message.id);
        answer.message.body
    }

    /// The controller asks; the response.
    pub(crate) fn ask(&mut self, request: impl Into<Request>) -> Response {
        match self.ask_as(CONTROLLER, request) {
            Body::Response(response) => response,
            other => panic!("no response: {other:?}"),
        }
    }

    /// The controller asks; the Error.
    pub(crate) fn ask_error(&mut self, request: impl Into<Request>) -> (u32, Vec<ParamError>) {
        match self.ask_as(CONTROLLER, request) {
            Body::Error(error) => (error.err_code, error.param_errs),
            other => panic!("no Error: {other:?}"),
        }
    }

    /// The value of one parameter, by a Get.
    pub(crate) fn value(&mut self, path: &str) -> String {
        let values = self.values(path);
        assert_eq!(values.len(), 1, "{path}: {values:?}");
        values.into_values().next().unwrap()
    }

    /// Every value below a path, by a Get.
    pub(crate) fn values(&mut self, path: &str) -> BTreeMap<String, String> {
        let Response::GetResp(response) = self.ask(message::get([path], 0)) else {
            panic!("no GetResp")
        };
        let result = &response.req_path_results[0];
        assert_eq!(result.err_code, 0, "{path}: {}", result.err_msg);
        let mut values = BTreeMap::new();
        for resolved in &result.resolved_path_results {
            for (name, value) in &resolved.result_params {
                values.insert(format!("{}{name}", resolved.resolved_path), value.clone());
            }
        }
        values
    }

    /// Adds a row that must succeed; its path.
    pub(crate) fn add(&mut self, table: &str, params: &[(&str, &str)]) -> String {
        let params = params.iter().map(|(name, value)| (*name, *value, true));
        let Response::AddResp(response) = self.ask(message::add(
            false,
            vec![message::create_object(table, params)],
        )) else {
            panic!("no AddResp")
        };
        use pb::add_resp::created_object_result::operation_status::OperStatus;
        match response.created_obj_results[0]
            .oper_status
            .clone()
            .unwrap()
            .oper_status
            .unwrap()
        {
            OperStatus::OperSuccess(success) => success.instantiated_path,
            OperStatus::OperFailure(failure) => panic!("not added: {failure:?}"),
        }
    }

    /// Sets one parameter, which must succeed.
    pub(crate) fn set(&mut self, object: &str, param: &str, value: &str) {
        let update = message::update_object(object, [(param, value, true)]);
        self.ask(message::set(false, vec![update]));
    }

    /// Subscribes; the path of the subscription.
    pub(crate) fn subscribe(
        &mut self,
        kind: &str,
        references: &str,
        more: &[(&str, &str)],
    ) -> String {
        let mut params = vec![
            ("NotifType", kind),
            ("ReferenceList", references),
            ("Enable", "true"),
            ("ID", "sub"),
        ];
        params.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
        params.extend(more);
        self.add("Device.LocalAgent.Subscription.", &params)
    }

    /// Lets time pass, stopping at every point the engine wants.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now.instant + time;
        loop {
            let next = self.engine.poll_timeout().filter(|at| *at <= end);
            let to = next.unwrap_or(end).max(self.now.instant);
            self.now.wall += to - self.now.instant;
            self.now.instant = to;
            if next.is_none() {
                return;
            }
            self.engine.handle_timeout(self.now);
            self.drain();
            let after = self.engine.poll_timeout();
            assert!(
                after.is_none_or(|at| at > to),
                "the engine wants the same moment again"
            );
        }
    }

    /// The controller answers everything that asks for an answer.
    pub(crate) fn answer_notifications(&mut self) {
        for sent in self.notifications.clone() {
            let notify = sent.notify();
            if notify.send_resp {
                let response = pb::NotifyResp {
                    subscription_id: notify.subscription_id.clone(),
                };
                self.message(
                    &sent.to,
                    &Message::response(sent.message.id.clone(), response),
                );
            }
        }
    }

    /// What was notified since the last call.
    pub(crate) fn told(&mut self) -> Vec<Notification> {
        let sent = std::mem::take(&mut self.notifications);
        sent.iter()
            .map(|sent| sent.notify().notification.clone().unwrap())
            .collect()
    }

    /// Changed values that were notified since the last call.
    pub(crate) fn changes(&mut self) -> Vec<(String, String)> {
        let change = |notification| match notification {
            Notification::ValueChange(change) => (change.param_path, change.param_value),
            other => panic!("no ValueChange: {other:?}"),
        };
        self.told().into_iter().map(change).collect()
    }

    pub(crate) fn wall(&self) -> SystemTime {
        self.now.wall
    }
}

/// A Record with another body.
pub(crate) fn record_with(body: RecordBody) -> Record {
    Record::with(id(AGENT), id(CONTROLLER), body)
}

/// A session with the controller over WebSocket and TLS that it opened, or the agent by the name of `connection`.
pub(crate) fn websocket(connection: Option<&str>) -> Channel {
    Channel {
        id: ChannelId::next(),
        connection: connection.map(str::to_owned),
        endpoint_id: Some(id(CONTROLLER)),
        identity: Some(Arc::new(identity(Basis::TrustedCa, &[CONTROLLER]))),
        connect: Connect::WebSocket,
    }
}

/// A connection to a trusted STOMP broker.
pub(crate) fn stomp(connection: &str, destination: &str) -> Channel {
    Channel {
        id: ChannelId::next(),
        connection: Some(connection.to_owned()),
        endpoint_id: None,
        identity: Some(Arc::new(identity(Basis::TrustedBroker, &[]))),
        connect: Connect::Stomp {
            destination: destination.to_owned(),
        },
    }
}

/// Who a certificate says that a peer is.
pub(crate) fn identity(basis: Basis, endpoint_ids: &[&str]) -> PeerIdentity {
    PeerIdentity {
        endpoint_ids: endpoint_ids.iter().map(|id| (*id).to_owned()).collect(),
        dns_names: Vec::new(),
        subject: "CN=peer".to_owned(),
        fingerprint: [1; 32],
        not_after: UNIX_EPOCH + Duration::from_secs(4_000_000_000),
        anchor: Some(CA),
        basis,
    }
}

/// The route with this text.
pub(crate) fn route(text: &str) -> Route {
    text.parse().unwrap()
}
