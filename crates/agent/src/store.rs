//! What survives a restart and `kill -9`: SQLite, write-ahead log, `synchronous = FULL`.
//!
//! A write returns when it is on disk, so a response that leaves after it never promises too much. The
//! state is the controller-written part of the tree, the instance counters, the notifications that wait
//! for their answer, and a few facts about boots.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use homefleet_model::tree::{Row, RowKind};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

/// Form of the tables; kept in `PRAGMA user_version`.
const FORM: i64 = 2;

const TABLES: &str = "
CREATE TABLE fact (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tree (kind TEXT NOT NULL, path TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, path)) WITHOUT ROWID;
CREATE TABLE notification (
    msg_id TEXT PRIMARY KEY,
    controller TEXT NOT NULL,
    subscription TEXT NOT NULL,
    message BLOB NOT NULL,
    expires INTEGER
) WITHOUT ROWID;
";

/// Since form 2: the agent's own keys and certificates, and the CAs that came with them.
const KEY_TABLES: &str = "
CREATE TABLE credential (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    state TEXT NOT NULL,
    key BLOB NOT NULL,
    chain TEXT,
    confirmation BLOB,
    cas TEXT
);
CREATE TABLE anchor (position INTEGER PRIMARY KEY, der BLOB NOT NULL UNIQUE);
";

/// The state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory of the state or the file in it cannot be made.
    #[error("cannot make the data directory or its file {path}: {source}", path = .path.display())]
    Directory {
        /// The directory or the file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file was written by a newer agent.
    #[error("{path} has form {found}, this agent reads up to {FORM}: install the newer agent again", path = .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its form.
        found: i64,
    },
    /// SQLite refused.
    #[error("state database: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// The kept part of the tree by kind and path: rows, values that were written, and instance counters.
type State = BTreeMap<(&'static str, String), String>;

/// A notification that waits for its NotifyResp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredNotification {
    /// Message ID, the same in every retry.
    pub msg_id: String,
    /// Endpoint ID of the controller.
    pub controller: String,
    /// Path of the subscription, empty for an OnBoardRequest.
    pub subscription: String,
    /// The encoded Message.
    pub message: Vec<u8>,
    /// When retrying ends, seconds since 1970; absent: never (`NotifExpiration` 0).
    pub expires: Option<i64>,
}

/// Changes that are written together, or not at all.
#[derive(Debug, Default)]
pub struct Batch {
    /// The whole kept part of the tree after the change; what differs from the last one is written.
    pub tree: Option<Vec<Row>>,
    /// Notifications to keep.
    pub add: Vec<StoredNotification>,
    /// Message IDs of notifications to forget.
    pub remove: Vec<String>,
    /// Facts to set.
    pub facts: Vec<(String, String)>,
}

impl Batch {
    /// Nothing to write.
    pub fn is_empty(&self) -> bool {
        self.tree.is_none()
            && self.add.is_empty()
            && self.remove.is_empty()
            && self.facts.is_empty()
    }

    /// The same without the tree, and each fact once.
    pub(crate) fn without_tree(&self) -> Self {
        let facts: BTreeMap<_, _> = self.facts.iter().cloned().collect();
        Self {
            tree: None,
            add: self.add.clone(),
            remove: self.remove.clone(),
            facts: facts.into_iter().collect(),
        }
    }
}

/// The open database.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    last: State,
}

