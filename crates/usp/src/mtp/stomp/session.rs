//! A client's session with its broker (R-STOMP.2 to R-STOMP.30).
//!
//! ```text
//! Connecting ── CONNECTED ──> Connected ── disconnect() ──> Disconnecting ── RECEIPT ──> Closed
//!  STOMP sent                  SUBSCRIBE sent                DISCONNECT sent
//!        any: ERROR, something that is no STOMP, a missed heart-beat, the connection's end ──> Closed
//! ```

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use crate::{
    endpoint::EndpointId,
    mtp::{outbox::Outbox, peer_text},
    record::{MAX_RECORD, Record, RecordError},
};

use super::{
    CONTENT_TYPE, Senders,
    decoder::{DecodeError, Decoder, Limits},
    frame::{Command, Frame},
};

/// How much of the broker's own words is kept.
const MAX_TEXT: usize = 256;

/// The receipt that is asked for with DISCONNECT.
const DISCONNECT_RECEIPT: &str = "disconnect";

/// What the receipt of a Record begins with, before its number.
const RECORD_RECEIPT: &str = "record-";

/// What a session is told, and its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This Endpoint (R-STOMP.4).
    pub endpoint_id: EndpointId,
    /// The virtual host, `VirtualHost`; no header when there is none (R-STOMP.5). STOMP 1.2 wants the header
    /// always, but a broker with virtual hosts takes its default one only when the header is not there.
    pub host: Option<String>,
    /// How the broker knows who connects (R-STOMP.3).
    pub login: Login,
    /// Heart-beats; `None` when `EnableHeartbeats` is false (R-STOMP.8, R-STOMP.9).
    pub heart_beat: Option<HeartBeat>,
    /// The configured destination of this Endpoint, used when the broker tells none (R-STOMP.15).
    pub destination: Option<String>,
    /// Where each Endpoint sends what is for us, when that is not the destination that we subscribe to. It is what we name
    /// as `reply-to-dest` then, and what a Record has come over, or it is dropped.
    pub senders: Option<Senders>,
    /// How long the broker may take until CONNECTED.
    pub connect_timeout: Duration,
    /// How long a subscription waits for its receipt before it is taken as made: some brokers send none.
    pub subscribe_timeout: Duration,
    /// How long the broker may take to acknowledge DISCONNECT.
    pub disconnect_timeout: Duration,
    /// Bounds of a frame; the body's is that of a Record.
    pub limits: Limits,
    /// How many bytes may wait to be written before [`Session::send`] refuses.
    pub max_queued: usize,
    /// How many Records may wait for their receipts before [`Session::send`] refuses.
    pub max_unacknowledged: usize,
}

impl Config {
    /// An Endpoint that logs in so; no virtual host, no heart-beats, no destination.
    pub fn new(endpoint_id: EndpointId, login: Login) -> Self {
        Self {
            endpoint_id,
            host: None,
            login,
            heart_beat: None,
            destination: None,
            senders: None,
            connect_timeout: Duration::from_secs(30),
            subscribe_timeout: Duration::from_secs(5),
            disconnect_timeout: Duration::from_secs(5),
            limits: Limits {
                headers: 64,
                line: 8 * 1024,
                body: MAX_RECORD,
            },
            max_queued: 2 * MAX_RECORD,
            max_unacknowledged: 1024,
        }
    }
}

/// How the broker knows who connects (R-STOMP.3).
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// By the certificate of the TLS connection.
    Certificate,
    /// By name and password, both always sent.
    Password {
        /// `Username`
        login: String,
        /// `Password`
        passcode: String,
    },
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Certificate => f.write_str("Certificate"),
            // The password goes into no log.
            Self::Password { login, .. } => write!(f, "Password({login:?})"),
        }
    }
}

/// What heart-beats we offer (R-STOMP.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartBeat {
    /// `OutgoingHeartbeat`: how often we can send something, in milliseconds; 0 for not.
    pub outgoing: u32,
    /// `IncomingHeartbeat`: how often we want to hear something, in milliseconds; 0 for not.
    pub incoming: u32,
}

