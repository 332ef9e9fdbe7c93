//! Texts under `/proc`, `/sys` and `/etc`: reading them with a bound, and taking them apart. Every parser is a
//! pure function; what it does not understand it leaves out.

use std::{fs::File, io, io::Read, path::Path};

/// The most that is read of one file.
const MAX_TEXT: u64 = 64 * 1024;

/// Ticks per second of the times in `/proc` (USER_HZ), 100 on every architecture Rust runs Linux on.
const USER_HZ: u64 = 100;

/// A text file's first 64 KiB; bytes that are not UTF-8 are replaced.
pub(super) fn read(path: impl AsRef<Path>) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_TEXT).read_to_end(&mut bytes)?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// A one-line file without surrounding white space and NUL bytes; `None` when missing or empty.
pub(super) fn line(path: impl AsRef<Path>) -> Option<String> {
    let text = read(path).ok()?;
    let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    (!text.is_empty()).then(|| text.to_owned())
}

/// From `/proc/meminfo`, KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) total: u64,
    /// What programs can still get without swapping: free memory and reclaimable caches.
    pub(super) available: u64,
}

/// `/proc/meminfo` (proc_meminfo(5)).
pub(super) fn memory(text: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    let total = field("MemTotal")?;
    // Kernels before 3.14 have no MemAvailable.
    let available = field("MemAvailable").or_else(|| {
        let free = field("MemFree")?;
        Some(
            free.saturating_add(field("Buffers").unwrap_or(0))
                .saturating_add(field("Cached").unwrap_or(0)),
        )
    })?;
    Some(Memory {
        total,
        available: available.min(total),
    })
}

/// From the first line of `/proc/stat`: what all processors together did since the start, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cpu {
    pub(super) busy: u64,
    pub(super) idle: u64,
}

/// `/proc/stat` (proc_stat(5)). Waiting for input or output is idling; time stolen by the host is busy.
pub(super) fn cpu(text: &str) -> Option<Cpu> {
    let fields = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = fields
        .split_ascii_whitespace()
        .map_while(|field| field.parse().ok())
        .take(8)
        .collect();
    let idle = ticks
        .get(3)?
        .saturating_add(ticks.get(4).copied().unwrap_or(0));
    let total = ticks
        .iter()
        .fold(0_u64, |sum, ticks| sum.saturating_add(*ticks));
    Some(Cpu {
        busy: total.saturating_sub(idle),
        idle,
    })
}

impl Cpu {
    /// Percent of the time between two readings, rounded up (TR-181 `CPUUsage`); `None` when no time passed.
    pub(super) fn usage_since(&self, before: &Self) -> Option<u8> {
        // The idle counter can go back when a processor is taken offline.
        let busy = self.busy.saturating_sub(before.busy);
        let idle = self.idle.saturating_sub(before.idle);
        let total = busy.checked_add(idle).filter(|total| *total > 0)?;
        let percent = (u128::from(busy) * 100).div_ceil(u128::from(total));
        u8::try_from(percent).ok().filter(|percent| *percent <= 100)
    }
}

/// How many processors `/proc/stat` lists.
pub(super) fn processors(text: &str) -> usize {
    let is_processor = |line: &&str| {
        line.strip_prefix("cpu")
            .and_then(|rest| rest.chars().next())
            .is_some_and(|c| c.is_ascii_digit())
    };
    text.lines().filter(is_processor).count()
}

/// One process, from `/proc/PID/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) command: String,
    /// One of TR-181's states.
    pub(super) state: &'static str,
    /// 0 (highest) to 99.
    pub(super) priority: u8,
    /// Milliseconds of processor time used.
    pub(super) cpu_time: u64,
    /// Address space, bytes; 0 for a thread of the kernel.
    pub(super) virtual_size: u64,
    /// Pages in memory.
    pub(super) resident_pages: u64,
}

/// `/proc/PID/stat` (proc_pid_stat(5)). The command stands between the first and the *last* parenthesis:
/// a process may name itself `a) R 1 (b`.
pub(super) fn process(text: &str) -> Option<Process> {
    let (pid, rest) = text.split_once(" (")?;
    let (command, rest) = rest.rsplit_once(") ")?;
    // `rest` begins with field 3.
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let kernel_priority: i64 = fields.get(18 - 3)?.parse().ok()?;
    let ticks = number(14)?.saturating_add(number(15)?);
    Some(Process {
        pid: pid.trim().parse().ok()?,
        command: command.to_owned(),
        state: state(fields.first()?),
        priority: priority(kernel_priority),
        cpu_time: ticks.saturating_mul(1000 / USER_HZ),
        virtual_size: number(23)?,
        resident_pages: number(24).unwrap_or(0),
    })
}

