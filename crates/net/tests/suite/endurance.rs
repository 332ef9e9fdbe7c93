//! Associations in the long run: records that come twice or late, peers that restart or move, certificates renewed, and how
//! much memory many of them take.

use std::net::SocketAddr;
use std::time::Duration;

use homefleet_net::dtls::{CloseReason, Config, Event, Sessions, Versions};

use crate::support::pair::{AGENT, CONTROLLER, Dice, Net, addr, expect, pair};
use crate::support::pki::{Ca, Leaf};

const BOTH: [Versions; 2] = [Versions::Dtls12, Versions::Dtls13];

fn config(versions: Versions) -> Config {
    Config {
        versions,
        ..Config::default()
    }
}

fn number(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload.try_into().unwrap())
}

#[test]
fn repeated_and_reordered_records_are_delivered_once() {
    for versions in BOTH {
        let (mut net, _ca, agent, controller) = pair(1, config(versions));
        let id = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
        // The handshake is recorded too: its records are replayed into the association that it made.
        let mut old = Vec::new();
        loop {
            let flight = net.intercept();
            if flight.is_empty() {
                break;
            }
            for (from, to, datagram) in flight {
                old.push((from, to, datagram.clone()));
                net.inject(from, to, &datagram);
            }
        }
        net.run(Duration::from_secs(3));
        let mut dice = Dice::new(5);
        let mut sent = 0;
        for _ in 0..50 {
            for _ in 0..20 {
                net.send(agent, id, &u32::to_be_bytes(sent));
                sent += 1;
            }
            let mut flight = net.intercept();
            // Within the window of 64 records (RFC 6347 §4.1.2.6) order does not matter.
            for n in (1..flight.len()).rev() {
                flight.swap(n, dice.next() as usize % (n + 1));
            }
            for (from, to, datagram) in flight {
                net.inject(from, to, &datagram);
                net.inject(from, to, &datagram);
                let (from_old, to_old, replayed) = &old[dice.next() as usize % old.len()];
                net.inject(*from_old, *to_old, replayed);
                old.push((from, to, datagram));
                net.intercept();
            }
        }
        let mut got: Vec<u32> = net
            .node(controller)
            .data()
            .iter()
            .map(|p| number(p))
            .collect();
        got.sort_unstable();
        assert_eq!(got, (0..sent).collect::<Vec<_>>(), "{versions:?}");
        for node in [agent, controller] {
            assert!(net.node(node).closed().is_empty(), "{versions:?}");
            assert_eq!(net.node(node).established().len(), 1);
        }
    }
}

#[test]
fn records_of_an_earlier_association_mean_nothing_in_the_next() {
    for versions in BOTH {
        let (mut net, _ca, agent, controller) = pair(1, config(versions));
        let id = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
        net.run(Duration::from_secs(3));
        let mut old = Vec::new();
        for n in 0..40_u32 {
            net.send(agent, id, &n.to_be_bytes());
            // Half of them were delivered then, half were caught.
            for (from, to, datagram) in net.intercept() {
                if n % 2 == 0 {
                    net.inject(from, to, &datagram);
                }
                old.push((from, to, datagram));
            }
        }
        let now = net.now;
        net.node(agent).sessions.close(now, id);
        net.run(Duration::from_secs(1));
        let id = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
        for (from, to, datagram) in &old {
            net.inject(*from, *to, datagram);
        }
        net.run(Duration::from_secs(3));
        for (from, to, datagram) in &old {
            net.inject(*from, *to, datagram);
        }
        net.send(agent, id, &u32::to_be_bytes(99));
        net.run(Duration::from_secs(1));
        let got: Vec<u32> = net
            .node(controller)
            .data()
            .iter()
            .map(|p| number(p))
            .collect();
        let mut expected: Vec<u32> = (0..40).step_by(2).collect();
        expected.push(99);
        assert_eq!(got, expected, "{versions:?}");
    }
}

