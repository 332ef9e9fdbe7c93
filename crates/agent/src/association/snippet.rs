//! Configuration of dnsmasq, kea, udhcpc and dhclient, so that they tell identities and hand on what they hear.

use std::path::Path;

use homefleet_tr111::identity::{ENTERPRISE, Identity, OPTION, Role};

/// Whose configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Program {
    /// Gateway: dnsmasq.
    Dnsmasq,
    /// Gateway: kea-dhcp4.
    Kea,
    /// Device: busybox's udhcpc.
    Udhcpc,
    /// Device: ISC's dhclient.
    Dhclient,
}

/// A file to put somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: &'static str,
    /// It is a program.
    pub executable: bool,
    /// What is in it; comments say where it goes.
    pub content: String,
}

/// The files for `program`. Scripts call `agent`, the path of `homefleet-agent`, with `socket`; those of dnsmasq stand in `directory`.
pub fn files(
    program: Program,
    identity: &Identity,
    agent: &Path,
    socket: &Path,
    directory: &Path,
) -> Vec<File> {
    let call = |source: &str, arguments: &str| {
        let [agent, socket] = [agent, socket].map(|path| quoted(&path.display().to_string()));
        format!("{agent} dhcp-event --socket {socket} {source}{arguments}")
    };
    match program {
        Program::Dnsmasq => dnsmasq(identity, &call("dnsmasq", " \"$@\""), directory),
        Program::Kea => kea(identity),
        Program::Udhcpc => udhcpc(identity, &call("udhcpc", " \"$@\"")),
        Program::Dhclient => dhclient(identity, &call("dhclient", "")),
    }
}

/// Elements of the gateway's identity with their sub-options.
fn elements(identity: &Identity) -> Vec<(u8, &str)> {
    let mut elements = vec![(4, identity.oui()), (5, identity.serial())];
    elements.extend(identity.product_class().map(|class| (6, class)));
    elements
}

fn dnsmasq(identity: &Identity, call: &str, directory: &Path) -> Vec<File> {
    let mut content = String::from(
        "# dnsmasq: TR-111 Part 1, made by `homefleet-agent dhcp-config dnsmasq`. Goes into /etc/dnsmasq.d/.\n\
         # Devices that identify themselves (tag cpewan-id) learn this gateway's identity, whether or not they ask for the option.\n",
    );
    for (code, text) in elements(identity) {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        content.push_str(&format!(
            "dhcp-option-force=tag:cpewan-id,vi-encap:{ENTERPRISE},{code},\"{text}\"\n"
        ));
    }
    let script = directory.join("homefleet-dnsmasq");
    content.push_str(&format!(
        "# The agent learns of leases, and of their renewal.\ndhcp-script={}\nscript-on-renewal\n",
        script.display()
    ));
    vec![
        File {
            name: "homefleet.conf",
            executable: false,
            content,
        },
        File {
            name: "homefleet-dnsmasq",
            executable: true,
            content: format!(
                "#!/bin/sh\n# Called by dnsmasq (dhcp-script): add, old or del, hardware address, address.\nexec {call}\n"
            ),
        },
    ]
}

fn kea(identity: &Identity) -> Vec<File> {
    let option = serde_json::json!({
        "name": "vivso-suboptions",
        "data": ENTERPRISE.to_string(),
        "always-send": true,
    });
    let data = elements(identity).into_iter().map(|(code, text)| {
        let hex: String = text.bytes().map(|octet| format!("{octet:02X}")).collect();
        serde_json::json!({
            "code": code,
            "space": format!("vendor-{ENTERPRISE}"),
            "csv-format": false,
            "data": hex,
            "always-send": true,
        })
    });
    let data: Vec<_> = std::iter::once(option).chain(data).collect();
    let class = serde_json::json!({
        "name": "homefleet-cpewan-id",
        // The identity needs OUI and serial number.
        "test": format!("vendor[{ENTERPRISE}].option[1].exists and vendor[{ENTERPRISE}].option[2].exists"),
        "option-data": data,
    });
    let class = serde_json::to_string_pretty(&class).unwrap_or_default();
    vec![File {
        name: "homefleet-kea.json",
        executable: false,
        content: format!("{class}\n"),
    }]
}

fn option(identity: &Identity) -> Vec<u8> {
    identity.encode(Role::Device)
}

fn udhcpc(identity: &Identity, call: &str) -> Vec<File> {
    let hex: String = option(identity)
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    vec![
        File {
            name: "homefleet-udhcpc.options",
            executable: false,
            content: format!("-x 0x{OPTION:02x}:{hex} -O {OPTION}\n"),
        },
        File {
            name: "homefleet-udhcpc",
            executable: true,
            content: format!(
                "#!/bin/sh\n\
                 # The script of udhcpc: `udhcpc -s` this file, with the options of homefleet-udhcpc.options. It calls the usual script, then the agent.\n\
                 # On OpenWrt its last lines go into /etc/udhcpc.user; the options into `sendopts` and `reqopts` of the interface.\n\
                 usual=${{HOMEFLEET_UDHCPC_SCRIPT:-/etc/udhcpc/default.script}}\n\
                 status=0\n\
                 if [ -x \"$usual\" ]; then \"$usual\" \"$@\"; status=$?; fi\n\
                 {call} || true\n\
                 exit $status\n"
            ),
        },
    ]
}

fn dhclient(identity: &Identity, call: &str) -> Vec<File> {
    let octets = option(identity);
    let octets: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    vec![
        File {
            name: "homefleet-dhclient.conf",
            executable: false,
            content: format!(
                "# dhclient: TR-111 Part 1, made by `homefleet-agent dhcp-config dhclient`. Goes into /etc/dhcp/dhclient.conf.\n\
                 option homefleet-identity code {OPTION} = string;\n\
                 send homefleet-identity {};\n\
                 also request homefleet-identity;\n",
                octets.join(":")
            ),
        },
        File {
            name: "homefleet-dhclient",
            executable: true,
            content: format!(
                "# Goes into /etc/dhcp/dhclient-exit-hooks.d/. It is read by dhclient-script, which must go on in any case;\n\
                 # what it knows is not exported.\n\
                 (\n  export reason interface new_homefleet_identity new_dhcp_lease_time\n  {call}\n) || true\n"
            ),
        },
    ]
}

/// A word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
