//! The configuration: one TOML file, `version = 1`, every key also as an environment variable.
//!
//! Unknown keys are refused with line and column. The variable of `http.listen` is `HOMEFLEET_HTTP_LISTEN`,
//! that of `endpoint_id` is `HOMEFLEET_ENDPOINT_ID`; lists are separated by commas. Variables win over the file.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

mod acs;
mod cmp;
mod home;
mod keys;
mod mtp;
mod notif;
mod pki;
mod proxy;
mod proxy_keys;
mod stun;
mod template;

pub(crate) use acs::not_a_network;
pub use acs::{Acs, UnknownCpes};
pub use cmp::{Cmp, CmpUpstream};
pub use home::Home;
pub use keys::{Key, Kind, keys};
pub use mtp::{ListeningAgent, Mqtt, Passwords, Stomp, Uds, Url, Version, WebSocket};
pub use notif::{
    DtlsVersions, Notif, NotifOutput, NotifProfile, NotifPublisher, OutputKind, Series,
    UnknownPublishers,
};
pub use pki::{PASSPHRASE_VARIABLE, PIN_VARIABLE, Pki, PkiProfile, read_secret};
pub(crate) use proxy::kinds;
pub use proxy::{Proxy, ProxyCheck, ProxyFile, ProxyRole, ProxyRoute, ProxyUpstream};
pub(crate) use stun::split;
pub use stun::{Authenticate, Learn, Stun};
pub use template::{proxy_template, template};

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Version of the file's format: 1.
    pub version: u32,
    /// Own Endpoint ID as a USP Controller; the certificate must carry it (R-SEC.0a).
    pub endpoint_id: String,
    /// Directory of the store.
    pub data_dir: PathBuf,
    /// Logs.
    #[serde(default)]
    pub log: Log,
    /// Devices over CoAP.
    #[serde(default)]
    pub coap: Coap,
    /// Devices over WebSocket.
    #[serde(default)]
    pub websocket: WebSocket,
    /// Devices at STOMP brokers.
    #[serde(default)]
    pub stomp: Vec<Stomp>,
    /// Devices at MQTT brokers.
    #[serde(default)]
    pub mqtt: Vec<Mqtt>,
    /// Devices on this machine.
    #[serde(default)]
    pub uds: Uds,
    /// Own certificate and trusted CAs.
    pub tls: Tls,
    /// REST API and console.
    #[serde(default)]
    pub http: Http,
    /// Registry.
    #[serde(default)]
    pub device: Device,
    /// Task queue.
    #[serde(default)]
    pub task: Task,
    /// Subscriptions kept on every device.
    #[serde(default)]
    pub subscribe: Subscribe,
    /// Audit log.
    #[serde(default)]
    pub audit: Audit,
    /// Devices over TR-069.
    #[serde(default)]
    pub acs: Acs,
    /// Reaching devices behind address translation.
    #[serde(default)]
    pub stun: Stun,
    /// Who is behind which gateway.
    #[serde(default)]
    pub home: Home,
    /// Certificates for devices.
    #[serde(default)]
    pub cmp: Cmp,
    /// Telemetry.
    #[serde(default)]
    pub notif: Notif,
    /// The CA.
    #[serde(default)]
    pub pki: Pki,
    /// Certificates of CAs elsewhere.
    #[serde(default)]
    pub proxy: Proxy,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Filter such as `info` or `info,homefleet_net=debug`.
    pub filter: String,
    /// One JSON object per line.
    pub json: bool,
}

/// `[coap]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Coap {
    /// Address for CoAP in DTLS.
    pub listen: SocketAddr,
    /// Address for CoAP without security; for laboratories only.
    pub plain_listen: Option<SocketAddr>,
    /// Uri-Path of the USP resource (R-COAP.1).
    pub path: String,
    /// `host` or `host:port` that devices answer to; absent = the local address of the route to the device.
    pub advertise: Option<String>,
}

