//! What runs beside the engine: the inbox, the timers, and the ears of gateway and device.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::{sync::Notify, task::JoinHandle};

use super::{Shared, inbox, own};
use crate::provider::{Identity, Wake};

mod inform;
mod liveness;
mod wire;

/// How long after a failure something is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How often the counters are logged.
const REPORT_EVERY: Duration = Duration::from_secs(3600);

/// They end when this is dropped.
#[derive(Debug)]
pub(super) struct Tasks(Vec<JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// Starts them, inside the tokio runtime.
pub(super) fn start(shared: &Shared, identity: &Identity, wake: Wake) -> Tasks {
    let timer = shared.set_wake(wake);
    let settings = shared.settings();
    // First the socket, then what waits: nothing falls between.
    let listener = inbox::listen(&settings.socket);
    inbox::take_waiting(shared, Instant::now(), SystemTime::now());
    let mut tasks = vec![tokio::spawn(run_timers(shared.clone(), timer))];
    match listener {
        Ok(listener) => tasks.push(tokio::spawn(inbox::serve(listener, shared.clone()))),
        Err(error) => {
            let socket = settings.socket.display();
            tracing::error!(%socket, %error, "DHCP clients and servers cannot tell the agent anything");
        }
    }
    if settings.gateway {
        for lan in settings.lan {
            tasks.push(tokio::spawn(wire::listen(lan, shared.clone())));
        }
        if !settings.probe_interval.is_zero() {
            let look = liveness::look(shared.clone(), settings.probe_interval);
            tasks.push(tokio::spawn(look));
        }
    }
    if settings.device
        && let Some(interface) = settings.inform
    {
        match own(identity) {
            Ok(own) => {
                let ask = inform::ask(interface, own, settings.inform_interval, shared.clone());
                tasks.push(tokio::spawn(ask));
            }
            Err(error) => {
                tracing::error!(%error, "this device's own identity cannot be told by DHCP");
            }
        }
    }
    Tasks(tasks)
}

/// Lets go what expires, when it does.
async fn run_timers(shared: Shared, timer: Arc<Notify>) {
    let mut report = Instant::now() + REPORT_EVERY;
    loop {
        let next = shared.poll_timeout().map_or(report, |at| at.min(report));
        tokio::select! {
            () = timer.notified() => {}
            () = tokio::time::sleep_until(next.into()) => {}
        }
        let now = Instant::now();
        shared.expire(now);
        if report <= now {
            report = now + REPORT_EVERY;
            tracing::info!(counters = ?shared.counters(), "association");
        }
    }
}
