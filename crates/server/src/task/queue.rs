//! The task state machine.
//!
//! ```text
//!            ┌──────────── known not to have arrived ─────────────┐
//!            ▼                                                    │
//! push ─► queued ── poll ──► sent ──── answer ───► done | failed  │
//!            │                 ├─── could not be delivered ───────┘
//!            │                 ├─── silence ─► queued again, when repeating it is harmless
//!            │                 └─── silence ─► failed (unknown outcome), for Add and Operate; a late answer corrects it
//!            ├── cancel ─► cancelled
//!            └── time ───► expired
//! ```
//!
//! Rules:
//!
//! - Tasks of one device run in the order in which they were accepted, one at a time. An asynchronous
//!   command that the device has accepted no longer holds up those behind it. Waking a device goes first: the others wait for it.
//! - `sent` is stored *before* the network gets the message. After a restart, a `sent` task may have run:
//!   it is repeated only when that is harmless ([`homefleet_api::Operation::is_idempotent`]); Add and Operate
//!   become `failed` with [`TaskErrorCode::UnknownOutcome`], unless the device had already accepted the
//!   command and its completion can still arrive.
//! - Before Add or Operate goes to a device that was silent for a while, the device is probed with a harmless
//!   message, so that a dead path is found while nothing is at stake.
//! - What a broker or a session took on its way has not arrived yet ([`Delivery::OnItsWay`]): the device is there when it
//!   says something, and not before.
//! - Tasks whose outcome is unknown are remembered for a while: an answer that comes after all says what it was.
//! - At its bounds the queue refuses new tasks; it never drops accepted ones.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use homefleet_api::{Operation, TaskError, TaskErrorCode, TaskResult, TaskState};

use crate::clock::Millis;
use crate::store::TaskRecord;

const NEVER_COMPLETED: &str = "the device accepted the command and never told of its completion";

/// Times and bounds of the queue.
#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// How long an answer is awaited after the device took the message.
    pub answer_timeout: Duration,
    /// First pause after a failed attempt.
    pub retry_first: Duration,
    /// Longest pause; pauses double up to it.
    pub retry_max: Duration,
    /// Silence after which a device is probed before Add or Operate.
    pub probe_after: Duration,
    /// Most open tasks per device.
    pub per_device: usize,
    /// Most open tasks.
    pub total: usize,
    /// Most ended tasks with an unknown outcome whose late answer is recognised; the oldest are forgotten first.
    pub doubtful: usize,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            answer_timeout: Duration::from_secs(60),
            retry_first: Duration::from_secs(5),
            retry_max: Duration::from_secs(300),
            probe_after: Duration::from_secs(60),
            per_device: 256,
            total: 100_000,
            doubtful: 4096,
        }
    }
}

/// Something to hand to a device's protocol.
#[derive(Debug, Clone, PartialEq)]
pub enum Dispatch {
    /// Send something harmless and report [`Queue::probed`].
    Probe {
        /// Endpoint ID.
        device: String,
    },
    /// Send this task (already `sent`, attempt counted) once its change is stored.
    Run(Box<TaskRecord>),
}

/// How an attempt to hand a message to the device ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The device took it.
    Taken,
    /// It left: a broker has it, or the connection. Whether the device took it, its answer shows.
    OnItsWay,
    /// The device certainly did not get it; trying again may help.
    NotDelivered(String),
    /// The device has it, has done nothing, and may be able to later.
    Later(String),
    /// The device refused it for good.
    Refused(String),
    /// Nobody knows whether it arrived.
    Unclear(String),
}

/// Why a task was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The device has its full number of open tasks.
    #[error("the device already has {0} open tasks")]
    DeviceFull(usize),
    /// The server has its full number of open tasks.
    #[error("the server already has {0} open tasks")]
    Full(usize),
}

/// Why a task was not cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CancelError {
    /// It is with the device already.
    #[error("the task was already sent to the device")]
    AlreadySent,
    /// It is not open.
    #[error("the task is not open")]
    NotOpen,
}

