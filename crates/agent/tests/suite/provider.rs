//! The providers against this very machine, and their tables against TR-181 2.16 for USP.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::Arc,
};

use homefleet_agent::provider::{self, Now, OperateError, Operation, Options, Provider};
use homefleet_model::{
    path::{ObjectPath, ParamPath},
    schema::{Access, ObjectAccess, Schema},
    tree::{Change, Tree},
    value::Type,
};

/// Made from the Broadband Forum's XML: path, kind, type, access.
const MODEL: &str = include_str!("../data/tr-181-2-16-0-usp.tsv");

/// The providers with a tree of their own.
pub(crate) struct Machine {
    pub(crate) tree: Tree,
    pub(crate) providers: Vec<Box<dyn Provider>>,
}

impl Machine {
    pub(crate) fn new(options: &Options) -> Self {
        let providers = provider::all(options);
        let tables: Vec<_> = providers
            .iter()
            .map(|provider| provider.objects())
            .collect();
        let tree = Tree::new(Arc::new(Schema::new(&tables).unwrap()));
        Self { tree, providers }
    }

    /// This machine, read once.
    pub(crate) fn read() -> Self {
        let mut machine = Self::new(&Options::default());
        machine.refresh();
        machine
    }

    pub(crate) fn refresh(&mut self) {
        let now = Now::system();
        for provider in &mut self.providers {
            provider.refresh(&mut self.tree, now).unwrap();
        }
    }

    pub(crate) fn text(&self, path: &str) -> String {
        self.tree
            .text(path)
            .unwrap_or_else(|| panic!("no {path}"))
            .to_owned()
    }

    pub(crate) fn rows(&self, table: &str) -> Vec<ObjectPath> {
        self.tree.rows(&table.parse().unwrap())
    }

    /// The row of `table` whose parameter `name` has this value.
    pub(crate) fn find(&self, table: &str, name: &str, value: &str) -> Option<ObjectPath> {
        self.rows(table)
            .into_iter()
            .find(|row| self.text(row.param(name).as_str()) == value)
    }

    /// As the agent's core does it: the first provider whose prefix is the longest.
    pub(crate) fn apply(&mut self, path: &str, value: &str) -> Result<(), String> {
        let path: ParamPath = path.parse().unwrap();
        let longest = |provider: &dyn Provider| {
            let matching = provider
                .prefixes()
                .iter()
                .filter(|prefix| path.as_str().starts_with(**prefix));
            matching.map(|prefix| prefix.len()).max().unwrap_or(0)
        };
        let provider = self
            .providers
            .iter_mut()
            .max_by_key(|provider| longest(provider.as_ref()))
            .unwrap();
        provider
            .apply(&self.tree, &path, value)
            .map_err(|error| error.to_string())
    }

    pub(crate) fn operate(&mut self, command: &str, args: &[(&str, &str)]) -> Option<Operation> {
        let args: BTreeMap<String, String> = args
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        self.providers
            .iter_mut()
            .find_map(|provider| provider.operate(command, &args))
    }

    pub(crate) async fn ping(
        &mut self,
        args: &[(&str, &str)],
    ) -> Result<BTreeMap<String, String>, OperateError> {
        let base = [
            ("ProtocolVersion", "Any"),
            ("NumberOfRepetitions", "3"),
            ("Timeout", "10000"),
            ("DataBlockSize", "56"),
        ];
        let args: Vec<_> = base.iter().chain(args).copied().collect();
        match self
            .operate("Device.IP.Diagnostics.IPPing()", &args)
            .unwrap()
        {
            Operation::Done(result) => result,
            Operation::Async(running) => running.await,
        }
    }
}

/// One line each of [`MODEL`]: (path, kind) to (type, access).
fn model() -> BTreeMap<(&'static str, &'static str), (&'static str, &'static str)> {
    let fields = |line: &'static str| {
        let mut fields = line.split('\t');
        Some((
            (fields.next()?, fields.next()?),
            (fields.next()?, fields.next()?),
        ))
    };
    MODEL
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(fields)
        .collect()
}

fn type_name(ty: Type) -> String {
    match ty {
        Type::Base64 { .. } => "base64".into(),
        Type::Boolean => "boolean".into(),
        Type::DateTime | Type::LocalDateTime => "dateTime".into(),
        Type::Decimal => "decimal".into(),
        Type::Enum(_) | Type::Reference(_) | Type::String { .. } => "string".into(),
        Type::HexBinary { .. } => "hexBinary".into(),
        Type::Int | Type::IntIn(..) => "int".into(),
        Type::List(list) => format!("list:{}", type_name(list.item)),
        Type::Long | Type::LongIn(..) => "long".into(),
        Type::UnsignedInt | Type::UnsignedIntIn(..) => "unsignedInt".into(),
        Type::UnsignedLong | Type::UnsignedLongIn(..) => "unsignedLong".into(),
    }
}

