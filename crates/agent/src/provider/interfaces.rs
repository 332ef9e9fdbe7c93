//! The interfaces that `Device.IP.`, `Device.Ethernet.` and `Device.Hosts.` share: read once per round of
//! refreshes, with the table rows that stand for them.
//!
//! A row belongs to an interface name, not to a kernel index: `eth0` unplugged and plugged in again is the
//! same row.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use homefleet_model::{path::ObjectPath, tree::Tree};
use netlink_packet_route::link::State;

use super::{
    Now, ProviderError,
    fill::{keep_rows, object, row},
    kernel::{Kernel, Link},
    proc,
};

/// How many interfaces are shown at most; the kernel's first ones.
const MAX_INTERFACES: usize = 256;

/// How often the default route is looked up.
const ROUTE_INTERVAL: Duration = Duration::from_secs(1);

/// [`Interfaces`] as the network providers hold them.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Interfaces>>);

impl Shared {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Interfaces {
            kernel: Kernel::new(),
            known: BTreeMap::new(),
            upstream: Upstream::default(),
            read_at: None,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Interfaces> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every interface of the device.
pub(super) struct Interfaces {
    pub(super) kernel: Kernel,
    /// By kernel index.
    known: BTreeMap<u32, Interface>,
    upstream: Upstream,
    read_at: Option<Instant>,
}

/// One interface and its place in the tree.
pub(super) struct Interface {
    pub(super) link: Link,
    /// `Device.IP.Interface.{i}.`
    pub(super) ip: ObjectPath,
    /// `Device.Ethernet.Interface.{i}.`, when it is an Ethernet port.
    pub(super) ethernet: Option<ObjectPath>,
    /// An IEEE 802.11 interface.
    pub(super) wireless: bool,
    /// Points towards the Internet.
    pub(super) upstream: bool,
    /// Operational state (TR-181 §4.2.2).
    pub(super) status: &'static str,
    /// Since when it is in that state, as far as the agent has seen.
    since: Instant,
}

impl Interface {
    /// Seconds in the current operational state. What happened before the agent started counts from its
    /// start, as ifLastChange of RFC 2863 does from the start of the management system.
    pub(super) fn last_change(&self, now: Now) -> u64 {
        now.instant.saturating_duration_since(self.since).as_secs()
    }
}

impl Interfaces {
    /// Reads the kernel (once per round) and makes the rows of both interface tables agree with it.
    pub(super) fn sync(&mut self, tree: &mut Tree, now: Now) -> Result<(), ProviderError> {
        if self.read_at == Some(now.instant) {
            return Ok(());
        }
        let links = self.kernel.links().map_err(|source| ProviderError::Io {
            what: "network interfaces (netlink)".into(),
            source,
        })?;
        self.upstream.look(now.instant);
        let (ip_table, ethernet_table) = (
            object("Device.IP.Interface.")?,
            object("Device.Ethernet.Interface.")?,
        );
        let (mut ip_rows, mut ethernet_rows) = (BTreeSet::new(), BTreeSet::new());
        let mut known = BTreeMap::new();
        for link in links.into_iter().take(MAX_INTERFACES) {
            let before = self
                .known
                .remove(&link.index)
                .filter(|before| before.link.name == link.name);
            let wireless = before
                .as_ref()
                .map_or_else(|| is_wireless(&link.name), |before| before.wireless);
            let status = status(&link);
            let since = before
                .as_ref()
                .filter(|before| before.status == status)
                .map_or(now.instant, |b| b.since);
            let key = [("Name", link.name.as_str())];
            let ip = row(tree, &ip_table, &key)?;
            ip_rows.insert(ip.clone());
            let ethernet = if is_ethernet_port(&link, wireless) {
                let ethernet = row(tree, &ethernet_table, &key)?;
                ethernet_rows.insert(ethernet.clone());
                Some(ethernet)
            } else {
                None
            };
            let upstream = self.upstream.is(&link);
            known.insert(
                link.index,
                Interface {
                    link,
                    ip,
                    ethernet,
                    wireless,
                    upstream,
                    status,
                    since,
                },
            );
        }
        self.known = known;
        keep_rows(tree, &ip_table, &ip_rows);
        keep_rows(tree, &ethernet_table, &ethernet_rows);
        self.read_at = Some(now.instant);
        Ok(())
    }

    /// Every interface, in the order of the kernel's indexes.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Interface> {
        self.known.values()
    }

    /// The interface with a kernel index.
    pub(super) fn by_index(&self, index: u32) -> Option<&Interface> {
        self.known.get(&index)
    }

