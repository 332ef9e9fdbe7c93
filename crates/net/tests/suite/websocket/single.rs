//! At most one session between two Endpoints (R-WS.4).

use homefleet_net::mtp::websocket::WebSocketConnection;
use homefleet_net::mtp::{Event, State};

use tokio::time::timeout;

use super::raw::{CLOSE, FIN, Raw};
use super::{AGENT, CONTROLLER, PATIENCE, Side, id, record, side, to};

#[tokio::test]
async fn of_two_sessions_with_one_endpoint_the_newer_stays() {
    let mut controller = side(CONTROLLER);
    let address = controller.listen().await;
    let mut old = Raw::open(address, "/usp?eid=os::00256D-agent").await;
    let first = controller.up().await;
    let mut new = Raw::open(address, "/usp?eid=os::00256D-agent").await;
    assert_eq!(old.close_code().await, 1000);
    old.frame(FIN | CLOSE, &1000_u16.to_be_bytes()).await;
    old.end().await;
    // The end of the old one and the beginning of the new one are told in any order.
    let (mut ended, mut begun) = (None, None);
    while ended.is_none() || begun.is_none() {
        match controller.next().await {
            Event::Down { id, .. } => ended = Some(id),
            Event::Up(channel) => begun = Some(channel.id),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ended, Some(first.id));
    let sent = record(CONTROLLER, AGENT, b"get");
    controller.send(AGENT, sent.clone()).await.unwrap();
    assert_eq!(new.read().await.1, sent);
    assert_eq!(controller.mtp.stats().replaced, 1);
}

#[tokio::test]
async fn an_endpoint_that_has_a_session_with_us_is_not_dialled() {
    let (mut agent, mut controller) = (side(AGENT), side(CONTROLLER));
    let (at_agent, at_controller) = (agent.listen().await, controller.listen().await);
    agent.mtp.open("main", to(at_controller));
    agent.up().await;
    controller.up().await;
    let back = WebSocketConnection {
        endpoint_id: Some(id(AGENT)),
        ..to(at_agent)
    };
    controller.mtp.open("back", back);
    controller.fares("back", |state| *state == State::Up).await;
    assert_eq!(controller.mtp.stats().opened, 0);
    // When it ends, it is.
    agent.mtp.close("main").await;
    agent.down().await;
    controller.down().await;
    assert_eq!(controller.up().await.connection.as_deref(), Some("back"));
}

#[tokio::test]
async fn two_endpoints_that_dial_each_other_at_the_same_time_keep_one_session() {
    let (agent, controller) = (side(AGENT), side(CONTROLLER));
    let (at_agent, at_controller) = (agent.listen().await, controller.listen().await);
    let back = WebSocketConnection {
        endpoint_id: Some(id(AGENT)),
        ..to(at_agent)
    };
    agent.mtp.open("main", to(at_controller));
    controller.mtp.open("back", back);
    let sends = async |from: &Side, from_id, to_id| {
        from.send(to_id, record(from_id, to_id, b"x")).await.is_ok()
    };
    let settled = async {
        loop {
            settle(&agent, &controller).await;
            if sends(&agent, AGENT, CONTROLLER).await && sends(&controller, CONTROLLER, AGENT).await
            {
                return;
            }
        }
    };
    timeout(PATIENCE, settled).await.expect("one stays");
}

/// Waits until both have one session, as far as they can see.
async fn settle(agent: &Side, controller: &Side) {
    for (side, name) in [(agent, "main"), (controller, "back")] {
        side.fares(name, |state| *state == State::Up).await;
        side.stats(|stats| stats.sessions == 1).await;
    }
}
