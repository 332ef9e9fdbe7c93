//! Every MTP of the server: made from the configuration, sent over, looked at.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use homefleet_api as api;
use homefleet_net::dtls::{self, Credentials, Verifier};
use homefleet_net::mtp::mqtt::{MqttClient, MqttMtp, MqttMtpConfig};
use homefleet_net::mtp::stomp::{StompConnection, StompMtp, StompMtpConfig};
use homefleet_net::mtp::websocket::{Limits, WebSocketConnection, WebSocketListener};
use homefleet_net::mtp::{
    CoapMtp, CoapMtpConfig, Event, Interface, Mtps, NoGreeting, Route, State, Status, UdsListener,
    UdsMtp, UdsMtpConfig, WebSocketMtp, WebSocketMtpConfig,
};
use homefleet_net::tls::Tls;
use homefleet_usp::EndpointId;
use homefleet_usp::mtp::mqtt::Qos;
use homefleet_usp::mtp::retry::RetryPolicy;
use homefleet_usp::mtp::stomp::{HeartBeat, Login};
use homefleet_usp::mtp::websocket;
use tokio::sync::mpsc;

use super::{failed, sent};
use crate::clock::Millis;
use crate::config::{Config, ConfigError, ListeningAgent, Mqtt, Passwords, Stomp};
use crate::controller::{Parcel, Transport};
use crate::server::StartError;
use crate::task::driver::Sending;
use crate::task::queue::Delivery;

/// First wait for a broker that failed, and longest of all, in seconds: much is waiting behind it.
const BROKER_RETRY: u32 = 5;
const BROKER_RETRY_MOST: u32 = 60;

/// The server's MTPs. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) mtps: Mtps,
    shown: Arc<Shown>,
}

/// What the configuration says of them.
#[derive(Debug, Default)]
struct Shown {
    listening: Vec<Listening>,
    agents: Vec<ListeningAgent>,
    stomp: Vec<(Stomp, StompConnection)>,
    mqtt: Vec<(Mqtt, MqttClient)>,
    /// Brokers without TLS: nothing for a device that ever was secure goes there.
    plain: BTreeSet<(api::Mtp, String)>,
}

/// An address at which devices connect.
#[derive(Debug)]
struct Listening {
    mtp: api::Mtp,
    name: &'static str,
    uri: String,
    secure: bool,
}

/// What an MTP is made with.
pub(crate) struct Means<'a> {
    pub(crate) config: &'a Config,
    pub(crate) endpoint_id: &'a EndpointId,
    pub(crate) credentials: &'a Credentials,
    pub(crate) verifier: Arc<dyn Verifier>,
    pub(crate) events: mpsc::Sender<Event>,
}

impl Network {
    /// Listens and connects as the configuration says.
    pub(crate) async fn start(means: Means<'_>) -> Result<Self, StartError> {
        let passwords = means.config.passwords()?;
        let mut shown = Shown::default();
        let tls = Tls::new(means.credentials, Arc::clone(&means.verifier)).map_err(|error| {
            crate::tls::TlsError {
                key: "tls.certificate",
                path: means.config.tls.certificate.clone(),
                problem: error.to_string(),
            }
        })?;
        let coap = means.coap(&mut shown).await?;
        let mtps = Mtps {
            coap: Some(coap),
            stomp: means.stomp(&tls, &passwords, &mut shown),
            mqtt: means.mqtt(&tls, &passwords, &mut shown),
            websocket: means.websocket(&tls, &mut shown).await?,
            uds: means.uds(&mut shown).await?,
            tls: Some(tls),
        };
        Ok(Self {
            mtps,
            shown: Arc::new(shown),
        })
    }

    /// Where devices connect over CoAP.
    pub(crate) fn coap_addr(&self) -> Option<SocketAddr> {
        self.mtps.coap.as_ref().map(CoapMtp::local_addr)
    }

    /// Addresses for devices, by MTP.
    pub(crate) fn address(&self, mtp: api::Mtp) -> Option<String> {
        let found = self.shown.listening.iter();
        found
            .filter(|listening| listening.mtp == mtp)
            .max_by_key(|listening| listening.secure)
            .map(|listening| listening.uri.clone())
    }