    /// The interface a path points at: its row in either table or anything below, a trailing dot or none.
    pub(super) fn by_path(&self, path: &str) -> Option<&Interface> {
        let covers = |row: &ObjectPath| {
            path.strip_prefix(row.as_str().trim_end_matches('.'))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.known.values().find(|interface| {
            covers(&interface.ip) || interface.ethernet.as_ref().is_some_and(covers)
        })
    }

    /// What IP runs on: the interface's own Ethernet port, or the one below a VLAN (TR-181 §4.2.1).
    /// A loopback or tunnel has nothing below.
    pub(super) fn below<'a>(&'a self, interface: &'a Interface) -> Option<&'a ObjectPath> {
        if interface.ethernet.is_some() {
            return interface.ethernet.as_ref();
        }
        let parent = interface.link.parent.filter(|_| interface.link.ether)?;
        self.by_index(parent)?.ethernet.as_ref()
    }

    /// Whether the device reaches the world through this interface.
    pub(super) fn is_default_route(&self, name: &str) -> bool {
        self.upstream.routes.iter().any(|route| route == name)
    }

    /// The system has changed behind the round: read it again at the next refresh.
    pub(super) fn forget(&mut self) {
        self.read_at = None;
    }
}

/// Which interfaces point towards the Internet (TR-181 `Upstream`): on a router the one with the default
/// route, on an end device every one.
#[derive(Default)]
struct Upstream {
    looked: Option<Instant>,
    routes: Vec<String>,
    router: bool,
}

impl Upstream {
    fn look(&mut self, now: Instant) {
        if self
            .looked
            .is_some_and(|looked| now.saturating_duration_since(looked) < ROUTE_INTERVAL)
        {
            return;
        }
        self.looked = Some(now);
        self.router =
            proc::read("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.trim() != "0");
        // Default routes come first in this file, however many routes there are.
        self.routes = proc::read("/proc/net/route")
            .map(|text| proc::default_routes(&text))
            .unwrap_or_default();
    }

    fn is(&self, link: &Link) -> bool {
        !link.loopback && (self.routes.contains(&link.name) || !self.router)
    }
}

/// Operational state after RFC 2863 ifOperStatus. Interfaces whose driver says nothing ("unknown": loopback,
/// tunnels, some virtual ports) are up when they run.
fn status(link: &Link) -> &'static str {
    match link.state {
        State::NotPresent => "NotPresent",
        _ if !link.up => "Down",
        State::Up => "Up",
        State::Unknown if link.running => "Up",
        State::Unknown => "Unknown",
        State::Dormant => "Dormant",
        State::LowerLayerDown => "LowerLayerDown",
        _ => "Down",
    }
}

/// A port with Ethernet frames that is not itself made of other interfaces.
fn is_ethernet_port(link: &Link, wireless: bool) -> bool {
    let port = matches!(
        link.kind.as_deref(),
        None | Some("veth" | "dsa" | "netdevsim")
    );
    link.ether && port && !link.loopback && !wireless
}

fn is_wireless(name: &str) -> bool {
    sys_class_net(name)
        .is_some_and(|path| path.join("phy80211").exists() || path.join("wireless").exists())
}

/// `/sys/class/net/NAME`; no name leads out of that directory.
pub(super) fn sys_class_net(name: &str) -> Option<PathBuf> {
    let harmless = !name.is_empty() && name != "." && name != ".." && !name.contains('/');
    harmless.then(|| Path::new("/sys/class/net").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::kernel::tests::link;

    #[test]
    fn the_operational_state_follows_rfc_2863() {
        let with = |up, running, state| {
            status(&Link {
                up,
                running,
                state,
                ..link("eth0")
            })
        };
        assert_eq!(with(true, true, State::Up), "Up");
        assert_eq!(with(false, false, State::Down), "Down");
        assert_eq!(with(false, false, State::Up), "Down");
        assert_eq!(with(true, false, State::LowerLayerDown), "LowerLayerDown");
        assert_eq!(with(true, false, State::Dormant), "Dormant");
        assert_eq!(with(true, true, State::Unknown), "Up");
        assert_eq!(with(true, false, State::Unknown), "Unknown");
        assert_eq!(with(false, false, State::NotPresent), "NotPresent");
    }

    #[test]
    fn only_ports_are_ethernet_interfaces() {
        let kind = |kind: &str| Link {
            kind: Some(kind.into()),
            ..link("x")
        };
        assert!(is_ethernet_port(&link("eth0"), false));
        assert!(is_ethernet_port(&kind("veth"), false));
        assert!(!is_ethernet_port(&kind("bridge"), false));
        assert!(!is_ethernet_port(&kind("vlan"), false));
        assert!(!is_ethernet_port(&link("wlan0"), true));
        assert!(!is_ethernet_port(
            &Link {
                ether: false,
                ..link("ppp0")
            },
            false
        ));
    }

    #[test]
    fn on_a_router_only_the_default_route_is_upstream() {
        let upstream = Upstream {
            looked: None,
            routes: vec!["wan".into()],
            router: true,
        };
        assert!(upstream.is(&link("wan")));
        assert!(!upstream.is(&link("lan1")));
        let end_device = Upstream {
            router: false,
            ..upstream
        };
        assert!(end_device.is(&link("lan1")));
        assert!(!end_device.is(&Link {
            loopback: true,
            ..link("lo")
        }));
    }

    #[test]
    fn no_interface_name_leads_out_of_sysfs() {
        assert_eq!(sys_class_net(".."), None);
        assert_eq!(sys_class_net("a/../../b"), None);
        assert_eq!(sys_class_net("eth0"), Some("/sys/class/net/eth0".into()));
    }
}