/// What a session tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The broker took us, and the subscription is on its way: Records may be sent.
    Connected {
        /// Where we are reached.
        destination: String,
        /// Whether the broker told it (`subscribe-dest`, R-STOMP.6).
        from_server: bool,
    },
    /// The subscription stands: the broker acknowledged it, or sent something for it, or had time to refuse it. An
    /// Agent sends its Connect Record with this destination (R-MTP.6). The time to reset the retry count: a broker that
    /// refuses the subscription ends the session before this.
    Subscribed {
        /// Where we are reached.
        destination: String,
    },
    /// The broker acknowledged the Record that [`Session::send`] gave this number (R-STOMP.30).
    Acknowledged(u64),
    /// A Record came.
    Record {
        /// The Record. Who sent it and whether it is for us is not looked at here.
        record: Record,
        /// Where its response goes (R-STOMP.23).
        reply_to: Option<String>,
    },
    /// What came is no Record, or a wrong one: dropped, and answered as R-MTP.5 says if it has a code and a way back.
    Erroneous {
        /// What is wrong.
        error: RecordError,
        /// Where an answer goes.
        reply_to: Option<String>,
    },
    /// It is over: write what is left, then close.
    Closed(CloseReason),
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// No CONNECTED in time.
    #[error("the broker did not answer in time")]
    ConnectTimeout,
    /// The broker sent ERROR (R-STOMP.25): its message and body, at most 256 bytes of each.
    #[error("the broker says: {message} {detail}")]
    Server {
        /// The `message` header.
        message: String,
        /// The body.
        detail: String,
    },
    /// The broker tells no destination, and none is configured (R-STOMP.16).
    #[error("neither the broker nor the configuration tells a destination")]
    NoDestination,
    /// What the broker sends is no STOMP 1.2.
    #[error("{0}")]
    Decode(DecodeError),
    /// What the broker sends is not in its place.
    #[error("{0}")]
    Violation(Violation),
    /// Nothing came for two intervals (R-STOMP.11).
    #[error("no heart-beat from the broker")]
    HeartBeatMissed,
    /// [`Session::disconnect`] was called and is done.
    #[error("disconnected here")]
    Local,
    /// The connection ended.
    #[error("the connection ended")]
    Lost,
}

impl CloseReason {
    /// Whether the Endpoint enters the connection retry state (R-STOMP.7, R-STOMP.16, R-STOMP.25): always,
    /// unless it wanted to disconnect.
    pub fn is_retried(&self) -> bool {
        *self != Self::Local
    }
}

/// A frame that is STOMP, but not one that the broker may send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// CONNECTED with another version than 1.2, or without.
    #[error("the broker chose version {0:?}, only 1.2 was offered")]
    Version(String),
    /// CONNECTED with a `heart-beat` that is not two numbers.
    #[error("heart-beat {0:?} is not two numbers of milliseconds")]
    HeartBeat(String),
    /// A frame that does not come in this state, or never from a broker.
    #[error("an unexpected {0} frame")]
    Unexpected(Command),
}

/// Why a Record is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The broker has not taken us yet, or the session is over.
    #[error("the session is not connected")]
    NotConnected,
    /// There is no destination to send to.
    #[error("an empty destination")]
    NoDestination,
    /// Larger than is sent.
    #[error("a Record of {length} bytes, at most {max} are sent")]
    TooLarge {
        /// How large it is.
        length: usize,
        /// How large it may be.
        max: usize,
    },
    /// Too much waits to be written or acknowledged already; nothing is lost, try again when it has gone.
    #[error("too much waits to be written or acknowledged")]
    Full,
}

