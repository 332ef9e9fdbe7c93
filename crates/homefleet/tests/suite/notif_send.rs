//! `homefleet notif send`: plain, over DTLS, from lines and made up; what it says of it, and what it refuses.

use std::io::Write as _;
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use homefleet_cli::demo::pki::Authority;
use homefleet_net::dtls::{Credentials, TrustVerifier};
use homefleet_net::notif::{Received, Receiver, ReceiverConfig, Security};
use homefleet_notif::{Generation, MediaType, Message, Profile};
use homefleet_trust::{Policy, Time, anchors_from_pem};

use crate::support::{command, finish, fresh_dir, run};

const LIMIT: Duration = Duration::from_secs(60);

/// A socket, and its address as an argument.
fn socket() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let to = socket.local_addr().unwrap().to_string();
    (socket, to)
}

fn take(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let len = socket.recv(&mut buffer).unwrap();
    buffer.truncate(len);
    buffer
}

#[test]
fn lines_of_standard_input_and_of_a_file_are_messages() {
    let (socket, to) = socket();
    let mut child = command(&[
        "--json",
        "notif",
        "send",
        "--to",
        &to,
        "--publisher-id",
        "7",
    ])
    .stdin(Stdio::piped())
    .spawn()
    .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"{\"a\":1}\n\n{\"b\":2}\r\n")
        .unwrap();
    let ran = finish(child).code(0);
    for payload in [b"{\"a\":1}", b"{\"b\":2}"] {
        let datagram = take(&socket);
        let message = Message::decode(&datagram, Profile::Draft26).unwrap();
        assert_eq!(message.payload, payload);
        assert_eq!(message.header.publisher_id, 7);
    }
    let said = ran.json();
    assert_eq!(
        (&said["sent"], &said["bytes"]),
        (&2.into(), &14.into()),
        "{said}"
    );
    let file = fresh_dir("notif-send").join("messages");
    std::fs::write(&file, "<a/>\n").unwrap();
    let file = file.to_str().unwrap();
    run(&[
        "notif",
        "send",
        "--to",
        &to,
        "--media-type",
        "xml",
        "--generation",
        "draft-03",
        file,
    ])
    .code(0);
    let datagram = take(&socket);
    let message = Message::decode(&datagram, Profile::Draft26).unwrap();
    assert_eq!(message.header.generation, Generation::Draft03);
    assert_eq!(message.header.media_type, MediaType::Xml);
    assert_eq!(message.payload, b"<a/>");
}

#[test]
fn load_is_made_up_in_the_size_and_number_asked_for() {
    let (socket, to) = socket();
    let ran = run(&[
        "notif", "send", "--to", &to, "--repeat", "20", "--size", "300", "--rate", "1000",
    ])
    .code(0);
    assert!(
        ran.out
            .starts_with("20 messages sent, 6000 bytes, in 20 datagrams"),
        "{ran:?}"
    );
    for _ in 0..20 {
        let datagram = take(&socket);
        let message = Message::decode(&datagram, Profile::Draft26).unwrap();
        assert_eq!(message.payload.len(), 300);
        let json: serde_json::Value = serde_json::from_slice(message.payload).unwrap();
        assert!(json["ietf-yp-notification:envelope"].is_object());
    }
}

/// A certificate for either side, and a receiver with DTLS on loopback.
struct Secure {
    receiver: Receiver,
    channel: tokio::sync::mpsc::Receiver<Vec<Received>>,
    to: String,
    files: Vec<String>,
}

impl Secure {
    fn start(name: &str) -> Self {
        let dir = fresh_dir(name);
        let authority = Authority::open(&dir).unwrap();
        let server = authority
            .endpoint(&dir, "server", "proto::receiver", &["127.0.0.1"])
            .unwrap();
        let client = authority
            .endpoint(&dir, "client", "os::publisher", &[])
            .unwrap();
        let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
        let anchors = anchors_from_pem(&read(&authority.certificate)).unwrap();
        let verifier = TrustVerifier::new(anchors, Policy::default(), || {
            Time::Accurate(SystemTime::now())
        });
        let credentials =
            Credentials::from_pem(&read(&server.certificate), &read(&server.key)).unwrap();
        let (receiver, channel) = Receiver::bind(ReceiverConfig {
            secure: Some(Security {
                listen: vec!["127.0.0.1:0".parse().unwrap()],
                credentials,
                verifier: Arc::new(verifier),
                dtls: Security::dtls(),
            }),
            ..ReceiverConfig::default()
        })
        .unwrap();
        let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
        Self {
            to: receiver.secure_addrs()[0].to_string(),
            receiver,
            channel,
            files: vec![
                "--certificate".to_owned(),
                text(&client.certificate),
                "--key".to_owned(),
                text(&client.key),
                "--ca".to_owned(),
                text(&authority.certificate),
            ],
        }
    }

    fn args<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let mut args = vec!["--json", "notif", "send", "--to", &self.to];
        args.extend(self.files.iter().map(String::as_str));
        args.extend(more);
        args
    }
}

