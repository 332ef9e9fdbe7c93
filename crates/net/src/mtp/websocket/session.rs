//! A session on its connection: one task reads, writes, and keeps it alive.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use homefleet_trust::PeerIdentity;
use homefleet_usp::EndpointId;
use homefleet_usp::mtp::websocket::{self as binding, CloseReason, Inbound, Session};
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use crate::mtp::{Channel, Connect, Event, Origin, Route, proves};
use crate::tls::Stream;

use super::Shared;
use super::peers::{Inbox, Line, Place};
use super::stats::{add, count};
use super::wire::{Step, Wire};

/// Far enough away to be never.
const NEVER: Duration = Duration::from_secs(86_400 * 365);

/// Resolves with the reason when the peer is no longer trusted.
pub(super) type Distrusted = Pin<Box<dyn Future<Output = String> + Send>>;

/// Who proved to be at the other end.
pub(super) struct Proof {
    /// `None` without security.
    pub(super) identity: Option<Arc<PeerIdentity>>,
    pub(super) distrusted: Distrusted,
}

impl Proof {
    /// By the certificate of the connection.
    pub(super) fn of(stream: &Stream) -> Self {
        let distrusted = stream.distrusted();
        Self {
            identity: stream.identity(),
            distrusted: Box::pin(async { distrusted.await.to_string() }),
        }
    }

    /// The one Endpoint that the certificate names, if it is one.
    pub(super) fn sole_endpoint(&self) -> Option<EndpointId> {
        match self.identity.as_deref()?.endpoint_ids.as_slice() {
            // A wildcard is no Endpoint ID.
            [id] => id.parse().ok(),
            _ => None,
        }
    }
}

/// A connection that the opening handshake made a session.
pub(super) struct Opened {
    pub(super) stream: WebSocketStream<Stream>,
    pub(super) line: (Arc<Line>, Inbox),
    /// Its name in our configuration.
    pub(super) connection: Option<String>,
    /// The other Endpoint, if the handshake told it.
    pub(super) peer: Option<EndpointId>,
    pub(super) proof: Proof,
    /// How often a Ping is sent.
    pub(super) keep_alive: Option<Duration>,
    /// Called once it is the session with its Endpoint.
    pub(super) on_up: Box<dyn FnOnce() + Send>,
}

/// Runs a session until it has ended.
pub(super) async fn run(shared: Arc<Shared>, opened: Opened) -> CloseReason {
    let mut running = Running::new(shared, opened);
    let reason = running.run().await;
    running.end(&reason).await;
    reason
}

struct Running {
    shared: Arc<Shared>,
    wire: Wire,
    line: Arc<Line>,
    connection: Option<String>,
    identity: Option<Arc<PeerIdentity>>,
    distrusted: Distrusted,
    /// What the application has not taken yet.
    pending: VecDeque<Event>,
    on_up: Option<Box<dyn FnOnce() + Send>>,
    /// Whether the application has been told of the session.
    is_up: bool,
    counted: binding::Stats,
}

impl Running {
    fn new(shared: Arc<Shared>, opened: Opened) -> Self {
        let config = binding::Config {
            keep_alive: opened.keep_alive,
            // What waits is bounded by the line.
            max_queued: usize::MAX,
            ..shared.config.session.clone()
        };
        let session = Session::new(Instant::now(), opened.peer, config);
        let (line, inbox) = opened.line;
        Self {
            wire: Wire::new(opened.stream, session, Arc::clone(&line), inbox),
            shared,
            line,
            connection: opened.connection,
            identity: opened.proof.identity,
            distrusted: opened.proof.distrusted,
            pending: VecDeque::new(),
            on_up: Some(opened.on_up),
            is_up: false,
            counted: binding::Stats::default(),
        }
    }

    async fn run(&mut self) -> CloseReason {
        let shared = Arc::clone(&self.shared);
        let mut alarm = Box::pin(sleep_until((Instant::now() + NEVER).into()));
        let mut was_behind = false;
        loop {
            if !self.is_up && self.wire.session.is_open() {
                self.identify();
            }
            if let Some(reason) = self.drain() {
                return reason;
            }
            self.deliver();
            let is_behind = !self.pending.is_empty();
            if std::mem::replace(&mut was_behind, is_behind) && !is_behind {
                // What answers a Ping may have been there all the time, unread.
                let session = &mut self.wire.session;
                session.handle_input(Instant::now(), Inbound::Pong);
            }
            self.set(&mut alarm, is_behind);
            tokio::select! {
                biased;
                reason = &mut self.distrusted => self.distrust(reason),
                () = &mut alarm => self.alarm(),
                permit = shared.config.events.reserve(), if is_behind => {
                    match (permit, self.pending.pop_front()) {
                        (Ok(permit), Some(event)) => permit.send(event),
                        // Nobody listens any more.
                        _ => self.pending.clear(),
                    }
                }
                step = poll_fn(|cx| self.wire.poll_step(!is_behind, &shared.counters, cx)) => {
                    self.step(step);
                }
            }
            self.count();
        }
    }

