//! The store, and the order of disk and network.

use homefleet_agent::store::{Batch, Store, StoreError, StoredNotification};
use homefleet_model::tree::{Row, RowKind};

fn row(path: &str, value: &str) -> Row {
    Row {
        kind: RowKind::Value,
        path: path.into(),
        value: value.into(),
    }
}

#[test]
fn a_batch_is_written_as_a_whole_and_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::open(directory.path()).unwrap();
    let notification = StoredNotification {
        msg_id: "1".into(),
        controller: "proto::c".into(),
        subscription: "Device.LocalAgent.Subscription.1.".into(),
        message: vec![1, 2, 3],
        expires: Some(17),
    };
    let batch = Batch {
        tree: Some(vec![row("Device.A", "1"), row("Device.B", "2")]),
        add: vec![notification.clone()],
        facts: vec![("boots".into(), "3".into())],
        ..Batch::default()
    };
    store.write(batch).unwrap();
    store
        .write(Batch {
            tree: Some(vec![row("Device.B", "5")]),
            ..Batch::default()
        })
        .unwrap();
    drop(store);
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(store.tree(), [row("Device.B", "5")]);
    assert_eq!(store.notifications().unwrap(), [notification]);
    assert_eq!(store.fact("boots").unwrap().as_deref(), Some("3"));
    assert_eq!(store.fact("other").unwrap(), None);
}

#[test]
fn writes_are_durable_when_they_return() {
    let directory = tempfile::tempdir().unwrap();
    drop(Store::open(directory.path()).unwrap());
    let db = rusqlite::Connection::open(directory.path().join("agent.db")).unwrap();
    let mode: String = db
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");
}

#[test]
fn a_database_of_a_newer_agent_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let db = rusqlite::Connection::open(directory.path().join("agent.db")).unwrap();
    db.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(db);
    let error = Store::open(directory.path()).unwrap_err();
    assert!(
        matches!(error, StoreError::Newer { found: 99, .. }),
        "{error}"
    );
}

#[test]
fn a_data_directory_that_cannot_be_made_is_named() {
    let error = Store::open(std::path::Path::new("/proc/nowhere")).unwrap_err();
    assert!(error.to_string().contains("/proc/nowhere"), "{error}");
}

#[test]
fn a_change_that_cannot_be_written_is_not_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let mut bench = crate::bench::Bench::started(crate::bench::settings(), store);
    // Another program spoils the file: every further write fails.
    let db = rusqlite::Connection::open(directory.path().join("agent.db")).unwrap();
    db.execute_batch("DROP TABLE tree").unwrap();
    let update = homefleet_usp::message::update_object("Device.X_Test.", [("Label", "x", true)]);
    let (code, _) = bench.ask_error(homefleet_usp::message::set(false, vec![update]));
    assert_eq!(code, 7003);
    assert!(bench.engine.stats().store_failures > 0);
}

#[test]
fn what_could_not_be_written_is_written_later() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let mut bench = crate::bench::Bench::started(crate::bench::settings(), store);
    bench.answer_notifications();
    let lasting = [("Persistent", "true"), ("NotifRetry", "true")];
    bench.subscribe("ValueChange", "Device.X_Test.Counter", &lasting);
    let db = rusqlite::Connection::open(directory.path().join("agent.db")).unwrap();
    let kept = || -> i64 {
        db.query_row("SELECT count(*) FROM notification", [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(kept(), 0);
    db.execute_batch("ALTER TABLE notification RENAME TO elsewhere")
        .unwrap();
    bench.system.lock().unwrap().counter = 5;
    bench.pass(std::time::Duration::from_secs(2));
    assert!(bench.engine.stats().store_failures > 0);
    db.execute_batch("ALTER TABLE elsewhere RENAME TO notification")
        .unwrap();
    bench.pass(std::time::Duration::from_secs(2));
    assert_eq!(kept(), 1);
}

#[test]
fn the_state_is_for_the_agents_own_user_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    drop(Store::open(directory.path()).unwrap());
    let file = std::fs::metadata(directory.path().join("agent.db")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_state_that_others_could_read_is_closed_to_them_when_it_is_opened() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.db");
    drop(Store::open(directory.path()).unwrap());
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&path, open.clone()).unwrap();
    let wal = directory.path().join("agent.db-wal");
    std::fs::write(&wal, b"").unwrap();
    std::fs::set_permissions(&wal, open).unwrap();
    let _store = Store::open(directory.path()).unwrap();
    for file in [path, wal] {
        let mode = std::fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
