//! `Device.IP.`: the IP interfaces with their addresses and counters. A change of a link or an address is heard
//! over netlink when it happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    path::Path,
    time::{Duration, SystemTime},
};

use homefleet_model::{
    path::{ObjectPath, ParamPath},
    schema::{Object, Param},
    tree::Tree,
    value::{INFINITE_TIME, ListType, Strength, Type, date_time},
};
use netlink_packet_route::address::AddressFlags;

use super::{
    Now, Options, Provider, ProviderError, Wake,
    fill::{Fill, counter32, keep_rows, object, row},
    interfaces::{Interface, Interfaces, Shared},
    kernel::{self, Address, Link, Watch},
    proc,
};

/// How many addresses of one interface are shown.
const MAX_ADDRESSES: usize = 64;

/// A remaining lifetime is told in whole seconds: an end that moved by no more than this did not move.
const LIFETIME_JITTER: Duration = Duration::from_secs(2);

pub(super) static LOWER_LAYERS: ListType = ListType {
    item: Type::Reference(Strength::Strong),
    max_items: None,
    max: Some(1024),
};

const STATUS: Type = Type::Enum(&["Disabled", "Enabled", "Error_Misconfigured", "Error"]);
const STACK_STATUS: Type = Type::Enum(&["Disabled", "Enabled", "Error"]);
pub(super) const INTERFACE_STATUS: Type = Type::Enum(&[
    "Up",
    "Down",
    "Unknown",
    "Dormant",
    "NotPresent",
    "LowerLayerDown",
    "Error",
]);

/// What the kernel counts on every interface; it does not tell unicast and broadcast apart.
pub(super) const STATS: &[Param] = &[
    Param::ro("BytesSent", Type::UnsignedLong),
    Param::ro("BytesReceived", Type::UnsignedLong),
    Param::ro("PacketsSent", Type::UnsignedLong),
    Param::ro("PacketsReceived", Type::UnsignedLong),
    Param::ro("ErrorsSent", Type::UnsignedInt),
    Param::ro("ErrorsReceived", Type::UnsignedInt),
    Param::ro("DiscardPacketsSent", Type::UnsignedInt),
    Param::ro("DiscardPacketsReceived", Type::UnsignedInt),
    Param::ro("MulticastPacketsReceived", Type::UnsignedLong),
];

