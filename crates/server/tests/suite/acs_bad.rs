//! Devices that do what they should not: answered as specified, counted, and of no consequence for others.

use homefleet_api::{Event, Operation, TaskResult, TaskState};
use homefleet_cwmp::cpe::Failure;
use homefleet_cwmp::message::{DeviceId, Inform, RequestDownload, TransferComplete};
use homefleet_cwmp::{Envelope, EventCode, FaultCode, Header, Message, Method, Namespace};
use homefleet_server::config::UnknownCpes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::acs::{Acs, acs, get, operate};
use crate::cpe::{End, ID};

/// A connection that speaks HTTP, and nothing of its own.
pub(crate) struct Raw(TcpStream);

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Raw {
    pub(crate) async fn to(acs: &Acs) -> Self {
        let stream = TcpStream::connect(acs.server.acs_addr().unwrap());
        Self(stream.await.unwrap())
    }

    /// A POST with these headers.
    async fn post(&mut self, headers: &str, body: &[u8]) -> Answer {
        let length = body.len();
        self.send(&format!("{headers}Content-Length: {length}\r\n"), body)
            .await
    }

    async fn send(&mut self, headers: &str, body: &[u8]) -> Answer {
        self.ask("POST /acs", headers, body).await
    }

    /// A request with these headers, its own length among them.
    pub(crate) async fn ask(&mut self, what: &str, headers: &str, body: &[u8]) -> Answer {
        let head = format!("{what} HTTP/1.1\r\nHost: acs\r\n{headers}\r\n");
        let whole = [head.as_bytes(), body].concat();
        // One that is not wanted any more is closed while it is written to.
        drop(self.0.write_all(&whole).await);
        let mut bytes = Vec::new();
        loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
                let length = head.lines().find_map(|line| {
                    let length = line.strip_prefix("content-length: ")?;
                    length.parse::<usize>().ok()
                });
                let body = bytes.get(end + 4..).unwrap_or_default();
                let none = what.starts_with("HEAD") || head.contains(" 304 ");
                if none || body.len() >= length.unwrap_or(0) {
                    return Answer {
                        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
                        body: body.to_vec(),
                        head,
                    };
                }
            }
            if !matches!(self.0.read_buf(&mut bytes).await, Ok(1..)) {
                let head = String::from_utf8_lossy(&bytes).into_owned();
                panic!("the connection was closed after {head:?}");
            }
        }
    }
}

