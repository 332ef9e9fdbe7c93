//! Where telemetry goes: several outputs at once, each with a queue of its own, so that one that is slow or away holds up
//! nobody. A full queue drops what comes, and counts it. What an output was given is in exactly one place:
//!
//! ```text
//! offered = delivered + refused + dropped + abandoned + waiting
//! ```
//!
//! | module | to |
//! |---|---|
//! | `ndjson` | files of JSON lines, zstd, rotated |
//! | `parquet` | Parquet files, zstd, rotated |
//! | `kafka` | a topic of Kafka |
//! | `nats` | a subject of NATS |
//! | `webhook` | an HTTP server, in batches |
//!
//! A batch that could not be delivered is tried again, with growing pauses, until it is; so a receiver may see a message twice after a
//! failure, and knows it by address, publisher and message ID.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::{NotifOutput, OutputKind};
use crate::telemetry::message::Message;

mod files;
mod kafka;
mod nats;
mod ndjson;
mod parquet;
mod queue;
mod stream;
mod webhook;

use queue::Shared;
pub use queue::{Health, OutputStatus};

/// Most messages in one batch.
const BATCH: usize = 1000;
/// Most bytes in one batch.
const BATCH_BYTES: usize = 1024 * 1024;
/// First pause after a failure.
const RETRY_FIRST: Duration = Duration::from_millis(200);
/// How often files are flushed, and looked at whether they are old.
const TICK: Duration = Duration::from_secs(1);
/// Longest time that an output may take for what is in its queue when the server stops.
pub(super) const LAST: Duration = Duration::from_secs(2);

/// What a sink's methods return: how many messages of the batch it will never take.
type Sending<'a> = Pin<Box<dyn Future<Output = Result<u64, SinkError>> + Send + 'a>>;

/// Why a batch was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SinkError {
    /// Try again later.
    #[error("{0}")]
    Away(String),
    /// Never.
    #[error("{0}")]
    Refused(String),
}

impl SinkError {
    fn away(problem: impl std::fmt::Display) -> Self {
        Self::Away(problem.to_string())
    }
}

/// What takes batches.
trait Sink: Send {
    /// Takes a batch; in part is not at all.
    fn deliver<'a>(&'a mut self, batch: &'a [Arc<Message>]) -> Sending<'a>;

    /// Called about once a second when there is nothing to deliver.
    fn tick(&mut self) -> Sending<'_> {
        Box::pin(std::future::ready(Ok(0)))
    }

    /// Ends, with what was taken on disk.
    fn close(&mut self) -> Sending<'_> {
        Box::pin(std::future::ready(Ok(0)))
    }
}

/// An output that runs.
#[derive(Debug)]
pub struct Output {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
    done: watch::Receiver<bool>,
}

impl Output {
    /// Starts it; it ends, after what it has in its queue, when `stop` changes.
    ///
    /// # Errors
    /// When the configuration cannot work: the reason. A peer that is away is no such reason.
    pub fn start(config: &NotifOutput, stop: watch::Receiver<bool>) -> Result<Self, String> {
        let sink: Box<dyn Sink> = match config.kind {
            OutputKind::Kafka => Box::new(kafka::Kafka::new(config)?),
            OutputKind::Nats => Box::new(nats::Nats::new(config)?),
            OutputKind::Ndjson => Box::new(files::Blocking::new(ndjson::Ndjson::new(config)?)),
            OutputKind::Parquet => Box::new(files::Blocking::new(parquet::Parquet::new(config)?)),
            OutputKind::Webhook => Box::new(webhook::Webhook::new(config)?),
        };
        let shared = Arc::new(Shared::new(config));
        let retry_max = Duration::from_secs(config.retry_max);
        let running = run(Arc::clone(&shared), sink, retry_max, stop);
        let (ended, done) = watch::channel(false);
        let task = tokio::spawn(async move {
            running.await;
            ended.send_replace(true);
        });
        Ok(Self { shared, task, done })
    }

