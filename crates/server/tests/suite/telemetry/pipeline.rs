//! From the receiver's channel to the REST API and the console: which device, what is kept, what is counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use homefleet_api::{Event, Role, SeriesList, SeriesPoints, Telemetry as Status};
use homefleet_net::notif::Received;
use homefleet_notif::{Generation, MediaType};
use homefleet_server::clock::Millis;
use homefleet_server::config::{Notif, NotifOutput, NotifPublisher, OutputKind, UnknownPublishers};
use homefleet_server::telemetry::Telemetry;
use homefleet_trust::{Basis, PeerIdentity};
use tempfile::TempDir;

use crate::common::DEVICE;
use crate::rest::Api;

const PATH: &str = "/api/v1/devices/os%3A%3A00D09E-1/series";

/// A publisher's certificate for these Endpoint IDs.
fn identity(endpoint_ids: &[&str]) -> Option<Arc<PeerIdentity>> {
    Some(Arc::new(PeerIdentity {
        endpoint_ids: endpoint_ids.iter().map(|id| (*id).to_owned()).collect(),
        dns_names: Vec::new(),
        subject: "CN=publisher".to_owned(),
        fingerprint: [7; 32],
        not_after: SystemTime::now() + Duration::from_secs(3600),
        anchor: None,
        basis: Basis::TrustedCa,
    }))
}

pub(crate) fn received(from: &str, identity: Option<Arc<PeerIdentity>>, message: &str) -> Received {
    Received {
        from: from.parse::<SocketAddr>().unwrap(),
        identity,
        generation: Generation::Draft26,
        publisher_id: 1,
        message_id: 1,
        media_type: MediaType::Json,
        encoding: None,
        at: SystemTime::now(),
        message: Bytes::copy_from_slice(message.as_bytes()),
    }
}

pub(crate) fn update(octets: u64) -> String {
    let now = Millis::from(SystemTime::now()).to_timestamp();
    format!(
        r#"{{"ietf-yp-notification:envelope":{{"event-time":"{now}","contents":{{"ietf-yang-push:push-update":{{"id":1,
            "datastore-contents":{{"ietf-interfaces:interfaces":{{"interface":[{{"name":"eth0","statistics":{{"in-octets":"{octets}"}}}}]}}}}}}}}}}}}"#
    )
}

fn config(directory: &TempDir) -> Notif {
    let mut output = NotifOutput::new("archive", OutputKind::Ndjson);
    output.directory = Some(directory.path().join("out"));
    Notif {
        publisher: vec![NotifPublisher {
            address: "192.0.2.7".parse().unwrap(),
            device: DEVICE.to_owned(),
        }],
        output: vec![output],
        ..Notif::default()
    }
}

pub(crate) struct World {
    pub(crate) api: Api,
    pub(crate) telemetry: Telemetry,
    _directory: TempDir,
}

impl World {
    pub(crate) async fn new(unknown: UnknownPublishers) -> Self {
        let api = Api::new().await;
        let directory = tempfile::tempdir().unwrap();
        let config = Notif {
            unknown,
            ..config(&directory)
        };
        let telemetry = Telemetry::open(&config, directory.path(), api.lab.core.clone()).unwrap();
        api.lab.core.set_telemetry(&telemetry);
        Self {
            api,
            telemetry,
            _directory: directory,
        }
    }

    async fn get(&self, path: &str) -> crate::rest::Answer {
        self.api
            .send("GET", path, Some(&self.api.viewer), "", "")
            .await
    }

