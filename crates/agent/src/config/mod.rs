//! The agent's configuration: one TOML file, every key also as an environment variable.
//!
//! Unknown keys are refused with their line and column. A value from the environment
//! (`HOMEFLEET_AGENT_…`, see [`KEYS`]) wins over the file. Relative paths are relative to the file.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use homefleet_usp::EndpointId;
use serde::Deserialize;

mod association;
mod cwmp;
mod enrol;
mod keys;
mod stun;
mod telemetry;
mod template;
mod url;

pub use self::{
    enrol::{EnrolConfig, FirstRequest, KeyType, ServerTrust},
    keys::{KEYS, Key},
    template::{Init, InitEnrol, template},
    url::{ControllerUrl, Place, UrlError},
};
pub use crate::transport::Secret;
use crate::{cwmp::CwmpConfig, stun::StunConfig, telemetry::factory::TelemetryConfig};

/// The only version of the file's form there is.
pub const VERSION: u32 = 1;

/// Everything the agent is told from outside.
#[derive(Clone, Debug)]
pub struct Config {
    /// The agent's own Endpoint ID; derived from the machine when absent (R-ARC: `os::OUI-serial`).
    pub endpoint_id: EndpointId,
    /// Where the state is kept (`agent.db`).
    pub data_dir: PathBuf,
    /// There is a CoAP MTP.
    pub coap: bool,
    /// DTLS address of the CoAP MTP; other MTPs that listen take its IP address.
    pub listen: SocketAddr,
    /// NoSec address of the CoAP MTP; absent: none.
    pub plain_listen: Option<SocketAddr>,
    /// The network interface on which the agent is discovered as one of All CoAP Nodes (RFC 7252 §8, R-COAP.1); absent: on none.
    pub discovery: Option<String>,
    /// Uri-Path of the agent's resource (R-COAP.1).
    pub path: String,
    /// `host[:port]` put into `reply-to`; absent: the local address of the route to the peer.
    pub advertise: Option<String>,
    /// Accept Records that came over a NoSec MTP (closed networks and tests only, R-MTP.0).
    pub allow_insecure: bool,
    /// How long a change by a Controller that cuts the way it came by has until the Controller is heard again; else it is undone.
    /// Zero: it just stays.
    pub rollback_after: Duration,
    /// Where WebSocket connections are taken.
    pub websocket: Option<WebSocketConfig>,
    /// The UNIX domain sockets of USP Services.
    pub uds: UdsConfig,
    /// The controller of the factory configuration (`Device.LocalAgent.Controller.1.`).
    pub controller: Option<ControllerConfig>,
    /// Certificates and time.
    pub trust: TrustConfig,
    /// Where the agent's own certificate comes from; absent: from the files that `trust` names.
    pub enrol: Option<EnrolConfig>,
    /// Receivers and subscriptions of telemetry.
    pub telemetry: TelemetryConfig,
    /// The device speaks USP; else only TR-069.
    pub usp: bool,
    /// The ACS, for devices that speak TR-069.
    pub cwmp: CwmpConfig,
    /// Who made the device and what it is called, where the machine does not say it right.
    pub identity: crate::provider::Identity,
    /// Who is behind which gateway, as DHCP tells it (TR-111 Part 1); absent: this machine takes no part.
    pub association: Option<crate::association::Settings>,
    /// Being reached behind address translation.
    pub stun: StunConfig,
    /// What controllers may do to the device itself.
    pub device: DeviceConfig,
    /// Bounds of everything that grows.
    pub limits: Limits,
    /// Log output.
    pub log: LogConfig,
}

/// The controller of the factory configuration.
#[derive(Clone, Debug)]
pub struct ControllerConfig {
    /// Its Endpoint ID.
    pub endpoint_id: EndpointId,
    /// Where it is.
    pub url: ControllerUrl,
    /// More about the broker in between.
    pub broker: BrokerConfig,
}

/// The broker between the agent and the controller of the factory configuration.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Name for the login.
    pub username: Option<String>,
    /// Password for the login.
    pub password: Option<Secret>,
    /// STOMP's virtual host.
    pub virtual_host: Option<String>,
    /// STOMP destination or MQTT topic at which the agent listens; absent: one made of its Endpoint ID.
    pub subscribe: Option<String>,
    /// MQTT 5.0, not 3.1.1.
    pub mqtt_5: bool,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            username: None,
            password: None,
            virtual_host: None,
            subscribe: None,
            mqtt_5: true,
        }
    }
}

