//! One bad datagram must not disturb anything: each of these has stopped or corrupted a CoAP server somewhere.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use homefleet_coap::{Code, Request, Scheme};
use homefleet_net::coap::{Node, Target};
use homefleet_net::dtls::Config;
use homefleet_net::mtp::Interface;
use homefleet_usp::Record;

use crate::support::live::Live;
use crate::support::nodes::{bind, destination, mtp_config, node};
use crate::support::pair::{AGENT, CONTROLLER, Dice, expect};
use crate::support::pki::Ca;

/// Options as CoAP writes them (RFC 7252 §3.1).
fn options(list: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut last = 0;
    for (number, value) in list {
        let nibble = |n: usize| match n {
            0..=12 => (n as u8, vec![]),
            13..=268 => (13, vec![(n - 13) as u8]),
            _ => (14, ((n - 269) as u16).to_be_bytes().to_vec()),
        };
        let (delta, delta_more) = nibble(usize::from(number - last));
        let (len, len_more) = nibble(value.len());
        bytes.push(delta << 4 | len);
        bytes.extend(delta_more);
        bytes.extend(len_more);
        bytes.extend(*value);
        last = *number;
    }
    bytes
}

fn message(code: u8, id: u16, list: &[(u16, &[u8])], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x42, code];
    bytes.extend(id.to_be_bytes());
    bytes.extend([0xaa, id as u8]);
    bytes.extend(options(list));
    if !payload.is_empty() {
        bytes.push(0xff);
        bytes.extend(payload);
    }
    bytes
}

const GET: u8 = 1;
const POST: u8 = 2;
const URI_PATH: u16 = 11;
const URI_QUERY: u16 = 15;
const BLOCK1: u16 = 27;

/// The datagrams, with what they are.
fn bad(path: &str) -> Vec<(&'static str, Vec<u8>)> {
    let path = path.as_bytes();
    let long = vec![b'x'; 1300];
    let mut all = vec![
        (
            "a Uri-Path of 1,300 bytes",
            message(GET, 1, &[(URI_PATH, &long)], b""),
        ),
        // 70000 << 4 | M | SZX 6, in three bytes.
        (
            "Block NUM 70000",
            message(
                POST,
                2,
                &[
                    (URI_PATH, path),
                    (BLOCK1, &(70_000_u32 << 4 | 0xe).to_be_bytes()[1..]),
                ],
                &[b'b'; 1024],
            ),
        ),
        (
            "a first block numbered 5",
            message(
                POST,
                3,
                &[(URI_PATH, path), (BLOCK1, &[5 << 4 | 0xe])],
                &[b'b'; 1024],
            ),
        ),
        (
            "a last block that had no first",
            message(
                POST,
                4,
                &[(URI_PATH, path), (BLOCK1, &[6 << 4 | 0x6])],
                b"end",
            ),
        ),
        (
            "the reserved block size",
            message(
                POST,
                5,
                &[(URI_PATH, path), (BLOCK1, &[0xf])],
                &[b'b'; 1024],
            ),
        ),
        (
            "a block of 4 bytes",
            message(
                POST,
                6,
                &[(URI_PATH, path), (BLOCK1, &[0, 0, 0, 0x0e])],
                &[b'b'; 1024],
            ),
        ),
        ("an empty datagram", Vec::new()),
        ("version 2", vec![0x80, 1, 0, 1]),
        ("a reserved token length", vec![0x4f, 1, 0, 1]),
        ("a marker without payload", vec![0x40, 1, 0, 7, 0xff]),
        ("an Empty message with more", vec![0x40, 0, 0, 8, 1, 2, 3]),
        (
            "an unknown critical option",
            message(GET, 9, &[(URI_PATH, path), (2049, b"?")], b""),
        ),
        (
            "Proxy-Uri",
            message(GET, 10, &[(35, b"coap://elsewhere/")], b""),
        ),
        ("an ACK for nothing", vec![0x60, 0x44, 0x12, 0x34]),
        ("a RST for nothing", vec![0x70, 0, 0x12, 0x34]),
        ("a response for nothing", vec![0x41, 0x45, 0x12, 0x35, 9]),
    ];
    // Header, token and options of exactly 1,140 bytes, with a Block1 option: the last query fills up.
    for (what, block) in [
        ("options of exactly 1,140 bytes", vec![0x0e]),
        ("options of 1,140 bytes and the last block", vec![0x06]),
    ] {
        let mut fill = 0;
        let make = |fill: usize| {
            let q = vec![b'q'; 250];
            let mut list: Vec<(u16, &[u8])> = vec![(URI_PATH, path)];
            let last = vec![b'z'; fill];
            for _ in 0..4 {
                list.push((URI_QUERY, &q));
            }
            list.push((URI_QUERY, &last));
            list.push((BLOCK1, &block));
            message(POST, 11, &list, b"")
        };
        while make(fill).len() < 1140 {
            fill += 1;
        }
        assert_eq!(make(fill).len(), 1140);
        let mut datagram = make(fill);
        datagram.push(0xff);
        datagram.extend([b'p'; 64]);
        all.push((what, datagram));
    }
    let mut dice = Dice::new(11);
    for _ in 0..2000 {
        let len = usize::try_from(dice.next() % 200).unwrap();
        let mut datagram: Vec<u8> = (0..len).map(|_| (dice.next() >> 24) as u8).collect();
        if let Some(first) = datagram.first_mut() {
            *first = 0x40 | *first & 0x3f;
        }
        all.push(("random bytes", datagram));
    }
    all
}

