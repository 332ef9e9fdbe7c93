//! `homefleet device watch`: seen as it happens, and nothing left behind.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use homefleet_api::{DevicePage, DeviceSummary, Event, Notification, Reachability};

use crate::support::{command, finish, run_in_world, signal, spawn_in_world, turn, world};

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

#[test]
fn a_server_that_is_started_anew_is_found_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let device = DeviceSummary {
        id: "os::00D09E-1".to_owned(),
        label: None,
        oui: None,
        product_class: None,
        serial_number: None,
        manufacturer: None,
        model_name: None,
        software_version: None,
        reachability: Reachability::Reachable,
        mtp: None,
        address: None,
        first_contact: "2026-11-21T12:00:00.000Z".to_owned(),
        last_contact: "2026-11-21T12:00:00.000Z".to_owned(),
        open_tasks: 0,
    };
    let page = DevicePage {
        devices: vec![device.clone()],
        next: None,
    };
    let told = Event::Notification {
        device: device.id,
        time: device.last_contact,
        subscription_id: String::new(),
        notification: Notification::ValueChange {
            path: "Device.A".to_owned(),
            value: "after".to_owned(),
        },
    };
    let json = serde_json::to_string(&page).unwrap();
    let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type:";
    let stream = format!("{head} text/event-stream\r\n\r\n");
    // Each connection in turn: the device; a stream that ends; none at all; the stream that tells.
    let answers = [
        format!("{head} application/json\r\n\r\n{json}"),
        stream.clone(),
        String::new(),
        format!(
            "{stream}data: {}\n\n",
            serde_json::to_string(&told).unwrap()
        ),
    ];
    let served = std::thread::spawn(move || {
        for answer in answers {
            let (mut connection, _) = listener.accept().unwrap();
            assert!(connection.read(&mut [0; 4096]).unwrap() > 0);
            connection.write_all(answer.as_bytes()).unwrap();
        }
    });
    let watch = [
        "--server", &url, "--token", "t", "device", "watch", "00D09E-1", "--count", "1",
    ];
    let ran = finish(command(&watch).spawn().unwrap()).code(0);
    assert!(ran.out.contains("after"), "{ran:?}");
    assert!(ran.err.contains("there again"), "{ran:?}");
    served.join().unwrap();
}
