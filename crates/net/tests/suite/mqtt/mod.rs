//! USP over MQTT: against mosquitto, and against a broker that does what the test says.

mod garbage;
mod live;
mod requirements;
mod script;
mod secure;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use homefleet_net::mtp::mqtt::{MqttMtp, MqttMtpConfig, MqttStatus};
use homefleet_net::mtp::{
    Channel, Connect, Event, Greeter, MqttClient, Origin, Outgoing, Route, SendError,
};
use homefleet_usp::mtp::mqtt::{Qos, Subscription};
use homefleet_usp::record::{MqttVersion, RecordBody};
use homefleet_usp::{EndpointId, Record};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

pub(crate) const AGENT: &str = "os::00256D-agent";
pub(crate) const CONTROLLER: &str = "os::00256D-controller";
/// Long enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const V5: MqttVersion = MqttVersion::V5;
pub(crate) const V3: MqttVersion = MqttVersion::V311;
pub(crate) const CONTROLLER_TOPIC: &str = "usp/controller";

pub(crate) fn id(text: &str) -> EndpointId {
    text.parse().unwrap()
}

pub(crate) fn record(from: &str, to: &str, message: &[u8]) -> Vec<u8> {
    Record::no_session(id(to), id(from), message.to_vec()).encode()
}

pub(crate) fn at(filter: &str) -> Subscription {
    Subscription {
        filter: filter.to_owned(),
        qos: Qos::AtLeastOnce,
    }
}

pub(crate) fn route(topic: &str) -> Route {
    Route::Mqtt {
        connection: "main".to_owned(),
        topic: topic.to_owned(),
    }
}

/// What an Agent does when a channel comes up: it tells its Controller (R-MTP.6).
pub(crate) struct AgentGreeter;

impl Greeter for AgentGreeter {
    fn greet(&self, channel: &Channel) -> Vec<Outgoing> {
        let Connect::Mqtt { version, topic } = channel.connect.clone() else {
            panic!("no MQTT channel: {channel:?}");
        };
        let body = RecordBody::MqttConnect { version, topic };
        vec![Outgoing {
            route: route(CONTROLLER_TOPIC),
            endpoint_id: id(CONTROLLER),
            record: Record::with(id(CONTROLLER), id(AGENT), body).encode(),
        }]
    }
}

/// One side: its MTP and what it is told.
pub(crate) struct Side {
    pub(crate) mtp: MqttMtp,
    events: mpsc::Receiver<Event>,
    past: VecDeque<Event>,
    pub(crate) assigned: Option<String>,
    is_agent: bool,
}

impl Side {
    pub(crate) fn new(endpoint_id: &str, configure: impl FnOnce(&mut MqttMtpConfig)) -> Self {
        let (events, receiver) = mpsc::channel(64);
        let greeter: Arc<dyn Greeter> = if endpoint_id == AGENT {
            Arc::new(AgentGreeter)
        } else {
            Arc::new(homefleet_net::mtp::NoGreeting)
        };
        let mut config = MqttMtpConfig::new(id(endpoint_id), events, greeter);
        config.allow_plain = true;
        configure(&mut config);
        Self {
            mtp: MqttMtp::new(config),
            events: receiver,
            past: VecDeque::new(),
            assigned: None,
            is_agent: endpoint_id == AGENT,
        }
    }

    pub(crate) async fn next(&mut self) -> Event {
        match self.past.pop_front() {
            Some(event) => event,
            None => timeout(PATIENCE, self.events.recv())
                .await
                .unwrap()
                .unwrap(),
        }
    }

    /// The channel that comes up, past an identifier that the broker assigned.
    pub(crate) async fn up(&mut self) -> Channel {
        loop {
            match self.next().await {
                Event::Up(channel) => return channel,
                Event::ClientId { client_id, .. } => self.assigned = Some(client_id),
                other => panic!("not up: {other:?}"),
            }
        }
    }

    pub(crate) async fn down(&mut self) -> String {
        match self.next().await {
            Event::Down { reason, .. } => reason,
            other => panic!("not down: {other:?}"),
        }
    }

    pub(crate) async fn record(&mut self) -> (Record, Origin) {
        match self.next().await {
            Event::Record { record, origin } => (*record, origin),
            other => panic!("no Record: {other:?}"),
        }
    }

    pub(crate) async fn message(&mut self) -> (Vec<u8>, Option<Route>) {
        let (record, origin) = self.record().await;
        (record.message().unwrap().to_vec(), origin.reply_to)
    }

    /// Sends a Record with this message over the client `main`.
    pub(crate) async fn send(&self, topic: &str, message: &[u8]) -> Result<(), SendError> {
        let (from, to) = if self.is_agent {
            (AGENT, CONTROLLER)
        } else {
            (CONTROLLER, AGENT)
        };
        let record = record(from, to, message);
        self.mtp.send(&route(topic), &id(to), record).await
    }

    /// Takes whatever has come.
    pub(crate) fn drain(&mut self) {
        self.past.clear();
        while self.events.try_recv().is_ok() {}
    }

    pub(crate) fn status(&self) -> MqttStatus {
        self.mtp.status("main").unwrap()
    }

    /// Waits until the client's status is so.
    pub(crate) async fn until(&self, is_so: impl Fn(&MqttStatus) -> bool) -> MqttStatus {
        let status = async {
            loop {
                let status = self.status();
                if is_so(&status) {
                    return status;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        let reached = timeout(PATIENCE, status).await;
        reached.unwrap_or_else(|_| panic!("it stays {:?}", self.status()))
    }
}

/// A client's settings without TLS.
pub(crate) fn plain(version: MqttVersion, port: u16) -> MqttClient {
    MqttClient {
        tls: false,
        ..MqttClient::new(version, "127.0.0.1", port)
    }
}