/// `[tls]`: PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Own certificate chain, leaf first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// CAs that devices' certificates must lead to.
    pub anchors: PathBuf,
    /// Certificates of Trusted Brokers (R-SEC.4a).
    #[serde(default)]
    pub brokers: Option<PathBuf>,
    /// Records are taken from brokers over TLS that are not Trusted Brokers.
    #[serde(default)]
    pub allow_untrusted_brokers: bool,
    /// Seconds between two looks whether the files changed; 0 = never.
    #[serde(default = "Tls::default_watch")]
    pub watch: u64,
    /// Whether certificates were revoked.
    #[serde(default)]
    pub revocation: Revocation,
}

/// `[tls.revocation]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Revocation {
    /// Which certificates of a device's chain are looked at.
    pub check: RevocationCheck,
    /// What follows when it cannot be found out.
    pub unknown: RevocationUnknown,
    /// Files with CRLs, PEM or DER.
    pub crls: Vec<PathBuf>,
    /// Fetch CRLs and OCSP responses from the addresses in the certificates.
    pub fetch: bool,
    /// Seconds after which evidence in use is fetched again.
    pub refresh: u64,
    /// Seconds one fetch may take.
    pub timeout: u64,
    /// Seconds for which what could not be fetched is not wanted again.
    pub retry: u64,
    /// Longest CRL, in bytes.
    pub max_crl_size: usize,
    /// Longest OCSP response, in bytes.
    pub max_ocsp_size: usize,
}

/// Which certificates are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationCheck {
    /// None.
    Off,
    /// The device's own.
    Leaf,
    /// All but the trusted one.
    Chain,
}

/// What follows when nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationUnknown {
    /// The device connects.
    Allow,
    /// It is refused.
    Refuse,
}

impl Default for Revocation {
    fn default() -> Self {
        Self {
            check: RevocationCheck::Off,
            unknown: RevocationUnknown::Allow,
            crls: Vec::new(),
            fetch: true,
            refresh: 3600,
            timeout: 10,
            retry: 60,
            max_crl_size: 1024 * 1024,
            max_ocsp_size: 64 * 1024,
        }
    }
}

impl Tls {
    /// Files with everything else by default.
    pub fn new(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        anchors: impl Into<PathBuf>,
    ) -> Self {
        Self {
            certificate: certificate.into(),
            key: key.into(),
            anchors: anchors.into(),
            brokers: None,
            allow_untrusted_brokers: false,
            watch: Self::default_watch(),
            revocation: Revocation::default(),
        }
    }

    fn default_watch() -> u64 {
        10
    }

    /// Every file named.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.certificate, &self.key, &self.anchors]
            .into_iter()
            .chain(&self.brokers)
            .chain(&self.revocation.crls)
            .map(PathBuf::as_path)
    }
}

/// `[http]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Address of the REST API and the console.
    pub listen: SocketAddr,
    /// There is a proxy in front that speaks TLS. Needed for any address that is not loopback.
    pub behind_tls_proxy: bool,
    /// `/metrics` without a token.
    pub public_metrics: bool,
    /// Largest body of a request, in bytes.
    pub body_limit: usize,
}

/// `[device]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Device {
    /// Seconds after its last message for which a device is called reachable.
    pub reachable_for: u64,
    /// Most devices.
    pub max: usize,
    /// Refuse a known device that presents another certificate, even from a trusted CA.
    pub pin_certificates: bool,
    /// Most values kept of a device.
    pub max_values: u32,
    /// Longest value kept, in bytes.
    pub max_value_length: usize,
    /// Longest text of a device about itself kept, in bytes.
    pub max_text_length: usize,
    /// Most notifications of a device remembered.
    pub max_seen: u32,
    /// Most answers on their way to a device.
    pub max_answers: usize,
    /// Most readings of a device in an hour that it causes itself.
    pub readings_per_hour: u32,
}

/// `[task]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Task {
    /// Seconds until a task that asks for no lifetime expires.
    pub expires_in: u64,
    /// Seconds an answer is awaited.
    pub answer_timeout: u64,
    /// Seconds of the first pause after a failed attempt.
    pub retry_first: u64,
    /// Seconds of the longest pause.
    pub retry_max: u64,
    /// Seconds of silence after which a device is probed before Add or Operate.
    pub probe_after: u64,
    /// Most open tasks per device.
    pub per_device: usize,
    /// Most open tasks.
    pub total: usize,
    /// Days finished tasks are kept.
    pub keep_days: u64,
}

