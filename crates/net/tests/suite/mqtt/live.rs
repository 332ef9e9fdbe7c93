//! Against mosquitto: both versions, plain and TLS.

use std::process::Command;

use homefleet_net::mtp::mqtt::{LastWill, MqttMtpConfig, SubscriptionStatus};
use homefleet_net::mtp::{MqttClient, NoGreeting, SendError, State};
use homefleet_usp::mtp::mqtt::Qos;
use homefleet_usp::mtp::retry::RetryPolicy;
use homefleet_usp::record::{MqttVersion, RecordBody};

use super::*;
use crate::support::mosquitto::{Mosquitto, PASSWORD};
use crate::support::tool::{Tool, skip};

pub(super) fn have_mosquitto() -> bool {
    if !Mosquitto::is_installed() {
        skip("mosquitto");
        return false;
    }
    let help = Command::new("mosquitto").arg("-h").output();
    let help = help.map(|output| output.stdout).unwrap_or_default();
    let help = String::from_utf8_lossy(&help);
    println!("peer: {}", help.lines().next().unwrap_or("mosquitto"));
    true
}

fn broker() -> Option<Mosquitto> {
    have_mosquitto().then(|| Mosquitto::start(&["agent", "controller"], "controller", None))
}

/// An Agent's settings.
fn device(version: MqttVersion, port: u16) -> MqttClient {
    MqttClient {
        login: Some(("agent".to_owned(), PASSWORD.to_owned())),
        response_topic: Some("usp/agent/agent".to_owned()),
        ..plain(version, port)
    }
}

fn operator(version: MqttVersion, port: u16) -> MqttClient {
    MqttClient {
        login: Some(("controller".to_owned(), PASSWORD.to_owned())),
        response_topic: Some(CONTROLLER_TOPIC.to_owned()),
        ..plain(version, port)
    }
}

fn untrusting(_: &mut MqttMtpConfig) {}

/// A Controller and an Agent that has told it that it is there.
async fn pair(version: MqttVersion, broker: &Mosquitto) -> (Side, Side) {
    pair_with(version, broker, |settings| settings).await
}

async fn pair_with(
    version: MqttVersion,
    broker: &Mosquitto,
    other: impl Fn(MqttClient) -> MqttClient,
) -> (Side, Side) {
    let mut controller = Side::new(CONTROLLER, untrusting);
    controller
        .mtp
        .open("main", other(operator(version, broker.port())));
    controller.up().await;
    let mut agent = Side::new(AGENT, untrusting);
    agent
        .mtp
        .open("main", other(device(version, broker.port())));
    agent.up().await;
    let (record, _) = controller.record().await;
    let expected = RecordBody::MqttConnect {
        version,
        topic: "usp/agent/agent".to_owned(),
    };
    assert_eq!(record.body, expected);
    (agent, controller)
}

#[tokio::test]
async fn records_travel_both_ways_in_both_versions_with_every_quality_of_service() {
    let Some(broker) = broker() else { return };
    for version in [V5, V3] {
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            let with_qos = |settings: MqttClient| MqttClient {
                publish_qos: qos,
                subscribe_qos: qos,
                ..settings
            };
            let (mut agent, mut controller) = pair_with(version, &broker, with_qos).await;
            controller
                .send("usp/agent/agent", b"request")
                .await
                .unwrap();
            let (message, reply_to) = agent.message().await;
            assert_eq!(message, b"request");
            assert_eq!(reply_to, Some(route(CONTROLLER_TOPIC)));
            let large = vec![7; 300_000];
            let response = record(AGENT, CONTROLLER, &large);
            let to = reply_to.unwrap();
            agent
                .mtp
                .send(&to, &id(CONTROLLER), response)
                .await
                .unwrap();
            let (message, reply_to) = controller.message().await;
            assert_eq!(message, large);
            assert_eq!(reply_to, Some(route("usp/agent/agent")));

            let stats = agent.mtp.stats();
            assert_eq!((stats.records_in, stats.connections), (1, 1));
            assert_eq!(stats.records_out, 2, "the greeting and the response");
            for side in [&agent, &controller] {
                side.mtp.shutdown().await;
            }
        }
    }
}