    /// The session's Endpoint is known: it is told of, unless there is another session with it (R-WS.4), or the
    /// certificate is not its (R-SEC.0a).
    fn identify(&mut self) {
        let Some(peer) = self.wire.session.peer().cloned() else {
            return;
        };
        let now = Instant::now();
        let own = &self.shared.config.endpoint_id;
        let is_proved = proves(self.identity.as_deref(), &peer);
        if peer == *own || !is_proved {
            let why = if is_proved {
                "it says to be this Endpoint itself".to_owned()
            } else {
                format!("the certificate is not that of {peer}")
            };
            self.wire.session.fail(now, CloseReason::Untrusted(why));
            return;
        }
        match self.shared.peers.identify(own, &peer, &self.line) {
            Place::Refused => {
                self.wire.session.replace(now);
                return;
            }
            Place::TakenOver => count(&self.shared.counters.replaced),
            Place::Taken => {}
        }
        let channel = Channel {
            id: self.line.id,
            connection: self.connection.clone(),
            endpoint_id: Some(peer.clone()),
            identity: self.identity.clone(),
            connect: Connect::WebSocket,
        };
        for first in self.shared.config.greeter.greet(&channel) {
            let over_this =
                matches!(first.route, Route::WebSocket { secure } if self.line.secure || !secure);
            if over_this
                && first.endpoint_id == peer
                && let Err(error) = self.wire.send(first.record)
            {
                tracing::warn!(%error, "what was to be sent first over a WebSocket session is not");
            }
        }
        tracing::debug!(%peer, opener = ?self.line.opener, "WebSocket session is up");
        self.is_up = true;
        if let Some(on_up) = self.on_up.take() {
            on_up();
        }
        // Before the Record that told who it is.
        self.pending.push_front(Event::Up(channel));
    }

    /// Takes what the session tells; its reason when it is over.
    fn drain(&mut self) -> Option<CloseReason> {
        while let Some(event) = self.wire.session.poll_event() {
            let origin = || Origin {
                channel: Some(self.line.id),
                identity: self.identity.clone(),
                reply_to: Some(Route::WebSocket {
                    secure: self.line.secure,
                }),
            };
            let event = match event {
                binding::Event::Closed(reason) => return Some(reason),
                // Of a session that is not, or no longer, the one with its Endpoint nothing is taken.
                _ if !self.is_up || !self.wire.session.is_open() => continue,
                binding::Event::Record(record) => Event::Record {
                    record: Box::new(record),
                    origin: origin(),
                },
                binding::Event::Erroneous(error) => Event::Erroneous {
                    error,
                    origin: origin(),
                },
            };
            self.pending.push_back(event);
        }
        None
    }

