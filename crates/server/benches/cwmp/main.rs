//! Sessions of TR-069: the whole server over HTTP, with devices of a thousand parameters that it knows.
//!
//! ```sh
//! cargo bench -p homefleet-server --bench cwmp                     # every part; some five minutes
//! cargo bench -p homefleet-server --bench cwmp -- inform login     # some: inform, change, login, power
//! ```
//!
//! The server is a process of its own (this program again, with `serve`) with its store on a disk; its CPU time is its own. A session is an Inform with ten
//! parameters, its answer, an empty POST and the end, over a TCP connection of its own; the answer to the Inform leaves when what it told is on the disk.
//! Devices and server share the machine, so the rate says less about the server than its CPU time per session does. The power failure is of simulated devices
//! that come back within a time, while an operator reads.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "../../../homefleet/src/sim/fleet/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the command line uses the rest")]
mod fleet;
mod power;
#[path = "../notify/process.rs"]
mod process;
mod serve;
mod sessions;

use std::path::Path;
use std::time::Duration;

use homefleet_cwmp::cpe::RetryPolicy;

use crate::fleet::{Plan, Root};
use crate::process::Own;

/// What devices log in with, where they have to.
pub(crate) const LOGIN: &str = "bench";
/// Its password.
pub(crate) const PASSWORD: &str = "correct horse";

fn main() {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    if let [role, directory] = args.as_slice()
        && let Some(login) = role.strip_prefix("serve")
    {
        return serve::main(Path::new(directory), login == "-login");
    }
    let wanted = |name: &str| args.is_empty() || args.iter().any(|arg| arg == name);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load of the machine before: {}", load.trim());
    for kind in sessions::KINDS {
        if wanted(kind.name) {
            sessions::run(&kind);
        }
    }
    if wanted("power") {
        power::run();
    }
}

/// A server of its own, and where it is.
pub(crate) struct Place {
    pub(crate) server: Own,
    pub(crate) acs: String,
    pub(crate) http: String,
    pub(crate) token: String,
    _directory: tempfile::TempDir,
}

impl Place {
    pub(crate) fn start(login: bool) -> Self {
        // Not on a memory file system: what is measured is reaching the disk.
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let role = if login { "serve-login" } else { "serve" };
        let mut server = Own::start(&[role, directory.path().to_str().unwrap()]);
        let line = server.line();
        let mut parts = line.split(' ').map(str::to_owned);
        let mut next = || parts.next().unwrap();
        Self {
            acs: next(),
            http: next(),
            token: next(),
            server,
            _directory: directory,
        }
    }

    /// Devices of a thousand parameters that come at once, and then not again by themselves.
    pub(crate) fn plan(&self, login: bool, first: u64, devices: u64) -> Plan {
        Plan {
            acs: self.acs.as_str().into(),
            username: if login { LOGIN } else { "" }.into(),
            password: if login { PASSWORD } else { "" }.into(),
            tls: None,
            timeout: Duration::from_secs(60),
            devices,
            first,
            oui: "00D09E".into(),
            class: "Bench".into(),
            serial: "B".into(),
            root: Root::Device,
            parameters: 1000,
            period: Duration::ZERO,
            ramp: Duration::ZERO,
            known: false,
            retry: RetryPolicy::default(),
            faults: 0.0,
            breaks: 0.0,
            change_every: None,
            restart_every: None,
            restart_takes: Duration::ZERO,
            transfer_takes: Duration::ZERO,
            listen: Some(([127, 0, 0, 1], 0).into()),
            seed: 1,
        }
    }
}

/// The registry's name of a device.
pub(crate) fn id(number: u64) -> String {
    format!("cwmp:00D09E-Bench-B{number:08}")
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}
