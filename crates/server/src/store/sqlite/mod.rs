//! The embedded backend: SQLite in WAL mode with `synchronous=FULL`.
//!
//! One writer thread owns the writing connection and commits whatever has queued up in one transaction
//! (group commit): the cost of reaching the disk is shared, and nobody is told "done" before the commit
//! returned. Each batch runs in its own savepoint, so that one that fails changes nothing for its neighbours.
//! Readers have connections of their own and never wait for the writer.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::oneshot;

use super::{Answer, Batch, Limits, Store, StoreError, Written};

mod home;
mod pki;
mod read;
mod schema;
mod write;

/// Batches that may wait for the writer before new work is refused.
const MAX_WAITING: usize = 20_000;
/// Most batches in one commit.
const GROUP: usize = 1024;
/// Most idle reading connections kept.
const READERS: usize = 4;

/// An open store.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    waiting: Arc<AtomicUsize>,
    writer: Mutex<Option<JoinHandle<()>>>,
    readers: Arc<Mutex<Vec<Connection>>>,
}

struct Job {
    batch: Batch,
    done: oneshot::Sender<Result<Written, StoreError>>,
}

impl SqliteStore {
    /// [`SqliteStore::open_with`] the default limits.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, Limits::default())
    }

    /// Opens or creates the store, brings its schema up to date and starts the writer.
    pub fn open_with(path: &Path, limits: Limits) -> Result<Self, StoreError> {
        let failed = |problem: String| StoreError::Open {
            path: path.display().to_string(),
            problem,
        };
        create_private(path).map_err(|error| failed(error.to_string()))?;
        let mut connection = Connection::open(path).map_err(|error| failed(error.to_string()))?;
        prepare(&connection)?;
        schema::migrate(&mut connection)?;

        let (jobs, inbox) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&waiting);
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run_writer(connection, &limits, &inbox, &counter))
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            path: path.to_owned(),
            jobs: Mutex::new(Some(jobs)),
            waiting,
            writer: Mutex::new(Some(writer)),
            readers: Arc::default(),
        })
    }

    /// Writes what is waiting, then closes. Later writes fail with [`StoreError::Closed`].
    pub fn close(&self) {
        drop(lock(&self.jobs).take());
        if let Some(writer) = lock(&self.writer).take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer thread panicked");
        }
        lock(&self.readers).clear();
    }

    /// Runs `query` on a reading connection, away from the asynchronous threads.
    fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<T> {
        let readers = Arc::clone(&self.readers);
        let path = self.path.clone();
        Box::pin(async move {
            let task = tokio::task::spawn_blocking(move || {
                let idle = lock(&readers).pop();
                let connection = match idle {
                    Some(connection) => connection,
                    None => open_reader(&path)?,
                };
                let answer = query(&connection);
                let mut idle = lock(&readers);
                if idle.len() < READERS {
                    idle.push(connection);
                }
                answer
            });
            task.await
                .map_err(|error| StoreError::Database(error.to_string()))?
        })
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store for SqliteStore {
    fn write(&self, batch: Batch) -> Answer<Written> {
        let (done, answer) = oneshot::channel();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let sent = match lock(&self.jobs).as_ref() {
            Some(jobs) => jobs.send(Job { batch, done }).is_ok(),
            None => false,
        };
        if !sent {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        Box::pin(async move { answer.await.unwrap_or(Err(StoreError::Closed)) })
    }

    fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < MAX_WAITING
    }
}

/// The database holds device values: nobody but the server's own user may read it.
pub(crate) fn create_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map(drop)
}

fn prepare(connection: &Connection) -> Result<(), StoreError> {
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(96);
    Ok(())
}

fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(96);
    Ok(connection)
}

fn run_writer(
    mut connection: Connection,
    limits: &Limits,
    inbox: &mpsc::Receiver<Job>,
    waiting: &AtomicUsize,
) {
    while let Ok(first) = inbox.recv() {
        let mut jobs = vec![first];
        while jobs.len() < GROUP
            && let Ok(job) = inbox.try_recv()
        {
            jobs.push(job);
        }
        waiting.fetch_sub(jobs.len(), Ordering::Relaxed);
        let (batches, callers): (Vec<_>, Vec<_>) =
            jobs.into_iter().map(|job| (job.batch, job.done)).unzip();
        match write::commit(&mut connection, limits, &batches) {
            Ok(answers) => {
                for (done, answer) in callers.into_iter().zip(answers) {
                    // The caller may have gone away; its batch is on disk all the same.
                    drop(done.send(answer));
                }
            }
            Err(error) => {
                tracing::error!(%error, "a group of {} batches could not be committed", callers.len());
                for done in callers {
                    drop(done.send(Err(error.clone())));
                }
            }
        }
    }
    if let Err(error) =
        connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);")
    {
        tracing::debug!(%error, "no checkpoint at closing");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
