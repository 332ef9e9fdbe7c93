//! `Device.DeviceInfo.`: what the device is, how long it runs, its memory, processors and temperatures.
//! (`ProcessStatus.` has a provider of its own, because reading every process is dear.)

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use homefleet_model::{
    path::{ObjectPath, ParamPath},
    schema::{Object, Param},
    tree::Tree,
    value::{ListType, Type, UNKNOWN_TIME, date_time, list},
};

use super::{
    Now, Options, Provider, ProviderError,
    fill::{Fill, clean, keep_rows, object, row, tree_error},
    proc,
    time::Clock,
};
use crate::identity;

/// File systems and sensors are asked this often at most.
const SLOW_INTERVAL: Duration = Duration::from_secs(10);

/// How many temperature sensors are shown.
const MAX_SENSORS: usize = 32;

/// "A good reading has not been obtained since last reset", below absolute zero.
const NO_READING: i32 = -274;

static VERSIONS: ListType = ListType {
    item: Type::string(64),
    max_items: None,
    max: Some(64),
};

static OBJECTS: &[Object] = &[
    Object {
        path: "Device.DeviceInfo.",
        params: &[
            Param::ro("Manufacturer", Type::string(64)),
            Param::ro("ManufacturerOUI", Type::string(6)),
            Param::ro("ModelName", Type::string(64)),
            Param::ro("ModelNumber", Type::string(64)),
            Param::ro("Description", Type::string(256)),
            Param::ro("ProductClass", Type::string(64)),
            Param::ro("SerialNumber", Type::string(64)),
            Param::ro("HardwareVersion", Type::string(64)),
            Param::ro("SoftwareVersion", Type::string(64)),
            Param::ro("AdditionalSoftwareVersion", Type::list(&VERSIONS)),
            Param::rw("ProvisioningCode", Type::string(64)),
            Param::ro("UpTime", Type::UnsignedInt).quiet(),
            Param::ro("FirstUseDate", Type::DateTime),
            Param::rw("HostName", Type::string(255)),
            Param::ro("ProcessorNumberOfEntries", Type::UnsignedInt),
            Param::rw("FriendlyName", Type::string(32)),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.DeviceInfo.MemoryStatus.",
        params: &[
            Param::ro("Total", Type::UnsignedInt),
            Param::ro("Free", Type::UnsignedInt),
            Param::ro("TotalPersistent", Type::UnsignedInt),
            Param::ro("FreePersistent", Type::UnsignedInt),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.DeviceInfo.TemperatureStatus.",
        params: &[Param::ro(
            "TemperatureSensorNumberOfEntries",
            Type::UnsignedInt,
        )],
        ..Object::EMPTY
    },
    Object {
        path: "Device.DeviceInfo.TemperatureStatus.TemperatureSensor.{i}.",
        unique_keys: &[&["Name"], &["Alias"]],
        params: &[
            Param::rw("Alias", Type::string(64)),
            Param::rw("Enable", Type::Boolean),
            Param::ro("Status", Type::Enum(&["Disabled", "Enabled", "Error"])),
            Param::ro("ResetTime", Type::DateTime),
            Param::ro("Name", Type::string(256)),
            Param::ro("Value", Type::IntIn(NO_READING, i32::MAX)),
            Param::ro("LastUpdate", Type::DateTime).quiet(),
            Param::ro("MinValue", Type::IntIn(NO_READING, i32::MAX)),
            Param::ro("MinTime", Type::DateTime),
            Param::ro("MaxValue", Type::IntIn(NO_READING, i32::MAX)),
            Param::ro("MaxTime", Type::DateTime),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.DeviceInfo.NetworkProperties.",
        params: &[Param::ro("MaxTCPWindowSize", Type::UnsignedInt)],
        ..Object::EMPTY
    },
    Object {
        path: "Device.DeviceInfo.Processor.{i}.",
        unique_keys: &[&["Alias"]],
        params: &[
            Param::rw("Alias", Type::string(64)),
            Param::ro(
                "Architecture",
                Type::Enum(&[
                    "arm", "i386", "m68010", "m68k", "mipseb", "mipsel", "powerpc", "sh3eb",
                    "sh3el", "x86_64",
                ]),
            ),
        ],
        ..Object::EMPTY
    },
];

/// Who made the device and what it is called; what is absent is found out from the machine.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// `Manufacturer`.
    pub manufacturer: Option<String>,
    /// `ManufacturerOUI`, six upper-case hexadecimal digits.
    pub oui: Option<String>,
    /// `ModelName`.
    pub model_name: Option<String>,
    /// `ModelNumber`.
    pub model_number: Option<String>,
    /// `Description`.
    pub description: Option<String>,
    /// `ProductClass`.
    pub product_class: Option<String>,
    /// `SerialNumber`.
    pub serial_number: Option<String>,
    /// `HardwareVersion`.
    pub hardware_version: Option<String>,
    /// `SoftwareVersion`.
    pub software_version: Option<String>,
}

/// ManufacturerOUI, SerialNumber and ProductClass, as `Device.DeviceInfo.` shows them.
pub(crate) fn own_identity(identity: &Identity) -> [String; 3] {
    let found = Found::on_this_machine();
    let model = identity.model_name.clone().unwrap_or(found.model_name);
    [
        clean(identity.oui.as_ref().unwrap_or(&found.oui), 6),
        clean(
            identity
                .serial_number
                .as_ref()
                .unwrap_or(&found.serial_number),
            64,
        ),
        clean(identity.product_class.as_ref().unwrap_or(&model), 64),
    ]
}

pub(super) struct DeviceInfo {
    identity: Identity,
    clock: Clock,
    allow_system_changes: bool,
    data_dir: PathBuf,
    started: bool,
    slow_at: Option<Instant>,
    sensors: Vec<Sensor>,
}

impl DeviceInfo {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            identity: options.identity.clone(),
            clock: options.clock.clone(),
            allow_system_changes: options.allow_network_changes,
            data_dir: options.data_dir.clone().unwrap_or_else(|| "/".into()),
            started: false,
            slow_at: None,
            sensors: Vec::new(),
        }
    }

    /// What does not change while the agent runs.
    fn start(&mut self, tree: &mut Tree, now: Now) -> Result<(), ProviderError> {
        let found = Found::on_this_machine();
        let info = object("Device.DeviceInfo.")?;
        let pick = |given: &Option<String>, found: String| given.clone().unwrap_or(found);
        let identity = &self.identity;
        let model = pick(&identity.model_name, found.model_name);
        let versions = [
            format!("Linux {}", found.kernel),
            format!("homefleet-agent {}", env!("CARGO_PKG_VERSION")),
        ];
        let versions = list(
            versions
                .iter()
                .map(|version| clean(version, 30).replace(',', " ")),
        );
        Fill::new(tree, &info)
            .text(
                "Manufacturer",
                &pick(&identity.manufacturer, found.manufacturer),
                64,
            )?
            .text("ManufacturerOUI", &pick(&identity.oui, found.oui), 6)?
            .text(
                "ModelNumber",
                &pick(&identity.model_number, found.model_number),
                64,
            )?
            .text(
                "Description",
                &pick(&identity.description, found.description),
                256,
            )?
            .text(
                "ProductClass",
                identity.product_class.as_deref().unwrap_or(&model),
                64,
            )?
            .text("ModelName", &model, 64)?
            .text(
                "SerialNumber",
                &pick(&identity.serial_number, found.serial_number),
                64,
            )?
            .text(
                "HardwareVersion",
                &pick(&identity.hardware_version, found.hardware_version),
                64,
            )?
            .text(
                "SoftwareVersion",
                &pick(&identity.software_version, found.software_version),
                64,
            )?
            .put("AdditionalSoftwareVersion", versions)?;
        if tree
            .text("Device.DeviceInfo.FriendlyName")
            .is_none_or(str::is_empty)
        {
            Fill::new(tree, &info).text("FriendlyName", &host_name(), 32)?;
        }
        let properties = object("Device.DeviceInfo.NetworkProperties.")?;
        Fill::new(tree, &properties).put("MaxTCPWindowSize", tcp_window().unwrap_or(65_535))?;
        if let Some(architecture) = architecture() {
            let processors =
                proc::read("/proc/stat").map_or(1, |text| proc::processors(&text).max(1));
            let table = object("Device.DeviceInfo.Processor.")?;
            for number in 1..=u32::try_from(processors).unwrap_or(1) {
                let processor = table.row(number);
                tree.ensure_instance(&processor).map_err(tree_error)?;
                Fill::new(tree, &processor).put("Architecture", architecture)?;
            }
        }
        self.sensors = Sensor::all();
        let table = object("Device.DeviceInfo.TemperatureStatus.TemperatureSensor.")?;
        let mut rows = BTreeSet::new();
        for sensor in &self.sensors {
            let sensor = row(tree, &table, &[("Name", &sensor.name)])?;
            Fill::new(tree, &sensor)
                .put("Enable", true)?
                .put("ResetTime", date_time(now.wall))?;
            rows.insert(sensor);
        }
        keep_rows(tree, &table, &rows);
        Ok(())
    }

    /// What is asked seldom, because the answer is slow: file systems and sensors.
    fn slow(&mut self, tree: &mut Tree, now: Now) -> Result<(), ProviderError> {
        if let Ok(space) = rustix::fs::statvfs(&self.data_dir) {
            let kib = |blocks: u64| capped(blocks.saturating_mul(space.f_frsize) / 1024);
            Fill::new(tree, &object("Device.DeviceInfo.MemoryStatus.")?)
                .put("TotalPersistent", kib(space.f_blocks))?
                .put("FreePersistent", kib(space.f_bavail))?;
        }
        let table = object("Device.DeviceInfo.TemperatureStatus.TemperatureSensor.")?;
        for sensor in &mut self.sensors {
            let row = row(tree, &table, &[("Name", &sensor.name)])?;
            sensor.read(now);
            sensor.put(tree, &row)?;
        }
        Ok(())
    }

    /// The date of the first use: remembered once a network is there and the time is right.
    fn first_use(&self, tree: &mut Tree, now: Now) -> Result<(), ProviderError> {
        let path = object("Device.DeviceInfo.")?.param("FirstUseDate");
        let unknown = tree
            .text(path.as_str())
            .is_none_or(|date| date == UNKNOWN_TIME);
        let online = || {
            proc::read("/proc/net/route").is_ok_and(|text| !proc::default_routes(&text).is_empty())
        };
        if unknown && self.clock.is_accurate() && online() {
            tree.put_persistent(&path, &date_time(now.wall))
                .map_err(tree_error)?;
        }
        Ok(())
    }
}

