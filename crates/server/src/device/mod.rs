//! The registry of devices.
//!
//! A device is its Endpoint ID, bound to the certificate that proved it, or vouched for by a Trusted Broker. Nothing here
//! trusts a claim: the caller hands in what the channel established. Once somebody stood for a device, it is never again
//! accepted over a channel where nobody does.
//!
//! [`presence`] knows over which sessions and brokers devices are there at this moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use homefleet_api as api;
use homefleet_trust::PeerIdentity;

use crate::clock::Millis;
use crate::store::{AddressRecord, CertificateRecord, DeviceRecord};

pub mod presence;

pub use presence::{Alive, Presence};

/// Addresses kept per device.
const MAX_ADDRESSES: usize = 8;
/// Of these, over CoAP: a device that moves leaves them behind.
const MAX_COAP: usize = 4;

/// Completions of commands remembered per device.
const MAX_COMPLETIONS: usize = 8;

/// Policy and bounds of the registry.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// How long after its last message a device is called reachable.
    pub reachable_for: Duration,
    /// Most devices.
    pub max_devices: usize,
    /// Refuse a known Endpoint ID that presents another certificate, even when a trusted CA signed it.
    pub pin_certificates: bool,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            reachable_for: Duration::from_secs(900),
            max_devices: 100_000,
            pin_certificates: false,
        }
    }
}

/// All devices.
#[derive(Debug, Default)]
pub struct Registry {
    config: RegistryConfig,
    devices: BTreeMap<String, DeviceRecord>,
    /// Who says that it is this OUI and serial number, with the device's ID behind.
    names: BTreeSet<(String, String)>,
    /// Devices whose contact times are newer than the store's.
    dirty: BTreeSet<String>,
}

/// A message whose sender is established.
#[derive(Debug, Clone)]
pub struct Contact {
    /// Endpoint ID.
    pub id: String,
    /// Who stands for it.
    pub proof: Proof,
    /// Where answers go.
    pub address: Option<AddressRecord>,
}

/// Who stands for the sender of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// Its own certificate, which carries its Endpoint ID (R-SEC.0a).
    Certificate(CertificateRecord),
    /// The Trusted Broker with this certificate, which lets nobody send in another's name (R-SEC.9, R-SEC.26).
    Broker(CertificateRecord),
    /// Nobody: a channel without security, or one that leads to a broker that is not trusted.
    Nobody,
}

impl Proof {
    /// Whether somebody stands for the sender.
    pub fn is_secure(&self) -> bool {
        !matches!(self, Self::Nobody)
    }
}

/// What a contact means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Never heard before: store it before acting on it.
    New,
    /// Known, with something new to store (address or certificate).
    Changed,
    /// Known.
    Known,
}

/// Why a contact is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContactError {
    /// Another certificate than the one it is bound to, and the policy pins certificates.
    #[error("it is bound to the certificate {bound} and presented {presented}")]
    CertificateChanged {
        /// Known fingerprint.
        bound: String,
        /// Presented fingerprint.
        presented: String,
    },
    /// The registry is full.
    #[error("the registry holds its {0} devices")]
    Full(usize),
    /// It proved itself before, or a Trusted Broker vouched for it, and now nobody stands for it; or certificates are pinned
    /// and it comes without its own.
    #[error("it proved itself before and came over a channel where nobody stands for it")]
    WeakerChannel,
}

impl Registry {
    /// The registry with what was stored.
    pub fn new(config: RegistryConfig, devices: Vec<DeviceRecord>) -> Self {
        let names = devices
            .iter()
            .filter_map(|device| Some((name(device)?, device.id.clone())));
        let names = names.collect();
        let devices = devices
            .into_iter()
            .map(|device| (device.id.clone(), device))
            .collect();
        Self {
            config,
            devices,
            names,
            dirty: BTreeSet::new(),
        }
    }

