//! The embedded store.

use homefleet_api::{SubscriptionState, TaskState};
use homefleet_server::store::sqlite::SqliteStore;
use homefleet_server::store::{
    AuditLog as _, AuditRecord, Batch, DeviceRecord, Devices as _, ParameterRecord,
    Parameters as _, Store as _, StoreError, SubscriptionRecord, Subscriptions as _, Tasks as _,
    Write,
};

use crate::common::{DEVICE, START, get, seconds, task, value};

fn open(directory: &tempfile::TempDir) -> SqliteStore {
    SqliteStore::open(&directory.path().join("store.sqlite")).unwrap()
}

fn parameters(device: &str, values: &[(&str, &str)], complete: &[&str]) -> Write {
    Write::Parameters {
        device: device.to_owned(),
        values: values
            .iter()
            .map(|(path, text)| value(path, text))
            .collect(),
        complete: complete.iter().map(|path| (*path).to_owned()).collect(),
    }
}

async fn paths(store: &SqliteStore, path: &str) -> Vec<String> {
    let found = store.parameters("os::1", path, None, 100).await.unwrap();
    found.into_iter().map(|value| value.path).collect()
}

#[tokio::test]
async fn a_batch_is_applied_completely_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    // The database itself refuses one device.
    rusqlite::Connection::open(directory.path().join("store.sqlite"))
        .unwrap()
        .execute_batch(
            "CREATE TRIGGER refuse BEFORE INSERT ON device WHEN NEW.id = 'os::bad' BEGIN SELECT RAISE(ABORT, 'no'); END",
        )
        .unwrap();
    let device = |id: &str| {
        Write::Device(Box::new(DeviceRecord {
            id: id.to_owned(),
            ..DeviceRecord::default()
        }))
    };
    let good = store.write(Batch(vec![
        device("os::1"),
        parameters("os::1", &[("Device.A", "1")], &[]),
    ]));
    let bad = store.write(Batch(vec![
        parameters("os::1", &[("Device.B", "1")], &[]),
        device("os::bad"),
    ]));
    let after = store.write(Batch::one(device("os::2")));
    good.await.unwrap();
    let refused = bad.await;
    assert!(
        matches!(refused, Err(StoreError::Database(_))),
        "{refused:?}"
    );
    after.await.unwrap();
    assert_eq!(store.devices().await.unwrap().len(), 2);
    assert_eq!(paths(&store, "").await, ["Device.A"]);
}

#[tokio::test]
async fn a_closed_store_takes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    store.close();
    let refused = store
        .write(Batch::one(Write::RemoveDevice("os::1".to_owned())))
        .await;
    assert!(matches!(refused, Err(StoreError::Closed)), "{refused:?}");
}

#[tokio::test]
async fn only_values_that_differ_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let first = store
        .write(Batch::one(parameters(
            "os::1",
            &[("Device.A", "1"), ("Device.B", "2")],
            &[],
        )))
        .await
        .unwrap();
    assert_eq!(first.changed.len(), 2);
    let second = store
        .write(Batch::one(parameters(
            "os::1",
            &[("Device.A", "1"), ("Device.B", "3")],
            &[],
        )))
        .await
        .unwrap();
    assert_eq!(
        second.changed,
        [("os::1".to_owned(), value("Device.B", "3"))]
    );
}

#[tokio::test]
async fn a_value_that_is_told_again_was_seen_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    for (at, text, told) in [(1, "a", 1), (2, "a", 0), (3, "b", 1)] {
        let written = store.write(Batch::one(Write::Parameters {
            device: "os::1".to_owned(),
            values: vec![ParameterRecord {
                seen: seconds(at),
                ..value("Device.A", text)
            }],
            complete: Vec::new(),
        }));
        assert_eq!(written.await.unwrap().changed.len(), told, "{at}");
        let stored = store.parameters("os::1", "", None, 10).await.unwrap();
        assert_eq!(stored[0].seen, seconds(at));
        assert_eq!(stored[0].value, text);
    }
}

