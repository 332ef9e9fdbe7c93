//! Queries.

use homefleet_api::{Role, TaskState};
use rusqlite::{OptionalExtension as _, Row, params};
use serde::de::DeserializeOwned;

use super::super::{
    Answer, AuditLog, AuditRecord, DeviceRecord, Devices, ParameterRecord, Parameters, StoreError,
    SubscriptionRecord, Subscriptions, TaskRecord, Tasks, TokenRecord, Tokens, sort,
};
use super::SqliteStore;
use crate::clock::Millis;

impl Devices for SqliteStore {
    fn devices(&self) -> Answer<Vec<DeviceRecord>> {
        self.read(|connection| {
            let mut query = connection.prepare_cached("SELECT id, doc FROM device ORDER BY id")?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            documents("device", rows)
        })
    }
}

impl Parameters for SqliteStore {
    fn parameters(
        &self,
        device: &str,
        path: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Answer<Vec<ParameterRecord>> {
        let device = device.to_owned();
        let pattern = path.to_owned();
        let after = after.map(sort::key);
        self.read(move |connection| {
            let from = sort::key(sort::prefix(&pattern));
            let end = sort::end(&from);
            let (from, strictly) = match after {
                Some(after) if after >= from => (after, true),
                _ => (from, false),
            };
            let mut query = connection.prepare_cached(
                "SELECT path, value, seen, sort FROM parameter WHERE device = ?1 AND sort >= ?2 AND sort < ?3 ORDER BY sort",
            )?;
            let mut rows = query.query(params![device, from, end])?;
            let mut found = Vec::new();
            while found.len() < limit
                && let Some(row) = rows.next()?
            {
                let path: String = row.get(0)?;
                if strictly && row.get_ref(3)?.as_str().map_err(rusqlite::Error::from)? == from {
                    continue;
                }
                if sort::matches(&pattern, &path) {
                    found.push(ParameterRecord { path, value: row.get(1)?, seen: millis(row, 2)? });
                }
            }
            Ok(found)
        })
    }

    fn parameter_count(&self, device: &str) -> Answer<u64> {
        let device = device.to_owned();
        self.read(move |connection| {
            let count: i64 = connection
                .prepare_cached("SELECT count(*) FROM parameter WHERE device = ?1")?
                .query_row([device], |row| row.get(0))?;
            Ok(u64::try_from(count).unwrap_or(0))
        })
    }
}

impl Tasks for SqliteStore {
    fn open_tasks(&self) -> Answer<Vec<TaskRecord>> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT id, doc FROM task WHERE state IN ('queued', 'sent') ORDER BY id",
            )?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            documents("task", rows)
        })
    }

    fn task(&self, id: &str) -> Answer<Option<TaskRecord>> {
        let id = id.to_owned();
        self.read(move |connection| {
            let found: Option<(String, String)> = connection
                .prepare_cached("SELECT id, doc FROM task WHERE id = ?1")?
                .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            found
                .map(|(id, doc)| document("task", id, &doc))
                .transpose()
        })
    }

    fn tasks(
        &self,
        device: Option<&str>,
        state: Option<TaskState>,
        after: Option<&str>,
        limit: usize,
    ) -> Answer<Vec<TaskRecord>> {
        let device = device.map(str::to_owned);
        let state = state.map(TaskState::as_str);
        let after = after.map(str::to_owned);
        self.read(move |connection| {
            // One statement per combination, so that each uses its index.
            let sql = match (&device, state) {
                (Some(_), Some(_)) => "SELECT id, doc FROM task WHERE device = ?1 AND state = ?2 AND id < ?3 ORDER BY id DESC LIMIT ?4",
                (Some(_), None) => "SELECT id, doc FROM task WHERE device = ?1 AND ?2 IS NULL AND id < ?3 ORDER BY id DESC LIMIT ?4",
                (None, Some(_)) => "SELECT id, doc FROM task WHERE ?1 IS NULL AND state = ?2 AND id < ?3 ORDER BY id DESC LIMIT ?4",
                (None, None) => "SELECT id, doc FROM task WHERE ?1 IS NULL AND ?2 IS NULL AND id < ?3 ORDER BY id DESC LIMIT ?4",
            };
            let mut query = connection.prepare_cached(sql)?;
            // Identifiers are upper-case letters and digits: `~` sorts after all of them.
            let before = after.as_deref().unwrap_or("~");
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = query.query_map(params![device, state, before, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
            documents("task", rows)
        })
    }
}

impl Subscriptions for SqliteStore {
    fn subscriptions(&self, device: &str) -> Answer<Vec<SubscriptionRecord>> {
        let device = device.to_owned();
        self.read(move |connection| {
            let mut query = connection.prepare_cached(
                "SELECT id, notification, paths, state, instance, problem FROM subscription WHERE device = ?1 ORDER BY id",
            )?;
            let mut rows = query.query([&device])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let id: String = row.get(0)?;
                let (paths, state): (String, String) = (row.get(2)?, row.get(3)?);
                found.push(SubscriptionRecord {
                    device: device.clone(),
                    notification: row.get(1)?,
                    paths: document("subscription", id.clone(), &paths)?,
                    state: document("subscription", id.clone(), &state)?,
                    instance: row.get(4)?,
                    problem: row.get(5)?,
                    id,
                });
            }
            Ok(found)
        })
    }
}