#[test]
fn every_object_and_parameter_agrees_with_tr_181() {
    let model = model();
    let mut seen = 0;
    for object in provider::linux()
        .iter()
        .flat_map(|provider| provider.objects())
    {
        let (_, access) = model[&(object.path, "object")];
        // What the kernel alone makes is read-only, though the model would let controllers add to it.
        assert!(
            object.access == ObjectAccess::ReadOnly || access == "readWrite",
            "{}",
            object.path
        );
        for param in object.params {
            let path = format!("{}{}", object.path, param.name);
            let (ty, access) = model
                .get(&(path.as_str(), "param"))
                .unwrap_or_else(|| panic!("{path} is not in TR-181"));
            assert_eq!(type_name(param.ty), *ty, "{path}");
            let ours = match param.access {
                Access::ReadOnly => "readOnly",
                Access::ReadWrite => "readWrite",
                Access::WriteOnce => "writeOnceReadOnly",
            };
            assert_eq!(ours, *access, "{path}");
            seen += 1;
        }
        for key in object.unique_keys {
            let key = key.join(",");
            let known = MODEL
                .lines()
                .any(|line| line.starts_with(&format!("{}\tkey\t{key}\t", object.path)));
            assert!(known, "{} has no key {key}", object.path);
        }
        for command in object.commands {
            let path = format!("{}{}", object.path, command.name);
            let (kind, _) = model[&(path.as_str(), "command")];
            assert_eq!(
                kind,
                if command.is_async { "async" } else { "sync" },
                "{path}"
            );
            for (arguments, direction) in [(command.input, "input"), (command.output, "output")] {
                let ours: BTreeSet<String> = arguments
                    .iter()
                    .map(|name| format!("{path}.{name}"))
                    .collect();
                let theirs = model
                    .keys()
                    .filter(|(at, kind)| *kind == direction && at.starts_with(&format!("{path}.")));
                assert_eq!(
                    ours,
                    theirs.map(|(at, _)| (*at).to_owned()).collect(),
                    "{path}"
                );
            }
        }
    }
    assert!(seen > 100, "only {seen} parameters");
}

#[test]
fn every_parameter_but_a_few_is_filled() {
    // Empty or zero on a machine that has nothing to say there.
    let may_be_blank = [
        "ModelNumber",
        "ProvisioningCode",
        "HostName",
        "LowerLayers",
        "NTPServer",
        "Layer1Interface",
    ];
    let machine = Machine::read();
    let mut blank = Vec::new();
    machine.tree.walk(&ObjectPath::root(), 0, |object, params| {
        for (param, value) in params {
            let excused = may_be_blank.iter().any(|name| param.name.starts_with(name));
            if value.as_str().is_empty() && !excused {
                blank.push(format!("{object}{}", param.name));
            }
        }
    });
    assert_eq!(blank, Vec::<String>::new());
}

#[test]
fn up_time_is_the_machines_and_grows() {
    let mut machine = Machine::read();
    let text = fs::read_to_string("/proc/uptime").unwrap();
    let expected: f64 = text.split(' ').next().unwrap().parse().unwrap();
    let first: f64 = machine.text("Device.DeviceInfo.UpTime").parse().unwrap();
    assert!((first - expected).abs() <= 2.0, "{first} for {expected}");
    while machine
        .text("Device.DeviceInfo.UpTime")
        .parse::<f64>()
        .unwrap()
        <= first
    {
        machine.refresh();
    }
}

#[test]
fn memory_is_that_of_proc_meminfo() {
    let machine = Machine::read();
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .unwrap();
    assert_eq!(
        machine.text("Device.DeviceInfo.MemoryStatus.Total"),
        total.trim().trim_end_matches(" kB")
    );
    let number = |name: &str| {
        machine
            .text(&format!("Device.DeviceInfo.MemoryStatus.{name}"))
            .parse::<u64>()
            .unwrap()
    };
    assert!(number("Free") > 0 && number("Free") <= number("Total"));
    assert!(number("FreePersistent") <= number("TotalPersistent") && number("TotalPersistent") > 0);
}

#[test]
fn the_process_table_shows_this_process_under_its_pid() {
    let machine = Machine::read();
    let pid = std::process::id();
    let row = format!("Device.DeviceInfo.ProcessStatus.Process.{pid}.");
    assert_eq!(machine.text(&format!("{row}PID")), pid.to_string());
    assert!(machine.text(&format!("{row}Size")).parse::<u32>().unwrap() > 0);
    let count = machine
        .rows("Device.DeviceInfo.ProcessStatus.Process.")
        .len();
    assert_eq!(
        machine.text("Device.DeviceInfo.ProcessStatus.ProcessNumberOfEntries"),
        count.to_string()
    );
    assert!(
        machine
            .text("Device.DeviceInfo.ProcessStatus.CPUUsage")
            .parse::<u8>()
            .unwrap()
            <= 100
    );
}