/// Where WebSocket connections are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketConfig {
    /// TCP address.
    pub listen: SocketAddr,
    /// Path of the resource.
    pub path: String,
    /// TLS.
    pub encrypted: bool,
}

/// The UNIX domain sockets of USP Services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UdsConfig {
    /// Where the agent listens.
    pub listen: Option<PathBuf>,
    /// Where it connects to.
    pub connect: Option<PathBuf>,
}

/// Who is trusted, and who the agent is.
#[derive(Clone, Debug)]
pub struct TrustConfig {
    /// PEM file of the trusted CA certificates (R-SEC.2). May be absent when there is `enrol`: then those that came with the certificate.
    pub ca: Option<PathBuf>,
    /// PEM file of the certificates of Trusted Brokers (R-SEC.4a).
    pub brokers: Option<PathBuf>,
    /// PEM files of the agent's certificate chain, leaf first, and of its private key. Absent when there is `enrol`, and where only TR-069 is spoken.
    pub own: Option<OwnFiles>,
    /// Whether certificate dates are checked (R-MTP.2, R-MTP.3).
    pub time: TimeSource,
    /// Whether it is looked at if certificates were revoked.
    pub revocation: RevocationCheck,
    /// What follows when that cannot be found out.
    pub revocation_unknown: RevocationUnknown,
    /// Files with revocation lists.
    pub crls: Vec<PathBuf>,
    /// Whether Controllers that nobody vouches for are trusted on first use (`TOFUAllowed`), and after how many seconds
    /// without a Message their session ends (`TOFUInactivityTimer`); absent: what the data model says.
    pub first_use: Option<(bool, u32)>,
    /// How long after its start the agent waits for accurate time before it contacts a Controller (R-SEC.19).
    pub wait_for_time: Duration,
}

/// PEM files of the agent's own certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Where "accurate absolute time" comes from (R-MTP.2, R-MTP.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSource {
    /// The kernel says whether its clock is synchronised.
    Kernel,
    /// The clock is right (someone else looks after it).
    Accurate,
    /// There is no accurate time: dates in certificates are ignored.
    Unknown,
}

/// Which certificates may not be revoked (Figure MTP.1, "Revoked?").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationCheck {
    /// It is not looked at.
    Off,
    /// The Controller's own.
    Leaf,
    /// All of its path but the trusted CA's.
    Chain,
}

/// What follows when it cannot be found out whether a certificate is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationUnknown {
    /// The Controller is let in.
    Allow,
    /// It is refused.
    Refuse,
}

/// What controllers may do to the device itself.
#[derive(Clone, Copy, Debug)]
pub struct DeviceConfig {
    /// What `Device.Reboot()` and `Device.FactoryReset()` do.
    pub restart: Restart,
    /// Controllers may set interfaces up and down, and change other settings of the running system.
    pub allow_network_changes: bool,
}

/// What `Device.Reboot()` and `Device.FactoryReset()` do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// The machine is restarted.
    System,
    /// The agent alone starts again (containers, demonstrations).
    Agent,
    /// Nothing.
    Nothing,
}

/// Bounds of everything that grows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Subscriptions of all controllers together.
    pub max_subscriptions: usize,
    /// Notifications that wait for their NotifyResp.
    pub max_pending: usize,
    /// Asynchronous commands that run at the same time.
    pub max_requests: usize,
    /// Largest Record, bytes.
    pub max_record: usize,
    /// Controllers that came by themselves and have no role but the untrusted one.
    pub max_unknown_controllers: usize,
}

/// Log output.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Filter, for example `info` or `info,homefleet_agent=debug`.
    pub filter: String,
    /// JSON instead of text.
    pub json: bool,
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be; the reason names line and column.
    #[error("{path}: {reason}", path = .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, column and what is wrong there.
        reason: String,
    },
    /// The environment sets a key to something it cannot be.
    #[error("environment variable {name}: {reason}")]
    Environment {
        /// The variable.
        name: String,
        /// What is wrong with its value.
        reason: String,
    },
    /// A key that must be there is not.
    #[error("`{key}` is not set: write it in the file, or set {variable}")]
    Missing {
        /// The key, for example `trust.ca`.
        key: &'static str,
        /// Its environment variable.
        variable: String,
    },
    /// Keys contradict each other.
    #[error("`{key}`: {reason}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// What is wrong, and what to do.
        reason: String,
    },
}