    /// A message of a device arrived.
    pub fn heard(&mut self, now: Millis, contact: Contact) -> Result<Heard, ContactError> {
        let known = self.devices.contains_key(&contact.id);
        if !known && self.devices.len() >= self.config.max_devices {
            return Err(ContactError::Full(self.config.max_devices));
        }
        let pin = self.config.pin_certificates;
        let device = self
            .devices
            .entry(contact.id.clone())
            .or_insert_with(|| DeviceRecord {
                id: contact.id.clone(),
                first_contact: now,
                ..DeviceRecord::default()
            });
        let mut changed = false;
        let was_secure = device.is_secure();
        match contact.proof {
            Proof::Nobody if was_secure => return Err(ContactError::WeakerChannel),
            Proof::Nobody => {}
            Proof::Certificate(presented) => match &device.certificate {
                Some(bound) if bound.fingerprint == presented.fingerprint => {}
                Some(bound) if pin => {
                    return Err(ContactError::CertificateChanged {
                        bound: bound.fingerprint.clone(),
                        presented: presented.fingerprint,
                    });
                }
                _ => {
                    device.certificate = Some(presented);
                    changed = true;
                }
            },
            // A broker's word is less than the certificate that is pinned.
            Proof::Broker(_) if pin && device.certificate.is_some() => {
                return Err(ContactError::WeakerChannel);
            }
            Proof::Broker(broker) => {
                let known = device.broker.as_ref().map(|known| &known.fingerprint);
                if known != Some(&broker.fingerprint) {
                    device.broker = Some(broker);
                    changed = true;
                }
            }
        }
        if device.is_secure() && !was_secure {
            // Addresses learned where nobody stood for it are not kept.
            device.addresses.retain(|address| address.secure);
        }
        if let Some(address) = contact.address {
            let same = device
                .addresses
                .first()
                .is_some_and(|first| first.uri == address.uri);
            changed |= !same;
            let place = place(&address.uri);
            device
                .addresses
                .retain(|other| self::place(&other.uri) != place);
            device.addresses.insert(0, address);
            let mut coap = 0;
            device.addresses.retain(|address| {
                coap += usize::from(mtp(&address.uri) == Some(api::Mtp::Coap));
                mtp(&address.uri) != Some(api::Mtp::Coap) || coap <= MAX_COAP
            });
            device.addresses.truncate(MAX_ADDRESSES);
        }
        // Not the later of both: a clock that ran ahead would keep a dead device reachable until then.
        device.last_contact = now;
        self.dirty.insert(contact.id);
        Ok(match (known, changed) {
            (false, _) => Heard::New,
            (true, true) => Heard::Changed,
            (true, false) => Heard::Known,
        })
    }

    /// Something sent to a device failed.
    pub fn failed(&mut self, now: Millis, id: &str, reason: &str) {
        if let Some(device) = self.devices.get_mut(id) {
            device.last_failure = Some(now);
            device.last_failure_reason = Some(reason.to_owned());
            self.dirty.insert(id.to_owned());
        }
    }

    /// Something sent to a device arrived.
    pub fn taken(&mut self, now: Millis, id: &str) {
        if let Some(device) = self.devices.get_mut(id) {
            device.last_contact = now;
            self.dirty.insert(id.to_owned());
        }
    }

    /// All devices.
    pub fn devices(&self) -> impl Iterator<Item = &DeviceRecord> {
        self.devices.values()
    }

    /// Changes what is known of a device; `None` when it is unknown or nothing changed.
    pub fn update(
        &mut self,
        id: &str,
        change: impl FnOnce(&mut DeviceRecord),
    ) -> Option<DeviceRecord> {
        let device = self.devices.get_mut(id)?;
        let before = device.clone();
        change(device);
        if before == *device {
            return None;
        }
        if (&before.oui, &before.serial_number) != (&device.oui, &device.serial_number) {
            if let Some(name) = name(&before) {
                self.names.remove(&(name, id.to_owned()));
            }
            if let Some(name) = name(device) {
                self.names.insert((name, id.to_owned()));
            }
        }
        Some(device.clone())
    }

