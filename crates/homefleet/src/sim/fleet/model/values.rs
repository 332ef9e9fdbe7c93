//! The values of one device.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use homefleet_cwmp::message::{Notification, SetAttributes};
use homefleet_cwmp::value::ParameterInfos;
use homefleet_cwmp::{DateTime, Fault, FaultCode, ParameterFault, ParameterValues, Value};

use super::super::chance::mixed;
use super::{Model, Param, Start};

/// Seconds for which a value that moves stays.
const MOVES_EVERY: u64 = 30;
/// Most instances added to a device.
const MOST_ADDED: usize = 1000;
/// Most instances deleted, before none is added any more: their numbers are remembered.
const MOST_REMOVED: usize = 10_000;

/// Who a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct About {
    /// Six hexadecimal digits.
    pub(crate) oui: Arc<str>,
    /// ProductClass.
    pub(crate) class: Arc<str>,
    /// SerialNumber.
    pub(crate) serial: String,
    /// What chance makes of it.
    pub(crate) seed: u64,
    /// The ACS.
    pub(crate) acs: Arc<str>,
    /// The name of its first login.
    pub(crate) login: Arc<str>,
    /// Seconds between periodic informs, as it was made.
    pub(crate) period: u64,
    /// Where it takes Connection Requests; empty for nowhere.
    pub(crate) call: String,
}

/// The moment at which values are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Seconds since power came.
    pub(crate) uptime: u64,
    /// The time.
    pub(crate) now: DateTime,
}

/// The values of a device: what differs from its model.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    model: Arc<Model>,
    about: About,
    set: BTreeMap<String, String>,
    attributes: BTreeMap<String, Notification>,
    /// Instances, with their dots.
    added: BTreeSet<String>,
    removed: BTreeSet<String>,
}

impl Values {
    /// As a device leaves the factory.
    pub(crate) fn new(model: Arc<Model>, about: About) -> Self {
        Self {
            model,
            about,
            set: BTreeMap::new(),
            attributes: BTreeMap::new(),
            added: BTreeSet::new(),
            removed: BTreeSet::new(),
        }
    }