/// Counters since the session was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Frames received.
    pub frames_in: u64,
    /// Records handed to the application.
    pub records_in: u64,
    /// Records queued for sending.
    pub records_out: u64,
    /// MESSAGE frames handed to the application as wrong.
    pub erroneous_records: u64,
    /// MESSAGE frames of another content type; dropped.
    pub other_content: u64,
    /// MESSAGE frames with a Record whose `from_id` does not send over the destination that they came over; dropped.
    pub forged: u64,
    /// Heart-beats queued for sending.
    pub heart_beats_out: u64,
    /// RECEIPT frames received (R-STOMP.30).
    pub receipts: u64,
    /// Records refused because too much waited to be written or acknowledged.
    pub refused_full: u64,
}

/// One connection to a broker, from the moment it stands.
#[derive(Debug)]
pub struct Session {
    config: Config,
    state: State,
    /// The destination that we are subscribed to.
    subscribed: String,
    from_server: bool,
    /// The number of the subscription; a new one for each destination.
    subscription: u64,
    /// By when the subscription is taken as made; `None` once it is.
    subscribing_until: Option<Instant>,
    /// Whether the broker sends receipts: it sent one for a subscription.
    acknowledges: bool,
    /// Records whose receipts have not come.
    unacknowledged: BTreeSet<u64>,
    decoder: Decoder,
    outbox: Outbox<Vec<u8>>,
    /// How many writes have been queued so far: the number of the latest.
    queued: u64,
    /// Whether the application reads what comes; while not, silence is its own fault.
    reading: bool,
    events: VecDeque<Event>,
    /// How often something is sent, and by when something must have come; `None` for no limit.
    send_every: Option<Duration>,
    hear_within: Option<Duration>,
    last_sent: Instant,
    last_heard: Instant,
    stats: Stats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting { until: Instant },
    Connected,
    Disconnecting { until: Instant },
    Closed,
}

impl Session {
    /// Begins on a new connection: sends the STOMP frame at once (R-STOMP.2).
    pub fn new(now: Instant, config: Config) -> Self {
        let mut session = Self {
            state: State::Connecting {
                until: now + config.connect_timeout,
            },
            subscribed: String::new(),
            from_server: false,
            subscription: 0,
            subscribing_until: None,
            acknowledges: false,
            unacknowledged: BTreeSet::new(),
            queued: 0,
            reading: true,
            decoder: Decoder::new(config.limits.clone()),
            outbox: Outbox::new(config.max_queued),
            events: VecDeque::new(),
            send_every: None,
            hear_within: None,
            last_sent: now,
            last_heard: now,
            stats: Stats::default(),
            config,
        };
        session.connect(now);
        session
    }

    /// Where we are reached; empty until the broker took us. What a DNS-SD record's `path` tells (R-STOMP.31).
    pub fn destination(&self) -> &str {
        &self.subscribed
    }

    /// Whether the broker told where we are reached (`subscribe-dest`, R-STOMP.6).
    pub fn is_destination_from_server(&self) -> bool {
        self.from_server
    }

    /// Whether the broker sends receipts. Each Record that is sent from then on is followed by an
    /// [`Event::Acknowledged`]; before, nothing more is known of it than that it was written.
    pub fn acknowledges(&self) -> bool {
        self.acknowledges
    }

    /// Whether the application reads what comes. While it does not, because it has no room, silence is not the broker's
    /// and no heart-beat is missed.
    pub fn set_reading(&mut self, now: Instant, reading: bool) {
        if reading && !self.reading {
            self.last_heard = now;
        }
        self.reading = reading;
    }

