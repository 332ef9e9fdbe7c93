//! USP over STOMP: against a scripted broker, and through RabbitMQ.

use std::sync::Arc;
use std::time::Duration;

use homefleet_net::mtp::stomp::{StompConnection, StompMtp, StompMtpConfig, StompStats};
use homefleet_net::mtp::{Channel, Connect, Event, Greeter, Origin, Outgoing, Route, SendError};
use homefleet_usp::mtp::retry::RetryPolicy;
use homefleet_usp::mtp::stomp::Login;
use homefleet_usp::record::RecordBody;
use homefleet_usp::{EndpointId, Record};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::stomp::LIMIT;

mod rabbitmq;
mod scripted;
mod trouble;

const AGENT: &str = "os::012345-AGENT";
const CONTROLLER: &str = "self::controller";

fn id(text: &str) -> EndpointId {
    text.parse().unwrap()
}

fn password() -> Login {
    Login::Password {
        login: "user".into(),
        passcode: "open sesame".into(),
    }
}

/// A connection to a broker on loopback, without TLS, that is tried again within a second.
fn plain(port: u16, destination: &str) -> StompConnection {
    StompConnection {
        port,
        encryption: false,
        destination: Some(destination.to_owned()),
        retry: RetryPolicy::stomp(1, 1000, 1),
        ..StompConnection::new("127.0.0.1", password())
    }
}

/// The way to a destination over the connection `main`.
fn route(destination: &str) -> Route {
    Route::Stomp {
        connection: "main".into(),
        destination: destination.into(),
    }
}

/// A Record from one to the other, with everything in its payload that a frame could stumble over.
fn record(from: &str, to: &str, text: &str) -> Record {
    let payload = [b"\0\n\0\r\n\\c:", text.as_bytes(), b"\0"].concat();
    Record::no_session(id(to), id(from), payload)
}

/// Sends a Connect Record to a destination (R-MTP.6).
struct Greets {
    from: EndpointId,
    to: EndpointId,
    destination: String,
}

impl Greeter for Greets {
    fn greet(&self, channel: &Channel) -> Vec<Outgoing> {
        let Connect::Stomp { destination } = &channel.connect else {
            panic!("{channel:?}");
        };
        let body = RecordBody::StompConnect {
            destination: destination.clone(),
        };
        vec![Outgoing {
            route: Route::Stomp {
                connection: channel.connection.clone().unwrap(),
                destination: self.destination.clone(),
            },
            endpoint_id: self.to.clone(),
            record: Record::with(self.to.clone(), self.from.clone(), body).encode(),
        }]
    }
}

/// An Endpoint with STOMP, and what happens there.
struct Endpoint {
    mtp: StompMtp,
    events: mpsc::Receiver<Event>,
}

impl Endpoint {
    /// One that greets nobody, and connects without TLS.
    fn new(name: &str) -> Self {
        Self::with(name, 64, |_| {})
    }

    /// An Agent, which greets its Controller.
    fn greeting(name: &str, to: &str, destination: &str) -> Self {
        Self::with(name, 64, |config| {
            config.greeter = Arc::new(Greets {
                from: id(name),
                to: id(to),
                destination: destination.to_owned(),
            });
        })
    }

    fn with(name: &str, room: usize, adapt: impl FnOnce(&mut StompMtpConfig)) -> Self {
        let (sender, events) = mpsc::channel(room);
        let mut config = StompMtpConfig::new(id(name), sender, None);
        config.allow_plain = true;
        adapt(&mut config);
        Self {
            mtp: StompMtp::new(config),
            events,
        }
    }

    fn open(&self, spec: &StompConnection) {
        self.mtp.open("main", spec.clone());
    }

    async fn event(&mut self) -> Event {
        timeout(LIMIT, self.events.recv())
            .await
            .unwrap_or_else(|_| panic!("nothing happens: {:?}", self.mtp.status("main")))
            .unwrap()
    }

    async fn up(&mut self) -> Channel {
        match self.event().await {
            Event::Up(channel) => channel,
            other => panic!("{other:?}"),
        }
    }

    async fn down(&mut self) -> String {
        match self.event().await {
            Event::Down { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    }

    async fn record(&mut self) -> (Record, Origin) {
        match self.event().await {
            Event::Record { record, origin } => (*record, origin),
            other => panic!("{other:?}"),
        }
    }

    async fn send(&self, to: &str, destination: &str, record: &Record) -> Result<(), SendError> {
        timeout(
            LIMIT,
            self.mtp.send(&route(destination), &id(to), record.encode()),
        )
        .await
        .expect("the Record is neither sent nor refused")
    }

    fn stats(&self) -> StompStats {
        self.mtp.stats()
    }
}

/// Waits until it is so.
async fn until(so: impl Fn() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, waiting)
        .await
        .expect("it does not become so");
}
