//! The whole server over WebSocket, MQTT and STOMP, with real brokers: devices played by the test.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use homefleet_api::{LinkState, Mtp, MtpLink, NewTask, Reachability, Role, TaskState};
use homefleet_net::dtls::{Credentials, TrustVerifier};
use homefleet_net::mtp::mqtt::{MqttClient, MqttMtp, MqttMtpConfig};
use homefleet_net::mtp::stomp::{StompConnection, StompMtp, StompMtpConfig};
use homefleet_net::mtp::websocket::{
    Limits, WebSocketConnection, WebSocketListener, WebSocketMtpConfig,
};
use homefleet_net::mtp::{
    Channel, Connect, Event, Greeter, Mtps, Outgoing, Route, SendError, WebSocketMtp,
};
use homefleet_net::tls::Tls;
use homefleet_server::config::{ListeningAgent, Mqtt, Stomp, Version};
use homefleet_server::core::DeviceQuery;
use homefleet_server::{Access, Config, RunningServer, Server};
use homefleet_trust::{Policy, Time, anchors_from_pem};
use homefleet_usp::message::{Body, Message, Request, Response};
use homefleet_usp::mtp::mqtt::MqttVersion;
use homefleet_usp::mtp::retry::RetryPolicy;
use homefleet_usp::mtp::stomp::Login;
use homefleet_usp::record::RecordBody;
use homefleet_usp::{EndpointId, Record};
use rcgen::{DnType, SanType};
use tokio::sync::mpsc;

use crate::common::{get, get_resp, on_board, value_change};
use crate::live::{Authority, WAIT, operator};
use crate::mosquitto::{self, Mosquitto};
use crate::rabbitmq::{self, Rabbit, User};

/// Name of the server's user at brokers, and of its certificate.
const USER: &str = "controller";

/// A CA, a directory, and a server's configuration in it. Endpoints are nobody else's: a broker may be shared.
pub(crate) struct Home {
    directory: tempfile::TempDir,
    authority: Authority,
    pub(crate) controller: String,
    pub(crate) device: String,
    pub(crate) config: Config,
}

fn number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn named(authority: &Authority, endpoint: &str, name: &str) -> (String, String) {
    authority.issue_with(endpoint, |params| {
        params.distinguished_name.push(DnType::CommonName, name);
    })
}

/// A broker's certificate, which names the host only.
fn for_broker(authority: &Authority) -> (String, String) {
    authority.issue_with("proto::nobody", |params| {
        params.distinguished_name.push(DnType::CommonName, "broker");
        params.subject_alt_names = vec![
            SanType::DnsName("localhost".try_into().unwrap()),
            SanType::IpAddress("127.0.0.1".parse().unwrap()),
        ];
    })
}

impl Home {
    pub(crate) fn new() -> Self {
        let authority = Authority::new("CA");
        let number = number();
        let directory = tempfile::tempdir().unwrap();
        let controller = format!("proto::controller-{number}");
        let (certificate, key) = named(&authority, &controller, USER);
        let write = |name: &str, text: &str| write(directory.path(), name, text);
        let tls = homefleet_server::config::Tls::new(
            write("server.pem", &certificate),
            write("server-key.pem", &key),
            write("anchors.pem", &authority.pem),
        );
        let mut config = Config::new(controller.clone(), directory.path().join("data"), tls);
        config.task.retry_first = 1;
        config.task.retry_max = 1;
        Self {
            directory,
            authority,
            controller,
            device: format!("os::00D09E-{number}"),
            config,
        }
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        write(self.directory.path(), name, text)
    }

    async fn start(&self) -> RunningServer {
        Server::start(self.config.clone()).await.unwrap()
    }

    /// TLS of the device.
    fn tls(&self, name: &str) -> Tls {
        self.tls_of(&named(&self.authority, &self.device, name))
    }

