//! What a message means, keep-alive and closing (R-WS.14 to R-WS.18).
//!
//! ```text
//! Open ── text, no Record ──> Close 1003 ─┐
//!      ── too large ────────> Close 1009 ─┤
//!      ── close(), fail() ──> Close ──────┴─> Closing ── the peer's Close, or too long ──> Closed
//!      ── the peer's Close ─> Close, no answer to a Ping, the connection's end ──────────> Closed
//! ```

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    endpoint::EndpointId,
    mtp::{is_unextractable, outbox::Outbox, peer_text},
    record::{MAX_RECORD, Record, RecordError, RecordErrorKind},
};

/// Normal closure (RFC 6455 §7.4.1).
pub const NORMAL: u16 = 1000;

/// Going away (RFC 6455 §7.4.1).
pub const GOING_AWAY: u16 = 1001;

/// What came breaks the WebSocket protocol (RFC 6455 §7.4.1).
pub const PROTOCOL_ERROR: u16 = 1002;

/// What came cannot be taken: text, or no Record (R-WS.16).
pub const UNSUPPORTED: u16 = 1003;

/// The other side is not let in any more (RFC 6455 §7.4.1).
pub const POLICY: u16 = 1008;

/// What came is too large (RFC 6455 §7.4.1).
pub const TOO_LARGE: u16 = 1009;

/// A Close frame has at most 125 bytes, two of them the code (RFC 6455 §5.5).
const MAX_CLOSE_REASON: usize = 123;

/// Bounds of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How often a Ping is sent, `KeepAliveInterval` (R-WS.18); `None` for never.
    pub keep_alive: Option<Duration>,
    /// How long nothing at all may come after a Ping.
    pub pong_timeout: Duration,
    /// How long the other side may take to answer Close.
    pub close_timeout: Duration,
    /// The largest Record that is taken and sent, in bytes.
    pub max_record: usize,
    /// How many bytes may wait to be written before [`Session::send`] refuses.
    pub max_queued: usize,
}

impl Default for Config {
    /// Pings every 60 s, the default of TR-181.
    fn default() -> Self {
        Self {
            keep_alive: Some(Duration::from_secs(60)),
            pong_timeout: Duration::from_secs(20),
            close_timeout: Duration::from_secs(5),
            max_record: MAX_RECORD,
            max_queued: 2 * MAX_RECORD,
        }
    }
}

/// A message that came, its fragments put together (R-WS.14b).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound<'a> {
    /// A text message.
    Text,
    /// A binary message.
    Binary(&'a [u8]),
    /// A message that the library does not put together, because it is too large.
    TooLarge,
    /// A Ping; the library answers it (R-WS.17).
    Ping,
    /// A Pong, awaited or not.
    Pong,
    /// A Close frame and its code.
    Close(Option<u16>),
}

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// A binary message, in one frame (R-WS.14, R-WS.14a).
    Binary(Vec<u8>),
    /// A Ping without payload.
    Ping,
    /// A Close frame.
    Close {
        /// Its code.
        code: u16,
        /// Why, at most 123 bytes.
        reason: String,
    },
}

/// What a session tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A Record from the other Endpoint. Whether it is for us is not looked at here.
    Record(Record),
    /// A Record that could be extracted and is wrong; answered as R-MTP.5 says, if it has a code.
    Erroneous(RecordError),
    /// It is over: send what is left, then close the connection.
    Closed(CloseReason),
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// A text message came (R-WS.16): 1003.
    #[error("a text message, Records are binary")]
    Text,
    /// A message that is no Record came (R-WS.16): 1003.
    #[error("{0}")]
    Record(RecordError),
    /// A message that is too large came: 1009.
    #[error("a message of more than {0} bytes")]
    TooLarge(usize),
    /// Another session with the same Endpoint took its place (R-WS.4): 1000.
    #[error("another session with this Endpoint took its place")]
    Replaced,
    /// [`Session::close`] was called: 1000.
    #[error("closed here")]
    Local,
    /// This Endpoint shuts down: 1001.
    #[error("this Endpoint shuts down")]
    GoingAway,
    /// What came breaks the WebSocket protocol: 1002.
    #[error("{0}")]
    Protocol(String),
    /// The other side is not, or is no longer, who may be here (R-MTP.4): 1008.
    #[error("{0}")]
    Untrusted(String),
    /// The other side closed.
    #[error("closed by the other side with {0:?}")]
    Peer(Option<u16>),
    /// Nothing came after a Ping (R-WS.17).
    #[error("no answer to a Ping")]
    KeepAlive,
    /// The connection ended without Close.
    #[error("the connection ended")]
    Lost,
}

