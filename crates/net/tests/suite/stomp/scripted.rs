//! What USP asks of a STOMP client, against a broker that does what the test says.

use homefleet_net::mtp::stomp::Subscription;
use homefleet_net::mtp::{Connect, SendError, State};
use homefleet_usp::Record;
use homefleet_usp::mtp::retry::RetryPolicy;
use homefleet_usp::mtp::stomp::{Command, HeartBeat, Login};
use homefleet_usp::record::RecordBody;

use super::{AGENT, CONTROLLER, Endpoint, password, plain, record, route, until};
use crate::support::stomp::{Broker, message};

#[tokio::test]
async fn the_stomp_frame_names_the_endpoint_its_login_and_its_host() {
    let broker = Broker::start().await;
    let mut spec = plain(broker.port(), "/queue/agent");
    spec.virtual_host = Some("homes".into());
    spec.heart_beat = Some(HeartBeat {
        outgoing: 15_000,
        incoming: 10_000,
    });
    let agent = Endpoint::new(AGENT);
    agent.open(&spec);
    let mut client = broker.accept().await;
    let frame = client.hear(Command::Stomp).await;
    for (name, value) in [
        ("accept-version", "1.2"),
        ("endpoint-id", AGENT),
        ("login", "user"),
        ("passcode", "open sesame"),
        ("host", "homes"),
        ("heart-beat", "15000,10000"),
    ] {
        assert_eq!(frame.header(name), Some(value), "{name}");
    }
    let text = String::from_utf8_lossy(&client.heard).into_owned();
    assert!(
        text.contains("endpoint-id:os\\c\\c012345-AGENT\n"),
        "{text}"
    );
}

#[tokio::test]
async fn a_destination_of_the_broker_goes_before_the_configured_one_and_is_what_everybody_is_told()
{
    let broker = Broker::start().await;
    let mut agent = Endpoint::greeting(AGENT, CONTROLLER, "/queue/controller");
    agent.open(&plain(broker.port(), "/queue/configured"));
    let mut client = broker.accept().await;
    client.hear(Command::Stomp).await;
    client.connected(&[("subscribe-dest", "/queue/told")]).await;
    let subscribe = client.subscribed().await;
    assert_eq!(subscribe.header("destination"), Some("/queue/told"));
    assert_eq!(subscribe.header("ack"), Some("auto"));
    let channel = agent.up().await;
    assert_eq!(
        (channel.connect, channel.connection.as_deref()),
        (
            Connect::Stomp {
                destination: "/queue/told".into()
            },
            Some("main")
        )
    );
    assert_eq!(
        agent.mtp.subscription("main"),
        Some(Subscription {
            destination: "/queue/told".into(),
            from_server: true
        })
    );
    let greeting = client.hear(Command::Send).await;
    assert_eq!(greeting.header("reply-to-dest"), Some("/queue/told"));
    assert_eq!(
        Record::decode(&greeting.body).unwrap().body,
        RecordBody::StompConnect {
            destination: "/queue/told".into()
        }
    );
}

#[tokio::test]
async fn the_connect_record_goes_before_anything_else() {
    let broker = Broker::start().await;
    let mut agent = Endpoint::greeting(AGENT, CONTROLLER, "/queue/controller");
    agent.open(&plain(broker.port(), "/queue/agent"));
    let mut client = broker.accept().await;
    let notify = record(AGENT, CONTROLLER, "notify");
    client.hear(Command::Stomp).await;
    assert_eq!(
        agent.send(CONTROLLER, "/queue/controller", &notify).await,
        Err(SendError::NotConnected)
    );
    client.connected(&[]).await;
    let subscribe = client.hear(Command::Subscribe).await;
    assert_eq!(
        agent.send(CONTROLLER, "/queue/controller", &notify).await,
        Err(SendError::NotConnected)
    );
    client.receipt(&subscribe).await;
    agent.up().await;
    assert!(agent.mtp.status("main").unwrap().is_up());
    let sending = agent.send(CONTROLLER, "/queue/controller", &notify);
    let hearing = async {
        let greeting = client.hear(Command::Send).await;
        let body = Record::decode(&greeting.body).unwrap().body;
        assert!(matches!(body, RecordBody::StompConnect { .. }), "{body:?}");
        let sent = client.hear(Command::Send).await;
        assert_eq!(sent.header("destination"), Some("/queue/controller"));
        assert_eq!(
            sent.header("content-type"),
            Some("application/vnd.bbf.usp.msg")
        );
        assert_eq!(Record::decode(&sent.body).unwrap(), notify);
        client.receipt(&sent).await;
    };
    let (sent, ()) = tokio::join!(sending, hearing);
    assert_eq!(sent, Ok(()));
    assert_eq!(
        (agent.stats().records_out, agent.stats().records_failed),
        (2, 2)
    );
}

