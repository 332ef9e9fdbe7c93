//! Datagrams in the name of the peer, into handshakes under way: what can be ignored is, what cannot is not the end.

use std::time::Duration;

use homefleet_net::dtls::{Config, Event, Failure, Sessions, Versions};

use crate::support::pair::{AGENT, CONTROLLER, Net, addr, expect, pair};
use crate::support::pki::Ca;

const BOTH: [Versions; 2] = [Versions::Dtls12, Versions::Dtls13];

fn config(versions: Versions) -> Config {
    Config {
        versions,
        ..Config::default()
    }
}

/// One unprotected record, numbered 200.
fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, 254, 253, 0, 0, 0, 0, 0, 0, 0, 200, 0];
    record.push(u8::try_from(content.len()).unwrap());
    record.extend(content);
    record
}

fn alert(level: u8, code: u8) -> Vec<u8> {
    record(21, &[level, code])
}

/// An unprotected handshake message that no engine can use.
fn nonsense(kind: u8, sequence: u8) -> Vec<u8> {
    record(
        22,
        &[kind, 0, 0, 4, 0, sequence, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4],
    )
}

/// Lets the handshake go on datagram by datagram, with `forge` thrown at both sides before each.
fn step_by_step(net: &mut Net, forge: &[Vec<u8>]) {
    let (agent, controller) = (addr(1), addr(2));
    loop {
        let flight = net.intercept();
        if flight.is_empty() {
            return;
        }
        for (from, to, datagram) in flight {
            for forged in forge {
                // A stranger would be turned away; the handshake has to be there.
                if net.node(controller).sessions.half_open() > 0 {
                    net.inject(agent, controller, forged);
                }
                net.inject(controller, agent, forged);
            }
            net.inject(from, to, &datagram);
        }
    }
}

#[test]
fn forged_alerts_do_not_end_a_handshake_under_way() {
    for versions in BOTH {
        for (level, code) in [(2, 40), (2, 70), (2, 48), (1, 0), (1, 112)] {
            let (mut net, _ca, agent, controller) = pair(1, config(versions));
            net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
            step_by_step(&mut net, &[alert(level, code)]);
            net.run(Duration::from_secs(5));
            for node in [agent, controller] {
                assert_eq!(
                    net.node(node).established().len(),
                    1,
                    "{versions:?} {level} {code}"
                );
                let forged = net.node(node).sessions.stats().forged_alerts;
                assert_eq!(forged > 0, code != 112, "{versions:?} {level} {code}");
            }
        }
    }
}

#[test]
fn alert_of_a_peer_that_falls_silent_ends_the_handshake_after_a_second() {
    let (mut net, _ca, agent, controller) = pair(1, Config::default());
    net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    net.intercept();
    net.nodes.remove(&controller);
    net.inject(controller, agent, &alert(2, 40));
    net.run(Duration::from_millis(900));
    assert!(net.node(agent).events.is_empty());
    net.run(Duration::from_millis(200));
    assert!(matches!(
        net.node(agent).events[..],
        [Event::Failed {
            failure: Failure::Alert(40),
            initiated: true,
            ..
        }]
    ));
    assert!(net.node(agent).sessions.is_empty());
    assert_eq!(net.node(agent).sessions.stats().forged_alerts, 0);
}

#[test]
fn unprotected_records_do_not_disturb_a_handshake_that_is_protected_by_now() {
    // In 1.3 the server reads only protected records once it has answered, the client once it was answered.
    let config = Config {
        mtu: 500,
        ..config(Versions::Dtls13)
    };
    let (mut net, _ca, agent, controller) = pair(1, config);
    net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    for (from, to, datagram) in net.intercept() {
        net.inject(from, to, &datagram);
    }
    let junk: Vec<Vec<u8>> = (0..30)
        .flat_map(|kind| [nonsense(kind, 1), nonsense(kind, 2), record(20, &[1])])
        .chain([
            record(22, b"short"),
            record(26, b"\0\x01x"),
            record(25, b"x"),
        ])
        .filter(|datagram| datagram[0] != 22 || !(1..=2).contains(&datagram[13]))
        .collect();
    for datagram in &junk {
        net.inject(agent, controller, datagram);
    }
    // Its answer reaches the agent, all but the last datagram, so that it is not done either.
    let mut flight = net.intercept();
    assert!(flight.len() > 2);
    let last = flight.pop().unwrap();
    for (from, to, datagram) in flight {
        net.inject(from, to, &datagram);
    }
    for datagram in &junk {
        net.inject(controller, agent, datagram);
    }
    assert_eq!(net.node(agent).established().len(), 0);
    net.inject(last.0, last.1, &last.2);
    net.run(Duration::from_millis(100));
    for node in [agent, controller] {
        let events = net.node(node).events.clone();
        assert_eq!(net.node(node).established().len(), 1, "{node} {events:?}");
        let stats = net.node(node).sessions.stats();
        assert!(stats.late_plaintext >= 80, "{}", stats.late_plaintext);
    }
}

