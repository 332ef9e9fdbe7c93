//! One session with one device.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use homefleet_api::{DeviceChange, Operation, PathError, TaskError, TaskErrorCode, TaskResult};
use homefleet_cwmp::acs::{self, AcsEvent, Outcome, SendError};
use homefleet_cwmp::fault::Retry;
use homefleet_cwmp::message::{
    AutonomousDUStateChangeCompleteResponse, AutonomousTransferCompleteResponse,
    DUStateChangeCompleteResponse, Inform, KickedResponse, RequestDownloadResponse,
    TransferComplete, TransferCompleteResponse,
};
use homefleet_cwmp::{EventCode, Fault, FaultCode, Message, Method};
use tokio::sync::mpsc;

use super::bootstrap::{Grounds, Part, bootstrap};
use super::login::{Foreign, Login};
use super::program::{Learned, Program, Step, impossible};
use super::{Acs, Job, Live, Post, command, device_id, files};
use crate::clock::Millis;
use crate::config::UnknownCpes;
use crate::core::State;
use crate::device::{Contact, Heard};
use crate::home::GATEWAY_INFO;
use crate::store::{
    Batch, CwmpRecord, DeviceRecord, Discovery, Given, ParameterRecord, StoreError, TaskRecord,
    ToldAddress, Write,
};
use crate::task::queue::Delivery;

/// Who the server is in its own tasks.
const SELF: &str = "server";
/// Tasks of the device that wait for their turn in the session; there is one at a time.
const JOBS: usize = 4;
/// How long a session waits for the next task, while the device has some.
const TASK_WITHIN: Duration = Duration::from_secs(3);
/// Most events of an Inform that are remembered (TR-069 A.3.3.1).
const MOST_EVENTS: usize = 64;
/// Most objects that wait for being listed.
const MOST_LEFT: usize = 1024;
/// Longest text that a device says of itself and is remembered, in characters.
const LONGEST_TEXT: usize = 256;
/// Requests of devices that are answered.
const METHODS: [Method; 6] = [
    Method::Kicked,
    Method::TransferComplete,
    Method::AutonomousTransferComplete,
    Method::DuStateChangeComplete,
    Method::AutonomousDuStateChangeComplete,
    Method::RequestDownload,
];

/// Runs a session until it is over.
pub(super) async fn run(acs: Acs, cookie: String, origin: Origin, mut inbox: mpsc::Receiver<Post>) {
    let config = acs::Config {
        methods: METHODS.to_vec(),
        timeout: acs.0.policy.timeout,
        ..acs::Config::default()
    };
    let (sender, jobs) = mpsc::channel(JOBS);
    let mut machine = acs::Session::new(Instant::now(), config);
    machine.set_hold(acs.0.policy.hold_requests);
    let mut session = Session {
        machine,
        acs,
        cookie,
        origin,
        device: None,
        managed: false,
        parts: None,
        root: String::new(),
        discover: 0,
        postponed: false,
        ended: VecDeque::new(),
        sender: Some(sender),
        jobs,
        running: None,
        outcome: None,
    };
    loop {
        let wake = session.machine.poll_timeout();
        let wake = wake.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            post = inbox.recv() => match post {
                Some(post) => session.post(post).await,
                None => break,
            },
            () = tokio::time::sleep_until(wake.into()) => {
                session.machine.handle_timeout(Instant::now());
                session.settle().await;
            }
        }
        if session.machine.is_ended() {
            break;
        }
    }
    session.close();
}

/// Where a session comes from.
pub(super) struct Origin {
    /// Who logged in.
    pub(super) login: Login,
    /// The device's address, or that of the proxy before it.
    pub(super) address: IpAddr,
    /// What the device called the server, as the beginning of a URL.
    pub(super) found_at: String,
}

struct Session {
    machine: acs::Session,
    acs: Acs,
    cookie: String,
    origin: Origin,
    /// Whose session it is, once the Inform is accepted.
    device: Option<String>,
    /// It is not in quarantine.
    managed: bool,
    /// What the device is still to be given, once that is known.
    parts: Option<VecDeque<Part>>,
    /// What its data model begins with.
    root: String,
    /// How many more objects may be listed in this session.
    discover: u32,
    /// The task that comes next was tried in this session.
    postponed: bool,
    /// Diagnostics that may have ended.
    ended: VecDeque<TaskRecord>,
    /// For those who have tasks for the device.
    sender: Option<mpsc::Sender<Job>>,
    jobs: mpsc::Receiver<Job>,
    running: Option<Running>,
    outcome: Option<Outcome>,
}

