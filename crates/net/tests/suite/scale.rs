//! Thousands of associations over one socket.

use std::time::Duration;

use homefleet_net::dtls::Config;

use crate::support::pair::{CONTROLLER, Net, addr, expect};
use crate::support::pki::Ca;

const PEERS: u16 = 3000;

#[test]
fn thousands_of_peers_share_one_socket_and_keep_apart() {
    let ca = Ca::new("Test CA");
    let mut net = Net::new(1);
    let server = addr(1);
    net.add(
        server,
        Config {
            max_per_certificate: usize::from(PEERS),
            ..Config::default()
        },
        &ca.endpoint(CONTROLLER),
        ca.verifier(),
    );
    // Ten certificates serve them all; identity is what matters.
    let issued: Vec<_> = (0..10)
        .map(|n| ca.endpoint(&format!("os::dev-{n}")))
        .collect();
    let mut kept = Vec::new();
    for n in 0..PEERS {
        let peer = addr(300 + n);
        net.add(
            peer,
            Config::default(),
            &issued[usize::from(n % 10)],
            ca.verifier(),
        );
        let id = net.connect(peer, server, expect("localhost", Some(CONTROLLER)));
        net.run(Duration::from_millis(60));
        net.send(peer, id, format!("I am {n}").as_bytes());
        net.run(Duration::from_millis(10));
        // Out of the network's way until it is spoken to; its silence is no end of the association.
        let node = net.nodes.remove(&peer).unwrap();
        if n % 97 == 0 {
            kept.push((peer, node));
        }
    }
    net.nodes.extend(kept);
    let established = net.node(server).established();
    assert_eq!(established.len(), usize::from(PEERS));
    for (n, association) in (0..PEERS).zip(&established) {
        assert!(association.peer.is_endpoint(&format!("os::dev-{}", n % 10)));
    }
    let said = net.node(server).data();
    assert_eq!(said.len(), usize::from(PEERS));
    // Answers reach whom they are for.
    for (n, association) in (0..PEERS).zip(&established).step_by(97) {
        net.send(
            server,
            association.session,
            format!("you are {n}").as_bytes(),
        );
    }
    net.run(Duration::from_secs(1));
    for n in (0..PEERS).step_by(97) {
        assert_eq!(
            net.node(addr(300 + n)).data(),
            [format!("you are {n}").into_bytes()]
        );
    }
    assert_eq!(net.node(server).sessions.len(), usize::from(PEERS));
    assert_eq!(net.node(server).sessions.half_open(), 0);
}
