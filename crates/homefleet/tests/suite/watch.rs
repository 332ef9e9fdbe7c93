//! `homefleet device watch`: seen as it happens, and nothing left behind.

use std::io::{BufRead as _, BufReader};
use std::time::{Duration, Instant};

use crate::support::{finish, run_in_world, signal, spawn_in_world, turn, world};

const CODE: &str = "Device.DeviceInfo.ProvisioningCode";

#[test]
fn a_change_is_seen_within_two_seconds_and_the_subscription_is_removed() {
    let _turn = turn();
    let device = &world().device;
    let mut child = spawn_in_world(&["--json", "device", "watch", device, CODE]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(first["type"], "Value");
    let value = format!("watched-{}", std::process::id());
    run_in_world(&["device", "set", device, &format!("{CODE}={value}")]).code(0);
    let set = Instant::now();
    let second: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert!(
        set.elapsed() < Duration::from_secs(2),
        "{:?}",
        set.elapsed()
    );
    assert_eq!(second["type"], "ValueChange");
    assert_eq!(second["path"], CODE);
    assert_eq!(second["value"], value.as_str());
    signal(&child, "INT");
    finish(child).code(0);
    let ids = run_in_world(&[
        "device",
        "get",
        device,
        "Device.LocalAgent.Subscription.*.ID",
        "--values",
    ])
    .code(0);
    assert!(!ids.out.contains("watch-"), "{}", ids.out);
}

#[test]
fn a_path_that_cannot_be_watched_is_refused() {
    let _turn = turn();
    let ran = run_in_world(&[
        "device",
        "watch",
        &world().device,
        "Device.NoSuchThing.X",
        "--for",
        "5",
    ]);
    assert!(ran.code == 4, "{ran:?}");
}
