//! Notifications in, stored, and answered: the whole server over each MTP, with agents that each have one Notify under way.
//!
//! ```sh
//! cargo bench -p homefleet-server --bench notify              # every MTP; some two minutes
//! cargo bench -p homefleet-server --bench notify -- wss mqtt  # some: coap, coaps, ws, wss, stomp, stomps, mqtt, mqtts, uds
//! ```
//!
//! The server is a process of its own (this program again, with `serve`) with its store on a disk; its CPU time and memory are its
//! own. A Notify counts when its answer is there: the server sends that when the notification is on the disk. Load generator and
//! broker share the machine, so that the rate says less about the server than its CPU time per notification does.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod agents;
#[path = "../../../net/tests/suite/support/mosquitto.rs"]
mod mosquitto;
mod pki;
mod process;
#[path = "../../../net/tests/suite/support/rabbitmq.rs"]
mod rabbitmq;
mod serve;

use std::path::Path;
use std::time::{Duration, Instant};

use mosquitto::Mosquitto;
use rabbitmq::{Rabbit, User};

use crate::agents::Fleet;
use crate::process::{Own, process_cpu, resident};

/// Agents, each with a connection of its own.
const AGENTS: usize = 64;
/// How long is measured.
const MEASURE: Duration = Duration::from_secs(5);
/// For the connections to warm up: sessions, tables, the store's cache.
const WARM_UP: Duration = Duration::from_secs(1);

/// A way in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Coap { secure: bool },
    WebSocket { secure: bool },
    Stomp { secure: bool },
    Mqtt { secure: bool },
    Uds,
}

const WAYS: [(&str, Way, &str); 9] = [
    ("coap", Way::Coap { secure: false }, "CoAP"),
    ("coaps", Way::Coap { secure: true }, "CoAP, DTLS"),
    ("ws", Way::WebSocket { secure: false }, "WebSocket"),
    ("wss", Way::WebSocket { secure: true }, "WebSocket, TLS"),
    (
        "stomp",
        Way::Stomp { secure: false },
        "STOMP through RabbitMQ",
    ),
    (
        "stomps",
        Way::Stomp { secure: true },
        "STOMP through RabbitMQ, TLS",
    ),
    (
        "mqtt",
        Way::Mqtt { secure: false },
        "MQTT 5.0 through mosquitto, QoS 1",
    ),
    (
        "mqtts",
        Way::Mqtt { secure: true },
        "MQTT 5.0 through mosquitto, QoS 1, TLS",
    ),
    ("uds", Way::Uds, "UNIX domain socket"),
];

fn main() {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    if let [role, directory] = args.as_slice()
        && role == "serve"
    {
        return serve::main(Path::new(directory));
    }
    if let Some(unknown) = args
        .iter()
        .find(|arg| WAYS.iter().all(|(name, ..)| name != arg))
    {
        let names = WAYS.map(|(name, ..)| name).join(", ");
        eprintln!("there is no part {unknown}; there are {names}");
        std::process::exit(2);
    }
    println!("Notify in, stored on disk, answered; {AGENTS} agents with one under way each");
    for (name, way, label) in WAYS {
        if args.is_empty() || args.iter().any(|arg| arg == name) {
            run(way, label);
        }
    }
}

/// A broker; it ends with this.
enum Broker {
    None,
    Rabbit(Rabbit),
    Mosquitto(Mosquitto),
}

impl Broker {
    fn start(way: Way, ca: &pki::Ca) -> Option<Self> {
        Some(match way {
            Way::Coap { .. } | Way::WebSocket { .. } | Way::Uds => Self::None,
            Way::Stomp { secure } => {
                if !Rabbit::is_installed() {
                    return missing("rabbitmq-server");
                }
                let broker = ca.issue(pki::BROKER);
                let tls = rabbitmq::BrokerTls {
                    ca: ca.pem(),
                    chain: broker.chain,
                    key: broker.key,
                };
                let password = (!secure).then_some(pki::PASSWORD);
                let devices = (0..AGENTS).map(|n| User::device(&pki::agent(n), password));
                let controller = User::controller(pki::CONTROLLER, password);
                let users: Vec<User> = devices.chain([controller]).collect();
                Self::Rabbit(Rabbit::start(&users, secure.then_some(&tls)))
            }
            Way::Mqtt { secure } => {
                if !Mosquitto::is_installed() {
                    return missing("mosquitto");
                }
                let broker = ca.issue(pki::BROKER);
                let tls = mosquitto::BrokerTls {
                    ca: ca.pem(),
                    chain: broker.chain,
                    key: broker.key,
                };
                let mut users: Vec<String> = (0..AGENTS).map(pki::user).collect();
                users.push(pki::CONTROLLER_USER.to_owned());
                let users: Vec<&str> = users.iter().map(String::as_str).collect();
                let controller = match secure {
                    true => pki::CONTROLLER,
                    false => pki::CONTROLLER_USER,
                };
                Self::Mosquitto(Mosquitto::start(&users, controller, secure.then_some(&tls)))
            }
        })
    }

    fn port(&self, way: Way) -> u16 {
        let secure = matches!(
            way,
            Way::Stomp { secure: true } | Way::Mqtt { secure: true }
        );
        match self {
            Self::None => 0,
            Self::Rabbit(broker) if secure => broker.tls_port(),
            Self::Rabbit(broker) => broker.port(),
            Self::Mosquitto(broker) if secure => broker.tls_port(),
            Self::Mosquitto(broker) => broker.port(),
        }
    }
}

fn missing(program: &str) -> Option<Broker> {
    assert!(std::env::var_os("CI").is_none(), "{program} is missing");
    println!("SKIPPED, A PEER IS MISSING: {program}");
    None
}

fn run(way: Way, label: &str) {
    let ca = pki::Ca::new();
    let Some(broker) = Broker::start(way, &ca) else {
        return;
    };
    // Not on a memory file system: what is measured is reaching the disk.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let plain_port = serve::configure(directory.path(), &ca, way, broker.port(way));
    let mut server = Own::start(&["serve", directory.path().to_str().unwrap()]);
    let addresses = server.line();
    let (coaps, websocket) = addresses.split_once(' ').unwrap_or((&addresses, ""));
    let at = match way {
        Way::Coap { secure: true } => format!("coaps://{coaps}/usp"),
        Way::Coap { secure: false } => format!("coap://127.0.0.1:{plain_port}/usp"),
        Way::WebSocket { .. } => websocket.to_owned(),
        Way::Uds => serve::socket(directory.path()),
        Way::Stomp { .. } | Way::Mqtt { .. } => format!("localhost:{}", broker.port(way)),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let fleet = Fleet::connect(way, &ca, &at).await;
        tokio::time::sleep(WARM_UP).await;
        let (stored, cpu, start) = (fleet.stored(), process_cpu(server.pid()), Instant::now());
        tokio::time::sleep(MEASURE).await;
        let stored = fleet.stored() - stored;
        let cpu = process_cpu(server.pid()) - cpu;
        let rate = f64::from(u32::try_from(stored).unwrap()) / start.elapsed().as_secs_f64();
        let each = cpu.as_secs_f64() * 1e6 / f64::from(u32::try_from(stored.max(1)).unwrap());
        println!(
            "  {label:<42} {rate:>7.0}/s here, {each:>6.1} µs of server CPU each: {:>7.0}/s on two cores; {:.1} MB",
            2e6 / each,
            resident(server.pid()) as f64 / 1e6,
        );
        fleet.end().await;
    });
}
