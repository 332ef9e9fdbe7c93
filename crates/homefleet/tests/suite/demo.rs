//! `homefleet demo`, as a visitor starts it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use homefleet_api::{self as api, Operation, TaskState};
use homefleet_cli::demo::{Home, Mtp};

use crate::support::{command, finish, fresh_dir, run, signal};

/// Starts the demo and reads what it says, as JSON.
fn start(dir: &str) -> (Child, serde_json::Value) {
    let mut child = command(&[
        "--json",
        "demo",
        "--dir",
        dir,
        "--http-port",
        "0",
        "--coap-port",
        "0",
    ])
    .spawn()
    .unwrap();
    let mut text = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        text.push_str(&line);
        if line == "}" {
            break;
        }
    }
    let said = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    (child, said)
}

#[test]
fn once_reads_the_uptime_and_ends() {
    let dir = fresh_dir("demo-once");
    let dir = dir.to_str().unwrap();
    let ran = run(&[
        "--json",
        "demo",
        "--once",
        "--dir",
        dir,
        "--http-port",
        "0",
        "--coap-port",
        "0",
    ])
    .code(0);
    let read = ran.json();
    assert_eq!(read["path"], "Device.DeviceInfo.UpTime");
    assert!(
        read["value"].as_str().unwrap().parse::<u64>().is_ok(),
        "{read}"
    );
}

