//! What a broker may send that it should not.

use homefleet_net::mtp::State;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PublishProperties};

use super::script::{Broker, Peer};
use super::*;

async fn side(broker: &Broker, version: MqttVersion) -> Side {
    let side = Side::new(CONTROLLER, |config| config.max_record = 10_000);
    side.mtp.open("main", broker.client(version));
    side
}

/// Connects a client of MQTT 3.1.1 and grants it everything.
async fn subscribed4(broker: &Broker) -> Peer {
    let mut peer = broker.accept().await;
    peer.packet4().await;
    peer.write(&[0x20, 2, 0, 0]).await;
    let rumqttc::mqttbytes::v4::Packet::Subscribe(subscribe) = peer.packet4().await else {
        panic!("no SUBSCRIBE");
    };
    peer.write(&[0x90, 3, 0, subscribe.pkid as u8, 1]).await;
    peer
}

#[tokio::test]
async fn every_fault_ends_the_connection_with_its_reason_and_is_counted() {
    const MALFORMED: u8 = 0x81;
    const PROTOCOL: u8 = 0x82;
    const ALIAS: u8 = 0x94;
    const TOO_LARGE: u8 = 0x95;
    let broker = Broker::new().await;
    let mut side = side(&broker, V5).await;
    let faults: [(&str, &[u8], u8); 22] = [
        ("type 0", &[0x00, 0], MALFORMED),
        ("AUTH", &[0xF0, 0], MALFORMED),
        (
            "CONNECT",
            b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01a",
            PROTOCOL,
        ),
        ("SUBSCRIBE", &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0], PROTOCOL),
        ("PINGREQ", &[0xC0, 0], PROTOCOL),
        ("a second CONNACK", &[0x20, 3, 0, 0, 0], PROTOCOL),
        ("SUBACK to nothing", &[0x90, 4, 0, 77, 0, 0], PROTOCOL),
        (
            "a length of 5 bytes",
            &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1],
            MALFORMED,
        ),
        (
            "a length past the bound",
            &[0x30, 0xFF, 0xFF, 0xFF, 0x7F],
            TOO_LARGE,
        ),
        ("flags of PUBACK", &[0x41, 2, 0, 1], MALFORMED),
        ("flags of PUBREL", &[0x60, 2, 0, 1], MALFORMED),
        ("QoS 3", &[0x36, 6, 0, 1, b'a', 0, 1, 0], MALFORMED),
        (
            "QoS 1 without identifier",
            &[0x32, 6, 0, 1, b'a', 0, 0, 0],
            MALFORMED,
        ),
        ("a topic past the end", &[0x30, 4, 0, 9, b'a', 0], MALFORMED),
        (
            "a topic that is not UTF-8",
            &[0x30, 4, 0, 1, 0xFF, 0],
            MALFORMED,
        ),
        (
            "a topic with a wildcard",
            &[0x30, 4, 0, 1, b'#', 0],
            MALFORMED,
        ),
        ("no topic", &[0x30, 3, 0, 0, 0], MALFORMED),
        (
            "properties past the end",
            &[0x30, 5, 0, 1, b'a', 9, 1],
            MALFORMED,
        ),
        (
            "an unknown property",
            &[0x30, 5, 0, 1, b'a', 1, 0x7F],
            MALFORMED,
        ),
        ("a topic alias", &[0x30, 7, 0, 1, b'a', 3, 35, 0, 1], ALIAS),
        ("an empty PUBACK", &[0x40, 0], MALFORMED),
        ("an unknown reason", &[0x40, 3, 0, 1, 0x55], MALFORMED),
    ];
    for (number, (name, bytes, code)) in faults.iter().enumerate() {
        let mut peer = broker.subscribed().await;
        side.up().await;
        peer.write(bytes).await;
        assert_eq!(peer.end().await, Some(*code), "{name}");
        let why = side.down().await;
        assert!(why.starts_with("the broker "), "{name}: {why}");
        assert_eq!(side.mtp.stats().faults, number as u64 + 1, "{name}");
    }
    // And it goes on as if nothing had been.
    let mut peer = broker.subscribed().await;
    side.up().await;
    let payload = record(AGENT, CONTROLLER, b"after all");
    peer.deliver(QoS::AtMostOnce, 0, false, payload).await;
    assert_eq!(side.message().await.0, b"after all");
}

