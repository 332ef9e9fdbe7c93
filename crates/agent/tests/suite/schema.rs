//! Everything in our data model is in TR-181 Device:2.16, with the same type, and never with more access.

use std::collections::{BTreeMap, BTreeSet};

use homefleet_agent::{local_agent, provider};
use homefleet_model::{
    schema::{Access, Object, ObjectAccess},
    value::Type,
};

/// The table made by `scripts/datamodel-table.py`: by kind and path, type and access.
struct Standard {
    rows: BTreeMap<(String, String), (String, String)>,
    keys: BTreeMap<String, BTreeSet<String>>,
}

impl Standard {
    fn read() -> Self {
        let text = include_str!("../data/tr-181-2-16-0-usp.tsv");
        let mut standard = Self {
            rows: BTreeMap::new(),
            keys: BTreeMap::new(),
        };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let cells: Vec<&str> = line.split('\t').collect();
            let [path, kind, ty, access] = cells.as_slice() else {
                panic!("{line:?}")
            };
            if *kind == "key" {
                standard
                    .keys
                    .entry((*path).to_owned())
                    .or_default()
                    .insert((*ty).to_owned());
            } else {
                let cells = ((*ty).to_owned(), (*access).to_owned());
                standard
                    .rows
                    .insert(((*kind).to_owned(), (*path).to_owned()), cells);
            }
        }
        standard
    }

    fn find(&self, kind: &str, path: &str) -> Option<(&str, &str)> {
        let (ty, access) = self.rows.get(&(kind.to_owned(), path.to_owned()))?;
        Some((ty, access))
    }
}

fn all_objects() -> Vec<&'static Object> {
    let providers = provider::all(&provider::Options::default());
    local_agent::OBJECTS
        .iter()
        .chain(local_agent::TRANSPORTS)
        .chain(providers.iter().flat_map(|provider| provider.objects()))
        .collect()
}

/// The primitive type as the table writes it.
fn primitive(ty: Type) -> String {
    match ty {
        Type::Base64 { .. } => "base64".into(),
        Type::Boolean => "boolean".into(),
        Type::DateTime | Type::LocalDateTime => "dateTime".into(),
        Type::Decimal => "decimal".into(),
        Type::HexBinary { .. } => "hexBinary".into(),
        Type::Int | Type::IntIn(..) => "int".into(),
        Type::Long | Type::LongIn(..) => "long".into(),
        Type::Enum(_) | Type::Reference(_) | Type::String { .. } => "string".into(),
        Type::List(list) => format!("list:{}", primitive(list.item)),
        Type::UnsignedInt | Type::UnsignedIntIn(..) => "unsignedInt".into(),
        Type::UnsignedLong | Type::UnsignedLongIn(..) => "unsignedLong".into(),
    }
}

/// `Interface.1.Name` is not used in tables; `{i}` is.
fn check(object: &Object, standard: &Standard, problems: &mut Vec<String>) {
    let mut problem = |text: String| problems.push(format!("{}{text}", object.path));
    let Some((multi, access)) = standard.find("object", object.path) else {
        return problem(" is not in the standard".into());
    };
    if (multi == "multi") != object.path.ends_with("{i}.") {
        problem(format!(" should be {multi}"));
    }
    if object.access != ObjectAccess::ReadOnly && access != "readWrite" {
        problem(format!(": {:?} is more than {access}", object.access));
    }
    for param in object.params {
        let path = format!("{}{}", object.path, param.name);
        let Some((ty, access)) = standard.find("param", &path) else {
            problem(format!("{} is not in the standard", param.name));
            continue;
        };
        if primitive(param.ty) != ty {
            problem(format!(
                "{}: {} should be {ty}",
                param.name,
                primitive(param.ty)
            ));
        }
        let fits = match param.access {
            Access::ReadOnly => true,
            Access::ReadWrite => access == "readWrite",
            Access::WriteOnce => access != "readOnly",
        };
        if !fits {
            problem(format!(
                "{}: {:?} is more than {access}",
                param.name, param.access
            ));
        }
    }
    let keys: BTreeSet<String> = object.unique_keys.iter().map(|key| key.join(",")).collect();
    let empty = BTreeSet::new();
    let known = standard.keys.get(object.path).unwrap_or(&empty);
    for key in keys.difference(known) {
        problem(format!(" has the key {key}, which the standard has not"));
    }
    let same = |ours: &[&str], kind: &str, path: &str, problems: &mut Vec<String>| {
        for name in ours {
            if standard.find(kind, &format!("{path}.{name}")).is_none() {
                problems.push(format!("{path}.{name}: no such {kind} in the standard"));
            }
        }
    };
    for command in object.commands {
        let path = format!("{}{}", object.path, command.name);
        match standard.find("command", &path) {
            None => problems.push(format!("{path} is not in the standard")),
            Some((runs, _)) if (runs == "async") != command.is_async => {
                problems.push(format!("{path} should be {runs}"));
            }
            Some(_) => {
                same(command.input, "input", &path, problems);
                same(command.output, "output", &path, problems);
            }
        }
    }
    for event in object.events {
        let path = format!("{}{}", object.path, event.name);
        if standard.find("event", &path).is_none() {
            problems.push(format!("{path} is not in the standard"));
        }
        same(event.args, "arg", &path, problems);
    }
}

