//! `homefleet-agent dhcp-event` and the agent: the socket, what waits for a start, and the real program.

use std::{
    io::{Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant, SystemTime},
};

use homefleet_agent::{
    association::{
        Event, Shared,
        inbox::{Told, tell},
    },
    provider::{Options, Wake},
};

use super::{device, ip, mac, settings};
use crate::{pki::PATIENCE, provider::Machine};

fn leased(number: u8, lease: Option<u64>) -> Event {
    Event::Leased {
        mac: mac(number),
        address: ip(number),
        identity: Some(device(number)),
        lease,
    }
}

/// A running agent's part in it; dropped, it ends.
fn start(directory: &Path) -> (Shared, Machine) {
    let shared = Shared::new(settings(directory), Instant::now(), SystemTime::now());
    let mut machine = Machine::new(&Options {
        association: Some(shared.clone()),
        ..Options::default()
    });
    for provider in &mut machine.providers {
        provider.watch(Wake::new(|| {}));
    }
    (shared, machine)
}

/// What somebody who writes `text` to the socket is answered.
fn write(socket: &Path, text: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may be refused before all of it is written.
    stream.write_all(text).ok();
    stream.shutdown(std::net::Shutdown::Write).ok();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_reaches_the_running_agent_and_only_its_owner_may_tell() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, _machine) = start(directory.path());
    let socket = settings(directory.path()).socket;
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let told = tokio::task::spawn_blocking({
        let socket = socket.clone();
        move || tell(&socket, &leased(1, Some(60))).unwrap()
    });
    assert_eq!(told.await.unwrap(), Told::Taken);
    assert_eq!(shared.devices(), [(device(1), vec![mac(1)])]);
    let answers = tokio::task::spawn_blocking(move || {
        let long = vec![b'x'; 100_000];
        let bad: [&[u8]; 5] = [
            b"\n",
            b"{}\n",
            b"\xff\xfe\n",
            b"{\"event\":\"lost\",\"interface\":\"../x\"}\n",
            &long,
        ];
        bad.map(|text| write(&socket, text))
    });
    for answer in answers.await.unwrap() {
        // Who writes on after it was refused may not see the answer.
        assert!(
            answer.is_empty() || answer.starts_with("refused: "),
            "{answer}"
        );
    }
    assert_eq!(shared.counters().malformed, 5);
    assert_eq!(shared.counters().events, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_takes_waits_for_the_agent_the_last_word_of_each() {
    let directory = tempfile::tempdir().unwrap();
    let socket = settings(directory.path()).socket;
    let lost = |interface: &str| Event::Lost {
        interface: interface.into(),
    };
    for event in [
        leased(1, Some(3600)),
        leased(2, None),
        lost("eth0"),
        lost("eth0"),
    ] {
        assert_eq!(tell(&socket, &event).unwrap(), Told::Waits);
    }
    let ended = Event::Ended {
        mac: mac(2),
        address: None,
    };
    assert_eq!(tell(&socket, &ended).unwrap(), Told::Waits);
    let waiting = directory.path().join("dhcp.waiting");
    assert_eq!(std::fs::read_dir(&waiting).unwrap().count(), 3);
    std::fs::write(waiting.join("device-x"), "damaged").unwrap();
    assert!(
        tell(&socket, &lost("a/b")).is_err(),
        "no path is made of it"
    );
    let (shared, machine) = start(directory.path());
    assert_eq!(shared.devices(), [(device(1), vec![mac(1)])]);
    assert_eq!(shared.counters().malformed, 1);
    assert_eq!(std::fs::read_dir(&waiting).unwrap().count(), 0);
    drop(machine);
    // It ended and left its socket behind.
    let again = tokio::task::spawn_blocking(move || {
        let end = Instant::now() + PATIENCE;
        // The task that listens is gone soon, not at once.
        while tell(&socket, &leased(3, None)).ok() != Some(Told::Waits) {
            assert!(Instant::now() < end, "somebody still listens");
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    again.await.unwrap();
    let (shared, _machine) = start(directory.path());
    assert_eq!(shared.devices().len(), 2);
}

fn agent(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_homefleet-agent"))
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dhcp_event_says_what_servers_and_clients_say_and_what_is_typed() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, mut machine) = start(directory.path());
    let socket = settings(directory.path()).socket;
    let run = move |arguments: &[&str], environment: &[(&str, &str)]| {
        let socket = socket.display().to_string();
        let all = [&["dhcp-event", "--socket", &socket], arguments].concat();
        let output = agent(&all, environment);
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let said = tokio::task::spawn_blocking(move || {
        let identity = [
            ("DNSMASQ_CPEWAN_OUI", "ABCDEF"),
            ("DNSMASQ_CPEWAN_SERIAL", "STB-1"),
            ("DNSMASQ_CPEWAN_CLASS", "SetTopBox"),
        ];
        let option = (
            "opt125",
            "00000de91b060d486f6d652c20506f72743a616c050231320406303044303945",
        );
        let typed = "leased --mac 02:00:00:00:00:02 --address 192.168.77.2 --oui ABCDEF --serial-number STB-2 --product-class SetTopBox";
        let typed: Vec<&str> = typed.split(' ').collect();
        [
            run(
                &[
                    "dnsmasq",
                    "add",
                    "02:00:00:00:00:01",
                    "192.168.77.1",
                    "name",
                ],
                &identity,
            ),
            run(&["udhcpc", "bound"], &[("interface", "lan"), option]),
            run(&typed, &[]),
            run(&["dnsmasq", "init"], &[]),
            run(&["udhcpc", "bound"], &[]),
            run(&["leased", "--mac", "x", "--address", "192.168.77.2"], &[]),
            run(&["lost", "--interface", "a/b"], &[]),
        ]
    });
    let said = said.await.unwrap();
    let codes: Vec<i32> = said.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [0, 0, 0, 0, 2, 2, 1], "{said:?}");
    assert_eq!(shared.devices().len(), 2);
    machine.refresh();
    assert_eq!(
        machine.text("Device.GatewayInfo.ProductClass"),
        "Home, Port:al"
    );
}
