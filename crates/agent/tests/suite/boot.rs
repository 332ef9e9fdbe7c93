//! `Device.Boot!`, and what lasts over a start: state, instance numbers, notifications, causes.

use std::{path::Path, time::Duration};

use homefleet_agent::store::Store;
use homefleet_usp::{
    message::{Body, delete, operate},
    proto::msg::notify::{Event, Notification},
};

use crate::bench::{Bench, FULL_ACCESS, STRANGER, settings};

fn open(directory: &Path) -> Bench {
    Bench::started(settings(), Store::open(directory).unwrap())
}

/// The agent of this directory, after the controller has answered everything.
fn settled(directory: &Path) -> Bench {
    let mut bench = open(directory);
    bench.answer_notifications();
    bench.notifications.clear();
    bench
}

fn boot_events(bench: &Bench) -> Vec<Event> {
    let event = |notification: &Option<Notification>| match notification {
        Some(Notification::Event(event)) if event.event_name == "Boot!" => Some(event.clone()),
        _ => None,
    };
    bench
        .notifications
        .iter()
        .filter_map(|sent| event(&sent.notify().notification))
        .collect()
}

#[test]
fn the_factory_configuration_makes_controller_and_boot_subscription() {
    let mut bench = Bench::new();
    let values = bench.values("Device.LocalAgent.Controller.1.");
    let value = |name: &str| values[&format!("Device.LocalAgent.Controller.1.{name}")].as_str();
    assert_eq!(value("EndpointID"), "proto::controller");
    assert_eq!(
        (
            value("Enable"),
            value("MTP.1.Protocol"),
            value("MTP.1.Enable")
        ),
        ("true", "CoAP", "true")
    );
    assert_eq!(
        (value("MTP.1.CoAP.Host"), value("MTP.1.CoAP.Port")),
        ("192.0.2.1", "5684")
    );
    assert_eq!(
        (
            value("MTP.1.CoAP.Path"),
            value("MTP.1.CoAP.EnableEncryption")
        ),
        ("usp", "true")
    );
    let values = bench.values("Device.LocalAgent.Subscription.1.");
    let value = |name: &str| values[&format!("Device.LocalAgent.Subscription.1.{name}")].as_str();
    assert_eq!(
        (value("ReferenceList"), value("Persistent")),
        ("Device.Boot!", "true")
    );
}

#[test]
fn boot_is_told_after_every_start_with_cause_and_key() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let bench = open(directory.path());
        let events = boot_events(&bench);
        assert!(!events.is_empty());
        let event = events.last().unwrap();
        assert_eq!(event.obj_path, "Device.");
        assert_eq!(
            (
                event.params["Cause"].as_str(),
                event.params["CommandKey"].as_str()
            ),
            ("LocalReboot", "")
        );
        assert_eq!(
            (
                event.params["FirmwareUpdated"].as_str(),
                event.params["ParameterMap"].as_str()
            ),
            ("false", "{}")
        );
    }
}

#[test]
fn a_reboot_that_a_controller_ordered_is_told_with_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = settled(directory.path());
    bench.ask(operate(
        "Device.Reboot()",
        "maintenance-7",
        true,
        Default::default(),
    ));
    assert_eq!(bench.system.lock().unwrap().reboots, 1);
    drop(bench);
    let bench = open(directory.path());
    let event = boot_events(&bench).remove(0);
    let cause = (
        event.params["Cause"].as_str(),
        event.params["CommandKey"].as_str(),
    );
    assert_eq!(cause, ("RemoteReboot", "maintenance-7"));
    drop(bench);
    let bench = open(directory.path());
    let event = boot_events(&bench).pop().unwrap();
    assert_eq!(
        event.params["Cause"], "LocalReboot",
        "the next start has its own cause"
    );
}

#[test]
fn boot_parameters_come_with_the_event() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = settled(directory.path());
    let table = "Device.LocalAgent.Controller.1.BootParameter.";
    for (name, enable) in [
        ("Device.X_Test.Label", "true"),
        ("Device.X_Test.Item.*.Name", "true"),
        ("Device.X_Test.Level", "false"),
    ] {
        bench.add(table, &[("ParameterName", name), ("Enable", enable)]);
    }
    bench.add("Device.X_Test.Item.", &[("Name", "a\"b")]);
    bench.set("Device.X_Test.", "Label", "here");
    drop(bench);
    let bench = open(directory.path());
    let map = boot_events(&bench).remove(0).params["ParameterMap"].clone();
    assert_eq!(
        map,
        r#"{"Device.X_Test.Item.1.Name":"a\"b","Device.X_Test.Label":"here"}"#
    );
}

