//! `homefleet device …` on this machine's own agent.

use crate::support::{run, run_in_world, turn, world};

const CODE: &str = "Device.DeviceInfo.ProvisioningCode";

#[test]
fn the_device_is_listed_with_its_state() {
    let device = &world().device;
    let ran = run_in_world(&["device", "list"]).code(0);
    assert!(ran.out.starts_with("DEVICE"), "{}", ran.out);
    assert!(
        ran.out.contains(device.as_str()) && ran.out.contains("reachable"),
        "{}",
        ran.out
    );
    let list = run_in_world(&["--json", "device", "list"]).code(0).json();
    assert_eq!(list["devices"][0]["id"], device.as_str());
    assert_eq!(list["devices"][0]["reachability"], "reachable");
    assert_eq!(list["more"], false);
}

#[test]
fn a_search_without_a_match_lists_nothing_and_is_no_failure() {
    let ran = run_in_world(&["device", "list", "--search", "no such thing"]).code(0);
    assert!(
        ran.out.is_empty() && ran.err.contains("no device"),
        "{ran:?}"
    );
}

#[test]
fn a_device_is_meant_by_its_id_the_beginning_of_it_or_its_serial_number() {
    let device = &world().device;
    let shown = run_in_world(&["--json", "device", "show", device])
        .code(0)
        .json();
    let serial = shown["serial_number"].as_str().unwrap();
    let begins = &device[..device.len() - 3];
    let without_scheme = device.split_once("::").unwrap().1;
    for name in [begins, without_scheme, serial] {
        let same = run_in_world(&["--json", "device", "show", name])
            .code(0)
            .json();
        assert_eq!(same["id"], device.as_str(), "{name}");
    }
    run_in_world(&["device", "show", "os::FFFFFF-nobody"]).code(3);
}

#[test]
fn the_uptime_read_over_dtls_is_this_machines() {
    let path = "Device.DeviceInfo.UpTime";
    let uptime = || {
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        text.split('.').next().unwrap().parse::<u64>().unwrap()
    };
    let before = uptime();
    let ran = run_in_world(&["device", "get", &world().device, path, "--values"]).code(0);
    let after = uptime();
    let value: u64 = ran.out.trim().parse().unwrap();
    assert!(
        (before..=after).contains(&value),
        "{before} <= {value} <= {after}"
    );
}

#[test]
fn a_value_is_printed_with_its_path() {
    let ran = run_in_world(&[
        "device",
        "get",
        &world().device,
        "Device.DeviceInfo.MemoryStatus.",
    ])
    .code(0);
    let paths: Vec<&str> = ran
        .out
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(
        paths.contains(&"Device.DeviceInfo.MemoryStatus.Total"),
        "{ran:?}"
    );
    assert!(
        paths.contains(&"Device.DeviceInfo.MemoryStatus.Free"),
        "{ran:?}"
    );
}

#[test]
fn what_was_set_is_read_back_and_stored() {
    let _turn = turn();
    let device = &world().device;
    let ran = run_in_world(&["device", "set", device, &format!("{CODE}=cli-test")]).code(0);
    assert!(ran.out.contains("cli-test"), "{ran:?}");
    let ran = run_in_world(&["device", "get", device, CODE]).code(0);
    assert_eq!(ran.out.trim(), format!("{CODE}  cli-test"));
    let ran = run_in_world(&["device", "get", device, "--stored", CODE]).code(0);
    assert!(ran.out.starts_with(&format!("{CODE}  cli-test")), "{ran:?}");
}

#[test]
fn a_read_only_parameter_is_refused_with_the_devices_code() {
    let ran = run_in_world(&[
        "device",
        "set",
        &world().device,
        "Device.DeviceInfo.SerialNumber=x",
    ])
    .code(4);
    assert!(ran.err.contains("SerialNumber: 7013"), "{ran:?}");
}

#[test]
fn a_path_the_device_does_not_have_is_refused_with_the_devices_code() {
    let ran = run_in_world(&["device", "get", &world().device, "Device.NoSuchThing."]).code(4);
    assert!(
        ran.err.contains("7026") && ran.err.contains("Device.NoSuchThing."),
        "{ran:?}"
    );
    assert_eq!(
        ran.err.matches("Device.NoSuchThing.").count(),
        1,
        "said once: {ran:?}"
    );
    let ran = run_in_world(&[
        "--json",
        "device",
        "get",
        &world().device,
        "Device.NoSuchThing.",
    ])
    .code(4);
    let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(error["error"]["kind"], "refused");
    assert_eq!(error["error"]["task"]["error"]["usp_code"], 7026);
}

