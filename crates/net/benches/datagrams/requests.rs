//! Server CPU per confirmable request of 300 bytes, without and with DTLS.

use std::time::Duration;

use boring::ssl::SslVersion;
use std::net::UdpSocket;

use crate::bare::{self, Secure, Verifying};
use crate::load::{Channel, Load, Method, Plain};
use crate::process::process_cpu;
use crate::report::Report;
use crate::serve::{Memory, Server, certificates};

const CLIENTS: [usize; 2] = [100, 1000];
/// Requests under way over all clients, so that the receive buffer that libcoap leaves at the system's default
/// (208 KiB, some 160 datagrams of this size) loses none.
const UNDER_WAY: usize = 128;
const WARM_UP: Duration = Duration::from_millis(500);
const MEASURE: Duration = Duration::from_secs(3);

/// Without security.
pub(crate) fn coap(report: &mut Report) {
    report.say("\nCoAP: CON, 300 bytes, piggybacked answer; CPU of the server's process");
    for clients in CLIENTS {
        let plain = |server: &Server| -> Vec<Plain> {
            (0..clients)
                .map(|_| Plain::connect(server.addr()))
                .collect()
        };
        let name = |who: &str| format!("coap, {clients} clients, {who}");
        let mut server = Server::socket();
        let channels = plain(&server);
        let socket = name("the socket alone");
        let socket = measure(
            report,
            &socket,
            &mut server,
            channels,
            Method::Post,
            UNDER_WAY,
        );
        let ours = {
            let mut server = Server::ours(Memory::Everything);
            let channels = plain(&server);
            let name = name("homefleet, nothing forgotten");
            measure(
                report,
                &name,
                &mut server,
                channels,
                Method::Post,
                UNDER_WAY,
            )
        };
        report.figure(
            &name("homefleet beyond the socket"),
            ours - socket,
            "us CPU/request",
        );
        let mut server = Server::ours(Memory::Defaults);
        let channels = plain(&server);
        let defaults = name("homefleet, defaults");
        measure(
            report,
            &defaults,
            &mut server,
            channels,
            Method::Post,
            UNDER_WAY,
        );
        if clients > UNDER_WAY {
            let mut server = Server::ours(Memory::Everything);
            let channels = plain(&server);
            let all = name("homefleet, all under way");
            measure(report, &all, &mut server, channels, Method::Post, clients);
            let mut server = Server::ours_everywhere(Memory::Everything);
            let channels = plain(&server);
            let wild = name("homefleet on [::]");
            measure(
                report,
                &wild,
                &mut server,
                channels,
                Method::Post,
                UNDER_WAY,
            );
        }
        let Some(mut server) = Server::libcoap() else {
            report.missing("coap-server-notls (libcoap3-bin)");
            continue;
        };
        let channels = plain(&server);
        let theirs = name("coap-server-notls");
        let theirs = measure(
            report,
            &theirs,
            &mut server,
            channels,
            Method::Put,
            UNDER_WAY,
        );
        report.figure(&name("libcoap's CPU / ours"), theirs / ours, "times");
    }
}

/// With certificates on both sides.
pub(crate) fn coaps(report: &mut Report) {
    report.say("\ncoaps: the same inside DTLS, AES-128-GCM, certificates on both sides");
    let (directory, client) = certificates();
    let directory = directory.path();
    for clients in CLIENTS {
        let name = |who: &str| format!("coaps, {clients} sessions, {who}");
        let mut ours = None;
        for (label, version) in [
            ("homefleet, DTLS 1.2", SslVersion::DTLS1_2),
            ("homefleet, DTLS 1.3", SslVersion::DTLS1_3),
        ] {
            let context = bare::context(&client, version, Verifying::Nothing);
            let mut server = Server::ours_secure(Memory::Everything, directory);
            let Some(channels) = secure(&server, &context, clients) else {
                report.missing("a handshake with our own server");
                continue;
            };
            let figure = measure(
                report,
                &name(label),
                &mut server,
                channels,
                Method::Post,
                UNDER_WAY,
            );
            ours.get_or_insert(figure);
        }
        let Some(mut server) = Server::libcoap_secure(directory) else {
            report.missing("coap-server-openssl (libcoap3-bin)");
            continue;
        };
        let context = bare::context(&client, SslVersion::DTLS1_2, Verifying::Nothing);
        let Some(channels) = secure(&server, &context, clients) else {
            report.missing("handshakes with coap-server-openssl");
            continue;
        };
        let label = name("coap-server-openssl, DTLS 1.2");
        let theirs = measure(
            report,
            &label,
            &mut server,
            channels,
            Method::Put,
            UNDER_WAY,
        );
        if let Some(ours) = ours {
            let label = name("libcoap's CPU / ours, DTLS 1.2");
            report.figure(&label, theirs / ours, "times");
        }
    }
}

fn secure(
    server: &Server,
    context: &boring::ssl::SslContext,
    clients: usize,
) -> Option<Vec<Secure>> {
    (0..clients)
        .map(|_| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(server.addr()).unwrap();
            Secure::connect(context, socket)
        })
        .collect()
}

/// Microseconds of CPU per request.
fn measure<C: Channel>(
    report: &mut Report,
    name: &str,
    server: &mut Server,
    channels: Vec<C>,
    method: Method,
    under_way: usize,
) -> f64 {
    let mut load = Load::new(channels, method, under_way);
    let warm = load.run(WARM_UP);
    let before = process_cpu(server.pid());
    let outcome = load.run(MEASURE);
    let cpu = process_cpu(server.pid()) - before;
    let each = cpu.as_secs_f64() * 1e6 / outcome.answered.max(1) as f64;
    report.figure(name, each, "us CPU/request");
    let counters = server.counters();
    report.say(&format!(
        "    {:.0} requests/s; sent again {}; answered from memory {}; forgotten early {}; server busy {:.0} %",
        outcome.answered as f64 / outcome.elapsed.as_secs_f64(),
        warm.repeated + outcome.repeated,
        counters.replayed,
        counters.forgotten,
        100.0 * cpu.as_secs_f64() / outcome.elapsed.as_secs_f64(),
    ));
    each
}
