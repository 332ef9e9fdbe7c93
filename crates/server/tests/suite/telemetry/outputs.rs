//! Outputs with their real peers: delivered, refused, dropped, given up, and that nothing is in two of these or in none.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use homefleet_server::config::{NotifOutput, OutputKind};
use homefleet_server::telemetry::envelope::Encoding;
use homefleet_server::telemetry::message::Message;
use homefleet_server::telemetry::output::{Health, Output, OutputStatus};
use serde_json::Value;
use tokio::sync::watch;

use super::peers::{HTTP, KAFKA, PATIENCE, Peer, free_port, has, has_nats, nats, run_python};
use crate::common::START;

const DEVICE: &str = "os::00D09E-1";

/// The message of this number.
fn message(number: u32) -> Arc<Message> {
    let text = format!(
        r#"{{"ietf-yp-notification:envelope":{{"event-time":"2026-11-20T12:00:00Z","hostname":"gate","sequence-number":{number},
           "contents":{{"ietf-yang-push:push-update":{{"id":7,"datastore-contents":{{"a:b":{{"c":{number}}}}}}}}}}}}}"#
    );
    of(number, Some(DEVICE), Encoding::Json, text.as_bytes())
}

fn of(number: u32, device: Option<&str>, encoding: Encoding, payload: &[u8]) -> Arc<Message> {
    Arc::new(Message::new(
        START,
        device.map(str::to_owned),
        "192.0.2.1:4000".parse().unwrap(),
        9,
        number,
        encoding.as_str(),
        Some(encoding),
        Bytes::copy_from_slice(payload),
    ))
}

/// An output under test.
struct Running {
    output: Output,
    stop: watch::Sender<bool>,
}

impl Running {
    fn start(config: &NotifOutput) -> Self {
        let (stop, stopped) = watch::channel(false);
        Self {
            output: Output::start(config, stopped).unwrap(),
            stop,
        }
    }

    fn offer(&self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            self.output.offer(&message(number));
        }
    }

    /// Waits until something is true of its status.
    async fn until(&self, what: impl Fn(&OutputStatus) -> bool) -> OutputStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.output.status();
            balanced(&status);
            if what(&status) {
                return status;
            }
            assert!(Instant::now() < until, "{status:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self) -> OutputStatus {
        self.stop.send_replace(true);
        let until = tokio::time::Instant::now() + PATIENCE;
        self.output.ended(until).await;
        let status = self.output.status();
        balanced(&status);
        assert_eq!(status.waiting, 0);
        status
    }
}

/// Everything offered is in exactly one place.
fn balanced(status: &OutputStatus) {
    let places =
        status.delivered + status.refused + status.dropped + status.abandoned + status.waiting;
    assert_eq!(status.offered, places, "{status:?}");
}

fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().path().display().to_string())
        .collect();
    names.sort();
    names
}

fn decompressed(path: &str) -> String {
    let file = std::fs::File::open(path).unwrap();
    String::from_utf8(zstd::decode_all(file).unwrap()).unwrap()
}

