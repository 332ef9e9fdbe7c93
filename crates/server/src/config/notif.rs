//! `[notif]`: the receiver of telemetry, what it keeps, and where it hands it on.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use homefleet_usp::EndpointId;
use serde::Deserialize;

use super::{Config, ConfigError};

/// Most outputs.
const MAX_OUTPUTS: usize = 16;
/// Most publishers that are known by their address.
const MAX_PUBLISHERS: usize = 10_000;

/// `[notif]`. Off unless an address is given.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notif {
    /// Address for UDP-notif in DTLS, with certificates on both sides.
    pub listen: Option<SocketAddr>,
    /// Address for UDP-notif without security.
    pub plain_listen: Option<SocketAddr>,
    /// Versions of DTLS that are accepted.
    pub dtls: DtlsVersions,
    /// Seconds of silence after which a DTLS session is closed.
    pub idle_timeout: u64,
    /// What messages of version 1 are taken for.
    pub profile: NotifProfile,
    /// Threads that receive.
    pub workers: usize,
    /// Receive buffer asked for, per socket, in bytes.
    pub receive_buffer: usize,
    /// Whether the kernel may coalesce datagrams of one source.
    pub gro: bool,
    /// Batches of messages between receiving and what follows.
    pub queue: usize,
    /// Publishers known at once.
    pub max_publishers: usize,
    /// Longest message, in bytes.
    pub max_message: usize,
    /// Bytes held for messages of which segments are missing.
    pub reassembly_bytes: usize,
    /// Seconds from a message's first segment to its last.
    pub reassembly_timeout: u64,
    /// What happens to messages of publishers that are tied to no device.
    pub unknown: UnknownPublishers,
    /// Numbers kept as time series.
    pub series: Series,
    /// Where messages are handed on.
    pub output: Vec<NotifOutput>,
    /// Publishers without certificates.
    pub publisher: Vec<NotifPublisher>,
}

/// Versions of DTLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum DtlsVersions {
    /// 1.3 only.
    #[default]
    #[serde(rename = "1.3")]
    Dtls13,
    /// 1.2 and 1.3.
    #[serde(rename = "1.2")]
    Dtls12,
}

/// What messages of version 1 are taken for: nothing in them says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum NotifProfile {
    /// Drafts -07 and -08: no loss is claimed.
    #[serde(rename = "draft-07")]
    Draft07,
    /// Drafts -09 to -18.
    #[serde(rename = "draft-09")]
    Draft09,
    /// Drafts -19 to -25.
    #[serde(rename = "draft-19")]
    Draft19,
    /// Draft -26.
    #[default]
    #[serde(rename = "draft-26")]
    Draft26,
}

/// What happens to messages of publishers that are tied to no device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownPublishers {
    /// They go to the outputs, without a device.
    Keep,
    /// They are dropped and counted.
    #[default]
    Refuse,
}

/// `[notif.series]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Series {
    /// Whether numbers are kept.
    pub enabled: bool,
    /// Days that they are kept.
    pub keep_days: u64,
    /// Hours for which every point is kept; behind that, one for each five minutes.
    pub raw_hours: u64,
    /// Most series of a device.
    pub per_device: u32,
    /// Most points of all devices.
    pub total: u64,
}

/// `[[notif.output]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifOutput {
    /// Its name, as it is shown, and in the names of files.
    pub name: String,
    /// What it is.
    pub kind: OutputKind,
    /// Most messages that wait.
    #[serde(default = "queue")]
    pub queue: usize,
    /// Most bytes that wait.
    #[serde(default = "queue_bytes")]
    pub queue_bytes: usize,
    /// Seconds of the longest pause after a failure.
    #[serde(default = "retry_max")]
    pub retry_max: u64,
    /// Files: their directory.
    pub directory: Option<PathBuf>,
    /// Files: bytes at which one is ended.
    #[serde(default = "max_size")]
    pub max_size: u64,
    /// Files: seconds after which one is ended.
    #[serde(default = "max_age")]
    pub max_age: u64,
    /// Files: how many are kept; 0 = all.
    #[serde(default = "keep_files")]
    pub keep_files: usize,
    /// Kafka, NATS: where, as `host:port`.
    #[serde(default)]
    pub servers: Vec<String>,
    /// Kafka: the topic; NATS: the subject, with `{device}` for the device.
    pub topic: Option<String>,
    /// NATS: user name.
    pub user: Option<String>,
    /// NATS: file with the password.
    pub password_file: Option<PathBuf>,
    /// NATS, webhook: file with a token.
    pub token_file: Option<PathBuf>,
    /// Webhook: where.
    pub url: Option<String>,
    /// NATS, webhook: CAs of the server, PEM; TLS is used when it is given.
    pub ca: Option<PathBuf>,
}

/// What an output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// Kafka.
    Kafka,
    /// NATS.
    Nats,
    /// Files of JSON lines.
    Ndjson,
    /// Parquet files.
    Parquet,
    /// POST to an HTTP server.
    Webhook,
}

