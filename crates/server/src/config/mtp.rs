//! The MTPs besides CoAP: `[websocket]`, `[[stomp]]`, `[[mqtt]]`, `[uds]`.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use homefleet_net::mtp::uds;
use homefleet_usp::mtp::mqtt::topic::{check_filter, check_name};
use homefleet_usp::mtp::stomp::{Senders, SendersError};
use homefleet_usp::{EndpointId, mtp::mqtt::MqttVersion};
use serde::Deserialize;

use super::{Config, ConfigError};

/// Most brokers of one kind, and most agents that the server connects to.
const MAX_ENTRIES: usize = 16;

/// `[websocket]`. Off unless an address or an agent is given.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebSocket {
    /// Address for WebSocket over TLS, with certificates on both sides.
    pub listen: Option<SocketAddr>,
    /// Address for WebSocket without security; for laboratories only.
    pub plain_listen: Option<SocketAddr>,
    /// Address for proxies in front that end the devices' TLS and hand their certificates on (RFC 9440).
    pub proxy_listen: Option<SocketAddr>,
    /// Who these proxies are; nobody else is let in there.
    pub proxies: Vec<String>,
    /// Path of the USP resource (R-WS.2).
    pub path: String,
    /// `host` or `host:port` that devices are to connect to, shown to operators.
    pub advertise: Option<String>,
    /// Seconds between two Pings on a silent session (R-WS.18); 0 = none.
    pub keep_alive: u64,
    /// Agents that listen, to which the server connects.
    pub agent: Vec<ListeningAgent>,
}

/// `[[websocket.agent]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListeningAgent {
    /// Its Endpoint ID, which its certificate must carry.
    pub endpoint_id: String,
    /// `wss://host:port/path`, or `ws:` without security.
    pub url: String,
}

/// `[[stomp]]`: a connection to a broker.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stomp {
    /// Its name, in addresses of devices and in what is shown.
    pub name: String,
    /// Host name or address of the broker.
    pub host: String,
    /// TCP port; by default 61614 with TLS and 61613 without.
    pub port: Option<u16>,
    /// TLS.
    #[serde(default = "yes")]
    pub tls: bool,
    /// `host` header of CONNECT; absent = the broker's default.
    pub virtual_host: Option<String>,
    /// User name; absent = the certificate says who we are.
    pub login: Option<String>,
    /// File with the password.
    pub password_file: Option<PathBuf>,
    /// Where devices reach us; absent = the broker tells by `subscribe-dest`.
    pub destination: Option<String>,
    /// Where each device sends what is for us, with `{endpoint-id}` for its Endpoint ID; absent = where we are reached.
    pub senders: Option<String>,
    /// Seconds between heart-beats, offered and asked for; 0 = none.
    #[serde(default = "thirty")]
    pub heart_beat: u32,
}

/// `[[mqtt]]`: a client at a broker.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mqtt {
    /// Its name, in addresses of devices and in what is shown.
    pub name: String,
    /// Host name or address of the broker.
    pub host: String,
    /// TCP port; by default 8883 with TLS and 1883 without.
    pub port: Option<u16>,
    /// TLS.
    #[serde(default = "yes")]
    pub tls: bool,
    /// Version of the protocol.
    #[serde(default)]
    pub version: Version,
    /// Client identifier; absent = the Endpoint ID, or what the broker assigns.
    pub client_id: Option<String>,
    /// User name; absent = the certificate says who we are.
    pub username: Option<String>,
    /// File with the password.
    pub password_file: Option<PathBuf>,
    /// Topic where devices reach us; absent = the broker tells by `subscribe-topic` or Response Information.
    pub topic: Option<String>,
    /// Where each device publishes what is for us, with `{endpoint-id}` for its Endpoint ID; absent = where we are reached.
    pub senders: Option<String>,
    /// Quality of Service of what is sent and subscribed to, 0 to 2.
    #[serde(default = "one")]
    pub qos: u8,
    /// Seconds between two packets at most; 0 = the broker does not look.
    #[serde(default = "sixty")]
    pub keep_alive: u16,
    /// Seconds for which the broker keeps what is for us while we are away; 0 = not at all.
    #[serde(default = "hour")]
    pub session_expiry: u32,
}

/// `[uds]`. Off unless a path is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Uds {
    /// Socket file for agents on this machine.
    pub listen: Option<PathBuf>,
    /// User IDs besides our own whose processes may connect; the file is then open to all, and the kernel says who it is.
    pub allow_uids: Vec<u32>,
}

