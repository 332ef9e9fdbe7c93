//! Mosquitto on ports of loopback, in a directory of its own. It ends with the process that started it, however that ends.
//!
//! Users, access rights and listeners are those of docs/manual/brokers.md. Nothing here needs the rest of a test suite: other
//! crates take this file in by its path.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "each suite uses its part of it"
)]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const SERVER: &str = "/usr/sbin/mosquitto";
/// How long it may take to start on a busy machine.
const START: Duration = Duration::from_secs(60);

/// The password of every user.
pub(crate) const PASSWORD: &str = "correct horse";

/// Who may do what: a device hears its own topic and no other, and speaks to the Controller over one of its own; the Controller
/// hears and reaches every one. `%u` is the name that a client logged in with, or its certificate's. What stands below a topic
/// is MQTT 3.1.1's way back. Besides, there are a topic that all share and one for each will.
const ACL: &str = "\
pattern read usp/agent/%u
pattern read usp/agent/%u/#
pattern write usp/from/%u
pattern write usp/from/%u/#
pattern write usp/controller
pattern write usp/controller/#
pattern write will/%u

user controller
topic read usp/from/#
topic write usp/agent/#
topic read usp/controller
topic read usp/controller/#
topic read will/#
";

/// The broker's certificate chain and key, and the CA whose client certificates it takes, as PEM.
pub(crate) struct BrokerTls {
    pub(crate) ca: String,
    pub(crate) chain: String,
    pub(crate) key: String,
}

/// A broker.
pub(crate) struct Mosquitto {
    directory: PathBuf,
    port: u16,
    tls_port: Option<u16>,
    keeper: mpsc::Sender<Order>,
}

enum Order {
    Start(mpsc::Sender<()>),
    Stop(&'static str, mpsc::Sender<()>),
}

impl Mosquitto {
    /// Whether it is installed.
    pub(crate) fn is_installed() -> bool {
        Path::new(SERVER).exists()
    }

    /// Starts one for these users, and one named by its certificate's common name over TLS, and waits until it takes
    /// connections. `controller` is the user who may hear and reach all.
    pub(crate) fn start(users: &[&str], controller: &str, tls: Option<&BrokerTls>) -> Self {
        let directory = directory();
        let port = free_port();
        let tls_port = tls.map(|_| free_port());
        configure(&directory, port, tls_port.zip(tls), users, controller);
        let (keeper, orders) = mpsc::channel();
        let kept = directory.clone();
        // The kernel ends the broker when the thread that started it ends: this one ends with the process.
        std::thread::spawn(move || keep(&kept, &orders));
        let broker = Self {
            directory,
            port,
            tls_port,
            keeper,
        };
        broker.begin();
        broker
    }

    /// The port for MQTT without TLS.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The port for MQTT over TLS.
    pub(crate) fn tls_port(&self) -> u16 {
        self.tls_port.expect("the broker was started without TLS")
    }

    /// Ends it as a power failure would.
    pub(crate) fn kill(&self) {
        self.order(|done| Order::Stop("KILL", done));
    }

    /// Ends it as its owner would: sessions are kept.
    pub(crate) fn stop(&self) {
        self.order(|done| Order::Stop("TERM", done));
    }

    /// Starts it again on the same ports, and waits until it takes connections.
    pub(crate) fn begin(&self) {
        self.order(Order::Start);
        let end = Instant::now() + START;
        while !self.log().contains("running") {
            let log = self.log();
            assert!(
                Instant::now() < end && !log.contains("Error"),
                "mosquitto does not start:\n{log}",
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        TcpStream::connect(("127.0.0.1", self.port)).unwrap();
    }

    /// What it said since it was last started.
    pub(crate) fn log(&self) -> String {
        fs::read(self.directory.join("out"))
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .unwrap_or_default()
    }

    fn order(&self, order: impl FnOnce(mpsc::Sender<()>) -> Order) {
        let (done, wait) = mpsc::channel();
        self.keeper.send(order(done)).unwrap();
        wait.recv().unwrap();
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("what mosquitto said:\n{}", self.log());
        }
    }
}

/// Starts and ends the process; when nobody orders any more, ends it for good.
fn keep(directory: &Path, orders: &mpsc::Receiver<Order>) {
    let mut broker: Option<Running> = None;
    for order in orders {
        match order {
            Order::Start(done) => {
                broker = Some(Running(start(directory)));
                done.send(()).unwrap();
            }
            Order::Stop(signal, done) => {
                if let Some(mut running) = broker.take() {
                    let id = running.0.id().to_string();
                    let sent = Command::new("kill").args(["-s", signal, &id]).status();
                    assert!(sent.unwrap().success());
                    running.0.wait().unwrap();
                }
                done.send(()).unwrap();
            }
        }
    }
    drop(broker);
    // It is a temporary directory anyhow.
    let _removed = fs::remove_dir_all(directory);
}

/// A process that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn start(directory: &Path) -> Child {
    let out = fs::File::create(directory.join("out")).unwrap();
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", SERVER, "-c"])
        .arg(directory.join("mosquitto.conf"))
        .stdin(Stdio::null())
        .stdout(out.try_clone().unwrap())
        .stderr(out)
        .spawn()
        .unwrap()
}

fn configure(
    directory: &Path,
    port: u16,
    tls: Option<(u16, &BrokerTls)>,
    users: &[&str],
    controller: &str,
) {
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let write = |name: &str, text: &str| fs::write(path(name), text).unwrap();
    let mut conf = format!(
        "user {}\n\
         allow_anonymous false\n\
         set_tcp_nodelay true\n\
         password_file {}\n\
         acl_file {}\n\
         persistence true\n\
         persistence_location {}/\n\
         max_queued_messages 10000\n\
         log_dest stderr\n\
         log_type all\n\n\
         listener {port} 127.0.0.1\n",
        user(),
        path("users"),
        path("acl"),
        path("."),
    );
    if let Some((port, tls)) = tls {
        write("ca.pem", &tls.ca);
        write("chain.pem", &tls.chain);
        write("key.pem", &tls.key);
        conf.push_str(&format!(
            "\nlistener {port} 127.0.0.1\n\
             cafile {}\n\
             certfile {}\n\
             keyfile {}\n\
             require_certificate true\n\
             use_identity_as_username true\n",
            path("ca.pem"),
            path("chain.pem"),
            path("key.pem"),
        ));
    }
    write("mosquitto.conf", &conf);
    write(
        "acl",
        &ACL.replace("user controller", &format!("user {controller}")),
    );
    let mut lines = String::new();
    for user in users {
        lines.push_str(&format!("{user}:{PASSWORD}\n"));
    }
    write("users", &lines);
    if users.is_empty() {
        return;
    }
    let hashed = Command::new("mosquitto_passwd")
        .args(["-U", &path("users")])
        .status();
    assert!(hashed.unwrap().success());
}

/// Who runs it: as root, mosquitto would become somebody who cannot read a test's files.
fn user() -> String {
    let id = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8_lossy(&id.stdout).trim().to_owned()
}

/// A fresh directory. Those of processes that are no more go.
fn directory() -> PathBuf {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let of = name
            .strip_prefix("mosquitto-")
            .and_then(|rest| rest.split('-').next());
        if of.is_some_and(|of| !Path::new("/proc").join(of).exists()) {
            // Another test may be as quick.
            let _removed = fs::remove_dir_all(entry.path());
        }
    }
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let directory = base.join(format!("mosquitto-{}-{number}", std::process::id()));
    // One of an earlier process with the same number.
    let _removed = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// A TCP port of loopback that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
