//! The MTPs of this process: made, changed and ended as the engine's [`Plan`] says. What is not in the plan does not exist.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use homefleet_coap::Scheme;
use homefleet_net::{
    coap::Group,
    dtls::Credentials,
    mtp::{
        CoapMtp, CoapMtpConfig, Event, Interface, MqttMtp, MqttMtpConfig, Mtps, NetStats, Route,
        SendError, State, Status, UdsMtp, UdsMtpConfig, WebSocketListener, WebSocketMtp,
        WebSocketMtpConfig,
        mqtt::SubscriptionStatus,
        stomp::{StompMtp, StompMtpConfig},
        websocket::Limits,
    },
    tls::Tls,
};
use homefleet_usp::{EndpointId, mtp as binding};
use tokio::sync::mpsc;

use super::{StartError, Trust, spec, trust::ControllerVerifier};
use crate::{
    config::{Config, ControllerUrl},
    engine::{Link, Links},
    transport::{CoapServer, Greetings, Plan},
};

/// The MTPs. Clones share them.
#[derive(Clone)]
pub(super) struct Network {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    credentials: Mutex<Credentials>,
    verifier: Arc<ControllerVerifier>,
    events: mpsc::Sender<Event>,
    greetings: Arc<Greetings>,
    state: Mutex<Now>,
    first_use_idle: Mutex<Option<Duration>>,
}

/// What exists now.
#[derive(Default)]
struct Now {
    plan: Plan,
    mtps: Mtps,
    /// Why what the plan wants could not be done, by name; `coap` for CoAP.
    errors: BTreeMap<String, Status>,
}

/// Sessions that others open to a device at once.
const MAX_SESSIONS: usize = 64;

impl Network {
    /// The MTPs of the configuration file; an address that cannot be bound ends the start.
    pub(super) async fn start(
        config: &Config,
        trust: &Trust,
        verifier: Arc<ControllerVerifier>,
        events: mpsc::Sender<Event>,
        greetings: Arc<Greetings>,
    ) -> Result<Self, StartError> {
        let network = Self {
            inner: Arc::new(Inner {
                config: config.clone(),
                credentials: Mutex::new(trust.credentials.clone()),
                verifier,
                events,
                greetings,
                state: Mutex::default(),
                first_use_idle: Mutex::default(),
            }),
        };
        if config.coap {
            let coap = network
                .bind_coap(config.listen, plain_listen(config))
                .await
                .map_err(|source| StartError::Bind {
                    address: config.listen,
                    source,
                })?;
            let server = |address: SocketAddr| CoapServer {
                port: address.port(),
                path: config.path.clone(),
            };
            let mut state = network.state();
            state.plan.coaps = Some(server(coap.local_addr()));
            state.plan.coap = config.plain_listen.and(coap.plain_addr()).map(server);
            state.mtps.coap = Some(coap);
        }
        Ok(network)
    }

    /// Does what the plan says. Where something is to end or to change, it is ended first.
    pub(super) async fn apply(&self, plan: Plan) {
        let old = self.state().plan.clone();
        if (&old.coaps, &old.coap) != (&plan.coaps, &plan.coap) {
            self.apply_coap(&plan).await;
        }
        self.close(&old, &plan).await;
        match self.make(&plan) {
            Ok(()) => self.open(&old, &plan).await,
            Err(error) => tracing::error!(%error, "no TLS: the credentials cannot be used"),
        }
        self.state().plan = plan;
        self.drop_unused().await;
    }

    /// Makes this connection anew.
    pub(super) async fn reconnect(&self, name: &str) {
        let (plan, mtps) = {
            let state = self.state();
            (state.plan.clone(), state.mtps.clone())
        };
        if let (Some(mqtt), Some(link)) = (&mtps.mqtt, plan.mqtt.get(name)) {
            mqtt.close(name).await;
            mqtt.open(name, spec::mqtt(link));
        }
        if let (Some(websocket), Some(link)) = (&mtps.websocket, plan.websocket.get(name)) {
            websocket.close(name).await;
            websocket.open(name, spec::websocket(link));
        }
    }

    /// Ends what is not wanted any more.
    async fn close(&self, old: &Plan, plan: &Plan) {
        let mtps = self.mtps();
        if let Some(websocket) = &mtps.websocket {
            for (name, server) in &old.websocket_servers {
                if plan.websocket_servers.get(name) != Some(server) {
                    websocket.unlisten(name).await;
                    self.state().errors.remove(name);
                }
            }
            for name in gone(&old.websocket, &plan.websocket) {
                websocket.close(name).await;
            }
        }
        if let Some(stomp) = &mtps.stomp {
            for name in gone(&old.stomp, &plan.stomp) {
                stomp.close(name).await;
            }
        }
        if let Some(mqtt) = &mtps.mqtt {
            for name in gone(&old.mqtt, &plan.mqtt) {
                mqtt.close(name).await;
            }
        }
        if let Some(uds) = &mtps.uds {
            for name in gone(&old.uds, &plan.uds) {
                uds.close(name).await;
                self.state().errors.remove(name);
            }
        }
    }

