//! Telemetry configured as JSON (RFC 7951) by the names of `ietf-subscribed-notifications` (RFC 8639), `ietf-yang-push` (RFC 8641),
//! `ietf-subscribed-notif-receivers` and `ietf-udp-notif-transport@2025-06-04`, or with the receivers of `ietf-udp-notif@2020-04-27` (draft -03 §7),
//! which stand in the subscription and know no security.
//!
//! What the agent would not follow is refused, never passed over: a filter it cannot express, a key of its own certificate in `dtls`.

use std::collections::BTreeMap;

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
    // Receivers whose local address is a subscription's `source-address`.
    let mut from_subscriptions: BTreeMap<String, String> = BTreeMap::new();
    for receiver in subscriptions.receiver_instances.receiver_instance {
        config.receivers.push(receiver.row()?);
    }
    for mut subscription in subscriptions.subscription {
        let encoding = subscription.encoding.as_deref().map(encoding).transpose()?;
        let source_address = subscription.source_address.take();
        let id = subscription.id;
        let (row, own) = subscription.row()?;
        config.receivers.extend(own);
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
            // -26 §7.1: what the receiver says goes before it.
            let local = own_address(&receiver.values);
            match (source_address, local) {
                (Some(address), None) => {
                    receiver.values.push(("LocalAddress", address.clone()));
                    from_subscriptions.insert(receiver.name.clone(), address);
                }
                (Some(address), Some(_)) => {
                    let other = from_subscriptions.get(&receiver.name);
                    if other.is_some_and(|other| *other != address) {
                        return Err(format!(
                            "subscription {id}: receiver-instance {name} is sent to from one source-address"
                        ));
                    }
                }
                (None, _) => {}
            }
        }
        config.subscriptions.push(row);
    }
    Ok(config)
}

fn own_address<'a>(values: &'a [(&'static str, String)]) -> Option<&'a str> {
    let own = values.iter().find(|(name, _)| *name == "LocalAddress");
    own.map(|(_, address)| address.as_str())
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
    #[serde(default, rename = "ietf-subscribed-notif-receivers:receiver-instances")]
    receiver_instances: ReceiverInstances,
}

#[derive(Default, Deserialize)]
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
    source_address: Option<String>,
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
    instance: Option<String>,
    #[serde(rename = "ietf-udp-notif:address")]
    address: Option<String>,
    #[serde(rename = "ietf-udp-notif:port")]
    port: Option<u16>,
    #[serde(rename = "ietf-udp-notif:enable-fragment")]
    enable_fragment: Option<bool>,
    #[serde(rename = "ietf-udp-notif:max-fragment-size")]
    max_fragment_size: Option<u32>,
}

impl Receiver {
    /// The name of its receiver, and the receiver itself if it stands here as draft -03 has it.
    fn resolve(self, id: u32) -> Result<(String, Option<Row>), String> {
        let refused = |reason: &str| Err(format!("subscription {id}: {reason}"));
        let fragments = self.enable_fragment.unwrap_or(false);
        let is_old = self.address.is_some() || self.port.is_some();
        let (address, port) = match (self.instance, self.address, self.port) {
            (Some(name), None, None)
                if self.enable_fragment.is_none() && self.max_fragment_size.is_none() =>
            {
                return Ok((name, None));
            }
            (None, Some(address), Some(port)) => (address, port),
            _ if is_old => {
                return refused("ietf-udp-notif wants an address and a port, and nothing else");
            }
            _ => {
                return refused(
                    "its receiver is a receiver-instance-ref, or an ietf-udp-notif:address and port",
                );
            }
        };
        if self.max_fragment_size.is_some() && !fragments {
            return refused("max-fragment-size is there only when enable-fragment is true");
        }
        let mut values = vec![
            ("Address", address),
            ("Port", port.to_string()),
            ("EnableSegmentation", fragments.to_string()),
        ];
        if let Some(size) = self.max_fragment_size {
            let size = size.min(u16::MAX.into());
            values.push(("MaxSegmentSize", size.to_string()));
        }
        values.push(("Security", "None".to_owned()));
        values.push(("Generation", "draft-03".to_owned()));
        let name = format!("yang-{id}");
        let row = Row {
            name: name.clone(),
            values,
            ..Row::default()
        };
        Ok((name, Some(row)))
    }
}

impl Subscription {
    fn row(self) -> Result<(Row, Option<Row>), String> {
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
        let (receiver, own) = receiver.resolve(self.id)?;
        let references: Result<Vec<_>, _> = self
            .filter
            .split('|')
            .map(|one| steps(one.trim()))
            .collect();
        let references =
            references.map_err(|reason| format!("subscription {}: {reason}", self.id))?;
        let row = Row {
            name: format!("yang-{}", self.id),
            receiver: Some(receiver),
            references,
            values,
        };
        Ok((row, own))
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

    const OLD: &str = r#"{
      "ietf-subscribed-notifications:subscriptions": {
        "subscription": [{
          "id": 3,
          "transport": "ietf-udp-notif:udp-notif",
          "encoding": "ietf-udp-notif:encode-cbor",
          "source-address": "192.0.2.9",
          "ietf-yang-push:datastore-xpath-filter": "/homefleet-tr181:Device/DeviceInfo/UpTime",
          "ietf-yang-push:periodic": {"period": 500},
          "receivers": {"receiver": [{"name": "c", "ietf-udp-notif:address": "192.0.2.1", "ietf-udp-notif:port": 4739,
            "ietf-udp-notif:enable-fragment": true, "ietf-udp-notif:max-fragment-size": 1000}]}
        }]
      }
    }"#;

    #[test]
    fn receivers_of_draft_03_stand_in_their_subscription() {
        let config = read(OLD).unwrap();
        let values = &config.receivers[0].values;
        for value in [
            ("Address", "192.0.2.1"),
            ("Port", "4739"),
            ("EnableSegmentation", "true"),
            ("MaxSegmentSize", "1000"),
            ("Generation", "draft-03"),
            ("Security", "None"),
            ("Encoding", "CBOR"),
            ("LocalAddress", "192.0.2.9"),
        ] {
            assert!(values.contains(&(value.0, value.1.to_owned())), "{value:?}");
        }
        let name = Some(config.receivers[0].name.as_str());
        assert_eq!(config.subscriptions[0].receiver.as_deref(), name);
        for (from, to, what) in [
            ("fragment\": true", "fragment\": false", "enable-fragment"),
            (
                "\"ietf-udp-notif:port\": 4739,",
                "",
                "an address and a port",
            ),
            (
                "\"ietf-udp-notif:address\": \"192.0.2.1\", \"ietf-udp-notif:port\": 4739,",
                "",
                "receiver-instance-ref",
            ),
        ] {
            assert!(OLD.contains(from), "{from}");
            let error = read(&OLD.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(what), "{from} -> {to}: {error}");
        }
    }

    #[test]
    fn local_address_goes_before_source_address() {
        let source = DOCUMENT.replacen(
            "\"id\": 7,",
            "\"id\": 7, \"source-address\": \"192.0.2.9\",",
            1,
        );
        let local = |text: &str| {
            let config = read(text).unwrap();
            own_address(&config.receivers[0].values).map(str::to_owned)
        };
        assert_eq!(local(&source).as_deref(), Some("192.0.2.9"));
        let both = source.replacen(
            "\"local-port\"",
            "\"local-address\": \"192.0.2.8\", \"local-port\"",
            1,
        );
        assert_eq!(local(&both).as_deref(), Some("192.0.2.8"));
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
