//! RabbitMQ with its STOMP plugin, as a node of its own in a directory of its own, on ports of loopback. It ends with the
//! process that started it, however that ends.
//!
//! Users, permissions and listeners are those of docs/manual/brokers.md. Nothing here needs the rest of a test suite: other
//! crates take this file in by its path.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "each suite uses its part of it"
)]

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The server itself, without Debian's wrapper, which insists on another user.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// Who connects over TLS, and how it is known.
pub(crate) const TLS_SETTINGS: &str = "\
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
stomp.ssl_cert_login = true
ssl_cert_login_from = subject_alternative_name
ssl_cert_login_san_type = uri
ssl_cert_login_san_index = 0
";
/// How long it may take to start on a busy machine.
const START: Duration = Duration::from_secs(180);

/// Who may connect.
#[derive(Clone)]
pub(crate) struct User {
    /// The name it logs in with, or that of its certificate.
    name: String,
    /// None for those that come with a certificate.
    password: Option<String>,
    /// What it may send to, as a regular expression over routing keys of `amq.topic`.
    write: String,
    /// What it may subscribe to.
    read: String,
}

impl User {
    /// A device: reached at `/topic/usp.agent.ENDPOINT-ID`, and heard at `/topic/usp.controller.ENDPOINT-ID` and nowhere else.
    /// Known by its certificate, or by its Endpoint ID and a password.
    pub(crate) fn device(endpoint_id: &str, password: Option<&str>) -> Self {
        let quoted = endpoint_id.replace('.', "\\.");
        Self {
            name: user_name(endpoint_id, password),
            password: password.map(str::to_owned),
            write: format!("^usp\\.controller\\.{quoted}$"),
            read: format!("^usp\\.agent\\.{quoted}$"),
        }
    }

    /// A Controller: hears every device, and reaches every one.
    pub(crate) fn controller(endpoint_id: &str, password: Option<&str>) -> Self {
        Self {
            name: user_name(endpoint_id, password),
            password: password.map(str::to_owned),
            write: "^usp\\.agent\\.".to_owned(),
            read: "^usp\\.controller\\.".to_owned(),
        }
    }
}

/// By its certificate an Endpoint is the URN that stands there.
fn user_name(endpoint_id: &str, password: Option<&str>) -> String {
    match password {
        Some(_) => endpoint_id.to_owned(),
        None => format!("urn:bbf:usp:id:{endpoint_id}"),
    }
}

/// The broker's certificate chain and key, and the CA whose client certificates it takes, as PEM.
pub(crate) struct BrokerTls {
    pub(crate) ca: String,
    pub(crate) chain: String,
    pub(crate) key: String,
}

/// A broker.
pub(crate) struct Rabbit {
    directory: PathBuf,
    port: u16,
    tls_port: Option<u16>,
    keeper: mpsc::Sender<Order>,
}

enum Order {
    Start(mpsc::Sender<()>),
    Kill(mpsc::Sender<()>),
}

impl Rabbit {
    /// Whether it is installed.
    pub(crate) fn is_installed() -> bool {
        Path::new(SERVER).exists()
    }

    /// Starts one and waits until it takes connections.
    pub(crate) fn start(users: &[User], tls: Option<&BrokerTls>) -> Self {
        let directory = directory();
        let (port, epmd, dist) = (free_port(), free_port(), free_port());
        let tls_port = tls.map(|_| free_port());
        write_configuration(&directory, port, tls_port.zip(tls), users);
        let (keeper, orders) = mpsc::channel();
        let kept = directory.clone();
        // The kernel ends the broker when the thread that started it ends: this one ends with the process.
        std::thread::spawn(move || keep(&kept, epmd, dist, &orders));
        let rabbit = Self {
            directory,
            port,
            tls_port,
            keeper,
        };
        rabbit.begin();
        rabbit
    }

    /// The port for STOMP without TLS.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The port for STOMP over TLS.
    pub(crate) fn tls_port(&self) -> u16 {
        self.tls_port.expect("the broker was started without TLS")
    }

    /// Ends it as a power failure would.
    pub(crate) fn kill(&self) {
        self.order(Order::Kill);
    }