/// An operation under way.
struct Running {
    program: Program,
    purpose: Purpose,
    /// An RPC of it was sent.
    began: bool,
    /// The last fault was one that may pass.
    passes: bool,
}

enum Purpose {
    Job(Box<Job>),
    /// What every device is given.
    Give(Box<Part>),
    /// What is below this object, for the knowledge of the data model.
    Discover(String),
    /// What a diagnostic has found, for the task that asked for it.
    Collect(Box<TaskRecord>),
}

impl Session {
    async fn post(&mut self, post: Post) {
        if self
            .machine
            .handle_input(Instant::now(), &post.body)
            .is_err()
        {
            return;
        }
        self.settle().await;
        if let Some(transmit) = self.machine.poll_transmit() {
            // Whoever went away meanwhile sends it again, or nothing more.
            let _gone = post.answer.send(transmit);
        }
    }

    /// Does what events ask for.
    async fn settle(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            let done = match event {
                AcsEvent::Inform { inform, .. } => self.inform(*inform).await,
                AcsEvent::Request(message) => self.request(message).await,
                AcsEvent::Ready => {
                    self.ready().await;
                    Ok(())
                }
                AcsEvent::Response { message, .. } => {
                    self.answer(Ok(message));
                    Ok(())
                }
                AcsEvent::Fault { fault, retry, .. } => {
                    if let Some(running) = &mut self.running {
                        running.passes = retry == Retry::Later;
                    }
                    self.answer(Err(fault));
                    Ok(())
                }
                AcsEvent::Unreadable { error, .. } => {
                    self.give_up(&format!("the device's answer cannot be read: {error}"));
                    Ok(())
                }
                AcsEvent::Ended { outcome, .. } => {
                    self.give_up("the session ended before the answer");
                    self.outcome = Some(outcome);
                    Ok(())
                }
            };
            if done.is_err() {
                tracing::error!("a session of CWMP was driven out of order");
            }
        }
    }

    /// A device begins: who it is, whether it is wanted, what it tells.
    async fn inform(&mut self, inform: Inform) -> Result<(), acs::NotNow> {
        let Some(id) = device_id(&inform.device) else {
            let fault = "DeviceId lacks the OUI or the serial number, or is too long";
            let fault = Fault::with_text(FaultCode::ACS_INVALID_ARGUMENTS, fault);
            return self.machine.refuse(Instant::now(), fault);
        };
        if let Some(known) = self.device.take() {
            // It begins again with the cookie that it has: tasks that wait go into what begins now, and never to anybody else.
            self.leave(&known);
            if known != id {
                self.acs.counted().refused_informs += 1;
                let fault = Fault::new(FaultCode::ACS_REQUEST_DENIED);
                return self.machine.refuse(Instant::now(), fault);
            }
            let (sender, jobs) = mpsc::channel(JOBS);
            (self.sender, self.jobs) = (Some(sender), jobs);
            (self.managed, self.parts) = (false, None);
            self.machine.set_hold(self.acs.0.policy.hold_requests);
        }
        let core = self.acs.0.core.clone();
        let unknown = self.acs.0.policy.unknown;
        let version = self.machine.version().to_string();
        let (taken, stored) = core.change(|state, now| {
            let mut batch = Batch::default();
            if state.registry.device(&id).is_none() && unknown == UnknownCpes::Refuse {
                return (None, batch);
            }
            let known = state.registry.device(&id);
            let known = known.and_then(|record| record.cwmp.as_ref());
            let login = &self.origin.login;
            let proof = match login.proof(&id, &inform.device, known, now) {
                Ok(proof) => proof,
                Err(Foreign) => {
                    tracing::warn!(device = id, ?login, "somebody else's login");
                    return (None, batch);
                }
            };
            let contact = Contact {
                id: id.clone(),
                proof,
                address: None,
            };
            let heard = match state.registry.heard(now, contact) {
                Ok(heard) => heard,
                Err(refusal) => {
                    tracing::warn!(device = id, %refusal, "an Inform was refused");
                    return (None, batch);
                }
            };
            let news = state.registry.update(&id, |record| {
                learn_inform(
                    record,
                    &inform,
                    &version,
                    unknown == UnknownCpes::Admit,
                    now,
                );
                if let Some(cwmp) = &mut record.cwmp {
                    if self.acs.0.policy.discover > 0 && cwmp.discovery.is_none() {
                        cwmp.discovery = Some(Discovery {
                            left: vec![cwmp.root.clone()],
                            ..Discovery::default()
                        });
                    }
                    self.origin.teach(cwmp);
                }
            });
            // That it came, and nothing new: the registry stores its contact time with those of others.
            if (heard != Heard::Known || news.is_some())
                && let Some(record) = state.registry.to_store(&id)
            {
                batch.push(Write::Device(Box::new(record)));
            }
            let record = state.registry.device(&id);
            let managed = record
                .and_then(|record| record.cwmp.as_ref())
                .is_some_and(|cwmp| cwmp.admitted);
            if managed {
                let values = inform.values.iter().map(|(name, value)| ParameterRecord {
                    path: name.to_owned(),
                    value: value.text.to_owned(),
                    seen: now,
                });
                batch.push(Write::Parameters {
                    device: id.clone(),
                    values: values.collect(),
                    complete: Vec::new(),
                });
                if heard == Heard::New || state.registry.is_unread(now, &id) {
                    self.read_device(state, &id, &inform);
                }
                state.queue.contact(now, &id);
            }
            (Some((heard, managed)), batch)
        });
        let Some((heard, managed)) = taken else {
            self.acs.counted().refused_informs += 1;
            let fault = Fault::new(FaultCode::ACS_REQUEST_DENIED);
            return self.machine.refuse(Instant::now(), fault);
        };
        if stored.await.is_err() {
            // It was logged. The device tries again, and its events are not lost; nor is what was learned of it, which is in memory already.
            core.state().registry.not_stored(&id);
            let fault = Fault::new(FaultCode::ACS_INTERNAL_ERROR);
            return self.machine.refuse(Instant::now(), fault);
        }
        let change = match heard {
            Heard::New => DeviceChange::Registered,
            Heard::Changed | Heard::Known => DeviceChange::Contact,
        };
        core.publish_device(&id, change);
        let login = &self.origin.login;
        tracing::debug!(device = id, ?login, managed, "a CWMP session");
        self.managed = managed;
        self.discover = self.acs.0.policy.discover;
        {
            let mut counters = self.acs.counted();
            counters.sessions += 1;
            counters.quarantined += u64::from(!managed);
        }
        if managed
            && inform
                .events
                .iter()
                .any(|event| event.code == EventCode::DiagnosticsComplete)
        {
            let state = core.state();
            let awaited = state.queue.running(&id).filter(|task| is_diagnostic(task));
            self.ended = awaited.cloned().collect();
        }
        self.machine.accept(Instant::now())?;
        self.device = Some(id.clone());
        if managed && let Some(jobs) = self.sender.take() {
            let live = Live {
                cookie: self.cookie.clone(),
                jobs,
            };
            let mut sessions = self.acs.sessions();
            // A device has one session: what it left behind is over.
            if let Some(left) = sessions.by_device.insert(id, live) {
                sessions.by_cookie.remove(&left.cookie);
            }
            drop(sessions);
            self.acs.0.arrived.notify_waiters();
            core.wake();
        }
        Ok(())
    }

    /// Queues the reading of what identifies a device, unless it is queued already.
    fn read_device(&self, state: &mut State, device: &str, inform: &Inform) {
        let core = &self.acs.0.core;
        let now = core.now();
        let root = root_of(inform);
        let mut paths = vec![
            format!("{root}DeviceInfo."),
            format!("{root}ManagementServer."),
        ];
        if core.inner().config.home.enabled && GATEWAY_INFO.starts_with(root) {
            paths.push(GATEWAY_INFO.to_owned());
        }
        let operation = Operation::Get {
            paths,
            max_depth: 0,
        };
        let per_hour = core.inner().config.limits.readings_per_hour;
        if state.queue.has(device, SELF, &operation)
            || !state.registry.may_read(now, device, per_hour)
        {
            return;
        }
        let lifetime = core.inner().config.default_expiry;
        let pushed = core
            .new_task(state, now, device, operation, lifetime, SELF)
            .map_err(|error| error.to_string())
            .and_then(|task| {
                let pushed = state.queue.push(task, Some(now));
                pushed.map_err(|error| error.to_string())
            });
        if let Err(problem) = pushed {
            tracing::warn!(device, problem, "an own task was not queued");
        }
    }

    /// What the device asks for.
    async fn request(&mut self, message: Message) -> Result<(), acs::NotNow> {
        let now = Instant::now();
        match message {
            Message::TransferComplete(done) => {
                if !self.transferred(done).await {
                    let fault = Fault::new(FaultCode::ACS_INTERNAL_ERROR);
                    return self.machine.refuse(now, fault);
                }
                self.machine.respond(now, TransferCompleteResponse {})
            }
            Message::AutonomousTransferComplete(_) => self
                .machine
                .respond(now, AutonomousTransferCompleteResponse {}),
            Message::DUStateChangeComplete(done) => {
                let outcome = command::units(&done);
                if !self.completed(&done.command_key, outcome).await {
                    let fault = Fault::new(FaultCode::ACS_INTERNAL_ERROR);
                    return self.machine.refuse(now, fault);
                }
                self.machine.respond(now, DUStateChangeCompleteResponse {})
            }
            Message::Kicked(_) => {
                // Where the browser wants to go is what a link on any page says.
                let next_url = self.acs.0.policy.kicked_url.clone();
                self.machine.respond(now, KickedResponse { next_url })
            }
            Message::AutonomousDUStateChangeComplete(_) => self
                .machine
                .respond(now, AutonomousDUStateChangeCompleteResponse {}),
            Message::RequestDownload(_) => self.machine.respond(now, RequestDownloadResponse {}),
            _ => {
                let fault = Fault::new(FaultCode::ACS_METHOD_NOT_SUPPORTED);
                self.machine.refuse(now, fault)
            }
        }
    }

    /// A transfer that was asked for has ended. Whether that is stored.
    async fn transferred(&self, done: TransferComplete) -> bool {
        let asked = self.asked(&done.command_key);
        let mut outcome = match done.fault.code {
            FaultCode(0) => Ok(BTreeMap::new()),
            FaultCode(code) => Err(PathError {
                code,
                message: done.fault.text.clone(),
            }),
        };
        if let Some(task) = asked.filter(|_| outcome.is_ok())
            && let Some(files) = &self.acs.0.files
            && let Operation::Operate { command, args, .. } = &task.operation
            && command.ends_with("Upload()")
            && files::is_ours(command, args)
        {
            outcome = match files.sent(&task.id).await {
                Some(sent) => Ok(sent.into_iter().collect()),
                None => Err(PathError {
                    code: 0,
                    message: "the device says that it has sent the file, and none came".to_owned(),
                }),
            };
        }
        self.completed(&done.command_key, outcome).await
    }

    /// The task of this device with this command key.
    fn asked(&self, key: &str) -> Option<TaskRecord> {
        let device = self.device.as_ref().filter(|_| self.managed)?;
        self.acs.0.core.state().queue.asked(device, key).cloned()
    }

    /// A command that was asked for has ended. Whether that is stored.
    async fn completed(
        &self,
        key: &str,
        outcome: Result<BTreeMap<String, String>, PathError>,
    ) -> bool {
        let Some(device) = self.device.as_ref().filter(|_| self.managed) else {
            return true;
        };
        let (_, stored) = self.acs.0.core.change(|state, now| {
            let task = state.queue.asked(device, key);
            let command = task.and_then(|task| match &task.operation {
                Operation::Operate { command, .. } => Some(command.clone()),
                _ => None,
            });
            let known = command
                .is_some_and(|command| state.queue.completed(now, device, key, &command, outcome));
            if !known {
                tracing::debug!(device, key, "something ended that no open task asked for");
            }
            ((), Batch::default())
        });
        stored.await.is_ok()
    }

    /// It is our turn: the next RPC of what is under way, or the next task, or the end.
    async fn ready(&mut self) {
        loop {
            if self.running.is_none() && !self.next_work().await {
                if let Some(device) = self.device.clone() {
                    self.leave(&device);
                }
                if self.machine.finish(Instant::now()).is_ok() {
                    self.acs.counted().finished += 1;
                }
                return;
            }
            let Some(running) = &mut self.running else {
                continue;
            };
            match running.program.next() {
                Step::Send(message) => {
                    running.began = true;
                    match self.machine.send(Instant::now(), *message) {
                        Ok(_) => return,
                        Err(error @ SendError::Version(_)) => {
                            let error = TaskError {
                                code: TaskErrorCode::InvalidRequest,
                                usp_code: None,
                                message: error.to_string(),
                                param_errors: Vec::new(),
                            };
                            self.done(Err(error)).await;
                        }
                        Err(error) => return self.give_up(&error.to_string()),
                    }
                }
                Step::Done(result) => self.done(result).await,
            }
        }
    }

    /// Takes up what is to be done next, when there is something.
    async fn next_work(&mut self) -> bool {
        let Some(device) = self.device.clone().filter(|_| self.managed) else {
            return false;
        };
        if let Some(running) = self.next_part(&device).await {
            self.running = Some(running);
            return true;
        }
        if let Some(task) = self.ended.pop_front()
            && let Operation::Operate { command, .. } = &task.operation
        {
            let operation = Operation::Get {
                paths: vec![command::object_of(command)],
                max_depth: 0,
            };
            self.running = Some(Running {
                program: Program::new(&operation, "", ""),
                purpose: Purpose::Collect(Box::new(task)),
                began: false,
                passes: false,
            });
            return true;
        }
        let job = match self.jobs.try_recv() {
            Ok(job) => Some(job),
            Err(_) => {
                // The queue hands out one task at a time, once what was before it is stored.
                let core = &self.acs.0.core;
                let now = core.now();
                let waits = {
                    let state = core.state();
                    // What the device could not do just now, it cannot do now either.
                    let due = !self.postponed || state.queue.is_due(now, &device);
                    due && state.queue.waiting(&device) > 0
                };
                if !waits {
                    return self.discover(&device);
                }
                self.acs.0.core.wake();
                let next = tokio::time::timeout(TASK_WITHIN, self.jobs.recv());
                next.await.ok().flatten()
            }
        };
        let Some(job) = job else { return false };
        let version = self.machine.version().to_string();
        let found_at = &self.origin.found_at;
        let operation = match (&self.acs.0.files, &job.task.operation) {
            (Some(files), _) => files.address(&self.acs.0.keeper, &job.task, found_at).await,
            (None, Operation::Operate { command, args, .. }) if files::is_ours(command, args) => {
                Err(impossible("the server has no files: acs.files is not set"))
            }
            (None, operation) => Ok(operation.clone()),
        };
        let program = match operation {
            Ok(operation) => Program::new(&operation, &version, &job.task.id),
            Err(error) => Program::failed(error),
        };
        let purpose = Purpose::Job(Box::new(job));
        self.running = Some(Running {
            program,
            purpose,
            began: false,
            passes: false,
        });
        true
    }

    /// The next part of what every device is given; what has to be remembered before it is asked is on disk then.
    async fn next_part(&mut self, device: &str) -> Option<Running> {
        if self.parts.is_none() {
            let inner = &self.acs.0;
            let state = inner.core.state();
            let record = state.registry.device(device)?;
            let cwmp = record.cwmp.as_ref()?;
            self.root = cwmp.root.clone();
            let grounds = Grounds {
                device: record,
                cwmp,
                policy: &inner.policy,
                keeper: &inner.keeper,
                stun: inner.stun.get(),
            };
            self.parts = Some(bootstrap(&grounds).into());
        }
        loop {
            let mut part = self.parts.as_mut()?.pop_front()?;
            if let Some(before) = part.before.take()
                && self.remember(device, before).await.is_err()
            {
                // It was logged; the next session tries again.
                continue;
            }
            return Some(Running {
                program: Program::requests(part.requests(&self.root)),
                purpose: Purpose::Give(Box::new(part)),
                began: false,
                passes: false,
            });
        }
    }

    /// Nothing else is to be done: a little more of the data model becomes known, while there is more.
    fn discover(&mut self, device: &str) -> bool {
        if self.discover == 0 {
            return false;
        }
        self.discover -= 1;
        let next = {
            let state = self.acs.0.core.state();
            let record = state.registry.device(device);
            let discovery = record.and_then(|record| record.cwmp.as_ref()?.discovery.as_ref());
            discovery.and_then(|discovery| discovery.left.last().cloned())
        };
        let Some(path) = next else { return false };
        self.running = Some(Running {
            program: Program::discover(path.clone()),
            purpose: Purpose::Discover(path),
            began: false,
            passes: false,
        });
        true
    }

    /// Changes what is known of the device, on disk.
    async fn remember(
        &self,
        device: &str,
        change: impl FnOnce(&mut CwmpRecord),
    ) -> Result<(), StoreError> {
        let (_, stored) = self.acs.0.core.change(|state, _| {
            let changed = state.registry.update(device, |record| {
                if let Some(cwmp) = &mut record.cwmp {
                    change(cwmp);
                }
            });
            let write = changed.map(|record| Write::Device(Box::new(record)));
            ((), Batch(write.into_iter().collect()))
        });
        stored.await.map(drop)
    }

    fn answer(&mut self, answer: Result<Message, Fault>) {
        if let Some(running) = &mut self.running {
            running.program.answer(answer);
        }
    }

    /// What was under way is done: stored before anything else happens.
    async fn done(&mut self, result: Result<TaskResult, TaskError>) {
        let (Some(running), Some(device)) = (self.running.take(), self.device.clone()) else {
            return;
        };
        let learned = running.program.learned;
        let later = match (&running.purpose, &result) {
            (Purpose::Job(job), Err(error))
                if running.passes
                    && job.task.operation.is_idempotent()
                    && self.acs.tries_again(&job.task.id) =>
            {
                Some(Delivery::Later(error.message.clone()))
            }
            _ => None,
        };
        let purpose = running.purpose;
        if let (Some(later), Purpose::Job(job)) = (&later, &purpose) {
            self.postponed = true;
            let id = &job.task.id;
            let (_, stored) = self.acs.0.core.change(|state, now| {
                state.queue.delivered(now, id, later.clone());
                ((), Batch::default())
            });
            // A failed write was logged.
            drop(stored.await);
        }
        match (purpose, later) {
            (Purpose::Job(job), Some(later)) => {
                let _gone = job.delivery.send(later);
            }
            (Purpose::Give(part), _) => {
                let (given, keep) = match result {
                    Ok(_) => (Given::Taken, part.taken),
                    Err(error) => {
                        let (part_name, problem) = (&part.name, error.message);
                        tracing::warn!(
                            device,
                            part = part_name,
                            problem,
                            "a device refused what it is to have"
                        );
                        (Given::Refused(shortened(&problem)), part.refused)
                    }
                };
                let name = part.name;
                let kept = self.remember(&device, |cwmp| {
                    cwmp.given.insert(name, given);
                    if let Some(keep) = keep {
                        keep(cwmp);
                    }
                });
                // A failed write was logged; the part is given again in the next session.
                drop(kept.await);
            }
            (Purpose::Discover(path), _) => {
                let mut learned = learned;
                let objects = std::mem::take(&mut learned.objects);
                let (_, stored) = self.acs.0.core.change(|state, now| {
                    let mut batch = learn(state, &device, learned, false, now);
                    let changed = state.registry.update(&device, |record| {
                        if let Some(cwmp) = &mut record.cwmp
                            && let Some(discovery) = &mut cwmp.discovery
                        {
                            listed(discovery, &path, objects, result.is_ok());
                        }
                    });
                    if let Some(record) = changed {
                        batch.push(Write::Device(Box::new(record)));
                    }
                    ((), batch)
                });
                // A failed write was logged; it is listed again.
                drop(stored.await);
            }
            (Purpose::Collect(task), _) => {
                let Some(outcome) = command::found(&task.operation, result) else {
                    // It goes on.
                    return;
                };
                let (_, stored) = self.acs.0.core.change(|state, now| {
                    let batch = learn(state, &device, learned, false, now);
                    if let Operation::Operate {
                        command,
                        command_key,
                        ..
                    } = &task.operation
                    {
                        let key = command_key.as_ref().unwrap_or(&task.id);
                        state.queue.completed(now, &device, key, command, outcome);
                    }
                    ((), batch)
                });
                // A failed write was logged.
                drop(stored.await);
            }
            (Purpose::Job(job), None) => {
                let own = job.task.created_by == SELF;
                let resets = result.is_ok() && is_factory_reset(&job.task.operation);
                let cancelled = result
                    .is_ok()
                    .then(|| cancelled(&job.task.operation))
                    .flatten();
                let (_, stored) = self.acs.0.core.change(|state, now| {
                    let mut batch = learn(state, &device, learned, own && result.is_ok(), now);
                    if resets {
                        batch.0.extend(let_begin_again(state, &device).0);
                    }
                    state.queue.answered(now, &device, &job.task.id, result);
                    if let Some(key) = cancelled
                        && let Some(task) = state.queue.asked(&device, &key)
                        && let Operation::Operate { command, .. } = task.operation.clone()
                    {
                        let outcome = Err(PathError {
                            code: 0,
                            message: "the transfer was cancelled".to_owned(),
                        });
                        state.queue.completed(now, &device, &key, &command, outcome);
                    }
                    ((), batch)
                });
                let delivery = match stored.await {
                    Ok(_) => Delivery::Taken,
                    Err(error) => Delivery::Unclear(error.to_string()),
                };
                let _gone = job.delivery.send(delivery);
            }
        }
    }

    /// What was under way ends without an answer.
    fn give_up(&mut self, problem: &str) {
        let Some(Running { purpose, began, .. }) = self.running.take() else {
            return;
        };
        if let Purpose::Job(job) = purpose {
            let delivery = if began && !job.task.operation.is_idempotent() {
                Delivery::Unclear(problem.to_owned())
            } else {
                Delivery::NotDelivered(problem.to_owned())
            };
            let _gone = job.delivery.send(delivery);
        }
    }

    /// No more tasks come into this session.
    fn leave(&mut self, device: &str) {
        let mut sessions = self.acs.sessions();
        if sessions
            .by_device
            .get(device)
            .is_some_and(|live| live.cookie == self.cookie)
        {
            sessions.by_device.remove(device);
        }
        drop(sessions);
        self.jobs.close();
        while let Ok(job) = self.jobs.try_recv() {
            let problem = "the session ended before the task's turn".to_owned();
            let _gone = job.delivery.send(Delivery::NotDelivered(problem));
        }
    }

    fn close(mut self) {
        self.give_up("the session ended before the answer");
        if let Some(device) = self.device.take() {
            self.leave(&device);
        }
        self.acs.sessions().by_cookie.remove(&self.cookie);
        match &self.outcome {
            Some(Outcome::Done) => {}
            outcome => {
                self.acs.counted().broken += 1;
                tracing::debug!(device = ?self.device, ?outcome, "a CWMP session broke");
            }
        }
    }
}