    fn tls_of(&self, (certificate, key): &(String, String)) -> Tls {
        let anchors = anchors_from_pem(&self.authority.pem).unwrap();
        let verifier = TrustVerifier::new(anchors, Policy::default(), || {
            Time::Accurate(SystemTime::now())
        });
        if let Some(brokers) = &self.config.tls.brokers {
            let pem = std::fs::read_to_string(brokers).unwrap();
            verifier.replace_brokers(anchors_from_pem(&pem).unwrap());
        }
        let credentials = Credentials::from_pem(certificate, key).unwrap();
        Tls::new(&credentials, Arc::new(verifier)).unwrap()
    }

    fn greeter(&self, to: Route) -> Arc<Hello> {
        Arc::new(Hello {
            device: self.device.parse().unwrap(),
            controller: self.controller.parse().unwrap(),
            to,
        })
    }

    /// A device that connects over WebSocket to where the server listens.
    fn over_websocket(&self, server: &RunningServer, secure: bool) -> Device {
        self.over_websocket_at(&server.address(Mtp::Websocket).unwrap(), secure)
    }

    pub(crate) fn over_websocket_at(&self, url: &str, secure: bool) -> Device {
        let listening = ListeningAgent {
            endpoint_id: self.controller.clone(),
            url: url.to_owned(),
        };
        let url = listening.parts().unwrap();
        assert_eq!(url.secure, secure);
        let connection = WebSocketConnection {
            endpoint_id: Some(self.controller.parse().unwrap()),
            retry: RetryPolicy::websocket(0, 1000),
            ..WebSocketConnection::new(&url.host, url.port, &url.path, secure)
        };
        let (device, mtp) = self.websocket(secure);
        mtp.open("server", connection);
        device
    }

    fn websocket(&self, secure: bool) -> (Device, WebSocketMtp) {
        let to = Route::WebSocket { secure };
        let (events, happened) = mpsc::channel(EVENTS);
        let mtp = WebSocketMtp::new(WebSocketMtpConfig {
            endpoint_id: self.device.parse().unwrap(),
            events,
            greeter: self.greeter(to.clone()),
            tls: Some(self.tls("device")),
            allow_plain: !secure,
            session: Default::default(),
            limits: Limits::default(),
        });
        let mtps = Mtps {
            websocket: Some(mtp.clone()),
            ..Mtps::default()
        };
        (self.agent(mtps, happened, to), mtp)
    }

    fn agent(&self, mtps: Mtps, events: mpsc::Receiver<Event>, to: Route) -> Device {
        Device {
            id: self.device.parse().unwrap(),
            controller: self.controller.parse().unwrap(),
            mtps,
            events,
            to,
        }
    }

    /// The server and a device are at this MQTT broker.
    fn at_mosquitto(&mut self, broker: &Mosquitto, version: Version, tls: bool) {
        self.config.mqtt = vec![Mqtt {
            name: "home".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: Some(if tls {
                broker.tls_port()
            } else {
                broker.port()
            }),
            tls,
            version,
            client_id: None,
            username: (!tls).then(|| USER.to_owned()),
            password_file: (!tls).then(|| self.write("password", mosquitto::PASSWORD)),
            topic: Some(self.topic()),
            senders: None,
            qos: 1,
            keep_alive: 60,
            session_expiry: 3600,
        }];
    }

    pub(crate) fn topic(&self) -> String {
        format!("usp/controller/{}", self.controller)
    }

    pub(crate) fn over_mqtt(&self, name: &str) -> Device {
        let mqtt = &self.config.mqtt[0];
        let to = Route::Mqtt {
            connection: "broker".to_owned(),
            topic: self.topic(),
        };
        let (events, happened) = mpsc::channel(EVENTS);
        let endpoint_id = self.device.parse().unwrap();
        let mtp = MqttMtp::new(MqttMtpConfig {
            tls: mqtt.tls.then(|| self.tls(name)),
            allow_plain: !mqtt.tls,
            ..MqttMtpConfig::new(endpoint_id, events, self.greeter(to.clone()))
        });
        let version: MqttVersion = mqtt.version.into();
        let login = (name.to_owned(), mosquitto::PASSWORD.to_owned());
        mtp.open(
            "broker",
            MqttClient {
                tls: mqtt.tls,
                client_id: Some(self.device.clone()),
                login: (!mqtt.tls).then_some(login),
                response_topic: Some(format!("usp/agent/{name}/{}", self.device)),
                retry: RetryPolicy::mqtt(0, 1000, 1),
                ..MqttClient::new(version, &mqtt.host, mqtt.port())
            },
        );
        let mtps = Mtps {
            mqtt: Some(mtp),
            ..Mtps::default()
        };
        self.agent(mtps, happened, to)
    }

