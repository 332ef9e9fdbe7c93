//! The one point where messages are dropped: before the channel.

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::super::received::Received;

/// Messages of one batch at most.
const MAX_MESSAGES: usize = 4096;
/// Bytes of their contents after which no more are added.
const MAX_BYTES: usize = 1 << 20;

/// Gathers messages into batches. While the channel is full the next batch grows, up to its bound; what comes then is dropped and counted.
pub(super) struct Outbox {
    channel: mpsc::Sender<Vec<Received>>,
    batch: Vec<Received>,
    bytes: usize,
    delivered: u64,
    dropped: u64,
}

impl Outbox {
    pub(super) fn new(channel: mpsc::Sender<Vec<Received>>) -> Self {
        Self {
            channel,
            batch: Vec::new(),
            bytes: 0,
            delivered: 0,
            dropped: 0,
        }
    }

    pub(super) fn push(&mut self, received: Received) {
        if self.batch.len() >= MAX_MESSAGES || self.bytes >= MAX_BYTES {
            self.flush();
            if !self.batch.is_empty() {
                self.dropped += 1;
                return;
            }
        }
        self.bytes += received.message.len();
        self.batch.push(received);
    }

    /// Hands the batch on, if the channel has room.
    pub(super) fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let count = self.batch.len() as u64;
        // As many as now may come next.
        let next = Vec::with_capacity(self.batch.len());
        match self
            .channel
            .try_send(std::mem::replace(&mut self.batch, next))
        {
            Ok(()) => {
                self.delivered += count;
                self.bytes = 0;
            }
            Err(TrySendError::Full(batch)) => self.batch = batch,
            Err(TrySendError::Closed(_)) => {
                self.dropped += count;
                self.bytes = 0;
            }
        }
    }

    /// Gives up what the channel has no room for.
    pub(super) fn end(&mut self) {
        self.flush();
        self.dropped += self.batch.len() as u64;
        self.batch.clear();
    }

    /// Whether something waits for room in the channel.
    pub(super) fn is_waiting(&self) -> bool {
        !self.batch.is_empty()
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}