// The model lets controllers add interfaces and addresses; here they are the kernel's alone.
static OBJECTS: &[Object] = &[
    Object {
        path: "Device.IP.",
        params: &[
            Param::ro("IPv4Capable", Type::Boolean),
            Param::rw("IPv4Enable", Type::Boolean),
            Param::ro("IPv4Status", STACK_STATUS),
            Param::ro("IPv6Capable", Type::Boolean),
            Param::rw("IPv6Enable", Type::Boolean),
            Param::ro("IPv6Status", STACK_STATUS),
            Param::ro("InterfaceNumberOfEntries", Type::UnsignedInt),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.IP.Interface.{i}.",
        unique_keys: &[&["Alias"], &["Name"]],
        params: &[
            Param::rw("Enable", Type::Boolean).default("false"),
            Param::rw("IPv4Enable", Type::Boolean),
            Param::rw("IPv6Enable", Type::Boolean),
            Param::ro("Status", INTERFACE_STATUS).default("Down"),
            Param::rw("Alias", Type::string(64)),
            Param::ro("Name", Type::string(64)),
            Param::ro("LastChange", Type::UnsignedInt).quiet(),
            Param::rw("LowerLayers", Type::list(&LOWER_LAYERS)).default(""),
            Param::rw("MaxMTUSize", Type::UnsignedIntIn(64, 65_535)),
            Param::ro(
                "Type",
                Type::Enum(&["Normal", "Loopback", "Tunnel", "Tunneled"]),
            )
            .default("Normal"),
            Param::rw("Loopback", Type::Boolean).default("false"),
            Param::ro("IPv4AddressNumberOfEntries", Type::UnsignedInt),
            Param::ro("IPv6AddressNumberOfEntries", Type::UnsignedInt),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.IP.Interface.{i}.IPv4Address.{i}.",
        unique_keys: &[&["Alias"], &["IPAddress", "SubnetMask"]],
        params: &[
            Param::rw("Enable", Type::Boolean).default("false"),
            Param::ro("Status", STATUS).default("Disabled"),
            Param::rw("Alias", Type::string(64)),
            Param::rw("IPAddress", Type::string(15)),
            Param::rw("SubnetMask", Type::string(15)).default(""),
            Param::ro(
                "AddressingType",
                Type::Enum(&["DHCP", "IKEv2", "AutoIP", "IPCP", "Static"]),
            )
            .default("Static"),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.IP.Interface.{i}.IPv6Address.{i}.",
        unique_keys: &[&["Alias"], &["IPAddress"]],
        params: &[
            Param::rw("Enable", Type::Boolean).default("false"),
            Param::ro("Status", STATUS).default("Disabled"),
            Param::ro(
                "IPAddressStatus",
                Type::Enum(&[
                    "Preferred",
                    "Deprecated",
                    "Invalid",
                    "Inaccessible",
                    "Unknown",
                    "Tentative",
                    "Duplicate",
                    "Optimistic",
                ]),
            )
            .default("Invalid"),
            Param::rw("Alias", Type::string(64)),
            Param::rw("IPAddress", Type::string(45)).default(""),
            Param::ro(
                "Origin",
                Type::Enum(&[
                    "AutoConfigured",
                    "DHCPv6",
                    "IKEv2",
                    "MAP",
                    "WellKnown",
                    "Static",
                ]),
            )
            .default("Static"),
            Param::rw("PreferredLifetime", Type::DateTime).default(INFINITE_TIME),
            Param::rw("ValidLifetime", Type::DateTime).default(INFINITE_TIME),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.IP.Interface.{i}.Stats.",
        params: STATS,
        ..Object::EMPTY
    },
];

pub(super) struct Ip {
    interfaces: Shared,
    allow_changes: bool,
    lifetimes: BTreeMap<(u32, IpAddr), Lifetimes>,
    watch: Option<Watch>,
}

impl Ip {
    pub(super) fn new(options: &Options, interfaces: Shared) -> Self {
        let allow_changes = options.allow_network_changes;
        Self {
            interfaces,
            allow_changes,
            lifetimes: BTreeMap::new(),
            watch: None,
        }
    }

    fn put_addresses(
        &mut self,
        tree: &mut Tree,
        interface: &Interface,
        addresses: &[Address],
        now: Now,
    ) -> Result<(), ProviderError> {
        let (table4, table6) = (
            interface.ip.child("IPv4Address"),
            interface.ip.child("IPv6Address"),
        );
        let (mut rows4, mut rows6) = (BTreeSet::new(), BTreeSet::new());
        let ours = addresses
            .iter()
            .filter(|address| address.index == interface.link.index);
        for address in ours.take(MAX_ADDRESSES) {
            let ip = address.ip.to_string();
            match address.ip {
                IpAddr::V4(_) => {
                    let mask = address.mask().to_string();
                    let row = row(tree, &table4, &[("IPAddress", &ip), ("SubnetMask", &mask)])?;
                    Fill::new(tree, &row)
                        .put("Enable", true)?
                        .put("Status", "Enabled")?
                        .put("AddressingType", addressing_type(address))?;
                    rows4.insert(row);
                }
                IpAddr::V6(v6) => {
                    let row = row(tree, &table6, &[("IPAddress", &ip)])?;
                    let lifetimes = self
                        .lifetimes
                        .entry((address.index, address.ip))
                        .or_default();
                    lifetimes.follow(address, now.wall);
                    let status = ip_address_status(address);
                    Fill::new(tree, &row)
                        .put("Enable", true)?
                        .put(
                            "Status",
                            if status == "Duplicate" {
                                "Error"
                            } else {
                                "Enabled"
                            },
                        )?
                        .put("IPAddressStatus", status)?
                        .put("Origin", origin(address, v6))?
                        .put("PreferredLifetime", end(lifetimes.preferred))?
                        .put("ValidLifetime", end(lifetimes.valid))?;
                    rows6.insert(row);
                }
            }
        }
        keep_rows(tree, &table4, &rows4);
        keep_rows(tree, &table6, &rows6);
        Ok(())
    }
}

impl Provider for Ip {
    fn objects(&self) -> &'static [Object] {
        OBJECTS
    }

    fn prefixes(&self) -> &'static [&'static str] {
        &["Device.IP."]
    }

    fn refresh(&mut self, tree: &mut Tree, now: Now) -> Result<(), ProviderError> {
        let shared = self.interfaces.clone();
        let mut interfaces = shared.lock();
        interfaces.sync(tree, now)?;
        let addresses = interfaces
            .kernel
            .addresses()
            .map_err(|source| ProviderError::Io {
                what: "addresses (netlink)".into(),
                source,
            })?;
        self.lifetimes
            .retain(|(index, ip), _| addresses.iter().any(|a| a.index == *index && a.ip == *ip));
        let ipv6 = Path::new("/proc/sys/net/ipv6").exists();
        let ipv6_on = ipv6
            && proc::line("/proc/sys/net/ipv6/conf/all/disable_ipv6")
                .is_none_or(|text| text == "0");
        Fill::new(tree, &object("Device.IP.")?)
            .put("IPv4Capable", true)?
            .put("IPv4Enable", true)?
            .put("IPv4Status", "Enabled")?
            .put("IPv6Capable", ipv6)?
            .put("IPv6Enable", ipv6_on)?
            .put("IPv6Status", if ipv6_on { "Enabled" } else { "Disabled" })?;
        for interface in interfaces.iter() {
            put_interface(tree, &interfaces, interface, now)?;
            put_stats(tree, &interface.ip, &interface.link)?;
            self.put_addresses(tree, interface, &addresses, now)?;
        }
        Ok(())
    }

    fn apply(&mut self, _tree: &Tree, path: &ParamPath, value: &str) -> Result<(), ProviderError> {
        if path.name() == "Alias" {
            return Ok(());
        }
        apply(&self.interfaces, self.allow_changes, path, value)
    }

    fn watch(&mut self, wake: Wake) {
        match kernel::watch(wake) {
            Ok(watch) => self.watch = Some(watch),
            // Without it, changes are seen at the next second.
            Err(error) => tracing::warn!(%error, "link and address changes cannot be heard"),
        }
    }
}

fn put_interface(
    tree: &mut Tree,
    interfaces: &Interfaces,
    interface: &Interface,
    now: Now,
) -> Result<(), ProviderError> {
    let link = &interface.link;
    let below = interfaces
        .below(interface)
        .map_or("", |row| row.as_str().trim_end_matches('.'));
    Fill::new(tree, &interface.ip)
        .put("Enable", link.up)?
        .put("IPv4Enable", true)?
        .put("IPv6Enable", link.ipv6_disabled == Some(false))?
        .put("Status", interface.status)?
        .put("LastChange", interface.last_change(now))?
        .put("LowerLayers", below)?
        .put("MaxMTUSize", link.mtu.clamp(64, 65_535))?
        .put("Type", interface_type(link))?
        .put("Loopback", link.loopback)?;
    Ok(())
}

/// The counters of an interface, below its row in either table.
pub(super) fn put_stats(
    tree: &mut Tree,
    row: &ObjectPath,
    link: &Link,
) -> Result<(), ProviderError> {
    let stats = &link.stats;
    Fill::new(tree, &row.child("Stats"))
        .put("BytesSent", stats.tx_bytes)?
        .put("BytesReceived", stats.rx_bytes)?
        .put("PacketsSent", stats.tx_packets)?
        .put("PacketsReceived", stats.rx_packets)?
        .put("ErrorsSent", counter32(stats.tx_errors))?
        .put("ErrorsReceived", counter32(stats.rx_errors))?
        .put("DiscardPacketsSent", counter32(stats.tx_dropped))?
        .put("DiscardPacketsReceived", counter32(stats.rx_dropped))?
        .put("MulticastPacketsReceived", stats.multicast)?;
    Ok(())
}

/// Makes the kernel follow `Enable`, `MaxMTUSize` or `IPv6Enable` of an interface, if the configuration
/// allows it; refuses everything else.
pub(super) fn apply(
    shared: &Shared,
    allowed: bool,
    path: &ParamPath,
    value: &str,
) -> Result<(), ProviderError> {
    let name = path.name();
    if !allowed {
        return Err(ProviderError::Refused(format!(
            "{name} cannot be set: changes of the network are not allowed by the agent's configuration"
        )));
    }
    let mut interfaces = shared.lock();
    let object = path.object();
    let interface = interfaces
        .by_path(object.as_str())
        .filter(|found| found.ip == object || found.ethernet.as_ref() == Some(&object));
    let Some(interface) = interface else {
        return Err(ProviderError::Refused(format!(
            "{path} is as the kernel has it and cannot be set"
        )));
    };
    let Link {
        index,
        name: device,
        loopback,
        ..
    } = interface.link.clone();
    let io = |source| ProviderError::Io {
        what: format!("{name} of {device}"),
        source,
    };
    match (name, value) {
        ("Enable", "false") if loopback => {
            return Err(ProviderError::Refused(
                "the loopback interface stays up".into(),
            ));
        }
        ("Enable", "false") if interfaces.is_default_route(&device) => {
            return Err(ProviderError::Refused(format!(
                "{device} carries the default route: the device could not be reached any more"
            )));
        }
        ("Enable", _) => interfaces
            .kernel
            .set_up(index, value == "true")
            .map_err(io)?,
        ("MaxMTUSize", _) => {
            let mtu = value
                .parse()
                .map_err(|_| ProviderError::Refused(format!("{value} is no MTU")))?;
            interfaces.kernel.set_mtu(index, mtu).map_err(io)?;
        }
        ("IPv6Enable", _) => {
            let file = Path::new("/proc/sys/net/ipv6/conf")
                .join(&device)
                .join("disable_ipv6");
            std::fs::write(file, if value == "true" { "0" } else { "1" }).map_err(io)?;
        }
        _ => {
            return Err(ProviderError::Refused(format!(
                "{name} of {device} is as the kernel has it and cannot be set"
            )));
        }
    }
    interfaces.forget();
    Ok(())
}

/// TR-181 §4.2: what makes frames is normal, what wraps packets in packets is a tunnel.
fn interface_type(link: &Link) -> &'static str {
    match link.kind.as_deref() {
        _ if link.loopback => "Loopback",
        Some(
            "tun" | "ipip" | "sit" | "ip6tnl" | "gre" | "ip6gre" | "vti" | "vti6" | "wireguard"
            | "xfrm",
        ) if !link.ether => "Tunnel",
        _ => "Normal",
    }
}

/// The kernel does not know who gave it an address; a limited lifetime is DHCP's mark.
fn addressing_type(address: &Address) -> &'static str {
    match address.ip {
        IpAddr::V4(ip) if ip.is_link_local() => "AutoIP",
        _ if address.flags.contains(AddressFlags::Permanent) => "Static",
        _ => "DHCP",
    }
}