#[test]
fn handshake_of_ours_that_a_forger_has_spoilt_is_begun_anew() {
    for versions in BOTH {
        let (mut net, _ca, agent, controller) = pair(1, config(versions));
        let id = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
        // A ServerHello that cannot be read, before the controller's own.
        net.inject(controller, agent, &nonsense(2, 0));
        net.run(Duration::from_secs(10));
        assert_eq!(
            net.node(agent).sessions.established(controller),
            Some(id),
            "{versions:?}"
        );
        // The answer to the spoilt hello may spoil the next one.
        let begun_anew = net.node(agent).sessions.stats().begun_anew;
        assert!((1..=3).contains(&begun_anew), "{begun_anew}");
        assert_eq!(net.node(controller).established().len(), 1);
        assert!(net.node(controller).closed().is_empty());
        net.send(agent, id, b"there");
        net.run(Duration::from_secs(1));
        assert_eq!(net.node(controller).data(), [b"there".to_vec()]);
    }
}

#[test]
fn handshake_that_is_spoilt_every_time_fails_in_the_end() {
    let (mut net, _ca, agent, controller) = pair(1, Config::default());
    net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    net.nodes.remove(&controller);
    for n in 0..4 {
        assert!(net.node(agent).events.is_empty(), "{n}");
        net.inject(controller, agent, &nonsense(2, 0));
    }
    assert!(matches!(
        net.node(agent).events[..],
        [Event::Failed {
            failure: Failure::Engine(_),
            ..
        }]
    ));
    assert_eq!(net.node(agent).sessions.stats().begun_anew, 3);
    assert!(net.node(agent).sessions.is_empty());
}

#[test]
fn answer_of_a_forger_that_leads_nowhere_is_given_up() {
    for versions in BOTH {
        let ca = Ca::new("Test CA");
        let mut net = Net::new(1);
        let (agent, controller, forger) = (addr(1), addr(2), addr(3));
        for (n, id) in [(agent, AGENT), (controller, CONTROLLER), (forger, "os::f")] {
            net.add(n, config(versions), &ca.endpoint(id), ca.verifier());
        }
        let id = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
        let hello = net.intercept().remove(0).2;
        // A genuine ServerHello to that very hello, from somebody else, in the controller's name: what follows it does not.
        net.inject(agent, forger, &hello);
        let forged = net.intercept().remove(0).2;
        let server_hello = 13 + usize::from(u16::from_be_bytes([forged[11], forged[12]]));
        net.inject(controller, agent, &forged[..server_hello]);
        net.inject(agent, controller, &hello);
        net.run(Duration::from_secs(30));
        assert_eq!(
            net.node(agent).sessions.established(controller),
            Some(id),
            "{versions:?}"
        );
        assert!(net.node(agent).sessions.stats().begun_anew >= 1);
    }
}

#[test]
fn repeated_forged_hello_does_not_keep_the_true_one_waiting() {
    let (mut net, ca, agent, controller) = pair(1, Config::default());
    let mut other = Sessions::new(
        Config::default(),
        ca.endpoint("os::other").credentials(),
        ca.verifier(),
    )
    .unwrap();
    let now = net.now;
    other
        .connect(now, controller, expect("localhost", None))
        .unwrap();
    let forged = other.poll_transmit().unwrap().payload;
    net.inject(agent, controller, &forged);
    net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    // In the agent's name, without a pause. The agent also gets what the controller answers to it.
    for _ in 0..300 {
        net.inject(agent, controller, &forged);
        net.run(Duration::from_millis(40));
    }
    assert_eq!(net.node(agent).established().len(), 1);
    assert!(net.node(controller).sessions.stats().restarted >= 1);
}

#[test]
fn handshakes_for_two_purposes_do_not_end_each_other() {
    let (mut net, _ca, agent, controller) = pair(1, Config::default());
    let first = net.connect(agent, controller, expect("localhost", Some(CONTROLLER)));
    let now = net.now;
    for host in ["localhost", "controller.example.com"] {
        assert_eq!(
            net.node(agent)
                .sessions
                .connect(now, controller, expect(host, None)),
            Err(homefleet_net::dtls::ConnectError::UnderWay(first))
        );
    }
    net.run(Duration::from_secs(1));
    let sessions = &mut net.node(agent).sessions;
    assert_eq!(sessions.established(controller), Some(first));
    assert_eq!(sessions.stats().handshakes_out, 1);
    // It serves whom the certificate names, too, and nobody else.
    assert!(sessions.serves(first, &expect("localhost", Some(CONTROLLER))));
    assert!(sessions.serves(first, &expect("localhost", None)));
    assert!(!sessions.serves(first, &expect("controller.example.com", None)));
    assert!(!sessions.serves(first, &expect("localhost", Some("os::else"))));
    assert!(net.node(agent).closed().is_empty());
}