/// All open tasks.
#[derive(Debug, Default)]
pub struct Queue {
    config: QueueConfig,
    tasks: HashMap<String, TaskRecord>,
    lanes: BTreeMap<String, Lane>,
    /// Times at which something must be looked at: (time, device).
    timers: BTreeSet<(Millis, String)>,
    /// Devices that may have a task ready.
    ready: VecDeque<String>,
    /// Ended tasks whose outcome is unknown, the oldest first.
    doubtful: VecDeque<TaskRecord>,
    changes: Vec<TaskRecord>,
}

/// The tasks of one device in their order.
#[derive(Debug, Default)]
struct Lane {
    order: VecDeque<String>,
    /// Commands accepted by the device whose completion is awaited.
    running: BTreeSet<String>,
    flight: Flight,
    failures: u32,
    last_contact: Option<Millis>,
    timer: Option<Millis>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Flight {
    #[default]
    Idle,
    /// The time is when patience ends, once the probe is on its way.
    Probing { until: Option<Millis> },
    /// The head task is with the network or the device; the time is when patience ends, once delivered.
    Task { answer_by: Option<Millis> },
}

impl Queue {
    /// A queue with the open tasks of an earlier life.
    pub fn restore(config: QueueConfig, now: Millis, tasks: Vec<TaskRecord>) -> Self {
        let mut queue = Self {
            config,
            ..Self::default()
        };
        for mut task in tasks {
            if task.state == TaskState::Sent && !is_accepted(&task) {
                if task.operation.is_idempotent() {
                    task.state = TaskState::Queued;
                    task.last_problem =
                        Some("the server stopped before the answer arrived".to_owned());
                    task.next_attempt = None;
                } else {
                    task.state = TaskState::Failed;
                    task.error = Some(unknown_outcome(
                        "the server stopped between sending it and the answer",
                    ));
                }
                task.updated = now;
                queue.changes.push(task.clone());
                queue.doubt(&task);
            }
            match task.state {
                TaskState::Queued => queue.enter(task, None),
                TaskState::Sent => {
                    let device = task.device.clone();
                    queue
                        .lanes
                        .entry(device.clone())
                        .or_default()
                        .running
                        .insert(task.id.clone());
                    queue.tasks.insert(task.id.clone(), task);
                    queue.reschedule(&device);
                }
                _ => {}
            }
        }
        queue
    }

    /// Accepts a task; it counts as accepted once its change is stored. `heard` is when the device was last heard.
    pub fn push(&mut self, task: TaskRecord, heard: Option<Millis>) -> Result<(), PushError> {
        if self.tasks.len() >= self.config.total {
            return Err(PushError::Full(self.config.total));
        }
        if self.open_tasks(&task.device) >= self.config.per_device {
            return Err(PushError::DeviceFull(self.config.per_device));
        }
        self.changes.push(task.clone());
        self.enter(task, heard);
        Ok(())
    }

    /// Withdraws a task that was not sent yet.
    pub fn cancel(&mut self, now: Millis, id: &str) -> Result<(), CancelError> {
        match self.tasks.get(id).map(|task| task.state) {
            None => Err(CancelError::NotOpen),
            Some(TaskState::Queued) => {
                self.finish(now, id, TaskState::Cancelled, None, None);
                Ok(())
            }
            Some(_) => Err(CancelError::AlreadySent),
        }
    }

    /// Fails every open task of a device that was removed.
    pub fn drop_device(&mut self, now: Millis, device: &str) {
        let ids: Vec<String> = self
            .tasks
            .values()
            .filter(|task| task.device == device)
            .map(|task| task.id.clone())
            .collect();
        for id in ids {
            let (state, error) = match self.tasks.get(&id) {
                Some(task) if task.state == TaskState::Sent && !task.operation.is_idempotent() => (
                    TaskState::Failed,
                    Some(unknown_outcome("the device was removed from the registry")),
                ),
                _ => (TaskState::Cancelled, None),
            };
            self.finish(now, &id, state, None, error);
        }
        if let Some(lane) = self.lanes.remove(device)
            && let Some(timer) = lane.timer
        {
            self.timers.remove(&(timer, device.to_owned()));
        }
    }

