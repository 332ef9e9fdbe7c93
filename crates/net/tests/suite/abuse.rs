//! Strangers and forgers: bounded, counted, and of no effect on others.

use std::net::SocketAddr;
use std::time::Duration;

use homefleet_net::dtls::{Budget, Config, Event, Failure, Sessions};

use crate::support::pair::{AGENT, CONTROLLER, Dice, addr, expect, pair};
use crate::support::pki::Ca;

/// A genuine ClientHello for `server`, as its client would send it from anywhere.
fn client_hello(ca: &Ca, server: SocketAddr, now: std::time::Instant) -> Vec<u8> {
    let mut client = Sessions::new(
        Config::default(),
        ca.endpoint("os::00D09E-9999").credentials(),
        ca.verifier(),
    )
    .unwrap();
    client
        .connect(now, server, expect("localhost", None))
        .unwrap();
    client.poll_transmit().unwrap().payload
}

#[test]
fn established_association_survives_a_forged_client_hello() {
    let (mut net, ca, agent, controller) = pair(1, Config::default());
    let id = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(2));
    let back = net.node(controller).established()[0].session;

    // Somebody else sends ClientHellos with the agent's address, again and again.
    for _ in 0..5 {
        let forged = client_hello(&ca, controller, net.now);
        net.inject(agent, controller, &forged);
        net.send(agent, id, b"still here");
        net.run(Duration::from_secs(2));
        net.send(controller, back, b"me too");
        net.run(Duration::from_secs(2));
    }
    assert_eq!(net.node(controller).data(), vec![b"still here".to_vec(); 5]);
    assert_eq!(net.node(agent).data(), vec![b"me too".to_vec(); 5]);
    net.run(Duration::from_secs(120));
    assert_eq!(net.node(controller).established().len(), 1);
    assert!(net.node(controller).closed().is_empty());
    assert_eq!(net.node(controller).sessions.established(agent), Some(back));
    // The forger's handshakes ran out of time, nothing is left of them.
    assert_eq!(net.node(controller).sessions.half_open(), 0);
    assert_eq!(net.node(controller).sessions.len(), 1);
}

#[test]
fn forged_alerts_and_close_notify_do_not_end_an_association() {
    for versions in [
        homefleet_net::dtls::Versions::Dtls12,
        homefleet_net::dtls::Versions::Dtls13,
    ] {
        let (mut net, _ca, agent, controller) = pair(
            1,
            Config {
                versions,
                ..Config::default()
            },
        );
        let id = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
        net.run(Duration::from_secs(2));
        for (level, alert) in [(1, 0), (2, 0), (2, 40), (2, 48)] {
            for epoch in [0, 1] {
                for sequence in [0, 1, 9, 200] {
                    let datagram = [
                        21, 254, 253, 0, epoch, 0, 0, 0, 0, 0, sequence, 0, 2, level, alert,
                    ];
                    net.inject(agent, controller, &datagram);
                    net.inject(controller, agent, &datagram);
                }
            }
        }
        net.send(agent, id, b"unmoved");
        net.run(Duration::from_secs(1));
        assert_eq!(net.node(controller).data(), [b"unmoved".to_vec()]);
        assert!(net.node(controller).closed().is_empty());
        assert!(net.node(agent).closed().is_empty());
    }
}

#[test]
fn garbage_and_strays_are_counted_and_nothing_else() {
    let (mut net, _ca, agent, controller) = pair(1, Config::default());
    let id = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(2));
    let mut dice = Dice::new(7);
    let before = net.node(controller).sessions.stats();
    let len = net.node(controller).sessions.len();
    for round in 0..5000_u16 {
        let size = usize::try_from(dice.next() % 1300).unwrap();
        let mut datagram: Vec<u8> = (0..size).map(|_| (dice.next() >> 32) as u8).collect();
        if round % 3 == 0 && size > 25 {
            // Looks like a record, even like a handshake message.
            let record = [
                22,
                254,
                253,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                ((size - 13) >> 8) as u8,
                (size - 13) as u8,
            ];
            datagram[..13].copy_from_slice(&record);
            datagram[13] = (round % 25) as u8 + 2;
        }
        let from = if round % 2 == 0 {
            agent
        } else {
            addr(500 + round)
        };
        net.inject(from, controller, &datagram);
    }
    net.inject(
        SocketAddr::from(([192, 0, 2, 9], 0)),
        controller,
        &[22, 254, 253],
    );
    let after = net.node(controller).sessions.stats();
    assert!(after.garbage + after.stray > before.garbage + before.stray + 2000);
    assert_eq!(after.from_port_zero, 1);
    assert_eq!(net.node(controller).sessions.len(), len);
    net.send(agent, id, b"unmoved");
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(controller).data(), [b"unmoved".to_vec()]);
    assert!(net.node(controller).closed().is_empty());
}

#[test]
fn damaged_handshake_datagrams_never_panic_and_never_let_in() {
    let mut dice = Dice::new(3);
    for seed in 0..40 {
        let (mut net, _ca, agent, controller) = pair(seed, Config::default());
        net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
        for _ in 0..6 {
            for (from, to, mut datagram) in net.intercept() {
                for _ in 0..1 + dice.next() % 4 {
                    let at = usize::try_from(dice.next()).unwrap() % datagram.len();
                    datagram[at] ^= 1 << (dice.next() % 8);
                }
                net.inject(from, to, &datagram);
            }
            net.run(Duration::from_millis(1));
        }
        assert!(net.node(controller).data().is_empty());
    }
}

