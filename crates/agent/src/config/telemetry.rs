//! `[telemetry]`: receivers and subscriptions of the configuration file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use homefleet_model::path::Path as ModelPath;
use homefleet_notif::Generation;
use homefleet_notif::publisher::MIN_ROOM;
use serde::Deserialize;

use super::{ConfigError, invalid};
use crate::telemetry::factory::{Reference, Row, TelemetryConfig};
use crate::telemetry::yang;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TelemetryFile {
    pub(crate) publisher_id: Option<u32>,
    pub(crate) yang: Option<PathBuf>,
    #[serde(default)]
    pub(crate) receiver: Vec<ReceiverFile>,
    #[serde(default)]
    pub(crate) subscription: Vec<SubscriptionFile>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReceiverFile {
    name: String,
    address: String,
    port: u16,
    local_address: Option<std::net::IpAddr>,
    local_port: Option<u16>,
    security: Option<Security>,
    generation: Option<String>,
    framing: Option<FramingFile>,
    encoding: Option<EncodingFile>,
    envelope: Option<EnvelopeFile>,
    segmentation: Option<bool>,
    max_segment_size: Option<u16>,
    dscp: Option<u8>,
    messages_per_second: Option<u32>,
    bytes_per_second: Option<u32>,
    max_waiting: Option<u32>,
    when_full: Option<WhenFull>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum Security {
    #[serde(rename = "dtls1.3")]
    Dtls13,
    #[serde(rename = "dtls1.2")]
    Dtls12,
    #[serde(rename = "dtls")]
    Dtls,
    #[serde(rename = "none")]
    None,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FramingFile {
    Automatic,
    Bare,
    Framed,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum EncodingFile {
    Json,
    Cbor,
    Xml,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum EnvelopeFile {
    IetfYpNotification,
    IetfNotification,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WhenFull {
    DropOldest,
    DropNewest,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubscriptionFile {
    name: String,
    receiver: String,
    paths: Vec<String>,
    period: Option<f64>,
    anchor_time: Option<String>,
    on_change: Option<bool>,
    dampening: Option<f64>,
    sync_on_start: Option<bool>,
}

impl TelemetryFile {
    pub(super) fn finish(self, base: &Path) -> Result<TelemetryConfig, ConfigError> {
        let mut config = TelemetryConfig {
            publisher_id: self.publisher_id,
            ..TelemetryConfig::default()
        };
        for receiver in self.receiver {
            config.receivers.push(receiver.row()?);
        }
        for subscription in self.subscription {
            config.subscriptions.push(subscription.row()?);
        }
        if let Some(path) = self.yang.filter(|path| !path.as_os_str().is_empty()) {
            let path = base.join(path);
            let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read {
                path: path.clone(),
                source,
            })?;
            config
                .extend(yang::read(&text).map_err(|reason| ConfigError::Syntax { path, reason })?);
        }
        unique("telemetry.receiver", &config.receivers)?;
        unique("telemetry.subscription", &config.subscriptions)?;
        for subscription in &config.subscriptions {
            let known = |name: &String| config.receivers.iter().any(|row| row.name == *name);
            if let Some(name) = subscription.receiver.as_ref().filter(|name| !known(name)) {
                let reason = format!("{}: there is no receiver {name:?}", subscription.name);
                return Err(invalid("telemetry.subscription", reason));
            }
        }
        Ok(config)
    }
}

fn unique(key: &'static str, rows: &[Row]) -> Result<(), ConfigError> {
    let mut names = BTreeSet::new();
    for row in rows {
        if row.name.is_empty() || row.name.len() > 64 || row.name.contains(char::is_control) {
            let reason = format!("{:?}: a name has 1 to 64 characters", row.name);
            return Err(invalid(key, reason));
        }
        if !names.insert(&row.name) {
            return Err(invalid(key, format!("{:?} is there twice", row.name)));
        }
    }
    Ok(())
}

impl ReceiverFile {
    fn row(self) -> Result<Row, ConfigError> {
        let key = "telemetry.receiver";
        let name = self.name;
        let refused = |reason: String| Err(invalid(key, format!("{name}: {reason}")));
        if self.port == 0 || self.address.is_empty() {
            return refused("it needs an address, and a port that is not 0".into());
        }
        if let Some(generation) = &self.generation
            && !Generation::from_name(generation).is_some_and(Generation::is_publishable)
        {
            return refused(format!(
                "`{generation}` is not one of `draft-03`, `draft-04`, `draft-07`, `draft-09`, `draft-19`, `draft-26`"
            ));
        }
        if let Some(size) = self.max_segment_size
            && usize::from(size) < MIN_ROOM
        {
            return refused(format!("max_segment_size is at least {MIN_ROOM}"));
        }
        if self.dscp.is_some_and(|dscp| dscp > 63) {
            return refused("dscp is 0 to 63".into());
        }
        if self
            .max_waiting
            .is_some_and(|most| !(1..=65_536).contains(&most))
        {
            return refused("max_waiting is 1 to 65536".into());
        }
        let mut values = vec![("Address", self.address), ("Port", self.port.to_string())];
        let mut put = |name, value: Option<String>| values.extend(value.map(|value| (name, value)));
        let word = |text: &str| text.to_owned();
        put("LocalAddress", self.local_address.map(|ip| ip.to_string()));
        put("LocalPort", self.local_port.map(|port| port.to_string()));
        put(
            "Security",
            self.security.map(|security| {
                word(match security {
                    Security::Dtls13 => "DTLS1.3",
                    Security::Dtls12 => "DTLS1.2",
                    Security::Dtls => "DTLS",
                    Security::None => "None",
                })
            }),
        );
        put("Generation", self.generation);
        put(
            "Framing",
            self.framing.map(|framing| {
                word(match framing {
                    FramingFile::Automatic => "Automatic",
                    FramingFile::Bare => "Bare",
                    FramingFile::Framed => "Framed",
                })
            }),
        );
        put(
            "Encoding",
            self.encoding.map(|encoding| {
                word(match encoding {
                    EncodingFile::Json => "JSON",
                    EncodingFile::Cbor => "CBOR",
                    EncodingFile::Xml => "XML",
                })
            }),
        );
        put(
            "Envelope",
            self.envelope.map(|envelope| {
                word(match envelope {
                    EnvelopeFile::IetfYpNotification => "ietf-yp-notification",
                    EnvelopeFile::IetfNotification => "ietf-notification",
                })
            }),
        );
        put(
            "EnableSegmentation",
            self.segmentation.map(|on| on.to_string()),
        );
        put(
            "MaxSegmentSize",
            self.max_segment_size.map(|size| size.to_string()),
        );
        put("DSCP", self.dscp.map(|dscp| dscp.to_string()));
        put(
            "MessagesPerSecond",
            self.messages_per_second.map(|rate| rate.to_string()),
        );
        put(
            "BytesPerSecond",
            self.bytes_per_second.map(|rate| rate.to_string()),
        );
        put("MaxWaiting", self.max_waiting.map(|most| most.to_string()));
        put(
            "WhenFull",
            self.when_full.map(|rule| {
                word(match rule {
                    WhenFull::DropOldest => "DropOldest",
                    WhenFull::DropNewest => "DropNewest",
                })
            }),
        );
        Ok(Row {
            name,
            values,
            ..Row::default()
        })
    }
}

impl SubscriptionFile {
    fn row(self) -> Result<Row, ConfigError> {
        let key = "telemetry.subscription";
        let name = self.name;
        let refused = |reason: String| Err(invalid(key, format!("{name}: {reason}")));
        if self.paths.is_empty() || self.paths.len() > 32 {
            return refused("it has 1 to 32 paths".into());
        }
        for path in &self.paths {
            if let Err(error) = ModelPath::parse(path) {
                return refused(format!("{path}: {error}"));
            }
            if path.contains(',') {
                return refused(format!("{path}: a path of a list has no comma"));
            }
        }
        let millis = |seconds: f64| {
            let millis = (seconds * 1000.0).round();
            (millis.is_finite() && (0.0..=f64::from(u32::MAX)).contains(&millis))
                .then(|| format!("{millis:.0}"))
        };
        let mut values = Vec::new();
        if self.on_change.unwrap_or(false) {
            if self.period.is_some() || self.anchor_time.is_some() {
                return refused("it is told on change, so it has no period".into());
            }
            values.push(("Trigger", "OnChange".to_owned()));
            let Some(dampening) = millis(self.dampening.unwrap_or(1.0)) else {
                return refused("dampening is a number of seconds".into());
            };
            values.push(("DampeningPeriod", dampening));
            values.push((
                "SyncOnStart",
                self.sync_on_start.unwrap_or(true).to_string(),
            ));
        } else {
            if self.dampening.is_some() || self.sync_on_start.is_some() {
                return refused("dampening and sync_on_start are for on_change = true".into());
            }
            let period = self.period.unwrap_or(10.0);
            let Some(millis) = millis(period).filter(|_| period >= 0.1) else {
                return refused("period is a number of seconds, at least 0.1".into());
            };
            values.push(("Trigger", "Periodic".to_owned()));
            values.push(("Period", millis));
            if let Some(anchor) = self.anchor_time {
                if crate::time::parse(&anchor).is_none() {
                    return refused(format!(
                        "anchor_time {anchor:?} is not a time as in RFC 3339"
                    ));
                }
                values.push(("AnchorTime", anchor));
            }
        }
        Ok(Row {
            name,
            receiver: Some(self.receiver),
            references: self.paths.into_iter().map(Reference::Path).collect(),
            values,
        })
    }
}
