//! `homefleet task …`.

use crate::support::{run_in_world, world};

#[test]
fn tasks_are_listed_by_device_and_state() {
    let device = &world().device;
    run_in_world(&["device", "get", device, "Device.DeviceInfo.UpTime"]).code(0);
    let ran = run_in_world(&["task", "list", "--device", device, "--limit", "3"]).code(0);
    assert!(
        ran.out.starts_with("TASK") && ran.out.contains("done"),
        "{}",
        ran.out
    );
    let list = run_in_world(&["--json", "task", "list", "--state", "done", "--limit", "1"])
        .code(0)
        .json();
    assert_eq!(list["tasks"].as_array().unwrap().len(), 1);
    assert_eq!(list["tasks"][0]["state"], "done");
    run_in_world(&["task", "list", "--state", "lost"]).code(2);
}

#[test]
fn a_task_that_does_not_exist_is_exit_code_3() {
    run_in_world(&["task", "show", "01ARZ3NDEKTSV4RRFFQ69G5FAV"]).code(3);
    run_in_world(&["task", "cancel", "01ARZ3NDEKTSV4RRFFQ69G5FAV"]).code(3);
}

#[test]
fn a_task_that_has_ended_cannot_be_cancelled() {
    let ran = run_in_world(&[
        "--json",
        "device",
        "get",
        &world().device,
        "Device.DeviceInfo.UpTime",
    ])
    .code(0);
    let id = ran.json()["id"].as_str().unwrap().to_owned();
    let ran = run_in_world(&["task", "cancel", &id]).code(4);
    assert!(!ran.err.is_empty(), "{ran:?}");
}
