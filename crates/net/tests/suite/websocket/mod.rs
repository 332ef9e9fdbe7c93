//! USP over WebSocket (R-WS): between two of ours, byte by byte, and with an independent library.

mod opening;
mod proxy;
mod python;
mod raw;
mod records;
mod session;
mod single;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use homefleet_net::mtp::websocket::{
    WebSocketConnection, WebSocketListener, WebSocketMtp, WebSocketMtpConfig, WebSocketStats,
};
use homefleet_net::mtp::{
    Channel, Event, Greeter, NoGreeting, Origin, Outgoing, Route, SendError, State,
};
use homefleet_usp::mtp::retry::RetryPolicy;
use homefleet_usp::mtp::websocket::Config;
use homefleet_usp::record::RecordBody;
use homefleet_usp::{EndpointId, Record};
use tokio::sync::mpsc;
use tokio::time::timeout;

pub(crate) const AGENT: &str = "os::00256D-agent";
pub(crate) const CONTROLLER: &str = "os::00256D-controller";
/// Long enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const PLAIN: Route = Route::WebSocket { secure: false };
pub(crate) const SECURE: Route = Route::WebSocket { secure: true };

pub(crate) fn id(text: &str) -> EndpointId {
    text.parse().unwrap()
}

pub(crate) fn record(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
    Record::no_session(id(to), id(from), payload.to_vec()).encode()
}

/// One Endpoint.
pub(crate) struct Side {
    pub(crate) mtp: WebSocketMtp,
    pub(crate) events: mpsc::Receiver<Event>,
}

/// Without TLS, which is allowed, and with what `change` changes.
pub(crate) fn side_with(own: &str, change: impl FnOnce(&mut WebSocketMtpConfig)) -> Side {
    let (events, receiver) = mpsc::channel(64);
    let mut config = WebSocketMtpConfig {
        endpoint_id: id(own),
        events,
        greeter: Arc::new(NoGreeting),
        tls: None,
        allow_plain: true,
        session: Config::default(),
        limits: Default::default(),
    };
    change(&mut config);
    Side {
        mtp: WebSocketMtp::new(config),
        events: receiver,
    }
}

pub(crate) fn side(own: &str) -> Side {
    side_with(own, |_| {})
}

pub(crate) fn listener(address: &str, secure: bool) -> WebSocketListener {
    WebSocketListener {
        address: address.parse().unwrap(),
        path: "/usp".to_owned(),
        secure,
    }
}

/// Leads to the Controller at `address` and is tried again at once.
pub(crate) fn to(address: SocketAddr) -> WebSocketConnection {
    WebSocketConnection {
        endpoint_id: Some(id(CONTROLLER)),
        retry: RetryPolicy::websocket(0, 1000),
        ..WebSocketConnection::new(&address.ip().to_string(), address.port(), "/usp", false)
    }
}

impl Side {
    /// Listens without TLS on any port.
    pub(crate) async fn listen(&self) -> SocketAddr {
        let listener = listener("127.0.0.1:0", false);
        self.mtp.listen("all", listener).await.unwrap()
    }

    pub(crate) async fn next(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv())
            .await
            .expect("something happens")
            .expect("the MTP is there")
    }

    pub(crate) async fn up(&mut self) -> Channel {
        match self.next().await {
            Event::Up(channel) => channel,
            other => panic!("{other:?} instead of a session"),
        }
    }

    pub(crate) async fn record(&mut self) -> (Record, Origin) {
        match self.next().await {
            Event::Record { record, origin } => (*record, origin),
            other => panic!("{other:?} instead of a Record"),
        }
    }

    /// The payload of the next Record.
    pub(crate) async fn payload(&mut self) -> Vec<u8> {
        let (record, _) = self.record().await;
        record.message().unwrap().to_vec()
    }

    pub(crate) async fn down(&mut self) -> String {
        match self.next().await {
            Event::Down { reason, .. } => reason,
            other => panic!("{other:?} instead of an end"),
        }
    }

    pub(crate) async fn send(&self, to: &str, record: Vec<u8>) -> Result<(), SendError> {
        self.mtp.send(&PLAIN, &id(to), record).await
    }

    /// Waits until the counters are so.
    pub(crate) async fn stats(&self, are_so: impl Fn(&WebSocketStats) -> bool) -> WebSocketStats {
        let waited = timeout(PATIENCE, async {
            loop {
                let stats = self.mtp.stats();
                if are_so(&stats) {
                    return stats;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited
            .await
            .unwrap_or_else(|_| panic!("{:?}", self.mtp.stats()))
    }

    /// Waits until the connection fares so.
    pub(crate) async fn fares(&self, name: &str, so: impl Fn(&State) -> bool) {
        let waited = timeout(PATIENCE, async {
            while !self
                .mtp
                .status(name)
                .is_some_and(|status| so(&status.state))
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        if waited.await.is_err() {
            panic!("{:?}", self.mtp.status(name));
        }
    }
}

/// Greets with a Connect Record (R-MTP.6).
pub(crate) struct Hello(pub(crate) &'static str);

impl Greeter for Hello {
    fn greet(&self, channel: &Channel) -> Vec<Outgoing> {
        let Some(endpoint_id) = channel.endpoint_id.clone() else {
            return Vec::new();
        };
        let hello = Record::with(
            endpoint_id.clone(),
            id(self.0),
            RecordBody::WebSocketConnect,
        );
        vec![Outgoing {
            route: PLAIN,
            endpoint_id,
            record: hello.encode(),
        }]
    }
}

/// An Agent, and the Controller that it has a session with.
pub(crate) async fn pair() -> (Side, Side) {
    let (mut agent, mut controller) = (side(AGENT), side(CONTROLLER));
    let address = controller.listen().await;
    agent.mtp.open("main", to(address));
    assert_eq!(agent.up().await.endpoint_id, Some(id(CONTROLLER)));
    assert_eq!(controller.up().await.endpoint_id, Some(id(AGENT)));
    (agent, controller)
}
