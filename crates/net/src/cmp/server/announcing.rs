//! Announcements to those who observe them (RFC 9482 §2.6).

use std::sync::Arc;
use std::time::Duration;

use homefleet_coap::{Code, Response, content_format};
use tokio::sync::watch;

use crate::cmp::bulletin::Bulletin;
use crate::coap::{Incoming, Publisher, TopicId, spread};

/// The shortest time after which an observer is asked to register again.
const SHORTEST: Duration = Duration::from_secs(2);

/// The bulletins that are observed, each with a task that tells of its changes. They end with this.
pub(super) struct Announcing {
    again: Duration,
    /// In the order of their topics. There are no more than the service has.
    known: Vec<Bulletin>,
    alive: watch::Sender<()>,
}

impl Announcing {
    pub(super) fn new(again: Duration) -> Self {
        Self {
            again: again.max(SHORTEST),
            known: Vec::new(),
            alive: watch::Sender::new(()),
        }
    }

    /// What is announced now; whoever asks for more is told of it, as long as there is room.
    pub(super) fn serve(&mut self, incoming: &Incoming<'_>, bulletin: &Bulletin) -> Response {
        incoming.observed_as(self.topic(incoming, bulletin));
        // Like each notification.
        spread(response(&bulletin.current(), self.again))
    }

    fn topic(&mut self, incoming: &Incoming<'_>, bulletin: &Bulletin) -> TopicId {
        let known = self.known.iter().position(|known| known.is(bulletin));
        let topic = TopicId(known.unwrap_or(self.known.len()) as u64);
        if known.is_none() {
            self.known.push(bulletin.clone());
            tokio::spawn(tell(
                topic,
                bulletin.subscribe(),
                incoming.publisher(),
                self.again,
                self.alive.subscribe(),
            ));
        }
        topic
    }
}

/// Tells of each change, for as long as there is somebody to be told.
async fn tell(
    topic: TopicId,
    mut posted: watch::Receiver<Arc<Vec<u8>>>,
    publisher: Publisher,
    again: Duration,
    mut alive: watch::Receiver<()>,
) {
    loop {
        tokio::select! {
            changed = posted.changed() => if changed.is_err() { return },
            _ = alive.changed() => return,
        }
        let current = posted.borrow_and_update().clone();
        if !publisher.publish(topic, response(&current, again)).await {
            return;
        }
    }
}

/// The state of a bulletin. While nothing is announced it has no content.
fn response(current: &[u8], again: Duration) -> Response {
    let response = if current.is_empty() {
        Response::new(Code::CONTENT)
    } else {
        Response::content(content_format::PKIXCMP, current.to_vec())
    };
    response.max_age(u32::try_from(again.as_secs()).unwrap_or(u32::MAX))
}
