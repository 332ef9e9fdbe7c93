//! The proof in network namespaces: a gateway with a real dnsmasq, then kea; devices with udhcpc, dhclient and DHCPINFORM.
//!
//! Each machine runs the real agent, and the configuration that `homefleet-agent dhcp-config` makes.

use std::{fs, path::Path};

use crate::{
    home_lan::{
        Home, Machine, dhclient, kill, known, start_dnsmasq, start_kea, start_udhcpc, unknown, wait,
    },
    pki::{Ca, install},
};

/// The agent of this build.
fn agent() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_homefleet-agent"))
}

/// A configuration whose controller is nowhere.
fn alone(ca: &Ca, machine: &Machine) -> String {
    install(&machine.directory, ca, 9)
}

/// Everything, with one of the servers.
fn proof(server: fn(&mut Home, &Machine), program: &str) {
    let Some(mut home) = Home::new(&[program, "udhcpc", "dhclient", "setpriv"], agent()) else {
        return;
    };
    let ca = Ca::new();
    let gateway = home.at("g");
    let association = "gateway = true\nlan = [\"br-lan\"]\nprobe_interval = 1";
    home.agent(&gateway, &alone(&ca, &gateway), "12", association);
    server(&mut home, &gateway);

    let one = home.device("d1", 1);
    home.agent(&one, &alone(&ca, &one), "STB-1", "device = true");
    let udhcpc = start_udhcpc(&mut home, &one);
    let two = home.device("d2", 2);
    home.agent(&two, &alone(&ca, &two), "STB-2", "device = true");
    let client = home.start(&two, &dhclient(&two), &[]);
    let three = home.device("d3", 3);
    three
        .run("ip address add 192.168.77.20/24 dev lan")
        .unwrap();
    home.agent(
        &three,
        &alone(&ca, &three),
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
        "udhcpc -f -q -n -i lan -t 100 -T 1 -O 125 -s {}",
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
        "udhcpc -f -q -n -i lan -t 100 -T 1 -x {option} -s {}",
        script.display()
    );
    home.finish(&curt, &command);
    let environment = fs::read_to_string(curt.directory.join("bound.env")).unwrap();
    assert!(environment.contains("opt125=00000de9"), "{environment}");

    // One that releases its lease leaves at both ends.
    kill(udhcpc, "USR2");
    wait("released", &unknown(), || one.gateway());
    wait("the others", &all[1..].to_vec(), || gateway.listed());

    // One that is just gone is missed.
    two.run("ip link set lan down").unwrap();
    home.end(client, "KILL");
    wait("the last", &all[2..].to_vec(), || gateway.listed());
}

/// Fifty that join at once, then five that do not say who they are.
fn crowd(server: fn(&mut Home, &Machine), program: &str) {
    let Some(mut home) = Home::new(&[program, "python3", "setpriv"], agent()) else {
        return;
    };
    let gateway = home.at("g");
    let association = "gateway = true\nlan = [\"br-lan\"]\nprobe_interval = 0";
    home.agent(&gateway, &alone(&Ca::new(), &gateway), "12", association);
    server(&mut home, &gateway);
    let crowd = home.device("c", 1);
    // To ask from port 68 it needs some address.
    crowd
        .run("ip address add 192.168.77.200/24 dev lan")
        .unwrap();
    let script = crowd.script("crowd.py", include_str!("crowd.py"));
    for (count, identified, identities) in [(50, "yes", 100), (5, "no", 0)] {
        let command = format!("python3 {} lan {count} {identified}", script.display());
        home.finish(&crowd, &command);
        let said = fs::read_to_string(crowd.directory.join("python3.log")).unwrap();
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        let wanted =
            serde_json::json!({ "offers": count, "acks": count, "identities": identities });
        assert_eq!(said, wanted, "identified: {identified}");
    }
    let mut all: Vec<String> = (1..=50).map(|number| format!("CROWD-{number}")).collect();
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