    /// Opens what is new, and tells what has changed: the MTPs connect anew only where they must.
    async fn open(&self, old: &Plan, plan: &Plan) {
        let mtps = self.mtps();
        if let Some(websocket) = &mtps.websocket {
            let ip = self.websocket_ip();
            for (name, server) in changed(&old.websocket_servers, &plan.websocket_servers) {
                let listener = WebSocketListener {
                    address: SocketAddr::new(ip, server.port),
                    path: server.path.clone(),
                    secure: server.secure,
                };
                let listening = websocket.listen(name, listener).await;
                self.note(name, listening.map(drop));
            }
            for (name, link) in changed(&old.websocket, &plan.websocket) {
                websocket.open(name, spec::websocket(link));
            }
        }
        if let Some(stomp) = &mtps.stomp {
            for (name, link) in changed(&old.stomp, &plan.stomp) {
                stomp.open(name, spec::stomp(link));
            }
        }
        if let Some(mqtt) = &mtps.mqtt {
            for (name, link) in changed(&old.mqtt, &plan.mqtt) {
                mqtt.open(name, spec::mqtt(link));
            }
        }
        if let Some(uds) = &mtps.uds {
            for (name, link) in changed(&old.uds, &plan.uds) {
                if link.listens {
                    let listening = uds.listen(name, spec::uds_listener(link)).await;
                    self.note(name, listening);
                } else {
                    uds.open(name, spec::uds_connection(link)).await;
                }
            }
        }
    }

    /// Makes the MTPs that the plan needs and that are not there.
    fn make(&self, plan: &Plan) -> io::Result<()> {
        let inner = &self.inner;
        let (own, events) = (&inner.config.endpoint_id, &inner.events);
        let (insecure, max_record) = (inner.config.allow_insecure, inner.config.limits.max_record);
        let idle = *lock(&inner.first_use_idle);
        let mut state = self.state();
        let mtps = &mut state.mtps;
        let over_tcp = !plan.websocket.is_empty()
            || !plan.websocket_servers.is_empty()
            || !plan.stomp.is_empty()
            || !plan.mqtt.is_empty();
        if over_tcp && mtps.tls.is_none() {
            let tls = Tls::new(&lock(&inner.credentials), inner.verifier.clone())?;
            if let Some(idle) = idle {
                tls.set_first_use_idle(idle);
            }
            mtps.tls = Some(tls);
        }
        let tls = mtps.tls.clone();
        if !(plan.websocket.is_empty() && plan.websocket_servers.is_empty()) {
            let config = || WebSocketMtpConfig {
                endpoint_id: own.clone(),
                events: events.clone(),
                greeter: inner.greetings.clone(),
                tls: tls.clone(),
                allow_plain: insecure,
                session: binding::websocket::Config {
                    max_record,
                    max_queued: 2 * max_record,
                    ..binding::websocket::Config::default()
                },
                limits: Limits {
                    max_sessions: MAX_SESSIONS,
                    max_half_open: MAX_SESSIONS,
                    ..Limits::default()
                },
            };
            mtps.websocket
                .get_or_insert_with(|| WebSocketMtp::new(config()));
        }
        if !plan.stomp.is_empty() {
            let config = || StompMtpConfig {
                greeter: inner.greetings.clone(),
                allow_plain: insecure,
                allow_untrusted_broker: insecure,
                max_record,
                max_queued: 2 * max_record,
                ..StompMtpConfig::new(own.clone(), events.clone(), tls.clone())
            };
            mtps.stomp.get_or_insert_with(|| StompMtp::new(config()));
        }
        if !plan.mqtt.is_empty() {
            let config = || MqttMtpConfig {
                tls: tls.clone(),
                allow_plain: insecure,
                allow_untrusted_broker: insecure,
                max_record,
                ..MqttMtpConfig::new(own.clone(), events.clone(), inner.greetings.clone())
            };
            mtps.mqtt.get_or_insert_with(|| MqttMtp::new(config()));
        }
        if !plan.uds.is_empty() {
            let config = || UdsMtpConfig {
                greeter: inner.greetings.clone(),
                session: binding::uds::Config {
                    max_record,
                    max_frame: max_record + 1024,
                    max_queued: 2 * max_record,
                    ..binding::uds::Config::default()
                },
                max_sessions: MAX_SESSIONS,
                ..UdsMtpConfig::new(own.clone(), events.clone())
            };
            mtps.uds.get_or_insert_with(|| UdsMtp::new(config()));
        }
        Ok(())
    }

