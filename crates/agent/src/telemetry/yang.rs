//! Telemetry configured as JSON (RFC 7951) by the names of `ietf-subscribed-notifications` (RFC 8639), `ietf-yang-push` (RFC 8641),
//! `ietf-subscribed-notif-receivers` and `ietf-udp-notif-transport@2025-06-04`.
//!
//! What the agent would not follow is refused, never passed over: a filter it cannot express, a key of its own certificate in `dtls`.

use serde::Deserialize;

use super::factory::{Reference, Row, TelemetryConfig};

/// Reads a document.
///
/// # Errors
/// What cannot be followed, with its place.
pub(crate) fn read(text: &str) -> Result<TelemetryConfig, String> {
    let document: Document = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let subscriptions = document.subscriptions;
    let mut config = TelemetryConfig::default();
    for receiver in subscriptions.receiver_instances.receiver_instance {
        config.receivers.push(receiver.row()?);
    }
    for subscription in subscriptions.subscription {
        let encoding = subscription.encoding.as_deref().map(encoding).transpose()?;
        let row = subscription.row()?;
        if let Some(name) = &row.receiver {
            let receiver = config
                .receivers
                .iter_mut()
                .find(|known| known.name == *name);
            let receiver = receiver.ok_or_else(|| {
                format!(
                    "subscription {}: there is no receiver-instance {name}",
                    row.name
                )
            })?;
            let known = receiver.values.iter().find(|(name, _)| *name == "Encoding");
            match (known, encoding) {
                (Some((_, known)), Some(encoding)) if known != encoding => {
                    // -26 §3.3.
                    return Err(format!(
                        "receiver-instance {name}: one receiver gets one encoding"
                    ));
                }
                (None, Some(encoding)) => receiver.values.push(("Encoding", encoding.to_owned())),
                _ => {}
            }
        }
        config.subscriptions.push(row);
    }
    Ok(config)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "ietf-subscribed-notifications:subscriptions")]
    subscriptions: Subscriptions,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Subscriptions {
    #[serde(default)]
    subscription: Vec<Subscription>,
    #[serde(rename = "ietf-subscribed-notif-receivers:receiver-instances")]
    receiver_instances: ReceiverInstances,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ReceiverInstances {
    receiver_instance: Vec<ReceiverInstance>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiverInstance {
    name: String,
    #[serde(rename = "ietf-udp-notif-transport:udp-notif-receiver")]
    receiver: UdpNotifReceiver,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct UdpNotifReceiver {
    remote_address: String,
    remote_port: u16,
    local_address: Option<String>,
    local_port: Option<u16>,
    dtls: Option<Dtls>,
    enable_segmentation: Option<bool>,
    max_segment_size: Option<u16>,
}

/// The agent's own certificate and trust are what DTLS uses; only the versions can be said here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Dtls {
    hello_params: Option<HelloParams>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct HelloParams {
    tls_versions: Option<TlsVersions>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsVersions {
    min: Option<String>,
    max: Option<String>,
}

impl ReceiverInstance {
    fn row(self) -> Result<Row, String> {
        let receiver = self.receiver;
        let mut values = vec![
            ("Address", receiver.remote_address),
            ("Port", receiver.remote_port.to_string()),
        ];
        values.extend(receiver.local_address.map(|value| ("LocalAddress", value)));
        values.extend(
            receiver
                .local_port
                .map(|value| ("LocalPort", value.to_string())),
        );
        let segmentation = receiver.enable_segmentation;
        values.extend(segmentation.map(|value| ("EnableSegmentation", value.to_string())));
        let size = receiver.max_segment_size;
        values.extend(size.map(|value| ("MaxSegmentSize", value.to_string())));
        let security = match receiver.dtls {
            None => "None",
            Some(Dtls { hello_params }) => {
                let versions = hello_params.and_then(|params| params.tls_versions);
                let (min, max) =
                    versions.map_or((None, None), |versions| (versions.min, versions.max));
                let local = |name: Option<String>| {
                    name.map(|name| name.rsplit(':').next().unwrap_or_default().to_owned())
                };
                match (local(min).as_deref(), local(max).as_deref()) {
                    (None | Some("tls13"), None | Some("tls13")) => "DTLS1.3",
                    (Some("tls12"), Some("tls12")) | (None, Some("tls12")) => "DTLS1.2",
                    (Some("tls12"), None | Some("tls13")) => "DTLS",
                    _ => {
                        return Err(format!(
                            "receiver-instance {}: tls-versions are tls12 and tls13",
                            self.name
                        ));
                    }
                }
            }
        };
        values.push(("Security", security.to_owned()));
        Ok(Row {
            name: self.name,
            values,
            ..Row::default()
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Subscription {
    id: u32,
    /// `ietf-udp-notif-transport:udp-notif`, when it is said.
    transport: Option<String>,
    encoding: Option<String>,
    #[serde(rename = "ietf-yang-push:datastore")]
    datastore: Option<String>,
    #[serde(rename = "ietf-yang-push:datastore-xpath-filter")]
    filter: String,
    #[serde(rename = "ietf-yang-push:periodic")]
    periodic: Option<Periodic>,
    #[serde(rename = "ietf-yang-push:on-change")]
    on_change: Option<OnChange>,
    receivers: Receivers,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Periodic {
    /// Hundredths of a second.
    period: u32,
    anchor_time: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct OnChange {
    /// Hundredths of a second.
    dampening_period: Option<u32>,
    sync_on_start: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Receivers {
    receiver: [Receiver; 1],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Receiver {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "ietf-subscribed-notif-receivers:receiver-instance-ref")]
    instance: String,
}

impl Subscription {
    fn row(self) -> Result<Row, String> {
        let refused = |reason: &str| Err(format!("subscription {}: {reason}", self.id));
        let is = |value: &Option<String>, name: &str| {
            value
                .as_ref()
                .is_none_or(|value| value.rsplit(':').next() == Some(name))
        };
        if !is(&self.transport, "udp-notif") {
            return refused("its transport is not udp-notif");
        }
        if !is(&self.datastore, "operational") {
            return refused("the datastore of a device's data model is operational");
        }
        let mut values = vec![("ID", self.id.to_string())];
        match (self.periodic, self.on_change) {
            (Some(periodic), None) => {
                let millis = u64::from(periodic.period) * 10;
                values.push(("Trigger", "Periodic".to_owned()));
                values.push(("Period", millis.clamp(100, u32::MAX.into()).to_string()));
                values.extend(periodic.anchor_time.map(|time| ("AnchorTime", time)));
            }
            (None, Some(on_change)) => {
                let millis = u64::from(on_change.dampening_period.unwrap_or(0)) * 10;
                let sync = on_change.sync_on_start.unwrap_or(true);
                values.push(("Trigger", "OnChange".to_owned()));
                values.push(("DampeningPeriod", millis.min(u32::MAX.into()).to_string()));
                values.push(("SyncOnStart", sync.to_string()));
            }
            _ => return refused("it is either periodic or on-change"),
        }
        let [receiver] = self.receivers.receiver;
        let references: Result<Vec<_>, _> = self
            .filter
            .split('|')
            .map(|one| steps(one.trim()))
            .collect();
        let references =
            references.map_err(|reason| format!("subscription {}: {reason}", self.id))?;
        Ok(Row {
            name: format!("yang-{}", self.id),
            receiver: Some(receiver.instance),
            references,
            values,
        })
    }
}

fn encoding(identity: &str) -> Result<&'static str, String> {
    match identity.rsplit(':').next() {
        Some("encode-json") => Ok("JSON"),
        Some("encode-xml") => Ok("XML"),
        Some("encode-cbor") => Ok("CBOR"),
        _ => Err(format!(
            "encoding {identity} is not one of encode-json, encode-xml, encode-cbor"
        )),
    }
}

/// `/homefleet-tr181:Device/IP/Interface[index='1']/Stats`.
fn steps(xpath: &str) -> Result<Reference, String> {
    let unknown = || {
        format!(
            "the filter {xpath:?} is not a path from /homefleet-tr181:Device, with [index='…'] or nothing to choose rows"
        )
    };
    let path = xpath.strip_prefix('/').ok_or_else(unknown)?;
    let mut steps = Vec::new();
    for step in path.split('/') {
        let (name, index) = match step.split_once('[') {
            Some((name, predicate)) => {
                let value = predicate
                    .strip_suffix(']')
                    .and_then(|inner| inner.split_once('='))
                    .filter(|(key, _)| key.trim().rsplit(':').next() == Some("index"))
                    .map(|(_, value)| value.trim().trim_matches(['\'', '"']));
                let index = value.and_then(|value| value.parse().ok());
                (name, Some(index.ok_or_else(unknown)?))
            }
            None => (step, None),
        };
        let local = match name.split_once(':') {
            Some(("homefleet-tr181", local)) => local,
            Some(_) => return Err(unknown()),
            None => name,
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        if local.is_empty() || !local.chars().all(is_name) {
            return Err(unknown());
        }
        steps.push((local.to_owned(), index));
    }
    if steps.first().map(|(name, _)| name.as_str()) != Some("Device") {
        return Err(unknown());
    }
    Ok(Reference::Steps(steps))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DOCUMENT: &str = r#"{
      "ietf-subscribed-notifications:subscriptions": {
        "subscription": [{
          "id": 7,
          "transport": "ietf-udp-notif-transport:udp-notif",
          "encoding": "ietf-udp-notif-transport:encode-cbor",
          "ietf-yang-push:datastore": "ietf-datastores:operational",
          "ietf-yang-push:datastore-xpath-filter":
            "/homefleet-tr181:Device/IP/Interface[index='1']/Stats | /homefleet-tr181:Device/DeviceInfo/UpTime",
          "ietf-yang-push:periodic": {"period": 500, "anchor-time": "2026-01-01T00:00:00Z"},
          "receivers": {"receiver": [{"name": "c",
            "ietf-subscribed-notif-receivers:receiver-instance-ref": "collector"}]}
        }],
        "ietf-subscribed-notif-receivers:receiver-instances": {
          "receiver-instance": [{
            "name": "collector",
            "ietf-udp-notif-transport:udp-notif-receiver": {
              "remote-address": "192.0.2.1", "remote-port": 4739, "local-port": 5000,
              "dtls": {}, "enable-segmentation": true, "max-segment-size": 1232
            }
          }]
        }
      }
    }"#;

    #[test]
    fn receivers_and_subscriptions_are_read_by_their_yang_names() {
        let config = read(DOCUMENT).unwrap();
        let receiver = &config.receivers[0];
        assert_eq!(receiver.name, "collector");
        let values: Vec<(&str, &str)> = receiver
            .values
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        assert_eq!(
            values,
            [
                ("Address", "192.0.2.1"),
                ("Port", "4739"),
                ("LocalPort", "5000"),
                ("EnableSegmentation", "true"),
                ("MaxSegmentSize", "1232"),
                ("Security", "DTLS1.3"),
                ("Encoding", "CBOR"),
            ]
        );
        let subscription = &config.subscriptions[0];
        assert_eq!(subscription.receiver.as_deref(), Some("collector"));
        assert!(subscription.values.contains(&("Period", "5000".to_owned())));
        assert!(subscription.values.contains(&("ID", "7".to_owned())));
        let name = |name: &str| (name.to_owned(), None);
        assert_eq!(
            subscription.references,
            [
                Reference::Steps(vec![
                    name("Device"),
                    name("IP"),
                    ("Interface".to_owned(), Some(1)),
                    name("Stats")
                ]),
                Reference::Steps(vec![name("Device"), name("DeviceInfo"), name("UpTime")]),
            ]
        );
    }

    #[test]
    fn what_would_not_be_followed_is_refused() {
        for (from, to, what) in [
            ("\"local-port\": 5000", "\"certificate\": 1", "certificate"),
            (
                "\"dtls\": {}",
                "\"dtls\": {\"client-identity\": {}}",
                "client-identity",
            ),
            (
                "\"name\": \"collector\"",
                "\"name\": \"other\"",
                "no receiver-instance collector",
            ),
            (
                "ietf-udp-notif-transport:udp-notif\"",
                "x:https\"",
                "transport",
            ),
            ("encode-cbor", "encode-avro", "encode-avro"),
            (
                "ietf-datastores:operational",
                "ietf-datastores:running",
                "datastore",
            ),
            ("Interface[index='1']", "Interface[name='x']", "filter"),
            (
                "/homefleet-tr181:Device/DeviceInfo",
                "/ietf-interfaces:interfaces",
                "filter",
            ),
            (
                "\"ietf-yang-push:periodic\": {\"period\": 500",
                "\"ietf-yang-push:periodic\": {\"x\": 500",
                "unknown field",
            ),
        ] {
            assert!(DOCUMENT.contains(from), "{from}");
            let error = read(&DOCUMENT.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(what), "{from} -> {to}: {error}");
        }
    }
}
