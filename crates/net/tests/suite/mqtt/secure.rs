//! MQTT over TLS with mutual certificates, against mosquitto, which names its clients by their certificates.

use homefleet_net::dtls::TrustVerifier;
use homefleet_net::mtp::{MqttClient, NoGreeting, SendError, State};
use homefleet_net::tls::Tls;
use homefleet_trust::{Basis, anchors_from_pem};
use homefleet_usp::mtp::retry::RetryPolicy;

use super::live::have_mosquitto;
use super::*;
use crate::support::mosquitto::{BrokerTls, Mosquitto};
use crate::support::pki::{Ca, Issued, Leaf};

struct Home {
    ca: Ca,
    broker: Mosquitto,
    /// The broker's certificate.
    issued: Issued,
}

impl Home {
    /// A broker that is called `localhost`.
    fn new() -> Option<Self> {
        Self::with(&Leaf {
            endpoint_id: None,
            ..Leaf::endpoint("")
        })
    }

    fn with(leaf: &Leaf) -> Option<Self> {
        if !have_mosquitto() {
            return None;
        }
        let ca = Ca::new("Home CA");
        let issued = ca.issue(leaf);
        let tls = BrokerTls {
            ca: ca.root_pem(),
            chain: issued.chain.clone(),
            key: issued.key.clone(),
        };
        let broker = Mosquitto::start(&[], CONTROLLER, Some(&tls));
        Some(Self { ca, broker, issued })
    }

    /// A verifier that trusts the CA, and this broker to vouch for others (R-SEC.4a).
    fn trusting(&self) -> Arc<TrustVerifier> {
        let verifier = self.ca.verifier();
        let mut own = anchors_from_pem(&self.issued.chain).unwrap();
        own.truncate(1);
        verifier.replace_brokers(own);
        verifier
    }

    fn side(&self, endpoint_id: &str, verifier: &Arc<TrustVerifier>) -> Side {
        self.side_with(endpoint_id, verifier, |_| {})
    }

    fn side_with(
        &self,
        endpoint_id: &str,
        verifier: &Arc<TrustVerifier>,
        configure: impl FnOnce(&mut MqttMtpConfig),
    ) -> Side {
        let credentials = self.ca.endpoint(endpoint_id).credentials();
        let tls = Tls::new(&credentials, verifier.clone()).unwrap();
        Side::new(endpoint_id, |config| {
            config.allow_plain = false;
            config.tls = Some(tls);
            configure(config);
        })
    }

    fn agent(&self, version: MqttVersion) -> MqttClient {
        MqttClient {
            response_topic: Some(format!("usp/agent/{AGENT}")),
            retry: RetryPolicy::mqtt(0, 1000, 1),
            ..MqttClient::new(version, "localhost", self.broker.tls_port())
        }
    }

    fn controller(&self, version: MqttVersion) -> MqttClient {
        MqttClient {
            response_topic: Some(CONTROLLER_TOPIC.to_owned()),
            ..self.agent(version)
        }
    }
}

fn reason(status: &MqttStatus) -> String {
    match &status.status.state {
        State::Error(reason) => reason.clone(),
        _ => String::new(),
    }
}

#[tokio::test]
async fn records_travel_over_tls_through_a_trusted_broker_that_names_clients_by_certificate() {
    let Some(home) = Home::new() else { return };
    let verifier = home.trusting();
    for version in [V5, V3] {
        let mut controller = home.side(CONTROLLER, &verifier);
        controller.mtp.open("main", home.controller(version));
        let channel = controller.up().await;
        let identity = channel.identity.unwrap();
        assert_eq!(identity.basis, Basis::TrustedBroker);
        let mut agent = home.side(AGENT, &verifier);
        agent.mtp.open("main", home.agent(version));
        agent.up().await;
        let (greeting, origin) = controller.record().await;
        assert_eq!(greeting.from_id().as_str(), AGENT);
        assert_eq!(origin.identity, Some(identity));
        let topic = format!("usp/agent/{AGENT}");
        assert_eq!(origin.reply_to, Some(route(&topic)));
        controller.send(&topic, b"request").await.unwrap();
        let (message, reply_to) = agent.message().await;
        assert_eq!(message, b"request");
        assert_eq!(reply_to, Some(route(CONTROLLER_TOPIC)));
        agent.send(CONTROLLER_TOPIC, b"response").await.unwrap();
        assert_eq!(controller.message().await.0, b"response");
        for side in [&agent, &controller] {
            side.mtp.shutdown().await;
        }
    }
}

