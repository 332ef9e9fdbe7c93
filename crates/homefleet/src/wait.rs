//! A task until it has ended, with a word to the person who waits.

use std::io::{IsTerminal as _, Write as _};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use homefleet_api::client::Client;
use homefleet_api::{NewTask, Operation, Task, TaskState};

use crate::failure::Failure;

/// How long one request is held by the server.
const HOLD: Duration = Duration::from_secs(20);
/// Waits shorter than this need no word.
const PATIENCE: Duration = Duration::from_millis(800);

/// Queues an operation and waits until it has ended, at most `limit`.
///
/// # Errors
/// [`Failure::Task`] when it ended otherwise than done, [`Failure::Waiting`] when the time is over.
pub(crate) fn run(
    client: &Client,
    device: &str,
    operation: Operation,
    limit: Duration,
) -> Result<Task, Failure> {
    wait_for(client, device, operation, None, limit)
}

/// The same; the task ends with the wait.
pub(crate) fn run_within(
    client: &Client,
    device: &str,
    operation: Operation,
    limit: Duration,
) -> Result<Task, Failure> {
    // A little less, so that the end of it is still seen.
    let expires_in = limit.as_secs().saturating_sub(1).max(1);
    wait_for(client, device, operation, Some(expires_in), limit)
}

fn wait_for(
    client: &Client,
    device: &str,
    operation: Operation,
    expires_in: Option<u64>,
    limit: Duration,
) -> Result<Task, Failure> {
    let waiting = Waiting::begin(format!("waiting for {device}"));
    let task = NewTask {
        operation,
        expires_in,
    };
    let begun = Instant::now();
    let submitted = client.submit(device, &task, limit.min(HOLD))?;
    let ended = until_final(client, submitted, begun, limit);
    drop(waiting);
    judge(ended?)
}

/// Waits until the task has ended, at most `limit`; a limit of zero only looks.
pub(crate) fn follow(client: &Client, id: &str, limit: Duration) -> Result<Task, Failure> {
    let waiting = Waiting::begin(format!("waiting for task {id}"));
    let begun = Instant::now();
    let task = client.task(id, limit.min(HOLD))?;
    let task = until_final(client, task, begun, limit);
    drop(waiting);
    task
}

fn until_final(
    client: &Client,
    mut task: Task,
    begun: Instant,
    limit: Duration,
) -> Result<Task, Failure> {
    while !task.state.is_final() {
        let left = limit.saturating_sub(begun.elapsed());
        if left < Duration::from_secs(1) {
            break;
        }
        task = client.task(&task.id, left.min(HOLD))?;
    }
    Ok(task)
}

fn judge(task: Task) -> Result<Task, Failure> {
    match task.state {
        TaskState::Done => Ok(task),
        TaskState::Queued | TaskState::Sent => Err(Failure::Waiting(Box::new(task))),
        _ => Err(Failure::Task(Box::new(task))),
    }
}

/// A line on the terminal while something takes long: none when standard error is not a terminal.
#[derive(Debug)]
pub(crate) struct Waiting(Option<(mpsc::Sender<()>, JoinHandle<()>)>);

impl Waiting {
    /// Shows the line after a moment, until dropped.
    pub(crate) fn begin(what: String) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let (end, ended) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            let mut pause = PATIENCE;
            let mut shown = false;
            while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                pause = Duration::from_secs(1);
                shown = true;
                let seconds = begun.elapsed().as_secs();
                let mut out = std::io::stderr().lock();
                // A line for the eye: when it cannot be written, nothing is lost.
                write!(out, "\r\x1b[K{what}… {seconds} s")
                    .and_then(|()| out.flush())
                    .unwrap_or_default();
            }
            if shown {
                let mut out = std::io::stderr().lock();
                write!(out, "\r\x1b[K")
                    .and_then(|()| out.flush())
                    .unwrap_or_default();
            }
        });
        Self(Some((end, thread)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.0.take() {
            drop(end);
            // The thread only writes a line: a panic in it is not this command's failure.
            thread.join().unwrap_or_default();
        }
    }
}
