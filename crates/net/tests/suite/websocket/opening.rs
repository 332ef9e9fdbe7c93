//! The opening handshake on both sides (R-WS.2, R-WS.7, R-WS.9 to R-WS.12a), and how many may be at it.

use std::time::Duration;

use homefleet_net::mtp::State;
use homefleet_net::mtp::websocket::WebSocketConnection;
use tokio::net::TcpListener;

use super::raw::{Raw, V1, request, switching};
use super::{AGENT, CONTROLLER, id, record, side, side_with, to};

#[tokio::test]
async fn what_is_no_opening_handshake_is_answered_and_counted() {
    let controller = side(CONTROLLER);
    let address = controller.listen().await;
    let good = request("/usp?eid=os::00256D-agent", V1);
    let long = format!("X: {}\r\n", "x".repeat(20_000));
    let requests = [
        ("400", "\u{16}\u{3}\u{1} this is TLS\r\n\r\n".to_owned()),
        ("400", good.replace("HTTP/1.1", "HTTP/1.0")),
        ("400", good.replace("dGhlIHNhbXBsZSBub25jZQ==", "short")),
        ("400", request("/usp?eid=os::00256D-agent", "")),
        ("400", request("/usp", "Sec-WebSocket-Protocol: v2.usp\r\n")),
        ("400", request("/usp?eid=nobody", V1)),
        ("400", request("/usp?eid=os::00256D-controller", V1)),
        ("404", request("/other", V1)),
        ("405", good.replace("GET", "POST")),
        ("426", good.replace("Upgrade: WebSocket\r\n", "")),
        ("426", good.replace("Version: 13", "Version: 8")),
        ("431", request("/usp", &format!("{V1}{long}"))),
    ];
    for (status, request) in &requests {
        let mut raw = Raw::connect(address).await;
        raw.write(request.as_bytes()).await;
        let answer = raw.head().await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer} to {request}"
        );
        assert!(!answer.contains("nobody"), "nothing of the request is told");
        raw.end().await;
    }
    let refused = requests.len() as u64;
    let stats = controller
        .stats(|stats| stats.handshakes_refused == refused && stats.half_open == 0)
        .await;
    assert_eq!((stats.accepted, stats.sessions), (0, 0));
}

#[tokio::test]
async fn the_answer_has_the_subprotocol_and_the_extension_when_it_was_offered() {
    let controller = side(CONTROLLER);
    let address = controller.listen().await;
    for (offered, answered) in [
        ("", false),
        ("Sec-WebSocket-Extensions: permessage-deflate\r\n", false),
        (
            "Sec-WebSocket-Extensions: bbf-usp-protocol; eid=\"os::00256D-agent\"\r\n",
            true,
        ),
    ] {
        let mut raw = Raw::connect(address).await;
        let protocols = "Sec-WebSocket-Protocol: mqtt, v1.usp\r\n";
        let more = format!("{protocols}{offered}");
        raw.write(request("/usp", &more).as_bytes()).await;
        let answer = raw.head().await.to_lowercase();
        assert!(
            answer.contains("sec-websocket-protocol: v1.usp\r\n"),
            "{answer}"
        );
        let extension =
            "sec-websocket-extensions: bbf-usp-protocol; eid=\"os::00256d-controller\"\r\n";
        assert_eq!(answer.contains(extension), answered, "{answer}");
        assert_eq!(answer.contains("extensions"), answered, "{answer}");
    }
}

#[tokio::test]
async fn an_agent_is_known_by_the_query_the_extension_or_its_first_record() {
    let mut controller = side(CONTROLLER);
    let address = controller.listen().await;
    let extension =
        format!("{V1}Sec-WebSocket-Extensions: bbf-usp-protocol; eid=\"os%3A%3A00256D-agent\"\r\n");
    for (target, more, named) in [
        ("/usp?eid=os::00256D-a", V1, "os::00256D-a"),
        ("/usp?x=1&eid=os%3A%3A00256D-b", V1, "os::00256D-b"),
        ("/usp?eid=os::00256D-agent%2521", V1, "os::00256D-agent%21"),
        ("/usp", &extension, AGENT),
        ("/usp", V1, AGENT),
    ] {
        let mut raw = Raw::connect(address).await;
        raw.write(request(target, more).as_bytes()).await;
        raw.head().await;
        raw.record(&record(named, CONTROLLER, b"notify")).await;
        assert_eq!(
            controller.up().await.endpoint_id,
            Some(id(named)),
            "{target}"
        );
        assert_eq!(controller.payload().await, b"notify");
        drop(raw);
        controller.down().await;
    }
}

#[tokio::test]
async fn what_follows_the_request_at_once_is_not_lost() {
    let mut controller = side(CONTROLLER);
    let address = controller.listen().await;
    let mut raw = Raw::connect(address).await;
    let mut bytes = request("/usp", V1).into_bytes();
    let sent = record(AGENT, CONTROLLER, b"early");
    bytes.extend(super::raw::frame(0x82, &sent, Some([1, 2, 3, 4])));
    // In two parts that cut the end of the request.
    let cut = bytes.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 2;
    raw.write(&bytes[..cut]).await;
    tokio::task::yield_now().await;
    raw.write(&bytes[cut..]).await;
    controller.up().await;
    assert_eq!(controller.payload().await, b"early");
}