#[tokio::test]
async fn what_an_agent_publishes_is_what_an_independent_client_reads() {
    let Some(broker) = broker() else { return };
    let port = broker.port().to_string();
    let args = [
        "-oL",
        "mosquitto_sub",
        "-V",
        "5",
        "-p",
        &port,
        "-u",
        "controller",
        "-P",
        PASSWORD,
        "-t",
        "usp/controller/#",
        "-C",
        "2",
        "-q",
        "1",
        "-d",
        "-F",
        "%t %C %R %q %x",
    ];
    let mut reader = Tool::start("stdbuf", &args);
    assert!(reader.wait_for("SUBACK", PATIENCE));

    let hex: String = greeting_record(V5)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut agent = Side::new(AGENT, untrusting);
    agent.mtp.open("main", device(V5, broker.port()));
    agent.up().await;
    let line = format!("usp/controller usp.msg usp/agent/agent 1 {hex}");
    assert!(reader.wait_for(&line, PATIENCE), "{}", reader.output());

    // In MQTT 3.1.1 the way back stands in the topic (R-MQTT.24).
    agent.mtp.open("main", device(V3, broker.port()));
    assert_eq!(agent.down().await, "its settings changed");
    agent.up().await;
    let line = "usp/controller/reply-to=usp%2Fagent%2Fagent   1 ";
    assert!(reader.wait_for(line, PATIENCE), "{}", reader.output());
    assert!(reader.wait(PATIENCE));

    // What an independent client publishes is a Record too (R-MQTT.27a).
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("record");
    std::fs::write(&file, record(CONTROLLER, AGENT, b"request")).unwrap();
    agent.mtp.open("main", device(V5, broker.port()));
    agent.down().await;
    agent.up().await;
    let published = Command::new("mosquitto_pub")
        .args(["-V", "5", "-p", &port, "-u", "controller", "-P", PASSWORD])
        .args([
            "-t",
            "usp/agent/agent",
            "-q",
            "2",
            "-f",
            file.to_str().unwrap(),
        ])
        .args([
            "-D",
            "publish",
            "content-type",
            "application/vnd.bbf.usp.msg",
        ])
        .args(["-D", "publish", "response-topic", "usp/controller"])
        .status();
    assert!(published.unwrap().success());
    let expected = (b"request".to_vec(), Some(route(CONTROLLER_TOPIC)));
    assert_eq!(agent.message().await, expected);
}

#[tokio::test]
async fn a_broker_that_restarts_is_connected_to_again_and_greeted_again() {
    let Some(broker) = broker() else { return };
    for version in [V5, V3] {
        let (mut agent, mut controller) = pair_with(version, &broker, brisk).await;
        let assigned = agent.status().client_id;
        broker.kill();
        agent.down().await;
        controller.down().await;
        let sent = controller.send("usp/agent/agent", b"lost").await;
        assert_eq!(sent, Err(SendError::NotConnected));
        let status = agent.until(|status| status.status.failures > 0).await;
        assert!(
            matches!(status.status.state, State::Error(_) | State::Connecting),
            "{status:?}"
        );
        broker.begin();
        controller.up().await;
        agent.up().await;
        let (greeting, _) = loop {
            let (record, origin) = controller.record().await;
            if matches!(record.body, RecordBody::MqttConnect { .. }) {
                break (record, origin);
            }
        };
        assert_eq!(greeting.from_id().as_str(), AGENT);
        assert_eq!(agent.status().status.failures, 0, "it is up again");
        assert_eq!(agent.status().client_id, assigned, "R-MQTT.11");
        controller
            .send("usp/agent/agent", b"request")
            .await
            .unwrap();
        assert_eq!(agent.message().await.0, b"request");
        assert!(agent.mtp.stats().connection_errors > 0);
        for side in [&agent, &controller] {
            side.mtp.shutdown().await;
        }
    }
}

