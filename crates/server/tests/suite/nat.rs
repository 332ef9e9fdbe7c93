//! A real agent in a home behind a real Linux NAT gateway, and the real server outside: found, woken where TCP cannot get in, found again
//! when the gateway forgets (TR-111 Part 2). Server and agent are processes in network namespaces of their own.
//!
//! ```text
//! inside 192.168.78.20 ── 192.168.78.1 gateway 203.0.113.2 ── 203.0.113.1 world
//! ```

#![allow(
    clippy::print_stdout,
    reason = "what helpers said, and what is left out, is told"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use homefleet_agent::{Agent, config as agent_config};
use homefleet_api::{Device, NewTask, Operation, Role, TaskResult, TaskState, WakeWay};
use homefleet_server::config::UnknownCpes;
use homefleet_server::core::DeviceQuery;
use homefleet_server::{Access, Server};

use crate::live::{Authority, access, config};

/// Set for the processes inside the namespaces: a directory, and what the namespaces are called.
const DIRECTORY: &str = "HOMEFLEET_TEST_NAT_DIRECTORY";
const NAMES: &str = "HOMEFLEET_TEST_NAT_NAMES";
const LIMIT: Duration = Duration::from_secs(180);

/// Three namespaces; they go with this.
struct Home(String);

impl Home {
    fn build(&self) -> Result<(), String> {
        for place in ["inside", "gateway", "world"] {
            run("ip", &["netns", "add", &self.name(place)])?;
            self.run(place, "ip link set lo up")?;
        }
        for (place, link) in [("inside", "lan"), ("world", "wan")] {
            let [there, gateway] = [place, "gateway"].map(|place| self.name(place));
            let pair = ["link", "add", link, "netns", &there, "type", "veth"];
            let peer = ["peer", "name", link, "netns", &gateway];
            run("ip", &[&pair[..], &peer[..]].concat())?;
        }
        for (place, link, address) in [
            ("inside", "lan", "192.168.78.20/24"),
            ("gateway", "lan", "192.168.78.1/24"),
            ("gateway", "wan", "203.0.113.2/24"),
            ("world", "wan", "203.0.113.1/24"),
        ] {
            self.run(place, &format!("ip address add {address} dev {link}"))?;
            self.run(place, &format!("ip link set {link} up"))?;
        }
        self.run("inside", "ip route add default via 192.168.78.1")?;
        self.run("gateway", "sysctl -qw net.ipv4.ip_forward=1")?;
        self.run("gateway", "nft add table ip nat")?;
        self.run(
            "gateway",
            "nft add chain ip nat post { type nat hook postrouting priority 100 ; }",
        )?;
        // Another mapping is another port, as with most gateways of homes.
        self.run(
            "gateway",
            "nft add rule ip nat post oifname wan masquerade random",
        )?;
        for which in ["timeout", "timeout_stream"] {
            let set = format!("sysctl -qw net.netfilter.nf_conntrack_udp_{which}=12");
            self.run("gateway", &set)?;
        }
        Ok(())
    }

    fn name(&self, place: &str) -> String {
        format!("{}{place}", self.0)
    }

    fn run(&self, place: &str, command: &str) -> Result<(), String> {
        let namespace = self.name(place);
        let words = ["netns", "exec", &namespace].into_iter();
        let words: Vec<_> = words.chain(command.split(' ')).collect();
        run("ip", &words)
    }

    /// This program again, as one of the helpers below, in a namespace. It dies with this one.
    fn helper(&self, place: &str, test: &str, directory: &Path) -> Helper {
        let namespace = self.name(place);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &namespace]);
        command.args(["setpriv", "--pdeathsig", "KILL"]);
        command.arg(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", test, "--nocapture"]);
        command.env(DIRECTORY, directory).env(NAMES, &self.0);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        Helper(command.spawn().unwrap())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for place in ["inside", "gateway", "world"] {
            let _gone = run("ip", &["netns", "delete", &self.name(place)]);
        }
    }
}

struct Helper(Child);

impl Helper {
    /// Waits until it says this line; false when it ended before.
    fn says(&mut self, wanted: &str) -> bool {
        let mut said = BufReader::new(self.0.stderr.take().unwrap());
        let mut line = String::new();
        while said.read_line(&mut line).is_ok_and(|length| length > 0) {
            if line.trim() == wanted {
                std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::stdout()));
                return true;
            }
            println!("{}", line.trim_end());
            line.clear();
        }
        false
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn run(program: &str, words: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(words).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{program} {}: {said}", words.join(" ")))
}

/// A line that no harness captures.
fn say(line: &str) {
    std::io::stderr()
        .write_all(format!("{line}\n").as_bytes())
        .unwrap();
}

