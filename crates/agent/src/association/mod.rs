//! Device-gateway association (TR-111 Part 1): who is behind which gateway, as DHCP tells it.
//!
//! ```text
//! dnsmasq, kea, udhcpc, dhclient ─▶ homefleet-agent dhcp-event ─▶ inbox (UNIX socket) ─┐
//! gateway: messages on the LAN ─▶ wire ─▶ exchange ─────────────── Event ──────────────┼─▶ leases (gateway) ─▶ ManageableDevice
//! device: its own DHCPINFORM ─▶ inform ────────────────────────────────────────────────┘   held (device) ─▶ GatewayInfo
//! neighbour table ─▶ liveness ─▶ leases
//! ```
//!
//! [`Event`] is what DHCP said, whoever tells it. [`leases`] and [`held`] are machines without I/O; [`Shared`] holds both, keeps them over a
//! restart of the agent, and tells the engine when what they show has changed. Nothing here is proven: the operator cross-checks what
//! gateway and device say of each other (§1.3).

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use homefleet_tr111::identity::{Identity, IdentityError};

use crate::provider::Wake;

pub mod event;
pub mod exchange;
pub mod held;
pub mod inbox;
mod keep;
pub mod leases;
pub mod message;
pub(crate) mod provider;
pub mod snippet;
mod tasks;

pub use self::event::{Event, Mac};

use self::{held::Held, leases::Leases};

/// What the configuration says about association.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// This machine is a gateway: it keeps `Device.ManagementServer.ManageableDevice.`.
    pub gateway: bool,
    /// This machine is a device behind a gateway: it keeps `Device.GatewayInfo.`.
    pub device: bool,
    /// The LAN interfaces of a gateway on which DHCP is listened to; none: only `dhcp-event` tells.
    pub lan: Vec<String>,
    /// The interface of a device whose address comes from elsewhere: the gateway is asked by DHCPINFORM.
    pub inform: Option<String>,
    /// How often it is asked.
    pub inform_interval: Duration,
    /// How often a gateway looks whether its devices are still there; zero: never.
    pub probe_interval: Duration,
    /// How many devices a gateway remembers.
    pub max_devices: usize,
    /// Where `dhcp-event` reaches the agent.
    pub socket: PathBuf,
    /// What lasts over a restart of the agent is kept in this file; absent: nothing is.
    pub file: Option<PathBuf>,
}

/// What happened, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Counters {
    /// Events of DHCP servers and clients, of messages that were heard, and of answers to DHCPINFORM.
    pub events: u64,
    /// Leases of devices that did not identify themselves.
    pub unidentified: u64,
    /// Devices there was no room for.
    pub refused: u64,
    /// Devices that came, and that left: released, expired or absent.
    pub added: u64,
    pub released: u64,
    pub expired: u64,
    pub absent: u64,
    /// What came to the socket and is no event.
    pub malformed: u64,
    /// The state could not be written.
    pub not_kept: u64,
}

/// The two machines, and whom to tell. Clones share it.
#[derive(Clone, Debug)]
pub struct Shared {
    inner: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    settings: Settings,
    leases: Leases,
    held: Held,
    counters: Counters,
    wake: Option<Wake>,
    /// The tasks that look at timers are told of another one.
    timer: Arc<tokio::sync::Notify>,
}

impl Shared {
    /// What was kept, and nothing else.
    pub fn new(settings: Settings, now: Instant, wall: SystemTime) -> Self {
        let mut leases = Leases::new(settings.max_devices);
        let mut held = Held::default();
        if let Some(file) = &settings.file {
            match keep::read(file) {
                Ok(kept) => kept.restore(&mut leases, &mut held, now, wall),
                Err(error) => {
                    tracing::warn!(file = %file.display(), %error, "what DHCP said before is lost");
                }
            }
        }
        Self {
            inner: Arc::new(Mutex::new(State {
                settings,
                leases,
                held,
                counters: Counters::default(),
                wake: None,
                timer: Arc::default(),
            })),
        }
    }

    /// DHCP said something.
    pub fn handle(&self, now: Instant, event: Event) {
        self.change(now, |state| state.handle(now, event));
    }

