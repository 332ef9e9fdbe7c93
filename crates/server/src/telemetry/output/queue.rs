//! The queue before an output, and its counters.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

use crate::clock::Millis;
use crate::config::NotifOutput;
use crate::telemetry::message::Message;

/// How an output fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Its kind, for example `kafka`.
    pub kind: &'static str,
    /// Where it goes.
    pub destination: String,
    /// How it stands.
    pub health: Health,
    /// Since when.
    pub since: Millis,
    /// Why it is not up.
    pub problem: Option<String>,
    /// Messages offered to it.
    pub offered: u64,
    /// Messages delivered.
    pub delivered: u64,
    /// Messages that its peer, or its format, will never take.
    pub refused: u64,
    /// Messages dropped because its queue was full.
    pub dropped: u64,
    /// Messages given up when the server stopped.
    pub abandoned: u64,
    /// Messages that wait, those under way included.
    pub waiting: u64,
    /// Most messages that may wait.
    pub capacity: u64,
    /// Attempts that failed, since the start.
    pub failures: u64,
}

/// How an output stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing was delivered yet.
    Idle,
    /// What was last given was delivered.
    Up,
    /// The last attempt failed; it is tried again.
    Failing,
}

/// What an output and those who feed it share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    arrived: Notify,
    most: usize,
    most_bytes: usize,
}

#[derive(Debug)]
struct State {
    queue: VecDeque<Arc<Message>>,
    bytes: usize,
    /// Taken out of the queue and neither delivered nor refused yet.
    under_way: usize,
    ticked: Instant,
    status: OutputStatus,
}

impl Shared {
    pub(super) fn new(config: &NotifOutput) -> Self {
        Self {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                bytes: 0,
                under_way: 0,
                ticked: Instant::now(),
                status: OutputStatus {
                    name: config.name.clone(),
                    kind: config.kind.as_str(),
                    destination: config.destination(),
                    health: Health::Idle,
                    since: now(),
                    problem: None,
                    offered: 0,
                    delivered: 0,
                    refused: 0,
                    dropped: 0,
                    abandoned: 0,
                    waiting: 0,
                    capacity: count(config.queue),
                    failures: 0,
                },
            }),
            arrived: Notify::new(),
            most: config.queue,
            most_bytes: config.queue_bytes,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn offer(&self, message: &Arc<Message>) {
        let weight = message.weight();
        {
            let mut state = self.state();
            state.status.offered += 1;
            let full = state.queue.len() + state.under_way >= self.most
                // One message always fits, however large.
                || (!state.queue.is_empty() && state.bytes + weight > self.most_bytes);
            if full {
                state.status.dropped += 1;
                return;
            }
            state.bytes += weight;
            state.queue.push_back(Arc::clone(message));
        }
        self.arrived.notify_one();
    }

    /// The next messages, in their order.
    pub(super) fn take(&self, most: usize, most_bytes: usize) -> Vec<Arc<Message>> {
        let mut state = self.state();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < most && (batch.is_empty() || bytes < most_bytes) {
            let Some(message) = state.queue.pop_front() else {
                break;
            };
            bytes += message.payload.len();
            state.bytes = state.bytes.saturating_sub(message.weight());
            batch.push(message);
        }
        state.under_way = batch.len();
        batch
    }

    /// Until something may have come.
    pub(super) async fn wait(&self) {
        self.arrived.notified().await;
    }

    /// Whether the last tick is longer ago; then it is now.
    pub(super) fn is_tick_due(&self, interval: Duration) -> bool {
        let mut state = self.state();
        let due = state.ticked.elapsed() >= interval;
        if due {
            state.ticked = Instant::now();
        }
        due
    }

    pub(super) fn delivered(&self, messages: usize, refused: u64) {
        let mut state = self.state();
        state.under_way = 0;
        state.status.delivered += count(messages).saturating_sub(refused);
        state.status.refused += refused;
        state.status.problem = None;
        state.turn(Health::Up);
    }

    /// The peer will never take the batch; it is there all the same.
    pub(super) fn refused(&self, problem: &str, messages: usize) {
        let mut state = self.state();
        state.under_way = 0;
        state.status.refused += count(messages);
        state.status.failures += 1;
        state.status.problem = Some(problem.to_owned());
        tracing::warn!(output = state.status.name, problem, "a batch was refused");
        state.turn(Health::Failing);
    }

    pub(super) fn failed(&self, problem: &str, messages: usize) {
        let mut state = self.state();
        state.under_way = messages;
        state.status.failures += 1;
        state.status.problem = Some(problem.to_owned());
        if state.status.health != Health::Failing {
            tracing::warn!(output = state.status.name, problem, "an output fails");
        }
        state.turn(Health::Failing);
    }

    /// Gives up the batch under way, and whatever waits when there is none.
    pub(super) fn abandon(&self, messages: usize) {
        let mut state = self.state();
        let lost = if messages > 0 {
            messages
        } else {
            let lost = state.queue.len() + state.under_way;
            state.queue.clear();
            state.bytes = 0;
            lost
        };
        state.under_way = 0;
        state.status.abandoned += count(lost);
    }

    pub(super) fn status(&self) -> OutputStatus {
        let state = self.state();
        OutputStatus {
            waiting: count(state.queue.len() + state.under_way),
            ..state.status.clone()
        }
    }
}

impl State {
    fn turn(&mut self, health: Health) {
        if self.status.health != health {
            self.status.health = health;
            self.status.since = now();
        }
    }
}

fn now() -> Millis {
    SystemTime::now().into()
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