/// The file as written: everything optional, nothing unknown.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) version: Option<u32>,
    #[serde(default, deserialize_with = "keys::parsed")]
    pub(crate) endpoint_id: Option<EndpointId>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) plain_listen: Option<SocketAddr>,
    pub(crate) discovery: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) advertise: Option<String>,
    pub(crate) allow_insecure: Option<bool>,
    pub(crate) rollback_after: Option<u32>,
    #[serde(default)]
    pub(crate) websocket: WebSocketFile,
    #[serde(default)]
    pub(crate) uds: UdsFile,
    #[serde(default)]
    pub(crate) controller: ControllerFile,
    #[serde(default)]
    pub(crate) trust: TrustFile,
    #[serde(default)]
    pub(crate) enrol: enrol::EnrolFile,
    #[serde(default)]
    pub(crate) telemetry: telemetry::TelemetryFile,
    #[serde(default)]
    pub(crate) association: association::AssociationFile,
    #[serde(default)]
    pub(crate) stun: stun::StunFile,
    #[serde(default)]
    pub(crate) cwmp: cwmp::CwmpFile,
    #[serde(default)]
    pub(crate) device: DeviceFile,
    #[serde(default)]
    pub(crate) limits: LimitsFile,
    #[serde(default)]
    pub(crate) log: LogFile,
}

