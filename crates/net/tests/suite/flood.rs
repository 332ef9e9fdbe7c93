//! ClientHellos from forged addresses, by the tens of thousands: who is there stays, who comes gets in, and the victims whose
//! addresses are forged get little.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use homefleet_coap::{Code, Request, Scheme};
use homefleet_net::coap::Target;
use homefleet_net::dtls::{Config, Sessions, Versions};

use crate::support::nodes::node;
use crate::support::pair::{AGENT, CONTROLLER, Dice, Net, addr, expect};
use crate::support::pki::Ca;

const HELLOS: u32 = 50_000;
/// Virtual time that they take.
const SECONDS: u32 = 5;
const HALF_OPEN: usize = 1024;

/// A ClientHello that a client would send, to be given new randoms.
fn template(ca: &Ca, server: SocketAddr, now: Instant, versions: Versions) -> Vec<u8> {
    let config = Config {
        versions,
        ..Config::default()
    };
    let forger = ca.endpoint("os::forger");
    let mut client = Sessions::new(config, forger.credentials(), ca.verifier()).unwrap();
    client
        .connect(now, server, expect("localhost", None))
        .unwrap();
    client.poll_transmit().unwrap().payload
}

/// Record header 13, handshake header 12, version 2, then the random.
fn randomise(hello: &mut [u8], dice: &mut Dice) {
    for chunk in hello[27..59].chunks_mut(8) {
        chunk.copy_from_slice(&dice.next().to_be_bytes());
    }
}

fn anywhere(dice: &mut Dice) -> SocketAddr {
    let ip = Ipv4Addr::from(0x0b00_0000 + (dice.next() % 0x5000_0000) as u32);
    SocketAddr::from((ip, 1024 + (dice.next() % 60_000) as u16))
}

#[test]
fn fifty_thousand_forged_hellos_leave_peers_newcomers_and_victims_alone() {
    let ca = Ca::new("Test CA");
    let mut net = Net::new(1);
    let server = addr(1);
    let config = Config {
        max_half_open: HALF_OPEN,
        ..Config::default()
    };
    let pressure = config.pressure;
    let budget = config.global_budget;
    let patient = config.patient_budget;
    net.add(server, config, &ca.endpoint(CONTROLLER), ca.verifier());
    // Twenty peers are there, and talk all the time.
    let peers: Vec<_> = (0..20)
        .map(|n| {
            let peer = addr(300 + n);
            let issued = ca.endpoint(&format!("os::dev-{n}"));
            net.add(peer, Config::default(), &issued, ca.verifier());
            let id = net.connect(peer, server, expect("localhost", Some(CONTROLLER)));
            (peer, id)
        })
        .collect();
    net.run(Duration::from_secs(2));
    assert_eq!(net.node(server).established().len(), peers.len());

    let mut dice = Dice::new(9);
    let mut hello = template(&ca, server, net.now, Versions::Both);
    let step = Duration::from_secs(SECONDS.into()) / HELLOS;
    let mut received: HashMap<SocketAddr, u64> = HashMap::new();
    let mut newcomers = Vec::new();
    let mut half_open = 0;
    let mut processor = Duration::ZERO;
    let before = net.node(server).sessions.stats();
    for n in 0..HELLOS {
        let from = anywhere(&mut dice);
        randomise(&mut hello, &mut dice);
        *received.entry(from).or_default() += hello.len() as u64;
        let start = Instant::now();
        let now = net.now;
        net.node(server).sessions.handle_input(now, from, &hello);
        processor += start.elapsed();
        net.run(step);
        half_open = half_open.max(net.node(server).sessions.half_open());
        if n % 1000 == 0 {
            let (peer, id) = peers[(n / 1000) as usize % peers.len()];
            net.send(peer, id, b"still here");
        }
        // Ten newcomers in the midst of it, none of whom is known.
        if n % 4000 == 2000 && newcomers.len() < 10 {
            let newcomer = addr(600 + newcomers.len() as u16);
            let issued = ca.endpoint(&format!("os::new-{n}"));
            net.add(newcomer, Config::default(), &issued, ca.verifier());
            net.connect(newcomer, server, expect("localhost", Some(CONTROLLER)));
            newcomers.push((newcomer, net.now));
        }
    }
    // What is to be proven has to be so while the flood lasts: it goes on for those who came last.
    let flood_ends = net.now;
    let in_time = newcomers
        .iter()
        .filter(|(newcomer, _)| net.nodes[newcomer].established().len() == 1)
        .count();
    net.run(Duration::from_secs(30));

    let node = net.node(server);
    let stats = node.sessions.stats();
    assert!(node.closed().is_empty(), "{:?}", node.closed());
    assert_eq!(node.data().len(), (HELLOS / 1000) as usize);
    assert!(half_open <= HALF_OPEN, "{half_open}");
    assert!(node.sessions.len() <= HALF_OPEN + peers.len() + newcomers.len());
    // A key exchange and a signature for these only, whatever comes in.
    let handshakes = stats.handshakes_in - before.handshakes_in;
    let most =
        budget.burst + patient.burst + SECONDS * (budget.per_second + patient.per_second) + 100;
    assert!(handshakes <= most.into(), "{handshakes}");
    let mut sent = 0;
    let mut worst = 0.0_f64;
    for (victim, got) in &received {
        let answered = node.sent_to.get(victim).copied().unwrap_or(0);
        sent += answered;
        worst = worst.max(answered as f64 / *got as f64);
    }
    let total: u64 = received.values().sum();
    let overall = sent as f64 / total as f64;
    println!(
        "{HELLOS} forged ClientHellos of {} bytes in {SECONDS} s: {handshakes} handshakes begun, {} turned away, {} \
         evicted; reflected {overall:.2} of the bytes received, to one address at most {worst:.2}; half-open at most \
         {half_open}; {in_time} of {} newcomers in while it lasted, of {} turned away first; {processor:?} of processor, \
         {:?} per handshake begun",
        hello.len(),
        stats.global_budget_exceeded,
        stats.half_open_evicted,
        newcomers.len(),
        stats.patient,
        processor / u32::try_from(handshakes).unwrap(),
    );
    // The first `pressure` of them come before there is pressure.
    let unpressed = pressure as f64 / received.len() as f64;
    assert!(overall <= 3.0 * (1.0 - unpressed) + 12.0 * unpressed);
    assert!(worst <= 12.0, "{worst}");
    let pressed = received
        .keys()
        .filter(|victim| {
            let answered = node.sent_to.get(victim).copied().unwrap_or(0);
            answered > 3 * received[victim]
        })
        .count();
    assert!(pressed <= pressure, "{pressed} addresses got more than 3x");
    // Everybody honest is in.
    let late = newcomers
        .iter()
        .filter(|(newcomer, _)| net.nodes[newcomer].established().len() != 1)
        .count();
    assert_eq!(late, 0);
    assert!(in_time > 0, "newcomers get in while the flood lasts");
    assert!(newcomers.iter().all(|(_, came)| *came < flood_ends));
}

