//! Hands ready tasks to the protocol of their device.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use homefleet_api::DeviceChange;
use tokio::sync::{Semaphore, watch};

use super::queue::{Delivery, Dispatch};
use crate::core::Core;
use crate::store::{Batch, DeviceRecord, TaskRecord};

/// How many messages are given to the network at a time.
///
/// A device that is not there answers nothing for minutes. Its try gives its place to others after a moment and goes
/// on among those that wait, so that a fleet half of which is off is as fast as one that is all there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Most tries in their first moment.
    pub prompt: usize,
    /// How long that moment is.
    pub moment: Duration,
    /// Most tries beyond it; when these too are taken, a try keeps its place.
    pub waiting: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            prompt: 4096,
            moment: Duration::from_secs(5),
            waiting: 32_768,
        }
    }
}

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
pub async fn run(
    core: Core,
    protocol: Arc<dyn Protocol>,
    limits: Room,
    mut stop: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(limits.prompt));
    let waiting = Arc::new(Semaphore::new(limits.waiting));
    loop {
        let (dispatches, stored) = core.change(|state, now| {
            state.queue.handle_timeout(now);
            (state.queue.poll(now), Batch::default())
        });
        if dispatches.is_empty() {
            // Expired tasks are stored and told beside the loop.
            tokio::spawn(async move { drop(stored.await) });
        } else {
            let (core, protocol, room, waiting) = (
                core.clone(),
                Arc::clone(&protocol),
                Arc::clone(&room),
                Arc::clone(&waiting),
            );
            tokio::spawn(async move {
                let stored = stored
                    .await
                    .map_err(|error| format!("the task could not be stored: {error}"));
                for dispatch in dispatches {
                    let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                        return;
                    };
                    let (core, protocol, stored, waiting) = (
                        core.clone(),
                        Arc::clone(&protocol),
                        stored.clone(),
                        Arc::clone(&waiting),
                    );
                    tokio::spawn(async move {
                        let mut handing =
                            pin!(hand_over(&core, &*protocol, dispatch, stored.map(drop)));
                        if tokio::time::timeout(limits.moment, &mut handing)
                            .await
                            .is_ok()
                        {
                            return;
                        }
                        let place = match waiting.try_acquire_owned() {
                            Ok(place) => {
                                drop(permit);
                                place
                            }
                            Err(_) => permit,
                        };
                        handing.await;
                        drop(place);
                    });
                }
            });
        }
        let pause = {
            let state = core.state();
            let now = core.now();
            let homes = state.homes.poll_timeout();
            let next = state.queue.poll_timeout().into_iter().chain(homes);
            next.min()
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
        Delivery::Taken | Delivery::OnItsWay | Delivery::Later(_) | Delivery::Refused(_) => None,
    };
    let ((), stored) = core.change(|state, now| {
        match (&failure, &delivery) {
            (Some(problem), _) => state.registry.failed(now, &id, problem),
            // What a broker has says nothing about the device.
            (None, Delivery::OnItsWay) => {}
            (None, _) => state.registry.taken(now, &id),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use homefleet_api::{Operation, TaskState};
    use tokio::sync::mpsc;

    use super::*;
    use crate::clock::Clock;
    use crate::config::{Config, Tls};
    use crate::device::{Contact, Proof};
    use crate::store::sqlite::SqliteStore;

    /// Devices of which all but one never answer; tells who is being sent to.
    struct MostlyDead(mpsc::UnboundedSender<String>);

    impl Protocol for MostlyDead {
        fn probe(&self, device: &DeviceRecord) -> Sending {
            self.run_on(device)
        }

        fn run(&self, device: &DeviceRecord, _task: &TaskRecord) -> Sending {
            self.run_on(device)
        }
    }

    impl MostlyDead {
        fn run_on(&self, device: &DeviceRecord) -> Sending {
            self.0.send(device.id.clone()).unwrap();
            if device.id == "os::alive" {
                Box::pin(std::future::ready(Delivery::Taken))
            } else {
                Box::pin(std::future::pending())
            }
        }
    }

    #[tokio::test]
    async fn devices_that_do_not_answer_keep_no_place_from_others() {
        let directory = tempfile::tempdir().unwrap();
        let config = Config::new("proto::c", directory.path(), Tls::new("", "", "")).core();
        let store = Arc::new(SqliteStore::open(&directory.path().join("store.sqlite")).unwrap());
        let core = Core::open(config, Clock::system(), store).await.unwrap();
        let (tell, mut told) = mpsc::unbounded_channel();
        let (_stop, stopped) = watch::channel(false);
        let room = Room {
            prompt: 1,
            moment: Duration::from_millis(1),
            waiting: 3,
        };
        tokio::spawn(run(core.clone(), Arc::new(MostlyDead(tell)), room, stopped));
        for device in ["os::dead-1", "os::dead-2", "os::dead-3", "os::alive"] {
            let (pushed, stored) = core.change(|state, now| {
                let contact = Contact {
                    id: device.to_owned(),
                    proof: Proof::Nobody,
                    address: None,
                };
                state.registry.heard(now, contact).unwrap();
                let operation = Operation::Get {
                    paths: vec!["Device.".to_owned()],
                    max_depth: 0,
                };
                let hour = Duration::from_secs(3600);
                let task = core
                    .new_task(state, now, device, operation, hour, "test")
                    .unwrap();
                assert_eq!(task.state, TaskState::Queued);
                (state.queue.push(task, Some(now)), Batch::default())
            });
            pushed.unwrap();
            stored.await.unwrap();
            let sent = tokio::time::timeout(Duration::from_secs(30), told.recv()).await;
            assert_eq!(sent.unwrap().as_deref(), Some(device));
        }
    }
}
