//! Who is behind which gateway (TR-111 Part 1): the machines in virtual time, what DHCP servers and clients tell, the tree.

use std::{net::Ipv4Addr, time::Duration};

use homefleet_agent::association::{Mac, Settings};
use homefleet_tr111::identity::Identity;

mod events;
mod exchange;
mod inbox;
mod lan;
mod machines;
mod notifications;
mod tree;

const SECOND: Duration = Duration::from_secs(1);

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 77, last)
}

fn device(number: u8) -> Identity {
    Identity::new("ABCDEF", &format!("STB-{number}"), Some("SetTopBox")).unwrap()
}

/// Both roles, with everything in `directory`.
fn settings(directory: &std::path::Path) -> Settings {
    Settings {
        gateway: true,
        device: true,
        lan: Vec::new(),
        inform: None,
        inform_interval: Duration::from_secs(3600),
        probe_interval: Duration::ZERO,
        max_devices: 8,
        socket: directory.join("dhcp.sock"),
        file: Some(directory.join("association.json")),
    }
}