/// Holds a password: shown nowhere.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ControllerFile {
    #[serde(default, deserialize_with = "keys::parsed")]
    pub(crate) endpoint_id: Option<EndpointId>,
    #[serde(default, deserialize_with = "keys::parsed")]
    pub(crate) url: Option<ControllerUrl>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) virtual_host: Option<String>,
    pub(crate) subscribe: Option<String>,
    pub(crate) mqtt_version: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebSocketFile {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) path: Option<String>,
    pub(crate) encrypted: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UdsFile {
    pub(crate) listen: Option<PathBuf>,
    pub(crate) connect: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrustFile {
    pub(crate) ca: Option<PathBuf>,
    pub(crate) brokers: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    #[serde(default, deserialize_with = "keys::parsed")]
    pub(crate) time: Option<TimeSource>,
    #[serde(default, deserialize_with = "keys::parsed")]
    pub(crate) revocation: Option<RevocationCheck>,
    #[serde(default, deserialize_with = "keys::parsed")]
    pub(crate) revocation_unknown: Option<RevocationUnknown>,
    pub(crate) crls: Option<Vec<PathBuf>>,
    pub(crate) first_use: Option<bool>,
    pub(crate) first_use_timer: Option<u32>,
    pub(crate) wait_for_time: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceFile {
    #[serde(default, deserialize_with = "keys::parsed")]
    pub(crate) restart: Option<Restart>,
    pub(crate) allow_network_changes: Option<bool>,
    #[serde(default, deserialize_with = "keys::parsed")]
    pub(crate) oui: Option<association::Oui>,
    pub(crate) serial_number: Option<String>,
    pub(crate) product_class: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsFile {
    pub(crate) max_subscriptions: Option<usize>,
    pub(crate) max_pending: Option<usize>,
    pub(crate) max_requests: Option<usize>,
    pub(crate) max_record: Option<usize>,
    pub(crate) max_unknown_controllers: Option<usize>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogFile {
    pub(crate) filter: Option<String>,
    pub(crate) json: Option<bool>,
}

impl Config {
    /// Reads `path` and the process environment.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that says where and what.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let known = |name: &str| {
            name == "HOMEFLEET_AGENT_CONFIG" || KEYS.iter().any(|key| key.variable() == name)
        };
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        if let Some(name) = names
            .into_iter()
            .find(|name| name.starts_with(keys::PREFIX) && !known(name))
        {
            return Err(ConfigError::Environment {
                name,
                reason: "there is no such key".into(),
            });
        }
        Self::parse(&text, path, |name| std::env::var(name).ok())
    }

    /// Reads `text` as the content of `path`, with `environment` as the environment.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that says where and what.
    pub fn parse(
        text: &str,
        path: &Path,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let syntax = |reason: String| ConfigError::Syntax {
            path: path.to_owned(),
            reason,
        };
        let mut file: File =
            toml::from_str(text).map_err(|e| syntax(e.to_string().trim_end().to_owned()))?;
        for key in KEYS {
            let name = key.variable();
            if let Some(value) = environment(&name) {
                (key.set)(&mut file, &value)
                    .map_err(|reason| ConfigError::Environment { name, reason })?;
            }
        }
        file.finish(path.parent().unwrap_or(Path::new(".")))
    }
}

impl File {
    /// Fills in defaults and checks what depends on more than one key.
    fn finish(self, base: &Path) -> Result<Config, ConfigError> {
        match self.version {
            Some(VERSION) => {}
            Some(other) => {
                return Err(ConfigError::Invalid {
                    key: "version",
                    reason: format!(
                        "this agent reads version {VERSION}, the file is version {other}"
                    ),
                });
            }
            None => return Err(missing("version")),
        }
        let allow_insecure = self.allow_insecure.unwrap_or(false);
        let cwmp = self.cwmp.finish(base)?;
        let coap = self.listen.is_some()
            || self.plain_listen.is_some()
            || match self.controller.url {
                None => !cwmp.enabled,
                Some(ControllerUrl::Coap(_)) => true,
                Some(_) => false,
            };
        // A device that speaks TR-069 alone may do without certificates.
        let usp = coap
            || self.controller.url.is_some()
            || self.websocket.listen.is_some()
            || self.uds.listen.is_some()
            || self.uds.connect.is_some();
        let controller = self.controller.finish(base)?;
        if let Some(controller) = &controller {
            check_controller(controller, allow_insecure, self.trust.brokers.is_some())?;
        }
        let websocket = self.websocket.finish(allow_insecure)?;
        let uds = self.uds.finish(base);
        let telemetry = self.telemetry.finish(base)?;
        let stun = self.stun.finish(base)?;
        if self.plain_listen.is_some() && !allow_insecure {
            return Err(ConfigError::Invalid {
                key: "plain_listen",
                reason: "nothing received there would be accepted: set allow_insecure = true too, or remove it".into(),
            });
        }
        if self.discovery.is_some()
            && !(self.plain_listen).is_some_and(|listen| listen.ip().is_unspecified())
        {
            return Err(ConfigError::Invalid {
                key: "discovery",
                reason: "groups are asked without encryption, and heard on a socket of all addresses: set plain_listen to 0.0.0.0:5683 or [::]:5683".into(),
            });
        }
        let enrol = self.enrol.finish(base, self.trust.ca.is_some())?;
        let file = |value: Option<PathBuf>, key| {
            value
                .map(|path| base.join(path))
                .ok_or_else(|| missing(key))
        };
        let ca = match &enrol {
            Some(_) => self.trust.ca.map(|path| base.join(path)),
            None if !usp => self.trust.ca.map(|path| base.join(path)),
            None => Some(file(self.trust.ca, "trust.ca")?),
        };
        let own = match (&enrol, self.trust.certificate, self.trust.key) {
            (None, None, None) if !usp => None,
            (None, certificate, key) => Some(OwnFiles {
                certificate: file(certificate, "trust.certificate")?,
                key: file(key, "trust.key")?,
            }),
            (Some(_), None, None) => None,
            (Some(_), _, _) => {
                return Err(invalid(
                    "trust.certificate",
                    "with [enrol] the certificate comes from the CA and its key stays in the state: remove certificate and key here; those of \
                     the manufacturer go under [enrol]",
                ));
            }
        };
        let revocation = self.trust.revocation.unwrap_or(RevocationCheck::Off);
        let crls = self.trust.crls.unwrap_or_default();
        if !crls.is_empty() && revocation == RevocationCheck::Off {
            return Err(ConfigError::Invalid {
                key: "trust.crls",
                reason: "nobody would look at them: set trust.revocation to leaf or chain, or remove them".into(),
            });
        }
        let limits = Limits::default();
        let data_dir = base.join(
            self.data_dir
                .unwrap_or_else(|| PathBuf::from("/var/lib/homefleet-agent")),
        );
        let identity = crate::provider::Identity {
            oui: self.device.oui.map(|oui| oui.0),
            serial_number: self.device.serial_number,
            product_class: self.device.product_class,
            ..crate::provider::Identity::default()
        };
        let association = self.association.finish(base, &data_dir, &identity)?;
        Ok(Config {
            endpoint_id: match self.endpoint_id {
                Some(id) => id,
                None => {
                    let (oui, serial) =
                        (identity.oui.as_deref(), identity.serial_number.as_deref());
                    crate::identity::endpoint_id_of(oui, serial).map_err(|reason| {
                        let reason = format!(
                            "cannot be derived from this machine ({reason}): write it in the file"
                        );
                        invalid("endpoint_id", reason)
                    })?
                }
            },
            data_dir,
            coap,
            listen: self
                .listen
                .unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 5684))),
            plain_listen: self.plain_listen,
            discovery: self.discovery,
            path: self
                .path
                .unwrap_or_else(|| "usp".into())
                .trim_matches('/')
                .to_owned(),
            advertise: self.advertise.filter(|text| !text.is_empty()),
            allow_insecure,
            rollback_after: Duration::from_secs(self.rollback_after.unwrap_or(120).into()),
            websocket,
            uds,
            controller,
            trust: TrustConfig {
                ca,
                brokers: self.trust.brokers.map(|path| base.join(path)),
                own,
                time: self.trust.time.unwrap_or(TimeSource::Kernel),
                revocation,
                revocation_unknown: self
                    .trust
                    .revocation_unknown
                    .unwrap_or(RevocationUnknown::Allow),
                crls: crls.into_iter().map(|path| base.join(path)).collect(),
                first_use: match (self.trust.first_use, self.trust.first_use_timer) {
                    (None, None) => None,
                    (allowed, seconds) => Some((allowed.unwrap_or(false), seconds.unwrap_or(60))),
                },
                wait_for_time: Duration::from_secs(self.trust.wait_for_time.unwrap_or(60).into()),
            },
            enrol,
            telemetry,
            stun,
            identity,
            association,
            usp,
            cwmp,
            device: DeviceConfig {
                restart: self.device.restart.unwrap_or(Restart::System),
                allow_network_changes: self.device.allow_network_changes.unwrap_or(false),
            },
            limits: Limits {
                max_subscriptions: self
                    .limits
                    .max_subscriptions
                    .unwrap_or(limits.max_subscriptions),
                max_pending: self.limits.max_pending.unwrap_or(limits.max_pending),
                max_requests: self.limits.max_requests.unwrap_or(limits.max_requests),
                max_record: self.limits.max_record.unwrap_or(limits.max_record),
                max_unknown_controllers: self
                    .limits
                    .max_unknown_controllers
                    .unwrap_or(limits.max_unknown_controllers),
            },
            log: LogConfig {
                filter: self.log.filter.unwrap_or_else(|| "info".into()),
                json: self.log.json.unwrap_or(false),
            },
        })
    }
}