/// A gateway between the agent and the controller gives the agent another outside address.
fn rebind(net: &mut Net, from: SocketAddr, to: SocketAddr) {
    let mut node = net.nodes.remove(&from).unwrap();
    node.events.clear();
    net.nodes.insert(to, node);
}

#[test]
fn peer_behind_a_new_address_is_back_by_resumption_in_one_round_trip_more() {
    for versions in BOTH {
        let (mut net, _ca, agent, controller) = pair(1, config(versions));
        let id = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
        net.run(Duration::from_secs(3));
        net.send(agent, id, b"before");
        net.run(Duration::from_secs(1));

        let moved = addr(700);
        rebind(&mut net, agent, moved);
        // What it says over the old association from there means nothing to the controller, and disturbs nothing.
        net.send(moved, id, b"lost");
        net.run(Duration::from_secs(1));
        assert_eq!(net.node(controller).data(), [b"before".to_vec()]);
        assert_eq!(net.node(controller).sessions.stats().stray, 1);

        // It doubts the association: the new one is there after how many one-way trips of 5 ms?
        let start = net.now;
        let new = net.connect(moved, controller, expect("localhost", Some(CONTROLLER)));
        let mut trips = 0;
        while net.node(moved).established().is_empty() {
            trips += 1;
            assert!(trips < 20);
            net.run(Duration::from_millis(5));
        }
        net.send(moved, new, b"after");
        net.run(Duration::from_millis(5));
        let said = (net.now - start).as_millis();
        println!(
            "{versions:?}: resumed from a new address, first message there after {said} ms of 10 ms round trips"
        );
        let established = net.node(moved).established();
        assert!(established[0].resumed, "{versions:?}");
        assert!(established[0].peer.is_endpoint(CONTROLLER));
        // A message alone takes half a round trip; the resumed handshake takes one round trip before it.
        assert_eq!(trips, 2, "{versions:?}");
        let data = net.node(controller).data();
        let data: Vec<_> = data.iter().map(Vec::as_slice).collect();
        assert_eq!(data, [&b"before"[..], b"after"], "{versions:?}");
        let last = net.node(controller).established().pop().unwrap();
        assert!(last.resumed && last.peer.is_endpoint(AGENT));
    }
}

#[test]
fn one_certificate_cannot_fill_the_table_from_many_ports() {
    let ca = Ca::new("Test CA");
    let mut net = Net::new(1);
    let server = addr(1);
    let limits = Config {
        max_per_certificate: 4,
        ..Config::default()
    };
    net.add(server, limits, &ca.endpoint(CONTROLLER), ca.verifier());
    let greedy = ca.endpoint("os::greedy");
    let other = addr(200);
    net.add(other, Config::default(), &ca.endpoint(AGENT), ca.verifier());
    let honest = net.connect(other, server, expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(2));
    let mut ids = Vec::new();
    for n in 0..10 {
        net.add(addr(300 + n), Config::default(), &greedy, ca.verifier());
        ids.push(net.connect(addr(300 + n), server, expect("localhost", Some(CONTROLLER))));
        net.run(Duration::from_secs(1));
        // The first one goes on talking: it is never the most silent.
        net.send(addr(300), ids[0], b"here");
        net.run(Duration::from_secs(1));
    }
    let node = net.node(server);
    assert_eq!(node.sessions.len(), 5);
    assert_eq!(node.sessions.stats().certificate_evicted, 6);
    assert_eq!(node.closed(), vec![CloseReason::Crowded; 6]);
    let closed: Vec<SocketAddr> = node
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Closed { addr, .. } => Some(*addr),
            _ => None,
        })
        .collect();
    let silent: Vec<SocketAddr> = (1..7).map(|n| addr(300 + n)).collect();
    assert_eq!(closed, silent);
    // Each was told, and nobody else is concerned.
    assert_eq!(net.node(addr(301)).closed(), [CloseReason::Peer]);
    assert_eq!(net.node(server).data().len(), 10);
    net.send(other, honest, b"me too");
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(server).data().len(), 11);
    // What was closed makes room.
    let now = net.now;
    net.node(addr(300)).sessions.close(now, ids[0]);
    net.run(Duration::from_secs(1));
    net.add(addr(390), Config::default(), &greedy, ca.verifier());
    net.connect(addr(390), server, expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(server).sessions.stats().certificate_evicted, 6);
}