#[tokio::test]
async fn a_session_that_outlives_its_connection_gets_what_came_meanwhile() {
    for version in [V5, V3] {
        let Some(broker) = broker() else { return };
        let lasting = |settings: MqttClient| MqttClient {
            clean_start: false,
            session_expiry: 3600,
            client_id: settings.login.clone().map(|(name, _)| name),
            ..settings
        };
        let (agent, controller) = pair_with(version, &broker, lasting).await;
        agent.mtp.close("main").await;
        for number in 0..10 {
            controller.send("usp/agent/agent", &[number]).await.unwrap();
        }
        // It comes before the subscription is made again.
        let mut agent = Side::new(AGENT, untrusting);
        agent
            .mtp
            .open("main", lasting(device(version, broker.port())));
        agent.up().await;
        for number in 0..10 {
            assert_eq!(agent.message().await.0, [number]);
        }
        for side in [&agent, &controller] {
            side.mtp.shutdown().await;
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_and_retried_until_it_is_right() {
    let Some(broker) = broker() else { return };
    for (version, says) in [(V5, "not authorized"), (V3, "not authorized")] {
        let wrong = Some(("agent".to_owned(), "tr0ub4dor".to_owned()));
        let settings = brisk(device(version, broker.port()));
        let mut agent = Side::new(AGENT, untrusting);
        agent.mtp.open(
            "main",
            MqttClient {
                login: wrong,
                ..settings.clone()
            },
        );
        let status = agent.until(|status| status.status.failures > 1).await;
        if let State::Error(reason) = &status.status.state {
            assert_eq!(*reason, format!("the broker refused: {says}"));
        }
        assert!(!format!("{:?} {:?}", agent.mtp, status).contains("tr0ub4dor"));
        agent.mtp.open("main", settings);
        agent.up().await;
        agent.mtp.shutdown().await;
    }
}

#[tokio::test]
async fn a_device_hears_nothing_of_what_another_devices_topic_carries() {
    let Some(broker) = broker() else { return };
    for version in [V5, V3] {
        let (mut agent, controller) = pair_with(version, &broker, |mut settings| {
            if settings.response_topic.as_deref() == Some("usp/agent/agent") {
                settings.subscriptions = vec![at("usp/agent/#")];
            }
            settings
        })
        .await;
        // Mosquitto grants the subscription all the same.
        for topic in ["usp/agent/another", "usp/agent/agent"] {
            let sent = controller.send(topic, topic.as_bytes()).await;
            assert_eq!(sent, Ok(()));
        }
        assert_eq!(agent.message().await.0, b"usp/agent/agent");
        for side in [&agent, &controller] {
            side.mtp.shutdown().await;
        }
    }
}

#[tokio::test]
async fn topics_change_while_the_connection_stands() {
    let Some(broker) = broker() else { return };
    let (mut agent, mut controller) = pair(V5, &broker).await;
    let mut settings = device(V5, broker.port());
    settings.response_topic = Some("usp/agent/agent/new".to_owned());
    settings.subscriptions = vec![at("usp/agent/agent/more")];
    agent.mtp.open("main", settings);
    assert_eq!(agent.down().await, "it is reached by another topic now");
    agent.up().await;
    let (record, origin) = controller.record().await;
    let topic = "usp/agent/agent/new".to_owned();
    let expected = RecordBody::MqttConnect { version: V5, topic };
    assert_eq!(record.body, expected, "greeted again");
    assert_eq!(origin.reply_to, Some(route("usp/agent/agent/new")));

    let status = agent.status();
    let subscribed = (
        "usp/agent/agent/more".to_owned(),
        SubscriptionStatus::Subscribed,
    );
    assert_eq!(status.subscriptions, [subscribed]);
    assert_eq!(
        (status.stats.subscribe_sent, status.stats.unsubscribe_sent),
        (2, 1)
    );
    assert_eq!(status.stats.connections, 1, "the same connection");
    for (topic, expected) in [
        ("usp/agent/agent/new", Ok(())),
        ("usp/agent/agent/more", Ok(())),
        (
            "usp/agent/agent",
            Err(SendError::Broker(
                "nobody has subscribed to the topic".to_owned(),
            )),
        ),
    ] {
        let sent = controller.send(topic, b"request").await;
        assert_eq!(sent, expected, "{topic}");
    }
    for _ in 0..2 {
        assert_eq!(agent.message().await.0, b"request");
    }
}

#[tokio::test]
async fn the_last_will_is_published_for_a_client_that_vanishes_and_not_for_one_that_leaves() {
    let Some(broker) = broker() else { return };
    for version in [V5, V3] {
        let port = broker.port().to_string();
        let args = [
            "-oL",
            "mosquitto_sub",
            "-p",
            &port,
            "-u",
            "controller",
            "-P",
            PASSWORD,
            "-d",
            "-t",
            "will/#",
            "-q",
            "1",
        ];
        let watcher = Tool::start("stdbuf", &args);
        assert!(watcher.wait_for("SUBACK", PATIENCE));
        let with_will = |value: &str| MqttClient {
            client_id: Some("device".to_owned()),
            will: Some(LastWill {
                topic: "will/agent".to_owned(),
                value: value.as_bytes().to_vec(),
                qos: Qos::AtLeastOnce,
                retain: false,
                delay: 0,
                expiry: 0,
                content_type: Some("text/plain".to_owned()),
                response_topic: None,
            }),
            ..device(version, broker.port())
        };
        let mut leaves = Side::new(AGENT, untrusting);
        leaves.mtp.open("main", with_will("left"));
        leaves.up().await;
        leaves.mtp.close("main").await;

        let mut vanishes = Side::new(AGENT, untrusting);
        vanishes.mtp.open("main", with_will("vanished"));
        vanishes.up().await;
        // Another client of this name takes its place: the first is gone without DISCONNECT.
        let mut other = Side::new(AGENT, untrusting);
        other.mtp.open("main", with_will("other"));
        other.up().await;
        vanishes.mtp.shutdown().await;
        assert!(
            watcher.wait_for("vanished", PATIENCE),
            "{}",
            watcher.output()
        );
        assert!(!watcher.output().contains("left"));
        other.mtp.shutdown().await;
    }
}

#[tokio::test]
async fn a_full_queue_holds_the_broker_back_and_loses_nothing() {
    let Some(broker) = broker() else { return };
    let (agent, controller) = pair(V5, &broker).await;
    agent.mtp.shutdown().await;
    let (events, mut receiver) = mpsc::channel(1);
    let mut config = MqttMtpConfig::new(id(AGENT), events, Arc::new(NoGreeting));
    config.allow_plain = true;
    let agent = MqttMtp::new(config);
    agent.open("main", device(V5, broker.port()));
    while !matches!(receiver.recv().await, Some(Event::Up(_))) {}
    for number in 0..500_u16 {
        controller
            .send("usp/agent/agent", &number.to_be_bytes())
            .await
            .unwrap();
    }
    for number in 0..500_u16 {
        match timeout(PATIENCE, receiver.recv()).await.unwrap() {
            Some(Event::Record { record, .. }) => {
                assert_eq!(record.message(), Some(&number.to_be_bytes()[..]));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(agent.stats().records_in, 500);
}

/// Tries again soon.
fn brisk(settings: MqttClient) -> MqttClient {
    MqttClient {
        retry: RetryPolicy::mqtt(0, 1000, 1),
        ..settings
    }
}

fn greeting_record(version: MqttVersion) -> Vec<u8> {
    let topic = "usp/agent/agent".to_owned();
    let body = RecordBody::MqttConnect { version, topic };
    Record::with(id(CONTROLLER), id(AGENT), body).encode()
}
