//! R-MQTT against a broker that does what the test says: what mosquitto cannot be made to do.

use std::pin::Pin;
use std::task::Poll;

use homefleet_net::mtp::mqtt::{LastWill, SubscriptionStatus};
use homefleet_net::mtp::{MqttClient, SendError, State};
use homefleet_usp::mtp::mqtt::Qos;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAckProperties, ConnectReturnCode, Packet, SubscribeReasonCode,
};

use super::script::{Broker, Got, properties};
use super::*;

/// A Controller: it greets nobody.
fn controller() -> Side {
    Side::new(CONTROLLER, |_| {})
}

/// Sends in a task of its own, and gives the outcome.
fn sending(
    side: &Side,
    topic: &str,
    message: &[u8],
) -> tokio::task::JoinHandle<Result<(), SendError>> {
    let (mtp, to) = (side.mtp.clone(), route(topic));
    let record = record(CONTROLLER, AGENT, message);
    tokio::spawn(async move { mtp.send(&to, &id(AGENT), record).await })
}

fn error(status: &MqttStatus) -> &str {
    match &status.status.state {
        State::Error(reason) => reason,
        _ => "",
    }
}

#[tokio::test]
async fn connect_says_what_is_configured() {
    let broker = Broker::new().await;
    let side = controller();
    let settings = MqttClient {
        client_id: Some("device".to_owned()),
        login: Some(("user".to_owned(), "pass".to_owned())),
        keep_alive: 77,
        clean_start: false,
        session_expiry: 3600,
        receive_maximum: 12,
        maximum_packet_size: 100_000,
        request_problem_info: false,
        user_properties: vec![("region".to_owned(), "north".to_owned())],
        will: Some(LastWill {
            topic: "will/device".to_owned(),
            value: b"gone".to_vec(),
            qos: Qos::ExactlyOnce,
            retain: true,
            delay: 5,
            expiry: 60,
            content_type: Some("text/plain".to_owned()),
            response_topic: Some("will/answer".to_owned()),
        }),
        ..broker.client(V5)
    };
    let shown = format!("{settings:?}");
    assert!(
        !shown.contains("pass") && !shown.contains("gone"),
        "{shown}"
    );
    side.mtp.open("main", settings.clone());
    let mut peer = broker.accept().await;
    let (connect, will, login) = peer.connect().await;
    let login = login.unwrap();
    assert_eq!(
        (login.username.as_str(), login.password.as_str()),
        ("user", "pass"),
        "R-MQTT.7"
    );
    assert_eq!(connect.client_id, "device", "R-MQTT.8");
    assert_eq!(
        (connect.keep_alive, connect.clean_start),
        (77, false),
        "R-MQTT.14"
    );
    let told = connect.properties.unwrap();
    assert_eq!(told.session_expiry_interval, Some(3600));
    assert_eq!(
        (told.receive_maximum, told.max_packet_size),
        (Some(12), Some(100_000))
    );
    assert_eq!(told.topic_alias_max, Some(0));
    assert_eq!(told.request_response_info, Some(1), "R-MQTT.12");
    assert_eq!(told.request_problem_info, Some(0));
    let endpoint = ("usp-endpoint-id".to_owned(), CONTROLLER.to_owned());
    let configured = ("region".to_owned(), "north".to_owned());
    assert_eq!(told.user_properties, [endpoint, configured], "R-MQTT.13");
    let will = will.unwrap();
    assert_eq!(
        (&will.topic[..], &will.message[..]),
        (&b"will/device"[..], &b"gone"[..])
    );
    assert_eq!((will.qos, will.retain), (QoS::ExactlyOnce, true));
    let of_will = will.properties.unwrap();
    assert_eq!(
        (of_will.delay_interval, of_will.message_expiry_interval),
        (Some(5), Some(60))
    );
    assert_eq!(of_will.content_type.as_deref(), Some("text/plain"));
    assert_eq!(of_will.response_topic.as_deref(), Some("will/answer"));
    side.mtp.shutdown().await;

    // MQTT 3.1.1 has less to say; without a ClientID it is our Endpoint ID.
    let side = controller();
    let settings = MqttClient {
        version: V3,
        client_id: None,
        ..settings
    };
    side.mtp.open("main", settings);
    let v4::Packet::Connect(connect) = broker.accept().await.packet4().await else {
        panic!("no CONNECT");
    };
    assert_eq!(
        (connect.client_id.as_str(), connect.clean_session),
        (CONTROLLER, false)
    );
    assert_eq!(connect.keep_alive, 77);
    assert_eq!(
        connect.login.map(|login| login.password).as_deref(),
        Some("pass")
    );
    assert_eq!(
        connect.last_will.map(|will| will.topic).as_deref(),
        Some("will/device")
    );
}

