//! The live stream of what happens.

use std::sync::Arc;

use homefleet_api::Event;
use tokio::sync::broadcast::{self, error::RecvError};

use super::Access;

/// Events from now on. A listener that is too slow is told how many it missed, never blocks anybody.
#[derive(Debug)]
pub struct EventStream {
    access: Access,
    device: Option<String>,
    events: broadcast::Receiver<Arc<Event>>,
}

impl EventStream {
    pub(super) fn new(
        access: Access,
        device: Option<String>,
        events: broadcast::Receiver<Arc<Event>>,
    ) -> Self {
        Self {
            access,
            device,
            events,
        }
    }

    /// The next event; `None` when the server stops or the token no longer stands.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        loop {
            let event = match self.events.recv().await {
                Ok(event) => event,
                Err(RecvError::Lagged(count)) => Arc::new(Event::Missed { count }),
                Err(RecvError::Closed) => return None,
            };
            if !self.access.is_valid() {
                return None;
            }
            let wanted = match (&self.device, event.device()) {
                (Some(wanted), Some(device)) => wanted == device,
                _ => true,
            };
            if wanted {
                return Some(event);
            }
        }
    }
}
