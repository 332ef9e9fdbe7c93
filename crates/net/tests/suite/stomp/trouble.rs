//! A broker that fails, and what comes through one that is not good.

use std::time::{Duration, Instant};

use homefleet_net::mtp::{Event, SendError, State};
use homefleet_usp::ErrorCode;
use homefleet_usp::mtp::stomp::{CONTENT_TYPE, Command, Frame, HeartBeat};

use super::{AGENT, CONTROLLER, Endpoint, plain, record, route, until};
use crate::support::stomp::{Broker, LIMIT, message};

#[tokio::test]
async fn an_error_frame_ends_the_connection_and_it_is_tried_again() {
    let broker = Broker::start().await;
    let mut agent = Endpoint::new(AGENT);
    agent.open(&plain(broker.port(), "/queue/agent"));
    // While the login is refused.
    let mut client = broker.accept().await;
    client.hear(Command::Stomp).await;
    let mut error = Frame::new(Command::Error).with("message", "Bad CONNECT");
    error.body = b"Access refused for user 'user'\n".to_vec();
    client.say(&error).await;
    client.closed().await;
    // While the subscription is refused.
    let mut client = broker.accept().await;
    assert!(agent.mtp.status("main").unwrap().failures >= 1);
    client.hear(Command::Stomp).await;
    client.connected(&[]).await;
    client.hear(Command::Subscribe).await;
    client.say(&error).await;
    client.closed().await;
    assert_eq!(agent.stats().connected, 0, "it was never up");
    // While it is open.
    let mut client = broker.take(&[]).await;
    agent.up().await;
    let status = agent.mtp.status("main").unwrap();
    assert_eq!((status.state, status.failures), (State::Up, 0));
    client.say(&error).await;
    client.closed().await;
    assert_eq!(
        agent.down().await,
        "the broker says: Bad CONNECT Access refused for user 'user' "
    );
    let _client = broker.take(&[]).await;
    agent.up().await;
    assert_eq!((agent.stats().broker_errors, agent.stats().failed), (3, 3));
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_tried_until_it_is() {
    let broker = Broker::start().await;
    let mut agent = Endpoint::new(AGENT);
    agent.open(&plain(broker.port(), "/queue/agent"));
    for _ in 0..2 {
        drop(broker.accept().await);
    }
    let _client = broker.take(&[]).await;
    agent.up().await;
    assert_eq!(agent.stats().failed, 2);
}

#[tokio::test]
async fn a_missed_heart_beat_ends_the_connection_and_it_is_tried_again() {
    let broker = Broker::start().await;
    let mut spec = plain(broker.port(), "/queue/agent");
    spec.heart_beat = Some(HeartBeat {
        outgoing: 0,
        incoming: 500,
    });
    let mut agent = Endpoint::new(AGENT);
    agent.open(&spec);
    let mut client = broker.take(&[("heart-beat", "500,0")]).await;
    agent.up().await;
    client.closed().await;
    assert_eq!(agent.down().await, "no heart-beat from the broker");
    let _client = broker.take(&[]).await;
    agent.up().await;
    assert_eq!(agent.stats().heart_beats_missed, 1);
}

#[tokio::test]
async fn what_is_no_stomp_ends_the_connection_and_it_is_tried_again() {
    let broker = Broker::start().await;
    let mut agent = Endpoint::new(AGENT);
    agent.open(&plain(broker.port(), "/queue/agent"));
    for (number, garbage) in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"MESSAGE\nno colon\n\n\0",
        b"CONNECTED\nversion:1.2\n\n\0",
        b"\xff\xfe\0\n",
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = broker.take(&[]).await;
        agent.up().await;
        client.write(garbage).await;
        client.closed().await;
        agent.down().await;
        assert_eq!(agent.stats().protocol_errors, 1 + number as u64);
    }
    let _client = broker.take(&[]).await;
    agent.up().await;
}

