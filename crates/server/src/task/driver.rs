//! Hands ready tasks to the protocol of their device.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use homefleet_api::DeviceChange;
use tokio::sync::{Semaphore, watch};

use super::queue::{Delivery, Dispatch};
use crate::core::Core;
use crate::store::{Batch, DeviceRecord, TaskRecord};

/// Most messages given to the network at a time.
const IN_FLIGHT: usize = 4096;

/// What a protocol's method returns.
pub type Sending = Pin<Box<dyn Future<Output = Delivery> + Send>>;

/// A protocol by which devices are reached.
pub trait Protocol: Send + Sync {
    /// Sends something harmless, to learn whether the device listens.
    fn probe(&self, device: &DeviceRecord) -> Sending;

    /// Sends a task's request. Its answer arrives by [`super::Queue::answered`].
    fn run(&self, device: &DeviceRecord, task: &TaskRecord) -> Sending;
}

/// Runs until `stop` changes: hands out what is ready, as it becomes ready.
pub async fn run(core: Core, protocol: Arc<dyn Protocol>, mut stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    loop {
        let (dispatches, stored) = core.change(|state, now| {
            state.queue.handle_timeout(now);
            (state.queue.poll(now), Batch::default())
        });
        if dispatches.is_empty() {
            // Expired tasks are stored and told beside the loop.
            tokio::spawn(async move { drop(stored.await) });
        } else {
            let (core, protocol, room) = (core.clone(), Arc::clone(&protocol), Arc::clone(&room));
            tokio::spawn(async move {
                let stored = stored
                    .await
                    .map_err(|error| format!("the task could not be stored: {error}"));
                for dispatch in dispatches {
                    let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                        return;
                    };
                    let (core, protocol, stored) =
                        (core.clone(), Arc::clone(&protocol), stored.clone());
                    tokio::spawn(async move {
                        hand_over(&core, &*protocol, dispatch, stored.map(drop)).await;
                        drop(permit);
                    });
                }
            });
        }
        let pause = {
            let state = core.state();
            let now = core.now();
            state
                .queue
                .poll_timeout()
                .map_or(Duration::from_secs(60), |at| at.since(now))
        };
        tokio::select! {
            () = core.inner().wake.notified() => {}
            () = tokio::time::sleep(pause.clamp(Duration::from_millis(5), Duration::from_secs(60))) => {}
            _ = stop.changed() => return,
        }
    }
}

async fn hand_over(
    core: &Core,
    protocol: &dyn Protocol,
    dispatch: Dispatch,
    stored: Result<(), String>,
) {
    let id = match &dispatch {
        Dispatch::Probe { device } => device.clone(),
        Dispatch::Run(task) => task.device.clone(),
    };
    let device = core.state().registry.device(&id).cloned();
    let delivery = match (stored, device) {
        (Err(problem), _) => Delivery::NotDelivered(problem),
        (Ok(()), None) => Delivery::NotDelivered("the device is not registered".to_owned()),
        (Ok(()), Some(device)) => match &dispatch {
            Dispatch::Probe { .. } => protocol.probe(&device).await,
            Dispatch::Run(task) => protocol.run(&device, task).await,
        },
    };
    core.inner().metrics.delivered(&delivery);
    let failure = match &delivery {
        Delivery::NotDelivered(problem) | Delivery::Unclear(problem) => Some(problem.clone()),
        Delivery::Taken | Delivery::Refused(_) => None,
    };
    let ((), stored) = core.change(|state, now| {
        match &failure {
            Some(problem) => state.registry.failed(now, &id, problem),
            None => state.registry.taken(now, &id),
        }
        match dispatch {
            Dispatch::Probe { device } => state.queue.probed(now, &device, delivery),
            Dispatch::Run(task) => state.queue.delivered(now, &task.id, delivery),
        }
        ((), Batch::default())
    });
    drop(stored.await);
    core.inner().wake.notify_one();
    if failure.is_some() {
        core.publish_device(&id, DeviceChange::Failure);
    }
}