    /// What is to be handed out now. Store [`Queue::drain_changes`] before doing it.
    pub fn poll(&mut self, now: Millis) -> Vec<Dispatch> {
        let mut out = Vec::new();
        while let Some(device) = self.ready.pop_front() {
            if let Some(dispatch) = self.poll_device(now, &device) {
                out.push(dispatch);
            }
            self.reschedule(&device);
        }
        out
    }

    fn poll_device(&mut self, now: Millis, device: &str) -> Option<Dispatch> {
        let lane = self.lanes.get_mut(device)?;
        if lane.flight != Flight::Idle {
            return None;
        }
        let task = self.tasks.get_mut(lane.order.front()?)?;
        if task.expires <= now || task.next_attempt.is_some_and(|at| at > now) {
            return None;
        }
        let silent = lane
            .last_contact
            .is_none_or(|at| now.since(at) >= self.config.probe_after);
        if silent && !task.operation.is_idempotent() {
            lane.flight = Flight::Probing { until: None };
            return Some(Dispatch::Probe {
                device: device.to_owned(),
            });
        }
        lane.flight = Flight::Task { answer_by: None };
        task.state = TaskState::Sent;
        task.updated = now;
        task.attempts += 1;
        task.next_attempt = None;
        self.changes.push(task.clone());
        Some(Dispatch::Run(Box::new(task.clone())))
    }

    /// A probe ended.
    pub fn probed(&mut self, now: Millis, device: &str, delivery: Delivery) {
        let Some(lane) = self.lanes.get_mut(device) else {
            return;
        };
        if !matches!(lane.flight, Flight::Probing { .. }) {
            return;
        }
        if delivery == Delivery::OnItsWay {
            lane.flight = Flight::Probing {
                until: Some(now.plus(self.config.answer_timeout)),
            };
            return self.reschedule(device);
        }
        lane.flight = Flight::Idle;
        match delivery {
            Delivery::OnItsWay => {}
            // A refused probe is still a device that listens.
            Delivery::Taken | Delivery::Later(_) | Delivery::Refused(_) => {
                lane.last_contact = Some(now);
                self.ready.push_back(device.to_owned());
            }
            Delivery::NotDelivered(problem) | Delivery::Unclear(problem) => {
                self.postpone(now, device, problem)
            }
        }
    }

    /// An attempt to hand over the task `id` ended.
    pub fn delivered(&mut self, now: Millis, id: &str, delivery: Delivery) {
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        let device = task.device.clone();
        let Some(lane) = self.lanes.get_mut(&device) else {
            return;
        };
        let in_flight = matches!(lane.flight, Flight::Task { .. })
            && lane.order.front().is_some_and(|head| head == id);
        if !in_flight {
            // The answer overtook the acknowledgement.
            return;
        }
        match delivery {
            Delivery::OnItsWay => {
                lane.flight = Flight::Task {
                    answer_by: Some(now.plus(self.config.answer_timeout)),
                };
            }
            Delivery::Taken => {
                lane.failures = 0;
                lane.last_contact = Some(now);
                lane.flight = Flight::Task {
                    answer_by: Some(now.plus(self.config.answer_timeout)),
                };
            }
            Delivery::NotDelivered(problem) | Delivery::Later(problem) => {
                lane.flight = Flight::Idle;
                task.state = TaskState::Queued;
                task.updated = now;
                self.postpone(now, &device, problem);
            }
            Delivery::Unclear(problem) if task.operation.is_idempotent() => {
                lane.flight = Flight::Idle;
                task.state = TaskState::Queued;
                task.updated = now;
                self.postpone(now, &device, problem);
            }
            Delivery::Unclear(problem) => {
                // It may have arrived: the answer can still come, a repetition could do it twice.
                task.last_problem = Some(problem);
                task.updated = now;
                self.changes.push(task.clone());
                lane.flight = Flight::Task {
                    answer_by: Some(now.plus(self.config.answer_timeout)),
                };
            }
            Delivery::Refused(problem) => {
                let error = plain_error(TaskErrorCode::Refused, problem);
                self.finish(now, id, TaskState::Failed, None, Some(error));
            }
        }
        self.reschedule(&device);
    }

