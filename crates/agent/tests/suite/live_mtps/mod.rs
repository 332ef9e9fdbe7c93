//! The agent of this very machine and a controller, over every MTP with connections: real sockets, real brokers.

mod brokers;
mod sessions;

use std::{path::Path, sync::Arc, time::Instant};

use homefleet_agent::{Agent, Config};
use homefleet_net::{
    dtls::{Credentials, TrustVerifier},
    mtp::{Event, Mtps, Route, SendError},
    tls::Tls,
};
use homefleet_trust::{Policy, Time, anchors_from_pem};
use homefleet_usp::{
    Message, Record,
    message::{Body, Request, Response, get},
    proto::msg::{Notify, NotifyResp, notify::Notification},
    record::RecordBody,
};
use tokio::sync::mpsc;

use crate::{
    bench::{AGENT, CONTROLLER, id},
    pki::{Ca, Issued, PATIENCE},
};

/// A controller on real sockets, whatever the MTP.
pub(super) struct Remote {
    pub(super) mtps: Mtps,
    pub(super) sender: mpsc::Sender<Event>,
    events: mpsc::Receiver<Event>,
    /// Where the agent is.
    pub(super) agent: Option<Route>,
    /// Connect and Disconnect Records, in order.
    pub(super) others: Vec<RecordBody>,
    notifications: Vec<Notify>,
    /// A Connect Record has come.
    greeted: bool,
    next_id: u32,
}

impl Remote {
    pub(super) fn new() -> Self {
        let (sender, events) = mpsc::channel(4096);
        Self {
            mtps: Mtps::default(),
            sender,
            events,
            agent: None,
            others: Vec::new(),
            notifications: Vec::new(),
            greeted: false,
            next_id: 0,
        }
    }

    /// What came next.
    async fn next(&mut self) -> Option<Message> {
        let event = tokio::time::timeout(PATIENCE, self.events.recv())
            .await
            .expect("nothing came")
            .expect("the MTPs have ended");
        let Event::Record { record, origin } = event else {
            return None;
        };
        assert_eq!(record.from_id.as_str(), AGENT);
        let Some(message) = record.message() else {
            self.greeted = !matches!(record.body, RecordBody::Disconnect { .. });
            self.others.push(record.body.clone());
            return None;
        };
        assert!(self.greeted, "R-MTP.8: the Connect Record is the first");
        let message = Message::decode(message).unwrap();
        self.agent = origin.reply_to;
        if let Body::Request(Request::Notify(notify)) = &message.body {
            self.notifications.push(notify.clone());
            if notify.send_resp {
                let response = NotifyResp {
                    subscription_id: notify.subscription_id.clone(),
                };
                let response = Message::response(message.id.clone(), response);
                // The session may have ended meanwhile: it is repeated then.
                self.send(&response).await.ok();
            }
        }
        Some(message)
    }

    /// Waits until a Notify is there for which `wanted` holds.
    pub(super) async fn notified(&mut self, wanted: impl Fn(&Notify) -> bool) -> Notify {
        loop {
            if let Some(at) = self.notifications.iter().position(&wanted) {
                return self.notifications.remove(at);
            }
            self.next().await;
        }
    }

    /// Waits for a Disconnect Record.
    pub(super) async fn goodbye(&mut self) {
        let is = |body: &RecordBody| matches!(body, RecordBody::Disconnect { .. });
        while !self.others.iter().any(is) {
            self.next().await;
        }
    }

    pub(super) async fn send(&self, message: &Message) -> Result<(), SendError> {
        let record = Record::no_session(id(AGENT), id(CONTROLLER), message.encode());
        let route = self.agent.as_ref().unwrap();
        self.mtps.send(route, &id(AGENT), record.encode()).await
    }

    /// Asks the agent; the response.
    pub(super) async fn ask(&mut self, request: impl Into<Request>) -> Response {
        self.next_id += 1;
        let message = Message::request(format!("c-{}", self.next_id), request);
        self.send(&message).await.unwrap();
        loop {
            let Some(answer) = self.next().await else {
                continue;
            };
            match answer.body {
                Body::Response(response) if answer.id == message.id => return response,
                Body::Error(error) => panic!("{error:?}"),
                _ => {}
            }
        }
    }

    pub(super) async fn value(&mut self, path: &str) -> String {
        let Response::GetResp(response) = self.ask(get([path], 0)).await else {
            panic!()
        };
        let result = &response.req_path_results[0];
        assert_eq!(result.err_code, 0, "{path}: {}", result.err_msg);
        let mut values = result.resolved_path_results[0].result_params.values();
        values.next().unwrap().clone()
    }

    pub(super) async fn set(&mut self, object: &str, param: &str, value: &str) {
        let update = homefleet_usp::message::update_object(object, [(param, value, true)]);
        self.ask(homefleet_usp::message::set(false, vec![update]))
            .await;
    }

    /// It is told of the boot, asks for something, and is told of a change.
    pub(super) async fn exchange(&mut self) {
        self.notified(is_boot).await;
        assert_eq!(self.value("Device.LocalAgent.EndpointID").await, AGENT);
        self.set(ROW, "ProvisioningCode", "gold").await;
        assert_eq!(self.value(&format!("{ROW}ProvisioningCode")).await, "gold");
    }
}

pub(super) const ROW: &str = "Device.LocalAgent.Controller.1.";

pub(super) fn is_boot(notify: &Notify) -> bool {
    matches!(&notify.notification, Some(Notification::Event(event)) if event.event_name == "Boot!")
}

/// TLS with this certificate, trusting this CA, and these brokers.
pub(super) fn tls(issued: &Issued, trusted: &Ca, brokers: Option<&str>) -> Tls {
    let anchors = anchors_from_pem(&trusted.pem()).unwrap();
    let verifier = TrustVerifier::new(anchors, Policy::default(), || {
        Time::Accurate(std::time::SystemTime::now())
    });
    if let Some(brokers) = brokers {
        verifier.replace_brokers(anchors_from_pem(brokers).unwrap());
    }
    let credentials = Credentials::from_pem(&issued.chain, &issued.key).unwrap();
    Tls::new(&credentials, Arc::new(verifier)).unwrap()
}

/// An agent whose configuration has this `[controller]`, and `more` at its top.
pub(super) async fn start(
    directory: &Path,
    ca: &Ca,
    more: &str,
    controller: &str,
    trust: &str,
) -> Agent {
    let own = ca.issue(AGENT);
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    write("ca.pem", &ca.pem());
    write("agent.pem", &own.chain);
    write("agent.key", &own.key);
    let text = format!(
        "version = 1\nendpoint_id = \"{AGENT}\"\ndata_dir = \"state\"\n{more}\n\
         [controller]\nendpoint_id = \"{CONTROLLER}\"\n{controller}\n\
         [trust]\nca = \"ca.pem\"\ncertificate = \"agent.pem\"\nkey = \"agent.key\"\ntime = \"accurate\"\n{trust}\n\
         [device]\nrestart = \"agent\"\n"
    );
    let config = Config::parse(&text, &directory.join("agent.toml"), |_| None).unwrap();
    Agent::start(config).await.unwrap()
}

/// Waits until the engine's counters are as wanted.
pub(super) async fn stats_become(
    agent: &Agent,
    wanted: impl Fn(&homefleet_agent::engine::Stats) -> bool,
) {
    let end = Instant::now() + PATIENCE;
    loop {
        let stats = agent.stats().await.unwrap();
        if wanted(&stats) {
            return;
        }
        assert!(Instant::now() < end, "{stats:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// A port that is free now.
pub(super) fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}