impl Tokens for SqliteStore {
    fn tokens(&self) -> Answer<Vec<TokenRecord>> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT id, name, role, hash, created, expires FROM token ORDER BY created, id",
            )?;
            let mut rows = query.query([])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let id: String = row.get(0)?;
                let corrupt = |problem: String| StoreError::Corrupt {
                    what: "token",
                    id: id.clone(),
                    problem,
                };
                let role: String = row.get(2)?;
                let hash: Vec<u8> = row.get(3)?;
                let expires: Option<i64> = row.get(5)?;
                found.push(TokenRecord {
                    name: row.get(1)?,
                    role: role
                        .parse::<Role>()
                        .map_err(|error| corrupt(error.to_string()))?,
                    hash: hash
                        .try_into()
                        .map_err(|_| corrupt("hash is not 32 bytes".to_owned()))?,
                    created: millis(row, 4)?,
                    expires: expires.map(|time| Millis(u64::try_from(time).unwrap_or(0))),
                    id: id.clone(),
                });
            }
            Ok(found)
        })
    }
}

impl AuditLog for SqliteStore {
    fn audit(&self, before: Option<u64>, limit: usize) -> Answer<Vec<AuditRecord>> {
        self.read(move |connection| {
            let before = before
                .and_then(|before| i64::try_from(before).ok())
                .unwrap_or(i64::MAX);
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut query = connection.prepare_cached(
                "SELECT sequence, time, who, action, subject, detail, allowed FROM audit
                 WHERE sequence < ?1 ORDER BY sequence DESC LIMIT ?2",
            )?;
            let mut rows = query.query(params![before, limit])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let sequence: i64 = row.get(0)?;
                found.push(AuditRecord {
                    sequence: u64::try_from(sequence).unwrap_or(0),
                    time: millis(row, 1)?,
                    who: row.get(2)?,
                    action: row.get(3)?,
                    subject: row.get(4)?,
                    detail: row.get(5)?,
                    allowed: row.get(6)?,
                });
            }
            Ok(found)
        })
    }
}

pub(super) fn documents<T: DeserializeOwned>(
    what: &'static str,
    rows: impl Iterator<Item = rusqlite::Result<(String, String)>>,
) -> Result<Vec<T>, StoreError> {
    rows.map(|row| {
        let (id, doc) = row?;
        document(what, id, &doc)
    })
    .collect()
}

fn document<T: DeserializeOwned>(
    what: &'static str,
    id: String,
    doc: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(doc).map_err(|error| StoreError::Corrupt {
        what,
        id,
        problem: error.to_string(),
    })
}

fn millis(row: &Row<'_>, column: usize) -> rusqlite::Result<Millis> {
    let time: i64 = row.get(column)?;
    Ok(Millis(u64::try_from(time).unwrap_or(0)))
}