impl ControllerFile {
    fn finish(self, base: &Path) -> Result<Option<ControllerConfig>, ConfigError> {
        let password = match (self.password, self.password_file) {
            (Some(password), _) => Some(Secret::new(password)),
            (None, Some(path)) => {
                let path = base.join(path);
                let text = std::fs::read_to_string(&path)
                    .map_err(|source| ConfigError::Read { path, source })?;
                Some(Secret::new(text.trim_end_matches(['\r', '\n'])))
            }
            (None, None) => None,
        };
        let (endpoint_id, url) = match (self.endpoint_id, self.url) {
            (None, None) => return Ok(None),
            (Some(_), None) => return Err(missing("controller.url")),
            (None, Some(_)) => return Err(missing("controller.endpoint_id")),
            (Some(endpoint_id), Some(url)) => (endpoint_id, url),
        };
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        let broker = BrokerConfig {
            username: some(self.username),
            password,
            virtual_host: some(self.virtual_host),
            subscribe: some(self.subscribe),
            mqtt_5: match self.mqtt_version.as_deref() {
                None | Some("5.0") => true,
                Some("3.1.1") => false,
                Some(other) => {
                    return Err(invalid(
                        "controller.mqtt_version",
                        format!("`{other}` is not one of `5.0`, `3.1.1`"),
                    ));
                }
            },
        };
        if broker.password.is_some() && broker.username.is_none() {
            return Err(missing("controller.username"));
        }
        Ok(Some(ControllerConfig {
            endpoint_id,
            url,
            broker,
        }))
    }
}

