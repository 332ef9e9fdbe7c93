//! A server that is killed in the middle of a stream of notifications: what it confirmed is stored, over every MTP.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use homefleet_net::mtp::Event;
use homefleet_server::config::Version;
use homefleet_server::store::Parameters as _;
use homefleet_server::store::sqlite::SqliteStore;
use homefleet_server::{Config, Server};
use homefleet_usp::message::{Body, Message, Response};

use crate::common::value_change;
use crate::live::WAIT;
use crate::over::{Device, Home, trusted_mosquitto};

const CONFIGURATION: &str = "HOMEFLEET_TEST_KILLED";
/// Notifications of a round, told without waiting for one to be confirmed.
const ROUND: usize = 150;

/// The process that is killed.
#[test]
#[ignore = "started by the tests below"]
fn helper_serves_until_killed() {
    let Some(file) = std::env::var_os(CONFIGURATION) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let config = Config::load(Path::new(&file)).unwrap();
        let _server = Server::start(config).await.unwrap();
        // The parent waits for this line on standard error, which no harness captures.
        use std::io::Write as _;
        std::io::stderr().write_all(b"ready\n").unwrap();
        std::future::pending::<()>().await;
    });
}

struct Served(Child);

impl Served {
    fn start(file: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "killed::helper_serves_until_killed"])
            .arg("--nocapture")
            .env(CONFIGURATION, file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while line != "ready\n" {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "it did not start");
        }
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self(child)
    }
}

impl Drop for Served {
    /// SIGKILL.
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The notification that an event confirms.
fn confirms(event: &Event) -> Option<String> {
    let Event::Record { record, .. } = event else {
        return None;
    };
    let message = Message::decode(record.message()?).ok()?;
    let is_confirmation = matches!(message.body, Body::Response(Response::NotifyResp(_)));
    is_confirmation.then(|| message.id.as_str().to_owned())
}

/// Tells all that are not confirmed, until `enough` are.
async fn tell(device: &mut Device, confirmed: &mut BTreeSet<String>, enough: usize) {
    let told = tokio::time::timeout(2 * WAIT, async {
        loop {
            for number in 0..ROUND {
                let id = format!("n-{number}");
                if !confirmed.contains(&id) {
                    let path = format!("Device.Killed.{number}");
                    // While the server is away nothing is taken.
                    let _tried = device.try_send(value_change(&id, true, &path, &id)).await;
                }
                while let Ok(event) = device.events.try_recv() {
                    confirmed.extend(confirms(&event));
                }
                if confirmed.len() >= enough {
                    return;
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    told.await.expect("they are never confirmed");
}

/// Every notification that was confirmed is on disk.
async fn check(home: &Home, confirmed: &BTreeSet<String>) {
    let store = SqliteStore::open(&home.config.store_path()).unwrap();
    let stored = store.parameters(&home.device, "Device.Killed.", None, 10 * ROUND);
    let stored: BTreeSet<String> = stored
        .await
        .unwrap()
        .into_iter()
        .map(|value| value.value)
        .collect();
    let lost: Vec<&String> = confirmed.difference(&stored).collect();
    assert!(lost.is_empty(), "confirmed and not stored: {lost:?}");
    store.close();
}

async fn killed_again_and_again(home: &Home, mut device: Device, file: &Path) {
    let mut confirmed = BTreeSet::new();
    for enough in [10, 60, 61, ROUND] {
        let server = tokio::task::block_in_place(|| Served::start(file));
        tell(&mut device, &mut confirmed, enough).await;
        tokio::task::block_in_place(|| drop(server));
        // What was confirmed before the end and is still on its way counts too.
        while let Ok(event) = device.events.try_recv() {
            confirmed.extend(confirms(&event));
        }
        check(home, &confirmed).await;
    }
    assert_eq!(confirmed.len(), ROUND);
    device.mtps.shutdown().await;
}

fn configuration(home: &Home, mtp: &str) -> std::path::PathBuf {
    let tls = &home.config.tls;
    let brokers = tls.brokers.as_ref();
    let brokers = brokers.map_or(String::new(), |path| format!("brokers = {path:?}\n"));
    let text = format!(
        "version = 1\nendpoint_id = {:?}\ndata_dir = {:?}\n[coap]\nlisten = \"127.0.0.1:0\"\n\
         [http]\nlisten = \"127.0.0.1:0\"\n[tls]\ncertificate = {:?}\nkey = {:?}\nanchors = {:?}\n{brokers}{mtp}\n",
        home.controller, home.config.data_dir, tls.certificate, tls.key, tls.anchors,
    );
    home.write("homefleet.toml", &text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_over_websocket_survives_kill_9() {
    let home = Home::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = free.local_addr().unwrap();
    drop(free);
    let file = configuration(&home, &format!("[websocket]\nlisten = \"{at}\"\n"));
    let device = home.over_websocket_at(&format!("wss://{at}/usp"), true);
    killed_again_and_again(&home, device, &file).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_over_mqtt_survives_kill_9() {
    let Some((home, broker)) = trusted_mosquitto() else {
        return;
    };
    assert_eq!(home.config.mqtt[0].version, Version::V5);
    let mtp = format!(
        "[[mqtt]]\nname = \"home\"\nhost = \"127.0.0.1\"\nport = {}\ntopic = {:?}\n",
        broker.tls_port(),
        home.topic(),
    );
    let file = configuration(&home, &mtp);
    let mut device = home.over_mqtt("device");
    device.up().await;
    killed_again_and_again(&home, device, &file).await;
}