impl OutputKind {
    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Nats => "nats",
            Self::Ndjson => "ndjson",
            Self::Parquet => "parquet",
            Self::Webhook => "webhook",
        }
    }
}

/// `[[notif.publisher]]`: a publisher without a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifPublisher {
    /// Where it sends from.
    pub address: IpAddr,
    /// Endpoint ID of the device that it is.
    pub device: String,
}

impl Default for Notif {
    fn default() -> Self {
        Self {
            listen: None,
            plain_listen: None,
            dtls: DtlsVersions::default(),
            idle_timeout: 600,
            profile: NotifProfile::default(),
            workers: 1,
            receive_buffer: 32 * 1024 * 1024,
            gro: true,
            queue: 1024,
            max_publishers: 65_536,
            max_message: 1024 * 1024,
            reassembly_bytes: 64 * 1024 * 1024,
            reassembly_timeout: 10,
            unknown: UnknownPublishers::default(),
            series: Series::default(),
            output: Vec::new(),
            publisher: Vec::new(),
        }
    }
}

impl Default for Series {
    fn default() -> Self {
        Self {
            enabled: true,
            keep_days: 7,
            raw_hours: 24,
            per_device: 500,
            total: 20_000_000,
        }
    }
}

fn queue() -> usize {
    10_000
}

fn queue_bytes() -> usize {
    64 * 1024 * 1024
}

fn retry_max() -> u64 {
    30
}

fn max_size() -> u64 {
    64 * 1024 * 1024
}

fn max_age() -> u64 {
    3600
}

fn keep_files() -> usize {
    100
}

impl NotifOutput {
    /// An output with everything by default; what its kind needs is to be set.
    pub fn new(name: impl Into<String>, kind: OutputKind) -> Self {
        Self {
            name: name.into(),
            kind,
            queue: queue(),
            queue_bytes: queue_bytes(),
            retry_max: retry_max(),
            directory: None,
            max_size: max_size(),
            max_age: max_age(),
            keep_files: keep_files(),
            servers: Vec::new(),
            topic: None,
            user: None,
            password_file: None,
            token_file: None,
            url: None,
            ca: None,
        }
    }

    /// Where it goes, for a person.
    pub fn destination(&self) -> String {
        match self.kind {
            OutputKind::Ndjson | OutputKind::Parquet => self
                .directory
                .as_ref()
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
            OutputKind::Kafka | OutputKind::Nats => {
                let topic = self.topic.as_deref().unwrap_or_default();
                format!("{} {topic}", self.servers.join(","))
            }
            OutputKind::Webhook => self.url.clone().unwrap_or_default(),
        }
    }

    /// What is wrong with it: key and problem.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let missing = |key: &'static str| {
            let kind = self.kind.as_str();
            Err((key, format!("`{}` is {kind} and lacks it", self.name)))
        };
        let is_name = !self.name.is_empty()
            && self.name.len() <= 64
            && self
                .name
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "-_".contains(letter));
        if !is_name {
            let problem = format!("`{}` is not 1 to 64 letters, digits, - and _", self.name);
            return Err(("notif.output.name", problem));
        }
        match self.kind {
            OutputKind::Ndjson | OutputKind::Parquet if self.directory.is_none() => {
                return missing("notif.output.directory");
            }
            OutputKind::Kafka | OutputKind::Nats if self.servers.is_empty() => {
                return missing("notif.output.servers");
            }
            OutputKind::Kafka | OutputKind::Nats if self.topic.is_none() => {
                return missing("notif.output.topic");
            }
            OutputKind::Webhook if self.url.is_none() => return missing("notif.output.url"),
            _ => {}
        }
        if let Some(topic) = &self.topic {
            let is_topic = !topic.is_empty()
                && topic.len() <= 249
                && !topic
                    .chars()
                    .any(|letter| letter.is_whitespace() || letter.is_control());
            if !is_topic || (self.kind == OutputKind::Nats && topic.contains(['*', '>'])) {
                return Err(("notif.output.topic", format!("`{topic}` is no topic")));
            }
        }
        for (key, is_zero) in [
            ("notif.output.queue", self.queue == 0),
            ("notif.output.queue_bytes", self.queue_bytes == 0),
            ("notif.output.retry_max", self.retry_max == 0),
            ("notif.output.max_size", self.max_size == 0),
            ("notif.output.max_age", self.max_age == 0),
        ] {
            if is_zero {
                return Err((key, "found 0, expected at least 1".to_owned()));
            }
        }
        Ok(())
    }
}

impl Notif {
    /// Whether anything is listened on.
    pub fn is_on(&self) -> bool {
        self.listen.is_some() || self.plain_listen.is_some()
    }

    pub(crate) fn keep(&self) -> Duration {
        Duration::from_secs(self.series.keep_days.saturating_mul(86_400))
    }

    pub(crate) fn raw(&self) -> Duration {
        Duration::from_secs(self.series.raw_hours.saturating_mul(3600))
    }
}

