//! The socket on which UDP Connection Requests are listened for, as the engine wants it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use homefleet_net::stun::{Device, DeviceConfig, DeviceEvent};
use homefleet_tr111::connection_request::Last;
use tokio::sync::mpsc;

use super::Event;

/// The device's side of STUN; nothing before the engine says where.
#[derive(Debug, Default)]
pub(super) struct Stun {
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    listen: SocketAddr,
    device: Device,
    /// Where it said last that it is reached.
    told: Arc<Mutex<Option<DeviceEvent>>>,
    forward: tokio::task::AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.forward.abort();
    }
}

impl Stun {
    /// From now on it is so. What was learned before is told again: the engine may be a new one. Inside a tokio runtime.
    pub(super) fn apply(
        &mut self,
        listen: SocketAddr,
        config: DeviceConfig,
        last: Last,
        events: &mpsc::Sender<Event>,
    ) {
        if let Some(running) = self.running.as_ref().filter(|it| it.listen == listen) {
            running.device.configure(config);
            let told = running.told.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(told) = told.clone() {
                let events = events.clone();
                // The engine has ended: nobody is told.
                tokio::spawn(async move { events.send(Event::Stun(told)).await.ok() });
            }
            return;
        }
        self.running = None;
        let (device, happened) = match Device::bind(listen, config, last) {
            Ok(bound) => bound,
            Err(error) => {
                return tracing::error!(%listen, %error, "UDP Connection Requests are not listened for");
            }
        };
        tracing::info!(at = %device.local_addr(), "UDP Connection Requests are listened for");
        let told = Arc::default();
        let forward = forward(happened, events.clone(), Arc::clone(&told));
        self.running = Some(Running {
            listen,
            device,
            told,
            forward: tokio::spawn(forward).abort_handle(),
        });
    }

    /// Something about the host's addresses may have changed.
    pub(super) fn addresses_changed(&self) {
        if let Some(running) = &self.running {
            running.device.addresses_changed();
        }
    }
}

async fn forward(
    mut happened: mpsc::Receiver<DeviceEvent>,
    events: mpsc::Sender<Event>,
    told: Arc<Mutex<Option<DeviceEvent>>>,
) {
    while let Some(event) = happened.recv().await {
        if matches!(event, DeviceEvent::Address { .. }) {
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(event.clone());
        }
        if events.send(Event::Stun(event)).await.is_err() {
            return;
        }
    }
}
