//! Through RabbitMQ, which authenticates both sides and lets each send and hear what is its own.

use std::sync::{Arc, OnceLock};

use homefleet_net::dtls::TrustVerifier;
use homefleet_net::mtp::stomp::StompConnection;
use homefleet_net::mtp::{Connect, Route, SendError};
use homefleet_net::tls::Tls;
use homefleet_trust::{Basis, anchors_from_pem};
use homefleet_usp::Record;
use homefleet_usp::mtp::stomp::{HeartBeat, Login, Senders};
use homefleet_usp::record::RecordBody;
use tokio::sync::RwLock;

use super::{Endpoint, id, plain, record, until};
use crate::support::pki::{Ca, Leaf};
use crate::support::rabbitmq::{self, BrokerTls, Rabbit, User};
use crate::support::tool::skip;

/// The one broker of all tests, and the CA of everybody.
struct House {
    /// Whoever ends it has it alone.
    rabbit: RwLock<Rabbit>,
    ca: Ca,
    /// The broker's own certificate.
    broker: String,
}

static HOUSE: OnceLock<Option<House>> = OnceLock::new();

/// Each has its own test, or its own part of one.
const DEVICES: [&str; 9] = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine.more",
];
const CONTROLLER: &str = "self::controller";

fn house() -> Option<&'static House> {
    HOUSE
        .get_or_init(|| {
            if !Rabbit::is_installed() {
                skip("rabbitmq-server");
                return None;
            }
            let ca = Ca::new("house");
            let issued = ca.issue(&Leaf {
                endpoint_id: None,
                through_intermediate: false,
                ..Leaf::endpoint("")
            });
            let tls = BrokerTls {
                ca: ca.root_pem(),
                chain: issued.chain.clone(),
                key: issued.key,
            };
            let mut users = vec![
                User::controller(CONTROLLER, Some("of the house")),
                User::controller(CONTROLLER, None),
            ];
            for name in DEVICES {
                users.push(User::device(&agent_id(name), Some("sesame")));
                users.push(User::device(&agent_id(name), None));
            }
            let rabbit = Rabbit::start(&users, Some(&tls));
            println!("peer: {}", rabbit.version());
            Some(House {
                rabbit: RwLock::new(rabbit),
                ca,
                broker: issued.chain,
            })
        })
        .as_ref()
}

fn agent_id(device: &str) -> String {
    format!("os::012345-{device}")
}

/// Where a device is reached, and where it reaches the Controller.
fn places(agent_id: &str) -> (String, String) {
    (
        format!("/topic/usp.agent.{agent_id}"),
        format!("/topic/usp.controller.{agent_id}"),
    )
}

impl House {
    /// Trusts the CA, and the broker as a Trusted Broker if it is to.
    fn verifier(&self, as_broker: bool) -> Arc<TrustVerifier> {
        let verifier = self.ca.verifier();
        if as_broker {
            verifier.replace_brokers(anchors_from_pem(&self.broker).unwrap());
        }
        verifier
    }

    /// An Endpoint that speaks TLS with its certificate and nothing else.
    fn secure(&self, name: &str, verifier: Arc<TrustVerifier>) -> Endpoint {
        let credentials = self.ca.endpoint(name).credentials();
        Endpoint::with(name, 64, |config| {
            config.allow_plain = false;
            config.tls = Some(Tls::new(&credentials, verifier).unwrap());
        })
    }
}

fn spec(rabbit: &Rabbit, user: &str, passcode: &str, destination: &str) -> StompConnection {
    StompConnection {
        login: Login::Password {
            login: user.into(),
            passcode: passcode.into(),
        },
        virtual_host: Some("/".into()),
        heart_beat: Some(HeartBeat {
            outgoing: 5000,
            incoming: 5000,
        }),
        ..plain(rabbit.port(), destination)
    }
}

/// The same over TLS, by the certificate.
fn secure_spec(rabbit: &Rabbit, destination: &str) -> StompConnection {
    StompConnection {
        host: "localhost".into(),
        port: rabbit.tls_port(),
        encryption: true,
        login: Login::Certificate,
        ..spec(rabbit, "", "", destination)
    }
}

/// Device and Controller, connected, as agent and server are.
struct Pair {
    agent: Endpoint,
    agent_id: String,
    agent_at: String,
    controller: Endpoint,
    /// Where the Controller is reached by this device.
    controller_at: String,
}

