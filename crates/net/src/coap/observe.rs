//! Observing, both sides (RFC 7641): whom of the peers is told of what, and what we are told of.
//!
//! ```text
//!  Service ─ Incoming::observed_as(topic) ─▶ Topics ─▶ coap::Endpoint::accept_observer
//!  Publisher::publish(topic, state) ───────▶ Topics ─ some at a time ─▶ coap::Endpoint::notify
//!
//!  Node::observe ─▶ a job that stays ─ Event::Response, Event::Notification ─▶ Observation::next
//! ```
//!
//! What is published is a state, not an event: an observer that is slow is told the newest one only (RFC 7641 §1.3).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use homefleet_coap::{Endpoint, ExchangeId, ObservationId, Response};
use tokio::sync::mpsc;

use super::client::RequestFailure;
use super::jobs::{Job, JobId, Reply, Stage};
use super::task::{Command, Task};

/// Observers that are told before everything else gets its turn.
const AT_ONCE: usize = 256;
/// How long the others wait then: so many observers do not come back for the rest of a large state all at once.
const PAUSE: Duration = Duration::from_millis(25);
/// Notifications that wait for whoever observes; it is given up when there are more.
const WAITING: usize = 16;

/// What observers are told of: the service's own number for a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TopicId(pub u64);

/// Publishes new states of the resources that a node serves.
#[derive(Clone)]
pub struct Publisher {
    commands: mpsc::WeakSender<Command>,
}

impl Publisher {
    pub(super) fn new(commands: mpsc::WeakSender<Command>) -> Self {
        Self { commands }
    }

    /// Tells every observer of the topic. Whoever has not been told of the state before is told of this one only. Max-Age is the longest time
    /// that an observer is told, and half of it the shortest: they register again when it is over (RFC 7641 §3.3.1), and are not to come
    /// together. `false` when the node is gone.
    pub async fn publish(&self, topic: TopicId, response: Response) -> bool {
        match self.commands.upgrade() {
            Some(commands) => commands
                .send(Command::Publish { topic, response })
                .await
                .is_ok(),
            None => false,
        }
    }
}

/// Whom of the peers is told of what. The endpoint bounds how many there are.
#[derive(Default)]
pub(super) struct Topics {
    of: HashMap<ObservationId, TopicId>,
    /// What is being told, and to whom it still has to be.
    publications: HashMap<TopicId, (Response, VecDeque<ObservationId>)>,
    due: Option<Instant>,
}

impl Topics {
    /// Serves an observer, if there is room.
    pub(super) fn register(&mut self, topic: TopicId, exchange: ExchangeId, coap: &mut Endpoint) {
        // Who is not taken learns it from the response, which has no Observe Option; the endpoint counts it.
        if let Ok(id) = coap.accept_observer(exchange) {
            self.of.insert(id, topic);
        }
    }

    pub(super) fn gone(&mut self, id: ObservationId) {
        self.of.remove(&id);
    }

    pub(super) fn observers(&self) -> usize {
        self.of.len()
    }

