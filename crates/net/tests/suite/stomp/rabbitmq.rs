//! Through RabbitMQ, which authenticates both sides and lets each send and hear what is its own.

use std::sync::OnceLock;

use homefleet_net::mtp::stomp::StompConnection;
use homefleet_net::mtp::{Connect, Route, SendError};
use homefleet_usp::Record;
use homefleet_usp::mtp::stomp::{HeartBeat, Login};
use homefleet_usp::record::RecordBody;
use tokio::sync::RwLock;

use super::{Endpoint, id, plain, record};
use crate::support::rabbitmq::{Rabbit, User};
use crate::support::tool::skip;

/// The one broker of all tests. Whoever ends it has it alone.
static BROKER: OnceLock<Option<RwLock<Rabbit>>> = OnceLock::new();

const DEVICES: [&str; 4] = ["one", "two", "three", "four"];

fn broker() -> Option<&'static RwLock<Rabbit>> {
    BROKER
        .get_or_init(|| {
            if !Rabbit::is_installed() {
                skip("rabbitmq-server");
                return None;
            }
            let mut users = vec![User::controller("controller", Some("of the house"))];
            users.extend(DEVICES.map(|name| User::device(name, Some("sesame"))));
            println!("peer: RabbitMQ");
            Some(RwLock::new(Rabbit::start(&users, None)))
        })
        .as_ref()
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

/// Device and Controller, connected, as agent and server are. Each device has its own test.
struct Pair {
    agent: Endpoint,
    agent_id: String,
    agent_at: String,
    controller: Endpoint,
    controller_id: String,
    /// Where the Controller is reached by this device.
    controller_at: String,
}

impl Pair {
    async fn connect(rabbit: &Rabbit, device: &str) -> Self {
        let agent_id = format!("os::012345-{device}");
        let controller_id = format!("self::controller-of-{device}");
        let controller_at = format!("/topic/usp.controller.{device}");
        let agent_at = format!("/topic/usp.agent.{device}");
        let mut controller = Endpoint::new(&controller_id);
        controller.open(&spec(rabbit, "controller", "of the house", &controller_at));
        controller.up().await;
        let mut agent = Endpoint::greeting(&agent_id, &controller_id, &controller_at);
        agent.open(&spec(rabbit, device, "sesame", &agent_at));
        let channel = agent.up().await;
        assert_eq!(
            channel.connect,
            Connect::Stomp {
                destination: agent_at.clone()
            }
        );
        Self {
            agent,
            agent_id,
            agent_at,
            controller,
            controller_id,
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
            let get = record(
                &self.controller_id,
                &self.agent_id,
                &format!("get {number}"),
            );
            let agent_id = id(&self.agent_id);
            let sent = self.controller.mtp.send(agent, &agent_id, get.encode());
            assert_eq!(sent.await, Ok(()));
            let (asked, origin) = self.agent.record().await;
            assert_eq!(asked, get);
            let answer = record(&self.agent_id, &self.controller_id, &format!("{number}"));
            let back = origin.reply_to.expect("a way back");
            assert_eq!(back, super::route(&self.controller_at));
            let controller_id = id(&self.controller_id);
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

#[tokio::test(flavor = "multi_thread")]
async fn through_rabbitmq_records_pass_both_ways_and_large_ones_too() {
    let Some(rabbit) = broker() else { return };
    let rabbit = rabbit.read().await;
    let mut pair = Pair::connect(&rabbit, "one").await;
    pair.talk().await;
    let large = record(&pair.agent_id, &pair.controller_id, &"x\0".repeat(1 << 20));
    let sent = pair
        .agent
        .send(&pair.controller_id, &pair.controller_at, &large)
        .await;
    assert_eq!(sent, Ok(()));
    assert_eq!(pair.controller.record().await.0, large);
    assert_eq!(
        (pair.agent.stats().failed, pair.controller.stats().failed),
        (0, 0)
    );
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_neither_hears_nor_speaks_as_another_through_rabbitmq() {
    let Some(rabbit) = broker() else { return };
    let rabbit = rabbit.read().await;
    for (destination, why) in [
        ("/topic/usp.agent.one", "another's destination"),
        ("/topic/usp.controller.three", "what it says itself"),
        ("/topic/usp.#", "everybody's"),
        ("/queue/anything", "a queue of its own making"),
        ("/exchange/amq.fanout", "another exchange"),
    ] {
        let thief = Endpoint::new("os::012345-three");
        thief.open(&spec(&rabbit, "three", "sesame", destination));
        while thief.stats().failed == 0 {
            tokio::task::yield_now().await;
        }
        let stats = thief.stats();
        assert_eq!((stats.connected, stats.broker_errors), (0, 1), "{why}");
        thief.mtp.shutdown().await;
    }
    let mut liar = Endpoint::new("os::012345-three");
    liar.open(&spec(&rabbit, "three", "sesame", "/topic/usp.agent.three"));
    for destination in [
        "/topic/usp.agent.one",
        "/topic/usp.controller.one",
        "/queue/anything",
        "/amq/queue/anything",
        "/exchange/amq.direct/anything",
    ] {
        liar.up().await;
        let lie = record("os::012345-one", "self::controller", "a lie");
        let sent = liar.send("self::controller", destination, &lie).await;
        assert_eq!(sent, Err(SendError::Lost), "{destination}");
        liar.down().await;
    }
    liar.mtp.shutdown().await;
    let stranger = Endpoint::new("os::012345-three");
    stranger.open(&spec(&rabbit, "three", "guess", "/topic/usp.agent.three"));
    while stranger.stats().broker_errors == 0 {
        tokio::task::yield_now().await;
    }
    stranger.mtp.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_destination_is_where_records_come_in_through_rabbitmq() {
    let Some(rabbit) = broker() else { return };
    let rabbit = rabbit.read().await;
    let mut controller = Endpoint::new("self::controller-of-moving");
    controller.open(&spec(
        &rabbit,
        "controller",
        "of the house",
        "/topic/usp.controller.old",
    ));
    let first = controller.up().await;
    controller.open(&spec(
        &rabbit,
        "controller",
        "of the house",
        "/topic/usp.controller.two",
    ));
    assert_eq!(controller.up().await.id, first.id);
    let mut agent = Endpoint::new("os::012345-two");
    agent.open(&spec(&rabbit, "two", "sesame", "/topic/usp.agent.two"));
    agent.up().await;
    let notify = record("os::012345-two", "self::controller-of-moving", "notify");
    let sent = agent
        .send(
            "self::controller-of-moving",
            "/topic/usp.controller.two",
            &notify,
        )
        .await;
    assert_eq!(sent, Ok(()));
    assert_eq!(controller.record().await.0, notify);
    tokio::join!(agent.mtp.shutdown(), controller.mtp.shutdown());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_and_comes_back_is_connected_to_again_by_both_sides() {
    let Some(rabbit) = broker() else { return };
    let rabbit = rabbit.write().await;
    let mut pair = Pair::connect(&rabbit, "four").await;
    pair.talk().await;
    tokio::task::block_in_place(|| rabbit.kill());
    pair.agent.down().await;
    pair.controller.down().await;
    let notify = record(&pair.agent_id, &pair.controller_id, "notify");
    let sent = pair
        .agent
        .send(&pair.controller_id, &pair.controller_at, &notify)
        .await;
    assert_eq!(sent, Err(SendError::NotConnected));
    tokio::task::block_in_place(|| rabbit.begin());
    pair.controller.up().await;
    pair.agent.up().await;
    pair.exchange(&super::route(&pair.agent_at.clone())).await;
    assert!(pair.agent.stats().failed > 0);
    pair.end().await;
}
