//! `homefleet sim cwmp` against the server.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use homefleet_api::{NewTask, NewToken, Operation, ParamSetting, Role, SetObject, Task, TaskState};
use homefleet_cli::demo::pki::Authority;
use homefleet_server::core::{DeviceQuery, ParameterQuery};
use homefleet_server::{Access, Config, RunningServer, Server};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::support::{command, finish, fresh_dir, run, signal};

const LIMIT: Duration = Duration::from_secs(60);

/// A server that takes devices of TR-069.
struct World {
    runtime: Runtime,
    server: Option<RunningServer>,
    access: Access,
    url: String,
    dir: PathBuf,
}

impl World {
    fn start(name: &str) -> Self {
        let dir = fresh_dir(name);
        let runtime = Runtime::new().unwrap();
        let config = configure(&dir);
        let (server, access) = runtime.block_on(async {
            let server = Server::start(config).await.unwrap();
            let new = NewToken {
                name: "test".to_owned(),
                role: Role::Admin,
                expires_in: None,
            };
            let secret = server.create_token(new).await.unwrap().secret;
            let access = server.core().authenticate(&secret).await.unwrap();
            (server, access)
        });
        let url = format!("http://{}/", server.acs_addr().unwrap());
        Self {
            runtime,
            server: Some(server),
            access,
            url,
            dir,
        }
    }

    /// Starts Agents, with certificates of the server's own authority.
    fn agents(&self, scheme: &str, more: &[&str]) -> Child {
        let server = self.server.as_ref().unwrap();
        let url = match scheme {
            "coaps" => format!("coaps://{}/usp", server.coap_addr()),
            _ => server.address(homefleet_api::Mtp::Websocket).unwrap(),
        };
        let authority = self.dir.to_str().unwrap();
        let mut args = vec!["--json", "sim", "usp", "--controller", &url];
        args.extend([
            "--controller-id",
            "proto::sim-test",
            "--authority",
            authority,
        ]);
        args.extend(["--devices", "5", "--ramp", "0.2"]);
        args.extend(more);
        command(&args).spawn().unwrap()
    }

    /// Runs a fleet to its end.
    fn simulate(&self, more: &[&str]) -> Value {
        finish(self.spawn(more)).code(0).json()
    }

    fn spawn(&self, more: &[&str]) -> Child {
        let mut args = vec!["--json", "sim", "cwmp", "--acs", &self.url];
        args.extend(["--ramp", "0.2", "--retry-wait", "1"]);
        args.extend(more);
        command(&args).spawn().unwrap()
    }

    fn devices(&self) -> usize {
        let all = self.access.devices(DeviceQuery::default());
        self.runtime.block_on(all).unwrap().devices.len()
    }

    fn stored(&self, device: &str, path: &str) -> Option<String> {
        let query = ParameterQuery {
            path: Some(path.to_owned()),
            ..ParameterQuery::default()
        };
        let page = self
            .runtime
            .block_on(self.access.parameters(device, query))
            .unwrap();
        page.parameters.first().map(|value| value.value.clone())
    }

    /// Has a task done, which calls the device.
    fn task(&self, device: &str, operation: Operation) -> Task {
        let new = NewTask {
            operation,
            expires_in: None,
        };
        self.runtime.block_on(async {
            let task = self.access.submit(device, new).await.unwrap();
            let task = self.access.wait_task(&task.id, LIMIT).await.unwrap();
            assert!(task.state.is_final(), "{task:?}");
            task
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop());
        }
    }
}

fn configure(dir: &Path) -> Config {
    let authority = Authority::open(dir).unwrap();
    authority
        .endpoint(dir, "server", "proto::sim-test", &["127.0.0.1"])
        .unwrap();
    let file = dir.join("homefleet.toml");
    let text = format!(
        "version = 1\nendpoint_id = \"proto::sim-test\"\ndata_dir = \"{dir}/data\"\n\
         [coap]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n[websocket]\nlisten = \"127.0.0.1:0\"\n\
         [acs]\nlisten = \"127.0.0.1:0\"\nunknown = \"admit\"\ncall_networks = [\"127.0.0.0/8\"]\n\
         [tls]\ncertificate = \"{dir}/server.pem\"\nkey = \"{dir}/server.key\"\nanchors = \"{dir}/ca.pem\"\n",
        dir = dir.display()
    );
    std::fs::write(&file, text).unwrap();
    Config::load(&file).unwrap()
}