    /// Whether the server may read a device by itself once more in this hour; counted when it may.
    pub fn may_read(&mut self, now: Millis, id: &str, per_hour: u32) -> bool {
        let Some(device) = self.devices.get_mut(id) else {
            return false;
        };
        let (began, count) = device.reads;
        // A clock that went back begins a new hour too.
        if now < began || now.since(began) >= Duration::from_secs(3600) {
            device.reads = (now, 1);
            return true;
        }
        device.reads.1 = count.saturating_add(1);
        count < per_hour
    }

    /// Whether this completion of a command came before; remembered when it did not.
    pub fn completed_before(&mut self, id: &str, key: [u8; 16]) -> bool {
        let Some(device) = self.devices.get_mut(id) else {
            return false;
        };
        if device.completions.contains(&key) {
            return true;
        }
        if device.completions.len() >= MAX_COMPLETIONS {
            device.completions.pop_front();
        }
        device.completions.push_back(key);
        false
    }

    /// Whether a device was never read completely, and not tried in the last hour.
    pub fn is_unread(&self, now: Millis, id: &str) -> bool {
        self.devices.get(id).is_some_and(|device| {
            let (tried, _) = device.reads;
            device.read.is_none() && (now < tried || now.since(tried) >= Duration::from_secs(3600))
        })
    }

    /// Forgets a device.
    pub fn remove(&mut self, id: &str) -> Option<DeviceRecord> {
        self.dirty.remove(id);
        let device = self.devices.remove(id)?;
        if let Some(name) = name(&device) {
            self.names.remove(&(name, id.to_owned()));
        }
        Some(device)
    }

    /// Devices that say they have this OUI and serial number, in the order of their IDs.
    pub fn named(&self, oui: &str, serial_number: &str) -> impl Iterator<Item = &DeviceRecord> {
        let wanted = joined(oui, serial_number);
        let from = (wanted.clone(), String::new());
        self.names
            .range(from..)
            .take_while(move |(name, _)| *name == wanted)
            .filter_map(|(_, id)| self.devices.get(id))
    }

    /// A device.
    pub fn device(&self, id: &str) -> Option<&DeviceRecord> {
        self.devices.get(id)
    }

    /// The device that an accepted certificate is of: known, named by it without a wildcard, and where certificates are pinned bound to
    /// no other.
    pub fn bearer(&self, identity: &PeerIdentity) -> Option<&str> {
        let named = identity.endpoint_ids.iter();
        named
            .filter(|id| !id.contains('*'))
            .filter_map(|id| self.devices.get(id))
            .find(|device| {
                !self.config.pin_certificates
                    || device.certificate.as_ref().is_none_or(|bound| {
                        bound.fingerprint == crate::account::hex(&identity.fingerprint)
                    })
            })
            .map(|device| device.id.as_str())
    }

    /// How many devices are known.
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    /// Whether no device is known.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// How many devices are reachable now.
    pub fn reachable(&self, now: Millis) -> usize {
        self.devices
            .values()
            .filter(|device| self.reachability(now, device) == api::Reachability::Reachable)
            .count()
    }

    /// Devices in the order of their Endpoint ID whose text contains `search`, after `after`: at most `limit`, out of at
    /// most `look_at`. Beside them, where to go on; `None` at the end.
    pub fn page(
        &self,
        search: Option<&str>,
        after: Option<&str>,
        limit: usize,
        look_at: usize,
    ) -> (Vec<&DeviceRecord>, Option<String>) {
        use std::ops::Bound;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let search = search
            .map(str::to_lowercase)
            .filter(|search| !search.is_empty());
        let mut found = Vec::new();
        let mut rest = self
            .devices
            .range::<str, _>((from, Bound::Unbounded))
            .map(|(_, device)| device);
        let mut last = None;
        for device in rest.by_ref().take(look_at) {
            last = Some(device);
            if search
                .as_ref()
                .is_none_or(|search| contains(device, search))
            {
                found.push(device);
            }
            if found.len() >= limit {
                return (found, Some(device.id.clone()));
            }
        }
        let go_on = rest.next().and(last).map(|device| device.id.clone());
        (found, go_on)
    }

