//! What the tests share: records, a core in memory, a controller with a scripted network.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use homefleet_api::{NewToken, Operation, Role, TaskState};
use homefleet_net::mtp::{ChannelId, Route};
use homefleet_server::account::new_token;
use homefleet_server::clock::{Clock, Millis};
use homefleet_server::controller::{Controller, Incoming, Parcel, Transport};
use homefleet_server::core::{Access, Core, CoreConfig, WantedSubscription};
use homefleet_server::device::Proof;
use homefleet_server::home::HomeConfig;
use homefleet_server::store::sqlite::SqliteStore;
use homefleet_server::store::{
    Batch, CertificateRecord, ParameterRecord, Store, TaskRecord, Write,
};
use homefleet_server::task::driver::{self, Sending};
use homefleet_server::task::queue::Delivery;
use homefleet_usp::Record;
use homefleet_usp::message::{Body, Message, MsgId, Request, Response};
use homefleet_usp::proto::msg;
use tokio::sync::{mpsc, watch};

pub(crate) const START: Millis = Millis(1_795_200_000_000);

pub(crate) fn seconds(seconds: u64) -> Millis {
    START.plus(Duration::from_secs(seconds))
}

pub(crate) fn get(path: &str) -> Operation {
    Operation::Get {
        paths: vec![path.to_owned()],
        max_depth: 0,
    }
}

pub(crate) fn operate(command: &str) -> Operation {
    Operation::Operate {
        command: command.to_owned(),
        args: [].into(),
        command_key: None,
    }
}

pub(crate) fn task(id: &str, device: &str, operation: Operation) -> TaskRecord {
    TaskRecord {
        id: id.to_owned(),
        device: device.to_owned(),
        operation,
        state: TaskState::Queued,
        created: START,
        updated: START,
        expires: seconds(3600),
        attempts: 0,
        next_attempt: None,
        last_problem: None,
        created_by: "test".to_owned(),
        result: None,
        error: None,
    }
}

pub(crate) fn value(path: &str, value: &str) -> ParameterRecord {
    ParameterRecord {
        path: path.to_owned(),
        value: value.to_owned(),
        seen: START,
    }
}

/// A clock that stands until it is moved.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<Mutex<Millis>>);

impl TestClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(START)))
    }

    pub(crate) fn clock(&self) -> Clock {
        let now = Arc::clone(&self.0);
        Clock::new(move || *now.lock().unwrap())
    }

    pub(crate) fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = now.plus(by);
    }
}

pub(crate) fn core_config() -> CoreConfig {
    CoreConfig {
        endpoint_id: "proto::controller".to_owned(),
        registry: Default::default(),
        queue: Default::default(),
        default_expiry: Duration::from_secs(3600),
        keep: Duration::from_secs(86_400),
        keep_audit: Duration::from_secs(86_400),
        event_buffer: 64,
        limits: Default::default(),
        subscriptions: vec![WantedSubscription {
            id: "homefleet-boot".to_owned(),
            notification: "Event".to_owned(),
            paths: vec!["Device.Boot!".to_owned()],
        }],
        home: HomeConfig {
            enabled: false,
            ..HomeConfig::default()
        },
    }
}

/// A message that the server sent to a device.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) uri: String,
    pub(crate) endpoint: String,
    pub(crate) message: Message,
    pub(crate) once: bool,
}

/// A network whose other end is the test.
struct Wire {
    sent: mpsc::UnboundedSender<Sent>,
    /// Ways that lead nowhere, by the beginning of their text.
    dead: Arc<Mutex<Vec<String>>>,
}