impl Answer {
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn cookie(&self) -> String {
        let cookie = self.value("set-cookie").unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    fn message(&self) -> Message {
        Envelope::decode(&self.body, &Default::default())
            .unwrap()
            .message
    }
}

fn inform(serial: &str) -> Vec<u8> {
    let inform = Inform {
        device: DeviceId {
            oui: "00D09E".to_owned(),
            product_class: "IGD".to_owned(),
            serial_number: serial.to_owned(),
            ..DeviceId::default()
        },
        ..Inform::default()
    };
    Envelope::new(Namespace::V1_0, Header::default(), inform).encode()
}

/// An honest device has its session.
async fn others_go_on(acs: &Acs) {
    let mut cpe = acs.cpe();
    assert_eq!(cpe.session(EventCode::Boot).await, End::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_50_mb_is_refused_before_it_is_read() {
    let acs = acs(|_| {}).await;
    let mut raw = Raw::to(&acs).await;
    let answer = raw.post("", &inform("HF-2")).await;
    let cookie = format!("Cookie: {}\r\n", answer.cookie());
    // Not a byte of it has to be sent.
    let told = format!("{cookie}Content-Length: 50000000\r\n");
    let answer = raw.send(&told, b"").await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.value("connection"), Some("close"));
    // Nor does it help not to say how long it is.
    let mut raw = Raw::to(&acs).await;
    let chunk = vec![b' '; 1 << 20];
    let mut body = Vec::new();
    for _ in 0..33 {
        body.extend_from_slice(b"100000\r\n");
        body.extend_from_slice(&chunk);
        body.extend_from_slice(b"\r\n");
    }
    let answer = raw
        .send(&format!("{cookie}Transfer-Encoding: chunked\r\n"), &body)
        .await;
    assert_eq!(answer.status, 413);
    assert_eq!(acs.server.acs().unwrap().counters().too_long, 2);
    // Its session is still there.
    let mut raw = Raw::to(&acs).await;
    assert_ne!(raw.post(&cookie, b"").await.status, 400);
    others_go_on(&acs).await;
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn xml_bombs_are_refused() {
    let acs = acs(|_| {}).await;
    let entities = br#"<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><a>&b;</a>"#;
    let depth = "<a>".repeat(100_000);
    let width = format!("<a>{}</a>", "<b/>".repeat(200_000));
    let attributes = format!("<a {}>", "b='c' ".repeat(150_000));
    for bomb in [
        entities.as_slice(),
        depth.as_bytes(),
        width.as_bytes(),
        attributes.as_bytes(),
    ] {
        let answer = Raw::to(&acs).await.post("", bomb).await;
        assert_eq!(answer.status, 400);
    }
    others_go_on(&acs).await;
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_with_200_000_names_is_taken() {
    let acs = acs(|_| {}).await;
    let mut cpe = acs.cpe();
    cpe.session(EventCode::Bootstrap).await;
    cpe.more_names = 200_000;
    let instances = Operation::GetInstances {
        paths: vec!["Device.WiFi.SSID.".to_owned()],
        first_level_only: true,
    };
    let listed = acs.run(&mut cpe, instances).await;
    let Some(TaskResult::GetInstances { paths }) = listed.result else {
        panic!("{:?}", listed.error)
    };
    assert!(paths[0].instances.len() > 100_000);
    cpe.more_names = 0;
    let read = acs.run(&mut cpe, get("Device.DeviceInfo.UpTime")).await;
    assert_eq!(read.state, TaskState::Done);
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_download_is_answered_and_nothing_follows_from_it() {
    let acs = acs(|_| {}).await;
    let mut cpe = acs.cpe();
    cpe.session(EventCode::Bootstrap).await;
    let asked = cpe.asked.len();
    let wanted = RequestDownload {
        file_type: "1 Firmware Upgrade Image".to_owned(),
        ..RequestDownload::default()
    };
    cpe.machine.queue(wanted.into(), None).unwrap();
    assert_eq!(cpe.run().await, End::Done);
    assert_eq!(cpe.asked.len(), asked);
    others_go_on(&acs).await;
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_without_cookies_is_known_by_its_connection_where_that_is_allowed() {
    for cookieless in [false, true] {
        let acs = acs(|config| {
            config.acs.cookieless = cookieless;
            config.acs.unknown = UnknownCpes::Quarantine;
        })
        .await;
        let (mut one, mut other) = (Raw::to(&acs).await, Raw::to(&acs).await);
        assert_eq!(one.post("", &inform("HF-1")).await.status, 200);
        assert_eq!(other.post("", &inform("HF-2")).await.status, 200);
        let next = one.post("", b"").await.status;
        assert_eq!(next, if cookieless { 204 } else { 400 });
        // Whoever has no session gets none by that.
        assert_eq!(Raw::to(&acs).await.post("", b"").await.status, 400);
        let counted = acs.server.acs().unwrap().counters();
        assert_eq!(counted.cookieless, u64::from(cookieless));
        assert_eq!(counted.without_session, 1 + u64::from(!cookieless));
        // A session goes on by its cookie wherever it comes from.
        others_go_on(&acs).await;
        acs.server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cookies_that_stand_there_twice_do_no_harm_and_those_of_two_sessions_are_refused() {
    let acs = acs(|config| config.acs.unknown = UnknownCpes::Quarantine).await;
    let mut raw = Raw::to(&acs).await;
    let one = raw.post("", &inform("HF-1")).await.cookie();
    let other = raw.post("", &inform("HF-2")).await.cookie();
    let both = format!("Cookie: {one}; {other}\r\n");
    assert_eq!(raw.post(&both, b"").await.status, 400);
    let both = format!("Cookie: {one}\r\nCookie: {other}\r\n");
    assert_eq!(raw.post(&both, b"").await.status, 400);
    assert_eq!(acs.server.acs().unwrap().counters().ambiguous_cookies, 2);
    // The same twice, with one that is over, and others' in between.
    let many = format!(
        "Cookie: a=b; {one}; homefleet-session=0123456789abcdef; {one}\r\nCookie: {one}\r\n"
    );
    assert_eq!(raw.post(&many, b"").await.status, 204);
    let own = format!("Cookie: {other}\r\n");
    assert_eq!(raw.post(&own, b"").await.status, 204);
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_no_room_is_told_when_to_come_again_and_tells_its_events_then() {
    let acs = acs(|config| config.acs.sessions = 1).await;
    let mut raw = Raw::to(&acs).await;
    let first = raw.post("", &inform("HF-9")).await;
    let answer = Raw::to(&acs).await.post("", &inform("HF-2")).await;
    assert_eq!(answer.status, 503);
    let after: u32 = answer.value("retry-after").unwrap().parse().unwrap();
    assert!((30..60).contains(&after), "{after}");
    let mut cpe = acs.cpe();
    let done = TransferComplete {
        command_key: "kept".to_owned(),
        ..TransferComplete::default()
    };
    cpe.machine
        .queue(done.into(), Some(Method::Download))
        .unwrap();
    assert_eq!(cpe.run().await, End::Failed(Failure::Unavailable));
    assert_eq!(acs.server.acs().unwrap().counters().overloaded, 2);
    // What is broken off ends by what is no SOAP.
    let cookie = format!("Cookie: {}\r\n", first.cookie());
    assert_eq!(raw.post(&cookie, b"<").await.status, 400);
    cpe.told.clear();
    assert_eq!(cpe.session(EventCode::Periodic).await, End::Done);
    assert!(cpe.told.contains(&"TransferComplete"), "{:?}", cpe.told);
    let events = acs.access.device(ID).await.unwrap().cwmp.unwrap().events;
    assert!(
        events.iter().any(|event| event == "7 TRANSFER COMPLETE"),
        "{events:?}"
    );
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_hold_their_requests_where_the_operator_wants_it() {
    for hold in [false, true] {
        let acs = acs(|config| config.acs.hold_requests = hold).await;
        let mut cpe = acs.cpe();
        cpe.session(EventCode::Bootstrap).await;
        let task = acs.task(get("Device.DeviceInfo.UpTime")).await;
        let done = TransferComplete::default();
        cpe.machine
            .queue(done.into(), Some(Method::Download))
            .unwrap();
        cpe.told.clear();
        assert_eq!(cpe.run().await, End::Done);
        assert_eq!(acs.ended(&task).await.state, TaskState::Done);
        let at = |name: &str| cpe.told.iter().position(|told| *told == name).unwrap();
        let held = at("TransferComplete") > at("GetParameterValuesResponse");
        assert_eq!(held, hold, "{:?}", cpe.told);
        acs.server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_not_called_where_the_operator_does_not_want_it() {
    for networks in [&[][..], &["192.0.2.0/24"]] {
        let acs = acs(|config| {
            config.acs.call_networks = networks.iter().map(|text| (*text).to_owned()).collect();
        })
        .await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut cpe = acs.cpe();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        cpe.set("Device.ManagementServer.ConnectionRequestURL", &url);
        cpe.session(EventCode::Bootstrap).await;
        let mut events = acs.access.events(None).unwrap();
        let task = acs.task(operate("Device.Reboot()", &[])).await;
        let problem = loop {
            let event = events.next().await.unwrap();
            if let Event::Task { task: now } = &*event
                && now.id == task.id
                && let Some(problem) = &now.last_problem
            {
                break problem.clone();
            }
        };
        assert!(problem.contains("acs.call_networks"), "{problem}");
        let called = std::future::poll_fn(|context| {
            std::task::Poll::Ready(listener.poll_accept(context).is_ready())
        });
        assert!(!called.await, "nobody came");
        // It is done when the device comes by itself.
        assert_eq!(cpe.session(EventCode::Periodic).await, End::Done);
        assert_eq!(acs.ended(&task).await.state, TaskState::Done);
        acs.server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inform_without_a_name_is_refused() {
    let acs = acs(|_| {}).await;
    let answer = Raw::to(&acs).await.post("", &inform("")).await;
    assert!(
        matches!(answer.message(), Message::Fault(fault) if fault.code == FaultCode::ACS_INVALID_ARGUMENTS)
    );
    others_go_on(&acs).await;
    acs.server.stop().await;
}
