//! The agent's own keys in the store, from the random number to the certificate in use.
//!
//! ```text
//! made ──▶ requested ──▶ received ──▶ confirmed ──▶ in use
//!   ▲          │             │                        │ until the next one is in use
//!   └──────────┴─────────────┘ begun anew             ▼ gone
//! ```
//!
//! At most one key is in use, and at most one on its way. Each step is one transaction of the database, durable when it returns: what is
//! in use goes in the same one that puts its successor in use.

use homefleet_trust::{Anchor, anchors_from_pem};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::store::{Store, StoreError};

/// How far a key has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Nobody knows of it.
    Made,
    /// A certificate was asked for; the CA may have issued one that is not here.
    Requested,
    /// The certificate is here; the CA does not know yet, as far as is known here.
    Received,
    /// The CA knows that it is used.
    Confirmed,
    /// The agent connects with it.
    InUse,
}

impl KeyState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Requested => "requested",
            Self::Received => "received",
            Self::Confirmed => "confirmed",
            Self::InUse => "in use",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let all = [
            Self::Made,
            Self::Requested,
            Self::Received,
            Self::Confirmed,
            Self::InUse,
        ];
        all.into_iter().find(|state| state.as_str() == text)
    }
}

/// A key, and what has come of it. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    id: i64,
    /// How far it has come.
    pub state: KeyState,
    /// The private key, PKCS #8.
    pub key: Vec<u8>,
    /// The certificate and those between it and its CA's root, PEM, leaf first; from `Received` on.
    pub chain: Option<String>,
    /// The message that confirms the certificate, once it was made.
    pub confirmation: Option<Vec<u8>>,
    /// The CA certificates that came with it and are to be trusted, PEM; `None`: as before.
    pub cas: Option<String>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("id", &self.id)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// The agent's own keys.
#[derive(Debug)]
pub struct Keys {
    store: Store,
}

