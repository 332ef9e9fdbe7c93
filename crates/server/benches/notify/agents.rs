//! Agents of the simplest kind: each says Notify, waits for the answer, and says the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use homefleet_net::dtls;
use homefleet_net::mtp::mqtt::{MqttClient, MqttMtp, MqttMtpConfig};
use homefleet_net::mtp::stomp::{StompConnection, StompMtp, StompMtpConfig};
use homefleet_net::mtp::websocket::{Limits, WebSocketConnection};
use homefleet_net::mtp::{
    Channel, CoapMtp, CoapMtpConfig, Connect, Event, Greeter, Interface, Mtps, Outgoing, Route,
    UdsConnection, UdsMtp, UdsMtpConfig, WebSocketMtp, WebSocketMtpConfig,
};
use homefleet_net::tls::Tls;
use homefleet_usp::message::{Body, Message, Request, Response};
use homefleet_usp::mtp::stomp::Login;
use homefleet_usp::mtp::websocket;
use homefleet_usp::proto::msg;
use homefleet_usp::record::{MqttVersion, RecordBody};
use homefleet_usp::{EndpointId, ErrorCode, Record};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::pki::{CONTROLLER, Ca, PASSWORD, agent, user};
use crate::{AGENTS, Way};

/// An answer that is not there by then is lost; the Notify is repeated.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections made at once.
const AT_ONCE: usize = 16;

pub(crate) struct Fleet {
    stored: Arc<AtomicU64>,
    agents: Vec<JoinHandle<()>>,
}

