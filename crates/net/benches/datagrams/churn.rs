//! Memory of a live server while peers come and go, each with an address of its own.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use boring::ssl::SslVersion;

use crate::bare::{self, Secure, Verifying};
use crate::load::{Channel, Method, request};
use crate::process::resident;
use crate::report::Report;
use crate::serve::{Memory, Server, certificates};

const PLAIN_PEERS: u32 = 200_000;
const DTLS_PEERS: u32 = 10_000;
/// Messages remembered over all peers, so that the bound is reached in the first quarter.
const REMEMBERED: usize = 40_000;
const REMEMBERED_DTLS: usize = 2_000;

pub(crate) fn run(report: &mut Report) {
    report.say("\nMemory while peers come, say one thing and go; the server's process");
    let mut server = Server::ours(Memory::Bounded(REMEMBERED));
    let to = server.addr();
    quarters(report, "churn, coap", &server, PLAIN_PEERS, |n| {
        let socket = peer(n, to);
        socket
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        let message = request(Method::Post, n as u16);
        (0..3).any(|_| {
            let sent = socket.send(&message).is_ok();
            sent && socket.recv(&mut [0; 256]).is_ok()
        })
    });
    let counters = server.counters();
    report.say(&format!(
        "    {} requests delivered, {} messages forgotten at the bound of {REMEMBERED}",
        counters.delivered, counters.forgotten
    ));

    let (directory, client) = certificates();
    let context = bare::context(&client, SslVersion::DTLS1_3, Verifying::Nothing);
    let mut server = Server::ours_secure(Memory::Bounded(REMEMBERED_DTLS), directory.path());
    let to = server.addr();
    quarters(report, "churn, coaps", &server, DTLS_PEERS, |n| {
        let Some(mut secure) = Secure::connect(&context, peer(n, to)) else {
            return false;
        };
        secure.send(&request(Method::Post, n as u16));
        let answered = wait(&mut secure);
        if n.is_multiple_of(2) {
            // The others vanish, and are dropped when they have been silent for three seconds.
            secure.close();
        }
        answered
    });
    let counters = server.counters();
    report.say(&format!(
        "    {} requests delivered, {} sessions at the end",
        counters.delivered, counters.sessions
    ));
}

fn quarters(
    report: &mut Report,
    name: &str,
    server: &Server,
    peers: u32,
    mut visit: impl FnMut(u32) -> bool,
) {
    let megabytes = || resident(server.pid()) as f64 / 1e6;
    report.figure(&format!("{name}, before the first peer"), megabytes(), "MB");
    let mut unanswered = 0;
    for quarter in 1..=4 {
        for n in (quarter - 1) * (peers / 4)..quarter * (peers / 4) {
            unanswered += u32::from(!visit(n));
        }
        let label = format!("{name}, after {} peers", quarter * (peers / 4));
        report.figure(&label, megabytes(), "MB");
    }
    if unanswered > 0 {
        report.say(&format!("    {unanswered} peers got no answer"));
    }
}

/// A socket at an address of loopback that no peer had before.
fn peer(n: u32, to: SocketAddr) -> UdpSocket {
    let ip = Ipv4Addr::from(0x7f01_0001 + n);
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.connect(to).unwrap();
    socket
}

fn wait(secure: &mut Secure) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        if secure.receive(&mut [0; 2048]).is_some() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}
