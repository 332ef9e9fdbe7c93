//! `Device.Ethernet.`: the Ethernet ports.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use homefleet_model::{
    path::ParamPath,
    schema::{Object, Param},
    tree::Tree,
    value::Type,
};

use super::{
    Now, Options, Provider, ProviderError,
    fill::{Fill, mac},
    interfaces::{Shared, sys_class_net},
    ip::{INTERFACE_STATUS, LOWER_LAYERS, STATS, apply, put_stats},
    kernel::Link,
    proc,
};

/// Speed and duplex are asked again after a change of the link, or after this long: some drivers take their time.
const MODE_INTERVAL: Duration = Duration::from_secs(30);

static OBJECTS: &[Object] = &[
    Object {
        path: "Device.Ethernet.",
        params: &[Param::ro("InterfaceNumberOfEntries", Type::UnsignedInt)],
        ..Object::EMPTY
    },
    Object {
        path: "Device.Ethernet.Interface.{i}.",
        unique_keys: &[&["Alias"], &["Name"]],
        params: &[
            Param::rw("Enable", Type::Boolean),
            Param::ro("Status", INTERFACE_STATUS),
            Param::rw("Alias", Type::string(64)),
            Param::ro("Name", Type::string(64)),
            Param::ro("LastChange", Type::UnsignedInt).quiet(),
            Param::rw("LowerLayers", Type::list(&LOWER_LAYERS)),
            Param::ro("Upstream", Type::Boolean),
            Param::ro("MACAddress", Type::string(17)),
            Param::rw("MaxBitRate", Type::IntIn(-1, i32::MAX)),
            Param::ro("CurrentBitRate", Type::UnsignedInt),
            Param::rw("DuplexMode", Type::Enum(&["Half", "Full", "Auto"])),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.Ethernet.Interface.{i}.Stats.",
        params: STATS,
        ..Object::EMPTY
    },
];

pub(super) struct Ethernet {
    interfaces: Shared,
    allow_changes: bool,
    /// By kernel index.
    modes: BTreeMap<u32, Mode>,
}

impl Ethernet {
    pub(super) fn new(options: &Options, interfaces: Shared) -> Self {
        Self {
            interfaces,
            allow_changes: options.allow_network_changes,
            modes: BTreeMap::new(),
        }
    }
}

impl Provider for Ethernet {
    fn objects(&self) -> &'static [Object] {
        OBJECTS
    }

    fn prefixes(&self) -> &'static [&'static str] {
        &["Device.Ethernet."]
    }

    fn refresh(&mut self, tree: &mut Tree, now: Now) -> Result<(), ProviderError> {
        let mut interfaces = self.interfaces.lock();
        interfaces.sync(tree, now)?;
        self.modes
            .retain(|index, _| interfaces.by_index(*index).is_some());
        for interface in interfaces.iter() {
            let Some(row) = &interface.ethernet else {
                continue;
            };
            let link = &interface.link;
            let mode = match self.modes.get(&link.index) {
                Some(mode) if mode.is_fresh(link, now.instant) => mode,
                _ => {
                    self.modes.insert(link.index, Mode::read(link, now.instant));
                    &self.modes[&link.index]
                }
            };
            Fill::new(tree, row)
                .put("Enable", link.up)?
                .put("Status", interface.status)?
                .put("LastChange", interface.last_change(now))?
                .put("Upstream", interface.upstream)?
                .put(
                    "MACAddress",
                    mac(link.permanent_address.as_ref().unwrap_or(&link.address)),
                )?
                // Negotiated: the port offers all it has.
                .put("MaxBitRate", -1)?
                .put("CurrentBitRate", mode.bit_rate)?
                .put("DuplexMode", mode.duplex)?;
            put_stats(tree, row, link)?;
        }
        Ok(())
    }

    fn apply(&mut self, _tree: &Tree, path: &ParamPath, value: &str) -> Result<(), ProviderError> {
        match path.name() {
            "Alias" => Ok(()),
            "Enable" => apply(&self.interfaces, self.allow_changes, path, value),
            name => Err(ProviderError::Refused(format!(
                "{name} is as the kernel has it and cannot be set"
            ))),
        }
    }
}

/// Speed and duplex of a port, and the state of the link they were read in.
struct Mode {
    bit_rate: u32,
    duplex: &'static str,
    running: bool,
    carrier_changes: u32,
    read_at: Instant,
}

impl Mode {
    fn read(link: &Link, now: Instant) -> Self {
        let file =
            |name: &str| sys_class_net(&link.name).and_then(|path| proc::line(path.join(name)));
        Self {
            bit_rate: file("speed").map_or(0, |text| bit_rate(&text)),
            duplex: file("duplex").map_or("Auto", |text| duplex(&text)),
            running: link.running,
            carrier_changes: link.carrier_changes,
            read_at: now,
        }
    }

    fn is_fresh(&self, link: &Link, now: Instant) -> bool {
        let unchanged =
            self.running == link.running && self.carrier_changes == link.carrier_changes;
        unchanged && now.saturating_duration_since(self.read_at) < MODE_INTERVAL
    }
}

/// `/sys/class/net/NAME/speed`, Mbit/s; -1 or nothing at all when not known, which TR-181 writes as 0.
fn bit_rate(text: &str) -> u32 {
    text.trim()
        .parse::<i64>()
        .ok()
        .and_then(|rate| u32::try_from(rate).ok())
        .filter(|rate| *rate != u32::MAX)
        .unwrap_or(0)
}

/// `/sys/class/net/NAME/duplex`.
fn duplex(text: &str) -> &'static str {
    match text.trim() {
        "full" => "Full",
        "half" => "Half",
        _ => "Auto",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::kernel::tests::link;

    #[test]
    fn an_unknown_speed_is_zero() {
        assert_eq!(bit_rate("1000\n"), 1000);
        for unknown in [
            "-1",
            "",
            "unknown",
            "4294967295",
            "99999999999999999999",
            "-2147483648",
        ] {
            assert_eq!(bit_rate(unknown), 0, "{unknown}");
        }
    }

    #[test]
    fn an_unknown_duplex_mode_is_auto() {
        assert_eq!(duplex("full\n"), "Full");
        assert_eq!(duplex("half"), "Half");
        assert_eq!(duplex("unknown"), "Auto");
    }

    #[test]
    fn the_mode_is_read_again_when_the_carrier_changed_or_time_has_passed() {
        let now = Instant::now();
        let mode = Mode::read(&link("no such interface"), now);
        assert_eq!((mode.bit_rate, mode.duplex), (0, "Auto"));
        assert!(mode.is_fresh(&link("x"), now));
        assert!(!mode.is_fresh(
            &Link {
                carrier_changes: 1,
                ..link("x")
            },
            now
        ));
        assert!(!mode.is_fresh(&link("x"), now + MODE_INTERVAL));
    }
}
