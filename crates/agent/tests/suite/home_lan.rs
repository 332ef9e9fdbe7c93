//! A home in network namespaces, with a real DHCP server and clients, and the real agent on each machine.
//!
//! ```text
//! device 1 ── lan ─┐
//! device 2 ── lan ─┼─ br-lan 192.168.77.1 gateway 203.0.113.2 ── 203.0.113.1 world
//! device 3 ── lan ─┘
//! ```
//!
//! Nothing here needs the rest of a test suite: other crates take this file in by its path.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "each suite uses its part of it, and tells versions of peers"
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

/// A busy machine may take its time.
const LONG: Duration = Duration::from_secs(120);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// What every machine of a home says of itself.
pub(crate) const OUI: &str = "ABCDEF";

/// A home; its namespaces and processes go with it.
pub(crate) struct Home {
    name: String,
    directory: tempfile::TempDir,
    namespaces: Vec<String>,
    /// `homefleet-agent`.
    program: PathBuf,
    pub(crate) processes: Vec<Child>,
}

/// A machine in it.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) namespace: String,
    pub(crate) directory: PathBuf,
    /// `homefleet-agent`.
    program: PathBuf,
}

impl Home {
    /// `None`, loudly, where it cannot be made; with `CI` that is a failure.
    pub(crate) fn new(programs: &[&str], agent: &Path) -> Option<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut home = Self {
            name: format!("hfa{}x{number}", std::process::id()),
            directory: tempfile::tempdir().unwrap(),
            namespaces: Vec::new(),
            program: agent.to_owned(),
            processes: Vec::new(),
        };
        let missing = programs.iter().find(|program| which(program).is_none());
        let made = match missing {
            Some(program) => Err(format!("no {program}")),
            None => home.make_gateway(),
        };
        if let Err(why) = made {
            eprintln!("SKIPPED: {why}");
            assert!(std::env::var_os("CI").is_none(), "{why}");
            return None;
        }
        Some(home)
    }

    fn make_gateway(&mut self) -> Result<(), String> {
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

    pub(crate) fn at(&self, place: &str) -> Machine {
        Machine {
            namespace: format!("{}{place}", self.name),
            directory: self.directory.path().join(place),
            program: self.program.clone(),
        }
    }

    /// A machine on the LAN, with its link up and no address.
    pub(crate) fn device(&mut self, place: &str, number: u8) -> Machine {
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
    pub(crate) fn start(
        &mut self,
        machine: &Machine,
        command: &str,
        environment: &[(&str, &Path)],
    ) -> u32 {
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

    /// The rest of the world, behind the gateway: what comes from the LAN is forwarded as it is.
    pub(crate) fn world(&mut self) -> Machine {
        let machine = self.at("w");
        self.namespaces.push(machine.namespace.clone());
        ip(&["netns", "add", &machine.namespace]).unwrap();
        fs::create_dir_all(&machine.directory).unwrap();
        let gateway = self.at("g");
        let words = format!(
            "link add wan netns {} type veth peer name wan netns {}",
            machine.namespace, gateway.namespace
        );
        ip(&words.split(' ').collect::<Vec<_>>()).unwrap();
        for (at, command) in [
            (&machine, "ip link set lo up"),
            (&machine, "ip address add 203.0.113.1/24 dev wan"),
            (&machine, "ip link set wan up"),
            (&machine, "ip route add 192.168.77.0/24 via 203.0.113.2"),
            (&gateway, "ip address add 203.0.113.2/24 dev wan"),
            (&gateway, "ip link set wan up"),
            (&gateway, "sysctl -qw net.ipv4.ip_forward=1"),
        ] {
            at.run(command).unwrap();
        }
        machine
    }

    /// Starts the agent of a machine, which says of itself that it is `serial`. `config` ends in its section `[device]`.
    pub(crate) fn agent(
        &mut self,
        machine: &Machine,
        config: &str,
        serial: &str,
        association: &str,
    ) {
        let more = format!(
            "oui = \"{OUI}\"\nserial_number = \"{serial}\"\nproduct_class = \"Box, with \\\"quotes\\\"\"\n[association]\n{association}\n"
        );
        let file = machine.directory.join("agent.toml");
        fs::write(&file, format!("{config}{more}")).unwrap();
        let command = format!("{} run --config {}", self.program.display(), file.display());
        self.start(machine, &command, &[]);
    }

    /// Runs a program in a machine to its end.
    pub(crate) fn finish(&mut self, machine: &Machine, command: &str) {
        let id = self.start(machine, command, &[]);
        let at = self.processes.iter().position(|child| child.id() == id);
        let status = self.processes.remove(at.unwrap()).wait().unwrap();
        assert!(status.success(), "{command}: {status}");
    }

    /// Ends a process that [`Home::start`] started.
    pub(crate) fn end(&mut self, id: u32, signal: &str) {
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
    pub(crate) fn run(&self, command: &str) -> Result<(), String> {
        let words = ["netns", "exec", &self.namespace].into_iter();
        ip(&words.chain(command.split(' ')).collect::<Vec<_>>())
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Writes a script.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// What `homefleet-agent dhcp-config` makes for a program, in the machine's directory.
    pub(crate) fn configure(&self, program: &str) {
        let output = Command::new(&self.program)
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

    /// Has an address of its own, without DHCP.
    pub(crate) fn address(&self, address: &str) {
        self.run(&format!("ip address add {address}/24 dev lan"))
            .unwrap();
        self.run("ip route add default via 192.168.77.1").unwrap();
    }

    /// Tells the machine's agent something by `dhcp-event`.
    pub(crate) fn tell(&self, words: &[&str]) {
        let output = Command::new(&self.program)
            .args(["dhcp-event", "--socket", &self.file("state/dhcp.sock")])
            .args(words)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// What the agent shows of a path.
    pub(crate) fn show(&self, path: &str) -> BTreeMap<String, String> {
        let output = Command::new(&self.program)
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
    pub(crate) fn listed(&self) -> Vec<String> {
        let shown = self.show("Device.ManagementServer.ManageableDevice.");
        let serials = shown
            .into_iter()
            .filter(|(path, _)| path.ends_with(".SerialNumber"));
        let mut serials: Vec<String> = serials.map(|(_, serial)| serial).collect();
        serials.sort();
        serials
    }

    /// OUI, serial number and product class of the gateway that the device shows.
    pub(crate) fn gateway(&self) -> [String; 3] {
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

pub(crate) fn known(serial: &str) -> [String; 3] {
    [
        OUI.to_owned(),
        serial.to_owned(),
        "Box, with \"quotes\"".to_owned(),
    ]
}

pub(crate) fn unknown() -> [String; 3] {
    [const { String::new() }; 3]
}

pub(crate) fn ip(words: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(words).output();
    let output = output.map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("ip {}: {said}", words.join(" ")))
}

pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let places = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let mut paths = places.iter().map(|place| Path::new(place).join(program));
    paths.find(|path| path.exists())
}

pub(crate) fn kill(id: u32, signal: &str) {
    let killed = Command::new("kill")
        .args([&format!("-{signal}"), &id.to_string()])
        .status();
    assert!(killed.unwrap().success());
}

/// Waits until it is so.
pub(crate) fn wait<T: PartialEq + std::fmt::Debug>(
    what: &str,
    wanted: &T,
    mut now: impl FnMut() -> T,
) {
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
pub(crate) fn copy(machine: &Machine, program: &str) -> String {
    let path = machine.directory.join(program);
    fs::copy(which(program).unwrap(), &path).unwrap();
    path.display().to_string()
}

pub(crate) fn start_dnsmasq(home: &mut Home, gateway: &Machine) {
    gateway.configure("dnsmasq");
    let version = Command::new("dnsmasq").arg("--version").output().unwrap();
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    eprintln!("gateway: {}", version.lines().next().unwrap());
    let command = format!(
        "dnsmasq --keep-in-foreground --conf-file={} --port=0 --interface=br-lan --bind-interfaces --no-ping \
         --dhcp-authoritative --dhcp-range=192.168.77.50,192.168.77.119,2m --dhcp-leasefile={} --pid-file={} --user=root \
         --log-dhcp --log-facility=-",
        gateway.file("homefleet.conf"),
        gateway.file("leases"),
        gateway.file("dnsmasq.pid"),
    );
    home.start(gateway, &command, &[]);
}

pub(crate) fn start_kea(home: &mut Home, gateway: &Machine) {
    gateway.configure("kea");
    let class = fs::read_to_string(gateway.directory.join("homefleet-kea.json")).unwrap();
    let class: serde_json::Value = serde_json::from_str(&class).unwrap();
    let config = serde_json::json!({ "Dhcp4": {
        "interfaces-config": { "interfaces": ["br-lan"], "dhcp-socket-type": "raw" },
        "lease-database": { "type": "memfile", "persist": false },
        "valid-lifetime": 120,
        "client-classes": [class],
        "subnet4": [{ "subnet": "192.168.77.0/24", "pools": [{ "pool": "192.168.77.50 - 192.168.77.119" }] }],
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
pub(crate) fn start_udhcpc(home: &mut Home, machine: &Machine) -> u32 {
    start_udhcpc_as(home, machine, |options| options)
}

/// The same with other options than those that were made.
pub(crate) fn start_udhcpc_as(
    home: &mut Home,
    machine: &Machine,
    change: impl FnOnce(String) -> String,
) -> u32 {
    machine.configure("udhcpc");
    let usual = machine.script(
        "usual",
        "#!/bin/sh\nenv > $(dirname $0)/environment-$1\ncase $1 in\n\
         bound|renew) ip address replace $ip/24 dev $interface; ip route replace default via 192.168.77.1 ;;\n\
         deconfig) ip address flush dev $interface ;;\nesac\n",
    );
    let options = fs::read_to_string(machine.directory.join("homefleet-udhcpc.options")).unwrap();
    let options = change(options);
    let script = machine.file("homefleet-udhcpc");
    let command = format!("udhcpc -f -i lan -t 20 -T 1 -s {script} {}", options.trim());
    home.start(machine, &command, &[("HOMEFLEET_UDHCPC_SCRIPT", &usual)])
}

/// dhclient's command line, with what was made for it.
pub(crate) fn dhclient(machine: &Machine) -> String {
    machine.configure("dhclient");
    let script = format!(
        "#!/bin/sh\ncase $reason in\nBOUND|RENEW|REBIND|REBOOT) ip address replace $new_ip_address/24 dev $interface; ip route replace default via 192.168.77.1 ;;\n\
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
