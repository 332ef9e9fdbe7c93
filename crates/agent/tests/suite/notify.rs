//! Subscriptions in virtual time: what is told, when, and how often (R-NOT, Device:2.16 Subscription).

use std::time::Duration;

use homefleet_usp::{
    message::{delete, operate},
    proto::msg::notify::Notification,
};

use crate::bench::{Bench, CONTROLLER, settings};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_value_that_a_controller_sets_is_told_at_once_to_its_originator_too() {
    let mut bench = Bench::new();
    bench.subscribe("ValueChange", "Device.X_Test.Label", &[]);
    bench.set("Device.X_Test.", "Label", "new");
    assert_eq!(bench.notifications[0].notify().subscription_id, "sub");
    assert!(!bench.notifications[0].notify().send_resp);
    assert_eq!(bench.notifications[0].to, CONTROLLER);
    assert_eq!(bench.notifications[0].uri, "coaps://192.0.2.1/usp");
    assert_eq!(
        bench.changes(),
        [("Device.X_Test.Label".to_owned(), "new".to_owned())]
    );
    bench.set("Device.X_Test.", "Label", "new");
    assert!(bench.changes().is_empty(), "the same value is no change");
}

#[test]
fn a_value_that_changes_in_the_system_is_told_within_a_second() {
    let mut bench = Bench::new();
    bench.subscribe("ValueChange", "Device.X_Test.Counter", &[]);
    bench.pass(Duration::from_millis(300));
    bench.system.lock().unwrap().counter = 3;
    let before = bench.now.instant;
    bench.pass(SECOND);
    assert_eq!(
        bench.changes(),
        [("Device.X_Test.Counter".to_owned(), "3".to_owned())]
    );
    assert!(bench.now.instant - before <= SECOND);
    bench.pass(5 * SECOND);
    assert!(
        bench.changes().is_empty(),
        "what stays the same is not told"
    );
}

#[test]
fn a_value_that_the_kernel_reports_is_told_without_waiting() {
    let mut bench = Bench::new();
    bench.subscribe("ValueChange", "Device.X_Test.", &[]);
    bench.system.lock().unwrap().counter = 4;
    bench.engine.handle_wake(bench.now);
    bench.drain();
    assert_eq!(
        bench.changes(),
        [("Device.X_Test.Counter".to_owned(), "4".to_owned())]
    );
}

#[test]
fn nobody_looks_at_the_system_when_nobody_watches() {
    let mut bench = Bench::new();
    let before = bench.system.lock().unwrap().refreshed;
    bench.pass(60 * SECOND);
    assert_eq!(bench.system.lock().unwrap().refreshed, before);
    let path = bench.subscribe("ValueChange", "Device.X_Test.Counter", &[]);
    bench.ask(delete(false, [path]));
    let before = bench.system.lock().unwrap().refreshed;
    bench.pass(60 * SECOND);
    assert_eq!(
        bench.system.lock().unwrap().refreshed,
        before,
        "the last subscription is gone"
    );
}

#[test]
fn a_change_before_the_subscription_is_not_told() {
    let mut bench = Bench::new();
    bench.system.lock().unwrap().counter = 9;
    bench.subscribe("ValueChange", "Device.X_Test.Counter", &[]);
    bench.pass(5 * SECOND);
    assert!(bench.changes().is_empty());
}

#[test]
fn an_object_path_is_a_filter_for_all_below_it() {
    let mut bench = Bench::new();
    bench.add("Device.X_Test.Item.", &[("Name", "a")]);
    bench.subscribe("ValueChange", "Device.X_Test.", &[]);
    bench.set("Device.X_Test.Item.1.", "Stats.Limit", "8");
    bench.system.lock().unwrap().clock = 77;
    bench.pass(2 * SECOND);
    let changes = bench.changes();
    assert_eq!(
        changes,
        [(
            "Device.X_Test.Item.1.Stats.Limit".to_owned(),
            "8".to_owned()
        )],
        "not the quiet Clock"
    );
}

#[test]
fn wildcards_and_expressions_choose_rows() {
    let mut bench = Bench::new();
    for name in ["a", "b"] {
        bench.add("Device.X_Test.Item.", &[("Name", name)]);
    }
    bench.subscribe(
        "ValueChange",
        "Device.X_Test.Item.*.Level",
        &[("ID", "all")],
    );
    bench.subscribe(
        "ValueChange",
        "Device.X_Test.Item.[Name==\"b\"].Level",
        &[("ID", "b")],
    );
    bench.set("Device.X_Test.Item.1.", "Level", "1");
    bench.set("Device.X_Test.Item.2.", "Level", "2");
    bench.set("Device.X_Test.Item.2.", "Label", "x");
    let ids: Vec<String> = bench
        .notifications
        .iter()
        .map(|sent| sent.notify().subscription_id.clone())
        .collect();
    assert_eq!(ids, ["all", "all", "b"]);
}

