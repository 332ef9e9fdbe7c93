//! Thousands of devices that speak TR-069, in one process: each with its own identity, values, clock of sessions and logins.
//!
//! A device is a [`homefleet_cwmp::cpe::Cpe`] over a [`homefleet_net::cwmp::Client`], with the values of a [`Model`]. What all of them have in common they share, so
//! that ten thousand are some dozens of megabytes.

mod answer;
mod calls;
mod chance;
mod device;
mod histogram;
mod model;
mod stats;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use homefleet_cwmp::Secret;
use homefleet_cwmp::cpe::RetryPolicy;
use homefleet_net::cwmp::{Client, ClientConfig, UrlError};
use homefleet_net::tls::Tls;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::calls::Calls;
pub(crate) use self::chance::{Chance, mixed};
use self::device::Device;
pub(crate) use self::histogram::Histogram;
pub(crate) use self::model::{About, Model, ModelError, Place, Root, Values};
pub(crate) use self::stats::Stats;

/// What is simulated.
#[derive(Clone)]
pub(crate) struct Plan {
    /// The URL of the ACS.
    pub(crate) acs: Arc<str>,
    /// What devices log in with at first; empty for nothing.
    pub(crate) username: Arc<str>,
    /// Its password.
    pub(crate) password: Secret,
    /// For `https`.
    pub(crate) tls: Option<Tls>,
    /// How long an exchange may take.
    pub(crate) timeout: Duration,
    /// How many devices.
    pub(crate) devices: u64,
    /// The number of the first one, in its serial number.
    pub(crate) first: u64,
    /// ManufacturerOUI.
    pub(crate) oui: Arc<str>,
    /// ProductClass.
    pub(crate) class: Arc<str>,
    /// What serial numbers begin with.
    pub(crate) serial: Arc<str>,
    /// The data model.
    pub(crate) root: Root,
    /// The least number of parameters of each.
    pub(crate) parameters: usize,
    /// Between periodic informs; zero for none.
    pub(crate) period: Duration,
    /// The time over which devices come for the first time.
    pub(crate) ramp: Duration,
    /// They have been with this ACS before: no BOOTSTRAP.
    pub(crate) known: bool,
    /// How long they wait after a session that failed.
    pub(crate) retry: RetryPolicy,
    /// The share of requests that are answered with a fault, and of transfers that fail.
    pub(crate) faults: f64,
    /// The share of sessions that a device breaks off.
    pub(crate) breaks: f64,
    /// How often a device's address changes, on average.
    pub(crate) change_every: Option<Duration>,
    /// How often a device restarts by itself, on average.
    pub(crate) restart_every: Option<Duration>,
    /// How long a restart takes.
    pub(crate) restart_takes: Duration,
    /// How long a transfer takes.
    pub(crate) transfer_takes: Duration,
    /// Where Connection Requests are taken; none without.
    pub(crate) listen: Option<SocketAddr>,
    /// Of all chance.
    pub(crate) seed: u64,
}

/// A power failure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    at: Instant,
    outage: Duration,
    /// The time over which devices are up again.
    pub(crate) spread: Duration,
}

impl Cut {
    /// One that happens now.
    pub(crate) fn now(outage: Duration, spread: Duration) -> Self {
        Self {
            at: Instant::now(),
            outage,
            spread,
        }
    }

    /// When there is power again.
    pub(crate) fn again(self) -> Instant {
        self.at + self.outage
    }
}

/// What devices share.
struct Shared {
    plan: Arc<Plan>,
    stats: Mutex<Stats>,
    calls: Arc<Calls>,
    power: watch::Sender<Option<Cut>>,
}

impl Shared {
    /// A client as a device has at first; the plan's URL was found good.
    fn first_client(&self, seed: [u8; 32]) -> Client {
        let mut config = ClientConfig::new(self.plan.acs.to_string());
        config.tls.clone_from(&self.plan.tls);
        #[allow(clippy::expect_used, reason = "Fleet::start has tried it")]
        Client::new(config, seed).expect("the URL of the plan")
    }
}

/// Why a fleet does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FleetError {
    /// The URL of the ACS is none.
    #[error("{0}")]
    Url(#[from] UrlError),
    /// The model cannot be made.
    #[error("{0}")]
    Model(#[from] ModelError),
    /// Connection Requests cannot be listened for.
    #[error("cannot listen for Connection Requests on {0}: {1}")]
    Listen(SocketAddr, io::Error),
}

/// Devices that live until it is dropped.
pub(crate) struct Fleet {
    shared: Arc<Shared>,
    parameters: usize,
    started: Instant,
    _tasks: JoinSet<()>,
}

impl Fleet {
    /// Starts all devices.
    ///
    /// # Errors
    /// When the URL is none, the model cannot be made, or Connection Requests cannot be listened for.
    pub(crate) async fn start(plan: Plan) -> Result<Self, FleetError> {
        Client::new(ClientConfig::new(plan.acs.to_string()), [0; 32])?;
        let model = Arc::new(Model::new(plan.root, plan.parameters)?);
        let mut chance = Chance::new(mixed(plan.seed));
        let calls = Arc::new(Calls::new(chance.seed()));
        let mut tasks = JoinSet::new();
        let mut called_at = None;
        if let Some(at) = plan.listen {
            let failed = |error| FleetError::Listen(at, error);
            let listener = TcpListener::bind(at).await.map_err(failed)?;
            called_at = Some(listener.local_addr().map_err(failed)?);
            tasks.spawn(calls.clone().serve(listener));
        }
        let (power, _) = watch::channel(None);
        let parameters = model.len();
        let shared = Arc::new(Shared {
            plan: Arc::new(plan),
            stats: Mutex::default(),
            calls,
            power,
        });
        let plan = &shared.plan;
        for number in plan.first..plan.first.saturating_add(plan.devices) {
            let seed = mixed(plan.seed ^ mixed(number));
            let path = format!("/{:016x}", mixed(seed ^ 1));
            let about = About {
                oui: plan.oui.clone(),
                class: plan.class.clone(),
                serial: format!("{}{number:08}", plan.serial),
                seed,
                acs: plan.acs.clone(),
                login: plan.username.clone(),
                period: plan.period.as_secs(),
                call: called_at.map_or(String::new(), |at| calls::url(at, &path)),
            };
            let values = Values::new(model.clone(), about);
            tasks.spawn(Device::new(shared.clone(), values, path).live());
        }
        Ok(Self {
            parameters,
            shared,
            started: Instant::now(),
            _tasks: tasks,
        })
    }

    /// The power fails everywhere; it comes back after the outage, for each device at some time within the spread.
    pub(crate) fn cut_power(&self, outage: Duration, spread: Duration) {
        self.shared
            .power
            .send_replace(Some(Cut::now(outage, spread)));
    }

    /// How many parameters each device has.
    pub(crate) fn parameters(&self) -> usize {
        self.parameters
    }

    /// Since it was started.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// What the devices have been through.
    pub(crate) fn stats(&self) -> Stats {
        let mut stats = lock(&self.shared.stats).clone();
        stats.refused_calls = self.shared.calls.refused();
        stats
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
