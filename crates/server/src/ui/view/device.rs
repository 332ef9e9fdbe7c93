//! A device as a line of the list, as the head of its page, and its subscriptions.

use std::collections::BTreeMap;

use homefleet_api::client::encode;
use homefleet_api::{
    Connection, Cwmp, Device, DeviceSummary, Mtp, Parameter, Reachability, SubscriptionState,
};

use homefleet_net::mtp::Route;

use super::home::Place;
use super::when::{Clock, When};

/// A line of the list.
#[derive(Debug)]
pub(crate) struct Row {
    /// Endpoint ID.
    pub(crate) id: String,
    /// Its page.
    pub(crate) href: String,
    /// What a person calls it.
    pub(crate) name: String,
    /// What it says of itself, when that is not its name.
    pub(crate) model: String,
    /// `reachable`, `unreachable` or `unknown`.
    pub(crate) state: &'static str,
    /// The same for a person.
    pub(crate) state_text: &'static str,
    /// Software version.
    pub(crate) software: String,
    /// MTP of its last message.
    pub(crate) mtp: &'static str,
    /// Host and port of its last message; or topic, or destination.
    pub(crate) address: String,
    /// Tasks not finished.
    pub(crate) open_tasks: u32,
    /// When it was last heard.
    pub(crate) last_contact: Option<When>,
}

impl Row {
    /// The line of this device.
    pub(crate) fn new(device: &DeviceSummary, clock: &Clock) -> Self {
        Self {
            id: device.id.clone(),
            href: href(&device.id),
            name: name(device),
            model: device
                .label
                .as_ref()
                .and_then(|_| own_name(device))
                .unwrap_or_default(),
            state: device.reachability.as_str(),
            state_text: state_text(device.reachability),
            software: device.software_version.clone().unwrap_or_default(),
            mtp: device.mtp.map_or("", Mtp::name),
            address: device.address.as_deref().map(place).unwrap_or_default(),
            open_tasks: device.open_tasks,
            last_contact: (!device.last_contact.is_empty())
                .then(|| clock.when(&device.last_contact)),
        }
    }
}

/// The head of a device's page.
#[derive(Debug)]
pub(crate) struct Summary {
    /// Endpoint ID.
    pub(crate) id: String,
    /// Its page.
    pub(crate) href: String,
    /// Its resource in the REST API.
    pub(crate) api: String,
    /// Name an operator gave it.
    pub(crate) label: String,
    /// Where its tasks are posted.
    pub(crate) api_tasks: String,
    /// Page with all its tasks.
    pub(crate) tasks_href: String,
    /// What a person calls it.
    pub(crate) name: String,
    /// `reachable`, `unreachable` or `unknown`.
    pub(crate) state: &'static str,
    /// The same for a person.
    pub(crate) state_text: &'static str,
    /// Where it is: behind which gateway, the gateway of which home.
    pub(crate) places: Vec<Place>,
    /// What is worth knowing at a glance.
    pub(crate) facts: Vec<Fact>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Fact {
    /// What it is.
    pub(crate) name: &'static str,
    /// Value, unless it is a time.
    pub(crate) value: String,
    /// A time, shown as age.
    pub(crate) time: Option<When>,
    /// Whether it is read letter by letter.
    pub(crate) mono: bool,
    /// More, on hover.
    pub(crate) title: Option<String>,
}

impl Fact {
    fn text(name: &'static str, value: impl Into<String>) -> Self {
        Self {
            name,
            value: value.into(),
            time: None,
            mono: false,
            title: None,
        }
    }

