//! STOMP through RabbitMQ and MQTT through mosquitto, with TLS by certificates, and plain.

use homefleet_net::mtp::{
    MqttClient, MqttMtp, MqttMtpConfig, NoGreeting,
    stomp::{StompConnection, StompMtp, StompMtpConfig},
};
use homefleet_usp::{
    mtp::{retry::RetryPolicy, stomp::Login},
    record::{MqttVersion, RecordBody},
};
use std::sync::{Arc, OnceLock};

use super::{Remote, start, tls};
use crate::{
    bench::{AGENT, CONTROLLER, id},
    mosquitto::{self, Mosquitto},
    pki::{Ca, Issued},
    rabbitmq::{self, Rabbit, User},
};

/// Without its peer a test is skipped, with a line that says so; in CI that fails.
#[allow(clippy::print_stdout)]
fn missing(peer: &str) {
    assert!(std::env::var_os("CI").is_none(), "{peer} is missing");
    println!("SKIPPED, A PEER IS MISSING: {peer}");
}

/// One broker of each kind for all tests, and the CA of everybody.
struct House {
    ca: Ca,
    broker: Issued,
    rabbit: Option<Rabbit>,
    mosquitto: Option<Mosquitto>,
    /// Without TLS, for users whose names have no colons.
    plain: Option<Mosquitto>,
}

static HOUSE: OnceLock<House> = OnceLock::new();

fn house() -> &'static House {
    HOUSE.get_or_init(|| {
        let ca = Ca::new();
        let broker = ca.issue_broker();
        let rabbit = Rabbit::is_installed().then(|| {
            let users = [
                User::controller(CONTROLLER, Some("of the house")),
                User::controller(CONTROLLER, None),
                User::device(AGENT, Some("sesame")),
                User::device(AGENT, None),
            ];
            Rabbit::start(
                &users,
                Some(&rabbitmq::BrokerTls {
                    ca: ca.pem(),
                    chain: broker.chain.clone(),
                    key: broker.key.clone(),
                }),
            )
        });
        let mosquitto = Mosquitto::is_installed().then(|| {
            let tls = mosquitto::BrokerTls {
                ca: ca.pem(),
                chain: broker.chain.clone(),
                key: broker.key.clone(),
            };
            Mosquitto::start(&[], CONTROLLER, Some(&tls))
        });
        let plain =
            Mosquitto::is_installed().then(|| Mosquitto::start(&["device", "boss"], "boss", None));
        House {
            ca,
            broker,
            rabbit,
            mosquitto,
            plain,
        }
    })
}

/// Where a device sends to, and where it listens.
fn destinations() -> (String, String) {
    (
        format!("/topic/usp.controller.{AGENT}"),
        format!("/topic/usp.agent.{AGENT}"),
    )
}

async fn stomp(house: &House, rabbit: &Rabbit, secure: bool) -> Remote {
    let mut remote = Remote::new();
    let tls = secure.then(|| {
        tls(
            &house.ca.issue(CONTROLLER),
            &house.ca,
            Some(&house.broker.chain),
        )
    });
    let mtp = StompMtp::new(StompMtpConfig {
        allow_plain: !secure,
        allow_untrusted_broker: !secure,
        ..StompMtpConfig::new(id(CONTROLLER), remote.sender.clone(), tls)
    });
    let login = Login::Password {
        login: CONTROLLER.into(),
        passcode: "of the house".into(),
    };
    let login = if secure { Login::Certificate } else { login };
    mtp.open(
        "main",
        StompConnection {
            port: if secure {
                rabbit.tls_port()
            } else {
                rabbit.port()
            },
            encryption: secure,
            destination: Some(destinations().0),
            ..StompConnection::new("localhost", login)
        },
    );
    remote.mtps.stomp = Some(mtp);
    remote.up().await;
    remote
}

impl Remote {
    /// Waits until its connection stands.
    async fn up(&mut self) {
        loop {
            let event = tokio::time::timeout(crate::pki::PATIENCE, self.events.recv()).await;
            if let homefleet_net::mtp::Event::Up(_) = event.expect("no connection").unwrap() {
                return;
            }
        }
    }
}

