//! What lasts over a restart of the agent: DHCP servers and clients do not repeat what they said.
//!
//! One small JSON file, replaced as a whole. Times in it are of the wall clock.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    net::Ipv4Addr,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::{
    event::{Mac, identity_of, is_interface},
    held::{Acknowledged, Held},
    leases::{Lease, Leases, UNSEEN},
};

/// Largest file that is read.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// The content of the file.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Kept {
    #[serde(default)]
    leases: Vec<KeptLease>,
    #[serde(default)]
    interfaces: Vec<KeptInterface>,
}

#[derive(Debug, Deserialize, Serialize)]
struct KeptLease {
    mac: Mac,
    address: Ipv4Addr,
    oui: String,
    serial_number: String,
    product_class: String,
    /// Seconds since 1970.
    until: u64,
    open_ended: bool,
    missed: u32,
}

#[derive(Debug, Deserialize, Serialize)]
struct KeptInterface {
    interface: String,
    oui: String,
    serial_number: String,
    product_class: String,
    until: Option<u64>,
    order: u64,
}

impl Kept {
    pub(super) fn of(leases: &Leases, held: &Held, now: Instant, wall: SystemTime) -> Self {
        let seconds = |at: Instant| {
            let at = wall + at.saturating_duration_since(now);
            at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
        };
        let leases = leases.iter().map(|(mac, lease)| KeptLease {
            mac,
            address: lease.address,
            oui: lease.identity.oui().to_owned(),
            serial_number: lease.identity.serial().to_owned(),
            product_class: lease
                .identity
                .product_class()
                .unwrap_or_default()
                .to_owned(),
            until: seconds(lease.until),
            open_ended: lease.open_ended,
            missed: lease.missed,
        });
        let interfaces = held.iter().map(|(name, at)| {
            let [oui, serial_number, product_class] = at.gateway.clone();
            KeptInterface {
                interface: name.to_owned(),
                oui,
                serial_number,
                product_class,
                until: at.until.map(seconds),
                order: at.order,
            }
        });
        Self {
            leases: leases.collect(),
            interfaces: interfaces.collect(),
        }
    }

    /// What has not expired meanwhile comes back.
    pub(super) fn restore(
        self,
        leases: &mut Leases,
        held: &mut Held,
        now: Instant,
        wall: SystemTime,
    ) {
        let instant = |seconds: u64| {
            let at = UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
            now.checked_add(at.duration_since(wall).ok()?)
        };
        for kept in self.leases {
            let identity = identity_of(&kept.oui, &kept.serial_number, &kept.product_class);
            if let (Some(identity), Some(until)) = (identity, instant(kept.until)) {
                let lease = Lease {
                    address: kept.address,
                    identity,
                    until: if kept.open_ended { now + UNSEEN } else { until },
                    open_ended: kept.open_ended,
                    missed: kept.missed,
                };
                leases.restore(kept.mac, lease);
            }
        }
        for kept in self.interfaces {
            let until = kept.until.map(instant);
            if !is_interface(&kept.interface) || until == Some(None) {
                continue;
            }
            let at = Acknowledged {
                gateway: [kept.oui, kept.serial_number, kept.product_class],
                until: until.flatten(),
                order: kept.order,
            };
            held.restore(kept.interface, at);
        }
    }
}

/// Reads the file; one that is not there holds nothing.
pub(super) fn read(file: &Path) -> io::Result<Kept> {
    let octets = match fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
        Err(error) => return Err(error),
        Ok(metadata) if metadata.len() > MAX_FILE => {
            return Err(io::Error::other("the file is too large"));
        }
        Ok(_) => fs::read(file)?,
    };
    serde_json::from_slice(&octets).map_err(io::Error::other)
}

/// Replaces the file; after a power cut there is the old one or the new one.
pub(super) fn write(file: &Path, kept: &Kept) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut out = File::create(&new)?;
    serde_json::to_writer(&mut out, kept).map_err(io::Error::other)?;
    out.flush()?;
    out.sync_all()?;
    fs::rename(&new, file)
}
