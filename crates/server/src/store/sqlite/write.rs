//! Applying batches.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::{Connection, OptionalExtension as _, Savepoint, TransactionBehavior, params};

use super::super::{
    AuditRecord, Batch, DeviceRecord, Limits, ParameterRecord, StoreError, SubscriptionRecord,
    TaskRecord, TokenRecord, Write, Written, sort,
};
use crate::clock::Millis;

/// Longest path kept, in bytes.
const MAX_PATH: usize = 1024;
/// Bytes of a value that count as one value.
const UNIT: u32 = 1024;
/// Entries of the audit log removed at a time.
const AUDIT_ROUND: i64 = 50_000;
/// Notifications of all devices between two looks at that bound.
const SEEN_ROUND: u32 = 64;

/// Commits a group of batches: the outer error is that of the commit and concerns all of them.
pub(super) fn commit(
    connection: &mut Connection,
    limits: &Limits,
    batches: &[Batch],
) -> Result<Vec<Result<Written, StoreError>>, StoreError> {
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut answers = Vec::with_capacity(batches.len());
    for batch in batches {
        let savepoint = transaction.savepoint()?;
        // An error drops the savepoint, which rolls it back.
        answers.push(apply(&savepoint, limits, batch).and_then(|written| {
            savepoint.commit()?;
            Ok(written)
        }));
    }
    transaction.commit()?;
    Ok(answers)
}

fn apply(to: &Savepoint<'_>, limits: &Limits, batch: &Batch) -> Result<Written, StoreError> {
    let mut written = Written::default();
    for write in &batch.0 {
        match write {
            Write::Audit(entry) => audit(to, entry)?,
            Write::Device(device) => put_device(to, device)?,
            Write::Prune {
                before,
                seen_before,
                audit_before,
            } => prune(to, *before, *seen_before, *audit_before)?,
            Write::RemoveDevice(id) => {
                to.prepare_cached("DELETE FROM device WHERE id = ?1")?
                    .execute([id])?;
                to.prepare_cached("DELETE FROM parameter WHERE device = ?1")?
                    .execute([id])?;
                to.prepare_cached("DELETE FROM subscription WHERE device = ?1")?
                    .execute([id])?;
                to.prepare_cached("DELETE FROM seen WHERE device = ?1")?
                    .execute([id])?;
                super::home::remove(to, id)?;
            }
            Write::Home(write) => super::home::apply(to, write)?,
            Write::RemoveParameters { device, path } => remove_parameters(to, device, path)?,
            Write::RemoveSubscription { device, id } => {
                to.prepare_cached("DELETE FROM subscription WHERE device = ?1 AND id = ?2")?
                    .execute([device, id])?;
            }
            Write::RemoveToken(id) => {
                to.prepare_cached("DELETE FROM token WHERE id = ?1")?
                    .execute([id])?;
            }
            Write::Parameters {
                device,
                values,
                complete,
            } => {
                remove_stale(to, device, values, complete)?;
                put_parameters(to, limits, device, values, &mut written)?;
            }
            Write::Notification {
                device,
                key,
                time,
                values,
                removed,
            } => {
                if is_repeated(to, limits, device, *key, *time, &mut written)? {
                    written.duplicate = true;
                    continue;
                }
                for path in removed {
                    remove_parameters(to, device, path)?;
                }
                put_parameters(to, limits, device, values, &mut written)?;
            }
            Write::Pki(write) => super::pki::apply(to, write, &mut written)?,
            Write::Subscription(subscription) => put_subscription(to, subscription)?,
            Write::Task(task) => put_task(to, task)?,
            Write::Token(token) => put_token(to, token)?,
        }
    }
    Ok(written)
}