impl Config {
    pub(super) fn check_notif(&self) -> Result<(), ConfigError> {
        let wrong = |key: &'static str, problem: String| Err(ConfigError::Value { key, problem });
        let notif = &self.notif;
        if !(1..=64).contains(&notif.workers) {
            return wrong(
                "notif.workers",
                format!("found {}, expected 1 to 64", notif.workers),
            );
        }
        if !(1..=20).contains(&notif.reassembly_timeout) {
            return wrong(
                "notif.reassembly_timeout",
                format!("found {}, expected 1 to 20", notif.reassembly_timeout),
            );
        }
        if !(96 * 1024..=16 * 1024 * 1024).contains(&notif.max_message) {
            return wrong(
                "notif.max_message",
                format!("found {}, expected 98304 to 16777216", notif.max_message),
            );
        }
        for (key, is_zero) in [
            ("notif.idle_timeout", notif.idle_timeout == 0),
            ("notif.receive_buffer", notif.receive_buffer == 0),
            ("notif.queue", notif.queue == 0),
            ("notif.max_publishers", notif.max_publishers == 0),
            ("notif.reassembly_bytes", notif.reassembly_bytes == 0),
            ("notif.series.keep_days", notif.series.keep_days == 0),
            ("notif.series.raw_hours", notif.series.raw_hours == 0),
            ("notif.series.per_device", notif.series.per_device == 0),
            ("notif.series.total", notif.series.total == 0),
        ] {
            if is_zero {
                return wrong(key, "found 0, expected at least 1".to_owned());
            }
        }
        if notif.output.len() > MAX_OUTPUTS {
            let problem = format!("found {}, at most {MAX_OUTPUTS}", notif.output.len());
            return wrong("notif.output", problem);
        }
        let mut names = BTreeSet::new();
        for output in &notif.output {
            if let Err((key, problem)) = output.check() {
                return wrong(key, problem);
            }
            if !names.insert(&output.name) {
                let problem = format!("there are two outputs `{}`", output.name);
                return wrong("notif.output.name", problem);
            }
        }
        if notif.publisher.len() > MAX_PUBLISHERS {
            let problem = format!("found {}, at most {MAX_PUBLISHERS}", notif.publisher.len());
            return wrong("notif.publisher", problem);
        }
        let mut addresses = BTreeSet::new();
        for publisher in &notif.publisher {
            if let Err(error) = publisher.device.parse::<EndpointId>() {
                return wrong("notif.publisher.device", error.to_string());
            }
            if !addresses.insert(publisher.address) {
                let problem = format!("{} is given twice", publisher.address);
                return wrong("notif.publisher.address", problem);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::*;

    fn check(text: &str) -> Result<Config, ConfigError> {
        let text = format!("{}\n{text}", template());
        let config = Config::parse(&text, "test", |_| None)?;
        config.check()?;
        Ok(config)
    }

    fn key(text: &str) -> &'static str {
        match check(text).unwrap_err() {
            ConfigError::Value { key, .. } => key,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn an_output_without_what_it_needs_is_refused() {
        for (kind, lacks) in [
            ("ndjson", "notif.output.directory"),
            ("parquet", "notif.output.directory"),
            ("kafka", "notif.output.servers"),
            ("nats", "notif.output.servers"),
            ("webhook", "notif.output.url"),
        ] {
            let text = format!("[[notif.output]]\nname = \"a\"\nkind = \"{kind}\"\n");
            assert_eq!(key(&text), lacks, "{kind}");
        }
        let two =
            "[[notif.output]]\nname = \"a\"\nkind = \"ndjson\"\ndirectory = \"/x\"\n".repeat(2);
        assert_eq!(key(&two), "notif.output.name");
        let name = "[[notif.output]]\nname = \"../a\"\nkind = \"ndjson\"\ndirectory = \"/x\"\n";
        assert_eq!(key(name), "notif.output.name");
        let topic =
            "[[notif.output]]\nname = \"a\"\nkind = \"nats\"\nservers = [\"h\"]\ntopic = \"a.>\"\n";
        assert_eq!(key(topic), "notif.output.topic");
    }

    #[test]
    fn a_publisher_is_one_address_of_one_device() {
        let one = "[[notif.publisher]]\naddress = \"192.0.2.1\"\ndevice = \"os::00D09E-1\"\n";
        assert_eq!(check(one).unwrap().notif.publisher.len(), 1);
        assert_eq!(key(&one.repeat(2)), "notif.publisher.address");
        let unnamed = "[[notif.publisher]]\naddress = \"192.0.2.1\"\ndevice = \"nobody\"\n";
        assert_eq!(key(unnamed), "notif.publisher.device");
    }

    #[test]
    fn bounds_that_the_drafts_set_are_kept() {
        for (text, key_of) in [
            ("reassembly_timeout = 21", "notif.reassembly_timeout"),
            ("max_message = 1000", "notif.max_message"),
            ("workers = 0", "notif.workers"),
        ] {
            let text = template().replace("[notif]\n", &format!("[notif]\n{text}\n"));
            let config = Config::parse(&text, "test", |_| None).unwrap();
            match config.check().unwrap_err() {
                ConfigError::Value { key, .. } => assert_eq!(key, key_of),
                other => panic!("{other}"),
            }
        }
    }
}