fn get(path: &str) -> Operation {
    Operation::Get {
        paths: vec![path.to_owned()],
        max_depth: 0,
    }
}

fn set(path: &str, name: &str, value: &str) -> Operation {
    Operation::Set {
        allow_partial: false,
        objects: vec![SetObject {
            path: path.to_owned(),
            params: vec![ParamSetting {
                name: name.to_owned(),
                value: value.to_owned(),
                required: true,
            }],
        }],
    }
}

/// Faults of names that the device has not; there were no others.
fn lacking(said: &Value) -> u64 {
    let faults = said["faults"].as_object().unwrap();
    assert!(faults.keys().all(|code| code == "9005"), "{said}");
    faults.get("9005").and_then(Value::as_u64).unwrap_or(0)
}

fn attributes(said: &Value) -> u64 {
    let requests = &said["requests"]["SetParameterAttributes"];
    requests.as_u64().unwrap_or(0)
}

fn operate(command: &str, args: &[(&str, &str)]) -> Operation {
    let args = args
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Operation::Operate {
        command: format!("Device.{command}"),
        args: args.collect(),
        command_key: None,
    }
}

#[test]
fn every_device_of_a_fleet_is_registered_and_takes_what_the_server_sets() {
    let world = World::start("sim-fleet");
    let said = world.simulate(&["--devices", "20", "--once", "--parameters", "800"]);
    assert_eq!(said["contacted"], 20, "{said}");
    assert_eq!(said["events"]["0 BOOTSTRAP"], 20, "{said}");
    assert_eq!(said["events"]["1 BOOT"], 20, "{said}");
    assert_eq!(said["sessions"]["failed"], 0, "{said}");
    // The ACS asks every device for notifications of what some have not.
    assert!(lacking(&said) <= attributes(&said), "{said}");
    assert!(
        said["requests"]["SetParameterValues"].as_u64() >= Some(20),
        "{said}"
    );
    assert!(said["parameters"].as_u64() >= Some(800), "{said}");
    assert_eq!(world.devices(), 20);
    let device = "cwmp:00D09E-Sim-SIM00000020";
    let path = "Device.DeviceInfo.SerialNumber";
    assert_eq!(world.stored(device, path).as_deref(), Some("SIM00000020"));
    // The older data model, under other serial numbers.
    let said = world.simulate(&[
        "--devices",
        "2",
        "--once",
        "--model",
        "igd",
        "--first",
        "21",
    ]);
    assert_eq!(said["sessions"]["failed"], 0, "{said}");
    assert_eq!(world.devices(), 22);
}