impl Origin {
    /// What a session says about how the device logs in and where it is.
    fn teach(&self, cwmp: &mut CwmpRecord) {
        cwmp.address = Some(self.address.to_string());
        if let Login::Own { new, .. } = self.login {
            // It has what it was given: whatever was good before is not any more.
            if new {
                cwmp.login = cwmp.next_login.take();
            }
            cwmp.again = false;
        }
    }
}

fn is_factory_reset(operation: &Operation) -> bool {
    matches!(operation, Operation::Operate { command, .. } if command.ends_with("FactoryReset()"))
}

/// An object was listed, or refused to be: what is below it comes next.
fn listed(discovery: &mut Discovery, path: &str, below: Vec<String>, taken: bool) {
    discovery.left.retain(|left| left != path);
    if taken {
        discovery.listed = discovery.listed.saturating_add(1);
    } else {
        discovery.left_out = discovery.left_out.saturating_add(1);
    }
    for object in below.into_iter().rev() {
        if discovery.left.len() < MOST_LEFT && object.len() <= LONGEST_TEXT {
            discovery.left.push(object);
        } else {
            discovery.left_out = discovery.left_out.saturating_add(1);
        }
    }
}

/// The key of the transfer that the operation took back.
fn cancelled(operation: &Operation) -> Option<String> {
    match operation {
        Operation::Operate { command, args, .. } if command.ends_with("CancelTransfer()") => {
            args.get("CommandKey").cloned()
        }
        _ => None,
    }
}

