//! A session's life: opened, greeted, kept, opened again, closed (R-WS.5 to R-WS.8, R-WS.17 to R-WS.21).

use std::sync::Arc;
use std::time::Duration;

use homefleet_net::mtp::websocket::WebSocketConnection;
use homefleet_net::mtp::{SendError, State};
use homefleet_usp::mtp::retry::RetryPolicy;
use homefleet_usp::record::RecordBody;
use tokio::net::TcpListener;

use super::raw::{CLOSE, FIN, PING, PONG, Raw, V1, switching};
use super::{
    AGENT, CONTROLLER, Hello, PLAIN, SECURE, id, listener, pair, record, side, side_with, to,
};

#[tokio::test]
async fn records_travel_both_ways_over_the_session_that_the_agent_opened() {
    let (mut agent, mut controller) = pair().await;
    agent
        .send(CONTROLLER, record(AGENT, CONTROLLER, b"notify"))
        .await
        .unwrap();
    let (received, origin) = controller.record().await;
    assert_eq!(received.message(), Some(&b"notify"[..]));
    assert_eq!((origin.identity, origin.reply_to), (None, Some(PLAIN)));
    controller
        .send(AGENT, record(CONTROLLER, AGENT, b"get"))
        .await
        .unwrap();
    assert_eq!(agent.payload().await, b"get");
    let (a, c) = (agent.mtp.stats(), controller.mtp.stats());
    assert_eq!((a.sessions, a.opened, a.accepted), (1, 1, 0));
    assert_eq!((c.sessions, c.opened, c.accepted), (1, 0, 1));
    assert_eq!((c.records_in, a.records_out), (1, 1));
    assert_eq!(c.half_open, 0);
    assert!(agent.mtp.status("main").unwrap().is_up());
}

#[tokio::test]
async fn the_session_that_the_controller_opened_serves_as_well() {
    let (mut agent, mut controller) = (side(AGENT), side(CONTROLLER));
    let address = agent.listen().await;
    let connection = WebSocketConnection {
        endpoint_id: Some(id(AGENT)),
        ..to(address)
    };
    controller.mtp.open("agent", connection);
    let channel = controller.up().await;
    assert_eq!(channel.connection.as_deref(), Some("agent"));
    assert_eq!(agent.up().await.connection, None);
    agent
        .send(CONTROLLER, record(AGENT, CONTROLLER, b"notify"))
        .await
        .unwrap();
    assert_eq!(controller.payload().await, b"notify");
}

#[tokio::test]
async fn a_session_over_ipv6_is_as_good() {
    let (mut agent, controller) = (side(AGENT), side(CONTROLLER));
    let address = controller
        .mtp
        .listen("all", listener("[::1]:0", false))
        .await
        .unwrap();
    for host in ["::1", "[::1]"] {
        let connection = WebSocketConnection {
            host: host.to_owned(),
            ..to(address)
        };
        agent.mtp.open(host, connection);
        agent.up().await;
        agent.mtp.close(host).await;
        assert_eq!(agent.down().await, "closed here");
    }
}

#[tokio::test]
async fn a_name_is_resolved() {
    let (mut agent, controller) = (side(AGENT), side(CONTROLLER));
    let address = controller.listen().await;
    let connection = WebSocketConnection {
        host: "localhost".to_owned(),
        ..to(address)
    };
    agent.mtp.open("main", connection);
    agent.up().await;
}

#[tokio::test]
async fn the_greeting_is_the_first_that_goes_out_on_every_session() {
    let mut agent = side_with(AGENT, |config| config.greeter = Arc::new(Hello(AGENT)));
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    agent.mtp.open("main", to(server.local_addr().unwrap()));
    for _ in 0..2 {
        let (mut raw, _) = Raw::accept(&server, &switching(V1)).await;
        agent.up().await;
        let sent = record(AGENT, CONTROLLER, b"notify");
        agent.send(CONTROLLER, sent.clone()).await.unwrap();
        let (_, first) = raw.read().await;
        let first = homefleet_usp::Record::decode(&first).unwrap();
        assert_eq!(first.body, RecordBody::WebSocketConnect);
        assert_eq!(raw.read().await.1, sent);
        drop(raw);
        agent.down().await;
    }
}