#[test]
fn what_controllers_wrote_survives_and_numbers_are_not_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = settled(directory.path());
    bench.add("Device.X_Test.Item.", &[("Name", "a"), ("Level", "3")]);
    bench.add("Device.X_Test.Item.", &[("Name", "b")]);
    bench.ask(delete(false, ["Device.X_Test.Item.2."]));
    bench.set("Device.X_Test.", "Password", "kept");
    drop(bench);
    let mut bench = settled(directory.path());
    assert_eq!(bench.value("Device.X_Test.Item.1.Level"), "3");
    assert_eq!(bench.value("Device.X_Test.ItemNumberOfEntries"), "1");
    assert_eq!(
        bench.add("Device.X_Test.Item.", &[("Name", "c")]),
        "Device.X_Test.Item.3."
    );
    let password = "Device.X_Test.Password".parse().unwrap();
    assert_eq!(
        bench
            .engine
            .device()
            .tree
            .reveal(&password)
            .unwrap()
            .as_str(),
        "kept"
    );
}

#[test]
fn only_persistent_subscriptions_survive() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = settled(directory.path());
    bench.subscribe("ValueChange", "Device.X_Test.Label", &[("ID", "volatile")]);
    bench.subscribe(
        "ValueChange",
        "Device.X_Test.Label",
        &[("ID", "lasting"), ("Persistent", "true")],
    );
    drop(bench);
    let mut bench = settled(directory.path());
    bench.set("Device.X_Test.", "Label", "x");
    let ids: Vec<String> = bench
        .notifications
        .iter()
        .map(|sent| sent.notify().subscription_id.clone())
        .collect();
    assert_eq!(ids, ["lasting"]);
}

#[test]
fn r_not_4_an_unanswered_notification_goes_on_after_a_restart_with_a_fresh_count() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = settled(directory.path());
    let more = [("Persistent", "true"), ("NotifRetry", "true")];
    bench.subscribe("ValueChange", "Device.X_Test.Label", &more);
    bench.set("Device.X_Test.", "Label", "x");
    bench.pass(Duration::from_secs(300));
    let message = bench.notifications[0].message.clone();
    drop(bench);
    let mut bench = open(directory.path());
    bench.pass(Duration::from_secs(10));
    let again: Vec<Duration> = bench
        .notifications
        .iter()
        .filter(|sent| sent.message == message)
        .map(|sent| sent.at)
        .collect();
    assert!(
        again.len() == 2 && again[1] - again[0] <= Duration::from_secs(10),
        "{again:?}"
    );
    bench.answer_notifications();
    drop(bench);
    let mut bench = open(directory.path());
    bench.pass(Duration::from_secs(100));
    assert!(
        bench
            .notifications
            .iter()
            .all(|sent| sent.message != message),
        "it was answered"
    );
}

#[test]
fn a_controller_that_was_onboarded_is_not_asked_again() {
    let directory = tempfile::tempdir().unwrap();
    let is_onboarding = |bench: &Bench| {
        bench.notifications.iter().any(|sent| {
            matches!(
                sent.notify().notification,
                Some(Notification::OnBoardReq(_))
            )
        })
    };
    let bench = open(directory.path());
    assert!(is_onboarding(&bench));
    drop(bench);
    let bench = open(directory.path());
    assert!(is_onboarding(&bench), "it did not answer");
    drop(bench);
    drop(settled(directory.path()));
    assert!(!is_onboarding(&open(directory.path())));
}

#[test]
fn a_changed_controller_in_the_file_is_entered_and_an_unchanged_one_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = settled(directory.path());
    bench.set(
        "Device.LocalAgent.Controller.1.",
        "MTP.1.CoAP.Host",
        "198.51.100.1",
    );
    drop(bench);
    let mut bench = settled(directory.path());
    assert_eq!(
        bench.value("Device.LocalAgent.Controller.1.MTP.1.CoAP.Host"),
        "198.51.100.1"
    );
    drop(bench);
    let mut settings = settings();
    settings.controller.as_mut().unwrap().url = "coaps://203.0.113.5:7000/other".parse().unwrap();
    let mut bench = Bench::started(settings, Store::open(directory.path()).unwrap());
    assert_eq!(
        bench.value("Device.LocalAgent.Controller.1.MTP.1.CoAP.Host"),
        "203.0.113.5"
    );
    assert_eq!(
        bench.value("Device.LocalAgent.ControllerNumberOfEntries"),
        "1"
    );
}