#[tokio::test]
async fn a_message_is_a_record_with_its_way_back_whatever_bytes_are_in_it() {
    let broker = Broker::start().await;
    let mut agent = Endpoint::new(AGENT);
    agent.open(&plain(broker.port(), "/queue/agent"));
    let mut client = broker.take(&[]).await;
    let channel = agent.up().await;
    let sent = record(CONTROLLER, AGENT, "get");
    let bytes = message(&sent, "/queue/controller").encode();
    // In pieces, with heart-beats between the frames.
    for piece in [&b"\n\r\n"[..], &bytes[..9], &bytes[9..200], &bytes[200..]] {
        client.write(piece).await;
    }
    let (received, origin) = agent.record().await;
    assert_eq!(received, sent);
    assert_eq!(
        (origin.channel, origin.reply_to, origin.identity),
        (Some(channel.id), Some(route("/queue/controller")), None)
    );
}

#[tokio::test]
async fn a_changed_destination_moves_the_subscription_and_keeps_the_connection() {
    let broker = Broker::start().await;
    let mut agent = Endpoint::greeting(AGENT, CONTROLLER, "/queue/controller");
    let mut spec = plain(broker.port(), "/queue/old");
    agent.open(&spec);
    let mut client = broker.take(&[]).await;
    let first = agent.up().await;
    client.hear(Command::Send).await;
    agent.open(&spec);
    spec.destination = Some("/queue/new".into());
    agent.open(&spec);
    let unsubscribe = client.hear(Command::Unsubscribe).await;
    assert_eq!(unsubscribe.header("id"), Some("1"));
    let subscribe = client.subscribed().await;
    assert_eq!(
        (subscribe.header("id"), subscribe.header("destination")),
        (Some("2"), Some("/queue/new"))
    );
    let again = agent.up().await;
    assert_eq!(again.id, first.id, "the channel is the same");
    let greeting = client.hear(Command::Send).await;
    assert_eq!(
        Record::decode(&greeting.body).unwrap().body,
        RecordBody::StompConnect {
            destination: "/queue/new".into()
        }
    );
    assert_eq!((agent.stats().up, agent.stats().connected), (1, 1));
}

#[tokio::test]
async fn without_any_destination_the_client_disconnects_and_tries_again() {
    let broker = Broker::start().await;
    let agent = Endpoint::new(AGENT);
    agent.open(&plain(broker.port(), ""));
    for _ in 0..2 {
        let mut client = broker.accept().await;
        client.hear(Command::Stomp).await;
        client.connected(&[]).await;
        client.hear(Command::Disconnect).await;
        client.closed().await;
    }
    assert_eq!(agent.stats().up, 0);
    // A destination that is told at last is tried at once or in the attempt that is under way.
    agent.open(&plain(broker.port(), "/queue/agent"));
}

#[tokio::test]
async fn closing_disconnects_in_order_and_for_good() {
    let broker = Broker::start().await;
    let mut agent = Endpoint::new(AGENT);
    agent.open(&plain(broker.port(), "/queue/agent"));
    let mut client = broker.take(&[]).await;
    agent.up().await;
    let mtp = agent.mtp.clone();
    let hearing = async {
        let disconnect = client.hear(Command::Disconnect).await;
        client.receipt(&disconnect).await;
        client.closed().await;
    };
    tokio::join!(mtp.close("main"), hearing);
    assert_eq!(agent.down().await, "disconnected here");
    assert_eq!(
        (mtp.status("main"), mtp.stats().up, mtp.stats().failed),
        (None, 0, 0)
    );
    assert_eq!(
        agent
            .send(CONTROLLER, "/queue/x", &record(AGENT, CONTROLLER, "late"))
            .await,
        Err(SendError::NotConnected)
    );
}