/// Whether the end of a diagnostic is awaited for this task.
fn is_diagnostic(task: &TaskRecord) -> bool {
    let Some(TaskResult::Operate { commands }) = &task.result else {
        return false;
    };
    let mut awaited = commands
        .iter()
        .filter_map(|command| command.request.as_deref());
    awaited.any(|request| request == command::DIAGNOSTICS)
}

/// A device that is reset forgets its login: the common one has to do once more.
fn let_begin_again(state: &mut State, device: &str) -> Batch {
    let changed = state.registry.update(device, |record| {
        if let Some(cwmp) = &mut record.cwmp {
            cwmp.again = true;
        }
    });
    let write = changed.map(|record| Write::Device(Box::new(record)));
    Batch(write.into_iter().collect())
}

/// What a device's data model begins with: its parameters say.
fn root_of(inform: &Inform) -> &'static str {
    let gateway = "InternetGatewayDevice.";
    let mut names = inform.values.iter().map(|(name, _)| name);
    if names.any(|name| name.starts_with(gateway)) {
        gateway
    } else {
        "Device."
    }
}

fn learn_inform(
    record: &mut DeviceRecord,
    inform: &Inform,
    version: &str,
    admit: bool,
    now: Millis,
) {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    record.oui = some(&inform.device.oui.to_ascii_uppercase());
    record.product_class = some(&inform.device.product_class);
    record.serial_number = some(&inform.device.serial_number);
    let manufacturer = shortened(&inform.device.manufacturer);
    record.manufacturer = some(&manufacturer).or(record.manufacturer.take());
    let cwmp = record.cwmp.get_or_insert_with(|| CwmpRecord {
        admitted: admit,
        ..CwmpRecord::default()
    });
    cwmp.root = root_of(inform).to_owned();
    cwmp.version = version.to_owned();
    if inform
        .events
        .iter()
        .any(|event| event.code == EventCode::Bootstrap)
    {
        // It is as it left the factory, or may be.
        cwmp.given.clear();
        cwmp.discovery = None;
    }
    if inform
        .events
        .iter()
        .any(|event| event.code == EventCode::Boot)
    {
        // It may have learned meanwhile what it refused.
        cwmp.given.retain(|_, given| *given == Given::Taken);
    }
    let events = inform.events.iter().take(MOST_EVENTS);
    cwmp.events = events
        .map(|event| shortened(&event.code.to_string()))
        .collect();
    for (name, value) in inform.values.iter() {
        set_field(record, name, value.text, now);
    }
}