#[tokio::test]
async fn a_device_speaks_over_its_own_topic_and_as_nobody_else() {
    const OTHER: &str = "os::00256D-other";
    let Some(home) = Home::new() else { return };
    let verifier = home.trusting();
    for version in [V5, V3] {
        let mut controller = home.side(CONTROLLER, &verifier);
        let settings = MqttClient {
            response_topic: None,
            senders: Some("usp/from/{endpoint-id}".parse().unwrap()),
            ..home.controller(version)
        };
        controller.mtp.open("main", settings);
        controller.up().await;
        let mut agent = home.side_with(AGENT, &verifier, |config| {
            config.greeter = Arc::new(NoGreeting);
        });
        agent.mtp.open("main", home.agent(version));
        agent.up().await;
        let mut other = home.side(OTHER, &verifier);
        let settings = MqttClient {
            response_topic: Some(format!("usp/agent/{OTHER}")),
            ..home.agent(version)
        };
        other.mtp.open("main", settings);
        other.up().await;

        // It is told where it is heard.
        controller
            .send(&format!("usp/agent/{AGENT}"), b"request")
            .await
            .unwrap();
        let (message, reply_to) = agent.message().await;
        let own = route(&format!("usp/from/{AGENT}"));
        assert_eq!(
            (&message[..], &reply_to),
            (&b"request"[..], &Some(own.clone()))
        );

        // Another may write in its name, but not there.
        let forged = record(AGENT, CONTROLLER, b"forged");
        let others = route(&format!("usp/from/{OTHER}"));
        other
            .mtp
            .send(&others, &id(CONTROLLER), forged.clone())
            .await
            .unwrap();
        let sent = other.mtp.send(&own, &id(CONTROLLER), forged).await;
        if version == V5 {
            let refused = SendError::Broker("not authorized".to_owned());
            assert_eq!(sent, Err(refused));
        }
        let answer = record(AGENT, CONTROLLER, b"answer");
        agent.mtp.send(&own, &id(CONTROLLER), answer).await.unwrap();
        assert_eq!(controller.message().await.0, b"answer");
        assert_eq!(controller.mtp.stats().forged, 1, "R-SEC.4c");
        for side in [&agent, &other, &controller] {
            side.mtp.shutdown().await;
        }
    }
}

#[tokio::test]
async fn a_broker_that_is_not_trusted_vouches_for_nobody() {
    let Some(home) = Home::new() else { return };
    let trusting = home.trusting();
    let topic = format!("usp/agent/{AGENT}");
    let mut controller = home.side(CONTROLLER, &trusting);
    controller.mtp.open("main", home.controller(V5));
    controller.up().await;

    // Its certificate is good, and says nothing of the Controller.
    let mut agent = home.side(AGENT, &home.ca.verifier());
    agent.mtp.open("main", home.agent(V5));
    let channel = agent.up().await;
    assert_eq!(channel.identity.unwrap().basis, Basis::TrustedCa);
    controller.record().await;
    controller.send(&topic, b"request").await.unwrap();
    agent.until(|status| status.stats.untrusted == 1).await;
    assert_eq!(agent.mtp.stats().records_in, 0);
    agent.mtp.shutdown().await;

    // A closed network may say that it does not matter.
    let mut agent = home.side_with(AGENT, &home.ca.verifier(), |config| {
        config.allow_untrusted_broker = true;
    });
    agent.mtp.open("main", home.agent(V5));
    agent.up().await;
    controller.send(&topic, b"request").await.unwrap();
    assert_eq!(agent.message().await.0, b"request");
}