#[test]
fn every_object_parameter_command_and_event_is_that_of_the_standard() {
    let standard = Standard::read();
    let mut problems = Vec::new();
    let objects = all_objects();
    for object in &objects {
        check(object, &standard, &mut problems);
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(
        objects.len() > 20,
        "the providers' objects are there too: {}",
        objects.len()
    );
}

#[test]
fn what_is_narrower_than_the_standard_is_narrower_on_purpose() {
    let standard = Standard::read();
    let mut narrower = BTreeSet::new();
    for object in local_agent::OBJECTS.iter().chain(local_agent::TRANSPORTS) {
        for param in object.params {
            let path = format!("{}{}", object.path, param.name);
            if param.access == Access::ReadOnly
                && standard.find("param", &path).unwrap().1 == "readWrite"
            {
                narrower.insert(path);
            }
        }
    }
    assert_eq!(narrower, BTreeSet::new());
}

#[test]
fn the_profiles_of_every_mtp_are_offered() {
    let offered: BTreeSet<String> = all_objects()
        .into_iter()
        .flat_map(|object| {
            let own = std::iter::once(object.path.to_owned());
            own.chain(
                object
                    .params
                    .iter()
                    .map(|param| format!("{}{}", object.path, param.name)),
            )
        })
        .collect();
    // R-STOMP.0, R-STOMP.1, R-MQTT.5, R-UDS.1: what the profiles of Device:2.16 name, without what it has deprecated since.
    let profiles = [
        (
            "Device.STOMP.Connection.{i}.",
            "Alias Enable Status Host Port VirtualHost ServerRetryInitialInterval ServerRetryIntervalMultiplier ServerRetryMaxInterval EnableHeartbeats OutgoingHeartbeat IncomingHeartbeat Username Password",
        ),
        (
            "Device.LocalAgent.MTP.{i}.STOMP.",
            "Reference Destination DestinationFromServer",
        ),
        (
            "Device.LocalAgent.Controller.{i}.MTP.{i}.STOMP.",
            "Reference Destination",
        ),
        (
            "Device.LocalAgent.MTP.{i}.WebSocket.",
            "Port Path EnableEncryption KeepAliveInterval",
        ),
        (
            "Device.LocalAgent.Controller.{i}.MTP.{i}.WebSocket.",
            "Host Port Path EnableEncryption KeepAliveInterval CurrentRetryCount SessionRetryMinimumWaitInterval SessionRetryIntervalMultiplier",
        ),
        (
            "Device.MQTT.Client.{i}.",
            "CleanSession MessageRetryTime ResponseInformation SubscriptionNumberOfEntries WillEnable WillTopic WillValue WillQoS WillRetain Alias Name Enable Status ProtocolVersion BrokerAddress BrokerPort TransportProtocol KeepAliveTime ClientID Username Password ConnectRetryTime ConnectRetryIntervalMultiplier ConnectRetryMaxInterval",
        ),
        ("Device.STOMP.", "ConnectionNumberOfEntries"),
        ("Device.MQTT.", "ClientNumberOfEntries"),
        (
            "Device.MQTT.Capabilities.",
            "ProtocolVersionsSupported TransportProtocolSupported",
        ),
        (
            "Device.MQTT.Client.{i}.Stats.",
            "BrokerConnectionEstablished MQTTMessagesSent MQTTMessagesReceived ConnectionErrors LastPublishMessageSent LastPublishMessageReceived PublishSent PublishReceived SubscribeSent UnSubscribeSent PublishErrors",
        ),
        (
            "Device.MQTT.Client.{i}.Subscription.{i}.",
            "Alias Enable Status Topic QoS",
        ),
        (
            "Device.LocalAgent.MTP.{i}.MQTT.",
            "Reference ResponseTopicConfigured ResponseTopicDiscovered PublishQoS",
        ),
        (
            "Device.LocalAgent.Controller.{i}.MTP.{i}.MQTT.",
            "Reference Topic AgentMTPReference",
        ),
        (
            "Device.UnixDomainSockets.UnixDomainSocket.{i}.",
            "Alias Mode Path",
        ),
        ("Device.LocalAgent.MTP.{i}.UDS.", "UnixDomainSocketRef"),
        (
            "Device.LocalAgent.Controller.{i}.MTP.{i}.UDS.",
            "UnixDomainSocketRef",
        ),
    ];
    for (object, params) in profiles {
        for param in params.split(' ') {
            assert!(
                offered.contains(&format!("{object}{param}")),
                "{object}{param}"
            );
        }
    }
}

#[test]
fn every_non_functional_key_is_read_only_or_kept_for_life() {
    let text = include_str!("../data/tr-181-2-16-0-usp.tsv");
    let kept = ["Alias", "ID", "Name", "Recipient"];
    for object in all_objects() {
        for line in text
            .lines()
            .filter(|line| line.starts_with(&format!("{}\tkey\t", object.path)))
        {
            let cells: Vec<&str> = line.split('\t').collect();
            if cells[3] != "non-functional" {
                continue;
            }
            for name in cells[2].split(',') {
                let writable = object
                    .params
                    .iter()
                    .any(|param| param.name == name && param.access == Access::ReadWrite);
                assert!(
                    !writable || kept.contains(&name),
                    "{}{name} may change",
                    object.path
                );
            }
        }
    }
}
