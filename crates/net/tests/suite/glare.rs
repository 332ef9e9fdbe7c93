//! Both sides begin at once: one association remains, and both know it.

use std::time::Duration;

use homefleet_net::dtls::{Config, Versions};

use crate::support::pair::{AGENT, CONTROLLER, Weather, expect, pair};

#[test]
fn glare_leaves_one_association_that_serves_both() {
    for seed in 0..20 {
        let versions = if seed % 2 == 0 {
            Versions::Dtls12
        } else {
            Versions::Dtls13
        };
        let (mut net, _ca, agent, controller) = pair(
            seed,
            Config {
                versions,
                ..Config::default()
            },
        );
        let a = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
        let b = net.connect(controller, agent, expect("localhost", Some(AGENT)));
        net.run(Duration::from_secs(5));
        for (node, own, peer) in [(agent, a, CONTROLLER), (controller, b, AGENT)] {
            let established = net.node(node).established();
            assert_eq!(established.len(), 1, "seed {seed} {versions:?}");
            // Whoever became the server, the association is the one that was asked for.
            assert_eq!(established[0].session, own);
            assert!(established[0].initiated);
            assert!(established[0].peer.is_endpoint(peer));
            assert_eq!(net.node(node).sessions.len(), 1);
        }
        let kept = net.node(agent).sessions.stats().glare_kept
            + net.node(controller).sessions.stats().glare_kept;
        let yielded = net.node(agent).sessions.stats().glare_yielded
            + net.node(controller).sessions.stats().glare_yielded;
        assert_eq!((kept, yielded), (1, 1));
        net.send(agent, a, b"from the agent");
        net.send(controller, b, b"from the controller");
        net.run(Duration::from_secs(1));
        assert_eq!(net.node(controller).data(), [b"from the agent".to_vec()]);
        assert_eq!(net.node(agent).data(), [b"from the controller".to_vec()]);
    }
}

#[test]
fn glare_is_settled_on_a_bad_network_too() {
    let mut done = 0;
    for seed in 0..30 {
        let (mut net, _ca, agent, controller) = pair(
            seed + 100,
            Config {
                handshake_timeout: Duration::from_secs(120),
                ..Config::default()
            },
        );
        net.weather = Weather {
            loss: 20,
            duplicate: 10,
            jitter_ms: 50,
        };
        net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
        net.connect(controller, agent, expect("localhost", Some(AGENT)));
        net.run(Duration::from_secs(125));
        net.weather = Weather::default();
        net.run(Duration::from_secs(5));
        let ours = net.node(agent).sessions.established(controller);
        let theirs = net.node(controller).sessions.established(agent);
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            net.send(agent, ours, b"there");
            net.send(controller, theirs, b"and back");
            net.run(Duration::from_secs(1));
            if net.node(controller).data() == [b"there".to_vec()]
                && net.node(agent).data() == [b"and back".to_vec()]
            {
                done += 1;
            }
        }
    }
    assert!(done >= 29, "{done} of 30");
}

#[test]
fn glare_loser_still_checks_whom_it_wanted_to_reach() {
    // The controller expects an Endpoint that the agent is not: refused, whichever role glare leaves it.
    for seed in 0..8 {
        let (mut net, _ca, agent, controller) = pair(seed, Config::default());
        net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
        net.connect(
            controller,
            agent,
            expect("device.example.net", Some("os::somebody-else")),
        );
        net.run(Duration::from_secs(5));
        assert!(net.node(controller).established().is_empty());
        assert!(net.node(controller).data().is_empty());
        assert_eq!(net.node(controller).sessions.stats().refused, 1);
    }
}

/// A ClientHello whose random beats every other.
fn overbearing(hello: &[u8]) -> Vec<u8> {
    let mut forged = hello.to_vec();
    // Record header 13, handshake header 12, version 2, then the random.
    forged[27..59].fill(0xff);
    forged
}