#[tokio::test]
async fn a_broker_that_is_the_controller_itself_vouches_for_itself_only() {
    let Some(home) = Home::with(&Leaf::endpoint(CONTROLLER)) else {
        return;
    };
    let topic = format!("usp/agent/{AGENT}");
    let mut agent = home.side(AGENT, &home.ca.verifier());
    agent.mtp.open("main", home.agent(V5));
    agent.up().await;
    let mut controller = home.side(CONTROLLER, &home.trusting());
    controller.mtp.open("main", home.controller(V5));
    controller.up().await;
    let forged = record("os::00256D-another", AGENT, b"forged");
    let to = route(&topic);
    controller.mtp.send(&to, &id(AGENT), forged).await.unwrap();
    controller.send(&topic, b"request").await.unwrap();
    assert_eq!(agent.message().await.0, b"request");
    assert_eq!(agent.mtp.stats().untrusted, 1);
}

#[tokio::test]
async fn a_broker_whose_certificate_is_not_accepted_gets_not_even_connect() {
    let Some(home) = Home::with(&Leaf {
        endpoint_id: None,
        dns: vec!["another.example".to_owned()],
        ..Leaf::endpoint("")
    }) else {
        return;
    };
    for verifier in [home.ca.verifier(), Ca::new("Another CA").verifier()] {
        let agent = home.side(AGENT, &verifier);
        agent.mtp.open("main", home.agent(V5));
        let status = agent.until(|status| status.status.failures > 0).await;
        assert_eq!(status.stats.packets_sent, 0);
        agent.mtp.shutdown().await;
    }
    assert!(!home.broker.log().contains("New client connected"));
}

#[tokio::test]
async fn a_broker_that_is_not_trusted_any_more_is_left_at_once() {
    let Some(home) = Home::new() else { return };
    let verifier = home.trusting();
    let mut agent = home.side(AGENT, &verifier);
    agent.mtp.open("main", home.agent(V5));
    agent.up().await;
    verifier.replace_brokers(Vec::new());
    verifier.replace_anchors(Vec::new());
    agent.mtp.judge_again().await;
    let why = agent.down().await;
    assert!(why.contains("refused"), "{why}");
    let status = agent
        .until(|status| status.status.failures > 1 && !reason(status).is_empty())
        .await;
    assert!(reason(&status).contains("refused"), "{status:?}");
    assert_eq!(status.stats.connections, 1);
}

#[tokio::test]
async fn a_client_without_a_certificate_of_the_brokers_ca_is_told_why_it_is_not_connected() {
    let Some(home) = Home::new() else { return };
    let credentials = Ca::new("Another CA").endpoint(AGENT).credentials();
    let tls = Tls::new(&credentials, home.trusting()).unwrap();
    let agent = Side::new(AGENT, |config| config.tls = Some(tls));
    agent.mtp.open("main", home.agent(V5));
    let status = agent.until(|status| !reason(status).is_empty()).await;
    assert_eq!(status.stats.connections, 0);
}

#[tokio::test]
async fn without_tls_no_connection_is_made_unless_that_is_enabled() {
    let Some(home) = Home::new() else { return };
    let agent = home.side(AGENT, &home.trusting());
    let settings = plain(V5, home.broker.port());
    agent.mtp.open("main", settings);
    let status = agent.until(|status| !reason(status).is_empty()).await;
    let expected = "a connection without TLS is not enabled here (R-MTP.0)";
    assert_eq!(reason(&status), expected);
    // And without a certificate of ours none with TLS.
    let agent = Side::new(AGENT, |_| {});
    agent.mtp.open("main", home.agent(V5));
    let status = agent.until(|status| !reason(status).is_empty()).await;
    let expected = "there is no certificate of ours to connect with";
    assert_eq!(reason(&status), expected);
    assert!(!home.broker.log().contains("New client connected"));
}
