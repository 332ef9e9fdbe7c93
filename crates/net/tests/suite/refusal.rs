//! R-MTP.1, R-MTP.3, R-MTP.4: every refusal sends its alert and lets no application data pass, in both roles.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use boring::ssl::{Ssl, SslContext, SslMethod, SslStream, SslVerifyMode, SslVersion};
use homefleet_net::dtls::{Config, Event, Failure, Version, Versions};
use homefleet_trust::Refusal;

use crate::support::pair::{AGENT, CONTROLLER, Net, addr, expect, pair};
use crate::support::pki::{Ca, Leaf};

/// A client of the bare engine that trusts everybody and may have no certificate.
struct BareClient {
    stream: SslStream<Pipe>,
}

#[derive(Default)]
struct Pipe {
    incoming: Vec<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let datagram = self.incoming.remove(0);
        buffer[..datagram.len()].copy_from_slice(&datagram);
        Ok(datagram.len())
    }
}

impl Write for Pipe {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.outgoing.push(datagram.to_vec());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BareClient {
    fn new(version: Version) -> Self {
        let mut context = SslContext::builder(SslMethod::dtls()).unwrap();
        context.set_verify(SslVerifyMode::NONE);
        let version = match version {
            Version::Dtls12 => SslVersion::DTLS1_2,
            Version::Dtls13 => SslVersion::DTLS1_3,
        };
        context.set_min_proto_version(Some(version)).unwrap();
        context.set_max_proto_version(Some(version)).unwrap();
        context.set_curves_list("X25519:P-256").unwrap();
        let ssl = Ssl::new(&context.build()).unwrap();
        Self {
            stream: SslStream::new(ssl, Pipe::default()).unwrap(),
        }
    }

