//! The connecting side: one connection of the configuration, kept open.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use homefleet_usp::mtp::retry::Retry;
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::mtp::{State, Status};

use super::session::{self, Opened};
use super::{Shared, UdsConnection, check_path, count, lock, user_of};

/// Connects, and connects again 1 to 5 s after each failure and each end (R-UDS.5), until told to stop.
pub(super) async fn keep(
    shared: Arc<Shared>,
    name: String,
    spec: UdsConnection,
    status: Arc<Mutex<Status>>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut retry = Retry::new(shared.config.retry);
    loop {
        lock(&status).becomes(State::Connecting, retry.count());
        let reason = match dial(&shared, &spec).await {
            Ok((stream, uid)) => {
                count(&shared.counters.connected);
                let opened = Opened {
                    stream,
                    uid,
                    connection: Some(name.clone()),
                    expected: spec.endpoint_id.clone(),
                    status: Some(status.clone()),
                };
                let ended = session::run(shared.clone(), opened, stopped.clone()).await;
                if ended.was_open {
                    retry.succeeded();
                }
                ended.reason
            }
            Err(error) => {
                count(&shared.counters.connect_failed);
                error.to_string()
            }
        };
        if *stopped.borrow() {
            return;
        }
        let wait = retry.failed(random());
        tracing::debug!(connection = name, %reason, ?wait, "a connection failed or ended");
        lock(&status).becomes(State::Error(reason), retry.count());
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn dial(shared: &Shared, spec: &UdsConnection) -> io::Result<(UnixStream, u32)> {
    check_path(&spec.path)?;
    let stream = UnixStream::connect(&spec.path).await?;
    let uid = user_of(&stream, spec.allowed_uids.as_deref()).map_err(|why| {
        count(&shared.counters.refused_user);
        io::Error::new(io::ErrorKind::PermissionDenied, why)
    })?;
    Ok((stream, uid))
}

/// Where in its range a wait lies. Without the kernel's random numbers, the clock's last bits keep many clients apart.
fn random() -> u32 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u32::from_le_bytes(bytes),
        Err(_) => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO)
            .subsec_nanos()
            .wrapping_mul(5),
    }
}
