//! Where devices behind address translation listen, and the socket that reaches them (TR-111 Part 2 §2.2.2).
//!
//! The STUN server runs beside the ACS. Here its bindings become part of the registry: a device's password goes to the STUN server before the
//! device has it, and what the STUN server learns is stored, so that a device can be woken after a restart too.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use homefleet_api::DeviceChange;
use homefleet_cwmp::ValueType;
use homefleet_cwmp::message::Notification;
use homefleet_net::stun::{Learned, Server, ServerConfig};
use homefleet_tr111::server::{self as machine, Binding, WakeConfig};
use tokio::sync::{mpsc, watch};

use super::bootstrap::{Grounds, Part, fresh_password};
use super::keeper::Keeper;
use super::{Acs, lock};
use crate::clock::Millis;
use crate::config::{self, Authenticate, Learn};
use crate::metrics::Sample;
use crate::store::{Batch, BindingRecord, CwmpRecord, DeviceRecord, LoginRecord, Write};

/// Changes of bindings that are stored together.
const TOGETHER: usize = 256;

/// The STUN server, and whose logins it knows.
pub(super) struct Stun {
    pub(super) server: Server,
    pub(super) config: config::Stun,
    owners: Mutex<Owners>,
    pub(super) counted: Mutex<Counted>,
}

/// Which device has which STUNUsername.
#[derive(Default)]
struct Owners {
    by_name: HashMap<Vec<u8>, String>,
    by_device: HashMap<String, Vec<u8>>,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// UDP Connection Requests, copies not counted.
    pub(super) wakes: u64,
    /// After which the device came.
    pub(super) woken: u64,
}