    fn time(name: &'static str, time: When) -> Self {
        let title = Some(time.iso.clone());
        Self {
            time: Some(time),
            title,
            ..Self::text(name, "")
        }
    }
}

/// How a device that speaks TR-069 is called.
fn called(cwmp: &Cwmp) -> Option<Fact> {
    let nat = cwmp.nat_detected == Some(true);
    let (place, title) = match (&cwmp.binding, &cwmp.udp_connection_request_address) {
        (Some(binding), _) => (
            &binding.address,
            format!("UDP, proven to {} at {}", binding.local, binding.seen),
        ),
        (None, Some(told)) if nat => (told, "UDP, as the device tells".to_owned()),
        _ => (cwmp.connection_request_url.as_ref()?, "TCP".to_owned()),
    };
    let title = match nat {
        true => format!("{title}; address translation in between"),
        false => title,
    };
    Some(Fact {
        mono: true,
        title: Some(title),
        ..Fact::text("Called at", place)
    })
}

impl Summary {
    /// The head of this device's page; `parameters` hold at least `Device.DeviceInfo.`.
    pub(crate) fn new(device: &Device, parameters: &[Parameter], clock: &Clock) -> Self {
        let summary = &device.summary;
        let stored = |path: &str| parameters.iter().find(|parameter| parameter.path == path);
        let mut facts = Vec::new();
        let mut say = |name: &'static str, value: Option<String>| {
            if let Some(value) = value.filter(|value| says_something(value)) {
                facts.push(Fact::text(name, value));
            }
        };
        say("Manufacturer", summary.manufacturer.clone());
        say("Product class", summary.product_class.clone());
        say("Serial number", summary.serial_number.clone());
        say("Software", summary.software_version.clone());
        say(
            "Hardware",
            stored("Device.DeviceInfo.HardwareVersion").map(|parameter| parameter.value.clone()),
        );
        if let Some(newest) = device.protocol_versions.last() {
            facts.push(Fact {
                title: Some(device.protocol_versions.join(", ")),
                ..Fact::text("USP", newest)
            });
        }
        let up = stored("Device.DeviceInfo.UpTime")
            .and_then(|parameter| clock.before(&parameter.seen, parameter.value.parse().ok()?));
        facts.extend(up.map(|time| Fact::time("Up for", time)));
        facts.push(Fact::time(
            "Last contact",
            clock.when(&summary.last_contact),
        ));
        facts.push(Fact::time("Known for", clock.when(&summary.first_contact)));
        let connected = device.connections.first();
        if let Some(connection) = connected {
            facts.push(Fact {
                title: Some(others(&device.connections)),
                ..Fact::text("Connected over", over(connection))
            });
            facts.push(Fact::time("Connected for", clock.when(&connection.since)));
        }
        if let Some(address) = device.addresses.first() {
            let channel = channel(summary.mtp, address.secure);
            let place = place(&address.uri);
            if !place.is_empty() {
                facts.push(Fact {
                    mono: true,
                    title: Some(format!("{} ({channel})", address.uri)),
                    ..Fact::text("Address", place)
                });
            }
            facts.push(Fact::text("Channel", channel));
        }
        if let Some(cwmp) = &device.cwmp {
            facts.extend(called(cwmp));
        }
        if let (None, Some(broker)) = (&device.certificate, &device.broker) {
            facts.push(Fact {
                title: Some(format!(
                    "{}, SHA-256 {}",
                    broker.subject, broker.fingerprint
                )),
                ..Fact::text("Vouched for by", common_name(&broker.subject))
            });
        }
        if let Some(certificate) = &device.certificate {
            facts.push(Fact {
                title: Some(format!(
                    "{}, SHA-256 {}",
                    certificate.subject, certificate.fingerprint
                )),
                ..Fact::text(
                    "Certificate until",
                    certificate
                        .not_after
                        .get(..10)
                        .unwrap_or(&certificate.not_after),
                )
            });
        }
        if let (Reachability::Unreachable, Some(reason)) =
            (summary.reachability, &device.last_failure_reason)
        {
            facts.push(Fact {
                title: device.last_failure.clone(),
                ..Fact::text("Last failure", reason)
            });
        }
        Self {
            id: summary.id.clone(),
            href: href(&summary.id),
            api: format!("/api/v1/devices/{}", encode(&summary.id)),
            label: summary.label.clone().unwrap_or_default(),
            api_tasks: format!("/api/v1/devices/{}/tasks", encode(&summary.id)),
            tasks_href: format!("/tasks?device={}", encode(&summary.id)),
            name: name(summary),
            state: summary.reachability.as_str(),
            state_text: state_text(summary.reachability),
            places: Vec::new(),
            facts,
        }
    }
}

/// A subscription as the device has it, or as the server wants it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Subscription {
    /// Its object on the device; empty when the device does not have it.
    pub(crate) path: String,
    /// ID.
    pub(crate) id: String,
    /// NotifType.
    pub(crate) kind: String,
    /// ReferenceList.
    pub(crate) references: String,
    /// What is special about it.
    pub(crate) note: String,
}

