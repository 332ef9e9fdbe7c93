//! `Device.DeviceInfo.ProcessStatus.`: processor load and the process table.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use homefleet_model::{
    schema::{Object, Param},
    tree::Tree,
    value::Type,
};

use super::{
    Now, Options, Provider, ProviderError,
    fill::{Fill, keep_rows, object, tree_error},
    proc::{self, Cpu, Process},
};

/// Load is measured over at least this long; a shorter time would show the agent itself.
const LOAD_INTERVAL: Duration = Duration::from_millis(500);

/// How many processes are looked at to find those to show.
const MAX_READ: usize = 4096;

static OBJECTS: &[Object] = &[
    Object {
        path: "Device.DeviceInfo.ProcessStatus.",
        params: &[
            Param::ro("CPUUsage", Type::UnsignedIntIn(0, 100)),
            Param::ro("ProcessNumberOfEntries", Type::UnsignedInt),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.DeviceInfo.ProcessStatus.Process.{i}.",
        unique_keys: &[&["PID"]],
        params: &[
            Param::ro("PID", Type::UnsignedInt),
            Param::ro("Command", Type::string(256)),
            Param::ro("Size", Type::UnsignedInt),
            Param::ro("Priority", Type::UnsignedIntIn(0, 99)),
            Param::ro("CPUTime", Type::UnsignedInt),
            Param::ro(
                "State",
                Type::Enum(&[
                    "Running",
                    "Sleeping",
                    "Stopped",
                    "Idle",
                    "Uninterruptible",
                    "Zombie",
                ]),
            ),
        ],
        ..Object::EMPTY
    },
];

pub(super) struct ProcessStatus {
    max_processes: usize,
    page_kib: u64,
    /// What the load is measured against: the reading before, and when it was made.
    before: Option<(Instant, Cpu)>,
}

impl ProcessStatus {
    pub(super) fn new(options: &Options) -> Self {
        let page_kib = (rustix::param::page_size() / 1024).max(1) as u64;
        Self {
            max_processes: options.max_processes,
            page_kib,
            before: None,
        }
    }

    fn load(&mut self, tree: &mut Tree, now: Now) -> Result<(), ProviderError> {
        if self
            .before
            .is_some_and(|(at, _)| now.instant.saturating_duration_since(at) < LOAD_INTERVAL)
        {
            return Ok(());
        }
        let what = "/proc/stat";
        let text = proc::read(what).map_err(|source| ProviderError::Io {
            what: what.into(),
            source,
        })?;
        let cpu = proc::cpu(&text).ok_or_else(|| ProviderError::Format {
            what: what.into(),
            reason: "no line of all processors".into(),
        })?;
        // The first reading shows the mean since the start of the machine.
        let before = self.before.map_or(Cpu { busy: 0, idle: 0 }, |(_, cpu)| cpu);
        if let Some(usage) = cpu.usage_since(&before) {
            Fill::new(tree, &object("Device.DeviceInfo.ProcessStatus.")?).put("CPUUsage", usage)?;
        }
        self.before = Some((now.instant, cpu));
        Ok(())
    }

    fn table(&self, tree: &mut Tree) -> Result<(), ProviderError> {
        let table = object("Device.DeviceInfo.ProcessStatus.Process.")?;
        let mut rows = BTreeSet::new();
        for process in chosen(running(), self.max_processes) {
            // The instance number is the PID: it says which process it is, and needs no memory.
            let row = table.row(process.pid);
            tree.ensure_instance(&row).map_err(tree_error)?;
            let size = process.resident_pages.saturating_mul(self.page_kib);
            Fill::new(tree, &row)
                .put("PID", process.pid)?
                .text("Command", &process.command, 256)?
                .put("Size", u32::try_from(size).unwrap_or(u32::MAX))?
                .put("Priority", process.priority)?
                .put(
                    "CPUTime",
                    u32::try_from(process.cpu_time).unwrap_or(u32::MAX),
                )?
                .put("State", process.state)?;
            rows.insert(row);
        }
        keep_rows(tree, &table, &rows);
        Ok(())
    }
}

impl Provider for ProcessStatus {
    fn objects(&self) -> &'static [Object] {
        OBJECTS
    }

    fn prefixes(&self) -> &'static [&'static str] {
        &["Device.DeviceInfo.ProcessStatus."]
    }

    fn refresh(&mut self, tree: &mut Tree, now: Now) -> Result<(), ProviderError> {
        self.load(tree, now)?;
        self.table(tree)
    }
}

/// The processes that run. The command line is not read: it may hold passwords.
fn running() -> Vec<Process> {
    let Ok(directory) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = directory
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_pid));
    pids.take(MAX_READ)
        // A process may end between the two readings.
        .filter_map(|entry| proc::process(&proc::read(entry.path().join("stat")).ok()?))
        .collect()
}

fn is_pid(name: &str) -> bool {
    name.parse::<u32>().is_ok_and(|pid| pid > 0)
}

/// At most `max` processes: programs before the kernel's own threads, the largest first.
fn chosen(mut processes: Vec<Process>, max: usize) -> Vec<Process> {
    processes.retain(|process| process.pid != 0);
    if processes.len() > max {
        processes.sort_by_key(|process| {
            (
                process.virtual_size == 0,
                std::cmp::Reverse(process.resident_pages),
                process.pid,
            )
        });
        processes.truncate(max);
    }
    processes.sort_by_key(|process| process.pid);
    processes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, virtual_size: u64, resident_pages: u64) -> Process {
        let command = format!("p{pid}");
        Process {
            pid,
            command,
            state: "Sleeping",
            priority: 85,
            cpu_time: 0,
            virtual_size,
            resident_pages,
        }
    }

    #[test]
    fn the_largest_programs_are_shown_when_there_are_too_many() {
        let processes = vec![
            process(9, 10, 5),
            process(2, 0, 0),
            process(3, 10, 1),
            process(4, 10, 7),
        ];
        let pids = |max| {
            chosen(processes.clone(), max)
                .iter()
                .map(|process| process.pid)
                .collect::<Vec<_>>()
        };
        assert_eq!(pids(2), [4, 9]);
        assert_eq!(pids(3), [3, 4, 9]);
        assert_eq!(pids(10), [2, 3, 4, 9]);
    }

    #[test]
    fn this_process_is_among_those_that_run() {
        let me = std::process::id();
        assert!(
            running()
                .iter()
                .any(|process| process.pid == me && process.resident_pages > 0)
        );
    }
}
