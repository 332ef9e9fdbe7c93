//! Records on their way out: one task for each destination, so that they stay in order.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use homefleet_net::mtp::{CoapMtp, Destination, SendError};
use tokio::sync::mpsc;

use super::Event;
use crate::engine::Transmit;

/// Records that wait for one destination.
const QUEUE: usize = 256;

/// Destinations at the same time.
const MAX_DESTINATIONS: usize = 256;

/// Destinations of one Endpoint: whoever names ever other addresses to answer to takes no room of others.
const MAX_PER_ENDPOINT: usize = 8;

/// A task without work ends.
const IDLE: Duration = Duration::from_secs(120);

/// A Record that waited this long behind one that could not be delivered is given up with it.
const STALE: Duration = Duration::from_secs(30);

struct Item {
    transmit: Transmit,
    queued: Instant,
}

/// The tasks by destination.
pub(super) struct Senders {
    mtp: CoapMtp,
    events: mpsc::Sender<Event>,
    queues: BTreeMap<(String, String), mpsc::Sender<Item>>,
    dropped: u64,
}

impl Senders {
    pub(super) fn new(mtp: CoapMtp, events: mpsc::Sender<Event>) -> Self {
        Self {
            mtp,
            events,
            queues: BTreeMap::new(),
            dropped: 0,
        }
    }

    /// Records that no queue had room for.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Queues a Record; inside a tokio runtime.
    pub(super) fn send(&mut self, transmit: Transmit) {
        let uri = match transmit.uri.parse() {
            Ok(uri) => uri,
            Err(error) => {
                tracing::warn!(
                    uri = transmit.uri,
                    ?error,
                    "no CoAP URI: nothing is sent there"
                );
                return;
            }
        };
        self.queues.retain(|_, queue| !queue.is_closed());
        let key = (transmit.uri.clone(), transmit.endpoint_id.clone());
        if !has_room(&self.queues, &key) {
            self.dropped += 1;
            return;
        }
        let queue = self.queues.entry(key).or_insert_with(|| {
            let (queue, items) = mpsc::channel(QUEUE);
            let to = Destination {
                uri,
                endpoint_id: transmit.endpoint_id.parse().ok(),
            };
            tokio::spawn(work(self.mtp.clone(), to, items, self.events.clone()));
            queue
        });
        if queue
            .try_send(Item {
                transmit,
                queued: Instant::now(),
            })
            .is_err()
        {
            self.dropped += 1;
        }
    }
}

/// Whether there is a queue for this destination, or room for one more.
fn has_room<T>(queues: &BTreeMap<(String, String), T>, key: &(String, String)) -> bool {
    let of_endpoint = |(_, endpoint): &&(String, String)| *endpoint == key.1;
    queues.contains_key(key)
        || (queues.len() < MAX_DESTINATIONS
            && queues.keys().filter(of_endpoint).count() < MAX_PER_ENDPOINT)
}

/// Sends what is queued for one destination, one after the other.
async fn work(
    mtp: CoapMtp,
    to: Destination,
    mut items: mpsc::Receiver<Item>,
    events: mpsc::Sender<Event>,
) {
    let mut down = false;
    loop {
        let item = match tokio::time::timeout(IDLE, items.recv()).await {
            Ok(item) => item,
            Err(_) => {
                // What was queued at this very moment is still sent.
                items.close();
                items.try_recv().ok()
            }
        };
        let Some(Item { transmit, queued }) = item else {
            return;
        };
        let result = if down && queued.elapsed() > STALE {
            Err(SendError::Timeout)
        } else {
            mtp.send(&to, transmit.record).await
        };
        down = result.is_err();
        match &result {
            Ok(()) => {}
            Err(SendError::Untrusted(refusal)) => {
                tracing::warn!(endpoint_id = transmit.endpoint_id, %refusal, "refused the controller's certificate");
            }
            Err(error) => tracing::debug!(uri = transmit.uri, %error, "Record not delivered"),
        }
        if let Some(controller) = transmit.controller {
            let delivered = result.is_ok();
            if events
                .send(Event::Delivery {
                    controller,
                    delivered,
                })
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_endpoint_with_many_addresses_leaves_room_for_others() {
        let key = |uri: usize, endpoint: &str| (format!("coaps://{uri}/"), endpoint.to_owned());
        let mut queues = BTreeMap::new();
        for uri in 0..MAX_DESTINATIONS {
            let wanted = key(uri, "proto::a");
            if has_room(&queues, &wanted) {
                queues.insert(wanted, ());
            }
        }
        assert_eq!(queues.len(), MAX_PER_ENDPOINT);
        assert!(has_room(&queues, &key(0, "proto::a")), "known already");
        assert!(has_room(&queues, &key(0, "proto::b")));
    }
}
