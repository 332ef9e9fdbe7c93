//! Homes in SQLite: one document for each device's association and for each gateway's table.

use rusqlite::{Savepoint, params};

use super::super::home::{AssociationRecord, HomeWrite, Homes, TableRecord};
use super::super::{Answer, StoreError};
use super::SqliteStore;
use super::read::documents;
use super::write::json;

impl Homes for SqliteStore {
    fn associations(&self) -> Answer<Vec<AssociationRecord>> {
        self.read(|connection| {
            let mut query =
                connection.prepare_cached("SELECT device, doc FROM association ORDER BY device")?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            documents("association", rows)
        })
    }

    fn gateway_tables(&self) -> Answer<Vec<TableRecord>> {
        self.read(|connection| {
            let mut query = connection
                .prepare_cached("SELECT gateway, doc FROM gateway_table ORDER BY gateway")?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            documents("gateway table", rows)
        })
    }
}

pub(super) fn apply(to: &Savepoint<'_>, write: &HomeWrite) -> Result<(), StoreError> {
    match write {
        HomeWrite::Association(record) => {
            let doc = json("association", &record.device, record)?;
            to.prepare_cached("INSERT OR REPLACE INTO association (device, doc) VALUES (?1, ?2)")?
                .execute(params![record.device, doc])?;
        }
        HomeWrite::RemoveTable(gateway) => {
            to.prepare_cached("DELETE FROM gateway_table WHERE gateway = ?1")?
                .execute([gateway])?;
        }
        HomeWrite::Table(record) => {
            let doc = json("gateway table", &record.gateway, record)?;
            to.prepare_cached(
                "INSERT OR REPLACE INTO gateway_table (gateway, doc) VALUES (?1, ?2)",
            )?
            .execute(params![record.gateway, doc])?;
        }
    }
    Ok(())
}

/// A device is gone.
pub(super) fn remove(to: &Savepoint<'_>, device: &str) -> Result<(), StoreError> {
    to.prepare_cached("DELETE FROM association WHERE device = ?1")?
        .execute([device])?;
    to.prepare_cached("DELETE FROM gateway_table WHERE gateway = ?1")?
        .execute([device])?;
    Ok(())
}