    fn sync(&self) {
        self.telemetry.series().unwrap().sync(None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_is_its_certificates_device_or_its_addresss() {
    let world = World::new(UnknownPublishers::Refuse).await;
    let foreign = "198.51.100.1:4000";
    let unverified = identity(&[DEVICE]).map(|identity| {
        Arc::new(PeerIdentity {
            basis: Basis::NotVerified,
            ..PeerIdentity::clone(&identity)
        })
    });
    world.telemetry.take(vec![
        received(foreign, identity(&[DEVICE]), &update(100)),
        received("192.0.2.7:4000", None, &update(200)),
        // A certificate for nobody who is known is not made good by an address.
        received("192.0.2.7:4000", identity(&["os::stranger"]), &update(1)),
        // A certificate that says nothing about Endpoints is.
        received("192.0.2.7:4001", identity(&[]), &update(300)),
        // A wildcard is no device.
        received(foreign, identity(&["os::00D09E-*"]), &update(1)),
        received(foreign, None, &update(1)),
        // Nor is a certificate that nobody judged.
        received(foreign, unverified, &update(1)),
    ]);
    let status: Status = world.get("/api/v1/telemetry").await.json();
    assert_eq!((status.unknown_refused, status.unknown_kept), (4, 0));
    assert_eq!(status.outputs[0].offered, 3);
    world.sync();
    let list: SeriesList = world.get(PATH).await.json();
    assert_eq!(list.series.len(), 1);
    assert_eq!(list.series[0].value, 300.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_publishers_are_kept_without_a_device_where_the_policy_says_so() {
    let world = World::new(UnknownPublishers::Keep).await;
    let stranger = received("198.51.100.1:4000", None, &update(1));
    world.telemetry.take(vec![stranger]);
    let status: Status = world.get("/api/v1/telemetry").await.json();
    assert_eq!((status.unknown_refused, status.unknown_kept), (0, 1));
    assert_eq!(status.outputs[0].offered, 1);
    world.sync();
    assert_eq!(status.series.unwrap().series, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_an_envelope_is_counted_and_handed_on() {
    let world = World::new(UnknownPublishers::Refuse).await;
    let messages = ["{", "[]", "{\"a\":1}", &update(5)];
    let batch = messages.map(|message| received("192.0.2.7:4000", None, message));
    world.telemetry.take(batch.into());
    let status: Status = world.get("/api/v1/telemetry").await.json();
    let errors: Vec<(&str, u64)> = status
        .envelope_errors
        .iter()
        .map(|(kind, count)| (kind.as_str(), *count))
        .collect();
    assert_eq!(errors, [("malformed", 1), ("unknown", 2)]);
    assert_eq!(status.outputs[0].offered, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stretch_of_a_series_is_asked_for_by_time_and_step() {
    let world = World::new(UnknownPublishers::Refuse).await;
    world
        .telemetry
        .take(vec![received("192.0.2.7:4000", None, &update(42))]);
    world.sync();
    let path = format!("{PATH}/ietf-interfaces:interfaces/interface=eth0/statistics/in-octets");
    // The lab's clock stands elsewhere: both ends are given.
    let now = SystemTime::now();
    let from = Millis::from(now - Duration::from_secs(60)).to_timestamp();
    let to = Millis::from(now + Duration::from_secs(60)).to_timestamp();
    let points: SeriesPoints = world
        .get(&format!("{path}?from={from}&to={to}&step=30"))
        .await
        .json();
    assert_eq!(points.step, 30.0);
    assert_eq!(points.points.len(), 1);
    assert_eq!((points.points[0].count, points.points[0].last), (1, 42.0));
    for (query, status) in [
        (format!("from={to}&to={from}"), 400),
        ("from=yesterday".to_owned(), 400),
        (format!("from={from}&to={to}&step=0"), 400),
        (format!("from={from}&to={to}&step=0.001"), 400),
        (format!("from={from}&to={to}&stp=1"), 400),
    ] {
        assert_eq!(
            world.get(&format!("{path}?{query}")).await.status,
            status,
            "{query}"
        );
    }
    assert_eq!(world.get(&format!("{PATH}/a/b")).await.status, 404);
    assert_eq!(
        world
            .get("/api/v1/devices/os%3A%3Anobody/series")
            .await
            .status,
        404
    );
    let without = world.api.send("GET", PATH, None, "", "").await;
    assert_eq!(without.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_device_loses_its_series() {
    let world = World::new(UnknownPublishers::Refuse).await;
    world
        .telemetry
        .take(vec![received("192.0.2.7:4000", None, &update(42))]);
    world.sync();
    let (access, _) = world.api.lab.access(Role::Operator).await;
    access.remove_device(DEVICE).await.unwrap();
    world.sync();
    let stats = world.telemetry.series().unwrap().stats();
    assert_eq!((stats.series, stats.points), (0, 0));
    // And its address is nobody's now.
    world
        .telemetry
        .take(vec![received("192.0.2.7:4000", None, &update(43))]);
    let status: Status = world.get("/api/v1/telemetry").await.json();
    assert_eq!(status.unknown_refused, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_are_told_once_for_many_messages() {
    let world = World::new(UnknownPublishers::Refuse).await;
    let (access, _) = world.api.lab.access(Role::Viewer).await;
    let mut events = access.events(Some(DEVICE.to_owned())).unwrap();
    let at = SystemTime::now();
    let mut batch: Vec<Received> = (0..10)
        .map(|_| Received {
            at,
            ..received("192.0.2.7:4000", None, &update(1))
        })
        .collect();
    batch.push(Received {
        at: at + Duration::from_secs(2),
        ..received("192.0.2.7:4000", None, &update(1))
    });
    world.telemetry.take(batch);
    for expected in [1, 10] {
        let event = tokio::time::timeout(Duration::from_secs(20), events.next())
            .await
            .unwrap()
            .unwrap();
        let Event::Telemetry {
            device, messages, ..
        } = &*event
        else {
            panic!("{event:?}");
        };
        assert_eq!((device.as_str(), *messages), (DEVICE, expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_telemetry_says_so() {
    let api = Api::new().await;
    for path in ["/api/v1/telemetry", PATH] {
        let answer = api.send("GET", path, Some(&api.viewer), "", "").await;
        assert_eq!(answer.status, 404, "{path}");
    }
}