#[test]
fn the_process_table_is_bounded() {
    let mut machine = Machine::new(&Options {
        max_processes: 2,
        ..Options::default()
    });
    machine.refresh();
    machine.refresh();
    assert_eq!(
        machine
            .rows("Device.DeviceInfo.ProcessStatus.Process.")
            .len(),
        2
    );
}

#[test]
fn the_loopback_interface_is_there_with_its_address() {
    let machine = Machine::read();
    let lo = machine.find("Device.IP.Interface.", "Name", "lo").unwrap();
    assert_eq!(machine.text(lo.param("Type").as_str()), "Loopback");
    assert_eq!(machine.text(lo.param("Loopback").as_str()), "true");
    assert_eq!(machine.text(lo.param("Status").as_str()), "Up");
    let address = machine
        .find(lo.child("IPv4Address").as_str(), "IPAddress", "127.0.0.1")
        .unwrap();
    assert_eq!(
        machine.text(address.param("SubnetMask").as_str()),
        "255.0.0.0"
    );
    assert_eq!(
        machine.text(address.param("AddressingType").as_str()),
        "Static"
    );
    assert_eq!(
        machine.find("Device.Ethernet.Interface.", "Name", "lo"),
        None
    );
}

#[test]
fn every_interface_of_sysfs_is_shown_with_its_address_and_counters() {
    let machine = Machine::read();
    for entry in fs::read_dir("/sys/class/net").unwrap() {
        let directory = entry.unwrap().path();
        let name = directory
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let Ok(index) = fs::read_to_string(directory.join("ifindex")) else {
            continue;
        };
        assert!(!index.is_empty());
        let row = machine
            .find("Device.IP.Interface.", "Name", &name)
            .unwrap_or_else(|| panic!("no {name}"));
        let sent: u64 = machine
            .text(row.child("Stats").param("BytesSent").as_str())
            .parse()
            .unwrap();
        let now: u64 = fs::read_to_string(directory.join("statistics/tx_bytes"))
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        assert!(sent <= now, "{name}: {sent} bytes, later {now}");
        let is_port = directory.join("device").exists();
        if let Some(port) = machine.find("Device.Ethernet.Interface.", "Name", &name) {
            let address = fs::read_to_string(directory.join("address"))
                .unwrap()
                .trim()
                .to_ascii_uppercase();
            assert_eq!(machine.text(port.param("MACAddress").as_str()), address);
            assert_eq!(
                machine.text(row.param("LowerLayers").as_str()),
                port.as_str().trim_end_matches('.'),
                "{name} runs on its own port"
            );
        } else {
            assert!(
                !is_port || directory.join("phy80211").exists(),
                "{name} is hardware, but no Ethernet port"
            );
        }
    }
}

#[test]
fn a_second_look_makes_no_row_new() {
    let mut machine = Machine::read();
    machine.tree.drain_changes();
    for _ in 0..3 {
        machine.refresh();
    }
    let came_or_went = |change: &Change| match change {
        // Processes come and go.
        Change::Created { path } | Change::Deleted { path, .. } => {
            !path.as_str().contains("ProcessStatus")
        }
        Change::ValueChanged { .. } => false,
    };
    let changes: Vec<Change> = machine
        .tree
        .drain_changes()
        .into_iter()
        .filter(came_or_went)
        .collect();
    assert!(changes.is_empty(), "{changes:?}");
}

#[test]
fn rows_keep_their_numbers_over_a_restart_of_the_agent() {
    let first = Machine::read();
    let numbers = |machine: &Machine, table: &str| {
        let named = machine
            .rows(table)
            .into_iter()
            .map(|row| (machine.text(row.param("Name").as_str()), row));
        named.collect::<BTreeMap<String, ObjectPath>>()
    };
    let mut second = Machine::new(&Options::default());
    second.tree.import(first.tree.export());
    second.refresh();
    for table in ["Device.IP.Interface.", "Device.Ethernet.Interface."] {
        assert_eq!(numbers(&first, table), numbers(&second, table));
    }
}

