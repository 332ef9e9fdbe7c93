//! What the CoAP MTP receives, as an event like any other's.

use homefleet_net::mtp::{Event, Origin, Received, Route};
use tokio::sync::mpsc;

/// Passes on what the CoAP MTP received, until either end has gone.
pub(crate) async fn forward(mut records: mpsc::Receiver<Received>, events: mpsc::Sender<Event>) {
    while let Some(received) = records.recv().await {
        let event = Event::Record {
            record: Box::new(received.record),
            origin: Origin {
                channel: None,
                identity: received.identity,
                reply_to: Some(Route::Coap(received.reply_to.uri)),
            },
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}
