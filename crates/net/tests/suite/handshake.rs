//! RFC 6347 and RFC 9147: handshakes between two tables, over good and bad networks.

use std::time::Duration;

use homefleet_net::dtls::{Config, Version, Versions};

use crate::support::pair::{AGENT, CONTROLLER, Weather, addr, expect, pair};
use crate::support::pki::Leaf;

fn exchange(versions: Versions, version: Version) {
    let (mut net, _ca, agent, controller) = pair(
        1,
        Config {
            versions,
            ..Config::default()
        },
    );
    let id = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(2));

    let ours = net.node(agent).established();
    assert_eq!(ours.len(), 1);
    assert_eq!(ours[0].session, id);
    assert!(ours[0].initiated);
    assert_eq!(ours[0].version, version);
    assert!(ours[0].peer.is_endpoint(CONTROLLER));
    assert!(!ours[0].peer.is_endpoint(AGENT));

    let theirs = net.node(controller).established();
    assert_eq!(theirs.len(), 1);
    assert!(!theirs[0].initiated);
    assert_eq!(theirs[0].sni.as_deref(), Some("localhost"));
    assert!(theirs[0].peer.is_endpoint(AGENT));

    net.send(agent, id, b"up");
    let back = theirs[0].session;
    net.send(controller, back, b"down");
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(controller).data(), [b"up".to_vec()]);
    assert_eq!(net.node(agent).data(), [b"down".to_vec()]);
    assert_eq!(net.node(agent).sessions.stats().handshakes_out, 1);
    assert_eq!(net.node(controller).sessions.stats().handshakes_in, 1);
    assert_eq!(net.node(controller).sessions.half_open(), 0);
}

#[test]
fn dtls_1_3_is_mutual_and_serves_both_directions() {
    exchange(Versions::Both, Version::Dtls13);
}

#[test]
fn dtls_1_2_is_mutual_and_serves_both_directions() {
    exchange(Versions::Dtls12, Version::Dtls12);
}

#[test]
fn address_literal_is_not_sent_as_server_name() {
    let (mut net, _ca, agent, controller) = pair(1, Config::default());
    net.connect(agent, controller, expect("192.0.2.0", Some(CONTROLLER)));
    net.run(Duration::from_secs(2));
    assert_eq!(net.node(controller).established()[0].sni, None);
}

#[test]
fn handshake_ends_under_loss_duplication_and_reordering() {
    let mut done = 0;
    for seed in 0..60 {
        let versions = if seed % 2 == 0 {
            Versions::Dtls12
        } else {
            Versions::Dtls13
        };
        let (mut net, _ca, agent, controller) = pair(
            seed + 1,
            Config {
                versions,
                handshake_timeout: Duration::from_secs(120),
                ..Config::default()
            },
        );
        net.weather = Weather {
            loss: 25,
            duplicate: 10,
            jitter_ms: 80,
        };
        let id = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
        net.run(Duration::from_secs(120));
        if net.node(agent).established().len() == 1 {
            done += 1;
            // Both ends agree in the end, and data passes.
            net.weather = Weather::default();
            net.send(agent, id, b"after the storm");
            net.run(Duration::from_secs(5));
            let data = net.node(controller).data();
            assert_eq!(
                data,
                [b"after the storm".to_vec()],
                "seed {seed} {versions:?}"
            );
        }
    }
    assert!(done >= 58, "{done} of 60 handshakes ended");
}

#[test]
fn lost_flights_are_retransmitted_after_the_configured_second() {
    let (mut net, _ca, agent, controller) = pair(1, Config::default());
    net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    assert_eq!(net.intercept().len(), 1);
    net.run(Duration::from_millis(900));
    assert_eq!(net.node(agent).sessions.stats().retransmissions, 0);
    net.run(Duration::from_millis(110));
    assert_eq!(net.node(agent).sessions.stats().retransmissions, 1);
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(agent).established().len(), 1);
}

#[test]
fn flights_are_fragmented_to_the_configured_mtu() {
    for versions in [Versions::Dtls12, Versions::Dtls13] {
        let config = Config {
            versions,
            mtu: 300,
            ..Config::default()
        };
        let (mut net, ca, agent, _) = pair(1, config.clone());
        let big = addr(3);
        let mut leaf = Leaf::endpoint(CONTROLLER);
        leaf.padding = 64;
        net.add(big, config, &ca.issue(&leaf), ca.verifier());
        net.connect(agent, big, expect("localhost", Some(CONTROLLER)));
        net.run(Duration::from_secs(3));
        assert_eq!(net.node(agent).established().len(), 1, "{versions:?}");
        assert_eq!(net.node(big).established().len(), 1, "{versions:?}");
        assert!(net.node(big).largest <= 300, "{}", net.node(big).largest);
        assert!(net.node(agent).largest <= 300);
    }
}

#[test]
fn large_message_is_refused_rather_than_split() {
    let (mut net, _ca, agent, controller) = pair(1, Config::default());
    let id = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(2));
    let now = net.now;
    let max = net.node(agent).sessions.max_payload();
    assert!(max >= 1152, "a whole CoAP message fits: {max}");
    assert!(
        net.node(agent)
            .sessions
            .send(now, id, &vec![0; max + 1])
            .is_err()
    );
    net.send(agent, id, &vec![7; max]);
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(controller).data(), [vec![7; max]]);
    assert!(net.node(agent).largest <= Config::default().mtu);
}

#[test]
fn peers_without_a_common_version_get_an_alert() {
    let (mut net, ca, agent, _) = pair(
        1,
        Config {
            versions: Versions::Dtls12,
            ..Config::default()
        },
    );
    let modern = addr(3);
    net.add(
        modern,
        Config {
            versions: Versions::Dtls13,
            ..Config::default()
        },
        &ca.endpoint(CONTROLLER),
        ca.verifier(),
    );
    net.connect(agent, modern, expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(2));
    assert!(net.node(agent).established().is_empty());
    assert!(matches!(
        net.node(agent).events[..],
        [homefleet_net::dtls::Event::Failed {
            failure: homefleet_net::dtls::Failure::Alert(70),
            initiated: true,
            ..
        }]
    ));
}

#[test]
fn nothing_but_null_compression_is_offered_and_chosen() {
    for versions in [Versions::Dtls12, Versions::Dtls13] {
        let (mut net, _ca, agent, controller) = pair(
            1,
            Config {
                versions,
                ..Config::default()
            },
        );
        net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
        let hello = net.intercept().remove(0).2;
        // Record header 13, handshake header 12, version 2, random 32; then session ID, cookie, suites, compression.
        let mut at = 13 + 12 + 2 + 32;
        for size in [1, 1, 2] {
            let len = hello[at..at + size]
                .iter()
                .fold(0, |len, byte| len << 8 | usize::from(*byte));
            at += size + len;
        }
        assert_eq!(hello[at..at + 2], [1, 0], "{versions:?}");
        net.inject(agent, controller, &hello);
        let answer = net.intercept().remove(0).2;
        // Session ID, suite 2, compression.
        let session_id = usize::from(answer[13 + 12 + 2 + 32]);
        assert_eq!(
            answer[13 + 12 + 2 + 32 + 1 + session_id + 2],
            0,
            "{versions:?}"
        );
    }
}