#[tokio::test]
async fn a_client_asks_as_usp_wants_it() {
    let agent = side("os::00256D-agent%21");
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    agent.mtp.open(
        "main",
        WebSocketConnection {
            path: "usp/c?x=1".to_owned(),
            ..to(address)
        },
    );
    let (_raw, asked) = Raw::accept(&server, &switching(V1)).await;
    assert!(
        asked.starts_with("GET /usp/c?x=1&eid=os::00256D-agent%2521 HTTP/1.1\r\n"),
        "{asked}"
    );
    for line in [&format!("Host: {address}"), V1.trim()] {
        assert!(
            asked.lines().any(|asked| asked == line),
            "{line} in {asked}"
        );
    }
    // No value of RFC 6455 §9.1, so that strict servers refuse it.
    assert!(!asked.to_lowercase().contains("extensions"), "{asked}");
}

#[tokio::test]
async fn a_client_establishes_no_session_when_the_response_is_not_good() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let other = "Sec-WebSocket-Extensions: bbf-usp-protocol; eid=\"os::00256D-other\"\r\n";
    for (answer, why) in [
        (switching(""), "Sec-WebSocket-Protocol"),
        (
            switching("Sec-WebSocket-Protocol: mqtt\r\n"),
            "Sec-WebSocket-Protocol",
        ),
        (
            switching(V1).replace("ACCEPT", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            "Accept",
        ),
        (
            switching(&format!("{V1}{other}")),
            "expected is os::00256D-controller",
        ),
        ("HTTP/1.1 403 Forbidden\r\n\r\n".to_owned(), "answered 403"),
        ("SSH-2.0-OpenSSH\r\n\r\n".to_owned(), "HTTP"),
    ] {
        let mut agent = side(AGENT);
        agent.mtp.open("main", to(address));
        let (_raw, _) = Raw::accept(&server, &answer).await;
        agent
            .fares(
                "main",
                |state| matches!(state, State::Error(text) if text.contains(why)),
            )
            .await;
        assert_eq!(agent.mtp.stats().opened, 0);
        assert!(agent.events.try_recv().is_err());
        agent.mtp.close("main").await;
    }
}

#[tokio::test]
async fn a_client_takes_an_extension_percent_encoded_and_knows_the_server_by_it() {
    let mut agent = side(AGENT);
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connection = WebSocketConnection {
        endpoint_id: None,
        ..to(server.local_addr().unwrap())
    };
    agent.mtp.open("main", connection);
    let more = format!(
        "{V1}Sec-WebSocket-Extensions: bbf-usp-protocol; eid=os%3A%3A00256D-controller\r\n"
    );
    let (mut raw, _) = Raw::accept(&server, &switching(&more)).await;
    assert_eq!(agent.up().await.endpoint_id, Some(id(CONTROLLER)));
    let sent = record(AGENT, CONTROLLER, b"notify");
    agent.send(CONTROLLER, sent.clone()).await.unwrap();
    assert_eq!(raw.read().await.1, sent);
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_ended_in_time_or_makes_room() {
    let late = side_with(CONTROLLER, |config| {
        config.limits.handshake = Duration::from_millis(50);
    });
    let mut raw = Raw::connect(late.listen().await).await;
    raw.write(b"GET /usp HTTP/1.1\r\n").await;
    raw.end().await;
    late.stats(|stats| stats.handshakes_late == 1 && stats.half_open == 0)
        .await;

    let mut full = side_with(CONTROLLER, |config| {
        config.limits.max_half_open = 1;
        config.limits.max_per_prefix = 3;
    });
    let address = full.listen().await;
    let mut first = Raw::connect(address).await;
    full.stats(|stats| stats.half_open == 1).await;
    let _session = Raw::open(address, "/usp?eid=os::00256D-agent").await;
    first.end().await;
    full.up().await;
    full.stats(|stats| stats.evicted == 1 && stats.half_open == 0)
        .await;
    let _second = Raw::open(address, "/usp?eid=os::00256D-b").await;
    let _third = Raw::open(address, "/usp?eid=os::00256D-c").await;
    let mut fourth = Raw::connect(address).await;
    fourth.end().await;
    assert_eq!(full.mtp.stats().turned_away, 1);
}

#[tokio::test]
async fn beyond_the_bound_a_newcomer_is_answered_503_and_one_that_comes_again_is_not() {
    let mut full = side_with(CONTROLLER, |config| config.limits.max_sessions = 1);
    let address = full.listen().await;
    let _first = Raw::open(address, "/usp?eid=os::00256D-agent").await;
    full.up().await;
    let mut other = Raw::connect(address).await;
    other
        .write(request("/usp?eid=os::00256D-b", V1).as_bytes())
        .await;
    assert!(other.head().await.starts_with("HTTP/1.1 503 "));
    let _again = Raw::open(address, "/usp?eid=os::00256D-agent").await;
    drop(other);
    full.stats(|stats| stats.turned_away == 1).await;
}
