//! A change that cuts the way it came by is undone unless its Controller is heard again.

use std::{path::Path, time::Duration};

use homefleet_agent::{engine::CertificateInfo, store::Store};
use homefleet_model::path::ObjectPath;
use homefleet_net::mtp::ChannelId;
use homefleet_usp::{
    Message,
    message::{delete, get, set, update_object},
};

use crate::bench::{Bench, CONTROLLER, settings, stomp};
use crate::mtp::{ROW, add_stomp, from, peer};

const TIMEOUT: Duration = Duration::from_secs(120);

/// A controller that is reached over STOMP alone, and asks over it.
struct Remote {
    bench: Bench,
    name: String,
    channel: ChannelId,
}

impl Remote {
    fn new(store: Store) -> Self {
        let mut bench = Bench::started(settings_with_broker(), store);
        bench.answer_notifications();
        let name = add_stomp(&mut bench);
        let channel = bench.up(stomp(&name, "/queue/agent"));
        bench.set(&format!("{ROW}MTP.1."), "Enable", "false");
        bench.set("Device.LocalAgent.MTP.1.", "Enable", "false");
        let mut remote = Self {
            bench,
            name,
            channel,
        };
        remote.ask(get(["Device.X_Test.Label"], 0));
        assert_eq!(remote.bench.engine.stats().rollbacks, 0);
        remote
    }

    /// Asks over the broker.
    fn ask(&mut self, request: impl Into<homefleet_usp::message::Request>) {
        let id = format!("r{}", self.bench.engine.stats().records);
        let message = Message::request(id, request);
        let mut source = from(
            self.channel,
            &format!("stomp:{}/%2Fqueue%2Fcontroller", self.name),
        );
        source.peer = Some(peer(homefleet_trust::Basis::TrustedBroker));
        source.peer.as_mut().unwrap().fingerprint = BROKER;
        self.bench.message_by(CONTROLLER, &message, source);
    }

    fn set(&mut self, object: &str, param: &str, value: &str) {
        self.ask(set(
            false,
            vec![update_object(object, [(param, value, true)])],
        ));
    }

    fn host(&self) -> String {
        let row: ObjectPath = format!("{}.", self.name).parse().unwrap();
        let tree = &self.bench.engine.device().tree;
        tree.text(row.param("Host").as_str())
            .unwrap_or_default()
            .to_owned()
    }
}

/// The SHA-256 of the broker's certificate.
const BROKER: [u8; 32] = [0xBB; 32];

fn settings_with_broker() -> homefleet_agent::engine::Settings {
    let mut settings = settings();
    settings.brokers = vec![CertificateInfo {
        serial: "0B".into(),
        issuer: "CN=Broker".into(),
        sha256: BROKER,
        der: b"the broker".to_vec(),
    }];
    settings
}

fn store(directory: &Path) -> Store {
    Store::open(directory).unwrap()
}

#[test]
fn a_change_that_cuts_the_way_it_came_by_is_undone_in_time() {
    let mut remote = Remote::new(Store::in_memory().unwrap());
    let connection = format!("{}.", remote.name);
    remote.set(&connection, "Host", "nowhere.example");
    assert_eq!(remote.host(), "nowhere.example");
    assert_eq!(remote.bench.engine.stats().trials, 1);
    remote.bench.down(remote.channel);
    let now = remote.bench.now;
    remote.bench.engine.handle_applied(now);
    remote.bench.drain();
    remote.bench.pass(TIMEOUT - Duration::from_secs(1));
    assert_eq!(remote.host(), "nowhere.example");
    remote.bench.pass(Duration::from_secs(2));
    assert_eq!(remote.host(), "broker.example");
    assert_eq!(remote.bench.engine.stats().rollbacks, 1);
    assert_eq!(
        remote.bench.plan().stomp[&remote.name].host,
        "broker.example"
    );
    assert_eq!(
        remote.bench.plan().stomp[&remote.name]
            .login
            .as_ref()
            .unwrap()
            .1
            .reveal(),
        "hush"
    );
}

#[test]
fn a_change_stays_when_the_new_way_comes_up() {
    let mut remote = Remote::new(Store::in_memory().unwrap());
    let connection = format!("{}.", remote.name);
    remote.set(&connection, "Host", "other.example");
    remote.bench.down(remote.channel);
    remote.bench.up(stomp(&remote.name, "/queue/agent"));
    remote.bench.pass(2 * TIMEOUT);
    assert_eq!(remote.host(), "other.example");
    assert_eq!(remote.bench.engine.stats().rollbacks, 0);
}

#[test]
fn what_still_comes_over_the_old_way_proves_nothing() {
    let mut remote = Remote::new(Store::in_memory().unwrap());
    let connection = format!("{}.", remote.name);
    remote.set(&connection, "Host", "nowhere.example");
    remote.ask(get(["Device.X_Test.Label"], 0));
    remote.bench.down(remote.channel);
    remote.bench.pass(2 * TIMEOUT);
    assert_eq!(remote.host(), "broker.example");
}

