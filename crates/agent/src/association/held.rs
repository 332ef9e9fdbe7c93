//! The device's side: which gateway gave it its lease (§1.2.2).

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How many interfaces are remembered.
const MAX_INTERFACES: usize = 16;

/// What DHCPACKs said of gateways, by interface.
#[derive(Debug, Default)]
pub struct Held {
    interfaces: BTreeMap<String, Acknowledged>,
    /// Counts DHCPACKs that said something else.
    order: u64,
    revision: u64,
}

/// What the last DHCPACK at an interface said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// OUI, serial number and product class of the gateway; empty what it did not say.
    pub gateway: [String; 3],
    /// When the lease expires; absent: it does not.
    pub until: Option<Instant>,
    /// The later, the higher.
    pub(super) order: u64,
}

impl Held {
    /// DHCPACK came. It replaces all that an earlier one said.
    pub fn acknowledged(
        &mut self,
        now: Instant,
        interface: &str,
        gateway: [String; 3],
        seconds: Option<u64>,
    ) {
        let known = self.interfaces.get(interface);
        if known.is_none() && self.interfaces.len() >= MAX_INTERFACES {
            let first = self.interfaces.iter().min_by_key(|(_, at)| at.order);
            if let Some(first) = first.map(|(name, _)| name.clone()) {
                self.interfaces.remove(&first);
            }
        }
        let known = self.interfaces.get(interface);
        let order = match known {
            // A renewal does not make another gateway the latest.
            Some(known) if known.gateway == gateway => known.order,
            _ => {
                self.order += 1;
                self.order
            }
        };
        let until = seconds.and_then(|seconds| now.checked_add(Duration::from_secs(seconds)));
        let acknowledged = Acknowledged {
            gateway,
            until,
            order,
        };
        self.interfaces.insert(interface.to_owned(), acknowledged);
        self.revision += 1;
    }

    /// The lease was released or has expired, or the interface has lost its address.
    pub fn lost(&mut self, interface: &str) {
        if self.interfaces.remove(interface).is_some() {
            self.revision += 1;
        }
    }

    /// Lets go what has expired.
    pub fn expire(&mut self, now: Instant) {
        let before = self.interfaces.len();
        self.interfaces
            .retain(|_, at| at.until.is_none_or(|until| until > now));
        if self.interfaces.len() != before {
            self.revision += 1;
        }
    }

    /// When the next lease expires.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.interfaces.values().filter_map(|at| at.until).min()
    }

    /// What `Device.GatewayInfo.` shows: of several interfaces, what came last and is of a gateway at all.
    pub fn shown(&self) -> [String; 3] {
        let told = self.interfaces.values();
        let told = told.filter(|at| at.gateway.iter().any(|text| !text.is_empty()));
        told.max_by_key(|at| at.order)
            .map(|at| at.gateway.clone())
            .unwrap_or_default()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Acknowledged)> {
        self.interfaces.iter().map(|(name, at)| (name.as_str(), at))
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// One that was kept.
    pub(super) fn restore(&mut self, interface: String, at: Acknowledged) {
        if self.interfaces.len() < MAX_INTERFACES {
            self.order = self.order.max(at.order);
            self.interfaces.insert(interface, at);
        }
    }
}
