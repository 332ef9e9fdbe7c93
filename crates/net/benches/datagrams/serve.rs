//! Our server as a process of its own, and libcoap's.

use std::io::BufRead;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use homefleet_coap::{Code, Response};
use homefleet_net::coap::{Incoming, Node, NodeConfig, NodeStats, Security};
use homefleet_net::dtls::{self, Budget, Versions};
use homefleet_net::udp::UdpSocket;

use crate::pki::{Ca, Issued, verifier};
use crate::process::{Own, Running, free_port};

const LOOPBACK: &str = "127.0.0.1:0";

/// A server under load.
pub(crate) enum Server {
    Ours(Own, SocketAddr),
    Socket(Own, SocketAddr),
    Libcoap(Running, SocketAddr),
}

/// What our server remembers of messages.
#[derive(Clone, Copy)]
pub(crate) enum Memory {
    /// What the defaults are: 256 messages of a peer, 524,288 over all.
    Defaults,
    /// Every message for its whole EXCHANGE_LIFETIME.
    Everything,
    /// As many as this over all.
    Bounded(usize),
}

impl Memory {
    fn word(self) -> String {
        match self {
            Self::Defaults => "defaults".to_owned(),
            Self::Everything => "everything".to_owned(),
            Self::Bounded(total) => total.to_string(),
        }
    }

    fn config(word: &str) -> homefleet_coap::Config {
        let mut config = homefleet_coap::Config::default();
        match word {
            "defaults" => {}
            "everything" => {
                config.dedup_per_peer = 1 << 16;
                config.dedup_total = 1 << 23;
            }
            total => config.dedup_total = total.parse().unwrap(),
        }
        config
    }
}

impl Server {
    pub(crate) fn ours(memory: Memory) -> Self {
        let mut own = Own::start(&["serve", "coap", &memory.word(), LOOPBACK]);
        let addr = own.addr();
        Self::Ours(own, addr)
    }

    /// The batched socket alone, which gives every request a fixed answer: what of the figures is the kernel's.
    pub(crate) fn socket() -> Self {
        let mut own = Own::start(&["serve", "socket"]);
        let addr = own.addr();
        Self::Socket(own, addr)
    }

    /// On all addresses, as an operator's server listens: answers leave from the address that was asked.
    pub(crate) fn ours_everywhere(memory: Memory) -> Self {
        let mut own = Own::start(&["serve", "coap", &memory.word(), "[::]:0"]);
        let addr = ([127, 0, 0, 1], own.addr().port()).into();
        Self::Ours(own, addr)
    }

    /// With the certificate `server.pem` of a directory.
    pub(crate) fn ours_secure(memory: Memory, directory: &Path) -> Self {
        let directory = directory.to_str().unwrap();
        let mut own = Own::start(&["serve", "coaps", &memory.word(), directory]);
        let addr = own.addr();
        Self::Ours(own, addr)
    }

    /// `coap-server-notls`; `None` when it is not installed.
    pub(crate) fn libcoap() -> Option<Self> {
        let port = free_port();
        let args = ["-A", "127.0.0.1", "-p", &port.to_string(), "-d", "10"];
        let running = Running::start("coap-server-notls", &args)?;
        std::thread::sleep(Duration::from_millis(500));
        Some(Self::Libcoap(running, ([127, 0, 0, 1], port).into()))
    }

    /// `coap-server-openssl` that demands certificates; `None` when it is not installed.
    pub(crate) fn libcoap_secure(directory: &Path) -> Option<Self> {
        let port = free_port();
        let file = |name| directory.join(name).to_str().unwrap().to_owned();
        let (chain, key, root) = (file("server.pem"), file("server.key"), file("root.pem"));
        let port_text = port.to_string();
        let mut args = vec!["-A", "127.0.0.1", "-p", port_text.as_str(), "-d", "10"];
        args.extend(["-c", &chain, "-j", &key, "-C", &root]);
        let running = Running::start("coap-server-openssl", &args)?;
        std::thread::sleep(Duration::from_millis(500));
        Some(Self::Libcoap(running, ([127, 0, 0, 1], port + 1).into()))
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        match self {
            Self::Ours(_, addr) | Self::Socket(_, addr) | Self::Libcoap(_, addr) => *addr,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        match self {
            Self::Ours(own, _) | Self::Socket(own, _) => own.pid(),
            Self::Libcoap(running, _) => running.pid(),
        }
    }

    /// Our counters; nothing of the others.
    pub(crate) fn counters(&mut self) -> Counters {
        match self {
            Self::Ours(own, _) => Counters::read(&own.ask("counters")),
            Self::Socket(..) | Self::Libcoap(..) => Counters::default(),
        }
    }
}

/// What the figures have to be read with.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    /// Messages forgotten before their time.
    pub(crate) forgotten: u64,
    /// Repetitions that were answered from memory.
    pub(crate) replayed: u64,
    pub(crate) delivered: u64,
    pub(crate) sessions: u64,
}

