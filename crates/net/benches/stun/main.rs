//! Binding Requests answered per second of one core, beside coturn in the same run, and what a binding takes in memory.
//!
//! ```sh
//! cargo bench -p homefleet-net --bench stun              # everything; a table, and target/bench/stun.json
//! cargo bench -p homefleet-net --bench stun -- requests  # one part: requests, bindings
//! cargo bench -p homefleet-net --bench stun -- --json    # the figures as JSON instead of the table
//! ```
//!
//! Requests are classic ones (RFC 3489) as devices send them to keep a binding: CONNECTION-REQUEST-BINDING and USERNAME, each with a
//! transaction ID of its own, from 16 sockets. Servers are processes of their own; CPU time is that of all their threads, and the
//! rate per core follows from it. Nothing is asserted.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "../datagrams/process.rs"]
#[allow(dead_code)]
mod process;
#[path = "../datagrams/report.rs"]
#[allow(dead_code)]
mod report;

mod load;

use std::io::BufRead as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use homefleet_net::stun::{Server, ServerConfig};
use homefleet_tr111::server::{self as machine, Binding};
use load::{Kind, Load};
use process::{Own, Running, free_port, process_cpu, resident};
use report::Report;

const PARTS: [&str; 2] = ["requests", "bindings"];
/// How long each load lasts.
const RUN: Duration = Duration::from_secs(4);
/// Bindings held.
const BINDINGS: u32 = 1_000_000;

fn main() {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve"] => return serve(),
        ["hold", what] => return hold(what),
        _ => {}
    }
    let json = words.contains(&"--json");
    let asked: Vec<&str> = words
        .iter()
        .copied()
        .filter(|word| !word.starts_with('-'))
        .collect();
    if let Some(unknown) = asked.iter().find(|part| !PARTS.contains(part)) {
        eprintln!("there is no part {unknown}; there are {}", PARTS.join(", "));
        std::process::exit(2);
    }
    let wanted = |part: &str| asked.is_empty() || asked.contains(&part);
    let mut report = Report::new("stun", json);
    if wanted("requests") {
        requests(&mut report);
    }
    if wanted("bindings") {
        bindings(&mut report);
    }
    report.finish();
}

fn requests(report: &mut Report) {
    for round in 1..=2 {
        let mut own = Own::start(&["serve"]);
        let at = own.addr();
        let keep = format!("keeping a binding, Homefleet, {round}");
        measure(report, &keep, own.pid(), at, Kind::Keep);
        let change = format!("a change with its proof, Homefleet, {round}");
        measure(report, &change, own.pid(), at, Kind::Change);
        let forged = format!("forged names, Homefleet, {round}");
        measure(report, &forged, own.pid(), at, Kind::Forged);
        drop(own);
        coturn(report, round);
    }
}

fn coturn(report: &mut Report, round: u32) {
    let at: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let port = at.port().to_string();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (pid, db) = (path("pid"), path("db"));
    let args = [
        "-n",
        "--no-auth",
        "--no-cli",
        "--no-tls",
        "--no-dtls",
        "--stun-only",
        "-L",
        "127.0.0.1",
        "-p",
        &port,
        "--pidfile",
        &pid,
        "--userdb",
        &db,
        "--log-file",
        "/dev/null",
        "--simple-log",
    ];
    let Some(turnserver) = Running::start("turnserver", &args) else {
        return report.missing("turnserver");
    };
    if !Load::new(at, Kind::Keep).answered_within(Duration::from_secs(20)) {
        return report.missing("coturn does not answer");
    }
    let name = format!("keeping a binding, coturn, {round}");
    measure(report, &name, turnserver.pid(), at, Kind::Keep);
}

fn measure(report: &mut Report, name: &str, pid: u32, at: SocketAddr, kind: Kind) {
    let mut load = Load::new(at, kind);
    // Whatever the first ones cost is over.
    load.run(Duration::from_millis(300));
    let before = process_cpu(pid);
    let start = Instant::now();
    let counts = load.run(RUN);
    let seconds = start.elapsed().as_secs_f64();
    let cpu = (process_cpu(pid) - before).as_secs_f64();
    let answered = counts.answered as f64;
    report.figure(
        &format!("{name}: answered per second of a core"),
        answered / cpu,
        "requests/s",
    );
    report.figure(
        &format!("{name}: answered"),
        answered / seconds,
        "requests/s",
    );
    let lost = (counts.sent - counts.answered) as f64;
    report.figure(
        &format!("{name}: not answered"),
        lost / counts.sent as f64 * 100.0,
        "%",
    );
}

fn bindings(report: &mut Report) {
    for (what, name) in [
        ("machine", "a binding"),
        ("server", "a binding, with the device's name and password"),
    ] {
        let mut own = Own::start(&["hold", what]);
        own.ask("ready");
        let before = resident(own.pid());
        let answer = own.ask("fill");
        let bytes = resident(own.pid()).saturating_sub(before) as f64;
        report.figure(
            &format!("{name}, of {}", answer[0]),
            bytes / answer[0] as f64,
            "bytes",
        );
    }
}

/// Our server.
fn serve() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let config = ServerConfig::new(([127, 0, 0, 1], 0).into());
        let (server, mut told) = Server::bind(config).unwrap();
        server.set_password(load::USERNAME, Some(load::PASSWORD));
        println!("{}", server.local_addrs()[0]);
        while told.recv().await.is_some() {}
    });
}

/// Holds bindings when it is told to.
fn hold(what: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let config = ServerConfig::new(([127, 0, 0, 1], 0).into());
    let (server, _told) = Server::bind(config).unwrap();
    let mut alone = machine::Server::new(machine::ServerConfig::default());
    let local = server.local_addrs()[0];
    let stdin = std::io::stdin();
    let mut line = String::new();
    while stdin.lock().read_line(&mut line).unwrap() > 0 {
        let ready = line.trim() == "ready";
        line.clear();
        if ready {
            println!("0");
            continue;
        }
        let now = Instant::now();
        for number in 0..BINDINGS {
            // As the ACS names them: 24 hexadecimal digits, and as many in a password.
            let name = format!("{number:024x}");
            let at = SocketAddr::from((number.to_be_bytes(), 40_000));
            let binding = Binding {
                at,
                local,
                since: now,
                seen: now,
            };
            if what == "machine" {
                alone.restore(name.as_bytes(), binding);
            } else {
                let password = format!("{:024x}", u64::from(number) * 7919);
                server.set_password(name.as_bytes(), Some(password.as_bytes()));
                server.restore(name.as_bytes(), binding);
            }
        }
        println!("{BINDINGS}");
    }
}