impl Keys {
    /// Those in this store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// The key that the agent connects with.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn in_use(&mut self) -> Result<Option<Credential>, StoreError> {
        self.find("state = 'in use'")
    }

    /// The key that is on its way.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn coming(&mut self) -> Result<Option<Credential>, StoreError> {
        self.find("state <> 'in use'")
    }

    fn find(&mut self, which: &str) -> Result<Option<Credential>, StoreError> {
        let query = format!(
            "SELECT id, state, key, chain, confirmation, cas FROM credential WHERE {which} ORDER BY id DESC LIMIT 1"
        );
        let db = self.store.db();
        let found = db.query_row(&query, [], read).optional()?;
        Ok(found.flatten())
    }

    /// The CA certificates that came with certificates, to be trusted.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn anchors(&mut self) -> Result<Vec<Anchor>, StoreError> {
        let db = self.store.db();
        let mut query = db.prepare("SELECT der FROM anchor ORDER BY position")?;
        let rows = query.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        let ders: Vec<Vec<u8>> = rows.collect::<Result<_, _>>()?;
        // They were read before they were kept.
        let anchors = ders.iter().filter_map(|der| Anchor::from_der(der).ok());
        Ok(anchors.collect())
    }

    /// A new key, which takes the place of one that is on its way.
    ///
    /// # Errors
    /// When SQLite cannot write; then nothing has changed.
    pub fn make(&mut self, key: Vec<u8>) -> Result<Credential, StoreError> {
        let transaction = self.store.db().transaction()?;
        transaction.execute("DELETE FROM credential WHERE state <> 'in use'", [])?;
        transaction.execute(
            "INSERT INTO credential (state, key) VALUES (?1, ?2)",
            params![KeyState::Made.as_str(), key],
        )?;
        let id = transaction.last_insert_rowid();
        transaction.commit()?;
        Ok(Credential {
            id,
            state: KeyState::Made,
            key,
            chain: None,
            confirmation: None,
            cas: None,
        })
    }

    /// A certificate is asked for, whatever was before.
    ///
    /// # Errors
    /// When SQLite cannot write; then nothing has changed.
    pub fn requested(&mut self, credential: &mut Credential) -> Result<(), StoreError> {
        self.change(credential, |credential| {
            credential.state = KeyState::Requested;
            (credential.chain, credential.cas, credential.confirmation) = (None, None, None);
        })
    }

    /// The certificate is here, with the CAs that came with it.
    ///
    /// # Errors
    /// When SQLite cannot write; then nothing has changed.
    pub fn received(
        &mut self,
        credential: &mut Credential,
        chain: String,
        cas: Option<String>,
    ) -> Result<(), StoreError> {
        self.change(credential, |credential| {
            credential.state = KeyState::Received;
            credential.chain = Some(chain);
            credential.cas = cas;
        })
    }

    /// This message confirms the certificate.
    ///
    /// # Errors
    /// When SQLite cannot write; then nothing has changed.
    pub fn confirming(
        &mut self,
        credential: &mut Credential,
        message: &[u8],
    ) -> Result<(), StoreError> {
        self.change(credential, |credential| {
            credential.confirmation = Some(message.to_vec());
        })
    }

    /// The CA knows that the certificate is used.
    ///
    /// # Errors
    /// When SQLite cannot write; then nothing has changed.
    pub fn confirmed(&mut self, credential: &mut Credential) -> Result<(), StoreError> {
        self.change(credential, |credential| {
            credential.state = KeyState::Confirmed;
            credential.confirmation = None;
        })
    }

    /// The agent connects with this one from now on; the one before it goes, and the CAs that came are trusted.
    ///
    /// # Errors
    /// When SQLite cannot write; then nothing has changed.
    pub fn put_in_use(&mut self, credential: &mut Credential) -> Result<(), StoreError> {
        let transaction = self.store.db().transaction()?;
        transaction.execute("DELETE FROM credential WHERE id <> ?1", [credential.id])?;
        transaction.execute(
            "UPDATE credential SET state = ?2, confirmation = NULL, cas = NULL WHERE id = ?1",
            params![credential.id, KeyState::InUse.as_str()],
        )?;
        if let Some(cas) = &credential.cas {
            write_anchors(&transaction, &anchors_from_pem(cas).unwrap_or_default())?;
        }
        transaction.commit()?;
        credential.state = KeyState::InUse;
        (credential.confirmation, credential.cas) = (None, None);
        Ok(())
    }

    /// The certificate in use has these above it from now on, PEM, leaf first.
    ///
    /// # Errors
    /// When SQLite cannot write; then nothing has changed.
    pub fn rechain(
        &mut self,
        credential: &mut Credential,
        chain: String,
    ) -> Result<(), StoreError> {
        self.change(credential, |credential| credential.chain = Some(chain))
    }

    /// From now on these CA certificates are trusted, of those that were received.
    ///
    /// # Errors
    /// When SQLite cannot write; then nothing has changed.
    pub fn put_anchors(&mut self, anchors: &[Anchor]) -> Result<(), StoreError> {
        let transaction = self.store.db().transaction()?;
        write_anchors(&transaction, anchors)?;
        Ok(transaction.commit()?)
    }

    /// Writes the change, and only then makes it.
    fn change(
        &mut self,
        credential: &mut Credential,
        change: impl FnOnce(&mut Credential),
    ) -> Result<(), StoreError> {
        let mut changed = credential.clone();
        change(&mut changed);
        self.store.db().execute(
            "UPDATE credential SET state = ?2, chain = ?3, confirmation = ?4, cas = ?5 WHERE id = ?1",
            params![
                changed.id,
                changed.state.as_str(),
                changed.chain,
                changed.confirmation,
                changed.cas
            ],
        )?;
        *credential = changed;
        Ok(())
    }
}

fn write_anchors(db: &Connection, anchors: &[Anchor]) -> Result<(), StoreError> {
    db.execute("DELETE FROM anchor", [])?;
    for anchor in anchors {
        db.execute(
            "INSERT OR IGNORE INTO anchor (der) VALUES (?1)",
            [anchor.der()],
        )?;
    }
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Option<Credential>, rusqlite::Error> {
    let state: String = row.get(1)?;
    let Some(state) = KeyState::parse(&state) else {
        return Ok(None);
    };
    Ok(Some(Credential {
        id: row.get(0)?,
        state,
        key: row.get(2)?,
        chain: row.get(3)?,
        confirmation: row.get(4)?,
        cas: row.get(5)?,
    }))
}