fn state(letter: &str) -> &'static str {
    match letter {
        "R" => "Running",
        "T" | "t" => "Stopped",
        "I" => "Idle",
        "D" => "Uninterruptible",
        "Z" | "X" | "x" => "Zombie",
        _ => "Sleeping",
    }
}

/// The kernel's scale, -100 (real-time 99) to 39 (nice 19), on TR-181's 0 (highest) to 99.
fn priority(kernel: i64) -> u8 {
    let from_top = kernel.clamp(-100, 39) + 100;
    u8::try_from(from_top * 99 / 139).unwrap_or(99)
}

/// Interfaces with an IPv4 default route, from `/proc/net/route`.
pub(super) fn default_routes(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [name, "00000000", _, flags, _, _, _, "00000000", ..] = fields[..] else {
            continue;
        };
        // RTF_UP, and not RTF_REJECT.
        let usable = u32::from_str_radix(flags, 16)
            .is_ok_and(|flags| flags & 0x1 != 0 && flags & 0x200 == 0);
        if usable && name != "*" && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// A value of `/etc/os-release` (os-release(5)), without its quotes.
pub(super) fn os_release(text: &str, key: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?
        .trim();
    let quoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
    (!value.is_empty()).then(|| value.replace('\\', ""))
}

/// One line of a dnsmasq or odhcpd lease file: `EXPIRY MAC ADDRESS NAME CLIENT-ID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    /// Hardware address, upper case.
    pub(super) mac: String,
    pub(super) name: String,
}

/// The leases that carry a host's name.
pub(super) fn leases(text: &str) -> Vec<Lease> {
    let lease = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        fields.next()?.parse::<u64>().ok()?;
        let mac = fields
            .next()
            .filter(|mac| mac.len() == 17 && mac.split(':').count() == 6)?;
        let name = fields.nth(1).filter(|name| *name != "*")?;
        Some(Lease {
            mac: mac.to_ascii_uppercase(),
            name: name.to_owned(),
        })
    };
    text.lines().filter_map(lease).collect()
}