#[test]
fn creation_and_deletion_of_rows_are_told_with_their_keys() {
    let mut bench = Bench::new();
    bench.subscribe(
        "ObjectCreation",
        "Device.X_Test.Item.,Device.X_Test.Row.",
        &[("ID", "new")],
    );
    bench.subscribe(
        "ObjectDeletion",
        "Device.X_Test.Item.*.,Device.X_Test.Row.",
        &[("ID", "gone")],
    );
    bench.add("Device.X_Test.Item.", &[("Name", "a"), ("Alias", "one")]);
    bench.ask(delete(false, ["Device.X_Test.Item.1."]));
    bench.system.lock().unwrap().rows = vec!["r".into()];
    bench.pass(2 * SECOND);
    bench.system.lock().unwrap().rows.clear();
    bench.pass(2 * SECOND);
    let told = bench.told();
    let [
        Notification::ObjCreation(item),
        Notification::ObjDeletion(item_gone),
        Notification::ObjCreation(row),
        Notification::ObjDeletion(row_gone),
    ] = told.as_slice()
    else {
        panic!("{told:?}")
    };
    assert_eq!(item.obj_path, "Device.X_Test.Item.1.");
    assert_eq!(
        (
            item.unique_keys["Name"].as_str(),
            item.unique_keys["Alias"].as_str()
        ),
        ("a", "one")
    );
    assert_eq!(item_gone.obj_path, "Device.X_Test.Item.1.");
    assert_eq!(
        (row.obj_path.as_str(), row.unique_keys["Name"].as_str()),
        ("Device.X_Test.Row.1.", "r")
    );
    assert_eq!(row_gone.obj_path, "Device.X_Test.Row.1.");
}

#[test]
fn the_deletion_of_a_row_that_an_expression_named_is_told() {
    let mut bench = Bench::new();
    bench.subscribe("ObjectDeletion", "Device.X_Test.Item.[Name==\"b\"].", &[]);
    for name in ["a", "b"] {
        bench.add("Device.X_Test.Item.", &[("Name", name)]);
    }
    bench.ask(delete(false, ["Device.X_Test.Item.*."]));
    let told = bench.told();
    let [Notification::ObjDeletion(gone)] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(gone.obj_path, "Device.X_Test.Item.2.");
}

#[test]
fn a_disabled_subscription_is_silent_until_it_is_enabled() {
    let mut bench = Bench::new();
    let path = bench.subscribe("ValueChange", "Device.X_Test.Label", &[("Enable", "false")]);
    bench.set("Device.X_Test.", "Label", "1");
    assert!(bench.changes().is_empty());
    bench.set(&path, "Enable", "true");
    bench.set("Device.X_Test.", "Label", "2");
    assert_eq!(bench.changes().len(), 1);
}

#[test]
fn r_not_1_an_unanswered_notification_is_sent_again_in_growing_intervals() {
    let mut bench = Bench::new();
    bench.subscribe(
        "ValueChange",
        "Device.X_Test.Label",
        &[("NotifRetry", "true")],
    );
    bench.set("Device.X_Test.", "Label", "x");
    bench.pass(Duration::from_secs(20_000));
    let at: Vec<f64> = bench
        .notifications
        .iter()
        .map(|sent| sent.at.as_secs_f64())
        .collect();
    let ranges = [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 2560, 2560].map(f64::from);
    assert!(at.len() >= 12, "{at:?}");
    for (retry, (pair, shortest)) in at.windows(2).zip(ranges).enumerate() {
        let wait = pair[1] - pair[0];
        assert!(
            (shortest..=2.0 * shortest).contains(&wait),
            "retry {}: {wait} s",
            retry + 1
        );
    }
    let first = &bench.notifications[0];
    assert!(first.notify().send_resp);
    assert!(
        bench
            .notifications
            .iter()
            .all(|sent| sent.message == first.message),
        "the same Message each time"
    );
}

#[test]
fn r_not_1_the_controllers_own_parameters_are_used() {
    let mut bench = Bench::new();
    let controller = "Device.LocalAgent.Controller.1.";
    bench.set(controller, "USPNotifRetryMinimumWaitInterval", "100");
    bench.set(controller, "USPNotifRetryIntervalMultiplier", "1000");
    bench.subscribe(
        "ValueChange",
        "Device.X_Test.Label",
        &[("NotifRetry", "true")],
    );
    bench.set("Device.X_Test.", "Label", "x");
    bench.pass(Duration::from_secs(1050));
    assert_eq!(bench.notifications.len(), 11);
}