#[test]
fn silent_address_gets_its_flight_three_times_and_never_more_than_the_limit() {
    for versions in [Versions::Dtls12, Versions::Dtls13] {
        let ca = Ca::new("Test CA");
        let mut net = Net::new(1);
        let server = addr(1);
        net.add(
            server,
            Config::default(),
            &ca.endpoint(CONTROLLER),
            ca.verifier(),
        );
        let victim = addr(900);
        let hello = template(&ca, server, net.now, versions);
        net.inject(victim, server, &hello);
        let flight = net.node(server).sent_to[&victim];
        net.run(Duration::from_secs(55));
        let node = net.node(server);
        let sent = node.sent_to[&victim];
        println!(
            "{versions:?}: {} bytes of ClientHello, a flight of {flight}, {sent} sent in all",
            hello.len()
        );
        assert!(sent <= 3 * flight + 100, "{versions:?} {sent}");
        assert!(sent <= 12 * hello.len() as u64, "{versions:?} {sent}");
        let stats = node.sessions.stats();
        assert!(stats.repeats_withheld > 0 || stats.amplification_held > 0);
        // The handshake is still there: who speaks again is answered.
        assert_eq!(node.sessions.half_open(), 1);
        net.inject(victim, server, &hello);
        net.run(Duration::from_secs(2));
        assert!(net.node(server).sent_to[&victim] > sent);
        net.run(Duration::from_secs(10));
        assert_eq!(net.node(server).sessions.len(), 0);
        assert_eq!(net.node(server).sessions.poll_timeout(), None);
    }
}

#[test]
fn client_that_was_turned_away_gets_in_with_the_same_hello() {
    let ca = Ca::new("Test CA");
    let mut net = Net::new(1);
    let (client, server) = (addr(1), addr(2));
    let spent = homefleet_net::dtls::Budget {
        burst: 0,
        per_second: 0,
    };
    let config = Config {
        global_budget: spent,
        ..Config::default()
    };
    net.add(
        client,
        Config::default(),
        &ca.endpoint(AGENT),
        ca.verifier(),
    );
    net.add(server, config, &ca.endpoint(CONTROLLER), ca.verifier());
    net.connect(client, server, expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_millis(900));
    assert_eq!(net.node(server).sessions.stats().global_budget_exceeded, 1);
    assert_eq!(net.node(server).sessions.len(), 0);
    net.run(Duration::from_millis(300));
    assert_eq!(net.node(client).established().len(), 1);
    assert_eq!(net.node(server).sessions.stats().patient, 1);
}