    /// Back to how it left the factory.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.model.clone(), self.about.clone());
    }

    /// Who it is.
    pub(crate) fn about(&self) -> &About {
        &self.about
    }

    /// The value of a parameter below the root, as the device itself sees it: secrets too.
    pub(crate) fn own(&self, name: &str, place: Place) -> String {
        let name = format!("{}{name}", self.model.root.prefix());
        if let Some(value) = self.set.get(&name) {
            return value.clone();
        }
        let found = self.find(&name);
        found.map_or(String::new(), |(index, param)| {
            self.start(&name, index, param, place).into_owned()
        })
    }

    /// Changes a parameter below the root, as the device itself does.
    pub(crate) fn change(&mut self, name: &str, value: String) {
        let name = format!("{}{name}", self.model.root.prefix());
        self.set.insert(name, value);
    }

    /// What an Inform tells: the forced parameters, and these below the root.
    pub(crate) fn informed(&self, more: &[&str], place: Place) -> ParameterValues {
        let mut values = ParameterValues::new();
        for index in &self.model.informed {
            if let Some(param) = self.model.params.get(*index) {
                self.tell(&param.name, *index, param, place, &mut values);
            }
        }
        for name in more {
            let name = format!("{}{name}", self.model.root.prefix());
            if let Some((index, param)) = self.find(&name) {
                self.tell(&name, index, param, place, &mut values);
            }
        }
        values
    }

    /// GetParameterValues.
    ///
    /// # Errors
    /// 9005.
    pub(crate) fn read(&self, names: &[String], place: Place) -> Result<ParameterValues, Fault> {
        let mut values = ParameterValues::new();
        for name in names {
            if let Some((index, param)) = self.find(name) {
                self.tell(name, index, param, place, &mut values);
                continue;
            }
            if !self.is_object(name) {
                return Err(Fault::new(FaultCode::INVALID_PARAMETER_NAME));
            }
            self.each(name, |name, index, param| {
                self.tell(name, index, param, place, &mut values);
            });
        }
        Ok(values)
    }

    /// GetParameterNames.
    ///
    /// # Errors
    /// 9005, 9003.
    pub(crate) fn names(&self, path: &str, next_level: bool) -> Result<ParameterInfos, Fault> {
        let mut infos = ParameterInfos::new();
        if let Some((_, param)) = self.find(path) {
            if next_level {
                return Err(Fault::new(FaultCode::INVALID_ARGUMENTS));
            }
            infos.push(path, param.writable);
            return Ok(infos);
        }
        if !self.is_object(path) {
            return Err(Fault::new(FaultCode::INVALID_PARAMETER_NAME));
        }
        // A table without instances has nothing below it, but is there.
        let mut all = BTreeMap::new();
        for table in &self.model.tables {
            if table.starts_with(path) && !self.is_removed(table) {
                objects(table, path, next_level, &mut |object| {
                    all.insert(object.to_owned(), self.is_writable(object));
                });
            }
        }
        self.each(path, |name, _, param| {
            objects(name, path, next_level, &mut |object| {
                all.insert(object.to_owned(), self.is_writable(object));
            });
            let below = name.get(path.len()..).unwrap_or_default();
            if !next_level || !below.contains('.') {
                all.insert(name.to_owned(), param.writable);
            }
        });
        if !next_level && !path.is_empty() {
            infos.push(path, self.is_writable(path));
        }
        all.remove(path);
        for (name, writable) in all {
            infos.push(&name, writable);
        }
        Ok(infos)
    }

    /// SetParameterValues: all or none.
    ///
    /// # Errors
    /// 9003 with the fault of each parameter.
    pub(crate) fn write(&mut self, values: &ParameterValues) -> Result<(), Fault> {
        let mut faults = Vec::new();
        let mut texts = Vec::new();
        for (name, value) in values.iter() {
            let code = match self.find(name) {
                None => FaultCode::INVALID_PARAMETER_NAME,
                Some((_, param)) if !param.writable => FaultCode::NOT_WRITABLE,
                Some((_, param)) if param.kind != value.kind => FaultCode::INVALID_PARAMETER_TYPE,
                Some(_) => match value.canonical() {
                    Ok(text) => {
                        texts.push((name.to_owned(), text));
                        continue;
                    }
                    Err(_) => FaultCode::INVALID_PARAMETER_VALUE,
                },
            };
            faults.push(ParameterFault {
                name: name.to_owned(),
                code,
                text: code.text().to_owned(),
            });
        }
        if faults.is_empty() {
            self.set.extend(texts);
            return Ok(());
        }
        let mut fault = Fault::new(FaultCode::INVALID_ARGUMENTS);
        fault.parameters = faults;
        Err(fault)
    }

    /// AddObject; the number of the instance.
    ///
    /// # Errors
    /// 9005, 9004.
    pub(crate) fn add(&mut self, table: &str) -> Result<u32, Fault> {
        if !self.can_be_added_to(table) || self.below_removed(table) {
            return Err(Fault::new(FaultCode::INVALID_PARAMETER_NAME));
        }
        if self.added.len() >= MOST_ADDED || self.removed.len() >= MOST_REMOVED {
            return Err(Fault::new(FaultCode::RESOURCES_EXCEEDED));
        }
        // A number is not used twice: whoever remembers it would find something else there.
        let taken = |instance: &str| {
            !self.model.below(instance).is_empty() || self.removed.contains(instance)
        };
        let free = (1..u32::MAX).find(|number| {
            let instance = format!("{table}{number}.");
            !self.added.contains(&instance) && !taken(&instance)
        });
        let number = free.ok_or_else(|| Fault::new(FaultCode::RESOURCES_EXCEEDED))?;
        self.added.insert(format!("{table}{number}."));
        Ok(number)
    }

    /// DeleteObject.
    ///
    /// # Errors
    /// 9005, 9003 for what is no instance that can be deleted.
    pub(crate) fn delete(&mut self, instance: &str) -> Result<(), Fault> {
        if !self.can_be_deleted(instance) {
            return Err(Fault::new(FaultCode::INVALID_ARGUMENTS));
        }
        if !self.is_object(instance) {
            return Err(Fault::new(FaultCode::INVALID_PARAMETER_NAME));
        }
        self.added.remove(instance);
        self.removed.insert(instance.to_owned());
        self.set.retain(|name, _| !name.starts_with(instance));
        Ok(())
    }

    /// The attributes of parameters; of all below a name with a trailing dot.
    ///
    /// # Errors
    /// 9005.
    pub(crate) fn attributes(
        &self,
        names: &[String],
    ) -> Result<Vec<(String, Notification)>, Fault> {
        let mut all = Vec::new();
        let of = |name: &str| self.attributes.get(name).copied().unwrap_or_default();
        for name in names {
            if self.find(name).is_some() {
                all.push((name.clone(), of(name)));
            } else if self.is_object(name) {
                self.each(name, |name, _, _| all.push((name.to_owned(), of(name))));
            } else {
                return Err(Fault::new(FaultCode::INVALID_PARAMETER_NAME));
            }
        }
        Ok(all)
    }

    /// SetParameterAttributes: all or none.
    ///
    /// # Errors
    /// 9005.
    pub(crate) fn set_attributes(&mut self, wanted: &[SetAttributes]) -> Result<(), Fault> {
        let mut all = Vec::new();
        for one in wanted {
            let named = self.attributes(std::slice::from_ref(&one.name))?;
            if one.notification_change {
                all.extend(named.into_iter().map(|(name, _)| (name, one.notification)));
            }
        }
        self.attributes.extend(all);
        Ok(())
    }

    fn tell(
        &self,
        name: &str,
        index: usize,
        param: &Param,
        place: Place,
        to: &mut ParameterValues,
    ) {
        let kind = param.kind;
        let set = self.set.get(name).filter(|_| param.start != Start::Secret);
        match set {
            Some(text) => to.push(name, Value { kind, text }),
            None => {
                let text = self.start(name, index, param, place);
                to.push(name, Value { kind, text: &text });
            }
        }
    }

    /// Every parameter whose name begins so.
    fn each(&self, prefix: &str, mut visit: impl FnMut(&str, usize, &Param)) {
        for index in self.model.below(prefix) {
            if let Some(param) = self.model.params.get(index)
                && !self.is_removed(&param.name)
            {
                visit(&param.name, index, param);
            }
        }
        for instance in &self.added {
            if !instance.starts_with(prefix) && !prefix.starts_with(instance.as_str()) {
                continue;
            }
            for (index, suffix, param) in self.pattern(instance) {
                let name = format!("{instance}{suffix}");
                if name.starts_with(prefix) {
                    visit(&name, index, param);
                }
            }
        }
    }

    /// What an added instance has: as the first one of its table, without tables of its own.
    fn pattern(&self, instance: &str) -> impl Iterator<Item = (usize, &str, &Param)> {
        let table = instance.trim_end_matches('.').rsplit_once('.');
        let first = table.map_or(String::new(), |(table, _)| format!("{table}.1."));
        let places = self.model.below(&first);
        places.filter_map(move |index| {
            let param = self.model.params.get(index)?;
            let suffix = param.name.get(first.len()..)?;
            let own = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            (!suffix.split('.').any(own)).then_some((index, suffix, param))
        })
    }

    fn find(&self, name: &str) -> Option<(usize, &Param)> {
        if let Some(index) = self.model.find(name) {
            let param = self.model.params.get(index)?;
            return (!self.is_removed(name)).then_some((index, param));
        }
        let within = |instance: &&String| name.starts_with(instance.as_str());
        let instance = self.added.iter().find(within)?;
        let wanted = name.get(instance.len()..)?;
        let mut all = self.pattern(instance);
        all.find(|(_, suffix, _)| *suffix == wanted)
            .map(|(index, _, param)| (index, param))
    }

    fn is_object(&self, path: &str) -> bool {
        if path.is_empty() {
            return true;
        }
        if !path.ends_with('.') || self.is_removed(path) {
            return false;
        }
        self.model.has_object(path)
            || self
                .added
                .iter()
                .any(|instance| instance.starts_with(path) || path == instance)
    }

    fn can_be_added_to(&self, path: &str) -> bool {
        self.model.tables.contains(path)
    }

    fn can_be_deleted(&self, instance: &str) -> bool {
        let parts = instance.strip_suffix('.');
        let parts = parts.and_then(|path| path.rsplit_once('.'));
        parts.is_some_and(|(table, number)| {
            let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
            is_number && self.can_be_added_to(&format!("{table}."))
        })
    }

    fn is_writable(&self, object: &str) -> bool {
        self.can_be_added_to(object) || self.can_be_deleted(object)
    }

    fn is_removed(&self, name: &str) -> bool {
        !self.removed.is_empty() && self.below_removed(name)
    }

    fn below_removed(&self, name: &str) -> bool {
        let mut removed = self.removed.iter();
        removed.any(|instance| name.starts_with(instance.as_str()))
    }

    fn start<'a>(
        &'a self,
        name: &str,
        index: usize,
        param: &'a Param,
        place: Place,
    ) -> Cow<'a, str> {
        let about = &self.about;
        let chance = || mixed(about.seed ^ mixed(index as u64 + 1));
        match &param.start {
            Start::Text(text) => Cow::Borrowed(text),
            Start::WithSerial(text) => Cow::Owned(text.replace("$serial", &about.serial)),
            Start::Oui => Cow::Borrowed(&about.oui),
            Start::Class => Cow::Borrowed(&about.class),
            Start::Serial => Cow::Borrowed(&about.serial),
            Start::Mac => {
                let [a, b, c, ..] = chance().to_be_bytes();
                Cow::Owned(format!("02:D0:9E:{a:02X}:{b:02X}:{c:02X}"))
            }
            Start::Ip => {
                let [a, b, ..] = chance().to_be_bytes();
                Cow::Owned(format!("10.{}.{a}.{b}", name.len() % 250))
            }
            Start::Ip6 => {
                let [a, b, c, d, ..] = chance().to_be_bytes();
                Cow::Owned(format!("2001:db8::{a:x}{b:02x}:{c:x}{d:02x}"))
            }
            Start::Uptime => Cow::Owned(place.uptime.to_string()),
            Start::Now => Cow::Owned(place.now.to_string()),
            Start::Counter(rate) => {
                let grown = place.uptime.saturating_mul(*rate) + chance() % (rate + 1);
                let fits = match param.kind {
                    homefleet_cwmp::ValueType::UnsignedInt => grown % (1 << 32),
                    _ => grown,
                };
                Cow::Owned(fits.to_string())
            }
            Start::Between(low, high) => {
                let moves = match param.writable {
                    true => 0,
                    false => place.uptime / MOVES_EVERY,
                };
                let range = high.abs_diff(*low) + 1;
                let above = i64::try_from(mixed(chance() ^ moves) % range).unwrap_or(0);
                Cow::Owned((low + above).to_string())
            }
            Start::Count(table) => {
                let mut instances = BTreeSet::new();
                self.each(table, |name, _, _| {
                    let below = name.get(table.len()..).unwrap_or_default();
                    instances.extend(below.split('.').next().map(str::to_owned));
                });
                Cow::Owned(instances.len().to_string())
            }
            Start::Acs => Cow::Borrowed(&about.acs),
            Start::Login => Cow::Borrowed(&about.login),
            Start::Period => Cow::Owned(about.period.to_string()),
            Start::Call => Cow::Borrowed(&about.call),
            Start::Secret => Cow::Borrowed(""),
        }
    }
}

