//! The one thread that writes series, and looks after old points.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::{Counters, Job, Sampled, SeriesLimits, int};
use crate::clock::Millis;
use crate::store::StoreError;
use crate::store::sqlite::create_private;

/// Time between two transactions.
const COMMIT: Duration = Duration::from_millis(500);
/// Batches in one transaction at most.
const GROUP: usize = 4096;
/// Time between two looks at old points.
const UPKEEP: Duration = Duration::from_secs(300);
/// Series that are looked after in one transaction.
const ROUND: usize = 200;
/// Most series of all devices.
const MAX_SERIES: usize = 1_000_000;
/// Milliseconds of a condensed point.
const CONDENSED: i64 = 300_000;
/// Version of the file.
const VERSION: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE series (
        id     INTEGER PRIMARY KEY,
        device TEXT NOT NULL,
        path   TEXT NOT NULL,
        first  INTEGER NOT NULL,
        last   INTEGER NOT NULL,
        value  REAL NOT NULL,
        UNIQUE (device, path)
    ) STRICT;
    CREATE TABLE point (
        series INTEGER NOT NULL,
        time   INTEGER NOT NULL,
        value  REAL NOT NULL,
        PRIMARY KEY (series, time)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE condensed (
        series INTEGER NOT NULL,
        time   INTEGER NOT NULL,
        count  INTEGER NOT NULL,
        least  REAL NOT NULL,
        total  REAL NOT NULL,
        most   REAL NOT NULL,
        last   REAL NOT NULL,
        PRIMARY KEY (series, time)
    ) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 1;";

pub(super) struct Writer {
    connection: Connection,
    limits: SeriesLimits,
    counters: Arc<Counters>,
    /// By device, by path.
    known: HashMap<String, HashMap<String, i64>>,
    /// Series in all.
    count: usize,
    points: u64,
}

impl Writer {
    pub(super) fn open(
        path: &Path,
        limits: SeriesLimits,
        counters: Arc<Counters>,
    ) -> Result<Self, StoreError> {
        let failed = |problem: String| StoreError::Open {
            path: path.display().to_string(),
            problem,
        };
        create_private(path).map_err(|error| failed(error.to_string()))?;
        let connection = Connection::open(path).map_err(|error| failed(error.to_string()))?;
        connection.busy_timeout(Duration::from_secs(5))?;
        // NORMAL loses at most what came since the last checkpoint when the machine loses power; nobody was promised more.
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")?;
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match found {
            0 => connection.execute_batch(&format!("BEGIN; {SCHEMA} COMMIT;"))?,
            VERSION => {}
            found => {
                return Err(StoreError::Newer {
                    found,
                    known: VERSION,
                });
            }
        }
        let points: i64 = connection.query_row(
            "SELECT (SELECT count(*) FROM point) + (SELECT count(*) FROM condensed)",
            [],
            |row| row.get(0),
        )?;
        let mut writer = Self {
            connection,
            limits,
            counters,
            known: HashMap::new(),
            count: 0,
            points: u64::try_from(points).unwrap_or(0),
        };
        writer.reload()?;
        writer.tell();
        Ok(writer)
    }

    /// Runs until nobody sends any more.
    pub(super) fn run(mut self, inbox: &Receiver<Job>) {
        let mut looked = Instant::now();
        loop {
            let first = match inbox.recv_timeout(UPKEEP) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let until = Instant::now() + COMMIT;
            let (mut group, mut sync) = (Vec::new(), None);
            let mut next = first;
            while let Some(job) = next {
                match job {
                    Job::Sync(now, done) => {
                        sync = Some((now, done));
                        break;
                    }
                    other => group.push(other),
                }
                let left = until.saturating_duration_since(Instant::now());
                next = if group.len() >= GROUP {
                    None
                } else {
                    inbox.recv_timeout(left).ok()
                };
            }
            let taken = group.iter().map(|job| match job {
                Job::Sampled(sampled) => u64::try_from(sampled.leaves.len()).unwrap_or(0),
                _ => 0,
            });
            let waiting = &self.counters.waiting;
            waiting.fetch_sub(taken.sum(), Ordering::Relaxed);
            if let Err(error) = self.write(&group) {
                self.failed(&error);
            }
            let now = match &sync {
                Some((now, _)) => *now,
                None if looked.elapsed() >= UPKEEP => Some(SystemTime::now().into()),
                None => None,
            };
            if let Some(now) = now {
                looked = Instant::now();
                if let Err(error) = self.upkeep(now) {
                    self.failed(&error);
                }
            }
            self.tell();
            if let Some((_, done)) = sync {
                // Who no longer waits does not need it.
                done.send(()).unwrap_or_default();
            }
        }
    }

    fn failed(&mut self, error: &rusqlite::Error) {
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        tracing::error!(%error, "series could not be written");
        // What was not committed is known no more.
        if let Err(error) = self.reload() {
            tracing::error!(%error, "series could not be read");
        }
    }

    fn reload(&mut self) -> rusqlite::Result<()> {
        let mut known: HashMap<String, HashMap<String, i64>> = HashMap::new();
        let mut count = 0;
        let mut ask = self
            .connection
            .prepare_cached("SELECT device, path, id FROM series")?;
        let mut rows = ask.query([])?;
        while let Some(row) = rows.next()? {
            known
                .entry(row.get(0)?)
                .or_default()
                .insert(row.get(1)?, row.get(2)?);
            count += 1;
        }
        self.known = known;
        self.count = count;
        Ok(())
    }

    fn tell(&self) {
        let series = u64::try_from(self.count).unwrap_or(u64::MAX);
        self.counters.series.store(series, Ordering::Relaxed);
        self.counters.points.store(self.points, Ordering::Relaxed);
    }

    fn write(&mut self, group: &[Job]) -> rusqlite::Result<()> {
        if group.is_empty() {
            return Ok(());
        }
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (mut written, mut refused, mut points) = (0u64, 0u64, self.points);
        for job in group {
            match job {
                Job::Sampled(sampled) => {
                    let mut to = Keeping {
                        transaction: &transaction,
                        known: &mut self.known,
                        count: &mut self.count,
                        per_device: usize::try_from(self.limits.per_device).unwrap_or(usize::MAX),
                    };
                    let (kept, new) = to.keep(sampled)?;
                    written += kept;
                    points += new;
                    refused += u64::try_from(sampled.leaves.len()).unwrap_or(0) - kept;
                }
                Job::Remove(device) => {
                    for table in ["point", "condensed"] {
                        let gone = transaction.execute(
                            &format!(
                                "DELETE FROM {table} WHERE series IN (SELECT id FROM series WHERE device = ?1)"
                            ),
                            [device],
                        )?;
                        points = points.saturating_sub(u64::try_from(gone).unwrap_or(0));
                    }
                    transaction.execute("DELETE FROM series WHERE device = ?1", [device])?;
                    let gone = self.known.remove(device);
                    self.count = self
                        .count
                        .saturating_sub(gone.map_or(0, |paths| paths.len()));
                }
                Job::Sync(..) => {}
            }
        }
        transaction.commit()?;
        self.points = points;
        self.counters.written.fetch_add(written, Ordering::Relaxed);
        self.counters.refused.fetch_add(refused, Ordering::Relaxed);
        Ok(())
    }

    /// Condenses and removes old points.
    fn upkeep(&mut self, now: Millis) -> rusqlite::Result<()> {
        let ago = |time: Duration| {
            let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            int(now.0.saturating_sub(millis))
        };
        let raw = ago(self.limits.raw) / CONDENSED * CONDENSED;
        self.age(raw, ago(self.limits.keep))?;
        // Too many all the same: the oldest tenth of the time goes, until they fit.
        for _ in 0..64 {
            if self.points <= self.limits.total {
                break;
            }
            let oldest: Option<i64> = self
                .connection
                .query_row("SELECT min(first) FROM series", [], |row| row.get(0))
                .optional()?
                .flatten();
            let Some(oldest) = oldest else { break };
            let span = (int(now.0) - oldest).max(0);
            self.age(raw, oldest + (span / 10).max(1))?;
        }
        Ok(())
    }

    /// Points before `raw` are condensed, those before `keep` removed; series without points are forgotten.
    fn age(&mut self, raw: i64, keep: i64) -> rusqlite::Result<()> {
        let old: Vec<i64> = {
            let mut ask = self
                .connection
                .prepare_cached("SELECT id FROM series WHERE first < ?1")?;
            let rows = ask.query_map([raw.max(keep)], |row| row.get(0))?;
            rows.collect::<Result<_, _>>()?
        };
        for round in old.chunks(ROUND) {
            let transaction = self
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            let (mut more, mut gone) = (0usize, 0usize);
            for id in round {
                more += transaction
                    .prepare_cached(
                        "INSERT OR REPLACE INTO condensed (series, time, count, least, total, most, last)
                         SELECT ?1, begin, count, least, total, most, (SELECT value FROM point WHERE series = ?1 AND time = latest) FROM (
                           SELECT time / ?4 * ?4 AS begin, count(*) AS count, min(value) AS least, sum(value) AS total,
                                  max(value) AS most, max(time) AS latest
                             FROM point WHERE series = ?1 AND time >= ?2 AND time < ?3 GROUP BY time / ?4)",
                    )?
                    .execute(params![id, keep, raw, CONDENSED])?;
                gone += transaction
                    .prepare_cached("DELETE FROM point WHERE series = ?1 AND time < ?2")?
                    .execute(params![id, raw.max(keep)])?;
                gone += transaction
                    .prepare_cached("DELETE FROM condensed WHERE series = ?1 AND time < ?2")?
                    .execute(params![id, keep])?;
                transaction
                    .prepare_cached(
                        "UPDATE series SET first = coalesce(
                           (SELECT min(time) FROM condensed WHERE series = ?1),
                           (SELECT min(time) FROM point WHERE series = ?1), last + 1) WHERE id = ?1",
                    )?
                    .execute([id])?;
            }
            transaction
                .prepare_cached("DELETE FROM series WHERE first > last AND last < ?1")?
                .execute([keep])?;
            transaction.commit()?;
            self.points = (self.points + u64::try_from(more).unwrap_or(0))
                .saturating_sub(u64::try_from(gone).unwrap_or(0));
        }
        if !old.is_empty() {
            self.reload()?;
        }
        Ok(())
    }
}