    /// Puts a message into its queue; drops it, counted, when that is full.
    pub fn offer(&self, message: &Arc<Message>) {
        self.shared.offer(message);
    }

    /// How it fares.
    pub fn status(&self) -> OutputStatus {
        self.shared.status()
    }

    /// Waits until it has ended, `until` then at most; `stop` must have changed. What it still has then is given up, and counted.
    pub async fn ended(&self, until: Instant) {
        let mut done = self.done.clone();
        // An error says that the task is gone without a word.
        if timeout_at(until, done.wait_for(|done| *done))
            .await
            .is_err()
        {
            self.task.abort();
            // Until it is gone: it must not count any more.
            let until = Instant::now() + LAST;
            drop(timeout_at(until, done.wait_for(|done| *done)).await);
        }
        self.shared.abandon(0);
    }
}

/// Whether a start would find something wrong: the reason.
///
/// # Errors
/// As [`Output::start`].
pub(super) fn check(config: &NotifOutput) -> Result<(), String> {
    match config.kind {
        OutputKind::Kafka => kafka::Kafka::new(config).map(drop),
        OutputKind::Nats => nats::Nats::new(config).map(drop),
        OutputKind::Webhook => webhook::Webhook::new(config).map(drop),
        // Their directories are made when they start.
        OutputKind::Ndjson | OutputKind::Parquet => Ok(()),
    }
}

async fn run(
    shared: Arc<Shared>,
    mut sink: Box<dyn Sink>,
    retry_max: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let mut deadline = None;
    loop {
        let batch = shared.take(BATCH, BATCH_BYTES);
        if batch.is_empty() {
            if *stop.borrow() {
                break;
            }
            let quiet = tokio::select! {
                () = shared.wait() => false,
                () = sleep(TICK) => true,
                _ = stop.changed() => false,
            };
            if quiet || shared.is_tick_due(TICK) {
                match sink.tick().await {
                    Ok(_) => {}
                    Err(error) => shared.failed(&error.to_string(), 0),
                }
            }
            continue;
        }
        let mut pause = RETRY_FIRST;
        loop {
            match sink.deliver(&batch).await {
                Ok(refused) => {
                    shared.delivered(batch.len(), refused);
                    break;
                }
                Err(SinkError::Refused(problem)) => {
                    shared.refused(&problem, batch.len());
                    break;
                }
                Err(SinkError::Away(problem)) => shared.failed(&problem, batch.len()),
            }
            if *stop.borrow() {
                let until = *deadline.get_or_insert_with(|| Instant::now() + LAST);
                if Instant::now() >= until {
                    shared.abandon(batch.len());
                    break;
                }
            }
            // A stop ends the pause, not the batch: it gets its last attempts.
            tokio::select! {
                () = sleep(jittered(pause)) => {}
                _ = stop.changed() => {}
            }
            if *stop.borrow() {
                sleep(RETRY_FIRST).await;
            }
            pause = (pause * 2).min(retry_max.max(RETRY_FIRST));
        }
        if shared.is_tick_due(TICK)
            && let Err(error) = sink.tick().await
        {
            shared.failed(&error.to_string(), 0);
        }
    }
    if let Err(error) = sink.close().await {
        shared.failed(&error.to_string(), 0);
    }
}

/// Between half of it and all of it: outputs of many servers do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0u8; 1];
    // Without randomness there is no jitter.
    if getrandom::fill(&mut byte).is_err() {
        return pause;
    }
    pause / 2 + pause * u32::from(byte[0]) / 512
}

/// Host and port of `host`, `host:port`, `[::1]:port`.
fn host_port(text: &str, port: u16) -> Result<(String, u16), String> {
    let wrong = || format!("servers: `{text}` is not of the form host:port");
    let authority: hyper::http::uri::Authority = text.parse().map_err(|_| wrong())?;
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(wrong());
    }
    let port = match authority.port() {
        Some(port) => port.as_str().parse().map_err(|_| wrong())?,
        None => port,
    };
    Ok((authority.host().to_owned(), port))
}
