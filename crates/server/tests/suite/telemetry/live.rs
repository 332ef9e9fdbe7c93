//! The whole server: a device that streams over DTLS 1.3, and one that is known by its address.

use std::time::{Duration, SystemTime};
use std::{net::UdpSocket, sync::Arc, time::Instant};

use homefleet_api::Telemetry as Status;
use homefleet_net::dtls::{Credentials, TrustVerifier};
use homefleet_net::notif::send::{Dtls, Sender, SenderConfig};
use homefleet_notif::publisher;
use homefleet_notif::{Generation, MediaType};
use homefleet_server::clock::Millis;
use homefleet_server::config::{NotifOutput, NotifPublisher, OutputKind};
use homefleet_server::{Access, Server};
use homefleet_trust::{Policy, Time, anchors_from_pem};

use super::peers::PATIENCE;
use crate::common::{DEVICE, on_board};
use crate::live::{Agent, Authority, config, operator};

const PLAIN: &str = "os::00D09E-2";

fn update(leaf: &str, value: u32) -> Vec<u8> {
    let now = Millis::from(SystemTime::now()).to_timestamp();
    format!(
        r#"{{"ietf-yp-notification:envelope":{{"event-time":"{now}","sequence-number":{value},"contents":
           {{"ietf-yang-push:push-update":{{"id":1,"datastore-contents":{{"homefleet-tr181:Device":{{"{leaf}":{value}}}}}}}}}}}}}"#
    )
    .into_bytes()
}

/// A datagram of draft -26 with a JSON message.
fn datagram(message_id: u32, message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(12 + message.len()).unwrap();
    let mut bytes = vec![0x21, 12];
    bytes.extend(length.to_be_bytes());
    bytes.extend(7u32.to_be_bytes());
    bytes.extend(message_id.to_be_bytes());
    bytes.extend(message);
    bytes
}

async fn until(access: &Access, what: impl Fn(&Status) -> bool) -> Status {
    let until = Instant::now() + PATIENCE;
    loop {
        let status = access.telemetry().unwrap();
        if what(&status) {
            return status;
        }
        assert!(Instant::now() < until, "{status:#?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_devices_stream_is_kept_and_handed_on_and_everything_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("CA");
    let mut config = config(directory.path(), &authority, &authority);
    config.notif.listen = Some("127.0.0.1:0".parse().unwrap());
    config.notif.plain_listen = Some("127.0.0.1:0".parse().unwrap());
    config.http.public_metrics = true;
    config.notif.publisher = vec![NotifPublisher {
        address: "127.0.0.1".parse().unwrap(),
        device: PLAIN.to_owned(),
    }];
    let mut output = NotifOutput::new("archive", OutputKind::Ndjson);
    output.directory = Some(directory.path().join("archive"));
    config.notif.output = vec![output];
    let server = Server::start(config).await.unwrap();
    let access = operator(&server).await;
    let telemetry = server.telemetry().unwrap().clone();
    // Both devices are known: the registry knows who came over USP.
    for id in [DEVICE, PLAIN] {
        let agent = Agent::start(id, authority.issue(id), &authority, server.coap_addr()).await;
        agent.send(on_board("boot")).await;
        let until = Instant::now() + PATIENCE;
        while access.device(id).await.is_err() {
            assert!(Instant::now() < until, "{id} is not registered");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        agent.mtp.shutdown().await;
    }

    // One over DTLS, with its certificate.
    let (certificate, key) = authority.issue(DEVICE);
    let anchors = anchors_from_pem(&authority.pem).unwrap();
    let verifier = TrustVerifier::new(anchors, Policy::default(), || {
        Time::Accurate(SystemTime::now())
    });
    let secure = telemetry.secure_addr().unwrap();
    let form = publisher::Config::new(Generation::Draft26, 1, MediaType::Json);
    let mut sending = SenderConfig::new("127.0.0.1", secure.port(), form);
    sending.dtls = Some(Dtls::new(
        Credentials::from_pem(&certificate, &key).unwrap(),
        Arc::new(verifier),
    ));
    let sender = Sender::start(sending, None).unwrap();
    for value in 0..20 {
        sender.publish(update("UpTime", value)).unwrap();
    }
    tokio::time::timeout(PATIENCE, sender.idle()).await.unwrap();

    // One by its address, of which the fifth message is lost.
    let plain = UdpSocket::bind("127.0.0.1:0").unwrap();
    plain.connect(telemetry.plain_addr().unwrap()).unwrap();
    for number in (1..=10).filter(|number| *number != 5) {
        plain
            .send(&datagram(number, &update("Free", number)))
            .unwrap();
    }
    plain.send(b"????").unwrap();

    let status = until(&access, |status| {
        status.outputs[0].delivered == 29 && status.refused.values().sum::<u64>() == 1
    })
    .await;
    assert_eq!(status.publishers.len(), 2);
    let one = |id: &str| {
        let mut found = status.publishers.iter();
        found
            .find(|publisher| publisher.device.as_deref() == Some(id))
            .unwrap()
    };
    assert_eq!((one(DEVICE).secure, one(DEVICE).received), (true, 20));
    assert_eq!((one(PLAIN).secure, one(PLAIN).received), (false, 9));
    assert_eq!(one(DEVICE).generation, "draft-26");
    telemetry.series().unwrap().sync(None);
    let series = access.series(DEVICE).await.unwrap().series;
    assert_eq!(series.len(), 1);
    assert_eq!(series[0].path, "homefleet-tr181:Device/UpTime");
    assert_eq!(series[0].value, 19.0);

    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let metrics = crate::rest::exchange(server.http_addr(), request.as_bytes()).await;
    for line in [
        "homefleet_notif_received_total{device=\"os::00D09E-1\"} 20",
        "homefleet_notif_received_total{device=\"os::00D09E-2\"} 9",
        "homefleet_notif_output_delivered_total{output=\"archive\"} 29",
        "homefleet_notif_refused_total{reason=\"too-short\"} 1",
        "homefleet_series 2",
    ] {
        assert!(metrics.body.contains(line), "{line}: {}", metrics.body);
    }
    assert!(metrics.body.ends_with("# EOF\n"));

    sender.stop(Duration::from_secs(5)).await;
    server.stop().await;
    // The file is complete when the server has stopped.
    let names: Vec<_> = std::fs::read_dir(directory.path().join("archive"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(names.len(), 1, "{names:?}");
    let file = std::fs::File::open(&names[0]).unwrap();
    let text = String::from_utf8(zstd::decode_all(file).unwrap()).unwrap();
    assert_eq!(text.lines().count(), 29);
}