impl Provider for DeviceInfo {
    fn objects(&self) -> &'static [Object] {
        OBJECTS
    }

    fn prefixes(&self) -> &'static [&'static str] {
        &["Device.DeviceInfo."]
    }

    fn refresh(&mut self, tree: &mut Tree, now: Now) -> Result<(), ProviderError> {
        if !self.started {
            self.start(tree, now)?;
            self.started = true;
        }
        if self
            .slow_at
            .is_none_or(|at| now.instant.saturating_duration_since(at) >= SLOW_INTERVAL)
        {
            self.slow(tree, now)?;
            self.first_use(tree, now)?;
            self.slow_at = Some(now.instant);
        }
        Fill::new(tree, &object("Device.DeviceInfo.")?)
            .put("UpTime", up_time())?
            .text("HostName", &host_name(), 255)?;
        let what = "/proc/meminfo";
        let text = proc::read(what).map_err(|source| ProviderError::Io {
            what: what.into(),
            source,
        })?;
        let memory = proc::memory(&text).ok_or_else(|| ProviderError::Format {
            what: what.into(),
            reason: "no MemTotal".into(),
        })?;
        // `Free` is what can be had, caches included: a healthy device has next to no memory that is unused.
        Fill::new(tree, &object("Device.DeviceInfo.MemoryStatus.")?)
            .put("Total", capped(memory.total))?
            .put("Free", capped(memory.available))?;
        Ok(())
    }

    fn apply(&mut self, _tree: &Tree, path: &ParamPath, value: &str) -> Result<(), ProviderError> {
        match path.name() {
            "HostName" if !self.allow_system_changes => Err(ProviderError::Refused(
                "HostName cannot be set: changes of the system are not allowed by the agent's configuration".into(),
            )),
            "HostName" => set_host_name(value),
            "Enable" if value != "true" => {
                Err(ProviderError::Refused("a temperature sensor cannot be switched off".into()))
            }
            // ProvisioningCode, FriendlyName and Alias: the tree keeps them.
            _ => Ok(()),
        }
    }
}

