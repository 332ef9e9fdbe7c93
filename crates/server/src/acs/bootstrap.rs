//! What every managed device is given, once: a login of its own for the ACS, one for Connection Requests, its period, what it is to tell about.
//!
//! [`bootstrap`] is the one place that says what. A session sets it part by part, before any task; what a device takes is remembered in
//! [`CwmpRecord::given`], and so is what it refuses, so that it is not asked again in every session. A device that says `0 BOOTSTRAP` has forgotten, or
//! may have: it is given everything anew.

use std::sync::Arc;

use homefleet_cwmp::message::{
    Notification, SetAttributes, SetParameterAttributes, SetParameterValues,
};
use homefleet_cwmp::{Message, ParameterValues, Value, ValueType};

use super::keeper::Keeper;
use super::stun::{self, Stun};
use super::{Policy, login};
use crate::home::GATEWAY_INFO;
use crate::store::{CwmpRecord, DeviceRecord, LoginRecord};

/// What is remembered of a part.
type Keep = Box<dyn FnOnce(&mut CwmpRecord) + Send + Sync>;

/// What devices are given together: all of it, or nothing.
pub(crate) struct Part {
    /// What it is, for [`CwmpRecord::given`] and the log.
    pub(crate) name: String,
    /// Names below the root, and the values that they get, with their types in the data model.
    pub(crate) values: Vec<(String, ValueType, String)>,
    /// Names below the root, and what is to be told about their changes. They follow the values.
    pub(crate) attributes: Vec<(String, Notification)>,
    /// Remembered, on disk, before the device is asked: what must not be lost with its answer.
    pub(crate) before: Option<Keep>,
    /// Remembered when the device has taken it.
    pub(crate) taken: Option<Keep>,
    /// Remembered when it has refused it.
    pub(crate) refused: Option<Keep>,
}

/// What a device is to be given goes by.
pub(crate) struct Grounds<'a> {
    /// The device.
    pub(crate) device: &'a DeviceRecord,
    /// What is known of it as one that speaks CWMP.
    pub(crate) cwmp: &'a CwmpRecord,
    /// What the operator decided.
    pub(crate) policy: &'a Policy,
    /// Seals passwords that are kept.
    pub(crate) keeper: &'a Keeper,
    /// The STUN server, where there is one.
    pub(super) stun: Option<&'a Arc<Stun>>,
}

/// All parts that the device was not given yet, in their order.
pub(crate) fn bootstrap(grounds: &Grounds<'_>) -> Vec<Part> {
    let parts = [
        login(grounds),
        calls(grounds),
        period(grounds),
        stun::login(grounds),
        stun::notifications(grounds),
        gateway(grounds),
        manageable(grounds),
    ];
    let due = parts.into_iter().flatten().chain(notify(grounds));
    due.filter(|part| !grounds.cwmp.given.contains_key(&part.name))
        .collect()
}

/// The login for Connection Requests.
fn calls(grounds: &Grounds<'_>) -> Option<Part> {
    let id = grounds.device.id.clone();
    let password = fresh_password()?;
    let mut part = Part::new("calls");
    part.text("ManagementServer.ConnectionRequestUsername", &id);
    part.text("ManagementServer.ConnectionRequestPassword", &password);
    let login = LoginRecord {
        password: grounds.keeper.seal(&id, &password)?,
        username: id,
    };
    part.taken = Some(Box::new(|cwmp| cwmp.connection_request = Some(login)));
    Some(part)
}

/// The login for the ACS, in place of the one that all devices have. It counts from when the device has used it.
fn login(grounds: &Grounds<'_>) -> Option<Part> {
    let policy = grounds.policy;
    let wanted = policy.device_logins && policy.login.is_some();
    if !wanted || grounds.device.certificate.is_some() {
        return None;
    }
    let (name, password) = (login::name_of(&grounds.device.id)?, fresh_password()?);
    let hashed = login::hashed(name, &password);
    let mut part = Part::new("login");
    part.text("ManagementServer.Username", name);
    part.text("ManagementServer.Password", &password);
    part.before = Some(Box::new(|cwmp| cwmp.next_login = Some(hashed)));
    part.refused = Some(Box::new(|cwmp| cwmp.next_login = None));
    Some(part)
}

