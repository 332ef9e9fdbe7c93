//! WebSocket, as client and as server, and UNIX domain sockets.

use std::{sync::Arc, time::Duration};

use homefleet_net::mtp::{
    NoGreeting, Route, State, UdsConnection, UdsListener, UdsMtp, UdsMtpConfig,
    WebSocketConnection, WebSocketListener, WebSocketMtp, WebSocketMtpConfig,
};
use homefleet_net::tls::Tls;
use homefleet_usp::{
    message::{add, create_object, operate},
    mtp::retry::RetryPolicy,
    record::RecordBody,
};

use super::{ROW, Remote, free_port, start, stats_become, tls};
use crate::{
    bench::{AGENT, CONTROLLER, id},
    pki::Ca,
};

fn websocket(remote: &Remote, tls: Option<Tls>) -> WebSocketMtp {
    WebSocketMtp::new(WebSocketMtpConfig {
        endpoint_id: id(CONTROLLER),
        events: remote.sender.clone(),
        greeter: Arc::new(NoGreeting),
        allow_plain: tls.is_none(),
        tls,
        session: Default::default(),
        limits: Default::default(),
    })
}

/// A controller that listens, and its port.
async fn listening(ca: &Ca, secure: bool) -> (Remote, u16) {
    let mut remote = Remote::new();
    let tls = secure.then(|| tls(&ca.issue(CONTROLLER), ca, None));
    let mtp = websocket(&remote, tls);
    let listener = WebSocketListener {
        address: "127.0.0.1:0".parse().unwrap(),
        path: "/usp".into(),
        secure,
    };
    let address = mtp.listen("test", listener).await.unwrap();
    remote.mtps.websocket = Some(mtp);
    (remote, address.port())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tp_469_7_1_a_controller_manages_this_machine_over_websocket_with_tls() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let (mut remote, port) = listening(&ca, true).await;
    let url = format!("url = \"wss://127.0.0.1:{port}/usp\"");
    let agent = start(directory.path(), &ca, "", &url, "").await;
    remote.exchange().await;
    assert_eq!(remote.others, [RecordBody::WebSocketConnect]);
    assert_eq!(remote.agent, Some(Route::WebSocket { secure: true }));
    assert_eq!(
        remote
            .value(&format!("{ROW}MTP.1.WebSocket.CurrentRetryCount"))
            .await,
        "0"
    );
    assert_eq!(
        agent.local_addr().port(),
        0,
        "no CoAP where nobody asked for it"
    );
    let stopped = tokio::spawn(agent.stop());
    remote.goodbye().await;
    stopped.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_manages_this_machine_over_plain_websocket_when_that_is_allowed() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let (mut remote, port) = listening(&ca, false).await;
    let url = format!("url = \"ws://127.0.0.1:{port}/usp\"");
    let agent = start(directory.path(), &ca, "allow_insecure = true", &url, "").await;
    remote.exchange().await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_ws_6_a_controller_connects_to_the_agent() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let port = free_port();
    let more = format!("[websocket]\nlisten = \"127.0.0.1:{port}\"\n");
    // Its own way is to nowhere.
    let agent = start(
        directory.path(),
        &ca,
        &more,
        "url = \"wss://127.0.0.1:9/usp\"",
        "",
    )
    .await;
    let mut remote = Remote::new();
    let mtp = websocket(&remote, Some(tls(&ca.issue(CONTROLLER), &ca, None)));
    mtp.open(
        "agent",
        WebSocketConnection {
            endpoint_id: Some(id(AGENT)),
            retry: RetryPolicy::websocket(1, 1000),
            ..WebSocketConnection::new("127.0.0.1", port, "/usp", true)
        },
    );
    remote.mtps.websocket = Some(mtp);
    remote.exchange().await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_broker_that_comes_to_the_agent_is_refused() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let broker = ca.issue_broker();
    std::fs::write(directory.path().join("broker.pem"), &broker.chain).unwrap();
    let port = free_port();
    let more = format!("[websocket]\nlisten = \"127.0.0.1:{port}\"\n");
    let nowhere = "url = \"wss://127.0.0.1:9/usp\"";
    let brokers = "brokers = \"broker.pem\"";
    let agent = start(directory.path(), &ca, &more, nowhere, brokers).await;
    let remote = Remote::new();
    // It would stand for every Controller.
    let mtp = websocket(&remote, Some(tls(&broker, &ca, None)));
    mtp.open(
        "agent",
        WebSocketConnection {
            endpoint_id: Some(id(AGENT)),
            retry: RetryPolicy::websocket(1, 1000),
            ..WebSocketConnection::new("127.0.0.1", port, "/usp", true)
        },
    );
    let end = std::time::Instant::now() + crate::pki::PATIENCE;
    loop {
        let status = mtp.status("agent").unwrap();
        assert!(!status.is_up());
        if matches!(&status.state, State::Error(text) if text.contains("alert")) {
            break;
        }
        assert!(std::time::Instant::now() < end, "{status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(agent.stats().await.unwrap().channels_up, 0);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tp_469_7_9_a_controller_that_is_not_trusted_gets_no_session() {
    let (directory, ca, other) = (tempfile::tempdir().unwrap(), Ca::new(), Ca::new());
    let mut remote = Remote::new();
    let mtp = websocket(&remote, Some(tls(&other.issue(CONTROLLER), &ca, None)));
    let listener = WebSocketListener {
        address: "127.0.0.1:0".parse().unwrap(),
        path: "/usp".into(),
        secure: true,
    };
    let port = mtp.listen("test", listener).await.unwrap().port();
    remote.mtps.websocket = Some(mtp.clone());
    let url = format!("url = \"wss://127.0.0.1:{port}/usp\"");
    let more = "listen = \"127.0.0.1:0\"";
    let agent = start(directory.path(), &ca, more, &url, "").await;
    // It is told so by CoAP, where a controller of the right CA asks.
    let mut asker = crate::pki::Controller::start(&ca, &ca, CONTROLLER).await;
    asker.agent = Some(homefleet_net::mtp::Destination {
        uri: format!("coaps://{}/usp", agent.local_addr())
            .parse()
            .unwrap(),
        endpoint_id: Some(agent.endpoint_id().clone()),
    });
    let end = std::time::Instant::now() + crate::pki::PATIENCE;
    while asker
        .value(&format!("{ROW}MTP.1.WebSocket.CurrentRetryCount"))
        .await
        == "0"
    {
        assert!(std::time::Instant::now() < end, "no retry is counted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(agent.stats().await.unwrap().channels_up, 0);
    assert!(remote.others.is_empty());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_controller_writes_moves_it_to_another_mtp_while_the_agent_runs() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let (mut remote, port) = listening(&ca, true).await;
    let url = format!("url = \"wss://127.0.0.1:{port}/usp\"");
    let agent = start(directory.path(), &ca, "", &url, "").await;
    remote.exchange().await;
    // The agent becomes a server, and forgets where the controller listens.
    let own = free_port();
    let params = [("Protocol", "WebSocket", true)];
    remote
        .ask(add(
            false,
            vec![create_object("Device.LocalAgent.MTP.", params)],
        ))
        .await;
    remote
        .set(
            "Device.LocalAgent.MTP.1.WebSocket.",
            "Port",
            &own.to_string(),
        )
        .await;
    remote
        .set("Device.LocalAgent.MTP.1.WebSocket.", "Path", "other")
        .await;
    remote
        .set("Device.LocalAgent.MTP.1.", "Enable", "true")
        .await;
    assert_eq!(remote.value("Device.LocalAgent.MTP.1.Status").await, "Up");
    remote.others.clear();
    remote
        .set(&format!("{ROW}MTP.1.WebSocket."), "Host", "")
        .await;
    remote.goodbye().await;
    remote.others.clear();
    let mtp = remote.mtps.websocket.clone().unwrap();
    mtp.open(
        "agent",
        WebSocketConnection {
            endpoint_id: Some(id(AGENT)),
            retry: RetryPolicy::websocket(1, 1000),
            ..WebSocketConnection::new("127.0.0.1", own, "/other", true)
        },
    );
    while remote.others.is_empty() {
        remote.next().await;
    }
    remote.agent = Some(Route::WebSocket { secure: true });
    assert_eq!(
        remote.value(&format!("{ROW}ProvisioningCode")).await,
        "gold"
    );
    let stats = agent.stats().await.unwrap();
    assert_eq!(
        (stats.trials, stats.rollbacks),
        (1, 0),
        "it was heard in time"
    );
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_locks_the_controller_out_is_undone() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let (mut remote, port) = listening(&ca, true).await;
    let url = format!("url = \"wss://127.0.0.1:{port}/usp\"");
    let agent = start(directory.path(), &ca, "rollback_after = 2", &url, "").await;
    remote.exchange().await;
    remote.others.clear();
    remote
        .set(&format!("{ROW}MTP.1.WebSocket."), "Port", "9")
        .await;
    remote.goodbye().await;
    stats_become(&agent, |stats| stats.rollbacks == 1).await;
    remote.others.clear();
    while !remote.others.contains(&RecordBody::WebSocketConnect) {
        remote.next().await;
    }
    assert_eq!(
        remote.value(&format!("{ROW}MTP.1.WebSocket.Port")).await,
        port.to_string()
    );
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_usp_service_of_this_device_manages_it_over_a_socket_it_connects_to() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let more = "[uds]\nlisten = \"usp.sock\"\n";
    // The controller of the file is reached by a socket too, at which nobody listens.
    let url = format!("url = \"uds:{}/none.sock\"", directory.path().display());
    let agent = start(directory.path(), &ca, more, &url, "").await;
    let mut remote = Remote::new();
    let mtp = UdsMtp::new(UdsMtpConfig::new(id(CONTROLLER), remote.sender.clone()));
    mtp.open(
        "agent",
        UdsConnection::new(directory.path().join("usp.sock")),
    )
    .await;
    remote.mtps.uds = Some(mtp);
    remote.exchange().await;
    assert_eq!(remote.others, [RecordBody::UdsConnect]);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_connects_to_the_socket_of_its_controller() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let mut remote = Remote::new();
    let path = directory.path().join("controller.sock");
    let mtp = UdsMtp::new(UdsMtpConfig::new(id(CONTROLLER), remote.sender.clone()));
    mtp.listen("test", UdsListener::new(&path)).await.unwrap();
    remote.mtps.uds = Some(mtp);
    let url = format!("url = \"uds:{}\"", path.display());
    let agent = start(directory.path(), &ca, "", &url, "").await;
    remote.exchange().await;
    let stopped = tokio::spawn(agent.stop());
    remote.goodbye().await;
    stopped.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notification_that_is_repeated_survives_the_end_of_its_session() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let (mut remote, port) = listening(&ca, true).await;
    let url = format!("url = \"wss://127.0.0.1:{port}/usp\"");
    let agent = start(directory.path(), &ca, "", &url, "").await;
    remote.exchange().await;
    remote
        .set(
            &format!("{ROW}MTP.1.WebSocket."),
            "SessionRetryMinimumWaitInterval",
            "1",
        )
        .await;
    let params = [
        ("ID", "kept", true),
        ("NotifType", "ValueChange", true),
        (
            "ReferenceList",
            "Device.LocalAgent.Controller.1.ControllerCode",
            true,
        ),
        ("Enable", "true", true),
        ("NotifRetry", "true", true),
    ];
    remote
        .ask(add(
            false,
            vec![create_object("Device.LocalAgent.Subscription.", params)],
        ))
        .await;
    // The answer to this is lost with the session, as is the notification, or it comes: never neither.
    let update = homefleet_usp::message::update_object(ROW, [("ControllerCode", "x", true)]);
    let message =
        homefleet_usp::Message::request("last", homefleet_usp::message::set(false, vec![update]));
    remote.send(&message).await.unwrap();
    let mtp = remote.mtps.websocket.clone().unwrap();
    mtp.unlisten("test").await;
    let listener = WebSocketListener {
        address: format!("127.0.0.1:{port}").parse().unwrap(),
        path: "/usp".into(),
        secure: true,
    };
    mtp.listen("test", listener).await.unwrap();
    remote
        .notified(|notify| notify.subscription_id == "kept")
        .await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reboot_ends_the_session_in_order_and_the_next_one_begins_with_a_connect_record() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let (mut remote, port) = listening(&ca, true).await;
    let url = format!("url = \"wss://127.0.0.1:{port}/usp\"");
    let agent = start(directory.path(), &ca, "", &url, "").await;
    remote.exchange().await;
    remote
        .ask(operate(
            "Device.Reboot()",
            "again",
            true,
            Default::default(),
        ))
        .await;
    remote.goodbye().await;
    remote.notified(super::is_boot).await;
    assert_eq!(remote.others.last(), Some(&RecordBody::WebSocketConnect));
    assert_eq!(
        remote.value(&format!("{ROW}ProvisioningCode")).await,
        "gold"
    );
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_made_anew_when_its_controller_wants_that() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let (mut remote, port) = listening(&ca, true).await;
    let url = format!("url = \"wss://127.0.0.1:{port}/usp\"");
    let agent = start(directory.path(), &ca, "", &url, "").await;
    remote.exchange().await;
    remote.others.clear();
    let command = format!("{ROW}MTP.1.WebSocket.Reset()");
    remote
        .ask(operate(command, "", true, Default::default()))
        .await;
    while remote.others.last() != Some(&RecordBody::WebSocketConnect) {
        remote.next().await;
    }
    assert_eq!(
        remote.others.len(),
        2,
        "a Disconnect Record, then a Connect Record"
    );
    assert_eq!(
        remote.value(&format!("{ROW}ProvisioningCode")).await,
        "gold"
    );
    agent.stop().await;
}