    /// The server is at this STOMP broker.
    fn at_rabbit(&mut self, broker: &Rabbit, tls: bool) {
        self.config.stomp = vec![Stomp {
            name: "home".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: Some(if tls {
                broker.tls_port()
            } else {
                broker.port()
            }),
            tls,
            virtual_host: None,
            login: (!tls).then(|| self.controller.clone()),
            password_file: (!tls).then(|| self.write("password", "secret")),
            destination: Some(DESTINATION.to_owned()),
            senders: Some("/topic/usp.controller.{endpoint-id}".to_owned()),
            heart_beat: 30,
        }];
    }

    fn over_stomp(&self) -> Device {
        let stomp = &self.config.stomp[0];
        let to = Route::Stomp {
            connection: "broker".to_owned(),
            destination: format!("/topic/usp.controller.{}", self.device),
        };
        let (events, happened) = mpsc::channel(EVENTS);
        let tls = stomp.tls.then(|| self.tls("device"));
        let mtp = StompMtp::new(StompMtpConfig {
            greeter: self.greeter(to.clone()),
            allow_plain: !stomp.tls,
            ..StompMtpConfig::new(self.device.parse().unwrap(), events, tls)
        });
        let login = if stomp.tls {
            Login::Certificate
        } else {
            Login::Password {
                login: self.device.clone(),
                passcode: "secret".to_owned(),
            }
        };
        mtp.open(
            "broker",
            StompConnection {
                port: stomp.port(),
                encryption: stomp.tls,
                destination: Some(format!("/topic/usp.agent.{}", self.device)),
                retry: RetryPolicy::stomp(0, 1000, 1),
                ..StompConnection::new(&stomp.host, login)
            },
        );
        let mtps = Mtps {
            stomp: Some(mtp),
            ..Mtps::default()
        };
        self.agent(mtps, happened, to)
    }
}

/// What a device has not looked at yet: it looks between two sends only, and must not keep its own MTP from reading.
const EVENTS: usize = 65_536;

/// Where devices reach the server at RabbitMQ.
const DESTINATION: &str = "/topic/usp.controller.*";

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Says first that the device is there (R-MTP.6).
struct Hello {
    device: EndpointId,
    controller: EndpointId,
    to: Route,
}

impl Greeter for Hello {
    fn greet(&self, channel: &Channel) -> Vec<Outgoing> {
        let body = match &channel.connect {
            Connect::WebSocket => RecordBody::WebSocketConnect,
            Connect::Mqtt { version, topic } => RecordBody::MqttConnect {
                version: *version,
                topic: topic.clone(),
            },
            Connect::Stomp { destination } => RecordBody::StompConnect {
                destination: destination.clone(),
            },
            Connect::Uds => RecordBody::UdsConnect,
        };
        let record = Record::with(self.controller.clone(), self.device.clone(), body);
        vec![Outgoing {
            route: self.to.clone(),
            endpoint_id: self.controller.clone(),
            record: record.encode(),
        }]
    }
}

/// An Agent of the simplest kind.
pub(crate) struct Device {
    id: EndpointId,
    controller: EndpointId,
    pub(crate) mtps: Mtps,
    pub(crate) events: mpsc::Receiver<Event>,
    to: Route,
}

impl Device {
    async fn event(&mut self) -> Event {
        let event = tokio::time::timeout(WAIT, self.events.recv()).await;
        event.expect("nothing happened").unwrap()
    }