fn is_repeated(
    to: &Savepoint<'_>,
    limits: &Limits,
    device: &str,
    key: Option<[u8; 16]>,
    time: Millis,
    written: &mut Written,
) -> Result<bool, StoreError> {
    let Some(key) = key else { return Ok(false) };
    // A repetition is remembered from its last time on: retries come at growing intervals.
    let known = to
        .prepare_cached("UPDATE seen SET time = ?3 WHERE device = ?1 AND key = ?2")?
        .execute(params![device, key.as_slice(), int(time)])?;
    if known == 0 {
        to.prepare_cached("INSERT INTO seen (device, key, time) VALUES (?1, ?2, ?3)")?
            .execute(params![device, key.as_slice(), int(time)])?;
        static ADDED: AtomicU32 = AtomicU32::new(0);
        if ADDED
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(SEEN_ROUND)
        {
            let forgotten = to
                .prepare_cached(
                    "DELETE FROM seen WHERE device = ?1 AND time <
                 (SELECT time FROM seen WHERE device = ?1 ORDER BY time DESC LIMIT 1 OFFSET ?2)",
                )?
                .execute(params![device, limits.seen])?;
            written.forgotten += u64::try_from(forgotten).unwrap_or(u64::MAX);
        }
    }
    Ok(known > 0)
}

fn put_device(to: &Savepoint<'_>, device: &DeviceRecord) -> Result<(), StoreError> {
    to.prepare_cached("INSERT OR REPLACE INTO device (id, doc) VALUES (?1, ?2)")?
        .execute(params![device.id, json("device", &device.id, device)?])?;
    Ok(())
}

fn put_task(to: &Savepoint<'_>, task: &TaskRecord) -> Result<(), StoreError> {
    to.prepare_cached(
        "INSERT INTO task (id, device, state, updated, doc) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, updated = excluded.updated, doc = excluded.doc",
    )?
    .execute(params![
        task.id,
        task.device,
        task.state.as_str(),
        int(task.updated),
        json("task", &task.id, task)?
    ])?;
    Ok(())
}

fn put_parameters(
    to: &Savepoint<'_>,
    limits: &Limits,
    device: &str,
    values: &[ParameterRecord],
    written: &mut Written,
) -> Result<(), StoreError> {
    let mut touch = to.prepare_cached(
        "UPDATE parameter SET seen = ?3 WHERE device = ?1 AND sort = ?2 AND value = ?4",
    )?;
    let mut find =
        to.prepare_cached("SELECT value FROM parameter WHERE device = ?1 AND sort = ?2")?;
    let mut put = to.prepare_cached(
        "INSERT INTO parameter (device, sort, path, value, seen) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (device, sort) DO UPDATE SET value = excluded.value, seen = excluded.seen",
    )?;
    let mut room: Option<i64> = None;
    for value in values {
        let key = sort::key(&value.path);
        let mut fits = value.value.len() <= limits.value_length && value.path.len() <= MAX_PATH;
        // Most of what devices tell is as it was: that is one search instead of two.
        if fits && touch.execute(params![device, key, int(value.seen), value.value])? > 0 {
            continue;
        }
        let old: Option<String> = find
            .query_row(params![device, key], |row| row.get(0))
            .optional()?;
        let before = old.as_deref().map_or(0, weight);
        let more = weight(&value.value) - before;
        if fits && more > 0 {
            // Weighed only when something grows, and once per write.
            let left = match room {
                Some(left) => left,
                None => i64::from(limits.values) - weight_of_all(to, device)?,
            };
            room = Some(left);
            fits = more <= left;
        }
        if !fits {
            written.refused += 1;
            if old.is_some() {
                // What was known before is no longer true.
                to.prepare_cached("DELETE FROM parameter WHERE device = ?1 AND sort = ?2")?
                    .execute(params![device, key])?;
                room = room.map(|left| left + before);
            }
            continue;
        }
        room = room.map(|left| left - more);
        put.execute(params![
            device,
            key,
            value.path,
            value.value,
            int(value.seen)
        ])?;
        if old.as_ref() != Some(&value.value) {
            written.changed.push((device.to_owned(), value.clone()));
        }
    }
    Ok(())
}

/// How many values a value counts for.
fn weight(value: &str) -> i64 {
    i64::try_from(value.len()).map_or(i64::MAX, |length| 1 + length / i64::from(UNIT))
}