    /// Starts it again after [`Rabbit::kill`], on the same ports, and waits until it takes connections.
    pub(crate) fn begin(&self) {
        self.order(Order::Start);
        let end = Instant::now() + START;
        while !self.log().contains("Server startup complete") {
            assert!(
                Instant::now() < end && !self.log().contains("BOOT FAILED"),
                "RabbitMQ does not start:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        TcpStream::connect(("127.0.0.1", self.port)).unwrap();
    }

    /// Its name and version, as it says them.
    pub(crate) fn version(&self) -> String {
        let log = self.log();
        let line = log.lines().find(|line| line.contains("Starting RabbitMQ"));
        let from = line.and_then(|line| line.find("RabbitMQ").map(|at| &line[at..]));
        from.unwrap_or("RabbitMQ (no version)").to_owned()
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

/// Starts and ends the processes; when nobody orders any more, ends them for good.
fn keep(directory: &Path, epmd: u16, dist: u16, orders: &mpsc::Receiver<Order>) {
    let names = Running(start(
        directory,
        "epmd",
        &["-address", "127.0.0.1", "-port", &epmd.to_string()],
        epmd,
        dist,
    ));
    let mut broker = None;
    for order in orders {
        match order {
            Order::Start(done) => {
                fs::write(directory.join("out"), "").unwrap();
                broker = Some(Running(start(directory, SERVER, &[], epmd, dist)));
                done.send(()).unwrap();
            }
            Order::Kill(done) => {
                broker = None;
                done.send(()).unwrap();
            }
        }
    }
    drop((broker, names));
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

fn start(directory: &Path, program: &str, args: &[&str], epmd: u16, dist: u16) -> Child {
    let path = |name: &str| directory.join(name);
    let out = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path("out"))
        .unwrap();
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", program])
        .args(args)
        .env("HOME", path("home"))
        .env("ERL_EPMD_PORT", epmd.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        // Ours is there; one that RabbitMQ started would stay.
        .env("ERL_FLAGS", "-start_epmd false")
        .env("RABBITMQ_NODENAME", format!("homefleet-{dist}@localhost"))
        .env("RABBITMQ_DIST_PORT", dist.to_string())
        .env("RABBITMQ_MNESIA_BASE", path("mnesia"))
        .env("RABBITMQ_LOG_BASE", path("log"))
        .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins"))
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        // One process from beginning to end, which takes the place of its shell.
        .env("detached", "1")
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-kernel inet_dist_use_interface {127,0,0,1} \
             +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
        )
        .stdin(Stdio::null())
        .stdout(out.try_clone().unwrap())
        .stderr(out)
        .spawn()
        .unwrap()
}

fn write_configuration(
    directory: &Path,
    port: u16,
    tls: Option<(u16, &BrokerTls)>,
    users: &[User],
) {
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let write = |name: &str, text: &str| fs::write(path(name), text).unwrap();
    let mut conf = format!(
        "listeners.tcp = none\n\
         stomp.listeners.tcp.1 = 127.0.0.1:{port}\n\
         load_definitions = {}\n\
         log.file = false\n\
         log.console = true\n",
        path("definitions.json")
    );
    if let Some((port, tls)) = tls {
        write("ca.pem", &tls.ca);
        write("chain.pem", &tls.chain);
        write("key.pem", &tls.key);
        write!(
            conf,
            "stomp.listeners.ssl.1 = 127.0.0.1:{port}\n\
             ssl_options.cacertfile = {}\n\
             ssl_options.certfile = {}\n\
             ssl_options.keyfile = {}\n\
             {TLS_SETTINGS}",
            path("ca.pem"),
            path("chain.pem"),
            path("key.pem"),
        )
        .unwrap();
    }
    write("rabbitmq.conf", &conf);
    write(
        "enabled_plugins",
        "[rabbitmq_stomp, rabbitmq_auth_mechanism_ssl].\n",
    );
    write("definitions.json", &definitions(users));
    fs::create_dir_all(path("home")).unwrap();
}

/// What `load_definitions` takes: users, and what each may do.
pub(crate) fn definitions(users: &[User]) -> String {
    let list = |line: &dyn Fn(&User) -> String| {
        let lines: Vec<_> = users.iter().map(line).collect();
        lines.join(",\n    ")
    };
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\"));
    let all = list(&|user| {
        let password = match &user.password {
            Some(password) => format!("\"password\": {}", quoted(password)),
            None => "\"password_hash\": \"\"".to_owned(),
        };
        format!(
            "{{\"name\": {}, {password}, \"tags\": []}}",
            quoted(&user.name)
        )
    });
    let permissions = list(&|user| {
        format!(
            "{{\"user\": {}, \"vhost\": \"/\", \"configure\": \"^stomp-subscription-\", \
             \"write\": \"^(stomp-subscription-.*|amq\\\\.topic)$\", \
             \"read\": \"^(stomp-subscription-.*|amq\\\\.topic)$\"}}",
            quoted(&user.name)
        )
    });
    let topics = list(&|user| {
        format!(
            "{{\"user\": {}, \"vhost\": \"/\", \"exchange\": \"amq.topic\", \"write\": {}, \"read\": {}}}",
            quoted(&user.name),
            quoted(&user.write),
            quoted(&user.read)
        )
    });
    format!(
        "{{\n  \"vhosts\": [{{\"name\": \"/\"}}],\n  \"users\": [\n    {all}\n  ],\n  \
         \"permissions\": [\n    {permissions}\n  ],\n  \
         \"topic_permissions\": [\n    {topics}\n  ]\n}}\n"
    )
}

/// A fresh directory. Those of processes that are no more go.
fn directory() -> PathBuf {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let of = name
            .strip_prefix("rabbitmq-")
            .and_then(|rest| rest.split('-').next());
        if of.is_some_and(|of| !Path::new("/proc").join(of).exists()) {
            // Another test may be as quick.
            let _removed = fs::remove_dir_all(entry.path());
        }
    }
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let directory = base.join(format!("rabbitmq-{}-{number}", std::process::id()));
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
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