/// What the machine says about itself: DMI, the device tree, os-release.
struct Found {
    manufacturer: String,
    oui: String,
    model_name: String,
    model_number: String,
    description: String,
    serial_number: String,
    hardware_version: String,
    software_version: String,
    kernel: String,
}

impl Found {
    fn on_this_machine() -> Self {
        let system = rustix::system::uname();
        let part = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        let (machine, kernel) = (part(system.machine()), part(system.release()));
        let release = proc::read("/etc/os-release")
            .or_else(|_| proc::read("/usr/lib/os-release"))
            .unwrap_or_default();
        let os = |key: &str| proc::os_release(&release, key);
        let board = |name: &str| {
            proc::line(Path::new("/sys/class/dmi/id").join(name)).filter(|text| !is_filler(text))
        };
        let tree_model = proc::line("/proc/device-tree/model");
        let model_name = board("product_name").or_else(|| tree_model.clone());
        let model_name = model_name.unwrap_or_else(|| format!("Linux {machine}"));
        let os_name = os("PRETTY_NAME").unwrap_or_else(|| "Linux".into());
        Self {
            // The device tree's model begins with its maker, as in "Raspberry Pi 4 Model B".
            manufacturer: board("sys_vendor").unwrap_or_else(|| "unknown".into()),
            oui: identity::oui().unwrap_or_else(|| "000000".into()),
            model_number: board("product_sku").unwrap_or_default(),
            description: format!("{model_name} with {os_name}"),
            serial_number: identity::serial_number().unwrap_or_else(|| "unknown".into()),
            hardware_version: board("product_version").unwrap_or(machine),
            software_version: os("VERSION_ID").unwrap_or_else(|| kernel.clone()),
            model_name,
            kernel,
        }
    }
}