    /// The device answered a request of the task. False when no such task is open on this device.
    pub fn answered(
        &mut self,
        now: Millis,
        device: &str,
        id: &str,
        answer: Result<TaskResult, TaskError>,
    ) -> bool {
        match self.tasks.get_mut(id) {
            // A queued task is one whose earlier attempt is answered late: that answer counts.
            Some(task) if task.device == device && task.attempts > 0 => {}
            Some(_) => return false,
            None => return self.corrected(now, device, id, answer),
        }
        self.contact(now, device);
        match answer {
            Ok(result) if accepted_request(&result).is_some() => self.accepted(now, id, result),
            Ok(result) => self.finish(now, id, TaskState::Done, Some(result), None),
            Err(error) => self.finish(now, id, TaskState::Failed, None, Some(error)),
        }
        true
    }

    /// An answer says after all what became of a task whose outcome was unknown.
    fn corrected(
        &mut self,
        now: Millis,
        device: &str,
        id: &str,
        answer: Result<TaskResult, TaskError>,
    ) -> bool {
        let found = self
            .doubtful
            .iter()
            .position(|task| task.id == id && task.device == device);
        let Some(mut task) = found.and_then(|place| self.doubtful.remove(place)) else {
            return false;
        };
        self.contact(now, device);
        task.updated = now;
        let accepted = answer
            .as_ref()
            .is_ok_and(|result| accepted_request(result).is_some());
        if accepted && task.expires > now {
            // It runs: its completion is awaited as if the answer had come in time.
            task.error = None;
            self.tasks.insert(id.to_owned(), task);
            if let Ok(result) = answer {
                self.accepted(now, id, result);
            }
            return true;
        }
        match answer {
            Ok(result) => {
                task.state = TaskState::Done;
                task.error = None;
                if accepted {
                    task.state = TaskState::Failed;
                    task.error = Some(unknown_outcome(NEVER_COMPLETED));
                }
                task.result = Some(result);
            }
            Err(error) => task.error = Some(error),
        }
        self.changes.push(task);
        true
    }

    /// Remembers a task that ended with an unknown outcome; any other is left alone.
    fn doubt(&mut self, task: &TaskRecord) {
        let unknown = task
            .error
            .as_ref()
            .is_some_and(|error| error.code == TaskErrorCode::UnknownOutcome);
        if !unknown || task.state != TaskState::Failed || self.config.doubtful == 0 {
            return;
        }
        if self.doubtful.len() >= self.config.doubtful {
            self.doubtful.pop_front();
        }
        self.doubtful.push_back(task.clone());
    }

    /// Remembers ended tasks of an earlier life whose outcome is unknown, in the order in which they ended.
    pub fn remember(&mut self, ended: impl IntoIterator<Item = TaskRecord>) {
        for task in ended {
            self.doubt(&task);
        }
    }

    /// The device accepted an asynchronous command: its completion is awaited beside the lane.
    fn accepted(&mut self, now: Millis, id: &str, result: TaskResult) {
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        task.state = TaskState::Sent;
        task.updated = now;
        task.last_problem = None;
        task.next_attempt = None;
        task.result = Some(result);
        self.changes.push(task.clone());
        let device = task.device.clone();
        self.leave_lane(&device, id);
        self.lanes
            .entry(device.clone())
            .or_default()
            .running
            .insert(id.to_owned());
        self.reschedule(&device);
    }

