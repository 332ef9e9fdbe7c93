//! A change that either happens in the tree and in the system behind it, or in neither.

use homefleet_model::{
    path::{ObjectPath, ParamPath},
    tree::{Savepoint, Transaction, Tree},
};

use super::Fault;
use crate::{
    device::{self, Device},
    local_agent,
    provider::{Provider, ProviderError},
};

/// A transaction of the tree, with what was already made so in the system.
pub(crate) struct Writer<'a> {
    transaction: Transaction<'a>,
    providers: &'a mut [Box<dyn Provider>],
    applied: Vec<Applied>,
}

/// A point to which a [`Writer`] can go back.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    savepoint: Savepoint,
    applied: usize,
}

struct Applied {
    path: ParamPath,
    before: String,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(device: &'a mut Device) -> Self {
        let Device {
            tree, providers, ..
        } = device;
        Self {
            transaction: tree.transaction(),
            providers,
            applied: Vec::new(),
        }
    }

    /// The tree with everything that was written so far.
    pub(crate) fn tree(&self) -> &Tree {
        self.transaction.tree()
    }

    pub(crate) fn mark(&mut self) -> Mark {
        Mark {
            savepoint: self.transaction.savepoint(),
            applied: self.applied.len(),
        }
    }

    /// Undoes everything since `mark`, in the tree and in the system.
    pub(crate) fn undo(&mut self, mark: Mark) {
        self.transaction.rollback_to(mark.savepoint);
        for Applied { path, before } in self.applied.drain(mark.applied..).rev() {
            if let Err(error) =
                device::apply(self.providers, self.transaction.tree(), &path, &before)
            {
                tracing::warn!(%path, %error, "the system did not go back to the old value");
            }
        }
    }

    /// Sets one parameter: schema, rules of the data model, then the system. `new` is the row that the same
    /// message creates.
    pub(crate) fn set(
        &mut self,
        path: &ParamPath,
        value: &str,
        new: Option<&ObjectPath>,
    ) -> Result<(), Fault> {
        local_agent::check_set(self.tree(), path, value, new)?;
        let before = self
            .tree()
            .reveal(path)
            .map(|value| value.as_str().to_owned());
        let mark = self.mark();
        self.transaction
            .set(path, value)
            .map_err(|error| Fault::new(error.code(), error.to_string()))?;
        let canonical = self
            .tree()
            .reveal(path)
            .map_or_else(|_| value.to_owned(), |value| value.as_str().to_owned());
        if let Err(error) = device::apply(self.providers, self.transaction.tree(), path, &canonical)
        {
            self.undo(mark);
            return Err(match error {
                ProviderError::Refused(reason) => Fault::new(7012, reason),
                error => Fault::new(7009, error.to_string()),
            });
        }
        self.applied.push(Applied {
            path: path.clone(),
            before: before.unwrap_or_default(),
        });
        Ok(())
    }

    /// Makes a row.
    pub(crate) fn add(&mut self, table: &ObjectPath) -> Result<ObjectPath, Fault> {
        self.transaction
            .add(table)
            .map_err(|error| Fault::new(error.code(), error.to_string()))
    }

    /// Writes a read-only parameter that the agent itself fills.
    pub(crate) fn put(&mut self, path: &ParamPath, value: &str) -> Result<(), Fault> {
        match self.transaction.put(path, value) {
            Ok(_) => Ok(()),
            Err(error) => Err(Fault::new(7003, error.to_string())),
        }
    }

    /// Deletes a row.
    pub(crate) fn delete(&mut self, row: &ObjectPath) -> Result<(), Fault> {
        self.transaction
            .delete(row)
            .map_err(|error| Fault::new(error.code(), error.to_string()))
    }

    /// Checks the unique keys of the rows touched since `mark`, and assigns those of added rows that are missing.
    pub(crate) fn check(&mut self, mark: Mark) -> Result<(), Fault> {
        self.transaction
            .check(mark.savepoint)
            .map_err(|error| Fault::new(error.code(), error.to_string()))
    }

    /// Makes it all final.
    pub(crate) fn commit(self) -> Result<(), Fault> {
        self.transaction
            .commit()
            .map_err(|error| Fault::new(error.code(), error.to_string()))
    }
}