impl Transport for Wire {
    fn send(&self, parcel: Parcel) -> Sending {
        let record = Record::decode(&parcel.record).unwrap();
        let message = Message::decode(record.message().unwrap()).unwrap();
        let uri = parcel.route.to_string();
        let dead = self.dead.lock().unwrap();
        if dead.iter().any(|dead| uri.starts_with(dead)) {
            let problem = format!("{uri}: not connected");
            return Box::pin(std::future::ready(Delivery::NotDelivered(problem)));
        }
        let taken = match parcel.route {
            Route::Coap(_) => Delivery::Taken,
            _ => Delivery::OnItsWay,
        };
        let sent = Sent {
            uri,
            endpoint: parcel.endpoint.to_string(),
            message,
            once: parcel.once,
        };
        let delivery = match self.sent.send(sent) {
            Ok(()) => taken,
            Err(_) => Delivery::NotDelivered("the test has ended".to_owned()),
        };
        Box::pin(std::future::ready(delivery))
    }
}

/// A core with a Controller whose devices the test plays.
pub(crate) struct Lab {
    pub(crate) core: Core,
    pub(crate) controller: Controller,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) clock: TestClock,
    pub(crate) dead: Arc<Mutex<Vec<String>>>,
    sent: mpsc::UnboundedReceiver<Sent>,
    _stop: watch::Sender<bool>,
    _directory: tempfile::TempDir,
}

pub(crate) const CONTROLLER: &str = "proto::controller";
pub(crate) const DEVICE: &str = "os::00D09E-1";

impl Lab {
    pub(crate) async fn new() -> Self {
        Self::with(core_config()).await
    }

    pub(crate) async fn with(config: CoreConfig) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = TestClock::new();
        let store = Arc::new(SqliteStore::open(&directory.path().join("store.sqlite")).unwrap());
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        let core = Core::open(config, clock.clock(), shared).await.unwrap();
        let (wire, sent) = mpsc::unbounded_channel();
        let dead = Arc::new(Mutex::new(Vec::new()));
        let wire = Wire {
            sent: wire,
            dead: Arc::clone(&dead),
        };
        let controller = Controller::new(core.clone(), CONTROLLER.parse().unwrap(), Box::new(wire));
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(driver::run(
            core.clone(),
            Arc::new(controller.clone()),
            driver::Room::default(),
            stopped,
        ));
        Self {
            core,
            controller,
            store,
            clock,
            dead,
            sent,
            _stop: stop,
            _directory: directory,
        }
    }

    /// Makes a token and authenticates with it.
    pub(crate) async fn access(&self, role: Role) -> (Access, String) {
        let new = NewToken {
            name: format!("test {role}"),
            role,
            expires_in: None,
        };
        let (mut random, mut id) = ([0; 32], [0; 8]);
        getrandom::fill(&mut random).unwrap();
        getrandom::fill(&mut id).unwrap();
        let (record, secret) = new_token(self.clock.clock().now(), &new, random, id).unwrap();
        self.store
            .write(Batch::one(Write::Token(record)))
            .await
            .unwrap();
        self.clock.advance(Duration::from_secs(2));
        (self.core.authenticate(&secret).await.unwrap(), secret)
    }

    /// The next message the server sends.
    pub(crate) async fn next(&mut self) -> Sent {
        tokio::time::timeout(Duration::from_secs(20), self.sent.recv())
            .await
            .expect("nothing was sent")
            .unwrap()
    }

    /// The next request the server sends; answers to notifications in between are dropped.
    pub(crate) async fn next_request(&mut self) -> (MsgId, Request) {
        loop {
            let Sent { message, .. } = self.next().await;
            if let Body::Request(request) = message.body {
                return (message.id, request);
            }
        }
    }

    /// What was sent and not looked at.
    pub(crate) fn pending(&mut self) -> Vec<Sent> {
        std::iter::from_fn(|| self.sent.try_recv().ok()).collect()
    }

    /// A device sends a message; everything that follows from it at once is done when this returns.
    pub(crate) async fn receive(&self, device: &str, message: Message) -> bool {
        self.receive_record(
            Record::no_session(
                CONTROLLER.parse().unwrap(),
                device.parse().unwrap(),
                message.encode(),
            ),
            true,
        )
        .await
    }

    pub(crate) async fn receive_record(&self, record: Record, secure: bool) -> bool {
        match self.controller.accept(self.incoming(record, secure)) {
            Some(finish) => {
                finish.await;
                true
            }
            None => false,
        }
    }

    pub(crate) fn incoming(&self, record: Record, secure: bool) -> Incoming {
        let (proof, uri) = if secure {
            (self.certificate(), "coaps://192.0.2.7:5684/usp")
        } else {
            (Proof::Nobody, "coap://192.0.2.66/usp")
        };
        Incoming {
            record,
            proof,
            channel: None,
            reply_to: Some(uri.parse().unwrap()),
        }
    }

    /// The device's own certificate.
    pub(crate) fn certificate(&self) -> Proof {
        Proof::Certificate(self.certified("aa", "CN=device"))
    }

    /// A Trusted Broker's certificate.
    pub(crate) fn broker(&self) -> Proof {
        Proof::Broker(self.certified("bb", "CN=broker"))
    }

    fn certified(&self, fingerprint: &str, subject: &str) -> CertificateRecord {
        let now = self.clock.clock().now();
        CertificateRecord {
            fingerprint: fingerprint.repeat(32),
            subject: subject.to_owned(),
            not_after: now.plus(Duration::from_secs(86_400)),
            first_seen: now,
        }
    }

    /// A Record comes over a channel; everything that follows from it at once is done when this returns.
    pub(crate) async fn over(
        &self,
        channel: u64,
        proof: Proof,
        reply_to: Option<&str>,
        record: Record,
    ) -> bool {
        let incoming = Incoming {
            record,
            proof,
            channel: Some(ChannelId(channel)),
            reply_to: reply_to.map(|route| route.parse().unwrap()),
        };
        match self.controller.accept(incoming) {
            Some(finish) => {
                finish.await;
                true
            }
            None => false,
        }
    }

    /// Registers the device, and answers what the server asks of it by itself.
    pub(crate) async fn onboard(&mut self) {
        self.receive(DEVICE, on_board("1")).await;
        let (id, _) = self.next_request().await;
        self.receive(
            DEVICE,
            Message::response(
                id,
                get_resp(
                    &[("Device.DeviceInfo.", &[("ModelName", "Gate")])],
                    "Device.DeviceInfo.",
                ),
            ),
        )
        .await;
        self.pending();
    }
}