    /// An asynchronous command completed (USP `OperationComplete`). False when no open task asked for it.
    pub fn completed(
        &mut self,
        now: Millis,
        device: &str,
        key: &str,
        command: &str,
        outcome: Result<BTreeMap<String, String>, homefleet_api::PathError>,
    ) -> bool {
        let Some(id) = self
            .task_by_key(device, key, command)
            .or_else(|| self.doubtful_by_key(device, key, command))
        else {
            return false;
        };
        let Some(task) = self.tasks.get_mut(&id) else {
            return false;
        };
        let mut result = match task.result.take() {
            Some(TaskResult::Operate { commands }) if !commands.is_empty() => commands,
            // The completion overtook the acceptance.
            _ => vec![homefleet_api::OperateResult {
                command: command.to_owned(),
                request: None,
                output: BTreeMap::new(),
                error: None,
            }],
        };
        let failed = outcome.as_ref().err().cloned();
        if let Some(first) = result.first_mut() {
            match outcome {
                Ok(output) => first.output = output,
                Err(error) => first.error = Some(error),
            }
        }
        let result = Some(TaskResult::Operate { commands: result });
        match failed {
            None => self.finish(now, &id, TaskState::Done, result, None),
            Some(error) => {
                let error = TaskError {
                    code: TaskErrorCode::Device,
                    usp_code: Some(error.code),
                    message: error.message,
                    param_errors: Vec::new(),
                };
                self.finish(now, &id, TaskState::Failed, result, Some(error));
            }
        }
        true
    }

    fn task_by_key(&self, device: &str, key: &str, command: &str) -> Option<String> {
        // The oldest first: a key given by an operator may be used twice.
        let lane = self.lanes.get(device)?;
        let ids = lane.order.iter().chain(&lane.running);
        ids.filter_map(|id| self.tasks.get(id))
            .filter(|task| asked_for(task, key, command))
            .map(|task| task.id.clone())
            .min()
    }

    /// The same among those whose outcome is unknown; it is open again then.
    fn doubtful_by_key(&mut self, device: &str, key: &str, command: &str) -> Option<String> {
        let place = self
            .doubtful
            .iter()
            .position(|task| task.device == device && asked_for(task, key, command))?;
        let task = self.doubtful.remove(place)?;
        let id = task.id.clone();
        self.tasks.insert(id.clone(), task);
        Some(id)
    }

    /// The channel over which the device was there has gone: what was on its way may be lost.
    pub fn disconnected(&mut self, now: Millis, device: &str, problem: &str) {
        let Some(lane) = self.lanes.get_mut(device) else {
            return;
        };
        let again = match lane.flight {
            Flight::Probing { until: Some(_) } => true,
            // Before that, whoever sends it will say what became of it.
            Flight::Task { answer_by: Some(_) } => lane
                .order
                .front()
                .and_then(|id| self.tasks.get_mut(id))
                .filter(|task| task.operation.is_idempotent())
                .map(|task| {
                    task.state = TaskState::Queued;
                    task.updated = now;
                })
                .is_some(),
            _ => false,
        };
        if again {
            lane.flight = Flight::Idle;
            self.postpone(now, device, problem.to_owned());
        }
    }

    /// The device was heard: whatever waits for it need not wait longer.
    pub fn contact(&mut self, now: Millis, device: &str) {
        let Some(lane) = self.lanes.get_mut(device) else {
            return;
        };
        lane.last_contact = Some(now);
        lane.failures = 0;
        if let Flight::Probing { .. } = lane.flight {
            // It listens: that is what the probe was to find out.
            lane.flight = Flight::Idle;
        }
        if lane.flight == Flight::Idle
            && let Some(task) = lane.order.front().and_then(|id| self.tasks.get_mut(id))
            && task.next_attempt.take().is_some()
        {
            self.changes.push(task.clone());
        }
        self.ready.push_back(device.to_owned());
    }