    /// What the gateway knows of its devices' presence.
    pub(crate) fn change_leases<T>(
        &self,
        now: Instant,
        work: impl FnOnce(&mut Leases, &mut Counters) -> T,
    ) -> T {
        self.change(now, |state| work(&mut state.leases, &mut state.counters))
    }

    /// Lets go what has expired.
    pub fn expire(&self, now: Instant) {
        self.change(now, |state| {
            state.counters.expired += state.leases.expire(now);
            state.held.expire(now);
        });
    }

    /// When [`Shared::expire`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let state = self.lock();
        [state.leases.poll_timeout(), state.held.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The devices that are connected, each once (`ManageableDevice.{i}.`), with their hardware addresses.
    pub fn devices(&self) -> Vec<(Identity, Vec<Mac>)> {
        self.lock().leases.shown()
    }

    /// OUI, serial number and product class of the gateway; empty where unknown (`GatewayInfo.`).
    pub fn gateway(&self) -> [String; 3] {
        self.lock().held.shown()
    }

    /// The counters.
    pub fn counters(&self) -> Counters {
        self.lock().counters
    }

    pub(crate) fn settings(&self) -> Settings {
        self.lock().settings.clone()
    }

    fn malformed(&self) {
        self.lock().counters.malformed += 1;
    }

    fn set_wake(&self, wake: Wake) -> Arc<tokio::sync::Notify> {
        let mut state = self.lock();
        state.wake = Some(wake);
        state.timer.clone()
    }

    /// Does `work`, keeps what it changed, and tells the engine when something else is shown.
    fn change<T>(&self, now: Instant, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let before = (state.leases.shown(), state.held.shown());
        let revision = (state.leases.revision(), state.held.revision());
        let timeout = [state.leases.poll_timeout(), state.held.poll_timeout()];
        let result = work(&mut state);
        if revision != (state.leases.revision(), state.held.revision())
            && let Some(file) = state.settings.file.clone()
        {
            let kept = keep::Kept::of(&state.leases, &state.held, now, SystemTime::now());
            if let Err(error) = keep::write(&file, &kept) {
                state.counters.not_kept += 1;
                tracing::warn!(file = %file.display(), %error, "what DHCP said is not kept");
            }
        }
        if timeout != [state.leases.poll_timeout(), state.held.poll_timeout()] {
            state.timer.notify_one();
        }
        let shown = before != (state.leases.shown(), state.held.shown());
        let wake = state.wake.clone().filter(|_| shown);
        drop(state);
        if let Some(wake) = wake {
            wake.wake();
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn handle(&mut self, now: Instant, event: Event) {
        self.counters.events += 1;
        let counters = &mut self.counters;
        match event {
            // A machine that is no gateway, or no device, has no such table.
            Event::Leased { .. } | Event::Ended { .. } if !self.settings.gateway => {}
            Event::Acknowledged { .. } | Event::Lost { .. } if !self.settings.device => {}
            Event::Leased {
                mac,
                address,
                identity,
                lease,
            } => match self.leases.leased(now, mac, address, identity, lease) {
                leases::Taken::Added => counters.added += 1,
                leases::Taken::Known => {}
                leases::Taken::Unidentified => counters.unidentified += 1,
                leases::Taken::Full => counters.refused += 1,
            },
            Event::Ended { mac, address } => {
                counters.released += u64::from(self.leases.ended(mac, address));
            }
            Event::Acknowledged {
                interface,
                oui,
                serial_number,
                product_class,
                lease,
            } => {
                let gateway = [oui, serial_number, product_class];
                self.held.acknowledged(now, &interface, gateway, lease);
            }
            Event::Lost { interface } => self.held.lost(&interface),
        }
    }
}

/// This machine's own identity, as `Device.DeviceInfo.` shows it.
///
/// # Errors
///
/// When what it shows is none: TR-111 has less room than TR-181.
pub(crate) fn own(identity: &crate::provider::Identity) -> Result<Identity, IdentityError> {
    let [oui, serial, class] = crate::provider::own_identity(identity);
    Identity::new(&oui, &serial, Some(class.as_str()))
}
