//! CPU and memory of datagrams: CoAP and coaps requests, DTLS handshakes, sessions and peers that come and go, beside the
//! engine alone and libcoap's servers in the same run.
//!
//! ```sh
//! cargo bench -p homefleet-net --bench datagrams              # everything; a table, and target/bench/datagrams.json
//! cargo bench -p homefleet-net --bench datagrams -- coaps     # one part: coap, coaps, handshakes, sessions, churn
//! cargo bench -p homefleet-net --bench datagrams -- --json    # the figures as JSON instead of the table
//! ```
//!
//! Every figure is measured in the run, and none is asserted. CPU time is that of the server's own process, or of the
//! thread, so that what else the machine does moves it little; rates are of a load generator that shares the machine.
//! Servers are processes of their own (this program again, with `serve`), so that their CPU and memory are theirs alone.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod bare;
mod churn;
mod handshakes;
mod load;
mod pki;
mod process;
mod report;
mod requests;
mod serve;
mod sessions;

use report::Report;

const PARTS: [&str; 5] = ["coap", "coaps", "handshakes", "sessions", "churn"];

fn main() {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", rest @ ..] => return serve::main(rest),
        ["hold", rest @ ..] => return sessions::main(rest),
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
    let mut report = Report::new("datagrams", json);
    if wanted("coap") {
        requests::coap(&mut report);
    }
    if wanted("coaps") {
        requests::coaps(&mut report);
    }
    if wanted("handshakes") {
        handshakes::run(&mut report);
    }
    if wanted("sessions") {
        sessions::run(&mut report);
    }
    if wanted("churn") {
        churn::run(&mut report);
    }
    report.finish();
}
