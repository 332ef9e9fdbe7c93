//! `/api/v1/events`: the live stream as server-sent events.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::response::sse::{Event as Sse, KeepAlive, KeepAliveStream, Sse as Stream};
use homefleet_api::Event;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::devices::query;
use super::{Caller, Refusal};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventQuery {
    device: Option<String>,
}

pub(super) async fn stream(
    Caller(access): Caller,
    ask: Result<Query<EventQuery>, QueryRejection>,
) -> Result<Stream<KeepAliveStream<Live>>, Refusal> {
    let mut events = access.events(query(ask)?.device)?;
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                // A listener that went away is noticed without an event.
                () = sender.closed() => None,
            };
            let Some(event) = event else { return };
            if sender.send(event).await.is_err() {
                return;
            }
        }
    });
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(15));
    Ok(Stream::new(Live(receiver)).keep_alive(keep_alive))
}

/// The stream of one listener.
pub(super) struct Live(mpsc::Receiver<Arc<Event>>);

impl tokio_stream::Stream for Live {
    type Item = Result<Sse, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|event| {
            let event = event?;
            // The types are our own and serialise; an empty event is ignored by listeners.
            let data = serde_json::to_string(&*event).unwrap_or_default();
            Some(Ok(Sse::default().event(event.kind()).data(data)))
        })
    }
}
