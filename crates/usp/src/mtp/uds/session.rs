//! The session of either side (R-UDS.16 to R-UDS.25).
//!
//! ```text
//! client                                       server
//! connected: Handshake ──────────────────────> accepted: waits
//! waits 30 s         <────────────────────── Handshake, open
//! open               <────── Records ──────>
//!       anything wrong: Error, then closed; an Error received: closed
//! ```

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    endpoint::{EndpointId, EndpointIdError},
    mtp::{is_unextractable, outbox::Outbox, peer_text},
    record::{MAX_RECORD, Record, RecordError},
};

use super::frame::{self, Decoder, Frame, FrameError, Tlv};

/// How much of an Error's text is kept.
const MAX_ERROR_TEXT: usize = 256;

/// Bounds of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a handshake may take. A client waits so long for the server's (30 s, R-UDS.18); a server so
    /// long for the client's, a bound of ours.
    pub handshake_timeout: Duration,
    /// The largest Record that is taken, in bytes.
    pub max_record: usize,
    /// The largest frame that is taken, in bytes after its header; room for TLVs that are ignored.
    pub max_frame: usize,
    /// How many bytes may wait to be written before [`Session::send`] refuses.
    pub max_queued: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(30),
            max_record: MAX_RECORD,
            max_frame: MAX_RECORD + 1024,
            max_queued: 2 * MAX_RECORD,
        }
    }
}

/// What a session tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The handshake is done: Records may go both ways. An Agent sends its Connect Record first (R-MTP.6).
    Open {
        /// The other Endpoint.
        peer: EndpointId,
    },
    /// A Record from the other Endpoint. Whether it is for us is not looked at here.
    Record(Record),
    /// A Record that could be extracted and is wrong; answered as R-MTP.5 says, if it has a code.
    Erroneous(RecordError),
    /// It is over: write what is left, then close. A client then connects again (R-UDS.5).
    Closed(CloseReason),
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// No handshake in time (R-UDS.18).
    #[error("the other side sent no handshake in time")]
    HandshakeTimeout,
    /// The handshake names no Endpoint (R-UDS.21).
    #[error("the handshake's Endpoint ID: {0}")]
    HandshakeEndpoint(EndpointIdError),
    /// The handshake names more than one Endpoint (R-UDS.21).
    #[error("a handshake with more than one Endpoint ID")]
    HandshakeTwice,
    /// The handshake names this Endpoint itself (R-UDS.21).
    #[error("the handshake has this Endpoint's own Endpoint ID")]
    HandshakeSelf,
    /// A frame that cannot be parsed (R-UDS.24).
    #[error("{0}")]
    Frame(FrameError),
    /// A Record that cannot be extracted (R-UDS.23).
    #[error("{0}")]
    Record(RecordError),
    /// The other side sent an Error (R-UDS.25): what it says, at most 256 bytes of it.
    #[error("the other side says: {0}")]
    Peer(String),
    /// [`Session::refuse`] was called: why.
    #[error("refused here: {0}")]
    Refused(String),
    /// [`Session::close`] was called.
    #[error("closed here")]
    Local,
    /// The connection ended.
    #[error("the connection ended")]
    Lost,
}

/// Why a Record is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The handshake is not done, or the session is over.
    #[error("the session is not open")]
    NotOpen,
    /// Larger than the other side may take.
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
    /// Frames received that could be parsed.
    pub frames_in: u64,
    /// Records handed to the application.
    pub records_in: u64,
    /// Records queued for sending.
    pub records_out: u64,
    /// Records handed to the application as wrong.
    pub erroneous_records: u64,
    /// Records whose `from_id` is not the Endpoint of the handshake; dropped.
    pub forged_records: u64,
    /// Frames with a Record before the handshake was done; ignored (R-UDS.20).
    pub early_records: u64,
    /// Frames with a handshake after it was done; ignored (R-UDS.19).
    pub late_handshakes: u64,
    /// TLVs of an unknown type; ignored (R-UDS.15).
    pub unknown_tlvs: u64,
    /// Records refused because too much waited to be written.
    pub refused_full: u64,
}

/// One connection, from the moment it stands.
#[derive(Debug)]
pub struct Session {
    own: EndpointId,
    config: Config,
    is_client: bool,
    state: State,
    decoder: Decoder,
    outbox: Outbox<Vec<u8>>,
    events: VecDeque<Event>,
    stats: Stats,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Handshake { until: Instant },
    Open { peer: EndpointId },
    Closed,
}

impl Session {
    /// The side that connected: sends its handshake at once (R-UDS.16).
    pub fn client(now: Instant, own: EndpointId, config: Config) -> Self {
        let mut session = Self::new(now, own, config, true);
        session.send_handshake();
        session
    }

    /// The side that accepted: waits for the client's handshake, then sends its own (R-UDS.17).
    pub fn server(now: Instant, own: EndpointId, config: Config) -> Self {
        Self::new(now, own, config, false)
    }

    fn new(now: Instant, own: EndpointId, config: Config, is_client: bool) -> Self {
        Self {
            own,
            is_client,
            state: State::Handshake {
                until: now + config.handshake_timeout,
            },
            decoder: Decoder::new(config.max_frame),
            outbox: Outbox::new(config.max_queued),
            events: VecDeque::new(),
            stats: Stats::default(),
            config,
        }
    }

    /// The other Endpoint, once the handshake is done.
    pub fn peer(&self) -> Option<&EndpointId> {
        match &self.state {
            State::Open { peer } => Some(peer),
            _ => None,
        }
    }