#[test]
fn r_not_3_an_answer_ends_it_and_the_next_one_starts_again() {
    let mut bench = Bench::new();
    bench.subscribe(
        "ValueChange",
        "Device.X_Test.Label",
        &[("NotifRetry", "true")],
    );
    bench.set("Device.X_Test.", "Label", "x");
    bench.pass(Duration::from_secs(100));
    bench.answer_notifications();
    assert_eq!(bench.engine.pending(), 0);
    bench.notifications.clear();
    bench.pass(Duration::from_secs(10_000));
    assert!(bench.notifications.is_empty());
    bench.set("Device.X_Test.", "Label", "y");
    let first = bench.now.instant;
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.notifications.len(), 2, "within 5 to 10 s");
    assert!(bench.now.instant - first <= Duration::from_secs(10));
}

#[test]
fn an_answer_of_another_controller_ends_nothing() {
    let mut bench = Bench::new();
    bench.subscribe(
        "ValueChange",
        "Device.X_Test.Label",
        &[("NotifRetry", "true")],
    );
    bench.set("Device.X_Test.", "Label", "x");
    bench.notifications[0].to = crate::bench::STRANGER.into();
    bench.answer_notifications();
    assert_eq!(bench.engine.pending(), 1);
}

#[test]
fn notif_expiration_ends_the_retries() {
    let mut bench = Bench::new();
    bench.subscribe(
        "ValueChange",
        "Device.X_Test.Label",
        &[("NotifRetry", "true"), ("NotifExpiration", "30")],
    );
    bench.set("Device.X_Test.", "Label", "x");
    bench.pass(Duration::from_secs(10_000));
    assert!(
        (2..=4).contains(&bench.notifications.len()),
        "{}",
        bench.notifications.len()
    );
    assert_eq!(bench.engine.pending(), 0);
    assert_eq!(bench.engine.stats().notifications_dropped, 1);
}

#[test]
fn deleting_a_subscription_ends_its_retries() {
    let mut bench = Bench::new();
    let path = bench.subscribe(
        "ValueChange",
        "Device.X_Test.Label",
        &[("NotifRetry", "true")],
    );
    bench.set("Device.X_Test.", "Label", "x");
    bench.ask(delete(false, [path]));
    assert_eq!(bench.engine.pending(), 0);
}

#[test]
fn time_to_live_ends_a_subscription() {
    let mut bench = Bench::new();
    bench.subscribe(
        "ValueChange",
        "Device.X_Test.Label",
        &[("TimeToLive", "60")],
    );
    bench.pass(Duration::from_secs(59));
    bench.set("Device.X_Test.", "Label", "x");
    assert_eq!(bench.changes().len(), 1);
    bench.pass(Duration::from_secs(2));
    assert_eq!(
        bench.value("Device.LocalAgent.SubscriptionNumberOfEntries"),
        "1",
        "the factory's alone"
    );
    bench.set("Device.X_Test.", "Label", "y");
    assert!(bench.changes().is_empty());
}

#[test]
fn periodic_events_come_in_the_controllers_interval() {
    let mut bench = Bench::new();
    bench.set(
        "Device.LocalAgent.Controller.1.",
        "PeriodicNotifInterval",
        "10",
    );
    bench.subscribe("Event", "Device.LocalAgent.Periodic!", &[]);
    bench.pass(Duration::from_secs(35));
    let told = bench.told();
    assert_eq!(told.len(), 3);
    let Notification::Event(event) = &told[0] else {
        panic!()
    };
    assert_eq!(
        (event.obj_path.as_str(), event.event_name.as_str()),
        ("Device.LocalAgent.", "Periodic!")
    );
}

#[test]
fn periodic_notif_time_sets_the_phase() {
    let mut bench = Bench::new();
    bench.set(
        "Device.LocalAgent.Controller.1.",
        "PeriodicNotifInterval",
        "3600",
    );
    // The bench starts at 2027-01-15T08:00:00Z.
    bench.set(
        "Device.LocalAgent.Controller.1.",
        "PeriodicNotifTime",
        "2030-01-01T00:10:00Z",
    );
    bench.subscribe("Event", "Device.LocalAgent.Periodic!", &[]);
    bench.pass(Duration::from_secs(2 * 3600));
    let at: Vec<u64> = bench
        .notifications
        .iter()
        .map(|sent| sent.at.as_secs())
        .collect();
    assert_eq!(at, [600, 4200]);
}

