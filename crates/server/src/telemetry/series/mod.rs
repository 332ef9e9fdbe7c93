//! Numbers as time series, kept for days in an SQLite file of their own: what comes here never waits for the registry's writer, nor that
//! for it.
//!
//! One thread writes, in a transaction each half second; what it cannot keep up with is dropped and counted. A crash loses that half second
//! at most. Behind `raw_hours` the points of five minutes become one, with their least, mean and most; behind `keep_days` they go. Series
//! per device and points overall are bounded.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use crate::clock::Millis;
use crate::store::StoreError;
use crate::telemetry::envelope::Leaf;

mod writer;

use writer::Writer;

/// Messages that wait for the writer, and points of them.
const WAITING: usize = 4096;
const WAITING_POINTS: u64 = 200_000;
/// Idle reading connections that are kept.
const READERS: usize = 4;
/// Most buckets of one answer.
pub const MAX_BUCKETS: u64 = 10_000;

/// Bounds of the series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesLimits {
    /// How long points are kept.
    pub keep: Duration,
    /// How long every point is kept.
    pub raw: Duration,
    /// Most series of a device.
    pub per_device: u32,
    /// Most points of all.
    pub total: u64,
}

/// Numbers of a device at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// Endpoint ID.
    pub device: String,
    /// When.
    pub time: Millis,
    /// What.
    pub leaves: Vec<Leaf>,
}

/// A series.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesInfo {
    /// Path of the leaf.
    pub path: String,
    /// First kept.
    pub first: Millis,
    /// Last.
    pub last: Millis,
    /// Value then.
    pub value: f64,
}

/// What a series was in a stretch of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    /// Begin of the stretch.
    pub time: Millis,
    /// Points in it.
    pub count: u64,
    /// Smallest value.
    pub least: f64,
    /// Mean of the values.
    pub mean: f64,
    /// Largest value.
    pub most: f64,
    /// Last value.
    pub last: f64,
}

/// What a stretch of a series is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesQuery {
    /// Endpoint ID.
    pub device: String,
    /// Path of the leaf.
    pub path: String,
    /// From here.
    pub from: Millis,
    /// Up to, but not at, here.
    pub to: Millis,
    /// Milliseconds of one bucket, at least 1.
    pub step: u64,
}

/// Counters of the series.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SeriesStats {
    /// Points kept now, condensed ones included.
    pub points: u64,
    /// Series kept now.
    pub series: u64,
    /// Points written since the start.
    pub written: u64,
    /// Points dropped because the writer was behind.
    pub dropped: u64,
    /// Points not kept because their device has its full number of series.
    pub refused: u64,
    /// Writes that failed.
    pub failures: u64,
}

#[derive(Debug, Default)]
struct Counters {
    points: AtomicU64,
    series: AtomicU64,
    /// Points that wait for the writer.
    waiting: AtomicU64,
    written: AtomicU64,
    dropped: AtomicU64,
    refused: AtomicU64,
    failures: AtomicU64,
}

enum Job {
    Sampled(Sampled),
    Remove(String),
    /// Tells when everything before it is written; looks after old points as of a time when one is given.
    Sync(Option<Millis>, mpsc::Sender<()>),
}

/// The store of the series.
#[derive(Debug)]
pub struct SeriesStore {
    path: PathBuf,
    jobs: Mutex<Option<mpsc::SyncSender<Job>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    readers: Arc<Mutex<Vec<Connection>>>,
    counters: Arc<Counters>,
}

impl SeriesStore {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// When it cannot be opened, or a newer program wrote it.
    pub fn open(path: &Path, limits: SeriesLimits) -> Result<Self, StoreError> {
        let counters = Arc::new(Counters::default());
        let writer = Writer::open(path, limits, Arc::clone(&counters))?;
        let (jobs, inbox) = mpsc::sync_channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("series".to_owned())
            .spawn(move || writer.run(&inbox))
            .map_err(|error| StoreError::Open {
                path: path.display().to_string(),
                problem: error.to_string(),
            })?;
        Ok(Self {
            path: path.to_owned(),
            jobs: Mutex::new(Some(jobs)),
            writer: Mutex::new(Some(thread)),
            readers: Arc::default(),
            counters,
        })
    }

    /// Keeps numbers; drops them, counted, when the writer is behind.
    pub fn add(&self, sampled: Sampled) {
        let points = u64::try_from(sampled.leaves.len()).unwrap_or(0);
        if points == 0 {
            return;
        }
        let counters = &self.counters;
        let waiting = counters.waiting.fetch_add(points, Ordering::Relaxed);
        if waiting + points > WAITING_POINTS || !self.send(Job::Sampled(sampled)) {
            counters.waiting.fetch_sub(points, Ordering::Relaxed);
            counters.dropped.fetch_add(points, Ordering::Relaxed);
        }
    }