#[test]
fn a_row_that_was_deleted_comes_back_with_its_number() {
    let mut remote = Remote::new(Store::in_memory().unwrap());
    let connection = format!("{}.", remote.name);
    remote.ask(delete(false, [connection.as_str()]));
    assert!(remote.bench.plan().stomp.is_empty());
    remote.bench.down(remote.channel);
    remote.bench.pass(2 * TIMEOUT);
    assert_eq!(
        remote.bench.plan().stomp[&remote.name].host,
        "broker.example"
    );
}

#[test]
fn a_controller_that_takes_itself_out_as_the_last_one_is_put_back() {
    let mut remote = Remote::new(Store::in_memory().unwrap());
    remote.ask(delete(false, [ROW]));
    remote.bench.pass(2 * TIMEOUT);
    let tree = &remote.bench.engine.device().tree;
    assert_eq!(tree.text(&format!("{ROW}EndpointID")), Some(CONTROLLER));
    assert_eq!(
        tree.text("Device.LocalAgent.Subscription.1.ID"),
        Some("factory-boot")
    );
}

#[test]
fn a_change_of_another_way_is_no_trial() {
    let mut bench = Bench::new();
    let name = add_stomp(&mut bench);
    bench.up(stomp(&name, "/queue/agent"));
    // It asks over CoAP.
    bench.set(&format!("{name}."), "Host", "nowhere.example");
    assert_eq!(bench.engine.stats().trials, 0);
    // And may end CoAP while the broker is there.
    bench.set(&format!("{name}."), "Host", "broker.example");
    bench.set("Device.LocalAgent.MTP.1.", "Enable", "false");
    assert_eq!(bench.engine.stats().trials, 0);
}

#[test]
fn a_trial_outlives_a_restart_of_the_agent() {
    let directory = tempfile::tempdir().unwrap();
    let mut remote = Remote::new(store(directory.path()));
    let connection = format!("{}.", remote.name);
    remote.set(&connection, "Host", "nowhere.example");
    let (now, name) = (remote.bench.now, remote.name.clone());
    drop(remote);
    let start = now.instant;
    let mut bench = Bench::started_at(settings_with_broker(), store(directory.path()), now, start);
    assert_eq!(bench.plan().stomp[&name].host, "nowhere.example");
    bench.pass(TIMEOUT);
    assert_eq!(bench.plan().stomp[&name].host, "broker.example");
    drop(bench);
    let bench = Bench::started_at(settings_with_broker(), store(directory.path()), now, start);
    assert_eq!(
        bench.plan().stomp[&name].host,
        "broker.example",
        "undone for good"
    );
    assert_eq!(bench.engine.stats().rollbacks, 0);
}

#[test]
fn a_trial_whose_time_passed_while_the_agent_was_off_is_undone_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let mut remote = Remote::new(store(directory.path()));
    let connection = format!("{}.", remote.name);
    remote.set(&connection, "Host", "nowhere.example");
    let (mut now, name) = (remote.bench.now, remote.name.clone());
    drop(remote);
    now.wall += 2 * TIMEOUT;
    let bench = Bench::started_at(
        settings_with_broker(),
        store(directory.path()),
        now,
        now.instant,
    );
    assert_eq!(bench.plan().stomp[&name].host, "broker.example");
    assert_eq!(bench.engine.stats().rollbacks, 1);
}

#[test]
fn a_rollback_is_told_to_who_subscribed() {
    let mut remote = Remote::new(Store::in_memory().unwrap());
    let connection = format!("{}.", remote.name);
    remote.bench.subscribe(
        "ValueChange",
        &format!("{connection}Host"),
        &[("NotifRetry", "true")],
    );
    remote.set(&connection, "Host", "nowhere.example");
    remote.bench.down(remote.channel);
    remote.bench.pass(2 * TIMEOUT);
    remote.bench.notifications.clear();
    remote.bench.up(stomp(&remote.name, "/queue/agent"));
    let told = remote.bench.changes();
    assert!(
        told.contains(&(format!("{connection}Host"), "broker.example".to_owned())),
        "{told:?}"
    );
}

#[test]
fn a_coap_listener_that_moves_is_told_to_the_controller_which_confirms_it() {
    for delivered in [true, false] {
        let mut bench = Bench::new();
        bench.set("Device.LocalAgent.MTP.1.CoAP.", "Port", "5999");
        assert_eq!(bench.engine.stats().trials, 1);
        assert!(
            bench.notifications.is_empty(),
            "not before the sockets have moved"
        );
        bench.engine.handle_applied(bench.now);
        bench.drain();
        let sent = bench.notifications.remove(0);
        bench.delivered(&sent, delivered);
        bench.pass(TIMEOUT);
        let port = bench.plan().coaps.as_ref().unwrap().port;
        assert_eq!(port, if delivered { 5999 } else { 5684 });
    }
}
