//! One connection to a broker, driven: bytes in and out, Records and events.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use homefleet_trust::{Basis, PeerIdentity};
use homefleet_usp::mtp::stomp::{self, CloseReason, Session};
use homefleet_usp::{EndpointId, Record};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep_until, timeout};

use super::stats::count;
use super::task::Task;
use super::{Sending, Subscription};
use crate::mtp::{Channel, ChannelId, Connect, Event, Origin, Route, SendError, proves};
use crate::tls::Distrust;

/// Bytes read at once; what they hold is handed on before more is read.
const READ: usize = 16 * 1024;
/// Bytes gathered for one write.
const WRITE: usize = 64 * 1024;
/// How long the last bytes of a connection may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a connection is over.
#[derive(Debug)]
pub(super) enum End {
    /// It was ours to end.
    Left,
    /// The session ended.
    Closed(CloseReason),
    /// The broker's certificate was refused.
    Untrusted(String),
    /// It could not be made, or broke.
    Failed(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left => f.write_str("disconnected here"),
            Self::Closed(reason) => reason.fmt(f),
            Self::Untrusted(reason) => reason.fmt(f),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

/// A connection that stands.
pub(super) struct Link<'a> {
    task: &'a mut Task,
    id: ChannelId,
    identity: Option<Arc<PeerIdentity>>,
    session: Session,
    counted: stomp::Stats,
    /// Whether it came up: the greeting is on its way, and Records may pass.
    up: bool,
    /// Whether it is being ended by us.
    leaving: bool,
    /// What is told when there is room.
    events: VecDeque<Event>,
    /// Records that wait for their receipts, or to be written.
    waiting: VecDeque<Waiting>,
    end: Option<End>,
}

impl<'a> Link<'a> {
    pub(super) fn new(task: &'a mut Task, identity: Option<Arc<PeerIdentity>>) -> Self {
        let shared = &task.shared.config;
        let mut config = stomp::Config::new(shared.endpoint_id.clone(), task.spec.login.clone());
        config.host.clone_from(&task.spec.virtual_host);
        config.heart_beat = task.spec.heart_beat;
        config.destination.clone_from(&task.spec.destination);
        config.senders.clone_from(&task.spec.senders);
        config.limits.body = shared.max_record;
        config.max_queued = shared.max_queued;
        Self {
            id: ChannelId::next(),
            identity,
            session: Session::new(Instant::now(), config),
            counted: stomp::Stats::default(),
            up: false,
            leaving: false,
            events: VecDeque::new(),
            waiting: VecDeque::new(),
            end: None,
            task,
        }
    }

    /// The channel if it came up, and what is still to be told of it.
    pub(super) fn into_rest(self) -> (Option<ChannelId>, VecDeque<Event>) {
        (self.up.then_some(self.id), self.events)
    }

    /// Drives it until its end.
    pub(super) async fn run(
        &mut self,
        stream: impl AsyncRead + AsyncWrite,
        distrusted: impl Future<Output = Distrust>,
    ) -> End {
        tokio::pin!(distrusted);
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut input = vec![0; READ];
        let mut output = Output::default();
        let room = self.task.shared.config.events.clone();
        while self.end.is_none() {
            self.hand_on(&room);
            output.fill(&mut self.session);
            let reading = self.events.is_empty();
            self.session.set_reading(Instant::now(), reading);
            let due = self.session.poll_timeout();
            tokio::select! {
                read = reader.read(&mut input), if reading => match read {
                    Ok(0) => self.session.handle_disconnect(),
                    Ok(length) => {
                        let bytes = input.get(..length).unwrap_or_default();
                        self.session.handle_input(Instant::now(), bytes);
                    }
                    Err(error) => self.broke(&error),
                },
                written = output.write(&mut writer), if output.is_waiting() => match written {
                    Ok(()) => self.written(output.written),
                    Err(error) => self.broke(&error),
                },
                room = room.reserve(), if !reading => match room {
                    Ok(room) => {
                        if let Some(event) = self.events.pop_front() {
                            room.send(event);
                        }
                    }
                    // Nobody hears it: it is as if it had been told.
                    Err(_) => self.events.clear(),
                },
                Some(sending) = self.task.sends.recv() => self.send(sending),
                changed = self.task.wanted.changed(), if !self.leaving => self.reconfigure(changed.is_err()),
                // Not one more byte to or from a broker that is not trusted any more.
                reason = &mut distrusted => return self.abandon(End::Untrusted(reason.to_string())),
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                    self.session.handle_timeout(Instant::now());
                }
            }
            self.drain();
        }
        output.fill(&mut self.session);
        let rest = async {
            while output.is_waiting() {
                output.write(&mut writer).await?;
                output.fill(&mut self.session);
            }
            writer.shutdown().await
        };
        // What the other side does not take any more is no concern of ours.
        let _closed = timeout(CLOSE_TIMEOUT, rest).await;
        let end = self.end.take().unwrap_or(End::Left);
        self.abandon(end)
    }