#[tokio::test]
async fn what_is_not_connected_yet_is_closed_at_once() {
    let broker = Broker::start().await;
    let agent = Endpoint::new(AGENT);
    let mut spec = plain(broker.port(), "/queue/agent");
    spec.retry = RetryPolicy::stomp(3600, 1000, 3600);
    // While the broker takes its time.
    agent.open(&spec);
    let mut client = broker.accept().await;
    client.hear(Command::Stomp).await;
    agent.mtp.close("main").await;
    client.closed().await;
    // While it waits for its next attempt.
    agent.open(&spec);
    drop(broker.accept().await);
    until(|| agent.stats().failed > 0).await;
    agent.mtp.close("main").await;
    assert_eq!(agent.mtp.status("main"), None);
    assert_eq!(agent.stats().connected, 0);
}

#[tokio::test]
async fn another_broker_is_gone_over_to_at_once() {
    let (old, new) = (Broker::start().await, Broker::start().await);
    let mut agent = Endpoint::new(AGENT);
    agent.open(&plain(old.port(), "/queue/agent"));
    let mut client = old.take(&[]).await;
    let first = agent.up().await;
    agent.open(&plain(new.port(), "/queue/agent"));
    let disconnect = client.hear(Command::Disconnect).await;
    client.receipt(&disconnect).await;
    client.closed().await;
    agent.down().await;
    let _client = new.take(&[]).await;
    assert_ne!(agent.up().await.id, first.id);
    assert_eq!((agent.stats().up, agent.stats().failed), (1, 0));
}

#[tokio::test]
async fn several_connections_stand_beside_each_other() {
    let (one, two) = (Broker::start().await, Broker::start().await);
    let mut agent = Endpoint::new(AGENT);
    agent.mtp.open("one", plain(one.port(), "/queue/a"));
    let mut first = one.take(&[]).await;
    agent.up().await;
    agent.mtp.open("two", plain(two.port(), "/queue/b"));
    let mut second = two.take(&[]).await;
    agent.up().await;
    for (client, name) in [(&mut first, "one"), (&mut second, "two")] {
        client
            .say(&message(&record(CONTROLLER, AGENT, name), "/queue/c"))
            .await;
        let (_, origin) = agent.record().await;
        assert_eq!(
            origin.reply_to.unwrap().to_string(),
            format!("stomp:{name}/%2Fqueue%2Fc")
        );
    }
    let hearing = async {
        for client in [&mut first, &mut second] {
            let disconnect = client.hear(Command::Disconnect).await;
            client.receipt(&disconnect).await;
        }
    };
    tokio::join!(agent.mtp.shutdown(), hearing);
    assert_eq!(agent.stats().up, 0);
}

#[tokio::test]
async fn heart_beats_go_out_as_negotiated() {
    let broker = Broker::start().await;
    let mut spec = plain(broker.port(), "/queue/agent");
    spec.heart_beat = Some(HeartBeat {
        outgoing: 20,
        incoming: 0,
    });
    let mut agent = Endpoint::new(AGENT);
    agent.open(&spec);
    let mut client = broker.take(&[("heart-beat", "0,20")]).await;
    agent.up().await;
    client.beats(3).await;
    assert!(agent.stats().heart_beats_out >= 3);
}

#[tokio::test]
async fn without_tls_nothing_is_connected_where_that_is_not_enabled() {
    let broker = Broker::start().await;
    let agent = Endpoint::with(AGENT, 64, |config| config.allow_plain = false);
    agent.open(&plain(broker.port(), "/queue/agent"));
    let error = || match agent.mtp.status("main").unwrap().state {
        State::Error(reason) => Some(reason),
        State::Connecting => None,
        State::Up => panic!("connected without TLS"),
    };
    until(|| error().is_some()).await;
    assert_eq!(
        error().unwrap(),
        "a connection without TLS, which is not enabled here"
    );
}

#[test]
fn no_password_is_shown() {
    let spec = plain(1, "/queue/agent");
    assert_eq!(spec.login, password());
    assert!(!format!("{spec:?}").contains("sesame"));
    assert_eq!(format!("{:?}", Login::Certificate), "Certificate");
}
