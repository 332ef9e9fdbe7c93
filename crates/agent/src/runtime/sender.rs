//! Records on their way out: one task for each destination, so that they stay in order.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use homefleet_net::mtp::{Route, SendError};
use tokio::sync::{mpsc, oneshot};

use super::{Event, network::Network};
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

enum Item {
    Send(Box<Transmit>, Instant),
    /// Everything before it is sent, or given up.
    Flush(oneshot::Sender<()>),
}

struct Queue {
    route: Route,
    items: mpsc::Sender<Item>,
}

/// The tasks by destination.
pub(super) struct Senders {
    network: Network,
    events: mpsc::Sender<Event>,
    queues: BTreeMap<(String, String), Queue>,
    dropped: u64,
}

impl Senders {
    pub(super) fn new(network: Network, events: mpsc::Sender<Event>) -> Self {
        Self {
            network,
            events,
            queues: BTreeMap::new(),
            dropped: 0,
        }
    }

    /// Records that no queue had room for.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Queues a Record; inside a tokio runtime. Gives a notification back that there is no room for.
    pub(super) fn send(&mut self, transmit: Transmit) -> Option<Transmit> {
        self.queues.retain(|_, queue| !queue.items.is_closed());
        let key = (transmit.route.to_string(), transmit.endpoint_id.to_string());
        if !has_room(&self.queues, &key) {
            self.dropped += 1;
            return Some(transmit);
        }
        let queue = self.queues.entry(key).or_insert_with(|| {
            let (queue, items) = mpsc::channel(QUEUE);
            tokio::spawn(work(self.network.clone(), items, self.events.clone()));
            Queue {
                route: transmit.route.clone(),
                items: queue,
            }
        });
        match queue
            .items
            .try_send(Item::Send(Box::new(transmit), Instant::now()))
        {
            Ok(()) => None,
            Err(
                mpsc::error::TrySendError::Full(item) | mpsc::error::TrySendError::Closed(item),
            ) => {
                self.dropped += 1;
                match item {
                    Item::Send(transmit, _) => Some(*transmit),
                    Item::Flush(_) => None,
                }
            }
        }
    }

    /// Resolves each when everything queued so far for one of the destinations that `affected` names is sent.
    pub(super) fn flush(&self, affected: impl Fn(&Route) -> bool) -> Vec<oneshot::Receiver<()>> {
        let mut done = Vec::new();
        for queue in self.queues.values().filter(|queue| affected(&queue.route)) {
            let (sent, flushed) = oneshot::channel();
            // With a full queue there is nothing to wait for that would end in time.
            if queue.items.try_send(Item::Flush(sent)).is_ok() {
                done.push(flushed);
            }
        }
        done
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
async fn work(network: Network, mut items: mpsc::Receiver<Item>, events: mpsc::Sender<Event>) {
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
        let (mut transmit, queued) = match item {
            None => return,
            Some(Item::Flush(done)) => {
                // Whoever waited may have given up.
                done.send(()).ok();
                continue;
            }
            Some(Item::Send(transmit, queued)) => (transmit, queued),
        };
        let result = if down && queued.elapsed() > STALE {
            Err(SendError::Timeout)
        } else {
            // A notification that is not delivered is sent another way.
            let record = match transmit.notification {
                Some(_) => transmit.record.clone(),
                None => std::mem::take(&mut transmit.record),
            };
            network
                .send(&transmit.route, &transmit.endpoint_id, record)
                .await
        };
        down = result.is_err();
        match &result {
            Ok(()) => {}
            Err(SendError::Untrusted(refusal)) => {
                tracing::warn!(endpoint_id = %transmit.endpoint_id, %refusal, "refused the controller's certificate");
            }
            Err(error) => {
                tracing::debug!(route = %transmit.route, %error, "Record not delivered");
            }
        }
        if transmit.notification.is_some() {
            let delivered = result.is_ok();
            if events
                .send(Event::Delivery {
                    transmit,
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