    /// A record that goes to the store as it is: its contact times need no write of their own then.
    pub fn to_store(&mut self, id: &str) -> Option<DeviceRecord> {
        self.dirty.remove(id);
        self.devices.get(id).cloned()
    }

    /// A record did not reach the store: it goes with the next that do.
    pub fn not_stored(&mut self, id: &str) {
        if self.devices.contains_key(id) {
            self.dirty.insert(id.to_owned());
        }
    }

    /// Records with newer contact times than stored, for a batched write.
    pub fn drain_dirty(&mut self) -> Vec<DeviceRecord> {
        std::mem::take(&mut self.dirty)
            .iter()
            .filter_map(|id| self.devices.get(id).cloned())
            .collect()
    }

    /// Whether a device can be spoken to, as far as is known now.
    pub fn reachability(&self, now: Millis, device: &DeviceRecord) -> api::Reachability {
        match device.last_failure {
            Some(failure) if failure >= device.last_contact => api::Reachability::Unreachable,
            _ if now.since(device.last_contact) <= self.config.reachable_for => {
                api::Reachability::Reachable
            }
            _ => api::Reachability::Unknown,
        }
    }

    /// The line of the list for a device.
    pub fn summary(
        &self,
        now: Millis,
        device: &DeviceRecord,
        open_tasks: usize,
    ) -> api::DeviceSummary {
        api::DeviceSummary {
            id: device.id.clone(),
            label: device.label.clone(),
            oui: device.oui.clone(),
            product_class: device.product_class.clone(),
            serial_number: device.serial_number.clone(),
            manufacturer: device.manufacturer.clone(),
            model_name: device.model_name.clone(),
            software_version: device.software_version.clone(),
            reachability: self.reachability(now, device),
            mtp: device
                .addresses
                .first()
                .and_then(|address| mtp(&address.uri)),
            address: device.addresses.first().map(|address| address.uri.clone()),
            first_contact: device.first_contact.to_timestamp(),
            last_contact: device.last_contact.to_timestamp(),
            open_tasks: u32::try_from(open_tasks).unwrap_or(u32::MAX),
        }
    }
}

/// What a device is found by on its own network.
fn name(device: &DeviceRecord) -> Option<String> {
    let (oui, serial) = (device.oui.as_deref()?, device.serial_number.as_deref()?);
    Some(joined(oui, serial))
}

fn joined(oui: &str, serial_number: &str) -> String {
    format!("{}-{serial_number}", oui.to_ascii_uppercase())
}

/// What an address takes the place of: at a broker, a device has one address per connection of ours.
fn place(uri: &str) -> &str {
    match uri.split_once('/') {
        Some((connection, _)) if uri.starts_with("stomp:") || uri.starts_with("mqtt:") => {
            connection
        }
        _ => uri,
    }
}

/// The MTP of an address.
pub fn mtp(uri: &str) -> Option<api::Mtp> {
    Some(match uri.split_once(':')?.0 {
        "coap" | "coaps" => api::Mtp::Coap,
        "ws" | "wss" => api::Mtp::Websocket,
        "stomp" => api::Mtp::Stomp,
        "mqtt" => api::Mtp::Mqtt,
        "uds" => api::Mtp::Uds,
        _ => return None,
    })
}

fn contains(device: &DeviceRecord, search: &str) -> bool {
    let fields = [
        Some(&device.id),
        device.label.as_ref(),
        device.oui.as_ref(),
        device.product_class.as_ref(),
        device.serial_number.as_ref(),
        device.manufacturer.as_ref(),
        device.model_name.as_ref(),
        device.software_version.as_ref(),
    ];
    fields
        .into_iter()
        .flatten()
        .any(|field| field.to_lowercase().contains(search))
        || device
            .addresses
            .iter()
            .any(|address| address.uri.contains(search))
}
