//! All simulated Agents, and what they have been through.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use homefleet_coap::Uri;
use homefleet_net::dtls::{Credentials, TrustVerifier};
use homefleet_usp::EndpointId;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::device::Device;
use crate::demo::pki::Authority;
use crate::sim::fleet::{About, Cut, Histogram, Model, ModelError, Root, Values, mixed};

/// What is simulated.
pub(super) struct Plan {
    /// The Controller.
    pub(super) controller: EndpointId,
    pub(super) way: Way,
    /// Where sockets of CoAP are bound.
    pub(super) local: SocketAddr,
    pub(super) devices: u64,
    pub(super) first: u64,
    pub(super) oui: Arc<str>,
    pub(super) class: Arc<str>,
    pub(super) serial: Arc<str>,
    pub(super) parameters: usize,
    pub(super) period: Duration,
    pub(super) ramp: Duration,
    pub(super) faults: f64,
    pub(super) change_every: Option<Duration>,
    pub(super) restart_every: Option<Duration>,
    pub(super) restart_takes: Duration,
    pub(super) seed: u64,
}

/// How Agents reach the Controller.
pub(super) enum Way {
    /// Its resource.
    Coap(Uri),
    /// Its resource.
    WebSocket {
        secure: bool,
        host: String,
        port: u16,
        path: String,
    },
}

/// What Agents share.
pub(super) struct Shared {
    pub(super) plan: Arc<Plan>,
    pub(super) power: watch::Sender<Option<Cut>>,
    pub(super) verifier: Arc<TrustVerifier>,
    authority: Authority,
    stats: Mutex<Stats>,
}

impl Shared {
    pub(super) fn count(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A certificate for an Agent, made for this start of it.
    pub(super) fn credentials(&self, id: &EndpointId) -> Result<Credentials, String> {
        let made = self.authority.make(id.as_str(), &[]);
        let (chain, key) = made.map_err(|error| error.to_string())?;
        Credentials::from_pem(&chain, &key).map_err(|error| error.to_string())
    }
}

/// Counters of all Agents.
#[derive(Clone, Debug, Default)]
pub(super) struct Stats {
    /// Channels that came up; none over CoAP.
    pub(super) connections: u64,
    /// Agents whose OnBoardRequest was answered.
    pub(super) onboarded: u64,
    /// Notifications that were answered, by kind.
    pub(super) notifications: BTreeMap<&'static str, u64>,
    /// Notifications whose answer did not come in time.
    pub(super) lost: u64,
    /// Requests of the Controller, by type.
    pub(super) requests: BTreeMap<&'static str, u64>,
    /// Of these, answered with an Error.
    pub(super) errors: u64,
    /// What came that is no Record.
    pub(super) erroneous: u64,
    /// What could not be opened or sent, by reason.
    pub(super) failed: BTreeMap<String, u64>,
    /// Restarts.
    pub(super) restarts: u64,
    /// Power failures of an Agent.
    pub(super) outages: u64,
    /// From a Notify to its answer.
    pub(super) notify: Histogram,
    /// From the moment at which the power came back to the first answer.
    pub(super) back: Histogram,
}

/// Agents that live until it is dropped.
pub(super) struct Fleet {
    shared: Arc<Shared>,
    pub(super) parameters: usize,
    started: Instant,
    _tasks: JoinSet<()>,
}

impl Fleet {
    /// Starts all Agents; inside a runtime.
    pub(super) fn start(
        plan: Plan,
        authority: Authority,
        verifier: Arc<TrustVerifier>,
    ) -> Result<Self, ModelError> {
        let model = Arc::new(Model::new(Root::Usp, plan.parameters)?);
        let (power, _) = watch::channel(None);
        let shared = Arc::new(Shared {
            plan: Arc::new(plan),
            power,
            verifier,
            authority,
            stats: Mutex::default(),
        });
        let plan = &shared.plan;
        let mut tasks = JoinSet::new();
        for number in plan.first..plan.first.saturating_add(plan.devices) {
            let serial = format!("{}{number:08}", plan.serial);
            let Ok(id) = format!("os::{}-{serial}", plan.oui).parse::<EndpointId>() else {
                continue;
            };
            let about = About {
                oui: plan.oui.clone(),
                class: plan.class.clone(),
                serial,
                seed: mixed(plan.seed ^ mixed(number)),
                acs: "".into(),
                login: "".into(),
                period: plan.period.as_secs(),
                call: String::new(),
            };
            let mut values = Values::new(model.clone(), about);
            values.change("LocalAgent.EndpointID", id.to_string());
            let controller = plan.controller.to_string();
            values.change("LocalAgent.Controller.1.EndpointID", controller);
            // The pattern of those that will be added.
            let _gone = values.delete("Device.LocalAgent.Subscription.1.");
            tasks.spawn(Device::new(shared.clone(), values, id).live());
        }
        Ok(Self {
            parameters: model.len(),
            shared,
            started: Instant::now(),
            _tasks: tasks,
        })
    }

    /// The power fails everywhere.
    pub(super) fn cut_power(&self, outage: Duration, spread: Duration) {
        let cut = Cut::now(outage, spread);
        self.shared.power.send_replace(Some(cut));
    }

    /// Since it was started.
    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// What the Agents have been through.
    pub(super) fn stats(&self) -> Stats {
        let stats = &self.shared.stats;
        stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