/// How often it comes by itself.
fn period(grounds: &Grounds<'_>) -> Option<Part> {
    let interval = grounds.policy.inform_interval;
    if interval == 0 {
        return None;
    }
    let mut part = Part::new("period");
    part.value(
        "ManagementServer.PeriodicInformEnable",
        ValueType::Boolean,
        "true",
    );
    part.value(
        "ManagementServer.PeriodicInformInterval",
        ValueType::UnsignedInt,
        &interval.to_string(),
    );
    Some(part)
}

/// What the operator wants to be told of as it happens; one by one, since a device need not have all of it.
fn notify<'a>(grounds: &'a Grounds<'_>) -> impl Iterator<Item = Part> + 'a {
    let wanted = grounds.policy.value_change.iter();
    let below = wanted.filter_map(|path| path.strip_prefix("Device."));
    let plain = below.filter(|path| !path.contains(['*', '[']));
    plain.map(|path| {
        let mut part = Part::new(format!("notify {path}"));
        part.attributes
            .push((path.to_owned(), Notification::Active));
        part
    })
}

/// It is to tell at once which gateway it is behind; this is so by itself, unless somebody changed it (TR-111 Part 1 §1.2.2).
fn gateway(grounds: &Grounds<'_>) -> Option<Part> {
    let below = GATEWAY_INFO.strip_prefix(grounds.cwmp.root.as_str())?;
    let elements = ["ManufacturerOUI", "SerialNumber", "ProductClass"];
    let names = elements.map(|element| format!("{below}{element}"));
    told_actively(grounds, "gateway", names)
}

/// A gateway is to tell at once of devices that come and go (TR-111 Part 1 §1.2.3).
fn manageable(grounds: &Grounds<'_>) -> Option<Part> {
    let number = "ManagementServer.ManageableDeviceNumberOfEntries";
    told_actively(grounds, "manageable", [number.to_owned()])
}

/// A part of its own for each: a device that lacks one still has the other.
fn told_actively(
    grounds: &Grounds<'_>,
    part: &'static str,
    names: impl IntoIterator<Item = String>,
) -> Option<Part> {
    let mut part = Part::new(part);
    let names = names.into_iter();
    part.attributes
        .extend(names.map(|name| (name, Notification::Active)));
    grounds.policy.homes.then_some(part)
}

impl Part {
    /// Nothing yet.
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            values: Vec::new(),
            attributes: Vec::new(),
            before: None,
            taken: None,
            refused: None,
        }
    }

    /// A value of any type.
    pub(crate) fn value(&mut self, name: &str, kind: ValueType, value: &str) {
        self.values.push((name.to_owned(), kind, value.to_owned()));
    }

    /// A text.
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.value(name, ValueType::String, value);
    }

    /// The requests that set it on a device whose data model begins with `root`.
    pub(crate) fn requests(&self, root: &str) -> Vec<Message> {
        let mut requests = Vec::new();
        if !self.values.is_empty() {
            let mut values = ParameterValues::new();
            for (name, kind, text) in &self.values {
                values.push(&format!("{root}{name}"), Value { kind: *kind, text });
            }
            let parameter_key = String::new();
            requests.push(
                SetParameterValues {
                    values,
                    parameter_key,
                }
                .into(),
            );
        }
        if !self.attributes.is_empty() {
            let attributes = self.attributes.iter();
            let attributes = attributes.map(|(name, notification)| SetAttributes {
                name: format!("{root}{name}"),
                notification_change: true,
                notification: *notification,
                ..SetAttributes::default()
            });
            let attributes = attributes.collect();
            requests.push(SetParameterAttributes { attributes }.into());
        }
        requests
    }
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Part").field(&self.name).finish()
    }
}

/// A password that nobody guesses: 96 random bits in hexadecimal. `None` without randomness.
pub(crate) fn fresh_password() -> Option<String> {
    let mut random = [0; 12];
    getrandom::fill(&mut random).ok()?;
    Some(crate::account::hex(&random))
}