/// Text that board makers leave in DMI fields they did not fill in.
fn is_filler(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    [
        "default string",
        "to be filled",
        "not specified",
        "system product",
        "system manufacturer",
        "none",
        "n/a",
    ]
    .iter()
    .any(|filler| lower.starts_with(filler))
}

/// A sensor under `/sys/class/thermal`.
struct Sensor {
    name: String,
    file: PathBuf,
    reading: Option<Reading>,
    failed: bool,
    min: Option<Reading>,
    max: Option<Reading>,
}

#[derive(Clone)]
struct Reading {
    celsius: i32,
    at: String,
}

impl Sensor {
    fn all() -> Vec<Self> {
        let Ok(directory) = std::fs::read_dir("/sys/class/thermal") else {
            return Vec::new();
        };
        let mut zones: Vec<PathBuf> = directory.flatten().map(|entry| entry.path()).collect();
        zones.retain(|zone| {
            zone.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("thermal_zone"))
        });
        zones.sort();
        zones.truncate(MAX_SENSORS);
        zones.iter().map(|zone| Self::new(zone)).collect()
    }

    fn new(zone: &Path) -> Self {
        let zone_name = zone
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let kind = proc::line(zone.join("type")).unwrap_or_default();
        let name = clean(&format!("{zone_name} {kind}"), 256);
        Self {
            name,
            file: zone.join("temp"),
            reading: None,
            failed: false,
            min: None,
            max: None,
        }
    }

    fn read(&mut self, now: Now) {
        let celsius = proc::line(&self.file).and_then(|text| celsius(&text));
        self.failed = celsius.is_none();
        let Some(celsius) = celsius else { return };
        let reading = Reading {
            celsius,
            at: date_time(now.wall),
        };
        if self.min.as_ref().is_none_or(|min| celsius < min.celsius) {
            self.min = Some(reading.clone());
        }
        if self.max.as_ref().is_none_or(|max| celsius > max.celsius) {
            self.max = Some(reading.clone());
        }
        self.reading = Some(reading);
    }

    fn put(&self, tree: &mut Tree, row: &ObjectPath) -> Result<(), ProviderError> {
        let mut fill = Fill::new(tree, row);
        fill.put("Status", if self.failed { "Error" } else { "Enabled" })?;
        let named = [
            ("Value", "LastUpdate", &self.reading),
            ("MinValue", "MinTime", &self.min),
            ("MaxValue", "MaxTime", &self.max),
        ];
        for (value, time, reading) in named {
            fill.put(
                value,
                reading
                    .as_ref()
                    .map_or(NO_READING, |reading| reading.celsius),
            )?;
            fill.put(
                time,
                reading.as_ref().map_or(UNKNOWN_TIME, |reading| &reading.at),
            )?;
        }
        Ok(())
    }
}

