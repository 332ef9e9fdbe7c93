//! An independent implementation of the UNIX domain socket binding, in Python, as client and as server.

use std::sync::Arc;
use std::time::Duration;

use homefleet_net::mtp::{State, UdsMtp};
use homefleet_usp::mtp::retry::RetryPolicy;

use crate::support::pair::{AGENT, CONTROLLER};
use crate::support::tool::{Tool, have};
use crate::uds::{Greets, Side, id, record};

const LIMIT: Duration = Duration::from_secs(120);
const PROGRAM: &str = include_str!("interop_uds.py");

fn peer(what: &str, path: &std::path::Path, own: &str, other: &str) -> Tool {
    let path = path.to_str().unwrap();
    Tool::start("python3", &["-c", PROGRAM, what, path, own, other])
}

fn ours(endpoint_id: &'static str) -> Side {
    Side::with(endpoint_id, 16, |config| {
        config.greeter = Arc::new(Greets(id(endpoint_id)));
        config.retry = RetryPolicy::uds();
    })
}

/// Our part of the dialogue.
async fn dialogue(side: &mut Side, own: &str, other: &str) {
    assert_eq!(side.up().await.endpoint_id, Some(id(other)));
    assert_eq!(side.message().await, b"first");
    assert_eq!(side.message().await, b"second");
    side.send(other, record(own, other, b"answer"))
        .await
        .unwrap();
    let large = side.message().await;
    assert_eq!(large.len(), 200_000);
    side.send(other, record(own, other, &large)).await.unwrap();
}

async fn ended(tool: &mut Tool, word: &str) {
    assert!(tool.wait(LIMIT), "{}", tool.output());
    assert!(tool.wait_for(word, LIMIT), "{}", tool.output());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_client_speaks_with_us_and_is_told_what_is_wrong() {
    if !have("python3", &["--version"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.sock");
    let mut agent = ours(AGENT);
    agent.listen(&path).await;
    let mut python = peer("client", &path, CONTROLLER, AGENT);
    dialogue(&mut agent, AGENT, CONTROLLER).await;
    assert!(agent.down().await.1.contains("protobuf"));
    ended(&mut python, "client done").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_speak_with_the_python_server_and_come_back_after_its_error() {
    if !have("python3", &["--version"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("controller.sock");
    let mut python = peer("server", &path, CONTROLLER, AGENT);
    assert!(python.wait_for("listening", LIMIT), "{}", python.output());
    let mut agent = ours(AGENT);
    agent.open(&path).await;
    dialogue(&mut agent, AGENT, CONTROLLER).await;
    assert_eq!(agent.down().await.1, "the other side says: that was enough");
    ended(&mut python, "server done").await;
    let stats = |mtp: &UdsMtp| mtp.stats();
    assert_eq!(stats(&agent.mtp).errors_received, 1);
    assert_eq!(stats(&agent.mtp).connected, 2);
    assert_ne!(agent.mtp.status("socket").unwrap().state, State::Up);
}