    /// How every MTP fares; `devices` says how many are connected over each.
    pub(crate) fn status(&self, devices: impl Fn(api::Mtp) -> u64) -> api::MtpList {
        let stats = self.mtps.stats();
        let listening = |mtp| {
            let found = self.shown.listening.iter();
            found
                .filter(move |listening| listening.mtp == mtp)
                .map(Listening::link)
        };
        let mut mtps = Vec::new();
        if let Some(stats) = stats.coap {
            mtps.push(api::MtpStatus {
                mtp: api::Mtp::Coap,
                links: listening(api::Mtp::Coap).collect(),
                devices: None,
                records_in: stats.records_in,
                records_out: stats.records_out,
                records_failed: stats.records_failed,
                erroneous: stats.rejected,
                forged: stats.identity_mismatch,
            });
        }
        if let (Some(stats), Some(websocket)) = (stats.websocket, &self.mtps.websocket) {
            let agents = self.shown.agents.iter().map(|agent| {
                let secure = agent.url.starts_with("wss:");
                let status = websocket.status(&agent.endpoint_id);
                link(&agent.endpoint_id, agent.url.clone(), secure, status)
            });
            mtps.push(api::MtpStatus {
                mtp: api::Mtp::Websocket,
                links: listening(api::Mtp::Websocket).chain(agents).collect(),
                devices: Some(devices(api::Mtp::Websocket)),
                records_in: stats.records_in,
                records_out: stats.records_out,
                records_failed: stats.busy,
                erroneous: stats.erroneous_records,
                forged: stats.forged_records,
            });
        }
        if let (Some(stats), Some(stomp)) = (stats.stomp, &self.mtps.stomp) {
            let brokers = self.shown.stomp.iter().map(|(broker, _)| {
                let reached_at = stomp.subscription(&broker.name);
                let address = authority(&broker.host, broker.port());
                let status = stomp.status(&broker.name);
                let mut link = link(&broker.name, address, broker.tls, status);
                link.reached_at = reached_at.map(|subscription| subscription.destination);
                link
            });
            mtps.push(api::MtpStatus {
                mtp: api::Mtp::Stomp,
                links: brokers.collect(),
                devices: Some(devices(api::Mtp::Stomp)),
                records_in: stats.records_in,
                records_out: stats.records_out,
                records_failed: stats.records_failed,
                erroneous: stats.erroneous,
                forged: stats.untrusted_broker,
            });
        }
        if let (Some(stats), Some(mqtt)) = (stats.mqtt, &self.mtps.mqtt) {
            let brokers = self.shown.mqtt.iter().map(|(broker, _)| {
                let (status, reached_at) = match mqtt.status(&broker.name) {
                    Some(status) => (Some(status.status), status.reply_to),
                    None => (None, None),
                };
                let address = authority(&broker.host, broker.port());
                let mut link = link(&broker.name, address, broker.tls, status);
                link.reached_at = reached_at;
                link
            });
            mtps.push(api::MtpStatus {
                mtp: api::Mtp::Mqtt,
                links: brokers.collect(),
                devices: Some(devices(api::Mtp::Mqtt)),
                records_in: stats.records_in,
                records_out: stats.records_out,
                records_failed: stats.publish_errors,
                erroneous: stats.erroneous,
                forged: stats.untrusted + stats.forged,
            });
        }
        if let Some(stats) = stats.uds {
            mtps.push(api::MtpStatus {
                mtp: api::Mtp::Uds,
                links: listening(api::Mtp::Uds).collect(),
                devices: Some(devices(api::Mtp::Uds)),
                records_in: stats.records_in,
                records_out: stats.records_out,
                records_failed: stats.records_failed,
                erroneous: stats.erroneous,
                forged: stats.forged,
            });
        }
        api::MtpList { mtps }
    }