#[test]
fn the_second_run_finds_the_same_device_and_token_and_each_ends_soon() {
    let dir = fresh_dir("demo-twice");
    let dir = dir.to_str().unwrap();
    let (child, first) = start(dir);
    let begun = Instant::now();
    signal(&child, "INT");
    finish(child).code(0);
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    let (child, second) = start(dir);
    assert_eq!(first["device"], second["device"]);
    assert_eq!(first["token"], second["token"]);
    let begun = Instant::now();
    signal(&child, "TERM");
    finish(child).code(0);
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn keys_and_token_are_readable_by_their_owner_only() {
    let dir = fresh_dir("demo-modes");
    let (child, _) = start(dir.to_str().unwrap());
    for secret in [
        "ca.key",
        "server.key",
        "token",
        "agent.secret",
        "pki.passphrase",
        "agent/agent.db",
    ] {
        let mode = dir.join(secret).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{secret}");
    }
    signal(&child, "INT");
    finish(child).code(0);
}

#[test]
fn the_demos_agent_can_neither_restart_the_machine_nor_change_its_network() {
    let home = Home::open(&fresh_dir("demo-harmless")).unwrap();
    let config = home
        .agent_config(
            "127.0.0.1:5684".parse().unwrap(),
            "127.0.0.1:5685".parse().unwrap(),
            None,
        )
        .unwrap();
    assert_eq!(
        config.device.restart,
        homefleet_agent::config::Restart::Agent
    );
    assert!(!config.device.allow_network_changes);
}

#[test]
fn two_demos_in_one_directory_are_one_too_many() {
    let dir = fresh_dir("demo-two");
    let _first = Home::open(&dir).unwrap();
    let ran = run(&["demo", "--once", "--dir", dir.to_str().unwrap()]).code(1);
    assert!(ran.err.contains("another demo is running"), "{ran:?}");
}

#[test]
fn a_counter_of_this_machine_streams_over_dtls_1_3_and_is_read_back() {
    const FREE: &str = "homefleet-tr181:Device/DeviceInfo/MemoryStatus/Free";
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let home = Home::open(&fresh_dir("demo-telemetry")).unwrap();
    let running = runtime.block_on(home.start(any, any)).unwrap();
    let client = api::client::Client::new(&running.url(), Some(running.token())).unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    let points = loop {
        let points = client
            .series_points(running.device_id(), FREE, None, None, Some(1.0))
            .map_or_else(|_| Vec::new(), |series| series.points);
        if points.len() >= 3 {
            break points;
        }
        assert!(Instant::now() < end, "{:?}", client.telemetry());
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(points.iter().all(|point| point.last > 0.0), "{points:?}");
    let paths: Vec<String> = client
        .series(running.device_id())
        .unwrap()
        .series
        .into_iter()
        .map(|series| series.path)
        .collect();
    let has = |end: &str| paths.iter().any(|path| path.ends_with(end));
    assert!(has("/ProcessStatus/CPUUsage"), "{paths:?}");
    assert!(has("/Stats/BytesReceived"), "{paths:?}");
    // The agent tells the same from its side, over USP.
    let operation = Operation::Get {
        paths: vec!["Device.X_HOMEFLEET_Telemetry.Receiver.1.".to_owned()],
        max_depth: 0,
    };
    let task = runtime.block_on(running.ask(operation, Duration::from_secs(60)));
    let Some(api::TaskResult::Get { paths }) = task.unwrap().result else {
        panic!("no answer")
    };
    let values = paths.iter().flat_map(|path| &path.objects);
    let values: Vec<_> = values.flat_map(|object| &object.params).collect();
    let value = |name: &str| {
        let mut all = values.iter();
        let found = all.find(|(known, _)| known.as_str() == name);
        found.map_or_else(String::new, |(_, value)| (*value).clone())
    };
    assert_eq!(value("Status"), "Up", "{values:?}");
    assert!(value("StatusReason").contains("DTLS 1.3"), "{values:?}");
    assert_eq!(value("MessagesFailed"), "0", "{values:?}");
    runtime.block_on(running.stop());
}

/// One home that changes from one MTP to the next.
#[test]
#[allow(clippy::print_stdout, reason = "a missing peer is told")]
fn over_every_mtp_the_device_connects_and_answers() {
    let dir = fresh_dir("demo-mtps");
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    for (mtp, shown, broker) in [
        (Mtp::Websocket, api::Mtp::Websocket, None),
        (
            Mtp::Stomp,
            api::Mtp::Stomp,
            Some("/usr/lib/rabbitmq/bin/rabbitmq-server"),
        ),
        (Mtp::Coap, api::Mtp::Coap, None),
        (Mtp::Mqtt, api::Mtp::Mqtt, Some("/usr/sbin/mosquitto")),
    ] {
        if let Some(broker) = broker.filter(|broker| !Path::new(broker).exists()) {
            assert!(
                std::env::var_os("CI").is_none(),
                "a peer is missing and CI is set: {broker}"
            );
            println!("SKIPPED, A PEER IS MISSING: {broker}");
            continue;
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let home = Home::open(&dir).unwrap().over(mtp).await.unwrap();
            let running = home.start(any, any).await.unwrap();
            let contact = running.first_contact(Duration::from_secs(60)).await;
            assert!(contact.is_some(), "{mtp:?}");
            let operation = Operation::Get {
                paths: vec!["Device.DeviceInfo.UpTime".to_owned()],
                max_depth: 0,
            };
            let task = running.ask(operation, Duration::from_secs(60)).await;
            assert_eq!(task.unwrap().state, TaskState::Done, "{mtp:?}");
            let list = running.access().mtps().unwrap();
            for status in list.mtps {
                let used = status.records_in > 0 && status.records_out > 0;
                assert_eq!(used, status.mtp == shown, "{mtp:?}: {status:?}");
            }
            running.stop().await;
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_modem_that_speaks_tr_069_stands_beside_the_device_that_speaks_usp() {
    let dir = fresh_dir("demo-modem");
    let any = "127.0.0.1:0".parse().unwrap();
    for _ in 0..2 {
        let home = Home::open(&dir).unwrap();
        let mut running = home.start(any, any).await.unwrap();
        home.start_modem(&mut running).await.unwrap();
        let limit = Duration::from_secs(120);
        assert!(running.modem_contact(limit).await, "the modem is read");
        assert!(running.first_contact(limit).await.is_some());
        let id = running.modem_id();
        let operation = homefleet_api::Operation::Get {
            paths: vec!["InternetGatewayDevice.DeviceInfo.SerialNumber".to_owned()],
            max_depth: 0,
        };
        let new = homefleet_api::NewTask {
            operation,
            expires_in: None,
        };
        let task = running.access().submit(&id, new).await.unwrap();
        let task = running.access().wait_task(&task.id, limit).await.unwrap();
        assert_eq!(task.state, homefleet_api::TaskState::Done, "{task:?}");
        running.stop().await;
    }
}
