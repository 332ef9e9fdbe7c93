//! The proof in network namespaces: a gateway with a real dnsmasq, then kea; devices with udhcpc, dhclient and DHCPINFORM.
//!
//! ```text
//! device 1 ── lan ─┐
//! device 2 ── lan ─┼─ br-lan 192.168.77.1 (gateway: DHCP server, agent)
//! device 3 ── lan ─┘
//! ```
//!
//! Each machine runs the real agent, and the configuration that `homefleet-agent dhcp-config` makes.

#![allow(
    clippy::print_stderr,
    reason = "versions of peers, and what is missing"
)]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::pki::{Ca, install};

/// A busy machine may take its time.
const LONG: Duration = Duration::from_secs(120);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// What every machine of a home says of itself.
const OUI: &str = "ABCDEF";

/// A home; its namespaces and processes go with it.
struct Home {
    name: String,
    directory: tempfile::TempDir,
    namespaces: Vec<String>,
    processes: Vec<Child>,
}

/// A machine in it.
#[derive(Clone)]
struct Machine {
    namespace: String,
    directory: PathBuf,
}

impl Home {
    /// `None`, loudly, where it cannot be made; with `CI` that is a failure.
    fn new(programs: &[&str]) -> Option<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut home = Self {
            name: format!("hfa{}x{number}", std::process::id()),
            directory: tempfile::tempdir().unwrap(),
            namespaces: Vec::new(),
            processes: Vec::new(),
        };
        let missing = programs.iter().find(|program| which(program).is_none());
        let made = match missing {
            Some(program) => Err(format!("no {program}")),
            None => home.gateway(),
        };
        if let Err(why) = made {
            eprintln!("SKIPPED: {why}");
            assert!(std::env::var_os("CI").is_none(), "{why}");
            return None;
        }
        Some(home)
    }

    fn gateway(&mut self) -> Result<(), String> {
        self.namespaces.push(format!("{}g", self.name));
        let machine = self.at("g");
        ip(&["netns", "add", &machine.namespace])?;
        fs::create_dir_all(&machine.directory).map_err(|error| error.to_string())?;
        for command in [
            "ip link set lo up",
            "ip link add br-lan type bridge",
            "ip address add 192.168.77.1/24 dev br-lan",
            "ip link set br-lan up",
            // Neighbours that are gone are noticed soon.
            "sysctl -qw net.ipv4.neigh.br-lan.base_reachable_time_ms=1000",
            "sysctl -qw net.ipv4.neigh.br-lan.delay_first_probe_time=1",
        ] {
            machine.run(command)?;
        }
        Ok(())
    }

    fn at(&self, place: &str) -> Machine {
        Machine {
            namespace: format!("{}{place}", self.name),
            directory: self.directory.path().join(place),
        }
    }

    /// A machine on the LAN, with its link up and no address.
    fn device(&mut self, place: &str, number: u8) -> Machine {
        let machine = self.at(place);
        self.namespaces.push(machine.namespace.clone());
        ip(&["netns", "add", &machine.namespace]).unwrap();
        fs::create_dir_all(&machine.directory).unwrap();
        let gateway = self.at("g");
        let port = format!("p{number}");
        let words = format!(
            "link add lan netns {} address 02:00:00:00:00:{number:02x} type veth peer name {port} netns {}",
            machine.namespace, gateway.namespace
        );
        ip(&words.split(' ').collect::<Vec<_>>()).unwrap();
        gateway
            .run(&format!("ip link set {port} master br-lan"))
            .unwrap();
        gateway.run(&format!("ip link set {port} up")).unwrap();
        machine.run("ip link set lo up").unwrap();
        machine.run("ip link set lan up").unwrap();
        machine
    }

    /// Starts a program in a machine; it ends with the test. What it says is in a file of its name.
    fn start(&mut self, machine: &Machine, command: &str, environment: &[(&str, &Path)]) -> u32 {
        let program = command.split(' ').next().unwrap();
        let name = Path::new(program).file_name().unwrap().to_str().unwrap();
        let log = machine.directory.join(format!("{name}.log"));
        let log = fs::File::create(log).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", &machine.namespace])
            .args(["setpriv", "--pdeathsig", "KILL"])
            .args(command.split(' '))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.processes.push(child);
        self.processes.last().unwrap().id()
    }

    /// Starts the agent of a machine, which says of itself that it is `serial`.
    fn agent(&mut self, ca: &Ca, machine: &Machine, serial: &str, association: &str) {
        let text = install(&machine.directory, ca, 9);
        let more = format!(
            "oui = \"{OUI}\"\nserial_number = \"{serial}\"\nproduct_class = \"Box, with \\\"quotes\\\"\"\n[association]\n{association}\n"
        );
        let config = machine.directory.join("agent.toml");
        fs::write(&config, text + &more).unwrap();
        let agent = env!("CARGO_BIN_EXE_homefleet-agent");
        let command = format!("{agent} run --config {}", config.display());
        self.start(machine, &command, &[]);
    }

    /// Runs a program in a machine to its end.
    fn finish(&mut self, machine: &Machine, command: &str) {
        let id = self.start(machine, command, &[]);
        let at = self.processes.iter().position(|child| child.id() == id);
        let status = self.processes.remove(at.unwrap()).wait().unwrap();
        assert!(status.success(), "{command}: {status}");
    }

    /// Ends a process that [`Home::start`] started.
    fn end(&mut self, id: u32, signal: Signal) {
        kill(id, signal);
        let at = self.processes.iter().position(|child| child.id() == id);
        self.processes.remove(at.unwrap()).wait().unwrap();
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for child in &mut self.processes {
            // It may have ended by itself.
            child.kill().ok();
            child.wait().ok();
        }
        if std::thread::panicking() {
            for machine in fs::read_dir(self.directory.path()).unwrap().flatten() {
                for file in fs::read_dir(machine.path()).unwrap().flatten() {
                    let path = file.path();
                    if path.extension().is_some_and(|kind| kind == "log") {
                        let text = fs::read_to_string(&path).unwrap_or_default();
                        eprintln!("=== {}\n{text}", path.display());
                    }
                }
            }
        }
        for namespace in &self.namespaces {
            ip(&["netns", "delete", namespace]).ok();
        }
    }
}