/// What a device says of itself, as far as it is remembered.
fn shortened(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).collect()
}

/// Takes over what a value says about the device itself.
fn set_field(record: &mut DeviceRecord, name: &str, value: &str, now: Millis) {
    let below = name
        .strip_prefix("InternetGatewayDevice.")
        .or_else(|| name.strip_prefix("Device."));
    let text = || Some(shortened(value));
    match below {
        Some("DeviceInfo.SoftwareVersion") => record.software_version = text(),
        Some("DeviceInfo.ModelName") => record.model_name = text(),
        Some("DeviceInfo.Manufacturer") => record.manufacturer = text(),
        Some("ManagementServer.ConnectionRequestURL") => {
            if let Some(cwmp) = &mut record.cwmp {
                cwmp.connection_request_url = text().filter(|url: &String| !url.is_empty());
            }
        }
        Some("ManagementServer.UDPConnectionRequestAddress") => {
            if let Some(cwmp) = &mut record.cwmp {
                let address = shortened(value);
                cwmp.udp_address =
                    (!address.is_empty()).then_some(ToldAddress { address, seen: now });
            }
        }
        Some("ManagementServer.NATDetected") => {
            if let Some(cwmp) = &mut record.cwmp {
                cwmp.nat = Some(matches!(value.trim(), "1" | "true"));
                cwmp.nat_seen = now;
            }
        }
        _ => {}
    }
}

/// What a task taught, to be written.
fn learn(state: &mut State, device: &str, learned: Learned, read: bool, now: Millis) -> Batch {
    let changed = state.registry.update(device, |record| {
        for (name, value) in &learned.values {
            set_field(record, name, value, now);
        }
        if read {
            record.read = Some(now);
        }
    });
    let mut batch = Batch::default();
    if let Some(record) = changed {
        batch.push(Write::Device(Box::new(record)));
    }
    let values = learned.values.into_iter();
    batch.push(Write::Parameters {
        device: device.to_owned(),
        values: values
            .map(|(path, value)| ParameterRecord {
                path,
                value,
                seen: now,
            })
            .collect(),
        complete: learned.complete,
    });
    for path in learned.removed {
        batch.push(Write::RemoveParameters {
            device: device.to_owned(),
            path,
        });
    }
    batch
}
