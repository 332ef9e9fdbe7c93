//! What needs no server: usage, help, completions, configuration, an address where nobody listens.

use crate::support::{fresh_dir, run};

#[test]
fn a_command_line_that_makes_no_sense_is_exit_code_2() {
    for args in [
        &["device"][..],
        &["device", "get"],
        &["device", "explode", "x"],
        &["nonsense"],
        &["device", "get", "x", "Device.", "--timeout", "0"],
        &["trust", "explain", "--chain", "a", "--anchors", "b"],
    ] {
        let ran = run(args).code(2);
        assert!(ran.out.is_empty(), "{ran:?}");
        assert!(ran.err.contains("--help"), "{ran:?}");
    }
}

#[test]
fn help_is_exit_code_0_and_has_examples() {
    for args in [
        &["--help"][..],
        &["device", "get", "--help"],
        &["device", "watch", "--help"],
        &["token", "create", "--help"],
        &["trust", "explain", "--help"],
        &["demo", "--help"],
    ] {
        let ran = run(args).code(0);
        assert!(ran.out.contains("Example"), "{args:?}: {}", ran.out);
    }
}

#[test]
fn a_server_that_is_not_there_is_exit_code_5_with_its_address() {
    let ran = run(&["--server", "http://127.0.0.1:9", "device", "list"]).code(5);
    assert!(
        ran.err
            .contains("cannot reach the server at http://127.0.0.1:9"),
        "{ran:?}"
    );
    assert!(ran.err.contains("HOMEFLEET_SERVER"), "{ran:?}");
}

#[test]
fn failures_are_json_on_standard_error_when_asked() {
    let ran = run(&["--json", "--server", "http://127.0.0.1:9", "device", "list"]).code(5);
    let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(error["error"]["kind"], "unreachable");
    assert_eq!(error["error"]["exit_code"], 5);
}

#[test]
fn an_address_that_is_no_server_is_exit_code_2() {
    let ran = run(&["--server", "https://example.com", "device", "list"]).code(2);
    assert!(ran.err.contains("http:// only"), "{ran:?}");
}

#[test]
fn settings_are_checked_before_anything_is_sent() {
    let ran = run(&[
        "--server",
        "http://127.0.0.1:9",
        "device",
        "set",
        "x",
        "Device.Time.Enable",
    ])
    .code(2);
    assert!(ran.err.contains("NAME=VALUE"), "{ran:?}");
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(&["completions", shell]).code(0);
        assert!(ran.out.contains("device"), "{shell}");
    }
}

#[test]
fn the_configuration_template_passes_its_own_check_or_names_the_file_that_is_missing() {
    let dir = fresh_dir("template");
    let file = dir.join("homefleet.toml");
    std::fs::write(&file, run(&["config", "template"]).code(0).out).unwrap();
    let ran = run(&["config", "check", "--config", file.to_str().unwrap()]);
    // The template names certificates that a new installation does not have yet: that, and nothing else, may be said.
    assert!(
        ran.code == 0 || (ran.code == 2 && ran.err.contains(".pem")),
        "{ran:?}"
    );
}

#[test]
fn an_unknown_key_is_refused_with_its_place() {
    let dir = fresh_dir("unknown-key");
    let file = dir.join("homefleet.toml");
    let template = run(&["config", "template"]).code(0).out;
    std::fs::write(&file, format!("colour = \"blue\"\n{template}")).unwrap();
    let ran = run(&["config", "check", "--config", file.to_str().unwrap()]).code(2);
    assert!(
        ran.err.contains("colour") && ran.err.contains(".toml:1:1:"),
        "{ran:?}"
    );
}

#[test]
fn a_configuration_that_does_not_exist_is_exit_code_3() {
    let ran = run(&["serve", "--config", "/nonexistent/homefleet.toml"]).code(3);
    assert!(ran.err.contains("config template"), "{ran:?}");
}