#[tokio::test]
async fn a_frame_that_ends_in_its_middle_is_nothing_and_the_connection_is_made_again() {
    let broker = Broker::start().await;
    let mut agent = Endpoint::new(AGENT);
    agent.open(&plain(broker.port(), "/queue/agent"));
    let mut client = broker.take(&[]).await;
    agent.up().await;
    let bytes = message(&record(CONTROLLER, AGENT, "get"), "/queue/c").encode();
    client.write(&bytes[..bytes.len() - 2]).await;
    drop(client);
    agent.down().await;
    let mut client = broker.take(&[]).await;
    agent.up().await;
    client.write(&bytes).await;
    agent.record().await;
    assert_eq!(agent.stats().records_in, 1);
}

#[tokio::test]
async fn a_message_that_is_no_record_is_told_with_its_way_back_and_the_connection_stays() {
    let broker = Broker::start().await;
    let mut agent = Endpoint::new(AGENT);
    agent.open(&plain(broker.port(), "/queue/agent"));
    let mut client = broker.take(&[]).await;
    agent.up().await;
    let wrong = |content: &str| {
        Frame::new(Command::Message)
            .with("subscription", "1")
            .with("content-type", content)
            .with("reply-to-dest", "/queue/c")
            .with_body(b"this is text".to_vec())
    };
    client.say(&wrong("text/plain")).await;
    client.say(&wrong(CONTENT_TYPE)).await;
    match agent.event().await {
        Event::Erroneous { error, origin } => {
            assert_eq!(error.code(), Some(ErrorCode::RECORD_NOT_PARSED));
            assert_eq!(origin.reply_to, Some(route("/queue/c")));
        }
        other => panic!("{other:?}"),
    }
    client
        .say(&message(&record(CONTROLLER, AGENT, "get"), "/queue/c"))
        .await;
    agent.record().await;
    let stats = agent.stats();
    assert_eq!(
        (stats.other_content, stats.erroneous, stats.records_in),
        (1, 1, 1)
    );
}

#[tokio::test]
async fn a_record_too_large_is_told_and_the_connection_stays() {
    let broker = Broker::start().await;
    let mut agent = Endpoint::with(AGENT, 64, |config| config.max_record = 1000);
    agent.open(&plain(broker.port(), "/queue/agent"));
    let mut client = broker.take(&[]).await;
    agent.up().await;
    let large = record(CONTROLLER, AGENT, &"x".repeat(1_000_000));
    client.say(&message(&large, "/queue/c")).await;
    match agent.event().await {
        Event::Erroneous { error, .. } => {
            assert_eq!(error.code(), Some(ErrorCode::RESOURCES_EXCEEDED));
        }
        other => panic!("{other:?}"),
    }
    // More headers than are kept, one without end, and one that is no text, all from whoever sent it.
    let mut odd = message(&record(CONTROLLER, AGENT, "get"), "/queue/c").encode();
    let mut more: Vec<u8> = (0..100)
        .flat_map(|number| format!("x{number}:y\n").into_bytes())
        .collect();
    more.extend(format!("long:{}\n", "x".repeat(100_000)).bytes());
    more.extend(b"odd:\xff\n");
    let length = odd
        .windows(16)
        .position(|bytes| bytes == b"\ncontent-length:")
        .unwrap();
    odd.splice(length + 1..length + 1, more);
    client.write(&odd).await;
    agent.record().await;
    assert_eq!(agent.stats().failed, 0);
}

#[tokio::test]
async fn a_record_is_delivered_when_the_broker_acknowledges_it_and_lost_when_it_does_not() {
    let broker = Broker::start().await;
    let mut agent = Endpoint::new(AGENT);
    agent.open(&plain(broker.port(), "/queue/agent"));
    let mut client = broker.take(&[]).await;
    agent.up().await;
    let notify = record(AGENT, CONTROLLER, "notify");
    let both = async {
        tokio::join!(
            agent.send(CONTROLLER, "/queue/one", &notify),
            agent.send(CONTROLLER, "/queue/two", &notify)
        )
    };
    let hearing = async {
        let first = client.hear(Command::Send).await;
        let second = client.hear(Command::Send).await;
        let acknowledged = if first.header("destination") == Some("/queue/one") {
            first
        } else {
            second
        };
        client.receipt(&acknowledged).await;
        drop(client);
    };
    let (results, ()) = tokio::join!(both, hearing);
    assert_eq!(results, (Ok(()), Err(SendError::Lost)));
}