impl Stun {
    /// Binds the STUN server.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub(super) fn start(
        listen: SocketAddr,
        config: &config::Stun,
    ) -> std::io::Result<(Arc<Self>, mpsc::Receiver<Learned>)> {
        let authenticate = match (config.learn, config.authenticate) {
            (Learn::Notification, _) => machine::Authenticate::Nothing,
            (_, Authenticate::Changes) => machine::Authenticate::Changes,
            (_, Authenticate::Listening) => machine::Authenticate::Listening,
        };
        let (server, told) = Server::bind(ServerConfig {
            other: config.other,
            machine: machine::ServerConfig {
                authenticate,
                max_bindings: config.bindings,
                ..machine::ServerConfig::default()
            },
            wake: WakeConfig {
                copies: config.copies,
                spacing: Duration::from_millis(config.spacing),
                ..WakeConfig::default()
            },
            ..ServerConfig::new(listen)
        })?;
        let stun = Self {
            server,
            config: config.clone(),
            owners: Mutex::default(),
            counted: Mutex::default(),
        };
        Ok((Arc::new(stun), told))
    }

    /// Address and port that are listened on.
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        self.server.local_addrs().first().copied()
    }

    /// Takes a device's login: from now on its bindings are believed. One that it had before is forgotten.
    fn admit(&self, device: &str, username: &str, password: &str) {
        let name = username.as_bytes();
        let mut owners = lock(&self.owners);
        let before = owners.by_device.insert(device.to_owned(), name.to_vec());
        if let Some(before) = before.filter(|before| before != name) {
            owners.by_name.remove(&before);
            self.server.set_password(&before, None);
        }
        owners.by_name.insert(name.to_vec(), device.to_owned());
        drop(owners);
        self.server.set_password(name, Some(password.as_bytes()));
    }

    /// Forgets a login and its binding.
    fn forget(&self, name: &[u8]) {
        let mut owners = lock(&self.owners);
        if let Some(device) = owners.by_name.remove(name) {
            owners.by_device.remove(&device);
        }
        drop(owners);
        self.server.set_password(name, None);
    }

    /// Takes what was stored before a restart.
    pub(super) fn restore(&self, now: Millis, device: &DeviceRecord, keeper: &Keeper) {
        let Some(cwmp) = &device.cwmp else { return };
        let Some(login) = &cwmp.stun else { return };
        // One that was sealed under another key is given anew with the next bootstrap.
        let Some(password) = keeper.open(&device.id, &login.password) else {
            return;
        };
        self.admit(&device.id, &login.username, &password);
        if let Some(binding) = &cwmp.binding {
            let instant = |at: Millis| {
                let now_here = Instant::now();
                now_here.checked_sub(now.since(at)).unwrap_or(now_here)
            };
            let binding = Binding {
                at: binding.at,
                local: binding.local,
                since: instant(binding.since),
                seen: instant(binding.seen),
            };
            self.server.restore(login.username.as_bytes(), binding);
        }
    }

    /// The binding of a device as it is now.
    pub(super) fn binding(&self, now: Millis, cwmp: &CwmpRecord) -> Option<BindingRecord> {
        let login = cwmp.stun.as_ref()?;
        let binding = self.server.binding(login.username.as_bytes())?;
        Some(record(now, &binding))
    }

    fn owner(&self, name: &[u8]) -> Option<String> {
        lock(&self.owners).by_name.get(name).cloned()
    }

    pub(super) fn counted(&self) -> MutexGuard<'_, Counted> {
        lock(&self.counted)
    }

    /// What `/metrics` tells.
    pub(super) fn samples(&self) -> Vec<Sample> {
        let stats = self.server.stats();
        let counted = *self.counted();
        let bindings = i64::try_from(stats.bindings).unwrap_or(i64::MAX);
        let counter = Sample::counter;
        vec![
            Sample::gauge("stun_bindings", "Bindings held", bindings),
            counter("stun_requests", "Binding Requests", stats.stun.requests),
            counter("stun_responses", "Binding Responses", stats.stun.responses),
            counter(
                "stun_malformed",
                "Datagrams to the STUN server that are no STUN message",
                stats.stun.malformed,
            ),
            counter(
                "stun_unexpected",
                "STUN messages that are no Binding Request",
                stats.stun.unexpected,
            ),
            counter(
                "stun_unanswerable",
                "Binding Requests from addresses that cannot be answered",
                stats.stun.unanswerable,
            ),
            counter(
                "stun_unknown_attributes",
                "Binding Requests with an unknown mandatory attribute (420)",
                stats.stun.unknown_attributes,
            ),
            counter(
                "stun_unauthorized",
                "Binding Requests that had to come again with a proof (401)",
                stats.stun.unauthorized,
            ),
            counter(
                "stun_unknown_users",
                "Binding Requests of nobody that is known (430, 432)",
                stats.stun.unknown_users,
            ),
            counter(
                "stun_forged",
                "Binding Requests with a wrong proof (431)",
                stats.stun.forged,
            ),
            counter(
                "stun_foreign_responses",
                "RESPONSE-ADDRESSes that were not the requester's own, not followed",
                stats.stun.foreign_responses,
            ),
            counter(
                "stun_repeated",
                "Proven Binding Requests that came again",
                stats.stun.repeated,
            ),
            counter(
                "stun_learned",
                "Bindings learned, changes counted",
                stats.stun.learned,
            ),
            counter(
                "stun_full",
                "Bindings not kept because there are too many",
                stats.stun.full,
            ),
            counter(
                "stun_dropped",
                "Datagrams dropped because the STUN server's socket was behind",
                stats.dropped,
            ),
            counter(
                "acs_wakes",
                "UDP Connection Requests, copies not counted",
                counted.wakes,
            ),
            counter(
                "acs_woken",
                "UDP Connection Requests after which the device came",
                counted.woken,
            ),
        ]
    }
}