#[test]
fn an_operator_calls_reads_changes_and_restarts_a_simulated_device() {
    let world = World::start("sim-call");
    let mut sim = world.spawn(&[
        "--devices",
        "3",
        "--progress",
        "1",
        "--restart-takes",
        "0.1",
        "--transfer-takes",
        "0.1",
    ]);
    let mut said = BufReader::new(sim.stderr.take().unwrap()).lines();
    // From then on the server knows how to call them.
    let seen = |line: &String| line.contains(" 3 seen by the server, 0 in a session");
    assert!(said.any(|line| seen(&line.unwrap())));
    std::thread::spawn(move || said.for_each(drop));
    let device = "cwmp:00D09E-Sim-SIM00000002";
    let ssid = "Device.WiFi.SSID.1.SSID";
    let task = world.task(device, get(ssid));
    assert_eq!(task.state, TaskState::Done, "{task:?}");
    assert_eq!(
        world.stored(device, ssid).as_deref(),
        Some("home-SIM00000002")
    );
    let set = set("Device.WiFi.SSID.1.", "SSID", "renamed");
    assert_eq!(world.task(device, set).state, TaskState::Done);
    assert_eq!(world.task(device, get(ssid)).state, TaskState::Done);
    assert_eq!(world.stored(device, ssid).as_deref(), Some("renamed"));
    let task = world.task(device, get("Device.NoSuch."));
    assert_eq!(task.error.unwrap().param_errors[0].code, 9005);
    let download = operate(
        "Download()",
        &[
            ("FileType", "1 Firmware Upgrade Image"),
            ("URL", "http://files.test/1"),
        ],
    );
    let task = world.task(device, download);
    assert_eq!(task.state, TaskState::Done, "{task:?}");
    let task = world.task(device, operate("Reboot()", &[]));
    assert_eq!(task.state, TaskState::Done, "{task:?}");
    // It restarts when its session is over, and says so; then it is called again.
    let restarted = async {
        let said = |events: &[String]| events.iter().any(|event| event == "M Reboot");
        while !(world.access.device(device).await.unwrap().cwmp)
            .is_some_and(|cwmp| said(&cwmp.events))
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let restarted = async { tokio::time::timeout(LIMIT, restarted).await };
    world.runtime.block_on(restarted).unwrap();
    assert_eq!(world.task(device, get(ssid)).state, TaskState::Done);
    signal(&sim, "INT");
    let said = finish(sim).code(0).json();
    assert!(
        said["connection_requests"]["taken"].as_u64() >= Some(1),
        "{said}"
    );
    assert_eq!(said["events"]["7 TRANSFER COMPLETE"], 1, "{said}");
    assert_eq!(said["transfers"]["done"], 1, "{said}");
    assert_eq!(said["restarts"], 1, "{said}");
    let lacking = lacking(&said);
    assert!((1..=1 + attributes(&said)).contains(&lacking), "{said}");
}

#[test]
fn after_a_power_failure_all_are_back_and_how_long_that_took_is_told() {
    let world = World::start("sim-power");
    let said = world.simulate(&[
        "--devices",
        "12",
        "--once",
        "--power-failure",
        "1",
        "--outage",
        "0.1",
        "--boot-spread",
        "0.5",
    ]);
    assert_eq!(said["outages"], 12, "{said}");
    assert_eq!(said["back_ms"]["count"], 12, "{said}");
    assert_eq!(
        said["events"]["0 BOOTSTRAP"], 12,
        "only the first time: {said}"
    );
    assert!(said["events"]["1 BOOT"].as_u64() >= Some(13), "{said}");
}

#[test]
fn devices_that_refuse_and_break_off_are_as_many_as_asked_for() {
    let world = World::start("sim-faults");
    let said = world.simulate(&["--devices", "10", "--faults", "100", "--once"]);
    let count = |names: &Value| -> u64 {
        let all = names.as_object().unwrap().values();
        all.map(|count| count.as_u64().unwrap()).sum()
    };
    assert!(count(&said["requests"]) > 0, "{said}");
    assert_eq!(count(&said["requests"]), count(&said["faults"]), "{said}");
    assert!(said["faults"]["9002"].as_u64() > Some(0), "{said}");
    let said = world.simulate(&[
        "--devices",
        "10",
        "--first",
        "100",
        "--breaks",
        "60",
        "--once",
    ]);
    assert_eq!(said["contacted"], 10, "{said}");
    let reasons = &said["sessions"]["reasons"];
    assert!(
        reasons["broken off by the device"].as_u64() >= Some(1),
        "{said}"
    );
}

#[test]
fn where_no_acs_is_the_reason_is_told() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", nobody.local_addr().unwrap());
    drop(nobody);
    let args = ["sim", "cwmp", "--acs", &url, "--devices", "2"];
    let ran = run(&[&args[..], &["--ramp", "0", "--duration", "1"]].concat()).code(5);
    assert!(
        ran.err.contains("the connection to the ACS failed"),
        "{ran:?}"
    );
    for (acs, reason) in [
        ("acs.example.net", "http://"),
        ("https://acs.example.net/", "--ca"),
    ] {
        let ran = run(&["sim", "cwmp", "--acs", acs]).code(2);
        assert!(ran.err.contains(reason), "{ran:?}");
    }
    for wrong in [
        ["--oui", "12345G"],
        ["--faults", "101"],
        ["--devices", "0"],
        ["--ramp", "-1"],
        ["--outage", "1"],
    ] {
        let args = ["sim", "cwmp", "--acs", &url];
        run(&[&args[..], &wrong[..]].concat()).code(2);
    }
}

