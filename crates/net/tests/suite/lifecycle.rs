//! How associations end, and how a new one takes the place of an old one.

use std::time::Duration;

use homefleet_net::dtls::{CloseReason, Config, Event, Failure, Sessions, Versions};

use crate::support::pair::{AGENT, CONTROLLER, expect, pair};

#[test]
fn close_notify_ends_both_sides() {
    for versions in [Versions::Dtls12, Versions::Dtls13] {
        let (mut net, _ca, agent, controller) = pair(
            1,
            Config {
                versions,
                ..Config::default()
            },
        );
        let id = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
        net.run(Duration::from_secs(2));
        net.send(agent, id, b"last words");
        let now = net.now;
        net.node(agent).sessions.close(now, id);
        net.run(Duration::from_secs(2));
        assert_eq!(net.node(controller).data(), [b"last words".to_vec()]);
        assert_eq!(net.node(controller).closed(), [CloseReason::Peer]);
        assert!(net.node(agent).sessions.is_empty());
        assert!(net.node(controller).sessions.is_empty());
        assert_eq!(net.node(controller).sessions.stats().closed_by_peer, 1);
        assert_eq!(net.node(agent).sessions.stats().closed_by_us, 1);
        // Nothing is armed any more.
        assert_eq!(net.node(agent).sessions.poll_timeout(), None);
        assert_eq!(net.node(controller).sessions.poll_timeout(), None);
    }
}

#[test]
fn server_can_close_too_and_everybody_at_once() {
    let (mut net, _ca, agent, controller) = pair(1, Config::default());
    net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(2));
    let now = net.now;
    net.node(controller).sessions.close_all(now);
    net.run(Duration::from_secs(2));
    assert_eq!(net.node(agent).closed(), [CloseReason::Peer]);
}

#[test]
fn idle_association_is_closed_on_both_sides() {
    let config = Config {
        idle_timeout: Duration::from_secs(100),
        ..Config::default()
    };
    let (mut net, _ca, agent, controller) = pair(1, config);
    let id = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(60));
    net.send(agent, id, b"tick");
    net.run(Duration::from_secs(90));
    assert!(net.node(agent).closed().is_empty());
    assert!(net.node(controller).closed().is_empty());
    net.run(Duration::from_secs(20));
    let all: Vec<CloseReason> = [net.node(agent).closed(), net.node(controller).closed()].concat();
    assert_eq!(all.len(), 2);
    assert!(all.contains(&CloseReason::Idle));
    assert!(net.node(agent).sessions.is_empty());
    assert!(net.node(controller).sessions.is_empty());
}

#[test]
fn restarted_peer_replaces_its_old_association() {
    let (mut net, ca, agent, controller) = pair(1, Config::default());
    net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(2));
    let old = net.node(controller).established()[0].session;

    // The agent restarts on the same port and has forgotten everything.
    net.node(agent).sessions = Sessions::new(
        Config::default(),
        ca.endpoint(AGENT).credentials(),
        ca.verifier(),
    )
    .unwrap();
    net.node(agent).events.clear();
    let id = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(2));
    let new = net.node(controller).established()[1].session;
    assert_ne!(old, new);
    assert_eq!(
        net.node(controller).closed(),
        [CloseReason::Replaced { by: new }]
    );
    assert_eq!(net.node(controller).sessions.established(agent), Some(new));
    assert_eq!(net.node(controller).sessions.len(), 1);
    net.send(agent, id, b"again");
    net.run(Duration::from_secs(1));
    assert!(net.node(controller).events.iter().any(
        |event| matches!(event, Event::Data { session, payload, .. } if *session == new && payload == b"again")
    ));
}

