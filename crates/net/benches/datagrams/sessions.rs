//! Memory of an idle DTLS session as server: in our table, and of the engine alone.
//!
//! A process of its own makes the sessions in memory and drops the clients' ends at once; what it grows by is theirs.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use boring::ssl::SslVersion;
use homefleet_net::dtls::{Sessions, Versions};

use crate::bare::{self, Verifying};
use crate::handshakes::{config, connect, server_addr};
use crate::pki::{Ca, verifier};
use crate::process::{Own, resident};
use crate::report::Report;

const SESSIONS: usize = 10_000;
const WARM_UP: usize = 200;

pub(crate) fn run(report: &mut Report) {
    report.say("\nMemory of idle DTLS sessions as server (10,000 of them)");
    for (version, label) in [("1.2", "DTLS 1.2"), ("1.3", "DTLS 1.3")] {
        for (what, who) in [("table", "homefleet"), ("engine", "engine alone")] {
            let mut own = Own::start(&["hold", what, version]);
            let bytes: f64 = own.line().parse().unwrap();
            report.figure(&format!("session, {label}, {who}"), bytes, "bytes");
        }
    }
}

/// The holder: says how many bytes a session costs.
pub(crate) fn main(args: &[&str]) {
    let (version, versions) = match args {
        [_, "1.2"] => (SslVersion::DTLS1_2, Versions::Dtls12),
        [_, "1.3"] => (SslVersion::DTLS1_3, Versions::Dtls13),
        _ => panic!("hold table|engine 1.2|1.3"),
    };
    let bytes = match args {
        ["table", _] => table(versions),
        _ => engine(version),
    };
    println!("{bytes}");
}

fn grown(mut hold: impl FnMut(usize)) -> u64 {
    let me = std::process::id();
    (0..WARM_UP).for_each(&mut hold);
    let before = resident(me);
    (WARM_UP..WARM_UP + SESSIONS).for_each(&mut hold);
    resident(me).saturating_sub(before) / SESSIONS as u64
}

fn table(versions: Versions) -> u64 {
    let ca = Ca::new();
    let verifier = verifier(&ca.root_pem());
    let table = |id: &str| {
        let credentials = ca.issue(id, false).credentials();
        Sessions::new(config(versions), credentials, verifier.clone()).unwrap()
    };
    let (mut server, mut client) = (table("self::server.example"), table("os::00D09E-0001"));
    let start = Instant::now();
    let bytes = grown(|n| {
        let now = start + Duration::from_millis(n as u64);
        let from = SocketAddr::from(([198, 51, (n >> 8) as u8, n as u8], 5684));
        let id = connect(now, &mut client, &mut server, from, server_addr());
        // Its last word is not carried: the server's end stays.
        client.close(now, id);
        while client.poll_transmit().is_some() {}
    });
    assert_eq!(server.len(), WARM_UP + SESSIONS);
    bytes
}

fn engine(version: SslVersion) -> u64 {
    let ca = Ca::new();
    let client = bare::context(
        &ca.issue("os::00D09E-0001", false),
        version,
        Verifying::Nothing,
    );
    let server = bare::context(
        &ca.issue("self::server.example", false),
        version,
        Verifying::Nothing,
    );
    let mut held = Vec::with_capacity(WARM_UP + SESSIONS);
    grown(|_| held.push(bare::handshake(&client, &server).1))
}