#[test]
fn over_dtls_1_3_a_load_in_segments_arrives_whole() {
    let mut secure = Secure::start("notif-dtls");
    let more = [
        "--repeat",
        "50",
        "--size",
        "5000",
        "--max-segment-size",
        "1400",
        "--rate",
        "2000",
    ];
    let said = run(&secure.args(&more)).code(0).json();
    assert_eq!(said["sent"], 50, "{said}");
    assert_eq!(said["segments"], 200, "{said}");
    assert!(
        said["session"].as_str().unwrap().starts_with("DTLS 1.3"),
        "{said}"
    );
    let end = Instant::now() + LIMIT;
    let mut count = 0;
    while count < 50 {
        match secure.channel.try_recv() {
            Ok(batch) => {
                assert!(batch.iter().all(|received| received.message.len() == 5000));
                count += batch.len();
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
        assert!(Instant::now() < end, "{:?}", secure.receiver.stats());
    }
    assert_eq!(secure.receiver.stats().collector.totals.lost, 0);
    // It was told that this was all (-26 §6.1.3).
    while secure.receiver.stats().dtls.closed_by_peer == 0 {
        assert!(Instant::now() < end, "{:?}", secure.receiver.stats());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_cannot_be_done_has_its_reason_and_exit_code() {
    let (_socket, to) = socket();
    for (args, code, reason) in [
        (vec!["--to", "nowhere"], 2, "a host and a port"),
        (vec!["--to", &to, "--media-type", "avro"], 2, "private:15"),
        (
            vec!["--to", &to, "--private-encoding", "avro"],
            2,
            "private encoding",
        ),
        (vec!["--to", &to, "--size", "100"], 2, "--repeat"),
        (vec!["--to", &to, "--certificate", "x"], 2, "--key"),
        (
            vec!["--to", &to, "--generation", "pub-channel"],
            2,
            "pub-channel",
        ),
        (vec!["--to", &to, "--max-segment-size", "10"], 2, "10"),
        (
            vec!["--to", &to, "/nowhere/messages"],
            3,
            "/nowhere/messages",
        ),
        (
            vec![
                "--to",
                &to,
                "--certificate",
                "/nowhere/c",
                "--key",
                "/nowhere/k",
                "--ca",
                "/nowhere/a",
            ],
            3,
            "/nowhere",
        ),
    ] {
        let mut all = vec!["notif", "send"];
        all.extend(&args);
        let ran = run(&all).code(code);
        assert!(ran.err.contains(reason), "{args:?}: {ran:?}");
    }
    // Nobody shakes hands there.
    let mut secure = Secure::start("notif-away");
    secure.to = to;
    let ran = run(&secure.args(&["--repeat", "1", "--wait", "1"])).code(5);
    assert!(ran.err.contains("handshake"), "{ran:?}");
}

#[test]
fn a_message_that_does_not_fit_without_segmentation_is_refused() {
    let (_socket, to) = socket();
    let ran = run(&[
        "--json",
        "notif",
        "send",
        "--to",
        &to,
        "--repeat",
        "1",
        "--size",
        "70000",
        "--no-segmentation",
    ])
    .code(1);
    assert!(ran.err.contains("70000 bytes"), "{ran:?}");
}

/// A network namespace of its own, whose loopback takes packets of 1400 bytes.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        let name = format!("hf-notif-{}", std::process::id());
        let namespace = Self(name.clone());
        let ip = |args: &[&str]| assert!(Command::new("ip").args(args).status().unwrap().success());
        ip(&["netns", "add", &name]);
        ip(&["-n", &name, "link", "set", "lo", "mtu", "1400", "up"]);
        namespace
    }

    fn run(&self, program: &str, args: &[&str]) -> String {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.0, program])
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A counter of the kernel's.
    fn counter(&self, name: &str) -> u64 {
        let text = self.run("cat", &["/proc/net/snmp"]);
        let mut lines = text.lines().filter(|line| line.starts_with("Ip: "));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let at = names.split(' ').position(|known| known == name).unwrap();
        values.split(' ').nth(at).unwrap().parse().unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing is left to tell whoever ends here.
        let _gone = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

#[test]
#[allow(clippy::print_stdout, reason = "a missing right is told")]
fn a_message_longer_than_the_path_takes_leaves_in_segments_and_no_packet_is_fragmented() {
    let may = Command::new("id").arg("-u").output().unwrap();
    if String::from_utf8(may.stdout).unwrap().trim() != "0" {
        println!("SKIPPED: network namespaces need root");
        return;
    }
    let namespace = Namespace::new();
    let program = env!("CARGO_BIN_EXE_homefleet");
    let args = [
        "--json",
        "notif",
        "send",
        "--to",
        "127.0.0.1:9",
        "--repeat",
        "3",
        "--size",
        "5000",
    ];
    let said: serde_json::Value = serde_json::from_str(&namespace.run(program, &args)).unwrap();
    // 1400 less IP and UDP; 5000 bytes at 1356 a segment.
    assert_eq!(said["room"], 1372, "{said}");
    assert_eq!(
        (&said["sent"], &said["segments"]),
        (&3.into(), &12.into()),
        "{said}"
    );
    assert_eq!(namespace.counter("FragCreates"), 0);
    // Segments that leave in one call count once.
    assert!(namespace.counter("OutRequests") >= 3);
}