    /// What the plan does not need costs nothing.
    async fn drop_unused(&self) {
        let unused = {
            let mut state = self.state();
            let Now { plan, mtps, .. } = &mut *state;
            let websocket = plan.websocket.is_empty() && plan.websocket_servers.is_empty();
            let mut unused = Mtps {
                websocket: mtps.websocket.take_if(|_| websocket),
                stomp: mtps.stomp.take_if(|_| plan.stomp.is_empty()),
                mqtt: mtps.mqtt.take_if(|_| plan.mqtt.is_empty()),
                uds: mtps.uds.take_if(|_| plan.uds.is_empty()),
                ..Mtps::default()
            };
            let over_tcp = mtps.websocket.is_some() || mtps.stomp.is_some() || mtps.mqtt.is_some();
            unused.tls = mtps.tls.take_if(|_| !over_tcp);
            unused
        };
        unused.shutdown().await;
    }

    /// Whether listening has begun.
    fn note(&self, name: &str, listening: io::Result<()>) {
        let mut state = self.state();
        match listening {
            Ok(()) => drop(state.errors.remove(name)),
            Err(error) => {
                tracing::error!(name, %error, "cannot listen");
                state.errors.insert(name.to_owned(), failed(&error));
            }
        }
    }

    fn websocket_ip(&self) -> IpAddr {
        let config = &self.inner.config;
        let websocket = config.websocket.as_ref();
        websocket.map_or(config.listen.ip(), |websocket| websocket.listen.ip())
    }

    async fn apply_coap(&self, plan: &Plan) {
        let before = self.state().mtps.coap.take();
        if let Some(before) = before {
            before.shutdown().await;
        }
        self.state().errors.remove("coap");
        let config = &self.inner.config;
        let at = |server: &CoapServer| SocketAddr::new(config.listen.ip(), server.port);
        let (secure, plain) = (plan.coaps.as_ref().map(at), plan.coap.as_ref().map(at));
        if secure.is_none() && plain.is_none() {
            return;
        }
        // To send without DTLS takes a socket, whether or not the plan has one to listen at.
        let plain = plain.or_else(|| match config.plain_listen {
            Some(_) => None,
            None => plain_listen(config),
        });
        let any = SocketAddr::new(config.listen.ip(), 0);
        match self.bind_coap(secure.unwrap_or(any), plain).await {
            Ok(coap) => {
                let idle = *lock(&self.inner.first_use_idle);
                if let Some(idle) = idle {
                    coap.set_first_use_idle(idle).await;
                }
                self.state().mtps.coap = Some(coap);
            }
            Err(error) => {
                tracing::error!(%error, "no CoAP: the address cannot be used");
                let status = failed(&error);
                self.state().errors.insert("coap".to_owned(), status);
            }
        }
    }

    async fn bind_coap(
        &self,
        listen: SocketAddr,
        plain_listen: Option<SocketAddr>,
    ) -> std::io::Result<CoapMtp> {
        let config = &self.inner.config;
        let credentials = lock(&self.inner.credentials).clone();
        CoapMtp::bind(CoapMtpConfig {
            endpoint_id: config.endpoint_id.clone(),
            interface: Interface::Agent,
            listen,
            plain_listen,
            groups: groups(config, plain_listen),
            path: config.path.clone(),
            advertise: config.advertise.clone(),
            credentials,
            verifier: self.inner.verifier.clone(),
            coap: homefleet_coap::Config {
                max_body: config.limits.max_record,
                ..homefleet_coap::Config::default()
            },
            dtls: homefleet_net::dtls::Config::default(),
            events: self.inner.events.clone(),
        })
        .await
    }

    /// Sends a Record.
    pub(super) async fn send(
        &self,
        route: &Route,
        endpoint_id: &EndpointId,
        record: Vec<u8>,
    ) -> Result<(), SendError> {
        let mtps = self.mtps();
        mtps.send(route, endpoint_id, record).await
    }

    fn mtps(&self) -> Mtps {
        self.state().mtps.clone()
    }

    pub(super) fn coap(&self) -> Option<CoapMtp> {
        self.state().mtps.coap.clone()
    }

    /// The counters of CoAP.
    pub(super) fn stats(&self) -> NetStats {
        self.coap().map(|coap| coap.stats()).unwrap_or_default()
    }

    /// Presents this certificate and key from now on; what is open stays.
    pub(super) async fn replace_credentials(&self, credentials: Credentials) {
        *lock(&self.inner.credentials) = credentials.clone();
        if let Err(error) = self.mtps().replace_credentials(&credentials).await {
            tracing::error!(%error, "the new certificate cannot be used by every MTP");
        }
    }