#[tokio::test]
async fn values_come_in_path_order_page_by_page() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let values: Vec<(String, String)> = (1..=12)
        .map(|row| {
            (
                format!("Device.IP.Interface.{row}.Name"),
                format!("eth{row}"),
            )
        })
        .collect();
    let values: Vec<(&str, &str)> = values
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    store
        .write(Batch::one(parameters("os::1", &values, &[])))
        .await
        .unwrap();
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store
            .parameters("os::1", "Device.IP.", after.as_deref(), 5)
            .await
            .unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.path.clone());
        found.extend(page.into_iter().map(|value| value.path));
    }
    let expected: Vec<String> = (1..=12)
        .map(|row| format!("Device.IP.Interface.{row}.Name"))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(
        paths(&store, "Device.IP.Interface.1.").await,
        ["Device.IP.Interface.1.Name"]
    );
    assert_eq!(paths(&store, "Device.IP.Interface.*.Name").await.len(), 12);
    assert_eq!(
        paths(&store, "Device.IP.Interface.3.Name").await,
        ["Device.IP.Interface.3.Name"]
    );
    assert!(paths(&store, "Device.IP").await.is_empty());
    assert!(
        store
            .parameters("os::2", "Device.IP.", None, 5)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_complete_reading_removes_what_is_gone_under_it_only() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let before = [
        ("Device.IP.Interface.1.Name", "a"),
        ("Device.IP.Interface.2.Name", "b"),
        ("Device.IPsec.Enable", "true"),
    ];
    store
        .write(Batch::one(parameters("os::1", &before, &[])))
        .await
        .unwrap();
    store
        .write(Batch::one(parameters(
            "os::1",
            &[("Device.IP.Interface.2.Name", "b")],
            &["Device.IP."],
        )))
        .await
        .unwrap();
    assert_eq!(
        paths(&store, "").await,
        ["Device.IP.Interface.2.Name", "Device.IPsec.Enable"]
    );
}

#[tokio::test]
async fn removing_an_object_leaves_its_neighbours() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let values = [
        ("Device.X.1.A", "1"),
        ("Device.X.10.A", "10"),
        ("Device.X.2.A", "2"),
    ];
    store
        .write(Batch::one(parameters("os::1", &values, &[])))
        .await
        .unwrap();
    let gone = Write::RemoveParameters {
        device: "os::1".to_owned(),
        path: "Device.X.1.".to_owned(),
    };
    store.write(Batch::one(gone)).await.unwrap();
    assert_eq!(paths(&store, "").await, ["Device.X.2.A", "Device.X.10.A"]);
}

#[tokio::test]
async fn a_notification_is_stored_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let notification = |text: &str| {
        Batch::one(Write::Notification {
            device: "os::1".to_owned(),
            key: Some([7; 16]),
            time: START,
            values: vec![value("Device.A", text)],
            removed: Vec::new(),
        })
    };
    assert!(!store.write(notification("1")).await.unwrap().duplicate);
    store.close();
    let store = open(&directory);
    let again = store.write(notification("2")).await.unwrap();
    assert!(again.duplicate && again.changed.is_empty(), "{again:?}");
    assert_eq!(
        store
            .parameters("os::1", "Device.A", None, 1)
            .await
            .unwrap()[0]
            .value,
        "1"
    );
}

#[tokio::test]
async fn open_tasks_are_found_in_order_and_old_ones_are_pruned() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let mut done = task("3", "os::1", get("Device.A"));
    done.state = TaskState::Done;
    let mut recent = task("4", "os::1", get("Device.A"));
    (recent.state, recent.updated) = (TaskState::Failed, seconds(100));
    for record in [
        task("2", "os::2", get("Device.A")),
        task("1", "os::1", get("Device.A")),
        done,
        recent,
    ] {
        store
            .write(Batch::one(Write::Task(Box::new(record))))
            .await
            .unwrap();
    }
    let open: Vec<String> = store
        .open_tasks()
        .await
        .unwrap()
        .into_iter()
        .map(|task| task.id)
        .collect();
    assert_eq!(open, ["1", "2"]);
    let ids = |tasks: Vec<homefleet_server::store::TaskRecord>| {
        tasks.into_iter().map(|task| task.id).collect::<Vec<_>>()
    };
    assert_eq!(
        ids(store.tasks(None, None, None, 10).await.unwrap()),
        ["4", "3", "2", "1"]
    );
    assert_eq!(
        ids(store
            .tasks(Some("os::1"), None, Some("4"), 10)
            .await
            .unwrap()),
        ["3", "1"]
    );
    assert_eq!(
        ids(store
            .tasks(None, Some(TaskState::Queued), None, 1)
            .await
            .unwrap()),
        ["2"]
    );
    assert_eq!(
        ids(store
            .tasks(Some("os::1"), Some(TaskState::Done), None, 10)
            .await
            .unwrap()),
        ["3"]
    );
    store
        .write(Batch::one(Write::Prune {
            before: seconds(50),
            seen_before: START,
            audit_before: START,
        }))
        .await
        .unwrap();
    assert_eq!(
        ids(store.tasks(None, None, None, 10).await.unwrap()),
        ["4", "2", "1"]
    );
}

