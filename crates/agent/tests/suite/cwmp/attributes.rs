//! What an ACS is told of changes (TR-069 A.3.2.4).

use std::time::Duration;

use homefleet_agent::{cwmp::AcsEvent, store::Store};
use homefleet_cwmp::{
    Message, ValueType,
    message::{GetParameterAttributes, Notification, SetAttributes, SetParameterAttributes},
};

use super::{call, codes, fault, happen, session, set, settled, speaks, started, with};
use crate::bench::Bench;

fn watch(bench: &mut Bench, name: &str, notification: Notification) -> Message {
    let attributes = vec![SetAttributes {
        name: name.to_owned(),
        notification_change: true,
        notification,
        ..SetAttributes::default()
    }];
    call(bench, SetParameterAttributes { attributes })
}

fn notification(bench: &mut Bench, name: &str) -> Notification {
    let names = vec![name.to_owned()];
    let Message::GetParameterAttributesResponse(response) =
        call(bench, GetParameterAttributes { names })
    else {
        panic!("no attributes")
    };
    response.attributes[0].notification
}

const LABEL: &str = "Device.X_Test.Label";

#[test]
fn an_active_change_is_told_at_once_and_a_passive_one_with_the_next_session() {
    let mut bench = settled();
    watch(&mut bench, LABEL, Notification::Active);
    watch(&mut bench, "Device.X_Test.Level", Notification::Passive);
    bench.set("Device.X_Test.", "Level", "3");
    assert!(!speaks(&bench));
    bench.set("Device.X_Test.", "Label", "moved");
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["4 VALUE CHANGE"]);
    let value = |name: &str| told.values.value(name).map(|value| value.text);
    assert_eq!(value(LABEL), Some("moved"));
    assert_eq!(value("Device.X_Test.Level"), Some("3"));
    happen(&mut bench, AcsEvent::Called);
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["6 CONNECTION REQUEST"]);
    assert_eq!(told.values.value(LABEL), None, "it is told once");
}

#[test]
fn what_the_acs_changes_itself_it_is_not_told() {
    let mut bench = settled();
    watch(&mut bench, LABEL, Notification::Active);
    call(&mut bench, set(&[(LABEL, ValueType::String, "mine")]));
    assert!(!speaks(&bench));
}

#[test]
fn what_the_system_changes_is_looked_for() {
    let mut bench = settled();
    watch(&mut bench, "Device.X_Test.Counter", Notification::Active);
    bench.system.lock().unwrap().counter += 1;
    bench.pass(Duration::from_secs(2));
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["4 VALUE CHANGE"]);
    assert!(told.values.value("Device.X_Test.Counter").is_some());
}

#[test]
fn attributes_last_and_what_changed_while_the_device_was_off_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = started(with(|_| {}), Store::open(directory.path()).unwrap());
    session(&mut bench, []);
    watch(&mut bench, "Device.X_Test.Counter", Notification::Passive);
    assert_eq!(
        notification(&mut bench, "Device.X_Test.Counter"),
        Notification::Passive
    );
    bench.system.lock().unwrap().counter = 5;
    bench.pass(Duration::from_secs(2));
    // The power fails before anybody is told; the counter is 0 again afterwards, as it was known.
    drop(bench);
    let mut bench = started(with(|_| {}), Store::open(directory.path()).unwrap());
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["1 BOOT"]);
    bench.system.lock().unwrap().counter = 6;
    bench.pass(Duration::from_secs(2));
    happen(&mut bench, AcsEvent::Called);
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["4 VALUE CHANGE", "6 CONNECTION REQUEST"]);
}

#[test]
fn some_are_active_by_default_and_can_be_turned_off_for_good() {
    let directory = tempfile::tempdir().unwrap();
    let name = "Device.ManagementServer.ConnectionRequestURL";
    let mut bench = started(with(|_| {}), Store::open(directory.path()).unwrap());
    session(&mut bench, []);
    assert_eq!(notification(&mut bench, name), Notification::Active);
    happen(&mut bench, AcsEvent::Address("192.0.2.7:7547".into()));
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["4 VALUE CHANGE"]);
    let url = told.values.value(name).unwrap().text;
    let path = url.strip_prefix("http://192.0.2.7:7547/").unwrap();
    assert_eq!(path.len(), 32, "a path that nobody guesses");
    watch(&mut bench, name, Notification::Off);
    drop(bench);
    let mut bench = started(with(|_| {}), Store::open(directory.path()).unwrap());
    session(&mut bench, []);
    assert_eq!(notification(&mut bench, name), Notification::Off);
    happen(&mut bench, AcsEvent::Address("192.0.2.8:7547".into()));
    assert!(!speaks(&bench));
}

#[test]
fn what_changes_all_the_time_takes_no_notification() {
    let mut bench = settled();
    let refused = watch(&mut bench, "Device.X_Test.Clock", Notification::Active);
    assert_eq!(fault(refused).code.0, 9009);
    let answer = watch(&mut bench, "Device.X_Test.", Notification::Passive);
    assert!(matches!(answer, Message::SetParameterAttributesResponse(_)));
    assert_eq!(notification(&mut bench, LABEL), Notification::Passive);
    assert_eq!(
        notification(&mut bench, "Device.X_Test.Clock"),
        Notification::Off
    );
}

#[test]
fn active_changes_are_throttled_when_the_acs_wants_it() {
    let mut bench = settled();
    watch(&mut bench, LABEL, Notification::Active);
    let name = "Device.ManagementServer.DefaultActiveNotificationThrottle";
    call(&mut bench, set(&[(name, ValueType::UnsignedInt, "60")]));
    bench.set("Device.X_Test.", "Label", "one");
    session(&mut bench, []);
    bench.set("Device.X_Test.", "Label", "two");
    assert!(!speaks(&bench));
    bench.pass(Duration::from_secs(60));
    let (told, []) = session(&mut bench, []);
    assert_eq!(told.values.value(LABEL).unwrap().text, "two");
}
