//! The `dimpl` crate (another DTLS implementation, 1.2 and 1.3) as client and as server, in virtual time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dimpl::{Dtls, DtlsCertificate, Output};
use homefleet_net::dtls::{Config, Event, Failure, Version};
use homefleet_trust::{Refusal, chain_from_pem};

use crate::support::pair::{AGENT, CONTROLLER, Net, addr, expect};
use crate::support::pki::{Ca, Issued, Leaf};

/// `dimpl` presents exactly one certificate, so it is issued by the root.
fn direct(ca: &Ca, id: &str) -> Issued {
    let mut leaf = Leaf::endpoint(id);
    leaf.through_intermediate = false;
    ca.issue(&leaf)
}

struct Peer {
    dtls: Dtls,
    connected: bool,
    closed: bool,
    failed: bool,
    data: Vec<u8>,
    leaf: Vec<u8>,
    /// All that it ever sent.
    sent: Vec<Vec<u8>>,
}

impl Peer {
    fn new(net: &Net, issued: &Issued, version: Version, client: bool) -> Self {
        let config = dimpl::Config::builder().build().unwrap();
        Self::with(net, issued, version, client, config)
    }

    fn with(
        net: &Net,
        issued: &Issued,
        version: Version,
        client: bool,
        config: dimpl::Config,
    ) -> Self {
        let key = boring::pkey::PKey::private_key_from_pem(issued.key.as_bytes()).unwrap();
        let certificate = DtlsCertificate {
            certificate: chain_from_pem(&issued.chain).unwrap().remove(0),
            private_key: key.private_key_to_der_pkcs8().unwrap(),
        };
        let config = Arc::new(config);
        let mut dtls = match version {
            Version::Dtls12 => Dtls::new_12(config, certificate, net.now),
            Version::Dtls13 => Dtls::new_13(config, certificate, net.now),
        };
        dtls.set_active(client);
        Self {
            dtls,
            connected: false,
            closed: false,
            failed: false,
            data: Vec::new(),
            leaf: Vec::new(),
            sent: Vec::new(),
        }
    }

    fn drain(&mut self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        let mut buffer = vec![0; 32_768];
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => packets.push(packet.to_vec()),
                Output::Connected => self.connected = true,
                Output::PeerCert(der) => self.leaf = der.to_vec(),
                Output::ApplicationData(data) => self.data.extend(data),
                Output::CloseNotify => self.closed = true,
                Output::Timeout(_) => {
                    self.sent.extend_from_slice(&packets);
                    return packets;
                }
                _ => {}
            }
        }
    }

    /// Exchanges datagrams with a table, a few milliseconds apart.
    fn run(&mut self, net: &mut Net, own: SocketAddr, table: SocketAddr) {
        for _ in 0..60 {
            if self.dtls.handle_timeout(net.now).is_err() {
                self.failed = true;
            }
            for packet in self.drain() {
                net.inject(own, table, &packet);
            }
            net.collect();
            for (_, to, datagram) in net.intercept() {
                assert_eq!(to, own);
                if self.dtls.handle_packet(&datagram).is_err() {
                    self.failed = true;
                }
                for packet in self.drain() {
                    net.inject(own, table, &packet);
                }
            }
            net.now += Duration::from_millis(30);
            let now = net.now;
            let sessions = &mut net.node(table).sessions;
            if sessions.poll_timeout().is_some_and(|due| due <= now) {
                sessions.handle_timeout(now);
            }
        }
    }
}

fn client(version: Version) {
    let ca = Ca::new("Interop CA");
    let (mut net, table, own) = (Net::new(1), addr(1), addr(50));
    net.add(
        table,
        Config::default(),
        &direct(&ca, CONTROLLER),
        ca.verifier(),
    );
    let mut peer = Peer::new(&net, &direct(&ca, AGENT), version, true);
    peer.run(&mut net, own, table);
    assert!(peer.connected, "{:?}", net.node(table).events);
    let established = net.node(table).established();
    assert_eq!(established.len(), 1);
    assert_eq!(established[0].version, version);
    assert!(established[0].peer.is_endpoint(AGENT));

    peer.dtls
        .send_application_data(b"hello from dimpl")
        .unwrap();
    net.send(table, established[0].session, b"hello from homefleet");
    peer.run(&mut net, own, table);
    assert_eq!(net.node(table).data(), [b"hello from dimpl".to_vec()]);
    assert_eq!(peer.data, b"hello from homefleet");

    let now = net.now;
    net.node(table).sessions.close(now, established[0].session);
    peer.run(&mut net, own, table);
    assert!(peer.closed);
}