#[test]
fn agents_of_usp_are_onboarded_and_come_back_after_a_power_failure() {
    for scheme in ["coaps", "wss"] {
        let world = World::start(&format!("sim-usp-{scheme}"));
        let more = [
            "--power-failure",
            "2",
            "--outage",
            "0.1",
            "--boot-spread",
            "0.3",
            "--once",
        ];
        let said = finish(world.agents(scheme, &more)).code(0).json();
        assert_eq!(said["onboarded"], 5, "{said}");
        assert_eq!(said["outages"], 5, "{said}");
        assert_eq!(said["back_ms"]["count"], 5, "{said}");
        assert_eq!(said["errors"], 0, "{said}");
        assert_eq!(world.devices(), 5);
    }
}

#[test]
fn an_operator_reads_changes_and_restarts_a_simulated_agent() {
    let world = World::start("sim-usp-operate");
    let sim = world.agents("wss", &["--restart-takes", "0.1"]);
    let end = Instant::now() + LIMIT;
    while world.devices() < 5 {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(20));
    }
    let device = "os::00D09E-SIM00000003";
    let ssid = "Device.WiFi.SSID.1.SSID";
    let task = world.task(device, get("Device.WiFi.SSID.*.SSID"));
    assert_eq!(task.state, TaskState::Done, "{task:?}");
    let stored = world.stored(device, ssid);
    assert_eq!(stored.as_deref(), Some("home-SIM00000003"));
    let task = world.task(device, set("Device.WiFi.SSID.1.", "SSID", "renamed"));
    assert_eq!(task.state, TaskState::Done, "{task:?}");
    let task = world.task(device, get(ssid));
    assert_eq!(task.state, TaskState::Done, "{task:?}");
    assert_eq!(world.stored(device, ssid).as_deref(), Some("renamed"));
    let task = world.task(device, set("Device.WiFi.Radio.1.", "Status", "Down"));
    assert_eq!(task.error.unwrap().usp_code, Some(7200));
    let task = world.task(device, operate("Reboot()", &[]));
    assert_eq!(task.state, TaskState::Done, "{task:?}");
    assert_eq!(world.task(device, get(ssid)).state, TaskState::Done);
    signal(&sim, "INT");
    let said = finish(sim).code(0).json();
    assert_eq!(said["restarts"], 1, "{said}");
    // The server's own subscriptions came before the second task.
    assert!(said["requests"]["Add"].as_u64() >= Some(1), "{said}");
}

#[test]
fn where_no_controller_is_the_reason_is_told() {
    let dir = fresh_dir("sim-usp-nobody");
    let authority = dir.to_str().unwrap();
    let args = |url| {
        let id = "proto::nobody";
        [
            "sim",
            "usp",
            "--controller",
            url,
            "--controller-id",
            id,
            "--authority",
            authority,
        ]
    };
    for wrong in ["http://127.0.0.1/", "wss:///usp", "coaps://", "127.0.0.1"] {
        let ran = run(&args(wrong)).code(2);
        assert!(ran.err.contains("--controller"), "{ran:?}");
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/usp", nobody.local_addr().unwrap());
    drop(nobody);
    let more = ["--devices", "1", "--ramp", "0", "--duration", "1"];
    let ran = run(&[&args(&url)[..], &more].concat()).code(5);
    assert!(ran.err.contains("no device was answered"), "{ran:?}");
}