fn to_files(kind: OutputKind, directory: &Path) -> NotifOutput {
    let mut config = NotifOutput::new("archive", kind);
    config.directory = Some(directory.to_owned());
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_are_whole_in_order_and_read_by_duckdb() {
    let directory = tempfile::tempdir().unwrap();
    let output = Running::start(&to_files(OutputKind::Ndjson, directory.path()));
    output.offer(0..500);
    output.output.offer(&of(500, None, Encoding::Cbor, b"\xff"));
    let status = output.end().await;
    assert_eq!((status.delivered, status.health), (501, Health::Up));
    let names = files(directory.path());
    assert_eq!(names.len(), 1);
    assert!(names[0].ends_with(".ndjson.zst"), "{names:?}");
    let text = decompressed(&names[0]);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 501);
    for (number, line) in lines.iter().take(500).enumerate() {
        assert_eq!(line["message_id"], number);
        assert_eq!(line["sequence_number"], number);
        assert_eq!(line["device"], DEVICE);
    }
    assert_eq!(lines[500]["payload_base64"], "/w==");
    if has("duckdb") {
        let told = run_python(
            "import duckdb, sys\nprint(duckdb.sql(f\"select count(*), sum(message_id), min(hostname) from read_json_auto('{sys.argv[1]}', format='newline_delimited')\").fetchall()[0])",
            &[&names[0]],
        );
        assert_eq!(told.trim(), "(501, 125250, 'gate')");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_ended_at_their_size_and_the_oldest_go() {
    let directory = tempfile::tempdir().unwrap();
    // Another output's file, whose name begins with ours, and one that is nobody's.
    for other in [
        "archive-b-20261120T120000000Z.ndjson.zst",
        "archive-notes.txt",
    ] {
        std::fs::write(directory.path().join(other), b"kept").unwrap();
    }
    let mut config = to_files(OutputKind::Ndjson, directory.path());
    (config.max_size, config.keep_files) = (1, 3);
    let output = Running::start(&config);
    for round in 0..8 {
        output.offer(round..round + 1);
        output
            .until(|status| status.delivered == u64::from(round) + 1)
            .await;
        // What was written is seen by the file's size once it is flushed: the next round, or the tick.
    }
    let status = output.end().await;
    assert_eq!(status.delivered, 8);
    let names = files(directory.path());
    let ours: Vec<&String> = names
        .iter()
        .filter(|name| name.contains("archive-2"))
        .collect();
    assert!(ours.len() <= 3, "{names:?}");
    assert_eq!(names.len() - ours.len(), 2);
    let last = decompressed(ours.last().unwrap());
    assert!(last.contains("\"message_id\":7"), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_a_crash_left_has_its_name_after_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.write_all(b"{\"a\":1}\n").unwrap();
    encoder.flush().unwrap();
    let part = directory
        .path()
        .join("archive-20261120T120000000Z.ndjson.zst.part");
    std::fs::write(part, encoder.get_ref()).unwrap();
    let output = Running::start(&to_files(OutputKind::Ndjson, directory.path()));
    output.end().await;
    let names = files(directory.path());
    assert_eq!(names.len(), 1);
    assert!(names[0].ends_with("000Z.ndjson.zst"), "{names:?}");
    // Cut off, but readable up to there.
    let mut text = Vec::new();
    let file = std::fs::File::open(&names[0]).unwrap();
    let mut decoder = zstd::stream::read::Decoder::new(file).unwrap();
    decoder.read_to_end(&mut text).unwrap_err();
    assert_eq!(text, b"{\"a\":1}\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_written_fails_and_what_waits_is_delivered_when_it_can() {
    let directory = tempfile::tempdir().unwrap();
    let inside = directory.path().join("inside");
    let output = Running::start(&to_files(OutputKind::Ndjson, &inside));
    std::fs::remove_dir(&inside).unwrap();
    output.offer(0..5);
    let status = output
        .until(|status| status.health == Health::Failing)
        .await;
    assert!(status.problem.is_some() && status.waiting == 5);
    std::fs::create_dir(&inside).unwrap();
    output.until(|status| status.delivered == 5).await;
    output.end().await;
    assert_eq!(decompressed(&files(&inside)[0]).lines().count(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_files_are_read_by_duckdb() {
    let directory = tempfile::tempdir().unwrap();
    let output = Running::start(&to_files(OutputKind::Parquet, directory.path()));
    output.offer(0..1500);
    output
        .output
        .offer(&of(1500, None, Encoding::Cbor, b"\xff\x00"));
    output.until(|status| status.delivered == 1501).await;
    // Nobody takes a file for complete that is not.
    assert!(files(directory.path())[0].ends_with(".parquet.part"));
    output.end().await;
    let names = files(directory.path());
    assert_eq!(names.len(), 1);
    assert!(names[0].ends_with(".parquet"), "{names:?}");
    if has("duckdb") {
        let told = run_python(
            "import duckdb, sys\nprint(duckdb.sql(f\"select count(*), count(device), sum(message_id), max(sequence_number), min(hostname), \
             epoch_ms(min(event_time)), epoch_ms(max(time)), min(subscription_id), hex(max(payload)) from read_parquet('{sys.argv[1]}')\").fetchall()[0])",
            &[&names[0]],
        );
        let time = START.0;
        assert_eq!(
            told.trim(),
            format!("(1501, 1500, 1125750, 1499, 'gate', 1795176000000, {time}, '7', 'FF00')")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_files_are_ended_at_their_age() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = to_files(OutputKind::Parquet, directory.path());
    config.max_age = 1;
    let output = Running::start(&config);
    output.offer(0..3);
    output
        .until(|_| {
            let names = files(directory.path());
            !names.is_empty() && names.iter().all(|name| name.ends_with(".parquet"))
        })
        .await;
    output.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_has_every_message_and_those_of_a_device_in_order() {
    if !has("confluent_kafka") {
        return;
    }
    let mut cluster = Peer::python(KAFKA, &["telemetry"]);
    let mut config = NotifOutput::new("kafka", OutputKind::Kafka);
    config.servers = vec![cluster.line()];
    config.topic = Some("telemetry".to_owned());
    let output = Running::start(&config);
    output.offer(0..2000);
    output
        .output
        .offer(&of(2000, None, Encoding::Json, b"{\"a\":1}"));
    let status = output.until(|status| status.delivered == 2001).await;
    assert_eq!(status.health, Health::Up);
    cluster.tell("2001");
    let records: Vec<Value> = (0..2001)
        .map(|_| serde_json::from_str(&cluster.line()).unwrap())
        .collect();
    let of_device: Vec<&Value> = records
        .iter()
        .filter(|record| record["key"] == DEVICE)
        .collect();
    assert_eq!(of_device.len(), 2000);
    for (number, record) in of_device.iter().enumerate() {
        assert_eq!(record["value"]["message_id"], number);
        assert_eq!(record["partition"], of_device[0]["partition"]);
    }
    assert!(records.iter().any(|record| record["key"] == "192.0.2.1"));
    output.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_that_is_away_fails_and_its_full_queue_drops_what_comes() {
    let mut config = NotifOutput::new("kafka", OutputKind::Kafka);
    config.servers = vec![format!("127.0.0.1:{}", free_port())];
    config.topic = Some("telemetry".to_owned());
    config.queue = 10;
    let output = Running::start(&config);
    output.offer(0..25);
    let status = output
        .until(|status| status.health == Health::Failing)
        .await;
    assert_eq!((status.waiting, status.dropped), (10, 15));
    let status = output.end().await;
    assert_eq!((status.abandoned, status.delivered), (10, 0));
}

/// A subscriber at the NATS server, speaking its protocol by hand.
struct Subscriber(std::io::BufReader<TcpStream>);

impl Subscriber {
    fn new(port: u16, token: &str, subject: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let hello = format!(
            "CONNECT {{\"verbose\":false,\"auth_token\":\"{token}\"}}\r\nSUB {subject} 1\r\nPING\r\n"
        );
        stream.write_all(hello.as_bytes()).unwrap();
        let mut subscriber = Self(std::io::BufReader::new(stream));
        while subscriber.line() != "PONG" {}
        subscriber
    }

    fn line(&mut self) -> String {
        use std::io::BufRead as _;
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the server closed");
        line.trim_end().to_owned()
    }

    /// Subject and record of the next message.
    fn next(&mut self) -> (String, Value) {
        loop {
            let line = self.line();
            let parts: Vec<&str> = line.split(' ').collect();
            if parts[0] == "MSG" {
                let record = self.line();
                assert_eq!(record.len().to_string(), parts[3]);
                return (parts[1].to_owned(), serde_json::from_str(&record).unwrap());
            }
        }
    }
}

fn to_nats(port: u16, directory: &Path) -> NotifOutput {
    let token = directory.join("token");
    std::fs::write(&token, "s3cret\n").unwrap();
    let mut config = NotifOutput::new("nats", OutputKind::Nats);
    config.servers = vec![format!("127.0.0.1:{port}")];
    config.topic = Some("fleet.{device}.up".to_owned());
    config.token_file = Some(token);
    config.retry_max = 1;
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_that_goes_away_and_comes_back_gets_what_waited() {
    if !has_nats() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = to_nats(port, directory.path());
    let output = Running::start(&config);
    // Not there yet.
    output.offer(0..10);
    output
        .until(|status| status.health == Health::Failing)
        .await;
    let server = nats(port, "s3cret");
    let mut subscriber = Subscriber::new(port, "s3cret", "fleet.*.up");
    output.until(|status| status.delivered > 0).await;
    output.offer(10..20);
    output.until(|status| status.delivered == 20).await;
    let mut seen = std::collections::BTreeSet::new();
    // Those sent before the subscriber was there are not its business.
    while !seen.contains(&19) {
        let (subject, record) = subscriber.next();
        assert_eq!(subject, "fleet.os__00D09E-1.up");
        seen.insert(record["message_id"].as_u64().unwrap());
    }
    // Away, and back.
    drop((server, subscriber));
    output.offer(20..30);
    output
        .until(|status| status.health == Health::Failing)
        .await;
    let _server = nats(port, "s3cret");
    let mut subscriber = Subscriber::new(port, "s3cret", "fleet.>");
    output.until(|status| status.delivered == 30).await;
    output.offer(30..31);
    while subscriber.next().1["message_id"] != 30 {}
    let status = output.end().await;
    assert_eq!((status.delivered, status.dropped), (31, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_refuses_a_wrong_token_and_takes_no_message_beyond_its_size() {
    if !has_nats() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = nats(port, "s3cret");
    let mut config = to_nats(port, directory.path());
    let output = Running::start(&config);
    output.offer(0..1);
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(2 * 1024 * 1024));
    output
        .output
        .offer(&of(1, None, Encoding::Json, long.as_bytes()));
    output.offer(2..3);
    let status = output.until(|status| status.waiting == 0).await;
    assert_eq!((status.delivered, status.refused), (2, 1));
    output.end().await;
    std::fs::write(directory.path().join("wrong"), "other\n").unwrap();
    config.token_file = Some(directory.path().join("wrong"));
    let output = Running::start(&config);
    output.offer(0..1);
    let status = output
        .until(|status| status.health == Health::Failing)
        .await;
    let problem = status.problem.unwrap();
    assert!(problem.contains("Authorization"), "{problem}");
    assert!(!problem.contains("other"));
    output.end().await;
}

fn to_webhook(url: &str) -> NotifOutput {
    let mut config = NotifOutput::new("hook", OutputKind::Webhook);
    config.url = Some(url.to_owned());
    config.retry_max = 1;
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_gets_batches_with_its_token() {
    if !has("ssl") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "abc\n").unwrap();
    let server = Peer::python(HTTP, &["0"]);
    let mut config = to_webhook(&format!("http://127.0.0.1:{}/204", server.line()));
    config.token_file = Some(token);
    let output = Running::start(&config);
    output.offer(0..50);
    output.until(|status| status.delivered == 50).await;
    let mut numbers = Vec::new();
    while numbers.len() < 50 {
        let request: Value = serde_json::from_str(&server.line()).unwrap();
        assert_eq!(request["type"], "application/x-ndjson");
        assert_eq!(request["authorization"], "Bearer abc");
        let lines = request["lines"].as_array().unwrap().clone();
        numbers.extend(
            lines
                .iter()
                .map(|line| line["message_id"].as_u64().unwrap()),
        );
    }
    assert_eq!(numbers, (0..50).collect::<Vec<u64>>());
    output.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
    if !has("ssl") {
        return;
    }
    let server = Peer::python(HTTP, &["0"]);
    let port = server.line();
    let busy = Running::start(&to_webhook(&format!("http://127.0.0.1:{port}/503")));
    busy.offer(0..1);
    for _ in 0..3 {
        let request: Value = serde_json::from_str(&server.line()).unwrap();
        assert_eq!(request["lines"][0]["message_id"], 0);
    }
    let status = busy.until(|status| status.failures >= 3).await;
    assert_eq!((status.health, status.waiting), (Health::Failing, 1));
    assert_eq!(busy.end().await.abandoned, 1);

    let refused = Running::start(&to_webhook(&format!("http://127.0.0.1:{port}/400")));
    refused.offer(0..3);
    let status = refused.until(|status| status.waiting == 0).await;
    assert_eq!((status.refused, status.delivered), (3, 0));
    refused.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_over_https_is_believed_only_with_a_certificate_of_its_ca() {
    if !has("ssl") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (own, both) = (
        directory.path().join("ca.pem"),
        directory.path().join("both.pem"),
    );
    std::fs::write(&own, certified.cert.pem()).unwrap();
    let pair = certified.cert.pem() + &certified.signing_key.serialize_pem();
    std::fs::write(&both, pair).unwrap();
    let server = Peer::python(HTTP, &["0", &both.display().to_string()]);
    let url = format!("https://127.0.0.1:{}/204", server.line());
    let mut config = to_webhook(&url);
    config.ca = Some(own);
    let output = Running::start(&config);
    output.offer(0..1);
    output.until(|status| status.delivered == 1).await;
    output.end().await;

    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let path = directory.path().join("other.pem");
    std::fs::write(&path, other.cert.pem()).unwrap();
    config.ca = Some(path);
    let output = Running::start(&config);
    output.offer(0..1);
    let status = output
        .until(|status| status.health == Health::Failing)
        .await;
    assert!(status.problem.unwrap().contains("TLS"));
    output.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_cannot_work_does_not_start() {
    let stop = watch::channel(false);
    let mut webhook = to_webhook("https://127.0.0.1/");
    let mut kafka = NotifOutput::new("k", OutputKind::Kafka);
    (kafka.servers, kafka.topic) = (vec!["host:port:x".to_owned()], Some("t".to_owned()));
    let mut nats = NotifOutput::new("n", OutputKind::Nats);
    (nats.servers, nats.topic) = (vec!["h".to_owned()], Some("t".to_owned()));
    nats.token_file = Some("/nowhere/token".into());
    for (config, key) in [
        (&webhook, "ca:"),
        (&kafka, "servers:"),
        (&nats, "token_file:"),
        (
            &to_files(OutputKind::Ndjson, Path::new("/proc/nowhere")),
            "directory:",
        ),
        (&to_webhook("ftp://h/"), "url:"),
        (&to_webhook("http://user:secret@h/"), "url:"),
    ] {
        let problem = Output::start(config, stop.1.clone()).unwrap_err();
        assert!(problem.starts_with(key), "{problem}");
        assert!(!problem.contains("user:secret"), "{problem}");
    }
    webhook.ca = Some("/nowhere/ca.pem".into());
    assert!(Output::start(&webhook, stop.1).is_err());
}
