//! Handshakes per second of CPU with certificates on both sides: two tables of ours over memory, and the engine alone.
//!
//! Every client has a certificate of its own. "Known" are peers that came before, whose signatures are remembered as
//! verified; "new" is when every signature of the chain is verified every time. No tickets: every handshake is a full one. The engine
//! is measured twice: with a callback that says yes, and with its own X.509 verifying the chain on both sides, which is what "new" is
//! to be compared with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boring::ssl::{SslContext, SslVersion};
use homefleet_net::dtls::{Budget, Config, Event, Expected, Sessions, TrustVerifier, Versions};

use crate::bare::{self, Verifying};
use crate::pki::{Ca, Issued, forgetful, verifier};
use crate::process::thread_cpu;
use crate::report::Report;

/// Clients with a certificate each.
const CLIENTS: usize = 64;
/// Handshakes of one kind before it is the other's turn.
const TURN: usize = CLIENTS;
/// CPU time of the engine for each figure.
const MEASURE: Duration = Duration::from_millis(1000);

pub(crate) fn run(report: &mut Report) {
    report
        .say("\nDTLS handshakes, ECDSA P-256 certificates on both sides, both ends on one thread");
    let ca = Ca::new();
    for (label, version, versions) in [
        ("DTLS 1.2", SslVersion::DTLS1_2, Versions::Dtls12),
        ("DTLS 1.3", SslVersion::DTLS1_3, Versions::Dtls13),
    ] {
        for (chain, through_intermediate) in [("root", false), ("intermediate", true)] {
            let server = ca.issue("self::server.example", through_intermediate);
            let clients: Vec<Issued> = (0..CLIENTS)
                .map(|n| ca.issue(&format!("os::00D09E-{n:04}"), through_intermediate))
                .collect();
            let name = |who: &str| format!("handshakes, {label}, issued by {chain}, {who}");
            let root = ca.root_pem();
            let mut known = Tables::new(verifier(&root), &server, &clients, versions);
            let mut new = Tables::new(forgetful(&root), &server, &clients, versions);
            let engine = Engine::new(&server, &clients, version, Verifying::Nothing);
            let verifying = Engine::new(&server, &clients, version, Verifying::Chain(&root));
            // By turns, so that all meet the same weather; the first is to warm up.
            let mut spent = [Spent::default(); 4];
            let mut warm = false;
            while spent[2].cpu < MEASURE {
                spent[0].turn(|n| known.handshake(n));
                spent[1].turn(|n| new.handshake(n));
                spent[2].turn(|n| engine.handshake(n));
                spent[3].turn(|n| verifying.handshake(n));
                if !std::mem::replace(&mut warm, true) {
                    spent = [Spent::default(); 4];
                }
            }
            let [known, new, engine, verifying] = spent.map(|spent| spent.rate());
            report.figure(&name("known peers"), known, "per s of CPU");
            report.figure(&name("new peers"), new, "per s of CPU");
            report.figure(&name("engine alone"), engine, "per s of CPU");
            report.figure(&name("engine that verifies"), verifying, "per s of CPU");
            report.figure(&name("known / engine"), 100.0 * known / engine, "%");
            report.figure(&name("new / engine"), 100.0 * new / engine, "%");
            let verifies = |who| name(&format!("{who} / engine that verifies"));
            report.figure(&verifies("known"), 100.0 * known / verifying, "%");
            report.figure(&verifies("new"), 100.0 * new / verifying, "%");
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Spent {
    handshakes: usize,
    cpu: Duration,
}

impl Spent {
    fn turn(&mut self, mut handshake: impl FnMut(usize)) {
        let before = thread_cpu();
        (0..TURN).for_each(&mut handshake);
        self.cpu += thread_cpu() - before;
        self.handshakes += TURN;
    }

    fn rate(&self) -> f64 {
        self.handshakes as f64 / self.cpu.as_secs_f64()
    }
}

/// Our table as server, and one for each client.
struct Tables {
    server: Sessions,
    clients: Vec<Sessions>,
    start: Instant,
    count: u64,
}

/// A table's configuration, for as many handshakes as one likes.
pub(crate) fn config(versions: Versions) -> Config {
    let budget = Budget {
        burst: 1_000_000_000,
        per_second: 1_000_000_000,
    };
    Config {
        prefix_budget: budget,
        global_budget: budget,
        max_per_certificate: usize::MAX,
        versions,
        resumption: false,
        ..Config::default()
    }
}

pub(crate) fn server_addr() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 5684))
}

impl Tables {
    fn new(
        verifier: Arc<TrustVerifier>,
        server: &Issued,
        clients: &[Issued],
        versions: Versions,
    ) -> Self {
        let table = |issued: &Issued| {
            Sessions::new(config(versions), issued.credentials(), verifier.clone()).unwrap()
        };
        Self {
            server: table(server),
            clients: clients.iter().map(table).collect(),
            start: Instant::now(),
            count: 0,
        }
    }

    fn handshake(&mut self, n: usize) {
        self.count += 1;
        let now = self.start + Duration::from_millis(self.count);
        let from = SocketAddr::from(([198, 51, 100, 1], 1024 + n as u16));
        let client = &mut self.clients[n];
        let id = connect(now, client, &mut self.server, from, server_addr());
        client.close(now, id);
        shuttle(now, client, &mut self.server, from, server_addr());
        assert!(matches!(
            self.server.poll_event(),
            Some(Event::Closed { .. })
        ));
        assert!(client.is_empty() && self.server.is_empty());
    }
}

/// One handshake between two tables, from the client's `connect` to both sides' `Established`.
pub(crate) fn connect(
    now: Instant,
    client: &mut Sessions,
    server: &mut Sessions,
    from: SocketAddr,
    to: SocketAddr,
) -> homefleet_coap::SessionId {
    let expected = Expected {
        host: "localhost".to_owned(),
        endpoint_id: Some("self::server.example".to_owned()),
    };
    let id = client.connect(now, to, expected).unwrap();
    shuttle(now, client, server, from, to);
    for table in [client, server] {
        match table.poll_event() {
            Some(Event::Established { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    id
}

/// Carries datagrams until nobody has any.
fn shuttle(
    now: Instant,
    client: &mut Sessions,
    server: &mut Sessions,
    from: SocketAddr,
    to: SocketAddr,
) {
    loop {
        let mut moved = false;
        while let Some(transmit) = client.poll_transmit() {
            moved = true;
            server.handle_input(now, from, &transmit.payload);
        }
        while let Some(transmit) = server.poll_transmit() {
            moved = true;
            client.handle_input(now, to, &transmit.payload);
        }
        if !moved {
            return;
        }
    }
}

/// The engine's contexts.
struct Engine {
    server: SslContext,
    clients: Vec<SslContext>,
}

impl Engine {
    fn new(
        server: &Issued,
        clients: &[Issued],
        version: SslVersion,
        verifying: Verifying<'_>,
    ) -> Self {
        Self {
            server: bare::context(server, version, verifying),
            clients: clients
                .iter()
                .map(|issued| bare::context(issued, version, verifying))
                .collect(),
        }
    }

    fn handshake(&self, n: usize) {
        let (client, server) = bare::handshake(&self.clients[n], &self.server);
        bare::close(client, server);
    }
}