impl Store {
    /// Opens `agent.db` in `directory`, both made when absent.
    ///
    /// # Errors
    ///
    /// When the directory or the file cannot be made or read, or the file is from a newer agent.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(directory).map_err(|source| StoreError::Directory {
            path: directory.to_owned(),
            source,
        })?;
        let path = directory.join("agent.db");
        create_private(&path).map_err(|source| StoreError::Directory {
            path: path.clone(),
            source,
        })?;
        let db = Connection::open(&path)?;
        db.busy_timeout(std::time::Duration::from_secs(5))?;
        let _mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        db.execute_batch("PRAGMA synchronous = FULL")?;
        Self::prepare(db, &path)
    }

    /// A store that forgets everything when it is dropped (tests).
    ///
    /// # Errors
    ///
    /// When SQLite has no memory.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::prepare(Connection::open_in_memory()?, Path::new(":memory:"))
    }

    fn prepare(db: Connection, path: &Path) -> Result<Self, StoreError> {
        let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found > FORM {
            return Err(StoreError::Newer {
                path: path.to_owned(),
                found,
            });
        }
        let missing = match found {
            0 => format!("{TABLES} {KEY_TABLES}"),
            1 => KEY_TABLES.to_owned(),
            _ => String::new(),
        };
        if !missing.is_empty() {
            db.execute_batch(&format!(
                "BEGIN; {missing} PRAGMA user_version = {FORM}; COMMIT;"
            ))?;
        }
        let mut store = Self {
            db,
            last: State::default(),
        };
        store.last = store.read_tree()?;
        Ok(store)
    }

    /// The kept part of the tree as it was last written.
    pub fn tree(&self) -> Vec<Row> {
        let row = |((kind, path), value): (&(&'static str, String), &String)| {
            Some(Row {
                kind: kind.parse().ok()?,
                path: path.clone(),
                value: value.clone(),
            })
        };
        self.last.iter().filter_map(row).collect()
    }

    /// A fact, for example `boots`.
    ///
    /// # Errors
    ///
    /// When SQLite cannot read.
    pub fn fact(&self, key: &str) -> Result<Option<String>, StoreError> {
        let query = "SELECT value FROM fact WHERE key = ?1";
        Ok(self
            .db
            .query_row(query, [key], |row| row.get(0))
            .optional()?)
    }

    /// Notifications that were not answered before the agent stopped, in the order of their Message IDs.
    ///
    /// # Errors
    ///
    /// When SQLite cannot read.
    pub fn notifications(&self) -> Result<Vec<StoredNotification>, StoreError> {
        let mut query =
            self.db.prepare("SELECT msg_id, controller, subscription, message, expires FROM notification ORDER BY msg_id")?;
        let rows = query.query_map([], |row| {
            Ok(StoredNotification {
                msg_id: row.get(0)?,
                controller: row.get(1)?,
                subscription: row.get(2)?,
                message: row.get(3)?,
                expires: row.get(4)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Writes a batch; it is on disk when this returns.
    ///
    /// # Errors
    ///
    /// When SQLite cannot write; then nothing of the batch was written.
    pub fn write(&mut self, batch: Batch) -> Result<(), StoreError> {
        let state: Option<State> = batch.tree.map(|rows| {
            rows.into_iter()
                .map(|row| ((row.kind.as_str(), row.path), row.value))
                .collect()
        });
        let transaction = self.db.transaction()?;
        if let Some(state) = &state {
            write_tree(&transaction, &self.last, state)?;
        }
        for msg_id in &batch.remove {
            transaction.execute("DELETE FROM notification WHERE msg_id = ?1", [msg_id])?;
        }
        for one in &batch.add {
            transaction.execute(
                "INSERT OR REPLACE INTO notification VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    one.msg_id,
                    one.controller,
                    one.subscription,
                    one.message,
                    one.expires
                ],
            )?;
        }
        for (key, value) in &batch.facts {
            transaction.execute("INSERT OR REPLACE INTO fact VALUES (?1, ?2)", [key, value])?;
        }
        transaction.commit()?;
        if let Some(state) = state {
            self.last = state;
        }
        Ok(())
    }

    /// The database, for the agent's own keys.
    pub(crate) fn db(&mut self) -> &mut Connection {
        &mut self.db
    }

    /// Forgets everything but the agent's own keys and certificates (factory reset): who it is stays, and the secret that it came with
    /// may be spent.
    ///
    /// # Errors
    ///
    /// When SQLite cannot write.
    pub fn clear(&mut self) -> Result<(), StoreError> {
        self.db.execute_batch(
            "BEGIN; DELETE FROM fact; DELETE FROM tree; DELETE FROM notification; COMMIT;",
        )?;
        self.last = State::default();
        Ok(())
    }

    fn read_tree(&self) -> Result<State, StoreError> {
        let mut state = State::new();
        let mut query = self.db.prepare("SELECT kind, path, value FROM tree")?;
        let rows = query.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?))
        })?;
        for row in rows {
            let (kind, path, value) = row?;
            match kind.parse::<RowKind>() {
                Ok(kind) => {
                    state.insert((kind.as_str(), path), value);
                }
                Err(_) => tracing::warn!(kind, path, "state of an unknown kind left alone"),
            }
        }
        Ok(state)
    }
}

/// The state holds what controllers wrote, passwords too: it is for the agent's own user only, however it came to be.
fn create_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    let mut permissions = file.metadata()?.permissions();
    if permissions.mode() & 0o777 != 0o600 {
        permissions.set_mode(0o600);
        file.set_permissions(permissions)?;
    }
    // SQLite gives the files beside it the mode of the database when it makes them.
    for beside in ["-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(beside);
        match std::fs::set_permissions(&name, std::fs::Permissions::from_mode(0o600)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Writes what differs between two states.
fn write_tree(db: &Transaction<'_>, old: &State, new: &State) -> Result<(), rusqlite::Error> {
    for (kind, path) in old.keys().filter(|key| !new.contains_key(*key)) {
        db.execute(
            "DELETE FROM tree WHERE kind = ?1 AND path = ?2",
            params![kind, path],
        )?;
    }
    for ((kind, path), value) in new
        .iter()
        .filter(|(key, value)| old.get(*key) != Some(value))
    {
        db.execute(
            "INSERT OR REPLACE INTO tree VALUES (?1, ?2, ?3)",
            params![kind, path, value],
        )?;
    }
    Ok(())
}