#[tokio::test]
async fn a_session_that_ends_is_opened_again_and_the_count_of_failures_begins_anew() {
    let (mut agent, mut controller) = pair().await;
    controller.mtp.unlisten("all").await;
    assert_eq!(controller.down().await, "this Endpoint shuts down");
    assert_eq!(
        agent.down().await,
        "closed by the other side with Some(1001)"
    );
    let fails = |state: &State| matches!(state, State::Error(_));
    agent.fares("main", fails).await;
    assert!(agent.mtp.status("main").unwrap().failures > 0);
    assert_eq!(
        agent
            .send(CONTROLLER, record(AGENT, CONTROLLER, b"x"))
            .await,
        Err(SendError::NotConnected)
    );
    let address = controller.listen().await;
    agent.mtp.open("main", to(address));
    agent.up().await;
    controller.up().await;
    assert_eq!(agent.mtp.status("main").unwrap().failures, 0);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_again_and_counted() {
    let agent = side(AGENT);
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    agent.mtp.open("main", to(address));
    let stats = agent.stats(|stats| stats.dials_failed >= 3).await;
    assert_eq!(stats.sessions, 0);
    agent
        .fares(
            "main",
            |state| matches!(state, State::Error(why) if why.contains("refused")),
        )
        .await;
    assert!(agent.mtp.status("main").unwrap().failures >= 3);
    assert_eq!(agent.mtp.status("other"), None);
}

#[tokio::test]
async fn the_wait_before_the_next_attempt_is_the_policys() {
    let mut agent = side(AGENT);
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let patient = WebSocketConnection {
        retry: RetryPolicy::websocket(3600, 2000),
        ..to(address)
    };
    agent.mtp.open("main", patient.clone());
    agent
        .fares("main", |state| matches!(state, State::Error(_)))
        .await;
    assert_eq!(agent.mtp.stats().dials_failed, 1);
    // Other settings are tried at once.
    let controller = side(CONTROLLER);
    let there = controller.listen().await;
    agent.mtp.open("main", to(there));
    agent.up().await;
}

#[tokio::test]
async fn other_settings_open_the_session_anew_only_when_they_lead_elsewhere() {
    let (mut agent, mut controller, other) = (side(AGENT), side(CONTROLLER), side(CONTROLLER));
    let (here, there) = (controller.listen().await, other.listen().await);
    agent.mtp.open("main", to(here));
    agent.up().await;
    controller.up().await;
    agent.mtp.open("main", to(there));
    assert_eq!(agent.down().await, "closed here");
    let first = agent.up().await;
    assert_eq!(
        controller.down().await,
        "closed by the other side with Some(1000)"
    );
    // The interval of Pings changes on the session that there is.
    agent.mtp.open(
        "main",
        WebSocketConnection {
            keep_alive: Some(Duration::from_millis(1)),
            ..to(there)
        },
    );
    agent.stats(|stats| stats.pings_out >= 2).await;
    assert_eq!(agent.mtp.stats().sessions, 1);
    agent.mtp.open("main", to(here));
    agent.down().await;
    assert_ne!(agent.up().await.id, first.id);
}

#[tokio::test]
async fn what_is_closed_here_stays_closed() {
    let (mut agent, mut controller) = pair().await;
    agent.mtp.close("main").await;
    assert_eq!(agent.down().await, "closed here");
    assert_eq!(
        controller.down().await,
        "closed by the other side with Some(1000)"
    );
    assert_eq!(agent.mtp.status("main"), None);
    assert_eq!(agent.mtp.stats().sessions, 0);
    agent.mtp.close("main").await;
}

#[tokio::test]
async fn a_shutdown_tells_every_peer_and_lets_nobody_in() {
    let (mut agent, mut controller) = pair().await;
    controller.mtp.shutdown().await;
    assert_eq!(controller.down().await, "this Endpoint shuts down");
    assert_eq!(
        agent.down().await,
        "closed by the other side with Some(1001)"
    );
    assert_eq!(controller.mtp.stats().sessions, 0);
    assert!(
        controller
            .mtp
            .listen("new", listener("127.0.0.1:0", false))
            .await
            .is_err()
    );
    agent.mtp.shutdown().await;
    assert_eq!(agent.mtp.stats().sessions, 0);
}

#[tokio::test]
async fn with_the_last_handle_everything_ends() {
    let (mut agent, controller) = pair().await;
    drop(controller.mtp);
    assert_eq!(
        agent.down().await,
        "closed by the other side with Some(1001)"
    );
}

#[tokio::test]
async fn a_ping_is_answered_with_its_payload() {
    let mut controller = side(CONTROLLER);
    let address = controller.listen().await;
    let mut raw = Raw::open(address, "/usp?eid=os::00256D-agent").await;
    controller.up().await;
    raw.frame(FIN | PING, b"there?").await;
    assert_eq!(raw.read().await, (FIN | PONG, b"there?".to_vec()));
}

#[tokio::test]
async fn pings_go_out_every_interval_and_a_peer_that_answers_none_is_given_up() {
    let mut controller = side_with(CONTROLLER, |config| {
        config.session.keep_alive = Some(Duration::from_millis(20));
        config.session.pong_timeout = Duration::from_secs(3600);
    });
    let address = controller.listen().await;
    let mut raw = Raw::open(address, "/usp?eid=os::00256D-agent").await;
    controller.up().await;
    for _ in 0..2 {
        assert_eq!(raw.read().await, (FIN | PING, vec![]));
        raw.frame(FIN | PONG, b"").await;
    }
    let mut strict = side_with(CONTROLLER, |config| {
        config.session.keep_alive = Some(Duration::from_millis(20));
        config.session.pong_timeout = Duration::from_millis(20);
    });
    let address = strict.listen().await;
    let _raw = Raw::open(address, "/usp?eid=os::00256D-agent").await;
    strict.up().await;
    assert_eq!(strict.down().await, "no answer to a Ping");
    assert_eq!(strict.mtp.stats().unresponsive, 1);
}

#[tokio::test]
async fn a_close_is_answered_with_its_code() {
    let mut controller = side(CONTROLLER);
    let address = controller.listen().await;
    for (sent, answered) in [(1000_u16, 1000), (1001, 1001), (4321, 4321), (1005, 1002)] {
        let mut raw = Raw::open(address, "/usp?eid=os::00256D-agent").await;
        controller.up().await;
        raw.frame(FIN | CLOSE, &sent.to_be_bytes()).await;
        assert_eq!(raw.close_code().await, answered);
        raw.end().await;
        controller.down().await;
    }
}

#[tokio::test]
async fn a_connection_that_just_ends_is_lost_and_counted() {
    let mut controller = side(CONTROLLER);
    let address = controller.listen().await;
    let mut raw = Raw::open(address, "/usp?eid=os::00256D-agent").await;
    controller.up().await;
    // In the middle of a frame.
    raw.write(&[FIN | 2, 0x80 | 100, 1, 2, 3, 4, 5]).await;
    drop(raw);
    assert_eq!(controller.down().await, "the connection ended");
    assert_eq!(controller.mtp.stats().lost, 1);
}

#[tokio::test]
async fn nothing_is_sent_without_a_session_or_on_a_weaker_one() {
    let (agent, _controller) = pair().await;
    let bytes = record(AGENT, CONTROLLER, b"x");
    assert_eq!(
        agent.send("os::00256D-other", bytes.clone()).await,
        Err(SendError::NotConnected)
    );
    assert_eq!(
        agent
            .mtp
            .send(&SECURE, &id(CONTROLLER), bytes.clone())
            .await,
        Err(SendError::WeakerChannel)
    );
    let uds = homefleet_net::mtp::Route::Uds;
    assert_eq!(
        agent.mtp.send(&uds, &id(CONTROLLER), bytes).await,
        Err(SendError::NoMtp)
    );
}

#[tokio::test]
async fn sessions_without_tls_are_only_there_when_they_are_allowed() {
    let strict = side_with(AGENT, |config| config.allow_plain = false);
    let plain = listener("127.0.0.1:0", false);
    assert!(strict.mtp.listen("all", plain).await.is_err());
    let secure = listener("127.0.0.1:0", true);
    assert!(strict.mtp.listen("all", secure).await.is_err(), "no TLS");
    let controller = side(CONTROLLER);
    let address = controller.listen().await;
    strict.mtp.open("main", to(address));
    strict
        .fares(
            "main",
            |state| matches!(state, State::Error(why) if why.contains("not enabled")),
        )
        .await;
    let secure = WebSocketConnection {
        secure: true,
        ..to(address)
    };
    strict.mtp.open("main", secure);
    strict
        .fares(
            "main",
            |state| matches!(state, State::Error(why) if why.contains("TLS is not set up")),
        )
        .await;
    assert_eq!(controller.mtp.stats().accepted, 0);
}
