//! Revoked Controllers (Figure MTP.1 and Figure "Checking a Certificate", box "Revoked?").

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use homefleet_agent::{Agent, Config, runtime::check_trust};
use homefleet_usp::proto::msg::{Notify, notify::Notification};

use crate::{
    bench::CONTROLLER,
    pki::{Ca, Controller, PATIENCE, install, sessions_become},
};

const DAY: Duration = Duration::from_secs(86_400);
const SERIAL: u64 = 0x1001;

fn is_boot(notify: &Notify) -> bool {
    matches!(&notify.notification, Some(Notification::Event(event)) if event.event_name == "Boot!")
}

/// The configuration of an agent with these keys under `[trust]`.
fn config(directory: &Path, ca: &Ca, controller: &Controller, trust: &str) -> Config {
    let text = install(directory, ca, controller.port())
        .replace("[trust]\n", &format!("[trust]\n{trust}\n"));
    Config::parse(&text, &directory.join("agent.toml"), |_| None).unwrap()
}

async fn start(directory: &Path, ca: &Ca, controller: &Controller, trust: &str) -> Agent {
    Agent::start(config(directory, ca, controller, trust))
        .await
        .unwrap()
}

/// Waits until the agent has given up a delivery; nothing was let out to the controller.
async fn refused(agent: &Agent, controller: &Controller) {
    let end = Instant::now() + PATIENCE;
    while agent.stats().await.unwrap().deliveries_failed == 0 {
        assert!(Instant::now() < end, "{:?}", agent.net_stats());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(controller.mtp.stats().records_in, 0);
}

/// A list in a file, as PEM or DER.
fn write_list(directory: &Path, ca: &Ca, revoked: &[u64], lasts: Duration, pem: bool) {
    let list = ca.list(revoked, lasts);
    let bytes = if pem {
        list.pem().unwrap().into_bytes()
    } else {
        list.der().to_vec()
    };
    std::fs::write(directory.join("ca.crl"), bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_on_a_list_of_the_configuration_is_refused() {
    let ca = Ca::new();
    for (revoked, pem) in [(true, true), (true, false), (false, true)] {
        let directory = tempfile::tempdir().unwrap();
        let issued = ca.issue_revocable(CONTROLLER, SERIAL, None);
        let mut controller = Controller::with(issued, &ca, CONTROLLER).await;
        let listed: &[u64] = if revoked { &[7, SERIAL] } else { &[7] };
        write_list(directory.path(), &ca, listed, DAY, pem);
        let trust = "revocation = \"leaf\"\nrevocation_unknown = \"refuse\"\ncrls = [\"ca.crl\"]";
        let agent = start(directory.path(), &ca, &controller, trust).await;
        if revoked {
            refused(&agent, &controller).await;
        } else {
            controller.notified(is_boot).await;
        }
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_known_about_revocation_is_allowed_or_refused_as_configured() {
    let ca = Ca::new();
    for (unknown, allowed) in [("allow", true), ("refuse", false)] {
        let directory = tempfile::tempdir().unwrap();
        // Nobody listens at the address of the list.
        let silent = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let list = Some(format!("http://{silent}/ca.crl"));
        let issued = ca.issue_revocable(CONTROLLER, SERIAL, list);
        let mut controller = Controller::with(issued, &ca, CONTROLLER).await;
        let trust = format!("revocation = \"leaf\"\nrevocation_unknown = \"{unknown}\"");
        let agent = start(directory.path(), &ca, &controller, &trust).await;
        if allowed {
            controller.notified(is_boot).await;
        } else {
            refused(&agent, &controller).await;
        }
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_session_of_a_controller_that_is_revoked_ends() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let issued = ca.issue_revocable(CONTROLLER, SERIAL, None);
    let mut controller = Controller::with(issued, &ca, CONTROLLER).await;
    write_list(directory.path(), &ca, &[7], DAY, true);
    let trust = "revocation = \"leaf\"\ncrls = [\"ca.crl\"]";
    let agent = start(directory.path(), &ca, &controller, trust).await;
    controller.notified(is_boot).await;
    sessions_become(&agent, 1).await;
    write_list(directory.path(), &ca, &[7, SERIAL], 2 * DAY, true);
    agent.look_at_lists().await;
    sessions_become(&agent, 0).await;
    agent.stop().await;
}

/// An HTTP server of one list; ends with the test's process.
struct Lists {
    url: String,
    fetched: Arc<AtomicUsize>,
}

impl Lists {
    fn serve(list: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/ca.crl", listener.local_addr().unwrap());
        let fetched = Arc::new(AtomicUsize::new(0));
        let count = fetched.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let Ok(mut connection) = connection else {
                    return;
                };
                // One read is enough for a request without a body; whatever it asks, it gets the list.
                let mut request = [0; 4096];
                let _read = connection.read(&mut request);
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/pkix-crl\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    list.len()
                );
                let _sent = connection
                    .write_all(head.as_bytes())
                    .and_then(|()| connection.write_all(&list));
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { url, fetched }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_fetched_while_the_controller_is_held() {
    let ca = Ca::new();
    for revoked in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let listed: &[u64] = if revoked { &[SERIAL] } else { &[] };
        let lists = Lists::serve(ca.list(listed, DAY).der().to_vec());
        let issued = ca.issue_revocable(CONTROLLER, SERIAL, Some(lists.url.clone()));
        let mut controller = Controller::with(issued, &ca, CONTROLLER).await;
        // Nobody is let in before it is known.
        let trust = "revocation = \"leaf\"\nrevocation_unknown = \"refuse\"";
        let agent = start(directory.path(), &ca, &controller, trust).await;
        if revoked {
            refused(&agent, &controller).await;
        } else {
            controller.notified(is_boot).await;
        }
        assert!(lists.fetched.load(Ordering::SeqCst) > 0);
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_default_nobody_asks_whether_a_controller_was_revoked() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let lists = Lists::serve(ca.list(&[SERIAL], DAY).der().to_vec());
    let issued = ca.issue_revocable(CONTROLLER, SERIAL, Some(lists.url.clone()));
    let mut controller = Controller::with(issued, &ca, CONTROLLER).await;
    let agent = start(directory.path(), &ca, &controller, "").await;
    controller.notified(is_boot).await;
    sessions_become(&agent, 1).await;
    assert_eq!(lists.fetched.load(Ordering::SeqCst), 0);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_is_no_good_is_named_before_the_agent_runs() {
    let (directory, ca, other) = (tempfile::tempdir().unwrap(), Ca::new(), Ca::new());
    let controller = Controller::start(&ca, &ca, CONTROLLER).await;
    let trust = "revocation = \"chain\"\ncrls = [\"ca.crl\"]";
    let config = config(directory.path(), &ca, &controller, trust);
    let check = || {
        check_trust(&config)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert!(check().unwrap_err().contains("ca.crl"), "it is not there");
    std::fs::write(directory.path().join("ca.crl"), b"nonsense").unwrap();
    assert!(check().unwrap_err().contains("ca.crl"));
    std::fs::write(directory.path().join("ca.crl"), ca.pem()).unwrap();
    assert!(check().unwrap_err().contains("CERTIFICATE"));
    write_list(directory.path(), &other, &[], DAY, true);
    assert!(check().is_err(), "another CA's");
    write_list(directory.path(), &ca, &[], Duration::from_secs(60), true);
    assert!(check().is_err(), "its time is over");
    // An agent whose list was not renewed runs all the same; what is not known is allowed.
    let agent = Agent::start(config.clone()).await.unwrap();
    agent.stop().await;
    write_list(directory.path(), &ca, &[], DAY, true);
    assert_eq!(check(), Ok(()));
}