/// What a controller's URL asks of other keys.
fn check_controller(
    controller: &ControllerConfig,
    allow_insecure: bool,
    has_brokers: bool,
) -> Result<(), ConfigError> {
    let key = "controller.url";
    let url = &controller.url;
    if !url.is_protected() && !allow_insecure {
        let reason = format!(
            "{url} is not encrypted: use coaps://, wss://, stomps:// or mqtts://, or set allow_insecure = true in a closed network"
        );
        return Err(invalid(key, reason));
    }
    if let ControllerUrl::Coap(uri) = url
        && !uri.query.is_empty()
    {
        return Err(invalid(
            key,
            "a controller's CoAP URI has no query (R-COAP.2)",
        ));
    }
    if url.is_brokered() && !has_brokers && !allow_insecure {
        return Err(invalid(
            "trust.brokers",
            "a broker stands between agent and controller, and vouches for what it hands on: name the PEM file of its own \
             certificate here (R-SEC.4a), or set allow_insecure = true in a closed network",
        ));
    }
    if let ControllerUrl::Mqtt(place) = url
        && place.path.contains(['+', '#'])
    {
        return Err(invalid(
            key,
            "the topic that a controller listens at has no wildcards",
        ));
    }
    Ok(())
}

impl WebSocketFile {
    fn finish(self, allow_insecure: bool) -> Result<Option<WebSocketConfig>, ConfigError> {
        let Some(listen) = self.listen else {
            return match (self.path, self.encrypted) {
                (None, None) => Ok(None),
                _ => Err(missing("websocket.listen")),
            };
        };
        let encrypted = self.encrypted.unwrap_or(true);
        if !encrypted && !allow_insecure {
            return Err(invalid(
                "websocket.encrypted",
                "nothing received there would be accepted: set allow_insecure = true too, or leave it out",
            ));
        }
        let path = self.path.unwrap_or_else(|| "/usp".into());
        Ok(Some(WebSocketConfig {
            listen,
            path: format!("/{}", path.trim_start_matches('/')),
            encrypted,
        }))
    }
}

impl UdsFile {
    fn finish(self, base: &Path) -> UdsConfig {
        UdsConfig {
            listen: self.listen.map(|path| base.join(path)),
            connect: self.connect.map(|path| base.join(path)),
        }
    }
}

fn invalid(key: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Invalid {
        key,
        reason: reason.into(),
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_subscriptions: 100,
            max_pending: 1000,
            max_requests: 16,
            max_record: 1024 * 1024,
            max_unknown_controllers: 16,
        }
    }
}

impl std::str::FromStr for RevocationCheck {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            "leaf" => Ok(Self::Leaf),
            "chain" => Ok(Self::Chain),
            other => Err(format!("`{other}` is not one of `off`, `leaf`, `chain`")),
        }
    }
}

impl std::str::FromStr for RevocationUnknown {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "allow" => Ok(Self::Allow),
            "refuse" => Ok(Self::Refuse),
            other => Err(format!("`{other}` is not one of `allow`, `refuse`")),
        }
    }
}

impl std::str::FromStr for TimeSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "kernel" => Ok(Self::Kernel),
            "accurate" => Ok(Self::Accurate),
            "unknown" => Ok(Self::Unknown),
            other => Err(format!(
                "`{other}` is not one of `kernel`, `accurate`, `unknown`"
            )),
        }
    }
}

impl std::str::FromStr for Restart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "system" => Ok(Self::System),
            "agent" => Ok(Self::Agent),
            "nothing" => Ok(Self::Nothing),
            other => Err(format!(
                "`{other}` is not one of `system`, `agent`, `nothing`"
            )),
        }
    }
}

fn missing(key: &'static str) -> ConfigError {
    ConfigError::Missing {
        key,
        variable: keys::variable(key),
    }
}