/// `version` of `[[mqtt]]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Version {
    /// MQTT 5.0.
    #[default]
    #[serde(rename = "5.0")]
    V5,
    /// MQTT 3.1.1.
    #[serde(rename = "3.1.1")]
    V311,
}

fn yes() -> bool {
    true
}

fn one() -> u8 {
    1
}

fn thirty() -> u32 {
    30
}

fn sixty() -> u16 {
    60
}

fn hour() -> u32 {
    3600
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            listen: None,
            plain_listen: None,
            proxy_listen: None,
            proxies: Vec::new(),
            path: "usp".to_owned(),
            advertise: None,
            keep_alive: 60,
            agent: Vec::new(),
        }
    }
}

impl WebSocket {
    /// Whether there is anything to do.
    pub fn is_on(&self) -> bool {
        let listens = [self.listen, self.plain_listen, self.proxy_listen];
        listens.iter().any(Option::is_some) || !self.agent.is_empty()
    }

    /// Who the proxies are.
    ///
    /// # Errors
    /// When one is no address.
    pub fn proxy_addresses(&self) -> Result<Vec<IpAddr>, String> {
        let address = |text: &String| {
            let parsed = text.parse().map(|address: IpAddr| address.to_canonical());
            parsed.map_err(|error| format!("`{text}`: {error}"))
        };
        self.proxies.iter().map(address).collect()
    }

    /// The path as it stands in a request.
    pub fn resource(&self) -> String {
        format!("/{}", self.path.trim_matches('/'))
    }
}

/// Where an agent listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// TLS.
    pub secure: bool,
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// Port; by default 443 with TLS and 80 without.
    pub port: u16,
    /// Path and query.
    pub path: String,
}

impl ListeningAgent {
    /// The address in parts.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parts(&self) -> Result<Url, String> {
        let wrong = |problem: &str| format!("`{}` {problem}", self.url);
        let (scheme, rest) = (self.url.split_once("://"))
            .ok_or_else(|| wrong("is not wss://host:port/path or ws://host:port/path"))?;
        let secure = match scheme {
            "wss" => true,
            "ws" => false,
            _ => return Err(wrong("begins with neither wss:// nor ws://")),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = (rest.split_once(']'))
                    .ok_or_else(|| wrong("has an address without its closing bracket"))?;
                (host, port.strip_prefix(':'))
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let default = if secure { 443 } else { 80 };
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port != 0),
            None => Some(default),
        };
        let port = port.ok_or_else(|| wrong("has a port that is none"))?;
        if host.is_empty() || self.url.contains(char::is_whitespace) || path.contains('#') {
            return Err(wrong("names no host, or has what an address cannot have"));
        }
        Ok(Url {
            secure,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }
}

impl Stomp {
    /// The port, or that of the protocol.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.tls { 61_614 } else { 61_613 })
    }

    /// Where each device sends; `None` when all send to one destination.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn senders(&self) -> Result<Option<Senders>, SendersError> {
        self.senders.as_deref().map(str::parse).transpose()
    }
}

impl Mqtt {
    /// The port, or that of the protocol.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.tls { 8883 } else { 1883 })
    }

    /// Where each device publishes; `None` when all publish to one topic.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn senders(&self) -> Result<Option<Senders>, SendersError> {
        self.senders.as_deref().map(str::parse).transpose()
    }
}

/// Passwords of brokers, empty where there is none. Not shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Passwords {
    /// Of `[[stomp]]`, by place.
    pub stomp: Vec<String>,
    /// Of `[[mqtt]]`, by place.
    pub mqtt: Vec<String>,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passwords")
    }
}

impl From<Version> for MqttVersion {
    fn from(version: Version) -> Self {
        match version {
            Version::V5 => Self::V5,
            Version::V311 => Self::V311,
        }
    }
}

