//! The gateway's side: which devices identified themselves, and which of them are connected (§1.2.1).
//!
//! An entry is made after DHCPACK. It is shown while the device is connected: until its lease is released or expires, or it is found
//! absent. A device that comes back while its lease lasts is shown again, because it need not ask DHCP for that.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use homefleet_tr111::identity::Identity;

use super::event::Mac;

/// After so many looks in a row without a sign of it a device is absent.
pub const MISSES: u32 = 3;

/// An entry without a lease (DHCPINFORM, infinite) ends when its device was not seen for so long.
pub const UNSEEN: Duration = Duration::from_secs(24 * 60 * 60);

/// The leases of devices that identified themselves, by hardware address.
#[derive(Debug)]
pub struct Leases {
    leases: BTreeMap<Mac, Lease>,
    max: usize,
    revision: u64,
}

/// A device and its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its IP address.
    pub address: Ipv4Addr,
    /// What it says it is.
    pub identity: Identity,
    /// When the lease expires.
    pub until: Instant,
    /// The end is one of [`UNSEEN`]: being seen puts it off.
    pub open_ended: bool,
    /// Looks in a row without a sign of it.
    pub missed: u32,
}

impl Lease {
    /// Whether it is taken to be connected.
    pub fn is_present(&self) -> bool {
        self.missed < MISSES
    }
}

/// What became of a DHCPACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A device that was not known.
    Added,
    /// One that was.
    Known,
    /// One that did not say who it is, now or before.
    Unidentified,
    /// There is no room.
    Full,
}

impl Leases {
    /// Room for `max` devices.
    pub fn new(max: usize) -> Self {
        Self {
            leases: BTreeMap::new(),
            max,
            revision: 0,
        }
    }

    /// DHCPACK went to a device. Who is connected is not pushed out by who comes later: beyond the bound it is those that are absent that
    /// make room.
    pub fn leased(
        &mut self,
        now: Instant,
        mac: Mac,
        address: Ipv4Addr,
        identity: Option<Identity>,
        seconds: Option<u64>,
    ) -> Taken {
        let known = self.leases.get(&mac).map(|lease| &lease.identity);
        let is_known = known.is_some();
        let Some(identity) = identity.or_else(|| known.cloned()) else {
            return Taken::Unidentified;
        };
        if !is_known && !self.make_room() {
            return Taken::Full;
        }
        // Whoever had the address before has it no more.
        self.leases
            .retain(|other, lease| *other == mac || lease.address != address);
        let length = seconds.map_or(UNSEEN, Duration::from_secs);
        let until = now.checked_add(length).unwrap_or(now + UNSEEN);
        // DHCPINFORM of a device that has a lease leaves that as it is.
        let running = self.leases.get(&mac).filter(|known| {
            seconds.is_none() && known.address == address && !known.open_ended && known.until > now
        });
        let lease = Lease {
            address,
            identity,
            until: running.map_or(until, |known| known.until),
            open_ended: seconds.is_none() && running.is_none(),
            missed: 0,
        };
        self.leases.insert(mac, lease);
        self.revision += 1;
        if is_known { Taken::Known } else { Taken::Added }
    }

    fn make_room(&mut self) -> bool {
        if self.leases.len() < self.max {
            return true;
        }
        let absent = self.leases.iter().filter(|(_, lease)| !lease.is_present());
        let first = absent.min_by_key(|(_, lease)| lease.until);
        let first = first.map(|(mac, _)| *mac);
        first.is_some_and(|mac| self.leases.remove(&mac).is_some())
    }

    /// A lease was released or has expired, as the DHCP server says; whether it was there.
    pub fn ended(&mut self, mac: Mac, address: Option<Ipv4Addr>) -> bool {
        let ours = |lease: &Lease| address.is_none_or(|address| lease.address == address);
        let ended = self.leases.get(&mac).is_some_and(ours);
        if ended {
            self.leases.remove(&mac);
            self.revision += 1;
        }
        ended
    }

    /// Whether the device was there when it was looked for; true when it is absent from now on.
    pub fn looked(&mut self, now: Instant, mac: Mac, seen: bool) -> bool {
        let Some(lease) = self.leases.get_mut(&mac) else {
            return false;
        };
        let before = lease.is_present();
        if seen {
            lease.missed = 0;
            if lease.open_ended {
                lease.until = now + UNSEEN;
            }
        } else {
            lease.missed = lease.missed.saturating_add(1);
        }
        let after = lease.is_present();
        if before != after {
            self.revision += 1;
        }
        before && !after
    }

    /// Lets expired leases go; how many.
    pub fn expire(&mut self, now: Instant) -> u64 {
        let before = self.leases.len();
        self.leases.retain(|_, lease| lease.until > now);
        let gone = before - self.leases.len();
        if gone > 0 {
            self.revision += 1;
        }
        gone as u64
    }

    /// When the next lease expires.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.leases.values().map(|lease| lease.until).min()
    }

    /// The devices that are connected, each once, with their hardware addresses. Nothing keeps two from giving the same identity: they
    /// are one entry, as the table's key wants it.
    pub fn shown(&self) -> Vec<(Identity, Vec<Mac>)> {
        let mut shown: BTreeMap<&Identity, Vec<Mac>> = BTreeMap::new();
        for (mac, lease) in &self.leases {
            if lease.is_present() {
                shown.entry(&lease.identity).or_default().push(*mac);
            }
        }
        shown
            .into_iter()
            .map(|(identity, macs)| (identity.clone(), macs))
            .collect()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Mac, &Lease)> {
        self.leases.iter().map(|(mac, lease)| (*mac, lease))
    }

    /// Counts what has to be kept.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// One that was kept; false when there is no room.
    pub(super) fn restore(&mut self, mac: Mac, lease: Lease) -> bool {
        let room = self.leases.len() < self.max;
        if room {
            self.leases.insert(mac, lease);
        }
        room
    }
}