/// The same over real sockets: a thousand addresses of the loopback network.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn live_flood_from_a_thousand_addresses_disturbs_nobody() {
    let ca = Ca::new("Test CA");
    let server = node(&ca.endpoint(CONTROLLER), ca.verifier());
    let client = node(&ca.endpoint(AGENT), ca.verifier());
    let to = server.local_addr().unwrap();
    let target = Target {
        scheme: Scheme::Coaps,
        host: "localhost".to_owned(),
        port: to.port(),
        endpoint_id: Some(CONTROLLER.to_owned()),
    };
    let response = client.request(&target, Request::get("who")).await.unwrap();
    assert_eq!(response.payload, AGENT.as_bytes());

    let template = template(&ca, to, Instant::now(), Versions::Both);
    let flood = std::thread::spawn(move || {
        let mut dice = Dice::new(4);
        let mut hello = template;
        let mut sent = 0_u64;
        let mut back = 0_u64;
        let mut buffer = [0; 2048];
        for n in 0..1000_u32 {
            let ip = Ipv4Addr::from(0x7f01_0000 + n * 37 + 1);
            let socket = UdpSocket::bind((ip, 0)).unwrap();
            socket.set_nonblocking(true).unwrap();
            for _ in 0..10 {
                randomise(&mut hello, &mut dice);
                // A full buffer is the flood's own loss.
                if socket.send_to(&hello, to).is_ok() {
                    sent += hello.len() as u64;
                }
            }
            std::thread::yield_now();
            while let Ok(len) = socket.recv(&mut buffer) {
                back += len as u64;
            }
        }
        (sent, back)
    });
    for n in 0..20_u8 {
        let response = client
            .request(&target, Request::post("echo").payload(vec![n; 100]))
            .await
            .unwrap();
        assert_eq!(
            (response.code, response.payload),
            (Code::CHANGED, vec![n; 100])
        );
    }
    // Somebody who was never here comes in the midst of it.
    let newcomer = node(&ca.endpoint("os::newcomer"), ca.verifier());
    let response = newcomer
        .request(&target, Request::get("who"))
        .await
        .unwrap();
    assert_eq!(response.payload, b"os::newcomer");
    let (sent, _) = tokio::task::spawn_blocking(move || flood.join().unwrap())
        .await
        .unwrap();
    let response = client.request(&target, Request::get("who")).await.unwrap();
    assert_eq!(response.payload, AGENT.as_bytes());
    let stats = server.stats();
    println!(
        "live: {sent} bytes of forged ClientHellos; {} handshakes begun, half-open {} of {HALF_OPEN}, {} bytes sent by the \
         server in all, {:.2} of what it received",
        stats.dtls.handshakes_in,
        stats.half_open,
        stats.dtls.bytes_sent,
        stats.dtls.bytes_sent as f64 / stats.dtls.bytes_received as f64,
    );
    assert!(stats.half_open <= HALF_OPEN as u64);
    assert_eq!(stats.dtls.closed_by_us, 0);
    assert!(
        stats.dtls.handshakes_in > 100,
        "{}",
        stats.dtls.handshakes_in
    );
}

#[test]
fn flight_is_repeated_to_a_silent_address_a_configured_number_of_times() {
    for versions in [Versions::Dtls12, Versions::Dtls13] {
        for repeats in [0, 2, 4] {
            let ca = Ca::new("Test CA");
            let mut net = Net::new(1);
            let server = addr(1);
            let config = Config {
                // Not what ends it.
                amplification: 1000,
                unanswered_repeats: repeats,
                ..Config::default()
            };
            net.add(server, config, &ca.endpoint(CONTROLLER), ca.verifier());
            let victim = addr(900);
            let hello = template(&ca, server, net.now, versions);
            net.inject(victim, server, &hello);
            let flight = net.node(server).sent_to[&victim];
            net.run(Duration::from_secs(55));
            let sent = net.node(server).sent_to[&victim];
            let flights = (sent + flight / 2) / flight;
            assert_eq!(flights, 1 + u64::from(repeats), "{versions:?} {sent}");
        }
    }
}
