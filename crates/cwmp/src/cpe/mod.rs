//! The sessions of a CPE (TR-069 §3.7): when one begins, what it says, how it goes on and ends, when it is tried again.
//!
//! ```text
//!            raise, queue, periodic, scheduled          begin            InformResponse
//!   Idle ──────────────────────────────────> Starting ────────> Inform ──────────────┐
//!    ^  ^                                       ^                 │                   v
//!    │  └── nothing left ── Ended               │ wait is over,   │ anything    our requests, one by one
//!    │                       ^                  │ or a new event  │ else              │ (not while HoldRequests)
//!    │                       │ 204              │                 v                   v
//!    │                       │               Retrying <──────── Failed  <──── empty POST, then the requests
//!    │                       └───────────────────────────────────────────────  of the ACS, one by one
//! ```
//!
//! Drive it so: change something (`raise`, `queue`, `handle_reply`, `handle_timeout`, …), drain [`Cpe::poll_transmit`] and [`Cpe::poll_event`]
//! until both are empty, then sleep until [`Cpe::poll_timeout`] or until something comes. There is at most one session and in it at most one
//! POST without its reply. Store [`Cpe::saved`] whenever [`Cpe::changes`] has changed.

mod config;
mod pending;
mod periodic;
mod retry;
mod session;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

pub use config::{
    Config, CpeEvent, Failure, HttpFailure, InformContent, NotNow, QueueError, Reply, Saved,
    Transmit,
};
pub use pending::{Keep, RequestId, Waiting};
pub use periodic::until_periodic;
pub use retry::RetryPolicy;

use crate::{Event, EventCode, Message, Method, Version, message::Callee};
use pending::Pending;
use session::{Session, Step};

/// No wait is longer, so that arithmetic on instants cannot overflow: ten years.
const LONGEST: Duration = Duration::from_secs(315_360_000);

/// A device towards its ACS.
pub struct Cpe {
    config: Config,
    rng: ChaCha20Rng,
    pending: Pending,
    phase: Phase,
    /// Something happened that wants a session, and is not in the one that goes on.
    wanted: bool,
    /// How often the session was tried, and how often since the restart.
    retry_count: u32,
    retries_since_start: u32,
    /// The version that the next session tries.
    version: Version,
    periodic: Option<Periodic>,
    scheduled: Vec<(Instant, String)>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<CpeEvent>,
}

enum Phase {
    Idle,
    Retrying(Instant),
    Starting,
    Session(Box<Session>),
}

#[derive(Clone, Copy)]
struct Periodic {
    every: Duration,
    next: Instant,
}