impl Config {
    /// Checks the sections of this file.
    pub(super) fn check_mtps(&self) -> Result<(), ConfigError> {
        let wrong = |key: &'static str, problem: String| Err(ConfigError::Value { key, problem });
        let path = &self.websocket.path;
        if path.contains(|c: char| c.is_whitespace() || c.is_control() || "?#".contains(c)) {
            return wrong("websocket.path", format!("`{path}` is not a path"));
        }
        if let Some(path) = &self.uds.listen {
            let length = path.as_os_str().len();
            if length == 0 || length > uds::MAX_PATH {
                let problem = format!("found {length} bytes, expected 1 to {}", uds::MAX_PATH);
                return wrong("uds.listen", problem);
            }
        }
        let proxies = self.websocket.proxy_addresses();
        let proxies = proxies.map_err(|problem| ConfigError::Value {
            key: "websocket.proxies",
            problem,
        })?;
        if self.websocket.proxy_listen.is_some() == proxies.is_empty() {
            let problem =
                "websocket.proxy_listen needs the addresses of the proxies, and they need it";
            return wrong("websocket.proxies", problem.to_owned());
        }
        if self.websocket.agent.len() > MAX_ENTRIES {
            return wrong("websocket.agent", too_many(self.websocket.agent.len()));
        }
        for agent in &self.websocket.agent {
            if let Err(error) = agent.endpoint_id.parse::<EndpointId>() {
                return wrong("websocket.agent.endpoint_id", error.to_string());
            }
            if let Err(problem) = agent.parts() {
                return wrong("websocket.agent.url", problem);
            }
        }
        let stomp = self.stomp.iter().map(|broker| Broker {
            name: &broker.name,
            host: &broker.host,
            port: broker.port(),
            tls: broker.tls,
            user: broker.login.is_some(),
            password: broker.password_file.is_some(),
        });
        self.check_brokers(
            stomp,
            [
                "stomp",
                "stomp.name",
                "stomp.host",
                "stomp.port",
                "stomp.tls",
                "stomp.password_file",
            ],
        )?;
        let mqtt = self.mqtt.iter().map(|broker| Broker {
            name: &broker.name,
            host: &broker.host,
            port: broker.port(),
            tls: broker.tls,
            user: broker.username.is_some(),
            password: broker.password_file.is_some(),
        });
        self.check_brokers(
            mqtt,
            [
                "mqtt",
                "mqtt.name",
                "mqtt.host",
                "mqtt.port",
                "mqtt.tls",
                "mqtt.password_file",
            ],
        )?;
        for broker in &self.stomp {
            if broker.destination.as_deref() == Some("") {
                return wrong("stomp.destination", "found an empty text".to_owned());
            }
            if let Err(error) = broker.senders() {
                return wrong("stomp.senders", error.to_string());
            }
        }
        for broker in &self.mqtt {
            if let Some(topic) = &broker.topic
                && let Err(error) = check_name(topic)
            {
                return wrong("mqtt.topic", format!("`{topic}`: {error}"));
            }
            let senders = broker.senders().map_err(|error| error.to_string());
            let topics = senders.and_then(|senders| {
                let Some(senders) = senders else {
                    return Ok(());
                };
                check_filter(&senders.pattern("+")).map_err(|error| format!("`{senders}`: {error}"))
            });
            if let Err(problem) = topics {
                return wrong("mqtt.senders", problem);
            }
            if broker.qos > 2 {
                return wrong("mqtt.qos", format!("found {}, expected 0 to 2", broker.qos));
            }
        }
        Ok(())
    }