#[test]
fn certificate_that_agents_share_serves_all_of_them() {
    let ca = Ca::new("Test CA");
    let mut net = Net::new(1);
    let server = addr(1);
    let limits = Config {
        max_per_certificate: 2,
        ..Config::default()
    };
    net.add(server, limits, &ca.endpoint(CONTROLLER), ca.verifier());
    let shared = ca.endpoint("os::00D09E-*");
    let mut ids = Vec::new();
    for n in 0..6 {
        net.add(addr(300 + n), Config::default(), &shared, ca.verifier());
        ids.push(net.connect(addr(300 + n), server, expect("localhost", Some(CONTROLLER))));
        net.run(Duration::from_secs(1));
    }
    for (n, id) in (0..).zip(&ids) {
        net.send(addr(300 + n), *id, b"here");
    }
    net.run(Duration::from_secs(1));
    let node = net.node(server);
    assert_eq!(node.data().len(), 6);
    assert_eq!(node.sessions.len(), 6);
    assert_eq!(node.sessions.stats().certificate_evicted, 0);
    assert!(node.closed().is_empty());
}

#[test]
fn renewed_certificate_serves_the_next_handshake_and_drops_no_association() {
    for versions in BOTH {
        let (mut net, ca, agent, controller) = pair(1, config(versions));
        let id = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
        net.run(Duration::from_secs(3));
        let back = net.node(controller).established()[0].session;
        let first = net.node(agent).established()[0].peer.fingerprint;

        let mut leaf = Leaf::endpoint(CONTROLLER);
        leaf.years = (2025, 2038);
        let renewed = ca.issue(&leaf).credentials();
        net.node(controller)
            .sessions
            .replace_credentials(renewed)
            .unwrap();
        net.send(agent, id, b"up");
        net.send(controller, back, b"down");
        net.run(Duration::from_secs(1));
        assert_eq!(net.node(controller).data(), [b"up".to_vec()]);
        assert_eq!(net.node(agent).data(), [b"down".to_vec()]);
        assert!(net.node(agent).closed().is_empty() && net.node(controller).closed().is_empty());

        // Who comes now, or comes again with a ticket, sees the new one.
        let late = addr(3);
        net.add(
            late,
            config(versions),
            &ca.endpoint("os::late"),
            ca.verifier(),
        );
        net.connect(late, controller, expect("localhost", Some(CONTROLLER)));
        let now = net.now;
        net.node(agent).sessions.close(now, id);
        net.run(Duration::from_secs(1));
        net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
        net.run(Duration::from_secs(3));
        let seen = net.node(late).established()[0].peer.fingerprint;
        assert_ne!(seen, first);
        let again = net.node(agent).established().pop().unwrap();
        assert_eq!(again.peer.fingerprint, seen, "{versions:?}");
        assert!(!again.resumed);
    }
}

#[test]
fn peer_that_restarts_again_and_again_on_one_port_is_served_each_time() {
    for versions in BOTH {
        let (mut net, ca, agent, controller) = pair(1, config(versions));
        let issued = ca.endpoint(AGENT);
        for n in 0..20_u32 {
            net.node(agent).sessions =
                Sessions::new(config(versions), issued.credentials(), ca.verifier()).unwrap();
            net.node(agent).events.clear();
            let id = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
            // Sometimes it dies in the midst of the handshake.
            if n % 3 == 1 {
                net.run(Duration::from_millis(7));
                net.intercept();
                continue;
            }
            net.run(Duration::from_secs(3));
            net.send(agent, id, &n.to_be_bytes());
            net.run(Duration::from_secs(1));
            let data = net.node(controller).data();
            assert_eq!(number(data.last().unwrap()), n, "{versions:?}");
            assert_eq!(net.node(controller).sessions.len(), 1);
        }
    }
}