    /// Until it is connected.
    pub(crate) async fn up(&mut self) -> Channel {
        loop {
            if let Event::Up(channel) = self.event().await {
                return channel;
            }
        }
    }

    /// Until its connection ends.
    async fn down(&mut self) -> String {
        loop {
            if let Event::Down { reason, .. } = self.event().await {
                return reason;
            }
        }
    }

    async fn next(&mut self) -> Message {
        loop {
            if let Event::Record { record, .. } = self.event().await {
                assert_eq!(record.from_id, self.controller);
                return Message::decode(record.message().unwrap()).unwrap();
            }
        }
    }

    async fn record(&self, record: Record) -> Result<(), SendError> {
        self.mtps
            .send(&self.to, &self.controller, record.encode())
            .await
    }

    pub(crate) async fn try_send(&self, message: Message) -> Result<(), SendError> {
        let (to, from) = (self.controller.clone(), self.id.clone());
        self.record(Record::no_session(to, from, message.encode()))
            .await
    }

    async fn send(&self, message: Message) {
        self.try_send(message).await.unwrap();
    }

    /// Answers every Get with the same values until a request for `path` was answered.
    async fn answer_gets(&mut self, path: &str) {
        loop {
            let message = self.next().await;
            let Body::Request(Request::Get(asked)) = message.body else {
                continue;
            };
            let values: &[(&str, &str)] = &[("UpTime", "42"), ("ModelName", "Gate")];
            let objects = [("Device.DeviceInfo.", values)];
            let response = get_resp(&objects, &asked.param_paths[0]);
            self.send(Message::response(message.id, response)).await;
            if asked.param_paths.iter().any(|asked| asked == path) {
                return;
            }
        }
    }

    /// Tells of a change again and again, as R-NOT.1 has it, until it is confirmed.
    async fn notify(&mut self, id: &str) {
        tokio::time::timeout(2 * WAIT, self.tell(id))
            .await
            .expect("it is never confirmed");
    }

    async fn tell(&mut self, id: &str) {
        let told = value_change(id, true, "Device.A", id);
        loop {
            // A broker that is away takes nothing; it comes back.
            let _tried = self.try_send(told.clone()).await;
            let confirmed = async {
                loop {
                    let message = self.next().await;
                    if message.id.as_str() == id
                        && matches!(message.body, Body::Response(Response::NotifyResp(_)))
                    {
                        return;
                    }
                }
            };
            if tokio::time::timeout(Duration::from_millis(500), confirmed)
                .await
                .is_ok()
            {
                return;
            }
        }
    }
}

