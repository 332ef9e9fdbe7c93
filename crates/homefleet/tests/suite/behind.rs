//! Who is behind which gateway, from DHCP to the operator: real dnsmasq, udhcpc, dhclient and DHCPINFORM, real agents, and the real server in
//! the world outside, each in a network namespace of its own.
#![allow(clippy::print_stderr, reason = "what is missing")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use homefleet_cli::demo::pki::Authority;
use serde_json::Value;

use crate::home_lan::{
    Home, Machine, OUI, dhclient, kill, start_dnsmasq, start_kea, start_udhcpc, start_udhcpc_as,
    wait,
};
use crate::support::run;

const SERVER: &str = "proto::homefleet-behind";

/// The agent of this build, which stands beside the command; with `CI` it has to.
fn agent() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_homefleet")).with_file_name("homefleet-agent");
    if !path.exists() {
        assert!(std::env::var_os("CI").is_none(), "no {}", path.display());
        eprintln!(
            "SKIPPED: {} is not built: cargo build -p homefleet-agent",
            path.display()
        );
        return None;
    }
    Some(path)
}

/// The operator's server, in the world.
struct Operator {
    world: Machine,
    authority: Authority,
    ca: PathBuf,
    token: String,
}

impl Operator {
    fn start(home: &mut Home) -> Self {
        let world = home.world();
        let directory = world.directory.clone();
        let authority = Authority::open(&directory).unwrap();
        authority
            .endpoint(&directory, "server", SERVER, &["203.0.113.1"])
            .unwrap();
        let text = format!(
            "version = 1\nendpoint_id = \"{SERVER}\"\ndata_dir = \"{dir}/data\"\n\
             [coap]\nlisten = \"203.0.113.1:5684\"\n[http]\nlisten = \"127.0.0.1:8080\"\n\
             [tls]\ncertificate = \"{dir}/server.pem\"\nkey = \"{dir}/server.key\"\nanchors = \"{dir}/ca.pem\"\n\
             [home]\nsettle = 5\npause = 1\n[log]\nfilter = \"info\"\n",
            dir = directory.display()
        );
        let config = world.file("homefleet.toml");
        fs::write(&config, text).unwrap();
        let program = env!("CARGO_BIN_EXE_homefleet");
        home.start(&world, &format!("{program} serve --config {config}"), &[]);
        let create = [
            "token", "create", "--name", "t", "--role", "admin", "--config",
        ];
        let mut token = String::new();
        wait("the server", &true, || {
            let ran = run(&[&create[..], &[&config]].concat());
            token = ran.out.trim().to_owned();
            ran.code == 0
        });
        Self {
            ca: directory.join("ca.pem"),
            world,
            authority,
            token,
        }
    }

    /// What an agent needs to be managed by this server.
    fn configure(&self, machine: &Machine, serial: &str) -> String {
        let id = format!("os::{OUI}-{serial}");
        let issued = self
            .authority
            .endpoint(&machine.directory, "agent", &id, &[]);
        let issued = issued.unwrap();
        format!(
            "version = 1\nendpoint_id = \"{id}\"\ndata_dir = \"state\"\nlisten = \"0.0.0.0:5684\"\n\
             [controller]\nurl = \"coaps://203.0.113.1:5684/usp\"\nendpoint_id = \"{SERVER}\"\n\
             [trust]\nca = \"{}\"\ncertificate = \"{}\"\nkey = \"{}\"\ntime = \"accurate\"\n\
             [device]\nrestart = \"nothing\"\n",
            self.ca.display(),
            issued.certificate.display(),
            issued.key.display(),
        )
    }

    /// What the command says, as JSON.
    fn ask(&self, arguments: &[&str]) -> Value {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.world.namespace])
            .arg(env!("CARGO_BIN_EXE_homefleet"))
            .args([
                "--server",
                "http://127.0.0.1:8080",
                "--token",
                &self.token,
                "--json",
            ])
            .args(arguments)
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"))
    }

    /// How many notifications the server has taken.
    fn notifications(&self) -> u64 {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.world.namespace, "curl", "-sS", "-H"])
            .arg(format!("Authorization: Bearer {}", self.token))
            .arg("http://127.0.0.1:8080/metrics")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines = text.lines();
        let count = lines.find_map(|line| line.strip_prefix("homefleet_notifications_total "));
        count.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
    }

    /// The serial numbers of the devices of a status.
    fn of(&self, status: &str) -> Vec<String> {
        let found = self.ask(&["home", "list", "--status", status]);
        let found = found.as_array().unwrap().iter();
        let mut serials: Vec<String> = found
            .map(|association| {
                let id = association["device"].as_str().unwrap();
                id.trim_start_matches(&format!("os::{OUI}-")).to_owned()
            })
            .collect();
        serials.sort();
        serials
    }
}

#[test]
fn with_dnsmasq_devices_are_confirmed_a_liar_and_a_forger_refuted_and_a_leaver_has_left() {
    proof(start_dnsmasq, "dnsmasq");
}

#[test]
fn with_kea_devices_are_confirmed_a_liar_and_a_forger_refuted_and_a_leaver_has_left() {
    proof(start_kea, "kea-dhcp4");
}