    /// What happened so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Bytes came. Any of them count as a heart-beat (STOMP 1.2 "Heart-beating").
    pub fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.last_heard = now;
        }
        self.decoder.push(bytes);
        while self.state != State::Closed {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => self.frame(now, frame),
                Ok(None) => break,
                Err(error) => self.close(CloseReason::Decode(error)),
            }
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Connecting { until } if until <= now => self.close(CloseReason::ConnectTimeout),
            State::Disconnecting { until } if until <= now => self.close(CloseReason::Local),
            State::Connected | State::Disconnecting { .. } => {
                if self.subscribing_until.is_some_and(|until| until <= now) {
                    self.subscription_stands();
                }
                if self.hear_by().is_some_and(|due| due <= now) {
                    self.close(CloseReason::HeartBeatMissed);
                } else if self.send_by().is_some_and(|due| due <= now) {
                    self.beat(now);
                }
            }
            _ => {}
        }
    }

    /// The connection ended.
    pub fn handle_disconnect(&mut self) {
        let wanted = matches!(self.state, State::Disconnecting { .. });
        self.close(if wanted {
            CloseReason::Local
        } else {
            CloseReason::Lost
        });
    }

    /// Sends an encoded Record to an Endpoint's destination: a Controller's or Agent's configured one, or the `reply_to` of what is
    /// answered (R-STOMP.18 to R-STOMP.22). Its number is that of the write among all that
    /// [`poll_transmit`](Self::poll_transmit) gives, from 1.
    ///
    /// # Errors
    /// [`SendError`]; nothing is sent then.
    pub fn send(
        &mut self,
        now: Instant,
        destination: &str,
        to: &EndpointId,
        body: Vec<u8>,
    ) -> Result<u64, SendError> {
        if self.state != State::Connected {
            return Err(SendError::NotConnected);
        }
        if destination.is_empty() {
            return Err(SendError::NoDestination);
        }
        let max = self.config.limits.body;
        if body.len() > max {
            return Err(SendError::TooLarge {
                length: body.len(),
                max,
            });
        }
        if !self.outbox.has_room(body.len())
            || self.unacknowledged.len() >= self.config.max_unacknowledged
        {
            self.stats.refused_full += 1;
            return Err(SendError::Full);
        }
        let number = self.queued + 1;
        let mut frame = Frame::new(Command::Send)
            .with("destination", destination)
            .with("content-type", CONTENT_TYPE)
            .with("reply-to-dest", self.reply_to(to));
        if self.acknowledges {
            frame = frame.with("receipt", format!("{RECORD_RECEIPT}{number}"));
            self.unacknowledged.insert(number);
        }
        self.transmit(now, frame.with_body(body).encode());
        self.stats.records_out += 1;
        Ok(number)
    }

    /// The configured destination changed. Unless the broker told one, the subscription moves to it
    /// (R-STOMP.29); without any, the session ends (R-STOMP.16).
    pub fn set_destination(&mut self, now: Instant, destination: Option<String>) {
        self.config.destination = destination.filter(|destination| !destination.is_empty());
        if self.state != State::Connected
            || self.from_server
            || self.config.destination.as_ref() == Some(&self.subscribed)
        {
            return;
        }
        let frame = Frame::new(Command::Unsubscribe).with("id", self.subscription.to_string());
        self.transmit(now, frame.encode());
        match self.config.destination.clone() {
            Some(destination) => self.subscribe(now, destination),
            None => self.end_without_destination(now),
        }
    }

    /// Ends the session in order: DISCONNECT, and its receipt (R-STOMP.28).
    pub fn disconnect(&mut self, now: Instant) {
        match self.state {
            State::Connecting { .. } => self.close(CloseReason::Local),
            State::Connected => {
                self.say_disconnect(now);
                self.subscribing_until = None;
                self.state = State::Disconnecting {
                    until: now + self.config.disconnect_timeout,
                };
            }
            State::Disconnecting { .. } | State::Closed => {}
        }
    }

    /// The next bytes to write.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.outbox.pop()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Session::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let state = match self.state {
            State::Connecting { until } => return Some(until),
            State::Closed => return None,
            State::Disconnecting { until } => Some(until),
            State::Connected => None,
        };
        [
            state,
            self.subscribing_until,
            self.send_by(),
            self.hear_by(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn connect(&mut self, now: Instant) {
        let mut frame = Frame::new(Command::Stomp).with("accept-version", "1.2");
        if let Some(host) = self.config.host.as_ref().filter(|host| !host.is_empty()) {
            frame = frame.with("host", host.clone());
        }
        if let Login::Password { login, passcode } = &self.config.login {
            frame = frame
                .with("login", login.clone())
                .with("passcode", passcode.clone());
        }
        if let Some(beat) = self.config.heart_beat {
            frame = frame.with("heart-beat", format!("{},{}", beat.outgoing, beat.incoming));
        }
        frame = frame.with("endpoint-id", self.config.endpoint_id.as_str());
        self.transmit(now, frame.encode());
    }

    fn frame(&mut self, now: Instant, frame: Frame) {
        self.stats.frames_in += 1;
        match (self.state, frame.command) {
            (_, Command::Error) => self.close(CloseReason::Server {
                message: peer_text(
                    frame.header("message").unwrap_or_default().as_bytes(),
                    MAX_TEXT,
                ),
                detail: peer_text(&frame.body, MAX_TEXT),
            }),
            (State::Connecting { .. }, Command::Connected) => self.connected(now, &frame),
            (State::Connected | State::Disconnecting { .. }, Command::Message) => {
                self.subscription_stands_by(&frame);
                self.message(&frame);
            }
            (State::Connected | State::Disconnecting { .. }, Command::Receipt) => {
                self.receipt(frame.header("receipt-id").unwrap_or_default());
            }
            (_, command) => self.violated(Violation::Unexpected(command)),
        }
    }

    fn connected(&mut self, now: Instant, frame: &Frame) {
        let version = frame.header("version").unwrap_or_default();
        if version != "1.2" {
            let version = peer_text(version.as_bytes(), MAX_TEXT);
            return self.violated(Violation::Version(version));
        }
        let theirs = frame.header("heart-beat").unwrap_or("0,0");
        let Some((they_send, they_want)) = parse_heart_beat(theirs) else {
            let theirs = peer_text(theirs.as_bytes(), MAX_TEXT);
            return self.violated(Violation::HeartBeat(theirs));
        };
        if let Some(ours) = self.config.heart_beat {
            self.send_every = interval(ours.outgoing, they_want).map(|most| most - most / 8);
            // Twice the interval: the network is slow at times (STOMP 1.2 "Heart-beating").
            self.hear_within = interval(ours.incoming, they_send).map(|most| most * 2);
        }
        self.state = State::Connected;
        let told = frame
            .header("subscribe-dest")
            .filter(|destination| !destination.is_empty());
        self.from_server = told.is_some();
        let destination = told
            .map(str::to_owned)
            .or_else(|| self.config.destination.clone())
            .filter(|destination| !destination.is_empty());
        match destination {
            Some(destination) => self.subscribe(now, destination),
            None => self.end_without_destination(now),
        }
    }

    fn subscribe(&mut self, now: Instant, destination: String) {
        self.subscription += 1;
        let id = self.subscription.to_string();
        let frame = Frame::new(Command::Subscribe)
            .with("id", id.clone())
            .with("destination", destination.clone())
            .with("ack", "auto")
            .with("receipt", id);
        self.transmit(now, frame.encode());
        self.subscribed.clone_from(&destination);
        self.subscribing_until = Some(now + self.config.subscribe_timeout);
        self.events.push_back(Event::Connected {
            destination,
            from_server: self.from_server,
        });
    }

    fn message(&mut self, frame: &Frame) {
        // Parameters of the type do not matter; a frame without type is not one of ours (R-STOMP.20).
        let content = frame.header("content-type").unwrap_or_default();
        let content = content.split(';').next().unwrap_or_default().trim();
        if !content.eq_ignore_ascii_case(CONTENT_TYPE) {
            self.stats.other_content += 1;
            return;
        }
        let reply_to = frame
            .header("reply-to-dest")
            .filter(|destination| !destination.is_empty())
            .map(str::to_owned);
        let max = self.config.limits.body;
        let decoded = match frame.dropped_body {
            0 => Record::decode_within(&frame.body, max),
            length => Err(RecordError::too_large(length, max)),
        };
        let from_id = match &decoded {
            Ok(record) => Some(record.from_id()),
            Err(error) => error.from_id(),
        };
        if !self.is_sender(from_id, frame.header("destination").unwrap_or_default()) {
            self.stats.forged += 1;
            return;
        }
        let event = match decoded {
            Ok(record) => {
                self.stats.records_in += 1;
                Event::Record { record, reply_to }
            }
            Err(error) => {
                self.stats.erroneous_records += 1;
                Event::Erroneous { error, reply_to }
            }
        };
        self.events.push_back(event);
    }

    /// Whether what came over this destination may be of this Endpoint.
    fn is_sender(&self, from_id: Option<&EndpointId>, destination: &str) -> bool {
        match (&self.config.senders, from_id) {
            (Some(senders), Some(from_id)) => senders.destination(from_id) == destination,
            // Nobody is named: there is nobody to be answered either.
            (Some(_), None) | (None, _) => true,
        }
    }

    /// Where this Endpoint sends its response.
    fn reply_to(&self, to: &EndpointId) -> String {
        match &self.config.senders {
            Some(senders) => senders.destination(to),
            None => self.subscribed.clone(),
        }
    }

    fn receipt(&mut self, id: &str) {
        self.stats.receipts += 1;
        match self.state {
            State::Disconnecting { .. } if id == DISCONNECT_RECEIPT => {
                self.close(CloseReason::Local);
            }
            State::Connected if id == self.subscription.to_string() => {
                self.acknowledges = true;
                self.subscription_stands();
            }
            _ => {
                let number = id.strip_prefix(RECORD_RECEIPT);
                if let Some(number) = number.and_then(|number| number.parse().ok())
                    && self.unacknowledged.remove(&number)
                {
                    self.events.push_back(Event::Acknowledged(number));
                }
            }
        }
    }

    /// A message for the subscription shows that it stands.
    fn subscription_stands_by(&mut self, message: &Frame) {
        if message.header("subscription") == Some(self.subscription.to_string().as_str()) {
            self.subscription_stands();
        }
    }

    fn subscription_stands(&mut self) {
        if self.subscribing_until.take().is_some() {
            self.events.push_back(Event::Subscribed {
                destination: self.subscribed.clone(),
            });
        }
    }

    fn say_disconnect(&mut self, now: Instant) {
        let frame = Frame::new(Command::Disconnect).with("receipt", DISCONNECT_RECEIPT);
        self.transmit(now, frame.encode());
    }

    fn end_without_destination(&mut self, now: Instant) {
        self.say_disconnect(now);
        self.close(CloseReason::NoDestination);
    }

    fn violated(&mut self, violation: Violation) {
        self.close(CloseReason::Violation(violation));
    }

    fn close(&mut self, reason: CloseReason) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.events.push_back(Event::Closed(reason));
        }
    }

    fn transmit(&mut self, now: Instant, bytes: Vec<u8>) {
        self.last_sent = now;
        self.queued += 1;
        let length = bytes.len();
        self.outbox.push(bytes, length);
    }

    /// What still waits to be written does as well as a heart-beat, so that none pile up on a connection that
    /// stands still.
    fn beat(&mut self, now: Instant) {
        self.last_sent = now;
        if self.outbox.is_empty() {
            self.stats.heart_beats_out += 1;
            self.transmit(now, b"\n".to_vec());
        }
    }

    fn send_by(&self) -> Option<Instant> {
        self.send_every.map(|every| self.last_sent + every)
    }

    fn hear_by(&self) -> Option<Instant> {
        self.hear_within
            .filter(|_| self.reading)
            .map(|within| self.last_heard + within)
    }
}

/// `sx,sy` in milliseconds.
fn parse_heart_beat(text: &str) -> Option<(u32, u32)> {
    let (sends, wants) = text.split_once(',')?;
    Some((sends.trim().parse().ok()?, wants.trim().parse().ok()?))
}

/// How often one side beats: the larger of what it offers and what the other side wants, unless one says 0.
fn interval(one: u32, other: u32) -> Option<Duration> {
    (one != 0 && other != 0).then(|| Duration::from_millis(one.max(other).into()))
}