#[tokio::test]
async fn old_entries_of_the_audit_log_are_pruned_and_their_numbers_not_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let entry = |time| {
        Batch::one(Write::Audit(AuditRecord {
            sequence: 0,
            time,
            who: "test".to_owned(),
            action: "device.label".to_owned(),
            subject: DEVICE.to_owned(),
            detail: String::new(),
            allowed: true,
        }))
    };
    let left = || async {
        let entries = store.audit(None, 10).await.unwrap();
        entries
            .into_iter()
            .map(|entry| entry.sequence)
            .collect::<Vec<_>>()
    };
    for time in [START, seconds(10), seconds(20)] {
        store.write(entry(time)).await.unwrap();
    }
    let prune = |audit_before| {
        Batch::one(Write::Prune {
            before: START,
            seen_before: START,
            audit_before,
        })
    };
    store.write(prune(seconds(20))).await.unwrap();
    assert_eq!(left().await, [3]);
    store.write(prune(seconds(60))).await.unwrap();
    store.write(entry(seconds(60))).await.unwrap();
    assert_eq!(left().await, [4]);
}

#[tokio::test]
async fn removing_a_device_removes_what_is_known_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let subscription = SubscriptionRecord {
        device: "os::1".to_owned(),
        id: "homefleet-boot".to_owned(),
        notification: "Event".to_owned(),
        paths: vec!["Device.Boot!".to_owned()],
        state: SubscriptionState::Active,
        instance: None,
        problem: None,
    };
    let device = DeviceRecord {
        id: "os::1".to_owned(),
        ..DeviceRecord::default()
    };
    let batch = Batch(vec![
        Write::Device(Box::new(device)),
        Write::Subscription(subscription.clone()),
        parameters("os::1", &[("Device.A", "1")], &[]),
    ]);
    store.write(batch).await.unwrap();
    assert_eq!(store.subscriptions("os::1").await.unwrap(), [subscription]);
    store
        .write(Batch::one(Write::RemoveDevice("os::1".to_owned())))
        .await
        .unwrap();
    assert!(store.devices().await.unwrap().is_empty());
    assert!(store.subscriptions("os::1").await.unwrap().is_empty());
    assert_eq!(store.parameter_count("os::1").await.unwrap(), 0);
}

#[tokio::test]
async fn the_audit_log_pages_backwards() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    for number in 0..5 {
        let entry = homefleet_server::store::AuditRecord {
            sequence: 0,
            time: seconds(number),
            who: "ci".to_owned(),
            action: "task.create".to_owned(),
            subject: number.to_string(),
            detail: String::new(),
            allowed: true,
        };
        store.write(Batch::one(Write::Audit(entry))).await.unwrap();
    }
    let page = store.audit(None, 2).await.unwrap();
    assert_eq!(
        page.iter()
            .map(|entry| entry.subject.as_str())
            .collect::<Vec<_>>(),
        ["4", "3"]
    );
    let older = store.audit(Some(page[1].sequence), 10).await.unwrap();
    assert_eq!(older.len(), 3);
}

#[test]
fn a_store_of_a_newer_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    drop(SqliteStore::open(&path).unwrap());
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute("UPDATE schema_version SET version = 99", [])
        .unwrap();
    drop(connection);
    let refused = SqliteStore::open(&path);
    assert!(
        matches!(refused, Err(StoreError::Newer { found: 99, .. })),
        "{refused:?}"
    );
}

#[test]
fn the_store_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    drop(SqliteStore::open(&path).unwrap());
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[tokio::test]
async fn a_device_that_makes_paths_up_fills_no_disk() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let many = |from: u32, to: u32| Write::Parameters {
        device: "os::1".to_owned(),
        values: (from..to)
            .map(|row| value(&format!("Device.X.{row}.A"), "1"))
            .collect(),
        complete: Vec::new(),
    };
    assert_eq!(
        store
            .write(Batch::one(many(0, 99_990)))
            .await
            .unwrap()
            .refused,
        0
    );
    assert_eq!(
        store
            .write(Batch::one(many(99_980, 100_020)))
            .await
            .unwrap()
            .refused,
        20
    );
    assert_eq!(store.parameter_count("os::1").await.unwrap(), 100_000);
    let long = format!("Device.{}", "x".repeat(2000));
    let written = store
        .write(Batch::one(parameters("os::2", &[(&long, "1")], &[])))
        .await
        .unwrap();
    assert_eq!((written.refused, written.changed.len()), (1, 0));
}