    /// Time has passed: expires tasks, ends patience, makes postponed ones ready.
    pub fn handle_timeout(&mut self, now: Millis) {
        while let Some((at, _)) = self.timers.first()
            && *at <= now
        {
            let Some((_, device)) = self.timers.pop_first() else {
                break;
            };
            if let Some(lane) = self.lanes.get_mut(&device) {
                lane.timer = None;
            }
            self.timeout_of(now, &device);
            self.ready.push_back(device.clone());
            self.reschedule(&device);
        }
    }

    fn timeout_of(&mut self, now: Millis, device: &str) {
        let Some(lane) = self.lanes.get(device) else {
            return;
        };
        let head = lane.order.front().cloned();
        if let Flight::Probing { until: Some(until) } = lane.flight
            && until <= now
        {
            if let Some(lane) = self.lanes.get_mut(device) {
                lane.flight = Flight::Idle;
            }
            self.postpone(now, device, "the device did not answer".to_owned());
        }
        let Some(lane) = self.lanes.get(device) else {
            return;
        };
        if let (
            Flight::Task {
                answer_by: Some(by),
            },
            Some(id),
        ) = (&lane.flight, &head)
            && *by <= now
        {
            self.silence(now, device, id);
        }
        // The pause is over: nothing keeps the head from going out any more.
        if let Some(task) = head.as_ref().and_then(|id| self.tasks.get_mut(id))
            && task.next_attempt.is_some_and(|at| at <= now)
        {
            task.next_attempt = None;
        }
        let busy = self
            .lanes
            .get(device)
            .is_some_and(|lane| matches!(lane.flight, Flight::Task { .. }));
        let expired: Vec<String> = self.lanes.get(device).map_or_else(Vec::new, |lane| {
            lane.order
                .iter()
                .skip(usize::from(busy))
                .filter(|id| self.tasks.get(*id).is_some_and(|task| task.expires <= now))
                .cloned()
                .collect()
        });
        for id in expired {
            let problem = self
                .tasks
                .get(&id)
                .and_then(|task| task.last_problem.clone());
            let message = match problem {
                Some(problem) => {
                    format!("the device was not reached in time; last attempt: {problem}")
                }
                None => "the device was not reached in time".to_owned(),
            };
            let error = plain_error(TaskErrorCode::Expired, message);
            self.finish(now, &id, TaskState::Expired, None, Some(error));
        }
        let abandoned: Vec<String> = self.lanes.get(device).map_or_else(Vec::new, |lane| {
            lane.running
                .iter()
                .filter(|id| self.tasks.get(*id).is_some_and(|task| task.expires <= now))
                .cloned()
                .collect()
        });
        for id in abandoned {
            let error = unknown_outcome(NEVER_COMPLETED);
            let result = self.tasks.get_mut(&id).and_then(|task| task.result.take());
            self.finish(now, &id, TaskState::Failed, result, Some(error));
        }
    }

    /// The device took the message and did not answer.
    fn silence(&mut self, now: Millis, device: &str, id: &str) {
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        if !task.operation.is_idempotent() {
            let error = unknown_outcome("the device did not answer in time");
            self.finish(now, id, TaskState::Failed, None, Some(error));
            return;
        }
        task.state = TaskState::Queued;
        task.updated = now;
        if let Some(lane) = self.lanes.get_mut(device) {
            lane.flight = Flight::Idle;
        }
        self.postpone(now, device, "the device did not answer in time".to_owned());
    }

    /// When [`Queue::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Millis> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Whether [`Queue::poll`] may have something to hand out.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Tasks that changed since the last call, in the order of their changes.
    pub fn drain_changes(&mut self) -> Vec<TaskRecord> {
        std::mem::take(&mut self.changes)
    }

    /// Open tasks of a device.
    pub fn open_tasks(&self, device: &str) -> usize {
        self.lanes
            .get(device)
            .map_or(0, |lane| lane.order.len() + lane.running.len())
    }