pub(crate) fn on_board(msg_id: &str) -> Message {
    notify(
        msg_id,
        "",
        true,
        msg::notify::Notification::OnBoardReq(msg::notify::OnBoardRequest {
            oui: "00D09E".to_owned(),
            product_class: "Gateway".to_owned(),
            serial_number: "1".to_owned(),
            agent_supported_protocol_versions: "1.2,1.3".to_owned(),
        }),
    )
}

pub(crate) fn notify(
    msg_id: &str,
    subscription: &str,
    send_resp: bool,
    notification: msg::notify::Notification,
) -> Message {
    let notify = msg::Notify {
        subscription_id: subscription.to_owned(),
        send_resp,
        notification: Some(notification),
    };
    Message::request(msg_id, Request::Notify(notify))
}

pub(crate) fn value_change(msg_id: &str, send_resp: bool, path: &str, value: &str) -> Message {
    notify(
        msg_id,
        "homefleet-value",
        send_resp,
        msg::notify::Notification::ValueChange(msg::notify::ValueChange {
            param_path: path.to_owned(),
            param_value: value.to_owned(),
        }),
    )
}

/// A GetResp for one requested path.
pub(crate) fn get_resp(objects: &[(&str, &[(&str, &str)])], requested: &str) -> Response {
    let resolved = objects
        .iter()
        .map(|(path, params)| msg::get_resp::ResolvedPathResult {
            resolved_path: (*path).to_owned(),
            result_params: params
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        });
    Response::GetResp(msg::GetResp {
        req_path_results: vec![msg::get_resp::RequestedPathResult {
            requested_path: requested.to_owned(),
            err_code: 0,
            err_msg: String::new(),
            resolved_path_results: resolved.collect(),
        }],
    })
}