    /// What was not acknowledged is lost.
    fn abandon(&mut self, end: End) -> End {
        for waiting in self.waiting.drain(..) {
            // Who asked may have gone.
            let _asked = waiting.done.send(Err(SendError::Lost));
        }
        end
    }

    /// Tells what there is room for.
    fn hand_on(&mut self, room: &mpsc::Sender<Event>) {
        while !self.events.is_empty()
            && let Ok(room) = room.try_reserve()
        {
            if let Some(event) = self.events.pop_front() {
                room.send(event);
            }
        }
        if !self.events.is_empty() {
            count(&self.task.shared.counters.held_back);
        }
    }

    /// What the session has to say.
    fn drain(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                stomp::Event::Connected { .. } => {}
                stomp::Event::Subscribed { destination } => self.subscribed(destination),
                stomp::Event::Acknowledged(number) => self.acknowledged(number),
                stomp::Event::Record { record, reply_to } => self.record(record, reply_to),
                stomp::Event::Erroneous { error, reply_to } => {
                    if self.is_believed(None) {
                        count(&self.task.shared.counters.erroneous);
                        let origin = self.origin(reply_to);
                        self.events.push_back(Event::Erroneous { error, origin });
                    }
                }
                stomp::Event::Closed(CloseReason::Local) => self.end = Some(End::Left),
                // What broke is known better.
                stomp::Event::Closed(CloseReason::Lost) if self.end.is_some() => {}
                stomp::Event::Closed(reason) => self.end = Some(End::Closed(reason)),
            }
        }
        let stats = self.session.stats();
        self.task.shared.counters.add(&self.counted, &stats);
        self.counted = stats;
    }

    /// The subscription stands: the Connect Records go first (R-MTP.6), with the destination that is new.
    fn subscribed(&mut self, destination: String) {
        let channel = Channel {
            id: self.id,
            connection: Some(self.task.name.clone()),
            endpoint_id: None,
            identity: self.identity.clone(),
            connect: Connect::Stomp {
                destination: destination.clone(),
            },
        };
        for greeting in self.task.shared.config.greeter.greet(&channel) {
            let Route::Stomp {
                connection,
                destination,
            } = &greeting.route
            else {
                continue;
            };
            if *connection != self.task.name {
                continue;
            }
            let sent = self.session.send(
                Instant::now(),
                destination,
                &greeting.endpoint_id,
                greeting.record,
            );
            count(match &sent {
                Ok(_) => &self.task.shared.counters.records_out,
                Err(_) => &self.task.shared.counters.records_failed,
            });
            if let Err(error) = sent {
                tracing::warn!(connection = self.task.name, %error, "a Connect Record was not sent");
            }
        }
        self.task.retry.succeeded();
        if !self.up {
            self.up = true;
            count(&self.task.shared.counters.up);
            count(&self.task.shared.counters.connected);
            tracing::info!(connection = self.task.name, "STOMP connection up");
        }
        self.task.show_up(Subscription {
            destination,
            from_server: self.session.is_destination_from_server(),
        });
        self.events.push_back(Event::Up(channel));
    }

    fn record(&mut self, record: Record, reply_to: Option<String>) {
        if !self.is_believed(Some(record.from_id())) {
            return;
        }
        count(&self.task.shared.counters.records_in);
        let origin = self.origin(reply_to);
        self.events.push_back(Event::Record {
            record: Box::new(record),
            origin,
        });
    }

    /// Whether the broker vouches for who sent something, if that could be read (R-SEC.26). What it does not vouch for is
    /// counted.
    fn is_believed(&self, from_id: Option<&EndpointId>) -> bool {
        let identity = self.identity.as_deref();
        let vouched = match from_id {
            Some(from_id) => proves(identity, from_id),
            None => identity.is_none_or(|identity| identity.basis == Basis::TrustedBroker),
        };
        let believed = vouched || self.task.shared.config.allow_untrusted_broker;
        if !believed {
            count(&self.task.shared.counters.untrusted_broker);
        }
        believed
    }

    fn origin(&self, reply_to: Option<String>) -> Origin {
        Origin {
            channel: Some(self.id),
            identity: self.identity.clone(),
            reply_to: reply_to.map(|destination| Route::Stomp {
                connection: self.task.name.clone(),
                destination,
            }),
        }
    }

    fn send(&mut self, sending: Sending) {
        let Sending {
            destination,
            endpoint_id,
            record,
            done,
        } = sending;
        let sent = if self.up {
            self.session
                .send(Instant::now(), &destination, &endpoint_id, record)
        } else {
            Err(stomp::SendError::NotConnected)
        };
        let refused = match sent {
            Ok(number) => {
                self.waiting.push_back(Waiting {
                    number,
                    receipt: self.session.acknowledges(),
                    done,
                });
                return;
            }
            Err(stomp::SendError::NotConnected) => SendError::NotConnected,
            Err(stomp::SendError::NoDestination) => SendError::Unresolvable,
            Err(stomp::SendError::TooLarge { .. }) => SendError::TooLarge,
            Err(stomp::SendError::Full) => SendError::Busy,
        };
        // Who asked may have gone.
        let _asked = done.send(Err(refused));
    }

    /// The broker has a Record.
    fn acknowledged(&mut self, number: u64) {
        let at = |waiting: &Waiting| waiting.receipt && waiting.number == number;
        if let Some(waiting) = self
            .waiting
            .iter()
            .position(at)
            .and_then(|at| self.waiting.remove(at))
        {
            // Who asked may have gone.
            let _asked = waiting.done.send(Ok(()));
        }
    }

    /// The writes up to this number have left. That is all that is known with a broker that sends no receipts.
    fn written(&mut self, number: u64) {
        while let Some(waiting) = self
            .waiting
            .pop_front_if(|waiting| !waiting.receipt && waiting.number <= number)
        {
            // Who asked may have gone.
            let _asked = waiting.done.send(Ok(()));
        }
    }

    /// Something else may be wanted now.
    fn reconfigure(&mut self, abandoned: bool) {
        if abandoned || self.task.is_other_wanted() {
            self.leaving = true;
            self.session.disconnect(Instant::now());
            return;
        }
        let spec = self.task.wanted.borrow_and_update().spec.clone();
        self.session
            .set_destination(Instant::now(), spec.destination.clone());
        self.task.retry.set_policy(spec.retry);
        self.task.spec = spec;
    }

    fn broke(&mut self, error: &io::Error) {
        self.end = Some(End::Failed(format!("the connection broke: {error}")));
        self.session.handle_disconnect();
    }
}

/// A Record that was given to the session.
struct Waiting {
    number: u64,
    /// Whether a receipt was asked for.
    receipt: bool,
    done: oneshot::Sender<Result<(), SendError>>,
}

/// What is being written.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    at: usize,
    /// The number of the last write that `bytes` holds, and of the last that has left.
    taken: u64,
    written: u64,
}

impl Output {
    /// Takes what the session has, when nothing is left of what was taken before.
    fn fill(&mut self, session: &mut Session) {
        if self.is_waiting() {
            return;
        }
        self.bytes.clear();
        self.bytes.shrink_to(WRITE);
        self.at = 0;
        while self.bytes.len() < WRITE
            && let Some(write) = session.poll_transmit()
        {
            self.bytes.extend(write);
            self.taken += 1;
        }
    }

    fn is_waiting(&self) -> bool {
        self.written < self.taken
    }

    /// Goes one step on. Nothing is lost when it is dropped before it is done.
    async fn write(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        match self.bytes.get(self.at..).filter(|rest| !rest.is_empty()) {
            Some(rest) => {
                let length = writer.write(rest).await?;
                if length == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                self.at += length;
            }
            None => {
                writer.flush().await?;
                self.written = self.taken;
            }
        }
        Ok(())
    }
}