#[tokio::test]
async fn connack_is_what_comes_first() {
    let broker = Broker::new().await;
    let side = side(&broker, V5).await;
    let first: [&[u8]; 5] = [
        &[0x90, 4, 0, 1, 0, 1],
        &[0x30, 4, 0, 1, b'a', 0],
        // Bigger than any CONNACK of ours.
        &[0x20, 0xFF, 0xFF, 0x7F],
        // A Receive Maximum of 0, and a session that was not asked for.
        &[0x20, 6, 0, 0, 3, 33, 0, 0],
        &[0x20, 3, 1, 0, 0],
    ];
    for (number, bytes) in first.iter().enumerate() {
        let mut peer = broker.accept().await;
        peer.connect().await;
        peer.write(bytes).await;
        assert!(peer.end().await.is_some_and(|code| code >= 0x80));
        side.until(|status| status.stats.faults > number as u64)
            .await;
    }
    assert_eq!(side.mtp.stats().connections, 0);
}

#[tokio::test]
async fn a_packet_cut_short_ends_with_the_connection_and_no_sooner() {
    let broker = Broker::new().await;
    for version in [V5, V3] {
        let mut side = side(&broker, version).await;
        let mut peer = match version {
            V5 => broker.subscribed().await,
            _ => subscribed4(&broker).await,
        };
        side.up().await;
        // Of 5000 promised bytes 3 come.
        peer.write(&[0x30, 0x88, 0x27, 0, 1, b'a']).await;
        drop(peer);
        side.down().await;
        assert_eq!(side.mtp.stats().faults, 0);
        side.mtp.shutdown().await;
    }
}

#[tokio::test]
async fn a_record_at_the_bound_is_taken_and_one_past_it_is_told() {
    let broker = Broker::new().await;
    let mut side = side(&broker, V5).await;
    let mut peer = broker.subscribed().await;
    side.up().await;
    let around = record(AGENT, CONTROLLER, &[7; 9000]).len() - 9000;
    let fits = record(AGENT, CONTROLLER, &vec![7; 10_000 - around]);
    assert_eq!(fits.len(), 10_000);
    peer.deliver(QoS::AtMostOnce, 0, false, fits).await;
    assert_eq!(side.message().await.0.len(), 10_000 - around);
    peer.deliver(QoS::AtMostOnce, 0, false, vec![7; 10_001])
        .await;
    // Nobody can be answered: nothing of it was read.
    side.until(|status| status.stats.erroneous == 1).await;
    assert!(side.status().status.is_up());
}

/// Mutations of what a broker sends: whatever comes, the client neither panics nor stays away.
#[tokio::test]
async fn any_bytes_at_all_end_a_connection_at_worst() {
    let broker = Broker::new().await;
    for version in [V5, V3] {
        let mut side = side(&broker, version).await;
        let mut seed = 0x2545_F491_4F6C_DD1D_u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for _ in 0..25 {
            let mut peer = match version {
                V5 => broker.subscribed().await,
                _ => subscribed4(&broker).await,
            };
            let mut bytes = sample(version);
            for _ in 0..1 + random() % 4 {
                let at = usize::try_from(random()).unwrap_or(0) % bytes.len();
                match random() % 3 {
                    0 => bytes[at] = random().to_le_bytes()[0],
                    1 => bytes.truncate(at + 1),
                    _ => bytes.insert(at, random().to_le_bytes()[0]),
                }
            }
            peer.write(&bytes).await;
            drop(peer);
            // Its owner takes whatever comes of it.
            side.drain();
        }
        let settled = side
            .until(|status| !matches!(status.status.state, State::Up))
            .await;
        assert!(settled.stats.connections > 0);
        side.mtp.shutdown().await;
    }
}

/// One of each packet.
fn sample(version: MqttVersion) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    if version == V5 {
        let properties = PublishProperties {
            content_type: Some("usp.msg".to_owned()),
            response_topic: Some("usp/controller".to_owned()),
            user_properties: vec![("a".to_owned(), "b".to_owned())],
            ..PublishProperties::default()
        };
        let payload = record(AGENT, CONTROLLER, b"message");
        let mut publish = rumqttc::v5::mqttbytes::v5::Publish::new(
            "usp/agent",
            QoS::AtLeastOnce,
            payload,
            Some(properties),
        );
        publish.pkid = 3;
        Packet::Publish(publish).write(&mut out, None).unwrap();
        out.extend_from_slice(&[0x40, 4, 0, 1, 0x97, 0, 0x50, 2, 0, 1]);
    } else {
        let payload = record(AGENT, CONTROLLER, b"message");
        let mut publish = rumqttc::mqttbytes::v4::Publish::new(
            "usp/agent/reply-to=usp%2Fcontroller",
            rumqttc::mqttbytes::QoS::AtLeastOnce,
            payload,
        );
        publish.pkid = 3;
        publish.write(&mut out).unwrap();
        out.extend_from_slice(&[0x40, 2, 0, 1, 0x50, 2, 0, 1]);
    }
    out.extend_from_slice(&[0x62, 2, 0, 1, 0x70, 2, 0, 1, 0xB0, 2, 0, 1, 0xD0, 0]);
    out.to_vec()
}
