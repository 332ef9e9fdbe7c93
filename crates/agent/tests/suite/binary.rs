//! The real program: its commands, its exit codes, and what survives `kill -9`.

use std::{
    io::Write as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use homefleet_usp::proto::msg::{Notify, notify::Notification};

use crate::{
    bench::{AGENT, CONTROLLER},
    pki::{Ca, Controller, install},
};

fn agent(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_homefleet-agent"))
        .args(arguments)
        .output()
        .unwrap()
}

fn run(config: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_homefleet-agent"))
        .args(["run", "--config"])
        .arg(config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn is_boot(notify: &Notify) -> bool {
    matches!(&notify.notification, Some(Notification::Event(event)) if event.event_name == "Boot!")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let mut controller = Controller::start(&ca, &ca, CONTROLLER).await;
    install(directory.path(), &ca, controller.port());
    let config = directory.path().join("agent.toml");
    let mut child = run(&config);
    controller.notified(is_boot).await;
    for round in 0..3 {
        let code = format!("round-{round}");
        controller
            .set("Device.LocalAgent.Controller.1.", "ProvisioningCode", &code)
            .await;
        // SIGKILL, right after the SetResp.
        child.kill().unwrap();
        child.wait().unwrap();
        child = run(&config);
        controller.notified(is_boot).await;
        assert_eq!(
            controller
                .value("Device.LocalAgent.Controller.1.ProvisioningCode")
                .await,
            code
        );
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_stops_in_order() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let mut controller = Controller::start(&ca, &ca, CONTROLLER).await;
    install(directory.path(), &ca, controller.port());
    let mut child = run(&directory.path().join("agent.toml"));
    controller.notified(is_boot).await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = tokio::task::spawn_blocking(move || child.wait())
        .await
        .unwrap()
        .unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn init_writes_a_file_that_check_config_accepts() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    install(directory.path(), &ca, 5684);
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (config, ca, cert, key) = (
        path("sub/new.toml"),
        path("ca.pem"),
        path("agent.pem"),
        path("agent.key"),
    );
    let init = [
        "init",
        "--controller",
        "coaps://127.0.0.1:5684/usp",
        "--controller-id",
        CONTROLLER,
    ];
    let files = [
        "--ca", &ca, "--cert", &cert, "--key", &key, "--config", &config,
    ];
    let all = [&init[..], &files[..], &["--endpoint-id", AGENT]].concat();
    let output = agent(&all);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = agent(&["check-config", "--config", &config]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains("proto::controller at coaps://127.0.0.1/usp"),
        "{}",
        text(&output.stdout)
    );
    let output = agent(&all);
    assert_eq!(
        output.status.code(),
        Some(2),
        "an existing file is not replaced"
    );
    assert!(text(&output.stderr).contains("--force"));
    let output = agent(&[&all[..], &["--force"]].concat());
    assert!(output.status.success());
}

#[test]
fn a_certificate_for_somebody_else_is_refused_before_anything_is_written() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    install(directory.path(), &ca, 5684);
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (config, ca, cert, key) = (
        path("new.toml"),
        path("ca.pem"),
        path("agent.pem"),
        path("agent.key"),
    );
    let arguments = [
        "init",
        "--controller",
        "coaps://c/usp",
        "--controller-id",
        CONTROLLER,
        "--ca",
        &ca,
        "--cert",
        &cert,
        "--key",
        &key,
        "--config",
        &config,
        "--endpoint-id",
        "proto::somebody",
    ];
    let output = agent(&arguments);
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    assert!(
        error.contains("does not contain the Endpoint ID proto::somebody"),
        "{error}"
    );
    assert!(
        error.contains(AGENT) && error.contains("urn:bbf:usp:id:proto::somebody"),
        "{error}"
    );
    assert!(!directory.path().join("new.toml").exists());
}

#[test]
fn check_config_says_what_is_wrong_and_exits_2() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    install(directory.path(), &ca, 5684);
    let config = directory.path().join("agent.toml");
    let name = config.display().to_string();
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&config)
        .unwrap();
    writeln!(file, "colour = \"red\"").unwrap();
    let output = agent(&["check-config", "--config", &name]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("line 15, column 1"),
        "{}",
        text(&output.stderr)
    );
    install(directory.path(), &ca, 5684);
    std::fs::write(
        directory.path().join("agent.key"),
        Ca::new().issue(AGENT).key,
    )
    .unwrap();
    let output = agent(&["check-config", "--config", &name]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("does not belong"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn show_prints_what_a_controller_would_read() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    install(directory.path(), &ca, 5684);
    let config = directory.path().join("agent.toml").display().to_string();
    let output = agent(&[
        "show",
        "Device.LocalAgent.Controller.*.EndpointID",
        "--config",
        &config,
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stdout),
        "Device.LocalAgent.Controller.1.EndpointID  proto::controller\n"
    );
    let output = agent(&[
        "show",
        "Device.LocalAgent.EndpointID",
        "--json",
        "--config",
        &config,
    ]);
    assert_eq!(
        text(&output.stdout),
        "{\"Device.LocalAgent.EndpointID\":\"proto::agent\"}\n"
    );
    let output = agent(&["show", "Device.Nothing", "--config", &config]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        !directory.path().join("state/agent.db").exists(),
        "show leaves no trace"
    );
}

#[test]
fn completions_are_printed() {
    let output = agent(&["completions", "bash"]);
    assert!(output.status.success() && text(&output.stdout).contains("check-config"));
}

#[test]
fn an_environment_variable_that_is_no_key_is_refused() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    install(directory.path(), &ca, 5684);
    let check = |name: &str| {
        Command::new(env!("CARGO_BIN_EXE_homefleet-agent"))
            .args(["check-config", "--config"])
            .arg(directory.path().join("agent.toml"))
            .env(name, "/nowhere")
            .output()
            .unwrap()
    };
    let output = check("HOMEFLEET_AGENT_TRUST_CAA");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("HOMEFLEET_AGENT_TRUST_CAA: there is no such key"));
    let output = check("HOMEFLEET_AGENT_TRUST_CA");
    assert!(
        text(&output.stderr).contains("cannot read /nowhere"),
        "{}",
        text(&output.stderr)
    );
}