impl Pair {
    /// Both with their passwords.
    async fn connect(rabbit: &Rabbit, device: &str) -> Self {
        let agent_id = agent_id(device);
        let (agent_at, controller_at) = places(&agent_id);
        let controller = Endpoint::new(CONTROLLER);
        controller.open(&spec(rabbit, CONTROLLER, "of the house", &controller_at));
        let agent = Endpoint::greeting(&agent_id, CONTROLLER, &controller_at);
        let login = spec(rabbit, &agent_id, "sesame", &agent_at);
        Self::up(agent, &agent_id, &login, controller).await
    }

    /// Connects the agent when the Controller is, so that it hears the greeting.
    async fn up(
        mut agent: Endpoint,
        agent_id: &str,
        login: &StompConnection,
        mut controller: Endpoint,
    ) -> Self {
        let (agent_at, controller_at) = places(agent_id);
        controller.up().await;
        agent.open(login);
        let channel = agent.up().await;
        assert_eq!(
            channel.connect,
            Connect::Stomp {
                destination: agent_at.clone()
            }
        );
        Self {
            agent,
            agent_id: agent_id.to_owned(),
            agent_at,
            controller,
            controller_at,
        }
    }

    /// The Connect Record comes to the Controller, which asks, and is answered.
    async fn talk(&mut self) {
        let (greeting, origin) = self.controller.record().await;
        assert_eq!(
            greeting.body,
            RecordBody::StompConnect {
                destination: self.agent_at.clone()
            }
        );
        let back = origin.reply_to.expect("a way back");
        assert_eq!(back, super::route(&self.agent_at));
        self.exchange(&back).await;
    }

    /// The Controller asks, and is answered, ten times.
    async fn exchange(&mut self, agent: &Route) {
        for number in 0..10 {
            let get = record(CONTROLLER, &self.agent_id, &format!("get {number}"));
            let agent_id = id(&self.agent_id);
            let sent = self.controller.mtp.send(agent, &agent_id, get.encode());
            assert_eq!(sent.await, Ok(()));
            let (asked, origin) = self.agent.record().await;
            assert_eq!(asked, get);
            let answer = record(&self.agent_id, CONTROLLER, &format!("{number}"));
            let back = origin.reply_to.expect("a way back");
            assert_eq!(back, super::route(&self.controller_at));
            let controller_id = id(CONTROLLER);
            let sent = self.agent.mtp.send(&back, &controller_id, answer.encode());
            assert_eq!(sent.await, Ok(()));
            assert_eq!(self.answer().await, answer);
        }
    }

    /// The next Record at the Controller but for a Connect Record, which one that connected first has missed.
    async fn answer(&mut self) -> Record {
        loop {
            let (record, _) = self.controller.record().await;
            if record.message().is_some() {
                return record;
            }
        }
    }

    async fn end(self) {
        tokio::join!(self.agent.mtp.shutdown(), self.controller.mtp.shutdown());
        let (agent, controller) = (self.agent.stats(), self.controller.stats());
        assert_eq!((agent.up, controller.up), (0, 0));
    }
}