    /// What happened so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Bytes came.
    pub fn handle_input(&mut self, bytes: &[u8]) {
        self.decoder.push(bytes);
        while self.state != State::Closed {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => self.frame(frame),
                Ok(None) => break,
                Err(error) => self.fail(CloseReason::Frame(error)),
            }
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|until| until <= now) {
            // R-UDS.21 and R-UDS.18: the side whose handshake fails says why.
            self.fail(CloseReason::HandshakeTimeout);
        }
    }

    /// The connection ended.
    pub fn handle_disconnect(&mut self) {
        self.close_with(CloseReason::Lost);
    }

    /// Sends a Record (R-UDS.14, R-UDS.22).
    ///
    /// # Errors
    /// [`SendError`]; nothing is sent then.
    pub fn send(&mut self, record: &Record) -> Result<(), SendError> {
        self.send_encoded(record.encode())
    }

    /// The same for a Record that is encoded already.
    ///
    /// # Errors
    /// [`SendError`]; nothing is sent then.
    pub fn send_encoded(&mut self, bytes: Vec<u8>) -> Result<(), SendError> {
        if self.peer().is_none() {
            return Err(SendError::NotOpen);
        }
        if bytes.len() > self.config.max_record {
            return Err(SendError::TooLarge {
                length: bytes.len(),
                max: self.config.max_record,
            });
        }
        if !self.outbox.has_room(bytes.len()) {
            self.stats.refused_full += 1;
            return Err(SendError::Full);
        }
        self.transmit(&Frame::one(frame::RECORD, bytes));
        self.stats.records_out += 1;
        Ok(())
    }

    /// Ends the session.
    pub fn close(&mut self) {
        self.close_with(CloseReason::Local);
    }

    /// Ends the session with an Error that says why (R-UDS.13): for reasons that only who drives it knows.
    pub fn refuse(&mut self, why: &str) {
        if self.state != State::Closed {
            self.fail(CloseReason::Refused(why.to_owned()));
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
        match self.state {
            State::Handshake { until } => Some(until),
            _ => None,
        }
    }

    fn frame(&mut self, frame: Frame) {
        self.stats.frames_in += 1;
        let has = |kind| frame.tlvs.iter().any(|tlv| tlv.kind == kind);
        if let Some(error) = frame.tlvs.iter().find(|tlv| tlv.kind == frame::ERROR) {
            return self.close_with(CloseReason::Peer(peer_text(&error.value, MAX_ERROR_TEXT)));
        }
        let known = |tlv: &&Tlv| matches!(tlv.kind, frame::HANDSHAKE | frame::RECORD);
        let known = frame.tlvs.iter().filter(known).count();
        self.stats.unknown_tlvs += (frame.tlvs.len() - known) as u64;
        match &self.state {
            State::Handshake { .. } if has(frame::RECORD) => self.stats.early_records += 1,
            State::Handshake { .. } if has(frame::HANDSHAKE) => self.handshake(&frame),
            State::Open { .. } if has(frame::HANDSHAKE) => self.stats.late_handshakes += 1,
            State::Open { peer } => {
                let peer = peer.clone();
                for tlv in frame.tlvs {
                    if tlv.kind == frame::RECORD && self.state != State::Closed {
                        self.record(&peer, &tlv.value);
                    }
                }
            }
            _ => {}
        }
    }

    fn handshake(&mut self, frame: &Frame) {
        let mut names = frame.tlvs.iter().filter(|tlv| tlv.kind == frame::HANDSHAKE);
        let first = names.next().map(|tlv| tlv.value.as_slice());
        if names.next().is_some() {
            return self.fail(CloseReason::HandshakeTwice);
        }
        let peer = first
            .and_then(|name| std::str::from_utf8(name).ok())
            .ok_or(EndpointIdError::Form)
            .and_then(str::parse::<EndpointId>);
        match peer {
            Err(error) => self.fail(CloseReason::HandshakeEndpoint(error)),
            Ok(peer) if peer == self.own => self.fail(CloseReason::HandshakeSelf),
            Ok(peer) => {
                if !self.is_client {
                    self.send_handshake();
                }
                self.state = State::Open { peer: peer.clone() };
                self.events.push_back(Event::Open { peer });
            }
        }
    }

    fn record(&mut self, peer: &EndpointId, bytes: &[u8]) {
        let event = match Record::decode_within(bytes, self.config.max_record) {
            Ok(record) if record.from_id != *peer => {
                self.stats.forged_records += 1;
                return;
            }
            Ok(record) => {
                self.stats.records_in += 1;
                Event::Record(record)
            }
            Err(error) if is_unextractable(&error) => {
                return self.fail(CloseReason::Record(error));
            }
            Err(error) if error.from_id().is_some_and(|from| from != peer) => {
                self.stats.forged_records += 1;
                return;
            }
            Err(error) => {
                self.stats.erroneous_records += 1;
                Event::Erroneous(error)
            }
        };
        self.events.push_back(event);
    }

    fn send_handshake(&mut self) {
        let frame = Frame::one(frame::HANDSHAKE, self.own.as_str());
        self.transmit(&frame);
    }

    fn transmit(&mut self, frame: &Frame) {
        let bytes = frame.encode();
        let length = bytes.len();
        self.outbox.push(bytes, length);
    }

    /// Tells the other side what is wrong, then ends (R-UDS.21, R-UDS.23, R-UDS.24).
    fn fail(&mut self, reason: CloseReason) {
        let text = peer_text(reason.to_string().as_bytes(), MAX_ERROR_TEXT);
        self.transmit(&Frame::one(frame::ERROR, text));
        self.close_with(reason);
    }

    fn close_with(&mut self, reason: CloseReason) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.events.push_back(Event::Closed(reason));
        }
    }
}