/// How a link of the server stands, once it is as wanted.
async fn link(access: &Access, mtp: Mtp, wanted: impl Fn(&MtpLink) -> bool) -> MtpLink {
    tokio::time::timeout(WAIT, async {
        loop {
            let list = access.mtps().unwrap();
            let found = list.mtps.into_iter().find(|status| status.mtp == mtp);
            if let Some(link) = found.unwrap().links.into_iter().find(&wanted) {
                return link;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("never: {:?}", access.mtps()))
}

fn is_up(link: &MtpLink) -> bool {
    link.state == LinkState::Up
}

/// A device comes, is read, asked and heard; all that an operator does with a device.
async fn live(home: &Home, server: &RunningServer, device: &mut Device, mtp: Mtp, secure: bool) {
    let access = operator(server).await;
    device.up().await;
    device.send(on_board("boot")).await;
    device.answer_gets("Device.LocalAgent.").await;
    let new = NewTask {
        operation: get("Device.DeviceInfo.UpTime"),
        expires_in: None,
    };
    let task = access.submit(&home.device, new).await.unwrap();
    device.answer_gets("Device.DeviceInfo.UpTime").await;
    let done = access.wait_task(&task.id, WAIT).await.unwrap();
    assert_eq!(done.state, TaskState::Done, "{done:?}");
    device.notify("n-1").await;

    let known = access.device(&home.device).await.unwrap();
    assert_eq!(known.summary.mtp, Some(mtp));
    assert_eq!(known.summary.reachability, Reachability::Reachable);
    assert_eq!(known.summary.model_name.as_deref(), Some("Gate"));
    let connected: Vec<Mtp> = known.connections.iter().map(|link| link.mtp).collect();
    assert_eq!(connected, [mtp]);
    assert!(
        known
            .addresses
            .iter()
            .all(|address| address.secure == secure)
    );
    let direct = mtp == Mtp::Websocket;
    assert_eq!(known.certificate.is_some(), secure && direct);
    assert_eq!(known.broker.is_some(), secure && !direct);

    let list = access.mtps().unwrap().mtps;
    let status = list.iter().find(|status| status.mtp == mtp).unwrap();
    assert_eq!(status.devices, Some(1), "{status:?}");
    assert!(
        status.records_in >= 5 && status.records_out >= 3,
        "{status:?}"
    );
}

async fn websocket(secure: bool) {
    let mut home = Home::new();
    let any = "127.0.0.1:0".parse().ok();
    if secure {
        home.config.websocket.listen = any;
    } else {
        home.config.websocket.plain_listen = any;
    }
    let server = home.start().await;
    let mut device = home.over_websocket(&server, secure);
    live(&home, &server, &mut device, Mtp::Websocket, secure).await;
    let access = operator(&server).await;
    device.mtps.shutdown().await;
    tokio::time::timeout(WAIT, async {
        while !access
            .device(&home.device)
            .await
            .unwrap()
            .connections
            .is_empty()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it is shown connected for ever");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_over_websocket_with_tls_is_read_asked_and_heard() {
    websocket(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_over_plain_websocket_is_read_asked_and_heard() {
    websocket(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_connects_to_an_agent_that_listens() {
    let mut home = Home::new();
    let (mut device, mtp) = home.websocket(true);
    let listener = WebSocketListener {
        address: "127.0.0.1:0".parse().unwrap(),
        path: "/agent".to_owned(),
        secure: true,
    };
    let at = mtp.listen("here", listener).await.unwrap();
    home.config.websocket.agent = vec![ListeningAgent {
        endpoint_id: home.device.clone(),
        url: format!("wss://{at}/agent"),
    }];
    let server = home.start().await;
    live(&home, &server, &mut device, Mtp::Websocket, true).await;
    let access = operator(&server).await;
    let link = link(&access, Mtp::Websocket, is_up).await;
    assert_eq!(link.name, home.device);
    device.mtps.shutdown().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_over_websocket_in_the_name_of_another_is_never_delivered() {
    let mut home = Home::new();
    home.config.websocket.listen = "127.0.0.1:0".parse().ok();
    let server = home.start().await;
    let access = operator(&server).await;
    let mut device = home.over_websocket(&server, true);
    device.up().await;
    let forged = Record::no_session(
        device.controller.clone(),
        "os::00D09E-victim".parse().unwrap(),
        on_board("forged").encode(),
    );
    let elsewhere = Record::no_session(
        "proto::another-controller".parse().unwrap(),
        device.id.clone(),
        on_board("elsewhere").encode(),
    );
    // What is not for us is ignored too; then an honest one shows that all were looked at.
    drop(device.record(elsewhere).await);
    drop(device.record(forged).await);
    device.notify("n-1").await;
    let devices = access
        .devices(DeviceQuery::default())
        .await
        .unwrap()
        .devices;
    let ids: Vec<&str> = devices.iter().map(|device| device.id.as_str()).collect();
    assert_eq!(ids, [home.device.as_str()]);
    let list = access.mtps().unwrap().mtps;
    let status = list.iter().find(|status| status.mtp == Mtp::Websocket);
    assert_eq!(status.unwrap().forged, 1);
    assert_eq!(server.core().metrics().records_with("not_for_us"), 1);
    device.mtps.shutdown().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_over_websocket_end_when_their_authority_is_trusted_no_more() {
    let mut home = Home::new();
    home.config.websocket.listen = "127.0.0.1:0".parse().ok();
    let server = home.start().await;
    let mut device = home.over_websocket(&server, true);
    device.up().await;
    device.notify("n-1").await;
    home.write("anchors.pem", &Authority::new("Another CA").pem);
    server.reload().await.unwrap();
    device.down().await;
    device.mtps.shutdown().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_at_an_mqtt_broker_is_read_asked_and_heard() {
    if !have("mosquitto", Mosquitto::is_installed()) {
        return;
    }
    let broker = Mosquitto::start(&[USER, "device"], USER, None);
    for version in [Version::V5, Version::V311] {
        let mut home = Home::new();
        home.at_mosquitto(&broker, version, false);
        let server = home.start().await;
        let access = operator(&server).await;
        let up = link(&access, Mtp::Mqtt, is_up).await;
        assert_eq!((up.name.as_str(), up.secure), ("home", false));
        assert_eq!(up.reached_at.as_deref(), Some(home.topic().as_str()));
        let mut device = home.over_mqtt("device");
        live(&home, &server, &mut device, Mtp::Mqtt, false).await;
        device.mtps.shutdown().await;
        server.stop().await;
    }
}

/// Mosquitto with TLS, and the home whose CA issued its certificate. The broker is trusted.
pub(crate) fn trusted_mosquitto() -> Option<(Home, Mosquitto)> {
    if !have("mosquitto", Mosquitto::is_installed()) {
        return None;
    }
    let mut home = Home::new();
    let (chain, key) = for_broker(&home.authority);
    home.config.tls.brokers = Some(home.write("brokers.pem", &chain));
    let ca = home.authority.pem.clone();
    let tls = mosquitto::BrokerTls { ca, chain, key };
    let broker = Mosquitto::start(&[], USER, Some(&tls));
    home.at_mosquitto(&broker, Version::V5, true);
    Some((home, broker))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_mqtt_broker_vouches_for_its_devices() {
    let Some((home, _broker)) = trusted_mosquitto() else {
        return;
    };
    let server = home.start().await;
    let access = operator(&server).await;
    assert!(link(&access, Mtp::Mqtt, is_up).await.secure);
    let mut device = home.over_mqtt("device");
    live(&home, &server, &mut device, Mtp::Mqtt, true).await;
    device.mtps.shutdown().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_taken_from_a_broker_that_is_not_trusted() {
    let Some((mut home, _broker)) = trusted_mosquitto() else {
        return;
    };
    let mut device = home.over_mqtt("device");
    // The server trusts another; the broker's certificate is good all the same.
    let (another, _) = for_broker(&home.authority);
    home.config.tls.brokers = Some(home.write("others.pem", &another));
    let server = home.start().await;
    let access = operator(&server).await;
    link(&access, Mtp::Mqtt, is_up).await;
    device.up().await;
    tokio::time::timeout(WAIT, async {
        loop {
            device.send(on_board("boot")).await;
            let list = access.mtps().unwrap().mtps;
            let mqtt = list.iter().find(|status| status.mtp == Mtp::Mqtt).unwrap();
            if mqtt.forged > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("what comes is not counted");
    let devices = access
        .devices(DeviceQuery::default())
        .await
        .unwrap()
        .devices;
    assert!(devices.is_empty(), "{devices:?}");
    // Once it is a Trusted Broker, it is listened to.
    std::fs::copy(
        home.directory.path().join("brokers.pem"),
        home.directory.path().join("others.pem"),
    )
    .unwrap();
    server.reload().await.unwrap();
    device.notify("n-1").await;
    device.mtps.shutdown().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_notification_is_lost_when_the_mqtt_broker_restarts() {
    let Some((home, broker)) = trusted_mosquitto() else {
        return;
    };
    let server = home.start().await;
    let access = operator(&server).await;
    link(&access, Mtp::Mqtt, is_up).await;
    let mut device = home.over_mqtt("device");
    device.up().await;
    device.notify("n-1").await;
    broker.kill();
    let lost = link(&access, Mtp::Mqtt, |link| !is_up(link)).await;
    assert!(lost.problem.is_some() || lost.state == LinkState::Connecting);
    broker.begin();
    device.notify("n-2").await;
    assert_eq!(link(&access, Mtp::Mqtt, is_up).await.failures, 0);
    stored(&access, &home.device, "n-2").await;
    assert_eq!(server.core().metrics().notifications.get(), 2);
    device.mtps.shutdown().await;
    server.stop().await;
}

async fn stored(access: &Access, device: &str, value: &str) {
    let query = homefleet_server::core::ParameterQuery {
        path: Some("Device.A".to_owned()),
        ..Default::default()
    };
    let page = access.parameters(device, query).await.unwrap();
    assert_eq!(page.parameters[0].value, value);
}

/// Everything that needs RabbitMQ, which takes its time to start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_at_a_stomp_broker_is_read_asked_and_heard_and_nothing_is_lost_by_a_restart() {
    if !have("RabbitMQ", Rabbit::is_installed()) {
        return;
    }
    let mut home = Home::new();
    let mut secure = Home::new();
    let (chain, key) = for_broker(&secure.authority);
    secure.config.tls.brokers = Some(secure.write("brokers.pem", &chain));
    let ca = secure.authority.pem.clone();
    let tls = rabbitmq::BrokerTls { ca, chain, key };
    let users = [
        User::controller(&home.controller, Some("secret")),
        User::device(&home.device, Some("secret")),
        User::controller(&secure.controller, None),
        User::device(&secure.device, None),
    ];
    let broker = tokio::task::block_in_place(|| Rabbit::start(&users, Some(&tls)));

    home.at_rabbit(&broker, false);
    let server = home.start().await;
    let access = operator(&server).await;
    let reached = |link: &MtpLink| is_up(link) && link.reached_at.is_some();
    let up = link(&access, Mtp::Stomp, reached).await;
    assert_eq!(up.reached_at.as_deref(), Some(DESTINATION));
    let mut device = home.over_stomp();
    live(&home, &server, &mut device, Mtp::Stomp, false).await;
    device.mtps.shutdown().await;
    server.stop().await;

    let mut home = secure;
    home.at_rabbit(&broker, true);
    let server = home.start().await;
    let access = operator(&server).await;
    assert!(link(&access, Mtp::Stomp, is_up).await.secure);
    let mut device = home.over_stomp();
    live(&home, &server, &mut device, Mtp::Stomp, true).await;

    broker.kill();
    link(&access, Mtp::Stomp, |link| !is_up(link)).await;
    tokio::task::block_in_place(|| broker.begin());
    device.notify("n-2").await;
    stored(&access, &home.device, "n-2").await;
    device.mtps.shutdown().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notification_is_confirmed_and_counted_once_over_a_restart_of_the_server() {
    let mut home = Home::new();
    home.config.websocket.listen = "127.0.0.1:0".parse().ok();
    let server = home.start().await;
    let url = server.address(Mtp::Websocket).unwrap();
    // It comes back where it was.
    let at = url.trim_start_matches("wss://").trim_end_matches("/usp");
    home.config.websocket.listen = at.parse().ok();
    let mut device = home.over_websocket(&server, true);
    device.up().await;
    device.notify("n-1").await;
    server.stop().await;
    device.down().await;
    let server = home.start().await;
    // The confirmation of n-1 may have been lost: it is told again, and is the same.
    device.notify("n-1").await;
    device.notify("n-2").await;
    let metrics = server.core().metrics();
    assert_eq!(metrics.notifications.get(), 1);
    assert!(metrics.notifications_repeated.get() >= 1);
    let access = crate::live::access(&server, Role::Viewer).await;
    stored(&access, &home.device, "n-2").await;
    device.mtps.shutdown().await;
    server.stop().await;
}

#[expect(clippy::print_stdout, reason = "a test that is left out says so")]
/// Says loudly when a broker is missing; in CI that is a failure.
fn have(what: &str, installed: bool) -> bool {
    if !installed {
        assert!(std::env::var_os("CI").is_none(), "{what} is not installed");
        println!("SKIPPED: {what} is not installed");
    }
    installed
}