#[test]
fn r_not_7_the_deletion_of_a_controller_is_the_last_it_is_told() {
    let mut bench = Bench::new();
    bench.subscribe("ObjectDeletion", "Device.LocalAgent.Controller.", &[]);
    bench.ask(delete(false, ["Device.LocalAgent.Controller.1."]));
    let sent = bench.notifications.remove(0);
    assert_eq!(
        (sent.to.as_str(), sent.notify().subscription_id.as_str()),
        (CONTROLLER, "sub")
    );
    bench.pass(Duration::from_secs(100));
    assert!(bench.notifications.is_empty());
    let left = bench
        .engine
        .device()
        .tree
        .text("Device.LocalAgent.SubscriptionNumberOfEntries");
    assert_eq!(left, Some("0"), "its subscriptions went with it");
}

#[test]
fn a_controller_that_is_disabled_is_told_so_and_then_nothing() {
    let mut bench = Bench::new();
    bench.subscribe(
        "ValueChange",
        "Device.LocalAgent.Controller.1.Enable,Device.X_Test.Counter",
        &[],
    );
    bench.set("Device.LocalAgent.Controller.1.", "Enable", "false");
    assert_eq!(
        bench.changes(),
        [(
            "Device.LocalAgent.Controller.1.Enable".to_owned(),
            "false".to_owned()
        )]
    );
    bench.system.lock().unwrap().counter = 8;
    bench.pass(5 * SECOND);
    assert!(bench.notifications.is_empty());
}

#[test]
fn a_controller_that_cannot_be_reached_is_left_alone_for_a_while() {
    let mut bench = Bench::new();
    bench.subscribe("ValueChange", "Device.X_Test.Label", &[]);
    bench.set("Device.X_Test.", "Label", "1");
    let first = bench.notifications.remove(0);
    bench.delivered(&first, false);
    assert!(bench.notifications.is_empty());
    // It sets from elsewhere, which shows that it is there again.
    bench.set("Device.X_Test.", "Label", "2");
    assert_eq!(bench.notifications.len(), 1);
    let second = bench.notifications.remove(0);
    bench.delivered(&second, false);
    bench.subscribe("ValueChange", "Device.X_Test.Counter", &[("ID", "other")]);
    bench.delivered(&second, false);
    bench.notifications.clear();
    bench.system.lock().unwrap().counter = 1;
    bench.pass(SECOND);
    assert!(bench.notifications.is_empty());
    bench.pass(20 * SECOND);
    bench.system.lock().unwrap().counter = 2;
    bench.pass(SECOND);
    assert_eq!(
        bench.changes(),
        [("Device.X_Test.Counter".to_owned(), "2".to_owned())]
    );
}

#[test]
fn the_number_of_waiting_notifications_is_bounded() {
    let mut settings = settings();
    settings.limits.max_pending = 10;
    let mut bench = Bench::started(
        settings,
        homefleet_agent::store::Store::in_memory().unwrap(),
    );
    bench.answer_notifications();
    bench.subscribe(
        "ValueChange",
        "Device.X_Test.Label",
        &[("NotifRetry", "true")],
    );
    for number in 0..50 {
        bench.set("Device.X_Test.", "Label", &number.to_string());
    }
    assert_eq!(bench.engine.pending(), 10);
    assert_eq!(bench.engine.stats().notifications_dropped, 40);
}

#[test]
fn an_operation_of_another_object_is_not_told() {
    let mut bench = Bench::new();
    bench.subscribe("OperationComplete", "Device.X_Test.Item.", &[]);
    bench.ask(operate(
        "Device.X_Test.Slow()",
        "",
        true,
        Default::default(),
    ));
    let (request, _) = bench.running.pop().unwrap();
    bench
        .engine
        .handle_completed(bench.now, &request, Ok(Default::default()));
    bench.drain();
    assert!(bench.told().is_empty());
}

#[test]
fn r_not_9_an_answer_counts_whatever_its_subscription_id() {
    let mut bench = Bench::new();
    bench.subscribe(
        "ValueChange",
        "Device.X_Test.Label",
        &[("NotifRetry", "true")],
    );
    bench.set("Device.X_Test.", "Label", "x");
    let id = bench.notifications[0].message.id.clone();
    let response = homefleet_usp::proto::msg::NotifyResp {
        subscription_id: "another".into(),
    };
    bench.message(CONTROLLER, &homefleet_usp::Message::response(id, response));
    assert_eq!(bench.engine.pending(), 0);
}

#[test]
fn nothing_is_sent_to_a_controller_without_dtls() {
    let mut bench = Bench::new();
    bench.subscribe("ValueChange", "Device.X_Test.Label", &[]);
    bench.set(
        "Device.LocalAgent.Controller.1.",
        "MTP.1.CoAP.EnableEncryption",
        "false",
    );
    bench.set("Device.X_Test.", "Label", "x");
    assert!(bench.notifications.is_empty());
    assert_eq!(bench.engine.stats().notifications_dropped, 1);
}
