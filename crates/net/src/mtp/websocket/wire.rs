//! A session's connection: what it says is written, several messages at once, and what comes is read.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures_util::{Sink as _, Stream as _};
use homefleet_usp::mtp::websocket::{self as binding, Opener, Session, Transmit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Bytes, Error as WsError, Message};

use crate::mtp::SendError;
use crate::tls::Stream;

use super::peers::{Command, Inbox, Line, Parcel};
use super::stats::{Counters, add};

/// Messages are handed to the connection until they have so many bytes, then they are written.
const BATCH: usize = 64 * 1024;
/// What a peer that was told of the end may still send: it is thrown away, so that the end reaches it.
const LINGER: usize = 64 * 1024 * 1024;

/// What the connection did.
pub(super) enum Step {
    /// It was told something, or cannot write on for now: what is due, and when, has changed.
    Changed,
    /// A message came.
    Read(Message),
    /// It is broken, or what comes over it is.
    Failed(WsError),
    /// It has ended.
    Ended,
}

/// Who waits for a Record to be written, and what it counts; `None` for one that nobody waits for.
type Awaited = Option<(oneshot::Sender<Result<(), SendError>>, usize)>;

/// A session and its connection.
pub(super) struct Wire {
    stream: WebSocketStream<Stream>,
    pub(super) session: Session,
    line: Arc<Line>,
    inbox: Inbox,
    /// For each Record that waits in the session.
    waiting: VecDeque<Awaited>,
    /// For each Record that the stream has taken and not written yet.
    in_flight: Vec<Awaited>,
    /// Since when the stream has something that is not written yet.
    unwritten: Option<Instant>,
    is_blocked: bool,
}

impl Wire {
    pub(super) fn new(
        stream: WebSocketStream<Stream>,
        session: Session,
        line: Arc<Line>,
        inbox: Inbox,
    ) -> Self {
        Self {
            stream,
            session,
            line,
            inbox,
            waiting: VecDeque::new(),
            in_flight: Vec::new(),
            unwritten: None,
            is_blocked: false,
        }
    }

    /// Sends a Record that nobody waits for.
    pub(super) fn send(&mut self, record: Vec<u8>) -> Result<(), binding::SendError> {
        self.session.send(record)?;
        self.waiting.push_back(None);
        Ok(())
    }

    /// Since when the peer has not read what waits for it.
    pub(super) fn unwritten(&self) -> Option<Instant> {
        self.unwritten
    }

    /// Takes commands, writes what there is to write, and reads a message.
    pub(super) fn poll_step(
        &mut self,
        may_read: bool,
        counters: &Counters,
        cx: &mut Context<'_>,
    ) -> Poll<Step> {
        let mut is_changed = false;
        while let Poll::Ready(Some(command)) = self.inbox.poll_recv(cx) {
            is_changed |= self.obey(command);
        }
        let written = self.poll_write(counters, cx);
        if let Poll::Ready(Err(error)) = written {
            return Poll::Ready(Step::Failed(error));
        }
        let was_blocked = std::mem::replace(&mut self.is_blocked, written.is_pending());
        if is_changed || was_blocked != self.is_blocked {
            return Poll::Ready(Step::Changed);
        }
        if !may_read {
            return Poll::Pending;
        }
        Poll::Ready(match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
            Some(Ok(message)) => Step::Read(message),
            Some(Err(error)) => Step::Failed(error),
            None => Step::Ended,
        })
    }

    /// Does what it is told; whether anything but the queue has changed.
    fn obey(&mut self, command: Command) -> bool {
        match command {
            Command::Send(Parcel { record, cost, done }) => {
                match self.session.send(record) {
                    Ok(()) => self.waiting.push_back(Some((done, cost))),
                    Err(error) => self.tell(Some((done, cost)), Err(error.into())),
                }
                return false;
            }
            Command::KeepAlive(interval) => self.session.set_keep_alive(interval),
            Command::Close(reason) => self.session.fail(Instant::now(), reason),
        }
        true
    }

    /// Writes what the session wants to say.
    pub(super) fn poll_write(
        &mut self,
        counters: &Counters,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), WsError>> {
        loop {
            let mut batch = 0;
            while batch < BATCH {
                ready!(Pin::new(&mut self.stream).poll_ready(cx))?;
                let Some(transmit) = self.session.poll_transmit() else {
                    break;
                };
                self.unwritten.get_or_insert_with(Instant::now);
                batch += match &transmit {
                    Transmit::Binary(record) => record.len().max(1),
                    _ => 1,
                };
                if let Transmit::Binary(_) = transmit {
                    self.in_flight.push(self.waiting.pop_front().flatten());
                }
                match Pin::new(&mut self.stream).start_send(message(transmit)) {
                    // The library answers a Close by itself.
                    Ok(()) | Err(WsError::Protocol(ProtocolError::SendAfterClosing)) => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            if self.unwritten.is_none() {
                return Poll::Ready(Ok(()));
            }
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unwritten = None;
            add(&counters.records_out, self.in_flight.len() as u64);
            for awaited in std::mem::take(&mut self.in_flight) {
                self.tell(awaited, Ok(()));
            }
        }
    }

    fn tell(&self, awaited: Awaited, outcome: Result<(), SendError>) {
        if let Some((done, cost)) = awaited {
            self.line.gone(cost);
            let _nobody_waits = done.send(outcome);
        }
    }

    /// Takes no command any more, and tells those who wait.
    pub(super) fn abandon(&mut self) {
        self.inbox.close();
        while let Ok(command) = self.inbox.try_recv() {
            if let Command::Send(Parcel { cost, done, .. }) = command {
                self.tell(Some((done, cost)), Err(SendError::NotConnected));
            }
        }
        for awaited in std::mem::take(&mut self.waiting) {
            self.tell(awaited, Err(SendError::NotConnected));
        }
        for awaited in std::mem::take(&mut self.in_flight) {
            self.tell(awaited, Err(SendError::Lost));
        }
    }

    /// Ends the connection so that what was said last arrives: to close with something unread would take it away. The server
    /// ends first (RFC 6455 §7.1.1).
    pub(super) async fn linger(&mut self, opener: Opener) {
        let stream = self.stream.get_mut();
        if opener == Opener::Peer {
            // The other side may have ended before.
            let _ended = stream.shutdown().await;
        }
        let mut waste = vec![0; 4096];
        let mut read = 0;
        while let Ok(more @ 1..) = stream.read(&mut waste).await {
            read += more;
            if read > LINGER {
                break;
            }
        }
        let _ended = stream.shutdown().await;
    }
}

fn message(transmit: Transmit) -> Message {
    match transmit {
        Transmit::Binary(record) => Message::Binary(record.into()),
        Transmit::Ping => Message::Ping(Bytes::new()),
        Transmit::Close { code, reason } => Message::Close(Some(CloseFrame {
            code: code.into(),
            reason: reason.into(),
        })),
    }
}

impl From<binding::SendError> for SendError {
    fn from(error: binding::SendError) -> Self {
        match error {
            binding::SendError::NotOpen => Self::NotConnected,
            binding::SendError::TooLarge { .. } => Self::TooLarge,
            binding::SendError::Full => Self::Busy,
        }
    }
}