#[test]
fn what_can_be_read_is_printed_although_a_part_is_refused() {
    let args = [
        "device",
        "get",
        &world().device,
        CODE,
        "Device.NoSuchThing.",
    ];
    let ran = run_in_world(&args).code(4);
    assert!(ran.out.starts_with(CODE), "{ran:?}");
    assert!(ran.err.contains("7026"), "{ran:?}");
}

#[test]
fn objects_are_created_listed_and_deleted() {
    let device = &world().device;
    let table = "Device.LocalAgent.Subscription.";
    let args = [
        "device",
        "add",
        device,
        table,
        "ID=cli-add",
        "NotifType=ValueChange",
        &format!("ReferenceList={CODE}"),
    ];
    let ran = run_in_world(&args).code(0);
    let path = ran.out.split_whitespace().next().unwrap().to_owned();
    assert!(path.starts_with(table) && path.ends_with('.'), "{ran:?}");
    let ran = run_in_world(&["device", "instances", device, table]).code(0);
    assert!(ran.out.contains(&path), "{ran:?}");
    let ran = run_in_world(&["device", "delete", device, &path]).code(0);
    assert!(ran.out.contains("deleted"), "{ran:?}");
    let ran = run_in_world(&["device", "instances", device, table]).code(0);
    assert!(!ran.out.contains(&path), "{ran:?}");
}

#[test]
fn the_supported_data_model_names_parameters_and_commands() {
    let ran = run_in_world(&["device", "supported", &world().device, "Device.DeviceInfo."]).code(0);
    let line = ran.out.lines().find(|line| line.starts_with(CODE)).unwrap();
    assert!(line.contains("read_write"), "{line}");
    let ran = run_in_world(&[
        "device",
        "supported",
        &world().device,
        "Device.IP.Diagnostics.",
    ])
    .code(0);
    assert!(
        ran.out.contains("Device.IP.Diagnostics.IPPing()"),
        "{}",
        ran.out
    );
}

#[test]
fn a_ping_of_loopback_tells_its_counts() {
    let mut args = vec![
        "device",
        "operate",
        &world().device,
        "Device.IP.Diagnostics.IPPing()",
    ];
    args.extend([
        "ProtocolVersion=IPv4",
        "Host=127.0.0.1",
        "NumberOfRepetitions=2",
    ]);
    args.extend(["Timeout=1000", "DataBlockSize=64"]);
    let ran = run_in_world(&args).code(0);
    let line = |name: &str| {
        ran.out
            .lines()
            .find(|line| line.trim_start().starts_with(name))
    };
    assert!(
        line("SuccessCount").is_some_and(|line| line.ends_with(" 2")),
        "{ran:?}"
    );
    assert!(line("AverageResponseTime").is_some(), "{ran:?}");
}

#[test]
fn an_argument_that_must_be_given_is_named() {
    let args = [
        "device",
        "operate",
        &world().device,
        "Device.IP.Diagnostics.IPPing",
        "Host=127.0.0.1",
    ];
    let ran = run_in_world(&args).code(4);
    assert!(
        ran.err.contains("7027") && ran.err.contains("ProtocolVersion"),
        "{ran:?}"
    );
}

#[test]
fn no_wait_prints_the_task_and_nothing_else() {
    let ran = run_in_world(&["device", "get", &world().device, CODE, "--no-wait"]).code(0);
    let id = ran.out.trim().to_owned();
    let shown = run_in_world(&["--json", "task", "show", &id, "--wait", "10"])
        .code(0)
        .json();
    assert_eq!(shown["state"], "done");
}

#[test]
fn a_label_is_kept_and_can_be_searched() {
    let _turn = turn();
    let device = &world().device;
    run_in_world(&["device", "label", device, "Hall cupboard"]).code(0);
    let list = run_in_world(&["--json", "device", "list", "--search", "cupboard"])
        .code(0)
        .json();
    assert_eq!(list["devices"][0]["label"], "Hall cupboard");
    run_in_world(&["device", "label", device, ""]).code(0);
    let shown = run_in_world(&["--json", "device", "show", device])
        .code(0)
        .json();
    assert!(shown.get("label").is_none(), "{shown}");
}

#[test]
fn without_a_token_the_server_refuses_and_the_client_says_what_to_do() {
    let ran = run(&["--server", &world().url, "device", "list"]).code(4);
    assert!(ran.err.contains("HOMEFLEET_TOKEN"), "{ran:?}");
    let ran = run(&[
        "--server",
        &world().url,
        "--token",
        "hf_wrong",
        "--json",
        "device",
        "list",
    ])
    .code(4);
    let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(error["error"]["problem"]["code"], "unauthorized");
}