#[test]
fn a_factory_reset_starts_afresh_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = settled(directory.path());
    bench.set("Device.X_Test.", "Label", "gone");
    bench.ask(operate(
        "Device.FactoryReset()",
        "reset-1",
        true,
        Default::default(),
    ));
    bench.set("Device.X_Test.", "Label", "too late");
    drop(bench);
    let mut bench = open(directory.path());
    let event = boot_events(&bench).remove(0);
    let cause = (
        event.params["Cause"].as_str(),
        event.params["CommandKey"].as_str(),
    );
    assert_eq!(cause, ("RemoteFactoryReset", "reset-1"));
    assert_eq!(bench.value("Device.X_Test.Label"), "");
}

#[test]
fn the_agent_tells_about_itself() {
    let mut bench = Bench::new();
    bench.pass(Duration::from_secs(90));
    let values = bench.values("Device.LocalAgent.");
    let value = |name: &str| values[&format!("Device.LocalAgent.{name}")].as_str();
    assert_eq!(
        (value("EndpointID"), value("UpTime")),
        ("proto::agent", "90")
    );
    assert_eq!(
        (value("SoftwareVersion"), value("SupportedProtocols")),
        (env!("CARGO_PKG_VERSION"), "CoAP,MQTT,STOMP,UDS,WebSocket")
    );
    assert_eq!(
        (
            value("MTP.1.CoAP.Port"),
            value("MTP.1.CoAP.Path"),
            value("MTP.1.Status")
        ),
        ("5684", "usp", "Up")
    );
    assert_eq!(bench.value("Device.RootDataModelVersion"), "2.16");
}

#[test]
fn r_sec_21_a_restart_reads_permissions_anew() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = settled(directory.path());
    bench.add(
        "Device.LocalAgent.Controller.",
        &[
            ("EndpointID", STRANGER),
            ("Enable", "true"),
            ("AssignedRole", FULL_ACCESS),
        ],
    );
    let ask = || homefleet_usp::message::get(["Device."], 1);
    assert!(matches!(bench.ask_as(STRANGER, ask()), Body::Response(_)));
    drop(bench);
    // Somebody else takes the permission away while the agent does not run.
    let db = rusqlite::Connection::open(directory.path().join("agent.db")).unwrap();
    let query =
        "UPDATE tree SET value = 'false' WHERE path = 'Device.LocalAgent.Controller.2.Enable'";
    assert_eq!(db.execute(query, []).unwrap(), 1);
    drop(db);
    let mut bench = settled(directory.path());
    assert!(matches!(bench.ask_as(STRANGER, ask()), Body::Error(_)));
}

#[test]
fn a_command_that_ran_when_the_agent_stopped_is_told_as_failed() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = settled(directory.path());
    let more = [("Persistent", "true"), ("ID", "done")];
    bench.subscribe("OperationComplete", "Device.X_Test.", &more);
    bench.ask(operate(
        "Device.X_Test.Slow()",
        "slow-1",
        true,
        Default::default(),
    ));
    assert_eq!(bench.running.len(), 1);
    drop(bench);
    let mut bench = open(directory.path());
    let done: Vec<_> = bench
        .told()
        .into_iter()
        .filter_map(|told| match told {
            Notification::OperComplete(done) => Some(done),
            _ => None,
        })
        .collect();
    let [done] = done.as_slice() else {
        panic!("{done:?}")
    };
    assert_eq!(
        (done.obj_path.as_str(), done.command_name.as_str()),
        ("Device.X_Test.", "Slow()")
    );
    assert_eq!(done.command_key, "slow-1");
    let failure = done.operation_resp.clone().unwrap();
    assert!(format!("{failure:?}").contains("7022"), "{failure:?}");
    assert_eq!(bench.value("Device.LocalAgent.RequestNumberOfEntries"), "0");
    drop(bench);
    let mut bench = open(directory.path());
    assert!(
        bench
            .told()
            .iter()
            .all(|told| !matches!(told, Notification::OperComplete(_)))
    );
}

#[test]
fn a_factory_reset_without_a_restart_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let mut settings = settings();
        settings.restarts = false;
        Bench::started(settings, Store::open(directory.path()).unwrap())
    };
    let mut bench = open();
    bench.answer_notifications();
    bench.ask(operate(
        "Device.FactoryReset()",
        "",
        true,
        Default::default(),
    ));
    bench.set("Device.X_Test.", "Label", "after");
    drop(bench);
    assert_eq!(open().value("Device.X_Test.Label"), "after");
}