    /// The passwords of the brokers, STOMP and then MQTT, by place.
    ///
    /// # Errors
    /// When a file cannot be read, or holds no password.
    pub fn passwords(&self) -> Result<Passwords, ConfigError> {
        let read = |key: &'static str, path: &Option<PathBuf>| {
            let Some(path) = path else {
                return Ok(String::new());
            };
            let wrong = |problem: String| ConfigError::Value {
                key,
                problem: format!("{}: {problem}", path.display()),
            };
            let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
            // Editors and `echo` end the line.
            let password = text.trim_end_matches(['\r', '\n']);
            if password.is_empty() {
                return Err(wrong("it holds no password".to_owned()));
            }
            Ok(password.to_owned())
        };
        let stomp = self.stomp.iter();
        let mqtt = self.mqtt.iter();
        Ok(Passwords {
            stomp: stomp
                .map(|broker| read("stomp.password_file", &broker.password_file))
                .collect::<Result<_, _>>()?,
            mqtt: mqtt
                .map(|broker| read("mqtt.password_file", &broker.password_file))
                .collect::<Result<_, _>>()?,
        })
    }

    fn check_brokers<'a>(
        &self,
        brokers: impl Iterator<Item = Broker<'a>>,
        [all, name, host, port, tls, password]: [&'static str; 6],
    ) -> Result<(), ConfigError> {
        let wrong = |key: &'static str, problem: String| Err(ConfigError::Value { key, problem });
        let mut names = BTreeSet::new();
        for broker in brokers {
            let of = broker.name;
            if of.is_empty()
                || of.len() > 64
                || !of
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            {
                return wrong(
                    name,
                    format!("`{of}` is not a name of 1 to 64 letters, digits, - _ and ."),
                );
            }
            if !names.insert(of) {
                return wrong(name, format!("`{of}` is there twice"));
            }
            if names.len() > MAX_ENTRIES {
                return wrong(all, too_many(names.len()));
            }
            if broker.host.is_empty() {
                return wrong(host, format!("`{of}` has none"));
            }
            if broker.port == 0 {
                return wrong(port, format!("`{of}`: found 0, expected 1 to 65535"));
            }
            if broker.password && !broker.user {
                return wrong(password, format!("`{of}` has a password and no user name"));
            }
            if broker.tls && self.tls.brokers.is_none() && !self.tls.allow_untrusted_brokers {
                return wrong(
                    tls,
                    format!(
                        "the broker of `{of}` vouches for every device that sends through it: name its certificate in \
                         tls.brokers"
                    ),
                );
            }
        }
        Ok(())
    }
}

struct Broker<'a> {
    name: &'a str,
    host: &'a str,
    port: u16,
    tls: bool,
    user: bool,
    password: bool,
}

