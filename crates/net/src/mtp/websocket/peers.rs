//! The one session with each Endpoint (R-WS.4), and what is sent over it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use homefleet_usp::EndpointId;
use homefleet_usp::mtp::websocket::{CloseReason, Config, Opener, newcomer_stays};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::mtp::{ChannelId, SendError};

/// What a waiting Record costs besides its bytes.
const OVERHEAD: usize = 128;

/// What a session is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Send this.
    Send(Parcel),
    /// Ping so often.
    KeepAlive(Option<Duration>),
    /// End.
    Close(CloseReason),
}

/// A Record on its way to the socket.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) record: Vec<u8>,
    /// What it counts in [`Line::queued`].
    pub(super) cost: usize,
    /// Told once it is written, or why it is not.
    pub(super) done: oneshot::Sender<Result<(), SendError>>,
}

/// What a session's task is told by its [`Line`].
pub(super) type Inbox = mpsc::UnboundedReceiver<Command>;

/// The way to a session's task.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) id: ChannelId,
    pub(super) opener: Opener,
    pub(super) secure: bool,
    /// The name of the listener that accepted it.
    listener: Option<String>,
    since: Instant,
    commands: mpsc::UnboundedSender<Command>,
    /// Bytes that wait for the socket: what bounds the queue of commands.
    queued: AtomicUsize,
    max_queued: usize,
    max_record: usize,
}

impl Line {
    /// For a session with these bounds.
    pub(super) fn new(
        config: &Config,
        opener: Opener,
        secure: bool,
        listener: Option<&str>,
    ) -> (Arc<Self>, Inbox) {
        let (commands, inbox) = mpsc::unbounded_channel();
        let line = Self {
            id: ChannelId::next(),
            opener,
            secure,
            listener: listener.map(str::to_owned),
            since: Instant::now(),
            commands,
            queued: AtomicUsize::new(0),
            max_queued: config.max_queued,
            max_record: config.max_record,
        };
        (Arc::new(line), inbox)
    }

    /// Tells the session; whether it is still there.
    pub(super) fn tell(&self, command: Command) -> bool {
        self.commands.send(command).is_ok()
    }

    /// Sends a Record and waits until it is written to the socket.
    pub(super) async fn send(&self, record: Vec<u8>) -> Result<(), SendError> {
        if record.len() > self.max_record {
            return Err(SendError::TooLarge);
        }
        let cost = record.len() + OVERHEAD;
        let room = |queued: usize| {
            // One Record always has room when nothing waits.
            (queued == 0 || queued + cost <= self.max_queued).then_some(queued + cost)
        };
        self.queued
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .map_err(|_| SendError::Busy)?;
        let (done, written) = oneshot::channel();
        if !self.tell(Command::Send(Parcel { record, cost, done })) {
            return Err(SendError::NotConnected);
        }
        written.await.unwrap_or(Err(SendError::Lost))
    }

    /// A Record has gone, one way or the other.
    pub(super) fn gone(&self, cost: usize) {
        self.queued.fetch_sub(cost, Ordering::Relaxed);
    }
}

/// Whether a session is the one with its Endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is.
    Taken,
    /// It is, and the one before was told to end.
    TakenOver,
    /// Another one is and stays.
    Refused,
}

#[derive(Debug, Default)]
struct Table {
    /// Every session, whether its Endpoint is known or not.
    all: HashMap<ChannelId, Arc<Line>>,
    by_endpoint: HashMap<EndpointId, Arc<Line>>,
    /// No more come in.
    is_closed: bool,
}

/// A session's place among all, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    peers: Arc<Peers>,
    id: ChannelId,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.peers.leave(self.id);
    }
}

/// Who there is a session with.
#[derive(Debug, Default)]
pub(super) struct Peers {
    table: Mutex<Table>,
    /// Whenever a session has gone.
    left: Notify,
}

impl Peers {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session begins; `None` when there are `max` already.
    pub(super) fn enter(self: &Arc<Self>, line: &Arc<Line>, max: usize) -> Option<Seat> {
        let mut table = self.table();
        if table.is_closed || table.all.len() >= max {
            return None;
        }
        table.all.insert(line.id, Arc::clone(line));
        Some(Seat {
            peers: Arc::clone(self),
            id: line.id,
        })
    }

    /// A session's Endpoint is known: whether it is the one session with it (R-WS.4).
    pub(super) fn identify(&self, own: &EndpointId, peer: &EndpointId, line: &Arc<Line>) -> Place {
        let mut table = self.table();
        let before = table.by_endpoint.get(peer);
        if before.is_some_and(|old| !stays(own, peer, old, line)) {
            return Place::Refused;
        }
        match table.by_endpoint.insert(peer.clone(), Arc::clone(line)) {
            Some(old) => {
                old.tell(Command::Close(CloseReason::Replaced));
                Place::TakenOver
            }
            None => Place::Taken,
        }
    }

    /// A session is over: it is not the one with its Endpoint any more.
    pub(super) fn part(&self, peer: Option<&EndpointId>, id: ChannelId) {
        let mut table = self.table();
        if let Some(peer) = peer
            && table
                .by_endpoint
                .get(peer)
                .is_some_and(|line| line.id == id)
        {
            table.by_endpoint.remove(peer);
        }
        drop(table);
        self.left.notify_waiters();
    }

    /// A session's connection has ended.
    fn leave(&self, id: ChannelId) {
        self.table().all.remove(&id);
        self.left.notify_waiters();
    }

    /// The session with an Endpoint.
    pub(super) fn with(&self, peer: &EndpointId) -> Option<Arc<Line>> {
        self.table().by_endpoint.get(peer).cloned()
    }

    /// How many sessions there are.
    pub(super) fn len(&self) -> usize {
        self.table().all.len()
    }

    /// Tells all sessions to end, and lets none begin.
    pub(super) fn end_all(&self, reason: &CloseReason) {
        let mut table = self.table();
        table.is_closed = true;
        for line in table.all.values() {
            line.tell(Command::Close(reason.clone()));
        }
    }

    /// Waits until there is no session.
    pub(super) async fn emptiness(&self) {
        self.until(|peers| peers.len() == 0).await;
    }

    /// Ends the sessions that this listener accepted.
    pub(super) async fn end_those_of(&self, listener: &str) {
        let of_it = |line: &&Arc<Line>| line.listener.as_deref() == Some(listener);
        for line in self.table().all.values().filter(of_it) {
            line.tell(Command::Close(CloseReason::GoingAway));
        }
        self.until(|peers| !peers.table().all.values().any(|line| of_it(&line)))
            .await;
    }

    /// Waits until there is no session with `peer`.
    pub(super) async fn absence(&self, peer: &EndpointId) {
        self.until(|peers| peers.with(peer).is_none()).await;
    }

    async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if is_so(self) {
                return;
            }
            left.await;
        }
    }
}

/// Whether the new session stays. One whose Endpoint is proved never gives way to one that only says so.
fn stays(own: &EndpointId, peer: &EndpointId, old: &Line, new: &Line) -> bool {
    if old.secure != new.secure {
        return new.secure;
    }
    newcomer_stays(own, peer, old.opener, old.since.elapsed(), new.opener)
}
