//! `Device.Hosts.`: who is on the networks around, from the kernel's neighbour tables.
//!
//! A host is a hardware address; it keeps its row while it is away, until it has been away for long or others
//! need the place.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant, SystemTime},
};

use homefleet_model::{
    path::ObjectPath,
    schema::{Object, Param},
    tree::Tree,
    value::{Strength, Type, date_time},
};
use netlink_packet_route::neighbour::NeighbourState;

use super::{
    Now, Options, Provider, ProviderError,
    fill::{Fill, keep_rows, mac, object, row},
    interfaces::{Interfaces, Shared},
    kernel::Neighbour,
    proc,
};

/// A neighbour that the kernel has not asked for this long is not taken to be there any more.
const ACTIVE_FOR: u32 = 300;

/// How many addresses of one host are shown.
const MAX_ADDRESSES: usize = 32;

/// How often the leases are read for the names in them.
const LEASE_INTERVAL: Duration = Duration::from_secs(30);

/// Lease files of dnsmasq (Debian, OpenWrt).
const LEASE_FILES: &[&str] = &["/var/lib/misc/dnsmasq.leases", "/tmp/dhcp.leases"];

static OBJECTS: &[Object] = &[
    Object {
        path: "Device.Hosts.",
        params: &[Param::ro("HostNumberOfEntries", Type::UnsignedInt)],
        ..Object::EMPTY
    },
    Object {
        path: "Device.Hosts.Host.{i}.",
        unique_keys: &[&["PhysAddress"]],
        params: &[
            Param::ro("PhysAddress", Type::string(64)),
            Param::ro("IPAddress", Type::string(45)),
            Param::ro("Layer1Interface", Type::Reference(Strength::Strong)),
            Param::ro("Layer3Interface", Type::Reference(Strength::Strong)),
            Param::ro(
                "InterfaceType",
                Type::Enum(&[
                    "Ethernet", "G.hn", "HPNA", "HomePlug", "MoCA", "UPA", "Wi-Fi", "Other",
                ]),
            ),
            Param::ro("HostName", Type::string(64)),
            Param::ro("Active", Type::Boolean),
            Param::ro("ActiveLastChange", Type::DateTime),
            Param::ro("IPv4AddressNumberOfEntries", Type::UnsignedInt),
            Param::ro("IPv6AddressNumberOfEntries", Type::UnsignedInt),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.Hosts.Host.{i}.IPv4Address.{i}.",
        unique_keys: &[&["IPAddress"]],
        params: &[Param::ro("IPAddress", Type::string(15))],
        ..Object::EMPTY
    },
    Object {
        path: "Device.Hosts.Host.{i}.IPv6Address.{i}.",
        unique_keys: &[&["IPAddress"]],
        params: &[Param::ro("IPAddress", Type::string(45))],
        ..Object::EMPTY
    },
];

pub(super) struct Hosts {
    interfaces: Shared,
    known: Known,
    names: Names,
}

impl Hosts {
    pub(super) fn new(options: &Options, interfaces: Shared) -> Self {
        let known = Known {
            hosts: BTreeMap::new(),
            max: options.max_hosts,
            expiry: options.host_expiry,
        };
        Self {
            interfaces,
            known,
            names: Names::default(),
        }
    }
}

impl Provider for Hosts {
    fn objects(&self) -> &'static [Object] {
        OBJECTS
    }

    fn prefixes(&self) -> &'static [&'static str] {
        &["Device.Hosts."]
    }

    fn refresh(&mut self, tree: &mut Tree, now: Now) -> Result<(), ProviderError> {
        let mut interfaces = self.interfaces.lock();
        interfaces.sync(tree, now)?;
        let neighbours = interfaces
            .kernel
            .neighbours()
            .map_err(|source| ProviderError::Io {
                what: "neighbour tables (netlink)".into(),
                source,
            })?;
        self.known.follow(&neighbours, now);
        self.names.follow(now.instant);
        let table = object("Device.Hosts.Host.")?;
        let mut rows = BTreeSet::new();
        for (address, host) in &self.known.hosts {
            let row = row(tree, &table, &[("PhysAddress", address)])?;
            put(tree, &row, host, self.names.of(address), &interfaces)?;
            rows.insert(row);
        }
        keep_rows(tree, &table, &rows);
        Ok(())
    }
}