#[tokio::test]
async fn an_assigned_client_identifier_is_told_and_used_from_then_on() {
    let broker = Broker::new().await;
    let mut side = controller();
    side.mtp.open("main", broker.client(V5));
    let mut peer = broker.accept().await;
    assert_eq!(peer.connect().await.0.client_id, "", "R-MQTT.8");
    let assigned = ConnAckProperties {
        assigned_client_identifier: Some("assigned".to_owned()),
        ..properties()
    };
    peer.connack(assigned).await;
    match side.next().await {
        Event::ClientId {
            connection,
            client_id,
        } => {
            assert_eq!(
                (connection.as_str(), client_id.as_str()),
                ("main", "assigned")
            );
        }
        other => panic!("R-MQTT.9: {other:?}"),
    }
    assert_eq!(side.status().client_id.as_deref(), Some("assigned"));
    drop(peer);
    // R-MQTT.11, also when it does not stand in the configuration yet.
    let mut peer = broker.accept().await;
    assert_eq!(peer.connect().await.0.client_id, "assigned");
    side.mtp.open(
        "main",
        MqttClient {
            keep_alive: 61,
            ..broker.client(V5)
        },
    );
    drop(peer);
    let mut peer = broker.accept().await;
    assert_eq!(peer.connect().await.0.client_id, "assigned");
    // Once it is saved, nothing changes.
    peer.connack(properties()).await;
    peer.grant().await;
    side.up().await;
    side.mtp.open(
        "main",
        MqttClient {
            keep_alive: 61,
            client_id: Some("assigned".to_owned()),
            ..broker.client(V5)
        },
    );
    let sent = sending(&side, "t", b"still connected");
    let publish = peer.publish().await;
    peer.puback(publish.pkid).await;
    assert_eq!(sent.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn everything_told_in_connack_is_subscribed_to_and_response_information_is_the_way_back() {
    let broker = Broker::new().await;
    let mut side = controller();
    let settings = MqttClient {
        subscriptions: vec![at("configured/#")],
        ..broker.client(V5)
    };
    side.mtp.open("main", settings);
    let mut peer = broker.accept().await;
    peer.connect().await;
    let told = |topic: &str| ("subscribe-topic".to_owned(), topic.to_owned());
    peer.connack(ConnAckProperties {
        user_properties: vec![
            told("told/1"),
            told("told/2/+"),
            ("x".to_owned(), "y".to_owned()),
        ],
        response_information: Some("answers/to/me".to_owned()),
        ..properties()
    })
    .await;
    let filters = peer.grant().await;
    assert_eq!(
        filters,
        ["configured/#", "told/1", "told/2/+", "answers/to/me"],
        "R-MQTT.15"
    );
    let channel = side.up().await;
    let connect = Connect::Mqtt {
        version: V5,
        topic: "answers/to/me".to_owned(),
    };
    assert_eq!(channel.connect, connect);
    let status = side.status();
    assert_eq!(
        status.response_information.as_deref(),
        Some("answers/to/me")
    );
    assert_eq!(status.reply_to.as_deref(), Some("answers/to/me"));
    let subscribed = ("configured/#".to_owned(), SubscriptionStatus::Subscribed);
    assert_eq!(status.subscriptions, [subscribed]);
    let sent = sending(&side, "usp/agent", b"request");
    let publish = peer.publish().await;
    let told = publish.properties.unwrap();
    assert_eq!(
        told.response_topic.as_deref(),
        Some("answers/to/me"),
        "R-MQTT.21, R-MQTT.23"
    );
    assert_eq!(told.content_type.as_deref(), Some("usp.msg"), "R-MQTT.27");
    assert_eq!(
        publish.payload,
        record(CONTROLLER, AGENT, b"request"),
        "R-MQTT.18"
    );
    assert!(!publish.retain && !publish.dup);
    peer.puback(publish.pkid).await;
    assert_eq!(sent.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn with_no_topic_at_all_the_client_disconnects_and_stays_away() {
    let broker = Broker::new().await;
    let side = controller();
    let settings = MqttClient {
        response_topic: None,
        ..broker.client(V5)
    };
    side.mtp.open("main", settings.clone());
    let mut peer = broker.connected().await;
    assert_eq!(peer.end().await, Some(0), "R-MQTT.16");
    let status = side.until(|status| !error(status).is_empty()).await;
    let expected = "neither the broker nor the configuration names a Topic to subscribe to";
    assert_eq!(error(&status), expected);
    // Only another configuration brings it back.
    side.mtp.open(
        "main",
        MqttClient {
            subscriptions: vec![at("usp/agent")],
            ..settings
        },
    );
    broker.subscribed().await;
    assert_eq!(
        side.mtp.stats().packets_sent,
        4,
        "CONNECT, DISCONNECT, CONNECT, SUBSCRIBE"
    );
}

#[tokio::test]
async fn with_no_subscription_granted_nothing_is_published_and_the_client_disconnects() {
    let broker = Broker::new().await;
    let mut agent = Side::new(AGENT, |_| {});
    let settings = MqttClient {
        subscriptions: vec![at("a"), at("b")],
        ..broker.client(V5)
    };
    agent.mtp.open("main", settings);
    let mut peer = broker.connected().await;
    let subscribe = peer.subscribe().await;
    let refused = vec![SubscribeReasonCode::NotAuthorized; subscribe.filters.len()];
    peer.suback(subscribe.pkid, refused).await;
    match peer.got().await {
        Got::Disconnect(0) => {}
        other => panic!("R-MQTT.17: {other:?}"),
    }
    // It is tried again, and one is enough.
    let mut peer = broker.connected().await;
    let subscribe = peer.subscribe().await;
    let mut answers = vec![SubscribeReasonCode::NotAuthorized; subscribe.filters.len()];
    answers[1] = SubscribeReasonCode::Success(QoS::AtMostOnce);
    peer.suback(subscribe.pkid, answers).await;
    agent.up().await;
    let publish = peer.publish().await;
    let told = publish.properties.unwrap();
    assert_eq!(told.response_topic.as_deref(), Some("b"));
    let status = agent.status();
    assert_eq!(
        status.subscriptions,
        [
            ("a".to_owned(), SubscriptionStatus::Error),
            ("b".to_owned(), SubscriptionStatus::Subscribed),
        ]
    );
}

#[tokio::test]
async fn the_greeting_goes_out_before_anything_else() {
    let broker = Broker::new().await;
    let mut agent = Side::new(AGENT, |_| {});
    agent.mtp.open("main", broker.client(V5));
    let mut peer = broker.connected().await;
    let subscribe = peer.subscribe().await;
    // Not before it is subscribed.
    assert_eq!(
        agent.send("t", b"early").await,
        Err(SendError::NotConnected)
    );
    // A Record that comes meanwhile is kept until the channel is up.
    let early = record(CONTROLLER, AGENT, b"early");
    peer.deliver(QoS::AtLeastOnce, 9, false, early).await;
    peer.suback(
        subscribe.pkid,
        vec![SubscribeReasonCode::Success(QoS::AtLeastOnce)],
    )
    .await;
    agent.up().await;
    let greeting = Record::decode(&peer.publish().await.payload).unwrap();
    assert!(
        matches!(greeting.body, RecordBody::MqttConnect { .. }),
        "R-MTP.6"
    );
    assert_eq!(agent.message().await.0, b"early");
    match peer.packet().await {
        Packet::PubAck(ack) => assert_eq!(ack.pkid, 9),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_record_is_acknowledged_only_when_it_is_in_the_owners_queue() {
    let broker = Broker::new().await;
    let (events, mut receiver) = mpsc::channel(1);
    let mut config =
        MqttMtpConfig::new(id(AGENT), events, Arc::new(homefleet_net::mtp::NoGreeting));
    config.allow_plain = true;
    let mtp = MqttMtp::new(config);
    mtp.open("main", broker.client(V5));
    let mut peer = broker.subscribed().await;
    // The queue's one place is taken by the news that the channel is up.
    for number in 1..=2 {
        let record = record(CONTROLLER, AGENT, &[number]);
        peer.deliver(QoS::AtLeastOnce, number.into(), false, record)
            .await;
    }
    // What is sent passes all the same.
    let is_up = || {
        mtp.status("main")
            .is_some_and(|status| status.status.is_up())
    };
    while !is_up() {
        tokio::task::yield_now().await;
    }
    let (to, request) = (route("t"), record(AGENT, CONTROLLER, b"out"));
    let sender = mtp.clone();
    let sent = tokio::spawn(async move { sender.send(&to, &id(CONTROLLER), request).await });
    let publish = peer.publish().await;
    peer.puback(publish.pkid).await;
    assert!(matches!(receiver.recv().await, Some(Event::Up(_))));
    for number in 1..=2 {
        // The acknowledgement of this one, and of no later one, follows its Record.
        match peer.packet().await {
            Packet::PubAck(ack) => assert_eq!(ack.pkid, number),
            other => panic!("{other:?}"),
        }
        assert!(matches!(receiver.recv().await, Some(Event::Record { .. })));
    }
    assert_eq!(sent.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn whoever_closes_a_client_may_be_the_one_who_empties_the_queue() {
    let broker = Broker::new().await;
    let (events, mut receiver) = mpsc::channel(1);
    let mut config =
        MqttMtpConfig::new(id(AGENT), events, Arc::new(homefleet_net::mtp::NoGreeting));
    config.allow_plain = true;
    let mtp = MqttMtp::new(config);
    mtp.open("main", broker.client(V5));
    let mut peer = broker.subscribed().await;
    // The one place is taken by the news that it is up, and a Record waits.
    let record = record(CONTROLLER, AGENT, b"waits");
    peer.deliver(QoS::AtMostOnce, 0, false, record).await;
    while mtp.stats().records_in == 0 {
        tokio::task::yield_now().await;
    }
    timeout(PATIENCE, mtp.close("main")).await.unwrap();
    assert!(matches!(receiver.recv().await, Some(Event::Up(_))));
    assert!(matches!(receiver.recv().await, Some(Event::Record { .. })));
    assert!(matches!(receiver.recv().await, Some(Event::Down { .. })));
}

#[tokio::test]
async fn a_record_of_qos_2_is_taken_once_however_often_it_comes() {
    let broker = Broker::new().await;
    let mut side = controller();
    let settings = MqttClient {
        clean_start: false,
        session_expiry: 100,
        ..broker.client(V5)
    };
    side.mtp.open("main", settings);
    let mut peer = broker.subscribed().await;
    side.up().await;
    let payload = record(AGENT, CONTROLLER, b"once");
    for dup in [false, true] {
        peer.deliver(QoS::ExactlyOnce, 5, dup, payload.clone())
            .await;
        match peer.packet().await {
            Packet::PubRec(ack) => assert_eq!(ack.pkid, 5),
            other => panic!("{other:?}"),
        }
    }
    drop(peer);
    assert_eq!(side.message().await.0, b"once");
    side.down().await;
    // It is remembered as long as the broker has the session.
    let mut peer = broker.accept().await;
    peer.connect().await;
    peer.connack_with(true, ConnectReturnCode::Success, properties())
        .await;
    peer.grant().await;
    side.up().await;
    peer.deliver(QoS::ExactlyOnce, 5, true, payload.clone())
        .await;
    assert!(matches!(peer.packet().await, Packet::PubRec(_)));
    for known in [true, false] {
        peer.write(&[0x62, 2, 0, 5]).await;
        match peer.packet().await {
            Packet::PubComp(ack) => {
                let is_found = ack.reason == rumqttc::v5::mqttbytes::v5::PubCompReason::Success;
                assert_eq!((ack.pkid, is_found), (5, known));
            }
            other => panic!("{other:?}"),
        }
    }
    peer.deliver(QoS::ExactlyOnce, 5, false, payload).await;
    assert_eq!(
        side.message().await.0,
        b"once",
        "the identifier is free again"
    );
    assert_eq!(side.mtp.stats().duplicates, 2);
}

#[tokio::test]
async fn what_was_not_acknowledged_is_lost_for_the_sender_and_sent_again_on_the_session() {
    let broker = Broker::new().await;
    let mut side = controller();
    let settings = MqttClient {
        clean_start: false,
        session_expiry: 100,
        ..broker.client(V5)
    };
    side.mtp.open("main", settings);
    let mut peer = broker.subscribed().await;
    side.up().await;
    let sent = sending(&side, "t", b"request");
    let first = peer.publish().await;
    drop(peer);
    assert_eq!(sent.await.unwrap(), Err(SendError::Lost));
    side.down().await;
    let mut peer = broker.accept().await;
    peer.connect().await;
    peer.connack_with(true, ConnectReturnCode::Success, properties())
        .await;
    peer.grant().await;
    let again = peer.publish().await;
    assert!(again.dup && !first.dup);
    assert_eq!((again.pkid, again.payload), (first.pkid, first.payload));
    drop(peer);
    // A broker that has forgotten the session gets nothing of it.
    let mut peer = broker.subscribed().await;
    side.up().await;
    side.down().await;
    side.up().await;
    let sent = sending(&side, "t", b"another");
    let publish = peer.publish().await;
    assert!(!publish.dup);
    assert_eq!(publish.payload, record(CONTROLLER, AGENT, b"another"));
    peer.puback(publish.pkid).await;
    assert_eq!(sent.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn the_brokers_limits_are_kept() {
    let broker = Broker::new().await;
    let mut side = controller();
    let settings = MqttClient {
        publish_qos: Qos::ExactlyOnce,
        ..broker.client(V5)
    };
    side.mtp.open("main", settings);
    let mut peer = broker.accept().await;
    peer.connect().await;
    peer.connack(ConnAckProperties {
        receive_max: Some(1),
        max_packet_size: Some(500),
        max_qos: Some(1),
        ..properties()
    })
    .await;
    peer.grant().await;
    side.up().await;
    assert_eq!(side.send("t", &[0; 500]).await, Err(SendError::TooLarge));
    let first = sending(&side, "t", b"first");
    let publish = peer.publish().await;
    assert_eq!(publish.qos, QoS::AtLeastOnce);
    let second = sending(&side, "t", b"second");
    // The second is only sent when the first is acknowledged: until then nothing else comes.
    for number in 1..=8 {
        let record = record(AGENT, CONTROLLER, b"round trip");
        peer.deliver(QoS::AtLeastOnce, number, false, record).await;
        match peer.packet().await {
            Packet::PubAck(ack) => assert_eq!(ack.pkid, number),
            other => panic!("more than Receive Maximum: {other:?}"),
        }
    }
    peer.puback(publish.pkid).await;
    assert_eq!(first.await.unwrap(), Ok(()));
    let publish = peer.publish().await;
    assert_eq!(publish.payload, record(CONTROLLER, AGENT, b"second"));
    peer.write(&[
        0x40,
        4,
        (publish.pkid >> 8) as u8,
        publish.pkid as u8,
        0x97,
        0,
    ])
    .await;
    let refused = SendError::Broker("quota exceeded".to_owned());
    assert_eq!(second.await.unwrap(), Err(refused));
}

#[tokio::test]
async fn the_servers_keep_alive_takes_the_place_of_ours() {
    let broker = Broker::new().await;
    let mut side = Side::new(CONTROLLER, |config| {
        config.answer_time = Duration::from_millis(200);
    });
    let settings = MqttClient {
        keep_alive: 0,
        ..broker.client(V5)
    };
    side.mtp.open("main", settings);
    let mut peer = broker.accept().await;
    assert_eq!(peer.connect().await.0.keep_alive, 0);
    peer.connack(ConnAckProperties {
        server_keep_alive: Some(1),
        ..properties()
    })
    .await;
    peer.grant().await;
    side.up().await;
    for _ in 0..2 {
        assert!(matches!(peer.packet().await, Packet::PingReq(_)));
        peer.write(&[0xD0, 0]).await;
    }
    // One that is not answered is the end (MQTT 5.0 §3.1.2.10).
    assert!(matches!(peer.packet().await, Packet::PingReq(_)));
    assert_eq!(side.down().await, "the broker did not answer PINGREQ");
    broker.accept().await;
}

#[tokio::test]
async fn a_broker_that_acknowledges_nothing_is_left() {
    let broker = Broker::new().await;
    let mut side = Side::new(CONTROLLER, |config| {
        config.answer_time = Duration::from_millis(200);
    });
    side.mtp.open("main", broker.client(V5));
    let mut peer = broker.subscribed().await;
    side.up().await;
    let sent = sending(&side, "t", b"request");
    peer.publish().await;
    assert_eq!(side.down().await, "the broker acknowledges nothing");
    assert_eq!(sent.await.unwrap(), Err(SendError::Lost));
}

#[tokio::test]
async fn a_broker_that_answers_neither_connect_nor_subscribe_is_given_up() {
    let broker = Broker::new().await;
    let side = Side::new(CONTROLLER, |config| {
        config.connect_time = Duration::from_millis(300);
    });
    side.mtp.open("main", broker.client(V5));
    let _silent = broker.accept().await;
    let mut peer = broker.connected().await;
    let status = side.until(|status| !error(status).is_empty()).await;
    assert!(
        error(&status).starts_with("the broker did not answer"),
        "{status:?}"
    );
    peer.subscribe().await;
    let status = side
        .until(|status| error(status).contains("SUBSCRIBE"))
        .await;
    assert_eq!(error(&status), "the broker did not answer SUBSCRIBE");
}

#[tokio::test]
async fn the_brokers_reasons_are_told_and_it_is_tried_again() {
    let broker = Broker::new().await;
    let mut side = controller();
    side.mtp.open("main", broker.client(V5));
    let mut peer = broker.accept().await;
    peer.connect().await;
    let said = ConnAckProperties {
        reason_string: Some("come\u{7} later".to_owned()),
        ..properties()
    };
    peer.connack_with(false, ConnectReturnCode::ServerBusy, said)
        .await;
    let refused = "the broker refused: server busy (come later)";
    side.until(|status| error(status) == refused).await;
    for (bytes, reason) in [
        (&[0xE0, 1, 0x8B][..], "server shutting down"),
        (&[0xE0, 0][..], "normal disconnection"),
        (&[0xE0, 2, 0x8E, 0][..], "session taken over"),
        (&[0xE0, 1, 0x55][..], "reason code 0x55"),
    ] {
        let mut peer = broker.subscribed().await;
        side.up().await;
        peer.write(bytes).await;
        let expected = format!("the broker disconnected: {reason}");
        assert_eq!(side.down().await, expected, "R-MQTT.33");
    }
    // A broker of the past.
    let mut peer = broker.accept().await;
    peer.connect().await;
    peer.write(&[0x20, 2, 0, 1]).await;
    let refused = "the broker refused: it does not speak MQTT 5.0";
    side.until(|status| error(status) == refused).await;
}

#[tokio::test]
async fn disconnect_is_sent_when_the_client_is_closed() {
    let broker = Broker::new().await;
    for version in [V5, V3] {
        let mut side = controller();
        side.mtp.open("main", broker.client(version));
        if version == V5 {
            let mut peer = broker.subscribed().await;
            side.up().await;
            let (mtp, end) = (side.mtp.clone(), peer.end());
            let (code, ()) = tokio::join!(end, mtp.close("main"));
            assert_eq!(code, Some(0), "R-MQTT.35");
        } else {
            let mut peer = broker.accept().await;
            peer.packet4().await;
            peer.write(&[0x20, 2, 0, 0]).await;
            let v4::Packet::Subscribe(subscribe) = peer.packet4().await else {
                panic!("no SUBSCRIBE");
            };
            assert_eq!(subscribe.filters[0].path, "usp/agent/#");
            peer.write(&[0x90, 3, 0, subscribe.pkid as u8, 1]).await;
            side.up().await;
            let mtp = side.mtp.clone();
            let (packet, ()) = tokio::join!(peer.packet4(), mtp.close("main"));
            assert_eq!(packet, v4::Packet::Disconnect);
        }
        assert_eq!(side.down().await, "closed");
        assert_eq!(side.mtp.status("main"), None);
        assert_eq!(side.mtp.stats().connections, 1, "what it counted stays");
    }
}

#[tokio::test]
async fn a_record_from_an_endpoint_of_another_version_is_told_as_erroneous() {
    let broker = Broker::new().await;
    let mut side = controller();
    side.mtp.open("main", broker.client(V5));
    let mut peer = broker.subscribed().await;
    side.up().await;
    let topic = "usp/agent".to_owned();
    let body = RecordBody::MqttConnect { version: V3, topic };
    let connect = Record::with(id(CONTROLLER), id(AGENT), body).encode();
    peer.deliver(QoS::AtLeastOnce, 1, false, connect).await;
    match side.next().await {
        Event::Erroneous { error, origin } => {
            assert_eq!(
                error.kind,
                homefleet_usp::record::RecordErrorKind::MqttVersion
            );
            assert_eq!(error.from_id(), Some(&id(AGENT)));
            assert_eq!(origin.reply_to, Some(route("usp/controller")));
        }
        other => panic!("R-MQTT.26a: {other:?}"),
    }
    // One answer, and nothing more.
    let answer = sending(&side, "usp/controller", b"error");
    loop {
        match peer.packet().await {
            Packet::Publish(publish) => break peer.puback(publish.pkid).await,
            Packet::PubAck(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(answer.await.unwrap(), Ok(()));
    let refused = side.send("usp/controller", b"more").await;
    let why = "the receiver uses another version of MQTT".to_owned();
    assert_eq!(refused, Err(SendError::Binding(why)));
    assert_eq!(side.mtp.stats().mismatched, 1);
}

#[tokio::test]
async fn what_is_no_record_is_told_with_its_way_back_and_what_is_not_for_usp_is_ignored() {
    let broker = Broker::new().await;
    let mut side = controller();
    side.mtp.open("main", broker.client(V5));
    let mut peer = broker.subscribed().await;
    side.up().await;
    let mut other =
        rumqttc::v5::mqttbytes::v5::Publish::new("usp/agent", QoS::AtMostOnce, "hi", None);
    other.retain = true;
    peer.send(&Packet::Publish(other)).await;
    let mut wrong = Record::no_session(id(CONTROLLER), id(AGENT), b"message".to_vec());
    wrong.version = "9.9".to_owned();
    peer.deliver(QoS::AtMostOnce, 0, false, wrong.encode())
        .await;
    match side.next().await {
        Event::Erroneous { error, origin } => {
            assert_eq!(error.from_id(), Some(&id(AGENT)));
            assert_eq!(error.payload(), Some(&b"message"[..]));
            assert_eq!(origin.reply_to, Some(route("usp/controller")));
        }
        other => panic!("{other:?}"),
    }
    let stats = side.mtp.stats();
    assert_eq!((stats.other_content, stats.erroneous), (1, 1));
}

#[tokio::test]
async fn too_many_records_on_their_way_are_refused() {
    let broker = Broker::new().await;
    let mut side = controller();
    side.mtp.open("main", broker.client(V5));
    let mut peer = broker.subscribed().await;
    side.up().await;
    // Nothing is acknowledged: what cannot be sent waits, and what cannot wait is refused.
    let mut sent: Vec<_> = (0..400).map(|_| sending(&side, "t", b"request")).collect();
    assert_eq!(first(&mut sent).await, Err(SendError::Busy));
    for _ in 0..64 {
        peer.publish().await;
    }
    assert!(side.mtp.stats().busy > 0);
    // A topic that is none is refused at once.
    drop(peer);
    let mut peer = broker.subscribed().await;
    side.until(|status| status.status.is_up() && status.stats.connections == 2)
        .await;
    assert!(matches!(
        side.send("a/+", b"x").await,
        Err(SendError::Binding(_))
    ));
    peer.write(&[0xD0, 0]).await;
}

/// The first outcome of many.
async fn first(
    sent: &mut [tokio::task::JoinHandle<Result<(), SendError>>],
) -> Result<(), SendError> {
    let first = std::future::poll_fn(|cx| {
        for handle in sent.iter_mut() {
            if let Poll::Ready(outcome) = Pin::new(handle).poll(cx) {
                return Poll::Ready(outcome.unwrap());
            }
        }
        Poll::Pending
    });
    timeout(PATIENCE, first).await.unwrap()
}
