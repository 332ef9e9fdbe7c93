//! What depends on whether the time is accurate: first contact, certificate dates, `Device.Time.` (R-SEC.19 to
//! R-SEC.21).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use homefleet_agent::{Agent, Config, provider::time::Clock, store::Store};
use homefleet_net::mtp::SendError;
use homefleet_usp::{
    Message,
    message::{Body, get},
    proto::msg::{Notify, notify::Notification},
};

use crate::{
    bench::{Bench, CONTROLLER, settings},
    pki::{Ca, Controller, install, sessions_become},
};

const WAIT: Duration = Duration::from_secs(60);

fn waiting() -> Bench {
    let mut settings = settings();
    settings.wait_for_time = WAIT;
    Bench::started(settings, Store::in_memory().unwrap())
}

/// OnBoardRequests and `Boot!` events that were sent.
fn greetings(bench: &mut Bench) -> (usize, usize) {
    let told = bench.told();
    let boots = told
        .iter()
        .filter(|sent| matches!(sent, Notification::Event(event) if event.event_name == "Boot!"));
    let boots = boots.count();
    let requests = told
        .iter()
        .filter(|sent| matches!(sent, Notification::OnBoardReq(_)));
    (requests.count(), boots)
}

#[test]
fn r_sec_19_no_controller_is_contacted_before_there_is_accurate_time() {
    let mut bench = waiting();
    bench.pass(Duration::from_secs(40));
    assert_eq!(greetings(&mut bench), (0, 0));
    bench.engine.handle_clock(bench.now, true);
    bench.drain();
    assert_eq!(greetings(&mut bench), (1, 1), "everything once, at once");
}

#[test]
fn r_sec_19_without_accurate_time_controllers_are_contacted_after_a_while() {
    let mut bench = waiting();
    bench.engine.handle_clock(bench.now, false);
    bench.pass(WAIT - Duration::from_secs(1));
    assert_eq!(greetings(&mut bench), (0, 0));
    bench.pass(Duration::from_secs(2));
    assert_eq!(greetings(&mut bench), (1, 1));
    // From then on the retries follow the algorithm from its beginning.
    bench.pass(Duration::from_secs(10));
    assert_eq!(greetings(&mut bench), (1, 1));
}

#[test]
fn who_asks_before_there_is_accurate_time_is_answered() {
    let mut bench = waiting();
    let answer = bench.ask_as(CONTROLLER, get(["Device.X_Test.Label"], 0));
    assert!(matches!(answer, Body::Response(_)));
    assert_eq!(greetings(&mut bench), (0, 0));
}

#[test]
fn an_unrepeated_notification_is_kept_until_controllers_are_contacted() {
    let mut bench = waiting();
    bench.subscribe("ValueChange", "Device.X_Test.Label", &[]);
    bench.set("Device.X_Test.", "Label", "first");
    bench.set("Device.X_Test.", "Label", "second");
    assert!(bench.notifications.is_empty());
    bench.engine.handle_clock(bench.now, true);
    bench.drain();
    let change = |sent: &Notification| match sent {
        Notification::ValueChange(change) => Some(change.param_value.clone()),
        _ => None,
    };
    let changes: Vec<String> = bench.told().iter().filter_map(change).collect();
    assert_eq!(changes, ["first", "second"]);
}

fn is_boot(notify: &Notify) -> bool {
    matches!(&notify.notification, Some(Notification::Event(event)) if event.event_name == "Boot!")
}

/// An agent whose time becomes accurate when the flag says so.
async fn start(directory: &std::path::Path, text: &str, accurate: &Arc<AtomicBool>) -> Agent {
    let config = Config::parse(text, &directory.join("agent.toml"), |_| None).unwrap();
    let flag = accurate.clone();
    let clock = Clock::Asked(Arc::new(move || flag.load(Ordering::SeqCst)));
    Agent::start_with_clock(config, clock).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_sec_20_an_open_session_ends_when_accurate_time_shows_that_its_peer_has_expired() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let mut controller = Controller::with(ca.issue_expired(CONTROLLER), &ca, CONTROLLER).await;
    let text = install(directory.path(), &ca, controller.port())
        .replace("[trust]\n", "[trust]\nwait_for_time = 0\n");
    let accurate = Arc::new(AtomicBool::new(false));
    let agent = start(directory.path(), &text, &accurate).await;
    controller.notified(is_boot).await;
    assert_eq!(
        controller.value("Device.Time.Status").await,
        "Unsynchronized"
    );
    sessions_become(&agent, 1).await;
    accurate.store(true, Ordering::SeqCst);
    // Though nobody says anything.
    sessions_become(&agent, 0).await;
    // Nor is it let in anew.
    let requests = agent.stats().await.unwrap().requests;
    let again = Message::request("again", get(["Device.Time.Status"], 0));
    let refused = controller.send(&again).await.unwrap_err();
    assert!(
        matches!(refused, SendError::Handshake(_) | SendError::Timeout),
        "{refused:?}"
    );
    assert_eq!(agent.stats().await.unwrap().requests, requests);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_with_valid_dates_goes_on_when_the_time_becomes_accurate() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let mut controller = Controller::start(&ca, &ca, CONTROLLER).await;
    let text = install(directory.path(), &ca, controller.port());
    let accurate = Arc::new(AtomicBool::new(false));
    let agent = start(directory.path(), &text, &accurate).await;
    // It waits for the time, and then greets.
    assert_eq!(agent.net_stats().records_out, 0);
    accurate.store(true, Ordering::SeqCst);
    controller.notified(is_boot).await;
    assert_eq!(controller.value("Device.Time.Status").await, "Synchronized");
    agent.stop().await;
}