#[test]
fn the_manual_shows_the_configuration_of_these_tests() {
    const MANUAL: &str = include_str!("../../../../../docs/manual/brokers.md");
    let users = [
        User::controller("self::controller", None),
        User::device("os::0044FF-123456", None),
    ];
    let shown = rabbitmq::definitions(&users);
    assert!(MANUAL.contains(&shown), "{shown}");
    for line in rabbitmq::TLS_SETTINGS.lines() {
        assert!(MANUAL.lines().any(|shown| shown == line), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn through_rabbitmq_records_pass_both_ways_and_large_ones_too() {
    let Some(house) = house() else { return };
    let rabbit = house.rabbit.read().await;
    let mut pair = Pair::connect(&rabbit, "one").await;
    pair.talk().await;
    let large = record(&pair.agent_id, CONTROLLER, &"x\0".repeat(1 << 20));
    let sent = pair.agent.send(CONTROLLER, &pair.controller_at, &large);
    assert_eq!(sent.await, Ok(()));
    assert_eq!(pair.controller.record().await.0, large);
    assert_eq!(
        (pair.agent.stats().failed, pair.controller.stats().failed),
        (0, 0)
    );
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_neither_hears_nor_speaks_as_another_through_rabbitmq() {
    let Some(house) = house() else { return };
    let rabbit = house.rabbit.read().await;
    let three = agent_id("three");
    for (destination, why) in [
        ("/topic/usp.agent.os::012345-one", "another's destination"),
        (
            "/topic/usp.controller.os::012345-three",
            "what it says itself",
        ),
        ("/topic/usp.#", "everybody's"),
        ("/queue/anything", "a queue of its own making"),
        ("/exchange/amq.fanout", "another exchange"),
    ] {
        let thief = Endpoint::new(&three);
        thief.open(&spec(&rabbit, &three, "sesame", destination));
        until(|| thief.stats().failed > 0).await;
        let stats = thief.stats();
        assert_eq!((stats.connected, stats.broker_errors), (0, 1), "{why}");
        thief.mtp.shutdown().await;
    }
    let (at, _) = places(&three);
    let mut liar = Endpoint::new(&three);
    liar.open(&spec(&rabbit, &three, "sesame", &at));
    for destination in [
        "/topic/usp.agent.os::012345-one",
        "/topic/usp.controller.os::012345-one",
        "/queue/anything",
        "/amq/queue/anything",
        "/exchange/amq.direct/anything",
    ] {
        liar.up().await;
        let lie = record("os::012345-one", CONTROLLER, "a lie");
        let sent = liar.send(CONTROLLER, destination, &lie).await;
        assert_eq!(sent, Err(SendError::Lost), "{destination}");
        liar.down().await;
    }
    liar.mtp.shutdown().await;
    let stranger = Endpoint::new(&three);
    stranger.open(&spec(&rabbit, &three, "guess", &at));
    until(|| stranger.stats().broker_errors > 0).await;
    stranger.mtp.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_hears_every_device_over_its_own_destination_only() {
    let Some(house) = house() else { return };
    let rabbit = house.rabbit.read().await;
    let (eight, nine) = (agent_id("eight"), agent_id("nine.more"));
    let senders: Senders = "/topic/usp.controller.{endpoint-id}".parse().unwrap();
    let mut controller = Endpoint::new(CONTROLLER);
    controller.open(&StompConnection {
        senders: Some(senders.clone()),
        ..spec(
            &rabbit,
            CONTROLLER,
            "of the house",
            "/topic/usp.controller.#",
        )
    });
    controller.up().await;
    let mut devices = Vec::new();
    for device in [&eight, &nine] {
        let (at, _) = places(device);
        let mut agent = Endpoint::new(device);
        agent.open(&spec(&rabbit, device, "sesame", &at));
        agent.up().await;
        devices.push(agent);
    }
    // Each speaks where it may speak; only what says so of itself is heard.
    for (agent, device, other) in [(&devices[0], &eight, &nine), (&devices[1], &nine, &eight)] {
        let own = senders.destination(&id(device));
        for from in [other, device] {
            let notify = record(from, CONTROLLER, "notify");
            assert_eq!(agent.send(CONTROLLER, &own, &notify).await, Ok(()));
        }
    }
    let mut heard = Vec::new();
    while heard.len() < 2 {
        let (record, origin) = controller.record().await;
        if record.message().is_some() {
            heard.push(record.from_id().to_string());
            // The way back to the device, which answers over its own destination.
            let back = origin.reply_to.unwrap();
            let get = super::record(CONTROLLER, record.from_id().as_str(), "get");
            let sent = controller.mtp.send(&back, record.from_id(), get.encode());
            assert_eq!(sent.await, Ok(()));
        }
    }
    heard.sort();
    assert_eq!(heard, [eight.as_str(), nine.as_str()]);
    // Others' tests speak over destinations of their own, and nothing else.
    assert!(controller.stats().forged >= 2);
    for (agent, device) in devices.iter_mut().zip([&eight, &nine]) {
        let (_, origin) = agent.record().await;
        let own = senders.destination(&id(device));
        assert_eq!(origin.reply_to, Some(super::route(&own)));
        agent.mtp.shutdown().await;
    }
    controller.mtp.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_destination_is_where_records_come_in_through_rabbitmq() {
    let Some(house) = house() else { return };
    let rabbit = house.rabbit.read().await;
    let two = agent_id("two");
    let (agent_at, controller_at) = places(&two);
    let mut controller = Endpoint::new(CONTROLLER);
    let to = |destination: &str| spec(&rabbit, CONTROLLER, "of the house", destination);
    controller.open(&to("/topic/usp.controller.old"));
    let first = controller.up().await;
    controller.open(&to(&controller_at));
    assert_eq!(controller.up().await.id, first.id);
    let mut agent = Endpoint::new(&two);
    agent.open(&spec(&rabbit, &two, "sesame", &agent_at));
    agent.up().await;
    let notify = record(&two, CONTROLLER, "notify");
    let sent = agent.send(CONTROLLER, &controller_at, &notify).await;
    assert_eq!(sent, Ok(()));
    assert_eq!(controller.record().await.0, notify);
    tokio::join!(agent.mtp.shutdown(), controller.mtp.shutdown());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_and_comes_back_is_connected_to_again_by_both_sides() {
    let Some(house) = house() else { return };
    let rabbit = house.rabbit.write().await;
    let mut pair = Pair::connect(&rabbit, "four").await;
    pair.talk().await;
    tokio::task::block_in_place(|| rabbit.kill());
    pair.agent.down().await;
    pair.controller.down().await;
    let notify = record(&pair.agent_id, CONTROLLER, "notify");
    let sent = pair.agent.send(CONTROLLER, &pair.controller_at, &notify);
    assert_eq!(sent.await, Err(SendError::NotConnected));
    tokio::task::block_in_place(|| rabbit.begin());
    pair.controller.up().await;
    pair.agent.up().await;
    let agent_at = super::route(&pair.agent_at);
    pair.exchange(&agent_at).await;
    assert!(pair.agent.stats().failed > 0);
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_a_device_is_who_its_certificate_says_and_the_broker_a_trusted_one() {
    let Some(house) = house() else { return };
    let rabbit = house.rabbit.read().await;
    let five = agent_id("five");
    let (agent_at, controller_at) = places(&five);
    let controller = house.secure(CONTROLLER, house.verifier(true));
    controller.open(&secure_spec(&rabbit, &controller_at));
    // By its certificate it is the user of this name, and by no password.
    let agent = house.secure(&five, house.verifier(true));
    let login = secure_spec(&rabbit, &agent_at);
    let mut pair = Pair::up(agent, &five, &login, controller).await;
    pair.exchange(&super::route(&agent_at)).await;
    let notify = record(&five, CONTROLLER, "notify");
    let sent = pair.agent.send(CONTROLLER, &controller_at, &notify).await;
    assert_eq!(sent, Ok(()));
    let (_, origin) = pair.controller.record().await;
    assert_eq!(origin.identity.unwrap().basis, Basis::TrustedBroker);
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_a_login_with_password_does_too() {
    let Some(house) = house() else { return };
    let rabbit = house.rabbit.read().await;
    let five = agent_id("five");
    let mut agent = house.secure(&five, house.verifier(true));
    agent.open(&StompConnection {
        login: Login::Password {
            login: five.clone(),
            passcode: "sesame".into(),
        },
        ..secure_spec(&rabbit, &places(&five).0)
    });
    let channel = agent.up().await;
    assert_eq!(channel.identity.unwrap().basis, Basis::TrustedBroker);
    agent.mtp.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_through_a_broker_that_is_no_trusted_broker_are_dropped_and_counted() {
    let Some(house) = house() else { return };
    let rabbit = house.rabbit.read().await;
    let six = agent_id("six");
    let (agent_at, controller_at) = places(&six);
    let mut controller = house.secure(CONTROLLER, house.verifier(true));
    controller.open(&secure_spec(&rabbit, &controller_at));
    controller.up().await;
    let get = record(CONTROLLER, &six, "get");
    for allowed in [false, true] {
        let credentials = house.ca.endpoint(&six).credentials();
        let mut agent = Endpoint::with(&six, 64, |config| {
            config.tls = Some(Tls::new(&credentials, house.verifier(false)).unwrap());
            config.allow_untrusted_broker = allowed;
        });
        agent.open(&secure_spec(&rabbit, &agent_at));
        let channel = agent.up().await;
        assert_eq!(channel.identity.unwrap().basis, Basis::TrustedCa);
        assert_eq!(controller.send(&six, &agent_at, &get).await, Ok(()));
        if allowed {
            assert_eq!(agent.record().await.0, get);
        } else {
            until(|| agent.stats().untrusted_broker > 0).await;
            assert_eq!(agent.stats().records_in, 0);
        }
        agent.mtp.shutdown().await;
    }
    controller.mtp.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_refused_hears_nothing_and_one_that_is_distrusted_no_more() {
    let Some(house) = house() else { return };
    let rabbit = house.rabbit.read().await;
    let seven = agent_id("seven");
    let spec = secure_spec(&rabbit, &places(&seven).0);
    let verifier = Ca::new("another").verifier();
    let mut agent = house.secure(&seven, verifier.clone());
    agent.open(&spec);
    until(|| agent.stats().untrusted > 0).await;
    assert_eq!(agent.stats().connected, 0);
    // The broker's certificate is known, and that is enough.
    verifier.replace_brokers(anchors_from_pem(&house.broker).unwrap());
    agent.up().await;
    verifier.replace_brokers(Vec::new());
    agent.mtp.judge_again().await;
    let reason = agent.down().await;
    assert!(reason.contains("refused"), "{reason}");
    agent.mtp.shutdown().await;
}
