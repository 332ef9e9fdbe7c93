//! Resumed and open associations keep the verified identity, and only as long as it would be verified again.

use std::sync::Arc;
use std::time::Duration;

use homefleet_net::dtls::{CloseReason, Config, Event, SendError, TrustVerifier, Versions};
use homefleet_trust::{Policy, Refusal, Time, anchors_from_pem};

use crate::support::pair::{AGENT, CONTROLLER, Net, addr, expect};
use crate::support::pki::{Ca, today};

fn fleet(versions: Versions) -> (Net, Ca, Arc<TrustVerifier>, Arc<TrustVerifier>) {
    let ca = Ca::new("Test CA");
    let mut net = Net::new(1);
    let config = Config {
        versions,
        ..Config::default()
    };
    let (client, server) = (ca.verifier(), ca.verifier());
    net.add(addr(1), config.clone(), &ca.endpoint(AGENT), client.clone());
    net.add(addr(2), config, &ca.endpoint(CONTROLLER), server.clone());
    (net, ca, client, server)
}

/// Connects, waits for tickets, closes.
fn visit(net: &mut Net) {
    let id = net.connect(addr(1), addr(2), expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(3));
    let now = net.now;
    net.node(addr(1)).sessions.close(now, id);
    net.run(Duration::from_secs(3));
}

#[test]
fn resumed_association_keeps_the_verified_identity() {
    for versions in [Versions::Dtls12, Versions::Dtls13] {
        let (mut net, ..) = fleet(versions);
        visit(&mut net);
        visit(&mut net);
        for (node, peer) in [(addr(1), CONTROLLER), (addr(2), AGENT)] {
            let established = net.node(node).established();
            assert_eq!(established.len(), 2, "{versions:?}");
            assert!(!established[0].resumed);
            assert!(established[1].resumed, "{versions:?}");
            assert_eq!(established[0].peer, established[1].peer);
            assert!(established[1].peer.is_endpoint(peer));
        }
    }
}

#[test]
fn tickets_used_up_by_one_server_leave_those_of_others() {
    let ca = Ca::new("Test CA");
    let mut net = Net::new(1);
    let config = Config {
        max_tickets: 2,
        ..Config::default()
    };
    for (n, id) in [(1, AGENT), (2, CONTROLLER), (3, CONTROLLER)] {
        net.add(addr(n), config.clone(), &ca.endpoint(id), ca.verifier());
    }
    for server in [3, 2, 2, 2, 3] {
        let id = net.connect(addr(1), addr(server), expect("localhost", Some(CONTROLLER)));
        net.run(Duration::from_secs(3));
        let now = net.now;
        net.node(addr(1)).sessions.close(now, id);
        net.run(Duration::from_secs(3));
    }
    assert!(net.node(addr(3)).established()[1].resumed);
}

#[test]
fn resumption_can_be_switched_off() {
    let ca = Ca::new("Test CA");
    let mut net = Net::new(1);
    let config = Config {
        resumption: false,
        ..Config::default()
    };
    net.add(addr(1), config.clone(), &ca.endpoint(AGENT), ca.verifier());
    net.add(addr(2), config, &ca.endpoint(CONTROLLER), ca.verifier());
    visit(&mut net);
    visit(&mut net);
    assert!(!net.node(addr(1)).established()[1].resumed);
}

#[test]
fn changed_anchors_of_the_server_void_its_tickets_and_refuse_the_client() {
    for versions in [Versions::Dtls12, Versions::Dtls13] {
        let (mut net, _ca, _, server) = fleet(versions);
        visit(&mut net);
        let other = Ca::new("Other CA");
        server.replace_anchors(anchors_from_pem(&other.root_pem()).unwrap());
        net.node(addr(2)).events.clear();
        visit(&mut net);
        assert!(matches!(
            &net.node(addr(2)).events[..],
            [Event::Refused { decision, alert: Some(48), .. }]
                if decision.refusal() == Some(&Refusal::UnknownIssuer)
        ));
        assert_eq!(net.node(addr(2)).sessions.stats().resumed, 0);
    }
}

#[test]
fn changed_anchors_of_the_client_make_it_forget_its_tickets() {
    for versions in [Versions::Dtls12, Versions::Dtls13] {
        let (mut net, _ca, client, _) = fleet(versions);
        visit(&mut net);
        let other = Ca::new("Other CA");
        client.replace_anchors(anchors_from_pem(&other.root_pem()).unwrap());
        net.node(addr(1)).events.clear();
        visit(&mut net);
        assert!(matches!(
            &net.node(addr(1)).events[..],
            [Event::Refused { decision, alert: Some(48), .. }]
                if decision.refusal() == Some(&Refusal::UnknownIssuer)
        ));
    }
}

