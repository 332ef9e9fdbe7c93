//! The console's pages as a browser asks for them, and as one that means harm would.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{run_in_world, world};

/// Status line, headers and body of an answer.
fn ask(request: &str, headers: &[(&str, &str)], body: &str) -> String {
    let host = world().url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).unwrap();
    let mut text = format!(
        "{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    stream
        .write_all(format!("{text}\r\n{body}").as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn status(answer: &str) -> &str {
    answer.split_whitespace().nth(1).unwrap_or_default()
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(": "))
        .find_map(|(known, value)| known.eq_ignore_ascii_case(name).then_some(value))
}

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

/// A session's cookie, by the form from the console's own page.
fn signed_in() -> String {
    let body = format!("token={}&next=%2Ftasks", world().token);
    let answer = ask(
        "POST /login",
        &[FORM, ("Sec-Fetch-Site", "same-origin")],
        &body,
    );
    assert_eq!(status(&answer), "303", "{answer}");
    assert_eq!(header(&answer, "Location"), Some("/tasks"));
    let cookie = header(&answer, "Set-Cookie").unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

#[test]
fn without_a_session_pages_lead_to_the_login_and_parts_are_refused() {
    for page in [
        "/devices",
        "/devices/os%3A%3A1",
        "/tasks?state=done",
        "/connections",
        "/telemetry",
        "/telemetry/os%3A%3A1?range=1h",
    ] {
        let answer = ask(&format!("GET {page}"), &[], "");
        assert_eq!(status(&answer), "303", "{page}");
        let to = header(&answer, "Location").unwrap();
        assert!(to.starts_with("/login?next=%2F"), "{page}: {to}");
    }
    for part in [
        "/devices?part=table",
        "/tasks?part=table",
        "/connections?part=table",
        "/telemetry?part=table",
        "/telemetry/os%3A%3A1?part=plots",
        "/devices/os%3A%3A1/series",
        "/devices/os%3A%3A1/tasks",
    ] {
        assert_eq!(
            status(&ask(&format!("GET {part}"), &[], "")),
            "401",
            "{part}"
        );
    }
}

#[test]
fn the_page_of_connections_shows_where_devices_come() {
    let cookie = signed_in();
    let headers = [("Cookie", cookie.as_str())];
    for page in ["/connections", "/connections?part=table"] {
        let answer = ask(&format!("GET {page}"), &headers, "");
        assert_eq!(status(&answer), "200", "{answer}");
        assert!(answer.contains("coaps://127.0.0.1:"), "{answer}");
        assert!(answer.contains("Listening"), "{answer}");
    }
    let answer = ask("GET /api/v1/mtps", &headers, "");
    assert!(answer.contains(r#""mtp":"coap""#), "{answer}");
}

#[test]
fn what_a_device_streams_is_on_the_command_line_and_in_the_console() {
    const FREE: &str = "homefleet-tr181:Device/DeviceInfo/MemoryStatus/Free";
    let device = world().device.as_str();
    let end = Instant::now() + Duration::from_secs(120);
    let points = loop {
        let points = run_in_world(&["--json", "notif", "series", device, FREE, "--step", "1"]);
        let json: serde_json::Value = serde_json::from_str(&points.out).unwrap_or_default();
        if json["points"].as_array().is_some_and(|all| all.len() >= 2) {
            break json;
        }
        assert!(Instant::now() < end, "{points:?}");
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(points["path"], FREE);
    let listed = run_in_world(&["notif", "series", device]).code(0);
    assert!(listed.out.contains(FREE), "{listed:?}");
    let publishers = run_in_world(&["notif", "status"]).code(0);
    assert!(publishers.out.contains(device), "{publishers:?}");
    let unknown = run_in_world(&["notif", "series", device, "no/such"]);
    assert_ne!(unknown.code, 0, "{unknown:?}");
    assert!(unknown.err.contains("no/such"), "{unknown:?}");

    let cookie = signed_in();
    let headers = [("Cookie", cookie.as_str())];
    let overview = ask("GET /telemetry", &headers, "");
    assert!(overview.contains(device), "{overview}");
    let page = format!("/telemetry/{}", homefleet_api::client::encode(device));
    let plots = ask(&format!("GET {page}?range=1h"), &headers, "");
    assert_eq!(status(&plots), "200", "{plots}");
    assert!(plots.contains("MemoryStatus/Free"), "{plots}");
    assert!(plots.contains("<svg") && plots.contains("<path"), "{plots}");
    let none = ask(&format!("GET {page}?search=nosuchleaf"), &headers, "");
    assert!(!none.contains("MemoryStatus/Free"), "{none}");
}

#[test]
fn a_login_form_sent_from_another_site_opens_no_session() {
    let body = format!("token={}", world().token);
    for from in [
        ("Sec-Fetch-Site", "cross-site"),
        ("Origin", "http://evil.example"),
    ] {
        let answer = ask("POST /login", &[FORM, from], &body);
        assert_eq!(status(&answer), "401", "{from:?}");
        assert_eq!(header(&answer, "Set-Cookie"), None, "{from:?}");
    }
}

#[test]
fn another_site_cannot_use_the_session() {
    let cookie = signed_in();
    let cross = [
        FORM,
        ("Cookie", cookie.as_str()),
        ("Sec-Fetch-Site", "cross-site"),
    ];
    assert_eq!(status(&ask("POST /logout", &cross, "")), "403");
    let task = r#"{"operation":{"type":"get","paths":["Device."]}}"#;
    let json = [("Content-Type", "application/json"), cross[1], cross[2]];
    let device = homefleet_api::client::encode(&world().device);
    let answer = ask(&format!("POST /api/v1/devices/{device}/tasks"), &json, task);
    assert_eq!(status(&answer), "403", "{answer}");
    // It still stands, and ends when its own page says so.
    let own = [FORM, cross[1], ("Sec-Fetch-Site", "same-origin")];
    assert_eq!(status(&ask("GET /devices", &own, "")), "200");
    assert_eq!(status(&ask("POST /logout", &own, "")), "303");
    assert_eq!(status(&ask("GET /devices", &own, "")), "303");
}

#[test]
fn pages_forbid_scripts_from_elsewhere_and_are_not_stored() {
    let cookie = signed_in();
    let answer = ask("GET /devices", &[("Cookie", &cookie)], "");
    let policy = header(&answer, "Content-Security-Policy").unwrap();
    assert!(
        policy.contains("script-src 'self'") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert_eq!(header(&answer, "Cache-Control"), Some("no-store"));
}

#[test]
fn a_device_or_part_that_does_not_exist_is_a_page_that_says_so() {
    let cookie = signed_in();
    let answer = ask("GET /devices/os%3A%3A0-nobody", &[("Cookie", &cookie)], "");
    assert_eq!(status(&answer), "404");
    assert!(answer.contains("Not here"), "{answer}");
    assert_eq!(status(&ask("GET /static/secret.txt", &[], "")), "404");
}

#[test]
fn what_a_device_says_is_text_on_a_page_and_never_markup() {
    let cookie = signed_in();
    let path = format!(
        "GET /devices?search={}",
        homefleet_api::client::encode("<script>alert(1)</script>")
    );
    let answer = ask(&path, &[("Cookie", &cookie)], "");
    assert!(!answer.contains("<script>alert"), "{answer}");
}

#[test]
fn assets_are_revalidated_by_their_tag() {
    let first = ask("GET /static/console.js", &[], "");
    assert_eq!(status(&first), "200");
    let tag = header(&first, "ETag").unwrap();
    assert_eq!(
        status(&ask(
            "GET /static/console.js",
            &[("If-None-Match", tag)],
            ""
        )),
        "304"
    );
}