    /// Forgets a device.
    pub fn remove(&self, device: &str) {
        // A full queue leaves them to their age.
        self.send(Job::Remove(device.to_owned()));
    }

    fn send(&self, job: Job) -> bool {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok())
    }

    /// Waits until all that was added before is written; looks after old points as of `now` when it is given. For tests and for the end:
    /// it blocks.
    pub fn sync(&self, now: Option<Millis>) {
        let (done, wait) = mpsc::channel();
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = jobs.as_ref().map(|jobs| jobs.send(Job::Sync(now, done)));
        drop(jobs);
        if matches!(sent, Some(Ok(()))) {
            // A writer that ended has nothing left to write.
            wait.recv().unwrap_or_default();
        }
    }

    /// The counters.
    pub fn stats(&self) -> SeriesStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SeriesStats {
            points: read(&self.counters.points),
            series: read(&self.counters.series),
            written: read(&self.counters.written),
            dropped: read(&self.counters.dropped),
            refused: read(&self.counters.refused),
            failures: read(&self.counters.failures),
        }
    }

    /// The series of a device in the order of their paths.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn list(&self, device: &str) -> Result<Vec<SeriesInfo>, StoreError> {
        let device = device.to_owned();
        self.read(move |connection| {
            let mut ask = connection.prepare_cached(
                "SELECT path, first, last, value FROM series WHERE device = ?1 ORDER BY path",
            )?;
            let rows = ask.query_map([device], |row| {
                Ok(SeriesInfo {
                    path: row.get(0)?,
                    first: millis(row.get(1)?),
                    last: millis(row.get(2)?),
                    value: row.get(3)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// A stretch of a series, at most [`MAX_BUCKETS`] buckets, those without points left out; `None` when there is no such series.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn points(&self, query: SeriesQuery) -> Result<Option<Vec<Bucket>>, StoreError> {
        self.read(move |connection| {
            let mut find =
                connection.prepare_cached("SELECT id FROM series WHERE device = ?1 AND path = ?2")?;
            let found: Option<i64> = find
                .query_row(params![query.device, query.path], |row| row.get(0))
                .optional()?;
            let Some(series) = found else {
                return Ok(None);
            };
            let step = int(query.step.max(1));
            let mut ask = connection.prepare_cached(
                "SELECT begin, count, least, total, most, coalesce(
                   (SELECT value FROM point WHERE series = ?1 AND time = latest),
                   (SELECT last FROM condensed WHERE series = ?1 AND time = latest)) FROM (
                 SELECT time / ?4 * ?4 AS begin, sum(count) AS count, min(least) AS least, sum(total) AS total, max(most) AS most,
                        max(time) AS latest FROM (
                   SELECT time, 1 AS count, value AS least, value AS total, value AS most
                     FROM point WHERE series = ?1 AND time >= ?2 AND time < ?3
                   UNION ALL
                   SELECT time, count, least, total, most
                     FROM condensed WHERE series = ?1 AND time >= ?2 AND time < ?3)
                 GROUP BY time / ?4) ORDER BY begin LIMIT ?5",
            )?;
            let rows = ask.query_map(
                params![
                    series,
                    int(query.from.0),
                    int(query.to.0),
                    step,
                    int(MAX_BUCKETS)
                ],
                |row| {
                    let (count, total): (i64, f64) = (row.get(1)?, row.get(3)?);
                    #[allow(clippy::cast_precision_loss)]
                    let mean = total / count.max(1) as f64;
                    let count = u64::try_from(count).unwrap_or(0);
                    Ok(Bucket {
                        time: millis(row.get(0)?),
                        count,
                        least: row.get(2)?,
                        mean,
                        most: row.get(4)?,
                        last: row.get(5)?,
                    })
                },
            )?;
            Ok(Some(rows.collect::<Result<_, _>>()?))
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (path, readers) = (self.path.clone(), Arc::clone(&self.readers));
        let work = move || {
            let idle = readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match idle {
                Some(connection) => connection,
                None => {
                    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                    let connection = Connection::open_with_flags(&path, flags)?;
                    connection.busy_timeout(Duration::from_secs(5))?;
                    connection
                }
            };
            let answer = work(&connection);
            let mut readers = readers.lock().unwrap_or_else(PoisonError::into_inner);
            if readers.len() < READERS {
                readers.push(connection);
            }
            answer
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| StoreError::Database(error.to_string()))?
    }

    /// Writes what waits, and ends.
    pub fn close(&self) {
        drop(
            self.jobs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer {
            // A writer that panicked has nothing left to write.
            drop(writer.join());
        }
    }
}

impl Drop for SeriesStore {
    fn drop(&mut self) {
        self.close();
    }
}

fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn millis(number: i64) -> Millis {
    Millis(u64::try_from(number).unwrap_or(0))
}