    /// Has the decision about every peer made anew.
    pub(super) async fn judge_again(&self) {
        self.mtps().judge_again().await;
    }

    /// Closes sessions of peers accepted on first use after this time without a message, from now on (R-SEC.6).
    pub(super) async fn set_first_use_idle(&self, idle: Duration) {
        *lock(&self.inner.first_use_idle) = Some(idle);
        self.mtps().set_first_use_idle(idle).await;
    }

    /// Ends everything in order.
    pub(super) async fn shutdown(&self) {
        self.apply(Plan::default()).await;
        // What the configuration file bound may be in no plan yet.
        let coap = self.state().mtps.coap.take();
        if let Some(coap) = coap {
            coap.shutdown().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, Now> {
        lock(&self.inner.state)
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        f.debug_struct("Network")
            .field("plan", &state.plan)
            .finish_non_exhaustive()
    }
}

impl Links for Network {
    fn link(&self, name: &str) -> Option<Link> {
        let (mtps, error) = {
            let state = self.state();
            (state.mtps.clone(), state.errors.get(name).cloned())
        };
        if let Some(status) = error {
            return Some(Link::new(status));
        }
        if let Some(client) = mtps.mqtt.as_ref().and_then(|mqtt| mqtt.status(name)) {
            let refused = client.subscriptions.into_iter();
            let refused = refused.filter(|(_, status)| *status == SubscriptionStatus::Error);
            return Some(Link {
                told: client.response_information,
                counted: Some((client.stats, client.times)),
                refused: refused.map(|(filter, _)| filter).collect(),
                ..Link::new(client.status)
            });
        }
        if let Some((stomp, status)) = mtps
            .stomp
            .as_ref()
            .and_then(|stomp| Some((stomp, stomp.status(name)?)))
        {
            let subscription = stomp.subscription(name);
            return Some(Link {
                told: subscription
                    .filter(|subscription| subscription.from_server)
                    .map(|subscription| subscription.destination),
                ..Link::new(status)
            });
        }
        let status = mtps
            .websocket
            .as_ref()
            .and_then(|websocket| websocket.status(name))
            .or_else(|| mtps.uds.as_ref().and_then(|uds| uds.status(name)))?;
        Some(Link::new(status))
    }
}

fn failed(error: &io::Error) -> Status {
    let mut status = Status::connecting();
    status.becomes(State::Error(error.to_string()), 1);
    status
}

/// Names that are not in the plan any more.
fn gone<'a, T>(
    old: &'a BTreeMap<String, T>,
    plan: &'a BTreeMap<String, T>,
) -> impl Iterator<Item = &'a String> {
    old.keys().filter(|name| !plan.contains_key(*name))
}

/// What is new in the plan, or other than before.
fn changed<'a, T: PartialEq>(
    old: &'a BTreeMap<String, T>,
    plan: &'a BTreeMap<String, T>,
) -> impl Iterator<Item = (&'a String, &'a T)> {
    plan.iter()
        .filter(|(name, link)| old.get(*name) != Some(*link))
}

/// Whether a Record for this route would go over something that the new plan ends.
pub(super) fn is_affected(old: &Plan, new: &Plan, route: &Route) -> bool {
    match route {
        Route::Coap(_) => (&old.coaps, &old.coap) != (&new.coaps, &new.coap),
        Route::WebSocket { .. } => {
            old.websocket != new.websocket || old.websocket_servers != new.websocket_servers
        }
        Route::Stomp { connection, .. } => old.stomp.get(connection) != new.stomp.get(connection),
        Route::Mqtt { connection, .. } => old.mqtt.get(connection) != new.mqtt.get(connection),
        Route::Uds => old.uds != new.uds,
    }
}

/// Where the agent is discovered, as far as a socket at this address can hear groups.
fn groups(config: &Config, plain_listen: Option<SocketAddr>) -> Vec<Group> {
    match (plain_listen, &config.discovery) {
        (Some(listen), Some(interface)) if listen.ip().is_unspecified() => {
            Group::all_coap_nodes(listen, Some(interface))
        }
        _ => Vec::new(),
    }
}

fn plain_listen(config: &Config) -> Option<SocketAddr> {
    let controller = config.controller.as_ref().map(|known| &known.url);
    match config.plain_listen {
        Some(address) => Some(address),
        // To send without DTLS, and to be answered, takes a socket too.
        None => match controller {
            Some(ControllerUrl::Coap(uri))
                if uri.scheme == Scheme::Coap && config.allow_insecure =>
            {
                Some(SocketAddr::new(config.listen.ip(), 0))
            }
            _ => None,
        },
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