#[test]
fn dimpl_client_is_served_in_1_3() {
    client(Version::Dtls13);
}

#[test]
fn dimpl_client_is_served_in_1_2() {
    client(Version::Dtls12);
}

fn server(version: Version) {
    let ca = Ca::new("Interop CA");
    let (mut net, table, own) = (Net::new(1), addr(1), addr(50));
    net.add(table, Config::default(), &direct(&ca, AGENT), ca.verifier());
    let mut peer = Peer::new(&net, &direct(&ca, CONTROLLER), version, false);
    let id = net.connect(table, own, expect("localhost", Some(CONTROLLER)));
    peer.run(&mut net, own, table);
    assert!(peer.connected, "{:?}", net.node(table).events);
    let established = net.node(table).established();
    assert_eq!(established[0].version, version);
    assert!(established[0].peer.is_endpoint(CONTROLLER));
    net.send(table, id, b"hello from homefleet");
    peer.dtls
        .send_application_data(b"hello from dimpl")
        .unwrap();
    peer.run(&mut net, own, table);
    assert_eq!(peer.data, b"hello from homefleet");
    assert_eq!(net.node(table).data(), [b"hello from dimpl".to_vec()]);
    // The other side closes.
    peer.dtls.close().unwrap();
    peer.run(&mut net, own, table);
    assert_eq!(
        net.node(table).closed(),
        [homefleet_net::dtls::CloseReason::Peer]
    );
}

#[test]
fn dimpl_server_is_spoken_to_in_1_3() {
    server(Version::Dtls13);
}

#[test]
fn dimpl_server_is_spoken_to_in_1_2() {
    server(Version::Dtls12);
}

#[test]
fn dimpl_server_with_another_endpoint_id_is_refused() {
    let ca = Ca::new("Interop CA");
    let (mut net, table, own) = (Net::new(1), addr(1), addr(50));
    net.add(table, Config::default(), &direct(&ca, AGENT), ca.verifier());
    let mut peer = Peer::new(&net, &direct(&ca, "self::else"), Version::Dtls13, false);
    net.connect(table, own, expect("acs.example.net", Some(CONTROLLER)));
    peer.run(&mut net, own, table);
    assert!(!peer.connected && peer.data.is_empty());
    assert!(matches!(
        &net.node(table).events[..],
        [Event::Refused { decision, alert: Some(42), .. }]
            if decision.refusal() == Some(&Refusal::NameMismatch)
    ));
}

#[test]
fn dimpl_client_of_another_ca_is_refused() {
    let ca = Ca::new("Interop CA");
    let other = Ca::new("Other CA");
    let (mut net, table, own) = (Net::new(1), addr(1), addr(50));
    net.add(
        table,
        Config::default(),
        &direct(&ca, CONTROLLER),
        ca.verifier(),
    );
    let mut peer = Peer::new(&net, &direct(&other, AGENT), Version::Dtls13, true);
    peer.run(&mut net, own, table);
    // In 1.3 a client is through before the server has judged it; nothing it says is delivered.
    let _said = peer.dtls.send_application_data(b"let me in");
    peer.run(&mut net, own, table);
    let node = net.node(table);
    assert!(node.established().is_empty() && node.data().is_empty());
    assert!(matches!(
        &node.events[..],
        [Event::Refused { decision, alert: Some(48), .. }]
            if decision.refusal() == Some(&Refusal::UnknownIssuer)
    ));
    assert!(!node.events.iter().any(|event| matches!(
        event,
        Event::Failed {
            failure: Failure::Engine(_),
            ..
        }
    )));
}