    /// Connects to every broker anew: whether it vouches for others is decided when it is connected to.
    pub(crate) async fn meet_brokers_again(&self) {
        if let Some(stomp) = &self.mtps.stomp {
            for (broker, spec) in self.shown.stomp.iter().filter(|(broker, _)| broker.tls) {
                stomp.close(&broker.name).await;
                stomp.open(&broker.name, spec.clone());
            }
        }
        if let Some(mqtt) = &self.mtps.mqtt {
            for (broker, settings) in self.shown.mqtt.iter().filter(|(broker, _)| broker.tls) {
                mqtt.close(&broker.name).await;
                mqtt.open(&broker.name, settings.clone());
            }
        }
    }

    /// Tells peers goodbye.
    pub(crate) async fn shutdown(&self) {
        self.mtps.shutdown().await;
    }
}

impl Transport for Network {
    fn send(&self, parcel: Parcel) -> Sending {
        let Parcel {
            route,
            secure,
            endpoint,
            record,
            once,
        } = parcel;
        let broker = match &route {
            Route::Stomp { connection, .. } => Some((api::Mtp::Stomp, connection.clone())),
            Route::Mqtt { connection, .. } => Some((api::Mtp::Mqtt, connection.clone())),
            _ => None,
        };
        if secure && broker.is_some_and(|broker| self.shown.plain.contains(&broker)) {
            let problem = format!("{route}: this broker is without TLS now");
            return Box::pin(std::future::ready(Delivery::NotDelivered(problem)));
        }
        let mtps = self.mtps.clone();
        Box::pin(async move {
            let result = if once {
                mtps.send_once(&route, &endpoint, record).await
            } else {
                mtps.send(&route, &endpoint, record).await
            };
            match result {
                Ok(()) => sent(&route),
                Err(error) => failed(&route, &error),
            }
        })
    }
}