/// `[subscribe]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Subscribe {
    /// Be told of `Device.Boot!`.
    pub boot: bool,
    /// Be told when a command completes.
    pub operation_complete: bool,
    /// Paths whose changes of value are wanted.
    pub value_change: Vec<String>,
}

/// `[audit]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Days entries of the audit log are kept.
    pub keep_days: u64,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            json: false,
        }
    }
}

impl Default for Coap {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5684)),
            plain_listen: None,
            path: "usp".to_owned(),
            advertise: None,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            behind_tls_proxy: false,
            public_metrics: false,
            body_limit: 1024 * 1024,
        }
    }
}

impl Default for Device {
    fn default() -> Self {
        Self {
            reachable_for: 900,
            max: 100_000,
            pin_certificates: false,
            max_values: 100_000,
            max_value_length: 64 * 1024,
            max_text_length: 256,
            max_seen: 8192,
            max_answers: 64,
            readings_per_hour: 12,
        }
    }
}

impl Default for Task {
    fn default() -> Self {
        Self {
            expires_in: 86_400,
            answer_timeout: 60,
            retry_first: 5,
            retry_max: 300,
            probe_after: 60,
            per_device: 256,
            total: 100_000,
            keep_days: 30,
        }
    }
}

impl Default for Audit {
    fn default() -> Self {
        Self { keep_days: 365 }
    }
}

impl Default for Subscribe {
    fn default() -> Self {
        Self {
            boot: true,
            operation_complete: true,
            value_change: vec![
                "Device.DeviceInfo.SoftwareVersion".to_owned(),
                "Device.IP.Interface.*.Status".to_owned(),
                "Device.IP.Interface.*.IPv4Address.*.IPAddress".to_owned(),
            ],
        }
    }
}

/// What is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {problem}")]
    Read {
        /// File.
        path: String,
        /// Why.
        problem: String,
    },
    /// The text is not what is expected.
    #[error("{origin}:{line}:{column}: {problem}")]
    Syntax {
        /// File or variable.
        origin: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What was found and what was expected.
        problem: String,
    },
    /// An environment variable is not what is expected.
    #[error("environment variable {name}: {problem}")]
    Variable {
        /// Its name.
        name: String,
        /// What was found and what was expected.
        problem: String,
    },
    /// A value makes no sense.
    #[error("{key}: {problem}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was found and what was expected.
        problem: String,
    },
}

