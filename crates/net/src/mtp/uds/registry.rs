//! One session per Endpoint, and the way to it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex};

use homefleet_usp::EndpointId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::mtp::{ChannelId, SendError};

use super::lock;

/// Records that may wait for one session besides the bound in bytes.
pub(super) const WAITING: usize = 1024;

/// A Record on its way to the socket.
pub(super) struct Command {
    /// The Record, encoded.
    pub(super) record: Vec<u8>,
    /// Its room among what waits for the peer; given back when it is written or dropped.
    pub(super) room: OwnedSemaphorePermit,
    /// Told when it is written.
    pub(super) written: oneshot::Sender<()>,
}

/// The way to a session.
#[derive(Clone)]
pub(super) struct Handle {
    pub(super) id: ChannelId,
    /// The user ID at the other end.
    pub(super) uid: u32,
    /// Whether we connected.
    pub(super) ours: bool,
    pub(super) commands: mpsc::Sender<Command>,
    /// Bytes that may wait.
    pub(super) room: Arc<Semaphore>,
    /// Ends the session with an Error that says why.
    pub(super) end: watch::Sender<Option<&'static str>>,
}

/// The open sessions.
#[derive(Default)]
pub(super) struct Registry {
    sessions: Mutex<HashMap<EndpointId, Handle>>,
}

impl Registry {
    /// Takes a session that has opened. The same user opening another in the same direction is a peer that has begun anew:
    /// the older one ends, and `true` is returned. Otherwise the older one stays.
    ///
    /// # Errors
    /// Why the new one cannot be.
    pub(super) fn insert(&self, peer: &EndpointId, new: Handle) -> Result<bool, &'static str> {
        match lock(&self.sessions).entry(peer.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(new);
                Ok(false)
            }
            Entry::Occupied(mut occupied) => {
                let old = occupied.get();
                if old.ours != new.ours {
                    return Err("there is a session with this Endpoint already");
                }
                if old.uid != new.uid {
                    return Err("another user has a session with this Endpoint ID");
                }
                let old = occupied.insert(new);
                old.end
                    .send_replace(Some("this Endpoint has another session"));
                Ok(true)
            }
        }
    }

    /// Forgets a session that has ended.
    pub(super) fn remove(&self, peer: &EndpointId, id: ChannelId) {
        let mut sessions = lock(&self.sessions);
        if sessions.get(peer).is_some_and(|handle| handle.id == id) {
            sessions.remove(peer);
        }
    }

    /// Gives a Record to the session with `peer`; the answer resolves when it is written, or fails when it is not.
    pub(super) fn send(
        &self,
        peer: &EndpointId,
        record: Vec<u8>,
    ) -> Result<oneshot::Receiver<()>, SendError> {
        let handle = lock(&self.sessions)
            .get(peer)
            .cloned()
            .ok_or(SendError::NotConnected)?;
        let bytes = u32::try_from(record.len()).map_err(|_| SendError::TooLarge)?;
        let room = handle
            .room
            .try_acquire_many_owned(bytes)
            .map_err(|_| SendError::Busy)?;
        let (written, answer) = oneshot::channel();
        let command = Command {
            record,
            room,
            written,
        };
        match handle.commands.try_send(command) {
            Ok(()) => Ok(answer),
            Err(mpsc::error::TrySendError::Full(_)) => Err(SendError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(SendError::NotConnected),
        }
    }

    pub(super) fn peers(&self) -> Vec<EndpointId> {
        lock(&self.sessions).keys().cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.sessions).len()
    }
}
