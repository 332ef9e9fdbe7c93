//! The life of one connection: it is made, driven, and after the wait of R-STOMP.7 made again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use homefleet_usp::mtp::retry::Retry;
use homefleet_usp::mtp::stomp::CloseReason;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::link::{self, End};
use super::stats::{count, uncount};
use super::{Sending, Shared, Shown, StompConnection, Wanted, lock};
use crate::mtp::{ChannelId, Event, SendError, State};
use crate::tls::{DialError, Stream, TlsError, dial};

/// How long the last events of a connection that is closed for good wait for room.
const LAST_EVENTS: Duration = Duration::from_secs(2);

/// The owner of one connection.
pub(super) struct Task {
    pub(super) name: String,
    pub(super) shared: Arc<Shared>,
    pub(super) wanted: watch::Receiver<Wanted>,
    pub(super) sends: mpsc::Receiver<Sending>,
    shown: Arc<Mutex<Shown>>,
    pub(super) retry: Retry,
    /// The settings of the connection that is made or open.
    pub(super) spec: StompConnection,
}

impl Task {
    pub(super) fn new(
        name: String,
        shared: Arc<Shared>,
        wanted: watch::Receiver<Wanted>,
        sends: mpsc::Receiver<Sending>,
        shown: Arc<Mutex<Shown>>,
    ) -> Self {
        let spec = wanted.borrow().spec.clone();
        Self {
            name,
            shared,
            wanted,
            sends,
            shown,
            retry: Retry::new(spec.retry),
            spec,
        }
    }

    /// Runs until the connection is not wanted any more.
    pub(super) async fn run(mut self) {
        while let Some(spec) = self.next_spec() {
            self.spec = spec;
            self.retry.set_policy(self.spec.retry);
            self.show(State::Connecting);
            let (end, was_up) = match self.dial().await {
                Ok(Some(stream)) => self.drive(stream).await,
                Ok(None) => continue,
                Err(end) => (end, None),
            };
            let reason = end.to_string();
            self.count(&end);
            let wait = match end {
                End::Left => None,
                _ => Some(self.retry.failed(random())),
            };
            self.show(State::Error(reason.clone()));
            if let Some(id) = was_up {
                uncount(&self.shared.counters.up);
                self.tell(Event::Down { id, reason }).await;
            }
            if let Some(wait) = wait {
                tracing::debug!(connection = self.name, ?wait, "STOMP is tried again");
                self.wait(wait).await;
            }
        }
        self.refuse_sends();
    }

    /// What is to be connected to; `None` when nothing is any more.
    fn next_spec(&mut self) -> Option<StompConnection> {
        if self.wanted.has_changed().is_err() {
            return None;
        }
        let wanted = self.wanted.borrow_and_update();
        (!wanted.closing).then(|| wanted.spec.clone())
    }

    /// The stream to the broker. `None`: something else is wanted by now.
    async fn dial(&mut self) -> Result<Option<Stream>, End> {
        let config = &self.shared.config;
        let tls = match (self.spec.encryption, &config.tls) {
            // For the broker, whose certificate is judged by its host's name: Endpoints are behind it.
            (true, Some(tls)) => Some((tls, None)),
            (true, None) => {
                return Err(failed(
                    "TLS is asked for, and there are no credentials for it",
                ));
            }
            (false, _) if config.allow_plain => None,
            (false, _) => {
                return Err(failed(
                    "a connection without TLS, which is not enabled here",
                ));
            }
        };
        let dialling = dial(&self.spec.host, self.spec.port, tls);
        tokio::pin!(dialling);
        loop {
            tokio::select! {
                dialled = &mut dialling => return match dialled {
                    Ok(stream) => Ok(Some(stream)),
                    Err(error @ DialError::Tls(TlsError::Refused(_) | TlsError::Undecided)) => {
                        Err(End::Untrusted(error.to_string()))
                    }
                    Err(error) => Err(End::Failed(error.to_string())),
                },
                changed = self.wanted.changed() => {
                    let wanted = self.wanted.borrow();
                    if changed.is_err() || wanted.closing || self.spec.needs_reconnect(&wanted.spec) {
                        return Ok(None);
                    }
                }
                Some(sending) = self.sends.recv() => refuse(sending),
            }
        }
    }

    /// Whether the connection is to be left: it is closed, or its settings are others.
    pub(super) fn is_other_wanted(&self) -> bool {
        let wanted = self.wanted.borrow();
        wanted.closing || self.spec.needs_reconnect(&wanted.spec)
    }

    /// Drives a connection until its end; tells its channel if it came up.
    async fn drive(&mut self, stream: Stream) -> (End, Option<ChannelId>) {
        let distrusted = stream.distrusted();
        let mut driven = link::Link::new(self, stream.identity());
        let end = driven.run(stream, distrusted).await;
        let (id, rest) = driven.into_rest();
        for event in rest {
            if !self.tell(event).await {
                break;
            }
        }
        (end, id)
    }

    /// Waits before the next attempt; other settings are tried at once.
    async fn wait(&mut self, wait: Duration) {
        let until = Instant::now() + wait;
        loop {
            tokio::select! {
                () = sleep_until(until) => return,
                // Whether there is still somebody who wants something is asked next.
                _changed = self.wanted.changed() => return,
                Some(sending) = self.sends.recv() => refuse(sending),
            }
        }
    }

    /// Tells an event, when there is room for it. A connection that is closed for good does not wait for ever: says whether
    /// there was room.
    async fn tell(&mut self, event: Event) -> bool {
        let events = self.shared.config.events.clone();
        let closing = async {
            // An end of the sender is an end of the connection.
            drop(self.wanted.wait_for(|wanted| wanted.closing).await);
            tokio::time::sleep(LAST_EVENTS).await;
        };
        tokio::select! {
            // With nobody there to hear it, it is told to nobody.
            _told = events.send(event) => true,
            () = closing => false,
        }
    }

    pub(super) fn show(&self, state: State) {
        let mut shown = lock(&self.shown);
        if state != State::Up {
            shown.subscription = None;
        }
        shown.status.becomes(state, self.retry.count());
    }

    pub(super) fn show_up(&self, subscription: super::Subscription) {
        let mut shown = lock(&self.shown);
        shown.subscription = Some(subscription);
        shown.status.becomes(State::Up, self.retry.count());
    }

    fn count(&self, end: &End) {
        let counters = &self.shared.counters;
        match end {
            End::Left => return,
            End::Closed(CloseReason::Server { .. }) => count(&counters.broker_errors),
            End::Closed(CloseReason::HeartBeatMissed) => count(&counters.heart_beats_missed),
            End::Closed(CloseReason::Decode(_) | CloseReason::Violation(_)) => {
                count(&counters.protocol_errors);
            }
            End::Untrusted(_) => count(&counters.untrusted),
            End::Closed(_) | End::Failed(_) => {}
        }
        count(&counters.failed);
        tracing::info!(connection = self.name, reason = %end, "STOMP connection failed");
    }

    fn refuse_sends(&mut self) {
        self.sends.close();
        while let Ok(sending) = self.sends.try_recv() {
            refuse(sending);
        }
    }
}

fn failed(reason: &str) -> End {
    End::Failed(reason.to_owned())
}

/// Nothing is sent while the connection is not up.
fn refuse(sending: Sending) {
    // Who asked may have gone.
    let _asked = sending.done.send(Err(SendError::NotConnected));
}

/// 32 random bits; without a random source, the longest wait.
fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX)
}