impl Counters {
    fn write(stats: &NodeStats) -> String {
        format!(
            "{} {} {} {}",
            stats.coap.dedup_evicted,
            stats.coap.duplicates_replayed,
            stats.coap.requests_delivered,
            stats.sessions
        )
    }

    fn read(numbers: &[u64]) -> Self {
        Self {
            forgotten: numbers[0],
            replayed: numbers[1],
            delivered: numbers[2],
            sessions: numbers[3],
        }
    }
}

/// A directory with a CA and the certificates of one server and one client, both directly under the root, because
/// libcoap presents exactly one certificate.
pub(crate) fn certificates() -> (tempfile::TempDir, Issued) {
    let directory = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    ca.issue("self::server.example", false)
        .write(directory.path(), "server");
    std::fs::write(directory.path().join("root.pem"), ca.root_pem()).unwrap();
    (directory, ca.issue("os::00D09E-0001", false))
}

/// The server's side: says its address, then answers questions until its input ends.
pub(crate) fn main(args: &[&str]) {
    let (secure, memory, listen) = match args {
        ["socket"] => return answer_all(),
        ["coap", memory, listen] => (None, *memory, *listen),
        ["coaps", memory, directory] => {
            // Where peers come and go, the silent ones are dropped while it runs.
            let idle = if memory.parse::<usize>().is_ok() {
                3
            } else {
                3600
            };
            let idle = Duration::from_secs(idle);
            (
                Some(security(Path::new(directory), idle)),
                *memory,
                LOOPBACK,
            )
        }
        _ => panic!("serve coap MEMORY ADDRESS | serve coaps MEMORY DIRECTORY"),
    };
    let (ask, asked) = tokio::sync::mpsc::channel::<()>(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if line.is_err() || ask.blocking_send(()).is_err() {
                return;
            }
        }
    });
    // The name is what a profiler tells it by.
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("server".to_owned())
            .spawn_scoped(scope, move || serve(secure, memory, listen, asked))
            .unwrap();
    });
}

fn answer_all() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut socket = UdpSocket::bind(LOOPBACK.parse().unwrap()).unwrap();
        println!("{}", socket.local_addr());
        let mut answers = Vec::new();
        loop {
            socket.ready().await.unwrap();
            while socket.receive(|from, request| {
                // ACK, 2.04, and message ID and token of the request.
                let mut answer = vec![0x62, 0x44];
                answer.extend(request.get(2..6).unwrap_or_default());
                answers.push((from, answer));
            }) > 0
            {
                for (to, answer) in answers.drain(..) {
                    socket.queue(to, answer);
                }
                socket.flush();
            }
        }
    });
}

fn serve(
    secure: Option<Security>,
    memory: &str,
    listen: &str,
    mut asked: tokio::sync::mpsc::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async move {
        let plain_listen = secure.is_none().then(|| listen.parse().unwrap());
        let node = Node::bind(
            NodeConfig {
                secure,
                plain_listen,
                groups: Vec::new(),
                coap: Memory::config(memory),
                max_requests: 1000,
                doubt_after: Duration::from_secs(5),
            },
            |_: Incoming<'_>| Some(Response::new(Code::CHANGED)),
        )
        .unwrap();
        println!("{}", node.local_addr().or(node.plain_addr()).unwrap());
        while asked.recv().await.is_some() {
            println!("{}", Counters::write(&node.stats()));
        }
        node.shutdown().await;
    });
}

fn security(directory: &Path, idle_timeout: Duration) -> Security {
    let root = std::fs::read_to_string(directory.join("root.pem")).unwrap();
    // All clients are of one prefix here.
    let budget = Budget {
        burst: 1_000_000,
        per_second: 1_000_000,
    };
    Security {
        listen: LOOPBACK.parse().unwrap(),
        credentials: Issued::read(directory, "server").credentials(),
        verifier: verifier(&root),
        dtls: dtls::Config {
            prefix_budget: budget,
            global_budget: budget,
            // All clients show the same certificate.
            max_per_certificate: usize::MAX,
            idle_timeout,
            versions: Versions::Both,
            ..dtls::Config::default()
        },
    }
}