#[test]
fn half_open_table_is_bounded_and_the_oldest_goes_first() {
    let config = Config {
        max_half_open: 16,
        ..Config::default()
    };
    let (mut net, ca, agent, controller) = pair(1, config);
    // One honest peer is established, another has just begun.
    let id = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(2));

    for n in 0..100_u16 {
        let hello = client_hello(&ca, controller, net.now);
        net.inject(addr(1000 + n), controller, &hello);
        net.intercept();
        net.run(Duration::from_millis(1));
        assert!(net.node(controller).sessions.half_open() <= 16);
        assert!(net.node(controller).sessions.len() <= 17);
    }
    let node = net.node(controller);
    assert_eq!(node.sessions.stats().half_open_evicted, 84);
    let evicted: Vec<SocketAddr> = node
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Failed {
                addr,
                failure: Failure::Evicted,
                ..
            } => Some(*addr),
            _ => None,
        })
        .collect();
    let oldest: Vec<SocketAddr> = (0..84).map(|n| addr(1000 + n)).collect();
    assert_eq!(evicted, oldest);
    // Who is authenticated does not notice.
    net.send(agent, id, b"unmoved");
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(controller).data(), [b"unmoved".to_vec()]);
}

#[test]
fn honest_peer_gets_in_beside_a_flood() {
    let config = Config {
        max_half_open: 64,
        pressure: 8,
        ..Config::default()
    };
    let (mut net, ca, agent, controller) = pair(1, config);
    let hello = client_hello(&ca, controller, net.now);
    net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    for n in 0..500_u16 {
        // The same hello from everywhere: what a reflector would send.
        net.inject(addr(1000 + n), controller, &hello);
        net.run(Duration::from_millis(20));
    }
    assert_eq!(net.node(agent).established().len(), 1);
    assert_eq!(net.node(controller).established().len(), 1);
}

#[test]
fn budgets_bound_handshakes_per_prefix_and_in_all() {
    let config = Config {
        prefix_budget: Budget {
            burst: 5,
            per_second: 1,
        },
        global_budget: Budget {
            burst: 8,
            per_second: 1,
        },
        ..Config::default()
    };
    let (mut net, ca, _agent, controller) = pair(1, config);
    let hello = client_hello(&ca, controller, net.now);
    for n in 0..10_u16 {
        net.inject(
            SocketAddr::from(([198, 51, 100, 1], 1000 + n)),
            controller,
            &hello,
        );
    }
    let stats = net.node(controller).sessions.stats();
    assert_eq!((stats.handshakes_in, stats.prefix_budget_exceeded), (5, 5));
    for n in 0..10_u16 {
        net.inject(
            SocketAddr::from(([198, 51, 101, 1], 1000 + n)),
            controller,
            &hello,
        );
    }
    let stats = net.node(controller).sessions.stats();
    assert_eq!(stats.handshakes_in, 8);
    assert_eq!(
        stats.global_budget_exceeded + stats.prefix_budget_exceeded,
        12
    );
    net.run(Duration::from_secs(1));
    net.inject(SocketAddr::from(([198, 51, 102, 1], 1)), controller, &hello);
    assert_eq!(net.node(controller).sessions.stats().handshakes_in, 9);
}

#[test]
fn unvalidated_address_gets_at_most_three_times_its_bytes_under_pressure() {
    let config = Config {
        pressure: 1,
        ..Config::default()
    };
    let (mut net, ca, _agent, controller) = pair(1, config);
    let hello = client_hello(&ca, controller, net.now);
    let victim = addr(900);
    let mut received = 0;
    for _ in 0..30 {
        net.inject(victim, controller, &hello);
        received += hello.len() as u64;
        let sent = net
            .node(controller)
            .sent_to
            .get(&victim)
            .copied()
            .unwrap_or(0);
        assert!(sent <= 3 * received, "{sent} bytes sent for {received}");
        net.run(Duration::from_secs(2));
        let sent = net
            .node(controller)
            .sent_to
            .get(&victim)
            .copied()
            .unwrap_or(0);
        assert!(sent <= 3 * received, "{sent} bytes sent for {received}");
    }
    assert!(net.node(controller).sessions.stats().amplification_held > 0);
}

#[test]
fn honest_client_gets_through_while_the_amplification_limit_holds() {
    let config = Config {
        pressure: 1,
        ..Config::default()
    };
    for versions in [
        homefleet_net::dtls::Versions::Dtls12,
        homefleet_net::dtls::Versions::Dtls13,
    ] {
        let (mut net, _ca, agent, controller) = pair(
            1,
            Config {
                versions,
                ..config.clone()
            },
        );
        net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
        net.run(Duration::from_secs(40));
        assert_eq!(net.node(agent).established().len(), 1, "{versions:?}");
        assert_eq!(
            net.node(controller).established()[0].peer.endpoint_ids,
            [AGENT]
        );
    }
}

#[test]
fn full_table_turns_new_peers_away_and_keeps_the_old() {
    let config = Config {
        max_sessions: 1,
        ..Config::default()
    };
    let (mut net, ca, agent, controller) = pair(1, config);
    let id = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(2));
    let hello = client_hello(&ca, controller, net.now);
    net.inject(addr(900), controller, &hello);
    assert_eq!(net.node(controller).sessions.stats().table_full, 1);
    assert_eq!(net.node(controller).sessions.len(), 1);
    net.send(agent, id, b"unmoved");
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(controller).data(), [b"unmoved".to_vec()]);
}
