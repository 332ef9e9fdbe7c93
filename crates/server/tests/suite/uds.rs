//! The server over a UNIX domain socket, for agents on its own machine.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use homefleet_api::Mtp;
use homefleet_net::mtp::{Event, Route, UdsConnection, UdsMtp, UdsMtpConfig};
use homefleet_server::{Config, RunningServer, Server};
use homefleet_usp::message::{Body, Message, Response};
use homefleet_usp::{EndpointId, Record};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::common::{CONTROLLER, DEVICE, value_change};
use crate::live::{Authority, config};

const WAIT: Duration = Duration::from_secs(30);

struct House {
    directory: TempDir,
    config: Config,
}

impl House {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new("CA");
        let mut config = config(directory.path(), &authority, &authority);
        config.coap.listen = "127.0.0.1:0".parse().unwrap();
        config.http.listen = "127.0.0.1:0".parse().unwrap();
        config.uds.listen = Some(directory.path().join("usp.sock"));
        Self { directory, config }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("usp.sock")
    }

    fn mode(&self) -> u32 {
        let metadata = std::fs::metadata(self.socket()).unwrap();
        metadata.permissions().mode() & 0o777
    }

    async fn serve(&self) -> RunningServer {
        Server::start(self.config.clone()).await.unwrap()
    }
}

#[tokio::test]
async fn an_agent_on_this_machine_is_heard_and_answered_over_the_socket() {
    let house = House::new();
    let server = house.serve().await;
    assert_eq!(house.mode(), 0o600);
    let uri = format!("uds:{}", house.socket().display());
    assert_eq!(server.address(Mtp::Uds), Some(uri));

    let device: EndpointId = DEVICE.parse().unwrap();
    let controller: EndpointId = CONTROLLER.parse().unwrap();
    let (events, mut happened) = mpsc::channel(16);
    let agent = UdsMtp::new(UdsMtpConfig::new(device.clone(), events));
    agent
        .open("server", UdsConnection::new(house.socket()))
        .await;
    let notify = value_change("n-1", true, "Device.A", "on");
    let record = Record::no_session(controller.clone(), device, notify.encode());
    let answered = async {
        loop {
            match happened.recv().await.unwrap() {
                Event::Up(channel) => {
                    assert_eq!(channel.endpoint_id.as_ref(), Some(&controller));
                    let sent = agent.send(&Route::Uds, &controller, record.encode());
                    sent.await.unwrap();
                }
                Event::Record { record, .. } => {
                    let message = Message::decode(record.message().unwrap()).unwrap();
                    if let Body::Response(Response::NotifyResp(_)) = message.body {
                        return message.id;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    };
    let id = tokio::time::timeout(WAIT, answered).await.unwrap();
    assert_eq!(id.as_str(), "n-1");
    assert_eq!(server.core().metrics().notifications.get(), 1);
    server.stop().await;
    assert!(!house.socket().exists());
}

#[tokio::test]
async fn other_users_are_let_in_by_their_number_only() {
    let mut house = House::new();
    house.config.uds.allow_uids = vec![u32::MAX - 7];
    let server = house.serve().await;
    // The kernel says who connects; our own user always may.
    assert_eq!(house.mode(), 0o666);
    server.stop().await;
}

#[tokio::test]
async fn a_socket_that_cannot_be_is_an_error_of_its_key() {
    let mut house = House::new();
    house.config.uds.listen = Some(PathBuf::from(format!("/tmp/{}", "a".repeat(103))));
    let error = house.config.check().unwrap_err().to_string();
    assert!(
        error.contains("uds.listen") && error.contains("108 bytes"),
        "{error}"
    );
    house.config.uds.listen = Some(house.directory.path().join("none/usp.sock"));
    let error = Server::start(house.config.clone())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("uds.listen"), "{error}");
}