    pub(super) fn publish(&mut self, now: Instant, topic: TopicId, response: Response) {
        let observers = self.of.iter().filter(|(_, of)| **of == topic);
        let observers: VecDeque<ObservationId> = observers.map(|(id, _)| *id).collect();
        if observers.is_empty() {
            self.publications.remove(&topic);
        } else {
            self.publications.insert(topic, (response, observers));
            self.due.get_or_insert(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, coap: &mut Endpoint) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        let mut room = AT_ONCE;
        self.publications.retain(|_, (response, observers)| {
            while room > 0
                && let Some(id) = observers.pop_front()
            {
                room -= 1;
                // One that is gone has told so.
                let _told = coap.notify(now, id, spread(response.clone()));
            }
            !observers.is_empty()
        });
        self.due = (!self.publications.is_empty()).then(|| now + PAUSE);
    }
}

/// The same with a Max-Age somewhere between half of it and all of it.
pub(crate) fn spread(response: Response) -> Response {
    let Some(longest) = response.options.max_age() else {
        return response;
    };
    let mut random = [0; 4];
    // Without random numbers all come at once: a pity, and no more.
    getrandom::fill(&mut random).ok();
    let less = u32::from_ne_bytes(random) % (longest / 2 + 1);
    response.max_age(longest - less)
}

/// A resource that is observed. Dropping it tells the server that nobody listens any more.
pub struct Observation {
    job: Arc<OnceLock<JobId>>,
    commands: mpsc::WeakSender<Command>,
    inbox: mpsc::Receiver<Told>,
}

type Told = Result<Response, RequestFailure>;

impl Observation {
    pub(super) fn new(commands: mpsc::WeakSender<Command>) -> (Observing, Self) {
        let (outbox, inbox) = mpsc::channel(WAITING);
        let job = Arc::new(OnceLock::new());
        let observing = Observing {
            job: job.clone(),
            outbox,
            begun: false,
        };
        let observation = Self {
            job,
            commands,
            inbox,
        };
        (observing, observation)
    }

    /// The response to the registration first, then each notification. A response without the Observe Option, or one that is no success, is
    /// the last: the server does not keep us. `None` when nothing follows any more.
    ///
    /// # Errors
    /// [`RequestFailure`]: the last that is heard.
    pub async fn next(&mut self) -> Option<Result<Response, RequestFailure>> {
        self.inbox.recv().await
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if let (Some(job), Some(commands)) = (self.job.get(), self.commands.upgrade()) {
            // Where there is no room the server finds out by itself: what it sends is answered with a Reset.
            let _told = commands.try_send(Command::Deregister(*job));
        }
    }
}

/// The node's end of an observation.
pub(super) struct Observing {
    job: Arc<OnceLock<JobId>>,
    outbox: mpsc::Sender<Told>,
    /// The server has registered us.
    begun: bool,
}

impl Observing {
    pub(super) fn is_job(&self, id: JobId) {
        // Set once, when it becomes a job.
        let _set = self.job.set(id);
    }

    pub(super) fn end(self, result: Told) {
        // Whoever observes may have stopped.
        let _told = self.outbox.try_send(result);
    }
}

impl Job {
    /// Whether it is an observation that has begun.
    pub(super) fn is_observing(&self) -> bool {
        matches!(&self.reply, Reply::Observing(observing) if observing.begun)
    }
}

impl Task {
    /// The answer to a request of ours; one that observes stays where the server has registered us.
    pub(super) fn answered(&mut self, now: Instant, id: JobId, response: Response) {
        let registered = response.code.is_success() && response.options.observe().is_some();
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        match &mut job.reply {
            Reply::Observing(observing) if registered => observing.begun = true,
            _ => return self.finish(id, Ok(response)),
        }
        // It was answered: no other association is needed.
        let (due, beside) = (job.doubt_at.take(), job.doubt.take());
        if let Some(due) = due {
            self.doubts.remove(&(due, id));
        }
        if let Some(session) = beside {
            self.unlink(session, id);
        }
        self.tell(now, id, response);
    }

    pub(super) fn notified(&mut self, now: Instant, id: JobId, response: Response) {
        self.tell(now, id, response);
    }

    fn tell(&mut self, now: Instant, id: JobId, response: Response) {
        if let Some(Job {
            reply: Reply::Observing(observing),
            ..
        }) = self.jobs.get(&id)
            && observing.outbox.try_send(Ok(response)).is_err()
        {
            self.deregister(now, id);
        }
    }

    /// Ends an observation, and tells the server.
    pub(super) fn deregister(&mut self, now: Instant, id: JobId) {
        if let Some(Stage::UnderWay(request, _)) = self.jobs.get(&id).map(|job| job.stage) {
            self.by_request.remove(&request);
            self.coap.deregister(now, request);
        }
        self.finish(id, Err(RequestFailure::Busy));
    }
}