#[test]
fn every_record_of_a_datagram_is_read() {
    for versions in [Versions::Dtls12, Versions::Dtls13] {
        let config = Config {
            versions,
            ..Config::default()
        };
        let (mut net, _ca, agent, controller) = pair(1, config);
        let id = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
        net.run(Duration::from_secs(2));
        let mut datagram = Vec::new();
        for text in ["one", "two", "three"] {
            net.send(agent, id, text.as_bytes());
            datagram.extend(net.intercept().remove(0).2);
        }
        let now = net.now;
        net.node(agent).sessions.close(now, id);
        net.collect();
        datagram.extend(net.intercept().remove(0).2);
        net.inject(agent, controller, &datagram);
        net.run(Duration::from_secs(1));
        assert_eq!(
            net.node(controller).data(),
            [&b"one"[..], b"two", b"three"],
            "{versions:?}"
        );
        assert_eq!(net.node(controller).closed(), [CloseReason::Peer]);
    }
}

#[test]
fn handshake_without_an_answer_ends_in_time() {
    let (mut net, _ca, agent, controller) = pair(1, Config::default());
    net.nodes.remove(&controller);
    net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(59));
    assert!(net.node(agent).events.is_empty());
    net.run(Duration::from_secs(2));
    assert!(matches!(
        net.node(agent).events[..],
        [Event::Failed {
            failure: Failure::Timeout,
            initiated: true,
            ..
        }]
    ));
    assert!(net.node(agent).sessions.is_empty());
    assert_eq!(net.node(agent).sessions.stats().handshake_timeouts, 1);
}

#[test]
fn handshake_that_is_given_up_is_over_for_the_peer_too() {
    // In 1.3 the client is done when it has the server's flight.
    let patient = Config {
        versions: Versions::Dtls12,
        ..Config::default()
    };
    let hasty = Config {
        handshake_timeout: Duration::from_secs(5),
        ..patient.clone()
    };
    let (mut net, ca, agent, controller) = pair(1, patient);
    net.add(agent, hasty, &ca.endpoint(AGENT), ca.verifier());
    net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    // The controller has the agent's last flight and is done; its own gets lost, and all that follows but the end.
    net.run(Duration::from_millis(17));
    net.intercept();
    net.weather.loss = 100;
    net.run(Duration::from_millis(4950));
    net.intercept();
    net.weather.loss = 0;
    assert!(net.node(agent).events.is_empty());
    net.run(Duration::from_millis(1600));
    assert!(matches!(
        net.node(agent).events[..],
        [Event::Failed {
            failure: Failure::Timeout,
            ..
        }]
    ));
    assert_eq!(net.node(controller).established().len(), 1);
    assert_eq!(net.node(controller).closed(), [CloseReason::Alert(90)]);
}

#[test]
fn second_connect_joins_the_handshake_under_way() {
    let (mut net, _ca, agent, controller) = pair(1, Config::default());
    let first = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    let second = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    assert_eq!(first, second);
    net.run(Duration::from_secs(2));
    assert_eq!(net.node(agent).established().len(), 1);
}

#[test]
fn nothing_is_sent_before_the_handshake_is_done() {
    let (mut net, _ca, agent, controller) = pair(1, Config::default());
    let id = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    let now = net.now;
    assert_eq!(
        net.node(agent).sessions.send(now, id, b"early"),
        Err(homefleet_net::dtls::SendError::NotEstablished)
    );
    assert_eq!(
        net.node(agent)
            .sessions
            .send(now, homefleet_coap::SessionId(999), b"nobody"),
        Err(homefleet_net::dtls::SendError::Unknown)
    );
}

#[test]
fn forged_records_are_no_sign_of_life() {
    let config = Config {
        idle_timeout: Duration::from_secs(100),
        ..Config::default()
    };
    let (mut net, _ca, agent, controller) = pair(1, config);
    let id = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(2));
    let heard = net.node(agent).sessions.last_heard(id);
    for _ in 0..10 {
        net.run(Duration::from_secs(9));
        // A protected record of DTLS 1.3, which nobody can decrypt.
        net.inject(
            controller,
            agent,
            &[
                0x2f, 0, 9, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18,
                19, 20,
            ],
        );
    }
    assert_eq!(net.node(agent).sessions.last_heard(id), heard);
    net.run(Duration::from_secs(12));
    assert_eq!(net.node(agent).sessions.len(), 0);
}