/// Subscriptions on the device, in the order of their instances, then those it does not have.
pub(crate) fn subscriptions(device: &Device, parameters: &[Parameter]) -> Vec<Subscription> {
    let mut found: BTreeMap<u64, Subscription> = BTreeMap::new();
    for parameter in parameters {
        let Some(rest) = parameter
            .path
            .strip_prefix("Device.LocalAgent.Subscription.")
        else {
            continue;
        };
        let Some((Ok(instance), name)) = rest
            .split_once('.')
            .map(|(number, name)| (number.parse(), name))
        else {
            continue;
        };
        let entry = found.entry(instance).or_insert_with(|| Subscription {
            path: format!("Device.LocalAgent.Subscription.{instance}."),
            ..Subscription::default()
        });
        match name {
            "ID" => entry.id.clone_from(&parameter.value),
            "NotifType" => entry.kind.clone_from(&parameter.value),
            "ReferenceList" => entry.references = parameter.value.replace(',', ", "),
            "Enable" if parameter.value == "false" => entry.note = "disabled".to_owned(),
            _ => {}
        }
    }
    let mut all: Vec<Subscription> = found.into_values().collect();
    for wanted in &device.subscriptions {
        if all.iter().any(|known| known.id == wanted.id) {
            continue;
        }
        all.push(Subscription {
            path: wanted.instance.clone().unwrap_or_default(),
            id: wanted.id.clone(),
            kind: wanted.notification.clone(),
            references: wanted.paths.join(", "),
            note: match (wanted.state, &wanted.problem) {
                (SubscriptionState::Active, _) => String::new(),
                (SubscriptionState::Wanted, _) => "not confirmed yet".to_owned(),
                (SubscriptionState::Refused, problem) => {
                    format!(
                        "refused: {}",
                        problem.as_deref().unwrap_or("no reason given")
                    )
                }
            },
        });
    }
    all
}

fn href(id: &str) -> String {
    format!("/devices/{}", encode(id))
}

pub(super) fn name(device: &DeviceSummary) -> String {
    let said = |text: &Option<String>| text.clone().filter(|text| says_something(text));
    said(&device.label)
        .or_else(|| own_name(device))
        .or_else(|| said(&device.serial_number))
        .unwrap_or_else(|| device.id.clone())
}

/// Maker and model, as the device states them.
fn own_name(device: &DeviceSummary) -> Option<String> {
    let said = |text: &Option<String>| text.clone().filter(|text| says_something(text));
    match (said(&device.manufacturer), said(&device.model_name)) {
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => Some(one),
        // A model that begins with its maker's name need not say it twice.
        (Some(maker), Some(model)) if model.starts_with(&maker) => Some(model),
        (Some(maker), Some(model)) => Some(format!("{maker} {model}")),
    }
}

/// What a device says of itself may be nothing, or a word for it.
fn says_something(text: &str) -> bool {
    !text.is_empty() && !text.eq_ignore_ascii_case("unknown")
}

fn state_text(state: Reachability) -> &'static str {
    match state {
        Reachability::Reachable => "Reachable",
        Reachability::Unreachable => "Unreachable",
        Reachability::Unknown => "Silent",
    }
}

/// The common name of a certificate's subject; all of it when it has none.
fn common_name(subject: &str) -> &str {
    let mut parts = subject.split(',');
    parts
        .find_map(|part| part.trim().strip_prefix("CN="))
        .unwrap_or(subject)
}

/// A connection for a person.
fn over(connection: &Connection) -> String {
    match &connection.broker {
        Some(broker) => format!("{} ({broker})", connection.mtp.name()),
        None => connection.mtp.name().to_owned(),
    }
}

fn others(connections: &[Connection]) -> String {
    let all: Vec<String> = connections.iter().map(over).collect();
    all.join(", ")
}

/// What carries messages to an address, and what protects it.
fn channel(mtp: Option<Mtp>, secure: bool) -> String {
    let name = mtp.map_or("Unknown", Mtp::name);
    match (mtp, secure) {
        (_, false) => format!("{name}, not protected"),
        (Some(Mtp::Coap), true) => "CoAP over DTLS".to_owned(),
        (Some(Mtp::Uds), true) => name.to_owned(),
        (_, true) => format!("{name} over TLS"),
    }
}

/// Where an address leads, as a person reads it: host and port, topic or destination; nothing where the session is all there is.
fn place(uri: &str) -> String {
    match uri.parse() {
        Ok(Route::Stomp { destination, .. }) => destination,
        Ok(Route::Mqtt { topic, .. }) => topic,
        Ok(Route::WebSocket { .. } | Route::Uds) => String::new(),
        Ok(Route::Coap(_)) | Err(_) => {
            let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
            rest.split('/').next().unwrap_or(rest).to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_its_host_and_port() {
        assert_eq!(place("coaps://192.0.2.7:5685/usp"), "192.0.2.7:5685");
        assert_eq!(place("coaps://[2001:db8::1]/usp"), "[2001:db8::1]");
        assert_eq!(place("mqtt:home/usp%2Fagent%2F1"), "usp/agent/1");
        assert_eq!(place("stomp:home/%2Ftopic%2Fa"), "/topic/a");
        assert_eq!(place("wss:"), "");
    }
}