    /// Tasks of a device that wait for their turn or their answer.
    pub fn waiting(&self, device: &str) -> usize {
        self.lanes.get(device).map_or(0, |lane| lane.order.len())
    }

    /// The oldest task of a device that has this command key, open or of unknown outcome.
    pub fn asked(&self, device: &str, key: &str) -> Option<&TaskRecord> {
        let has_it = |task: &&TaskRecord| matches!(&task.operation, Operation::Operate { command, .. } if asked_for(task, key, command));
        let lane = self.lanes.get(device);
        let ids = lane
            .into_iter()
            .flat_map(|lane| lane.order.iter().chain(&lane.running));
        let open = ids.filter_map(|id| self.tasks.get(id)).filter(has_it);
        open.min_by_key(|task| &task.id).or_else(|| {
            let mut doubtful = self.doubtful.iter().filter(|task| task.device == device);
            doubtful.find(has_it)
        })
    }

    /// Whether a task of the device can be handed out at once.
    pub fn is_due(&self, now: Millis, device: &str) -> bool {
        let head = self.lanes.get(device).and_then(|lane| lane.order.front());
        let head = head.and_then(|id| self.tasks.get(id));
        head.is_some_and(|task| task.next_attempt.is_none_or(|at| at <= now))
    }

    /// Commands that a device has accepted and whose completion is awaited.
    pub fn running(&self, device: &str) -> impl Iterator<Item = &TaskRecord> {
        let lane = self.lanes.get(device);
        let ids = lane.into_iter().flat_map(|lane| lane.running.iter());
        ids.filter_map(|id| self.tasks.get(id))
    }

    /// Open tasks of all devices.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there is no open task.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// An open task.
    pub fn task(&self, id: &str) -> Option<&TaskRecord> {
        self.tasks.get(id)
    }

    /// A task that an answer may belong to: an open one, or one whose outcome is unknown.
    pub fn answerable(&self, id: &str) -> Option<&TaskRecord> {
        self.tasks
            .get(id)
            .or_else(|| self.doubtful.iter().find(|task| task.id == id))
    }

    /// Whether an open task of the device has this maker and this operation: the server asks only once.
    pub fn has(&self, device: &str, created_by: &str, operation: &Operation) -> bool {
        self.lanes.get(device).is_some_and(|lane| {
            lane.order
                .iter()
                .filter_map(|id| self.tasks.get(id))
                .any(|task| task.created_by == created_by && task.operation == *operation)
        })
    }

    fn enter(&mut self, task: TaskRecord, heard: Option<Millis>) {
        let device = task.device.clone();
        let lane = self.lanes.entry(device.clone()).or_default();
        lane.last_contact = lane.last_contact.max(heard);
        if task.operation == (Operation::Wake {}) {
            // What waits for the device is what it is woken for.
            let busy = matches!(lane.flight, Flight::Task { .. });
            let place = usize::from(busy).min(lane.order.len());
            lane.order.insert(place, task.id.clone());
        } else {
            lane.order.push_back(task.id.clone());
        }
        self.tasks.insert(task.id.clone(), task);
        self.ready.push_back(device.clone());
        self.reschedule(&device);
    }

    /// Puts the head of a lane off until the device may listen again.
    fn postpone(&mut self, now: Millis, device: &str, problem: String) {
        let Some(lane) = self.lanes.get_mut(device) else {
            return;
        };
        let pause = self
            .config
            .retry_first
            .saturating_mul(2u32.saturating_pow(lane.failures.min(16)))
            .min(self.config.retry_max);
        lane.failures = lane.failures.saturating_add(1);
        if let Some(task) = lane.order.front().and_then(|id| self.tasks.get_mut(id)) {
            task.next_attempt = Some(now.plus(pause));
            task.last_problem = Some(problem);
            self.changes.push(task.clone());
        }
        self.reschedule(device);
    }

