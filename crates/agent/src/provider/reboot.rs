//! `Device.Reboot()` and `Device.FactoryReset()`: what makes the device start again.
//!
//! The command is answered first and takes effect a moment later, so that its response still leaves. Keeping
//! the cause for the next `Boot!`, and forgetting the configuration at a factory reset, is the core's part.

use std::{
    collections::BTreeMap,
    fmt,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use homefleet_model::{schema::Object, tree::Tree};

use super::{Now, OperateError, Operation, Options, Provider, ProviderError};

/// What a controller asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `Device.Reboot()`.
    Reboot,
    /// `Device.FactoryReset()`.
    FactoryReset,
}

/// How the device starts again.
#[derive(Clone, Default)]
pub enum Restart {
    /// File systems are flushed and the machine is restarted by reboot(2). Needs CAP_SYS_BOOT.
    #[default]
    System,
    /// A program with its arguments, for example `systemctl reboot`; no shell reads it.
    Command(Vec<String>),
    /// The embedding program does it.
    Call(Arc<dyn Fn(Action) + Send + Sync>),
    /// Nothing happens: for demonstrations and tests.
    Nothing,
}

impl fmt::Debug for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("System"),
            Self::Command(words) => f.debug_tuple("Command").field(words).finish(),
            Self::Call(_) => f.write_str("Call"),
            Self::Nothing => f.write_str("Nothing"),
        }
    }
}

impl Restart {
    fn run(&self, action: Action) {
        let result = match self {
            Self::System => {
                rustix::fs::sync();
                rustix::system::reboot(rustix::system::RebootCommand::Restart)
                    .map_err(std::io::Error::from)
            }
            Self::Command(words) => run(words),
            Self::Call(call) => {
                call(action);
                Ok(())
            }
            Self::Nothing => Ok(()),
        };
        match result {
            Ok(()) => tracing::info!(?action, how = ?self, "restart"),
            Err(error) => tracing::error!(%error, how = ?self, "the device could not be restarted"),
        }
    }
}

pub(super) struct Reboot {
    restart: Restart,
    delay: Duration,
    pending: Arc<AtomicBool>,
}

impl Reboot {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            restart: options.restart.clone(),
            delay: options.restart_delay,
            pending: Arc::default(),
        }
    }

    fn order(&self, action: Action) -> Result<BTreeMap<String, String>, OperateError> {
        if matches!(&self.restart, Restart::Command(words) if words.is_empty()) {
            return Err(OperateError::failed(
                "the agent's configuration names no restart command",
            ));
        }
        // Asked twice, it restarts once.
        if !self.pending.swap(true, Ordering::SeqCst) {
            let (restart, delay, pending) =
                (self.restart.clone(), self.delay, self.pending.clone());
            let later = move || {
                std::thread::sleep(delay);
                restart.run(action);
                // It may have failed, or may have been for show.
                pending.store(false, Ordering::SeqCst);
            };
            // A thread, because it must come to pass even while the runtime is being shut down.
            let spawned = std::thread::Builder::new()
                .name("restart".into())
                .spawn(later);
            spawned.map_err(|error| OperateError::failed(format!("restart: {error}")))?;
        }
        Ok(BTreeMap::new())
    }
}

impl Provider for Reboot {
    /// The commands stand in the core's object `Device.`.
    fn objects(&self) -> &'static [Object] {
        &[]
    }

    fn prefixes(&self) -> &'static [&'static str] {
        &[]
    }

    fn refresh(&mut self, _tree: &mut Tree, _now: Now) -> Result<(), ProviderError> {
        Ok(())
    }

    fn operate(&mut self, command: &str, _args: &BTreeMap<String, String>) -> Option<Operation> {
        let action = match command {
            "Device.Reboot()" => Action::Reboot,
            "Device.FactoryReset()" => Action::FactoryReset,
            _ => return None,
        };
        Some(Operation::Done(self.order(action)))
    }
}

fn run(words: &[String]) -> std::io::Result<()> {
    let (program, arguments) = words
        .split_first()
        .ok_or(std::io::ErrorKind::InvalidInput)?;
    let status = Command::new(program).args(arguments).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(std::io::Error::other(format!("{program}: {status}")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc;

    use super::*;

    fn provider(restart: Restart, delay: Duration) -> Reboot {
        Reboot::new(&Options {
            restart,
            restart_delay: delay,
            ..Options::default()
        })
    }

    fn done(operation: Option<Operation>) -> Result<BTreeMap<String, String>, OperateError> {
        match operation {
            Some(Operation::Done(result)) => result,
            _ => panic!("not answered at once"),
        }
    }

    #[test]
    fn a_reboot_is_answered_and_then_happens_once() {
        let (heard, actions) = mpsc::channel();
        let restart = Restart::Call(Arc::new(move |action| heard.send(action).unwrap()));
        let mut provider = provider(restart, Duration::from_millis(20));
        for _ in 0..3 {
            assert_eq!(
                done(provider.operate("Device.Reboot()", &BTreeMap::new())),
                Ok(BTreeMap::new())
            );
        }
        assert_eq!(
            actions.recv_timeout(Duration::from_secs(5)),
            Ok(Action::Reboot)
        );
        drop(provider);
        assert!(actions.recv_timeout(Duration::from_millis(100)).is_err());
    }

    #[test]
    fn a_factory_reset_is_told_apart() {
        let (heard, actions) = mpsc::channel();
        let restart = Restart::Call(Arc::new(move |action| heard.send(action).unwrap()));
        let mut provider = provider(restart, Duration::ZERO);
        done(provider.operate("Device.FactoryReset()", &BTreeMap::new())).unwrap();
        assert_eq!(
            actions.recv_timeout(Duration::from_secs(5)),
            Ok(Action::FactoryReset)
        );
    }

    #[test]
    fn commands_of_others_are_left_to_them() {
        let mut provider = provider(Restart::Nothing, Duration::ZERO);
        assert!(
            provider
                .operate("Device.IP.Diagnostics.IPPing()", &BTreeMap::new())
                .is_none()
        );
    }

    #[test]
    fn a_restart_command_that_is_empty_is_refused_before_anything_happens() {
        let mut provider = provider(Restart::Command(Vec::new()), Duration::ZERO);
        assert_eq!(
            done(provider.operate("Device.Reboot()", &BTreeMap::new()))
                .unwrap_err()
                .code,
            7022
        );
    }

    #[test]
    fn a_restart_command_runs_without_a_shell() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("a; b");
        run(&["touch".into(), mark.to_string_lossy().into_owned()]).unwrap();
        assert!(mark.exists());
        assert!(run(&["false".into()]).is_err());
        assert!(run(&[]).is_err());
    }
}
