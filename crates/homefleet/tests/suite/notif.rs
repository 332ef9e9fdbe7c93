//! `homefleet notif receive`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::UdpSocket;
use std::process::{Child, ChildStderr};

use serde_json::Value;

use crate::support::{Ran, command, finish, run, signal};

/// A datagram of draft -26 with a message in JSON.
fn datagram(message_id: u32, message: &str) -> Vec<u8> {
    let length = u16::try_from(12 + message.len()).unwrap();
    let mut bytes = vec![0x21, 12];
    bytes.extend(length.to_be_bytes());
    bytes.extend(7u32.to_be_bytes());
    bytes.extend(message_id.to_be_bytes());
    bytes.extend(message.as_bytes());
    bytes
}

fn notification(number: u32) -> String {
    format!(
        r#"{{"ietf-notification:notification":{{"eventTime":"2026-11-20T12:00:00Z","x:y":{{"n":{number}}}}}}}"#
    )
}

/// The command, once it listens: where to send to, and the rest of what it says.
fn receive(args: &[&str]) -> (Child, UdpSocket, BufReader<ChildStderr>) {
    let mut all = vec!["notif", "receive", "--plain", "127.0.0.1:0"];
    all.extend(args);
    let mut child = command(&all).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let address = line
        .trim()
        .strip_prefix("listening: udp://")
        .and_then(|rest| rest.strip_suffix(", not protected"))
        .unwrap_or_else(|| panic!("{line}"));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address).unwrap();
    (child, socket, said)
}

fn rest(mut said: BufReader<ChildStderr>) -> String {
    let mut text = String::new();
    said.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn every_message_is_a_line_and_the_end_says_what_became_of_all() {
    let (child, socket, said) = receive(&["--count", "4", "--json"]);
    socket.send(b"????").unwrap();
    // The third comes late, the fourth twice; the sixth is needed to know that the fifth is missing.
    for number in [1, 2, 4, 3, 4, 6] {
        socket
            .send(&datagram(number, &notification(number)))
            .unwrap();
        if number == 6 {
            break;
        }
    }
    let said = rest(said);
    let ran: Ran = finish(child).code(0);
    let lines: Vec<Value> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let ids: Vec<u64> = lines
        .iter()
        .map(|line| line["message_id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids, [1, 2, 4, 3]);
    assert_eq!(lines[0]["event_time"], "2026-11-20T12:00:00.000Z");
    assert_eq!(lines[0]["publisher_id"], 7);
    assert_eq!(
        lines[0]["payload"]["ietf-notification:notification"]["x:y"]["n"],
        1
    );
    let report: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(report["delivered"], 4, "{report}");
    assert_eq!(report["refused"]["too-short"], 1, "{report}");
    assert_eq!(report["lost_in_kernel"], 0, "{report}");
    assert_eq!(report["lost_on_path"], 0, "{report}");
}

#[test]
fn an_interrupt_ends_it_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let output = format!("ndjson={}", directory.path().display());
    let (mut child, socket, said) = receive(&["--output", &output]);
    socket.send(&datagram(1, &notification(1))).unwrap();
    let mut printed = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    printed.read_line(&mut line).unwrap();
    assert!(line.contains("\"message_id\":1"), "{line}");
    signal(&child, "INT");
    let said = rest(said);
    finish(child).code(0);
    assert!(
        said.contains(
            "delivered 1, lost in the kernel 0, lost on the path 0, refused 0, duplicates 0"
        ),
        "{said}"
    );
    assert!(
        said.contains("delivered 1, refused 0, dropped 0, given up 0"),
        "{said}"
    );
    let names: Vec<String> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 1);
    assert!(names[0].ends_with(".ndjson.zst"), "{names:?}");
}

#[test]
fn what_cannot_work_is_told_before_it_listens() {
    run(&["notif", "receive"]).code(2);
    run(&["notif", "series", "os::1", "--step", "5"]).code(2);
    run(&["notif", "receive", "--dtls", "127.0.0.1:0"]).code(2);
    run(&[
        "notif",
        "receive",
        "--plain",
        "127.0.0.1:0",
        "--output",
        "disk=/x",
    ])
    .code(2);
    let missing = [
        "--certificate",
        "/nowhere/a",
        "--key",
        "/nowhere/b",
        "--ca",
        "/nowhere/c",
    ];
    let mut args = vec!["notif", "receive", "--dtls", "127.0.0.1:0"];
    args.extend(missing);
    run(&args).code(3);
}