impl Machine {
    fn run(&self, command: &str) -> Result<(), String> {
        let words = ["netns", "exec", &self.namespace].into_iter();
        ip(&words.chain(command.split(' ')).collect::<Vec<_>>())
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Writes a script.
    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// What `homefleet-agent dhcp-config` makes for a program, in the machine's directory.
    fn configure(&self, program: &str) {
        let output = Command::new(env!("CARGO_BIN_EXE_homefleet-agent"))
            .args(["dhcp-config", program, "--config", &self.file("agent.toml")])
            .args(["--directory", &self.directory.display().to_string()])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// What the agent shows of a path.
    fn show(&self, path: &str) -> BTreeMap<String, String> {
        let output = Command::new(env!("CARGO_BIN_EXE_homefleet-agent"))
            .args(["show", "--json", "--config", &self.file("agent.toml"), path])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The serial numbers of the devices that the gateway lists.
    fn listed(&self) -> Vec<String> {
        let shown = self.show("Device.ManagementServer.ManageableDevice.");
        let serials = shown
            .into_iter()
            .filter(|(path, _)| path.ends_with(".SerialNumber"));
        let mut serials: Vec<String> = serials.map(|(_, serial)| serial).collect();
        serials.sort();
        serials
    }

    /// OUI, serial number and product class of the gateway that the device shows.
    fn gateway(&self) -> [String; 3] {
        let shown = self.show("Device.GatewayInfo.");
        ["ManufacturerOUI", "SerialNumber", "ProductClass"].map(|name| {
            let path = format!("Device.GatewayInfo.{name}");
            shown
                .get(&path)
                .cloned()
                .unwrap_or_else(|| panic!("no {path}: {shown:?}"))
        })
    }
}

fn known(serial: &str) -> [String; 3] {
    [
        OUI.to_owned(),
        serial.to_owned(),
        "Box, with \"quotes\"".to_owned(),
    ]
}

fn unknown() -> [String; 3] {
    [const { String::new() }; 3]
}

fn ip(words: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(words).output();
    let output = output.map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("ip {}: {said}", words.join(" ")))
}

fn which(program: &str) -> Option<PathBuf> {
    let places = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let mut paths = places.iter().map(|place| Path::new(place).join(program));
    paths.find(|path| path.exists())
}

fn kill(id: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Waits until it is so.
fn wait<T: PartialEq + std::fmt::Debug>(what: &str, wanted: &T, mut now: impl FnMut() -> T) {
    let end = Instant::now() + LONG;
    loop {
        let found = now();
        if found == *wanted {
            return;
        }
        assert!(Instant::now() < end, "{what}: {found:?}, not {wanted:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A copy of a program in the home's own directory: what the system confines by its path it does not confine there.
fn copy(machine: &Machine, program: &str) -> String {
    let path = machine.directory.join(program);
    fs::copy(which(program).unwrap(), &path).unwrap();
    path.display().to_string()
}

fn start_dnsmasq(home: &mut Home, gateway: &Machine) {
    gateway.configure("dnsmasq");
    let version = Command::new("dnsmasq").arg("--version").output().unwrap();
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    eprintln!("gateway: {}", version.lines().next().unwrap());
    let command = format!(
        "dnsmasq --keep-in-foreground --conf-file={} --port=0 --interface=br-lan --bind-interfaces --no-ping \
         --dhcp-authoritative --dhcp-range=192.168.77.50,192.168.77.99,2m --dhcp-leasefile={} --pid-file={} --user=root \
         --log-dhcp --log-facility=-",
        gateway.file("homefleet.conf"),
        gateway.file("leases"),
        gateway.file("dnsmasq.pid"),
    );
    home.start(gateway, &command, &[]);
}

fn start_kea(home: &mut Home, gateway: &Machine) {
    gateway.configure("kea");
    let class = fs::read_to_string(gateway.directory.join("homefleet-kea.json")).unwrap();
    let class: serde_json::Value = serde_json::from_str(&class).unwrap();
    let config = serde_json::json!({ "Dhcp4": {
        "interfaces-config": { "interfaces": ["br-lan"], "dhcp-socket-type": "raw" },
        "lease-database": { "type": "memfile", "persist": false },
        "valid-lifetime": 120,
        "client-classes": [class],
        "subnet4": [{ "subnet": "192.168.77.0/24", "pools": [{ "pool": "192.168.77.50 - 192.168.77.99" }] }],
        "loggers": [{ "name": "kea-dhcp4", "output_options": [{ "output": "stderr" }], "severity": "INFO" }],
    }});
    let file = gateway.script("kea.json", &config.to_string());
    let kea = copy(gateway, "kea-dhcp4");
    let version = Command::new(&kea).arg("-v").output().unwrap();
    eprintln!(
        "gateway: kea {}",
        String::from_utf8_lossy(&version.stdout).trim()
    );
    let directory = gateway.directory.as_path();
    let environment = [
        ("KEA_PIDFILE_DIR", directory),
        ("KEA_LOCKFILE_DIR", directory),
    ];
    home.start(
        gateway,
        &format!("{kea} -c {}", file.display()),
        &environment,
    );
}

/// udhcpc with the script that was made for it, and one that sets addresses as the usual one.
fn start_udhcpc(home: &mut Home, machine: &Machine) -> u32 {
    machine.configure("udhcpc");
    let usual = machine.script(
        "usual",
        "#!/bin/sh\nenv > $(dirname $0)/environment-$1\ncase $1 in\n\
         bound|renew) ip address replace $ip/24 dev $interface ;;\n\
         deconfig) ip address flush dev $interface ;;\nesac\n",
    );
    let options = fs::read_to_string(machine.directory.join("homefleet-udhcpc.options")).unwrap();
    let script = machine.file("homefleet-udhcpc");
    let command = format!("udhcpc -f -i lan -t 20 -T 1 -s {script} {}", options.trim());
    home.start(machine, &command, &[("HOMEFLEET_UDHCPC_SCRIPT", &usual)])
}

/// dhclient's command line, with what was made for it.
fn dhclient(machine: &Machine) -> String {
    machine.configure("dhclient");
    let script = format!(
        "#!/bin/sh\ncase $reason in\nBOUND|RENEW|REBIND|REBOOT) ip address replace $new_ip_address/24 dev $interface ;;\n\
         RELEASE|EXPIRE|FAIL|STOP) ip address flush dev $interface ;;\nesac\n. {}\nexit 0\n",
        machine.file("homefleet-dhclient")
    );
    let script = machine.script("dhclient-script", &script);
    let dhclient = copy(machine, "dhclient");
    let [config, leases, pid] = ["homefleet-dhclient.conf", "dhclient.leases", "dhclient.pid"]
        .map(|name| machine.file(name));
    format!(
        "{dhclient} -d -cf {config} -lf {leases} -pf {pid} -sf {} lan",
        script.display()
    )
}

/// Everything, with one of the servers.
fn proof(server: fn(&mut Home, &Machine), program: &str) {
    let Some(mut home) = Home::new(&[program, "udhcpc", "dhclient", "setpriv"]) else {
        return;
    };
    let ca = Ca::new();
    let gateway = home.at("g");
    let association = "gateway = true\nlan = [\"br-lan\"]\nprobe_interval = 1";
    home.agent(&ca, &gateway, "12", association);
    server(&mut home, &gateway);

    let one = home.device("d1", 1);
    home.agent(&ca, &one, "STB-1", "device = true");
    let udhcpc = start_udhcpc(&mut home, &one);
    let two = home.device("d2", 2);
    home.agent(&ca, &two, "STB-2", "device = true");
    let client = home.start(&two, &dhclient(&two), &[]);
    let three = home.device("d3", 3);
    three
        .run("ip address add 192.168.77.20/24 dev lan")
        .unwrap();
    home.agent(
        &ca,
        &three,
        "STB-3",
        "device = true\ninform = \"lan\"\ninform_interval = 5",
    );

    // Each knows of the other.
    for (machine, what) in [(&one, "udhcpc"), (&two, "dhclient"), (&three, "DHCPINFORM")] {
        wait(what, &known("12"), || machine.gateway());
    }
    let all = ["STB-1", "STB-2", "STB-3"].map(str::to_owned).to_vec();
    wait("the table", &all, || gateway.listed());
    let table = gateway.show("Device.ManagementServer.ManageableDevice.");
    let class = table
        .iter()
        .find(|(path, _)| path.ends_with(".ProductClass"));
    assert_eq!(class.unwrap().1, "Box, with \"quotes\"");

    // One that does not say who it is learns nothing, and is in no table.
    let stranger = home.device("d4", 4);
    let script = stranger.script("script", "#!/bin/sh\nenv > $(dirname $0)/$1.env\n");
    let command = format!(
        "udhcpc -f -q -n -i lan -t 20 -T 1 -O 125 -s {}",
        script.display()
    );
    home.finish(&stranger, &command);
    let environment = fs::read_to_string(stranger.directory.join("bound.env")).unwrap();
    assert!(environment.contains("ip=192.168.77."), "{environment}");
    assert!(!environment.contains("opt125="), "{environment}");
    assert_eq!(gateway.listed(), all);

    // Who identifies itself is answered with the gateway's identity also when it did not ask for the option.
    let curt = home.device("d5", 5);
    let script = curt.script("script", "#!/bin/sh\nenv > $(dirname $0)/$1.env\n");
    let options = fs::read_to_string(one.directory.join("homefleet-udhcpc.options")).unwrap();
    let option = options.split(' ').nth(1).unwrap();
    let command = format!(
        "udhcpc -f -q -n -i lan -t 20 -T 1 -x {option} -s {}",
        script.display()
    );
    home.finish(&curt, &command);
    let environment = fs::read_to_string(curt.directory.join("bound.env")).unwrap();
    assert!(environment.contains("opt125=00000de9"), "{environment}");

    // One that releases its lease leaves at both ends.
    kill(udhcpc, Signal::USR2);
    wait("released", &unknown(), || one.gateway());
    wait("the others", &all[1..].to_vec(), || gateway.listed());

    // One that is just gone is missed.
    two.run("ip link set lan down").unwrap();
    home.end(client, Signal::KILL);
    wait("the last", &all[2..].to_vec(), || gateway.listed());
}

/// Forty that join at once, then five that do not say who they are: the pool has fifty addresses.
fn crowd(server: fn(&mut Home, &Machine), program: &str) {
    let Some(mut home) = Home::new(&[program, "python3", "setpriv"]) else {
        return;
    };
    let gateway = home.at("g");
    let association = "gateway = true\nlan = [\"br-lan\"]\nprobe_interval = 0";
    home.agent(&Ca::new(), &gateway, "12", association);
    server(&mut home, &gateway);
    let crowd = home.device("c", 1);
    // To ask from port 68 it needs some address.
    crowd
        .run("ip address add 192.168.77.200/24 dev lan")
        .unwrap();
    let script = crowd.script("crowd.py", include_str!("crowd.py"));
    for (count, identified, identities) in [(40, "yes", 80), (5, "no", 0)] {
        let command = format!("python3 {} lan {count} {identified}", script.display());
        home.finish(&crowd, &command);
        let said = fs::read_to_string(crowd.directory.join("python3.log")).unwrap();
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        let wanted =
            serde_json::json!({ "offers": count, "acks": count, "identities": identities });
        assert_eq!(said, wanted, "identified: {identified}");
    }
    let mut all: Vec<String> = (1..=40).map(|number| format!("CROWD-{number}")).collect();
    all.sort();
    wait("the crowd", &all, || gateway.listed());
}

#[test]
fn every_offer_and_ack_of_dnsmasq_has_the_identity_for_those_alone_that_have_told_theirs() {
    crowd(start_dnsmasq, "dnsmasq");
}

#[test]
fn every_offer_and_ack_of_kea_has_the_identity_for_those_alone_that_have_told_theirs() {
    crowd(start_kea, "kea-dhcp4");
}

#[test]
fn a_home_with_dnsmasq() {
    proof(start_dnsmasq, "dnsmasq");
}

#[test]
fn a_home_with_kea() {
    proof(start_kea, "kea-dhcp4");
}
