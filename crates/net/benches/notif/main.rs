//! CPU, loss and memory of the receiver of UDP-notif: plain beside a bare recvmmsg loop, segmented, over DTLS 1.3, and with 1,000 publishers.
//!
//! ```sh
//! cargo bench -p homefleet-net --bench notif               # everything; a table, and target/bench/notif.json
//! cargo bench -p homefleet-net --bench notif -- plain      # one part: plain, segments, dtls, publishers
//! cargo bench -p homefleet-net --bench notif -- --json     # the figures as JSON instead of the table
//! ```
//!
//! Every figure is measured in the run, and none is asserted, but for what has to balance. Receivers are processes of their own (this program
//! again, with `serve`). CPU time is that of the receiver's thread, or of its whole process with whoever takes the messages; on loopback the
//! kernel's part of receiving up to the socket's queue is done by whoever sends.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "../datagrams/pki.rs"]
#[allow(dead_code)]
mod pki;
#[path = "../datagrams/process.rs"]
#[allow(dead_code)]
mod process;
#[path = "../datagrams/report.rs"]
#[allow(dead_code)]
mod report;

mod load;
mod secure;
mod serve;

use std::time::Duration;

use load::Load;
use report::Report;
use serve::{Server, Snapshot};

const PARTS: [&str; 4] = ["plain", "segments", "dtls", "publishers"];
/// How long each load lasts.
const RUN: Duration = Duration::from_secs(4);

fn main() {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    if let ["serve", rest @ ..] = words.as_slice() {
        return serve::main(rest);
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
    let mut report = Report::new("notif", json);
    if wanted("plain") {
        plain(&mut report);
    }
    if wanted("segments") {
        segments(&mut report);
    }
    if wanted("dtls") {
        secure::one(&mut report);
    }
    if wanted("publishers") {
        secure::many(&mut report);
    }
    report.finish();
}

/// A load against a receiver: what the receiver did about it.
fn measure(server: &mut Server, load: &mut Load, rate: Option<f64>) -> (Snapshot, f64) {
    let before = Snapshot::ask(server);
    let seconds = load.run(server.addr, rate, RUN);
    (Snapshot::settled(server) - before, seconds)
}

fn plain(report: &mut Report) {
    const LEN: usize = 200;
    for round in 1..=2 {
        let mut server = Server::start(&["bare"]);
        let mut load = Load::new(4, LEN, 0);
        let (bare, seconds) = measure(&mut server, &mut load, None);
        bare.figures(report, &format!("plain 200 B, bare loop, {round}"), seconds);
        drop(server);

        let mut server = Server::start(&["plain", "plain"]);
        let mut load = Load::new(4, LEN, 0);
        let (flood, seconds) = measure(&mut server, &mut load, None);
        let name = format!("plain 200 B, receiver, {round}");
        flood.figures(report, &name, seconds);
        flood.balance(report, load.sent());
        let most = flood.received as f64 / seconds;
        for part in [0.5, 0.7] {
            let (paced, seconds) = measure(&mut server, &mut load, Some(most * part));
            let name = format!(
                "plain 200 B, receiver at {:.0} % of that, {round}",
                part * 100.0
            );
            paced.figures(report, &name, seconds);
        }
        drop(server);
    }
    let mut server = Server::start(&["plain", "gro"]);
    let mut load = Load::new(4, LEN, 32);
    let (flood, seconds) = measure(&mut server, &mut load, None);
    flood.figures(
        report,
        "plain 200 B, 32 in one send, receiver with GRO",
        seconds,
    );
    let most = flood.received as f64 / seconds;
    let (paced, seconds) = measure(&mut server, &mut load, Some(most * 0.7));
    paced.figures(report, "plain 200 B, the same at 70 % of that", seconds);
}

fn segments(report: &mut Report) {
    let mut server = Server::start(&["plain", "plain"]);
    let mut load = Load::segmented(4, 8_000, 1_200);
    let (flood, seconds) = measure(&mut server, &mut load, None);
    flood.figures(report, "plain 8 KB in 7 segments, receiver", seconds);
    let most = flood.received as f64 / seconds;
    let (first, _) = measure(&mut server, &mut load, Some(most * 0.5));
    for _ in 0..3 {
        measure(&mut server, &mut load, Some(most * 0.5));
    }
    let (last, seconds) = measure(&mut server, &mut load, Some(most * 0.5));
    last.figures(report, "plain 8 KB, receiver at 50 % of that", seconds);
    report.figure(
        "memory after the first paced load",
        first.resident as f64 / 1e6,
        "MB",
    );
    report.figure(
        "memory after five of them",
        last.resident as f64 / 1e6,
        "MB",
    );
}