/// One device has one connection at a time: the tests of a broker take turns.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tp_469_6_11_a_controller_manages_this_machine_through_rabbitmq_with_tls() {
    let house = tokio::task::spawn_blocking(house).await.unwrap();
    let Some(rabbit) = &house.rabbit else {
        return missing("rabbitmq-server");
    };
    let _turn = TURN.lock().await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("broker.pem"), &house.broker.chain).unwrap();
    let mut remote = stomp(house, rabbit, true).await;
    let controller = format!(
        "url = \"stomps://localhost:{}{}\"\n",
        rabbit.tls_port(),
        destinations().0
    );
    let agent = start(
        directory.path(),
        &house.ca,
        "",
        &controller,
        "brokers = \"broker.pem\"",
    )
    .await;
    remote.exchange().await;
    assert_eq!(
        remote.others,
        [RecordBody::StompConnect {
            destination: destinations().1
        }]
    );
    assert_eq!(
        remote.value("Device.STOMP.Connection.1.Status").await,
        "Enabled"
    );
    let stopped = tokio::spawn(agent.stop());
    remote.goodbye().await;
    stopped.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tp_469_6_2_a_controller_manages_this_machine_through_rabbitmq_with_passwords() {
    let house = tokio::task::spawn_blocking(house).await.unwrap();
    let Some(rabbit) = &house.rabbit else {
        return missing("rabbitmq-server");
    };
    let _turn = TURN.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let mut remote = stomp(house, rabbit, false).await;
    let controller = format!(
        "url = \"stomp://localhost:{}{}\"\nusername = \"{AGENT}\"\npassword = \"sesame\"\n",
        rabbit.port(),
        destinations().0
    );
    let agent = start(
        directory.path(),
        &house.ca,
        "allow_insecure = true",
        &controller,
        "",
    )
    .await;
    remote.exchange().await;
    agent.stop().await;
}

async fn mqtt(house: &House, broker: &Mosquitto, version: MqttVersion, secure: bool) -> Remote {
    let mut remote = Remote::new();
    let mtp = MqttMtp::new(MqttMtpConfig {
        tls: secure.then(|| {
            tls(
                &house.ca.issue(CONTROLLER),
                &house.ca,
                Some(&house.broker.chain),
            )
        }),
        allow_plain: !secure,
        allow_untrusted_broker: !secure,
        ..MqttMtpConfig::new(id(CONTROLLER), remote.sender.clone(), Arc::new(NoGreeting))
    });
    let port = if secure {
        broker.tls_port()
    } else {
        broker.port()
    };
    mtp.open(
        "main",
        MqttClient {
            tls: secure,
            login: (!secure).then(|| ("boss".to_owned(), mosquitto::PASSWORD.to_owned())),
            response_topic: Some("usp/controller".into()),
            retry: RetryPolicy::mqtt(1, 1000, 2),
            ..MqttClient::new(version, "localhost", port)
        },
    );
    remote.mtps.mqtt = Some(mtp);
    remote.up().await;
    remote
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tp_469_11_3_a_controller_manages_this_machine_through_mosquitto_with_tls() {
    let house = tokio::task::spawn_blocking(house).await.unwrap();
    let Some(broker) = &house.mosquitto else {
        return missing("mosquitto");
    };
    let _turn = TURN.lock().await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("broker.pem"), &house.broker.chain).unwrap();
    let mut remote = mqtt(house, broker, MqttVersion::V5, true).await;
    let controller = format!(
        "url = \"mqtts://localhost:{}/usp/controller\"\n",
        broker.tls_port()
    );
    let agent = start(
        directory.path(),
        &house.ca,
        "",
        &controller,
        "brokers = \"broker.pem\"",
    )
    .await;
    remote.exchange().await;
    let topic = format!("usp/agent/{AGENT}");
    assert_eq!(
        remote.others,
        [RecordBody::MqttConnect {
            version: MqttVersion::V5,
            topic
        }]
    );
    assert_eq!(
        remote.value("Device.MQTT.Client.1.Status").await,
        "Connected"
    );
    // TP-469 11.5: what the broker assigned is kept.
    assert_ne!(remote.value("Device.MQTT.Client.1.ClientID").await, "");
    let stopped = tokio::spawn(agent.stop());
    remote.goodbye().await;
    stopped.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tp_469_11_2_a_controller_manages_this_machine_through_mosquitto_with_passwords() {
    let house = tokio::task::spawn_blocking(house).await.unwrap();
    let Some(broker) = &house.plain else {
        return missing("mosquitto");
    };
    for (version, name) in [(MqttVersion::V5, "5.0"), (MqttVersion::V311, "3.1.1")] {
        let _turn = TURN.lock().await;
        let directory = tempfile::tempdir().unwrap();
        let mut remote = mqtt(house, broker, version, false).await;
        let controller = format!(
            "url = \"mqtt://localhost:{}/usp/controller\"\nusername = \"device\"\nsubscribe = \"usp/agent/device\"\npassword = \"{}\"\nmqtt_version = \"{name}\"\n",
            broker.port(),
            mosquitto::PASSWORD
        );
        let agent = start(
            directory.path(),
            &house.ca,
            "allow_insecure = true",
            &controller,
            "",
        )
        .await;
        remote.exchange().await;
        agent.stop().await;
        remote.mtps.shutdown().await;
    }
}