/// Time servers named in a configuration of chrony or ntpd (`server HOST …`, `pool HOST …`) or
/// systemd-timesyncd (`NTP=HOST HOST`).
pub(super) fn time_servers(text: &str) -> Vec<String> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        let hosts: Vec<&str> = if let Some(hosts) = line.strip_prefix("NTP=") {
            hosts.split_ascii_whitespace().collect()
        } else {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("server" | "pool") => words.next().into_iter().collect(),
                _ => Vec::new(),
            }
        };
        for host in hosts {
            if host.len() <= 64 && !servers.iter().any(|known| known == host) {
                servers.push(host.to_owned());
            }
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MEMINFO: &str = "MemTotal:       24684084 kB\nMemFree:        21135468 kB\nMemAvailable:   24134272 kB\n\
        Buffers:           56828 kB\nCached:          2889772 kB\nHugePages_Total:       0\n";
    const STAT: &str = "cpu  109582 6899 16293 225868 1328 0 367 101 0 0\ncpu0 54071 3354 6778 115371 444 0 134 51 0 0\n\
        cpu1 55511 3545 9515 110497 884 0 233 50 0 0\nintr 1 2 3\nctxt 5\n";
    const PID_STAT: &str = "30950 (cat) R 30946 30946 18863 0 -1 4194304 98 0 0 0 12 3 0 0 20 0 1 0 181270 3133440 392 \
        18446744073709551615 94743227031552 94743227051433 140730526825664 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";

    /// Texts that are no such file, or broken ones, for every parser.
    const HOSTILE: &[&str] = &[
        "",
        "\n",
        "\0\0\0",
        "cpu",
        "cpu ",
        "cpu  1 2 3",
        "cpu  99999999999999999999999 1 1 1",
        "cpu -1 -2 -3 -4",
        "MemTotal: kB",
        "MemTotal: -5 kB\nMemAvailable: 1 kB",
        "MemTotal: 18446744073709551616 kB",
        "MemTotal: 5 MB",
        "1 (",
        "1 ()",
        "1 () ",
        ") (",
        "x (y) R",
        "4294967296 (a) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 0 0 0",
        "1 (a) S 1 1 1 0 -1 0 0 0 0 0 18446744073709551615 18446744073709551615 0 0 -9223372036854775808 0 1 0 0 0 0",
        "Iface\n\n\t\neth0",
        "Iface\neth0 00000000 0 ZZZZ 0 0 0 00000000",
        "NAME=",
        "NAME=\"",
        "=",
        "NTP=",
        "server",
        "pool \u{1F600}",
        "x 00:00 1.2.3.4 n c",
        "1 aa:bb:cc:dd:ee:ff",
        "1 aa:bb:cc:dd:ee:ff 1.2.3.4",
    ];

    #[test]
    fn memory_is_total_and_available() {
        assert_eq!(
            memory(MEMINFO),
            Some(Memory {
                total: 24_684_084,
                available: 24_134_272
            })
        );
    }

    #[test]
    fn memory_of_an_old_kernel_counts_its_caches_as_available() {
        let old: String = MEMINFO
            .lines()
            .filter(|line| !line.starts_with("MemAvailable"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(
            memory(&old).unwrap().available,
            21_135_468 + 56_828 + 2_889_772
        );
    }

    #[test]
    fn cpu_usage_is_rounded_up_over_the_interval() {
        let first = cpu(STAT).unwrap();
        assert_eq!(
            first,
            Cpu {
                busy: 109_582 + 6_899 + 16_293 + 367 + 101,
                idle: 225_868 + 1_328
            }
        );
        let later = Cpu {
            busy: first.busy + 1,
            idle: first.idle + 199,
        };
        assert_eq!(later.usage_since(&first), Some(1));
        assert_eq!(
            Cpu {
                busy: first.busy + 50,
                ..first
            }
            .usage_since(&first),
            Some(100)
        );
        assert_eq!(
            Cpu {
                idle: first.idle + 50,
                ..first
            }
            .usage_since(&first),
            Some(0)
        );
        assert_eq!(first.usage_since(&first), None);
        assert_eq!(first.usage_since(&later), None);
    }

    #[test]
    fn processors_are_counted() {
        assert_eq!(processors(STAT), 2);
        assert_eq!(processors("cpu  1 2 3 4\n"), 0);
    }

    #[test]
    fn a_process_is_read() {
        let expected = Process {
            pid: 30950,
            command: "cat".into(),
            state: "Running",
            priority: 85,
            cpu_time: 150,
            virtual_size: 3_133_440,
            resident_pages: 392,
        };
        assert_eq!(process(PID_STAT), Some(expected));
    }

    #[test]
    fn a_process_may_have_parentheses_in_its_name() {
        let nasty = PID_STAT.replace("(cat) R", "(a) R 1 (b) S");
        let process = process(&nasty).unwrap();
        assert_eq!(
            (process.command.as_str(), process.state),
            ("a) R 1 (b", "Sleeping")
        );
    }

    #[test]
    fn priorities_span_0_to_99() {
        assert_eq!(priority(-100), 0);
        assert_eq!(priority(39), 99);
        assert_eq!(priority(20), 85);
        assert_eq!(priority(i64::MIN), 0);
        assert!((-100..39).all(|p| priority(p) <= priority(p + 1)));
    }

    #[test]
    fn the_default_route_names_its_interface() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            *\t00000000\t00000000\t0200\t0\t0\t4294967295\t00000000\t0\t0\t0\n";
        assert_eq!(default_routes(text), ["eth0"]);
    }

    #[test]
    fn os_release_values_lose_their_quotes() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID='12'\nID=debian\nNAME=\"\"\n";
        assert_eq!(os_release(text, "VERSION_ID").as_deref(), Some("12"));
        assert_eq!(os_release(text, "ID").as_deref(), Some("debian"));
        assert_eq!(
            os_release(text, "PRETTY_NAME").as_deref(),
            Some("Debian GNU/Linux 12 (bookworm)")
        );
        assert_eq!(os_release(text, "NAME"), None);
        assert_eq!(os_release(text, "VERSION"), None);
    }

    #[test]
    fn leases_name_their_hosts() {
        let text = "1700000000 aa:bb:cc:dd:ee:0f 192.168.1.20 laptop 01:aa:bb:cc:dd:ee:0f\n\
            1700000000 aa:bb:cc:dd:ee:01 192.168.1.21 * *\nduid 00:01\n";
        assert_eq!(
            leases(text),
            [Lease {
                mac: "AA:BB:CC:DD:EE:0F".into(),
                name: "laptop".into()
            }]
        );
    }

    #[test]
    fn time_servers_are_found_in_the_usual_configurations() {
        assert_eq!(
            time_servers("# x\npool 2.debian.pool.ntp.org iburst\nserver 192.0.2.1\n"),
            ["2.debian.pool.ntp.org", "192.0.2.1"]
        );
        assert_eq!(
            time_servers("[Time]\n#NTP=\nNTP=a.example b.example a.example\n"),
            ["a.example", "b.example"]
        );
    }

    #[test]
    fn hostile_texts_are_survived() {
        for text in HOSTILE {
            let _ = (
                memory(text),
                cpu(text),
                processors(text),
                process(text),
                default_routes(text),
            );
            let _ = (os_release(text, "NAME"), leases(text), time_servers(text));
        }
        assert_eq!(HOSTILE.iter().filter_map(|text| memory(text)).count(), 0);
        let processes: Vec<Process> = HOSTILE.iter().filter_map(|text| process(text)).collect();
        assert_eq!(processes.len(), 1);
        assert_eq!(
            (processes[0].cpu_time, processes[0].priority),
            (u64::MAX, 0)
        );
    }
}