impl Config {
    /// A configuration with defaults, listening on loopback ports chosen by the system: for demos and tests.
    pub fn new(endpoint_id: impl Into<String>, data_dir: impl Into<PathBuf>, tls: Tls) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            version: 1,
            endpoint_id: endpoint_id.into(),
            data_dir: data_dir.into(),
            log: Log::default(),
            coap: Coap {
                listen: any,
                ..Coap::default()
            },
            websocket: WebSocket::default(),
            uds: Uds::default(),
            stomp: Vec::new(),
            mqtt: Vec::new(),
            tls,
            http: Http {
                listen: any,
                ..Http::default()
            },
            device: Device::default(),
            task: Task::default(),
            subscribe: Subscribe::default(),
            audit: Audit::default(),
            acs: Acs::default(),
            stun: Stun::default(),
            home: Home::default(),
            cmp: Cmp::default(),
            notif: Notif::default(),
            pki: Pki::default(),
            proxy: Proxy::default(),
        }
    }

    /// Reads a file, applies the process's environment and checks the result.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read {
            path: path.display().to_string(),
            problem: error.to_string(),
        })?;
        let config = Self::parse(&text, &path.display().to_string(), |name| {
            std::env::var(name).ok()
        })?;
        config.check()?;
        Ok(config)
    }

    /// Reads a text; `variable` looks up environment variables. `origin` names the text in errors.
    pub fn parse(
        text: &str,
        origin: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        read(text, origin, |_| true, variable)
    }

    /// Checks what the syntax cannot express.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key: &'static str, problem: String| Err(ConfigError::Value { key, problem });
        if self.version != 1 {
            return wrong("version", format!("found {}, expected 1", self.version));
        }
        if let Err(error) = self.endpoint_id.parse::<homefleet_usp::EndpointId>() {
            return wrong("endpoint_id", error.to_string());
        }
        if self.coap.path.is_empty()
            || self
                .coap
                .path
                .split('/')
                .any(|segment| segment.is_empty() || segment.len() > 255)
        {
            return wrong(
                "coap.path",
                format!(
                    "`{}` is not a path of segments with 1 to 255 bytes",
                    self.coap.path
                ),
            );
        }
        self.check_mtps()?;
        self.check_acs()?;
        self.check_stun()?;
        self.check_home()?;
        self.check_cmp()?;
        self.check_notif()?;
        self.check_pki()?;
        self.check_proxy()?;
        if !self.http.listen.ip().is_loopback() && !self.http.behind_tls_proxy {
            return wrong(
                "http.listen",
                format!(
                    "{} is not a loopback address and this server does not speak TLS on HTTP: tokens and values would \
                     cross the network in the clear. Put a proxy that speaks TLS in front and set \
                     http.behind_tls_proxy = true, or listen on 127.0.0.1",
                    self.http.listen
                ),
            );
        }
        if !(1024..=64 * 1024 * 1024).contains(&self.http.body_limit) {
            return wrong(
                "http.body_limit",
                format!("found {}, expected 1024 to 67108864", self.http.body_limit),
            );
        }
        let revocation = &self.tls.revocation;
        if !(1..=30).contains(&revocation.timeout) {
            return wrong(
                "tls.revocation.timeout",
                format!(
                    "found {}, expected 1 to 30: a device waits meanwhile",
                    revocation.timeout
                ),
            );
        }
        for (key, size) in [
            ("tls.revocation.max_crl_size", revocation.max_crl_size),
            ("tls.revocation.max_ocsp_size", revocation.max_ocsp_size),
        ] {
            if !(1024..=64 * 1024 * 1024).contains(&size) {
                return wrong(key, format!("found {size}, expected 1024 to 67108864"));
            }
        }
        let task = &self.task;
        for (key, value) in [
            ("tls.revocation.refresh", revocation.refresh),
            ("tls.revocation.retry", revocation.retry),
            ("task.expires_in", task.expires_in),
            ("task.answer_timeout", task.answer_timeout),
            ("task.retry_first", task.retry_first),
            ("task.keep_days", task.keep_days),
            ("audit.keep_days", self.audit.keep_days),
            ("device.reachable_for", self.device.reachable_for),
        ] {
            if value == 0 {
                return wrong(key, "found 0, expected at least 1".to_owned());
            }
        }
        let device = &self.device;
        for (key, is_zero) in [
            ("device.max_values", device.max_values == 0),
            ("device.max_value_length", device.max_value_length == 0),
            ("device.max_text_length", device.max_text_length == 0),
            ("device.max_seen", device.max_seen == 0),
            ("device.max_answers", device.max_answers == 0),
            ("device.readings_per_hour", device.readings_per_hour == 0),
        ] {
            if is_zero {
                return wrong(key, "found 0, expected at least 1".to_owned());
            }
        }
        if task.retry_max < task.retry_first {
            return wrong(
                "task.retry_max",
                format!(
                    "found {}, expected at least task.retry_first",
                    task.retry_max
                ),
            );
        }
        for path in &self.subscribe.value_change {
            if let Err(error) = homefleet_model::path::Path::parse(path) {
                return wrong("subscribe.value_change", format!("`{path}`: {error}"));
            }
        }
        Ok(())
    }

    /// The store's file.
    pub fn store_path(&self) -> PathBuf {
        self.data_dir.join("store.sqlite")
    }

    /// What the store needs of it.
    pub(crate) fn limits(&self) -> crate::store::Limits {
        crate::store::Limits {
            values: self.device.max_values,
            value_length: self.device.max_value_length,
            seen: self.device.max_seen,
        }
    }

    /// What the core needs of it.
    pub(crate) fn core(&self) -> crate::core::CoreConfig {
        crate::core::CoreConfig {
            endpoint_id: self.endpoint_id.clone(),
            registry: crate::device::RegistryConfig {
                reachable_for: Duration::from_secs(self.device.reachable_for),
                max_devices: self.device.max,
                pin_certificates: self.device.pin_certificates,
            },
            queue: crate::task::QueueConfig {
                answer_timeout: Duration::from_secs(self.task.answer_timeout),
                retry_first: Duration::from_secs(self.task.retry_first),
                retry_max: Duration::from_secs(self.task.retry_max),
                probe_after: Duration::from_secs(self.task.probe_after),
                per_device: self.task.per_device,
                total: self.task.total,
                ..crate::task::QueueConfig::default()
            },
            default_expiry: Duration::from_secs(self.task.expires_in),
            keep: Duration::from_secs(self.task.keep_days.saturating_mul(86_400)),
            keep_audit: Duration::from_secs(self.audit.keep_days.saturating_mul(86_400)),
            event_buffer: 4096,
            limits: crate::core::DeviceLimits {
                answers: self.device.max_answers,
                readings_per_hour: self.device.readings_per_hour,
                text_length: self.device.max_text_length,
            },
            subscriptions: self.subscriptions(),
            home: self.homes(),
        }
    }

    fn subscriptions(&self) -> Vec<crate::core::WantedSubscription> {
        let wanted =
            |id: &str, notification: &str, paths: Vec<String>| crate::core::WantedSubscription {
                id: id.to_owned(),
                notification: notification.to_owned(),
                paths,
            };
        let mut all = Vec::new();
        if self.subscribe.boot {
            all.push(wanted(
                "homefleet-boot",
                "Event",
                vec!["Device.Boot!".to_owned()],
            ));
        }
        if self.subscribe.operation_complete {
            all.push(wanted(
                "homefleet-complete",
                "OperationComplete",
                vec!["Device.".to_owned()],
            ));
        }
        // One subscription per path: a device that lacks one path still has the others.
        for path in &self.subscribe.value_change {
            let digest = crate::account::short_digest(path);
            all.push(wanted(
                &format!("homefleet-value-{digest}"),
                "ValueChange",
                vec![path.clone()],
            ));
        }
        all
    }
}