/// The objects that a name lies in, below a path.
fn objects(name: &str, path: &str, next_level: bool, visit: &mut impl FnMut(&str)) {
    let dots = name.match_indices('.').map(|(dot, _)| dot + 1);
    for end in dots.filter(|end| *end > path.len()) {
        if let Some(object) = name.get(..end) {
            visit(object);
        }
        if next_level {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use homefleet_cwmp::ValueType;

    use super::super::Root;
    use super::*;

    const NOW: Place = Place {
        uptime: 100,
        now: DateTime::UNKNOWN,
    };

    fn device(serial: &str) -> Values {
        let model = Arc::new(Model::new(Root::Device, 1).unwrap());
        let about = About {
            oui: "00D09E".into(),
            class: "Sim".into(),
            serial: serial.to_owned(),
            seed: mixed(serial.len() as u64),
            acs: "http://acs.test/".into(),
            login: "everybody".into(),
            period: 300,
            call: "http://127.0.0.1:1/2".to_owned(),
        };
        Values::new(model, about)
    }

    fn read(values: &Values, name: &str) -> Result<String, FaultCode> {
        let read = values.read(&[name.to_owned()], NOW);
        let read = read.map_err(|fault| fault.code)?;
        Ok(read.iter().next().unwrap().1.text.to_owned())
    }

    fn write(values: &mut Values, all: &[(&str, ValueType, &str)]) -> Result<(), Vec<FaultCode>> {
        let list: ParameterValues = all.iter().copied().collect();
        let written = values.write(&list);
        written.map_err(|fault| fault.parameters.iter().map(|one| one.code).collect())
    }

    #[test]
    fn all_values_are_of_their_type_and_differ_between_devices() {
        let (one, other) = (device("1"), device("22"));
        let all = one.read(&["Device.".to_owned()], NOW).unwrap();
        assert_eq!(all.len(), one.model.len());
        for (name, value) in all.iter() {
            assert!(value.canonical().is_ok(), "{name} {value:?}");
        }
        let mac = "Device.Ethernet.Interface.1.MACAddress";
        assert_ne!(read(&one, mac), read(&other, mac));
        assert_eq!(read(&one, mac), read(&one, mac));
        assert_eq!(read(&one, "Device.WiFi.SSID.1.SSID").unwrap(), "home-1");
        assert_eq!(read(&one, "Device.WiFi.SSIDNumberOfEntries").unwrap(), "4");
    }

    #[test]
    fn values_are_set_together_or_not_at_all() {
        let mut values = device("1");
        let (ssid, enable) = ("Device.WiFi.SSID.1.SSID", "Device.WiFi.SSID.1.Enable");
        let refused = write(
            &mut values,
            &[
                (ssid, ValueType::String, "new"),
                (enable, ValueType::String, "1"),
                (enable, ValueType::Boolean, "perhaps"),
                ("Device.DeviceInfo.UpTime", ValueType::UnsignedInt, "1"),
                ("Device.None", ValueType::String, ""),
            ],
        );
        let codes = [9006, 9007, 9008, 9005].map(FaultCode);
        assert_eq!(refused.unwrap_err(), codes);
        assert_eq!(read(&values, ssid).unwrap(), "home-1");
        write(&mut values, &[(ssid, ValueType::String, "new")]).unwrap();
        assert_eq!(read(&values, ssid).unwrap(), "new");
        values.reset();
        assert_eq!(read(&values, ssid).unwrap(), "home-1");
    }

    #[test]
    fn a_secret_is_taken_and_never_read() {
        let mut values = device("1");
        let name = "Device.ManagementServer.ConnectionRequestPassword";
        write(&mut values, &[(name, ValueType::String, "hidden")]).unwrap();
        assert_eq!(read(&values, name).unwrap(), "");
        let own = values.own("ManagementServer.ConnectionRequestPassword", NOW);
        assert_eq!(own, "hidden");
    }

    #[test]
    fn instances_come_and_go_and_no_number_is_used_twice() {
        let mut values = device("1");
        let table = "Device.NAT.PortMapping.";
        assert_eq!(values.add(table), Ok(4));
        let port = "Device.NAT.PortMapping.4.ExternalPort";
        write(&mut values, &[(port, ValueType::UnsignedInt, "80")]).unwrap();
        assert_eq!(read(&values, port).unwrap(), "80");
        let count = "Device.NAT.PortMappingNumberOfEntries";
        assert_eq!(read(&values, count).unwrap(), "4");
        for gone in ["Device.NAT.PortMapping.4.", "Device.NAT.PortMapping.1."] {
            assert_eq!(values.delete(gone), Ok(()));
            let code = FaultCode::INVALID_PARAMETER_NAME;
            assert_eq!(values.delete(gone).unwrap_err().code, code);
        }
        assert_eq!(read(&values, port), Err(FaultCode(9005)));
        assert_eq!(read(&values, count).unwrap(), "2");
        assert_eq!(values.add(table), Ok(5));
        for (wrong, code) in [("Device.Hosts.Host.", 9005), ("Device.NAT.", 9005)] {
            assert_eq!(values.add(wrong).unwrap_err().code, FaultCode(code));
        }
        let host = values.delete("Device.Hosts.Host.1.").unwrap_err();
        assert_eq!(host.code, FaultCode::INVALID_ARGUMENTS);
    }

    #[test]
    fn names_are_told_whole_or_one_level_at_a_time() {
        let mut values = device("1");
        let names = |values: &Values, path: &str, next: bool| -> Vec<(String, bool)> {
            let infos = values.names(path, next).unwrap();
            infos.iter().map(|(name, w)| (name.to_owned(), w)).collect()
        };
        assert_eq!(
            names(&values, "", true),
            [("Device.".to_owned(), false)],
            "the root alone"
        );
        values.add("Device.Users.User.").unwrap();
        let level = names(&values, "Device.Users.", true);
        assert_eq!(level, [("Device.Users.User.".to_owned(), true)]);
        let level = names(&values, "Device.Users.User.", true);
        let instance = |n| (format!("Device.Users.User.{n}."), true);
        assert_eq!(level, [instance(1), instance(2), instance(3)]);
        let all = names(&values, "Device.Users.User.3.", false);
        assert_eq!(all.len(), 6);
        assert!(all.contains(&("Device.Users.User.3.Language".to_owned(), true)));
        let one = names(&values, "Device.DeviceInfo.UpTime", false);
        assert_eq!(one, [("Device.DeviceInfo.UpTime".to_owned(), false)]);
        let code = |path: &str, next| values.names(path, next).unwrap_err().code;
        assert_eq!(code("Device.DeviceInfo.UpTime", true), FaultCode(9003));
        assert_eq!(code("Device.Nothing.", false), FaultCode(9005));
        let everything = names(&values, "", false);
        assert!(everything.len() > values.model.len());
    }
}
