//! `homefleet token …`.

use crate::support::{run, run_in_world, world};

#[test]
fn a_token_is_made_used_and_revoked() {
    let ran = run_in_world(&[
        "--json",
        "token",
        "create",
        "--name",
        "reader",
        "--role",
        "viewer",
        "--expires-in",
        "1h",
    ])
    .code(0);
    let made = ran.json();
    let (id, secret) = (
        made["id"].as_str().unwrap(),
        made["secret"].as_str().unwrap(),
    );
    let url = &world().url;
    run(&["--server", url, "--token", secret, "device", "list"]).code(0);
    // A viewer reads and nothing else.
    let set = "Device.DeviceInfo.ProvisioningCode=x";
    run(&[
        "--server",
        url,
        "--token",
        secret,
        "device",
        "set",
        &world().device,
        set,
    ])
    .code(4);
    let listed = run_in_world(&["token", "list"]).code(0);
    assert!(
        listed.out.contains("reader") && !listed.out.contains(secret),
        "{listed:?}"
    );
    run_in_world(&["token", "revoke", id]).code(0);
    run(&["--server", url, "--token", secret, "device", "list"]).code(4);
}

#[test]
fn the_secret_is_the_only_line_on_standard_output() {
    let ran = run_in_world(&["token", "create", "--name", "script"]).code(0);
    assert!(
        ran.out.starts_with("hf_") && ran.out.lines().count() == 1,
        "{ran:?}"
    );
    assert!(ran.err.contains("not shown again"), "{ran:?}");
}

#[test]
fn an_unknown_role_or_time_is_a_usage_error() {
    run_in_world(&["token", "create", "--name", "x", "--role", "king"]).code(2);
    run_in_world(&["token", "create", "--name", "x", "--expires-in", "soon"]).code(2);
}