impl Cpe {
    /// A device that has just started, with what it saved before. It raises nothing itself: [`EventCode::Boot`] is the application's to raise.
    pub fn new(now: Instant, config: Config, saved: Saved, seed: [u8; 32]) -> Self {
        let mut pending = Pending::default();
        for event in saved.events {
            pending.raise(event, config.most_events);
        }
        for waiting in saved.requests.into_iter().take(config.most_requests) {
            pending.queue(waiting);
        }
        let scheduled = saved.scheduled.into_iter().take(config.most_scheduled);
        let version = config.version;
        Self {
            wanted: !pending.is_empty(),
            pending,
            phase: Phase::Idle,
            retry_count: saved.retry_count,
            retries_since_start: 0,
            version,
            periodic: None,
            scheduled: scheduled
                .map(|(left, key)| (later(now, left), key))
                .collect(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            rng: ChaCha20Rng::from_seed(seed),
            config,
        }
    }

    /// An event that wants a session: at once, or right after the one that goes on.
    ///
    /// Events that a request of ours brings with it come with [`Cpe::queue`].
    pub fn raise(&mut self, event: Event) {
        if event.code == EventCode::Bootstrap {
            // Perhaps another ACS: what the last one spoke means nothing.
            self.version = self.config.version;
        }
        self.pending.raise(event, self.config.most_events);
        self.wanted = true;
        self.start();
    }

    /// An event that the next session tells, whenever that is: a passive notification.
    pub fn note(&mut self, event: Event) {
        self.pending.raise(event, self.config.most_events);
    }

    /// A request to the ACS, with the method that led to it, and a session for it.
    ///
    /// # Errors
    /// When there are too many, or it is none that a CPE queues.
    pub fn queue(
        &mut self,
        message: Message,
        cause: Option<Method>,
    ) -> Result<RequestId, QueueError> {
        let callee = message.method().map(Method::callee);
        let fits = message.is_request()
            && matches!(callee, Some(Callee::Acs | Callee::Both))
            && !matches!(message, Message::Inform(_));
        if !fits {
            return Err(QueueError::NotARequest);
        }
        if self.pending.queued() >= self.config.most_requests {
            return Err(QueueError::Full);
        }
        let waiting = Waiting { message, cause };
        let tells = !waiting.events().is_empty();
        let id = self.pending.queue(waiting);
        // A session that goes on takes it along.
        if tells && !matches!(self.phase, Phase::Session(_)) {
            self.wanted = true;
            self.start();
        }
        Ok(id)
    }

    /// The periodic inform: when first (see [`until_periodic`]), and how often. `None` turns it off.
    pub fn set_periodic(&mut self, periodic: Option<(Instant, Duration)>) {
        self.periodic = periodic.map(|(next, every)| Periodic {
            next,
            every: every.clamp(Duration::from_secs(1), LONGEST),
        });
    }

    /// ScheduleInform (TR-069 A.4.1.2).
    ///
    /// # Errors
    /// When too many are scheduled: 9004.
    pub fn schedule(
        &mut self,
        now: Instant,
        delay: Duration,
        key: String,
    ) -> Result<(), QueueError> {
        if self.scheduled.len() >= self.config.most_scheduled {
            return Err(QueueError::Full);
        }
        self.pending.changes += 1;
        self.scheduled.push((later(now, delay), key));
        Ok(())
    }

    /// The retry policy of the data model, from the next wait on.
    pub fn set_retry_policy(&mut self, policy: RetryPolicy) {
        self.config.retry = policy;
    }

    /// The events that an Inform would tell now.
    pub fn due(&self) -> Vec<Event> {
        self.pending.clone().include()
    }

    /// Sends the Inform of a session that is starting.
    ///
    /// # Errors
    /// When none is.
    pub fn begin(&mut self, now: Instant, content: InformContent) -> Result<(), NotNow> {
        if !matches!(self.phase, Phase::Starting) {
            return Err(NotNow);
        }
        let events = self.pending.include();
        self.wanted = false;
        let (session, body) = Session::inform(
            now,
            &self.config,
            self.version,
            events,
            self.retry_count,
            content,
        );
        self.transmits.push_back(Transmit::Post(body));
        self.phase = Phase::Session(Box::new(session));
        Ok(())
    }

    /// What came for the POST.
    pub fn handle_reply(&mut self, now: Instant, reply: Reply<'_>) {
        let Phase::Session(session) = &mut self.phase else {
            return;
        };
        let step = session.reply(now, &self.config, &mut self.pending, reply);
        self.take(now, step);
    }

    /// The answer to a [`CpeEvent::Request`]: a response, or a fault.
    ///
    /// # Errors
    /// When no request waits for it, or it is the answer to another method.
    pub fn respond(&mut self, now: Instant, answer: impl Into<Message>) -> Result<(), NotNow> {
        let Phase::Session(session) = &mut self.phase else {
            return Err(NotNow);
        };
        let body = session.respond(now, &self.config, answer.into())?;
        self.transmits.push_back(Transmit::Post(body));
        Ok(())
    }

    /// Gives up the session that goes on, as failed.
    pub fn abort(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Session(_) | Phase::Starting) {
            self.fail(now, Failure::Aborted, None);
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.clock(now);
        match &self.phase {
            Phase::Retrying(at) if *at <= now => {
                self.wanted = true;
                self.start();
            }
            Phase::Session(session) if session.deadline().is_some_and(|at| at <= now) => {
                self.fail(now, Failure::TimedOut, None);
            }
            _ => {}
        }
    }

    /// When [`Cpe::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Retrying(at) => Some(*at),
            Phase::Session(session) => session.deadline(),
            Phase::Idle | Phase::Starting => None,
        };
        let scheduled = self.scheduled.iter().map(|(at, _)| *at);
        let periodic = self.periodic.map(|periodic| periodic.next);
        scheduled.chain(phase).chain(periodic).min()
    }

    /// What HTTP has to do next.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<CpeEvent> {
        // Restored events want a session, too.
        self.start();
        self.events.pop_front()
    }

    /// Whether a session goes on: what comes in now waits for the next.
    pub fn is_in_session(&self) -> bool {
        matches!(self.phase, Phase::Session(_) | Phase::Starting)
    }

    /// How often the session was tried without success.
    pub fn retry_count(&self) -> u32 {
        self.retry_count
    }

    /// Counts what changed in [`Cpe::saved`], time apart.
    pub fn changes(&self) -> u64 {
        self.pending.changes
    }

    /// What outlives a restart, to be stored.
    pub fn saved(&self, now: Instant) -> Saved {
        let (events, requests) = self.pending.kept();
        let left = |at: &Instant| at.saturating_duration_since(now);
        Saved {
            events,
            requests,
            scheduled: self
                .scheduled
                .iter()
                .map(|(at, key)| (left(at), key.clone()))
                .collect(),
            retry_count: self.retry_count,
        }
    }

    /// The next session is due, when one is wanted and none goes on.
    fn start(&mut self) {
        let free = matches!(self.phase, Phase::Idle | Phase::Retrying(_));
        if !self.wanted || !free {
            return;
        }
        self.phase = Phase::Starting;
        self.events.push_back(CpeEvent::Starting);
    }

    /// Raises what is due.
    fn clock(&mut self, now: Instant) {
        if let Some(periodic) = &mut self.periodic
            && periodic.next <= now
        {
            // What was slept through is told once.
            let missed = now.duration_since(periodic.next).as_nanos() / periodic.every.as_nanos();
            let missed = u32::try_from(missed).unwrap_or(u32::MAX);
            let next = periodic.every.checked_mul(missed.saturating_add(1));
            periodic.next = next.map_or(now + periodic.every, |passed| periodic.next + passed);
            self.raise(Event::new(EventCode::Periodic));
        }
        let mut due = Vec::new();
        self.scheduled.retain(|(at, key)| {
            let later = *at > now;
            if !later {
                due.push(key.clone());
            }
            later
        });
        for key in due {
            self.note(Event::of(Method::ScheduleInform, key));
            self.raise(Event::new(EventCode::Scheduled));
        }
    }

    fn take(&mut self, now: Instant, step: Step) {
        match step {
            Step::Nothing => {}
            Step::Post(body) => self.transmits.push_back(Transmit::Post(body)),
            Step::Tell(event) => {
                // The session goes on by itself, unless the application is asked.
                let asks = matches!(event, CpeEvent::Request(_));
                self.events.push_back(event);
                if !asks && let Phase::Session(session) = &mut self.phase {
                    let step = session.go_on(now, &self.config, &self.pending);
                    self.take(now, step);
                }
            }
            Step::End => {
                self.transmits.push_back(Transmit::Close);
                self.events.push_back(CpeEvent::Ended);
                self.retry_count = 0;
                self.retries_since_start = 0;
                self.phase = Phase::Idle;
                self.start();
            }
            Step::Fail(reason, retry_after) => self.fail(now, reason, retry_after),
        }
    }

    fn fail(&mut self, now: Instant, reason: Failure, retry_after: Option<Duration>) {
        if let Phase::Session(session) = &self.phase {
            self.transmits
                .retain(|transmit| matches!(transmit, Transmit::Close));
            self.transmits.push_back(Transmit::Close);
            // An ACS of the first version may not understand a newer one (TR-069 §3.2.1.1): every second retry speaks that.
            if session.may_be_too_new(&reason) {
                self.version = match self.version {
                    Version::V1_0 => self.config.version,
                    _ => Version::V1_0,
                };
            }
        }
        self.pending.failed();
        self.retry_count = self.retry_count.saturating_add(1);
        self.retries_since_start = self.retries_since_start.saturating_add(1);
        let random = self.rng.next_u32();
        let wait = retry_after
            .map(|wait| wait.min(self.config.retry.range(u32::MAX).1))
            .unwrap_or_else(|| self.config.retry.wait(self.retries_since_start, random));
        self.events.push_back(CpeEvent::Failed { reason, wait });
        self.phase = Phase::Retrying(now + wait);
        // What happened meanwhile does not wait (TR-069 §3.2.1.1).
        self.start();
    }
}

fn later(now: Instant, wait: Duration) -> Instant {
    now + wait.min(LONGEST)
}