impl CloseReason {
    /// Whether the side that connected connects again (R-WS.19): always, unless it wanted the end or has another
    /// session.
    pub fn is_retried(&self) -> bool {
        !matches!(self, Self::Local | Self::GoingAway | Self::Replaced)
    }

    fn code(&self) -> u16 {
        match self {
            Self::Text | Self::Record(_) => UNSUPPORTED,
            Self::TooLarge(_) => TOO_LARGE,
            Self::GoingAway => GOING_AWAY,
            Self::Protocol(_) => PROTOCOL_ERROR,
            Self::Untrusted(_) => POLICY,
            _ => NORMAL,
        }
    }
}

/// Why a Record is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The session is closing or over.
    #[error("the session is not open")]
    NotOpen,
    /// Larger than is sent.
    #[error("a Record of {length} bytes, at most {max} are sent")]
    TooLarge {
        /// How large it is.
        length: usize,
        /// How large it may be.
        max: usize,
    },
    /// Too much waits to be written already; nothing is lost, try again when it has gone.
    #[error("too much waits to be written")]
    Full,
}

/// Counters since the session was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Records handed to the application.
    pub records_in: u64,
    /// Records queued for sending.
    pub records_out: u64,
    /// Records handed to the application as wrong.
    pub erroneous_records: u64,
    /// Records whose `from_id` is not the other Endpoint; dropped.
    pub forged_records: u64,
    /// Pings queued for sending.
    pub pings_out: u64,
    /// Records refused because too much waited to be written.
    pub refused_full: u64,
}

/// One session, from the moment the opening handshake is done.
#[derive(Debug)]
pub struct Session {
    config: Config,
    peer: Option<EndpointId>,
    state: State,
    outbox: Outbox<Transmit>,
    events: VecDeque<Event>,
    /// When the last Ping was sent, or the session began.
    pinged: Instant,
    /// Whether something must still come after the last Ping.
    awaited: bool,
    stats: Stats,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Open,
    Closing { until: Instant, reason: CloseReason },
    Closed,
}

impl Session {
    /// A session with `peer`, as the handshake and the certificate tell; when they tell nothing, the first Record's
    /// sender is the other Endpoint from then on.
    pub fn new(now: Instant, peer: Option<EndpointId>, config: Config) -> Self {
        Self {
            peer,
            state: State::Open,
            outbox: Outbox::new(config.max_queued),
            events: VecDeque::new(),
            pinged: now,
            awaited: false,
            stats: Stats::default(),
            config,
        }
    }

    /// The other Endpoint, if it is known.
    pub fn peer(&self) -> Option<&EndpointId> {
        self.peer.as_ref()
    }

    /// What happened so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// A message came.
    pub fn handle_input(&mut self, now: Instant, message: Inbound<'_>) {
        self.awaited = false;
        match (&self.state, message) {
            (State::Closed, _) => {}
            (State::Closing { reason, .. }, Inbound::Close(_)) => {
                let reason = reason.clone();
                self.finish(reason);
            }
            // What was on its way when we closed is not taken any more (RFC 6455 §5.5.1).
            (State::Closing { .. }, _) | (_, Inbound::Ping | Inbound::Pong) => {}
            (State::Open, Inbound::Text) => self.begin_close(now, CloseReason::Text),
            (State::Open, Inbound::TooLarge) => {
                let max = self.config.max_record;
                self.begin_close(now, CloseReason::TooLarge(max));
            }
            (State::Open, Inbound::Binary(bytes)) => self.record(now, bytes),
            (State::Open, Inbound::Close(code)) => {
                self.say_close(code.filter(|code| may_be_sent(*code)).unwrap_or(NORMAL), "");
                self.finish(CloseReason::Peer(code));
            }
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|due| due > now) {
            return;
        }
        match &self.state {
            State::Closing { reason, .. } => {
                let reason = reason.clone();
                self.finish(reason);
            }
            State::Open if self.awaited => self.finish(CloseReason::KeepAlive),
            State::Open => {
                self.pinged = now;
                self.awaited = true;
                self.stats.pings_out += 1;
                self.outbox.push(Transmit::Ping, 2);
            }
            State::Closed => {}
        }
    }