/// A key given by an environment variable.
struct Given<'a> {
    key: &'a Key,
    /// Which of several sections.
    place: usize,
    name: String,
    path: String,
    value: String,
}

/// Reads a text, applies the environment variables of the keys that are `of` it.
fn read<T: serde::de::DeserializeOwned>(
    text: &str,
    origin: &str,
    of: impl Fn(&str) -> bool,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<T, ConfigError> {
    // In the order of their places, so that the sections of a list are made one after the other.
    let mut variables: Vec<Given<'_>> = keys::keys()
        .filter(|key| of(key.path))
        .flat_map(|key| {
            key.variables()
                .enumerate()
                .map(move |(place, (name, path))| (key, place, name, path))
        })
        .filter_map(|(key, place, name, path)| {
            variable(&name).map(|value| Given {
                key,
                place,
                name,
                path,
                value,
            })
        })
        .collect();
    variables.sort_by_key(|given| given.place);
    if variables.is_empty() {
        return toml::from_str(text).map_err(|error| syntax(text, origin, &error));
    }
    let mut table: toml::Table =
        toml::from_str(text).map_err(|error| syntax(text, origin, &error))?;
    for given in &variables {
        let wrong = |problem| ConfigError::Variable {
            name: given.name.clone(),
            problem,
        };
        let value = given.key.value(&given.value).map_err(wrong)?;
        keys::insert(&mut table, &given.path, value).map_err(wrong)?;
    }
    // Written out and read again, so that whatever is wrong is reported with its place in the file when
    // the file is to blame, and by the variables otherwise.
    match table.try_into() {
        Ok(config) => Ok(config),
        Err(error) => match toml::from_str::<T>(text) {
            Err(in_file) if in_file.span().is_some_and(|span| !span.is_empty()) => {
                Err(syntax(text, origin, &in_file))
            }
            _ => Err(ConfigError::Variable {
                name: variables
                    .iter()
                    .map(|given| given.name.clone())
                    .collect::<Vec<_>>()
                    .join(", "),
                problem: error.message().to_owned(),
            }),
        },
    }
}

fn syntax(text: &str, origin: &str, error: &toml::de::Error) -> ConfigError {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let before = text.get(..at).unwrap_or(text);
    ConfigError::Syntax {
        origin: origin.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before.rsplit('\n').next().unwrap_or("").chars().count() + 1,
        problem: error.message().to_owned(),
    }
}