impl Fleet {
    /// Connects all of them; they begin at once.
    pub(crate) async fn connect(way: Way, ca: &Ca, at: &str) -> Self {
        let stored = Arc::new(AtomicU64::new(0));
        let mut agents = Vec::new();
        for n in 0..AGENTS {
            let mut agent = Agent::connect(way, ca, at, n).await;
            let counter = stored.clone();
            let before = stored.load(Ordering::Relaxed);
            agents.push(tokio::spawn(async move { agent.run(&counter).await }));
            if n % AT_ONCE == 0 {
                // Not all handshakes at once.
                let patience = Instant::now() + 4 * PATIENCE;
                while stored.load(Ordering::Relaxed) == before {
                    assert!(Instant::now() < patience, "nothing is answered");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
        Self { stored, agents }
    }

    /// How many notifications were answered.
    pub(crate) fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    pub(crate) async fn end(self) {
        for agent in &self.agents {
            agent.abort();
        }
        for agent in self.agents {
            // Aborted.
            let _ended = agent.await;
        }
    }
}

struct Agent {
    id: EndpointId,
    mtps: Mtps,
    route: Route,
    events: mpsc::Receiver<Event>,
}

/// Says the Connect Record (R-MTP.6).
struct Greets(EndpointId);

impl Greeter for Greets {
    fn greet(&self, channel: &Channel) -> Vec<Outgoing> {
        let endpoint_id: EndpointId = CONTROLLER.parse().unwrap();
        let (route, body) = match &channel.connect {
            Connect::WebSocket => {
                let secure = channel.identity.is_some();
                (Route::WebSocket { secure }, RecordBody::WebSocketConnect)
            }
            Connect::Stomp { destination } => (
                stomp_route(&self.0),
                RecordBody::StompConnect {
                    destination: destination.clone(),
                },
            ),
            Connect::Mqtt { version, topic } => (
                mqtt_route(),
                RecordBody::MqttConnect {
                    version: *version,
                    topic: topic.clone(),
                },
            ),
            Connect::Uds => (Route::Uds, RecordBody::UdsConnect),
        };
        vec![Outgoing {
            record: Record::with(endpoint_id.clone(), self.0.clone(), body).encode(),
            route,
            endpoint_id,
        }]
    }
}

/// Each has a destination of its own, as the broker has it.
fn stomp_route(id: &EndpointId) -> Route {
    Route::Stomp {
        connection: "bench".to_owned(),
        destination: format!("/topic/usp.controller.{id}"),
    }
}

fn mqtt_route() -> Route {
    Route::Mqtt {
        connection: "bench".to_owned(),
        topic: "usp/controller".to_owned(),
    }
}

impl Agent {
    async fn connect(way: Way, ca: &Ca, at: &str, n: usize) -> Self {
        let name = agent(n);
        let id: EndpointId = name.parse().unwrap();
        let issued = ca.issue(&name);
        let (events, inbox) = mpsc::channel(64);
        let greeter = Arc::new(Greets(id.clone()));
        let tls = || Tls::new(&issued.credentials(), ca.verifier()).unwrap();
        let broker = || {
            let (host, port) = at.rsplit_once(':').unwrap();
            (host.to_owned(), port.parse::<u16>().unwrap())
        };
        let mut mtps = Mtps::default();
        let route = match way {
            Way::Coap { secure } => {
                let any = "127.0.0.1:0".parse().unwrap();
                let mtp = CoapMtp::bind(CoapMtpConfig {
                    endpoint_id: id.clone(),
                    interface: Interface::Agent,
                    listen: any,
                    plain_listen: (!secure).then_some(any),
                    groups: Vec::new(),
                    path: "usp".to_owned(),
                    advertise: None,
                    credentials: issued.credentials(),
                    verifier: ca.verifier(),
                    coap: homefleet_coap::Config::default(),
                    dtls: dtls::Config::default(),
                    events,
                });
                mtps.coap = Some(mtp.await.unwrap());
                Route::Coap(at.parse().unwrap())
            }
            Way::WebSocket { secure } => {
                let mtp = WebSocketMtp::new(WebSocketMtpConfig {
                    endpoint_id: id.clone(),
                    events,
                    greeter,
                    tls: Some(tls()),
                    allow_plain: !secure,
                    session: websocket::Config::default(),
                    limits: Limits::default(),
                });
                let (_, rest) = at.split_once("://").unwrap();
                let (authority, path) = rest.split_once('/').unwrap();
                let (host, port) = authority.rsplit_once(':').unwrap();
                let port = port.parse().unwrap();
                let path = format!("/{path}");
                let connection = WebSocketConnection {
                    endpoint_id: Some(CONTROLLER.parse().unwrap()),
                    ..WebSocketConnection::new(host, port, &path, secure)
                };
                mtp.open("bench", connection);
                mtps.websocket = Some(mtp);
                Route::WebSocket { secure }
            }
            Way::Stomp { secure } => {
                let mtp = StompMtp::new(StompMtpConfig {
                    greeter,
                    allow_plain: !secure,
                    allow_untrusted_broker: true,
                    ..StompMtpConfig::new(id.clone(), events, Some(tls()))
                });
                let (host, port) = broker();
                let login = match secure {
                    true => Login::Certificate,
                    false => Login::Password {
                        login: name.clone(),
                        passcode: PASSWORD.to_owned(),
                    },
                };
                let connection = StompConnection {
                    port,
                    encryption: secure,
                    destination: Some(format!("/topic/usp.agent.{name}")),
                    ..StompConnection::new(host, login)
                };
                mtp.open("bench", connection);
                mtps.stomp = Some(mtp);
                stomp_route(&id)
            }
            Way::Mqtt { secure } => {
                let mtp = MqttMtp::new(MqttMtpConfig {
                    tls: Some(tls()),
                    allow_plain: !secure,
                    allow_untrusted_broker: true,
                    ..MqttMtpConfig::new(id.clone(), events, greeter)
                });
                let (host, port) = broker();
                let client = MqttClient {
                    tls: secure,
                    client_id: Some(name.clone()),
                    login: (!secure).then(|| (user(n), PASSWORD.to_owned())),
                    // By its certificate the broker knows it by its common name.
                    response_topic: Some(match secure {
                        true => format!("usp/agent/{name}"),
                        false => format!("usp/agent/{}", user(n)),
                    }),
                    ..MqttClient::new(MqttVersion::V5, &host, port)
                };
                mtp.open("bench", client);
                mtps.mqtt = Some(mtp);
                mqtt_route()
            }
            Way::Uds => {
                let config = UdsMtpConfig {
                    greeter,
                    ..UdsMtpConfig::new(id.clone(), events)
                };
                let mtp = UdsMtp::new(config);
                mtp.open("bench", UdsConnection::new(at)).await;
                mtps.uds = Some(mtp);
                Route::Uds
            }
        };
        let mut agent = Self {
            id: id.clone(),
            mtps,
            route,
            events: inbox,
        };
        if !matches!(way, Way::Coap { .. }) {
            let patience = Instant::now() + 4 * PATIENCE;
            loop {
                let event = timeout_at(patience, agent.events.recv()).await;
                if matches!(event.expect("no connection"), Some(Event::Up(_))) {
                    break;
                }
            }
        }
        agent
    }

    async fn run(&mut self, stored: &AtomicU64) {
        for number in 0_u64.. {
            let id = number.to_string();
            let notify = Message::request(id.as_str(), Request::Notify(value_change(number)));
            // Lost ones are repeated, as the standard asks (R-NOT.1).
            while !self.say(&notify).await || !self.answered(&id).await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            stored.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn say(&self, message: &Message) -> bool {
        let to: EndpointId = CONTROLLER.parse().unwrap();
        let record = Record::no_session(to.clone(), self.id.clone(), message.encode()).encode();
        self.mtps.send(&self.route, &to, record).await.is_ok()
    }

    /// Waits for the answer; what the server asks meanwhile is refused.
    async fn answered(&mut self, id: &str) -> bool {
        let end = Instant::now() + PATIENCE;
        while let Ok(Some(event)) = timeout_at(end, self.events.recv()).await {
            let Event::Record { record, .. } = event else {
                continue;
            };
            let Some(message) = record.message().and_then(|it| Message::decode(it).ok()) else {
                continue;
            };
            match message.body {
                Body::Response(Response::NotifyResp(_)) if message.id.as_str() == id => {
                    return true;
                }
                Body::Request(_) => {
                    let code = ErrorCode::REQUEST_DENIED;
                    let refusal = Message::error(message.id, code, "a bench answers nothing");
                    self.say(&refusal).await;
                }
                _ => {}
            }
        }
        false
    }
}

/// As a device tells that one of its values has changed.
fn value_change(number: u64) -> msg::Notify {
    let change = msg::notify::ValueChange {
        param_path: "Device.DeviceInfo.UpTime".to_owned(),
        param_value: number.to_string(),
    };
    msg::Notify {
        subscription_id: "homefleet-value".to_owned(),
        send_resp: true,
        notification: Some(msg::notify::Notification::ValueChange(change)),
    }
}