/// Sends from UDP port 0, which no socket can: the header is written by hand.
fn from_port_zero(to: SocketAddr, payload: &[u8]) -> bool {
    use socket2::{Domain, Protocol, Socket, Type};
    let Ok(raw) = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)) else {
        println!("no privilege for a raw socket: port 0 is covered by the tables' own test");
        return false;
    };
    let mut packet = vec![0, 0];
    packet.extend(to.port().to_be_bytes());
    packet.extend(((payload.len() + 8) as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    raw.send_to(&packet, &to.into()).is_ok()
}

fn target(node: &Node, scheme: Scheme) -> Target {
    Target {
        scheme,
        host: "localhost".to_owned(),
        port: node.addr_of(scheme).unwrap().port(),
        endpoint_id: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn plain_endpoint_survives_every_bad_datagram() {
    let ca = Ca::new("Test CA");
    let server = node(&ca.endpoint(CONTROLLER), ca.verifier());
    let client = node(&ca.endpoint(AGENT), ca.verifier());
    let to = server.plain_addr().unwrap();
    let target = target(&server, Scheme::Coap);
    let bad = bad("echo");
    let total = bad.len();
    for (n, (what, datagram)) in bad.into_iter().enumerate() {
        // Each from its own socket, so that none is taken for a repetition.
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(&datagram, to).unwrap();
        if n < 20 || n % 200 == 0 {
            let body = format!("good after {what}").into_bytes();
            let response = client
                .request(&target, Request::post("echo").payload(body.clone()))
                .await
                .unwrap_or_else(|error| panic!("after {what}: {error}"));
            assert_eq!(
                (response.code, response.payload),
                (Code::CHANGED, body),
                "after {what}"
            );
        }
    }
    if from_port_zero(to, &message(GET, 77, &[(URI_PATH, b"big")], b"")) {
        for _ in 0..100 {
            if server.stats().coap.unanswerable_source == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(server.stats().coap.unanswerable_source, 1);
    }
    let response = client.request(&target, Request::get("big")).await.unwrap();
    assert_eq!(response.payload, crate::support::nodes::big());
    let stats = server.stats();
    assert!(stats.plain.received as usize >= total);
    assert!(stats.coap.format_errors > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn bad_blocks_are_answered_as_block_wise_transfer_says() {
    let ca = Ca::new("Test CA");
    let server = node(&ca.endpoint(CONTROLLER), ca.verifier());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.plain_addr().unwrap()).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    // 4.08 Request Entity Incomplete, and 4.00 for the reserved size (RFC 7959 §2.2, §2.9.2).
    for (what, code) in [
        ("Block NUM 70000", 0x88),
        ("a first block numbered 5", 0x88),
        ("a last block that had no first", 0x88),
        ("the reserved block size", 0x80),
    ] {
        let datagram = bad("echo")
            .into_iter()
            .find(|(name, _)| *name == what)
            .unwrap()
            .1;
        socket.send(&datagram).unwrap();
        let mut buffer = [0; 2000];
        let len = tokio::task::block_in_place(|| socket.recv(&mut buffer)).unwrap();
        assert!(len >= 4);
        assert_eq!(buffer[1], code, "{what}");
    }
    assert_eq!(server.stats().coap.requests_delivered, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn mtp_survives_bad_messages_of_an_authenticated_peer() {
    let ca = Ca::new("Test CA");
    let (controller, mut inbox) = bind(mtp_config(
        CONTROLLER,
        Interface::Controller,
        &ca.endpoint(CONTROLLER),
        ca.verifier(),
    ))
    .await;
    let (agent, _agent_inbox) = bind(mtp_config(
        AGENT,
        Interface::Agent,
        &ca.endpoint(AGENT),
        ca.verifier(),
    ))
    .await;
    let to = controller.local_addr();
    let mut hostile = Live::new(
        Config::default(),
        &ca.endpoint("os::hostile"),
        ca.verifier(),
    );
    let id = hostile
        .sessions
        .connect(Instant::now(), to, expect("localhost", Some(CONTROLLER)))
        .unwrap();
    tokio::task::block_in_place(|| {
        assert!(hostile.run(Duration::from_secs(5), |live| live.is_established()));
        for (n, (_, datagram)) in bad("usp").into_iter().enumerate() {
            let max = hostile.sessions.max_payload();
            let datagram = &datagram[..datagram.len().min(max)];
            if !datagram.is_empty() {
                hostile.sessions.send(Instant::now(), id, datagram).unwrap();
            }
            if n % 50 == 0 {
                hostile.run(Duration::from_millis(15), |_| false);
            }
        }
        hostile.run(Duration::from_millis(200), |_| false);
    });
    // Bare datagrams at the DTLS port, too.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for (_, datagram) in bad("usp").into_iter().take(200) {
        socket.send_to(&datagram, to).unwrap();
    }
    let raw = from_port_zero(to, &[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);

    let record = Record::no_session(
        CONTROLLER.parse().unwrap(),
        AGENT.parse().unwrap(),
        b"good".to_vec(),
    );
    agent
        .send(&destination("coaps", to, Some(CONTROLLER)), record.encode())
        .await
        .unwrap();
    let received = inbox.recv().await.unwrap();
    assert_eq!(received.record.message(), Some(&b"good"[..]));
    assert!(inbox.try_recv().is_err(), "nothing else was delivered");
    let stats = controller.stats();
    assert_eq!(stats.records_in, 1);
    assert!(
        stats.node.dtls.garbage >= 150,
        "{}",
        stats.node.dtls.garbage
    );
    assert_eq!(stats.node.dtls.from_port_zero, u64::from(raw));
    assert!(stats.node.coap.format_errors > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sending_to_closed_and_impossible_ports_disturbs_nothing() {
    let ca = Ca::new("Test CA");
    let server = node(&ca.endpoint(CONTROLLER), ca.verifier());
    let client = node(&ca.endpoint(AGENT), ca.verifier());
    let closed = crate::support::live::free_port();
    let nobody = Target {
        scheme: Scheme::Coap,
        host: "127.0.0.1".to_owned(),
        port: closed,
        endpoint_id: None,
    };
    let pending = {
        let client = client.clone();
        tokio::spawn(async move { client.request(&nobody, Request::get("big")).await })
    };
    let zero = Target {
        port: 0,
        ..target(&server, Scheme::Coap)
    };
    assert!(client.request(&zero, Request::get("big")).await.is_err());
    // ICMP errors come back meanwhile.
    for _ in 0..10 {
        let response = client
            .request(&target(&server, Scheme::Coap), Request::get("big"))
            .await
            .unwrap();
        assert_eq!(response.code, Code::CONTENT);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    pending.abort();
}