    fn finish(
        &mut self,
        now: Millis,
        id: &str,
        state: TaskState,
        result: Option<TaskResult>,
        error: Option<TaskError>,
    ) {
        let Some(mut task) = self.tasks.remove(id) else {
            return;
        };
        let device = task.device.clone();
        self.leave_lane(&device, id);
        task.state = state;
        task.updated = now;
        task.next_attempt = None;
        task.result = result;
        task.error = error;
        self.doubt(&task);
        self.changes.push(task);
        self.reschedule(&device);
    }

    fn leave_lane(&mut self, device: &str, id: &str) {
        let Some(lane) = self.lanes.get_mut(device) else {
            return;
        };
        let was_head = lane.order.front().is_some_and(|head| head == id);
        lane.order.retain(|other| other != id);
        lane.running.remove(id);
        if was_head {
            // A probe in flight serves the next head as well.
            if matches!(lane.flight, Flight::Task { .. }) {
                lane.flight = Flight::Idle;
            }
            self.ready.push_back(device.to_owned());
        }
    }

    /// Keeps one timer per device: the earliest time at which its lane needs attention.
    fn reschedule(&mut self, device: &str) {
        let Some(lane) = self.lanes.get_mut(device) else {
            return;
        };
        let mut next: Option<Millis> = None;
        let mut consider = |at: Millis| next = Some(next.map_or(at, |earlier| earlier.min(at)));
        let busy = matches!(lane.flight, Flight::Task { .. });
        if let Flight::Task {
            answer_by: Some(by),
        } = lane.flight
        {
            consider(by);
        }
        if let Flight::Probing { until: Some(until) } = lane.flight {
            consider(until);
        }
        for (place, id) in lane.order.iter().enumerate() {
            let Some(task) = self.tasks.get(id) else {
                continue;
            };
            if !(busy && place == 0) {
                consider(task.expires);
            }
            if place == 0
                && lane.flight == Flight::Idle
                && let Some(at) = task.next_attempt
            {
                consider(at);
            }
        }
        for task in lane.running.iter().filter_map(|id| self.tasks.get(id)) {
            consider(task.expires);
        }
        if lane.timer != next {
            if let Some(old) = lane.timer {
                self.timers.remove(&(old, device.to_owned()));
            }
            if let Some(at) = next {
                self.timers.insert((at, device.to_owned()));
            }
            lane.timer = next;
        }
        if lane.order.is_empty() && lane.running.is_empty() && lane.flight == Flight::Idle {
            self.lanes.remove(device);
        }
    }
}

/// Whether a completion of this command with this key belongs to a task.
fn asked_for(task: &TaskRecord, key: &str, completed: &str) -> bool {
    match &task.operation {
        Operation::Operate {
            command,
            command_key,
            ..
        } => {
            task.attempts > 0
                && command_key.as_deref().unwrap_or(&task.id) == key
                && (command == completed || !key.is_empty() && command_key.is_none())
        }
        _ => false,
    }
}

/// Whether a stored `sent` task is a command the device has already accepted.
fn is_accepted(task: &TaskRecord) -> bool {
    task.result.as_ref().and_then(accepted_request).is_some()
}

/// The Request object of an asynchronous command that is still running.
fn accepted_request(result: &TaskResult) -> Option<&str> {
    match result {
        TaskResult::Operate { commands } => commands.iter().find_map(|command| {
            let pending = command.output.is_empty() && command.error.is_none();
            command.request.as_deref().filter(|_| pending)
        }),
        _ => None,
    }
}

fn unknown_outcome(reason: &str) -> TaskError {
    plain_error(
        TaskErrorCode::UnknownOutcome,
        format!("{reason}: it may or may not have been done, look before asking again"),
    )
}

fn plain_error(code: TaskErrorCode, message: String) -> TaskError {
    TaskError {
        code,
        usp_code: None,
        message,
        param_errors: Vec::new(),
    }
}