/// A thermal zone's `temp`, millidegrees, rounded to degrees; nonsense is no reading.
fn celsius(text: &str) -> Option<i32> {
    let millidegrees: i32 = text.trim().parse().ok()?;
    let rounded = millidegrees.checked_add(if millidegrees < 0 { -500 } else { 500 })? / 1000;
    (-273..=1000).contains(&rounded).then_some(rounded)
}

/// Seconds since the machine started, its sleep included.
fn up_time() -> u32 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u32::try_from(time.tv_sec).unwrap_or(u32::MAX)
}

fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

fn set_host_name(name: &str) -> Result<(), ProviderError> {
    let is_label = |label: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..=63).contains(&label.len())
            && label.chars().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // 64 is the kernel's limit (__NEW_UTS_LEN).
    if name.len() > 64 || !name.split('.').all(is_label) {
        return Err(ProviderError::Refused(format!(
            "{name:?} is no host name (RFC 1123 §2) of at most 64 characters"
        )));
    }
    rustix::system::sethostname(name.as_bytes()).map_err(|error| ProviderError::Io {
        what: "host name".into(),
        source: error.into(),
    })
}

/// The most a TCP socket's receive buffer grows to.
fn tcp_window() -> Option<u32> {
    proc::line("/proc/sys/net/ipv4/tcp_rmem")?
        .split_ascii_whitespace()
        .nth(2)?
        .parse()
        .ok()
}

/// TR-181's name of the architecture; it has none for some, and then no processor is shown.
fn architecture() -> Option<&'static str> {
    Some(match std::env::consts::ARCH {
        "x86_64" => "x86_64",
        "x86" => "i386",
        "arm" | "aarch64" => "arm",
        "mips" | "mips64" if cfg!(target_endian = "big") => "mipseb",
        "mips" | "mips64" => "mipsel",
        "powerpc" | "powerpc64" => "powerpc",
        "m68k" => "m68k",
        _ => return None,
    })
}

/// KiB as unsignedInt; 4 TiB and more is the largest it can say.
fn capped(kib: u64) -> u32 {
    u32::try_from(kib).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperatures_are_rounded_and_nonsense_is_no_reading() {
        assert_eq!(celsius("45600\n"), Some(46));
        assert_eq!(celsius("-1500"), Some(-2));
        assert_eq!(celsius("0"), Some(0));
        for nonsense in [
            "",
            "x",
            "-274000000",
            "2147483647",
            "99999999999999",
            "-300000",
        ] {
            assert_eq!(celsius(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn board_filler_is_no_model() {
        assert!(is_filler("To Be Filled By O.E.M."));
        assert!(is_filler("Default string"));
        assert!(!is_filler("X1 Carbon"));
    }

    #[test]
    fn a_host_name_that_is_none_is_refused() {
        for bad in ["", "-a", "a-", "a..b", "a_b", "a b", &"a".repeat(65)] {
            assert!(
                matches!(set_host_name(bad), Err(ProviderError::Refused(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn sizes_beyond_unsigned_int_are_its_largest() {
        assert_eq!(capped(u64::MAX), u32::MAX);
        assert_eq!(capped(5), 5);
    }
}