    /// The connection ended.
    pub fn handle_disconnect(&mut self) {
        let reason = match &self.state {
            State::Closing { reason, .. } => reason.clone(),
            _ => CloseReason::Lost,
        };
        self.finish(reason);
    }

    /// Sends a Record, encoded.
    ///
    /// # Errors
    /// [`SendError`]; nothing is sent then.
    pub fn send(&mut self, record: Vec<u8>) -> Result<(), SendError> {
        if self.state != State::Open {
            return Err(SendError::NotOpen);
        }
        let length = record.len();
        let max = self.config.max_record;
        if length > max {
            return Err(SendError::TooLarge { length, max });
        }
        if !self.outbox.has_room(length) {
            self.stats.refused_full += 1;
            return Err(SendError::Full);
        }
        self.outbox.push(Transmit::Binary(record), length);
        self.stats.records_out += 1;
        Ok(())
    }

    /// Sets how often a Ping is sent, from now on (R-WS.18).
    pub fn set_keep_alive(&mut self, keep_alive: Option<Duration>) {
        self.config.keep_alive = keep_alive;
    }

    /// Closes the session, because nobody needs it.
    pub fn close(&mut self, now: Instant) {
        self.begin_close(now, CloseReason::Local);
    }

    /// Closes the session, because another one stays (R-WS.4).
    pub fn replace(&mut self, now: Instant) {
        self.begin_close(now, CloseReason::Replaced);
    }

    /// Closes the session for this reason: [`CloseReason::GoingAway`], or what the WebSocket library or the verifier of
    /// certificates found wrong.
    pub fn fail(&mut self, now: Instant, reason: CloseReason) {
        self.begin_close(now, reason);
    }

    /// Whether Records can be sent.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.outbox.pop()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Session::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Closing { until, .. } => Some(until),
            State::Open if self.awaited => Some(self.pinged + self.config.pong_timeout),
            State::Open => {
                let every = self.config.keep_alive.filter(|every| !every.is_zero())?;
                Some(self.pinged + every)
            }
            State::Closed => None,
        }
    }

    fn record(&mut self, now: Instant, bytes: &[u8]) {
        let decoded = Record::decode_within(bytes, self.config.max_record);
        let from = match &decoded {
            Ok(record) => Some(&record.from_id),
            Err(error) => error.from_id(),
        };
        let is_forged = from
            .zip(self.peer.as_ref())
            .is_some_and(|(from, peer)| from != peer);
        match decoded {
            Err(error) if is_unextractable(&error) => {
                let reason = match error.kind {
                    RecordErrorKind::TooLarge { max, .. } => CloseReason::TooLarge(max),
                    _ => CloseReason::Record(error),
                };
                self.begin_close(now, reason);
            }
            _ if is_forged => self.stats.forged_records += 1,
            Ok(record) => {
                self.stats.records_in += 1;
                self.peer.get_or_insert_with(|| record.from_id.clone());
                self.events.push_back(Event::Record(record));
            }
            Err(error) => {
                self.stats.erroneous_records += 1;
                self.events.push_back(Event::Erroneous(error));
            }
        }
    }

    fn begin_close(&mut self, now: Instant, reason: CloseReason) {
        if self.state == State::Open {
            self.say_close(reason.code(), &reason.to_string());
            self.state = State::Closing {
                until: now + self.config.close_timeout,
                reason,
            };
        }
    }

    fn say_close(&mut self, code: u16, reason: &str) {
        let reason = peer_text(reason.as_bytes(), MAX_CLOSE_REASON);
        let length = reason.len();
        self.outbox.push(Transmit::Close { code, reason }, length);
    }

    fn finish(&mut self, reason: CloseReason) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.events.push_back(Event::Closed(reason));
        }
    }
}

/// Whether a code may stand in a Close frame (RFC 6455 §7.4).
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