#[test]
fn resumption_is_refused_when_the_certificate_has_expired_meanwhile() {
    use std::sync::atomic::{AtomicBool, Ordering};
    for versions in [Versions::Dtls12, Versions::Dtls13] {
        let ca = Ca::new("Test CA");
        let mut net = Net::new(1);
        let late = Arc::new(AtomicBool::new(false));
        let config = Config {
            versions,
            ..Config::default()
        };
        let verifier = |late: Arc<AtomicBool>| {
            Arc::new(TrustVerifier::new(
                anchors_from_pem(&ca.root_pem()).unwrap(),
                Policy::default(),
                move || {
                    let years = u32::from(late.load(Ordering::SeqCst)) * 11;
                    Time::Accurate(today() + Duration::from_secs(31_557_600) * years)
                },
            ))
        };
        let never = Arc::new(AtomicBool::new(false));
        net.add(
            addr(1),
            config.clone(),
            &ca.endpoint(AGENT),
            verifier(never),
        );
        net.add(
            addr(2),
            config,
            &ca.endpoint(CONTROLLER),
            verifier(late.clone()),
        );
        visit(&mut net);
        late.store(true, Ordering::SeqCst);
        net.node(addr(2)).events.clear();
        visit(&mut net);
        let node = net.node(addr(2));
        assert!(node.established().is_empty(), "{versions:?}");
        assert!(
            matches!(
                &node.events[..],
                [Event::Refused { decision, alert: Some(45), .. }]
                    if decision.refusal() == Some(&Refusal::Expired { level: 0 })
            ),
            "{:?}",
            node.events
        );
        assert!(node.data().is_empty());
    }
}

#[test]
fn changed_anchors_void_tickets_even_where_the_peer_stays_trusted() {
    for versions in [Versions::Dtls12, Versions::Dtls13] {
        for at_server in [false, true] {
            let (mut net, ca, client, server) = fleet(versions);
            visit(&mut net);
            let other = Ca::new("Other CA");
            let both = format!("{}{}", ca.root_pem(), other.root_pem());
            let changed = if at_server { &server } else { &client };
            changed.replace_anchors(anchors_from_pem(&both).unwrap());
            visit(&mut net);
            let established = net.node(addr(2)).established();
            assert_eq!(established.len(), 2, "{versions:?} {at_server}");
            assert!(!established[1].resumed, "{versions:?} {at_server}");
            visit(&mut net);
            assert!(net.node(addr(2)).established()[2].resumed);
        }
    }
}

#[test]
fn open_association_ends_when_its_peer_is_trusted_no_more() {
    for versions in [Versions::Dtls12, Versions::Dtls13] {
        let (mut net, _ca, _, server) = fleet(versions);
        let other = anchors_from_pem(&Ca::new("Other CA").root_pem()).unwrap();
        let id = net.connect(addr(1), addr(2), expect("localhost", Some(CONTROLLER)));
        net.run(Duration::from_secs(3));
        net.send(addr(1), id, b"before");
        net.run(Duration::from_secs(1));
        server.replace_anchors(other);
        net.send(addr(1), id, b"after");
        net.run(Duration::from_secs(1));
        assert_eq!(net.node(addr(2)).data(), [b"before".to_vec()]);
        assert_eq!(net.node(addr(2)).closed(), [CloseReason::Distrusted]);
        assert_eq!(net.node(addr(2)).sessions.stats().distrusted, 1);
        assert!(net.node(addr(2)).sessions.is_empty());
        assert_eq!(net.node(addr(1)).closed(), [CloseReason::Alert(48)]);
    }
}

#[test]
fn nothing_is_sent_to_a_peer_that_is_trusted_no_more() {
    let (mut net, _ca, client, _) = fleet(Versions::Both);
    let other = anchors_from_pem(&Ca::new("Other CA").root_pem()).unwrap();
    let id = net.connect(addr(1), addr(2), expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(3));
    client.replace_anchors(other);
    let now = net.now;
    assert_eq!(
        net.node(addr(1)).sessions.send(now, id, b"secret"),
        Err(SendError::Unknown)
    );
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(addr(1)).closed(), [CloseReason::Distrusted]);
    assert!(net.node(addr(2)).data().is_empty());
    assert_eq!(net.node(addr(2)).closed(), [CloseReason::Alert(48)]);
}

#[test]
fn open_association_goes_on_when_its_peer_stays_trusted() {
    let (mut net, ca, _, server) = fleet(Versions::Both);
    let both = format!("{}{}", ca.root_pem(), Ca::new("Other CA").root_pem());
    let id = net.connect(addr(1), addr(2), expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(3));
    server.replace_anchors(anchors_from_pem(&both).unwrap());
    net.send(addr(1), id, b"on");
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(addr(2)).data(), [b"on".to_vec()]);
    let peer = net.node(addr(2)).established()[0].session;
    let node = net.node(addr(2));
    assert!(node.sessions.peer(peer).unwrap().is_endpoint(AGENT));
}