/// STUN, with a name that no other device has and a strong password (§2.2.2.2.1). The name's length is a multiple of four: old
/// servers and devices take no other.
pub(super) fn login(grounds: &Grounds<'_>) -> Option<Part> {
    let stun = grounds.stun.filter(|stun| stun.config.provision)?;
    let config = &stun.config;
    let bound = stun.local_addr().map_or(3478, |at| at.port());
    let (host, port) = config.told(bound);
    let (username, password) = (fresh_password()?, fresh_password()?);
    let id = grounds.device.id.clone();
    let record = LoginRecord {
        username: username.clone(),
        password: grounds.keeper.seal(&id, &password)?,
    };
    let mut part = Part::new("stun");
    let unsigned = ValueType::UnsignedInt;
    for (name, kind, value) in [
        ("STUNServerAddress", ValueType::String, host),
        ("STUNServerPort", unsigned, port.to_string()),
        ("STUNUsername", ValueType::String, username.clone()),
        ("STUNPassword", ValueType::String, password.clone()),
        (
            "STUNMaximumKeepAlivePeriod",
            ValueType::Int,
            config.maximum_period.to_string(),
        ),
        (
            "STUNMinimumKeepAlivePeriod",
            unsigned,
            config.minimum_period.to_string(),
        ),
        (
            "UDPConnectionRequestAddressNotificationLimit",
            unsigned,
            config.notification_limit.to_string(),
        ),
        ("STUNEnable", ValueType::Boolean, "true".to_owned()),
    ] {
        part.value(&format!("ManagementServer.{name}"), kind, &value);
    }
    // The device may use it before its answer is here, and tells a binding only once.
    let stun = Arc::clone(stun);
    part.before = Some(Box::new(move |cwmp| {
        stun.admit(&id, &username, &password);
        (cwmp.stun, cwmp.binding) = (Some(record), None);
    }));
    Some(part)
}

/// Active notification of where a device takes UDP Connection Requests, and of whether there is translation (§2.2.2.2.2).
pub(super) fn notifications(grounds: &Grounds<'_>) -> Option<Part> {
    let stun = grounds.stun.filter(|stun| stun.config.provision)?;
    if stun.config.learn == Learn::Stun {
        return None;
    }
    let mut part = Part::new("reachability");
    part.attributes = ["UDPConnectionRequestAddress", "NATDetected"]
        .map(|name| (format!("ManagementServer.{name}"), Notification::Active))
        .into();
    Some(part)
}

impl Acs {
    /// Stores what the STUN server learns, until `stop` changes.
    pub(crate) async fn follow_bindings(
        self,
        mut told: mpsc::Receiver<Learned>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut learned = Vec::with_capacity(TOGETHER);
        loop {
            tokio::select! {
                count = told.recv_many(&mut learned, TOGETHER) => if count == 0 {
                    return;
                },
                _ = stop.changed() => return,
            }
            self.learn_bindings(learned.drain(..)).await;
        }
    }

    async fn learn_bindings(&self, learned: impl Iterator<Item = Learned>) {
        let Some(stun) = self.0.stun.get() else {
            return;
        };
        // The last of each device counts.
        let latest: HashMap<_, _> = learned.map(|it| (it.username, it.binding)).collect();
        let core = &self.0.core;
        let (devices, stored) = core.change(|state, now| {
            let (mut batch, mut devices) = (Batch::default(), Vec::new());
            for (name, binding) in &latest {
                let Some(device) = stun.owner(name) else {
                    continue;
                };
                let changed = state.registry.update(&device, |device| {
                    if let Some(cwmp) = &mut device.cwmp {
                        cwmp.binding = Some(record(now, binding));
                    }
                });
                match changed {
                    Some(record) => {
                        batch.push(Write::Device(Box::new(record)));
                        devices.push(device);
                    }
                    None if state.registry.device(&device).is_none() => stun.forget(name),
                    None => {}
                }
            }
            (devices, batch)
        });
        if stored.await.is_ok() {
            for device in devices {
                core.publish_device(&device, DeviceChange::Updated);
            }
        }
    }
}

fn record(now: Millis, binding: &Binding) -> BindingRecord {
    let millis = |at: Instant| {
        let age = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        Millis(now.0.saturating_sub(age))
    };
    BindingRecord {
        at: binding.at,
        local: binding.local,
        since: millis(binding.since),
        seen: millis(binding.seen),
    }
}