impl Means<'_> {
    async fn coap(&self, shown: &mut Shown) -> Result<CoapMtp, StartError> {
        let coap = &self.config.coap;
        let mtp = CoapMtp::bind(CoapMtpConfig {
            endpoint_id: self.endpoint_id.clone(),
            interface: Interface::Controller,
            listen: coap.listen,
            plain_listen: coap.plain_listen,
            groups: Vec::new(),
            path: coap.path.clone(),
            advertise: coap.advertise.clone(),
            credentials: self.credentials.clone(),
            verifier: Arc::clone(&self.verifier),
            events: self.events.clone(),
            coap: homefleet_coap::Config::default(),
            dtls: dtls::Config::default(),
        })
        .await
        .map_err(|error| StartError::Listen {
            key: "coap.listen",
            address: coap.listen,
            problem: error.to_string(),
        })?;
        let at = match &coap.advertise {
            Some(advertise) => advertise.clone(),
            None => mtp.local_addr().to_string(),
        };
        shown.listening.push(Listening {
            mtp: api::Mtp::Coap,
            name: "listen",
            uri: format!("coaps://{at}/{}", coap.path),
            secure: true,
        });
        if let Some(plain) = mtp.plain_addr() {
            shown.listening.push(Listening {
                mtp: api::Mtp::Coap,
                name: "plain_listen",
                uri: format!("coap://{plain}/{}", coap.path),
                secure: false,
            });
        }
        Ok(mtp)
    }

    async fn websocket(
        &self,
        tls: &Tls,
        shown: &mut Shown,
    ) -> Result<Option<WebSocketMtp>, StartError> {
        let websocket = &self.config.websocket;
        if !websocket.is_on() {
            return Ok(None);
        }
        let keep_alive =
            (websocket.keep_alive > 0).then(|| Duration::from_secs(websocket.keep_alive));
        let plain_agent = websocket.agent.iter().any(|agent| {
            let parts = agent.parts();
            parts.is_ok_and(|url| !url.secure)
        });
        let mtp = WebSocketMtp::new(WebSocketMtpConfig {
            endpoint_id: self.endpoint_id.clone(),
            events: self.events.clone(),
            greeter: Arc::new(NoGreeting),
            tls: Some(tls.clone()),
            allow_plain: websocket.plain_listen.is_some() || plain_agent,
            session: websocket::Config {
                keep_alive,
                ..websocket::Config::default()
            },
            limits: Limits {
                max_sessions: self.config.device.max,
                ..Limits::default()
            },
        });
        let proxies = websocket.proxy_addresses();
        let proxies = proxies.map_err(|problem| ConfigError::Value {
            key: "websocket.proxies",
            problem,
        })?;
        for (key, name, address, secure, proxies) in [
            (
                "websocket.listen",
                "listen",
                websocket.listen,
                true,
                Vec::new(),
            ),
            (
                "websocket.plain_listen",
                "plain_listen",
                websocket.plain_listen,
                false,
                Vec::new(),
            ),
            (
                "websocket.proxy_listen",
                "proxy_listen",
                websocket.proxy_listen,
                false,
                proxies,
            ),
        ] {
            let Some(address) = address else { continue };
            let path = websocket.resource();
            let listener = WebSocketListener {
                address,
                path: path.clone(),
                secure,
            };
            // Devices speak TLS with the proxies.
            let secure = secure || !proxies.is_empty();
            let bound = mtp.listen_behind(name, listener, proxies).await;
            let bound = bound.map_err(|error| StartError::Listen {
                key,
                address,
                problem: error.to_string(),
            })?;
            let at = match &websocket.advertise {
                Some(advertise) if secure => advertise.clone(),
                _ => bound.to_string(),
            };
            let scheme = if secure { "wss" } else { "ws" };
            shown.listening.push(Listening {
                mtp: api::Mtp::Websocket,
                name,
                uri: format!("{scheme}://{at}{path}"),
                secure,
            });
        }
        for agent in &websocket.agent {
            let wrong = |key, problem| ConfigError::Value { key, problem };
            let url = agent
                .parts()
                .map_err(|problem| wrong("websocket.agent.url", problem))?;
            let endpoint_id: EndpointId = (agent.endpoint_id.parse())
                .map_err(|error| wrong("websocket.agent.endpoint_id", format!("{error}")))?;
            let connection = WebSocketConnection {
                endpoint_id: Some(endpoint_id),
                keep_alive,
                ..WebSocketConnection::new(&url.host, url.port, &url.path, url.secure)
            };
            mtp.open(&agent.endpoint_id, connection);
        }
        shown.agents.clone_from(&websocket.agent);
        Ok(Some(mtp))
    }

    async fn uds(&self, shown: &mut Shown) -> Result<Option<UdsMtp>, StartError> {
        let Some(path) = &self.config.uds.listen else {
            return Ok(None);
        };
        let config = UdsMtpConfig {
            max_sessions: self.config.device.max,
            ..UdsMtpConfig::new(self.endpoint_id.clone(), self.events.clone())
        };
        let mtp = UdsMtp::new(config);
        let mut listener = UdsListener::new(path);
        if !self.config.uds.allow_uids.is_empty() {
            let own = rustix::process::geteuid().as_raw();
            let others = self.config.uds.allow_uids.iter().copied();
            listener.allowed_uids = Some(others.chain([0, own]).collect());
            listener.mode = 0o666;
        }
        let listening = mtp.listen("listen", listener).await;
        listening.map_err(|error| ConfigError::Value {
            key: "uds.listen",
            problem: error.to_string(),
        })?;
        shown.listening.push(Listening {
            mtp: api::Mtp::Uds,
            name: "listen",
            uri: format!("uds:{}", path.display()),
            secure: false,
        });
        Ok(Some(mtp))
    }

    fn stomp(&self, tls: &Tls, passwords: &Passwords, shown: &mut Shown) -> Option<StompMtp> {
        let brokers = &self.config.stomp;
        if brokers.is_empty() {
            return None;
        }
        let (endpoint_id, events) = (self.endpoint_id.clone(), self.events.clone());
        let mtp = StompMtp::new(StompMtpConfig {
            allow_plain: brokers.iter().any(|broker| !broker.tls),
            allow_untrusted_broker: self.config.tls.allow_untrusted_brokers,
            ..StompMtpConfig::new(endpoint_id, events, Some(tls.clone()))
        });
        for (broker, password) in brokers.iter().zip(&passwords.stomp) {
            let login = match &broker.login {
                Some(login) => Login::Password {
                    login: login.clone(),
                    passcode: password.clone(),
                },
                None => Login::Certificate,
            };
            let every = broker.heart_beat.saturating_mul(1000);
            let spec = StompConnection {
                port: broker.port(),
                encryption: broker.tls,
                virtual_host: broker.virtual_host.clone(),
                heart_beat: (every > 0).then_some(HeartBeat {
                    outgoing: every,
                    incoming: every,
                }),
                destination: broker.destination.clone(),
                // It was looked at with the configuration.
                senders: broker.senders().unwrap_or_default(),
                retry: RetryPolicy::stomp(BROKER_RETRY, 2000, BROKER_RETRY_MOST),
                ..StompConnection::new(broker.host.clone(), login)
            };
            mtp.open(&broker.name, spec.clone());
            shown.stomp.push((broker.clone(), spec));
            if !broker.tls {
                shown.plain.insert((api::Mtp::Stomp, broker.name.clone()));
            }
        }
        Some(mtp)
    }

    fn mqtt(&self, tls: &Tls, passwords: &Passwords, shown: &mut Shown) -> Option<MqttMtp> {
        let brokers = &self.config.mqtt;
        if brokers.is_empty() {
            return None;
        }
        let (endpoint_id, events) = (self.endpoint_id.clone(), self.events.clone());
        let mtp = MqttMtp::new(MqttMtpConfig {
            tls: Some(tls.clone()),
            allow_plain: brokers.iter().any(|broker| !broker.tls),
            allow_untrusted_broker: self.config.tls.allow_untrusted_brokers,
            ..MqttMtpConfig::new(endpoint_id, events, Arc::new(NoGreeting))
        });
        for (broker, password) in brokers.iter().zip(&passwords.mqtt) {
            let qos = match broker.qos {
                0 => Qos::AtMostOnce,
                1 => Qos::AtLeastOnce,
                _ => Qos::ExactlyOnce,
            };
            let client_id = match &broker.client_id {
                Some(id) => id.clone(),
                // Always the same, so that the broker finds what it kept for us (R-MQTT.8).
                None => self.endpoint_id.to_string(),
            };
            let settings = MqttClient {
                tls: broker.tls,
                client_id: Some(client_id),
                login: (broker.username.clone()).map(|name| (name, password.clone())),
                keep_alive: broker.keep_alive,
                clean_start: broker.session_expiry == 0,
                session_expiry: broker.session_expiry,
                response_topic: broker.topic.clone(),
                // It was looked at with the configuration.
                senders: broker.senders().unwrap_or_default(),
                retry: RetryPolicy::mqtt(BROKER_RETRY, 2000, BROKER_RETRY_MOST),
                subscribe_qos: qos,
                publish_qos: qos,
                ..MqttClient::new(broker.version.into(), &broker.host, broker.port())
            };
            mtp.open(&broker.name, settings.clone());
            shown.mqtt.push((broker.clone(), settings));
            if !broker.tls {
                shown.plain.insert((api::Mtp::Mqtt, broker.name.clone()));
            }
        }
        Some(mtp)
    }
}

impl Listening {
    fn link(&self) -> api::MtpLink {
        api::MtpLink {
            name: self.name.to_owned(),
            address: self.uri.clone(),
            secure: self.secure,
            state: api::LinkState::Listening,
            since: None,
            failures: 0,
            problem: None,
            reached_at: None,
        }
    }
}

fn link(name: &str, address: String, secure: bool, status: Option<Status>) -> api::MtpLink {
    let (state, problem) = match status.as_ref().map(|status| &status.state) {
        Some(State::Up) => (api::LinkState::Up, None),
        Some(State::Error(problem)) => (api::LinkState::Error, Some(problem.clone())),
        Some(State::Connecting) | None => (api::LinkState::Connecting, None),
    };
    api::MtpLink {
        name: name.to_owned(),
        address,
        secure,
        state,
        since: status
            .as_ref()
            .map(|status| Millis::from(status.since).to_timestamp()),
        failures: status.map_or(0, |status| status.failures),
        problem,
        reached_at: None,
    }
}

/// Host and port as in a URI.
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
