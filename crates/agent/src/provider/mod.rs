//! Providers: the parts of the device behind the parts of the tree.
//!
//! The agent's core owns the tree. A provider reads the system and puts what it found into the tree
//! ([`Provider::refresh`]), makes the system follow what a controller set ([`Provider::apply`]), and runs
//! commands ([`Provider::operate`]).
//!
//! The core itself declares the objects `Device.` (with `Reboot()`, `FactoryReset()` and `Boot!`) and
//! everything under `Device.LocalAgent.`; a provider declares its own objects and may still implement
//! `Device.Reboot()` in [`Provider::operate`]: every provider is asked in order until one answers.

use std::{
    collections::BTreeMap,
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use homefleet_model::{path::ParamPath, schema::Object, tree::Tree};

use crate::association;

mod device_info;
mod diagnostics;
mod ethernet;
pub(crate) mod fill;
mod hosts;
mod interfaces;
mod ip;
pub(crate) mod kernel;
mod ping;
mod proc;
mod process;
pub mod reboot;
mod security;
pub mod time;

pub(crate) use self::device_info::own_identity;
pub use self::{
    device_info::Identity,
    diagnostics::{MAX_REPETITIONS, MAX_TIMEOUT},
    security::Own,
};

/// The two clocks, read together: monotonic for intervals, wall time for dateTime values.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic time.
    pub instant: Instant,
    /// Wall time.
    pub wall: SystemTime,
}

impl Now {
    /// Both clocks of the system, now.
    pub fn system() -> Self {
        Self {
            instant: Instant::now(),
            wall: SystemTime::now(),
        }
    }
}

/// One part of the device behind part of the tree.
pub trait Provider: Send {
    /// The objects this provider adds to the schema (TR-181 names, types and access).
    fn objects(&self) -> &'static [Object];

    /// The subtrees it fills, for example `Device.DeviceInfo.`; [`refresh`](Self::refresh) is called only
    /// when something under one of them is read or subscribed to.
    fn prefixes(&self) -> &'static [&'static str];

    /// Reads the system and puts what it found into the tree. Called before a read, and every second
    /// while something under one of the prefixes is subscribed to.
    fn refresh(&mut self, tree: &mut Tree, now: Now) -> Result<(), ProviderError>;

    /// A controller set `path` to `value` (already checked against the schema): make it so. An error
    /// refuses the set, and nothing has changed.
    fn apply(&mut self, tree: &Tree, path: &ParamPath, value: &str) -> Result<(), ProviderError> {
        let (_, _, _) = (tree, path, value);
        Ok(())
    }

    /// Runs `command` (a concrete path such as `Device.IP.Diagnostics.IPPing()`); `None` when it is not
    /// this provider's.
    fn operate(&mut self, command: &str, args: &BTreeMap<String, String>) -> Option<Operation> {
        let (_, _) = (command, args);
        None
    }

    /// Called once, inside the tokio runtime, before the first refresh. A provider that can hear the
    /// kernel (netlink) keeps `wake` and calls it when something it shows has changed, so that a
    /// subscriber is told at once instead of at the next second.
    fn watch(&mut self, wake: Wake) {
        let _ = wake;
    }
}

/// What a provider's command does.
pub enum Operation {
    /// It is done: output arguments or the failure.
    Done(Result<BTreeMap<String, String>, OperateError>),
    /// It runs; the result comes later (asynchronous commands, R-OPR.0).
    Async(Running),
}

/// A command that runs: resolves to its output arguments or its failure.
pub type Running =
    Pin<Box<dyn Future<Output = Result<BTreeMap<String, String>, OperateError>> + Send>>;

/// A command failed; carried in `cmd_failure` (TR-369 Operate, error codes 7000–7999).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct OperateError {
    /// USP error code, for example 7022 (command failure) or 7027 (invalid command arguments).
    pub code: u32,
    /// What went wrong, for a person.
    pub message: String,
}

impl OperateError {
    /// 7022: the command failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self {
            code: 7022,
            message: message.into(),
        }
    }

    /// 7027: a mandatory argument is missing, or an argument has an unusable value (R-OPR.5).
    pub fn arguments(message: impl Into<String>) -> Self {
        Self {
            code: 7027,
            message: message.into(),
        }
    }
}

/// A provider could not read the system, or refuses what a controller set.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was read or written, for example `/proc/meminfo`.
        what: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The device refuses the value: answered with 7012 (invalid value) and this reason.
    #[error("{0}")]
    Refused(String),
    /// What was read has not the expected form.
    #[error("{what}: {reason}")]
    Format {
        /// What was read.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The tree did not take a value: the provider's table and its code disagree.
    #[error("{0}")]
    Tree(String),
}

/// Tells the agent's core that something a provider shows has changed.
#[derive(Clone)]
pub struct Wake(Arc<dyn Fn() + Send + Sync>);

impl Wake {
    /// A wake that calls `f`; `f` must neither block nor panic.
    pub fn new(f: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(f))
    }

    /// Something changed.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Wake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wake")
    }
}

/// What the providers of a Linux device are told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who made the device and what it is called.
    pub identity: Identity,
    /// The file system whose size `MemoryStatus.TotalPersistent` shows is this one's; absent: the root's.
    pub data_dir: Option<PathBuf>,
    /// Who says whether the clock is right (`Device.Time.Status`, `FirstUseDate`).
    pub clock: time::Clock,
    /// The certificate that the agent shows others.
    pub own: Own,
    /// A controller may set interfaces up and down, their MTU and IPv6, and the host name.
    pub allow_network_changes: bool,
    /// What `Device.Reboot()` and `Device.FactoryReset()` do.
    pub restart: reboot::Restart,
    /// How long after the command's answer they do it.
    pub restart_delay: Duration,
    /// How many processes are shown.
    pub max_processes: usize,
    /// How many hosts are shown.
    pub max_hosts: usize,
    /// How long a host is shown after it has gone.
    pub host_expiry: Duration,
    /// Who is behind which gateway, as DHCP tells it (TR-111 Part 1); absent: nothing is shown of that.
    pub association: Option<association::Shared>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            identity: Identity::default(),
            data_dir: None,
            clock: time::Clock::Kernel,
            own: Own::default(),
            allow_network_changes: false,
            restart: reboot::Restart::System,
            restart_delay: Duration::from_secs(2),
            max_processes: 256,
            max_hosts: 256,
            host_expiry: Duration::from_secs(24 * 60 * 60),
            association: None,
        }
    }
}

/// The providers of a Linux device, in the order in which they are asked.
pub fn all(options: &Options) -> Vec<Box<dyn Provider>> {
    let interfaces = interfaces::Shared::new();
    let mut providers: Vec<Box<dyn Provider>> = vec![
        Box::new(device_info::DeviceInfo::new(options)),
        Box::new(process::ProcessStatus::new(options)),
        Box::new(time::LocalTime::new(options)),
        Box::new(ip::Ip::new(options, interfaces.clone())),
        Box::new(ethernet::Ethernet::new(options, interfaces.clone())),
        Box::new(hosts::Hosts::new(options, interfaces.clone())),
        Box::new(diagnostics::Diagnostics::new(options, interfaces)),
        Box::new(security::Security::new(options)),
        Box::new(reboot::Reboot::new(options)),
    ];
    if let Some(shared) = &options.association {
        providers.extend(association::provider::providers(shared, &options.identity));
    }
    providers
}

/// [`all`] with the default options.
pub fn linux() -> Vec<Box<dyn Provider>> {
    all(&Options::default())
}