    /// Runs against a table until neither says anything; returns the engine's last error.
    fn run(&mut self, net: &mut Net, own: SocketAddr, server: SocketAddr) -> String {
        let mut last = String::new();
        for _ in 0..20 {
            match self.stream.connect() {
                Ok(()) => {
                    // Once it thinks it is through, it talks at once.
                    let _written = self.stream.ssl_write(b"let me in");
                    if let Err(error) = self.stream.ssl_read(&mut [0; 2048]) {
                        last = error.to_string();
                    }
                }
                Err(error) => last = error.to_string(),
            }
            for datagram in std::mem::take(&mut self.stream.get_mut().outgoing) {
                net.inject(own, server, &datagram);
            }
            for (_, to, datagram) in net.intercept() {
                assert_eq!(to, own);
                self.stream.get_mut().incoming.push(datagram);
            }
        }
        last
    }
}

fn no_client_certificate(version: Version, alert: u8, heard: &str) {
    let (mut net, _ca, _agent, controller) = pair(1, Config::default());
    let stranger = addr(77);
    let mut client = BareClient::new(version);
    let last = client.run(&mut net, stranger, controller);
    let node = net.node(controller);
    assert!(node.established().is_empty());
    assert!(node.data().is_empty());
    let [
        Event::Refused {
            decision,
            alert: sent,
            initiated: false,
            ..
        },
    ] = &node.events[..]
    else {
        panic!("{:?}", node.events);
    };
    assert_eq!(decision.refusal(), Some(&Refusal::NoCertificate));
    assert_eq!(*sent, Some(alert));
    assert!(last.contains(heard), "{last}");
    assert_eq!(node.sessions.stats().refused, 1);
    assert_eq!(node.sessions.len(), 0);
}

#[test]
fn client_without_certificate_is_refused_in_1_2() {
    no_client_certificate(Version::Dtls12, 40, "HANDSHAKE_FAILURE");
}

#[test]
fn client_without_certificate_is_refused_in_1_3() {
    no_client_certificate(Version::Dtls13, 116, "CERTIFICATE_REQUIRED");
}

/// The agent (client) refuses the server's certificate.
fn server_refused(
    versions: Versions,
    leaf: &Leaf,
    other_ca: bool,
    expected: homefleet_net::dtls::Expected,
    refusal: &Refusal,
    alert: u8,
) {
    let config = Config {
        versions,
        ..Config::default()
    };
    let (mut net, ca, agent, _) = pair(1, config.clone());
    let server = addr(9);
    let issuer = if other_ca { Ca::new("Other CA") } else { ca };
    net.add(server, config, &issuer.issue(leaf), issuer.verifier());
    net.connect(agent, server, expected);
    net.run(Duration::from_secs(3));

    let node = net.node(agent);
    assert!(node.established().is_empty() && node.data().is_empty());
    let [
        Event::Refused {
            decision,
            alert: sent,
            initiated: true,
            ..
        },
    ] = &node.events[..]
    else {
        panic!("{:?}", node.events);
    };
    assert_eq!(decision.refusal(), Some(refusal));
    assert_eq!(*sent, Some(alert));
    assert!(node.sessions.is_empty());

    let node = net.node(server);
    assert!(node.established().is_empty() && node.data().is_empty());
    assert!(
        matches!(&node.events[..], [Event::Failed { failure: Failure::Alert(code), .. }] if *code == alert),
        "{:?}",
        node.events
    );
}

const BOTH: [Versions; 2] = [Versions::Dtls12, Versions::Dtls13];

#[test]
fn server_of_another_ca_is_refused() {
    for versions in BOTH {
        server_refused(
            versions,
            &Leaf::endpoint(CONTROLLER),
            true,
            expect("localhost", Some(CONTROLLER)),
            &Refusal::UnknownIssuer,
            48,
        );
    }
}

#[test]
fn expired_server_is_refused() {
    for versions in BOTH {
        let mut leaf = Leaf::endpoint(CONTROLLER);
        leaf.years = (2021, 2025);
        server_refused(
            versions,
            &leaf,
            false,
            expect("localhost", Some(CONTROLLER)),
            &Refusal::Expired { level: 0 },
            45,
        );
    }
}

#[test]
fn server_not_valid_yet_is_refused() {
    let mut leaf = Leaf::endpoint(CONTROLLER);
    leaf.years = (2030, 2036);
    server_refused(
        Versions::Both,
        &leaf,
        false,
        expect("localhost", Some(CONTROLLER)),
        &Refusal::NotYetValid { level: 0 },
        45,
    );
}

#[test]
fn server_with_another_name_is_refused() {
    for versions in BOTH {
        server_refused(
            versions,
            &Leaf::endpoint(CONTROLLER),
            false,
            expect("acs.example.net", None),
            &Refusal::NameMismatch,
            42,
        );
    }
}

#[test]
fn server_with_another_endpoint_id_is_refused() {
    for versions in BOTH {
        server_refused(
            versions,
            &Leaf::endpoint("self::someone.else"),
            false,
            expect("acs.example.net", Some(CONTROLLER)),
            &Refusal::NameMismatch,
            42,
        );
    }
}

#[test]
fn missing_intermediate_is_an_unknown_issuer() {
    let (mut net, ca, agent, _) = pair(1, Config::default());
    let server = addr(9);
    let mut issued = ca.endpoint(CONTROLLER);
    let leaf_only = issued.chain.find("-----END CERTIFICATE-----").unwrap() + 25;
    issued.chain.truncate(leaf_only);
    net.add(server, Config::default(), &issued, ca.verifier());
    net.connect(agent, server, expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(3));
    assert!(matches!(
        &net.node(agent).events[..],
        [Event::Refused { decision, .. }] if decision.refusal() == Some(&Refusal::UnknownIssuer)
    ));
}

/// The controller (server) refuses the client's certificate.
fn client_refused(versions: Versions, leaf: &Leaf, other_ca: bool, refusal: &Refusal, alert: u8) {
    let config = Config {
        versions,
        ..Config::default()
    };
    let (mut net, ca, _, controller) = pair(1, config.clone());
    let client = addr(9);
    let other = Ca::new("Other CA");
    let issued = if other_ca {
        other.issue(leaf)
    } else {
        ca.issue(leaf)
    };
    net.add(client, config, &issued, ca.verifier());
    let id = net.connect(client, controller, expect("localhost", Some(CONTROLLER)));
    for _ in 0..50 {
        net.run(Duration::from_millis(20));
        let now = net.now;
        // In 1.3 the client is done before the server has looked at its certificate, and may talk.
        let _sent = net.node(client).sessions.send(now, id, b"let me in");
    }
    // An unprotected alert of 1.2 counts when the peer is silent afterwards.
    net.run(Duration::from_secs(1));
    let node = net.node(controller);
    assert!(node.established().is_empty() && node.data().is_empty());
    let [
        Event::Refused {
            decision,
            alert: sent,
            initiated: false,
            ..
        },
    ] = &node.events[..]
    else {
        panic!("{:?}", node.events);
    };
    assert_eq!(decision.refusal(), Some(refusal));
    assert_eq!(*sent, Some(alert));
    assert!(node.sessions.is_empty());
    // The client heard it.
    let events = &net.node(client).events;
    assert!(
        events.iter().any(|event| matches!(event,
            Event::Failed { failure: Failure::Alert(code), .. }
            | Event::Closed { reason: homefleet_net::dtls::CloseReason::Alert(code), .. } if *code == alert)),
        "{events:?}"
    );
}

#[test]
fn client_of_another_ca_is_refused() {
    for versions in BOTH {
        client_refused(
            versions,
            &Leaf::endpoint(AGENT),
            true,
            &Refusal::UnknownIssuer,
            48,
        );
    }
}

#[test]
fn expired_client_is_refused() {
    for versions in BOTH {
        let mut leaf = Leaf::endpoint(AGENT);
        leaf.years = (2021, 2025);
        client_refused(versions, &leaf, false, &Refusal::Expired { level: 0 }, 45);
    }
}

#[test]
fn expired_peer_is_accepted_while_the_time_is_unknown() {
    let ca = Ca::new("Test CA");
    let mut net = Net::new(1);
    let timeless = std::sync::Arc::new(homefleet_net::dtls::TrustVerifier::new(
        homefleet_trust::anchors_from_pem(&ca.root_pem()).unwrap(),
        homefleet_trust::Policy::default(),
        || homefleet_trust::Time::Unknown,
    ));
    let mut leaf = Leaf::endpoint(CONTROLLER);
    leaf.years = (2021, 2025);
    net.add(addr(1), Config::default(), &ca.endpoint(AGENT), timeless);
    net.add(addr(2), Config::default(), &ca.issue(&leaf), ca.verifier());
    net.connect(addr(1), addr(2), expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(2));
    assert_eq!(net.node(addr(1)).established().len(), 1);
}

#[test]
fn server_without_any_certificate_is_not_spoken_to() {
    // A server of the bare engine with nothing but a pre-shared key: there is no suite in common.
    let (mut net, _ca, agent, _) = pair(
        1,
        Config {
            versions: Versions::Dtls12,
            ..Config::default()
        },
    );
    let bare = addr(88);
    let mut context = SslContext::builder(SslMethod::dtls()).unwrap();
    context.set_psk_server_callback(|_, _, key| {
        key[..16].fill(7);
        Ok(16)
    });
    context
        .set_max_proto_version(Some(SslVersion::DTLS1_2))
        .unwrap();
    let ssl = Ssl::new(&context.build()).unwrap();
    let mut stream = SslStream::new(ssl, Pipe::default()).unwrap();
    let id = net.connect(agent, bare, expect("localhost", Some(CONTROLLER)));
    for _ in 0..10 {
        for (_, _, datagram) in net.intercept() {
            stream.get_mut().incoming.push(datagram);
        }
        let _result = stream.accept();
        for datagram in std::mem::take(&mut stream.get_mut().outgoing) {
            net.inject(bare, agent, &datagram);
        }
    }
    net.run(Duration::from_secs(2));
    let now = net.now;
    assert!(net.node(agent).sessions.send(now, id, b"data").is_err());
    assert!(matches!(
        &net.node(agent).events[..],
        [Event::Failed {
            failure: Failure::Alert(40),
            ..
        }]
    ));
}