#[test]
fn a_real_agent_behind_linux_nat_is_woken_by_the_real_server() {
    let home = Home(format!("hfs{}", std::process::id()));
    if let Err(why) = home.build() {
        assert!(std::env::var_os("CI").is_none(), "namespaces: {why}");
        println!("SKIPPED, NO NETWORK NAMESPACES: {why}");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut world = home.helper("world", "nat::helper_in_the_world", directory.path());
    assert!(world.says("ready"), "the server did not start");
    let _device = home.helper("inside", "nat::helper_inside", directory.path());
    assert!(world.0.wait().unwrap().success(), "what it said is above");
}

/// The server, and what an operator sees and does.
#[test]
#[ignore = "started by the test above"]
fn helper_in_the_world() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let names = std::env::var(NAMES).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let authority = Authority::new("CA");
        let mut config = config(Path::new(&directory), &authority, &authority);
        config.acs.listen = Some("203.0.113.1:7547".parse().unwrap());
        config.acs.unknown = UnknownCpes::Admit;
        config.stun.listen = Some("203.0.113.1:3478".parse().unwrap());
        (config.stun.minimum_period, config.stun.maximum_period) = (5, 20);
        config.stun.notification_limit = 0;
        let server = Server::start(config).await.unwrap();
        let access = access(&server, Role::Admin).await;
        say("ready");
        let found = device(&access, |it| binding(it).is_some()).await;
        let address = binding(&found).unwrap();
        assert_eq!(address.ip().to_string(), "203.0.113.2");
        device(&access, |it| {
            it.cwmp.as_ref().unwrap().nat_detected == Some(true)
        })
        .await;

        // TCP does not get in, at the port of the binding nor at that of Connection Requests.
        for port in [address.port(), 7548] {
            let to = SocketAddr::new(address.ip(), port);
            assert!(TcpStream::connect_timeout(&to, Duration::from_secs(2)).is_err());
        }
        wake(&access, &found.summary.id).await;

        // The gateway forgets: the device finds its new binding, tells it, and is woken there.
        let before = binding(&access.device(&found.summary.id).await.unwrap());
        Home::forget(&names);
        device(&access, |it| binding(it) != before).await;
        wake(&access, &found.summary.id).await;
        server.stop().await;
    });
}

impl Home {
    fn forget(names: &str) {
        let gateway = format!("{names}gateway");
        let flush = ["netns", "exec", &gateway, "conntrack", "-F"];
        run("ip", &flush).unwrap();
    }
}

/// Wakes the device. It may be in a session of its own cause at that moment, and its binding may be another one the next: until the call was
/// what brought it.
async fn wake(access: &Access, id: &str) {
    let limit = Instant::now() + LIMIT;
    loop {
        let new = NewTask {
            operation: Operation::Wake {},
            expires_in: Some(120),
        };
        let begun = Instant::now();
        let mut task = access.submit(id, new).await.unwrap();
        while !task.state.is_final() {
            let wait = Duration::from_secs(30);
            task = access.wait_task(&task.id, wait).await.unwrap();
        }
        assert_eq!(task.state, TaskState::Done, "{task:?}");
        let Some(TaskResult::Wake { attempts, events }) = task.result else {
            panic!("no answer of waking")
        };
        say(&format!(
            "woken after {:?}: {attempts:?} {events:?}",
            begun.elapsed()
        ));
        let over_udp = attempts.iter().all(|tried| tried.way == WakeWay::Udp);
        assert!(over_udp, "{attempts:?}");
        let called = events.iter().any(|event| event == "6 CONNECTION REQUEST");
        if called && !attempts.is_empty() {
            return;
        }
        assert!(Instant::now() < limit, "{events:?}");
    }
}

fn binding(device: &Device) -> Option<SocketAddr> {
    let binding = device.cwmp.as_ref()?.binding.as_ref()?;
    binding.address.parse().ok()
}

/// The one device that there is, once `wanted`.
async fn device(access: &Access, wanted: impl Fn(&Device) -> bool) -> Device {
    let limit = Instant::now() + LIMIT;
    loop {
        let page = access.devices(DeviceQuery::default()).await.unwrap();
        let mut last = None;
        if let Some(first) = page.devices.first() {
            let found = access.device(&first.id).await.unwrap();
            if wanted(&found) {
                return found;
            }
            last = Some(found);
        }
        assert!(Instant::now() < limit, "{last:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The agent.
#[test]
#[ignore = "started by the test above"]
fn helper_inside() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let directory = Path::new(&directory).join("agent");
    let text = format!(
        "version = 1\nendpoint_id = \"self::behind-nat\"\ndata_dir = {directory:?}\n\
         [cwmp]\nurl = \"http://203.0.113.1:7547/\"\nconnection_request = \"0.0.0.0:7548\"\n\
         [stun]\nlisten = \"0.0.0.0:7547\"\n[device]\nrestart = \"nothing\"\n"
    );
    let file = directory.with_extension("toml");
    let config = agent_config::Config::parse(&text, &file, |_| None).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let _agent = Agent::start(config).await.unwrap();
        std::future::pending::<()>().await;
    });
}