fn too_many(found: usize) -> String {
    format!("found {found}, at most {MAX_ENTRIES} are taken")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::template;

    fn config(text: &str) -> Config {
        Config::parse(&format!("{}\n{text}", template()), "test", |_| None).unwrap()
    }

    fn key(config: &Config) -> Option<&'static str> {
        match config.check() {
            Ok(()) => None,
            Err(ConfigError::Value { key, .. }) => Some(key),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn nothing_but_coap_is_on_unless_configured() {
        let config = config("");
        assert!(!config.websocket.is_on());
        assert!(config.stomp.is_empty() && config.mqtt.is_empty());
    }

    #[test]
    fn a_broker_over_tls_must_be_trusted_or_said_not_to_be() {
        let mut config = config("[[mqtt]]\nname = \"home\"\nhost = \"broker\"");
        assert_eq!(key(&config), Some("mqtt.tls"));
        config.tls.brokers = Some("brokers.pem".into());
        assert_eq!(key(&config), None);
        config.tls.brokers = None;
        config.tls.allow_untrusted_brokers = true;
        assert_eq!(key(&config), None);
        assert_eq!(config.mqtt[0].port(), 8883);
    }

    #[test]
    fn a_listener_for_proxies_needs_to_know_who_they_are() {
        let mut config = config("");
        config.websocket.proxy_listen = Some(SocketAddr::from(([127, 0, 0, 1], 5081)));
        assert!(config.websocket.is_on());
        assert_eq!(key(&config), Some("websocket.proxies"));
        config.websocket.proxies = vec!["127.0.0.1".to_owned(), "::1".to_owned()];
        assert_eq!(key(&config), None);
        config.websocket.proxies.push("localhost".to_owned());
        assert_eq!(key(&config), Some("websocket.proxies"));
        config.websocket.proxies.pop();
        config.websocket.proxy_listen = None;
        assert_eq!(key(&config), Some("websocket.proxies"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_the_name_of_its_key() {
        for (text, expected) in [
            (
                "[[mqtt]]\nname = \"a/b\"\nhost = \"h\"\ntls = false",
                "mqtt.name",
            ),
            (
                "[[mqtt]]\nname = \"a\"\nhost = \"\"\ntls = false",
                "mqtt.host",
            ),
            (
                "[[mqtt]]\nname = \"a\"\nhost = \"h\"\nport = 0\ntls = false",
                "mqtt.port",
            ),
            (
                "[[mqtt]]\nname = \"a\"\nhost = \"h\"\ntls = false\nqos = 3",
                "mqtt.qos",
            ),
            (
                "[[mqtt]]\nname = \"a\"\nhost = \"h\"\ntls = false\ntopic = \"a/#\"",
                "mqtt.topic",
            ),
            (
                "[[mqtt]]\nname = \"a\"\nhost = \"h\"\ntls = false\nsenders = \"usp/all\"",
                "mqtt.senders",
            ),
            (
                "[[mqtt]]\nname = \"a\"\nhost = \"h\"\ntls = false\nsenders = \"usp/from-{endpoint-id}\"",
                "mqtt.senders",
            ),
            (
                "[[mqtt]]\nname = \"a\"\nhost = \"h\"\ntls = false\npassword_file = \"p\"",
                "mqtt.password_file",
            ),
            (
                "[[stomp]]\nname = \"a\"\nhost = \"h\"\ntls = false\n[[stomp]]\nname = \"a\"\nhost = \"h\"\ntls = false",
                "stomp.name",
            ),
            (
                "[[stomp]]\nname = \"a\"\nhost = \"h\"\ntls = false\ndestination = \"\"",
                "stomp.destination",
            ),
            (
                "[[stomp]]\nname = \"a\"\nhost = \"h\"\ntls = false\nsenders = \"/topic/all\"",
                "stomp.senders",
            ),
            (
                "[[websocket.agent]]\nendpoint_id = \"x\"\nurl = \"wss://h/\"",
                "websocket.agent.endpoint_id",
            ),
            (
                "[[websocket.agent]]\nendpoint_id = \"proto::x\"\nurl = \"http://h/\"",
                "websocket.agent.url",
            ),
        ] {
            assert_eq!(key(&config(text)), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_password_is_read_without_the_end_of_its_line_and_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        std::fs::write(&file, "secret word\n").unwrap();
        let mut config = config(
            "[[mqtt]]\nname = \"a\"\nhost = \"h\"\ntls = false\nusername = \"u\"\npassword_file = \"/\"",
        );
        assert!(config.passwords().is_err());
        config.mqtt[0].password_file = Some(file.clone());
        let passwords = config.passwords().unwrap();
        assert_eq!(passwords.mqtt, ["secret word"]);
        assert!(!format!("{passwords:?}").contains("secret"));
        std::fs::write(&file, "\n").unwrap();
        assert!(config.passwords().is_err());
    }

    #[test]
    fn an_agents_address_is_taken_apart() {
        let parts = |url: &str| {
            let url = url.to_owned();
            let endpoint_id = "proto::x".to_owned();
            ListeningAgent { endpoint_id, url }.parts()
        };
        let url = parts("wss://agent.example/usp?x=1").unwrap();
        assert_eq!(
            (url.secure, url.host.as_str(), url.port),
            (true, "agent.example", 443)
        );
        assert_eq!(url.path, "/usp?x=1");
        let url = parts("ws://[2001:db8::1]:8080").unwrap();
        assert_eq!(
            (url.secure, url.host.as_str(), url.port),
            (false, "2001:db8::1", 8080)
        );
        assert_eq!(url.path, "/");
        for wrong in [
            "wss:/h",
            "wss://",
            "wss://h:0/",
            "wss://h:x/",
            "wss://[::1/",
            "wss://h /",
        ] {
            assert!(parts(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_broker_can_be_given_by_variables_alone() {
        let variables = [
            ("HOMEFLEET_MQTT_0_NAME", "home"),
            ("HOMEFLEET_MQTT_0_HOST", "broker"),
            ("HOMEFLEET_MQTT_0_TLS", "false"),
            ("HOMEFLEET_MQTT_1_NAME", "field"),
            ("HOMEFLEET_MQTT_1_HOST", "other"),
            ("HOMEFLEET_WEBSOCKET_AGENT_0_URL", "wss://agent/"),
            ("HOMEFLEET_WEBSOCKET_AGENT_0_ENDPOINT_ID", "proto::x"),
        ];
        let config = Config::parse(&template(), "test", |name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        })
        .unwrap();
        let names: Vec<&str> = config.mqtt.iter().map(|mqtt| mqtt.name.as_str()).collect();
        assert_eq!(names, ["home", "field"]);
        assert!(!config.mqtt[0].tls && config.mqtt[1].tls);
        assert_eq!(config.websocket.agent[0].url, "wss://agent/");
    }

    #[test]
    fn a_variable_for_a_broker_that_is_not_there_is_refused() {
        let error = Config::parse(&template(), "test", |name| {
            (name == "HOMEFLEET_MQTT_3_HOST").then(|| "broker".to_owned())
        });
        assert!(
            matches!(error, Err(ConfigError::Variable { .. })),
            "{error:?}"
        );
    }
}