/// The low bits of the epoch of a protected record of DTLS 1.3 (RFC 9147 §4).
fn epoch(datagram: &[u8]) -> Option<u8> {
    let first = *datagram.first()?;
    (first >> 5 == 1).then_some(first & 3)
}

#[test]
fn after_key_updates_what_was_sent_before_is_delivered_once_or_not_at_all() {
    let ca = Ca::new("Interop CA");
    let (mut net, table, own) = (Net::new(1), addr(1), addr(50));
    let controller = direct(&ca, CONTROLLER);
    net.add(table, Config::default(), &controller, ca.verifier());
    // New keys after so few records.
    let config = dimpl::Config::builder().aead_encryption_limit(8);
    let config = config.build().unwrap();
    let mut peer = Peer::with(&net, &direct(&ca, AGENT), Version::Dtls13, true, config);
    peer.run(&mut net, own, table);
    assert!(peer.connected, "{:?}", net.node(table).events);

    // Each message is a datagram of its own; the first is held back on its way, and the last but one.
    let mut held_back = Vec::new();
    let mut epochs = Vec::new();
    let mut expected = Vec::new();
    for number in 0..60_u8 {
        let text = vec![number; 20];
        peer.dtls.send_application_data(&text).unwrap();
        let packets = peer.drain();
        let [packet] = packets.as_slice() else {
            panic!("{} datagrams", packets.len());
        };
        let epoch = epoch(packet).expect("a protected record");
        if epochs.last() != Some(&epoch) {
            epochs.push(epoch);
        }
        if number == 0 || number == 58 {
            held_back.push((text, packet.clone()));
        } else {
            net.inject(own, table, packet);
            expected.push(text);
        }
        peer.run(&mut net, own, table);
    }
    assert!(epochs.len() > 3, "{epochs:?}");
    assert_eq!(net.node(table).data(), expected);

    // All of it once more: nothing is delivered, and nobody is disturbed.
    let sent = peer.sent.clone();
    for datagram in sent
        .iter()
        .filter(|it| held_back.iter().all(|(_, held)| held != *it))
    {
        net.inject(own, table, datagram);
    }
    assert_eq!(net.node(table).data(), expected);
    // What was late by many keys is lost; what was late by a little arrives, once.
    let [(_, ancient), (text, late)] = held_back.as_slice() else {
        unreachable!("two were held back")
    };
    net.inject(own, table, ancient);
    assert_eq!(net.node(table).data(), expected);
    net.inject(own, table, late);
    net.inject(own, table, late);
    expected.push(text.clone());
    assert_eq!(net.node(table).data(), expected);
    // The association lives.
    let id = net.node(table).established()[0].session;
    net.send(table, id, b"still here");
    peer.run(&mut net, own, table);
    assert_eq!(peer.data, b"still here");
    assert!(net.node(table).closed().is_empty() && !peer.failed);
}

#[test]
fn keys_of_before_a_key_update_end_after_a_while() {
    let ca = Ca::new("Interop CA");
    let (mut net, table, own) = (Net::new(1), addr(1), addr(50));
    let controller = direct(&ca, CONTROLLER);
    net.add(table, Config::default(), &controller, ca.verifier());
    let config = dimpl::Config::builder().aead_encryption_limit(8);
    let config = config.build().unwrap();
    let mut peer = Peer::with(&net, &direct(&ca, AGENT), Version::Dtls13, true, config);
    peer.run(&mut net, own, table);
    peer.dtls.send_application_data(b"on its way").unwrap();
    let on_its_way = peer.drain().remove(0);
    let before = epoch(&on_its_way);
    let mut messages = 0;
    loop {
        peer.dtls.send_application_data(b"next").unwrap();
        let packet = peer.drain().remove(0);
        net.inject(own, table, &packet);
        messages += 1;
        if epoch(&packet) != before {
            break;
        }
        peer.run(&mut net, own, table);
    }
    assert_eq!(net.node(table).data().len(), messages);
    // Four minutes (RFC 9147 §8: the keys are kept for reordered records, not for ever).
    net.now += Duration::from_secs(241);
    net.inject(own, table, &on_its_way);
    assert_eq!(net.node(table).data().len(), messages);
}