/// The sum of [`weight`] over a device's values; reads none of them.
fn weight_of_all(to: &Savepoint<'_>, device: &str) -> Result<i64, StoreError> {
    Ok(to
        .prepare_cached(
            "SELECT coalesce(sum(1 + octet_length(value) / ?2), 0) FROM parameter WHERE device = ?1",
        )?
        .query_row(params![device, UNIT], |row| row.get(0))?)
}

/// A complete read of an object replaces what was known under it.
fn remove_stale(
    to: &Savepoint<'_>,
    device: &str,
    values: &[ParameterRecord],
    complete: &[String],
) -> Result<(), StoreError> {
    if complete.is_empty() {
        return Ok(());
    }
    let kept: HashSet<&str> = values.iter().map(|value| value.path.as_str()).collect();
    let mut list = to.prepare_cached(
        "SELECT path, sort FROM parameter WHERE device = ?1 AND sort >= ?2 AND sort < ?3",
    )?;
    let mut remove = to.prepare_cached("DELETE FROM parameter WHERE device = ?1 AND sort = ?2")?;
    for object in complete {
        let from = sort::key(object);
        let rows: Vec<(String, String)> = list
            .query_map(params![device, from, sort::end(&from)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .collect::<Result<_, _>>()?;
        for (path, key) in rows {
            if !kept.contains(path.as_str()) {
                remove.execute(params![device, key])?;
            }
        }
    }
    Ok(())
}

fn remove_parameters(to: &Savepoint<'_>, device: &str, path: &str) -> Result<(), StoreError> {
    let from = sort::key(path);
    let end = if path.ends_with('.') {
        sort::end(&from)
    } else {
        format!("{from}\0")
    };
    to.prepare_cached("DELETE FROM parameter WHERE device = ?1 AND sort >= ?2 AND sort < ?3")?
        .execute(params![device, from, end])?;
    Ok(())
}

fn put_subscription(
    to: &Savepoint<'_>,
    subscription: &SubscriptionRecord,
) -> Result<(), StoreError> {
    to.prepare_cached(
        "INSERT OR REPLACE INTO subscription (device, id, notification, paths, state, instance, problem)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        subscription.device,
        subscription.id,
        subscription.notification,
        json("subscription", &subscription.id, &subscription.paths)?,
        json("subscription", &subscription.id, &subscription.state)?,
        subscription.instance,
        subscription.problem,
    ])?;
    Ok(())
}

fn put_token(to: &Savepoint<'_>, token: &TokenRecord) -> Result<(), StoreError> {
    to.prepare_cached(
        "INSERT OR REPLACE INTO token (id, name, role, hash, created, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        token.id,
        token.name,
        token.role.as_str(),
        token.hash.as_slice(),
        int(token.created),
        token.expires.map(int),
    ])?;
    Ok(())
}

fn audit(to: &Savepoint<'_>, entry: &AuditRecord) -> Result<(), StoreError> {
    to.prepare_cached(
        "INSERT INTO audit (time, who, action, subject, detail, allowed) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![int(entry.time), entry.who, entry.action, entry.subject, entry.detail, entry.allowed])?;
    Ok(())
}

fn prune(
    to: &Savepoint<'_>,
    before: Millis,
    seen_before: Millis,
    audit_before: Millis,
) -> Result<(), StoreError> {
    to.prepare_cached(
        "DELETE FROM task WHERE updated < ?1 AND state IN ('done', 'failed', 'expired', 'cancelled')",
    )?
    .execute([int(before)])?;
    to.prepare_cached("DELETE FROM seen WHERE time < ?1")?
        .execute([int(seen_before)])?;
    to.prepare_cached(
        "DELETE FROM audit WHERE sequence IN (SELECT sequence FROM audit WHERE time < ?1 ORDER BY time LIMIT ?2)",
    )?
    .execute([int(audit_before), AUDIT_ROUND])?;
    Ok(())
}

pub(super) fn json<T: serde::Serialize>(
    what: &'static str,
    id: &str,
    value: &T,
) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt {
        what,
        id: id.to_owned(),
        problem: error.to_string(),
    })
}

pub(super) fn int(time: Millis) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}