#[tokio::test]
async fn without_receipts_a_record_is_delivered_when_it_is_written() {
    let broker = Broker::start().await;
    let mut agent = Endpoint::new(AGENT);
    agent.open(&plain(broker.port(), "/queue/agent"));
    let mut client = broker.accept().await;
    client.hear(Command::Stomp).await;
    client.connected(&[]).await;
    client.hear(Command::Subscribe).await;
    // That it brings something shows that the subscription stands.
    client
        .say(&message(&record(CONTROLLER, AGENT, "get"), "/queue/c"))
        .await;
    agent.up().await;
    agent.record().await;
    let answer = record(AGENT, CONTROLLER, "answer");
    assert_eq!(agent.send(CONTROLLER, "/queue/c", &answer).await, Ok(()));
    assert_eq!(client.hear(Command::Send).await.header("receipt"), None);
}

#[tokio::test]
async fn nothing_is_lost_and_no_heart_beat_missed_while_nobody_has_time_for_what_comes() {
    let broker = Broker::start().await;
    let mut spec = plain(broker.port(), "/queue/agent");
    spec.heart_beat = Some(HeartBeat {
        outgoing: 20,
        incoming: 1000,
    });
    let mut agent = Endpoint::with(AGENT, 1, |_| {});
    agent.open(&spec);
    let mut client = broker.take(&[("heart-beat", "1000,20")]).await;
    agent.up().await;
    // Three at once: one is in the queue, the others wait, and nothing more is read.
    let bytes: Vec<u8> = (0..3)
        .flat_map(|number| {
            let record = record(CONTROLLER, AGENT, &number.to_string());
            message(&record, "/queue/c").encode()
        })
        .collect();
    client.write(&bytes).await;
    // More than two intervals of silence: the agent beats, and waits.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(2200) {
        client.beats(1).await;
    }
    for number in 0..3 {
        let (received, _) = agent.record().await;
        assert_eq!(received, record(CONTROLLER, AGENT, &number.to_string()));
    }
    assert!(agent.stats().held_back > 0);
    assert_eq!(agent.stats().heart_beats_missed, 0);
}

#[tokio::test]
async fn a_connection_ends_when_it_is_to_though_nobody_hears_what_came_over_it() {
    let broker = Broker::start().await;
    let mut agent = Endpoint::with(AGENT, 1, |_| {});
    agent.open(&plain(broker.port(), "/queue/agent"));
    let mut client = broker.take(&[]).await;
    agent.up().await;
    let one = message(&record(CONTROLLER, AGENT, "get"), "/queue/c").encode();
    client.write(&one.repeat(40)).await;
    until(|| agent.stats().held_back > 0).await;
    tokio::time::timeout(LIMIT, agent.mtp.shutdown())
        .await
        .expect("the connection stays");
    assert_eq!(agent.stats().up, 0);
}

#[tokio::test]
async fn a_broker_that_does_not_read_fills_a_bounded_queue_and_no_more() {
    let broker = Broker::start().await;
    let mut agent = Endpoint::with(AGENT, 64, |config| config.max_queued = 100_000);
    agent.open(&plain(broker.port(), "/queue/agent"));
    let mut client = broker.take(&[]).await;
    agent.up().await;
    let large = record(AGENT, CONTROLLER, &"x".repeat(60_000));
    let mut sending = tokio::task::JoinSet::new();
    // The sockets' buffers take some megabytes, whatever the system.
    while !sending
        .try_join_next()
        .is_some_and(|result| matches!(result, Ok(Err(SendError::Busy))))
    {
        let (mtp, bytes) = (agent.mtp.clone(), large.encode());
        sending.spawn(async move {
            mtp.send(&route("/queue/c"), &super::id(CONTROLLER), bytes)
                .await
        });
        tokio::task::yield_now().await;
    }
    // What was taken arrives.
    let first = client.hear(Command::Send).await;
    client.receipt(&first).await;
    sending.abort_all();
}

#[tokio::test]
async fn a_record_that_is_too_large_is_not_sent() {
    let agent = Endpoint::with(AGENT, 64, |config| config.max_record = 1000);
    let large = record(AGENT, CONTROLLER, &"x".repeat(1000));
    assert_eq!(
        agent.send(CONTROLLER, "/queue/c", &large).await,
        Err(SendError::TooLarge)
    );
}