/// Points on their way into a transaction.
struct Keeping<'a, 'b> {
    transaction: &'a rusqlite::Transaction<'b>,
    known: &'a mut HashMap<String, HashMap<String, i64>>,
    count: &'a mut usize,
    per_device: usize,
}

impl Keeping<'_, '_> {
    /// How many points were kept, and how many of these are new.
    fn keep(&mut self, sampled: &Sampled) -> rusqlite::Result<(u64, u64)> {
        let Sampled {
            device,
            time,
            leaves,
        } = sampled;
        let paths = self.known.entry(device.clone()).or_default();
        let (mut kept, mut new) = (0, 0);
        let at = int(time.0);
        let mut put = self.transaction.prepare_cached(
            "INSERT INTO point (series, time, value) VALUES (?1, ?2, ?3) ON CONFLICT (series, time) DO NOTHING",
        )?;
        let mut replace = self
            .transaction
            .prepare_cached("UPDATE point SET value = ?3 WHERE series = ?1 AND time = ?2")?;
        let mut last = self.transaction.prepare_cached(
            "UPDATE series SET last = ?2, value = ?3, first = min(first, ?2) WHERE id = ?1 AND last <= ?2",
        )?;
        for leaf in leaves {
            let id = match paths.get(&leaf.path) {
                Some(id) => *id,
                None if paths.len() >= self.per_device || *self.count >= MAX_SERIES => continue,
                None => {
                    let id: i64 = self
                        .transaction
                        .prepare_cached(
                            "INSERT INTO series (device, path, first, last, value) VALUES (?1, ?2, ?3, ?3, ?4) RETURNING id",
                        )?
                        .query_row(params![device, leaf.path, at, leaf.value], |row| row.get(0))?;
                    paths.insert(leaf.path.clone(), id);
                    *self.count += 1;
                    id
                }
            };
            if put.execute(params![id, at, leaf.value])? == 1 {
                new += 1;
            } else {
                replace.execute(params![id, at, leaf.value])?;
            }
            last.execute(params![id, at, leaf.value])?;
            kept += 1;
        }
        Ok((kept, new))
    }
}