/// As [`addressing_type`]: limited addresses come from router advertisements with their prefix, or from DHCPv6
/// without one.
fn origin(address: &Address, ip: Ipv6Addr) -> &'static str {
    if ip.is_loopback() {
        "WellKnown"
    } else if ip.is_unicast_link_local() {
        "AutoConfigured"
    } else if address.flags.contains(AddressFlags::Permanent) {
        "Static"
    } else if address.prefix == 128 {
        "DHCPv6"
    } else {
        "AutoConfigured"
    }
}

/// After ipAddressStatusTC of RFC 4293.
fn ip_address_status(address: &Address) -> &'static str {
    let is = |flag| address.flags.contains(flag);
    if is(AddressFlags::Dadfailed) {
        "Duplicate"
    } else if is(AddressFlags::Optimistic) {
        "Optimistic"
    } else if is(AddressFlags::Tentative) {
        "Tentative"
    } else if is(AddressFlags::Deprecated) {
        "Deprecated"
    } else {
        "Preferred"
    }
}

/// When an address stops being preferred and valid; absent: never.
#[derive(Clone, Copy, Default)]
struct Lifetimes {
    preferred: Option<SystemTime>,
    valid: Option<SystemTime>,
}

impl Lifetimes {
    fn follow(&mut self, address: &Address, wall: SystemTime) {
        self.preferred = steady(self.preferred, address.preferred, wall);
        self.valid = steady(self.valid, address.valid, wall);
    }
}