#[test]
fn what_a_controller_wrote_stays() {
    let mut machine = Machine::read();
    let written = [
        ("Device.DeviceInfo.ProvisioningCode", "ISP.A1"),
        ("Device.DeviceInfo.FriendlyName", "Kitchen"),
        ("Device.Time.LocalTimeZone", "CET-1CEST,M3.5.0,M10.5.0/3"),
    ];
    for (path, value) in written {
        machine.apply(path, value).unwrap();
        let mut transaction = machine.tree.transaction();
        transaction.set(&path.parse().unwrap(), value).unwrap();
        transaction.commit().unwrap();
    }
    machine.refresh();
    let mut restarted = Machine::new(&Options::default());
    restarted.tree.import(machine.tree.export());
    restarted.refresh();
    for (path, value) in written {
        assert_eq!(machine.text(path), value);
        assert_eq!(restarted.text(path), value);
    }
    let local = restarted.text("Device.Time.CurrentLocalTime");
    assert!(
        local.ends_with("+01:00") || local.ends_with("+02:00"),
        "{local}"
    );
}

#[test]
fn the_clock_is_synchronized_when_the_configuration_says_so() {
    for (clock, status) in [
        (provider::time::Clock::Accurate, "Synchronized"),
        (provider::time::Clock::Unknown, "Unsynchronized"),
    ] {
        let mut machine = Machine::new(&Options {
            clock,
            ..Options::default()
        });
        machine.refresh();
        assert_eq!(machine.text("Device.Time.Status"), status);
    }
}

/// All three requests were answered.
fn assert_complete(output: &BTreeMap<String, String>) {
    let value = |name: &str| output.get(name).map(String::as_str);
    let complete = value("Status") == Some("Complete") && value("SuccessCount") == Some("3");
    assert!(complete, "{output:?}");
}

#[tokio::test]
async fn ping_counts_its_answers() {
    let mut machine = Machine::read();
    assert_eq!(
        machine.text("Device.IP.Diagnostics.IPv4PingSupported"),
        "true"
    );
    let output = machine
        .ping(&[("Host", "127.0.0.1"), ("DSCP", "46")])
        .await
        .unwrap();
    assert_eq!(output["Status"], "Complete");
    assert_eq!(output["IPAddressUsed"], "127.0.0.1");
    assert_eq!(
        (
            output["SuccessCount"].as_str(),
            output["FailureCount"].as_str()
        ),
        ("3", "0")
    );
    let time = |name: &str| {
        output[&format!("{name}ResponseTimeDetailed")]
            .parse::<u64>()
            .unwrap()
    };
    assert!(
        time("Minimum") > 0
            && time("Minimum") <= time("Average")
            && time("Average") <= time("Maximum")
    );
}

#[tokio::test]
async fn ping_goes_through_the_interface_it_is_told() {
    let mut machine = Machine::read();
    let lo = machine.find("Device.IP.Interface.", "Name", "lo").unwrap();
    let interface = lo.as_str().trim_end_matches('.');
    let output = machine
        .ping(&[("Host", "localhost"), ("Interface", interface)])
        .await
        .unwrap();
    assert_complete(&output);
    let error = machine
        .ping(&[
            ("Host", "127.0.0.1"),
            ("Interface", "Device.IP.Interface.4711"),
        ])
        .await
        .unwrap_err();
    assert_eq!(error.code, 7027);
}

#[tokio::test]
async fn ping_tells_when_a_name_is_unknown_or_a_packet_too_large() {
    let mut machine = Machine::read();
    let output = machine
        .ping(&[("Host", "no-such-host.invalid")])
        .await
        .unwrap();
    assert_eq!(
        output,
        BTreeMap::from([(
            "Status".to_owned(),
            "Error_CannotResolveHostName".to_owned()
        )])
    );
    let output = machine
        .ping(&[("Host", "127.0.0.1"), ("ProtocolVersion", "IPv6")])
        .await
        .unwrap();
    assert_eq!(output["Status"], "Error_CannotResolveHostName");
    let output = machine
        .ping(&[("Host", "127.0.0.1"), ("DataBlockSize", "65535")])
        .await
        .unwrap();
    assert_eq!(output["Status"], "Error_Other");
    let output = machine
        .ping(&[("Host", "127.0.0.1"), ("DataBlockSize", "65000")])
        .await
        .unwrap();
    assert_complete(&output);
}

#[tokio::test]
async fn only_a_few_pings_run_at_once() {
    let mut machine = Machine::read();
    let args = [
        ("ProtocolVersion", "Any"),
        ("Host", "127.0.0.1"),
        ("NumberOfRepetitions", "1"),
        ("Timeout", "1000"),
        ("DataBlockSize", "1"),
    ];
    let mut running = Vec::new();
    let refused = loop {
        match machine
            .operate("Device.IP.Diagnostics.IPPing()", &args)
            .unwrap()
        {
            Operation::Async(ping) => running.push(ping),
            Operation::Done(result) => break result.unwrap_err(),
        }
        assert!(running.len() < 100);
    };
    assert_eq!((refused.code, running.len()), (7005, 4));
    running.pop();
    assert_eq!(
        machine.ping(&[("Host", "127.0.0.1")]).await.unwrap()["SuccessCount"],
        "3"
    );
}