fn put(
    tree: &mut Tree,
    host_row: &ObjectPath,
    host: &Host,
    name: &str,
    interfaces: &Interfaces,
) -> Result<(), ProviderError> {
    let interface = interfaces.by_index(host.interface);
    let reference = |row: &ObjectPath| row.as_str().trim_end_matches('.').to_owned();
    let ethernet = interface.and_then(|interface| interface.ethernet.as_ref());
    let kind = match interface {
        Some(interface) if interface.wireless => "Wi-Fi",
        Some(interface) if interface.link.ether => "Ethernet",
        _ => "Other",
    };
    Fill::new(tree, host_row)
        .put(
            "IPAddress",
            primary(&host.addresses)
                .map(|ip| ip.to_string())
                .unwrap_or_default(),
        )?
        .put(
            "Layer1Interface",
            ethernet.map(reference).unwrap_or_default(),
        )?
        .put(
            "Layer3Interface",
            interface
                .map(|interface| reference(&interface.ip))
                .unwrap_or_default(),
        )?
        .put("InterfaceType", kind)?
        .text("HostName", name, 64)?
        .put("Active", host.active)?
        .put("ActiveLastChange", date_time(host.changed))?;
    let (table4, table6) = (host_row.child("IPv4Address"), host_row.child("IPv6Address"));
    let (mut rows4, mut rows6) = (BTreeSet::new(), BTreeSet::new());
    for ip in &host.addresses {
        let (table, rows) = if ip.is_ipv4() {
            (&table4, &mut rows4)
        } else {
            (&table6, &mut rows6)
        };
        rows.insert(row(tree, table, &[("IPAddress", &ip.to_string())])?);
    }
    keep_rows(tree, &table4, &rows4);
    keep_rows(tree, &table6, &rows6);
    Ok(())
}

/// The hosts seen, by hardware address.
struct Known {
    hosts: BTreeMap<String, Host>,
    max: usize,
    expiry: Duration,
}

#[derive(Clone, Debug)]
struct Host {
    addresses: BTreeSet<IpAddr>,
    interface: u32,
    active: bool,
    /// When `active` changed last.
    changed: SystemTime,
    /// When the host was last in the neighbour table as present.
    seen: Instant,
}

impl Known {
    fn follow(&mut self, neighbours: &[Neighbour], now: Now) {
        let mut present: BTreeMap<String, (bool, u32, BTreeSet<IpAddr>)> = BTreeMap::new();
        for neighbour in neighbours.iter().filter(|neighbour| is_host(neighbour)) {
            let (active, _, addresses) = present
                .entry(mac(&neighbour.address))
                .or_insert_with(|| (false, neighbour.index, BTreeSet::new()));
            *active |= is_active(neighbour);
            if addresses.len() < MAX_ADDRESSES {
                addresses.insert(neighbour.ip);
            }
        }
        for (address, host) in &mut self.hosts {
            if host.active && !present.get(address).is_some_and(|(active, ..)| *active) {
                host.active = false;
                host.changed = now.wall;
            }
        }
        for (address, (active, interface, addresses)) in present {
            // Whoever was never seen alive is no host: an entry may be left from before.
            let known = self.hosts.contains_key(&address);
            if !(known || active && self.make_room()) {
                continue;
            }
            let host = self.hosts.entry(address).or_insert_with(|| Host {
                addresses: BTreeSet::new(),
                interface,
                active,
                changed: now.wall,
                seen: now.instant,
            });
            if active {
                host.seen = now.instant;
                host.interface = interface;
                if !host.active {
                    host.active = true;
                    host.changed = now.wall;
                }
            }
            host.addresses = addresses;
        }
        let expiry = self.expiry;
        self.hosts.retain(|_, host| {
            host.active || now.instant.saturating_duration_since(host.seen) < expiry
        });
    }

    /// Whether there is room for one more host, after the one longest away has left if need be.
    fn make_room(&mut self) -> bool {
        if self.hosts.len() < self.max {
            return true;
        }
        let gone = self
            .hosts
            .iter()
            .filter(|(_, host)| !host.active)
            .min_by_key(|(_, host)| host.seen);
        let Some(gone) = gone.map(|(address, _)| address.clone()) else {
            return false;
        };
        self.hosts.remove(&gone).is_some()
    }
}

/// The names in the leases of the device's own DHCP server.
#[derive(Default)]
struct Names {
    by_address: BTreeMap<String, String>,
    read_at: Option<Instant>,
}

impl Names {
    fn follow(&mut self, now: Instant) {
        if self
            .read_at
            .is_some_and(|at| now.saturating_duration_since(at) < LEASE_INTERVAL)
        {
            return;
        }
        self.read_at = Some(now);
        let texts = LEASE_FILES.iter().filter_map(|file| proc::read(file).ok());
        let leases = texts.flat_map(|text| proc::leases(&text));
        self.by_address = leases.map(|lease| (lease.mac, lease.name)).collect();
    }

    fn of(&self, address: &str) -> &str {
        self.by_address.get(address).map_or("", String::as_str)
    }
}

/// A neighbour with an answer and an address of its own.
fn is_host(neighbour: &Neighbour) -> bool {
    use NeighbourState::{Failed, Incomplete, Noarp, None};
    let group = neighbour.address.first().is_none_or(|first| first & 1 != 0);
    let blank = neighbour.address.iter().all(|byte| *byte == 0);
    !group
        && !blank
        && !neighbour.ip.is_multicast()
        && !matches!(neighbour.state, Failed | Incomplete | Noarp | None)
}

fn is_active(neighbour: &Neighbour) -> bool {
    match neighbour.state {
        NeighbourState::Reachable
        | NeighbourState::Delay
        | NeighbourState::Probe
        | NeighbourState::Permanent => true,
        _ => neighbour.confirmed < ACTIVE_FOR,
    }
}