fn steady(
    before: Option<SystemTime>,
    remaining: Option<u32>,
    wall: SystemTime,
) -> Option<SystemTime> {
    let end = wall.checked_add(Duration::from_secs(remaining?.into()))?;
    let moved = |before: &SystemTime| {
        end.duration_since(*before)
            .unwrap_or_else(|error| error.duration())
    };
    before
        .filter(|before| moved(before) <= LIFETIME_JITTER)
        .or(Some(end))
}

fn end(end: Option<SystemTime>) -> String {
    end.map_or_else(|| INFINITE_TIME.into(), date_time)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::provider::kernel::tests::link;

    fn address(ip: &str, prefix: u8, flags: AddressFlags) -> Address {
        Address {
            index: 1,
            ip: ip.parse().unwrap(),
            prefix,
            flags,
            preferred: None,
            valid: None,
        }
    }

    #[test]
    fn the_way_an_ipv4_address_came_is_told_by_its_lifetime() {
        assert_eq!(
            addressing_type(&address("192.0.2.2", 24, AddressFlags::Permanent)),
            "Static"
        );
        assert_eq!(
            addressing_type(&address("192.0.2.2", 24, AddressFlags::empty())),
            "DHCP"
        );
        assert_eq!(
            addressing_type(&address("169.254.1.1", 16, AddressFlags::Permanent)),
            "AutoIP"
        );
    }

    #[test]
    fn the_origin_of_an_ipv6_address_is_told() {
        let told =
            |ip: &str, prefix, flags| origin(&address(ip, prefix, flags), ip.parse().unwrap());
        assert_eq!(told("::1", 128, AddressFlags::Permanent), "WellKnown");
        assert_eq!(
            told("fe80::1", 64, AddressFlags::Permanent),
            "AutoConfigured"
        );
        assert_eq!(told("2001:db8::1", 64, AddressFlags::Permanent), "Static");
        assert_eq!(
            told("2001:db8::1", 64, AddressFlags::empty()),
            "AutoConfigured"
        );
        assert_eq!(told("2001:db8::1", 128, AddressFlags::empty()), "DHCPv6");
    }

    #[test]
    fn duplicate_addresses_show_before_tentative_ones() {
        let status = |flags| ip_address_status(&address("2001:db8::1", 64, flags));
        assert_eq!(status(AddressFlags::empty()), "Preferred");
        assert_eq!(status(AddressFlags::Tentative), "Tentative");
        assert_eq!(
            status(AddressFlags::Tentative | AddressFlags::Dadfailed),
            "Duplicate"
        );
        assert_eq!(status(AddressFlags::Deprecated), "Deprecated");
    }

    #[test]
    fn a_lifetime_that_only_ticks_does_not_move() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let first = steady(None, Some(3600), start);
        assert_eq!(first, Some(start + Duration::from_secs(3600)));
        assert_eq!(
            steady(first, Some(3590), start + Duration::from_secs(11)),
            first
        );
        let renewed = steady(first, Some(3600), start + Duration::from_secs(60));
        assert_eq!(renewed, Some(start + Duration::from_secs(3660)));
        assert_eq!(steady(first, None, start), None);
        assert_eq!(end(None), INFINITE_TIME);
    }

    #[test]
    fn masks_follow_the_prefix() {
        for (prefix, mask) in [
            (0, "0.0.0.0"),
            (8, "255.0.0.0"),
            (24, "255.255.255.0"),
            (32, "255.255.255.255"),
            (200, "255.255.255.255"),
        ] {
            assert_eq!(
                address("192.0.2.1", prefix, AddressFlags::empty())
                    .mask()
                    .to_string(),
                mask
            );
        }
    }

    #[test]
    fn interfaces_are_normal_loopback_or_tunnel() {
        assert_eq!(interface_type(&link("eth0")), "Normal");
        assert_eq!(
            interface_type(&Link {
                loopback: true,
                ether: false,
                ..link("lo")
            }),
            "Loopback"
        );
        let tunnel = Link {
            kind: Some("wireguard".into()),
            ether: false,
            ..link("wg0")
        };
        assert_eq!(interface_type(&tunnel), "Tunnel");
        assert_eq!(
            interface_type(&Link {
                kind: Some("tun".into()),
                ..link("tap0")
            }),
            "Normal"
        );
    }
}
