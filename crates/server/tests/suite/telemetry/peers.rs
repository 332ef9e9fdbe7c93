//! Programs that the outputs are tested with: nats-server, librdkafka's mock cluster, DuckDB and Python's HTTP server. Each ends with
//! the test, also when that is killed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a peer may take on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);

/// The Python of the peers: `HOMEFLEET_PYTHON`.
fn python() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("HOMEFLEET_PYTHON")?);
    path.exists().then_some(path)
}

/// Whether a peer is there; where it must be and is not, the test fails.
#[allow(clippy::print_stdout)]
pub(super) fn has(module: &str) -> bool {
    let there = python().is_some_and(|python| {
        let mut command = Command::new(python);
        let found = command.args(["-c", &format!("import {module}")]).output();
        found.is_ok_and(|output| output.status.success())
    });
    assert!(
        there || std::env::var_os("CI").is_none(),
        "no Python with {module}: see scripts/install-python-peers, and set HOMEFLEET_PYTHON"
    );
    if !there {
        println!("SKIPPED: no Python with {module}");
    }
    there
}

/// Whether there is a NATS server; where it must be and is not, the test fails.
#[allow(clippy::print_stdout)]
pub(super) fn has_nats() -> bool {
    let there = python().is_some_and(|python| python.with_file_name("nats-server").exists());
    assert!(
        there || std::env::var_os("CI").is_none(),
        "no nats-server beside HOMEFLEET_PYTHON: see scripts/install-python-peers"
    );
    if !there {
        println!("SKIPPED: no nats-server");
    }
    there
}

/// A command that does not outlive this process.
fn dying(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// A process that ends when this is dropped.
pub(super) struct Peer {
    child: Child,
    pub(super) input: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().unwrap_or_default();
        drop(self.child.wait());
    }
}

impl Peer {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines() {
                let Ok(line) = line else { return };
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            input,
            lines,
        }
    }

    /// A Python program.
    pub(super) fn python(program: &str, args: &[&str]) -> Self {
        let mut command = dying(&python().unwrap());
        command.args(["-u", "-c", program]).args(args);
        Self::start(command)
    }

    /// Its next line.
    pub(super) fn line(&self) -> String {
        self.lines
            .recv_timeout(PATIENCE)
            .expect("the peer says nothing")
    }

    /// Tells it something.
    pub(super) fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
        input.flush().unwrap();
    }
}

/// What a Python program prints.
pub(super) fn run_python(program: &str, args: &[&str]) -> String {
    let mut command = Command::new(python().unwrap());
    let output = command.args(["-c", program]).args(args).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A port that is free now.
pub(super) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A NATS server on a port, with a token.
pub(super) fn nats(port: u16, token: &str) -> Peer {
    let program = python().unwrap().with_file_name("nats-server");
    let mut command = dying(&program);
    let port_text = port.to_string();
    command.args(["-a", "127.0.0.1", "-p", &port_text, "--auth", token]);
    let peer = Peer::start(command);
    let until = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "nats-server does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    peer
}

/// A cluster of librdkafka, and a consumer of the topic: `N` on its input has it print the next N records as JSON lines.
pub(super) const KAFKA: &str = r#"
import json, sys
from confluent_kafka import Consumer, Producer, TopicPartition
host = Producer({"test.mock.num.brokers": 1})
topic = sys.argv[1]
host.produce(topic, b"first", partition=0)
host.flush(60)
metadata = host.list_topics(topic, timeout=60)
broker = next(iter(metadata.brokers.values()))
address = f"{broker.host}:{broker.port}"
consumer = Consumer({"bootstrap.servers": address, "group.id": "test", "enable.partition.eof": False})
consumer.assign([TopicPartition(topic, p, 1 if p == 0 else 0) for p in metadata.topics[topic].partitions])
print(address, flush=True)
for line in sys.stdin:
    for _ in range(int(line)):
        message = None
        while message is None or message.error():
            message = consumer.poll(1)
        print(json.dumps({"key": message.key().decode(), "partition": message.partition(), "value": json.loads(message.value())}), flush=True)
"#;

/// An HTTP or HTTPS server of Python that prints each request as a line of JSON and answers what the path says.
pub(super) const HTTP: &str = r#"
import http.server, json, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        print(json.dumps({"path": self.path, "type": self.headers["Content-Type"], "authorization": self.headers["Authorization"],
                          "lines": [json.loads(line) for line in body.splitlines()]}), flush=True)
        self.send_response(int(self.path.strip("/") or 204))
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;