/// The one address to show: IPv4 before IPv6, and a routable one before a link-local one.
fn primary(addresses: &BTreeSet<IpAddr>) -> Option<&IpAddr> {
    addresses.iter().min_by_key(|ip| match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), false),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), true),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn neighbour(last: u8, ip: &str, state: NeighbourState, confirmed: u32) -> Neighbour {
        Neighbour {
            index: 2,
            ip: ip.parse().unwrap(),
            address: vec![2, 0, 0, 0, 0, last],
            state,
            confirmed,
        }
    }

    fn reachable(last: u8, ip: &str) -> Neighbour {
        neighbour(last, ip, NeighbourState::Reachable, 0)
    }

    fn known(max: usize) -> Known {
        Known {
            hosts: BTreeMap::new(),
            max,
            expiry: Duration::from_secs(100),
        }
    }

    fn later(now: Now, seconds: u64) -> Now {
        let by = Duration::from_secs(seconds);
        Now {
            instant: now.instant + by,
            wall: now.wall + by,
        }
    }

    #[test]
    fn addresses_of_one_hardware_address_are_one_host() {
        let mut known = known(8);
        known.follow(
            &[
                reachable(1, "fe80::1"),
                reachable(1, "192.0.2.1"),
                reachable(1, "2001:db8::1"),
            ],
            Now::system(),
        );
        let host = &known.hosts["02:00:00:00:00:01"];
        assert_eq!(host.addresses.len(), 3);
        assert_eq!(primary(&host.addresses).unwrap().to_string(), "192.0.2.1");
        let v6 = ["fe80::1".parse().unwrap(), "2001:db8::1".parse().unwrap()].into();
        assert_eq!(primary(&v6).unwrap().to_string(), "2001:db8::1");
    }

    #[test]
    fn a_host_that_went_is_inactive_then_forgotten() {
        let (mut known, start) = (known(8), Now::system());
        known.follow(&[reachable(1, "192.0.2.1")], start);
        known.follow(&[], later(start, 5));
        let host = &known.hosts["02:00:00:00:00:01"];
        assert_eq!(
            (host.active, host.changed),
            (false, start.wall + Duration::from_secs(5))
        );
        known.follow(&[reachable(1, "192.0.2.1")], later(start, 50));
        assert!(known.hosts["02:00:00:00:00:01"].active);
        known.follow(&[], later(start, 149));
        assert_eq!(known.hosts.len(), 1);
        known.follow(&[], later(start, 150));
        assert!(known.hosts.is_empty());
    }

    #[test]
    fn stale_neighbours_are_active_for_a_while() {
        assert!(is_active(&neighbour(
            1,
            "192.0.2.1",
            NeighbourState::Stale,
            10
        )));
        assert!(!is_active(&neighbour(
            1,
            "192.0.2.1",
            NeighbourState::Stale,
            3600
        )));
    }

    #[test]
    fn what_does_not_answer_or_is_a_group_is_no_host() {
        assert!(is_host(&reachable(1, "192.0.2.1")));
        for state in [
            NeighbourState::Failed,
            NeighbourState::Incomplete,
            NeighbourState::Noarp,
            NeighbourState::None,
        ] {
            assert!(!is_host(&neighbour(1, "192.0.2.1", state, 0)));
        }
        for address in [
            vec![],
            vec![0; 6],
            vec![0x33, 0x33, 0, 0, 0, 1],
            vec![0xff; 6],
        ] {
            assert!(!is_host(&Neighbour {
                address,
                ..reachable(1, "192.0.2.1")
            }));
        }
        assert!(!is_host(&reachable(1, "ff02::1")));
    }

    #[test]
    fn the_table_is_bounded_and_the_one_longest_away_leaves_first() {
        let (mut known, start) = (known(2), Now::system());
        known.follow(
            &[reachable(1, "192.0.2.1"), reachable(2, "192.0.2.2")],
            start,
        );
        known.follow(
            &[reachable(2, "192.0.2.2"), reachable(3, "192.0.2.3")],
            later(start, 1),
        );
        assert_eq!(
            known.hosts.keys().map(|mac| &mac[15..]).collect::<Vec<_>>(),
            ["02", "03"]
        );
        known.follow(
            &[
                reachable(2, "192.0.2.2"),
                reachable(3, "192.0.2.3"),
                reachable(4, "192.0.2.4"),
            ],
            later(start, 2),
        );
        assert_eq!(known.hosts.len(), 2, "those present are not pushed out");
    }

    #[test]
    fn one_host_cannot_have_endless_addresses() {
        let mut known = known(8);
        let flood: Vec<Neighbour> = (0..200)
            .map(|n| reachable(1, &format!("2001:db8::{n:x}")))
            .collect();
        known.follow(&flood, Now::system());
        assert_eq!(
            known.hosts["02:00:00:00:00:01"].addresses.len(),
            MAX_ADDRESSES
        );
    }
}