#[test]
fn forged_client_hellos_do_not_keep_us_from_connecting() {
    for versions in [Versions::Dtls12, Versions::Dtls13] {
        let (mut net, _ca, agent, controller) = pair(
            1,
            Config {
                versions,
                ..Config::default()
            },
        );
        let id = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
        let hello = net.intercept().remove(0).2;
        // Somebody answers in the controller's name, again and again, with a hello that wins every comparison.
        for n in 0..40_u8 {
            let mut forged = overbearing(&hello);
            forged[58] = n;
            net.inject(controller, agent, &forged);
            net.run(Duration::from_millis(500));
        }
        assert_eq!(
            net.node(agent).sessions.established(controller),
            Some(id),
            "{versions:?}"
        );
        assert!(net.node(agent).sessions.stats().insisted >= 1);
        assert!(net.node(agent).sessions.stats().glare_yielded <= 2);
    }
}

#[test]
fn connect_joins_the_handshake_that_the_peer_has_begun() {
    for versions in [Versions::Dtls12, Versions::Dtls13] {
        let (mut net, _ca, agent, controller) = pair(
            1,
            Config {
                versions,
                ..Config::default()
            },
        );
        let ours = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
        // The hello has arrived and is answered when the controller wants to speak too.
        net.run(Duration::from_millis(7));
        let theirs = net.connect(controller, agent, expect("localhost", Some(AGENT)));
        net.run(Duration::from_secs(2));
        assert_eq!(net.node(controller).established().len(), 1);
        assert_eq!(net.node(controller).established()[0].session, theirs);
        assert!(net.node(controller).established()[0].initiated);
        assert_eq!(net.node(agent).established()[0].session, ours);
        assert_eq!(net.node(controller).sessions.stats().handshakes_out, 0);
    }
}

#[test]
fn joined_handshake_is_judged_by_whom_we_want_to_reach() {
    for versions in [Versions::Dtls12, Versions::Dtls13] {
        for delay in [7, 17, 27] {
            let (mut net, _ca, agent, controller) = pair(
                1,
                Config {
                    versions,
                    ..Config::default()
                },
            );
            net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
            net.run(Duration::from_millis(delay));
            if net.node(controller).sessions.established(agent).is_some() {
                continue;
            }
            net.connect(
                controller,
                agent,
                expect("device.example.net", Some("os::else")),
            );
            net.run(Duration::from_secs(2));
            assert!(net.node(controller).established().is_empty());
            assert!(net.node(controller).data().is_empty());
            assert_eq!(
                net.node(controller).sessions.stats().refused,
                1,
                "{versions:?} {delay}"
            );
        }
    }
}

#[test]
fn purpose_that_comes_after_the_decision_is_judged_too() {
    for versions in [Versions::Dtls12, Versions::Dtls13] {
        let (mut net, _ca, agent, controller) = pair(
            1,
            Config {
                versions,
                mtu: 300,
                ..Config::default()
            },
        );
        net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
        // Until the agent's last flight, the one with its certificate: several datagrams.
        let mut flight = net.intercept();
        while flight.len() < 3 || flight[0].0 != agent {
            assert!(!flight.is_empty());
            for (from, to, datagram) in flight {
                net.inject(from, to, &datagram);
            }
            flight = net.intercept();
        }
        let last = flight.pop().unwrap();
        for (from, to, datagram) in flight {
            net.inject(from, to, &datagram);
        }
        // Its certificate has been accepted by now, as anybody's; the association is not there yet.
        assert!(net.node(controller).established().is_empty());
        net.connect(
            controller,
            agent,
            expect("device.example.net", Some("os::else")),
        );
        net.inject(last.0, last.1, &last.2);
        net.run(Duration::from_secs(2));
        assert!(
            net.node(controller).established().is_empty(),
            "{versions:?}"
        );
        assert_eq!(
            net.node(controller).sessions.stats().refused,
            1,
            "{versions:?}"
        );
    }
}

#[test]
fn forged_half_open_handshake_does_not_keep_us_from_connecting() {
    let (mut net, _ca, agent, controller) = pair(1, Config::default());
    // A hello in the agent's name reaches the controller just before it connects to the agent.
    net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    let hello = net.intercept().remove(0).2;
    let all: Vec<_> = net.node(agent).sessions.ids();
    let now = net.now;
    for id in all {
        net.node(agent).sessions.close(now, id);
    }
    net.inject(agent, controller, &overbearing(&hello));
    let id = net.connect(controller, agent, expect("localhost", Some(AGENT)));
    net.run(Duration::from_secs(10));
    assert_eq!(net.node(controller).sessions.established(agent), Some(id));
    assert_eq!(net.node(controller).sessions.stats().insisted, 1);
}
