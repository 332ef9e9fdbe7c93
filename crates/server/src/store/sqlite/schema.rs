//! Schema versions and the steps between them.

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::super::StoreError;

/// Step `n` brings a store from version `n` to `n + 1`. Steps are never edited once released: a change is a new step.
const STEPS: &[&str] = &[
    // 1: the first life.
    "CREATE TABLE device (
        id  TEXT PRIMARY KEY,
        doc TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE parameter (
        device TEXT NOT NULL,
        sort   TEXT NOT NULL,
        path   TEXT NOT NULL,
        value  TEXT NOT NULL,
        seen   INTEGER NOT NULL,
        PRIMARY KEY (device, sort)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE task (
        id      TEXT PRIMARY KEY,
        device  TEXT NOT NULL,
        state   TEXT NOT NULL,
        updated INTEGER NOT NULL,
        doc     TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX task_by_device ON task (device, id);
    CREATE INDEX task_by_state ON task (state, id);
    CREATE TABLE subscription (
        device       TEXT NOT NULL,
        id           TEXT NOT NULL,
        notification TEXT NOT NULL,
        paths        TEXT NOT NULL,
        state        TEXT NOT NULL,
        instance     TEXT,
        problem      TEXT,
        PRIMARY KEY (device, id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE token (
        id      TEXT PRIMARY KEY,
        name    TEXT NOT NULL,
        role    TEXT NOT NULL,
        hash    BLOB NOT NULL,
        created INTEGER NOT NULL,
        expires INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE audit (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        time     INTEGER NOT NULL,
        who      TEXT NOT NULL,
        action   TEXT NOT NULL,
        subject  TEXT NOT NULL,
        detail   TEXT NOT NULL,
        allowed  INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE seen (
        device TEXT NOT NULL,
        key    BLOB NOT NULL,
        time   INTEGER NOT NULL,
        PRIMARY KEY (device, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX seen_by_time ON seen (time);",
    // 2: the oldest notifications of one device.
    "CREATE INDEX seen_by_device ON seen (device, time);",
    // 3: old entries of the audit log.
    "CREATE INDEX audit_by_time ON audit (time);",
    // 4: the CA.
    "CREATE TABLE certificate (
        sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
        serial      BLOB NOT NULL UNIQUE,
        issuer      BLOB NOT NULL,
        state       INTEGER NOT NULL,
        reason      INTEGER,
        revoked     INTEGER,
        revoked_by  TEXT,
        profile     TEXT NOT NULL,
        subject     TEXT NOT NULL,
        device      TEXT,
        requester   TEXT NOT NULL,
        secret      BLOB,
        issued      INTEGER NOT NULL,
        not_before  INTEGER NOT NULL,
        not_after   INTEGER NOT NULL,
        fingerprint BLOB NOT NULL,
        der         BLOB NOT NULL
    ) STRICT;
    CREATE INDEX certificate_by_device ON certificate (device, sequence);
    CREATE INDEX certificate_by_end ON certificate (not_after);
    CREATE INDEX certificate_unconfirmed ON certificate (issuer, issued) WHERE state = 0;
    CREATE INDEX certificate_of_secret ON certificate (secret) WHERE state = 0 AND secret IS NOT NULL;
    CREATE INDEX certificate_revoked ON certificate (issuer, serial) WHERE state = 2;
    CREATE TABLE enrolment_secret (
        reference  BLOB PRIMARY KEY,
        sealed     BLOB NOT NULL,
        device     TEXT,
        profile    TEXT,
        uses       INTEGER,
        used       INTEGER NOT NULL,
        created    INTEGER NOT NULL,
        created_by TEXT NOT NULL,
        expires    INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX enrolment_secret_by_device ON enrolment_secret (device, reference);
    CREATE TABLE approval (
        id         TEXT PRIMARY KEY,
        state      INTEGER NOT NULL,
        profile    TEXT NOT NULL,
        subject    TEXT NOT NULL,
        device     TEXT,
        requester  TEXT NOT NULL,
        key        BLOB NOT NULL,
        request    BLOB NOT NULL,
        created    INTEGER NOT NULL,
        expires    INTEGER NOT NULL,
        decided    INTEGER,
        decided_by TEXT,
        why        TEXT,
        serial     BLOB
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX approval_by_state ON approval (state, id);
    CREATE TABLE pki_document (
        name  TEXT PRIMARY KEY,
        value BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;",
    // Homes.
    "CREATE TABLE association (
        device TEXT PRIMARY KEY,
        doc    TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE gateway_table (
        gateway TEXT PRIMARY KEY,
        doc     TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;",
];

/// Brings the store up to date, all or nothing.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL) STRICT;",
    )?;
    let found: i64 = transaction
        .query_row("SELECT version FROM schema_version", [], |row| row.get(0))
        .optional()?
        .unwrap_or(0);
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for step in STEPS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step)?;
    }
    if found < known {
        transaction.execute("DELETE FROM schema_version", [])?;
        transaction.execute(
            "INSERT INTO schema_version (version) VALUES (?1)",
            params![known],
        )?;
    }
    transaction.commit()?;
    Ok(())
}