    /// Hands on what is pending, as far as there is room.
    fn deliver(&mut self) {
        while let Some(event) = self.pending.pop_front() {
            match self.shared.config.events.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(event)) => {
                    count(&self.shared.counters.held_back);
                    self.pending.push_front(event);
                    return;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => self.pending.clear(),
            }
        }
    }

    /// Nothing of the peer is taken any more.
    fn distrust(&mut self, reason: String) {
        self.distrusted = Box::pin(std::future::pending());
        self.pending
            .retain(|event| !matches!(event, Event::Record { .. } | Event::Erroneous { .. }));
        let reason = CloseReason::Untrusted(reason);
        self.wire.session.fail(Instant::now(), reason);
        // Nor can it be told.
        self.wire.session.handle_disconnect();
    }

    fn stalled_at(&self) -> Option<Instant> {
        let longest = self.shared.config.limits.stalled;
        self.wire.unwritten().map(|since| since + longest)
    }

    /// Sets the alarm to when something is due.
    fn set(&self, alarm: &mut Pin<Box<Sleep>>, is_behind: bool) {
        let session = &self.wire.session;
        // While the session is not read, nothing can answer a Ping.
        let due = session
            .poll_timeout()
            .filter(|_| !is_behind || !session.is_open());
        let due = due.into_iter().chain(self.stalled_at()).min();
        let is_set = match due {
            Some(due) => alarm.deadline() == due.into(),
            None => alarm.deadline() > (Instant::now() + NEVER / 2).into(),
        };
        if !is_set {
            let due = due.unwrap_or_else(|| Instant::now() + NEVER);
            alarm.as_mut().reset(due.into());
        }
    }

    fn alarm(&mut self) {
        let now = Instant::now();
        if self.stalled_at().is_some_and(|at| at <= now) {
            count(&self.shared.counters.unresponsive);
            self.wire.session.handle_disconnect();
        } else {
            self.wire.session.handle_timeout(now);
        }
    }

    fn step(&mut self, step: Step) {
        let now = Instant::now();
        match step {
            Step::Changed => {}
            Step::Read(message) => {
                let message = match &message {
                    Message::Text(_) => Inbound::Text,
                    Message::Binary(bytes) => Inbound::Binary(bytes),
                    Message::Ping(_) => Inbound::Ping,
                    Message::Pong(_) => Inbound::Pong,
                    Message::Close(frame) => {
                        Inbound::Close(frame.as_ref().map(|frame| frame.code.into()))
                    }
                    Message::Frame(_) => return,
                };
                self.wire.session.handle_input(now, message);
            }
            Step::Ended | Step::Failed(WsError::ConnectionClosed | WsError::AlreadyClosed) => {
                self.wire.session.handle_disconnect();
            }
            Step::Failed(error) => {
                match error {
                    WsError::Capacity(_) => self.wire.session.handle_input(now, Inbound::TooLarge),
                    // Only text has to be UTF-8, and text is not taken anyway (R-WS.16).
                    WsError::Utf8(_) => self.wire.session.handle_input(now, Inbound::Text),
                    WsError::Io(error) if error.kind() == ErrorKind::PermissionDenied => {
                        self.distrust(error.to_string());
                    }
                    WsError::Protocol(error) if !is_disconnect(&error) => {
                        let reason = CloseReason::Protocol(error.to_string());
                        self.wire.session.fail(now, reason);
                    }
                    _ => {}
                }
                // Nothing more can be read.
                self.wire.session.handle_disconnect();
            }
        }
    }

    fn count(&mut self) {
        let counters = &self.shared.counters;
        let now = self.wire.session.stats();
        let before = std::mem::replace(&mut self.counted, now);
        if now == before {
            return;
        }
        add(&counters.records_in, now.records_in - before.records_in);
        add(
            &counters.erroneous_records,
            now.erroneous_records - before.erroneous_records,
        );
        add(
            &counters.forged_records,
            now.forged_records - before.forged_records,
        );
        add(&counters.pings_out, now.pings_out - before.pings_out);
    }

    /// Writes what is left, tells of the end, and waits until the peer has read it.
    async fn end(&mut self, reason: &CloseReason) {
        self.count_end(reason);
        let peers = &self.shared.peers;
        peers.part(self.wire.session.peer(), self.line.id);
        let limit = self.shared.config.session.close_timeout;
        let counters = &self.shared.counters;
        let last = poll_fn(|cx| self.wire.poll_write(counters, cx));
        let is_there = !matches!(reason, CloseReason::Lost | CloseReason::KeepAlive);
        let is_said = is_there && timeout(limit, last).await.is_ok();
        self.wire.abandon();
        if self.is_up {
            for event in self.pending.drain(..) {
                // Nobody listens any more.
                let _told = self.shared.config.events.send(event).await;
            }
            let down = Event::Down {
                id: self.line.id,
                reason: reason.to_string(),
            };
            let _told = self.shared.config.events.send(down).await;
        }
        if is_said {
            let _in_time = timeout(limit, self.wire.linger(self.line.opener)).await;
        }
        tracing::debug!(id = self.line.id.0, %reason, "WebSocket session has ended");
    }

    fn count_end(&self, reason: &CloseReason) {
        let counters = &self.shared.counters;
        let counter = match reason {
            CloseReason::Text | CloseReason::Record(_) => &counters.unextractable,
            CloseReason::TooLarge(_) => &counters.too_large,
            CloseReason::Protocol(_) => &counters.protocol_errors,
            CloseReason::Untrusted(_) => &counters.distrusted,
            CloseReason::KeepAlive => &counters.unresponsive,
            CloseReason::Lost => &counters.lost,
            _ => return,
        };
        count(counter);
    }
}

/// The connection ended, which is nobody's breach of the protocol.
fn is_disconnect(error: &ProtocolError) -> bool {
    matches!(error, ProtocolError::ResetWithoutClosingHandshake)
}