fn proof(server: fn(&mut Home, &Machine), name: &str) {
    let Some(program) = agent() else { return };
    let programs = [name, "udhcpc", "dhclient", "setpriv"];
    let Some(mut home) = Home::new(&programs, &program) else {
        return;
    };
    let operator = Operator::start(&mut home);
    let gateway = home.at("g");
    let association = "gateway = true\nlan = [\"br-lan\"]\nprobe_interval = 1";
    home.agent(
        &gateway,
        &operator.configure(&gateway, "GW1"),
        "GW1",
        association,
    );
    server(&mut home, &gateway);

    let one = home.device("d1", 1);
    home.agent(
        &one,
        &operator.configure(&one, "STB1"),
        "STB1",
        "device = true",
    );
    let udhcpc = start_udhcpc(&mut home, &one);
    let two = home.device("d2", 2);
    home.agent(
        &two,
        &operator.configure(&two, "STB2"),
        "STB2",
        "device = true",
    );
    let client = dhclient(&two);
    home.start(&two, &client, &[]);
    let three = home.device("d3", 3);
    three.address("192.168.77.20");
    let association = "device = true\ninform = \"lan\"\ninform_interval = 5";
    home.agent(
        &three,
        &operator.configure(&three, "STB3"),
        "STB3",
        association,
    );
    let serials = |numbers: &[&str]| -> Vec<String> {
        numbers.iter().map(|number| (*number).to_owned()).collect()
    };
    wait("confirmed", &serials(&["STB1", "STB2", "STB3"]), || {
        operator.of("confirmed")
    });

    // One says that it is behind this gateway, and never asked it.
    let liar = home.device("d4", 4);
    liar.address("192.168.77.21");
    home.agent(
        &liar,
        &operator.configure(&liar, "STB4"),
        "STB4",
        "device = true",
    );
    liar.tell(&[
        "acknowledged",
        "--interface",
        "lan",
        "--oui",
        OUI,
        "--serial-number",
        "GW1",
        "--product-class",
        "Box, with \"quotes\"",
    ]);
    // One tells the gateway by DHCP that it is somebody else.
    let forger = home.device("d5", 5);
    home.agent(
        &forger,
        &operator.configure(&forger, "EVIL5"),
        "EVIL5",
        "device = true",
    );
    start_udhcpc_as(&mut home, &forger, |options| {
        let hex = |text: &str| -> String { text.bytes().map(|b| format!("{b:02x}")).collect() };
        options.replace(&hex("EVIL5"), &hex("STB99"))
    });
    wait("refuted", &serials(&["EVIL5", "STB4"]), || {
        operator.of("refuted")
    });
    // The gateway lists it as what it said it was: nobody the operator knows.
    let shown = operator.ask(&["home", "show", &format!("os::{OUI}-GW1")]);
    let strangers = shown["home"]["strangers"].as_array().unwrap().iter();
    let strangers: Vec<_> = strangers
        .map(|stranger| stranger["identity"]["serial_number"].as_str().unwrap())
        .collect();
    assert_eq!(strangers, ["STB99"], "{shown}");
    assert_eq!(operator.of("confirmed"), serials(&["STB1", "STB2", "STB3"]));

    // One leaves: the gateway says so, the device itself cannot any more.
    kill(udhcpc, "USR2");
    wait("left", &serials(&["STB1"]), || operator.of("left"));
    assert_eq!(operator.of("confirmed"), serials(&["STB2", "STB3"]));
}

#[test]
fn fifty_that_join_a_real_gateway_at_once_cause_no_more_notifications_than_its_limit() {
    const LIMIT: u64 = 30;
    let Some(program) = agent() else { return };
    let programs = ["dnsmasq", "python3", "curl", "setpriv"];
    let Some(mut home) = Home::new(&programs, &program) else {
        return;
    };
    let operator = Operator::start(&mut home);
    let gateway = home.at("g");
    // Those of the crowd are no neighbours: they only speak DHCP.
    let association = "gateway = true\nlan = [\"br-lan\"]\nprobe_interval = 0";
    let config = operator.configure(&gateway, "GW1");
    home.agent(&gateway, &config, "GW1", association);
    start_dnsmasq(&mut home, &gateway);
    let id = format!("os::{OUI}-GW1");
    let number = "Device.ManagementServer.ManageableDeviceNumberOfEntries";
    wait("subscribed", &true, || {
        let shown = gateway.show("Device.LocalAgent.Subscription.");
        let mut lists = shown.iter();
        lists.any(|(at, value)| at.ends_with(".ReferenceList") && value.contains(number))
    });
    let limit = format!("Device.ManagementServer.ManageableDeviceNotificationLimit={LIMIT}");
    operator.ask(&["device", "set", &id, &limit]);

    let before = operator.notifications();
    let begun = Instant::now();
    let crowd = home.device("c", 1);
    // To ask from port 68 it needs some address.
    crowd.address("192.168.77.200");
    let script = include_str!("../../../agent/tests/suite/association/crowd.py");
    let script = crowd.script("crowd.py", script);
    home.finish(&crowd, &format!("python3 {} lan 50 yes", script.display()));
    wait("the crowd", &50, || gateway.listed().len());
    // All of them are known to the operator when the limit lets the gateway tell.
    wait("told", &"50".to_owned(), || {
        let shown = operator.ask(&["home", "show", &id]);
        shown["home"]["listed"].to_string()
    });
    assert_eq!(gateway.show(number).values().next().unwrap(), "50");
    let told = operator.notifications() - before;
    let allowed = 2 + begun.elapsed().as_secs() / LIMIT;
    assert!((1..=allowed).contains(&told), "{told}, not up to {allowed}");
}
